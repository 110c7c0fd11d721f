/* storage/s3 against real servers of two makers: the contract, links followed over HTTP, lists of
 * several pages, names that are hard to write, unfinished uploads, and what is said when it fails.
 */
#include <ctype.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"
#include "net/http.h"
#include "storage/s3/s3_in.h"
#include "test/contract/s3_spec.h"
#include "test/contract/storage_contract.h"
#include "test/contract/watches.h"
#include "test/test.h"

enum { PART_BYTES = 5 << 20, LINK_S = 3600, DAY_S = 86400, WEEK_S = 7 * DAY_S };

/* The server that is tried now. */
static const char *name;
static char endpoint[256], bucket[256], region[64], access_key[128], secret_key[128];

static StorageSpec
spec_now(void)
{
    StorageSpec spec = {.s3 = s3_spec_new()};

    spec.s3.bucket = bucket;
    spec.s3.region = region;
    spec.s3.endpoint = endpoint;
    spec.s3.access_key = access_key;
    spec.s3.secret_key = secret_key;
    spec.s3.access_key_name = "S3_ACCESS_KEY";
    spec.s3.part_bytes = PART_BYTES;
    spec.s3.memory_bytes = 4 * PART_BYTES;
    spec.s3.parallel = 2;
    spec.s3.tries = 3;
    spec.s3.payload = "auto";
    spec.s3.checksum = "auto";
    spec.s3.idle_timeout_ms = 10000;
    return spec;
}

static Storage *
open_with(const StorageSpec *spec)
{
    Storage *storage;
    Err e = {0};

    assert_ok(storage = storage_s3.open(spec, &e), &e);
    return storage;
}

static Storage *
open_now(void)
{
    const StorageSpec spec = spec_now();

    return open_with(&spec);
}

/* --- emptying --- */

typedef struct {
    char *key[STORAGE_REMOVE_MAX];
    size_t keys;
} Keys;

static bool
note_key(const StorageObject *object, void *with, Err *e)
{
    Keys *keys = with;

    (void)e;
    if (keys->keys < STORAGE_REMOVE_MAX)
        keys->key[keys->keys++] = strdup(object->key);
    return true;
}

static void
must_not_be_refused(size_t i, const Err *why, void *with)
{
    const Keys *keys = with;

    fail_msg("%s is not deleted: %s", keys ? keys->key[i] : "a key", err_root(why));
}

static bool
keep_none(const UnfinishedUpload *upload, void *with)
{
    (void)with;
    assert_true(text_starts(upload->key, "exports/"));
    return false;
}

/* Nothing below the prefix, nor on its way there. */
static void
empty(Storage *s, const char *prefix)
{
    Keys keys;
    uint64_t removed;
    Err e = {0};

    do {
        keys.keys = 0;
        assert_ok(s->kind->list(s, prefix, note_key, &keys, &e), &e);
        assert_ok(s->kind->remove_many(
                      s, (const char *const *)keys.key, keys.keys, must_not_be_refused, &keys, &e),
            &e);
        for (size_t i = 0; i < keys.keys; i++)
            free(keys.key[i]);
    } while (keys.keys > 0);
    assert_ok(s->kind->tidy(s, keep_none, NULL, &removed, &e), &e);
}

static int
empty_all(void **state)
{
    Storage *s = open_now();

    (void)state;
    empty(s, "exports/");
    s->kind->close(s);
    return 0;
}

static void
test_empty(void **state)
{
    (void)empty_all(state);
}

/* --- links --- */

static int
follow(const char *method, const char *url, HttpAnswer *answer)
{
    const HttpCall call = {
        .method = method, .url = url, .timeout_ms = 10000, .answer_bytes_max = 64 << 10};
    HttpClient *client;
    Err e = {0};

    assert_ok(client = http_client_new("rowferry-test", &e), &e);
    assert_ok(http_call(client, &call, answer, &e), &e);
    http_client_free(client);
    return answer->status;
}

static int
status_of(const char *method, const char *url)
{
    HttpAnswer answer;
    int status = follow(method, url, &answer);

    http_answer_free(&answer);
    return status;
}

static int64_t
wall_s(void)
{
    return time_wall_us() / 1000000;
}

