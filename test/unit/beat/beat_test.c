/* Beat with a real queue: each role is this very program, played by main(). */
#include "beat/beat.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>

#include "base/process.h"
#include "base/time.h"
#include "beat/cron.h"
#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum { BEATS = 3, WAIT_MS = 20000 };

static const char schedule[] = "sch_cleanup";
static const int64_t minute_us = 60000000, day_us = 86400000000;

static int
play_beat(void)
{
    char *argv[] = {(char *)(uintptr_t) "beat", NULL};
    ConfigArgs args = {.argc = 1, .argv = argv};
    Arena *arena = arena_new(4 << 20);
    Err e = {0};
    const Config *config = config_load(&args, arena, &e);
    int status = config ? beat_run(config, &bench_kinds, &args) : 77;

    arena_free(arena);
    return status;
}

typedef struct {
    char folder[BENCH_PATH_BYTES];
    Arena *arena;
    Queue *queue;
} Bench;

static int
set_up(void **state)
{
    static Bench b;
    QueueSpec spec = {.dir = b.folder, .writes = true, .busy_ms = 2000};
    Err e = {0};

    b.arena = arena_new(4 << 20);
    bench_folder(b.folder);
    b.queue = queue_embedded.open(&spec, &e);
    *state = &b;
    return b.queue ? 0 : -1;
}

static int
remove_one(const char *path, const struct stat *is, int flag, struct FTW *walk)
{
    (void)is;
    (void)flag;
    (void)walk;
    return remove(path);
}

