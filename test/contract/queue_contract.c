#include "test/contract/queue_contract.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/time.h"
#include "test/contract/queue_bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

/* --- keys and forgetting --- */

static void
test_keys(void **state)
{
    Bench *b = *state;
    const char *const keys[] = {"never", "k", "k"};
    QueueRecord r = bench_bring(b->q, "k", QUEUE_PREPARED, b->arena), got;
    Err e = {0};

    bench_must(bench->kind->find_key(b->q, "k", b->arena, &got, &e), "find_key", &e);
    assert_string_equal(got.id, "k");
    bench_must(bench->kind->expire(b->q, keys, COUNT(keys), &e), "expire", &e);
    assert_int_equal(bench_find(b->q, "k", b->arena).phase, QUEUE_PREPARED);
    bench_must_write(b->q, QUEUE_COMPLETE, &r);
    bench_must(bench->kind->expire(b->q, keys, COUNT(keys), &e), "expire", &e);
    bench_must(bench->kind->find_key(b->q, "k", b->arena, &got, &e), "find_key", &e);
    assert_int_equal(got.phase, QUEUE_EXPIRED);
    assert_int_equal(got.progress, 100);
}

/* Whose upload it is can be asked by its key from the moment it is told, and after its task has
 * ended or waits again. */
static void
test_key_of_an_upload(void **state)
{
    static const struct {
        QueueWriteOp op;
        QueuePhase phase;
        bool prepared; /* first */
    } ends[] = {{QUEUE_FAIL, QUEUE_FAILED, false}, {QUEUE_CANCELLED_NOW, QUEUE_CANCELLED, false},
        {QUEUE_UNPREPARE, QUEUE_RUNNING, true}, {QUEUE_FAIL, QUEUE_FAILED, true},
        {QUEUE_COMPLETE, QUEUE_COMPLETED, true},
        {QUEUE_RETRY, QUEUE_QUEUED, false}}; /* the last one: it can be taken again */
    Bench *b = *state;
    QueueRecord got = bench_bring(b->q, "plain", QUEUE_PREPARED, b->arena);
    Err e = {0};

    /* Without an upload there is nothing to ask for. */
    bench_must_write(b->q, QUEUE_FAIL, &got);
    assert_false(bench->kind->find_key(b->q, "plain", b->arena, &got, &e));
    err_clear(&e);
    for (size_t i = 0; i < COUNT(ends); i++) {
        char id[16];
        QueueRecord r;

        snprintf(id, sizeof id, "u%zu", i);
        r = bench_bring(b->q, id, QUEUE_RUNNING, b->arena);
        assert_false(bench->kind->find_key(b->q, id, b->arena, &got, &e));
        err_clear(&e);
        bench_must_write(b->q, QUEUE_UPLOAD, &r);
        bench_must(bench->kind->find_key(b->q, id, b->arena, &got, &e), "find_key", &e);
        assert_string_equal(got.id, id);
        assert_string_equal(got.upload, "up-1");
        if (ends[i].prepared)
            bench_must_write(b->q, QUEUE_PREPARE, &r);
        bench_must_write(b->q, ends[i].op, &r);
        bench_must(bench->kind->find_key(b->q, id, b->arena, &got, &e), "find_key", &e);
        assert_string_equal(got.id, id);
        assert_int_equal(got.phase, ends[i].phase);
    }
}

/* A key has one owner; who wants it too is told, and nobody else in its group notices. */
static void
test_key_is_taken(void **state)
{
    Bench *b = *state;
    QueueRecord first = bench_bring(b->q, "k", QUEUE_COMPLETED, b->arena);
    QueueRecord second = bench_bring(b->q, "z", QUEUE_RUNNING, b->arena), got;
    QueueRecord third = bench_bring(b->q, "y", QUEUE_RUNNING, b->arena);
    const QueueTotal total = {"taken", 1, false};
    QueueWrite write[] = {bench_write_of(QUEUE_PROGRESS, &third),
        bench_write_of(QUEUE_PREPARE, &second), bench_write_of(QUEUE_UPLOAD, &second),
        bench_write_of(QUEUE_PREPARE, &third)};
    const QueueVerdict want[] = {QUEUE_WRITTEN, QUEUE_KEY_TAKEN, QUEUE_KEY_TAKEN, QUEUE_WRITTEN};
    Err e = {0};

    write[1].key = write[2].key = "k";
    write[1].total = &total;
    write[1].totals = 1;
    write[1].attempt_entry = "{}";
    bench_must(bench->kind->write(b->q, write, COUNT(write), &e), "write", &e);
    assert_int_equal(e.links, 0);
    for (size_t i = 0; i < COUNT(write); i++)
        assert_int_equal(write[i].verdict, want[i]);
    got = bench_find(b->q, "z", b->arena);
    assert_int_equal(got.phase, QUEUE_RUNNING);
    assert_null(got.key);
    assert_null(got.attempts);
    assert_true(bench_total(b->q, "taken") == 0);
    bench_must(bench->kind->find_key(b->q, "k", b->arena, &got, &e), "find_key", &e);
    assert_string_equal(got.id, first.id);
}

