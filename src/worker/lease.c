/*
 * What goes to the queue and what comes from it: tasks are taken for all free children at once,
 * what all children said in one turn of the loop is one write, leases are kept up while the queue
 * answers, and tasks that others left behind are written off.
 *
 * While the queue cannot be reached nothing is lost: what is to be written waits, exports go on as
 * long as their leases hold, and the queue is tried again with growing pauses.
 */
#include <string.h>

#include "base/metric.h"
#include "base/time.h"
#include "export/retry.h"
#include "worker/worker_in.h"

enum {
    PAUSE_MS_MIN = 100,
    PAUSE_MS_MAX = 5000,
    BUSY_PAUSE_MS_MAX = 1000, /* while there are leases to keep */
    PAUSE_DOUBLINGS = 6,
    LEFT_MAX = 64, /* tasks written off at once */
    SERIES_BYTES = 128,
    STARVED_MAX = 8,
};

/* --- the handle --- */

bool
lease_open(Worker *w, Err *e)
{
    QueueSpec spec = kinds_queue_spec(w->config, true, true);

    if (w->queue)
        return true;
    if (!(w->queue = w->queue_kind->open(&spec, e)))
        return false;
    if (!worker_watch(w, w->queue_kind->wake_fd(w->queue), FD_QUEUE, 0, e)) {
        w->queue_kind->close(w->queue);
        w->queue = NULL;
        return false;
    }
    w->may_take = w->news = true;
    return true;
}

static bool
has_tasks(const Worker *w)
{
    for (const Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step != STEP_NONE)
            return true;
    return false;
}

/* Nobody knows for how long: children end before others may start anew what they run. */
static void
give_up_leases(Worker *w, int64_t now_ms)
{
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        if ((t->step == STEP_RUNS || t->step == STEP_PREPARES || t->step == STEP_WAITS) &&
            !t->stops && now_ms - t->renewed_ms > UNRENEWED_MS) {
            log_task(
                LOG_WARNING, "task.unrenewed", t, log_number("silent_ms", now_ms - t->renewed_ms));
            task_give_back(w, t);
        }
}

void
lease_failed(Worker *w, const Err *e)
{
    unsigned doublings = w->queue_failures < PAUSE_DOUBLINGS ? w->queue_failures : PAUSE_DOUBLINGS;
    int64_t pause_ms = (int64_t)PAUSE_MS_MIN << doublings;
    int64_t pause_ms_max = has_tasks(w) ? BUSY_PAUSE_MS_MAX : PAUSE_MS_MAX;

    if (w->queue_failures++ == 0 || log_is_on(LOG_DEBUG))
        log_event(LOG_ERROR, "queue.failed", log_err(e));
    if (w->queue)
        w->queue_kind->close(w->queue);
    w->queue = NULL;
    w->queue_wait_ms =
        time_now_ms() + worker_jitter(pause_ms < pause_ms_max ? pause_ms : pause_ms_max);
    give_up_leases(w, time_now_ms());
}

static void
answered(Worker *w)
{
    if (w->queue_failures == 0)
        return;
    log_event(LOG_INFO, "queue.back", log_number("failures", w->queue_failures));
    w->queue_failures = 0;
}

bool
lease_is_up(const Worker *w)
{
    return w->queue && w->queue_wait_ms <= time_now_ms();
}

/* --- writing --- */

static bool
needs_renewal(const Task *t)
{
    return !t->lost && (t->renews || t->tells) &&
           (t->step == STEP_RUNS || t->step == STEP_PUBLISHES || t->step == STEP_WAITS ||
               t->step == STEP_PREPARES);
}

static QueueWrite
renewal(Task *t)
{
    const QueueRecord *r = &t->record;

    if (t->tells) {
        t->told_ms = time_now_ms();
        t->has_news = false;
    }
    return (QueueWrite){
        .op = t->tells && t->step == STEP_RUNS ? QUEUE_PROGRESS : QUEUE_RENEW,
        .id = r->id,
        .epoch = r->epoch,
        .stage = r->stage,
        .progress = r->progress,
        .rows = r->rows,
        .bytes = r->bytes,
        .rows_estimated = r->rows_estimated,
        .peak_bytes = r->peak_bytes,
        .lease_ms = LEASE_MS,
    };
}

