/* RFC 9110 (fields), RFC 9112 (status line). */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "api/http_in.h"
#include "base/text.h"
#include "base/time.h"

enum {
    HEADERS_BYTES_MAX = 16 << 10,
    BODY_BYTES_MAX = 8 << 20,
    KEEP_BYTES_MAX = 64 << 10 /* a larger buffer is not kept for the next answer */
};

static const struct {
    int status;
    const char *line;
} status_lines[] = {
    {200, "200 OK"},
    {201, "201 Created"},
    {202, "202 Accepted"},
    {204, "204 No Content"},
    {206, "206 Partial Content"},
    {302, "302 Found"},
    {303, "303 See Other"},
    {304, "304 Not Modified"},
    {307, "307 Temporary Redirect"},
    {308, "308 Permanent Redirect"},
    {400, "400 Bad Request"},
    {401, "401 Unauthorized"},
    {403, "403 Forbidden"},
    {404, "404 Not Found"},
    {405, "405 Method Not Allowed"},
    {406, "406 Not Acceptable"},
    {408, "408 Request Timeout"},
    {409, "409 Conflict"},
    {410, "410 Gone"},
    {412, "412 Precondition Failed"},
    {413, "413 Content Too Large"},
    {414, "414 URI Too Long"},
    {415, "415 Unsupported Media Type"},
    {416, "416 Range Not Satisfiable"},
    {417, "417 Expectation Failed"},
    {422, "422 Unprocessable Content"},
    {428, "428 Precondition Required"},
    {429, "429 Too Many Requests"},
    {431, "431 Request Header Fields Too Large"},
    {500, "500 Internal Server Error"},
    {501, "501 Not Implemented"},
    {503, "503 Service Unavailable"},
    {504, "504 Gateway Timeout"},
    {507, "507 Insufficient Storage"},
};

/* What a response's own headers may not name. */
static const char *const ours[] = {"Content-Length", "Connection", "Date", "Transfer-Encoding",
    "X-Request-Id", "X-Content-Type-Options", "Referrer-Policy", "Content-Type",
    "Strict-Transport-Security"};

void
response_begin(Response *r)
{
    Buf headers = r->headers, body = r->body;

    *r = (Response){.headers = headers, .body = body, .fd = -1};
    r->headers.limit_bytes = HEADERS_BYTES_MAX;
    r->body.limit_bytes = BODY_BYTES_MAX;
}

void
response_end(Response *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    buf_reset(&r->headers, KEEP_BYTES_MAX);
    buf_reset(&r->body, KEEP_BYTES_MAX);
}

void
response_header(Response *r, const char *name, const char *fmt, ...)
{
    size_t start = r->headers.bytes;
    va_list args;
    char *to;
    int bytes;

    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert(!text_same_case_blind(name, ours[i]));
    va_start(args, fmt);
    bytes = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    buf_text(&r->headers, name);
    buf_text(&r->headers, ": ");
    if (bytes < 0 || !(to = buf_reserve(&r->headers, (size_t)bytes))) {
        r->headers.failed = true;
        return;
    }
    va_start(args, fmt);
    vsnprintf(to, (size_t)bytes + 1, fmt, args);
    va_end(args);
    buf_wrote(&r->headers, (size_t)bytes);
    assert(!text_has_control(r->headers.data + start, r->headers.bytes - start, false));
    buf_text(&r->headers, "\r\n");
}

/* 1xx, 204 and 304 have none (RFC 9110 6.4.1). */
bool
response_has_body(const Response *r)
{
    return r->status != 204 && r->status != 304;
}

int64_t
response_bytes(const Response *r)
{
    return r->fd >= 0 ? r->count : (int64_t)r->body.bytes;
}

static const char *
status_line(int status, char to[16])
{
    for (size_t i = 0; i < sizeof status_lines / sizeof status_lines[0]; i++)
        if (status_lines[i].status == status)
            return status_lines[i].line;
    snprintf(to, 16, "%d Status", status);
    return to;
}

/* Written once a second. */
static const char *
date_line(Server *s)
{
    int64_t now_us = time_wall_us();

    if (now_us / 1000000 != s->date_second) {
        s->date_second = now_us / 1000000;
        time_http(now_us, s->date);
    }
    return s->date;
}

static void
put_field(Buf *to, const char *name, const char *value)
{
    buf_text(to, name);
    buf_text(to, value);
    buf_put(to, "\r\n", 2);
}

void
response_write_head(Exchange *x, bool keep_alive)
{
    const Response *r = &x->req.answer;
    char text[24];
    Buf *to = &x->head;

    buf_clear(to);
    put_field(to, "HTTP/1.1 ", status_line(r->status, text));
    put_field(to, "Date: ", date_line(x->req.server));
    if (response_has_body(r)) {
        if (response_bytes(r) > 0 || r->content_type)
            put_field(to, "Content-Type: ", r->content_type ? r->content_type : "application/json");
        snprintf(text, sizeof text, "%lld", (long long)response_bytes(r));
        put_field(to, "Content-Length: ", text);
    }
    put_field(to, "X-Request-Id: ", x->req.request_id);
    buf_text(to, "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n");
    /* RFC 6797; what comes by plain HTTP a browser does not heed. */
    if (x->req.has_public_url && text_starts(x->req.base_url, "https://"))
        buf_text(to, "Strict-Transport-Security: max-age=31536000\r\n");
    if (!keep_alive)
        buf_text(to, "Connection: close\r\n");
    else if (parser_parsed(x->parser)->is_http_1_0)
        buf_text(to, "Connection: keep-alive\r\n");
    buf_put(to, r->headers.data, r->headers.bytes);
    buf_put(to, "\r\n", 2);
}

/* Crockford's base 32 of the time in milliseconds and 80 random bits: a ULID, 26 characters. */
void
request_id_make(Server *s, char to[REQUEST_ID_BYTES])
{
    static const char digit[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t time_part = (uint64_t)time_wall_ms();
    const uint8_t *random;

    if (s->random_left < 10) {
        /* Blocks only before the kernel's pool is filled, once after boot. */
        if (getrandom(s->random, sizeof s->random, 0) != (ssize_t)sizeof s->random)
            memcpy(s->random, &time_part, sizeof time_part); /* an id, not a secret */
        s->random_left = sizeof s->random;
    }
    s->random_left -= 10;
    random = s->random + s->random_left;
    for (int i = 9; i >= 0; i--, time_part >>= 5)
        to[i] = digit[time_part & 31];
    for (int half = 0; half < 2; half++) {
        uint64_t bits = 0;

        for (int i = 0; i < 5; i++)
            bits = bits << 8 | random[half * 5 + i];
        for (int i = 17; i >= 10; i--, bits >>= 5)
            to[half * 8 + i] = digit[bits & 31];
    }
    to[26] = '\0';
}
