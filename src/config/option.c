#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/number.h"
#include "base/text.h"
#include "base/time.h"
#include "config/config_in.h"

enum { PUBLIC, SECRET };

const Option options[OPTIONS] = {
#define OPT(name, letter, origin, type, preset, roles, secrecy, argument, help)                    \
    {#name, letter, ORIGIN_##origin, offsetof(Config, OPT_FIELD_##type(name)), OPT_##type, preset, \
        FOR_##roles, secrecy, argument, help},
#include "config/option.def"
#undef OPT
};

/* What a value may be, where its type alone does not say it. */
typedef struct {
    const char *name;
    int64_t min, max;   /* of a number, in the unit of its field */
    const char *words;  /* the only ones, blank between; NULL: any */
    const char *refuse; /* words that a later version takes */
} Rule;

#define MIB (1LL << 20)
#define GIB (1LL << 30)
#define DAY_MS 86400000LL

static const Rule rules[] = {
    {"port", 0, 65535, NULL, NULL},
    {"concurrency", 0, 1024, NULL, NULL},
    {"log_format", 0, 0, "json text", NULL},
    {"loglevel", 0, 0, "debug info warning error", NULL},
    {"url_ttl", 60000, 7 * DAY_MS, NULL, NULL},
    {"retention", 1000, CONFIG_FOREVER_MS, NULL, NULL},
    {"task_time_limit", 100, 30 * DAY_MS, NULL, NULL},
    {"task_memory_limit", 16 * MIB, 1LL << 40, NULL, NULL},
    {"max_attempts", 1, 100, NULL, NULL},
    {"queue_limit", 1, 1000000000, NULL, NULL},
    {"auth", 0, 0, "none", "keys jwt proxy"},
    {"connections", 1, 1000000, NULL, NULL},
    {"connections_per_address", 1, 1000000, NULL, NULL},
    {"accepted_status", 200, 202, "200 202", NULL},
    {"unknown_task", 0, 0, "404 queued", NULL},
    {"timestamps", 0, 0, "rfc3339", NULL},
    {"csv_eol", 0, 0, "crlf lf", NULL},
    {"s3_style", 0, 0, "auto path virtual", NULL},
    {"s3_part", 5 * MIB, 5 * GIB, NULL, NULL},
    {"s3_parallel", 1, 64, NULL, NULL},
    {"s3_max_parts", 1, 10000, NULL, NULL},
    {"s3_memory", 10 * MIB, 64 * GIB, NULL, NULL},
    {"s3_tries", 1, 20, NULL, NULL},
    {"s3_connect_timeout", 100, 300000, NULL, NULL},
    {"s3_idle_timeout", 1000, 3600000, NULL, NULL},
    {"s3_payload", 0, 0, "auto signed unsigned", NULL},
    {"s3_checksum", 0, 0, "auto none crc32c crc64nvme", NULL},
    {"s3_etag", 0, 0, "opaque md5", NULL},
    {"s3_conditional", 0, 0, "auto on off", NULL},
    {"s3_sse", 0, 0, "none AES256 aws:kms aws:kms:dsse", NULL},
    {"s3_list_version", 1, 2, "1 2", NULL},
    {"aws_ec2_metadata_service_endpoint_mode", 0, 0, "IPv4 IPv6", NULL},
};

static const Rule *
rule_of(const Option *o)
{
    static const Rule any_count = {"", 0, INT64_MAX, NULL, NULL};
    static const Rule any_time = {"", 0, CONFIG_FOREVER_MS, NULL, NULL};

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i].name, o->name) == 0)
            return &rules[i];
    return o->type == OPT_MILLIS ? &any_time : &any_count;
}

enum { WORDS_MAX = 8, WORD_BYTES = 32 };

/* A rule's words, one by one; their list ends with NULL. */
typedef struct {
    char text[WORDS_MAX][WORD_BYTES];
    const char *word[WORDS_MAX + 1];
} Words;

static void
split_words(const char *words, Words *to)
{
    size_t count = 0;

    while (words && *words && count < WORDS_MAX) {
        size_t bytes = strcspn(words, " ");

        snprintf(to->text[count], WORD_BYTES, "%.*s", (int)bytes, words);
        to->word[count] = to->text[count];
        count++;
        words += bytes;
        words += strspn(words, " ");
    }
    to->word[count] = NULL;
}

/* As the rule writes it, whatever its case here; NULL: it is none of them. */
static const char *
find_word(const Words *words, const char *word)
{
    for (const char *const *known = words->word; *known; known++)
        if (text_same_case_blind(*known, word))
            return *known;
    return NULL;
}

static bool
has_word(const char *words, const char *word)
{
    Words all;

    split_words(words, &all);
    return find_word(&all, word) != NULL;
}

