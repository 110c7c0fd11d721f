/* Any text is refused, or gives due times that match it, after and before the moment asked about.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/time.h"
#include "beat/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool
is_due(const Cron *c, int64_t us)
{
    TimeParts p = time_parts(us);
    bool day = c->day >> p.day & 1, weekday = c->weekday >> p.weekday & 1;

    return us % 60000000 == 0 && c->minute >> p.minute & 1 && c->hour >> p.hour & 1 &&
           c->month >> p.month & 1 &&
           (c->day_is_any || c->weekday_is_any ? day && weekday : day || weekday);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(1 << 20);
    int64_t now = 1767225600000000; /* 2026-01-01; moved by the input's length and bytes */
    Err e = {0};
    char *text = arena_bytes(arena, data, bytes < 4096 ? bytes : 4096, &e);
    Cron cron;

    if (!text)
        abort();
    for (size_t i = 0; i < bytes && i < 8; i++)
        now += (int64_t)data[i] * 86400000000LL * 97 + 61234567;
    if (cron_parse(text, &cron, &e)) {
        int64_t next = cron_next(&cron, now), last = cron_last(&cron, now);

        if (next <= now || !is_due(&cron, next) || last > now || !is_due(&cron, last))
            abort();
        /* Nothing lies between them. */
        if (cron_next(&cron, last) != next || cron_last(&cron, next - 1) != last)
            abort();
    } else if (e.code != ERR_CONFIG_INVALID) {
        abort();
    }
    arena_free(arena);
    return 0;
}
