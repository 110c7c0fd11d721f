/*
 * The S3 store: links, lists, deleting, unfinished uploads (s3.md 4, 8.7, 11). Objects come into
 * being in multipart.c and publish.c.
 */
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "net/disposition.h"
#include "storage/s3/s3_in.h"

enum {
    ARENA_BYTES = 64 << 10,
    PAGE_BYTES = 8 << 20,
    DELETED_BYTES = 1 << 20,
    DELETE_BODY_BYTES = 8 << 20, /* 1,000 keys at their longest, each byte an escape of six */
    CHECK_MS = 10000,
    CHECK_TRY_MS = 5000,
    CHECK_TRIES = 2,
    KEYS_WAIT_MS = 2000,
    LINK_GRID_S = 15 * 60,
    LINK_LIFE_S_MAX = 7 * 24 * 3600,
    KEYS_MARGIN_S = 60, /* a link is said to end so long before the keys that sign it */
    HOST_AND_PATH_BYTES = 8 << 10,
};

static const char our_prefix[] = "exports/";

/* --- links --- */

/* Where links lead to, with the region learnt so far. */
static bool
link_site(S3Storage *s, Site *site, Err *e)
{
    const Site now = client_site(s->client);

    *site = now;
    return !*s->spec.public_endpoint || site_make(&s->spec, now.region, true, site, e);
}

/* A key that signs links and nothing else, or that of the requests. Links are signed where nobody
 * may wait for long, so only the first one waits for a source of keys. */
static bool
link_keys(S3Storage *s, S3Keys *keys, Err *e)
{
    int64_t wait_ms = s->has_waited ? 0 : KEYS_WAIT_MS;

    *keys = (S3Keys){0};
    if (*s->spec.sign_access_key)
        return (text_copy(keys->access_key, sizeof keys->access_key, s->spec.sign_access_key) &&
                   text_copy(keys->secret_key, sizeof keys->secret_key, s->spec.sign_secret_key)) ||
               fail(e, CONFIG_INVALID, "ROWFERRY_SIGN_ACCESS_KEY or its secret is too long");
    s->has_waited = true;
    return credentials_get(client_credentials(s->client), wait_ms, keys, e);
}

/*
 * From a point in the past on, on a grid, so that two polls give the same link; not further back
 * than a link may live. By the store's clock.
 */
static int64_t
link_begin_s(int64_t now_s, int64_t ends_s)
{
    int64_t begin_s = now_s - now_s % LINK_GRID_S;

    return ends_s - begin_s > LINK_LIFE_S_MAX ? ends_s - LINK_LIFE_S_MAX : begin_s;
}

/* When a link ends that these keys sign. Where there is no time for the margin, it is theirs. */
static int64_t
link_end_s(const S3Keys *keys, int64_t wall_s)
{
    int64_t careful_s = keys->ends_wall_s - KEYS_MARGIN_S;

    return careful_s > wall_s ? careful_s : keys->ends_wall_s;
}

static bool
sign_with(S3Storage *s, const SignRequest *unsigned_request, const SignSpec *spec,
    const S3Keys *keys, Buf *to, int64_t *expires_wall_s, Err *e)
{
    SignRequest r = *unsigned_request;
    int64_t wall_s = time_wall_us() / 1000000, now_s = client_now_wall_s(s->client);
    int64_t ends_s = spec->expires_wall_s + (now_s - wall_s);

    r.now_wall_s = link_begin_s(now_s, ends_s);
    *expires_wall_s = spec->expires_wall_s;
    if (keys->ends_wall_s > 0 && link_end_s(keys, wall_s) < *expires_wall_s)
        *expires_wall_s = link_end_s(keys, wall_s);
    if (*expires_wall_s <= wall_s)
        return fail(e, INTERNAL, "a link that has ended");
    return sign_link(&r, keys, ends_s - r.now_wall_s, &s->link_key, to, e);
}

