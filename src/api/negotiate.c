#include "api/negotiate.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"

/* A piece of a header: not NUL-ended. */
typedef struct {
    const char *at;
    size_t bytes;
} Piece;

static Piece
trim(const char *at, size_t bytes)
{
    while (bytes > 0 && strchr(" \t", *at)) {
        at++;
        bytes--;
    }
    while (bytes > 0 && strchr(" \t", at[bytes - 1]))
        bytes--;
    return (Piece){at, bytes};
}

/* Up to the next `separator` outside quoted strings; *at moves behind it. False at the end. */
static bool
next_piece(const char **at, const char *end, char separator, Piece *piece)
{
    const char *from = *at;
    bool quoted = false;

    if (from >= end)
        return false;
    for (; *at < end && (quoted || **at != separator); (*at)++) {
        if (**at == '"')
            quoted = !quoted;
        else if (quoted && **at == '\\' && *at + 1 < end)
            (*at)++;
    }
    *piece = trim(from, (size_t)(*at - from));
    if (*at < end)
        (*at)++;
    return true;
}

static bool
is_word(Piece piece, const char *word)
{
    return strlen(word) == piece.bytes && strncasecmp(word, piece.at, piece.bytes) == 0;
}

/* name=value, or a name alone; quotes around the value go. */
static void
split(Piece piece, Piece *name, Piece *value)
{
    const char *equals = memchr(piece.at, '=', piece.bytes);

    if (!equals) {
        *name = piece;
        *value = (Piece){piece.at + piece.bytes, 0};
        return;
    }
    *name = trim(piece.at, (size_t)(equals - piece.at));
    *value = trim(equals + 1, (size_t)(piece.at + piece.bytes - equals - 1));
    if (value->bytes >= 2 && value->at[0] == '"' && value->at[value->bytes - 1] == '"')
        *value = (Piece){value->at + 1, value->bytes - 2};
}

static void
read_wait(Piece value, Preferences *to)
{
    char text[8];
    uint64_t seconds;

    if (to->waits || value.bytes == 0 || value.bytes >= sizeof text)
        return;
    memcpy(text, value.at, value.bytes);
    text[value.bytes] = '\0';
    if (!text_to_uint(text, 9999999, &seconds))
        return;
    to->waits = true;
    to->wait_s = seconds > PREFER_WAIT_S_MAX ? PREFER_WAIT_S_MAX : (int)seconds;
}

void
prefer_read(const char *text, Preferences *to)
{
    const char *at = text, *end = text + strlen(text);
    Piece preference, name, value;

    while (next_piece(&at, end, ',', &preference)) {
        const char *inner = preference.at;

        /* Parameters of a preference stand behind ';': none of ours has any. */
        if (!next_piece(&inner, preference.at + preference.bytes, ';', &preference))
            continue;
        split(preference, &name, &value);
        if (is_word(name, "respond-async") && value.bytes == 0) {
            to->respond_async = true;
        } else if (is_word(name, "wait")) {
            read_wait(value, to);
        } else if (is_word(name, "handling") && !to->has_handling) {
            to->has_handling = true;
            to->strict = is_word(value, "strict");
        } else if (is_word(name, "return") && !to->has_return) {
            to->has_return = true;
            to->minimal = is_word(value, "minimal");
        }
    }
}

void
prefer_write(const Preferences *p, Buf *to)
{
    size_t from = to->bytes;

    if (p->respond_async)
        buf_text(to, "respond-async");
    if (p->waits)
        buf_printf(to, "%swait=%d", to->bytes > from ? ", " : "", p->wait_s);
    if (p->strict)
        buf_printf(to, "%shandling=strict", to->bytes > from ? ", " : "");
    if (p->minimal)
        buf_printf(to, "%sreturn=minimal", to->bytes > from ? ", " : "");
}

/* "0", "0.", "0.000" */
static bool
is_zero(Piece q)
{
    size_t zeros = 0;

    if (q.bytes == 0 || q.at[0] != '0')
        return false;
    if (q.bytes == 1)
        return true;
    for (size_t i = 2; i < q.bytes; i++)
        zeros += q.at[i] == '0';
    return q.at[1] == '.' && zeros == q.bytes - 2;
}

bool
accept_takes_json(const char *accept)
{
    static const char *const ranges[] = {"*/*", "application/*", "application/json"};
    const char *at = accept, *end = accept + strlen(accept);
    size_t exact = 0;
    bool takes = trim(accept, strlen(accept)).bytes == 0;
    Piece range, type, parameter, name, value;

    while (next_piece(&at, end, ',', &range)) {
        const char *inner = range.at, *range_end = range.at + range.bytes;
        bool refused = false;

        if (!next_piece(&inner, range_end, ';', &type))
            continue;
        while (next_piece(&inner, range_end, ';', &parameter)) {
            split(parameter, &name, &value);
            refused |= is_word(name, "q") && is_zero(value);
        }
        for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
            if (is_word(type, ranges[i]) && i + 1 >= exact) {
                takes = i + 1 > exact ? !refused : takes || !refused;
                exact = i + 1;
            }
    }
    return takes;
}

bool
media_is_json(const char *content_type)
{
    static const char application[] = "application/";
    Piece type = trim(content_type, strcspn(content_type, ";"));
    size_t prefix = sizeof application - 1;

    if (type.bytes <= prefix || strncasecmp(type.at, application, prefix) != 0)
        return false;
    type = (Piece){type.at + prefix, type.bytes - prefix};
    return is_word(type, "json") ||
           (type.bytes > 5 && strncasecmp(type.at + type.bytes - 5, "+json", 5) == 0 &&
               !memchr(type.at, ' ', type.bytes) && !memchr(type.at, '/', type.bytes));
}

static bool
put_key(char *key, size_t *bytes, char c)
{
    if (c <= ' ' || c > '~' || *bytes == IDEMPOTENCY_KEY_BYTES)
        return false;
    key[(*bytes)++] = c;
    return true;
}

bool
idempotency_key_read(const char *text, char key[IDEMPOTENCY_KEY_BYTES + 1])
{
    Piece value = trim(text, strlen(text));
    bool quoted = value.bytes > 0 && value.at[0] == '"';
    size_t bytes = 0, i = quoted ? 1 : 0, end = value.bytes;

    if (quoted && (end < 2 || value.at[--end] != '"'))
        return false;
    for (; i < end; i++) {
        char c = value.at[i];

        /* RFC 8941 3.3.3: inside the quotes a backslash stands before '"' and '\' only. */
        if (quoted && c == '"')
            return false;
        if (quoted && c == '\\') {
            if (++i == end || !strchr("\"\\", c = value.at[i]))
                return false;
        }
        if (!put_key(key, &bytes, c))
            return false;
    }
    key[bytes] = '\0';
    return bytes > 0;
}
