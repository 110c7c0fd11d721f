/*
 * What a URL means for libpq (PostgreSQL 15, chapter 34.1). Its own messages are not shown: they
 * repeat what they could not read, which may be a password.
 */
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "flow/sink.h"
#include "net/address.h"
#include "net/url.h"
#include "source/postgres/postgres_in.h"

enum { PARAMS_MAX = 96, ID_BYTES_MAX = 64 << 10 };

typedef PQconninfoOption Option;

/* Ours to say: a URL that other programs use, too, may have them, and they do not count. A server
 * that is gone is noticed after 30 s. */
static const struct {
    const char *keyword, *value; /* NULL: said by session.c */
} ours[] = {
    {"application_name", "rowferry"},
    {"client_encoding", "UTF8"},
    {"keepalives", "1"},
    {"keepalives_idle", "15"},
    {"keepalives_interval", "5"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", PG_CONNECTING_USER_TIMEOUT_MS},
    {"connect_timeout", NULL},
    {"fallback_application_name", NULL},
};

/* What a URL may say. Not: what changes the kind of the connection (replication) or what the
 * session does (options). */
static const char *const allowed[] = {"host", "hostaddr", "port", "dbname", "user", "password",
    "passfile", "service", "servicefile", "target_session_attrs", "load_balance_hosts", "sslmode",
    "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslcertmode", "sslrootcert", "sslcrl",
    "sslcrldir", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "requirepeer",
    "require_auth", "channel_binding", "gssencmode", "krbsrvname", "gsslib", NULL};

static const char *const ssl_modes[] = {
    "disable", "allow", "prefer", "require", "verify-ca", "verify-full", NULL};

/* Where distributions keep the certificates that they trust. */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Alpine, Arch */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora, Red Hat */
    "/etc/ssl/ca-bundle.pem",                            /* SUSE */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Red Hat */
    "/etc/ssl/cert.pem",                                 /* Alpine, BSD */
    NULL,
};

