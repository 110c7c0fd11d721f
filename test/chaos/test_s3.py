"""Many exports at once into real S3 servers by a link on which everything goes wrong at random: all complete, every
byte is right, and the sweep leaves no unfinished upload.

EXPORTS says how many, over both servers; CHAOS_SEED which faults.
"""

import collections
import os
import random
import time

import pytest

import s3_exports
import s3_moods
from http_proxy import Rule
from proxy import ANSWER, REQUEST

EXPORTS = int(os.environ.get("EXPORTS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
AT_ONCE = 4
SECONDS_EACH = 10

# Rows of an export, and how often it is so large: none, one PUT, about a part (5,200 rows), some parts.
SIZES = {0: 2, 1: 2, 300: 3, 5000: 2, 5300: 2, 9000: 2, 16000: 3, 30000: 1}

CREATE, PART, COMPLETE = "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"


def anywhere(of):
    """RST or FIN at a random byte of the request or its answer."""
    return lambda chance: s3_moods.cut(chance.choice(["reset", "close"]), of, chance.random())


def lost(chance):
    return s3_moods.done_and_lost(chance.choice(["reset", "close"]))


def stall(chance):
    """Longer than anybody waits, or only for a while."""
    return s3_moods.stalled(chance.choice([0.3, 60]), chance.choice([REQUEST, ANSWER]), chance.random())


def slow_down(chance):
    return s3_moods.slow_down(chance.choice([None, None, 1]))


def slow(chance):
    return s3_moods.slow(chance.randint(2 << 20, 8 << 20))


def rules():
    """Of a hundred requests so many meet the mood."""
    return [
        # What matters most is rarest: the last step of each export.
        Rule(s3_moods.cut("reset", REQUEST, 0), COMPLETE, chance=0.15),  # after the last part
        Rule(lost, COMPLETE, chance=0.2),
        Rule(s3_moods.error_in_200(), COMPLETE, chance=0.08),
        Rule(s3_moods.error_in_200_after_all(), COMPLETE, chance=0.08),
        Rule(s3_moods.truncated(), COMPLETE, chance=0.05),
        Rule(lost, "PutObject", chance=0.15),
        Rule(lost, CREATE, chance=0.1),
        Rule(s3_moods.truncated(), CREATE, chance=0.04),
        Rule(lost, PART, chance=0.04),
        Rule(s3_moods.corrupted(), PART, chance=0.03),
        Rule(s3_moods.etag(None), PART, chance=0.02),
        Rule(slow, PART, chance=0.15),
        # Of every kind of request.
        Rule(anywhere(REQUEST), chance=0.06),
        Rule(anywhere(ANSWER), chance=0.06),
        Rule(stall, chance=0.03),
        Rule(s3_moods.internal_error(), chance=0.04),
        Rule(s3_moods.html(502), chance=0.02),
        Rule(slow_down, chance=0.03),
        Rule(s3_moods.says(503, "SlowDown", early="reset", name="early SlowDown"), chance=0.02),
        Rule(s3_moods.says(500, "InternalError", early="close", name="early InternalError"), chance=0.02),
    ]


@pytest.mark.timeout(60 + SECONDS_EACH * EXPORTS)
def test_everything_goes_wrong(s3_kind, make_service):
    exports = (EXPORTS + 1) // 2
    chance = random.Random(SEED)
    sizes = [chance.choices(list(SIZES), list(SIZES.values()))[0] for _ in range(exports)]
    with s3_kind() as server, s3_moods.proxy(server.endpoint, *rules(), seed=SEED) as proxy:
        settings = {**server.service(proxy.url), **s3_exports.SETTINGS, "ROWFERRY_S3_IDLE_TIMEOUT": "1s"}
        service = make_service("--max-attempts", "30", "--concurrency", str(AT_ONCE), types=["wide"],
                               environment=settings)
        began = time.monotonic()
        tasks = [s3_exports.request(service, {"rows": rows}, user_id="chaos") for rows in sizes]
        done = [service.wait(task, seconds=SECONDS_EACH * exports) for task in tasks]
        tell(server, proxy, done, time.monotonic() - began)
        assert len(proxy.of(mood="?*")) > exports // 2, "too little went wrong"
        proxy.script()
        proxy.end_all()
        check(server, sizes, done)
        s3_exports.sweep(service)
        check(server, sizes, done)
        assert server.unfinished() == set(), "left after the sweep"


def tell(server, proxy, done, seconds):
    moods = collections.Counter(one.mood.name for one in proxy.of(mood="?*"))
    again = sum(one["attempt"] > 1 for one in done)
    print(f"{server.name}: {len(done)} exports in {seconds:.1f} s, {again} of them in more than one attempt; "
          f"{sum(moods.values())} of {len(proxy.exchanges)} requests went wrong: "
          + ", ".join(f"{count} {name}" for name, count in moods.most_common()))


def check(server, sizes, done):
    for rows, one in zip(sizes, done, strict=True):
        s3_exports.is_whole(server, one, {"rows": rows})
    assert sorted(server.objects("exports/")) == sorted(one["key"] for one in done), "each file once, and no other"
