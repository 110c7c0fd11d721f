/* How tasks come to the queue, and how they leave it. */
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

/* --- putting and finding --- */

static void
test_put_and_find(void **state)
{
    Bench *b = *state;
    QueuePut put = bench_task("t1");
    QueueRecord r;

    put.created_us = 1700000000000123;
    put.priority = 5;
    put.max_attempts = 7;
    bench_put(b->q, &put, 1);
    assert_int_equal(put.verdict, QUEUE_PUT_NEW);
    r = bench_find(b->q, "t1", b->arena);
    bench_same_text("id", r.id, "t1");
    bench_same_text("task", r.task, QUEUE_TASK_EXPORT);
    bench_same_text("user_id", r.user_id, "user_123");
    bench_same_text("export_type", r.export_type, "employee_metrics");
    bench_same_text("source", r.source, "graph");
    bench_same_text("format", r.format, "csv");
    bench_same_text("request", r.request, put.request);
    bench_same_text("version", r.version, "sha256:00");
    bench_same_text("request_id", r.request_id, "r-1");
    bench_same_text("queue", r.queue, "celery");
    assert_int_equal(r.phase, QUEUE_QUEUED);
    assert_int_equal(r.progress, 0);
    assert_int_equal(r.epoch, 0);
    assert_int_equal(r.attempt, 0);
    assert_int_equal(r.max_attempts, 7);
    assert_int_equal(r.created_us, 1700000000000123);
    assert_int_equal(r.rows_estimated, -1);
    assert_int_equal(r.started_us, 0);
    assert_int_equal(r.ended_us, 0);
    assert_int_equal(r.cancel_us, 0);
    assert_null(r.owner);
    assert_null(r.key);
    assert_null(r.sealed);
    assert_null(r.result);
    assert_null(r.error_code);
    assert_null(r.attempts);
    assert_int_equal(r.position, 1);
}

static void
test_unknown(void **state)
{
    Bench *b = *state;
    QueueRecord r;
    Err e = {0};

    assert_false(bench->kind->find(b->q, "nobody", b->arena, &r, &e));
    assert_int_equal(e.code, ERR_EXPORT_NOT_FOUND);
    err_clear(&e);
    assert_false(bench->kind->find_key(b->q, "exports/u/nothing.csv", b->arena, &r, &e));
    assert_int_equal(e.code, ERR_EXPORT_NOT_FOUND);
}

/* Another handle sees it at once, and so does one that is opened when the first is gone. */
static void
test_put_is_kept(void **state)
{
    Bench *b = *state;
    Queue *other = bench_open(b->place);

    bench_put_new(b->q, "kept");
    assert_int_equal(bench_find(other, "kept", b->arena).phase, QUEUE_QUEUED);
    bench_close(other);
    bench_close(b->q);
    b->q = bench_open(b->place);
    assert_int_equal(bench_find(b->q, "kept", b->arena).phase, QUEUE_QUEUED);
    assert_int_equal(bench_count(b->q).depth, 1);
}

static void
test_put_twice(void **state)
{
    Bench *b = *state;
    const QueueTotal total = {"puts", 1, false};
    QueuePut put[3] = {bench_task("a"), bench_task("a"), bench_task("b")};

    for (size_t i = 0; i < 3; i++) {
        put[i].total = &total;
        put[i].totals = 1;
    }
    put[1].request = "{\"other\":1}";
    bench_put(b->q, put, 3);
    assert_int_equal(put[0].verdict, QUEUE_PUT_NEW);
    assert_int_equal(put[1].verdict, QUEUE_PUT_EXISTS);
    assert_int_equal(put[2].verdict, QUEUE_PUT_NEW);
    assert_string_equal(bench_find(b->q, "a", b->arena).request, put[0].request);
    assert_int_equal(bench_count(b->q).depth, 2);
    assert_true(bench_total(b->q, "puts") == 2);
    /* And also when it is over and done. */
    (void)bench_bring(b->q, "c", QUEUE_QUEUED, b->arena);
    assert_int_equal(bench_cancel(b->q, "c"), QUEUE_CANCEL_DONE);
    put[0] = bench_task("c");
    bench_put(b->q, put, 1);
    assert_int_equal(put[0].verdict, QUEUE_PUT_EXISTS);
    assert_int_equal(bench_find(b->q, "c", b->arena).phase, QUEUE_CANCELLED);
}

static QueuePut
with_key(const char *id, const char *scope, const char *key, const char *hash, const char *answer)
{
    QueuePut put = bench_task(id);

    put.idempotency_scope = scope;
    put.idempotency_key = key;
    put.idempotency_hash = hash;
    put.answer = answer;
    return put;
}

