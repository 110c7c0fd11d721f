#include "export/request.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/text.h"
#include "base/time.h"
#include "export/pattern.h"

enum {
    PARAMS_MAX = 64,
    URL_TTL_S_MIN = 60,
    URL_TTL_S_MAX = 604800,
    RETAIN_DAYS_MAX = 365,
    NOT_BEFORE_DAYS_MAX = 30,
};

static const int64_t us_per_day = 86400000000, ms_per_day = 86400000;

/* --- one parameter --- */

static bool misses(const char **word, char detail[200], const char *why, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static bool
misses(const char **word, char detail[200], const char *why, const char *fmt, ...)
{
    va_list args;

    *word = why;
    va_start(args, fmt);
    vsnprintf(detail, 200, fmt, args);
    va_end(args);
    return false;
}

static bool
in_bounds(const TypeParam *param, double number, const char **word, char detail[200])
{
    if ((!param->has_min || number >= param->min) && (!param->has_max || number <= param->max))
        return true;
    if (param->has_min && param->has_max)
        return misses(word, detail, "out-of-range", "must be between %.15g and %.15g", param->min,
            param->max);
    return misses(word, detail, "out-of-range", "must be at %s %.15g",
        param->has_min ? "least" : "most", param->has_min ? param->min : param->max);
}

static bool
read_integer(const TypeParam *param, const json_t *value, SourceParam *out, const char **word,
    char detail[200])
{
    int64_t least = INT64_MIN, most = INT64_MAX;

    if (!json_whole(value, &out->as.int64))
        return misses(word, detail, "wrong-type", "must be a whole number");
    if (param->type == COLUMN_INT16) {
        least = INT16_MIN;
        most = INT16_MAX;
    } else if (param->type == COLUMN_INT32) {
        least = INT32_MIN;
        most = INT32_MAX;
    }
    if (out->as.int64 < least || out->as.int64 > most)
        return misses(
            word, detail, "out-of-range", "does not fit %s", column_type_name(param->type));
    return in_bounds(param, (double)out->as.int64, word, detail);
}

static bool
read_real(const TypeParam *param, const json_t *value, SourceParam *out, const char **word,
    char detail[200])
{
    if (!json_is_number(value))
        return misses(word, detail, "wrong-type", "must be a number");
    out->as.real = json_number_value(value);
    /* 3.4028235e38 is FLT_MAX in its shortest digits, and a little more. */
    if (param->type == COLUMN_FLOAT && isinf((float)out->as.real))
        return misses(word, detail, "out-of-range", "does not fit float");
    return in_bounds(param, out->as.real, word, detail);
}

static bool
parse_time(ColumnType type, const char *text, int64_t *number, bool *naive)
{
    size_t bytes = strlen(text);
    bool zoned = true;
    int32_t days;

    *naive = false;
    if (type == COLUMN_DATE) {
        if (!time_parse_date(text, bytes, &days))
            return false;
        *number = days;
        return true;
    }
    if (type == COLUMN_TIME)
        return time_parse_clock(text, bytes, number);
    if (!time_parse(text, bytes, number, &zoned))
        return false;
    *naive = type == COLUMN_TIMESTAMPTZ && !zoned;
    return true;
}

static bool
read_time(const TypeParam *param, const json_t *value, SourceParam *out, bool *naive,
    const char **word, char detail[200])
{
    const char *text = json_string_value(value);
    int64_t bound;
    bool ignored;

    if (!text)
        return misses(
            word, detail, "wrong-type", "must be a text with a %s", column_type_name(param->type));
    if (!parse_time(param->type, text, &out->as.int64, naive))
        return misses(word, detail, "not-valid", "is not a %s in ISO 8601, like %s",
            column_type_name(param->type),
            param->type == COLUMN_DATE   ? "2024-01-31"
            : param->type == COLUMN_TIME ? "10:00:00"
                                         : "2024-01-31T10:00:00Z");
    if (param->min_text && parse_time(param->type, param->min_text, &bound, &ignored) &&
        out->as.int64 < bound)
        return misses(word, detail, "out-of-range", "must not be before %s", param->min_text);
    if (param->max_text && parse_time(param->type, param->max_text, &bound, &ignored) &&
        out->as.int64 > bound)
        return misses(word, detail, "out-of-range", "must not be after %s", param->max_text);
    return true;
}

static size_t
characters(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += (*text & 0xc0) != 0x80;
    return count;
}

/* In lower case, as RFC 9562 says to write it: in a database without a type for it it is a text. */
static bool
read_uuid(const char *text, Arena *arena, SourceParam *out)
{
    Err e = {0};
    char *lower = arena_text(arena, text, &e);

    for (char *at = lower; at && *at; at++)
        if (*at >= 'A' && *at <= 'F')
            *at = (char)(*at | 0x20);
    out->as.text.bytes = lower;
    return lower && text_is_uuid(lower);
}

static bool
read_bytes(const char *text, Arena *arena, SourceParam *out)
{
    size_t room = strlen(text) / 4 * 3;
    Err e = {0};
    uint8_t *bytes = arena_alloc(arena, room + 1, &e);

    out->as.text.bytes = (const char *)bytes;
    return bytes && text_unbase64(text, bytes, room, &out->as.text.count);
}

static bool
read_text(const TypeParam *param, const json_t *value, Arena *arena, SourceParam *out,
    const char **word, char detail[200])
{
    const char *text = json_string_value(value);
    Err e = {0};

    if (param->type == COLUMN_JSON) {
        Buf written = buf_new(64 << 10);
        bool ok = json_write(value, &written, &e) &&
                  (out->as.text.bytes = arena_bytes(arena, written.data, written.bytes, &e));

        out->as.text.count = written.bytes;
        buf_free(&written);
        return ok || misses(word, detail, "too-long", "is too long");
    }
    if (!text)
        return misses(word, detail, "wrong-type", "must be a text");
    if (param->max_length > 0 && characters(text) > param->max_length)
        return misses(
            word, detail, "too-long", "must have at most %u characters", param->max_length);
    if (param->pattern && !pattern_fits(param->pattern, text))
        return misses(word, detail, "pattern", "does not match the pattern of the parameter");
    out->as.text.bytes = text;
    out->as.text.count = strlen(text);
    if (param->type == COLUMN_UUID)
        return read_uuid(text, arena, out) || misses(word, detail, "not-valid", "is not a UUID");
    if (param->type == COLUMN_BYTES)
        return read_bytes(text, arena, out) ||
               misses(word, detail, "not-valid", "is not base64 with padding");
    if (param->type == COLUMN_DECIMAL)
        return text_is_decimal(text, out->as.text.count)
                   ? in_bounds(param, strtod(text, NULL), word, detail)
                   : misses(word, detail, "not-valid", "is not a decimal number");
    return true;
}

static bool
is_chosen(const TypeParam *param, const json_t *value)
{
    size_t i;
    const json_t *choice;

    if (!param->choices)
        return true;
    json_array_foreach(param->choices, i, choice)
    {
        if (json_equal(choice, value))
            return true;
        /* 1 and 1.0 are one number; integers were compared to their last digit. */
        if (json_is_number(choice) && json_is_number(value) &&
            !(json_is_integer(choice) && json_is_integer(value)) &&
            json_number_value(choice) == json_number_value(value))
            return true;
    }
    return false;
}

/* The choices are named as long as they are few. */
static bool
misses_choices(const TypeParam *param, const char **word, char detail[200])
{
    Buf known = buf_new(160);
    Err ignored = {0};

    if (json_write(param->choices, &known, &ignored) && !known.failed)
        misses(word, detail, "not-allowed", "must be one of %s", known.data);
    else
        misses(word, detail, "not-allowed", "is not one of the known values");
    buf_free(&known);
    return false;
}

bool
request_param(const TypeParam *param, const json_t *value, Arena *arena, SourceParam *out,
    bool *naive, const char **word, char detail[200])
{
    *out = (SourceParam){.name = param->name, .type = param->type};
    *naive = false;
    if (!value || json_is_null(value)) {
        out->is_null = true;
        return true;
    }
    if (!is_chosen(param, value))
        return misses_choices(param, word, detail);
    switch (param->type) {
    case COLUMN_BOOL:
        out->as.yes = json_is_true(value);
        return json_is_boolean(value) ||
               misses(word, detail, "wrong-type", "must be true or false");
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
        return read_integer(param, value, out, word, detail);
    case COLUMN_FLOAT:
    case COLUMN_DOUBLE:
        return read_real(param, value, out, word, detail);
    case COLUMN_DATE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return read_time(param, value, out, naive, word, detail);
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_JSON:
        return read_text(param, value, arena, out, word, detail);
    case COLUMN_TYPES_COUNT:
        break;
    }
    return misses(word, detail, "wrong-type", "has no type");
}

/* --- the body --- */

static bool
check_user(const json_t *value, const char **detail)
{
    *detail = "must start with a letter or digit, then letters, digits and _.@-, without \"..\", "
              "at most 128";
    return json_string_length(value) == strlen(json_string_value(value)) &&
           text_is_user_id(json_string_value(value));
}

/* A name that every file system takes, and that shows as what it is. */
static bool
check_filename(const json_t *value, const char **detail)
{
    static const char *const devices[] = {"con", "prn", "aux", "nul", "com1", "com2", "com3",
        "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5",
        "lpt6", "lpt7", "lpt8", "lpt9", NULL};
    const char *text = json_string_value(value);
    size_t bytes = strlen(text), stem = strcspn(text, ".");

    *detail = "must be a file name without / \\ : * ? \" < > |, control characters, and dots or "
              "blanks at its ends";
    if (strpbrk(text, "/\\:*?\"<>|") || text_has_control(text, bytes, true) || bytes > 240)
        return false;
    if (strchr(" .", text[0]) || strchr(" .", text[bytes - 1]))
        return false;
    for (size_t i = 0; devices[i]; i++)
        if (strlen(devices[i]) == stem && strncasecmp(text, devices[i], stem) == 0)
            return false;
    return true;
}

static bool
check_not_before(const json_t *value, const char **detail)
{
    const char *text = json_string_value(value);
    int64_t us;

    *detail = "must be a time like 2024-01-02T12:00:00Z";
    return time_parse(text, strlen(text), &us, NULL);
}

static const char *const priorities[] = {"high", "normal", "low", NULL};
static const char *const line_endings[] = {"crlf", "lf", NULL};
static const char *const empty_strings[] = {"quoted", "bare", NULL};

/* clang-format off */
static const Shape csv_members[] = {
    {"line_ending",  SHAPE_TEXT, .allowed = line_endings,  .meaning = "crlf or lf."},
    {"empty_string", SHAPE_TEXT, .allowed = empty_strings, .meaning = "quoted: \"\" differs from NULL; bare: it does not."},
    {"header",       SHAPE_BOOL, .meaning = "Column names in the first line."},
    {"delimiter", SHAPE_ANY}, {"quote", SHAPE_ANY}, {"null", SHAPE_ANY}, {"bom", SHAPE_ANY},
    {"decimal", SHAPE_ANY}, {"formula_guard", SHAPE_ANY}, {"locale", SHAPE_ANY},
    {0},
};

static const Shape options_members[] = {
    {"csv", SHAPE_OBJECT, .members = csv_members, .meaning = "Dialect of CSV."},
    {"timezone", SHAPE_ANY}, {"timestamp_format", SHAPE_ANY}, {"json", SHAPE_ANY}, {"xlsx", SHAPE_ANY},
    {"parquet", SHAPE_ANY}, {"on_failure", SHAPE_ANY},
    {0},
};

static const Shape body_members[] = {
    {"export_type",  SHAPE_TEXT,   .required = true, .meaning = "What to export: a loaded type."},
    {"params",       SHAPE_OBJECT, .null_is_missing = true, .max = PARAMS_MAX, .meaning = "The type's filters."},
    {"user_id",      SHAPE_TEXT,   .required = true, .check = check_user, .meaning = "Whose export it is."},
    {"format",       SHAPE_TEXT,   .meaning = "csv."},
    {"compression",  SHAPE_TEXT,   .meaning = "none."},
    {"options",      SHAPE_OBJECT, .members = options_members, .meaning = "Of the format."},
    {"filename",     SHAPE_TEXT,   .min = 1, .max = 128, .check = check_filename, .meaning = "Name offered to the browser."},
    {"row_limit",    SHAPE_INT,    .min = 1, .max = 9e15, .meaning = "More rows are an error."},
    {"priority",     SHAPE_TEXT,   .allowed = priorities, .meaning = "high, normal or low."},
    {"time_limit",   SHAPE_INT,    .min = 1, .max = 31536000, .meaning = "Seconds one attempt may take."},
    {"url_ttl",      SHAPE_INT,    .min = URL_TTL_S_MIN, .max = URL_TTL_S_MAX, .meaning = "Seconds a link lives."},
    {"retain_days",  SHAPE_INT,    .min = 1, .max = RETAIN_DAYS_MAX, .meaning = "Days until the sweep may delete the file."},
    {"not_before",   SHAPE_TEXT,   .check = check_not_before, .meaning = "Start then or later."},
    {"columns", SHAPE_ANY}, {"profile", SHAPE_ANY}, {"on_row_limit", SHAPE_ANY}, {"split", SHAPE_ANY},
    {"incremental", SHAPE_ANY}, {"template", SHAPE_ANY}, {"dedupe", SHAPE_ANY}, {"dedupe_max_age", SHAPE_ANY},
    {"notify", SHAPE_ANY}, {"labels", SHAPE_ANY},
    {0},
};

/* What api-surface.md 3.1 names and this version does not have: only its default passes (NULL: nothing does). */
static const struct {
    const char *group, *name, *preset;
} later[] = {
    {NULL, "columns", NULL}, {NULL, "profile", "\"machine\""}, {NULL, "on_row_limit", "\"fail\""},
    {NULL, "split", NULL}, {NULL, "incremental", NULL}, {NULL, "template", NULL}, {NULL, "dedupe", "\"none\""},
    {NULL, "dedupe_max_age", NULL}, {NULL, "notify", NULL}, {NULL, "labels", "{}"},
    {"", "timezone", "\"UTC\""}, {"", "timestamp_format", "\"iso8601\""}, {"", "json", NULL}, {"", "xlsx", NULL},
    {"", "parquet", NULL}, {"", "on_failure", "\"discard\""},
    {"csv", "delimiter", "\",\""}, {"csv", "quote", "\"minimal\""}, {"csv", "null", "\"\""}, {"csv", "bom", "false"},
    {"csv", "decimal", "\".\""}, {"csv", "formula_guard", "\"off\""}, {"csv", "locale", NULL},
};

/* Known names, whether or not this program has them. */
static const char *const formats[] = {"csv", "jsonl", "json", "parquet", "xlsx", NULL};
static const char *const compressions[] = {"none", "gzip", "zstd", NULL};
/* clang-format on */

static void
check_later(const json_t *body, Problems *problems)
{
    const json_t *options = json_object_get(body, "options");

    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        const char *group = later[i].group;
        const json_t *in = !group ? body : *group ? json_object_get(options, group) : options;
        const json_t *value = json_object_get(in, later[i].name);
        json_t *preset;
        char pointer[96];
        bool same;

        if (!value)
            continue;
        preset = later[i].preset ? json_loads(later[i].preset, JSON_DECODE_ANY, NULL) : NULL;
        same = preset && json_equal(value, preset);
        json_decref(preset);
        snprintf(pointer, sizeof pointer, "%s%s%s/%s", group ? "/options" : "",
            group && *group ? "/" : "", group ? group : "", later[i].name);
        if (!same)
            problem_add(
                problems, pointer, "not-available", NULL, "this version does not have it yet");
    }
}

