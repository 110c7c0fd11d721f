/* codec/none keeps what every sink promises, by not being one. */
#include "codec/codec.h"
#include "test/contract/sinks.h"
#include "test/test.h"

extern const CodecKind codec_none;

static void
test_none(void **state)
{
    TestSink next = sink_new();
    Err e = {0};

    (void)state;
    assert_ptr_equal(codec_none.open(&next.base, NULL, &e), &next.base);
    assert_string_equal(codec_none.name, "none");
    assert_string_equal(codec_none.extension, "");
    assert_null(codec_none.content_type);
    sink_contract(codec_none.open);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_none)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
