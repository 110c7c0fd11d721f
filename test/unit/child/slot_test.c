/* A slot with real children: main() plays them, the honest one (child_run) and those with moods. */
#include "child/slot.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/process.h"
#include "base/time.h"
#include "child/child.h"
#include "child/frame.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

extern const SourceKind source_sqlite;
extern const EncoderKind format_csv;
extern const CodecKind codec_none;
extern const StorageKind storage_file;
extern const QueueKind queue_embedded;

static SourceKind source_noting; /* SQLite, and notes when it lets go */
static const SourceKind *const sources[] = {&source_noting, NULL};
static const EncoderKind *const formats[] = {&format_csv, NULL};
static const CodecKind *const codecs[] = {&codec_none, NULL};
static const StorageKind *const storages[] = {&storage_file, NULL};
static const QueueKind *const queues[] = {&queue_embedded, NULL};
static const Kinds kinds = {sources, formats, codecs, storages, queues};

enum { LET_GO_MS = 1000, LIMIT_MS = 60000 };

/* --- the child's end: what HOME says it is like --- */

static void
say(const char *text)
{
    Buf frame = buf_new(1 << 20);
    Err e = {0};

    if (!frame_put(&frame, json_loads(text, 0, NULL), &e) ||
        send(FRAME_SOCKET_FD, frame.data, frame.bytes, MSG_NOSIGNAL) != (ssize_t)frame.bytes)
        _exit(3);
    buf_free(&frame);
}

/* Reads one frame, whatever it is; its sender sends no second one before it is answered. */
static void
listen_once(void)
{
    char bytes[64 << 10];

    if (recv(FRAME_SOCKET_FD, bytes, sizeof bytes, 0) <= 0)
        _exit(4);
}

static int
play_mood(const char *mood)
{
    if (strcmp(mood, "dies") == 0)
        return 7;
    if (strcmp(mood, "silent") == 0)
        pause();
    if (strcmp(mood, "hangs") == 0)
        (void)signal(SIGTERM, SIG_IGN);
    listen_once(); /* setup */
    say("{\"op\":\"ready\"}");
    listen_once();                   /* run */
    if (strcmp(mood, "deaf") == 0) { /* has closed its end, and lives */
        close(FRAME_SOCKET_FD);
        for (;;)
            pause();
    }
    if (strcmp(mood, "garbage") == 0 && send(FRAME_SOCKET_FD, "\xff\xff\xff\xff{", 5, 0) != 5)
        return 5;
    if (strcmp(mood, "another-run") == 0)
        say("{\"op\":\"done\",\"run\":99,\"result\":\"{}\"}");
    if (strcmp(mood, "unknown-word") == 0)
        say("{\"op\":\"dance\",\"run\":1}");
    if (strcmp(mood, "no-digest") == 0)
        say("{\"op\":\"prepared\",\"run\":1,\"rows\":1,\"bytes\":1,\"sealed\":\"{}\",\"sha256\":"
            "\"x\"}");
    if (strcmp(mood, "less-than-none") == 0)
        say("{\"op\":\"done\",\"run\":1,\"rows\":-1,\"result\":\"{}\"}");
    if (strcmp(mood, "control-in-result") == 0)
        say("{\"op\":\"done\",\"run\":1,\"rows\":1,\"result\":\"\\u001b[2J\"}");
    if (strcmp(mood, "control-in-reason") == 0)
        say("{\"op\":\"failed\",\"run\":1,\"code\":\"source-query\",\"chain\":[\"a\\u001bb\",7]}");
    for (;;)
        pause();
}

/* A byte each time, where the parent looks. */
static void
note_let_go(void)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, "%s/let-go", getenv("HOME"));
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0)
        _exit(6);
    source_sqlite.let_go();
}

/* The database must know when the task ends. */
static Source *
open_with_deadline(const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    if (spec->deadline_ms == 0 || spec->deadline_ms > time_now_ms() + LIMIT_MS)
        _exit(8);
    return source_sqlite.open(spec, watch, task, e);
}

static int
play(int argc, char **argv)
{
    const char *mood = getenv("HOME");
    pid_t parent = argc > 2 ? (pid_t)strtol(argv[2], NULL, 10) : getppid();

    process_begin(true, parent);
    if (mood && strncmp(mood, "/mood/", 6) == 0)
        return play_mood(mood + 6);
    source_noting = source_sqlite;
    source_noting.open = open_with_deadline;
    source_noting.let_go = note_let_go;
    return child_run(&kinds, parent, LET_GO_MS);
}

