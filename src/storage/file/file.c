/*
 * The local store: objects are files below DATA/files, uploads are files in DATA/files/.uploads.
 *
 * An object appears by renameat2(RENAME_NOREPLACE), whole or not at all, and is on the disk (file
 * and folders fsynced) before anybody is told. Paths are only resolved below DATA/files and never
 * through a link (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "storage/file/file_in.h"

enum {
    UPLOAD_NAME_BYTES = 256,
    WRITE_BACK_BYTES = 8 << 20, /* the disk is told to start on so much at a time */
    DEPTH_MAX = 16,
    LEFT_MAX = 32, /* earlier runs whose uploads are looked for */
    RACES_MAX = 8, /* how often a folder may vanish under our hands */
};

#define UPLOADS ".uploads"

typedef struct {
    Sink base;
    FileStorage *store;
    Arena *task;
    int fd; /* -1 once it is safe or thrown away */
    int64_t bytes, written_back;
    const char *key;
    const char *sealed; /* NULL until finish */
    char name[UPLOAD_NAME_BYTES];
} FileSink;

/* What errno means for an export. */
static bool
fail_errno(Err *e, int error, const char *doing)
{
    ErrCode code;

    switch (error) {
    case ENOSPC:
    case EDQUOT:
        code = ERR_STORAGE_FULL;
        break;
    case EFBIG:
        code = ERR_SIZE_LIMIT;
        break;
    case EROFS:
    case EACCES:
    case EPERM:
    case ELOOP: /* a link, or another thing that is no folder, where a folder of ours should be */
    case EXDEV:
    case ENOTDIR:
        code = ERR_STORAGE_DENIED;
        break;
    default:
        code = ERR_STORAGE_UNAVAILABLE;
        break;
    }
    errno = error;
    return fail_code(e, code, "%s: %m", doing);
}

/* Opens below DATA/files, through no link. `path` is "" for the root itself. */
static int
open_beneath(const FileStorage *f, const char *path, uint64_t flags)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC | O_NOFOLLOW,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, f->root, *path ? path : ".", &how, sizeof how);
}

/* The folder of a key, -1 and errno. The key has been checked, so it has a slash. */
static int
open_folder(const FileStorage *f, const char *key)
{
    char folder[STORAGE_KEY_BYTES + 1];
    size_t bytes = (size_t)(strrchr(key, '/') - key);

    memcpy(folder, key, bytes);
    folder[bytes] = '\0';
    return open_beneath(f, folder, O_RDONLY | O_DIRECTORY);
}

static bool
sync_folder(int folder, Err *e)
{
    return fsync(folder) == 0 || fail_errno(e, errno, "syncing a folder of the store");
}

/* Opens a folder below `parent`, which is made and synced if it is missing. Closes `parent`. -1 and
 * errno. */
static int
make_one_folder(int parent, const char *name)
{
    int folder = -1, error;

    if (mkdirat(parent, name, 0700) == 0 ? fsync(parent) == 0 : errno == EEXIST)
        folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    error = errno;
    close(parent);
    errno = error;
    return folder;
}

/* Makes the folders of a key and opens the last. -1 and `e`. */
static int
make_folder(const FileStorage *f, const char *key, Err *e)
{
    int folder = open_folder(f, key);

    if (folder < 0 && errno == ENOENT) {
        folder = open_beneath(f, "", O_RDONLY | O_DIRECTORY);
        for (const char *at = key, *slash; folder >= 0 && (slash = strchr(at, '/'));
             at = slash + 1) {
            char name[UPLOAD_NAME_BYTES];
            size_t bytes = (size_t)(slash - at);

            memcpy(name, at, bytes);
            name[bytes] = '\0';
            folder = make_one_folder(folder, name);
        }
    }
    if (folder < 0)
        fail_errno(e, errno, "making a folder of the store");
    return folder;
}

/* Ids are any text; file names are not: plain ones stay readable, others are base64url behind a
 * '='. */
