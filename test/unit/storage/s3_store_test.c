/* Lists, deleting and tidying against a store of one thread that says exactly what the case wants:
 * lists that do not end, batches that are not known, what real servers seldom show. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "storage/s3/s3_in.h"
#include "test/contract/s3_spec.h"
#include "test/test.h"

enum { ASKED_MAX = 64, ASKED_BYTES = 512, REQUEST_BYTES = 64 << 10, MANY = 100000 };

typedef struct {
    const char *when; /* stands in the request line */
    int status;
    const char *body;
    int times; /* 0: as often as it is asked */
} Line;

static int listener;
static char endpoint[64];
static pthread_t server;
static atomic_bool stops;
static Line script[8];
static char asked[ASKED_MAX][ASKED_BYTES]; /* request lines, without the signature's headers */
static char last_body[REQUEST_BYTES];
static atomic_int asks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all above */

static void
say(int i, Line line)
{
    pthread_mutex_lock(&lock);
    script[i] = line;
    pthread_mutex_unlock(&lock);
}

static bool
read_request(int fd, char *request)
{
    size_t bytes = 0, body = 0, head = 0;

    while (head == 0 || bytes < head + body) {
        ssize_t got = read(fd, request + bytes, REQUEST_BYTES - 1 - bytes);
        char *end, *length;

        if (got <= 0)
            return false;
        bytes += (size_t)got;
        request[bytes] = '\0';
        if (head == 0 && (end = strstr(request, "\r\n\r\n"))) {
            head = (size_t)(end - request) + 4;
            length = strcasestr(request, "content-length:");
            body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
        }
    }
    pthread_mutex_lock(&lock);
    (void)text_copy(last_body, sizeof last_body, request + head);
    pthread_mutex_unlock(&lock);
    return true;
}

/* The first line of the script that fits and is not used up. */
static const Line *
find_line(const char *request)
{
    static const Line nothing = {"", 500, "", 0};

    for (Line *line = script; line < script + count_of(script) && line->when; line++)
        if (line->times >= 0 && strstr(request, line->when)) {
            if (line->times > 0 && --line->times == 0)
                line->times = -1;
            return line;
        }
    return &nothing;
}

static void
serve_one(int fd)
{
    static char request[REQUEST_BYTES];
    char head[256];
    const Line *line;
    ssize_t wrote;

    if (read_request(fd, request)) {
        pthread_mutex_lock(&lock);
        request[strcspn(request, "\r")] = '\0';
        (void)text_copy(asked[asks % ASKED_MAX], ASKED_BYTES, request);
        asks++;
        line = find_line(request);
        snprintf(head, sizeof head,
            "HTTP/1.1 %d Said\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", line->status,
            strlen(line->body));
        wrote = write(fd, head, strlen(head));
        if (strncmp(request, "HEAD", 4) != 0)
            wrote = write(fd, line->body, strlen(line->body));
        (void)wrote;
        pthread_mutex_unlock(&lock);
    }
    close(fd);
}

static void *
serve(void *with)
{
    struct pollfd wait = {.fd = listener, .events = POLLIN};

    (void)with;
    while (!stops)
        if (poll(&wait, 1, 20) == 1)
            serve_one(accept(listener, NULL, NULL));
    return NULL;
}

static Storage *
open_store(void)
{
    StorageSpec spec = {.s3 = s3_spec_new()};
    Storage *storage;
    Err e = {0};

    spec.s3.bucket = "buck";
    spec.s3.region = "us-east-1";
    spec.s3.endpoint = endpoint;
    spec.s3.access_key = "AKID";
    spec.s3.secret_key = "secret";
    spec.s3.access_key_name = "S3_ACCESS_KEY";
    assert_ok(storage = storage_s3.open(&spec, &e), &e);
    return storage;
}

static int
set_up(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;

    memset(script, 0, sizeof script);
    asks = 0;
    stops = false;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    *state = open_store();
    return 0;
}

static int
tear_down(void **state)
{
    storage_s3.close(*state);
    stops = true;
    pthread_join(server, NULL);
    return close(listener);
}