static void
check_known(const char *pointer, const char *name, bool is_there, const char *const *known,
    Problems *problems)
{
    Buf allowed = buf_new(256);
    Err e = {0};

    if (is_there)
        return;
    for (size_t i = 0; known[i]; i++)
        if (strcmp(known[i], name) == 0) {
            problem_add(
                problems, pointer, "not-available", NULL, "this version does not have it yet");
            return;
        }
    problem_add(problems, pointer, "not-allowed", NULL, "is not known");
    for (size_t i = 0; known[i]; i++)
        buf_printf(&allowed, "%s\"%s\"", i ? "," : "[", known[i]);
    buf_char(&allowed, ']');
    if (problems->count <= PROBLEMS_MAX)
        problems->problem[problems->count - 1].allowed =
            arena_bytes(problems->arena, allowed.data, allowed.bytes, &e);
    buf_free(&allowed);
}

static bool
is_time(ColumnType type)
{
    return type == COLUMN_DATE || type == COLUMN_TIME || type == COLUMN_TIMESTAMP ||
           type == COLUMN_TIMESTAMPTZ;
}

/* A span that ends before it starts is a mistake, not an empty answer. */
static void
check_span(const ExportRequest *request, Problems *problems)
{
    const SourceParam *start = NULL, *end = NULL;

    for (size_t i = 0; i < request->params; i++) {
        if (strcmp(request->param[i].name, "start") == 0)
            start = &request->param[i];
        else if (strcmp(request->param[i].name, "end") == 0)
            end = &request->param[i];
    }
    if (start && end && !start->is_null && !end->is_null && start->type == end->type &&
        is_time(start->type) && start->as.int64 >= end->as.int64)
        problem_add(problems, "/params/end", "out-of-range", NULL, "must be after start");
}