static int64_t
sign(Storage *s, const char *key, int64_t expires_s, char url[STORAGE_URL_BYTES])
{
    const SignSpec spec = {.base_url = "https://not.used",
        .name = "r\xc3\xa9port \"1\".csv",
        .content_type = "text/csv; charset=utf-8",
        .expires_wall_s = expires_s};
    int64_t ends_s;
    Err e = {0};

    assert_ok(s->kind->sign(s, key, &spec, url, STORAGE_URL_BYTES, &ends_s, &e), &e);
    return ends_s;
}

static void
test_a_link(void **state)
{
    static const char key[] = "exports/links/a b+c%41&d=\xc3\xa9\"'<>;,.csv";
    char url[STORAGE_URL_BYTES], again[STORAGE_URL_BYTES], text[512];
    Storage *s = open_now();
    int64_t expires_s = wall_s() + LINK_S;
    HttpAnswer answer;

    (void)state;
    storage_place(s, key, "hello");
    assert_int_equal(sign(s, key, expires_s, url), expires_s);
    assert_true(text_starts(url, endpoint));
    assert_int_equal(follow("GET", url, &answer), 200);
    assert_string_equal(answer.body.data, "hello");
    assert_true(http_header(&answer, "Content-Disposition", text, sizeof text));
    assert_string_equal(text, "attachment; filename=\"r_port _1_.csv\"; "
                              "filename*=UTF-8''r%C3%A9port%20%221%22.csv");
    assert_true(http_header(&answer, "Content-Type", text, sizeof text));
    assert_string_equal(text, "text/csv; charset=utf-8");
    http_answer_free(&answer);
    /* The same for all who ask within a quarter of an hour. */
    for (int i = 0; i < 2; i++) {
        sign(s, key, expires_s, url);
        sign(s, key, expires_s, again);
        if (strcmp(url, again) == 0)
            break;
    }
    assert_string_equal(url, again);
    assert_int_equal(status_of("HEAD", url), 403);
    s->kind->close(s);
}

/* Every part of the query, and the path. */
static void
test_altered_links(void **state)
{
    static const char key[] = "exports/links/altered.csv";
    char url[STORAGE_URL_BYTES], altered[STORAGE_URL_BYTES];
    Storage *s = open_now();
    size_t changed = 0;

    (void)state;
    storage_place(s, key, "hello");
    storage_place(s, "exports/links/altered.csw", "another");
    sign(s, key, wall_s() + LINK_S, url);
    for (char *at = strchr(url, '?') - 1; at; at = strpbrk(at + 1, "?&")) {
        char *value = *at == '&' || *at == '?' ? strchr(at, '=') + 1 : at;
        char *digit = value;

        /* A digit or letter of the value, so that it stays a value. */
        while (*digit && !isalnum((unsigned char)*digit))
            digit++;
        memcpy(altered, url, sizeof altered);
        altered[digit - url] = *digit == 'a'                    ? 'b'
                               : *digit == '1'                  ? '2'
                               : *digit == 'v'                  ? 'w'
                               : isdigit((unsigned char)*digit) ? '1'
                                                                : 'a';
        print_message("trying: %s\n", altered);
        assert_in_range(status_of("GET", altered), 400, 499);
        changed++;
    }
    assert_int_equal(changed, 9);
    assert_int_equal(status_of("GET", url), 200);
    s->kind->close(s);
}

/* What a link says of its own life, in seconds. */
static int64_t
life_of(const char *url)
{
    const char *at = strstr(url, "X-Amz-Expires=");

    assert_non_null(at);
    return strtoll(at + strlen("X-Amz-Expires="), NULL, 10);
}

