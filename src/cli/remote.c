#include "cli/remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/json.h"
#include "base/text.h"
#include "base/time.h"
#include "base/version.h"
#include "cli/interrupt.h"
#include "net/url.h"

enum {
    ANSWER_BYTES_MAX = 8 << 20, /* security.md 2 */
    ANSWER_DEPTH_MAX = 64,
    CALL_MS = 30000, /* of the server's own work, besides what it may hold the answer */
    CONNECT_MS = 10000,
    FIRST_PAUSE_MS = 200,
    PAUSE_MS_MAX = 5000,
    TOKEN_BYTES_MAX = 8192,
    RETRY_AFTER_S_MAX = 3600,
};

/* What a refusal without a code of ours comes to: by the class of its status. */
static const struct {
    int status;
    ErrCode code;
} by_status[] = {
    {401, ERR_UNAUTHENTICATED},
    {403, ERR_FORBIDDEN},
    {404, ERR_NOT_FOUND},
    {410, ERR_FILE_GONE},
    {400, ERR_INVALID_REQUEST},
    {413, ERR_BODY_TOO_LARGE},
    {414, ERR_URI_TOO_LONG},
    {415, ERR_UNSUPPORTED_MEDIA_TYPE},
    {422, ERR_VALIDATION_FAILED},
    {429, ERR_QUOTA_EXCEEDED},
    {431, ERR_HEADERS_TOO_LARGE},
    {502, ERR_SERVER_UNREACHABLE},
    {503, ERR_QUEUE_UNAVAILABLE},
    {504, ERR_SERVER_UNREACHABLE},
};

static bool
read_token(Cli *c, const char *path, const char **token, Err *e)
{
    struct stat about;
    Buf text;
    bool ok;

    if (strcmp(path, "-") != 0 && stat(path, &about) == 0 && S_ISREG(about.st_mode) &&
        about.st_mode & 077)
        cli_note(c, "warning: others can read the token in %s; chmod 600 it", path);
    ok = cli_read_file(path, TOKEN_BYTES_MAX, &text, e);
    if (ok) {
        text.data[strcspn(text.data, "\r\n")] = '\0';
        ok = (*token = arena_text(c->arena, text.data, e)) != NULL;
    }
    if (text.bytes > 0)
        explicit_bzero(text.data, text.bytes);
    buf_free(&text);
    return ok;
}

/* RFC 6750 2.1: visible ASCII, or it would end the header. */
static bool
is_token(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++)
        if (*text < '!' || *text > '~')
            return false;
    return true;
}

static bool
check_url(Cli *c, Err *e)
{
    Err why = {0};
    Url url;

    if (url_parse(c->url, c->arena, &url, &why) && *url.host && !url.query &&
        (strcmp(url.scheme, "http") == 0 || strcmp(url.scheme, "https") == 0))
        return true;
    return fail(e, USAGE, "%s: expected a URL like http://127.0.0.1:8000",
        cli_flag(c, "url") ? "--url" : "ROWFERRY_URL");
}

bool
remote_open(Cli *c, Remote *r, Err *e)
{
    const char *path = cli_flag(c, "token-file"), *token = config_variable("ROWFERRY_TOKEN");

    *r = (Remote){.c = c, .patience_ms = REMOTE_PATIENCE_MS};
    if (!check_url(c, e))
        return false;
    if (path && !read_token(c, path, &token, e))
        return false;
    if (token && !is_token(token))
        return fail(e, USAGE, "the token must be a line of visible ASCII characters");
    if (token && !(r->authorization = arena_printf(c->arena, e, "Authorization: Bearer %s", token)))
        return false;
    return (r->client = http_client_new("rowferry/" ROWFERRY_VERSION, e)) != NULL;
}

void
remote_close(Remote *r)
{
    http_client_free(r->client);
    r->client = NULL;
}

int64_t
remote_left_ms(const Cli *c, int64_t ms)
{
    int64_t left = c->deadline_ms - time_now_ms();

    if (c->deadline_ms == 0 || left > ms)
        return ms;
    return left > 0 ? left : 0;
}