static size_t
purge(Queue *q, int64_t before_us, size_t most)
{
    size_t purged = 99;
    Err e = {0};

    bench_must(bench->kind->purge(q, before_us, most, &purged, &e), "purge", &e);
    return purged;
}

static void
test_purge(void **state)
{
    static const char *const stay[] = {"queued", "running", "prepared", "completed"};
    Bench *b = *state;
    QueueRecord r;
    Err e = {0};

    for (QueuePhase phase = QUEUE_RUNNING; phase <= QUEUE_CANCELLED; phase++)
        (void)bench_bring(b->q, queue_phase_name(phase), phase, b->arena);
    bench_put_new(b->q, "queued");
    assert_int_equal(purge(b->q, time_wall_us() - 1000000, 100), 0);
    bench_sleep_ms(2);
    assert_int_equal(purge(b->q, time_wall_us(), 2), 2);
    assert_int_equal(purge(b->q, time_wall_us(), 100), 1);
    assert_int_equal(purge(b->q, time_wall_us(), 100), 0);
    /* A file that must still lie there for years keeps its record. */
    for (size_t i = 0; i < COUNT(stay); i++)
        (void)bench_find(b->q, stay[i], b->arena);
    assert_false(bench->kind->find(b->q, "failed", b->arena, &r, &e));
    assert_int_equal(e.code, ERR_EXPORT_NOT_FOUND);
    assert_int_equal(purge(b->q, 4102444800000001, 100), 1);
    /* The id is free again. */
    bench_put_new(b->q, "failed");
}

/* --- counting --- */

static void
test_totals(void **state)
{
    const QueueTotal totals[] = {{"n", 1, false}, {"gauge", 7, true}, {"n", 2, false}};
    const QueueTotal more[] = {{"gauge", 5, true}, {"n", 0.5, false}};
    Bench *b = *state;
    QueueCancel stop = {.id = "t1", .now_us = 1, .total = totals, .totals = 3};
    QueuePut put = bench_task("t1");
    QueueRecord r;
    QueueWrite write;
    Err e = {0};

    put.total = totals;
    put.totals = 3;
    bench_put(b->q, &put, 1);
    assert_true(bench_total(b->q, "n") == 3);
    assert_true(bench_total(b->q, "gauge") == 7);
    bench_put(b->q, &put, 1);
    assert_true(bench_total(b->q, "n") == 3);
    bench_must(bench->kind->add(b->q, more, COUNT(more), &e), "add", &e);
    assert_true(bench_total(b->q, "n") == 3.5);
    assert_true(bench_total(b->q, "gauge") == 5);
    bench_must(bench->kind->cancel(b->q, &stop, 1, &e), "cancel", &e);
    bench_must(bench->kind->cancel(b->q, &stop, 1, &e), "cancel", &e);
    assert_true(bench_total(b->q, "n") == 6.5);
    r = bench_bring(b->q, "t2", QUEUE_RUNNING, b->arena);
    write = bench_write_of(QUEUE_FAIL, &r);
    write.total = totals;
    write.totals = 3;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    assert_true(bench_total(b->q, "n") == 9.5);
    assert_true(bench_total(b->q, "gauge") == 7);
}

static void
test_counts(void **state)
{
    Bench *b = *state;
    QueueOwner me = bench_owner(), ghost = {"celery@ghost", 1 << 22, 12345};
    QueuePut put[] = {bench_task("1"), bench_task("2"), bench_task("3")};
    QueueCounts counts = bench_count(b->q);
    Err e = {0};

    assert_int_equal(counts.depth + counts.running + counts.workers, 0);
    assert_int_equal(counts.oldest_us, 0);
    put[0].created_us = 2000;
    put[0].priority = 9;
    put[1].created_us = 3000;
    put[2].created_us = 1000;
    put[2].available_us = time_wall_us() + 3600000000;
    bench_put(b->q, put, 3);
    assert_int_equal(bench_count(b->q).depth, 3);
    assert_int_equal(bench_count(b->q).oldest_us, 2000);
    bench_must(bench->kind->heartbeat(b->q, &me, &e), "heartbeat", &e);
    bench_must(bench->kind->heartbeat(b->q, &me, &e), "heartbeat", &e);
    assert_int_equal(bench_count(b->q).workers, 1);
    bench_must(bench->kind->leave(b->q, &ghost, &e), "leave", &e);
    assert_int_equal(bench_count(b->q).workers, 1);
    bench_must(bench->kind->leave(b->q, &me, &e), "leave", &e);
    assert_int_equal(bench_count(b->q).workers, 0);
}

