/* What the files of the queue's contract share: opening, putting and taking in few words. */
#ifndef CONTRACT_QUEUE_BENCH_H
#define CONTRACT_QUEUE_BENCH_H

#include "test/contract/queue_contract.h"

enum { BENCH_LEASE_MS = 10000, BENCH_TAKE_MOST = 16 };

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A check of this name, with a queue and an arena of its own: its state is a Bench. */
#define CHECK(name) cmocka_unit_test_setup_teardown(name, bench_set_up, bench_tear_down)

extern const QueueContract *bench; /* the contract that runs now */

typedef struct {
    const char *place;
    Queue *q;
    Arena *arena;
} Bench;

int bench_set_up(void **state);
int bench_tear_down(void **state);

/* Or the running check fails, and says what was tried. */
void bench_must(bool ok, const char *what, const Err *e);
void bench_same_text(const char *name, const char *got, const char *want);

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

void bench_must_write(Queue *q, QueueWriteOp op, const QueueRecord *record);

int64_t bench_cancel(Queue *q, const char *id); /* the outcome */
QueueCounts bench_count(Queue *q);

/* What a visit sees. */
typedef struct {
    char ids[256]; /* "a b ": in the order of the visit */
    size_t stop_at, visited;
} Seen;

bool bench_note_id(const QueueRecord *record, void *with, Err *e);
Seen bench_visit(Queue *q, const QueueFilter *filter);

double bench_total(Queue *q, const char *series); /* 0 when it was never counted */

void bench_sleep_ms(int64_t ms);

/* The parts of the contract; how many checks failed. */
int queue_tasks(void);  /* putting, finding, taking */
int queue_writes(void); /* what becomes of what was taken */
int queue_storm(void);  /* many threads and processes */

#endif
