/*
 * flock(2) with a deadline. The kernel wakes the next waiter at once, where SQLite's busy handler
 * sleeps and guesses; a timer whose signal only interrupts the wait bounds it, for a holder may be
 * stopped.
 */
#include <errno.h>
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

static bool
wait_for_lock(int fd, int64_t wait_ms)
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
        timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return false;
    pthread_sigmask(SIG_UNBLOCK, &only, &before);
    timer_settime(timer, 0, &when, NULL);
    do
        error = flock(fd, LOCK_EX) == 0 ? 0 : errno;
    while (error == EINTR && time_now_ms() < until_ms); /* another signal */
    timer_delete(timer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error == EINTR ? ETIMEDOUT : error;
    return error == 0;
}

bool
lock_take(int fd, int64_t wait_ms)
{
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ||
           (errno == EWOULDBLOCK && wait_for_lock(fd, wait_ms));
}

void
lock_give(int fd)
{
    (void)flock(fd, LOCK_UN);
}
