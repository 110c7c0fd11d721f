#include "child/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static void
put(Buf *to, const char *word)
{
    Err e = {0};

    assert_true(frame_put(to, json_pack("{s:s}", "op", word), &e));
}

static void
must_take(Buf *from, const char *word)
{
    Err e = {0};
    json_t *frame = frame_take(from, &e);

    assert_non_null(frame);
    assert_string_equal(json_text_or(frame, "op", ""), word);
    json_decref(frame);
}

/* The form on the wire: a length, lowest byte first, and the text. */
static void
test_form(void **state)
{
    Buf b = buf_new(1 << 20);
    size_t both;

    (void)state;
    put(&b, "go");
    assert_int_equal(b.bytes, 4 + 11);
    assert_memory_equal(b.data, "\x0b\0\0\0{\"op\":\"go\"}", 15);
    must_take(&b, "go");
    assert_int_equal(b.bytes, 0);
    for (size_t i = 0; i < 15; i++) /* no password stays behind */
        assert_int_equal(b.data[i], 0);
    put(&b, "first");
    put(&b, "second");
    both = b.bytes;
    must_take(&b, "first");
    assert_null(memmem(b.data + b.bytes, both - b.bytes, "second", 6));
    must_take(&b, "second");
    buf_free(&b);
}

/* Whatever pieces the socket makes of it. */
static void
test_pieces(void **state)
{
    Buf all = buf_new(1 << 20), part = buf_new(1 << 20);

    (void)state;
    put(&all, "one");
    put(&all, "two");
    put(&all, "three");
    for (size_t piece = 1; piece <= all.bytes; piece++) {
        static const char *const words[] = {"one", "two", "three"};
        size_t heard = 0;
        Err e = {0};

        buf_clear(&part);
        for (size_t at = 0; at < all.bytes; at += piece) {
            json_t *frame;

            buf_put(&part, all.data + at, all.bytes - at < piece ? all.bytes - at : piece);
            while ((frame = frame_take(&part, &e))) {
                assert_string_equal(json_text_or(frame, "op", ""), words[heard++]);
                json_decref(frame);
            }
            assert_int_equal(e.links, 0);
        }
        assert_int_equal(heard, 3);
        assert_int_equal(part.bytes, 0);
    }
    buf_free(&all);
    buf_free(&part);
}

static void
test_no_frames(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t count;
    } cases[] = {
        {"4 MiB and 1", "\x01\x00\x40\x00", 4},
        {"all there is", "\xff\xff\xff\xff", 4},
        {"empty", "\0\0\0\0", 4},
        {"no JSON", "\x03\0\0\0abc", 7},
        {"no object", "\x02\0\0\0[]", 6},
        {"a text", "\x03\0\0\0\"a\"", 7},
        {"not UTF-8", "\x07\0\0\0{\"a\":\xff}", 11},
        {"a member twice", "\x0d\0\0\0{\"a\":1,\"a\":2}", 17},
        {"a number too large", "\x19\0\0\0{\"a\":12345678901234567890}", 29},
        {"bytes behind", "\x03\0\0\0{}x", 7},
        {"too deep", "\x3a\0\0\0{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]}", 62},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Buf b = buf_new(1 << 20);
        Err e = {0};

        buf_put(&b, cases[i].bytes, cases[i].count);
        if (frame_take(&b, &e))
            fail_msg("%s: taken", cases[i].name);
        if (e.code != ERR_INTERNAL)
            fail_msg("%s: %s", cases[i].name, err_name(e.code));
        buf_free(&b);
    }
}

/* A frame of exactly the most that may be, and one byte more. */
static void
test_largest(void **state)
{
    char *text = malloc(FRAME_BYTES_MAX);
    Buf b = buf_new(3 * (size_t)FRAME_BYTES_MAX);
    size_t most = FRAME_BYTES_MAX - strlen("{\"op\":\"\"}");
    Err e = {0};

    (void)state;
    memset(text, 'x', FRAME_BYTES_MAX);
    text[most] = '\0';
    put(&b, "before");
    put(&b, text);
    must_take(&b, "before");
    must_take(&b, text);
    text[most] = 'x';
    text[most + 1] = '\0';
    put(&b, "before");
    assert_false(frame_put(&b, json_pack("{s:s}", "op", text), &e));
    assert_int_equal(e.code, ERR_INTERNAL);
    /* Of the one that did not go nothing is left. */
    put(&b, "behind");
    must_take(&b, "before");
    must_take(&b, "behind");
    assert_int_equal(b.bytes, 0);
    buf_free(&b);
    free(text);
}

static void
test_no_room(void **state)
{
    Buf b = buf_new(40);
    Err e = {0};

    (void)state;
    put(&b, "a");
    assert_false(frame_put(&b, json_pack("{s:s}", "op", "much too long for what is left"), &e));
    assert_int_equal(e.code, ERR_MEMORY_LIMIT);
    put(&b, "b");
    must_take(&b, "a");
    must_take(&b, "b");
    err_clear(&e);
    assert_false(frame_put(&b, NULL, &e));
    assert_int_equal(e.code, ERR_MEMORY_LIMIT);
    assert_int_equal(b.bytes, 0);
    buf_free(&b);
    b = buf_new(2);
    err_clear(&e);
    assert_false(frame_put(&b, json_object(), &e));
    assert_int_equal(b.bytes, 0);
    buf_free(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_no_frames),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
