#include "test/contract/queue_contract.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/process.h"
#include "base/time.h"
#include "test/contract/queue_bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum { TAKE_MOST = 16 };

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

const QueueContract *bench;

/* --- in few words --- */

static void
must(bool ok, const char *what, const Err *e)
{
    char chain[1024];

    if (!ok)
        fail_msg("%s: %s", what, err_chain(e, chain, sizeof chain));
}

static Queue *
open_with(const QueueSpec *spec)
{
    Err e = {0};
    Queue *q = bench->kind->open(spec, &e);

    must(q != NULL, "open", &e);
    assert_ptr_equal(q->kind, bench->kind);
    return q;
}

Queue *
bench_open(const char *place)
{
    QueueSpec spec = bench->spec(place);

    return open_with(&spec);
}

Queue *
bench_open_limited(const char *place, uint64_t limit)
{
    QueueSpec spec = bench->spec(place);

    spec.limit = limit;
    return open_with(&spec);
}

void
bench_close(Queue *q)
{
    bench->kind->close(q);
}

QueuePut
bench_task(const char *id)
{
    return (QueuePut){.id = id,
        .task = QUEUE_TASK_EXPORT,
        .user_id = "user_123",
        .export_type = "employee_metrics",
        .source = "graph",
        .format = "csv",
        .request = "{\"a\":\"\xc3\xa9\"}",
        .version = "sha256:00",
        .request_id = "r-1",
        .queue = "celery",
        .priority = 3,
        .max_attempts = 3,
        .created_us = time_wall_us()};
}

void
bench_put(Queue *q, QueuePut *put, size_t puts)
{
    Arena *arena = arena_new(1 << 20);
    Err e = {0};

    for (size_t i = 0; i < puts; i++)
        put[i].verdict = (QueuePutVerdict)99;
    must(bench->kind->put(q, put, puts, arena, &e), "put", &e);
    arena_free(arena);
}

void
bench_put_new(Queue *q, const char *id)
{
    QueuePut put = bench_task(id);

    bench_put(q, &put, 1);
    assert_int_equal(put.verdict, QUEUE_PUT_NEW);
}

QueueOwner
bench_owner(void)
{
    return (QueueOwner){"celery@test", getpid(), process_born(getpid())};
}

QueueTake
bench_wants(size_t wanted)
{
    return (QueueTake){.owner = bench_owner(), .wanted = wanted, .lease_ms = BENCH_LEASE_MS};
}

size_t
bench_take(Queue *q, const QueueTake *take, QueueRecord *record, Arena *arena)
{
    size_t taken = 99;
    Err e = {0};

    assert_true(take->wanted <= TAKE_MOST);
    must(bench->kind->take(q, take, record, &taken, arena, &e), "take", &e);
    assert_true(taken <= take->wanted);
    return taken;
}

QueueRecord
bench_take_one(Queue *q, const char *id, Arena *arena)
{
    QueueTake take = bench_wants(1);
    QueueRecord record;

    if (bench_take(q, &take, &record, arena) != 1)
        fail_msg("%s cannot be taken", id);
    assert_string_equal(record.id, id);
    return record;
}

QueueRecord
bench_find(Queue *q, const char *id, Arena *arena)
{
    QueueRecord record;
    Err e = {0};

    must(bench->kind->find(q, id, arena, &record, &e), id, &e);
    return record;
}

QueueVerdict
bench_write(Queue *q, const QueueWrite *write)
{
    QueueWrite one = *write;
    Err e = {0};

    one.verdict = (QueueVerdict)99;
    must(bench->kind->write(q, &one, 1, &e), "write", &e);
    return one.verdict;
}

