"""Certificates of one's own for servers on loopback."""

import subprocess


def self_signed(folder, names=("IP:127.0.0.1", "DNS:localhost", "DNS:*.localhost")):
    """(certificate, key, authority): PEM files in `folder`, valid for a day. It is its own authority."""
    certificate, key = folder / "server.crt", folder / "server.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1",
                    "-subj", "/CN=rowferry test", "-addext", "subjectAltName=" + ",".join(names), "-keyout", key,
                    "-out", certificate], check=True, capture_output=True, timeout=30)
    return certificate, key, certificate
