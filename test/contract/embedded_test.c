/* The embedded queue keeps what every queue promises, and what its file makes it promise. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/time.h"
#include "test/contract/queue_bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

extern const QueueKind queue_embedded;

enum { PLACES_MAX = 128, PATH_BYTES = 512, BUSY_MS = 2000, SHORT_MS = 600 };

/* --- scratch folders --- */

static char places[PLACES_MAX][PATH_BYTES];
static int places_count;

static const char *
fresh(void)
{
    char *place = places[places_count];

    assert_true(places_count < PLACES_MAX);
    snprintf(place, PATH_BYTES, "/tmp/rowferry-embedded.XXXXXX");
    assert_non_null(mkdtemp(place));
    places_count++;
    return place;
}

static QueueSpec
spec_of(const char *place)
{
    return (QueueSpec){.dir = place, .writes = true, .wakes = true, .busy_ms = BUSY_MS};
}

static const QueueContract contract = {&queue_embedded, fresh, spec_of};

static void
remove_tree(const char *place)
{
    char command[PATH_BYTES + 16];
    const char *const names[] = {
        "queue.db", "queue.db-wal", "queue.db-shm", "queue.lock", "real.db"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(command, sizeof command, "%s/%s", place, names[i]);
        (void)unlink(command);
    }
    snprintf(command, sizeof command, "%s/run", place);
    (void)rmdir(command);
    (void)rmdir(place);
}

static void
path_in(const char *place, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", place, name);
}

/* Another program with its hands on the file. */
static sqlite3 *
open_raw(const char *place)
{
    char path[PATH_BYTES];
    sqlite3 *db;

    path_in(place, "queue.db", path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static void
raw(sqlite3 *db, const char *sql)
{
    char *message = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}

static void
assert_file_is_good(const char *place)
{
    sqlite3 *db = open_raw(place);
    sqlite3_stmt *statement;

    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA quick_check", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

/* --- opening --- */

static void
must_not_open(const char *place, bool writes, const char *says)
{
    QueueSpec spec = spec_of(place);
    Err e = {0};
    char chain[1024];

    spec.writes = writes;
    spec.busy_ms = SHORT_MS;
    if (queue_embedded.open(&spec, &e))
        fail_msg("opened, though: %s", says);
    assert_int_equal(e.code, ERR_QUEUE_UNAVAILABLE);
    if (!strstr(err_chain(&e, chain, sizeof chain), says))
        fail_msg("says \"%s\", not \"%s\"", chain, says);
}

static void
write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0 && fchmod(fd, mode) == 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void
test_files_that_are_none(void **state)
{
    char path[PATH_BYTES], target[PATH_BYTES];
    const char *place = fresh();

    (void)state;
    path_in(place, "queue.db", path);
    write_file(path, "This is a text, and a text is no database, however long it is.", 0600);
    must_not_open(place, true, "not a database");
    assert_int_equal(unlink(path), 0);
    /* A link, even to a good file. */
    bench_close(bench_open(place));
    path_in(place, "real.db", target);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink("real.db", path), 0);
    must_not_open(place, true, "not a file of ours");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    must_not_open(place, true, "not a file of ours");
    assert_int_equal(rmdir(path), 0);
    path_in(place, "queue.lock", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("real.db", path), 0);
    must_not_open(place, true, "queue.lock");
    assert_int_equal(unlink(path), 0);
    /* A handle that reads makes no file. */
    must_not_open(place, false, "queue.db");
    must_not_open("/tmp/rowferry-there-is-no-such-folder", true, "rowferry-there-is-no-such");
}

static void
test_others_may_not_read(void **state)
{
    char path[PATH_BYTES];
    const char *place = fresh();
    mode_t before = umask(0);
    struct stat is;

    (void)state;
    bench_close(bench_open(place));
    (void)umask(before);
    path_in(place, "queue.db", path);
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_mode & 0777, 0600);
    path_in(place, "run", path);
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_mode & 0777, 0700);
    path_in(place, "queue.db", path);
    assert_int_equal(chmod(path, 0640), 0);
    must_not_open(place, true, "chmod 600");
    must_not_open(place, false, "chmod 600");
}

