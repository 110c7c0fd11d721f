/* Query: names and values behind the '?' of a target, percent-encoded, '+' for a blank. Pure. */
#ifndef API_QUERY_H
#define API_QUERY_H

#include "base/arena.h"
#include "base/shape.h"

/* The value of `name`, decoded, in `arena`; NULL when the name is not there, "" without '='.
 * INVALID_REQUEST: the name twice, or a value that cannot be decoded. `query` may be NULL. */
bool query_value(
    const char *query, const char *name, Arena *arena, const char **value, Err *e) MUST_CHECK;

/* Adds a problem "query:NAME" for every name that is not in `known` (NULL-ended; NULL: none is). */
void query_check_names(const char *query, const char *const *known, Problems *problems);

/* A whole number from `min` to `max`; `preset` when the name is not there. What is wrong becomes a
 * problem, and *number the preset. */
bool query_whole(const char *query, const char *name, int64_t min, int64_t max, int64_t preset,
    int64_t *number, Problems *problems, Err *e) MUST_CHECK;

#endif
