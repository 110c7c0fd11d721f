#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "config/config_in.h"

enum { SECRET_BYTES = 32 };

static const char secret_name[] = "url.secret";

/* Each folder on the way that is missing; 0700, for what we make is ours. */
static bool
make_folders(const char *path, Arena *arena, Err *e)
{
    ArenaMark mark = arena_mark(arena);
    char *part = arena_text(arena, path, e);
    bool ok = part != NULL;

    for (char *at = part; ok && at && (at = strchr(at + 1, '/'));) {
        *at = '\0';
        ok = mkdir(part, 0700) == 0 || errno == EEXIST || errno == EROFS || errno == EACCES;
        if (!ok)
            fail(e, CONFIG_INVALID, "data_dir: cannot make %s: %m", part);
        *at = '/';
    }
    if (ok && mkdir(path, 0700) != 0 && errno != EEXIST)
        ok = fail(e, CONFIG_INVALID, "data_dir: cannot make %s: %m", path);
    arena_rewind(arena, mark);
    return ok;
}

/* The folder itself, ours and closed to the pens of others; -1 and `e` if not. */
static int
open_data(const char *path, Err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat s;

    if (fd < 0 || fstat(fd, &s) != 0) {
        fail(e, CONFIG_INVALID, "data_dir: cannot open %s: %m", path);
    } else if (s.st_uid != geteuid()) {
        fail(e, CONFIG_INVALID, "data_dir: %s belongs to user %ju, and this is user %ju", path,
            (uintmax_t)s.st_uid, (uintmax_t)geteuid());
    } else if (s.st_mode & (S_IWGRP | S_IWOTH)) {
        fail(e, CONFIG_INVALID,
            "data_dir: others can write to %s; choose another folder, or chmod go-w it", path);
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

/* DATA/files, DATA/run: no link, ours, 0700. */
static bool
make_folder_in(int data, const char *path, const char *name, Err *e)
{
    struct stat s;

    if (mkdirat(data, name, 0700) != 0 && errno != EEXIST)
        return fail(e, CONFIG_INVALID, "data_dir: cannot make %s/%s: %m", path, name);
    if (fstatat(data, name, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return fail(e, CONFIG_INVALID, "data_dir: cannot look at %s/%s: %m", path, name);
    if (!S_ISDIR(s.st_mode) || s.st_uid != geteuid() || s.st_mode & (S_IWGRP | S_IWOTH))
        return fail(e, CONFIG_INVALID,
            "data_dir: %s/%s must be a folder of our own that others cannot write to", path, name);
    return true;
}

static bool
write_secret(int fd)
{
    uint8_t bytes[SECRET_BYTES];
    char line[2 * SECRET_BYTES + 2];
    bool ok;

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return false;
    text_hex(bytes, sizeof bytes, line);
    line[2 * SECRET_BYTES] = '\n';
    ok = write(fd, line, sizeof line - 1) == (ssize_t)sizeof line - 1 && fsync(fd) == 0;
    explicit_bzero(bytes, sizeof bytes);
    explicit_bzero(line, sizeof line);
    return ok;
}

/*
 * Written under a name of its own, then linked to the right one: who comes second finds a whole
 * secret, never half of one, and nobody replaces what is there.
 */
static bool
make_secret(int data, const char *path, Err *e)
{
    char name[80], id[37];
    int fd;
    bool ok;

    text_uuid(id);
    snprintf(name, sizeof name, "%s.%ld.%s", secret_name, (long)getpid(), id);
    fd = openat(data, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(e, CONFIG_INVALID, "data_dir: cannot write to %s: %m", path);
    ok = write_secret(fd);
    if (!ok)
        fail(e, CONFIG_INVALID, "data_dir: cannot write %s/%s: %m", path, secret_name);
    else if (linkat(data, name, data, secret_name, 0) != 0 && errno != EEXIST)
        ok = fail(e, CONFIG_INVALID, "data_dir: cannot make %s/%s: %m", path, secret_name);
    close(fd);
    unlinkat(data, name, 0);
    if (ok)
        fsync(data); /* best effort: a secret lost with the machine is made again */
    return ok;
}

static bool
read_ring(Config *config, Arena *arena, Err *e)
{
    Origins *origins = (Origins *)(uintptr_t)config->origins;
    const char *path = arena_printf(arena, e, "%s/%s", config->data_dir, secret_name), *text;

    return path && (text = secret_read(path, "url_secret", origins, arena, e)) &&
           ring_parse(config, text, path, arena, e);
}

bool
config_prepare_data(const Config *config, Arena *process, Err *e)
{
    const char *path = config->data_dir;
    Config *own = (Config *)(uintptr_t)config; /* the ring is the one field that DATA knows */
    int data;
    bool ok;

    if (!make_folders(path, process, e) || (data = open_data(path, e)) < 0)
        return false;
    ok = make_folder_in(data, path, "files", e) && make_folder_in(data, path, "run", e);
    if (ok && !*config->url_secret) {
        if (faccessat(data, secret_name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
            ok = make_secret(data, path, e);
        ok = ok && read_ring(own, process, e);
    }
    close(data);
    return ok;
}

const char *
config_warning(const Config *config, size_t index)
{
    const Origins *origins = config->origins;

    return index < origins->warnings ? origins->warning[index] : NULL;
}

void
config_warn(const Config *config)
{
    const char *warning;

    for (size_t i = 0; (warning = config_warning(config, i)); i++)
        log_event(LOG_WARNING, "config.warning", log_text("detail", warning));
    if (config->supervisor)
        return; /* the supervisor has said what concerns all of us */
    if (geteuid() == 0)
        log_event(LOG_WARNING, "config.warning",
            log_text("detail", "running as root; a user of its own is safer"));
    for (size_t i = 0; i < config->sources; i++)
        if (config->source[i].is_demo)
            log_event(LOG_WARNING, "config.warning", log_text("source", config->source[i].name),
                log_text("detail", "no URL is set for this source; it is the demo database"));
}
