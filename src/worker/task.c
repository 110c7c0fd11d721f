/*
 * The steps of a task: handed to a child, prepared, published, written off (reliability.md 3.3).
 *
 * From the moment PREPARE is written the content of the file is fixed and may be visible, so such a
 * task is never run again while its upload or its file is there: another child publishes it. Only
 * when neither is there (FILE_GONE) it goes back to RUNNING.
 */
#include <stddef.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "export/retry.h"
#include "export/state.h"
#include "worker/worker_in.h"

enum {
    TASK_BYTES_MAX = 16 << 20,
    PUBLISH_PAUSE_MS_MIN = 250, /* between two tries */
    PUBLISH_DOUBLINGS = 6,
    PUBLISHES_MAX = 20,
};

bool
task_is_prepared(const Task *t)
{
    return t->record.phase == QUEUE_PREPARED;
}

/* --- its beginning and its end --- */

static bool
copy_record(const QueueRecord *from, Arena *arena, QueueRecord *to, Err *e)
{
    static const size_t texts[] = {
#define AT(name) offsetof(QueueRecord, name)
        AT(id),
        AT(task),
        AT(user_id),
        AT(export_type),
        AT(source),
        AT(format),
        AT(request),
        AT(version),
        AT(request_id),
        AT(queue),
        AT(owner),
        AT(key),
        AT(upload),
        AT(sealed),
        AT(sha256),
        AT(result),
        AT(error_code),
        AT(error),
        AT(error_detail),
        AT(attempts),
        AT(cancel_by),
        AT(cancel_reason),
#undef AT
    };

    *to = *from;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char **text = (const char **)(void *)((char *)to + texts[i]);

        if (*text && !(*text = arena_text(arena, *text, e)))
            return false;
    }
    return true;
}

static Task *
find_room(Worker *w)
{
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step == STEP_NONE)
            return t;
    return NULL;
}

void
task_begin(Worker *w, const QueueRecord *record)
{
    Task *t = find_room(w);
    Arena *arena = arena_new(TASK_BYTES_MAX);
    Err e = {0};

    if (!t || !arena || !copy_record(record, arena, &t->record, &e)) {
        /* Its lease runs out, and the scan finds it. */
        log_event(LOG_ERROR, "task.dropped", log_text("task_id", record->id), log_err(&e));
        arena_free(arena);
        return;
    }
    *t = (Task){
        .step = STEP_WAITS,
        .arena = arena,
        .record = t->record,
        .waits_ms = time_now_ms(),
        .renewed_ms = time_now_ms(),
        .is_sweep = strcmp(record->task, QUEUE_TASK_SWEEP) == 0,
    };
}

static void
leave_place(Worker *w, Task *t)
{
    Place *place = t->place;

    t->place = NULL;
    if (place)
        place_freed(w, place);
}

static void
forget(Worker *w, Task *t)
{
    leave_place(w, t);
    w->may_take = w->at_once = true; /* there may be a free child that waits for this room */
    arena_free(t->arena);
    *t = (Task){0};
}

static void
set_write(Task *t, QueueWrite write)
{
    write.id = t->record.id;
    write.epoch = t->record.epoch;
    write.lease_ms = LEASE_MS;
    t->write = write;
    t->has_write = true;
}

/* The record as users shall see it: where the run is, or was. */
static void
note_progress(Task *t)
{
    SlotProgress p;

    if (!t->place || task_is_prepared(t))
        return;
    p = slot_progress(t->place->slot);
    t->record.stage = p.stage;
    t->record.rows = p.rows;
    t->record.bytes = p.bytes;
    t->record.rows_estimated = p.rows_estimated;
    if (p.peak_bytes > t->record.peak_bytes)
        t->record.peak_bytes = p.peak_bytes;
}

/* The attempt has ended badly; what becomes of the task is retry.c's to say. */
void
task_end(Worker *w, Task *t, const Err *why)
{
    int64_t now_us = time_wall_us();
    QueueWrite write;
    Err e = {0};

    note_progress(t);
    leave_place(w, t);
    if (!retry_write(&t->record, why, w->config, now_us, t->arena, &write, &e)) {
        log_task(LOG_ERROR, "task.dropped", t, log_err(&e));
        forget(w, t);
        return;
    }
    write.total = t->total;
    write.totals = result_totals(&t->record, &write, now_us, t->arena, t->total);
    set_write(t, write);
    t->step = STEP_ENDS;
}

void
task_end_with(Worker *w, Task *t, ErrCode code, const char *why)
{
    Err e = {0};

    fail_code(&e, code, "%s", why);
    task_end(w, t, &e);
}

