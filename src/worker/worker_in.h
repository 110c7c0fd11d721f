/*
 * What the files of the worker share.
 *
 * A Task is what was taken from the queue and is not yet written off; a Place is a child and what
 * keeps one running. A task that runs has a place; one that waits for a child, or for the write
 * that ends it, has none.
 *
 *   worker.c  the loop: signals, time, stopping, reloading
 *   lease.c   what goes to the queue and comes from it: take, write, cancels, tasks left behind
 *   task.c    the steps of a task, from the record to the write that ends it
 *   run.c     the one step that hands it to a child
 *   place.c   the children
 *   health.c  whether the sources can be reached
 *   demo.c    the demo database
 */
#ifndef WORKER_WORKER_IN_H
#define WORKER_WORKER_IN_H

#include <stdint.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/process.h"
#include "child/permit.h"
#include "child/slot.h"
#include "config/config.h"
#include "export/kinds.h"
#include "export/result.h"
#include "export/type.h"
#include "queue/queue.h"

enum {
    RUNNING_MAX = 256,   /* the queue takes no more at once */
    EXTRA_PER_PLACE = 3, /* see place_grow() */
    EXTRA_MAX = 16,
    LEASE_MS = 15000,
    RENEW_MS = 5000,
    UNRENEWED_MS = 10000, /* then children stop, before the lease is over */
    TICK_MS = 500,        /* progress, memory, time limits; only while something runs */
    FIRST_TICK_MS = 100,  /* of a task that has just begun */
    QUICK_MS = 5,         /* to read so long is next to nothing */
    AHEAD_MS = 50,        /* and to wait so long for a permit is too long */
    SLOW_MS = 1000,
    NET_MS = 1000,         /* the net below the queue's wake-ups */
    CHILD_WAIT_MS = 10000, /* for a child; then others may have the task */
    NEWS_MS = 20,          /* cancels are looked for at most so often */
};

typedef enum {
    STEP_NONE,       /* no task */
    STEP_WAITS,      /* for a child */
    STEP_RUNS,       /* in a child */
    STEP_PREPARES,   /* its child waits until PREPARE is written */
    STEP_PUBLISHES,  /* PREPARE is written; its child makes the file visible */
    STEP_UNPREPARES, /* what was sealed is gone; UNPREPARE is to be written */
    STEP_ENDS,       /* what ends it is to be written */
} Step;

typedef struct Place Place;

typedef struct {
    Step step;
    Place *place;        /* NULL: none */
    Arena *arena;        /* everything this task needs; ends with it */
    QueueRecord record;  /* as taken, kept up with what was written since */
    int64_t wait_ms;     /* WAITS: not before; all times are time_now_ms() */
    int64_t waits_ms;    /* WAITS: since when */
    int64_t started_ms;  /* when it was last handed out */
    int64_t told_ms;     /* when PROGRESS was last written */
    int64_t renewed_ms;  /* when the lease was last known to be ours */
    int64_t retain_ms;   /* of its file */
    const char *result;  /* of a sweep, until it may be written */
    unsigned publishes;  /* tries to publish that failed, in a row */
    bool is_sweep;       /* else an export */
    bool was_unprepared; /* once is enough */
    bool has_first_row;  /* and that is logged */
    bool finishes;       /* its last row is read: what is left is the store's work */
    bool stops;          /* its child was told to end */
    bool lost;           /* another owner has it: nothing is written any more */
    bool has_news;       /* of its progress, not written yet */
    bool renews, tells;  /* RENEW, PROGRESS with the next group */
    bool has_write;      /* `write` waits for the next group */
    QueueWrite write;
    QueueTotal total[RESULT_TOTALS_MAX];
} Task;

struct Place {
    Slot *slot;
    Task *task;       /* NULL: none */
    bool leaves;      /* was told to quit: another child comes */
    unsigned deaths;  /* at the start, in a row */
    int64_t start_ms; /* the next child not before */
    int64_t idle_ms;  /* since when */
};

/* What is known of a source; by its number in the configuration. */
typedef struct {
    bool is_known;
    ErrCode code; /* ERR_NONE: it could be reached */
    int64_t due_ms;
} Health;

/* Who asked to stop: SIGTERM lets exports end, a second one or SIGQUIT does not. */
typedef enum { STOP_NOT, STOP_DRAINS, STOP_NOW } Stop;

typedef struct {
    const Config *config;
    const Kinds *kinds;
    ConfigArgs args;
    Arena *process; /* the tables of this struct */
    Arena *loaded;  /* types and limits, and the configuration since the first SIGHUP */
    const TypeSet *types;
    QueueLimit *limit; /* those that hold the demo database's sources back come last */
    size_t limits, limits_demo;
    QueueWeight *weight; /* of types whose exports have several connections */
    size_t weights;

    const QueueKind *queue_kind;
    Queue *queue; /* NULL: cannot be reached just now */
    const char *const *queues;
    QueueOwner owner;
    unsigned queue_failures; /* in a row */
    int64_t queue_wait_ms;   /* not tried again before */

    size_t running_max; /* exports that read at once: so many permits there are */
    Permits *permits;
    int permits_fd;
    double read_ms; /* what reading took of late */
    Place *place;   /* the first running_max always have a child */
    size_t places;
    unsigned starved; /* how often a task could have run, and there was no child for it */
    Task *task;
    size_t tasks;
    QueueWrite *group;
    Task **group_task;
    Arena *scratch; /* of one turn */

    Health *health;    /* of each source; in `loaded` */
    Place *tries;      /* its child tries a source; NULL: none does */
    size_t tried;      /* that source's number … */
    bool try_is_void;  /* … which is another's by now */
    int64_t health_ms; /* when the next one is due */

    Process demo; /* pid 0: none */
    int64_t demo_until_ms;

    int epoll, signals;
    bool news;     /* the queue said that something changed */
    bool may_take; /* something changed: look for tasks */
    bool backlog;  /* the last look found as many as were wanted */
    bool at_once;  /* take a further turn before waiting */
    int64_t news_ms, tick_ms, renew_ms, net_ms, due_ms;

    Stop stop;
    unsigned stops_heard;               /* signals */
    int64_t stop_ms, kill_ms, leave_ms; /* children end, are killed, nobody is waited for */
} Worker;

