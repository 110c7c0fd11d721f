#include "export/sweep.h"

#include <string.h>

#include "base/log.h"
#include "base/metric.h"
#include "base/time.h"

enum { RECORD_DAYS = 30, PURGE_MOST = 5000, PURGE_ROUNDS = 200, FAILURES_MAX = 1000 };

typedef struct {
    const Config *config;
    const StorageKind *storage_kind;
    Storage *storage;
    const QueueKind *queue_kind;
    Queue *queue;
    Watch *watch;
    Arena *task;
    SweepResult *result;
    int64_t now_us;
    uint64_t failures; /* files that could not be deleted */
    Err first;         /* why the first one could not */
} Sweep;

/* What its record says; files that others wrote are judged by their age. */
static bool
is_due(Sweep *s, const StorageObject *object, bool *due, Err *e)
{
    ArenaMark mark = arena_mark(s->task);
    QueueRecord record;
    Err why = {0};

    *due = object->modified_wall_us + s->config->retention_ms * 1000 <= s->now_us;
    if (s->queue_kind->find_key(s->queue, object->key, s->task, &record, &why)) {
        /* A file of a task that has not ended is not ours to judge: it is just being committed. */
        if (record.phase != QUEUE_COMPLETED)
            *due = record.phase == QUEUE_EXPIRED;
        else if (record.retain_us > 0)
            *due = record.retain_us <= s->now_us;
    } else if (why.code != ERR_EXPORT_NOT_FOUND) {
        *e = why;
        return false;
    }
    arena_rewind(s->task, mark);
    return true;
}

/* In this order: killed between the two, the next sweep finds the file expired. On a full disk
 * there is room to say so only when the file has gone. */
static bool
delete_file(Sweep *s, const char *key, bool *existed, Err *e)
{
    Err why = {0};
    bool expired = s->queue_kind->expire(s->queue, &key, 1, &why);

    if (!expired && why.code != ERR_STORAGE_FULL) {
        *e = why;
        return false;
    }
    return s->storage_kind->remove(s->storage, key, existed, e) &&
           (expired || s->queue_kind->expire(s->queue, &key, 1, e));
}

/* One file that cannot be deleted does not keep the others. */
static void
note_failure(Sweep *s, const char *key, const Err *why)
{
    if (s->failures++ == 0)
        s->first = *why;
    log_event(LOG_WARNING, "cleanup.file_failed", log_text("key", key), log_err(why));
}

static bool
judge(const StorageObject *object, void *with, Err *e)
{
    Sweep *s = with;
    bool due, existed;
    Err ignored = {0}, why = {0};

    if (!s->watch->go_on(s->watch, STAGE_STREAMING, s->result->objects, s->result->bytes, e))
        return false;
    /* What is no key of ours is none of our business. */
    if (!storage_key_check(object->key, &ignored))
        return true;
    if (!is_due(s, object, &due, e))
        return false;
    if (!due) {
        s->result->objects++;
        s->result->bytes += (uint64_t)object->bytes;
        return true;
    }
    if (!delete_file(s, object->key, &existed, &why)) {
        note_failure(s, object->key, &why);
        return s->failures < FAILURES_MAX || fail_code(e, why.code, "too many files to be deleted");
    }
    s->result->deleted += existed;
    s->result->deleted_bytes += existed ? (uint64_t)object->bytes : 0;
    return true;
}

/* An upload is kept while its task runs under that epoch, or is prepared. */
static bool
is_needed(const char *task_id, int64_t epoch, void *with)
{
    Sweep *s = with;
    ArenaMark mark = arena_mark(s->task);
    QueueRecord record;
    Err why = {0};
    bool needed;

    if (s->queue_kind->find(s->queue, task_id, s->task, &record, &why))
        needed = (record.phase == QUEUE_RUNNING && record.epoch == epoch) ||
                 record.phase == QUEUE_PREPARED;
    else
        needed = why.code != ERR_EXPORT_NOT_FOUND;
    arena_rewind(s->task, mark);
    return needed;
}

