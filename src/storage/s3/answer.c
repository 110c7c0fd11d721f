/*
 * XML that comes from a store or from STS, and text that goes into ours. Seam of Expat: no other
 * file includes it. Forms: Amazon S3 API reference, "Error responses", ListObjectsV2, ListObjects,
 * ListMultipartUploads, ListParts, DeleteObjects, CompleteMultipartUpload; STS API reference.
 *
 * What comes may be anything: HTML of a proxy, a document that breaks off, white space or a byte
 * order mark before it, members in any order, prefixed names, one that is far too deep or brings a
 * DOCTYPE. A document is read whole once before anything of it is handed on; a list is read twice,
 * for MinIO says behind its entries whether their keys are encoded.
 */
#include <expat.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/time.h"
#include "storage/s3/s3_in.h"

enum {
    DEPTH_MAX = 16,
    PATH_BYTES = 512,
    TEXT_BYTES_MAX = 24 << 10, /* of one element: a session token is 8 KiB, a key 3 KiB encoded */
    KEY_BYTES = STORAGE_KEY_BYTES + 1,
    FRACTION_DIGITS = 6,
};

/* --- reading --- */

/* What stands at `path` below the root goes to `at` in the record, if it is there. */
typedef struct {
    const char *path;
    size_t at, bytes;
    enum { WHOLE, CUT } too_long; /* WHOLE: the document is refused; CUT: what fits */
} Field;

#define FIELD(type, member, path, too_long)                                                        \
    {                                                                                              \
        path, offsetof(type, member), sizeof(((type *)0)->member), too_long                        \
    }

/* One element has ended; its path is below the root, "" the root itself. The text is its own, and
 * ends with NUL. False and a reason: the document is refused. */
typedef bool Take(const char *path, const char *text, size_t bytes, void *with, const char **why);

typedef struct {
    XML_Parser parser;
    const char *const *roots; /* NULL-ended */
    Take *take;
    void *with;
    Buf text;
    char path[PATH_BYTES];
    size_t path_bytes;
    unsigned depth;
    const char *why; /* it was stopped */
} Reader;

static void
stop(Reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
    (void)XML_StopParser(r->parser, XML_FALSE);
}

static bool
is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

static void XMLCALL
begin_element(void *with, const XML_Char *name, const XML_Char **attributes)
{
    Reader *r = with;
    const char *colon = strrchr(name, ':'), *own = colon ? colon + 1 : name;
    size_t bytes = strlen(own);

    (void)attributes;
    buf_clear(&r->text);
    if (r->depth++ == 0) {
        if (!is_one_of(own, r->roots))
            stop(r, "it is another document");
        return;
    }
    if (r->depth > DEPTH_MAX || r->path_bytes + bytes + 2 > PATH_BYTES) {
        stop(r, "it is too deep");
        return;
    }
    if (r->path_bytes > 0)
        r->path[r->path_bytes++] = '/';
    memcpy(r->path + r->path_bytes, own, bytes + 1);
    r->path_bytes += bytes;
}

static void XMLCALL
end_element(void *with, const XML_Char *name)
{
    Reader *r = with;
    char *slash;

    (void)name;
    if (r->why)
        return;
    if (!r->take(r->path, r->text.data, r->text.bytes, r->with, &r->why))
        stop(r, "it is refused");
    buf_clear(&r->text);
    r->depth--;
    slash = strrchr(r->path, '/');
    r->path_bytes = slash ? (size_t)(slash - r->path) : 0;
    r->path[r->path_bytes] = '\0';
}

/* What is too much is cut: fields that must be whole are far shorter, and see that it is long. */
static void XMLCALL
add_text(void *with, const XML_Char *text, int bytes)
{
    Reader *r = with;
    size_t room = TEXT_BYTES_MAX - r->text.bytes;

    buf_put(&r->text, text, (size_t)bytes < room ? (size_t)bytes : room);
    if (r->text.failed)
        stop(r, "there is no memory to read it");
}

/* No document of a store has one, and it could make much out of little. */
static void XMLCALL
begin_doctype(void *with, const XML_Char *name, const XML_Char *system_id,
    const XML_Char *public_id, int has_internal_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_internal_subset;
    stop(with, "it has a DOCTYPE");
}

/* White space keeps a connection alive before the document begins; Expat takes none there. */
static void
skip_to_document(const char **body, size_t *bytes)
{
    static const char bom[] = "\xef\xbb\xbf";

    while (*bytes > 0) {
        size_t skip = 0;

        if (strchr(" \t\r\n", **body) && **body)
            skip = 1;
        else if (*bytes >= 3 && memcmp(*body, bom, 3) == 0)
            skip = 3;
        if (skip == 0)
            return;
        *body += skip;
        *bytes -= skip;
    }
}

