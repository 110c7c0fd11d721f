/* What the client does with an answer, against a server that says exactly what the case wants, one
 * answer for each connection. */
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"
#include "storage/s3/s3_in.h"
#include "test/contract/s3_spec.h"
#include "test/contract/watches.h"
#include "test/test.h"

enum { ANSWERS_MAX = 10, HEAD_BYTES = 8192 };

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"a\"\r\n\r\nhi"
#define XML(status, more, code, inner)                                                             \
    "HTTP/1.1 " status "\r\nConnection: close\r\n" more                                            \
    "\r\n<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>m</Message>" inner            \
    "<RequestId>R1</RequestId></Error>"
#define RESET ""     /* nothing at all, and the connection is gone */
#define SILENT "zzz" /* nothing at all, and it stays */

static int listener;
static char endpoint[64];
static const char *const *script; /* NULL-ended */
static char head[ANSWERS_MAX][HEAD_BYTES];
static unsigned asked;
static pthread_t server;

static void
hear(int fd, char *to)
{
    size_t have = 0;

    while (!memmem(to, have, "\r\n\r\n", 4) && have < HEAD_BYTES - 1) {
        ssize_t some = recv(fd, to + have, HEAD_BYTES - 1 - have, 0);

        if (some <= 0)
            break;
        have += (size_t)some;
    }
    to[have] = '\0';
}