/* Of a bucket that everybody may read: nothing is signed, so nothing is overridden. */
static bool
plain_link(const SignRequest *r, const SignSpec *spec, Buf *to, int64_t *expires_wall_s)
{
    buf_text(to, r->path);
    *expires_wall_s = spec->expires_wall_s;
    return true;
}

static bool
s3_sign(Storage *storage, const char *key, const SignSpec *spec, char *url, size_t url_bytes,
    int64_t *expires_wall_s, Err *e)
{
    S3Storage *s = (S3Storage *)storage;
    Buf to = buf_new(url_bytes), path = buf_new(HOST_AND_PATH_BYTES), name = buf_new(4 << 10);
    S3Keys keys = {0};
    Site site;
    bool ok = storage_key_check(key, e) && link_site(s, &site, e);

    if (ok) {
        S3Pair query[] = {
            {"response-content-disposition", NULL}, {"response-content-type", spec->content_type}};
        const SignRequest r = {.method = "GET",
            .host = site.host,
            .path = (site_path(&site, key, &path), path.data),
            .query = query,
            .queries = 2,
            .region = site.region,
            .service = "s3"};

        if (spec->name) {
            disposition_write(spec->name, &name);
            query[0].value = name.data;
        }
        buf_printf(&to, "%s://%s", site.is_secure ? "https" : "http", site.host);
        ok = buf_is_good(&path, e) && buf_is_good(&name, e) &&
             (s->spec.anonymous ? plain_link(&r, spec, &to, expires_wall_s)
                                : link_keys(s, &keys, e) &&
                                      sign_with(s, &r, spec, &keys, &to, expires_wall_s, e)) &&
             buf_is_good(&to, e);
    }
    if (ok && !text_copy(url, url_bytes, to.data))
        ok = fail(e, INTERNAL, "a link longer than %zu bytes", url_bytes);
    explicit_bzero(&keys, sizeof keys);
    buf_free(&to);
    buf_free(&path);
    buf_free(&name);
    return ok;
}

/* --- pages --- */

/*
 * Does a list go in circles? Brent's way: the place of a page is kept and compared with all that
 * follow, and kept anew after 1, 2, 4 … of them.
 */
typedef struct {
    char kept[sizeof((AnswerPage *)0)->marker + S3_UPLOAD_BYTES + 2];
    uint64_t pages, keep_at;
} Circle;

static bool
circle_is_closed(Circle *c, const char *place, const char *detail)
{
    char now[sizeof c->kept];

    snprintf(now, sizeof now, "%s\n%s", place, detail);
    if (c->pages > 0 && strcmp(now, c->kept) == 0)
        return true;
    if (c->pages++ >= c->keep_at) {
        memcpy(c->kept, now, sizeof now);
        c->keep_at = 2 * c->pages;
    }
    return false;
}

/* One list, page by page. In an arena of its own: pages say where the next one begins. */
typedef struct {
    S3Storage *store;
    const char *prefix;
    AnswerPage page;
    Circle circle;
    void *with; /* of the visits below */
    StorageVisit *visit;
    UploadKeep *keep;
    uint64_t removed, failures;
    Err first; /* why the first upload could not be removed */
} List;

static List *
list_new(Storage *storage, const char *prefix, Arena **arena, Err *e)
{
    List *list;

    if (!(*arena = arena_new(sizeof *list + ARENA_BYTES))) {
        fail(e, MEMORY_LIMIT, "no memory for a list");
        return NULL;
    }
    if ((list = arena_alloc(*arena, sizeof *list, e)))
        *list = (List){.store = (S3Storage *)storage, .prefix = prefix};
    return list;
}

static bool
no_way_on(Err *e)
{
    return fail(e, STORAGE_UNAVAILABLE, "the store's list goes on, and does not say where");
}

static bool
goes_in_circles(Err *e)
{
    return fail(e, STORAGE_UNAVAILABLE, "the store's list goes in circles");
}

/* --- objects --- */

static bool
visit_object(const AnswerEntry *entry, void *with, Err *e)
{
    List *list = with;

    return !text_starts(entry->key, list->prefix) ||
           list->visit(
               &(StorageObject){entry->key, entry->bytes, entry->modified_us}, list->with, e);
}

