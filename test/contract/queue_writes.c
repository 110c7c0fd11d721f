/* What becomes of a task that was taken: writes, leases, cancels. */
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

/* --- writing what happened --- */

static const struct {
    QueueWriteOp op;
    const char *name;
    bool running, prepared; /* the phases that allow it */
} ops[] = {
    {QUEUE_RENEW, "renew", true, true},
    {QUEUE_PROGRESS, "progress", true, false},
    {QUEUE_UPLOAD, "upload", true, false},
    {QUEUE_PREPARE, "prepare", true, false},
    {QUEUE_UNPREPARE, "unprepare", false, true},
    {QUEUE_COMPLETE, "complete", false, true},
    {QUEUE_RETRY, "retry", true, true},
    {QUEUE_FAIL, "fail", true, true},
    {QUEUE_CANCELLED_NOW, "cancelled", true, false},
    {QUEUE_GIVE_BACK, "give back", true, true},
};

static void
assert_same_record(const char *name, const QueueRecord *a, const QueueRecord *c)
{
    if (a->phase != c->phase || a->epoch != c->epoch || a->attempt != c->attempt ||
        a->progress != c->progress || a->rows != c->rows || a->heartbeat_us != c->heartbeat_us ||
        a->ended_us != c->ended_us || a->give_backs != c->give_backs)
        fail_msg("%s: a void write has changed the record", name);
    bench_same_text(name, c->key, a->key);
    bench_same_text(name, c->sealed, a->sealed);
    bench_same_text(name, c->result, a->result);
    bench_same_text(name, c->error_code, a->error_code);
    bench_same_text(name, c->attempts, a->attempts);
}

/* Every write in every phase: written, or void and without a trace. */
static void
test_writes_by_phase(void **state)
{
    Bench *b = *state;
    const QueueTotal total = {"void_writes", 1, false};

    for (QueuePhase phase = QUEUE_QUEUED; phase <= QUEUE_CANCELLED; phase++)
        for (size_t i = 0; i < COUNT(ops); i++) {
            bool may = (phase == QUEUE_RUNNING && ops[i].running) ||
                       (phase == QUEUE_PREPARED && ops[i].prepared);
            char id[64], name[96];
            QueueRecord r, before, after;
            QueueWrite write;

            snprintf(id, sizeof id, "p%d-o%zu", (int)phase, i);
            snprintf(name, sizeof name, "%s while %s", ops[i].name, queue_phase_name(phase));
            r = bench_bring(b->q, id, phase, b->arena);
            write = bench_write_of(ops[i].op, &r);
            if (!may) {
                write.attempt_entry = "{\"n\":1}";
                write.total = &total;
                write.totals = 1;
            }
            before = bench_find(b->q, id, b->arena);
            if (bench_write(b->q, &write) != (may ? QUEUE_WRITTEN : QUEUE_NOT_MINE))
                fail_msg("%s: %s", name, may ? "is refused" : "is written");
            after = bench_find(b->q, id, b->arena);
            if (!may)
                assert_same_record(name, &before, &after);
            /* Out of the way of those that come. */
            if (after.phase == QUEUE_QUEUED)
                (void)bench_cancel(b->q, id);
            else if (after.phase == QUEUE_RUNNING || after.phase == QUEUE_PREPARED) {
                write = bench_write_of(QUEUE_FAIL, &r);
                assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
            }
        }
    assert_true(bench_total(b->q, "void_writes") == 0);
}

/* Whoever held the task before may say what he likes. */
static void
test_old_epochs(void **state)
{
    Bench *b = *state;
    QueueRecord old = bench_bring(b->q, "e", QUEUE_RUNNING, b->arena), now;

    bench_must_write(b->q, QUEUE_GIVE_BACK, &old);
    now = bench_take_one(b->q, "e", b->arena);
    assert_int_equal(now.epoch, old.epoch + 1);
    for (int prepared = 0; prepared <= 1; prepared++) {
        if (prepared)
            bench_must_write(b->q, QUEUE_PREPARE, &now);
        for (size_t i = 0; i < COUNT(ops); i++)
            for (int64_t epoch = -1; epoch <= now.epoch + 1; epoch++) {
                QueueRecord before = bench_find(b->q, "e", b->arena), after;
                QueueWrite write = bench_write_of(ops[i].op, &old);

                if (epoch == now.epoch)
                    continue;
                write.epoch = epoch;
                write.attempt_entry = "{\"n\":1}";
                if (bench_write(b->q, &write) != QUEUE_NOT_MINE)
                    fail_msg("%s with epoch %d is written", ops[i].name, (int)epoch);
                after = bench_find(b->q, "e", b->arena);
                assert_same_record(ops[i].name, &before, &after);
            }
    }
    old.id = "nobody";
    for (size_t i = 0; i < COUNT(ops); i++) {
        QueueWrite write = bench_write_of(ops[i].op, &old);

        assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    }
}

