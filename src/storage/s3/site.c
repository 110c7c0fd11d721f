/*
 * Where the bucket is: the host of a store, path or virtual-host style, and the path of a key
 * ("Virtual hosting of buckets" and "Amazon S3 endpoints and quotas" of AWS).
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "net/address.h"
#include "net/url.h"
#include "storage/s3/s3_in.h"

enum { BUCKET_BYTES_MIN = 3, LABEL_BYTES_MAX = 63, ENDPOINT_ARENA_BYTES = 64 << 10 };

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

/* The variables that messages name. */
#define BUCKET "S3_BUCKET"
#define REGION "S3_REGION"
#define STYLE "ROWFERRY_S3_STYLE"

/* Names of AWS's partitions; what is none of these is the first. */
static const struct {
    const char *region_starts, *domain;
} partitions[] = {
    {"cn-", "amazonaws.com.cn"},
    {"us-iso-", "c2s.ic.gov"},
    {"us-isob-", "sc2s.sgov.gov"},
    {"us-isof-", "csp.hci.ic.gov"},
    {"eu-isoe-", "cloud.adc-e.uk"},
    {"eusc-", "amazonaws.eu"},
    {"", "amazonaws.com"},
};

static bool
is_made_of(const char *text, const char *characters)
{
    return *text && !text[strspn(text, characters)];
}

/* Of AWS a region becomes part of a host. Other stores call theirs what they like ("RegionOne"); it
 * goes into signatures alone. */
static bool
is_region(const char *region, bool is_aws)
{
    return strlen(region) < S3_REGION_BYTES &&
           is_made_of(region, is_aws ? LOWER DIGITS "-" : LOWER UPPER DIGITS "-._");
}

/* May it stand before a host? With `dots` as several labels, which no wildcard certificate covers.
 */
static bool
is_label(const char *bucket, bool dots)
{
    size_t bytes = strlen(bucket);

    return bytes >= BUCKET_BYTES_MIN && bytes <= LABEL_BYTES_MAX &&
           is_made_of(bucket, dots ? LOWER DIGITS "-." : LOWER DIGITS "-") &&
           strchr(LOWER DIGITS, bucket[0]) && strchr(LOWER DIGITS, bucket[bytes - 1]) &&
           !strstr(bucket, "..") && !strstr(bucket, ".-") && !strstr(bucket, "-.");
}

/* Old names of AWS had upper case and '_'; stores with tenants write "tenant:bucket". */
static bool
check_bucket(const char *bucket, Err *e)
{
    if (!*bucket)
        return fail(e, CONFIG_INVALID, BUCKET " is not set");
    if (strstr(bucket, "://") || strchr(bucket, '/'))
        return fail(e, CONFIG_INVALID,
            BUCKET " must be the bare name of the bucket, without s3:// and without a path");
    if (strlen(bucket) < BUCKET_BYTES_MIN || strlen(bucket) >= S3_BUCKET_BYTES)
        return fail(e, CONFIG_INVALID, BUCKET " must have %d to %d characters", BUCKET_BYTES_MIN,
            S3_BUCKET_BYTES - 1);
    if (!is_made_of(bucket, LOWER UPPER DIGITS "-._:$") || !strchr(LOWER UPPER DIGITS, bucket[0]))
        return fail(e, CONFIG_INVALID,
            BUCKET " may have letters, digits, '-', '.' and '_', and begins with a letter or "
                   "a digit");
    return true;
}

const char *
site_aws_domain(const char *region)
{
    size_t i = 0;

    while (!text_starts(region, partitions[i].region_starts))
        i++;
    return partitions[i].domain;
}

static bool
make_aws_host(Site *site)
{
    int bytes;

    bytes = snprintf(site->host, sizeof site->host, "%s%ss3%s%s.%s.%s",
        site->is_path_style ? "" : site->bucket, site->is_path_style ? "" : ".",
        site->fips ? "-fips" : "", site->dualstack ? ".dualstack" : "", site->region,
        site_aws_domain(site->region));
    return bytes > 0 && (size_t)bytes < sizeof site->host;
}

