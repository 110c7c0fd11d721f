/*
 * A worker with real children and a real queue: main() plays both. Its store is the local one with
 * moods, which a file beside it names, so that a process ends exactly between two steps
 * (reliability.md 3.3, 7.1).
 */
#include "worker/worker.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "base/time.h"
#include "child/child.h"
#include "export/state.h"
#include "export/type.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

extern const SourceKind source_sqlite;
extern const EncoderKind format_csv;
extern const CodecKind codec_none;
extern const StorageKind storage_file;
extern const QueueKind queue_embedded;

/* --- the store with moods --- */

static char mood_path[PATH_MAX];

/* The mood there is; it is over with that, unless it is one that lasts. */
static void
take_mood(char mood[32])
{
    int fd = open(mood_path, O_RDONLY);
    ssize_t got = fd < 0 ? 0 : read(fd, mood, 31);

    mood[got > 0 ? got : 0] = '\0';
    if (fd >= 0)
        close(fd);
    if (strncmp(mood, "always-", 7) != 0)
        (void)unlink(mood_path);
}

static Storage *
moody_open(const StorageSpec *spec, Err *e)
{
    snprintf(mood_path, sizeof mood_path, "%s/../mood", spec->dir);
    return storage_file.open(spec, e);
}

static Sink *
moody_create(Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e)
{
    char mood[32];
    int fd = open(mood_path, O_RDONLY);
    ssize_t got = fd < 0 ? 0 : read(fd, mood, 31);

    if (fd >= 0)
        close(fd);
    if (got > 0 && strncmp(mood, "always-die", 10) == 0 && strncmp(mark->task_id, "poison", 6) == 0)
        raise(SIGKILL);
    return storage_file.create(s, key, mark, watch, task, e);
}

static bool
moody_publish(Storage *s, const char *sealed, Sink *object, Err *e)
{
    char mood[32];
    bool ok;

    take_mood(mood);
    if (strcmp(mood, "die-before") == 0)
        raise(SIGKILL);
    if (strcmp(mood, "parent-dies-before") == 0) {
        kill(getppid(), SIGKILL);
        pause();
    }
    if (strcmp(mood, "unavailable") == 0)
        return err_push(e, ERR_STORAGE_UNAVAILABLE, ERR_HERE, "in a mood");
    if (strcmp(mood, "denied") == 0)
        return err_push(e, ERR_STORAGE_DENIED, ERR_HERE, "in a mood");
    if (strcmp(mood, "lose-upload") == 0 && !storage_file.discard(s, sealed, e))
        return false;
    ok = storage_file.publish(s, sealed, object, e);
    if (strcmp(mood, "die-after") == 0)
        raise(SIGKILL);
    while (strcmp(mood, "hang-after") == 0)
        pause();
    if (strcmp(mood, "parent-dies-after") == 0) {
        kill(getppid(), SIGKILL);
        pause();
    }
    return ok;
}

/* The source `graph` is down, or does not answer, as long as a file in the worker's folder says so.
 */
static bool
moody_check(const SourceSpec *spec, Watch *watch, Err *e)
{
    bool is_graph = strcmp(spec->name, "graph") == 0;

    (void)unlink("source-untried");
    while (is_graph && access("source-hangs", F_OK) == 0) {
        if (watch->asked_to_end(watch))
            return watch->go_on(watch, STAGE_QUERYING, 0, 0, e);
        usleep(10000);
    }
    return is_graph && access("source-down", F_OK) == 0
               ? err_push(e, ERR_SOURCE_UNAVAILABLE, ERR_HERE, "in a mood")
               : source_sqlite.check(spec, watch, e);
}

static StorageKind storage_moody; /* all of the local store but these */
static SourceKind source_moody;   /* and of SQLite but that */
static const SourceKind *const sources[] = {&source_moody, NULL};
static const EncoderKind *const formats[] = {&format_csv, NULL};
static const CodecKind *const codecs[] = {&codec_none, NULL};
static const StorageKind *const storages[] = {&storage_moody, NULL};
static const QueueKind *const queues[] = {&queue_embedded, NULL};
static const Kinds kinds = {sources, formats, codecs, storages, queues};

/* --- the roles --- */

