/*
 * An object in the making: parts fly on the client's thread while rows are read and encoded.
 *
 *     bytes -> buffer -> full, and more comes? -> a part in flight, at most `parallel` of them
 *     first full buffer -> CreateMultipartUpload, and the task's state knows the upload
 *     finish            -> the last part, and all have arrived; a file of one part waits for
 * publish publish           -> CompleteMultipartUpload, or PutObject: only then is the object there
 *
 * Bounded: (parallel + 1) buffers of one part, and no more than memory_bytes of them.
 */
#include <assert.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "net/disposition.h"
#include "storage/s3/s3_in.h"

enum {
    HEADERS_MAX = 20,
    GOOD_PARTS = 20, /* then one more may fly, after a throttle */
    GROWS_AFTER = 8, /* of the parts, an eighth */
    LAND_MS = 2000,
    LAND_LOOK_MS = 10,
    ABORT_MS = 5000,
    ABORT_ROUNDS = 5,
    SETTLE_MS = 300, /* after it: until the store is done with parts that were cut */
    ABORT_PAUSE_MS = 1000,
    LIST_BYTES = 8 << 20,
    SEALED_PART_BYTES = 200,
};

typedef struct {
    Arena *memory; /* holds `data` alone; NULL: none yet */
    char *data;
    size_t room_bytes, bytes;
    unsigned number;
    uint64_t sum; /* checksum of the bytes */
    bool flies;
    ClientCall call;
    S3Request request;
    S3Answer answer;
    S3Pair query[2], header[2];
    char number_text[12], md5_text[32];
} Buffer;

typedef struct {
    Sink base;
    S3Storage *store;
    Watch *watch;
    Arena *task;
    const char *key;
    const char *content_type, *disposition;
    const char *task_id, *export_type; /* as metadata; NULL: none */
    char mark[S3_MARK_BYTES], attempt[24];
    char upload[S3_UPLOAD_BYTES]; /* "": none yet */
    bool may_have_upload;         /* one was asked for, and no word of it came */
    ChecksumKind checksum;
    bool is_unsigned;     /* the checksum stands for the hash of the payload … */
    bool may_be_unsigned; /* … if the store says that it compares it */
    bool is_offered;      /* nobody has asked for the checksum: without it is fine, too */
    uint64_t sum;         /* of all bytes */
    int64_t bytes;
    unsigned parts;    /* handed over */
    const char **etag; /* by part number - 1; and the checksums, if there are any */
    char (*sums)[CHECKSUM_TEXT_BYTES];
    unsigned parallel; /* now; falls when the store is throttled, and comes back */
    unsigned good_parts;
    Buffer *filling; /* NULL: none */
    Buffer *buffer;
    unsigned buffers; /* made */
    const char *sealed;
} Multipart;

/* --- sizes (s3.md 8.2) --- */

size_t
multipart_part_bytes(const S3Spec *spec, int64_t bytes_max, int64_t bytes)
{
    size_t grown, most = (size_t)(spec->memory_bytes / 2);
    uint64_t reach = spec->part_bytes * spec->parts_max;

    if (bytes_max > 0 && reach >= (uint64_t)bytes_max)
        return (size_t)spec->part_bytes;
    grown = (size_t)bytes / (spec->parts_max / GROWS_AFTER + 1);
    grown = (grown + (1 << 20) - 1) & ~(size_t)((1 << 20) - 1);
    most = most > spec->part_bytes ? most : (size_t)spec->part_bytes;
    return grown < spec->part_bytes ? (size_t)spec->part_bytes : grown < most ? grown : most;
}

/* So many of this size may fly beside the one that is being filled. */
static unsigned
parallel_of(const Multipart *m, size_t part_bytes)
{
    const S3Spec *spec = client_spec(m->store->client);
    uint64_t fit, most;

    assert(part_bytes > 0);
    fit = spec->memory_bytes / part_bytes;
    most = fit > 1 ? fit - 1 : 1;
    return (unsigned)(most < m->parallel ? most : m->parallel);
}

/* --- what every object says of itself --- */

