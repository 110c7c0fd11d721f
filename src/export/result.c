#include "export/result.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/metric.h"
#include "base/text.h"
#include "base/time.h"
#include "export/key.h"

enum {
    STALLED_MS = 15000,
    RETRY_AFTER_S_MAX = 10,
    SERIES_BYTES = 320,
    TTL_MS_MAX = 7 * 86400000, /* as a request may say */
};

static const int64_t us_per_second = 1000000;

static void
set_text(json_t *to, const char *name, const char *text)
{
    if (text)
        json_object_set_new(to, name, json_string(text));
}

static void
set_whole(json_t *to, const char *name, int64_t number)
{
    json_object_set_new(to, name, json_integer(number));
}

/* A new time: RFC 3339 with milliseconds. Left out when it is not known. */
static void
set_time(json_t *to, const char *name, int64_t us)
{
    char text[TIME_TEXT_BYTES];

    if (us > 0)
        json_object_set_new(to, name, json_string(time_rfc3339_ms(us, text)));
}

/* A time of the seed: no zone, unless the setting asks for one. */
static void
set_seed_time(json_t *to, const char *name, int64_t us, const Config *config)
{
    char text[TIME_TEXT_BYTES];

    time_seed(us, text);
    if (strcmp(config->timestamps, "rfc3339") == 0)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "Z");
    json_object_set_new(to, name, json_string(text));
}

static json_t *
warnings_json(const Problems *warnings)
{
    json_t *list = json_array();
    size_t count = !warnings ? 0 : warnings->count < PROBLEMS_MAX ? warnings->count : PROBLEMS_MAX;

    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s}", "code", warnings->problem[i].word, "detail",
                      warnings->problem[i].detail, "pointer", warnings->problem[i].pointer));
    return list;
}

static void
set_links(json_t *to, const char *task_id, bool may_cancel)
{
    char text[2 * QUEUE_ID_BYTES + 64];
    json_t *links = json_object();

    snprintf(text, sizeof text, "/api/exports/%s/status", task_id);
    json_object_set_new(links, "self", json_string(text));
    if (may_cancel) {
        snprintf(text, sizeof text, "/api/exports/%s/cancel", task_id);
        json_object_set_new(links, "cancel", json_string(text));
    }
    json_object_set_new(to, "links", links);
}

json_t *
result_accepted(const char *task_id, const QueuePut *put, const Problems *warnings, bool minimal,
    const ResultView *view)
{
    char url[2 * QUEUE_ID_BYTES + 64];
    json_t *body = json_object();

    snprintf(url, sizeof url, "/api/exports/%s/status", task_id);
    set_text(body, "task_id", task_id);
    set_text(body, "status_url", url);
    set_text(body, "status", "queued");
    if (minimal)
        return body;
    set_text(body, "state",
        state_name(put->available_us > view->now_us ? STATE_SCHEDULED : STATE_QUEUED));
    set_time(body, "created_at", put->created_us);
    json_object_set_new(body, "deduplicated", json_false());
    set_links(body, task_id, true);
    json_object_set_new(body, "warnings", warnings_json(warnings));
    return body;
}

int64_t
result_expiry(
    int64_t ended_us, int64_t ttl_ms, int64_t retain_us, int64_t now_us, const char **reason)
{
    int64_t half_us = ttl_ms * 500, halves, ends_us;

    if (half_us < us_per_second)
        half_us = us_per_second;
    /* Links are made on a grid of half lives from the end of the export on, so that polls agree. */
    halves = now_us > ended_us ? (now_us - ended_us) / half_us : 0;
    ends_us = ended_us + (halves + 2) * half_us;
    *reason = "requested";
    if (retain_us > 0 && retain_us < ends_us) {
        ends_us = retain_us;
        *reason = "retention";
    }
    return ends_us / us_per_second;
}

/* What COMPLETE stored; NULL without it, or if somebody has damaged it. The caller owns it. */
static json_t *
further(const QueueRecord *record)
{
    Err ignored = {0};

    return record->result ? json_parse(record->result, strlen(record->result), 16, &ignored) : NULL;
}

/* What a link to a file is made from. */
typedef struct {
    const char *key, *name;
    const char *content_type; /* NULL: as it is stored */
    int64_t ended_us, ttl_ms, retain_us;
} Link;

