#include "export/state.h"

#define BIT(state) (1u << STATE_##state)
#define ENDS (BIT(RETRYING) | BIT(CANCELLING) | BIT(CANCELLED) | BIT(FAILED))

static const struct {
    const char *name, *status;
    unsigned may_become;
} states[STATES] = {
#define STATE(state, status, may_become) [STATE_##state] = {#state, status, may_become},
#include "export/state.def"
#undef STATE
};

static char names[STATES][16];

__attribute__((constructor)) static void
make_names(void)
{
    for (unsigned s = 0; s < STATES; s++)
        for (unsigned i = 0; states[s].name[i] && i < sizeof names[s] - 1; i++)
            names[s][i] = (char)(states[s].name[i] | 0x20);
}

static ExportState
running_state(Stage stage)
{
    switch (stage) {
    case STAGE_STARTING:
        return STATE_STARTING;
    case STAGE_QUERYING:
        return STATE_QUERYING;
    case STAGE_STREAMING:
        return STATE_STREAMING;
    case STAGE_FINISHING:
        return STATE_FINISHING;
    }
    return STATE_STARTING;
}

ExportState
state_of(const QueueRecord *record, int64_t now_us)
{
    switch (record->phase) {
    case QUEUE_QUEUED:
        /* What has run once does not look queued again. */
        if (record->started_us > 0)
            return STATE_RETRYING;
        return record->available_us > now_us ? STATE_SCHEDULED : STATE_QUEUED;
    case QUEUE_RUNNING:
        return record->cancel_us > 0 ? STATE_CANCELLING : running_state(record->stage);
    case QUEUE_PREPARED:
        return STATE_FINISHING;
    case QUEUE_COMPLETED:
        return STATE_COMPLETED;
    case QUEUE_EXPIRED:
        return STATE_EXPIRED;
    case QUEUE_FAILED:
        return STATE_FAILED;
    case QUEUE_CANCELLED:
        return STATE_CANCELLED;
    }
    return STATE_FAILED;
}

const char *
state_name(ExportState state)
{
    return names[state];
}

const char *
state_status(ExportState state)
{
    return states[state].status;
}

bool
state_may_become(ExportState from, ExportState to)
{
    return states[from].may_become >> to & 1;
}

bool
state_is_final(ExportState state)
{
    return state == STATE_COMPLETED || state == STATE_EXPIRED || state == STATE_FAILED ||
           state == STATE_CANCELLED;
}

const char *
stage_name(Stage stage)
{
    return names[running_state(stage)];
}

int
progress_of(Stage stage, uint64_t rows, int64_t rows_estimated, int before)
{
    int now = 10;

    switch (stage) {
    case STAGE_STARTING:
        now = 10;
        break;
    case STAGE_QUERYING:
        now = 20;
        break;
    case STAGE_STREAMING:
        if (rows_estimated > 0)
            now = rows >= (uint64_t)rows_estimated
                      ? 69
                      : 40 + (int)(29.0 * (double)rows / (double)rows_estimated);
        else
            now = 40 + (int)(29.0 * (double)rows / ((double)rows + 1e6));
        break;
    case STAGE_FINISHING:
        now = 70;
        break;
    }
    return now > before ? now : before;
}
