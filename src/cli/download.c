#include "cli/download.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/bar.h"
#include "cli/follow.h"
#include "cli/interrupt.h"
#include "flow/sink.h"

enum {
    STALLED_MS = 60000,
    CALL_MS_MAX = 24 * 3600 * 1000,
    CONNECT_MS = 10000,
    TRIES_MAX = 5, /* without a byte between them */
    PAUSE_MS = 500,
    DRAW_EVERY_MS = 200,
    PATH_BYTES_MAX = 4096,
    READ_BYTES = 64 << 10,
};

/* The end of the chain: a file, or nothing while a part that is there already is read. */
typedef struct {
    Sink base;
    int fd;
    bool is_output; /* standard output */
    bool only_hashes;
} FileSink;

typedef struct {
    Remote *r;
    const char *url, *name, *path;
    Sink *digest;
    FileSink file;
    HttpAnswer answer;
    uint64_t bytes, bytes_all; /* all: 0 if the server did not say */
    uint64_t skip;             /* what is sent again and was there already */
    uint64_t kept_bytes;       /* of a part that we found */
    int64_t started_ms, heard_ms, drawn_ms;
    bool verifies, resumes, created, stalled;
    Bar bar;
    Err why; /* of a sink's failure */
} Download;

static bool
fail_file(const char *path, Err *e)
{
    if (errno == EEXIST)
        return fail(e, EXISTS, "%s exists already and is not overwritten", path);
    if (errno == ENOSPC || errno == EDQUOT)
        return fail(e, STORAGE_FULL, "cannot write %s: %m", path);
    return fail(e, STORAGE_DENIED, "cannot write %s: %m", path);
}

static bool
file_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    FileSink *f = (FileSink *)s;

    if (f->only_hashes)
        return true;
    if (f->is_output)
        return cli_out(data, bytes, e);
    for (const char *at = data; bytes > 0;) {
        ssize_t wrote = write(f->fd, at, bytes);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return fail_file("the file", e);
        at += wrote;
        bytes -= (size_t)wrote;
    }
    return true;
}

static const SinkKind file_sink = {"file", file_write, NULL, NULL};

const char *
download_name(const char *key)
{
    const char *slash = strrchr(key, '/');
    const char *name = slash ? slash + 1 : key;

    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 255 ||
        text_has_control(name, strlen(name), true))
        return NULL;
    return name;
}

/* NULL, a folder, a file, "-": where it goes. */
static bool
choose_path(Download *d, const char *to, Err *e)
{
    const char *slash;
    struct stat about;
    bool is_folder;

    if (to && strcmp(to, "-") == 0) {
        d->file.is_output = true;
        d->path = "standard output";
        return true;
    }
    to = to && *to ? to : ".";
    is_folder = text_ends(to, "/") || (stat(to, &about) == 0 && S_ISDIR(about.st_mode));
    if (!is_folder) {
        d->path = arena_text(d->r->c->arena, to, e);
        return d->path != NULL;
    }
    if (!d->name)
        return fail(e, STORAGE_DENIED, "the server's name is none for a file; -o FILE gives one");
    slash = text_ends(to, "/") ? "" : "/";
    d->path = strcmp(to, ".") == 0 ? d->name
                                   : arena_printf(d->r->c->arena, e, "%s%s%s", to, slash, d->name);
    return d->path != NULL;
}