/* What epoll tells: a number and what it is of. */
typedef enum { FD_SIGNALS, FD_QUEUE, FD_CHILD, FD_CHILD_END, FD_DEMO } FdOf;
bool worker_watch(Worker *w, int fd, FdOf of, size_t number, Err *e) MUST_CHECK;

/* `ms` and up to a tenth more or less: many workers do not move in step. */
int64_t worker_jitter(int64_t ms);

/* --- lease.c --- */

bool lease_open(Worker *w, Err *e) MUST_CHECK; /* opens the queue; true if it is open already */
void lease_failed(Worker *w, const Err *e); /* it did not answer: closed, and tried again later */
bool lease_is_up(const Worker *w);          /* false: not now */
void lease_write(Worker *w);                /* everything that waits, as one group */
size_t lease_reading(const Worker *w);      /* exports whose source is being read, or soon */

/*
 * How many may be handed out and not have read their last row: as many as may read. Where reading
 * takes next to nothing, more wait in children for their permit, so that a child reads on without
 * its parent, which waits for the disk itself. Those that wait for long go back to the queue.
 */
size_t lease_reading_max(const Worker *w);
void lease_take(Worker *w);                   /* for all children that are free */
void lease_expect(Worker *w, int64_t due_us); /* a task is due then */
void lease_hear(Worker *w);                   /* cancels */
void lease_scan(Worker *w);                   /* takes over what others left behind */
void lease_beat(Worker *w);                   /* this worker lives */

/* --- health.c --- */

/* For another configuration; what is known of a source of the same name comes along. */
bool health_make(
    const Worker *w, const Config *config, Arena *arena, Health **health, Err *e) MUST_CHECK;
void health_begin(Worker *w);                /* w->health is new: all are due */
void health_look(Worker *w, int64_t now_ms); /* tries what is due, where a child is idle */
void health_make_way(Worker *w);             /* a task wants that child */
bool health_gives_way(const Worker *w, const Place *place); /* this one is as good as free */
void health_heard(Worker *w, SlotEvent event, const json_t *frame, const Err *why);

/* --- task.c --- */

void task_begin(Worker *w, const QueueRecord *record); /* copies it; it waits for a child */
void task_run(Worker *w, Task *t, Place *place);       /* run.c */
json_t *run_source(const ConfigSource *source);        /* run.c: what a child gets of it */
bool task_is_prepared(const Task *t);
void task_end(Worker *w, Task *t, const Err *why); /* its attempt has ended badly */
void task_end_with(Worker *w, Task *t, ErrCode code, const char *why);
void task_cancel(Worker *w, Task *t);
void task_give_back(Worker *w, Task *t);
void task_tick(Worker *w, Task *t, int64_t now_ms); /* looks at the child's page */
void task_written(Worker *w, Task *t, const QueueWrite *write);

/* What its child said. */
void task_finishes(Worker *w, Task *t, const json_t *frame);
void task_upload(Worker *w, Task *t, const json_t *frame);
void task_prepared(Worker *w, Task *t, const json_t *frame);
void task_done(Worker *w, Task *t, const json_t *frame);
void task_failed(Worker *w, Task *t, const json_t *frame, const Err *why);
void task_orphaned(Worker *w, Task *t, const Err *why);

/* One line about a task; fields as in log_event. */
#define log_task(level, event, t, ...)                                                             \
    log_event(level, event, log_text("task_id", (t)->record.id),                                   \
        log_text("request_id", *(t)->record.request_id ? (t)->record.request_id : NULL),           \
        log_text("user_id", *(t)->record.user_id ? (t)->record.user_id : NULL),                    \
        log_text("export_type", *(t)->record.export_type ? (t)->record.export_type : NULL),        \
        log_number("attempt", (t)->record.attempt) __VA_OPT__(, ) __VA_ARGS__)

/* --- place.c --- */

bool place_open(Worker *w, Err *e) MUST_CHECK; /* a slot for each; starts nothing */
void place_start(Worker *w, int64_t now_ms);   /* children where one is missing */

/*
 * One more child than run at once. An export that has read its last row waits for the disk and for
 * the queue; meanwhile the next may read, if there is a child for it. Extra children come while
 * tasks wait for one, and go when they have had nothing to do for a while.
 */
void place_grow(Worker *w, int64_t now_ms);
void place_shrink(Worker *w, int64_t now_ms);
void place_hear(Worker *w, Place *place);
bool place_is_free(const Place *place);
void place_freed(Worker *w, Place *place); /* its task ended; a worn child goes */
void place_renew(Worker *w);               /* new configuration: all children are replaced */

/* --- demo.c --- */

void demo_look(Worker *w); /* starts `rowferry demo-data` where it is needed */
void demo_hear(Worker *w, int64_t now_ms);
void demo_end(Worker *w);

#endif
