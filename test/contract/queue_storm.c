/* The promises of a queue when many want it at once, and when they die. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "test/contract/queue_bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum {
    THREADS = 4,
    KEYS = 20,
    DUES = 40,
    HAMMERS = 2,
    HAMMERED = 200, /* tasks of each hammer */
    GROUP = 4,
    STORM_MS = 120000,
    KILLS = 8,
    WORK_LEASE_MS = 500,
    PATH_BYTES = 256,
};

/* What threads find out; only the main thread may fail a check. */
typedef struct {
    const char *place;
    int number;
    atomic_int *times; /* how often each thing was done, by anybody */
    atomic_int *left;
    char wrong[512]; /* "" is good */
} Soldier;

static bool
note(Soldier *s, const char *what, const Err *e)
{
    char chain[400];

    if (!s->wrong[0])
        snprintf(s->wrong, sizeof s->wrong, "%s: %s", what, err_chain(e, chain, sizeof chain));
    return false;
}

static Queue *
enlist(Soldier *s)
{
    QueueSpec spec = bench->spec(s->place);
    Err e = {0};
    Queue *q = bench->kind->open(&spec, &e);

    if (!q)
        note(s, "open", &e);
    return q;
}

static void
storm(const char *place, int count, void *(*run)(void *), atomic_int *times, atomic_int *left)
{
    Soldier soldier[THREADS];
    pthread_t thread[THREADS];

    for (int i = 0; i < count; i++) {
        soldier[i] =
            (Soldier){.place = place, .number = i, .times = times, .left = left, .wrong = ""};
        assert_int_equal(pthread_create(&thread[i], NULL, run, &soldier[i]), 0);
    }
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < count; i++)
        if (soldier[i].wrong[0])
            fail_msg("thread %d: %s", i, soldier[i].wrong);
}

/* --- one key, many who use it --- */

static void *
use_keys(void *with)
{
    Soldier *s = with;
    Queue *q = enlist(s);
    Arena *arena = arena_new(1 << 20);

    for (int k = 0; q && k < KEYS; k++) {
        char id[32], key[32];
        QueuePut put = bench_task(id);
        Err e = {0};

        snprintf(id, sizeof id, "id-%d-%d", s->number, k);
        snprintf(key, sizeof key, "key-%d", k);
        put.idempotency_scope = "u";
        put.idempotency_key = key;
        put.idempotency_hash = "h";
        put.answer = id;
        if (!bench->kind->put(q, &put, 1, arena, &e))
            note(s, "put", &e);
        else if (put.verdict == QUEUE_PUT_NEW)
            atomic_fetch_add(&s->times[k], 1);
        else if (put.verdict != QUEUE_PUT_REPLAYED || !text_starts(put.replay, "id-"))
            note(s, "verdict", &e);
    }
    if (q)
        bench_close(q);
    arena_free(arena);
    return NULL;
}

static void
test_same_keys_at_once(void **state)
{
    const char *place = bench->fresh();
    atomic_int times[KEYS] = {0};
    Queue *q;
    QueueCounts counts;
    Err e = {0};

    (void)state;
    /* Nobody has made the queue yet: its first openers come at the same time, too. */
    storm(place, THREADS, use_keys, times, NULL);
    for (int k = 0; k < KEYS; k++)
        assert_int_equal(times[k], 1);
    q = bench_open(place);
    assert_true(bench->kind->count(q, &counts, &e));
    assert_int_equal(counts.depth, KEYS);
    bench_close(q);
}

/* --- due times --- */

static bool
fire_all(Queue *q, atomic_int *times, Err *e)
{
    for (int d = 0; d < DUES; d++) {
        char id[32];
        QueuePut put = bench_task(id);
        QueueFire fire = {.schedule = "sch", .due_us = (d + 1) * 60000000LL, .put = &put};

        snprintf(id, sizeof id, "due-%d", d);
        if (!bench->kind->fire(q, &fire, e))
            return false;
        if (fire.fired)
            atomic_fetch_add(&times[d], 1);
    }
    return true;
}

