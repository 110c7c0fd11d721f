/*
 * Source: asks one query with bound parameters and yields its rows in batches of typed columns.
 *
 * Drivers do not read configuration and do not know exports: they take a plain SourceSpec. A source
 * belongs to one thread. Connections may be kept between open() calls by the driver, inside this
 * process.
 */
#ifndef SOURCE_SOURCE_H
#define SOURCE_SOURCE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/finding.h"
#include "base/watch.h"
#include "flow/batch.h"

/* A parameter's value, parsed by us from the request; always bound, never pasted. */
typedef struct {
    const char *name; /* without the $ */
    ColumnType type;
    bool is_null;
    union {
        bool yes;
        int64_t int64; /* int16, int32, int64; date: days; time: us of the day; timestamp(tz): us
                          since 1970 */
        double real;   /* float, double */
        struct {
            const char *bytes;
            size_t count;
        } text; /* all others */
    } as;
} SourceParam;

/*
 * An export over several connections that share one snapshot (a definition's `parallel`). Each asks
 * for one range of the rows after the other; rows come out in the order of the ranges.
 */
typedef struct {
    const char *column;   /* ranges of this column of the result; NULL: of the places in `table` */
    const char *table;    /* whose rows the query reads: "name" or "schema.name" */
    unsigned connections; /* from 1 on */
} SourceParallel;

typedef struct {
    const char *name; /* of the source, for messages */
    const char *url;
    const char *user;     /* NULL: from the URL */
    const char *password; /* NULL: from the URL; a secret */
    const char *query;
    const SourceParam *param;
    size_t params;
    /* What the query must yield, by name; the source's columns come out in this order. type_given
     * false: the type is what the source says. */
    const ColumnSpec *column;
    const bool *type_given; /* NULL: all are given */
    size_t columns;
    const char *task_id; /* for the database's own lists of sessions; may be NULL */
    int64_t timeout_ms;  /* of the statement; 0: none */
    /* When the task ends anyway, by time_now_ms(): for a limit that the database itself keeps, so
     * that nothing runs on there when this process is gone; 0: none. */
    int64_t deadline_ms;
    const SourceParallel *parallel; /* NULL: one connection; only where the kind splits */
} SourceSpec;

typedef struct Source Source;

typedef struct {
    const char *name;           /* "sqlite": as in a definition's `query` */
    const char *const *schemes; /* "sqlite", …; NULL-ended */
    bool splits;                /* knows SourceSpec.parallel */

    /* Is this a URL that open() can work with? Pure; opens nothing. CONFIG_INVALID: what is wrong,
     * without a secret of it. Optional. */
    bool (*judge)(const char *url, Err *e);

    /* Connect (or take up the connection this process kept) and ask. Memory from `task`; `watch`
     * outlives the source. SOURCE_UNAVAILABLE, SOURCE_AUTH, SOURCE_QUERY (a column of the
     * definition that the query does not yield is named) and what the watch says. */
    Source *(*open)(const SourceSpec *spec, Watch *watch, Arena *task, Err *e);

    /* Fill `batch`; zero rows mean the end, and again. The batch is good until the second call
     * after this one: an export reads it while the next is made, on another thread. So nothing is
     * taken from `task` here, and of the watch only what may be asked from any thread. */
    bool (*next)(Source *s, Batch *batch, Err *e);

    void (*close)(
        Source *s); /* optional; also ends the query of a source that was not read to its end */

    /* Can it be reached and used? For doctor and types --check; opens nothing that stays. */
    bool (*check)(const SourceSpec *spec, Watch *watch, Err *e);

    /* What this login may do that no export needs, for doctor: at most FINDINGS_MAX, their
     * texts from `arena`. Connects as check() does. Optional. */
    bool (*review)(
        const SourceSpec *spec, Watch *watch, Arena *arena, Finding *found, size_t *count, Err *e);

    /* Closes what this process has kept for the next open(): after a while without work, and before
     * the process ends. Optional. */
    void (*let_go)(void);
} SourceKind;

struct Source {
    const SourceKind *kind;
    const Schema *schema;     /* known once open() has returned; as the spec's columns */
    int64_t rows_estimated;   /* -1: no idea */
    int64_t snapshot_wall_us; /* when the data was as it is read; 0: unknown */
};

bool source_next(Source *s, Batch *batch, Err *e) MUST_CHECK;
void source_close(Source *s); /* NULL is fine */

#endif
