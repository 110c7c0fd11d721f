/* Reading one batch ahead: the same rows, the true reason, and an end in time. */
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "export/ahead.h"
#include "export/pipeline.h"
#include "test/contract/sinks.h"
#include "test/contract/watches.h"
#include "test/test.h"

extern const SourceKind source_count, source_sqlite;
extern const EncoderKind format_csv;
extern const CodecKind codec_none;

static const ColumnSpec number[] = {{"number", COLUMN_INT64}};
static const ColumnSpec n[] = {{"n", COLUMN_INT64}, {"t", COLUMN_TEXT}};
static char path[] = "/tmp/rowferry_test_XXXXXX", url[64];

#define ENDLESS "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "

static int
set_up(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0); /* an empty file is an empty database */
    snprintf(url, sizeof url, "sqlite:%s", path);
    return close(fd);
}

static int
tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

static SourceSpec
counting(const char *how_far)
{
    return (SourceSpec){
        .name = "numbers", .url = how_far, .query = "", .column = number, .columns = 1};
}

static SourceSpec
asking(const char *query)
{
    return (SourceSpec){.name = "db", .url = url, .query = query, .column = n, .columns = 2};
}

static void
test_every_row_once(void **state)
{
    static const struct {
        const char *url;
        int64_t rows;
    } cases[] = {{"count:0", 0}, {"count:1", 1}, {"count:1023", 1023}, {"count:4095", 4095},
        {"count:4096", 4096}, {"count:4097", 4097}, {"count:100000", 100000}};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        TestWatch watch = watch_new();
        Arena *task = arena_new(8 << 20);
        SourceSpec spec = counting(cases[i].url);
        int64_t seen = 0;
        Ahead ahead;
        Batch batch;
        Err e = {0};

        trying(cases[i].url);
        ahead_init(&ahead, &watch.base);
        assert_ok(ahead.source = source_count.open(&spec, &ahead.watch, task, &e), &e);
        for (;;) {
            assert_ok(ahead_next(&ahead, &batch, &e), &e);
            if (batch.rows == 0)
                break;
            /* The thread has time to make the next one, and must not touch this one. */
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
            for (size_t row = 0; row < batch.rows; row++)
                assert_int_equal(batch.column[0].as.int64[row], ++seen);
        }
        assert_int_equal(seen, cases[i].rows);
        assert_ok(ahead_next(&ahead, &batch, &e), &e);
        assert_int_equal(batch.rows, 0);
        ahead_close(&ahead);
        arena_free(task);
    }
}

static void
run(const SourceSpec *spec, TestWatch *watch, Sink *sink, uint64_t row_limit, ErrCode want, Err *e)
{
    ExportPlan plan = {.source = strcmp(spec->url, url) == 0 ? &source_sqlite : &source_count,
        .spec = *spec,
        .format = &format_csv,
        .options = encoder_options_default(),
        .codec = &codec_none,
        .row_limit = row_limit};
    Arena *task = arena_new(16 << 20);
    int64_t began_ms = time_now_ms();
    ExportResult result;

    assert_fails(export_into(&plan, sink, &watch->base, task, &result, e), want, e);
    assert_true(time_now_ms() - began_ms < 5000);
    arena_free(task);
}

/* The thread is told to end; the export says why. */
static void
test_the_true_reason(void **state)
{
    static const ErrCode reasons[] = {ERR_CANCELLED, ERR_TASK_TIMEOUT, ERR_GIVEN_BACK};

    (void)state;
    for (size_t i = 0; i < count_of(reasons); i++) {
        TestWatch watch = watch_new();
        SourceSpec rows = asking(ENDLESS "SELECT n, 'x' AS t FROM c");
        /* Rows for a while, then a query that yields no more and goes on. */
        SourceSpec silent = asking(ENDLESS "SELECT n, 'x' AS t FROM c WHERE n < 20000");
        TestSink sink = sink_new();
        Err e = {0};

        trying(err_name(reasons[i]));
        watch.ends_with = reasons[i];
        watch.ends_at_ms = time_now_ms() + 100;
        run(&rows, &watch, &sink.base, 0, reasons[i], &e);
        buf_free(&sink.got);

        e = (Err){0};
        sink = sink_new();
        watch.ends_at_ms = time_now_ms() + 200;
        run(&silent, &watch, &sink.base, 0, reasons[i], &e);
        assert_int_equal(watch.rows, 4 * BATCH_ROWS_MAX); /* whole batches */
        buf_free(&sink.got);
    }
}

/* What goes wrong on the thread is told with its place. */
static void
test_a_misfit_far_behind(void **state)
{
    TestWatch watch = watch_new();
    SourceSpec spec =
        asking(ENDLESS "SELECT CASE n WHEN 10001 THEN 'ten' ELSE n END AS n, 'x' AS t FROM c");
    TestSink sink = sink_new();
    Err e = {0};

    (void)state;
    run(&spec, &watch, &sink.base, 0, ERR_SOURCE_QUERY, &e);
    assert_says(&e, "column n, row 10001");
    buf_free(&sink.got);
}

/* Who writes gives up: the thread, in the middle of an endless query, must end as well. */
static void
test_the_writer_gives_up(void **state)
{
    TestWatch watch = watch_new();
    SourceSpec rows = asking(ENDLESS "SELECT n, 'x' AS t FROM c");
    SourceSpec silent = asking(ENDLESS "SELECT n, 'x' AS t FROM c WHERE n < 5000");
    TestSink sink = sink_new();
    Err e = {0};

    (void)state;
    run(&rows, &watch, &sink.base, 50000, ERR_ROW_LIMIT, &e);
    buf_free(&sink.got);
    sink = sink_new();
    e = (Err){0};
    run(&silent, &watch, &sink.base, 4000, ERR_ROW_LIMIT, &e);
    buf_free(&sink.got);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_once),
        cmocka_unit_test(test_the_true_reason),
        cmocka_unit_test(test_a_misfit_far_behind),
        cmocka_unit_test(test_the_writer_gives_up),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