static void
complete(Worker *w, Task *t, const char *result)
{
    int64_t now_us = time_wall_us();

    leave_place(w, t);
    set_write(t, (QueueWrite){
                     .op = QUEUE_COMPLETE,
                     .stage = STAGE_FINISHING,
                     .progress = 100,
                     .rows = t->record.rows,
                     .bytes = t->record.bytes,
                     .peak_bytes = t->record.peak_bytes,
                     .retain_us = t->is_sweep ? 0 : now_us + t->retain_ms * 1000,
                     .result = result,
                     .total = t->total,
                 });
    t->write.totals = result_totals(&t->record, &t->write, now_us, t->arena, t->total);
    t->step = STEP_ENDS;
}

/* --- telling it to end --- */

/* Before PREPARE is written a task can be stopped; after it only its file's appearance is left. */
static void
stop(Worker *w, Task *t, ErrCode reason, const char *why)
{
    switch (t->step) {
    case STEP_WAITS:
        if (!task_is_prepared(t))
            task_end_with(w, t, reason, why);
        break;
    case STEP_RUNS:
    case STEP_PREPARES:
        if (!t->place) /* a sweep that is over */
            break;
        t->has_write = false;
        t->step = STEP_RUNS;
        t->stops = true;
        slot_cancel(t->place->slot, reason);
        break;
    case STEP_NONE:
    case STEP_PUBLISHES:
    case STEP_UNPREPARES:
    case STEP_ENDS:
        break;
    }
}

void
task_cancel(Worker *w, Task *t)
{
    if (t->record.cancel_us > 0 || t->lost || task_is_prepared(t))
        return;
    t->record.cancel_us = time_wall_us();
    stop(w, t, ERR_CANCELLED, "it was cancelled before it ran");
}

void
task_give_back(Worker *w, Task *t)
{
    /* What is prepared stays so: whoever takes it publishes it. */
    if ((t->step == STEP_WAITS && task_is_prepared(t)) || t->step == STEP_UNPREPARES)
        task_end_with(w, t, ERR_GIVEN_BACK, "given back before it was visible");
    else if (!t->stops)
        stop(w, t, ERR_GIVEN_BACK, "given back before it ran");
}

/* Somebody else has it: an end, but not one for us to write. */
static void
lose(Worker *w, Task *t)
{
    log_task(LOG_WARNING, "export.lost", t, log_number("epoch", t->record.epoch));
    t->lost = true;
    t->has_write = false;
    if (!t->place)
        forget(w, t);
    else
        stop(w, t, ERR_LEASE_LOST, "");
}

/* --- what its child says --- */

static void
note_first_row(Task *t)
{
    if (t->has_first_row || t->is_sweep)
        return;
    t->has_first_row = true;
    log_task(
        LOG_INFO, "export.first_row", t, log_number("duration_ms", time_now_ms() - t->started_ms));
}

void
task_finishes(Worker *w, Task *t, const json_t *frame)
{
    int64_t read_ms = json_int_or(frame, "read_ms", SLOW_MS);

    if (!task_is_prepared(t) && !t->is_sweep) /* the middle of some eight */
        w->read_ms += ((double)(read_ms < SLOW_MS ? read_ms : SLOW_MS) - w->read_ms) / 8;
    note_progress(t);
    note_first_row(t);
    t->finishes = true;
    w->may_take = true;
}

static const char *
keep(Task *t, const json_t *frame, const char *member, Err *e)
{
    return arena_text(t->arena, json_text_or(frame, member, ""), e);
}

void
task_upload(Worker *w, Task *t, const json_t *frame)
{
    Err e = {0};
    const char *upload = keep(t, frame, "upload", &e);

    (void)w;
    if (t->stops || t->lost || t->step != STEP_RUNS)
        return;
    if (upload)
        set_write(t, (QueueWrite){.op = QUEUE_UPLOAD, .upload = upload, .key = t->record.key});
    else
        stop(w, t, e.code, "");
}

