#include "export/plan.h"

#include "export/key.h"

bool
plan_make(const ExportRequest *request, const ConfigSource *source, const Kinds *kinds,
    const StorageKind *storage_kind, Storage *storage, const char *key, const Upload *mark,
    Arena *task, ExportPlan *plan, Err *e)
{
    const SourceKind *kind = kinds_source(kinds, source->url);
    SourceParallel *parallel = arena_alloc(task, sizeof *parallel, e);
    SourceSpec spec;

    if (!parallel)
        return false;
    if (!kind)
        return fail(e, SOURCE_UNAVAILABLE, "no driver for the URL of source %s", source->name);
    spec = type_spec(request->type, kind, source, parallel);
    spec.param = request->param;
    spec.params = request->params;
    spec.task_id = mark->task_id;
    if (!spec.query)
        return fail(e, SOURCE_QUERY, "%s has no query for %s", request->type->name, kind->name);
    *plan = (ExportPlan){
        .source = kind,
        .spec = spec,
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
    if (!plan->format || !plan->codec)
        return fail(e, INTERNAL, "this program does not have %s with %s", request->format,
            request->compression);
    plan->mark.export_type = request->type->name;
    if (!plan->mark.name)
        plan->mark.name = request->filename ? request->filename : key ? key_file(key) : NULL;
    if (!plan->mark.content_type)
        plan->mark.content_type =
            plan->codec->content_type ? plan->codec->content_type : plan->format->content_type;
    return true;
}
