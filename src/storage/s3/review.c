/*
 * The store seen from close by, for doctor: each right that the service needs is used once, and
 * what the store can is found out. What is wrong is told apart (key, secret, bucket, region,
 * permission, connection, certificate, clock), each with what mends it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/time.h"
#include "net/address.h"
#include "storage/s3/s3_in.h"

enum {
    TRIES = 2,
    TRY_MS = 20000,
    KEYS_WAIT_MS = 30000,
    NAME_BYTES = 128,
    LINE_BYTES = 512,
    CLOCK_OFF_S = 30, /* from here on requests are signed by the store's clock */
    LINK_SLACK_S = 300,
    DAY_MS = 86400000,
};

static const char folder[] = "exports/rowferry-doctor/";
static const char probe_type[] = "text/plain; charset=utf-8";

typedef enum {
    TO_LIST,
    TO_WRITE,
    TO_READ,
    TO_DELETE,
    TO_LIST_UPLOADS,
    TO_LIST_PARTS,
    TO_ABORT,
    RIGHTS,
} Right;

static const struct {
    const char *name, *fix;
} rights[RIGHTS] = {
    [TO_LIST] = {"list", "allow s3:ListBucket on the bucket; docs/s3.md has the whole policy"},
    [TO_WRITE] = {"write",
        "allow s3:PutObject on the bucket's exports/*; docs/s3.md has the whole policy"},
    [TO_READ] = {"read",
        "allow s3:GetObject on the bucket's exports/*; docs/s3.md has the whole policy"},
    [TO_DELETE] = {"delete",
        "allow s3:DeleteObject on the bucket's exports/*; docs/s3.md has the whole policy"},
    [TO_LIST_UPLOADS] = {"list uploads",
        "allow s3:ListBucketMultipartUploads on the bucket; docs/s3.md has the whole policy"},
    [TO_LIST_PARTS] = {"list parts",
        "allow s3:ListMultipartUploadParts on the bucket's exports/*; docs/s3.md has the whole "
        "policy"},
    [TO_ABORT] = {"abort uploads",
        "allow s3:AbortMultipartUpload on the bucket's exports/*; docs/s3.md has the whole policy"},
};

typedef struct {
    const S3Spec *spec;
    const StorageReview *how;
    Client *client;
    Arena *arena;
    Finding *found;
    size_t *count;
    bool has[RIGHTS];
    char plain_key[NAME_BYTES]; /* written, read, deleted */
    char wrong_key[NAME_BYTES]; /* its checksum is wrong */
    char large_key[NAME_BYTES]; /* of an upload that is aborted */
    char content[NAME_BYTES];
    char version[S3_ID_BYTES]; /* of the object that was written; "": the bucket keeps none */
} Review;

static void add(const Review *r, Verdict verdict, const char *about, const char *fix,
    const char *fmt, ...) PRINTF_LIKE(5, 6);

static void
add(const Review *r, Verdict verdict, const char *about, const char *fix, const char *fmt, ...)
{
    char line[LINE_BYTES];
    Err e = {0};
    const char *text;
    va_list args;

    va_start(args, fmt);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, one line above */
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (*r->count < FINDINGS_MAX && (text = arena_text(r->arena, line, &e)))
        r->found[(*r->count)++] = (Finding){verdict, about, text, fix};
}

/* --- what stands in the way of everything --- */

