/*
 * CRC32C (RFC 3720 B.4) and CRC64NVME (NVM Express command set): both are reflected, begin and end
 * with all ones. By carry-less multiplication where the processor has it ("Fast CRC Computation for
 * Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009), else eight bytes at a time by
 * tables. All constants follow from the polynomials.
 */
#include <assert.h>
#include <endian.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "storage/s3/s3_in.h"

enum { SLICES = 8, BLOCK_BYTES = 16, LANES = 4 };

typedef struct {
    const char *name, *header;
    unsigned bits;
    uint64_t polynomial;         /* reflected: bit 0 is x^(bits - 1) */
    uint64_t table[SLICES][256]; /* what a byte with 0 … 7 bytes behind it adds */
    uint64_t lanes[2], next[2];  /* what takes a block past all lanes, past one block */
} Crc;

static Crc crcs[] = {
    [CHECKSUM_CRC32C] = {.name = "CRC32C",
        .header = "x-amz-checksum-crc32c",
        .bits = 32,
        .polynomial = 0x82f63b78},
    [CHECKSUM_CRC64NVME] = {.name = "CRC64NVME",
        .header = "x-amz-checksum-crc64nvme",
        .bits = 64,
        .polynomial = 0x9a6c9329ac4bc9b5},
};
static pthread_once_t crcs_once = PTHREAD_ONCE_INIT;
static bool can_multiply;

static uint64_t
times_x(const Crc *crc, uint64_t value)
{
    return value >> 1 ^ (value & 1 ? crc->polynomial : 0);
}

/* x^power modulo the polynomial, with x^63 in bit 0. */
static uint64_t
power_of_x(const Crc *crc, unsigned power)
{
    uint64_t value = (uint64_t)1 << (crc->bits - 1);

    while (power-- > 0)
        value = times_x(crc, value);
    return value << (64 - crc->bits);
}

static void
make_crc(Crc *crc)
{
    const unsigned block_bits = 8 * BLOCK_BYTES;

    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t value = byte;

        for (int bit = 0; bit < 8; bit++)
            value = times_x(crc, value);
        crc->table[0][byte] = value;
    }
    for (unsigned slice = 1; slice < SLICES; slice++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint64_t before = crc->table[slice - 1][byte];

            crc->table[slice][byte] = before >> 8 ^ crc->table[0][before & 0xff];
        }
    /* The first half of a block stands 64 bits before the second; a product of two reflected
     * numbers is one bit further than theirs. */
    crc->next[0] = power_of_x(crc, block_bits + 64 - 1);
    crc->next[1] = power_of_x(crc, block_bits - 1);
    crc->lanes[0] = power_of_x(crc, LANES * block_bits + 64 - 1);
    crc->lanes[1] = power_of_x(crc, LANES * block_bits - 1);
}

static void
make_crcs(void)
{
    make_crc(&crcs[CHECKSUM_CRC32C]);
    make_crc(&crcs[CHECKSUM_CRC64NVME]);
#ifdef __x86_64__
    can_multiply = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse2");
#endif
}

static uint64_t
update_by_table(const Crc *crc, uint64_t state, const uint8_t *data, size_t bytes)
{
    for (; bytes >= SLICES; bytes -= SLICES, data += SLICES) {
        uint64_t next;

        memcpy(&next, data, sizeof next);
        state ^= le64toh(next);
        state = crc->table[7][state & 0xff] ^ crc->table[6][state >> 8 & 0xff] ^
                crc->table[5][state >> 16 & 0xff] ^ crc->table[4][state >> 24 & 0xff] ^
                crc->table[3][state >> 32 & 0xff] ^ crc->table[2][state >> 40 & 0xff] ^
                crc->table[1][state >> 48 & 0xff] ^ crc->table[0][state >> 56];
    }
    for (; bytes > 0; bytes--)
        state = state >> 8 ^ crc->table[0][(state ^ *data++) & 0xff];
    return state;
}

#ifdef __x86_64__

