#include "child/child.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/time.h"
#include "child/frame.h"
#include "child/permit.h"
#include "export/pipeline.h"
#include "export/result.h"
#include "export/sweep.h"

enum {
    FILES_MAX = 64,
    GO_WAIT_MS = 30000,
    SEND_WAIT_MS = 30000,
    LOOK_MS = 100,
    PERMIT_LOOK_MS = 20,
    QUICK_MS = 20,
    PEAK_MS = 1000,
    CONFIG_BYTES_MAX = 16 << 20,
    TYPE_BYTES_MAX = 8 << 20,
    KEPT_BYTES_MAX = 4 << 20, /* of a task's memory, for the next one */
};

typedef struct {
    Watch watch; /* first, so that a Watch * is also a Child * */
    const Kinds *kinds;
    const Config *config;
    Arena *process;
    Arena *task;    /* rewound between two tasks, so that small ones need no new memory */
    Arena *of_type; /* the definition that was sent last: most often the next task has the same */
    json_t *definition; /* NULL: none */
    const ExportType *type;
    const StorageKind *storage_kind;
    Storage *storage;
    int socket;
    FramePage *page;
    Permits *permits; /* NULL: read at any time */
    Buf in;
    int64_t run;         /* number of the run; frames of earlier ones are void */
    int64_t deadline_ms; /* time_now_ms() clock; 0: none */
    int64_t begun_ms;    /* from the permit on */
    uint64_t peak_bytes; /* of this process, and when it was asked for */
    int64_t peak_ms;
    bool finishes;  /* this run has read its last row */
    bool publishes; /* this run may have made its file visible */
    bool quits;
    int idle_ms;          /* so long without work … */
    int64_t let_go_at_ms; /* … until then, sources keep their connections; 0: none has any */
} Child;

/* SIGTERM: the run that there is ends, and then the process. */
static volatile sig_atomic_t terminated;
static pid_t own_parent;

/* Only the parent's counts: service managers and terminals tell every process of a group, and the
 * parent is the one to say how exports end then. */
static void
note_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_pid == own_parent)
        terminated = 1;
}

/* --- talking --- */

