/* The client's patience and its files, against a server of one thread that says what the case
 * wants: an answer for each connection, in order. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "cli/download.h"
#include "cli/remote.h"
#include "test/test.h"

enum { ANSWERS_MAX = 8, ASKED_BYTES = 4096 };

static int listener;
static char url[64], asked[ANSWERS_MAX][ASKED_BYTES];
static const char *const *answers; /* NULL-ended; "" cuts the connection */
static unsigned served;

/* Headers and, for a POST, the body, as far as they came. */
static void
read_request(int fd, char *to)
{
    size_t bytes = 0;
    ssize_t got;

    while (bytes + 1 < ASKED_BYTES && (got = read(fd, to + bytes, ASKED_BYTES - 1 - bytes)) > 0) {
        bytes += (size_t)got;
        to[bytes] = '\0';
        if (strstr(to, "\r\n\r\n") &&
            (strncmp(to, "POST", 4) != 0 || strstr(to, "Content-Length: 0") || strchr(to, '}')))
            return;
    }
    to[bytes] = '\0';
}

static void *
serve(void *with)
{
    (void)with;
    for (served = 0; answers[served]; served++) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            return NULL;
        read_request(fd, asked[served]);
        (void)!write(fd, answers[served], strlen(answers[served]));
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
    memset(asked, 0, sizeof asked);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(at.sin_port));
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    return close(listener);
}

static Cli
command_line(void)
{
    return (Cli){.arena = arena_new(1 << 20), .url = url, .output = "table", .quiet = true};
}

/* One call while `script` is served. */
static bool
call_with(Cli *c, const char *const *script, RemoteAnswer *answer, Err *e)
{
    json_t *body = json_pack("{s:s}", "export_type", "t");
    pthread_t thread;
    Remote r;
    bool ok;

    answers = script;
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    assert_ok(remote_open(c, &r, e), e);
    ok = remote_call(&r,
        &(RemoteCall){.method = "POST", .path = "/a", .body = body, .idempotency_key = "one-key"},
        answer, e);
    remote_close(&r);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    json_decref(body);
    return ok;
}

#define JSON_ANSWER(status, more, body)                                                            \
    "HTTP/1.1 " status "\r\nConnection: close\r\n" more                                            \
    "Content-Type: application/json\r\n\r\n" body

#define ACCEPTED JSON_ANSWER("202 Accepted", "Retry-After: 7\r\n", "{\"task_id\":\"x\"}")

