#include "export/retry.h"

#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/text.h"
#include "base/time.h"
#include "export/state.h"

enum { GIVE_BACKS_MAX = 10 };

/* Full jitter: anything from nothing to the whole wait, so that a herd comes back one by one. */
static int64_t
jittered(int64_t wait_ms)
{
    uint64_t random;

    if (wait_ms <= 0 || getrandom(&random, sizeof random, 0) != sizeof random)
        return wait_ms;
    return (int64_t)(random % (uint64_t)(wait_ms + 1));
}

RetryVerdict
retry_decide(const QueueRecord *record, ErrCode code, const Config *config, int64_t now_us)
{
    unsigned last = config->retry_delay_count > 0 ? config->retry_delay_count - 1 : 0;
    unsigned at = record->attempt > 0 ? (unsigned)record->attempt - 1 : 0;
    int64_t wait_ms =
        config->retry_delay_count > 0 ? config->retry_delay_ms[at < last ? at : last] : 0;
    ErrRetry retry = err_retry(code);
    RetryVerdict verdict = {.available_us = now_us + jittered(wait_ms) * 1000};

    /* A dead child or worker says nothing about the database: the next attempt need not wait for
     * it. */
    if (code == ERR_WORKER_LOST)
        verdict.available_us = now_us;
    verdict.again = retry != ERR_RETRY_NEVER && record->attempt < record->max_attempts &&
                    !(retry == ERR_RETRY_ONCE && record->memory_limits > 0);
    return verdict;
}

static const char *
attempt_entry(const QueueRecord *record, const char *outcome, ErrCode code, int64_t now_us,
    Arena *arena, Err *e)
{
    char started[TIME_TEXT_BYTES], ended[TIME_TEXT_BYTES];
    Buf text = buf_new(4096);
    const char *entry = NULL;

    buf_printf(&text, "{\"n\":%d,\"worker\":", record->attempt);
    text_json_string(
        &text, record->owner ? record->owner : "", record->owner ? strlen(record->owner) : 0, 128);
    buf_printf(&text,
        ",\"started_at\":\"%s\",\"ended_at\":\"%s\",\"outcome\":\"%s\",\"error_code\":\"%s\","
        "\"stage\":\"%s\",\"rows\":%llu}",
        time_rfc3339_ms(record->attempt_us, started), time_rfc3339_ms(now_us, ended), outcome,
        err_name(code), stage_name(record->stage), (unsigned long long)record->rows);
    if (buf_is_good(&text, e))
        entry = arena_bytes(arena, text.data, text.bytes, e);
    buf_free(&text);
    return entry;
}

bool
retry_write(const QueueRecord *record, const Err *e, const Config *config, int64_t now_us,
    Arena *arena, QueueWrite *write, Err *e2)
{
    RetryVerdict verdict = retry_decide(record, e->code, config, now_us);
    char chain[2048];
    const char *outcome;

    *write = (QueueWrite){
        .id = record->id,
        .epoch = record->epoch,
        .stage = record->stage,
        .rows = record->rows,
        .peak_bytes = record->peak_bytes,
    };
    if (e->code == ERR_CANCELLED || (record->cancel_us > 0 && e->code != ERR_LEASE_LOST)) {
        write->op = QUEUE_CANCELLED_NOW;
        write->error_code = err_name(ERR_CANCELLED);
        write->error = err_sentence(ERR_CANCELLED);
        outcome = "cancelled";
    } else if (e->code == ERR_GIVEN_BACK && record->give_backs < GIVE_BACKS_MAX) {
        write->op = QUEUE_GIVE_BACK;
        outcome = "given-back";
    } else if (verdict.again) {
        write->op = QUEUE_RETRY;
        write->available_us = verdict.available_us;
        write->error_code = err_name(e->code);
        outcome = "retried";
    } else {
        write->op = QUEUE_FAIL;
        write->error_code = err_name(e->code);
        write->error = err_sentence(e->code);
        outcome = "failed";
    }
    write->error_detail = arena_text(arena, err_chain(e, chain, sizeof chain), e2);
    write->attempt_entry = attempt_entry(record, outcome, e->code, now_us, arena, e2);
    return write->error_detail && write->attempt_entry;
}