static bool
has_asked(const char *part)
{
    bool found = false;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < asks && i < ASKED_MAX; i++)
        found = found || strstr(asked[i], part);
    pthread_mutex_unlock(&lock);
    return found;
}

/* --- lists --- */

#define PAGE(members)                                                                              \
    "<ListBucketResult><IsTruncated>true</IsTruncated>" members "</ListBucketResult>"
#define LAST(members) "<ListBucketResult>" members "</ListBucketResult>"
#define TOKEN(token) "<NextContinuationToken>" token "</NextContinuationToken>"
#define KEY(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"

typedef struct {
    Buf keys; /* "a b " */
    unsigned count;
} Seen;

static bool
see(const StorageObject *object, void *with, Err *e)
{
    Seen *seen = with;

    (void)e;
    if (seen->count++ < 16)
        buf_printf(&seen->keys, "%s ", object->key);
    return seen->count < MANY;
}

static void
test_pages(void **state)
{
    Seen seen = {.keys = buf_new(4 << 10)};
    Storage *s = *state;
    Err e = {0};

    /* An empty page, a page without a token, keys that were not asked for. */
    say(0, (Line){"continuation-token=t%2F1", 200, PAGE(KEY("exports/u/b")), 0});
    say(1, (Line){"start-after=exports%2Fu%2Fb", 200,
               LAST(KEY("exports/u/c") KEY("exports/v/d") KEY("other/e")), 0});
    say(2, (Line){"list-type=2", 200, PAGE(TOKEN("t/1")), 0});
    assert_ok(s->kind->list(s, "exports/u/", see, &seen, &e), &e);
    assert_string_equal(seen.keys.data, "exports/u/b exports/u/c ");
    assert_int_equal(asks, 3);
    assert_true(has_asked("prefix=exports%2Fu%2F"));
    buf_free(&seen.keys);
}

static void
test_pages_of_the_first_version(void **state)
{
    Seen seen = {.keys = buf_new(4 << 10)};
    Storage *s = *state;
    Err e = {0};

    ((S3Storage *)s)->spec.list_version = 1;
    say(0, (Line){"marker=exports%2Fu%2Fa", 200, LAST(KEY("exports/u/b")), 0});
    say(1, (Line){"GET ", 200, PAGE(KEY("exports/u/a")), 0});
    assert_ok(s->kind->list(s, "exports/u/", see, &seen, &e), &e);
    assert_string_equal(seen.keys.data, "exports/u/a exports/u/b ");
    assert_false(has_asked("list-type"));
    buf_free(&seen.keys);
}

/* However long the circle is. */
static void
test_circles(void **state)
{
    Storage *s = *state;

    for (int length = 1; length <= 7; length++) {
        char bodies[7][256], whens[7][64];
        Seen seen = {.keys = buf_new(4 << 10)};
        Err e = {0};

        for (int i = 0; i < length; i++) {
            pthread_mutex_lock(&lock); /* the script may still point there */
            snprintf(whens[i], sizeof whens[i], "continuation-token=t%d&", i);
            snprintf(bodies[i], sizeof bodies[i], PAGE(TOKEN("t%d") KEY("exports/u/a")),
                (i + 1) % length);
            pthread_mutex_unlock(&lock);
            say(i, (Line){whens[i], 200, bodies[i], 0});
        }
        say(length, (Line){"GET ", 200, PAGE(TOKEN("t0")), 0});
        asks = 0;
        assert_fails(s->kind->list(s, "exports/", see, &seen, &e), ERR_STORAGE_UNAVAILABLE, &e);
        assert_says(&e, "circles");
        assert_true(asks <= 4 * length + 4);
        buf_free(&seen.keys);
    }
}

