/* A server on a port of its own, in a thread, with a small handler; its clients are raw sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_in.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum { FILE_BYTES = 3 << 20, BIG_BYTES = 4 << 20 };

static const char *trying_now = "";

static void
trying(const char *name)
{
    trying_now = name;
}

#define check(yes)                                                                                 \
    do {                                                                                           \
        if (!(yes))                                                                                \
            print_error("while trying: %s\n", trying_now);                                         \
        assert_true(yes);                                                                          \
    } while (0)

/* The service under test. */
static Arena *arena;
static Server *server;
static pthread_t loop;
static unsigned port;
static FILE *file;
static atomic_uint handled;
static atomic_int posting; /* threads that are not done with the server */
static atomic_int last_resume;
static Request *held; /* what "/hold" keeps until the test lets it go */

static void
say(Request *req, int status, const char *text)
{
    req->answer.status = status;
    req->answer.content_type = "text/plain";
    buf_text(&req->answer.body, text);
    server_answer(req);
}

static void
on_posted(Request *req, Resume why)
{
    say(req, why == RESUME_POSTED ? 200 : 500, "posted");
}

static void *
post_later(void *with)
{
    struct timespec pause = {.tv_nsec = 20000000};

    nanosleep(&pause, NULL);
    server_post(with, on_posted);
    atomic_fetch_sub(&posting, 1);
    return NULL;
}

static void
on_resume(Request *req, Resume why)
{
    static const char *const words[] = {"posted", "woken", "time", "left", "stopping"};

    atomic_store(&last_resume, (int)why);
    say(req, 200, words[why]);
}

static void
show(Request *req)
{
    req->answer.status = 200;
    req->answer.content_type = "text/plain";
    buf_printf(&req->answer.body, "%s|%s|%s|%s|%zu|", req->method, req->target, req->path,
        req->query ? req->query : "-", req->headers);
    buf_put(&req->answer.body, req->body, req->body_bytes);
    buf_printf(&req->answer.body, "|%s|%s|%s", req->peer,
        req->peer_is_private ? "private" : "public", req->base_url);
    for (size_t i = 0; i < req->headers; i++)
        if (strncmp(req->header[i].name, "x-", 2) == 0)
            buf_printf(&req->answer.body, "|%s=%s", req->header[i].name, req->header[i].value);
    server_answer(req);
}

static void
handle(Request *req, void *with)
{
    pthread_t thread;

    (void)with;
    atomic_fetch_add(&handled, 1);
    req->route = "/test";
    if (strcmp(req->path, "/later") == 0) {
        atomic_fetch_add(&posting, 1);
        assert_int_equal(pthread_create(&thread, NULL, post_later, req), 0);
        pthread_detach(thread);
    } else if (strcmp(req->path, "/wait") == 0) {
        server_wait(req, time_now_ms() + atoi(req->query), on_resume);
    } else if (strcmp(req->path, "/wake") == 0) {
        server_wake(req->server);
        say(req, 200, "");
    } else if (strcmp(req->path, "/hold") == 0) {
        held = req;
    } else if (strcmp(req->path, "/big") == 0) {
        memset(buf_reserve(&req->answer.body, BIG_BYTES), 'b', BIG_BYTES);
        buf_wrote(&req->answer.body, BIG_BYTES);
        req->answer.status = 200;
        server_answer(req);
    } else if (strcmp(req->path, "/too-big") == 0) {
        req->answer.status = 200;
        for (int i = 0; i < 40; i++)
            buf_printf(&req->answer.body, "%500000d", i);
        server_answer(req);
    } else if (strcmp(req->path, "/file") == 0) {
        req->answer.fd = dup(fileno(file));
        req->answer.offset = 10;
        req->answer.count = strtoll(req->query, NULL, 10);
        req->answer.status = 206;
        req->answer.content_type = "text/csv";
        server_answer(req);
    } else if (strcmp(req->path, "/none") == 0) {
        req->answer.status = 204;
        server_answer(req);
    } else if (strcmp(req->path, "/json") == 0) {
        response_header(&req->answer, "Location", "/a/%d", 7);
        buf_text(&req->answer.body, "{\"a\":1}");
        req->answer.status = 201;
        server_answer(req);
    } else if (strcmp(req->path, "/close") == 0) {
        req->answer.close = true;
        say(req, 200, "bye");
    } else {
        show(req);
    }
}

static void *
run_loop(void *with)
{
    Err e = {0};

    assert_true(server_run(with, &e));
    return NULL;
}

