/* What others watch the service by (api-surface.md 14): /health, /livez, /readyz, /metrics. */
#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/api_in.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/process.h"
#include "base/time.h"
#include "base/version.h"

/* What a worker said of a source counts so long. */
static const int64_t word_us = 10 * 60000000LL;

enum { READY_WAIT_MS = 2000, METRICS_BYTES_MAX = 4 << 20, SERIES_BYTES = 320 };

bool
health_show(Call *call, Err *e)
{
    return call_answer_json(call, 200, json_pack("{s:s}", "status", "ok"), e);
}

/* --- sources --- */

static void
put(MetricPage *page, MetricId id, double value, const char *label, const char *second)
{
    const char *const labels[] = {label, second, NULL};
    char series[SERIES_BYTES];

    metric_page_put(page, metric_series(id, 0, series, sizeof series, labels), value);
}

/* What workers found: this process may not know how to reach a source. */
typedef struct {
    const Config *config;
    int64_t now_us;
    json_t *sources;  /* or … */
    MetricPage *page; /* … NULL */
} SourcesShown;

static json_t *
show_source(const QueueSource *source)
{
    char at[TIME_TEXT_BYTES];
    json_t *shown = json_pack("{s:b, s:s}", "ok", (int)!*source->code, "checked_at",
        time_rfc3339_ms(source->checked_us, at));
    ErrCode code = err_code_of(source->code);

    if (source->took_ms >= 0)
        json_object_set_new(shown, "ms", json_integer(source->took_ms));
    if (*source->code) {
        json_object_set_new(shown, "code", json_string(source->code));
        json_object_set_new(
            shown, "error", json_string(err_sentence(code == ERR_NONE ? ERR_INTERNAL : code)));
    }
    return shown;
}

/* Of those that the configuration names; an old word is none. */
static bool
add_source(const QueueSource *source, void *with)
{
    SourcesShown *s = with;

    if (!config_find_source(s->config, source->name) || source->checked_us < s->now_us - word_us ||
        source->checked_us > s->now_us + word_us)
        return true;
    if (s->page)
        put(s->page, METRIC_SOURCE_UP, !*source->code, source->name, NULL);
    else
        json_object_set_new(s->sources, source->name, show_source(source));
    return true;
}

/* Each one that is configured; {"ok": null} where nobody has tried it of late. */
static json_t *
show_sources(Call *call)
{
    const Config *config = call->setup->config;
    SourcesShown shown = {.config = config, .now_us = time_wall_us(), .sources = json_object()};
    Err e = {0};
    Queue *queue = hands_queue(call->hands, &e);

    for (size_t i = 0; i < config->sources; i++)
        json_object_set_new(shown.sources, config->source[i].name, json_pack("{s:n}", "ok"));
    if (!queue || !call->api->queue_kind->visit_sources(queue, add_source, &shown, &e))
        log_event(LOG_WARNING, "readiness.incomplete", log_err(&e));
    return shown.sources;
}

/* --- readiness --- */

/* One look at one of our stores. It goes on although nobody waits for it any more: a store that
 * hangs holds one thread, not one for each question. */
typedef struct {
    const char *name;
    bool runs, ok;
    int64_t began_ms, took_ms;
    const char *promise; /* of the queue */
    Err e;
} Check;

struct Readiness {
    Api *api;
    int told; /* eventfd: a look has ended */
    pthread_mutex_t lock;
    Check queue, storage; /* under `lock` */
    WriterJob queue_job;
    AskerJob storage_job;
    Setup *setup; /* that the storage is looked at with; the loop's alone. NULL: none */
};

Readiness *
readiness_new(Api *api, Err *e)
{
    Readiness *r = arena_alloc(api->process, sizeof *r, e);

    if (!r)
        return NULL;
    r->api = api;
    r->queue.name = "queue";
    r->storage.name = "storage";
    pthread_mutex_init(&r->lock, NULL);
    r->told = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->told >= 0)
        return r;
    fail(e, INTERNAL, "no eventfd: %m");
    return NULL;
}

/* The loop's thread. */
static void
drop_setup(Readiness *r)
{
    if (r->setup)
        setup_release(r->setup);
    r->setup = NULL;
}

void
readiness_free(Readiness *r)
{
    drop_setup(r);
    close(r->told);
    pthread_mutex_destroy(&r->lock);
}

int
readiness_fd(const Readiness *r)
{
    return r->told;
}

void
readiness_told(void *with)
{
    Api *api = with;
    uint64_t times;

    if (read(api->readiness->told, &times, sizeof times) == (ssize_t)sizeof times)
        server_wake(api->server);
}

