/* Pipeline: the loop from source to storage. Only this file joins a source to a sink. */
#ifndef EXPORT_PIPELINE_H
#define EXPORT_PIPELINE_H

#include "base/watch.h"
#include "export/plan.h"

typedef struct {
    uint64_t rows;
    uint64_t raw_bytes;       /* before the codec */
    uint64_t stored_bytes;    /* the object's size */
    const char *sha256;       /* of the object; task arena; NULL: not asked for */
    const char *sealed;       /* storage.h; task arena */
    int64_t snapshot_wall_us; /* 0: unknown */
} ExportResult;

/*
 * Runs one export up to the published object. `watch->prepared` is called between "every byte is
 * safe" and "it is visible". On failure before that nothing is left behind; after it the object is
 * the next owner's to publish.
 */
bool export_run(
    const ExportPlan *plan, Watch *watch, Arena *task, ExportResult *result, Err *e) MUST_CHECK;

/* The same rows and bytes straight into `sink` (dump; nothing is stored, prepared is not called).
 */
bool export_into(const ExportPlan *plan, Sink *sink, Watch *watch, Arena *task,
    ExportResult *result, Err *e) MUST_CHECK;

#endif
