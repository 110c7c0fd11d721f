/* Any text becomes a URL or CONFIG_INVALID; what is shown never holds its password. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(1 << 20);
    Buf shown = buf_new(1 << 20);
    Err e = {0};
    char *text = arena_bytes(arena, data, bytes < 10000 ? bytes : 10000, &e);
    Url url;
    bool ok;

    if (!text)
        abort();
    ok = url_parse(text, arena, &url, &e);
    url_show(text, &shown);
    if (!ok && e.code != ERR_CONFIG_INVALID)
        abort();
    if (ok) {
        const char *sign = strchr(text, '@');

        if (!url.scheme || !*url.scheme || url.port > 65535 || !url.host || !url.path)
            abort();
        if (strcmp(url.scheme, "sqlite") != 0 && *url.path && *url.path != '/')
            abort();
        if (strpbrk(url.host, "@/?# "))
            abort();
        if (url.user && (!sign || strchr(shown.data, '@')))
            abort();
        if (url.query && strchr(shown.data, '?'))
            abort();
    }
    buf_free(&shown);
    arena_free(arena);
    return 0;
}
