/* Files: a user's list, deleting one, and sending what a signed link names (api-surface.md 4.6 and
 * 5). Runs on the askers' threads, but for what is marked. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_in.h"
#include "api/cursor.h"
#include "api/query.h"
#include "api/range.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "base/time.h"
#include "export/key.h"
#include "export/result.h"
#include "net/disposition.h"

enum {
    LIST_DEFAULT = 10,
    LIST_MAX = 1000,
    LIST_ARENA_BYTES = 64 << 20,
    KEY_ROOM_MIN = 128,
    SERIES_BYTES = 128,
};

static Storage *
storage_of(Call *call, Err *e)
{
    return hands_storage(call->hands, call->setup->config, call->setup->number, e);
}

static void
count_operation(const char *operation, bool ok)
{
    const char *const labels[] = {operation, ok ? "ok" : "error", NULL};

    metric_add(METRIC_STORAGE_REQUESTS, 1, labels);
}

/* --- the list --- */

typedef struct {
    int64_t modified_us, bytes;
    char *key;
    size_t room;
} Entry;

/* The newest `most` files behind `after`, as a heap whose top is the oldest of them. */
typedef struct {
    Entry entry[LIST_MAX + 1];
    size_t count, most;
    const Cursor *after; /* NULL: from the start */
    Arena *arena;
} Page;

/* Newest first, then by key: less than 0 if `a` comes first. */
static int
compare(int64_t a_us, const char *a_key, int64_t b_us, const char *b_key)
{
    return a_us != b_us ? (a_us > b_us ? -1 : 1) : strcmp(a_key, b_key);
}

static int
compare_entries(const void *a, const void *b)
{
    const Entry *one = a, *two = b;

    return compare(one->modified_us, one->key, two->modified_us, two->key);
}

static void
swap(Entry *a, Entry *b)
{
    Entry kept = *a;

    *a = *b;
    *b = kept;
}

static void
sift_up(Page *page, size_t at)
{
    while (at > 0 && compare_entries(&page->entry[(at - 1) / 2], &page->entry[at]) < 0) {
        swap(&page->entry[(at - 1) / 2], &page->entry[at]);
        at = (at - 1) / 2;
    }
}

static void
sift_down(Page *page, size_t at)
{
    for (;;) {
        size_t last = at, left = 2 * at + 1;

        for (size_t child = left; child < left + 2 && child < page->count; child++)
            if (compare_entries(&page->entry[last], &page->entry[child]) < 0)
                last = child;
        if (last == at)
            return;
        swap(&page->entry[last], &page->entry[at]);
        at = last;
    }
}

/* An entry's room only grows, so what a list of any length takes stays bounded. */
static bool
set_entry(Entry *entry, const StorageObject *object, Arena *arena, Err *e)
{
    size_t bytes = strlen(object->key) + 1, room = KEY_ROOM_MIN;

    if (entry->room < bytes) {
        while (room < bytes)
            room *= 2;
        if (!(entry->key = arena_alloc(arena, room, e)))
            return false;
        entry->room = room;
    }
    memcpy(entry->key, object->key, bytes);
    entry->modified_us = object->modified_wall_us;
    entry->bytes = object->bytes;
    return true;
}

static bool
add_to_page(const StorageObject *object, void *with, Err *e)
{
    Page *page = with;
    const Cursor *after = page->after;
    const Entry *oldest = &page->entry[0];
    Err not_ours = {0};

    if (after &&
        compare(object->modified_wall_us, object->key, after->modified_us, after->key) <= 0)
        return true;
    if (!storage_key_check(object->key, &not_ours))
        return true;
    if (page->count < page->most) {
        if (!set_entry(&page->entry[page->count], object, page->arena, e))
            return false;
        sift_up(page, page->count++);
    } else if (compare(object->modified_wall_us, object->key, oldest->modified_us, oldest->key) <
               0) {
        if (!set_entry(&page->entry[0], object, page->arena, e))
            return false;
        sift_down(page, 0);
    }
    return true;
}

