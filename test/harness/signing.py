"""Download links made anew from the published rule (docs: HKDF-SHA256, then HMAC-SHA256), not with our own code."""

import hashlib
import hmac
from urllib.parse import quote, unquote, urlsplit, parse_qs


def link_key(secret):
    extracted = hmac.new(b"\0" * 32, secret.encode(), hashlib.sha256).digest()
    return hmac.new(extracted, b"rowferry/files/v1\x01", hashlib.sha256).digest()


def signature(secret, key, expires, name):
    text = (f"rowferry-files-v1\nGET\n{len(key.encode())}:{key}\n{expires}\n"
            f"{len(name.encode())}:{name}\n")
    return hmac.new(link_key(secret), text.encode(), hashlib.sha256).hexdigest()


def link(base, secret, key, expires, name):
    return (f"{base}/files/{quote(key, safe='/~')}?expires={expires}&name={quote(name, safe='~')}"
            f"&signature={signature(secret, key, expires, name)}")


def parts(url):
    """key, expires, name, signature of a link."""
    split = urlsplit(url)
    query = parse_qs(split.query, strict_parsing=True)
    return (unquote(split.path.removeprefix("/files/")), int(query["expires"][0]), query["name"][0],
            query["signature"][0])
