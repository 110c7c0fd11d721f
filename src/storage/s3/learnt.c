/*
 * What this process has learnt of a store: the bucket's region and how far the clocks differ (s3.md
 * 7.4, 13). Links are signed where nobody asks the store anything, so all clients of one store
 * share it.
 */
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "storage/s3/s3_in.h"

enum {
    LEARNT_BYTES_MAX = 16 << 10,
    CLOCK_SAMPLES = 5,
    CLOCK_OFF_S = 30,
    CLOCK_WARN_S = 60,
    CLOCK_WARN_MS = 3600 * 1000,
};

struct Learnt {
    Learnt *next;
    Arena *arena; /* holds this */
    unsigned users;
    Site asked; /* as configured */
    Site site;  /* with the region learnt */
    int64_t clock_off_s[CLOCK_SAMPLES];
    unsigned clock_samples;
    int64_t clock_warned_ms; /* 0: never */
};

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER; /* of everything here */
static Learnt *all;

static bool
is_same(const Site *a, const Site *b)
{
    return a->is_secure == b->is_secure && a->is_aws == b->is_aws &&
           a->is_path_style == b->is_path_style && strcmp(a->host, b->host) == 0 &&
           strcmp(a->prefix, b->prefix) == 0 && strcmp(a->bucket, b->bucket) == 0 &&
           strcmp(a->region, b->region) == 0;
}

static Learnt *
make(const Site *site, Err *e)
{
    Arena *arena = arena_new(LEARNT_BYTES_MAX);
    Learnt *p = arena ? arena_alloc(arena, sizeof *p, e) : NULL;

    if (!p) {
        arena_free(arena);
        fail(e, MEMORY_LIMIT, "no memory for the storage");
        return NULL;
    }
    *p = (Learnt){.next = all, .arena = arena, .asked = *site, .site = *site};
    return all = p;
}

Learnt *
learnt_open(const Site *site, Err *e)
{
    Learnt *p;

    pthread_mutex_lock(&all_lock);
    for (p = all; p && !is_same(&p->asked, site); p = p->next)
        ;
    if (p || (p = make(site, e)))
        p->users++;
    pthread_mutex_unlock(&all_lock);
    return p;
}

void
learnt_close(Learnt *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&all_lock);
    if (--p->users == 0) {
        for (Learnt **at = &all; *at; at = &(*at)->next)
            if (*at == p) {
                *at = p->next;
                break;
            }
        arena_free(p->arena);
    }
    pthread_mutex_unlock(&all_lock);
}

/* --- the region --- */

Site
learnt_site(Learnt *p)
{
    Site site;

    pthread_mutex_lock(&all_lock);
    site = p->site;
    pthread_mutex_unlock(&all_lock);
    return site;
}

bool
learnt_move(Learnt *p, const char *from, const char *region)
{
    bool moved = false, is_news;

    if (!region[0] || strcmp(region, from) == 0)
        return false;
    pthread_mutex_lock(&all_lock);
    /* Another call may have heard it first. */
    is_news = strcmp(region, p->site.region) != 0;
    moved = !is_news || site_move(&p->site, region);
    pthread_mutex_unlock(&all_lock);
    if (moved && is_news)
        log_event(LOG_WARNING, "storage.region", log_text("configured", p->asked.region),
            log_text("region", region), log_text("fix", "set S3_REGION to it"));
    return moved;
}

/* --- the clock --- */

/* The median of what the last answers said; small differences are the network's. */
int64_t
learnt_clock_off_s(Learnt *p)
{
    int64_t sorted[CLOCK_SAMPLES], median;
    unsigned n;

    pthread_mutex_lock(&all_lock);
    n = p->clock_samples < CLOCK_SAMPLES ? p->clock_samples : CLOCK_SAMPLES;
    for (unsigned i = 0; i < n; i++) {
        unsigned at = i;

        for (; at > 0 && sorted[at - 1] > p->clock_off_s[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = p->clock_off_s[i];
    }
    pthread_mutex_unlock(&all_lock);
    median = n > 0 ? sorted[n / 2] : 0;
    return median > CLOCK_OFF_S || median < -CLOCK_OFF_S ? median : 0;
}

void
learnt_note_clock(Learnt *p, int64_t offset_s, bool alone)
{
    int64_t now_ms = time_now_ms();
    bool warns;

    pthread_mutex_lock(&all_lock);
    if (alone)
        p->clock_samples = 0;
    p->clock_off_s[p->clock_samples++ % CLOCK_SAMPLES] = offset_s;
    if (p->clock_samples == 2 * CLOCK_SAMPLES) /* never overflows */
        p->clock_samples = CLOCK_SAMPLES;
    warns = (offset_s > CLOCK_WARN_S || offset_s < -CLOCK_WARN_S) &&
            (p->clock_warned_ms == 0 || now_ms - p->clock_warned_ms > CLOCK_WARN_MS);
    if (warns)
        p->clock_warned_ms = now_ms;
    pthread_mutex_unlock(&all_lock);
    if (warns)
        log_event(LOG_WARNING, "storage.clock", log_number("offset_s", offset_s),
            log_text("fix", "set both clocks by NTP"));
}
