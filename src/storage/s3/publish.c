/*
 * Making an object visible, by whoever owns the task then: what was sealed is one line of JSON, and
 * what became of a lost answer is asked of the object itself (s3.md 8.4, 8.5).
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "storage/s3/s3_in.h"

enum { COMPLETE_MS = 15 * 60 * 1000, PART_LINE_BYTES = 256 };

/* --- what was sealed --- */

typedef struct {
    json_t *json;
    const char *key, *mark, *upload, *sum;
    int64_t bytes;
    const json_t *parts, *sums; /* of the parts, in their order; none without a checksum */
    ChecksumKind checksum;
} Sealed;

static bool
read_sealed(const char *text, Sealed *sealed, Err *e)
{
    *sealed = (Sealed){.json = json_parse(text, strlen(text), 4, e)};
    if (!sealed->json) {
        wrap(e, "reading what was sealed");
        return false;
    }
    sealed->key = json_text_or(sealed->json, "key", "");
    sealed->mark = json_text_or(sealed->json, "mark", "");
    sealed->upload = json_text_or(sealed->json, "upload", "");
    sealed->checksum = checksum_of_name(json_text_or(sealed->json, "checksum", ""));
    sealed->sums = json_object_get(sealed->json, "sums");
    sealed->sum = json_text_or(sealed->json, "sum", "");
    sealed->bytes = json_int_or(sealed->json, "bytes", -1);
    sealed->parts = json_object_get(sealed->json, "parts");
    /* The settings may have named another storage then. */
    if (strcmp(json_text_or(sealed->json, "store", ""), storage_s3.name) != 0)
        return fail(e, FILE_GONE, "it was sealed by another storage");
    if (sealed->mark[0] && sealed->bytes >= 0 && json_is_array(sealed->parts))
        return storage_key_check(sealed->key, e);
    return fail(e, INTERNAL, "what was sealed does not name an upload");
}

/* Whose object has the key: that of an earlier run of the task, which the state has given up, may
 * be replaced. */
typedef enum { NOBODY_HAS, WE_HAVE, EARLIER_RUN_HAS, ANOTHER_HAS } Owner;

/* "{task}.{epoch}.{nonce}": the epoch, and how many bytes there are before it; -1: no such mark. */
static int64_t
mark_epoch(const char *mark, size_t *before)
{
    const char *nonce = strrchr(mark, '.'), *at = nonce;
    char digits[24] = "";
    uint64_t epoch;

    while (at && at > mark && at[-1] != '.')
        at--;
    if (!at || at == mark || (size_t)(nonce - at) >= sizeof digits)
        return -1;
    memcpy(digits, at, (size_t)(nonce - at));
    *before = (size_t)(at - mark);
    return text_to_uint(digits, INT64_MAX, &epoch) ? (int64_t)epoch : -1;
}

/* Only who owns the task publishes, so another mark of its own or an earlier epoch is of a run that
 * is over; one of a later epoch has taken the task from us. */
static bool
is_of_earlier_run(const char *theirs, const char *ours)
{
    size_t task_bytes = 0, our_task_bytes = 0;
    int64_t epoch = mark_epoch(theirs, &task_bytes);

    return epoch >= 0 && epoch <= mark_epoch(ours, &our_task_bytes) &&
           task_bytes == our_task_bytes && memcmp(theirs, ours, task_bytes) == 0 &&
           strcmp(theirs, ours) != 0;
}

