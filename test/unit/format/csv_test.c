/* CSV: what each value looks like, what is quoted, and the exact bytes of a file. */
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "format/encoder.h"
#include "test/contract/sinks.h"
#include "test/test.h"

extern const EncoderKind format_csv;

/* A batch of up to 8 rows of one column per type, given as C values. */
typedef union {
    const char *text;
    int64_t n;
    double x;
} Value;

static bool
encode(const Schema *schema, const Column *column, size_t rows, const EncoderOptions *options,
    Buf *to, Err *e)
{
    TestSink sink = sink_new();
    Arena *task = arena_new(8 << 20);
    Batch batch = {rows, schema, column};
    Encoder *encoder = format_csv.open(schema, options, &sink.base, task, e);
    bool ok = encoder && encoder_rows(encoder, &batch, e) && encoder_end(encoder, e);

    buf_clear(to);
    buf_put(to, sink.got.data, sink.got.bytes);
    buf_free(&sink.got);
    arena_free(task);
    return ok;
}

/* One value of one column, no header, line end LF: the line without its end. */
static char *
cell(ColumnType type, Value value, size_t text_bytes)
{
    static Buf got;
    const ColumnSpec spec = {"v", type};
    const Schema schema = {1, &spec};
    EncoderOptions options = encoder_options_default();
    const int32_t offset[] = {0, (int32_t)text_bytes};
    const uint8_t bit = (uint8_t)value.n;
    const int16_t int16 = (int16_t)value.n;
    const int32_t int32 = (int32_t)value.n;
    const float real32 = (float)value.x;
    Column column = {0};
    Err e = {0};

    switch (type) {
    case COLUMN_BOOL:
        column.as.bits = &bit;
        break;
    case COLUMN_INT16:
        column.as.int16 = &int16;
        break;
    case COLUMN_INT32:
    case COLUMN_DATE:
        column.as.int32 = &int32;
        break;
    case COLUMN_INT64:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        column.as.int64 = &value.n;
        break;
    case COLUMN_FLOAT:
        column.as.real32 = &real32;
        break;
    case COLUMN_DOUBLE:
        column.as.real = &value.x;
        break;
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_JSON:
        column.as.text.offset = offset;
        column.as.text.bytes = value.text;
        break;
    case COLUMN_TYPES_COUNT:
        fail_msg("no type");
    }
    options.csv.header = false;
    options.csv.line_ending_lf = true;
    if (!got.data)
        got = buf_new(1 << 20);
    assert_ok(encode(&schema, &column, 1, &options, &got, &e), &e);
    assert_true(got.bytes > 0 && got.data[got.bytes - 1] == '\n');
    got.data[got.bytes - 1] = '\0';
    return got.data;
}

/* RFC 4180, 2.5 to 2.7. */
static void
test_quoting(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } cases[] = {
        {"plain", "hello", "hello"},
        {"empty is not NULL", "", "\"\""},
        {"comma", "a,b", "\"a,b\""},
        {"quote", "a\"b", "\"a\"\"b\""},
        {"only a quote", "\"", "\"\"\"\""},
        {"quotes at both ends", "\"a\"", "\"\"\"a\"\"\""},
        {"LF", "a\nb", "\"a\nb\""},
        {"CR", "a\rb", "\"a\rb\""},
        {"CRLF", "a\r\nb", "\"a\r\nb\""},
        {"blanks at both ends stay bare", " a ", " a "},
        {"tab stays bare", "a\tb", "a\tb"},
        {"semicolon stays bare", "a;b", "a;b"},
        {"apostrophe stays bare", "it's", "it's"},
        {"backslash stays bare", "a\\b", "a\\b"},
        {"a formula is bytes", "=1+1", "=1+1"},
        {"controls pass", "\x01\x1b[31m", "\x01\x1b[31m"},
        {"DEL passes", "\x7f", "\x7f"},
        {"more than ASCII", "é€😀", "é€😀"},
        {"more than ASCII, quoted", "é,€\n😀", "\"é,€\n😀\""},
        {"bidi passes", "\u202e", "\u202e"},
        {"a BOM passes", "\xef\xbb\xbf", "\xef\xbb\xbf"},
        {"quote in the ninth byte", "12345678\"", "\"12345678\"\"\""},
        {"comma in the eighth", "1234567,", "\"1234567,\""},
        {"comma in the first of the next eight", "12345678,2345678", "\"12345678,2345678\""},
        {"comma and quote in eight", "\",\",\",\",", "\"\"\",\"\",\"\",\"\",\""},
        {"LF at the end", "1234567\n", "\"1234567\n\""},
        {"a line of its own", "\n", "\"\n\""},
        {"eight blanks", "        ", "        "},
        {"eight of 0x21", "!!!!!!!!", "!!!!!!!!"},
        {"neighbours of the quote", "!#!#!#!#", "!#!#!#!#"},
        {"neighbours of the comma", "+-+-+-+-", "+-+-+-+-"},
        {"NULL as text", "NULL", "NULL"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].name);
        assert_string_equal(
            cell(COLUMN_TEXT, (Value){.text = cases[i].text}, strlen(cases[i].text)),
            cases[i].want);
    }
    /* A NUL is a character like another. */
    assert_memory_equal(cell(COLUMN_TEXT, (Value){.text = "a\0b"}, 3), "a\0b", 4);
    assert_memory_equal(cell(COLUMN_TEXT, (Value){.text = "\0,"}, 2), "\"\0,\"", 5);
}

