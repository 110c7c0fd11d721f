#include "flow/sink.h"

bool
sink_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    s->bytes_in += bytes;
    return bytes == 0 || s->kind->write(s, data, bytes, e);
}

bool
sink_finish(Sink *s, Err *e)
{
    for (; s; s = s->next)
        if (s->kind->finish && !s->kind->finish(s, e))
            return false;
    return true;
}

void
sink_abort(Sink *s)
{
    for (; s; s = s->next)
        if (s->kind->abort)
            s->kind->abort(s);
}