static void
test_idempotency(void **state)
{
    Bench *b = *state;
    QueuePut put[] = {
        with_key("i1", "u1", "k", "h1", "{\"task_id\":\"i1\"}"),
        with_key("i2", "u1", "k", "h1", "{\"task_id\":\"i2\"}"), /* in the same transaction */
        with_key("i3", "u1", "k", "h2", "{\"task_id\":\"i3\"}"),
        with_key("i4", "u2", "k", "h2", "{\"task_id\":\"i4\"}"),
        with_key("i5", "u1", "l", "h2", "{\"task_id\":\"i5\"}"),
    };
    const QueuePutVerdict want[] = {
        QUEUE_PUT_NEW, QUEUE_PUT_REPLAYED, QUEUE_PUT_MISMATCH, QUEUE_PUT_NEW, QUEUE_PUT_NEW};
    QueuePut later = with_key("i6", "u2", "k", "h2", "{}");
    QueueRecord r;
    Err e = {0};

    bench_must(bench->kind->put(b->q, put, COUNT(put), b->arena, &e), "put", &e);
    for (size_t i = 0; i < COUNT(put); i++)
        assert_int_equal(put[i].verdict, want[i]);
    assert_string_equal(put[1].replay, "{\"task_id\":\"i1\"}");
    assert_int_equal(bench_count(b->q).depth, 3);
    assert_false(bench->kind->find(b->q, "i2", b->arena, &r, &e));
    err_clear(&e);
    /* Later, by another handle, even when the task has ended. */
    assert_int_equal(bench_cancel(b->q, "i4"), QUEUE_CANCEL_DONE);
    bench_close(b->q);
    b->q = bench_open(b->place);
    bench_must(bench->kind->put(b->q, &later, 1, b->arena, &e), "put", &e);
    assert_int_equal(later.verdict, QUEUE_PUT_REPLAYED);
    assert_string_equal(later.replay, "{\"task_id\":\"i4\"}");
}

/* Nothing was queued: the key may be used again. */
static void
test_idempotency_of_refused(void **state)
{
    Bench *b = *state;
    QueuePut put[] = {with_key("f1", "u", "k1", "h", "1"), with_key("f2", "u", "k2", "h", "2")};
    Queue *small = bench_open_limited(b->place, 1);

    bench_put(small, put, 2);
    assert_int_equal(put[0].verdict, QUEUE_PUT_NEW);
    assert_int_equal(put[1].verdict, QUEUE_PUT_FULL);
    /* A full queue still knows what it has said. */
    bench_put(small, put, 2);
    assert_int_equal(put[0].verdict, QUEUE_PUT_REPLAYED);
    assert_int_equal(put[1].verdict, QUEUE_PUT_FULL);
    assert_int_equal(bench_cancel(small, "f1"), QUEUE_CANCEL_DONE);
    bench_put(small, put + 1, 1);
    assert_int_equal(put[1].verdict, QUEUE_PUT_NEW);
    bench_close(small);
}

/* An answer is remembered for 24 hours, whether or not anybody has swept since. */
static void
test_idempotency_ends(void **state)
{
    const int64_t hour_us = 3600000000;
    Bench *b = *state;
    QueuePut put[] = {with_key("o1", "u", "k1", "h", "1"), with_key("o2", "u", "k2", "h", "2")};
    QueuePut again[] = {with_key("o3", "u", "k1", "h", "3"), with_key("o4", "u", "k2", "h", "4")};

    put[0].created_us -= 25 * hour_us;
    put[1].created_us -= 23 * hour_us;
    bench_put(b->q, put, 2);
    bench_put(b->q, again, 2);
    assert_int_equal(again[0].verdict, QUEUE_PUT_NEW);
    assert_int_equal(again[1].verdict, QUEUE_PUT_REPLAYED);
    /* The new answer has taken the place of the old one. */
    bench_put(b->q, put, 1);
    assert_int_equal(put[0].verdict, QUEUE_PUT_REPLAYED);
}

