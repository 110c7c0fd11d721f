#include "export/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static const int64_t now_us = 1704110400000000;

/* Every phase with every stage, cancelled or not, started or not, due or not. */
static void
test_every_record(void **state)
{
    static const ExportState running[] = {
        STATE_STARTING, STATE_QUERYING, STATE_STREAMING, STATE_FINISHING};

    (void)state;
    for (QueuePhase phase = QUEUE_QUEUED; phase <= QUEUE_CANCELLED; phase++)
        for (Stage stage = STAGE_STARTING; stage <= STAGE_FINISHING; stage++)
            for (int bits = 0; bits < 8; bits++) {
                bool cancel = bits & 1, started = bits & 2, later = bits & 4;
                QueueRecord r = {.phase = phase,
                    .stage = stage,
                    .cancel_us = cancel ? now_us : 0,
                    .started_us = started ? now_us - 1 : 0,
                    .available_us = later ? now_us + 1 : now_us};
                ExportState want = STATE_FAILED;

                switch (phase) {
                case QUEUE_QUEUED:
                    want = started ? STATE_RETRYING : later ? STATE_SCHEDULED : STATE_QUEUED;
                    break;
                case QUEUE_RUNNING:
                    want = cancel ? STATE_CANCELLING : running[stage];
                    break;
                case QUEUE_PREPARED:
                    want = STATE_FINISHING;
                    break;
                case QUEUE_COMPLETED:
                    want = STATE_COMPLETED;
                    break;
                case QUEUE_EXPIRED:
                    want = STATE_EXPIRED;
                    break;
                case QUEUE_FAILED:
                    want = STATE_FAILED;
                    break;
                case QUEUE_CANCELLED:
                    want = STATE_CANCELLED;
                    break;
                }
                if (state_of(&r, now_us) != want)
                    fail_msg("%s, stage %d, bits %d: %s", queue_phase_name(phase), (int)stage, bits,
                        state_name(state_of(&r, now_us)));
            }
}

static void
test_damaged(void **state)
{
    const QueueRecord strange = {.phase = (QueuePhase)77}, staged = {
                                                               .phase = QUEUE_RUNNING,
                                                               .stage = (Stage)99,
                                                           };

    (void)state;
    assert_int_equal(state_of(&strange, now_us), STATE_FAILED);
    assert_int_equal(state_of(&staged, now_us), STATE_STARTING);
    assert_string_equal(stage_name((Stage)-1), "starting");
    assert_string_equal(queue_phase_name((QueuePhase)77), "unknown");
}

/* The words of the API, the closed set of four, and what may follow what. */
static void
test_table(void **state)
{
    static const struct {
        ExportState state;
        const char *name, *status;
        bool final;
        const char *next; /* names with a blank between */
    } cases[] = {
        {STATE_SCHEDULED, "scheduled", "queued", false, "queued starting cancelled failed"},
        {STATE_QUEUED, "queued", "queued", false, "starting cancelled failed"},
        {STATE_STARTING, "starting", "processing", false,
            "querying retrying cancelling cancelled failed"},
        {STATE_QUERYING, "querying", "processing", false,
            "streaming retrying cancelling cancelled failed"},
        {STATE_STREAMING, "streaming", "processing", false,
            "finishing retrying cancelling cancelled failed"},
        {STATE_FINISHING, "finishing", "processing", false,
            "completed retrying cancelling cancelled failed"},
        {STATE_RETRYING, "retrying", "processing", false, "starting cancelled failed"},
        {STATE_CANCELLING, "cancelling", "processing", false, "cancelled failed"},
        {STATE_COMPLETED, "completed", "completed", true, "expired"},
        {STATE_EXPIRED, "expired", "completed", true, ""},
        {STATE_FAILED, "failed", "failed", true, ""},
        {STATE_CANCELLED, "cancelled", "failed", true, ""},
    };

    (void)state;
    assert_int_equal(COUNT(cases), STATES);
    for (size_t i = 0; i < COUNT(cases); i++) {
        ExportState from = cases[i].state;

        assert_string_equal(state_name(from), cases[i].name);
        assert_string_equal(state_status(from), cases[i].status);
        assert_int_equal(state_is_final(from), cases[i].final);
        for (ExportState to = 0; to < STATES; to++) {
            char word[32], list[128];

            snprintf(word, sizeof word, " %s ", state_name(to));
            snprintf(list, sizeof list, " %s ", cases[i].next);
            if (state_may_become(from, to) != (strstr(list, word) != NULL))
                fail_msg("%s to %s", state_name(from), state_name(to));
        }
    }
}

static void
test_progress(void **state)
{
    static const struct {
        Stage stage;
        uint64_t rows;
        int64_t estimated;
        int before, want;
    } cases[] = {
        {STAGE_STARTING, 0, -1, 0, 10},
        {STAGE_QUERYING, 0, -1, 10, 20},
        {STAGE_STREAMING, 0, -1, 20, 40},
        {STAGE_STREAMING, 1000000, -1, 40, 54},
        {STAGE_STREAMING, 100000000, -1, 40, 68},
        {STAGE_STREAMING, 0, 100, 20, 40},
        {STAGE_STREAMING, 50, 100, 40, 54},
        {STAGE_STREAMING, 100, 100, 40, 69},
        {STAGE_STREAMING, 1000, 100, 40, 69},
        {STAGE_STREAMING, 5, 0, 40, 40},
        {STAGE_STREAMING, UINT64_MAX, INT64_MAX, 40, 69},
        {STAGE_FINISHING, 0, -1, 40, 70},
        /* never back: a second attempt starts where the first was */
        {STAGE_STARTING, 0, -1, 69, 69},
        {STAGE_STREAMING, 10, 100, 60, 60},
        {STAGE_FINISHING, 0, -1, 99, 99},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int got = progress_of(cases[i].stage, cases[i].rows, cases[i].estimated, cases[i].before);

        if (got != cases[i].want)
            fail_msg("case %zu: %d, not %d", i, got, cases[i].want);
    }
}

/* Over whole lives, with and without an estimate (right or wrong): never back, and each mark is
 * passed. */
static void
test_progress_of_lives(void **state)
{
    static const int64_t estimates[] = {-1, 0, 1, 10, 1000, 100000, INT64_MAX};

    (void)state;
    for (size_t i = 0; i < COUNT(estimates); i++) {
        int progress = 0;

        for (int attempt = 0; attempt < 2; attempt++)
            for (Stage stage = STAGE_STARTING; stage <= STAGE_FINISHING; stage++)
                for (uint64_t rows = 0; rows <= (stage == STAGE_STREAMING ? 5000u : 0u);
                     rows += 100) {
                    int next = progress_of(stage, rows, estimates[i], progress);

                    assert_true(next >= progress && next < 100);
                    if (attempt == 0) {
                        assert_true(stage != STAGE_STARTING || next == 10);
                        assert_true(stage != STAGE_STREAMING || (next >= 40 && next < 70));
                        assert_true(stage != STAGE_FINISHING || next == 70);
                    }
                    progress = next;
                }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_record),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_progress_of_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
