/* Asking for an export, watching it, stopping it (api-surface.md 3 and 6). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/api_in.h"
#include "api/query.h"
#include "api/range.h"
#include "api/seal.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "base/time.h"
#include "export/request.h"
#include "export/result.h"
#include "export/state.h"

enum {
    STATUS_WAIT_S_MAX = 30,
    ANSWER_BYTES_MAX = 64 << 10,
    CANONICAL_BYTES_MAX = 256 << 10,
    SERIES_BYTES = 320,
    PARAMS_BYTES = 64 << 10,
};

/* Without authentication nobody has a name. */
static const char anonymous[] = "anonymous";

/* --- asking --- */

typedef struct {
    char id[37];
    ExportRequest request;
    Problems warnings;
    json_t *accepted; /* S1's body */
    Buf answer;       /* the same as text */
    int64_t wait_until_ms;
    char idempotency_key[IDEMPOTENCY_KEY_BYTES + 1];
    char hash[2 * SEAL_BYTES + 1];
    char series[SERIES_BYTES];
    QueueTotal total;
} Asked;

static ResultView
view_of(const Call *call, Storage *storage)
{
    return (ResultView){
        .config = call->setup->config,
        .kinds = call->api->kinds,
        .storage_kind = call->api->storage_kind,
        .storage = storage,
        .base_url = call->req->base_url,
        .now_us = time_wall_us(),
    };
}

/* Says what the request's key is, for whom, and for which body. */
static bool
read_idempotency_key(Call *call, Asked *asked, QueuePut *put, Err *e)
{
    const char *text = server_header(call->req, "idempotency-key");
    Buf canonical = buf_new(CANONICAL_BYTES_MAX);
    bool ok;

    if (!text)
        return true;
    if (server_headers(call->req, "idempotency-key") > 1 ||
        !idempotency_key_read(text, asked->idempotency_key)) {
        problem_add(&call->problems, "header:Idempotency-Key", "not-valid", NULL,
            "must be 1 to %d visible ASCII characters", IDEMPOTENCY_KEY_BYTES);
        return fail(e, INVALID_REQUEST, "the Idempotency-Key is not valid");
    }
    ok = json_write_canonical(call->body, &canonical, e) &&
         seal_hash(canonical.data, canonical.bytes, asked->hash, e);
    buf_free(&canonical);
    put->idempotency_key = asked->idempotency_key;
    put->idempotency_hash = asked->hash;
    put->idempotency_scope = arena_printf(
        call->req->arena, e, "%s %s %s", anonymous, asked->request.user_id, call->route->path);
    return ok && put->idempotency_scope;
}

static bool
fill_put(Call *call, Asked *asked, QueuePut *put, Err *e)
{
    const ExportRequest *request = &asked->request;
    const char *const labels[] = {request->type->name, request->format, NULL};

    text_uuid(asked->id);
    *put = (QueuePut){
        .id = asked->id,
        .task = QUEUE_TASK_EXPORT,
        .user_id = request->user_id,
        .export_type = request->type->name,
        .source = request->type->source,
        .format = request->format,
        .request = request_to_json(request, call->req->arena, e),
        .version = request->type->version,
        .request_id = call->req->request_id,
        .queue = EXPORT_QUEUE,
        .priority = request->priority,
        .max_attempts = (int)call->setup->config->max_attempts,
        .available_us = request->not_before_us,
        .created_us = time_wall_us(),
    };
    asked->total = (QueueTotal){
        .series = metric_series(METRIC_EXPORTS_REQUESTED, 0, asked->series, SERIES_BYTES, labels),
        .add = 1,
    };
    put->total = &asked->total;
    put->totals = 1;
    return put->request && read_idempotency_key(call, asked, put, e);
}

/* The names alone, unless the operator wants the values: they are whatever users filter by. */
static void
log_requested(const Call *call, const Asked *asked)
{
    const ExportRequest *request = &asked->request;
    const json_t *values = json_object_get(call->body, "params");
    Buf params = buf_new(PARAMS_BYTES);
    Err cut = {0};

    if (call->setup->config->log_params && json_is_object(values)) {
        if (!json_write(values, &params, &cut))
            buf_clear(&params);
    } else {
        for (size_t i = 0; i < request->params; i++)
            if (!request->param[i].is_null)
                buf_printf(&params, "%s%s", params.bytes ? "," : "", request->param[i].name);
    }
    log_event(LOG_INFO, "export.requested", log_text("task_id", asked->id),
        log_text("request_id", call->req->request_id), log_text("user_id", request->user_id),
        log_text("export_type", request->type->name), log_text("format", request->format),
        log_text("params", params.bytes ? params.data : NULL), log_text("peer", call->req->peer));
    buf_free(&params);
}

