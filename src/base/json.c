#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/number.h"
#include "base/text.h"

enum { WRITE_DEPTH_MAX = 64, NAMES_BYTES_MAX = 8 << 20 };

__attribute__((constructor)) static void
seed_hashes(void)
{
    json_object_seed(0);
}

/* One pass over the bytes before Jansson sees them. */
typedef struct {
    const char *start, *at, *end;
    unsigned depth, depth_max;
    bool has_nul;       /* U+0000 in a string: refused, but only if nothing worse comes */
    const char *number; /* the first number out of range, likewise */
} Scan;

static bool
fail_at(const Scan *s, const char *at, ErrCode code, const char *what, Err *e)
{
    unsigned line = 1;
    const char *line_start = s->start;

    for (const char *p = s->start; p < at && p < s->end; p++)
        if (*p == '\n') {
            line++;
            line_start = p + 1;
        }
    return fail_code(
        e, code, "line %u, column %u: %s", line, (unsigned)(at - line_start) + 1, what);
}

static bool
read_escape(Scan *s, uint32_t *unit)
{
    uint8_t bytes[2];
    char hex[5];

    if (s->end - s->at < 4)
        return false;
    memcpy(hex, s->at, 4);
    hex[4] = '\0';
    for (char *c = hex; *c; c++)
        if (*c >= 'A' && *c <= 'F')
            *c = (char)(*c | 0x20);
    if (!text_unhex(hex, bytes, 2))
        return false;
    *unit = (uint32_t)bytes[0] << 8 | bytes[1];
    s->at += 4;
    return true;
}

/* Behind "\u": a lone surrogate is no character; U+0000 is one that no database holds. */
static bool
scan_unicode(Scan *s, Err *e)
{
    const char *from = s->at - 2;
    uint32_t unit, low;

    if (!read_escape(s, &unit))
        return fail_at(s, from, ERR_MALFORMED_JSON, "an escape that is none", e);
    if (unit == 0)
        s->has_nul = true;
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return fail_at(s, from, ERR_INVALID_ENCODING, "half a surrogate pair", e);
    if (unit >= 0xd800 && unit <= 0xdbff) {
        if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u')
            return fail_at(s, from, ERR_INVALID_ENCODING, "half a surrogate pair", e);
        s->at += 2;
        if (!read_escape(s, &low) || low < 0xdc00 || low > 0xdfff)
            return fail_at(s, from, ERR_INVALID_ENCODING, "half a surrogate pair", e);
    }
    return true;
}

static bool
scan_string(Scan *s, Err *e)
{
    const char *from = s->at - 1;

    while (s->at < s->end) {
        char c = *s->at++;

        if (c == '"')
            return true;
        if ((unsigned char)c < 0x20)
            return fail_at(s, s->at - 1, ERR_MALFORMED_JSON, "a control character in a string", e);
        if (c == '\\') {
            if (s->at == s->end)
                break;
            if (*s->at++ == 'u' && !scan_unicode(s, e))
                return false;
        }
    }
    return fail_at(s, from, ERR_MALFORMED_JSON, "a string without end", e);
}

/* A number as far as its characters go; its grammar is Jansson's business, its range is ours. */
static void
scan_number(Scan *s)
{
    const char *from = s->at;
    bool real, fits;

    s->at += strspn(from, "+-0123456789.eE");
    real = from + strcspn(from, ".eE") < s->at;
    errno = 0;
    if (real) {
        fits = isfinite(strtod(from, NULL));
    } else {
        (void)strtoll(from, NULL, 10);
        fits = errno != ERANGE;
    }
    if (!fits && !s->number)
        s->number = from;
}

static bool
scan(Scan *s, Err *e)
{
    while (s->at < s->end) {
        char c = *s->at;

        if (c == '-' || (c >= '0' && c <= '9')) {
            scan_number(s);
            continue;
        }
        s->at++;
        if (c == '"') {
            if (!scan_string(s, e))
                return false;
        } else if (c == '{' || c == '[') {
            if (++s->depth > s->depth_max)
                return fail_at(s, s->at - 1, ERR_MALFORMED_JSON, "too deep", e);
        } else if ((c == '}' || c == ']') && s->depth > 0) {
            s->depth--;
        } else if (c == '\0') {
            return fail_at(s, s->at - 1, ERR_MALFORMED_JSON, "a NUL", e);
        }
    }
    return true;
}

