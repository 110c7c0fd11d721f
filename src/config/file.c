#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/time.h"
#include "base/yaml.h"
#include "config/config_in.h"

/* The file that is being read, and where its values go. */
typedef struct {
    const Yaml *yaml;
    Config *config;
    Origins *origins;
    Arena *arena;
    Err *e;
} File;

enum { PLACE_BYTES = 300, POINTER_BYTES = 200 };

/* clang-format off */
const SourceKey source_keys[SOURCE_KEYS] = {
    {"url",               "a URL; `postgresql://exporter@db.example/shop`, or `sqlite:/srv/shop/shop.db` with the path from the root on", "The database."},
    {"user",              "text",                        "The login; else the URL's."},
    {"password",          "text",                        "Its password."},
    {"password_file",     "a path",                      "A file whose first line is the password."},
    {"concurrency",       "a whole number from 1 to 1024", "Exports at once on this source, over all workers. One over several connections (`parallel`) counts as so many, and has no more than these."},
    {"statement_timeout", "a time like 90s, 5m or 2h",   "Longest query; the time limit of the export ends it in any case."},
};
/* clang-format on */

/* A key as the next step of a JSON pointer. */
static void
escape_token(const char *key, char to[POINTER_BYTES])
{
    size_t at = 0;

    for (; *key && at < POINTER_BYTES - 2; key++) {
        if (*key == '~' || *key == '/')
            to[at++] = '~';
        to[at++] = *key == '~' ? '0' : *key == '/' ? '1' : *key;
    }
    to[at] = '\0';
}

/* "/etc/rowferry/rowferry.yaml:3: sources.shop.url" */
static unsigned
place_of(const File *f, const char *name, const char *key, char place[PLACE_BYTES])
{
    char first[POINTER_BYTES], second[POINTER_BYTES], pointer[2 * POINTER_BYTES + 16];
    unsigned line;

    escape_token(name ? name : key, first);
    escape_token(name && key ? key : "", second);
    snprintf(pointer, sizeof pointer, name ? "/sources/%s%s%s" : "/%s", first,
        name && key ? "/" : "", second);
    line = yaml_line(f->yaml, pointer);
    if (name)
        snprintf(place, PLACE_BYTES, "%.160s:%u: sources.%.40s%s%.40s", yaml_name(f->yaml), line,
            name, key ? "." : "", key ? key : "");
    else
        snprintf(place, PLACE_BYTES, "%.160s:%u: %.60s", yaml_name(f->yaml), line, key);
    return line;
}

/* A scalar as a flag would say it: 404, on, text. NULL for what no option takes. */
static const char *
scalar_text(const json_t *value, char number[24])
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return json_string_value(value);
    case JSON_INTEGER:
        snprintf(number, 24, "%" PRId64, (int64_t)json_integer_value(value));
        return number;
    case JSON_TRUE:
        return "on";
    case JSON_FALSE:
        return "off";
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_REAL:
    case JSON_NULL:
        break;
    }
    return NULL;
}

static bool
fail_type(File *f, const Option *o, const char *place, const json_t *value)
{
    static const char *const names[] = {[JSON_OBJECT] = "a map",
        [JSON_ARRAY] = "a list",
        [JSON_STRING] = "text",
        [JSON_INTEGER] = "a whole number",
        [JSON_REAL] = "a fraction",
        [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",
        [JSON_NULL] = "nothing"};
    Buf expected = buf_new(ERR_TEXT_BYTES);

    option_expected(o, &expected);
    fail(f->e, CONFIG_INVALID, "%s: expected %s, got %s", place, expected.data,
        names[json_typeof(value)]);
    buf_free(&expected);
    return false;
}

static bool
read_list(File *f, const Option *o, const json_t *value, const char *place)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);

        if (!json_is_string(item) || strchr(json_string_value(item), ':'))
            return fail_type(f, o, place, item);
        if (!option_set(o, f->config, json_string_value(item), i > 0, place, f->arena, f->e))
            return false;
    }
    return true;
}

static bool
read_option(File *f, const Option *o, const json_t *value)
{
    char place[PLACE_BYTES], number[24];
    unsigned line = place_of(f, NULL, o->name, place);
    const char *text = scalar_text(value, number);

    f->origins->option[o - options] =
        (Origin){.from = FROM_FILE, .name = yaml_name(f->yaml), .line = line};
    if (o->type == OPT_LIST && json_is_array(value))
        return read_list(f, o, value, place);
    if (!text || (json_is_boolean(value) && o->type != OPT_SWITCH))
        return fail_type(f, o, place, value);
    return option_set(o, f->config, text, false, place, f->arena, f->e);
}

/* `redis_url_file: PATH`: the secret stands there. */
static bool
read_secret_file(File *f, const Option *o, const char *key, const json_t *all, const json_t *value)
{
    char place[PLACE_BYTES];
    unsigned line = place_of(f, NULL, key, place);
    const char *text;

    f->origins->option[o - options] =
        (Origin){.from = FROM_FILE, .name = yaml_name(f->yaml), .line = line};
    if (json_object_get(all, o->name))
        return fail(f->e, CONFIG_INVALID, "%s: %s and %s exclude each other: remove one", place,
            o->name, key);
    if (!json_is_string(value))
        return fail(f->e, CONFIG_INVALID, "%s: expected a path", place);
    text = secret_read(json_string_value(value), place, f->origins, f->arena, f->e);
    return text && option_set(o, f->config, text, false, place, f->arena, f->e);
}

static bool
read_source_text(File *f, const json_t *value, const char *place, const char **to)
{
    const char *text = json_string_value(value);

    if (!text || !*text || text_has_control(text, strlen(text), false))
        return fail(f->e, CONFIG_INVALID, "%s: expected text without control characters", place);
    return (*to = arena_text(f->arena, text, f->e));
}

