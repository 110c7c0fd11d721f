"""S3's words for the HTTP proxy: what its requests are called, and the moods that S3 servers have."""

import email.utils
import re
import time
from dataclasses import replace
from datetime import datetime, timezone
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from http_proxy import ANSWER, REQUEST, Answer, HttpProxy, Mood

# Method, what stands in the query, of an object or of a bucket: the first line that fits.
OPERATIONS = (
    ("POST", "uploads", True, "CreateMultipartUpload"),
    ("PUT", "partNumber", True, "UploadPart"),
    ("POST", "uploadId", True, "CompleteMultipartUpload"),
    ("DELETE", "uploadId", True, "AbortMultipartUpload"),
    ("GET", "uploadId", True, "ListParts"),
    ("PUT", "", True, "PutObject"),
    ("HEAD", "", True, "HeadObject"),
    ("GET", "", True, "GetObject"),
    ("DELETE", "", True, "DeleteObject"),
    ("GET", "uploads", False, "ListMultipartUploads"),
    ("GET", "list-type", False, "ListObjectsV2"),
    ("GET", "location", False, "GetBucketLocation"),
    ("GET", "", False, "ListObjects"),
    ("POST", "delete", False, "DeleteObjects"),
    ("HEAD", "", False, "HeadBucket"),
)


def operation(request):
    """What S3 calls this request, in the path style."""
    is_object = "/" in request.path.strip("/")
    return next((name for method, query, of_object, name in OPERATIONS if method == request.method
                 and (not query or query in request.query) and of_object == is_object), request.method)


def proxy(server_url, *rules, **more):
    """Before the S3 server at this URL."""
    split = urlsplit(server_url)
    return HttpProxy(split.hostname, split.port, rules, name=operation, **more)


def access_key(request):
    """Whose signature it has, in the header."""
    found = re.search(r"Credential=([^/]+)/", request.header("authorization"))
    return found.group(1) if found else ""


def signed_at(request):
    """Unix seconds that its signature names; None: none in the header."""
    date = request.header("x-amz-date")
    return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp() if date else None


def http_date(seconds_off=0):
    return email.utils.formatdate(time.time() + seconds_off, usegmt=True)


# --- answers that are no server's ---

def document(code, message="Said by a test", **more):
    """The <Error> of this code; further elements by name."""
    members = {"Code": code, "Message": message, **more, "RequestId": "TESTREQUEST0001"}
    return ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>"
            + "".join(f"<{name}>{escape(value)}</{name}>" for name, value in members.items()) + "</Error>").encode()


def says(status, code, message="Said by a test", headers=(), early="", name="", **more):
    """This error, and the server is not asked. Every answer of S3 has a date, and most of them ids."""
    headers = {"Date": http_date(), "x-amz-request-id": "TESTREQUEST0001", "x-amz-id-2": "TESTHOST01",
               "Content-Type": "application/xml", **dict(headers)}
    return Mood(name or code, early=early,
                answer=Answer(status, document(code, message, **more), tuple(headers.items()), "Error"))


def slow_down(retry_after=None, status=503):
    return says(status, "SlowDown", "Please reduce your request rate.",
                headers={} if retry_after is None else {"Retry-After": str(retry_after)})


def internal_error():
    return says(500, "InternalError", "We encountered an internal error. Please try again.")


def html(status):
    """Of a proxy in between that knows no XML."""
    return Mood(f"html {status}", answer=Answer(status, b"<html><body><h1>Bad Gateway</h1></body></html>",
                                                (("Content-Type", "text/html"),), "Bad Gateway"))


def another_region(region, with_header=True):
    """What a server of that region says to a signature for another."""
    return says(400, "AuthorizationHeaderMalformed", f"The authorization header is malformed; expecting '{region}'",
                headers={"x-amz-bucket-region": region} if with_header else {}, Region=region)


def moved(status, location, region):
    """301 PermanentRedirect or 307 TemporaryRedirect."""
    code = {301: "PermanentRedirect", 307: "TemporaryRedirect"}[status]
    return says(status, code, "Use another endpoint", headers={"Location": location, "x-amz-bucket-region": region},
                Endpoint=urlsplit(location).netloc)


def expired_token():
    return says(400, "ExpiredToken", "The provided token has expired.")


def skewed(seconds_off=0, with_server_time=False):
    """The clock of the server differs so much from ours."""
    more = {"ServerTime": datetime.fromtimestamp(time.time() + seconds_off, timezone.utc)
            .strftime("%Y-%m-%dT%H:%M:%SZ")} if with_server_time else {}
    return says(403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too "
                "large.", headers={"Date": http_date(seconds_off)}, **more)


def error_in_200(code="InternalError"):
    """Of Complete: white space so that nobody gives up, then an error. The server is not asked."""
    return Mood(f"200 {code}", answer=Answer(200, b" \r\n\n   " + document(code),
                                             (("Date", http_date()), ("Content-Type", "application/xml")), "OK"))


# --- what the server says, changed ---

def error_in_200_after_all(code="InternalError"):
    """The same, and yet the server has done it."""
    return Mood(f"200 {code}, done", body=lambda _: b"  \n" + document(code))


def white_space(seconds=0):
    """Before the document, and a pause in it."""
    return Mood("white space", body=lambda body: b" \n\t" * 1000 + body, stall=seconds, at=0.5)


def _with_header(answer, name, value):
    """`value`: None removes it; a function makes it from what was there."""
    headers = tuple((key, value(old) if callable(value) else value) if key == name else (key, old)
                    for key, old in answer.headers)
    return replace(answer, headers=tuple(pair for pair in headers if pair[1] is not None))


def etag(value):
    return Mood(f"etag {value}", head=lambda answer: _with_header(answer, "etag", value))


def date_off(seconds):
    return Mood("date off", head=lambda answer: _with_header(answer, "date", http_date(seconds)))


def truncated():
    """Half a document, in a whole answer."""
    return Mood("truncated", body=lambda body: body[:len(body) // 2])


def goes_on_for_ever():
    """A list whose next page is always the same one."""
    return Mood("goes on for ever", answer=Answer(
        200, b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated>"
             b"<NextContinuationToken>again</NextContinuationToken></ListBucketResult>", (("Date", http_date()),), "OK"))


def part_is_still_there():
    """What ListParts may say behind an abort, if the part was on its way."""
    return Mood("still there", answer=Answer(200, b"<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1"
                                             b"</PartNumber><ETag>&quot;x&quot;</ETag><Size>5</Size></Part>"
                                             b"</ListPartsResult>", (("Date", http_date()),), "OK"))


def done_and_lost(how="reset"):
    """The server has done it; nobody is told."""
    return Mood("lost answer", end=how, of=ANSWER, at=0)


def cut(how, of, at):
    return Mood(f"{how} of {of}", end=how, of=of, at=at)


def stalled(seconds, of=REQUEST, at=0.5):
    return Mood("stall", stall=seconds, of=of, at=at)


def slow(rate, of=REQUEST):
    return Mood("slow", rate=rate, of=of)


def corrupted(of=REQUEST, at=0.5):
    return Mood("corrupt", corrupt=at, of=of)