static void
test_visit(void **state)
{
    Bench *b = *state;
    Seen seen = {.stop_at = 2};
    Err e = {0};

    (void)bench_bring(b->q, "run", QUEUE_RUNNING, b->arena);
    (void)bench_bring(b->q, "prep", QUEUE_PREPARED, b->arena);
    (void)bench_bring(b->q, "done", QUEUE_COMPLETED, b->arena);
    bench_put_new(b->q, "wait");
    assert_int_equal(bench_visit(b->q, &(QueueFilter){0}).visited, 4);
    assert_int_equal(bench_visit(b->q, &(QueueFilter){.limit = 3}).visited, 3);
    assert_int_equal(bench_visit(b->q, &(QueueFilter){.user_id = "user_123"}).visited, 4);
    assert_int_equal(bench_visit(b->q, &(QueueFilter){.user_id = "somebody"}).visited, 0);
    assert_int_equal(bench_visit(b->q, &(QueueFilter){.owner = "celery@test"}).visited, 2);
    assert_int_equal(bench_visit(b->q, &(QueueFilter){.owner = "celery@other"}).visited, 0);
    assert_false(bench->kind->visit(b->q, &(QueueFilter){0}, bench_note_id, &seen, &e));
    assert_int_equal(e.code, ERR_CANCELLED);
    assert_int_equal(seen.visited, 2);
    /* The handle is as good as before. */
    assert_int_equal(bench_visit(b->q, &(QueueFilter){0}).visited, 4);
}

/* --- the clock --- */

static void
test_fire(void **state)
{
    Bench *b = *state;
    QueuePut put = bench_task("due-1");
    QueueFire fire = {.schedule = "sch", .due_us = 1000};
    Queue *full = bench_open_limited(b->place, 1);
    int64_t due_us = -1;
    Err e = {0};

    bench_must(bench->kind->last_due(b->q, "sch", &due_us, &e), "last_due", &e);
    assert_int_equal(due_us, 0);
    bench_must(bench->kind->fire(b->q, &fire, &e), "fire", &e); /* only notes it */
    assert_true(fire.fired);
    assert_int_equal(bench_count(b->q).depth, 0);
    fire = (QueueFire){.schedule = "sch", .due_us = 2000, .put = &put};
    bench_must(bench->kind->fire(b->q, &fire, &e), "fire", &e);
    assert_true(fire.fired);
    assert_int_equal(put.verdict, QUEUE_PUT_NEW);
    bench_must(bench->kind->fire(b->q, &fire, &e), "fire", &e);
    assert_false(fire.fired);
    fire.due_us = 1500; /* the clock went back */
    bench_must(bench->kind->fire(b->q, &fire, &e), "fire", &e);
    assert_false(fire.fired);
    bench_must(bench->kind->last_due(b->q, "sch", &due_us, &e), "last_due", &e);
    assert_int_equal(due_us, 2000);
    bench_must(bench->kind->last_due(b->q, "other", &due_us, &e), "last_due", &e);
    assert_int_equal(due_us, 0);
    assert_int_equal(bench_count(b->q).depth, 1);
    /* A full queue is no reason to forget what is due. */
    put.id = "due-2";
    fire = (QueueFire){.schedule = "sch", .due_us = 3000, .put = &put};
    bench_must(bench->kind->fire(full, &fire, &e), "fire", &e);
    assert_true(fire.fired);
    assert_int_equal(put.verdict, QUEUE_PUT_NEW);
    assert_int_equal(bench_find(b->q, "due-2", b->arena).phase, QUEUE_QUEUED);
    bench_close(full);
}

/* --- waking --- */

static bool
is_woken(Queue *q, int wait_ms)
{
    struct pollfd fd = {.fd = bench->kind->wake_fd(q), .events = POLLIN};

    assert_true(fd.fd >= 0);
    return poll(&fd, 1, wait_ms) == 1;
}

