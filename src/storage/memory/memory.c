/* One object in memory, for tests: the driver that does nothing special. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "storage/memory/memory.h"

enum { OBJECT_BYTES_MAX = 64 << 20 };

typedef struct {
    Storage base;
} MemoryStorage;

typedef struct {
    Sink base;
    const char *sealed;
    Arena *task;
} MemorySink;

static struct {
    Buf upload, object;
    char key[STORAGE_KEY_BYTES + 1];
    bool is_open, is_sealed, is_visible;
} memory;

static MemoryStorage the_storage;

bool
memory_object_is_visible(void)
{
    return memory.is_visible;
}

const char *
memory_object(size_t *bytes)
{
    *bytes = memory.object.bytes;
    return memory.object.data;
}

void
memory_forget(void)
{
    buf_free(&memory.upload);
    buf_free(&memory.object);
    memory.is_open = memory.is_sealed = memory.is_visible = false;
}

static Storage *
memory_open(const StorageSpec *spec, Err *e)
{
    (void)spec;
    (void)e;
    if (memory.upload.limit_bytes == 0) {
        memory.upload = buf_new(OBJECT_BYTES_MAX);
        memory.object = buf_new(OBJECT_BYTES_MAX);
    }
    the_storage.base.kind = &storage_memory;
    return &the_storage.base;
}

static void
memory_close(Storage *s)
{
    (void)s;
}

static bool
memory_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    (void)s;
    buf_put(&memory.upload, data, bytes);
    return buf_is_good(&memory.upload, e);
}

static bool
memory_finish(Sink *s, Err *e)
{
    MemorySink *sink = (MemorySink *)s;

    memory.is_sealed = true;
    return (sink->sealed = arena_printf(
                sink->task, e, "{\"store\":\"memory\",\"key\":\"%s\"}", memory.key)) != NULL;
}

static void
memory_abort(Sink *s)
{
    (void)s;
    buf_free(&memory.upload);
    memory.is_open = memory.is_sealed = false;
}

static const SinkKind memory_sink = {"memory", memory_write, memory_finish, memory_abort};

static Sink *
memory_create(Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e)
{
    MemorySink *sink;

    (void)s;
    (void)mark;
    (void)watch;
    if (!storage_key_check(key, e) || !(sink = arena_alloc(task, sizeof *sink, e)))
        return NULL;
    sink->base.kind = &memory_sink;
    sink->task = task;
    (void)text_copy(memory.key, sizeof memory.key, key);
    buf_clear(&memory.upload);
    memory.is_open = true;
    return &sink->base;
}

static const char *
memory_sealed(Sink *object, Err *e)
{
    MemorySink *sink = (MemorySink *)object;

    if (!sink->sealed)
        fail(e, INTERNAL, "an upload that is not finished");
    return sink->sealed;
}

static bool
memory_publish(Storage *s, const char *sealed, Sink *object, Err *e)
{
    (void)s;
    (void)sealed;
    (void)object;
    if (!memory.is_sealed)
        return memory.is_visible || fail(e, FILE_GONE, "there is no upload");
    buf_clear(&memory.object);
    buf_put(&memory.object, memory.upload.data, memory.upload.bytes);
    if (!buf_is_good(&memory.object, e))
        return false;
    memory.is_visible = true;
    memory.is_sealed = memory.is_open = false;
    return true;
}

static bool
memory_discard(Storage *s, const char *sealed, Err *e)
{
    (void)s;
    (void)sealed;
    (void)e;
    memory_abort(NULL);
    return true;
}

static bool
memory_sign(Storage *s, const char *key, const SignSpec *spec, char *url, size_t url_bytes, Err *e)
{
    (void)s;
    (void)spec;
    return snprintf(url, url_bytes, "memory:%s", key) < (int)url_bytes ||
           fail(e, INTERNAL, "a long link");
}

static bool
memory_stat(Storage *s, const char *key, StorageObject *object, Err *e)
{
    (void)s;
    if (!memory.is_visible || strcmp(key, memory.key) != 0)
        return fail(e, NOT_FOUND, "no object %s", key);
    *object = (StorageObject){memory.key, (int64_t)memory.object.bytes, 0};
    return true;
}

static bool
memory_list(Storage *s, const char *prefix, StorageVisit *visit, void *with, Err *e)
{
    StorageObject object = {memory.key, (int64_t)memory.object.bytes, 0};

    (void)s;
    return !memory.is_visible || !text_starts(memory.key, prefix) || visit(&object, with, e);
}

static bool
memory_remove(Storage *s, const char *key, bool *existed, Err *e)
{
    (void)s;
    (void)e;
    *existed = memory.is_visible && strcmp(key, memory.key) == 0;
    if (*existed)
        memory.is_visible = false;
    return true;
}

static bool
memory_tidy(Storage *s, UploadKeep *keep, void *with, uint64_t *removed, Err *e)
{
    (void)s;
    (void)keep;
    (void)with;
    (void)e;
    *removed = memory.is_open;
    memory_abort(NULL);
    return true;
}

static bool
memory_check(Storage *s, Err *e)
{
    (void)s;
    (void)e;
    return true;
}

const StorageKind storage_memory = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .create = memory_create,
    .sealed = memory_sealed,
    .publish = memory_publish,
    .discard = memory_discard,
    .sign = memory_sign,
    .list = memory_list,
    .stat = memory_stat,
    .remove = memory_remove,
    .tidy = memory_tidy,
    .check = memory_check,
};