/* The whole document, with one of these roots. False and why it is none. */
static bool
read_xml(const char *body, size_t bytes, const char *const *roots, Take *take, void *with,
    const char **why)
{
    Reader r = {.roots = roots, .take = take, .with = with, .text = buf_new(TEXT_BYTES_MAX + 1)};
    bool ok;

    skip_to_document(&body, &bytes);
    if (bytes == 0 || bytes > INT32_MAX) {
        *why = bytes == 0 ? "it is empty" : "it is too long";
        return false;
    }
    if (!(r.parser = XML_ParserCreate(NULL))) {
        *why = "there is no memory to read it";
        return false;
    }
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, begin_element, end_element);
    XML_SetCharacterDataHandler(r.parser, add_text);
    XML_SetStartDoctypeDeclHandler(r.parser, begin_doctype);
    ok = XML_Parse(r.parser, body, (int)bytes, 1) == XML_STATUS_OK && !r.why;
    if (!ok)
        *why = r.why ? r.why : XML_ErrorString(XML_GetErrorCode(r.parser)); /* static */
    XML_ParserFree(r.parser);
    if (r.text.room_bytes > 0)
        explicit_bzero(r.text.data, r.text.room_bytes); /* it may have been a secret */
    buf_free(&r.text);
    return ok;
}

static bool
read_document(
    const char *body, size_t bytes, const char *const *roots, Take *take, void *with, Err *e)
{
    const char *why = NULL;

    return read_xml(body, bytes, roots, take, with, &why) ||
           fail(e, STORAGE_UNAVAILABLE, "the answer is no %s: %s", roots[0], why);
}

/* --- values --- */

/* Names, numbers and tokens; not keys, which may begin and end as they like. */
static void
trim(const char **text, size_t *bytes)
{
    while (*bytes > 0 && strchr(" \t\r\n", **text)) {
        ++*text;
        --*bytes;
    }
    while (*bytes > 0 && strchr(" \t\r\n", (*text)[*bytes - 1]))
        --*bytes;
}

static bool
set_text(const Field *field, const char *text, size_t bytes, void *record, const char **why)
{
    char *to = (char *)record + field->at;

    trim(&text, &bytes);
    if (bytes >= field->bytes) {
        if (field->too_long == WHOLE) {
            *why = "a value is too long";
            return false;
        }
        bytes = field->bytes - 1;
        while (bytes > 0 && (text[bytes] & 0xc0) == 0x80) /* not within a character */
            bytes--;
    }
    memcpy(to, text, bytes);
    to[bytes] = '\0';
    return true;
}

/* What stands last counts. */
static bool
take_fields(const Field *field, size_t fields, const char *path, const char *text, size_t bytes,
    void *record, const char **why)
{
    for (size_t i = 0; i < fields; i++)
        if (strcmp(path, field[i].path) == 0)
            return set_text(&field[i], text, bytes, record, why);
    return true;
}

/* YYYY-MM-DDThh:mm:ss[.f…]Z with a fraction of any length, or none. */
static bool
read_time(const char *text, size_t bytes, int64_t *wall_us)
{
    char cut[64];
    size_t dot, digits;

    trim(&text, &bytes);
    if (bytes >= sizeof cut)
        return false;
    memcpy(cut, text, bytes);
    cut[bytes] = '\0';
    dot = strcspn(cut, ".");
    if (cut[dot]) {
        digits = strspn(cut + dot + 1, "0123456789");
        if (digits > FRACTION_DIGITS) {
            memmove(cut + dot + 1 + FRACTION_DIGITS, cut + dot + 1 + digits,
                bytes - dot - 1 - digits + 1);
            bytes -= digits - FRACTION_DIGITS;
        }
    }
    return time_parse(cut, bytes, wall_us, NULL);
}

static bool
is_true(const char *text, size_t bytes)
{
    char word[8];

    trim(&text, &bytes);
    if (bytes >= sizeof word)
        return false;
    memcpy(word, text, bytes);
    word[bytes] = '\0';
    return text_same_case_blind(word, "true");
}

/* --- errors --- */