/* A block taken past what `by` is for, and the block that stands there. */
__attribute__((target("pclmul,sse2"))) static __m128i
fold(__m128i block, __m128i by, __m128i there)
{
    __m128i first = _mm_clmulepi64_si128(block, by, 0x00);
    __m128i second = _mm_clmulepi64_si128(block, by, 0x11);

    return _mm_xor_si128(_mm_xor_si128(first, second), there);
}

__attribute__((target("pclmul,sse2"))) static __m128i
load(const void *from)
{
    return _mm_loadu_si128(from);
}

/* At least LANES blocks. Folds them into one that has the same remainder. */
__attribute__((target("pclmul,sse2"))) static uint64_t
update_by_product(const Crc *crc, uint64_t state, const uint8_t *data, size_t bytes)
{
    const __m128i past_lanes = load(crc->lanes), past_block = load(crc->next);
    __m128i lane[LANES];
    uint8_t left[BLOCK_BYTES];

    for (unsigned i = 0; i < LANES; i++)
        lane[i] = load(data + i * BLOCK_BYTES);
    lane[0] = _mm_xor_si128(lane[0], _mm_set_epi64x(0, (long long)state));
    data += LANES * BLOCK_BYTES;
    bytes -= LANES * BLOCK_BYTES;
    for (; bytes >= LANES * BLOCK_BYTES; bytes -= LANES * BLOCK_BYTES, data += LANES * BLOCK_BYTES)
        for (unsigned i = 0; i < LANES; i++)
            lane[i] = fold(lane[i], past_lanes, load(data + i * BLOCK_BYTES));
    for (unsigned i = 1; i < LANES; i++)
        lane[i] = fold(lane[i - 1], past_block, lane[i]);
    for (; bytes >= BLOCK_BYTES; bytes -= BLOCK_BYTES, data += BLOCK_BYTES)
        lane[LANES - 1] = fold(lane[LANES - 1], past_block, load(data));
    memcpy(left, &lane[LANES - 1], sizeof left);
    return update_by_table(crc, update_by_table(crc, 0, left, sizeof left), data, bytes);
}

#endif

static const Crc *
crc_of(ChecksumKind kind)
{
    pthread_once(&crcs_once, make_crcs);
    assert(kind == CHECKSUM_CRC32C || kind == CHECKSUM_CRC64NVME);
    return &crcs[kind];
}

static uint64_t
all_ones(const Crc *crc)
{
    return UINT64_MAX >> (64 - crc->bits);
}

uint64_t
checksum_by_table(ChecksumKind kind, uint64_t so_far, const void *data, size_t bytes)
{
    const Crc *crc = crc_of(kind);

    return update_by_table(crc, so_far ^ all_ones(crc), data, bytes) ^ all_ones(crc);
}

uint64_t
checksum_update(ChecksumKind kind, uint64_t so_far, const void *data, size_t bytes)
{
#ifdef __x86_64__
    const Crc *crc = crc_of(kind);

    if (can_multiply && bytes >= LANES * BLOCK_BYTES)
        return update_by_product(crc, so_far ^ all_ones(crc), data, bytes) ^ all_ones(crc);
#endif
    return checksum_by_table(kind, so_far, data, bytes);
}

void
checksum_text(ChecksumKind kind, uint64_t sum, char to[CHECKSUM_TEXT_BYTES])
{
    int bytes = (int)crc_of(kind)->bits / 8;
    unsigned char big_endian[8];

    for (int i = 0; i < bytes; i++)
        big_endian[i] = (unsigned char)(sum >> 8 * (bytes - 1 - i));
    EVP_EncodeBlock((unsigned char *)to, big_endian, bytes);
}

const char *
checksum_name(ChecksumKind kind)
{
    return kind == CHECKSUM_NONE ? NULL : crc_of(kind)->name;
}

ChecksumKind
checksum_of_name(const char *name)
{
    for (size_t kind = 0; kind < sizeof crcs / sizeof crcs[0]; kind++)
        if (crcs[kind].name && strcmp(crcs[kind].name, name) == 0)
            return (ChecksumKind)kind;
    return CHECKSUM_NONE;
}

const char *
checksum_header(ChecksumKind kind)
{
    return kind == CHECKSUM_NONE ? NULL : crc_of(kind)->header;
}