static void
test_the_end_of_a_link(void **state)
{
    static const char key[] = "exports/links/ends.csv";
    char url[STORAGE_URL_BYTES];
    Storage *s = open_now();
    int64_t now_s;
    Err e = {0};

    (void)state;
    storage_place(s, key, "hello");
    now_s = wall_s();
    assert_int_equal(sign(s, key, now_s + 3, url), now_s + 3);
    assert_int_equal(status_of("GET", url), 200);
    while (wall_s() < now_s + 5)
        usleep(100000);
    assert_int_equal(status_of("GET", url), 403);
    now_s = wall_s();
    sign(s, key, now_s + DAY_S, url);
    assert_in_range(life_of(url), DAY_S, DAY_S + 900);
    assert_int_equal(status_of("GET", url), 200);
    /* Never more than a week, and not a second less. */
    now_s = wall_s();
    assert_int_equal(sign(s, key, now_s + WEEK_S, url), now_s + WEEK_S);
    assert_in_range(life_of(url), WEEK_S - 1, WEEK_S);
    assert_int_equal(status_of("GET", url), 200);
    assert_fails(s->kind->sign(s, key, &(SignSpec){.name = "a", .expires_wall_s = now_s - 10}, url,
                     sizeof url, &now_s, &e),
        ERR_INTERNAL, &e);
    s->kind->close(s);
}

/* People reach the store by another name than we do. */
static void
test_a_public_endpoint(void **state)
{
    static const char key[] = "exports/links/public.csv";
    char url[STORAGE_URL_BYTES], public[256];
    StorageSpec spec = spec_now();
    Storage *s;

    (void)state;
    snprintf(public, sizeof public, "http://localhost%s", strrchr(endpoint, ':'));
    spec.s3.public_endpoint = public;
    s = open_with(&spec);
    storage_place(s, key, "hello");
    sign(s, key, wall_s() + LINK_S, url);
    assert_true(text_starts(url, public));
    assert_int_equal(status_of("GET", url), 200);
    s->kind->close(s);
}

/* Credentials that end: so does the link, and it says so; a key for links alone does not. */
static void
test_credentials_that_end(void **state)
{
    static const char key[] = "exports/links/credentials.csv";
    char path[] = "/tmp/rowferry_test_XXXXXX", text[1024], when[TIME_TEXT_BYTES];
    char url[STORAGE_URL_BYTES];
    StorageSpec spec = spec_now();
    int64_t now_s = wall_s();
    int fd = mkstemp(path);
    Storage *s;

    (void)state;
    assert_true(fd >= 0);
    snprintf(text, sizeof text,
        "[profile ends]\n"
        "credential_process = /bin/echo '{\"Version\": 1, \"AccessKeyId\": \"%s\", "
        "\"SecretAccessKey\": \"%s\", \"Expiration\": \"%s\"}'\n",
        access_key, secret_key, time_rfc3339_ms((now_s + LINK_S) * 1000000, when));
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    spec.s3.access_key = spec.s3.secret_key = "";
    spec.s3.profile = "ends";
    spec.s3.config_file = path;
    s = open_with(&spec);
    storage_place(s, key, "hello");
    assert_int_equal(sign(s, key, now_s + DAY_S, url), now_s + LINK_S - 60);
    assert_int_equal(status_of("GET", url), 200);
    assert_int_equal(sign(s, key, now_s + 600, url), now_s + 600);
    s->kind->close(s);
    spec.s3.sign_access_key = access_key;
    spec.s3.sign_secret_key = secret_key;
    s = open_with(&spec);
    assert_int_equal(sign(s, key, now_s + DAY_S, url), now_s + DAY_S);
    assert_int_equal(status_of("GET", url), 200);
    s->kind->close(s);
    unlink(path);
}

/* --- lists and deleting --- */

static const char *const hard_keys[] = {"exports/hard/ blank .csv", "exports/hard/a+b.csv",
    "exports/hard/100%.csv", "exports/hard/%2F%20.csv", "exports/hard/\"quotes\"'.csv",
    "exports/hard/a&b;c=d?e#f.csv", "exports/hard/<xml>&amp;.csv",
    "exports/hard/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80.csv", "exports/hard/e\xcc\x81.csv",
    "exports/hard/~!@$^*()_-{}[]|:,.csv", "exports/hard/\xe2\x80\xae.csv"};

static bool
tick_key(const StorageObject *object, void *with, Err *e)
{
    unsigned *seen = with;

    (void)e;
    for (size_t i = 0; i < count_of(hard_keys); i++)
        if (strcmp(object->key, hard_keys[i]) == 0) {
            assert_false(*seen >> i & 1);
            *seen |= 1U << i;
            return true;
        }
    fail_msg("a key that was not written: %s", object->key);
    return false;
}

