/*
 * Credentials that somebody hands out: STS (AssumeRole, AssumeRoleWithWebIdentity, API version
 * 2011-06-15), the instance's metadata (IMDSv2, never v1), the container's endpoint (ECS, EKS Pod
 * Identity), a process (credential_process, version 1).
 *
 * What came is in memory that is reserved at once and wiped; nothing of it gets into a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "net/address.h"
#include "net/url.h"
#include "storage/s3/credentials_in.h"

enum {
    ANSWER_BYTES = 64 << 10,
    FORM_BYTES = 128 << 10,
    TOKEN_FILE_BYTES = 20 << 10, /* STS takes 20,000 characters */
    URL_ROOM = FILE_PATH_BYTES,
    PROCESS_MS = 60 * 1000,
    SAID_BYTES = 2048,
    WORDS_MAX = 64,
    JSON_DEPTH = 8,
    BACKOFF_MS = 100,
    BACKOFF_MS_MAX = 2000,
    SLICE_MS = 100,
    HEADERS_MAX = 16,
    INSTANCE_MS = 2000, /* in a container the answer may be swallowed on its way (hop limit 1) */
    INSTANCE_CONNECT_MS = 1000,
    INSTANCE_TRIES = 2,
    CONTAINER_MS = 5000,
    CONTAINER_CONNECT_MS = 1000,
    CONTAINER_TRIES = 3,
    STS_MS = 8000,
    STS_CONNECT_MS = 5000,
    STS_TRIES = 3,
};

#define INSTANCE_IPV4 "http://169.254.169.254"
#define INSTANCE_IPV6 "http://[fd00:ec2::254]"
#define CONTAINER_HOST "http://169.254.170.2"
#define SESSION_NAME "rowferry"
#define STS_VERSION "2011-06-15"

/* --- asking over HTTP --- */

typedef struct {
    const ProviderCall *call;
    HttpClient *http;
    int status;
    Buf body; /* of the last answer, whatever its status */
} Asking;

typedef struct {
    const char *whom; /* for people */
    HttpCall http;    /* timeouts and sink are set here */
    int64_t timeout_ms, connect_timeout_ms;
    unsigned tries;
    bool is_sts; /* its errors are XML */
} Question;

static bool
take_body(const void *data, size_t bytes, void *with)
{
    Asking *a = with;

    buf_put(&a->body, data, bytes);
    return !a->body.failed;
}

static bool
goes_on(void *with)
{
    Asking *a = with;

    return !a->call->go_on || a->call->go_on(a->call->with);
}

/* In slices, so that an end is noticed; false: it has come. */
static bool
pause_before(Asking *a, unsigned try)
{
    int64_t most = (int64_t)BACKOFF_MS << try, wait_ms;
    uint32_t number = 0;

    (void)!getrandom(&number, sizeof number, 0);
    if (most > BACKOFF_MS_MAX)
        most = BACKOFF_MS_MAX;
    for (wait_ms = (int64_t)(number % (uint32_t)most) + 1; wait_ms > 0; wait_ms -= SLICE_MS) {
        int64_t slice_ms = wait_ms < SLICE_MS ? wait_ms : SLICE_MS;

        if (!goes_on(a))
            return false;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)slice_ms * 1000000}, NULL);
    }
    return goes_on(a);
}

/* What libcurl says, without the URL before it: some are as good as a key. */
static const char *
reason_of(const Err *why, const char *url)
{
    const char *text = err_root(why);
    Buf shown = buf_new(2 * URL_BYTES_MAX);

    url_show(url, &shown);
    buf_text(&shown, ": ");
    if (why->code == ERR_WAITED_TOO_LONG)
        text = "no whole answer in time";
    else if (why->code == ERR_CANCELLED || why->code == ERR_SIZE_LIMIT)
        text = "an answer that is larger than it may be";
    else if (text_starts(text, shown.data))
        text += shown.bytes;
    else
        text = err_sentence(why->code);
    buf_free(&shown);
    return text;
}

