/* Any target: the route it leads to, and the values its query has. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/query.h"
#include "api/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const methods[] = {"GET", "HEAD", "POST", "DELETE", "OPTIONS"};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(4 << 20);
    Err e = {0};
    char *target = arena_bytes(arena, data, bytes < 8192 ? bytes : 8192, &e);
    const char *query, *value;
    Problems problems = {.arena = arena};
    int64_t number;

    if (!target)
        abort();
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char allow[64] = "";
        const char *name;
        const Route *route = route_find(methods[i], target, arena, &name, allow, &e);

        if (!route && e.code != ERR_NOT_FOUND && e.code != ERR_METHOD_NOT_ALLOWED)
            abort();
        if ((e.code == ERR_METHOD_NOT_ALLOWED) != (allow[0] != '\0'))
            abort();
        err_clear(&e);
    }
    query = strchr(target, '?') ? strchr(target, '?') + 1 : NULL;
    if (!query_value(query, "name", arena, &value, &e) && e.code != ERR_INVALID_REQUEST)
        abort();
    err_clear(&e);
    if (query_whole(query, "limit", 1, 1000, 10, &number, &problems, &e) &&
        (number < 1 || number > 1000 || (problems.count > 0 && number != 10)))
        abort();
    query_check_names(query, NULL, &problems);
    arena_free(arena);
    return 0;
}