/* However it is asked, a list names what was written. */
static void
test_hard_names(void **state)
{
    Storage *s = open_now();
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < count_of(hard_keys); i++)
        storage_place(s, hard_keys[i], "hard");
    s->kind->close(s);
    for (unsigned version = 1; version <= 2; version++)
        for (int encoded = 0; encoded < 2; encoded++) {
            StorageSpec spec = spec_now();
            unsigned seen = 0;

            print_message("trying: version %u, encoded %d\n", version, encoded);
            spec.s3.list_version = version;
            spec.s3.url_encode = encoded;
            s = open_with(&spec);
            assert_ok(s->kind->list(s, "exports/hard/", tick_key, &seen, &e), &e);
            assert_int_equal(seen, (1U << count_of(hard_keys)) - 1);
            s->kind->close(s);
        }
    s = open_now();
    for (size_t i = 0; i < count_of(hard_keys); i++) {
        StorageObject object;
        bool existed;

        trying(hard_keys[i]);
        assert_ok(s->kind->stat(s, hard_keys[i], &object, &e), &e);
        assert_int_equal(object.bytes, 4);
        assert_in_range(object.modified_wall_us / 1000000, wall_s() - 60, wall_s() + 60);
        if (i % 2 == 0)
            continue;
        assert_ok(s->kind->remove(s, hard_keys[i], &existed, &e), &e);
        assert_true(existed);
    }
    assert_ok(
        s->kind->remove_many(s, hard_keys, count_of(hard_keys), must_not_be_refused, NULL, &e), &e);
    assert_int_equal(storage_count(s, "exports/hard/"), 0);
    s->kind->close(s);
}

/* More than a page, and more than a batch; with and without the store's own batches. */
static void
test_many(void **state)
{
    enum { MANY = STORAGE_REMOVE_MAX + 5 };
    Storage *s = open_now();
    StorageSpec old = spec_now();
    Storage *other;
    Keys keys = {0};
    Err e = {0};

    (void)state;
    for (int i = 0; i < MANY; i++) {
        char key[64];

        snprintf(key, sizeof key, "exports/thousands/%04d & more.csv", i);
        storage_place(s, key, "x");
    }
    assert_int_equal(storage_count(s, "exports/thousands/"), MANY);
    old.s3.list_version = 1;
    other = open_with(&old);
    assert_int_equal(storage_count(other, "exports/thousands/"), MANY);
    other->kind->close(other);
    assert_ok(s->kind->list(s, "exports/thousands/", note_key, &keys, &e), &e);
    assert_int_equal(keys.keys, STORAGE_REMOVE_MAX);
    assert_ok(s->kind->remove_many(
                  s, (const char *const *)keys.key, keys.keys, must_not_be_refused, &keys, &e),
        &e);
    assert_false(((S3Storage *)s)->no_batch);
    assert_int_equal(storage_count(s, "exports/thousands/"), MANY - STORAGE_REMOVE_MAX);
    for (size_t i = 0; i < keys.keys; i++)
        free(keys.key[i]);
    keys.keys = 0;
    ((S3Storage *)s)->no_batch = true;
    assert_ok(s->kind->list(s, "exports/thousands/", note_key, &keys, &e), &e);
    assert_ok(s->kind->remove_many(
                  s, (const char *const *)keys.key, keys.keys, must_not_be_refused, &keys, &e),
        &e);
    for (size_t i = 0; i < keys.keys; i++)
        free(keys.key[i]);
    assert_int_equal(storage_count(s, "exports/thousands/"), 0);
    s->kind->close(s);
}

/* --- unfinished uploads --- */

/* An upload that no sink knows of. */
static void
begin(Storage *s, const char *key, char upload[S3_UPLOAD_BYTES])
{
    static const S3Pair query[] = {{"uploads", ""}};
    const S3Request request = {.operation = "CreateMultipartUpload",
        .method = "POST",
        .key = key,
        .query = query,
        .queries = 1};
    S3Answer answer;
    Err e = {0};

    assert_ok(client_call(((S3Storage *)s)->client, &request, &answer, NULL, &e), &e);
    assert_ok(answer_created(answer.http.body.data, answer.http.body.bytes, upload, &e), &e);
    client_answer_free(&answer);
}