static void *
fire_dues(void *with)
{
    Soldier *s = with;
    Queue *q = enlist(s);
    Err e = {0};

    if (q && !fire_all(q, s->times, &e))
        note(s, "fire", &e);
    if (q)
        bench_close(q);
    return NULL;
}

static void
assert_depth(const char *place, uint64_t depth)
{
    Queue *q = bench_open(place);
    QueueCounts counts;
    Err e = {0};

    assert_true(bench->kind->count(q, &counts, &e));
    assert_int_equal(counts.depth, depth);
    bench_close(q);
}

static void
test_fires_at_once(void **state)
{
    const char *place = bench->fresh();
    atomic_int times[DUES] = {0};
    int fired = 0;

    (void)state;
    storm(place, THREADS, fire_dues, times, NULL);
    /* Whoever is late finds a later time fired already, and leaves the earlier one out. */
    for (int d = 0; d < DUES; d++) {
        assert_true(times[d] <= 1);
        fired += times[d];
    }
    assert_int_equal(times[DUES - 1], 1);
    assert_depth(place, (uint64_t)fired);
}

/* --- put, take, complete --- */

static bool
put_some(Queue *q, int hammer, int from, Arena *arena, Err *e)
{
    char id[GROUP][32];
    QueuePut put[GROUP];

    for (int i = 0; i < GROUP; i++) {
        snprintf(id[i], sizeof id[i], "%d", hammer * HAMMERED + from + i);
        put[i] = bench_task(id[i]);
    }
    return bench->kind->put(q, put, GROUP, arena, e);
}

/* Takes what there is and completes it; how many were. -1 and `e`. */
static int
complete_some(Queue *q, atomic_int *times, Arena *arena, Err *e)
{
    QueueTake take = bench_wants(GROUP);
    QueueRecord r[GROUP];
    QueueWrite write[2 * GROUP];
    size_t taken;
    int completed = 0;

    if (!bench->kind->take(q, &take, r, &taken, arena, e))
        return -1;
    for (size_t i = 0; i < taken; i++) {
        write[2 * i] = bench_write_of(QUEUE_PREPARE, &r[i]);
        write[2 * i + 1] = bench_write_of(QUEUE_COMPLETE, &r[i]);
    }
    if (!bench->kind->write(q, write, 2 * taken, e))
        return -1;
    for (size_t i = 0; i < taken; i++)
        if (write[2 * i + 1].verdict == QUEUE_WRITTEN && r[i].epoch == 1) {
            atomic_fetch_add(&times[strtol(r[i].id, NULL, 10)], 1);
            completed++;
        }
    return completed;
}

static void *
hammer(void *with)
{
    Soldier *s = with;
    Queue *q = enlist(s);
    int64_t until_ms = time_now_ms() + STORM_MS;
    Err e = {0};

    for (int put = 0; q && atomic_load(s->left) > 0;) {
        Arena *arena = arena_new(1 << 20);
        int completed;

        if (put < HAMMERED && !put_some(q, s->number, put, arena, &e)) {
            note(s, "put", &e);
            break;
        }
        put += put < HAMMERED ? GROUP : 0;
        completed = complete_some(q, s->times, arena, &e);
        arena_free(arena);
        if (completed < 0 || time_now_ms() > until_ms) {
            note(s, completed < 0 ? "complete" : "not done in time", &e);
            break;
        }
        atomic_fetch_sub(s->left, completed);
    }
    if (q)
        bench_close(q);
    return NULL;
}

