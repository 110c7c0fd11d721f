/*
 * Permit: how many children of one parent may read their sources at once, kept in memory that all
 * of them share. A child that has nothing to read holds none, so the next one goes on without
 * waiting for its parent's turn.
 *
 * Futexes (futex(2)), not one of POSIX's semaphores: whose holder died is seen by its parent, which
 * gives the permit back for it.
 */
#ifndef CHILD_PERMIT_H
#define CHILD_PERMIT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

typedef struct {
    _Atomic uint32_t left;
    _Atomic uint32_t waiters;
} Permits;

/* The memory and a descriptor for it (memfd), `permits` of them free. NULL and `e`. */
Permits *permits_new(unsigned permits, int *fd, Err *e) MUST_CHECK;

/* In a child: the same memory. NULL if `fd` is none. */
Permits *permits_map(int fd);
void permits_unmap(Permits *p); /* NULL is fine */

/* Waits at most `wait_ms`; false: none came free. */
bool permits_take(Permits *p, int wait_ms) MUST_CHECK;
void permits_give(Permits *p);

/* Nobody holds or wants one: what a child that was killed took with it is there again. */
void permits_reset(Permits *p, unsigned permits);

#endif
