/*
 * paced: sends one HTTP request again and again over keep-alive connections, and prints latencies
 * as JSON.
 *
 * With --rate it is open-loop: requests leave by the clock, and the time of each counts from when
 * it should have left, so that a server that stalls cannot hide it. Without, each connection sends
 * its next request when the last is answered (saturation). One thread, one epoll; needs nothing of
 * rowferry, so it measures any server alike.
 *
 *   paced --port 8000 --rate 500 --seconds 20 --connections 64 --body '{"a":1}' POST
 * /api/exports/request
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_BYTES = 16 << 10, REQUEST_BYTES = 16 << 10, CONNECTIONS_MAX = 1024, LATE_S = 10 };

typedef struct {
    int fd;
    bool busy;
    int64_t due_ns; /* when its request should have left */
    size_t got;
    char answer[ANSWER_BYTES];
} Connection;

typedef struct {
    const char *host, *method, *path, *body;
    unsigned port, connections;
    double rate; /* requests a second; 0: as fast as answers come */
    double seconds;
    uint64_t requests; /* 0: until the time is over */
} Options;

static Options options = {.host = "127.0.0.1", .port = 8000, .connections = 64, .seconds = 10};
static Connection connection[CONNECTIONS_MAX];
static char request[REQUEST_BYTES];
static size_t request_bytes;
static int poller;
static int64_t *latency_ns;
static size_t latencies, latencies_max;
static uint64_t sent, good, refused, broken, late;

static int64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
die(const char *what)
{
    fprintf(stderr, "paced: %s: %m\n", what);
    exit(1);
}

static void
open_connection(Connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;

    if (inet_pton(AF_INET, options.host, &to.sin_addr) != 1)
        die(options.host);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connecting");
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
    (void)epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    c->busy = false;
    c->got = 0;
}

static void
break_connection(Connection *c)
{
    close(c->fd);
    broken++;
    open_connection(c);
}

static void
send_request(Connection *c, int64_t due_ns)
{
    c->busy = true;
    c->due_ns = due_ns;
    c->got = 0;
    sent++;
    if (send(c->fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes)
        break_connection(c);
}

static void
note_latency(int64_t took_ns)
{
    if (latencies == latencies_max) {
        latencies_max = latencies_max ? latencies_max * 2 : 1 << 16;
        latency_ns = realloc(latency_ns, latencies_max * sizeof *latency_ns);
        if (!latency_ns)
            die("memory");
    }
    latency_ns[latencies++] = took_ns;
}

/* Is the answer whole? Only answers with Content-Length are known: that is what APIs send. */
static bool
is_whole(Connection *c, int *status)
{
    char *end, *length;

    c->answer[c->got] = '\0';
    if (!(end = strstr(c->answer, "\r\n\r\n")))
        return false;
    *status = c->got > 12 ? (int)strtol(c->answer + 9, NULL, 10) : 0;
    *end = '\0';
    length = strcasestr(c->answer, "\r\ncontent-length:");
    *end = '\r';
    return (size_t)(end + 4 - c->answer) + (length ? strtoul(length + 17, NULL, 10) : 0) <= c->got;
}

static void
hear(Connection *c)
{
    ssize_t got = recv(c->fd, c->answer + c->got, sizeof c->answer - 1 - c->got, 0);
    int status = 0;

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || (c->got += (size_t)got) >= sizeof c->answer - 1) {
        break_connection(c);
        return;
    }
    if (!c->busy || !is_whole(c, &status))
        return;
    note_latency(now_ns() - c->due_ns);
    if (status >= 200 && status < 300)
        good++;
    else if (refused++ == 0)
        fprintf(stderr, "paced: the first answer that is not 2xx: %.200s\n", c->answer);
    c->busy = false;
    c->got = 0;
}

static Connection *
find_idle(void)
{
    static unsigned next;

    for (unsigned i = 0; i < options.connections; i++) {
        Connection *c = &connection[next++ % options.connections];

        if (!c->busy)
            return c;
    }
    return NULL;
}

static bool
may_send(int64_t begun_ns, int64_t at_ns)
{
    return (options.requests == 0 || sent < options.requests) &&
           at_ns - begun_ns < (int64_t)(options.seconds * 1e9);
}

