#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "net/listen.h"

enum {
    PAUSE_MS_MAX = 30000,
    OLD_MS = 60000,       /* who lived this long did not die young */
    API_GRACE_MS = 15000, /* it ends its requests within 10 s */
    STOP_NOW_MS = 7000,   /* after a second signal roles have 5 s; then SIGKILL */
    DRAIN_EXTRA_MS = 10000,
    ENVIRONMENT_ROOM = 300,
};

/* One role and the process that plays it. */
typedef struct {
    const char *name;
    bool listens;    /* gets the listening socket */
    bool stops_last; /* so that statuses stay readable */
    Process process; /* pid 0: none runs */
    int64_t started_ms;
    int64_t start_at_ms; /* when to start it; only while none runs */
    unsigned deaths;     /* young ones in a row */
    unsigned told;       /* 1: to stop, 2: to stop now */
    int64_t kill_at_ms;  /* 0: nobody asked it to stop */
} Member;

typedef struct {
    const Config *config;
    Member member[3];
    size_t members;
    int epoll, signals, listener;
    const char *const *environment;
    unsigned stops; /* signals to stop so far */
    int status;
} Supervisor;

/* The service manager's protocol (sd_notify(3)): a datagram to $NOTIFY_SOCKET. */
static void
tell_manager(const char *word)
{
    const char *path = config_variable("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t bytes = path ? strlen(path) : 0;
    int fd;

    if (bytes == 0 || bytes >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, bytes);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        return;
    (void)sendto(fd, word, strlen(word), MSG_NOSIGNAL, (struct sockaddr *)&to,
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes));
    close(fd);
}

/* What config says, and how a role knows that it is one of ours. */
static const char *const *
build_environment(const Config *config, Arena *arena, Err *e)
{
    const char *const *base = config_environment(config, arena, e);
    const char **list = arena_alloc_array(arena, ENVIRONMENT_ROOM, sizeof *list, e);
    size_t count = 0;

    if (!base || !list)
        return NULL;
    for (; base[count] && count < ENVIRONMENT_ROOM - 3; count++)
        list[count] = base[count];
    if (!(list[count++] = arena_printf(arena, e, "ROWFERRY_SUPERVISED=%ld", (long)getpid())))
        return NULL;
    list[count] = "ROWFERRY_LISTEN_FD=3"; /* who is not given a socket does not look */
    return list;
}

static void
watch_fd(Supervisor *s, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    (void)epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* 0, 1, 3, 7 … 30 s. */
static int64_t
pause_ms(unsigned deaths)
{
    int64_t pause = deaths > 5 ? PAUSE_MS_MAX : (((int64_t)1 << deaths) - 1) * 1000;

    return pause < PAUSE_MS_MAX ? pause : PAUSE_MS_MAX;
}

static void
start_member(Supervisor *s, Member *m)
{
    const char *const args[] = {m->name, NULL};
    ProcessStart start = {.args = args,
        .environment = s->environment,
        .fds = &s->listener,
        .fds_count = m->listens ? 1 : 0};
    Err e = {0};

    m->started_ms = time_now_ms();
    if (process_start(&start, &m->process, &e)) {
        watch_fd(s, m->process.pid_fd);
        return;
    }
    m->process = (Process){0};
    m->start_at_ms = m->started_ms + pause_ms(++m->deaths);
    log_event(LOG_ERROR, "role.start_failed", log_text("name", m->name), log_err(&e));
}

/* Now is SIGQUIT: a second SIGTERM, sent before the first was heard, would be lost in it. */
static void
stop_member(Member *m, unsigned wanted, int64_t grace_ms)
{
    if (m->process.pid == 0 || m->told >= wanted)
        return;
    (void)kill(m->process.pid, wanted == 2 ? SIGQUIT : SIGTERM);
    m->told = wanted;
    m->kill_at_ms = time_now_ms() + grace_ms;
}

static bool
is_anybody_up(const Supervisor *s, bool last_ones)
{
    for (const Member *m = s->member; m < s->member + s->members; m++)
        if (m->process.pid != 0 && m->stops_last == last_ones)
            return true;
    return false;
}

/* Workers and beat first; the api when they are gone. */
static void
stop_next(Supervisor *s)
{
    bool first_gone = !is_anybody_up(s, false);

    for (Member *m = s->member; m < s->member + s->members; m++) {
        if (s->stops > 1)
            stop_member(m, 2, STOP_NOW_MS);
        else if (!m->stops_last)
            stop_member(m, 1, s->config->drain_ms + DRAIN_EXTRA_MS);
        else if (first_gone)
            stop_member(m, 1, API_GRACE_MS);
    }
}

static void
begin_stop(Supervisor *s)
{
    if (s->stops++ == 0)
        tell_manager("STOPPING=1");
    log_event(LOG_INFO, "role.stopping", log_bool("now", s->stops > 1));
    stop_next(s);
}

static void
hear_death(Supervisor *s, Member *m, int wait_status)
{
    int64_t lived_ms = time_now_ms() - m->started_ms;
    bool exited = WIFEXITED(wait_status);
    int code = exited ? WEXITSTATUS(wait_status) : WTERMSIG(wait_status);

    close(m->process.pid_fd);
    m->process = (Process){0};
    if (s->stops > 0) {
        if (!exited || code != 0)
            log_event(LOG_WARNING, "role.ended", log_text("name", m->name),
                log_number(exited ? "status" : "signal", code));
        return;
    }
    log_event(LOG_ERROR, "role.died", log_text("name", m->name),
        log_number(exited ? "status" : "signal", code), log_number("lived_ms", lived_ms));
    if (exited && code == 2) { /* its configuration is wrong: another start changes nothing */
        s->status = 2;
        begin_stop(s);
        return;
    }
    if (lived_ms >= OLD_MS)
        m->deaths = 0;
    m->start_at_ms = time_now_ms() + pause_ms(m->deaths++);
}

static void
reap(Supervisor *s)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
        for (Member *m = s->member; m < s->member + s->members; m++)
            if (m->process.pid == pid)
                hear_death(s, m, wait_status);
    if (s->stops > 0)
        stop_next(s);
}