void
task_prepared(Worker *w, Task *t, const json_t *frame)
{
    Err e = {0};
    const char *sealed = keep(t, frame, "sealed", &e);
    const char *sha256 = keep(t, frame, "sha256", &e);

    if (t->stops || t->lost || t->step != STEP_RUNS)
        return; /* it sees for itself why it gets no answer */
    note_progress(t);
    t->record.rows = (uint64_t)json_int_or(frame, "rows", 0);
    t->record.bytes = (uint64_t)json_int_or(frame, "bytes", 0);
    if (!sealed || !sha256) {
        stop(w, t, e.code, "");
        return;
    }
    note_first_row(t);
    t->record.sealed = sealed;
    t->record.sha256 = sha256;
    set_write(t, (QueueWrite){
                     .op = QUEUE_PREPARE,
                     .stage = STAGE_FINISHING,
                     .progress = progress_of(STAGE_FINISHING, 0, -1, 0),
                     .rows = t->record.rows,
                     .bytes = t->record.bytes,
                     .peak_bytes = t->record.peak_bytes,
                     .key = t->record.key,
                     .sealed = sealed,
                     .sha256 = sha256,
                 });
    t->step = STEP_PREPARES;
}

/* A sweep makes no file: both steps are written, one after the other. */
static void
prepare_sweep(Task *t, const json_t *frame)
{
    t->record.rows = (uint64_t)json_int_or(frame, "rows", 0);
    t->record.bytes = (uint64_t)json_int_or(frame, "bytes", 0);
    set_write(t, (QueueWrite){
                     .op = QUEUE_PREPARE,
                     .stage = STAGE_FINISHING,
                     .rows = t->record.rows,
                     .bytes = t->record.bytes,
                     .peak_bytes = t->record.peak_bytes,
                     .sealed = "{}",
                 });
    t->step = STEP_PREPARES;
}

void
task_done(Worker *w, Task *t, const json_t *frame)
{
    Err e = {0};
    const char *result = keep(t, frame, "result", &e);

    note_progress(t);
    if (t->lost) {
        forget(w, t);
    } else if (t->is_sweep) {
        leave_place(w, t);
        prepare_sweep(t, frame);
    } else if (t->step != STEP_PUBLISHES) {
        task_end_with(w, t, ERR_INTERNAL, "its child was done before it had prepared anything");
    } else {
        complete(w, t, result ? result : "{}");
    }
}

/* What is prepared could not be made visible. */
static void
publish_again(Worker *w, Task *t, const Err *why)
{
    unsigned doublings = t->publishes < PUBLISH_DOUBLINGS ? t->publishes : PUBLISH_DOUBLINGS;

    leave_place(w, t);
    if (why->code == ERR_FILE_GONE && !t->was_unprepared) {
        t->was_unprepared = true;
        set_write(t, (QueueWrite){.op = QUEUE_UNPREPARE});
        t->step = STEP_UNPREPARES;
    } else if (err_retry(why->code) == ERR_RETRY_NEVER || t->publishes >= PUBLISHES_MAX) {
        task_end(w, t, why);
    } else {
        log_task(LOG_WARNING, "export.publish_failed", t, log_err(why));
        t->wait_ms = time_now_ms() + worker_jitter((int64_t)PUBLISH_PAUSE_MS_MIN << doublings);
        t->waits_ms = t->wait_ms;
        t->publishes++;
        t->step = STEP_WAITS;
    }
}

void
task_failed(Worker *w, Task *t, const json_t *frame, const Err *why)
{
    t->has_write = false;
    if (t->lost)
        forget(w, t);
    else if (task_is_prepared(t) && json_bool_or(frame, "publishes", false))
        publish_again(w, t, why);
    else
        task_end(w, t, why);
}

void
task_orphaned(Worker *w, Task *t, const Err *why)
{
    Err lost = {0};

    t->has_write = false;
    /* A limit that ends a run does not end what is prepared: its file may be visible. */
    fail(&lost, WORKER_LOST, "its child ended while it published: %s", err_root(why));
    if (t->lost)
        forget(w, t);
    else if (task_is_prepared(t)) /* whether it is visible already, the next child finds out */
        publish_again(w, t, &lost);
    else
        task_end(w, t, why);
}

/* --- time passes --- */

void
task_tick(Worker *w, Task *t, int64_t now_ms)
{
    int progress = t->record.progress;
    uint64_t rows = t->record.rows;
    Stage stage = t->record.stage;

    if (t->step != STEP_RUNS || t->stops)
        return;
    if (!t->is_sweep && !slot_has_begun(t->place->slot)) {
        if (now_ms - t->started_ms > AHEAD_MS) { /* those before it are not as quick as they were */
            w->read_ms = SLOW_MS;
            task_give_back(w, t);
        }
        return;
    }
    note_progress(t);
    if (t->record.stage >= STAGE_STREAMING)
        note_first_row(t);
    t->record.progress =
        progress_of(t->record.stage, t->record.rows, t->record.rows_estimated, progress);
    if (stage != t->record.stage || rows != t->record.rows || progress != t->record.progress)
        t->has_news = true;
    if (t->has_news && now_ms - t->told_ms >= TICK_MS - TICK_MS / 10)
        t->tells = true;
}

