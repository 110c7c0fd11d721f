/*
 * Watch: whoever may end the work, as seen by the work.
 *
 * It is asked between two batches, which is also where progress is told. Everything that waits (for
 * a connection, a first row, an answer) waits for `end_fd` too, so that a cancel does not depend on
 * a slow database. Called by the thread that runs the export, except `asked_to_end`.
 */
#ifndef BASE_WATCH_H
#define BASE_WATCH_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

/* The marks of one run, in order; a run passes each once. */
typedef enum {
    STAGE_STARTING,  /* has the task, connecting */
    STAGE_QUERYING,  /* the query is sent, no row yet */
    STAGE_STREAMING, /* rows flow */
    STAGE_FINISHING, /* the last row is read */
} Stage;

typedef struct Watch Watch;

struct Watch {
    /* Tells where the run is, and asks whether it may go on. `rows` and `bytes` so far; false and a
     * code in `e`: CANCELLED, TASK_TIMEOUT, GIVEN_BACK, LEASE_LOST. */
    bool (*go_on)(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e);

    /* Cheap enough for a progress handler in the middle of a query: beats the heart, looks at the
     * clock and at the parent's word without taking it. True: stop, then go_on() says why. */
    bool (*asked_to_end)(Watch *w);

    /* An upload exists under this id from now on; returns when that is recorded. Optional. */
    bool (*uploading)(Watch *w, const char *upload_id, Err *e);

    /* The content is fixed (`sealed`: see storage.h). False: this attempt has lost its task. */
    bool (*prepared)(
        Watch *w, const char *sealed, uint64_t rows, uint64_t bytes, const char *sha256, Err *e);

    /* The source's own guess of the rows to come, once; -1 for none. Optional. */
    void (*expect)(Watch *w, int64_t rows_estimated);

    int end_fd; /* readable when there is reason to ask; -1 for none */
};

#endif