static bool
send_all(Child *c, const Buf *frame, Err *e)
{
    size_t sent = 0;

    while (sent < frame->bytes) {
        ssize_t some =
            send(c->socket, frame->data + sent, frame->bytes - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (some > 0) {
            sent += (size_t)some;
        } else if (some < 0 && (errno == EAGAIN || errno == EINTR)) {
            struct pollfd wait = {.fd = c->socket, .events = POLLOUT};

            if (poll(&wait, 1, SEND_WAIT_MS) == 0)
                return fail(e, LEASE_LOST, "the parent does not listen");
        } else {
            return fail(e, LEASE_LOST, "the parent is gone: %m");
        }
    }
    return true;
}

/* Takes over `object`. */
static bool
say(Child *c, json_t *object, Err *e)
{
    Buf frame = buf_new(FRAME_BYTES_MAX + 64);
    bool ok = frame_put(&frame, object, e) && send_all(c, &frame, e);

    buf_free(&frame);
    return ok;
}

/* Reads what there is, waiting at most `wait_ms` (-1: for ever). False: the parent is gone. */
static bool
hear_bytes(Child *c, int wait_ms, Err *e)
{
    struct pollfd wait = {.fd = c->socket, .events = POLLIN};
    int ready = poll(&wait, 1, wait_ms);
    char *to;
    ssize_t got;

    if (ready == 0 || (ready < 0 && errno == EINTR))
        return true;
    if (!(to = buf_reserve(&c->in, 16 << 10)))
        return fail(e, INTERNAL, "too much from the parent");
    got = recv(c->socket, to, 16 << 10, MSG_DONTWAIT);
    if (got > 0)
        buf_wrote(&c->in, (size_t)got);
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        return fail(e, LEASE_LOST, "the parent is gone");
    return true;
}

/* --- the watch --- */

static bool
child_asked_to_end(Watch *w)
{
    Child *c = (Child *)w;

    atomic_fetch_add_explicit(&c->page->heartbeat, 1, memory_order_relaxed);
    return terminated || atomic_load_explicit(&c->page->asked, memory_order_relaxed) != 0 ||
           (c->deadline_ms > 0 && time_now_ms() > c->deadline_ms);
}

/* False and the reason, when there is one. */
static bool
may_go_on(Child *c, Err *e)
{
    ErrCode asked = (ErrCode)atomic_load_explicit(&c->page->asked, memory_order_relaxed);

    if (asked != ERR_NONE)
        return fail_code(e, asked, "the worker said so");
    if (terminated)
        return fail(e, GIVEN_BACK, "told to end");
    if (c->deadline_ms > 0 && time_now_ms() > c->deadline_ms)
        return fail(e, TASK_TIMEOUT, "the time limit has passed");
    return true;
}

static void
give_permit(Child *c)
{
    if (!c->permits || !atomic_load(&c->page->permit))
        return;
    atomic_store(&c->page->permit, 0);
    permits_give(c->permits);
}

static bool
take_permit(Child *c, Err *e)
{
    while (c->permits && !permits_take(c->permits, PERMIT_LOOK_MS)) {
        atomic_fetch_add_explicit(&c->page->heartbeat, 1, memory_order_relaxed);
        if (!may_go_on(c, e))
            return false;
    }
    if (c->permits)
        atomic_store(&c->page->permit, 1);
    c->begun_ms = time_now_ms();
    return true;
}

static bool
child_goes_on(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    Child *c = (Child *)w;

    atomic_store_explicit(&c->page->rows, rows, memory_order_relaxed);
    atomic_store_explicit(&c->page->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&c->page->stage, (uint32_t)stage, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->page->heartbeat, 1, memory_order_relaxed);
    if (!may_go_on(c, e))
        return false;
    if (stage != STAGE_FINISHING || c->finishes)
        return true;
    /* Another child may read while this one waits for the disk. */
    c->finishes = true;
    give_permit(c);
    return say(c,
        json_pack("{s:s, s:I, s:I}", "op", "finishing", "run", (json_int_t)c->run, "read_ms",
            (json_int_t)(time_now_ms() - c->begun_ms)),
        e);
}

static void
child_expects(Watch *w, int64_t rows_estimated)
{
    atomic_store_explicit(
        &((Child *)w)->page->rows_estimated, rows_estimated, memory_order_relaxed);
}

/* Until the parent has written down what was said. Frames that belong to an earlier run are
 * skipped. */
static bool
wait_for_go(Child *c, Err *e)
{
    int64_t until_ms = time_now_ms() + GO_WAIT_MS;

    for (;;) {
        json_t *frame = frame_take(&c->in, e);

        if (frame) {
            const char *op = json_text_or(frame, "op", "");
            bool is_go = strcmp(op, "go") == 0 && json_int_or(frame, "run", -1) == c->run;

            json_decref(frame);
            if (is_go)
                return true;
            continue;
        }
        if (e->links || !may_go_on(c, e))
            return false;
        if (time_now_ms() > until_ms)
            return fail(e, LEASE_LOST, "the worker does not answer");
        atomic_fetch_add_explicit(&c->page->heartbeat, 1, memory_order_relaxed);
        if (!hear_bytes(c, LOOK_MS, e))
            return false;
    }
}

static bool
child_uploads(Watch *w, const char *upload_id, Err *e)
{
    Child *c = (Child *)w;

    return say(c,
               json_pack("{s:s, s:I, s:s}", "op", "upload", "run", (json_int_t)c->run, "upload",
                   upload_id),
               e) &&
           wait_for_go(c, e);
}

/* Asking costs as much as a tenth of a tiny export, whose peak is that of the one before. */
static void
note_peak(Child *c)
{
    int64_t now_ms = time_now_ms();

    if (c->peak_bytes == 0 || now_ms - c->begun_ms > QUICK_MS || now_ms - c->peak_ms > PEAK_MS) {
        c->peak_bytes = process_peak_bytes();
        c->peak_ms = now_ms;
    }
    atomic_store_explicit(&c->page->peak_bytes, c->peak_bytes, memory_order_relaxed);
}

/* A limit of time ends no run whose file may be visible: the parent's own ends this process, and
 * the next one finds out. */
static bool
begin_to_publish(Child *c)
{
    c->deadline_ms = 0;
    return c->publishes = true;
}

static bool
child_prepared(
    Watch *w, const char *sealed, uint64_t rows, uint64_t bytes, const char *sha256, Err *e)
{
    Child *c = (Child *)w;

    note_peak(c);
    return say(c,
               json_pack("{s:s, s:I, s:s, s:I, s:I, s:s}", "op", "prepared", "run",
                   (json_int_t)c->run, "sealed", sealed, "rows", (json_int_t)rows, "bytes",
                   (json_int_t)bytes, "sha256", sha256),
               e) &&
           wait_for_go(c, e) && begin_to_publish(c);
}

/* --- the work --- */

static ConfigSource
read_source(const json_t *run)
{
    const json_t *source = json_object_get(run, "source");

    return (ConfigSource){
        .name = json_text_or(source, "name", ""),
        .url = json_text_or(source, "url", ""),
        .user = json_text_or(source, "user", NULL),
        .password = json_text_or(source, "password", NULL),
        .concurrency = (unsigned)json_int_or(source, "concurrency", 0),
        .statement_timeout_ms = json_int_or(source, "statement_timeout_ms", 0),
    };
}

/* The storage is kept open from one export to the next. */
static bool
open_storage(Child *c, Err *e)
{
    StorageSpec spec;

    if (c->storage)
        return true;
    spec = kinds_storage_spec(c->config, false);
    if (!(c->storage_kind = kinds_storage(c->kinds, c->config, e)) ||
        !(c->storage = c->storage_kind->open(&spec, e)))
        return false;
    c->storage->watch = &c->watch;
    return true;
}

static bool
run_pipeline(Child *c, const json_t *run, const ExportRequest *request, Arena *task,
    ExportResult *result, Err *e)
{
    ConfigSource source = read_source(run);
    Upload mark = {.task_id = json_text_or(run, "task_id", ""),
        .epoch = json_int_or(run, "epoch", 0),
        .attempt = (int)json_int_or(run, "attempt", 0)};
    ExportPlan plan;

    if (!plan_make(request, &source, c->kinds, c->storage_kind, c->storage,
            json_text_or(run, "key", ""), &mark, task, &plan, e))
        return false;
    plan.spec.deadline_ms = c->deadline_ms;
    return take_permit(c, e) && export_run(&plan, &c->watch, task, result, e);
}

static const ExportType *
read_type(Child *c, json_t *definition, Err *e)
{
    if (json_is_true(definition) && c->type) /* the last one */
        return c->type;
    json_decref(c->definition);
    c->definition = NULL;
    c->type = NULL;
    arena_free(c->of_type);
    if (!(c->of_type = arena_new(TYPE_BYTES_MAX))) {
        fail(e, MEMORY_LIMIT, "no memory for a definition");
        return NULL;
    }
    c->definition = json_incref(definition);
    c->type = type_from_json(c->definition, c->of_type, e);
    return c->type;
}

static bool
set_done(const Child *c, uint64_t rows, uint64_t bytes, const char *result, json_t **done, Err *e)
{
    *done = json_pack("{s:s, s:I, s:I, s:I, s:s}", "op", "done", "run", (json_int_t)c->run, "rows",
        (json_int_t)rows, "bytes", (json_int_t)bytes, "result", result);
    return *done || fail(e, MEMORY_LIMIT, "no memory for the result");
}

/* An earlier owner sealed it and was lost: nothing is read again. The definition may be another by
 * now; then `request` is NULL, and the result does not tell the columns. */
static bool
run_publish(
    Child *c, const char *sealed, const ExportRequest *request, Arena *task, json_t **done, Err *e)
{
    const ExportResult unknown = {0};
    const char *further = "{}";

    if (!begin_to_publish(c) || !child_goes_on(&c->watch, STAGE_FINISHING, 0, 0, e) ||
        !open_storage(c, e))
        return false;
    if (!c->storage_kind->publish(c->storage, sealed, NULL, e)) {
        Err why = {0};

        if (e->code == ERR_CANCELLED && !may_go_on(c, &why))
            *e = why;
        return false;
    }
    if (request && !(further = result_json(&unknown, request, NULL, time_wall_us(), task, e)))
        return false;
    return set_done(c, 0, 0, further, done, e);
}

static bool
run_export(Child *c, const json_t *run, Arena *task, json_t **done, Err *e)
{
    const char *text = json_text_or(run, "request", ""), *further;
    const char *sealed = json_text_or(run, "sealed", NULL);
    json_t *definition = json_object_get(run, "definition");
    json_t *asked = json_parse(text, strlen(text), 32, e);
    const ExportType *type = NULL;
    ExportRequest request;
    ExportResult result;
    bool ok = asked && (!definition || (type = read_type(c, definition, e))) &&
              (!type || request_from_json(asked, type, task, &request, e));

    if (sealed) {
        err_clear(e);
        ok = run_publish(c, sealed, ok && type ? &request : NULL, task, done, e);
    } else if (!type) {
        ok = ok && fail(e, INTERNAL, "a task without its definition");
    } else {
        ok = ok && open_storage(c, e) && run_pipeline(c, run, &request, task, &result, e) &&
             (further = result_json(&result, &request, NULL, time_wall_us(), task, e)) &&
             set_done(c, result.rows, result.stored_bytes, further, done, e);
    }
    json_decref(asked);
    return ok;
}

static bool
run_sweep(Child *c, Arena *task, json_t **done, Err *e)
{
    SweepResult result;

    return sweep_run(c->config, c->kinds, &c->watch, task, &result, e) &&
           set_done(c, result.deleted, result.deleted_bytes, "{}", done, e);
}

static json_t *
failed_frame(const Child *c, const Err *e)
{
    json_t *chain = json_array();

    /* Root first. Bytes from a database may be no text at all. */
    for (unsigned i = 0; i < e->links; i++) {
        json_t *text = json_string(e->link[i].text);

        json_array_append_new(chain, text ? text : json_string("(not UTF-8)"));
    }
    return json_pack("{s:s, s:I, s:b, s:s, s:s, s:o}", "op", "failed", "run", (json_int_t)c->run,
        "publishes", (int)c->publishes, "code", err_name(e->code), "where",
        e->links ? e->link[0].where : "", "chain", chain);
}

/* Can the source be reached, by this login? */
static bool
run_check(Child *c, const json_t *run, json_t **done, Err *e)
{
    ConfigSource source = read_source(run);
    const SourceKind *kind = kinds_source(c->kinds, source.url);
    SourceSpec spec = kinds_source_spec(&source);

    if (!kind)
        return fail(e, SOURCE_UNAVAILABLE, "no driver for the URL of source %s", spec.name);
    spec.deadline_ms = c->deadline_ms;
    return kind->check(&spec, &c->watch, e) && set_done(c, 0, 0, "{}", done, e);
}

static Arena *
take_arena(Child *c)
{
    if (c->task && arena_peak_bytes(c->task) > KEPT_BYTES_MAX) {
        arena_free(c->task);
        c->task = NULL;
    }
    if (!c->task)
        c->task = arena_new((size_t)c->config->task_memory_limit_bytes);
    return c->task;
}

/* The run is over, and with it what this child may know of its source (security.md 6). */
static void
wipe_login(const json_t *run)
{
    static const char *const members[] = {"url", "password"};
    const json_t *source = json_object_get(run, "source");

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const json_t *text = json_object_get(source, members[i]);

        if (json_is_string(text))
            explicit_bzero((char *)(uintptr_t)json_string_value(text), json_string_length(text));
    }
}