static void
add_unknown_param(const ExportType *type, const char *name, Problems *problems)
{
    const char *names[PARAMS_MAX + 1], *nearest;
    char pointer[SHAPE_POINTER_BYTES];
    size_t count = 0;

    for (; count < type->params && count < PARAMS_MAX; count++)
        names[count] = type->param[count].name;
    names[count] = NULL;
    nearest = text_nearest(name, names);
    problem_add(problems, shape_below("/params", name, pointer), "unknown-param", NULL,
        "is not a parameter of %s%s%s%s", type->name, nearest ? "; did you mean \"" : "",
        nearest ? nearest : "", nearest ? "\"?" : "");
}

static bool
read_params(const json_t *params, ExportRequest *request, Arena *arena, Problems *problems,
    Problems *warnings, Err *e)
{
    const ExportType *type = request->type;
    SourceParam *param = arena_alloc_array(arena, type->params + 1, sizeof *param, e);
    const char *name;
    json_t *value;

    if (!param)
        return false;
    request->param = param;
    request->params = type->params;
    for (size_t i = 0; i < type->params; i++) {
        const TypeParam *of = &type->param[i];
        const char *word;
        char pointer[96], detail[200];
        bool naive;

        /* Written out, null is no value, default or not; left out, the default is one. */
        if (!(value = json_object_get(params, of->name)))
            value = (json_t *)(uintptr_t)of->preset;
        snprintf(pointer, sizeof pointer, "/params/%s", of->name);
        if ((!value || json_is_null(value)) && of->required)
            problem_add(problems, pointer, "required", NULL, "is missing");
        if (!request_param(of, value, arena, &param[i], &naive, &word, detail))
            problem_add(problems, pointer, word, value, "%s", detail);
        else if (naive && warnings)
            problem_add(
                warnings, pointer, "naive-timestamp", NULL, "has no zone and is taken as UTC");
    }
    json_object_foreach((json_t *)(uintptr_t)params, name, value)
    {
        bool known = false;

        for (size_t i = 0; i < type->params; i++)
            known |= strcmp(type->param[i].name, name) == 0;
        if (!known)
            add_unknown_param(type, name, problems);
    }
    check_span(request, problems);
    return true;
}