/* `result` must live as long as the link. */
static Link
link_of(const QueueRecord *r, const json_t *result, const ResultView *view)
{
    int64_t ttl_ms = json_int_or(result, "url_ttl_ms", 0);
    const EncoderKind *format = kinds_format(view->kinds, r->format);
    const CodecKind *codec = kinds_codec(view->kinds, json_text_or(result, "compression", ""));

    return (Link){
        .content_type = codec && codec->content_type ? codec->content_type
                        : codec && format            ? format->content_type
                                                     : NULL,
        .key = r->key,
        .name = json_text_or(result, "filename", r->key ? key_file(r->key) : ""),
        .ended_us = r->ended_us,
        .ttl_ms = ttl_ms > 0 && ttl_ms <= TTL_MS_MAX ? ttl_ms : view->config->url_ttl_ms,
        .retain_us = r->retain_us,
    };
}

typedef struct {
    char url[STORAGE_URL_BYTES]; /* "": there is no file (any more), or nobody to sign */
    int64_t expires_s;
    const char *reason; /* why it ends then: "requested", "retention", "credentials" */
} SignedLink;

static bool
sign_link(const Link *link, const ResultView *view, SignedLink *to, Err *e)
{
    SignSpec spec = {
        .base_url = view->base_url, .name = link->name, .content_type = link->content_type};

    to->url[0] = '\0';
    to->expires_s = spec.expires_wall_s =
        result_expiry(link->ended_us, link->ttl_ms, link->retain_us, view->now_us, &to->reason);
    if (!view->storage || !link->key || to->expires_s * us_per_second <= view->now_us)
        return true;
    if (!view->storage_kind->sign(
            view->storage, link->key, &spec, to->url, sizeof to->url, &to->expires_s, e))
        return false;
    if (to->expires_s < spec.expires_wall_s)
        to->reason = "credentials";
    return true;
}

/* download_url, expires_at, expires_in, expires_reason: null where there is no file. */
static bool
set_link(json_t *to, const Link *link, const ResultView *view, Err *e)
{
    SignedLink is;

    if (!sign_link(link, view, &is, e))
        return false;
    if (!is.url[0]) {
        json_object_set_new(to, "download_url", json_null());
        return true;
    }
    set_text(to, "download_url", is.url);
    set_seed_time(to, "expires_at", is.expires_s * us_per_second, view->config);
    set_whole(to, "expires_in", is.expires_s - view->now_us / us_per_second);
    set_text(to, "expires_reason", is.reason);
    return true;
}

static bool
status_waiting(json_t *body, const QueueRecord *r, ExportState state, const ResultView *view)
{
    set_whole(body, "progress", r->progress);
    set_text(body, "state", state_name(state));
    if (state == STATE_SCHEDULED)
        set_time(body, "not_before", r->available_us);
    if (r->position > 0)
        set_whole(body, "position", r->position);
    if (state == STATE_QUEUED)
        set_text(body, "waiting_for", "worker");
    set_time(body, "created_at", r->created_us);
    set_links(body, r->id, true);
    (void)view;
    return true;
}

static bool
is_stalled(const QueueRecord *r, const ResultView *view)
{
    return (r->phase == QUEUE_RUNNING || r->phase == QUEUE_PREPARED) &&
           view->now_us - r->heartbeat_us > STALLED_MS * (int64_t)1000;
}

static bool
status_running(json_t *body, const QueueRecord *r, ExportState state, const ResultView *view)
{
    int64_t elapsed_us = view->now_us - r->attempt_us;

    set_whole(body, "progress", r->progress);
    set_text(body, "state", state_name(state));
    set_whole(body, "attempt", r->attempt);
    set_whole(body, "max_attempts", r->max_attempts);
    set_whole(body, "rows_done", (int64_t)r->rows);
    set_whole(body, "bytes_done", (int64_t)r->bytes);
    if (r->rows_estimated >= 0) {
        set_whole(body, "rows_estimated", r->rows_estimated);
        set_text(body, "estimate_source", "planner");
    }
    if (r->rows > 0 && elapsed_us > 0 && state == STATE_STREAMING) {
        int64_t rate = (int64_t)((double)r->rows * 1e6 / (double)elapsed_us);

        set_whole(body, "rows_per_second", rate);
        if (rate > 0 && r->rows_estimated > (int64_t)r->rows)
            set_whole(body, "eta_seconds", (r->rows_estimated - (int64_t)r->rows) / rate);
    }
    if (state == STATE_RETRYING)
        set_time(body, "retry_at", r->available_us);
    else if (r->attempt_us > 0)
        set_whole(body, "elapsed_ms", elapsed_us > 0 ? elapsed_us / 1000 : 0);
    set_time(body, "created_at", r->created_us);
    set_time(body, "started_at", r->started_us);
    set_time(body, "heartbeat_at", r->heartbeat_us);
    json_object_set_new(body, "stalled", json_boolean(is_stalled(r, view)));
    set_links(body, r->id, r->phase == QUEUE_RUNNING || r->phase == QUEUE_QUEUED);
    return true;
}

