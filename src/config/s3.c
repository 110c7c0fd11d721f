/* What must hold among the options of the S3 storage. Where the bucket is judges the driver itself
 * (StorageKind.judge). */
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "config/config_in.h"

enum {
    KEY_BYTES_MAX = 127,
    SECRET_BYTES_MAX = 255,
    TOKEN_BYTES_MAX = 8191,
    NAME_BYTES_MAX = 64,
    ARN_BYTES_MAX = 2048,
    OWNER_BYTES = 12,
    PARTS_IN_MEMORY_MIN = 2, /* one that is filled, one on its way */
};

/* What a child has in memory besides the parts. */
static const uint64_t beside_bytes = 32 << 20;

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

static const char *
value_of(const Config *config, const char *key)
{
    return *(const char *const *)((const char *)config + option_find(key)->at);
}

/* Texts that go into hosts, paths and headers of requests: none of these may end one early. */
static bool
check_texts(const Config *config, Err *e)
{
    static const char visible[] = LETTERS DIGITS "!#$%&'()*+,-./:;<=>?@[]^_`{|}~";
    static const struct {
        const char *key, *may_have;
        size_t bytes_min, bytes_max;
        const char *expected;
    } texts[] = {
        {"s3_access_key", visible, 1, KEY_BYTES_MAX, "a key without blanks"},
        {"s3_session_token", visible, 1, TOKEN_BYTES_MAX, "a token without blanks"},
        {"sign_access_key", visible, 1, KEY_BYTES_MAX, "a key without blanks"},
        {"s3_storage_class", LETTERS DIGITS "_-", 1, NAME_BYTES_MAX, "a name like STANDARD_IA"},
        {"s3_bucket_owner", DIGITS, OWNER_BYTES, OWNER_BYTES, "an account's 12 digits"},
        {"s3_sse_kms_key_id", visible, 1, ARN_BYTES_MAX, "the id or ARN of a key"},
        {"aws_access_key_id", visible, 1, KEY_BYTES_MAX, "a key without blanks"},
        {"aws_session_token", visible, 1, TOKEN_BYTES_MAX, "a token without blanks"},
        {"aws_role_arn", visible, 1, ARN_BYTES_MAX, "the ARN of a role"},
        {"aws_role_session_name", LETTERS DIGITS "_=,.@+-", 2, NAME_BYTES_MAX,
            "2 to 64 letters, digits and _=,.@+-"},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = value_of(config, texts[i].key);
        size_t bytes = strlen(text);

        if (bytes > 0 && (text[strspn(text, texts[i].may_have)] || bytes < texts[i].bytes_min ||
                             bytes > texts[i].bytes_max))
            ok = fail(e, CONFIG_INVALID, "%s: expected %s, at most %zu characters", texts[i].key,
                texts[i].expected, texts[i].bytes_max);
    }
    return ok;
}

/* A blank at an end came with copying. */
static bool
check_secret(const char *key, const char *secret, Err *e)
{
    size_t bytes = strlen(secret);

    if (bytes > SECRET_BYTES_MAX)
        return fail(e, CONFIG_INVALID, "%s: expected at most %d characters", key, SECRET_BYTES_MAX);
    if (bytes > 0 && (secret[0] == ' ' || secret[bytes - 1] == ' '))
        return fail(e, CONFIG_INVALID, "%s: begins or ends with a blank", key);
    return true;
}

/* Keys come as a pair, and both from one family of names: half of each would be somebody's key with
 * somebody else's secret. */
static bool
check_pair(const Config *config, const char *key, const char *secret, Err *e)
{
    bool has_key = *value_of(config, key), has_secret = *value_of(config, secret);

    if (has_key != has_secret)
        return fail(e, CONFIG_INVALID, "%s and %s go together: %s is missing", key, secret,
            has_key ? secret : key);
    return check_secret(secret, value_of(config, secret), e);
}

