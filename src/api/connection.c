/*
 * One connection's life, as a machine of states: idle, reading, handled, waiting, answered,
 * writing, and again, or lingering. connection_run() takes it as far as it goes without waiting;
 * edges (EPOLLET) tell when it may go on.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/http_in.h"
#include "api/problem.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "base/time.h"

enum {
    STEPS_MAX = 64,                 /* then others have their turn: some 16 requests */
    FILE_TURN_BYTES = 1 << 20,      /* the same for a file */
    REST_KEEP_BYTES = 4 << 10,      /* an idle connection holds no more */
    REQUEST_MEMORY_BYTES = 8 << 20, /* of a request's arena */
    REQUEST_KEEP_BYTES = 64 << 10,  /* a larger arena is not kept for the next */
    EXCHANGES_KEPT = 64,            /* with their memory; the others give it back */
    LINGER_BYTES = 1 << 20,         /* read and thrown away at most */
    ANSWER_HEAD_BYTES_MAX = 24 << 10,
};

static int64_t
now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
enter(Connection *c, State state)
{
    c->state = state;
    c->since_ms = c->server->now_ms;
}

/* Absolute; 0: none, somebody of ours owes the next step. */
static int64_t
deadline_of(const Connection *c)
{
    const Patience *patience = &c->server->patience;

    switch (c->state) {
    case STATE_IDLE:
        return c->since_ms + patience->idle_ms;
    case STATE_READING_HEAD:
        return c->since_ms + patience->head_ms;
    case STATE_READING_BODY:
        return c->since_ms + patience->body_ms;
    case STATE_WAITING: /* never now: who waits again for the past must not hold up this turn */
        return c->exchange->wait_until_ms > c->server->now_ms ? c->exchange->wait_until_ms
                                                              : c->server->now_ms + 1;
    case STATE_WRITING:
        return c->since_ms + patience->write_ms;
    case STATE_LINGERING:
        return c->since_ms + patience->linger_ms;
    case STATE_FREE:
    case STATE_HANDLED:
    case STATE_ANSWERED:
    case STATES:
        break;
    }
    return 0;
}

static Exchange *
new_exchange(Server *s)
{
    Err e = {0};
    Exchange *x = arena_alloc(s->memory, sizeof *x, &e);

    if (!x || !(x->parser = parser_new(s->memory, &e))) {
        log_event(LOG_ERROR, "http.failed", log_err(&e));
        return NULL;
    }
    x->head = buf_new(ANSWER_HEAD_BYTES_MAX);
    x->req.answer = (Response){.headers = buf_new(0), .body = buf_new(0), .fd = -1};
    return x;
}

/* Gives the connection what a request needs. */
static bool
borrow_exchange(Connection *c)
{
    Server *s = c->server;
    Exchange *x = s->exchange;

    if (x) {
        s->exchange = x->next;
        s->exchanges_free--;
    } else if (!(x = new_exchange(s))) {
        return false;
    }
    if (!x->req.arena && !(x->req.arena = arena_new(REQUEST_MEMORY_BYTES))) {
        x->next = s->exchange;
        s->exchange = x;
        s->exchanges_free++;
        return false;
    }
    x->req = (Request){.server = s,
        .arena = x->req.arena,
        .method = "",
        .target = "",
        .path = "",
        .body = "",
        .peer = "",
        .request_id = "",
        .base_url = "",
        .arrived_ms = s->now_ms,
        .answer = x->req.answer};
    response_begin(&x->req.answer);
    x->connection = c;
    x->sent_bytes = 0;
    x->resume = NULL;
    x->told_left = x->told_stopping = x->is_refusal = x->keep_alive = false;
    parser_begin(x->parser);
    c->exchange = x;
    s->in_progress++;
    return true;
}

static void
give_back_exchange(Connection *c)
{
    Server *s = c->server;
    Exchange *x = c->exchange;

    if (!x)
        return;
    response_end(&x->req.answer);
    if (s->exchanges_free >= EXCHANGES_KEPT ||
        arena_peak_bytes(x->req.arena) > REQUEST_KEEP_BYTES) {
        arena_free(x->req.arena);
        x->req.arena = NULL;
    } else {
        arena_rewind(x->req.arena, (ArenaMark){0});
    }
    x->connection = NULL;
    x->next = s->exchange;
    s->exchange = x;
    s->exchanges_free++;
    s->in_progress--;
    c->exchange = NULL;
}