static size_t
add_pair(S3Pair *to, size_t at, const char *name, const char *value)
{
    if (value && *value)
        to[at++] = (S3Pair){name, value};
    return at;
}

size_t
multipart_add_settings(const S3Spec *spec, S3Pair *header, size_t n)
{
    if (strcmp(spec->sse, "none") != 0)
        n = add_pair(header, n, "x-amz-server-side-encryption", spec->sse);
    n = add_pair(header, n, "x-amz-server-side-encryption-aws-kms-key-id", spec->sse_kms_key_id);
    if (text_starts(spec->sse, "aws:kms"))
        n = add_pair(header, n, "x-amz-server-side-encryption-bucket-key-enabled", "true");
    n = add_pair(header, n, "x-amz-storage-class", spec->storage_class);
    if (spec->tags)
        n = add_pair(header, n, "x-amz-tagging", "rowferry=export");
    return n;
}

/* Of CreateMultipartUpload and PutObject alike. */
static size_t
object_headers(const Multipart *m, S3Pair header[HEADERS_MAX])
{
    size_t n = 0;

    n = add_pair(header, n, "content-type", m->content_type);
    n = add_pair(header, n, "content-disposition", m->disposition);
    n = add_pair(header, n, "x-amz-meta-rowferry-upload", m->mark);
    n = add_pair(header, n, "x-amz-meta-rowferry-task", m->task_id);
    n = add_pair(header, n, "x-amz-meta-rowferry-attempt", m->attempt);
    n = add_pair(header, n, "x-amz-meta-rowferry-type", m->export_type);
    return multipart_add_settings(client_spec(m->store->client), header, n);
}

/* Some stores take the order to encrypt and do not follow it. */
static bool
check_encrypted(const S3Storage *s, const S3Answer *answer, Err *e)
{
    const char *sse = client_spec(s->client)->sse;
    char said[64];

    return !*sse || strcmp(sse, "none") == 0 ||
           http_header(&answer->http, "x-amz-server-side-encryption", said, sizeof said) ||
           fail(e, STORAGE_DENIED,
               "the store does not encrypt (ROWFERRY_S3_SSE=%s), and says nothing of it", sse);
}

bool
multipart_is_conditional(const S3Storage *s)
{
    return !s->no_conditional && strcmp(client_spec(s->client)->conditional, "off") != 0;
}

/* --- parts --- */

static bool
has_etag(const HttpAnswer *answer, Err *why)
{
    char etag[S3_ETAG_BYTES];

    return (http_header(answer, "ETag", etag, sizeof etag) && etag[0]) ||
           fail(why, STORAGE_UNAVAILABLE, "the answer has no ETag");
}

static bool
read_etag(Multipart *m, const Buffer *b, Err *e)
{
    char etag[S3_ETAG_BYTES] = "";

    (void)http_header(&b->answer.http, "ETag", etag, sizeof etag);
    if (b->md5_text[0] && strlen(etag) == 34) {
        uint8_t told[16], sum[16];
        char digits[33];
        size_t count;

        memcpy(digits, etag + 1, 32);
        digits[32] = '\0';
        if (text_unhex(digits, told, sizeof told) &&
            text_unbase64(b->md5_text, sum, sizeof sum, &count) &&
            memcmp(told, sum, sizeof sum) != 0)
            return fail(
                e, STORAGE_UNAVAILABLE, "the store has other bytes than part %u", b->number);
    }
    return (m->etag[b->number - 1] = arena_text(m->task, etag, e)) != NULL;
}

/* Additive increase, multiplicative decrease (s3.md 7.3). */
static void
steer(Multipart *m, bool was_throttled)
{
    if (was_throttled) {
        m->parallel = m->parallel > 1 ? m->parallel / 2 : 1;
        m->good_parts = 0;
    } else if (++m->good_parts >= GOOD_PARTS) {
        m->parallel += m->parallel < client_spec(m->store->client)->parallel;
        m->good_parts = 0;
    }
}

