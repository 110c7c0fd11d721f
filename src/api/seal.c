#include "api/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/text.h"

bool
seal_hash(const char *text, size_t bytes, char hex[2 * SEAL_BYTES + 1], Err *e)
{
    uint8_t sum[SEAL_BYTES];

    if (EVP_Digest(text, bytes, sum, NULL, EVP_sha256(), NULL) != 1)
        return fail(e, INTERNAL, "no digest of %zu bytes", bytes);
    text_hex(sum, sizeof sum, hex);
    return true;
}

bool
seal_make(const char *secret, const char *label, const char *text, size_t bytes,
    uint8_t seal[SEAL_BYTES], Err *e)
{
    uint8_t key[SEAL_BYTES];
    bool ok = HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)label,
                  strlen(label), key, NULL) &&
              HMAC(EVP_sha256(), key, SEAL_BYTES, (const unsigned char *)text, bytes, seal, NULL);

    OPENSSL_cleanse(key, sizeof key);
    return ok || fail(e, INTERNAL, "no seal of %zu bytes", bytes);
}

bool
seal_equals(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    return CRYPTO_memcmp(a, b, bytes) == 0;
}