static void
test_full(void **state)
{
    Bench *b = *state;
    Queue *small = bench_open_limited(b->place, 3);
    QueuePut put[] = {bench_task("1"), bench_task("2"), bench_task("3"), bench_task("4")};
    QueueRecord r;

    put[1].available_us = time_wall_us() + 3600000000; /* one that waits for its time counts */
    bench_put(small, put, 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(put[i].verdict, QUEUE_PUT_NEW);
    assert_int_equal(put[3].verdict, QUEUE_PUT_FULL);
    assert_int_equal(bench_count(small).depth, 3);
    /* What runs does not wait; what comes back does, limit or not. */
    r = bench_take_one(small, "1", b->arena);
    assert_int_equal(bench_count(small).depth, 2);
    bench_put(small, put + 3, 1);
    assert_int_equal(put[3].verdict, QUEUE_PUT_NEW);
    bench_must_write(small, QUEUE_GIVE_BACK, &r);
    assert_int_equal(bench_count(small).depth, 4);
    assert_int_equal(bench_cancel(small, "2"), QUEUE_CANCEL_DONE);
    assert_int_equal(bench_count(small).depth, 3);
    bench_close(small);
}

/* --- taking --- */

static void
test_order(void **state)
{
    Bench *b = *state;
    QueuePut put[] = {bench_task("low"), bench_task("n1"), bench_task("high"), bench_task("n2")};
    static const char *const want[] = {"high", "n1", "n2", "low"};
    QueueTake take = bench_wants(1);
    QueueRecord r[BENCH_TAKE_MOST];

    put[0].priority = 9;
    put[2].priority = 0;
    bench_put(b->q, put, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(bench_find(b->q, want[i], b->arena).position, i + 1);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "high");
    take.wanted = BENCH_TAKE_MOST;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(r[i].id, want[i + 1]);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
    take.wanted = 0;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
}

static void
test_take_record(void **state)
{
    Bench *b = *state;
    int64_t before_us = time_wall_us();
    QueueRecord taken, found;

    bench_put_new(b->q, "t");
    taken = bench_take_one(b->q, "t", b->arena);
    found = bench_find(b->q, "t", b->arena);
    assert_int_equal(found.phase, QUEUE_RUNNING);
    assert_int_equal(taken.phase, QUEUE_RUNNING);
    assert_int_equal(taken.epoch, 1);
    assert_int_equal(found.epoch, 1);
    assert_int_equal(taken.attempt, 1);
    assert_int_equal(taken.progress, 10);
    assert_int_equal(taken.stage, STAGE_STARTING);
    assert_true(taken.started_us >= before_us && taken.started_us <= time_wall_us());
    assert_int_equal(taken.attempt_us, taken.started_us);
    assert_int_equal(found.started_us, taken.started_us);
    assert_string_equal(taken.owner, "celery@test");
    assert_string_equal(taken.request, found.request);
    assert_false(found.lease_is_over);
    assert_int_equal(found.position, 0);
    assert_int_equal(bench_count(b->q).running, 1);
    assert_int_equal(bench_count(b->q).depth, 0);
}

static void
test_delayed(void **state)
{
    Bench *b = *state;
    QueuePut put[] = {bench_task("soon"), bench_task("later"), bench_task("now")};
    int64_t now_us = time_wall_us(), due_us = -1;
    QueueTake take = bench_wants(BENCH_TAKE_MOST);
    QueueRecord r[BENCH_TAKE_MOST];
    Err e = {0};

    bench_must(bench->kind->next_due(b->q, &due_us, &e), "next_due", &e);
    assert_int_equal(due_us, 0);
    put[0].available_us = now_us + 500000;
    put[1].available_us = now_us + 3600000000;
    put[2].available_us = now_us - 1000;
    bench_put(b->q, put, 3);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "now");
    bench_must(bench->kind->next_due(b->q, &due_us, &e), "next_due", &e);
    assert_int_equal(due_us, put[0].available_us);
    assert_int_equal(bench_find(b->q, "soon", b->arena).available_us, put[0].available_us);
    assert_int_equal(bench_find(b->q, "soon", b->arena).position, 0);
    assert_int_equal(bench_count(b->q).oldest_us, 0);
    bench_sleep_ms(550);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "soon");
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
    bench_must(bench->kind->next_due(b->q, &due_us, &e), "next_due", &e);
    assert_int_equal(due_us, put[1].available_us);
}

static void
test_queues(void **state)
{
    static const char *const others[] = {"rowferry", "big", NULL};
    Bench *b = *state;
    QueuePut put[] = {bench_task("c"), bench_task("r"), bench_task("b")};
    QueueTake take = bench_wants(BENCH_TAKE_MOST);
    QueueRecord r[BENCH_TAKE_MOST];

    put[1].queue = "rowferry";
    put[2].queue = "big";
    bench_put(b->q, put, 3);
    take.queues = others;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 2);
    assert_string_equal(r[0].id, "r");
    assert_string_equal(r[1].id, "b");
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
    take.queues = NULL;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "c");
}

