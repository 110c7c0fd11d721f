/*
 * What the files of the S3 driver share. The order of the day is design: one place signs (sign.c),
 * one reads answers (answer.c), one decides on retries (client.c).
 *
 *   site.c         where the bucket is: host, style, region, path of a key
 *   learnt.c       what was learnt of it: region, clock
 *   sign.c         Signature Version 4: requests and links; pure
 *   credentials.c  whose keys: the order of sources, refreshing
 *   profile.c      the shared config and credentials files
 *   provider.c     credentials over HTTP: container, instance, web identity, role; and by a process
 *   answer.c       XML that came, XML that goes out. Seam of Expat
 *   fault.c        from an answer to a class of errors and what follows from it
 *   checksum.c     CRC32C and CRC64NVME
 *   client.c       requests on their way: a thread that signs, sends, reads, tries again
 *   multipart.c    the sink: parts in flight, sealing
 *   publish.c      completing what was sealed, and finding out whether it happened
 *   review.c       judging the spec; what doctor finds out about a store
 *   s3.c           the rest of the StorageKind
 */
#ifndef STORAGE_S3_S3_IN_H
#define STORAGE_S3_S3_IN_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/watch.h"
#include "net/http.h"
#include "storage/storage.h"

enum {
    S3_HOST_BYTES = 320,
    S3_REGION_BYTES = 33,
    S3_BUCKET_BYTES = 256,
    S3_KEY_BYTES = 128,    /* of an access key or a secret */
    S3_TOKEN_BYTES = 8192, /* of a session token */
    S3_CODE_BYTES = 64,
    S3_ETAG_BYTES = 160,
    S3_UPLOAD_BYTES = 1025, /* of an upload id */
    S3_ID_BYTES = 160,      /* of a request id */
    S3_DIGEST_BYTES = 65,   /* SHA-256 as hex digits */
    S3_PAIRS_MAX = 24,
    S3_MARK_BYTES = 512, /* of x-amz-meta-rowferry-upload */
};

typedef struct {
    const char *name, *value; /* value NULL: left out */
} S3Pair;

/* --- site.c: where the bucket is (s3.md 2) --- */

typedef struct {
    bool is_secure;             /* https */
    bool is_aws;                /* no endpoint was given: hosts are made from our own template */
    bool is_path_style;         /* "/bucket" stands before the key */
    bool dualstack, fips;       /* of AWS */
    bool is_loopback;           /* what is sent does not leave this machine */
    char host[S3_HOST_BYTES];   /* as in Host and as signed: lower case, the port only if it is not
                                   the scheme's own, IPv6 in brackets */
    char prefix[S3_HOST_BYTES]; /* path of the endpoint, "" or "/like/this" */
    char bucket[S3_BUCKET_BYTES]; /* may be no DNS name: then path style */
    char region[S3_REGION_BYTES]; /* goes into signatures */
} Site;

/* From bucket, region (never "" here), endpoint and style. CONFIG_INVALID names the variable.
 * `for_links`: with the public endpoint. */
bool
site_make(const S3Spec *spec, const char *region, bool for_links, Site *site, Err *e) MUST_CHECK;

/* The store has named another region (s3.md 7.4); false if that is no name of a region. */
bool site_move(Site *site, const char *region);

/* What the hosts of a region's services end in: "amazonaws.com". Static. */
const char *site_aws_domain(const char *region);

/* Path of a key, or of the bucket (NULL), encoded once, as it is sent and as it is signed. */
void site_path(const Site *site, const char *key, Buf *to);

/* --- learnt.c: what this process has learnt of a store (s3.md 7.4, 13) --- */

typedef struct Learnt Learnt;

/* One for each site as it is configured, counted: who opens it again gets the same. Any thread, as
 * the others here. */
Learnt *learnt_open(const Site *site, Err *e) MUST_CHECK;
void learnt_close(Learnt *p); /* NULL is fine */

Site learnt_site(Learnt *p); /* with the region learnt */

/* The store has named `region` to a request that was signed for `from`. False: that is no news, or
 * no region. Logged once. */
bool learnt_move(Learnt *p, const char *from, const char *region);

/* What is to be added to our time for the store's; 0 below 30 s. */
int64_t learnt_clock_off_s(Learnt *p);

/* What one answer said of that; `alone`: and what others said does not count. */
void learnt_note_clock(Learnt *p, int64_t offset_s, bool alone);

