/*
 * Queue: where tasks wait and their truth is kept. One handle per thread that uses it.
 *
 * The queue is mechanical: it keeps what it is told, guards every write of a running task by its
 * epoch, and knows nothing of exports. Policy (may it be retried, when, what state does a user see)
 * is export/'s.
 *
 * Inner phases; what a user sees is made from phase, stage and attempt by export/state.c:
 *
 *   QUEUED --take: epoch+1, owner, lease--> RUNNING --prepare--> PREPARED --complete--> COMPLETED
 * --expire--> EXPIRED ^                                      |  |                   |
 *     +--- retry, give back -----------------+  +--> FAILED,        +-- lease over: take() hands it
 * out as prepared CANCELLED
 *
 * All strings of a QueueRecord belong to the arena it was found with. Wall times are microseconds
 * since 1970, 0 for never. Lease times are the store's own clock and do not leave it.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/watch.h"

typedef struct Queue Queue;

/* What drivers need; each reads its own part. */
typedef struct {
    const char *dir; /* embedded: DATA, with queue.db, queue.lock, run/ */
    bool writes;     /* false: this handle only reads */
    bool wakes;      /* this handle wants wake_fd() */
    uint64_t limit;  /* waiting tasks; more: QUEUE_PUT_FULL */
    int64_t busy_ms; /* longest wait for the lock: QUEUE_UNAVAILABLE above */
} QueueSpec;

typedef enum {
    QUEUE_QUEUED,
    QUEUE_RUNNING,
    QUEUE_PREPARED,
    QUEUE_COMPLETED,
    QUEUE_EXPIRED,
    QUEUE_FAILED,
    QUEUE_CANCELLED,
} QueuePhase;

enum { QUEUE_ID_BYTES = 128, QUEUE_NAME_BYTES = 64, QUEUE_LIMITS_MAX = 1024 };

/* The two tasks there are, by their Celery names (celery-wire.md 19.1). */
#define QUEUE_TASK_EXPORT "backend.worker.generate_export"
#define QUEUE_TASK_SWEEP "backend.worker.cleanup_old_exports"

typedef struct {
    const char *id;
    const char *task;        /* QUEUE_TASK_… */
    const char *user_id;     /* "" for a sweep */
    const char *export_type; /* "" for a sweep */
    const char *source;      /* name of the source; "" for a sweep */
    const char *format;
    const char *request;    /* JSON: the request as understood (export/request.h) */
    const char *version;    /* of the definition: "sha256:…" */
    const char *request_id; /* X-Request-Id of the POST, for logs; "" */
    const char *queue;      /* name of the queue: "celery" */

    QueuePhase phase;
    Stage stage;  /* of the run that is or was last */
    int progress; /* 0-100, never falls */
    uint64_t rows, bytes;
    int64_t rows_estimated; /* -1: none */
    uint64_t peak_bytes;
    int64_t epoch;
    int attempt; /* takes, without those that were given back */
    int max_attempts;
    int give_backs;
    int memory_limits; /* attempts that ended with memory-limit */

    int64_t created_us;
    int64_t available_us; /* not before; of a retry: when */
    int64_t started_us;   /* first take: the key is made from it */
    int64_t attempt_us;   /* the last take */
    int64_t first_row_us, last_row_us;
    int64_t heartbeat_us;
    int64_t ended_us;
    int64_t retain_us;  /* the sweep may delete the file from then on */
    bool lease_is_over; /* the owner is silent or gone */
    bool owner_is_gone; /* its process does not exist any more (embedded only) */

    const char *owner;  /* node name; NULL: none */
    const char *key;    /* of the object, or of an upload that was told; NULL before */
    const char *upload; /* id of an upload that may be open; NULL */
    const char *sealed; /* storage.h; NULL until prepared */
    const char *sha256;
    const char *result;       /* JSON of the result's further members; NULL until completed */
    const char *error_code;   /* err_name; NULL */
    const char *error;        /* one sentence for a person; NULL */
    const char *error_detail; /* the chain, for operators; NULL */
    const char
        *attempts;     /* JSON array of the attempts that ended:
                          [{"n","worker","started_at","ended_at","outcome","error_code","stage","rows"}]
                        */
    int64_t cancel_us; /* asked at; 0 */
    const char *cancel_by, *cancel_reason;

    int64_t
        position; /* of a task that is due: 1 is next; 0: not counted (over 1,000, or not due) */
} QueueRecord;

/* One addition to the totals, made in the same transaction if (and only if) the entry took effect.
 */
typedef struct {
    const char *series; /* metric_series() */
    double add;
    bool set; /* a gauge: replaces */
} QueueTotal;

typedef enum {
    QUEUE_PUT_NEW,      /* it is there, durably */
    QUEUE_PUT_EXISTS,   /* a task with this id was there already (beat); nothing changed */
    QUEUE_PUT_REPLAYED, /* same idempotency key and hash: `replay` is the stored answer */
    QUEUE_PUT_MISMATCH, /* same key, other hash */
    QUEUE_PUT_FULL,     /* too many wait; nothing was put */
} QueuePutVerdict;

