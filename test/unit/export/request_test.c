#include "export/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/time.h"
#include "test/unit/export/bench.h"
#include "test/unit/export/definition.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static Arena *arena;
static json_t *definitions[2];
static ExportType types[2];
static TypeSet set = {types, 2};
static RequestRules rules = {.types = &set, .kinds = &bench_kinds};

/* 2024-01-01T12:00:00Z */
static const int64_t noon_us = 1704110400000000;

static int
set_up(void **state)
{
    static const char *const texts[] = {definition_all, definition_strict};
    char *options[] = {(char *)(uintptr_t) "--data-dir=/tmp/nowhere", NULL};

    (void)state;
    arena = arena_new(64 << 20);
    for (size_t i = 0; i < 2; i++) {
        const ExportType *type;
        Err e = {0};

        definitions[i] = json_parse(texts[i], strlen(texts[i]), 16, &e);
        type = definitions[i] ? type_from_json(definitions[i], arena, &e) : NULL;
        if (!type)
            fail_msg("%s", err_root(&e));
        types[i] = *type;
    }
    rules.config = bench_config(arena, options);
    rules.now_us = noon_us;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    json_decref(definitions[0]);
    json_decref(definitions[1]);
    arena_free(arena);
    return 0;
}

/* What became of a body; the JSON stays alive with it. */
typedef struct {
    json_t *body;
    ExportRequest request;
    Problems problems, warnings;
    Err e;
} Parsed;

static bool
parse(const char *body, size_t bytes, bool strict, Parsed *p)
{
    RequestRules these = rules;

    *p = (Parsed){.problems.arena = arena, .warnings.arena = arena};
    these.strict = strict;
    return (p->body = json_parse(body, bytes, 32, &p->e)) &&
           request_parse(p->body, &these, arena, &p->request, &p->problems, &p->warnings, &p->e);
}

static const Problem *
find(const Problems *problems, const char *pointer)
{
    for (size_t i = 0; i < problems->count && i < PROBLEMS_MAX; i++)
        if (strcmp(problems->problem[i].pointer, pointer) == 0)
            return &problems->problem[i];
    return NULL;
}

#define ALL(more) "{\"export_type\":\"all\",\"user_id\":\"user_123\"" more "}"
#define WITH(params) ALL(",\"params\":{" params "}")
#define T128                                                                                       \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaa"                                                                                        \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define USER(id) "{\"export_type\":\"all\",\"user_id\":" id "}"

