/*
 * dump: the whole pipeline in the foreground, from the source to a file, without a server. The same
 * parser, the same plan and the same pipeline as a queued export, so the same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "cli/bar.h"
#include "cli/interrupt.h"
#include "cli/local.h"
#include "cli/newfile.h"
#include "export/pipeline.h"
#include "export/plan.h"

enum {
    SHOW_EVERY_MS = 200,
    TASK_BYTES_MAX = 256 << 20,
    LINE_BYTES_MAX = 4096,
    WRITE_BACK_BYTES = 8 << 20
};

/* clang-format off */
const CliFlag cli_dump_flags[] = {
    CLI_PARAM_FLAGS,
    {"from-file", 0, "FILE", .help = "The whole request as JSON, its options too; - is standard input."},
    {"format", 'f', "FORMAT", .help = "csv."},
    {"compression", 0, "CODEC", .help = "none."},
    {"out", 'o', "FILE", .help = "Where to; - is standard output, and the default."},
    {0},
};
/* clang-format on */

const char cli_dump_more[] =
    "Runs the export here and now, without a server: the same rows and bytes as the queued "
    "export.\n"
    "A file appears when it is complete, and is never replaced. Ctrl-C ends the query.\n";

/* --- where the bytes go --- */

typedef struct {
    Sink base;
    int fd;
    bool is_file;
    uint64_t wrote, written_back;
    const char *name;
} Output;

static bool
output_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    Output *out = (Output *)s;

    if (!out->is_file && out->fd == STDOUT_FILENO)
        return cli_out(data, bytes, e);
    for (const char *at = data; bytes > 0;) {
        ssize_t wrote = write(out->fd, at, bytes);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return newfile_fail("writing", out->name, errno, e);
        at += wrote;
        bytes -= (size_t)wrote;
        out->wrote += (uint64_t)wrote;
    }
    /* Else the disk sleeps until the end and then has everything to do at once. */
    if (out->is_file && out->wrote - out->written_back >= WRITE_BACK_BYTES) {
        (void)sync_file_range(out->fd, (off_t)out->written_back,
            (off_t)(out->wrote - out->written_back), SYNC_FILE_RANGE_WRITE);
        out->written_back = out->wrote;
    }
    return true;
}

static const SinkKind output_sink = {.name = "output", .write = output_write};

/* --- progress, and who may end it --- */

typedef struct {
    Watch base;
    Cli *cli;
    const char *name;
    Bar bar;
    int64_t started_ms, shown_ms, rows_estimated;
} DumpWatch;

static bool
is_over(const DumpWatch *w)
{
    return interrupt_came() || (w->cli->deadline_ms > 0 && time_now_ms() > w->cli->deadline_ms);
}

static json_t *
status_of(const DumpWatch *w, Stage stage, uint64_t rows, uint64_t bytes)
{
    static const char *const states[] = {"starting", "querying", "streaming", "finishing"};
    int64_t took_ms = time_now_ms() - w->started_ms;
    double speed = took_ms > 0 ? (double)rows * 1000 / (double)took_ms : 0;
    double part = w->rows_estimated > 0 ? (double)rows / (double)w->rows_estimated : 0;
    json_t *status = json_pack("{s:s, s:s, s:I, s:I, s:I}", "status", "processing", "state",
        states[stage], "rows_done", (json_int_t)rows, "bytes_done", (json_int_t)bytes,
        "rows_per_second", (json_int_t)speed);

    if (!status)
        return NULL;
    /* Never 100 before the end, and nothing about the end that is not known. */
    json_object_set_new(
        status, "progress", json_integer(part < 0.99 ? (json_int_t)(part * 100) : 99));
    if (w->rows_estimated > 0) {
        json_object_set_new(status, "rows_estimated", json_integer(w->rows_estimated));
        if (speed > 0 && part < 1)
            json_object_set_new(status, "eta_seconds",
                json_integer((json_int_t)((double)(w->rows_estimated - (int64_t)rows) / speed)));
    }
    return status;
}

