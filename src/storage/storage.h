/*
 * Storage: where finished objects lie, under keys. A Storage is one handle for one thread.
 *
 * Making an object visible is a step of its own, because the state store must know of it first and
 * because a later owner may have to do it (reliability.md 3.3): create -> write … finish -> sealed
 * -> publish.
 */
#ifndef STORAGE_STORAGE_H
#define STORAGE_STORAGE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/finding.h"
#include "base/watch.h"
#include "flow/sink.h"

enum {
    STORAGE_KEY_BYTES = 1024,
    STORAGE_URL_KEYS_MAX = 4,
    STORAGE_URL_BYTES = 16384, /* a session token may be 8 KiB, and is encoded */
    STORAGE_REMOVE_MAX = 1000,
};

/* What the s3 driver is told. Texts are "" when not set, never NULL; they outlive the storage. */
typedef struct {
    const char *bucket, *region, *endpoint; /* region "": from the profile, else us-east-1 */
    const char *public_endpoint;            /* host of links; "": the endpoint */
    const char *style;                      /* "auto", "path", "virtual" */
    bool dualstack, fips;                   /* of AWS's own endpoints */
    const char *access_key, *secret_key, *session_token;
    const char *access_key_name; /* where it was given: "S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID" */
    const char *sign_access_key, *sign_secret_key; /* for links only */
    bool anonymous;                                /* requests are not signed */

    /* Where else credentials come from (s3.md 12). */
    const char *profile, *config_file, *credentials_file; /* files: "" is ~/.aws/… */
    const char *role_arn, *role_session_name, *web_identity_token_file, *sts_endpoint;
    const char *container_relative_uri, *container_full_uri;
    const char *container_token, *container_token_file;
    bool metadata_disabled;
    const char *metadata_endpoint, *metadata_mode; /* of EC2: "", "IPv4", "IPv6" */

    uint64_t part_bytes, memory_bytes; /* a part; all buffers of one export */
    unsigned parallel, parts_max, tries;
    const char *payload;     /* "auto", "signed", "unsigned" */
    const char *checksum;    /* "auto", "none", "crc32c", "crc64nvme" */
    const char *etag;        /* "opaque", "md5" */
    const char *conditional; /* "auto", "on", "off" */
    const char *sse, *sse_kms_key_id, *storage_class, *bucket_owner;
    bool tags;
    const char *ca_file;
    int64_t connect_timeout_ms, idle_timeout_ms;
    unsigned list_version; /* 2 or 1 */
    bool url_encode;       /* ask for encoded keys in lists */
} S3Spec;

/* All that any driver needs; each reads its own part. Secrets are not printed. */
typedef struct {
    S3Spec s3;
    const char *dir;                              /* file: the folder, DATA/files */
    const char *url_secret[STORAGE_URL_KEYS_MAX]; /* file: newest first; NULL in processes that do
                                                     not sign */
    unsigned url_secrets;
    int64_t bytes_max; /* of one object: SIZE_LIMIT above; 0: none */
} StorageSpec;

typedef struct Storage Storage;

/* Whose upload this is; the same for all attempts but the epoch. */
typedef struct {
    const char *task_id;
    int64_t epoch;
    const char *content_type;
    const char *name;        /* offered to browsers by stores that serve their links; NULL: none */
    const char *export_type; /* NULL: none */
    int attempt;
} Upload;

/* How a download link is made. */
typedef struct {
    const char *base_url; /* "https://exports.example.com", no slash at the end; file driver only */
    const char *name;     /* offered to the browser */
    const char *content_type;
    int64_t expires_wall_s; /* Unix seconds */
} SignSpec;

typedef struct {
    const char *key;
    int64_t bytes;
    int64_t modified_wall_us;
} StorageObject;

typedef bool StorageVisit(
    const StorageObject *object, void *with, Err *e); /* false stops the visit and is returned */

typedef struct {
    const char *task_id; /* NULL: the store does not know; then it knows `key` and `id` */
    int64_t epoch;
    const char *key, *id;  /* NULL: unknown */
    int64_t begun_wall_us; /* 0: unknown */
} UnfinishedUpload;

/* Does somebody still need this unfinished upload? */
typedef bool UploadKeep(const UnfinishedUpload *upload, void *with);

/* keys[i] could not be removed. */
typedef void StorageRefused(size_t i, const Err *why, void *with);