/* Every single byte and every pair with a letter, at each place of a word of eight: quoted exactly
 * if it must be. */
static void
test_every_byte(void **state)
{
    char text[18], want[24];

    (void)state;
    for (int c = 0; c < 128; c++)
        for (size_t at = 0; at < 17; at++) {
            bool quoted = c == '"' || c == ',' || c == '\r' || c == '\n';
            size_t bytes = 0;

            memset(text, 'x', 17);
            text[at] = (char)c;
            if (quoted)
                want[bytes++] = '"';
            for (size_t i = 0; i < 17; i++) {
                want[bytes++] = text[i];
                if (text[i] == '"')
                    want[bytes++] = '"';
            }
            if (quoted)
                want[bytes++] = '"';
            want[bytes++] = '\0';
            assert_memory_equal(cell(COLUMN_TEXT, (Value){.text = text}, 17), want, bytes);
        }
}

#define US(text_s) ((int64_t)(text_s)*1000000)

static void
test_values(void **state)
{
    static const struct {
        ColumnType type;
        Value value;
        const char *want;
    } cases[] = {
        {COLUMN_BOOL, {.n = 1}, "true"},
        {COLUMN_BOOL, {.n = 0}, "false"},
        {COLUMN_INT16, {.n = -32768}, "-32768"},
        {COLUMN_INT16, {.n = 32767}, "32767"},
        {COLUMN_INT32, {.n = INT32_MIN}, "-2147483648"},
        {COLUMN_INT64, {.n = INT64_MIN}, "-9223372036854775808"},
        {COLUMN_INT64, {.n = INT64_MAX}, "9223372036854775807"},
        {COLUMN_INT64, {.n = 0}, "0"},
        {COLUMN_DOUBLE, {.x = 1}, "1.0"},
        {COLUMN_DOUBLE, {.x = -0.0}, "-0.0"},
        {COLUMN_DOUBLE, {.x = 0.1}, "0.1"},
        {COLUMN_DOUBLE, {.x = 1e-5}, "1e-05"},
        {COLUMN_DOUBLE, {.x = 1e16}, "1e+16"},
        {COLUMN_DOUBLE, {.x = -1.7976931348623157e308}, "-1.7976931348623157e+308"},
        {COLUMN_DOUBLE, {.x = 5e-324}, "5e-324"},
        {COLUMN_DOUBLE, {.x = INFINITY}, "inf"},
        {COLUMN_DOUBLE, {.x = -INFINITY}, "-inf"},
        {COLUMN_DOUBLE, {.x = NAN}, "nan"},
        {COLUMN_FLOAT, {.x = 0.1f}, "0.1"},
        {COLUMN_FLOAT, {.x = 16777216}, "16777216.0"},
        {COLUMN_FLOAT, {.x = -INFINITY}, "-inf"},
        {COLUMN_DATE, {.n = 0}, "1970-01-01"},
        {COLUMN_DATE, {.n = -1}, "1969-12-31"},
        {COLUMN_DATE, {.n = 19782}, "2024-02-29"},
        {COLUMN_DATE, {.n = 2932896}, "9999-12-31"},
        {COLUMN_DATE, {.n = 2932897}, "+10000-01-01"},
        {COLUMN_DATE, {.n = -719528}, "0000-01-01"},  /* 1 BC */
        {COLUMN_DATE, {.n = -719529}, "-0001-12-31"}, /* 2 BC */
        {COLUMN_DATE, {.n = -735525}, "-0044-03-15"},
        {COLUMN_DATE, {.n = -4371223}, "-9999-12-31"},
        {COLUMN_DATE, {.n = -4371588}, "-10000-12-31"},
        {COLUMN_DATE, {.n = INT32_MAX}, "infinity"},
        {COLUMN_DATE, {.n = INT32_MIN}, "-infinity"},
        {COLUMN_DATE, {.n = INT32_MAX - 1}, "+5881580-07-10"},
        {COLUMN_DATE, {.n = INT32_MIN + 1}, "-5877641-06-24"},
        {COLUMN_DATE, {.n = 200000000}, "+549551-05-28"},
        {COLUMN_TIME, {.n = 0}, "00:00:00"},
        {COLUMN_TIME, {.n = US(86399) + 999999}, "23:59:59.999999"},
        {COLUMN_TIME, {.n = US(3661)}, "01:01:01"},
        {COLUMN_TIME, {.n = 1}, "00:00:00.000001"},
        {COLUMN_TIME, {.n = 500000}, "00:00:00.500000"},
        {COLUMN_TIMESTAMP, {.n = 0}, "1970-01-01T00:00:00"},
        {COLUMN_TIMESTAMP, {.n = -1}, "1969-12-31T23:59:59.999999"},
        {COLUMN_TIMESTAMP, {.n = INT64_MAX}, "infinity"},
        {COLUMN_TIMESTAMP, {.n = INT64_MIN}, "-infinity"},
        {COLUMN_TIMESTAMP, {.n = INT64_MAX - 1}, "+294247-01-10T04:00:54.775806"},
        {COLUMN_TIMESTAMP, {.n = INT64_MIN + 1}, "-290308-12-21T19:59:05.224193"},
        {COLUMN_TIMESTAMPTZ, {.n = US(1704164645)}, "2024-01-02T03:04:05Z"},
        {COLUMN_TIMESTAMPTZ, {.n = US(1704164645) + 678000}, "2024-01-02T03:04:05.678000Z"},
        {COLUMN_TIMESTAMPTZ, {.n = INT64_MAX}, "infinity"},
        {COLUMN_TIMESTAMPTZ, {.n = INT64_MIN}, "-infinity"},
        {COLUMN_DECIMAL, {.text = "-12.50"}, "-12.50"},
        {COLUMN_DECIMAL, {.text = "NaN"}, "NaN"},
        {COLUMN_INTERVAL, {.text = "P1DT2H"}, "P1DT2H"},
        {COLUMN_UUID, {.text = "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
            "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
        {COLUMN_JSON, {.text = "{\"a\":[1,2]}"}, "\"{\"\"a\"\":[1,2]}\""},
        {COLUMN_JSON, {.text = "null"}, "null"},
        {COLUMN_BYTES, {.text = ""}, "\"\""},
        {COLUMN_BYTES, {.text = "f"}, "Zg=="},
        {COLUMN_BYTES, {.text = "fo"}, "Zm8="},
        {COLUMN_BYTES, {.text = "foo"}, "Zm9v"},
        {COLUMN_BYTES, {.text = "foob"}, "Zm9vYg=="},
        {COLUMN_BYTES, {.text = "\xff\xfe,\"\n"}, "//4sIgo="},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        bool is_text = cases[i].type == COLUMN_DECIMAL || cases[i].type >= COLUMN_INTERVAL ||
                       cases[i].type == COLUMN_BYTES;

        trying(cases[i].want);
        assert_string_equal(
            cell(cases[i].type, cases[i].value, is_text ? strlen(cases[i].value.text) : 0),
            cases[i].want);
    }
}

/* 10,000 bytes in pieces of 3,072: the pieces join without a seam. */
static void
test_long_bytes(void **state)
{
    enum { LONG = 10000 };
    char *bytes = malloc(LONG);
    Buf want = buf_new(1 << 20);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 0, LONG);
    for (int i = 0; i < LONG / 3 * 4; i++)
        buf_char(&want, 'A');
    buf_text(&want, "AA==");
    assert_string_equal(cell(COLUMN_BYTES, (Value){.text = bytes}, LONG), want.data);
    free(bytes);
    buf_free(&want);
}

static void
test_options(void **state)
{
    static const struct {
        const char *name;
        bool lf, bare, header;
        const char *want;
    } cases[] = {
        {"as RFC 4180", false, false, true, "a,\"odd,name\"\r\nx,1\r\n\"\",\r\n,3\r\n"},
        {"LF", true, false, true, "a,\"odd,name\"\nx,1\n\"\",\n,3\n"},
        {"bare", false, true, true, "a,\"odd,name\"\r\nx,1\r\n,\r\n,3\r\n"},
        {"no header", true, true, false, "x,1\n,\n,3\n"},
    };
    static const ColumnSpec columns[] = {{"a", COLUMN_TEXT}, {"odd,name", COLUMN_INT32}};
    static const Schema schema = {2, columns};
    static const int32_t offset[] = {0, 1, 1, 1}, n[] = {1, 2, 3};
    static const uint8_t text_valid = 0x3, n_valid = 0x5;
    const Column column[] = {
        {.valid = &text_valid, .as.text = {offset, "x"}}, {.valid = &n_valid, .as.int32 = n}};
    Buf got = buf_new(1 << 20);

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        EncoderOptions options = {.csv = {cases[i].lf, cases[i].bare, cases[i].header}};
        Err e = {0};

        trying(cases[i].name);
        assert_ok(encode(&schema, column, 3, &options, &got, &e), &e);
        assert_string_equal(got.data, cases[i].want);
    }
    buf_free(&got);
}

