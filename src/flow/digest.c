/* SHA-256 (FIPS 180-4) by OpenSSL, which uses the processor's own instructions where there are any.
 */
#include <openssl/evp.h>
#include <string.h>

#include "base/text.h"
#include "flow/sink.h"

typedef struct {
    Sink base;
    EVP_MD_CTX *context;
    char hex[65];
} DigestSink;

static bool
digest_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    DigestSink *d = (DigestSink *)s;

    if (EVP_DigestUpdate(d->context, data, bytes) != 1)
        return fail(e, INTERNAL, "the digest takes no more");
    return sink_write(s->next, data, bytes, e);
}

static void
digest_abort(Sink *s)
{
    DigestSink *d = (DigestSink *)s;

    EVP_MD_CTX_free(d->context);
    d->context = NULL;
}

static bool
digest_finish(Sink *s, Err *e)
{
    DigestSink *d = (DigestSink *)s;
    unsigned char sum[32];
    bool ok = EVP_DigestFinal_ex(d->context, sum, NULL) == 1;

    digest_abort(s);
    if (!ok)
        return fail(e, INTERNAL, "the digest does not end");
    text_hex(sum, sizeof sum, d->hex);
    return true;
}

static const SinkKind digest_sink = {"sha256", digest_write, digest_finish, digest_abort};

Sink *
digest_open(Sink *next, Arena *task, Err *e)
{
    DigestSink *d = arena_alloc(task, sizeof *d, e);

    if (!d)
        return NULL;
    d->base = (Sink){.kind = &digest_sink, .next = next};
    d->context = EVP_MD_CTX_new();
    if (d->context && EVP_DigestInit_ex(d->context, EVP_sha256(), NULL) == 1)
        return &d->base;
    digest_abort(&d->base);
    fail(e, MEMORY_LIMIT, "no memory for a digest");
    return NULL;
}

const char *
digest_hex(const Sink *digest)
{
    return ((const DigestSink *)digest)->hex;
}

bool
digest_text(const char *text, size_t bytes, char hex[65])
{
    unsigned char sum[32];
    bool ok = EVP_Digest(text, bytes, sum, NULL, EVP_sha256(), NULL) == 1;

    text_hex(sum, sizeof sum, hex);
    return ok;
}

const char *
digest_library_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION_STRING);
}
