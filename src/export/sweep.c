#include "export/sweep.h"

#include <string.h>

#include "base/log.h"
#include "base/metric.h"
#include "base/time.h"

enum {
    RECORD_DAYS = 30,
    PURGE_MOST = 5000,
    PURGE_ROUNDS = 200,
    FAILURES_MAX = 1000,
    GRACE_MS = 3600000, /* of unfinished uploads, beyond the time that a task may take */
};

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

    /* Files that are due, deleted together. Their keys lie in `task`, behind `mark`. */
    ArenaMark mark;
    const char *key[STORAGE_REMOVE_MAX];
    int64_t key_bytes[STORAGE_REMOVE_MAX]; /* 0 once it is refused */
    size_t keys, refused;
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
        /* A file of a task that has not ended is not ours to judge: it is just being committed. One
         * of a task that failed is as good as nobody's. */
        if (record.phase == QUEUE_COMPLETED && record.retain_us > 0)
            *due = record.retain_us <= s->now_us;
        else if (record.phase == QUEUE_EXPIRED)
            *due = true;
        else if (record.phase < QUEUE_COMPLETED)
            *due = false;
    } else if (why.code != ERR_EXPORT_NOT_FOUND) {
        *e = why;
        return false;
    }
    arena_rewind(s->task, mark);
    return true;
}

/* One file that cannot be deleted does not keep the others. */
static void
note_failure(size_t i, const Err *why, void *with)
{
    Sweep *s = with;

    if (s->failures++ == 0)
        s->first = *why;
    s->refused++;
    s->key_bytes[i] = 0;
    log_event(LOG_WARNING, "cleanup.file_failed", log_text("key", s->key[i]), log_err(why));
}

/* In this order: killed between the two, the next sweep finds the files expired. On a full disk
 * there is room to say so only when the files have gone. */
static bool
delete_files(Sweep *s, Err *e)
{
    Err why = {0};
    bool expired;

    if (s->keys == 0)
        return true;
    expired = s->queue_kind->expire(s->queue, s->key, s->keys, &why);
    if (!expired && why.code != ERR_STORAGE_FULL) {
        *e = why;
        return false;
    }
    s->refused = 0;
    if (!s->storage_kind->remove_many(s->storage, s->key, s->keys, note_failure, s, e) ||
        (!expired && !s->queue_kind->expire(s->queue, s->key, s->keys, e)))
        return false;
    s->result->deleted += s->keys - s->refused;
    for (size_t i = 0; i < s->keys; i++)
        s->result->deleted_bytes += (uint64_t)s->key_bytes[i];
    s->keys = 0;
    arena_rewind(s->task, s->mark);
    return s->failures < FAILURES_MAX ||
           fail_code(e, s->first.code, "too many files cannot be deleted");
}

static bool
judge(const StorageObject *object, void *with, Err *e)
{
    Sweep *s = with;
    bool due;
    Err ignored = {0};

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
    s->key_bytes[s->keys] = object->bytes;
    if (!(s->key[s->keys] = arena_text(s->task, object->key, e)))
        return false;
    return ++s->keys < STORAGE_REMOVE_MAX || delete_files(s, e);
}

static bool
delete_due(Sweep *s, Err *e)
{
    s->mark = arena_mark(s->task);
    return s->storage_kind->list(s->storage, "exports/", judge, s, e) && delete_files(s, e);
}

/* An upload that is just being told to the queue, or that of another program under our prefix. */
static bool
is_young(const Sweep *s, const UnfinishedUpload *upload)
{
    return upload->begun_wall_us == 0 ||
           upload->begun_wall_us + (s->config->task_time_limit_ms + GRACE_MS) * 1000 > s->now_us;
}

/* Where the store knows the task, an upload is kept while that runs under the upload's epoch, or is
 * prepared. Where it knows only the key, the record says whether this is the upload that it means.
 */
static bool
record_needs(const Sweep *s, const QueueRecord *record, const UnfinishedUpload *upload)
{
    if (record->phase != QUEUE_RUNNING)
        return record->phase == QUEUE_PREPARED;
    if (upload->task_id)
        return record->epoch == upload->epoch;
    return (record->upload && strcmp(record->upload, upload->id) == 0) || is_young(s, upload);
}

static bool
is_needed(const UnfinishedUpload *upload, void *with)
{
    Sweep *s = with;
    ArenaMark mark = arena_mark(s->task);
    QueueRecord record;
    Err why = {0};
    bool needed;

    if (upload->task_id ? s->queue_kind->find(s->queue, upload->task_id, s->task, &record, &why)
                        : s->queue_kind->find_key(s->queue, upload->key, s->task, &record, &why))
        needed = record_needs(s, &record, upload);
    else
        needed = why.code != ERR_EXPORT_NOT_FOUND || (!upload->task_id && is_young(s, upload));
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
    const char *const reason[] = {"sweep", NULL};
    char objects[128], bytes[128], last[128], runs[128], deleted[128], aborts[128];
    const QueueTotal totals[] = {
        {metric_series(METRIC_STORAGE_OBJECTS, 0, objects, sizeof objects, NULL),
            (double)s->result->objects, true},
        {metric_series(METRIC_STORAGE_BYTES, 0, bytes, sizeof bytes, NULL),
            (double)s->result->bytes, true},
        {metric_series(METRIC_CLEANUP_RUNS, 0, runs, sizeof runs, outcome), 1, false},
        {metric_series(METRIC_CLEANUP_DELETED, 0, deleted, sizeof deleted, NULL),
            (double)s->result->deleted, false},
        {metric_series(METRIC_STORAGE_ABORTS, 0, aborts, sizeof aborts, reason),
            (double)s->result->uploads_removed, false},
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
    if (!delete_due(s, e) ||
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
    Sweep *s = arena_alloc(task, sizeof *s, e);
    StorageSpec storage_spec = kinds_storage_spec(config, false);
    QueueSpec queue_spec = kinds_queue_spec(config, true, false);
    bool ok = false;

    *result = (SweepResult){0};
    if (!s)
        return false;
    *s = (Sweep){.config = config, .watch = watch, .task = task, .result = result};
    s->now_us = time_wall_us();
    if ((s->storage_kind = kinds_storage(kinds, config, e)) &&
        (s->queue_kind = kinds_queue(kinds, config, e)) &&
        (s->storage = s->storage_kind->open(&storage_spec, e)) &&
        (s->queue = s->queue_kind->open(&queue_spec, e))) {
        s->storage->watch = watch;
        ok = sweep(s, e);
    }
    if (s->queue)
        s->queue_kind->close(s->queue);
    if (s->storage)
        s->storage_kind->close(s->storage);
    return ok;
}
