#include "export/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "test/unit/export/bench.h"

/* What we write in tables below, before cmocka takes the name. */
#define FAIL_WITH(e, code) fail_code((e), (code), "%s", "no answer from db.local")

static inline bool
end_with(Err *e, ErrCode code)
{
    return FAIL_WITH(e, code);
}

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static const int64_t now_us = 1704110400000000;
static const int64_t ms = 1000;

static Arena *arena;
static const Config *config; /* retry_delays 10s,60s,300s */

static int
set_up(void **state)
{
    char *options[] = {(char *)(uintptr_t) "--data-dir=/tmp/nowhere", NULL};

    (void)state;
    arena = arena_new(8 << 20);
    config = bench_config(arena, options);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static void
test_decide(void **state)
{
    static const struct {
        const char *name;
        ErrCode code;
        int attempt, max_attempts, memory_limits;
        bool again;
        int64_t wait_ms_max;
    } cases[] = {
        {"first", ERR_SOURCE_UNAVAILABLE, 1, 3, 0, true, 10000},
        {"second", ERR_SOURCE_UNAVAILABLE, 2, 3, 0, true, 60000},
        {"third of five", ERR_SOURCE_UNAVAILABLE, 3, 5, 0, true, 300000},
        {"fourth of five: the last delay again", ERR_STORAGE_UNAVAILABLE, 4, 5, 0, true, 300000},
        {"the last", ERR_SOURCE_UNAVAILABLE, 3, 3, 0, false, 0},
        {"one past the last", ERR_SOURCE_UNAVAILABLE, 4, 3, 0, false, 0},
        {"one attempt only", ERR_SOURCE_TIMEOUT, 1, 1, 0, false, 0},
        {"timeout", ERR_SOURCE_TIMEOUT, 1, 3, 0, true, 10000},
        {"conflict", ERR_SOURCE_CONFLICT, 1, 3, 0, true, 10000},
        {"internal", ERR_INTERNAL, 1, 3, 0, true, 10000},
        {"login refused", ERR_SOURCE_AUTH, 1, 3, 0, false, 0},
        {"query failed", ERR_SOURCE_QUERY, 1, 3, 0, false, 0},
        {"query's time", ERR_QUERY_TIMEOUT, 1, 3, 0, false, 0},
        {"task's time", ERR_TASK_TIMEOUT, 1, 3, 0, false, 0},
        {"rows", ERR_ROW_LIMIT, 1, 3, 0, false, 0},
        {"size", ERR_SIZE_LIMIT, 1, 3, 0, false, 0},
        {"encoding", ERR_ENCODE_FAILED, 1, 3, 0, false, 0},
        {"denied", ERR_STORAGE_DENIED, 1, 3, 0, false, 0},
        {"full", ERR_STORAGE_FULL, 1, 3, 0, false, 0},
        {"definition", ERR_DEFINITION_CHANGED, 1, 3, 0, false, 0},
        {"a dead worker: at once", ERR_WORKER_LOST, 1, 3, 0, true, 0},
        {"dead three times", ERR_WORKER_LOST, 3, 3, 0, false, 0},
        {"memory: once", ERR_MEMORY_LIMIT, 1, 3, 0, true, 10000},
        {"memory: not twice", ERR_MEMORY_LIMIT, 2, 3, 1, false, 0},
        {"memory before, another reason now", ERR_SOURCE_TIMEOUT, 2, 3, 1, true, 60000},
        {"never taken", ERR_SOURCE_TIMEOUT, 0, 3, 0, true, 10000},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const QueueRecord r = {.attempt = cases[i].attempt,
            .max_attempts = cases[i].max_attempts,
            .memory_limits = cases[i].memory_limits};
        int64_t least = INT64_MAX, most = 0;

        for (int draw = 0; draw < 200; draw++) {
            RetryVerdict verdict = retry_decide(&r, cases[i].code, config, now_us);
            int64_t wait_us = verdict.available_us - now_us;

            if (verdict.again != cases[i].again)
                fail_msg("%s: %s", cases[i].name, verdict.again ? "again" : "failed");
            if (!verdict.again)
                continue;
            if (wait_us < 0 || wait_us > cases[i].wait_ms_max * ms)
                fail_msg("%s: waits %d ms", cases[i].name, (int)(wait_us / ms));
            least = wait_us < least ? wait_us : least;
            most = wait_us > most ? wait_us : most;
        }
        /* Full jitter: anything from nothing to the whole wait. */
        if (cases[i].again && cases[i].wait_ms_max > 0 &&
            (least > cases[i].wait_ms_max * ms / 10 || most < cases[i].wait_ms_max * ms * 9 / 10))
            fail_msg("%s: waits between %d and %d ms", cases[i].name, (int)(least / ms),
                (int)(most / ms));
    }
}

static void
test_write(void **state)
{
    static const struct {
        const char *name;
        ErrCode code;
        int attempt, give_backs;
        bool cancel;
        QueueWriteOp op;
        const char *error_code, *outcome;
    } cases[] = {
        {"again", ERR_SOURCE_TIMEOUT, 1, 0, false, QUEUE_RETRY, "source-timeout", "retried"},
        {"no more", ERR_SOURCE_TIMEOUT, 3, 0, false, QUEUE_FAIL, "source-timeout", "failed"},
        {"for good", ERR_SOURCE_QUERY, 1, 0, false, QUEUE_FAIL, "source-query", "failed"},
        {"cancelled", ERR_CANCELLED, 1, 0, true, QUEUE_CANCELLED_NOW, "cancelled", "cancelled"},
        {"cancelled, failed on the way", ERR_SOURCE_TIMEOUT, 1, 0, true, QUEUE_CANCELLED_NOW,
            "cancelled", "cancelled"},
        {"cancelled, its worker died", ERR_WORKER_LOST, 1, 0, true, QUEUE_CANCELLED_NOW,
            "cancelled", "cancelled"},
        {"given back", ERR_GIVEN_BACK, 1, 0, false, QUEUE_GIVE_BACK, NULL, "given-back"},
        {"given back in the last attempt", ERR_GIVEN_BACK, 3, 9, false, QUEUE_GIVE_BACK, NULL,
            "given-back"},
        {"given back too often", ERR_GIVEN_BACK, 1, 10, false, QUEUE_RETRY, "given-back",
            "retried"},
        {"given back too often, no more", ERR_GIVEN_BACK, 3, 10, false, QUEUE_FAIL, "given-back",
            "failed"},
        {"given back, but cancelled", ERR_GIVEN_BACK, 1, 0, true, QUEUE_CANCELLED_NOW, "cancelled",
            "cancelled"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const QueueRecord r = {.id = "t1",
            .epoch = 5,
            .attempt = cases[i].attempt,
            .max_attempts = 3,
            .give_backs = cases[i].give_backs,
            .cancel_us = cases[i].cancel ? now_us : 0,
            .owner = "celery@\"host\"",
            .attempt_us = now_us - 1500 * ms,
            .stage = STAGE_STREAMING,
            .rows = 17,
            .peak_bytes = 99};
        QueueWrite w;
        Err why = {0}, e = {0};
        json_t *entry;

        end_with(&why, cases[i].code);
        assert_true(retry_write(&r, &why, config, now_us, arena, &w, &e));
        if (w.op != cases[i].op)
            fail_msg("%s: op %d", cases[i].name, (int)w.op);
        assert_string_equal(w.id, "t1");
        assert_int_equal(w.epoch, 5);
        assert_int_equal(w.stage, STAGE_STREAMING);
        assert_int_equal(w.rows, 17);
        assert_false(w.if_lease_over);
        if ((w.error_code == NULL) != (cases[i].error_code == NULL) ||
            (w.error_code && strcmp(w.error_code, cases[i].error_code) != 0))
            fail_msg("%s: %s", cases[i].name, w.error_code ? w.error_code : "NULL");
        /* The sentence is for people and has no host in it; the chain is for operators. */
        assert_int_equal(w.error != NULL, w.op == QUEUE_FAIL || w.op == QUEUE_CANCELLED_NOW);
        if (w.error)
            assert_null(strstr(w.error, "db.local"));
        assert_non_null(strstr(w.error_detail, "no answer from db.local"));
        entry = json_parse(w.attempt_entry, strlen(w.attempt_entry), 4, &e);
        assert_non_null(entry);
        assert_int_equal(json_int_or(entry, "n", -1), cases[i].attempt);
        assert_string_equal(json_text_or(entry, "worker", ""), "celery@\"host\"");
        assert_string_equal(json_text_or(entry, "started_at", ""), "2024-01-01T11:59:58.500Z");
        assert_string_equal(json_text_or(entry, "ended_at", ""), "2024-01-01T12:00:00.000Z");
        assert_string_equal(json_text_or(entry, "outcome", ""), cases[i].outcome);
        assert_string_equal(json_text_or(entry, "error_code", ""), err_name(cases[i].code));
        assert_string_equal(json_text_or(entry, "stage", ""), "streaming");
        assert_int_equal(json_int_or(entry, "rows", -1), 17);
        json_decref(entry);
    }
}

/* A record without an owner (its worker is long gone), and one with an endless one. */
static void
test_write_of_orphans(void **state)
{
    char owner[5000];
    QueueRecord r = {.id = "t", .attempt = 1, .max_attempts = 3, .owner = NULL};
    QueueWrite w;
    Err why = {0}, e = {0};
    json_t *entry;

    (void)state;
    end_with(&why, ERR_WORKER_LOST);
    assert_true(retry_write(&r, &why, config, now_us, arena, &w, &e));
    memset(owner, '\x01', sizeof owner - 1);
    owner[sizeof owner - 1] = '\0';
    r.owner = owner;
    assert_true(retry_write(&r, &why, config, now_us, arena, &w, &e));
    entry = json_parse(w.attempt_entry, strlen(w.attempt_entry), 4, &e);
    assert_non_null(entry);
    json_decref(entry);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_of_orphans),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
