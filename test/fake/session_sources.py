"""Those that hand out sessions, on loopback: a container's endpoint (as of ECS and EKS), an instance's metadata service
(IMDSv2), and an STS that takes web identity tokens.

What they give comes from `session`: a function that makes keys as STS tells them (AccessKeyId, SecretAccessKey,
SessionToken, Expiration). All that they gave is kept in `given`, all that they were asked in `asked`.
"""

import json
import secrets
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

CONTAINER_PATH = "/v1/credentials"
ROLE = "instance-role"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict  # by lower-case name
    body: str


class Source:
    """To be closed; also a context manager. Listens on a free port of 127.0.0.1."""

    def __init__(self, session):
        self.session, self.given, self.asked = session, [], []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                owner.asked.append(asked)
                status, said = owner.answer(asked)
                self.send_response(status)
                self.send_header("Content-Length", str(len(said.encode())))
                self.end_headers()
                self.wfile.write(said.encode())

            do_GET = do_PUT = do_POST = answer

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self):
        return "http://{}:{}".format(*self._server.server_address[:2])

    def answer(self, asked):
        """Status and text of one question."""
        raise NotImplementedError

    def give(self):
        keys = self.session()
        self.given.append(keys)
        return {**keys, "Expiration": keys["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")}

    def of(self, access_key):
        """The session of these keys; None if it gave no such."""
        return next((keys for keys in list(self.given) if keys["AccessKeyId"] == access_key), None)

    def environment(self):
        """Variables of those who are to ask it."""
        raise NotImplementedError

    def secrets(self):
        """What no log may hold."""
        return [secret for keys in self.given for secret in (keys["SecretAccessKey"], keys["SessionToken"])]


class ContainerCredentials(Source):
    """`status` other than 200 is said instead of keys."""

    def __init__(self, session):
        self.status, self.token = 200, secrets.token_urlsafe(24)
        super().__init__(session)

    def answer(self, asked):
        is_right = (asked.method, asked.path) == ("GET", CONTAINER_PATH)
        status = 404 if not is_right else 401 if asked.headers.get("authorization") != self.token else self.status
        if status != 200:
            return status, json.dumps({"code": "Refused", "message": "as a test wants it"})
        keys = self.give()
        return 200, json.dumps({"AccessKeyId": keys["AccessKeyId"], "SecretAccessKey": keys["SecretAccessKey"],
                                "Token": keys["SessionToken"], "Expiration": keys["Expiration"]})

    def environment(self):
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.url + CONTAINER_PATH,
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token}

    def secrets(self):
        return [self.token, *super().secrets()]


class InstanceMetadata(Source):
    def __init__(self, session):
        super().__init__(session)
        self.token = secrets.token_urlsafe(24)

    def answer(self, asked):
        if (asked.method, asked.path) == ("PUT", "/latest/api/token"):
            has_ttl = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdigit()
            return (200, self.token) if has_ttl else (400, "")
        if asked.headers.get("x-aws-ec2-metadata-token") != self.token:
            return 401, ""
        if asked.path == ROLES_PATH:
            return 200, ROLE
        if asked.path != ROLES_PATH + ROLE:
            return 404, ""
        keys = self.give()
        return 200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": keys["AccessKeyId"],
                                "SecretAccessKey": keys["SecretAccessKey"], "Token": keys["SessionToken"],
                                "Expiration": keys["Expiration"]})

    def environment(self):
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url}

    def secrets(self):
        return [self.token, *super().secrets()]


class WebIdentity(Source):
    """Takes the tokens that stand in `tokens`, for `role`."""

    def __init__(self, session, file, role="arn:aws:iam::123456789012:role/exporter"):
        super().__init__(session)
        self.role, self.file, self.tokens = role, file, []
        self.renew()

    def renew(self):
        """Another token stands in the file from now on, and only that is taken."""
        self.tokens.append(".".join(secrets.token_urlsafe(24) for _ in range(3)))
        self.file.write_text(self.tokens[-1] + "\n", encoding="ascii")

    def answer(self, asked):
        form = {name: values[0] for name, values in parse_qs(asked.body, strict_parsing=True).items()}
        wanted = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": self.role}
        if asked.method != "POST" or asked.path != "/" or any(form.get(name) != value for name, value in wanted.items()):
            return 400, self._error("ValidationError", "what is this")
        if form.get("WebIdentityToken") != self.tokens[-1]:
            # A careless one: it says what it was sent.
            return 400, self._error("InvalidIdentityToken", f"bad token {form.get('WebIdentityToken')}")
        members = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in self.give().items())
        return 200, ("<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
                     f"<AssumeRoleWithWebIdentityResult><Credentials>{members}</Credentials>"
                     "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>")

    @staticmethod
    def _error(code, message):
        return (f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
                "<RequestId>r</RequestId></ErrorResponse>")

    def environment(self):
        return {"AWS_ENDPOINT_URL_STS": self.url, "AWS_WEB_IDENTITY_TOKEN_FILE": str(self.file), "AWS_ROLE_ARN": self.role}

    def secrets(self):
        return [*self.tokens, *super().secrets()]