static int
play_worker(int argc, char **argv)
{
    ConfigArgs args = {.argc = argc - 1, .argv = argv + 1};
    Arena *arena = arena_new(64 << 20);
    Err e = {0};
    const Config *config = config_load(&args, arena, &e);
    int status;

    if (!config || !config_prepare_data(config, arena, &e)) {
        fprintf(stderr, "%s\n", err_root(&e));
        return 99;
    }
    process_begin(false, 0);
    log_open(LOG_INFO, LOG_FORMAT_JSON, "worker");
    status = worker_run(config, &kinds, &args);
    arena_free(arena);
    return status;
}

static int
play_child(int argc, char **argv)
{
    pid_t parent = argc > 2 ? (pid_t)strtol(argv[2], NULL, 10) : getppid();

    if (access("no-children", F_OK) == 0) /* in the worker's folder */
        return 1;
    process_begin(true, parent);
    return child_run(&kinds, parent, CHILD_IDLE_MS);
}

/* --- what the tests stand on --- */

static char dir[PATH_MAX - 64], data[PATH_MAX - 32], types_dir[PATH_MAX - 32];
static Arena *arena;
static const Config *config;
static const TypeSet *types;
static Queue *queue;
static pid_t worker;

static void
write_file(const char *folder, const char *name, const char *text)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void
write_type(const char *name, const char *more, const char *query)
{
    char text[2048], file[80];

    snprintf(text, sizeof text,
        "name: %s\ntitle: T\nsource: graph\n%scolumns:\n  - { name: n, type: int64 }\n"
        "query:\n  sqlite: |\n    %s\n",
        name, more, query);
    snprintf(file, sizeof file, "%s.yaml", name);
    write_file(types_dir, file, text);
}

#define NUMBERS(upto)                                                                              \
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < " upto ")"

static int
set_up(void **state)
{
    char template[] = "/tmp/worker-test-XXXXXX";
    char *argv[] = {(char *)(uintptr_t) "worker", (char *)(uintptr_t) "--data-dir", data,
        (char *)(uintptr_t) "--types", types_dir, NULL};
    ConfigArgs args = {.argc = 5, .argv = argv};
    QueueSpec spec;
    Err e = {0};

    (void)state;
    assert_non_null(mkdtemp(template));
    snprintf(dir, sizeof dir, "%s", template);
    snprintf(data, sizeof data, "%s/data", template);
    snprintf(types_dir, sizeof types_dir, "%s/types", template);
    assert_int_equal(mkdir(types_dir, 0700), 0);
    write_type("tiny", "", NUMBERS("10") " SELECT n FROM c");
    write_type("endless", "", NUMBERS("100000000000") " SELECT count(*) AS n FROM c");
    write_type("rows", "", NUMBERS("100000000000") " SELECT n FROM c");
    write_type("alone", "concurrency: 1\n", NUMBERS("200000") " SELECT count(*) AS n FROM c");
    arena = arena_new(64 << 20);
    if (!(config = config_load(&args, arena, &e)) || !config_prepare_data(config, arena, &e) ||
        !(types = types_load(config, &kinds, arena, &e)))
        fail_msg("%s", err_root(&e));
    write_file(data, "demo.db", ""); /* an empty database is one */
    spec = kinds_queue_spec(config, true, false);
    queue = queue_embedded.open(&spec, &e);
    assert_non_null(queue);
    worker = 0;
    return 0;
}

static void
stop_worker(int how, int wanted)
{
    int status;

    if (!worker)
        return;
    kill(worker, how);
    assert_int_equal(waitpid(worker, &status, 0), worker);
    worker = 0;
    if (how != SIGKILL)
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == wanted);
}

