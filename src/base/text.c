#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/*
 * Length of the UTF-8 character at the front of `bytes`, 0 if there is none (RFC 3629, the table of
 * section 4: only the second byte has ranges of its own).
 */
static size_t
utf8_length(const unsigned char *bytes, size_t count)
{
    unsigned char lead = bytes[0], low = 0x80, high = 0xbf;
    size_t length;

    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (count < length)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

static uint32_t
utf8_character(const unsigned char *bytes, size_t length)
{
    uint32_t character = length == 1 ? bytes[0] : bytes[0] & (0xffu >> (length + 1));

    for (size_t i = 1; i < length; i++)
        character = character << 6 | (bytes[i] & 0x3f);
    return character;
}

bool
text_is_utf8(const char *bytes, size_t count)
{
    const unsigned char *at = (const unsigned char *)bytes, *end = at + count;

    while (at < end) {
        size_t length;
        uint64_t eight;

        /* Eight plain characters at a time: nearly all text is that. */
        while ((size_t)(end - at) >= sizeof eight) {
            memcpy(&eight, at, sizeof eight);
            if (eight & 0x8080808080808080u)
                break;
            at += sizeof eight;
        }
        if (at == end)
            break;
        if ((length = utf8_length(at, (size_t)(end - at))) == 0)
            return false;
        at += length;
    }
    return true;
}

static bool
is_bidi(uint32_t c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e ||
           c == 0x200f || c == 0x061c;
}

static bool
is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

bool
text_has_control(const char *bytes, size_t count, bool bidi)
{
    const unsigned char *at = (const unsigned char *)bytes, *end = at + count;

    while (at < end) {
        size_t length = utf8_length(at, (size_t)(end - at));
        uint32_t c;

        if (length == 0)
            return true;
        c = utf8_character(at, length);
        if (is_control(c) || (bidi && is_bidi(c)))
            return true;
        at += length;
    }
    return false;
}

bool
text_is_name(const char *text)
{
    size_t bytes = strnlen(text, 65);

    return bytes >= 1 && bytes <= 64 && text[0] >= 'a' && text[0] <= 'z' &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == bytes;
}

bool
text_is_user_id(const char *text)
{
    static const char may[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-";
    size_t bytes = strnlen(text, 129);

    return bytes >= 1 && bytes <= 128 && !strchr("_.@-", text[0]) && strspn(text, may) == bytes &&
           !strstr(text, "..");
}

void
text_make_printable(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        if (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* C1 in UTF-8 */
            at[0] = at[1] = '?';
        if (*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
}

bool
text_copy(char *to, size_t to_bytes, const char *from)
{
    size_t bytes = strlen(from);
    bool fits = bytes < to_bytes;

    if (to_bytes == 0)
        return false;
    if (!fits)
        bytes = to_bytes - 1;
    memcpy(to, from, bytes);
    to[bytes] = '\0';
    return fits;
}

bool
text_starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool
text_ends(const char *text, const char *with)
{
    size_t bytes = strlen(text), end = strlen(with);

    return bytes >= end && memcmp(text + bytes - end, with, end) == 0;
}

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool
text_same_case_blind(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b))
        a++, b++;
    return lower(*a) == lower(*b);
}

bool
text_to_uint(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t sum = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return false;
    for (; *text; text++) {
        unsigned digit = (unsigned)(*text - '0');

        if (digit > 9 || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, digit, &sum) || sum > max)
            return false;
    }
    *number = sum;
    return true;
}

const char *
text_to_quantity(const char *text, uint64_t max, uint64_t *number)
{
    size_t count = strspn(text, "0123456789");
    char digits[24];

    if (count == 0 || count >= sizeof digits)
        return NULL;
    memcpy(digits, text, count);
    digits[count] = '\0';
    return text_to_uint(digits, max, number) ? text + count : NULL;
}

static bool
is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void
text_percent_encode(Buf *to, const char *bytes, size_t count, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if (is_unreserved(c) || (keep_slash && c == '/')) {
            buf_char(to, (char)c);
        } else {
            char escape[3] = {'%', digits[c >> 4], digits[c & 15]};

            buf_put(to, escape, sizeof escape);
        }
    }
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
text_percent_decode(const char *from, size_t count, char *to, size_t to_bytes, size_t *decoded)
{
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        char c = from[i];

        if (c == '%') {
            int high, low;

            if (count - i < 3 || (high = hex_digit(from[i + 1])) < 0 ||
                (low = hex_digit(from[i + 2])) < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (at == to_bytes)
            return false;
        to[at++] = c;
    }
    *decoded = at;
    return true;
}

void
text_hex(const uint8_t *bytes, size_t count, char *to)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        to[2 * i] = digits[bytes[i] >> 4];
        to[2 * i + 1] = digits[bytes[i] & 15];
    }
    to[2 * count] = '\0';
}

bool
text_unhex(const char *text, uint8_t *bytes, size_t count)
{
    if (strnlen(text, 2 * count + 1) != 2 * count)
        return false;
    for (size_t i = 0; i < count; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0 || lower(text[2 * i]) != text[2 * i] ||
            lower(text[2 * i + 1]) != text[2 * i + 1])
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void
text_base64(Buf *to, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < count; i += 3) {
        size_t left = count - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
            left > 1 ? digits[three >> 6 & 63] : '=', left > 2 ? digits[three & 63] : '='};

        buf_put(to, four, sizeof four);
    }
}

