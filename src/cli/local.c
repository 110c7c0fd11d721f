#include "cli/local.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"

const TypeSet *
local_types(Cli *c, Err *e)
{
    return c->types = types_load(c->config, c->kinds, c->arena, e);
}

const ExportType *
local_type(Cli *c, const TypeSet *types, const char *name, Err *e)
{
    const ExportType *type = types_find(types, name);
    const char **names, *nearest;

    if (type)
        return type;
    if (!(names = arena_alloc_array(c->arena, types->types + 1, sizeof(const char *), e)))
        return NULL;
    for (size_t i = 0; i < types->types; i++)
        names[i] = types->type[i].name;
    nearest = text_nearest(name, names);
    fail(e, UNKNOWN_EXPORT_TYPE, "there is no export type %.64s%s%s%s", name,
        nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    return NULL;
}

void
local_problem(Cli *c, const Problems *problems, const Err *e)
{
    json_t *errors = json_array();

    for (size_t i = 0; i < problems->count && i < PROBLEMS_MAX; i++) {
        const Problem *p = &problems->problem[i];
        json_t *error = json_pack("{s:s, s:s, s:s}", "pointer", p->pointer, "code",
            p->code != ERR_NONE ? err_name(p->code) : p->word, "detail", p->detail);

        if (error && p->allowed)
            json_object_set_new(error, "allowed", json_loads(p->allowed, 0, NULL));
        json_array_append_new(errors, error);
    }
    c->problem = json_pack("{s:s, s:s, s:s, s:o}", "title", err_sentence(e->code), "detail",
        err_root(e), "code", err_name(e->code), "errors", errors);
}

bool
local_say(
    const Cli *c, Verdict verdict, const char *name, const char *detail, const char *fix, Err *e)
{
    static const char *const mark[] = {"✓", "!", "✗"};
    static const char *const color[] = {"\x1b[32m", "\x1b[33m", "\x1b[31m"};
    Buf to = buf_new(16 << 10);
    bool ok;

    if (verdict == VERDICT_GOOD && c->quiet)
        return true;
    buf_printf(
        &to, "%s%s%s ", c->color ? color[verdict] : "", mark[verdict], c->color ? "\x1b[0m" : "");
    text_terminal(&to, name, strlen(name));
    if (detail && *detail) {
        buf_text(&to, ": ");
        text_terminal(&to, detail, strlen(detail));
    }
    buf_char(&to, '\n');
    if (fix) {
        buf_text(&to, "  → ");
        text_terminal(&to, fix, strlen(fix));
        buf_char(&to, '\n');
    }
    ok = buf_is_good(&to, e) && cli_out(to.data, to.bytes, e);
    buf_free(&to);
    return ok;
}

bool
local_is_to_come(const Config *config, const ConfigSource *source)
{
    struct stat s;

    return source && source->is_demo && lstat(config->demo_path, &s) != 0;
}

const char *
local_fix(const Config *config, const char *source, const Err *why)
{
    const ConfigSource *named = source ? config_find_source(config, source) : NULL;

    switch (why->code) {
    case ERR_SOURCE_UNAVAILABLE:
        if (named && named->is_demo)
            return "`rowferry demo-data` writes the demo database (a worker does it by itself); or "
                   "set "
                   "the source's URL: GRAPH_DB_URL, TIMESCALE_URL, or sources: in the file";
        return "is the URL right, the database up, and may this user read it? `rowferry config "
               "show` "
               "says where the URL comes from";
    case ERR_SOURCE_AUTH:
        return "set the source's user and password (password_file keeps it out of the "
               "environment); the database's name must be right, and the server must let this "
               "user in from here";
    case ERR_SOURCE_QUERY:
        return "the query of the definition must be one SELECT that yields each of its columns, by "
               "name, from tables that are there and that this user may read";
    case ERR_SOURCE_TIMEOUT:
        return "are host and port right, and does no firewall swallow what is sent there?";
    case ERR_SOURCE_CONFLICT:
        return "try again: something else was in the way (on a standby: "
               "max_standby_streaming_delay, hot_standby_feedback)";
    case ERR_QUERY_TIMEOUT:
        return "the first row took longer than 10 s: does the query have the indexes it wants?";
    case ERR_STORAGE_FULL:
        if (*config->s3_bucket)
            return "make room in the store; --retention deletes sooner";
        return "make room, or let --data-dir point to a larger disk; --retention deletes sooner";
    case ERR_STORAGE_DENIED:
        if (*config->s3_bucket)
            return "the keys need the rights that docs/s3.md lists, for every key below exports/";
        return "the data folder must belong to the user who runs rowferry, and be writable";
    case ERR_STORAGE_UNAVAILABLE:
        return *config->s3_bucket ? "is the store up, and does nothing stand between?" : NULL;
    default:
        return NULL;
    }
}
