"""The worker: celery -A worker worker. Rows into a temporary file, the file into the bucket, in one of two modes.

EXPORT_MODE=cursor: a cursor on the server, 2,000 rows at a time, csv.writer: what such a service is usually like.
EXPORT_MODE=copy: COPY by the server, straight into the file: the quickest that Python can do. Lines end in LF then.
"""

import csv
import os
import tempfile
from datetime import datetime, timedelta, timezone

import boto3
import psycopg2
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from common import TASK, app

ROWS = 2000  # of a fetch
PART = 8 << 20
THREADS = 4
LINK_SECONDS = 24 * 3600
COLUMNS = ("timestamp", "source", "target", "type", "weight")
QUERY = """SELECT to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS "timestamp",
                  source, target, type, weight
           FROM interactions {where} ORDER BY interactions."timestamp" """
FILTERS = {"start": '"timestamp" >= %(start)s', "end": '"timestamp" < %(end)s'}

_kept = {}  # connections of this process of the pool; each is made when it is first needed


def database():
    if "database" not in _kept or _kept["database"].closed:
        _kept["database"] = psycopg2.connect(os.environ["TIMESCALE_URL"], connect_timeout=10)
        _kept["database"].set_session(readonly=True)
    return _kept["database"]


def bucket():
    if "bucket" not in _kept:
        _kept["bucket"] = boto3.session.Session().client(
            "s3", region_name=os.environ["S3_REGION"], endpoint_url=os.environ["S3_ENDPOINT"],
            aws_access_key_id=os.environ["S3_ACCESS_KEY"], aws_secret_access_key=os.environ["S3_SECRET_KEY"],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"},
                          request_checksum_calculation="when_required", response_checksum_validation="when_required",
                          retries={"max_attempts": 4, "mode": "standard"}, max_pool_connections=10))
    return _kept["bucket"]


def by_cursor(query, params, out, first_rows):
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    count = 0
    with database().cursor(name="export") as cursor:
        cursor.itersize = ROWS
        cursor.execute(query, params)
        while rows := cursor.fetchmany(ROWS):
            if count == 0:
                first_rows()
            writer.writerows(rows)
            count += len(rows)
    return count


def by_copy(query, params, out, first_rows):
    with database().cursor() as cursor:
        text = cursor.mogrify(query, params).decode()
        first_rows()
        cursor.copy_expert(f"COPY ({text}) TO STDOUT WITH (FORMAT csv, HEADER)", out.buffer, size=1 << 16)
        return cursor.rowcount


WAYS = {"cursor": by_cursor, "copy": by_copy}


@app.task(bind=True, name=TASK, autoretry_for=(psycopg2.OperationalError,), retry_backoff=True, max_retries=3)
def generate_export(self, export_type, params, user_id):
    def progress(percent):
        self.update_state(state="PROGRESS", meta={"progress": percent})

    progress(10)
    now = datetime.now(timezone.utc)
    key = f"exports/{user_id}/{export_type}_{now:%Y%m%d_%H%M%S}_{self.request.id[:8]}.csv"
    given = {name: value for name, value in params.items() if name in FILTERS}
    query = QUERY.format(where="WHERE " + " AND ".join(FILTERS[name] for name in given) if given else "")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", buffering=1 << 20, suffix=".csv") as out:
        with database():  # one transaction, ended whatever happens
            rows = WAYS[os.environ["EXPORT_MODE"]](query, given, out, lambda: progress(40))
        out.flush()
        size = os.path.getsize(out.name)
        progress(70)
        bucket().upload_file(out.name, os.environ["S3_BUCKET"], key,
                             ExtraArgs={"ContentType": "text/csv; charset=utf-8"},
                             Config=TransferConfig(multipart_threshold=PART, multipart_chunksize=PART,
                                                   max_concurrency=THREADS))
    progress(100)
    url = bucket().generate_presigned_url("get_object", Params={"Bucket": os.environ["S3_BUCKET"], "Key": key},
                                          ExpiresIn=LINK_SECONDS)
    return {"key": key, "download_url": url, "file_size": size, "row_count": rows,
            "expires_at": (now + timedelta(seconds=LINK_SECONDS)).replace(tzinfo=None, microsecond=0).isoformat()}