static bool
check_keys(const Config *config, Err *e)
{
    bool ok = check_pair(config, "s3_access_key", "s3_secret_key", e);

    ok = check_pair(config, "sign_access_key", "sign_secret_key", e) && ok;
    if (*config->s3_session_token && !*config->s3_access_key && !*config->s3_secret_key)
        ok = fail(e, CONFIG_INVALID,
            "s3_session_token: goes with s3_access_key and s3_secret_key, and they are missing");
    if (config->s3_anonymous && *config->s3_access_key)
        ok = fail(e, CONFIG_INVALID, "s3_anonymous: is on, and s3_access_key is set: remove one");
    /* Whoever else these are for, they are for us only if they would be used. */
    if (*config->s3_bucket && !*config->s3_access_key && !config->s3_anonymous)
        ok = check_pair(config, "aws_access_key_id", "aws_secret_access_key", e) && ok;
    return ok;
}

static bool
check_encryption(const Config *config, Err *e)
{
    static const char *const archives[] = {"GLACIER", "DEEP_ARCHIVE"};
    bool ok = true;

    if (*config->s3_sse_kms_key_id && !text_starts(config->s3_sse, "aws:kms"))
        ok = fail(e, CONFIG_INVALID,
            "s3_sse_kms_key_id: goes with s3_sse aws:kms or aws:kms:dsse, and that is %s",
            config->s3_sse);
    for (size_t i = 0; i < sizeof archives / sizeof archives[0]; i++)
        if (strcmp(config->s3_storage_class, archives[i]) == 0)
            ok = fail(e, CONFIG_INVALID,
                "s3_storage_class: what lies in %s cannot be downloaded when somebody asks",
                archives[i]);
    return ok;
}

/* The parts of an export are inside of what it may use. Unless somebody named both, s3_memory goes
 * by the limit. */
static bool
derive_memory(Config *config, const Origins *origins, Err *e)
{
    uint64_t least = PARTS_IN_MEMORY_MIN * config->s3_part_bytes;
    uint64_t limit = config->task_memory_limit_bytes;
    uint64_t room = limit > beside_bytes ? limit - beside_bytes : 0;

    if (config->s3_memory_bytes > room && origin_of(origins, "s3_memory")->from == FROM_DEFAULT)
        config->s3_memory_bytes = room;
    else if (config->s3_memory_bytes < least &&
             origin_of(origins, "s3_memory")->from == FROM_DEFAULT)
        config->s3_memory_bytes = least;
    if (config->s3_memory_bytes > room)
        return fail(e, CONFIG_INVALID,
            "s3_memory: with 32MiB for all else it must be within task_memory_limit: raise that, "
            "or "
            "lower this");
    if (config->s3_memory_bytes < least)
        return fail(e, CONFIG_INVALID,
            "s3_part: %d parts must be within s3_memory, and that, with 32MiB for all else, within "
            "task_memory_limit",
            PARTS_IN_MEMORY_MIN);
    return true;
}

static bool
check_ca_file(const Config *config, Err *e)
{
    if (!*config->s3_ca_file || access(config->s3_ca_file, R_OK) == 0)
        return true;
    return fail(e, CONFIG_INVALID, "s3_ca_file: cannot read %s: %m", config->s3_ca_file);
}

/* Somebody set up S3 and forgot what switches it on. */
static void
warn_of_no_bucket(const Config *config, Origins *origins, Arena *arena)
{
    for (const Option *o = options; o < options + OPTIONS; o++) {
        const Origin *origin = &origins->option[o - options];

        if (origin->from == FROM_DEFAULT || strstr(origin->name, "AWS_") ||
            !(text_starts(o->name, "s3_") || text_starts(o->name, "sign_")))
            continue;
        warning_add(origins, arena,
            "%s is set, but S3_BUCKET is not: files go to a local directory, %s", o->name,
            config->files_dir);
        return;
    }
}

bool
config_derive_s3(Config *config, Origins *origins, Arena *arena, Err *e)
{
    bool ok = check_texts(config, e);

    ok = check_keys(config, e) && ok;
    ok = check_web_url("aws_endpoint_url_sts", "https://sts.example.com",
             &config->aws_endpoint_url_sts, arena, e) &&
         ok;
    ok = check_encryption(config, e) && ok;
    if (*config->s3_bucket) {
        ok = derive_memory(config, origins, e) && ok;
        ok = check_ca_file(config, e) && ok;
    } else if (!config->supervisor) {
        warn_of_no_bucket(config, origins, arena);
    }
    return ok;
}
