/*
 * AWS Signature Version 4 ("Authenticating Requests" in the Amazon S3 API Reference): requests
 * signed by headers, links signed by their query. Pure: no clock, no I/O.
 *
 * What is signed is what is sent: path and query are encoded once, header values are folded before
 * they are signed and leave as they were signed.
 */
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "base/time.h"
#include "storage/s3/s3_in.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

enum {
    LINK_PAIRS = 6,   /* what a link's query has besides the overrides */
    HEADER_PAIRS = 4, /* host, date, payload, token */
    QUERY_MAX = S3_PAIRS_MAX + LINK_PAIRS,
    HEADERS_MAX = S3_PAIRS_MAX + HEADER_PAIRS,
    CANONICAL_BYTES_MAX = 256 << 10, /* a token of 8 KiB may be three times as long in a query */
    STAMP_BYTES = 17,                /* "20250131T235958Z" */
    DAY_BYTES = 8,
    SCOPE_BYTES = 80,
    MAC_BYTES = 32,
    HEX_BYTES = 2 * MAC_BYTES + 1,
    LINK_LIFE_S_MAX = 604800, /* seven days; every store refuses more */
};

const char sign_empty_payload[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* When and where a signature holds. */
typedef struct {
    char stamp[STAMP_BYTES];
    char text[SCOPE_BYTES]; /* "20250131/us-east-1/s3/aws4_request" */
} Scope;

static bool
make_scope(const SignRequest *r, Scope *scope, Err *e)
{
    const int64_t us_per_s = 1000000;
    bool is_time = r->now_wall_s >= 0 && r->now_wall_s <= INT64_MAX / us_per_s;
    TimeParts at = time_parts(is_time ? r->now_wall_s * us_per_s : 0);
    char stamp[64];
    int stamp_bytes = snprintf(stamp, sizeof stamp, "%04d%02d%02dT%02d%02d%02dZ", at.year, at.month,
        at.day, at.hour, at.minute, at.second);
    int text_bytes = snprintf(scope->text, sizeof scope->text, "%.*s/%s/%s/aws4_request", DAY_BYTES,
        stamp, r->region, r->service);

    if (!is_time || stamp_bytes != STAMP_BYTES - 1 || text_bytes < 0 || text_bytes >= SCOPE_BYTES)
        return fail(e, INTERNAL, "no signature can be made for this time, region and service");
    memcpy(scope->stamp, stamp, STAMP_BYTES);
    return true;
}

static bool
mac(const void *key, size_t key_bytes, const char *text, uint8_t to[MAC_BYTES])
{
    unsigned bytes = 0;

    return HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text, strlen(text), to,
               &bytes) &&
           bytes == MAC_BYTES;
}

static bool
is_key_of(const SigningKey *kept, const SignRequest *r, const S3Keys *keys, const Scope *scope,
    const uint8_t secret_hash[32])
{
    return kept->is_made && strcmp(kept->access_key, keys->access_key) == 0 &&
           strcmp(kept->region, r->region) == 0 && strcmp(kept->service, r->service) == 0 &&
           strncmp(kept->date, scope->stamp, DAY_BYTES) == 0 &&
           CRYPTO_memcmp(kept->secret_hash, secret_hash, sizeof kept->secret_hash) == 0;
}

/* HMAC(HMAC(HMAC(HMAC("AWS4" secret, day), region), service), "aws4_request"), made once for a day,
 * a region and a pair of keys. */
