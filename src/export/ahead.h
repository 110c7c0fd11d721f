/*
 * Ahead: reads a source one batch ahead, on a thread of its own, so that reading and writing
 * overlap. A result that fits into one batch starts no thread.
 *
 * The source sees `watch` here instead of the export's: on the thread it can only be told to end;
 * why, the export's own thread asks afterwards.
 */
#ifndef EXPORT_AHEAD_H
#define EXPORT_AHEAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/watch.h"
#include "source/source.h"

typedef struct {
    Watch watch; /* first, so that a Watch * of the source is an Ahead * */
    Watch *outer;
    Source *source;
    pthread_t thread;
    bool runs;        /* the thread was started and is not joined */
    atomic_bool stop; /* nobody wants more */
    pthread_mutex_t lock;
    pthread_cond_t made, taken;
    /* Under the lock: */
    bool is_made; /* `batch` or `why` is the next answer */
    bool ok;
    Batch batch;
    Err why;
} Ahead;

/* Then open a source with `&a->watch`, and put it into `a->source`. */
void ahead_init(Ahead *a, Watch *watch);

/* source_next, a batch ahead. CANCELLED: the export's watch knows why. */
bool ahead_next(Ahead *a, Batch *batch, Err *e) MUST_CHECK;

/* Ends what is read ahead, and closes the source, if there is one. After every ahead_init. */
void ahead_close(Ahead *a);

#endif