static void
test_calls(void **state)
{
    static const struct {
        const char *name;
        const char *script[4];
        ErrCode want;
        unsigned times;   /* that it was asked */
        const char *code; /* of the problem that is kept; NULL: none */
    } cases[] = {
        {"at once", {ACCEPTED}, ERR_NONE, 1, NULL},
        {"cut, then accepted", {"", "HTTP/1.1 202 Acc", ACCEPTED}, ERR_NONE, 3, NULL},
        {"busy, then accepted",
            {JSON_ANSWER("503 No", "Retry-After: 1\r\n", "{\"code\":\"queue-full\"}"), ACCEPTED},
            ERR_NONE, 2, NULL},
        {"the first is still running",
            {JSON_ANSWER("409 No", "", "{\"code\":\"idempotency-in-flight\"}"), ACCEPTED}, ERR_NONE,
            2, NULL},
        {"later than we wait",
            {JSON_ANSWER("429 No", "Retry-After: 60\r\n", "{\"code\":\"quota-exceeded\"}")},
            ERR_QUOTA_EXCEEDED, 1, "quota-exceeded"},
        {"refused",
            {JSON_ANSWER("422 No", "", "{\"code\":\"validation-failed\",\"detail\":\"no\"}")},
            ERR_VALIDATION_FAILED, 1, "validation-failed"},
        {"a code of the future", {JSON_ANSWER("403 No", "", "{\"code\":\"too-tired\"}")},
            ERR_FORBIDDEN, 1, "too-tired"},
        {"a status of the future", {JSON_ANSWER("418 No", "", "{\"code\":\"teapot\"}")},
            ERR_INVALID_REQUEST, 1, "teapot"},
        {"a page of a proxy", {JSON_ANSWER("404 No", "", "<html>")}, ERR_NOT_FOUND, 1, NULL},
        {"an error inside", {JSON_ANSWER("500 No", "", "{\"code\":\"internal\"}")}, ERR_INTERNAL, 1,
            "internal"},
        {"not rowferry", {JSON_ANSWER("200 OK", "", "[1]")}, ERR_INTERNAL, 1, NULL},
        {"a member twice", {JSON_ANSWER("200 OK", "", "{\"a\":1,\"a\":2}")}, ERR_INTERNAL, 1, NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Cli c = command_line();
        RemoteAnswer answer = {0};
        Err e = {0};
        bool ok;

        trying(cases[i].name);
        if (i > 0)
            tear_down(NULL), set_up(NULL);
        ok = call_with(&c, cases[i].script, &answer, &e);
        assert_int_equal(e.code, cases[i].want);
        assert_int_equal(ok, cases[i].want == ERR_NONE);
        assert_int_equal(served, cases[i].times);
        /* Never two exports of one request. */
        for (unsigned k = 0; k < served; k++)
            assert_non_null(strstr(asked[k], "\r\nIdempotency-Key: one-key\r\n"));
        if (cases[i].code)
            assert_string_equal(
                json_string_value(json_object_get(c.problem, "code")), cases[i].code);
        else
            assert_null(c.problem);
        if (ok)
            assert_int_equal(answer.retry_after_s, 7);
        json_decref(answer.body);
        json_decref(c.problem);
        arena_free(c.arena);
    }
}

static void
test_nobody_there(void **state)
{
    Cli c = command_line();
    RemoteAnswer answer;
    Remote r;
    Err e = {0};

    (void)state;
    tear_down(NULL);
    assert_ok(remote_open(&c, &r, &e), &e);
    r.patience_ms = 300;
    assert_fails(remote_call(&r, &(RemoteCall){.method = "GET", .path = "/"}, &answer, &e),
        ERR_SERVER_UNREACHABLE, &e);
    err_clear(&e);
    /* With time over before anybody could be asked. */
    c.deadline_ms = time_now_ms() - 1;
    assert_fails(remote_call(&r, &(RemoteCall){.method = "GET", .path = "/"}, &answer, &e),
        ERR_WAITED_TOO_LONG, &e);
    remote_close(&r);
    arena_free(c.arena);
    set_up(NULL);
}

/* An answer that does not come: in --timeout it is 124. */
static void
test_timeout(void **state)
{
    Cli c = command_line();
    RemoteAnswer answer;
    Remote r;
    Err e = {0};

    (void)state;
    c.deadline_ms = time_now_ms() + 200;
    assert_ok(remote_open(&c, &r, &e), &e);
    assert_fails(remote_call(&r, &(RemoteCall){.method = "GET", .path = "/"}, &answer, &e),
        ERR_WAITED_TOO_LONG, &e);
    assert_int_equal(err_exit_status(e.code), 124);
    remote_close(&r);
    arena_free(c.arena);
}

/* --- files --- */

/* SHA-256 of "hello world\n". */
#define SUM "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447"

static char folder[] = "/tmp/rowferry-test-XXXXXX";

static const char *
in_folder(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *
content(const char *path)
{
    static char text[64];
    int fd = open(path, O_RDONLY);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got < 0 ? NULL : text;
}

static const CliFlag flag_resume = {"resume"}, flag_no_verify = {"no-verify"};

static bool
save_with(const CliFlag *flag, const char *const *script, const char *key, const char *sum,
    const char *to, Err *e)
{
    CliGiven given = {flag, ""};
    Cli c = command_line();
    json_t *status =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:{s:s}}", "status", "completed", "state", "completed",
            "key", key, "download_url", "/files/x", "file_size", 12, "checksum", "sha256", sum);
    pthread_t thread;
    Remote r;
    bool ok;

    if (flag)
        c.args = (CliArgs){.given = &given, .givens = 1};
    answers = script;
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    assert_ok(remote_open(&c, &r, e), e);
    r.authorization = "Authorization: Bearer secret";
    ok = download_save(&r, status, to, e);
    remote_close(&r);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    json_decref(status);
    json_decref(c.problem);
    arena_free(c.arena);
    return ok;
}

#define FILE_ANSWER(status, count, body)                                                           \
    "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Length: " count "\r\n\r\n" body

#define WHOLE FILE_ANSWER("200 OK", "12", "hello world\n")
#define OTHER FILE_ANSWER("200 OK", "12", "hello World\n")

