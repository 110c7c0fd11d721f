#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
    const char *constant; /* "SOURCE_TIMEOUT" */
    int http;
    ErrRetry retry;
    int exit;
    const char *sentence;
} codes[ERR_CODES] = {
    [ERR_NONE] = {"NONE", 200, ERR_RETRY_NEVER, 0, ""},
#define ERR(code, http, retry, exit, sentence)                                                     \
    [ERR_##code] = {#code, http, ERR_RETRY_##retry, exit, sentence},
#include "base/err.def"
#undef ERR
};

/* "SOURCE_TIMEOUT" becomes "source-timeout"; made once, kept for ever. */
static char names[ERR_CODES][32];

__attribute__((constructor)) static void
make_names(void)
{
    for (size_t code = 0; code < ERR_CODES; code++) {
        const char *from = codes[code].constant;
        char *to = names[code];

        for (; *from && to < names[code] + sizeof names[code] - 1; from++)
            *to++ = *from == '_' ? '-' : (char)(*from | 0x20);
        *to = '\0';
    }
}

bool
err_push(Err *e, ErrCode code, const char *where, const char *fmt, ...)
{
    /* A full chain keeps its root and gives up the view before the newest. */
    unsigned at = e->links < ERR_LINKS_MAX ? e->links++ : ERR_LINKS_MAX - 1;
    va_list args;

    if (code != ERR_NONE && at == 0)
        e->code = code;
    e->link[at].where = where;
    va_start(args, fmt);
    vsnprintf(e->link[at].text, sizeof e->link[at].text, fmt, args);
    va_end(args);
    return false;
}

void
err_clear(Err *e)
{
    e->code = ERR_NONE;
    e->links = 0;
}

const char *
err_name(ErrCode code)
{
    return names[code < ERR_CODES ? code : ERR_INTERNAL];
}

ErrCode
err_code_of(const char *name)
{
    for (size_t code = 0; code < ERR_CODES; code++)
        if (strcmp(names[code], name) == 0)
            return (ErrCode)code;
    return ERR_NONE;
}

const char *
err_sentence(ErrCode code)
{
    return codes[code < ERR_CODES ? code : ERR_INTERNAL].sentence;
}

int
err_http_status(ErrCode code)
{
    return codes[code < ERR_CODES ? code : ERR_INTERNAL].http;
}

int
err_exit_status(ErrCode code)
{
    return codes[code < ERR_CODES ? code : ERR_INTERNAL].exit;
}

ErrRetry
err_retry(ErrCode code)
{
    return codes[code < ERR_CODES ? code : ERR_INTERNAL].retry;
}

const char *
err_chain(const Err *e, char *text, size_t text_bytes)
{
    size_t at = 0, end_bytes;
    char end[128];

    if (text_bytes == 0)
        return text;
    text[0] = '\0';
    snprintf(
        end, sizeof end, " (%s, %s)", err_name(e->code), e->links ? e->link[0].where : "nowhere");
    end_bytes = strlen(end);
    /* However long the chain is, the code and the place of its cause stand behind it. */
    for (unsigned i = e->links; i-- > 0 && at + end_bytes < text_bytes;) {
        size_t room = text_bytes - at - end_bytes;
        int wrote = snprintf(text + at, room, "%s%s", at ? ": " : "", e->link[i].text);

        if (wrote < 0 || (size_t)wrote >= room)
            break;
        at += (size_t)wrote;
    }
    at = strlen(text);
    snprintf(text + at, text_bytes - at, "%s", end);
    text_make_printable(text);
    return text;
}

const char *
err_root(const Err *e)
{
    return e->links ? e->link[0].text : "";
}
