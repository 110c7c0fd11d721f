/* source/postgres/copy.c: rows of a binary COPY, and what is none. */
#include "source/postgres/postgres_in.h"
#include "test/test.h"

enum { COLUMNS = 2 };

static const ColumnSpec column[COLUMNS] = {{"at", COLUMN_TIMESTAMPTZ}, {"name", COLUMN_TEXT}};
static const PgForm form[COLUMNS] = {PG_TIMESTAMP, PG_TEXT_CHECKED};
static const bool never_null[COLUMNS] = {false, false};
static const PgColumns columns = {"", COLUMNS, column, form, never_null};

/* Its last byte is the one that the compiler adds. */
static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";

typedef struct {
    Arena *arena;
    ColumnBuilder builder[COLUMNS];
    PgBatch batch;
    PgCopy copy;
    Buf stream;
    Err e;
} Bench;

static Bench
begin(void)
{
    Bench b = {
        .arena = arena_new(4 << 20), .copy = pg_copy_new(&columns), .stream = buf_new(8 << 20)};

    for (size_t i = 0; i < COLUMNS; i++) {
        assert_true(builder_init(&b.builder[i], &column[i], b.arena, &b.e));
        builder_begin(&b.builder[i]);
    }
    buf_put(&b.stream, header, sizeof header);
    return b;
}

static void
end(Bench *b)
{
    for (size_t i = 0; i < COLUMNS; i++)
        builder_free(&b->builder[i]);
    buf_free(&b->stream);
    arena_free(b->arena);
}

static void
put_row(Bench *b, const char *eight, size_t bytes, const char *text)
{
    buf_put(&b->stream, "\0\2\0\0\0", 5);
    buf_char(&b->stream, (char)bytes);
    buf_put(&b->stream, eight, bytes);
    buf_put(&b->stream, "\0\0", 2);
    buf_char(&b->stream, (char)(strlen(text) >> 8));
    buf_char(&b->stream, (char)strlen(text));
    buf_text(&b->stream, text);
}

static bool
take(Bench *b, size_t from, size_t *used)
{
    b->batch.builder = b->builder;
    err_clear(&b->e);
    return pg_copy_take(&b->copy, (const uint8_t *)b->stream.data + from, b->stream.bytes - from,
        &b->batch, used, &b->e);
}

static void
test_row_by_row(void **state)
{
    Bench b = begin();
    size_t used, at = 0;
    Column shown;

    (void)state;
    put_row(&b, "\0\0\0\0\0\0\0\0", 8, "x");
    put_row(&b, "\177\377\377\377\377\377\377\377", 8, "");
    buf_put(&b.stream, "\0\2\377\377\377\377\377\377\377\377", 10);
    assert_true(take(&b, at, &used));
    assert_int_equal(used, b.stream.bytes);
    assert_int_equal(b.batch.rows, 3);
    assert_false(b.copy.has_ended);
    builder_show(&b.builder[0], &shown);
    assert_int_equal(shown.as.int64[0], 946684800000000); /* 2000-01-01 */
    assert_true(shown.as.int64[1] == INT64_MAX);
    assert_true(column_is_null(&shown, 2));
    builder_show(&b.builder[1], &shown);
    assert_int_equal(shown.as.text.offset[3], 1);
    assert_true(column_is_null(&shown, 2) && !column_is_null(&shown, 1));
    at += used;
    buf_put(&b.stream, "\377\377", 2);
    assert_true(take(&b, at, &used));
    assert_true(b.copy.has_ended);
    assert_int_equal(used, 2);
    end(&b);
}

/* Half a row is left for later, and leaves nothing behind. */
static void
test_every_cut(void **state)
{
    Bench b = begin();
    size_t all, used;

    (void)state;
    put_row(&b, "\0\0\0\0\0\0\0\1", 8, "some name");
    buf_put(&b.stream, "\377\377", 2);
    all = b.stream.bytes;
    for (size_t cut = 0; cut < all; cut++) {
        b.stream.bytes = cut;
        b.copy = pg_copy_new(&columns);
        b.batch = (PgBatch){0};
        assert_true(take(&b, 0, &used));
        assert_true(used <= cut);
        assert_int_equal(b.batch.rows, cut >= all - 2);
        b.stream.bytes = all;
        assert_true(take(&b, used, &used));
        assert_int_equal(b.batch.rows, 1);
        assert_true(b.copy.has_ended);
        builder_begin(&b.builder[1]);
    }
    end(&b);
}

static void
test_a_batch_is_bounded(void **state)
{
    Bench b = begin();
    static char kib[1025];
    size_t used;

    (void)state;
    memset(kib, 'k', sizeof kib - 1);
    for (unsigned i = 0; i < 1500; i++)
        put_row(&b, "\0\0\0\0\0\0\0\0", 8, kib);
    assert_true(take(&b, 0, &used));
    assert_true(b.batch.full);
    assert_true(b.batch.rows > 900 && b.batch.bytes <= BATCH_BYTES_MAX);
    assert_true(used < b.stream.bytes);
    end(&b);
}

static void
test_what_is_refused(void **state)
{
    static const struct {
        const char *title;
        const char *bytes;
        size_t count;
        const char *says;
    } cases[] = {
        {"another length", "\0\2\0\0\0\4\0\0\0\0\377\377\377\377", 14, "column at, row 2: 4 bytes"},
        {"past the year 294246", "\0\2\0\0\0\10\177\377\377\377\377\377\377\376\377\377\377\377",
            18, "column at, row 2: a time past the year"},
        {"no UTF-8", "\0\2\377\377\377\377\0\0\0\1\351", 11,
            "column name, row 2: bytes that are not UTF-8"},
        {"another number of columns", "\0\3", 2, "row 2 has 3 columns instead of 2"},
        {"a negative number of columns", "\377\376", 2, "row 2 has -2 columns"},
        {"a value past all limits", "\0\2\4\0\0\1", 6,
            "column at, row 2: a value of more than 64 MiB"},
        {"a negative length", "\0\2\377\377\377\376", 6, "a value of more than"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Bench b = begin();
        size_t used;

        trying(cases[i].title);
        put_row(&b, "\0\0\0\0\0\0\0\0", 8, "good");
        buf_put(&b.stream, cases[i].bytes, cases[i].count);
        assert_false(take(&b, 0, &used));
        assert_non_null(strstr(err_root(&b.e), cases[i].says));
        end(&b);
    }
}

static void
test_another_beginning(void **state)
{
    static const char *const beginnings[] = {
        "PGCOPY\n\377\r\r\0\0\0\0\0\0\0\0\0",
        "PGCOPY\n\377\r\n\0\0\1\0\0\0\0\0\0", /* rows with object identifiers */
        "PGCOPY\n\377\r\n\0\0\0\0\0\377\377\377\377",
        "HTTP/1.1 400 Bad Re",
    };

    (void)state;
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        Bench b = begin();
        size_t used;

        buf_clear(&b.stream);
        buf_put(&b.stream, beginnings[i], sizeof header);
        assert_false(take(&b, 0, &used));
        assert_int_equal(b.e.code, ERR_SOURCE_QUERY);
        end(&b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_by_row),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_a_batch_is_bounded),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_another_beginning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
