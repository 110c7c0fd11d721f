/* The pipeline: from a query to a published file, and every way in which it ends before. */
#include <sqlite3.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"
#include "export/pipeline.h"
#include "storage/memory/memory.h"
#include "test/contract/sinks.h"
#include "test/contract/watches.h"
#include "test/test.h"

extern const SourceKind source_count, source_sqlite;
extern const EncoderKind format_csv;
extern const CodecKind codec_none;

enum { TASK_BYTES = 8 << 20 };

static const char key[] = "exports/user_1/numbers_20240101_120000_abcdef01.csv";
static const ColumnSpec numbers[] = {{"number", COLUMN_INT64}, {"square", COLUMN_DOUBLE}};
static const ColumnSpec people[] = {
    {"name", COLUMN_TEXT}, {"score", COLUMN_DOUBLE}, {"born", COLUMN_DATE}};

static char dir[] = "/tmp/rowferry_test_XXXXXX", url[64];

static int
set_up(void **state)
{
    char path[48];
    sqlite3 *db;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/data.db", dir);
    snprintf(url, sizeof url, "sqlite:%s", path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
            "CREATE TABLE people (name TEXT, score REAL, born TEXT);"
            "INSERT INTO people VALUES ('Ann, the first', 1.5, '1990-12-31'), (NULL, 2, NULL),"
            " ('', NULL, '2000-02-29');",
            NULL, NULL, NULL),
        SQLITE_OK);
    return sqlite3_close(db);
}

static int
tear_down(void **state)
{
    char path[48];

    (void)state;
    snprintf(path, sizeof path, "%s/data.db", dir);
    return unlink(path) | rmdir(dir);
}

static ExportPlan
counting(const char *how_far)
{
    const StorageSpec nothing = {0};
    Err e = {0};

    return (ExportPlan){
        .source = &source_count,
        .spec = {.name = "numbers", .url = how_far, .query = "", .column = numbers, .columns = 2},
        .format = &format_csv,
        .options = encoder_options_default(),
        .codec = &codec_none,
        .hashes = true,
        .storage_kind = &storage_memory,
        .storage = storage_memory.open(&nothing, &e),
        .key = key,
        .mark = {"t-1", 1, "text/csv; charset=utf-8"},
    };
}

static ExportPlan
reading(const char *query)
{
    ExportPlan plan = counting("");

    plan.source = &source_sqlite;
    plan.spec =
        (SourceSpec){.name = "people", .url = url, .query = query, .column = people, .columns = 3};
    return plan;
}

static const char people_query[] = "SELECT name, score, born FROM people";

static void
test_from_query_to_file(void **state)
{
    static const char want[] = "name,score,born\r\n\"Ann, the first\",1.5,1990-12-31\r\n"
                               ",2.0,\r\n\"\",,2000-02-29\r\n";
    ExportPlan plan = reading(people_query);
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    ExportResult result;
    char hex[65];
    size_t bytes;
    Err e = {0};

    (void)state;
    assert_ok(export_run(&plan, &watch.base, task, &result, &e), &e);
    assert_true(memory_object_is_visible());
    assert_string_equal(memory_object(&bytes), want);
    assert_int_equal(bytes, sizeof want - 1);
    assert_int_equal(result.rows, 3);
    assert_int_equal(result.raw_bytes, bytes);
    assert_int_equal(result.stored_bytes, bytes);
    assert_true(digest_text(want, bytes, hex));
    assert_string_equal(result.sha256, hex);
    assert_string_equal(result.sealed, watch.sealed);
    assert_true(time_wall_us() - result.snapshot_wall_us < 60000000);
    assert_int_equal(watch.stages, 0xf); /* each stage was told */
    assert_int_equal(watch.prepared, 1);
    assert_int_equal(watch.expected, 3);
    assert_int_equal(watch.rows, 3);
    arena_free(task);
    memory_forget();
}

static void
test_no_rows(void **state)
{
    ExportPlan plan = reading("SELECT * FROM people WHERE score > 100");
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    ExportResult result;
    size_t bytes;
    Err e = {0};

    (void)state;
    assert_ok(export_run(&plan, &watch.base, task, &result, &e), &e);
    assert_string_equal(memory_object(&bytes), "name,score,born\r\n");
    assert_int_equal(result.rows, 0);
    assert_int_equal(watch.stages, 0xf);
    arena_free(task);
    memory_forget();
}

static void
test_many_rows(void **state)
{
    ExportPlan plan = counting("count:20000");
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    ExportResult result;
    const char *text;
    size_t bytes, lines = 0;
    Err e = {0};

    (void)state;
    plan.row_limit = 20000; /* exactly as many are fine */
    assert_ok(export_run(&plan, &watch.base, task, &result, &e), &e);
    text = memory_object(&bytes);
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, 20001);
    assert_true(text_ends(text, "\r\n20000,400000000.0\r\n"));
    assert_int_equal(result.rows, 20000);
    assert_true(arena_peak_bytes(task) < 1 << 20);
    arena_free(task);
    memory_forget();
}