bool
remote_pause(const Cli *c, int64_t ms, Err *e)
{
    int64_t until_ms = time_now_ms() + ms;

    for (;;) {
        int64_t left = until_ms - time_now_ms();

        if (interrupt_came())
            return fail(e, INTERRUPTED, "interrupted");
        if (left <= 0)
            return true;
        left = remote_left_ms(c, left);
        if (left == 0)
            return fail(e, WAITED_TOO_LONG, "--timeout is over");
        nanosleep(&(struct timespec){left / 1000, left % 1000 * 1000000}, NULL);
    }
}

static bool
goes_on(void *with)
{
    (void)with;
    return !interrupt_came();
}

static unsigned
retry_after(const HttpAnswer *http)
{
    char text[16];
    uint64_t seconds;

    return http_header(http, "Retry-After", text, sizeof text) &&
                   text_to_uint(text, RETRY_AFTER_S_MAX, &seconds)
               ? (unsigned)seconds
               : 0;
}

static void
forget_problem(Cli *c)
{
    json_decref(c->problem);
    c->problem = NULL;
}

/* A refusal becomes an Err with the server's code, where we know it, and its own words. */
static bool
fail_refused(Cli *c, const RemoteAnswer *answer, Err *e)
{
    const char *name = json_text_or(answer->body, "code", "");
    const char *detail = json_text_or(answer->body, "detail", NULL);
    ErrCode code = err_code_of(name);

    if (code == ERR_NONE)
        code = answer->status >= 500 ? ERR_INTERNAL : ERR_INVALID_REQUEST;
    if (err_code_of(name) == ERR_NONE)
        for (size_t i = 0; i < sizeof by_status / sizeof by_status[0]; i++)
            if (by_status[i].status == answer->status)
                code = by_status[i].code;
    json_decref(c->problem);
    c->problem = *name ? json_incref(answer->body) : NULL;
    if (!detail)
        return fail_code(e, code, "the server answered %d", answer->status);
    return fail_code(e, code, "%s", detail);
}

static bool
parse_answer(const HttpAnswer *http, RemoteAnswer *answer, Err *e)
{
    Err why = {0};

    answer->status = http->status;
    answer->retry_after_s = retry_after(http);
    answer->body = json_parse(http->body.data, http->body.bytes, ANSWER_DEPTH_MAX, &why);
    if (!json_is_object(answer->body)) {
        json_decref(answer->body);
        answer->body = NULL;
    }
    if (answer->body)
        return true;
    /* A proxy's page is a refusal like others. */
    if (http->status >= 400 && (answer->body = json_object()))
        return true;
    return fail(
        e, INTERNAL, "the answer is not rowferry's: status %d, no JSON object", http->status);
}

bool
remote_refused(Cli *c, const HttpAnswer *http, Err *e)
{
    RemoteAnswer answer;

    if (parse_answer(http, &answer, e)) {
        fail_refused(c, &answer, e);
        json_decref(answer.body);
    }
    return false;
}

/* Once over the wire. */
static bool
exchange(Remote *r, const RemoteCall *call, const char *body, RemoteAnswer *answer, Err *e)
{
    const char *header[5] = {"Accept: application/json"};
    char url[URL_BYTES_MAX], key[300];
    int64_t started_ms = time_now_ms(), timeout_ms = remote_left_ms(r->c, CALL_MS + call->held_ms);
    size_t headers = 1;
    HttpAnswer http;
    bool ok;

    if (timeout_ms == 0)
        return fail(e, WAITED_TOO_LONG, "--timeout is over");
    if ((size_t)snprintf(url, sizeof url, "%s%s", r->c->url, call->path) >= sizeof url)
        return fail(e, USAGE, "the URL is longer than %d bytes", URL_BYTES_MAX);
    if (r->authorization)
        header[headers++] = r->authorization;
    if (body)
        header[headers++] = "Content-Type: application/json";
    if (call->idempotency_key) {
        snprintf(key, sizeof key, "Idempotency-Key: %s", call->idempotency_key);
        header[headers++] = key;
    }
    if (r->c->verbose)
        cli_note(r->c, "> %s %s%s", call->method, r->c->url, call->path);
    ok = http_call(r->client,
        &(HttpCall){.method = call->method,
            .url = url,
            .header = header,
            .body = body,
            .body_bytes = body ? strlen(body) : 0,
            .timeout_ms = timeout_ms,
            .connect_timeout_ms = CONNECT_MS,
            .answer_bytes_max = ANSWER_BYTES_MAX,
            .go_on = goes_on},
        &http, e);
    if (r->c->verbose)
        cli_note(r->c, "< %d %s after %lld ms", ok ? http.status : 0, ok ? "" : err_name(e->code),
            (long long)(time_now_ms() - started_ms));
    if (!ok)
        return false;
    ok = parse_answer(&http, answer, e);
    http_answer_free(&http);
    return ok;
}