static int
tear_down(void **state)
{
    char command[PATH_MAX + 16];

    (void)state;
    if (worker)
        stop_worker(SIGKILL, 0);
    queue_embedded.close(queue);
    types_free(types);
    arena_free(arena);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void
start_worker(const char *concurrency)
{
    pid_t parent = getpid();

    if ((worker = fork()) == 0) {
        char path[PATH_MAX];
        int log;

        snprintf(path, sizeof path, "%s/log", dir);
        log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        (void)dup2(log, STDERR_FILENO);
        if (chdir(dir) != 0)
            _exit(97);
        process_begin(true, parent); /* a test that fails leaves nothing behind */
        execl("/proc/self/exe", "worker_test", "worker", "--data-dir", data, "--types", types_dir,
            "-c", concurrency, "--retry-delays", "0s", "--drain", "0s", NULL);
        _exit(98);
    }
    assert_true(worker > 0);
}

static bool
is_logged(const char *event)
{
    static char text[1 << 20];
    char path[PATH_MAX];
    int fd;
    ssize_t got;

    snprintf(path, sizeof path, "%s/log", dir);
    fd = open(path, O_RDONLY);
    got = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return strstr(text, event) != NULL;
}

static void
wait_for_log(const char *event)
{
    for (int64_t until_ms = time_now_ms() + 20000; !is_logged(event); usleep(5000))
        if (time_now_ms() > until_ms)
            fail_msg("no %s in the log", event);
}

static void
put_task(const char *id, const char *task, const char *type_name, const char *request,
    const char *version)
{
    const ExportType *type = types_find(types, type_name);
    char own[512];
    QueuePut put = {.id = id,
        .task = task,
        .user_id = *type_name ? "u" : "",
        .export_type = type_name,
        .source = *type_name ? "graph" : "",
        .format = *type_name ? "csv" : "",
        .request = request ? request : own,
        .version = version ? version
                   : type  ? type->version
                           : "",
        .request_id = "",
        .queue = "celery",
        .priority = 3,
        .max_attempts = 3,
        .created_us = time_wall_us()};
    Err e = {0};

    snprintf(own, sizeof own,
        "{\"export_type\":\"%s\",\"user_id\":\"u\",\"format\":\"csv\",\"compression\":\"none\","
        "\"params\":{},\"time_limit_ms\":60000,\"url_ttl_ms\":60000,\"retain_ms\":86400000}",
        type_name);
    assert_true(queue_embedded.put(queue, &put, 1, arena, &e));
    assert_int_equal(put.verdict, QUEUE_PUT_NEW);
}

static void
put(const char *id, const char *type_name)
{
    put_task(id, QUEUE_TASK_EXPORT, type_name, NULL, NULL);
}

static QueueRecord
find(const char *id)
{
    QueueRecord record;
    Err e = {0};

    assert_true(queue_embedded.find(queue, id, arena, &record, &e));
    return record;
}

static QueueRecord
wait_for_phase(const char *id, QueuePhase phase)
{
    int64_t until_ms = time_now_ms() + 20000;

    for (;;) {
        ArenaMark mark = arena_mark(arena);
        QueueRecord record = find(id);

        if (record.phase == phase)
            return record;
        if (time_now_ms() > until_ms || record.ended_us > 0)
            fail_msg("%s is %s (%s), not %s", id, queue_phase_name(record.phase),
                record.error_detail ? record.error_detail : "", queue_phase_name(phase));
        arena_rewind(arena, mark);
        usleep(2000);
    }
}

static bool
is_visible(const QueueRecord *record)
{
    char path[2 * PATH_MAX];
    struct stat is;

    snprintf(path, sizeof path, "%s/files/%s", data, record->key ? record->key : "none");
    return stat(path, &is) == 0 && is.st_size == (off_t)record->bytes;
}

static void
trying(const char *what)
{
    print_message("trying: %s\n", what);
}

/* --- the tests --- */

static void
test_export(void **state)
{
    QueueRecord r;

    (void)state;
    start_worker("2");
    put("t-1", "tiny");
    r = wait_for_phase("t-1", QUEUE_COMPLETED);
    assert_true(is_visible(&r));
    assert_int_equal(r.rows, 10);
    assert_int_equal(r.attempt, 1);
    assert_int_equal(r.progress, 100);
    assert_int_equal(strlen(r.sha256), 64);
    /* The marks 10, 40, 70 and 100, each with its time, in order (api-surface.md 3.2). */
    assert_true(r.started_us > 0 && r.first_row_us >= r.started_us &&
                r.last_row_us >= r.first_row_us && r.ended_us >= r.last_row_us);
    assert_true(r.retain_us >= r.ended_us + 86399 * (int64_t)1000000);
    assert_null(r.owner);
    stop_worker(SIGTERM, 0);
    assert_true(is_logged("export.started") && is_logged("export.first_row") &&
                is_logged("export.uploaded") && is_logged("export.finished") &&
                is_logged("role.ended"));
}

/* What is prepared becomes visible, once and whole, whoever dies where. */
static void
test_steps(void **state)
{
    static const struct {
        const char *mood;
        bool worker_dies;
        QueuePhase phase;
        int64_t epoch;
        const char *error_code;
    } cases[] = {
        {"none", false, QUEUE_COMPLETED, 1, NULL},
        {"die-before", false, QUEUE_COMPLETED, 1, NULL},
        {"die-after", false, QUEUE_COMPLETED, 1, NULL},
        {"unavailable", false, QUEUE_COMPLETED, 1, NULL},
        {"lose-upload", false, QUEUE_COMPLETED, 1, NULL},
        {"denied", false, QUEUE_FAILED, 1, "storage-denied"},
        {"parent-dies-before", true, QUEUE_COMPLETED, 2, NULL},
        {"parent-dies-after", true, QUEUE_COMPLETED, 2, NULL},
    };

    (void)state;
    start_worker("1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        QueueRecord r;
        char id[32];
        int status;

        trying(cases[i].mood);
        snprintf(id, sizeof id, "t-%zu", i);
        write_file(data, "mood", cases[i].mood);
        put(id, "tiny");
        if (cases[i].worker_dies) {
            assert_int_equal(waitpid(worker, &status, 0), worker);
            r = wait_for_phase(id, QUEUE_PREPARED);
            assert_int_equal(is_visible(&r), strstr(cases[i].mood, "after") != NULL);
            start_worker("1");
        }
        r = wait_for_phase(id, cases[i].phase);
        assert_int_equal(r.attempt, 1);
        assert_int_equal(r.epoch, cases[i].epoch);
        assert_int_equal(is_visible(&r), cases[i].phase == QUEUE_COMPLETED);
        if (cases[i].error_code)
            assert_string_equal(r.error_code, cases[i].error_code);
        else
            assert_int_equal(r.rows, 10);
    }
    stop_worker(SIGTERM, 0);
}

/* The time limit is the run's: what is visible already has not failed. */
static void
test_time_limit_while_publishing(void **state)
{
    QueueRecord r;

    (void)state;
    write_file(data, "mood", "hang-after");
    start_worker("1");
    put_task("t-1", QUEUE_TASK_EXPORT, "tiny",
        "{\"export_type\":\"tiny\",\"user_id\":\"u\",\"format\":\"csv\",\"compression\":\"none\","
        "\"params\":{},\"time_limit_ms\":1000,\"url_ttl_ms\":60000,\"retain_ms\":86400000}",
        NULL);
    r = wait_for_phase("t-1", QUEUE_COMPLETED);
    assert_int_equal(r.attempt, 1);
    assert_true(is_visible(&r));
    stop_worker(SIGTERM, 0);
}

/* reliability.md, P2: a worker that can start no child any more does not hold what it has taken. */
static void
test_no_children_any_more(void **state)
{
    int64_t until_ms = time_now_ms() + 30000;
    char path[PATH_MAX];
    QueueRecord r;

    (void)state;
    start_worker("1");
    put("t-0", "tiny"); /* the child that there is */
    (void)wait_for_phase("t-0", QUEUE_COMPLETED);
    write_file(dir, "no-children", "");
    write_file(data, "mood", "die-before");
    put("t-1", "tiny");
    while ((r = find("t-1")).give_backs == 0) {
        assert_true(time_now_ms() < until_ms);
        usleep(20000);
    }
    snprintf(path, sizeof path, "%s/no-children", dir);
    assert_int_equal(unlink(path), 0);
    r = wait_for_phase("t-1", QUEUE_COMPLETED);
    assert_int_equal(r.attempt, 1);
    assert_true(is_visible(&r));
    stop_worker(SIGTERM, 0);
}

/* reliability.md, A15 */
static void
test_poison(void **state)
{
    QueueRecord r;

    (void)state;
    write_file(data, "mood", "always-die");
    start_worker("1");
    put("poison", "tiny");
    put("t-1", "tiny");
    r = wait_for_phase("poison", QUEUE_FAILED);
    assert_string_equal(r.error_code, "worker-lost");
    assert_int_equal(r.attempt, 3);
    r = wait_for_phase("t-1", QUEUE_COMPLETED);
    assert_int_equal(r.attempt, 1);
    stop_worker(SIGTERM, 0);
}

static void
test_refused(void **state)
{
    static const struct {
        const char *name, *task, *type, *request, *version, *error_code;
        int attempts;
    } cases[] = {
        {"another version", QUEUE_TASK_EXPORT, "tiny", NULL, "sha256:0", "definition-changed", 1},
        {"no version", QUEUE_TASK_EXPORT, "tiny", NULL, "", NULL, 1},
        {"an unknown type", QUEUE_TASK_EXPORT, "nobody", NULL, "", "unknown-export-type", 1},
        {"an unknown task", "backend.worker.dance", "tiny", NULL, NULL, "internal", 3},
        {"no JSON", QUEUE_TASK_EXPORT, "tiny", "{", NULL, "internal", 3},
        {"no request", QUEUE_TASK_EXPORT, "tiny", "[]", NULL, "internal", 3},
    };

    (void)state;
    start_worker("1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        QueueRecord r;
        char id[32];

        trying(cases[i].name);
        snprintf(id, sizeof id, "t-%zu", i);
        put_task(id, cases[i].task, cases[i].type, cases[i].request, cases[i].version);
        r = wait_for_phase(id, cases[i].error_code ? QUEUE_FAILED : QUEUE_COMPLETED);
        if (cases[i].error_code)
            assert_string_equal(r.error_code, cases[i].error_code);
        assert_int_equal(r.attempt, cases[i].attempts);
    }
    stop_worker(SIGTERM, 0);
}

static void
test_sweep(void **state)
{
    QueueRecord r;

    (void)state;
    start_worker("1");
    put_task("sweep", QUEUE_TASK_SWEEP, "", "{}", "");
    r = wait_for_phase("sweep", QUEUE_COMPLETED);
    assert_int_equal(r.attempt, 1);
    assert_null(r.key);
    stop_worker(SIGTERM, 0);
    assert_true(is_logged("cleanup.done"));
}

static void
cancel(const char *id)
{
    QueueCancel asked = {.id = id, .by = "test", .reason = "", .now_us = time_wall_us()};
    Err e = {0};

    assert_true(queue_embedded.cancel(queue, &asked, 1, &e));
    assert_int_equal(asked.outcome, QUEUE_CANCEL_NOTED);
}

/* reliability.md, P7 */
static void
test_cancel(void **state)
{
    QueueRecord r;

    (void)state;
    start_worker("1");
    put("t-1", "endless");
    wait_for_log("export.started");
    cancel("t-1");
    r = wait_for_phase("t-1", QUEUE_CANCELLED);
    assert_true(r.ended_us - r.cancel_us < 2000000);
    assert_string_equal(r.error_code, "cancelled");
    put("t-2", "tiny"); /* the child is free again */
    (void)wait_for_phase("t-2", QUEUE_COMPLETED);
    stop_worker(SIGTERM, 0);
}

/* reliability.md 6, A8: the task goes back, and that is no attempt. */
static void
test_stop(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT};

    (void)state;
    put("t-1", "endless");
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        int64_t from_ms;
        QueueRecord r;

        start_worker("1");
        (void)wait_for_phase("t-1", QUEUE_RUNNING);
        from_ms = time_now_ms();
        stop_worker(signals[i], 0);
        assert_true(time_now_ms() - from_ms < 5000);
        r = find("t-1");
        assert_int_equal(r.phase, QUEUE_QUEUED);
        assert_int_equal(r.attempt, 0);
        assert_int_equal(r.give_backs, i + 1);
    }
}