/* Those of STS have another element around them. */
static bool
take_error(const char *path, const char *text, size_t bytes, void *with, const char **why)
{
    static const Field fields[] = {
        FIELD(S3Error, code, "Code", CUT),
        FIELD(S3Error, message, "Message", CUT),
        FIELD(S3Error, region, "Region", CUT),
        FIELD(S3Error, endpoint, "Endpoint", CUT),
        FIELD(S3Error, request_id, "RequestId", CUT),
        FIELD(S3Error, code, "Error/Code", CUT),
        FIELD(S3Error, message, "Error/Message", CUT),
    };
    S3Error *error = with;
    int64_t wall_us;

    if (strcmp(path, "ServerTime") == 0 && read_time(text, bytes, &wall_us))
        error->server_wall_s = wall_us / 1000000;
    return take_fields(fields, sizeof fields / sizeof fields[0], path, text, bytes, error, why);
}

bool
answer_error(const char *body, size_t bytes, S3Error *error)
{
    static const char *const roots[] = {"Error", "ErrorResponse", NULL};
    const char *why;

    *error = (S3Error){0};
    if (!read_xml(body, bytes, roots, take_error, error, &why)) {
        *error = (S3Error){0};
        return false;
    }
    text_make_printable(error->code);
    text_make_printable(error->message);
    text_make_printable(error->region);
    text_make_printable(error->endpoint);
    text_make_printable(error->request_id);
    return true;
}

/* --- one value --- */

typedef struct {
    Field field;
    void *record;
} OneValue;

static bool
take_one(const char *path, const char *text, size_t bytes, void *with, const char **why)
{
    const OneValue *one = with;

    return take_fields(&one->field, 1, path, text, bytes, one->record, why);
}

/* The document must have it, and it may not be empty. */
static bool
read_one(const char *body, size_t bytes, const char *const *roots, const char *path, char *to,
    size_t to_bytes, Err *e)
{
    OneValue one = {{path, 0, to_bytes, WHOLE}, to};

    to[0] = '\0';
    return read_document(body, bytes, roots, take_one, &one, e) &&
           (to[0] || fail(e, STORAGE_UNAVAILABLE, "the answer, a %s, has no %s", roots[0], path));
}

bool
answer_created(const char *body, size_t bytes, char upload[S3_UPLOAD_BYTES], Err *e)
{
    static const char *const roots[] = {"InitiateMultipartUploadResult", NULL};

    return read_one(body, bytes, roots, "UploadId", upload, S3_UPLOAD_BYTES, e);
}

bool
answer_completed(const char *body, size_t bytes, char etag[S3_ETAG_BYTES], Err *e)
{
    static const char *const roots[] = {"CompleteMultipartUploadResult", NULL};

    return read_one(body, bytes, roots, "ETag", etag, S3_ETAG_BYTES, e);
}

/* --- lists --- */

typedef struct {
    const char *entry; /* the element of one */
    AnswerVisit *visit;
    void *with;
    Err *e;
    AnswerPage *page;
    bool visits; /* the second reading */
    bool is_encoded;
    char raw[3 * STORAGE_KEY_BYTES + 1]; /* the key as it came */
    bool key_is_too_long;
    char key[KEY_BYTES], upload[S3_UPLOAD_BYTES];
    int64_t bytes, modified_us;
} List;

/* "%2F" is one byte, and '+' a blank, as AWS and MinIO write it. False: it is not encoded so (a
 * store may say that it encodes, and not do it), or does not fit. */
static bool
decode(const char *from, char *to, size_t to_bytes)
{
    char blank[3 * STORAGE_KEY_BYTES + 1];
    size_t bytes;

    if (!text_copy(blank, sizeof blank, from))
        return false;
    for (char *c = blank; *c; c++)
        if (*c == '+')
            *c = ' ';
    if (!text_percent_decode(blank, strlen(blank), to, to_bytes - 1, &bytes) ||
        memchr(to, '\0', bytes))
        return false;
    to[bytes] = '\0';
    return true;
}

static bool
end_entry(List *list, const char **why)
{
    AnswerEntry entry = {
        list->key, list->upload[0] ? list->upload : NULL, list->bytes, list->modified_us};
    bool is_there = list->raw[0] && !list->key_is_too_long;

    list->page->entries += !list->visits;
    if (is_there && list->visits) {
        /* A key that is longer than S3 allows is not one of ours. */
        bool fits = (list->is_encoded && decode(list->raw, list->key, sizeof list->key)) ||
                    text_copy(list->key, sizeof list->key, list->raw);

        if (fits && list->visit && !list->visit(&entry, list->with, list->e)) {
            *why = ""; /* `e` says it */
            return false;
        }
    }
    list->raw[0] = list->upload[0] = '\0';
    list->key_is_too_long = false;
    list->bytes = list->modified_us = 0;
    return true;
}