typedef struct {
    char kept[S3_UPLOAD_BYTES];
    unsigned asked;
    int64_t began_us;
} Tidying;

static bool
keep_one(const UnfinishedUpload *upload, void *with)
{
    Tidying *tidying = with;

    assert_null(upload->task_id);
    assert_true(text_starts(upload->key, "exports/"));
    assert_in_range(upload->begun_wall_us, tidying->began_us - 5000000, time_wall_us() + 5000000);
    tidying->asked++;
    return strcmp(upload->id, tidying->kept) == 0;
}

static void
test_unfinished_uploads(void **state)
{
    char upload[S3_UPLOAD_BYTES], outside[S3_UPLOAD_BYTES];
    Tidying tidying = {.began_us = time_wall_us()};
    Storage *s = open_now();
    uint64_t removed;
    Err e = {0};

    (void)state;
    empty(s, "exports/");
    begin(s, "other/of-another-program.csv", outside);
    for (int i = 0; i < 3; i++) { /* three at one key, too */
        begin(s, "exports/unfinished/same +%.csv", upload);
        begin(s, i == 0 ? "exports/unfinished/a.csv" : "exports/unfinished/z.csv",
            i == 1 ? tidying.kept : upload);
    }
    assert_ok(s->kind->tidy(s, keep_one, &tidying, &removed, &e), &e);
    assert_int_equal(tidying.asked, 6);
    assert_int_equal(removed, 5);
    tidying.asked = 0;
    assert_ok(s->kind->tidy(s, keep_one, &tidying, &removed, &e), &e);
    assert_int_equal(tidying.asked, 1);
    assert_int_equal(removed, 0);
    assert_ok(s->kind->tidy(s, keep_none, NULL, &removed, &e), &e);
    assert_int_equal(removed, 1);
    /* What is not ours is still there: it can be listed by its parts. */
    {
        const S3Pair query[] = {{"uploadId", outside}};
        const S3Request request = {.operation = "ListParts",
            .method = "GET",
            .key = "other/of-another-program.csv",
            .query = query,
            .queries = 1};
        S3Answer answer;

        assert_ok(client_call(((S3Storage *)s)->client, &request, &answer, NULL, &e), &e);
        client_answer_free(&answer);
    }
    assert_ok(
        multipart_abort((S3Storage *)s, "other/of-another-program.csv", outside, NULL, &e), &e);
    s->kind->close(s);
}

/* More than one page of them, on the servers that make pages. */
static void
test_pages_of_uploads(void **state)
{
    enum { MANY = 1003 };
    char upload[S3_UPLOAD_BYTES];
    Storage *s = open_now();
    uint64_t removed, all = 0;
    Err e = {0};

    (void)state;
    empty(s, "exports/");
    for (int i = 0; i < MANY; i++) {
        char key[64];

        snprintf(key, sizeof key, "exports/pages/%04d.csv", i);
        begin(s, key, upload);
    }
    do { /* what one sweep leaves out at a page's end, the next one finds */
        assert_ok(s->kind->tidy(s, keep_none, NULL, &removed, &e), &e);
        all += removed;
    } while (removed > 0);
    assert_int_equal(all, MANY);
    s->kind->close(s);
}

/* --- what is said when it fails --- */