/* Everything that is due leaves now; when the next is due, 0 for none. */
static int64_t
send_due(int64_t begun_ns)
{
    int64_t now = now_ns();
    Connection *c;

    if (options.rate <= 0) {
        while (may_send(begun_ns, now) && (c = find_idle()))
            send_request(c, now_ns());
        return 0;
    }
    for (;;) {
        int64_t due = begun_ns + (int64_t)((double)sent / options.rate * 1e9);

        if (!may_send(begun_ns, due))
            return 0;
        if (due > now)
            return due;
        if (!(c = find_idle()))
            return now + 100000; /* all connections wait: its time goes on */
        send_request(c, due);
    }
}

static bool
is_anything_open(void)
{
    for (unsigned i = 0; i < options.connections; i++)
        if (connection[i].busy)
            return true;
    return false;
}

static void
run(int64_t begun_ns)
{
    int64_t last_ns = begun_ns + (int64_t)((options.seconds + LATE_S) * 1e9);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[64];

    (void)epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    for (;;) {
        int64_t due = send_due(begun_ns), now = now_ns();
        int count;
        uint64_t times;

        if (now > last_ns || (!may_send(begun_ns, now) && due == 0 && !is_anything_open()))
            break;
        if (due > 0) {
            struct itimerspec when = {
                .it_value = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000}};

            (void)timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        count = epoll_wait(poller, events, 64, 100);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                hear(events[i].data.ptr);
            else if (read(timer, &times, sizeof times) < 0)
                times = 0;
        }
    }
    close(timer);
}

static int
compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double
percentile_ms(double q)
{
    size_t at = (size_t)(q * (double)latencies);

    if (latencies == 0)
        return 0;
    return (double)latency_ns[at < latencies ? at : latencies - 1] / 1e6;
}

static void
usage(void)
{
    fprintf(stderr, "usage: paced [--host ADDR] [--port N] [--rate N] [--seconds S] [--requests N]"
                    " [--connections N] [--body TEXT] METHOD PATH\n");
    exit(2);
}

static void
read_options(int argc, char **argv)
{
    static const struct option known[] = {{"host", 1, NULL, 'h'}, {"port", 1, NULL, 'p'},
        {"rate", 1, NULL, 'r'}, {"seconds", 1, NULL, 's'}, {"requests", 1, NULL, 'n'},
        {"connections", 1, NULL, 'c'}, {"body", 1, NULL, 'b'}, {0}};
    int word;

    while ((word = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (word) {
        case 'h':
            options.host = optarg;
            break;
        case 'p':
            options.port = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            options.rate = strtod(optarg, NULL);
            break;
        case 's':
            options.seconds = strtod(optarg, NULL);
            break;
        case 'n':
            options.requests = strtoul(optarg, NULL, 10);
            break;
        case 'c':
            options.connections = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'b':
            options.body = optarg;
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 2 || options.connections < 1 || options.connections > CONNECTIONS_MAX ||
        options.seconds <= 0 || options.seconds > 3600)
        usage();
    options.method = argv[optind];
    options.path = argv[optind + 1];
}

int
main(int argc, char **argv)
{
    int64_t begun_ns, took_ns;
    int bytes;

    read_options(argc, argv);
    bytes = options.body
                ? snprintf(request, sizeof request,
                      "%s %s HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: application/json\r\n"
                      "Content-Length: %zu\r\n\r\n%s",
                      options.method, options.path, options.host, options.port,
                      strlen(options.body), options.body)
                : snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: %s:%u\r\n\r\n",
                      options.method, options.path, options.host, options.port);
    if (bytes <= 0 || (size_t)bytes >= sizeof request)
        usage();
    request_bytes = (size_t)bytes;
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll");
    for (unsigned i = 0; i < options.connections; i++)
        open_connection(&connection[i]);

    begun_ns = now_ns();
    run(begun_ns);
    took_ns = now_ns() - begun_ns;
    for (unsigned i = 0; i < options.connections; i++)
        late += connection[i].busy; /* never answered */

    if (latencies > 0)
        qsort(latency_ns, latencies, sizeof *latency_ns, compare);
    printf("{\"sent\":%" PRIu64 ",\"good\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"broken\":%" PRIu64
           ",\"unanswered\":%" PRIu64
           ",\"seconds\":%.3f,\"rate\":%.1f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"p999_ms\":%.3f,\"max_ms\":%.3f}\n",
        sent, good, refused, broken, late, (double)took_ns / 1e9,
        (double)good / ((double)took_ns / 1e9), percentile_ms(0.5), percentile_ms(0.9),
        percentile_ms(0.99), percentile_ms(0.999), percentile_ms(1.0));
    free(latency_ns);
    return 0;
}