/* reliability.md, A2: within 20 s; here the owner's process is gone, which is seen within one. */
static void
test_take_over(void **state)
{
    QueueRecord r;

    (void)state;
    start_worker("1");
    put("t-1", "endless");
    (void)wait_for_phase("t-1", QUEUE_RUNNING);
    stop_worker(SIGKILL, 0);
    start_worker("1");
    for (int64_t until_ms = time_now_ms() + 10000; (r = find("t-1")).attempt < 2; usleep(10000))
        assert_true(time_now_ms() < until_ms);
    assert_int_equal(r.phase, QUEUE_RUNNING);
    assert_int_equal(r.epoch, 2);
    assert_non_null(strstr(r.attempts, "worker-lost"));
    stop_worker(SIGTERM, 0);
}

typedef struct {
    unsigned running;
} Seen;

static bool
count_alone(const QueueRecord *record, void *with, Err *e)
{
    (void)e;
    ((Seen *)with)->running +=
        record->phase == QUEUE_RUNNING && strcmp(record->export_type, "alone") == 0;
    return true;
}

static void
test_concurrency_of_a_type(void **state)
{
    const char *const ids[] = {"a-1", "a-2", "a-3"};
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        put(ids[i], "alone");
    start_worker("3");
    for (size_t i = 0; i < 3;) {
        ArenaMark mark = arena_mark(arena);
        Seen seen = {0};

        assert_true(queue_embedded.visit(queue, &(QueueFilter){0}, count_alone, &seen, &e));
        assert_true(seen.running <= 1);
        i += find(ids[i]).phase == QUEUE_COMPLETED;
        arena_rewind(arena, mark);
        usleep(1000);
    }
    stop_worker(SIGTERM, 0);
}

