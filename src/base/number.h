/*
 * Number: digits, fast and short. For encoders, so nothing here allocates or fails.
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { NUMBER_INT_BYTES = 20, NUMBER_REAL_BYTES = 32 };

/* Decimal digits; returns how many bytes were written (at most NUMBER_INT_BYTES). No NUL. */
size_t number_int(int64_t n, char *to);
size_t number_uint(uint64_t n, char *to);

/*
 * The shortest digits that read back the same, as Python's repr writes them: 1.0, 0.1, 1e-05,
 * 1e+16, nan, inf, -inf, -0.0. Returns bytes written (at most NUMBER_REAL_BYTES). No NUL.
 */
size_t number_double(double x, char *to);
size_t number_float(float x, char *to);

extern const char number_pairs[]; /* "000102…99" */

/* Exactly two and four digits with leading zeros. */
static inline void
number_two(unsigned n, char *to)
{
    memcpy(to, number_pairs + 2 * (size_t)n, 2);
}

static inline void
number_four(unsigned n, char *to)
{
    number_two(n / 100, to);
    number_two(n % 100, to + 2);
}

/* "10MB" "5MiB" "1GiB" "64KiB", a bare number is bytes. False if not one or past 2^63. */
bool number_parse_bytes(const char *text, uint64_t *bytes);

#endif