static void
test_newer_version(void **state)
{
    const char *place = fresh();
    sqlite3 *db;

    (void)state;
    bench_close(bench_open(place));
    db = open_raw(place);
    raw(db, "PRAGMA user_version = 99");
    must_not_open(place, true, "version 99");
    raw(db, "PRAGMA user_version = 3");
    sqlite3_close(db);
    bench_close(bench_open(place));
}

/* A file that an earlier version made comes up to this one, with all that is in it; who only reads
 * leaves that to others. */
static void
test_older_version(void **state)
{
    const QueueSource word = {"shop", "", 3, time_wall_us()};
    const char *place = fresh();
    Arena *arena = arena_new(1 << 20);
    Queue *q = bench_open(place);
    Err e = {0};
    sqlite3 *db;

    (void)state;
    bench_put_new(q, "a");
    bench_close(q);
    db = open_raw(place);
    raw(db, "DROP TABLE source; PRAGMA user_version = 2");
    sqlite3_close(db);
    must_not_open(place, false, "version 2");
    q = bench_open(place);
    assert_int_equal(bench_find(q, "a", arena).phase, QUEUE_QUEUED);
    bench_must(queue_embedded.note_source(q, &word, &e), "note_source", &e);
    bench_close(q);
    db = open_raw(place);
    raw(db, "PRAGMA user_version = 1"); /* of no version that went out */
    must_not_open(place, true, "version 1");
    sqlite3_close(db);
    arena_free(arena);
}

static void
test_reader_does_not_write(void **state)
{
    const char *place = fresh(), *promise;
    QueueSpec spec = spec_of(place);
    Queue *writer = bench_open(place), *reader;
    Arena *arena = arena_new(1 << 20);
    QueuePut put = bench_task("no");
    Err e = {0};

    (void)state;
    spec.writes = false;
    reader = queue_embedded.open(&spec, &e);
    assert_non_null(reader);
    bench_put_new(writer, "a");
    assert_int_equal(bench_find(reader, "a", arena).phase, QUEUE_QUEUED);
    assert_true(queue_embedded.check(reader, &promise, &e));
    assert_false(queue_embedded.put(reader, &put, 1, arena, &e));
    assert_int_equal(e.code, ERR_QUEUE_UNAVAILABLE);
    bench_close(reader);
    bench_close(writer);
    arena_free(arena);
}

/* --- faults --- */

/* A folder that nothing can be written to; played by a process that is not root, for root may
 * write everywhere. */
static int
play_read_only(const char *place)
{
    QueueSpec spec = spec_of(place);
    char chain[1024];
    Err e = {0};

    spec.busy_ms = SHORT_MS;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 2;
    if (queue_embedded.open(&spec, &e))
        return 3;
    return e.code == ERR_QUEUE_UNAVAILABLE && strstr(err_chain(&e, chain, sizeof chain), place) ? 0
                                                                                                : 4;
}

static void
test_read_only_folder(void **state)
{
    const char *place = fresh();
    const char *const args[] = {"read-only", place, "-", "-", NULL};
    ProcessStart how = {.args = args};
    Process process;
    int status;
    Err e = {0};

    (void)state;
    if (geteuid() == 0)
        assert_int_equal(chown(place, 65534, 65534), 0);
    assert_int_equal(chmod(place, 0555), 0);
    assert_true(process_start(&how, &process, &e));
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    close(process.pid_fd);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(place, 0700), 0);
}

/* No room, at every size of the file that a few puts pass through: nothing half, and it goes on
 * when there is room again. */
