#include "flow/batch.h"
#include "test/test.h"

static void
test_names(void **state)
{
    ColumnType type;

    (void)state;
    for (int i = 0; i < COLUMN_TYPES_COUNT; i++) {
        const char *name = column_type_name((ColumnType)i);

        trying(name);
        assert_true(column_type_of(name, &type));
        assert_int_equal(type, i);
    }
    assert_string_equal(column_type_name(COLUMN_TIMESTAMPTZ), "timestamptz");
    assert_string_equal(column_type_name(COLUMN_TYPES_COUNT), "unknown");
    assert_false(column_type_of("unknown", &type));
    assert_false(column_type_of("", &type));
    assert_false(column_type_of("Text", &type));
    assert_false(column_type_of("int", &type));
}

static void
test_nulls(void **state)
{
    static const uint8_t valid[] = {0xfe, 0x01};
    const Column some = {.valid = valid}, none = {0};

    (void)state;
    assert_true(column_is_null(&some, 0));
    assert_false(column_is_null(&some, 1));
    assert_false(column_is_null(&some, 7));
    assert_false(column_is_null(&some, 8));
    assert_true(column_is_null(&some, 9));
    assert_false(column_is_null(&none, 0));
    assert_false(column_is_null(&none, 4095));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nulls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
