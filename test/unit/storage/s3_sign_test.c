/*
 * The vectors of the protocol page (each computed by two independent implementations), and one case
 * for each trap of signing. What a signature was made of shows in the signature alone, so the cases
 * without a vector say which two requests must or must not be signed alike.
 */
#include "storage/s3/s3_in.h"
#include "test/test.h"

#define ACCESS "ROWFERRYEXAMPLEKEY01"
#define SECRET "q/9+Zr0wFeRrYsEcReTeXaMpLe/0123456789abc"
#define TOKEN "FwoGZXIvYXdzEJr//////////wEaDEx+/mple=="

enum { NOW_WALL_S = 1738367998 }; /* 2025-01-31T23:59:58Z */

static const S3Keys plain_keys = {.access_key = ACCESS, .secret_key = SECRET};
static const S3Keys token_keys = {.access_key = ACCESS, .secret_key = SECRET, .token = TOKEN};

/* A request that the cases change in one place. */
static SignRequest
request(void)
{
    return (SignRequest){.method = "GET",
        .host = "127.0.0.1:9000",
        .path = "/bucket",
        .payload = sign_empty_payload,
        .region = "us-east-1",
        .service = "s3",
        .now_wall_s = NOW_WALL_S};
}

/* The value of a header as it is sent; NULL: it is not. */
static const char *
header_of(const Buf *headers, const char *name)
{
    size_t name_bytes = strlen(name);

    for (const char *at = headers->data; at < headers->data + headers->bytes; at += strlen(at) + 1)
        if (strncmp(at, name, name_bytes) == 0 && strncmp(at + name_bytes, ": ", 2) == 0)
            return at + name_bytes + 2;
    return NULL;
}

static void
sign(const SignRequest *r, const S3Keys *keys, char signature[65], char names[1024])
{
    SigningKey kept = {0};
    Buf headers = buf_new(64 << 10);
    const char *authorization, *at;
    Err e = {0};

    assert_ok(sign_request(r, keys, &kept, &headers, &e), &e);
    assert_non_null(authorization = header_of(&headers, "Authorization"));
    assert_non_null(at = strstr(authorization, "SignedHeaders="));
    at += strlen("SignedHeaders=");
    snprintf(names, 1024, "%.*s", (int)strcspn(at, ","), at);
    assert_non_null(at = strstr(authorization, ", Signature="));
    snprintf(signature, 65, "%s", at + strlen(", Signature="));
    buf_free(&headers);
}

static void
refused(const SignRequest *r, const char *says)
{
    SigningKey kept = {0};
    Buf headers = buf_new(64 << 10);
    Err e = {0};

    assert_fails(sign_request(r, &plain_keys, &kept, &headers, &e), ERR_INTERNAL, &e);
    assert_says(&e, says);
    buf_free(&headers);
}

