#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "config/config_in.h"

/*
 * Secrets that were taken out of the environment block, so that a later config_load (SIGHUP) still
 * finds them. For the life of the process, like the block they stood in; written by config_hide_
 * secrets alone, before there are threads.
 */
static struct {
    char name[OPTION_NAME_BYTES];
    const char *value;
} hidden[2 * OPTIONS];
static size_t hidden_count;
static Arena *hidden_arena;

/* Names that others gave the same thing, in this order. Ours come first, wherever they stand: in a
 * variable or in the file. */
static const struct {
    const char *option, *variable;
} aliases[] = {
    {"s3_region", "AWS_REGION"},
    {"s3_region", "AWS_DEFAULT_REGION"},
    {"s3_endpoint", "AWS_ENDPOINT_URL_S3"},
    {"s3_endpoint", "AWS_ENDPOINT_URL"},
    {"s3_ca_file", "AWS_CA_BUNDLE"},
    {"aws_endpoint_url_sts", "AWS_ENDPOINT_URL"},
};

const char *
variable(const char *name)
{
    const char *value = getenv(name);

    for (size_t i = 0; !value && i < hidden_count; i++)
        if (strcmp(hidden[i].name, name) == 0)
            value = hidden[i].value;
    return value && *value ? value : NULL;
}

const char *
config_variable(const char *name)
{
    return variable(name);
}

static void
hide(const char *name)
{
    const char *value = getenv(name);
    Err e = {0};

    if (!value || hidden_count == sizeof hidden / sizeof hidden[0])
        return;
    if (!hidden_arena && !(hidden_arena = arena_new(1 << 20)))
        return;
    if (!(hidden[hidden_count].value = arena_text(hidden_arena, value, &e)))
        return; /* it stays where it is: better seen than lost */
    text_copy(hidden[hidden_count++].name, OPTION_NAME_BYTES, name);
    process_forget_variable(name);
}

void
config_hide_secrets(void)
{
    char name[OPTION_NAME_BYTES];

    for (const Option *o = options; o < options + OPTIONS; o++) {
        if (!o->is_secret)
            continue;
        option_variable(o, name);
        hide(name);
    }
}

static void
wipe(const char *text)
{
    if (text && *text)
        explicit_bzero((char *)(uintptr_t)text, strlen(text));
}

/* "postgresql://u:p@h/db" becomes "postgresql:-". */
static void
wipe_behind_scheme(const char *url)
{
    char *colon = strchr((char *)(uintptr_t)url, ':');

    if (!colon || !colon[1])
        return;
    colon[1] = '-';
    wipe(colon + 2);
}

void
config_forget_sources(const Config *config)
{
    for (size_t i = 0; i < config->sources; i++) {
        wipe_behind_scheme(config->source[i].url);
        wipe(config->source[i].password);
    }
    wipe_behind_scheme(config->graph_db_url);
    wipe_behind_scheme(config->timescale_url);
    wipe(config->graph_db_password);
    for (size_t i = 0; i < hidden_count; i++) {
        if (strcmp(hidden[i].name, "GRAPH_DB_PASSWORD") == 0)
            wipe(hidden[i].value);
        else if (strcmp(hidden[i].name, "GRAPH_DB_URL") == 0 ||
                 strcmp(hidden[i].name, "TIMESCALE_URL") == 0)
            wipe_behind_scheme(hidden[i].value);
    }
}

/* "word" becomes "-": that there was one is still known, so that half a pair is told from none. */
static void
wipe_but_one(const char *text)
{
    char *own = (char *)(uintptr_t)text;

    if (!text || !*text)
        return;
    own[0] = '-';
    wipe(own + 1);
}

void
config_forget_storage(const Config *config)
{
    for (const Option *o = options; o < options + OPTIONS; o++) {
        char name[OPTION_NAME_BYTES];

        if (!option_opens_storage(o))
            continue;
        wipe_but_one(*(const char *const *)((const char *)config + o->at));
        option_variable(o, name);
        for (size_t i = 0; i < hidden_count; i++)
            if (strcmp(hidden[i].name, name) == 0)
                wipe_but_one(hidden[i].value);
    }
}

