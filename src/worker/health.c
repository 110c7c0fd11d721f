/*
 * Whether the sources can be reached. The api may not know how to (security.md 6), so a worker has
 * a child try each of them when it starts, after a reload, and then every minute, one after the
 * other, unless an export reads it just then; what comes of it is logged when it changes, and noted
 * in the queue for whoever asks.
 *
 * A child that tries a source has no task, and ends that when one needs it.
 */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/time.h"
#include "worker/worker_in.h"

enum {
    EVERY_MS = 60000,
    AGAIN_MS = 5000, /* when it did not come to it */
    LIMIT_MS = 10000,
};

/* What was known before a reload still is. */
static void
inherit(const Worker *w, const ConfigSource *source, Health *health)
{
    for (size_t i = 0; w->health && i < w->config->sources; i++)
        if (strcmp(w->config->source[i].name, source->name) == 0) {
            health->is_known = w->health[i].is_known;
            health->code = w->health[i].code;
        }
}

bool
health_make(const Worker *w, const Config *config, Arena *arena, Health **health, Err *e)
{
    if (!(*health = arena_alloc_array(arena, config->sources + 1, sizeof **health, e)))
        return false;
    for (size_t i = 0; i < config->sources; i++)
        inherit(w, &config->source[i], &(*health)[i]);
    return true;
}

void
health_begin(Worker *w)
{
    w->health_ms = 0;
    w->try_is_void = true;
    health_make_way(w);
}

void
health_make_way(Worker *w)
{
    if (w->tries)
        slot_cancel(w->tries->slot, ERR_GIVEN_BACK);
}

bool
health_gives_way(const Worker *w, const Place *place)
{
    return w->tries == place && !place->leaves;
}

/* Children that run exports more often have more to lose: the last one. */
static Place *
find_idle(const Worker *w, int64_t now_ms)
{
    for (const Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step == STEP_WAITS && t->wait_ms <= now_ms)
            return NULL;
    for (Place *place = w->place + w->running_max; place-- > w->place;)
        if (place_is_free(place))
            return place;
    return NULL;
}

/* The demo database that is still to be written is no fault. */
static bool
is_to_come(const Worker *w, const ConfigSource *source)
{
    return source->is_demo && access(w->config->demo_path, F_OK) != 0;
}

static void
try_source(Worker *w, size_t number, Place *place, int64_t now_ms)
{
    json_t *run =
        json_pack("{s:s, s:o}", "kind", "check", "source", run_source(&w->config->source[number]));
    Err e = {0};
    bool ok = run &&
              slot_run(place->slot, run, now_ms + LIMIT_MS, w->config->task_memory_limit_bytes, &e);

    json_decref(run);
    if (!ok) /* that child is about to die */
        return;
    w->tries = place;
    w->tried = number;
    w->try_is_void = false;
}

static void
set_next(Worker *w)
{
    w->health_ms = INT64_MAX;
    for (size_t i = 0; i < w->config->sources; i++)
        if (w->health[i].due_ms < w->health_ms)
            w->health_ms = w->health[i].due_ms;
}

static void
note(Worker *w, const ConfigSource *source, Health *health, const Err *why, int64_t took_ms)
{
    bool changed = health->is_known ? health->code != why->code : why->code != ERR_NONE;
    const QueueSource word = {
        .name = source->name,
        .code = why->code == ERR_NONE ? "" : err_name(why->code),
        .took_ms = took_ms,
        .checked_us = time_wall_us(),
    };
    Err e = {0};

    health->is_known = true;
    health->code = why->code;
    if (changed && why->code == ERR_NONE)
        log_event(LOG_INFO, "source.reachable", log_text("source", source->name));
    else if (changed)
        log_event(LOG_WARNING, "source.unreachable", log_text("source", source->name),
            log_number("duration_ms", took_ms), log_err(why));
    if (lease_is_up(w) && !w->queue_kind->note_source(w->queue, &word, &e))
        lease_failed(w, &e);
}

/* A source that gives rows needs no further connection to show that it is there. */
typedef enum { UNUSED, ASKED, GIVES_ROWS } Use;

static Use
use_of(const Worker *w, const ConfigSource *source)
{
    Use use = UNUSED;

    for (const Task *t = w->task; t < w->task + w->tasks; t++)
        if (t->step == STEP_RUNS && !t->is_sweep && strcmp(t->record.source, source->name) == 0)
            use = t->has_first_row ? GIVES_ROWS : use == UNUSED ? ASKED : use;
    return use;
}

/* False: it needs a child, and there is none. */
static bool
look_at(Worker *w, size_t number, Place *place, int64_t now_ms)
{
    const ConfigSource *source = &w->config->source[number];
    Health *health = &w->health[number];
    Use use = use_of(w, source);
    const Err none = {0};

    if (use == GIVES_ROWS) {
        health->due_ms = now_ms + worker_jitter(EVERY_MS);
        note(w, source, health, &none, -1);
    } else if (use == ASKED || is_to_come(w, source)) {
        health->due_ms = now_ms + worker_jitter(use == ASKED ? AGAIN_MS : NET_MS);
    } else if (!place || w->tries) {
        return false;
    } else {
        health->due_ms = now_ms + worker_jitter(AGAIN_MS);
        try_source(w, number, place, now_ms);
    }
    return true;
}

void
health_look(Worker *w, int64_t now_ms)
{
    Place *place;
    bool all = true;

    if (w->health_ms > now_ms || w->stop != STOP_NOT)
        return;
    place = find_idle(w, now_ms);
    for (size_t i = 0; i < w->config->sources; i++)
        if (w->health[i].due_ms <= now_ms)
            all = look_at(w, i, place, now_ms) && all;
    if (all)
        set_next(w);
}

/* Says something of the child, and nothing of the source. */
static bool
is_no_word(ErrCode code)
{
    return code == ERR_GIVEN_BACK || code == ERR_WORKER_LOST || code == ERR_MEMORY_LIMIT;
}

void
health_heard(Worker *w, SlotEvent event, const json_t *frame, const Err *why)
{
    Place *place = w->tries;
    Health *health = &w->health[w->tried];
    int64_t now_ms = time_now_ms(), took_ms = json_int_or(frame, "took_ms", LIMIT_MS);
    Err late = {0};

    if (event != SLOT_DONE && event != SLOT_FAILED && event != SLOT_DIED)
        return;
    w->tries = NULL;
    if (event != SLOT_DIED)
        place_freed(w, place);
    if (w->try_is_void)
        return;
    if (why->code == ERR_TASK_TIMEOUT) {
        fail(&late, SOURCE_TIMEOUT, "no answer in %d ms", LIMIT_MS);
        why = &late;
    }
    if (!is_no_word(why->code)) {
        health->due_ms = now_ms + worker_jitter(EVERY_MS);
        note(w, &w->config->source[w->tried], health, why, took_ms > 0 ? took_ms : 0);
    }
    set_next(w);
}
