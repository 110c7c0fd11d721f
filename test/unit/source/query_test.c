/* Where parameters stand in a query. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "source/query.h"
#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

typedef struct {
    const char *query;
    char names[256]; /* "a,b," */
} Seen;

static void
note(const char *name, size_t count, size_t at, void *with)
{
    Seen *seen = with;
    size_t bytes = strlen(seen->names);

    assert_int_equal(seen->query[at], '$');
    assert_ptr_equal(name, seen->query + at + 1);
    snprintf(seen->names + bytes, sizeof seen->names - bytes, "%.*s,", (int)count, name);
}

static void
test_names(void **state)
{
    static const struct {
        QueryLanguage language;
        const char *query, *names;
    } cases[] = {
        {QUERY_SQL, "", ""},
        {QUERY_SQL, "SELECT 1", ""},
        {QUERY_SQL, "$a", "a,"},
        {QUERY_SQL, "SELECT $a,$b_2 WHERE ($a IS NULL)", "a,b_2,a,"},
        {QUERY_SQL, "SELECT $a::text, $b::int[], x::$c", "a,b,c,"},
        {QUERY_SQL, "SELECT ARRAY[$a, $b][$c]", "a,b,c,"},
        {QUERY_SQL, "SELECT $1, $ a, $, $$", ""},
        {QUERY_SQL, "SELECT 5$a", ""},
        {QUERY_SQL, "SELECT col$a, c_$b, \xc3\xa9$c", ""},
        {QUERY_SQL, "SELECT $a\xc3\xa9", "a\xc3\xa9,"},
        {QUERY_SQL, "SELECT '$a', $b, '''$c', $d", "b,d,"},
        {QUERY_SQL, "SELECT '\\', $a, '$b'", "a,"},
        {QUERY_SQL, "SELECT E'\\'$a', $b", "b,"},
        {QUERY_SQL, "SELECT e'\\\\', $a", "a,"},
        {QUERY_SQL, "SELECT someE'\\', $a", "a,"},
        {QUERY_SQL, "SELECT \"$a\", \"x\"\"$b\", $c", "c,"},
        {QUERY_SQL, "SELECT `$a`, $b", "b,"},
        {QUERY_SQL, "SELECT $a -- $b '\n, $c", "a,c,"},
        {QUERY_SQL, "SELECT $a -- $b", "a,"},
        {QUERY_SQL, "SELECT /* $a */ $b", "b,"},
        {QUERY_SQL, "SELECT /* /* $a */ $b */ $c", "c,"},
        {QUERY_SQL, "SELECT /* $a ", ""},
        {QUERY_SQL, "SELECT 4 / $a * $b", "a,b,"},
        {QUERY_SQL, "SELECT 4 // $a", "a,"},
        {QUERY_SQL, "SELECT $$ $a ' $$, $b", "b,"},
        {QUERY_SQL, "SELECT $x$ $a $y$ $$ $x$, $b", "b,"},
        {QUERY_SQL, "SELECT $x$ $a", ""},
        {QUERY_SQL, "SELECT $x$ $a $x$$b", "b,"},
        {QUERY_SQL, "SELECT 'open $a", ""},
        {QUERY_SQL, "SELECT \"open $a", ""},
        {QUERY_SQL, "SELECT E'open \\", ""},
        {QUERY_SQL, "SELECT a$$b, a$$ $c, a$E'\\' $d", "c,d,"},
        {QUERY_SQL, "SELECT E'a' -- it's\n '\\' $a', $b", "b,"},
        {QUERY_SQL, "SELECT E'a' '\\', $a", "a,"},
        {QUERY_SQL, "SELECT 'a'\n'\\', $a", "a,"},
        {QUERY_SQL, "SELECT 'a' /* \n */ '$a', $b", "b,"},
        {QUERY_SQL, "SELECT $a -- $b\r, $c", "a,c,"},
        {QUERY_SQL, "SELECT U&'\\', $a, B'1', $b", "a,b,"},
        {QUERY_CYPHER, "RETURN e'\\'$a', $b", "b,"},
        {QUERY_CYPHER, "MATCH (a)-->(b)--(c) WHERE a.id = $a RETURN $b", "a,b,"},
        {QUERY_CYPHER, "RETURN $a // $b '\n, $c", "a,c,"},
        {QUERY_CYPHER, "RETURN /* /* $a */ $b", "b,"},
        {QUERY_CYPHER, "RETURN 'it\\'s $a', $b", "b,"},
        {QUERY_CYPHER, "RETURN \"\\\"$a\", $b", "b,"},
        {QUERY_CYPHER, "RETURN n.`$a`, $b", "b,"},
        {QUERY_CYPHER, "RETURN $$a$$", "a,"},
        {QUERY_CYPHER, "RETURN n[$a], {x: $b}", "a,b,"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        Seen seen = {.query = cases[i].query, .names = ""};

        query_names(cases[i].query, cases[i].language, note, &seen);
        if (strcmp(seen.names, cases[i].names) != 0)
            fail_msg("%s: %s", cases[i].query, seen.names);
    }
}

static void
test_tokens(void **state)
{
    static const char letter[] = {
        [QUERY_WORD] = 'w', [QUERY_QUOTED] = 'q', [QUERY_PARAM] = 'p', [QUERY_SIGN] = 's'};
    static const struct {
        QueryLanguage language;
        const char *query, *tokens;
    } cases[] = {
        {QUERY_SQL, "", ""},
        {QUERY_SQL, " \t\r\n-- nothing", ""},
        {QUERY_SQL, "/* /* */ */ -- x\n ;", "s;|"},
        {QUERY_SQL, "a.b>=$c::int8", "wa|s.|wb|s>|s=|p$c|s:|s:|wint8|"},
        {QUERY_SQL, "5 1.5e3 a$1$ _x", "w5|w1|s.|w5e3|wa$1$|w_x|"},
        {QUERY_SQL, "'it''s'\n'so' \"a\"\"b\" `c` $$d$$ $e$f$e$",
            "q'it''s'\n'so'|q\"a\"\"b\"|q`c`|q$$d$$|q$e$f$e$|"},
        {QUERY_SQL, "E'\\'' n'x' ae'y'", "qE'\\''|wn|q'x'|wae|q'y'|"},
        {QUERY_SQL, "a--b\n/c*/d", "wa|s/|wc|s*|s/|wd|"},
        {QUERY_SQL, "'open -- ", "q'open -- |"},
        {QUERY_SQL, "a /* open /* */ $b", "wa|q/* open /* */ $b|"},
        {QUERY_CYPHER, "a /* open", "wa|q/* open|"},
        {QUERY_CYPHER, "a--b // c\n'\\''\"\"\"$d$$", "wa|s-|s-|wb|q'\\''|q\"\"\"$d$$|"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        QueryToken token = {.at = cases[i].query};
        char seen[256] = "";

        while (query_token(token.at + token.bytes, cases[i].language, &token)) {
            size_t bytes = strlen(seen);

            snprintf(seen + bytes, sizeof seen - bytes, "%c%.*s|", letter[token.kind],
                (int)token.bytes, token.at);
        }
        if (strcmp(seen, cases[i].tokens) != 0)
            fail_msg("%s: %s", cases[i].query, seen);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_tokens)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
