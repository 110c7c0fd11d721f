#include "api/problem.h"

#include <string.h>

#include "base/log.h"
#include "base/text.h"

enum { BODY_BYTES_MAX = 64 << 10 };

/* What a code brings along. */
static const struct {
    ErrCode code;
    int retry_after_s; /* 0: no header */
    const char *name, *value;
    bool closes;
} extras[] = {
    {.code = ERR_UNAUTHENTICATED, .name = "WWW-Authenticate", .value = "Bearer"},
    {.code = ERR_REQUEST_TIMEOUT, .closes = true},
    {.code = ERR_IDEMPOTENCY_IN_FLIGHT, .retry_after_s = 1},
    {.code = ERR_NOT_READY, .retry_after_s = 1},
    {.code = ERR_BODY_TOO_LARGE, .closes = true},
    {.code = ERR_URI_TOO_LONG, .closes = true},
    {.code = ERR_UNSUPPORTED_MEDIA_TYPE, .name = "Accept-Post", .value = "application/json"},
    {.code = ERR_EXPECTATION_FAILED, .closes = true},
    {.code = ERR_QUOTA_EXCEEDED, .retry_after_s = 1},
    {.code = ERR_HEADERS_TOO_LARGE, .closes = true},
    {.code = ERR_QUEUE_UNAVAILABLE, .retry_after_s = 1},
    {.code = ERR_QUEUE_FULL, .retry_after_s = 5},
    {.code = ERR_STARTING, .retry_after_s = 1},
    {.code = ERR_SHUTTING_DOWN, .retry_after_s = 1, .closes = true},
    {.code = ERR_SOURCE_UNAVAILABLE, .retry_after_s = 5},
    {.code = ERR_STORAGE_UNAVAILABLE, .retry_after_s = 5},
};

/* The code as an answer. Who asks need not know why we have no access; any other code that never is
 * an answer itself is our own mistake here. */
static ErrCode
answer_code(const Err *e)
{
    if (e->code == ERR_STORAGE_DENIED)
        return ERR_STORAGE_UNAVAILABLE;
    return err_http_status(e->code) > 0 ? e->code : ERR_INTERNAL;
}

/* Up to 499 the root tells of the client's own mistake; above it may name what is ours alone. */
static void
put_detail(Buf *to, ErrCode code, const Err *e)
{
    const char *root = err_root(e);

    if (err_http_status(code) >= 500 || !*root)
        root = err_sentence(code);
    text_json_string(to, root, strlen(root), 300);
}

static void
put_member(Buf *to, const char *name, const char *value)
{
    buf_printf(to, ",\"%s\":", name);
    text_json_string(to, value, strlen(value), 0);
}

static void
put_problems(Buf *to, const Problems *problems)
{
    size_t count = problems->count < PROBLEMS_MAX ? problems->count : PROBLEMS_MAX;

    buf_text(to, ",\"errors\":[");
    for (size_t i = 0; i < count; i++) {
        const Problem *p = &problems->problem[i];

        buf_text(to, i ? ",{\"pointer\":" : "{\"pointer\":");
        text_json_string(to, p->pointer, strlen(p->pointer), 0);
        put_member(to, "code", p->code != ERR_NONE ? err_name(p->code) : p->word);
        put_member(to, "detail", p->detail);
        if (p->value)
            buf_printf(to, ",\"value\":%s", p->value);
        if (p->allowed)
            buf_printf(to, ",\"allowed\":%s", p->allowed);
        buf_char(to, '}');
    }
    buf_char(to, ']');
}

static void
put_body(const Request *req, ErrCode code, const Err *e, const Problems *problems, Buf *to)
{
    const char *name = err_name(code), *title = err_sentence(code);

    buf_text(to, "{\"type\":\"");
    if (req->has_public_url && req->base_url)
        buf_text(to, req->base_url);
    buf_printf(to, "/problems/%s\"", name);
    put_member(to, "title", title);
    buf_printf(to, ",\"status\":%d,\"detail\":", err_http_status(code));
    put_detail(to, code, e);
    if (req->target && *req->target) { /* of bytes that are no request nothing is known */
        buf_text(to, ",\"instance\":");
        text_json_string(to, req->target, strcspn(req->target, "?"), 512);
    }
    put_member(to, "code", name);
    if (req->request_id)
        put_member(to, "request_id", req->request_id);
    if (problems && problems->count > 0)
        put_problems(to, problems);
    buf_char(to, '}');
}