/* --- sign.c: AWS Signature Version 4 --- */

/* Wiped with explicit_bzero by whoever had it. */
typedef struct {
    char access_key[S3_KEY_BYTES], secret_key[S3_KEY_BYTES * 2];
    char token[S3_TOKEN_BYTES]; /* "": none */
    int64_t ends_wall_s;        /* 0: never */
} S3Keys;

/* The key of a day, kept from request to request. One thread's. */
typedef struct {
    char access_key[S3_KEY_BYTES], region[S3_REGION_BYTES], service[16], date[9];
    uint8_t secret_hash[32]; /* tells another secret under the same name */
    uint8_t key[32];
    bool is_made;
} SigningKey;

typedef struct {
    const char *method;
    const char *host, *path; /* path: encoded already */
    const S3Pair *query;     /* not encoded, in any order */
    size_t queries;
    const S3Pair *header; /* what is signed besides host, date, payload and token; any order */
    size_t headers;
    const char *payload; /* SHA-256 of the body in hex, or UNSIGNED-PAYLOAD */
    const char *region;
    const char *service; /* "s3", "sts" */
    int64_t now_wall_s;  /* the store's clock */
} SignRequest;

extern const char sign_empty_payload[]; /* SHA-256 of nothing */

/* Names and values encoded (text_percent_encode), sorted by name and value, "a=b&c=": as it is sent
 * and as it is signed. */
bool sign_query(Buf *to, const S3Pair *query, size_t queries, Err *e) MUST_CHECK;

/*
 * Writes the headers to be sent, each as "Name: value" and a NUL: those of the request (value as it
 * was signed), x-amz-date, x-amz-content-sha256, x-amz-security-token, Authorization; host is left
 * to the transport. INTERNAL: a name twice, a value with a line break or not ASCII, what servers
 * on the way may change (User-Agent, …).
 */
bool sign_request(
    const SignRequest *r, const S3Keys *keys, SigningKey *kept, Buf *headers, Err *e) MUST_CHECK;

/* Path and query of a link that lives `expires_s` seconds (1 to 604,800) from r->now_wall_s on;
 * r->query holds the overrides; payload and headers are ignored. Wants scheme and host before it.
 */
bool sign_link(const SignRequest *r, const S3Keys *keys, int64_t expires_s, SigningKey *kept,
    Buf *to, Err *e) MUST_CHECK;

/* --- credentials.c: whose keys (s3.md 12) --- */

typedef struct Credentials Credentials;

/*
 * One for each S3Spec in a process, counted: what opens it again gets the same. Decides on the
 * source, asks nobody yet. CONFIG_INVALID: half a pair, a profile that is not there, a chain that
 * goes in circles, sso. Any thread.
 */
Credentials *credentials_open(const S3Spec *spec, Err *e) MUST_CHECK;
void credentials_close(Credentials *c); /* NULL is fine */

/*
 * The keys as they are now. Asks their source if there are none yet, or they are about to end; many
 * threads may ask, one is sent. Waits at most `wait_ms` (0: takes only what is there), and only
 * while there are no good ones: what ends soon is renewed by a thread of its own. Fails with
 * STORAGE_DENIED (the source says no), STORAGE_UNAVAILABLE (cannot be reached, or not within
 * `wait_ms`), CONFIG_INVALID (the files do not say any more whom to ask). Any thread.
 */
bool credentials_get(Credentials *c, int64_t wait_ms, S3Keys *keys, Err *e) MUST_CHECK;

typedef enum { KEYS_HERE, KEYS_AWAITED, KEYS_FAILED } KeysState;

/* The same without waiting, for whoever has been without keys since `since_ms` (time_now_ms), looks
 * again soon, and gives up `wait_ms` after it. `e` of KEYS_FAILED as above. */
KeysState credentials_look(
    Credentials *c, int64_t since_ms, int64_t wait_ms, S3Keys *keys, Err *e) MUST_CHECK;

/* From now on what has an end is renewed before it, whether somebody asks or not: for those who
 * cannot wait. */
void credentials_keep(Credentials *c);

/* The store says that these have ended: the next credentials_get asks the source again, at most
 * once a second, unless there are others already. */
void credentials_ended(Credentials *c, const char *access_key);

/* "S3_ACCESS_KEY", "profile reports", "web identity", …: for people. */
const char *credentials_source(const Credentials *c);

