#include "test/contract/encoder_contract.h"

#include "test/contract/sinks.h"
#include "test/test.h"

/* The format under test; cmocka hands on no more than one pointer, and here it is. */
static const EncoderKind *kind;

enum { ROWS = 1000 };

static const ColumnSpec columns[] = {{"n", COLUMN_INT64}, {"t", COLUMN_TEXT}, {"x", COLUMN_DOUBLE}};
static const Schema schema = {3, columns};

/* Rows from `from` on: numbers, texts of odd lengths with things to quote, NULLs here and there. */
typedef struct {
    int64_t n[ROWS];
    double x[ROWS];
    int32_t offset[ROWS + 1];
    char bytes[ROWS * 32];
    uint8_t valid[ROWS / 8 + 1];
    Column column[3];
    Batch batch;
} Rows;

static void
fill(Rows *rows, size_t from, size_t count)
{
    memset(rows, 0, sizeof *rows);
    for (size_t i = 0; i < count; i++) {
        size_t n = from + i;
        int cut = n % 11 == 9 ? 10 : (int)(n % 11); /* not through the last character */
        int wrote = snprintf(rows->bytes + rows->offset[i], 32, "%.*s%zu", cut, "a,\"b\r\n'\té", n);

        rows->n[i] = (int64_t)(n * n);
        rows->x[i] = (double)n / 7;
        rows->offset[i + 1] = rows->offset[i] + (n % 13 ? wrote : 0);
        if (n % 5)
            rows->valid[i >> 3] |= (uint8_t)(1u << (i & 7));
    }
    rows->column[0].as.int64 = rows->n;
    rows->column[1].as.text.offset = rows->offset;
    rows->column[1].as.text.bytes = rows->bytes;
    rows->column[1].valid = rows->valid;
    rows->column[2].as.real = rows->x;
    rows->batch = (Batch){count, &schema, rows->column};
}

static bool
encode(Sink *sink, size_t rows_each, Arena *task, Err *e)
{
    EncoderOptions options = encoder_options_default();
    Encoder *encoder = kind->open(&schema, &options, sink, task, e);
    Rows *rows = malloc(sizeof *rows);
    bool ok = encoder != NULL;

    assert_non_null(rows);
    for (size_t at = 0; ok && at < ROWS; at += rows_each) {
        fill(rows, at, ROWS - at < rows_each ? ROWS - at : rows_each);
        ok = encoder_rows(encoder, &rows->batch, e);
    }
    free(rows);
    return ok && encoder_end(encoder, e);
}

static void
test_any_cut_gives_the_same(void **state)
{
    static const size_t cuts[] = {ROWS, 1, 7, 64, 999};
    TestSink first = sink_new();

    (void)state;
    for (size_t i = 0; i < count_of(cuts); i++) {
        TestSink sink = sink_new();
        Arena *task = arena_new(8 << 20);
        Err e = {0};

        assert_ok(encode(&sink.base, cuts[i], task, &e), &e);
        assert_int_equal(sink.finishes, 0); /* not the encoder's business */
        if (i == 0)
            buf_put(&first.got, sink.got.data, sink.got.bytes);
        assert_true(sink.got.bytes > ROWS);
        assert_int_equal(sink.got.bytes, first.got.bytes);
        assert_memory_equal(sink.got.data, first.got.data, first.got.bytes);
        buf_free(&sink.got);
        arena_free(task);
    }
    buf_free(&first.got);
}

static void
test_no_rows(void **state)
{
    EncoderOptions options = encoder_options_default();
    TestSink sink = sink_new();
    Arena *task = arena_new(8 << 20);
    Encoder *encoder;
    Batch none = {0, &schema, NULL};
    Err e = {0};

    (void)state;
    assert_ok(encoder = kind->open(&schema, &options, &sink.base, task, &e), &e);
    assert_ptr_equal(encoder->kind, kind);
    assert_ok(encoder_rows(encoder, &none, &e), &e);
    assert_ok(encoder_end(encoder, &e), &e);
    buf_free(&sink.got);
    arena_free(task);
}