static bool
is_loopback_host(const Url *url)
{
    Address address;

    return strcmp(url->host, "localhost") == 0 || text_ends(url->host, ".localhost") ||
           (address_parse(url->host, strlen(url->host), &address) && address_is_loopback(&address));
}

/* "https://host[:port][/prefix]" and nothing else. `name` is the variable. */
static bool
check_endpoint(const Url *url, const char *name, const char *bucket, Err *e)
{
    size_t bucket_bytes = strlen(bucket);

    if (strcmp(url->scheme, "http") != 0 && strcmp(url->scheme, "https") != 0)
        return fail(e, CONFIG_INVALID,
            "%s must begin with http:// or https://: it is the address of the store, not that of "
            "a bucket",
            name);
    if (url->user)
        return fail(e, CONFIG_INVALID,
            "%s must hold no user or password: they are S3_ACCESS_KEY and S3_SECRET_KEY", name);
    if (url->query)
        return fail(e, CONFIG_INVALID, "%s must have no query (?)", name);
    if (!*url->host || strlen(url->host) > 253)
        return fail(e, CONFIG_INVALID, "%s has no host, or one longer than 253 bytes", name);
    if (text_ends(url->host, ".amazonaws.com") && strncmp(url->host, bucket, bucket_bytes) == 0 &&
        text_starts(url->host + bucket_bytes, ".s3"))
        return fail(
            e, CONFIG_INVALID, "%s must not hold the name of the bucket, " BUCKET " does", name);
    if (*url->path &&
        (!is_made_of(url->path, LOWER UPPER DIGITS "-._~/") || strstr(url->path, "//") ||
            strstr(url->path, "/./") || strstr(url->path, "/../") || text_ends(url->path, "/.") ||
            text_ends(url->path, "/..")))
        return fail(e, CONFIG_INVALID,
            "the path in %s may have letters, digits, '-', '.', '_', '~' and single slashes", name);
    return true;
}

/* The endpoint taken apart and checked; texts are in the arena. */
static bool
read_endpoint(
    const char *endpoint, const char *name, const char *bucket, Arena *arena, Url *url, Err *e)
{
    Err why = {0};

    if (!strstr(endpoint, "://"))
        return fail(
            e, CONFIG_INVALID, "%s has no scheme: it must begin with http:// or https://", name);
    if (!url_parse(endpoint, arena, url, &why))
        return fail_code(e, why.code, "%s: %s", name, err_root(&why));
    return check_endpoint(url, name, bucket, e);
}

/* As in Host: the bucket before it, an IPv6 address in brackets, the port if it is not the scheme's
 * own. */
static bool
write_host(const Url *url, Site *site, const char *name, Err *e)
{
    unsigned own_port = site->is_secure ? 443 : 80;
    size_t path = strlen(url->path);
    Buf host = buf_new(sizeof site->host);
    bool ok;

    if (!site->is_path_style)
        buf_printf(&host, "%s.", site->bucket);
    buf_printf(&host, url->host_is_ipv6 ? "[%s]" : "%s", url->host);
    if (url->port > 0 && url->port != own_port)
        buf_printf(&host, ":%u", url->port);
    while (path > 0 && url->path[path - 1] == '/')
        path--;
    ok = !host.failed && text_copy(site->host, sizeof site->host, host.data) &&
         path < sizeof site->prefix;
    buf_free(&host);
    if (!ok)
        return fail(e, CONFIG_INVALID, "%s is too long", name);
    memcpy(site->prefix, url->path, path);
    site->prefix[path] = '\0';
    return true;
}

