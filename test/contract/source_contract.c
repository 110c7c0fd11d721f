#include "test/contract/source_contract.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/text.h"
#include "base/time.h"
#include "test/contract/watches.h"
#include "test/test.h"

enum { TASK_BYTES = 256 << 20, END_MS_MAX = 2000 };

static bool
is_text(ColumnType type)
{
    return type == COLUMN_DECIMAL || type == COLUMN_TEXT || type == COLUMN_BYTES ||
           type == COLUMN_INTERVAL || type == COLUMN_UUID || type == COLUMN_JSON;
}

/* Bytes of text in a batch; what lies in it must be in order and readable (the sanitizer looks). */
static size_t
text_bytes(const Batch *batch)
{
    size_t sum = 0;
    unsigned char touched = 0;

    for (size_t at = 0; at < batch->schema->columns; at++) {
        const Column *c = &batch->column[at];

        if (!is_text(batch->schema->column[at].type))
            continue;
        for (size_t row = 0; row < batch->rows; row++)
            assert_true(c->as.text.offset[row] <= c->as.text.offset[row + 1]);
        assert_int_equal(c->as.text.offset[0], 0);
        for (int32_t i = 0; i < c->as.text.offset[batch->rows]; i++)
            touched ^= (unsigned char)c->as.text.bytes[i];
        sum += (size_t)c->as.text.offset[batch->rows];
    }
    (void)touched;
    return sum;
}

static void
check_schema(const Schema *schema, const SourceSpec *spec)
{
    assert_non_null(schema);
    assert_int_equal(schema->columns, spec->columns);
    for (size_t i = 0; i < spec->columns; i++) {
        assert_string_equal(schema->column[i].name, spec->column[i].name);
        if (!spec->type_given || spec->type_given[i])
            assert_int_equal(schema->column[i].type, spec->column[i].type);
    }
}

static void
read_through(const SourceKind *kind, const SourceSpec *spec, uint64_t rows)
{
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    uint64_t seen = 0;
    Source *source;
    Batch batch;
    Err e = {0};

    assert_ok(source = kind->open(spec, &watch.base, task, &e), &e);
    assert_true(watch.stages & 1u << STAGE_QUERYING);
    check_schema(source->schema, spec);
    for (;;) {
        assert_ok(source_next(source, &batch, &e), &e);
        if (batch.rows == 0)
            break;
        assert_ptr_equal(batch.schema, source->schema);
        assert_true(batch.rows <= BATCH_ROWS_MAX);
        assert_true(text_bytes(&batch) <= BATCH_BYTES_MAX || batch.rows == 1);
        seen += batch.rows;
        assert_true(seen <= rows);
    }
    assert_int_equal(seen, rows);
    for (int again = 0; again < 3; again++) {
        assert_ok(source_next(source, &batch, &e), &e);
        assert_int_equal(batch.rows, 0);
    }
    source_close(source);
    arena_free(task);
}

void
source_yields(const SourceKind *kind, const SourceSpec *spec, uint64_t rows)
{
    read_through(kind, spec, rows);
    read_through(kind, spec, rows);
}

/* As the pipeline does: the watch is asked between two batches. */
static bool
run(const SourceKind *kind, const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    Source *source = kind->open(spec, watch, task, e);
    bool ok = source != NULL;
    uint64_t rows = 0;
    Batch batch = {.rows = 1};

    while (ok && batch.rows > 0) {
        ok = source_next(source, &batch, e);
        if (!ok)
            break;
        rows += batch.rows;
        (void)text_bytes(&batch);
        ok = watch->go_on(watch, STAGE_STREAMING, rows, 0, e);
    }
    source_close(source);
    return ok;
}

void
source_ends_when_asked(const SourceKind *kind, const SourceSpec *spec)
{
    static const ErrCode reasons[] = {ERR_CANCELLED, ERR_TASK_TIMEOUT, ERR_GIVEN_BACK};

    for (size_t i = 0; i < count_of(reasons); i++) {
        TestWatch watch = watch_new();
        Arena *task = arena_new(TASK_BYTES);
        int64_t began_ms = time_now_ms();
        Err e = {0};

        watch.ends_at_ms = began_ms + 100;
        watch.ends_with = reasons[i];
        assert_fails(run(kind, spec, &watch.base, task, &e), reasons[i], &e);
        assert_true(time_now_ms() - began_ms < END_MS_MAX);
        arena_free(task);
    }
}