/* What an answer is about, and what mends it; of several that fit the first. */
static const struct {
    S3Class class;
    const char *code; /* of the store; NULL: any */
    const char *about, *fix;
} causes[] = {
    {S3_REFUSED, "InvalidAccessKeyId", "access key",
        "the store has no such key: is S3_ACCESS_KEY one of this store's, spelt rightly, and "
        "active?"},
    {S3_REFUSED, "SignatureDoesNotMatch", "secret key",
        "the secret is not this access key's: copy S3_SECRET_KEY anew"},
    {S3_STALE, NULL, "credentials",
        "they have ended: get new ones (S3_SESSION_TOKEN goes with its keys), or let rowferry "
        "refresh them from a profile or a role"},
    {S3_CLOCK, NULL, "clock", "set this machine's clock by NTP"},
    {S3_ELSEWHERE, NULL, "region", "set S3_REGION to the region of the bucket"},
    {S3_MISSING, NULL, "bucket",
        "is S3_BUCKET spelt rightly, and S3_ENDPOINT the right store? `rowferry doctor "
        "--create-bucket` makes it"},
    {S3_FULL, NULL, "room", "make room in the store, or let it have more"},
    {S3_THROTTLED, NULL, "load", "the store has too much to do: try again later"},
    {S3_CANNOT, NULL, "store", "is S3_ENDPOINT the address of a store that speaks S3?"},
    {S3_INVALID, NULL, "store",
        "is S3_ENDPOINT the address of a store that speaks S3, with the right scheme (http or "
        "https) and port?"},
};

/* The same where no answer came. */
static const struct {
    ErrCode cause;
    const char *about, *fix;
} silences[] = {
    {ERR_SERVER_UNTRUSTED, "TLS",
        "let ROWFERRY_S3_CA_FILE name the authority that signed the store's certificate, and "
        "S3_ENDPOINT a host that stands in it; where that port speaks no TLS, write http://"},
    {ERR_SERVER_UNREACHABLE, "connection",
        "are scheme, host and port of S3_ENDPOINT right, does the store run, and does no firewall "
        "stand between?"},
    {ERR_WAITED_TOO_LONG, "connection",
        "something took the connection and says nothing: are host and port of S3_ENDPOINT right?"},
};

/* Keys from elsewhere than the settings have other ends. */
static const char credentials_fix[] =
    "`rowferry config show` says where they come from; docs/s3.md lists all places, in order";

static bool
explain(const Review *r, const S3Answer *answer, const Err *why)
{
    for (size_t i = 0; answer->status == 0 && i < sizeof silences / sizeof silences[0]; i++)
        if (silences[i].cause == answer->cause) {
            add(r, VERDICT_BAD, silences[i].about, silences[i].fix, "%s", err_root(why));
            return false;
        }
    for (size_t i = 0; answer->status != 0 && i < sizeof causes / sizeof causes[0]; i++)
        if (causes[i].class == answer->class &&
            (!causes[i].code || strcmp(causes[i].code, answer->error.code) == 0)) {
            add(r, VERDICT_BAD, causes[i].about, causes[i].fix, "%s", err_root(why));
            return false;
        }
    add(r, VERDICT_BAD, NULL, NULL, "%s", err_root(why));
    return false;
}

/* --- one request after the other --- */

static bool
ask(const Review *r, S3Request request, S3Answer *answer, Err *why)
{
    request.timeout_ms = TRY_MS;
    return client_call(r->client, &request, answer, NULL, why);
}

/* Notes that a right is there, or says that it is missing; false: something else is wrong. */
static bool
note(Review *r, Right right, bool ok, const S3Answer *answer, const Err *why)
{
    r->has[right] = ok;
    if (ok)
        return true;
    if (answer->class == S3_REFUSED && answer->status != 0) {
        add(r, VERDICT_BAD, "rights", rights[right].fix, "may not %s: %s", rights[right].name,
            err_root(why));
        return true;
    }
    if (answer->class == S3_CANNOT && answer->status != 0) {
        add(r, VERDICT_UNWISE, "store", NULL, "cannot %s: %s", rights[right].name, err_root(why));
        return true;
    }
    return explain(r, answer, why);
}

static bool
list(const Review *r, S3Answer *answer, Err *why)
{
    const S3Pair query[] = {{"max-keys", "1"}, {"prefix", folder}, {"list-type", "2"}};

    return ask(r,
        (S3Request){.operation = "ListObjects",
            .method = "GET",
            .query = query,
            .queries = r->spec->list_version == 1 ? 2 : 3},
        answer, why);
}