/* A row of one column without anything: a reader must still see a row. Bare is what Python's
 * csv.writer writes. */
static void
test_one_column(void **state)
{
    static const ColumnSpec columns[] = {{"a", COLUMN_TEXT}};
    static const Schema schema = {1, columns};
    static const int32_t offset[] = {0, 0, 0, 1};
    static const uint8_t valid = 0x6;
    const Column column[] = {{.valid = &valid, .as.text = {offset, "x"}}};
    EncoderOptions options = encoder_options_default();
    Buf got = buf_new(1 << 20);
    Err e = {0};

    (void)state;
    assert_ok(encode(&schema, column, 3, &options, &got, &e), &e);
    assert_string_equal(got.data, "a\r\n\r\n\"\"\r\nx\r\n");
    options.csv.empty_string_bare = true;
    assert_ok(encode(&schema, column, 3, &options, &got, &e), &e);
    assert_string_equal(got.data, "a\r\n\"\"\r\n\"\"\r\nx\r\n");
    buf_free(&got);
}

/* Wherever it stands in a text of whatever length, it is seen. */
static void
test_every_place(void **state)
{
    static const char odd[] = {',', '"', '\r', '\n'};

    (void)state;
    for (size_t bytes = 1; bytes <= 90; bytes++)
        for (size_t at = 0; at < bytes; at++)
            for (size_t i = 0; i < sizeof odd; i++) {
                char text[96], want[128];

                memset(text, 'q', bytes);
                text[at] = odd[i];
                snprintf(want, sizeof want, "\"%.*s%s%.*s\"", (int)at + 1, text,
                    odd[i] == '"' ? "\"" : "", (int)(bytes - at) - 1, text + at + 1);
                assert_string_equal(cell(COLUMN_TEXT, (Value){.text = text}, bytes), want);
            }
}