/* A part that is there counts: its bytes go through the digest. */
static bool
take_up(Download *d, Err *e)
{
    struct stat about;
    static char data[READ_BYTES];
    ssize_t got = 0;

    d->file.fd = open(d->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (d->file.fd < 0)
        return fail_file(d->path, e);
    if (fstat(d->file.fd, &about) != 0 || !S_ISREG(about.st_mode))
        return fail(e, EXISTS, "%s is not a file", d->path);
    if (d->bytes_all > 0 && (uint64_t)about.st_size > d->bytes_all)
        return fail(e, EXISTS, "%s is longer than the file it should become", d->path);
    d->file.only_hashes = true;
    while ((got = read(d->file.fd, data, sizeof data)) > 0) {
        if (!sink_write(d->digest, data, (size_t)got, e))
            return false;
        d->bytes += (uint64_t)got;
    }
    d->file.only_hashes = false;
    d->kept_bytes = d->bytes;
    return got == 0 || fail_file(d->path, e);
}

static bool
open_file(Download *d, Err *e)
{
    if (d->file.is_output)
        return true;
    d->file.fd = open(d->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    d->created = d->file.fd >= 0;
    if (d->created)
        return true;
    return d->resumes && errno == EEXIST ? take_up(d, e) : fail_file(d->path, e);
}

static bool
take(const void *data, size_t bytes, void *with)
{
    Download *d = with;
    size_t skip = 0;

    /* An answer to a range that is the whole file: what is there already is left out. */
    if (d->answer.status == 200 && d->skip > 0) {
        skip = d->skip < bytes ? (size_t)d->skip : bytes;
        d->skip -= skip;
    }
    d->heard_ms = time_now_ms();
    d->bytes += bytes - skip;
    if (d->verifies && d->bytes_all > 0 && d->bytes > d->bytes_all)
        return fail(&d->why, VERIFY_FAILED, "more came than the promised %llu bytes",
            (unsigned long long)d->bytes_all);
    return sink_write(d->digest, (const char *)data + skip, bytes - skip, &d->why);
}

static void
draw(Download *d, bool is_end)
{
    Buf line = buf_new(4096);

    if (is_end && d->bar.drawn == 0)
        return;
    bar_download(
        d->name ? d->name : d->path, d->bytes, d->bytes_all, time_now_ms() - d->started_ms, &line);
    buf_char(&line, '\n');
    if (!is_end)
        bar_show(&d->bar, line.data);
    else
        bar_end(&d->bar, line.data);
    buf_free(&line);
}

/* Not between the objects of --json, nor between the rows on the same terminal. */
static bool
shows_bar(const Download *d)
{
    return !d->r->c->json && !(d->file.is_output && d->r->c->out_is_terminal);
}

static bool
goes_on(void *with)
{
    Download *d = with;
    int64_t now = time_now_ms();

    if (shows_bar(d) && now - d->drawn_ms >= DRAW_EVERY_MS) {
        d->drawn_ms = now;
        draw(d, false);
    }
    d->stalled = now - d->heard_ms > STALLED_MS;
    return !interrupt_came() && !d->stalled;
}

/* What ended a call, in our words. */
static void
name_the_end(const Download *d, Err *e)
{
    ErrCode code = e->code;

    if (code != ERR_CANCELLED && code != ERR_INTERRUPTED && code != ERR_WAITED_TOO_LONG)
        return;
    err_clear(e);
    if (code == ERR_CANCELLED)
        *e = d->why;
    else if (code == ERR_WAITED_TOO_LONG)
        fail(e, WAITED_TOO_LONG, "not whole when --timeout was over");
    else if (interrupt_came())
        fail(e, INTERRUPTED, "interrupted");
    else
        fail(e, SERVER_UNREACHABLE, "nothing came for %d s", STALLED_MS / 1000);
}

/* From where we are to the end. */
static bool
fetch(Download *d, Err *e)
{
    const Cli *c = d->r->c;
    char range[64];
    const char *header[] = {d->bytes > 0 ? range : NULL, NULL};
    bool ok;

    if (d->bytes_all > 0 && d->bytes == d->bytes_all)
        return true;
    snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)d->bytes);
    d->skip = d->bytes;
    d->heard_ms = time_now_ms();
    d->answer = (HttpAnswer){0};
    ok = http_call(d->r->client,
        &(HttpCall){.url = d->url,
            .header = header,
            .timeout_ms = remote_left_ms(c, CALL_MS_MAX),
            .connect_timeout_ms = remote_left_ms(c, CONNECT_MS),
            .sink = take,
            .go_on = goes_on,
            .with = d},
        &d->answer, e);
    if (ok) {
        ok = d->answer.status < 300 || remote_refused(d->r->c, &d->answer, e);
        http_answer_free(&d->answer);
    } else {
        name_the_end(d, e);
    }
    return ok;
}

/* A connection that is cut is taken up where it ended. */
static bool
fetch_all(Download *d, Err *e)
{
    for (unsigned tries = 1;; tries++) {
        uint64_t before = d->bytes;
        Err stopped = {0};

        if (remote_left_ms(d->r->c, 1) == 0)
            return fail(e, WAITED_TOO_LONG, "--timeout is over");
        if (fetch(d, e))
            return true;
        if (d->bytes > before)
            tries = 0;
        if (e->code != ERR_SERVER_UNREACHABLE || tries >= TRIES_MAX ||
            !remote_pause(d->r->c, PAUSE_MS, &stopped)) {
            if (stopped.code != ERR_NONE)
                *e = stopped;
            return false;
        }
        cli_note(d->r->c, "%s; going on at byte %llu", err_root(e), (unsigned long long)d->bytes);
        err_clear(e);
    }
}

static bool
verify(const Download *d, const char *promised, Err *e)
{
    if (!d->verifies)
        return true;
    if (d->bytes_all > 0 && d->bytes != d->bytes_all)
        return fail(e, VERIFY_FAILED, "%s has %llu bytes, promised were %llu", d->path,
            (unsigned long long)d->bytes, (unsigned long long)d->bytes_all);
    if (!promised) {
        cli_note(d->r->c, "warning: the server gave no checksum to verify the file with");
        return true;
    }
    if (!text_same_case_blind(promised, digest_hex(d->digest)))
        return fail(e, VERIFY_FAILED, "%s: SHA-256 is %.16s…, promised was %.16s…", d->path,
            digest_hex(d->digest), promised);
    return true;
}