/* The spec with what the profile says where the settings are silent: its region (else us-east-1)
 * and its endpoint. Of anonymous requests `c` is NULL: nobody reads profiles for them. Texts live
 * as long as both. */
S3Spec credentials_complete(const Credentials *c, const S3Spec *spec);

/* --- answer.c: XML (seam of Expat) --- */

/* <Error>: what is not there is "". */
typedef struct {
    char code[S3_CODE_BYTES], message[256];
    char region[S3_REGION_BYTES], endpoint[S3_HOST_BYTES];
    char request_id[S3_ID_BYTES];
    int64_t server_wall_s; /* <ServerTime>; 0: none */
} S3Error;

/* Is the root <Error>, or <ErrorResponse> (STS)? Whatever else it is (HTML, nothing, cut short):
 * false, and nothing in `error`. Its texts are printable, and cut to what fits. */
bool answer_error(const char *body, size_t bytes, S3Error *error);

/* All of these: STORAGE_UNAVAILABLE if the body is not the document that was asked for, whole. */
bool
answer_created(const char *body, size_t bytes, char upload[S3_UPLOAD_BYTES], Err *e) MUST_CHECK;
bool answer_completed(const char *body, size_t bytes, char etag[S3_ETAG_BYTES], Err *e) MUST_CHECK;

typedef struct {
    bool is_truncated;
    bool has_next;    /* a token or marker came (or was made from the last entry) */
    char token[4096]; /* v2: NextContinuationToken */
    char marker[STORAGE_KEY_BYTES *
                3]; /* v1: NextMarker; uploads: NextKeyMarker, else the last Key */
    char upload_marker[S3_UPLOAD_BYTES]; /* uploads: NextUploadIdMarker */
    size_t entries;
} AnswerPage;

typedef struct {
    const char *key;
    const char *upload;  /* ListMultipartUploads: the id; else NULL */
    int64_t bytes;       /* of objects */
    int64_t modified_us; /* LastModified, or Initiated; 0: not told */
} AnswerEntry;

typedef bool AnswerVisit(const AnswerEntry *entry, void *with, Err *e);

/* ListObjects (both versions) and ListMultipartUploads; keys decoded where the answer says that
 * they are encoded; entries with a key longer than S3 allows are left out. Nothing is visited of a
 * document that is not whole. False of the visit ends it and is returned. */
bool answer_objects(const char *body, size_t bytes, AnswerVisit *visit, void *with,
    AnswerPage *page, Err *e) MUST_CHECK;
bool answer_uploads(const char *body, size_t bytes, AnswerVisit *visit, void *with,
    AnswerPage *page, Err *e) MUST_CHECK;
bool answer_parts(const char *body, size_t bytes, size_t *parts, Err *e) MUST_CHECK;

/* DeleteObjects: visits each key that was not deleted, with the store's code and message
 * (printable). False of the visit: enough. */
typedef bool AnswerRefusedVisit(const char *key, const char *code, const char *message, void *with);
bool answer_deleted(
    const char *body, size_t bytes, AnswerRefusedVisit *visit, void *with, Err *e) MUST_CHECK;

/* STS: AssumeRole and AssumeRoleWithWebIdentity. Wiped on failure. */
bool answer_credentials(const char *body, size_t bytes, S3Keys *keys, Err *e) MUST_CHECK;

void answer_put_text(Buf *to, const char *text, size_t bytes); /* escaped for XML */
const char *answer_library_version(void);                      /* Expat's */

/* --- fault.c: what an answer means (s3.md 7.1) --- */

typedef enum {
    S3_GOOD,
    S3_THROTTLED,
    S3_TRANSIENT,
    S3_DAMAGED,   /* bytes changed on the way */
    S3_STALE,     /* credentials have ended */
    S3_CLOCK,     /* our clock is wrong */
    S3_ELSEWHERE, /* another region or host */
    S3_GONE,      /* NoSuchUpload */
    S3_PRESENT,   /* 412 or 409 of a conditional write */
    S3_ABSENT,    /* NoSuchKey, 404 */
    S3_REFUSED,
    S3_FULL,
    S3_MISSING, /* NoSuchBucket */
    S3_INVALID, /* our bug, or a limit of this store */
    S3_CANNOT,  /* 501, 405: this store has no such thing */
    S3_CLASSES,
} S3Class;

/* What came back of one try. */
typedef struct {
    int status;           /* 0: no answer */
    const S3Error *error; /* never NULL; code "" if the body named none */
    bool is_head;         /* an answer without a body tells less */
    bool is_conditional;  /* If-None-Match was sent */
} S3Outcome;

