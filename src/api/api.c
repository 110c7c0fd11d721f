/* The process: what it opens, its signals, what SIGHUP replaces, and its end. */
#include "api/api.h"

#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "api/api_in.h"
#include "base/log.h"
#include "base/process.h"
#include "base/time.h"

enum {
    PROCESS_BYTES = 4 << 20,
    SETUP_BYTES = 64 << 20,
    LOOP_BUSY_MS = 100, /* readers of a WAL hardly ever wait; the loop must not */
    ASKER_BUSY_MS = 2000,
    NEWS_MS_MIN = 20, /* between two looks of those who wait, and more for each of them */
    NEWS_US_EACH = 200,
    HOUR_S = 3600,
    END_S = 2,
};

typedef struct {
    Api api;
    ConfigArgs args;
    Setup first;
    int signals, news, hourly; /* signalfd, timerfd, timerfd */
    int64_t told_ms;           /* when those who wait last looked */
    bool news_is_due;          /* the timer runs */
    bool ends;                 /* told to stop before */
} Program;

/* --- SIGHUP --- */

static void
set_log_level(const Config *config)
{
    LogLevel level;

    if (log_level_of(config->loglevel, &level))
        log_set_level(level);
}

/* What is open already stays where it is. */
static bool
may_replace(const Config *old, const Config *new, Err *e)
{
    if (strcmp(old->data_dir, new->data_dir) != 0)
        return fail(e, CONFIG_INVALID, "data_dir: a change takes a new start");
    if (strcmp(old->redis_url, new->redis_url) != 0)
        return fail(e, CONFIG_INVALID, "redis_url: a change takes a new start");
    if (strcmp(old->s3_bucket, new->s3_bucket) != 0)
        return fail(e, CONFIG_INVALID, "s3_bucket: a change takes a new start");
    return true;
}

static Setup *
load_setup(Program *p, Arena *arena, Err *e)
{
    Setup *setup = arena_alloc(arena, sizeof *setup, e);

    if (!setup || !(setup->config = config_load(&p->args, arena, e)) ||
        !may_replace(p->api.setup->config, setup->config, e) ||
        !kinds_judge_sources(p->api.kinds, setup->config, e) ||
        !kinds_judge_storage(p->api.kinds, setup->config, NULL, e))
        return NULL;
    config_forget_sources(setup->config);
    if (!config_prepare_data(setup->config, arena, e) ||
        !(setup->types = types_load(setup->config, p->api.kinds, arena, e)))
        return NULL;
    setup->arena = arena;
    setup->number = p->api.setup->number + 1;
    setup->users = 1;
    return setup;
}

/* A bad file leaves everything as it was. */
static void
reload(Program *p)
{
    Arena *arena = arena_new(SETUP_BYTES);
    Setup *setup = NULL, *old = p->api.setup;
    Err e = {0};

    if (arena)
        setup = load_setup(p, arena, &e);
    if (!setup) {
        log_event(LOG_ERROR, "config.refused", log_err(&e),
            log_text("msg", "what was loaded before stays"));
        arena_free(arena);
        return;
    }
    server_set_config(p->api.server, setup->config);
    p->api.setup = setup;
    setup_release(old);
    set_log_level(setup->config);
    log_event(LOG_INFO, "config.loaded", log_number("types", (int64_t)setup->types->types));
}

/* --- what the loop watches --- */

static void
hear_signals(void *with)
{
    Program *p = with;
    struct signalfd_siginfo info;

    while (read(p->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reload(p);
            continue;
        }
        server_stop(p->api.server, p->ends || info.ssi_signo == SIGQUIT);
        p->ends = true;
    }
}

static void
wake_waiting(Program *p)
{
    p->told_ms = time_now_ms();
    server_wake(p->api.server);
}

/* The queue moves with every commit of anybody. Those who wait look at most every NEWS_MS_MIN, and
 * less often the more they are, so that what it costs stays bounded. */
static void
hear_queue(void *with)
{
    Program *p = with;
    Api *api = &p->api;
    int64_t pause_ms = NEWS_MS_MIN + (int64_t)api->waiting * NEWS_US_EACH / 1000;
    int64_t due_ms = p->told_ms + pause_ms - time_now_ms();
    struct itimerspec when = {
        .it_value = {.tv_sec = due_ms / 1000, .tv_nsec = due_ms % 1000 * 1000000}};

    api->queue_kind->wake_clear(api->hands.queue);
    if (api->waiting == 0 || p->news_is_due)
        return;
    if (due_ms <= 0)
        wake_waiting(p);
    else
        p->news_is_due = timerfd_settime(p->news, 0, &when, NULL) == 0;
}

static bool
clear_timer(int timer)
{
    uint64_t times;

    return read(timer, &times, sizeof times) == (ssize_t)sizeof times;
}

static void
hear_news_timer(void *with)
{
    Program *p = with;

    if (!clear_timer(p->news))
        return;
    p->news_is_due = false;
    wake_waiting(p);
}

