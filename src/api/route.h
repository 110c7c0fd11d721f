/*
 * Route: every path that is answered, once (route.c). The router, the checks before a handler, the
 * answers 404 and 405 and the documents are made from this table.
 */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/shape.h"

/* What a caller must be allowed. Zero lets nobody in, so that forgetting the column is safe. */
typedef enum {
    SCOPE_NOBODY = 0,
    SCOPE_NONE = 1, /* nothing needed */
    SCOPE_CREATE = 2,
    SCOPE_READ = 4,
    SCOPE_DELETE = 8,
    /* Without authentication everybody holds these (security.md 3.1). */
    SCOPES_ANONYMOUS = SCOPE_NONE | SCOPE_CREATE | SCOPE_READ | SCOPE_DELETE,
} Scope;

typedef enum {
    BODY_IGNORED,
    BODY_JSON,     /* needed */
    BODY_OPTIONAL, /* JSON, or nothing */
} RouteBody;

typedef struct Call Call;

/* Fills call->req->answer, or arranges that somebody will (api_in.h); or fills `e`. */
typedef bool RouteHandler(Call *call, Err *e);

typedef struct {
    const char *method; /* "GET" answers HEAD too */
    const char *path;   /* "/a/{name}/b"; "/a/{name*}": all that is left, slashes too */
    RouteHandler *handle;
    unsigned scope; /* Scope */
    RouteBody body;
    bool waits;               /* for a store: an asker runs the handler */
    const Shape *takes;       /* of the body; NULL: the handler checks it */
    const char *const *query; /* names that it knows, NULL-ended; NULL: none */
    const char *meaning;
} Route;

extern const Route routes[];
extern const size_t routes_count;

/* `path` as it came, without query; each segment is decoded once. *name: what stands for the
 * pattern's {…}, in `arena`; NULL if it has none. */
bool route_path_fits(const char *pattern, const char *path, Arena *arena, const char **name);

/*
 * The route for method and target. NOT_FOUND: no such path; a path that is none: "//", "." or ".."
 * in it, a slash at its end. METHOD_NOT_ALLOWED: `allow` has the methods that the path takes.
 */
const Route *route_find(const char *method, const char *target, Arena *arena, const char **name,
    char allow[64], Err *e) MUST_CHECK;

#endif
