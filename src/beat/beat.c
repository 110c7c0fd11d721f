#include "beat/beat.h"

#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metric.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "beat/cron.h"

/* The one schedule there is (api-surface.md 10, C3). */
static const char sweep_schedule[] = "sch_cleanup";

static const int64_t us_per_second = 1000000LL;
static const int64_t catch_up_us = 86400LL * 1000000; /* P1D: an older one is not made good */
static const int64_t ahead_us = 86400LL * 1000000;    /* the clock was wrong when that was fired */

enum {
    LOOK_S = 60, /* at the latest, whatever the timer thinks */
    RETRY_MS_MIN = 100,
    RETRY_MS_MAX = 5000,
    CONFIG_BYTES_MAX = 64 << 20,
    /* Like any export: last in line, a service that is always busy would never sweep. */
    SWEEP_PRIORITY = 3,
};

typedef struct {
    const Config *config;
    const Kinds *kinds;
    ConfigArgs args;
    Arena *loaded; /* of the configuration read at the last SIGHUP; NULL: still the first one */
    const QueueKind *queue_kind;
    Queue *queue; /* NULL: not open yet */
    Cron cron;
    unsigned failures; /* in a row */
    int epoll, signals, timer;
    bool stops;
} Beat;

/* The same schedule and due time give the same id, to whoever fires it (RFC 9562, version 8). */
static bool
due_id(const char *schedule, int64_t due_us, char id[37], Err *e)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    char text[96], hex[33];
    int bytes =
        snprintf(text, sizeof text, "rowferry-schedule-v1\n%s\n%lld", schedule, (long long)due_us);

    if (bytes < 0 || (size_t)bytes >= sizeof text ||
        EVP_Digest(text, (size_t)bytes, hash, NULL, EVP_sha256(), NULL) != 1)
        return fail(e, INTERNAL, "no SHA-256");
    hash[6] = (unsigned char)((hash[6] & 0x0f) | 0x80);
    hash[8] = (unsigned char)((hash[8] & 0x3f) | 0x80);
    text_hex(hash, 16, hex);
    snprintf(id, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
    return true;
}

static bool
open_queue(Beat *b, Err *e)
{
    QueueSpec spec = kinds_queue_spec(b->config, true, false);

    return b->queue || (b->queue = b->queue_kind->open(&spec, e));
}

/* `due_us` becomes the last known due time; with a task on the queue if `with_task`. */
static bool
fire(Beat *b, int64_t due_us, bool with_task, Err *e)
{
    char id[37], queue_name[QUEUE_NAME_BYTES], due[TIME_TEXT_BYTES];
    char series[128];
    size_t name_bytes = strcspn(b->config->queues, ",");
    const char *const labels[] = {"fired", NULL};
    const QueueTotal total = {
        metric_series(METRIC_SCHEDULE_RUNS, 1, series, sizeof series, labels), 1, false};
    QueuePut put = {.id = id,
        .task = QUEUE_TASK_SWEEP,
        .user_id = "",
        .export_type = "",
        .source = "",
        .format = "",
        .request = "{}",
        .version = "",
        .request_id = "",
        .queue = queue_name,
        .priority = SWEEP_PRIORITY,
        .max_attempts = (int)b->config->max_attempts,
        .created_us = time_wall_us(),
        .total = &total,
        .totals = 1};
    QueueFire one = {.schedule = sweep_schedule, .due_us = due_us, .put = with_task ? &put : NULL};

    if (name_bytes >= sizeof queue_name)
        return fail(e, CONFIG_INVALID, "queues: a name longer than %d bytes", QUEUE_NAME_BYTES - 1);
    memcpy(queue_name, b->config->queues, name_bytes);
    queue_name[name_bytes] = '\0';
    if (!due_id(sweep_schedule, due_us, id, e) || !b->queue_kind->fire(b->queue, &one, e))
        return wrap(e, "firing %s", sweep_schedule);
    if (!one.fired)
        return true; /* another beat was the one */
    time_rfc3339_ms(due_us, due);
    if (with_task)
        log_event(LOG_INFO, "schedule.fired", log_text("schedule", sweep_schedule),
            log_text("due", due), log_text("task_id", id),
            log_number("late_ms", (time_wall_us() - due_us) / 1000));
    else
        log_event(
            LOG_INFO, "schedule.noted", log_text("schedule", sweep_schedule), log_text("due", due));
    return true;
}

/*
 * Only the latest due time counts: those before it were missed, and one sweep makes good for all.
 * A schedule never seen starts with the next one. When the clock goes back, what was fired stays
 * so, but for a clock that was ahead by more than a day.
 */
static bool
tick(Beat *b, Err *e)
{
    int64_t now = time_wall_us(), due = cron_last(&b->cron, now), last = 0;

    if (!open_queue(b, e) || !b->queue_kind->last_due(b->queue, sweep_schedule, &last, e))
        return false;
    if (last > now + ahead_us)
        last = 0; /* else it would rest until that time comes */
    if (due <= last)
        return true;
    return fire(b, due, last > 0 && now - due <= catch_up_us, e);
}