static bool
upload_name(const Upload *mark, char name[UPLOAD_NAME_BYTES], Err *e)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t bytes = strlen(mark->task_id);
    Buf encoded = buf_new(UPLOAD_NAME_BYTES);
    int wrote;

    if (bytes > 0 && strspn(mark->task_id, plain) == bytes) {
        buf_text(&encoded, mark->task_id);
    } else {
        buf_char(&encoded, '=');
        text_base64(&encoded, (const uint8_t *)mark->task_id, bytes);
        for (size_t i = 1; i < encoded.bytes; i++)
            encoded.data[i] = encoded.data[i] == '+'   ? '-'
                              : encoded.data[i] == '/' ? '_'
                                                       : encoded.data[i];
    }
    wrote = snprintf(name, UPLOAD_NAME_BYTES, "%s.%" PRId64, encoded.data, mark->epoch);
    if (encoded.failed || wrote < 0 || wrote >= UPLOAD_NAME_BYTES) {
        buf_free(&encoded);
        return fail(e, INTERNAL, "a task id too long for an upload");
    }
    buf_free(&encoded);
    return true;
}

static int
base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* The task id and epoch an upload was named after; false for a name that we did not make. */
static bool
upload_mark(const char *name, char id[UPLOAD_NAME_BYTES], int64_t *epoch)
{
    const char *dot = strrchr(name, '.');
    uint64_t number;
    unsigned bits = 0, held = 0;
    size_t at = 0;

    if (!dot || dot == name || !text_to_uint(dot + 1, INT64_MAX, &number))
        return false;
    *epoch = (int64_t)number;
    if (name[0] != '=') {
        memcpy(id, name, (size_t)(dot - name));
        id[dot - name] = '\0';
        return true;
    }
    for (const char *from = name + 1; from < dot && *from != '='; from++) {
        int digit = base64url_digit(*from);

        if (digit < 0)
            return false;
        bits = bits << 6 | (unsigned)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            id[at++] = (char)(bits >> held & 0xff);
        }
    }
    id[at] = '\0';
    return true;
}

static bool
file_sink_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    FileSink *sink = (FileSink *)s;
    const char *from = data;

    sink->bytes += (int64_t)bytes;
    if (sink->store->bytes_max > 0 && sink->bytes > sink->store->bytes_max)
        return fail(e, SIZE_LIMIT, "more than %" PRId64 " bytes", sink->store->bytes_max);
    while (bytes > 0) {
        ssize_t wrote = write(sink->fd, from, bytes);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return fail_errno(e, wrote < 0 ? errno : ENOSPC, "writing the file");
        from += wrote;
        bytes -= (size_t)wrote;
    }
    /* Else the disk sleeps until fsync and then has everything to do at once. */
    if (sink->bytes - sink->written_back >= WRITE_BACK_BYTES) {
        (void)sync_file_range(
            sink->fd, sink->written_back, sink->bytes - sink->written_back, SYNC_FILE_RANGE_WRITE);
        sink->written_back = sink->bytes;
    }
    return true;
}

/* One line of JSON that names the upload by its inode, so that no other file is taken for it. */
static bool
seal(FileSink *sink, const struct stat *is, Err *e)
{
    Buf to = buf_new(8 << 10);
    bool ok;

    buf_text(&to, "{\"store\":\"file\",\"upload\":");
    text_json_string(&to, sink->name, strlen(sink->name), 0);
    buf_text(&to, ",\"key\":");
    text_json_string(&to, sink->key, strlen(sink->key), 0);
    buf_printf(&to, ",\"device\":%" PRIu64 ",\"inode\":%" PRIu64 ",\"bytes\":%" PRId64 "}",
        (uint64_t)is->st_dev, (uint64_t)is->st_ino, sink->bytes);
    ok = buf_is_good(&to, e) &&
         (sink->sealed = arena_bytes(sink->task, to.data, to.bytes, e)) != NULL;
    buf_free(&to);
    return ok;
}

static bool
file_sink_finish(Sink *s, Err *e)
{
    FileSink *sink = (FileSink *)s;
    struct stat is;

    /* After a failed fsync nothing that the file holds can be trusted: the caller aborts. */
    if (fsync(sink->fd) != 0)
        return fail_errno(e, errno, "syncing the file");
    if (fstat(sink->fd, &is) != 0)
        return fail_errno(e, errno, "looking at the file");
    if (is.st_size != sink->bytes)
        return fail(e, STORAGE_UNAVAILABLE, "the file has %" PRId64 " bytes instead of %" PRId64,
            (int64_t)is.st_size, sink->bytes);
    if (close(sink->fd) != 0) {
        sink->fd = -1;
        return fail_errno(e, errno, "closing the file");
    }
    sink->fd = -1;
    /* Its name in the folder may go with a power loss: then publish() says so, and it is run again.
     */
    return seal(sink, &is, e);
}