void
warning_add(Origins *origins, Arena *arena, const char *fmt, ...)
{
    char text[ERR_TEXT_BYTES];
    Err e = {0};
    va_list args;

    if (origins->warnings == WARNINGS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if ((origins->warning[origins->warnings] = arena_text(arena, text, &e)))
        origins->warnings++;
}

char *
secret_read(const char *path, const char *place, Origins *origins, Arena *arena, Err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char bytes[SECRET_FILE_BYTES_MAX + 1], *text = NULL;
    size_t have = 0;
    ssize_t got = 0;
    struct stat s;

    if (fd < 0 || fstat(fd, &s) != 0) {
        fail(e, CONFIG_INVALID, "%s: cannot read %s: %m", place, path);
        goto out;
    }
    if (S_ISREG(s.st_mode) && s.st_mode & S_IROTH)
        warning_add(origins, arena, "%s: %s can be read by everybody; chmod o-r it", place, path);
    while (have < sizeof bytes) {
        got = read(fd, bytes + have, sizeof bytes - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    while (have > 0 && have < sizeof bytes && (bytes[have - 1] == '\n' || bytes[have - 1] == '\r'))
        have--;
    if (got < 0)
        fail(e, CONFIG_INVALID, "%s: cannot read %s: %m", place, path);
    else if (have == sizeof bytes)
        fail(e, CONFIG_INVALID, "%s: %s is larger than %d bytes", place, path,
            SECRET_FILE_BYTES_MAX);
    else if (have == 0)
        fail(e, CONFIG_INVALID, "%s: %s is empty", place, path);
    else if (!text_is_utf8(bytes, have) || text_has_control(bytes, have, false))
        fail(e, CONFIG_INVALID, "%s: %s: expected one line of UTF-8 text", place, path);
    else
        text = arena_bytes(arena, bytes, have, e);
out:
    explicit_bzero(bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    return text;
}

static bool
note(Origins *origins, const Option *o, From from, const char *name, Arena *arena, Err *e)
{
    Origin *origin = &origins->option[o - options];

    *origin = (Origin){.from = from, .name = arena_text(arena, name, e)};
    return origin->name != NULL;
}

static bool
set_from_file(const Option *o, From from, const char *path, const char *place, Config *config,
    Origins *origins, Arena *arena, Err *e)
{
    const char *secret = secret_read(path, place, origins, arena, e);

    return secret && option_set(o, config, secret, false, place, arena, e) &&
           note(origins, o, from, path, arena, e);
}

/* A file named like the key, in the folder systemd made for this unit. */
static bool
set_from_credential(const Option *o, Config *config, Origins *origins, Arena *arena, Err *e)
{
    const char *folder = variable("CREDENTIALS_DIRECTORY"), *path;

    if (!folder)
        return true;
    if (!(path = arena_printf(arena, e, "%s/%s", folder, o->name)))
        return false;
    if (access(path, F_OK) != 0)
        return true;
    return set_from_file(o, FROM_CREDENTIAL, path, o->name, config, origins, arena, e);
}

/* The variable that says this option, and what it says; NULL if none does. `is_said`: the file says
 * it already. */
static const char *
find_variable(const Option *o, bool is_said, char name[OPTION_NAME_BYTES])
{
    const char *value;

    option_variable(o, name);
    value = variable(name);
    /* Kubernetes tells of a service named "rowferry" this way; it is not meant for us. */
    if (value && strcmp(o->name, "port") == 0 && text_starts(value, "tcp://"))
        return NULL;
    for (size_t i = 0; !value && !is_said && i < sizeof aliases / sizeof aliases[0]; i++)
        if (strcmp(aliases[i].option, o->name) == 0 && (value = variable(aliases[i].variable)))
            text_copy(name, OPTION_NAME_BYTES, aliases[i].variable);
    return value;
}

static bool
load_one(const Option *o, Config *config, Origins *origins, Arena *arena, Err *e)
{
    char name[OPTION_NAME_BYTES], file_name[OPTION_NAME_BYTES + 8];
    bool is_said = origins->option[o - options].from == FROM_FILE;
    const char *value = find_variable(o, is_said, name), *path = NULL;

    /* A supervisor says in a variable what it read from a flag; there empty is a word, too. */
    if (!value && config->supervisor && getenv(name))
        value = "";
    if (option_has_file(o)) {
        char own[OPTION_NAME_BYTES];

        option_variable(o, own);
        snprintf(file_name, sizeof file_name, "%s_FILE", own);
        path = variable(file_name);
    }
    if (value && path)
        return fail(e, CONFIG_INVALID, "%s and %s exclude each other: unset one", name, file_name);
    if (path)
        return set_from_file(o, FROM_SECRET_FILE, path, file_name, config, origins, arena, e);
    if (value)
        return option_set(o, config, value, false, name, arena, e) &&
               note(origins, o, FROM_VARIABLE, name, arena, e);
    return !o->is_secret || set_from_credential(o, config, origins, arena, e);
}

/* ROWFERRY_DATADIR: nobody reads it, and somebody meant ROWFERRY_DATA_DIR. */
static void
warn_of_misspelt(Origins *origins, Arena *arena)
{
    static const char prefix[] = "ROWFERRY_";

    for (char **at = environ; at && *at; at++) {
        size_t bytes = strcspn(*at, "=");
        char key[OPTION_NAME_BYTES], right[OPTION_NAME_BYTES];
        const char *nearest;

        if (!text_starts(*at, prefix) || bytes >= sizeof key)
            continue;
        bytes -= sizeof prefix - 1;
        memcpy(key, *at + sizeof prefix - 1, bytes);
        key[bytes] = '\0';
        for (char *c = key; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c + 0x20);
        if (text_ends(key, "_file"))
            key[bytes - 5] = '\0';
        nearest = option_nearest(key);
        if (!nearest || strcmp(nearest, key) == 0 || !option_find(nearest))
            continue;
        option_variable(option_find(nearest), right);
        warning_add(origins, arena, "nobody reads the variable %.*s; did you mean %s?",
            (int)strcspn(*at, "="), *at, right);
    }
}

bool
variables_load(Config *config, Origins *origins, Arena *arena, Err *e)
{
    bool ok = true;

    for (const Option *o = options; o < options + OPTIONS; o++)
        ok = load_one(o, config, origins, arena, e) && ok;
    warn_of_misspelt(origins, arena);
    return ok;
}
