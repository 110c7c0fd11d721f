#include "net/url.h"

#include <string.h>

#include "base/text.h"

static bool
is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ); its length, 0 if there is none. */
static size_t
scheme_bytes(const char *text)
{
    size_t at = 0;

    if (!is_alpha(text[0]))
        return 0;
    while (is_alpha(text[at]) || is_digit(text[at]) || (text[at] && strchr("+-.", text[at])))
        at++;
    return text[at] == ':' ? at : 0;
}

static void
make_lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text + 0x20);
}

/* Decoded, in the arena; NULL without memory or if an escape is wrong or hides a control. */
static char *
decode(const char *text, size_t bytes, const char *what, Arena *arena, Err *e)
{
    char *own = arena_bytes(arena, text, bytes, e);
    size_t decoded;

    if (!own)
        return NULL;
    if (!text_percent_decode(text, bytes, own, bytes, &decoded) || !text_is_utf8(own, decoded) ||
        text_has_control(own, decoded, false)) {
        fail(e, CONFIG_INVALID, "the %s of the URL has a wrong escape", what);
        return NULL;
    }
    own[decoded] = '\0';
    return own;
}

/* user[:password]@; `*at` moves behind it. */
static bool
parse_user(const char **at, size_t authority, Arena *arena, Url *url, Err *e)
{
    const char *sign = memrchr(*at, '@', authority), *colon;

    if (!sign)
        return true;
    colon = memchr(*at, ':', (size_t)(sign - *at));
    url->user = decode(*at, (size_t)((colon ? colon : sign) - *at), "user", arena, e);
    if (!url->user)
        return false;
    if (colon &&
        !(url->password = decode(colon + 1, (size_t)(sign - colon - 1), "password", arena, e)))
        return false;
    *at = sign + 1;
    return true;
}

static bool
parse_port(const char *text, size_t bytes, Url *url, Err *e)
{
    char digits[8];
    uint64_t port;

    if (bytes == 0)
        return true; /* "host:" is "host" (RFC 3986 3.2.3) */
    if (bytes < sizeof digits) {
        memcpy(digits, text, bytes);
        digits[bytes] = '\0';
        if (text_to_uint(digits, 65535, &port) && port > 0) {
            url->port = (unsigned)port;
            return true;
        }
    }
    return fail(e, CONFIG_INVALID, "the port of the URL is not a number from 1 to 65535");
}

static bool
is_good_host(const char *host, bool is_ipv6)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyz0123456789-._~";

    if (is_ipv6)
        return strchr(host, ':') && !host[strspn(host, "0123456789abcdef:.")];
    return !host[strspn(host, name)];
}

static bool
parse_host(const char *text, size_t bytes, Arena *arena, Url *url, Err *e)
{
    const char *end = text + bytes, *colon;
    char *host;

    if (bytes > 0 && text[0] == '[') {
        const char *bracket = memchr(text, ']', bytes);

        if (!bracket || (bracket + 1 < end && bracket[1] != ':'))
            return fail(e, CONFIG_INVALID, "the host of the URL has no closing bracket");
        url->host_is_ipv6 = true;
        text++;
        colon = bracket + 1 < end ? bracket + 1 : NULL;
        bytes = (size_t)(bracket - text);
    } else {
        colon = memchr(text, ':', bytes);
        bytes = colon ? (size_t)(colon - text) : bytes;
    }
    if (!(host = decode(text, bytes, "host", arena, e)))
        return false;
    make_lower(host);
    if (!is_good_host(host, url->host_is_ipv6))
        return fail(e, CONFIG_INVALID, "the host of the URL is not a name or address");
    url->host = host;
    return !colon || parse_port(colon + 1, (size_t)(end - colon - 1), url, e);
}

static bool
parse_rest(const char *at, Arena *arena, Url *url, Err *e)
{
    size_t path = strcspn(at, "?");

    if (strchr(at, '#'))
        return fail(e, CONFIG_INVALID, "the URL has a fragment (#); write %%23 for a '#'");
    if (!(url->path = arena_bytes(arena, at, path, e)))
        return false;
    return !at[path] || (url->query = arena_text(arena, at + path + 1, e));
}

bool
url_parse(const char *text, Arena *arena, Url *url, Err *e)
{
    size_t bytes = strnlen(text, URL_BYTES_MAX + 1), scheme = scheme_bytes(text), authority;
    const char *at, *end;
    char *own;

    *url = (Url){.host = "", .path = ""};
    if (bytes > URL_BYTES_MAX)
        return fail(e, CONFIG_INVALID, "the URL is longer than %d bytes", URL_BYTES_MAX);
    if (!text_is_utf8(text, bytes) || text_has_control(text, bytes, false))
        return fail(e, CONFIG_INVALID, "the URL has control characters or is not UTF-8");
    if (scheme == 0)
        return fail(e, CONFIG_INVALID, "the URL has no scheme, like https:");
    if (!(own = arena_bytes(arena, text, scheme, e)))
        return false;
    make_lower(own);
    url->scheme = own;
    at = text + scheme + 1;
    if (strcmp(own, "sqlite") == 0) {
        at += text_starts(at, "///") ? 2 : 0;
        if (!*at)
            return fail(e, CONFIG_INVALID, "sqlite: needs the path of a file behind it");
        return (url->path = arena_text(arena, at, e));
    }
    if (!text_starts(at, "//"))
        return fail(e, CONFIG_INVALID, "the URL has no // behind its scheme");
    if (strpbrk(text, " \"<>\\^`{|}"))
        return fail(e, CONFIG_INVALID, "the URL has a character that must be escaped");
    at += 2;
    authority = strcspn(at, "/?#");
    end = at + authority;
    return parse_user(&at, authority, arena, url, e) &&
           parse_host(at, (size_t)(end - at), arena, url, e) && parse_rest(end, arena, url, e);
}

void
url_show(const char *text, Buf *to)
{
    size_t scheme = scheme_bytes(text);
    const char *at = text + scheme + 1, *sign;

    if (scheme == 0) {
        buf_char(to, '?');
        return;
    }
    buf_put(to, text, scheme + 1);
    if (scheme == 6 && strncmp(text, "sqlite", scheme) == 0) {
        buf_text(to, at);
        return;
    }
    if (text_starts(at, "//")) {
        buf_text(to, "//");
        at += 2;
    }
    if ((sign = strrchr(at, '@'))) {
        /* An '@' behind the authority may end a password that nobody escaped: show nothing. */
        if (sign > at + strcspn(at, "/?#")) {
            buf_text(to, "…");
            return;
        }
        at = sign + 1;
    }
    buf_put(to, at, strcspn(at, "?#"));
}
