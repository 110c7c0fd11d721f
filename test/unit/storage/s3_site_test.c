/* Hosts, styles and paths, and what is said of settings that make none (s3.md 2). */
#include "storage/s3/s3_in.h"
#include "test/test.h"

/* What a case does not name. */
static S3Spec
spec_of(const char *bucket, const char *endpoint, const char *style)
{
    return (S3Spec){.bucket = bucket ? bucket : "exports",
        .endpoint = endpoint ? endpoint : "",
        .public_endpoint = "",
        .style = style ? style : "auto"};
}

static void
test_aws(void **state)
{
    static const struct {
        const char *bucket, *region, *style;
        bool dualstack, fips;
        const char *host, *path;
    } cases[] = {
        {NULL, "us-east-1", NULL, false, false, "exports.s3.us-east-1.amazonaws.com", "/a/k"},
        {NULL, "us-gov-west-1", NULL, false, false, "exports.s3.us-gov-west-1.amazonaws.com",
            "/a/k"},
        {NULL, "cn-north-1", NULL, false, false, "exports.s3.cn-north-1.amazonaws.com.cn", "/a/k"},
        {NULL, "eusc-de-east-1", NULL, false, false, "exports.s3.eusc-de-east-1.amazonaws.eu",
            "/a/k"},
        {NULL, "us-iso-east-1", NULL, false, false, "exports.s3.us-iso-east-1.c2s.ic.gov", "/a/k"},
        {NULL, "eu-west-1", NULL, true, false, "exports.s3.dualstack.eu-west-1.amazonaws.com",
            "/a/k"},
        {NULL, "us-west-2", NULL, false, true, "exports.s3-fips.us-west-2.amazonaws.com", "/a/k"},
        {NULL, "us-west-2", NULL, true, true, "exports.s3-fips.dualstack.us-west-2.amazonaws.com",
            "/a/k"},
        {NULL, "us-west-2", "path", false, false, "s3.us-west-2.amazonaws.com", "/exports/a/k"},
        {NULL, "us-west-2", "virtual", false, false, "exports.s3.us-west-2.amazonaws.com", "/a/k"},
        {"my.bucket", "us-west-2", NULL, false, false, "s3.us-west-2.amazonaws.com",
            "/my.bucket/a/k"},
        {"Bucket", "us-east-1", NULL, false, false, "s3.us-east-1.amazonaws.com", "/Bucket/a/k"},
        {"my_bucket", "us-east-1", NULL, false, false, "s3.us-east-1.amazonaws.com",
            "/my_bucket/a/k"},
        {"a-bucket-whose-name-is-longer-than-a-label-of-a-host-name-may-be", "us-east-1", NULL,
            false, false, "s3.us-east-1.amazonaws.com",
            "/a-bucket-whose-name-is-longer-than-a-label-of-a-host-name-may-be/a/k"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = spec_of(cases[i].bucket, NULL, cases[i].style);
        Buf path = buf_new(1 << 10);
        Err e = {0};
        Site site;

        trying(cases[i].host);
        spec.dualstack = cases[i].dualstack;
        spec.fips = cases[i].fips;
        assert_ok(site_make(&spec, cases[i].region, false, &site, &e), &e);
        assert_string_equal(site.host, cases[i].host);
        assert_string_equal(site.region, cases[i].region);
        assert_true(site.is_aws && site.is_secure && !site.is_loopback);
        site_path(&site, "a/k", &path);
        assert_string_equal(path.data, cases[i].path);
        buf_free(&path);
    }
}

static void
test_endpoints(void **state)
{
    static const struct {
        const char *endpoint, *style;
        bool is_secure, is_loopback;
        const char *host, *of_key, *of_bucket;
    } cases[] = {
        {"http://localhost:9000", NULL, false, true, "localhost:9000", "/exports/a/k", "/exports"},
        {"http://localhost:9000/", NULL, false, true, "localhost:9000", "/exports/a/k", "/exports"},
        {"HTTPS://S3.Example.COM", NULL, true, false, "s3.example.com", "/exports/a/k", "/exports"},
        {"https://s3.example.com:443", NULL, true, false, "s3.example.com", "/exports/a/k",
            "/exports"},
        {"http://s3.example.com:80", NULL, false, false, "s3.example.com", "/exports/a/k",
            "/exports"},
        {"https://s3.example.com:80", NULL, true, false, "s3.example.com:80", "/exports/a/k",
            "/exports"},
        {"http://s3.example.com:443", NULL, false, false, "s3.example.com:443", "/exports/a/k",
            "/exports"},
        {"http://127.0.0.1:9000", NULL, false, true, "127.0.0.1:9000", "/exports/a/k", "/exports"},
        {"http://10.0.0.1", NULL, false, false, "10.0.0.1", "/exports/a/k", "/exports"},
        {"http://[::1]:9000", NULL, false, true, "[::1]:9000", "/exports/a/k", "/exports"},
        {"https://[2001:DB8::1]", NULL, true, false, "[2001:db8::1]", "/exports/a/k", "/exports"},
        {"https://gw.example.com/store/s3/", NULL, true, false, "gw.example.com",
            "/store/s3/exports/a/k", "/store/s3/exports"},
        {"https://gw.example.com/store", "virtual", true, false, "exports.gw.example.com",
            "/store/a/k", "/store/"},
        {"http://localhost:9000", "virtual", false, true, "exports.localhost:9000", "/a/k", "/"},
        {"http://minio:9000", "path", false, false, "minio:9000", "/exports/a/k", "/exports"},
        {"https://s3.eu-west-1.amazonaws.com", NULL, true, false, "s3.eu-west-1.amazonaws.com",
            "/exports/a/k", "/exports"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = spec_of(NULL, cases[i].endpoint, cases[i].style);
        Buf path = buf_new(1 << 10);
        Err e = {0};
        Site site;

        trying(cases[i].endpoint);
        assert_ok(site_make(&spec, "us-east-1", false, &site, &e), &e);
        assert_string_equal(site.host, cases[i].host);
        assert_int_equal(site.is_secure, cases[i].is_secure);
        assert_int_equal(site.is_loopback, cases[i].is_loopback);
        assert_false(site.is_aws);
        site_path(&site, "a/k", &path);
        assert_string_equal(path.data, cases[i].of_key);
        buf_clear(&path);
        site_path(&site, NULL, &path);
        assert_string_equal(path.data, cases[i].of_bucket);
        buf_free(&path);
    }
}

static void
test_keys(void **state)
{
    static const struct {
        const char *key, *path;
    } cases[] = {
        {"exports/u/a b+c=d%e~.csv", "/t%3Ab/exports/u/a%20b%2Bc%3Dd%25e~.csv"},
        {"a//b", "/t%3Ab/a//b"},
        {"a/./../b/", "/t%3Ab/a/./../b/"},
        {"/a", "/t%3Ab//a"},
        {"\xc3\xa9'\"*()!", "/t%3Ab/%C3%A9%27%22%2A%28%29%21"},
        {"e\xcc\x81", "/t%3Ab/e%CC%81"},
        {"a%2Fb", "/t%3Ab/a%252Fb"},
        {"", "/t%3Ab/"},
    };
    S3Spec spec = spec_of("t:b", "http://localhost", NULL);
    Buf path = buf_new(1 << 10);
    Err e = {0};
    Site site;

    (void)state;
    assert_ok(site_make(&spec, "us-east-1", false, &site, &e), &e);
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].key);
        buf_clear(&path);
        site_path(&site, cases[i].key, &path);
        assert_string_equal(path.data, cases[i].path);
    }
    buf_free(&path);
}