static int
tear_down(void **state)
{
    Bench *b = *state;

    queue_embedded.close(b->queue);
    arena_free(b->arena);
    return nftw(b->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* `offset_ms`: how far its wall clock is ahead, in test builds. */
static Process
start_ahead(const Bench *b, const char *cron, const char *limit, int64_t offset_ms)
{
    char data[BENCH_PATH_BYTES + 32], sweep[128], most[64], clock[64];
    const char *const args[] = {"beat", NULL};
    const char *const environment[] = {data, sweep, most, clock, "PATH=/usr/bin:/bin", NULL};
    ProcessStart how = {.args = args, .environment = environment};
    Process process;
    Err e = {0};

    snprintf(data, sizeof data, "ROWFERRY_DATA_DIR=%s", b->folder);
    snprintf(sweep, sizeof sweep, "ROWFERRY_CLEANUP_SCHEDULE=%s", cron);
    snprintf(most, sizeof most, "ROWFERRY_QUEUE_LIMIT=%s", limit);
    snprintf(clock, sizeof clock, "ROWFERRY_TEST_CLOCK_OFFSET_MS=%lld", (long long)offset_ms);
    if (!process_start(&how, &process, &e))
        fail_msg("%s", err_root(&e));
    return process;
}

static Process
start(const Bench *b, const char *cron, const char *limit)
{
    return start_ahead(b, cron, limit, 0);
}

static void
stop(Process *process)
{
    int status = -1;

    assert_int_equal(kill(process->pid, SIGTERM), 0);
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    close(process->pid_fd);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int64_t
last_due(const Bench *b)
{
    int64_t due_us;
    Err e = {0};

    assert_true(queue_embedded.last_due(b->queue, schedule, &due_us, &e));
    return due_us;
}

static void
note_due(const Bench *b, int64_t due_us)
{
    QueueFire fire = {.schedule = schedule, .due_us = due_us};
    Err e = {0};

    assert_true(queue_embedded.fire(b->queue, &fire, &e));
}

static uint64_t
depth(const Bench *b)
{
    QueueCounts counts;
    Err e = {0};

    assert_true(queue_embedded.count(b->queue, &counts, &e));
    return counts.depth;
}

static void
wait_until_due_is(const Bench *b, int64_t due_us)
{
    int64_t until_ms = time_now_ms() + WAIT_MS;
    const struct timespec nap = {0, 5000000};

    while (last_due(b) < due_us) {
        if (time_now_ms() > until_ms)
            fail_msg("nobody fires");
        nanosleep(&nap, NULL);
    }
}

static void
a_moment(void)
{
    const struct timespec nap = {0, 300000000};

    nanosleep(&nap, NULL);
}

/* An expression whose last due time was midnight, this many days ago. */
static int64_t
midnight(int days_ago, char cron[64])
{
    TimeParts p = time_parts(time_wall_us() - days_ago * day_us);
    Cron parsed;
    Err e = {0};

    snprintf(cron, 64, "0 0 %d %d *", p.day, p.month);
    assert_true(cron_parse(cron, &parsed, &e));
    return cron_last(&parsed, time_wall_us());
}

/* A schedule never seen starts with its next time: nothing is made up for. */
static void
test_first_start(void **state)
{
    Bench *b = *state;
    char cron[64];
    int64_t due_us = midnight(0, cron);
    Process beat = start(b, cron, "10");

    wait_until_due_is(b, due_us);
    stop(&beat);
    assert_int_equal(last_due(b), due_us);
    assert_int_equal(depth(b), 0);
}

typedef struct {
    QueueRecord record;
    Arena *arena;
    size_t count;
} Found;

static bool
keep(const QueueRecord *record, void *with, Err *e)
{
    Found *found = with;

    found->count++;
    found->record = *record;
    return (found->record.id = arena_text(found->arena, record->id, e)) &&
           (found->record.task = arena_text(found->arena, record->task, e)) &&
           (found->record.queue = arena_text(found->arena, record->queue, e));
}

/* However many beats there are, and however often they start: one sweep for one time. */
static void
test_missed_time_is_made_up_for_once(void **state)
{
    Bench *b = *state;
    Found found = {.arena = b->arena};
    char cron[64];
    int64_t due_us = midnight(0, cron);
    Process beat[BEATS];
    Err e = {0};

    note_due(b, due_us - 3 * day_us); /* three were missed; only the latest counts */
    for (int i = 0; i < BEATS; i++)
        beat[i] = start(b, cron, "10");
    wait_until_due_is(b, due_us);
    a_moment();
    for (int i = 0; i < BEATS; i++)
        stop(&beat[i]);
    beat[0] = start(b, cron, "10");
    a_moment();
    stop(&beat[0]);
    assert_int_equal(last_due(b), due_us);
    assert_true(queue_embedded.visit(b->queue, &(QueueFilter){0}, keep, &found, &e));
    assert_int_equal(found.count, 1);
    assert_string_equal(found.record.task, QUEUE_TASK_SWEEP);
    assert_string_equal(found.record.queue, "celery");
    assert_int_equal(found.record.phase, QUEUE_QUEUED);
    assert_int_equal(strlen(found.record.id), 36);
}

/* Its id follows from schedule and time: whoever fires it, it is the same task. */
static void
test_same_id(void **state)
{
    Bench *b = *state;
    char cron[64], path[BENCH_PATH_BYTES + 32];
    int64_t due_us = midnight(0, cron);
    Found found[2] = {{.arena = b->arena}, {.arena = b->arena}};

    for (int i = 0; i < 2; i++) {
        QueueSpec spec = {.dir = b->folder, .writes = true, .busy_ms = 2000};
        Process beat;
        Err e = {0};

        note_due(b, due_us - day_us);
        beat = start(b, cron, "10");
        wait_until_due_is(b, due_us);
        stop(&beat);
        assert_true(queue_embedded.visit(b->queue, &(QueueFilter){0}, keep, &found[i], &e));
        assert_int_equal(found[i].count, 1);
        queue_embedded.close(b->queue);
        snprintf(path, sizeof path, "%s/queue.db", b->folder);
        assert_int_equal(unlink(path), 0); /* another queue, as empty as the first */
        b->queue = queue_embedded.open(&spec, &e);
        assert_non_null(b->queue);
    }
    assert_string_equal(found[0].record.id, found[1].record.id);
}

static void
test_too_old(void **state)
{
    Bench *b = *state;
    char cron[64];
    int64_t due_us = midnight(3, cron);
    Process beat;

    note_due(b, due_us - day_us);
    beat = start(b, cron, "10");
    wait_until_due_is(b, due_us);
    stop(&beat);
    assert_int_equal(depth(b), 0);
}

#ifdef ROWFERRY_TESTING
/* A time that comes while they run: at once, and one task of all of them. */
static void
test_time_comes(void **state)
{
    Bench *b = *state;
    int64_t now_ms = time_wall_us() / 1000, offset_ms = 58500 - now_ms % 60000;
    int64_t due_us = (now_ms + offset_ms + 1500) * 1000, from_ms;
    Process beat[BEATS];

    note_due(b, due_us - minute_us);
    from_ms = time_now_ms();
    for (int i = 0; i < BEATS; i++)
        beat[i] = start_ahead(b, "* * * * *", "10", offset_ms);
    wait_until_due_is(b, due_us);
    assert_true(time_now_ms() - from_ms < WAIT_MS);
    a_moment();
    for (int i = 0; i < BEATS; i++)
        stop(&beat[i]);
    assert_int_equal(last_due(b), due_us);
    assert_int_equal(depth(b), 1);
}
#endif

/* The clock went back: what has fired stays so. */
static void
test_clock_went_back(void **state)
{
    Bench *b = *state;
    int64_t future_us = time_wall_us() / minute_us * minute_us + day_us / 2;
    Process beat;

    note_due(b, future_us);
    beat = start(b, "* * * * *", "10");
    a_moment();
    stop(&beat);
    assert_int_equal(last_due(b), future_us);
    assert_int_equal(depth(b), 0);
}

/* It had been wrong by years once: nobody waits until then. */
static void
test_clock_was_far_ahead(void **state)
{
    Bench *b = *state;
    int64_t until_ms = time_now_ms() + WAIT_MS, due_us;
    char cron[64];
    Process beat;

    due_us = midnight(2, cron);
    note_due(b, time_wall_us() / minute_us * minute_us + 1000 * day_us);
    beat = start(b, cron, "10");
    while (last_due(b) != due_us) {
        assert_true(time_now_ms() < until_ms);
        a_moment();
    }
    stop(&beat);
    assert_int_equal(depth(b), 0);
}

/* However many wait, and although the limit is reached. */
static void
test_full_queue(void **state)
{
    Bench *b = *state;
    char cron[64];
    int64_t due_us = midnight(0, cron);
    Process beat;

    for (int i = 0; i < 2; i++) {
        char id[16];
        QueuePut put = {.id = id,
            .task = QUEUE_TASK_EXPORT,
            .user_id = "u",
            .export_type = "t",
            .source = "s",
            .format = "csv",
            .request = "{}",
            .version = "",
            .request_id = "",
            .queue = "celery",
            .max_attempts = 3,
            .created_us = 1};
        Err e = {0};

        snprintf(id, sizeof id, "%d", i);
        assert_true(queue_embedded.put(b->queue, &put, 1, b->arena, &e));
    }
    note_due(b, due_us - day_us);
    beat = start(b, cron, "1");
    wait_until_due_is(b, due_us);
    stop(&beat);
    assert_int_equal(depth(b), 3);
}

/* The queue is not there yet, or not to be had: it is tried again until it is. */
static void
test_queue_comes_late(void **state)
{
    Bench *b = *state;
    char cron[64], path[BENCH_PATH_BYTES + 32];
    int64_t due_us = midnight(0, cron);
    Process beat;

    note_due(b, due_us - day_us);
    snprintf(path, sizeof path, "%s/queue.db", b->folder);
    assert_int_equal(chmod(path, 0644), 0); /* refused: others might read it */
    beat = start(b, cron, "10");
    a_moment();
    assert_int_equal(depth(b), 0);
    assert_int_equal(chmod(path, 0600), 0);
    wait_until_due_is(b, due_us);
    stop(&beat);
    assert_int_equal(depth(b), 1);
}

static void
test_wrong_configuration(void **state)
{
    Bench *b = *state;
    Process beat = start(b, "0 0 31 2 *", "10");
    int status = -1;

    assert_int_equal(waitpid(beat.pid, &status, 0), beat.pid);
    close(beat.pid_fd);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 2 || WEXITSTATUS(status) == 77);
}

int
main(int argc, char **argv)
{
#define CHECK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CHECK(test_first_start),
        CHECK(test_missed_time_is_made_up_for_once),
        CHECK(test_same_id),
        CHECK(test_too_old),
#ifdef ROWFERRY_TESTING
        CHECK(test_time_comes),
#endif
        CHECK(test_clock_went_back),
        CHECK(test_clock_was_far_ahead),
        CHECK(test_full_queue),
        CHECK(test_queue_comes_late),
        CHECK(test_wrong_configuration),
    };
#undef CHECK

    (void)signal(SIGPIPE, SIG_IGN); /* as every role does */
    if (argc == 2 && strcmp(argv[1], "beat") == 0)
        return play_beat();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