static void
show(DumpWatch *w, Stage stage, uint64_t rows, uint64_t bytes)
{
    int64_t now_ms = time_now_ms();
    Buf line = buf_new(LINE_BYTES_MAX);
    json_t *status;

    if (w->cli->json || now_ms - w->shown_ms < SHOW_EVERY_MS)
        return;
    w->shown_ms = now_ms;
    if ((status = status_of(w, stage, rows, bytes))) {
        bar_line(w->name, status, &line);
        buf_char(&line, '\n');
        bar_show(&w->bar, line.data);
    }
    json_decref(status);
    buf_free(&line);
}

static bool
goes_on(Watch *base, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    DumpWatch *w = (DumpWatch *)base;

    if (interrupt_came())
        return fail(e, INTERRUPTED, "interrupted after %" PRIu64 " rows", rows);
    if (is_over(w))
        return fail(e, WAITED_TOO_LONG, "not done after %" PRIu64 " rows and --timeout", rows);
    show(w, stage, rows, bytes);
    return true;
}

static bool
asked_to_end(Watch *base)
{
    return is_over((DumpWatch *)base);
}

static void
expects(Watch *base, int64_t rows_estimated)
{
    ((DumpWatch *)base)->rows_estimated = rows_estimated;
}

/* --- what is asked --- */

static json_t *
read_request(Cli *c, Err *e)
{
    const char *path = cli_flag(c, "from-file");
    json_t *request = NULL;

    if (path ? !cli_read_object(path, &request, e) : !(request = json_object()))
        return NULL;
    if (!json_object_get(request, "user_id"))
        json_object_set_new(request, "user_id", json_string("local"));
    if (c->words > 0)
        json_object_set_new(request, "export_type", json_string(c->word[0]));
    if (cli_flag(c, "format"))
        json_object_set_new(request, "format", json_string(cli_flag(c, "format")));
    if (cli_flag(c, "compression"))
        json_object_set_new(request, "compression", json_string(cli_flag(c, "compression")));
    return request;
}

/* -p and --params-file come on top of what the file of the request says. */
static bool
add_params(Cli *c, const TypeSet *types, json_t *request, Err *e)
{
    const char *name = json_string_value(json_object_get(request, "export_type"));
    const ExportType *type;
    json_t *params, *there = json_object_get(request, "params");
    bool ok;

    if (!name)
        return fail(e, USAGE, "dump: expected the TYPE of an export");
    if (!(type = local_type(c, types, name, e)) || !cli_params(c, type, &params, e))
        return false;
    if (json_object_size(params) == 0) {
        json_decref(params);
        return true;
    }
    if (json_is_object(there)) {
        ok = json_object_update(there, params) == 0;
        json_decref(params);
    } else {
        ok = json_object_set_new(request, "params", params) == 0;
    }
    return ok || fail(e, MEMORY_LIMIT, "no memory for the parameters");
}

static bool
understand(Cli *c, const TypeSet *types, const json_t *body, ExportRequest *request, Err *e)
{
    Problems problems = {.arena = c->arena}, warnings = {.arena = c->arena};
    RequestRules rules = {
        .types = types, .kinds = c->kinds, .config = c->config, .now_us = time_wall_us()};

    if (!request_parse(body, &rules, c->arena, request, &problems, &warnings, e)) {
        local_problem(c, &problems, e);
        return false;
    }
    for (size_t i = 0; i < warnings.count && i < PROBLEMS_MAX; i++)
        cli_note(c, "rowferry: %s: %s", warnings.problem[i].pointer, warnings.problem[i].detail);
    return true;
}

/* --- the run --- */