static void
start(void (*before)(Server *s))
{
    char *argv[] = {(char *)(uintptr_t) "api", (char *)(uintptr_t) "--port=0"};
    ConfigArgs args = {.argc = 2, .argv = argv};
    Err e = {0};
    const Config *config;

    config = config_load(&args, arena, &e);
    if (!config)
        print_error("%s\n", err_root(&e));
    assert_non_null(config);
    server = server_new(&(ServerSpec){.config = config, .listen_fd = -1, .handle = handle}, &e);
    assert_non_null(server);
    if (before)
        before(server);
    port = (unsigned)atoi(strrchr(server_url(server), ':') + 1);
    atomic_store(&handled, 0);
    atomic_store(&last_resume, -1);
    held = NULL;
    assert_int_equal(pthread_create(&loop, NULL, run_loop, server), 0);
}

static int64_t
finish(bool now)
{
    int64_t began = time_now_ms();

    server_stop(server, now);
    pthread_join(loop, NULL);
    while (atomic_load(&posting) > 0)
        usleep(1000);
    server_free(server);
    return time_now_ms() - began;
}

static int
set_up(void **state)
{
    (void)state;
    clearenv();
    setenv("HOME", "/nonexistent", 1);
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_ERROR);
    arena = arena_new(64 << 20);
    file = tmpfile();
    for (int i = 0; file && i < FILE_BYTES; i++)
        fputc('a' + i % 26, file);
    return arena && file && fflush(file) == 0 ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    fclose(file);
    arena_free(arena);
    return 0;
}

/* A client. */
static int
dial_from(const char *own)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    inet_pton(AF_INET, own, &from.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static int
dial(void)
{
    return dial_from("127.0.0.1");
}

static void
tell(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, text, bytes, MSG_NOSIGNAL);

        if (sent <= 0) /* it has refused and closed in the middle */
            return;
        text += sent;
        bytes -= (size_t)sent;
    }
}

static void
tell_text(int fd, const char *text)
{
    tell(fd, text, strlen(text));
}

static char heard[8 << 20];

/* Reads to the end of one answer (by Content-Length), or of the connection; its status, 0 if there
 * was none. `ended`: the connection. What comes behind stays in `heard`. */
typedef struct {
    int status;
    const char *head, *body;
    size_t body_bytes;
    bool ended;
} Answer;

static size_t heard_bytes;

static bool
hear_more(int fd)
{
    ssize_t got = recv(fd, heard + heard_bytes, sizeof heard - 1 - heard_bytes, 0);

    if (got < 0 && errno == EAGAIN)
        print_error("while trying %s: no answer in 10 s\n", trying_now);
    if (got <= 0)
        return false;
    heard_bytes += (size_t)got;
    heard[heard_bytes] = '\0';
    return true;
}

static void
forget(size_t bytes)
{
    memmove(heard, heard + bytes, heard_bytes - bytes + 1);
    heard_bytes -= bytes;
}

static char answer_text[8 << 20];

static Answer
hear(int fd, bool is_head)
{
    Answer answer = {0};
    const char *end, *length;
    size_t bytes = 0, head;

    while (!(end = strstr(heard, "\r\n\r\n")))
        if (!hear_more(fd)) {
            answer.ended = true;
            return answer;
        }
    head = (size_t)(end - heard) + 4;
    if ((length = strstr(heard, "Content-Length: ")) && length < end && !is_head)
        bytes = (size_t)atoll(length + strlen("Content-Length: "));
    while (heard_bytes < head + bytes && !answer.ended)
        answer.ended = !hear_more(fd);
    if (heard_bytes < head + bytes)
        bytes = heard_bytes - head;
    memcpy(answer_text, heard, head + bytes);
    answer_text[head + bytes] = '\0';
    answer_text[head - 1] = '\0';
    answer.head = answer_text;
    answer.body = answer_text + head;
    answer.body_bytes = bytes;
    answer.status = atoi(answer_text + strlen("HTTP/1.1 "));
    forget(head + bytes);
    return answer;
}

static bool
has_ended(int fd)
{
    return heard_bytes == 0 && !hear_more(fd);
}

static Answer
ask(int fd, const char *text)
{
    tell_text(fd, text);
    return hear(fd, strncmp(text, "HEAD ", 5) == 0);
}

static void
hang_up(int fd)
{
    close(fd);
    heard_bytes = 0;
    heard[0] = '\0';
}

#define SECOND "GET /second HTTP/1.1\r\nHost: a\r\n\r\n"

