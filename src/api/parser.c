/*
 * RFC 9112 (HTTP/1.1), on llhttp 8.1 in strict mode; no other file includes it. What llhttp lets
 * through and we do not is here, beside its callbacks: HTTP/0.9 and other protocols, folded values,
 * a Transfer-Encoding that is not "chunked" alone, a target that is not a path.
 */
#include "api/parser_in.h"

#include <assert.h>
#include <llhttp.h>
#include <string.h>

#include "base/text.h"

enum {
    HEAD_BYTES_MAX = 64 << 10, /* of texts, with their NULs and the path decoded: never reached */
    /* What may be read for a head or a body, however it is padded (empty lines before the request,
     * blanks before a value, chunks of a byte with extensions, trailers). */
    HEAD_RAW_MAX = PARSER_LINE_BYTES_MAX + PARSER_HEADERS_BYTES_MAX + 1024,
    BODY_RAW_MAX = 8 * PARSER_BODY_BYTES_MAX,
    BEFORE_BYTES = 7,         /* "a HTTP/" */
    KEEP_BYTES_MAX = 16 << 10 /* a larger buffer is not kept for the next request */
};

/* Where the texts of a header lie in `head`, while that may still move. */
typedef struct {
    size_t name, value;
} HeaderAt;

struct Parser {
    Parsed parsed;
    llhttp_t machine;
    Buf head, body;
    HeaderAt at[PARSER_HEADERS_MAX];
    RequestHeader header[PARSER_HEADERS_MAX];
    size_t headers, headers_bytes;
    size_t target_bytes;
    size_t raw_bytes;          /* read so far, of the head or of the body */
    const char *chunk;         /* what is being taken */
    char before[BEFORE_BYTES]; /* and the bytes before it */
    bool target_is_whole, has_version, in_header, in_value, head_is_whole, is_whole;
    Err *e; /* of the call in progress; has a code once a callback has refused */
};

/* A callback's way to refuse: `return refuse(p, INVALID_REQUEST, "…")`. */
#define refuse(p, code, ...) (err_push((p)->e, ERR_##code, ERR_HERE, __VA_ARGS__), HPE_USER)

static int
refuse_without_memory(Parser *p)
{
    return refuse(p, INTERNAL, "no memory for a request");
}

/* The byte `back` places before `at`, which may have come with an earlier chunk. */
static char
byte_before(const Parser *p, const char *at, size_t back)
{
    size_t in_chunk = (size_t)(at - p->chunk);

    return back <= in_chunk ? at[-(ptrdiff_t)back] : p->before[BEFORE_BYTES + in_chunk - back];
}

static void
remember_before(Parser *p, const char *bytes, size_t count)
{
    size_t new = count < BEFORE_BYTES ? count : BEFORE_BYTES;

    memmove(p->before, p->before + new, BEFORE_BYTES - new);
    memcpy(p->before + BEFORE_BYTES - new, bytes + count - new, new);
}

static Parser *
parser_of(llhttp_t *machine)
{
    return machine->data;
}

static const char *
method_of(const Parser *p)
{
    return llhttp_method_name((llhttp_method_t)p->machine.method);
}

static int
on_url(llhttp_t *machine, const char *at, size_t bytes)
{
    Parser *p = parser_of(machine);
    size_t other = strlen(method_of(p)) + strlen("  HTTP/1.1");

    if (p->target_bytes == 0 && byte_before(p, at, 2) == ' ')
        return refuse(p, INVALID_REQUEST, "two blanks before the target");
    if (bytes > PARSER_LINE_BYTES_MAX - other - p->target_bytes)
        return refuse(
            p, URI_TOO_LONG, "a request line has at most %d bytes", PARSER_LINE_BYTES_MAX);
    buf_put(&p->head, at, bytes);
    p->target_bytes += bytes;
    return 0;
}

