#include "base/secret.h"

#include <string.h>
#include <sys/mman.h>

void *
secret_new(size_t bytes, Err *e)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        fail(e, MEMORY_LIMIT, "no %zu bytes for secrets: %m", bytes);
        return NULL;
    }
    (void)mlock(memory, bytes);
    (void)madvise(memory, bytes, MADV_DONTDUMP);
    return memory;
}

void
secret_free(void *memory, size_t bytes)
{
    if (!memory)
        return;
    explicit_bzero(memory, bytes);
    (void)munmap(memory, bytes);
}