static void
file_sink_abort(Sink *s)
{
    FileSink *sink = (FileSink *)s;

    if (sink->fd >= 0)
        close(sink->fd);
    sink->fd = -1;
    (void)unlinkat(sink->store->uploads, sink->name, 0);
}

static const SinkKind file_sink = {
    .name = "file",
    .write = file_sink_write,
    .finish = file_sink_finish,
    .abort = file_sink_abort,
};

/* What earlier runs of this task left, up to this epoch: they were cut off, and it is worth
 * nothing. A run that is still alive writes into nowhere, and its task is refused to it. */
static bool
remove_left(const FileStorage *f, const Upload *mark, Err *e)
{
    Upload left = *mark;
    char name[UPLOAD_NAME_BYTES];

    left.epoch = mark->epoch > LEFT_MAX ? mark->epoch - LEFT_MAX : mark->epoch > 0;
    for (; left.epoch <= mark->epoch; left.epoch++) {
        if (!upload_name(&left, name, e))
            return false;
        (void)unlinkat(f->uploads, name, 0);
    }
    return true;
}

static Sink *
file_create(Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    FileSink *sink;

    (void)watch;
    if (!storage_key_check(key, e) || !(sink = arena_alloc(task, sizeof *sink, e)))
        return NULL;
    *sink = (FileSink){.base.kind = &file_sink, .store = f, .task = task};
    if (!(sink->key = arena_text(task, key, e)) || !upload_name(mark, sink->name, e))
        return NULL;
    if (!remove_left(f, mark, e))
        return NULL;
    sink->fd =
        openat(f->uploads, sink->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (sink->fd < 0) {
        fail_errno(e, errno, "making the upload");
        return NULL;
    }
    return &sink->base;
}

static const char *
file_sealed(Sink *object, Err *e)
{
    FileSink *sink = (FileSink *)object;

    if (!sink->sealed)
        fail(e, INTERNAL, "an upload that is not finished");
    return sink->sealed;
}

typedef struct {
    char upload[UPLOAD_NAME_BYTES];
    char key[STORAGE_KEY_BYTES + 1];
    dev_t device;
    ino_t inode;
    int64_t bytes;
} Sealed;

static bool
read_sealed(const char *text, Sealed *sealed, Err *e)
{
    json_t *value = json_parse(text, strlen(text), 4, e);
    bool ok = false;

    if (!value)
        return wrap(e, "reading what was sealed");
    *sealed = (Sealed){
        .device = (dev_t)json_int_or(value, "device", 0),
        .inode = (ino_t)json_int_or(value, "inode", 0),
        .bytes = json_int_or(value, "bytes", -1),
    };
    if (text_copy(sealed->upload, sizeof sealed->upload, json_text_or(value, "upload", "")) &&
        text_copy(sealed->key, sizeof sealed->key, json_text_or(value, "key", "")) &&
        sealed->upload[0] && sealed->upload[0] != '.' && !strchr(sealed->upload, '/') &&
        sealed->bytes >= 0)
        ok = storage_key_check(sealed->key, e);
    else /* the settings may have named another storage then */
        fail(e, FILE_GONE, "it was sealed by another storage");
    json_decref(value);
    return ok;
}

static bool
is_sealed_file(int folder, const char *name, const Sealed *sealed, bool *there)
{
    struct stat is = {0};

    *there = fstatat(folder, name, &is, AT_SYMLINK_NOFOLLOW) == 0;
    return *there && S_ISREG(is.st_mode) && is.st_dev == sealed->device &&
           is.st_ino == sealed->inode && is.st_size == sealed->bytes;
}

/* The key is taken, or the upload is gone: was it us, in an earlier life? */
static bool
judge_published(int folder, const char *name, const Sealed *sealed, Err *e)
{
    bool there;

    if (is_sealed_file(folder, name, sealed, &there))
        return true;
    if (there)
        return fail(e, EXISTS, "another file has the key %s", sealed->key);
    return fail(e, FILE_GONE, "neither the upload nor the file %s is there", sealed->key);
}

static bool
file_publish(Storage *s, const char *sealed_text, Sink *object, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    Sealed sealed = {0};

    (void)object;
    if (!read_sealed(sealed_text, &sealed, e))
        return false;
    for (int race = 0; race < RACES_MAX; race++) {
        const char *name = strrchr(sealed.key, '/') + 1;
        int folder = make_folder(f, sealed.key, e);
        bool there, ok;

        if (folder < 0)
            return false;
        if (is_sealed_file(f->uploads, sealed.upload, &sealed, &there) &&
            renameat2(f->uploads, sealed.upload, folder, name, RENAME_NOREPLACE) != 0 &&
            errno != EEXIST && errno != ENOENT) {
            fail_errno(e, errno, "publishing the file");
            close(folder);
            return false;
        }
        ok = judge_published(folder, name, &sealed, e) && sync_folder(folder, e) &&
             sync_folder(f->uploads, e);
        close(folder);
        /* The last file of the folder was deleted, and the folder with it, while we held it. */
        if (ok || e->code != ERR_FILE_GONE ||
            !is_sealed_file(f->uploads, sealed.upload, &sealed, &there))
            return ok;
        err_clear(e);
    }
    return fail(e, STORAGE_UNAVAILABLE, "the folder of %s vanishes all the time", sealed.key);
}

static bool
file_discard(Storage *s, const char *sealed_text, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    Sealed sealed = {0};

    if (!read_sealed(sealed_text, &sealed, e))
        return false;
    if (unlinkat(f->uploads, sealed.upload, 0) != 0 && errno != ENOENT)
        return fail_errno(e, errno, "removing an upload");
    return true;
}

/* Opens what lies under a key if it is a plain file with one name. -1 and NOT_FOUND otherwise.
 * openat2 takes no O_NONBLOCK beside O_PATH; to read, it keeps a FIFO from holding us. */
static int
open_object(const FileStorage *f, const char *key, uint64_t flags, struct stat *is, Err *e)
{
    int fd = open_beneath(f, key, flags);

    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            fail(e, NOT_FOUND, "no file %s", key);
        } else if (errno == ELOOP || errno == EXDEV || errno == ENXIO) {
            log_event(LOG_WARNING, "storage.refused", log_text("key", key));
            fail(e, NOT_FOUND, "%s is no plain file", key);
        } else {
            fail_errno(e, errno, "opening a file of the store");
        }
        return -1;
    }
    if (fstat(fd, is) == 0 && S_ISREG(is->st_mode) && is->st_nlink == 1)
        return fd;
    log_event(LOG_WARNING, "storage.refused", log_text("key", key));
    fail(e, NOT_FOUND, "%s is no plain file", key);
    close(fd);
    return -1;
}

