/*
 * Request: what was asked, checked against the type (api-surface.md 3.1). One parser for the API,
 * the command line and Celery messages; a second one reads back what the first understood, in the
 * worker's child.
 */
#ifndef EXPORT_REQUEST_H
#define EXPORT_REQUEST_H

#include <jansson.h>

#include "base/shape.h"
#include "export/kinds.h"
#include "export/type.h"

typedef struct {
    const ExportType *type;
    const char *user_id;
    const char *format;      /* "csv" */
    const char *compression; /* "none" */
    const char *filename;    /* NULL: the key's last part */
    EncoderOptions options;
    const SourceParam
        *param; /* one for each parameter of the type, in its order; missing ones are NULL */
    size_t params;
    int priority;          /* 0 high, 3 normal, 9 low */
    uint64_t row_limit;    /* 0: none */
    int64_t time_limit_ms; /* of one attempt */
    int64_t url_ttl_ms;
    int64_t retain_ms;
    int64_t not_before_us; /* 0: now */
} ExportRequest;

typedef struct {
    const TypeSet *types;
    const Kinds *kinds;
    const Config *config;
    bool strict; /* Prefer: handling=strict */
    int64_t now_us;
} RequestRules;

/*
 * Reports all that is wrong in `problems` (then false and VALIDATION_FAILED, or UNKNOWN_EXPORT_TYPE
 * / UNSUPPORTED_COMBINATION / UNKNOWN_MEMBER / NOT_AVAILABLE if that is all that is wrong), and
 * what was noticed in `warnings` (unknown-member, naive-timestamp).
 */
bool request_parse(const json_t *body, const RequestRules *rules, Arena *arena,
    ExportRequest *request, Problems *problems, Problems *warnings, Err *e) MUST_CHECK;

/* The request as understood: canonical JSON that lies on the queue, and back. The second trusts
 * nothing either. */
const char *request_to_json(const ExportRequest *request, Arena *arena, Err *e) MUST_CHECK;
bool request_from_json(const json_t *value, const ExportType *type, Arena *arena,
    ExportRequest *request, Err *e) MUST_CHECK;

/*
 * One parameter's value as its type reads it: no text becomes a number. False: `word` and `detail`
 * say why. `naive`: a time without zone was taken as UTC.
 */
bool request_param(const TypeParam *param, const json_t *value, Arena *arena, SourceParam *out,
    bool *naive, const char **word, char detail[200]) MUST_CHECK;

/* The JSON Schema of the body, for documents; the caller owns it. */
json_t *request_schema(void);

#endif
