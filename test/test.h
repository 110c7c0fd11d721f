/*
 * What the tests of this folder share: cmocka with all that it needs, and the names of its cases.
 *
 * cmocka's fail() hides our fail(e, CODE, …), both being macros: tests take fail_code.
 */
#ifndef TEST_TEST_H
#define TEST_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#undef fail
#include <cmocka.h>

/* The case that is tried now: the last such line stands before the assertion that failed. */
#define trying(name) print_message("trying: %s\n", (name))

#define count_of(array) (sizeof(array) / sizeof(array)[0])

/* It worked; else what went wrong is printed. */
#define assert_ok(call, e)                                                                         \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            char said_[1024];                                                                      \
            fail_msg("%s: %s", #call, err_chain((e), said_, sizeof said_));                        \
        }                                                                                          \
    } while (0)

/* It failed, with this code. */
#define assert_fails(call, want, e)                                                                \
    do {                                                                                           \
        if (call)                                                                                  \
            fail_msg("%s: went well instead of %s", #call, err_name(want));                        \
        if ((e)->code != (want)) {                                                                 \
            char said_[1024];                                                                      \
            fail_msg(                                                                              \
                "%s: not %s but %s", #call, err_name(want), err_chain((e), said_, sizeof said_));  \
        }                                                                                          \
    } while (0)

/* What the chain of an error says must hold `part`. */
#define assert_says(e, part)                                                                       \
    do {                                                                                           \
        char said_[1024];                                                                          \
        if (!strstr(err_chain((e), said_, sizeof said_), (part)))                                  \
            fail_msg("nothing of \"%s\" in: %s", (part), said_);                                   \
    } while (0)

#endif
