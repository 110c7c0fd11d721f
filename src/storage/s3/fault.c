/*
 * What an answer of a store means, and what is said of it. One table of the codes that stores give
 * (S3 API reference, "Error responses", and what other makers add), one of classes.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "storage/s3/s3_in.h"

typedef struct {
    const char *code;
    S3Class class;
    const char *advice; /* which setting to look at; NULL: what its class says */
} Fault;

static const char wrong_key[] = "see S3_ACCESS_KEY", wrong_secret[] = "see S3_SECRET_KEY",
                  wrong_region[] = "see S3_REGION";

/* clang-format off */
static const Fault faults[] = {
    {"SlowDown",                           S3_THROTTLED, NULL},
    {"SlowDownRead",                       S3_THROTTLED, NULL},
    {"SlowDownWrite",                      S3_THROTTLED, NULL},
    {"Throttling",                         S3_THROTTLED, NULL},
    {"ThrottlingException",                S3_THROTTLED, NULL},
    {"RequestLimitExceeded",               S3_THROTTLED, NULL},
    {"RequestThrottled",                   S3_THROTTLED, NULL},
    {"BandwidthLimitExceeded",             S3_THROTTLED, NULL},
    {"TooManyRequests",                    S3_THROTTLED, NULL},
    {"ServiceUnavailable",                 S3_THROTTLED, NULL},
    {"InternalError",                      S3_TRANSIENT, NULL},
    {"InternalErrors",                     S3_TRANSIENT, NULL},
    {"InternalFailure",                    S3_TRANSIENT, NULL},
    {"RequestTimeout",                     S3_TRANSIENT, NULL},
    {"RequestTimeoutException",            S3_TRANSIENT, NULL},
    {"OperationAborted",                   S3_TRANSIENT, NULL},
    {"ConditionalRequestConflict",         S3_TRANSIENT, NULL},
    {"IDPCommunicationError",              S3_TRANSIENT, NULL},
    {"BadDigest",                          S3_DAMAGED,   NULL},
    {"XAmzContentSHA256Mismatch",          S3_DAMAGED,   NULL},
    {"XAmzContentChecksumMismatch",        S3_DAMAGED,   NULL},
    {"IncompleteBody",                     S3_DAMAGED,   NULL},
    {"InvalidDigest",                      S3_DAMAGED,   NULL},
    {"ExpiredToken",                       S3_STALE,     NULL},
    {"ExpiredTokenException",              S3_STALE,     NULL},
    {"TokenRefreshRequired",               S3_STALE,     NULL},
    {"InvalidToken",                       S3_STALE,     "see S3_SESSION_TOKEN, or where the credentials come from"},
    {"InvalidTokenId",                     S3_STALE,     "see S3_SESSION_TOKEN, or where the credentials come from"},
    {"RequestTimeTooSkewed",               S3_CLOCK,     NULL},
    {"RequestExpired",                     S3_CLOCK,     NULL},
    {"PermanentRedirect",                  S3_ELSEWHERE, NULL},
    {"TemporaryRedirect",                  S3_ELSEWHERE, NULL},
    {"Redirect",                           S3_ELSEWHERE, NULL},
    {"IllegalLocationConstraintException", S3_ELSEWHERE, NULL},
    {"NoSuchUpload",                       S3_GONE,      NULL},
    {"NoSuchKey",                          S3_ABSENT,    NULL},
    {"AccessDenied",                       S3_REFUSED,   NULL},
    {"AllAccessDisabled",                  S3_REFUSED,   NULL},
    {"AccountProblem",                     S3_REFUSED,   NULL},
    {"InvalidAccessKeyId",                 S3_REFUSED,   wrong_key},
    {"InvalidClientTokenId",               S3_REFUSED,   wrong_key},
    {"SignatureDoesNotMatch",              S3_REFUSED,   wrong_secret},
    {"InvalidSecurity",                    S3_REFUSED,   NULL},
    {"InvalidPayer",                       S3_REFUSED,   NULL},
    {"NotSignedUp",                        S3_REFUSED,   NULL},
    {"QuotaExceeded",                      S3_FULL,      NULL},
    {"XMinioStorageFull",                  S3_FULL,      NULL},
    {"XMinioAdminBucketQuotaExceeded",     S3_FULL,      NULL},
    {"InsufficientStorage",                S3_FULL,      NULL},
    {"InsufficientCapacity",               S3_FULL,      NULL},
    {"NoSuchBucket",                       S3_MISSING,   NULL},
    {"InvalidBucketName",                  S3_MISSING,   "this is no name of a bucket: see S3_BUCKET"},
    {"EntityTooLarge",                     S3_INVALID,   "see ROWFERRY_S3_PART"},
    {"EntityTooSmall",                     S3_INVALID,   "see ROWFERRY_S3_PART"},
    {"NotImplemented",                     S3_CANNOT,    NULL},
    {"MethodNotAllowed",                   S3_CANNOT,    NULL},
};

