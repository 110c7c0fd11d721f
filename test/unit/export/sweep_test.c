/* The sweep with a real queue and a real folder. */
#include "export/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/process.h"
#include "base/time.h"
#include "test/unit/export/bench.h"

/* What the watch says when it has heard enough, before cmocka takes the name. */
static inline bool
say_enough(Err *e)
{
    return fail(e, GIVEN_BACK, "enough");
}

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static const int64_t day_us = 86400000000;

typedef struct {
    char folder[BENCH_PATH_BYTES];
    Arena *arena;
    const Config *config;
    Queue *queue;
    SweepResult result;
    int64_t now_us;
} Bench;

static void
make_folder(const Bench *b, const char *path)
{
    char full[2 * BENCH_PATH_BYTES];

    snprintf(full, sizeof full, "%s/%s", b->folder, path);
    assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
}

static int
set_up(void **state)
{
    static Bench b;
    char data[BENCH_PATH_BYTES + 32];
    char *options[] = {data, NULL};
    QueueSpec spec;
    Err e = {0};

    b = (Bench){.arena = arena_new(64 << 20), .now_us = time_wall_us()};
    snprintf(data, sizeof data, "--data-dir=%s", bench_folder(b.folder));
    b.config = bench_config(b.arena, options);
    make_folder(&b, "files");
    make_folder(&b, "files/.uploads");
    make_folder(&b, "files/exports");
    make_folder(&b, "files/exports/u");
    spec = kinds_queue_spec(b.config, true, false);
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

/* A file of the store, `age_us` old. */
static void
make_file(const Bench *b, const char *path, int64_t age_us)
{
    char full[2 * BENCH_PATH_BYTES];
    int64_t at_us = b->now_us - age_us;
    struct timespec times[2] = {{at_us / 1000000, 0}, {at_us / 1000000, 0}};
    int fd;

    snprintf(full, sizeof full, "%s/files/%s", b->folder, path);
    fd = open(full, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static bool
is_there(const Bench *b, const char *path)
{
    char full[2 * BENCH_PATH_BYTES];
    struct stat is;

    snprintf(full, sizeof full, "%s/files/%s", b->folder, path);
    return lstat(full, &is) == 0;
}

static void
must(bool ok, const Err *e)
{
    if (!ok)
        fail_msg("%s", err_root(e));
}

/* A task in this phase, with this key, whose file may go at `retain_us`. */
static void
make_task(Bench *b, const char *id, QueuePhase phase, const char *key, int64_t retain_us)
{
    QueuePut put = {.id = id,
        .task = QUEUE_TASK_EXPORT,
        .user_id = "u",
        .export_type = "t",
        .source = "graph",
        .format = "csv",
        .request = "{}",
        .version = "",
        .request_id = "",
        .queue = "celery",
        .max_attempts = 3,
        .created_us = b->now_us};
    QueueTake take = {
        .owner = {"w", getpid(), process_born(getpid())}, .wanted = 1, .lease_ms = 600000};
    QueueRecord r;
    QueueWrite write[2];
    size_t taken, writes = 0;
    Err e = {0};

    must(queue_embedded.put(b->queue, &put, 1, b->arena, &e), &e);
    must(queue_embedded.take(b->queue, &take, &r, &taken, b->arena, &e), &e);
    assert_int_equal(taken, 1);
    if (phase == QUEUE_FAILED)
        write[writes++] = (QueueWrite){.op = QUEUE_FAIL, .error_code = "internal"};
    else if (phase != QUEUE_RUNNING)
        write[writes++] = (QueueWrite){
            .op = QUEUE_PREPARE, .key = key, .sealed = "{}", .sha256 = "00", .lease_ms = 600000};
    if (phase == QUEUE_COMPLETED || phase == QUEUE_EXPIRED)
        write[writes++] =
            (QueueWrite){.op = QUEUE_COMPLETE, .result = "{}", .retain_us = retain_us};
    for (size_t i = 0; i < writes; i++) {
        write[i].id = id;
        write[i].epoch = r.epoch;
    }
    must(queue_embedded.write(b->queue, write, writes, &e), &e);
    if (phase == QUEUE_EXPIRED)
        must(queue_embedded.expire(b->queue, &key, 1, &e), &e);
}

static QueuePhase
phase_of(Bench *b, const char *id)
{
    QueueRecord r;
    Err e = {0};

    must(queue_embedded.find(b->queue, id, b->arena, &r, &e), &e);
    return r.phase;
}

typedef struct {
    Watch base;
    unsigned looks, looks_max; /* 0: no end */
} Patience;

static bool
goes_on(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    Patience *p = (Patience *)w;

    (void)stage;
    (void)rows;
    (void)bytes;
    return p->looks_max == 0 || ++p->looks <= p->looks_max || say_enough(e);
}

static bool
never_asked(Watch *w)
{
    (void)w;
    return false;
}

static bool
sweep(Bench *b, unsigned looks_max, Err *e)
{
    Patience p = {.base = {.go_on = goes_on, .asked_to_end = never_asked, .end_fd = -1},
        .looks_max = looks_max};

    return sweep_run(b->config, &bench_kinds, &p.base, b->arena, &b->result, e);
}

static void
must_sweep(Bench *b)
{
    Err e = {0};

    must(sweep(b, 0, &e), &e);
}

typedef struct {
    const char *series;
    double value;
} Wanted;

static bool
look_for_series(const char *series, double value, void *with)
{
    Wanted *wanted = with;

    if (strcmp(series, wanted->series) == 0)
        wanted->value = value;
    return true;
}

static double
total(Bench *b, const char *series)
{
    Wanted wanted = {series, -1};
    Err e = {0};

    must(queue_embedded.visit_totals(b->queue, look_for_series, &wanted, &e), &e);
    return wanted.value;
}

/* Exactly what is due goes. */
static void
test_files(void **state)
{
    static const struct {
        const char *name; /* of the file, and of the task if there is one */
        bool has_task;
        QueuePhase phase;
        int64_t retain_days, age_days; /* from now; back from now */
        bool stays;
        QueuePhase then;
    } cases[] = {
        {"asked-for-less", true, QUEUE_COMPLETED, -1, 2, false, QUEUE_EXPIRED},
        {"asked-for-more", true, QUEUE_COMPLETED, 20, 30, true, QUEUE_COMPLETED},
        {"not-due", true, QUEUE_COMPLETED, 5, 2, true, QUEUE_COMPLETED},
        {"left-by-a-killed-sweep", true, QUEUE_EXPIRED, 3, 1, false, QUEUE_EXPIRED},
        {"being-committed", true, QUEUE_PREPARED, 0, 30, true, QUEUE_PREPARED},
        {"of-others-old", false, QUEUE_QUEUED, 0, 8, false, QUEUE_QUEUED},
        {"of-others-young", false, QUEUE_QUEUED, 0, 6, true, QUEUE_QUEUED},
    };
    Bench *b = *state;
    size_t stay = 0, go = 0;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char key[128];

        snprintf(key, sizeof key, "exports/u/%s.csv", cases[i].name);
        make_file(b, key, cases[i].age_days * day_us);
        if (cases[i].has_task)
            make_task(
                b, cases[i].name, cases[i].phase, key, b->now_us + cases[i].retain_days * day_us);
        stay += cases[i].stays;
        go += !cases[i].stays;
    }
    must_sweep(b);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char key[128];

        snprintf(key, sizeof key, "exports/u/%s.csv", cases[i].name);
        if (is_there(b, key) != cases[i].stays)
            fail_msg("%s %s", cases[i].name, cases[i].stays ? "is gone" : "is still there");
        if (cases[i].has_task && phase_of(b, cases[i].name) != cases[i].then)
            fail_msg("%s is %s", cases[i].name, queue_phase_name(phase_of(b, cases[i].name)));
    }
    assert_int_equal(b->result.deleted, go);
    assert_int_equal(b->result.deleted_bytes, 10 * go);
    assert_int_equal(b->result.objects, stay);
    assert_int_equal(b->result.bytes, 10 * stay);
    assert_true(total(b, "rowferry_storage_objects") == (double)stay);
    assert_true(total(b, "rowferry_storage_bytes") == 10.0 * (double)stay);
    assert_true(total(b, "rowferry_cleanup_deleted_total") == (double)go);
    assert_true(total(b, "rowferry_cleanup_runs_total{outcome=\"ok\"}") == 1);
    assert_true(total(b, "rowferry_cleanup_last_success_timestamp_seconds") >=
                (double)(b->now_us / 1000000));
    /* Twice is harmless. */
    must_sweep(b);
    assert_int_equal(b->result.deleted, 0);
    assert_int_equal(b->result.objects, stay);
    assert_true(total(b, "rowferry_cleanup_deleted_total") == (double)go);
    assert_true(total(b, "rowferry_cleanup_runs_total{outcome=\"ok\"}") == 2);
}

/* What is no export of ours is none of its business, however old. */
static void
test_things_of_others(void **state)
{
    static const char *const files[] = {"readme.txt", "exports/readme.txt", "exports/u/a\x01.csv",
        "exports/u/a\\b.csv", "exports/u/\xff.csv"};
    char link[2 * BENCH_PATH_BYTES], name[2 * BENCH_PATH_BYTES];
    Bench *b = *state;

    for (size_t i = 0; i < COUNT(files); i++)
        make_file(b, files[i], 100 * day_us);
    snprintf(link, sizeof link, "%s/files/exports/u/link.csv", b->folder);
    assert_int_equal(symlink("../../readme.txt", link), 0);
    make_file(b, "exports/u/two.csv", 100 * day_us);
    snprintf(name, sizeof name, "%s/files/exports/u/two.csv", b->folder);
    snprintf(link, sizeof link, "%s/files/second-name", b->folder);
    assert_int_equal(linkat(AT_FDCWD, name, AT_FDCWD, link, 0), 0);
    must_sweep(b);
    assert_int_equal(b->result.deleted, 0);
    for (size_t i = 0; i < COUNT(files); i++)
        if (!is_there(b, files[i]))
            fail_msg("%s is gone", files[i]);
    assert_true(is_there(b, "exports/u/link.csv") && is_there(b, "exports/u/two.csv"));
}

static void
test_uploads(void **state)
{
    static const struct {
        const char *name;
        bool stays;
    } uploads[] = {
        {"runs.1", true},
        {"runs.0", false}, /* of an epoch that is over */
        {"prepared.1", true},
        {"prepared.0", true}, /* whatever may still be needed to publish it */
        {"failed.1", false},
        {"completed.1", false},
        {"nobody.1", false},
        {"readme", true},
        {".check.77", true},
        {"runs.x", true},
    };
    Bench *b = *state;

    make_task(b, "runs", QUEUE_RUNNING, NULL, 0);
    make_task(b, "prepared", QUEUE_PREPARED, "exports/u/p.csv", 0);
    make_task(b, "failed", QUEUE_FAILED, NULL, 0);
    make_task(b, "completed", QUEUE_COMPLETED, "exports/u/c.csv", b->now_us + day_us);
    for (size_t i = 0; i < COUNT(uploads); i++) {
        char path[128];

        snprintf(path, sizeof path, ".uploads/%s", uploads[i].name);
        make_file(b, path, 0);
    }
    must_sweep(b);
    for (size_t i = 0; i < COUNT(uploads); i++) {
        char path[128];

        snprintf(path, sizeof path, ".uploads/%s", uploads[i].name);
        if (is_there(b, path) != uploads[i].stays)
            fail_msg("%s %s", path, uploads[i].stays ? "is gone" : "is still there");
    }
    assert_int_equal(b->result.uploads_removed, 4);
    must_sweep(b);
    assert_int_equal(b->result.uploads_removed, 0);
}

static bool
removes_all_but_one(
    Storage *s, const char *const *keys, size_t count, StorageRefused *refused, void *with, Err *e)
{
    for (size_t i = 0; i < count; i++) {
        Err why = {0};

        if (strcmp(keys[i], "exports/u/stuck.csv") != 0) {
            if (!storage_file.remove_many(s, keys + i, 1, refused, with, e))
                return false;
            continue;
        }
        (void)err_push(&why, ERR_STORAGE_DENIED, ERR_HERE, "not this one");
        refused(i, &why, with);
    }
    return true;
}

/* Uploads as a store tells them that knows keys and its own names for uploads. */
static const struct {
    const char *key, *id;
    int64_t age_s; /* -1: unknown */
    bool stays;
} by_key[] = {
    {"exports/u/runs.csv", "up-runs", 9999999, true},
    {"exports/u/runs.csv", "just-begun", 10, true}, /* it is just being told */
    {"exports/u/runs.csv", "of-an-earlier-run", 7100, true},
    {"exports/u/runs.csv", "of-an-earlier-run", 7300, false}, /* 1 h for a task, and 1 h more */
    {"exports/u/prepared.csv", "up-prepared", 9999999, true},
    {"exports/u/waits.csv", "up-waits", 10, false},
    {"exports/u/failed.csv", "up-failed", 10, false},
    {"exports/u/completed.csv", "any", 10, false},
    {"exports/u/nobody.csv", "any", 7100, true}, /* another program's, maybe */
    {"exports/u/nobody.csv", "any", 7300, false},
    {"exports/u/nobody.csv", "any", -1, true},
};
static unsigned by_key_removed;

static bool
tidies_by_key(Storage *s, UploadKeep *keep, void *with, uint64_t *removed, Err *e)
{
    int64_t now_us = time_wall_us();

    (void)s;
    (void)e;
    *removed = by_key_removed = 0;
    for (size_t i = 0; i < COUNT(by_key); i++) {
        const UnfinishedUpload upload = {.key = by_key[i].key,
            .id = by_key[i].id,
            .begun_wall_us = by_key[i].age_s < 0 ? 0 : now_us - by_key[i].age_s * 1000000};

        if (!keep(&upload, with)) {
            by_key_removed |= 1U << i;
            ++*removed;
        }
    }
    return true;
}

static void
test_uploads_by_key(void **state)
{
    static const QueueWriteOp ends[] = {
        QUEUE_RENEW, QUEUE_PREPARE, QUEUE_FAIL, QUEUE_PREPARE, QUEUE_RETRY};
    static const char *const ids[] = {"runs", "prepared", "failed", "completed", "waits"};
    StorageKind tells_keys = storage_file;
    const StorageKind *const storages[] = {&tells_keys, NULL};
    Kinds kinds = bench_kinds;
    Bench *b = *state;
    Patience p = {.base = {.go_on = goes_on, .asked_to_end = never_asked, .end_fd = -1}};
    Err e = {0};

    tells_keys.tidy = tidies_by_key;
    kinds.storage = storages;
    for (size_t i = 0; i < COUNT(ids); i++) {
        char key[64], upload[64];
        QueueWrite write[3];
        QueueRecord r;

        make_task(b, ids[i], QUEUE_RUNNING, NULL, 0);
        must(queue_embedded.find(b->queue, ids[i], b->arena, &r, &e), &e);
        snprintf(key, sizeof key, "exports/u/%s.csv", ids[i]);
        snprintf(upload, sizeof upload, "up-%s", ids[i]);
        for (size_t k = 0; k < COUNT(write); k++)
            write[k] = (QueueWrite){.op = k == 0   ? QUEUE_UPLOAD
                                          : k == 1 ? ends[i]
                                                   : QUEUE_COMPLETE,
                .id = ids[i],
                .epoch = r.epoch,
                .upload = upload,
                .key = key,
                .sealed = "{}",
                .sha256 = "00",
                .result = "{}",
                .error_code = "internal",
                .lease_ms = 600000,
                .available_us = b->now_us + day_us,
                .retain_us = b->now_us + day_us};
        must(queue_embedded.write(b->queue, write, i == 3 ? 3 : 2, &e), &e);
        assert_int_equal(write[1].verdict, QUEUE_WRITTEN);
    }
    must(sweep_run(b->config, &kinds, &p.base, b->arena, &b->result, &e), &e);
    for (size_t i = 0; i < COUNT(by_key); i++)
        if ((by_key_removed >> i & 1) != !by_key[i].stays)
            fail_msg("%s %s, %lld s old, %s", by_key[i].key, by_key[i].id,
                (long long)by_key[i].age_s, by_key[i].stays ? "is gone" : "is still there");
    assert_int_equal(b->result.uploads_removed, (unsigned)__builtin_popcount(by_key_removed));
}

/* More than go into one batch, with a few that cannot be deleted. */
static void
test_many_files(void **state)
{
    enum { FILES = 2 * STORAGE_REMOVE_MAX + 7 };
    StorageKind stubborn = storage_file;
    const StorageKind *const storages[] = {&stubborn, NULL};
    Kinds kinds = bench_kinds;
    Bench *b = *state;
    Patience p = {.base = {.go_on = goes_on, .asked_to_end = never_asked, .end_fd = -1}};
    Err e = {0};

    for (int i = 0; i < FILES; i++) {
        char key[64];

        snprintf(key, sizeof key, "exports/u/%d.csv", i);
        make_file(b, key, 100 * day_us);
    }
    make_file(b, "exports/u/stuck.csv", 100 * day_us);
    make_file(b, "exports/u/young.csv", day_us);
    stubborn.remove_many = removes_all_but_one;
    kinds.storage = storages;
    assert_false(sweep_run(b->config, &kinds, &p.base, b->arena, &b->result, &e));
    assert_int_equal(e.code, ERR_STORAGE_DENIED);
    assert_int_equal(b->result.deleted, FILES);
    assert_int_equal(b->result.deleted_bytes, 10 * FILES);
    assert_int_equal(b->result.objects, 1);
    assert_true(is_there(b, "exports/u/stuck.csv") && is_there(b, "exports/u/young.csv"));
}

/* Records go after 30 days, but not that of a file which is to be kept for longer. */
static void
test_records(void **state)
{
    Bench *b = *state;
    char path[2 * BENCH_PATH_BYTES], sql[128];
    sqlite3 *db;
    QueueRecord r;
    Err e = {0};

    make_task(b, "old-failed", QUEUE_FAILED, NULL, 0);
    make_task(b, "old-kept", QUEUE_COMPLETED, "exports/u/kept.csv", b->now_us + 60 * day_us);
    make_file(b, "exports/u/kept.csv", 31 * day_us);
    snprintf(path, sizeof path, "%s/queue.db", b->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    snprintf(
        sql, sizeof sql, "UPDATE task SET ended_us = %lld", (long long)(b->now_us - 31 * day_us));
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    make_task(b, "new-failed", QUEUE_FAILED, NULL, 0);
    must_sweep(b);
    assert_int_equal(b->result.records_purged, 1);
    assert_false(queue_embedded.find(b->queue, "old-failed", b->arena, &r, &e));
    assert_int_equal(phase_of(b, "new-failed"), QUEUE_FAILED);
    assert_int_equal(phase_of(b, "old-kept"), QUEUE_COMPLETED);
    assert_true(is_there(b, "exports/u/kept.csv"));
    /* Nor does the next sweep take it for somebody else's. */
    must_sweep(b);
    assert_true(is_there(b, "exports/u/kept.csv"));
}

/* A record that does not say until when: its file's age does. */
static void
test_without_retain(void **state)
{
    Bench *b = *state;

    make_task(b, "young", QUEUE_COMPLETED, "exports/u/young.csv", 0);
    make_task(b, "old", QUEUE_COMPLETED, "exports/u/old.csv", 0);
    make_file(b, "exports/u/young.csv", day_us);
    make_file(b, "exports/u/old.csv", 8 * day_us);
    must_sweep(b);
    assert_true(is_there(b, "exports/u/young.csv"));
    assert_false(is_there(b, "exports/u/old.csv"));
    assert_int_equal(phase_of(b, "old"), QUEUE_EXPIRED);
}

/* Told to end in the middle, at any point: what is done is done, and the next one does the rest. */
static void
test_interrupted(void **state)
{
    enum { FILES = 5 };
    Bench *b = *state;
    unsigned looks = 1;
    uint64_t deleted = 0;
    Err e = {0};

    for (int i = 0; i < FILES; i++) {
        char key[64], id[16];

        snprintf(id, sizeof id, "t%d", i);
        snprintf(key, sizeof key, "exports/u/%d.csv", i);
        make_file(b, key, 2 * day_us);
        make_task(b, id, QUEUE_COMPLETED, key, b->now_us - 1);
    }
    while (!sweep(b, looks, &e)) {
        assert_int_equal(e.code, ERR_GIVEN_BACK);
        err_clear(&e);
        deleted += b->result.deleted;
        assert_true(looks++ < 100);
    }
    assert_int_equal(deleted + b->result.deleted, FILES);
    assert_true(total(b, "rowferry_cleanup_runs_total{outcome=\"ok\"}") == 1);
}

static void
test_no_queue(void **state)
{
    Bench *b = *state;
    char data[BENCH_PATH_BYTES + 32];
    char *options[] = {data, NULL};
    const Config *before = b->config;
    Err e = {0};

    snprintf(data, sizeof data, "--data-dir=%s/nowhere", b->folder);
    b->config = bench_config(b->arena, options);
    assert_false(sweep(b, 0, &e));
    assert_true(e.code == ERR_STORAGE_UNAVAILABLE || e.code == ERR_QUEUE_UNAVAILABLE);
    b->config = before;
}

static void
test_one_that_cannot_be_deleted(void **state)
{
    StorageKind stubborn = storage_file;
    const StorageKind *const storages[] = {&stubborn, NULL};
    Kinds kinds = bench_kinds;
    Bench *b = *state;
    Patience p = {.base = {.go_on = goes_on, .asked_to_end = never_asked, .end_fd = -1}};
    Err e = {0};

    stubborn.remove_many = removes_all_but_one;
    kinds.storage = storages;
    make_file(b, "exports/u/a.csv", 100 * day_us);
    make_file(b, "exports/u/stuck.csv", 100 * day_us);
    make_file(b, "exports/u/z.csv", 100 * day_us);
    assert_false(sweep_run(b->config, &kinds, &p.base, b->arena, &b->result, &e));
    assert_int_equal(e.code, ERR_STORAGE_DENIED);
    assert_int_equal(b->result.deleted, 2);
    assert_true(is_there(b, "exports/u/stuck.csv"));
    assert_false(is_there(b, "exports/u/a.csv") || is_there(b, "exports/u/z.csv"));
    must_sweep(b);
    assert_int_equal(b->result.deleted, 1);
}

int
main(void)
{
#define CHECK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CHECK(test_files),
        CHECK(test_things_of_others),
        CHECK(test_uploads),
        CHECK(test_uploads_by_key),
        CHECK(test_many_files),
        CHECK(test_records),
        CHECK(test_without_retain),
        CHECK(test_interrupted),
        CHECK(test_no_queue),
        CHECK(test_one_that_cannot_be_deleted),
    };
#undef CHECK

    (void)signal(SIGPIPE, SIG_IGN); /* as every role does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
