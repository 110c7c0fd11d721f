#include "export/kinds.h"

#include <string.h>

#include "base/buf.h"

enum { FILE_BYTES_MAX_GIB = 50, LOCK_WAIT_MS = 2000 };

const SourceKind *
kinds_source(const Kinds *kinds, const char *url)
{
    size_t bytes = strcspn(url, ":");

    for (const SourceKind *const *kind = kinds->source; *kind; kind++)
        for (const char *const *scheme = (*kind)->schemes; *scheme; scheme++)
            if (strlen(*scheme) == bytes && memcmp(*scheme, url, bytes) == 0)
                return *kind;
    return NULL;
}

static bool
fail_scheme(const Kinds *kinds, const ConfigSource *source, Err *e)
{
    Buf known = buf_new(ERR_TEXT_BYTES);

    for (const SourceKind *const *kind = kinds->source; *kind; kind++)
        for (const char *const *scheme = (*kind)->schemes; *scheme; scheme++)
            buf_printf(&known, "%s%s:", known.bytes > 0 ? ", " : "", *scheme);
    fail(e, CONFIG_INVALID, "%s: this version has no driver for %.*s:, only for %s", source->place,
        (int)strcspn(source->url, ":"), source->url, known.data);
    buf_free(&known);
    return false;
}

bool
kinds_judge_sources(const Kinds *kinds, const Config *config, Err *e)
{
    for (size_t i = 0; i < config->sources; i++) {
        const ConfigSource *source = &config->source[i];
        const SourceKind *kind = kinds_source(kinds, source->url);
        Err why = {0};

        if (!kind)
            return fail_scheme(kinds, source, e);
        if (kind->judge && !kind->judge(source->url, &why))
            return fail(e, CONFIG_INVALID, "%s: %s", source->place, err_root(&why));
    }
    return true;
}

void
kinds_let_go(const Kinds *kinds)
{
    for (const SourceKind *const *kind = kinds->source; *kind; kind++)
        if ((*kind)->let_go)
            (*kind)->let_go();
}

const EncoderKind *
kinds_format(const Kinds *kinds, const char *name)
{
    for (const EncoderKind *const *kind = kinds->format; *kind; kind++)
        if (strcmp((*kind)->name, name) == 0)
            return *kind;
    return NULL;
}

const CodecKind *
kinds_codec(const Kinds *kinds, const char *name)
{
    for (const CodecKind *const *kind = kinds->codec; *kind; kind++)
        if (strcmp((*kind)->name, name) == 0)
            return *kind;
    return NULL;
}

const StorageKind *
kinds_storage(const Kinds *kinds, const Config *config, Err *e)
{
    const char *name = *config->s3_bucket ? "s3" : "file";

    for (const StorageKind *const *kind = kinds->storage; *kind; kind++)
        if (strcmp((*kind)->name, name) == 0)
            return *kind;
    fail(e, CONFIG_INVALID,
        "S3_BUCKET is set, but this version has no S3 storage yet: unset it for local files");
    return NULL;
}

const QueueKind *
kinds_queue(const Kinds *kinds, const Config *config, Err *e)
{
    const char *name = *config->redis_url ? "redis" : "embedded";

    for (const QueueKind *const *kind = kinds->queue; *kind; kind++)
        if (strcmp((*kind)->name, name) == 0)
            return *kind;
    fail(e, CONFIG_INVALID,
        "REDIS_URL is set, but this version has no Redis queue yet: unset it for the embedded one");
    return NULL;
}

SourceSpec
kinds_source_spec(const ConfigSource *source)
{
    return (SourceSpec){
        .name = source->name,
        .url = source->url,
        .user = source->user,
        .password = source->password,
        .timeout_ms = source->statement_timeout_ms,
    };
}

StorageSpec
kinds_storage_spec(const Config *config, bool signs)
{
    StorageSpec spec = {
        .dir = config->files_dir,
        .bytes_max = (int64_t)FILE_BYTES_MAX_GIB << 30,
    };

    for (unsigned i = 0; signs && i < config->url_secret_keys && i < STORAGE_URL_KEYS_MAX; i++)
        spec.url_secret[spec.url_secrets++] = config->url_secret_key[i];
    return spec;
}

QueueSpec
kinds_queue_spec(const Config *config, bool writes, bool wakes)
{
    return (QueueSpec){
        .dir = config->data_dir,
        .writes = writes,
        .wakes = wakes,
        .limit = config->queue_limit,
        .busy_ms = LOCK_WAIT_MS,
    };
}