/* Many in one group, each with its own verdict. */
static void
test_group(void **state)
{
    Bench *b = *state;
    QueueRecord one = bench_bring(b->q, "g1", QUEUE_RUNNING, b->arena);
    QueueRecord two = bench_bring(b->q, "g2", QUEUE_RUNNING, b->arena);
    QueueWrite write[] = {bench_write_of(QUEUE_PREPARE, &one), bench_write_of(QUEUE_FAIL, &two),
        bench_write_of(QUEUE_COMPLETE, &one), bench_write_of(QUEUE_RENEW, &two),
        bench_write_of(QUEUE_FAIL, &one)};
    const QueueVerdict want[] = {
        QUEUE_WRITTEN, QUEUE_WRITTEN, QUEUE_WRITTEN, QUEUE_NOT_MINE, QUEUE_NOT_MINE};
    Err e = {0};

    bench_must(bench->kind->write(b->q, write, COUNT(write), &e), "write", &e);
    for (size_t i = 0; i < COUNT(write); i++)
        assert_int_equal(write[i].verdict, want[i]);
    assert_int_equal(bench_find(b->q, "g1", b->arena).phase, QUEUE_COMPLETED);
    assert_int_equal(bench_find(b->q, "g2", b->arena).phase, QUEUE_FAILED);
    bench_must(bench->kind->write(b->q, write, 0, &e), "write", &e);
}

static void
test_progress(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "p", QUEUE_RUNNING, b->arena), got;
    QueueWrite write = bench_write_of(QUEUE_PROGRESS, &r);

    write.rows_estimated = 5000;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    got = bench_find(b->q, "p", b->arena);
    assert_int_equal(got.stage, STAGE_STREAMING);
    assert_int_equal(got.progress, 55);
    assert_int_equal(got.rows, 1000);
    assert_int_equal(got.bytes, 20000);
    assert_int_equal(got.peak_bytes, 5 << 20);
    assert_int_equal(got.rows_estimated, 5000);
    assert_true(got.first_row_us > 0 && got.last_row_us == 0);
    assert_true(got.heartbeat_us >= r.heartbeat_us);
    /* What was reached stays reached. */
    write.progress = 20;
    write.stage = STAGE_QUERYING;
    write.peak_bytes = 1;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    got = bench_find(b->q, "p", b->arena);
    assert_int_equal(got.progress, 55);
    assert_int_equal(got.stage, STAGE_STREAMING);
    assert_int_equal(got.peak_bytes, 5 << 20);
    bench_must_write(b->q, QUEUE_UPLOAD, &r);
    bench_same_text("upload", bench_find(b->q, "p", b->arena).upload, "up-1");
}

static void
test_complete(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "c", QUEUE_RUNNING, b->arena), got;
    QueueWrite write = bench_write_of(QUEUE_COMPLETE, &r);

    bench_must_write(b->q, QUEUE_PREPARE, &r);
    got = bench_find(b->q, "c", b->arena);
    assert_int_equal(got.phase, QUEUE_PREPARED);
    bench_same_text("key", got.key, "c");
    bench_same_text("sealed", got.sealed, "{\"sealed\":1}");
    bench_same_text("sha256", got.sha256, "0123");
    assert_int_equal(got.rows, 1000);
    assert_int_equal(got.bytes, 20000);
    assert_int_equal(got.stage, STAGE_FINISHING);
    assert_true(got.progress >= 70 && got.progress < 100);
    assert_true(got.first_row_us > 0 && got.last_row_us > 0);
    assert_int_equal(got.ended_us, 0);
    write.attempt_entry = "{\"n\":1}";
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    got = bench_find(b->q, "c", b->arena);
    assert_int_equal(got.phase, QUEUE_COMPLETED);
    assert_int_equal(got.progress, 100);
    assert_int_equal(got.rows, 1000);
    bench_same_text("result", got.result, "{\"columns\":[]}");
    bench_same_text("attempts", got.attempts, "[{\"n\":1}]");
    assert_int_equal(got.retain_us, 4102444800000000);
    assert_true(got.ended_us >= got.started_us);
    assert_null(got.error_code);
    assert_null(got.owner);
    assert_int_equal(bench_count(b->q).running, 0);
}

