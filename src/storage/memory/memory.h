/* What a test may see of the store in memory: a few objects, one thread. */
#ifndef STORAGE_MEMORY_MEMORY_H
#define STORAGE_MEMORY_MEMORY_H

#include "storage/storage.h"

extern const StorageKind storage_memory;

bool memory_object_is_visible(void);
const char *memory_object(size_t *bytes); /* what was published last; "" if nothing is visible */
unsigned memory_uploads(void);            /* unfinished or sealed, not published */
void memory_forget(void);                 /* everything */

#endif
