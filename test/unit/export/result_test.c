#include "export/result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/time.h"
#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

/* 2024-01-01T12:00:00Z */
static const int64_t noon_us = 1704110400000000;
static const int64_t second = 1000000, hour = 3600000000, day = 86400000000;

#define ID "8f14e45f-ceea-4e7a-9b1c-2d1f0c1a7f10"
#define KEY "exports/user_123/employee_metrics_20240101_120000_8f14e45f.csv"

static Arena *arena;
static char folder[BENCH_PATH_BYTES];
static ResultView view;

static int
set_up(void **state)
{
    char data[BENCH_PATH_BYTES + 32];
    char *options[] = {data, NULL};
    StorageSpec spec;
    Err e = {0};

    (void)state;
    snprintf(data, sizeof data, "--data-dir=%s", bench_folder(folder));
    arena = arena_new(64 << 20);
    view = (ResultView){.config = bench_config(arena, options),
        .kinds = &bench_kinds,
        .storage_kind = &storage_file,
        .base_url = "http://127.0.0.1:8000",
        .now_us = noon_us};
    spec = kinds_storage_spec(view.config, false);
    spec.url_secret[0] = "0123456789abcdef0123456789abcdef";
    spec.url_secrets = 1;
    view.storage = storage_file.open(&spec, &e);
    return view.storage ? 0 : -1;
}

static int
tear_down(void **state)
{
    char path[BENCH_PATH_BYTES + 32];

    (void)state;
    storage_file.close(view.storage);
    snprintf(path, sizeof path, "%s/files/.uploads", folder);
    (void)rmdir(path);
    snprintf(path, sizeof path, "%s/files", folder);
    (void)rmdir(path);
    (void)rmdir(folder);
    arena_free(arena);
    return 0;
}

static QueueRecord
record_of(QueuePhase phase)
{
    bool started = phase != QUEUE_QUEUED;
    bool ended = phase >= QUEUE_COMPLETED;

    return (QueueRecord){.id = ID,
        .task = QUEUE_TASK_EXPORT,
        .user_id = "user_123",
        .export_type = "employee_metrics",
        .source = "graph",
        .format = "csv",
        .phase = phase,
        .stage = STAGE_STREAMING,
        .progress = started ? 55 : 0,
        .rows = started ? 2000 : 0,
        .bytes = started ? 1048576 : 0,
        .rows_estimated = -1,
        .attempt = started,
        .max_attempts = 3,
        .created_us = noon_us - 10 * second,
        .started_us = started ? noon_us - 5 * second : 0,
        .attempt_us = started ? noon_us - 5 * second : 0,
        .heartbeat_us = started ? noon_us - second : 0,
        .ended_us = ended ? noon_us : 0,
        .retain_us = phase == QUEUE_COMPLETED || phase == QUEUE_EXPIRED ? noon_us + 7 * day : 0,
        .key = phase >= QUEUE_PREPARED && phase <= QUEUE_EXPIRED ? KEY : NULL,
        .sha256 = phase >= QUEUE_PREPARED && phase <= QUEUE_EXPIRED ? "ab12" : NULL};
}

/* The names of an object's members, in their order: "status progress …". */
static const char *
members(const json_t *object)
{
    Buf names = buf_new(4096);
    const char *name, *text;
    json_t *value;
    Err e = {0};

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
        buf_printf(&names, "%s%s", names.bytes ? " " : "", name);
    text = arena_bytes(arena, names.data, names.bytes, &e);
    buf_free(&names);
    return text;
}

static json_t *
status(const QueueRecord *r)
{
    Err e = {0};
    json_t *body = result_status(r, &view, arena, &e);

    if (!body)
        fail_msg("%s", err_root(&e));
    return body;
}

static const char *
text(const json_t *object, const char *name)
{
    return json_text_or(object, name, "(none)");
}

/* --- S1 --- */