static void
test_reload(void **state)
{
    (void)state;
    start_worker("1");
    put("t-1", "tiny");
    (void)wait_for_phase("t-1", QUEUE_COMPLETED);
    write_file(types_dir, "bad.yaml", "name: [\n");
    kill(worker, SIGHUP);
    wait_for_log("config.refused");
    put("t-2", "tiny");
    (void)wait_for_phase("t-2", QUEUE_COMPLETED);
    write_file(types_dir, "bad.yaml",
        "name: fresh\ntitle: T\nsource: graph\ncolumns:\n  - { name: n, type: int64 }\n"
        "query:\n  sqlite: SELECT 1 AS n\n");
    kill(worker, SIGHUP);
    wait_for_log("config.loaded");
    put_task("t-3", QUEUE_TASK_EXPORT, "fresh", NULL, "");
    assert_int_equal(wait_for_phase("t-3", QUEUE_COMPLETED).rows, 1);
    stop_worker(SIGTERM, 0);
}

static void
test_many(void **state)
{
    char id[32];

    (void)state;
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "t-%d", i);
        put(id, "tiny");
    }
    start_worker("2");
    for (int i = 0; i < 300; i++) {
        QueueRecord r;

        snprintf(id, sizeof id, "t-%d", i);
        r = wait_for_phase(id, QUEUE_COMPLETED);
        assert_int_equal(r.epoch, 1);
        assert_true(is_visible(&r));
    }
    stop_worker(SIGTERM, 0);
}

