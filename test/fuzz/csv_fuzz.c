/*
 * Any cells come back from their CSV as they were, NULL and empty text told apart where the options
 * say so; text that is not UTF-8 is refused.
 *
 * First byte: options and columns. Then cells, 0xfe between; one that begins with 0xfd is NULL.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "format/encoder.h"

enum { COLUMNS_MAX = 4, CELLS_MAX = 4096 };

extern const EncoderKind format_csv;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct {
    Sink base;
    Buf got;
} Keeper;

static bool
keep(Sink *s, const void *data, size_t bytes, Err *e)
{
    Keeper *k = (Keeper *)s;

    buf_put(&k->got, data, bytes);
    return buf_is_good(&k->got, e);
}

static const SinkKind keeper = {.name = "keeper", .write = keep};

typedef struct {
    const char *bytes; /* NULL: NULL */
    size_t count;
} Cell;

typedef struct {
    Cell cell[CELLS_MAX];
    size_t cells, columns, bytes;
    bool good;
} Table;

static void
take_apart(const char *at, const char *end, Table *t)
{
    t->good = true;
    t->bytes = (size_t)(end - at);
    while (t->cells < CELLS_MAX) {
        const char *stop = memchr(at, 0xfe, (size_t)(end - at));
        Cell *cell = &t->cell[t->cells++];

        if (!stop)
            stop = end;
        if (at == end || (uint8_t)*at != 0xfd) {
            *cell = (Cell){at, (size_t)(stop - at)};
            t->good = t->good && text_is_utf8(cell->bytes, cell->count);
        }
        if (stop == end)
            break;
        at = stop + 1;
    }
    while (t->cells % t->columns != 0)
        t->cells++; /* NULLs to fill up the row */
}

static bool
encode(const Table *t, const EncoderOptions *options, Keeper *sink, Err *e)
{
    static const ColumnSpec specs[COLUMNS_MAX] = {
        {"a", COLUMN_TEXT}, {"b", COLUMN_JSON}, {"c", COLUMN_DECIMAL}, {"d", COLUMN_TEXT}};
    const Schema schema = {t->columns, specs};
    size_t rows = t->cells / t->columns;
    Arena *task = arena_new(64 << 20);
    Column column[COLUMNS_MAX] = {0};
    Encoder *encoder;
    bool ok;

    for (size_t c = 0; c < t->columns; c++) {
        uint8_t *valid = arena_alloc(task, rows / 8 + 1, e);
        int32_t *offset = arena_alloc_array(task, rows + 1, sizeof *offset, e);
        char *text = arena_alloc(task, t->bytes + 1, e);

        if (!valid || !offset || !text)
            abort();
        for (size_t r = 0; r < rows; r++) {
            const Cell *cell = &t->cell[r * t->columns + c];

            if (cell->bytes) {
                valid[r >> 3] |= (uint8_t)(1u << (r & 7));
                memcpy(text + offset[r], cell->bytes, cell->count);
            }
            offset[r + 1] = offset[r] + (int32_t)cell->count;
        }
        column[c] = (Column){.valid = valid, .as.text = {offset, text}};
    }
    ok = (encoder = format_csv.open(&schema, options, &sink->base, task, e)) &&
         encoder_rows(encoder, &(Batch){rows, &schema, column}, e) && encoder_end(encoder, e);
    arena_free(task);
    return ok;
}

/* One cell as RFC 4180 reads it; how it ended is left at *at: a comma, a line end, the end. */
static void
read_cell(const char **at, const char *end, Buf *value, bool *quoted)
{
    const char *p = *at;

    buf_clear(value);
    *quoted = p < end && *p == '"';
    if (*quoted) {
        for (p++;; p++) {
            if (p == end)
                abort();
            if (*p != '"')
                buf_char(value, *p);
            else if (p + 1 < end && p[1] == '"')
                buf_char(value, *p++);
            else
                break;
        }
        p++;
    } else {
        for (; p < end && *p != ',' && *p != '\r' && *p != '\n'; p++) {
            if (*p == '"')
                abort();
            buf_char(value, *p);
        }
    }
    *at = p;
}

static void
expect(const char **at, const char *end, const char *what)
{
    size_t bytes = strlen(what);

    if ((size_t)(end - *at) < bytes || memcmp(*at, what, bytes) != 0)
        abort();
    *at += bytes;
}

static void
compare(const Table *t, const EncoderOptions *options, const Buf *got)
{
    const char *at = got->data, *end = at + got->bytes;
    const char *line_end = options->csv.line_ending_lf ? "\n" : "\r\n";
    Buf value = buf_new(1 << 20);
    bool quoted;

    if (options->csv.header) {
        for (size_t c = 0; c < t->columns; c++)
            expect(&at, end, (const char *const[]){"a", ",b", ",c", ",d"}[c]);
        expect(&at, end, line_end);
    }
    for (size_t i = 0; i < t->cells; i++) {
        const Cell *cell = &t->cell[i];

        read_cell(&at, end, &value, &quoted);
        if (value.bytes != cell->count ||
            memcmp(value.data, cell->bytes ? cell->bytes : "", value.bytes) != 0)
            abort();
        /* Nothing, and nothing at all. */
        if (cell->count == 0 &&
            quoted != (options->csv.empty_string_bare ? t->columns == 1 : cell->bytes != NULL))
            abort();
        expect(&at, end, (i + 1) % t->columns ? "," : line_end);
    }
    if (at != end)
        abort();
    buf_free(&value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static Table table;
    Keeper sink = {.base.kind = &keeper, .got = buf_new(64 << 20)};
    EncoderOptions options;
    Err e = {0};

    if (bytes == 0)
        return 0;
    memset(&table, 0, sizeof table);
    options = (EncoderOptions){.csv = {data[0] & 1, data[0] & 2, data[0] & 4}};
    table.columns = 1 + (data[0] >> 3) % COLUMNS_MAX;
    take_apart((const char *)data + 1, (const char *)data + bytes, &table);
    if (encode(&table, &options, &sink, &e) != table.good)
        abort();
    if (table.good)
        compare(&table, &options, &sink.got);
    else if (e.code != ERR_ENCODE_FAILED)
        abort();
    buf_free(&sink.got);
    return 0;
}