/* Many rows of long and short cells around the borders of the block: compared with a plain writer.
 */
static void
test_borders_of_the_block(void **state)
{
    enum { ROWS = 4096, CELL = 300 };
    static const ColumnSpec columns[] = {
        {"a", COLUMN_TEXT}, {"b", COLUMN_DOUBLE}, {"c", COLUMN_TEXT}, {"d", COLUMN_BOOL}};
    static const Schema schema = {4, columns};
    static const uint8_t bits[ROWS / 8];
    int32_t *offset = calloc(ROWS + 1, sizeof *offset);
    double *x = calloc(ROWS, sizeof *x);
    char *bytes = malloc(ROWS * CELL);
    EncoderOptions options = encoder_options_default();
    Buf want = buf_new(64 << 20), got = buf_new(64 << 20);
    Err e = {0};

    (void)state;
    assert_true(offset && x && bytes);
    buf_text(&want, "a,b,c,d\r\n");
    for (int i = 0; i < ROWS; i++) {
        int32_t length = 1 + i * 7 % CELL;
        bool quoted = i % 3 == 0;

        x[i] = -1.2345678901234568e-300;
        offset[i + 1] = offset[i] + length;
        memset(bytes + offset[i], quoted ? '"' : 'q', (size_t)length);
        for (int twice = 0; twice < 2; twice++) {
            if (quoted)
                buf_char(&want, '"');
            buf_put(&want, bytes + offset[i], (size_t)length);
            if (quoted) {
                buf_put(&want, bytes + offset[i], (size_t)length);
                buf_char(&want, '"');
            }
            buf_text(&want, twice ? ",false\r\n" : ",-1.2345678901234568e-300,");
        }
    }
    const Column column[] = {{.as.text = {offset, bytes}}, {.as.real = x},
        {.as.text = {offset, bytes}}, {.as.bits = bits}};
    assert_ok(encode(&schema, column, ROWS, &options, &got, &e), &e);
    assert_int_equal(got.bytes, want.bytes);
    assert_memory_equal(got.data, want.data, want.bytes);
    buf_free(&want);
    buf_free(&got);
    free(offset);
    free(x);
    free(bytes);
}