static void
stop_waiting(Connection *c)
{
    if (!c->wait_next)
        return;
    c->wait_before->wait_next = c->wait_next;
    c->wait_next->wait_before = c->wait_before;
    c->wait_before = c->wait_next = NULL;
}

/* The slot is free again after this turn, when no event of it is left. */
void
connection_close(Connection *c)
{
    Server *s = c->server;

    stop_waiting(c);
    give_back_exchange(c);
    buf_free(&c->rest);
    c->rest_used = 0;
    close(c->fd);
    c->fd = -1;
    c->state = STATE_FREE;
    deadline_set(s, c, 0);
    s->key[c - s->connection] = (PeerKey){0};
    s->open--;
    c->next = s->closed;
    s->closed = c;
}

/* What was sent and not read is not worth keeping in the kernel. */
static void
cut(Connection *c)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    connection_close(c);
}

/* Closing with unread bytes makes the kernel send RST, which may destroy the answer on its way. */
static void
say_good_bye(Connection *c, bool may_have_more)
{
    if (!may_have_more || shutdown(c->fd, SHUT_WR) != 0) {
        connection_close(c);
        return;
    }
    buf_free(&c->rest);
    c->rest_used = 0;
    c->linger_bytes = 0;
    enter(c, STATE_LINGERING);
}

void
connection_queue(Connection *c)
{
    Server *s = c->server;

    if (c->is_queued)
        return;
    c->is_queued = true;
    c->next_queued = NULL;
    *s->queue_end = c;
    s->queue_end = &c->next_queued;
}

void
server_answer(Request *req)
{
    Connection *c = ((Exchange *)req)->connection;

    assert(c->state == STATE_HANDLED && req->answer.status >= 200);
    enter(c, STATE_ANSWERED);
    if (!c->is_running)
        connection_queue(c);
}

void
server_wait(Request *req, int64_t until_ms, RequestResume *resume)
{
    Exchange *x = (Exchange *)req;
    Connection *c = x->connection, *ring = &c->server->waiting;

    assert(c->state == STATE_HANDLED);
    x->resume = resume;
    x->wait_until_ms = until_ms;
    enter(c, STATE_WAITING);
    c->wait_before = ring->wait_before;
    c->wait_next = ring;
    ring->wait_before->wait_next = c;
    ring->wait_before = c;
    if (!c->is_running)
        connection_queue(c);
}

void
connection_resume(Connection *c, Resume why)
{
    Exchange *x = c->exchange;

    stop_waiting(c);
    enter(c, STATE_HANDLED);
    c->is_running = true;
    x->resume(&x->req, why);
    connection_run(c);
}

/* In a state of waiting: is there a reason to go on at once? Each is told once. */
static bool
step_waiting(Connection *c)
{
    Exchange *x = c->exchange;

    if (c->server->is_stopping && !x->told_stopping) {
        x->told_stopping = true;
        stop_waiting(c);
        enter(c, STATE_HANDLED);
        x->resume(&x->req, RESUME_STOPPING);
        return true;
    }
    if (c->has_left && !x->told_left) {
        x->told_left = true;
        stop_waiting(c);
        enter(c, STATE_HANDLED);
        x->resume(&x->req, RESUME_CLIENT_LEFT);
        return true;
    }
    return false;
}

static bool
is_request_id(const char *text)
{
    size_t bytes = strspn(text, "0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-");

    return bytes > 0 && bytes < REQUEST_ID_BYTES && text[bytes] == '\0';
}

static bool
make_base_url(Request *req, const Config *config, const char *host, Err *e)
{
    req->has_public_url = *config->public_url != '\0';
    req->base_url = req->has_public_url ? config->public_url
                    : *host             ? arena_printf(req->arena, e, "http://%s", host)
                                        : req->server->url;
    return req->base_url != NULL;
}

/* Everything of the head; of a refused one, what is known. */
static bool
fill_request(Exchange *x, Err *e)
{
    const Parsed *parsed = parser_parsed(x->parser);
    Server *s = x->req.server;
    Request *req = &x->req;
    const char *id;

    req->method = parsed->method;
    req->target = parsed->target;
    req->path = parsed->path;
    req->query = parsed->query;
    req->header = parsed->header;
    req->headers = parsed->headers;
    id = server_headers(req, "x-request-id") == 1 ? server_header(req, "x-request-id") : "";
    if (is_request_id(id))
        memcpy(x->request_id, id, strlen(id) + 1);
    else
        request_id_make(s, x->request_id);
    req->request_id = x->request_id;
    if (!*req->peer) {
        req->peer = auth_address_text(&x->connection->peer, x->client);
        req->peer_is_private = auth_is_private(&x->connection->peer);
    }
    return make_base_url(req, s->config, parsed->host, e);
}

