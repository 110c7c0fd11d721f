/*
 * doctor: tries everything that the service will need, here and now, and says what to fix. It
 * writes a few small files into the storage and takes them away again; it changes nothing else,
 * unless it is told to make the bucket.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/local.h"
#include "net/http.h"

enum {
    DETAIL_BYTES = 1024,
    PROBE_BYTES = 64,
    HTTP_MS = 5000,
    FREE_MIB_MIN = 100,   /* below: failed */
    FREE_MIB_GOOD = 1024, /* below: a warning */
    SLOW_WRITE_MS = 50,
    CLOCK_SKEW_MS = 5000,
    FILES_BESIDE_CONNECTIONS = 128,
    YEAR_BUILT = 2024, /* no clock that is right shows an earlier one */
};

const CliFlag cli_doctor_flags[] = {
    {"create-bucket", 0, NULL, .help = "Make the S3 bucket if it is missing."},
    {0},
};

typedef struct {
    Cli *cli;
    json_t *checks; /* NULL: lines for people */
    bool failed;    /* a check */
    bool spoke;     /* every line could be written */
    Err *e;
} Doctor;

static void say(Doctor *d, Verdict verdict, const char *name, const char *fix, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

static void
say(Doctor *d, Verdict verdict, const char *name, const char *fix, const char *fmt, ...)
{
    static const char *const levels[] = {"good", "warning", "failed"};
    char detail[DETAIL_BYTES];
    va_list args;

    va_start(args, fmt);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, one line above */
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    d->failed = d->failed || verdict == VERDICT_BAD;
    if (!d->spoke)
        return;
    if (!d->checks)
        d->spoke = local_say(d->cli, verdict, name, detail, fix, d->e);
    else if (json_array_append_new(
                 d->checks, json_pack("{s:s, s:s, s:s, s:s?}", "name", name, "verdict",
                                levels[verdict], "detail", detail, "fix", fix)) != 0)
        d->spoke = fail(d->e, MEMORY_LIMIT, "no memory for the report");
}

/* An error of a check: its root, its code, and what helps. */
static void
say_err(Doctor *d, const char *name, const char *source, const Err *why, const char *fix)
{
    const char *known = local_fix(d->cli->config, source, why);

    say(d, VERDICT_BAD, name, known ? known : fix, "%s (%s)", err_root(why), err_name(why->code));
}

/* --- configuration --- */

static void
check_configuration(Doctor *d)
{
    const Config *config = d->cli->config;
    const char *warning;
    Err why = {0};

    if (d->cli->program->check && !d->cli->program->check(config, &why))
        say_err(
            d, "configuration", NULL, &why, "`rowferry config show` says where each value is from");
    else if (*config->path)
        say(d, VERDICT_GOOD, "configuration", NULL, "%s", config->path);
    else
        say(d, VERDICT_GOOD, "configuration", NULL, "no file; flags, variables and defaults");
    for (size_t i = 0; (warning = config_warning(config, i)); i++)
        say(d, VERDICT_UNWISE, "configuration", NULL, "%s", warning);
    if (geteuid() == 0)
        say(d, VERDICT_UNWISE, "user",
            "let it run as a user of its own (etc/rowferry.service does)", "this is root");
}

/* --- the data folder --- */

/* By statfs(2): the ones that people put data on. NULL: nothing to say. */
static const char *
far_file_system(const char *path)
{
    static const struct {
        unsigned long type;
        const char *name;
    } known[] = {{0x6969, "NFS"}, {0x517b, "SMB"}, {0xff534d42, "CIFS"}, {0xfe534d42, "SMB"},
        {0x01021997, "9P"}, {0x65735546, "FUSE"}, {0x00c36400, "Ceph"}, {0x47504653, "GPFS"},
        {0x0bd00bd0, "Lustre"}, {0x5346414f, "AFS"}};
    struct statfs s;

    if (statfs(path, &s) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((unsigned long)(uint32_t)s.f_type == known[i].type)
            return known[i].name;
    return NULL;
}

static bool
is_in_memory(const char *path)
{
    struct statfs s;

    return statfs(path, &s) == 0 && (s.f_type == 0x01021994 || (uint32_t)s.f_type == 0x858458f6);
}

static void
check_room(Doctor *d, const char *path)
{
    static const char fix[] = "make room, or let --data-dir point to a larger disk";
    struct statvfs s;
    uint64_t free_mib;
    Buf shown = buf_new(64);

    if (statvfs(path, &s) != 0) {
        say(d, VERDICT_BAD, "free space", NULL, "%s: %m", path);
        return;
    }
    free_mib = (uint64_t)s.f_bavail * s.f_frsize >> 20;
    print_bytes(&shown, (double)s.f_bavail * (double)s.f_frsize);
    if (free_mib < FREE_MIB_MIN)
        say(d, VERDICT_BAD, "free space", fix, "only %s", shown.data);
    else if (free_mib < FREE_MIB_GOOD)
        say(d, VERDICT_UNWISE, "free space", fix, "only %s", shown.data);
    else if (s.f_files > 0 && s.f_favail < 1000)
        say(d, VERDICT_BAD, "free space", fix, "%s, but only %ju more files", shown.data,
            (uintmax_t)s.f_favail);
    else
        say(d, VERDICT_GOOD, "free space", NULL, "%s", shown.data);
    buf_free(&shown);
}

/* What a commit waits for. */
static void
check_writing(Doctor *d, const char *path)
{
    char name[PATH_MAX], id[37], block[4096] = {0};
    int64_t started_ms = time_now_ms(), took_ms;
    bool ok;
    int fd;

    text_uuid(id);
    if (snprintf(name, sizeof name, "%s/.doctor.%s", path, id) >= (int)sizeof name)
        return; /* the folder itself could not have been opened */
    fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    ok = fd >= 0 && write(fd, block, sizeof block) == (ssize_t)sizeof block && fsync(fd) == 0;
    took_ms = time_now_ms() - started_ms;
    if (!ok)
        say(d, VERDICT_BAD, "writing", "the folder must belong to this user and have room",
            "%s: %m", path);
    else if (took_ms > SLOW_WRITE_MS)
        say(d, VERDICT_UNWISE, "writing", "a faster disk accepts requests faster",
            "a durable write takes %" PRId64 " ms", took_ms);
    else
        say(d, VERDICT_GOOD, "writing", NULL, "a durable write takes %" PRId64 " ms", took_ms);
    if (fd >= 0) {
        close(fd);
        (void)unlink(name);
    }
}

static bool
check_data(Doctor *d)
{
    const char *path = d->cli->config->data_dir, *far;
    Err why = {0};

    if (!config_prepare_data(d->cli->config, d->cli->arena, &why)) {
        say_err(d, "data folder", NULL, &why,
            "choose another by --data-dir, or run this as the user whom it belongs to");
        return false;
    }
    if ((far = far_file_system(path)))
        say(d, VERDICT_BAD, "data folder",
            "let --data-dir point to a disk of this machine: SQLite's locks need one",
            "%s is on a file system of the network (%s)", path, far);
    else if (is_in_memory(path))
        say(d, VERDICT_UNWISE, "data folder", "let --data-dir point to a disk",
            "%s is in memory: a restart forgets every task and file", path);
    else
        say(d, VERDICT_GOOD, "data folder", NULL, "%s", path);
    check_room(d, path);
    check_writing(d, path);
    return true;
}

/* --- queue --- */

static void
check_queue(Doctor *d)
{
    const Config *config = d->cli->config;
    QueueSpec spec = kinds_queue_spec(config, true, false);
    const char *promise = "";
    QueueCounts counts = {0};
    Err why = {0};
    const QueueKind *kind = kinds_queue(d->cli->kinds, config, &why);
    Queue *queue = kind ? kind->open(&spec, &why) : NULL;

    if (queue && kind->check(queue, &promise, &why) && kind->count(queue, &counts, &why))
        say(d, VERDICT_GOOD, "queue", NULL,
            "%s: %s; %" PRIu64 " waiting, %" PRIu64 " running, %u worker%s", kind->name, promise,
            counts.depth, counts.running, counts.workers, counts.workers == 1 ? "" : "s");
    else
        say_err(d, "queue", NULL, &why, "does another program hold queue.db in the data folder?");
    if (queue)
        kind->close(queue);
}

/* --- a watch that lets everything go on --- */

static bool
goes_on(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    (void)w;
    (void)stage;
    (void)rows;
    (void)bytes;
    (void)e;
    return true;
}

static bool
never_ends(Watch *w)
{
    (void)w;
    return false;
}

/* --- storage: write, sign, fetch, delete --- */

typedef struct {
    Doctor *doctor;
    const StorageKind *kind;
    Storage *storage;
    char key[STORAGE_KEY_BYTES + 1], content[PROBE_BYTES];
    char url[STORAGE_URL_BYTES];
    const char *base_url;
} Probe;

static bool
write_probe(Probe *p, Arena *task, Err *e)
{
    char id[37];
    Watch watch = {.go_on = goes_on, .asked_to_end = never_ends, .end_fd = -1};
    Upload mark = {.task_id = id, .content_type = "text/plain; charset=utf-8"};
    const char *sealed;
    Sink *sink;

    text_uuid(id);
    snprintf(p->key, sizeof p->key, "exports/rowferry-doctor/probe_%s.txt", id);
    snprintf(p->content, sizeof p->content, "rowferry doctor %s\n", id);
    if (!(sink = p->kind->create(p->storage, p->key, &mark, &watch, task, e)))
        return wrap(e, "beginning an upload");
    if (sink_write(sink, p->content, strlen(p->content), e) && sink_finish(sink, e) &&
        (sealed = p->kind->sealed(sink, e)) && p->kind->publish(p->storage, sealed, sink, e))
        return true;
    sink_abort(sink);
    return wrap(e, "writing a file");
}

static bool
check_stat(Probe *p, Err *e)
{
    StorageObject object;
    int64_t skew_ms;

    if (!p->kind->stat(p->storage, p->key, &object, e))
        return wrap(e, "looking at the file");
    if (object.bytes != (int64_t)strlen(p->content))
        return fail(e, STORAGE_UNAVAILABLE, "the file has %" PRId64 " bytes instead of %zu",
            object.bytes, strlen(p->content));
    if (p->kind->review)
        return true; /* it has looked at the clock as well */
    skew_ms = (time_wall_us() - object.modified_wall_us) / 1000;
    if (skew_ms > CLOCK_SKEW_MS || skew_ms < -CLOCK_SKEW_MS)
        say(p->doctor, VERDICT_UNWISE, "clock", "set both by NTP: retention and links go by it",
            "the storage's clock and this one differ by %" PRId64 " s", skew_ms / 1000);
    return true;
}

static bool
read_link(Probe *p, Err *e)
{
    const char *target = p->url + strlen(p->base_url);
    char got[PROBE_BYTES];
    Fetched file;
    ssize_t bytes;

    if (!p->kind->fetch)
        return true; /* the store serves its links itself */
    if (!p->kind->fetch(p->storage, target, time_wall_us() / 1000000, &file, e))
        return wrap(e, "following the link");
    bytes = read(file.fd, got, sizeof got);
    close(file.fd);
    return (bytes == (ssize_t)strlen(p->content) && memcmp(got, p->content, (size_t)bytes) == 0) ||
           fail(e, STORAGE_UNAVAILABLE, "the link leads to other bytes");
}

/* Over HTTP, where somebody answers; a link of our own is read without it as well. */
static bool
fetch_link(Probe *p, const char **how, Err *e)
{
    HttpClient *client = http_client_new("rowferry-doctor", e);
    HttpCall call = {.url = p->url, .timeout_ms = HTTP_MS, .answer_bytes_max = 64 << 10};
    const char *ca_file = p->doctor->cli->config->s3_ca_file;
    HttpAnswer answer;
    Err why = {0};
    bool ok, same;

    if (!client)
        return false;
    *how = "its link checked (no service answers)";
    ok = http_call(client, &call, &answer, &why);
    if (!ok && why.code == ERR_SERVER_UNTRUSTED && *ca_file) {
        say(p->doctor, VERDICT_UNWISE, "storage links",
            "a certificate that everybody knows would do for all of them",
            "who downloads must trust the authority in ROWFERRY_S3_CA_FILE, too");
        call.ca_file = ca_file;
        err_clear(&why);
        ok = http_call(client, &call, &answer, &why);
    }
    if (!ok) {
        http_client_free(client);
        return p->kind->fetch ? read_link(p, e)
                              : fail_code(e, why.code, "fetching the file: %s", err_root(&why));
    }
    same = answer.status == 200 && answer.body.bytes == strlen(p->content) &&
           memcmp(answer.body.data, p->content, answer.body.bytes) == 0;
    if (same)
        *how = "fetched over HTTP";
    else if (p->kind->fetch)
        say(p->doctor, VERDICT_UNWISE, "links",
            "does it run with another data folder, or is it another program? --url names the right "
            "one",
            "what answers at %s does not know this machine's links (status %d)", p->base_url,
            answer.status);
    http_answer_free(&answer);
    http_client_free(client);
    if (same || p->kind->fetch)
        return same || read_link(p, e);
    return fail(e, STORAGE_UNAVAILABLE, "the link leads to status %d", answer.status);
}

static bool
remove_probe(Probe *p, Err *e)
{
    bool existed;

    return p->kind->remove(p->storage, p->key, &existed, e) || wrap(e, "deleting the file");
}

static bool
try_storage(Probe *p, const char **how, Err *e)
{
    SignSpec sign = {.base_url = p->base_url,
        .name = "probe.txt",
        .content_type = "text/plain; charset=utf-8",
        .expires_wall_s = time_wall_us() / 1000000 + 60};
    Arena *task = arena_new(1 << 20);
    int64_t ends_s;
    Err later = {0};
    bool ok;

    if (!task)
        return fail(e, MEMORY_LIMIT, "no memory");
    if ((ok = write_probe(p, task, e))) {
        ok = check_stat(p, e) &&
             (p->kind->sign(p->storage, p->key, &sign, p->url, sizeof p->url, &ends_s, e) ||
                 wrap(e, "signing a link")) &&
             fetch_link(p, how, e);
        if (!remove_probe(p, ok ? e : &later))
            ok = false;
    }
    arena_free(task);
    return ok;
}

static bool
review_storage(Doctor *d, const StorageKind *kind, const StorageSpec *spec)
{
    const StorageReview how = {
        .makes_bucket = cli_flag(d->cli, "create-bucket"),
        .retention_ms = d->cli->config->retention_ms,
        .link_ms = d->cli->config->url_ttl_ms,
    };
    Finding found[FINDINGS_MAX];
    size_t count = 0;
    bool ok = kind->review(spec, &how, d->cli->arena, found, &count);

    for (size_t i = 0; i < count; i++) {
        char name[64];

        snprintf(name, sizeof name, "storage%s%s", found[i].about ? " " : "",
            found[i].about ? found[i].about : "");
        say(d, found[i].verdict, name, found[i].fix, "%s", found[i].text);
    }
    return ok;
}

static void
check_storage(Doctor *d)
{
    const Config *config = d->cli->config;
    StorageSpec spec = kinds_storage_spec(config, true);
    Err why = {0};
    Probe p = {.doctor = d, .kind = kinds_storage(d->cli->kinds, config, &why)};
    const char *how = "";
    int64_t started_ms;

    if (p.kind && p.kind->review && !review_storage(d, p.kind, &spec))
        return;
    started_ms = time_now_ms();
    p.base_url = *config->public_url ? config->public_url : d->cli->url;
    p.storage = p.kind ? p.kind->open(&spec, &why) : NULL;
    if (p.storage && try_storage(&p, &how, &why))
        say(d, VERDICT_GOOD, "storage", NULL, "%s: written, signed, %s, deleted in %" PRId64 " ms",
            p.kind->name, how, time_now_ms() - started_ms);
    else
        say_err(
            d, "storage", NULL, &why, "the folder files/ of the data folder must be ours alone");
    if (p.storage)
        p.kind->close(p.storage);
}

/* --- sources and types --- */

/* The rights behind the login. */
static void
review_source(
    Doctor *d, const SourceKind *kind, const SourceSpec *spec, Watch *watch, const char *name)
{
    Finding found[FINDINGS_MAX];
    size_t count = 0;
    Err why = {0};

    if (!kind->review)
        return;
    if (!kind->review(spec, watch, d->cli->arena, found, &count, &why))
        say_err(d, name, spec->name, &why, NULL);
    for (size_t i = 0; i < count; i++)
        say(d, found[i].verdict, name, found[i].fix, "%s", found[i].text);
}

static bool
check_source(Doctor *d, const ConfigSource *source)
{
    const SourceKind *kind = kinds_source(d->cli->kinds, source->url);
    Watch watch = {.go_on = goes_on, .asked_to_end = never_ends, .end_fd = -1};
    SourceSpec spec = kinds_source_spec(source);
    int64_t started_ms = time_now_ms();
    char name[96];
    Err why = {0};

    snprintf(name, sizeof name, "source %.64s", source->name);
    if (local_is_to_come(d->cli->config, source)) {
        say(d, VERDICT_UNWISE, name,
            "set its URL; or `rowferry demo-data` makes the demo database (a worker does it by "
            "itself)",
            "no URL is set, and the demo database is not there yet");
        return false;
    }
    if (!kind)
        fail(&why, SOURCE_UNAVAILABLE, "no driver for its URL");
    if (!kind || !kind->check(&spec, &watch, &why)) {
        say_err(d, name, source->name, &why, NULL);
        return false;
    }
    say(d, VERDICT_GOOD, name, NULL, "%s%s, %" PRId64 " ms", kind->name,
        source->is_demo ? ", the demo database (no URL is set)" : "", time_now_ms() - started_ms);
    review_source(d, kind, &spec, &watch, name);
    return true;
}

static void
check_type(Doctor *d, const ExportType *type)
{
    char name[96];
    Err why = {0};

    snprintf(name, sizeof name, "type %.64s", type->name);
    if (type_check(type, d->cli->config, d->cli->kinds, &why))
        say(d, VERDICT_GOOD, name, NULL, "%zu columns from source %s", type->columns, type->source);
    else
        say_err(d, name, type->source, &why, NULL);
}

static void
check_sources(Doctor *d)
{
    const Config *config = d->cli->config;
    Err why = {0};
    const TypeSet *types = local_types(d->cli, &why);

    if (!types)
        say_err(d, "types", NULL, &why, "mend the definition; `rowferry types --check` tries it");
    for (size_t i = 0; i < config->sources; i++) {
        if (!check_source(d, &config->source[i]))
            continue; /* its types would only say the same again */
        for (size_t k = 0; types && k < types->types; k++)
            if (strcmp(types->type[k].source, config->source[i].name) == 0)
                check_type(d, &types->type[k]);
    }
}

/* --- the machine --- */

static void
check_machine(Doctor *d)
{
    uint64_t wanted = d->cli->config->connections + FILES_BESIDE_CONNECTIONS;
    TimeParts now = time_parts(time_wall_us());
    struct rlimit files = {0};

    if (now.year < YEAR_BUILT)
        say(d, VERDICT_BAD, "clock", "set it, by NTP", "it shows the year %d", now.year);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    if (files.rlim_max < wanted)
        say(d, VERDICT_UNWISE, "open files",
            "raise the limit (ulimit -n, LimitNOFILE=), or lower ROWFERRY_CONNECTIONS",
            "at most %ju; %" PRIu64 " connections want %" PRIu64, (uintmax_t)files.rlim_max,
            d->cli->config->connections, wanted);
    else
        say(d, VERDICT_GOOD, "open files", NULL, "%ju", (uintmax_t)files.rlim_max);
}

static bool
print_report(const Doctor *d, Err *e)
{
    json_t *report = json_pack("{s:b, s:O}", "ok", !d->failed, "checks", d->checks);
    bool ok = report ? cli_print_json(d->cli, report, true, e)
                     : fail(e, MEMORY_LIMIT, "no memory for the report");

    json_decref(report);
    return ok;
}

int
cli_doctor(Cli *c, Err *e)
{
    Doctor d = {.cli = c, .spoke = true, .e = e};

    if (!config_is_set(c->config, "loglevel"))
        log_set_level(LOG_ERROR); /* each trouble has a line of its own here */
    if (c->json && !(d.checks = json_array())) {
        fail(e, MEMORY_LIMIT, "no memory for the report");
        return EXIT_FAILURE;
    }
    check_configuration(&d);
    check_machine(&d);
    if (check_data(&d)) {
        check_queue(&d);
        check_storage(&d);
    }
    check_sources(&d);
    if (d.spoke && d.checks)
        d.spoke = print_report(&d, e);
    json_decref(d.checks);
    return d.spoke && !d.failed ? EXIT_SUCCESS : EXIT_FAILURE;
}
