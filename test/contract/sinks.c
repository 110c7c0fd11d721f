#include "test/contract/sinks.h"

#include "test/test.h"

static bool
write_some(Sink *s, const void *data, size_t bytes, Err *e)
{
    TestSink *t = (TestSink *)s;

    assert_false(t->has_failed);
    assert_int_equal(t->finishes, 0);
    assert_true(bytes > 0);
    t->writes++;
    if (bytes > t->fails_after - t->got.bytes) {
        t->has_failed = true;
        return fail_code(e, ERR_STORAGE_FULL, "the test says so");
    }
    buf_put(&t->got, data, bytes);
    assert_false(t->got.failed);
    return true;
}

static bool
finish(Sink *s, Err *e)
{
    TestSink *t = (TestSink *)s;

    assert_false(t->has_failed);
    t->finishes++;
    return !t->fails_to_finish || fail_code(e, ERR_STORAGE_UNAVAILABLE, "the test says so");
}

static void
leave(Sink *s)
{
    ((TestSink *)s)->aborts++;
}

static const SinkKind test_sink = {"test", write_some, finish, leave};

TestSink
sink_new(void)
{
    return (TestSink){
        .base.kind = &test_sink, .got = buf_new(256 << 20), .fails_after = UINT64_MAX};
}

enum { DATA_BYTES = 200000 };

/* Pieces of `piece` bytes, with an empty write between. */
static bool
feed(Sink *s, const char *data, size_t piece, Err *e)
{
    for (size_t at = 0; at < DATA_BYTES; at += piece) {
        size_t left = DATA_BYTES - at;

        if (!sink_write(s, data + at, left < piece ? left : piece, e) || !sink_write(s, data, 0, e))
            return false;
    }
    return true;
}

static void
check_pieces(SinkOpen *open, const char *data)
{
    static const size_t pieces[] = {1, 7, 512, 4096, 65536, DATA_BYTES};
    TestSink first = sink_new();

    for (size_t i = 0; i < count_of(pieces); i++) {
        TestSink last = sink_new();
        Arena *task = arena_new(4 << 20);
        Sink *sink;
        Err e = {0};

        assert_ok(sink = open(&last.base, task, &e), &e);
        assert_ok(feed(sink, data, pieces[i], &e), &e);
        assert_int_equal(sink->bytes_in, DATA_BYTES);
        assert_int_equal(last.finishes, 0);
        assert_ok(sink_finish(sink, &e), &e);
        assert_int_equal(last.finishes, 1);
        assert_int_equal(last.base.bytes_in, last.got.bytes);
        if (i == 0)
            buf_put(&first.got, last.got.data, last.got.bytes);
        assert_int_equal(last.got.bytes, first.got.bytes);
        assert_memory_equal(last.got.data, first.got.data, first.got.bytes);
        buf_free(&last.got);
        sink_abort(sink); /* may come after finish */
        assert_int_equal(last.aborts, 1);
        arena_free(task);
    }
    buf_free(&first.got);
}

static void
check_failures(SinkOpen *open, const char *data)
{
    static const uint64_t after[] = {0, 1, 1000, 70000};

    for (size_t i = 0; i < count_of(after); i++) {
        TestSink last = sink_new();
        Arena *task = arena_new(4 << 20);
        Sink *sink;
        Err e = {0};

        last.fails_after = after[i];
        assert_ok(sink = open(&last.base, task, &e), &e);
        assert_fails(feed(sink, data, 333, &e) && sink_finish(sink, &e), ERR_STORAGE_FULL, &e);
        sink_abort(sink);
        assert_int_equal(last.aborts, 1);
        buf_free(&last.got);
        arena_free(task);
    }
}

static void
check_memory(SinkOpen *open, const char *data)
{
    bool ok = false;

    for (unsigned long nth = 1; !ok; nth++) {
        TestSink last = sink_new();
        Arena *task = arena_new(4 << 20);
        Sink *sink;
        Err e = {0};

        arena_fail_at(nth);
        ok = (sink = open(&last.base, task, &e)) && feed(sink, data, 4096, &e) &&
             sink_finish(sink, &e);
        arena_fail_at(0);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        assert_true(nth < 1000);
        sink_abort(sink);
        buf_free(&last.got);
        arena_free(task);
    }
}

void
sink_contract(SinkOpen *open)
{
    char *data = malloc(DATA_BYTES);
    TestSink last = sink_new();
    Arena *task = arena_new(4 << 20);
    Sink *sink;
    Err e = {0};

    assert_non_null(data);
    for (size_t i = 0; i < DATA_BYTES; i++)
        data[i] = (char)(i * i >> 3 ^ i >> 9);
    check_pieces(open, data);
    check_failures(open, data);
    check_memory(open, data);
    free(data);

    trying("nothing at all, and a next one that cannot finish");
    last.fails_to_finish = true;
    assert_ok(sink = open(&last.base, task, &e), &e);
    assert_fails(sink_finish(sink, &e), ERR_STORAGE_UNAVAILABLE, &e);
    sink_abort(sink);
    buf_free(&last.got);
    arena_free(task);
}
