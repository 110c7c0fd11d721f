/* flow: sinks in a chain, the buffer, the digest. */
#include "test/contract/sinks.h"
#include "test/test.h"

static Sink *
open_buffer(Sink *next, Arena *task, Err *e)
{
    return buffer_open(next, 4096, task, e);
}

static Sink *
open_chain(Sink *next, Arena *task, Err *e)
{
    Sink *digest = digest_open(next, task, e);
    Sink *buffer = digest ? buffer_open(digest, 1000, task, e) : NULL;

    if (digest && !buffer)
        sink_abort(digest);
    return buffer;
}

static void
test_contracts(void **state)
{
    (void)state;
    trying("buffer");
    sink_contract(open_buffer);
    trying("digest");
    sink_contract(digest_open);
    trying("buffer before digest");
    sink_contract(open_chain);
}

static void
test_buffer_gathers(void **state)
{
    static const struct {
        const char *name;
        size_t writes[6]; /* 0 ends */
        unsigned want;    /* writes that come out, with that of finish */
    } cases[] = {
        {"small ones", {10, 20, 30}, 1},
        {"exactly full", {50, 50}, 1},
        {"over the border", {60, 60}, 2},
        {"larger than it", {10, 500, 10}, 3},
        {"as large as it", {100}, 1},
        {"nothing", {0}, 0},
        {"full, then more", {99, 1, 1}, 2},
    };
    char data[500];

    (void)state;
    memset(data, 'b', sizeof data);
    for (size_t i = 0; i < count_of(cases); i++) {
        TestSink last = sink_new();
        Arena *task = arena_new(1 << 20);
        size_t sum = 0;
        Sink *sink;
        Err e = {0};

        trying(cases[i].name);
        assert_ok(sink = buffer_open(&last.base, 100, task, &e), &e);
        for (size_t w = 0; cases[i].writes[w]; w++) {
            assert_ok(sink_write(sink, data, cases[i].writes[w], &e), &e);
            sum += cases[i].writes[w];
        }
        assert_ok(sink_finish(sink, &e), &e);
        assert_int_equal(last.got.bytes, sum);
        assert_int_equal(last.writes, cases[i].want);
        buf_free(&last.got);
        arena_free(task);
    }
}

static void
test_digest(void **state)
{
    static const struct {
        const char *text, *want; /* FIPS 180-4's own examples */
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char hex[65];

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        TestSink last = sink_new();
        Arena *task = arena_new(1 << 20);
        Sink *sink;
        Err e = {0};

        trying(cases[i].text);
        assert_ok(sink = digest_open(&last.base, task, &e), &e);
        assert_ok(sink_write(sink, cases[i].text, strlen(cases[i].text), &e), &e);
        assert_ok(sink_finish(sink, &e), &e);
        assert_string_equal(digest_hex(sink), cases[i].want);
        assert_string_equal(last.got.data, cases[i].text);
        assert_true(digest_text(cases[i].text, strlen(cases[i].text), hex));
        assert_string_equal(hex, cases[i].want);
        buf_free(&last.got);
        arena_free(task);
    }
}

static void
test_sinks_without_finish_or_abort(void **state)
{
    static const SinkKind bare = {.name = "bare"};
    TestSink last = sink_new();
    Sink first = {.kind = &bare, .next = &last.base};
    Err e = {0};

    (void)state;
    assert_ok(sink_finish(&first, &e), &e);
    assert_int_equal(last.finishes, 1);
    sink_abort(&first);
    assert_int_equal(last.aborts, 1);
    assert_ok(sink_write(&first, "", 0, &e), &e); /* nothing is nobody's business */
    assert_int_equal(first.bytes_in, 0);
    sink_abort(NULL);
    buf_free(&last.got);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contracts),
        cmocka_unit_test(test_buffer_gathers),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_sinks_without_finish_or_abort),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
