#include "api/hands.h"

Hands
hands_new(const QueueKind *queue_kind, const StorageKind *storage_kind, const Config *config,
    int64_t busy_ms, bool wakes)
{
    QueueSpec spec = kinds_queue_spec(config, false, wakes);

    spec.busy_ms = busy_ms;
    return (Hands){.queue_kind = queue_kind, .storage_kind = storage_kind, .queue_spec = spec};
}

void
hands_close(Hands *h)
{
    if (h->queue)
        h->queue_kind->close(h->queue);
    if (h->storage)
        h->storage_kind->close(h->storage);
    h->queue = NULL;
    h->storage = NULL;
}

Queue *
hands_queue(Hands *h, Err *e)
{
    if (!h->queue)
        h->queue = h->queue_kind->open(&h->queue_spec, e);
    return h->queue;
}

Storage *
hands_storage(Hands *h, const Config *config, unsigned number, Err *e)
{
    StorageSpec spec = kinds_storage_spec(config, true);

    if (h->storage && h->storage_of != number) {
        h->storage_kind->close(h->storage);
        h->storage = NULL;
    }
    h->storage_of = number;
    if (!h->storage)
        h->storage = h->storage_kind->open(&spec, e);
    return h->storage;
}
