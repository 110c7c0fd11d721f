/*
 * Text: questions about bytes that claim to be text, and the few ways to write them elsewhere.
 * Nothing here follows the locale. All functions are pure unless they say otherwise.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

/* RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF. NUL is valid here. */
bool text_is_utf8(const char *bytes, size_t count);

/* Any C0 or C1 control, DEL, or bytes that are not UTF-8; with `bidi` also U+202A-202E,
 * U+2066-2069, U+200E, U+200F, U+061C. */
bool text_has_control(const char *bytes, size_t count, bool bidi);

/* [a-z][a-z0-9_]{0,63}: names of types, columns, parameters, sources. */
bool text_is_name(const char *text);

/* product.md: ^[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}$ without "..". */
bool text_is_user_id(const char *text);

/* Replaces controls by '?', in place (for log chains and terminals of the plain kind). */
void text_make_printable(char *text);

/* Copies what fits, always ends with NUL; false if something was cut. */
bool text_copy(char *to, size_t to_bytes, const char *from);

/* memcpy for what is mostly a few bytes long: names, ids, times. */
static inline __attribute__((always_inline)) void
text_copy_few(char *to, const char *from, size_t count)
{
    uint64_t first8, last8;
    uint32_t first4, last4;

    if (count > 16) {
        memcpy(to, from, count);
    } else if (count >= 8) {
        memcpy(&first8, from, 8);
        memcpy(&last8, from + count - 8, 8);
        memcpy(to, &first8, 8);
        memcpy(to + count - 8, &last8, 8);
    } else if (count >= 4) {
        memcpy(&first4, from, 4);
        memcpy(&last4, from + count - 4, 4);
        memcpy(to, &first4, 4);
        memcpy(to + count - 4, &last4, 4);
    } else {
        for (size_t i = 0; i < count; i++)
            to[i] = from[i];
    }
}

bool text_starts(const char *text, const char *with);
bool text_ends(const char *text, const char *with);
bool text_same_case_blind(const char *a, const char *b);

/* Whole decimal number without sign, blank, leading zero (but "0"); false if not, or over `max`. */
bool text_to_uint(const char *text, uint64_t max, uint64_t *number);

/* Such a number and what stands behind it ("" at the end), as in "10MB"; NULL if it does not begin
 * so. */
const char *text_to_quantity(const char *text, uint64_t max, uint64_t *number);

/* Percent-encoding (RFC 3986): everything but unreserved is encoded; with `keep_slash` '/' stays.
 */
void text_percent_encode(Buf *to, const char *bytes, size_t count, bool keep_slash);

/* Decodes once. False: bad or cut escape, or longer than `to_bytes`. `to` may be `from`. Not
 * NUL-ended. */
bool
text_percent_decode(const char *from, size_t count, char *to, size_t to_bytes, size_t *decoded);

/* Lower-case hex; `to` has 2 * count + 1 bytes. */
void text_hex(const uint8_t *bytes, size_t count, char *to);

/* Exactly 2 * count lower-case hex digits; false otherwise. */
bool text_unhex(const char *text, uint8_t *bytes, size_t count);

/* RFC 4648 base64 with padding, appended. */
void text_base64(Buf *to, const uint8_t *bytes, size_t count);

/* And back: strict, no blanks; unused bits must be 0. False if it is none or longer than
 * `to_bytes`. */
bool text_unbase64(const char *text, uint8_t *to, size_t to_bytes, size_t *count);

/* A JSON string with its quotes (RFC 8259), '<', U+2028, U+2029 and controls escaped, appended.
 * Bytes that are not UTF-8 become U+FFFD. `count_max` cuts (at a character) and adds "…"; 0: no
 * cut. */
void text_json_string(Buf *to, const char *bytes, size_t count, size_t count_max);

/* For a terminal: control, C1 and bidi characters as \x1b, \u202e; appended. */
void text_terminal(Buf *to, const char *bytes, size_t count);

/* Levenshtein-nearest of `names` (NULL-ended) within 1/3 of its length; NULL if none. "did you
 * mean". */
const char *text_nearest(const char *text, const char *const *names);

/* A random version 4 UUID in lower case (RFC 9562), from getrandom. */
void text_uuid(char to[37]);

/* [+-]digits[.digits], with a digit on one side of the point at least; no exponent. */
bool text_is_decimal(const char *text, size_t count);

/* UUID text: lower case, 8-4-4-4-12. */
bool text_is_uuid(const char *text);

#endif
