#include "child/permit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static void
test_counts(void **state)
{
    Err e = {0};
    int fd;
    Permits *p = permits_new(2, &fd, &e), *other;
    int64_t from_ms;

    (void)state;
    assert_non_null(p);
    other = permits_map(fd);
    assert_non_null(other);
    assert_true(permits_take(p, 0));
    assert_true(permits_take(other, 0));
    from_ms = time_now_ms();
    assert_false(permits_take(p, 60));
    assert_true(time_now_ms() - from_ms >= 50);
    permits_give(other);
    assert_true(permits_take(p, 0));
    permits_reset(p, 1);
    assert_true(permits_take(other, 0));
    assert_false(permits_take(other, 0));
    assert_null(permits_map(-1));
    permits_unmap(other);
    permits_unmap(p);
    permits_unmap(NULL);
    close(fd);
}

typedef struct {
    _Atomic int inside, most, times;
} Room;

/* More processes than permits: never more inside than there are, and nobody waits for ever. */
static void
test_many_processes(void **state)
{
    enum { PROCESSES = 6, PERMITS = 2, TIMES = 300 };
    Room *room =
        mmap(NULL, sizeof *room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    Err e = {0};
    int fd;
    Permits *p = permits_new(PERMITS, &fd, &e);
    pid_t pid[PROCESSES];

    (void)state;
    assert_true(room != MAP_FAILED && p);
    for (int i = 0; i < PROCESSES; i++) {
        if ((pid[i] = fork()) != 0)
            continue;
        (void)alarm(30);
        for (int t = 0; t < TIMES; t++) {
            int inside, most;

            while (!permits_take(p, 20000))
                continue;
            inside = atomic_fetch_add(&room->inside, 1) + 1;
            most = atomic_load(&room->most);
            while (inside > most && !atomic_compare_exchange_weak(&room->most, &most, inside))
                continue;
            usleep(50);
            atomic_fetch_sub(&room->inside, 1);
            atomic_fetch_add(&room->times, 1);
            permits_give(p);
        }
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;

        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(atomic_load(&room->times), PROCESSES * TIMES);
    assert_int_equal(atomic_load(&room->most), PERMITS);
    munmap(room, sizeof *room);
    permits_unmap(p);
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_many_processes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
