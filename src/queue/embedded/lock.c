/*
 * flock(2) with a deadline, and in turn. The kernel wakes the next waiter at once, where SQLite's
 * busy handler sleeps and guesses; a timer whose signal only interrupts the wait bounds it, for a
 * holder may be stopped.
 *
 * Who gives the lock and wants it again is faster than whoever was woken for it. So there is a
 * second lock before the first (a byte of the same file, fcntl(2), open file description locks):
 * who waits for the first holds the second, and the other stands behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "queue/embedded/embedded_in.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void
wake_up(int signal)
{
    (void)signal;
}

/* The place in front: F_OFD_SETLK or F_OFD_SETLKW, F_WRLCK or F_UNLCK. */
static bool
turn(int fd, int how, short type)
{
    struct flock first = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

    return fcntl(fd, how, &first) == 0;
}

/* `in_front`: the place in front is taken already. It is given in any case. */
static bool
wait_for_lock(int fd, bool in_front, int64_t wait_ms)
{
    int alarm_signal = SIGRTMAX - 1, error;
    int64_t until_ms = time_now_ms() + wait_ms;
    struct sigaction action = {.sa_handler = wake_up}; /* no SA_RESTART: flock is to end */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = alarm_signal};
    /* Rings again each 50 ms, in case the first ring came before flock had begun to wait. */
    struct itimerspec when = {.it_interval.tv_nsec = 50000000,
        .it_value = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000 + 1}};
    sigset_t only, before;
    timer_t timer;

    event.sigev_notify_thread_id = gettid();
    sigemptyset(&only);
    sigaddset(&only, alarm_signal);
    if (sigaction(alarm_signal, &action, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
        (void)turn(fd, F_OFD_SETLK, F_UNLCK);
        return false;
    }
    pthread_sigmask(SIG_UNBLOCK, &only, &before);
    timer_settime(timer, 0, &when, NULL);
    do {
        in_front = in_front || turn(fd, F_OFD_SETLKW, F_WRLCK);
        error = in_front && flock(fd, LOCK_EX) == 0 ? 0 : errno;
    } while (error == EINTR && time_now_ms() < until_ms); /* another signal */
    (void)turn(fd, F_OFD_SETLK, F_UNLCK);
    timer_delete(timer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error == EINTR ? ETIMEDOUT : error;
    return error == 0;
}

bool
lock_take(int fd, int64_t wait_ms)
{
    bool in_front = turn(fd, F_OFD_SETLK, F_WRLCK);

    if (!in_front && errno != EAGAIN && errno != EACCES)
        return false;
    if (!in_front || flock(fd, LOCK_EX | LOCK_NB) != 0)
        return (!in_front || errno == EWOULDBLOCK) && wait_for_lock(fd, in_front, wait_ms);
    (void)turn(fd, F_OFD_SETLK, F_UNLCK);
    return true;
}

void
lock_give(int fd)
{
    (void)flock(fd, LOCK_UN);
}