/* "Did it happen?" (s3.md 8.5): by what the object says of itself, not by the answer. */
static bool
look_at_object(S3Storage *s, const Sealed *sealed, Watch *watch, Owner *owner, Err *e)
{
    const S3Request request = {.operation = "HeadObject", .method = "HEAD", .key = sealed->key};
    char mark[S3_MARK_BYTES] = "", length[32] = "";
    S3Answer answer;
    uint64_t bytes = 0;
    bool ok = client_call(s->client, &request, &answer, watch, e);

    *owner = NOBODY_HAS;
    if (ok) {
        (void)http_header(&answer.http, "x-amz-meta-rowferry-upload", mark, sizeof mark);
        (void)http_header(&answer.http, "Content-Length", length, sizeof length);
        if (strcmp(mark, sealed->mark) == 0 && text_to_uint(length, INT64_MAX, &bytes) &&
            bytes == (uint64_t)sealed->bytes)
            *owner = WE_HAVE;
        else
            *owner = is_of_earlier_run(mark, sealed->mark) ? EARLIER_RUN_HAS : ANOTHER_HAS;
    } else if (answer.class == S3_ABSENT) {
        err_clear(e);
        ok = true;
    }
    client_answer_free(&answer);
    return ok;
}

/*
 * After a write whose answer is no yes. `why`: what it said. Whatever that is, the object is looked
 * at: an earlier try, or the owner before us, may have written it, and stores differ in what they
 * say to one who comes again.
 */
static bool
judge_write(S3Storage *s, const Sealed *sealed, const S3Answer *answer, const Err *why,
    Watch *watch, Owner *owner, Err *e)
{
    bool is_gone = answer->class == S3_GONE || answer->class == S3_ABSENT;
    bool is_present = answer->class == S3_PRESENT;
    Err unseen = {0};

    if (!look_at_object(s, sealed, watch, owner, &unseen)) {
        *e = is_gone || is_present || answer->may_have_done ? unseen : *why;
        return wrap(e, "asking what became of %s", sealed->key);
    }
    if (*owner == WE_HAVE)
        return true;
    if (*owner == ANOTHER_HAS || (*owner == EARLIER_RUN_HAS && is_present))
        return fail(e, EXISTS, "another object has the key %s", sealed->key);
    if (is_gone || is_present)
        return fail(e, FILE_GONE, "neither the upload nor the object %s is there", sealed->key);
    *e = *why;
    return false;
}

/* --- publishing --- */

static void
put_part(Buf *body, size_t number, const json_t *etag, const Sealed *sealed)
{
    const char *text = json_string_value(etag);
    const char *sum = json_string_value(json_array_get(sealed->sums, number - 1));

    buf_printf(body, "<Part><PartNumber>%zu</PartNumber><ETag>", number);
    answer_put_text(body, text ? text : "", text ? strlen(text) : 0);
    buf_text(body, "</ETag>");
    /* Some stores want them again, though the whole has one of its own. */
    if (sum && sealed->checksum != CHECKSUM_NONE) {
        buf_printf(body, "<Checksum%s>", checksum_name(sealed->checksum));
        answer_put_text(body, sum, strlen(sum));
        buf_printf(body, "</Checksum%s>", checksum_name(sealed->checksum));
    }
    buf_text(body, "</Part>");
}

static bool
has_completed(const HttpAnswer *answer, Err *why)
{
    char etag[S3_ETAG_BYTES];

    return answer_completed(answer->body.data, answer->body.bytes, etag, why);
}

static bool
complete(
    S3Storage *s, const Sealed *sealed, bool conditional, Watch *watch, S3Answer *answer, Err *e)
{
    Buf body = buf_new(json_array_size(sealed->parts) * PART_LINE_BYTES + (4 << 10));
    const S3Pair query[] = {{"uploadId", sealed->upload}};
    char size[24];
    S3Pair header[4];
    S3Request request = {
        .operation = "CompleteMultipartUpload",
        .method = "POST",
        .key = sealed->key,
        .query = query,
        .queries = 1,
        .header = header,
        .timeout_ms = COMPLETE_MS,
        .reads_error = true,
        .is_whole = has_completed, /* a 200 is not yet a yes (s3.md 8.4) */
        .is_slow = true,
    };
    size_t at;
    const json_t *part;
    bool ok;

    snprintf(size, sizeof size, "%" PRId64, sealed->bytes);
    header[request.headers++] = (S3Pair){"x-amz-mp-object-size", size};
    if (conditional)
        header[request.headers++] = (S3Pair){"if-none-match", "*"};
    if (sealed->checksum != CHECKSUM_NONE) {
        header[request.headers++] = (S3Pair){checksum_header(sealed->checksum), sealed->sum};
        header[request.headers++] = (S3Pair){"x-amz-checksum-type", "FULL_OBJECT"};
    }
    buf_text(&body, "<CompleteMultipartUpload>");
    json_array_foreach((json_t *)(uintptr_t)sealed->parts, at, part)
        put_part(&body, at + 1, part, sealed);
    buf_text(&body, "</CompleteMultipartUpload>");
    request.body = body.data;
    request.body_bytes = body.bytes;
    *answer = (S3Answer){0};
    ok = buf_is_good(&body, e) && client_call(s->client, &request, answer, watch, e);
    buf_free(&body);
    return ok;
}