json_t *
json_parse(const char *bytes, size_t count, unsigned depth_max, Err *e)
{
    Scan s = {.start = bytes, .at = bytes, .end = bytes + count, .depth_max = depth_max};
    /* A text that ends: the scan of numbers and blanks relies on the NUL. */
    Buf text = buf_new(count + 1);
    json_error_t error;
    json_t *value = NULL;
    bool good = true;

    if (!text_is_utf8(bytes, count)) {
        fail(e, INVALID_ENCODING, "bytes that are not UTF-8");
        return NULL;
    }
    if (count >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        fail(e, MALFORMED_JSON, "line 1, column 1: a byte order mark");
        return NULL;
    }
    buf_put(&text, bytes, count);
    if (!buf_is_good(&text, e))
        goto out;
    s.start = s.at = text.data;
    s.end = text.data + count;
    if (strspn(text.data, " \t\r\n") == count) {
        fail(e, MALFORMED_JSON, "line 1, column 1: nothing there");
        goto out;
    }
    if (!scan(&s, e))
        goto out;
    value = json_loadb(
        text.data, count, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    /* What Jansson calls a syntax error may be a number or a name that it cannot hold. */
    if (!value && s.number && json_error_code(&error) == json_error_numeric_overflow)
        fail_at(&s, s.number, ERR_VALIDATION_FAILED, "a number beyond 64 bits", e);
    else if (!value && s.has_nul && json_error_code(&error) == json_error_null_byte_in_key)
        fail(e, VALIDATION_FAILED, "U+0000 in a name");
    else if (!value)
        fail(e, MALFORMED_JSON, "line %d, column %d: %s", error.line, error.column, error.text);
    else if (s.number)
        good = fail_at(&s, s.number, ERR_VALIDATION_FAILED, "a number beyond 64 bits", e);
    else if (s.has_nul)
        good = fail(e, VALIDATION_FAILED, "U+0000 in a text");
    if (!good) {
        json_decref(value);
        value = NULL;
    }
out:
    buf_free(&text);
    return value;
}

/* --- writing: not Jansson's, whose reals have 17 digits where fewer say the same --- */

typedef struct {
    Buf *to;
    bool sorted;
    Arena *arena; /* of the sorted names; NULL while there were none */
} Writer;

static bool put_value(Writer *w, const json_t *value, unsigned depth, Err *e);

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
put_member(Writer *w, const char *name, const json_t *value, bool first, unsigned depth, Err *e)
{
    if (!first)
        buf_char(w->to, ',');
    text_json_string(w->to, name, strlen(name), 0);
    buf_char(w->to, ':');
    return put_value(w, value, depth, e);
}

static bool
put_sorted(Writer *w, const json_t *object, unsigned depth, Err *e)
{
    size_t count = json_object_size(object), i = 0;
    const char **names, *name;
    const json_t *value;
    bool ok = true;

    if (!w->arena && !(w->arena = arena_new(NAMES_BYTES_MAX)))
        return fail(e, MEMORY_LIMIT, "no memory for names");
    if (!(names = arena_alloc_array(w->arena, count, sizeof *names, e)))
        return false;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        names[i++] = name;
    }
    qsort(names, count, sizeof *names, compare_names);
    for (i = 0; ok && i < count; i++)
        ok = put_member(w, names[i], json_object_get(object, names[i]), i == 0, depth, e);
    return ok;
}

static bool
put_object(Writer *w, const json_t *object, unsigned depth, Err *e)
{
    const char *name;
    const json_t *value;
    bool first = true, ok = true;

    buf_char(w->to, '{');
    if (w->sorted && json_object_size(object) > 1) {
        ok = put_sorted(w, object, depth, e);
    } else {
        json_object_foreach((json_t *)(uintptr_t)object, name, value)
        {
            ok = ok && put_member(w, name, value, first, depth, e);
            first = false;
        }
    }
    buf_char(w->to, '}');
    return ok;
}

static bool
put_array(Writer *w, const json_t *array, unsigned depth, Err *e)
{
    const json_t *value;
    bool ok = true;
    size_t i;

    buf_char(w->to, '[');
    json_array_foreach(array, i, value)
    {
        if (i > 0)
            buf_char(w->to, ',');
        ok = ok && put_value(w, value, depth, e);
    }
    buf_char(w->to, ']');
    return ok;
}

static bool
put_value(Writer *w, const json_t *value, unsigned depth, Err *e)
{
    char number[NUMBER_REAL_BYTES];

    if (!value || depth > WRITE_DEPTH_MAX)
        return fail(e, INTERNAL, "a value that JSON cannot write");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return put_object(w, value, depth + 1, e);
    case JSON_ARRAY:
        return put_array(w, value, depth + 1, e);
    case JSON_STRING:
        text_json_string(w->to, json_string_value(value), json_string_length(value), 0);
        return true;
    case JSON_INTEGER:
        buf_put(w->to, number, number_int(json_integer_value(value), number));
        return true;
    case JSON_REAL:
        buf_put(w->to, number, number_double(json_real_value(value), number));
        return true;
    case JSON_TRUE:
        buf_text(w->to, "true");
        return true;
    case JSON_FALSE:
        buf_text(w->to, "false");
        return true;
    case JSON_NULL:
        buf_text(w->to, "null");
        return true;
    }
    return fail(e, INTERNAL, "a value of no known type");
}

static bool
write_with(const json_t *value, bool sorted, Buf *to, Err *e)
{
    Writer w = {.to = to, .sorted = sorted};
    bool ok = put_value(&w, value, 0, e) && buf_is_good(to, e);

    arena_free(w.arena);
    return ok;
}

bool
json_write_canonical(const json_t *value, Buf *to, Err *e)
{
    return write_with(value, true, to, e);
}

bool
json_write(const json_t *value, Buf *to, Err *e)
{
    return write_with(value, false, to, e);
}

const char *
json_text_or(const json_t *object, const char *member, const char *preset)
{
    const json_t *value = json_object_get(object, member);

    return json_is_string(value) ? json_string_value(value) : preset;
}

bool
json_whole(const json_t *value, int64_t *number)
{
    double real = json_real_value(value);

    if (json_is_integer(value)) {
        *number = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value) || real != floor(real) || fabs(real) >= 9007199254740992.0)
        return false;
    *number = (int64_t)real;
    return true;
}

int64_t
json_int_or(const json_t *object, const char *member, int64_t preset)
{
    int64_t number;

    return json_whole(json_object_get(object, member), &number) ? number : preset;
}

bool
json_bool_or(const json_t *object, const char *member, bool preset)
{
    const json_t *value = json_object_get(object, member);

    return json_is_boolean(value) ? json_is_true(value) : preset;
}

const char *
json_library_version(void)
{
    return jansson_version_str();
}
