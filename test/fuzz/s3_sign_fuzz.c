/*
 * Any settings make a site whose host and path can stand in a request, or CONFIG_INVALID; any key
 * and query come back from what is sent; any header is signed and sent in one line, or refused.
 *
 * The input is texts with NULs between: bucket, region, endpoint, style, key, header, then names
 * and values of a query.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "storage/s3/s3_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { TEXT_BYTES_MAX = 4000, PAIRS = 8 };

static const S3Keys keys = {.access_key = "KEY", .secret_key = "SECRET", .token = "TO/KEN=="};

static void
must(bool so)
{
    if (!so)
        abort();
}

/* Only what needs no escape, and escapes; which are decoded in place. */
static void
decode(char *encoded, const char *plain)
{
    size_t decoded;

    for (const char *at = encoded; *at; at++)
        if (*at == '%')
            must(isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2]) &&
                 !islower((unsigned char)at[1]) && !islower((unsigned char)at[2]));
        else
            must(isalnum((unsigned char)*at) || strchr("-._~/", *at));
    must(text_percent_decode(encoded, strlen(encoded), encoded, strlen(encoded), &decoded));
    encoded[decoded] = '\0';
    must(decoded == strlen(plain) && memcmp(encoded, plain, decoded) == 0);
}

static void
check_site(char *const text[4], const char *key, char host[S3_HOST_BYTES], Buf *path)
{
    const S3Spec spec = {
        .bucket = text[0], .endpoint = text[2], .public_endpoint = "", .style = text[3]};
    Err e = {0};
    Site site;

    if (!site_make(&spec, text[1], false, &site, &e)) {
        must(e.code == ERR_CONFIG_INVALID);
        must(strstr(err_root(&e), "S3_"));
        return;
    }
    must(
        *site.host && !site.host[strspn(site.host, "abcdefghijklmnopqrstuvwxyz0123456789.-_~:[]")]);
    must(!*site.prefix || (*site.prefix == '/' && !text_ends(site.prefix, "/")));
    must(site.is_path_style || strncmp(site.host, text[0], strlen(text[0])) == 0);
    must(!site.is_aws || strstr(site.host, site.region));
    site_path(&site, key, path);
    must(text_starts(path->data, site.prefix));
    {
        Buf copy = buf_new(1 << 20);

        buf_text(&copy, path->data + strlen(site.prefix));
        if (site.is_path_style) {
            char *slash = strchr(copy.data + 1, '/');

            must(slash);
            *slash = '\0';
            decode(copy.data + 1, text[0]);
            decode(slash + 1, key);
        } else {
            decode(copy.data + 1, key);
        }
        buf_free(&copy);
    }
    memcpy(host, site.host, S3_HOST_BYTES);
    must(!site_move(&site, "a/b") && site_move(&site, "eu-west-1"));
}

/* Every pair is there once, in order. */
static void
check_query(const S3Pair *query, size_t queries)
{
    Buf to = buf_new(1 << 20);
    bool seen[PAIRS] = {false};
    const char *before_name = "", *before_value = "";
    size_t found = 0;
    Err e = {0};

    must(sign_query(&to, query, queries, &e));
    for (char *at = to.data, *next; at && *at; at = next) {
        char *value = strchr(at, '='), *name = at;
        int order;

        must(value);
        next = strchr(value, '&');
        *value++ = '\0';
        if (next)
            *next++ = '\0';
        order = strcmp(before_name, name);
        must(found == 0 || order < 0 || (order == 0 && strcmp(before_value, value) <= 0));
        before_name = name;
        before_value = value;
        found++;
        for (size_t i = 0; i < queries; i++) {
            Buf one = buf_new(1 << 16), other = buf_new(1 << 16);
            bool is_it;

            text_percent_encode(&one, query[i].name, strlen(query[i].name), false);
            text_percent_encode(&other, query[i].value, strlen(query[i].value), false);
            is_it = !seen[i] && strcmp(one.data, name) == 0 && strcmp(other.data, value) == 0;
            buf_free(&one);
            buf_free(&other);
            if (is_it) {
                seen[i] = true;
                break;
            }
        }
    }
    must(found == queries);
    for (size_t i = 0; i < queries; i++)
        must(seen[i]);
    buf_free(&to);
}

static void
check_signed(SignRequest *r)
{
    Buf headers = buf_new(1 << 20), link = buf_new(1 << 20);
    SigningKey kept = {0};
    size_t lines = 0;
    Err e = {0};

    if (sign_request(r, &keys, &kept, &headers, &e)) {
        for (const char *at = headers.data; at < headers.data + headers.bytes;
             at += strlen(at) + 1, lines++)
            for (const char *c = at; *c; c++)
                must(*c >= ' ' && *c <= '~');
        must(lines == 5);
    } else {
        must(e.code == ERR_INTERNAL);
    }
    err_clear(&e);
    must(sign_link(r, &keys, 1, &kept, &link, &e));
    for (const char *c = link.data; *c; c++)
        must(isalnum((unsigned char)*c) || strchr("-._~/%?&=", *c));
    buf_free(&headers);
    buf_free(&link);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(1 << 20);
    char *text[6 + 2 * PAIRS], host[S3_HOST_BYTES] = "h";
    Buf path = buf_new(1 << 20);
    S3Pair query[PAIRS];
    size_t queries = 0;
    Err e = {0};

    must(arena);
    for (size_t i = 0; i < 6 + 2 * PAIRS; i++) {
        const uint8_t *end = bytes > 0 ? memchr(data, 0, bytes) : NULL;
        size_t length = end ? (size_t)(end - data) : bytes;

        text[i] = arena_bytes(arena, data, length < TEXT_BYTES_MAX ? length : TEXT_BYTES_MAX, &e);
        must(text[i]);
        data += end ? length + 1 : length;
        bytes -= end ? length + 1 : length;
        if (i >= 6 && (i - 6) % 2 == 1 && *text[i - 1])
            query[queries++] = (S3Pair){text[i - 1], text[i]};
    }
    check_site(text, text[4], host, &path);
    check_query(query, queries);
    check_signed(&(SignRequest){.method = "GET",
        .host = host,
        .path = path.data,
        .query = query,
        .queries = queries,
        .header = &(S3Pair){"x-amz-meta-a", text[5]},
        .headers = 1,
        .payload = sign_empty_payload,
        .region = "us-east-1",
        .service = "s3",
        .now_wall_s = 1738367998});
    buf_free(&path);
    arena_free(arena);
    return 0;
}