static void
read_options(const json_t *body, const Config *config, EncoderOptions *options)
{
    const json_t *csv = json_object_get(json_object_get(body, "options"), "csv");
    const char *line_ending =
        json_text_or(csv, "line_ending", config ? config->csv_eol : line_endings[0]);

    *options = encoder_options_default();
    options->csv.line_ending_lf = strcmp(line_ending, "lf") == 0;
    options->csv.empty_string_bare = strcmp(json_text_or(csv, "empty_string", ""), "bare") == 0;
    options->csv.header = json_bool_or(csv, "header", true);
}

static int
priority_of(const char *name)
{
    return strcmp(name, "high") == 0 ? 0 : strcmp(name, "low") == 0 ? 9 : 3;
}

static void
read_not_before(const json_t *body, const RequestRules *rules, ExportRequest *request,
    Problems *problems, Problems *warnings)
{
    const char *text = json_text_or(body, "not_before", NULL);
    bool zoned;

    if (!text || !time_parse(text, strlen(text), &request->not_before_us, &zoned))
        return;
    if (!zoned && warnings)
        problem_add(
            warnings, "/not_before", "naive-timestamp", NULL, "has no zone and is taken as UTC");
    if (request->not_before_us > rules->now_us + NOT_BEFORE_DAYS_MAX * us_per_day)
        problem_add(problems, "/not_before", "out-of-range", json_object_get(body, "not_before"),
            "must be at most %d days ahead", NOT_BEFORE_DAYS_MAX);
    if (request->not_before_us <= rules->now_us)
        request->not_before_us = 0;
}

