/* storage/memory keeps what every storage promises. */
#include "storage/memory/memory.h"
#include "test/contract/storage_contract.h"
#include "test/test.h"

static void
test_what_tests_see(void **state)
{
    Storage *storage;
    char sealed[2048];
    Arena *task = arena_new(1 << 20);
    size_t bytes;
    Err e = {0};

    (void)state;
    memory_forget();
    assert_ok(storage = storage_memory.open(&(StorageSpec){0}, &e), &e);
    assert_false(memory_object_is_visible());
    (void)storage_seal(storage, "exports/u/a.csv", "t", 1, "seen", task, sealed);
    assert_false(memory_object_is_visible());
    assert_int_equal(memory_uploads(), 1);
    assert_ok(storage_memory.publish(storage, sealed, NULL, &e), &e);
    assert_true(memory_object_is_visible());
    assert_int_equal(memory_uploads(), 0);
    assert_string_equal(memory_object(&bytes), "seen");
    assert_int_equal(bytes, 4);
    memory_forget();
    assert_false(memory_object_is_visible());
    arena_free(task);
}

static int
forget(void **state)
{
    (void)state;
    memory_forget();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_what_tests_see, forget)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    /* Its objects live in a few places: what each test leaves behind fits in. */
    failed += storage_contract("storage_memory", &storage_memory, &(StorageSpec){0}, 0, NULL);
    memory_forget();
    return failed;
}