static json_t *
describe(Call *call, const Entry *entry, const ResultView *view, Arena *arena, Err *e)
{
    const StorageObject object = {entry->key, entry->bytes, entry->modified_us};
    Queue *queue = hands_queue(call->hands, e);
    QueueRecord record;
    Err unknown = {0};
    bool known;

    if (!queue)
        return NULL;
    known = call->api->queue_kind->find_key(queue, entry->key, arena, &record, &unknown);
    if (!known && unknown.code != ERR_EXPORT_NOT_FOUND) {
        *e = unknown;
        return NULL;
    }
    return result_file(&object, known ? &record : NULL, view, arena, e);
}

/* `next_cursor`, and the same as a Link (RFC 8288). */
static bool
add_next(Call *call, const Page *page, size_t limit, json_t *body, Err *e)
{
    const Entry *last = &page->entry[limit - 1];
    Cursor *cursor;
    Buf text = buf_new(4 << 10);
    bool ok;

    if (page->count <= limit) {
        json_object_set_new(body, "next_cursor", json_null());
        return true;
    }
    if (!(cursor = arena_alloc(page->arena, sizeof *cursor, e)))
        return false;
    cursor->modified_us = last->modified_us;
    ok = (text_copy(cursor->key, sizeof cursor->key, last->key) ||
             fail(e, INTERNAL, "a key that is too long")) &&
         cursor_write(cursor, call->name, call->setup->config, &text, e) && buf_is_good(&text, e);
    if (ok) {
        json_object_set_new(body, "next_cursor", json_string(text.data));
        response_header(&call->req->answer, "Link",
            "</api/exports/user/%s?limit=%zu&cursor=%s>; rel=\"next\"", call->name, limit,
            text.data);
    }
    buf_free(&text);
    return ok;
}

static bool
answer_page(Call *call, Page *page, size_t limit, Err *e)
{
    ResultView view = {
        .config = call->setup->config,
        .kinds = call->api->kinds,
        .storage_kind = call->api->storage_kind,
        .storage = call->hands->storage,
        .base_url = call->req->base_url,
        .now_us = time_wall_us(),
    };
    json_t *list = json_array(), *body = json_pack("{s:o}", "exports", list);

    qsort(page->entry, page->count, sizeof page->entry[0], compare_entries);
    for (size_t i = 0; i < page->count && i < limit; i++) {
        ArenaMark mark = arena_mark(page->arena);
        json_t *file = describe(call, &page->entry[i], &view, page->arena, e);

        arena_rewind(page->arena, mark);
        if (!file || json_array_append_new(list, file) != 0) {
            json_decref(body);
            return e->links ? false : fail(e, INTERNAL, "no memory for a list");
        }
    }
    if (!add_next(call, page, limit, body, e)) {
        json_decref(body);
        return false;
    }
    return call_answer_json(call, 200, body, e);
}

static bool
read_list(Call *call, Page *page, size_t limit, Err *e)
{
    char prefix[8 + 128 + 2];
    Storage *storage = storage_of(call, e);
    bool ok;

    /* One more than asked for: then there is a next page. */
    page->most = limit + 1;
    if (!storage)
        return false;
    (void)snprintf(prefix, sizeof prefix, "exports/%s/", call->name);
    ok = call->api->storage_kind->list(storage, prefix, add_to_page, page, e);
    count_operation("list", ok);
    return ok && answer_page(call, page, limit, e);
}

static bool
read_cursor(Call *call, Page *page, Err *e)
{
    const char *text;
    Cursor *cursor;

    if (!query_value(call->req->query, "cursor", call->req->arena, &text, e))
        return false;
    if (!text)
        return true;
    if (!(cursor = arena_alloc(call->req->arena, sizeof *cursor, e)))
        return false;
    page->after = cursor;
    if (cursor_read(text, call->name, call->setup->config, cursor, e))
        return true;
    problem_add(
        &call->problems, "query:cursor", "not-valid", NULL, "was not given out for this list");
    return false;
}

