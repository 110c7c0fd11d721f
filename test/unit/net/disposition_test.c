#include "net/disposition.h"

#include "test/test.h"

static void
test_disposition(void **state)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"a.csv", "attachment; filename=\"a.csv\"; filename*=UTF-8''a.csv"},
        {"r\xc3\xa9port \"1\".csv",
            "attachment; filename=\"r_port _1_.csv\"; filename*=UTF-8''r%C3%A9port%20%221%22.csv"},
        {"a\\b%41.csv", "attachment; filename=\"a_b_41.csv\"; filename*=UTF-8''a%5Cb%2541.csv"},
        {"a;b.csv", "attachment; filename=\"a_b.csv\"; filename*=UTF-8''a%3Bb.csv"},
        {"a\r\nSet-Cookie: x", "attachment; filename=\"a__Set-Cookie: x\"; "
                               "filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf to = buf_new(1000);

        disposition_write(cases[i].name, &to);
        assert_string_equal(to.data, cases[i].want);
        buf_free(&to);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_disposition)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
