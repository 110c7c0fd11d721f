/* XML as the stores write it, and as nobody should. */
#include "base/text.h"
#include "storage/s3/s3_in.h"
#include "test/test.h"

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

/* --- errors --- */

static void
test_errors(void **state)
{
    static const struct {
        const char *name, *body, *code, *message, *region, *request_id;
        int64_t server_wall_s;
    } cases[] = {
        {"AWS",
            XML "\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist."
                "</Message><Key>exports/u/a.csv</Key><RequestId>4442587FB7D0A2F9</RequestId>"
                "<HostId>lBSSr1yGh</HostId></Error>",
            "NoSuchKey", "The specified key does not exist.", "", "4442587FB7D0A2F9", 0},
        {"AWS, another region",
            XML "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization "
                "header is malformed; the region 'us-east-1' is wrong; expecting "
                "'eu-west-1'</Message><Region>eu-west-1</Region><RequestId>A</RequestId></Error>",
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting "
            "'eu-west-1'",
            "eu-west-1", "A", 0},
        {"MinIO",
            XML "\n<Error><Code>InvalidAccessKeyId</Code><Message>The Access Key Id you provided "
                "does not exist in our records.</Message><BucketName>b</BucketName><Resource>/b/"
                "</Resource><RequestId>1878F1</RequestId><HostId>dd9025</HostId></Error>",
            "InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.",
            "", "1878F1", 0},
        {"versitygw, clock",
            XML "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference</Message>"
                "<RequestTime>20261125T010203Z</RequestTime><ServerTime>2026-11-25T02:30:00Z"
                "</ServerTime><MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"
                "<Resource></Resource><RequestId></RequestId></Error>",
            "RequestTimeTooSkewed", "The difference", "", "", 1795573800},
        {"RGW",
            XML "<Error><Code>NoSuchUpload</Code><Message></Message><BucketName>b</BucketName>"
                "<RequestId>tx0001</RequestId><HostId>1</HostId></Error>",
            "NoSuchUpload", "", "", "tx0001", 0},
        {"SeaweedFS",
            XML "\n<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not "
                "exist</Message><Resource>/b</Resource><RequestId>17f</RequestId><Key></Key>"
                "<BucketName>b</BucketName></Error>",
            "NoSuchBucket", "The specified bucket does not exist", "", "17f", 0},
        {"STS",
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>"
            "Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired</Message>"
            "</Error><RequestId>c6104cbe</RequestId></ErrorResponse>",
            "ExpiredTokenException", "Token expired", "", "c6104cbe", 0},
        {"white space before it", "   \r\n\t" XML "<Error><Code>InternalError</Code></Error>",
            "InternalError", "", "", "", 0},
        {"a byte order mark", "\xef\xbb\xbf" XML "<Error><Code>X</Code></Error>", "X", "", "", "",
            0},
        {"a mark behind white space", " \n\xef\xbb\xbf<Error><Code>X</Code></Error>", "X", "", "",
            "", 0},
        {"white space behind it", "<Error><Code>X</Code></Error>\n \n", "X", "", "", "", 0},
        {"prefixed", "<s:Error xmlns:s=\"urn:x\"><s:Code> X\n</s:Code></s:Error>", "X", "", "", "",
            0},
        {"escapes and CDATA",
            "<Error><Code>X</Code><Message>a &lt;b&gt; &#xe9;<![CDATA[<&>]]></Message></Error>",
            "X", "a <b> é<&>", "", "", 0},
        {"comments and others' members",
            "<Error><!-- Code --><Detail><Code>not this</Code></Detail><Code>X</Code><New/>"
            "</Error>",
            "X", "", "", "", 0},
        {"lines are no lines in a log", "<Error><Code>X</Code><Message>a\nb\x7f</Message></Error>",
            "X", "a?b?", "", "", 0},
        {"nothing in it", "<Error/>", "", "", "", "", 0},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Error error;

        trying(cases[i].name);
        assert_true(answer_error(cases[i].body, strlen(cases[i].body), &error));
        assert_string_equal(error.code, cases[i].code);
        assert_string_equal(error.message, cases[i].message);
        assert_string_equal(error.region, cases[i].region);
        assert_string_equal(error.request_id, cases[i].request_id);
        assert_int_equal(error.server_wall_s, cases[i].server_wall_s);
    }
}