/* Every value of a header, NULL-ended. */
static const char *const *
all_values(const Request *req, const char *name, Err *e)
{
    static const char *const none[] = {NULL};
    size_t count = server_headers(req, name), at = 0;
    const char **value;

    if (count == 0)
        return none;
    if (!(value = arena_alloc_array(req->arena, count + 1, sizeof *value, e)))
        return NULL;
    for (size_t i = 0; i < req->headers; i++)
        if (strcmp(req->header[i].name, name) == 0)
            value[at++] = req->header[i].value;
    return value;
}

static bool
check_client(Exchange *x, Err *e)
{
    const Config *config = x->req.server->config;
    Request *req = &x->req;
    AuthRequest ask = {.peer = &x->connection->peer,
        .host = parser_parsed(x->parser)->host,
        .forwarded_for = all_values(req, "x-forwarded-for", e),
        .forwarded = all_values(req, "forwarded", e)};

    if (!ask.forwarded_for || !ask.forwarded)
        return false;
    if (!auth_may_ask(config, &ask, x->client, e))
        return false;
    req->peer_is_private = auth_comes_from_private(&ask, x->client);
    return true;
}

/* Answers with a problem and closes: the bytes behind cannot be trusted to be a request. */
static void
refuse(Connection *c, const Err *e)
{
    Exchange *x = c->exchange;
    Err ignored = {0};

    if (c->state == STATE_READING_HEAD && !fill_request(x, &ignored))
        x->req.base_url = c->server->url;
    x->is_refusal = true;
    x->whole_us = now_us();
    enter(c, STATE_HANDLED);
    problem_answer(&x->req, e, NULL);
    enter(c, STATE_ANSWERED);
}

static bool
send_continue(Connection *c)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";

    return send(c->fd, line, sizeof line - 1, MSG_NOSIGNAL) == (ssize_t)(sizeof line - 1);
}

/* The head is whole and good: may it be served? `has_more`: bytes of its body are here already. */
static void
take_head(Connection *c, bool has_more)
{
    Exchange *x = c->exchange;
    Err e = {0};

    if (!fill_request(x, &e) || !check_client(x, &e) ||
        (c->server->is_stopping && !fail(&e, SHUTTING_DOWN, "the service is stopping"))) {
        refuse(c, &e);
        return;
    }
    enter(c, STATE_READING_BODY);
    if (parser_parsed(x->parser)->expects_continue && !has_more && !send_continue(c))
        connection_close(c);
}

static void
take_whole(Connection *c)
{
    Exchange *x = c->exchange;

    x->req.body = parser_parsed(x->parser)->body;
    x->req.body_bytes = parser_parsed(x->parser)->body_bytes;
    x->whole_us = now_us();
    enter(c, STATE_HANDLED);
    c->server->handle(&x->req, c->server->with);
}

/* Parses up to the end of one request; returns how many bytes that took. */
static size_t
feed(Connection *c, const char *bytes, size_t count)
{
    size_t used = 0, taken;
    Err e = {0};

    while (c->state == STATE_READING_HEAD || c->state == STATE_READING_BODY) {
        ParserState state =
            parser_take(c->exchange->parser, bytes + used, count - used, &taken, &e);

        used += taken;
        switch (state) {
        case PARSER_MORE:
            return used;
        case PARSER_HEAD:
            take_head(c, used < count);
            break;
        case PARSER_WHOLE:
            take_whole(c);
            break;
        case PARSER_REFUSED:
            refuse(c, &e);
            break;
        }
    }
    return used;
}

/* -1: nothing now; 0: the end, closed. */
static ssize_t
read_some(Connection *c)
{
    Server *s = c->server;
    ssize_t got;

    if (!c->is_readable)
        return -1;
    do
        got = read(c->fd, s->buffer, sizeof s->buffer);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) {
        c->is_readable = false;
        return -1;
    }
    if (got <= 0) {
        connection_close(c);
        return 0;
    }
    if ((size_t)got < sizeof s->buffer && !c->has_left)
        c->is_readable = false; /* drained: the next bytes make an edge */
    return got;
}