static void
put_preference_applied(const Call *call)
{
    Buf applied = buf_new(256);

    prefer_write(&call->prefer, &applied);
    if (applied.bytes > 0)
        response_header(&call->req->answer, "Preference-Applied", "%s", applied.data);
    buf_free(&applied);
}

/* 202 (or what the operator wants instead) with S1's body as it was made, or was stored. */
static bool
answer_accepted(Call *call, const char *task_id, Buf *body)
{
    Response *answer = &call->req->answer;

    buf_free(&answer->body);
    answer->body = *body;
    answer->status = (int)call->setup->config->accepted_status;
    response_header(answer, "Location", "/api/exports/%s/status", task_id);
    response_header(answer, "Retry-After", "1");
    response_header(answer, "Cache-Control", "no-store");
    put_preference_applied(call);
    return true;
}

static bool
answer_replayed(Call *call, const char *stored, Err *e)
{
    json_t *body = json_parse(stored, strlen(stored), 16, e);
    const char *id = json_text_or(body, "task_id", "");
    Buf text = buf_new(ANSWER_BYTES_MAX);

    if (!body) {
        buf_free(&text);
        return wrap(e, "the answer that was stored with the Idempotency-Key");
    }
    buf_text(&text, stored);
    response_header(&call->req->answer, "Idempotency-Replayed", "true");
    (void)answer_accepted(call, text_is_uuid(id) ? id : "", &text);
    json_decref(body);
    return true;
}

static bool
find_record(Call *call, const char *id, QueueRecord *record, Err *e)
{
    Queue *queue = hands_queue(call->hands, e);

    *record = (QueueRecord){0};
    if (strlen(id) > QUEUE_ID_BYTES || text_has_control(id, strlen(id), false) || strchr(id, '/'))
        return fail(e, EXPORT_NOT_FOUND, "this is not the id of an export");
    if (!queue || !call->api->queue_kind->find(queue, id, call->req->arena, record, e))
        return false;
    return strcmp(record->task, QUEUE_TASK_EXPORT) == 0 ||
           fail(e, EXPORT_NOT_FOUND, "no export has this id");
}

/* How S2 shows a record; the storage is only needed for what has a file. */
static bool
status_view(Call *call, const QueueRecord *record, ResultView *view, Err *e)
{
    Storage *storage = NULL;

    if (record->phase == QUEUE_COMPLETED &&
        !(storage = hands_storage(call->hands, call->setup->config, call->setup->number, e)))
        return false;
    *view = view_of(call, storage);
    return true;
}

static json_t *
status_body(Call *call, const QueueRecord *record, Err *e)
{
    ResultView view;

    return status_view(call, record, &view, e) ? result_status(record, &view, call->req->arena, e)
                                               : NULL;
}

static bool
is_over(const QueueRecord *record)
{
    return state_is_final(state_of(record, time_wall_us()));
}

/* Prefer: wait=N. The export is accepted; it may end while the client waits. */
static bool
wait_for_end(Call *call, Err *e)
{
    Asked *asked = call->own;
    ArenaMark mark = arena_mark(call->req->arena);
    QueueRecord record;
    Err unseen = {0};
    json_t *body;

    if (!find_record(call, asked->id, &record, &unseen) || !is_over(&record)) {
        arena_rewind(call->req->arena, mark);
        if (unseen.links == 0 && call_may_wait(call, asked->wait_until_ms))
            return call_wait(call, asked->wait_until_ms, wait_for_end);
        json_decref(asked->accepted);
        return answer_accepted(call, asked->id, &asked->answer);
    }
    body = status_body(call, &record, e);
    if (body)
        json_object_update_missing(body, asked->accepted);
    json_decref(asked->accepted);
    buf_free(&asked->answer);
    if (!body || !call_answer_json(call, 200, body, e))
        return false;
    put_preference_applied(call);
    return true;
}

