/*
 * Any text as a definition: refused with CONFIG_INVALID that names the file, or a type whose
 * queries know only its parameters, whose table is a name and nothing else, and that is the same in
 * a child.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "export/type.h"
#include "test/unit/export/bench.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
must_be_declared(const char *name, size_t count, size_t at, void *with)
{
    const ExportType *type = with;

    (void)at;
    for (size_t i = 0; i < type->params; i++)
        if (strlen(type->param[i].name) == count && memcmp(type->param[i].name, name, count) == 0)
            return;
    abort();
}

/* The driver puts the table between double quotes, and nothing may end them. */
static void
check_parallel(const ExportType *type)
{
    const SourceParallel *parallel = &type->parallel;
    bool is_column = !parallel->column;

    if (parallel->connections == 0)
        return;
    for (size_t i = 0; i < type->columns; i++)
        is_column |= !is_column && strcmp(type->column[i].name, parallel->column) == 0;
    if (!is_column || parallel->connections > 16 || !*parallel->table ||
        strlen(parallel->table) > 127 || strpbrk(parallel->table, "\"'\\ ;$") ||
        !type_query(type, "postgres"))
        abort();
}

static void
check_type(const ExportType *type, Arena *arena)
{
    json_t *described;
    const ExportType *child;
    Err e = {0};

    check_parallel(type);
    if (!type->columns || !type->queries || !(described = type_describe(type, &bench_kinds)))
        abort();
    json_decref(described);
    if (!(child = type_from_json(type->json, arena, &e)) ||
        strcmp(child->version, type->version) != 0 || child->params != type->params ||
        child->parallel.connections != type->parallel.connections)
        abort();
    for (size_t i = 0; i < type->queries; i++) {
        bool cypher = type->query[i].driver && strcmp(type->query[i].driver, "neo4j") == 0;

        query_names(type->query[i].text, cypher ? QUERY_CYPHER : QUERY_SQL, must_be_declared,
            (void *)(uintptr_t)type);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const ConfigSource sources[] = {{.name = "graph", .url = "sqlite:/nowhere"},
        {.name = "timescale", .url = "sqlite:/nowhere"}};
    static int fd = -1;
    static char path[64];
    const char *const paths[] = {path, NULL};
    const Config config = {.types = {paths, 1}, .source = sources, .sources = 2};
    Arena *arena = arena_new(64 << 20);
    const TypeSet *set;
    char chain[8192];
    Err e = {0};

    if (fd < 0) {
        fd = memfd_create("definition", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || fchmod(fd, 0600) != 0 || ftruncate(fd, 0) != 0 ||
        pwrite(fd, data, bytes, 0) != (ssize_t)bytes)
        abort();
    if ((set = types_load(&config, &bench_kinds, arena, &e))) {
        for (size_t i = 0; i < set->types; i++)
            check_type(&set->type[i], arena);
    } else if (e.code != ERR_CONFIG_INVALID || !strstr(err_chain(&e, chain, sizeof chain), path)) {
        abort();
    }
    types_free(set);
    arena_free(arena);
    return 0;
}
