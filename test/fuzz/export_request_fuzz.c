/*
 * Any bytes are refused with a reason, or become a request that is the same on the other side of
 * the queue.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "export/request.h"
#include "test/unit/export/bench.h"
#include "test/unit/export/definition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { DEPTH = 32 };

static const Config config = {.task_time_limit_ms = 3600000,
    .url_ttl_ms = 86400000,
    .retention_ms = 604800000,
    .csv_eol = "crlf"};

static const ExportType *
load(const char *text, Arena *arena)
{
    Err e = {0};
    json_t *json = json_parse(text, strlen(text), DEPTH, &e);
    const ExportType *type = json ? type_from_json(json, arena, &e) : NULL;

    if (!type)
        abort();
    return type;
}

/* What leaves in an answer is text, and says where and why. */
static void
check_problems(const Problems *problems)
{
    for (size_t i = 0; i < problems->count && i < PROBLEMS_MAX; i++) {
        const Problem *p = &problems->problem[i];

        if (!*p->word || !*p->detail || !text_is_utf8(p->pointer, strlen(p->pointer)) ||
            !text_is_utf8(p->detail, strlen(p->detail)) || (*p->pointer && *p->pointer != '/'))
            abort();
    }
}

static void
check_round_trip(const ExportRequest *request, Arena *arena)
{
    const char *text, *again;
    ExportRequest other;
    json_t *json;
    Err e = {0};

    if (!(text = request_to_json(request, arena, &e)) ||
        !(json = json_parse(text, strlen(text), DEPTH + 1, &e)) ||
        !request_from_json(json, request->type, arena, &other, &e) ||
        !(again = request_to_json(&other, arena, &e)) || strcmp(text, again) != 0)
        abort();
    if (strcmp(request->user_id, other.user_id) != 0 || request->params != other.params ||
        request->row_limit != other.row_limit || request->time_limit_ms != other.time_limit_ms ||
        request->url_ttl_ms != other.url_ttl_ms || request->retain_ms != other.retain_ms ||
        request->options.csv.header != other.options.csv.header)
        abort();
    for (size_t i = 0; i < request->params; i++)
        if (request->param[i].is_null != other.param[i].is_null)
            abort();
    json_decref(json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static ExportType types[2];
    static const TypeSet set = {types, 2};
    const RequestRules rules = {.types = &set,
        .kinds = &bench_kinds,
        .config = &config,
        .strict = bytes % 2,
        .now_us = 1704110400000000};
    Arena *arena = arena_new(64 << 20);
    Problems problems = {.arena = arena}, warnings = {.arena = arena};
    ExportRequest request;
    json_t *body;
    Err e = {0};

    if (!types[0].name) {
        static Arena *process;

        process = arena_new(1 << 20);
        types[0] = *load(definition_all, process);
        types[1] = *load(definition_strict, process);
    }
    if ((body = json_parse((const char *)data, bytes, DEPTH, &e))) {
        bool ok = request_parse(body, &rules, arena, &request, &problems, &warnings, &e);

        if (ok != (problems.count == 0) || ok != (e.links == 0) ||
            (!ok && err_http_status(e.code) != 422))
            abort();
        check_problems(&problems);
        check_problems(&warnings);
        if (ok)
            check_round_trip(&request, arena);
    } else if (e.code != ERR_MALFORMED_JSON && e.code != ERR_INVALID_ENCODING &&
               e.code != ERR_VALIDATION_FAILED) {
        abort();
    }
    json_decref(body);
    arena_free(arena);
    return 0;
}