S3Class fault_class(const S3Outcome *outcome);

/* Fills `e` for people and the queue: the code by the table of s3.md 7.1 (NOT_FOUND of ABSENT,
 * FILE_GONE of GONE, EXISTS of PRESENT, NOT_AVAILABLE of CANNOT); the sentence names the operation,
 * the store's code and message (printable, cut), request id, and the setting to look at. Always
 * false. */
bool fault_fail(S3Class class, const S3Outcome *outcome, const char *operation, Err *e);

/* --- checksum.c --- */

typedef enum { CHECKSUM_NONE, CHECKSUM_CRC32C, CHECKSUM_CRC64NVME } ChecksumKind;

enum { CHECKSUM_TEXT_BYTES = 16 };

/* Continues `so_far` (0 at first). Check values of "123456789": e3069283, ae8b14860a799888. None of
 * these but the names takes CHECKSUM_NONE. Any thread. */
uint64_t checksum_update(ChecksumKind kind, uint64_t so_far, const void *data, size_t bytes);

/* The same, whatever the processor can: for tests. */
uint64_t checksum_by_table(ChecksumKind kind, uint64_t so_far, const void *data, size_t bytes);

/* Base64 of the big-endian bytes, with a NUL. */
void checksum_text(ChecksumKind kind, uint64_t sum, char to[CHECKSUM_TEXT_BYTES]);
const char *checksum_name(ChecksumKind kind);    /* "CRC32C"; NULL of CHECKSUM_NONE */
ChecksumKind checksum_of_name(const char *name); /* "CRC32C"; CHECKSUM_NONE for any other */
const char *checksum_header(ChecksumKind kind);  /* "x-amz-checksum-crc32c"; NULL likewise */

/* --- client.c: requests on their way --- */

typedef struct Client Client;

typedef struct {
    const char *operation; /* "UploadPart": for people */
    const char *method;
    const char *key;     /* NULL: the bucket itself */
    const S3Pair *query; /* all texts stay until the call has ended */
    size_t queries;
    const S3Pair *header; /* all are signed */
    size_t headers;
    const void *body; /* stays where it is until the call has ended */
    size_t body_bytes;
    int64_t timeout_ms;      /* of one try; 0: 60 s */
    size_t answer_bytes_max; /* 0: 64 KiB */
    bool is_unsigned;        /* its checksum is: over TLS and loopback the body is not hashed */
    unsigned tries;          /* 0: as configured; 1: and what was damaged is not sent again */
    int64_t total_ms;        /* of all tries and the waits between them; 0: no limit, but 20 s of a
                                client_call without a watch */
    bool is_slow;            /* may think for long without a byte (CompleteMultipartUpload) */
    bool reads_error; /* a 2xx body may be <Error> (CompleteMultipartUpload, DeleteObjects) */
    /* Is this 2xx answer what it should be, whole? NULL: any is. One that is not counts as one that
     * broke off. The client's thread. */
    bool (*is_whole)(const HttpAnswer *answer, Err *why);
} S3Request;

typedef struct {
    S3Class class;
    int status;
    ErrCode cause;      /* status 0: SERVER_UNREACHABLE, SERVER_UNTRUSTED, WAITED_TOO_LONG … */
    unsigned tries;     /* that it took */
    bool may_have_done; /* a try before the last was cut off after it was sent: see s3.md 8.5 */
    HttpAnswer http;    /* of the last try */
    S3Error error;
} S3Answer;

/* Starts no thread before the first call. */
Client *client_open(const S3Spec *spec, Err *e) MUST_CHECK;
void client_close(Client *c); /* ends what is on its way */

const S3Spec *client_spec(const Client *c);
Credentials *client_credentials(Client *c);
Site client_site(Client *c);          /* as learnt_site */
int64_t client_now_wall_s(Client *c); /* by the store's clock */

/* One request on its way, and all its tries. The owner's memory; zeroed at first. */
typedef struct ClientCall ClientCall;
typedef enum { CALL_NONE, CALL_NEW, CALL_WAITS, CALL_FLIES, CALL_ENDED } ClientStand;
struct ClientCall {
    const S3Request *request;
    S3Answer *answer;
    bool ok; /* once it has ended; `why` otherwise */
    Err why;
    bool was_throttled; /* by any of its answers */