/* One try. True: there is an answer. */
static bool
ask_once(Asking *a, const Question *q, Err *e)
{
    HttpCall call = q->http;
    HttpAnswer answer;
    Err why = {0};

    buf_clear(&a->body);
    a->status = 0;
    call.timeout_ms = q->timeout_ms;
    call.connect_timeout_ms = q->connect_timeout_ms;
    call.answer_bytes_max = ANSWER_BYTES;
    call.sink = take_body;
    call.go_on = goes_on;
    call.with = a;
    call.ca_file = *a->call->spec->ca_file ? a->call->spec->ca_file : NULL;
    if (!http_call(a->http, &call, &answer, &why))
        return fail(e, STORAGE_UNAVAILABLE, "%s: %s", q->whom, reason_of(&why, q->http.url));
    a->status = answer.status;
    if (answer.status < 200 || answer.status > 299)
        buf_put(&a->body, answer.body.data, answer.body.bytes);
    buf_wipe(&answer.body);
    http_answer_free(&answer);
    return true;
}

/* Codes of STS that stand for a moment's trouble, though their status is 400. */
static bool
is_passing(const char *code)
{
    return strcmp(code, "IDPCommunicationError") == 0 || strcmp(code, "Throttling") == 0 ||
           strcmp(code, "ThrottlingException") == 0 || strcmp(code, "RequestTimeout") == 0;
}

/* Fills `e` for an answer that is none of 2xx; *again: it may help to ask again. The message of an
 * STS is left out: it may quote what it was sent. */
static bool
fail_answer(const Asking *a, const Question *q, bool *again, Err *e)
{
    S3Error error = {0};

    if (q->is_sts)
        (void)answer_error(a->body.data, a->body.bytes, &error);
    *again = a->status >= 500 || a->status == 429 || a->status == 408 || is_passing(error.code);
    return fail_code(e, *again ? ERR_STORAGE_UNAVAILABLE : ERR_STORAGE_DENIED, "%s answers %d%s%s",
        q->whom, a->status, *error.code ? " " : "", error.code);
}

/* Until there is an answer of 2xx, or no try left. */
static bool
ask(Asking *a, const Question *q, Err *e)
{
    for (unsigned try = 1;; try++) {
        Err why = {0};
        bool again = true;

        if (ask_once(a, q, &why)) {
            if (a->status >= 200 && a->status <= 299)
                return true;
            fail_answer(a, q, &again, &why);
        }
        if (!again || try >= q->tries || !pause_before(a, try)) {
            *e = why;
            return false;
        }
    }
}

/* --- what came --- */

static void
wipe_text(json_t *text)
{
    if (json_is_string(text))
        explicit_bzero((char *)(uintptr_t)json_string_value(text), json_string_length(text));
}

/* A member that must be there; "" if it may be missing and is. */
static bool
take_member(json_t *object, const char *name, bool may_miss, char *to, size_t to_bytes)
{
    json_t *member = json_object_get(object, name);
    bool ok = may_miss && (!member || json_is_null(member));

    if (json_is_string(member))
        ok = text_copy(to, to_bytes, json_string_value(member));
    wipe_text(member);
    return ok;
}

/* Names differ by who hands them out. */
typedef struct {
    const char *whom, *token;
    bool says_success; /* "Code": "Success" */
    bool says_version; /* "Version": 1 */
    bool may_last;     /* without Expiration they do not end, without a token they need none */
} Answering;

static bool
take_end(const char *text, int64_t *ends_wall_s)
{
    int64_t wall_us;

    if (!*text) {
        *ends_wall_s = 0;
        return true;
    }
    if (!time_parse(text, strlen(text), &wall_us, NULL))
        return false;
    *ends_wall_s = wall_us / 1000000;
    return *ends_wall_s > 0;
}

