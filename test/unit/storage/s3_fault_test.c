/* What stores answer, and what follows from it. */
#include "storage/s3/s3_in.h"
#include "test/test.h"

enum { HEAD = 1, CONDITIONAL = 2 };

static const struct {
    const char *name;
    int status;
    unsigned how;
    S3Error error;
    S3Class class;
    ErrCode code;
    const char *says; /* part of the sentence */
} cases[] = {
    {"all is well", 200, 0, {.code = ""}, S3_GOOD, ERR_INTERNAL, ""},
    {"nothing to say", 204, 0, {.code = ""}, S3_GOOD, ERR_INTERNAL, ""},
    {"a 200 that is none", 200, 0, {.code = "InternalError"}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE,
        "InternalError"},
    {"a 200 that is none, unknown", 200, 0, {.code = "Oops"}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE,
        "Oops"},
    {"a 200 that wants less", 200, 0, {.code = "SlowDown"}, S3_THROTTLED, ERR_STORAGE_UNAVAILABLE,
        "asked too much"},
    {"no answer", 0, 0, {.code = ""}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE, "no answer"},
    {"AWS, too much", 503, 0, {.code = "SlowDown", .message = "Please reduce your request rate."},
        S3_THROTTLED, ERR_STORAGE_UNAVAILABLE, "Please reduce your request rate."},
    {"a proxy, too much", 429, 0, {.code = ""}, S3_THROTTLED, ERR_STORAGE_UNAVAILABLE, "429"},
    {"a proxy is down", 502, 0, {.code = ""}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE, "502"},
    {"a proxy waits", 504, 0, {.code = ""}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE, "504"},
    {"MinIO, a cut body", 499, 0, {.code = ""}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE, "499"},
    {"an unknown 5xx", 599, 0, {.code = "Boom"}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE, "Boom"},
    {"two at once", 409, 0, {.code = "OperationAborted"}, S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE,
        "OperationAborted"},
    {"two conditional ones at once", 409, CONDITIONAL, {.code = "ConditionalRequestConflict"},
        S3_TRANSIENT, ERR_STORAGE_UNAVAILABLE, ""},
    {"another body", 400, 0, {.code = "XAmzContentSHA256Mismatch"}, S3_DAMAGED,
        ERR_STORAGE_UNAVAILABLE, "bytes change on the way"},
    {"a token that ended", 400, 0, {.code = "ExpiredToken"}, S3_STALE, ERR_STORAGE_DENIED,
        "have ended"},
    {"MinIO, another's token", 403, 0, {.code = "InvalidTokenId"}, S3_STALE, ERR_STORAGE_DENIED,
        "S3_SESSION_TOKEN"},
    {"clocks", 403, 0, {.code = "RequestTimeTooSkewed"}, S3_CLOCK, ERR_STORAGE_UNAVAILABLE, "NTP"},
    {"clocks, said otherwise", 403, 0, {.code = "AccessDenied", .message = "Request has expired"},
        S3_CLOCK, ERR_STORAGE_UNAVAILABLE, "NTP"},
    {"AWS, another region", 301, 0, {.code = "PermanentRedirect", .region = "eu-west-1"},
        S3_ELSEWHERE, ERR_STORAGE_UNAVAILABLE, "see S3_REGION, it is in eu-west-1"},
    {"versitygw, another region", 400, 0,
        {.code = "AuthorizationHeaderMalformed", .region = "eu-west-1"}, S3_ELSEWHERE,
        ERR_STORAGE_UNAVAILABLE, "eu-west-1"},
    {"a header that is none", 400, 0, {.code = "AuthorizationHeaderMalformed"}, S3_REFUSED,
        ERR_STORAGE_DENIED, "refuses"},
    {"a bare redirect", 307, HEAD, {.code = ""}, S3_ELSEWHERE, ERR_STORAGE_UNAVAILABLE, "region"},
    {"HEAD says nothing but 400", 400, HEAD, {.code = ""}, S3_ELSEWHERE, ERR_STORAGE_UNAVAILABLE,
        "region"},
    {"400 without a word", 400, 0, {.code = ""}, S3_INVALID, ERR_INTERNAL, "400"},
    {"Swift, no conditions", 412, CONDITIONAL, {.code = "InvalidRequest"}, S3_CANNOT,
        ERR_NOT_AVAILABLE, "no such thing"},
    {"no such upload", 404, 0, {.code = "NoSuchUpload"}, S3_GONE, ERR_FILE_GONE, "upload"},
    {"no such key", 404, 0, {.code = "NoSuchKey"}, S3_ABSENT, ERR_NOT_FOUND, "object"},
    {"no such key, HEAD", 404, HEAD, {.code = ""}, S3_ABSENT, ERR_NOT_FOUND, "object"},
    {"no such bucket", 404, 0, {.code = "NoSuchBucket"}, S3_MISSING, ERR_STORAGE_DENIED,
        "see S3_BUCKET"},
    {"there already", 412, CONDITIONAL, {.code = "PreconditionFailed"}, S3_PRESENT, ERR_EXISTS,
        "another object"},
    {"there already, without a body", 412, CONDITIONAL, {.code = ""}, S3_PRESENT, ERR_EXISTS, ""},
    {"412 without a condition", 412, 0, {.code = "PreconditionFailed"}, S3_INVALID, ERR_INTERNAL,
        ""},
    {"no permission", 403, 0, {.code = "AccessDenied", .request_id = "17C5"}, S3_REFUSED,
        ERR_STORAGE_DENIED, "request 17C5"},
    {"no permission, HEAD", 403, HEAD, {.code = ""}, S3_REFUSED, ERR_STORAGE_DENIED, "403"},
    {"a wrong key", 403, 0, {.code = "InvalidAccessKeyId"}, S3_REFUSED, ERR_STORAGE_DENIED,
        "see S3_ACCESS_KEY"},
    {"a wrong secret", 403, 0, {.code = "SignatureDoesNotMatch"}, S3_REFUSED, ERR_STORAGE_DENIED,
        "see S3_SECRET_KEY"},
    {"a key of KMS", 400, 0, {.code = "KMS.DisabledException"}, S3_REFUSED, ERR_STORAGE_DENIED,
        "KMS.DisabledException"},
    {"MinIO is full", 507, 0, {.code = "XMinioStorageFull"}, S3_FULL, ERR_STORAGE_FULL, "full"},
    {"a quota", 403, 0, {.code = "QuotaExceeded"}, S3_FULL, ERR_STORAGE_FULL, "full"},
    {"full without a word", 507, 0, {.code = ""}, S3_FULL, ERR_STORAGE_FULL, "full"},
    {"a part too small", 400, 0, {.code = "EntityTooSmall"}, S3_INVALID, ERR_INTERNAL,
        "ROWFERRY_S3_PART"},
    {"too large", 400, 0, {.code = "EntityTooLarge"}, S3_INVALID, ERR_SIZE_LIMIT, "EntityTooLarge"},
    {"MinIO, a key it does not like", 400, 0, {.code = "XMinioInvalidObjectName"}, S3_INVALID,
        ERR_INTERNAL, "XMinioInvalidObjectName"},
    {"not built", 501, 0, {.code = "NotImplemented"}, S3_CANNOT, ERR_NOT_AVAILABLE,
        "no such thing"},
    {"not built, without a word", 501, 0, {.code = ""}, S3_CANNOT, ERR_NOT_AVAILABLE, "501"},
    {"not there", 405, 0, {.code = "MethodNotAllowed"}, S3_CANNOT, ERR_NOT_AVAILABLE, "405"},
};