/* Seventeen elements, one in the other, are one too many. */
#define DEEP8(name)                                                                                \
    "<" name "><" name "><" name "><" name "><" name "><" name "><" name "><" name ">"
#define BACK8(name)                                                                                \
    "</" name "></" name "></" name "></" name "></" name "></" name "></" name "></" name ">"

static void
test_no_errors(void **state)
{
    static const char *const bodies[] = {"", " ", "\xef\xbb\xbf", "<", "<Error", "<Error>",
        "<Error><Code>SlowDown</Code>", "<Error><Code>SlowDown</Code></Error",
        "<Error><Code>SlowDown</Message></Error>", "<Error><Code>X</Code></Error><more/>",
        "<Error><Code>\xff</Code></Error>", "<Error><Code>\x01</Code></Error>",
        "<Error><Code>&unknown;</Code></Error>", "SlowDown", "{\"Code\":\"SlowDown\"}",
        "<html><head><title>502</title></head><body>Bad Gateway</body></html>",
        "<!DOCTYPE html><html><body>hello<br></body></html>",
        "<!DOCTYPE Error><Error><Code>X</Code></Error>",
        "<!DOCTYPE Error [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>",
        "<ListBucketResult><Error><Code>X</Code></Error></ListBucketResult>",
        "<?xml version=\"1.0\" encoding=\"KOI8-X\"?><Error><Code>X</Code></Error>",
        "<Error>" DEEP8("a") DEEP8("b") BACK8("b") BACK8("a") "<Code>X</Code></Error>"};

    (void)state;
    for (size_t i = 0; i < count_of(bodies); i++) {
        S3Error error = {.code = "from before"};
        static const S3Error nothing;

        trying(bodies[i]);
        assert_false(answer_error(bodies[i], strlen(bodies[i]), &error));
        assert_memory_equal(&error, &nothing, sizeof error);
    }
}

/* What is too long is cut, and not within a character. */
static void
test_a_long_message(void **state)
{
    enum { CHARS = 40000 };
    Buf body = buf_new(1 << 20);
    S3Error error;

    (void)state;
    buf_text(&body, "<Error><Code>X</Code><StringToSign>");
    for (int i = 0; i < CHARS; i++)
        buf_text(&body, "41 ");
    buf_text(&body, "</StringToSign><Message>");
    for (int i = 0; i < CHARS; i++)
        buf_text(&body, "é");
    buf_text(&body, "</Message><RequestId>r</RequestId></Error>");
    assert_true(answer_error(body.data, body.bytes, &error));
    assert_string_equal(error.code, "X");
    assert_int_equal(strlen(error.message), 254);
    assert_true(text_is_utf8(error.message, 254));
    assert_string_equal(error.request_id, "r");
    buf_free(&body);
}

/* --- uploads begun and completed --- */

typedef bool ReadOne(const char *body, size_t bytes, char *to, Err *e);

static bool
created(const char *body, size_t bytes, char *to, Err *e)
{
    return answer_created(body, bytes, to, e);
}

static bool
completed(const char *body, size_t bytes, char *to, Err *e)
{
    return answer_completed(body, bytes, to, e);
}