/* Each with a second request behind it, which is not run where the first is refused. */
static const struct {
    const char *name, *text;
    int status;
    const char *has; /* in the body: the code of a refusal, or what the handler saw */
} cases[] = {
    /* clang-format off */
    {"plain", "GET /a%20b?x=%41 HTTP/1.1\r\nHost: a\r\n\r\n", 200, "GET|/a%20b?x=%41|/a b|x=%41|1||127.0.0.1|private|http://a"},
    {"empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "GET|/|/|-|1|"},
    {"body", "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 200, "|abc|"},
    {"chunked", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, "|2|abc|"},
    {"trailers are dropped", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-User: root\r\n\r\n", 200, "|2|a|127.0.0.1|private|http://a"},
    {"a length in the trailer", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n", 200, "|2|a|"},
    {"blanks around a value", "GET / HTTP/1.1\r\nHost:\t a \t\r\nX-A:  b c \r\n\r\n", 200, "|x-a=b c"},
    {"an empty value", "GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\nX-B: \r\n\r\n", 200, "|x-a=|x-b="},
    {"upgrade is ignored", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", 200, "GET|/|"},
    {"upgrade with a body", "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi", 200, "|hi|"},
    {"IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200, "|http://[::1]:8000"},
    {"method of another protocol, over HTTP", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "TRACE|/"},

    {"length and encoding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"encoding and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400, "invalid-request"},
    {"two equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, "invalid-request"},
    {"blank before the colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400, "invalid-request"},
    {"length +3", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400, "invalid-request"},
    {"length -1", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "invalid-request"},
    {"length 3,3", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3,3\r\n\r\nabc", 400, "invalid-request"},
    {"length 0x3", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400, "invalid-request"},
    {"length empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, "invalid-request"},
    {"length overflows", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc", 400, "invalid-request"},
    {"xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"chunked, identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"chunked with a tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"empty encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400, "invalid-request"},
    {"encoding in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid-request"},
    {"bad chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "invalid-request"},
    {"signed chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n", 400, "invalid-request"},
    {"chunk size overflows", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n", 400, "invalid-request"},
    {"chunk without its end", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400, "invalid-request"},
    {"bare LF after a chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", 400, "invalid-request"},
    {"bare LF in a chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\na\r\n0\r\n\r\n", 400, "invalid-request"},
    {"bare LF after a chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", 400, "invalid-request"},
    {"blank after a chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", 400, "invalid-request"},
    {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"no host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", 400, "invalid-request"},
    {"no header at all", "GET / HTTP/1.1\r\n\r\n", 400, "invalid-request"},
    {"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "invalid-request"},
    {"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "invalid-request"},
    {"host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "invalid-request"},
    {"folded value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", 400, "invalid-request"},
    {"folded with a tab", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc\r\n\r\n", 400, "invalid-request"},
    {"folded empty value", "GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\n c\r\n\r\n", 400, "invalid-request"},
    {"folded name", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Use: admin\r\n r\r\n\r\n", 400, "invalid-request"},
    {"folded to nothing", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n \r\n\r\n", 400, "invalid-request"},
    {"folded length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n 0\r\n\r\n0123456789", 400, "invalid-request"},
    {"first header begins with a blank", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "invalid-request"},
    {"no name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, "invalid-request"},
    {"name with a bracket", "GET / HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n", 400, "invalid-request"},
    {"control in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x01\r\n\r\n", 400, "invalid-request"},
    {"DEL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x7f\r\n\r\n", 400, "invalid-request"},
    {"bare LF after the line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"bare LF after a header", "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400, "invalid-request"},
    {"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "invalid-request"},
    {"bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n", 400, "invalid-request"},
    {"HTTP/0.9", "GET /\r\n", 400, "invalid-request"},
    {"HTTP/0.9 with headers", "GET /\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"HTTP/0.9, written out", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid-request"},
    {"http in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"RTSP", "GET / RTSP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"RTSP's own method", "DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"ICE", "SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"unknown method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"method in lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"two blanks before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"two blanks before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"blank after the line", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"blank before the line", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"tab in the line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"absolute target", "GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"fragment in the query", "GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"not ASCII", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%00", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%0a", "GET /a%0ab HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%7f", "GET /a%7fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%zz", "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"cut escape", "GET /a%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%00 in the query", "GET /?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%zz in the query", "GET /?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-request"},
    {"%ff", "GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid-encoding"},
    {"expect", "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\na", 417, "expectation-failed"},
    {"encoded body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", 415, "unsupported-media-type"},
    {"long body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\na", 413, "body-too-large"},
    {"foreign host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "forbidden"},
    {"TLS", "\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n", 400, "invalid-request"},
    {"nonsense", "\xff\xfe\xfd\r\n\r\n", 400, "invalid-request"},
    /* clang-format on */
};

/* In one piece, and byte for byte; a NUL as `¤`. */
static void
try_case(size_t i, bool in_pieces)
{
    bool good = cases[i].status == 200;
    size_t bytes = strlen(cases[i].text);
    int fd = dial();
    Answer answer;

    trying(cases[i].name);
    atomic_store(&handled, 0);
    for (size_t at = 0; at < bytes;) {
        struct timespec pause = {.tv_nsec = 300000};
        size_t piece = in_pieces ? 1 + at % 3 : bytes;

        piece = piece < bytes - at ? piece : bytes - at;
        tell(fd, cases[i].text + at, piece);
        at += piece;
        if (in_pieces)
            nanosleep(&pause, NULL);
    }
    tell_text(fd, SECOND);
    answer = hear(fd, false);
    if (answer.status != cases[i].status)
        print_error("%s: %d %s\n", cases[i].name, answer.status, answer.body ? answer.body : "");
    check(answer.status == cases[i].status);
    if (!strstr(answer.body, cases[i].has))
        print_error("%s: %s\n", cases[i].name, answer.body);
    check(strstr(answer.body, cases[i].has));
    check(strstr(answer.head, "X-Content-Type-Options: nosniff\r\n"));
    check(!strstr(answer.head, "Strict-Transport-Security")); /* we are not called by https */
    check(strstr(answer.head, "Referrer-Policy: no-referrer\r\n"));
    check(strstr(answer.head, "X-Request-Id: "));
    check(strstr(answer.head, "Date: "));
    check(!strstr(answer.head, "Server:"));
    check(!strstr(answer.head, "Connection: close") == good);
    if (good) {
        answer = hear(fd, false);
        check(answer.status == 200 && strstr(answer.body, "/second"));
        check(atomic_load(&handled) == 2);
    } else {
        check(strstr(answer.head, "Content-Type: application/problem+json\r\n"));
        check(has_ended(fd));
        check(atomic_load(&handled) == 0);
    }
    hang_up(fd);
}

static void
test_framing(void **state)
{
    (void)state;
    start(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        try_case(i, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        try_case(i, true);
    finish(false);
}

/* What does not fit a table of C strings: NUL, and the limits to the byte. */
static void
test_limits(void **state)
{
    static char text[140000];
    static const struct {
        const char *name;
        size_t line, header, headers, body;
        bool is_chunked;
        int status;
        const char *code;
    } limits[] = {
        {"line of 8192", 8192, 0, 0, 0, false, 200, ""},
        {"line of 8193", 8193, 0, 0, 0, false, 414, "uri-too-long"},
        {"line of 60000", 60000, 0, 0, 0, false, 414, "uri-too-long"},
        {"headers of 32768", 0, 32768, 0, 0, false, 200, ""},
        {"headers of 32769", 0, 32769, 0, 0, false, 431, "headers-too-large"},
        {"100 headers", 0, 0, 100, 0, false, 200, ""},
        {"101 headers", 0, 0, 101, 0, false, 431, "headers-too-large"},
        {"body of 65536", 0, 0, 0, 65536, false, 200, ""},
        {"body of 65537", 0, 0, 0, 65537, false, 413, "body-too-large"},
        {"chunked body of 65536", 0, 0, 0, 65536, true, 200, ""},
        {"chunked body of 65537", 0, 0, 0, 65537, true, 413, "body-too-large"},
    };

    (void)state;
    start(NULL);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        size_t fixed = strlen("GET / HTTP/1.1"), at;
        int fd = dial();
        Answer answer;

        trying(limits[i].name);
        at = (size_t)sprintf(text, "GET /");
        if (limits[i].line > fixed) {
            memset(text + at, 'a', limits[i].line - fixed);
            at += limits[i].line - fixed;
        }
        at += (size_t)sprintf(text + at, " HTTP/1.1\r\n");
        fixed = at;
        at += (size_t)sprintf(text + at, "Host: a\r\n");
        for (size_t h = 1; h < limits[i].headers; h++)
            at += (size_t)sprintf(text + at, "X-%zu: v\r\n", h);
        if (limits[i].header > 0) {
            size_t value = limits[i].header - (at - fixed) - strlen("X: \r\n");

            at += (size_t)sprintf(text + at, "X: ");
            memset(text + at, 'v', value);
            at += value;
            at += (size_t)sprintf(text + at, "\r\n");
        }
        if (limits[i].body > 0 && !limits[i].is_chunked)
            at += (size_t)sprintf(text + at, "Content-Length: %zu\r\n\r\n", limits[i].body);
        else if (limits[i].is_chunked)
            at += (size_t)sprintf(
                text + at, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", limits[i].body);
        else
            at += (size_t)sprintf(text + at, "\r\n");
        memset(text + at, 'b', limits[i].body);
        at += limits[i].body;
        if (limits[i].is_chunked)
            at += (size_t)sprintf(text + at, "\r\n0\r\n\r\n");
        tell(fd, text, at);
        answer = hear(fd, false);
        check(answer.status == limits[i].status);
        check(strstr(answer.body, limits[i].code));
        check(limits[i].status == 200 || has_ended(fd));
        hang_up(fd);
    }
    finish(false);
}

static void
test_nul(void **state)
{
    static const char value[] = "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n";
    static const char name[] = "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n";
    static const char target[] = "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n";
    static const struct {
        const char *text;
        size_t bytes;
    } nuls[] = {{value, sizeof value - 1}, {name, sizeof name - 1}, {target, sizeof target - 1}};

    (void)state;
    start(NULL);
    for (size_t i = 0; i < sizeof nuls / sizeof nuls[0]; i++) {
        int fd = dial();

        tell(fd, nuls[i].text, nuls[i].bytes);
        assert_int_equal(hear(fd, false).status, 400);
        assert_true(has_ended(fd));
        hang_up(fd);
    }
    finish(false);
}

/* However a head is padded, it is not read for ever. */
static void
test_padding(void **state)
{
    static char blanks[60000];
    int fd;

    (void)state;
    start(NULL);
    memset(blanks, '\n', sizeof blanks);
    for (size_t i = 0; i < sizeof blanks; i += 2)
        blanks[i] = '\r';
    fd = dial();
    tell(fd, blanks, sizeof blanks);
    assert_int_equal(hear(fd, false).status, 414);
    hang_up(fd);

    memset(blanks, ' ', sizeof blanks);
    fd = dial();
    tell_text(fd, "GET / HTTP/1.1\r\nHost: a\r\nX-A:");
    tell(fd, blanks, sizeof blanks);
    assert_int_equal(hear(fd, false).status, 431);
    hang_up(fd);

    fd = dial();
    tell_text(fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;");
    memset(blanks, 'x', sizeof blanks);
    for (int i = 0; i < 10; i++)
        tell(fd, blanks, sizeof blanks);
    assert_int_equal(hear(fd, false).status, 413);
    hang_up(fd);
    finish(false);
}

static void
test_answers(void **state)
{
    Answer answer;
    int fd;

    (void)state;
    start(NULL);
    fd = dial();

    answer = ask(fd, "GET /json HTTP/1.1\r\nHost: a\r\nX-Request-Id: my.id_1-2\r\n\r\n");
    assert_int_equal(answer.status, 201);
    assert_non_null(strstr(answer.head, "HTTP/1.1 201 Created\r\n"));
    assert_non_null(strstr(answer.head, "Location: /a/7\r\n"));
    assert_non_null(strstr(answer.head, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(answer.head, "X-Request-Id: my.id_1-2\r\n"));
    assert_null(strstr(answer.head, "Connection:"));
    assert_string_equal(answer.body, "{\"a\":1}");

    answer = ask(fd, "GET /json HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n");
    assert_null(strstr(answer.head, "X-Request-Id: a b"));

    answer = ask(fd, "HEAD /json HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(answer.head, "Content-Length: 7\r\n"));
    assert_int_equal(answer.body_bytes, 0);

    answer = ask(fd, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 204);
    assert_null(strstr(answer.head, "\r\nContent-"));

    answer = ask(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.body_bytes, BIG_BYTES);
    assert_int_equal(strspn(answer.body, "b"), BIG_BYTES);

    answer = ask(fd, "GET /too-big HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 500);
    assert_non_null(strstr(answer.body, "\"internal\""));

    answer = ask(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "posted");

    answer = ask(fd, "GET /close HTTP/1.1\r\nHost: a\r\n\r\n" SECOND);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    assert_true(has_ended(fd));
    hang_up(fd);
    finish(false);
}

static void
test_files(void **state)
{
    Answer answer;
    int fd;

    (void)state;
    start(NULL);
    fd = dial();
    answer = ask(fd, "GET /file?5 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 206);
    assert_string_equal(answer.body, "klmno");
    assert_non_null(strstr(answer.head, "Content-Type: text/csv\r\n"));

    answer = ask(fd, "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.body_bytes, 3000000);
    for (size_t i = 0; i < answer.body_bytes; i++)
        if (answer.body[i] != (char)('a' + (i + 10) % 26))
            fail_msg("byte %zu", i);

    answer = ask(fd, "HEAD /file?5 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(answer.head, "Content-Length: 5\r\n"));
    answer = ask(fd, "GET /file?0 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.body_bytes, 0);

    /* Shorter than it says: the client must not take it for whole. */
    answer = ask(fd, "GET /file?4000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(answer.ended && answer.body_bytes < 4000000);
    hang_up(fd);
    finish(false);
}

static void
test_keep_alive(void **state)
{
    static const struct {
        const char *name, *text, *connection;
        bool ends;
    } kept[] = {
        {"1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", NULL, false},
        {"1.1 close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "Connection: close\r\n", true},
        {"1.1 Close, TE", "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n",
            "Connection: close\r\n", true},
        {"1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "Connection: close\r\n", true},
        {"1.0 keep", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            "Connection: keep-alive\r\n", false},
    };

    (void)state;
    start(NULL);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        int fd = dial();
        Answer answer = ask(fd, kept[i].text);

        trying(kept[i].name);
        check(answer.status == 200);
        check(kept[i].connection ? strstr(answer.head, kept[i].connection) != NULL
                                 : !strstr(answer.head, "Connection:"));
        if (kept[i].ends)
            check(has_ended(fd));
        else
            check(ask(fd, SECOND).status == 200);
        hang_up(fd);
    }
    finish(false);
}

/* Answered in order, each when the one before is; after a half-close, too. */
static void
test_pipeline(void **state)
{
    int fd;

    (void)state;
    start(NULL);
    fd = dial();
    tell_text(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
                  "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
                  "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 500; i++)
        tell_text(fd, SECOND);
    shutdown(fd, SHUT_WR);
    assert_string_equal(hear(fd, false).body, "posted");
    assert_non_null(strstr(hear(fd, false).body, "POST|/1|/1|-|2|hi|"));
    assert_string_equal(hear(fd, false).body, "posted");
    for (int i = 0; i < 500; i++)
        assert_non_null(strstr(hear(fd, false).body, "/second"));
    assert_true(has_ended(fd));
    assert_int_equal(atomic_load(&handled), 503);
    hang_up(fd);
    finish(false);
}

static void
test_continue(void **state)
{
    int fd;

    (void)state;
    start(NULL);
    fd = dial();
    assert_int_equal(
        ask(fd, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
            .status,
        100);
    assert_non_null(strstr(ask(fd, "hi").body, "|hi|"));
    /* The body is here already; there is none; the answer is known without it. */
    assert_int_equal(
        ask(fd, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            .status,
        200);
    assert_int_equal(
        ask(fd, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").status, 200);
    assert_int_equal(ask(fd, "POST / HTTP/1.1\r\nHost: evil.example\r\nExpect: 100-continue\r\n"
                             "Content-Length: 2\r\n\r\n")
                         .status,
        403);
    assert_true(has_ended(fd));
    hang_up(fd);
    finish(false);
}

static void
be_hasty(Server *s)
{
    s->patience = (Patience){.head_ms = 100,
        .body_ms = 150,
        .idle_ms = 200,
        .write_ms = 250,
        .linger_ms = 100,
        .stop_ms = 400};
}

static void
test_deadlines(void **state)
{
    struct timespec pause = {.tv_nsec = 400000000};
    int64_t began;
    Answer answer;
    int fd;

    (void)state;
    start(be_hasty);
    trying("nothing comes");
    fd = dial();
    began = time_now_ms();
    check(has_ended(fd) && time_now_ms() - began >= 190);
    hang_up(fd);

    trying("a head in drops");
    fd = dial();
    began = time_now_ms();
    for (int i = 0; i < 3; i++) {
        struct timespec drop = {.tv_nsec = 20000000};

        tell_text(fd, "GET"[i] ? (char[]){"GET"[i], 0} : "");
        nanosleep(&drop, NULL);
    }
    check(has_ended(fd) && time_now_ms() - began < 190);
    hang_up(fd);

    trying("a body that does not end");
    fd = dial();
    answer = ask(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
    check(answer.status == 408 && strstr(answer.body, "request-timeout"));
    check(has_ended(fd));
    hang_up(fd);

    trying("answers that are not read"); /* more than the kernel takes */
    fd = dial();
    tell_text(fd, "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n"
                  "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n"
                  "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n"
                  "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n"
                  "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    nanosleep(&pause, NULL);
    for (size_t whole = 0; !(answer = hear(fd, false)).ended; whole++)
        check(whole < 4);
    hang_up(fd);

    trying("keep-alive goes on while it is used");
    fd = dial();
    for (int i = 0; i < 6; i++) {
        struct timespec drop = {.tv_nsec = 100000000};

        check(ask(fd, SECOND).status == 200);
        nanosleep(&drop, NULL);
    }
    check(has_ended(fd));
    hang_up(fd);
    finish(false);
}

static void
test_waiting(void **state)
{
    int fd, other;
    int64_t began;

    (void)state;
    start(NULL);
    fd = dial();
    began = time_now_ms();
    assert_string_equal(ask(fd, "GET /wait?60 HTTP/1.1\r\nHost: a\r\n\r\n").body, "time");
    assert_true(time_now_ms() - began >= 60 && time_now_ms() - began < 5000);

    tell_text(fd, "GET /wait?20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    while (atomic_load(&handled) < 2)
        usleep(1000);
    other = dial();
    assert_int_equal(ask(other, "GET /wake HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_string_equal(hear(fd, false).body, "woken");

    tell_text(fd, "GET /wait?20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    while (atomic_load(&handled) < 4)
        usleep(1000);
    hang_up(fd);
    for (int i = 0; i < 2000 && atomic_load(&last_resume) != RESUME_CLIENT_LEFT; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&last_resume), RESUME_CLIENT_LEFT);
    hang_up(other);
    finish(false);
}

static void
test_stop(void **state)
{
    int idle, waits, posts, late;
    Answer answer;

    (void)state;
    start(NULL);
    idle = dial();
    assert_int_equal(ask(idle, SECOND).status, 200);
    waits = dial();
    tell_text(waits, "GET /wait?20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    posts = dial();
    tell_text(posts, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    late = dial();
    tell_text(late, "GET / HT");
    while (atomic_load(&handled) < 2)
        usleep(1000);
    usleep(50000);
    server_stop(server, false);

    assert_true(has_ended(idle));
    answer = hear(waits, false);
    assert_string_equal(answer.body, "stopping");
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    assert_true(has_ended(waits));
    answer = ask(posts, "cde");
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    assert_true(has_ended(posts));
    answer = ask(late, "TP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(answer.body, "shutting-down"));
    assert_true(has_ended(late));
    assert_true(finish(false) < 3000);
    hang_up(idle);
    hang_up(waits);
    hang_up(posts);
    hang_up(late);
}

/* A handler that does not answer does not keep the server; nor does anybody, if it is told "now".
 */
static void
test_stop_has_an_end(void **state)
{
    int64_t took;
    int fd;

    (void)state;
    for (int now = 0; now < 2; now++) {
        start(be_hasty);
        fd = dial();
        tell_text(fd, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        while (atomic_load(&handled) < 1)
            usleep(1000);
        took = finish(now);
        assert_true(now ? took < 300 : took >= 390 && took < 3000);
        hang_up(fd);
    }
}

static void
test_connections(void **state)
{
    int fd[16];

    (void)state;
    setenv("ROWFERRY_CONNECTIONS", "8", 1);
    setenv("ROWFERRY_CONNECTIONS_PER_ADDRESS", "3", 1);
    start(NULL);
    for (int i = 0; i < 3; i++) {
        fd[i] = dial();
        assert_int_equal(ask(fd[i], SECOND).status, 200);
    }
    trying("the fourth of one address");
    fd[3] = dial();
    check(hear(fd[3], false).status == 0);
    hang_up(fd[3]);
    trying("another address");
    fd[3] = dial_from("127.0.0.9");
    check(ask(fd[3], SECOND).status == 200);
    trying("one that left makes room");
    hang_up(fd[0]);
    usleep(50000);
    fd[0] = dial();
    check(ask(fd[0], SECOND).status == 200);
    for (int i = 4; i < 8; i++) {
        char own[32];

        snprintf(own, sizeof own, "127.0.1.%d", i);
        fd[i] = dial_from(own);
        assert_int_equal(ask(fd[i], SECOND).status, 200);
    }
    trying("the ninth of all takes the place of one that is idle");
    fd[8] = dial_from("127.0.2.1");
    check(ask(fd[8], SECOND).status == 200);
    for (int i = 0; i < 9; i++)
        hang_up(fd[i]);
    usleep(50000);
    trying("all busy: no place");
    for (int i = 0; i < 8; i++) {
        char own[32];

        snprintf(own, sizeof own, "127.0.3.%d", i + 1);
        fd[i] = dial_from(own);
        tell_text(fd[i], "GET /wait?5000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    usleep(100000);
    fd[8] = dial_from("127.0.4.1");
    check(hear(fd[8], false).status == 0);
    for (int i = 0; i < 9; i++)
        hang_up(fd[i]);
    finish(false);
    clearenv();
}

static void
be_soon_bored(Server *s)
{
    s->patience.silence_ms = 200;
}

/* As many as there are places send half a body, or do not read: others are served all the same. */
static void
test_slow_clients(void **state)
{
    int slow[8], kept[8], fd;

    (void)state;
    setenv("ROWFERRY_CONNECTIONS", "8", 1);
    start(be_soon_bored);
    for (int i = 0; i < 8; i++) {
        slow[i] = dial();
        tell_text(slow[i], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
        for (int more = 0; i > 3 && more < 5; more++)
            tell_text(slow[i], more ? "GET /file?3000000 HTTP/1.1\r\nHost: a\r\n\r\n" : "cde");
    }
    usleep(400000);
    for (int i = 0; i < 8; i++) {
        fd = dial();
        assert_int_equal(ask(fd, SECOND).status, 200);
        kept[i] = fd;
    }
    for (int i = 0; i < 8; i++) {
        hang_up(slow[i]);
        hang_up(kept[i]);
    }
    finish(false);
    clearenv();
}

/* Loopback is not counted by address unless that is asked for. */
static void
test_loopback_is_not_counted(void **state)
{
    int fd[100];

    (void)state;
    start(NULL);
    for (int i = 0; i < 100; i++)
        fd[i] = dial();
    for (int i = 0; i < 100; i++)
        assert_int_equal(ask(fd[i], SECOND).status, 200);
    for (int i = 0; i < 100; i++)
        hang_up(fd[i]);
    finish(false);
}

/* Without a descriptor left who connects is turned away, and the loop does not spin. */
static void
test_no_descriptors(void **state)
{
    struct rlimit kept, few;
    struct timespec before, after;
    clockid_t clock;
    int first, more[3];

    (void)state;
    start(NULL);
    first = dial();
    assert_int_equal(ask(first, SECOND).status, 200);
    for (int i = 0; i < 3; i++)
        more[i] = socket(AF_INET, SOCK_STREAM, 0);
    getrlimit(RLIMIT_NOFILE, &kept);
    few = (struct rlimit){(rlim_t)more[2] + 1, kept.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    pthread_getcpuclockid(loop, &clock);
    clock_gettime(clock, &before);
    for (int i = 0; i < 3; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        char byte;

        inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
        assert_int_equal(connect(more[i], (struct sockaddr *)&to, sizeof to), 0);
        assert_true(recv(more[i], &byte, 1, 0) <= 0);
    }
    usleep(200000);
    clock_gettime(clock, &after);
    assert_true(
        (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 < 100);
    assert_int_equal(ask(first, SECOND).status, 200);
    setrlimit(RLIMIT_NOFILE, &kept);
    for (int i = 0; i < 3; i++)
        close(more[i]);
    hang_up(first);
    first = dial();
    assert_int_equal(ask(first, SECOND).status, 200);
    hang_up(first);
    finish(false);
}

static void
test_a_given_socket(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "api", (char *)(uintptr_t) "--port=0"};
    ConfigArgs args = {.argc = 2, .argv = argv};
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int given = socket(AF_INET6, SOCK_STREAM, 0), kept = dup(given);
    Err e = {0};

    (void)state;
    assert_int_equal(bind(given, (struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(listen(given, 8), 0);
    server = server_new(
        &(ServerSpec){
            .config = config_load(&args, arena, &e), .listen_fd = given, .handle = handle},
        &e);
    assert_non_null(server);
    assert_non_null(strstr(server_url(server), "http://[::1]:"));
    assert_int_equal(pthread_create(&loop, NULL, run_loop, server), 0);
    finish(false);
    assert_int_equal(close(kept), 0); /* the supervisor's, still open */
}

static void
test_forwarded(void **state)
{
    int fd;

    (void)state;
    setenv("ROWFERRY_TRUSTED_PROXIES", "127.0.0.1", 1);
    setenv("ROWFERRY_PUBLIC_URL", "https://exports.example.com/x/", 1);
    start(NULL);
    fd = dial();
    assert_non_null(strstr(ask(fd, "GET / HTTP/1.1\r\nHost: exports.example.com\r\n"
                                   "X-Forwarded-For: 10.0.0.9, 8.8.8.8\r\n\r\n")
                               .body,
        "|8.8.8.8|public|https://exports.example.com/x|"));
    hang_up(fd);
    fd = dial();
    assert_non_null(strstr(ask(fd, "GET / HTTP/1.1\r\nHost: exports.example.com\r\n\r\n").head,
        "\r\nStrict-Transport-Security: max-age=31536000\r\n"));
    hang_up(fd);
    fd = dial_from("127.0.0.2");
    assert_non_null(strstr(
        ask(fd, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n").body,
        "|127.0.0.2|private|"));
    /* Who is not trusted is not believed; but what it passes on is not from here. */
    assert_non_null(strstr(
        ask(fd, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 8.8.8.8\r\n\r\n").body,
        "|127.0.0.2|public|"));
    assert_non_null(
        strstr(ask(fd, "GET / HTTP/1.1\r\nHost: localhost\r\nForwarded: for=8.8.8.8\r\n\r\n").body,
            "|127.0.0.2|public|"));
    hang_up(fd);
    finish(false);
    clearenv();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_has_an_end),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_slow_clients),
        cmocka_unit_test(test_loopback_is_not_counted),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_a_given_socket),
        cmocka_unit_test(test_forwarded),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
