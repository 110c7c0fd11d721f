/*
 * Secret: memory for keys and tokens. Whole pages of their own: not swapped out where the limit on
 * locked memory (RLIMIT_MEMLOCK) allows it, left out of core dumps, wiped before they are given
 * back. For a few kilobytes with a long life; what lives as long as a call is on the stack and
 * wiped with explicit_bzero(3).
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stddef.h>

#include "base/err.h"

/* Zeroed. NULL and MEMORY_LIMIT. */
void *secret_new(size_t bytes, Err *e) MUST_CHECK;

/* The same number of bytes as it was made with. NULL is fine. */
void secret_free(void *memory, size_t bytes);

#endif