static bool
step_reading(Connection *c)
{
    bool is_rest = c->rest_used < c->rest.bytes;
    const char *bytes = is_rest ? c->rest.data + c->rest_used : c->server->buffer;
    ssize_t got = is_rest ? (ssize_t)(c->rest.bytes - c->rest_used) : read_some(c);
    size_t used;

    if (got <= 0)
        return got == 0;
    if (c->state == STATE_IDLE) {
        if (!borrow_exchange(c)) {
            connection_close(c);
            return true;
        }
        enter(c, STATE_READING_HEAD);
    }
    used = feed(c, bytes, (size_t)got);
    if (c->state == STATE_FREE)
        return true;
    if (!is_rest) {
        buf_put(&c->rest, bytes + used, (size_t)got - used);
        return true;
    }
    c->rest_used += used;
    if (c->rest_used == c->rest.bytes) {
        buf_clear(&c->rest);
        c->rest_used = 0;
    }
    return true;
}

/* An answer that did not fit its buffers is none. */
static void
check_answer(Exchange *x)
{
    Response *r = &x->req.answer;
    Err e = {0};

    if (buf_is_good(&r->headers, &e) && buf_is_good(&r->body, &e))
        return;
    response_end(r);
    response_begin(r);
    err_clear(&e);
    (void)fail(&e, INTERNAL, "the answer is too large, or there is no memory for it");
    problem_answer(&x->req, &e, NULL);
}

static bool
step_answered(Connection *c)
{
    Exchange *x = c->exchange;

    check_answer(x);
    x->keep_alive = !x->is_refusal && !x->req.answer.close && !c->server->is_stopping &&
                    !c->rest.failed && parser_parsed(x->parser)->may_keep_alive;
    response_write_head(x, x->keep_alive);
    if (x->head.failed) {
        connection_close(c);
        return true;
    }
    enter(c, STATE_WRITING);
    return true;
}

static bool
sends_body(const Exchange *x)
{
    return response_has_body(&x->req.answer) && strcmp(x->req.method, "HEAD") != 0;
}

static void
count_answer(const Exchange *x)
{
    const Request *req = &x->req;
    const char *route = req->route ? req->route : "other",
               *method = *req->method ? req->method : "other";
    int64_t took_us = now_us() - x->whole_us;
    char code[16];

    snprintf(code, sizeof code, "%d", req->answer.status);
    metric_add(METRIC_HTTP_REQUESTS, 1, (const char *const[]){route, method, code, NULL});
    metric_observe(
        METRIC_HTTP_SECONDS, (double)took_us / 1e6, (const char *const[]){route, method, NULL});
    if (log_is_on(LOG_DEBUG))
        log_event(LOG_DEBUG, "http.answered", log_text("request_id", req->request_id),
            log_text("peer", req->peer), log_text("method", method), log_text("path", req->path),
            log_number("status", req->answer.status),
            log_number("bytes", sends_body(x) ? response_bytes(&req->answer) : 0),
            log_real("duration_ms", (double)took_us / 1e3));
}

static void
end_answer(Connection *c)
{
    Exchange *x = c->exchange;
    bool keep_alive = x->keep_alive, is_refusal = x->is_refusal;

    count_answer(x);
    give_back_exchange(c);
    if (!keep_alive) {
        say_good_bye(c, is_refusal || c->is_readable || c->rest.bytes > 0);
        return;
    }
    if (c->rest.bytes == 0 && c->rest.room_bytes > REST_KEEP_BYTES)
        buf_free(&c->rest);
    enter(c, STATE_IDLE);
}

/* A write that failed: later, or never. */
static bool
could_not_write(Connection *c)
{
    if (errno == EAGAIN) {
        c->is_writable = false;
        return false;
    }
    if (errno == EINTR)
        return true;
    cut(c);
    return true;
}

static bool
write_file(Connection *c)
{
    Response *r = &c->exchange->req.answer;
    size_t turn = r->count < FILE_TURN_BYTES ? (size_t)r->count : FILE_TURN_BYTES;
    ssize_t sent = sendfile(c->fd, r->fd, &r->offset, turn);

    if (sent < 0)
        return could_not_write(c);
    if (sent == 0) { /* the file is shorter than it was: the client must see that */
        log_event(LOG_ERROR, "http.cut", log_text("request_id", c->exchange->request_id),
            log_text("path", c->exchange->req.path), log_number("missing_bytes", r->count));
        cut(c);
        return true;
    }
    r->count -= sent;
    c->since_ms = c->server->now_ms;
    if (r->count == 0) {
        end_answer(c);
        return true;
    }
    connection_queue(c);
    return false;
}