static bool
land(Multipart *m, Buffer *b, Err *e)
{
    bool ok = b->call.ok ? read_etag(m, b, e) : (*e = b->call.why, false);

    /* Somebody has ended the upload: the next run begins another. */
    if (!b->call.ok && b->answer.class == S3_GONE)
        e->code = ERR_STORAGE_UNAVAILABLE;
    steer(m, b->call.was_throttled);
    client_answer_free(&b->answer);
    b->call.stands = CALL_NONE;
    b->flies = false;
    b->bytes = 0;
    /* Somebody has ended the upload; the next attempt makes its own. */
    if (!ok && (e->code == ERR_FILE_GONE || e->code == ERR_NOT_FOUND))
        e->code = ERR_STORAGE_UNAVAILABLE;
    return ok || wrap(e, "part %u of %s", b->number, m->key);
}

/* Takes in those that have arrived; how many still fly. */
static bool
look_at_parts(Multipart *m, unsigned *flying, Err *e)
{
    *flying = 0;
    for (Buffer *b = m->buffer; b < m->buffer + m->buffers; b++) {
        if (!b->flies)
            continue;
        if (!client_has_ended(m->store->client, &b->call))
            ++*flying;
        else if (!land(m, b, e))
            return false;
    }
    return true;
}

/* Until no more than `most` parts fly. */
static bool
wait_for_parts(Multipart *m, unsigned most, Err *e)
{
    unsigned flying;

    for (;;) {
        if (!look_at_parts(m, &flying, e))
            return false;
        if (flying <= most)
            return true;
        if (!client_wait(m->store->client, m->watch, e))
            return false;
    }
}

static bool
set_md5(Buffer *b, Err *e)
{
    uint8_t sum[16];
    Buf text = buf_new(64);
    bool ok;

    if (EVP_Digest(b->data, b->bytes, sum, NULL, EVP_md5(), NULL) != 1)
        return fail(e, INTERNAL, "MD5 is not to be had (a FIPS build?): ROWFERRY_S3_ETAG=opaque");
    text_base64(&text, sum, sizeof sum);
    ok = text_copy(b->md5_text, sizeof b->md5_text, text.data);
    buf_free(&text);
    return ok || fail(e, INTERNAL, "an MD5 that is too long");
}

static bool
send_part(Multipart *m, Buffer *b, Err *e)
{
    const S3Spec *spec = client_spec(m->store->client);

    if (m->parts == spec->parts_max)
        return fail(e, SIZE_LIMIT,
            "more than %u parts: raise ROWFERRY_S3_PART or ROWFERRY_S3_MEMORY", spec->parts_max);
    b->number = ++m->parts;
    snprintf(b->number_text, sizeof b->number_text, "%u", b->number);
    b->query[0] = (S3Pair){"partNumber", b->number_text};
    b->query[1] = (S3Pair){"uploadId", m->upload};
    b->request = (S3Request){
        .operation = "UploadPart",
        .method = "PUT",
        .key = m->key,
        .query = b->query,
        .queries = 2,
        .header = b->header,
        .body = b->data,
        .body_bytes = b->bytes,
        .is_unsigned = m->is_unsigned,
        .is_whole = has_etag,
    };
    b->md5_text[0] = '\0';
    if (strcmp(spec->etag, "md5") == 0) {
        if (!set_md5(b, e))
            return false;
        b->header[b->request.headers++] = (S3Pair){"content-md5", b->md5_text};
    }
    if (m->checksum != CHECKSUM_NONE) {
        char *sum = m->sums[b->number - 1];

        checksum_text(m->checksum, b->sum, sum);
        b->header[b->request.headers++] = (S3Pair){checksum_header(m->checksum), sum};
    }
    b->flies = true;
    client_begin(m->store->client, &b->call, &b->request, &b->answer);
    return true;
}

/* --- the upload --- */

typedef struct {
    S3Storage *store;
    const char *key, *keep;
    Watch *watch;
} Others;

static bool
abort_other(const AnswerEntry *entry, void *with, Err *e)
{
    const Others *o = with;

    return strcmp(entry->key, o->key) != 0 || !entry->upload ||
           (o->keep && strcmp(entry->upload, o->keep) == 0) ||
           multipart_abort(o->store, entry->key, entry->upload, o->watch, e);
}

/* Ends the uploads at a key that nobody knows any more: what an earlier run of the task left, or
 * an answer that was lost. */