static void
test_for_links(void **state)
{
    S3Spec spec = spec_of(NULL, "http://minio:9000", NULL);
    Err e = {0};
    Site site;

    (void)state;
    trying("without a public endpoint links have the other");
    assert_ok(site_make(&spec, "eu-west-1", true, &site, &e), &e);
    assert_string_equal(site.host, "minio:9000");
    trying("with one, links alone have it");
    spec.public_endpoint = "https://files.example.com";
    assert_ok(site_make(&spec, "eu-west-1", true, &site, &e), &e);
    assert_string_equal(site.host, "files.example.com");
    assert_true(site.is_secure && site.is_path_style);
    assert_ok(site_make(&spec, "eu-west-1", false, &site, &e), &e);
    assert_string_equal(site.host, "minio:9000");
    trying("it is named when it is wrong");
    spec.public_endpoint = "files.example.com";
    assert_ok(site_make(&spec, "eu-west-1", false, &site, &e), &e);
    assert_fails(site_make(&spec, "eu-west-1", true, &site, &e), ERR_CONFIG_INVALID, &e);
    assert_says(&e, "ROWFERRY_S3_PUBLIC_ENDPOINT has no scheme");
}

static void
test_refused(void **state)
{
    static const struct {
        const char *bucket, *endpoint, *region, *style, *says;
    } cases[] = {
        {"", NULL, NULL, NULL, "S3_BUCKET is not set"},
        {"s3://exports", NULL, NULL, NULL, "S3_BUCKET must be the bare name"},
        {"exports/sub", NULL, NULL, NULL, "S3_BUCKET must be the bare name"},
        {"ab", NULL, NULL, NULL, "S3_BUCKET must have 3 to 255"},
        {"a b", NULL, NULL, NULL, "S3_BUCKET may have"},
        {"a\nb", NULL, NULL, NULL, "S3_BUCKET may have"},
        {"\xc3\xa9xports", NULL, NULL, NULL, "S3_BUCKET may have"},
        {"...", "http://localhost", NULL, NULL, "begins with a letter or a digit"},
        {"b--usw2-az1--x-s3", NULL, NULL, NULL, "directory bucket"},
        {NULL, "s3://exports", NULL, NULL, "S3_ENDPOINT must begin with http:// or https://"},
        {NULL, "ftp://h", NULL, NULL, "S3_ENDPOINT must begin with http:// or https://"},
        {NULL, "localhost:9000", NULL, NULL, "S3_ENDPOINT has no scheme"},
        {NULL, "s3.example.com", NULL, NULL, "S3_ENDPOINT has no scheme"},
        {NULL, "http://u:geheim@h", NULL, NULL, "S3_ENDPOINT must hold no user or password"},
        {NULL, "http://h/?region=x", NULL, NULL, "S3_ENDPOINT must have no query"},
        {NULL, "http://h/#x", NULL, NULL, "S3_ENDPOINT: the URL has a fragment"},
        {NULL, "http://", NULL, NULL, "S3_ENDPOINT has no host"},
        {NULL, "http:///exports", NULL, NULL, "S3_ENDPOINT has no host"},
        {NULL, "http://h:99999", NULL, NULL, "S3_ENDPOINT: the port"},
        {NULL, "http://h\r\nx", NULL, NULL, "S3_ENDPOINT: the URL has control"},
        {NULL, "http://h/a%20b", NULL, NULL, "the path in S3_ENDPOINT"},
        {NULL, "http://h/a//b", NULL, NULL, "the path in S3_ENDPOINT"},
        {NULL, "http://h/a/../b", NULL, NULL, "the path in S3_ENDPOINT"},
        {NULL, "http://h/..", NULL, NULL, "the path in S3_ENDPOINT"},
        {NULL, "https://exports.s3.eu-west-1.amazonaws.com", NULL, NULL,
            "S3_ENDPOINT must not hold the name of the bucket"},
        {NULL, NULL, "", NULL, "S3_REGION must be"},
        {NULL, NULL, "us east", NULL, "S3_REGION must be"},
        {NULL, NULL, "evil.example.com/", NULL, "S3_REGION must be"},
        {NULL, NULL, "US-EAST-1", NULL, "S3_REGION must be"},
        {NULL, "http://h", "a\nb", NULL, "S3_REGION must be"},
        {NULL, "http://h", "123456789012345678901234567890123", NULL, "S3_REGION must be"},
        {NULL, "http://h", NULL, "vhost", "ROWFERRY_S3_STYLE must be auto, path or virtual"},
        {NULL, "http://127.0.0.1:9000", NULL, "virtual", "ROWFERRY_S3_STYLE=virtual needs a store"},
        {NULL, "http://[::1]:9000", NULL, "virtual", "ROWFERRY_S3_STYLE=virtual needs a store"},
        {"My_bucket", "http://h", NULL, "virtual", "ROWFERRY_S3_STYLE=virtual needs a bucket"},
        {"a..b", "http://h", NULL, "virtual", "ROWFERRY_S3_STYLE=virtual needs a bucket"},
        {"a.b", NULL, NULL, "virtual", "does not go with a dot in S3_BUCKET"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = spec_of(cases[i].bucket, cases[i].endpoint, cases[i].style);
        char said[1024];
        Err e = {0};
        Site site;

        trying(cases[i].says);
        assert_fails(
            site_make(&spec, cases[i].region ? cases[i].region : "us-east-1", false, &site, &e),
            ERR_CONFIG_INVALID, &e);
        assert_non_null(strstr(err_root(&e), cases[i].says));
        assert_null(strstr(err_chain(&e, said, sizeof said), "geheim"));
    }
}

static void
test_move(void **state)
{
    S3Spec spec = spec_of(NULL, NULL, NULL);
    Err e = {0};
    Site site;

    (void)state;
    assert_ok(site_make(&spec, "us-east-1", false, &site, &e), &e);
    assert_true(site_move(&site, "ap-south-1"));
    assert_string_equal(site.host, "exports.s3.ap-south-1.amazonaws.com");
    assert_string_equal(site.region, "ap-south-1");
    trying("what is no region changes nothing");
    assert_false(site_move(&site, "evil.example.com/x"));
    assert_false(site_move(&site, "RegionOne"));
    assert_false(site_move(&site, ""));
    assert_false(site_move(&site, "a-region-with-a-name-of-thirty-three"));
    assert_string_equal(site.host, "exports.s3.ap-south-1.amazonaws.com");
    assert_string_equal(site.region, "ap-south-1");

    trying("a host that was given stays");
    spec.endpoint = "http://swift:8080";
    assert_ok(site_make(&spec, "us-east-1", false, &site, &e), &e);
    assert_true(site_move(&site, "RegionOne"));
    assert_string_equal(site.host, "swift:8080");
    assert_string_equal(site.region, "RegionOne");
    assert_false(site_move(&site, "a b"));
    assert_false(site_move(&site, "a/b"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aws),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_for_links),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
