#include "api/asker.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

enum { THREADS = 4, LINE_MAX = 256 };

typedef struct {
    Askers *all;
    Hands hands;
    pthread_t thread;
    bool runs;
} Asker;

struct Askers {
    pthread_mutex_t lock;
    pthread_cond_t news;
    AskerJob *first, **end; /* the line */
    size_t waiting;
    bool ends;
    Asker asker[THREADS];
};

static AskerJob *
take(Askers *a)
{
    AskerJob *job;

    pthread_mutex_lock(&a->lock);
    while (!a->first && !a->ends)
        pthread_cond_wait(&a->news, &a->lock);
    if ((job = a->first)) {
        if (!(a->first = job->next))
            a->end = &a->first;
        a->waiting--;
    }
    pthread_mutex_unlock(&a->lock);
    return job;
}

static void *
run(void *with)
{
    Asker *asker = with;
    AskerJob *job;

    while ((job = take(asker->all)))
        job->run(job, &asker->hands);
    hands_close(&asker->hands);
    return NULL;
}

Askers *
askers_new(const Hands *hands, Arena *process, Err *e)
{
    Askers *a = arena_alloc(process, sizeof *a, e);

    if (!a)
        return NULL;
    a->end = &a->first;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->news, NULL);
    for (size_t i = 0; i < THREADS; i++) {
        Asker *asker = &a->asker[i];
        int error;

        *asker = (Asker){.all = a, .hands = *hands};
        if ((error = pthread_create(&asker->thread, NULL, run, asker)) != 0) {
            errno = error;
            fail(e, INTERNAL, "cannot start an asker's thread: %m");
            (void)askers_end(a, 1);
            return NULL;
        }
        asker->runs = true;
    }
    return a;
}

bool
askers_add(Askers *a, AskerJob *job, Err *e)
{
    bool fits;

    job->next = NULL;
    pthread_mutex_lock(&a->lock);
    fits = a->waiting < LINE_MAX && !a->ends;
    if (fits) {
        *a->end = job;
        a->end = &job->next;
        a->waiting++;
        pthread_cond_signal(&a->news);
    }
    pthread_mutex_unlock(&a->lock);
    return fits || fail(e, STORAGE_UNAVAILABLE, "%d requests wait for the storage", LINE_MAX);
}

bool
askers_end(Askers *a, int wait_s)
{
    struct timespec until;
    bool ended = true;

    pthread_mutex_lock(&a->lock);
    a->ends = true;
    pthread_cond_broadcast(&a->news);
    pthread_mutex_unlock(&a->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_s;
    for (size_t i = 0; i < THREADS; i++)
        if (a->asker[i].runs && pthread_timedjoin_np(a->asker[i].thread, NULL, &until) == 0)
            a->asker[i].runs = false;
        else
            ended &= !a->asker[i].runs;
    return ended;
}
