#include "test/contract/queue_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/process.h"
#include "base/time.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

const QueueContract *bench;

void
bench_must(bool ok, const char *what, const Err *e)
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

    bench_must(q != NULL, "open", &e);
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
    bench_must(bench->kind->put(q, put, puts, arena, &e), "put", &e);
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

    assert_true(take->wanted <= BENCH_TAKE_MOST);
    bench_must(bench->kind->take(q, take, record, &taken, arena, &e), "take", &e);
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

    bench_must(bench->kind->find(q, id, arena, &record, &e), id, &e);
    return record;
}

QueueVerdict
bench_write(Queue *q, const QueueWrite *write)
{
    QueueWrite one = *write;
    Err e = {0};

    one.verdict = (QueueVerdict)99;
    bench_must(bench->kind->write(q, &one, 1, &e), "write", &e);
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

void
bench_must_write(Queue *q, QueueWriteOp op, const QueueRecord *record)
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
        bench_must_write(q, QUEUE_FAIL, &record);
    if (phase == QUEUE_CANCELLED)
        bench_must_write(q, QUEUE_CANCELLED_NOW, &record);
    if (phase == QUEUE_PREPARED || phase == QUEUE_COMPLETED || phase == QUEUE_EXPIRED)
        bench_must_write(q, QUEUE_PREPARE, &record);
    if (phase == QUEUE_COMPLETED || phase == QUEUE_EXPIRED)
        bench_must_write(q, QUEUE_COMPLETE, &record);
    if (phase == QUEUE_EXPIRED)
        bench_must(bench->kind->expire(q, &record.id, 1, &e), "expire", &e);
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

    bench_must(bench->kind->visit_totals(q, look_for_series, &wanted, &e), "visit_totals", &e);
    return wanted.value;
}

void
bench_sleep_ms(int64_t ms)
{
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&wait, NULL);
}

int
bench_set_up(void **state)
{
    static Bench b;

    b.place = bench->fresh();
    b.arena = arena_new(16 << 20);
    b.q = bench_open(b.place);
    *state = &b;
    return 0;
}

int
bench_tear_down(void **state)
{
    Bench *b = *state;

    bench_close(b->q);
    arena_free(b->arena);
    return 0;
}

int64_t
bench_cancel(Queue *q, const char *id)
{
    QueueCancel one = {.id = id,
        .by = "user_123",
        .reason = "no need",
        .now_us = time_wall_us(),
        .outcome = (QueueCancelOutcome)99};
    Err e = {0};

    bench_must(bench->kind->cancel(q, &one, 1, &e), "cancel", &e);
    return one.outcome;
}

QueueCounts
bench_count(Queue *q)
{
    QueueCounts counts;
    Err e = {0};

    bench_must(bench->kind->count(q, &counts, &e), "count", &e);
    return counts;
}

void
bench_same_text(const char *name, const char *got, const char *want)
{
    if ((got == NULL) != (want == NULL) || (got && strcmp(got, want) != 0))
        fail_msg("%s is %s, not %s", name, got ? got : "NULL", want ? want : "NULL");
}

bool
bench_note_id(const QueueRecord *record, void *with, Err *e)
{
    Seen *seen = with;
    size_t bytes = strlen(seen->ids);

    snprintf(seen->ids + bytes, sizeof seen->ids - bytes, "%s ", record->id);
    return ++seen->visited != seen->stop_at || err_push(e, ERR_CANCELLED, ERR_HERE, "enough");
}

Seen
bench_visit(Queue *q, const QueueFilter *filter)
{
    Seen seen = {.ids = ""};
    Err e = {0};

    bench_must(bench->kind->visit(q, filter, bench_note_id, &seen, &e), "visit", &e);
    return seen;
}