typedef struct {
    const char *id, *task, *user_id, *export_type, *source, *format, *request, *version,
        *request_id, *queue;
    int priority; /* 0 first, 9 last; 3 normal */
    int max_attempts;
    int64_t available_us; /* 0: now */
    int64_t created_us;
    const QueueTotal *total;
    size_t totals;

    /* Idempotency: all NULL for none. */
    const char *idempotency_scope; /* credential and path */
    const char *idempotency_key;
    const char *idempotency_hash; /* of the canonical body */
    const char *answer;           /* remembered 24 hours with the key */

    QueuePutVerdict verdict; /* out */
    char *replay;            /* out, in the arena given to put(); QUEUE_PUT_REPLAYED only */
} QueuePut;

typedef struct {
    const char *name; /* node name, "celery@host" */
    pid_t pid;
    uint64_t born; /* process_born(pid) */
} QueueOwner;

/* At most `most` running at once, over all workers, of a source or a type. */
typedef struct {
    const char *source;      /* or NULL */
    const char *export_type; /* or NULL */
    unsigned most;
} QueueLimit;

/* A task of this type counts as so many against the limits of sources, but as no more than one of
 * them allows, so that it can always run. What waits for room there is not overtaken. */
typedef struct {
    const char *export_type;
    unsigned weight;
} QueueWeight;

typedef struct {
    QueueOwner owner;
    const char *const *queues; /* names, NULL-ended; NULL: all */
    size_t wanted;
    int64_t lease_ms;
    const QueueLimit *limit; /* at most QUEUE_LIMITS_MAX */
    size_t limits;
    const QueueWeight *weight; /* of types that are not here it is 1 */
    size_t weights;
} QueueTake;

typedef enum {
    QUEUE_RENEW,         /* lease only */
    QUEUE_PROGRESS,      /* stage, progress, rows, bytes, rows_estimated, peak; renews too */
    QUEUE_UPLOAD,        /* `upload` is open, and is to become the object `key` */
    QUEUE_PREPARE,       /* RUNNING -> PREPARED: key, sealed, rows, bytes, sha256 */
    QUEUE_UNPREPARE,     /* PREPARED -> RUNNING, same epoch: what was sealed is gone */
    QUEUE_COMPLETE,      /* PREPARED -> COMPLETED: result, retain */
    QUEUE_RETRY,         /* RUNNING -> QUEUED, available_us (at once if the clock is set back behind
                            this write); error_code of this attempt; keeps progress. PREPARED
                            stays so: its lease ends, take() hands it out from available_us on,
                            attempt + 1. Refused once cancel was asked */
    QUEUE_FAIL,          /* -> FAILED: error_code, error, error_detail */
    QUEUE_CANCELLED_NOW, /* -> CANCELLED */
    QUEUE_GIVE_BACK,     /* RUNNING -> QUEUED at once, attempt - 1, give_backs + 1. PREPARED stays
                            so: its lease ends. Refused once cancel was asked */
} QueueWriteOp;

typedef enum {
    QUEUE_WRITTEN,
    QUEUE_NOT_MINE,     /* the epoch is over, or the phase does not allow it: void */
    QUEUE_CANCEL_ASKED, /* PREPARE, RETRY, GIVE_BACK: not written, for it is to be cancelled */
    QUEUE_KEY_TAKEN,    /* UPLOAD, PREPARE: not written, for another record has this key */
} QueueVerdict;

typedef struct {
    QueueWriteOp op;
    const char *id;
    int64_t epoch;
    bool if_lease_over; /* only if the lease is (still) over: takers-over */

    Stage stage;
    int progress;
    uint64_t rows, bytes, peak_bytes;
    int64_t rows_estimated;
    int64_t lease_ms; /* RENEW, PROGRESS, UPLOAD, PREPARE: from now */
    int64_t available_us, retain_us;
    const char *upload, *key, *sealed, *sha256, *result;
    const char *error_code, *error, *error_detail;
    const char *attempt_entry; /* JSON object appended to `attempts` */
    const QueueTotal *total;
    size_t totals;

    QueueVerdict verdict; /* out */
    bool cancel_asked;    /* out: somebody wants it cancelled */
} QueueWrite;

typedef enum {
    QUEUE_CANCEL_DONE,     /* it waited and is CANCELLED now */
    QUEUE_CANCEL_NOTED,    /* it runs; its worker will hear */
    QUEUE_CANCEL_ALREADY,  /* asked before, or cancelled */
    QUEUE_CANCEL_TOO_LATE, /* prepared, completed, failed */
    QUEUE_CANCEL_UNKNOWN,
} QueueCancelOutcome;

typedef struct {
    const char *id, *by, *reason;
    int64_t now_us;
    QueueCancelOutcome outcome; /* out */
    const QueueTotal *total;    /* counted if CANCEL_DONE */
    size_t totals;
} QueueCancel;

/* What to visit; unset members do not restrict. */
typedef struct {
    const char *owner; /* of this node */
    bool running;      /* RUNNING or PREPARED */
    bool cancel_asked; /* RUNNING and asked */
    bool lease_over;   /* RUNNING or PREPARED whose owner is silent or gone */
    const char *user_id;
    size_t limit; /* 0: all */
} QueueFilter;