static void
test_hammers(void **state)
{
    const char *place = bench->fresh();
    static atomic_int times[HAMMERS * HAMMERED];
    atomic_int left = HAMMERS * HAMMERED;
    Queue *q;
    QueueCounts counts;
    Err e = {0};

    (void)state;
    storm(place, HAMMERS, hammer, times, &left);
    for (int i = 0; i < HAMMERS * HAMMERED; i++)
        if (times[i] != 1)
            fail_msg("task %d was completed %d times", i, times[i]);
    q = bench_open(place);
    assert_true(bench->kind->count(q, &counts, &e));
    assert_int_equal(counts.depth + counts.running, 0);
    bench_close(q);
}

/* --- processes of their own --- */

static void
scratch(char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "/tmp/rowferry-queue-words.XXXXXX");
    close(mkstemp(path));
}

/* One line, whole even among many who write. */
static bool
say(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line);

    if (fd >= 0)
        close(fd);
    return ok;
}

static char *
hear(const char *path, Arena *arena)
{
    struct stat is;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Err e = {0};
    char *text;

    assert_true(fd >= 0 && fstat(fd, &is) == 0);
    text = arena_alloc(arena, (size_t)is.st_size + 1, &e);
    assert_non_null(text);
    assert_int_equal(read(fd, text, (size_t)is.st_size), is.st_size);
    close(fd);
    return text;
}

static void
wait_for(const char *path, const char *word, Arena *arena)
{
    int64_t until_ms = time_now_ms() + 20000;

    while (!strstr(hear(path, arena), word)) {
        if (time_now_ms() > until_ms)
            fail_msg("nobody said %s", word);
        bench_sleep_ms(5);
    }
}

static Process
start(const char *role, const char *place, const char *path, const char *word)
{
    const char *const args[] = {role, place, path, word, NULL};
    const char *const environment[] = {"PATH=/usr/bin:/bin", "LSAN_OPTIONS=detect_leaks=0", NULL};
    ProcessStart how = {.args = args, .environment = environment};
    Process process;
    Err e = {0};

    if (!process_start(&how, &process, &e))
        fail_msg("%s", err_root(&e));
    return process;
}

static int
end(Process *process, int signal)
{
    int status = -1;

    if (signal)
        (void)kill(process->pid, signal);
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    close(process->pid_fd);
    return status;
}

/* "fire": fires all due times, and says which ones were its own. */
static int
play_fire(const char *place, const char *path)
{
    Soldier s = {.place = place};
    Queue *q = enlist(&s);
    atomic_int times[DUES] = {0};
    Err e = {0};

    if (!q || !fire_all(q, times, &e))
        return 1;
    for (int d = 0; d < DUES; d++) {
        char line[32];

        snprintf(line, sizeof line, "fired %d.\n", d);
        if (times[d] && !say(path, line))
            return 1;
    }
    bench_close(q);
    return 0;
}

/* "sleep": says "ready", sleeps until it is woken, says "woken". */
static int
play_sleep(const char *place, const char *path)
{
    Soldier s = {.place = place};
    Queue *q = enlist(&s);
    struct pollfd fd = {.events = POLLIN};

    if (!q)
        return 1;
    fd.fd = bench->kind->wake_fd(q);
    bench->kind->wake_clear(q);
    if (!say(path, "ready\n") || poll(&fd, 1, 20000) != 1 || !say(path, "woken\n"))
        return 1;
    bench_close(q);
    return 0;
}

