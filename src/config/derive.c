#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "config/config_in.h"
#include "net/address.h"
#include "net/url.h"

enum { RING_MAX = 4, RING_TEXT_BYTES_MIN = 32, HOST_BYTES = 128, RETRY_DELAYS_MAX = 16 };

/* Root's is the machine's; others have a home. */
static const char *
default_data_dir(Arena *arena, Err *e)
{
    const char *base = variable("XDG_DATA_HOME"), *home = process_home();

    if (geteuid() == 0)
        return "/var/lib/rowferry";
    if (base && base[0] == '/')
        return arena_printf(arena, e, "%s/rowferry", base);
    if (home && home[0] == '/')
        return arena_printf(arena, e, "%s/.local/share/rowferry", home);
    fail(e, CONFIG_INVALID, "data_dir: this user has no home; set --data-dir");
    return NULL;
}

/* Absolute, so that it means the same to every process; no '/' at the end. */
static bool
derive_paths(Config *config, Arena *arena, Err *e)
{
    const char *dir = config->data_dir;
    char here[4096], *own;
    size_t bytes;

    if (!*dir && !(dir = default_data_dir(arena, e)))
        return false;
    if (dir[0] != '/') {
        if (!getcwd(here, sizeof here))
            return fail(e, CONFIG_INVALID, "data_dir: the current directory is gone: %m");
        dir = arena_printf(arena, e, "%s/%s", strcmp(here, "/") == 0 ? "" : here, dir);
    }
    if (!dir || !(own = arena_text(arena, dir, e)))
        return false;
    for (bytes = strlen(own); bytes > 1 && own[bytes - 1] == '/';)
        own[--bytes] = '\0';
    config->data_dir = own;
    return (config->files_dir = arena_printf(arena, e, "%s/files", own)) &&
           (config->demo_path = arena_printf(arena, e, "%s/demo.db", own));
}

/* Celery's -n: %h the host's name, %n what is before its first dot, %d what is behind, %% a '%'. */
static void
expand_hostname(const char *pattern, const char *host, Buf *to)
{
    size_t first = strcspn(host, ".");

    for (; *pattern; pattern++) {
        if (*pattern != '%' || !pattern[1]) {
            buf_char(to, *pattern);
            continue;
        }
        switch (*++pattern) {
        case 'h':
            buf_text(to, host);
            break;
        case 'n':
            buf_put(to, host, first);
            break;
        case 'd':
            buf_text(to, host[first] ? host + first + 1 : "");
            break;
        case '%':
            buf_char(to, '%');
            break;
        default:
            buf_char(to, '%');
            buf_char(to, *pattern);
        }
    }
}

/* "worker1@%h"; without an '@' it is the host part, as with Celery. */
static bool
derive_hostname(Config *config, Arena *arena, Err *e)
{
    char host[HOST_BYTES];
    Buf name = buf_new(HOST_BYTES);
    bool ok;

    if (gethostname(host, sizeof host) != 0)
        text_copy(host, sizeof host, "localhost");
    host[sizeof host - 1] = '\0';
    if (!strchr(config->hostname, '@'))
        buf_text(&name, "celery@");
    expand_hostname(*config->hostname ? config->hostname : "%h", host, &name);
    ok = !name.failed && !strchr(name.data, ' ');
    if (!ok)
        fail(e, CONFIG_INVALID, "hostname: expected a name of at most %d bytes without blanks",
            HOST_BYTES);
    else
        ok = (config->hostname = arena_text(arena, name.data, e));
    buf_free(&name);
    return ok;
}

static bool
derive_retry_delays(Config *config, Err *e)
{
    const char *at = config->retry_delays;
    char one[32];

    config->retry_delay_count = 0;
    for (;;) {
        size_t bytes = strcspn(at, ",");
        int64_t ms;

        if (bytes >= sizeof one || config->retry_delay_count == RETRY_DELAYS_MAX)
            break;
        memcpy(one, at, bytes);
        one[bytes] = '\0';
        if (!time_parse_duration(one, &ms) || ms > CONFIG_FOREVER_MS)
            break;
        config->retry_delay_ms[config->retry_delay_count++] = ms;
        if (!at[bytes])
            return true;
        at += bytes + 1;
    }
    return fail(e, CONFIG_INVALID,
        "retry_delays: expected 1 to %d times, comma between, like 10s,60s,300s; got \"%.64s\"",
        RETRY_DELAYS_MAX, config->retry_delays);
}

bool
ring_parse(Config *config, const char *text, const char *place, Arena *arena, Err *e)
{
    const char **key = arena_alloc_array(arena, RING_MAX + 1, sizeof *key, e);
    unsigned keys = 0;

    if (!key)
        return false;
    for (;;) {
        size_t bytes = strcspn(text, ",");

        if (keys == RING_MAX || bytes < RING_TEXT_BYTES_MIN)
            return fail(e, CONFIG_INVALID,
                "%s: expected at most %d secrets, comma between, each of at least %d characters",
                place, RING_MAX, RING_TEXT_BYTES_MIN);
        if (!(key[keys++] = arena_bytes(arena, text, bytes, e)))
            return false;
        if (!text[bytes])
            break;
        text += bytes + 1;
    }
    config->url_secret_key = key;
    config->url_secret_keys = keys;
    return true;
}

bool
host_is_loopback(const char *host)
{
    size_t bytes = strlen(host);
    Address address;

    if (bytes > 2 && host[0] == '[' && host[bytes - 1] == ']') {
        host++;
        bytes -= 2;
    }
    return address_parse(host, bytes, &address) ? address_is_loopback(&address)
                                                : text_same_case_blind(host, "localhost");
}