static int
on_url_complete(llhttp_t *machine)
{
    Parser *p = parser_of(machine);

    p->target_is_whole = true;
    p->parsed.method = method_of(p);
    buf_char(&p->head, '\0');
    if (machine->method == HTTP_CONNECT)
        return refuse(p, INVALID_REQUEST, "this is no proxy");
    if (p->head.failed)
        return refuse_without_memory(p);
    if (p->head.data[0] != '/')
        return refuse(p, INVALID_REQUEST, "the target is not a path");
    for (const char *c = p->head.data; *c; c++)
        if (*c == '#' || (unsigned char)*c >= 0x7f)
            return refuse(p, INVALID_REQUEST, "the target has a '#', or what is not ASCII");
    return 0;
}

static int
on_version(llhttp_t *machine, const char *at, size_t bytes)
{
    static const char protocol[] = " HTTP/";
    const size_t back = sizeof protocol - 1;
    Parser *p = parser_of(machine);

    (void)bytes;
    if (p->has_version)
        return 0;
    p->has_version = true;
    for (size_t i = 0; i < back; i++)
        if (byte_before(p, at, back - i) != protocol[i])
            return refuse(p, INVALID_REQUEST, "the protocol is not HTTP");
    if (byte_before(p, at, back + 1) == ' ')
        return refuse(p, INVALID_REQUEST, "two blanks before the version");
    return 0;
}

static int
on_version_complete(llhttp_t *machine)
{
    if (machine->http_major == 1)
        return 0;
    return refuse(parser_of(machine), INVALID_REQUEST, "the version is not HTTP/1.1 or 1.0");
}

/* The value that was being read has ended: without blanks behind it. */
static void
end_value(Parser *p)
{
    size_t start;

    if (!p->in_value)
        return;
    start = p->at[p->headers - 1].value;
    while (p->head.bytes > start &&
           (p->head.data[p->head.bytes - 1] == ' ' || p->head.data[p->head.bytes - 1] == '\t'))
        p->head.bytes--;
    buf_char(&p->head, '\0');
    p->in_value = p->in_header = false;
}

/* Counts what a header's pieces have; false: too much. */
static bool
has_room_for(Parser *p, size_t bytes)
{
    p->headers_bytes += bytes;
    return p->headers_bytes <= PARSER_HEADERS_BYTES_MAX;
}

static int
on_header_field(llhttp_t *machine, const char *at, size_t bytes)
{
    Parser *p = parser_of(machine);
    char *to;

    if (p->head_is_whole) /* a trailer: dropped */
        return 0;
    if (!p->has_version)
        return refuse(p, INVALID_REQUEST, "the request line has no version");
    end_value(p);
    if (!p->in_header) {
        if (p->headers == PARSER_HEADERS_MAX)
            return refuse(p, HEADERS_TOO_LARGE, "at most %d headers", PARSER_HEADERS_MAX);
        p->at[p->headers++] = (HeaderAt){.name = p->head.bytes};
        p->in_header = true;
        p->headers_bytes += strlen(": \r\n");
    }
    if (!has_room_for(p, bytes))
        return refuse(
            p, HEADERS_TOO_LARGE, "headers have at most %d bytes", PARSER_HEADERS_BYTES_MAX);
    if (!(to = buf_reserve(&p->head, bytes)))
        return refuse_without_memory(p);
    for (size_t i = 0; i < bytes; i++)
        to[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + ('a' - 'A') : at[i]);
    buf_wrote(&p->head, bytes);
    return 0;
}

static int
on_header_field_complete(llhttp_t *machine)
{
    Parser *p = parser_of(machine);

    if (p->head_is_whole)
        return 0;
    if (!p->in_header || p->in_value || p->at[p->headers - 1].name == p->head.bytes)
        return refuse(p, INVALID_REQUEST, "a header has no name");
    buf_char(&p->head, '\0');
    p->at[p->headers - 1].value = p->head.bytes;
    p->in_value = true;
    return 0;
}