static int64_t
modified_us(const struct stat *is)
{
    return (int64_t)is->st_mtim.tv_sec * 1000000 + is->st_mtim.tv_nsec / 1000;
}

static bool
file_stat(Storage *s, const char *key, StorageObject *object, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    struct stat is;
    int fd;

    if (!storage_key_check(key, e) || (fd = open_object(f, key, O_PATH, &is, e)) < 0)
        return false;
    close(fd);
    *object = (StorageObject){key, is.st_size, modified_us(&is)};
    return true;
}

static bool
file_fetch(Storage *s, const char *target, int64_t now_wall_s, Fetched *file, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    struct stat is;

    *file = (Fetched){.fd = -1};
    if (!link_check(f, target, now_wall_s, file->key, file->name, e))
        return false;
    if (!storage_key_check(file->key, e))
        return false;
    if ((file->fd = open_object(f, file->key, O_RDONLY | O_NONBLOCK, &is, e)) < 0)
        return false;
    file->bytes = is.st_size;
    file->modified_wall_us = modified_us(&is);
    snprintf(file->etag, sizeof file->etag, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
        (uint64_t)is.st_ino, (uint64_t)file->modified_wall_us, (uint64_t)is.st_size);
    return true;
}

/* There is no such folder, or what is there is a link or a file: nothing of ours lies in it. */
static bool
is_no_folder(int error)
{
    return error == ENOENT || error == ENOTDIR || error == ELOOP || error == EXDEV;
}