QueueWrite
bench_write_of(QueueWriteOp op, const QueueRecord *record)
{
    return (QueueWrite){.op = op,
        .id = record->id,
        .epoch = record->epoch,
        .stage = STAGE_STREAMING,
        .progress = 55,
        .rows = 1000,
        .bytes = 20000,
        .peak_bytes = 5 << 20,
        .rows_estimated = -1,
        .lease_ms = BENCH_LEASE_MS,
        .upload = "up-1",
        .key = record->id, /* one for each task, as keys are */
        .sealed = "{\"sealed\":1}",
        .sha256 = "0123",
        .result = "{\"columns\":[]}",
        .retain_us = 4102444800000000, /* 2100 */
        .error_code = "source-timeout",
        .error = "The database did not answer in time",
        .error_detail = "no answer"};
}

static void
must_write(Queue *q, QueueWriteOp op, const QueueRecord *record)
{
    QueueWrite write = bench_write_of(op, record);

    if (bench_write(q, &write) != QUEUE_WRITTEN)
        fail_msg("write %d of %s was not written", (int)op, record->id);
}

QueueRecord
bench_bring(Queue *q, const char *id, QueuePhase phase, Arena *arena)
{
    QueueRecord record;
    Err e = {0};

    bench_put_new(q, id);
    if (phase == QUEUE_QUEUED)
        return bench_find(q, id, arena);
    record = bench_take_one(q, id, arena);
    if (phase == QUEUE_FAILED)
        must_write(q, QUEUE_FAIL, &record);
    if (phase == QUEUE_CANCELLED)
        must_write(q, QUEUE_CANCELLED_NOW, &record);
    if (phase == QUEUE_PREPARED || phase == QUEUE_COMPLETED || phase == QUEUE_EXPIRED)
        must_write(q, QUEUE_PREPARE, &record);
    if (phase == QUEUE_COMPLETED || phase == QUEUE_EXPIRED)
        must_write(q, QUEUE_COMPLETE, &record);
    if (phase == QUEUE_EXPIRED)
        must(bench->kind->expire(q, &record.id, 1, &e), "expire", &e);
    assert_int_equal(bench_find(q, id, arena).phase, phase);
    return record;
}

typedef struct {
    const char *series;
    double value;
} Wanted;

static bool
look_for_series(const char *series, double value, void *with)
{
    Wanted *wanted = with;

    if (strcmp(series, wanted->series) == 0)
        wanted->value = value;
    return true;
}

double
bench_total(Queue *q, const char *series)
{
    Wanted wanted = {series, 0};
    Err e = {0};

    must(bench->kind->visit_totals(q, look_for_series, &wanted, &e), "visit_totals", &e);
    return wanted.value;
}

void
bench_sleep_ms(int64_t ms)
{
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&wait, NULL);
}

/* Each check has a queue and an arena of its own. */
typedef struct {
    const char *place;
    Queue *q;
    Arena *arena;
} Bench;

static int
set_up(void **state)
{
    static Bench b;

    b.place = bench->fresh();
    b.arena = arena_new(16 << 20);
    b.q = bench_open(b.place);
    *state = &b;
    return 0;
}

static int
tear_down(void **state)
{
    Bench *b = *state;

    bench_close(b->q);
    arena_free(b->arena);
    return 0;
}

static int64_t
cancel(Queue *q, const char *id)
{
    QueueCancel one = {.id = id,
        .by = "user_123",
        .reason = "no need",
        .now_us = time_wall_us(),
        .outcome = (QueueCancelOutcome)99};
    Err e = {0};

    must(bench->kind->cancel(q, &one, 1, &e), "cancel", &e);
    return one.outcome;
}

static QueueCounts
count(Queue *q)
{
    QueueCounts counts;
    Err e = {0};

    must(bench->kind->count(q, &counts, &e), "count", &e);
    return counts;
}