/* --- the parent's end --- */

static char dir[PATH_MAX];
static Arena *arena;
static const Config *config;
static json_t *definition;

static int
set_up(void **state)
{
    char template[] = "/tmp/slot-test-XXXXXX", data[PATH_MAX];
    char *argv[] = {(char *)(uintptr_t) "worker", (char *)(uintptr_t) "--data-dir", data, NULL};
    ConfigArgs args = {.argc = 3, .argv = argv};
    Err e = {0};

    (void)state;
    assert_non_null(mkdtemp(template));
    snprintf(dir, sizeof dir, "%s", template);
    snprintf(data, sizeof data, "%s/data", template);
    setenv("HOME", template, 1);
    arena = arena_new(64 << 20);
    if (!(config = config_load(&args, arena, &e)) || !config_prepare_data(config, arena, &e))
        fail_msg("%s", err_root(&e));
    close(open(config->demo_path, O_RDWR | O_CREAT, 0600)); /* an empty database is one */
    definition = json_pack("{s:s, s:s, s:[{s:s, s:s}], s:{s:s}}", "name", "numbers", "source",
        "graph", "columns", "name", "n", "type", "int64", "query", "sqlite",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10) SELECT n "
        "FROM c");
    return 0;
}

static int
tear_down(void **state)
{
    char command[PATH_MAX + 16];

    (void)state;
    json_decref(definition);
    arena_free(arena);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void
set_query(const char *query)
{
    json_object_set_new(json_object_get(definition, "query"), "sqlite", json_string(query));
}

static json_t *
run_of(const char *task_id, const char *sealed)
{
    json_t *run =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:O, s:{s:s, s:s}}", "kind", "export", "task_id",
            task_id, "epoch", 1, "key", "exports/u/numbers_20240101_120000_12345678.csv", "request",
            "{\"export_type\":\"numbers\",\"user_id\":\"u\",\"format\":\"csv\",\"compression\":"
            "\"none\","
            "\"params\":{},\"time_limit_ms\":60000,\"url_ttl_ms\":60000,\"retain_ms\":60000}",
            "definition", definition, "source", "name", "graph", "url", "");
    char url[PATH_MAX + 8];

    snprintf(url, sizeof url, "sqlite:%s", config->demo_path);
    json_object_set_new(json_object_get(run, "source"), "url", json_string(url));
    if (sealed)
        json_object_set_new(run, "sealed", json_string(sealed));
    return run;
}

/* The next event, at most 20 s from now. */
static SlotEvent
next_event(Slot *s, const json_t **frame, Err *why)
{
    for (int64_t until_ms = time_now_ms() + 20000; time_now_ms() < until_ms;) {
        struct pollfd fds[] = {
            {.fd = slot_fd(s), .events = POLLIN}, {.fd = slot_pid_fd(s), .events = POLLIN}};
        SlotEvent event = slot_hear(s, frame, why);

        if (event != SLOT_NOTHING)
            return event;
        (void)poll(fds, 2, 100);
    }
    fail_msg("no word from the child in time");
    return SLOT_NOTHING;
}

static void
must_hear(Slot *s, SlotEvent wanted, const json_t **frame, Err *why)
{
    SlotEvent event = next_event(s, frame, why);

    if (event != wanted)
        fail_msg("event %d instead of %d: %s", (int)event, (int)wanted, err_root(why));
}

static Slot *
start(const char *mood)
{
    char home[64];
    Err e = {0};
    Slot *s;

    if (mood) {
        snprintf(home, sizeof home, "/mood/%s", mood);
        setenv("HOME", home, 1);
    }
    s = slot_new(config, -1, &e);
    assert_non_null(s);
    assert_true(slot_start(s, &e));
    assert_false(slot_is_idle(s));
    return s;
}

static Slot *
start_ready(const char *mood)
{
    Slot *s = start(mood);
    Err why = {0};

    must_hear(s, SLOT_READY, NULL, &why);
    assert_true(slot_is_idle(s));
    return s;
}

static void
hand_out(Slot *s, const char *task_id, const char *sealed, int64_t limit_ms, uint64_t memory_bytes)
{
    json_t *run = run_of(task_id, sealed);
    Err e = {0};

    assert_true(slot_run(s, run, time_now_ms() + limit_ms, memory_bytes, &e));
    assert_true(slot_is_running(s));
    json_decref(run);
}