bool
export_list(Call *call, Err *e)
{
    Arena *arena = arena_new(LIST_ARENA_BYTES);
    Page *page = arena ? arena_alloc(arena, sizeof *page, e) : NULL;
    int64_t limit = 0;
    bool ok = false;

    if (!page) {
        arena_free(arena);
        return fail(e, INTERNAL, "no memory for a list");
    }
    page->arena = arena;
    if (!text_is_user_id(call->name))
        problem_add(&call->problems, "path:user_id", "pattern", NULL, "is not a user id");
    if (query_whole(
            call->req->query, "limit", 1, LIST_MAX, LIST_DEFAULT, &limit, &call->problems, e)) {
        if (call->problems.count > 0)
            fail(e, VALIDATION_FAILED, "the list cannot be made");
        else
            ok = read_cursor(call, page, e) && read_list(call, page, (size_t)limit, e);
    }
    arena_free(arena);
    return ok;
}

/* --- deleting --- */

typedef struct {
    bool existed;
    char objects[SERIES_BYTES], bytes[SERIES_BYTES];
    QueueTotal total[2];
} Deleted;

/* On the loop. */
static bool
delete_was_written(Call *call, Err *e)
{
    const Deleted *deleted = call->own;

    if (!call->write.ok) {
        *e = call->write.e;
        return wrap(e, "noting that %s is gone", call->name);
    }
    log_event(LOG_INFO, "export.deleted", log_text("key", call->name),
        log_text("request_id", call->req->request_id), log_bool("existed", deleted->existed),
        log_text("peer", call->req->peer));
    return call_answer_json(call, 200,
        json_pack("{s:s, s:s, s:b}", "status", "deleted", "key", call->name, "existed",
            (int)deleted->existed),
        e);
}

/* On the loop: the file is gone, its export's record has to say so. */
static bool
note_deleted(Call *call, Err *e)
{
    Deleted *deleted = call->own;

    call->write.op = WRITER_EXPIRE;
    call->write.as.expire.key = call->name;
    call->write.as.expire.total = deleted->total;
    call->write.as.expire.totals = deleted->existed ? 2 : 0;
    return call_write(call, delete_was_written, e);
}

/* No key of ours has a '%': one that decodes once more was encoded twice, unless others have put
 * such an object there. */
static bool
may_be_encoded_twice(const char *key)
{
    for (const char *at = key; (at = strchr(at, '%')); at++)
        if (strspn(at + 1, "0123456789abcdefABCDEF") >= 2)
            return true;
    return false;
}

static bool
check_key(const char *key, Err *e)
{
    const char *user;
    char name[130];
    size_t bytes;

    if (!storage_key_check(key, e))
        return false;
    if (!key_user(key, &user, &bytes) || bytes >= sizeof name)
        return fail(e, INVALID_KEY, "the key names no user");
    memcpy(name, user, bytes);
    name[bytes] = '\0';
    return text_is_user_id(name) || fail(e, INVALID_KEY, "the key names no user");
}

static bool
remove_file(Call *call, Deleted *deleted, Err *e)
{
    Storage *storage = storage_of(call, e);
    StorageObject object = {0};
    Err unseen = {0};
    bool ok;

    if (!storage)
        return false;
    if (!call->api->storage_kind->stat(storage, call->name, &object, &unseen) &&
        unseen.code == ERR_NOT_FOUND && may_be_encoded_twice(call->name))
        return fail(e, INVALID_KEY, "the key is encoded twice");
    ok = call->api->storage_kind->remove(storage, call->name, &deleted->existed, e);
    count_operation("delete", ok);
    deleted->total[0] = (QueueTotal){
        .series = metric_series(METRIC_STORAGE_OBJECTS, 0, deleted->objects, SERIES_BYTES, NULL),
        .add = -1};
    deleted->total[1] = (QueueTotal){
        .series = metric_series(METRIC_STORAGE_BYTES, 0, deleted->bytes, SERIES_BYTES, NULL),
        .add = -(double)object.bytes};
    return ok;
}