static void
test_vectors(void **state)
{
    static const S3Pair v1_query[] = {{"list-type", "2"}, {"prefix", "exports/us er+1/"},
        {"delimiter", ""}, {"start-after", "a&b=c"}, {"X-test", "~*"}};
    static const S3Pair v2_query[] = {{"partNumber", "7"}, {"uploadId", "2~Kb/+x="}};
    static const S3Pair v2_header[] = {{"Content-MD5", "sgLzM/uk/TjUuOXmkwd6qw=="}};
    static const S3Pair v3_query[] = {{"uploads", ""}};
    static const S3Pair v3_header[] = {
        {"x-amz-server-side-encryption-aws-kms-key-id",
            "arn:aws:kms:us-east-1:111122223333:key/k1"},
        {"x-amz-server-side-encryption", "aws:kms"},
        {"x-amz-meta-a-b", "1"},
        {"x-amz-meta-a", "x   y"},
        {"content-type", "text/csv; charset=utf-8"},
    };
    static const struct {
        const char *name, *method, *host, *path, *region;
        const S3Pair *query;
        size_t queries;
        const S3Pair *header;
        size_t headers;
        const char *payload;
        const S3Keys *keys;
        const char *names, *signature;
    } cases[] = {
        {"V1", "GET", "127.0.0.1:9000", "/bucket", "us-east-1", v1_query, count_of(v1_query), NULL,
            0, sign_empty_payload, &plain_keys, "host;x-amz-content-sha256;x-amz-date",
            "104e8bc3318ed8d3904fde1f7b5a11dfd0be4c7ca49c201f523ae455d7f178a6"},
        {"V2", "PUT", "exports.s3.eu-central-1.amazonaws.com", "/exports/user_123/x.csv",
            "eu-central-1", v2_query, count_of(v2_query), v2_header, count_of(v2_header),
            "ea14f99c47575613ab22111122c847728c61007f6bfd7b062d02fcb99df3feb0", &token_keys,
            "content-md5;host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
            "2ba920c3072475b44bbf29ff0846aac53599a5a0358889727a444a4b5b808b1a"},
        {"V3", "POST", "s3.amazonaws.com", "/bucket/exports/u/a%20b%2Bc%3Dd%25e~.csv", "us-east-1",
            v3_query, count_of(v3_query), v3_header, count_of(v3_header), sign_empty_payload,
            &plain_keys,
            "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-a;x-amz-meta-a-b;"
            "x-amz-server-side-encryption;x-amz-server-side-encryption-aws-kms-key-id",
            "f5f7c82bf5fd2b2de0b34213f7e4b3276613b04a48a3450478c25f2c9c22bb04"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        const SignRequest r = {.method = cases[i].method,
            .host = cases[i].host,
            .path = cases[i].path,
            .query = cases[i].query,
            .queries = cases[i].queries,
            .header = cases[i].header,
            .headers = cases[i].headers,
            .payload = cases[i].payload,
            .region = cases[i].region,
            .service = "s3",
            .now_wall_s = NOW_WALL_S};
        char signature[65], names[1024];

        trying(cases[i].name);
        sign(&r, cases[i].keys, signature, names);
        assert_string_equal(names, cases[i].names);
        assert_string_equal(signature, cases[i].signature);
    }
}

static void
test_link_vectors(void **state)
{
    static const S3Pair overrides[] = {
        {"response-content-type", "text/csv; charset=utf-8"},
        {"response-content-disposition",
            "attachment; filename=\"r.csv\"; filename*=UTF-8''r%C3%A9.csv"},
        {"response-expires", NULL},
    };
    SignRequest v4 = {.method = "GET",
        .host = "exports.s3.eu-central-1.amazonaws.com",
        .path = "/exports/user_123/%C3%A9%2B%20%3D.csv",
        .query = overrides,
        .queries = count_of(overrides),
        .region = "eu-central-1",
        .service = "s3",
        .now_wall_s = NOW_WALL_S};
    SignRequest v5 = v4;
    SigningKey kept = {0};
    Buf to = buf_new(64 << 10);
    Err e = {0};

    (void)state;
    trying("V4");
    assert_ok(sign_link(&v4, &token_keys, 86400, &kept, &to, &e), &e);
    assert_string_equal(to.data,
        "/exports/user_123/%C3%A9%2B%20%3D.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
        "ROWFERRYEXAMPLEKEY01%2F20250131%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date="
        "20250131T235958Z&X-Amz-Expires=86400&X-Amz-Security-Token=FwoGZXIvYXdzEJr%2F%2F%2F%2F%2F"
        "%2F%2F%2F%2F%2FwEaDEx%2B%2Fmple%3D%3D&X-Amz-SignedHeaders=host&"
        "response-content-disposition=attachment%3B%20filename%3D%22r.csv%22%3B%20filename%2A%3D"
        "UTF-8%27%27r%25C3%25A9.csv&response-content-type=text%2Fcsv%3B%20charset%3Dutf-8&"
        "X-Amz-Signature=ead65896498c741e00db1d7f187fb173abf93658e95d6ff7610183134a9eeaaf");

    trying("V5");
    v5.host = "localhost:9000";
    v5.path = "/bucket/exports/user_123/employee_metrics_20240101_120000_abc123.csv";
    v5.queries = 0;
    v5.region = "us-east-1";
    buf_clear(&to);
    assert_ok(sign_link(&v5, &plain_keys, 604800, &kept, &to, &e), &e);
    assert_non_null(
        strstr(to.data, "&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature="
                        "7d8b0cfaf2519c3f35ab1f4531baa7ab23d4f28c9fff967b807edc4b94b1e5"
                        "3c"));
    assert_null(strstr(to.data, "Security-Token"));

    trying("a life that stores refuse");
    assert_fails(sign_link(&v5, &plain_keys, 604801, &kept, &to, &e), ERR_INTERNAL, &e);
    err_clear(&e);
    assert_fails(sign_link(&v5, &plain_keys, 0, &kept, &to, &e), ERR_INTERNAL, &e);
    buf_free(&to);
}

static void
test_query(void **state)
{
    static const struct {
        const char *name;
        S3Pair pair[4];
        const char *want;
    } cases[] = {
        {"nothing", {{0}}, ""},
        {"a name alone has its '='", {{"uploads", ""}}, "uploads="},
        {"blank, plus, star, tilde, quote", {{"q", " +*~'()!\""}}, "q=%20%2B%2A~%27%28%29%21%22"},
        {"'/', '=' and '&' in a value", {{"prefix", "exports/u=1&2"}},
            "prefix=exports%2Fu%3D1%262"},
        {"bytes, not characters", {{"k", "\xc3\xa9\xff"}}, "k=%C3%A9%FF"},
        {"percent is a character like others", {{"k", "%41"}}, "k=%2541"},
        {"a name that another begins with", {{"a-b", "1"}, {"a", "2"}, {"a.b", "3"}},
            "a=2&a-b=1&a.b=3"},
        {"upper case before lower case", {{"b", ""}, {"B", ""}, {"a", ""}}, "B=&a=&b="},
        {"order of what is encoded", {{"a-", "1"}, {"a!", "2"}, {"a{", "3"}}, "a%21=2&a%7B=3&a-=1"},
        {"one name, by value", {{"k", "b"}, {"k", "a "}, {"k", "a"}}, "k=a&k=a%20&k=b"},
        {"what has no value is left out", {{"a", NULL}, {"b", "1"}, {"c", NULL}}, "b=1"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf to = buf_new(1 << 10);
        size_t pairs = 0;
        Err e = {0};

        trying(cases[i].name);
        while (pairs < 4 && cases[i].pair[pairs].name)
            pairs++;
        assert_ok(sign_query(&to, cases[i].pair, pairs, &e), &e);
        assert_string_equal(to.data, cases[i].want);
        buf_free(&to);
    }
}

/* Both requests have the same signature, or they do not. */
static void
compare(const char *name, const SignRequest *one, const SignRequest *other, bool alike)
{
    char first[65], second[65], names[1024];

    trying(name);
    sign(one, &plain_keys, first, names);
    sign(other, &plain_keys, second, names);
    assert_int_equal(strcmp(first, second) == 0, alike);
}

static void
test_what_is_signed(void **state)
{
    static const S3Pair blanks[] = {{"x-amz-meta-a", "  x \t  \"y   z\" "}, {"range", "bytes=0-1"}};
    static const S3Pair folded[] = {{"Range", "bytes=0-1"}, {"X-Amz-Meta-A", "x \"y z\""}};
    static const S3Pair other_value[] = {{"x-amz-meta-a", "xy"}, {"range", "bytes=0-1"}};
    static const S3Pair no_value[] = {
        {"x-amz-meta-a", "x \"y z\""}, {"range", "bytes=0-1"}, {"if-match", NULL}};
    const SignRequest base = request();
    SignRequest r, other;

    (void)state;
    r = base, r.path = "";
    other = base, other.path = "/";
    compare("an empty path is '/'", &r, &other, true);
    r = base, r.path = "/bucket/a//b";
    other = base, other.path = "/bucket/a/b";
    compare("slashes are not merged", &r, &other, false);
    r.path = "/bucket/a/../b", other.path = "/bucket/b";
    compare("dots are not resolved", &r, &other, false);
    r.path = "/bucket/a%2520b", other.path = "/bucket/a%20b";
    compare("a path is not encoded again, nor decoded", &r, &other, false);
    r = base, r.header = blanks, r.headers = count_of(blanks);
    other = base, other.header = folded, other.headers = count_of(folded);
    compare("blanks are folded, names in any case, headers in any order", &r, &other, true);
    other.header = other_value;
    compare("every header is signed", &r, &other, false);
    other.header = no_value, other.headers = count_of(no_value);
    compare("a header without a value is left out", &r, &other, true);
    other = base, other.host = "127.0.0.1:9001";
    compare("the host with its port", &base, &other, false);
    other = base, other.payload = "UNSIGNED-PAYLOAD";
    compare("the payload", &base, &other, false);
    other = base, other.now_wall_s++;
    compare("the time", &base, &other, false);
    other = base, other.region = "eu-central-1";
    compare("the region", &base, &other, false);
    other = base, other.service = "sts";
    compare("the service", &base, &other, false);
    other = base, other.method = "HEAD";
    compare("a link for GET is none for HEAD", &base, &other, false);
}

static void
test_headers_sent(void **state)
{
    static const S3Pair header[] = {
        {"content-type", "  text/csv;   charset=utf-8 "}, {"if-none-match", "*"}};
    SignRequest r = request();
    SigningKey kept = {0};
    Buf headers = buf_new(64 << 10);
    size_t count = 0;
    Err e = {0};

    (void)state;
    r.header = header;
    r.headers = count_of(header);
    assert_ok(sign_request(&r, &token_keys, &kept, &headers, &e), &e);
    for (const char *at = headers.data; at < headers.data + headers.bytes; at += strlen(at) + 1)
        count++;
    assert_int_equal(count, 6);
    trying("a value is sent as it was signed");
    assert_string_equal(header_of(&headers, "content-type"), "text/csv; charset=utf-8");
    assert_string_equal(header_of(&headers, "if-none-match"), "*");
    assert_string_equal(header_of(&headers, "x-amz-date"), "20250131T235958Z");
    assert_string_equal(header_of(&headers, "x-amz-content-sha256"), sign_empty_payload);
    assert_string_equal(header_of(&headers, "x-amz-security-token"), TOKEN);
    assert_string_equal(header_of(&headers, "Authorization"),
        "AWS4-HMAC-SHA256 Credential=" ACCESS "/20250131/us-east-1/s3/aws4_request, SignedHeaders="
        "content-type;host;if-none-match;x-amz-content-sha256;x-amz-date;x-amz-security-token, "
        "Signature=40e4d7bfafc9c8a8415f43d8804bcfe8c51f43ad0bb16389a0a9c0dde430f1f7");
    trying("the host is the transport's, no second date");
    assert_null(header_of(&headers, "host"));
    assert_null(header_of(&headers, "date"));
    buf_free(&headers);
}

static void
test_refused(void **state)
{
    static const struct {
        const char *name;
        S3Pair pair[2];
        const char *says;
    } cases[] = {
        {"line feed", {{"x-amz-meta-a", "1\nx-evil: 1"}}, "line break"},
        {"carriage return", {{"x-amz-meta-a", "1\r"}}, "line break"},
        {"another control", {{"x-amz-meta-a", "\x01"}}, "control"},
        {"delete", {{"x-amz-meta-a", "\x7f"}}, "control"},
        {"not ASCII", {{"x-amz-meta-a", "\xc3\xa9"}}, "no ASCII"},
        {"twice", {{"x-amz-meta-a", "1"}, {"X-Amz-Meta-A", "2"}}, "twice"},
        {"ours given again", {{"x-amz-date", "20250131T235958Z"}}, "twice"},
        {"host given again", {{"Host", "a"}}, "twice"},
        {"a name with a blank", {{"x amz", "1"}}, "cannot be signed"},
        {"a name with a colon", {{"x:", "1"}}, "cannot be signed"},
        {"no name", {{"", "1"}}, "cannot be signed"},
        {"what proxies change", {{"Accept-Encoding", "gzip"}}, "cannot be signed"},
        {"length", {{"content-length", "1"}}, "cannot be signed"},
        {"agent", {{"user-agent", "x"}}, "cannot be signed"},
        {"expect", {{"expect", ""}}, "cannot be signed"},
        {"date", {{"date", "x"}}, "cannot be signed"},
    };
    SignRequest r = request();
    S3Keys keys = plain_keys;
    SigningKey kept = {0};
    Buf headers = buf_new(64 << 10);
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].name);
        r.header = cases[i].pair;
        r.headers = cases[i].pair[1].name ? 2 : 1;
        refused(&r, cases[i].says);
    }
    trying("an access key with a line break");
    r.headers = 0;
    snprintf(keys.access_key, sizeof keys.access_key, "A\r\nx: 1");
    assert_fails(sign_request(&r, &keys, &kept, &headers, &e), ERR_INTERNAL, &e);
    trying("a region that is too long");
    r.region = "a-region-with-a-name-of-thirty-three";
    refused(&r, "signature");
    r = request();
    trying("a time without a form");
    r.now_wall_s = (int64_t)20000 * 86400 * 365;
    refused(&r, "time");
    r.now_wall_s = INT64_MAX;
    refused(&r, "time");
    buf_free(&headers);
}