/* "work": puts and completes, and says so after the queue did, until it is killed. */
static int
play_work(const char *place, const char *path, const char *name)
{
    Soldier s = {.place = place};
    Queue *q = enlist(&s);
    Err e = {0};

    for (int i = 0; q; i++) {
        char id[64], line[96];
        QueuePut put = bench_task(id);
        QueueTake take = bench_wants(2);
        QueueWrite write[4];
        QueueRecord r[2];
        size_t taken;
        Arena *arena = arena_new(1 << 20);

        snprintf(id, sizeof id, "%s-%d", name, i);
        if (!bench->kind->put(q, &put, 1, arena, &e))
            return 1;
        snprintf(line, sizeof line, "put %s\n", id);
        if (put.verdict != QUEUE_PUT_NEW || !say(path, line))
            return 1;
        take.lease_ms = WORK_LEASE_MS;
        if (!bench->kind->take(q, &take, r, &taken, arena, &e))
            return 1;
        for (size_t t = 0; t < taken; t++) {
            write[2 * t] = bench_write_of(QUEUE_PREPARE, &r[t]);
            write[2 * t].lease_ms = WORK_LEASE_MS;
            write[2 * t + 1] = bench_write_of(QUEUE_COMPLETE, &r[t]);
        }
        /* In two transactions, so that some are killed between them. */
        for (size_t t = 0; t < 2 * taken; t++)
            if (!bench->kind->write(q, write + t, 1, &e))
                return 1;
        for (size_t t = 0; t < taken; t++) {
            snprintf(line, sizeof line, "done %s\n", r[t].id);
            if (write[2 * t + 1].verdict == QUEUE_WRITTEN && !say(path, line))
                return 1;
        }
        arena_free(arena);
    }
    return 1;
}

bool
queue_contract_plays(const QueueContract *contract, int argc, char **argv, int *status)
{
    if (argc < 5)
        return false;
    bench = contract;
    process_begin(true, getppid()); /* a test that fails leaves nothing behind */
    if (strcmp(argv[1], "fire") == 0)
        *status = play_fire(argv[2], argv[3]);
    else if (strcmp(argv[1], "sleep") == 0)
        *status = play_sleep(argv[2], argv[3]);
    else if (strcmp(argv[1], "work") == 0)
        *status = play_work(argv[2], argv[3], argv[4]);
    else
        return false;
    return true;
}

static void
test_processes_fire(void **state)
{
    enum { PROCESSES = 3 };
    const char *place = bench->fresh();
    Arena *arena = arena_new(1 << 20);
    Process process[PROCESSES];
    char path[PATH_BYTES], line[32];
    uint64_t fired = 0;
    const char *words;

    (void)state;
    scratch(path);
    for (int i = 0; i < PROCESSES; i++)
        process[i] = start("fire", place, path, "-");
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(end(&process[i], 0), 0);
    words = hear(path, arena);
    for (int d = 0; d < DUES; d++) {
        const char *first;

        snprintf(line, sizeof line, "fired %d.", d);
        if (!(first = strstr(words, line)))
            continue;
        fired++;
        if (strstr(first + 1, line))
            fail_msg("due time %d fired twice", d);
    }
    assert_depth(place, fired);
    assert_true(fired >= 1);
    unlink(path);
    arena_free(arena);
}

static void
test_process_is_woken(void **state)
{
    const char *place = bench->fresh();
    Queue *q = bench_open(place);
    Arena *arena = arena_new(1 << 20);
    char path[PATH_BYTES];
    Process process;

    (void)state;
    scratch(path);
    process = start("sleep", place, path, "-");
    wait_for(path, "ready", arena);
    bench_put_new(q, "wakes");
    wait_for(path, "woken", arena);
    assert_int_equal(end(&process, 0), 0);
    /* One that is killed in its sleep stands in nobody's way. */
    process = start("sleep", place, path, "-");
    bench_sleep_ms(50);
    (void)end(&process, SIGKILL);
    bench_put_new(q, "goes on");
    bench_close(q);
    unlink(path);
    arena_free(arena);
}

static bool
take_over(const QueueRecord *record, void *with, Err *e)
{
    Buf *ids = with;

    (void)e;
    if (record->phase == QUEUE_RUNNING)
        buf_printf(ids, "%s %lld\n", record->id, (long long)record->epoch);
    return true;
}