static bool
choose_style(const S3Spec *spec, const Url *url, Site *site, Err *e)
{
    Address address;
    bool is_address =
        url && (url->host_is_ipv6 || address_parse(url->host, strlen(url->host), &address));

    if (strcmp(spec->style, "path") == 0) {
        site->is_path_style = true;
    } else if (strcmp(spec->style, "auto") == 0) {
        site->is_path_style = url || !is_label(site->bucket, false);
    } else if (strcmp(spec->style, "virtual") != 0) {
        return fail(e, CONFIG_INVALID, STYLE " must be auto, path or virtual");
    } else if (is_address) {
        return fail(e, CONFIG_INVALID,
            STYLE "=virtual needs a store with a name: the bucket cannot stand before an address");
    } else if (!is_label(site->bucket, true)) {
        return fail(e, CONFIG_INVALID,
            STYLE "=virtual needs a bucket whose name can stand in a host: 3 to 63 lower-case "
                  "letters, digits, '-' and '.'");
    } else if (!url && strchr(site->bucket, '.')) {
        return fail(e, CONFIG_INVALID,
            STYLE "=virtual does not go with a dot in " BUCKET
                  ": the certificate of AWS does not cover it");
    }
    return true;
}

static bool
make_endpoint_site(const S3Spec *spec, const char *endpoint, const char *name, Site *site, Err *e)
{
    Arena *arena = arena_new(ENDPOINT_ARENA_BYTES);
    Url url = {.scheme = "", .host = "", .path = ""};
    bool ok;

    if (!arena)
        return fail(e, MEMORY_LIMIT, "no memory for an endpoint");
    ok = read_endpoint(endpoint, name, spec->bucket, arena, &url, e) &&
         choose_style(spec, &url, site, e);
    if (ok) {
        site->is_secure = strcmp(url.scheme, "https") == 0;
        site->is_loopback = is_loopback_host(&url);
        ok = write_host(&url, site, name, e);
    }
    arena_free(arena);
    return ok;
}

bool
site_make(const S3Spec *spec, const char *region, bool for_links, Site *site, Err *e)
{
    bool is_public = for_links && *spec->public_endpoint;
    const char *endpoint = is_public ? spec->public_endpoint : spec->endpoint;

    *site = (Site){.is_aws = !*endpoint, .dualstack = spec->dualstack, .fips = spec->fips};
    if (!check_bucket(spec->bucket, e))
        return false;
    if (!is_region(region, site->is_aws) || !text_copy(site->region, sizeof site->region, region))
        return fail(e, CONFIG_INVALID,
            REGION " must be the name of a region, like eu-central-1: at most %d letters, digits "
                   "and '-'",
            S3_REGION_BYTES - 1);
    if (!text_copy(site->bucket, sizeof site->bucket, spec->bucket))
        return fail(e, CONFIG_INVALID, BUCKET " is too long");
    if (!site->is_aws)
        return make_endpoint_site(
            spec, endpoint, is_public ? "ROWFERRY_S3_PUBLIC_ENDPOINT" : "S3_ENDPOINT", site, e);
    if (text_ends(site->bucket, "--x-s3"))
        return fail(e, CONFIG_INVALID,
            BUCKET " is a directory bucket (S3 Express): only general purpose buckets are served");
    site->is_secure = true;
    return choose_style(spec, NULL, site, e) &&
           (make_aws_host(site) || fail(e, CONFIG_INVALID, BUCKET " makes the host too long"));
}

bool
site_move(Site *site, const char *region)
{
    return is_region(region, site->is_aws) &&
           text_copy(site->region, sizeof site->region, region) &&
           (!site->is_aws || make_aws_host(site));
}

void
site_path(const Site *site, const char *key, Buf *to)
{
    buf_text(to, site->prefix);
    if (site->is_path_style) {
        buf_char(to, '/');
        text_percent_encode(to, site->bucket, strlen(site->bucket), false);
    }
    if (key || !site->is_path_style)
        buf_char(to, '/');
    if (key)
        text_percent_encode(to, key, strlen(key), true);
}
