/* The loop: epoll(7), edges for connections, levels for the rest. */
#include "api/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/http_in.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "net/listen.h"

enum {
    EVENTS = 256,          /* taken at once */
    ACCEPTS = 64,          /* the same, of new connections */
    EVICT_LOOKS = 64,      /* of the earliest deadlines, when all places are taken */
    ACCEPT_PAUSE_MS = 100, /* without a descriptor left */
    LIMITED_LOG_MS = 1000,
    OWN_DESCRIPTORS = 64,
    SPARE_MEMORY = 1 << 20,
    EXCHANGE_MEMORY = 16 << 10, /* of a connection that has a request */
};

static const Patience patience = {.head_ms = 10000,
    .body_ms = 30000,
    .idle_ms = 60000,
    .write_ms = 30000,
    .linger_ms = 2000,
    .silence_ms = 1000,
    .stop_ms = 10000};

const char *
server_header(const Request *req, const char *name)
{
    for (size_t i = 0; i < req->headers; i++)
        if (strcmp(req->header[i].name, name) == 0)
            return req->header[i].value;
    return NULL;
}

size_t
server_headers(const Request *req, const char *name)
{
    size_t count = 0;

    for (size_t i = 0; i < req->headers; i++)
        count += strcmp(req->header[i].name, name) == 0;
    return count;
}

static void
log_limited(Server *s, const char *what, const struct sockaddr_storage *peer)
{
    char address[AUTH_PEER_BYTES] = "";

    s->limited++;
    if (s->limited_logged_ms > 0 && s->now_ms - s->limited_logged_ms < LIMITED_LOG_MS)
        return;
    if (peer)
        auth_address_text(peer, address);
    log_event(LOG_WARNING, "http.limited", log_text("limit", what),
        log_text("peer", peer ? address : NULL), log_number("closed", (int64_t)s->limited));
    s->limited = 0;
    s->limited_logged_ms = s->now_ms;
}

/* By what an address counts; all zero: it does not. */
static PeerKey
key_of(const Server *s, const struct sockaddr_storage *peer)
{
    PeerKey key = {.byte = {[10] = 0xff, [11] = 0xff}};

    if (!config_is_set(s->config, "connections_per_address") &&
        (auth_is_loopback(peer) || auth_is_trusted_proxy(s->config, peer)))
        return (PeerKey){0};
    if (peer->ss_family == AF_INET) {
        memcpy(key.byte + 12, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
    } else if (peer->ss_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;

        key = (PeerKey){0};
        memcpy(key.byte, six, IN6_IS_ADDR_V4MAPPED(six) ? 16 : 8);
        if (!IN6_IS_ADDR_V4MAPPED(six))
            key.byte[15] = 1; /* ::/64 is an address, too */
    }
    return key;
}

static bool
has_too_many(const Server *s, const PeerKey *key)
{
    static const PeerKey nobody;
    uint64_t count = 0;

    if (memcmp(key, &nobody, sizeof nobody) == 0)
        return false;
    for (size_t i = 0; i < s->connections_max + ACCEPTS; i++)
        count += memcmp(s->key + i, key, sizeof *key) == 0;
    return count >= s->config->connections_per_address;
}

/* Nothing in progress, or nothing has moved for a while. */
static bool
may_lose_its_place(const Connection *c)
{
    switch (c->state) {
    case STATE_IDLE:
    case STATE_LINGERING:
        return true;
    case STATE_READING_HEAD:
    case STATE_READING_BODY:
    case STATE_WRITING:
        return c->server->now_ms - c->since_ms >= c->server->patience.silence_ms;
    case STATE_FREE:
    case STATE_HANDLED:
    case STATE_WAITING:
    case STATE_ANSWERED:
    case STATES:
        break;
    }
    return false;
}

/* All places are taken: of those whose time is up next, one that says nothing goes now. So slow
 * clients cannot keep others out. */
static bool
make_room(Server *s)
{
    for (size_t i = 1; i <= s->due && i <= EVICT_LOOKS; i++)
        if (may_lose_its_place(s->heap[i])) {
            connection_close(s->heap[i]);
            return true;
        }
    return false;
}

static void
take_connection(Server *s, int fd, const struct sockaddr_storage *peer)
{
    PeerKey key = key_of(s, peer);

    if (has_too_many(s, &key)) {
        log_limited(s, "connections_per_address", peer);
        close(fd);
    } else if (s->open >= s->connections_max && !make_room(s)) {
        log_limited(s, "connections", peer);
        close(fd);
    } else {
        connection_open(s, fd, peer, &key);
    }
}

/* Level-triggered, so a pending connection would wake the loop for ever. */
static void
pause_accepting(Server *s)
{
    struct epoll_event event = {.data.ptr = &s->listener_poll};

    (void)epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &event);
    s->accept_again_ms = s->now_ms + ACCEPT_PAUSE_MS;
}