/* Where all were quick, tasks wait in children for their turn; behind a slow one they go back. */
static void
test_quick_behind_slow(void **state)
{
    enum { BEFORE = 200, AFTER = 20 };
    int64_t until_ms;
    char id[32];

    (void)state;
    for (int i = 0; i < BEFORE + AFTER; i++) {
        snprintf(id, sizeof id, "t-%d", i);
        put(id, "tiny");
        if (i == BEFORE - 1)
            put("slow", "endless");
    }
    start_worker("1");
    (void)wait_for_phase("slow", QUEUE_RUNNING);
    until_ms = time_now_ms() + 5000;
    for (int i = BEFORE; i < BEFORE + AFTER;) {
        ArenaMark mark = arena_mark(arena);
        QueuePhase phase;

        snprintf(id, sizeof id, "t-%d", i);
        phase = find(id).phase;
        i += phase == QUEUE_QUEUED || phase == QUEUE_COMPLETED; /* a few may have been before it */
        arena_rewind(arena, mark);
        assert_true(time_now_ms() < until_ms);
        usleep(1000);
    }
    cancel("slow");
    for (int i = 0; i < BEFORE + AFTER; i++) {
        QueueRecord r;

        snprintf(id, sizeof id, "t-%d", i);
        r = wait_for_phase(id, QUEUE_COMPLETED);
        assert_int_equal(r.attempt, 1);
        assert_true(r.give_backs <= 1);
    }
    stop_worker(SIGTERM, 0);
}

typedef struct {
    const char *name;
    char code[64];
} SourceWord;

static bool
note_word(const QueueSource *source, void *with)
{
    SourceWord *word = with;

    if (strcmp(source->name, word->name) == 0)
        snprintf(word->code, sizeof word->code, "%s", source->code);
    return true;
}

/* Until the worker says so of the source. */
static void
wait_for_word(const char *name, const char *code)
{
    int64_t until_ms = time_now_ms() + 20000;
    SourceWord word = {.name = name};
    Err e = {0};

    do {
        snprintf(word.code, sizeof word.code, "none");
        assert_true(queue_embedded.visit_sources(queue, note_word, &word, &e));
        if (time_now_ms() > until_ms)
            fail_msg("of %s it says: %s, not %s", name, word.code, code);
        usleep(5000);
    } while (strcmp(word.code, code) != 0);
}

