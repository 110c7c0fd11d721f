#include "api/route.h"

#include <stdio.h>
#include <string.h>

#include "api/api_in.h"
#include "base/text.h"

static const Shape cancel_members[] = {
    {"reason", SHAPE_TEXT, .max = 200, .meaning = "Why; kept with the export."},
    {0},
};

static const char *const status_query[] = {"wait", NULL};
static const char *const list_query[] = {"limit", "cursor", NULL};
static const char *const file_query[] = {"expires", "name", "signature", NULL};

/* Of two patterns that fit a path the earlier one has it. */
/* clang-format off */
const Route routes[] = {
    {"GET",    "/health",                       health_show,    SCOPE_NONE,   .meaning = "Tell whether the service is up."},
    {"GET",    "/livez",                        health_show,    SCOPE_NONE,   .meaning = "Tell whether the process is alive."},
    {"GET",    "/readyz",                       health_ready,   SCOPE_NONE,   .meaning = "Tell whether queue and storage can be used, and what workers know of the sources."},
    {"GET",    "/metrics",                      metrics_show,   SCOPE_NONE,   .meaning = "Metrics in the Prometheus text format."},
    {"GET",    "/problems/{code}",              problem_show,   SCOPE_NONE,   .meaning = "Explain the code of a problem."},
    {"POST",   "/api/exports/request",          export_request, SCOPE_CREATE, BODY_JSON,     .meaning = "Ask for an export."},
    {"GET",    "/api/exports/user/{user_id}",   export_list,    SCOPE_READ,   .waits = true, .query = list_query,
        .meaning = "List a user's files, newest first."},
    {"GET",    "/api/exports/{task_id}/status", export_status,  SCOPE_READ,   .query = status_query,
        .meaning = "Tell how an export is doing."},
    {"POST",   "/api/exports/{task_id}/cancel", export_cancel,  SCOPE_CREATE, BODY_OPTIONAL, .takes = cancel_members,
        .meaning = "Stop an export."},
    {"DELETE", "/api/exports/{s3_key*}",        export_delete,  SCOPE_DELETE, .waits = true, .meaning = "Delete a file."},
    {"GET",    "/files/{s3_key*}",              file_show,      SCOPE_NONE,   .waits = true, .query = file_query,
        .meaning = "Send the file that a signed link names."},
};
/* clang-format on */
const size_t routes_count = sizeof routes / sizeof routes[0];

/* Decodes a segment; NULL: it cannot be, or holds a NUL. */
static char *
decode(const char *from, size_t bytes, Arena *arena)
{
    Err ignored = {0};
    char *to = arena_alloc(arena, bytes + 1, &ignored);
    size_t decoded;

    if (!to || !text_percent_decode(from, bytes, to, bytes, &decoded) || memchr(to, '\0', decoded))
        return NULL;
    to[decoded] = '\0';
    return to;
}

static bool
is_dots(const char *segment)
{
    return strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0;
}

bool
route_path_fits(const char *pattern, const char *path, Arena *arena, const char **name)
{
    *name = NULL;
    while (*pattern == '/') {
        size_t want_bytes = strcspn(++pattern, "/"), bytes;
        bool is_name = *pattern == '{', takes_all = is_name && pattern[want_bytes - 2] == '*';
        char *segment;

        if (*path++ != '/')
            return false;
        bytes = takes_all ? strlen(path) : strcspn(path, "/");
        if (bytes == 0)
            return false;
        /* Most segments are plain; those that are compared need no copy. */
        if (!is_name && !memchr(path, '%', bytes)) {
            if (bytes != want_bytes || memcmp(path, pattern, bytes) != 0)
                return false;
        } else {
            if (!(segment = decode(path, bytes, arena)))
                return false;
            if (!is_name &&
                (strlen(segment) != want_bytes || memcmp(segment, pattern, want_bytes) != 0))
                return false;
            if (is_name && !takes_all && is_dots(segment))
                return false;
            if (is_name)
                *name = segment;
        }
        pattern += want_bytes;
        path += bytes;
    }
    return *path == '\0';
}

static bool
takes_method(const Route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* Everything below /api/exports/ would be a key to delete; to other methods only what looks like
 * one is known. */
static bool
is_known_to_others(const Route *route, const char *name)
{
    return !strstr(route->path, "*}") || strcmp(route->method, "GET") == 0 ||
           text_starts(name, "exports/");
}

static void
list_methods(const Route *like, char allow[64])
{
    allow[0] = '\0';
    for (const Route *r = routes; r < routes + routes_count; r++)
        if (strcmp(r->path, like->path) == 0)
            snprintf(allow + strlen(allow), 64 - strlen(allow), "%s%s", *allow ? ", " : "",
                strcmp(r->method, "GET") == 0 ? "GET, HEAD" : r->method);
}

const Route *
route_find(
    const char *method, const char *target, Arena *arena, const char **name, char allow[64], Err *e)
{
    size_t bytes = strcspn(target, "?");
    const char *path = arena_bytes(arena, target, bytes, e);
    const Route *first = NULL;

    if (!path)
        return NULL;
    for (const Route *r = routes; r < routes + routes_count; r++) {
        if (!route_path_fits(r->path, path, arena, name))
            continue;
        /* A pattern that takes all that is left has it wherever its own method asks. */
        if (takes_method(r, method) &&
            (!first || strcmp(first->path, r->path) == 0 || strstr(r->path, "*}")))
            return r;
        if (!first && is_known_to_others(r, *name))
            first = r;
    }
    if (!first) {
        fail(e, NOT_FOUND, "no such path: %.200s", path);
        return NULL;
    }
    list_methods(first, allow);
    fail(e, METHOD_NOT_ALLOWED, "%s takes %s", first->path, allow);
    return NULL;
}