bool
export_delete(Call *call, Err *e)
{
    Deleted *deleted = arena_alloc(call->req->arena, sizeof *deleted, e);

    if (!deleted || !check_key(call->name, e) || !remove_file(call, deleted, e))
        return false;
    call->own = deleted;
    call->next = note_deleted;
    return true;
}

/* --- sending --- */

static const char *
content_type_of(const Call *call, const char *key)
{
    for (const EncoderKind *const *kind = call->api->kinds->format; *kind; kind++)
        if (text_ends(key, (*kind)->extension))
            return (*kind)->content_type;
    return "application/octet-stream";
}

static bool
has_seen(const Request *req, const char *etag)
{
    const char *seen = server_header(req, "if-none-match");

    return seen && etag_is_in(seen, etag);
}

static RangeAnswer
choose_range(const Request *req, const Fetched *file, const char *modified, Response *answer)
{
    const char *condition = server_header(req, "if-range");
    const char *range = server_header(req, "range");

    if (server_headers(req, "range") > 1 ||
        (condition && !if_range_fits(condition, file->etag, modified)))
        range = NULL;
    return range_read(range, file->bytes, &answer->offset, &answer->count);
}

static void
put_file_headers(Call *call, const Fetched *file, const char *modified)
{
    Response *answer = &call->req->answer;
    Buf disposition = buf_new(4 << 10);

    disposition_write(file->name, &disposition);
    response_header(answer, "ETag", "%s", file->etag);
    response_header(answer, "Last-Modified", "%s", modified);
    response_header(answer, "Accept-Ranges", "bytes");
    response_header(answer, "Content-Disposition", "%s", disposition.data);
    response_header(answer, "Content-Security-Policy", "sandbox; default-src 'none'");
    response_header(answer, "Cache-Control", "no-store");
    buf_free(&disposition);
}

/* Takes file->fd over. */
static bool
answer_file(Call *call, const Fetched *file, Err *e)
{
    Response *answer = &call->req->answer;
    char modified[TIME_TEXT_BYTES];

    time_http(file->modified_wall_us, modified);
    if (has_seen(call->req, file->etag)) {
        close(file->fd);
        answer->status = 304;
        response_header(answer, "ETag", "%s", file->etag);
        response_header(answer, "Cache-Control", "no-store");
        return true;
    }
    switch (choose_range(call->req, file, modified, answer)) {
    case RANGE_UNSATISFIABLE:
        close(file->fd);
        response_header(answer, "Content-Range", "bytes */%" PRId64, file->bytes);
        return fail(e, RANGE_NOT_SATISFIABLE, "the file has %" PRId64 " bytes", file->bytes);
    case RANGE_PART:
        answer->status = 206;
        response_header(answer, "Content-Range", "bytes %" PRId64 "-%" PRId64 "/%" PRId64,
            answer->offset, answer->offset + answer->count - 1, file->bytes);
        break;
    case RANGE_WHOLE:
        answer->status = 200;
        break;
    }
    answer->fd = file->fd;
    answer->content_type = content_type_of(call, file->key);
    put_file_headers(call, file, modified);
    return true;
}

bool
file_show(Call *call, Err *e)
{
    Storage *storage;
    Fetched file;

    if (!call->api->storage_kind->fetch)
        return fail(e, NOT_FOUND, "files are not served here");
    storage = storage_of(call, e);
    if (!storage || !call->api->storage_kind->fetch(
                        storage, call->req->target, time_wall_us() / 1000000, &file, e))
        return false;
    return answer_file(call, &file, e);
}
