/* Many calls at once, against a server that keeps connections and does what the path says:
 *   /echo     answers with the body
 *   /slow     answers after 200 ms
 *   /silent   never answers
 *   /last     answers, and closes the connection before the next request
 *   /refuse   answers 403 before it reads the body, and closes */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "net/http.h"
#include "test/test.h"

enum { CALLS = 6, BODY_BYTES = 3 << 20, WAIT_MS = 5000, CONNECTIONS_MAX = 64 };

static int listener;
static unsigned port;
static pthread_t server;
static pthread_t serving[CONNECTIONS_MAX];
static int served[CONNECTIONS_MAX];
static _Atomic unsigned accepted;
static char *body;

static bool
say(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t some = send(fd, data, bytes, MSG_NOSIGNAL);

        if (some <= 0)
            return false;
        data += some;
        bytes -= (size_t)some;
    }
    return true;
}

/* One request; what of its body has come with its head is at the front of `to`. False: no more. */
static bool
hear_head(int fd, char *head, size_t head_bytes, size_t *have)
{
    *have = 0;
    while (!memmem(head, *have, "\r\n\r\n", 4)) {
        ssize_t some = recv(fd, head + *have, head_bytes - *have - 1, 0);

        if (some <= 0)
            return false;
        *have += (size_t)some;
    }
    head[*have] = '\0';
    return true;
}

static bool
answer(int fd)
{
    char head[16384], line[128];
    const char *length, *end;
    size_t have, bytes = 0, at = 0;
    char *got = NULL;
    bool ok;

    if (!hear_head(fd, head, sizeof head, &have))
        return false;
    if (strstr(head, "/refuse ")) {
        static const char no[] = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";

        (void)say(fd, no, sizeof no - 1);
        usleep(50000);
        return false;
    }
    if ((length = strcasestr(head, "content-length: ")))
        bytes = strtoul(length + 16, NULL, 10);
    end = (const char *)memmem(head, have, "\r\n\r\n", 4) + 4;
    got = malloc(bytes + 1);
    at = have - (size_t)(end - head);
    memcpy(got, end, at);
    while (at < bytes) {
        ssize_t some = recv(fd, got + at, bytes - at, 0);

        if (some <= 0)
            break;
        at += (size_t)some;
    }
    if (strstr(head, "/silent "))
        (void)recv(fd, line, 1, 0); /* until it is closed */
    if (strstr(head, "/slow "))
        usleep(200000);
    snprintf(line, sizeof line, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", bytes);
    ok = say(fd, line, strlen(line)) && say(fd, got, bytes) && !strstr(head, "/last ");
    free(got);
    return ok;
}

static void *
serve_one(void *with)
{
    int *fd = with;

    while (answer(*fd))
        ;
    close(*fd);
    return NULL;
}

static void *
serve(void *with)
{
    (void)with;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        unsigned at = atomic_load(&accepted);

        if (fd < 0 || at == CONNECTIONS_MAX)
            return NULL;
        served[at] = fd;
        assert_int_equal(pthread_create(&serving[at], NULL, serve_one, &served[at]), 0);
        atomic_store(&accepted, at + 1);
    }
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
    port = ntohs(at.sin_port);
    atomic_store(&accepted, 0);
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    body = malloc(BODY_BYTES);
    for (size_t i = 0; i < BODY_BYTES; i++)
        body[i] = (char)(i * 2654435761u >> 13);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
    close(listener);
    for (unsigned i = 0; i < atomic_load(&accepted); i++)
        pthread_join(serving[i], NULL);
    free(body);
    return 0;
}

typedef struct {
    HttpCall call;
    HttpAnswer answer;
    HttpJob *job;
    char url[64];
    bool ended, ok;
    Err why;
} Try;

static HttpPool *
new_pool(void)
{
    const HttpPoolSpec spec = {.user_agent = "rowferry/test", .connections = 8};
    HttpPool *pool;
    Err e = {0};

    assert_ok(pool = http_pool_new(&spec, &e), &e);
    return pool;
}

static void
begin(HttpPool *pool, Try *t, const char *path, size_t bytes)
{
    Err e = {0};

    *t = (Try){0};
    snprintf(t->url, sizeof t->url, "http://127.0.0.1:%u%s", port, path);
    t->call = (HttpCall){
        .method = "PUT", .url = t->url, .body = body, .body_bytes = bytes, .timeout_ms = WAIT_MS};
    assert_ok(t->job = http_pool_begin(pool, &t->call, &t->answer, t, &e), &e);
}