static bool
create_bucket(const Review *r)
{
    static const char constraint[] =
        "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>";
    Site site = client_site(r->client);
    char body[LINE_BYTES] = "";
    S3Answer answer;
    Err why = {0};
    bool ok;

    /* Of AWS's regions this one has no name there. */
    if (strcmp(site.region, "us-east-1") != 0)
        snprintf(body, sizeof body, constraint, site.region);
    ok = ask(r,
        (S3Request){
            .operation = "CreateBucket", .method = "PUT", .body = body, .body_bytes = strlen(body)},
        &answer, &why);
    if (ok)
        add(r, VERDICT_GOOD, "bucket", NULL, "%s was made", r->spec->bucket);
    else
        add(r, VERDICT_BAD, "bucket", "make it by the tools of the store", "%s", err_root(&why));
    client_answer_free(&answer);
    return ok;
}

/* The store's Date against ours. */
static void
look_at_clock(const Review *r, const S3Answer *answer)
{
    char date[64];
    int64_t wall_us, off_s;

    if (!http_header(&answer->http, "Date", date, sizeof date) || !time_parse_http(date, &wall_us))
        return;
    off_s = (wall_us - time_wall_us()) / 1000000;
    if (off_s > CLOCK_OFF_S || off_s < -CLOCK_OFF_S)
        add(r, VERDICT_UNWISE, "clock",
            "set both by NTP; until then requests are signed by the store's clock",
            "the store's clock and this one differ by %" PRId64 " s", off_s);
    else
        add(r, VERDICT_GOOD, "clock", NULL, "within %" PRId64 " s of the store's",
            off_s < 0 ? 1 - off_s : off_s + 1);
}

/* A link ends with the keys that signed it, whatever its date says. */
static void
look_at_life(const Review *r, const S3Keys *keys)
{
    static const char fix[] =
        "let a lasting key sign them: ROWFERRY_SIGN_ACCESS_KEY, ROWFERRY_SIGN_SECRET_KEY";
    int64_t wanted_s = time_wall_us() / 1000000 + r->how->link_ms / 1000 - LINK_SLACK_S;
    char when[TIME_TEXT_BYTES];

    if (*r->spec->sign_access_key)
        return;
    if (keys->ends_wall_s > 0 && keys->ends_wall_s < wanted_s)
        add(r, VERDICT_UNWISE, "links", fix, "links end with the credentials that sign them, %s",
            time_rfc3339_ms(keys->ends_wall_s * 1000000, when));
    else if (keys->ends_wall_s == 0 && keys->token[0])
        add(r, VERDICT_UNWISE, "links", fix,
            "links end with the credentials that sign them, and nobody says when: they have a "
            "session token");
}

/* Keys first, so that a source without keys is not taken for a store that does not answer. */
static bool
meet(Review *r)
{
    S3Keys keys = {0};
    S3Answer answer = {0};
    Err why = {0};
    bool ok;

    if (!r->spec->anonymous &&
        !credentials_get(client_credentials(r->client), KEYS_WAIT_MS, &keys, &why)) {
        add(r, VERDICT_BAD, "credentials", credentials_fix, "%s", err_root(&why));
        return false;
    }
    look_at_life(r, &keys);
    explicit_bzero(&keys, sizeof keys);
    ok = list(r, &answer, &why);
    if (!ok && answer.class == S3_MISSING && answer.status != 0 && r->how->makes_bucket) {
        client_answer_free(&answer);
        err_clear(&why);
        if (!create_bucket(r))
            return false;
        ok = list(r, &answer, &why);
    }
    if (answer.status != 0)
        look_at_clock(r, &answer);
    /* Who may not list may do other things; who is not known may do nothing. */
    if (!ok && answer.class == S3_REFUSED && strcmp(answer.error.code, "AccessDenied") != 0)
        (void)explain(r, &answer, &why);
    else
        ok = note(r, TO_LIST, ok, &answer, &why);
    client_answer_free(&answer);
    return ok;
}