static bool
take_in_entry(List *list, const char *member, const char *text, size_t bytes, const char **why)
{
    static const Field upload = {"UploadId", offsetof(List, upload), S3_UPLOAD_BYTES, WHOLE};
    char number[24];
    uint64_t size;

    if (strcmp(member, "Key") == 0) {
        list->key_is_too_long = bytes >= sizeof list->raw || strlen(text) != bytes;
        if (!list->key_is_too_long)
            memcpy(list->raw, text, bytes + 1);
    } else if (strcmp(member, "UploadId") == 0) {
        return set_text(&upload, text, bytes, list, why);
    } else if (strcmp(member, "LastModified") == 0 || strcmp(member, "Initiated") == 0) {
        if (!read_time(text, bytes, &list->modified_us))
            list->modified_us = 0;
    } else if (strcmp(member, "Size") == 0) {
        trim(&text, &bytes);
        if (bytes >= sizeof number) {
            *why = "a size is no number";
            return false;
        }
        memcpy(number, text, bytes);
        number[bytes] = '\0';
        if (!text_to_uint(number, INT64_MAX, &size)) {
            *why = "a size is no number";
            return false;
        }
        list->bytes = (int64_t)size;
    }
    return true;
}

static bool
take_in_list(const char *path, const char *text, size_t bytes, void *with, const char **why)
{
    static const Field fields[] = {
        FIELD(AnswerPage, token, "NextContinuationToken", WHOLE),
        FIELD(AnswerPage, upload_marker, "NextUploadIdMarker", WHOLE),
    };
    List *list = with;
    size_t entry_bytes = strlen(list->entry);

    if (strncmp(path, list->entry, entry_bytes) == 0) {
        if (path[entry_bytes] == '/')
            return take_in_entry(list, path + entry_bytes + 1, text, bytes, why);
        if (!path[entry_bytes])
            return end_entry(list, why);
    }
    if (list->visits)
        return true;
    if (strcmp(path, "IsTruncated") == 0)
        list->page->is_truncated = is_true(text, bytes);
    else if (strcmp(path, "EncodingType") == 0)
        list->is_encoded = strcmp(text, "url") == 0;
    else if (strcmp(path, "NextMarker") == 0 || strcmp(path, "NextKeyMarker") == 0) {
        if (bytes >= sizeof list->page->marker) {
            *why = "a marker is too long";
            return false;
        }
        memcpy(list->page->marker, text, bytes);
        list->page->marker[bytes] = '\0';
    }
    return take_fields(
        fields, sizeof fields / sizeof fields[0], path, text, bytes, list->page, why);
}

/* Where to go on; a store that does not say so is asked for what comes behind the last key. */
static void
find_next(List *list)
{
    AnswerPage *page = list->page;
    char marker[KEY_BYTES];

    if (list->is_encoded && decode(page->marker, marker, sizeof marker))
        (void)text_copy(page->marker, sizeof page->marker, marker);
    if (!page->is_truncated)
        return;
    if (!page->marker[0])
        (void)text_copy(page->marker, sizeof page->marker, list->key);
    page->has_next = page->token[0] || page->marker[0];
}

static bool
read_list(const char *body, size_t bytes, const char *const *roots, List *list, Err *e)
{
    const char *why = NULL;

    *list->page = (AnswerPage){0};
    list->e = e;
    if (!read_document(body, bytes, roots, take_in_list, list, e))
        return false;
    list->visits = true;
    if (!read_xml(body, bytes, roots, take_in_list, list, &why))
        return !*why ? false
                     : fail(e, STORAGE_UNAVAILABLE, "the answer is no %s: %s", roots[0], why);
    find_next(list);
    return true;
}

bool
answer_objects(
    const char *body, size_t bytes, AnswerVisit *visit, void *with, AnswerPage *page, Err *e)
{
    static const char *const roots[] = {"ListBucketResult", NULL};
    List list = {.entry = "Contents", .visit = visit, .with = with, .page = page};

    return read_list(body, bytes, roots, &list, e);
}

bool
answer_uploads(
    const char *body, size_t bytes, AnswerVisit *visit, void *with, AnswerPage *page, Err *e)
{
    static const char *const roots[] = {"ListMultipartUploadsResult", NULL};
    List list = {.entry = "Upload", .visit = visit, .with = with, .page = page};

    return read_list(body, bytes, roots, &list, e);
}

static bool
take_part(const char *path, const char *text, size_t bytes, void *with, const char **why)
{
    (void)text;
    (void)bytes;
    (void)why;
    *(size_t *)with += strcmp(path, "Part") == 0;
    return true;
}