static void
read_limits(
    const json_t *body, const RequestRules *rules, ExportRequest *request, Problems *problems)
{
    const ExportType *type = request->type;
    int64_t most_ms = type->time_limit_ms ? type->time_limit_ms : rules->config->task_time_limit_ms;
    int64_t rows_most = type->max_rows ? (int64_t)type->max_rows : INT64_MAX;
    int64_t row_limit = json_int_or(body, "row_limit", 0);

    request->time_limit_ms = json_int_or(body, "time_limit", 0) * 1000;
    if (request->time_limit_ms > most_ms)
        problem_add(problems, "/time_limit", "out-of-range", json_object_get(body, "time_limit"),
            "must be at most %" PRId64 " seconds", most_ms / 1000);
    if (request->time_limit_ms == 0)
        request->time_limit_ms = most_ms;
    if (row_limit > rows_most)
        problem_add(problems, "/row_limit", "out-of-range", json_object_get(body, "row_limit"),
            "must be at most %" PRId64, rows_most);
    request->row_limit = row_limit ? (uint64_t)row_limit : type->max_rows;
    request->url_ttl_ms = json_int_or(body, "url_ttl", rules->config->url_ttl_ms / 1000) * 1000;
    request->retain_ms = json_object_get(body, "retain_days")
                             ? json_int_or(body, "retain_days", 7) * ms_per_day
                             : rules->config->retention_ms;
    request->priority = priority_of(json_text_or(body, "priority", "normal"));
}

