#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"
#include "queue/embedded/embedded_in.h"

enum { OTHERS_MAX = 128, NAME_BYTES = 64, TICKS_NS = 20000000 };

typedef struct {
    char name[NAME_BYTES];
    int fd;
} Other;

struct Wake {
    int folder;
    int own; /* read and write end at once, so that it is never at its end */
    char own_name[NAME_BYTES];
    Other other[OTHERS_MAX];
    size_t others;
    struct timespec seen; /* the folder's time when it was last read, if that was not just then */
};

/* Others take a FIFO without a reader for one that was left, so it has its name only when it is
 * open. No two names are the same, ever: each container has a process 1, and who still holds a dead
 * one's FIFO removes it by its name. */
static bool
make_own(Wake *wake, Err *e)
{
    char unready[NAME_BYTES];
    uint64_t chance;

    if (getrandom(&chance, sizeof chance, 0) != (ssize_t)sizeof chance)
        return fail(e, QUEUE_UNAVAILABLE, "no chance for the name of a FIFO: %m");
    snprintf(unready, sizeof unready, "%ld.%016" PRIx64 ".new", (long)getpid(), chance);
    snprintf(
        wake->own_name, sizeof wake->own_name, "%ld.%016" PRIx64 ".wake", (long)getpid(), chance);
    if (mkfifoat(wake->folder, unready, 0600) != 0)
        return fail(e, QUEUE_UNAVAILABLE, "making run/%s: %m", unready);
    wake->own = openat(wake->folder, unready, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (wake->own >= 0 && renameat(wake->folder, unready, wake->folder, wake->own_name) == 0)
        return true;
    fail(e, QUEUE_UNAVAILABLE, "opening run/%s: %m", unready);
    (void)unlinkat(wake->folder, unready, 0);
    return false;
}

Wake *
wake_new(const char *dir, bool wants, Arena *arena, Err *e)
{
    Wake *wake = arena_alloc(arena, sizeof *wake, e);
    char path[4096];

    if (!wake)
        return NULL;
    wake->folder = wake->own = -1;
    if (snprintf(path, sizeof path, "%s/run", dir) >= (int)sizeof path) {
        fail(e, QUEUE_UNAVAILABLE, "the path of the data folder is too long");
        return NULL;
    }
    (void)mkdir(path, 0700);
    wake->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (wake->folder < 0)
        fail(e, QUEUE_UNAVAILABLE, "opening %s: %m", path);
    if (wake->folder >= 0 && (!wants || make_own(wake, e)))
        return wake;
    wake_free(wake);
    return NULL;
}

static void
forget(Wake *wake, size_t i)
{
    close(wake->other[i].fd);
    wake->other[i] = wake->other[--wake->others];
}

void
wake_free(Wake *wake)
{
    if (!wake)
        return;
    while (wake->others > 0)
        forget(wake, wake->others - 1);
    if (wake->own >= 0) {
        (void)unlinkat(wake->folder, wake->own_name, 0);
        close(wake->own);
    }
    if (wake->folder >= 0)
        close(wake->folder);
    wake->own = wake->folder = -1;
}

int
wake_own_fd(const Wake *wake)
{
    return wake->own;
}

void
wake_drain(Wake *wake)
{
    char bytes[512];

    while (wake->own >= 0 && read(wake->own, bytes, sizeof bytes) == sizeof bytes)
        continue;
}

static bool
is_known(const Wake *wake, const char *name)
{
    for (size_t i = 0; i < wake->others; i++)
        if (strcmp(wake->other[i].name, name) == 0)
            return true;
    return false;
}

/* Opens the FIFOs that are new in the folder; one without a reader was left by a process that died.
 */
static void
look_around(Wake *wake)
{
    int fd = openat(wake->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!folder) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(folder)) && wake->others < OTHERS_MAX) {
        Other *other = &wake->other[wake->others];

        if (!text_ends(entry->d_name, ".wake") || strcmp(entry->d_name, wake->own_name) == 0 ||
            is_known(wake, entry->d_name) ||
            !text_copy(other->name, sizeof other->name, entry->d_name))
            continue;
        other->fd =
            openat(wake->folder, entry->d_name, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
        if (other->fd >= 0)
            wake->others++;
        else if (errno == ENXIO)
            (void)unlinkat(wake->folder, entry->d_name, 0);
    }
    closedir(folder);
}

/* The folder's time moves in ticks, so a look within the tick of a change may have missed another
 * change. */
static bool
is_settled(const struct timespec *changed)
{
    struct timespec now;
    int64_t age_ns;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    age_ns = (int64_t)(now.tv_sec - changed->tv_sec) * 1000000000 + now.tv_nsec - changed->tv_nsec;
    return age_ns > TICKS_NS || age_ns < 0;
}

void
wake_all(Wake *wake)
{
    struct stat is;

    if (fstat(wake->folder, &is) == 0 &&
        (is.st_mtim.tv_sec != wake->seen.tv_sec || is.st_mtim.tv_nsec != wake->seen.tv_nsec)) {
        look_around(wake);
        if (is_settled(&is.st_mtim))
            wake->seen = is.st_mtim;
    }
    for (size_t i = wake->others; i-- > 0;)
        if (write(wake->other[i].fd, "", 1) < 0 && errno == EPIPE) {
            (void)unlinkat(wake->folder, wake->other[i].name, 0);
            forget(wake, i);
        }
}