static void
test_one_value(void **state)
{
    static const struct {
        const char *name;
        ReadOne *read;
        const char *body, *want; /* NULL: refused … */
        const char *says;        /* … with this */
    } cases[] = {
        {"AWS begins", created,
            XML "\n<InitiateMultipartUploadResult" NS "><Bucket>b</Bucket><Key>exports/u/a</Key>"
                "<UploadId>VXBsb2FkIElE.x_-</UploadId></InitiateMultipartUploadResult>",
            "VXBsb2FkIElE.x_-", NULL},
        {"RGW begins", created,
            XML "<InitiateMultipartUploadResult" NS "><Tenant></Tenant><Bucket>b</Bucket>"
                "<Key>a</Key><UploadId>2~Kb/+x=</UploadId></InitiateMultipartUploadResult>",
            "2~Kb/+x=", NULL},
        {"no id", created, "<InitiateMultipartUploadResult/>", NULL, "UploadId"},
        {"an empty id", created,
            "<InitiateMultipartUploadResult><UploadId> </UploadId></InitiateMultipartUploadResult>",
            NULL, "UploadId"},
        {"another document", created, "<Error><Code>InternalError</Code></Error>", NULL,
            "another document"},
        {"nothing", created, "", NULL, "empty"},
        {"cut", created, "<InitiateMultipartUploadResult><UploadId>abc", NULL, "no element found"},
        {"AWS completes after white space", completed,
            "\n\n   \n" XML "<CompleteMultipartUploadResult" NS "><Location>http://h/b/a"
            "</Location><Bucket>b</Bucket><Key>a</Key><ETag>&quot;3858f62230ac3c915f300c664312c11f"
            "-9&quot;</ETag></CompleteMultipartUploadResult>",
            "\"3858f62230ac3c915f300c664312c11f-9\"", NULL},
        {"MinIO completes", completed,
            XML "<CompleteMultipartUploadResult" NS "><Location>http://127.0.0.1/b/a</Location>"
                "<Bucket>b</Bucket><Key>a</Key><ETag>&#34;9b&#34;</ETag>"
                "</CompleteMultipartUploadResult>",
            "\"9b\"", NULL},
        {"a 200 that is a failure", completed,
            "   " XML "<Error><Code>InternalError</Code><Message>We encountered an internal error."
            "</Message></Error>",
            NULL, "another document"},
        {"no ETag", completed,
            "<CompleteMultipartUploadResult><Key>a</Key></CompleteMultipartUploadResult>", NULL,
            "ETag"},
        {"an ETag elsewhere", completed,
            "<CompleteMultipartUploadResult><Part><ETag>x</ETag></Part>"
            "</CompleteMultipartUploadResult>",
            NULL, "ETag"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        char got[S3_UPLOAD_BYTES];
        Err e = {0};

        trying(cases[i].name);
        if (cases[i].want) {
            assert_ok(cases[i].read(cases[i].body, strlen(cases[i].body), got, &e), &e);
            assert_string_equal(got, cases[i].want);
        } else {
            assert_fails(cases[i].read(cases[i].body, strlen(cases[i].body), got, &e),
                ERR_STORAGE_UNAVAILABLE, &e);
            assert_says(&e, cases[i].says);
        }
    }
}

/* An id that is too long is none, however it comes. */
static void
test_a_long_id(void **state)
{
    static const char *const begins[] = {"", "abc&amp;"};
    static const int chars[] = {S3_UPLOAD_BYTES - 1, S3_UPLOAD_BYTES, 30000, 200000};

    (void)state;
    for (size_t i = 0; i < count_of(begins); i++)
        for (size_t k = 0; k < count_of(chars); k++) {
            Buf body = buf_new(1 << 20);
            char got[S3_UPLOAD_BYTES];
            Err e = {0};

            buf_printf(&body, "<InitiateMultipartUploadResult><UploadId>%s", begins[i]);
            for (int c = 0; c < chars[k]; c++)
                buf_char(&body, 'x');
            buf_text(&body, "</UploadId></InitiateMultipartUploadResult>");
            if (i == 0 && k == 0)
                assert_ok(answer_created(body.data, body.bytes, got, &e), &e);
            else
                assert_fails(
                    answer_created(body.data, body.bytes, got, &e), ERR_STORAGE_UNAVAILABLE, &e);
            buf_free(&body);
        }
}

/* --- lists --- */

typedef struct {
    Buf text; /* "key|upload|bytes|time " for each entry */
    size_t stop_at;
} Seen;

static bool
see(const AnswerEntry *entry, void *with, Err *e)
{
    Seen *seen = with;

    buf_printf(&seen->text, "%s|%s|%lld|%lld\n", entry->key, entry->upload ? entry->upload : "",
        (long long)entry->bytes, (long long)entry->modified_us);
    return seen->stop_at == 0 || --seen->stop_at > 0 || fail_code(e, ERR_CANCELLED, "enough");
}

static const struct {
    const char *name, *body, *entries;
    bool is_truncated, has_next;
    const char *token, *marker, *upload_marker;
    size_t count;
    bool of_uploads;
} lists[] = {
    {"AWS, an empty list",
        XML "\n<ListBucketResult" NS "><Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount>"
            "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>",
        "", false, false, "", "", "", 0, false},
    {"AWS, encoded, a page",
        XML
        "<ListBucketResult" NS "><Name>b</Name><Prefix>exports%2F</Prefix>"
        "<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</"
        "NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys>"
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<Contents><Key>exports%2Fu%2Fa+b%2Bc%25.csv</Key><LastModified>2024-01-02T12:00:00.000Z"
        "</LastModified><ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><Size>434234"
        "</Size><StorageClass>STANDARD</StorageClass></Contents><Contents><Key>"
        "exports%2Fu%2F%C3%A9.csv</Key><LastModified>2024-01-02T12:00:01.250Z</LastModified>"
        "<Size>0</Size></Contents></ListBucketResult>",
        "exports/u/a b+c%.csv||434234|1704196800000000\nexports/u/é.csv||0|1704196801250000\n",
        true, true, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=", "exports/u/é.csv", "", 2,
        false},
    {"MinIO says behind the entries that they are encoded",
        XML "<ListBucketResult" NS "><Name>b</Name><Prefix>exports/</Prefix><KeyCount>1</KeyCount>"
            "<MaxKeys>1000</MaxKeys><Delimiter></Delimiter><IsTruncated>false</IsTruncated>"
            "<Contents><Key>exports/u/a+b%22.csv</Key><LastModified>2026-11-25T02:03:04.567Z"
            "</LastModified><ETag>&#34;1&#34;</ETag><Size>3</Size><Owner><ID></ID></Owner>"
            "</Contents><EncodingType>url</EncodingType></ListBucketResult>",
        "exports/u/a b\".csv||3|1795572184567000\n", false, false, "", "", "", 1, false},
    {"versitygw, not encoded, times without a fraction",
        XML "<ListBucketResult" NS "><Name>b</Name><Prefix>exports/</Prefix><StartAfter></"
            "StartAfter><ContinuationToken></ContinuationToken><NextContinuationToken></"
            "NextContinuationToken><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><Delimiter></"
            "Delimiter><IsTruncated>false</IsTruncated><Contents><ETag>1</ETag>"
            "<Key>exports/u/a+b%2F&amp;&lt;.csv</Key><LastModified>2026-11-25T02:03:04Z"
            "</LastModified><Size>3</Size><StorageClass>STANDARD</StorageClass></Contents>"
            "</ListBucketResult>",
        "exports/u/a+b%2F&<.csv||3|1795572184000000\n", false, false, "", "", "", 1, false},
    {"SeaweedFS",
        XML "\n<ListBucketResult" NS "><Name>b</Name><Prefix>exports/</Prefix><Contents><Key>"
            "exports/u/a.csv</Key><ETag>&#34;1&#34;</ETag><Size>3</Size><Owner><ID>x</ID>"
            "</Owner><StorageClass>STANDARD</StorageClass><LastModified>2026-11-25T02:03:04Z"
            "</LastModified></Contents><MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated>"
            "<NextContinuationToken>L2EuY3N2</NextContinuationToken></ListBucketResult>",
        "exports/u/a.csv||3|1795572184000000\n", true, true, "L2EuY3N2", "exports/u/a.csv", "", 1,
        false},
    {"RGW, version 1",
        XML "<ListBucketResult" NS "><Name>b</Name><Prefix></Prefix><MaxKeys>1</MaxKeys><Marker>"
            "</Marker><NextMarker>exports/u/a.csv</NextMarker><IsTruncated>true</IsTruncated>"
            "<Contents><Key>exports/u/a.csv</Key><LastModified>2024-01-02T12:00:00.123456789Z"
            "</LastModified><ETag>&quot;1&quot;</ETag><Size>5368709120</Size></Contents>"
            "</ListBucketResult>",
        "exports/u/a.csv||5368709120|1704196800123456\n", true, true, "", "exports/u/a.csv", "", 1,
        false},
    {"version 1 without a next marker",
        "<ListBucketResult><IsTruncated>True</IsTruncated><Contents><Key>a</Key></Contents>"
        "<Contents><Key>b c</Key></Contents></ListBucketResult>",
        "a||0|0\nb c||0|0\n", true, true, "", "b c", "", 2, false},
    {"truncated, empty and without a way on",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "", true, false, "",
        "", "", 0, false},
    {"a page with nothing but a token",
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</"
        "NextContinuationToken></ListBucketResult>",
        "", true, true, "t", "", "", 0, false},
    {"more digits than one can count, and a time that is none",
        "<ListBucketResult><Contents><Key>a</Key><LastModified>2024-01-02T12:00:00."
        "1234567890123456789Z</LastModified></Contents><Contents><Key>b</Key><LastModified>"
        "yesterday</LastModified></Contents></ListBucketResult>",
        "a||0|1704196800123456\nb||0|0\n", false, false, "", "", "", 2, false},
    {"keys that cannot be: encoded and not, with a NUL, none",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>100%</Key></Contents>"
        "<Contents><Key>a%00b</Key></Contents><Contents><Size>1</Size></Contents><Contents><Key>"
        "%41</Key></Contents></ListBucketResult>",
        "100%||0|0\na%00b||0|0\nA||0|0\n", false, false, "", "", "", 4, false},
    {"a key with blanks around it",
        "<ListBucketResult><Contents><Key> exports/u/a </Key><Size> 7\n</Size></Contents>"
        "</ListBucketResult>",
        " exports/u/a ||7|0\n", false, false, "", "", "", 1, false},
    {"AWS, uploads",
        XML "\n<ListMultipartUploadsResult" NS "><Bucket>b</Bucket><KeyMarker></KeyMarker>"
            "<UploadIdMarker></UploadIdMarker><NextKeyMarker>exports/u/b.csv</NextKeyMarker>"
            "<NextUploadIdMarker>id-2</NextUploadIdMarker><MaxUploads>2</MaxUploads><IsTruncated>"
            "true</IsTruncated><Upload><Key>exports/u/a.csv</Key><UploadId>id-1</UploadId>"
            "<Initiator><ID>arn</ID></Initiator><Owner><ID>o</ID></Owner><StorageClass>STANDARD"
            "</StorageClass><Initiated>2024-01-02T12:00:00.000Z</Initiated></Upload><Upload><Key>"
            "exports/u/b.csv</Key><UploadId>id-2</UploadId><Initiated>2024-01-02T12:00:01.000Z"
            "</Initiated></Upload></ListMultipartUploadsResult>",
        "exports/u/a.csv|id-1|0|1704196800000000\nexports/u/b.csv|id-2|0|1704196801000000\n", true,
        true, "", "exports/u/b.csv", "id-2", 2, true},
    {"SeaweedFS, uploads, cut within a key",
        XML "<ListMultipartUploadsResult" NS "><Bucket>b</Bucket><MaxUploads>1</MaxUploads>"
            "<IsTruncated>true</IsTruncated><Upload><Key>exports/u/a.csv</Key><UploadId>id-1"
            "</UploadId><Initiated>2024-01-02T12:00:00Z</Initiated></Upload><NextUploadIdMarker>"
            "id-1</NextUploadIdMarker></ListMultipartUploadsResult>",
        "exports/u/a.csv|id-1|0|1704196800000000\n", true, true, "", "exports/u/a.csv", "id-1", 1,
        true},
    {"MinIO, no uploads",
        XML "<ListMultipartUploadsResult" NS "><Bucket>b</Bucket><KeyMarker></KeyMarker>"
            "<UploadIdMarker></UploadIdMarker><NextKeyMarker></NextKeyMarker><NextUploadIdMarker>"
            "</NextUploadIdMarker><Delimiter></Delimiter><Prefix>exports/</Prefix><EncodingType>"
            "</EncodingType><MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated>"
            "</ListMultipartUploadsResult>",
        "", false, false, "", "", "", 0, true},
};

static void
test_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < count_of(lists); i++) {
        size_t bytes = strlen(lists[i].body);
        Seen seen = {.text = buf_new(64 << 10)};
        AnswerPage page;
        Err e = {0};

        trying(lists[i].name);
        assert_ok(lists[i].of_uploads ? answer_uploads(lists[i].body, bytes, see, &seen, &page, &e)
                                      : answer_objects(lists[i].body, bytes, see, &seen, &page, &e),
            &e);
        assert_string_equal(seen.text.data, lists[i].entries);
        assert_int_equal(page.is_truncated, lists[i].is_truncated);
        assert_int_equal(page.has_next, lists[i].has_next);
        assert_string_equal(page.token, lists[i].token);
        assert_string_equal(page.marker, lists[i].marker);
        assert_string_equal(page.upload_marker, lists[i].upload_marker);
        assert_int_equal(page.entries, lists[i].count);
        buf_free(&seen.text);
    }
}