static void
test_files(void **state)
{
    static const struct {
        const char *name;
        const CliFlag *flag;
        const char *script[4], *key, *before; /* what the file is before; NULL: not there */
        ErrCode want;
        const char *after; /* what it is then; NULL: not there */
        const char *asks;  /* stands in the last request; NULL: nothing was asked */
    } cases[] = {
        {"whole", NULL, {WHOLE}, "exports/u/a.csv", NULL, ERR_NONE, "hello world\n",
            "GET /files/x"},
        {"a name that leads elsewhere", NULL, {WHOLE}, "exports/../../a.csv", NULL, ERR_NONE,
            "hello world\n", "GET /files/x"},
        {"it is there already", NULL, {NULL}, "exports/u/a.csv", "mine", ERR_EXISTS, "mine", NULL},
        {"another content", NULL, {OTHER}, "exports/u/a.csv", NULL, ERR_VERIFY_FAILED, NULL,
            "GET /files/x"},
        {"another content, not verified", &flag_no_verify, {OTHER}, "exports/u/a.csv", NULL,
            ERR_NONE, "hello World\n", "GET /files/x"},
        {"too long", NULL, {FILE_ANSWER("200 OK", "13", "hello world\n\n")}, "exports/u/a.csv",
            NULL, ERR_VERIFY_FAILED, NULL, "GET /files/x"},
        {"too short", NULL, {FILE_ANSWER("200 OK", "5", "hello")}, "exports/u/a.csv", NULL,
            ERR_VERIFY_FAILED, NULL, "GET /files/x"},
        {"cut and taken up", NULL,
            {FILE_ANSWER("200 OK", "12", "hello"), FILE_ANSWER("206 Part", "7", " world\n")},
            "exports/u/a.csv", NULL, ERR_NONE, "hello world\n", "Range: bytes=5-"},
        {"cut and begun again", NULL, {FILE_ANSWER("200 OK", "12", "hello"), WHOLE},
            "exports/u/a.csv", NULL, ERR_NONE, "hello world\n", "Range: bytes=5-"},
        {"refused", NULL, {FILE_ANSWER("403 No", "0", "")}, "exports/u/a.csv", NULL, ERR_FORBIDDEN,
            NULL, "GET /files/x"},
        {"a part continued", &flag_resume, {FILE_ANSWER("206 Part", "7", " world\n")},
            "exports/u/a.csv", "hello", ERR_NONE, "hello world\n", "Range: bytes=5-"},
        {"all is there", &flag_resume, {NULL}, "exports/u/a.csv", "hello world\n", ERR_NONE,
            "hello world\n", NULL},
        {"another file's part", &flag_resume, {FILE_ANSWER("206 Part", "7", " world\n")},
            "exports/u/a.csv", "HELLO", ERR_VERIFY_FAILED, "HELLO", "Range: bytes=5-"},
        {"longer than it should become", &flag_resume, {NULL}, "exports/u/a.csv",
            "hello world and more", ERR_EXISTS, "hello world and more", NULL},
    };

    (void)state;
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < count_of(cases); i++) {
        const char *path = in_folder("a.csv"), *after;
        struct stat about;
        Err e = {0};
        int fd;

        trying(cases[i].name);
        tear_down(NULL), set_up(NULL);
        (void)unlink(path);
        if (cases[i].before) {
            fd = open(path, O_WRONLY | O_CREAT, 0600);
            assert_int_equal(
                write(fd, cases[i].before, strlen(cases[i].before)), strlen(cases[i].before));
            close(fd);
        }
        fflush(stdout);
        (void)save_with(cases[i].flag, cases[i].script, cases[i].key, SUM, folder, &e);
        path = in_folder("a.csv");
        assert_int_equal(e.code, cases[i].want);
        after = content(path);
        if (cases[i].after)
            assert_string_equal(after, cases[i].after);
        else
            assert_null(after);
        if (cases[i].asks)
            assert_non_null(strstr(asked[served - 1], cases[i].asks));
        /* The link is its own right: the token stays here. */
        for (unsigned k = 0; k < served; k++)
            assert_null(strstr(asked[k], "secret"));
        if (stat(path, &about) == 0)
            assert_int_equal(about.st_mode & 0777, 0600);
    }
    (void)unlink(in_folder("a.csv"));
    assert_int_equal(rmdir(folder), 0);
}

int
main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_calls),
        EACH(test_nobody_there),
        EACH(test_timeout),
        EACH(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