/* How a class ends once nothing more is tried. */
static const struct {
    ErrCode code;
    const char *meaning, *advice;
} classes[S3_CLASSES] = {
    [S3_GOOD]      = {ERR_INTERNAL,            "nothing is wrong", NULL},
    [S3_THROTTLED] = {ERR_STORAGE_UNAVAILABLE, "the store is asked too much at once", NULL},
    [S3_TRANSIENT] = {ERR_STORAGE_UNAVAILABLE, "the store is not well", NULL},
    [S3_DAMAGED]   = {ERR_STORAGE_UNAVAILABLE, "bytes change on the way", NULL},
    [S3_STALE]     = {ERR_STORAGE_DENIED,      "the credentials have ended", "see where they come from"},
    [S3_CLOCK]     = {ERR_STORAGE_UNAVAILABLE, "the store's clock and ours differ", "set both by NTP"},
    [S3_ELSEWHERE] = {ERR_STORAGE_UNAVAILABLE, "the bucket is in another region", wrong_region},
    [S3_GONE]      = {ERR_FILE_GONE,           "there is no such upload", NULL},
    [S3_PRESENT]   = {ERR_EXISTS,              "another object has the key", NULL},
    [S3_ABSENT]    = {ERR_NOT_FOUND,           "there is no such object", NULL},
    [S3_REFUSED]   = {ERR_STORAGE_DENIED,      "the store refuses it", "see what the access key may do"},
    [S3_FULL]      = {ERR_STORAGE_FULL,        "the store is full", NULL},
    [S3_MISSING]   = {ERR_STORAGE_DENIED,      "the bucket does not exist", "see S3_BUCKET"},
    [S3_INVALID]   = {ERR_INTERNAL,            "the store does not take the request", NULL},
    [S3_CANNOT]    = {ERR_NOT_AVAILABLE,       "this store has no such thing", NULL},
};
/* clang-format on */

/* NULL: nobody told us of such a code. */
static const Fault *
find_fault(const char *code)
{
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strcmp(faults[i].code, code) == 0)
            return &faults[i];
    return NULL;
}

static S3Class
class_of_status(const S3Outcome *o)
{
    if (o->status >= 200 && o->status < 300)
        return o->error->code[0] ? S3_TRANSIENT : S3_GOOD;
    switch (o->status) {
    case 301:
    case 302:
    case 307:
    case 308:
        return S3_ELSEWHERE;
    case 400: /* of a HEAD, that is all that a wrong region shows */
        return o->is_head ? S3_ELSEWHERE : S3_INVALID;
    case 401:
    case 403:
        return S3_REFUSED;
    case 404:
        return S3_ABSENT;
    case 405:
    case 501:
        return S3_CANNOT;
    case 408:
    case 499:
        return S3_TRANSIENT;
    case 409:
    case 412:
        return o->is_conditional ? S3_PRESENT : S3_INVALID;
    case 429:
    case 503:
        return S3_THROTTLED;
    case 507:
        return S3_FULL;
    default:
        return o->status == 0 || o->status >= 500 ? S3_TRANSIENT : S3_INVALID;
    }
}

S3Class
fault_class(const S3Outcome *o)
{
    const S3Error *error = o->error;
    const Fault *fault = find_fault(error->code);

    /* What the same code means depends on what else is said. */
    if (strcmp(error->code, "AccessDenied") == 0 && strstr(error->message, "Request has expired"))
        return S3_CLOCK;
    if (o->is_conditional && o->status == 412 && strcmp(error->code, "InvalidRequest") == 0)
        return S3_CANNOT; /* OpenStack Swift: not the condition, but that there is one */
    if (strcmp(error->code, "AuthorizationHeaderMalformed") == 0)
        return error->region[0] ? S3_ELSEWHERE : S3_REFUSED;
    if (fault)
        return fault->class;
    return text_starts(error->code, "KMS.") ? S3_REFUSED : class_of_status(o);
}

/* "PutObject: the bucket does not exist: NoSuchBucket, The specified bucket does not exist (status
 * 404, request 17C5): see S3_BUCKET" */
bool
fault_fail(S3Class class, const S3Outcome *o, const char *operation, Err *e)
{
    const S3Error *error = o->error;
    const Fault *fault = find_fault(error->code);
    const char *advice = fault && fault->advice ? fault->advice : classes[class].advice;
    ErrCode code = classes[class].code;

    if (strcmp(error->code, "EntityTooLarge") == 0)
        code = ERR_SIZE_LIMIT;
    return fail_code(e, code, "%s: %s%s%.40s%s%.120s (%s%d%s%.60s)%s%s%s%s", operation,
        classes[class].meaning, error->code[0] ? ": " : "", error->code,
        error->message[0] ? ", " : "", error->message, o->status ? "status " : "no answer, status ",
        o->status, error->request_id[0] ? ", request " : "", error->request_id, advice ? ": " : "",
        advice ? advice : "", class == S3_ELSEWHERE && error->region[0] ? ", it is in " : "",
        class == S3_ELSEWHERE ? error->region : "");
}
