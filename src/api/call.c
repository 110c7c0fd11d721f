/* The way of a request: its route, what is checked before a handler (security.md 3.2), the handler
 * on the loop or on an asker's thread, waiting, and the answer. */
#include <string.h>

#include "api/api_in.h"
#include "api/problem.h"
#include "api/query.h"
#include "base/json.h"
#include "base/text.h"
#include "base/time.h"

enum { ANSWER_BYTES_MAX = 8 << 20, BODY_DEPTH_MAX = 32, ACCEPT_BYTES_MAX = 4096 };

void
setup_release(Setup *setup)
{
    if (--setup->users > 0)
        return;
    types_free(setup->types);
    arena_free(setup->arena);
}

static void
call_end(Call *call, bool ok, const Err *e)
{
    Request *req = call->req;

    if (!ok)
        problem_answer(req, e, &call->problems);
    json_decref(call->body);
    setup_release(call->setup);
    server_answer(req);
}

static void
call_run(Call *call, RouteHandler *step)
{
    Err e = {0};
    bool ok;

    call->hands = &call->api->hands;
    call->pending = false;
    ok = step(call, &e);
    if (!call->pending)
        call_end(call, ok, &e);
}

static void
call_resume(Request *req, Resume why)
{
    Call *call = req->own;

    call->why = why;
    call_run(call, call->next);
}

static void
call_look_again(Request *req, Resume why)
{
    ((Call *)req->own)->api->waiting--;
    call_resume(req, why);
}

bool
call_may_wait(const Call *call, int64_t until_ms)
{
    return (call->why == RESUME_POSTED || call->why == RESUME_WOKEN) && time_now_ms() < until_ms &&
           !server_is_stopping(call->api->server);
}

bool
call_wait(Call *call, int64_t until_ms, RouteHandler *next)
{
    call->next = next;
    call->pending = true;
    call->api->waiting++;
    server_wait(call->req, until_ms, call_look_again);
    return true;
}

static void
call_written(WriterJob *job)
{
    server_post(((Call *)job->with)->req, call_resume);
}

bool
call_write(Call *call, RouteHandler *next, Err *e)
{
    call->next = next;
    call->write.arena = call->req->arena;
    call->write.with = call;
    call->write.done = call_written;
    if (!writer_add(call->api->writer, &call->write, e))
        return false;
    call->pending = true;
    return true;
}

/* Back on the loop from an asker, whose handler may have named a next step. */
static void
call_asked(Request *req, Resume why)
{
    Call *call = req->own;

    call->why = why;
    if (call->ok && call->next)
        call_run(call, call->next);
    else
        call_end(call, call->ok, &call->e);
}

static void
call_ask(AskerJob *job, Hands *hands)
{
    Call *call = job->with;

    call->hands = hands;
    call->ok = call->route->handle(call, &call->e);
    server_post(call->req, call_asked);
}

bool
call_answer_json(Call *call, int status, json_t *body, Err *e)
{
    Response *answer = &call->req->answer;
    bool ok;

    buf_free(&answer->body);
    answer->body = buf_new(ANSWER_BYTES_MAX);
    ok = body ? json_write(body, &answer->body, e) : fail(e, INTERNAL, "no memory for an answer");
    json_decref(body);
    if (!ok)
        return false;
    answer->status = status;
    response_header(answer, "Cache-Control", "no-store");
    return true;
}

/* --- what is checked before a handler --- */

/* Is this the origin of the pages that we serve: the public URL's, or the Host that was asked? */
static bool
is_our_origin(const Request *req, const char *origin)
{
    const char *host = server_header(req, "host"), *authority = strstr(origin, "://");
    size_t bytes = strlen(origin);

    if (!authority || !(text_starts(origin, "http://") || text_starts(origin, "https://")))
        return false;
    if (host && text_same_case_blind(authority + 3, host))
        return true;
    return req->has_public_url && strncmp(req->base_url, origin, bytes) == 0 &&
           (req->base_url[bytes] == '\0' || req->base_url[bytes] == '/');
}

/* Without cookies what a browser brings along is the address it has; another site's page must not
 * use that (security.md 3.6). */
static bool
check_site(const Request *req, Err *e)
{
    const char *origin = server_header(req, "origin"), *site = server_header(req, "sec-fetch-site");

    if (strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0)
        return true;
    if (server_headers(req, "origin") > 1 || (origin && !is_our_origin(req, origin)))
        return fail(e, CSRF, "the Origin is not this service");
    if (server_headers(req, "sec-fetch-site") > 1 ||
        (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0))
        return fail(e, CSRF, "the page that asks is not of this service");
    return true;
}