static bool
run_task(Child *c, const json_t *run, Err *fatal)
{
    Arena *task = take_arena(c);
    ArenaMark mark = task ? arena_mark(task) : (ArenaMark){0};
    const char *kind = json_text_or(run, "kind", "");
    json_t *done = NULL;
    Err e = {0};
    bool ok;

    c->run = json_int_or(run, "run", 0);
    c->deadline_ms = json_int_or(run, "deadline_ms", 0);
    c->begun_ms = time_now_ms();
    c->finishes = c->publishes = false;
    if (!task)
        ok = fail(&e, MEMORY_LIMIT, "no memory for a task");
    else if (strcmp(kind, "sweep") == 0)
        ok = run_sweep(c, task, &done, &e);
    else if (strcmp(kind, "check") == 0)
        ok = run_check(c, run, &done, &e);
    else
        ok = run_export(c, run, task, &done, &e);
    give_permit(c);
    wipe_login(run);
    if (!c->finishes)
        note_peak(c);
    /* To be asked every minute is no work that keeps a connection. */
    if (strcmp(kind, "check") != 0 || c->let_go_at_ms == 0)
        c->let_go_at_ms = time_now_ms() + c->idle_ms;
    if (task)
        arena_rewind(task, mark);
    if (!ok)
        done = failed_frame(c, &e);
    json_object_set_new(done, "took_ms", json_integer(time_now_ms() - c->begun_ms));
    return say(c, done, fatal);
}

