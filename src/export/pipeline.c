#include "export/pipeline.h"

#include <inttypes.h>

/* From source to encoder, batch by batch. Each turn tells the watch, and may be ended by it. */
static bool
pump(const ExportPlan *plan, Source *source, Encoder *encoder, const Sink *coded, Watch *watch,
    uint64_t *rows, Err *e)
{
    Batch batch;

    for (;;) {
        if (!source_next(source, &batch, e))
            return false;
        if (batch.rows == 0)
            break;
        *rows += batch.rows;
        if (plan->row_limit > 0 && *rows > plan->row_limit)
            return fail(e, ROW_LIMIT, "more than %" PRIu64 " rows", plan->row_limit);
        if (!encoder_rows(encoder, &batch, e) ||
            !watch->go_on(watch, STAGE_STREAMING, *rows, coded->bytes_in, e))
            return false;
    }
    /* An empty result passes through STREAMING as well. */
    return *rows > 0 || watch->go_on(watch, STAGE_STREAMING, 0, coded->bytes_in, e);
}

/* Rows into a chain of sinks, up to its end: what a queued export and a dump have in common. */
static bool
encode(const ExportPlan *plan, Source *source, Sink *coded, Watch *watch, Arena *task,
    ExportResult *result, Err *e)
{
    Encoder *encoder = plan->format->open(source->schema, &plan->options, coded, task, e);

    if (!encoder)
        return false;
    if (watch->expect)
        watch->expect(watch, source->rows_estimated);
    if (!pump(plan, source, encoder, coded, watch, &result->rows, e) || !encoder_end(encoder, e))
        return false;
    result->raw_bytes = coded->bytes_in;
    result->snapshot_wall_us = source->snapshot_wall_us;
    return watch->go_on(watch, STAGE_FINISHING, result->rows, coded->bytes_in, e) &&
           sink_finish(coded, e);
}

bool
export_run(const ExportPlan *plan, Watch *watch, Arena *task, ExportResult *result, Err *e)
{
    Source *source = NULL;
    Sink *stored = NULL, *hashed = NULL, *coded = NULL;
    bool ok = false, prepared = false;

    *result = (ExportResult){0};
    if (!watch->go_on(watch, STAGE_STARTING, 0, 0, e))
        return false;
    if (!(source = plan->source->open(&plan->spec, watch, task, e)))
        goto out;
    if (!(stored =
                plan->storage_kind->create(plan->storage, plan->key, &plan->mark, watch, task, e)))
        goto out;
    if (!(hashed = digest_open(stored, task, e)))
        goto out;
    if (!(coded = plan->codec->open(hashed, task, e)))
        goto out;
    if (!encode(plan, source, coded, watch, task, result, e))
        goto out;
    result->stored_bytes = stored->bytes_in;
    result->sha256 = digest_hex(hashed);
    if (!(result->sealed = plan->storage_kind->sealed(stored, e)))
        goto out;

    /* From here on the file's content is fixed, and whoever owns the task may show it. */
    if (!watch->prepared(
            watch, result->sealed, result->rows, result->stored_bytes, result->sha256, e))
        goto out;
    prepared = true;
    ok = plan->storage_kind->publish(plan->storage, result->sealed, stored, e);
out:
    if (!prepared)
        sink_abort(coded ? coded : hashed ? hashed : stored);
    source_close(source);
    return ok;
}

bool
export_into(
    const ExportPlan *plan, Sink *sink, Watch *watch, Arena *task, ExportResult *result, Err *e)
{
    Source *source = NULL;
    Sink *hashed = NULL, *coded = NULL;
    bool ok = false;

    *result = (ExportResult){0};
    if (!watch->go_on(watch, STAGE_STARTING, 0, 0, e))
        goto out;
    if (!(source = plan->source->open(&plan->spec, watch, task, e)))
        goto out;
    if (!(hashed = digest_open(sink, task, e)))
        goto out;
    if (!(coded = plan->codec->open(hashed, task, e)))
        goto out;
    if (!(ok = encode(plan, source, coded, watch, task, result, e)))
        goto out;
    result->stored_bytes = sink->bytes_in;
    result->sha256 = digest_hex(hashed);
out:
    if (!ok)
        sink_abort(coded ? coded : hashed ? hashed : sink);
    source_close(source);
    return ok;
}