/* Asks for the page behind list->page; `first`: for the first one. */
static bool
list_page(List *list, bool first, Err *e)
{
    const S3Spec *spec = &list->store->spec;
    bool is_old = spec->list_version == 1;
    AnswerPage *page = &list->page;
    const S3Pair query[] = {
        {"list-type", is_old ? NULL : "2"},
        {"prefix", list->prefix},
        {"max-keys", "1000"},
        {"encoding-type", spec->url_encode ? "url" : NULL},
        {"marker", is_old && !first ? page->marker : NULL},
        {"continuation-token", !is_old && !first && page->token[0] ? page->token : NULL},
        {"start-after", !is_old && !first && !page->token[0] ? page->marker : NULL},
    };
    const S3Request request = {
        .operation = "ListObjects",
        .method = "GET",
        .query = query,
        .queries = sizeof query / sizeof query[0],
        .answer_bytes_max = PAGE_BYTES,
    };
    S3Answer answer;
    bool ok =
        client_call(list->store->client, &request, &answer, list->store->base.watch, e) &&
        answer_objects(answer.http.body.data, answer.http.body.bytes, visit_object, list, page, e);

    client_answer_free(&answer);
    return ok;
}

static bool
list_objects(List *list, Err *e)
{
    AnswerPage *page = &list->page;

    for (bool first = true; first || page->is_truncated; first = false) {
        if (!list_page(list, first, e))
            return false;
        if (!page->is_truncated)
            break;
        if (!page->has_next)
            return no_way_on(e);
        if (circle_is_closed(&list->circle, page->token[0] ? page->token : page->marker, ""))
            return goes_in_circles(e);
    }
    return true;
}

static bool
s3_list(Storage *storage, const char *prefix, StorageVisit *visit, void *with, Err *e)
{
    Arena *arena = NULL;
    List *list;
    bool ok = false;

    if (!text_starts(prefix, our_prefix) || strlen(prefix) > STORAGE_KEY_BYTES)
        return fail(e, INVALID_KEY, "no prefix of keys: %.64s", prefix);
    if ((list = list_new(storage, prefix, &arena, e))) {
        list->visit = visit;
        list->with = with;
        ok = list_objects(list, e);
    }
    arena_free(arena);
    return ok;
}

static bool
read_head(const S3Answer *answer, StorageObject *object, Err *e)
{
    char length[32], date[64];
    uint64_t bytes;

    if (!http_header(&answer->http, "Content-Length", length, sizeof length) ||
        !text_to_uint(length, INT64_MAX, &bytes))
        return fail(e, STORAGE_UNAVAILABLE, "the store does not say how long an object is");
    object->bytes = (int64_t)bytes;
    if (!http_header(&answer->http, "Last-Modified", date, sizeof date) ||
        !time_parse_http(date, &object->modified_wall_us))
        object->modified_wall_us = 0;
    return true;
}

static bool
s3_stat(Storage *storage, const char *key, StorageObject *object, Err *e)
{
    S3Storage *s = (S3Storage *)storage;
    const S3Request request = {.operation = "HeadObject", .method = "HEAD", .key = key};
    S3Answer answer;
    bool ok;

    if (!storage_key_check(key, e))
        return false;
    *object = (StorageObject){.key = key};
    ok = client_call(s->client, &request, &answer, storage->watch, e) &&
         read_head(&answer, object, e);
    client_answer_free(&answer);
    return ok;
}

/* --- deleting --- */

bool
s3_delete(S3Storage *s, const char *key, Err *e)
{
    const S3Request request = {.operation = "DeleteObject", .method = "DELETE", .key = key};
    S3Answer answer;
    bool ok = client_call(s->client, &request, &answer, s->base.watch, e);

    if (!ok && answer.class == S3_ABSENT) {
        err_clear(e);
        ok = true;
    }
    client_answer_free(&answer);
    return ok;
}