static bool
abort_others(S3Storage *s, const char *key, const char *keep, Watch *watch, Err *e)
{
    const S3Pair query[] = {{"uploads", ""}, {"prefix", key}};
    const S3Request request = {
        .operation = "ListMultipartUploads",
        .method = "GET",
        .query = query,
        .queries = 2,
        .answer_bytes_max = LIST_BYTES,
        .total_ms = watch ? 0 : ABORT_MS,
    };
    Others others = {s, key, keep, watch};
    S3Answer answer;
    AnswerPage page;
    bool ok = client_call(s->client, &request, &answer, watch, e) &&
              answer_uploads(
                  answer.http.body.data, answer.http.body.bytes, abort_other, &others, &page, e);

    client_answer_free(&answer);
    return ok;
}

/* client_call, but what is told to end waits a moment more for the answer: it names an upload, and
 * who does not know it cannot end it. Then all goes on, to the next who asks the watch. */
static bool
call_to_its_end(Multipart *m, const S3Request *r, S3Answer *answer, Err *e)
{
    Client *c = m->store->client;
    int64_t until_ms = 0;
    ClientCall call;

    client_begin(c, &call, r, answer);
    while (!client_has_ended(c, &call)) {
        if (until_ms == 0 && client_wait(c, m->watch, e))
            continue;
        if (until_ms == 0)
            until_ms = time_now_ms() + LAND_MS;
        if (time_now_ms() >= until_ms || !client_pause(c, LAND_LOOK_MS, NULL, e)) {
            client_cancel(c, &call);
            return false;
        }
    }
    err_clear(e);
    if (!call.ok)
        *e = call.why;
    return call.ok;
}

static bool
has_upload(const HttpAnswer *answer, Err *why)
{
    char upload[S3_UPLOAD_BYTES];

    return answer_created(answer->body.data, answer->body.bytes, upload, why);
}

/* The store does not want the checksum that nobody asked for. */
static void
decline_checksum(Multipart *m)
{
    m->store->no_checksums = true;
    m->checksum = CHECKSUM_NONE;
    m->is_offered = m->may_be_unsigned = false;
}

/* A store that compares checksums names the algorithm in its answer. One that does not gets both.
 */
static void
hear_of_checksum(Multipart *m, const S3Answer *answer)
{
    char algorithm[32];

    if (!m->may_be_unsigned)
        return;
    m->is_unsigned =
        http_header(&answer->http, "x-amz-checksum-algorithm", algorithm, sizeof algorithm) &&
        text_same_case_blind(algorithm, checksum_name(m->checksum));
}

static bool
begin_upload(Multipart *m, Err *e)
{
    S3Pair header[HEADERS_MAX];
    const S3Pair query[] = {{"uploads", ""}};
    S3Request request = {
        .operation = "CreateMultipartUpload",
        .method = "POST",
        .key = m->key,
        .query = query,
        .queries = 1,
        .header = header,
        .headers = object_headers(m, header),
        .is_whole = has_upload,
    };
    S3Answer answer;
    size_t plain_headers;
    Err ignored = {0};
    bool ok;

    if (!(m->etag = arena_alloc_array(
              m->task, client_spec(m->store->client)->parts_max, sizeof *m->etag, e)))
        return false;
    if (m->checksum != CHECKSUM_NONE &&
        !(m->sums = arena_alloc_array(
              m->task, client_spec(m->store->client)->parts_max, sizeof *m->sums, e)))
        return false;
    plain_headers = request.headers;
    if (m->checksum != CHECKSUM_NONE) {
        header[request.headers++] =
            (S3Pair){"x-amz-checksum-algorithm", checksum_name(m->checksum)};
        header[request.headers++] = (S3Pair){"x-amz-checksum-type", "FULL_OBJECT"};
    }
    ok = call_to_its_end(m, &request, &answer, e);
    if (!ok && m->is_offered && (answer.class == S3_CANNOT || answer.class == S3_INVALID)) {
        client_answer_free(&answer);
        err_clear(e);
        decline_checksum(m);
        request.headers = plain_headers;
        ok = call_to_its_end(m, &request, &answer, e);
    }
    ok = ok && answer_created(answer.http.body.data, answer.http.body.bytes, m->upload, e);
    if (ok) {
        hear_of_checksum(m, &answer);
        ok = check_encrypted(m->store, &answer, e);
        if (ok && answer.may_have_done &&
            !abort_others(m->store, m->key, m->upload, m->watch, &ignored))
            log_event(LOG_INFO, "storage.uploads_unseen", log_err(&ignored));
    }
    /* A refusal is a word. */
    m->may_have_upload = !m->upload[0] && (answer.status < 300 || answer.may_have_done);
    client_answer_free(&answer);
    return ok && (!m->watch->uploading || m->watch->uploading(m->watch, m->upload, e));
}