/* --- an object --- */

/* What settings ask of every object stands in its headers: they may be refused, too. */
static size_t
probe_headers(const Review *r, S3Pair header[S3_PAIRS_MAX])
{
    header[0] = (S3Pair){"content-type", probe_type};
    return multipart_add_settings(r->spec, header, 1);
}

static bool
write_probe(Review *r)
{
    S3Pair header[S3_PAIRS_MAX];
    size_t headers = probe_headers(r, header);
    char said[64];
    S3Answer answer;
    Err why = {0};
    bool ok = ask(r,
        (S3Request){.operation = "PutObject",
            .method = "PUT",
            .key = r->plain_key,
            .header = header,
            .headers = headers,
            .body = r->content,
            .body_bytes = strlen(r->content)},
        &answer, &why);
    bool goes_on = note(r, TO_WRITE, ok, &answer, &why);

    if (ok && *r->spec->sse &&
        !http_header(&answer.http, "x-amz-server-side-encryption", said, sizeof said)) {
        add(r, VERDICT_BAD, "encryption",
            "switch it on in the store, or leave ROWFERRY_S3_SSE out: exports would fail",
            "ROWFERRY_S3_SSE is %s, and the store does not encrypt", r->spec->sse);
    }
    if (ok && http_header(&answer.http, "x-amz-version-id", r->version, sizeof r->version) &&
        strcmp(r->version, "null") == 0)
        r->version[0] = '\0';
    client_answer_free(&answer);
    return goes_on;
}

static bool
read_probe(Review *r)
{
    S3Answer answer;
    Err why = {0};
    bool ok = ask(r, (S3Request){.operation = "GetObject", .method = "GET", .key = r->plain_key},
        &answer, &why);
    bool goes_on = note(r, TO_READ, ok, &answer, &why);

    if (ok && (answer.http.body.bytes != strlen(r->content) ||
                  memcmp(answer.http.body.data, r->content, answer.http.body.bytes) != 0))
        add(r, VERDICT_BAD, "store", "what stands between here and the store changes files",
            "what was written reads back as other bytes");
    client_answer_free(&answer);
    return goes_on;
}

/* Does a write that must not replace anything replace something? */
static void
write_again(const Review *r)
{
    static const char about[] = "conditional writes";
    S3Pair header[S3_PAIRS_MAX];
    size_t headers = probe_headers(r, header);
    bool is_wanted = strcmp(r->spec->conditional, "on") == 0;
    S3Answer answer;
    Err why = {0};

    header[headers++] = (S3Pair){"if-none-match", "*"};
    (void)!ask(r,
        (S3Request){.operation = "PutObject",
            .method = "PUT",
            .key = r->plain_key,
            .header = header,
            .headers = headers,
            .body = r->content,
            .body_bytes = strlen(r->content)},
        &answer, &why);
    if (answer.class == S3_PRESENT)
        add(r, VERDICT_GOOD, about, NULL, "the store keeps what is there");
    else
        add(r, is_wanted ? VERDICT_BAD : VERDICT_GOOD, about,
            is_wanted ? "set ROWFERRY_S3_CONDITIONAL to off" : NULL,
            "the store has none; the queue alone sees to it that one attempt wins");
    client_answer_free(&answer);
}

