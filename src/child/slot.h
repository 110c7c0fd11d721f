/*
 * Slot: the parent's end of a child process (reliability.md 3.5). The parent is one thread with one
 * epoll; it watches slot_fd and slot_pid_fd and calls slot_hear / slot_tick. The slot enforces
 * memory, time and heartbeat from outside.
 */
#ifndef CHILD_SLOT_H
#define CHILD_SLOT_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/watch.h"
#include "config/config.h"

typedef struct Slot Slot;

typedef enum {
    SLOT_NOTHING,
    SLOT_READY,    /* the child is up and idle */
    SLOT_FINISHES, /* the last row is read: what is left is the store's work */
    SLOT_PREPARED, /* frame: key, sealed, rows, bytes, sha256; answer with slot_go */
    SLOT_UPLOAD,   /* frame: upload; answer with slot_go */
    SLOT_DONE,     /* frame: result */
    SLOT_FAILED,   /* `err` says why; frame: publishes (it had begun to); the child lives on */
    SLOT_DIED,     /* `err` says how (WORKER_LOST, MEMORY_LIMIT, TASK_TIMEOUT); slot_start again */
} SlotEvent;

/* What the shared page says. */
typedef struct {
    Stage stage;
    uint64_t rows, bytes, peak_bytes;
    int64_t rows_estimated;
} SlotProgress;

/* `permits_fd`: permit.h; -1: no limit. It is the caller's, and open as long as the slot. */
Slot *slot_new(const Config *config, int permits_fd, Err *e) MUST_CHECK; /* starts nothing */
void slot_set_config(Slot *s, const Config *config);                     /* for the next child */
void slot_free(Slot *s);                                                 /* kills what runs */

/* Starts a child and sends `setup`. */
bool slot_start(Slot *s, Err *e) MUST_CHECK;
bool slot_is_idle(const Slot *s);
bool slot_is_running(const Slot *s); /* has a task */
bool slot_has_begun(const Slot *s);  /* its task waits for no permit (any more) */
bool slot_holds_permit(const Slot *s);
pid_t slot_pid(const Slot *s);
int slot_fd(const Slot *s);     /* -1: no child */
int slot_pid_fd(const Slot *s); /* -1: no child */

/* Hands out a task: `run` frame (task_id, epoch, key, request, definition, source, sealed…).
 * deadline: time_now_ms clock. Takes no reference. False: the child has not got it, and ends. */
bool
slot_run(Slot *s, const json_t *run, int64_t deadline_ms, uint64_t memory_bytes, Err *e) MUST_CHECK;
bool slot_go(Slot *s, Err *e) MUST_CHECK;
void slot_cancel(Slot *s, ErrCode reason); /* CANCELLED, GIVEN_BACK, LEASE_LOST, TASK_TIMEOUT:
                                              tells, then after 5 s SIGTERM, after 5 s SIGKILL */
void slot_quit(Slot *s);                   /* an idle child ends */
void slot_kill(Slot *s);                   /* SIGKILL at once */

/* The next event, without waiting; call until SLOT_NOTHING. `frame` (may be NULL) is borrowed until
 * the next call. */
SlotEvent slot_hear(Slot *s, const json_t **frame, Err *err);

/* Looks at memory, deadline, heartbeat; call twice a second. */
void slot_tick(Slot *s, int64_t now_ms);
SlotProgress slot_progress(const Slot *s);

/* It has run enough (1,000 exports), or is idle above 64 MiB: replace it when idle. */
bool slot_is_worn(const Slot *s);

#endif