/* Tried at the start and after a reload; each change is a line of the log, and no more. */
static void
test_sources_are_tried(void **state)
{
    char path[PATH_MAX];

    (void)state;
    snprintf(path, sizeof path, "%s/source-down", dir);
    write_file(dir, "source-down", "");
    start_worker("2");
    wait_for_word("graph", "source-unavailable");
    wait_for_word("timescale", "");
    assert_true(is_logged("source.unreachable") && is_logged("in a mood"));
    assert_int_equal(unlink(path), 0);
    assert_false(is_logged("source.reachable"));
    kill(worker, SIGHUP);
    wait_for_word("graph", "");
    wait_for_log("source.reachable");
    /* What goes on is no news. */
    write_file(dir, "log", "");
    kill(worker, SIGHUP);
    wait_for_log("config.loaded");
    put("t-1", "tiny");
    (void)wait_for_phase("t-1", QUEUE_COMPLETED);
    stop_worker(SIGTERM, 0);
    assert_false(is_logged("source."));
}

/* What gives rows is there: it is not tried beside the export. */
static void
test_a_source_in_use(void **state)
{
    (void)state;
    write_file(dir, "source-down", "");
    start_worker("2");
    wait_for_word("graph", "source-unavailable");
    put("t-1", "rows");
    wait_for_log("export.first_row");
    kill(worker, SIGHUP);
    wait_for_word("graph", "");
    cancel("t-1");
    (void)wait_for_phase("t-1", QUEUE_CANCELLED);
    stop_worker(SIGTERM, 0);
}

/* A source that does not answer holds no task of another up. */
static void
test_tasks_come_first(void **state)
{
    char path[PATH_MAX];
    int64_t from_ms;

    (void)state;
    write_file(dir, "source-hangs", "");
    write_file(dir, "source-untried", "");
    snprintf(path, sizeof path, "%s/source-untried", dir);
    start_worker("1");
    for (int64_t until_ms = time_now_ms() + 20000; access(path, F_OK) == 0; usleep(5000))
        assert_true(time_now_ms() < until_ms);
    for (int i = 0; i < 3; i++) {
        char id[16];

        snprintf(id, sizeof id, "t-%d", i);
        from_ms = time_now_ms();
        put(id, "tiny");
        (void)wait_for_phase(id, QUEUE_COMPLETED);
        assert_true(time_now_ms() - from_ms < 5000); /* it may hang twice that long */
    }
    assert_false(is_logged("source.unreachable"));
    stop_worker(SIGTERM, 0);
}

/* And is out of reach after 10 s. */
static void
test_a_source_that_hangs(void **state)
{
    (void)state;
    write_file(dir, "source-hangs", "");
    start_worker("1");
    wait_for_word("graph", "source-timeout");
    assert_true(is_logged("source.unreachable") && is_logged("no answer in 10000 ms"));
    stop_worker(SIGTERM, 0);
}

static void
test_wrong_start(void **state)
{
    int status;

    (void)state;
    write_file(types_dir, "bad.yaml", "name: [\n");
    start_worker("1");
    assert_int_equal(waitpid(worker, &status, 0), worker);
    worker = 0;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    (void)unlink(types_dir);
    assert_true(is_logged("role.start_failed"));
}

int
main(int argc, char **argv)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_export),
        EACH(test_steps),
        EACH(test_time_limit_while_publishing),
        EACH(test_no_children_any_more),
        EACH(test_poison),
        EACH(test_refused),
        EACH(test_sweep),
        EACH(test_cancel),
        EACH(test_stop),
        EACH(test_take_over),
        EACH(test_concurrency_of_a_type),
        EACH(test_reload),
        EACH(test_many),
        EACH(test_quick_behind_slow),
        EACH(test_sources_are_tried),
        EACH(test_a_source_in_use),
        EACH(test_tasks_come_first),
        EACH(test_a_source_that_hangs),
        EACH(test_wrong_start),
    };

    storage_moody = storage_file;
    storage_moody.open = moody_open;
    storage_moody.create = moody_create;
    storage_moody.publish = moody_publish;
    source_moody = source_sqlite;
    source_moody.check = moody_check;
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return play_worker(argc, argv);
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return play_child(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN); /* as every role does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