static size_t
gather(Worker *w)
{
    size_t count = 0;

    for (Task *t = w->task; t < w->task + w->tasks; t++) {
        if (t->has_write)
            w->group[count] = t->write;
        else if (needs_renewal(t))
            w->group[count] = renewal(t);
        else
            continue;
        w->group_task[count++] = t;
    }
    return count;
}

/* Each verdict may lead to a further write (a sweep's second step): until there is none. */
void
lease_write(Worker *w)
{
    size_t count;

    while (lease_is_up(w) && (count = gather(w)) > 0) {
        int64_t now_ms = time_now_ms();
        Err e = {0};

        if (!w->queue_kind->write(w->queue, w->group, count, &e)) {
            lease_failed(w, &e);
            return;
        }
        answered(w);
        for (size_t i = 0; i < count; i++) {
            Task *t = w->group_task[i];

            t->has_write = t->renews = t->tells = false;
            t->renewed_ms = now_ms;
            task_written(w, t, &w->group[i]);
        }
    }
}

/* --- taking --- */

size_t
lease_reading(const Worker *w)
{
    size_t reading = 0;

    for (const Task *t = w->task; t < w->task + w->tasks; t++)
        reading += t->step == STEP_RUNS && !t->finishes;
    return reading;
}

size_t
lease_reading_max(const Worker *w)
{
    return w->read_ms < QUICK_MS ? w->places : w->running_max;
}

/* As many as may read, as there are children for, and as there is room for. */
static size_t
count_wanted(Worker *w, int64_t now_ms)
{
    size_t busy = lease_reading(w), waiting = 0, children = 0, room = 0, wanted;

    for (const Task *t = w->task; t < w->task + w->tasks; t++) {
        waiting += t->step == STEP_WAITS && t->wait_ms <= now_ms;
        room += t->step == STEP_NONE;
    }
    for (const Place *place = w->place; place < w->place + w->places; place++)
        children += place_is_free(place) || health_gives_way(w, place);
    if (busy + waiting >= lease_reading_max(w))
        return 0;
    wanted = lease_reading_max(w) - busy - waiting;
    children = children > waiting ? children - waiting : 0;
    if (children == 0 && w->backlog && ++w->starved >= STARVED_MAX) {
        w->starved = 0;
        place_grow(w, now_ms);
    }
    wanted = wanted < children ? wanted : children;
    return wanted < room ? wanted : room;
}

void
lease_expect(Worker *w, int64_t due_us)
{
    int64_t now_us = time_wall_us();
    int64_t due_ms = time_now_ms() + (due_us > now_us ? (due_us - now_us) / 1000 + 1 : 0);

    if (due_ms < w->due_ms)
        w->due_ms = due_ms;
}

void
lease_take(Worker *w)
{
    QueueTake take = {
        .owner = w->owner,
        .queues = w->queues,
        .wanted = w->stop == STOP_NOT && w->may_take && lease_is_up(w)
                      ? count_wanted(w, time_now_ms())
                      : 0,
        .lease_ms = LEASE_MS,
        .limit = w->limit,
        .limits = w->limits + (w->demo.pid ? w->limits_demo : 0),
        .weight = w->weight,
        .weights = w->weights,
    };
    ArenaMark mark = arena_mark(w->scratch);
    int64_t due_us = 0;
    QueueRecord *record;
    size_t taken = 0;
    Err e = {0};

    if (take.wanted == 0)
        return;
    w->may_take = false;
    if (!(record = arena_alloc_array(w->scratch, take.wanted, sizeof *record, &e)) ||
        !w->queue_kind->take(w->queue, &take, record, &taken, w->scratch, &e) ||
        (taken < take.wanted && !w->queue_kind->next_due(w->queue, &due_us, &e))) {
        lease_failed(w, &e);
    } else {
        answered(w);
        w->backlog = taken == take.wanted;
        w->due_ms = INT64_MAX;
        if (due_us > 0)
            lease_expect(w, due_us);
    }
    for (size_t i = 0; i < taken; i++)
        task_begin(w, &record[i]);
    arena_rewind(w->scratch, mark);
}

/* --- hearing --- */

static Task *
find_task(Worker *w, const QueueRecord *record)
{
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step != STEP_NONE && t->record.epoch == record->epoch &&
            strcmp(t->record.id, record->id) == 0)
            return t;
    return NULL;
}

