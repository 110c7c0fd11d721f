/*
 * JSON (RFC 8259): Jansson's json_t is used everywhere; this adds what Jansson does not tell apart.
 * Seam: any file may include jansson.h; only this one parses bytes from outside.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/*
 * Parse bytes from outside. In this order of noticing (security.md 9, rows 12-15):
 *   INVALID_ENCODING   not UTF-8, a surrogate raw or escaped and alone
 *   MALFORMED_JSON     empty, BOM, trailing bytes, deeper than `depth_max`, a member twice, NaN,
 * syntax; the text says line and column VALIDATION_FAILED  U+0000 in a string or name, integer
 * beyond 64 bits, number beyond double Numbers: an integer is json_integer; "10.0" is json_real;
 * "-0" is integer 0. The caller owns the value (json_decref). Any top-level value is accepted.
 */
json_t *json_parse(const char *bytes, size_t count, unsigned depth_max, Err *e) MUST_CHECK;

/* Compact, members sorted: equal values give equal bytes (idempotency). Appended to `to`. */
bool json_write_canonical(const json_t *value, Buf *to, Err *e) MUST_CHECK;

/* Compact, members in their order. Appended to `to`. */
bool json_write(const json_t *value, Buf *to, Err *e) MUST_CHECK;

const char *json_library_version(void);

/* A whole number: an integer, or a real without fraction below 2^53 (10.0 is one, 10.5 is not). */
bool json_whole(const json_t *value, int64_t *number);

/* Member as text / whole number / bool, or the preset if it is missing or of another type. */
const char *json_text_or(const json_t *object, const char *member, const char *preset);
int64_t json_int_or(const json_t *object, const char *member, int64_t preset);
bool json_bool_or(const json_t *object, const char *member, bool preset);

#endif