/* All types, with and without NULL, as they stand in test/golden/types.csv. */
static void
test_golden(void **state)
{
    static const ColumnSpec columns[] = {{"bool", COLUMN_BOOL}, {"int16", COLUMN_INT16},
        {"int32", COLUMN_INT32}, {"int64", COLUMN_INT64}, {"float", COLUMN_FLOAT},
        {"double", COLUMN_DOUBLE}, {"decimal", COLUMN_DECIMAL}, {"text", COLUMN_TEXT},
        {"bytes", COLUMN_BYTES}, {"date", COLUMN_DATE}, {"time", COLUMN_TIME},
        {"timestamp", COLUMN_TIMESTAMP}, {"timestamptz", COLUMN_TIMESTAMPTZ},
        {"interval", COLUMN_INTERVAL}, {"uuid", COLUMN_UUID}, {"json", COLUMN_JSON}};
    static const Schema schema = {count_of(columns), columns};
    /* Rows: usual, at the edges, empty, NULL. */
    static const uint8_t valid = 0x7, bits = 0x5;
    static const int16_t int16[] = {1, INT16_MIN, 0, 0};
    static const int32_t int32[] = {1, INT32_MIN, 0, 0}, date[] = {19782, INT32_MAX, -719529, 0};
    static const int64_t int64[] = {1, INT64_MIN, 0, 0},
                         time[] = {US(3661), US(86399) + 999999, 0, 0},
                         stamp[] = {US(1704164645) + 678000, INT64_MIN, -1, 0};
    static const float real32[] = {0.1f, -INFINITY, 0, 0};
    static const double real[] = {0.1, NAN, -0.0, 0};
    static const int32_t text_at[] = {0, 5, 17, 17, 17}, decimal_at[] = {0, 4, 34, 35, 35},
                         bytes_at[] = {0, 3, 5, 5, 5}, interval_at[] = {0, 3, 13, 17, 17},
                         uuid_at[] = {0, 36, 72, 108, 108}, json_at[] = {0, 2, 18, 22, 22};
    const Column column[] = {
        {.valid = &valid, .as.bits = &bits},
        {.valid = &valid, .as.int16 = int16},
        {.valid = &valid, .as.int32 = int32},
        {.valid = &valid, .as.int64 = int64},
        {.valid = &valid, .as.real32 = real32},
        {.valid = &valid, .as.real = real},
        {.valid = &valid, .as.text = {decimal_at, "1.50-99999999999999999999999999.990"}},
        {.valid = &valid, .as.text = {text_at, "plaina,\"b\"\r\né€"}},
        {.valid = &valid, .as.text = {bytes_at, "\x00\x01\x02\xff\xfe"}},
        {.valid = &valid, .as.int32 = date},
        {.valid = &valid, .as.int64 = time},
        {.valid = &valid, .as.int64 = stamp},
        {.valid = &valid, .as.int64 = stamp},
        {.valid = &valid, .as.text = {interval_at, "P1D-P1Y2M3DT4PT0S"}},
        {.valid = &valid,
            .as.text = {uuid_at, "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"
                                 "ffffffff-ffff-ffff-ffff-ffffffffffff"
                                 "00000000-0000-0000-0000-000000000000"}},
        {.valid = &valid, .as.text = {json_at, "{}[\"a\",{\"b\":null}]null"}},
    };
    EncoderOptions options = encoder_options_default();
    Buf got = buf_new(1 << 20);
    char want[4096];
    ssize_t bytes;
    Err e = {0};
    int fd;

    (void)state;
    assert_ok(encode(&schema, column, 4, &options, &got, &e), &e);
    fd = open("test/golden/types.csv", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0); /* run from the top of the tree */
    bytes = read(fd, want, sizeof want);
    close(fd);
    if ((size_t)bytes != got.bytes || memcmp(want, got.data, got.bytes) != 0)
        fail_msg("not test/golden/types.csv but:\n%s", got.data);
    buf_free(&got);
}

static void
test_what_it_is(void **state)
{
    (void)state;
    assert_string_equal(format_csv.name, "csv");
    assert_string_equal(format_csv.extension, ".csv");
    assert_string_equal(format_csv.content_type, "text/csv; charset=utf-8");
    assert_true(encoder_options_default().csv.header);
    assert_false(encoder_options_default().csv.empty_string_bare);
    assert_false(encoder_options_default().csv.line_ending_lf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_long_bytes),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_one_column),
        cmocka_unit_test(test_every_place),
        cmocka_unit_test(test_borders_of_the_block),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_what_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
