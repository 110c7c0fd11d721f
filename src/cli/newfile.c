#include "cli/newfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

/* A file younger than this may belong to somebody who has not locked it yet. */
enum { LEFT_BEHIND_S = 60 };

static const char unfinished_suffix[] = ".unfinished";

bool
newfile_fail(const char *doing, const char *path, int error, Err *e)
{
    errno = error;
    switch (error) {
    case EEXIST:
        return fail(e, EXISTS, "%s is there already", path);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return fail(e, STORAGE_FULL, "%s %s: %m", doing, path);
    case EACCES:
    case EPERM:
    case EROFS:
        return fail(e, STORAGE_DENIED, "%s %s: %m", doing, path);
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return fail(e, USAGE, "%s %s: %m", doing, path);
    default:
        return fail(e, STORAGE_UNAVAILABLE, "%s %s: %m", doing, path);
    }
}

static bool
make_folders(const char *path, Err *e)
{
    char part[PATH_MAX];

    if (!text_copy(part, sizeof part, path))
        return newfile_fail("making", path, ENAMETOOLONG, e);
    for (char *at = part; (at = strchr(at + 1, '/'));) {
        *at = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return newfile_fail("making", part, errno, e);
        *at = '/';
    }
    return true;
}

/* ".demo.db.<uuid>.unfinished" */
static bool
is_left_behind(const char *entry, const char *name)
{
    size_t bytes = strlen(name);

    return entry[0] == '.' && strncmp(entry + 1, name, bytes) == 0 && entry[1 + bytes] == '.' &&
           strlen(entry) == 1 + bytes + 1 + 36 + sizeof unfinished_suffix - 1 &&
           text_ends(entry, unfinished_suffix);
}

/* Who writes holds a lock, which ends with its process. */
static void
remove_left_behind(const NewFile *f)
{
    int again = openat(f->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = again >= 0 ? fdopendir(again) : NULL;
    time_t now = time(NULL);

    if (!folder) {
        if (again >= 0)
            close(again);
        return; /* the next one tidies up */
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat s;
        int fd;

        if (!is_left_behind(entry->d_name, f->name))
            continue;
        fd = openat(f->folder, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && now - s.st_mtime > LEFT_BEHIND_S &&
            flock(fd, LOCK_EX | LOCK_NB) == 0)
            (void)unlinkat(f->folder, entry->d_name, 0);
        close(fd);
    }
    closedir(folder);
}

static bool
split(const char *path, NewFile *f, Err *e)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char id[37];
    int bytes;

    text_uuid(id);
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return fail(e, USAGE, "%s is not the name of a file", *path ? path : "''");
    if (!text_copy(f->name, sizeof f->name, name))
        return newfile_fail("writing", path, ENAMETOOLONG, e);
    bytes = snprintf(f->path, sizeof f->path, "%.*s.%s.%s%s", (int)(name - path), path, name, id,
        unfinished_suffix);
    if (bytes < 0 || (size_t)bytes >= sizeof f->path)
        return newfile_fail("writing", path, ENAMETOOLONG, e);
    f->unfinished = f->path + (name - path);
    return true;
}

static void
let_go(NewFile *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->folder >= 0)
        close(f->folder);
    f->fd = f->folder = -1;
}

bool
newfile_create(const char *path, bool folders, NewFile *f, Err *e)
{
    char folder[PATH_MAX];

    *f = (NewFile){.folder = -1, .fd = -1};
    if (!split(path, f, e) || (folders && !make_folders(path, e)))
        return false;
    snprintf(folder, sizeof folder, "%.*s.", (int)(f->unfinished - f->path), f->path);
    if ((f->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return newfile_fail("writing", path, errno, e);
    if (faccessat(f->folder, f->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        let_go(f);
        return newfile_fail("writing", path, EEXIST, e);
    }
    remove_left_behind(f);
    f->fd =
        openat(f->folder, f->unfinished, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (f->fd < 0 || flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;

        newfile_discard(f);
        return newfile_fail("writing", path, error, e);
    }
    return true;
}

void
newfile_discard(NewFile *f)
{
    if (f->fd >= 0)
        (void)unlinkat(f->folder, f->unfinished, 0);
    let_go(f);
}

/* File systems without RENAME_NOREPLACE have links, which do not replace either. */
static bool
rename_new(const NewFile *f)
{
    if (renameat2(f->folder, f->unfinished, f->folder, f->name, RENAME_NOREPLACE) == 0)
        return true;
    return (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) &&
           linkat(f->folder, f->unfinished, f->folder, f->name, 0) == 0 &&
           unlinkat(f->folder, f->unfinished, 0) == 0;
}

bool
newfile_publish(NewFile *f, Err *e)
{
    if (fsync(f->fd) != 0 || !rename_new(f)) {
        int error = errno;

        newfile_discard(f);
        return newfile_fail("finishing", f->name, error, e);
    }
    if (fsync(f->folder) != 0) {
        newfile_fail("finishing", f->name, errno, e);
        let_go(f);
        return false;
    }
    let_go(f);
    return true;
}