static void
test_unprepare(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "u", QUEUE_PREPARED, b->arena), got;

    bench_must_write(b->q, QUEUE_UNPREPARE, &r);
    got = bench_find(b->q, "u", b->arena);
    assert_int_equal(got.phase, QUEUE_RUNNING);
    assert_int_equal(got.epoch, r.epoch);
    assert_null(got.key);
    assert_null(got.sealed);
    bench_must_write(b->q, QUEUE_PREPARE, &r);
    bench_must_write(b->q, QUEUE_COMPLETE, &r);
}

static void
test_fail(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "f", QUEUE_RUNNING, b->arena), got;
    QueueWrite write = bench_write_of(QUEUE_FAIL, &r);

    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    got = bench_find(b->q, "f", b->arena);
    assert_int_equal(got.phase, QUEUE_FAILED);
    bench_same_text("error_code", got.error_code, "source-timeout");
    bench_same_text("error", got.error, "The database did not answer in time");
    bench_same_text("error_detail", got.error_detail, "no answer");
    assert_true(got.ended_us > 0);
    assert_int_equal(got.stage, STAGE_STREAMING);
    assert_int_equal(got.rows, 1000);
    assert_true(got.progress < 100);
    assert_null(got.key);
}

static void
test_retry(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "r", QUEUE_RUNNING, b->arena), got;
    QueueWrite write = bench_write_of(QUEUE_PROGRESS, &r);
    QueueTake take = bench_wants(1);

    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    write = bench_write_of(QUEUE_RETRY, &r);
    write.available_us = time_wall_us() + 500000;
    write.attempt_entry = "{\"n\":1}";
    write.error_code = "memory-limit";
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    got = bench_find(b->q, "r", b->arena);
    assert_int_equal(got.phase, QUEUE_QUEUED);
    assert_int_equal(got.progress, 55);
    assert_int_equal(got.attempt, 1);
    assert_int_equal(got.memory_limits, 1);
    assert_int_equal(got.available_us, write.available_us);
    assert_int_equal(got.started_us, r.started_us);
    bench_same_text("error_code", got.error_code, "memory-limit");
    assert_int_equal(bench_count(b->q).depth, 1);
    assert_int_equal(bench_take(b->q, &take, &got, b->arena), 0);
    bench_sleep_ms(550);
    got = bench_take_one(b->q, "r", b->arena);
    assert_int_equal(got.attempt, 2);
    assert_int_equal(got.epoch, 2);
    assert_int_equal(got.started_us, r.started_us);
    assert_true(got.attempt_us > r.attempt_us);
    assert_int_equal(got.progress, 55);
    assert_int_equal(got.rows, 0);
    assert_int_equal(got.stage, STAGE_STARTING);
    write = bench_write_of(QUEUE_FAIL, &got);
    write.attempt_entry = "{\"n\":2}";
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    bench_same_text("attempts", bench_find(b->q, "r", b->arena).attempts, "[{\"n\":1},{\"n\":2}]");
}

static void
test_give_back(void **state)
{
    Bench *b = *state;
    QueueRecord r, got;

    bench_put_new(b->q, "first");
    r = bench_take_one(b->q, "first", b->arena);
    bench_put_new(b->q, "second");
    bench_must_write(b->q, QUEUE_GIVE_BACK, &r);
    got = bench_find(b->q, "first", b->arena);
    assert_int_equal(got.phase, QUEUE_QUEUED);
    assert_int_equal(got.attempt, 0);
    assert_int_equal(got.give_backs, 1);
    assert_null(got.owner);
    /* At once, and before those that came after it. */
    got = bench_take_one(b->q, "first", b->arena);
    assert_int_equal(got.attempt, 1);
    assert_int_equal(got.epoch, 2);
    assert_int_equal(got.started_us, r.started_us);
}

/* --- leases --- */