static void
assert_same_text(const char *name, const char *got, const char *want)
{
    if ((got == NULL) != (want == NULL) || (got && strcmp(got, want) != 0))
        fail_msg("%s is %s, not %s", name, got ? got : "NULL", want ? want : "NULL");
}

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
    assert_same_text("id", r.id, "t1");
    assert_same_text("task", r.task, QUEUE_TASK_EXPORT);
    assert_same_text("user_id", r.user_id, "user_123");
    assert_same_text("export_type", r.export_type, "employee_metrics");
    assert_same_text("source", r.source, "graph");
    assert_same_text("format", r.format, "csv");
    assert_same_text("request", r.request, put.request);
    assert_same_text("version", r.version, "sha256:00");
    assert_same_text("request_id", r.request_id, "r-1");
    assert_same_text("queue", r.queue, "celery");
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
    assert_int_equal(count(b->q).depth, 1);
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
    assert_int_equal(count(b->q).depth, 2);
    assert_true(bench_total(b->q, "puts") == 2);
    /* And also when it is over and done. */
    (void)bench_bring(b->q, "c", QUEUE_QUEUED, b->arena);
    assert_int_equal(cancel(b->q, "c"), QUEUE_CANCEL_DONE);
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

    must(bench->kind->put(b->q, put, COUNT(put), b->arena, &e), "put", &e);
    for (size_t i = 0; i < COUNT(put); i++)
        assert_int_equal(put[i].verdict, want[i]);
    assert_string_equal(put[1].replay, "{\"task_id\":\"i1\"}");
    assert_int_equal(count(b->q).depth, 3);
    assert_false(bench->kind->find(b->q, "i2", b->arena, &r, &e));
    err_clear(&e);
    /* Later, by another handle, even when the task has ended. */
    assert_int_equal(cancel(b->q, "i4"), QUEUE_CANCEL_DONE);
    bench_close(b->q);
    b->q = bench_open(b->place);
    must(bench->kind->put(b->q, &later, 1, b->arena, &e), "put", &e);
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
    assert_int_equal(cancel(small, "f1"), QUEUE_CANCEL_DONE);
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
    assert_int_equal(count(small).depth, 3);
    /* What runs does not wait; what comes back does, limit or not. */
    r = bench_take_one(small, "1", b->arena);
    assert_int_equal(count(small).depth, 2);
    bench_put(small, put + 3, 1);
    assert_int_equal(put[3].verdict, QUEUE_PUT_NEW);
    must_write(small, QUEUE_GIVE_BACK, &r);
    assert_int_equal(count(small).depth, 4);
    assert_int_equal(cancel(small, "2"), QUEUE_CANCEL_DONE);
    assert_int_equal(count(small).depth, 3);
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
    QueueRecord r[TAKE_MOST];

    put[0].priority = 9;
    put[2].priority = 0;
    bench_put(b->q, put, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(bench_find(b->q, want[i], b->arena).position, i + 1);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "high");
    take.wanted = TAKE_MOST;
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
    assert_int_equal(count(b->q).running, 1);
    assert_int_equal(count(b->q).depth, 0);
}

static void
test_delayed(void **state)
{
    Bench *b = *state;
    QueuePut put[] = {bench_task("soon"), bench_task("later"), bench_task("now")};
    int64_t now_us = time_wall_us(), due_us = -1;
    QueueTake take = bench_wants(TAKE_MOST);
    QueueRecord r[TAKE_MOST];
    Err e = {0};

    must(bench->kind->next_due(b->q, &due_us, &e), "next_due", &e);
    assert_int_equal(due_us, 0);
    put[0].available_us = now_us + 120000;
    put[1].available_us = now_us + 3600000000;
    put[2].available_us = now_us - 1000;
    bench_put(b->q, put, 3);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "now");
    must(bench->kind->next_due(b->q, &due_us, &e), "next_due", &e);
    assert_int_equal(due_us, put[0].available_us);
    assert_int_equal(bench_find(b->q, "soon", b->arena).available_us, put[0].available_us);
    assert_int_equal(bench_find(b->q, "soon", b->arena).position, 0);
    assert_int_equal(count(b->q).oldest_us, 0);
    bench_sleep_ms(150);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "soon");
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
    must(bench->kind->next_due(b->q, &due_us, &e), "next_due", &e);
    assert_int_equal(due_us, put[1].available_us);
}

