#include "net/disposition.h"

#include <string.h>

#include "base/text.h"

void
disposition_write(const char *name, Buf *to)
{
    buf_text(to, "attachment; filename=\"");
    for (const char *c = name; *c; c++) {
        /* A character of several bytes becomes one '_'. */
        if ((*c & 0xc0) == 0x80)
            continue;
        buf_char(to, *c < ' ' || *c > '~' || strchr("\"\\%/;", *c) ? '_' : *c);
    }
    buf_text(to, "\"; filename*=UTF-8''");
    text_percent_encode(to, name, strlen(name), false);
}
