/*
 * Whose keys: the order of sources, who is asked and how, when again. Whoever hands out credentials
 * is a server of this process on loopback; `reply` is what it says.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "storage/s3/credentials_in.h"
#include "test/contract/s3_spec.h"
#include "test/test.h"

enum { SOON_MS = 10000, ROUND_MS = 950 /* all tries of a question, and not the next question */ };

static char dir[64], url[64], token_path[96], helper_path[96], profiles_path[96],
    elsewhere_path[96];

/* --- whoever is asked --- */

typedef struct {
    int status;
    const char *body;
    int silent_ms; /* before it says anything */
} Reply;

static int listener;
static pthread_t server;
static atomic_int asked;
static char first[8][8192]; /* the first requests, whole */
static Reply (*reply)(unsigned nth, const char *request);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of both */

static void
read_request(int fd, char *to, size_t room)
{
    size_t bytes = 0, want = room - 1;
    ssize_t got;

    while (bytes < want && (got = read(fd, to + bytes, want - bytes)) > 0) {
        const char *end, *length;

        bytes += (size_t)got;
        to[bytes] = '\0';
        if (!(end = strstr(to, "\r\n\r\n")))
            continue;
        length = strcasestr(to, "\r\nContent-Length:");
        want = (size_t)(end + 4 - to) + (length ? strtoul(length + 17, NULL, 10) : 0);
    }
    to[bytes] = '\0';
}

static void
serve_one(int fd)
{
    static char text[8192];
    unsigned nth;
    Reply r;

    read_request(fd, text, sizeof text);
    pthread_mutex_lock(&lock);
    nth = (unsigned)atomic_load(&asked);
    if (nth < count_of(first))
        memcpy(first[nth], text, sizeof text);
    atomic_store(&asked, (int)nth + 1);
    r = reply(nth, text);
    pthread_mutex_unlock(&lock);
    if (r.silent_ms)
        usleep((useconds_t)r.silent_ms * 1000);
    dprintf(fd, "HTTP/1.1 %d Said\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", r.status,
        strlen(r.body), r.body);
}

static const char *
request(unsigned nth)
{
    const char *text;

    pthread_mutex_lock(&lock);
    text = first[nth];
    pthread_mutex_unlock(&lock);
    return text;
}

/* From now on this is said, to requests that are counted from 0. */
static void
answer_with(Reply (*say)(unsigned nth, const char *request))
{
    pthread_mutex_lock(&lock);
    reply = say;
    atomic_store(&asked, 0);
    pthread_mutex_unlock(&lock);
}

static void *
serve(void *with)
{
    int fd;

    (void)with;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        serve_one(fd);
        close(fd);
    }
    return NULL;
}

static int
set_up(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/rowferry-credentials-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(token_path, sizeof token_path, "%s/token", dir);
    snprintf(helper_path, sizeof helper_path, "%s/helper", dir);
    snprintf(profiles_path, sizeof profiles_path, "%s/config", dir);
    snprintf(elsewhere_path, sizeof elsewhere_path, "%s/elsewhere", dir);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(at.sin_port));
    atomic_store(&asked, 0);
    memset(first, 0, sizeof first);
    return pthread_create(&server, NULL, serve, NULL);
}

static int
tear_down(void **state)
{
    (void)state;
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
    close(listener);
    (void)unlink(token_path);
    (void)unlink(helper_path);
    (void)unlink(profiles_path);
    (void)unlink(elsewhere_path);
    return rmdir(dir);
}

static void
write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* What a container's endpoint says of keys that end in so many seconds. */
static const char *
keys_json(const char *access_key, int64_t life_s)
{
    static char text[1024];
    char end[TIME_TEXT_BYTES];

    snprintf(text, sizeof text,
        "{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"S3CRET\",\"Token\":"
        "\"T0KEN\",\"Expiration\":\"%s\"}",
        access_key, time_rfc3339_ms(time_wall_us() + life_s * 1000000, end));
    return text;
}

/* --- whoever asks --- */

static S3Spec
nothing(void)
{
    S3Spec spec = s3_spec_new();

    spec.region = "us-east-1";
    return spec;
}

static S3Spec
container(void)
{
    S3Spec spec = nothing();

    spec.container_full_uri = url;
    return spec;
}

/* Opens, asks, closes. */
static bool
fetch_within(const S3Spec *spec, int64_t wait_ms, S3Keys *keys, Err *e)
{
    Credentials *c = credentials_open(spec, e);
    bool ok = c && credentials_get(c, wait_ms, keys, e);

    credentials_close(c);
    return ok;
}

static bool
fetch(const S3Spec *spec, S3Keys *keys, Err *e)
{
    return fetch_within(spec, SOON_MS, keys, e);
}

/* What must never be said. */
static void
assert_no_secret(const Err *e)
{
    char said[4096];

    err_chain(e, said, sizeof said);
    assert_null(strstr(said, "S3CRET"));
    assert_null(strstr(said, "T0KEN"));
}

/* --- the order --- */

