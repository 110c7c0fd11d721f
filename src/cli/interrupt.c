#include "cli/interrupt.h"

#include <signal.h>
#include <time.h>

#include "base/time.h"

enum { TWICE_WITHIN_MS = 1000, LOOK_MS = 20 };

static volatile sig_atomic_t interrupts, endings;

static void
note(int number)
{
    if (number == SIGINT)
        interrupts++;
    else
        endings++;
}

void
interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = note};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool
interrupt_came(void)
{
    return interrupts > 0 || endings > 0;
}

bool
interrupt_came_twice(void)
{
    int64_t until_ms = time_now_ms() + TWICE_WITHIN_MS;
    bool twice;

    while (interrupts == 1 && endings == 0 && time_now_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    twice = interrupts > 1;
    interrupts = 0;
    return twice;
}