static bool
set_up(Child *c, const json_t *frame, Err *e)
{
    const json_t *config = json_object_get(frame, "config");
    LogLevel level = LOG_INFO;

    if (!(c->config = config_from_json(config, c->process, e)))
        return false;
    log_level_of(c->config->loglevel, &level);
    log_open(level, strcmp(c->config->log_format, "text") == 0 ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON,
        "child");
    process_limit(c->config->task_memory_limit_bytes,
        FILES_MAX + (*c->config->s3_bucket ? c->config->s3_parallel : 0),
        (uint64_t)kinds_storage_spec(c->config, false).bytes_max);
    return say(c, json_pack("{s:s}", "op", "ready"), e);
}

static bool
obey(Child *c, const json_t *frame, Err *e)
{
    const char *op = json_text_or(frame, "op", "");

    if (strcmp(op, "setup") == 0)
        return !c->config ? set_up(c, frame, e) : fail(e, INTERNAL, "set up twice");
    if (strcmp(op, "run") == 0)
        return c->config ? run_task(c, frame, e) : fail(e, INTERNAL, "not set up");
    if (strcmp(op, "quit") == 0)
        c->quits = true;
    /* A late "go" or "cancel" of a run that has ended. */
    return true;
}

/* For the next frame; what sources keep is not kept for ever. */
static bool
wait_for_work(Child *c, Err *e)
{
    int64_t left_ms = c->let_go_at_ms - time_now_ms();

    if (c->let_go_at_ms == 0)
        return hear_bytes(c, -1, e);
    if (left_ms > 0)
        return hear_bytes(c, (int)left_ms, e);
    kinds_let_go(c->kinds);
    c->let_go_at_ms = 0;
    return true;
}