/* One byte with the checksum of another. */
static void
write_wrongly(const Review *r)
{
    static const char about[] = "checksums";
    ChecksumKind kind =
        strcmp(r->spec->checksum, "crc64nvme") == 0 ? CHECKSUM_CRC64NVME : CHECKSUM_CRC32C;
    bool is_on = strcmp(r->spec->checksum, "none") != 0 &&
                 (strcmp(r->spec->checksum, "auto") != 0 || !*r->spec->endpoint ||
                     strcmp(r->spec->payload, "unsigned") == 0);
    char sum[CHECKSUM_TEXT_BYTES];
    S3Pair header[S3_PAIRS_MAX];
    size_t headers = probe_headers(r, header);
    S3Answer answer;
    Err why = {0};
    bool taken;

    checksum_text(kind, checksum_update(kind, 0, "y", 1), sum);
    header[headers++] = (S3Pair){checksum_header(kind), sum};
    taken = ask(r,
        (S3Request){.operation = "PutObject",
            .method = "PUT",
            .key = r->wrong_key,
            .header = header,
            .headers = headers,
            .body = "x",
            .body_bytes = 1,
            .tries = 1},
        &answer, &why);
    if (!taken && (answer.class == S3_DAMAGED || answer.class == S3_INVALID))
        add(r, VERDICT_GOOD, about, NULL, "the store refuses a wrong %s%s", checksum_name(kind),
            is_on ? "" : "; ROWFERRY_S3_CHECKSUM=crc64nvme would keep one with each file");
    else if (is_on)
        add(r, VERDICT_UNWISE, about,
            "set ROWFERRY_S3_CHECKSUM to none: what is not compared proves nothing",
            taken ? "the store takes a wrong %s" : "the store takes no %s", checksum_name(kind));
    else
        add(r, VERDICT_GOOD, about, NULL,
            "none sent, and the store would compare none; it has the hash of each request");
    client_answer_free(&answer);
}

/* --- an upload --- */

typedef struct {
    const char *upload;
    bool is_seen;
} Seen;

static bool
see_upload(const AnswerEntry *entry, void *with, Err *e)
{
    Seen *seen = with;

    (void)e;
    seen->is_seen = seen->is_seen || (entry->upload && strcmp(entry->upload, seen->upload) == 0);
    return true;
}

/* MinIO knows uploads by their exact keys only (s3.md 8.7), so it is asked for both. */
static bool
list_uploads(Review *r, const char *upload, const char *prefix, bool *is_seen)
{
    const S3Pair query[] = {{"uploads", ""}, {"prefix", prefix}};
    Seen seen = {.upload = upload};
    AnswerPage page;
    S3Answer answer;
    Err why = {0};
    bool ok = ask(r,
        (S3Request){
            .operation = "ListMultipartUploads", .method = "GET", .query = query, .queries = 2},
        &answer, &why);
    bool goes_on = note(r, TO_LIST_UPLOADS, ok, &answer, &why);

    if (ok && !answer_uploads(
                  answer.http.body.data, answer.http.body.bytes, see_upload, &seen, &page, &why))
        add(r, VERDICT_UNWISE, "store", NULL, "%s", err_root(&why));
    *is_seen = seen.is_seen;
    client_answer_free(&answer);
    return goes_on;
}

static bool
use_upload(Review *r, Right right, const char *operation, const char *method, const char *upload)
{
    const S3Pair query[] = {{"uploadId", upload}};
    S3Answer answer;
    Err why = {0};
    bool ok = ask(r,
        (S3Request){.operation = operation,
            .method = method,
            .key = r->large_key,
            .query = query,
            .queries = 1},
        &answer, &why);
    bool goes_on = note(r, right, ok, &answer, &why);

    client_answer_free(&answer);
    return goes_on;
}

