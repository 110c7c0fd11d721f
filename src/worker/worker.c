/*
 * The loop: one thread, one epoll. It waits for the queue, for children, for signals and for the
 * next thing that is due; nothing in it touches a source or a store, so no slow server can stop its
 * heartbeat.
 */
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/time.h"
#include "worker/worker_in.h"

enum {
    CONFIG_BYTES_MAX = 64 << 20,
    PROCESS_BYTES_MAX = 8 << 20,
    SCRATCH_BYTES_MAX = 64 << 20,
    EVENTS_MAX = 64,
    TASKS_PER_PLACE = 2,  /* one that runs, one whose end is to be written */
    STOP_GRACE_MS = 2500, /* children that were told to end are killed after it … */
    STOP_LEAVE_MS = 4500, /* … and nobody is waited for after this */
    FD_OF_BITS = 3,
};

int64_t
worker_jitter(int64_t ms)
{
    uint64_t chance;
    int64_t span = ms / 5;

    if (span <= 0 || getrandom(&chance, sizeof chance, 0) != (ssize_t)sizeof chance)
        return ms;
    return ms - span / 2 + (int64_t)(chance % (uint64_t)(span + 1));
}

bool
worker_watch(Worker *w, int fd, FdOf of, size_t number, Err *e)
{
    struct epoll_event event = {
        .events = EPOLLIN,
        .data.u64 = (uint64_t)number << FD_OF_BITS | (uint64_t)of,
    };

    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ||
           fail(e, INTERNAL, "cannot wait for a descriptor: %m");
}

/* --- configuration --- */

/* At most so many at once of a source or a type, over all workers; and the sources that are held
 * back while the demo database is written. */
static bool
make_limits(const Config *config, const TypeSet *types, Arena *arena, Worker *w, Err *e)
{
    QueueLimit *limit =
        arena_alloc_array(arena, 2 * config->sources + types->types + 1, sizeof *limit, e);
    size_t limits = 0, demo = 0;

    if (!limit)
        return false;
    for (size_t i = 0; i < config->sources; i++)
        if (config->source[i].concurrency > 0)
            limit[limits++] = (QueueLimit){
                .source = config->source[i].name, .most = config->source[i].concurrency};
    for (size_t i = 0; i < types->types; i++)
        if (types->type[i].concurrency > 0)
            limit[limits++] = (QueueLimit){
                .export_type = types->type[i].name, .most = types->type[i].concurrency};
    for (size_t i = 0; i < config->sources; i++)
        if (config->source[i].is_demo)
            limit[limits + demo++] = (QueueLimit){.source = config->source[i].name, .most = 0};
    if (limits + demo > QUEUE_LIMITS_MAX)
        return fail(e, CONFIG_INVALID, "more than %d sources and types with a concurrency",
            QUEUE_LIMITS_MAX);
    w->limit = limit;
    w->limits = limits;
    w->limits_demo = demo;
    return true;
}

/* What an export takes of its source's limit: so many connections. */
static QueueWeight *
make_weights(const Worker *w, const Config *config, const TypeSet *types, Arena *arena,
    size_t *weights, Err *e)
{
    QueueWeight *weight = arena_alloc_array(arena, types->types + 1, sizeof *weight, e);

    *weights = 0;
    for (size_t i = 0; weight && i < types->types; i++) {
        const ExportType *type = &types->type[i];
        const ConfigSource *source = config_find_source(config, type->source);
        const SourceKind *kind = source ? kinds_source(w->kinds, source->url) : NULL;
        unsigned connections = kind ? type_parallel(type, kind, source).connections : 0;

        if (connections > 1)
            weight[(*weights)++] = (QueueWeight){type->name, connections};
    }
    return weight;
}

/* `arena` holds all of it from now on. */
static bool
take_config(Worker *w, const Config *config, Arena *arena, Err *e)
{
    const TypeSet *types =
        kinds_judge_sources(w->kinds, config, e) && kinds_judge_storage(w->kinds, config, NULL, e)
            ? types_load(config, w->kinds, arena, e)
            : NULL;
    QueueWeight *weight;
    size_t weights;
    Health *health;
    LogLevel level;

    if (!types || !health_make(w, config, arena, &health, e) ||
        !(weight = make_weights(w, config, types, arena, &weights, e)) ||
        !make_limits(config, types, arena, w, e)) {
        types_free(types);
        return false;
    }
    if (log_level_of(config->loglevel, &level))
        log_set_level(level);
    w->weight = weight;
    w->weights = weights;
    w->config = config;
    w->types = types;
    w->loaded = arena;
    w->health = health;
    health_begin(w);
    return true;
}

