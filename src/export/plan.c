#include "export/plan.h"

bool
plan_make(const ExportRequest *request, const ConfigSource *source, const Kinds *kinds,
    const StorageKind *storage_kind, Storage *storage, const char *key, const Upload *mark,
    Arena *task, ExportPlan *plan, Err *e)
{
    const SourceKind *kind = kinds_source(kinds, source->url);
    const char *query = kind ? type_query(request->type, kind->name) : NULL;
    SourceParallel *parallel = arena_alloc(task, sizeof *parallel, e);

    if (!parallel)
        return false;
    if (!kind)
        return fail(e, SOURCE_UNAVAILABLE, "no driver for the URL of source %s", source->name);
    if (!query)
        return fail(e, SOURCE_QUERY, "%s has no query for %s", request->type->name, kind->name);
    *plan = (ExportPlan){
        .source = kind,
        .spec = kinds_source_spec(source),
        .format = kinds_format(kinds, request->format),
        .options = request->options,
        .codec = kinds_codec(kinds, request->compression),
        .storage_kind = storage_kind,
        .storage = storage,
        .key = key,
        .mark = *mark,
        .row_limit = request->row_limit,
        .hashes = true,
    };
    plan->spec.query = query;
    plan->spec.param = request->param;
    plan->spec.params = request->params;
    plan->spec.column = request->type->column;
    plan->spec.type_given = request->type->column_type_given;
    plan->spec.columns = request->type->columns;
    plan->spec.task_id = mark->task_id;
    *parallel = type_parallel(request->type, kind, source);
    plan->spec.parallel = parallel->connections > 0 ? parallel : NULL;
    if (!plan->format || !plan->codec)
        return fail(e, INTERNAL, "this program does not have %s with %s", request->format,
            request->compression);
    if (!plan->mark.content_type)
        plan->mark.content_type =
            plan->codec->content_type ? plan->codec->content_type : plan->format->content_type;
    return true;
}