static void
test_no_room(void **state)
{
    const char *place = fresh();
    struct rlimit before, limit;
    Arena *arena = arena_new(16 << 20);
    int refused = 0, put_at_all = 0;
    char path[PATH_BYTES];
    Queue *q = bench_open(place);
    sqlite3 *reader = open_raw(place);
    struct stat is;

    (void)state;
    raw(reader, "BEGIN; SELECT count(*) FROM task"); /* so that the log cannot begin anew */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    path_in(place, "queue.db-wal", path);
    for (int i = 0; i < 60; i++) {
        char id[32];
        QueuePut put = bench_task(id);
        QueueRecord r;
        Err e = {0};
        bool ok;

        snprintf(id, sizeof id, "n%d", i);
        assert_int_equal(stat(path, &is), 0);
        limit = before;
        limit.rlim_cur = (rlim_t)is.st_size + (rlim_t)i * 400;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        ok = queue_embedded.put(q, &put, 1, arena, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        if (ok) {
            put_at_all++;
            (void)bench_find(q, id, arena);
            continue;
        }
        refused++;
        if (e.code != ERR_STORAGE_FULL)
            fail_msg("%s", err_root(&e));
        err_clear(&e);
        assert_false(queue_embedded.find(q, id, arena, &r, &e));
        assert_int_equal(e.code, ERR_EXPORT_NOT_FOUND);
        bench_put_new(q, id);
    }
    assert_true(refused > 5 && put_at_all > 5);
    sqlite3_close(reader);
    bench_close(q);
    assert_file_is_good(place);
    arena_free(arena);
}

/* A full disk: one write is refused, and after it there is room in the log for those that help. */
static void
test_no_room_on_the_disk_but_in_the_log(void **state)
{
    const char *place = fresh();
    struct rlimit before, limit;
    Arena *arena = arena_new(16 << 20);
    char path[PATH_BYTES], id[32];
    int written = 0, refused = 0;
    Queue *q = bench_open(place);
    struct stat is;
    Err e = {0};

    (void)state;
    for (int i = 0; i < 30; i++) {
        snprintf(id, sizeof id, "f%d", i);
        bench_put_new(q, id);
    }
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    path_in(place, "queue.db-wal", path);
    assert_int_equal(stat(path, &is), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)is.st_size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < 20; i++) {
        QueueCancel cancel = {.id = id, .by = "test", .reason = "", .now_us = 1};

        snprintf(id, sizeof id, "f%d", i);
        err_clear(&e);
        if (queue_embedded.cancel(q, &cancel, 1, &e))
            written++;
        else if (refused++, e.code != ERR_STORAGE_FULL)
            fail_msg("%s", err_root(&e));
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(refused >= 1 && written >= 15);
    bench_close(q);
    assert_file_is_good(place);
    arena_free(arena);
}

/* A lock that somebody else keeps, each kind there is, and both one after the other. */
typedef struct {
    int lock;
    int64_t for_ms;
} Holder;

static void *
hold_lock(void *with)
{
    Holder *h = with;

    bench_sleep_ms(h->for_ms);
    (void)flock(h->lock, LOCK_UN);
    return NULL;
}

static void
put_in_vain(Queue *q, Arena *arena)
{
    int64_t from_ms = time_now_ms(), took_ms;
    QueuePut put = bench_task("vain");
    Err e = {0};

    assert_false(queue_embedded.put(q, &put, 1, arena, &e));
    took_ms = time_now_ms() - from_ms;
    assert_int_equal(e.code, ERR_QUEUE_UNAVAILABLE);
    if (took_ms < SHORT_MS - 20 || took_ms > 2 * SHORT_MS - 100)
        fail_msg("gave up after %d ms", (int)took_ms);
}

static void
test_locked(void **state)
{
    const char *place = fresh();
    QueueSpec spec = spec_of(place);
    Arena *arena = arena_new(1 << 20);
    char path[PATH_BYTES];
    pthread_t thread;
    Holder holder = {.for_ms = SHORT_MS - 100};
    sqlite3 *db;
    Queue *q;
    Err e = {0};

    (void)state;
    spec.busy_ms = SHORT_MS;
    q = queue_embedded.open(&spec, &e);
    assert_non_null(q);
    path_in(place, "queue.lock", path);
    holder.lock = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(holder.lock, LOCK_EX), 0);
    put_in_vain(q, arena);
    assert_int_equal(flock(holder.lock, LOCK_UN), 0);
    db = open_raw(place);
    raw(db, "BEGIN IMMEDIATE");
    put_in_vain(q, arena);
    assert_int_equal(flock(holder.lock, LOCK_EX), 0);
    assert_int_equal(pthread_create(&thread, NULL, hold_lock, &holder), 0);
    put_in_vain(q, arena);
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* Reading goes on meanwhile. */
    assert_false(queue_embedded.find(q, "vain", arena, &(QueueRecord){0}, &e));
    assert_int_equal(e.code, ERR_EXPORT_NOT_FOUND);
    raw(db, "ROLLBACK");
    sqlite3_close(db);
    bench_put_new(q, "vain");
    bench_close(q);
    close(holder.lock);
    arena_free(arena);
}

