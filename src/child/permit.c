#include "child/permit.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

Permits *
permits_map(int fd)
{
    Permits *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

void
permits_unmap(Permits *p)
{
    if (p)
        munmap(p, sizeof *p);
}

Permits *
permits_new(unsigned permits, int *fd, Err *e)
{
    Permits *p = NULL;

    *fd = memfd_create("rowferry-permits", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, sizeof *p) != 0 || !(p = permits_map(*fd))) {
        fail(e, INTERNAL, "no memory to share among children: %m");
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        return NULL;
    }
    atomic_store(&p->left, permits);
    return p;
}

bool
permits_take(Permits *p, int wait_ms)
{
    const struct timespec wait = {wait_ms / 1000, wait_ms % 1000 * 1000000L};
    uint32_t left = atomic_load(&p->left);

    for (int tries = 0; tries < 2; tries++) {
        while (left > 0)
            if (atomic_compare_exchange_weak(&p->left, &left, left - 1))
                return true;
        if (tries == 0) {
            atomic_fetch_add(&p->waiters, 1);
            (void)syscall(SYS_futex, &p->left, FUTEX_WAIT, 0, &wait, NULL, 0);
            atomic_fetch_sub(&p->waiters, 1);
            left = atomic_load(&p->left);
        }
    }
    return false;
}

void
permits_give(Permits *p)
{
    atomic_fetch_add(&p->left, 1);
    if (atomic_load(&p->waiters) > 0)
        (void)syscall(SYS_futex, &p->left, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void
permits_reset(Permits *p, unsigned permits)
{
    atomic_store(&p->left, permits);
    atomic_store(&p->waiters, 0);
}