static bool
take_keys(json_t *object, const Answering *how, S3Keys *keys, Err *e)
{
    char end[TIME_TEXT_BYTES] = "";
    const char *code = json_text_or(object, "Code", "");

    if (!json_is_object(object))
        return fail(e, STORAGE_DENIED, "%s gives no JSON object", how->whom);
    if (how->says_version && json_int_or(object, "Version", 0) != 1)
        return fail(e, STORAGE_DENIED, "%s gives no credentials of version 1", how->whom);
    if (how->says_success && strcmp(code, "Success") != 0)
        return fail(e, STORAGE_DENIED, "%s has no credentials: %.60s", how->whom, code);
    if (!take_member(object, "AccessKeyId", false, keys->access_key, sizeof keys->access_key))
        return fail(e, STORAGE_DENIED, "%s gives no AccessKeyId", how->whom);
    if (!take_member(object, "SecretAccessKey", false, keys->secret_key, sizeof keys->secret_key))
        return fail(e, STORAGE_DENIED, "%s gives no SecretAccessKey", how->whom);
    if (!take_member(object, how->token, how->may_last, keys->token, sizeof keys->token))
        return fail(e, STORAGE_DENIED, "%s gives no %s", how->whom, how->token);
    if (!take_member(object, "Expiration", how->may_last, end, sizeof end) ||
        !take_end(end, &keys->ends_wall_s))
        return fail(e, STORAGE_DENIED, "%s gives no time as Expiration", how->whom);
    return keys_are_sound(keys) ||
           fail(e, STORAGE_DENIED, "what %s gives cannot be keys", how->whom);
}

static bool
read_keys(const char *text, size_t bytes, const Answering *how, S3Keys *keys, Err *e)
{
    Err why = {0}; /* may quote the text */
    json_t *object = json_parse(text, bytes, JSON_DEPTH, &why);
    bool ok;

    if (!object)
        return fail(e, STORAGE_DENIED, "what %s gives is no JSON", how->whom);
    ok = take_keys(object, how, keys, e);
    json_decref(object);
    return ok;
}

/* A file with a token, as it is now: they are exchanged while we run. The line's end is cut off. */
static bool
read_token(const char *path, Buf *to, Err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *room;
    ssize_t got = 0;

    if (fd < 0)
        return fail(e, STORAGE_DENIED, "cannot open %s: %m", path);
    while ((room = buf_reserve(to, TOKEN_FILE_BYTES - to->bytes)) &&
           (got = read(fd, room, TOKEN_FILE_BYTES - to->bytes)) > 0)
        buf_wrote(to, (size_t)got);
    if (got < 0)
        fail(e, STORAGE_DENIED, "cannot read %s: %m", path);
    close(fd);
    if (got < 0)
        return false;
    while (to->bytes > 0 && strchr(" \t\r\n", to->data[to->bytes - 1]))
        to->data[--to->bytes] = '\0';
    if (to->bytes == 0 || to->bytes >= TOKEN_FILE_BYTES - 1)
        return fail(e, STORAGE_DENIED, "%s holds no token, or one of more than %d bytes", path,
            TOKEN_FILE_BYTES - 2);
    return true;
}

/* --- STS --- */

/* One parameter of a form (application/x-www-form-urlencoded). */
static void
put_parameter(Buf *form, const char *name, const char *value)
{
    if (!*value)
        return;
    buf_printf(form, "%s%s=", form->bytes ? "&" : "", name);
    text_percent_encode(form, value, strlen(value), false);
}

static void
put_role(Buf *form, const char *action, const Role *role)
{
    char duration[24];

    put_parameter(form, "Action", action);
    put_parameter(form, "Version", STS_VERSION);
    put_parameter(form, "RoleArn", role->arn);
    put_parameter(form, "RoleSessionName", *role->session ? role->session : SESSION_NAME);
    put_parameter(form, "ExternalId", role->external_id);
    (void)snprintf(duration, sizeof duration, "%" PRId64, role->duration_s);
    if (role->duration_s > 0)
        put_parameter(form, "DurationSeconds", duration);
}