static void
test_leases(void **state)
{
    Bench *b = *state;
    QueueTake take = bench_wants(1);
    const QueueFilter over = {.lease_over = true};
    QueueWrite write;
    QueueRecord r;

    bench_put_new(b->q, "l");
    take.lease_ms = 500;
    assert_int_equal(bench_take(b->q, &take, &r, b->arena), 1);
    assert_string_equal(bench_visit(b->q, &over).ids, "");
    write = bench_write_of(QUEUE_FAIL, &r);
    write.if_lease_over = true;
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    bench_sleep_ms(550);
    assert_string_equal(bench_visit(b->q, &over).ids, "l ");
    assert_true(bench_find(b->q, "l", b->arena).lease_is_over);
    /* Late, but nobody else has it: the lease goes on. */
    bench_must_write(b->q, QUEUE_RENEW, &r);
    assert_string_equal(bench_visit(b->q, &over).ids, "");
    assert_false(bench_find(b->q, "l", b->arena).lease_is_over);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    /* Progress renews as well. */
    write = bench_write_of(QUEUE_PROGRESS, &r);
    write.lease_ms = 1;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    bench_sleep_ms(5);
    assert_string_equal(bench_visit(b->q, &over).ids, "l ");
    /* What only runs is not handed out again: who takes it over decides what becomes of it. */
    assert_int_equal(bench_take(b->q, &take, &r, b->arena), 0);
    write = bench_write_of(QUEUE_RETRY, &r);
    write.epoch = 1;
    write.id = "l";
    write.if_lease_over = true;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    assert_string_equal(bench_visit(b->q, &over).ids, "");
}

static void
test_prepared_is_taken_over(void **state)
{
    Bench *b = *state;
    QueueTake take = bench_wants(1);
    QueueWrite write;
    QueueRecord old, r, none;

    bench_put_new(b->q, "p");
    old = bench_take_one(b->q, "p", b->arena);
    write = bench_write_of(QUEUE_PREPARE, &old);
    write.lease_ms = 500;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    bench_put_new(b->q, "q");
    (void)bench_take_one(b->q, "q", b->arena);
    assert_int_equal(bench_take(b->q, &take, &none, b->arena), 0);
    bench_sleep_ms(550);
    take.owner.name = "celery@other";
    assert_int_equal(bench_take(b->q, &take, &r, b->arena), 1);
    assert_string_equal(r.id, "p");
    assert_int_equal(r.phase, QUEUE_PREPARED);
    assert_int_equal(r.epoch, old.epoch + 1);
    assert_int_equal(r.attempt, old.attempt);
    assert_int_equal(r.attempt_us, old.attempt_us);
    bench_same_text("owner", r.owner, "celery@other");
    bench_same_text("key", r.key, "p");
    bench_same_text("sealed", r.sealed, "{\"sealed\":1}");
    bench_same_text("sha256", r.sha256, "0123");
    assert_int_equal(r.rows, 1000);
    assert_int_equal(bench_take(b->q, &take, &none, b->arena), 0);
    write = bench_write_of(QUEUE_COMPLETE, &old);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    bench_must_write(b->q, QUEUE_COMPLETE, &r);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
}

/* What is sealed may have been published already: it never runs again, whoever lets go of it. */
static void
test_prepared_stays_prepared(void **state)
{
    Bench *b = *state;
    QueueTake take = bench_wants(1);
    QueueRecord r = bench_bring(b->q, "s", QUEUE_PREPARED, b->arena), next, none;
    QueueWrite write = bench_write_of(QUEUE_RETRY, &r);

    write.available_us = time_wall_us() + 500000;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    next = bench_find(b->q, "s", b->arena);
    assert_int_equal(next.phase, QUEUE_PREPARED);
    assert_int_equal(next.attempt, 2); /* it has used one up, so that it ends some day */
    assert_int_equal(bench_count(b->q).depth, 0);
    assert_int_equal(bench_take(b->q, &take, &none, b->arena), 0);
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN); /* nobody has it yet */
    bench_sleep_ms(550);
    assert_int_equal(bench_take(b->q, &take, &next, b->arena), 1);
    assert_int_equal(next.phase, QUEUE_PREPARED);
    bench_same_text("sealed", next.sealed, "{\"sealed\":1}");
    bench_same_text("key", next.key, "s");
    assert_int_equal(next.epoch, r.epoch + 1);
    bench_must_write(b->q, QUEUE_GIVE_BACK, &next);
    r = bench_find(b->q, "s", b->arena);
    assert_int_equal(r.attempt, next.attempt);
    assert_int_equal(r.give_backs, 1);
    assert_int_equal(bench_take(b->q, &take, &next, b->arena), 1);
    assert_int_equal(next.phase, QUEUE_PREPARED);
    bench_must_write(b->q, QUEUE_COMPLETE, &next);
}

/* --- cancelling --- */