enum { FILE_PATH_BYTES = PATH_MAX + 128 };

static const char *
file_path(char path[FILE_PATH_BYTES])
{
    snprintf(path, FILE_PATH_BYTES, "%s/exports/u/numbers_20240101_120000_12345678.csv",
        config->files_dir);
    return path;
}

static bool
is_visible(void)
{
    char path[FILE_PATH_BYTES];
    struct stat is;

    file_path(path);
    return stat(path, &is) == 0 && is.st_size == 3 + 9 * 3 + 4;
}

static void
test_export(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    hand_out(s, "t-1", NULL, LIMIT_MS, 1 << 30);
    must_hear(s, SLOT_FINISHES, &frame, &why);
    must_hear(s, SLOT_PREPARED, &frame, &why);
    assert_int_equal(json_int_or(frame, "rows", 0), 10);
    assert_int_equal(json_int_or(frame, "bytes", 0), 3 + 9 * 3 + 4);
    assert_int_equal(strlen(json_text_or(frame, "sha256", "")), 64);
    assert_false(is_visible()); /* nobody said go */
    assert_int_equal(slot_hear(s, &frame, &why), SLOT_NOTHING);
    assert_true(slot_go(s, &why));
    must_hear(s, SLOT_DONE, &frame, &why);
    assert_int_equal(json_int_or(frame, "rows", 0), 10);
    assert_true(is_visible());
    assert_true(slot_is_idle(s));
    assert_int_equal(slot_progress(s).stage, STAGE_FINISHING);
    assert_true(slot_progress(s).peak_bytes > 0);
    slot_free(s);
}

static off_t
times_let_go(void)
{
    char path[PATH_MAX + 16];
    struct stat is;

    snprintf(path, sizeof path, "%s/let-go", dir);
    return stat(path, &is) == 0 ? is.st_size : 0;
}

static void
export_once(Slot *s, const char *task_id)
{
    char path[FILE_PATH_BYTES];
    const json_t *frame;
    Err why = {0};

    hand_out(s, task_id, NULL, LIMIT_MS, 1 << 30);
    must_hear(s, SLOT_FINISHES, &frame, &why);
    must_hear(s, SLOT_PREPARED, &frame, &why);
    assert_true(slot_go(s, &why));
    must_hear(s, SLOT_DONE, &frame, &why);
    assert_int_equal(unlink(file_path(path)), 0);
}

/* What a source keeps is kept from one export to the next, let go once without work, and at the
 * end. */
static void
test_lets_go(void **state)
{
    Slot *s = start_ready(NULL);
    int64_t from_ms;
    Err why = {0};

    (void)state;
    export_once(s, "t-1");
    from_ms = time_now_ms();
    export_once(s, "t-2");
    while (times_let_go() == 0 && time_now_ms() - from_ms < 20000)
        usleep(20000);
    assert_int_equal(times_let_go(), 1);
    assert_true(time_now_ms() - from_ms >= LET_GO_MS - 10);
    usleep((LET_GO_MS + LET_GO_MS / 2) * 1000);
    assert_int_equal(times_let_go(), 1); /* nothing was kept since */
    export_once(s, "t-3");
    slot_quit(s);
    must_hear(s, SLOT_DIED, NULL, &why);
    assert_int_equal(times_let_go(), 2);
    slot_free(s);
}

/* The upload of an owner that is gone: the next one shows it, and again, and reads nothing. */
static void
test_publish_alone(void **state)
{
    Slot *s = start_ready(NULL);
    char sealed[1024];
    const json_t *frame;
    Err why = {0};

    (void)state;
    hand_out(s, "t-1", NULL, LIMIT_MS, 1 << 30);
    must_hear(s, SLOT_FINISHES, &frame, &why);
    must_hear(s, SLOT_PREPARED, &frame, &why);
    snprintf(sealed, sizeof sealed, "%s", json_text_or(frame, "sealed", ""));
    slot_kill(s);
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_int_equal(why.code, ERR_WORKER_LOST);
    assert_int_equal(slot_pid(s), 0);

    set_query("SELECT * FROM there_is_no_such_table");
    err_clear(&why);
    assert_true(slot_start(s, &why));
    must_hear(s, SLOT_READY, NULL, &why);
    for (int times = 0; times < 2; times++) {
        hand_out(s, "t-1", sealed, LIMIT_MS, 1 << 30);
        must_hear(s, SLOT_FINISHES, &frame, &why);
        must_hear(s, SLOT_DONE, &frame, &why);
        assert_true(is_visible());
    }
    slot_free(s);
}