/* The roles of a first start come to a new folder at the same moment: all get their handle. */
enum { STARTERS = 8, STARTS = 200, STEP_US = 50, STEPS = 40 };

/* In a process of its own, and its exit status: the locks of SQLite's files are between processes.
 * It ends as it is: closing would give the others time. */
static int
start(const char *place, const atomic_bool *gate, int wait_us)
{
    const QueueSpec spec = {.dir = place, .writes = true, .busy_ms = BUSY_MS};
    Err e = {0};

    while (!atomic_load(gate))
        continue;
    (void)usleep((useconds_t)wait_us);
    if (queue_embedded.open(&spec, &e))
        return 0;
    fprintf(stderr, "%s\n", err_root(&e));
    return 1;
}

static void
test_first_opened_by_many(void **state)
{
    const char *place = fresh();
    atomic_bool *gate =
        mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(gate, MAP_FAILED);
    for (int round = 0; round < STARTS; round++) {
        int failed = 0, status;

        atomic_store(gate, false);

        for (int i = 0; i < STARTERS; i++) {
            pid_t pid = fork();

            assert_true(pid >= 0);
            if (pid == 0)
                _exit(start(place, gate, i * (round % STEPS) * STEP_US));
        }
        atomic_store(gate, true);
        while (wait(&status) > 0)
            failed += status != 0;
        assert_int_equal(failed, 0);
        remove_tree(place);
        assert_int_equal(mkdir(place, 0700), 0);
    }
    (void)munmap(gate, sizeof *gate);
}

/* Signals that come meanwhile do not cut the wait short. */
static volatile sig_atomic_t rings;

static void
ring(int number)
{
    (void)number;
    rings++;
}

typedef struct {
    pthread_t sleeper;
    Holder holder;
} Ringer;

static void *
ring_all_the_time(void *with)
{
    Ringer *ringer = with;

    for (int i = 0; i < 10; i++) {
        bench_sleep_ms(10);
        (void)pthread_kill(ringer->sleeper, SIGUSR1);
    }
    (void)flock(ringer->holder.lock, LOCK_UN);
    return NULL;
}

static void
test_signals_while_locked(void **state)
{
    const char *place = fresh();
    const struct sigaction action = {.sa_handler = ring};
    struct sigaction before;
    Ringer ringer = {.sleeper = pthread_self()};
    char path[PATH_BYTES];
    pthread_t thread;
    Queue *q = bench_open(place);

    (void)state;
    path_in(place, "queue.lock", path);
    ringer.holder.lock = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(ringer.holder.lock, LOCK_EX), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, ring_all_the_time, &ringer), 0);
    bench_put_new(q, "patient");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    assert_true(rings > 0);
    close(ringer.holder.lock);
    bench_close(q);
}