static bool
file_remove(Storage *s, const char *key, bool *existed, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    int folder;
    bool ok;

    *existed = false;
    if (!storage_key_check(key, e))
        return false;
    if ((folder = open_folder(f, key)) < 0)
        return is_no_folder(errno) || fail_errno(e, errno, "opening a folder of the store");
    if (unlinkat(folder, strrchr(key, '/') + 1, 0) == 0)
        *existed = true;
    ok = *existed || errno == ENOENT ||
         (errno == EISDIR ? fail(e, INVALID_KEY, "%s is a folder", key)
                          : fail_errno(e, errno, "deleting a file"));
    ok = ok && (!*existed || sync_folder(folder, e));
    close(folder);
    if (ok && *existed) {
        /* The user's folder goes with its last file; publish() makes it again if it comes too late.
         */
        char path[STORAGE_KEY_BYTES + 1];
        size_t bytes = (size_t)(strrchr(key, '/') - key);

        memcpy(path, key, bytes);
        path[bytes] = '\0';
        if (strchr(path, '/'))
            (void)unlinkat(f->root, path, AT_REMOVEDIR);
    }
    return ok;
}

static bool
file_remove_many(
    Storage *s, const char *const *keys, size_t count, StorageRefused *refused, void *with, Err *e)
{
    (void)e;
    for (size_t i = 0; i < count; i++) {
        bool existed;
        Err why = {0};

        if (s->watch)
            (void)s->watch->asked_to_end(s->watch); /* this is alive */
        if (!file_remove(s, keys[i], &existed, &why))
            refused(i, &why, with);
    }
    return true;
}

typedef struct {
    const char *prefix;
    StorageVisit *visit;
    void *with;
    Err *e;
} Walk;

static bool walk_folder(const Walk *walk, int fd, char *path, size_t path_bytes, int depth);

