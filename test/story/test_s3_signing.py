"""Our signatures of S3 requests and links are those of botocore, an independent implementation, for keys, queries and
headers that nobody would think of. ROWFERRY_SIGNATURES says how many are compared."""

import hashlib
import json
import os
import random
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

COUNT = int(os.environ.get("ROWFERRY_SIGNATURES", "4000"))
ROOT = Path(__file__).resolve().parents[2]

PLAIN = "abcXYZ019-._~"
SIGNS = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}"
OTHERS = "\t\n\r\x01\x7f\x80\xa0éß\u0301Ω中\u200b\u202e\ufeff😀"
HEADERS = ["Content-Type", "content-md5", "If-None-Match", "range", "x-amz-meta-a", "x-amz-meta-a-b", "X-Amz-Meta-A_B",
           "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-tagging",
           "x-amz-checksum-crc64nvme", "x-amz-acl"]
QUERIES = ["uploads", "uploadId", "uploadid", "partNumber", "prefix", "list-type", "max-keys", "continuation-token", "a",
           "a-b", "a.b", "A", "a!", "a{", "é", "delete", "encoding-type"]
OVERRIDES = ["response-content-disposition", "response-content-type", "response-cache-control", "versionId"]
PLACES = [("http://localhost:9000", "bucket", "us-east-1", "http://localhost:9000/bucket"),
          ("http://127.0.0.1:80", "bucket", "us-east-1", "http://127.0.0.1/bucket"),
          ("https://[::1]:9443/store/", "a.b", "eu-west-1", "https://[::1]:9443/store/a.b"),
          ("https://S3.Example.com:443", "Old_bucket", "RegionOne", "https://s3.example.com/Old_bucket"),
          ("", "exports", "eu-central-1", "https://exports.s3.eu-central-1.amazonaws.com"),
          ("", "with.dot", "cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn/with.dot")]


def text(rng, longest, characters=PLAIN * 3 + SIGNS + OTHERS):
    return "".join(rng.choice(characters) for _ in range(rng.randint(0, longest)))


def key(rng):
    """Any text; sometimes with segments that a careless signer would tidy up."""
    pieces = [text(rng, 12), "a//b", "a/../b", "./a", "%2F", "%41", "a+b c"]
    return "/".join(rng.choice(pieces) for _ in range(rng.randint(1, 4))) or "k"


def header_value(rng):
    """Not empty: transports leave out such a header."""
    return "v" + text(rng, 30, PLAIN * 2 + SIGNS + " \t  \t ")


def make_case(rng):
    endpoint, bucket, region, base = rng.choice(PLACES)
    is_link = rng.random() < 0.3
    names = rng.sample(OVERRIDES if is_link else QUERIES, rng.randint(0, 4))
    query = [[name, text(rng, 20)] for name in names]
    if query and not is_link and rng.random() < 0.2:
        query.append([query[0][0], text(rng, 20)])
    body = rng.randbytes(rng.randint(0, 40))
    is_signed = rng.random() < 0.8
    return {"endpoint": endpoint, "bucket": bucket, "region": region, "key": key(rng), "query": query, "base": base,
            "headers": [] if is_link else [[name, header_value(rng)]
                                           for name in rng.sample(HEADERS, rng.randint(0, 6))],
            "method": "GET" if is_link else rng.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]),
            "body": body, "is_signed": is_signed,
            "payload": hashlib.sha256(body).hexdigest() if is_signed else "UNSIGNED-PAYLOAD",
            "access_key": rng.choice(["AKIDEXAMPLE", "test:tester"]),
            "secret_key": rng.choice(["wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "s"]),
            "token": rng.choice(["", "FwoGZXIvYXdzEJr//////////wEaDEx+/mple=="]),
            "now_wall_s": rng.choice([1738367998, 1738368000, 951827696, 4102444799]) + rng.randint(0, 3),
            "expires_s": rng.choice([1, 86400, 604800]) if is_link else 0}


def botocore_signs(case, monkeypatch):
    at = datetime.fromtimestamp(case["now_wall_s"], timezone.utc)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)
    credentials = Credentials(case["access_key"], case["secret_key"], case["token"] or None)
    config = Config(s3={"payload_signing_enabled": case["is_signed"]})
    request = AWSRequest(method=case["method"], url=case["base"] + "/" + quote(case["key"], safe="/~"),
                         headers=dict(case["headers"]), data=case["body"] if not case["expires_s"] else b"",
                         params=dict(case["query"]) if case["expires_s"] else [tuple(pair) for pair in case["query"]])
    request.context["client_config"] = config
    if case["expires_s"]:
        S3SigV4QueryAuth(credentials, "s3", case["region"], expires=case["expires_s"]).add_auth(request)
        return request.url
    S3SigV4Auth(credentials, "s3", case["region"]).add_auth(request)
    return {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}


@pytest.fixture(scope="module")
def signer():
    """The program that signs by our code."""
    target = "build/release/test/harness/sign_requests"
    subprocess.run(["make", "--no-print-directory", "BUILD=release", target], cwd=ROOT, check=True, timeout=300,
                   stdout=subprocess.DEVNULL)
    return ROOT / target


def comparable(signed):
    """Of a link the order of its query is free; of headers the case of the names."""
    if isinstance(signed, dict):
        return {name.lower(): value for name, value in signed.items()}
    path, query = signed.split("?")
    return path, sorted(query.split("&"))


@pytest.mark.timeout(600)
def test_signatures_are_those_of_botocore(signer, monkeypatch):
    seed = random.randrange(2 ** 32)
    rng = random.Random(seed)
    cases = [make_case(rng) for _ in range(COUNT)]
    lines = "".join(json.dumps({name: value for name, value in case.items() if name != "body"}) + "\n" for case in cases)
    done = subprocess.run([signer], input=lines, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == COUNT
    for case, answer in zip(cases, answers):
        assert comparable(answer) == comparable(botocore_signs(case, monkeypatch)), (seed, case)
    assert {bool(case["expires_s"]) for case in cases} == {True, False}