/* Where STS is, and which region is signed for. */
typedef struct {
    char url[URL_ROOM], host[S3_HOST_BYTES], path[S3_HOST_BYTES], region[S3_REGION_BYTES];
} Sts;

static bool
parse_sts(Sts *sts, Err *e)
{
    Arena *arena = arena_new(4 * URL_BYTES_MAX);
    Err ignored = {0};
    Url url;
    bool ok = false;
    int bytes;

    if (arena && url_parse(sts->url, arena, &url, &ignored) && *url.host && !url.query) {
        bool own_port = url.port == (strcmp(url.scheme, "https") == 0 ? 443 : 80);

        bytes = snprintf(sts->host, sizeof sts->host, url.host_is_ipv6 ? "[%s]" : "%s", url.host);
        if (bytes > 0 && (size_t)bytes < sizeof sts->host && url.port && !own_port)
            bytes += snprintf(sts->host + bytes, sizeof sts->host - (size_t)bytes, ":%u", url.port);
        ok = bytes > 0 && (size_t)bytes < sizeof sts->host &&
             text_copy(sts->path, sizeof sts->path, *url.path ? url.path : "/");
    }
    arena_free(arena);
    return ok || fail(e, STORAGE_DENIED, "the address of STS is no URL: AWS_ENDPOINT_URL_STS");
}