/* Fails: with this code, nothing visible, no upload left. */
static void
check_failure(const ExportPlan *plan, TestWatch *watch, ErrCode want)
{
    Arena *task = arena_new(TASK_BYTES);
    ExportResult result;
    Err e = {0};

    assert_fails(export_run(plan, &watch->base, task, &result, &e), want, &e);
    assert_false(memory_object_is_visible());
    assert_int_equal(memory_uploads(), 0);
    arena_free(task);
    memory_forget();
}

static void
test_failures(void **state)
{
    static const struct {
        const char *name, *query;
        ErrCode want;
    } cases[] = {
        {"no such table", "SELECT * FROM nobody", ERR_SOURCE_QUERY},
        {"a column is missing", "SELECT name, score FROM people", ERR_SOURCE_QUERY},
        {"a misfit in the last row",
            "SELECT name, score, CASE WHEN name = '' THEN 'never' ELSE born END AS born FROM "
            "people",
            ERR_SOURCE_QUERY},
        {"text that is not UTF-8", "SELECT CAST(x'ff' AS TEXT) AS name, score, born FROM people",
            ERR_ENCODE_FAILED},
        {"a row too large", "SELECT hex(zeroblob(33554432)) AS name, score, born FROM people",
            ERR_SIZE_LIMIT},
    };
    ExportPlan plan;
    TestWatch watch;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].name);
        plan = reading(cases[i].query);
        watch = watch_new();
        check_failure(&plan, &watch, cases[i].want);
        assert_int_equal(watch.prepared, 0);
    }
    trying("more rows than it may have");
    plan = counting("count:20001");
    plan.row_limit = 20000;
    watch = watch_new();
    check_failure(&plan, &watch, ERR_ROW_LIMIT);
    trying("more bytes than it may have");
    plan = counting("count:20000");
    plan.storage = storage_memory.open(&(StorageSpec){.bytes_max = 10000}, &(Err){0});
    watch = watch_new();
    check_failure(&plan, &watch, ERR_SIZE_LIMIT);
    trying("a bad key");
    plan = counting("count:10");
    plan.key = "exports/../x.csv";
    watch = watch_new();
    check_failure(&plan, &watch, ERR_INVALID_KEY);
    trying("another has it by now");
    plan = counting("count:10");
    watch = watch_new();
    watch.loses_task = true;
    check_failure(&plan, &watch, ERR_LEASE_LOST);
    assert_int_equal(watch.prepared, 1);
}

/* The key is taken: the file is sealed and stays the next owner's; nothing of ours is visible. */
static void
test_publish_fails(void **state)
{
    ExportPlan plan = counting("count:10");
    Arena *task = arena_new(TASK_BYTES);
    TestWatch watch = watch_new();
    ExportResult result;
    size_t before, after;
    Err e = {0};

    (void)state;
    assert_ok(export_run(&plan, &watch.base, task, &result, &e), &e);
    (void)memory_object(&before);
    plan.spec.url = "count:1000";
    plan.mark.task_id = "t-2";
    assert_fails(export_run(&plan, &watch.base, task, &result, &e), ERR_EXISTS, &e);
    (void)memory_object(&after);
    assert_int_equal(after, before);
    assert_int_equal(memory_uploads(), 1);
    arena_free(task);
    memory_forget();
}

/* Told to end before the n-th question: at every n nothing is left behind. */
typedef struct {
    TestWatch base;
    bool (*go_on)(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e);
    unsigned left;
} ImpatientWatch;

static bool
go_on_a_few_times(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    ImpatientWatch *i = (ImpatientWatch *)w;

    return i->left-- > 0 ? i->go_on(w, stage, rows, bytes, e)
                         : fail_code(e, ERR_CANCELLED, "no more patience");
}

static void
test_cancelled_at_every_question(void **state)
{
    ExportPlan plan = counting("count:9000");
    bool ok = false;

    (void)state;
    for (unsigned nth = 0; !ok; nth++) {
        ImpatientWatch watch = {.base = watch_new(), .left = nth};
        Arena *task = arena_new(TASK_BYTES);
        ExportResult result;
        Err e = {0};

        watch.go_on = watch.base.base.go_on;
        watch.base.base.go_on = go_on_a_few_times;
        ok = export_run(&plan, &watch.base.base, task, &result, &e);
        arena_free(task);
        assert_true(nth < 20);
        assert_true(ok || e.code == ERR_CANCELLED);
        assert_int_equal(ok, memory_object_is_visible());
        assert_int_equal(memory_uploads(), 0);
        assert_true(!ok || nth >= 5);
    }
    memory_forget();
}