static bool
derive_key(const SignRequest *r, const S3Keys *keys, const Scope *scope, SigningKey *kept, Err *e)
{
    char first[sizeof keys->secret_key + 4] = "AWS4";
    uint8_t secret_hash[32];
    bool ok;

    if (EVP_Digest(
            keys->secret_key, strlen(keys->secret_key), secret_hash, NULL, EVP_sha256(), NULL) != 1)
        return fail(e, INTERNAL, "the library makes no SHA-256");
    if (is_key_of(kept, r, keys, scope, secret_hash)) {
        explicit_bzero(secret_hash, sizeof secret_hash);
        return true;
    }
    explicit_bzero(kept, sizeof *kept);
    memcpy(kept->secret_hash, secret_hash, sizeof secret_hash);
    memcpy(kept->date, scope->stamp, DAY_BYTES);
    ok = text_copy(first + 4, sizeof first - 4, keys->secret_key) &&
         text_copy(kept->access_key, sizeof kept->access_key, keys->access_key) &&
         text_copy(kept->region, sizeof kept->region, r->region) &&
         text_copy(kept->service, sizeof kept->service, r->service) &&
         mac(first, strlen(first), kept->date, kept->key) &&
         mac(kept->key, sizeof kept->key, r->region, kept->key) &&
         mac(kept->key, sizeof kept->key, r->service, kept->key) &&
         mac(kept->key, sizeof kept->key, "aws4_request", kept->key);
    explicit_bzero(first, sizeof first);
    explicit_bzero(secret_hash, sizeof secret_hash);
    kept->is_made = ok;
    return ok || fail(e, INTERNAL, "cannot derive the key of signatures");
}

static bool
make_signature(const SignRequest *r, const S3Keys *keys, const Scope *scope, const Buf *canonical,
    SigningKey *kept, char hex[HEX_BYTES], Err *e)
{
    char to_sign[sizeof ALGORITHM + STAMP_BYTES + SCOPE_BYTES + HEX_BYTES], hash[HEX_BYTES];
    uint8_t signature[MAC_BYTES];

    if (!buf_is_good(canonical, e) || !derive_key(r, keys, scope, kept, e))
        return false;
    if (!digest_text(canonical->data, canonical->bytes, hash))
        return fail(e, INTERNAL, "the library makes no SHA-256");
    snprintf(to_sign, sizeof to_sign, ALGORITHM "\n%s\n%s\n%s", scope->stamp, scope->text, hash);
    if (!mac(kept->key, sizeof kept->key, to_sign, signature))
        return fail(e, INTERNAL, "the library makes no HMAC");
    text_hex(signature, sizeof signature, hex);
    return true;
}

/* --- the query --- */

static int
compare_encoded(const void *a, const void *b)
{
    const S3Pair *one = a, *other = b;
    int by_name = strcmp(one->name, other->name);

    return by_name != 0 ? by_name : strcmp(one->value, other->value);
}

/* Order is that of the encoded names, then of the encoded values: as whole texts "a-b=" would come
 * before "a=". */
bool
sign_query(Buf *to, const S3Pair *query, size_t queries, Err *e)
{
    S3Pair encoded[QUERY_MAX];
    Buf texts = buf_new(CANONICAL_BYTES_MAX); /* name NUL value NUL … */
    const char *at;
    size_t pairs = 0;

    if (queries > QUERY_MAX)
        return fail(e, INTERNAL, "a query of %zu pairs", queries);
    for (const S3Pair *pair = query; pair < query + queries; pair++) {
        if (!pair->value)
            continue;
        text_percent_encode(&texts, pair->name, strlen(pair->name), false);
        buf_char(&texts, '\0');
        text_percent_encode(&texts, pair->value, strlen(pair->value), false);
        buf_char(&texts, '\0');
        pairs++;
    }
    if (!buf_is_good(&texts, e)) {
        buf_free(&texts);
        return false;
    }
    at = texts.data;
    for (size_t i = 0; i < pairs; i++) {
        encoded[i].name = at;
        encoded[i].value = at + strlen(at) + 1;
        at = encoded[i].value + strlen(encoded[i].value) + 1;
    }
    qsort(encoded, pairs, sizeof encoded[0], compare_encoded);
    for (size_t i = 0; i < pairs; i++) {
        buf_text(to, i > 0 ? "&" : "");
        buf_text(to, encoded[i].name);
        buf_char(to, '=');
        buf_text(to, encoded[i].value);
    }
    buf_free(&texts);
    return buf_is_good(to, e);
}

/* --- the headers --- */

