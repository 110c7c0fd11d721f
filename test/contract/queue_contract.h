/*
 * What every queue promises (queue/queue.h, reliability: accepted is kept, one holder for each
 * epoch, a final state stays), as code. A driver's test says how its queue is made and opened, and
 * calls queue_contract() from main(); a new driver starts there.
 */
#ifndef CONTRACT_QUEUE_CONTRACT_H
#define CONTRACT_QUEUE_CONTRACT_H

#include "queue/queue.h"

typedef struct {
    const QueueKind *kind;

    /* A place that holds a queue which was never used; good until the test program ends. */
    const char *(*fresh)(void);

    /* How the queue at this place is opened: to write, to be woken; limit 0. */
    QueueSpec (*spec)(const char *place);
} QueueContract;

/* Runs all checks as cmocka groups; returns the number of failed ones. Starts this very program
 * again for those that need processes. */
int queue_contract(const QueueContract *contract);

/* main() calls this first: whether the program was started by queue_contract() to play a process
 * of its own; `status` is then its exit status. */
bool queue_contract_plays(const QueueContract *contract, int argc, char **argv, int *status);

#endif