static void
test_lists_that_are_none(void **state)
{
    static const struct {
        const char *name;
        int status;
        const char *body;
        ErrCode code;
        const char *says;
    } cases[] = {
        {"no way on", 200, PAGE(""), ERR_STORAGE_UNAVAILABLE, "does not say where"},
        {"another document", 200, "<html/>", ERR_STORAGE_UNAVAILABLE, "another document"},
        {"cut short", 200, "<ListBucketResult><Contents>", ERR_STORAGE_UNAVAILABLE, "no element"},
        {"refused", 403, "<Error><Code>AccessDenied</Code></Error>", ERR_STORAGE_DENIED,
            "AccessDenied"},
        {"no bucket", 404, "<Error><Code>NoSuchBucket</Code></Error>", ERR_STORAGE_DENIED,
            "S3_BUCKET"},
    };
    Storage *s = *state;

    for (size_t i = 0; i < count_of(cases); i++) {
        Seen seen = {.keys = buf_new(4 << 10)};
        Err e = {0};

        trying(cases[i].name);
        say(0, (Line){"GET ", cases[i].status, cases[i].body, 0});
        assert_fails(s->kind->list(s, "exports/", see, &seen, &e), cases[i].code, &e);
        assert_says(&e, cases[i].says);
        assert_int_equal(seen.count, 0);
    }
    for (size_t i = 0; i < 3; i++) {
        static const char *const prefixes[] = {"", "other/", "export"};
        Err e = {0};

        assert_fails(s->kind->list(s, prefixes[i], see, NULL, &e), ERR_INVALID_KEY, &e);
    }
}

/* --- deleting --- */

static const char *const keys[] = {"exports/u/a", "exports/u/b", "exports/u/c&d"};

static void
note_refused(size_t i, const Err *why, void *with)
{
    Buf *to = with;

    buf_printf(to, "%s %s ", keys[i], err_name(why->code));
}

static void
remove_all(Storage *s, Buf *refused)
{
    Err e = {0};

    assert_ok(s->kind->remove_many(s, keys, count_of(keys), note_refused, refused, &e), &e);
}

/* What a batch could not delete is tried alone, and that decides. */
static void
test_a_batch_in_part(void **state)
{
    Buf refused = buf_new(4 << 10);
    Storage *s = *state;

    say(0, (Line){"POST ", 200,
               "<DeleteResult><Error><Key>exports/u/b</Key><Code>InternalError</Code></"
               "Error><Error><Key>"
               "exports/u/c&amp;d</Key><Code>AccessDenied</Code></Error></DeleteResult>",
               0});
    say(1, (Line){"/exports/u/b ", 204, "", 0});
    say(2, (Line){"DELETE ", 403, "<Error><Code>AccessDenied</Code></Error>", 0});
    remove_all(s, &refused);
    assert_string_equal(refused.data, "exports/u/c&d storage-denied ");
    assert_int_equal(asks, 3);
    assert_false(((S3Storage *)s)->no_batch);
    buf_free(&refused);
}

static void
test_what_a_batch_says(void **state)
{
    Buf refused = buf_new(4 << 10);
    Storage *s = *state;

    say(0, (Line){"POST ", 200, "<DeleteResult/>", 0});
    remove_all(s, &refused);
    assert_string_equal(last_body,
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
        "<Object><Key>exports/u/a</Key></Object><Object><Key>exports/u/b</Key></Object>"
        "<Object><Key>exports/u/c&amp;d</Key></Object></Delete>");
    assert_true(has_asked("POST /buck?delete= "));
    assert_int_equal(refused.bytes, 0);
}

/* A store that has no batches is not asked for one again. */
static void
test_no_batches(void **state)
{
    static const int statuses[] = {501, 405};
    Storage *s = *state;

    for (size_t i = 0; i < count_of(statuses); i++) {
        Buf refused = buf_new(4 << 10);

        ((S3Storage *)s)->no_batch = false;
        say(0, (Line){"POST ", statuses[i], "", 0});
        say(1, (Line){"/exports/u/a ", 404, "<Error><Code>NoSuchKey</Code></Error>", 0});
        say(2, (Line){"DELETE ", 204, "", 0});
        asks = 0;
        remove_all(s, &refused);
        assert_int_equal(asks, 4);
        remove_all(s, &refused);
        assert_int_equal(asks, 7);
        assert_int_equal(refused.bytes, 0);
    }
}

