#include "test/contract/watches.h"

#include "base/text.h"
#include "base/time.h"

static bool
is_over(const TestWatch *t)
{
    return t->ends_at_ms > 0 && time_now_ms() >= t->ends_at_ms;
}

static bool
go_on(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    TestWatch *t = (TestWatch *)w;

    (void)bytes;
    t->asked++;
    t->stages |= 1u << stage;
    t->rows = rows;
    return !is_over(t) || fail_code(e, t->ends_with, "the test ended it");
}

static bool
asked_to_end(Watch *w)
{
    return is_over((TestWatch *)w);
}

static bool
prepared(Watch *w, const char *sealed, uint64_t rows, uint64_t bytes, const char *sha256, Err *e)
{
    TestWatch *t = (TestWatch *)w;

    (void)rows;
    (void)bytes;
    (void)sha256;
    t->prepared++;
    (void)text_copy(t->sealed, sizeof t->sealed, sealed);
    return !t->loses_task || fail(e, LEASE_LOST, "another has it");
}

static void
expect(Watch *w, int64_t rows_estimated)
{
    ((TestWatch *)w)->expected = rows_estimated;
}

TestWatch
watch_new(void)
{
    return (TestWatch){
        .base =
            {
                .go_on = go_on,
                .asked_to_end = asked_to_end,
                .prepared = prepared,
                .expect = expect,
                .end_fd = -1,
            },
        .ends_with = ERR_CANCELLED,
        .expected = -2,
    };
}