static void
test_order(void **state)
{
    static const struct {
        const char *name;
        S3Spec is;          /* NULL: as in nothing() */
        const char *source; /* NULL: refused … */
        const char *says;   /* … with this */
    } cases[] = {
        {"nothing: the instance", {0}, "instance metadata", NULL},
        {"nothing, metadata off", {.metadata_disabled = true}, NULL, "set S3_ACCESS_KEY"},
        {"nothing, a store of somebody else's", {.endpoint = "http://minio:9000"}, NULL,
            "set S3_ACCESS_KEY"},
        {"the same, metadata asked for",
            {.endpoint = "http://minio:9000", .metadata_endpoint = "http://127.0.0.1:1"},
            "instance metadata", NULL},
        {"the same, a container", {.endpoint = "http://minio:9000", .container_relative_uri = "/x"},
            "container", NULL},
        {"keys",
            {.access_key = "A", .secret_key = "S3CRET", .access_key_name = "AWS_ACCESS_KEY_ID"},
            "AWS_ACCESS_KEY_ID", NULL},
        {"keys before all",
            {.access_key = "A",
                .secret_key = "S3CRET",
                .access_key_name = "S3_ACCESS_KEY",
                .web_identity_token_file = "/t",
                .role_arn = "r",
                .container_relative_uri = "/x"},
            "S3_ACCESS_KEY", NULL},
        {"half a pair", {.access_key = "A", .container_relative_uri = "/x"}, NULL,
            "the secret key is missing"},
        {"the other half", {.secret_key = "S3CRET", .container_relative_uri = "/x"}, NULL,
            "the access key is missing"},
        {"a blank in a key", {.access_key = "A", .secret_key = "S3CRET X"}, NULL, "cannot be keys"},
        {"a line end in a key", {.access_key = "A\n", .secret_key = "S3CRET"}, NULL,
            "cannot be keys"},
        {"a token that is none",
            {.access_key = "A", .secret_key = "S3CRET", .session_token = "T0KEN\r\nX: y"}, NULL,
            "cannot be keys"},
        {"anonymous before keys", {.anonymous = true, .access_key = "A", .secret_key = "S3CRET"},
            "anonymous", NULL},
        {"web identity",
            {.web_identity_token_file = "/t", .role_arn = "r", .container_relative_uri = "/x"},
            "web identity", NULL},
        {"half of it", {.web_identity_token_file = "/t", .container_relative_uri = "/x"}, NULL,
            "AWS_ROLE_ARN is missing"},
        {"its other half", {.role_arn = "r"}, NULL, "AWS_WEB_IDENTITY_TOKEN_FILE is missing"},
        {"a profile before a container",
            {.config_file = profiles_path, .container_relative_uri = "/x"}, "profile default",
            NULL},
        {"a profile with a store of somebody else's", {.config_file = elsewhere_path}, NULL,
            "set S3_ACCESS_KEY"},
        {"a profile that is not there", {.profile = "x", .container_relative_uri = "/x"}, NULL,
            "no profile x"},
        {"the same with keys of the settings and no region",
            {.profile = "x", .region = "", .access_key = "A", .secret_key = "S3CRET"}, NULL,
            "no profile x"},
        {"a container without a slash", {.container_relative_uri = "x"}, NULL, "begins with '/'"},
        {"a mode that is none", {.metadata_mode = "IPv5"}, NULL, "must be IPv4 or IPv6"},
        {"metadata that is no URL", {.metadata_endpoint = "ftp://a"}, NULL, "must be an http URL"},
    };

    (void)state;
    write_file(profiles_path,
        "[default]\nregion = r-1\naws_access_key_id = A\naws_secret_access_key = S3CRET\n");
    write_file(elsewhere_path, "[default]\nendpoint_url = http://minio:9000\n");
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = nothing();
        Credentials *c;
        Err e = {0};

        trying(cases[i].name);
#define TAKE(member)                                                                               \
    if (cases[i].is.member)                                                                        \
    spec.member = cases[i].is.member
        TAKE(region);
        TAKE(endpoint);
        TAKE(access_key);
        TAKE(secret_key);
        TAKE(session_token);
        TAKE(access_key_name);
        TAKE(anonymous);
        TAKE(profile);
        TAKE(config_file);
        TAKE(role_arn);
        TAKE(web_identity_token_file);
        TAKE(container_relative_uri);
        TAKE(metadata_endpoint);
        TAKE(metadata_mode);
        TAKE(metadata_disabled);
#undef TAKE
        c = credentials_open(&spec, &e);
        if (cases[i].source) {
            if (!c)
                fail_msg("%s", err_root(&e));
            assert_string_equal(credentials_source(c), cases[i].source);
            credentials_close(c);
        } else {
            assert_null(c);
            assert_int_equal(e.code, ERR_CONFIG_INVALID);
            assert_says(&e, cases[i].says);
            assert_no_secret(&e);
        }
    }
}