/* Every bad input of S1's body (the tables of the API's members and of its bad inputs). */
static const struct {
    const char *name, *body;
    ErrCode code;
    const char *pointer, *word,
        *says; /* says: part of the detail, or of the list of known values */
} bad[] = {
    /* JSON itself */
    {"empty", "", ERR_MALFORMED_JSON, NULL, NULL, NULL},
    {"blank", " \n", ERR_MALFORMED_JSON, NULL, NULL, NULL},
    {"not JSON", "export_type=a", ERR_MALFORMED_JSON, NULL, NULL, NULL},
    {"BOM", "\xef\xbb\xbf{}", ERR_MALFORMED_JSON, NULL, NULL, NULL},
    {"trailing bytes", ALL("") "x", ERR_MALFORMED_JSON, NULL, NULL, NULL},
    {"a member twice", ALL(",\"format\":\"csv\",\"format\":\"csv\""), ERR_MALFORMED_JSON, NULL,
        NULL, NULL},
    {"a parameter twice", WITH("\"team\":\"a\",\"team\":\"b\""), ERR_MALFORMED_JSON, NULL, NULL,
        NULL},
    {"NaN", WITH("\"ratio\":NaN"), ERR_MALFORMED_JSON, NULL, NULL, NULL},
    {"not UTF-8", WITH("\"team\":\"\xff\""), ERR_INVALID_ENCODING, NULL, NULL, NULL},
    {"overlong", WITH("\"team\":\"\xc0\xaf\""), ERR_INVALID_ENCODING, NULL, NULL, NULL},
    {"lone surrogate", WITH("\"team\":\"\\ud800\""), ERR_INVALID_ENCODING, NULL, NULL, NULL},
    {"U+0000", WITH("\"team\":\"\\u0000\""), ERR_VALIDATION_FAILED, NULL, NULL, NULL},
    {"U+0000 in a name", WITH("\"\\u0000\":1"), ERR_VALIDATION_FAILED, NULL, NULL, NULL},
    {"1e400", WITH("\"ratio\":1e400"), ERR_VALIDATION_FAILED, NULL, NULL, NULL},
    {"20 digits", WITH("\"big\":12345678901234567890"), ERR_VALIDATION_FAILED, NULL, NULL, NULL},
    {"a list at the top", "[]", ERR_VALIDATION_FAILED, "", "wrong-type", "an object"},
    {"a text at the top", "\"a\"", ERR_VALIDATION_FAILED, "", "wrong-type", "an object"},
    {"a number at the top", "1", ERR_VALIDATION_FAILED, "", "wrong-type", "an object"},
    {"null at the top", "null", ERR_VALIDATION_FAILED, "", "wrong-type", "an object"},
    /* export_type */
    {"type missing", "{\"user_id\":\"u\"}", ERR_VALIDATION_FAILED, "/export_type", "required",
        NULL},
    {"type no text", "{\"export_type\":1,\"user_id\":\"u\"}", ERR_VALIDATION_FAILED, "/export_type",
        "wrong-type", "a text"},
    {"type null", "{\"export_type\":null,\"user_id\":\"u\"}", ERR_VALIDATION_FAILED, "/export_type",
        "wrong-type", NULL},
    {"type unknown", "{\"export_type\":\"alls\",\"user_id\":\"u\"}", ERR_UNKNOWN_EXPORT_TYPE,
        "/export_type", "unknown-export-type", "[\"all\",\"strict\"]"},
    {"type ../x", "{\"export_type\":\"../x\",\"user_id\":\"u\"}", ERR_UNKNOWN_EXPORT_TYPE,
        "/export_type", "unknown-export-type", NULL},
    {"type a;DROP", "{\"export_type\":\"a;DROP\",\"user_id\":\"u\"}", ERR_UNKNOWN_EXPORT_TYPE,
        "/export_type", "unknown-export-type", NULL},
    /* user_id */
    {"user missing", "{\"export_type\":\"all\"}", ERR_VALIDATION_FAILED, "/user_id", "required",
        NULL},
    {"user number", USER("5"), ERR_VALIDATION_FAILED, "/user_id", "wrong-type", NULL},
    {"user null", USER("null"), ERR_VALIDATION_FAILED, "/user_id", "wrong-type", NULL},
    {"user empty", USER("\"\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user of 129", USER("\"b" T128 "\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", "128"},
    {"user with a slash", USER("\"a/b\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user ../a", USER("\"../a\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user a..b", USER("\"a..b\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user with a blank", USER("\"a b\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user with CR LF", USER("\"a\\r\\nb\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user not ASCII", USER("\"\xc3\xa9\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid", NULL},
    {"user starts with a dot", USER("\".a\""), ERR_VALIDATION_FAILED, "/user_id", "not-valid",
        NULL},
    /* params */
    {"params a list", ALL(",\"params\":[]"), ERR_VALIDATION_FAILED, "/params", "wrong-type", NULL},
    {"params a text", ALL(",\"params\":\"a\""), ERR_VALIDATION_FAILED, "/params", "wrong-type",
        NULL},
    {"unknown parameter", WITH("\"teams\":\"a\""), ERR_VALIDATION_FAILED, "/params/teams",
        "unknown-param", "did you mean \"team\""},
    {"unknown, to be escaped", WITH("\"a/b~c\":1"), ERR_VALIDATION_FAILED, "/params/a~1b~0c",
        "unknown-param", NULL},
    {"required parameter missing", "{\"export_type\":\"strict\",\"user_id\":\"u\"}",
        ERR_VALIDATION_FAILED, "/params/who", "required", NULL},
    {"required parameter null",
        "{\"export_type\":\"strict\",\"user_id\":\"u\",\"params\":{\"who\":null}}",
        ERR_VALIDATION_FAILED, "/params/who", "required", NULL},
    {"number for a text", WITH("\"team\":1"), ERR_VALIDATION_FAILED, "/params/team", "wrong-type",
        NULL},
    {"text for a number", WITH("\"ratio\":\"60\""), ERR_VALIDATION_FAILED, "/params/ratio",
        "wrong-type", "a number"},
    {"text for a whole number", WITH("\"big\":\"1\""), ERR_VALIDATION_FAILED, "/params/big",
        "wrong-type", "a whole number"},
    {"bool for a number", WITH("\"big\":true"), ERR_VALIDATION_FAILED, "/params/big", "wrong-type",
        NULL},
    {"number for a bool", WITH("\"flag\":1"), ERR_VALIDATION_FAILED, "/params/flag", "wrong-type",
        NULL},
    {"list for a text", WITH("\"team\":[\"a\"]"), ERR_VALIDATION_FAILED, "/params/team",
        "wrong-type", NULL},
    {"10.5 for a whole number", WITH("\"big\":10.5"), ERR_VALIDATION_FAILED, "/params/big",
        "wrong-type", NULL},
    {"1e300 for a whole number", WITH("\"big\":1e300"), ERR_VALIDATION_FAILED, "/params/big",
        "wrong-type", NULL},
    {"over int16", WITH("\"small\":32768"), ERR_VALIDATION_FAILED, "/params/small", "out-of-range",
        "int16"},
    {"under int16", WITH("\"small\":-32769"), ERR_VALIDATION_FAILED, "/params/small",
        "out-of-range", "int16"},
    {"over its bounds", WITH("\"middle\":11"), ERR_VALIDATION_FAILED, "/params/middle",
        "out-of-range", "between 1 and 10"},
    {"under its bounds", WITH("\"middle\":0"), ERR_VALIDATION_FAILED, "/params/middle",
        "out-of-range", NULL},
    {"under its one bound", WITH("\"least\":4"), ERR_VALIDATION_FAILED, "/params/least",
        "out-of-range", "at least 5"},
    {"real over its bounds", WITH("\"ratio\":100.0001"), ERR_VALIDATION_FAILED, "/params/ratio",
        "out-of-range", "between 0 and 100"},
    {"over float", WITH("\"single\":1e39"), ERR_VALIDATION_FAILED, "/params/single", "out-of-range",
        "float"},
    {"decimal as a number", WITH("\"price\":1.5"), ERR_VALIDATION_FAILED, "/params/price",
        "wrong-type", NULL},
    {"no decimal", WITH("\"price\":\"1,5\""), ERR_VALIDATION_FAILED, "/params/price", "not-valid",
        NULL},
    {"decimal 1e5", WITH("\"price\":\"1e5\""), ERR_VALIDATION_FAILED, "/params/price", "not-valid",
        NULL},
    {"decimal of a dot", WITH("\"price\":\".\""), ERR_VALIDATION_FAILED, "/params/price",
        "not-valid", NULL},
    {"decimal over its bound", WITH("\"price\":\"99.51\""), ERR_VALIDATION_FAILED, "/params/price",
        "out-of-range", "at most 99.5"},
    {"too long", WITH("\"team\":\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\""),
        ERR_VALIDATION_FAILED, "/params/team", "too-long", "5 characters"},
    {"not its pattern", WITH("\"code\":\"ABx\""), ERR_VALIDATION_FAILED, "/params/code", "pattern",
        NULL},
    {"a part of its pattern", WITH("\"code\":\"xx12\""), ERR_VALIDATION_FAILED, "/params/code",
        "pattern", NULL},
    {"a line of its pattern", WITH("\"code\":\"12\\nxx\""), ERR_VALIDATION_FAILED, "/params/code",
        "pattern", NULL},
    {"not among its values", WITH("\"level\":\"LOW\""), ERR_VALIDATION_FAILED, "/params/level",
        "not-allowed", NULL},
    {"next to its value", WITH("\"step\":9007199254740992"), ERR_VALIDATION_FAILED, "/params/step",
        "not-allowed", NULL},
    {"no base64", WITH("\"raw\":\"ab\""), ERR_VALIDATION_FAILED, "/params/raw", "not-valid",
        "base64"},
    {"base64 with a blank", WITH("\"raw\":\"YWJj YWJj\""), ERR_VALIDATION_FAILED, "/params/raw",
        "not-valid", NULL},
    {"base64 with bits behind", WITH("\"raw\":\"YR==\""), ERR_VALIDATION_FAILED, "/params/raw",
        "not-valid", NULL},
    {"no date", WITH("\"day\":\"2024-02-30\""), ERR_VALIDATION_FAILED, "/params/day", "not-valid",
        NULL},
    {"date with a time", WITH("\"day\":\"2024-02-03T00:00:00Z\""), ERR_VALIDATION_FAILED,
        "/params/day", "not-valid", NULL},
    {"date before its bound", WITH("\"day\":\"2019-12-31\""), ERR_VALIDATION_FAILED, "/params/day",
        "out-of-range", "2020-01-01"},
    {"no time", WITH("\"clock\":\"24:00\""), ERR_VALIDATION_FAILED, "/params/clock", "not-valid",
        NULL},
    {"seconds for a time", WITH("\"start\":1700000000"), ERR_VALIDATION_FAILED, "/params/start",
        "wrong-type", NULL},
    {"no timestamp", WITH("\"start\":\"yesterday\""), ERR_VALIDATION_FAILED, "/params/start",
        "not-valid", "ISO 8601"},
    {"timestamp after its bound", WITH("\"at\":\"2030-01-01T00:00:01\""), ERR_VALIDATION_FAILED,
        "/params/at", "out-of-range", "2030"},
    {"start after end", WITH("\"start\":\"2024-01-02T00:00:00Z\",\"end\":\"2024-01-01T00:00:00Z\""),
        ERR_VALIDATION_FAILED, "/params/end", "out-of-range", "after start"},
    {"start is end",
        WITH("\"start\":\"2024-01-01T01:00:00+01:00\",\"end\":\"2024-01-01T00:00:00Z\""),
        ERR_VALIDATION_FAILED, "/params/end", "out-of-range", "after start"},
    {"UUID of dashes", WITH("\"id\":\"------------------------------------\""),
        ERR_VALIDATION_FAILED, "/params/id", "not-valid", "UUID"},
    {"UUID too short", WITH("\"id\":\"8f14e45f-ceea-4e7a-9b1c-2d1f0c1a7f1\""),
        ERR_VALIDATION_FAILED, "/params/id", "not-valid", NULL},
    /* format, compression, options */
    {"format unknown", ALL(",\"format\":\"cvs\""), ERR_VALIDATION_FAILED, "/format", "not-allowed",
        "\"csv\""},
    {"format no text", ALL(",\"format\":1"), ERR_VALIDATION_FAILED, "/format", "wrong-type", NULL},
    {"format of a later version", ALL(",\"format\":\"parquet\""), ERR_NOT_AVAILABLE, "/format",
        "not-available", NULL},
    {"compression unknown", ALL(",\"compression\":\"rar\""), ERR_VALIDATION_FAILED, "/compression",
        "not-allowed", "\"gzip\""},
    {"xlsx and gzip", ALL(",\"format\":\"xlsx\",\"compression\":\"gzip\""), ERR_NOT_AVAILABLE,
        "/compression", "not-available", NULL},
    {"options no object", ALL(",\"options\":[]"), ERR_VALIDATION_FAILED, "/options", "wrong-type",
        NULL},
    {"option unknown", ALL(",\"options\":{\"csvs\":{}}"), ERR_UNKNOWN_MEMBER, "/options/csvs",
        "unknown-member", "did you mean \"csv\""},
    {"csv option unknown", ALL(",\"options\":{\"csv\":{\"headers\":true}}"), ERR_UNKNOWN_MEMBER,
        "/options/csv/headers", "unknown-member", "\"header\""},
    {"line end", ALL(",\"options\":{\"csv\":{\"line_ending\":\"cr\"}}"), ERR_VALIDATION_FAILED,
        "/options/csv/line_ending", "not-allowed", NULL},
    {"header no bool", ALL(",\"options\":{\"csv\":{\"header\":\"no\"}}"), ERR_VALIDATION_FAILED,
        "/options/csv/header", "wrong-type", NULL},
    {"null that is an option's own", ALL(",\"options\":{\"csv\":{\"null\":\",\"}}"),
        ERR_NOT_AVAILABLE, "/options/csv/null", "not-available", NULL},
    {"formula guard", ALL(",\"options\":{\"csv\":{\"formula_guard\":\"apostrophe\"}}"),
        ERR_NOT_AVAILABLE, "/options/csv/formula_guard", "not-available", NULL},
    /* filename */
    {"filename ../x", ALL(",\"filename\":\"../x\""), ERR_VALIDATION_FAILED, "/filename",
        "not-valid", NULL},
    {"filename with CR LF", ALL(",\"filename\":\"a\\r\\nb\""), ERR_VALIDATION_FAILED, "/filename",
        "not-valid", NULL},
    {"filename with U+202E", ALL(",\"filename\":\"a\xe2\x80\xaevsc.csv\""), ERR_VALIDATION_FAILED,
        "/filename", "not-valid", NULL},
    {"filename CON", ALL(",\"filename\":\"CON\""), ERR_VALIDATION_FAILED, "/filename", "not-valid",
        NULL},
    {"filename com1.csv", ALL(",\"filename\":\"com1.csv\""), ERR_VALIDATION_FAILED, "/filename",
        "not-valid", NULL},
    {"filename with a colon", ALL(",\"filename\":\"a:b\""), ERR_VALIDATION_FAILED, "/filename",
        "not-valid", NULL},
    {"filename with a dot at its end", ALL(",\"filename\":\"a.\""), ERR_VALIDATION_FAILED,
        "/filename", "not-valid", NULL},
    {"filename empty", ALL(",\"filename\":\"\""), ERR_VALIDATION_FAILED, "/filename", "too-short",
        NULL},
    {"filename of 129", ALL(",\"filename\":\"b" T128 "\""), ERR_VALIDATION_FAILED, "/filename",
        "too-long", NULL},
    /* limits */
    {"row_limit 0", ALL(",\"row_limit\":0"), ERR_VALIDATION_FAILED, "/row_limit", "out-of-range",
        NULL},
    {"row_limit 1.5", ALL(",\"row_limit\":1.5"), ERR_VALIDATION_FAILED, "/row_limit", "wrong-type",
        NULL},
    {"row_limit over the type's", ALL(",\"row_limit\":1001"), ERR_VALIDATION_FAILED, "/row_limit",
        "out-of-range", "1000"},
    {"time_limit -1", ALL(",\"time_limit\":-1"), ERR_VALIDATION_FAILED, "/time_limit",
        "out-of-range", NULL},
    {"time_limit over the type's", ALL(",\"time_limit\":61"), ERR_VALIDATION_FAILED, "/time_limit",
        "out-of-range", "60 seconds"},
    {"url_ttl 59", ALL(",\"url_ttl\":59"), ERR_VALIDATION_FAILED, "/url_ttl", "out-of-range", NULL},
    {"url_ttl 604801", ALL(",\"url_ttl\":604801"), ERR_VALIDATION_FAILED, "/url_ttl",
        "out-of-range", NULL},
    {"retain_days 0", ALL(",\"retain_days\":0"), ERR_VALIDATION_FAILED, "/retain_days",
        "out-of-range", NULL},
    {"retain_days 10^9", ALL(",\"retain_days\":1000000000"), ERR_VALIDATION_FAILED, "/retain_days",
        "out-of-range", NULL},
    {"retain_days a text", ALL(",\"retain_days\":\"7d\""), ERR_VALIDATION_FAILED, "/retain_days",
        "wrong-type", NULL},
    {"priority unknown", ALL(",\"priority\":\"urgent\""), ERR_VALIDATION_FAILED, "/priority",
        "not-allowed", "\"high\""},
    {"not_before no time", ALL(",\"not_before\":\"tomorrow\""), ERR_VALIDATION_FAILED,
        "/not_before", "not-valid", NULL},
    {"not_before a number", ALL(",\"not_before\":1"), ERR_VALIDATION_FAILED, "/not_before",
        "wrong-type", NULL},
    {"not_before too far", ALL(",\"not_before\":\"2024-01-31T12:00:01Z\""), ERR_VALIDATION_FAILED,
        "/not_before", "out-of-range", "30 days"},
    /* what a later version has */
    {"columns", ALL(",\"columns\":[\"a\"]"), ERR_NOT_AVAILABLE, "/columns", "not-available", NULL},
    {"profile", ALL(",\"profile\":\"excel\""), ERR_NOT_AVAILABLE, "/profile", "not-available",
        NULL},
    {"on_row_limit", ALL(",\"on_row_limit\":\"truncate\""), ERR_NOT_AVAILABLE, "/on_row_limit",
        "not-available", NULL},
    {"split", ALL(",\"split\":{\"max_rows\":1000}"), ERR_NOT_AVAILABLE, "/split", "not-available",
        NULL},
    {"incremental", ALL(",\"incremental\":{}"), ERR_NOT_AVAILABLE, "/incremental", "not-available",
        NULL},
    {"template", ALL(",\"template\":\"t\""), ERR_NOT_AVAILABLE, "/template", "not-available", NULL},
    {"dedupe", ALL(",\"dedupe\":\"join\""), ERR_NOT_AVAILABLE, "/dedupe", "not-available", NULL},
    {"dedupe_max_age", ALL(",\"dedupe_max_age\":5"), ERR_NOT_AVAILABLE, "/dedupe_max_age",
        "not-available", NULL},
    {"notify", ALL(",\"notify\":{\"url\":\"http://x\"}"), ERR_NOT_AVAILABLE, "/notify",
        "not-available", NULL},
    {"labels", ALL(",\"labels\":{\"a\":\"b\"}"), ERR_NOT_AVAILABLE, "/labels", "not-available",
        NULL},
    {"timezone", ALL(",\"options\":{\"timezone\":\"Europe/Berlin\"}"), ERR_NOT_AVAILABLE,
        "/options/timezone", "not-available", NULL},
    {"timestamp_format", ALL(",\"options\":{\"timestamp_format\":\"sql\"}"), ERR_NOT_AVAILABLE,
        "/options/timestamp_format", "not-available", NULL},
    {"delimiter", ALL(",\"options\":{\"csv\":{\"delimiter\":\";\"}}"), ERR_NOT_AVAILABLE,
        "/options/csv/delimiter", "not-available", NULL},
    {"xlsx options", ALL(",\"options\":{\"xlsx\":{}}"), ERR_NOT_AVAILABLE, "/options/xlsx",
        "not-available", NULL},
    {"keep-partial", ALL(",\"options\":{\"on_failure\":\"keep-partial\"}"), ERR_NOT_AVAILABLE,
        "/options/on_failure", "not-available", NULL},
};

static void
test_bad_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        const Problem *problem;
        Parsed p;

        if (parse(bad[i].body, strlen(bad[i].body), false, &p))
            fail_msg("%s: accepted", bad[i].name);
        if (p.e.code != bad[i].code)
            fail_msg("%s: %s (%s)", bad[i].name, err_name(p.e.code), err_root(&p.e));
        if (bad[i].pointer) {
            if (!(problem = find(&p.problems, bad[i].pointer)))
                fail_msg("%s: nothing at %s but %s at %s", bad[i].name, bad[i].pointer,
                    p.problems.problem[0].detail, p.problems.problem[0].pointer);
            if (strcmp(problem->word, bad[i].word) != 0)
                fail_msg("%s: %s", bad[i].name, problem->word);
            if (bad[i].says && !strstr(problem->detail, bad[i].says) &&
                !(problem->allowed && strstr(problem->allowed, bad[i].says)))
                fail_msg("%s: says \"%s\"", bad[i].name, problem->detail);
        } else {
            assert_int_equal(p.problems.count, 0);
        }
        json_decref(p.body);
    }
}

/* All that is wrong is told at once; of one kind it is told by its name, mixed it is not valid. */
static void
test_many_problems(void **state)
{
    static const char body[] =
        ALL(",\"format\":\"cvs\",\"url_ttl\":1,\"columns\":[],\"params\":{\"middle\":0,\"x\":1}");
    Buf text = buf_new(8192);
    Parsed p;

    (void)state;
    assert_false(parse(body, strlen(body), false, &p));
    assert_int_equal(p.e.code, ERR_VALIDATION_FAILED);
    assert_non_null(find(&p.problems, "/format"));
    assert_non_null(find(&p.problems, "/url_ttl"));
    assert_non_null(find(&p.problems, "/columns"));
    assert_non_null(find(&p.problems, "/params/middle"));
    assert_non_null(find(&p.problems, "/params/x"));
    assert_int_equal(p.problems.count, 5);
    json_decref(p.body);
    /* More than are kept, more than there may be. */
    buf_text(&text, "{\"export_type\":\"all\",\"user_id\":\"u\",\"params\":{\"p0\":0");
    for (int i = 1; i < 65; i++)
        buf_printf(&text, ",\"p%d\":0", i);
    buf_text(&text, "}}");
    assert_false(parse(text.data, text.bytes, false, &p));
    assert_int_equal(p.e.code, ERR_VALIDATION_FAILED);
    buf_free(&text);
    assert_string_equal(find(&p.problems, "/params")->word, "too-many");
    assert_true(p.problems.count > PROBLEMS_MAX);
    json_decref(p.body);
}

/* What is too long is not echoed; what is short is, as JSON. */
static void
test_echo(void **state)
{
    char text[12000];
    Parsed p;

    (void)state;
    assert_false(parse(WITH("\"middle\":160"), strlen(WITH("\"middle\":160")), false, &p));
    assert_string_equal(p.problems.problem[0].value, "160");
    json_decref(p.body);
    snprintf(text, sizeof text, "{\"user_id\":\"u\",\"export_type\":\"%0*d\"}", 10000, 7);
    assert_false(parse(text, strlen(text), false, &p));
    assert_int_equal(p.e.code, ERR_UNKNOWN_EXPORT_TYPE);
    assert_null(p.problems.problem[0].value);
    json_decref(p.body);
    /* A name that is cut is cut between two characters. */
    snprintf(text, sizeof text,
        "{\"user_id\":\"u\",\"export_type\":\"all\",\"params\":{\"%0*d\xe2\x82\xac\":1}}", 127, 0);
    assert_false(parse(text, strlen(text), false, &p));
    assert_int_equal(strlen(p.problems.problem[0].pointer), strlen("/params/") + 127);
    json_decref(p.body);
}

static void
test_warnings(void **state)
{
    static const struct {
        const char *name, *body, *pointer, *word;
    } cases[] = {
        {"unknown member", ALL(",\"formt\":\"csv\""), "/formt", "unknown-member"},
        {"naive start", WITH("\"start\":\"2024-01-01T00:00:00\""), "/params/start",
            "naive-timestamp"},
        {"naive, a blank between", WITH("\"start\":\"2024-01-01 00:00\""), "/params/start",
            "naive-timestamp"},
        {"naive not_before", ALL(",\"not_before\":\"2024-01-02T00:00:00\""), "/not_before",
            "naive-timestamp"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const Problem *warning;
        Parsed p;

        if (!parse(cases[i].body, strlen(cases[i].body), false, &p))
            fail_msg("%s: %s", cases[i].name, err_root(&p.e));
        assert_int_equal(p.warnings.count, 1);
        if (!(warning = find(&p.warnings, cases[i].pointer)))
            fail_msg("%s: no warning", cases[i].name);
        assert_string_equal(warning->word, cases[i].word);
        json_decref(p.body);
    }
}

static void
test_strict(void **state)
{
    static const char body[] = ALL(",\"formt\":\"csv\""), good[] = ALL("");
    Parsed p;

    (void)state;
    assert_false(parse(body, strlen(body), true, &p));
    assert_int_equal(p.e.code, ERR_UNKNOWN_MEMBER);
    assert_string_equal(find(&p.problems, "/formt")->word, "unknown-member");
    assert_non_null(strstr(find(&p.problems, "/formt")->detail, "did you mean \"format\""));
    json_decref(p.body);
    assert_true(parse(good, strlen(good), true, &p));
    assert_int_equal(p.warnings.count, 0);
    json_decref(p.body);
}

static const SourceParam *
param(const ExportRequest *request, const char *name)
{
    for (size_t i = 0; i < request->params; i++)
        if (strcmp(request->param[i].name, name) == 0)
            return &request->param[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

static void
test_defaults(void **state)
{
    static const char body[] = ALL(",\"params\":null,\"labels\":{},\"dedupe\":\"none\"");
    Parsed p;

    (void)state;
    assert_true(parse(body, strlen(body), true, &p));
    assert_string_equal(p.request.user_id, "user_123");
    assert_ptr_equal(p.request.type, &types[0]);
    assert_string_equal(p.request.format, "csv");
    assert_string_equal(p.request.compression, "none");
    assert_null(p.request.filename);
    assert_int_equal(p.request.priority, 3);
    assert_int_equal(p.request.row_limit, 1000);
    assert_int_equal(p.request.time_limit_ms, 60000);
    assert_int_equal(p.request.url_ttl_ms, 86400000);
    assert_int_equal(p.request.retain_ms, 7 * 86400000);
    assert_int_equal(p.request.not_before_us, 0);
    assert_true(p.request.options.csv.header);
    assert_false(p.request.options.csv.line_ending_lf);
    assert_false(p.request.options.csv.empty_string_bare);
    assert_int_equal(p.request.params, types[0].params);
    for (size_t i = 0; i < p.request.params; i++)
        assert_int_equal(p.request.param[i].is_null, strcmp(p.request.param[i].name, "page") != 0);
    assert_int_equal(param(&p.request, "page")->as.int64, 7);
    json_decref(p.body);
}

static void
test_values(void **state)
{
    static const char body[] = ALL(
        ",\"format\":\"csv\",\"compression\":\"none\",\"filename\":\"Report "
        "1\",\"priority\":\"high\","
        "\"row_limit\":10.0,\"time_limit\":5,\"url_ttl\":60,\"retain_days\":365,"
        "\"not_before\":\"2024-01-31T12:00:00Z\",\"options\":{\"timezone\":\"UTC\",\"csv\":{"
        "\"line_ending\":\"lf\",\"empty_string\":\"bare\",\"header\":false,\"delimiter\":\",\"}},"
        "\"params\":{\"team\":\"x' OR\",\"code\":\"AB\",\"level\":\"high\","
        "\"step\":9007199254740993,\"small\":-32768,\"middle\":10.0,\"big\":-0,\"least\":null,"
        "\"ratio\":60,\"single\":-1.5,\"price\":\"-.50\",\"flag\":true,\"raw\":\"AP8=\","
        "\"day\":\"2024-02-29\",\"clock\":\"23:59:59.5\",\"start\":\"2024-01-01T01:00:00+01:00\","
        "\"end\":\"2024-01-01T00:00:00.000001Z\",\"at\":\"2024-01-01 12:00\",\"span\":\"1 day\","
        "\"id\":\"8F14E45F-ceea-4e7a-9b1c-2d1f0c1a7f10\",\"doc\":{\"a\":[1]},\"page\":null}");
    const ExportRequest *r;
    Parsed p;

    (void)state;
    if (!parse(body, strlen(body), true, &p))
        fail_msg("%s %s", p.problems.problem[0].pointer, p.problems.problem[0].detail);
    r = &p.request;
    assert_string_equal(r->filename, "Report 1.csv");
    assert_int_equal(r->priority, 0);
    assert_int_equal(r->row_limit, 10);
    assert_int_equal(r->time_limit_ms, 5000);
    assert_int_equal(r->url_ttl_ms, 60000);
    assert_int_equal(r->retain_ms, 365 * INT64_C(86400000));
    assert_int_equal(r->not_before_us, noon_us + 30 * INT64_C(86400000000));
    assert_true(r->options.csv.line_ending_lf && r->options.csv.empty_string_bare);
    assert_false(r->options.csv.header);
    assert_memory_equal(param(r, "team")->as.text.bytes, "x' OR", 5);
    assert_int_equal(param(r, "step")->as.int64, 9007199254740993);
    assert_int_equal(param(r, "small")->as.int64, -32768);
    assert_int_equal(param(r, "middle")->as.int64, 10);
    assert_int_equal(param(r, "big")->as.int64, 0);
    assert_true(param(r, "least")->is_null);
    assert_true(param(r, "ratio")->as.real == 60.0 && param(r, "single")->as.real == -1.5);
    assert_memory_equal(param(r, "price")->as.text.bytes, "-.50", 4);
    assert_true(param(r, "flag")->as.yes);
    assert_int_equal(param(r, "raw")->as.text.count, 2);
    assert_memory_equal(param(r, "raw")->as.text.bytes, "\0\xff", 2);
    assert_int_equal(param(r, "day")->as.int64, 19782);
    assert_int_equal(param(r, "clock")->as.int64, 86399500000);
    assert_int_equal(param(r, "start")->as.int64, 1704067200000000);
    assert_int_equal(param(r, "end")->as.int64, 1704067200000001);
    assert_int_equal(param(r, "at")->as.int64, noon_us);
    assert_string_equal(param(r, "id")->as.text.bytes, "8f14e45f-ceea-4e7a-9b1c-2d1f0c1a7f10");
    assert_memory_equal(param(r, "doc")->as.text.bytes, "{\"a\":[1]}", 9);
    assert_true(param(r, "page")->is_null);
    json_decref(p.body);
}

/* Names that need no extension, or get one. */
static void
test_filenames(void **state)
{
    static const struct {
        const char *asked, *offered;
    } cases[] = {{"a", "a.csv"}, {"a.csv", "a.csv"}, {"A.CSV", "A.CSV"}, {"a.txt", "a.txt.csv"},
        {"csv", "csv.csv"}, {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9.csv"}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char body[256];
        Parsed p;

        snprintf(body, sizeof body, ALL(",\"filename\":\"%s\""), cases[i].asked);
        assert_true(parse(body, strlen(body), true, &p));
        assert_string_equal(p.request.filename, cases[i].offered);
        json_decref(p.body);
    }
}

static void
assert_same_param(const SourceParam *a, const SourceParam *b)
{
    bool same = a->type == b->type && a->is_null == b->is_null && strcmp(a->name, b->name) == 0;

    if (same && !a->is_null)
        switch (a->type) {
        case COLUMN_BOOL:
            same = a->as.yes == b->as.yes;
            break;
        case COLUMN_INT16:
        case COLUMN_INT32:
        case COLUMN_INT64:
        case COLUMN_DATE:
        case COLUMN_TIME:
        case COLUMN_TIMESTAMP:
        case COLUMN_TIMESTAMPTZ:
            same = a->as.int64 == b->as.int64;
            break;
        case COLUMN_FLOAT:
        case COLUMN_DOUBLE:
            same = memcmp(&a->as.real, &b->as.real, sizeof a->as.real) == 0;
            break;
        case COLUMN_DECIMAL:
        case COLUMN_TEXT:
        case COLUMN_BYTES:
        case COLUMN_INTERVAL:
        case COLUMN_UUID:
        case COLUMN_JSON:
            same = a->as.text.count == b->as.text.count &&
                   memcmp(a->as.text.bytes, b->as.text.bytes, a->as.text.count) == 0;
            break;
        case COLUMN_TYPES_COUNT:
            same = false;
            break;
        }
    if (!same)
        fail_msg("%s is another on the other side of the queue", a->name);
}

/* What lies on the queue is the request itself. */
static void
test_round_trip(void **state)
{
    static const char *const bodies[] = {
        ALL(""),
        WITH("\"page\":null"),
        WITH("\"page\":1"),
        WITH("\"team\":\"\",\"code\":\"7\""),
        /* only that text, whatever it looks like */
        WITH("\"span\":\"x' OR '1'='1\""),
        WITH("\"team\":\"$$\",\"span\":\"$team {{7*7}} \\\\\""),
        WITH("\"team\":\"\\u0001\\\"\\\\\xe2\x82\xac\""),
        WITH("\"big\":9223372036854775807"),
        WITH("\"big\":-9223372036854775808"),
        WITH("\"ratio\":0.1,\"single\":3.4e38"),
        WITH("\"ratio\":1e-300,\"single\":-0.0"),
        WITH("\"price\":\"+00.10\",\"flag\":false"),
        WITH("\"raw\":\"\""),
        WITH("\"raw\":\"AAEC\",\"span\":\"\""),
        WITH("\"day\":\"9999-12-31\",\"clock\":\"00:00\""),
        WITH("\"clock\":\"23:59:59.999999\""),
        WITH("\"start\":\"0001-01-01T00:00:00Z\",\"end\":\"9999-12-31T23:59:59.999999Z\""),
        WITH("\"at\":\"1969-12-31T23:59:59.5\""),
        WITH("\"id\":\"8f14e45f-ceea-4e7a-9b1c-2d1f0c1a7f10\",\"doc\":[null,1.5,\"a\"]"),
        WITH("\"doc\":\"text\""),
        WITH("\"doc\":17"),
        ALL(",\"filename\":\"a\",\"row_limit\":1,\"time_limit\":1,\"url_ttl\":604800,"
            "\"retain_days\":1,\"options\":{\"csv\":{\"line_ending\":\"lf\",\"header\":false,"
            "\"empty_string\":\"bare\"}}"),
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        const char *text, *again;
        ExportRequest r;
        json_t *value;
        Err e = {0};
        Parsed p;

        if (!parse(bodies[i], strlen(bodies[i]), true, &p))
            fail_msg("%s: %s", bodies[i], p.problems.problem[0].detail);
        text = request_to_json(&p.request, arena, &e);
        assert_non_null(text);
        value = json_parse(text, strlen(text), 32, &e);
        if (!value || !request_from_json(value, &types[0], arena, &r, &e))
            fail_msg("%s: %s", text, err_root(&e));
        assert_int_equal(r.params, p.request.params);
        for (size_t k = 0; k < r.params; k++)
            assert_same_param(&p.request.param[k], &r.param[k]);
        again = request_to_json(&r, arena, &e);
        assert_string_equal(again, text);
        assert_string_equal(r.user_id, p.request.user_id);
        assert_int_equal(r.row_limit, p.request.row_limit);
        assert_int_equal(r.time_limit_ms, p.request.time_limit_ms);
        assert_int_equal(r.url_ttl_ms, p.request.url_ttl_ms);
        assert_int_equal(r.retain_ms, p.request.retain_ms);
        json_decref(value);
        json_decref(p.body);
    }
}

/* Whatever lies on the queue, a worker does not stumble over it. */
static void
test_from_a_damaged_queue(void **state)
{
#define LIMITS "\"row_limit\":1,\"time_limit_ms\":1000,\"url_ttl_ms\":60000,\"retain_ms\":86400000"
#define ON_QUEUE(more) "{\"export_type\":\"all\",\"user_id\":\"u\",\"params\":{}," more "}"
    static const struct {
        const char *text;
        ErrCode code;
    } cases[] = {
        {ON_QUEUE(LIMITS), ERR_NONE},
        {"{}", ERR_INTERNAL},
        {"[]", ERR_INTERNAL},
        {"null", ERR_INTERNAL},
        {"{\"export_type\":\"strict\",\"user_id\":\"u\",\"params\":{}," LIMITS "}", ERR_INTERNAL},
        {"{\"export_type\":\"all\",\"user_id\":\"../u\",\"params\":{}," LIMITS "}", ERR_INTERNAL},
        {"{\"export_type\":\"all\",\"user_id\":\"u\",\"params\":[]," LIMITS "}", ERR_INTERNAL},
        {"{\"export_type\":\"all\",\"user_id\":\"u\",\"params\":{\"small\":99999}," LIMITS "}",
            ERR_DEFINITION_CHANGED},
        {"{\"export_type\":\"all\",\"user_id\":\"u\",\"params\":{\"gone\":1}," LIMITS "}",
            ERR_DEFINITION_CHANGED},
        {ON_QUEUE("\"row_limit\":-1,\"time_limit_ms\":1000"), ERR_INTERNAL},
        {ON_QUEUE("\"time_limit_ms\":0"), ERR_INTERNAL},
        {ON_QUEUE("\"time_limit_ms\":9223372036854775807"), ERR_INTERNAL},
        {ON_QUEUE("\"time_limit_ms\":1000,\"retain_ms\":9223372036854775807"), ERR_INTERNAL},
        {ON_QUEUE("\"time_limit_ms\":1000,\"url_ttl_ms\":-5"), ERR_INTERNAL},
        {ON_QUEUE(LIMITS ",\"filename\":\"../../x\""), ERR_INTERNAL},
        {ON_QUEUE(LIMITS ",\"filename\":\"\""), ERR_INTERNAL},
        {ON_QUEUE(LIMITS ",\"filename\":17"), ERR_INTERNAL},
        {ON_QUEUE(LIMITS ",\"csv\":[],\"format\":null"), ERR_NONE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ExportRequest r;
        Err e = {0};
        json_t *value = json_parse(cases[i].text, strlen(cases[i].text), 32, &e);
        bool ok = request_from_json(value, &types[0], arena, &r, &e);

        if (ok != (cases[i].code == ERR_NONE) || e.code != cases[i].code)
            fail_msg("%s: %s", cases[i].text, err_name(e.code));
        json_decref(value);
    }
}

/* The table is also what documents are made from. */
static void
test_schema(void **state)
{
    json_t *schema = request_schema(), *properties = json_object_get(schema, "properties");

    (void)state;
    assert_string_equal(json_text_or(schema, "type", ""), "object");
    assert_int_equal(json_array_size(json_object_get(schema, "required")), 2);
    assert_non_null(json_object_get(properties, "export_type"));
    assert_non_null(json_object_get(properties, "retain_days"));
    json_decref(schema);
}

/* Each allocation fails once: an error, never a request with holes. */
static void
test_without_memory(void **state)
{
    static const char body[] = WITH("\"raw\":\"AP8=\",\"doc\":{\"a\":1},\"team\":\"x\"");
    bool ok = false;

    (void)state;
    for (unsigned long nth = 1; !ok; nth++) {
        Parsed p = {.problems.arena = arena};
        Err e = {0};

        p.body = json_parse(body, strlen(body), 32, &e);
        arena_fail_at(nth);
        ok = request_parse(p.body, &rules, arena, &p.request, &p.problems, &p.warnings, &p.e);
        ok = ok && request_to_json(&p.request, arena, &p.e);
        arena_fail_at(0);
        assert_true(ok || p.e.links > 0);
        json_decref(p.body);
        assert_true(nth < 1000);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_many_problems),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_filenames),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_from_a_damaged_queue),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_without_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