static int
base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool
text_unbase64(const char *text, uint8_t *to, size_t to_bytes, size_t *count)
{
    size_t chars = strlen(text), at = 0;
    size_t pad = chars == 0 || text[chars - 1] != '='  ? 0
                 : chars > 1 && text[chars - 2] == '=' ? 2
                                                       : 1;

    if (chars % 4 != 0 || chars / 4 * 3 - pad > to_bytes)
        return false;
    for (size_t i = 0; i < chars; i += 4) {
        size_t digits = i + 4 == chars ? 4 - pad : 4;
        uint32_t three = 0;

        for (size_t d = 0; d < 4; d++) {
            int digit = d < digits ? base64_digit(text[i + d]) : 0;

            if (digit < 0)
                return false;
            three = three << 6 | (uint32_t)digit;
        }
        if (three & (digits == 4 ? 0 : digits == 3 ? 0xff : 0xffff))
            return false;
        for (size_t b = 0; b < digits - 1; b++)
            to[at++] = (uint8_t)(three >> (16 - 8 * b));
    }
    *count = at;
    return true;
}

static void
put_json_character(Buf *to, const unsigned char *at, size_t length)
{
    uint32_t c = utf8_character(at, length);

    if (c == '"' || c == '\\')
        buf_printf(to, "\\%c", (int)c);
    else if (c == '\n')
        buf_text(to, "\\n");
    else if (c == '\t')
        buf_text(to, "\\t");
    else if (c == '\r')
        buf_text(to, "\\r");
    else if (is_control(c) || c == '<' || c == 0x2028 || c == 0x2029)
        buf_printf(to, "\\u%04x", (unsigned)c);
    else
        buf_put(to, at, length);
}

void
text_json_string(Buf *to, const char *bytes, size_t count, size_t count_max)
{
    const unsigned char *at = (const unsigned char *)bytes, *end = at + count;
    const unsigned char *cut = count_max && count_max < count ? at + count_max : end;

    buf_char(to, '"');
    while (at < end) {
        size_t plain = 0, length;

        while (at + plain < cut && at[plain] >= 0x20 && at[plain] < 0x7f && at[plain] != '"' &&
               at[plain] != '\\' && at[plain] != '<')
            plain++;
        buf_put(to, at, plain);
        at += plain;
        if (at == end)
            break;
        length = utf8_length(at, (size_t)(end - at));
        if (at + (length ? length : 1) > cut) {
            buf_text(to, "…");
            break;
        }
        if (length == 0)
            buf_text(to, "\xef\xbf\xbd"), length = 1;
        else
            put_json_character(to, at, length);
        at += length;
    }
    buf_char(to, '"');
}

void
text_terminal(Buf *to, const char *bytes, size_t count)
{
    const unsigned char *at = (const unsigned char *)bytes, *end = at + count;

    while (at < end) {
        size_t length = utf8_length(at, (size_t)(end - at));
        uint32_t c = length ? utf8_character(at, length) : *at;

        if (length == 0 || (is_control(c) && c < 0x100))
            buf_printf(to, "\\x%02x", (unsigned)c);
        else if (is_bidi(c))
            buf_printf(to, "\\u%04x", (unsigned)c);
        else
            buf_put(to, at, length);
        at += length ? length : 1;
    }
}

enum { NEAREST_BYTES_MAX = 64 };

static size_t
least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Levenshtein's distance, one row of his table at a time. */
static size_t
distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t row[NEAREST_BYTES_MAX + 1];

    for (size_t j = 0; j <= b_bytes; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t above = row[j];

            row[j] = least(row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_bytes];
}

const char *
text_nearest(const char *text, const char *const *names)
{
    size_t bytes = strnlen(text, NEAREST_BYTES_MAX + 1), best = SIZE_MAX;
    const char *nearest = NULL;

    if (bytes > NEAREST_BYTES_MAX)
        return NULL;
    for (; *names; names++) {
        size_t name_bytes = strlen(*names), away;

        if (name_bytes > NEAREST_BYTES_MAX)
            continue;
        away = distance(text, bytes, *names, name_bytes);
        if (away < best && away * 3 <= name_bytes) {
            best = away;
            nearest = *names;
        }
    }
    return nearest;
}

void
text_uuid(char to[37])
{
    /* A stock of random bytes saves a system call for most ids. */
    static _Thread_local uint8_t stock[256];
    static _Thread_local size_t left;
    uint8_t *bytes;
    char hex[33];

    if (left < 16) {
        for (size_t have = 0; have < sizeof stock;) {
            ssize_t got = getrandom(stock + have, sizeof stock - have, 0);

            if (got > 0)
                have += (size_t)got;
        }
        left = sizeof stock;
    }
    left -= 16;
    bytes = stock + left;
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    text_hex(bytes, 16, hex);
    memset(bytes, 0, 16);
    snprintf(to, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

bool
text_is_decimal(const char *text, size_t count)
{
    size_t at = count > 0 && (text[0] == '-' || text[0] == '+'), digits = 0;

    for (; at < count && text[at] >= '0' && text[at] <= '9'; at++)
        digits++;
    if (at < count && text[at] == '.')
        for (at++; at < count && text[at] >= '0' && text[at] <= '9'; at++)
            digits++;
    return digits > 0 && at == count;
}

bool
text_is_uuid(const char *text)
{
    if (strnlen(text, 37) != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? text[i] != '-'
                 : !((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
    }
    return true;
}
