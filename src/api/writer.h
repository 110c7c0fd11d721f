/*
 * Writer: the one thread of this process that writes to the queue. What waits when it comes to look
 * is written together: one transaction for all puts, one for all cancels (group commit).
 */
#ifndef API_WRITER_H
#define API_WRITER_H

#include "queue/queue.h"

typedef struct Writer Writer;

typedef enum { WRITER_PUT, WRITER_CANCEL, WRITER_EXPIRE, WRITER_CHECK } WriterOp;

/* One thing to write; lives with whoever wants it until `done` is called. */
typedef struct WriterJob WriterJob;

struct WriterJob {
    WriterOp op;
    union {
        QueuePut put;
        QueueCancel cancel;
        struct {
            const char *key;         /* its file is gone */
            const QueueTotal *total; /* counted with it */
            size_t totals;
        } expire;
        const char *promise; /* out: CHECK, what the queue promises */
    } as;
    Arena *arena; /* PUT: for a replayed answer; the writer's until `done` */
    bool ok;      /* out: false: nothing of it happened, and why is in `e` */
    Err e;
    void (*done)(WriterJob *job); /* on the writer's thread; the job may end in it */
    void *with;                   /* done's */
    WriterJob *next;
};

/* Opens the queue and starts the thread. */
Writer *writer_new(const QueueKind *kind, const QueueSpec *spec, Arena *process, Err *e) MUST_CHECK;

/* Any thread. QUEUE_UNAVAILABLE when too many wait. */
bool writer_add(Writer *w, WriterJob *job, Err *e) MUST_CHECK;

/* Writes what waits, then ends; false if it has not ended after `wait_s`: then nothing that it may
 * use may be freed. */
bool writer_end(Writer *w, int wait_s);

#endif
