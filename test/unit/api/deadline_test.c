/* The heap of deadlines, against a plain look at everybody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "api/http_in.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum { PEOPLE = 100, ROUNDS = 20000 };

static void
test_earliest_first(void **state)
{
    static Server s;
    static Connection people[PEOPLE];
    static Connection *heap[PEOPLE + 1];
    uint32_t random = 1;

    (void)state;
    s.heap = heap;
    assert_null(deadline_next(&s));
    for (int round = 0; round < ROUNDS; round++) {
        Connection *c, *earliest = NULL;
        size_t due = 0;

        random = random * 1664525 + 1013904223;
        c = people + (random >> 8) % PEOPLE;
        deadline_set(&s, c, (random >> 16) % 4 == 0 ? 0 : 1 + (random >> 20) % 500);
        for (size_t i = 0; i < PEOPLE; i++) {
            if (people[i].deadline_at == 0)
                continue;
            due++;
            assert_ptr_equal(heap[people[i].deadline_at], people + i);
            if (!earliest || people[i].deadline_ms < earliest->deadline_ms)
                earliest = people + i;
        }
        assert_int_equal(s.due, due);
        if (earliest)
            assert_int_equal(deadline_next(&s)->deadline_ms, earliest->deadline_ms);
        else
            assert_null(deadline_next(&s));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_earliest_first)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