static void
test_a_query_cancelled(void **state)
{
    ExportPlan plan = reading("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
                              "SELECT '' AS name, 1.0 AS score, NULL AS born FROM c WHERE n < 0");
    TestWatch watch = watch_new();
    int64_t began_ms = time_now_ms();

    (void)state;
    watch.ends_at_ms = began_ms + 100;
    check_failure(&plan, &watch, ERR_CANCELLED);
    assert_true(time_now_ms() - began_ms < 2000);
}

/* The loop of style.md 6.9: it finds its own end, and it tests each error path there is. */
static void
test_every_allocation_fails_once(void **state)
{
    const ExportPlan plans[] = {counting("count:9000"), reading(people_query)};

    (void)state;
    for (size_t i = 0; i < count_of(plans); i++) {
        bool ok = false;

        trying(plans[i].source->name);
        for (unsigned long nth = 1; !ok; nth++) {
            TestWatch watch = watch_new();
            Arena *task = arena_new(TASK_BYTES);
            ExportResult result;
            Err e = {0};

            arena_fail_at(nth);
            ok = export_run(&plans[i], &watch.base, task, &result, &e);
            arena_fail_at(0);
            arena_free(task);
            assert_true(nth < 1000);
            assert_true(ok || e.code == ERR_MEMORY_LIMIT);
            assert_int_equal(ok, memory_object_is_visible());
            assert_int_equal(memory_uploads(), 0);
            assert_true(!ok || nth > 5);
        }
        memory_forget();
    }
}

static void
test_too_little_memory(void **state)
{
    const ExportPlan plan = reading(people_query);

    (void)state;
    for (size_t limit = 1 << 10; limit < 256 << 10; limit += 7777) {
        TestWatch watch = watch_new();
        Arena *task = arena_new(limit);
        ExportResult result;
        Err e = {0};

        assert_fails(export_run(&plan, &watch.base, task, &result, &e), ERR_MEMORY_LIMIT, &e);
        assert_int_equal(memory_uploads(), 0);
        arena_free(task);
    }
}

static void
test_into_a_sink(void **state)
{
    ExportPlan plan = counting("count:3");
    TestSink sink = sink_new();
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    ExportResult result;
    Err e = {0};

    (void)state;
    assert_ok(export_into(&plan, &sink.base, &watch.base, task, &result, &e), &e);
    assert_string_equal(sink.got.data, "number,square\r\n1,1.0\r\n2,4.0\r\n3,9.0\r\n");
    assert_int_equal(sink.finishes, 1);
    assert_int_equal(watch.prepared, 0);
    assert_null(result.sealed);
    assert_int_equal(strlen(result.sha256), 64);
    assert_int_equal(result.stored_bytes, sink.got.bytes);
    assert_int_equal(memory_uploads(), 0);
    buf_free(&sink.got);

    trying("without a hash");
    sink = sink_new();
    plan.hashes = false;
    assert_ok(export_into(&plan, &sink.base, &watch.base, task, &result, &e), &e);
    assert_null(result.sha256);
    assert_int_equal(result.stored_bytes, sink.got.bytes);
    buf_free(&sink.got);

    trying("a sink that fails");
    sink = sink_new();
    sink.fails_after = 20;
    assert_fails(
        export_into(&plan, &sink.base, &watch.base, task, &result, &e), ERR_STORAGE_FULL, &e);
    assert_int_equal(sink.aborts, 1);
    buf_free(&sink.got);

    trying("told to end before it began");
    sink = sink_new();
    watch.ends_at_ms = 1;
    err_clear(&e);
    assert_fails(export_into(&plan, &sink.base, &watch.base, task, &result, &e), ERR_CANCELLED, &e);
    assert_int_equal(sink.aborts, 1);
    arena_free(task);
}

static void
test_into_a_sink_without_memory(void **state)
{
    ExportPlan plan = counting("count:3");
    bool ok = false;

    (void)state;
    for (unsigned long nth = 1; !ok; nth++) {
        TestSink sink = sink_new();
        TestWatch watch = watch_new();
        Arena *task = arena_new(TASK_BYTES);
        ExportResult result;
        Err e = {0};

        arena_fail_at(nth);
        ok = export_into(&plan, &sink.base, &watch.base, task, &result, &e);
        arena_fail_at(0);
        assert_true(nth < 1000);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        assert_int_equal(sink.aborts, !ok);
        buf_free(&sink.got);
        arena_free(task);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_query_to_file),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_publish_fails),
        cmocka_unit_test(test_cancelled_at_every_question),
        cmocka_unit_test(test_a_query_cancelled),
        cmocka_unit_test(test_every_allocation_fails_once),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_into_a_sink),
        cmocka_unit_test(test_into_a_sink_without_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