static void
add_unknown_type(const json_t *body, const RequestRules *rules, Problems *problems)
{
    Buf allowed = buf_new(64 << 10);
    Err e = {0};

    problem_add(problems, "/export_type", "unknown-export-type",
        json_object_get(body, "export_type"), "is not a loaded export type");
    buf_char(&allowed, '[');
    for (size_t i = 0; i < rules->types->types; i++)
        buf_printf(&allowed, "%s\"%s\"", i ? "," : "", rules->types->type[i].name);
    buf_char(&allowed, ']');
    if (problems->count <= PROBLEMS_MAX)
        problems->problem[problems->count - 1].allowed =
            arena_bytes(problems->arena, allowed.data, allowed.bytes, &e);
    buf_free(&allowed);
}

/* When all that is wrong is of one kind with a code of its own, the answer has that code. */
static ErrCode
code_of(const Problems *problems)
{
    static const struct {
        const char *word;
        ErrCode code;
    } codes[] = {{"unknown-export-type", ERR_UNKNOWN_EXPORT_TYPE},
        {"unknown-member", ERR_UNKNOWN_MEMBER}, {"not-available", ERR_NOT_AVAILABLE},
        {"unsupported-combination", ERR_UNSUPPORTED_COMBINATION}};
    size_t count = problems->count < PROBLEMS_MAX ? problems->count : PROBLEMS_MAX;

    for (size_t c = 0; c < sizeof codes / sizeof codes[0]; c++) {
        size_t same = 0;

        for (size_t i = 0; i < count; i++)
            same += strcmp(problems->problem[i].word, codes[c].word) == 0;
        if (same == count && count > 0)
            return codes[c].code;
    }
    return ERR_VALIDATION_FAILED;
}