bool
multipart_abort(S3Storage *s, const char *key, const char *upload, Watch *watch, Err *e)
{
    const S3Pair query[] = {{"uploadId", upload}};
    const S3Request end = {.operation = "AbortMultipartUpload",
        .method = "DELETE",
        .key = key,
        .query = query,
        .queries = 1,
        .total_ms = ABORT_MS};
    const S3Request look = {.operation = "ListParts",
        .method = "GET",
        .key = key,
        .query = query,
        .queries = 1,
        .answer_bytes_max = LIST_BYTES,
        .total_ms = ABORT_MS};

    for (int round = 0; round < ABORT_ROUNDS; round++) {
        S3Answer answer;
        size_t parts = 1;
        Err why = {0};
        bool ok, gone;

        ok = client_call(s->client, &end, &answer, watch, &why);
        gone = !ok && (answer.class == S3_GONE || answer.class == S3_ABSENT);
        client_answer_free(&answer);
        if (!ok && !gone) {
            *e = why;
            return false;
        }
        /* What was in flight may have landed behind the abort, and would be paid for. */
        err_clear(&why);
        ok = client_call(s->client, &look, &answer, watch, &why) &&
             answer_parts(answer.http.body.data, answer.http.body.bytes, &parts, &why);
        gone = !ok && (answer.class == S3_GONE || answer.class == S3_ABSENT);
        client_answer_free(&answer);
        /* A login that may abort and not list is good enough. */
        if (gone || (!ok && why.code == ERR_STORAGE_DENIED))
            return true;
        if (!ok) {
            *e = why;
            return false;
        }
        if (round > 0 && !client_pause(s->client, ABORT_PAUSE_MS, watch, e))
            return false;
    }
    return fail(e, STORAGE_UNAVAILABLE, "an upload of %s does not end", key);
}

/* --- the sink --- */

static void
free_buffers(Multipart *m)
{
    for (Buffer *b = m->buffer; b < m->buffer + m->buffers; b++) {
        client_cancel(m->store->client, &b->call);
        b->flies = false;
        arena_free(b->memory);
        b->memory = NULL;
    }
    m->filling = NULL;
    m->buffers = 0;
}

/* The memory of a part, of this size and no other. */
static bool
fit_buffer(Buffer *b, size_t part_bytes, Err *e)
{
    if (b->memory && b->room_bytes == part_bytes)
        return true;
    arena_free(b->memory);
    b->room_bytes = part_bytes;
    if (!(b->memory = arena_new(part_bytes + (64 << 10))))
        return fail(e, MEMORY_LIMIT, "no memory for a part");
    return (b->data = arena_alloc_bare(b->memory, part_bytes, e)) != NULL;
}

/* One that neither flies nor is filled, of the size that parts have now. Untouched memory costs
 * nothing, so a small file does not pay for a whole part. Where parts grow, fewer of them fit:
 * those of an older size are waited for, and give their memory back. */
static bool
take_buffer(Multipart *m, Err *e)
{
    size_t part_bytes =
        multipart_part_bytes(client_spec(m->store->client), m->store->bytes_max, m->bytes);
    Buffer *free_one = NULL;

    if (!wait_for_parts(m, parallel_of(m, part_bytes), e))
        return false;
    for (Buffer *b = m->buffer; b < m->buffer + m->buffers; b++) {
        if (b->flies)
            continue;
        if (!free_one || b->room_bytes == part_bytes)
            free_one = b;
        if (b->room_bytes != part_bytes) {
            arena_free(b->memory);
            b->memory = NULL;
        }
    }
    if (!free_one)
        free_one = &m->buffer[m->buffers++]; /* no more than `parallel` fly */
    if (!fit_buffer(free_one, part_bytes, e))
        return false;
    free_one->bytes = 0;
    free_one->sum = 0;
    m->filling = free_one;
    return true;
}

