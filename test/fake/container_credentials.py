"""The endpoint that gives a container its credentials (as those of ECS and EKS do), on loopback.

What it gives comes from `session`: a function that makes keys as STS tells them (AccessKeyId, SecretAccessKey,
SessionToken, Expiration). All that it gave is kept in `given`, the newest last. `status` other than 200 is said instead.
"""

import json
import secrets
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/v1/credentials"


@dataclass(frozen=True)
class Given:
    access_key: str
    secret_key: str
    token: str
    ends: float  # Unix seconds
    at: float  # when it was given, as time.time() tells

    def named(self):
        """As Server.client of the S3 harness takes them."""
        return {"access_key": self.access_key, "secret_key": self.secret_key, "token": self.token}


class ContainerCredentials:
    """To be closed; also a context manager. Listens on a free port of 127.0.0.1."""

    def __init__(self, session):
        self.session, self.status = session, 200
        self.token = secrets.token_urlsafe(24)  # who does not show it gets nothing
        self.given, self.refused = [], 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self):
                status, body = owner.answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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

    def answer(self, path, authorization):
        """Status and body of one question."""
        status = 404 if path != PATH else 401 if authorization != self.token else self.status
        if status != 200:
            self.refused += 1
            return status, json.dumps({"code": "Refused", "message": "as a test wants it"}).encode()
        keys = self.session()
        self.given.append(Given(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"],
                                keys["Expiration"].timestamp(), time.time()))
        return 200, json.dumps({
            "AccessKeyId": keys["AccessKeyId"], "SecretAccessKey": keys["SecretAccessKey"], "Token": keys["SessionToken"],
            "Expiration": keys["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()

    def environment(self):
        """Variables of those who are to ask it."""
        host, port = self._server.server_address[:2]
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{host}:{port}{PATH}",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token}

    def of(self, access_key):
        """The session of these keys; None if it gave no such."""
        return next((one for one in list(self.given) if one.access_key == access_key), None)

    def secrets(self):
        """What no log may hold."""
        return [self.token, *(secret for one in list(self.given) for secret in (one.secret_key, one.token))]