static bool
status_completed(json_t *body, const QueueRecord *r, ExportState state, const ResultView *view,
    Arena *arena, Err *e)
{
    json_t *result = further(r);
    Link link = link_of(r, result, view);
    const EncoderKind *format = kinds_format(view->kinds, r->format);
    bool ok;

    (void)arena;
    if (state != STATE_COMPLETED)
        link.key = NULL;
    ok = set_link(body, &link, view, e);
    set_whole(body, "file_size", (int64_t)r->bytes);
    set_whole(body, "row_count", (int64_t)r->rows);
    set_text(body, "state", state_name(state));
    set_whole(body, "progress", 100);
    set_text(body, "key", r->key);
    set_text(body, "format", r->format);
    set_text(body, "compression", json_text_or(result, "compression", NULL));
    set_text(body, "content_type", format ? format->content_type : NULL);
    if (r->sha256)
        json_object_set_new(body, "checksum", json_pack("{s:s}", "sha256", r->sha256));
    set_text(body, "snapshot_at", json_text_or(result, "snapshot_at", NULL));
    if (json_object_get(result, "columns"))
        json_object_set(body, "columns", json_object_get(result, "columns"));
    json_object_set_new(body, "truncated", json_false());
    json_object_set_new(body, "partial", json_false());
    set_whole(body, "files", 1);
    if (r->started_us > 0)
        set_whole(body, "duration_ms", (r->ended_us - r->started_us) / 1000);
    set_whole(body, "attempt", r->attempt);
    if (r->peak_bytes > 0)
        set_whole(body, "peak_memory_bytes", (int64_t)r->peak_bytes);
    set_time(body, "created_at", r->created_us);
    set_time(body, "started_at", r->started_us);
    set_time(body, "completed_at", r->ended_us);
    set_time(body, "retain_until", r->retain_us);
    set_links(body, r->id, false);
    json_object_set_new(body, "warnings", json_array());
    json_decref(result);
    return ok;
}

static bool
status_failed(json_t *body, const QueueRecord *r, ExportState state)
{
    ErrCode code = r->error_code ? err_code_of(r->error_code) : ERR_INTERNAL;

    set_text(body, "error", r->error ? r->error : err_sentence(code));
    set_text(body, "state", state_name(state));
    set_whole(body, "progress", r->progress);
    set_text(body, "error_code", r->error_code ? r->error_code : err_name(ERR_INTERNAL));
    json_object_set_new(body, "retryable", json_boolean(err_retry(code) != ERR_RETRY_NEVER));
    set_whole(body, "attempt", r->attempt);
    set_whole(body, "max_attempts", r->max_attempts);
    set_time(body, "created_at", r->created_us);
    set_time(body, "started_at", r->started_us);
    set_time(body, "failed_at", r->ended_us);
    if (r->started_us > 0)
        set_text(body, "stage", stage_name(r->stage));
    if (state == STATE_CANCELLED && r->cancel_us > 0) {
        json_t *cancel = json_object();

        set_time(cancel, "requested_at", r->cancel_us);
        set_text(cancel, "by", r->cancel_by);
        set_text(cancel, "reason", r->cancel_reason);
        /* A child says that it ended only when its query is gone; one that did not was killed. */
        if (r->started_us > 0)
            json_object_set_new(cancel, "query_stopped", json_true());
        set_whole(cancel, "stopped_after_ms", (r->ended_us - r->cancel_us) / 1000);
        json_object_set_new(body, "cancel", cancel);
    }
    set_links(body, r->id, false);
    return true;
}