static void
accept_again(Server *s)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &s->listener_poll};

    s->accept_again_ms = 0;
    if (s->listener >= 0)
        (void)epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &event);
}

/* No descriptor left: the spare one takes the connection, which is closed, so that its client
 * knows.
 */
static void
turn_away(Server *s)
{
    int fd;

    log_limited(s, "descriptors", NULL);
    if (s->spare >= 0)
        close(s->spare);
    if ((fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        close(fd);
    s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || s->spare < 0)
        pause_accepting(s);
}

static void
accept_some(Pollable *poll, uint32_t events)
{
    Server *s = (Server *)(void *)((char *)poll - offsetof(Server, listener_poll));

    (void)events;
    for (unsigned i = 0; i < ACCEPTS && s->listener >= 0 && s->free; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t bytes = sizeof peer;
        int fd =
            accept4(s->listener, (struct sockaddr *)&peer, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            take_connection(s, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE) {
            turn_away(s);
            return;
        } else if (errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(s);
            return;
        } else if (errno == EAGAIN) {
            return;
        } /* else: that one connection has gone already */
    }
}

/* The events of this turn are done: nobody points to the closed ones any more. */
static void
reuse_closed(Server *s)
{
    while (s->closed) {
        Connection *c = s->closed;

        s->closed = c->next;
        c->next = s->free;
        s->free = c;
    }
}

static void
close_listener(Server *s)
{
    if (s->listener < 0)
        return;
    close(s->listener);
    s->listener = -1;
}

/* Who has connected already is heard; who says nothing goes. */
static void
begin_stop(Server *s)
{
    s->is_stopping = true;
    s->stop_at_ms = s->now_ms + s->patience.stop_ms;
    accept_some(&s->listener_poll, EPOLLIN);
    /* Of a socket from the supervisor this closes our descriptor: the socket lives on there. */
    (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener, NULL);
    close_listener(s);
    for (size_t i = 0; i < s->connections_max + ACCEPTS; i++) {
        Connection *c = s->connection + i;

        if (c->state == STATE_IDLE) {
            c->is_readable = true;
            connection_run(c);
        }
        if (c->state == STATE_IDLE)
            connection_close(c);
        else if (c->state == STATE_WAITING)
            connection_queue(c);
    }
}

void
server_stop(Server *s, bool now)
{
    uint64_t one = 1;
    int kept = errno;

    atomic_store(&s->asked_to_stop, now || atomic_load(&s->asked_to_stop) == 2 ? 2 : 1);
    if (write(s->wake, &one, sizeof one) < 0) { /* full: it is awake */
    }
    errno = kept;
}

bool
server_is_stopping(const Server *s)
{
    return s->is_stopping;
}

void
server_set_config(Server *s, const Config *config)
{
    s->config = config;
}

const char *
server_url(const Server *s)
{
    return s->url;
}

void
server_post(Request *req, RequestResume *resume)
{
    Exchange *x = (Exchange *)req, *first;
    Server *s = req->server;
    uint64_t one = 1;

    x->resume = resume;
    first = atomic_load_explicit(&s->posted, memory_order_relaxed);
    do
        x->next = first;
    while (!atomic_compare_exchange_weak_explicit(
        &s->posted, &first, x, memory_order_release, memory_order_relaxed));
    /* Only the first of a row wakes the loop. From here on the request may have ended. */
    if (!first && write(s->wake, &one, sizeof one) < 0) { /* full: it is awake */
    }
}

static void
take_posted(Server *s)
{
    Exchange *last = atomic_exchange_explicit(&s->posted, NULL, memory_order_acquire);
    Exchange *first = NULL, *next;

    for (; last; last = next) { /* they lie in reverse */
        next = last->next;
        last->next = first;
        first = last;
    }
    for (; first; first = next) {
        next = first->next;
        connection_resume(first->connection, RESUME_POSTED);
    }
}

void
server_wake(Server *s)
{
    s->must_wake = true;
}

/* Those who wait now; not those who wait again. */
static void
wake_waiting(Server *s)
{
    Connection woken, *ring = &s->waiting;

    s->must_wake = false;
    if (ring->wait_next == ring)
        return;
    woken.wait_next = ring->wait_next;
    woken.wait_before = ring->wait_before;
    woken.wait_next->wait_before = woken.wait_before->wait_next = &woken;
    ring->wait_next = ring->wait_before = ring;
    while (woken.wait_next != &woken)
        connection_resume(woken.wait_next, RESUME_WOKEN);
}

static void
run_queued(Server *s)
{
    Connection *c = s->queue;

    s->queue = NULL;
    s->queue_end = &s->queue;
    while (c) {
        Connection *next = c->next_queued;

        c->is_queued = false;
        if (c->state != STATE_FREE)
            connection_run(c);
        c = next;
    }
}

static void
run_due(Server *s)
{
    Connection *c;

    while ((c = deadline_next(s)) && c->deadline_ms <= s->now_ms)
        connection_is_due(c);
    if (s->accept_again_ms > 0 && s->accept_again_ms <= s->now_ms)
        accept_again(s);
}

static int
time_to_sleep(const Server *s)
{
    const Connection *c = deadline_next(s);
    int64_t until = c ? c->deadline_ms : INT64_MAX;

    if (s->queue || s->must_wake)
        return 0;
    if (s->accept_again_ms > 0 && s->accept_again_ms < until)
        until = s->accept_again_ms;
    if (s->is_stopping && s->stop_at_ms < until)
        until = s->stop_at_ms;
    if (until == INT64_MAX)
        return -1;
    if (until <= s->now_ms)
        return 0;
    return until - s->now_ms < 60000 ? (int)(until - s->now_ms) : 60000;
}

static bool
run_turn(Server *s, Err *e)
{
    struct epoll_event event[EVENTS];
    int events = epoll_wait(s->epoll, event, EVENTS, time_to_sleep(s));

    if (events < 0 && errno != EINTR)
        return fail(e, INTERNAL, "epoll_wait: %m");
    s->now_ms = time_now_ms();
    for (int i = 0; i < events; i++) {
        Pollable *poll = event[i].data.ptr;

        poll->ready(poll, event[i].events);
    }
    take_posted(s);
    if (s->must_wake)
        wake_waiting(s);
    run_queued(s);
    run_due(s);
    reuse_closed(s);
    return true;
}

bool
server_run(Server *s, Err *e)
{
    s->now_ms = time_now_ms();
    for (;;) {
        int asked = atomic_load(&s->asked_to_stop);

        if (asked && !s->is_stopping)
            begin_stop(s);
        if (asked == 2 || (s->is_stopping && (s->open == 0 || s->now_ms >= s->stop_at_ms)))
            break;
        if (!run_turn(s, e))
            return false;
    }
    if (s->in_progress > 0)
        log_event(LOG_WARNING, "http.cut", log_number("requests", (int64_t)s->in_progress));
    return true;
}

static void
on_wake(Pollable *poll, uint32_t events)
{
    (void)poll; /* an edge: the counter is never read */
    (void)events;
}

static void
on_watch(Pollable *poll, uint32_t events)
{
    ServerWatch *watch = (ServerWatch *)poll;

    (void)events;
    watch->readable(watch->with);
}

bool
server_watch(Server *s, int fd, void (*readable)(void *with), void *with, Err *e)
{
    ServerWatch *watch = s->watch + s->watches;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};

    assert(s->watches < SERVER_WATCHES_MAX);
    *watch = (ServerWatch){{on_watch}, readable, with};
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return fail(e, INTERNAL, "epoll_ctl: %m");
    s->watches++;
    return true;
}

static bool
write_url(Server *s, Err *e)
{
    struct sockaddr_storage own = {0};
    socklen_t bytes = sizeof own;
    char address[AUTH_PEER_BYTES];
    unsigned port = 0;

    if (getsockname(s->listener, (struct sockaddr *)&own, &bytes) != 0)
        return fail(e, INTERNAL, "getsockname: %m");
    if (own.ss_family == AF_INET)
        port = ntohs(((const struct sockaddr_in *)(const void *)&own)->sin_port);
    else if (own.ss_family == AF_INET6)
        port = ntohs(((const struct sockaddr_in6 *)(const void *)&own)->sin6_port);
    auth_address_text(&own, address);
    snprintf(s->url, sizeof s->url, strchr(address, ':') ? "http://[%s]:%u" : "http://%s:%u",
        address, port);
    return true;
}

static bool
open_listener(Server *s, int given, Err *e)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &s->listener_poll};
    int on = 1, flags;

    s->listener = given >= 0 ? given : listen_open(s->config->host, (unsigned)s->config->port, e);
    if (s->listener < 0)
        return false;
    if ((flags = fcntl(s->listener, F_GETFL)) < 0 ||
        fcntl(s->listener, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(s->listener, F_SETFD, FD_CLOEXEC) != 0)
        return fail(e, INTERNAL, "the listening socket: %m");
    /* Accepted sockets have it from the listener. */
    (void)setsockopt(s->listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &event) != 0)
        return fail(e, INTERNAL, "epoll_ctl: %m");
    return write_url(s, e);
}

