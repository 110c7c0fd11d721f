#include "export/ahead.h"

#include <signal.h>

/* A first batch with fewer rows is likely to be the only one, or the others to be as quick. */
enum { ROWS_WORTH_A_THREAD = 1024, STACK_BYTES = 1 << 20 };

/* --- what the source may ask --- */

static bool
asked_to_end(Watch *w)
{
    Ahead *a = (Ahead *)w;

    return a->outer->asked_to_end(a->outer) || atomic_load_explicit(&a->stop, memory_order_relaxed);
}

/* On the thread nobody but `asked_to_end` may be asked: whatever is said here is replaced. */
static bool
goes_on(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    Ahead *a = (Ahead *)w;

    if (!a->runs)
        return a->outer->go_on(a->outer, stage, rows, bytes, e);
    return !asked_to_end(w) || fail(e, CANCELLED, "told to end");
}

void
ahead_init(Ahead *a, Watch *watch)
{
    *a = (Ahead){
        .watch = {.go_on = goes_on, .asked_to_end = asked_to_end, .end_fd = watch->end_fd},
        .outer = watch,
    };
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->made, NULL);
    pthread_cond_init(&a->taken, NULL);
}

/* --- the thread --- */

static void *
run(void *with)
{
    Ahead *a = with;
    bool more = true;

    while (more) {
        Batch batch = {0};
        Err why = {0};
        bool ok = source_next(a->source, &batch, &why);

        pthread_mutex_lock(&a->lock);
        a->batch = batch;
        a->why = why;
        a->ok = ok;
        a->is_made = true;
        pthread_cond_signal(&a->made);
        /* The batch before this one is in use until this one is taken: the next must not begin. */
        while (a->is_made && !atomic_load(&a->stop))
            pthread_cond_wait(&a->taken, &a->lock);
        more = ok && batch.rows > 0 && !atomic_load(&a->stop);
        pthread_mutex_unlock(&a->lock);
    }
    return NULL;
}

/* Signals are the first thread's. Without a thread it goes on as before, only slower. */
static void
start_thread(Ahead *a)
{
    pthread_attr_t attributes;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    a->runs = true; /* before the thread looks at it */
    if (pthread_create(&a->thread, &attributes, run, a) != 0)
        a->runs = false;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void
end_thread(Ahead *a)
{
    pthread_mutex_lock(&a->lock);
    atomic_store(&a->stop, true);
    pthread_cond_signal(&a->taken);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    a->runs = false;
}

bool
ahead_next(Ahead *a, Batch *batch, Err *e)
{
    bool ok;

    if (!a->runs) {
        if (!source_next(a->source, batch, e))
            return false;
        if (batch->rows >= ROWS_WORTH_A_THREAD)
            start_thread(a);
        return true;
    }
    pthread_mutex_lock(&a->lock);
    while (!a->is_made)
        pthread_cond_wait(&a->made, &a->lock);
    ok = a->ok;
    *batch = a->batch;
    if (!ok)
        *e = a->why;
    a->is_made = false;
    pthread_cond_signal(&a->taken);
    pthread_mutex_unlock(&a->lock);
    if (!ok || batch->rows == 0)
        end_thread(a);
    return ok;
}

void
ahead_close(Ahead *a)
{
    if (a->runs)
        end_thread(a);
    source_close(a->source);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->made);
    pthread_cond_destroy(&a->taken);
}