/* --- what was written --- */

static void
log_end(const Task *t, const QueueWrite *write)
{
    static const char *const events[2][4] = {
        {"export.failed", "export.retried", "export.cancelled", "export.given_back"},
        {"cleanup.failed", "cleanup.retried", "cleanup.cancelled", "cleanup.given_back"},
    };
    int64_t duration_ms = time_now_ms() - t->started_ms;
    int what = write->op == QUEUE_FAIL            ? 0
               : write->op == QUEUE_RETRY         ? 1
               : write->op == QUEUE_CANCELLED_NOW ? 2
                                                  : 3;

    if (write->op != QUEUE_COMPLETE)
        log_task(what < 2 ? LOG_WARNING : LOG_INFO, events[t->is_sweep][what], t,
            log_text("stage", stage_name(write->stage)), log_number("rows", (int64_t)write->rows),
            log_number("duration_ms", t->started_ms ? duration_ms : 0),
            log_text("error_code", write->error_code), log_text("error", write->error_detail));
    else if (!t->is_sweep)
        log_task(LOG_INFO, "export.finished", t, log_number("rows", (int64_t)write->rows),
            log_number("bytes", (int64_t)write->bytes), log_number("duration_ms", duration_ms),
            log_text("key", t->record.key));
}

static void
prepare_written(Worker *w, Task *t)
{
    Err e = {0};

    t->record.phase = QUEUE_PREPARED;
    t->step = STEP_PUBLISHES;
    if (t->is_sweep) {
        complete(w, t, "{}");
        return;
    }
    log_task(LOG_INFO, "export.uploaded", t, log_number("rows", (int64_t)t->record.rows),
        log_number("bytes", (int64_t)t->record.bytes),
        log_number("duration_ms", time_now_ms() - t->started_ms));
    if (!slot_go(t->place->slot, &e))
        slot_kill(t->place->slot);
}

static void
judge_prepare(Worker *w, Task *t, const QueueWrite *write)
{
    switch (write->verdict) {
    case QUEUE_WRITTEN:
        prepare_written(w, t);
        break;
    case QUEUE_CANCEL_ASKED:
        if (t->place) {
            task_cancel(w, t);
            break;
        }
        t->record.cancel_us = time_wall_us();
        task_end_with(w, t, ERR_CANCELLED, "it was cancelled after it had swept");
        break;
    case QUEUE_KEY_TAKEN:
        stop(w, t, ERR_EXISTS, "");
        break;
    case QUEUE_NOT_MINE:
        lose(w, t);
        break;
    }
}

void
task_written(Worker *w, Task *t, const QueueWrite *write)
{
    Err e = {0};

    if (write->op == QUEUE_PREPARE) {
        judge_prepare(w, t, write);
        return;
    }
    if (write->verdict == QUEUE_CANCEL_ASKED) { /* it was to be tried again */
        t->record.cancel_us = time_wall_us();
        task_end_with(w, t, ERR_CANCELLED, "it was cancelled while it was to be tried again");
        return;
    }
    if (write->verdict == QUEUE_KEY_TAKEN) {
        stop(w, t, ERR_EXISTS, "");
        return;
    }
    if (write->verdict != QUEUE_WRITTEN) {
        lose(w, t);
        return;
    }
    switch (write->op) {
    case QUEUE_UPLOAD:
        if (!slot_go(t->place->slot, &e))
            slot_kill(t->place->slot);
        break;
    case QUEUE_UNPREPARE:
        log_task(LOG_WARNING, "export.unprepared", t);
        t->record.phase = QUEUE_RUNNING;
        t->record.sealed = NULL;
        t->finishes = false;
        t->step = STEP_WAITS;
        t->wait_ms = t->waits_ms = time_now_ms() + 1;
        break;
    case QUEUE_RENEW:
    case QUEUE_PROGRESS:
    case QUEUE_PREPARE:
        break;
    case QUEUE_COMPLETE:
    case QUEUE_RETRY:
    case QUEUE_FAIL:
    case QUEUE_CANCELLED_NOW:
    case QUEUE_GIVE_BACK:
        log_end(t, write);
        if (write->op == QUEUE_RETRY)
            lease_expect(w, write->available_us);
        forget(w, t);
        return;
    }
    if (write->cancel_asked)
        task_cancel(w, t);
}