/* A store says of a key that was not there that it has deleted it; so it is asked before. */
static bool
s3_remove(Storage *storage, const char *key, bool *existed, Err *e)
{
    StorageObject object;
    Err why = {0};

    *existed = s3_stat(storage, key, &object, &why);
    if (!*existed) {
        if (why.code == ERR_NOT_FOUND)
            return true;
        *e = why;
        return false;
    }
    return s3_delete((S3Storage *)storage, key, e);
}

/* Those of a batch, and what became of them. */
typedef struct {
    S3Storage *store;
    const char *const *keys;
    size_t count;
    bool *is_left; /* to be deleted one by one */
    bool all_left; /* the store deletes no batches */
} Batch;

/* One that a batch could not delete is tried alone: that decides. */
static bool
note_left(const char *key, const char *code, const char *message, void *with)
{
    Batch *batch = with;

    (void)code;
    (void)message;
    for (size_t i = 0; i < batch->count; i++)
        if (strcmp(batch->keys[i], key) == 0)
            batch->is_left[i] = true;
    return true;
}

static bool
write_batch(const Batch *batch, Buf *body, char md5[32], Err *e)
{
    uint8_t sum[16];
    Buf text = buf_new(64);
    bool ok;

    buf_text(body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->is_left[i])
            continue;
        buf_text(body, "<Object><Key>");
        answer_put_text(body, batch->keys[i], strlen(batch->keys[i]));
        buf_text(body, "</Key></Object>");
    }
    buf_text(body, "</Delete>");
    if (!buf_is_good(body, e))
        return false;
    if (EVP_Digest(body->data, body->bytes, sum, NULL, EVP_md5(), NULL) != 1)
        return fail(e, NOT_AVAILABLE, "MD5 is not to be had (a FIPS build?)");
    text_base64(&text, sum, sizeof sum);
    ok = text_copy(md5, 32, text.data);
    buf_free(&text);
    return ok || fail(e, INTERNAL, "an MD5 that is too long");
}

static bool
send_batch(Batch *batch, const Buf *body, const char *md5, Err *e)
{
    S3Storage *s = batch->store;
    const S3Pair query[] = {{"delete", ""}};
    const S3Pair header[] = {{"content-md5", md5}, {"content-type", "application/xml"}};
    const S3Request request = {
        .operation = "DeleteObjects",
        .method = "POST",
        .query = query,
        .queries = 1,
        .header = header,
        .headers = 2,
        .body = body->data,
        .body_bytes = body->bytes,
        .answer_bytes_max = DELETED_BYTES,
        .reads_error = true,
    };
    S3Answer answer;
    bool ok = client_call(s->client, &request, &answer, s->base.watch, e) &&
              answer_deleted(answer.http.body.data, answer.http.body.bytes, note_left, batch, e);

    /* The store knows no batches, or one key of this one is not to its liking. */
    if (!ok && (answer.class == S3_CANNOT || answer.class == S3_INVALID)) {
        s->no_batch = s->no_batch || answer.class == S3_CANNOT;
        batch->all_left = true;
        err_clear(e);
        ok = true;
    }
    client_answer_free(&answer);
    return ok;
}

static bool
delete_batch(Batch *batch, Err *e)
{
    Buf body = buf_new(DELETE_BODY_BYTES);
    char md5[32];
    bool ok;

    if (batch->store->no_batch || batch->count < 2) {
        batch->all_left = true;
        return true;
    }
    if (!(ok = write_batch(batch, &body, md5, e)) && e->code == ERR_NOT_AVAILABLE) {
        batch->store->no_batch = batch->all_left = true;
        err_clear(e);
        ok = true;
    } else if (ok) {
        ok = send_batch(batch, &body, md5, e);
    }
    buf_free(&body);
    return ok;
}