static bool
read_source_member(File *f, ConfigSource *source, const char *key, const json_t *value)
{
    const char *known[SOURCE_KEYS + 1] = {NULL};
    char place[PLACE_BYTES], number[24];
    const char *text, *nearest;

    place_of(f, source->name, key, place);
    if (strcmp(key, "url") == 0)
        return read_source_text(f, value, place, &source->url) &&
               (source->place = arena_text(f->arena, place, f->e));
    if (strcmp(key, "user") == 0)
        return read_source_text(f, value, place, &source->user);
    if (strcmp(key, "password") == 0)
        return read_source_text(f, value, place, &source->password);
    if (strcmp(key, "password_file") == 0)
        return read_source_text(f, value, place, &text) &&
               (source->password = secret_read(text, place, f->origins, f->arena, f->e));
    if (strcmp(key, "concurrency") == 0) {
        if (!json_is_integer(value) || json_integer_value(value) < 1 ||
            json_integer_value(value) > 1024)
            return fail(f->e, CONFIG_INVALID, "%s: expected a whole number from 1 to 1024", place);
        source->concurrency = (unsigned)json_integer_value(value);
        return true;
    }
    if (strcmp(key, "statement_timeout") == 0) {
        text = scalar_text(value, number);
        if (json_is_boolean(value) || !text ||
            !time_parse_duration(text, &source->statement_timeout_ms) ||
            source->statement_timeout_ms < 1 || source->statement_timeout_ms > CONFIG_FOREVER_MS)
            return fail(f->e, CONFIG_INVALID, "%s: expected a time like 90s, 5m or 2h", place);
        return true;
    }
    for (size_t i = 0; i < SOURCE_KEYS; i++)
        known[i] = source_keys[i].key;
    nearest = text_nearest(key, known);
    if (nearest)
        return fail(f->e, CONFIG_INVALID, "%s: unknown key; did you mean %s?", place, nearest);
    return fail(f->e, CONFIG_INVALID, "%s: unknown key; expected one of %s, %s, %s, %s, %s, %s",
        place, known[0], known[1], known[2], known[3], known[4], known[5]);
}

static bool
read_source(File *f, ConfigSource *source, const char *name, json_t *value)
{
    char place[PLACE_BYTES];
    const char *key;
    json_t *member;
    bool ok = true;

    place_of(f, name, NULL, place);
    if (!text_is_name(name))
        return fail(f->e, CONFIG_INVALID,
            "%s: expected a name of a-z, 0-9 and _, at most 64 characters, a letter first", place);
    if (!json_is_object(value))
        return fail(f->e, CONFIG_INVALID, "%s: expected a map with url", place);
    if (!(source->name = arena_text(f->arena, name, f->e)))
        return false;
    if (json_object_get(value, "password") && json_object_get(value, "password_file"))
        return fail(f->e, CONFIG_INVALID,
            "%s: password and password_file exclude each other: remove one", place);
    json_object_foreach(value, key, member) ok = read_source_member(f, source, key, member) && ok;
    if (ok && !source->url)
        ok = fail(f->e, CONFIG_INVALID, "%s: url is missing", place);
    return ok;
}

static bool
read_sources(File *f, json_t *value)
{
    ConfigSource *source;
    const char *name;
    json_t *member;
    size_t count = 0;
    bool ok = true;

    if (!json_is_object(value) || json_object_size(value) > SOURCES_MAX)
        return fail(f->e, CONFIG_INVALID, "%s:%u: sources: expected a map of at most %d sources",
            yaml_name(f->yaml), yaml_line(f->yaml, "/sources"), SOURCES_MAX);
    if (!(source = arena_alloc_array(f->arena, SOURCES_MAX, sizeof *source, f->e)))
        return false;
    json_object_foreach(value, name, member) ok =
        read_source(f, &source[count++], name, member) && ok;
    f->config->source = source;
    f->config->sources = count;
    return ok;
}

static bool
read_key(File *f, const json_t *all, const char *key, json_t *value)
{
    const Option *o = option_find(key);
    char place[PLACE_BYTES], stem[OPTION_NAME_BYTES];
    const char *nearest;

    if (o)
        return read_option(f, o, value);
    if (strcmp(key, "sources") == 0)
        return read_sources(f, value);
    if (text_ends(key, "_file") && text_copy(stem, sizeof stem, key)) {
        stem[strlen(stem) - 5] = '\0';
        if ((o = option_find(stem)) && option_has_file(o))
            return read_secret_file(f, o, key, all, value);
    }
    place_of(f, NULL, key, place);
    nearest = option_nearest(key);
    return fail(f->e, CONFIG_INVALID, "%s: unknown key; %s%s%s", place,
        nearest ? "did you mean " : "see `rowferry config show` for those there are",
        nearest ? nearest : "", nearest ? "?" : "");
}

bool
file_load(const char *path, Config *config, Origins *origins, Arena *arena, Err *e)
{
    Yaml *yaml = yaml_read(path, arena, e);
    File f = {yaml, config, origins, arena, e};
    json_t *all;
    const char *key;
    json_t *value;
    bool ok = true;

    if (!yaml)
        return false;
    all = (json_t *)(uintptr_t)yaml_value(yaml);
    if (json_is_object(all))
        json_object_foreach(all, key, value) ok = read_key(&f, all, key, value) && ok;
    else if (!json_is_null(all))
        ok = fail(e, CONFIG_INVALID, "%s:%u: expected a map of options", path, yaml_line(yaml, ""));
    yaml_close(yaml);
    return ok;
}
