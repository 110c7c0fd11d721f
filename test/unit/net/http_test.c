/* The client against a server of one thread that says exactly what the case wants. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "net/http.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static int listener;
static char url[64], asked[8192];
static const char *says;
static bool keeps_silent;

/* One connection, one request, what `says` says. */
static void *
serve(void *with)
{
    int fd = accept(listener, NULL, NULL);
    ssize_t got = read(fd, asked, sizeof asked - 1), wrote;

    (void)with;
    asked[got > 0 ? got : 0] = '\0';
    wrote = write(fd, says, strlen(says));
    if (keeps_silent)
        usleep(400000);
    close(fd);
    return (void *)wrote;
}

static int
set_up(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;

    (void)state;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/a", ntohs(at.sin_port));
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* never for loopback */
    keeps_silent = false;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    return close(listener);
}

static bool
call(HttpCall *c, const char *answer_text, HttpAnswer *answer, Err *e)
{
    HttpClient *client = http_client_new("rowferry/test", e);
    pthread_t thread;
    bool ok;

    says = answer_text;
    c->url = url;
    c->timeout_ms = c->timeout_ms ? c->timeout_ms : 5000;
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    ok = http_call(client, c, answer, e);
    pthread_join(thread, NULL);
    http_client_free(client);
    return ok;
}

static void
test_answers(void **state)
{
    HttpCall c = {.method = "POST",
        .body = "{}",
        .body_bytes = 2,
        .header = (const char *const[]){"Content-Type: application/json", NULL}};
    HttpAnswer a;
    char value[16];
    Err e = {0};

    (void)state;
    if (!call(&c, "HTTP/1.1 422 No\r\nX-One:  yes \r\nContent-Length: 3\r\n\r\nbad", &a, &e))
        fail_msg("%s", err_root(&e));
    assert_int_equal(a.status, 422);
    assert_string_equal(a.body.data, "bad");
    assert_true(http_header(&a, "x-one", value, sizeof value));
    assert_string_equal(value, "yes");
    assert_false(http_header(&a, "x-on", value, sizeof value));
    assert_false(http_header(&a, "x-one", value, 3));
    assert_non_null(strstr(asked, "POST /a HTTP/1.1\r\n"));
    assert_non_null(strstr(asked, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(asked, "User-Agent: rowferry/test\r\n"));
    assert_null(strstr(asked, "Expect"));
    http_answer_free(&a);
}

static void
test_redirect_is_an_answer(void **state)
{
    HttpAnswer a;
    char to[64];
    Err e = {0};

    (void)state;
    assert_true(call(&(HttpCall){0},
        "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        &a, &e));
    assert_int_equal(a.status, 302);
    assert_true(http_header(&a, "Location", to, sizeof to));
    assert_false(http_header(&a, "A", to, sizeof to));
    http_answer_free(&a);
}

static bool
refuse(const void *data, size_t bytes, void *with)
{
    (void)data;
    *(size_t *)with += bytes;
    return false;
}

static bool
is_asked_twice(void *with)
{
    return ++*(int *)with < 2;
}

static void
test_giving_up(void **state)
{
    int asks = 0;
    HttpCall c = {.go_on = is_asked_twice, .with = &asks};
    HttpAnswer a;
    Err e = {0};

    (void)state;
    keeps_silent = true;
    assert_false(call(&c, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1", &a, &e));
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_int_equal(asks, 2);
}

static void
test_failures(void **state)
{
    static const struct {
        const char *name, *answer;
        size_t bytes_max;
        bool silent, sinks;
        ErrCode want;
    } cases[] = {
        {"larger than it may be", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678", 4, false,
            false, ERR_SIZE_LIMIT},
        {"cut", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1234", 0, false, false,
            ERR_SERVER_UNREACHABLE},
        {"cut in the status", "HTTP/1.1 2", 0, false, false, ERR_SERVER_UNREACHABLE},
        {"cut in a header", "HTTP/1.1 200 OK\r\nContent-Len", 0, false, false,
            ERR_SERVER_UNREACHABLE},
        {"cut behind a header", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", 0, false, false,
            ERR_SERVER_UNREACHABLE},
        {"cut in the last line", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r", 0, false, false,
            ERR_SERVER_UNREACHABLE},
        {"nothing", "", 0, false, false, ERR_SERVER_UNREACHABLE},
        {"no HTTP", "hello\r\n\r\n", 0, false, false, ERR_SERVER_UNREACHABLE},
        {"no end", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1", 0, true, false,
            ERR_WAITED_TOO_LONG},
        {"the sink says no", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", 0, false, true,
            ERR_CANCELLED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t took = 0;
        HttpCall c = {.answer_bytes_max = cases[i].bytes_max,
            .timeout_ms = cases[i].silent ? 200 : 5000,
            .sink = cases[i].sinks ? refuse : NULL,
            .with = &took};
        HttpAnswer a;
        Err e = {0};

        keeps_silent = cases[i].silent;
        if (call(&c, cases[i].answer, &a, &e) || e.code != cases[i].want)
            fail_msg("%s: %s (%s)", cases[i].name, err_name(e.code), err_root(&e));
    }
}

static void
test_nobody_there(void **state)
{
    HttpClient *client;
    HttpAnswer a;
    Err e = {0};

    (void)state;
    client = http_client_new("t", &e);
    assert_false(http_call(
        client, &(HttpCall){.url = "http://u:secret@127.0.0.1:1/", .timeout_ms = 1000}, &a, &e));
    assert_int_equal(e.code, ERR_SERVER_UNREACHABLE);
    assert_null(strstr(err_root(&e), "secret"));
    err_clear(&e);
    assert_false(http_call(client, &(HttpCall){.url = "file:///etc/passwd"}, &a, &e));
    assert_int_equal(e.code, ERR_USAGE);
    http_client_free(client);
}

int
main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_answers),
        EACH(test_redirect_is_an_answer),
        EACH(test_giving_up),
        EACH(test_failures),
        EACH(test_nobody_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