/* Any thread. */
static void
end_check(Readiness *r, Check *check, bool ok, const char *promise, const Err *e)
{
    const uint64_t once = 1;
    ssize_t wrote;

    pthread_mutex_lock(&r->lock);
    check->runs = false;
    check->ok = ok;
    check->promise = promise;
    check->took_ms = time_now_ms() - check->began_ms;
    if (!ok)
        check->e = *e;
    pthread_mutex_unlock(&r->lock);
    wrote = write(r->told, &once, sizeof once);
    (void)wrote; /* full only if there is news to be read already */
}

static void
queue_was_checked(WriterJob *job)
{
    Readiness *r = job->with;

    end_check(r, &r->queue, job->ok, job->as.promise, &job->e);
}

static void
check_storage(AskerJob *job, Hands *hands)
{
    Readiness *r = job->with;
    Err e = {0};
    Storage *storage = hands_storage(hands, r->setup->config, r->setup->number, &e);

    end_check(r, &r->storage, storage && hands->storage_kind->check(storage, &e), NULL, &e);
}

static bool
begin_check(Readiness *r, Check *check)
{
    bool begins;

    pthread_mutex_lock(&r->lock);
    begins = !check->runs;
    if (begins) {
        check->runs = true;
        check->began_ms = time_now_ms();
        err_clear(&check->e);
    }
    pthread_mutex_unlock(&r->lock);
    return begins;
}

void
readiness_look(Readiness *r)
{
    Err e = {0};

    if (begin_check(r, &r->queue)) {
        r->queue_job = (WriterJob){.op = WRITER_CHECK, .done = queue_was_checked, .with = r};
        if (!writer_add(r->api->writer, &r->queue_job, &e))
            end_check(r, &r->queue, false, NULL, &e);
    }
    err_clear(&e);
    if (begin_check(r, &r->storage)) {
        drop_setup(r); /* of the look before, which has ended */
        r->setup = r->api->setup;
        r->setup->users++;
        r->storage_job = (AskerJob){.run = check_storage, .with = r};
        if (!askers_add(r->api->askers, &r->storage_job, &e))
            end_check(r, &r->storage, false, NULL, &e);
    }
}

static json_t *
show_check(const Check *check)
{
    bool ok = check->ok && !check->runs;
    int64_t ms = check->runs ? time_now_ms() - check->began_ms : check->took_ms;
    json_t *shown = json_pack("{s:b, s:I}", "ok", (int)ok, "ms", (json_int_t)ms);

    if (ok && check->promise)
        json_object_set_new(shown, "durability", json_string(check->promise));
    if (!ok)
        json_object_set_new(shown, "error",
            json_string(check->runs ? "no answer yet" : err_sentence(check->e.code)));
    if (!ok)
        log_event(LOG_WARNING, "readiness.failed", log_text("check", check->name),
            log_number("ms", ms), log_bool("hangs", check->runs),
            check->runs ? log_text("error", NULL) : log_err(&check->e));
    return shown;
}

static bool
show_readiness(Call *call, Err *e)
{
    const Readiness *r = call->api->readiness;
    const Config *config = call->setup->config;
    bool queue_is_good = r->queue.ok && !r->queue.runs;
    bool ready = queue_is_good && r->storage.ok && !r->storage.runs;
    json_t *body = json_pack("{s:s, s:{s:o, s:o}}", "status", ready ? "ok" : "unavailable",
        "checks", r->queue.name, show_check(&r->queue), r->storage.name, show_check(&r->storage));

    /* A source that is down is no reason to turn requests away: the queue keeps them. */
    if (queue_is_good)
        json_object_set_new(body, "sources", show_sources(call));
    if (config->listens_beyond_loopback)
        json_object_set_new(body, "warnings",
            json_pack(
                "[s]", config->auth_is_set
                           ? "open to everyone who can connect: ROWFERRY_AUTH=none"
                           : "protected mode: ROWFERRY_AUTH is not set, only private addresses "
                             "are answered"));
    return call_answer_json(call, ready ? 200 : 503, body, e);
}

/* call->own: until when, by time_now_ms(). */
static bool
look_at_readiness(Call *call, Err *e)
{
    Readiness *r = call->api->readiness;
    const int64_t *until_ms = call->own;
    bool ok;

    pthread_mutex_lock(&r->lock);
    if ((r->queue.runs || r->storage.runs) && call_may_wait(call, *until_ms)) {
        pthread_mutex_unlock(&r->lock);
        return call_wait(call, *until_ms, look_at_readiness);
    }
    ok = show_readiness(call, e);
    pthread_mutex_unlock(&r->lock);
    return ok;
}

