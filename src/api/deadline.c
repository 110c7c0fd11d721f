/* A binary heap of connections by deadline; each knows its place, so that it can leave. */
#include "api/http_in.h"

static void
place(Server *s, Connection *c, size_t at)
{
    s->heap[at] = c;
    c->deadline_at = at;
}

static void
sift_up(Server *s, Connection *c, size_t at)
{
    for (; at > 1 && s->heap[at / 2]->deadline_ms > c->deadline_ms; at /= 2)
        place(s, s->heap[at / 2], at);
    place(s, c, at);
}

static void
sift_down(Server *s, Connection *c, size_t at)
{
    for (size_t child; (child = at * 2) <= s->due; at = child) {
        if (child < s->due && s->heap[child + 1]->deadline_ms < s->heap[child]->deadline_ms)
            child++;
        if (s->heap[child]->deadline_ms >= c->deadline_ms)
            break;
        place(s, s->heap[child], at);
    }
    place(s, c, at);
}

static void
settle(Server *s, Connection *c, size_t at)
{
    if (at > 1 && s->heap[at / 2]->deadline_ms > c->deadline_ms)
        sift_up(s, c, at);
    else
        sift_down(s, c, at);
}

void
deadline_set(Server *s, Connection *c, int64_t at_ms)
{
    size_t at = c->deadline_at;

    if (at > 0 && c->deadline_ms == at_ms)
        return;
    c->deadline_ms = at_ms;
    if (at_ms > 0) {
        settle(s, c, at > 0 ? at : ++s->due);
    } else if (at > 0) {
        Connection *last = s->heap[s->due--];

        c->deadline_at = 0;
        if (last != c)
            settle(s, last, at);
    }
}

Connection *
deadline_next(const Server *s)
{
    return s->due > 0 ? s->heap[1] : NULL;
}