static bool
export_was_put(Call *call, Err *e)
{
    Asked *asked = call->own;
    const QueuePut *put = &call->write.as.put;
    bool is_new = call->write.ok && put->verdict == QUEUE_PUT_NEW;

    if (is_new) {
        log_requested(call, asked);
        if (call->prefer.waits && call->prefer.wait_s > 0) {
            asked->wait_until_ms = time_now_ms() + call->prefer.wait_s * 1000;
            return wait_for_end(call, e);
        }
        json_decref(asked->accepted);
        return answer_accepted(call, asked->id, &asked->answer);
    }
    json_decref(asked->accepted);
    buf_free(&asked->answer);
    if (!call->write.ok) {
        *e = call->write.e;
        /* What a failed commit left behind is not known: the id is for whoever looks for it. */
        return wrap(e, "putting %s on the queue", asked->id);
    }
    switch (put->verdict) {
    case QUEUE_PUT_REPLAYED:
        return answer_replayed(call, put->replay, e);
    case QUEUE_PUT_MISMATCH:
        return fail(e, IDEMPOTENCY_MISMATCH, "the Idempotency-Key was used with another body");
    case QUEUE_PUT_FULL:
        return fail(e, QUEUE_FULL, "%" PRIu64 " tasks wait", call->setup->config->queue_limit);
    case QUEUE_PUT_EXISTS:
    case QUEUE_PUT_NEW:
        break;
    }
    return fail(e, INTERNAL, "a task with the id %s was there already", asked->id);
}

static bool
put_export(Call *call, Asked *asked, Err *e)
{
    QueuePut *put = &call->write.as.put;
    ResultView view = view_of(call, NULL);

    call->write.op = WRITER_PUT;
    if (!fill_put(call, asked, put, e))
        return false;
    asked->answer = buf_new(ANSWER_BYTES_MAX);
    asked->accepted =
        result_accepted(asked->id, put, &asked->warnings, call->prefer.minimal, &view);
    if (json_write(asked->accepted, &asked->answer, e)) {
        put->answer = put->idempotency_key ? asked->answer.data : NULL;
        if (call_write(call, export_was_put, e))
            return true;
    }
    json_decref(asked->accepted);
    buf_free(&asked->answer);
    return false;
}

/* Who is not known holds the scopes to create, read and delete, no other. */
static bool
may_hurry(const ExportRequest *request, Err *e)
{
    return request->priority > 0 ||
           fail(e, FORBIDDEN, "priority high needs the scope exports:priority");
}

bool
export_request(Call *call, Err *e)
{
    Asked *asked = arena_alloc(call->req->arena, sizeof *asked, e);
    const RequestRules rules = {
        .types = call->setup->types,
        .kinds = call->api->kinds,
        .config = call->setup->config,
        .strict = call->prefer.strict,
        .now_us = time_wall_us(),
    };

    if (!asked)
        return false;
    call->own = asked;
    asked->warnings.arena = call->req->arena;
    return request_parse(call->body, &rules, call->req->arena, &asked->request, &call->problems,
               &asked->warnings, e) &&
           may_hurry(&asked->request, e) && put_export(call, asked, e);
}

/* --- watching --- */

typedef struct {
    int64_t until_ms;
} Watched;

static bool
answer_status(Call *call, const QueueRecord *record, Err *e)
{
    Response *answer = &call->req->answer;
    const char *seen = server_header(call->req, "if-none-match");
    ResultView view;
    char etag[80];
    json_t *body;

    if (!status_view(call, record, &view, e))
        return false;
    result_etag(record, &view, etag);
    if (seen && etag_is_in(seen, etag)) {
        answer->status = 304;
        response_header(answer, "Cache-Control", "no-store");
    } else if (!(body = result_status(record, &view, call->req->arena, e)) ||
               !call_answer_json(call, 200, body, e)) {
        return false;
    }
    response_header(answer, "ETag", "%s", etag);
    if (!is_over(record))
        response_header(answer, "Retry-After", "%d", result_retry_after(record, view.now_us));
    return true;
}

/* Celery calls every id that it does not know queued. */
static bool
answer_unknown(Call *call, Err *e)
{
    if (!call_answer_json(call, 200,
            json_pack("{s:s, s:i, s:s}", "status", "queued", "progress", 0, "state", "queued"), e))
        return false;
    response_header(&call->req->answer, "Retry-After", "1");
    return true;
}