void
source_ends_by_timeout(const SourceKind *kind, const SourceSpec *spec)
{
    SourceSpec hurried = *spec;
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    int64_t began_ms = time_now_ms();
    Err e = {0};

    hurried.timeout_ms = 100;
    watch.ends_at_ms = began_ms + 60000;
    assert_fails(run(kind, &hurried, &watch.base, task, &e), ERR_QUERY_TIMEOUT, &e);
    assert_true(time_now_ms() - began_ms < END_MS_MAX);
    arena_free(task);
}

void
source_refuses(const SourceKind *kind, const SourceSpec *spec, ErrCode code, const char *says,
    const SourceSpec *good)
{
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    Err e = {0};

    assert_fails(run(kind, spec, &watch.base, task, &e), code, &e);
    if (says)
        assert_says(&e, says);
    err_clear(&e);
    if (good)
        assert_ok(run(kind, good, &watch.base, task, &e), &e);
    arena_free(task);
}

void
source_names_missing_column(const SourceKind *kind, const SourceSpec *spec)
{
    const ColumnSpec wrong[] = {spec->column[0], {"no_such_column", COLUMN_TEXT}};
    SourceSpec asks = *spec;

    asks.column = wrong;
    asks.columns = 2;
    asks.type_given = NULL;
    source_refuses(kind, &asks, ERR_SOURCE_QUERY, "no_such_column", spec);
}

void
source_survives_no_memory(const SourceKind *kind, const SourceSpec *spec)
{
    bool ok = false;

    for (unsigned long nth = 1; !ok; nth++) {
        TestWatch watch = watch_new();
        Arena *task = arena_new(TASK_BYTES);
        Err e = {0};

        arena_fail_at(nth);
        ok = run(kind, spec, &watch.base, task, &e);
        arena_fail_at(0);
        arena_free(task);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        assert_true(nth < 10000);
        assert_true(!ok || nth > 1); /* it does take memory from the task */
    }
}

static void
put_cell(Buf *to, ColumnType type, const Column *c, size_t row)
{
    char hex[2 * 256 + 1];

    if (column_is_null(c, row)) {
        buf_text(to, "NULL");
        return;
    }
    switch (type) {
    case COLUMN_BOOL:
        buf_text(to, c->as.bits[row >> 3] >> (row & 7) & 1 ? "true" : "false");
        break;
    case COLUMN_INT16:
        buf_printf(to, "%d", c->as.int16[row]);
        break;
    case COLUMN_INT32:
    case COLUMN_DATE:
        buf_printf(to, "%" PRId32, c->as.int32[row]);
        break;
    case COLUMN_INT64:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        buf_printf(to, "%" PRId64, c->as.int64[row]);
        break;
    case COLUMN_FLOAT:
        buf_printf(to, "%.9g", (double)c->as.real32[row]);
        break;
    case COLUMN_DOUBLE:
        buf_printf(to, "%.17g", c->as.real[row]);
        break;
    case COLUMN_BYTES:
        for (int32_t i = c->as.text.offset[row]; i < c->as.text.offset[row + 1]; i++) {
            text_hex((const uint8_t *)c->as.text.bytes + i, 1, hex);
            buf_text(to, hex);
        }
        break;
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_JSON:
        buf_put(to, c->as.text.bytes + c->as.text.offset[row],
            (size_t)(c->as.text.offset[row + 1] - c->as.text.offset[row]));
        break;
    case COLUMN_TYPES_COUNT:
        fail_msg("no type");
    }
}

char *
source_read(const SourceKind *kind, const SourceSpec *spec, Err *e)
{
    TestWatch watch = watch_new();
    Arena *task = arena_new(TASK_BYTES);
    Source *source = kind->open(spec, &watch.base, task, e);
    Buf text = buf_new(256 << 20);
    bool ok = source != NULL;
    char *copy = NULL;
    Batch batch = {.rows = 1}, before = {0};

    /* As an export does: a batch is read when the next one has been made. */
    while (ok && batch.rows > 0 && (ok = source_next(source, &batch, e))) {
        for (size_t row = 0; row < before.rows; row++)
            for (size_t at = 0; at < before.schema->columns; at++) {
                put_cell(&text, before.schema->column[at].type, &before.column[at], row);
                buf_char(&text, at + 1 < before.schema->columns ? '|' : '\n');
            }
        before = batch;
    }
    assert_false(text.failed);
    source_close(source);
    arena_free(task);
    if (ok) {
        copy = malloc(text.bytes + 1);
        assert_non_null(copy);
        memcpy(copy, text.data, text.bytes + 1);
    }
    buf_free(&text);
    return copy;
}