static void
test_accepted(void **state)
{
    QueuePut put = {.id = ID, .created_us = noon_us + 12000};
    Problems warnings = {.arena = arena};
    json_t *body, *warning;

    (void)state;
    problem_add(&warnings, "/formt", "unknown-member", NULL, "is not a known name");
    body = result_accepted(ID, &put, &warnings, false, &view);
    assert_string_equal(
        members(body), "task_id status_url status state created_at deduplicated links warnings");
    assert_string_equal(text(body, "task_id"), ID);
    assert_string_equal(text(body, "status_url"), "/api/exports/" ID "/status");
    assert_string_equal(text(body, "status"), "queued");
    assert_string_equal(text(body, "state"), "queued");
    assert_string_equal(text(body, "created_at"), "2024-01-01T12:00:00.012Z");
    assert_false(json_bool_or(body, "deduplicated", true));
    assert_string_equal(members(json_object_get(body, "links")), "self cancel");
    assert_string_equal(
        text(json_object_get(body, "links"), "cancel"), "/api/exports/" ID "/cancel");
    warning = json_array_get(json_object_get(body, "warnings"), 0);
    assert_string_equal(members(warning), "code detail pointer");
    assert_string_equal(text(warning, "code"), "unknown-member");
    assert_string_equal(text(warning, "pointer"), "/formt");
    json_decref(body);
    body = result_accepted(ID, &put, NULL, false, &view);
    assert_int_equal(json_array_size(json_object_get(body, "warnings")), 0);
    json_decref(body);
    body = result_accepted(ID, &put, &warnings, true, &view);
    assert_string_equal(members(body), "task_id status_url status");
    json_decref(body);
    put.available_us = noon_us + hour;
    body = result_accepted(ID, &put, NULL, false, &view);
    assert_string_equal(text(body, "status"), "queued");
    assert_string_equal(text(body, "state"), "scheduled");
    json_decref(body);
}

/* --- S2 --- */

static void
test_waiting(void **state)
{
    QueueRecord r = record_of(QUEUE_QUEUED);
    json_t *body;

    (void)state;
    r.position = 3;
    body = status(&r);
    assert_string_equal(
        members(body), "status progress state position waiting_for created_at links");
    assert_string_equal(text(body, "status"), "queued");
    assert_int_equal(json_int_or(body, "progress", -1), 0);
    assert_string_equal(text(body, "state"), "queued");
    assert_int_equal(json_int_or(body, "position", -1), 3);
    assert_string_equal(text(body, "waiting_for"), "worker");
    assert_string_equal(text(body, "created_at"), "2024-01-01T11:59:50.000Z");
    json_decref(body);
    r.position = 0;
    r.available_us = noon_us + hour;
    body = status(&r);
    assert_string_equal(members(body), "status progress state not_before created_at links");
    assert_string_equal(text(body, "status"), "queued");
    assert_string_equal(text(body, "state"), "scheduled");
    assert_string_equal(text(body, "not_before"), "2024-01-01T13:00:00.000Z");
    json_decref(body);
}

static void
test_running(void **state)
{
    QueueRecord r = record_of(QUEUE_RUNNING);
    json_t *body;

    (void)state;
    r.rows_estimated = 4000;
    body = status(&r);
    assert_string_equal(members(body),
        "status progress state attempt max_attempts rows_done bytes_done rows_estimated "
        "estimate_source rows_per_second eta_seconds elapsed_ms created_at started_at "
        "heartbeat_at stalled links");
    assert_string_equal(text(body, "status"), "processing");
    assert_string_equal(text(body, "state"), "streaming");
    assert_int_equal(json_int_or(body, "progress", -1), 55);
    assert_int_equal(json_int_or(body, "rows_done", -1), 2000);
    assert_int_equal(json_int_or(body, "bytes_done", -1), 1048576);
    assert_int_equal(json_int_or(body, "rows_per_second", -1), 400);
    assert_int_equal(json_int_or(body, "eta_seconds", -1), 5);
    assert_int_equal(json_int_or(body, "elapsed_ms", -1), 5000);
    assert_false(json_bool_or(body, "stalled", true));
    assert_string_equal(members(json_object_get(body, "links")), "self cancel");
    json_decref(body);
    /* Nobody has guessed; three heartbeats are missing. */
    r.rows_estimated = -1;
    r.heartbeat_us = noon_us - 15 * second - 1;
    body = status(&r);
    assert_null(json_object_get(body, "rows_estimated"));
    assert_null(json_object_get(body, "eta_seconds"));
    assert_true(json_bool_or(body, "stalled", false));
    json_decref(body);
    r.cancel_us = noon_us;
    body = status(&r);
    assert_string_equal(text(body, "state"), "cancelling");
    assert_string_equal(text(body, "status"), "processing");
    json_decref(body);
}