/* "report" becomes "report.csv", as the key's last part would be. */
static bool
add_extension(ExportRequest *request, const Kinds *kinds, Arena *arena, Err *e)
{
    const char *of_format = kinds_format(kinds, request->format)->extension;
    const char *of_codec = kinds_codec(kinds, request->compression)->extension;
    const char *extension = arena_printf(arena, e, "%s%s", of_format, of_codec);
    size_t bytes = request->filename ? strlen(request->filename) : 0, end;

    if (!extension)
        return false;
    if (!request->filename)
        return true;
    end = strlen(extension);
    if (bytes > end && text_same_case_blind(request->filename + bytes - end, extension))
        return true;
    request->filename = arena_printf(arena, e, "%s%s", request->filename, extension);
    return request->filename != NULL;
}

bool
request_parse(const json_t *body, const RequestRules *rules, Arena *arena, ExportRequest *request,
    Problems *problems, Problems *warnings, Err *e)
{
    const json_t *params;
    bool shaped;

    *request = (ExportRequest){0};
    shaped = shape_check(body_members, body, "",
        rules->strict ? SHAPE_UNKNOWN_REFUSED : SHAPE_UNKNOWN_NOTED, problems, warnings);
    if (!json_is_object(body))
        return fail(e, VALIDATION_FAILED, "the body is not an object");
    request->user_id = json_text_or(body, "user_id", "");
    request->format = json_text_or(body, "format", "csv");
    request->compression = json_text_or(body, "compression", "none");
    request->filename = json_text_or(body, "filename", NULL);
    if (json_is_string(json_object_get(body, "format")))
        check_known("/format", request->format, kinds_format(rules->kinds, request->format) != NULL,
            formats, problems);
    if (json_is_string(json_object_get(body, "compression")))
        check_known("/compression", request->compression,
            kinds_codec(rules->kinds, request->compression) != NULL, compressions, problems);
    check_later(body, problems);
    read_options(body, rules->config, &request->options);
    if (json_is_string(json_object_get(body, "export_type"))) {
        request->type = types_find(rules->types, json_text_or(body, "export_type", ""));
        if (!request->type)
            add_unknown_type(body, rules, problems);
    }
    params = json_object_get(body, "params");
    if (request->type) {
        if ((!params || json_is_object(params) || json_is_null(params)) &&
            !read_params(
                json_is_object(params) ? params : NULL, request, arena, problems, warnings, e))
            return false;
        if (shaped)
            read_limits(body, rules, request, problems);
    }
    read_not_before(body, rules, request, problems, warnings);
    if (problems->count == 0 && shaped)
        return add_extension(request, rules->kinds, arena, e);
    return fail_code(e, code_of(problems), "%zu member%s not valid", problems->count,
        problems->count == 1 ? " is" : "s are");
}

/* --- the request as understood --- */

static json_t *
param_to_json(const SourceParam *param)
{
    char text[TIME_TEXT_BYTES + 16];
    Buf base64 = buf_new(1 << 20);
    json_t *value;
    TimeParts p;

    if (param->is_null)
        return json_null();
    switch (param->type) {
    case COLUMN_BOOL:
        return json_boolean(param->as.yes);
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
        return json_integer(param->as.int64);
    case COLUMN_FLOAT:
    case COLUMN_DOUBLE:
        return json_real(param->as.real);
    case COLUMN_DATE:
        p = time_parts(param->as.int64 * us_per_day);
        snprintf(text, sizeof text, "%04d-%02d-%02d", p.year, p.month, p.day);
        return json_string(text);
    case COLUMN_TIME:
        p = time_parts(param->as.int64);
        snprintf(
            text, sizeof text, "%02d:%02d:%02d.%06d", p.hour, p.minute, p.second, p.microsecond);
        return json_string(text);
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        p = time_parts(param->as.int64);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", p.year, p.month, p.day,
            p.hour, p.minute, p.second, p.microsecond);
        return json_string(text);
    case COLUMN_BYTES:
        text_base64(&base64, (const uint8_t *)param->as.text.bytes, param->as.text.count);
        value = base64.failed ? NULL : json_string(base64.data);
        buf_free(&base64);
        return value;
    case COLUMN_JSON:
        return json_loadb(param->as.text.bytes, param->as.text.count, JSON_DECODE_ANY, NULL);
    default:
        return json_stringn(param->as.text.bytes, param->as.text.count);
    }
}

