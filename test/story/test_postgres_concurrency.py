"""A source's `concurrency` holds over all children and workers, as the server itself counts."""

import pytest

import activity
import pg_exports
from pg_exports import ONCE, all_is_clean, is_whole, was_tried
from role import Role

TYPE = "pg_at_{}"


@pytest.fixture
def limited(make, server):
    """Makes services over two sources, `two` and `three`, with those limits and a user each."""
    for name in ("two", "three"):
        server.psql(f"CREATE ROLE {name} LOGIN PASSWORD '{name}-secret'")
        server.passwords[name] = f"{name}-secret"
    sources = {name: {"url": server.url(name), "concurrency": most} for name, most in (("two", 2), ("three", 3))}
    query = f"{pg_exports.SELECT} generate_series(1, $rows) n WHERE n % 100 <> 0 OR pg_sleep(0.01) IS NOT NULL"
    types = [pg_exports.type_text(TYPE.format(name), query, f"{{ {pg_exports.ROWS} }}", pg_exports.NUMBERS, source=name)
             for name in sources]

    def make_limited(*options, **more):
        service = make(*options, types=types, sources=sources, **more)
        if service.role == "serve":
            was_tried(service)
        return service

    yield make_limited
    server.psql("DROP ROLE two; DROP ROLE three")


def ask(service, name, count, rows=200):
    return [service.request(TYPE.format(name), f"user_{i % 7}", params={"rows": rows}) for i in range(count)]


def all_complete(service, tasks, rows=200):
    done = [service.wait(task, seconds=60) for task in tasks]
    for one in done:
        assert one["attempt"] == 1
        is_whole(service, one, rows)
    return done


def test_sixty_requests_and_never_more_than_two(limited, server):
    service = limited("--concurrency", "6", *ONCE)
    with activity.Sampler(server) as sampler:
        done = all_complete(service, ask(service, "two", 60))
    assert sampler.most["two"] == 2, f"after {sampler.looks} looks"
    all_is_clean(service, server, *done)


def test_each_source_has_a_limit_of_its_own(limited, server):
    service = limited("--concurrency", "6", *ONCE)
    with activity.Sampler(server) as sampler:
        tasks = [task for pair in zip(ask(service, "two", 24), ask(service, "three", 24)) for task in pair]
        done = all_complete(service, tasks)
    assert sampler.most == {"two": 2, "three": 3}, f"after {sampler.looks} looks"
    all_is_clean(service, server, *done)


def test_two_workers_share_the_limit(limited, server):
    owner = limited(role="api")
    workers = []
    try:
        for i in range(2):
            worker = Role(owner, "worker", f"worker-{i}")
            worker.options += ["--concurrency", "3", "--config", str(owner.folder.parent / "service.yaml")]
            workers.append(worker)
            worker.start()
        was_tried(owner)
        with activity.Sampler(server) as sampler:
            done = all_complete(owner, ask(owner, "two", 40))
        assert sampler.most["two"] == 2, f"after {sampler.looks} looks"
        assert all(worker.lines("export.finished") for worker in workers), "one did all"
        all_is_clean(owner, server, *done)
    finally:
        for worker in workers:
            worker.finish()


def test_a_cancelled_export_makes_room(limited, server):
    service = limited("--concurrency", "6", *ONCE)
    with activity.Sampler(server) as sampler:
        long = ask(service, "two", 2, rows=10_000_000)
        for task in long:
            activity.await_query(server, task)
        short = ask(service, "two", 6)
        for task in long:
            service.cancel(task)
        done = all_complete(service, short)
    for task in long:
        assert service.wait(task, state="cancelled")
    assert sampler.most["two"] == 2, f"after {sampler.looks} looks"
    all_is_clean(service, server, *done)