static bool
hand_over(Multipart *m, Err *e)
{
    Buffer *b = m->filling;

    if (!m->upload[0] && !begin_upload(m, e))
        return false;
    if (!wait_for_parts(m, parallel_of(m, b->room_bytes) - 1, e))
        return false;
    m->filling = NULL;
    return send_part(m, b, e);
}

static bool
multipart_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    Multipart *m = (Multipart *)s;
    const char *from = data;

    if (m->store->bytes_max > 0 && m->bytes + (int64_t)bytes > m->store->bytes_max)
        return fail(e, SIZE_LIMIT, "more than %" PRId64 " bytes", m->store->bytes_max);
    while (bytes > 0) {
        Buffer *b = m->filling;
        size_t some;

        if (!b) {
            if (!take_buffer(m, e))
                return false;
            continue;
        }
        if (b->bytes == b->room_bytes) {
            if (!hand_over(m, e))
                return false;
            continue;
        }
        some = b->room_bytes - b->bytes < bytes ? b->room_bytes - b->bytes : bytes;
        memcpy(b->data + b->bytes, from, some);
        if (m->checksum != CHECKSUM_NONE) {
            b->sum = checksum_update(m->checksum, b->sum, from, some);
            m->sum = checksum_update(m->checksum, m->sum, from, some);
        }
        b->bytes += some;
        m->bytes += (int64_t)some;
        from += some;
        bytes -= some;
    }
    return true;
}

/* One line of JSON: all that a later owner needs to complete the upload. */
static bool
seal(Multipart *m, Err *e)
{
    Buf to = buf_new((size_t)m->parts * SEALED_PART_BYTES + (16 << 10));
    char sum[CHECKSUM_TEXT_BYTES] = "";
    bool ok;

    if (m->upload[0] && m->checksum != CHECKSUM_NONE)
        checksum_text(m->checksum, m->sum, sum);
    buf_text(&to, "{\"store\":\"s3\",\"key\":");
    text_json_string(&to, m->key, strlen(m->key), 0);
    buf_text(&to, ",\"mark\":");
    text_json_string(&to, m->mark, strlen(m->mark), 0);
    buf_printf(&to, ",\"bytes\":%" PRId64 ",\"upload\":", m->bytes);
    text_json_string(&to, m->upload, strlen(m->upload), 0);
    buf_printf(&to, ",\"checksum\":\"%s\",\"sum\":\"%s\",\"parts\":[",
        m->checksum != CHECKSUM_NONE ? checksum_name(m->checksum) : "", sum);
    for (unsigned i = 0; i < m->parts; i++) {
        buf_text(&to, i > 0 ? "," : "");
        text_json_string(&to, m->etag[i], strlen(m->etag[i]), 0);
    }
    buf_text(&to, "],\"sums\":[");
    for (unsigned i = 0; m->checksum != CHECKSUM_NONE && i < m->parts; i++)
        buf_printf(&to, "%s\"%s\"", i > 0 ? "," : "", m->sums[i]);
    buf_text(&to, "]}");
    ok = buf_is_good(&to, e) && (m->sealed = arena_bytes(m->task, to.data, to.bytes, e)) != NULL;
    buf_free(&to);
    return ok;
}

static bool
multipart_finish(Sink *s, Err *e)
{
    Multipart *m = (Multipart *)s;

    if (!m->filling && !take_buffer(m, e))
        return false;
    assert(m->filling);
    if (m->upload[0] || !multipart_is_conditional(m->store)) {
        /* Without conditional writes a small file is an upload, too: so an owner that lost its task
         * cannot write over the next one's file. */
        if ((m->filling->bytes > 0 || m->parts == 0) && !hand_over(m, e))
            return false;
        if (!wait_for_parts(m, 0, e))
            return false;
        free_buffers(m);
    }
    return seal(m, e);
}