/* What may stand in a header: no line break or other control, ASCII only. A tab is a blank. */
static bool
is_plain(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if ((*at < ' ' && *at != '\t') || *at > '~')
            return false;
    return true;
}

/* RFC 9110 5.6.2: a token. */
static bool
is_header_name(const char *name)
{
    static const char marks[] = "!#$%&'*+-.^_`|~0123456789";

    if (!*name)
        return false;
    for (; *name; name++)
        if (!(*name >= 'a' && *name <= 'z') && !(*name >= 'A' && *name <= 'Z') &&
            !strchr(marks, *name))
            return false;
    return true;
}

static void
put_lower(Buf *to, const char *name)
{
    for (; *name; name++)
        buf_char(to, *name >= 'A' && *name <= 'Z' ? (char)(*name + 0x20) : *name);
}

/* Blanks at both ends go, runs of them become one. */
static void
put_folded(Buf *to, const char *value)
{
    bool is_first = true;

    while (*(value += strspn(value, " \t"))) {
        size_t word = strcspn(value, " \t");

        buf_text(to, is_first ? "" : " ");
        buf_put(to, value, word);
        is_first = false;
        value += word;
    }
}

/* What servers between us and the store change. */
static bool
may_be_signed(const char *name)
{
    static const char *const never[] = {"authorization", "user-agent", "accept-encoding",
        "connection", "expect", "content-length", "transfer-encoding", "date"};

    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strcasecmp(name, never[i]) == 0)
            return false;
    return true;
}

/* By name alone: as whole lines "a-b:" would come before "a:". */
static int
compare_names(const void *a, const void *b)
{
    return strcasecmp(((const S3Pair *)a)->name, ((const S3Pair *)b)->name);
}

static bool
check_headers(const S3Pair *header, size_t headers, Err *e)
{
    for (size_t i = 0; i < headers; i++) {
        if (!is_header_name(header[i].name) || !may_be_signed(header[i].name))
            return fail(e, INTERNAL, "a header that cannot be signed: %s", header[i].name);
        if (!is_plain(header[i].value))
            return fail(e, INTERNAL, "the header %s has a line break, another control or no ASCII",
                header[i].name);
        if (i > 0 && compare_names(&header[i - 1], &header[i]) == 0)
            return fail(e, INTERNAL, "the header %s stands twice", header[i].name);
    }
    return true;
}

/* All that is signed, in order. */
static bool
gather_headers(const SignRequest *r, const S3Keys *keys, const Scope *scope,
    S3Pair header[HEADERS_MAX], size_t *headers, Err *e)
{
    const S3Pair own[HEADER_PAIRS] = {
        {"host", r->host},
        {"x-amz-date", scope->stamp},
        {"x-amz-content-sha256", r->payload},
        {"x-amz-security-token", keys->token[0] ? keys->token : NULL},
    };
    size_t count = 0;

    if (r->headers > S3_PAIRS_MAX)
        return fail(e, INTERNAL, "%zu headers", r->headers);
    for (const S3Pair *pair = own; pair < own + HEADER_PAIRS; pair++)
        if (pair->value)
            header[count++] = *pair;
    for (const S3Pair *pair = r->header; pair < r->header + r->headers; pair++)
        if (pair->value)
            header[count++] = *pair;
    qsort(header, count, sizeof header[0], compare_names);
    *headers = count;
    return check_headers(header, count, e);
}

static void
put_names(Buf *to, const S3Pair *header, size_t headers)
{
    for (size_t i = 0; i < headers; i++) {
        buf_text(to, i > 0 ? ";" : "");
        put_lower(to, header[i].name);
    }
}

/* --- both --- */

static void
put_canonical(const SignRequest *r, const char *query, const S3Pair *header, size_t headers,
    const char *payload, Buf *to)
{
    buf_printf(to, "%s\n%s\n", r->method, *r->path ? r->path : "/");
    buf_text(to, query);
    buf_char(to, '\n');
    for (size_t i = 0; i < headers; i++) {
        put_lower(to, header[i].name);
        buf_char(to, ':');
        put_folded(to, header[i].value);
        buf_char(to, '\n');
    }
    buf_char(to, '\n');
    put_names(to, header, headers);
    buf_printf(to, "\n%s", payload);
}

