#include "export/pipeline.h"

#include <inttypes.h>

#include "export/ahead.h"

/* Sources and stores that were told to end do not know why. */
static bool
say_why(Watch *watch, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    Err why = {0};

    if (e->code == ERR_CANCELLED && !watch->go_on(watch, stage, rows, bytes, &why))
        *e = why;
    return false;
}

/* From source to encoder, batch by batch. Each turn tells the watch, and may be ended by it. */
static bool
pump(const ExportPlan *plan, Ahead *ahead, Encoder *encoder, const Sink *coded, Watch *watch,
    uint64_t *rows, Err *e)
{
    Batch batch;

    for (;;) {
        if (!ahead_next(ahead, &batch, e))
            return say_why(watch, STAGE_STREAMING, *rows, coded->bytes_in, e);
        if (batch.rows == 0)
            break;
        *rows += batch.rows;
        if (plan->row_limit > 0 && *rows > plan->row_limit)
            return fail(e, ROW_LIMIT, "more than %" PRIu64 " rows", plan->row_limit);
        if (!encoder_rows(encoder, &batch, e))
            return say_why(watch, STAGE_STREAMING, *rows, coded->bytes_in, e);
        if (!watch->go_on(watch, STAGE_STREAMING, *rows, coded->bytes_in, e))
            return false;
    }
    /* An empty result passes through STREAMING as well. */
    return *rows > 0 || watch->go_on(watch, STAGE_STREAMING, 0, coded->bytes_in, e);
}

/* Rows into a chain of sinks, up to its end: what a queued export and a dump have in common. */
static bool
encode(const ExportPlan *plan, Ahead *ahead, Sink *coded, Watch *watch, Arena *task,
    ExportResult *result, Err *e)
{
    const Source *source = ahead->source;
    Encoder *encoder = plan->format->open(source->schema, &plan->options, coded, task, e);

    if (!encoder)
        return false;
    if (watch->expect)
        watch->expect(watch, source->rows_estimated);
    if (!pump(plan, ahead, encoder, coded, watch, &result->rows, e))
        return false;
    if (!encoder_end(encoder, e))
        return say_why(watch, STAGE_STREAMING, result->rows, coded->bytes_in, e);
    result->raw_bytes = coded->bytes_in;
    result->snapshot_wall_us = source->snapshot_wall_us;
    if (!watch->go_on(watch, STAGE_FINISHING, result->rows, coded->bytes_in, e))
        return false;
    return sink_finish(coded, e) ||
           say_why(watch, STAGE_FINISHING, result->rows, coded->bytes_in, e);
}

bool
export_run(const ExportPlan *plan, Watch *watch, Arena *task, ExportResult *result, Err *e)
{
    Ahead ahead;
    Sink *stored = NULL, *hashed = NULL, *coded = NULL;
    bool ok = false, prepared = false;

    *result = (ExportResult){0};
    if (!watch->go_on(watch, STAGE_STARTING, 0, 0, e))
        return false;
    ahead_init(&ahead, watch);
    if (!(ahead.source = plan->source->open(&plan->spec, &ahead.watch, task, e)))
        goto out;
    if (!(stored = plan->storage_kind->create(
              plan->storage, plan->key, &plan->mark, watch, task, e))) {
        say_why(watch, STAGE_STARTING, 0, 0, e);
        goto out;
    }
    if (!(hashed = digest_open(stored, task, e)))
        goto out;
    if (!(coded = plan->codec->open(hashed, task, e)))
        goto out;
    if (!encode(plan, &ahead, coded, watch, task, result, e))
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
    ok = plan->storage_kind->publish(plan->storage, result->sealed, stored, e) ||
         say_why(watch, STAGE_FINISHING, result->rows, result->stored_bytes, e);
out:
    if (!prepared)
        sink_abort(coded ? coded : hashed ? hashed : stored);
    ahead_close(&ahead);
    return ok;
}

bool
export_into(
    const ExportPlan *plan, Sink *sink, Watch *watch, Arena *task, ExportResult *result, Err *e)
{
    Ahead ahead;
    Sink *hashed = sink, *coded = NULL;
    bool ok = false;

    *result = (ExportResult){0};
    ahead_init(&ahead, watch);
    if (!watch->go_on(watch, STAGE_STARTING, 0, 0, e))
        goto out;
    if (!(ahead.source = plan->source->open(&plan->spec, &ahead.watch, task, e)))
        goto out;
    if (plan->hashes && !(hashed = digest_open(sink, task, e)))
        goto out;
    if (!(coded = plan->codec->open(hashed, task, e)))
        goto out;
    if (!(ok = encode(plan, &ahead, coded, watch, task, result, e)))
        goto out;
    result->stored_bytes = sink->bytes_in;
    if (plan->hashes)
        result->sha256 = digest_hex(hashed);
out:
    if (!ok)
        sink_abort(coded ? coded : hashed ? hashed : sink);
    ahead_close(&ahead);
    return ok;
}
