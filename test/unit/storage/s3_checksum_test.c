/* Check values of the CRC catalogue and of the protocol page; every length, alignment and cut
 * against the definition, bit by bit. */
#include "storage/s3/s3_in.h"
#include "test/test.h"

static const struct {
    ChecksumKind kind;
    const char *name, *header;
    uint64_t polynomial, ones, check;
    const char *text, *of_nothing;
} kinds[] = {
    {CHECKSUM_CRC32C, "CRC32C", "x-amz-checksum-crc32c", 0x82f63b78, UINT32_MAX, 0xe3069283,
        "4waSgw==", "AAAAAA=="},
    {CHECKSUM_CRC64NVME, "CRC64NVME", "x-amz-checksum-crc64nvme", 0x9a6c9329ac4bc9b5, UINT64_MAX,
        0xae8b14860a799888, "rosUhgp5mIg=", "AAAAAAAAAAA="},
};

/* As it is defined. */
static uint64_t
bit_by_bit(size_t i, const uint8_t *data, size_t bytes)
{
    uint64_t sum = kinds[i].ones;

    for (size_t at = 0; at < bytes; at++) {
        sum ^= data[at];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? kinds[i].polynomial : 0);
    }
    return sum ^ kinds[i].ones;
}

static void
test_check_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < count_of(kinds); i++) {
        ChecksumKind kind = kinds[i].kind;
        uint64_t sum = checksum_update(kind, 0, "123456789", 9);
        char text[CHECKSUM_TEXT_BYTES];

        trying(kinds[i].name);
        assert_true(sum == kinds[i].check);
        checksum_text(kind, sum, text);
        assert_string_equal(text, kinds[i].text);
        checksum_text(kind, checksum_update(kind, 0, "", 0), text);
        assert_string_equal(text, kinds[i].of_nothing);
        assert_string_equal(checksum_name(kind), kinds[i].name);
        assert_string_equal(checksum_header(kind), kinds[i].header);
    }
    assert_null(checksum_name(CHECKSUM_NONE));
    assert_null(checksum_header(CHECKSUM_NONE));
}

static void
test_lengths(void **state)
{
    static uint8_t data[16 + 700];
    uint32_t random = 1;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++) {
        random = random * 1664525 + 1013904223;
        data[i] = (uint8_t)(random >> 24);
    }
    for (size_t i = 0; i < count_of(kinds); i++) {
        trying(kinds[i].name);
        for (size_t bytes = 0; bytes <= 700; bytes++) {
            const uint8_t *from = data + bytes % 16;
            uint64_t want = bit_by_bit(i, from, bytes), cut;

            if (checksum_update(kinds[i].kind, 0, from, bytes) != want ||
                checksum_by_table(kinds[i].kind, 0, from, bytes) != want)
                fail_msg("%s of %zu bytes", kinds[i].name, bytes);
            cut = checksum_update(kinds[i].kind, 0, from, bytes / 3);
            cut = checksum_update(kinds[i].kind, cut, from + bytes / 3, bytes - bytes / 3);
            if (cut != want)
                fail_msg("%s of %zu bytes in two pieces", kinds[i].name, bytes);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_values),
        cmocka_unit_test(test_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