static bool
try_upload(Review *r)
{
    const S3Pair query[] = {{"uploads", ""}};
    S3Pair header[S3_PAIRS_MAX];
    char upload[S3_UPLOAD_BYTES];
    S3Answer answer;
    Err why = {0};
    bool is_seen = false, is_seen_by_key = false, ok;

    ok = ask(r,
        (S3Request){.operation = "CreateMultipartUpload",
            .method = "POST",
            .key = r->large_key,
            .query = query,
            .queries = 1,
            .header = header,
            .headers = probe_headers(r, header)},
        &answer, &why);
    if (ok && !answer_created(answer.http.body.data, answer.http.body.bytes, upload, &why)) {
        add(r, VERDICT_BAD, "store", NULL, "%s", err_root(&why));
        client_answer_free(&answer);
        return false;
    }
    if (!ok) {
        ok = note(r, TO_WRITE, false, &answer, &why);
        client_answer_free(&answer);
        return ok;
    }
    client_answer_free(&answer);
    ok = list_uploads(r, upload, folder, &is_seen) &&
         (!r->has[TO_LIST_UPLOADS] || is_seen ||
             list_uploads(r, upload, r->large_key, &is_seen_by_key)) &&
         use_upload(r, TO_LIST_PARTS, "ListParts", "GET", upload);
    ok = use_upload(r, TO_ABORT, "AbortMultipartUpload", "DELETE", upload) && ok;
    if (ok && r->has[TO_LIST_UPLOADS] && !is_seen)
        add(r, VERDICT_GOOD, "uploads", NULL,
            "the store lists them %s: what a killed worker leaves is ended by its task's record",
            is_seen_by_key ? "by exact key only" : "not at all");
    return ok;
}

/* --- away with it --- */

static bool
delete_probe(Review *r, const char *key, const char *version, char marker[S3_ID_BYTES])
{
    const S3Pair query[] = {{"versionId", version}};
    S3Answer answer;
    Err why = {0};
    bool goes_on = true, ok;

    ok = ask(r,
        (S3Request){.operation = "DeleteObject",
            .method = "DELETE",
            .key = key,
            .query = query,
            .queries = *version ? 1 : 0},
        &answer, &why);
    if (marker && !(ok && http_header(&answer.http, "x-amz-version-id", marker, S3_ID_BYTES)))
        marker[0] = '\0';
    if (!*version && (ok || answer.class != S3_ABSENT))
        goes_on = note(r, TO_DELETE, ok, &answer, &why);
    client_answer_free(&answer);
    return goes_on;
}

/* Where versions are kept, deleting hides; what was hidden is taken away where that is allowed. */
static bool
delete_probes(Review *r)
{
    char marker[S3_ID_BYTES];
    bool goes_on = delete_probe(r, r->plain_key, "", marker);

    if (!r->has[TO_DELETE])
        return goes_on;
    goes_on = delete_probe(r, r->wrong_key, "", NULL) && goes_on;
    if (*r->version) {
        add(r, VERDICT_UNWISE, "versions",
            "let a lifecycle rule delete old versions after a day, or use a bucket without",
            "the bucket keeps versions: what is deleted is only hidden");
        (void)delete_probe(r, r->plain_key, r->version, NULL);
        if (*marker)
            (void)delete_probe(r, r->plain_key, marker, NULL);
    }
    return goes_on;
}

/* --- what the settings alone tell --- */

static void
look_at_region(const Review *r, const Site *before)
{
    Site now = client_site(r->client);

    if (strcmp(now.region, before->region) != 0)
        add(r, VERDICT_UNWISE, "region", "set S3_REGION to it: each start has to learn it again",
            "the bucket is in %s, not in %s", now.region, before->region);
}

static void
look_at_hosts(const Review *r, const Site *site)
{
    Site links;
    Err why = {0};
    size_t bytes;

    if (!site->is_secure && !site->is_loopback)
        add(r, VERDICT_UNWISE, "connection", "let the store have a certificate, and use https",
            "files travel to the store unencrypted");
    if (!site_make(r->spec, site->region, true, &links, &why) || links.is_aws)
        return;
    bytes = strcspn(links.host, ":");
    if (links.is_loopback || name_is_local(links.host, bytes))
        add(r, VERDICT_UNWISE, "links",
            "let ROWFERRY_S3_PUBLIC_ENDPOINT be the store's address for those who download",
            "links lead to %s, which other machines may not find", links.host);
}

