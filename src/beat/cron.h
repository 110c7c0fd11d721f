/*
 * Cron: five fields (minute hour day-of-month month day-of-week), names, lists, ranges, steps,
 * @hourly @daily @weekly @monthly @yearly; UTC. Day-of-month and day-of-week are OR-ed when both
 * are restricted (POSIX crontab). Pure.
 */
#ifndef BEAT_CRON_H
#define BEAT_CRON_H

#include <stdint.h>

#include "base/err.h"

typedef struct {
    uint64_t minute; /* bit sets */
    uint32_t hour, day, month;
    uint8_t weekday;
    bool day_is_any, weekday_is_any;
} Cron;

/* CONFIG_INVALID names the field; an expression that never fires (31 February) is refused. */
bool cron_parse(const char *text, Cron *cron, Err *e) MUST_CHECK;

/* First due time after `after_us`, and the last at or before `at_us`; whole minutes. */
int64_t cron_next(const Cron *cron, int64_t after_us);
int64_t cron_last(const Cron *cron, int64_t at_us);

#endif