static bool
write_once(
    S3Storage *s, Sink *object, const Sealed *sealed, Watch *watch, S3Answer *answer, Err *why)
{
    bool conditional = multipart_is_conditional(s);

    for (;;) {
        bool ok = sealed->upload[0] ? complete(s, sealed, conditional, watch, answer, why)
                                    : multipart_put(object, conditional, answer, why);

        if (ok || !conditional || answer->class != S3_CANNOT)
            return ok;
        /* Learnt: this store knows no conditions. The next small file is an upload. */
        s->no_conditional = true;
        conditional = false;
        client_answer_free(answer);
        err_clear(why);
    }
}

static bool
write_object(S3Storage *s, Sink *object, const Sealed *sealed, Watch *watch, Err *e)
{
    for (bool again = false;; again = true) {
        Owner owner = NOBODY_HAS;
        S3Answer answer;
        Err why = {0};
        bool ok = write_once(s, object, sealed, watch, &answer, &why) ||
                  judge_write(s, sealed, &answer, &why, watch, &owner, e);

        client_answer_free(&answer);
        if (ok || again || owner != EARLIER_RUN_HAS || e->code != ERR_EXISTS)
            return ok;
        log_event(LOG_WARNING, "storage.replaced", log_text("key", sealed->key),
            log_text("reason", "an earlier run of the task has written it after it was given up"));
        err_clear(e);
        if (!s3_delete(s, sealed->key, e))
            return false;
    }
}

/* Nobody will try it again, so nobody needs the upload. */
static bool
is_final(ErrCode code)
{
    return err_retry(code) == ERR_RETRY_NEVER && code != ERR_FILE_GONE && code != ERR_CANCELLED;
}

bool
publish_object(Storage *storage, const char *sealed_text, Sink *object, Err *e)
{
    S3Storage *s = (S3Storage *)storage;
    Watch *watch = storage->watch;
    Sealed sealed;
    Owner owner = NOBODY_HAS;
    bool ok = read_sealed(sealed_text, &sealed, e);

    if (ok && (sealed.upload[0] || multipart_is_held(object))) {
        ok = write_object(s, object, &sealed, watch, e);
        if (!ok && sealed.upload[0] && is_final(e->code)) {
            Err why = {0};

            if (!multipart_abort(s, sealed.key, sealed.upload, watch, &why))
                log_event(
                    LOG_WARNING, "storage.upload_left", log_text("key", sealed.key), log_err(&why));
        }
    } else if (ok) {
        /* The bytes of a small file went with the process that had them. */
        ok = look_at_object(s, &sealed, watch, &owner, e) &&
             (owner == WE_HAVE ||
                 (owner == ANOTHER_HAS
                         ? fail(e, EXISTS, "another object has the key %s", sealed.key)
                         : fail(e, FILE_GONE, "the object %s was not written", sealed.key)));
    }
    multipart_let_go(object);
    json_decref(sealed.json);
    return ok;
}

bool
publish_discard(Storage *storage, const char *sealed_text, Err *e)
{
    S3Storage *s = (S3Storage *)storage;
    Sealed sealed;
    bool ok =
        read_sealed(sealed_text, &sealed, e) &&
        (!sealed.upload[0] || multipart_abort(s, sealed.key, sealed.upload, storage->watch, e));

    json_decref(sealed.json);
    return ok;
}