static bool
hear_cancel(const QueueRecord *record, void *with, Err *e)
{
    Worker *w = with;
    Task *t = find_task(w, record);

    (void)e;
    if (t)
        task_cancel(w, t);
    return true;
}

void
lease_hear(Worker *w)
{
    const QueueFilter asked = {.owner = w->owner.name, .cancel_asked = true};
    Err e = {0};

    w->news = false;
    if (!lease_is_up(w) || !has_tasks(w))
        return;
    if (!w->queue_kind->visit(w->queue, &asked, hear_cancel, w, &e))
        lease_failed(w, &e);
}

/* --- what others left behind --- */

typedef struct {
    Worker *w;
    QueueWrite write[LEFT_MAX];
    QueueTotal total[LEFT_MAX][RESULT_TOTALS_MAX + 1];
    size_t count;
} Left;

/* Prepared ones are taken like those that wait: only their file has to appear. */
static bool
note_left(const QueueRecord *record, void *with, Err *e)
{
    Left *left = with;
    Worker *w = left->w;
    QueueWrite *write = &left->write[left->count];
    QueueTotal *total = left->total[left->count];
    const char *reason[] = {record->owner_is_gone ? "owner-gone" : "lease-over", NULL};
    char *series = arena_alloc(w->scratch, SERIES_BYTES, e);
    int64_t now_us = time_wall_us();
    Err why = {0};

    if (record->phase != QUEUE_RUNNING || left->count == LEFT_MAX || find_task(w, record))
        return true;
    fail(&why, WORKER_LOST, "%s %s", record->owner ? record->owner : "its worker",
        record->owner_is_gone ? "is gone" : "is silent");
    if (!series || !retry_write(record, &why, w->config, now_us, w->scratch, write, e) ||
        !(write->id = arena_text(w->scratch, record->id, e)))
        return false;
    write->if_lease_over = true;
    write->total = total;
    write->totals = result_totals(record, write, now_us, w->scratch, total);
    total[write->totals++] = (QueueTotal){
        .series = metric_series(METRIC_REDELIVERED, 0, series, SERIES_BYTES, reason), .add = 1};
    left->count++;
    return true;
}

static void
log_left(const QueueWrite *write)
{
    const char *event = write->op == QUEUE_FAIL            ? "export.failed"
                        : write->op == QUEUE_CANCELLED_NOW ? "export.cancelled"
                                                           : "export.retried";

    if (write->verdict == QUEUE_WRITTEN)
        log_event(LOG_WARNING, event, log_text("task_id", write->id),
            log_number("epoch", write->epoch), log_text("error_code", write->error_code),
            log_text("error", write->error_detail));
}

void
lease_scan(Worker *w)
{
    const QueueFilter over = {.lease_over = true};
    ArenaMark mark = arena_mark(w->scratch);
    Err e = {0};
    Left *left;

    if (!lease_is_up(w))
        return;
    if (!(left = arena_alloc(w->scratch, sizeof *left, &e))) {
        log_event(LOG_ERROR, "queue.failed", log_err(&e));
        return;
    }
    left->w = w;
    if (!w->queue_kind->visit(w->queue, &over, note_left, left, &e) ||
        (left->count > 0 && !w->queue_kind->write(w->queue, left->write, left->count, &e))) {
        lease_failed(w, &e);
    } else {
        answered(w);
        for (size_t i = 0; i < left->count; i++) {
            log_left(&left->write[i]);
            if (left->write[i].op == QUEUE_RETRY)
                lease_expect(w, left->write[i].available_us);
        }
    }
    arena_rewind(w->scratch, mark);
}

/* A worker that cannot start children keeps no task from those who can. */
static void
give_back_waiting(Worker *w, int64_t now_ms)
{
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step == STEP_WAITS && now_ms - t->waits_ms > CHILD_WAIT_MS)
            task_give_back(w, t);
}

void
lease_beat(Worker *w)
{
    Err e = {0};

    give_back_waiting(w, time_now_ms());
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        t->renews = t->step != STEP_NONE;
    if (lease_is_up(w) && !w->queue_kind->heartbeat(w->queue, &w->owner, &e))
        lease_failed(w, &e);
}
