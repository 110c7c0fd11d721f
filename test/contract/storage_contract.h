/*
 * What every storage promises (storage/storage.h), asked of a driver. Runs as a group of cmocka
 * tests; every test uses users (the second segment of a key) of its own.
 */
#ifndef TEST_CONTRACT_STORAGE_CONTRACT_H
#define TEST_CONTRACT_STORAGE_CONTRACT_H

#include "storage/storage.h"

/* How many tests failed. `spec` leads to an empty store. A sealed upload of at least
 * `outlives_bytes` outlives the process that wrote it; of smaller ones publish() by a later owner
 * may say FILE_GONE. `dies` gives back what an object holds in memory as the end of its process
 * would; NULL: the task's arena is all it has. */
int storage_contract(const char *name, const StorageKind *kind, const StorageSpec *spec,
    size_t outlives_bytes, void (*dies)(Sink *object));

/* Helpers for a driver's own tests; each asserts. */

/* A finished object under the key, not yet visible; its sealed text is copied to `sealed`. */
Sink *storage_seal(Storage *s, const char *key, const char *task_id, int64_t epoch,
    const char *bytes, Arena *task, char sealed[2048]);

/* A visible object. */
void storage_place(Storage *s, const char *key, const char *bytes);

/* How many objects have keys that start so. */
unsigned storage_count(Storage *s, const char *prefix);

#endif