static bool
is_among(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

static bool
is_ours(const char *keyword)
{
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (strcmp(ours[i].keyword, keyword) == 0)
            return true;
    return false;
}

/* NULL: not given, as libpq has it. */
static const char *
value_of(const Option *options, const char *keyword)
{
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && *options->val ? options->val : NULL;
    return NULL;
}

static void
forget(Option *options)
{
    for (const Option *o = options; o && o->keyword; o++)
        if (o->val && *o->dispchar == '*')
            explicit_bzero(o->val, strlen(o->val));
    PQconninfoFree(options);
}

/* --- reading --- */

/* Where the hosts begin: libpq takes what stands in front of the first @ for a login, if no / comes
 * before it. */
static const char *
hosts_of(const char *behind_scheme)
{
    const char *end = behind_scheme + strcspn(behind_scheme, "@/");

    return *end == '@' ? end + 1 : behind_scheme;
}

static bool
fail_unread(Err *e)
{
    return fail(e, CONFIG_INVALID,
        "the URL is none that libpq can read: "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?KEY=VALUE, with %%XX for what is no letter "
        "or digit");
}

/* A key that this libpq does not know, if that is what is wrong. It is named if it can only be a
 * key. */
static bool
fail_parse(const char *hosts, Err *e)
{
    const char *at = strchr(hosts, '?');
    Option *known = PQconninfoParse("postgresql://", NULL);
    char key[33] = "";

    for (; at && known && !strchr(at, '@'); at = strchr(at, '&')) {
        size_t bytes = strcspn(++at, "=&");
        const Option *o = known;

        if (bytes >= sizeof key || at[bytes] != '=')
            break;
        memcpy(key, at, bytes);
        key[bytes] = '\0';
        while (o->keyword && strcmp(o->keyword, key) != 0)
            o++;
        if (!o->keyword && text_is_name(key) && strcmp(key, "ssl") != 0)
            break;
        key[0] = '\0';
    }
    PQconninfoFree(known);
    if (text_is_name(key))
        return fail(e, CONFIG_INVALID, "libpq knows no %s: take it out of the URL", key);
    return fail_unread(e);
}

/* libpq itself would say so only when it connects, and repeat it. */
static bool
check_ports(const char *ports, Err *e)
{
    while (*ports) {
        size_t bytes = strcspn(ports, ",");
        char digits[6] = "";
        uint64_t port;

        if (bytes >= sizeof digits)
            return fail(e, CONFIG_INVALID, "a port of the URL is not a number from 1 to 65535");
        memcpy(digits, ports, bytes);
        if (bytes > 0 && (!text_to_uint(digits, 65535, &port) || port == 0))
            return fail(e, CONFIG_INVALID, "a port of the URL is not a number from 1 to 65535");
        ports += bytes + (ports[bytes] == ',');
    }
    return true;
}

static bool
check_options(const Option *options, Err *e)
{
    const char *ports = value_of(options, "port"), *ssl = value_of(options, "sslmode");

    for (const Option *o = options; o->keyword; o++) {
        if (!o->val)
            continue;
        if (strcmp(o->keyword, "options") == 0)
            return fail(e, CONFIG_INVALID,
                "options may not stand in the URL: settings belong to "
                "the role (ALTER ROLE … SET …)");
        if (!is_among(o->keyword, allowed) && !is_ours(o->keyword))
            return fail(e, CONFIG_INVALID, "%s may not stand in the URL: take it out", o->keyword);
    }
    if (ssl && !is_among(ssl, ssl_modes))
        return fail(e, CONFIG_INVALID,
            "sslmode of the URL must be disable, allow, prefer, "
            "require, verify-ca or verify-full");
    return !ports || check_ports(ports, e);
}

/* What the URL gives, by keyword; the caller gives it to forget(). NULL: CONFIG_INVALID. */
static Option *
read_url(const char *url, Err *e)
{
    size_t bytes = strnlen(url, URL_BYTES_MAX + 1);
    const char *behind_scheme = strstr(url, "://"), *hosts;
    Option *options;

    if (bytes > URL_BYTES_MAX) {
        fail(e, CONFIG_INVALID, "the URL is longer than %d bytes", URL_BYTES_MAX);
        return NULL;
    }
    if (!text_is_utf8(url, bytes) || text_has_control(url, bytes, false)) {
        fail(e, CONFIG_INVALID, "the URL has control characters or is not UTF-8");
        return NULL;
    }
    if (!text_starts(url, "postgresql://") && !text_starts(url, "postgres://")) {
        fail_unread(e);
        return NULL;
    }
    hosts = hosts_of(behind_scheme + 3);
    /* A piece of a password would be taken for a host, and shown when that is not found. */
    if (memchr(hosts, '@', strcspn(hosts, "?"))) {
        fail(e, CONFIG_INVALID,
            "the URL has an @ too many: write %%40 and %%2F for @ and / in a "
            "login");
        return NULL;
    }
    if (!(options = PQconninfoParse(url, NULL))) {
        fail_parse(hosts, e);
        return NULL;
    }
    if (!check_options(options, e)) {
        forget(options);
        return NULL;
    }
    return options;
}

bool
pg_judge_url(const char *url, Err *e)
{
    Option *options = read_url(url, e);

    forget(options);
    return options != NULL;
}

/* --- TLS --- */

/* Does nobody outside of this network hear what is said to this host? "": a Unix socket. */
static bool
is_local(const char *host, size_t bytes)
{
    size_t no_zone = bytes;
    Address address;

    if (bytes == 0 || *host == '/' || *host == '@')
        return true;
    for (size_t i = 0; i < bytes; i++)
        if (host[i] == '%' && no_zone == bytes)
            no_zone = i;
    if (address_parse(host, no_zone, &address))
        return address_is_private(&address);
    if (bytes > 1 && host[bytes - 1] == '.')
        bytes--;
    /* 134744072 is an address, too, in an old way of writing. */
    return !(*host >= '0' && *host <= '9') && name_is_local(host, bytes);
}

/* Hosts and their addresses are lists side by side; where there is an address, it counts. */
static bool
are_all_local(const char *hosts, const char *addresses)
{
    for (;;) {
        size_t host = strcspn(hosts, ","), address = strcspn(addresses, ",");

        if (!is_local(address > 0 ? addresses : hosts, address > 0 ? address : host))
            return false;
        if (!hosts[host] && !addresses[address])
            return true;
        hosts += host + (hosts[host] == ',');
        addresses += address + (addresses[address] == ',');
    }
}

static bool
is_there(const char *path)
{
    return path && access(path, R_OK) == 0;
}

/* What is trusted where nobody says; NULL: libpq's own place for it, ~/.postgresql/root.crt. */
static const char *
trusted_by_default(Arena *task, Err *e)
{
    const char *home = process_home();

    if (home && is_there(arena_printf(task, e, "%s/.postgresql/root.crt", home)))
        return NULL;
    for (const char *const *bundle = bundles; *bundle; bundle++)
        if (is_there(*bundle))
            return *bundle;
    return NULL;
}

typedef struct {
    const char **keyword, **value;
    size_t count;
} Words;

static void
add(Words *words, const char *keyword, const char *value)
{
    if (words->count < PARAMS_MAX) {
        words->keyword[words->count] = keyword;
        words->value[words->count++] = value;
    }
}

/*
 * `preset` is what libpq takes where the URL says nothing, from the environment, a service that it
 * names, or by itself. What a service of the URL says cannot be known here, so nothing is put
 * before it.
 */
static void
add_tls(Words *words, const Option *given, const Option *preset, Arena *task, Err *e)
{
    const char *mode = value_of(given, "sslmode"), *file;
    const char *hosts = value_of(given, "host"), *addresses = value_of(given, "hostaddr");

    hosts = hosts ? hosts : value_of(preset, "host");
    addresses = addresses ? addresses : value_of(preset, "hostaddr");
    if (!mode) {
        if (value_of(given, "service") || value_of(preset, "service"))
            return;
        for (const Option *o = preset; o->keyword; o++)
            if (strcmp(o->keyword, "sslmode") == 0 && o->val && strcmp(o->val, o->compiled) != 0)
                mode = o->val;
        if (!mode && are_all_local(hosts ? hosts : "", addresses ? addresses : ""))
            return;
        if (!mode)
            add(words, "sslmode", mode = "verify-full");
    }
    if (text_starts(mode, "verify-") && !value_of(given, "sslrootcert") &&
        !value_of(given, "service") && !value_of(preset, "sslrootcert") &&
        (file = trusted_by_default(task, e)))
        add(words, "sslrootcert", file);
}

/* --- all of it --- */

static void
add_given(Words *words, const SourceSpec *spec, const Option *given, Arena *task, Err *e)
{
    for (const Option *o = given; o->keyword; o++) {
        if (strcmp(o->keyword, "user") == 0 && spec->user && *spec->user)
            add(words, "user", spec->user);
        else if (strcmp(o->keyword, "password") == 0 && spec->password && *spec->password)
            add(words, "password", spec->password);
        else if (o->val && *o->val && !is_ours(o->keyword))
            add(words, arena_text(task, o->keyword, e), arena_text(task, o->val, e));
    }
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (ours[i].value)
            add(words, ours[i].keyword, ours[i].value);
}

/* Nobody can tell the password from it. */
static bool
make_id(const Words *words, char id[PG_ID_BYTES], Err *e)
{
    Buf all = buf_new(ID_BYTES_MAX);
    bool ok;

    for (size_t i = 0; i < words->count; i++) {
        buf_put(&all, words->keyword[i], strlen(words->keyword[i]) + 1);
        buf_put(&all, words->value[i], strlen(words->value[i]) + 1);
    }
    ok = buf_is_good(&all, e) &&
         (digest_text(all.data, all.bytes, id) || fail(e, INTERNAL, "no digest of a source's URL"));
    explicit_bzero(all.data, all.bytes);
    buf_free(&all);
    return ok;
}

bool
pg_params(const SourceSpec *spec, Arena *task, PgParams *params, Err *e)
{
    Words words = {arena_alloc_array(task, PARAMS_MAX + 1, sizeof *words.keyword, e),
        arena_alloc_array(task, PARAMS_MAX + 1, sizeof *words.value, e), 0};
    Option *given = read_url(spec->url, e), *preset = PQconndefaults();

    *params = (PgParams){words.keyword, words.value, ""};
    if (!preset && given)
        fail(e, MEMORY_LIMIT, "no memory for what libpq takes by itself");
    if (words.keyword && words.value && given && preset) {
        add_given(&words, spec, given, task, e);
        add_tls(&words, given, preset, task, e);
    }
    forget(given);
    forget(preset);
    return e->links == 0 && make_id(&words, params->id, e);
}
