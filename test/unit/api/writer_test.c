/* The writer and the askers against a queue that does what the test says. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/asker.h"
#include "api/writer.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum { JOBS = 600, CALLS_MAX = 64, PATIENCE_MS = 10000 };

/* What was asked of the queue, in order, and a gate before its first put. */
static struct {
    Queue base;
    pthread_mutex_t lock;
    pthread_cond_t news;
    bool gate_is_shut, is_broken, is_away;
    size_t entries[CALLS_MAX]; /* of each put and cancel */
    size_t calls, expired;
    bool open;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};

static Queue *
fake_open(const QueueSpec *spec, Err *e)
{
    (void)spec;
    if (fake.is_broken) {
        fail_code(e, ERR_QUEUE_UNAVAILABLE, "no queue");
        return NULL;
    }
    fake.open = true;
    return &fake.base;
}

static void
fake_close(Queue *q)
{
    (void)q;
    fake.open = false;
}

static bool
note_call(size_t entries, Err *e)
{
    bool broken, away;

    pthread_mutex_lock(&fake.lock);
    fake.entries[fake.calls++ % CALLS_MAX] = entries;
    pthread_cond_broadcast(&fake.news);
    while (fake.gate_is_shut)
        pthread_cond_wait(&fake.news, &fake.lock);
    broken = fake.is_broken;
    away = fake.is_away;
    pthread_mutex_unlock(&fake.lock);
    if (away)
        return fail_code(e, ERR_QUEUE_UNAVAILABLE, "waited for 2 s");
    return !broken || fail_code(e, ERR_STORAGE_FULL, "the disk is full");
}

/* "replay…" was there before, "full…" is one too many. */
static bool
fake_put(Queue *q, QueuePut *put, size_t puts, Arena *arena, Err *e)
{
    (void)q;
    for (size_t i = 0; i < puts; i++) {
        put[i].verdict = QUEUE_PUT_NEW;
        if (put[i].id[0] == 'f')
            put[i].verdict = QUEUE_PUT_FULL;
        if (put[i].id[0] == 'r') {
            put[i].verdict = QUEUE_PUT_REPLAYED;
            put[i].replay = arena_printf(arena, e, "answer of %s", put[i].id);
        }
    }
    return note_call(puts, e);
}

static bool
fake_cancel(Queue *q, QueueCancel *cancel, size_t cancels, Err *e)
{
    (void)q;
    for (size_t i = 0; i < cancels; i++)
        cancel[i].outcome = cancel[i].id[0] == 'u' ? QUEUE_CANCEL_UNKNOWN : QUEUE_CANCEL_NOTED;
    return note_call(cancels, e);
}

static bool
fake_expire(Queue *q, const char *const *key, size_t keys, Err *e)
{
    (void)q;
    (void)key;
    fake.expired += keys;
    return note_call(keys, e);
}

static bool
fake_check(Queue *q, const char **promise, Err *e)
{
    (void)q;
    *promise = "kept";
    return note_call(1, e);
}

static const QueueKind queue_fake = {.name = "fake",
    .open = fake_open,
    .close = fake_close,
    .put = fake_put,
    .cancel = fake_cancel,
    .expire = fake_expire,
    .check = fake_check};

static atomic_size_t done;

static void
count_done(WriterJob *job)
{
    (void)job;
    atomic_fetch_add(&done, 1);
}

static void
sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* True once `count` is reached; false after PATIENCE_MS. */
static bool
comes_to(atomic_size_t *counter, size_t count)
{
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms++) {
        if (atomic_load(counter) >= count)
            return true;
        sleep_ms(1);
    }
    return false;
}

