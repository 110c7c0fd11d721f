/* A few objects in memory, for tests: the driver that does nothing special. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/text.h"
#include "storage/memory/memory.h"

enum { OBJECT_BYTES_MAX = 64 << 20, ENTRIES_MAX = 64, TASK_ID_BYTES = 129 };

typedef enum { FREE, UPLOAD, SEALED, VISIBLE } EntryState;

typedef struct {
    EntryState state;
    int64_t number; /* of the upload, never the same twice; of the object that it became, too */
    char key[STORAGE_KEY_BYTES + 1];
    char task_id[TASK_ID_BYTES];
    int64_t epoch;
    Buf bytes;
} Entry;

typedef struct {
    Sink base;
    Entry *entry; /* NULL once it was thrown away */
    const char *sealed;
    Arena *task;
    int64_t bytes_max;
} MemorySink;

typedef struct {
    Storage base;
    int64_t bytes_max;
} MemoryStorage;

static Entry entries[ENTRIES_MAX];
static int64_t last_number;
static MemoryStorage the_storage;

static Entry *
find_visible(const char *key)
{
    for (Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        if (entry->state == VISIBLE && strcmp(entry->key, key) == 0)
            return entry;
    return NULL;
}

static Entry *
find_number(int64_t number)
{
    for (Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        if (entry->state != FREE && entry->number == number)
            return entry;
    return NULL;
}

static void
forget(Entry *entry)
{
    buf_free(&entry->bytes);
    *entry = (Entry){0};
}

/* The object that was published last, NULL if nothing is visible. */
static const Entry *
find_last(void)
{
    const Entry *last = NULL;

    for (const Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        if (entry->state == VISIBLE && (!last || entry->number > last->number))
            last = entry;
    return last;
}

bool
memory_object_is_visible(void)
{
    return find_last() != NULL;
}

const char *
memory_object(size_t *bytes)
{
    const Entry *last = find_last();

    *bytes = last ? last->bytes.bytes : 0;
    return last ? last->bytes.data : "";
}

unsigned
memory_uploads(void)
{
    unsigned count = 0;

    for (const Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        count += entry->state == UPLOAD || entry->state == SEALED;
    return count;
}

void
memory_forget(void)
{
    for (Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        if (entry->state != FREE)
            forget(entry);
}

static Storage *
memory_open(const StorageSpec *spec, Err *e)
{
    (void)e;
    the_storage = (MemoryStorage){{&storage_memory}, spec->bytes_max};
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
    MemorySink *sink = (MemorySink *)s;
    Buf *to = &sink->entry->bytes;

    if (sink->bytes_max > 0 && to->bytes + bytes > (uint64_t)sink->bytes_max)
        return fail(e, SIZE_LIMIT, "more than %" PRId64 " bytes", sink->bytes_max);
    buf_put(to, data, bytes);
    return buf_is_good(to, e);
}

static bool
memory_finish(Sink *s, Err *e)
{
    MemorySink *sink = (MemorySink *)s;

    sink->sealed = arena_printf(
        sink->task, e, "{\"store\":\"memory\",\"number\":%" PRId64 "}", sink->entry->number);
    if (sink->sealed)
        sink->entry->state = SEALED;
    return sink->sealed != NULL;
}

static void
memory_abort(Sink *s)
{
    MemorySink *sink = (MemorySink *)s;

    if (sink->entry)
        forget(sink->entry);
    sink->entry = NULL;
}

static const SinkKind memory_sink = {"memory", memory_write, memory_finish, memory_abort};

static Sink *
memory_create(Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e)
{
    Entry *entry = entries;
    MemorySink *sink;

    (void)watch;
    if (!storage_key_check(key, e) || !(sink = arena_alloc(task, sizeof *sink, e)))
        return NULL;
    while (entry < entries + ENTRIES_MAX && entry->state != FREE)
        entry++;
    if (entry == entries + ENTRIES_MAX) {
        fail(e, STORAGE_FULL, "memory holds %d objects", ENTRIES_MAX);
        return NULL;
    }
    *entry = (Entry){.state = UPLOAD,
        .number = ++last_number,
        .epoch = mark->epoch,
        .bytes = buf_new(OBJECT_BYTES_MAX)};
    (void)text_copy(entry->key, sizeof entry->key, key);
    (void)text_copy(entry->task_id, sizeof entry->task_id, mark->task_id);
    *sink = (MemorySink){.base.kind = &memory_sink,
        .entry = entry,
        .task = task,
        .bytes_max = ((MemoryStorage *)s)->bytes_max};
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

/* The upload that was sealed, or the object that it has become; NULL without an error: gone. */
static bool
find_sealed(const char *sealed, Entry **entry, Err *e)
{
    json_t *value = json_parse(sealed, strlen(sealed), 4, e);

    if (!value)
        return wrap(e, "reading what was sealed");
    *entry = find_number(json_int_or(value, "number", -1));
    json_decref(value);
    return true;
}

static bool
memory_publish(Storage *s, const char *sealed, Sink *object, Err *e)
{
    Entry *entry = NULL;

    (void)s;
    (void)object;
    if (!find_sealed(sealed, &entry, e))
        return false;
    if (!entry || entry->state == UPLOAD)
        return fail(e, FILE_GONE, "there is no upload");
    if (entry->state == SEALED && find_visible(entry->key))
        return fail(e, EXISTS, "another object has the key %s", entry->key);
    entry->state = VISIBLE;
    return true;
}

static bool
memory_discard(Storage *s, const char *sealed, Err *e)
{
    Entry *entry = NULL;

    (void)s;
    if (!find_sealed(sealed, &entry, e))
        return false;
    if (entry && entry->state != VISIBLE)
        forget(entry);
    return true;
}

static bool
memory_sign(Storage *s, const char *key, const SignSpec *spec, char *url, size_t url_bytes,
    int64_t *expires_wall_s, Err *e)
{
    (void)s;
    *expires_wall_s = spec->expires_wall_s;
    if (!storage_key_check(key, e))
        return false;
    return snprintf(url, url_bytes, "memory:%s", key) < (int)url_bytes ||
           fail(e, INTERNAL, "a long link");
}

static StorageObject
describe(const Entry *entry)
{
    return (StorageObject){entry->key, (int64_t)entry->bytes.bytes, entry->number};
}

static bool
memory_stat(Storage *s, const char *key, StorageObject *object, Err *e)
{
    const Entry *entry;

    (void)s;
    if (!storage_key_check(key, e))
        return false;
    if (!(entry = find_visible(key)))
        return fail(e, NOT_FOUND, "no object %s", key);
    *object = describe(entry);
    object->key = key;
    return true;
}

static bool
memory_list(Storage *s, const char *prefix, StorageVisit *visit, void *with, Err *e)
{
    (void)s;
    for (const Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++) {
        StorageObject object = describe(entry);

        if (entry->state == VISIBLE && text_starts(entry->key, prefix) && !visit(&object, with, e))
            return false;
    }
    return true;
}

static bool
memory_remove(Storage *s, const char *key, bool *existed, Err *e)
{
    Entry *entry;

    (void)s;
    *existed = false;
    if (!storage_key_check(key, e))
        return false;
    if ((entry = find_visible(key)))
        forget(entry);
    *existed = entry != NULL;
    return true;
}

static bool
memory_remove_many(
    Storage *s, const char *const *keys, size_t count, StorageRefused *refused, void *with, Err *e)
{
    (void)e;
    for (size_t i = 0; i < count; i++) {
        bool existed;
        Err why = {0};

        if (!memory_remove(s, keys[i], &existed, &why))
            refused(i, &why, with);
    }
    return true;
}

static bool
memory_tidy(Storage *s, UploadKeep *keep, void *with, uint64_t *removed, Err *e)
{
    (void)s;
    (void)e;
    *removed = 0;
    for (Entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        if ((entry->state == UPLOAD || entry->state == SEALED) &&
            !keep(&(UnfinishedUpload){.task_id = entry->task_id, .epoch = entry->epoch}, with)) {
            forget(entry);
            ++*removed;
        }
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
    .remove_many = memory_remove_many,
    .tidy = memory_tidy,
    .check = memory_check,
};