static void
test_cancel(void **state)
{
    static const struct {
        QueuePhase phase;
        QueueCancelOutcome first, second;
        QueuePhase then;
    } cases[] = {
        {QUEUE_QUEUED, QUEUE_CANCEL_DONE, QUEUE_CANCEL_ALREADY, QUEUE_CANCELLED},
        {QUEUE_RUNNING, QUEUE_CANCEL_NOTED, QUEUE_CANCEL_ALREADY, QUEUE_RUNNING},
        {QUEUE_PREPARED, QUEUE_CANCEL_TOO_LATE, QUEUE_CANCEL_TOO_LATE, QUEUE_PREPARED},
        {QUEUE_COMPLETED, QUEUE_CANCEL_TOO_LATE, QUEUE_CANCEL_TOO_LATE, QUEUE_COMPLETED},
        {QUEUE_EXPIRED, QUEUE_CANCEL_TOO_LATE, QUEUE_CANCEL_TOO_LATE, QUEUE_EXPIRED},
        {QUEUE_FAILED, QUEUE_CANCEL_TOO_LATE, QUEUE_CANCEL_TOO_LATE, QUEUE_FAILED},
        {QUEUE_CANCELLED, QUEUE_CANCEL_ALREADY, QUEUE_CANCEL_ALREADY, QUEUE_CANCELLED},
    };
    Bench *b = *state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *name = queue_phase_name(cases[i].phase);
        QueueRecord r = bench_bring(b->q, name, cases[i].phase, b->arena);

        if (bench_cancel(b->q, name) != cases[i].first ||
            bench_cancel(b->q, name) != cases[i].second)
            fail_msg("cancel while %s", name);
        r = bench_find(b->q, name, b->arena);
        assert_int_equal(r.phase, cases[i].then);
        assert_int_equal(r.cancel_us > 0,
            cases[i].first == QUEUE_CANCEL_DONE || cases[i].first == QUEUE_CANCEL_NOTED);
        if (r.cancel_us > 0) {
            bench_same_text("by", r.cancel_by, "user_123");
            bench_same_text("reason", r.cancel_reason, "no need");
        }
        if (cases[i].phase == QUEUE_QUEUED) {
            bench_same_text("error_code", r.error_code, "cancelled");
            assert_true(r.ended_us > 0);
            assert_int_equal(bench_count(b->q).depth, 0);
        }
    }
    assert_int_equal(bench_cancel(b->q, "nobody"), QUEUE_CANCEL_UNKNOWN);
}

/* The worker hears of it, and nothing that keeps the task alive is written any more. */
static void
test_cancel_of_running(void **state)
{
    static const QueueWriteOp refused[] = {QUEUE_PREPARE, QUEUE_RETRY, QUEUE_GIVE_BACK};
    const QueueFilter asked = {.cancel_asked = true};
    const QueueTotal total = {"kept_alive", 1, false};
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "c", QUEUE_RUNNING, b->arena);
    QueueWrite write = bench_write_of(QUEUE_PROGRESS, &r);
    Err e = {0};

    assert_string_equal(bench_visit(b->q, &asked).ids, "");
    assert_int_equal(bench_cancel(b->q, "c"), QUEUE_CANCEL_NOTED);
    assert_string_equal(bench_visit(b->q, &asked).ids, "c ");
    bench_must(bench->kind->write(b->q, &write, 1, &e), "write", &e);
    assert_int_equal(write.verdict, QUEUE_WRITTEN);
    assert_true(write.cancel_asked);
    for (size_t i = 0; i < COUNT(refused); i++) {
        write = bench_write_of(refused[i], &r);
        write.total = &total;
        write.totals = 1;
        assert_int_equal(bench_write(b->q, &write), QUEUE_CANCEL_ASKED);
        assert_int_equal(bench_find(b->q, "c", b->arena).phase, QUEUE_RUNNING);
    }
    assert_true(bench_total(b->q, "kept_alive") == 0);
    bench_must_write(b->q, QUEUE_CANCELLED_NOW, &r);
    assert_int_equal(bench_find(b->q, "c", b->arena).phase, QUEUE_CANCELLED);
    assert_string_equal(bench_visit(b->q, &asked).ids, "");
}

int
queue_writes(void)
{
    const struct CMUnitTest tests[] = {
        CHECK(test_writes_by_phase),
        CHECK(test_old_epochs),
        CHECK(test_group),
        CHECK(test_progress),
        CHECK(test_complete),
        CHECK(test_unprepare),
        CHECK(test_fail),
        CHECK(test_retry),
        CHECK(test_give_back),
        CHECK(test_leases),
        CHECK(test_prepared_is_taken_over),
        CHECK(test_prepared_stays_prepared),
        CHECK(test_cancel),
        CHECK(test_cancel_of_running),
    };

    return cmocka_run_group_tests_name("queue writes", tests, NULL, NULL);
}
