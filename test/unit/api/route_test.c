#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/route.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

typedef struct {
    const char *method, *target;
    const char *path; /* the pattern; NULL: none */
    const char *name; /* what stands for {…}; of 405: the methods */
    ErrCode code;
} Case;

#define FILE_KEY "exports/user_1/a_20240101_120000_8f14e45f.csv"

static const Case cases[] = {
    {"GET", "/health", "/health", NULL, ERR_NONE},
    {"HEAD", "/health?x=1", "/health", NULL, ERR_NONE},
    {"GET", "/%68ealth", "/health", NULL, ERR_NONE},
    {"POST", "/health", NULL, "GET, HEAD", ERR_METHOD_NOT_ALLOWED},
    {"OPTIONS", "/health", NULL, "GET, HEAD", ERR_METHOD_NOT_ALLOWED},
    {"TRACE", "/health", NULL, "GET, HEAD", ERR_METHOD_NOT_ALLOWED},
    {"GET", "/health/", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "//health", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/./health", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/healthy", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/heal", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/Health", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/", NULL, NULL, ERR_NOT_FOUND},
    {"OPTIONS", "/nowhere", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/problems/not-found", "/problems/{code}", "not-found", ERR_NONE},
    {"POST", "/api/exports/request", "/api/exports/request", NULL, ERR_NONE},
    {"GET", "/api/exports/request", NULL, "POST", ERR_METHOD_NOT_ALLOWED},
    {"PUT", "/api/exports/request", NULL, "POST", ERR_METHOD_NOT_ALLOWED},
    {"POST", "/api/exports/request/", NULL, NULL, ERR_NOT_FOUND},
    {"POST", "/api//exports/request", NULL, NULL, ERR_NOT_FOUND},
    {"POST", "/api/x/../exports/request", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports/8f14/status", "/api/exports/{task_id}/status", "8f14", ERR_NONE},
    {"GET", "/api/exports/a%2Fb/status", "/api/exports/{task_id}/status", "a/b", ERR_NONE},
    {"GET", "/api/exports/a%20b/status?wait=1", "/api/exports/{task_id}/status", "a b", ERR_NONE},
    {"GET", "/api/exports/%2561/status", "/api/exports/{task_id}/status", "%61", ERR_NONE},
    {"GET", "/api/exports/../status", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports/%2e%2E/status", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports/a%zz/status", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports//status", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports/8f14", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports", NULL, NULL, ERR_NOT_FOUND},
    {"POST", "/api/exports/8f14/status", NULL, "GET, HEAD", ERR_METHOD_NOT_ALLOWED},
    {"POST", "/api/exports/8f14/cancel", "/api/exports/{task_id}/cancel", "8f14", ERR_NONE},
    {"GET", "/api/exports/8f14/cancel", NULL, "POST", ERR_METHOD_NOT_ALLOWED},
    /* A literal wins over a name. */
    {"GET", "/api/exports/user/status", "/api/exports/user/{user_id}", "status", ERR_NONE},
    {"POST", "/api/exports/user/cancel", NULL, "GET, HEAD", ERR_METHOD_NOT_ALLOWED},
    {"GET", "/api/exports/user/", NULL, NULL, ERR_NOT_FOUND},
    /* A key is all that is left, as it is: what is wrong with it is said of it. */
    {"DELETE", "/api/exports/" FILE_KEY, "/api/exports/{s3_key*}", FILE_KEY, ERR_NONE},
    {"DELETE", "/api/exports/exports%2Fuser_1%2Fa.csv", "/api/exports/{s3_key*}",
        "exports/user_1/a.csv", ERR_NONE},
    {"DELETE", "/api/exports/exports/../x/", "/api/exports/{s3_key*}", "exports/../x/", ERR_NONE},
    {"DELETE", "/api/exports/exports/u/%252e", "/api/exports/{s3_key*}", "exports/u/%2e", ERR_NONE},
    {"DELETE", "/api/exports//x", "/api/exports/{s3_key*}", "/x", ERR_NONE},
    {"DELETE", "/api/exports/8f14", "/api/exports/{s3_key*}", "8f14", ERR_NONE},
    {"DELETE", "/api/exports/exports/status", "/api/exports/{s3_key*}", "exports/status", ERR_NONE},
    {"DELETE", "/api/exports/8f14/status", "/api/exports/{s3_key*}", "8f14/status", ERR_NONE},
    {"DELETE", "/api/exports/user/a", "/api/exports/{s3_key*}", "user/a", ERR_NONE},
    {"DELETE", "/api/exports/", NULL, NULL, ERR_NOT_FOUND},
    {"GET", "/api/exports/" FILE_KEY, NULL, "DELETE", ERR_METHOD_NOT_ALLOWED},
    {"PATCH", "/api/exports/other/a.csv", NULL, NULL, ERR_NOT_FOUND},
    {"HEAD", "/files/" FILE_KEY "?expires=1", "/files/{s3_key*}", FILE_KEY, ERR_NONE},
    {"PUT", "/files/" FILE_KEY, NULL, "GET, HEAD", ERR_METHOD_NOT_ALLOWED},
};

static void
test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const Case *c = &cases[i];
        Arena *arena = arena_new(1 << 16);
        char allow[64] = "";
        const char *name = NULL;
        Err e = {0};
        const Route *route = route_find(c->method, c->target, arena, &name, allow, &e);

        if (e.code != c->code || (route != NULL) != (c->path != NULL) ||
            (route && strcmp(route->path, c->path) != 0))
            fail_msg("%s %s: %s, %s", c->method, c->target, route ? route->path : "none",
                err_name(e.code));
        if (c->code == ERR_METHOD_NOT_ALLOWED)
            name = allow;
        if (c->code != ERR_NOT_FOUND && (!name != !c->name || (name && strcmp(name, c->name) != 0)))
            fail_msg("%s %s: \"%s\"", c->method, c->target, name);
        arena_free(arena);
    }
}

/* Forgetting a column must not let anybody in, and no two lines may stand for the same. */
static void
test_every_line_is_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        assert_int_not_equal(routes[i].scope, SCOPE_NOBODY);
        assert_non_null(routes[i].handle);
        assert_non_null(routes[i].meaning);
        for (size_t k = 0; k < i; k++)
            assert_false(strcmp(routes[i].path, routes[k].path) == 0 &&
                         strcmp(routes[i].method, routes[k].method) == 0);
        if (strcmp(routes[i].method, "GET") != 0)
            assert_int_not_equal(routes[i].scope, SCOPE_NONE);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_line_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
