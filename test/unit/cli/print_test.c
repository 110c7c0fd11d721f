/* What people see: numbers, the bar, tables, and names of files. */
#include <fcntl.h>
#include <unistd.h>

#include "cli/bar.h"
#include "cli/download.h"
#include "test/test.h"

static void
test_counts(void **state)
{
    static const struct {
        double n;
        const char *count, *bytes;
    } cases[] = {
        {0, "0", "0 B"},
        {1, "1", "1 B"},
        {12, "12", "12 B"},
        {999, "999", "999 B"},
        {1000, "1 k", "1 kB"},
        {1250, "1.25 k", "1.25 kB"},
        {9994, "9.99 k", "9.99 kB"},
        {9996, "10 k", "10 kB"},
        {99940, "99.9 k", "99.9 kB"},
        {99960, "100 k", "100 kB"},
        {410000, "410 k", "410 kB"},
        {999499, "999 k", "999 kB"},
        {999500, "1 M", "1 MB"},
        {1250000, "1.25 M", "1.25 MB"},
        {2500000, "2.5 M", "2.5 MB"},
        {70000000, "70 M", "70 MB"},
        {5e9, "5 G", "5 GB"},
        {1.5e12, "1.5 T", "1.5 TB"},
        {1e18, "1000000 T", "1000000 TB"},
        {-5, "0", "0 B"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf count = buf_new(100), bytes = buf_new(100);

        trying(cases[i].count);
        print_count(&count, cases[i].n);
        assert_string_equal(count.data, cases[i].count);
        print_bytes(&bytes, cases[i].n);
        assert_string_equal(bytes.data, cases[i].bytes);
        buf_free(&count);
        buf_free(&bytes);
    }
}

static void
test_spans(void **state)
{
    static const struct {
        int64_t ms;
        const char *want;
    } cases[] = {
        {-1, "0 ms"},
        {0, "0 ms"},
        {140, "140 ms"},
        {999, "999 ms"},
        {1000, "1 s"},
        {4000, "4 s"},
        {5100, "5.1 s"},
        {9949, "9.9 s"},
        {9950, "10 s"},
        {59400, "59 s"},
        {59500, "1 m 00 s"},
        {125000, "2 m 05 s"},
        {3599000, "59 m 59 s"},
        {3600000, "1 h 00 m"},
        {90000000, "25 h 00 m"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf text = buf_new(100);

        trying(cases[i].want);
        print_span(&text, cases[i].ms);
        assert_string_equal(text.data, cases[i].want);
        buf_free(&text);
    }
}

static void
test_lines(void **state)
{
    static const struct {
        const char *status, *want;
    } cases[] = {
        {"{'status':'processing','state':'streaming','progress':55,'attempt':1,'max_attempts':3,"
         "'rows_done':1250000,'bytes_done':70000000,'rows_estimated':2500000,"
         "'rows_per_second':410000,'eta_seconds':4}",
            "t  streaming  █████░░░░░ 55%  1.25 M/≈2.5 M rows  70 MB  410 k rows/s  ETA 4 s"},
        {"{'status':'queued','state':'queued','progress':0,'position':3,'waiting_for':'worker'}",
            "t  queued  ░░░░░░░░░░ 0%  position 3  waiting for worker"},
        {"{'status':'queued','progress':0}", "t  queued  ░░░░░░░░░░ 0%"},
        {"{'status':'processing','state':'retrying','progress':40,'attempt':2,'max_attempts':3}",
            "t  retrying  ████░░░░░░ 40%  attempt 2 of 3"},
        {"{'status':'processing','state':'streaming','progress':99,'rows_done':1,'stalled':true}",
            "t  streaming  █████████░ 99%  1 row  stalled"},
        {"{'status':'completed','state':'completed','progress':100,'row_count':2000,"
         "'file_size':1048576,'duration_ms':5100,'attempt':2}",
            "t  completed  ██████████ 100%  2 k rows  1.05 MB  5.1 s"},
        {"{'status':'completed','row_count':0}", "t  completed  ██████████ 100%  0 rows"},
        {"{'status':'failed','state':'failed','progress':10,'error':'Gone\\u001b[31m'}",
            "t  failed  █░░░░░░░░░ 10%  Gone\\x1b[31m"},
        {"{'status':'processing','state':'a\\u202eb','progress':-5}",
            "t  a\\u202eb  ░░░░░░░░░░ 0%"},
        {"{'status':'processing','state':7,'progress':'much','rows_done':'x'}",
            "t  processing  ░░░░░░░░░░ 0%"},
        {"{'progress':1000}", "t  ?  ██████████ 100%"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        char text[1024];
        Buf line = buf_new(1024);
        json_t *status;

        snprintf(text, sizeof text, "%s", cases[i].status);
        for (char *at = text; *at; at++)
            if (*at == '\'')
                *at = '"';
        trying(text);
        status = json_loads(text, 0, NULL);
        assert_non_null(status);
        bar_line("t", status, &line);
        assert_string_equal(line.data, cases[i].want);
        buf_free(&line);
        json_decref(status);
    }
}

static void
test_download_line(void **state)
{
    Buf line = buf_new(1024);

    (void)state;
    bar_download("a.csv", 24000000, 70000000, 1000, &line);
    assert_string_equal(line.data, "a.csv  ███░░░░░░░ 34%  24 MB/70 MB  24 MB/s  ETA 1.9 s");
    buf_clear(&line);
    bar_download("a.csv", 0, 70000000, 0, &line);
    assert_string_equal(line.data, "a.csv  ░░░░░░░░░░ 0%  0 B/70 MB");
    buf_clear(&line);
    bar_download("a.csv", 5000, 0, 1000, &line);
    assert_string_equal(line.data, "a.csv  5 kB  5 kB/s");
    buf_free(&line);
}

/* security.md 9, row 70: only the last part, and only if it can be a name. */
static void
test_names(void **state)
{
    static const struct {
        const char *key, *want;
    } cases[] = {
        {"exports/u/a.csv", "a.csv"},
        {"a.csv", "a.csv"},
        {"../../.ssh/x", "x"},
        {"exports/../../.ssh/authorized_keys", "authorized_keys"},
        {"exports/u/", NULL},
        {"exports/u/.", NULL},
        {"exports/u/..", NULL},
        {"", NULL},
        {"exports/u/a\nb", NULL},
        {"exports/u/a\x1b[31m", NULL},
        {"exports/u/\xe2\x80\xae"
         "fdp.csv",
            NULL},
    };
    char longer[300];

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        const char *got = download_name(cases[i].key);

        trying(cases[i].key);
        if (cases[i].want)
            assert_string_equal(got, cases[i].want);
        else
            assert_null(got);
    }
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_null(download_name(longer));
}

/* What `print` writes to standard output. */
static const char *
output_of(const char *output, const char *fields, int words, const char *rows_text)
{
    static const CliColumn columns[] = {
        {"name", "NAME", CLI_TEXT}, {"rows", "ROWS", CLI_COUNT}, {"size", "SIZE", CLI_BYTES}, {0}};
    static char text[4096];
    Cli c = {.output = output, .fields = fields, .words = words};
    json_t *rows = json_loads(rows_text, 0, NULL);
    int pipes[2], kept = dup(STDOUT_FILENO);
    Err e = {0};
    ssize_t got;
    bool ok;

    assert_non_null(rows);
    assert_int_equal(pipe(pipes), 0);
    assert_true(dup2(pipes[1], STDOUT_FILENO) >= 0);
    ok = cli_print_rows(&c, rows, columns, &e);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    close(pipes[1]);
    got = read(pipes[0], text, sizeof text - 1);
    close(pipes[0]);
    json_decref(rows);
    assert_ok(ok, &e);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void
test_tables(void **state)
{
    static const char rows[] =
        "[{\"name\":\"a,\\\"b\\\"\",\"rows\":1250000,\"size\":70000000,\"x\":1},"
        "{\"name\":\"\\u00e9\\u001b[1m\",\"rows\":null},{\"name\":\"c\",\"rows\":-1234}]";

    (void)state;
    fflush(stdout);
    assert_string_equal(output_of("table", NULL, 0, rows), "NAME           ROWS   SIZE\n"
                                                           "a,\"b\"     1,250,000  70 MB\n"
                                                           "é\\x1b[1m          -      -\n"
                                                           "c            -1,234      -\n");
}

static void
test_forms(void **state)
{
    static const char rows[] = "[{\"name\":\"a,\\\"b\\\"\",\"rows\":1250000,\"x\":[1]},"
                               "{\"name\":\"c\\nd\",\"rows\":null}]";

    (void)state;
    fflush(stdout);
    assert_string_equal(
        output_of("csv", NULL, 0, rows), "name,rows,size\n\"a,\"\"b\"\"\",1250000,\n\"c\nd\",,\n");
    assert_string_equal(output_of("jsonl", "x,name,nothing", 0, rows),
        "{\"x\":[1],\"name\":\"a,\\\"b\\\"\"}\n{\"name\":\"c\\nd\"}\n");
    assert_string_equal(
        output_of("json", "rows", 0, rows), "[\n{\"rows\":1250000},\n{\"rows\":null}\n]\n");
    assert_string_equal(output_of("json", NULL, 1, "[{\"a\":1}]"), "{\"a\":1}\n");
    assert_string_equal(output_of("json", NULL, 0, "[{\"a\":1}]"), "[\n{\"a\":1}\n]\n");
    assert_string_equal(output_of("json", NULL, 0, "[]"), "[]\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_download_line),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