static void
test_what_is_wrong(void **state)
{
    static char elsewhere[256], silent[256];
    const struct {
        const char *what;
        S3Spec wrong; /* members that are set replace the right ones */
        ErrCode code;
        const char *says;
    } cases[] = {
        {"access key", {.access_key = "AKIDNOBODYKNOWSTHIS1"}, ERR_STORAGE_DENIED, "S3_ACCESS_KEY"},
        {"secret", {.secret_key = "anothersecretthatdoesnotfitit"}, ERR_STORAGE_DENIED,
            "S3_SECRET_KEY"},
        {"bucket", {.bucket = "rowferry-no-such-bucket"}, ERR_STORAGE_DENIED, "S3_BUCKET"},
        {"port", {.endpoint = silent}, ERR_STORAGE_UNAVAILABLE, "ListObjects"},
        {"scheme", {.endpoint = elsewhere}, ERR_STORAGE_UNAVAILABLE, "ListObjects"},
    };

    (void)state;
    snprintf(elsewhere, sizeof elsewhere, "https://127.0.0.1%s", strrchr(endpoint, ':'));
    snprintf(silent, sizeof silent, "http://127.0.0.1:1");
    for (size_t i = 0; i < count_of(cases); i++) {
        StorageSpec spec = spec_now();
        const S3Spec *wrong = &cases[i].wrong;
        Storage *s;
        Err e = {0};

        trying(cases[i].what);
        spec.s3.access_key = wrong->access_key ? wrong->access_key : spec.s3.access_key;
        spec.s3.secret_key = wrong->secret_key ? wrong->secret_key : spec.s3.secret_key;
        spec.s3.bucket = wrong->bucket ? wrong->bucket : spec.s3.bucket;
        spec.s3.endpoint = wrong->endpoint ? wrong->endpoint : spec.s3.endpoint;
        s = open_with(&spec);
        assert_fails(s->kind->check(s, &e), cases[i].code, &e);
        print_message("  %s\n", err_root(&e));
        assert_says(&e, cases[i].says);
        assert_null(strstr(err_root(&e), secret_key));
        s->kind->close(s);
    }
}

/* A region that is not the store's: learnt, and everything goes on, links too. */
static void
test_another_region(void **state)
{
    static const char key[] = "exports/region/a.csv";
    StorageSpec spec = spec_now();
    char url[STORAGE_URL_BYTES];
    Storage *s;
    Err e = {0};

    (void)state;
    spec.s3.region = "mars-north-1";
    s = open_with(&spec);
    assert_ok(s->kind->check(s, &e), &e);
    storage_place(s, key, "hello");
    sign(s, key, wall_s() + LINK_S, url);
    assert_int_equal(status_of("GET", url), 200);
    s->kind->close(s);
}

/* The work is told to end while the store does not answer. */
static void
test_told_to_end(void **state)
{
    StorageSpec spec = spec_now();
    TestWatch watch = watch_new();
    StorageObject object;
    int64_t started_ms = time_now_ms();
    Storage *s;
    Err e = {0};

    (void)state;
    spec.s3.endpoint = "http://127.0.0.1:1";
    spec.s3.tries = 50;
    s = open_with(&spec);
    s->watch = &watch.base;
    watch.ends_at_ms = started_ms + 300;
    watch.ends_with = ERR_GIVEN_BACK;
    assert_fails(s->kind->stat(s, "exports/u/a.csv", &object, &e), ERR_CANCELLED, &e);
    assert_true(time_now_ms() - started_ms < 3000);
    s->kind->close(s);
}

static int
try_server(const char *which, const char *where)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_link),
        cmocka_unit_test(test_altered_links),
        cmocka_unit_test(test_the_end_of_a_link),
        cmocka_unit_test(test_a_public_endpoint),
        cmocka_unit_test(test_credentials_that_end),
        cmocka_unit_test(test_hard_names),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_unfinished_uploads),
        cmocka_unit_test(test_pages_of_uploads),
        cmocka_unit_test(test_what_is_wrong),
        cmocka_unit_test(test_another_region),
        cmocka_unit_test(test_told_to_end),
    };
    const struct CMUnitTest emptying[] = {cmocka_unit_test(test_empty)};
    StorageSpec spec;
    int failed;

    name = which;
    if (!where || sscanf(where, "%255s %255s %63s %127s %127s", endpoint, bucket, region,
                      access_key, secret_key) != 5) {
        fprintf(stderr, "no %s to try: make unit starts one\n", which);
        return 1;
    }
    print_message("%s at %s\n", name, endpoint);
    spec = spec_now();
    failed = _cmocka_run_group_tests("emptying", emptying, 1, NULL, NULL);
    failed += storage_contract(which, &storage_s3, &spec, PART_BYTES + 1, multipart_let_go);
    failed += _cmocka_run_group_tests(which, tests, count_of(tests), NULL, empty_all);
    return failed;
}

int
main(void)
{
    int failed = try_server("minio", getenv("ROWFERRY_TEST_S3_MINIO"));

    return failed + try_server("versitygw", getenv("ROWFERRY_TEST_S3_VERSITYGW"));
}