/* Cut anywhere, a list is none, and nothing of it is visited. */
static void
test_cut_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < count_of(lists); i++)
        for (size_t bytes = 0; bytes < strlen(lists[i].body); bytes++) {
            Seen seen = {.text = buf_new(64 << 10)};
            AnswerPage page;
            Err e = {0};

            if (lists[i].of_uploads ? answer_uploads(lists[i].body, bytes, see, &seen, &page, &e)
                                    : answer_objects(lists[i].body, bytes, see, &seen, &page, &e))
                fail_msg("%s is taken after %zu bytes", lists[i].name, bytes);
            assert_int_equal(e.code, ERR_STORAGE_UNAVAILABLE);
            assert_int_equal(seen.text.bytes, 0);
        }
}

static void
test_wrong_lists(void **state)
{
    static const char *const bodies[] = {"<html/>", "<Error><Code>X</Code></Error>",
        "<ListAllMyBucketsResult/>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size>"
        "</Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Size>12345678901234567890123456789</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><Contents><Size>1e3</Size></Contents></ListBucketResult>"};

    (void)state;
    for (size_t i = 0; i < count_of(bodies); i++) {
        Seen seen = {.text = buf_new(1 << 10)};
        AnswerPage page;
        Err e = {0};

        trying(bodies[i]);
        assert_fails(answer_objects(bodies[i], strlen(bodies[i]), see, &seen, &page, &e),
            ERR_STORAGE_UNAVAILABLE, &e);
        assert_int_equal(seen.text.bytes, 0);
    }
}