/* What a signed link of our own leads to. The caller closes `fd`. */
typedef struct {
    int fd;
    int64_t bytes;
    int64_t modified_wall_us;
    char name[256]; /* for Content-Disposition */
    char etag[80];  /* with its quotes */
    char key[STORAGE_KEY_BYTES + 1];
} Fetched;

/* What a review may do, and what it has to know. */
typedef struct {
    bool makes_bucket;    /* if it is missing */
    int64_t retention_ms; /* for what is proposed to the store itself */
    int64_t link_ms;      /* how long links are to live */
} StorageReview;

typedef struct {
    const char *name; /* "s3", "file", "memory" */

    /* Can open() work with this? Asks nobody. CONFIG_INVALID: what is wrong, without a secret of
     * it. Appends to `to` where it is and whose keys it has, for people. Optional. */
    bool (*judge)(const StorageSpec *spec, Buf *to, Err *e);

    Storage *(*open)(const StorageSpec *spec, Err *e); /* kept as long as the process */
    void (*close)(Storage *s);

    /* A sink for a new object; nothing is visible, and what earlier epochs of the task left
     * unfinished may go. Memory from `task`. */
    Sink *(*create)(
        Storage *s, const char *key, const Upload *mark, Watch *watch, Arena *task, Err *e);

    /* After finish: what a later owner needs to publish, as one line of JSON (upload, inode or
     * parts, key, bytes). In the task's arena; NULL and `e` without memory. */
    const char *(*sealed)(Sink *object, Err *e);

    /* Makes it visible under its key, durably. Again is harmless. A later owner has no `object`
     * (NULL). EXISTS: another object has the key. FILE_GONE: neither upload nor object is there:
     * run again. That may be so of a small object (where a store has no uploads that outlive the
     * process: less than one part) whose writer is gone. */
    bool (*publish)(Storage *s, const char *sealed, Sink *object, Err *e);

    /* Throws away what was sealed and not published. What is gone already is fine. */
    bool (*discard)(Storage *s, const char *sealed, Err *e);

    /* `expires_wall_s`: when the link truly ends, never later than asked; earlier where the
     * credentials that sign it do. */
    bool (*sign)(Storage *s, const char *key, const SignSpec *spec, char *url, size_t url_bytes,
        int64_t *expires_wall_s, Err *e);

    /* Every object whose key starts with `prefix`, in any order. */
    bool (*list)(Storage *s, const char *prefix, StorageVisit *visit, void *with, Err *e);

    /* Existence, size and time of one object; NOT_FOUND. */
    bool (*stat)(Storage *s, const char *key, StorageObject *object, Err *e);

    bool (*remove)(Storage *s, const char *key, bool *existed, Err *e);

    /* Removes at most STORAGE_REMOVE_MAX objects; those that are gone already are fine. False:
     * nothing is known of any of them. */
    bool (*remove_many)(Storage *s, const char *const *keys, size_t count, StorageRefused *refused,
        void *with, Err *e);

    /*
     * Checks a link of our own and opens its file. `target` is path and query as they came
     * ("/files/exports/…?expires=…"). INVALID_REQUEST (a name twice), FORBIDDEN, LINK_EXPIRED,
     * NOT_FOUND, in that order. NULL: the store serves its links.
     */
    bool (*fetch)(Storage *s, const char *target, int64_t now_wall_s, Fetched *file, Err *e);

    /* Removes unfinished uploads that nobody keeps; counts them. */
    bool (*tidy)(Storage *s, UploadKeep *keep, void *with, uint64_t *removed, Err *e);

    /* Is it there, writable, of the right owner? Cheap: for /readyz and doctor. */
    bool (*check)(Storage *s, Err *e);

    /*
     * Tries each right that the service needs and what the store can, for doctor: at most
     * FINDINGS_MAX, their texts from `arena` or constant. Leaves nothing behind where it may
     * delete. False: it cannot be used at all, and the last finding says why. Optional.
     */
    bool (*review)(const StorageSpec *spec, const StorageReview *how, Arena *arena, Finding *found,
        size_t *count);
} StorageKind;

struct Storage {
    const StorageKind *kind;
    Watch *watch; /* asked while a call waits for something outside; NULL: nobody. The user's */
};

/* "exports/…", at most 1024 bytes of UTF-8, no control, no backslash, no "//", no "." or ".."
 * segment, not ending in
 * "/". INVALID_KEY. Every driver's functions may rely on it having been asked. */
bool storage_key_check(const char *key, Err *e) MUST_CHECK;

#endif