static void
test_queues(void **state)
{
    static const char *const others[] = {"rowferry", "big", NULL};
    Bench *b = *state;
    QueuePut put[] = {bench_task("c"), bench_task("r"), bench_task("b")};
    QueueTake take = bench_wants(TAKE_MOST);
    QueueRecord r[TAKE_MOST];

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
    QueueRecord first, r[TAKE_MOST];

    put[3].source = put[4].source = put[5].source = "timescale";
    put[4].export_type = put[5].export_type = "big";
    bench_put(b->q, put, COUNT(put));
    take.limit = limits;
    take.limits = COUNT(limits);
    assert_int_equal(bench_take(other, &take, &first, b->arena), 1);
    assert_string_equal(first.id, "g1");
    take.wanted = TAKE_MOST;
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 3);
    assert_string_equal(r[0].id, "g2");
    assert_string_equal(r[1].id, "t1");
    assert_string_equal(r[2].id, "b1");
    assert_int_equal(bench_take(b->q, &take, r + 3, b->arena), 0);
    must_write(other, QUEUE_FAIL, &first);
    assert_int_equal(bench_take(b->q, &take, r + 3, b->arena), 1);
    assert_string_equal(r[3].id, "g3");
    /* What is prepared still works on the source's behalf. */
    must_write(b->q, QUEUE_PREPARE, &r[2]);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 0);
    must_write(b->q, QUEUE_COMPLETE, &r[2]);
    assert_int_equal(bench_take(b->q, &take, r, b->arena), 1);
    assert_string_equal(r[0].id, "b2");
    bench_close(other);
}

static void
test_many_limits(void **state)
{
    enum { LIMITS = 300 };
    Bench *b = *state;
    static char name[LIMITS][24];
    QueueLimit limits[LIMITS];
    QueuePut put[] = {bench_task("m1"), bench_task("m2")};
    QueueTake take = bench_wants(TAKE_MOST);
    QueueRecord r[TAKE_MOST];

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
    assert_same_text(name, c->key, a->key);
    assert_same_text(name, c->sealed, a->sealed);
    assert_same_text(name, c->result, a->result);
    assert_same_text(name, c->error_code, a->error_code);
    assert_same_text(name, c->attempts, a->attempts);
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
                (void)cancel(b->q, id);
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

    must_write(b->q, QUEUE_GIVE_BACK, &old);
    now = bench_take_one(b->q, "e", b->arena);
    assert_int_equal(now.epoch, old.epoch + 1);
    for (int prepared = 0; prepared <= 1; prepared++) {
        if (prepared)
            must_write(b->q, QUEUE_PREPARE, &now);
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

    must(bench->kind->write(b->q, write, COUNT(write), &e), "write", &e);
    for (size_t i = 0; i < COUNT(write); i++)
        assert_int_equal(write[i].verdict, want[i]);
    assert_int_equal(bench_find(b->q, "g1", b->arena).phase, QUEUE_COMPLETED);
    assert_int_equal(bench_find(b->q, "g2", b->arena).phase, QUEUE_FAILED);
    must(bench->kind->write(b->q, write, 0, &e), "write", &e);
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
    must_write(b->q, QUEUE_UPLOAD, &r);
    assert_same_text("upload", bench_find(b->q, "p", b->arena).upload, "up-1");
}

static void
test_complete(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "c", QUEUE_RUNNING, b->arena), got;
    QueueWrite write = bench_write_of(QUEUE_COMPLETE, &r);

    must_write(b->q, QUEUE_PREPARE, &r);
    got = bench_find(b->q, "c", b->arena);
    assert_int_equal(got.phase, QUEUE_PREPARED);
    assert_same_text("key", got.key, "c");
    assert_same_text("sealed", got.sealed, "{\"sealed\":1}");
    assert_same_text("sha256", got.sha256, "0123");
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
    assert_same_text("result", got.result, "{\"columns\":[]}");
    assert_same_text("attempts", got.attempts, "[{\"n\":1}]");
    assert_int_equal(got.retain_us, 4102444800000000);
    assert_true(got.ended_us >= got.started_us);
    assert_null(got.error_code);
    assert_null(got.owner);
    assert_int_equal(count(b->q).running, 0);
}