static bool
say_done(const Cli *c, const ExportRequest *request, const char *path, const ExportResult *result,
    int64_t took_ms, Err *e)
{
    Buf line = buf_new(LINE_BYTES_MAX);
    json_t *value;
    bool ok = true;

    if (c->json) {
        value = json_pack("{s:s, s:s, s:s?, s:I, s:I, s:s, s:I}", "status", "completed",
            "export_type", request->type->name, "path", path, "row_count", (json_int_t)result->rows,
            "file_size", (json_int_t)result->stored_bytes, "sha256", result->sha256, "duration_ms",
            (json_int_t)took_ms);
        /* Standard output is for the rows alone, if they go there. */
        if (!value)
            ok = fail(e, MEMORY_LIMIT, "no memory for the result");
        else if (path)
            ok = cli_print_json(c, value, true, e);
        else
            ok = json_dumpf(value, stderr, JSON_COMPACT) == 0 && fputc('\n', stderr) != EOF;
        json_decref(value);
        return ok;
    }
    buf_printf(&line, "%s: %" PRIu64 " rows, ", path ? path : request->type->name, result->rows);
    print_bytes(&line, (double)result->stored_bytes);
    buf_text(&line, ", ");
    print_span(&line, took_ms);
    cli_note(c, "%s", line.data);
    buf_free(&line);
    return true;
}

static bool
run(Cli *c, const ExportRequest *request, Output *out, ExportResult *result, Arena *task, Err *e)
{
    const ConfigSource *source = config_find_source(c->config, request->type->source);
    DumpWatch watch = {
        .base = {.go_on = goes_on, .asked_to_end = asked_to_end, .expect = expects, .end_fd = -1},
        .cli = c,
        .name = request->type->name,
        .bar = {.c = c},
        .started_ms = time_now_ms(),
        .rows_estimated = -1};
    Upload mark = {0};
    ExportPlan plan;

    if (!source)
        return fail(e, SOURCE_UNAVAILABLE, "there is no source %s", request->type->source);
    if (!local_demo(c, source, e) ||
        !plan_make(request, source, c->kinds, NULL, NULL, NULL, &mark, task, &plan, e))
        return false;
    plan.hashes = c->json; /* nobody else is told */
    return export_into(&plan, &out->base, &watch.base, task, result, e);
}

/* A device or a pipe that is there already is written to as it is. */
static bool
is_special(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
}

static bool
dump_special(Cli *c, const ExportRequest *request, const char *path, ExportResult *result,
    Arena *task, Err *e)
{
    Output out = {.base.kind = &output_sink, .fd = STDOUT_FILENO, .name = "standard output"};
    bool ok;

    if (!path)
        return run(c, request, &out, result, task, e);
    out.name = path;
    if ((out.fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return newfile_fail("writing", path, errno, e);
    ok = run(c, request, &out, result, task, e);
    if (close(out.fd) != 0 && ok)
        ok = newfile_fail("writing", path, errno, e);
    return ok;
}

static bool
dump_file(Cli *c, const ExportRequest *request, const char *path, ExportResult *result, Arena *task,
    Err *e)
{
    NewFile file;
    Output out = {.base.kind = &output_sink, .is_file = true, .name = path};

    if (!newfile_create(path, false, &file, e))
        return false;
    out.fd = file.fd;
    if (run(c, request, &out, result, task, e))
        return newfile_publish(&file, e);
    newfile_discard(&file);
    return false;
}

static bool
dump(Cli *c, const ExportRequest *request, Err *e)
{
    const char *path = cli_flag(c, "out");
    int64_t started_ms = time_now_ms();
    Arena *task = arena_new(TASK_BYTES_MAX);
    ExportResult result = {0};
    bool ok;

    if (!task)
        return fail(e, MEMORY_LIMIT, "no memory");
    if (path && strcmp(path, "-") == 0)
        path = NULL;
    interrupt_catch();
    ok = !path || is_special(path) ? dump_special(c, request, path, &result, task, e)
                                   : dump_file(c, request, path, &result, task, e);
    ok = ok && say_done(c, request, path, &result, time_now_ms() - started_ms, e);
    arena_free(task);
    return ok;
}

int
cli_dump(Cli *c, Err *e)
{
    const TypeSet *types = local_types(c, e);
    json_t *body = types ? read_request(c, e) : NULL;
    ExportRequest request;
    bool ok = body && add_params(c, types, body, e) && understand(c, types, body, &request, e) &&
              dump(c, &request, e);

    json_decref(body);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