/* --- owners that are gone --- */

static void
test_owner_is_gone(void **state)
{
    const char *place = fresh();
    const char *const args[] = {"nothing", place, "-", "-", NULL};
    const QueueFilter over = {.lease_over = true};
    ProcessStart how = {.args = args};
    Arena *arena = arena_new(1 << 20);
    Queue *q = bench_open(place);
    QueueTake take = bench_wants(1);
    QueueWrite write;
    QueueRecord r, again;
    Process process;
    int status;
    Err e = {0};

    (void)state;
    (void)over;
    assert_true(process_start(&how, &process, &e));
    take.owner = (QueueOwner){"celery@dead", process.pid, process_born(process.pid)};
    bench_put_new(q, "t");
    assert_int_equal(bench_take(q, &take, &r, arena), 1);
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    close(process.pid_fd);
    /* Its lease has long to go; but no process holds it. */
    again = bench_find(q, "t", arena);
    assert_true(again.owner_is_gone && again.lease_is_over);
    write = bench_write_of(QUEUE_PREPARE, &r);
    assert_int_equal(bench_write(q, &write), QUEUE_WRITTEN);
    again = bench_take_one(q, "t", arena);
    assert_int_equal(again.phase, QUEUE_PREPARED);
    assert_false(bench_find(q, "t", arena).lease_is_over);
    bench_close(q);
    arena_free(arena);
}

static void
test_other_boot(void **state)
{
    const char *place = fresh();
    Arena *arena = arena_new(1 << 20);
    Queue *q = bench_open(place);
    QueueOwner me = bench_owner();
    sqlite3 *db = open_raw(place);
    QueueCounts counts;
    Err e = {0};

    (void)state;
    (void)bench_bring(q, "t", QUEUE_RUNNING, arena);
    assert_true(queue_embedded.heartbeat(q, &me, &e));
    raw(db, "UPDATE task SET lease_scope = 'before'; UPDATE worker SET scope = 'before'");
    assert_true(bench_find(q, "t", arena).lease_is_over);
    assert_true(queue_embedded.count(q, &counts, &e));
    assert_int_equal(counts.workers, 0);
    sqlite3_close(db);
    bench_close(q);
    arena_free(arena);
}

/* A retry that was written while the clock was years ahead waits for no year. */
static void
test_clock_was_ahead(void **state)
{
    const char *place = fresh();
    Arena *arena = arena_new(1 << 20);
    Queue *q = bench_open(place);
    sqlite3 *db = open_raw(place);
    const QueuePhase phases[] = {QUEUE_RUNNING, QUEUE_PREPARED};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *id = i == 0 ? "r" : "p";
        QueueTake take = {.owner = bench_owner(), .wanted = 1, .lease_ms = 60000};
        QueueRecord r = bench_bring(q, id, phases[i], arena);
        QueueWrite write = bench_write_of(QUEUE_RETRY, &r);

        write.available_us = time_wall_us() + 3600000000LL;
        assert_int_equal(bench_write(q, &write), QUEUE_WRITTEN);
        assert_int_equal(bench_take(q, &take, &r, arena), 0);
        raw(db, "UPDATE task SET heartbeat_us = heartbeat_us + 1000000000000000,"
                " available_us = available_us + 1000000000000000 WHERE owner IS NULL");
        assert_int_equal(bench_take(q, &take, &r, arena), 1);
        assert_string_equal(r.id, id);
    }
    sqlite3_close(db);
    bench_close(q);
    arena_free(arena);
}