static bool
s3_remove_many(Storage *storage, const char *const *keys, size_t count, StorageRefused *refused,
    void *with, Err *e)
{
    bool is_left[STORAGE_REMOVE_MAX] = {false}, is_bad[STORAGE_REMOVE_MAX] = {false};
    Batch batch = {.store = (S3Storage *)storage, .keys = keys, .count = count, .is_left = is_left};
    Err why = {0};

    if (count > STORAGE_REMOVE_MAX)
        return fail(e, INTERNAL, "%zu keys in one batch", count);
    for (size_t i = 0; i < count; i++)
        if (!storage_key_check(keys[i], &why)) {
            is_left[i] = is_bad[i] = true; /* not in the batch, and not tried alone */
            refused(i, &why, with);
            err_clear(&why);
        }
    if (!delete_batch(&batch, e))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (is_bad[i] || (!is_left[i] && !batch.all_left))
            continue;
        if (s3_delete(batch.store, keys[i], &why))
            continue;
        /* Told to end, or the store is out of reach: so it would be for all that follow. */
        if (why.code == ERR_CANCELLED || why.code == ERR_STORAGE_UNAVAILABLE) {
            *e = why;
            return false;
        }
        refused(i, &why, with);
        err_clear(&why);
    }
    return true;
}

/* --- unfinished uploads --- */

static bool
judge_upload(const AnswerEntry *entry, void *with, Err *e)
{
    List *list = with;
    const UnfinishedUpload upload = {
        .key = entry->key, .id = entry->upload, .begun_wall_us = entry->modified_us};
    Err why = {0};

    if (!entry->upload || !text_starts(entry->key, our_prefix) || list->keep(&upload, list->with))
        return true;
    if (multipart_abort(list->store, entry->key, entry->upload, list->store->base.watch, &why)) {
        list->removed++;
        return true;
    }
    if (why.code == ERR_CANCELLED) {
        *e = why;
        return false;
    }
    /* One that cannot be removed does not keep the others. */
    if (list->failures++ == 0)
        list->first = why;
    log_event(LOG_WARNING, "storage.upload_left", log_text("key", entry->key), log_err(&why));
    return true;
}

/* `with_id` false: only the key says where to go on. */
static bool
upload_page(List *list, bool first, bool with_id, S3Class *class, Err *e)
{
    AnswerPage *page = &list->page;
    /* Not encoded: one store says so and does not do it, and our keys need none. */
    const S3Pair query[] = {
        {"uploads", ""},
        {"prefix", *list->prefix ? list->prefix : NULL},
        {"max-uploads", "1000"},
        {"key-marker", first ? NULL : page->marker},
        {"upload-id-marker",
            first || !with_id || !page->upload_marker[0] ? NULL : page->upload_marker},
    };
    const S3Request request = {
        .operation = "ListMultipartUploads",
        .method = "GET",
        .query = query,
        .queries = sizeof query / sizeof query[0],
        .answer_bytes_max = PAGE_BYTES,
    };
    S3Answer answer;
    bool ok = client_call(list->store->client, &request, &answer, list->store->base.watch, e);

    *class = answer.class;
    ok = ok &&
         answer_uploads(answer.http.body.data, answer.http.body.bytes, judge_upload, list, page, e);
    client_answer_free(&answer);
    return ok;
}

/* All uploads below the prefix; `*entries` counts them. */
static bool
list_uploads(List *list, size_t *entries, S3Class *class, Err *e)
{
    AnswerPage *page = &list->page;
    bool with_id = true;

    list->circle = (Circle){0};
    *entries = 0;
    for (bool first = true; first || page->is_truncated; first = false) {
        bool ok = upload_page(list, first, with_id, class, e);

        /* versitygw 1.8.0 knows no upload id in the middle of a list. What is left out at this one
         * key, the next sweep finds. */
        if (!ok && *class == S3_INVALID && !first && with_id) {
            err_clear(e);
            with_id = false;
            ok = upload_page(list, first, with_id, class, e);
        }
        if (!ok)
            return false;
        *entries += page->entries;
        if (!page->is_truncated)
            break;
        if (!page->has_next)
            return no_way_on(e);
        if (circle_is_closed(&list->circle, page->marker, page->upload_marker))
            return goes_in_circles(e);
    }
    return true;
}

