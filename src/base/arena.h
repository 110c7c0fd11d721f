/*
 * Arena: memory with one owner and one end. Of our code only base/ calls malloc.
 *
 * Three lifetimes cover the whole service:
 *   process  configuration and tables: allocated once, never freed
 *   task     everything one export needs: arena_new() at its start, arena_free() at its end
 *   batch    scratch for one batch of rows or one request: arena_mark() before it, arena_rewind()
 * after
 *
 * An arena belongs to one thread at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "base/err.h"

typedef struct Arena Arena;

typedef struct {
    void *block;
    size_t used_bytes;
} ArenaMark;

/* NULL when there is not even memory for the arena itself. */
Arena *arena_new(size_t limit_bytes);
void arena_free(Arena *a); /* NULL is fine */

/* Zeroed and aligned for any type. NULL, and ERR_MEMORY_LIMIT in `e`, past the limit. */
void *arena_alloc(Arena *a, size_t bytes, Err *e) MUST_CHECK;

/* The same, not zeroed: for large buffers that are written before they are read, so that a small
 * export does not touch all of it. */
void *arena_alloc_bare(Arena *a, size_t bytes, Err *e) MUST_CHECK;

/* count * bytes, checked for overflow. */
void *arena_alloc_array(Arena *a, size_t count, size_t bytes, Err *e) MUST_CHECK;

/* Copies, with a NUL behind. */
char *arena_text(Arena *a, const char *text, Err *e) MUST_CHECK;
char *arena_bytes(Arena *a, const void *bytes, size_t count, Err *e) MUST_CHECK;
char *arena_printf(Arena *a, Err *e, const char *fmt, ...) MUST_CHECK PRINTF_LIKE(3, 4);

ArenaMark arena_mark(const Arena *a);
void arena_rewind(Arena *a, ArenaMark mark); /* keeps the blocks for the next round */
size_t arena_peak_bytes(const Arena *a);

/* For tests: let the n-th allocation from now on fail, in any arena of this thread; 0 switches it
 * off. */
void arena_fail_at(unsigned long nth);

/* Overflow-checked arithmetic on sizes: false when the result does not fit. */
static inline bool
size_add(size_t a, size_t b, size_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool
size_mul(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

#endif