/* The kept key is that of its day, region, service and keys, and no other. */
static void
test_kept_key(void **state)
{
    static const char other_secret[] = "another";
    SigningKey kept = {0};
    SignRequest r = request();
    S3Keys keys = plain_keys;
    struct {
        const char *name;
        int64_t now_wall_s;
        const char *region, *service, *secret, *access;
    } cases[] = {
        {"first", NOW_WALL_S, "us-east-1", "s3", SECRET, ACCESS},
        {"again", NOW_WALL_S + 1, "us-east-1", "s3", SECRET, ACCESS},
        {"the next day", NOW_WALL_S + 2, "us-east-1", "s3", SECRET, ACCESS},
        {"another region", NOW_WALL_S + 2, "us-east-2", "s3", SECRET, ACCESS},
        {"another service", NOW_WALL_S + 2, "us-east-2", "sts", SECRET, ACCESS},
        {"another secret", NOW_WALL_S + 2, "us-east-2", "sts", other_secret, ACCESS},
        {"another name", NOW_WALL_S + 2, "us-east-2", "sts", other_secret, "A"},
        {"back", NOW_WALL_S, "us-east-1", "s3", SECRET, ACCESS},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SigningKey fresh = {0}, before = kept;
        Buf one = buf_new(4 << 10), two = buf_new(4 << 10);
        Err e = {0};

        trying(cases[i].name);
        r.now_wall_s = cases[i].now_wall_s;
        r.region = cases[i].region;
        r.service = cases[i].service;
        snprintf(keys.secret_key, sizeof keys.secret_key, "%s", cases[i].secret);
        snprintf(keys.access_key, sizeof keys.access_key, "%s", cases[i].access);
        assert_ok(sign_request(&r, &keys, &kept, &one, &e), &e);
        assert_ok(sign_request(&r, &keys, &fresh, &two, &e), &e);
        assert_int_equal(one.bytes, two.bytes);
        assert_memory_equal(one.data, two.data, one.bytes);
        assert_memory_equal(&kept, &fresh, sizeof kept);
        assert_int_equal(
            memcmp(&before, &kept, sizeof kept) == 0, strcmp(cases[i].name, "again") == 0);
        buf_free(&one);
        buf_free(&two);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_link_vectors),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_what_is_signed),
        cmocka_unit_test(test_headers_sent),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_kept_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