static void
test_unprepare(void **state)
{
    Bench *b = *state;
    QueueRecord r = bench_bring(b->q, "u", QUEUE_PREPARED, b->arena), got;

    must_write(b->q, QUEUE_UNPREPARE, &r);
    got = bench_find(b->q, "u", b->arena);
    assert_int_equal(got.phase, QUEUE_RUNNING);
    assert_int_equal(got.epoch, r.epoch);
    assert_null(got.key);
    assert_null(got.sealed);
    must_write(b->q, QUEUE_PREPARE, &r);
    must_write(b->q, QUEUE_COMPLETE, &r);
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
    assert_same_text("error_code", got.error_code, "source-timeout");
    assert_same_text("error", got.error, "The database did not answer in time");
    assert_same_text("error_detail", got.error_detail, "no answer");
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
    write.available_us = time_wall_us() + 120000;
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
    assert_same_text("error_code", got.error_code, "memory-limit");
    assert_int_equal(count(b->q).depth, 1);
    assert_int_equal(bench_take(b->q, &take, &got, b->arena), 0);
    bench_sleep_ms(150);
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
    assert_same_text("attempts", bench_find(b->q, "r", b->arena).attempts, "[{\"n\":1},{\"n\":2}]");
}

static void
test_give_back(void **state)
{
    Bench *b = *state;
    QueueRecord r, got;

    bench_put_new(b->q, "first");
    r = bench_take_one(b->q, "first", b->arena);
    bench_put_new(b->q, "second");
    must_write(b->q, QUEUE_GIVE_BACK, &r);
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

typedef struct {
    char ids[256]; /* "a b ": in the order of the visit */
    size_t stop_at, visited;
} Seen;

static bool
note_id(const QueueRecord *record, void *with, Err *e)
{
    Seen *seen = with;
    size_t bytes = strlen(seen->ids);

    snprintf(seen->ids + bytes, sizeof seen->ids - bytes, "%s ", record->id);
    return ++seen->visited != seen->stop_at || err_push(e, ERR_CANCELLED, ERR_HERE, "enough");
}

static Seen
visit(Queue *q, const QueueFilter *filter)
{
    Seen seen = {.ids = ""};
    Err e = {0};

    must(bench->kind->visit(q, filter, note_id, &seen, &e), "visit", &e);
    return seen;
}

static void
test_leases(void **state)
{
    Bench *b = *state;
    QueueTake take = bench_wants(1);
    const QueueFilter over = {.lease_over = true};
    QueueWrite write;
    QueueRecord r;

    bench_put_new(b->q, "l");
    take.lease_ms = 60;
    assert_int_equal(bench_take(b->q, &take, &r, b->arena), 1);
    assert_string_equal(visit(b->q, &over).ids, "");
    write = bench_write_of(QUEUE_FAIL, &r);
    write.if_lease_over = true;
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    bench_sleep_ms(90);
    assert_string_equal(visit(b->q, &over).ids, "l ");
    assert_true(bench_find(b->q, "l", b->arena).lease_is_over);
    /* Late, but nobody else has it: the lease goes on. */
    must_write(b->q, QUEUE_RENEW, &r);
    assert_string_equal(visit(b->q, &over).ids, "");
    assert_false(bench_find(b->q, "l", b->arena).lease_is_over);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    /* Progress renews as well. */
    write = bench_write_of(QUEUE_PROGRESS, &r);
    write.lease_ms = 1;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    bench_sleep_ms(5);
    assert_string_equal(visit(b->q, &over).ids, "l ");
    /* What only runs is not handed out again: who takes it over decides what becomes of it. */
    assert_int_equal(bench_take(b->q, &take, &r, b->arena), 0);
    write = bench_write_of(QUEUE_RETRY, &r);
    write.epoch = 1;
    write.id = "l";
    write.if_lease_over = true;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    assert_string_equal(visit(b->q, &over).ids, "");
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
    write.lease_ms = 80;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    bench_put_new(b->q, "q");
    (void)bench_take_one(b->q, "q", b->arena);
    assert_int_equal(bench_take(b->q, &take, &none, b->arena), 0);
    bench_sleep_ms(120);
    take.owner.name = "celery@other";
    assert_int_equal(bench_take(b->q, &take, &r, b->arena), 1);
    assert_string_equal(r.id, "p");
    assert_int_equal(r.phase, QUEUE_PREPARED);
    assert_int_equal(r.epoch, old.epoch + 1);
    assert_int_equal(r.attempt, old.attempt);
    assert_int_equal(r.attempt_us, old.attempt_us);
    assert_same_text("owner", r.owner, "celery@other");
    assert_same_text("key", r.key, "p");
    assert_same_text("sealed", r.sealed, "{\"sealed\":1}");
    assert_same_text("sha256", r.sha256, "0123");
    assert_int_equal(r.rows, 1000);
    assert_int_equal(bench_take(b->q, &take, &none, b->arena), 0);
    write = bench_write_of(QUEUE_COMPLETE, &old);
    assert_int_equal(bench_write(b->q, &write), QUEUE_NOT_MINE);
    must_write(b->q, QUEUE_COMPLETE, &r);
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

    write.available_us = time_wall_us() + 120000;
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN);
    next = bench_find(b->q, "s", b->arena);
    assert_int_equal(next.phase, QUEUE_PREPARED);
    assert_int_equal(next.attempt, 2); /* it has used one up, so that it ends some day */
    assert_int_equal(count(b->q).depth, 0);
    assert_int_equal(bench_take(b->q, &take, &none, b->arena), 0);
    assert_int_equal(bench_write(b->q, &write), QUEUE_WRITTEN); /* nobody has it yet */
    bench_sleep_ms(150);
    assert_int_equal(bench_take(b->q, &take, &next, b->arena), 1);
    assert_int_equal(next.phase, QUEUE_PREPARED);
    assert_same_text("sealed", next.sealed, "{\"sealed\":1}");
    assert_same_text("key", next.key, "s");
    assert_int_equal(next.epoch, r.epoch + 1);
    must_write(b->q, QUEUE_GIVE_BACK, &next);
    r = bench_find(b->q, "s", b->arena);
    assert_int_equal(r.attempt, next.attempt);
    assert_int_equal(r.give_backs, 1);
    assert_int_equal(bench_take(b->q, &take, &next, b->arena), 1);
    assert_int_equal(next.phase, QUEUE_PREPARED);
    must_write(b->q, QUEUE_COMPLETE, &next);
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

        if (cancel(b->q, name) != cases[i].first || cancel(b->q, name) != cases[i].second)
            fail_msg("cancel while %s", name);
        r = bench_find(b->q, name, b->arena);
        assert_int_equal(r.phase, cases[i].then);
        assert_int_equal(r.cancel_us > 0,
            cases[i].first == QUEUE_CANCEL_DONE || cases[i].first == QUEUE_CANCEL_NOTED);
        if (r.cancel_us > 0) {
            assert_same_text("by", r.cancel_by, "user_123");
            assert_same_text("reason", r.cancel_reason, "no need");
        }
        if (cases[i].phase == QUEUE_QUEUED) {
            assert_same_text("error_code", r.error_code, "cancelled");
            assert_true(r.ended_us > 0);
            assert_int_equal(count(b->q).depth, 0);
        }
    }
    assert_int_equal(cancel(b->q, "nobody"), QUEUE_CANCEL_UNKNOWN);
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

    assert_string_equal(visit(b->q, &asked).ids, "");
    assert_int_equal(cancel(b->q, "c"), QUEUE_CANCEL_NOTED);
    assert_string_equal(visit(b->q, &asked).ids, "c ");
    must(bench->kind->write(b->q, &write, 1, &e), "write", &e);
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
    must_write(b->q, QUEUE_CANCELLED_NOW, &r);
    assert_int_equal(bench_find(b->q, "c", b->arena).phase, QUEUE_CANCELLED);
    assert_string_equal(visit(b->q, &asked).ids, "");
}