static unsigned
still_flying(const Multipart *m)
{
    unsigned count = 0;

    for (const Buffer *b = m->buffer; b < m->buffer + m->buffers; b++)
        count += b->flies && !client_has_ended(m->store->client, &b->call);
    return count;
}

/*
 * A part whose bytes have all been sent may be written down behind the end of its upload: then it
 * stays on the store's disk, where no list names it and nothing removes it (seen: MinIO,
 * versitygw). So what flies gets a moment to land.
 */
static void
let_land(const Multipart *m)
{
    int64_t until_ms = time_now_ms() + LAND_MS;
    Err never = {0};

    while (still_flying(m) > 0 && time_now_ms() < until_ms &&
           client_pause(m->store->client, LAND_LOOK_MS, NULL, &never))
        ;
}

static void
multipart_abandon(Sink *s)
{
    Multipart *m = (Multipart *)s;
    bool flew = false, ok = true;
    Err why = {0};

    if (m->upload[0]) {
        let_land(m);
        flew = still_flying(m) > 0;
    }
    free_buffers(m);
    if (m->upload[0])
        ok = multipart_abort(m->store, m->key, m->upload, NULL, &why);
    else if (m->may_have_upload)
        ok = abort_others(m->store, m->key, NULL, NULL, &why);
    /* What was cut nevertheless, a second abort takes away (seen: versitygw). */
    if (m->upload[0] && ok && flew)
        ok = client_pause(m->store->client, SETTLE_MS, NULL, &why) &&
             multipart_abort(m->store, m->key, m->upload, NULL, &why);
    if (!ok)
        log_event(LOG_WARNING, "storage.upload_left", log_text("key", m->key), log_err(&why));
    m->upload[0] = '\0';
    m->may_have_upload = false;
}

static const SinkKind multipart_sink = {
    .name = "s3",
    .write = multipart_write,
    .finish = multipart_finish,
    .abort = multipart_abandon,
};

/* {task id}.{epoch}.{nonce}: says of an object whose it is, to whoever lost the answer. */
static bool
make_mark(Multipart *m, const Upload *mark, Err *e)
{
    Buf text = buf_new(S3_MARK_BYTES - 1);
    uint8_t nonce[8] = {0};
    char digits[17];
    bool ok;

    (void)!getrandom(nonce, sizeof nonce, 0);
    text_hex(nonce, sizeof nonce, digits);
    text_percent_encode(&text, mark->task_id, strlen(mark->task_id), false);
    m->task_id = arena_text(m->task, text.data, e);
    buf_printf(&text, ".%" PRId64 ".%s", mark->epoch, digits);
    ok = m->task_id && buf_is_good(&text, e) && text_copy(m->mark, sizeof m->mark, text.data);
    buf_free(&text);
    snprintf(m->attempt, sizeof m->attempt, "%d", mark->attempt);
    return ok;
}

/* Kept with the object, too: some stores do not follow what a link says. */
static bool
set_disposition(Multipart *m, const char *name, Err *e)
{
    Buf text = buf_new(4 << 10);
    bool ok;

    disposition_write(name, &text);
    ok = buf_is_good(&text, e) && (m->disposition = arena_text(m->task, text.data, e));
    buf_free(&text);
    return ok;
}

/*
 * Integrity (s3.md 3.4, 9). Parts go with a hash that is signed, or with a checksum in its place,
 * which costs a tenth of that; a store that does not compare checksums would then take anything. So
 * `auto` offers one when the upload is made: the store's word that it has taken the offer decides.
 */
