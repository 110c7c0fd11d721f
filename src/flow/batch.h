/*
 * Batch: rows by column, laid out as Apache Arrow does
 * (https://arrow.apache.org/docs/format/Columnar.html).
 *
 * What flows from a source to an encoder. Owned by the source, good until its next but one call. A
 * batch ends at BATCH_ROWS_MAX rows or BATCH_BYTES_MAX bytes, whichever comes first; a larger row
 * travels alone, up to ROW_BYTES_MAX, above which the source fails with SIZE_LIMIT.
 */
#ifndef FLOW_BATCH_H
#define FLOW_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BATCH_ROWS_MAX = 4096, BATCH_BYTES_MAX = 1 << 20, ROW_BYTES_MAX = 64 << 20 };

/*
 * COLUMN_TYPE(id, name, as): the types of configuration.md 4; `as` names the member of Column's
 * union. bool         as.bits: one bit per row date         as.int32: days since 1970-01-01 time
 * as.int64: microseconds of the day timestamp    as.int64: microseconds since 1970, no zone;
 * timestamptz: the same, UTC INT64_MAX is infinity, INT64_MIN -infinity decimal, interval, uuid,
 * json, bytes, text: as.text (decimal: digits; interval: ISO 8601; uuid: 36 lower-case characters;
 * bytes: raw)
 */
#define COLUMN_TYPES(X)                                                                            \
    X(BOOL, "bool", bits)                                                                          \
    X(INT16, "int16", int16)                                                                       \
    X(INT32, "int32", int32)                                                                       \
    X(INT64, "int64", int64)                                                                       \
    X(FLOAT, "float", real32)                                                                      \
    X(DOUBLE, "double", real)                                                                      \
    X(DECIMAL, "decimal", text)                                                                    \
    X(TEXT, "text", text)                                                                          \
    X(BYTES, "bytes", text)                                                                        \
    X(DATE, "date", int32)                                                                         \
    X(TIME, "time", int64)                                                                         \
    X(TIMESTAMP, "timestamp", int64)                                                               \
    X(TIMESTAMPTZ, "timestamptz", int64)                                                           \
    X(INTERVAL, "interval", text)                                                                  \
    X(UUID, "uuid", text)                                                                          \
    X(JSON, "json", text)

typedef enum {
#define X(id, name, as) COLUMN_##id,
    COLUMN_TYPES(X)
#undef X
        COLUMN_TYPES_COUNT
} ColumnType;

/* "int64"; static. */
const char *column_type_name(ColumnType type);

/* False if there is no such type. */
bool column_type_of(const char *name, ColumnType *type);

typedef struct {
    const char *name;
    ColumnType type;
} ColumnSpec;

typedef struct {
    size_t columns;
    const ColumnSpec *column;
} Schema;

typedef struct {
    const uint8_t *valid; /* one bit per row (bit i & 7 of byte i >> 3), 0 is NULL; no bitmap: no
                             NULL anywhere */
    union {
        const uint8_t *bits;
        const int16_t *int16;
        const int32_t *int32;
        const int64_t *int64;
        const float *real32;
        const double *real;
        struct {
            const int32_t *offset; /* value i is bytes[offset[i] .. offset[i + 1]) */
            const char *bytes;
        } text;
    } as;
} Column;

typedef struct {
    size_t rows; /* 0: the source is at its end */
    const Schema *schema;
    const Column *column;
} Batch;

static inline bool
column_is_null(const Column *c, size_t row)
{
    return c->valid && !(c->valid[row >> 3] >> (row & 7) & 1);
}

#endif
