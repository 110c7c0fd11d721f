/* Retry: what becomes of an attempt that ended badly (reliability.md 5). Pure but for the jitter's
 * random. */
#ifndef EXPORT_RETRY_H
#define EXPORT_RETRY_H

#include "config/config.h"
#include "queue/queue.h"

typedef struct {
    bool again;           /* else it has failed for good */
    int64_t available_us; /* when */
} RetryVerdict;

/* After attempt number record->attempt ended with `code`. Full jitter on the configured delays;
 * MEMORY_LIMIT once. */
RetryVerdict
retry_decide(const QueueRecord *record, ErrCode code, const Config *config, int64_t now_us);

/*
 * Fills a write that ends the attempt: RETRY, FAIL, CANCELLED_NOW or GIVE_BACK by what `e` says,
 * with sentence, chain and the entry for `attempts`. Text in `arena`. `e` is the child's or our own
 * verdict (WORKER_LOST, MEMORY_LIMIT, TASK_TIMEOUT …). Used by the worker for its own tasks and,
 * with if_lease_over, for those it takes over.
 */
bool retry_write(const QueueRecord *record, const Err *e, const Config *config, int64_t now_us,
    Arena *arena, QueueWrite *write, Err *e2) MUST_CHECK;

#endif
