/*
 * Parameters become text in the query, because COPY takes none (docs/decisions/0010). What a client
 * chose freely never stands in that text: see PgBound.
 *
 * Names of settings: PostgreSQL 15, chapter 20.16; forms of values: chapter 8.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"
#include "base/time.h"
#include "source/postgres/postgres_in.h"
#include "source/query.h"

/* A query with many long decimals is longer than its definition. */
enum { SQL_BYTES_MAX = 8 << 20, LITERAL_BYTES = 64, NUMERIC_BYTES_MAX = 131072 + 16383 + 2 };

static const int64_t us_per_day = 86400000000;

/* --- literals --- */

/* Nothing here ends a literal, whatever standard_conforming_strings says. */
static bool
is_safe(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'z') &&
            !(text[i] >= 'A' && text[i] <= 'Z') && (!text[i] || !strchr(":+. -", text[i])))
            return false;
    return true;
}

static bool
is_uuid(const char *text, size_t bytes)
{
    char copy[37] = "";

    if (bytes != sizeof copy - 1)
        return false;
    memcpy(copy, text, bytes);
    return text_is_uuid(copy);
}

/* "2024-01-31", or "0045-03-15" with the era behind it: there is no year 0. */
static int
write_date(TimeParts p, char *to, size_t room)
{
    return snprintf(to, room, "%04d-%02d-%02d", p.year > 0 ? p.year : 1 - p.year, p.month, p.day);
}

static const char *
era(TimeParts p)
{
    return p.year > 0 ? "" : " BC";
}

/* What is kept as a number; 0: no such value. */
static size_t
write_time(const SourceParam *param, char to[LITERAL_BYTES])
{
    int64_t value = param->as.int64;
    TimeParts p;
    int bytes;

    if (param->type == COLUMN_DATE) {
        if (value < INT32_MIN || value > INT32_MAX)
            return 0;
        p = time_date(value);
        bytes = write_date(p, to, LITERAL_BYTES);
        bytes += snprintf(to + bytes, LITERAL_BYTES - (size_t)bytes, "%s", era(p));
        return (size_t)bytes;
    }
    if (param->type == COLUMN_TIME && (value < 0 || value >= us_per_day))
        return 0;
    p = time_parts(value);
    bytes = param->type == COLUMN_TIME ? 0 : write_date(p, to, LITERAL_BYTES);
    bytes += snprintf(to + bytes, LITERAL_BYTES - (size_t)bytes, "%s%02d:%02d:%02d.%06d%s%s",
        bytes ? " " : "", p.hour, p.minute, p.second, p.microsecond,
        param->type == COLUMN_TIMESTAMPTZ ? "+00" : "", bytes ? era(p) : "");
    return (size_t)bytes;
}

/* The text between the quotes; NULL: the value is none of its type. `own` has room for what is not
 * a text already. */
static const char *
literal(const SourceParam *param, char own[LITERAL_BYTES], size_t *bytes)
{
    const char *text = own;

    *bytes = 0;
    switch (param->type) {
    case COLUMN_BOOL:
        text = param->as.yes ? "true" : "false";
        *bytes = strlen(text);
        break;
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
        *bytes = number_int(param->as.int64, own);
        break;
    case COLUMN_FLOAT:
        *bytes = number_float((float)param->as.real, own);
        break;
    case COLUMN_DOUBLE:
        *bytes = number_double(param->as.real, own);
        break;
    case COLUMN_DATE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        *bytes = write_time(param, own);
        break;
    case COLUMN_DECIMAL:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
        text = param->as.text.bytes;
        *bytes = param->as.text.count;
        /* PostgreSQL's own limits hold a numeric's length. */
        if ((param->type == COLUMN_DECIMAL &&
                (*bytes > NUMERIC_BYTES_MAX || !text_is_decimal(text, *bytes))) ||
            (param->type == COLUMN_UUID && !is_uuid(text, *bytes)) || !is_safe(text, *bytes))
            return NULL;
        break;
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_JSON:
    case COLUMN_TYPES_COUNT:
        return NULL;
    }
    return *bytes > 0 ? text : NULL;
}