/* A visit that has enough ends it, with its own reason. */
static void
test_a_list_that_is_stopped(void **state)
{
    Seen seen = {.text = buf_new(1 << 10), .stop_at = 1};
    AnswerPage page;
    Err e = {0};

    (void)state;
    assert_fails(answer_objects(lists[1].body, strlen(lists[1].body), see, &seen, &page, &e),
        ERR_CANCELLED, &e);
    assert_int_equal(e.links, 1);
    assert_string_equal(seen.text.data, "exports/u/a b+c%.csv||434234|1704196800000000\n");
    buf_free(&seen.text);
}

/* The longest key there is, encoded at its longest; and one byte more. */
static void
test_long_keys(void **state)
{
    (void)state;
    for (int chars = STORAGE_KEY_BYTES; chars <= STORAGE_KEY_BYTES + 1; chars++)
        for (int encoded = 0; encoded < 2; encoded++) {
            Buf body = buf_new(1 << 20);
            Seen seen = {.text = buf_new(1 << 20)};
            AnswerPage page;
            Err e = {0};

            buf_printf(&body, "<ListBucketResult>%s<Contents><Key>",
                encoded ? "<EncodingType>url</EncodingType>" : "");
            for (int i = 0; i < chars; i++)
                buf_text(&body, encoded ? "%41" : "A");
            buf_text(&body, "</Key></Contents><Contents><Key>b</Key></Contents>");
            buf_text(&body, "</ListBucketResult>");
            assert_ok(answer_objects(body.data, body.bytes, see, &seen, &page, &e), &e);
            assert_int_equal(page.entries, 2);
            assert_int_equal(
                seen.text.bytes, chars > STORAGE_KEY_BYTES ? 7 : STORAGE_KEY_BYTES + 6 + 7);
            buf_free(&body);
            buf_free(&seen.text);
        }
}