static void
test_a_sink_that_fails(void **state)
{
    TestSink whole = sink_new();
    Arena *task = arena_new(8 << 20);
    Err e = {0};

    (void)state;
    assert_ok(encode(&whole.base, 100, task, &e), &e);
    arena_free(task);
    for (uint64_t after = 0; after < whole.got.bytes; after += 1 + after / 2) {
        TestSink sink = sink_new();

        task = arena_new(8 << 20);
        sink.fails_after = after;
        assert_fails(encode(&sink.base, 100, task, &e), ERR_STORAGE_FULL, &e);
        err_clear(&e);
        buf_free(&sink.got);
        arena_free(task);
    }
    buf_free(&whole.got);
}

static void
test_no_memory(void **state)
{
    bool ok = false;

    (void)state;
    for (unsigned long nth = 1; !ok; nth++) {
        TestSink sink = sink_new();
        Arena *task = arena_new(8 << 20);
        Err e = {0};

        arena_fail_at(nth);
        ok = encode(&sink.base, 100, task, &e);
        arena_fail_at(0);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        assert_true(nth < 1000);
        buf_free(&sink.got);
        arena_free(task);
    }
}

/* One value of 10 MB among small ones. */
static void
test_a_huge_value(void **state)
{
    enum { HUGE_BYTES = 10 << 20 };
    EncoderOptions options = encoder_options_default();
    TestSink sink = sink_new();
    Arena *task = arena_new(64 << 20);
    const int32_t offset[] = {0, 1, HUGE_BYTES + 1, HUGE_BYTES + 2};
    const int64_t n[] = {1, 2, 3};
    const double x[] = {1, 2, 3};
    Column column[3] = {{.as.int64 = n}, {.as.text.offset = offset}, {.as.real = x}};
    Batch batch = {3, &schema, column};
    char *bytes = malloc(HUGE_BYTES + 2);
    Encoder *encoder;
    Err e = {0};

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'h', HUGE_BYTES + 2);
    column[1].as.text.bytes = bytes;
    assert_ok(encoder = kind->open(&schema, &options, &sink.base, task, &e), &e);
    assert_ok(encoder_rows(encoder, &batch, &e), &e);
    assert_ok(encoder_end(encoder, &e), &e);
    free(bytes);
    buf_free(&sink.got);
    arena_free(task);
}

static void
test_text_that_is_not_utf8(void **state)
{
    static const char *const texts[] = {
        "\xff", "abcdefgh\xc0\xaf", "\xed\xa0\x80", "ok\x80", "\xf4\x90\x80\x80", "cut \xe2\x82"};

    (void)state;
    for (size_t i = 0; i < count_of(texts); i++) {
        EncoderOptions options = encoder_options_default();
        TestSink sink = sink_new();
        Arena *task = arena_new(8 << 20);
        int32_t offset[] = {0, 0, (int32_t)strlen(texts[i])};
        const int64_t n[] = {1, 2};
        const double x[] = {1, 2};
        Column column[3] = {{.as.int64 = n}, {.as.text = {offset, texts[i]}}, {.as.real = x}};
        Batch batch = {2, &schema, column};
        Rows *before = malloc(sizeof *before);
        Encoder *encoder;
        Err e = {0};

        assert_non_null(before);
        fill(before, 0, 100);
        assert_ok(encoder = kind->open(&schema, &options, &sink.base, task, &e), &e);
        assert_ok(encoder_rows(encoder, &before->batch, &e), &e);
        assert_fails(
            encoder_rows(encoder, &batch, &e) && encoder_end(encoder, &e), ERR_ENCODE_FAILED, &e);
        assert_says(&e, "column t, row 102");
        free(before);
        buf_free(&sink.got);
        arena_free(task);
    }
}

int
encoder_contract(const char *name, const EncoderKind *which)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut_gives_the_same),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_a_sink_that_fails),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_a_huge_value),
        cmocka_unit_test(test_text_that_is_not_utf8),
    };

    kind = which;
    return _cmocka_run_group_tests(name, tests, count_of(tests), NULL, NULL);
}