/* A bad file leaves everything as it was. What is built once (queue, number of children) stays. */
static void
reload(Worker *w)
{
    Arena *arena = arena_new(CONFIG_BYTES_MAX), *before = w->loaded;
    const TypeSet *types_before = w->types;
    const Config *config;
    Err e = {0};

    if (!arena)
        return;
    if (!(config = config_load(&w->args, arena, &e)) || !take_config(w, config, arena, &e)) {
        log_event(LOG_ERROR, "config.refused", log_err(&e),
            log_text("msg", "what was loaded before stays"));
        arena_free(arena);
        return;
    }
    place_renew(w);
    types_free(types_before);
    arena_free(before);
    log_event(LOG_INFO, "config.loaded", log_number("types", (int64_t)w->types->types));
    demo_look(w);
    w->may_take = true;
}

static bool
split_queues(Worker *w, Err *e)
{
    const char *at = w->config->queues;
    const char **names = arena_alloc_array(w->process, strlen(at) + 2, sizeof *names, e);
    size_t count = 0;

    if (!names)
        return false;
    while (*at) {
        size_t bytes = strcspn(at, ",");

        if (bytes >= QUEUE_NAME_BYTES)
            return fail(
                e, CONFIG_INVALID, "queues: a name longer than %d bytes", QUEUE_NAME_BYTES - 1);
        if (bytes > 0 && !(names[count++] = arena_bytes(w->process, at, bytes, e)))
            return false;
        at += bytes + (at[bytes] == ',');
    }
    if (count == 0)
        return fail(e, CONFIG_INVALID, "queues: expected at least one name");
    w->queues = names;
    return true;
}

/* --- stopping --- */

static bool
is_busy(const Worker *w)
{
    for (const Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step != STEP_NONE)
            return true;
    return false;
}

static void
begin_stop(Worker *w, bool at_once)
{
    int64_t now_ms = time_now_ms();

    if (w->stop == STOP_NOW || (w->stop == STOP_DRAINS && !at_once))
        return;
    w->stop = at_once ? STOP_NOW : STOP_DRAINS;
    w->stop_ms = at_once ? now_ms : now_ms + w->config->drain_ms;
    w->kill_ms = w->stop_ms + STOP_GRACE_MS;
    w->leave_ms = w->stop_ms + STOP_LEAVE_MS;
    log_event(LOG_INFO, "role.stopping", log_text("how", at_once ? "now" : "drain"),
        log_number("drain_ms", at_once ? 0 : w->config->drain_ms));
}

static void
press_stop(Worker *w, int64_t now_ms)
{
    if (w->stop == STOP_NOT)
        return;
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        if (now_ms >= w->stop_ms || t->step == STEP_WAITS)
            task_give_back(w, t);
    if (now_ms >= w->kill_ms)
        for (Place *place = w->place; place < w->place + w->places; place++)
            if (place->task)
                slot_kill(place->slot);
}

/* Nothing is left to wait for. */
static bool
has_stopped(const Worker *w, int64_t now_ms)
{
    return w->stop != STOP_NOT && (!is_busy(w) || now_ms >= w->leave_ms);
}