/* --- keys and forgetting --- */

static void
test_keys(void **state)
{
    Bench *b = *state;
    const char *const keys[] = {"never", "k", "k"};
    QueueRecord r = bench_bring(b->q, "k", QUEUE_PREPARED, b->arena), got;
    Err e = {0};

    must(bench->kind->find_key(b->q, "k", b->arena, &got, &e), "find_key", &e);
    assert_string_equal(got.id, "k");
    must(bench->kind->expire(b->q, keys, COUNT(keys), &e), "expire", &e);
    assert_int_equal(bench_find(b->q, "k", b->arena).phase, QUEUE_PREPARED);
    must_write(b->q, QUEUE_COMPLETE, &r);
    must(bench->kind->expire(b->q, keys, COUNT(keys), &e), "expire", &e);
    must(bench->kind->find_key(b->q, "k", b->arena, &got, &e), "find_key", &e);
    assert_int_equal(got.phase, QUEUE_EXPIRED);
    assert_int_equal(got.progress, 100);
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
        bench_write_of(QUEUE_PREPARE, &second), bench_write_of(QUEUE_PREPARE, &third)};
    const QueueVerdict want[] = {QUEUE_WRITTEN, QUEUE_KEY_TAKEN, QUEUE_WRITTEN};
    Err e = {0};

    write[1].key = "k";
    write[1].total = &total;
    write[1].totals = 1;
    write[1].attempt_entry = "{}";
    must(bench->kind->write(b->q, write, COUNT(write), &e), "write", &e);
    assert_int_equal(e.links, 0);
    for (size_t i = 0; i < COUNT(write); i++)
        assert_int_equal(write[i].verdict, want[i]);
    got = bench_find(b->q, "z", b->arena);
    assert_int_equal(got.phase, QUEUE_RUNNING);
    assert_null(got.key);
    assert_null(got.attempts);
    assert_true(bench_total(b->q, "taken") == 0);
    must(bench->kind->find_key(b->q, "k", b->arena, &got, &e), "find_key", &e);
    assert_string_equal(got.id, first.id);
}