json_t *
result_status(const QueueRecord *record, const ResultView *view, Arena *arena, Err *e)
{
    ExportState state = state_of(record, view->now_us);
    json_t *body = json_object();
    bool ok = false;

    set_text(body, "status", state_status(state));
    switch (state) {
    case STATE_SCHEDULED:
    case STATE_QUEUED:
        ok = status_waiting(body, record, state, view);
        break;
    case STATE_STARTING:
    case STATE_QUERYING:
    case STATE_STREAMING:
    case STATE_FINISHING:
    case STATE_RETRYING:
    case STATE_CANCELLING:
        ok = status_running(body, record, state, view);
        break;
    case STATE_COMPLETED:
    case STATE_EXPIRED:
        ok = status_completed(body, record, state, view, arena, e);
        break;
    case STATE_FAILED:
    case STATE_CANCELLED:
        ok = status_failed(body, record, state);
        break;
    case STATES:
        ok = fail(e, INTERNAL, "a task without a state");
        break;
    }
    if (ok)
        return body;
    json_decref(body);
    return NULL;
}

json_t *
result_file(const StorageObject *object, const QueueRecord *record, const ResultView *view,
    Arena *arena, Err *e)
{
    Link link = {.key = object->key,
        .name = key_file(object->key),
        .ended_us = object->modified_wall_us,
        .ttl_ms = view->config->url_ttl_ms,
        .retain_us = object->modified_wall_us + view->config->retention_ms * 1000};
    json_t *file = json_object(), *result = record ? further(record) : NULL;
    bool ok;

    (void)arena;
    if (record) { /* the same link as in S2 */
        link = link_of(record, result, view);
        link.key = object->key;
    }
    set_text(file, "key", object->key);
    set_whole(file, "size", object->bytes);
    set_seed_time(file, "last_modified", object->modified_wall_us, view->config);
    ok = set_link(file, &link, view, e);
    json_decref(result);
    if (!ok) {
        json_decref(file);
        return NULL;
    }
    json_object_del(file, "expires_at");
    json_object_del(file, "expires_reason");
    if (!record) { /* the seed's members: of others' files no more is known */
        json_object_del(file, "expires_in");
        return file;
    }
    set_text(file, "task_id", record->id);
    set_text(file, "export_type", record->export_type);
    set_text(file, "format", record->format);
    set_whole(file, "row_count", (int64_t)record->rows);
    set_time(file, "retain_until", record->retain_us);
    return file;
}

int
result_retry_after(const QueueRecord *record, int64_t now_us)
{
    int64_t tenth_s = (now_us - record->created_us) / us_per_second / 10;

    return tenth_s < 1 ? 1 : tenth_s > RETRY_AFTER_S_MAX ? RETRY_AFTER_S_MAX : (int)tenth_s;
}

