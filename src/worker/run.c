/*
 * What a child is handed: the frame `run`, made from the record, the definition and the
 * configuration of now. Whatever does not fit ends the task here.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "export/key.h"
#include "export/request.h"
#include "worker/worker_in.h"

enum {
    REQUEST_DEPTH_MAX = 32,
    EXTENSION_BYTES = 64,
    PUBLISH_MS = 60000, /* a child may take so long for publishing alone */
};

json_t *
run_source(const ConfigSource *source)
{
    return json_pack("{s:s, s:s, s:s?, s:s?, s:i, s:I}", "name", source->name, "url", source->url,
        "user", source->user, "password", source->password, "concurrency", (int)source->concurrency,
        "statement_timeout_ms", (json_int_t)source->statement_timeout_ms);
}

/* The object's name is made from the first start, so that it is the same for every attempt. */
static bool
name_object(Worker *w, Task *t, const ExportRequest *request, Err *e)
{
    const EncoderKind *format = kinds_format(w->kinds, request->format);
    const CodecKind *codec = kinds_codec(w->kinds, request->compression);
    char extension[EXTENSION_BYTES], key[STORAGE_KEY_BYTES + 1];

    if (!format || !codec)
        return fail(e, INTERNAL, "this program does not have %.32s with %.32s", request->format,
            request->compression);
    (void)snprintf(extension, sizeof extension, "%s%s", format->extension, codec->extension);
    return key_make(t->record.user_id, t->record.export_type, t->record.started_us, t->record.id,
               extension, key, e) &&
           (t->record.key = arena_text(t->arena, key, e));
}

/* A run from the query on. */
static json_t *
run_frame(
    Worker *w, Task *t, const ExportType *type, const json_t *asked, int64_t *limit_ms, Err *e)
{
    const ConfigSource *source = config_find_source(w->config, type->source);
    ExportRequest request;
    json_t *run;

    if (!source) {
        fail(e, SOURCE_UNAVAILABLE, "there is no source %s", type->source);
        return NULL;
    }
    if (!request_from_json(asked, type, t->arena, &request, e) || !name_object(w, t, &request, e))
        return NULL;
    *limit_ms = request.time_limit_ms ? request.time_limit_ms
                : type->time_limit_ms ? type->time_limit_ms
                                      : w->config->task_time_limit_ms;
    run = json_pack("{s:s, s:s, s:I, s:i, s:s, s:s, s:O, s:o}", "kind", "export", "task_id",
        t->record.id, "epoch", (json_int_t)t->record.epoch, "attempt", t->record.attempt, "key",
        t->record.key, "request", t->record.request, "definition", type->json, "source",
        run_source(source));
    if (!run)
        fail(e, INTERNAL, "a task that JSON cannot write");
    return run;
}

/* Nothing is read again: what is prepared becomes visible. `type` may be NULL. */
static json_t *
publish_frame(const Task *t, const ExportType *type, Err *e)
{
    json_t *run = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "kind", "export", "task_id",
        t->record.id, "epoch", (json_int_t)t->record.epoch, "key", t->record.key, "request",
        t->record.request, "sealed", t->record.sealed);

    if (!run)
        fail(e, INTERNAL, "a task that JSON cannot write");
    else if (type)
        json_object_set(run, "definition", (json_t *)(uintptr_t)type->json);
    return run;
}

static json_t *
export_frame(Worker *w, Task *t, int64_t *limit_ms, Err *e)
{
    const QueueRecord *r = &t->record;
    const ExportType *type = types_find(w->types, r->export_type);
    bool is_same = type && (!*r->version || strcmp(r->version, type->version) == 0);
    Err why = {0};
    json_t *asked = json_parse(r->request, strlen(r->request), REQUEST_DEPTH_MAX, &why),
           *run = NULL;

    if (!asked && !task_is_prepared(t)) { /* a user sent no such thing: it was damaged here */
        fail(e, INTERNAL, "a task whose request cannot be read: %s", err_root(&why));
        return NULL;
    }
    t->retain_ms = json_int_or(asked, "retain_ms", w->config->retention_ms);
    *limit_ms = PUBLISH_MS;
    if (task_is_prepared(t))
        run = publish_frame(t, is_same ? type : NULL, e);
    else if (!type)
        fail(e, UNKNOWN_EXPORT_TYPE, "%.64s is not loaded in this worker", r->export_type);
    else if (!is_same)
        fail(e, DEFINITION_CHANGED, "%s is %s now", type->name, type->version);
    else
        run = run_frame(w, t, type, asked, limit_ms, e);
    json_decref(asked);
    return run;
}

static json_t *
make_frame(Worker *w, Task *t, int64_t *limit_ms, Err *e)
{
    const QueueRecord *r = &t->record;

    if (strcmp(r->task, QUEUE_TASK_EXPORT) == 0)
        return export_frame(w, t, limit_ms, e);
    if (!t->is_sweep) {
        fail(e, INTERNAL, "a task of an unknown kind: %.64s", r->task);
        return NULL;
    }
    *limit_ms = w->config->task_time_limit_ms;
    return json_pack(
        "{s:s, s:s, s:I}", "kind", "sweep", "task_id", r->id, "epoch", (json_int_t)r->epoch);
}

/* From when it might have run, to when it was taken. */
static int64_t
waited_ms(const QueueRecord *r)
{
    int64_t due_us = r->available_us > r->created_us ? r->available_us : r->created_us;

    return r->attempt_us > due_us ? (r->attempt_us - due_us) / 1000 : 0;
}

void
task_run(Worker *w, Task *t, Place *place)
{
    int64_t limit_ms = 0;
    Err e = {0};
    json_t *run;
    bool ok;

    if (t->record.cancel_us > 0 && !task_is_prepared(t)) {
        task_end_with(w, t, ERR_CANCELLED, "it was cancelled before it ran");
        return;
    }
    if (!(run = make_frame(w, t, &limit_ms, &e))) {
        task_end(w, t, &e);
        return;
    }
    t->started_ms = time_now_ms();
    ok = slot_run(
        place->slot, run, t->started_ms + limit_ms, w->config->task_memory_limit_bytes, &e);
    json_decref(run);
    if (!ok) /* That child is about to die; the task waits for another. */
        return;
    t->place = place;
    place->task = t;
    t->step = task_is_prepared(t) ? STEP_PUBLISHES : STEP_RUNS;
    if (w->tick_ms > t->started_ms + FIRST_TICK_MS)
        w->tick_ms = t->started_ms + FIRST_TICK_MS;
    if (!t->is_sweep)
        log_task(LOG_INFO, "export.started", t, log_text("worker", w->owner.name),
            log_text("source", t->record.source), log_text("format", t->record.format),
            log_number("child", slot_pid(place->slot)),
            log_number("waited_ms", waited_ms(&t->record)));
}
