/* Sizes of parts (s3.md 8.2); the rest of multipart.c is shown on real stores by the contract. */
#include "storage/s3/s3_in.h"
#include "test/test.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

/* What `parts` parts hold, the sizes following each other as the sink asks for them. */
static uint64_t
reach(const S3Spec *spec, int64_t bytes_max, unsigned parts, size_t *largest)
{
    uint64_t bytes = 0;
    size_t before = 0;

    *largest = 0;
    for (unsigned n = 0; n < parts; n++) {
        size_t part = multipart_part_bytes(spec, bytes_max, (int64_t)bytes);

        assert_true(part >= before); /* never smaller than the one before it */
        assert_true(part >= 5 * MIB);
        assert_int_equal(part % MIB, 0);
        before = *largest = part;
        bytes += part;
    }
    return bytes;
}

static void
test_constant_where_that_reaches(void **state)
{
    const S3Spec spec = {.part_bytes = 8 * MIB, .memory_bytes = 64 * MIB, .parts_max = 10000};
    size_t largest;

    (void)state;
    assert_true(reach(&spec, 50 * (int64_t)GIB, 10000, &largest) >= 50 * GIB);
    assert_int_equal(largest, 8 * MIB);
}

static void
test_five_tebibytes_fit(void **state)
{
    const S3Spec spec = {.part_bytes = 8 * MIB, .memory_bytes = 16 * GIB, .parts_max = 10000};
    uint64_t bytes = 0;
    unsigned parts = 0;

    (void)state;
    for (; bytes < 5 * TIB; parts++) {
        size_t part = multipart_part_bytes(&spec, 0, (int64_t)bytes);

        assert_true(part <= 5 * GIB);
        bytes += part;
    }
    assert_true(parts <= 10000);
    /* What is small stays small. */
    assert_int_equal(multipart_part_bytes(&spec, 0, 9 * (int64_t)GIB), 8 * MIB);
}

static void
test_memory_bounds_a_part(void **state)
{
    const S3Spec spec = {.part_bytes = 5 * MIB, .memory_bytes = 64 * MIB, .parts_max = 1000};
    size_t largest;

    (void)state;
    assert_true(reach(&spec, 50 * (int64_t)GIB, 1000, &largest) > 20 * GIB);
    assert_int_equal(largest, 32 * MIB);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant_where_that_reaches),
        cmocka_unit_test(test_five_tebibytes_fit),
        cmocka_unit_test(test_memory_bounds_a_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
