/*
 * Export type: the definition an export follows (configuration.md 4). Data, read-only once loaded.
 */
#ifndef EXPORT_TYPE_H
#define EXPORT_TYPE_H

#include <jansson.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"
#include "export/kinds.h"
#include "flow/batch.h"
#include "source/query.h"
#include "source/source.h"

typedef struct {
    const char *name;
    ColumnType type;
    bool required;
    const json_t *preset; /* NULL: none */
    bool has_min, has_max;
    double min, max;                 /* of a number */
    const char *min_text, *max_text; /* of a date or time, as written; NULL */
    unsigned max_length;             /* characters; 0: 64 KiB of the body is the limit */
    const char *pattern;             /* of the whole text (pattern.h); NULL */
    const json_t *choices;           /* `enum`: array; NULL */
    const char *description;
} TypeParam;

typedef struct {
    const char *driver; /* "sqlite"; NULL: for all */
    const char *text;
} TypeQuery;

typedef struct {
    const char *name, *title, *description, *source, *order;
    const TypeParam *param;
    size_t params;
    const ColumnSpec *column;
    const bool *column_type_given;
    size_t columns;
    const TypeQuery *query;
    size_t queries;
    int64_t time_limit_ms;   /* 0: the service's */
    uint64_t max_rows;       /* 0: none */
    unsigned concurrency;    /* 0: no limit */
    SourceParallel parallel; /* as written; connections 0: none. See type_parallel() */
    const char *version;     /* "sha256:…" of the canonical definition */
    const char *origin;      /* file it came from, or "built-in" */
    const json_t *json;      /* the definition itself: what a child gets */
} ExportType;

typedef struct {
    const ExportType *type;
    size_t types;
} TypeSet;

/*
 * The built-in definitions, then the files and folders of config->types; a definition of a known
 * name replaces it. CONFIG_INVALID: "FILE:LINE: KEY: what is wrong, what to do"; all problems of a
 * file are in the text of the chain's links (at most 8). Checks that the source exists, that a
 * query for its driver (or for all) exists, and that each $name is declared.
 */
const TypeSet *
types_load(const Config *config, const Kinds *kinds, Arena *process, Err *e) MUST_CHECK;

/* Gives back what a set holds outside of its arena (the definitions' JSON); before arena_free. NULL
 * is fine. */
void types_free(const TypeSet *set);

/* One definition from its JSON (in a child). */
const ExportType *type_from_json(const json_t *json, Arena *arena, Err *e) MUST_CHECK;

const ExportType *types_find(const TypeSet *set, const char *name); /* NULL: unknown */

/* The query for this driver; NULL if there is none. */
const char *type_query(const ExportType *type, const char *driver);

/* How an export of this type is split, over no more connections than its source lets in at once;
 * `connections` 0: not at all, for nothing says so or the source cannot. */
SourceParallel
type_parallel(const ExportType *type, const SourceKind *kind, const ConfigSource *source);

/* What is asked of the source: all but the parameters' values, the task and its end. `query` is
 * NULL if the type has none for this kind. The spec points to `parallel` where the export is split.
 */
SourceSpec type_spec(const ExportType *type, const SourceKind *kind, const ConfigSource *source,
    SourceParallel *parallel);

/* C1's JSON of a type (api-surface.md 10): params_schema, columns, formats …; the caller owns it.
 */
json_t *type_describe(const ExportType *type, const Kinds *kinds);

/* What a definition may say, in Markdown. For documents. */
void types_reference(Buf *to);

/* Does the query yield the columns on its source? Opens it with all parameters NULL. For --check
 * and doctor. */
bool
type_check(const ExportType *type, const Config *config, const Kinds *kinds, Err *e) MUST_CHECK;

#endif