/* All headers of one name as one list (RFC 9110, 5.3). False: there are none. */
static bool
join_headers(const Request *req, const char *name, Buf *to)
{
    size_t found = 0;

    for (size_t i = 0; i < req->headers; i++)
        if (strcmp(req->header[i].name, name) == 0)
            buf_printf(to, "%s%s", found++ ? "," : "", req->header[i].value);
    return found > 0;
}

static bool
check_accept(const Request *req, Err *e)
{
    Buf accept = buf_new(ACCEPT_BYTES_MAX);
    bool takes = !join_headers(req, "accept", &accept) || accept_takes_json(accept.data);

    takes |= accept.failed; /* longer than any honest list: JSON is in it */
    buf_free(&accept);
    return takes || fail(e, NOT_ACCEPTABLE, "only application/json is there");
}

/* Each known name at most once; unknown ones only count with handling=strict. */
static bool
check_query(Call *call, Err *e)
{
    const Request *req = call->req;
    const char *value;

    for (const char *const *name = call->route->query; name && *name; name++)
        if (!query_value(req->query, *name, req->arena, &value, e))
            return false;
    if (call->prefer.strict)
        query_check_names(req->query, call->route->query, &call->problems);
    return call->problems.count == 0 ||
           fail(e, UNKNOWN_MEMBER, "the query has a name that is not known here");
}

static bool
read_body(Call *call, Err *e)
{
    const Request *req = call->req;
    const char *type = server_header(req, "content-type");

    if (call->route->body == BODY_IGNORED ||
        (call->route->body == BODY_OPTIONAL && req->body_bytes == 0))
        return true;
    if (req->body_bytes > 0 &&
        (!type || server_headers(req, "content-type") > 1 || !media_is_json(type)))
        return fail(e, UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json");
    if (server_header(req, "content-encoding"))
        return fail(e, UNSUPPORTED_MEDIA_TYPE, "a Content-Encoding is not taken");
    if (!(call->body = json_parse(req->body, req->body_bytes, BODY_DEPTH_MAX, e))) {
        /* JSON it is, but with a text or number that nothing here can hold. */
        if (e->code == ERR_VALIDATION_FAILED)
            problem_add(&call->problems, "", "not-valid", NULL, "%s", err_root(e));
        return false;
    }
    if (!call->route->takes || shape_check(call->route->takes, call->body, "",
                                   SHAPE_UNKNOWN_REFUSED, &call->problems, NULL))
        return true;
    return fail(e, VALIDATION_FAILED, "%zu member%s not valid", call->problems.count,
        call->problems.count == 1 ? " is" : "s are");
}

static bool
find_route(Call *call, Err *e)
{
    Request *req = call->req;
    char allow[64] = "";

    if (server_is_stopping(call->api->server)) {
        fail(e, SHUTTING_DOWN, "the service is shutting down");
        return false;
    }
    call->route = route_find(req->method, req->target, req->arena, &call->name, allow, e);
    if (!call->route) {
        if (*allow)
            response_header(&req->answer, "Allow", "%s", allow);
        return false;
    }
    req->route = call->route->path;
    return true;
}

static bool
check(Call *call, Err *e)
{
    const Request *req = call->req;
    bool is_api;

    if (!find_route(call, e))
        return false;
    is_api = text_starts(call->route->path, "/api/");
    if (call->route->scope == SCOPE_NOBODY ||
        (call->route->scope & ~(unsigned)SCOPES_ANONYMOUS) != 0)
        return fail(e, FORBIDDEN, "nobody may %s %s", call->route->method, call->route->path);
    for (size_t i = 0; i < req->headers; i++)
        if (strcmp(req->header[i].name, "prefer") == 0)
            prefer_read(req->header[i].value, &call->prefer);
    return check_site(req, e) && (!is_api || check_accept(req, e)) && check_query(call, e) &&
           read_body(call, e);
}

void
call_handle(Request *req, void *with)
{
    Api *api = with;
    Err e = {0};
    Call *call = arena_alloc(req->arena, sizeof *call, &e);

    if (!call) {
        problem_answer(req, &e, NULL);
        server_answer(req);
        return;
    }
    *call = (Call){.api = api, .setup = api->setup, .req = req, .hands = &api->hands};
    call->problems.arena = req->arena;
    call->setup->users++;
    req->own = call;
    if (!check(call, &e)) {
        call_end(call, false, &e);
    } else if (!call->route->waits) {
        call_run(call, call->route->handle);
    } else {
        call->ask = (AskerJob){.run = call_ask, .with = call};
        if (!askers_add(api->askers, &call->ask, &e))
            call_end(call, false, &e);
    }
}