/* --- settings --- */

/* How a query reads one, around its name. */
static const struct {
    const char *before, *behind;
} reading[COLUMN_TYPES_COUNT] = {
    [COLUMN_TEXT] = {"(pg_catalog.current_setting('", "'))"},
    [COLUMN_BYTES] = {"(pg_catalog.decode(pg_catalog.current_setting('", "'), 'hex'))"},
    [COLUMN_JSON] = {"(pg_catalog.current_setting('", "')::pg_catalog.json)"},
};

typedef struct {
    const SourceSpec *spec;
    Arena *task;
    Buf sql;
    PgSetting *setting;
    const char **name; /* of each parameter's setting; NULL: it has none yet */
    size_t settings;
} Binding;

/* Of text, which a setting takes as it is, or of bytes. */
static const char *
value_of_setting(const SourceParam *param, Arena *task, Err *e)
{
    const char *bytes = param->as.text.bytes;
    size_t count = param->as.text.count;
    char *hex;

    if (param->type == COLUMN_BYTES) {
        if ((hex = arena_alloc_array(task, count + 1, 2, e)))
            text_hex((const uint8_t *)bytes, count, hex);
        return hex;
    }
    if (count > 0 && memchr(bytes, '\0', count)) {
        fail(e, SOURCE_QUERY, "the value of $%s has U+0000 in it", param->name);
        return NULL;
    }
    return arena_bytes(task, count > 0 ? bytes : "", count, e);
}

/* The name goes into a literal, and PostgreSQL takes upper and lower case in it for the same. */
static bool
make_setting(Binding *b, size_t at, Err *e)
{
    const SourceParam *param = &b->spec->param[at];
    PgSetting *setting = &b->setting[b->settings];

    if (!text_is_name(param->name))
        return fail(e, SOURCE_QUERY, "a parameter whose name no setting can have");
    if (!(setting->name = arena_printf(b->task, e, "rowferry.p_%s", param->name)) ||
        !(setting->value = value_of_setting(param, b->task, e)))
        return false;
    b->name[at] = setting->name;
    b->settings++;
    return true;
}

/* --- parameters --- */

/* Where we are in a query. */
typedef struct {
    QueryToken token, before, before_that; /* of no bytes: there was none */
} Place;

/*
 * Is the parameter here all that an IS [NOT] NULL is about? Every operator but these words binds
 * closer than IS, so that anything else in front might belong to the operand, as in `a || $x IS
 * NULL` or `BETWEEN a AND $x IS NULL`. A word behind a dot is a name.
 */
static bool
is_asked_for_null(const Place *place)
{
    static const char *const opening[] = {"where", "or", "not", "on", "when"};
    bool opens = query_is_sign(&place->before, '(');
    QueryToken next = place->token;

    for (size_t i = 0; i < sizeof opening / sizeof opening[0]; i++)
        opens |=
            query_is_word(&place->before, opening[i]) && !query_is_sign(&place->before_that, '.');
    if (!opens || !query_token(next.at + next.bytes, QUERY_SQL, &next) ||
        !query_is_word(&next, "is") || !query_token(next.at + next.bytes, QUERY_SQL, &next))
        return false;
    if (query_is_word(&next, "not") && !query_token(next.at + next.bytes, QUERY_SQL, &next))
        return false;
    return query_is_word(&next, "null");
}

/* The parentheses keep it one operand whatever stands beside it: a text in front would take a
 * literal for its own next part. */
bool
pg_literal(const SourceParam *param, Buf *sql, Err *e)
{
    char own[LITERAL_BYTES];
    size_t bytes;
    const char *text = literal(param, own, &bytes);

    if (!text)
        return fail(e, SOURCE_QUERY, "the value of $%s is no %s", param->name,
            column_type_name(param->type));
    assert(is_safe(text, bytes));
    buf_text(sql, "('");
    buf_put(sql, text, bytes);
    buf_text(sql, "'::pg_catalog.");
    buf_text(sql, pg_cast_name(param->type));
    buf_char(sql, ')');
    return true;
}