/* What is not whole does not stay, unless it may be continued; a part that was there before us
 * stays as it was when it turned out to be another file's. */
static void
clean_up(Download *d, const Err *e)
{
    bool keeps = d->resumes && e->code != ERR_VERIFY_FAILED;

    if (d->file.is_output || d->file.fd < 0)
        return;
    if (e->code != ERR_NONE && d->created && !keeps)
        (void)unlink(d->path);
    else if (e->code == ERR_VERIFY_FAILED && !d->created)
        (void)!ftruncate(d->file.fd, (off_t)d->kept_bytes);
    else if (e->code != ERR_NONE && keeps && d->bytes > 0)
        cli_note(d->r->c, "%s is kept; --resume goes on with it", d->path);
}

static bool
say_done(const Download *d, Err *e)
{
    json_t *object;
    bool ok;

    if (d->file.is_output)
        return true;
    if (!d->r->c->json) {
        cli_note(d->r->c, "saved %llu bytes%s", (unsigned long long)d->bytes,
            d->verifies ? ", verified" : "");
        return cli_line(d->path, e);
    }
    object = json_pack("{s:s, s:I, s:s, s:b}", "file", d->path, "bytes", (json_int_t)d->bytes,
        "sha256", digest_hex(d->digest), "verified", d->verifies);
    ok = object ? cli_print_json(d->r->c, object, true, e)
                : fail(e, INTERNAL, "the path is not UTF-8");
    json_decref(object);
    return ok;
}

static bool
check_is_there(const json_t *status, Err *e)
{
    Followed f = {.status = (json_t *)(uintptr_t)status};
    const char *word = json_text_or(status, "status", "");

    if (strcmp(word, "completed") != 0 && strcmp(word, "failed") != 0)
        return fail(e, NOT_READY, "the export is not ready: %s, %d%%",
            json_text_or(status, "state", word), (int)json_int_or(status, "progress", 0));
    if (!follow_completed(&f, e))
        return false;
    return *json_text_or(status, "download_url", "") || fail(e, FILE_GONE, "the file is gone");
}

static bool
begin(Download *d, const json_t *status, const char *to, Err *e)
{
    const char *url = json_text_or(status, "download_url", "");
    int64_t size = json_int_or(status, "file_size", 0);

    d->file.base = (Sink){.kind = &file_sink};
    d->name = download_name(json_text_or(status, "key", ""));
    d->bytes_all = size > 0 ? (uint64_t)size : 0;
    d->started_ms = time_now_ms();
    d->bar.c = d->r->c;
    /* Never with our token: the link is its own right, and may lead to another host. */
    d->url = *url == '/' ? arena_printf(d->r->c->arena, e, "%s%s", d->r->c->url, url) : url;
    return d->url && choose_path(d, to, e) &&
           (d->digest = digest_open(&d->file.base, d->r->c->arena, e));
}

bool
download_save(Remote *r, const json_t *status, const char *to, Err *e)
{
    Download d = {
        .r = r,
        .file.fd = -1,
        .verifies = !cli_flag(r->c, "no-verify"),
        .resumes = cli_flag(r->c, "resume"),
    };
    bool ok = check_is_there(status, e) && begin(&d, status, to, e) && open_file(&d, e);

    interrupt_catch();
    ok = ok && fetch_all(&d, e);
    draw(&d, true);
    ok = ok && sink_finish(d.digest, e);
    ok = ok && verify(&d, json_text_or(json_object_get(status, "checksum"), "sha256", NULL), e);
    if (ok && !d.file.is_output && fsync(d.file.fd) != 0)
        ok = fail_file(d.path, e);
    clean_up(&d, e);
    if (d.file.fd >= 0 && close(d.file.fd) != 0 && ok)
        ok = fail_file(d.path, e);
    if (!ok)
        sink_abort(d.digest);
    return ok && say_done(&d, e);
}

/* clang-format off */
const CliFlag cli_download_flags[] = {
    {"out", 'o', "FILE", .help = "A file or a folder; - is standard output. By default its own name, here."},
    {"resume", 0, NULL, .help = "Keep a part when it fails, and continue one that is there."},
    {"no-verify", 0, NULL, .help = "Do not compare size and SHA-256."},
    {0},
};
/* clang-format on */

int
cli_download(Cli *c, Err *e)
{
    Followed f = {.id = c->word[0]};
    Remote r = {0};
    bool ok;

    ok = remote_open(c, &r, e) && follow_ask(&r, &f, 0, e) &&
         download_save(&r, f.status, cli_flag(c, "out"), e);
    follow_free(&f, 1);
    remote_close(&r);
    return cli_exit(ok, e);
}