static void
test_retrying_and_finishing(void **state)
{
    QueueRecord r = record_of(QUEUE_QUEUED);
    json_t *body;

    (void)state;
    r.started_us = noon_us - 60 * second;
    r.attempt = 1;
    r.progress = 60;
    r.available_us = noon_us + 30 * second;
    body = status(&r);
    assert_string_equal(members(body),
        "status progress state attempt max_attempts rows_done bytes_done retry_at created_at "
        "started_at stalled links");
    assert_string_equal(text(body, "status"), "processing");
    assert_string_equal(text(body, "state"), "retrying");
    assert_int_equal(json_int_or(body, "progress", -1), 60);
    assert_string_equal(text(body, "retry_at"), "2024-01-01T12:00:30.000Z");
    assert_false(json_bool_or(body, "stalled", true));
    assert_string_equal(members(json_object_get(body, "links")), "self cancel");
    json_decref(body);
    /* The last moment: no cancel any more. */
    r = record_of(QUEUE_PREPARED);
    body = status(&r);
    assert_string_equal(text(body, "state"), "finishing");
    assert_string_equal(members(json_object_get(body, "links")), "self");
    json_decref(body);
}

static void
test_completed(void **state)
{
    QueueRecord r = record_of(QUEUE_COMPLETED);
    Fetched file;
    json_t *body, *column;
    Err e = {0};

    (void)state;
    r.progress = 100;
    r.peak_bytes = 41943040;
    r.result =
        "{\"columns\":[{\"name\":\"employee_id\",\"type\":\"text\"}],\"compression\":\"none\","
        "\"filename\":\"Report \xc3\xa9.csv\",\"url_ttl_ms\":3600000,"
        "\"snapshot_at\":\"2024-01-01T11:59:55.420Z\"}";
    body = status(&r);
    assert_string_equal(members(body),
        "status download_url expires_at expires_in expires_reason file_size row_count state "
        "progress key format compression content_type checksum snapshot_at columns truncated "
        "partial files duration_ms attempt peak_memory_bytes created_at started_at completed_at "
        "retain_until links warnings");
    assert_string_equal(text(body, "status"), "completed");
    assert_string_equal(text(body, "state"), "completed");
    assert_non_null(strstr(text(body, "download_url"), "http://127.0.0.1:8000/files/" KEY "?"));
    assert_non_null(strstr(text(body, "download_url"), "name=Report%20%C3%A9.csv"));
    /* It is a link of ours: only the file is not there. */
    assert_false(view.storage_kind->fetch(
        view.storage, strstr(text(body, "download_url"), "/files/"), noon_us / second, &file, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(text(body, "expires_at"), "2024-01-01T13:00:00");
    assert_int_equal(json_int_or(body, "expires_in", -1), 3600);
    assert_string_equal(text(body, "expires_reason"), "requested");
    assert_int_equal(json_int_or(body, "file_size", -1), 1048576);
    assert_int_equal(json_int_or(body, "row_count", -1), 2000);
    assert_int_equal(json_int_or(body, "progress", -1), 100);
    assert_string_equal(text(body, "key"), KEY);
    assert_string_equal(text(body, "format"), "csv");
    assert_string_equal(text(body, "content_type"), "text/csv; charset=utf-8");
    assert_string_equal(text(json_object_get(body, "checksum"), "sha256"), "ab12");
    assert_string_equal(text(body, "snapshot_at"), "2024-01-01T11:59:55.420Z");
    column = json_array_get(json_object_get(body, "columns"), 0);
    assert_string_equal(text(column, "name"), "employee_id");
    assert_int_equal(json_int_or(body, "files", -1), 1);
    assert_int_equal(json_int_or(body, "duration_ms", -1), 5000);
    assert_int_equal(json_int_or(body, "peak_memory_bytes", -1), 41943040);
    assert_string_equal(text(body, "retain_until"), "2024-01-08T12:00:00.000Z");
    json_decref(body);
}

/* The four seed members are always there, whatever is known besides. */
static void
test_completed_without_more(void **state)
{
    static const char *const results[] = {NULL, "{}", "", "[", "null", "[]", "{\"columns\":1}",
        "{\"url_ttl_ms\":-1,\"filename\":5}", "{\"url_ttl_ms\":9223372036854775807}"};

    (void)state;
    for (size_t i = 0; i < COUNT(results); i++) {
        QueueRecord r = record_of(QUEUE_COMPLETED);
        json_t *body;

        r.result = results[i];
        body = status(&r);
        assert_non_null(strstr(text(body, "download_url"), "8f14e45f.csv&signature="));
        assert_string_equal(text(body, "expires_at"), "2024-01-02T12:00:00");
        assert_int_equal(json_int_or(body, "file_size", -1), 1048576);
        assert_int_equal(json_int_or(body, "row_count", -1), 2000);
        json_decref(body);
    }
}

static void
test_expired(void **state)
{
    QueueRecord r = record_of(QUEUE_EXPIRED);
    json_t *body = status(&r);

    (void)state;
    assert_string_equal(text(body, "status"), "completed");
    assert_string_equal(text(body, "state"), "expired");
    assert_true(json_is_null(json_object_get(body, "download_url")));
    assert_null(json_object_get(body, "expires_at"));
    assert_int_equal(json_int_or(body, "row_count", -1), 2000);
    json_decref(body);
    /* Due, but not swept yet: no link either. */
    r = record_of(QUEUE_COMPLETED);
    r.retain_us = noon_us;
    body = status(&r);
    assert_string_equal(text(body, "state"), "completed");
    assert_true(json_is_null(json_object_get(body, "download_url")));
    json_decref(body);
}

static void
test_failed(void **state)
{
    QueueRecord r = record_of(QUEUE_FAILED);
    json_t *body;

    (void)state;
    r.error_code = "source-timeout";
    r.error = "The database did not answer in time";
    r.error_detail = "no answer from db.local";
    body = status(&r);
    assert_string_equal(members(body),
        "status error state progress error_code retryable attempt max_attempts created_at "
        "started_at failed_at stage links");
    assert_string_equal(text(body, "status"), "failed");
    assert_string_equal(text(body, "error"), "The database did not answer in time");
    assert_string_equal(text(body, "error_code"), "source-timeout");
    assert_true(json_bool_or(body, "retryable", false));
    assert_string_equal(text(body, "failed_at"), "2024-01-01T12:00:00.000Z");
    assert_string_equal(text(body, "stage"), "streaming");
    json_decref(body);
    r.error_code = "source-query";
    body = status(&r);
    assert_false(json_bool_or(body, "retryable", true));
    json_decref(body);
    /* A record that does not say why. */
    r.error_code = r.error = NULL;
    body = status(&r);
    assert_string_equal(text(body, "error_code"), "internal");
    assert_string_equal(text(body, "error"), err_sentence(ERR_INTERNAL));
    json_decref(body);
}

static void
test_cancelled(void **state)
{
    QueueRecord r = record_of(QUEUE_CANCELLED);
    json_t *body, *cancel;

    (void)state;
    r.error_code = "cancelled";
    r.error = "Cancelled";
    r.cancel_us = noon_us - 140000;
    r.cancel_by = "user_123";
    r.cancel_reason = "no need";
    body = status(&r);
    assert_string_equal(text(body, "status"), "failed");
    assert_string_equal(text(body, "state"), "cancelled");
    assert_string_equal(text(body, "error"), "Cancelled");
    assert_string_equal(text(body, "error_code"), "cancelled");
    cancel = json_object_get(body, "cancel");
    assert_string_equal(members(cancel), "requested_at by reason query_stopped stopped_after_ms");
    assert_string_equal(text(cancel, "requested_at"), "2024-01-01T11:59:59.860Z");
    assert_int_equal(json_int_or(cancel, "stopped_after_ms", -1), 140);
    json_decref(body);
    /* It had not started: there was no query to stop. */
    r.started_us = 0;
    r.cancel_reason = NULL;
    body = status(&r);
    assert_string_equal(
        members(json_object_get(body, "cancel")), "requested_at by stopped_after_ms");
    assert_null(json_object_get(body, "stage"));
    json_decref(body);
}

/* ROWFERRY_TIMESTAMPS=rfc3339 gives the seed's times a Z. */
static void
test_timestamps(void **state)
{
    Config config = *view.config;
    const Config *before = view.config;
    QueueRecord r = record_of(QUEUE_COMPLETED);
    json_t *body;

    (void)state;
    config.timestamps = "rfc3339";
    view.config = &config;
    body = status(&r);
    view.config = before;
    assert_string_equal(text(body, "expires_at"), "2024-01-02T12:00:00Z");
    json_decref(body);
}

/* --- links --- */

/* Over a file's life, polled every minute: the link lives at least half of what was asked, never
 * longer than the file or than asked, and changes only now and then. */
static void
test_expiry(void **state)
{
    static const int64_t ttls_ms[] = {60000, 3600000, 86400000, 604800000};

    (void)state;
    for (size_t i = 0; i < COUNT(ttls_ms); i++) {
        int64_t ttl_us = ttls_ms[i] * 1000, retain_us = noon_us + 7 * day, last_s = 0;
        int changes = 0;

        for (int64_t now_us = noon_us; now_us < retain_us; now_us += 59 * second + 1234) {
            const char *reason;
            int64_t expires_s = result_expiry(noon_us, ttls_ms[i], retain_us, now_us, &reason);
            int64_t left_us = expires_s * second - now_us;

            assert_true(expires_s >= last_s);
            assert_true(expires_s * second <= retain_us);
            assert_true(left_us <= ttl_us);
            if (strcmp(reason, "requested") == 0)
                assert_true(left_us > ttl_us / 2 - second);
            else
                assert_true(expires_s == retain_us / second);
            changes += expires_s != last_s;
            last_s = expires_s;
        }
        assert_true(changes <= 1 + 2 * 7 * day / ttl_us);
    }
}

static void
test_expiry_reasons(void **state)
{
    const char *reason;

    (void)state;
    assert_int_equal(
        result_expiry(noon_us, 86400000, 0, noon_us, &reason), (noon_us + day) / second);
    assert_string_equal(reason, "requested");
    assert_int_equal(result_expiry(noon_us, 86400000, noon_us + hour, noon_us, &reason),
        (noon_us + hour) / second);
    assert_string_equal(reason, "retention");
    /* A clock that went back does not make a link live for ever. */
    assert_int_equal(result_expiry(noon_us, 86400000, 0, noon_us - 100 * day, &reason),
        (noon_us + day) / second);
}

/* --- S3 --- */

static void
test_file(void **state)
{
    const StorageObject object = {KEY, 1048576, noon_us + 5 * second};
    QueueRecord r = record_of(QUEUE_COMPLETED);
    json_t *file, *body;
    Err e = {0};

    (void)state;
    r.result = "{\"filename\":\"a.csv\",\"url_ttl_ms\":3600000}";
    file = result_file(&object, &r, &view, arena, &e);
    assert_string_equal(members(file),
        "key size last_modified download_url expires_in task_id export_type format row_count "
        "retain_until");
    assert_string_equal(text(file, "key"), KEY);
    assert_int_equal(json_int_or(file, "size", -1), 1048576);
    assert_string_equal(text(file, "last_modified"), "2024-01-01T12:00:05");
    assert_string_equal(text(file, "task_id"), ID);
    assert_string_equal(text(file, "export_type"), "employee_metrics");
    assert_string_equal(text(file, "format"), "csv");
    assert_int_equal(json_int_or(file, "row_count", -1), 2000);
    assert_int_equal(json_int_or(file, "expires_in", -1), 3600);
    /* S2 gives the same link. */
    body = status(&r);
    assert_string_equal(text(file, "download_url"), text(body, "download_url"));
    json_decref(body);
    json_decref(file);
    /* A file that others wrote: the seed's members, no more. */
    file = result_file(&object, NULL, &view, arena, &e);
    assert_string_equal(members(file), "key size last_modified download_url");
    assert_non_null(strstr(text(file, "download_url"), "/files/" KEY "?expires="));
    json_decref(file);
}

static void
test_file_without_a_store(void **state)
{
    const StorageObject object = {KEY, 1, noon_us};
    ResultView blind = view;
    json_t *file;
    Err e = {0};

    (void)state;
    blind.storage = NULL;
    file = result_file(&object, NULL, &blind, arena, &e);
    assert_true(json_is_null(json_object_get(file, "download_url")));
    json_decref(file);
}

/* --- polling --- */

static void
test_retry_after(void **state)
{
    static const struct {
        int64_t age_s;
        int want;
    } cases[] = {{-5, 1}, {0, 1}, {9, 1}, {19, 1}, {20, 2}, {55, 5}, {100, 10}, {100000, 10}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const QueueRecord r = {.created_us = noon_us - cases[i].age_s * second};

        assert_int_equal(result_retry_after(&r, noon_us), cases[i].want);
    }
}

/* The body without what only tells that seconds pass. */
static char *
steady(const QueueRecord *r)
{
    static const char *const passing[] = {
        "expires_in", "elapsed_ms", "rows_per_second", "eta_seconds", NULL};
    json_t *body = status(r);
    char *dump;

    for (size_t i = 0; passing[i]; i++)
        json_object_del(body, passing[i]);
    dump = json_dumps(body, JSON_SORT_KEYS);
    json_decref(body);
    return dump;
}

/* Two records, or two moments: the ETag differs just if the body does. */
static void
judge(const char *name, const QueueRecord *a, int64_t a_us, const QueueRecord *b, int64_t b_us)
{
    char etag[2][80], *body[2];

    view.now_us = a_us;
    result_etag(a, &view, etag[0]);
    body[0] = steady(a);
    view.now_us = b_us;
    result_etag(b, &view, etag[1]);
    body[1] = steady(b);
    view.now_us = noon_us;
    for (int i = 0; i < 2; i++) {
        size_t bytes = strlen(etag[i]);

        assert_true(bytes > 2 && bytes < 79 && etag[i][0] == '"' && etag[i][bytes - 1] == '"');
        assert_int_equal(strcspn(etag[i] + 1, "\""), bytes - 2);
    }
    if ((strcmp(etag[0], etag[1]) == 0) != (strcmp(body[0], body[1]) == 0))
        fail_msg("%s: ETag %s, body %s", name, strcmp(etag[0], etag[1]) == 0 ? "stays" : "changes",
            strcmp(body[0], body[1]) == 0 ? "stays" : "changes");
    free(body[0]);
    free(body[1]);
}

static void
test_etag(void **state)
{
    QueueRecord r = record_of(QUEUE_QUEUED), s;

    (void)state;
    judge("nothing happens", &r, noon_us, &r, noon_us + 3 * second);
    s = r;
    s.position = 2;
    judge("it moves up", &r, noon_us, &s, noon_us);
    r.available_us = noon_us + second;
    judge("it becomes due", &r, noon_us, &r, noon_us + 2 * second);
    s = record_of(QUEUE_RUNNING);
    judge("it starts", &r, noon_us, &s, noon_us);
    r = s;
    judge("it runs", &r, noon_us, &r, noon_us + second);
    s.heartbeat_us += second;
    s.rows += 10;
    judge("rows come", &r, noon_us, &s, noon_us);
    judge("it stalls", &r, noon_us, &r, noon_us + 20 * second);
    s = r;
    s.cancel_us = noon_us;
    judge("it is to be cancelled", &r, noon_us, &s, noon_us);
    s = record_of(QUEUE_PREPARED);
    judge("it is prepared", &r, noon_us, &s, noon_us);
    judge("it stalls when prepared", &s, noon_us, &s, noon_us + 20 * second);
    r = record_of(QUEUE_COMPLETED);
    judge("it completes", &s, noon_us, &r, noon_us);
    s = record_of(QUEUE_EXPIRED);
    judge("it expires", &r, noon_us, &s, noon_us);
    /* Links: signed anew at half of what was asked for, gone with the file. */
    judge("a poll", &r, noon_us + hour, &r, noon_us + 2 * hour);
    judge("half a day", &r, noon_us + hour, &r, noon_us + 13 * hour);
    judge("the last hours", &r, noon_us + 6 * day + 13 * hour, &r, noon_us + 7 * day - hour);
    judge("the end", &r, noon_us + 7 * day - hour, &r, noon_us + 7 * day);
    judge("after the end", &r, noon_us + 7 * day, &r, noon_us + 9 * day);
    r.result = "{\"url_ttl_ms\":60000}";
    judge("a short link", &r, noon_us, &r, noon_us + 31 * second);
    judge("a short link, a poll", &r, noon_us, &r, noon_us + 29 * second);
    r = record_of(QUEUE_FAILED);
    s = record_of(QUEUE_CANCELLED);
    judge("failed or cancelled", &r, noon_us, &s, noon_us);
    judge("failed, a poll", &r, noon_us, &r, noon_us + day);
}

/* Every minute of a file's life with the link's time asked: never a link that has changed unseen.
 */
static void
test_etag_over_a_life(void **state)
{
    QueueRecord r = record_of(QUEUE_COMPLETED);

    (void)state;
    r.result = "{\"url_ttl_ms\":900000}";
    for (int64_t at = noon_us; at < noon_us + 7 * day + hour; at += 601 * second)
        judge("life", &r, at, &r, at + 601 * second);
}

static int64_t credentials_end_s;

static bool
signs_for_a_while(Storage *s, const char *key, const SignSpec *spec, char *url, size_t url_bytes,
    int64_t *expires_wall_s, Err *e)
{
    (void)s;
    (void)e;
    assert_string_equal(spec->name, "x.csv");
    assert_string_equal(spec->content_type, "text/csv; charset=utf-8");
    *expires_wall_s =
        spec->expires_wall_s < credentials_end_s ? spec->expires_wall_s : credentials_end_s;
    return snprintf(url, url_bytes, "https://store/%s?until=%lld", key,
               (long long)*expires_wall_s) < (int)url_bytes;
}

/* What a store signs with may end before what was asked for: the true end is told, and new
 * credentials make a new link. */
static void
test_credentials_that_end(void **state)
{
    static const struct {
        int64_t in_s; /* the credentials end */
        const char *reason;
        int64_t expires_in_s;
    } cases[] = {{3600, "credentials", 3600}, {7200, "credentials", 7200},
        {86399, "credentials", 86399}, {86400, "requested", 86400}, {999999, "requested", 86400}};
    const ResultView before = view;
    StorageKind kind = storage_file;
    QueueRecord r = record_of(QUEUE_COMPLETED);
    char etag[COUNT(cases)][80];

    (void)state;
    kind.sign = signs_for_a_while;
    view.storage_kind = &kind;
    r.result = "{\"compression\":\"none\",\"filename\":\"x.csv\"}";
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *body;

        credentials_end_s = noon_us / second + cases[i].in_s;
        body = status(&r);
        assert_string_equal(text(body, "expires_reason"), cases[i].reason);
        assert_int_equal(
            json_integer_value(json_object_get(body, "expires_in")), cases[i].expires_in_s);
        json_decref(body);
        result_etag(&r, &view, etag[i]);
        if (i > 0)
            assert_true((strcmp(etag[i], etag[i - 1]) == 0) == (i == 4));
    }
    view = before;
}

/* A damaged record: still one ETag, within its room. */
static void
test_etag_of_damaged(void **state)
{
    const QueueRecord r = {.phase = QUEUE_RUNNING,
        .progress = -1,
        .attempt = -1,
        .heartbeat_us = -1,
        .ended_us = -1,
        .position = -1};
    char etag[80];

    (void)state;
    assert_ptr_equal(result_etag(&r, &view, etag), etag);
    assert_int_equal(etag[strlen(etag) - 1], '"');
}

/* --- what COMPLETE stores --- */

static void
test_json(void **state)
{
    static const ColumnSpec columns[] = {{.name = "a", .type = COLUMN_INT64}, {.name = "b"}};
    static const bool given[] = {true, false};
    const ExportType type = {
        .name = "t", .column = columns, .column_type_given = given, .columns = 2};
    ExportRequest request = {
        .type = &type, .compression = "none", .filename = "x.csv", .url_ttl_ms = 60000};
    const ExportResult result = {.rows = 5, .snapshot_wall_us = noon_us};
    const char *written;
    json_t *json, *list;
    Err e = {0};

    (void)state;
    written = result_json(&result, &request, NULL, noon_us, arena, &e);
    assert_non_null(written);
    json = json_parse(written, strlen(written), 8, &e);
    list = json_object_get(json, "columns");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text(json_array_get(list, 0), "type"), "int64");
    assert_string_equal(members(json_array_get(list, 1)), "name");
    assert_string_equal(text(json, "filename"), "x.csv");
    assert_string_equal(text(json, "snapshot_at"), "2024-01-01T12:00:00.000Z");
    assert_int_equal(json_int_or(json, "url_ttl_ms", 0), 60000);
    json_decref(json);
}