static bool
open_loop(Server *s, Err *e)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &s->wake_poll};

    if ((s->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
        (s->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0 ||
        (s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &event) != 0)
        return fail(e, INTERNAL, "cannot make the server's loop: %m");
    return true;
}

/* A descriptor for each connection, one for a file that goes out on it, and some of our own: as far
 * as the hard limit lets. With fewer, accept turns away. */
static void
raise_descriptors(const Server *s)
{
    rlim_t wanted = 2 * (rlim_t)s->connections_max + OWN_DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static bool
make_places(Server *s, Err *e)
{
    size_t places = s->connections_max + ACCEPTS; /* closed ones are free only after a turn */

    if (!(s->connection = arena_alloc_array(s->memory, places, sizeof *s->connection, e)) ||
        !(s->key = arena_alloc_array(s->memory, places, sizeof *s->key, e)) ||
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what the array holds */
        !(s->heap = arena_alloc_array(s->memory, places + 1, sizeof *s->heap, e)))
        return false;
    for (size_t i = places; i-- > 0;) {
        s->connection[i].fd = -1;
        s->connection[i].next = s->free;
        s->free = s->connection + i;
    }
    return true;
}

Server *
server_new(const ServerSpec *spec, Err *e)
{
    size_t connections = (size_t)spec->config->connections;
    Arena *memory = arena_new(sizeof(Server) + SPARE_MEMORY +
                              (connections + ACCEPTS) * (sizeof(Connection) + EXCHANGE_MEMORY));
    Server *s = memory ? arena_alloc(memory, sizeof *s, e) : NULL;

    if (!s) {
        arena_free(memory);
        (void)fail(e, INTERNAL, "no memory for the server");
        return NULL;
    }
    s->config = spec->config;
    s->handle = spec->handle;
    s->with = spec->with;
    s->memory = memory;
    s->patience = patience;
    s->epoll = s->wake = s->spare = s->listener = -1;
    s->listener_poll.ready = accept_some;
    s->wake_poll.ready = on_wake;
    s->connections_max = connections;
    s->queue_end = &s->queue;
    raise_descriptors(s);
    s->waiting.wait_next = s->waiting.wait_before = &s->waiting;
    if (!make_places(s, e) || !open_loop(s, e) || !open_listener(s, spec->listen_fd, e)) {
        server_free(s);
        return NULL;
    }
    return s;
}

void
server_free(Server *s)
{
    int *fd;

    if (!s)
        return;
    for (size_t i = 0; s->heap && i < s->connections_max + ACCEPTS; i++)
        if (s->connection[i].state != STATE_FREE)
            connection_close(s->connection + i);
    for (Exchange *x = s->exchange; x; x = x->next) {
        arena_free(x->req.arena);
        parser_free(x->parser);
        buf_free(&x->head);
        buf_free(&x->req.answer.headers);
        buf_free(&x->req.answer.body);
    }
    close_listener(s);
    for (size_t i = 0; i < 3; i++) {
        fd = i == 0 ? &s->epoll : i == 1 ? &s->wake : &s->spare;
        if (*fd >= 0)
            close(*fd);
    }
    arena_free(s->memory);
}