static void
hear_signals(Worker *w)
{
    struct signalfd_siginfo info;

    while (read(w->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        /* A service manager that tells every process is no second word of our supervisor. */
        bool is_echo =
            w->config->supervisor > 0 && (pid_t)info.ssi_pid != (pid_t)w->config->supervisor;
        bool is_second = is_echo ? false : w->stops_heard > 0;

        if (info.ssi_signo == SIGHUP) {
            reload(w);
        } else {
            w->stops_heard += !is_echo;
            begin_stop(w, info.ssi_signo == SIGQUIT || is_second);
        }
    }
}

/* --- the loop --- */

static bool
needs_tick(const Worker *w)
{
    for (const Place *place = w->place; place < w->place + w->places; place++)
        if (slot_pid(place->slot) != 0 && (place->task || !slot_is_idle(place->slot)))
            return true;
    return false;
}

/* When there is something to do at the latest. */
static int64_t
next_ms(const Worker *w)
{
    int64_t next = w->renew_ms < w->net_ms ? w->renew_ms : w->net_ms, now_ms = time_now_ms();

#define NOT_AFTER(ms) next = (ms) < next ? (ms) : next
    NOT_AFTER(w->due_ms);
    if (w->news)
        NOT_AFTER(w->news_ms);
    if (needs_tick(w))
        NOT_AFTER(w->tick_ms);
    if (!w->queue)
        NOT_AFTER(w->queue_wait_ms);
    if (w->health_ms > now_ms && !w->tries) /* else it waits for a child */
        NOT_AFTER(w->health_ms);
    for (const Place *place = w->place; w->stop == STOP_NOT && place < w->place + w->running_max;
         place++)
        if (slot_pid(place->slot) == 0)
            NOT_AFTER(place->start_ms);
    for (const Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step == STEP_WAITS && t->wait_ms > now_ms) /* else it waits for a child */
            NOT_AFTER(t->wait_ms);
    if (w->stop != STOP_NOT) {
        NOT_AFTER(now_ms < w->stop_ms   ? w->stop_ms
                  : now_ms < w->kill_ms ? w->kill_ms
                                        : w->leave_ms);
    }
#undef NOT_AFTER
    return next;
}

static void
wait_and_hear(Worker *w)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t wait_ms = w->at_once ? 0 : next_ms(w) - time_now_ms();
    int count = epoll_wait(w->epoll, events, EVENTS_MAX, wait_ms > 0 ? (int)wait_ms : 0);

    w->at_once = false;
    for (int i = 0; i < count; i++) {
        size_t number = (size_t)(events[i].data.u64 >> FD_OF_BITS);

        switch ((FdOf)(events[i].data.u64 & ((1 << FD_OF_BITS) - 1))) {
        case FD_SIGNALS:
            hear_signals(w);
            break;
        case FD_QUEUE:
            if (w->queue)
                w->queue_kind->wake_clear(w->queue);
            w->news = w->may_take = true;
            break;
        case FD_CHILD:
        case FD_CHILD_END:
            place_hear(w, &w->place[number]);
            break;
        case FD_DEMO:
            demo_hear(w, time_now_ms());
            break;
        }
    }
}

static void
tick(Worker *w, int64_t now_ms)
{
    w->tick_ms = now_ms + TICK_MS;
    for (Place *place = w->place; place < w->place + w->places; place++) {
        slot_tick(place->slot, now_ms);
        place_hear(w, place);
    }
    for (Task *t = w->task; t < w->task + w->tasks; t++)
        task_tick(w, t, now_ms);
}

/* Tasks that wait go to children that are free. */
static void
hand_out(Worker *w, int64_t now_ms)
{
    Place *place = w->place, *end = w->place + w->places;
    size_t reading = lease_reading(w);

    if (w->stop != STOP_NOT)
        return;
    if (reading == 0)
        permits_reset(w->permits, (unsigned)w->running_max);
    for (Task *t = w->task; t < w->task + w->tasks; t++) {
        bool reads = t->record.phase != QUEUE_PREPARED;

        if (t->step != STEP_WAITS || t->wait_ms > now_ms ||
            (reads && reading++ >= lease_reading_max(w)))
            continue;
        while (place < end && !place_is_free(place))
            place++;
        if (place == end) {
            health_make_way(w);
            return;
        }
        task_run(w, t, place);
    }
}

static void
do_what_is_due(Worker *w, int64_t now_ms)
{
    Err e = {0};

    if (!w->queue && w->queue_wait_ms <= now_ms && !lease_open(w, &e))
        lease_failed(w, &e);
    if (w->stop == STOP_NOT)
        place_start(w, now_ms);
    if (w->tick_ms <= now_ms && needs_tick(w))
        tick(w, now_ms);
    if (w->renew_ms <= now_ms) {
        w->renew_ms = now_ms + worker_jitter(RENEW_MS);
        lease_beat(w);
    }
    if (w->due_ms <= now_ms) {
        w->due_ms = INT64_MAX;
        w->may_take = true;
    }
    if (w->news && w->news_ms <= now_ms) {
        w->news_ms = now_ms + NEWS_MS;
        lease_hear(w);
    }
    if (w->net_ms <= now_ms) {
        w->net_ms = now_ms + worker_jitter(NET_MS);
        w->may_take = true;
        demo_hear(w, now_ms);
        place_shrink(w, now_ms);
        if (w->stop == STOP_NOT)
            lease_scan(w);
    }
}

