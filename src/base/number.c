/*
 * Shortest digits of doubles and floats: the method of R. Giulietti, "The Schubfach way to render
 * doubles" (2020), written anew from the paper. Its powers of ten are computed when they are first
 * needed. Most numbers that people store have few decimals and take a quicker way.
 */
#include "base/number.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/text.h"

const char number_pairs[] = "00010203040506070809101112131415161718192021222324"
                            "25262728293031323334353637383940414243444546474849"
                            "50515253545556575859606162636465666768697071727374"
                            "75767778798081828384858687888990919293949596979899";

static inline unsigned
count_digits(uint64_t n)
{
    static const uint64_t power[] = {0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000,
        1000000000, 10000000000, 100000000000, 1000000000000, 10000000000000, 100000000000000,
        1000000000000000, 10000000000000000, 100000000000000000, 1000000000000000000,
        10000000000000000000u};
    unsigned guess = (unsigned)(64 - __builtin_clzll(n | 1)) * 1233 >> 12;

    return guess + (n >= power[guess]);
}

size_t
number_uint(uint64_t n, char *to)
{
    unsigned digits = n < 10 ? 1 : count_digits(n);
    char *at = to + digits;

    /* Eight digits at a time, whose divisions need not wait for each other. */
    while (n >= 100000000) {
        unsigned low = (unsigned)(n % 100000000);

        n /= 100000000;
        at -= 8;
        number_four(low / 10000, at);
        number_four(low % 10000, at + 4);
    }
    while (n >= 100) {
        at -= 2;
        number_two((unsigned)(n % 100), at);
        n /= 100;
    }
    if (n >= 10)
        number_two((unsigned)n, at - 2);
    else
        at[-1] = (char)('0' + n);
    return digits;
}

size_t
number_int(int64_t n, char *to)
{
    if (n >= 0)
        return number_uint((uint64_t)n, to);
    *to = '-';
    return 1 + number_uint(0 - (uint64_t)n, to + 1);
}

/* Digits without trailing zeros, and where the point stands: 0.DIGITS times ten to the `point`, as
 * repr() writes it. */
static size_t
put_real(uint64_t digits, int exponent, char *to)
{
    char text[24], *start = to;
    int count, point;

    while (digits % 10 == 0 && digits > 0) {
        digits /= 10;
        exponent++;
    }
    count = (int)number_uint(digits, text);
    point = count + exponent;
    if (point > 16 || point < -3) {
        unsigned power = (unsigned)(point > 0 ? point - 1 : 1 - point);

        *to++ = text[0];
        if (count > 1) {
            *to++ = '.';
            memcpy(to, text + 1, (size_t)count - 1);
            to += count - 1;
        }
        *to++ = 'e';
        *to++ = point > 0 ? '+' : '-';
        if (power < 10)
            *to++ = '0';
        to += number_uint(power, to);
    } else if (point <= 0) {
        *to++ = '0';
        *to++ = '.';
        memset(to, '0', (size_t)-point);
        to += -point;
        memcpy(to, text, (size_t)count);
        to += count;
    } else if (point >= count) {
        memcpy(to, text, (size_t)count);
        to += count;
        memset(to, '0', (size_t)(point - count));
        to += point - count;
        *to++ = '.';
        *to++ = '0';
    } else {
        memcpy(to, text, (size_t)point);
        to += point;
        *to++ = '.';
        memcpy(to, text + point, (size_t)(count - point));
        to += count - point;
    }
    return (size_t)(to - start);
}

/* --- powers of ten with 126 bits --- */

enum { POWER_MIN = -292, POWER_MAX = 324, WORDS = 40 };

/* ten[k - POWER_MIN]: floor(10^k * 2^-r) + 1 with r such that it has 126 bits; the upper and the
 * lower 63 of them. */
static struct {
    uint64_t high, low;
} ten[POWER_MAX - POWER_MIN + 1];

typedef struct {
    uint32_t word[WORDS]; /* the lowest first */
} Big;

static unsigned
big_bits(const Big *b)
{
    for (unsigned i = WORDS; i-- > 0;)
        if (b->word[i])
            return 32 * i + (unsigned)(32 - __builtin_clz(b->word[i]));
    return 0;
}

