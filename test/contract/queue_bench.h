/* What the files of the queue's contract share: opening, putting and taking in few words. */
#ifndef CONTRACT_QUEUE_BENCH_H
#define CONTRACT_QUEUE_BENCH_H

#include "test/contract/queue_contract.h"

enum { BENCH_LEASE_MS = 10000 };

extern const QueueContract *bench; /* the contract that runs now */

/* Or the running check fails, and the text says why. */
Queue *bench_open(const char *place);
Queue *bench_open_limited(const char *place, uint64_t limit);
void bench_close(Queue *q);

/* One task with this id; everything else is the same for all. */
QueuePut bench_task(const char *id);
void bench_put(Queue *q, QueuePut *put, size_t puts);
void bench_put_new(Queue *q, const char *id); /* must be new */

QueueOwner bench_owner(void);
QueueTake bench_wants(size_t wanted);

/* Takes at most 16; how many there were. Records live in `arena`. */
size_t bench_take(Queue *q, const QueueTake *take, QueueRecord *record, Arena *arena);

/* Must find exactly this one. */
QueueRecord bench_take_one(Queue *q, const char *id, Arena *arena);

QueueRecord bench_find(Queue *q, const char *id, Arena *arena);
QueueVerdict bench_write(Queue *q, const QueueWrite *write);

/* A write of this kind with all that it needs, for the record as it was taken. */
QueueWrite bench_write_of(QueueWriteOp op, const QueueRecord *record);

/* Brings a new task into this phase; what take() said. */
QueueRecord bench_bring(Queue *q, const char *id, QueuePhase phase, Arena *arena);

double bench_total(Queue *q, const char *series); /* 0 when it was never counted */

void bench_sleep_ms(int64_t ms);

/* queue_storm.c: many threads and processes. */
int queue_storm(void);

#endif