static size_t
purge(Queue *q, int64_t before_us, size_t most)
{
    size_t purged = 99;
    Err e = {0};

    must(bench->kind->purge(q, before_us, most, &purged, &e), "purge", &e);
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
    must(bench->kind->add(b->q, more, COUNT(more), &e), "add", &e);
    assert_true(bench_total(b->q, "n") == 3.5);
    assert_true(bench_total(b->q, "gauge") == 5);
    must(bench->kind->cancel(b->q, &stop, 1, &e), "cancel", &e);
    must(bench->kind->cancel(b->q, &stop, 1, &e), "cancel", &e);
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
    QueueCounts counts = count(b->q);
    Err e = {0};

    assert_int_equal(counts.depth + counts.running + counts.workers, 0);
    assert_int_equal(counts.oldest_us, 0);
    put[0].created_us = 2000;
    put[0].priority = 9;
    put[1].created_us = 3000;
    put[2].created_us = 1000;
    put[2].available_us = time_wall_us() + 3600000000;
    bench_put(b->q, put, 3);
    assert_int_equal(count(b->q).depth, 3);
    assert_int_equal(count(b->q).oldest_us, 2000);
    must(bench->kind->heartbeat(b->q, &me, &e), "heartbeat", &e);
    must(bench->kind->heartbeat(b->q, &me, &e), "heartbeat", &e);
    assert_int_equal(count(b->q).workers, 1);
    must(bench->kind->leave(b->q, &ghost, &e), "leave", &e);
    assert_int_equal(count(b->q).workers, 1);
    must(bench->kind->leave(b->q, &me, &e), "leave", &e);
    assert_int_equal(count(b->q).workers, 0);
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
    assert_int_equal(visit(b->q, &(QueueFilter){0}).visited, 4);
    assert_int_equal(visit(b->q, &(QueueFilter){.limit = 3}).visited, 3);
    assert_int_equal(visit(b->q, &(QueueFilter){.user_id = "user_123"}).visited, 4);
    assert_int_equal(visit(b->q, &(QueueFilter){.user_id = "somebody"}).visited, 0);
    assert_int_equal(visit(b->q, &(QueueFilter){.owner = "celery@test"}).visited, 2);
    assert_int_equal(visit(b->q, &(QueueFilter){.owner = "celery@other"}).visited, 0);
    assert_false(bench->kind->visit(b->q, &(QueueFilter){0}, note_id, &seen, &e));
    assert_int_equal(e.code, ERR_CANCELLED);
    assert_int_equal(seen.visited, 2);
    /* The handle is as good as before. */
    assert_int_equal(visit(b->q, &(QueueFilter){0}).visited, 4);
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

    must(bench->kind->last_due(b->q, "sch", &due_us, &e), "last_due", &e);
    assert_int_equal(due_us, 0);
    must(bench->kind->fire(b->q, &fire, &e), "fire", &e); /* only notes it */
    assert_true(fire.fired);
    assert_int_equal(count(b->q).depth, 0);
    fire = (QueueFire){.schedule = "sch", .due_us = 2000, .put = &put};
    must(bench->kind->fire(b->q, &fire, &e), "fire", &e);
    assert_true(fire.fired);
    assert_int_equal(put.verdict, QUEUE_PUT_NEW);
    must(bench->kind->fire(b->q, &fire, &e), "fire", &e);
    assert_false(fire.fired);
    fire.due_us = 1500; /* the clock went back */
    must(bench->kind->fire(b->q, &fire, &e), "fire", &e);
    assert_false(fire.fired);
    must(bench->kind->last_due(b->q, "sch", &due_us, &e), "last_due", &e);
    assert_int_equal(due_us, 2000);
    must(bench->kind->last_due(b->q, "other", &due_us, &e), "last_due", &e);
    assert_int_equal(due_us, 0);
    assert_int_equal(count(b->q).depth, 1);
    /* A full queue is no reason to forget what is due. */
    put.id = "due-2";
    fire = (QueueFire){.schedule = "sch", .due_us = 3000, .put = &put};
    must(bench->kind->fire(full, &fire, &e), "fire", &e);
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
    assert_int_equal(cancel(b->q, "w1"), QUEUE_CANCEL_DONE);
    assert_true(is_woken(sleeper, 1000));
    bench->kind->wake_clear(sleeper);
    bench_put_new(b->q, "w2");
    r = bench_take_one(b->q, "w2", b->arena);
    bench->kind->wake_clear(sleeper);
    must_write(b->q, QUEUE_RETRY, &r);
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

    must(bench->kind->check(b->q, &promise, &e), "check", &e);
    assert_non_null(promise);
    assert_true(strlen(promise) > 10);
    if (bench->kind->maintain)
        must(bench->kind->maintain(b->q, &e), "maintain", &e);
}

int
queue_contract(const QueueContract *contract)
{
#define CHECK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
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
        CHECK(test_many_limits),
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
        CHECK(test_keys),
        CHECK(test_key_is_taken),
        CHECK(test_purge),
        CHECK(test_totals),
        CHECK(test_counts),
        CHECK(test_visit),
        CHECK(test_fire),
        CHECK(test_wake),
        CHECK(test_check),
    };
#undef CHECK

    bench = contract;
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL) + queue_storm();
}