/* Turns until this one has ended; others may end meanwhile. */
static void
await(HttpPool *pool, const Try *t)
{
    int64_t until_ms = time_now_ms() + 2 * WAIT_MS;

    while (!t->ended) {
        Err e = {0}, why = {0};
        Try *other;
        bool ok;

        assert_true(time_now_ms() < until_ms);
        assert_ok(http_pool_turn(pool, 1000, &e), &e);
        while ((other = http_pool_ended(pool, &ok, &why))) {
            other->ended = true;
            other->ok = ok;
            other->why = why;
            err_clear(&why);
        }
    }
}

static void
test_bodies_go_and_come(void **state)
{
    static const size_t sizes[CALLS] = {0, 1, 65536, 65537, 1 << 20, BODY_BYTES};
    HttpPool *pool = new_pool();
    Try tries[CALLS];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CALLS; i++)
            begin(pool, &tries[i], "/echo", sizes[i]);
        for (int i = 0; i < CALLS; i++) {
            await(pool, &tries[i]);
            assert_ok(tries[i].ok, &tries[i].why);
            assert_int_equal(tries[i].answer.status, 200);
            assert_int_equal(tries[i].answer.body.bytes, sizes[i]);
            assert_memory_equal(tries[i].answer.body.data, body, sizes[i]);
            http_answer_free(&tries[i].answer);
        }
    }
    http_pool_free(pool);
    assert_true(atomic_load(&accepted) <= CALLS); /* connections are used again */
}

static void
test_slow_ones_wait_together(void **state)
{
    HttpPool *pool = new_pool();
    int64_t began_ms = time_now_ms();
    Try tries[CALLS];

    (void)state;
    for (int i = 0; i < CALLS; i++)
        begin(pool, &tries[i], "/slow", 10);
    for (int i = 0; i < CALLS; i++) {
        await(pool, &tries[i]);
        http_answer_free(&tries[i].answer);
    }
    assert_true(time_now_ms() - began_ms < CALLS * 200);
    http_pool_free(pool);
}

/* The server has closed the kept connection: nobody is told. */
static void
test_a_dead_connection_is_replaced(void **state)
{
    HttpPool *pool = new_pool();
    Try t;

    (void)state;
    for (int i = 0; i < 3; i++) {
        begin(pool, &t, "/last", 5000);
        await(pool, &t);
        assert_ok(t.ok, &t.why);
        assert_int_equal(t.answer.body.bytes, 5000);
        http_answer_free(&t.answer);
        usleep(20000);
    }
    http_pool_free(pool);
}

/* Who only writes sees a broken pipe; the answer was there before. */
static void
test_an_early_answer_is_heard(void **state)
{
    HttpPool *pool = new_pool();
    Try t;

    (void)state;
    begin(pool, &t, "/refuse", BODY_BYTES);
    await(pool, &t);
    assert_ok(t.ok, &t.why);
    assert_int_equal(t.answer.status, 403);
    assert_string_equal(t.answer.body.data, "no");
    http_answer_free(&t.answer);
    http_pool_free(pool);
}

static void
test_silence_ends(void **state)
{
    HttpPool *pool = new_pool();
    Try silent, quick;

    (void)state;
    begin(pool, &silent, "/silent", 10);
    begin(pool, &quick, "/echo", 10);
    await(pool, &quick);
    assert_true(quick.ok);
    assert_false(silent.ended);
    http_answer_free(&quick.answer);
    http_pool_cancel(pool, silent.job);
    begin(pool, &quick, "/echo", 10); /* others go on */
    await(pool, &quick);
    assert_true(quick.ok);
    assert_false(silent.ended);
    http_answer_free(&quick.answer);

    begin(pool, &silent, "/silent", 10);
    silent.call.timeout_ms = 1; /* what it began with counts */
    http_pool_cancel(pool, silent.job);
    silent.call.timeout_ms = WAIT_MS;
    silent.call.idle_timeout_ms = 1000;
    {
        Err e = {0};

        assert_ok(
            silent.job = http_pool_begin(pool, &silent.call, &silent.answer, &silent, &e), &e);
    }
    await(pool, &silent);
    assert_false(silent.ok);
    assert_int_equal(silent.why.code, ERR_WAITED_TOO_LONG);
    http_pool_free(pool);
}

static void *
wake_later(void *with)
{
    usleep(100000);
    http_pool_wake(with);
    return NULL;
}

static void
test_a_wait_can_be_ended(void **state)
{
    HttpPool *pool = new_pool();
    int64_t began_ms = time_now_ms();
    pthread_t thread;
    Err e = {0};

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wake_later, pool), 0);
    assert_ok(http_pool_turn(pool, 60000, &e), &e);
    assert_true(time_now_ms() - began_ms < 30000);
    pthread_join(thread, NULL);
    http_pool_free(pool);
}

int
main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_bodies_go_and_come),
        EACH(test_slow_ones_wait_together),
        EACH(test_a_dead_connection_is_replaced),
        EACH(test_an_early_answer_is_heard),
        EACH(test_silence_ends),
        EACH(test_a_wait_can_be_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