static bool
step_writing(Connection *c)
{
    Exchange *x = c->exchange;
    Response *r = &x->req.answer;
    bool has_file = sends_body(x) && r->fd >= 0 && r->count > 0;
    size_t body_bytes = sends_body(x) && r->fd < 0 ? r->body.bytes : 0, total, skip;
    struct iovec part[2];
    struct msghdr message = {.msg_iov = part};
    ssize_t sent;

    if (!c->is_writable)
        return false;
    total = x->head.bytes + body_bytes;
    if (x->sent_bytes == total)
        return write_file(c);
    skip = x->sent_bytes < x->head.bytes ? x->sent_bytes : x->head.bytes;
    if (skip < x->head.bytes)
        part[message.msg_iovlen++] = (struct iovec){x->head.data + skip, x->head.bytes - skip};
    skip = x->sent_bytes - skip;
    if (skip < body_bytes)
        part[message.msg_iovlen++] = (struct iovec){r->body.data + skip, body_bytes - skip};
    sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | (has_file ? MSG_MORE : 0));
    if (sent < 0)
        return could_not_write(c);
    x->sent_bytes += (size_t)sent;
    c->since_ms = c->server->now_ms;
    if (x->sent_bytes == total && !has_file)
        end_answer(c);
    return true;
}

static bool
step_lingering(Connection *c)
{
    ssize_t got = read_some(c);

    if (got <= 0)
        return got == 0;
    c->linger_bytes += (size_t)got;
    if (c->linger_bytes > LINGER_BYTES)
        connection_close(c);
    return true;
}

static bool
step(Connection *c)
{
    switch (c->state) {
    case STATE_IDLE:
    case STATE_READING_HEAD:
    case STATE_READING_BODY:
        return step_reading(c);
    case STATE_WAITING:
        return step_waiting(c);
    case STATE_ANSWERED:
        return step_answered(c);
    case STATE_WRITING:
        return step_writing(c);
    case STATE_LINGERING:
        return step_lingering(c);
    case STATE_HANDLED:
    case STATE_FREE:
    case STATES:
        break;
    }
    return false;
}

void
connection_run(Connection *c)
{
    unsigned steps = 0;

    c->is_running = true;
    while (step(c))
        if (++steps == STEPS_MAX) {
            connection_queue(c);
            break;
        }
    c->is_running = false;
    if (c->state != STATE_FREE)
        deadline_set(c->server, c, deadline_of(c));
}

void
connection_is_due(Connection *c)
{
    Err e = {0};

    switch (c->state) {
    case STATE_READING_BODY:
        (void)fail(&e, REQUEST_TIMEOUT, "the body did not come in time");
        refuse(c, &e);
        connection_run(c);
        break;
    case STATE_WAITING:
        connection_resume(c, RESUME_TIME);
        break;
    case STATE_WRITING:
        cut(c);
        break;
    case STATE_IDLE:
    case STATE_READING_HEAD:
    case STATE_LINGERING:
        connection_close(c);
        break;
    case STATE_FREE:
    case STATE_HANDLED:
    case STATE_ANSWERED:
    case STATES:
        deadline_set(c->server, c, 0);
        break;
    }
}

static void
on_events(Pollable *poll, uint32_t events)
{
    Connection *c = (Connection *)poll;

    if (c->state == STATE_FREE)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->has_left = true;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->is_readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        c->is_writable = true;
    connection_run(c);
}

void
connection_open(Server *s, int fd, const struct sockaddr_storage *peer, const PeerKey *key)
{
    Connection *c = s->free;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};

    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        close(fd);
        return;
    }
    s->free = c->next;
    *c = (Connection){.poll.ready = on_events,
        .server = s,
        .fd = fd,
        .is_writable = true,
        .is_queued = c->is_queued,
        .next_queued = c->next_queued,
        .rest = buf_new(SERVER_READ_BYTES),
        .peer = *peer};
    s->key[c - s->connection] = *key;
    s->open++;
    enter(c, STATE_IDLE);
    deadline_set(s, c, deadline_of(c));
}
