/* Sweep: deletes files that are due, unfinished uploads nobody owns, and old records. Runs in a
 * child, as a task; twice is harmless. */
#ifndef EXPORT_SWEEP_H
#define EXPORT_SWEEP_H

#include "base/watch.h"
#include "export/kinds.h"

typedef struct {
    uint64_t deleted, deleted_bytes, uploads_removed, records_purged, objects, bytes;
} SweepResult;

/* A file that cannot be deleted does not keep the others; in the end it fails with the first one's
 * reason. Opens its own queue and storage handles. A file is due when its record's retain_us has
 * passed, without record when it is older than config->retention_ms. */
bool sweep_run(const Config *config, const Kinds *kinds, Watch *watch, Arena *task,
    SweepResult *result, Err *e) MUST_CHECK;

#endif
