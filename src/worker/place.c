/* The children: one in each place, started ahead, replaced when they are worn or dead. */
#include "base/time.h"
#include "worker/worker_in.h"

enum { PAUSE_MS_MIN = 100, PAUSE_MS_MAX = 30000, PAUSE_DOUBLINGS = 9, EXTRA_IDLE_MS = 10000 };

bool
place_open(Worker *w, Err *e)
{
    for (size_t i = 0; i < w->places; i++)
        if (!(w->place[i].slot = slot_new(w->config, w->permits_fd, e)))
            return false;
    return true;
}

/* A child that dies before it is ready is not started again at once. */
static void
note_death(Place *place, int64_t now_ms)
{
    unsigned doublings = place->deaths < PAUSE_DOUBLINGS ? place->deaths : PAUSE_DOUBLINGS;
    int64_t pause_ms = (int64_t)PAUSE_MS_MIN << doublings;

    place->deaths++;
    place->start_ms = now_ms + (pause_ms < PAUSE_MS_MAX ? pause_ms : PAUSE_MS_MAX);
}

static void
start_child(Worker *w, Place *place, int64_t now_ms)
{
    size_t number = (size_t)(place - w->place);
    Err e = {0};

    if (slot_start(place->slot, &e) &&
        worker_watch(w, slot_fd(place->slot), FD_CHILD, number, &e) &&
        worker_watch(w, slot_pid_fd(place->slot), FD_CHILD_END, number, &e))
        return;
    log_event(LOG_ERROR, "child.start_failed", log_err(&e));
    slot_kill(place->slot);
    note_death(place, now_ms);
}

void
place_start(Worker *w, int64_t now_ms)
{
    for (Place *place = w->place; place < w->place + w->running_max; place++)
        if (slot_pid(place->slot) == 0 && place->start_ms <= now_ms)
            start_child(w, place, now_ms);
}

void
place_grow(Worker *w, int64_t now_ms)
{
    for (Place *place = w->place + w->running_max; place < w->place + w->places; place++)
        if (slot_pid(place->slot) == 0 && place->start_ms <= now_ms) {
            place->idle_ms = now_ms;
            start_child(w, place, now_ms);
            return;
        }
}

bool
place_is_free(const Place *place)
{
    return !place->task && !place->leaves && slot_is_idle(place->slot);
}

void
place_shrink(Worker *w, int64_t now_ms)
{
    for (Place *place = w->place + w->running_max; place < w->place + w->places; place++)
        if (place_is_free(place) && now_ms - place->idle_ms > EXTRA_IDLE_MS) {
            place->leaves = true;
            slot_quit(place->slot);
        }
}

void
place_freed(Worker *w, Place *place)
{
    place->task = NULL;
    place->idle_ms = time_now_ms();
    w->may_take = true;
    place->leaves = place->leaves || slot_is_worn(place->slot);
    if (place->leaves)
        slot_quit(place->slot);
}

void
place_renew(Worker *w)
{
    for (Place *place = w->place; place < w->place + w->places; place++) {
        slot_set_config(place->slot, w->config);
        place->leaves = slot_pid(place->slot) != 0;
        if (place->leaves && !place->task)
            slot_quit(place->slot);
    }
}

static void
bury(Worker *w, Place *place, bool was_ready, const Err *why)
{
    int64_t now_ms = time_now_ms();

    if (!place->leaves || place->task)
        log_event(LOG_WARNING, "child.died", log_err(why));
    if (place->task)
        task_orphaned(w, place->task, why);
    place->leaves = false;
    if (was_ready)
        place->start_ms = now_ms;
    else
        note_death(place, now_ms);
}

void
place_hear(Worker *w, Place *place)
{
    const json_t *frame;
    bool was_ready, holds;
    SlotEvent event;

    do {
        Err why = {0};
        Task *t = place->task;

        frame = NULL;
        holds = slot_holds_permit(place->slot);
        was_ready = slot_is_idle(place->slot) || slot_is_running(place->slot);
        event = slot_hear(place->slot, &frame, &why);
        if (event == SLOT_READY) {
            place->deaths = 0;
            w->may_take = true;
            if (place->leaves)
                slot_quit(place->slot);
        } else if (event == SLOT_DIED) {
            if (holds)
                permits_give(w->permits);
            bury(w, place, was_ready, &why);
            if (place == w->tries)
                health_heard(w, event, NULL, &why);
        } else if (t) {
            if (event == SLOT_FINISHES)
                task_finishes(w, t, frame);
            else if (event == SLOT_UPLOAD)
                task_upload(w, t, frame);
            else if (event == SLOT_PREPARED)
                task_prepared(w, t, frame);
            else if (event == SLOT_DONE)
                task_done(w, t, frame);
            else if (event == SLOT_FAILED)
                task_failed(w, t, frame, &why);
        } else if (place == w->tries) {
            health_heard(w, event, frame, &why);
        }
    } while (event != SLOT_NOTHING && event != SLOT_DIED);
}