static bool
find_sts(const ProviderCall *call, Sts *sts, Err *e)
{
    const char *region = *call->spec->region   ? call->spec->region
                         : *call->plan->region ? call->plan->region
                                               : "us-east-1";
    int bytes;

    if (!text_copy(sts->region, sizeof sts->region, region) ||
        region[strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")])
        return fail(e, STORAGE_DENIED, "the region is no name of one: S3_REGION");
    if (*call->spec->sts_endpoint || *call->plan->endpoint)
        bytes = snprintf(sts->url, sizeof sts->url, "%s",
            *call->spec->sts_endpoint ? call->spec->sts_endpoint : call->plan->endpoint);
    else
        bytes = snprintf(sts->url, sizeof sts->url, "https://sts%s.%s.%s/",
            call->spec->fips ? "-fips" : "", region, site_aws_domain(region));
    if (bytes < 0 || (size_t)bytes >= sizeof sts->url)
        return fail(e, STORAGE_DENIED, "the address of STS is too long: AWS_ENDPOINT_URL_STS");
    return parse_sts(sts, e);
}

static bool
post_form(Asking *a, const Sts *sts, const Buf *form, const char *const *header, Err *e)
{
    const Question q = {
        .whom = "STS",
        .http = {.method = "POST",
            .url = sts->url,
            .header = header,
            .body = form->data,
            .body_bytes = form->bytes},
        .timeout_ms = STS_MS,
        .connect_timeout_ms = STS_CONNECT_MS,
        .tries = STS_TRIES,
        .is_sts = true,
    };

    return ask(a, &q, e);
}

#define FORM_TYPE "application/x-www-form-urlencoded; charset=utf-8"

static bool
take_sts_answer(Asking *a, S3Keys *keys, Err *e)
{
    Err why = {0}; /* may quote the text */

    if (!answer_credentials(a->body.data, a->body.bytes, keys, &why) || !keys_are_sound(keys))
        return fail(e, STORAGE_UNAVAILABLE, "the answer of STS holds no credentials");
    return true;
}

/* AssumeRoleWithWebIdentity: the token is who we are; nothing is signed. */
static bool
ask_web_identity(Asking *a, const Plan *plan, S3Keys *keys, Err *e)
{
    static const char *const header[] = {"Content-Type: " FORM_TYPE, NULL};
    Buf form = buf_new(FORM_BYTES), token = buf_new(TOKEN_FILE_BYTES);
    Sts sts;
    bool ok = buf_reserve(&form, FORM_BYTES) && find_sts(a->call, &sts, e) &&
              read_token(plan->token_file, &token, e);

    if (ok) {
        put_role(&form, "AssumeRoleWithWebIdentity", &plan->web);
        put_parameter(&form, "WebIdentityToken", token.data);
        ok = buf_is_good(&form, e) && post_form(a, &sts, &form, header, e) &&
             take_sts_answer(a, keys, e);
    }
    buf_wipe(&token);
    buf_wipe(&form);
    return ok;
}

static bool
hash_form(const Buf *form, char hex[S3_DIGEST_BYTES], Err *e)
{
    uint8_t hash[(S3_DIGEST_BYTES - 1) / 2];

    if (EVP_Digest(form->data, form->bytes, hash, NULL, EVP_sha256(), NULL) != 1)
        return fail(e, INTERNAL, "SHA-256 cannot be made");
    text_hex(hash, sizeof hash, hex);
    return true;
}

/* Headers of a signed form, from text that lies NUL by NUL. */
static bool
sign_form(const Sts *sts, const Buf *form, const S3Keys *keys, Buf *text,
    const char *header[HEADERS_MAX], Err *e)
{
    const S3Pair type = {"content-type", FORM_TYPE};
    char payload[S3_DIGEST_BYTES];
    SigningKey kept = {0};
    size_t count = 0;
    bool ok =
        hash_form(form, payload, e) && sign_request(&(SignRequest){.method = "POST",
                                                        .host = sts->host,
                                                        .path = sts->path,
                                                        .header = &type,
                                                        .headers = 1,
                                                        .payload = payload,
                                                        .region = sts->region,
                                                        .service = "sts",
                                                        .now_wall_s = time_wall_us() / 1000000},
                                           keys, &kept, text, e);

    explicit_bzero(&kept, sizeof kept);
    for (const char *at = text->data; ok && at < text->data + text->bytes; at += strlen(at) + 1) {
        if (count + 1 == HEADERS_MAX)
            return fail(e, INTERNAL, "too many headers");
        header[count++] = at;
    }
    header[count] = NULL;
    return ok;
}

/* AssumeRole, signed with what we have; `keys` become those of the role. */
static bool
assume_role(Asking *a, const Role *role, S3Keys *keys, Err *e)
{
    Buf form = buf_new(FORM_BYTES), text = buf_new(ANSWER_BYTES);
    const char *header[HEADERS_MAX];
    Sts sts;
    bool ok = buf_reserve(&text, ANSWER_BYTES) && find_sts(a->call, &sts, e);

    if (ok) {
        put_role(&form, "AssumeRole", role);
        ok = buf_is_good(&form, e) && sign_form(&sts, &form, keys, &text, header, e) &&
             post_form(a, &sts, &form, header, e);
    }
    explicit_bzero(keys, sizeof *keys);
    ok = ok && take_sts_answer(a, keys, e);
    buf_wipe(&text);
    buf_free(&form);
    return ok || wrap(e, "assuming the role %s", role->arn);
}

/* --- the instance (IMDSv2) --- */

static bool
write_instance_url(const S3Spec *spec, const char *path, char url[URL_ROOM], Err *e)
{
    const char *base = *spec->metadata_endpoint                            ? spec->metadata_endpoint
                       : text_same_case_blind(spec->metadata_mode, "ipv6") ? INSTANCE_IPV6
                                                                           : INSTANCE_IPV4;
    size_t base_bytes = strlen(base);
    int bytes;

    while (base_bytes > 0 && base[base_bytes - 1] == '/')
        base_bytes--;
    bytes = snprintf(url, URL_ROOM, "%.*s%s", (int)base_bytes, base, path);
    if (bytes > 0 && bytes < URL_ROOM && text_starts(base, "http"))
        return true;
    return fail(e, CONFIG_INVALID, "AWS_EC2_METADATA_SERVICE_ENDPOINT must be an http URL");
}

bool
provider_check_instance(const S3Spec *spec, Err *e)
{
    char url[URL_ROOM];

    if (*spec->metadata_mode && !text_same_case_blind(spec->metadata_mode, "ipv4") &&
        !text_same_case_blind(spec->metadata_mode, "ipv6"))
        return fail(
            e, CONFIG_INVALID, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE must be IPv4 or IPv6");
    return write_instance_url(spec, "/", url, e);
}

static bool
ask_metadata(Asking *a, const char *method, const char *path, const char *header_line, Err *e)
{
    const char *const header[] = {header_line, NULL};
    char url[URL_ROOM];
    const Question q = {
        .whom = "the instance's metadata service",
        .http = {.method = method, .url = url, .header = header},
        .timeout_ms = INSTANCE_MS,
        .connect_timeout_ms = INSTANCE_CONNECT_MS,
        .tries = INSTANCE_TRIES,
    };

    return write_instance_url(a->call->spec, path, url, e) && ask(a, &q, e);
}

/* The first line, as text that may stand in a path or a header. */
static bool
first_line(Buf *body)
{
    size_t bytes = strcspn(body->data, "\r\n");

    for (size_t i = 0; i < bytes; i++)
        if (body->data[i] <= ' ' || body->data[i] >= 0x7f)
            return false;
    body->data[bytes] = '\0';
    return bytes > 0;
}

#define ROLE_PATH "/latest/meta-data/iam/security-credentials/"

static bool
ask_role_name(Asking *a, const char *token, Buf *path, Err *e)
{
    if (!ask_metadata(a, "GET", ROLE_PATH, token, e))
        return a->status == 404
                   ? fail(e, STORAGE_DENIED, "the instance has no role (instance profile)")
                   : false;
    if (!first_line(&a->body))
        return fail(e, STORAGE_DENIED, "the instance has no role (instance profile)");
    buf_text(path, ROLE_PATH);
    text_percent_encode(path, a->body.data, strlen(a->body.data), false);
    return buf_is_good(path, e);
}

static bool
ask_instance(Asking *a, S3Keys *keys, Err *e)
{
    static const Answering how = {
        .whom = "the instance's metadata service", .token = "Token", .says_success = true};
    char token[1024];
    Buf path = buf_new(URL_ROOM);
    bool ok = ask_metadata(
        a, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600", e);

    if (ok && (!first_line(&a->body) ||
                  (size_t)snprintf(token, sizeof token, "X-aws-ec2-metadata-token: %s",
                      a->body.data) >= sizeof token))
        ok = fail(e, STORAGE_DENIED, "the instance's metadata service gives no session token");
    ok = ok && ask_role_name(a, token, &path, e) && ask_metadata(a, "GET", path.data, token, e) &&
         read_keys(a->body.data, a->body.bytes, &how, keys, e);
    explicit_bzero(token, sizeof token);
    buf_free(&path);
    return ok;
}

/* --- the container --- */

/* Where keys may travel in plain text: to this machine, and to the addresses that hosts of
 * containers answer at. */
static bool
is_container_host(const char *host)
{
    static const char *const hosts[] = {
        "localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"};
    Address address;

    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        if (strcmp(host, hosts[i]) == 0)
            return true;
    return address_parse(host, strlen(host), &address) && address_is_loopback(&address);
}

static bool
check_full_uri(const char *uri, Err *e)
{
    Arena *arena = arena_new(4 * URL_BYTES_MAX);
    Err ignored = {0};
    Url url;
    bool ok = arena && url_parse(uri, arena, &url, &ignored) && *url.host;

    if (!ok || (strcmp(url.scheme, "https") != 0 && strcmp(url.scheme, "http") != 0))
        ok = fail(e, CONFIG_INVALID, "AWS_CONTAINER_CREDENTIALS_FULL_URI is no http or https URL");
    else if (strcmp(url.scheme, "http") == 0 && !is_container_host(url.host))
        ok = fail(e, CONFIG_INVALID,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, unless it leads to this machine, "
            "169.254.170.2, 169.254.170.23 or [fd00:ec2::23]");
    arena_free(arena);
    return ok;
}

bool
provider_check_container(const S3Spec *spec, Err *e)
{
    if (*spec->container_relative_uri) {
        if (*spec->container_relative_uri != '/' ||
            strlen(spec->container_relative_uri) > URL_ROOM / 2)
            return fail(e, CONFIG_INVALID,
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must be a path: it begins with '/'");
    } else if (!*spec->container_full_uri) {
        return fail(e, CONFIG_INVALID,
            "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor …_FULL_URI is set");
    } else if (!check_full_uri(spec->container_full_uri, e)) {
        return false;
    }
    if (strpbrk(spec->container_token, "\r\n"))
        return fail(e, CONFIG_INVALID, "AWS_CONTAINER_AUTHORIZATION_TOKEN must be one line");
    return true;
}

/* "Authorization: …", or "" if there is none. The file wins. */
static bool
write_authorization(const S3Spec *spec, Buf *header, Err *e)
{
    Buf token = buf_new(TOKEN_FILE_BYTES);
    bool ok = true;

    if (*spec->container_token_file)
        ok = read_token(spec->container_token_file, &token, e);
    else
        buf_text(&token, spec->container_token);
    if (ok && strcspn(token.data, "\r\n") != token.bytes)
        ok = fail(e, STORAGE_DENIED, "the container's authorization token must be one line");
    if (ok && token.bytes > 0)
        buf_printf(header, "Authorization: %s", token.data);
    buf_wipe(&token);
    return ok && buf_is_good(header, e);
}

static bool
ask_container(Asking *a, S3Keys *keys, Err *e)
{
    static const Answering how = {.whom = "the container's credentials endpoint", .token = "Token"};
    const S3Spec *spec = a->call->spec;
    bool is_relative = *spec->container_relative_uri;
    Buf url = buf_new(URL_ROOM), authorization = buf_new(2 * TOKEN_FILE_BYTES);
    bool ok = provider_check_container(spec, e) &&
              buf_reserve(&authorization, 2 * TOKEN_FILE_BYTES) &&
              write_authorization(spec, &authorization, e);

    buf_text(&url, is_relative ? CONTAINER_HOST : spec->container_full_uri);
    buf_text(&url, spec->container_relative_uri);
    if (ok && buf_is_good(&url, e)) {
        const char *const header[] = {authorization.bytes ? authorization.data : NULL, NULL};
        const Question q = {
            .whom = how.whom,
            .http = {.url = url.data, .header = header},
            .timeout_ms = CONTAINER_MS,
            .connect_timeout_ms = CONTAINER_CONNECT_MS,
            .tries = CONTAINER_TRIES,
        };

        ok = ask(a, &q, e) && read_keys(a->body.data, a->body.bytes, &how, keys, e);
    } else {
        ok = false;
    }
    buf_wipe(&authorization);
    buf_free(&url);
    return ok;
}

/* --- a process --- */

bool
provider_split(const char *command, char *room, const char **word, size_t words_max, Err *e)
{
    size_t words = 0;
    char quote = '\0';
    bool in_word = false;

    for (const char *at = command;; at++) {
        char c = *at;

        if (c == '\0' && quote)
            return fail(e, CONFIG_INVALID, "credential_process: a quote without its end");
        if (!quote && (c == '\0' || strchr(" \t\r\n", c))) {
            if (in_word)
                *room++ = '\0';
            in_word = false;
            if (c == '\0')
                break;
            continue;
        }
        if (!in_word) {
            if (words + 1 >= words_max)
                return fail(
                    e, CONFIG_INVALID, "credential_process: more than %zu words", words_max - 1);
            word[words++] = room;
            in_word = true;
        }
        if (c == quote || (!quote && (c == '\'' || c == '"'))) {
            quote = quote ? '\0' : c;
        } else if (c == '\\' && quote != '\'' && at[1] && (!quote || strchr("\"\\$`", at[1]))) {
            *room++ = *++at;
        } else {
            *room++ = c;
        }
    }
    word[words] = NULL;
    return words > 0 || fail(e, CONFIG_INVALID, "credential_process is empty");
}

/* STORAGE_UNAVAILABLE: what a helper cannot do now, it may be able to do later. */
static bool
run_helper(Asking *a, const char *const *word, Buf *out, Err *e)
{
    char said[SAID_BYTES];
    ProcessAsk ask = {
        .args = word,
        .timeout_ms = PROCESS_MS,
        .go_on = goes_on,
        .with = a,
        .out = buf_reserve(out, ANSWER_BYTES),
        .out_bytes = ANSWER_BYTES,
        .said = said,
        .said_bytes = sizeof said,
    };
    Err why = {0};
    int status = 0;
    bool ok;

    if (!ask.out)
        return fail(e, MEMORY_LIMIT, "no memory for the output of credential_process");
    ok = process_ask(&ask, &status, &why);
    if (*said)
        log_event(LOG_DEBUG, "credentials.process_said", log_text("program", word[0]),
            log_text("text", said));
    if (!ok)
        return fail_code(e,
            why.code == ERR_NOT_FOUND || why.code == ERR_SIZE_LIMIT ? ERR_STORAGE_DENIED
                                                                    : ERR_STORAGE_UNAVAILABLE,
            "credential_process: %s", err_root(&why));
    if (status != 0)
        return fail(e, STORAGE_UNAVAILABLE, "credential_process: %s ended with %d%s", word[0],
            status, *said ? ", and said why (log level debug)" : "");
    buf_wrote(out, strlen(ask.out));
    return true;
}

static bool
ask_process(Asking *a, const char *command, S3Keys *keys, Err *e)
{
    static const Answering how = {.whom = "credential_process",
        .token = "SessionToken",
        .says_version = true,
        .may_last = true};
    const char *word[WORDS_MAX];
    char room[COMMAND_BYTES];
    Buf out = buf_new(ANSWER_BYTES);
    bool ok = provider_split(command, room, word, WORDS_MAX, e) && run_helper(a, word, &out, e) &&
              read_keys(out.data, out.bytes, &how, keys, e);

    buf_wipe(&out);
    explicit_bzero(room, sizeof room);
    return ok;
}

/* --- all of them --- */

static bool
ask_source(Asking *a, S3Keys *keys, Err *e)
{
    const Plan *plan = a->call->plan;

    switch (plan->kind) {
    case SOURCE_ANONYMOUS:
    case SOURCE_KEYS:
        *keys = plan->keys;
        return true;
    case SOURCE_WEB_IDENTITY:
        return ask_web_identity(a, plan, keys, e);
    case SOURCE_PROCESS:
        return ask_process(a, plan->command, keys, e);
    case SOURCE_CONTAINER:
        return ask_container(a, keys, e);
    case SOURCE_INSTANCE:
        return ask_instance(a, keys, e);
    case SOURCE_NONE:
        break;
    }
    return fail(e, CONFIG_INVALID, "no credentials are configured");
}

bool
provider_fetch(const ProviderCall *call, S3Keys *keys, Err *e)
{
    Asking a = {.call = call, .body = buf_new(ANSWER_BYTES)};
    bool ok = false;

    if (!buf_reserve(&a.body, ANSWER_BYTES))
        fail(e, MEMORY_LIMIT, "no memory for credentials");
    else if ((a.http = http_client_new("rowferry", e)))
        ok = ask_source(&a, keys, e);
    for (unsigned i = call->plan->roles; ok && i > 0; i--)
        ok = assume_role(&a, &call->plan->role[i - 1], keys, e);
    http_client_free(a.http);
    buf_wipe(&a.body);
    return ok;
}
