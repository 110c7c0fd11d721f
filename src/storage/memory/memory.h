/* What a test may see of the store in memory. One object, one thread. */
#ifndef STORAGE_MEMORY_MEMORY_H
#define STORAGE_MEMORY_MEMORY_H

#include "storage/storage.h"

extern const StorageKind storage_memory;

bool memory_object_is_visible(void);
const char *memory_object(size_t *bytes); /* what was published last */
void memory_forget(void);

#endif