bool
health_ready(Call *call, Err *e)
{
    int64_t *until_ms = arena_alloc(call->req->arena, sizeof *until_ms, e);

    if (!until_ms)
        return false;
    *until_ms = time_now_ms() + READY_WAIT_MS;
    call->own = until_ms;
    call->why = RESUME_WOKEN;
    readiness_look(call->api->readiness);
    return look_at_readiness(call, e);
}

/* --- metrics --- */

/* What is known before anything happened: a counter that begins at 0 shows its first step. */
static void
put_zeros(MetricPage *page, const Call *call)
{
    const TypeSet *types = call->setup->types;

    for (size_t i = 0; i < types->types; i++) {
        put(page, METRIC_EXPORTS_RUNNING, 0, types->type[i].name, NULL);
        for (const EncoderKind *const *format = call->api->kinds->format; *format; format++)
            put(page, METRIC_EXPORTS_REQUESTED, 0, types->type[i].name, (*format)->name);
    }
    put(page, METRIC_STORAGE_OBJECTS, 0, NULL, NULL);
    put(page, METRIC_STORAGE_BYTES, 0, NULL, NULL);
    put(page, METRIC_CLEANUP_RUNS, 0, "ok", NULL);
    put(page, METRIC_CLEANUP_DELETED, 0, NULL, NULL);
}

static double
open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    double count = -3; /* ".", ".." and the folder itself */

    if (!folder)
        return 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void
put_process(MetricPage *page, const Api *api)
{
    struct rusage used;

    put(page, METRIC_BUILD_INFO, 1, ROWFERRY_VERSION, version_commit());
    if (getrusage(RUSAGE_SELF, &used) == 0)
        put(page, METRIC_PROCESS_CPU,
            (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
            NULL, NULL);
    put(page, METRIC_PROCESS_RESIDENT, (double)process_resident_bytes(getpid()), NULL, NULL);
    put(page, METRIC_PROCESS_FDS, open_fds(), NULL, NULL);
    put(page, METRIC_PROCESS_START, (double)api->started_us / 1e6, NULL, NULL);
}

static bool
put_total(const char *series, double value, void *with)
{
    metric_page_put(with, series, value);
    return true;
}

static bool
put_running(const QueueRecord *record, void *with, Err *e)
{
    (void)e;
    if (strcmp(record->task, QUEUE_TASK_EXPORT) == 0)
        put(with, METRIC_EXPORTS_RUNNING, 1, record->export_type, NULL);
    return true;
}

/* Of the whole service, as the queue keeps them. */
static bool
put_totals(MetricPage *page, Call *call, Err *e)
{
    const QueueKind *kind = call->api->queue_kind;
    Queue *queue = hands_queue(call->hands, e);
    const QueueFilter running = {.running = true};
    SourcesShown sources = {.config = call->setup->config, .now_us = time_wall_us(), .page = page};
    QueueCounts counts;
    double oldest_s;

    if (!queue || !kind->visit_totals(queue, put_total, page, e) ||
        !kind->visit(queue, &running, put_running, page, e) ||
        !kind->visit_sources(queue, add_source, &sources, e) || !kind->count(queue, &counts, e))
        return false;
    oldest_s = counts.oldest_us > 0 ? (double)(time_wall_us() - counts.oldest_us) / 1e6 : 0;
    put(page, METRIC_QUEUE_DEPTH, (double)counts.depth, EXPORT_QUEUE, NULL);
    put(page, METRIC_QUEUE_OLDEST, oldest_s > 0 ? oldest_s : 0, EXPORT_QUEUE, NULL);
    put(page, METRIC_WORKERS, counts.workers, "online", NULL);
    return true;
}

bool
metrics_show(Call *call, Err *e)
{
    Response *answer = &call->req->answer;
    MetricPage *page;
    Err why = {0};

    if (!call->req->peer_is_private)
        return fail(e, UNAUTHENTICATED, "metrics are for private addresses");
    if (!(page = metric_page_new()))
        return fail(e, INTERNAL, "no memory for the metrics");
    put_zeros(page, call);
    metric_page_local(page);
    put_process(page, call->api);
    /* Without the queue this process's own numbers matter all the more. */
    if (!put_totals(page, call, &why))
        log_event(LOG_WARNING, "metrics.incomplete", log_err(&why));
    buf_free(&answer->body);
    answer->body = buf_new(METRICS_BYTES_MAX);
    metric_page_print(page, &answer->body);
    metric_page_free(page);
    answer->status = 200;
    answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
    response_header(answer, "Cache-Control", "no-store");
    return buf_is_good(&answer->body, e);
}