const Option *
option_find(const char *key)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (strcmp(options[i].name, key) == 0)
            return &options[i];
    return NULL;
}

const Option *
option_of_letter(char letter)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (letter && options[i].letter == letter)
            return &options[i];
    return NULL;
}

const char *
option_nearest(const char *key)
{
    const char *names[OPTIONS + 2];

    for (size_t i = 0; i < OPTIONS; i++)
        names[i] = options[i].name;
    names[OPTIONS] = "sources";
    names[OPTIONS + 1] = NULL;
    return text_nearest(key, names);
}

bool
option_has_flag(const Option *o)
{
    return (o->origin == ORIGIN_OURS || o->origin == ORIGIN_SEED) && !o->is_secret;
}

bool
option_has_file(const Option *o)
{
    return o->is_secret && o->origin != ORIGIN_FOREIGN;
}

bool
option_opens_storage(const Option *o)
{
    return o->is_secret && (text_starts(o->name, "s3_") || text_starts(o->name, "aws_"));
}

void
option_variable(const Option *o, char to[OPTION_NAME_BYTES])
{
    char *at;

    bool is_ours = o->origin == ORIGIN_OURS || o->origin == ORIGIN_VARIABLE;

    snprintf(to, OPTION_NAME_BYTES, "%s%s", is_ours ? "ROWFERRY_" : "", o->name);
    for (at = to; *at; at++)
        if (*at >= 'a' && *at <= 'z')
            *at = (char)(*at - 0x20);
}

void
option_flag(const Option *o, char to[OPTION_NAME_BYTES])
{
    char *at;

    snprintf(to, OPTION_NAME_BYTES, "--%s", o->name);
    for (at = to; *at; at++)
        if (*at == '_')
            *at = '-';
}

static void
print_bytes(uint64_t bytes, Buf *to)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    for (; unit < 3 && bytes > 0 && bytes % 1024 == 0; unit++)
        bytes /= 1024;
    buf_printf(to, "%" PRIu64 "%s", bytes, units[unit]);
}

void
option_expected(const Option *o, Buf *to)
{
    const Rule *rule = rule_of(o);
    char text[TIME_TEXT_BYTES];

    if (rule->words) {
        buf_text(to, strchr(rule->words, ' ') ? "one of " : "");
        for (const char *at = rule->words; *at; at++)
            buf_text(to, *at == ' ' ? ", " : (const char[]){*at, '\0'});
        return;
    }
    switch (o->type) {
    case OPT_TEXT:
        buf_text(to, "text without control characters");
        break;
    case OPT_COUNT:
        buf_printf(to, "a whole number from %" PRId64, rule->min);
        if (rule->max < INT64_MAX)
            buf_printf(to, " to %" PRId64, rule->max);
        break;
    case OPT_BYTES:
        buf_text(to, "a size like 64MiB from ");
        print_bytes((uint64_t)rule->min, to);
        buf_text(to, " to ");
        print_bytes((uint64_t)rule->max, to);
        break;
    case OPT_MILLIS:
        buf_printf(to, "a time like 90s, 5m, 2h or 7d from %s", time_duration(rule->min, text));
        buf_printf(to, " to %s", time_duration(rule->max, text));
        break;
    case OPT_SWITCH:
        buf_text(to, "on or off");
        break;
    case OPT_LIST:
        buf_text(to, "paths (none empty, no ':' in them)");
        break;
    }
}

static bool
parse_switch(const char *text, bool *on)
{
    static const struct {
        const char *word;
        bool on;
    } words[] = {{"on", true}, {"off", false}, {"true", true}, {"false", false}, {"yes", true},
        {"no", false}, {"1", true}, {"0", false}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (text_same_case_blind(text, words[i].word)) {
            *on = words[i].on;
            return true;
        }
    return false;
}

/* ':' between; `add`: behind what is there. */
static bool
set_list(ConfigList *list, const char *text, bool add, Arena *arena, bool *fits, Err *e)
{
    size_t count = add ? list->items : 0, at = 0;
    const char **item;

    *fits = true;
    for (const char *c = text; *text && c; c = strchr(c + 1, ':'))
        count++;
    if (!(item = arena_alloc_array(arena, count + 1, sizeof *item, e)))
        return false;
    for (; add && at < list->items; at++)
        item[at] = list->item[at];
    while (*text && at < count) {
        size_t bytes = strcspn(text, ":");

        *fits = *fits && bytes > 0 && (text[bytes] != ':' || text[bytes + 1]);
        if (!(item[at++] = arena_bytes(arena, text, bytes, e)))
            return false;
        text += bytes;
        text += *text == ':';
    }
    *list = (ConfigList){item, at};
    return true;
}

/* "INFO", "warn": Celery's spellings. */
static const char *
level_name(const char *text)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    LogLevel level;

    return log_level_of(text, &level) ? names[level] : NULL;
}