/* One that the store does not like in a batch: this batch goes one by one, the next is one again.
 */
static void
test_a_batch_that_is_refused(void **state)
{
    Buf refused = buf_new(4 << 10);
    Storage *s = *state;

    say(0, (Line){"POST ", 400, "<Error><Code>MalformedXML</Code></Error>", 1});
    say(1, (Line){"POST ", 200, "<DeleteResult/>", 0});
    say(2, (Line){"DELETE ", 204, "", 0});
    remove_all(s, &refused);
    assert_int_equal(asks, 4);
    remove_all(s, &refused);
    assert_int_equal(asks, 5);
    buf_free(&refused);
}

static void
test_batches_that_fail(void **state)
{
    static const struct {
        const char *name;
        int status;
        const char *body;
        ErrCode code;
    } cases[] = {
        {"refused", 403, "<Error><Code>AccessDenied</Code></Error>", ERR_STORAGE_DENIED},
        {"a 200 that is none", 200, "<Error><Code>InternalError</Code></Error>",
            ERR_STORAGE_UNAVAILABLE},
        {"cut short", 200, "<DeleteResult>", ERR_STORAGE_UNAVAILABLE},
        {"nothing", 200, "", ERR_STORAGE_UNAVAILABLE},
    };
    Storage *s = *state;

    for (size_t i = 0; i < count_of(cases); i++) {
        Buf refused = buf_new(4 << 10);
        Err e = {0};

        trying(cases[i].name);
        say(0, (Line){"POST ", cases[i].status, cases[i].body, 0});
        assert_fails(s->kind->remove_many(s, keys, count_of(keys), note_refused, &refused, &e),
            cases[i].code, &e);
        assert_int_equal(refused.bytes, 0);
    }
    assert_false(has_asked("DELETE"));
}

/* --- unfinished uploads --- */

#define UPLOADS(members) "<ListMultipartUploadsResult>" members "</ListMultipartUploadsResult>"
#define UPLOAD(key, id) "<Upload><Key>" key "</Key><UploadId>" id "</UploadId></Upload>"
#define GOES_ON "<IsTruncated>true</IsTruncated>"
#define GONE "<Error><Code>NoSuchUpload</Code></Error>"

static bool
keep_some(const UnfinishedUpload *upload, void *with)
{
    ++*(unsigned *)with;
    assert_true(text_starts(upload->key, "exports/"));
    return strcmp(upload->id, "kept") == 0;
}

/* Without a prefix MinIO tells what it would not tell with one; others' keys are left alone. */
static void
test_uploads_without_a_prefix(void **state)
{
    Storage *s = *state;
    unsigned visits = 0;
    uint64_t removed;
    Err e = {0};

    say(0, (Line){"prefix=", 200, UPLOADS(""), 0});
    say(1, (Line){"uploads=", 200,
               UPLOADS(UPLOAD("exports/u/a", "left") UPLOAD("exports/u/b", "kept")
                       UPLOAD("other/c", "of-others")),
               0});
    say(2, (Line){"DELETE ", 204, "", 0});
    say(3, (Line){"uploadId=", 404, GONE, 0});
    assert_ok(s->kind->tidy(s, keep_some, &visits, &removed, &e), &e);
    assert_int_equal(removed, 1);
    assert_int_equal(visits, 2);
    assert_true(has_asked("DELETE /buck/exports/u/a?uploadId=left "));
    assert_false(has_asked("DELETE /buck/other"));
}

/* Who may see uploads only below the prefix is not told of a failure. */
static void
test_uploads_of_ours_alone(void **state)
{
    Storage *s = *state;
    unsigned visits = 0;
    uint64_t removed;
    Err e = {0};

    say(0, (Line){"prefix=", 200, UPLOADS(""), 0});
    say(1, (Line){"uploads=", 403, "<Error><Code>AccessDenied</Code></Error>", 0});
    assert_ok(s->kind->tidy(s, keep_some, &visits, &removed, &e), &e);
    assert_int_equal(removed, 0);
}