/* May the same call go better later? */
static bool
may_improve(const RemoteAnswer *answer, const Err *e)
{
    if (e->code != ERR_NONE)
        return e->code == ERR_SERVER_UNREACHABLE;
    return answer->status == 429 || (answer->status >= 502 && answer->status <= 504) ||
           strcmp(json_text_or(answer->body, "code", ""), err_name(ERR_IDEMPOTENCY_IN_FLIGHT)) == 0;
}

/* A deadline of one call is not --timeout: it says that nobody answers. */
static void
name_the_wait(const Cli *c, Err *e)
{
    if (e->code == ERR_WAITED_TOO_LONG && remote_left_ms(c, 1) > 0) {
        err_clear(e);
        fail(e, SERVER_UNREACHABLE, "%s does not answer", c->url);
    }
}

/* The pause before the n-th repetition: what the server says, else growing and random. */
static int64_t
pause_ms(unsigned nth, unsigned retry_after_s)
{
    int64_t ms = (int64_t)FIRST_PAUSE_MS << (nth < 5 ? nth : 5);

    if (retry_after_s > 0)
        return (int64_t)retry_after_s * 1000;
    ms = ms < PAUSE_MS_MAX ? ms : PAUSE_MS_MAX;
    return ms / 2 + (int64_t)((uint64_t)time_wall_us() % (uint64_t)(ms / 2 + 1));
}

static bool
call_until_answered(
    Remote *r, const RemoteCall *call, const char *body, RemoteAnswer *answer, Err *e)
{
    int64_t until_ms = time_now_ms() + r->patience_ms;

    for (unsigned nth = 0;; nth++) {
        Err stopped = {0};
        int64_t ms;
        bool ok;

        err_clear(e);
        *answer = (RemoteAnswer){0};
        ok = exchange(r, call, body, answer, e);
        name_the_wait(r->c, e);
        if (ok && answer->status < 400)
            return true;
        ms = pause_ms(nth, answer->retry_after_s);
        if (may_improve(answer, e) && time_now_ms() + ms <= until_ms) {
            if (nth == 0 && e->code == ERR_SERVER_UNREACHABLE)
                cli_note(r->c, "%s; trying again", err_root(e));
            json_decref(answer->body);
            answer->body = NULL;
            if (remote_pause(r->c, ms, &stopped))
                continue;
            /* With nobody there, that is what there is to say, not that time is over. */
            if (e->code == ERR_NONE || stopped.code == ERR_INTERRUPTED)
                *e = stopped;
            return false;
        }
        if (ok)
            fail_refused(r->c, answer, e);
        json_decref(answer->body);
        answer->body = NULL;
        return false;
    }
}

bool
remote_call(Remote *r, const RemoteCall *call, RemoteAnswer *answer, Err *e)
{
    Buf body = buf_new(ANSWER_BYTES_MAX);
    bool ok = !call->body || json_write(call->body, &body, e);

    forget_problem(r->c);
    ok = ok && call_until_answered(r, call, call->body ? body.data : NULL, answer, e);
    buf_free(&body);
    return ok;
}

int
remote_each(Cli *c, RemoteAct *act, RemoteShow *show, Err *e)
{
    json_t *rows = json_array();
    Remote r = {0};
    int status = 0;

    if (rows && remote_open(c, &r, e))
        for (int i = 0; i < c->words && e->code == ERR_NONE; i++) {
            Err why = {0};

            forget_problem(c); /* of the word before */
            if (act(&r, c->word[i], rows, &why))
                continue;
            status = status ? status : err_exit_status(why.code);
            if (c->words == 1)
                *e = why;
            else
                cli_say_error(c, &why);
        }
    if (json_array_size(rows) > 0 && !show(c, rows, e))
        status = err_exit_status(e->code);
    json_decref(rows);
    remote_close(&r);
    return e->code == ERR_NONE ? status : err_exit_status(e->code);
}