/* A writer whose first put hangs at the gate, with nothing in its line. */
static Writer *
hanging_writer(Arena *arena, WriterJob *first)
{
    Writer *w;
    Err e = {0};

    fake.calls = fake.expired = 0;
    fake.is_broken = fake.is_away = false;
    fake.gate_is_shut = true;
    atomic_store(&done, 0);
    w = writer_new(&queue_fake, &(QueueSpec){.dir = "-"}, arena, &e);
    assert_non_null(w);
    *first =
        (WriterJob){.op = WRITER_PUT, .as.put.id = "first", .arena = arena, .done = count_done};
    assert_true(writer_add(w, first, &e));
    pthread_mutex_lock(&fake.lock);
    while (fake.calls == 0)
        pthread_cond_wait(&fake.news, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
    return w;
}

static void
open_gate(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.gate_is_shut = false;
    pthread_cond_broadcast(&fake.news);
    pthread_mutex_unlock(&fake.lock);
}

static void
test_what_waits_is_written_together(void **state)
{
    static WriterJob first, job[JOBS];
    Arena *arena = arena_new(16 << 20);
    Writer *w = hanging_writer(arena, &first);
    size_t puts = 0;
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < JOBS; i++) {
        bool cancels = i % 10 == 0;

        job[i] = (WriterJob){
            .op = cancels ? WRITER_CANCEL : WRITER_PUT, .arena = arena, .done = count_done};
        if (cancels)
            job[i].as.cancel.id = i % 20 == 0 ? "unknown" : "known";
        else
            job[i].as.put.id = i % 3 == 0 ? "replay" : i % 3 == 1 ? "full" : "new";
        assert_true(writer_add(w, &job[i], &e));
    }
    open_gate();
    assert_true(comes_to(&done, JOBS + 1));
    /* The one that hung, then 512 and 88 jobs, each with its puts and its cancels. */
    assert_int_equal(fake.calls, 5);
    assert_int_equal(fake.entries[1] + fake.entries[2], 512);
    assert_int_equal(fake.entries[3] + fake.entries[4], JOBS - 512);
    for (size_t i = 0; i < JOBS; i++) {
        assert_true(job[i].ok);
        if (job[i].op == WRITER_CANCEL) {
            assert_int_equal(
                job[i].as.cancel.outcome, i % 20 == 0 ? QUEUE_CANCEL_UNKNOWN : QUEUE_CANCEL_NOTED);
            continue;
        }
        puts++;
        assert_int_equal(job[i].as.put.verdict, i % 3 == 0   ? QUEUE_PUT_REPLAYED
                                                : i % 3 == 1 ? QUEUE_PUT_FULL
                                                             : QUEUE_PUT_NEW);
        if (i % 3 == 0)
            assert_string_equal(job[i].as.put.replay, "answer of replay");
    }
    assert_int_equal(puts, JOBS - JOBS / 10);
    assert_true(writer_end(w, 5));
    assert_false(fake.open);
    arena_free(arena);
}

static void
test_a_failed_group_fails_all_of_it(void **state)
{
    static WriterJob first, job[3];
    Arena *arena = arena_new(16 << 20);
    Writer *w = hanging_writer(arena, &first);
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        job[i] =
            (WriterJob){.op = WRITER_PUT, .as.put.id = "new", .arena = arena, .done = count_done};
        assert_true(writer_add(w, &job[i], &e));
    }
    fake.is_broken = true;
    open_gate();
    assert_true(comes_to(&done, 4));
    for (size_t i = 0; i < 3; i++) {
        assert_false(job[i].ok);
        assert_int_equal(job[i].e.code, ERR_STORAGE_FULL);
    }
    assert_true(writer_end(w, 5));
    arena_free(arena);
}

/* A stopped process may hold the lock: each try takes seconds, so there is one for all that wait.
 */
static void
test_a_queue_that_is_away_is_asked_once(void **state)
{
    static const WriterOp ops[] = {WRITER_PUT, WRITER_CANCEL, WRITER_EXPIRE, WRITER_CHECK};
    static WriterJob first, job[40];
    Arena *arena = arena_new(16 << 20);
    Err e = {0};

    (void)state;
    for (size_t from = 0; from < 3; from++) { /* the first that is asked: put, cancel, expire */
        Writer *w = hanging_writer(arena, &first);

        for (size_t i = 0; i < 40; i++) {
            job[i] =
                (WriterJob){.op = ops[from + i % (4 - from)], .arena = arena, .done = count_done};
            if (job[i].op == WRITER_PUT)
                job[i].as.put.id = "new";
            else if (job[i].op == WRITER_CANCEL)
                job[i].as.cancel.id = "known";
            assert_true(writer_add(w, &job[i], &e));
        }
        fake.is_away = true;
        open_gate();
        assert_true(comes_to(&done, 41));
        assert_int_equal(fake.calls, 2);
        for (size_t i = 0; i < 40; i++) {
            assert_false(job[i].ok);
            assert_int_equal(job[i].e.code, ERR_QUEUE_UNAVAILABLE);
        }
        /* The next group asks anew. */
        fake.is_away = false;
        job[0] = (WriterJob){.op = WRITER_CHECK, .done = count_done};
        assert_true(writer_add(w, &job[0], &e));
        assert_true(comes_to(&done, 42));
        assert_true(job[0].ok);
        assert_true(writer_end(w, 5));
    }
    arena_free(arena);
}