static void
sum_up(const Review *r)
{
    Buf text = buf_new(LINE_BYTES);

    for (size_t i = 0; i < RIGHTS; i++)
        if (r->has[i])
            buf_printf(&text, "%s%s", text.bytes > 0 ? ", " : "", rights[i].name);
    if (text.bytes > 0)
        add(r, VERDICT_GOOD, "rights", NULL, "may %s", text.data);
    buf_free(&text);
}

static void
propose_lifecycle(const Review *r)
{
    add(r, VERDICT_GOOD, "lifecycle", NULL,
        "as a second net let the store expire exports/, partial/ and manifests/ after %" PRId64
        " days, and abort unfinished uploads after 2 (docs/s3.md has the rule)",
        (r->how->retention_ms + DAY_MS - 1) / DAY_MS + 2);
}

static void
name_probes(Review *r)
{
    char id[37];

    text_uuid(id);
    snprintf(r->plain_key, sizeof r->plain_key, "%sreview_%s.txt", folder, id);
    snprintf(r->wrong_key, sizeof r->wrong_key, "%sreview_%s_checksum.txt", folder, id);
    snprintf(r->large_key, sizeof r->large_key, "%sreview_%s_upload.txt", folder, id);
    snprintf(r->content, sizeof r->content, "rowferry doctor %s\n", id);
}

static bool
try_all(Review *r)
{
    Site before = client_site(r->client);
    bool goes_on;

    if (!meet(r))
        return false;
    look_at_region(r, &before);
    look_at_hosts(r, &before);
    name_probes(r);
    if (!write_probe(r))
        return false;
    if (r->has[TO_WRITE]) {
        goes_on = read_probe(r);
        if (goes_on) {
            write_again(r);
            write_wrongly(r);
            goes_on = try_upload(r);
        }
        if (!delete_probes(r) || !goes_on)
            return false;
    }
    sum_up(r);
    propose_lifecycle(r);
    return r->has[TO_WRITE];
}

bool
review_judge(const StorageSpec *spec, Buf *to, Err *e)
{
    Credentials *keys = spec->s3.anonymous ? NULL : credentials_open(&spec->s3, e);
    S3Spec s3 = credentials_complete(keys, &spec->s3);
    Site site, links;
    bool ok = (s3.anonymous || keys) && site_make(&s3, s3.region, false, &site, e) &&
              site_make(&s3, s3.region, true, &links, e);

    if (ok && strcmp(s3.payload, "unsigned") == 0 && !site.is_secure && !site.is_loopback)
        ok = fail(e, CONFIG_INVALID,
            "ROWFERRY_S3_PAYLOAD=unsigned goes over https or within this machine, and S3_ENDPOINT "
            "is neither");
    if (ok)
        buf_printf(to, "s3: bucket %s at %s://%s%s, region %s, %s style; keys: %s%s", s3.bucket,
            site.is_secure ? "https" : "http", site.host, site.prefix, site.region,
            site.is_path_style ? "path" : "virtual-host", keys ? credentials_source(keys) : "none",
            *s3.sign_access_key ? "; links: ROWFERRY_SIGN_ACCESS_KEY" : "");
    credentials_close(keys);
    return ok;
}

bool
review_store(
    const StorageSpec *spec, const StorageReview *how, Arena *arena, Finding *found, size_t *count)
{
    S3Spec quick = spec->s3; /* somebody waits for this */
    Review r = {.spec = &quick, .how = how, .arena = arena, .found = found, .count = count};
    Buf where = buf_new(LINE_BYTES);
    Err why = {0};
    bool ok;

    quick.tries = TRIES;
    *count = 0;
    ok = review_judge(spec, &where, &why) && (r.client = client_open(&quick, &why));
    if (ok) {
        r.spec = client_spec(r.client);
        add(&r, VERDICT_GOOD, NULL, NULL, "%s", where.data);
        ok = try_all(&r);
    } else {
        add(&r, VERDICT_BAD, NULL, credentials_fix, "%s", err_root(&why));
    }
    client_close(r.client);
    buf_free(&where);
    return ok;
}