static void
warn_of_address(const Config *config)
{
    if (!config->listens_beyond_loopback)
        return;
    if (config->auth_is_set)
        log_event(LOG_WARNING, "auth.open", log_text("host", config->host),
            log_text("detail", "ROWFERRY_AUTH=none: open to everyone who can connect"));
    else
        log_event(LOG_WARNING, "auth.protected", log_text("host", config->host),
            log_text("detail",
                "ROWFERRY_AUTH is not set: only loopback and private addresses are answered"));
}

static void
hear_hour(void *with)
{
    Program *p = with;

    if (clear_timer(p->hourly))
        warn_of_address(p->api.setup->config);
}

/* --- begin and end --- */

static bool
open_timers(Program *p, Err *e)
{
    const struct itimerspec hourly = {{.tv_sec = HOUR_S}, {.tv_sec = HOUR_S}};

    if ((p->news = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) < 0 ||
        (p->hourly = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) < 0 ||
        timerfd_settime(p->hourly, 0, &hourly, NULL) != 0)
        return fail(e, INTERNAL, "cannot wait for time: %m");
    return true;
}

/* The writer comes first: it makes the queue's file, which the readers only find. */
static bool
open_stores(Api *api, Err *e)
{
    const Config *config = api->setup->config;
    QueueSpec spec = kinds_queue_spec(config, true, false);
    Hands askers;

    if (!(api->queue_kind = kinds_queue(api->kinds, config, e)) ||
        !(api->storage_kind = kinds_storage(api->kinds, config, e)) ||
        !(api->writer = writer_new(api->queue_kind, &spec, api->process, e)))
        return false;
    api->hands = hands_new(api->queue_kind, api->storage_kind, config, LOOP_BUSY_MS, true);
    askers = hands_new(api->queue_kind, api->storage_kind, config, ASKER_BUSY_MS, false);
    return hands_queue(&api->hands, e) &&
           hands_storage(&api->hands, config, api->setup->number, e) &&
           (api->askers = askers_new(&askers, api->process, e)) &&
           (api->readiness = readiness_new(api, e));
}

static bool
open_server(Program *p, Err *e)
{
    Api *api = &p->api;
    const ServerSpec spec = {.config = api->setup->config,
        .listen_fd = api->setup->config->listen_fd,
        .handle = call_handle,
        .with = api};
    Server *s = server_new(&spec, e);

    api->server = s;
    return s && server_watch(s, p->signals, hear_signals, p, e) &&
           server_watch(s, api->queue_kind->wake_fd(api->hands.queue), hear_queue, p, e) &&
           server_watch(s, p->news, hear_news_timer, p, e) &&
           server_watch(s, p->hourly, hear_hour, p, e) &&
           server_watch(s, readiness_fd(api->readiness), readiness_told, api, e);
}

static bool
begin(Program *p, const Config *config, Err *e)
{
    Api *api = &p->api;

    api->setup = &p->first;
    api->started_us = time_wall_us();
    p->first = (Setup){.config = config, .number = 1, .users = 1};
    /* The first: threads inherit what is blocked. */
    return (p->signals = process_signals(e)) >= 0 && (api->process = arena_new(PROCESS_BYTES)) &&
           (p->first.types = types_load(config, api->kinds, api->process, e)) &&
           open_timers(p, e) && open_stores(api, e) && open_server(p, e);
}

/* The threads first: they may still hold requests. One that hangs in a store ends with the process,
 * and so does everything that it may use. */
static void
end(Program *p, int status)
{
    Api *api = &p->api;
    const int fds[] = {p->signals, p->news, p->hourly};
    bool ended = !api->askers || askers_end(api->askers, END_S);

    ended = (!api->writer || writer_end(api->writer, END_S)) && ended;
    if (!ended) {
        log_event(LOG_WARNING, "role.thread_hangs", log_number("waited_s", END_S));
        _exit(status);
    }
    if (api->server)
        server_free(api->server);
    hands_close(&api->hands);
    if (api->readiness)
        readiness_free(api->readiness);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    setup_release(api->setup);
    arena_free(api->process);
}

int
api_run(const Config *config, const Kinds *kinds, const ConfigArgs *args)
{
    Program p = {.api.kinds = kinds, .args = *args, .signals = -1, .news = -1, .hourly = -1};
    Err e = {0};
    int status = 1;

    if (!begin(&p, config, &e)) {
        log_event(LOG_ERROR, "role.start_failed", log_err(&e));
        status = e.code == ERR_CONFIG_INVALID ? 2 : 1;
    } else {
        log_event(LOG_INFO, "role.started", log_text("url", server_url(p.api.server)),
            log_number("types", (int64_t)p.first.types->types));
        warn_of_address(config);
        /* A look teaches a storage what its links need to know: the bucket's region, the clock. */
        readiness_look(p.api.readiness);
        if (server_run(p.api.server, &e))
            status = 0;
        else
            log_event(LOG_ERROR, "role.failed", log_err(&e));
        log_event(LOG_INFO, "role.ended", log_number("status", status));
    }
    end(&p, status);
    return status;
}