static bool
tidy_uploads(List *list, Err *e)
{
    S3Storage *s = list->store;
    S3Class class;
    size_t entries;

    list->prefix = our_prefix;
    if (!list_uploads(list, &entries, &class, e)) {
        if (class != S3_CANNOT)
            return false;
        err_clear(e);
        if (!s->no_uploads)
            log_event(LOG_INFO, "storage.uploads_unseen", log_text("reason", "not implemented"));
        s->no_uploads = true;
        return true;
    }
    /* MinIO takes a prefix for a whole key, and tells without one what it remembers. */
    list->prefix = "";
    if (entries == 0 && !client_site(s->client).is_aws &&
        !list_uploads(list, &entries, &class, e)) {
        if (e->code != ERR_STORAGE_DENIED)
            return false;
        err_clear(e); /* it may see what is ours, and no more */
    }
    if (list->failures == 0)
        return true;
    *e = list->first;
    return wrap(e, "%" PRIu64 " unfinished uploads could not be removed", list->failures);
}

static bool
s3_tidy(Storage *storage, UploadKeep *keep, void *with, uint64_t *removed, Err *e)
{
    Arena *arena = NULL;
    List *list = list_new(storage, "", &arena, e);
    bool ok = false;

    *removed = 0;
    if (list) {
        list->keep = keep;
        list->with = with;
        ok = tidy_uploads(list, e);
        *removed = list->removed;
    }
    arena_free(arena);
    return ok;
}

/* --- its life --- */

/* With a body, so that a store can say what is wrong: HEAD of the bucket tells a status alone. */
static bool
s3_check(Storage *storage, Err *e)
{
    S3Storage *s = (S3Storage *)storage;
    const S3Pair query[] = {{"list-type", s->spec.list_version == 1 ? NULL : "2"},
        {"prefix", our_prefix}, {"max-keys", "1"}};
    const S3Request request = {.operation = "ListObjects",
        .method = "GET",
        .query = query,
        .queries = 3,
        .timeout_ms = CHECK_TRY_MS,
        .tries = CHECK_TRIES,
        .total_ms = CHECK_MS};
    S3Answer answer;
    AnswerPage page;
    bool ok = client_call(s->client, &request, &answer, storage->watch, e) &&
              answer_objects(answer.http.body.data, answer.http.body.bytes, NULL, NULL, &page, e);

    client_answer_free(&answer);
    return ok;
}

static void
s3_close(Storage *storage)
{
    S3Storage *s = (S3Storage *)storage;

    client_close(s->client);
    explicit_bzero(&s->link_key, sizeof s->link_key);
    arena_free(s->arena);
}

static Storage *
s3_open(const StorageSpec *spec, Err *e)
{
    Arena *arena = arena_new(ARENA_BYTES);
    S3Storage *s = arena ? arena_alloc(arena, sizeof *s, e) : NULL;
    Site links;

    if (!s) {
        arena_free(arena);
        if (!e->links)
            fail(e, MEMORY_LIMIT, "no memory for the storage");
        return NULL;
    }
    *s = (S3Storage){
        .base.kind = &storage_s3, .arena = arena, .spec = spec->s3, .bytes_max = spec->bytes_max};
    if (!(s->client = client_open(&s->spec, e)) || !link_site(s, &links, e)) {
        s3_close(&s->base);
        return NULL;
    }
    /* Whoever has to be asked for keys is asked now, and in time, so that nobody waits for them. */
    if (!s->spec.anonymous)
        credentials_keep(client_credentials(s->client));
    return &s->base;
}

const StorageKind storage_s3 = {
    .name = "s3",
    .judge = review_judge,
    .open = s3_open,
    .close = s3_close,
    .create = multipart_create,
    .sealed = multipart_sealed,
    .publish = publish_object,
    .discard = publish_discard,
    .sign = s3_sign,
    .list = s3_list,
    .stat = s3_stat,
    .remove = s3_remove,
    .remove_many = s3_remove_many,
    .tidy = s3_tidy,
    .check = s3_check,
    .review = review_store,
};
