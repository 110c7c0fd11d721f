/* What a URL means for libpq. */
#include "source/postgres/postgres_in.h"

enum { PARAMS_MAX = 48 };

bool
pg_params(const SourceSpec *spec, Arena *task, PgParams *params, Err *e)
{
    static const struct {
        const char *keyword, *value;
    } ours[] = {{"keepalives_idle", "15"}, {"keepalives_interval", "5"}, {"keepalives_count", "3"},
        {"tcp_user_timeout", "30000"}, {"client_encoding", "UTF8"},
        {"application_name", "rowferry"}};
    const char **keyword = arena_alloc_array(task, PARAMS_MAX + 1, sizeof *keyword, e);
    const char **value = arena_alloc_array(task, PARAMS_MAX + 1, sizeof *value, e);
    PQconninfoOption *options = PQconninfoParse(spec->url, NULL);
    size_t count = 0;

    if (!options)
        return fail(e, CONFIG_INVALID, "the URL is none that libpq can read");
    for (size_t i = 0; keyword && value && i < sizeof ours / sizeof ours[0]; i++) {
        keyword[count] = ours[i].keyword;
        value[count++] = ours[i].value;
    }
    for (const PQconninfoOption *o = options; keyword && value && o->keyword; o++) {
        const char *text = o->val;

        if (strcmp(o->keyword, "user") == 0 && spec->user)
            text = spec->user;
        if (strcmp(o->keyword, "password") == 0 && spec->password)
            text = spec->password;
        if (text && count < PARAMS_MAX) {
            keyword[count] = arena_text(task, o->keyword, e);
            value[count++] = arena_text(task, text, e);
        }
    }
    PQconninfoFree(options);
    *params = (PgParams){keyword, value};
    return e->links == 0;
}

bool
pg_judge_url(const char *url, Err *e)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL);

    if (!options)
        return fail(e, CONFIG_INVALID, "the URL is none that libpq can read");
    PQconninfoFree(options);
    return true;
}