    /* The client's own. */
    ClientCall *next;
    _Atomic(ClientStand) stands;
    bool is_cancelled, has_refreshed, has_set_clock, has_moved, asks_region;
    unsigned damages;
    int64_t started_ms, begun_ms, due_ms;
    int64_t keyless_ms;            /* there have been no good keys since then; 0: there are */
    char payload[S3_DIGEST_BYTES]; /* "": not hashed yet */
    char region[S3_REGION_BYTES];  /* it was signed for … */
    char access_key[S3_KEY_BYTES]; /* … with … */
    int64_t keys_end_wall_s;       /* … and these end then; 0: never */
    HttpJob *job;
    HttpCall http;
    Buf url, headers;
    const char *header[S3_PAIRS_MAX + 8];
};

/*
 * Puts it on its way; request, body and answer stay until it has ended. The calls of a Client are
 * begun, awaited and ended by one thread.
 */
void client_begin(Client *c, ClientCall *call, const S3Request *r, S3Answer *answer);
bool client_has_ended(Client *c, const ClientCall *call);

/* Waits until any call has ended since the last wait (true), or the watch (may be NULL) says that
 * the work is over: CANCELLED, and go_on() knows why. */
bool client_wait(Client *c, Watch *watch, Err *e) MUST_CHECK;

/* The same with a limit of its own: true when the time is over. */
bool client_pause(Client *c, int64_t wait_ms, Watch *watch, Err *e) MUST_CHECK;

/* Ends it, whatever it is doing; nothing of it is touched afterwards. Frees what it took. */
void client_cancel(Client *c, ClientCall *call);

/*
 * Begins, waits, ends. True: a 2xx answer that is no <Error>. On failure `answer` holds what the
 * store said last, and `e` is fault_fail's; CANCELLED as client_wait. In either case the answer is
 * to be freed with client_answer_free.
 */
bool client_call(Client *c, const S3Request *r, S3Answer *answer, Watch *watch, Err *e) MUST_CHECK;
void client_answer_free(S3Answer *answer);

/* --- multipart.c --- */

typedef struct {
    Storage base;
    Arena *arena;
    S3Spec spec; /* a copy; its texts are its giver's */
    Client *client;
    int64_t bytes_max;
    bool no_conditional, no_batch, no_uploads, no_checksums; /* learnt: the store cannot */

    /* Of links. */
    SigningKey link_key;
    bool has_waited; /* for keys; once is enough */
} S3Storage;

extern const StorageKind storage_s3;

/* Size of the next part, when `bytes` have gone into parts before it: constant where that reaches
 * `bytes_max` (0: none), else growing so that parts_max reach 5 TiB, within the memory there is. */
size_t multipart_part_bytes(const S3Spec *spec, int64_t bytes_max, int64_t bytes);

Sink *multipart_create(
    Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e);
const char *multipart_sealed(Sink *object, Err *e);

/* Ends an upload and all its parts; gone already is fine. Up to five rounds (s3.md 8.6). */
bool
multipart_abort(S3Storage *s, const char *key, const char *upload, Watch *watch, Err *e) MUST_CHECK;

/* Is If-None-Match sent? Not where it is switched off, or the store has said that it cannot. */
bool multipart_is_conditional(const S3Storage *s);

/* A small object is still in memory after finish: then publishing is this one PutObject. */
bool multipart_is_held(const Sink *object); /* false of NULL */
bool multipart_put(Sink *object, bool conditional, S3Answer *answer, Err *e) MUST_CHECK;
void multipart_let_go(Sink *object); /* gives its memory back; NULL is fine */

/* Appends what the settings ask of every object: encryption, storage class, tags. The new count. */
size_t multipart_add_settings(const S3Spec *spec, S3Pair *header, size_t n);

/* --- review.c: as StorageKind says of judge and review --- */

bool review_judge(const StorageSpec *spec, Buf *to, Err *e) MUST_CHECK;
bool review_store(const StorageSpec *spec, const StorageReview *how, Arena *arena, Finding *found,
    size_t *count) MUST_CHECK;

/* --- s3.c --- */

/* What is not there any more is fine. */
bool s3_delete(S3Storage *s, const char *key, Err *e) MUST_CHECK;

/* --- publish.c: as StorageKind says --- */

bool publish_object(Storage *s, const char *sealed, Sink *object, Err *e);
bool publish_discard(Storage *s, const char *sealed, Err *e);

#endif