static void
test_parts(void **state)
{
    static const struct {
        const char *body;
        size_t want;
    } cases[] = {
        {XML "<ListPartsResult" NS "><Bucket>b</Bucket><Key>a</Key><UploadId>i</UploadId>"
             "<IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><ETag>1</ETag><Size>"
             "5</Size></Part><Part><PartNumber>2</PartNumber></Part></ListPartsResult>",
            2},
        {"<ListPartsResult><UploadId>i</UploadId></ListPartsResult>", 0},
    };
    size_t parts;
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        assert_ok(answer_parts(cases[i].body, strlen(cases[i].body), &parts, &e), &e);
        assert_int_equal(parts, cases[i].want);
    }
    assert_fails(answer_parts("<a/>", 4, &parts, &e), ERR_STORAGE_UNAVAILABLE, &e);
}

/* --- what was not deleted --- */

static bool
note_refused(const char *key, const char *code, const char *message, void *with)
{
    Seen *seen = with;

    buf_printf(&seen->text, "%s|%s|%s\n", key, code, message);
    return seen->stop_at == 0 || --seen->stop_at > 0;
}

static void
test_deleted(void **state)
{
    static const struct {
        const char *name, *body, *want;
        size_t stop_at;
    } cases[] = {
        {"all gone, quiet", XML "<DeleteResult" NS "></DeleteResult>", "", 0},
        {"versitygw is not quiet",
            XML "<DeleteResult" NS "><Deleted><Key>exports/u/a</Key></Deleted><Deleted><Key>"
                "exports/u/b</Key></Deleted></DeleteResult>",
            "", 0},
        {"locked",
            XML "<DeleteResult" NS "><Deleted><Key>a</Key></Deleted><Error><Key>exports/u/b&amp;c"
                "</Key><Code>AccessDenied</Code><Message>Access\nDenied</Message></Error><Error>"
                "<Key>d</Key><Code>InternalError</Code></Error></DeleteResult>",
            "exports/u/b&c|AccessDenied|Access?Denied\nd|InternalError|\n", 0},
        {"enough",
            "<DeleteResult><Error><Key>a</Key></Error><Error><Key>b</Key></Error></DeleteResult>",
            "a||\n", 1},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Seen seen = {.text = buf_new(1 << 10), .stop_at = cases[i].stop_at};
        Err e = {0};

        trying(cases[i].name);
        assert_ok(
            answer_deleted(cases[i].body, strlen(cases[i].body), note_refused, &seen, &e), &e);
        assert_string_equal(seen.text.data, cases[i].want);
        buf_free(&seen.text);
    }
}