static bool
serve(Child *c, Err *e)
{
    while (!c->quits && !terminated) {
        json_t *frame = frame_take(&c->in, e);
        bool ok;

        if (e->links)
            return false;
        if (!frame) {
            if (!wait_for_work(c, e))
                return false;
            continue;
        }
        ok = obey(c, frame, e);
        json_decref(frame);
        if (!ok)
            return false;
    }
    return true;
}

int
child_run(const Kinds *kinds, pid_t parent, int idle_ms)
{
    /* No SA_RESTART: poll() is to end. */
    struct sigaction on_term = {.sa_sigaction = note_signal, .sa_flags = SA_SIGINFO};
    Child c = {
        .watch =
            {
                .go_on = child_goes_on,
                .asked_to_end = child_asked_to_end,
                .uploading = child_uploads,
                .prepared = child_prepared,
                .expect = child_expects,
                .end_fd = FRAME_SOCKET_FD,
            },
        .kinds = kinds,
        .idle_ms = idle_ms,
        .socket = FRAME_SOCKET_FD,
        .in = buf_new(2 * FRAME_BYTES_MAX),
    };
    Err e = {0};
    bool ok;

    own_parent = parent;
    sigaction(SIGTERM, &on_term, NULL);
    (void)signal(SIGINT, SIG_IGN); /* Ctrl-C and Ctrl-\ are the parent's to judge */
    (void)signal(SIGQUIT, SIG_IGN);
    c.page = mmap(NULL, sizeof *c.page, PROT_READ | PROT_WRITE, MAP_SHARED, FRAME_PAGE_FD, 0);
    c.permits = permits_map(FRAME_PERMITS_FD);
    if (c.page == MAP_FAILED || !(c.process = arena_new(CONFIG_BYTES_MAX)))
        return 1;
    ok = serve(&c, &e);
    if (!ok && e.code != ERR_LEASE_LOST)
        log_event(LOG_ERROR, "child.failed", log_err(&e));
    kinds_let_go(kinds);
    if (c.storage)
        c.storage_kind->close(c.storage);
    buf_free(&c.in);
    json_decref(c.definition);
    arena_free(c.of_type);
    arena_free(c.task);
    arena_free(c.process);
    permits_unmap(c.permits);
    munmap(c.page, sizeof *c.page);
    return ok ? 0 : 1;
}