typedef bool
QueueVisit(const QueueRecord *record, void *with, Err *e); /* false stops and is returned */
typedef bool QueueTotalVisit(const char *series, double value, void *with);

/* What a worker found when it last tried a source, for those who may not try it themselves. */
typedef struct {
    const char *name;
    const char *code; /* err_name; "": all is well */
    int64_t took_ms;  /* -1: it was not tried, for an export was reading it */
    int64_t checked_us;
} QueueSource;

typedef bool QueueSourceVisit(const QueueSource *source, void *with);

typedef struct {
    uint64_t depth;    /* waiting, scheduled ones too */
    int64_t oldest_us; /* created_us of the oldest that is due; 0: none */
    uint64_t running;
    unsigned workers; /* with a heartbeat in the last 15 s */
} QueueCounts;

/* A due time of a schedule: fires once for all beats, whatever the limit of those that wait. `put`
 * may be NULL: only notes the due time. One that was fired more than a day ahead of now does not
 * count: the clock was wrong then. */
typedef struct {
    const char *schedule;
    int64_t due_us;
    QueuePut *put;
    bool fired; /* out: this call was the one */
} QueueFire;

typedef struct {
    const char *name; /* "embedded", "redis" */
    Queue *(*open)(const QueueSpec *spec, Err *e);
    void (*close)(Queue *q);

    /* Everything that waits goes into one transaction, or one round trip; each entry has its own
     * verdict. False: nothing of it happened (QUEUE_UNAVAILABLE, STORAGE_FULL). */
    bool (*put)(Queue *q, QueuePut *put, size_t puts, Arena *arena, Err *e);
    bool (*cancel)(Queue *q, QueueCancel *cancel, size_t cancels, Err *e);
    bool (*write)(Queue *q, QueueWrite *write, size_t writes, Err *e);

    /* Up to `wanted` records: due ones by priority and age, and PREPARED ones whose lease is over.
     * Raises epoch (and attempt, unless prepared), sets started_us, attempt_us, owner, lease;
     * stores progress mark 10. */
    bool (*take)(
        Queue *q, const QueueTake *take, QueueRecord *record, size_t *taken, Arena *arena, Err *e);

    /* Reads. EXPORT_NOT_FOUND when there is none. */
    bool (*find)(Queue *q, const char *id, Arena *arena, QueueRecord *record, Err *e);
    /* Of this object, or whose upload, open or ended, was told under this key. */
    bool (*find_key)(Queue *q, const char *key, Arena *arena, QueueRecord *record, Err *e);
    bool (*visit)(Queue *q, const QueueFilter *filter, QueueVisit *visit, void *with, Err *e);
    bool (*count)(Queue *q, QueueCounts *counts, Err *e);
    bool (*visit_totals)(Queue *q, QueueTotalVisit *visit, void *with, Err *e);

    /* The last word about a source stands; it wakes nobody. A day later purge() forgets it. */
    bool (*note_source)(Queue *q, const QueueSource *source, Err *e);
    bool (*visit_sources)(Queue *q, QueueSourceVisit *visit, void *with, Err *e);

    /* The file under this key is gone: COMPLETED -> EXPIRED. Unknown keys are fine. */
    bool (*expire)(Queue *q, const char *const *key, size_t keys, Err *e);

    /* Adds to totals alone (sweep, storage figures). */
    bool (*add)(Queue *q, const QueueTotal *total, size_t totals, Err *e);

    /* Forgets final records that ended before `before_us` (COMPLETED ones if their file was to be
     * kept no longer than until then, too), idempotency answers over 24 hours old; at most `most`
     * at a time. */
    bool (*purge)(Queue *q, int64_t before_us, size_t most, size_t *purged, Err *e);

    /* Beat. last_due: 0 if the schedule was never seen. */
    bool (*fire)(Queue *q, QueueFire *fire, Err *e);
    bool (*last_due)(Queue *q, const char *schedule, int64_t *due_us, Err *e);

    /* A worker says that it lives; every 5 s, and at its start. leave: at its end. */
    bool (*heartbeat)(Queue *q, const QueueOwner *owner, Err *e);
    bool (*leave)(Queue *q, const QueueOwner *owner, Err *e);

    /* Readable: something was put, cancelled or moved; look again. wake_clear() first, then look.
     */
    int (*wake_fd)(Queue *q);
    void (*wake_clear)(Queue *q);

    /* When the next task that waits for its time is due; 0: none. For the taker's timer. */
    bool (*next_due)(Queue *q, int64_t *due_us, Err *e);

    /* Housekeeping the worker does between two groups (checkpoint). Optional. */
    bool (*maintain)(Queue *q, Err *e);

    /* Is it there and writable? Says in one sentence what is promised about durability. For readyz
     * and doctor. */
    bool (*check)(Queue *q, const char **promise, Err *e);
} QueueKind;

struct Queue {
    const QueueKind *kind;
};

/* "queued" "running" … static. */
const char *queue_phase_name(QueuePhase phase);

#endif