static bool
purge(Sweep *s, Err *e)
{
    int64_t before_us = s->now_us - RECORD_DAYS * (int64_t)86400000000;

    for (int round = 0; round < PURGE_ROUNDS; round++) {
        size_t purged;

        if (!s->watch->go_on(s->watch, STAGE_FINISHING, s->result->objects, s->result->bytes, e) ||
            !s->queue_kind->purge(s->queue, before_us, PURGE_MOST, &purged, e))
            return false;
        s->result->records_purged += purged;
        if (purged < PURGE_MOST)
            break;
    }
    return true;
}

static bool
count(Sweep *s, Err *e)
{
    const char *const outcome[] = {s->failures > 0 ? "failed" : "ok", NULL};
    int64_t now_s = time_wall_us() / 1000000;
    char objects[128], bytes[128], last[128], runs[128], deleted[128];
    const QueueTotal totals[] = {
        {metric_series(METRIC_STORAGE_OBJECTS, 0, objects, sizeof objects, NULL),
            (double)s->result->objects, true},
        {metric_series(METRIC_STORAGE_BYTES, 0, bytes, sizeof bytes, NULL),
            (double)s->result->bytes, true},
        {metric_series(METRIC_CLEANUP_RUNS, 0, runs, sizeof runs, outcome), 1, false},
        {metric_series(METRIC_CLEANUP_DELETED, 0, deleted, sizeof deleted, NULL),
            (double)s->result->deleted, false},
        /* The last one: left out where it is not true. */
        {metric_series(METRIC_CLEANUP_LAST, 0, last, sizeof last, NULL), (double)now_s, true},
    };

    return s->queue_kind->add(
        s->queue, totals, sizeof totals / sizeof totals[0] - (s->failures > 0), e);
}

static bool
sweep(Sweep *s, Err *e)
{
    SweepResult *r = s->result;

    log_event(LOG_INFO, "cleanup.started", log_number("retention_ms", s->config->retention_ms));
    if (!s->storage_kind->list(s->storage, "exports/", judge, s, e) ||
        !s->storage_kind->tidy(s->storage, is_needed, s, &r->uploads_removed, e) || !purge(s, e) ||
        !count(s, e))
        return false;
    log_event(LOG_INFO, "cleanup.done", log_number("deleted", (int64_t)r->deleted),
        log_number("deleted_bytes", (int64_t)r->deleted_bytes),
        log_number("uploads_removed", (int64_t)r->uploads_removed),
        log_number("records_purged", (int64_t)r->records_purged),
        log_number("objects", (int64_t)r->objects), log_number("bytes", (int64_t)r->bytes),
        log_number("failed", (int64_t)s->failures),
        log_number("duration_ms", (time_wall_us() - s->now_us) / 1000));
    if (s->failures == 0)
        return true;
    *e = s->first;
    return wrap(e, "%llu files could not be deleted", (unsigned long long)s->failures);
}

bool
sweep_run(const Config *config, const Kinds *kinds, Watch *watch, Arena *task, SweepResult *result,
    Err *e)
{
    Sweep s = {.config = config, .watch = watch, .task = task, .result = result};
    StorageSpec storage_spec = kinds_storage_spec(config, false);
    QueueSpec queue_spec = kinds_queue_spec(config, true, false);
    bool ok = false;

    *result = (SweepResult){0};
    s.now_us = time_wall_us();
    if ((s.storage_kind = kinds_storage(kinds, config, e)) &&
        (s.queue_kind = kinds_queue(kinds, config, e)) &&
        (s.storage = s.storage_kind->open(&storage_spec, e)) &&
        (s.queue = s.queue_kind->open(&queue_spec, e)))
        ok = sweep(&s, e);
    if (s.queue)
        s.queue_kind->close(s.queue);
    if (s.storage)
        s.storage_kind->close(s.storage);
    return ok;
}
