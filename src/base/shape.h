/*
 * Shape: checks a JSON or YAML value against a table, and reports all that is wrong.
 *
 * One checker serves request bodies (places are JSON pointers, RFC 6901) and files (places are
 * file, line and key, through base/yaml.h's lines).
 */
#ifndef BASE_SHAPE_H
#define BASE_SHAPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum { PROBLEMS_MAX = 20 };

/* One thing that is wrong. All text belongs to the arena of the Problems. */
typedef struct {
    const char *pointer; /* "/params/team", "query:limit", "header:Prefer", "" for the whole body */
    ErrCode code;        /* reported under err_name() if it is a code of its own, else `word` */
    const char *word;    /* "required" "wrong-type" "out-of-range" "too-long" "not-allowed"
                            "unknown-member" "pattern" … */
    const char *detail;  /* "must be between 0 and 100" */
    const char *value;   /* JSON text of what came, at most 64 characters, NULL: not echoed */
    const char *allowed; /* JSON array text, NULL: none */
} Problem;

typedef struct {
    Arena *arena;
    size_t count; /* may exceed PROBLEMS_MAX: only that many are kept */
    Problem problem[PROBLEMS_MAX];
} Problems;

/* `pointer` and one more reference token, escaped (RFC 6901, section 3); a long one is cut at a
 * character. Returns `to`. */
enum { SHAPE_POINTER_BYTES = 512 };
const char *shape_below(const char *pointer, const char *name, char to[SHAPE_POINTER_BYTES]);

/* Notes one problem; silently drops what no longer fits. `detail` is formatted. */
void problem_add(Problems *p, const char *pointer, const char *word, const json_t *value,
    const char *fmt, ...) PRINTF_LIKE(5, 6);

typedef enum {
    SHAPE_TEXT,
    SHAPE_INT,  /* integer, or a real without fraction */
    SHAPE_REAL, /* any number */
    SHAPE_BOOL,
    SHAPE_OBJECT, /* with `members`, or free keys when NULL */
    SHAPE_ARRAY,  /* of `element` */
    SHAPE_ANY,
} ShapeType;

typedef struct Shape Shape;

struct Shape {
    const char *name; /* member name; NULL ends a table */
    ShapeType type;
    bool required;
    bool null_is_missing; /* null counts as not there */
    double min, max; /* of a number; of a text's length in characters or an array's count; both 0:
                        no bound */
    const char *const *allowed;                              /* NULL-ended list of texts, or NULL */
    bool (*check)(const json_t *value, const char **detail); /* a rule of its own; NULL: none */
    const Shape *members;                                    /* of an object; NULL: free keys */
    const Shape *element; /* of an array, or of each value of an object with free keys */
    const char *meaning;  /* for documents */
    bool not_available;   /* known, but this version does not have it: word "not-available" */
};

/* What becomes of members that the table does not name. */
typedef enum { SHAPE_UNKNOWN_REFUSED, SHAPE_UNKNOWN_NOTED } ShapeUnknown;

/*
 * `value` must be an object with `members`. Problems are added under `pointer` ("" for the top).
 * With SHAPE_UNKNOWN_NOTED unknown members of the top level go to `unknown` (may be NULL) instead
 * of being problems; deeper ones are always problems. Unknown members come with the nearest known
 * name in the detail.
 */
bool shape_check(const Shape *members, const json_t *value, const char *pointer, ShapeUnknown rule,
    Problems *problems, Problems *unknown);

/* JSON Schema (2020-12) of the table; the caller owns it. NULL without memory. */
json_t *shape_schema(const Shape *members);

/* The table in Markdown: key, value, meaning; without what is not available. For documents. */
void shape_reference(const Shape *members, Buf *to);

#endif
