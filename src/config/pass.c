/* Handing the configuration on: to a child over its socket, to a role in its environment. */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "config/config_in.h"

enum { VALUE_BYTES_MAX = 64 << 10, ENVIRONMENT_MAX = 256 };

/* Of the secrets a child only needs what opens the storage: it signs nothing, has no queue, and of
 * the sources it learns the one of its run, with that run (security.md 6). */
static bool
goes_to_child(const Option *o, const Config *config)
{
    return !o->is_secret || (*config->s3_bucket && option_opens_storage(o));
}

static json_t *
options_to_json(const Config *config)
{
    json_t *object = json_object();

    for (const Option *o = options; object && o < options + OPTIONS; o++) {
        Buf text = buf_new(VALUE_BYTES_MAX);

        if (goes_to_child(o, config)) {
            option_print(o, config, &text);
            if (text.failed ||
                json_object_set_new(object, o->name, json_stringn(text.data, text.bytes)) != 0) {
                json_decref(object);
                object = NULL;
            }
        }
        if (o->is_secret && text.bytes > 0)
            explicit_bzero(text.data, text.bytes);
        buf_free(&text);
    }
    return object;
}

json_t *
config_to_json(const Config *config)
{
    return json_pack("{s:o}", "options", options_to_json(config));
}

static bool
read_options(const json_t *object, Config *config, Origins *origins, Arena *arena, Err *e)
{
    for (const Option *o = options; o < options + OPTIONS; o++) {
        const char *text = json_text_or(object, o->name, NULL);

        if (!text && !o->is_secret)
            return fail(e, CONFIG_INVALID, "%s was not handed over", o->name);
        if (!option_set(o, config, text ? text : o->preset, false, o->name, arena, e))
            return false;
        if (text && strcmp(text, o->preset) != 0)
            origins->option[o - options] = (Origin){.from = FROM_VARIABLE, .name = "parent"};
    }
    return true;
}

const Config *
config_from_json(const json_t *value, Arena *process, Err *e)
{
    Config *config = arena_alloc(process, sizeof *config, e);
    Origins *origins = arena_alloc(process, sizeof *origins, e);

    if (!config || !origins ||
        !read_options(json_object_get(value, "options"), config, origins, process, e))
        return NULL;
    config->origins = origins;
    config->path = "";
    config->listen_fd = -1;
    if (!config_derive(config, origins, process, e))
        return NULL;
    config->source = NULL; /* without their URLs they would be taken for the demo database */
    config->sources = 0;
    return config;
}

/* What a program needs of its surroundings, whoever it is. */
static bool
is_passed_on(const char *entry)
{
    static const char *const names[] = {"PATH", "TZ", "LANG", "LC_ALL", "HOME", "http_proxy",
        "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
        "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "CREDENTIALS_DIRECTORY",
        /* Where libpq finds its files and how it makes sure of a server; not whom it connects to,
         * which the URL says, and no password, which would go to every source. */
        "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT",
        "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLSNI", "PGSSLMINPROTOCOLVERSION",
        "PGSSLMAXPROTOCOLVERSION", "PGCHANNELBINDING", "PGREQUIREPEER", "PGTARGETSESSIONATTRS",
        "PGGSSENCMODE", "PGKRBSRVNAME", "KRB5_CONFIG", "KRB5CCNAME", "KRB5_CLIENT_KTNAME",
#ifdef ROWFERRY_TESTING
        "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "LLVM_PROFILE_FILE",
        "GCOV_PREFIX", "GCOV_PREFIX_STRIP",
#endif
        NULL};
    size_t bytes = strcspn(entry, "=");

#ifdef ROWFERRY_TESTING
    if (text_starts(entry, "ROWFERRY_TEST_"))
        return true;
#endif
    for (const char *const *name = names; *name; name++)
        if (strlen(*name) == bytes && strncmp(entry, *name, bytes) == 0)
            return true;
    return false;
}

/* NAME=value of one option; NULL with no error if the role will find it by itself. */
static const char *
option_entry(const Option *o, const Config *config, Arena *arena, bool *ok, Err *e)
{
    const Origin *origin = &((const Origins *)config->origins)->option[o - options];
    Buf text = buf_new(VALUE_BYTES_MAX);
    const char *entry = NULL;
    char name[OPTION_NAME_BYTES];

    option_variable(o, name);
    switch (origin->from) {
    case FROM_DEFAULT:
    case FROM_FILE:
    case FROM_CREDENTIAL:
        return NULL;
    case FROM_SECRET_FILE:
        if (!(entry = arena_printf(arena, e, "%s_FILE=%s", name, origin->name)))
            *ok = false;
        return entry;
    case FROM_VARIABLE:
    case FROM_FLAG:
        option_print(o, config, &text);
        if (!buf_is_good(&text, e) || !(entry = arena_printf(arena, e, "%s=%s", name, text.data)))
            *ok = false;
        break;
    }
    if (text.bytes > 0)
        explicit_bzero(text.data, text.bytes);
    buf_free(&text);
    return entry;
}

const char *const *
config_environment(const Config *config, Arena *process, Err *e)
{
    const char **list = arena_alloc_array(process, ENVIRONMENT_MAX + 1, sizeof *list, e);
    size_t count = 0;
    bool ok = list != NULL;

    for (char **at = environ; ok && at && *at && count < ENVIRONMENT_MAX - OPTIONS - 2; at++)
        if (is_passed_on(*at))
            ok = (list[count++] = arena_text(process, *at, e));
    for (const Option *o = options; ok && o < options + OPTIONS; o++) {
        const char *entry = NULL;

        if (strcmp(o->name, "data_dir") != 0)
            entry = option_entry(o, config, process, &ok, e);
        if (entry)
            list[count++] = entry;
    }
    /* The default of DATA hangs on variables that are not passed on. */
    if (ok)
        ok = (list[count++] = arena_printf(process, e, "ROWFERRY_DATA_DIR=%s", config->data_dir));
    if (ok && *config->path)
        ok = (list[count++] = arena_printf(process, e, "ROWFERRY_CONFIG=%s", config->path));
    return ok ? list : NULL;
}

const char *const *
config_child_environment(Arena *process, Err *e)
{
    const char **list = arena_alloc_array(process, ENVIRONMENT_MAX + 1, sizeof *list, e);
    size_t count = 0;
    bool ok = list != NULL;

    for (char **at = environ; ok && at && *at && count < ENVIRONMENT_MAX; at++)
        if (is_passed_on(*at))
            ok = (list[count++] = arena_text(process, *at, e));
    return ok ? list : NULL;
}
