#include "base/arena.h"
#include "test/test.h"

static void
test_zeroed_and_aligned(void **state)
{
    Arena *a = arena_new(1 << 20);
    Err e = {0};

    (void)state;
    for (size_t bytes = 0; bytes < 3000; bytes += 7) {
        unsigned char *memory;

        assert_ok(memory = arena_alloc(a, bytes, &e), &e);
        assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, bytes);
    }
    arena_free(a);
    arena_free(NULL);
}

static void
test_limit(void **state)
{
    static const struct {
        const char *name;
        size_t limit, first, second;
        bool first_fits, second_fits;
    } cases[] = {
        {"exactly", 1000, 992, 0, true, false},
        {"all of it at once", 64, 64, 1, true, false},
        {"one too many", 64, 65, 64, false, true},
        {"small ones", 64, 32, 32, true, true},
        {"nothing", 0, 1, 1, false, false},
        {"a large one after a small", 100000, 100, 80000, true, true},
        {"the whole address space", 1 << 20, SIZE_MAX, 100, false, true},
        {"nearly all of it", 1 << 20, SIZE_MAX - 15, 100, false, true},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Arena *a = arena_new(cases[i].limit);
        Err e = {0};

        trying(cases[i].name);
        assert_int_equal(arena_alloc(a, cases[i].first, &e) != NULL, cases[i].first_fits);
        assert_int_equal(e.code, cases[i].first_fits ? ERR_NONE : ERR_MEMORY_LIMIT);
        err_clear(&e);
        assert_int_equal(arena_alloc(a, cases[i].second, &e) != NULL, cases[i].second_fits);
        assert_true(arena_peak_bytes(a) <= cases[i].limit);
        arena_free(a);
    }
}

static void
test_arrays(void **state)
{
    Arena *a = arena_new(1 << 20);
    Err e = {0};

    (void)state;
    assert_ok(arena_alloc_array(a, 100, 8, &e) != NULL, &e);
    assert_ok(arena_alloc_array(a, 0, 8, &e) != NULL, &e);
    assert_null(arena_alloc_array(a, SIZE_MAX / 4, 8, &e));
    assert_int_equal(e.code, ERR_MEMORY_LIMIT);
    err_clear(&e);
    assert_null(arena_alloc_array(a, SIZE_MAX, SIZE_MAX, &e));
    assert_int_equal(e.code, ERR_MEMORY_LIMIT);
    arena_free(a);
}

static void
test_texts(void **state)
{
    Arena *a = arena_new(1 << 20);
    char *text;
    Err e = {0};

    (void)state;
    assert_ok(text = arena_text(a, "hello", &e), &e);
    assert_string_equal(text, "hello");
    assert_ok(text = arena_text(a, "", &e), &e);
    assert_string_equal(text, "");
    assert_ok(text = arena_bytes(a, "a\0b", 3, &e), &e);
    assert_memory_equal(text, "a\0b", 4);
    assert_ok(text = arena_bytes(a, NULL, 0, &e), &e);
    assert_string_equal(text, "");
    assert_null(arena_bytes(a, "", SIZE_MAX, &e));
    err_clear(&e);
    assert_ok(text = arena_printf(a, &e, "%s-%d", "n", 7), &e);
    assert_string_equal(text, "n-7");
    assert_ok(text = arena_printf(a, &e, "%5000s", "x"), &e);
    assert_int_equal(strlen(text), 5000);
    arena_free(a);
}

static void
test_rewind(void **state)
{
    Arena *a = arena_new(200000);
    ArenaMark start = arena_mark(a), mark;
    char *before, *after;
    size_t peak;
    Err e = {0};

    (void)state;
    assert_ok(before = arena_text(a, "before", &e), &e);
    mark = arena_mark(a);
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 10; i++)
            assert_ok(arena_alloc(a, (size_t)(1000 + 700 * i), &e) != NULL, &e);
        arena_rewind(a, mark);
        if (round == 0)
            peak = arena_peak_bytes(a);
        assert_int_equal(arena_peak_bytes(a), peak);
    }
    assert_string_equal(before, "before");
    /* Memory that was used before is zero again. */
    assert_ok(after = arena_alloc(a, 1000, &e), &e);
    memset(after, 0xff, 1000);
    arena_rewind(a, mark);
    assert_ok(after = arena_alloc(a, 1000, &e), &e);
    assert_int_equal(after[999], 0);
    arena_rewind(a, start);
    assert_ok(after = arena_alloc(a, 100, &e), &e);
    assert_ptr_equal(after, before); /* from the first byte again */
    arena_free(a);
}

/* What a rewind keeps must not stand in the way of what is asked for now. */
static void
test_kept_blocks_give_way(void **state)
{
    Arena *a = arena_new(128 << 10);
    ArenaMark start;
    Err e = {0};

    (void)state;
    assert_ok(arena_alloc(a, 16, &e) != NULL, &e);
    start = arena_mark(a);
    for (int i = 0; i < 7; i++)
        assert_ok(arena_alloc(a, 16000, &e) != NULL, &e);
    arena_rewind(a, start);
    assert_ok(arena_alloc(a, 100 << 10, &e) != NULL, &e);
    arena_rewind(a, start);
    for (int i = 0; i < 6; i++)
        assert_ok(arena_alloc(a, 16000, &e) != NULL, &e);
    assert_true(arena_peak_bytes(a) <= 128 << 10);
    arena_free(a);
}

static void
test_failing_on_purpose(void **state)
{
    Arena *a = arena_new(1 << 20), *b = arena_new(1 << 20);
    Err e = {0};

    (void)state;
    arena_fail_at(3);
    assert_ok(arena_alloc(a, 1, &e) != NULL, &e);
    assert_ok(arena_text(b, "any arena counts", &e) != NULL, &e);
    assert_null(arena_alloc(a, 1, &e));
    assert_int_equal(e.code, ERR_MEMORY_LIMIT);
    err_clear(&e);
    assert_ok(arena_alloc(a, 1, &e) != NULL, &e);
    arena_fail_at(1);
    arena_fail_at(0);
    assert_ok(arena_alloc(a, 1, &e) != NULL, &e);
    arena_free(a);
    arena_free(b);
}

static void
test_sizes(void **state)
{
    size_t n;

    (void)state;
    assert_true(size_add(1, 2, &n) && n == 3);
    assert_true(size_add(SIZE_MAX, 0, &n));
    assert_false(size_add(SIZE_MAX, 1, &n));
    assert_true(size_mul(3, 4, &n) && n == 12);
    assert_true(size_mul(SIZE_MAX, 1, &n));
    assert_false(size_mul(SIZE_MAX, 2, &n));
    assert_false(size_mul((size_t)1 << 32, (size_t)1 << 32, &n));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_and_aligned),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_kept_blocks_give_way),
        cmocka_unit_test(test_failing_on_purpose),
        cmocka_unit_test(test_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
