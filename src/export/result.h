/*
 * Result: a record as users see it, in JSON (api-surface.md 3.1, 3.3, 6). One place for the API,
 * the command line and the worker.
 */
#ifndef EXPORT_RESULT_H
#define EXPORT_RESULT_H

#include <jansson.h>

#include "config/config.h"
#include "export/kinds.h"
#include "export/pipeline.h"
#include "export/state.h"

/* What is needed to make links; `storage` may be NULL: download_url is null. */
typedef struct {
    const Config *config;
    const Kinds *kinds;
    const StorageKind *storage_kind;
    Storage *storage;
    const char *base_url; /* "http://127.0.0.1:8000" */
    int64_t now_us;
} ResultView;

/* S1's body: task_id, status_url, status, state, created_at, position …; `warnings` may be NULL.
 * The caller owns it. */
json_t *result_accepted(const char *task_id, const QueuePut *put, const Problems *warnings,
    bool minimal, const ResultView *view);

/* S2's body. */
json_t *
result_status(const QueueRecord *record, const ResultView *view, Arena *arena, Err *e) MUST_CHECK;

/* One entry of S3; `record` may be NULL (a file that others wrote). */
json_t *result_file(const StorageObject *object, const QueueRecord *record, const ResultView *view,
    Arena *arena, Err *e) MUST_CHECK;

/* Seconds for Retry-After of a task that is not final. */
int result_retry_after(const QueueRecord *record, int64_t now_us);

/* A validator that changes whenever the S2 body does (but for seconds that pass); signs the link
 * of a file to know. Quoted; returns `to`. */
char *result_etag(const QueueRecord *record, const ResultView *view, char to[80]);

/* When a link that is made now ends: stable between polls, at least half of ttl left, never after
 * retain. Unix seconds. */
int64_t result_expiry(
    int64_t ended_us, int64_t ttl_ms, int64_t retain_us, int64_t now_us, const char **reason);

/* The JSON that COMPLETE stores: snapshot_at, columns, duration … */
const char *result_json(const ExportResult *result, const ExportRequest *request,
    const QueueRecord *record, int64_t now_us, Arena *arena, Err *e) MUST_CHECK;

/* Totals of one ended export or attempt (metric.def), for the write that ends it. At most
 * RESULT_TOTALS_MAX; returns how many. */
enum { RESULT_TOTALS_MAX = 10 };
size_t result_totals(const QueueRecord *record, const QueueWrite *write, int64_t now_us,
    Arena *arena, QueueTotal total[RESULT_TOTALS_MAX]);

#endif