bool
check_web_url(const char *key, const char *like, const char **url, Arena *arena, Err *e)
{
    Err why = {0};
    Url parts;
    char *own;
    size_t bytes;

    if (!**url)
        return true;
    if (!url_parse(*url, arena, &parts, &why) ||
        (strcmp(parts.scheme, "http") != 0 && strcmp(parts.scheme, "https") != 0) || !*parts.host ||
        parts.user || parts.query)
        return fail(
            e, CONFIG_INVALID, "%s: expected a URL like %s, without user or query", key, like);
    if (!(own = arena_text(arena, *url, e)))
        return false;
    for (bytes = strlen(own); bytes > 0 && own[bytes - 1] == '/';)
        own[--bytes] = '\0';
    *url = own;
    return true;
}

static ConfigSource *
find_source(ConfigSource *source, size_t sources, const char *name)
{
    for (size_t i = 0; i < sources; i++)
        if (strcmp(source[i].name, name) == 0)
            return &source[i];
    return NULL;
}

/*
 * The seed's variables for one source. A URL from there replaces URL and login of the file
 * together, because the file's password is for the file's server; limits stay. Nobody said
 * anything: the demo.
 */
static bool
complete_source(Config *config, ConfigSource *source, const char *name, const char *url,
    const Origin *url_origin, const char *user, const char *password, Arena *arena, Err *e)
{
    ConfigSource *s = find_source(source, config->sources, name);
    bool in_file = s != NULL;

    if (in_file && *url && url_origin->from == FROM_FILE)
        return fail(e, CONFIG_INVALID,
            "%s:%u: this key and sources.%s exclude each other: remove one", url_origin->name,
            url_origin->line, name);
    if (!s) {
        s = &source[config->sources++];
        *s = (ConfigSource){.name = name, .place = name};
    }
    if (*url) {
        s->url = url;
        s->place = url_origin->from == FROM_FILE ? arena_printf(arena, e, "%s:%u: %s_url",
                                                       url_origin->name, url_origin->line, s->name)
                                                 : url_origin->name;
        s->user = s->password = NULL;
    }
    if (*user)
        s->user = user;
    if (*password)
        s->password = password;
    if (!s->url) {
        s->is_demo = true;
        s->user = s->password = NULL;
        s->url = arena_printf(arena, e, "sqlite:%s", config->demo_path);
    }
    return s->url && s->place;
}

static bool
check_source_url(const ConfigSource *s, Err *e)
{
    size_t scheme = strspn(s->url, "abcdefghijklmnopqrstuvwxyz0123456789+.-");

    if (scheme > 0 && s->url[scheme] == ':' && s->url[scheme + 1])
        return true;
    return fail(e, CONFIG_INVALID,
        "%s: expected a URL like sqlite:/srv/shop.db or postgresql://db.example/shop", s->place);
}

static bool
derive_sources(Config *config, const Origins *origins, Arena *arena, Err *e)
{
    ConfigSource *source = arena_alloc_array(arena, config->sources + 2, sizeof *source, e);
    bool ok;

    if (!source)
        return false;
    for (size_t i = 0; i < config->sources; i++)
        source[i] = config->source[i];
    ok = complete_source(config, source, "graph", config->graph_db_url,
             origin_of(origins, "graph_db_url"), config->graph_db_user, config->graph_db_password,
             arena, e) &&
         complete_source(config, source, "timescale", config->timescale_url,
             origin_of(origins, "timescale_url"), "", "", arena, e);
    config->source = source;
    for (size_t i = 0; ok && i < config->sources; i++)
        ok = check_source_url(&source[i], e);
    return ok;
}

static bool
derive_auth(Config *config, Err *e)
{
    config->listens_beyond_loopback = !host_is_loopback(config->host);
    config->auth_is_set = *config->auth != '\0';
    if (config->require_auth && config->listens_beyond_loopback &&
        (!*config->auth || strcmp(config->auth, "none") == 0))
        return fail(e, CONFIG_INVALID,
            "require_auth: is on, and %s is beyond loopback without authentication; listen on "
            "127.0.0.1, or switch it off",
            config->host);
    return true;
}

/* Names with commas between: none empty, or nothing at all. */
static bool
check_names(const char *key, const char *text, bool may_be_empty, Err *e)
{
    size_t bytes = strlen(text);

    if (bytes == 0
            ? may_be_empty
            : text[0] != ',' && text[bytes - 1] != ',' && !strstr(text, ",,") && !strchr(text, ' '))
        return true;
    return fail(e, CONFIG_INVALID, "%s: expected names, comma between, without blanks", key);
}

bool
config_derive(Config *config, Origins *origins, Arena *arena, Err *e)
{
    bool ok = derive_paths(config, arena, e);

    if (!*config->log_format)
        config->log_format = isatty(STDERR_FILENO) ? "text" : "json";
    ok = derive_hostname(config, arena, e) && ok;
    ok = derive_retry_delays(config, e) && ok;
    ok = (!*config->url_secret || ring_parse(config, config->url_secret, "url_secret", arena, e)) &&
         ok;
    ok =
        check_web_url("public_url", "https://exports.example.com", &config->public_url, arena, e) &&
        ok;
    ok = check_names("queues", config->queues, false, e) && ok;
    ok = check_names("hosts", config->hosts, true, e) && ok;
    ok = check_names("trusted_proxies", config->trusted_proxies, true, e) && ok;
    ok = config_derive_s3(config, origins, arena, e) && ok;
    ok = derive_auth(config, e) && ok;
    return ok && derive_sources(config, origins, arena, e);
}