static bool
set_text(const Option *o, const char **field, const char *text, Arena *arena, bool *fits, Err *e)
{
    const Rule *rule = rule_of(o);
    const char *known;
    Words words;

    if (strcmp(o->name, "loglevel") == 0)
        text = level_name(text) ? level_name(text) : text;
    split_words(rule->words, &words);
    known = find_word(&words, text);
    /* A word may be left out where the default is none. */
    *fits = !rule->words || known || (!*text && !*o->preset);
    return (*field = arena_text(arena, known ? known : text, e));
}

static bool
parse_number(const Option *o, const char *text, int64_t *number)
{
    uint64_t wide;

    if (o->type == OPT_MILLIS) {
        if (strcmp(o->name, "drain") == 0 && strcmp(text, "forever") == 0) {
            *number = CONFIG_FOREVER_MS;
            return true;
        }
        return time_parse_duration(text, number);
    }
    if (o->type == OPT_BYTES ? !number_parse_bytes(text, &wide)
                             : !text_to_uint(text, INT64_MAX, &wide))
        return false;
    *number = (int64_t)wide;
    return *number >= 0;
}

static bool
set_field(
    const Option *o, void *field, const char *text, bool add, Arena *arena, bool *fits, Err *e)
{
    const Rule *rule = rule_of(o);
    int64_t number = 0;

    switch (o->type) {
    case OPT_TEXT:
        return set_text(o, field, text, arena, fits, e);
    case OPT_LIST:
        return set_list(field, text, add, arena, fits, e);
    case OPT_SWITCH:
        *fits = parse_switch(text, field);
        return true;
    case OPT_COUNT:
    case OPT_BYTES:
    case OPT_MILLIS:
        break;
    }
    *fits = parse_number(o, text, &number) && number >= rule->min && number <= rule->max &&
            (!rule->words || has_word(rule->words, text));
    if (o->type == OPT_MILLIS)
        *(int64_t *)field = number;
    else
        *(uint64_t *)field = (uint64_t)number;
    return true;
}

bool
option_set(const Option *o, Config *config, const char *text, bool add, const char *place,
    Arena *arena, Err *e)
{
    const Rule *rule = rule_of(o);
    size_t bytes = strnlen(text, OPTION_TEXT_BYTES_MAX + 1);
    char shown[65];
    const char *nearest;
    Words words;
    Buf expected;
    bool fits;

    if (bytes > OPTION_TEXT_BYTES_MAX)
        return fail(e, CONFIG_INVALID, "%s: longer than %d bytes", place, OPTION_TEXT_BYTES_MAX);
    if (!text_is_utf8(text, bytes) || text_has_control(text, bytes, false))
        return fail(
            e, CONFIG_INVALID, "%s: expected text in UTF-8 without control characters", place);
    if (has_word(rule->refuse, text))
        return fail(e, CONFIG_INVALID, "%s: %s is not available yet; leave it out, or write none",
            place, text);
    if (!set_field(o, (char *)config + o->at, text, add, arena, &fits, e))
        return false;
    if (fits)
        return true;
    expected = buf_new(ERR_TEXT_BYTES);
    option_expected(o, &expected);
    text_copy(shown, sizeof shown, text);
    split_words(rule->words, &words);
    nearest = text_nearest(shown, words.word);
    if (o->is_secret)
        fail(e, CONFIG_INVALID, "%s: expected %s", place, expected.data);
    else
        fail(e, CONFIG_INVALID, "%s: expected %s, got \"%s\"%s%s%s", place, expected.data, shown,
            nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    buf_free(&expected);
    return false;
}

void
option_print(const Option *o, const Config *config, Buf *to)
{
    const void *field = (const char *)config + o->at;
    char text[TIME_TEXT_BYTES];

    switch (o->type) {
    case OPT_TEXT:
        buf_text(to, *(const char *const *)field);
        break;
    case OPT_COUNT:
        buf_printf(to, "%" PRIu64, *(const uint64_t *)field);
        break;
    case OPT_BYTES:
        print_bytes(*(const uint64_t *)field, to);
        break;
    case OPT_MILLIS:
        buf_text(to, time_duration(*(const int64_t *)field, text));
        break;
    case OPT_SWITCH:
        buf_text(to, *(const bool *)field ? "on" : "off");
        break;
    case OPT_LIST:
        for (size_t i = 0; i < ((const ConfigList *)field)->items; i++)
            buf_printf(to, "%s%s", i ? ":" : "", ((const ConfigList *)field)->item[i]);
        break;
    }
}