/* What a worker does with what others left behind, until nothing is left. */
static void
finish_all(Queue *q)
{
    const QueueFilter over = {.lease_over = true};
    int64_t until_ms = time_now_ms() + 60000;
    QueueCounts counts;
    Err e = {0};

    do {
        Arena *arena = arena_new(4 << 20);
        Buf ids = buf_new(1 << 20);
        QueueTake take = bench_wants(GROUP);
        QueueRecord r[GROUP];
        size_t taken;

        assert_true(bench->kind->visit(q, &over, take_over, &ids, &e));
        for (char *line = ids.data, *next; *line; line = next + 1) {
            char *space = strchr(line, ' ');
            QueueRecord left = {.id = line, .epoch = strtol(space, NULL, 10)};
            QueueWrite write = bench_write_of(QUEUE_RETRY, &left);

            next = strchr(line, '\n');
            *space = '\0';
            write.if_lease_over = true;
            assert_true(bench->kind->write(q, &write, 1, &e));
        }
        assert_true(bench->kind->take(q, &take, r, &taken, arena, &e));
        for (size_t i = 0; i < taken; i++) {
            QueueWrite write = bench_write_of(QUEUE_PREPARE, &r[i]);

            if (r[i].phase != QUEUE_PREPARED)
                assert_int_equal(bench_write(q, &write), QUEUE_WRITTEN);
            write = bench_write_of(QUEUE_COMPLETE, &r[i]);
            assert_int_equal(bench_write(q, &write), QUEUE_WRITTEN);
        }
        buf_free(&ids);
        arena_free(arena);
        assert_true(bench->kind->count(q, &counts, &e));
        if (time_now_ms() > until_ms)
            fail_msg("%d wait and %d run for ever", (int)counts.depth, (int)counts.running);
        if (taken == 0)
            bench_sleep_ms(20);
    } while (counts.depth + counts.running > 0);
}

static void
test_killed_at_random(void **state)
{
    const char *place = bench->fresh();
    Arena *arena = arena_new(16 << 20);
    char path[PATH_BYTES], *words;
    int puts = 0, done = 0;
    Queue *q;

    (void)state;
    scratch(path);
    for (int round = 0; round < KILLS; round++) {
        char name[2][32];
        Process process[2];
        unsigned random = 0;

        for (int i = 0; i < 2; i++) {
            snprintf(name[i], sizeof name[i], "r%d-%d", round, i);
            process[i] = start("work", place, path, name[i]);
        }
        wait_for(path, name[0], arena);
        assert_int_equal(getrandom(&random, sizeof random, 0), sizeof random);
        bench_sleep_ms(random % 120);
        for (int i = 0; i < 2; i++)
            assert_true(WIFSIGNALED(end(&process[i], SIGKILL)));
    }
    q = bench_open(place);
    /* All that was answered is there, and what had ended has not changed. */
    words = hear(path, arena);
    for (char *line = strtok(words, "\n"); line; line = strtok(NULL, "\n")) {
        bool is_put = text_starts(line, "put ");
        QueueRecord r = bench_find(q, line + (is_put ? 4 : 5), arena);

        puts += is_put;
        done += !is_put;
        if (!is_put && r.phase != QUEUE_COMPLETED)
            fail_msg("%s was completed and is %s", r.id, queue_phase_name(r.phase));
    }
    assert_true(puts >= KILLS && done > 0);
    finish_all(q);
    words = hear(path, arena);
    for (char *line = strtok(words, "\n"); line; line = strtok(NULL, "\n"))
        assert_int_equal(bench_find(q, strchr(line, ' ') + 1, arena).phase, QUEUE_COMPLETED);
    bench_close(q);
    unlink(path);
    arena_free(arena);
}

int
queue_storm(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_keys_at_once),
        cmocka_unit_test(test_fires_at_once),
        cmocka_unit_test(test_hammers),
        cmocka_unit_test(test_processes_fire),
        cmocka_unit_test(test_process_is_woken),
        cmocka_unit_test(test_killed_at_random),
    };

    return cmocka_run_group_tests_name("queue storm", tests, NULL, NULL);
}