static void
test_the_line_is_bounded(void **state)
{
    static WriterJob first, job[5000];
    Arena *arena = arena_new(16 << 20);
    Writer *w = hanging_writer(arena, &first);
    size_t taken = 0;
    Err e = {0};

    (void)state;
    for (; taken < 5000; taken++) {
        job[taken] =
            (WriterJob){.op = WRITER_PUT, .as.put.id = "new", .arena = arena, .done = count_done};
        if (!writer_add(w, &job[taken], &e))
            break;
    }
    assert_int_equal(taken, 4096);
    assert_int_equal(e.code, ERR_QUEUE_UNAVAILABLE);
    open_gate();
    /* What waits when it ends is still written. */
    assert_true(writer_end(w, 10));
    assert_int_equal(atomic_load(&done), 4097);
    arena_free(arena);
}

static void
test_deletes_and_checks(void **state)
{
    static WriterJob first, job[2];
    Arena *arena = arena_new(16 << 20);
    Writer *w = hanging_writer(arena, &first);
    Err e = {0};

    (void)state;
    job[0] =
        (WriterJob){.op = WRITER_EXPIRE, .as.expire.key = "exports/u/a.csv", .done = count_done};
    job[1] = (WriterJob){.op = WRITER_CHECK, .done = count_done};
    assert_true(writer_add(w, &job[0], &e));
    assert_true(writer_add(w, &job[1], &e));
    open_gate();
    assert_true(comes_to(&done, 3));
    assert_true(job[0].ok);
    assert_int_equal(fake.expired, 1);
    assert_true(job[1].ok);
    assert_string_equal(job[1].as.promise, "kept");
    assert_true(writer_end(w, 5));
    arena_free(arena);
}

static void
test_a_queue_that_cannot_be_opened(void **state)
{
    Arena *arena = arena_new(16 << 20);
    Err e = {0};

    (void)state;
    fake.is_broken = true;
    assert_null(writer_new(&queue_fake, &(QueueSpec){.dir = "-"}, arena, &e));
    assert_int_equal(e.code, ERR_QUEUE_UNAVAILABLE);
    fake.is_broken = false;
    arena_free(arena);
}

/* --- askers --- */

static atomic_size_t asked;
static atomic_bool askers_hang;

static void
ask(AskerJob *job, Hands *hands)
{
    (void)job;
    assert_non_null(hands);
    while (atomic_load(&askers_hang))
        sleep_ms(1);
    atomic_fetch_add(&asked, 1);
}

static void
test_askers(void **state)
{
    static AskerJob job[400];
    const Hands hands = {.queue_kind = &queue_fake};
    Arena *arena = arena_new(16 << 20);
    Err e = {0};
    Askers *askers = askers_new(&hands, arena, &e);
    size_t taken = 0;

    (void)state;
    assert_non_null(askers);
    atomic_store(&asked, 0);
    atomic_store(&askers_hang, true);
    for (; taken < 400; taken++) {
        job[taken].run = ask;
        if (!askers_add(askers, &job[taken], &e))
            break;
    }
    /* 256 wait, and up to four are with the threads already. */
    assert_in_range(taken, 256, 260);
    assert_int_equal(e.code, ERR_STORAGE_UNAVAILABLE);
    /* Threads that hang are told of, not waited for. */
    assert_false(askers_end(askers, 1));
    atomic_store(&askers_hang, false);
    assert_true(comes_to(&asked, taken));
    assert_true(askers_end(askers, 5));
    arena_free(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_is_written_together),
        cmocka_unit_test(test_a_failed_group_fails_all_of_it),
        cmocka_unit_test(test_a_queue_that_is_away_is_asked_once),
        cmocka_unit_test(test_the_line_is_bounded),
        cmocka_unit_test(test_deletes_and_checks),
        cmocka_unit_test(test_a_queue_that_cannot_be_opened),
        cmocka_unit_test(test_askers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
