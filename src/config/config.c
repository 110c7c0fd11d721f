#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "config/config_in.h"

static const char default_path[] = "/etc/rowferry/rowferry.yaml";

/* The command line on its way through. */
typedef struct {
    ConfigArgs *args;
    Config *config;
    Origins *origins;
    Arena *arena;
    Err *e;
    int at;             /* the next argument */
    bool seen[OPTIONS]; /* a list's second flag adds to its first */
} Flags;

static bool
load_defaults(Config *config, Arena *arena, Err *e)
{
    for (const Option *o = options; o < options + OPTIONS; o++)
        if (!option_set(o, config, o->preset, false, o->name, arena, e))
            return false;
    config->path = "";
    config->listen_fd = -1;
    return true;
}

/* --data-dir: is this the flag, and what stands behind its '='? */
static bool
is_flag(const char *text, const char *flag, const char **value)
{
    size_t bytes = strlen(flag);

    if (strncmp(text, flag, bytes) != 0 || (text[bytes] && text[bytes] != '='))
        return false;
    *value = text[bytes] ? text + bytes + 1 : NULL;
    return true;
}

/* The option this argument names; its value if it stands in the same argument, else NULL. */
static const Option *
find_flag(const Flags *f, const char *text, char flag[OPTION_NAME_BYTES], const char **value)
{
    const Option *o;

    if (text[0] != '-' || !text[1])
        return NULL;
    if (text[1] != '-') {
        o = option_of_letter(text[1]);
        /* A client has letters of its own; of ours it takes those that concern everybody. */
        if (!o || (f->args->is_client && o->roles != FOR_ALL))
            return NULL;
        snprintf(flag, OPTION_NAME_BYTES, "-%c", o->letter);
        *value = text[2] ? text + 2 : NULL;
        return o;
    }
    for (o = options; o < options + OPTIONS; o++) {
        option_flag(o, flag);
        if (option_has_flag(o) && is_flag(text, flag, value))
            return o;
    }
    return NULL;
}

/* The value of the flag before f->at: behind its '=', else the next argument. */
static const char *
take_value(Flags *f, const char *flag, const char *value)
{
    if (value)
        return value;
    if (f->at < f->args->argc)
        return f->args->argv[f->at++];
    fail(f->e, CONFIG_INVALID, "%s: expected a value behind it", flag);
    return NULL;
}

static bool
set_flag(Flags *f, const Option *o, const char *flag, const char *value)
{
    Origin *origin = &f->origins->option[o - options];
    bool *seen = &f->seen[o - options];

    if (!value && o->type == OPT_SWITCH)
        value = "on";
    if (!(value = take_value(f, flag, value)))
        return false;
    if (o->type == OPT_LIST && strchr(value, ':'))
        return fail(f->e, CONFIG_INVALID, "%s: expected one path without ':'", flag);
    if (!option_set(o, f->config, value, *seen, flag, f->arena, f->e))
        return false;
    *seen = true;
    *origin = (Origin){.from = FROM_FLAG, .name = arena_text(f->arena, flag, f->e)};
    return origin->name != NULL;
}

static bool
fail_unknown(Flags *f, const char *text)
{
    char names[OPTIONS + 1][OPTION_NAME_BYTES], given[OPTION_NAME_BYTES];
    const char *list[OPTIONS + 2], *nearest;
    size_t count = 0, bytes = strcspn(text, "=");

    if (text[0] != '-')
        return fail(f->e, CONFIG_INVALID, "\"%.64s\": expected options only", text);
    if (text[1] != '-')
        return fail(f->e, CONFIG_INVALID, "%.8s: there is no such option; see --help", text);
    for (const Option *o = options; o < options + OPTIONS; o++) {
        option_flag(o, names[count]);
        if (bytes == strlen(names[count]) && strncmp(text, names[count], bytes) == 0) {
            char variable_name[OPTION_NAME_BYTES];

            option_variable(o, variable_name);
            return fail(f->e, CONFIG_INVALID,
                "%s: this is no flag; set the variable %s%s, or write it into the file",
                names[count], variable_name,
                option_has_file(o) ? " or name a file in its _FILE" : "");
        }
        if (option_has_flag(o)) {
            list[count] = names[count];
            count++;
        }
    }
    list[count++] = "--config";
    list[count] = NULL;
    text_copy(given, bytes < sizeof given ? bytes + 1 : sizeof given, text);
    nearest = text_nearest(given, list);
    return fail(f->e, CONFIG_INVALID, "%s: there is no such option; %s%s%s", given,
        nearest ? "did you mean " : "see --help", nearest ? nearest : "", nearest ? "?" : "");
}

/*
 * One pass over the command line. `config_only` looks for --config alone, which must be known
 * before anything else is read; the second pass sets the options.
 */