/*
 * A setting is known when the query runs, not when it is planned. So where only its nullness is
 * asked, a constant that is not NULL stands for it: `($x IS NULL OR column = $x)` then is planned
 * as `column = $x`, by an index if there is one.
 */
static bool
put_param(Binding *b, size_t at, const Place *place, Err *e)
{
    const SourceParam *param = &b->spec->param[at];
    Buf *sql = &b->sql;

    if (param->type >= COLUMN_TYPES_COUNT)
        return fail(e, INTERNAL, "$%s has no type", param->name);
    if (param->is_null) {
        buf_text(sql, "(NULL::pg_catalog.");
        buf_text(sql, pg_cast_name(param->type));
        buf_char(sql, ')');
        return true;
    }
    if (!reading[param->type].before)
        return pg_literal(param, sql, e);
    if (!b->name[at] && !make_setting(b, at, e))
        return false;
    if (is_asked_for_null(place)) {
        buf_text(sql, "(''::pg_catalog.text)");
        return true;
    }
    buf_text(sql, reading[param->type].before);
    buf_text(sql, b->name[at]);
    buf_text(sql, reading[param->type].behind);
    return true;
}

static bool
put_named(Binding *b, const Place *place, Err *e)
{
    const char *name = place->token.at + 1;
    size_t bytes = place->token.bytes - 1;

    for (size_t i = 0; i < b->spec->params; i++)
        if (strlen(b->spec->param[i].name) == bytes &&
            memcmp(b->spec->param[i].name, name, bytes) == 0)
            return put_param(b, i, place, e);
    return fail(
        e, SOURCE_QUERY, "$%.*s is not among the parameters", (int)(bytes > 64 ? 64 : bytes), name);
}

/* All but what stands behind the last token: comments there, and the semicolons in front. */
static bool
write_sql(Binding *b, Err *e)
{
    const char *copied = b->spec->query, *end = copied;
    Place place = {.token.at = copied};

    for (QueryToken next = place.token; query_token(next.at + next.bytes, QUERY_SQL, &next);) {
        place = (Place){next, place.token, place.before};
        if (query_is_sign(&next, ';'))
            continue;
        end = next.at + next.bytes;
        if (next.kind == QUERY_QUOTED && *next.at == '`')
            return fail(e, SOURCE_QUERY, "a ` in the query: PostgreSQL quotes names by \"");
        if (query_is_sign(&next, '$')) /* $1, which nobody would bind */
            return fail(e, SOURCE_QUERY, "a $ in the query that begins no parameter's name");
        if (next.kind != QUERY_PARAM)
            continue;
        buf_put(&b->sql, copied, (size_t)(next.at - copied));
        if (!put_named(b, &place, e))
            return false;
        copied = end;
    }
    if (end == b->spec->query)
        return fail(e, SOURCE_QUERY, "the query is empty");
    buf_put(&b->sql, copied, (size_t)(end - copied));
    return buf_is_good(&b->sql, e);
}

bool
pg_bind(const SourceSpec *spec, Arena *task, PgBound *bound, Err *e)
{
    Binding b = {.spec = spec, .task = task, .sql = buf_new(SQL_BYTES_MAX)};
    bool ok = (b.setting = arena_alloc_array(task, spec->params + 1, sizeof *b.setting, e)) &&
              (b.name = arena_alloc_array(task, spec->params + 1, sizeof *b.name, e)) &&
              write_sql(&b, e) && (bound->sql = arena_bytes(task, b.sql.data, b.sql.bytes, e));

    bound->setting = b.setting;
    bound->settings = b.settings;
    buf_free(&b.sql);
    return ok;
}
