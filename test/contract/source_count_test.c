/* source/count keeps what every source promises. */
#include "test/contract/source_contract.h"
#include "test/test.h"

extern const SourceKind source_count;

static const ColumnSpec columns[] = {{"square", COLUMN_DOUBLE}, {"number", COLUMN_INT64}};

static SourceSpec
counting(const char *url)
{
    return (SourceSpec){
        .name = "numbers", .url = url, .query = "", .column = columns, .columns = 2};
}

static void
test_yields(void **state)
{
    static const struct {
        const char *url;
        uint64_t rows;
    } cases[] = {{"count:0", 0}, {"count:1", 1}, {"count:4095", 4095}, {"count:4096", 4096},
        {"count:4097", 4097}, {"count:100000", 100000}};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = counting(cases[i].url);

        trying(cases[i].url);
        source_yields(&source_count, &spec, cases[i].rows);
    }
}

static void
test_rows(void **state)
{
    SourceSpec spec = counting("count:3");
    Err e = {0};
    char *text;

    (void)state;
    assert_ok(text = source_read(&source_count, &spec, &e), &e);
    assert_string_equal(text, "1|1\n4|2\n9|3\n");
    free(text);
}

static void
test_refused(void **state)
{
    static const char *const urls[] = {"count:", "count:-1", "count:01", "count:1x", "count:1 ",
        "count:9223372036854775808", "cound:1", ""};
    static const ColumnSpec wrong[] = {{"number", COLUMN_TEXT}};
    SourceSpec good = counting("count:5"), mistyped = good, none = good;

    (void)state;
    for (size_t i = 0; i < count_of(urls); i++) {
        SourceSpec spec = counting(urls[i]);

        trying(urls[i]);
        source_refuses(&source_count, &spec, ERR_SOURCE_UNAVAILABLE, NULL, &good);
    }
    source_names_missing_column(&source_count, &good);
    mistyped.column = wrong;
    mistyped.columns = 1;
    source_refuses(&source_count, &mistyped, ERR_SOURCE_QUERY, "number", &good);
    none.columns = 0;
    source_refuses(&source_count, &none, ERR_SOURCE_QUERY, NULL, &good);
}

static void
test_open_type(void **state)
{
    static const ColumnSpec open[] = {{"number", COLUMN_TEXT}};
    static const bool given[] = {false};
    SourceSpec spec = counting("count:2");
    Err e = {0};
    char *text;

    (void)state;
    spec.column = open;
    spec.type_given = given;
    spec.columns = 1;
    assert_ok(text = source_read(&source_count, &spec, &e), &e);
    assert_string_equal(text, "1\n2\n");
    free(text);
}

static void
test_ends(void **state)
{
    SourceSpec endless = counting("count:9223372036854775807"), few = counting("count:10");

    (void)state;
    source_ends_when_asked(&source_count, &endless);
    source_survives_no_memory(&source_count, &few);
}

static void
test_check(void **state)
{
    SourceSpec good = counting("count:5"), bad = counting("count:x");
    Err e = {0};

    (void)state;
    assert_ok(source_count.check(&good, NULL, &e), &e);
    assert_fails(source_count.check(&bad, NULL, &e), ERR_SOURCE_UNAVAILABLE, &e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yields),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_open_type),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
