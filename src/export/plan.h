/*
 * Plan: names become kinds, limits become numbers. All that export_run needs, and nothing else.
 */
#ifndef EXPORT_PLAN_H
#define EXPORT_PLAN_H

#include "export/kinds.h"
#include "export/request.h"
#include "export/type.h"

typedef struct {
    const SourceKind *source;
    SourceSpec spec;
    const EncoderKind *format;
    EncoderOptions options;
    const CodecKind *codec;
    const StorageKind *storage_kind;
    Storage *storage;
    const char *key;
    Upload mark;
    uint64_t row_limit; /* ROW_LIMIT above; 0: none */
    bool hashes;        /* export_into: tell the SHA-256, too; export_run always does */
} ExportPlan;

/* `source`, `storage` and what they point to outlive the plan. SOURCE_UNAVAILABLE when no driver
 * takes the URL, SOURCE_QUERY when the type has no query for it. */
bool plan_make(const ExportRequest *request, const ConfigSource *source, const Kinds *kinds,
    const StorageKind *storage_kind, Storage *storage, const char *key, const Upload *mark,
    Arena *task, ExportPlan *plan, Err *e) MUST_CHECK;

#endif