const char *
request_to_json(const ExportRequest *request, Arena *arena, Err *e)
{
    json_t *params = json_object(), *value;
    Buf text = buf_new(256 << 10);
    const char *json = NULL;

    /* Null stands where it is not the same as nothing. */
    for (size_t i = 0; i < request->params; i++)
        if (!request->param[i].is_null || request->type->param[i].preset)
            json_object_set_new(params, request->param[i].name, param_to_json(&request->param[i]));
    value = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:o, s:{s:s, s:s, s:b}, s:I, s:I, s:I, s:I}",
        "export_type", request->type->name, "user_id", request->user_id, "format", request->format,
        "compression", request->compression, "filename", request->filename, "params", params, "csv",
        "line_ending", request->options.csv.line_ending_lf ? "lf" : "crlf", "empty_string",
        request->options.csv.empty_string_bare ? "bare" : "quoted", "header",
        (int)request->options.csv.header, "row_limit", (json_int_t)request->row_limit,
        "time_limit_ms", (json_int_t)request->time_limit_ms, "url_ttl_ms",
        (json_int_t)request->url_ttl_ms, "retain_ms", (json_int_t)request->retain_ms);
    if (!value)
        fail(e, INTERNAL, "a request that JSON cannot write");
    else if (json_write_canonical(value, &text, e))
        json = arena_bytes(arena, text.data, text.bytes, e);
    json_decref(value);
    buf_free(&text);
    return json;
}

/* None of them may make another number elsewhere: they are multiplied and added to the time. */
static bool
has_limits(const ExportRequest *request)
{
    const int64_t most_ms = 10000 * ms_per_day;

    return request->row_limit <= (uint64_t)INT64_MAX && request->time_limit_ms > 0 &&
           request->time_limit_ms <= most_ms && request->url_ttl_ms > 0 &&
           request->url_ttl_ms <= most_ms && request->retain_ms > 0 &&
           request->retain_ms <= most_ms;
}

bool
request_from_json(
    const json_t *value, const ExportType *type, Arena *arena, ExportRequest *request, Err *e)
{
    Problems problems = {.arena = arena};
    const json_t *params = json_object_get(value, "params"), *csv = json_object_get(value, "csv");
    const json_t *filename = json_object_get(value, "filename");
    const char *ignored;

    *request = (ExportRequest){
        .type = type,
        .user_id = json_text_or(value, "user_id", ""),
        .format = json_text_or(value, "format", ""),
        .compression = json_text_or(value, "compression", ""),
        .filename = json_text_or(value, "filename", NULL),
        .options = encoder_options_default(),
        .row_limit = (uint64_t)json_int_or(value, "row_limit", 0),
        .time_limit_ms = json_int_or(value, "time_limit_ms", 0),
        .url_ttl_ms = json_int_or(value, "url_ttl_ms", ms_per_day),
        .retain_ms = json_int_or(value, "retain_ms", 7 * ms_per_day),
        .priority = priority_of("normal"),
    };
    request->options.csv.line_ending_lf = strcmp(json_text_or(csv, "line_ending", ""), "lf") == 0;
    request->options.csv.empty_string_bare =
        strcmp(json_text_or(csv, "empty_string", ""), "bare") == 0;
    request->options.csv.header = json_bool_or(csv, "header", true);
    if (!text_is_user_id(request->user_id) || !json_is_object(params) ||
        strcmp(json_text_or(value, "export_type", ""), type->name) != 0 || !has_limits(request) ||
        (filename && !json_is_null(filename) &&
            (!json_is_string(filename) || !json_string_length(filename) ||
                !check_filename(filename, &ignored))))
        return fail(e, INTERNAL, "a task whose request cannot be read");
    if (!read_params(params, request, arena, &problems, NULL, e))
        return false;
    return problems.count == 0 || fail(e, DEFINITION_CHANGED, "%s %s", problems.problem[0].pointer,
                                      problems.problem[0].detail);
}

json_t *
request_schema(void)
{
    return shape_schema(body_members);
}