/* One entry of a folder; `path` holds the folder's path and has room for the name. */
static bool
walk_entry(const Walk *walk, int folder, const char *name, char *path, size_t path_bytes, int depth)
{
    size_t name_bytes = strlen(name);
    struct stat is;

    if (path_bytes + 1 + name_bytes > STORAGE_KEY_BYTES)
        return true;
    path[path_bytes] = '/';
    memcpy(path + path_bytes + 1, name, name_bytes + 1);
    if (fstatat(folder, name, &is, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || fail_errno(walk->e, errno, "looking at a file");
    if (S_ISDIR(is.st_mode)) {
        int fd;

        /* Only folders on the way to the prefix, or below it. */
        if (strncmp(path, walk->prefix, strnlen(walk->prefix, path_bytes + 1 + name_bytes)) != 0)
            return true;
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return is_no_folder(errno) || fail_errno(walk->e, errno, "opening a folder");
        return walk_folder(walk, fd, path, path_bytes + 1 + name_bytes, depth + 1);
    }
    if (!S_ISREG(is.st_mode) || is.st_nlink != 1 || !text_starts(path, walk->prefix))
        return true;
    return walk->visit(&(StorageObject){path, is.st_size, modified_us(&is)}, walk->with, walk->e);
}

/* Takes over `fd`. */
static bool
walk_folder(const Walk *walk, int fd, char *path, size_t path_bytes, int depth)
{
    DIR *folder = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    struct dirent *entry;
    bool ok = true;

    if (!folder) {
        close(fd);
        return depth >= DEPTH_MAX || fail(walk->e, STORAGE_UNAVAILABLE, "reading a folder: %m");
    }
    while (ok && (errno = 0, entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = walk_entry(walk, dirfd(folder), entry->d_name, path, path_bytes, depth);
    if (ok && errno != 0)
        ok = fail_errno(walk->e, errno, "reading a folder");
    closedir(folder);
    return ok;
}

static bool
file_list(Storage *s, const char *prefix, StorageVisit *visit, void *with, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    Walk walk = {prefix, visit, with, e};
    char path[STORAGE_KEY_BYTES + 258];
    const char *slash = strrchr(prefix, '/');
    size_t bytes = slash ? (size_t)(slash - prefix) : 0;
    int fd;

    if (!text_starts(prefix, "exports/") || bytes > STORAGE_KEY_BYTES || strstr(prefix, "..") ||
        strstr(prefix, "//"))
        return fail(e, INVALID_KEY, "no prefix of keys: %.64s", prefix);
    memcpy(path, prefix, bytes);
    path[bytes] = '\0';
    if ((fd = open_beneath(f, path, O_RDONLY | O_DIRECTORY)) < 0)
        return is_no_folder(errno) || fail_errno(e, errno, "opening a folder of the store");
    return walk_folder(&walk, fd, path, bytes, 0);
}

static bool
file_tidy(Storage *s, UploadKeep *keep, void *with, uint64_t *removed, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    int fd = openat(f->uploads, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    bool ok;

    *removed = 0;
    if (!folder)
        return fail_errno(e, errno, "reading the uploads");
    while ((errno = 0, entry = readdir(folder))) {
        char id[UPLOAD_NAME_BYTES];
        int64_t epoch;

        if (entry->d_name[0] == '.' || !upload_mark(entry->d_name, id, &epoch) ||
            keep(&(UnfinishedUpload){.task_id = id, .epoch = epoch}, with))
            continue;
        if (unlinkat(f->uploads, entry->d_name, 0) == 0)
            ++*removed;
    }
    ok = errno == 0 || fail_errno(e, errno, "reading the uploads");
    closedir(folder);
    return ok;
}

static bool
file_check(Storage *s, Err *e)
{
    FileStorage *f = (FileStorage *)s;
    char name[64];
    int fd;
    ssize_t wrote;
    int error;

    snprintf(name, sizeof name, ".check.%ld", (long)gettid());
    fd = openat(f->uploads, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_errno(e, errno, f->dir);
    wrote = write(fd, "ok\n", 3);
    error = errno;
    close(fd);
    (void)unlinkat(f->uploads, name, 0);
    return wrote == 3 || fail_errno(e, wrote < 0 ? error : ENOSPC, f->dir);
}

static void
file_close(Storage *s)
{
    FileStorage *f = (FileStorage *)s;

    if (f->root >= 0)
        close(f->root);
    if (f->uploads >= 0)
        close(f->uploads);
    explicit_bzero(f->link_key, sizeof f->link_key);
    arena_free(f->arena);
}

static bool
open_root(FileStorage *f, Err *e)
{
    if (mkdir(f->dir, 0700) != 0 && errno != EEXIST)
        return fail_errno(e, errno, f->dir);
    f->root = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->root < 0)
        return fail_errno(e, errno, f->dir);
    if (mkdirat(f->root, UPLOADS, 0700) != 0 && errno != EEXIST)
        return fail_errno(e, errno, f->dir);
    f->uploads = openat(f->root, UPLOADS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return f->uploads >= 0 || fail_errno(e, errno, f->dir);
}

static Storage *
file_open(const StorageSpec *spec, Err *e)
{
    Arena *arena = arena_new(64 << 10);
    FileStorage *f = arena ? arena_alloc(arena, sizeof *f, e) : NULL;
    bool ok;

    if (!f) {
        arena_free(arena);
        if (!e->links)
            fail(e, MEMORY_LIMIT, "no memory for the store");
        return NULL;
    }
    *f = (FileStorage){
        .base.kind = &storage_file,
        .arena = arena,
        .root = -1,
        .uploads = -1,
        .bytes_max = spec->bytes_max,
    };
    ok = (f->dir = arena_text(arena, spec->dir, e)) && open_root(f, e);
    for (unsigned i = 0; ok && i < spec->url_secrets && i < STORAGE_URL_KEYS_MAX; i++)
        ok = link_key_make(spec->url_secret[i], f->link_key[f->link_keys++], e);
    if (ok)
        return &f->base;
    file_close(&f->base);
    return NULL;
}

const StorageKind storage_file = {
    .name = "file",
    .open = file_open,
    .close = file_close,
    .create = file_create,
    .sealed = file_sealed,
    .publish = file_publish,
    .discard = file_discard,
    .sign = link_sign,
    .list = file_list,
    .stat = file_stat,
    .remove = file_remove,
    .remove_many = file_remove_many,
    .fetch = file_fetch,
    .tidy = file_tidy,
    .check = file_check,
};