/* What the profile says where the settings are silent. */
static void
test_place(void **state)
{
    static const struct {
        const char *name, *region, *endpoint, *access_key, *profiles, *want_region, *want_endpoint;
    } cases[] = {
        {"with its keys", "", "", "",
            "[default]\nregion = r-1\nendpoint_url = http://a\naws_access_key_id = A\n"
            "aws_secret_access_key = B\n",
            "r-1", "http://a"},
        {"with keys of the settings", "", "", "A",
            "[default]\nregion = r-1\nendpoint_url = http://a\n", "r-1", "http://a"},
        {"none", "", "", "A", "", "us-east-1", ""},
        {"a file that is none of ours", "", "", "A", "what is this\n", "us-east-1", ""},
        {"the settings come first", "r-2", "http://b", "A",
            "[default]\nregion = r-1\nendpoint_url = http://a\n", "r-2", "http://b"},
        {"one of them", "r-2", "", "A", "[default]\nregion = r-1\nendpoint_url = http://a\n", "r-2",
            "http://a"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = nothing(), whole;
        Credentials *c;
        Err e = {0};

        trying(cases[i].name);
        write_file(profiles_path, cases[i].profiles);
        spec.region = cases[i].region;
        spec.endpoint = cases[i].endpoint;
        spec.access_key = spec.secret_key = cases[i].access_key;
        spec.config_file = profiles_path;
        spec.bucket = "b";
        if (!(c = credentials_open(&spec, &e)))
            fail_msg("%s", err_root(&e));
        whole = credentials_complete(c, &spec);
        assert_string_equal(whole.region, cases[i].want_region);
        assert_string_equal(whole.endpoint, cases[i].want_endpoint);
        assert_string_equal(whole.bucket, "b");
        credentials_close(c);
    }
}

static void
test_shared(void **state)
{
    S3Spec one = nothing(), two, other;
    char key[] = "A";
    Credentials *a, *b, *c;
    S3Keys keys;
    Err e = {0};

    (void)state;
    one.access_key = key;
    one.secret_key = "S3CRET";
    one.session_token = "T0KEN";
    two = other = one;
    two.access_key = "A";
    two.bucket = "another";
    other.session_token = "";
    assert_non_null(a = credentials_open(&one, &e));
    assert_ptr_equal(a, b = credentials_open(&two, &e));
    assert_ptr_not_equal(a, c = credentials_open(&other, &e));
    credentials_close(a);
    key[0] = 'X'; /* it has a copy */
    assert_ok(credentials_get(b, 0, &keys, &e), &e);
    assert_string_equal(keys.access_key, "A");
    assert_string_equal(keys.secret_key, "S3CRET");
    assert_string_equal(keys.token, "T0KEN");
    assert_int_equal(keys.ends_wall_s, 0);
    credentials_ended(b, "A"); /* there are no others */
    assert_ok(credentials_get(b, 0, &keys, &e), &e);
    credentials_close(b);
    credentials_close(c);
    credentials_close(NULL);
}

/* --- the container --- */

static Reply
give_keys(unsigned nth, const char *request)
{
    (void)nth;
    (void)request;
    return (Reply){200, keys_json("ASIA1", 3600), 0};
}

static void
test_container(void **state)
{
    S3Spec spec = container();
    S3Keys keys;
    Err e = {0};

    (void)state;
    answer_with(give_keys);
    spec.container_token = "one";
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_string_equal(keys.access_key, "ASIA1");
    assert_string_equal(keys.secret_key, "S3CRET");
    assert_string_equal(keys.token, "T0KEN");
    assert_in_range(keys.ends_wall_s - time_wall_us() / 1000000, 3590, 3600);
    assert_non_null(strstr(request(0), "GET / HTTP/1.1\r\n"));
    assert_non_null(strstr(request(0), "\r\nAuthorization: one\r\n"));
    /* The file wins, and is read each time. */
    spec.container_token_file = token_path;
    write_file(token_path, "two\n");
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_non_null(strstr(request(1), "\r\nAuthorization: two\r\n"));
    write_file(token_path, "three");
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_non_null(strstr(request(2), "\r\nAuthorization: three\r\n"));
    write_file(token_path, "T0KEN\nX: y");
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
    assert_says(&e, "must be one line");
    assert_no_secret(&e);
    err_clear(&e);
    write_file(token_path, "\n");
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
    err_clear(&e);
    assert_int_equal(unlink(token_path), 0);
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
    assert_int_equal(atomic_load(&asked), 3);
    spec = container();
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_null(strstr(request(3), "Authorization"));
}

static void
test_container_hosts(void **state)
{
    static const struct {
        const char *uri;
        bool may;
    } cases[] = {
        {"http://localhost/x", true},
        {"http://127.0.0.1:80/x", true},
        {"http://127.9.9.9/x", true},
        {"http://[::1]/x", true},
        {"http://169.254.170.2/x", true},
        {"http://169.254.170.23/v1/credentials", true},
        {"http://[fd00:ec2::23]/v1/credentials", true},
        {"https://credentials.example/x", true},
        {"http://credentials.example/x", false},
        {"http://localhost.example/x", false},
        {"http://169.254.169.254/x", false},
        {"http://169.254.170.2.example/x", false},
        {"http://10.0.0.1/x", false},
        {"http://127.0.0.1@evil.example/x", false},
        {"ftp://localhost/x", false},
        {"localhost/x", false},
        {"http:///x", false},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = nothing();
        Err e = {0};

        trying(cases[i].uri);
        spec.container_full_uri = cases[i].uri;
        assert_int_equal(provider_check_container(&spec, &e), cases[i].may);
        assert_int_equal(e.code, cases[i].may ? ERR_NONE : ERR_CONFIG_INVALID);
    }
}

static Reply bad;

static Reply
say_bad(unsigned nth, const char *request)
{
    (void)nth;
    (void)request;
    return bad;
}

static void
answer_this(Reply to_all)
{
    pthread_mutex_lock(&lock);
    bad = to_all;
    pthread_mutex_unlock(&lock);
    answer_with(say_bad);
}

/* Answers that are of no use. */
static void
test_bad_answers(void **state)
{
    static const struct {
        const char *name;
        Reply reply;
        ErrCode want;
        int asked; /* times */
        const char *says;
    } cases[] = {
        {"no", {403, "S3CRET", 0}, ERR_STORAGE_DENIED, 1, "answers 403"},
        {"not there", {404, "", 0}, ERR_STORAGE_DENIED, 1, "answers 404"},
        {"elsewhere", {302, "", 0}, ERR_STORAGE_DENIED, 1, "answers 302"},
        {"out of order", {500, "S3CRET", 0}, ERR_STORAGE_UNAVAILABLE, 3, "answers 500"},
        {"too much", {429, "", 0}, ERR_STORAGE_UNAVAILABLE, 3, "answers 429"},
        {"no JSON", {200, "S3CRET", 0}, ERR_STORAGE_DENIED, 1, "is no JSON"},
        {"cut short", {200, "{\"SecretAccessKey\":\"S3CRET", 0}, ERR_STORAGE_DENIED, 1,
            "is no JSON"},
        {"an array", {200, "[\"S3CRET\"]", 0}, ERR_STORAGE_DENIED, 1, "no JSON object"},
        {"empty", {200, "", 0}, ERR_STORAGE_DENIED, 1, "is no JSON"},
        {"no key", {200, "{\"SecretAccessKey\":\"S3CRET\"}", 0}, ERR_STORAGE_DENIED, 1,
            "no AccessKeyId"},
        {"no secret", {200, "{\"AccessKeyId\":\"S3CRET\"}", 0}, ERR_STORAGE_DENIED, 1,
            "no SecretAccessKey"},
        {"no token", {200, "{\"AccessKeyId\":\"S3CRET\",\"SecretAccessKey\":\"S3CRET\"}", 0},
            ERR_STORAGE_DENIED, 1, "gives no Token"},
        {"no end",
            {200, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S3CRET\",\"Token\":\"T0KEN\"}", 0},
            ERR_STORAGE_DENIED, 1, "as Expiration"},
        {"an end that is none",
            {200,
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S3CRET\",\"Token\":\"T0KEN\","
                "\"Expiration\":\"soon\"}",
                0},
            ERR_STORAGE_DENIED, 1, "as Expiration"},
        {"a number as a key", {200, "{\"AccessKeyId\":7,\"SecretAccessKey\":\"S3CRET\"}", 0},
            ERR_STORAGE_DENIED, 1, "no AccessKeyId"},
        {"a line end in a key",
            {200,
                "{\"AccessKeyId\":\"A\\n\",\"SecretAccessKey\":\"S3CRET\",\"Token\":\"T0KEN\","
                "\"Expiration\":\"2100-01-01T00:00:00Z\"}",
                0},
            ERR_STORAGE_DENIED, 1, "cannot be keys"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = container();
        S3Keys keys;
        Err e = {0};

        trying(cases[i].name);
        answer_this(cases[i].reply);
        assert_fails(fetch_within(&spec, ROUND_MS, &keys, &e), cases[i].want, &e);
        assert_says(&e, cases[i].says);
        assert_no_secret(&e);
        assert_int_equal(atomic_load(&asked), cases[i].asked);
    }
}

static void
test_answer_too_large(void **state)
{
    static char much[80 << 10];
    S3Spec spec = container();
    S3Keys keys;
    Err e = {0};

    (void)state;
    memset(much, ' ', sizeof much - 1);
    answer_this((Reply){200, much, 0});
    assert_fails(fetch_within(&spec, ROUND_MS, &keys, &e), ERR_STORAGE_UNAVAILABLE, &e);
    assert_says(&e, "larger than it may be");
}

/* The path of such a URL is as good as a key. */
static void
test_nobody_there(void **state)
{
    S3Spec spec = container();
    S3Keys keys;
    Err e = {0};
    char said[1024];

    (void)state;
    spec.container_full_uri = "http://127.0.0.1:1/v2/S3CRET";
    assert_fails(fetch_within(&spec, ROUND_MS, &keys, &e), ERR_STORAGE_UNAVAILABLE, &e);
    assert_no_secret(&e);
    assert_non_null(strstr(err_chain(&e, said, sizeof said), "connect"));
}

/* --- the instance --- */

#define ROLES "GET /latest/meta-data/iam/security-credentials/"

static Reply
be_instance(unsigned nth, const char *request)
{
    (void)nth;
    if (text_starts(request, "PUT /latest/api/token ")) {
        if (!strstr(request, "\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"))
            return (Reply){400, "", 0};
        return (Reply){200, "SESSION==", 0};
    }
    if (!strstr(request, "\r\nX-aws-ec2-metadata-token: SESSION==\r\n"))
        return (Reply){401, "", 0};
    if (text_starts(request, ROLES " "))
        return (Reply){200, "the role\nanother\n", 0};
    if (text_starts(request, ROLES "my-role "))
        return (Reply){200, keys_json("ASIA2", 3600), 0};
    return (Reply){404, "", 0};
}

static Reply
be_instance_of_role(unsigned nth, const char *request)
{
    return text_starts(request, ROLES " ") && strstr(request, "SESSION==")
               ? (Reply){200, "my-role\nanother\n", 0}
               : be_instance(nth, request);
}

static Reply
be_old_instance(unsigned nth, const char *request)
{
    return text_starts(request, "PUT") ? (Reply){405, "", 0} : be_instance_of_role(nth, request);
}

static Reply
be_instance_without(unsigned nth, const char *request)
{
    return text_starts(request, ROLES) ? (Reply){404, "", 0} : be_instance(nth, request);
}

static Reply
be_instance_of_nobody(unsigned nth, const char *request)
{
    if (text_starts(request, ROLES "my-role "))
        return (Reply){200, "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"x\"}", 0};
    return be_instance_of_role(nth, request);
}

static Reply
stumble_once(unsigned nth, const char *request)
{
    return nth == 0 ? (Reply){503, "", 0} : be_instance_of_role(nth, request);
}

static void
test_instance(void **state)
{
    static const struct {
        const char *name;
        Reply (*reply)(unsigned nth, const char *request);
        ErrCode want;
        int asked;
        const char *says;
    } cases[] = {
        {"a role", be_instance_of_role, ERR_NONE, 3, NULL},
        {"one 503", stumble_once, ERR_NONE, 4, NULL},
        {"only version 1: not asked", be_old_instance, ERR_STORAGE_DENIED, 1, "answers 405"},
        {"no role", be_instance_without, ERR_STORAGE_DENIED, 2, "the instance has no role"},
        {"a role that is no name", be_instance, ERR_STORAGE_DENIED, 2, "the instance has no role"},
        {"a role that may not be taken", be_instance_of_nobody, ERR_STORAGE_DENIED, 3,
            "AssumeRoleUnauthorizedAccess"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = nothing();
        S3Keys keys;
        Err e = {0};

        trying(cases[i].name);
        spec.metadata_endpoint = url;
        answer_with(cases[i].reply);
        if (cases[i].want == ERR_NONE) {
            assert_ok(fetch(&spec, &keys, &e), &e);
            assert_string_equal(keys.access_key, "ASIA2");
        } else {
            assert_fails(fetch(&spec, &keys, &e), cases[i].want, &e);
            assert_says(&e, cases[i].says);
            assert_no_secret(&e);
        }
        assert_int_equal(atomic_load(&asked), cases[i].asked);
    }
}

/* --- STS --- */

static const char *
sts_xml(const char *action, const char *access_key, int64_t life_s)
{
    static char text[2048];
    char end[TIME_TEXT_BYTES];

    snprintf(text, sizeof text,
        "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult><Credentials>"
        "<AccessKeyId>%s</AccessKeyId><SecretAccessKey>S3CRET</SecretAccessKey>"
        "<SessionToken>T0KEN</SessionToken><Expiration>%s</Expiration></Credentials>"
        "</%sResult></%sResponse>",
        action, action, access_key, time_rfc3339_ms(time_wall_us() + life_s * 1000000, end), action,
        action);
    return text;
}

static Reply
be_web_sts(unsigned nth, const char *request)
{
    (void)nth;
    (void)request;
    return (Reply){200, sts_xml("AssumeRoleWithWebIdentity", "ASIA3", 900), 0};
}

static Reply
refuse_token(unsigned nth, const char *request)
{
    (void)nth;
    (void)request;
    return (Reply){400,
        "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>"
        "<Message>T0KEN is bad</Message></Error><RequestId>r</RequestId></ErrorResponse>",
        0};
}

static Reply
lose_token_once(unsigned nth, const char *request)
{
    return nth == 0 ? (Reply){400,
                          "<ErrorResponse><Error><Code>IDPCommunicationError</Code></Error>"
                          "</ErrorResponse>",
                          0}
                    : be_web_sts(nth, request);
}

static void
test_web_identity(void **state)
{
    S3Spec spec = nothing();
    S3Keys keys;
    Err e = {0};

    (void)state;
    spec.sts_endpoint = url;
    spec.web_identity_token_file = token_path;
    spec.role_arn = "arn:aws:iam::1:role/a b";
    answer_with(be_web_sts);
    write_file(token_path, "eyT0KEN.a-b_c.d==\n");
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_string_equal(keys.access_key, "ASIA3");
    assert_string_equal(keys.secret_key, "S3CRET");
    assert_string_equal(keys.token, "T0KEN");
    assert_in_range(keys.ends_wall_s - time_wall_us() / 1000000, 890, 900);
    assert_non_null(strstr(request(0), "POST / HTTP/1.1\r\n"));
    assert_null(strstr(request(0), "Authorization"));
    assert_non_null(strstr(request(0),
        "\r\n\r\nAction=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1"
        "%3Arole%2Fa%20b&RoleSessionName=rowferry&WebIdentityToken=eyT0KEN.a-b_c.d%3D%3D"));
    spec.role_session_name = "me";
    write_file(token_path, "second");
    answer_with(lose_token_once);
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_int_equal(atomic_load(&asked), 2);
    assert_non_null(strstr(request(1), "&RoleSessionName=me&WebIdentityToken=second"));
    answer_with(refuse_token);
    write_file(token_path, "T0KEN");
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
    assert_says(&e, "STS answers 400 InvalidIdentityToken");
    assert_no_secret(&e);
    assert_int_equal(atomic_load(&asked), 1);
    err_clear(&e);
    assert_int_equal(unlink(token_path), 0);
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
}

static Reply
be_sts(unsigned nth, const char *request)
{
    (void)request;
    return (Reply){200, sts_xml("AssumeRole", nth == 0 ? "ASIA4" : "ASIA5", 900), 0};
}

/* Two roles, one after the other, each with the keys before it. */
static void
test_roles(void **state)
{
    S3Spec spec = nothing();
    S3Keys keys;
    Err e = {0};

    (void)state;
    write_file(profiles_path, "[profile a]\nrole_arn = arn:1\nsource_profile = b\n"
                              "duration_seconds = 7200\nexternal_id = x y\n"
                              "[profile b]\nrole_arn = arn:2\nsource_profile = c\n"
                              "role_session_name = s\n"
                              "[profile c]\naws_access_key_id = A\naws_secret_access_key = S3CRET\n"
                              "region = eu-central-1\n");
    spec.config_file = profiles_path;
    spec.profile = "a";
    spec.sts_endpoint = url;
    spec.region = "eu-west-3";
    answer_with(be_sts);
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_string_equal(keys.access_key, "ASIA5");
    assert_int_equal(atomic_load(&asked), 2);
    assert_non_null(strstr(request(0),
        "\r\n\r\nAction=AssumeRole&Version=2011-06-15&RoleArn=arn%3A2&RoleSessionName=s"));
    assert_non_null(strstr(request(0), "Authorization: AWS4-HMAC-SHA256 Credential=A/"));
    assert_non_null(strstr(request(0), "/eu-west-3/sts/aws4_request"));
    assert_null(strcasestr(request(0), "x-amz-security-token"));
    assert_non_null(strstr(request(1),
        "&RoleArn=arn%3A1&RoleSessionName=rowferry&ExternalId=x%20y&DurationSeconds=7200"));
    assert_non_null(strstr(request(1), "Credential=ASIA4/"));
    assert_non_null(strcasestr(request(1), "\r\nx-amz-security-token: T0KEN\r\n"));
    answer_with(refuse_token);
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
    assert_says(&e, "assuming the role arn:2");
}

/* --- a process --- */

static void
write_helper(const char *script)
{
    write_file(helper_path, script);
    assert_int_equal(chmod(helper_path, 0700), 0);
}

static void
test_process(void **state)
{
    static const struct {
        const char *name, *script;
        ErrCode want;
        const char *says;
    } cases[] = {
        {"keys for ever",
            "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"'\"$2\"'\",\"SecretAccessKey\":"
            "\"S3CRET\"}'\n",
            ERR_NONE, NULL},
        {"with all that may be",
            "#!/bin/sh\necho T0KEN >&2\necho '{\"Version\":1,\"AccessKeyId\":\"'\"$2\"'\","
            "\"SecretAccessKey\":\"S3CRET\",\"SessionToken\":\"T0KEN\",\"Expiration\":"
            "\"2100-01-01T00:00:00Z\"}'\n",
            ERR_NONE, NULL},
        {"another version",
            "#!/bin/sh\necho '{\"Version\":2,\"AccessKeyId\":\"A\",\"SecretAccessKey\":"
            "\"S3CRET\"}'\n",
            ERR_STORAGE_DENIED, "no credentials of version 1"},
        {"it fails", "#!/bin/sh\necho S3CRET\necho T0KEN >&2\nexit 3\n", ERR_STORAGE_UNAVAILABLE,
            "ended with 3, and said why"},
        {"it dies", "#!/bin/sh\nkill -9 $$\n", ERR_STORAGE_UNAVAILABLE, "ended with 137"},
        {"no JSON", "#!/bin/sh\necho S3CRET\n", ERR_STORAGE_DENIED, "is no JSON"},
        {"too much", "#!/bin/sh\nexec head -c 100000 /dev/zero\n", ERR_STORAGE_DENIED,
            "writes more than"},
        {"it reads",
            "#!/bin/sh\nread a || echo '{\"Version\":1,\"AccessKeyId\":\"A B\","
            "\"SecretAccessKey\":\"x\"}'\n",
            ERR_STORAGE_DENIED, "cannot be keys"},
    };
    char config[512];

    (void)state;
    snprintf(config, sizeof config, "[default]\ncredential_process = '%s' --key \"AKIA;$HOME\"\n",
        helper_path);
    write_file(profiles_path, config);
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = nothing();
        S3Keys keys = {0};
        Err e = {0};

        trying(cases[i].name);
        spec.config_file = profiles_path;
        write_helper(cases[i].script);
        if (cases[i].want == ERR_NONE) {
            assert_ok(fetch(&spec, &keys, &e), &e);
            assert_string_equal(keys.access_key, "AKIA;$HOME"); /* no shell has seen it */
            assert_string_equal(keys.secret_key, "S3CRET");
            continue;
        }
        assert_fails(fetch_within(&spec, ROUND_MS, &keys, &e), cases[i].want, &e);
        assert_says(&e, cases[i].says);
        assert_no_secret(&e);
    }
}

static void
test_no_process(void **state)
{
    S3Spec spec = nothing();
    S3Keys keys;
    Err e = {0};

    (void)state;
    write_file(profiles_path, "[default]\ncredential_process = /no/such/helper S3CRET\n");
    spec.config_file = profiles_path;
    assert_fails(fetch(&spec, &keys, &e), ERR_STORAGE_DENIED, &e);
    assert_says(&e, "cannot start /no/such/helper");
    assert_no_secret(&e);
}

/* --- when again --- */

static atomic_int life_s, slow_ms, failing;

static Reply
give_short_keys(unsigned nth, const char *request)
{
    char name[16];

    (void)request;
    snprintf(name, sizeof name, "ASIA%u", nth);
    if (atomic_load(&failing))
        return (Reply){403, "", 0};
    return (Reply){200, keys_json(name, atomic_load(&life_s)), atomic_load(&slow_ms)};
}

static Credentials *
open_short(int life, int slow)
{
    S3Spec spec = container();
    Credentials *c;
    Err e = {0};

    answer_with(give_short_keys);
    atomic_store(&life_s, life);
    atomic_store(&slow_ms, slow);
    atomic_store(&failing, 0);
    if (!(c = credentials_open(&spec, &e)))
        fail_msg("%s", err_root(&e));
    return c;
}

static void *
get_once(void *with)
{
    S3Keys keys;
    Err e = {0};

    return (void *)(uintptr_t)(credentials_get(with, SOON_MS, &keys, &e) &&
                               strcmp(keys.access_key, "ASIA0") == 0);
}

/* Many ask, one is sent. */
static void
test_one_is_sent(void **state)
{
    Credentials *c = open_short(3600, 200);
    pthread_t thread[8];

    (void)state;
    for (size_t i = 0; i < count_of(thread); i++)
        assert_int_equal(pthread_create(&thread[i], NULL, get_once, c), 0);
    for (size_t i = 0; i < count_of(thread); i++) {
        void *good;

        pthread_join(thread[i], &good);
        assert_true((uintptr_t)good);
    }
    assert_int_equal(atomic_load(&asked), 1);
    credentials_close(c);
}

static void
await_asked(int count)
{
    for (int64_t until = time_now_ms() + SOON_MS; atomic_load(&asked) < count;) {
        assert_true(time_now_ms() < until);
        usleep(10000);
    }
}

static bool
has_key(Credentials *c, const char *access_key)
{
    S3Keys keys;
    Err e = {0};

    return credentials_get(c, 0, &keys, &e) && strcmp(keys.access_key, access_key) == 0;
}

/* The old ones are good for a third of their life when the new ones are asked for: nobody waits. */
static void
test_nobody_waits(void **state)
{
    Credentials *c = open_short(9, 0);
    int64_t begun_ms = time_now_ms(), until = begun_ms + 2 * SOON_MS;
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    atomic_store(&slow_ms, 500);
    for (bool have_new = false; !have_new; usleep(20000)) {
        int64_t before_ms = time_now_ms();

        assert_ok(credentials_get(c, 0, &keys, &e), &e);
        assert_true(time_now_ms() - before_ms < 250);
        have_new = strcmp(keys.access_key, "ASIA1") == 0;
        assert_true(before_ms < until);
    }
    assert_true(time_now_ms() - begun_ms > 4000);
    assert_true(time_now_ms() - begun_ms < 9000);
    assert_int_equal(atomic_load(&asked), 2);
    credentials_close(c);
}

/* Kept in keys: they are renewed although nobody asks, so that whoever cannot wait has some. */
static void
test_kept(void **state)
{
    Credentials *c = open_short(3, 100);
    int64_t begun_ms = time_now_ms();

    (void)state;
    credentials_keep(c);
    credentials_keep(c);
    await_asked(4);
    assert_true(time_now_ms() - begun_ms > 3 * 1000); /* when a third is left of each */
    assert_true(has_key(c, "ASIA2"));                 /* the fourth is on its way */
    begun_ms = time_now_ms();
    credentials_close(c);
    assert_true(time_now_ms() - begun_ms < 1000);
}

/* Refused keys are not for anybody, and whoever waits for better ones has them soon. */
static void
test_kept_and_refused(void **state)
{
    Credentials *c = open_short(3600, 0);
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    credentials_keep(c);
    await_asked(2);
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    credentials_ended(c, "ASIA0");
    credentials_ended(c, "ASIA1");
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    assert_string_equal(keys.access_key, "ASIA2");
    credentials_close(c);
}

/* While the source says no, the old ones are used to their end; then it is said why. */
static void
test_to_their_end(void **state)
{
    Credentials *c = open_short(3, 0);
    int64_t begun_ms = time_now_ms();
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    atomic_store(&failing, 1);
    while (credentials_get(c, 0, &keys, &e)) {
        assert_true(time_now_ms() - begun_ms < 3500);
        usleep(20000);
    }
    assert_true(time_now_ms() - begun_ms > 1900);
    err_clear(&e);
    assert_fails(credentials_get(c, SOON_MS, &keys, &e), ERR_STORAGE_DENIED, &e);
    assert_says(&e, "asking container for credentials");
    assert_true(atomic_load(&asked) <= 5); /* not with every call */
    atomic_store(&failing, 0);
    err_clear(&e);
    for (int64_t until = time_now_ms() + SOON_MS;
         !credentials_get(c, 1000, &keys, &e) && time_now_ms() < until;)
        err_clear(&e);
    assert_ok(credentials_get(c, 0, &keys, &e), &e);
    credentials_close(c);
}

static Reply
be_away(unsigned nth, const char *request_text)
{
    (void)request_text;
    return nth < 4 ? (Reply){503, "", 0} : (Reply){200, keys_json("ASIA1", 3600), 0};
}

/* Who cannot be reached is asked again while there is time to wait. */
static void
test_waits_for_the_absent(void **state)
{
    S3Spec spec = container();
    S3Keys keys;
    Err e = {0};

    (void)state;
    answer_with(be_away);
    assert_ok(fetch(&spec, &keys, &e), &e);
    assert_int_equal(atomic_load(&asked), 5);
}

/* An end in the past: better than nothing. */
static void
test_stale(void **state)
{
    Credentials *c = open_short(-60, 0);
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    assert_in_range(keys.ends_wall_s - time_wall_us() / 1000000, 590, 900);
    for (unsigned i = 0; i < 100; i++)
        assert_true(has_key(c, "ASIA0"));
    assert_int_equal(atomic_load(&asked), 1);
    credentials_close(c);
}

/* What the store refuses is asked for anew, once a second at most. */
static void
test_ended(void **state)
{
    Credentials *c = open_short(3600, 0);
    int64_t begun_ms = time_now_ms();
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    credentials_ended(c, "ASIA7"); /* these are not the ones */
    assert_true(has_key(c, "ASIA0"));
    credentials_ended(c, "ASIA0");
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    assert_string_equal(keys.access_key, "ASIA1");
    assert_true(time_now_ms() - begun_ms >= 990);
    credentials_ended(c, "ASIA0"); /* an answer that was long on its way */
    assert_true(has_key(c, "ASIA1"));
    credentials_ended(c, "ASIA1");
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    assert_true(time_now_ms() - begun_ms >= 1980);
    assert_int_equal(atomic_load(&asked), 3);
    credentials_close(c);
}

static void
test_waits_are_bounded(void **state)
{
    Credentials *c = open_short(3600, 1500);
    int64_t begun_ms = time_now_ms();
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_fails(credentials_get(c, 0, &keys, &e), ERR_STORAGE_UNAVAILABLE, &e);
    err_clear(&e);
    assert_fails(credentials_get(c, 300, &keys, &e), ERR_STORAGE_UNAVAILABLE, &e);
    assert_in_range(time_now_ms() - begun_ms, 300, 1000);
    await_asked(1);
    /* It ends though nothing has been answered. */
    begun_ms = time_now_ms();
    credentials_close(c);
    assert_true(time_now_ms() - begun_ms < 1400);
}

/* A request whose keys are on their way can be ended; others could go on. */
static void
test_clients_are_not_held_up(void **state)
{
    const S3Request r = {.operation = "HeadBucket", .method = "HEAD"};
    S3Spec spec = container();
    S3Answer answer;
    ClientCall call;
    Client *client;
    int64_t begun_ms;
    Err e = {0};

    (void)state;
    answer_with(give_short_keys);
    atomic_store(&life_s, 3600);
    atomic_store(&slow_ms, 1500);
    atomic_store(&failing, 0);
    spec.bucket = "bucket";
    spec.endpoint = "http://127.0.0.1:1";
    spec.style = "path";
    spec.payload = "signed";
    spec.bucket_owner = "";
    spec.connect_timeout_ms = SOON_MS;
    spec.tries = 1;
    if (!(client = client_open(&spec, &e)))
        fail_msg("%s", err_root(&e));
    client_begin(client, &call, &r, &answer);
    await_asked(1);
    usleep(100000);
    begun_ms = time_now_ms();
    client_cancel(client, &call);
    assert_true(time_now_ms() - begun_ms < 700);
    client_answer_free(&answer);
    /* Who waits has them as soon as they are there, and then learns that there is no store. */
    begun_ms = time_now_ms();
    assert_false(client_call(client, &r, &answer, NULL, &e));
    assert_true(time_now_ms() - begun_ms < 2500);
    assert_says(&e, "Failed to connect");
    assert_int_equal(answer.tries, 1);
    assert_int_equal(atomic_load(&asked), 1);
    client_answer_free(&answer);
    client_close(client);
}

static void
test_profile_anew(void **state)
{
    S3Spec spec = nothing();
    Credentials *c;
    S3Keys keys;
    Err e = {0};

    (void)state;
    write_file(profiles_path, "[default]\naws_access_key_id=A\naws_secret_access_key=B\n");
    spec.config_file = profiles_path;
    assert_non_null(c = credentials_open(&spec, &e));
    assert_true(has_key(c, "A")); /* at hand: nobody waits */
    write_file(profiles_path, "[default]\naws_access_key_id=C\naws_secret_access_key=D\n");
    assert_true(has_key(c, "A"));
    credentials_ended(c, "A");
    assert_ok(credentials_get(c, SOON_MS, &keys, &e), &e);
    assert_string_equal(keys.access_key, "C");
    credentials_close(c);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_place),
        TEST(test_shared),
        TEST(test_container),
        TEST(test_container_hosts),
        TEST(test_bad_answers),
        TEST(test_answer_too_large),
        TEST(test_nobody_there),
        TEST(test_instance),
        TEST(test_web_identity),
        TEST(test_roles),
        TEST(test_process),
        TEST(test_no_process),
        TEST(test_one_is_sent),
        TEST(test_nobody_waits),
        TEST(test_kept),
        TEST(test_kept_and_refused),
        TEST(test_to_their_end),
        TEST(test_waits_for_the_absent),
        TEST(test_stale),
        TEST(test_ended),
        TEST(test_waits_are_bounded),
        TEST(test_clients_are_not_held_up),
        TEST(test_profile_anew),
    };

    log_open(LOG_ERROR, LOG_FORMAT_TEXT, "test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