/* Containers have pids of their own: a neighbour cannot be seen, and is not dead for that. */
static void
test_other_container(void **state)
{
    const char *place = fresh();
    Arena *arena = arena_new(1 << 20);
    Queue *q = bench_open(place);
    QueueOwner me = bench_owner();
    sqlite3 *db = open_raw(place);
    QueueRecord record;
    QueueCounts counts;
    Err e = {0};

    (void)state;
    (void)bench_bring(q, "t", QUEUE_RUNNING, arena);
    assert_true(queue_embedded.heartbeat(q, &me, &e));
    raw(db, "UPDATE task SET lease_scope = substr(lease_scope, 1, 37) || 'pid:[1]', owner_born = 1;"
            "UPDATE worker SET scope = substr(scope, 1, 37) || 'pid:[1]', born = 1");
    record = bench_find(q, "t", arena);
    assert_false(record.owner_is_gone || record.lease_is_over);
    /* Its row is not ours, though name and pid are. */
    assert_true(queue_embedded.heartbeat(q, &me, &e));
    assert_true(queue_embedded.count(q, &counts, &e));
    assert_int_equal(counts.workers, 2);
    assert_true(queue_embedded.leave(q, &me, &e));
    assert_true(queue_embedded.count(q, &counts, &e));
    assert_int_equal(counts.workers, 1);
    raw(db, "UPDATE task SET lease_until_ms = 1; UPDATE worker SET seen_ms = 1");
    record = bench_find(q, "t", arena);
    assert_true(record.lease_is_over && !record.owner_is_gone);
    assert_true(queue_embedded.count(q, &counts, &e));
    assert_int_equal(counts.workers, 0);
    sqlite3_close(db);
    bench_close(q);
    arena_free(arena);
}

/* --- records damaged by hand --- */

static bool
look_at(const QueueRecord *record, void *with, Err *e)
{
    (void)e;
    ++*(int *)with;
    return record->id != NULL;
}

static void
test_damaged_records(void **state)
{
    static const char *const damages[] = {
        "UPDATE task SET request = '{', result = 'x', attempts = 'no list', sealed = '[}'",
        "UPDATE task SET request = '', version = '', user_id = '', export_type = '', id = ''",
        "UPDATE task SET phase = 77, stage = -5, progress = -3, attempt = -9",
        "UPDATE task SET phase = -1, stage = 99",
        "UPDATE task SET rows = -1, bytes = -1, peak_bytes = -9223372036854775808, epoch = -1",
        "UPDATE task SET created_us = 9223372036854775807, started_us = -9223372036854775807,"
        " heartbeat_us = 9223372036854775807, available_us = -1, retain_us = -1",
        "UPDATE task SET phase = 1, owner = NULL, owner_pid = NULL, owner_born = NULL,"
        " lease_scope = NULL",
        "UPDATE task SET phase = 2, key = NULL, sealed = NULL, sha256 = NULL, owner_pid = -1",
        "UPDATE task SET phase = 3, result = NULL, key = NULL",
        "UPDATE task SET phase = 5, error_code = CAST(x'ff00fe' AS TEXT), error = NULL",
        "UPDATE task SET owner = CAST(x'ff' AS TEXT), cancel_by = '', cancel_us = -1",
        "UPDATE task SET phase = 0, ready = 7, priority = 1000000",
        "UPDATE task SET attempts = '', max_attempts = -1, give_backs = -1",
        "UPDATE counter SET n = -5",
        "DELETE FROM counter",
        "UPDATE total SET value = 9e999",
    };
    const char *place = fresh();
    Queue *q = bench_open(place);
    sqlite3 *db = open_raw(place);

    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        Arena *arena = arena_new(8 << 20);
        QueueTake take = bench_wants(1);
        const QueueTotal total = {"n", 1, false};
        QueueRecord r;
        QueueWrite write;
        QueueCounts counts;
        QueueCancel cancel = {.id = "", .now_us = 1};
        size_t taken = 0;
        int seen = 0;
        Err e = {0};

        raw(db, "DELETE FROM task");
        (void)bench_bring(q, "d", QUEUE_RUNNING, arena);
        raw(db, damages[i]);
        assert_true(queue_embedded.visit(q, &(QueueFilter){0}, look_at, &seen, &e));
        assert_int_equal(seen, 1);
        (void)queue_embedded.find(q, "d", arena, &r, &e);
        (void)queue_embedded.find(q, "", arena, &r, &e);
        (void)queue_embedded.count(q, &counts, &e);
        (void)queue_embedded.cancel(q, &cancel, 1, &e);
        (void)queue_embedded.take(q, &take, &r, &taken, arena, &e);
        if (taken == 0)
            r = (QueueRecord){.id = "d", .epoch = 1};
        for (QueueWriteOp op = QUEUE_RENEW; op <= QUEUE_GIVE_BACK; op++) {
            write = bench_write_of(op, &r);
            write.attempt_entry = "{}";
            write.total = &total;
            write.totals = 1;
            (void)queue_embedded.write(q, &write, 1, &e);
        }
        raw(db, "UPDATE task SET phase = 6, ready = 0; INSERT OR IGNORE INTO counter VALUES"
                " ('waiting', 0); UPDATE counter SET n = 0");
        arena_free(arena);
        /* Nobody else notices. */
        bench_put_new(q, "good");
        arena = arena_new(1 << 20);
        (void)bench_take_one(q, "good", arena);
        arena_free(arena);
    }
    sqlite3_close(db);
    bench_close(q);
    assert_file_is_good(place);
}