/* A 404 or 410 might be kept by a cache, and any may echo what the client sent: no-store. */
static void
put_headers(const Request *req, Response *answer, ErrCode code)
{
    response_header(answer, "Cache-Control", "no-store");
    response_header(answer, "Link", "<%s/problems/%s>; rel=\"describedby\"",
        req->has_public_url && req->base_url ? req->base_url : "", err_name(code));
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        if (extras[i].code != code)
            continue;
        if (extras[i].retry_after_s > 0)
            response_header(answer, "Retry-After", "%d", extras[i].retry_after_s);
        if (extras[i].name)
            response_header(answer, extras[i].name, "%s", extras[i].value);
        answer->close |= extras[i].closes;
    }
}

/* These three tell of a wish, not of something broken. */
static bool
is_passing(ErrCode code)
{
    return code == ERR_SHUTTING_DOWN || code == ERR_STARTING || code == ERR_QUEUE_FULL;
}

static const char *
event_of(const Request *req, ErrCode code)
{
    bool is_link = req->path && text_starts(req->path, "/files/");

    if (is_link && (code == ERR_FORBIDDEN || code == ERR_LINK_EXPIRED))
        return "link.refused";
    if (code == ERR_FORBIDDEN || code == ERR_UNAUTHENTICATED)
        return "auth.refused";
    return err_http_status(code) < 500 || is_passing(code) ? "http.refused" : "http.failed";
}

/* One line. Why a body could not be read stays out: the text around it may be a value. */
static void
log_problem(const Request *req, ErrCode code, const Err *e, const Problems *problems)
{
    bool failed = err_http_status(code) >= 500 && !is_passing(code);
    bool may_hold_values = code == ERR_MALFORMED_JSON || code == ERR_VALIDATION_FAILED;
    char path[257] = "";

    if (req->target && !text_copy(path, sizeof path, req->target))
        path[sizeof path - 1] = '\0';
    path[strcspn(path, "?")] = '\0';
    log_event(failed ? LOG_ERROR : LOG_INFO, event_of(req, code),
        log_text("request_id", req->request_id), log_text("method", req->method),
        log_text("path", req->target ? path : NULL), log_text("route", req->route),
        log_text("peer", req->peer), log_number("status", err_http_status(code)),
        log_text("pointer", problems && problems->count > 0 ? problems->problem[0].pointer : NULL),
        may_hold_values ? log_text("error_code", err_name(code)) : log_err(e));
}

void
problem_answer(Request *req, const Err *e, const Problems *problems)
{
    ErrCode code = answer_code(e);
    Response *answer = &req->answer;
    Buf body = buf_new(BODY_BYTES_MAX);

    put_body(req, code, e, problems, &body);
    if (body.failed) /* without memory the status alone has to do */
        buf_free(&body);
    if (answer->body.data)
        buf_free(&answer->body);
    answer->status = err_http_status(code);
    answer->content_type = "application/problem+json";
    answer->body = body;
    put_headers(req, answer, code);
    log_problem(req, code, e, problems);
}

bool
problem_page(const char *code, Buf *to)
{
    ErrCode known = err_code_of(code);
    int status = err_http_status(known);

    if (known == ERR_NONE)
        return false;
    buf_printf(to,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>%s</title>\n"
        "<h1>%s</h1>\n<p><code>%s</code>",
        err_sentence(known), err_sentence(known), err_name(known));
    if (status > 0)
        buf_printf(to, ", HTTP status %d", status);
    buf_printf(to, "</p>\n<p>%s</p>\n</html>\n",
        err_retry(known) == ERR_RETRY_NEVER ? "The same request will end the same way again."
        : err_retry(known) == ERR_RETRY_ONCE
            ? "It is tried once more by itself; then it will end the same way again."
            : "It may work later: the same request may be sent again.");
    return true;
}