/* A store that does not know its own marker (versitygw), and goes on by key. */
static void
test_uploads_go_on_by_key(void **state)
{
    Storage *s = *state;
    unsigned visits = 0;
    uint64_t removed;
    Err e = {0};

    say(0, (Line){"upload-id-marker=", 400, "<Error><Code>InvalidArgument</Code></Error>", 0});
    say(1, (Line){"key-marker=exports%2Fu%2Fa", 200, UPLOADS(UPLOAD("exports/u/b", "2")), 0});
    say(2, (Line){"uploads=", 200,
               UPLOADS(
                   GOES_ON UPLOAD("exports/u/a", "1") "<NextKeyMarker>exports/u/a</NextKeyMarker>"
                                                      "<NextUploadIdMarker>1</NextUploadIdMarker>"),
               0});
    say(3, (Line){"DELETE ", 204, "", 0});
    say(4, (Line){"uploadId=", 404, GONE, 0});
    assert_ok(s->kind->tidy(s, keep_some, &visits, &removed, &e), &e);
    assert_int_equal(removed, 2);
}

static void
test_uploads_in_circles(void **state)
{
    Storage *s = *state;
    unsigned visits = 0;
    uint64_t removed;
    Err e = {0};

    say(0, (Line){"uploads=", 200,
               UPLOADS(GOES_ON UPLOAD(
                   "exports/u/a", "kept") "<NextKeyMarker>exports/u/a</NextKeyMarker>"),
               0});
    assert_fails(s->kind->tidy(s, keep_some, &visits, &removed, &e), ERR_STORAGE_UNAVAILABLE, &e);
    assert_says(&e, "circles");
    assert_true(asks < 5);
}

/* A store without that list: nothing to do, and nothing is wrong. */
static void
test_no_list_of_uploads(void **state)
{
    Storage *s = *state;
    unsigned visits = 0;
    uint64_t removed = 7;
    Err e = {0};

    say(0, (Line){"uploads=", 501, "<Error><Code>NotImplemented</Code></Error>", 0});
    for (int i = 0; i < 2; i++) {
        assert_ok(s->kind->tidy(s, keep_some, &visits, &removed, &e), &e);
        assert_int_equal(removed, 0);
    }
}

/* One that cannot be ended does not keep the others, and is not forgotten. */
static void
test_an_upload_that_stays(void **state)
{
    Storage *s = *state;
    unsigned visits = 0;
    uint64_t removed;
    Err e = {0};

    say(0, (Line){"DELETE /buck/exports/u/a", 403, "<Error><Code>AccessDenied</Code></Error>", 0});
    say(1, (Line){"DELETE ", 204, "", 0});
    say(2, (Line){"uploadId=", 404, GONE, 0});
    say(3,
        (Line){"uploads=", 200, UPLOADS(UPLOAD("exports/u/a", "1") UPLOAD("exports/u/b", "2")), 0});
    assert_fails(s->kind->tidy(s, keep_some, &visits, &removed, &e), ERR_STORAGE_DENIED, &e);
    assert_says(&e, "1 unfinished uploads could not be removed");
    assert_int_equal(removed, 1);
}

int
main(void)
{
#define CHECK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CHECK(test_pages),
        CHECK(test_pages_of_the_first_version),
        CHECK(test_circles),
        CHECK(test_lists_that_are_none),
        CHECK(test_a_batch_in_part),
        CHECK(test_what_a_batch_says),
        CHECK(test_no_batches),
        CHECK(test_a_batch_that_is_refused),
        CHECK(test_batches_that_fail),
        CHECK(test_uploads_without_a_prefix),
        CHECK(test_uploads_of_ours_alone),
        CHECK(test_uploads_go_on_by_key),
        CHECK(test_uploads_in_circles),
        CHECK(test_no_list_of_uploads),
        CHECK(test_an_upload_that_stays),
    };
#undef CHECK

    return cmocka_run_group_tests(tests, NULL, NULL);
}
