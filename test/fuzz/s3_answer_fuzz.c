/* Any bytes as the answer of a store: read, or refused as no such document; what is read keeps its
 * promises, and twice is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "storage/s3/s3_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct {
    size_t entries;
    uint64_t hash;
    bool of_uploads;
} Seen;

static bool
see(const AnswerEntry *entry, void *with, Err *e)
{
    Seen *seen = with;

    (void)e;
    if (!*entry->key || strlen(entry->key) > STORAGE_KEY_BYTES || entry->bytes < 0)
        abort();
    if (entry->upload && strlen(entry->upload) >= S3_UPLOAD_BYTES)
        abort();
    for (const char *c = entry->key; *c; c++)
        seen->hash = (seen->hash ^ (unsigned char)*c) * 0x100000001b3;
    seen->entries++;
    return true;
}

static void
check_list(const char *body, size_t bytes, bool of_uploads)
{
    Seen first = {0}, second = {0};
    AnswerPage page;
    Err e = {0};
    bool ok = of_uploads ? answer_uploads(body, bytes, see, &first, &page, &e)
                         : answer_objects(body, bytes, see, &first, &page, &e);

    if (!ok && (e.code != ERR_STORAGE_UNAVAILABLE || first.entries > 0))
        abort();
    if (!ok)
        return;
    if (first.entries > page.entries || e.links)
        abort();
    if (page.has_next && (!page.is_truncated || (!page.token[0] && !page.marker[0])))
        abort();
    if (!(of_uploads ? answer_uploads(body, bytes, see, &second, &page, &e)
                     : answer_objects(body, bytes, see, &second, &page, &e)) ||
        first.entries != second.entries || first.hash != second.hash)
        abort();
}

static bool
note_refused(const char *key, const char *code, const char *message, void *with)
{
    (void)with;
    if (strlen(key) > STORAGE_KEY_BYTES || text_has_control(code, strlen(code), false) ||
        text_has_control(message, strlen(message), false))
        abort();
    return true;
}

/* What we escape comes back as it was, if XML can hold it at all. */
static void
check_writing(const char *text, size_t bytes)
{
    Buf body = buf_new(1 << 20);
    S3Error error;

    buf_text(&body, "<Error><Message>");
    answer_put_text(&body, text, bytes);
    buf_text(&body, "</Message></Error>");
    if (bytes < sizeof error.message && text_is_utf8(text, bytes) &&
        !text_has_control(text, bytes, false) && bytes > 0 && !strchr(" \t", text[0]) &&
        !strchr(" \t", text[bytes - 1]) && !memmem(text, bytes, "\xef\xbf\xbe", 3) &&
        !memmem(text, bytes, "\xef\xbf\xbf", 3))
        if (!answer_error(body.data, body.bytes, &error) || strlen(error.message) != bytes ||
            memcmp(error.message, text, bytes) != 0)
            abort();
    buf_free(&body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    /* Exactly so many bytes: what is read behind them is seen by the sanitizer. */
    char *exact = malloc(bytes ? bytes : 1);
    char value[S3_UPLOAD_BYTES];
    static const S3Error nothing;
    S3Outcome outcome = {.status = 400};
    S3Error error;
    S3Keys keys;
    size_t parts;
    Err e = {0};

    if (!exact)
        abort();
    memcpy(exact, data, bytes);
    if (!answer_error(exact, bytes, &error) && memcmp(&error, &nothing, sizeof error) != 0)
        abort();
    outcome.error = &error;
    if (fault_class(&outcome) >= S3_CLASSES || fault_fail(fault_class(&outcome), &outcome, "x", &e))
        abort();
    err_clear(&e);
    if (answer_created(exact, bytes, value, &e) ? !*value : e.code != ERR_STORAGE_UNAVAILABLE)
        abort();
    err_clear(&e);
    if (answer_completed(exact, bytes, value, &e) ? !*value : e.code != ERR_STORAGE_UNAVAILABLE)
        abort();
    check_list(exact, bytes, false);
    check_list(exact, bytes, true);
    err_clear(&e);
    if (!answer_parts(exact, bytes, &parts, &e) && e.code != ERR_STORAGE_UNAVAILABLE)
        abort();
    err_clear(&e);
    if (!answer_deleted(exact, bytes, note_refused, NULL, &e) && e.code != ERR_STORAGE_UNAVAILABLE)
        abort();
    err_clear(&e);
    if (answer_credentials(exact, bytes, &keys, &e) ? !*keys.access_key || !*keys.secret_key
                                                    : e.code != ERR_STORAGE_UNAVAILABLE)
        abort();
    check_writing(exact, bytes);
    free(exact);
    return 0;
}
