#include "export/kinds.h"

#include <string.h>

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
    fail(e, CONFIG_INVALID, "S3_BUCKET is set, and this program has no S3 storage");
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

/* Whose keys: a pair from one family of names, ours first (s3.md 12.1). A token of the other family
 * belongs to the other pair. */
static void
take_keys(const Config *config, S3Spec *spec)
{
    spec->access_key = spec->secret_key = spec->session_token = spec->access_key_name = "";
    if (config->s3_anonymous)
        return;
    if (*config->s3_access_key) {
        spec->access_key = config->s3_access_key;
        spec->secret_key = config->s3_secret_key;
        spec->session_token = config->s3_session_token;
        spec->access_key_name = "S3_ACCESS_KEY";
    } else if (*config->aws_access_key_id) {
        spec->access_key = config->aws_access_key_id;
        spec->secret_key = config->aws_secret_access_key;
        spec->session_token = config->aws_session_token;
        spec->access_key_name = "AWS_ACCESS_KEY_ID";
    }
}

static S3Spec
s3_spec(const Config *config, bool signs)
{
    S3Spec spec = {
        .bucket = config->s3_bucket,
        .region = config->s3_region,
        .endpoint = config->s3_endpoint,
        .public_endpoint = config->s3_public_endpoint,
        .style = config->s3_style,
        .dualstack = config->aws_use_dualstack_endpoint,
        .fips = config->aws_use_fips_endpoint,
        .sign_access_key = signs ? config->sign_access_key : "",
        .sign_secret_key = signs ? config->sign_secret_key : "",
        .anonymous = config->s3_anonymous,
        .profile = config->aws_profile,
        .config_file = config->aws_config_file,
        .credentials_file = config->aws_shared_credentials_file,
        .role_arn = config->aws_role_arn,
        .role_session_name = config->aws_role_session_name,
        .web_identity_token_file = config->aws_web_identity_token_file,
        .sts_endpoint = config->aws_endpoint_url_sts,
        .container_relative_uri = config->aws_container_credentials_relative_uri,
        .container_full_uri = config->aws_container_credentials_full_uri,
        .container_token = config->aws_container_authorization_token,
        .container_token_file = config->aws_container_authorization_token_file,
        .metadata_disabled = config->aws_ec2_metadata_disabled,
        .metadata_endpoint = config->aws_ec2_metadata_service_endpoint,
        .metadata_mode = config->aws_ec2_metadata_service_endpoint_mode,
        .part_bytes = config->s3_part_bytes,
        .memory_bytes = config->s3_memory_bytes,
        .parallel = (unsigned)config->s3_parallel,
        .parts_max = (unsigned)config->s3_max_parts,
        .tries = (unsigned)config->s3_tries,
        .payload = config->s3_payload,
        .checksum = config->s3_checksum,
        .etag = config->s3_etag,
        .conditional = config->s3_conditional,
        .sse = strcmp(config->s3_sse, "none") == 0 ? "" : config->s3_sse,
        .sse_kms_key_id = config->s3_sse_kms_key_id,
        .storage_class = config->s3_storage_class,
        .bucket_owner = config->s3_bucket_owner,
        .tags = config->s3_tags,
        .ca_file = config->s3_ca_file,
        .connect_timeout_ms = config->s3_connect_timeout_ms,
        .idle_timeout_ms = config->s3_idle_timeout_ms,
        .list_version = (unsigned)config->s3_list_version,
        .url_encode = config->s3_url_encode,
    };

    take_keys(config, &spec);
    return spec;
}

StorageSpec
kinds_storage_spec(const Config *config, bool signs)
{
    StorageSpec spec = {
        .dir = config->files_dir,
        .bytes_max = (int64_t)FILE_BYTES_MAX_GIB << 30,
    };

    if (*config->s3_bucket)
        spec.s3 = s3_spec(config, signs);
    for (unsigned i = 0; signs && i < config->url_secret_keys && i < STORAGE_URL_KEYS_MAX; i++)
        spec.url_secret[spec.url_secrets++] = config->url_secret_key[i];
    return spec;
}

bool
kinds_judge_storage(const Kinds *kinds, const Config *config, Buf *to, Err *e)
{
    const StorageKind *kind = kinds_storage(kinds, config, e);
    StorageSpec spec = kinds_storage_spec(config, true);
    Buf none = buf_new(ERR_TEXT_BYTES);
    bool ok;

    if (!kind)
        return false;
    ok = !kind->judge || kind->judge(&spec, to ? to : &none, e);
    buf_free(&none);
    return ok;
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
