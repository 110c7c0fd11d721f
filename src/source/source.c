#include "source/source.h"

bool
source_next(Source *s, Batch *batch, Err *e)
{
    return s->kind->next(s, batch, e);
}

void
source_close(Source *s)
{
    if (s && s->kind->close)
        s->kind->close(s);
}