static void
test_wake(void **state)
{
    Bench *b = *state;
    Queue *sleeper = bench_open(b->place);
    QueueRecord r;

    bench->kind->wake_clear(sleeper);
    assert_false(is_woken(sleeper, 0));
    bench_put_new(b->q, "w1");
    assert_true(is_woken(sleeper, 1000));
    bench->kind->wake_clear(sleeper);
    assert_false(is_woken(sleeper, 0));
    assert_int_equal(bench_cancel(b->q, "w1"), QUEUE_CANCEL_DONE);
    assert_true(is_woken(sleeper, 1000));
    bench->kind->wake_clear(sleeper);
    bench_put_new(b->q, "w2");
    r = bench_take_one(b->q, "w2", b->arena);
    bench->kind->wake_clear(sleeper);
    bench_must_write(b->q, QUEUE_RETRY, &r);
    assert_true(is_woken(sleeper, 1000));
    bench->kind->wake_clear(sleeper);
    /* One that comes later is woken too, one that has gone does no harm. */
    bench_close(sleeper);
    sleeper = bench_open(b->place);
    bench_put_new(b->q, "w3");
    assert_true(is_woken(sleeper, 1000));
    bench_close(sleeper);
    bench_put_new(b->q, "w4");
}

static void
test_check(void **state)
{
    Bench *b = *state;
    const char *promise = NULL;
    Err e = {0};

    bench_must(bench->kind->check(b->q, &promise, &e), "check", &e);
    assert_non_null(promise);
    assert_true(strlen(promise) > 10);
    if (bench->kind->maintain)
        bench_must(bench->kind->maintain(b->q, &e), "maintain", &e);
}

/* "name code took_ms, " of each, in no order that is promised. */
typedef struct {
    char text[256];
    size_t seen, stop_at;
} Sources;

static bool
note_source(const QueueSource *source, void *with)
{
    Sources *sources = with;
    size_t at = strlen(sources->text);

    snprintf(sources->text + at, sizeof sources->text - at, "%s/%s/%d, ", source->name,
        source->code, (int)source->took_ms);
    return ++sources->seen != sources->stop_at;
}

static Sources
visit_sources(Queue *q, size_t stop_at)
{
    Sources sources = {.stop_at = stop_at};
    Err e = {0};

    bench_must(bench->kind->visit_sources(q, note_source, &sources, &e), "visit_sources", &e);
    return sources;
}

/* The last word stands, for every handle; nobody is woken; what is a day old is forgotten. */
static void
test_sources(void **state)
{
    Bench *b = *state;
    int64_t now_us = time_wall_us();
    const QueueSource words[] = {{"shop", "source-auth", 7, now_us},
        {"old", "", 1, now_us - 25 * 3600000000LL}, {"graph", "", 3, now_us},
        {"shop", "", 2, now_us + 1}};
    Queue *other = bench_open(b->place);
    Err e = {0};

    assert_int_equal(visit_sources(b->q, 0).seen, 0);
    bench->kind->wake_clear(other);
    for (size_t i = 0; i < COUNT(words); i++)
        bench_must(bench->kind->note_source(b->q, &words[i], &e), "note_source", &e);
    assert_false(is_woken(other, 0));
    assert_int_equal(visit_sources(other, 0).seen, 3);
    assert_int_equal(visit_sources(other, 2).seen, 2);
    assert_non_null(strstr(visit_sources(other, 0).text, "shop//2, "));
    assert_non_null(strstr(visit_sources(other, 0).text, "graph//3, "));
    (void)purge(b->q, now_us, 100);
    assert_int_equal(visit_sources(other, 0).seen, 2);
    assert_null(strstr(visit_sources(other, 0).text, "old"));
    bench_close(other);
}

static int
check_the_rest(void)
{
    const struct CMUnitTest tests[] = {
        CHECK(test_keys),
        CHECK(test_key_of_an_upload),
        CHECK(test_key_is_taken),
        CHECK(test_purge),
        CHECK(test_totals),
        CHECK(test_counts),
        CHECK(test_visit),
        CHECK(test_sources),
        CHECK(test_fire),
        CHECK(test_wake),
        CHECK(test_check),
    };

    return cmocka_run_group_tests_name("queue keys, counts, clock, waking", tests, NULL, NULL);
}

int
queue_contract(const QueueContract *contract)
{
    bench = contract;
    return queue_tasks() + queue_writes() + check_the_rest() + queue_storm();
}