static bool
sign_headers(const SignRequest *r, const S3Keys *keys, const Scope *scope, const S3Pair *header,
    size_t headers, SigningKey *kept, char signature[HEX_BYTES], Err *e)
{
    Buf canonical = buf_new(CANONICAL_BYTES_MAX), query = buf_new(CANONICAL_BYTES_MAX);
    bool ok = sign_query(&query, r->query, r->queries, e);

    if (ok) {
        put_canonical(r, query.data, header, headers, r->payload, &canonical);
        ok = make_signature(r, keys, scope, &canonical, kept, signature, e);
    }
    buf_free(&query);
    buf_free(&canonical);
    return ok;
}

bool
sign_request(const SignRequest *r, const S3Keys *keys, SigningKey *kept, Buf *headers, Err *e)
{
    S3Pair header[HEADERS_MAX];
    char signature[HEX_BYTES];
    size_t count = 0;
    Scope scope;

    if (!is_plain(keys->access_key))
        return fail(e, INTERNAL, "the access key has a control or no ASCII");
    if (!make_scope(r, &scope, e) || !gather_headers(r, keys, &scope, header, &count, e) ||
        !sign_headers(r, keys, &scope, header, count, kept, signature, e))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(header[i].name, "host") == 0)
            continue;
        buf_printf(headers, "%s: ", header[i].name);
        put_folded(headers, header[i].value);
        buf_char(headers, '\0');
    }
    buf_printf(headers,
        "Authorization: " ALGORITHM " Credential=%s/%s, SignedHeaders=", keys->access_key,
        scope.text);
    put_names(headers, header, count);
    buf_printf(headers, ", Signature=%s", signature);
    buf_char(headers, '\0');
    return buf_is_good(headers, e);
}

bool
sign_link(
    const SignRequest *r, const S3Keys *keys, int64_t expires_s, SigningKey *kept, Buf *to, Err *e)
{
    const S3Pair host = {"host", r->host};
    S3Pair query[QUERY_MAX];
    char credential[S3_KEY_BYTES + SCOPE_BYTES], life[24], signature[HEX_BYTES];
    Buf canonical = buf_new(CANONICAL_BYTES_MAX);
    size_t queries = r->queries, query_at;
    Scope scope;
    bool ok;

    if (expires_s < 1 || expires_s > LINK_LIFE_S_MAX || queries > S3_PAIRS_MAX)
        return fail(
            e, INTERNAL, "a link of %zu pairs that lives %" PRId64 " s", queries, expires_s);
    if (!make_scope(r, &scope, e))
        return false;
    snprintf(credential, sizeof credential, "%s/%s", keys->access_key, scope.text);
    snprintf(life, sizeof life, "%" PRId64, expires_s);
    for (size_t i = 0; i < queries; i++)
        query[i] = r->query[i];
    query[queries++] = (S3Pair){"X-Amz-Algorithm", ALGORITHM};
    query[queries++] = (S3Pair){"X-Amz-Credential", credential};
    query[queries++] = (S3Pair){"X-Amz-Date", scope.stamp};
    query[queries++] = (S3Pair){"X-Amz-Expires", life};
    query[queries++] = (S3Pair){"X-Amz-SignedHeaders", host.name};
    query[queries++] = (S3Pair){"X-Amz-Security-Token", keys->token[0] ? keys->token : NULL};
    buf_printf(to, "%s?", *r->path ? r->path : "/");
    query_at = to->bytes;
    if (!sign_query(to, query, queries, e))
        return false;
    put_canonical(r, to->data + query_at, &host, 1, "UNSIGNED-PAYLOAD", &canonical);
    ok = make_signature(r, keys, &scope, &canonical, kept, signature, e);
    buf_free(&canonical);
    if (!ok)
        return false;
    buf_printf(to, "&X-Amz-Signature=%s", signature);
    return buf_is_good(to, e);
}