/* SIGHUP is for those who read something anew: all roles do. Who accepts requests hears it last: a
 * type that is new to the api is not new to the worker any more. */
static void
pass_on(const Supervisor *s, int signal_number)
{
    for (int last = 0; last <= 1; last++)
        for (const Member *m = s->member; m < s->member + s->members; m++)
            if (m->process.pid != 0 && m->stops_last == last)
                (void)kill(m->process.pid, signal_number);
}

static void
hear_signals(Supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
            begin_stop(s);
            break;
        case SIGQUIT:
            s->stops = s->stops ? s->stops : 1;
            begin_stop(s);
            break;
        case SIGHUP:
            pass_on(s, SIGHUP);
            break;
        default:
            break;
        }
    }
}

/* Starts and kills what is due; milliseconds until the next of these, -1 for none. */
static int
do_what_is_due(Supervisor *s)
{
    int64_t now = time_now_ms(), next = INT64_MAX;

    for (Member *m = s->member; m < s->member + s->members; m++) {
        int64_t due = m->kill_at_ms;

        if (m->process.pid == 0 && s->stops > 0)
            continue;
        if (m->process.pid == 0 && m->start_at_ms <= now)
            start_member(s, m);
        if (m->process.pid == 0)
            due = m->start_at_ms;
        else if (m->kill_at_ms && m->kill_at_ms <= now) {
            log_event(LOG_WARNING, "role.killed", log_text("name", m->name));
            (void)kill(m->process.pid, SIGKILL);
            m->kill_at_ms = due = now + STOP_NOW_MS;
        }
        if (due > 0 && due < next)
            next = due;
    }
    if (next == INT64_MAX)
        return -1;
    return next <= now ? 0 : (int)(next - now < 3600000 ? next - now : 3600000);
}

static void
run_loop(Supervisor *s)
{
    struct epoll_event events[8];

    for (;;) {
        int wait_ms = do_what_is_due(s);

        if (s->stops > 0 && !is_anybody_up(s, false) && !is_anybody_up(s, true))
            return;
        if (epoll_wait(s->epoll, events, 8, wait_ms) < 0 && errno != EINTR)
            return;
        hear_signals(s);
        reap(s);
    }
}

static bool
open_signals(Supervisor *s, Err *e)
{
    if ((s->signals = process_signals(e)) < 0)
        return false;
    if ((s->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return fail(e, INTERNAL, "cannot wait for roles: %m");
    watch_fd(s, s->signals);
    return true;
}

int
supervisor_run(const Config *config, const ConfigArgs *args)
{
    Supervisor s = {
        .config = config,
        .member = {{.name = "api", .listens = true, .stops_last = true}, {.name = "worker"},
            {.name = "beat"}},
        .members = 3,
        .epoll = -1,
        .signals = -1,
        .listener = -1,
    };
    Arena *arena = arena_new(4 << 20);
    Err e = {0};

    (void)args; /* roles read the configuration anew at SIGHUP; nothing here hangs on it */
    if (!arena || !(s.environment = build_environment(config, arena, &e)) ||
        !open_signals(&s, &e) ||
        (s.listener = listen_open(config->host, (unsigned)config->port, &e)) < 0) {
        log_event(LOG_ERROR, "role.start_failed", log_err(&e));
        s.status = e.code == ERR_CONFIG_INVALID ? 2 : 1;
    } else {
        log_event(LOG_INFO, "role.started", log_text("data_dir", config->data_dir));
        tell_manager("READY=1");
        run_loop(&s);
        log_event(LOG_INFO, "role.ended", log_number("status", s.status));
    }
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? s.epoll : i == 1 ? s.signals : s.listener;

        if (fd >= 0)
            close(fd);
    }
    arena_free(arena);
    return s.status;
}
