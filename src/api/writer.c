#include "api/writer.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/log.h"

enum { LINE_MAX = 4096, GROUP_MAX = 512, GROUP_ARENA_BYTES = 4 << 20, PAUSE_NS = 100000 };

struct Writer {
    const QueueKind *kind;
    Queue *queue;
    Arena *arena; /* of one group: what the queue hands out */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    WriterJob *first, **end; /* the line */
    size_t waiting;
    bool ends;
    Err down; /* no links: the queue has answered all that this group asked of it */
    QueuePut put[GROUP_MAX];
    QueueCancel cancel[GROUP_MAX];
};

/* The line as it is now, or its first GROUP_MAX; waits for one. NULL: it is over. */
static WriterJob *
take_group(Writer *w)
{
    WriterJob *group, **last;
    size_t count = 0;

    pthread_mutex_lock(&w->lock);
    while (!w->first && !w->ends)
        pthread_cond_wait(&w->news, &w->lock);
    group = w->first;
    for (last = &group; *last && count < GROUP_MAX; count++)
        last = &(*last)->next;
    w->first = *last;
    *last = NULL;
    if (!w->first)
        w->end = &w->first;
    w->waiting -= count;
    pthread_mutex_unlock(&w->lock);
    return group;
}

static void
note(WriterJob *job, bool ok, const Err *e)
{
    job->ok = ok;
    if (!ok)
        job->e = *e;
}

/* A queue that cannot be reached may take seconds to say so; it is said once for the whole group,
 * for the last in it is not to wait for each of those before. */
static bool
heard(Writer *w, bool ok, const Err *e)
{
    if (!ok && e->code == ERR_QUEUE_UNAVAILABLE)
        w->down = *e;
    return ok;
}

/* The group's arena ends with the group; the answer's text goes on in the job's. */
static void
note_put(WriterJob *job, const QueuePut *put)
{
    job->as.put.verdict = put->verdict;
    if (put->verdict == QUEUE_PUT_REPLAYED)
        job->ok = (job->as.put.replay = arena_text(job->arena, put->replay, &job->e)) != NULL;
}

static void
write_puts(Writer *w, WriterJob *group)
{
    size_t count = 0, at = 0;
    Err e = {0};
    bool ok;

    for (const WriterJob *job = group; job; job = job->next)
        if (job->op == WRITER_PUT)
            w->put[count++] = job->as.put;
    if (count == 0)
        return;
    ok = heard(w, w->kind->put(w->queue, w->put, count, w->arena, &e), &e);
    for (WriterJob *job = group; job; job = job->next) {
        if (job->op != WRITER_PUT)
            continue;
        note(job, ok, &e);
        if (ok)
            note_put(job, &w->put[at++]);
    }
}

static void
write_cancels(Writer *w, WriterJob *group)
{
    size_t count = 0, at = 0;
    Err e = {0};
    bool ok;

    for (const WriterJob *job = group; job; job = job->next)
        if (job->op == WRITER_CANCEL)
            w->cancel[count++] = job->as.cancel;
    if (count == 0)
        return;
    e = w->down;
    ok = !e.links && heard(w, w->kind->cancel(w->queue, w->cancel, count, &e), &e);
    for (WriterJob *job = group; job; job = job->next) {
        if (job->op != WRITER_CANCEL)
            continue;
        note(job, ok, &e);
        if (ok)
            job->as.cancel.outcome = w->cancel[at++].outcome;
    }
}

/* Deletes and checks are rare: each goes alone. */
static void
write_others(Writer *w, WriterJob *group)
{
    for (WriterJob *job = group; job; job = job->next) {
        Err e = w->down, uncounted = {0};
        bool up = !e.links;

        if (job->op == WRITER_CHECK) {
            note(job, up && heard(w, w->kind->check(w->queue, &job->as.promise, &e), &e), &e);
        } else if (job->op == WRITER_EXPIRE) {
            note(
                job, up && heard(w, w->kind->expire(w->queue, &job->as.expire.key, 1, &e), &e), &e);
            if (job->ok && job->as.expire.totals > 0 &&
                !w->kind->add(w->queue, job->as.expire.total, job->as.expire.totals, &uncounted))
                log_event(LOG_WARNING, "queue.not_counted", log_err(&uncounted));
        }
    }
}

/* The lock on the queue is not fair: who takes it again at once keeps the workers out. */
static void
let_others_in(Writer *w)
{
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    bool more;

    pthread_mutex_lock(&w->lock);
    more = w->first != NULL;
    pthread_mutex_unlock(&w->lock);
    if (more)
        (void)nanosleep(&pause, NULL);
}

static void *
run(void *with)
{
    Writer *w = with;
    WriterJob *group;
    ArenaMark start = arena_mark(w->arena);

    while ((group = take_group(w))) {
        err_clear(&w->down);
        write_puts(w, group);
        write_cancels(w, group);
        write_others(w, group);
        while (group) {
            WriterJob *job = group;

            group = job->next;
            job->done(job);
        }
        arena_rewind(w->arena, start);
        let_others_in(w);
    }
    return NULL;
}

Writer *
writer_new(const QueueKind *kind, const QueueSpec *spec, Arena *process, Err *e)
{
    Writer *w = arena_alloc(process, sizeof *w, e);
    int error;

    if (!w)
        return NULL;
    w->kind = kind;
    w->end = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->news, NULL);
    if (!(w->arena = arena_new(GROUP_ARENA_BYTES))) {
        fail(e, MEMORY_LIMIT, "no memory for the writer");
        return NULL;
    }
    if ((w->queue = kind->open(spec, e))) {
        if ((error = pthread_create(&w->thread, NULL, run, w)) == 0)
            return w;
        errno = error;
        fail(e, INTERNAL, "cannot start the writer's thread: %m");
        kind->close(w->queue);
    }
    arena_free(w->arena);
    return NULL;
}

bool
writer_add(Writer *w, WriterJob *job, Err *e)
{
    bool fits;

    job->next = NULL;
    pthread_mutex_lock(&w->lock);
    fits = w->waiting < LINE_MAX && !w->ends;
    if (fits) {
        *w->end = job;
        w->end = &job->next;
        if (w->waiting++ == 0)
            pthread_cond_signal(&w->news);
    }
    pthread_mutex_unlock(&w->lock);
    return fits || fail(e, QUEUE_UNAVAILABLE, "%d requests wait for the queue", LINE_MAX);
}

bool
writer_end(Writer *w, int wait_s)
{
    struct timespec until;

    pthread_mutex_lock(&w->lock);
    w->ends = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_s;
    if (pthread_timedjoin_np(w->thread, NULL, &until) != 0)
        return false;
    w->kind->close(w->queue);
    arena_free(w->arena);
    return true;
}