static void
big_times_ten(Big *b)
{
    uint64_t carry = 0;

    for (unsigned i = 0; i < WORDS; i++) {
        carry += (uint64_t)b->word[i] * 10;
        b->word[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static unsigned
big_bit(const Big *b, unsigned at)
{
    return b->word[at / 32] >> (at % 32) & 1;
}

static bool
big_twice_minus(Big *rest, const Big *divisor)
{
    uint32_t carry = 0;
    int64_t borrow = 0;
    Big less;

    for (unsigned i = 0; i < WORDS; i++) {
        uint32_t next = rest->word[i] >> 31;

        rest->word[i] = rest->word[i] << 1 | carry;
        carry = next;
    }
    for (unsigned i = 0; i < WORDS; i++) {
        borrow += (int64_t)rest->word[i] - divisor->word[i];
        less.word[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    if (borrow < 0)
        return false;
    *rest = less;
    return true;
}

static void
set_power(int k, unsigned __int128 g)
{
    g += 1;
    ten[k - POWER_MIN].high = (uint64_t)(g >> 63);
    ten[k - POWER_MIN].low = (uint64_t)g & (UINT64_MAX >> 1);
}

static void
make_powers(void)
{
    Big power = {{1}};

    for (int k = 0; k <= POWER_MAX; k++, big_times_ten(&power)) {
        unsigned bits = big_bits(&power);
        unsigned __int128 g = 0;
        Big rest = {{0}};

        for (unsigned i = 0; i < 126; i++)
            g = g << 1 | (i < bits ? big_bit(&power, bits - 1 - i) : 0);
        set_power(k, g);
        if (k == 0 || -k < POWER_MIN)
            continue;
        /* One divided by the power, bit by bit, from its first bit that is set. */
        rest.word[(bits - 1) / 32] = 1u << ((bits - 1) % 32);
        g = 0;
        for (unsigned i = 0; i < 126; i++)
            g = g << 1 | (unsigned __int128)big_twice_minus(&rest, &power);
        set_power(-k, g);
    }
}

static pthread_once_t made = PTHREAD_ONCE_INIT;

static inline int
floor_log10_pow2(int e)
{
    return (int)((int64_t)e * 661971961083 >> 41);
}

static inline int
floor_log10_three_quarters_pow2(int e)
{
    return (int)(((int64_t)e * 661971961083 - 274743187321) >> 41);
}

static inline int
floor_log2_pow10(int e)
{
    return (int)((int64_t)e * 913124641741 >> 38);
}

/* g times c, divided by 2^127 and rounded to odd: exact enough for every comparison that follows.
 */
static inline uint64_t
round_to_odd(uint64_t high, uint64_t low, uint64_t c)
{
    uint64_t below = (uint64_t)((unsigned __int128)low * c >> 64);
    unsigned __int128 y = (unsigned __int128)high * c;
    uint64_t middle = ((uint64_t)y >> 1) + below;
    uint64_t result = (uint64_t)(y >> 64) + (middle >> 63);

    return result | ((middle & (UINT64_MAX >> 1)) != 0);
}

/* c times 2^q, with c of full precision unless q is the least. `c_min`: the least c of full
 * precision. */
static void
shortest(uint64_t c, int q, uint64_t c_min, int q_min, uint64_t *digits, int *exponent)
{
    uint64_t odd = c & 1, c4 = c << 2, left, right, value, value_left, value_right, s, t;
    bool regular = c != c_min || q == q_min, under, over;
    int k = regular ? floor_log10_pow2(q) : floor_log10_three_quarters_pow2(q), h;
    uint64_t high, low;

    pthread_once(&made, make_powers);
    left = c4 - (regular ? 2 : 1);
    right = c4 + 2;
    h = q + floor_log2_pow10(-k) + 2;
    high = ten[-k - POWER_MIN].high;
    low = ten[-k - POWER_MIN].low;
    value = round_to_odd(high, low, c4 << h);
    value_left = round_to_odd(high, low, left << h);
    value_right = round_to_odd(high, low, right << h);
    *exponent = k;
    s = value >> 2;
    if (s >= 10) {
        uint64_t shorter = s / 10 * 10, longer = shorter + 10;

        under = value_left + odd <= shorter << 2;
        over = (longer << 2) + odd <= value_right;
        if (under != over) {
            *digits = under ? shorter : longer;
            return;
        }
    }
    t = s + 1;
    under = value_left + odd <= s << 2;
    over = (t << 2) + odd <= value_right;
    if (under != over)
        *digits = under ? s : t;
    else
        *digits = value < (s + t) << 1 || (value == (s + t) << 1 && (s & 1) == 0) ? s : t;
}

/*
 * Whole numbers and few decimals, 0 if x is none: up to 15 digits that give exactly x again are its
 * shortest, since no two such numbers are the same double.
 */
static size_t
put_few_decimals(double x, char *to)
{
    int64_t whole, millionths;
    unsigned decimals;
    size_t count;

    if (x >= 1e15 || x < 1e-4)
        return 0;
    whole = (int64_t)x;
    if ((double)whole == x) {
        count = number_uint((uint64_t)whole, to);
        memcpy(to + count, ".0", 2);
        return count + 2;
    }
    millionths = (int64_t)(x * 1e6 + 0.5);
    if (x >= 1e9 || (double)millionths / 1e6 != x)
        return 0;
    count = number_uint((uint64_t)millionths / 1000000, to);
    decimals = (unsigned)((uint64_t)millionths % 1000000);
    to[count++] = '.';
    number_two(decimals / 10000, to + count);
    number_four(decimals % 10000, to + count + 2);
    for (count += 6; to[count - 1] == '0';)
        count--;
    return count;
}

/* nan, inf, zero; 0 for a number with digits, whose sign is written. */
static size_t
put_special(double x, char *to, size_t *sign)
{
    *sign = 0;
    if (isnan(x)) {
        memcpy(to, "nan", 3);
        return 3;
    }
    if (signbit(x))
        to[(*sign)++] = '-';
    if (isinf(x)) {
        memcpy(to + *sign, "inf", 3);
        return *sign + 3;
    }
    if (x == 0) {
        memcpy(to + *sign, "0.0", 3);
        return *sign + 3;
    }
    return 0;
}

size_t
number_double(double x, char *to)
{
    uint64_t bits, fraction, digits;
    size_t sign, count = put_special(x, to, &sign);
    int biased, exponent;

    if (count > 0)
        return count;
    if ((count = put_few_decimals(fabs(x), to + sign)) > 0)
        return sign + count;
    memcpy(&bits, &x, sizeof bits);
    fraction = bits & (UINT64_MAX >> 12);
    biased = (int)(bits >> 52 & 0x7ff);
    if (biased > 0)
        shortest(fraction | 1ull << 52, biased - 1075, 1ull << 52, -1074, &digits, &exponent);
    else
        shortest(fraction, -1074, 1ull << 52, -1074, &digits, &exponent);
    return sign + put_real(digits, exponent, to + sign);
}

size_t
number_float(float x, char *to)
{
    uint32_t bits, fraction;
    uint64_t digits;
    size_t sign, special = put_special((double)x, to, &sign);
    int biased, exponent;

    if (special)
        return special;
    memcpy(&bits, &x, sizeof bits);
    fraction = bits & (UINT32_MAX >> 9);
    biased = (int)(bits >> 23 & 0xff);
    if (biased > 0)
        shortest(fraction | 1u << 23, biased - 150, 1u << 23, -149, &digits, &exponent);
    else
        shortest(fraction, -149, 1u << 23, -149, &digits, &exponent);
    return sign + put_real(digits, exponent, to + sign);
}

bool
number_parse_bytes(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1}, {"B", 1}, {"KB", 1000}, {"MB", 1000000}, {"GB", 1000000000},
        {"TB", 1000000000000}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30},
        {"TiB", 1ull << 40}};
    uint64_t value;
    const char *unit = text_to_quantity(text, INT64_MAX, &value);

    for (size_t i = 0; unit && i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return !__builtin_mul_overflow(value, units[i].bytes, bytes) && *bytes <= INT64_MAX;
    return false;
}