static bool
walk_flags(Flags *f, bool config_only)
{
    ConfigArgs *args = f->args;
    bool ok = true, only_rest = false;

    args->rest_count = 0;
    for (f->at = 1; f->at < args->argc;) {
        char *text = args->argv[f->at++], flag[OPTION_NAME_BYTES];
        const char *value = NULL;
        const Option *o;

        only_rest = only_rest || (args->is_client && strcmp(text, "--") == 0);
        if (!only_rest && is_flag(text, "--config", &value)) {
            value = take_value(f, "--config", value);
            if (config_only && value)
                f->config->path = value;
            ok = ok && value && *value;
            if (value && !*value)
                fail(f->e, CONFIG_INVALID, "--config: expected the path of a file");
        } else if (!only_rest && (o = find_flag(f, text, flag, &value))) {
            if (!config_only)
                ok = set_flag(f, o, flag, value) && ok;
            else if (!value && o->type != OPT_SWITCH && f->at < args->argc)
                f->at++;
        } else if (args->is_client) {
            args->rest[args->rest_count++] = text;
        } else if (!config_only) {
            ok = fail_unknown(f, text);
        }
    }
    args->rest[args->rest_count] = NULL;
    return ok;
}

/* --config, ROWFERRY_CONFIG, or the one place that is looked at unasked. */
static bool
load_file(Config *config, Origins *origins, Arena *arena, Err *e)
{
    const char *named = variable("ROWFERRY_CONFIG");

    if (!*config->path && named)
        config->path = named;
    if (!*config->path && access(default_path, F_OK) == 0)
        config->path = default_path;
    if (!*config->path)
        return true;
    config->path = arena_text(arena, config->path, e);
    return config->path && file_load(config->path, config, origins, arena, e);
}

/* What a supervisor tells its roles. One that is not our parent any more has died meanwhile: then
 * process_begin() ends us, for nobody would ever stop us. */
static void
load_inner_variables(Config *config)
{
    const char *parent = variable("ROWFERRY_SUPERVISED"), *fd = variable("ROWFERRY_LISTEN_FD");
    uint64_t number;

    if (!parent || !text_to_uint(parent, INT32_MAX, &number))
        return;
    config->supervisor = (int)number;
    if ((pid_t)number == getppid() && fd && text_to_uint(fd, 1023, &number) &&
        number > STDERR_FILENO)
        config->listen_fd = (int)number;
}

const Config *
config_load(ConfigArgs *args, Arena *process, Err *e)
{
    Config *config = arena_alloc(process, sizeof *config, e);
    Origins *origins = arena_alloc(process, sizeof *origins, e);
    Flags f = {.args = args, .config = config, .origins = origins, .arena = process, .e = e};
    size_t room = (size_t)(args->argc > 0 ? args->argc : 0) + 1;
    bool ok;

    if (!config || !origins || !(args->rest = arena_alloc_array(process, room, sizeof(char *), e)))
        return NULL;
    config->origins = origins;
    if (!load_defaults(config, process, e) || !walk_flags(&f, true))
        return NULL;
    /* On with what is left after a problem, so that the operator sees all of them at once. */
    load_inner_variables(config);
    ok = load_file(config, origins, process, e);
    ok = variables_load(config, origins, process, e) && ok;
    ok = walk_flags(&f, false) && ok;
    if (!ok)
        return NULL;
    if (config_derive(config, origins, process, e))
        return config;
    config_say_where(config, e);
    return NULL;
}

/* "/etc/rowferry.yaml:3: port", "ROWFERRY_PORT", "--port": as the option's own errors begin. */
static void
print_place(const Origin *origin, const char *key, Buf *to)
{
    if (origin->from == FROM_FILE)
        buf_printf(to, "%s:%u: %s", origin->name, origin->line, key);
    else
        buf_text(to, origin->name);
}

void
config_say_where(const Config *config, Err *e)
{
    const Origins *origins = config->origins;

    for (unsigned i = 0; i < e->links; i++) {
        char *text = e->link[i].text, key[OPTION_NAME_BYTES];
        size_t bytes = strcspn(text, ":");
        const Option *o = NULL;
        Buf said = buf_new(2 * ERR_TEXT_BYTES);

        if (bytes < sizeof key) {
            memcpy(key, text, bytes);
            key[bytes] = '\0';
            o = option_find(key);
        }
        if (o && origins->option[o - options].from != FROM_DEFAULT) {
            print_place(&origins->option[o - options], key, &said);
            buf_text(&said, text + bytes);
            if (!said.failed)
                (void)text_copy(text, ERR_TEXT_BYTES, said.data);
        }
        buf_free(&said);
    }
}

bool
config_is_set(const Config *config, const char *key)
{
    const Origins *origins = config->origins;
    const Option *o = option_find(key);

    return o && origins->option[o - options].from != FROM_DEFAULT;
}

const ConfigSource *
config_find_source(const Config *config, const char *name)
{
    for (size_t i = 0; i < config->sources; i++)
        if (strcmp(config->source[i].name, name) == 0)
            return &config->source[i];
    return NULL;
}
