#include "base/shape.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"

enum { VALUE_CHARS_MAX = 64, NAMES_MAX = 96, TOKEN_BYTES_MAX = 128 };

/* JSON text of a short value; NULL for one that is too long to echo. */
static const char *
echo(const json_t *value, Arena *arena)
{
    char text[VALUE_CHARS_MAX + 1];
    size_t bytes;
    Err e = {0};

    if (!value || json_is_object(value) || json_is_array(value))
        return NULL;
    bytes = json_dumpb(value, text, sizeof text, JSON_ENCODE_ANY | JSON_COMPACT);
    if (bytes == 0 || bytes > VALUE_CHARS_MAX)
        return NULL;
    return arena_bytes(arena, text, bytes, &e);
}

void
problem_add(
    Problems *p, const char *pointer, const char *word, const json_t *value, const char *fmt, ...)
{
    char detail[300];
    va_list args;
    Problem *problem;
    Err e = {0};

    if (p->count++ >= PROBLEMS_MAX)
        return;
    problem = &p->problem[p->count - 1];
    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    *problem = (Problem){
        .pointer = arena_text(p->arena, pointer, &e),
        .word = word,
        .detail = arena_text(p->arena, detail, &e),
        .value = echo(value, p->arena),
    };
    /* Without memory the count still says that something is wrong. */
    if (!problem->pointer)
        problem->pointer = "";
    if (!problem->detail)
        problem->detail = "";
}

const char *
shape_below(const char *pointer, const char *name, char to[SHAPE_POINTER_BYTES])
{
    size_t bytes = strnlen(name, TOKEN_BYTES_MAX), at = 0;

    /* Not in the middle of a character: what is cut stays text. */
    while (name[bytes] && bytes > 0 && (name[bytes] & 0xc0) == 0x80)
        bytes--;
    if (to != pointer)
        (void)text_copy(to, SHAPE_POINTER_BYTES, pointer);
    at = strlen(to);
    if (at + 2 * bytes + 2 > SHAPE_POINTER_BYTES)
        return to; /* deeper than any table of ours: the parent's place must do */
    to[at++] = '/';
    for (size_t i = 0; i < bytes; i++) {
        bool escaped = name[i] == '~' || name[i] == '/';

        to[at++] = escaped ? '~' : name[i];
        if (escaped)
            to[at++] = name[i] == '~' ? '0' : '1';
    }
    to[at] = '\0';
    return to;
}

static size_t
characters(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += (*text & 0xc0) != 0x80;
    return count;
}

static bool
has_type(const Shape *shape, const json_t *value)
{
    switch (shape->type) {
    case SHAPE_TEXT:
        return json_is_string(value);
    case SHAPE_INT:
        return json_is_integer(value) ||
               (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)) &&
                   fabs(json_real_value(value)) < 9007199254740992.0);
    case SHAPE_REAL:
        return json_is_number(value);
    case SHAPE_BOOL:
        return json_is_boolean(value);
    case SHAPE_OBJECT:
        return json_is_object(value);
    case SHAPE_ARRAY:
        return json_is_array(value);
    case SHAPE_ANY:
        return true;
    }
    return false;
}

static const char *
type_words(ShapeType type)
{
    switch (type) {
    case SHAPE_TEXT:
        return "a text";
    case SHAPE_INT:
        return "a whole number";
    case SHAPE_REAL:
        return "a number";
    case SHAPE_BOOL:
        return "true or false";
    case SHAPE_OBJECT:
        return "an object";
    case SHAPE_ARRAY:
        return "a list";
    case SHAPE_ANY:
        break;
    }
    return "a value";
}

static bool
check_bounds(const Shape *shape, const json_t *value, const char *pointer, Problems *problems)
{
    const char *word = "out-of-range", *what = "";
    double size;

    if (shape->min == 0 && shape->max == 0)
        return true;
    if (json_is_number(value)) {
        size = json_number_value(value);
    } else if (json_is_string(value)) {
        size = (double)characters(json_string_value(value));
        word = size > shape->max ? "too-long" : "too-short";
        what = " characters";
    } else if (json_is_array(value) || json_is_object(value)) {
        size = (double)(json_is_array(value) ? json_array_size(value) : json_object_size(value));
        word = size > shape->max ? "too-many" : "too-few";
        what = " entries";
    } else {
        return true;
    }
    if (size >= shape->min && size <= shape->max)
        return true;
    if (shape->max >= DBL_MAX)
        problem_add(problems, pointer, word, value, "must be at least %.15g%s", shape->min, what);
    else if (shape->min <= -DBL_MAX)
        problem_add(problems, pointer, word, value, "must be at most %.15g%s", shape->max, what);
    else
        problem_add(problems, pointer, word, value, "must be between %.15g and %.15g%s", shape->min,
            shape->max, what);
    return false;
}