static void
choose_checksum(Multipart *m)
{
    const S3Spec *spec = client_spec(m->store->client);
    const Site site = client_site(m->store->client);
    bool is_auto = strcmp(spec->checksum, "auto") == 0;

    if (strcmp(spec->checksum, "crc32c") == 0)
        m->checksum = CHECKSUM_CRC32C;
    else if (strcmp(spec->checksum, "crc64nvme") == 0 || (is_auto && site.is_aws))
        m->checksum = CHECKSUM_CRC64NVME;
    m->is_unsigned = strcmp(spec->payload, "unsigned") == 0;
    m->may_be_unsigned = strcmp(spec->payload, "auto") == 0 && (site.is_secure || site.is_loopback);
    if (m->checksum != CHECKSUM_NONE)
        return;
    m->is_offered = m->may_be_unsigned && is_auto && !m->store->no_checksums;
    /* A body that is not signed is never without a checksum. */
    if (m->is_unsigned || m->is_offered)
        m->checksum = CHECKSUM_CRC32C;
    m->may_be_unsigned = m->may_be_unsigned && m->is_offered;
}

Sink *
multipart_create(Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e)
{
    S3Storage *store = (S3Storage *)s;
    const S3Spec *spec = client_spec(store->client);
    Multipart *m = arena_alloc(task, sizeof *m, e);
    Err ignored = {0};

    if (!storage_key_check(key, e) || !m)
        return NULL;
    *m = (Multipart){
        .base.kind = &multipart_sink,
        .store = store,
        .watch = watch,
        .task = task,
        .parallel = spec->parallel,
    };
    if (mark->export_type && !(m->export_type = arena_text(task, mark->export_type, e)))
        return NULL;
    if (mark->name && !set_disposition(m, mark->name, e))
        return NULL;
    choose_checksum(m);
    if (!(m->key = arena_text(task, key, e)) ||
        !(m->content_type = arena_text(task, mark->content_type, e)) || !make_mark(m, mark, e) ||
        !(m->buffer = arena_alloc_array(task, spec->parallel + 1, sizeof *m->buffer, e)))
        return NULL;
    /* What earlier runs left; the sweep finds what is not found here. */
    if (mark->epoch > 1 && !abort_others(store, key, NULL, watch, &ignored)) {
        if (ignored.code == ERR_CANCELLED) {
            *e = ignored;
            return NULL;
        }
        log_event(LOG_INFO, "storage.uploads_unseen", log_err(&ignored));
    }
    return &m->base;
}

const char *
multipart_sealed(Sink *object, Err *e)
{
    Multipart *m = (Multipart *)object;

    if (!m->sealed)
        fail(e, INTERNAL, "an upload that is not finished");
    return m->sealed;
}

/* --- what publish.c asks of it --- */

bool
multipart_put(Sink *object, bool conditional, S3Answer *answer, Err *e)
{
    Multipart *m = (Multipart *)object;
    S3Storage *s = m->store;
    S3Pair header[HEADERS_MAX];
    char sum[CHECKSUM_TEXT_BYTES];
    S3Request request = {
        .operation = "PutObject",
        .method = "PUT",
        .key = m->key,
        .header = header,
        .headers = object_headers(m, header),
        .body = m->filling->data,
        .body_bytes = m->filling->bytes,
        .is_whole = has_etag,
    };
    Err why = {0};

    *answer = (S3Answer){0};
    if (conditional)
        header[request.headers++] = (S3Pair){"if-none-match", "*"};
    /* What is only offered, this store has not yet said to know. */
    if (m->checksum != CHECKSUM_NONE && !m->is_offered) {
        request.is_unsigned = m->is_unsigned;
        checksum_text(m->checksum, m->filling->sum, sum);
        header[request.headers++] = (S3Pair){checksum_header(m->checksum), sum};
    }
    if (strcmp(client_spec(s->client)->etag, "md5") == 0) {
        if (!set_md5(m->filling, e))
            return false;
        header[request.headers++] = (S3Pair){"content-md5", m->filling->md5_text};
    }
    if (!client_call(s->client, &request, answer, m->watch, e))
        return false;
    if (check_encrypted(s, answer, e))
        return true;
    /* It is to be seen already, and must not stay. */
    if (!s3_delete(s, m->key, &why))
        log_event(LOG_ERROR, "storage.object_left", log_text("key", m->key), log_err(&why));
    return false;
}

bool
multipart_is_held(const Sink *object)
{
    return object && ((const Multipart *)object)->filling;
}

void
multipart_let_go(Sink *object)
{
    if (object)
        free_buffers((Multipart *)object);
}
