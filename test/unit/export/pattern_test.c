#include "export/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "test/unit/export/bench.h"

#include <cmocka.h>

static void
test_refused(void **state)
{
    static const struct {
        const char *pattern, *says;
    } cases[] = {
        {"(", "regular expression"},
        {"[a", "regular expression"},
        {"a{2", "regular expression"},
        {"a{2,1}", "regular expression"},
        {"a)|(b", "regular expression"},
        {"(a)|(b))|((c)", "regular expression"},
        {"*a", "repeats nothing"},
        {"(+a)", "repeats nothing"},
        {"a||b", "empty alternative"},
        {"()", "empty alternative"},
        {"(a|)", "empty alternative"},
        {"|a", "empty alternative"},
        {"a|", "empty alternative"},
        {"(a)\\1", "back reference"},
        {"a{1001}", "too large"},
        {"a{99999999999999999999}", "too large"},
        {"(a{50}){50}", "too large"},
        {"((a{13}){13}){13}", "too large"},
        {"(([ab]{50}c){50}", "too large"},
        {"((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+", "too large"},
        {"a++", "in a row"},
        {"a*{2}", "in a row"},
        {"(a?)?+", "in a row"},
        {"(a{1000,}){2,}", "too large"},
        {"((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))", "groups"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *why = NULL;

        if (pattern_check(cases[i].pattern, &why))
            fail_msg("taken: %s", cases[i].pattern);
        if (!strstr(why, cases[i].says))
            fail_msg("%s: %s", cases[i].pattern, why);
        assert_false(pattern_fits(cases[i].pattern, ""));
    }
}

static void
test_fits(void **state)
{
    static const struct {
        const char *pattern, *fits, *does_not;
    } cases[] = {
        {"[A-Z]{2}[0-9]+", "AB7", "AB"},
        {"a|bc", "bc", "ac"},
        {"", "", "a"},
        {"a*", "", "b"},
        {"^a$", "a", "aa"},
        {"[]a]+", "]a]", "b"},
        {"[^]a]+", "bc", "]"},
        {"[[:alpha:]]{3}", "abc", "ab1"},
        {"[[.].]x]", "]", "y"},
        {"\\(a\\)", "(a)", "a"},
        {"(a|b){1,3}", "aba", "abab"},
        {"x{2,}", "xxx", "x"},
        {"\\{2", "{2", "2"},
        {"[{]{2}", "{{", "{"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *why = "";

        if (!pattern_check(cases[i].pattern, &why))
            fail_msg("%s: %s", cases[i].pattern, why);
        if (!pattern_fits(cases[i].pattern, cases[i].fits))
            fail_msg("%s does not fit %s", cases[i].pattern, cases[i].fits);
        if (pattern_fits(cases[i].pattern, cases[i].does_not))
            fail_msg("%s fits %s", cases[i].pattern, cases[i].does_not);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
