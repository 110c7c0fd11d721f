/* Asker: four threads that run what must wait for a store (lists, deletes, opening files), so that
 * the loop does not. */
#ifndef API_ASKER_H
#define API_ASKER_H

#include "api/hands.h"

typedef struct Askers Askers;
typedef struct AskerJob AskerJob;

/* Lives with whoever wants it until `run` returns. */
struct AskerJob {
    void (*run)(AskerJob *job, Hands *hands); /* on an asker's thread, with its handles */
    void *with;
    AskerJob *next;
};

/* Starts the threads; their handles are copies of `hands`, not yet open. */
Askers *askers_new(const Hands *hands, Arena *process, Err *e) MUST_CHECK;

/* Any thread. STORAGE_UNAVAILABLE when too many wait. */
bool askers_add(Askers *a, AskerJob *job, Err *e) MUST_CHECK;

/* Does what waits, then ends; false if a thread has not ended after `wait_s`: then nothing that it
 * may use may be freed. */
bool askers_end(Askers *a, int wait_s);

#endif