static int
on_header_value(llhttp_t *machine, const char *at, size_t bytes)
{
    Parser *p = parser_of(machine);

    if (p->head_is_whole || bytes == 0)
        return 0;
    if (!has_room_for(p, bytes))
        return refuse(
            p, HEADERS_TOO_LARGE, "headers have at most %d bytes", PARSER_HEADERS_BYTES_MAX);
    buf_put(&p->head, at, bytes);
    return 0;
}

/* Decodes `from` at the end of head, to look at it; false and INVALID_REQUEST, INVALID_ENCODING. */
static bool
decode(Parser *p, size_t from, size_t count, size_t *decoded)
{
    char *to = buf_reserve(&p->head, count + 1);

    if (!to)
        return fail(p->e, INTERNAL, "no memory for a request");
    if (!text_percent_decode(p->head.data + from, count, to, count, decoded))
        return fail(p->e, INVALID_REQUEST, "the target has a bad percent-encoding");
    if (!text_is_utf8(to, *decoded))
        return fail(p->e, INVALID_ENCODING, "the target is not UTF-8");
    if (text_has_control(to, *decoded, false))
        return fail(p->e, INVALID_REQUEST, "the target has a control character");
    return true;
}

/* Splits the target and decodes its path, once; then nothing in `head` moves any more. */
static bool
split_target(Parser *p)
{
    const char *mark = strchr(p->head.data, '?');
    size_t path_bytes = mark ? (size_t)(mark - p->head.data) : p->target_bytes;
    size_t decoded = 0, path;
    bool has_query = mark != NULL;

    if (has_query && !decode(p, path_bytes + 1, p->target_bytes - path_bytes - 1, &decoded))
        return false;
    if (!decode(p, 0, path_bytes, &decoded))
        return false;
    path = p->head.bytes;
    buf_wrote(&p->head, decoded);
    buf_char(&p->head, '\0');
    p->parsed.target = p->head.data;
    p->parsed.query = has_query ? p->head.data + path_bytes + 1 : NULL;
    p->parsed.path = p->head.data + path;
    return !p->head.failed || fail(p->e, INTERNAL, "no memory for a request");
}

static void
place_headers(Parser *p)
{
    for (size_t i = 0; i < p->headers; i++)
        p->header[i] = (RequestHeader){p->head.data + p->at[i].name, p->head.data + p->at[i].value};
    p->parsed.header = p->header;
    p->parsed.headers = p->headers;
}

/* The one header of this name; NULL: none; counts them. */
static const char *
find(const Parser *p, const char *name, size_t *count)
{
    const char *value = NULL;

    *count = 0;
    for (size_t i = 0; i < p->headers; i++)
        if (strcmp(p->header[i].name, name) == 0 && ++*count == 1)
            value = p->header[i].value;
    return value;
}