/* FNV-1a of the link as it would be shown now, and of why it ends; 0: none. */
static uint64_t
hash_link(const QueueRecord *r, const ResultView *view)
{
    json_t *result = further(r);
    Link link = link_of(r, result, view);
    uint64_t hash = 0xcbf29ce484222325;
    SignedLink is;
    Err ignored = {0};
    bool ok = sign_link(&link, view, &is, &ignored);

    json_decref(result);
    if (!ok || !is.url[0])
        return 0;
    for (const char *parts[] = {is.url, is.reason}, **part = parts; part < parts + 2; part++)
        for (const char *c = *part; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3;
    return hash;
}

char *
result_etag(const QueueRecord *r, const ResultView *view, char to[80])
{
    uint64_t link_hash = 0;

    if (r->phase == QUEUE_COMPLETED)
        link_hash = hash_link(r, view);
    /* Masks keep it within its room, whatever a damaged record says. */
    snprintf(to, 80, "\"%x-%x-%x-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%x\"",
        (unsigned)state_of(r, view->now_us), (unsigned)r->progress & 0xff,
        (unsigned)r->attempt & 0xffff, (uint64_t)r->heartbeat_us, (uint64_t)r->ended_us,
        link_hash & 0xffffffffff, ((unsigned)r->position & 0xffff) * 2 + is_stalled(r, view));
    return to;
}

const char *
result_json(const ExportResult *result, const ExportRequest *request, const QueueRecord *record,
    int64_t now_us, Arena *arena, Err *e)
{
    json_t *columns = json_array(), *value;
    Buf text = buf_new(128 << 10);
    char snapshot[TIME_TEXT_BYTES];
    const char *json = NULL;

    (void)record;
    (void)now_us;
    for (size_t i = 0; i < request->type->columns; i++) {
        json_t *column = json_pack("{s:s}", "name", request->type->column[i].name);

        /* Else it is what the source says, which is not known here. */
        if (request->type->column_type_given[i])
            set_text(column, "type", column_type_name(request->type->column[i].type));
        json_array_append_new(columns, column);
    }
    value =
        json_pack("{s:o, s:s, s:s?, s:I}", "columns", columns, "compression", request->compression,
            "filename", request->filename, "url_ttl_ms", (json_int_t)request->url_ttl_ms);
    if (value && result->snapshot_wall_us > 0)
        json_object_set_new(
            value, "snapshot_at", json_string(time_rfc3339_ms(result->snapshot_wall_us, snapshot)));
    if (!value)
        fail(e, INTERNAL, "a result that JSON cannot write");
    else if (json_write(value, &text, e))
        json = arena_bytes(arena, text.data, text.bytes, e);
    json_decref(value);
    buf_free(&text);
    return json;
}

typedef struct {
    QueueTotal *total;
    size_t count;
    Arena *arena;
} Totals;

static void
add(Totals *to, MetricId id, double by, const char *const *labels)
{
    Err ignored = {0};
    char *series = arena_alloc(to->arena, SERIES_BYTES, &ignored);

    if (series && to->count < RESULT_TOTALS_MAX)
        to->total[to->count++] =
            (QueueTotal){.series = metric_series(id, 0, series, SERIES_BYTES, labels), .add = by};
}

static void
observe(Totals *to, MetricId id, double seconds, const char *const *labels)
{
    Err ignored = {0};
    char *bucket = arena_alloc(to->arena, SERIES_BYTES, &ignored);
    char *sum = arena_alloc(to->arena, SERIES_BYTES, &ignored);

    if (!bucket || !sum || to->count + 2 > RESULT_TOTALS_MAX)
        return;
    to->total[to->count++] =
        (QueueTotal){.series = metric_series(id, seconds, bucket, SERIES_BYTES, labels), .add = 1};
    to->total[to->count++] =
        (QueueTotal){.series = metric_series_sum(id, sum, SERIES_BYTES, labels), .add = seconds};
}

size_t
result_totals(const QueueRecord *record, const QueueWrite *write, int64_t now_us, Arena *arena,
    QueueTotal total[RESULT_TOTALS_MAX])
{
    Totals to = {total, 0, arena};
    const char *type = record->export_type, *format = record->format;
    const char *by_type[] = {type, NULL}, *by_format[] = {type, format, NULL};
    const char *code = write->error_code ? write->error_code : "";
    const char *outcome = write->op == QUEUE_COMPLETE ? "completed"
                          : write->op == QUEUE_FAIL   ? "failed"
                                                      : "cancelled";
    const char *finished[] = {type, format, outcome, code, NULL};

    if (strcmp(record->task, QUEUE_TASK_EXPORT) != 0)
        return 0;
    if (write->op == QUEUE_RETRY || write->op == QUEUE_GIVE_BACK) {
        const char *reason[] = {write->op == QUEUE_RETRY ? code : err_name(ERR_GIVEN_BACK), NULL};

        add(&to, METRIC_RETRIES, 1, reason);
        return to.count;
    }
    add(&to, METRIC_EXPORTS_FINISHED, 1, finished);
    if (record->started_us > 0) {
        observe(&to, METRIC_EXPORT_SECONDS, (double)(now_us - record->started_us) / 1e6, by_type);
        observe(&to, METRIC_EXPORT_WAIT_SECONDS,
            (double)(record->started_us - record->created_us) / 1e6, by_type);
    }
    if (write->op == QUEUE_COMPLETE) {
        const char *publish[] = {"complete", "ok", NULL};

        add(&to, METRIC_EXPORT_ROWS, (double)write->rows, by_format);
        add(&to, METRIC_EXPORT_BYTES, (double)write->bytes, by_format);
        add(&to, METRIC_STORAGE_REQUESTS, 1, publish);
        add(&to, METRIC_STORAGE_OBJECTS, 1, NULL);
        add(&to, METRIC_STORAGE_BYTES, (double)write->bytes, NULL);
    }
    return to.count;
}