static bool
look_at_status(Call *call, Err *e)
{
    const Watched *watched = call->own;
    ArenaMark mark = arena_mark(call->req->arena);
    bool plays_celery = strcmp(call->setup->config->unknown_task, "queued") == 0;
    QueueRecord record;
    bool found = find_record(call, call->name, &record, e);

    if (!found && !(plays_celery && e->code == ERR_EXPORT_NOT_FOUND))
        return false;
    if ((!found || !is_over(&record)) && call_may_wait(call, watched->until_ms)) {
        err_clear(e);
        arena_rewind(call->req->arena, mark);
        return call_wait(call, watched->until_ms, look_at_status);
    }
    if (found)
        return answer_status(call, &record, e);
    err_clear(e);
    return answer_unknown(call, e);
}

bool
export_status(Call *call, Err *e)
{
    Watched *watched = arena_alloc(call->req->arena, sizeof *watched, e);
    int64_t wait_s;

    if (!watched || !query_whole(call->req->query, "wait", 0, STATUS_WAIT_S_MAX, 0, &wait_s,
                        &call->problems, e))
        return false;
    if (call->problems.count > 0)
        return fail(e, VALIDATION_FAILED, "the query is not valid");
    watched->until_ms = time_now_ms() + wait_s * 1000;
    call->own = watched;
    call->why = RESUME_WOKEN;
    return look_at_status(call, e);
}

/* --- stopping --- */

typedef struct {
    QueueRecord record; /* before */
    QueueTotal total[RESULT_TOTALS_MAX];
} Cancelling;

static bool
answer_cancel(Call *call, bool may_take_time, Err *e)
{
    QueueRecord record;
    json_t *body;
    bool later;

    if (!find_record(call, call->name, &record, e) || !(body = status_body(call, &record, e)))
        return false;
    json_object_set_new(body, "task_id", json_string(record.id));
    later = may_take_time && !is_over(&record);
    if (!call_answer_json(call, later ? 202 : 200, body, e))
        return false;
    if (later)
        response_header(&call->req->answer, "Retry-After", "1");
    return true;
}

static bool
export_was_cancelled(Call *call, Err *e)
{
    const QueueCancel *cancel = &call->write.as.cancel;
    const QueueRecord *record = &((const Cancelling *)call->own)->record;

    if (!call->write.ok) {
        *e = call->write.e;
        return wrap(e, "cancelling %s", record->id);
    }
    switch (cancel->outcome) {
    case QUEUE_CANCEL_DONE:
        log_event(LOG_INFO, "export.cancelled", log_text("task_id", record->id),
            log_text("request_id", call->req->request_id), log_text("user_id", record->user_id),
            log_text("export_type", record->export_type));
        return answer_cancel(call, false, e);
    case QUEUE_CANCEL_NOTED:
        return answer_cancel(call, true, e);
    case QUEUE_CANCEL_ALREADY:
        return answer_cancel(call, false, e);
    case QUEUE_CANCEL_TOO_LATE:
        return fail(e, NOT_CANCELLABLE, "the export has ended, or is about to");
    case QUEUE_CANCEL_UNKNOWN:
        break;
    }
    return fail(e, EXPORT_NOT_FOUND, "no export has this id");
}

bool
export_cancel(Call *call, Err *e)
{
    Cancelling *cancelling = arena_alloc(call->req->arena, sizeof *cancelling, e);
    const QueueWrite as_write = {.op = QUEUE_CANCELLED_NOW, .error_code = err_name(ERR_CANCELLED)};
    int64_t now_us = time_wall_us();

    if (!cancelling || !find_record(call, call->name, &cancelling->record, e))
        return false;
    call->own = cancelling;
    call->write.op = WRITER_CANCEL;
    call->write.as.cancel = (QueueCancel){
        .id = cancelling->record.id,
        .by = anonymous,
        .reason = json_text_or(call->body, "reason", NULL),
        .now_us = now_us,
        .total = cancelling->total,
        .totals = result_totals(
            &cancelling->record, &as_write, now_us, call->req->arena, cancelling->total),
    };
    return call_write(call, export_was_cancelled, e);
}