/* name[:port], IPv4[:port], [IPv6][:port]; characters only, since a wrong name is nobody's. */
static bool
is_host(const char *host)
{
    size_t bytes = *host == '[' ? strspn(host + 1, "0123456789abcdefABCDEF:.") + 1
                                : strspn(host, "0123456789abcdefghijklmnopqrstuvwxyz"
                                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._~");

    if (*host == '[')
        bytes = host[bytes] == ']' && bytes > 1 ? bytes + 1 : 0;
    if (bytes == 0 || bytes > 255)
        return false;
    host += bytes;
    return *host == '\0' || (*host == ':' && strspn(host + 1, "0123456789") <= 5 &&
                                host[1 + strspn(host + 1, "0123456789")] == '\0');
}

/* How long the body is must be said once, in one way (RFC 9112 6.3). */
static bool
check_framing(Parser *p)
{
    size_t lengths, codings;
    const char *length = find(p, "content-length", &lengths);
    const char *coding = find(p, "transfer-encoding", &codings);

    if (lengths > 1 || codings > 1 || (length && coding))
        return fail(p->e, INVALID_REQUEST, "the length of the body is told twice");
    if (coding && (p->parsed.is_http_1_0 || !text_same_case_blind(coding, "chunked")))
        return fail(p->e, INVALID_REQUEST, "the only Transfer-Encoding is chunked, in HTTP/1.1");
    if (length && (!*length || length[strspn(length, "0123456789")]))
        return fail(p->e, INVALID_REQUEST, "the Content-Length is not a number");
    return true;
}

static bool
check_hosts(Parser *p)
{
    size_t hosts;

    p->parsed.host = find(p, "host", &hosts);
    if (hosts == 1 && is_host(p->parsed.host))
        return true;
    p->parsed.host = "";
    return fail(p->e, INVALID_REQUEST, "there must be one Host, a name or an address");
}

/* What is good HTTP, and refused all the same. */
static bool
check_limits(Parser *p)
{
    size_t count;
    const char *expect = find(p, "expect", &count);

    if (expect && (count > 1 || !text_same_case_blind(expect, "100-continue")))
        return fail(p->e, EXPECTATION_FAILED, "only 100-continue may be expected");
    if (find(p, "content-encoding", &count))
        return fail(p->e, UNSUPPORTED_MEDIA_TYPE, "no Content-Encoding is taken");
    if (p->machine.content_length > PARSER_BODY_BYTES_MAX)
        return fail(p->e, BODY_TOO_LARGE, "a body has at most %d bytes", PARSER_BODY_BYTES_MAX);
    p->parsed.expects_continue = expect && !p->parsed.is_http_1_0 &&
                                 (p->machine.content_length > 0 || p->machine.flags & F_CHUNKED);
    return true;
}

static int
on_headers_complete(llhttp_t *machine)
{
    Parser *p = parser_of(machine);

    if (!p->has_version)
        return refuse(p, INVALID_REQUEST, "the request line has no version");
    end_value(p);
    if (p->head.failed)
        return refuse_without_memory(p);
    p->parsed.is_http_1_0 = machine->http_minor == 0;
    p->parsed.may_keep_alive = llhttp_should_keep_alive(machine);
    if (!split_target(p))
        return -1;
    place_headers(p);
    if (!check_framing(p) || !check_hosts(p) || !check_limits(p))
        return -1;
    machine->upgrade = 0; /* we stay with HTTP/1.1, which the client must be ready for */
    p->head_is_whole = true;
    return HPE_PAUSED;
}

static int
on_body(llhttp_t *machine, const char *at, size_t bytes)
{
    Parser *p = parser_of(machine);

    if (bytes > PARSER_BODY_BYTES_MAX - p->body.bytes)
        return refuse(p, BODY_TOO_LARGE, "a body has at most %d bytes", PARSER_BODY_BYTES_MAX);
    buf_put(&p->body, at, bytes);
    return p->body.failed ? refuse_without_memory(p) : 0;
}

static int
on_message_complete(llhttp_t *machine)
{
    Parser *p = parser_of(machine);

    p->is_whole = true;
    p->parsed.body = p->body.data;
    p->parsed.body_bytes = p->body.bytes;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_version = on_version,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

Parser *
parser_new(Arena *process, Err *e)
{
    Parser *p = arena_alloc(process, sizeof *p, e);

    if (!p)
        return NULL;
    p->head = buf_new(HEAD_BYTES_MAX);
    p->body = buf_new(PARSER_BODY_BYTES_MAX);
    parser_begin(p);
    return p;
}

void
parser_free(Parser *p)
{
    if (!p)
        return;
    buf_free(&p->head);
    buf_free(&p->body);
}

void
parser_begin(Parser *p)
{
    llhttp_init(&p->machine, HTTP_REQUEST, &settings);
    p->machine.data = p;
    buf_reset(&p->head, KEEP_BYTES_MAX);
    buf_reset(&p->body, KEEP_BYTES_MAX);
    p->parsed = (Parsed){.method = "", .target = "", .path = "", .host = "", .body = ""};
    p->headers = p->headers_bytes = p->target_bytes = p->raw_bytes = 0;
    memset(p->before, 0, sizeof p->before);
    p->target_is_whole = p->has_version = p->in_header = p->in_value = p->head_is_whole =
        p->is_whole = false;
}

/* llhttp takes "GET /\r\n" for HTTP/0.9 and waits for headers. */
static bool
lacks_version(const Parser *p)
{
    return p->target_is_whole && !p->has_version && p->machine.http_minor == 9;
}

/*
 * Every line of a head ends with CR LF, and none begins with a blank, which would continue the one
 * before (RFC 9112 2.2, 5.2). llhttp takes a bare LF behind the request line, and joins folded
 * lines or takes the second for the whole value.
 */
static bool
check_lines(const Parser *p, const char *bytes, size_t count, Err *e)
{
    const char *end = bytes + count, *at = bytes;

    if (count > 0 && p->before[BEFORE_BYTES - 1] == '\n' && (*at == ' ' || *at == '\t'))
        return fail(e, INVALID_REQUEST, "a header is folded");
    for (; (at = memchr(at, '\n', (size_t)(end - at))); at++) {
        if (byte_before(p, at, 1) != '\r')
            return fail(e, INVALID_REQUEST, "a line ends without CR");
        if (at + 1 < end && (at[1] == ' ' || at[1] == '\t'))
            return fail(e, INVALID_REQUEST, "a header is folded");
    }
    return true;
}

static ParserState
refused(Parser *p, llhttp_errno_t error)
{
    if (p->e->code == ERR_NONE)
        (void)fail(p->e, INVALID_REQUEST, "%s",
            error == HPE_OK ? "the request line has no version"
                            : llhttp_get_error_reason(&p->machine));
    return PARSER_REFUSED;
}

ParserState
parser_take(Parser *p, const char *bytes, size_t count, size_t *taken, Err *e)
{
    size_t raw_max = p->head_is_whole ? BODY_RAW_MAX : HEAD_RAW_MAX;
    bool had_head = p->head_is_whole;
    llhttp_errno_t error;

    assert(!p->is_whole);
    p->e = e;
    *taken = 0;
    if (count > raw_max - p->raw_bytes)
        count = raw_max - p->raw_bytes;
    if (llhttp_get_errno(&p->machine) == HPE_PAUSED)
        llhttp_resume(&p->machine);
    p->chunk = bytes;
    error = llhttp_execute(&p->machine, bytes, count);
    *taken = error == HPE_PAUSED ? (size_t)(llhttp_get_error_pos(&p->machine) - bytes) : count;
    if (!had_head && e->code == ERR_NONE && !check_lines(p, bytes, *taken, e))
        return PARSER_REFUSED;
    remember_before(p, bytes, *taken);
    p->raw_bytes += *taken;
    if (e->code != ERR_NONE || (error != HPE_OK && error != HPE_PAUSED) || lacks_version(p))
        return refused(p, error);
    if (p->is_whole)
        return PARSER_WHOLE;
    if (p->head_is_whole && !had_head) {
        p->raw_bytes = 0;
        return PARSER_HEAD;
    }
    if (p->raw_bytes < raw_max)
        return PARSER_MORE;
    if (p->head_is_whole)
        (void)fail(e, BODY_TOO_LARGE, "a body has at most %d bytes", PARSER_BODY_BYTES_MAX);
    else if (p->target_is_whole)
        (void)fail(e, HEADERS_TOO_LARGE, "headers have at most %d bytes", PARSER_HEADERS_BYTES_MAX);
    else
        (void)fail(e, URI_TOO_LONG, "a request line has at most %d bytes", PARSER_LINE_BYTES_MAX);
    return PARSER_REFUSED;
}

const Parsed *
parser_parsed(const Parser *p)
{
    return &p->parsed;
}
