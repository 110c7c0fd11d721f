/* Watches for tests: one that lets everything happen, one that ends the work after a while. */
#ifndef TEST_CONTRACT_WATCHES_H
#define TEST_CONTRACT_WATCHES_H

#include "base/watch.h"

typedef struct {
    Watch base;
    int64_t ends_at_ms; /* time_now_ms(); 0: never */
    ErrCode ends_with;
    unsigned asked;  /* how often go_on was called */
    unsigned stages; /* a bit for each stage that was told */
    uint64_t rows;   /* told last */
    unsigned prepared;
    int64_t expected; /* rows; -2: not told */
    bool loses_task;  /* prepared() says LEASE_LOST */
    char sealed[2048];
} TestWatch;

/* Patient. Set ends_at_ms and ends_with for one that ends the work. */
TestWatch watch_new(void);

#endif