/* --- credentials --- */

static void
test_credentials(void **state)
{
    static const char role[] =
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
        "<AssumeRoleResult><SourceIdentity>x</SourceIdentity><AssumedRoleUser><Arn>a</Arn>"
        "</AssumedRoleUser><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>"
        "wJalrXUtnFEMI/K7MDENG</SecretAccessKey><SessionToken>\nAQoDYXdzEPT//////////wEX==\n"
        "</SessionToken><Expiration>2024-01-02T12:00:00Z</Expiration></Credentials>"
        "</AssumeRoleResult></AssumeRoleResponse>";
    static const char web[] =
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        "<SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey><Expiration>"
        "2024-01-02T12:00:00.5Z</Expiration><AccessKeyId>k</AccessKeyId></Credentials>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
    static const char *const bad[] = {"", "<Error/>", "<AssumeRoleResponse/>",
        "<AssumeRoleResponse><Credentials><AccessKeyId>k</AccessKeyId><SecretAccessKey>s"
        "</SecretAccessKey></Credentials></AssumeRoleResponse>",
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>k</AccessKeyId>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>k</AccessKeyId>"
        "<SecretAccessKey>s</SecretAccessKey><Expiration>soon</Expiration></Credentials>"
        "</AssumeRoleResult></AssumeRoleResponse>"};
    static const S3Keys nothing;
    S3Keys keys;
    Err e = {0};

    (void)state;
    assert_ok(answer_credentials(role, strlen(role), &keys, &e), &e);
    assert_string_equal(keys.access_key, "ASIA1");
    assert_string_equal(keys.secret_key, "wJalrXUtnFEMI/K7MDENG");
    assert_string_equal(keys.token, "AQoDYXdzEPT//////////wEX==");
    assert_int_equal(keys.ends_wall_s, 1704196800);
    assert_ok(answer_credentials(web, strlen(web), &keys, &e), &e);
    assert_string_equal(keys.access_key, "k");
    assert_string_equal(keys.secret_key, "s");
    assert_string_equal(keys.token, "t");
    for (size_t i = 0; i < count_of(bad); i++) {
        trying(bad[i]);
        err_clear(&e);
        assert_fails(
            answer_credentials(bad[i], strlen(bad[i]), &keys, &e), ERR_STORAGE_UNAVAILABLE, &e);
        assert_memory_equal(&keys, &nothing, sizeof keys);
        assert_null(strstr(err_root(&e), "wJalr"));
    }
}

/* What we write is what comes back. */
static void
test_writing(void **state)
{
    static const char key[] = "exports/u/<a>&\"b'\r\n\t\x7f é";
    Buf body = buf_new(1 << 10), want = buf_new(1 << 10);
    Seen seen = {.text = buf_new(1 << 10)};
    Err e = {0};

    (void)state;
    buf_text(&body, "<DeleteResult><Error><Key>");
    answer_put_text(&body, key, strlen(key));
    buf_text(&body, "</Key></Error></DeleteResult>");
    assert_null(strpbrk(body.data, "\r\n\t\x7f"));
    assert_ok(answer_deleted(body.data, body.bytes, note_refused, &seen, &e), &e);
    buf_printf(&want, "%s||\n", key);
    assert_string_equal(seen.text.data, want.data);
    buf_free(&body);
    buf_free(&want);
    buf_free(&seen.text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_no_errors),
        cmocka_unit_test(test_a_long_message),
        cmocka_unit_test(test_one_value),
        cmocka_unit_test(test_a_long_id),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_cut_lists),
        cmocka_unit_test(test_wrong_lists),
        cmocka_unit_test(test_a_list_that_is_stopped),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_writing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