/* The log of the database does not grow without end, even when somebody reads all the time. */
static void
test_maintained(void **state)
{
    const char *place = fresh();
    Queue *q = bench_open(place);
    QueuePut put[100];
    char id[100][32], path[PATH_BYTES];
    struct stat is;
    Err e = {0};

    (void)state;
    path_in(place, "queue.db-wal", path);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 100; i++) {
            snprintf(id[i], sizeof id[i], "m-%d-%d", round, i);
            put[i] = bench_task(id[i]);
        }
        bench_put(q, put, 100);
        assert_true(queue_embedded.maintain(q, &e));
    }
    assert_int_equal(stat(path, &is), 0);
    assert_true(is.st_size < 16 << 20);
    bench_close(q);
    assert_file_is_good(place);
}

/* After the storms of the contract, killed ones among them. */
static void
test_files_are_good(void **state)
{
    char path[PATH_BYTES];
    int checked = 0;

    (void)state;
    for (int i = 0; i < places_count; i++) {
        path_in(places[i], "queue.db", path);
        if (access(path, F_OK) != 0)
            continue;
        assert_file_is_good(places[i]);
        checked++;
    }
    assert_true(checked > 30);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_are_good),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_others_may_not_read),
        cmocka_unit_test(test_newer_version),
        cmocka_unit_test(test_older_version),
        cmocka_unit_test(test_reader_does_not_write),
        cmocka_unit_test(test_read_only_folder),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_no_room_on_the_disk_but_in_the_log),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_first_opened_by_many),
        cmocka_unit_test(test_signals_while_locked),
        cmocka_unit_test(test_owner_is_gone),
        cmocka_unit_test(test_other_boot),
        cmocka_unit_test(test_clock_was_ahead),
        cmocka_unit_test(test_other_container),
        cmocka_unit_test(test_damaged_records),
        cmocka_unit_test(test_maintained),
    };
    int status;

    (void)signal(SIGPIPE, SIG_IGN); /* as every role does */
    if (argc == 5 && strcmp(argv[1], "read-only") == 0)
        return play_read_only(argv[2]);
    if (argc == 5 && strcmp(argv[1], "nothing") == 0) {
        bench_sleep_ms(200);
        return 0;
    }
    if (queue_contract_plays(&contract, argc, argv, &status))
        return status;
    status = queue_contract(&contract);
    status += cmocka_run_group_tests_name("embedded", tests, NULL, NULL);
    while (places_count > 0)
        remove_tree(places[--places_count]);
    return status;
}