/* Wakes at this wall time, or when somebody sets the clock. */
static void
set_timer(Beat *b, int64_t wait_us)
{
    struct itimerspec when = {{0, 0}, {0, 0}};
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    wait_us += now.tv_nsec / 1000;
    when.it_value.tv_sec = now.tv_sec + (time_t)(wait_us / us_per_second);
    when.it_value.tv_nsec = (long)(wait_us % us_per_second) * 1000;
    (void)timerfd_settime(b->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL);
}

/* Half of the pause is fixed, half is chance, so that many beats do not come back together. */
static int64_t
retry_us(unsigned failures)
{
    int64_t pause_ms = failures > 6 ? RETRY_MS_MAX : (int64_t)RETRY_MS_MIN << failures;
    uint32_t chance = 0;

    if (pause_ms > RETRY_MS_MAX)
        pause_ms = RETRY_MS_MAX;
    if (getrandom(&chance, sizeof chance, 0) != (ssize_t)sizeof chance)
        chance = 0;
    return pause_ms * 500 + (int64_t)(chance % (uint32_t)(pause_ms * 500));
}

static void
look(Beat *b)
{
    int64_t now, wait_us;
    Err e = {0};

    if (tick(b, &e)) {
        b->failures = 0;
        now = time_wall_us();
        wait_us = cron_next(&b->cron, now) - now;
        set_timer(b, wait_us < LOOK_S * us_per_second ? wait_us : LOOK_S * us_per_second);
        return;
    }
    if (b->failures == 0 || log_is_on(LOG_DEBUG))
        log_event(LOG_ERROR, "schedule.failed", log_text("schedule", sweep_schedule), log_err(&e));
    /* A handle that failed may be the reason: the next look opens it anew. */
    if (b->queue)
        b->queue_kind->close(b->queue);
    b->queue = NULL;
    set_timer(b, retry_us(b->failures++));
}

static bool
take_config(Beat *b, const Config *config, Err *e)
{
    LogLevel level;
    Cron cron;

    if (!cron_parse(config->cleanup_schedule, &cron, e))
        return wrap(e, "cleanup_schedule");
    b->config = config;
    b->cron = cron;
    if (log_level_of(config->loglevel, &level))
        log_set_level(level);
    return true;
}

/* A bad file leaves everything as it was. */
static void
reload(Beat *b)
{
    Arena *arena = arena_new(CONFIG_BYTES_MAX);
    const Config *config;
    Err e = {0};

    if (!arena)
        return;
    if (!(config = config_load(&b->args, arena, &e)) ||
        !kinds_judge_sources(b->kinds, config, &e) || !take_config(b, config, &e)) {
        log_event(LOG_ERROR, "config.refused", log_err(&e),
            log_text("msg", "what was loaded before stays"));
        arena_free(arena);
        return;
    }
    config_forget_sources(config);
    config_forget_storage(config);
    arena_free(b->loaded);
    b->loaded = arena;
    log_event(LOG_INFO, "config.loaded", log_text("cleanup_schedule", config->cleanup_schedule));
}

static void
hear_signals(Beat *b)
{
    struct signalfd_siginfo info;

    while (read(b->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload(b);
        else
            b->stops = true;
    }
}

static bool
open_loop(Beat *b, Err *e)
{
    struct epoll_event event = {.events = EPOLLIN};

    if ((b->signals = process_signals(e)) < 0)
        return false;
    if ((b->timer = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC)) < 0 ||
        (b->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
        epoll_ctl(b->epoll, EPOLL_CTL_ADD, b->signals, &event) != 0 ||
        epoll_ctl(b->epoll, EPOLL_CTL_ADD, b->timer, &event) != 0)
        return fail(e, INTERNAL, "cannot wait for the time: %m");
    return true;
}

static void
run_loop(Beat *b)
{
    struct epoll_event events[2];
    uint64_t times;

    while (!b->stops) {
        look(b);
        if (epoll_wait(b->epoll, events, 2, (LOOK_S + 1) * 1000) < 0 && errno != EINTR)
            return;
        /* ECANCELED: the clock was set; either way it is time to look. */
        if (read(b->timer, &times, sizeof times) < 0)
            times = 0;
        hear_signals(b);
    }
}

static void
close_all(Beat *b)
{
    const int fds[] = {b->epoll, b->signals, b->timer};

    if (b->queue)
        b->queue_kind->close(b->queue);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    arena_free(b->loaded);
}

int
beat_run(const Config *config, const Kinds *kinds, const ConfigArgs *args)
{
    Beat b = {
        .config = config, .kinds = kinds, .args = *args, .epoll = -1, .signals = -1, .timer = -1};
    Err e = {0};
    int status = 0;

    if (!(b.queue_kind = kinds_queue(kinds, config, &e)) || !take_config(&b, config, &e) ||
        !open_loop(&b, &e)) {
        log_event(LOG_ERROR, "role.start_failed", log_err(&e));
        status = e.code == ERR_CONFIG_INVALID ? 2 : 1;
    } else {
        log_event(LOG_INFO, "role.started", log_text("cleanup_schedule", config->cleanup_schedule));
        run_loop(&b);
        log_event(LOG_INFO, "role.ended", log_number("status", 0));
    }
    close_all(&b);
    return status;
}