static void
test_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        const S3Outcome outcome = {.status = cases[i].status,
            .error = &cases[i].error,
            .is_head = cases[i].how & HEAD,
            .is_conditional = cases[i].how & CONDITIONAL};
        S3Class class = fault_class(&outcome);
        Err e = {0};

        trying(cases[i].name);
        assert_int_equal(class, cases[i].class);
        assert_fails(fault_fail(class, &outcome, "PutObject", &e), cases[i].code, &e);
        assert_says(&e, "PutObject: ");
        assert_says(&e, cases[i].says);
        assert_says(&e, cases[i].error.code);
    }
}

/* Whatever a store says, there is a class, and its sentence fits and is whole. */
static void
test_the_longest(void **state)
{
    (void)state;
    for (int status = 0; status < 600; status++)
        for (S3Class class = S3_GOOD; class < S3_CLASSES; class ++) {
            S3Error error = {.code = ""};
            const S3Outcome outcome = {.status = status, .error = &error};
            Err e = {0};

            memset(error.code, 'c', sizeof error.code - 1);
            memset(error.message, 'm', sizeof error.message - 1);
            memset(error.region, 'r', sizeof error.region - 1);
            memset(error.request_id, 'i', sizeof error.request_id - 1);
            assert_true(fault_class(&outcome) < S3_CLASSES);
            assert_false(fault_fail(class, &outcome, "CompleteMultipartUpload", &e));
            assert_true(strlen(err_root(&e)) < ERR_TEXT_BYTES - 1);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_the_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