/* Limits hold over all handles; what cannot run does not stand in the way of what can. */
static void
test_limits(void **state)
{
    Bench *b = *state;
    const QueueLimit limits[] = {{.source = "graph", .most = 2}, {.export_type = "big", .most = 1}};
    QueuePut put[] = {bench_task("g1"), bench_task("g2"), bench_task("g3"), bench_task("t1"),
        bench_task("b1"), bench_task("b2")};
    QueueTake take = bench_wants(1);
    Queue *other = bench_open(b->place);
    QueueRecord first, r[BENCH_TAKE_MOST];

    put[3].source = put[4].source = put[5].source = "timescale";
    put[4].export_type = put[5].export_type = "big";
    bench_put(b->q, put, COUNT(put));
    take.limit = limits;
    take.limits = COUNT(limits);
    assert_int_equal(bench_take(other, &take, &first, b->arena), 1);
    assert_string_equal(first.id, "g1");
    take.wanted = BENCH_TAKE_MOST;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 3);
    assert_string_equal(r[0].id, "g2");
    assert_string_equal(r[1].id, "t1");
    assert_string_equal(r[2].id, "b1");
    assert_int_equal(bench_take(b->q, &take, r + 3, b->arena), 0);
    bench_must_write(other, QUEUE_FAIL, &first);
    assert_int_equal(bench_take(b->q, &take, r + 3, b->arena), 1);
    assert_string_equal(r[3].id, "g3");
    /* What is prepared still works on the source's behalf. */
    bench_must_write(b->q, QUEUE_PREPARE, &r[2]);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
    bench_must_write(b->q, QUEUE_COMPLETE, &r[2]);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "b2");
    bench_close(other);
}

/* A type that takes more of a source than others: never more than there is, and it gets its turn.
 */
static void
test_weights(void **state)
{
    Bench *b = *state;
    const QueueLimit limits[] = {{.source = "graph", .most = 4}, {.source = "timescale", .most = 2},
        {.export_type = "wide", .most = 1}};
    const QueueWeight weights[] = {{"heavy", 3}, {"wide", 9}};
    QueuePut put[] = {bench_task("h1"), bench_task("l1"), bench_task("h2"), bench_task("l2"),
        bench_task("w1"), bench_task("w2"), bench_task("l3")};
    QueueTake take = bench_wants(BENCH_TAKE_MOST);
    QueueRecord r[BENCH_TAKE_MOST], second[BENCH_TAKE_MOST];

    put[0].export_type = put[2].export_type = "heavy";
    put[4].export_type = put[5].export_type = "wide";
    put[4].source = put[5].source = put[6].source = "timescale";
    bench_put(b->q, put, COUNT(put));
    take.limit = limits;
    take.limits = COUNT(limits);
    take.weight = weights;
    take.weights = COUNT(weights);
    /* 3 and 1 of graph's 4; all 2 of timescale for one that would have 9. */
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 3);
    assert_string_equal(r[0].id, "h1");
    assert_string_equal(r[1].id, "l1");
    assert_string_equal(r[2].id, "w1");
    /* One place came free; l2 would fit, and h2 would wait for ever behind such ones. */
    bench_must_write(b->q, QUEUE_FAIL, &r[1]);
    assert_int_equal(bench_take(b->q, &take, second, b->arena), 0);
    bench_must_write(b->q, QUEUE_FAIL, &r[0]);
    assert_int_equal(bench_take(b->q, &take, second, b->arena), 2);
    assert_string_equal(second[0].id, "h2");
    assert_string_equal(second[1].id, "l2");
    /* Of a type that has no more room itself others of its source are not held up. */
    bench_must_write(b->q, QUEUE_FAIL, &r[2]);
    assert_int_equal(bench_take(b->q, &take, second, b->arena), 1);
    assert_string_equal(second[0].id, "w2");
    bench_must_write(b->q, QUEUE_FAIL, &second[0]);
    assert_int_equal(bench_take(b->q, &take, second, b->arena), 1);
    assert_string_equal(second[0].id, "l3");
}

static void
test_many_limits(void **state)
{
    enum { LIMITS = 300 };
    Bench *b = *state;
    static char name[LIMITS][24];
    QueueLimit limits[LIMITS];
    QueuePut put[] = {bench_task("m1"), bench_task("m2")};
    QueueTake take = bench_wants(BENCH_TAKE_MOST);
    QueueRecord r[BENCH_TAKE_MOST];

    for (int i = 0; i < LIMITS; i++) {
        snprintf(name[i], sizeof name[i], "type_%d", i);
        limits[i] = (QueueLimit){.export_type = name[i], .most = 1};
    }
    put[0].export_type = put[1].export_type = name[LIMITS - 1];
    bench_put(b->q, put, 2);
    take.limit = limits;
    take.limits = LIMITS;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
}

int
queue_tasks(void)
{
    const struct CMUnitTest tests[] = {
        CHECK(test_put_and_find),
        CHECK(test_unknown),
        CHECK(test_put_is_kept),
        CHECK(test_put_twice),
        CHECK(test_idempotency),
        CHECK(test_idempotency_of_refused),
        CHECK(test_idempotency_ends),
        CHECK(test_full),
        CHECK(test_order),
        CHECK(test_take_record),
        CHECK(test_delayed),
        CHECK(test_queues),
        CHECK(test_limits),
        CHECK(test_weights),
        CHECK(test_many_limits),
    };

    return cmocka_run_group_tests_name("queue tasks", tests, NULL, NULL);
}