static void *
serve(void *with)
{
    (void)with;
    for (asked = 0; script[asked]; asked++) {
        const char *says = script[asked];
        int fd = accept(listener, NULL, NULL);
        char left[64];

        if (fd < 0)
            return NULL;
        hear(fd, head[asked]);
        if (strcmp(says, SILENT) == 0)
            (void)recv(fd, left, 1, 0); /* until the client goes */
        else if (*says)
            (void)send(fd, says, strlen(says), MSG_NOSIGNAL);
        shutdown(fd, SHUT_WR);
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
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", ntohs(at.sin_port));
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    close(listener);
    return 0;
}

static S3Spec
spec_here(void)
{
    S3Spec spec = s3_spec_new();

    spec.bucket = "exports";
    spec.region = "us-east-1";
    spec.endpoint = endpoint;
    spec.access_key = "KEY";
    spec.secret_key = "SECRETSECRET";
    spec.access_key_name = "S3_ACCESS_KEY";
    spec.tries = 4;
    return spec;
}

static bool
ask_as(const S3Spec *spec, const char *const *answers, const S3Request *request, S3Answer *answer,
    Err *e)
{
    Client *client;
    bool ok;

    script = answers;
    assert_ok(client = client_open(spec, e), e);
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    ok = client_call(client, request, answer, NULL, e);
    client_close(client);
    shutdown(listener, SHUT_RDWR); /* a script that was not used up ends here */
    pthread_join(server, NULL);
    return ok;
}

static bool
ask(const char *const *answers, const S3Request *request, S3Answer *answer, Err *e)
{
    S3Spec spec = spec_here();

    return ask_as(&spec, answers, request, answer, e);
}

static const S3Request get = {.operation = "GetObject", .method = "GET", .key = "k"};
static const S3Request look = {.operation = "HeadObject", .method = "HEAD", .key = "k"};
static const S3Request end = {
    .operation = "CompleteMultipartUpload", .method = "POST", .key = "k", .reads_error = true};

static bool
has_etag(const HttpAnswer *answer, Err *why)
{
    char etag[32];

    return http_header(answer, "ETag", etag, sizeof etag) ||
           fail_code(why, ERR_FORBIDDEN, "no ETag");
}

static const S3Request put = {
    .operation = "UploadPart", .method = "PUT", .key = "k", .is_whole = has_etag};

static void
test_what_follows_from_an_answer(void **state)
{
    static const struct {
        const char *name;
        const S3Request *request;
        const char *answers[ANSWERS_MAX];
        ErrCode want;
        S3Class class;
        unsigned tries;
        bool may_have_done;
    } cases[] = {
        {"good", &get, {OK}, ERR_NONE, S3_GOOD, 1, false},
        {"an error inside", &get, {XML("500 No", "", "InternalError", ""), OK}, ERR_NONE, S3_GOOD,
            2, true},
        {"slow down", &get, {XML("503 No", "Retry-After: 1\r\n", "SlowDown", ""), OK}, ERR_NONE,
            S3_GOOD, 2, true},
        {"no answer", &get, {RESET, RESET, OK}, ERR_NONE, S3_GOOD, 3, true},
        {"half an answer", &get, {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", OK}, ERR_NONE,
            S3_GOOD, 2, true},
        {"no HTTP", &get, {"220 smtp ready\r\n", OK}, ERR_NONE, S3_GOOD, 2, true},
        {"too often", &get,
            {XML("500 No", "", "InternalError", ""), XML("500 No", "", "InternalError", ""), RESET,
                XML("502 No", "", "", "")},
            ERR_STORAGE_UNAVAILABLE, S3_TRANSIENT, 4, true},
        {"damaged", &get, {XML("400 No", "", "BadDigest", ""), OK}, ERR_NONE, S3_GOOD, 2, false},
        {"damaged for ever", &get,
            {XML("400 No", "", "BadDigest", ""), XML("400 No", "", "BadDigest", ""),
                XML("400 No", "", "BadDigest", "")},
            ERR_STORAGE_UNAVAILABLE, S3_DAMAGED, 3, false},
        {"refused", &get, {XML("403 No", "", "AccessDenied", "")}, ERR_STORAGE_DENIED, S3_REFUSED,
            1, false},
        {"absent", &get, {XML("404 No", "", "NoSuchKey", "")}, ERR_NOT_FOUND, S3_ABSENT, 1, false},
        {"no bucket", &get, {XML("404 No", "", "NoSuchBucket", "")}, ERR_STORAGE_DENIED, S3_MISSING,
            1, false},
        {"full", &get, {XML("507 No", "", "InsufficientStorage", "")}, ERR_STORAGE_FULL, S3_FULL, 1,
            false},
        {"a 200 that is an error", &end,
            {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n  \n<Error><Code>InternalError</Code>"
             "</Error>",
                OK},
            ERR_NONE, S3_GOOD, 2, true},
        {"a 200 that is not what it should be", &put,
            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", OK}, ERR_NONE, S3_GOOD, 2, true},
        {"none that is", &put,
            {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", RESET, "HTTP/1.1 204 OK\r\n\r\n"},
            ERR_STORAGE_UNAVAILABLE, S3_TRANSIENT, 4, true},
        {"half a head", &look, {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETa", OK}, ERR_NONE,
            S3_GOOD, 2, true},
        {"another region, in the body", &get,
            {XML("400 No", "", "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"), OK},
            ERR_NONE, S3_GOOD, 2, false},
        {"another region, in a header", &look,
            {"HTTP/1.1 400 No\r\nx-amz-bucket-region: eu-west-3\r\nConnection: close\r\n\r\n", OK},
            ERR_NONE, S3_GOOD, 2, false},
        {"another region, which a HEAD does not tell", &look,
            {"HTTP/1.1 400 No\r\nConnection: close\r\n\r\n",
                XML("400 No", "", "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"),
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"},
            ERR_NONE, S3_GOOD, 3, false},
        {"a region that is none", &get,
            {XML("400 No", "", "AuthorizationHeaderMalformed", "<Region>a.evil/</Region>")},
            ERR_STORAGE_UNAVAILABLE, S3_ELSEWHERE, 1, false},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Answer answer;
        Err e = {0};

        trying(cases[i].name);
        set_up(NULL);
        if (cases[i].want == ERR_NONE)
            assert_ok(ask(cases[i].answers, cases[i].request, &answer, &e), &e);
        else
            assert_fails(ask(cases[i].answers, cases[i].request, &answer, &e), cases[i].want, &e);
        assert_int_equal(answer.class, cases[i].class);
        assert_int_equal(answer.tries, cases[i].tries);
        assert_int_equal(answer.may_have_done, cases[i].may_have_done);
        assert_int_equal(asked, cases[i].tries);
        client_answer_free(&answer);
        tear_down(NULL);
    }
}

/* Each try is signed anew, with what was learnt. */
static void
test_learns_region_and_clock(void **state)
{
    char later[64], answer_text[512], want[32];
    const char *answers[4] = {
        XML("400 No", "", "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"),
        answer_text, OK, NULL};
    S3Answer answer;
    Err e = {0};
    int64_t then_us = time_wall_us() + (int64_t)3600 * 1000000;

    (void)state;
    snprintf(answer_text, sizeof answer_text,
        "HTTP/1.1 403 No\r\nConnection: close\r\nDate: %s\r\n\r\n<Error><Code>RequestTimeTooSkewed"
        "</Code></Error>",
        time_http(then_us, later));
    assert_ok(ask(answers, &get, &answer, &e), &e);
    client_answer_free(&answer);
    assert_int_equal(asked, 3);
    assert_non_null(strstr(head[0], "/us-east-1/s3/aws4_request"));
    assert_non_null(strstr(head[1], "/eu-west-3/s3/aws4_request"));
    assert_non_null(strstr(head[2], "/eu-west-3/s3/aws4_request"));
    /* To the hour: "x-amz-date: 20240102T03" */
    time_key(then_us, later);
    snprintf(want, sizeof want, "%.8sT%.2s", later, later + 9);
    assert_null(strstr(head[1], want));
    assert_non_null(strstr(head[2], want));
}

static void
test_a_cancel_does_not_wait(void **state)
{
    const char *answers[] = {SILENT, NULL};
    S3Spec spec = spec_here();
    TestWatch watch = watch_new();
    int64_t began_ms = time_now_ms();
    S3Answer answer;
    Client *client;
    Err e = {0};

    (void)state;
    watch.ends_at_ms = began_ms + 200;
    watch.ends_with = ERR_CANCELLED;
    script = answers;
    assert_ok(client = client_open(&spec, &e), &e);
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    assert_fails(client_call(client, &get, &answer, &watch.base, &e), ERR_CANCELLED, &e);
    client_answer_free(&answer);
    assert_true(time_now_ms() - began_ms < 3000);
    client_close(client);
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
}

/* Who hands out keys may be away for a while; who says no is believed at once. */
static void
test_keys_are_waited_for(void **state)
{
    static const char no[] = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
                      away[] = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
                      keys[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
                               "{\"AccessKeyId\":\"LATER\",\"SecretAccessKey\":\"s\","
                               "\"Token\":\"t\",\"Expiration\":\"2099-01-01T00:00:00Z\"}";
    const char *later[] = {away, away, away, away, keys, OK, NULL}, *never[] = {no, no, NULL};
    S3Spec spec = spec_here();
    S3Request hurried = get;
    int64_t began_ms = time_now_ms();
    char uri[96];
    S3Answer answer;
    Err e = {0};

    (void)state;
    snprintf(uri, sizeof uri, "%s/keys", endpoint);
    spec.access_key = spec.secret_key = "";
    spec.container_full_uri = uri;
    assert_ok(ask_as(&spec, later, &get, &answer, &e), &e);
    assert_int_equal(asked, 6);
    assert_int_equal(answer.tries, 1);
    assert_non_null(strstr(head[5], "Credential=LATER/"));
    assert_true(time_now_ms() - began_ms < 8000); /* it looks again, at once when they are there */
    client_answer_free(&answer);
    tear_down(NULL);

    set_up(NULL);
    snprintf(uri, sizeof uri, "%s/keys", endpoint);
    assert_fails(ask_as(&spec, never, &get, &answer, &e), ERR_STORAGE_DENIED, &e);
    assert_int_equal(asked, 1);
    assert_int_equal(answer.tries, 0);
    client_answer_free(&answer);
    tear_down(NULL);

    set_up(NULL);
    snprintf(uri, sizeof uri, "%s/keys", endpoint);
    hurried.total_ms = 500;
    later[1] = SILENT;
    began_ms = time_now_ms();
    assert_fails(ask_as(&spec, later, &hurried, &answer, &e), ERR_STORAGE_UNAVAILABLE, &e);
    assert_true(time_now_ms() - began_ms < 5000);
    client_answer_free(&answer);
}

/* A store that nobody answers for is given up when the caller's time is over, tries or not. */
static void
test_total_time(void **state)
{
    S3Spec spec = spec_here();
    S3Request request = get;
    int64_t began_ms = time_now_ms();
    S3Answer answer;
    Client *client;
    Err e = {0};

    (void)state;
    close(listener);
    listener = -1;
    spec.tries = 100;
    request.total_ms = 500;
    assert_ok(client = client_open(&spec, &e), &e);
    assert_fails(client_call(client, &request, &answer, NULL, &e), ERR_STORAGE_UNAVAILABLE, &e);
    assert_true(time_now_ms() - began_ms < 3000);
    assert_true(answer.tries > 1);
    client_answer_free(&answer);
    client_close(client);
}

/* Several at once, ended in any order; what is on its way may be dropped. */
static void
test_many_at_once(void **state)
{
    const char *answers[] = {OK, SILENT, NULL};
    S3Spec spec = spec_here();
    ClientCall first, second;
    S3Answer one, two;
    Client *client;
    Err e = {0};

    (void)state;
    script = answers;
    assert_ok(client = client_open(&spec, &e), &e);
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    client_begin(client, &first, &get, &one);
    while (!client_has_ended(client, &first))
        assert_ok(client_wait(client, NULL, &e), &e);
    assert_ok(first.ok, &first.why);
    assert_string_equal(one.http.body.data, "hi");
    client_begin(client, &second, &get, &two);
    assert_false(client_has_ended(client, &second));
    client_cancel(client, &second);
    client_cancel(client, &second); /* harmless */
    client_answer_free(&one);
    client_close(client);
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
}

int
main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_follows_from_an_answer),
        EACH(test_learns_region_and_clock),
        EACH(test_a_cancel_does_not_wait),
        EACH(test_total_time),
        EACH(test_keys_are_waited_for),
        EACH(test_many_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
