/*
 * Download links of the local store (security.md 4): HMAC-SHA256 (RFC 2104) over key, expiry and
 * file name, compared in constant time with every key of the ring.
 */
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "storage/file/file_in.h"

enum { SIGNATURE_BYTES = 32, SIGNED_TEXT_BYTES = STORAGE_KEY_BYTES + 512 };

bool
link_key_make(const char *secret, uint8_t key[LINK_KEY_BYTES], Err *e)
{
    static const unsigned char label[] = "rowferry/files/v1";
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    size_t bytes = LINK_KEY_BYTES;
    bool ok = context && EVP_PKEY_derive_init(context) > 0 &&
              EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) > 0 &&
              EVP_PKEY_CTX_set1_hkdf_key(
                  context, (const unsigned char *)secret, (int)strlen(secret)) > 0 &&
              EVP_PKEY_CTX_add1_hkdf_info(context, label, (int)sizeof label - 1) > 0 &&
              EVP_PKEY_derive(context, key, &bytes) > 0;

    EVP_PKEY_CTX_free(context);
    return ok || fail(e, INTERNAL, "cannot derive the key of the links");
}

/* What is signed: every length is written, so that no two sets of parts give the same text. */
static bool
make_signature(const uint8_t link_key[LINK_KEY_BYTES], const char *key, int64_t expires_wall_s,
    const char *name, char hex[2 * SIGNATURE_BYTES + 1])
{
    char text[SIGNED_TEXT_BYTES];
    uint8_t digest[SIGNATURE_BYTES];
    unsigned digest_bytes = 0;
    int bytes = snprintf(text, sizeof text, "rowferry-files-v1\nGET\n%zu:%s\n%" PRId64 "\n%zu:%s\n",
        strlen(key), key, expires_wall_s, strlen(name), name);

    if (bytes < 0 || (size_t)bytes >= sizeof text)
        return false;
    if (!HMAC(EVP_sha256(), link_key, LINK_KEY_BYTES, (const unsigned char *)text, (size_t)bytes,
            digest, &digest_bytes))
        return false;
    text_hex(digest, sizeof digest, hex);
    return true;
}

bool
link_sign(Storage *s, const char *key, const SignSpec *spec, char *url, size_t url_bytes,
    int64_t *expires_wall_s, Err *e)
{
    const FileStorage *f = (const FileStorage *)s;
    char hex[2 * SIGNATURE_BYTES + 1];
    Buf to = buf_new(url_bytes);
    bool ok = false;

    if (f->link_keys == 0)
        return fail(e, INTERNAL, "this process has no key for links");
    if (!storage_key_check(key, e))
        return false;
    if (strlen(spec->name) > 255 || spec->expires_wall_s <= 0 ||
        !make_signature(f->link_key[0], key, spec->expires_wall_s, spec->name, hex))
        return fail(e, INTERNAL, "a link that cannot be signed");
    *expires_wall_s = spec->expires_wall_s;
    buf_text(&to, spec->base_url);
    buf_text(&to, "/files/");
    text_percent_encode(&to, key, strlen(key), true);
    buf_printf(&to, "?expires=%" PRId64 "&name=", spec->expires_wall_s);
    text_percent_encode(&to, spec->name, strlen(spec->name), false);
    buf_printf(&to, "&signature=%s", hex);
    if (!to.failed && text_copy(url, url_bytes, to.data))
        ok = true;
    else
        fail(e, INTERNAL, "a link longer than %zu bytes", url_bytes);
    buf_free(&to);
    return ok;
}

/* Every escape of the target is one, and none is a NUL. */
static bool
is_readable(const char *target)
{
    for (const char *at = target; (at = strchr(at, '%')); at += 3) {
        char byte;
        size_t decoded;

        if (!text_percent_decode(at, strnlen(at, 3), &byte, 1, &decoded) || byte == '\0')
            return false;
    }
    return true;
}

/* The value of one query name; twice is an error. Absent, or too long to have been signed: `*there`
 * is false. */
static bool
take_value(const char *query, const char *name, char *to, size_t to_bytes, bool *there, Err *e)
{
    size_t name_bytes = strlen(name);
    bool seen = false;

    *there = false;
    to[0] = '\0';
    for (const char *at = query; *at;) {
        size_t pair = strcspn(at, "&");

        if (pair >= name_bytes && memcmp(at, name, name_bytes) == 0 &&
            (pair == name_bytes || at[name_bytes] == '=')) {
            size_t from = pair == name_bytes ? pair : name_bytes + 1, decoded = 0;

            if (seen)
                return fail(e, INVALID_REQUEST, "%s stands twice in the link", name);
            seen = true;
            *there = text_percent_decode(at + from, pair - from, to, to_bytes - 1, &decoded);
            to[decoded] = '\0';
        }
        at += pair;
        if (*at == '&')
            at++;
    }
    return true;
}

static bool
signature_fits(const FileStorage *f, const char *key, const char *expires, const char *name,
    const char *signature, int64_t *expires_wall_s)
{
    uint64_t seconds;
    bool fits = false;

    if (strlen(signature) != 2 * SIGNATURE_BYTES || !text_to_uint(expires, INT64_MAX, &seconds))
        return false;
    *expires_wall_s = (int64_t)seconds;
    for (unsigned i = 0; i < f->link_keys; i++) {
        char want[2 * SIGNATURE_BYTES + 1];

        if (make_signature(f->link_key[i], key, *expires_wall_s, name, want))
            fits |= CRYPTO_memcmp(want, signature, 2 * SIGNATURE_BYTES) == 0;
    }
    return fits;
}

bool
link_check(const FileStorage *f, const char *target, int64_t now_wall_s,
    char key[STORAGE_KEY_BYTES + 1], char name[256], Err *e)
{
    char expires[24], signature[72];
    bool has_key, has_expires, has_name, has_signature;
    size_t path_bytes = strcspn(target, "?"), decoded = 0;
    const char *query = target[path_bytes] ? target + path_bytes + 1 : "";
    int64_t expires_wall_s = 0;

    if (!text_starts(target, "/files/"))
        return fail(e, NOT_FOUND, "no link of the local store");
    if (!is_readable(target))
        return fail(e, INVALID_REQUEST, "the link has an escape that is none");
    if (!take_value(query, "expires", expires, sizeof expires, &has_expires, e) ||
        !take_value(query, "name", name, 256, &has_name, e) ||
        !take_value(query, "signature", signature, sizeof signature, &has_signature, e))
        return false;
    has_key = text_percent_decode(target + 7, path_bytes - 7, key, STORAGE_KEY_BYTES, &decoded);
    key[decoded] = '\0';
    if (!has_key || !has_expires || !has_name || !has_signature ||
        !signature_fits(f, key, expires, name, signature, &expires_wall_s))
        return fail(e, FORBIDDEN, "the signature of the link does not fit");
    if (now_wall_s >= expires_wall_s)
        return fail(e, LINK_EXPIRED, "the link ended at %" PRId64, expires_wall_s);
    return true;
}