static void
test_totals(void **state)
{
    static const struct {
        QueueWriteOp op;
        const char *error_code;
        size_t count;
        const char *first;
    } cases[] = {
        {QUEUE_COMPLETE, NULL, 10,
            "rowferry_exports_finished_total{type=\"employee_metrics\",format=\"csv\","
            "outcome=\"completed\",error_code=\"\"}"},
        {QUEUE_FAIL, "source-query", 5,
            "rowferry_exports_finished_total{type=\"employee_metrics\",format=\"csv\","
            "outcome=\"failed\",error_code=\"source-query\"}"},
        {QUEUE_CANCELLED_NOW, "cancelled", 5,
            "rowferry_exports_finished_total{type=\"employee_metrics\",format=\"csv\","
            "outcome=\"cancelled\",error_code=\"cancelled\"}"},
        {QUEUE_RETRY, "source-timeout", 1,
            "rowferry_task_retries_total{reason=\"source-timeout\"}"},
        {QUEUE_GIVE_BACK, NULL, 1, "rowferry_task_retries_total{reason=\"given-back\"}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        QueueRecord r = record_of(QUEUE_RUNNING);
        QueueTotal total[RESULT_TOTALS_MAX];
        const QueueWrite write = {
            .op = cases[i].op, .error_code = cases[i].error_code, .rows = 7, .bytes = 70};
        size_t count = result_totals(&r, &write, noon_us, arena, total);

        assert_int_equal(count, cases[i].count);
        assert_string_equal(total[0].series, cases[i].first);
        assert_true(total[0].add == 1);
        if (cases[i].op == QUEUE_COMPLETE) {
            assert_string_equal(
                total[2].series, "rowferry_export_duration_seconds_sum{type=\"employee_metrics\"}");
            assert_true(total[2].add == 5);
            assert_true(total[5].add == 7 && total[6].add == 70);
            assert_string_equal(total[8].series, "rowferry_storage_objects");
            assert_string_equal(total[9].series, "rowferry_storage_bytes");
            assert_true(total[8].add == 1 && total[9].add == 70 && !total[9].set);
        }
        /* A sweep counts for itself. */
        r.task = QUEUE_TASK_SWEEP;
        assert_int_equal(result_totals(&r, &write, noon_us, arena, total), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_retrying_and_finishing),
        cmocka_unit_test(test_completed),
        cmocka_unit_test(test_completed_without_more),
        cmocka_unit_test(test_expired),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_timestamps),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_expiry_reasons),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_without_a_store),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_etag),
        cmocka_unit_test(test_etag_over_a_life),
        cmocka_unit_test(test_credentials_that_end),
        cmocka_unit_test(test_etag_of_damaged),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_totals),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