bool
answer_parts(const char *body, size_t bytes, size_t *parts, Err *e)
{
    static const char *const roots[] = {"ListPartsResult", NULL};

    *parts = 0;
    return read_document(body, bytes, roots, take_part, parts, e);
}

/* --- what was not deleted --- */

typedef struct {
    AnswerRefusedVisit *visit;
    void *with;
    bool visits, has_ended;
    char key[KEY_BYTES], code[S3_CODE_BYTES], message[256];
} Deleted;

static bool
take_deleted(const char *path, const char *text, size_t bytes, void *with, const char **why)
{
    static const Field fields[] = {
        FIELD(Deleted, code, "Error/Code", CUT),
        FIELD(Deleted, message, "Error/Message", CUT),
    };
    Deleted *d = with;

    if (strcmp(path, "Error/Key") == 0) {
        if (bytes >= sizeof d->key) {
            *why = "a key is too long";
            return false;
        }
        memcpy(d->key, text, bytes);
        d->key[bytes] = '\0';
    } else if (strcmp(path, "Error") == 0) {
        text_make_printable(d->code);
        text_make_printable(d->message);
        if (d->visits && !d->has_ended)
            d->has_ended = !d->visit(d->key, d->code, d->message, d->with);
        d->key[0] = d->code[0] = d->message[0] = '\0';
    }
    return take_fields(fields, sizeof fields / sizeof fields[0], path, text, bytes, d, why);
}

bool
answer_deleted(const char *body, size_t bytes, AnswerRefusedVisit *visit, void *with, Err *e)
{
    static const char *const roots[] = {"DeleteResult", NULL};
    Deleted deleted = {.visit = visit, .with = with};

    if (!read_document(body, bytes, roots, take_deleted, &deleted, e))
        return false;
    deleted.visits = true;
    return read_document(body, bytes, roots, take_deleted, &deleted, e);
}

/* --- credentials --- */

static bool
take_credentials(const char *path, const char *text, size_t bytes, void *with, const char **why)
{
    static const Field fields[] = {
        FIELD(S3Keys, access_key, "AccessKeyId", WHOLE),
        FIELD(S3Keys, secret_key, "SecretAccessKey", WHOLE),
        FIELD(S3Keys, token, "SessionToken", WHOLE),
    };
    static const char *const results[] = {
        "AssumeRoleResult/Credentials/", "AssumeRoleWithWebIdentityResult/Credentials/", NULL};
    S3Keys *keys = with;
    int64_t wall_us;

    for (const char *const *result = results; *result; result++) {
        const char *member = path + strlen(*result);

        if (!text_starts(path, *result))
            continue;
        if (strcmp(member, "Expiration") == 0) {
            if (!read_time(text, bytes, &wall_us)) {
                *why = "their end is no time";
                return false;
            }
            keys->ends_wall_s = wall_us / 1000000;
        }
        return take_fields(
            fields, sizeof fields / sizeof fields[0], member, text, bytes, keys, why);
    }
    return true;
}

bool
answer_credentials(const char *body, size_t bytes, S3Keys *keys, Err *e)
{
    static const char *const roots[] = {
        "AssumeRoleResponse", "AssumeRoleWithWebIdentityResponse", NULL};
    bool ok;

    *keys = (S3Keys){0};
    ok = read_document(body, bytes, roots, take_credentials, keys, e) &&
         ((keys->access_key[0] && keys->secret_key[0]) ||
             fail(e, STORAGE_UNAVAILABLE, "the answer of STS has no keys"));
    if (!ok)
        explicit_bzero(keys, sizeof *keys);
    return ok;
}

/* --- writing --- */

void
answer_put_text(Buf *to, const char *text, size_t bytes)
{
    for (const char *c = text; c < text + bytes; c++)
        switch (*c) {
        case '&':
            buf_text(to, "&amp;");
            break;
        case '<':
            buf_text(to, "&lt;");
            break;
        case '>':
            buf_text(to, "&gt;");
            break;
        case '"':
            buf_text(to, "&quot;");
            break;
        case '\'':
            buf_text(to, "&apos;");
            break;
        default:
            if ((unsigned char)*c < ' ' || *c == '\x7f')
                buf_printf(to, "&#x%X;", (unsigned char)*c);
            else
                buf_char(to, *c);
        }
}

const char *
answer_library_version(void)
{
    const char *version = XML_ExpatVersion(); /* "expat_2.5.0" */

    return text_starts(version, "expat_") ? version + 6 : version;
}