static void
test_nothing_to_publish(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    hand_out(s, "t-1",
        "{\"upload\":\"t-1.1\",\"key\":\"exports/u/a.csv\",\"device\":1,\"inode\":1,\"bytes\":4}",
        LIMIT_MS, 1 << 30);
    must_hear(s, SLOT_FINISHES, &frame, &why);
    must_hear(s, SLOT_FAILED, &frame, &why);
    assert_int_equal(why.code, ERR_FILE_GONE);
    assert_true(json_bool_or(frame, "publishes", false));
    assert_true(slot_is_idle(s));
    slot_free(s);
}

static const char endless[] =
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000)"
    " SELECT count(*) AS n FROM c";

/* reliability.md, P7: the query is gone in time, and the child takes the next task. */
static void
test_cancel(void **state)
{
    static const ErrCode reasons[] = {ERR_CANCELLED, ERR_GIVEN_BACK, ERR_LEASE_LOST};
    Slot *s = start_ready(NULL);
    const json_t *frame;

    (void)state;
    set_query(endless);
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        int64_t from_ms;
        Err why = {0};

        hand_out(s, "t-1", NULL, LIMIT_MS, 1 << 30);
        usleep(100000);
        assert_int_equal(slot_progress(s).stage, STAGE_QUERYING);
        from_ms = time_now_ms();
        slot_cancel(s, reasons[i]);
        must_hear(s, SLOT_FAILED, &frame, &why);
        assert_int_equal(why.code, reasons[i]);
        assert_false(json_bool_or(frame, "publishes", true));
        assert_true(time_now_ms() - from_ms < 2000);
        assert_true(slot_is_idle(s));
    }
    slot_free(s);
}

static void
test_cancel_while_prepared(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    hand_out(s, "t-1", NULL, LIMIT_MS, 1 << 30);
    must_hear(s, SLOT_FINISHES, &frame, &why);
    must_hear(s, SLOT_PREPARED, &frame, &why);
    slot_cancel(s, ERR_CANCELLED);
    must_hear(s, SLOT_FAILED, &frame, &why);
    assert_int_equal(why.code, ERR_CANCELLED);
    assert_false(json_bool_or(frame, "publishes", true));
    assert_false(is_visible());
    slot_free(s);
}

static void
test_time_limit(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    int64_t from_ms = time_now_ms();
    Err why = {0};

    (void)state;
    set_query(endless);
    hand_out(s, "t-1", NULL, 300, 1 << 30);
    must_hear(s, SLOT_FAILED, &frame, &why);
    assert_int_equal(why.code, ERR_TASK_TIMEOUT);
    assert_true(time_now_ms() - from_ms < 3000);
    slot_free(s);
}

static void
test_memory_limit(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    set_query(endless);
    hand_out(s, "t-1", NULL, LIMIT_MS, 4096);
    slot_tick(s, time_now_ms() + 1500);
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_int_equal(why.code, ERR_MEMORY_LIMIT);
    slot_free(s);
}

static void
test_killed_in_mid_run(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    set_query(endless);
    hand_out(s, "t-1", NULL, LIMIT_MS, 1 << 30);
    assert_int_equal(kill(slot_pid(s), SIGKILL), 0);
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_int_equal(why.code, ERR_WORKER_LOST);
    assert_non_null(strstr(err_root(&why), "signal 9"));
    assert_int_equal(slot_fd(s), -1);
    slot_free(s);
}

/* What a terminal sends to all of its processes is the parent's to judge. */
static void
test_keys_of_a_terminal(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    set_query(endless);
    hand_out(s, "t-1", NULL, LIMIT_MS, 1 << 30);
    assert_int_equal(kill(slot_pid(s), SIGINT), 0);
    assert_int_equal(kill(slot_pid(s), SIGQUIT), 0);
    assert_int_equal(kill(slot_pid(s), SIGHUP), 0);
    slot_cancel(s, ERR_GIVEN_BACK);
    must_hear(s, SLOT_FAILED, &frame, &why);
    assert_int_equal(why.code, ERR_GIVEN_BACK);
    slot_free(s);
}