static void
run_loop(Worker *w)
{
    for (;;) {
        int64_t now_ms = time_now_ms();
        Err e = {0};

        do_what_is_due(w, now_ms);
        press_stop(w, now_ms);
        lease_take(w); /* first, so that children read while the disk syncs what is written */
        hand_out(w, now_ms);
        health_look(w, now_ms);
        lease_write(w);
        if (has_stopped(w, now_ms))
            return;
        if (lease_is_up(w) && w->queue_kind->maintain && !w->queue_kind->maintain(w->queue, &e))
            lease_failed(w, &e);
        wait_and_hear(w);
    }
}

/* --- the role --- */

static bool
open_loop(Worker *w, Err *e)
{
    if ((w->signals = process_signals(e)) < 0)
        return false;
    if ((w->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return fail(e, INTERNAL, "cannot wait for children: %m");
    return worker_watch(w, w->signals, FD_SIGNALS, 0, e);
}

static bool
make_tables(Worker *w, Err *e)
{
    size_t extra;

    w->running_max = w->config->concurrency > 0 ? (size_t)w->config->concurrency : process_cores();
    extra = EXTRA_PER_PLACE * w->running_max;
    w->places = w->running_max + (extra < EXTRA_MAX ? extra : EXTRA_MAX);
    if (w->running_max > RUNNING_MAX)
        return fail(e, CONFIG_INVALID, "concurrency: expected at most %d", RUNNING_MAX);
    w->tasks = w->places * TASKS_PER_PLACE;
    w->owner = (QueueOwner){w->config->hostname, getpid(), process_born(getpid())};
    return (w->owner.name = arena_text(w->process, w->config->hostname, e)) &&
           (w->place = arena_alloc_array(w->process, w->places, sizeof *w->place, e)) &&
           (w->task = arena_alloc_array(w->process, w->tasks, sizeof *w->task, e)) &&
           (w->group = arena_alloc_array(w->process, w->tasks, sizeof *w->group, e)) &&
           (w->group_task = arena_alloc_array(w->process, w->tasks, sizeof(Task *), e)) &&
           split_queues(w, e) &&
           (w->permits = permits_new((unsigned)w->running_max, &w->permits_fd, e)) &&
           place_open(w, e);
}

static bool
start(Worker *w, const Config *config, Err *e)
{
    Arena *loaded;

    w->process = arena_new(PROCESS_BYTES_MAX);
    w->scratch = arena_new(SCRATCH_BYTES_MAX);
    loaded = arena_new(CONFIG_BYTES_MAX);
    if (!w->process || !w->scratch || !loaded) {
        arena_free(loaded);
        return fail(e, MEMORY_LIMIT, "no memory for a worker");
    }
    if (!take_config(w, config, loaded, e)) {
        arena_free(loaded);
        return false;
    }
    if (!(w->queue_kind = kinds_queue(w->kinds, config, e)) || !open_loop(w, e) ||
        !make_tables(w, e))
        return false;
    log_event(LOG_INFO, "role.started", log_text("worker", w->owner.name),
        log_number("concurrency", (int64_t)w->running_max),
        log_number("types", (int64_t)w->types->types));
    return true;
}

static void
close_all(Worker *w)
{
    Err e = {0};

    demo_end(w);
    for (size_t i = 0; i < w->places && w->place; i++)
        slot_free(w->place[i].slot);
    for (size_t i = 0; i < w->tasks && w->task; i++)
        arena_free(w->task[i].arena);
    if (w->queue) {
        if (!w->queue_kind->leave(w->queue, &w->owner, &e))
            log_event(LOG_WARNING, "queue.failed", log_err(&e));
        w->queue_kind->close(w->queue);
    }
    permits_unmap(w->permits);
    if (w->permits_fd >= 0)
        close(w->permits_fd);
    if (w->epoll >= 0)
        close(w->epoll);
    if (w->signals >= 0)
        close(w->signals);
    types_free(w->types);
    arena_free(w->loaded);
    arena_free(w->scratch);
    arena_free(w->process);
}

int
worker_run(const Config *config, const Kinds *kinds, const ConfigArgs *args)
{
    Worker w = {.config = config,
        .kinds = kinds,
        .args = *args,
        .epoll = -1,
        .signals = -1,
        .permits_fd = -1,
        .read_ms = SLOW_MS,
        .due_ms = INT64_MAX};
    Err e = {0};
    int status = 0;

    if (!start(&w, config, &e)) {
        log_event(LOG_ERROR, "role.start_failed", log_err(&e));
        status = e.code == ERR_CONFIG_INVALID ? 2 : 1;
    } else {
        demo_look(&w);
        run_loop(&w);
        log_event(LOG_INFO, "role.ended", log_number("status", 0));
    }
    close_all(&w);
    return status;
}
