/* Secret memory as the kernel sees it: /proc/self/smaps, "dd" is left out of dumps, "lo" locked. */
#include <inttypes.h>
#include <sys/mman.h>

#include "base/secret.h"
#include "base/text.h"
#include "test/test.h"

/* The flags of the mapping that begins at `memory`. */
static void
flags_of(const void *memory, char to[128])
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512], begin[32];
    bool is_ours = false;

    assert_non_null(f);
    snprintf(begin, sizeof begin, "%" PRIxPTR "-", (uintptr_t)memory);
    to[0] = '\0';
    while (fgets(line, sizeof line, f)) {
        if (strchr(line, '-') && strspn(line, "0123456789abcdef") >= 6)
            is_ours = text_starts(line, begin);
        if (is_ours && text_starts(line, "VmFlags:"))
            snprintf(to, 128, "%.100s", line + strlen("VmFlags:"));
    }
    fclose(f);
}

/* Neither every limit nor every sanitizer lets memory be locked. */
static bool
may_lock(void)
{
    char flags[128];
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(page != MAP_FAILED);
    (void)mlock(page, 4096);
    flags_of(page, flags);
    munmap(page, 4096);
    return strstr(flags, " lo") != NULL;
}

static void
test_life(void **state)
{
    char flags[128];
    char *memory;
    Err e = {0};

    (void)state;
    assert_non_null(memory = secret_new(10000, &e));
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(memory[i], 0);
    memset(memory, 's', 10000);
    flags_of(memory, flags);
    assert_non_null(strstr(flags, " dd"));
    assert_int_equal(strstr(flags, " lo") != NULL, may_lock());
    secret_free(memory, 10000);
    flags_of(memory, flags);
    assert_null(strstr(flags, " dd"));
    secret_free(NULL, 10000);
}

static void
test_too_much(void **state)
{
    Err e = {0};

    (void)state;
    assert_null(secret_new(SIZE_MAX / 2, &e));
    assert_int_equal(e.code, ERR_MEMORY_LIMIT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