static void
test_quits(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;
    Err why = {0};

    (void)state;
    slot_quit(s);
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_non_null(strstr(err_root(&why), "status 0"));
    slot_free(s);
}

static void
test_is_worn(void **state)
{
    Slot *s = start_ready(NULL);
    const json_t *frame;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        Err why = {0};

        assert_false(slot_is_worn(s));
        hand_out(s, "t-1", "{}", LIMIT_MS, 1 << 30);
        must_hear(s, SLOT_FINISHES, &frame, &why);
        must_hear(s, SLOT_FAILED, &frame, &why);
    }
    assert_true(slot_is_worn(s));
    slot_free(s);
}

/* It would be lost to say anything to it; the parent asks, then presses, then kills. */
static void
test_hangs(void **state)
{
    Slot *s = start_ready("hangs");
    int64_t now_ms;
    const json_t *frame;
    Err why = {0};

    (void)state;
    hand_out(s, "t-1", NULL, 3600000, 0);
    now_ms = time_now_ms();
    slot_tick(s, now_ms + 29000);
    assert_int_equal(slot_hear(s, &frame, &why), SLOT_NOTHING);
    slot_tick(s, now_ms + 31000); /* no heartbeat for so long: it is asked */
    slot_tick(s, now_ms + 37000); /* SIGTERM, which it does not hear */
    usleep(50000);
    assert_int_equal(slot_hear(s, &frame, &why), SLOT_NOTHING);
    slot_tick(s, now_ms + 43000);
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_int_equal(why.code, ERR_WORKER_LOST);
    assert_non_null(strstr(err_root(&why), "hangs"));
    slot_free(s);
}

static void
test_does_not_start(void **state)
{
    Slot *s = start("silent");
    const json_t *frame;
    Err why = {0};

    (void)state;
    slot_tick(s, time_now_ms() + 4000);
    assert_int_equal(slot_hear(s, &frame, &why), SLOT_NOTHING);
    slot_tick(s, time_now_ms() + 6000);
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_int_equal(why.code, ERR_WORKER_LOST);
    slot_free(s);
}

static void
test_moods(void **state)
{
    static const struct {
        const char *mood;
        SlotEvent event;
        ErrCode code;
    } cases[] = {
        {"garbage", SLOT_DIED, ERR_INTERNAL},
        {"another-run", SLOT_DIED, ERR_INTERNAL},
        {"unknown-word", SLOT_DIED, ERR_INTERNAL},
        {"no-digest", SLOT_DIED, ERR_INTERNAL},
        {"less-than-none", SLOT_DIED, ERR_INTERNAL},
        {"control-in-result", SLOT_DIED, ERR_INTERNAL},
        {"control-in-reason", SLOT_FAILED, ERR_SOURCE_QUERY},
        {"deaf", SLOT_DIED, ERR_WORKER_LOST},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Slot *s = start_ready(cases[i].mood);
        const json_t *frame;
        Err why = {0};

        print_message("trying: %s\n", cases[i].mood);
        hand_out(s, "t-1", NULL, 60000, 0);
        must_hear(s, cases[i].event, &frame, &why);
        assert_int_equal(why.code, cases[i].code);
        for (unsigned link = 0; link < why.links; link++)
            assert_null(strchr(why.link[link].text, 27));
        slot_free(s);
    }
}

static void
test_dies_at_once(void **state)
{
    Slot *s = start("dies");
    const json_t *frame;
    Err why = {0};

    (void)state;
    must_hear(s, SLOT_DIED, &frame, &why);
    assert_non_null(strstr(err_root(&why), "status 7"));
    err_clear(&why);
    assert_true(slot_start(s, &why)); /* the same slot serves again */
    must_hear(s, SLOT_DIED, &frame, &why);
    slot_free(s);
}

int
main(int argc, char **argv)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_export),
        EACH(test_lets_go),
        EACH(test_publish_alone),
        EACH(test_nothing_to_publish),
        EACH(test_cancel),
        EACH(test_cancel_while_prepared),
        EACH(test_time_limit),
        EACH(test_memory_limit),
        EACH(test_killed_in_mid_run),
        EACH(test_keys_of_a_terminal),
        EACH(test_quits),
        EACH(test_is_worn),
        EACH(test_hangs),
        EACH(test_does_not_start),
        EACH(test_moods),
        EACH(test_dies_at_once),
    };

    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return play(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