static const char *
allowed_json(const char *const *allowed, Arena *arena)
{
    Buf text = buf_new(1024);
    const char *json;
    Err e = {0};

    buf_char(&text, '[');
    for (size_t i = 0; allowed[i]; i++) {
        if (i > 0)
            buf_char(&text, ',');
        text_json_string(&text, allowed[i], strlen(allowed[i]), 0);
    }
    buf_char(&text, ']');
    json = text.failed ? NULL : arena_bytes(arena, text.data, text.bytes, &e);
    buf_free(&text);
    return json;
}

static bool
check_allowed(const Shape *shape, const json_t *value, const char *pointer, Problems *problems)
{
    const char *text = json_string_value(value), *nearest;

    if (!shape->allowed || !text)
        return true;
    for (size_t i = 0; shape->allowed[i]; i++)
        if (strcmp(text, shape->allowed[i]) == 0)
            return true;
    nearest = text_nearest(text, shape->allowed);
    problem_add(problems, pointer, "not-allowed", value, "is not one of the known values%s%s%s",
        nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    if (problems->count <= PROBLEMS_MAX)
        problems->problem[problems->count - 1].allowed =
            allowed_json(shape->allowed, problems->arena);
    return false;
}

static bool check_members(const Shape *members, const json_t *value, const char *pointer,
    ShapeUnknown rule, Problems *problems, Problems *unknown, unsigned depth);

static bool
check_value(const Shape *shape, const json_t *value, const char *pointer, Problems *problems,
    unsigned depth)
{
    char place[SHAPE_POINTER_BYTES], number[24];
    const char *detail = NULL, *key;
    json_t *each;
    bool good = true;
    size_t i;

    if (shape->not_available) {
        problem_add(problems, pointer, "not-available", NULL, "this version does not have it yet");
        return false;
    }
    if (!has_type(shape, value)) {
        problem_add(problems, pointer, "wrong-type", value, "must be %s", type_words(shape->type));
        return false;
    }
    if (!check_bounds(shape, value, pointer, problems) ||
        !check_allowed(shape, value, pointer, problems))
        return false;
    if (shape->check && !shape->check(value, &detail)) {
        problem_add(problems, pointer, "not-valid", value, "%s", detail ? detail : "is not valid");
        return false;
    }
    if (depth == 0)
        return true;
    if (shape->type == SHAPE_OBJECT && shape->members)
        return check_members(
            shape->members, value, pointer, SHAPE_UNKNOWN_REFUSED, problems, NULL, depth - 1);
    if (shape->type == SHAPE_OBJECT && shape->element) {
        json_object_foreach((json_t *)(uintptr_t)value, key, each) good &= check_value(
            shape->element, each, shape_below(pointer, key, place), problems, depth - 1);
    } else if (shape->type == SHAPE_ARRAY && shape->element) {
        json_array_foreach(value, i, each)
        {
            snprintf(number, sizeof number, "%zu", i);
            good &= check_value(
                shape->element, each, shape_below(pointer, number, place), problems, depth - 1);
        }
    }
    return good;
}

static const Shape *
find_member(const Shape *members, const char *name)
{
    for (; members->name; members++)
        if (strcmp(members->name, name) == 0)
            return members;
    return NULL;
}

static void
add_unknown(const Shape *members, const char *name, const char *pointer, Problems *to)
{
    const char *names[NAMES_MAX + 1], *nearest;
    size_t count = 0;

    for (const Shape *m = members; m->name && count < NAMES_MAX; m++)
        names[count++] = m->name;
    names[count] = NULL;
    nearest = text_nearest(name, names);
    problem_add(to, pointer, "unknown-member", NULL, "is not a known name%s%s%s",
        nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

static bool
check_members(const Shape *members, const json_t *value, const char *pointer, ShapeUnknown rule,
    Problems *problems, Problems *unknown, unsigned depth)
{
    char place[SHAPE_POINTER_BYTES];
    const char *name;
    json_t *member;
    bool good = true;

    for (const Shape *m = members; m->name; m++) {
        member = json_object_get(value, m->name);
        if (!member || (m->null_is_missing && json_is_null(member))) {
            if (m->required) {
                problem_add(problems, shape_below(pointer, m->name, place), "required", NULL,
                    "is missing: must be %s", type_words(m->type));
                good = false;
            }
            continue;
        }
        good &= check_value(m, member, shape_below(pointer, m->name, place), problems, depth);
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        if (find_member(members, name))
            continue;
        shape_below(pointer, name, place);
        if (rule == SHAPE_UNKNOWN_REFUSED) {
            add_unknown(members, name, place, problems);
            good = false;
        } else if (unknown) {
            add_unknown(members, name, place, unknown);
        }
    }
    return good;
}

bool
shape_check(const Shape *members, const json_t *value, const char *pointer, ShapeUnknown rule,
    Problems *problems, Problems *unknown)
{
    if (!json_is_object(value)) {
        problem_add(problems, pointer, "wrong-type", value, "must be an object");
        return false;
    }
    return check_members(members, value, pointer, rule, problems, unknown, 16);
}

static json_t *
schema_of(const Shape *shape)
{
    static const char *const types[] = {
        "string", "integer", "number", "boolean", "object", "array"};
    json_t *schema = shape->type == SHAPE_OBJECT && shape->members ? shape_schema(shape->members)
                                                                   : json_object();
    bool bounded = shape->min != 0 || shape->max != 0;

    if (!schema)
        return NULL;
    if (shape->type != SHAPE_ANY)
        json_object_set_new(schema, "type", json_string(types[shape->type]));
    if (bounded && (shape->type == SHAPE_INT || shape->type == SHAPE_REAL)) {
        if (shape->min > -DBL_MAX)
            json_object_set_new(schema, "minimum", json_real(shape->min));
        if (shape->max < DBL_MAX)
            json_object_set_new(schema, "maximum", json_real(shape->max));
    } else if (bounded && shape->type == SHAPE_TEXT) {
        json_object_set_new(schema, "minLength", json_integer((json_int_t)shape->min));
        json_object_set_new(schema, "maxLength", json_integer((json_int_t)shape->max));
    } else if (bounded && shape->type == SHAPE_ARRAY) {
        json_object_set_new(schema, "minItems", json_integer((json_int_t)shape->min));
        json_object_set_new(schema, "maxItems", json_integer((json_int_t)shape->max));
    } else if (bounded && shape->type == SHAPE_OBJECT) {
        json_object_set_new(schema, "minProperties", json_integer((json_int_t)shape->min));
        json_object_set_new(schema, "maxProperties", json_integer((json_int_t)shape->max));
    }
    if (shape->allowed) {
        json_t *list = json_array();

        for (size_t i = 0; shape->allowed[i]; i++)
            json_array_append_new(list, json_string(shape->allowed[i]));
        json_object_set_new(schema, "enum", list);
    }
    if (shape->element)
        json_object_set_new(schema, shape->type == SHAPE_ARRAY ? "items" : "additionalProperties",
            schema_of(shape->element));
    if (shape->meaning)
        json_object_set_new(schema, "description", json_string(shape->meaning));
    return schema;
}

json_t *
shape_schema(const Shape *members)
{
    json_t *schema = json_object(), *properties = json_object(), *required = json_array();

    for (; members->name; members++) {
        if (members->not_available)
            continue;
        json_object_set_new(properties, members->name, schema_of(members));
        if (members->required)
            json_array_append_new(required, json_string(members->name));
    }
    json_object_set_new(schema, "type", json_string("object"));
    json_object_set_new(schema, "properties", properties);
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

static void
put_bounds(const Shape *shape, const char *unit, Buf *to)
{
    if (shape->min == 0 && shape->max == 0)
        return;
    if (shape->min > 0)
        buf_printf(to, ", %.17g to %.17g%s", shape->min, shape->max, unit);
    else
        buf_printf(to, ", at most %.17g%s", shape->max, unit);
}

void
shape_reference(const Shape *members, Buf *to)
{
    static const struct {
        const char *value, *unit;
    } forms[] = {
        [SHAPE_TEXT] = {"text", " characters"},
        [SHAPE_INT] = {"whole number", ""},
        [SHAPE_REAL] = {"number", ""},
        [SHAPE_BOOL] = {"true or false", ""},
        [SHAPE_OBJECT] = {"map", ""},
        [SHAPE_ARRAY] = {"list", ""},
        [SHAPE_ANY] = {"value", ""},
    };

    buf_text(to, "| key | value | meaning |\n| --- | --- | --- |\n");
    for (; members->name; members++) {
        if (members->not_available)
            continue;
        buf_printf(to, "| `%s`%s | %s", members->name, members->required ? " (required)" : "",
            forms[members->type].value);
        put_bounds(members, forms[members->type].unit, to);
        buf_printf(to, " | %s |\n", members->meaning ? members->meaning : "");
    }
}
