#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "net/url.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static void
same(const char *got, const char *want)
{
    if (!want)
        assert_null(got);
    else
        assert_string_equal(got, want);
}

static void
test_parts(void **state)
{
    static const struct {
        const char *text, *scheme, *user, *password, *host;
        unsigned port;
        const char *path, *query, *shown;
    } cases[] = {
        {"http://h", "http", NULL, NULL, "h", 0, "", NULL, "http://h"},
        {"HTTPS://Ex.Example:8443/a%20b?x=1&y", "https", NULL, NULL, "ex.example", 8443, "/a%20b",
            "x=1&y", "HTTPS://Ex.Example:8443/a%20b"},
        {"postgresql://u:p%40w@db/m?sslmode=on", "postgresql", "u", "p@w", "db", 0, "/m",
            "sslmode=on", "postgresql://db/m"},
        {"redis://:pw@[2001:DB8::1]:6379/0", "redis", "", "pw", "2001:db8::1", 6379, "/0", NULL,
            "redis://[2001:DB8::1]:6379/0"},
        {"neo4j+s://u@h:", "neo4j+s", "u", NULL, "h", 0, "", NULL, "neo4j+s://h:"},
        {"postgresql:///db?host=/run", "postgresql", NULL, NULL, "", 0, "/db", "host=/run",
            "postgresql:///db"},
        {"sqlite:/srv/a b?.db", "sqlite", NULL, NULL, "", 0, "/srv/a b?.db", NULL,
            "sqlite:/srv/a b?.db"},
        {"sqlite:///srv/a.db", "sqlite", NULL, NULL, "", 0, "/srv/a.db", NULL,
            "sqlite:///srv/a.db"},
        {"sqlite:rel.db", "sqlite", NULL, NULL, "", 0, "rel.db", NULL, "sqlite:rel.db"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(1 << 16);
        Buf shown = buf_new(1000);
        Err e = {0};
        Url u;

        if (!url_parse(cases[i].text, arena, &u, &e))
            fail_msg("%s: %s", cases[i].text, err_root(&e));
        same(u.scheme, cases[i].scheme);
        same(u.user, cases[i].user);
        same(u.password, cases[i].password);
        same(u.host, cases[i].host);
        assert_int_equal(u.port, cases[i].port);
        same(u.path, cases[i].path);
        same(u.query, cases[i].query);
        url_show(cases[i].text, &shown);
        same(shown.data, cases[i].shown);
        buf_free(&shown);
        arena_free(arena);
    }
}

static void
test_refused(void **state)
{
    static const char *const cases[] = {"", "h", "//h", "1http://h", "http:/h", "http:h",
        "sqlite:", "http://h:0", "http://h:65536", "http://h:8a", "http://[::1", "http://[::1]x",
        "http://[h]", "http://a b", "http://h/a b", "http://h/#x", "http://u%zz@h", "http://h%00",
        "http://h%2fx", "http://\x01", "http://\xff", "http://a:b:c", "http://h\\@g"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(1 << 16);
        Err e = {0};
        Url u;

        if (url_parse(cases[i], arena, &u, &e))
            fail_msg("taken: %s", cases[i]);
        assert_int_equal(e.code, ERR_CONFIG_INVALID);
        arena_free(arena);
    }
}

/* A password that nobody escaped must not come out either. */
static void
test_shows_no_secret(void **state)
{
    static const char *const cases[] = {"pg://u:se/cret@h/x", "pg://u:se?cret@h",
        "pg://u:se#cret@h", "pg://u:secret@h@g", "pg://h/?password=secret", "secret",
        "pg:u:secret@h"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Buf shown = buf_new(1000);

        url_show(cases[i], &shown);
        if (strstr(shown.data, "se") || strstr(shown.data, "cret"))
            fail_msg("%s shows %s", cases[i], shown.data);
        buf_free(&shown);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shows_no_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
