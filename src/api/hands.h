/* Hands: one thread's own handles to the queue (which it only reads) and to the storage. Each is
 * opened when it is first needed, and stays open. */
#ifndef API_HANDS_H
#define API_HANDS_H

#include "export/kinds.h"

typedef struct {
    const QueueKind *queue_kind;
    const StorageKind *storage_kind;
    QueueSpec queue_spec;
    Queue *queue;
    Storage *storage;
    unsigned storage_of; /* number of the setup whose secrets it signs with */
} Hands;

/* `busy_ms`: the longest wait for the queue; `wakes`: its handle has a wake_fd. */
Hands hands_new(const QueueKind *queue_kind, const StorageKind *storage_kind, const Config *config,
    int64_t busy_ms, bool wakes);
void hands_close(Hands *h);

Queue *hands_queue(Hands *h, Err *e) MUST_CHECK;

/* `number` tells configurations apart: after another one the storage is opened anew. */
Storage *hands_storage(Hands *h, const Config *config, unsigned number, Err *e) MUST_CHECK;

#endif
