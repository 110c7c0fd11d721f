/*
 * Any query with any value: token by token, what comes out is what went in, but for the parameters,
 * each of which is an expression in parentheses of a form that is ours alone. So no value can have
 * become a part of the query.
 *
 * Input: a type, the value up to the first line's end, the query.
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "source/postgres/postgres_in.h"
#include "source/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static bool
next_is(QueryToken *token, const char *text)
{
    return query_token(token->at + token->bytes, QUERY_SQL, token) &&
           token->bytes == strlen(text) && memcmp(token->at, text, token->bytes) == 0;
}

/* Letters that end no text. */
static bool
is_literal(const QueryToken *token)
{
    if (token->kind != QUERY_QUOTED || token->bytes < 2 || token->at[0] != '\'' ||
        token->at[token->bytes - 1] != '\'')
        return false;
    for (size_t i = 1; i < token->bytes - 1; i++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:+. -",
                token->at[i]) ||
            !token->at[i])
            return false;
    return true;
}

static void
check_setting(QueryToken *at, const SourceParam *param)
{
    char name[96];

    snprintf(name, sizeof name, "'rowferry.p_%s'", param->name);
    must(next_is(at, ".") && next_is(at, "current_setting") && next_is(at, "(") &&
         next_is(at, name) && next_is(at, ")"));
}

/* `at` stands before the expression, and behind it afterwards. */
static void
check_expression(QueryToken *at, const SourceParam *param)
{
    QueryToken first;

    must(next_is(at, "("));
    must(query_token(at->at + at->bytes, QUERY_SQL, &first));
    if (first.kind == QUERY_WORD && first.bytes == 10) {
        must(!param->is_null && next_is(at, "pg_catalog"));
        if (param->type == COLUMN_BYTES) {
            must(next_is(at, ".") && next_is(at, "decode") && next_is(at, "(") &&
                 next_is(at, "pg_catalog"));
            check_setting(at, param);
            must(next_is(at, ",") && next_is(at, "'hex'") && next_is(at, ")"));
        } else {
            must(param->type == COLUMN_TEXT || param->type == COLUMN_JSON);
            check_setting(at, param);
        }
        if (param->type != COLUMN_JSON) {
            must(next_is(at, ")"));
            return;
        }
    } else if (param->is_null) {
        must(next_is(at, "NULL"));
    } else {
        must(is_literal(&first));
        *at = first;
    }
    must(next_is(at, ":") && next_is(at, ":") && next_is(at, "pg_catalog") && next_is(at, "."));
    must(query_token(at->at + at->bytes, QUERY_SQL, at) && at->kind == QUERY_WORD);
    must(next_is(at, ")"));
}

static const SourceParam *
find(const SourceSpec *spec, const QueryToken *token)
{
    for (size_t i = 0; i < spec->params; i++)
        if (strlen(spec->param[i].name) == token->bytes - 1 &&
            memcmp(spec->param[i].name, token->at + 1, token->bytes - 1) == 0)
            return &spec->param[i];
    abort();
}

static void
check(const SourceSpec *spec, const PgBound *bound)
{
    QueryToken in = {.at = spec->query}, out = {.at = bound->sql}, before;

    for (;;) {
        before = out;
        if (!query_token(in.at + in.bytes, QUERY_SQL, &in))
            break;
        if (in.kind == QUERY_PARAM) {
            check_expression(&out, find(spec, &in));
            continue;
        }
        if (!query_token(out.at + out.bytes, QUERY_SQL, &out)) {
            must(*in.at == ';'); /* at the end they are dropped */
            out = before;
            continue;
        }
        must(in.kind == out.kind && in.bytes == out.bytes && memcmp(in.at, out.at, in.bytes) == 0);
    }
    must(out.at[out.bytes] == '\0');
    for (size_t i = 0; i < bound->settings; i++)
        must(text_starts(bound->setting[i].name, "rowferry.p_") && bound->setting[i].value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint8_t *line = bytes > 1 ? memchr(data + 1, '\n', bytes - 1) : NULL;
    size_t value_bytes = line ? (size_t)(line - data) - 1 : 0, query_bytes;
    SourceParam params[] = {{.name = "a"}, {.name = "n", .type = COLUMN_INT32, .as.int64 = -5},
        {.name = "t", .type = COLUMN_TEXT, .as.text = {"' $n --", 7}},
        {.name = "z", .type = COLUMN_JSON, .is_null = true}};
    SourceSpec spec = {.param = params, .params = sizeof params / sizeof params[0]};
    Arena *task;
    PgBound bound;
    char *value, *query;
    Err e = {0};

    if (!line)
        return 0;
    query_bytes = bytes - value_bytes - 2;
    value = malloc(value_bytes ? value_bytes : 1);
    query = malloc(query_bytes + 1);
    memcpy(value, data + 1, value_bytes);
    memcpy(query, line + 1, query_bytes);
    query[query_bytes] = '\0';
    spec.query = query;
    params[0].type = data[0] % COLUMN_TYPES_COUNT;
    if (params[0].type >= COLUMN_DECIMAL && params[0].type <= COLUMN_BYTES) {
        params[0].as.text.bytes = value;
        params[0].as.text.count = value_bytes;
    } else if (params[0].type >= COLUMN_INTERVAL) {
        params[0].as.text.bytes = value;
        params[0].as.text.count = value_bytes;
    } else if (value_bytes > 0) {
        /* bool: any byte but 0 and 1 is none */
        memcpy(&params[0].as, value, value_bytes < 8 ? value_bytes : 8);
        if (params[0].type == COLUMN_BOOL)
            params[0].as.yes = value[0] & 1;
    }
    task = arena_new(64 << 20);
    if (pg_bind(&spec, task, &bound, &e))
        check(&spec, &bound);
    else
        must(e.code == ERR_SOURCE_QUERY || e.code == ERR_MEMORY_LIMIT);
    arena_free(task);
    free(query);
    free(value);
    return 0;
}
