/* State: what a user sees of an export's life (state.def), made from the queue's record. Pure. */
#ifndef EXPORT_STATE_H
#define EXPORT_STATE_H

#include "queue/queue.h"

typedef enum {
#define STATE(state, status, may_become) STATE_##state,
#include "export/state.def"
#undef STATE
    STATES
} ExportState;

ExportState state_of(const QueueRecord *record, int64_t now_us);
const char *state_name(ExportState state);   /* "streaming" */
const char *state_status(ExportState state); /* "processing": one of four */
bool state_may_become(ExportState from, ExportState to);
bool state_is_final(ExportState state); /* COMPLETED, EXPIRED, FAILED, CANCELLED */

/* "starting" "querying" "streaming" "finishing" */
const char *stage_name(Stage stage);

/*
 * Progress 0-100 of a running export (api-surface.md 3.2): 10 started, 40 first rows, 40-70 against
 * the estimate (or 40 + 29 * rows / (rows + 1,000,000)), 70 last row read, 70-99 finishing. Never
 * less than `before`.
 */
int progress_of(Stage stage, uint64_t rows, int64_t rows_estimated, int before);

#endif
