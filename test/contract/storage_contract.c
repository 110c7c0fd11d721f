#include "test/contract/storage_contract.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "test/contract/watches.h"
#include "test/test.h"

typedef struct {
    const StorageKind *kind;
    const StorageSpec *spec;
    Storage *storage;
    Arena *task;
    size_t outlives_bytes;
    void (*dies)(Sink *object);
    char *lasting; /* a text of so many bytes, one at least */
} UnderTest;

/* Room for the parts that a driver has in flight. */
enum { TASK_BYTES = 256 << 20 };

/* Group state; cmocka hands on only one pointer. */
static UnderTest now;

static int
open_it(void **state)
{
    Err e = {0};

    (void)state;
    now.task = arena_new(TASK_BYTES);
    assert_ok(now.storage = now.kind->open(now.spec, &e), &e);
    assert_ptr_equal(now.storage->kind, now.kind);
    return 0;
}

static int
close_it(void **state)
{
    (void)state;
    now.kind->close(now.storage);
    arena_free(now.task);
    return 0;
}

static Sink *
create(Storage *s, const char *key, const char *task_id, int64_t epoch, Arena *task, Err *e)
{
    static TestWatch watch;
    const Upload mark = {task_id, epoch, "text/csv", .name = "a b.csv", .attempt = 1};

    watch = watch_new();
    return s->kind->create(s, key, &mark, &watch.base, task, e);
}

/* The process that made it is gone, and its memory with it. */
static void
die(Sink *object)
{
    if (now.dies)
        now.dies(object);
}

Sink *
storage_seal(Storage *s, const char *key, const char *task_id, int64_t epoch, const char *bytes,
    Arena *task, char sealed[2048])
{
    Sink *sink;
    const char *text;
    Err e = {0};

    assert_ok(sink = create(s, key, task_id, epoch, task, &e), &e);
    assert_ok(sink_write(sink, bytes, strlen(bytes), &e), &e);
    assert_ok(sink_finish(sink, &e), &e);
    assert_ok(text = s->kind->sealed(sink, &e), &e);
    assert_null(strchr(text, '\n')); /* one line */
    assert_true(text_copy(sealed, 2048, text));
    return sink;
}

void
storage_place(Storage *s, const char *key, const char *bytes)
{
    Arena *task = arena_new(TASK_BYTES);
    char sealed[2048];
    Sink *sink = storage_seal(s, key, "placed", 1, bytes, task, sealed);
    Err e = {0};

    assert_ok(s->kind->publish(s, sealed, sink, &e), &e);
    arena_free(task);
}

static bool
count_object(const StorageObject *object, void *with, Err *e)
{
    (void)e;
    assert_true(storage_key_check(object->key, e));
    ++*(unsigned *)with;
    return true;
}

unsigned
storage_count(Storage *s, const char *prefix)
{
    unsigned count = 0;
    Err e = {0};

    assert_ok(s->kind->list(s, prefix, count_object, &count, &e), &e);
    return count;
}

static int64_t
bytes_of(const char *key)
{
    StorageObject object;
    Err e = {0};

    if (now.kind->stat(now.storage, key, &object, &e)) {
        assert_string_equal(object.key, key);
        return object.bytes;
    }
    assert_int_equal(e.code, ERR_NOT_FOUND);
    return -1;
}

static void
test_nothing_before_publish(void **state)
{
    static const char key[] = "exports/visible/a.csv";
    Sink *sink;
    const char *sealed;
    Err e = {0};

    (void)state;
    assert_ok(sink = create(now.storage, key, "t-visible", 1, now.task, &e), &e);
    assert_int_equal(bytes_of(key), -1);
    assert_ok(sink_write(sink, "hello ", 6, &e), &e);
    assert_ok(sink_write(sink, "", 0, &e), &e);
    assert_ok(sink_write(sink, "world", 5, &e), &e);
    assert_int_equal(bytes_of(key), -1);
    assert_ok(sink_finish(sink, &e), &e);
    assert_int_equal(bytes_of(key), -1);
    assert_int_equal(storage_count(now.storage, "exports/visible/"), 0);
    assert_ok(sealed = now.kind->sealed(sink, &e), &e);
    assert_ok(now.kind->publish(now.storage, sealed, sink, &e), &e);
    assert_int_equal(bytes_of(key), 11);
    assert_int_equal(sink->bytes_in, 11);
    assert_int_equal(storage_count(now.storage, "exports/visible/"), 1);
}

static void
test_an_empty_object(void **state)
{
    (void)state;
    storage_place(now.storage, "exports/empty/a.csv", "");
    assert_int_equal(bytes_of("exports/empty/a.csv"), 0);
    assert_int_equal(storage_count(now.storage, "exports/empty/"), 1);
}

static void
test_sealed_only_after_finish(void **state)
{
    Sink *sink;
    Err e = {0};

    (void)state;
    assert_ok(sink = create(now.storage, "exports/early/a.csv", "t-early", 1, now.task, &e), &e);
    assert_fails(now.kind->sealed(sink, &e), ERR_INTERNAL, &e);
    sink_abort(sink);
}

static void
test_publish_twice(void **state)
{
    static const char key[] = "exports/twice/a.csv";
    char sealed[2048];
    Sink *sink = storage_seal(now.storage, key, "t-twice", 1, "once", now.task, sealed);
    Err e = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_ok(now.kind->publish(now.storage, sealed, i == 1 ? NULL : sink, &e), &e);
        assert_int_equal(bytes_of(key), 4);
    }
    assert_int_equal(storage_count(now.storage, "exports/twice/"), 1);
}

/* The one that wrote it is gone: only what was sealed is left. */
static void
test_publish_by_a_later_owner(void **state)
{
    static const char key[] = "exports/later/a.csv";
    Arena *task = arena_new(TASK_BYTES);
    char sealed[2048];
    Err e = {0};

    (void)state;
    die(storage_seal(now.storage, key, "t-later", 3, now.lasting, task, sealed));
    arena_free(task);
    assert_ok(now.kind->publish(now.storage, sealed, NULL, &e), &e);
    assert_int_equal(bytes_of(key), strlen(now.lasting));
    assert_ok(now.kind->publish(now.storage, sealed, NULL, &e), &e);
}

/* A small object: it is there, or it is to be written again; nothing between. */
static void
test_a_small_one_by_a_later_owner(void **state)
{
    static const char key[] = "exports/later_small/a.csv";
    Arena *task = arena_new(TASK_BYTES);
    char sealed[2048];
    Err e = {0};

    (void)state;
    die(storage_seal(now.storage, key, "t-later-small", 3, "little", task, sealed));
    arena_free(task);
    if (now.kind->publish(now.storage, sealed, NULL, &e)) {
        assert_int_equal(bytes_of(key), 6);
    } else {
        assert_int_equal(e.code, ERR_FILE_GONE);
        assert_true(strlen("little") < now.outlives_bytes);
        assert_int_equal(bytes_of(key), -1);
    }
}

static void
test_another_has_the_key(void **state)
{
    static const char key[] = "exports/taken/a.csv";
    char sealed[2048];
    Sink *sink;
    Err e = {0};

    (void)state;
    sink = storage_seal(now.storage, key, "t-taken", 1, "mine", now.task, sealed);
    storage_place(now.storage, key, "another's");
    assert_fails(now.kind->publish(now.storage, sealed, sink, &e), ERR_EXISTS, &e);
    assert_int_equal(bytes_of(key), 9);
    err_clear(&e);
    assert_ok(now.kind->discard(now.storage, sealed, &e), &e);
    assert_int_equal(bytes_of(key), 9);
}

static void
test_discard(void **state)
{
    static const char key[] = "exports/discard/a.csv";
    char sealed[2048];
    Err e = {0};

    (void)state;
    die(storage_seal(now.storage, key, "t-discard", 1, "never", now.task, sealed));
    assert_ok(now.kind->discard(now.storage, sealed, &e), &e);
    assert_ok(now.kind->discard(now.storage, sealed, &e), &e);
    assert_int_equal(bytes_of(key), -1);
    assert_fails(now.kind->publish(now.storage, sealed, NULL, &e), ERR_FILE_GONE, &e);
    assert_int_equal(bytes_of(key), -1);
}

static void
test_discard_spares_what_is_visible(void **state)
{
    static const char key[] = "exports/spare/a.csv";
    char sealed[2048];
    Sink *sink = storage_seal(now.storage, key, "t-spare", 1, "stays", now.task, sealed);
    Err e = {0};

    (void)state;
    assert_ok(now.kind->publish(now.storage, sealed, sink, &e), &e);
    assert_ok(now.kind->discard(now.storage, sealed, &e), &e);
    assert_int_equal(bytes_of(key), 5);
}

/* Gone after it was published: it does not come back. */
static void
test_publish_after_remove(void **state)
{
    static const char key[] = "exports/removed/a.csv";
    char sealed[2048];
    Sink *sink = storage_seal(now.storage, key, "t-removed", 1, "gone", now.task, sealed);
    bool existed;
    Err e = {0};

    (void)state;
    assert_ok(now.kind->publish(now.storage, sealed, sink, &e), &e);
    assert_ok(now.kind->remove(now.storage, key, &existed, &e), &e);
    assert_true(existed);
    assert_fails(now.kind->publish(now.storage, sealed, NULL, &e), ERR_FILE_GONE, &e);
    assert_int_equal(bytes_of(key), -1);
}

static bool
keep_none(const UnfinishedUpload *upload, void *with)
{
    (void)upload;
    (void)with;
    return false;
}

static uint64_t
tidy_all(void)
{
    uint64_t removed;
    Err e = {0};

    assert_ok(now.kind->tidy(now.storage, keep_none, NULL, &removed, &e), &e);
    return removed;
}

static void
test_abort_leaves_nothing(void **state)
{
    static const char *const when[] = {"at once", "after a write", "after finish"};

    (void)state;
    (void)tidy_all();
    for (int i = 0; i < 3; i++) {
        Sink *sink;
        Err e = {0};

        trying(when[i]);
        assert_ok(
            sink = create(now.storage, "exports/abort/a.csv", "t-abort", i, now.task, &e), &e);
        if (i > 0)
            assert_ok(sink_write(sink, "half", 4, &e), &e);
        if (i > 1)
            assert_ok(sink_finish(sink, &e), &e);
        sink_abort(sink);
        sink_abort(sink); /* harmless */
        assert_int_equal(storage_count(now.storage, "exports/abort/"), 0);
        assert_int_equal(tidy_all(), 0);
    }
}

static const struct {
    const char *task_id;
    int64_t epoch;
    bool kept;
} unfinished[] = {{"t-keep", 3, false}, {"t-keep", 2, true}, {"t-drop", 2, false},
    {"wéird/id .1", 7, true}, {"t-with-dash_and", 9007199254740993, false}};

/* A store tells of an upload either the task that it belongs to, or its key and its own name. */
static bool
keep_some(const UnfinishedUpload *upload, void *with)
{
    unsigned *asked = with;
    char key[64];

    ++*asked;
    for (size_t i = 0; i < count_of(unfinished); i++) {
        snprintf(key, sizeof key, "exports/tidy/%zu.csv", i);
        if (upload->task_id ? strcmp(upload->task_id, unfinished[i].task_id) == 0 &&
                                  upload->epoch == unfinished[i].epoch
                            : strcmp(upload->key, key) == 0 && upload->id && *upload->id)
            return unfinished[i].kept;
    }
    fail_msg("an upload that nobody began: %s", upload->task_id ? upload->task_id : upload->key);
    return true;
}

static void
test_tidy(void **state)
{
    char sealed[count_of(unfinished)][2048], key[64];
    unsigned asked = 0;
    uint64_t removed;
    Err e = {0};

    (void)state;
    (void)tidy_all();
    storage_place(now.storage, "exports/tidy/done.csv", "done");
    for (size_t i = 0; i < count_of(unfinished); i++) {
        Arena *task = arena_new(TASK_BYTES);

        snprintf(key, sizeof key, "exports/tidy/%zu.csv", i);
        die(storage_seal(now.storage, key, unfinished[i].task_id, unfinished[i].epoch, now.lasting,
            task, sealed[i]));
        arena_free(task);
    }
    assert_ok(now.kind->tidy(now.storage, keep_some, &asked, &removed, &e), &e);
    assert_int_equal(asked, count_of(unfinished));
    assert_int_equal(removed, 3);
    assert_int_equal(bytes_of("exports/tidy/done.csv"), 4);
    for (size_t i = 0; i < count_of(unfinished); i++) {
        trying(unfinished[i].task_id);
        assert_int_equal(now.kind->publish(now.storage, sealed[i], NULL, &e), unfinished[i].kept);
        assert_int_equal(e.code, unfinished[i].kept ? ERR_NONE : ERR_FILE_GONE);
        err_clear(&e);
    }
}

typedef struct {
    char keys[8][64];
    unsigned count, stop_after;
} Seen;

static bool
see(const StorageObject *object, void *with, Err *e)
{
    Seen *seen = with;

    assert_true(seen->count < 8);
    assert_true(object->bytes == 3);
    assert_true(text_copy(seen->keys[seen->count++], sizeof seen->keys[0], object->key));
    return seen->stop_after == 0 || seen->count < seen->stop_after ||
           fail_code(e, ERR_CANCELLED, "enough");
}

static bool
has_seen(const Seen *seen, const char *key)
{
    for (unsigned i = 0; i < seen->count; i++)
        if (strcmp(seen->keys[i], key) == 0)
            return true;
    return false;
}

static void
test_list(void **state)
{
    static const struct {
        const char *prefix;
        unsigned want; /* a bit for each key */
    } cases[] = {
        {"exports/list_1/", 0x7},
        {"exports/list_1", 0xf},
        {"exports/list_12/", 0x8},
        {"exports/list_1/a", 0x3},
        {"exports/list_1/a.csv", 0x1},
        {"exports/list_1/deep/", 0x4},
        {"exports/list_", 0xf},
        {"exports/nobody/", 0},
        {"exports/list_1/a.csv/", 0},
    };
    static const char *const keys[] = {"exports/list_1/a.csv", "exports/list_1/ab.csv",
        "exports/list_1/deep/c.csv", "exports/list_12/d.csv"};

    (void)state;
    for (size_t i = 0; i < count_of(keys); i++)
        storage_place(now.storage, keys[i], "abc");
    for (size_t i = 0; i < count_of(cases); i++) {
        Seen seen = {0};
        unsigned got = 0;
        Err e = {0};

        trying(cases[i].prefix);
        assert_ok(now.kind->list(now.storage, cases[i].prefix, see, &seen, &e), &e);
        for (size_t k = 0; k < count_of(keys); k++)
            got |= (unsigned)has_seen(&seen, keys[k]) << k;
        assert_int_equal(got, cases[i].want);
        assert_int_equal(seen.count, (unsigned)__builtin_popcount(cases[i].want));
    }
}

static void
test_list_can_be_stopped(void **state)
{
    Seen seen = {.stop_after = 1};
    Err e = {0};

    (void)state;
    storage_place(now.storage, "exports/stop/a.csv", "abc");
    storage_place(now.storage, "exports/stop/b.csv", "abc");
    assert_fails(now.kind->list(now.storage, "exports/stop/", see, &seen, &e), ERR_CANCELLED, &e);
    assert_int_equal(seen.count, 1);
}

static void
test_remove(void **state)
{
    bool existed = true;
    Err e = {0};

    (void)state;
    storage_place(now.storage, "exports/rm/a.csv", "a");
    storage_place(now.storage, "exports/rm/b.csv", "b");
    assert_ok(now.kind->remove(now.storage, "exports/rm/none.csv", &existed, &e), &e);
    assert_false(existed);
    assert_ok(now.kind->remove(now.storage, "exports/none/none.csv", &existed, &e), &e);
    assert_false(existed);
    assert_ok(now.kind->remove(now.storage, "exports/rm/a.csv", &existed, &e), &e);
    assert_true(existed);
    assert_int_equal(bytes_of("exports/rm/a.csv"), -1);
    assert_int_equal(bytes_of("exports/rm/b.csv"), 1);
    assert_ok(now.kind->remove(now.storage, "exports/rm/a.csv", &existed, &e), &e);
    assert_false(existed);
    assert_ok(now.kind->remove(now.storage, "exports/rm/b.csv", &existed, &e), &e);
    assert_true(existed);
    assert_int_equal(storage_count(now.storage, "exports/rm/"), 0);
    /* A key is free again once its object is gone, folder or not. */
    storage_place(now.storage, "exports/rm/a.csv", "again");
    assert_int_equal(bytes_of("exports/rm/a.csv"), 5);
}

static void
note_refused(size_t i, const Err *why, void *with)
{
    assert_int_not_equal(why->code, ERR_NONE);
    *(unsigned *)with |= 1U << i;
}

static void
test_remove_many(void **state)
{
    static const char *const keys[] = {"exports/many/a.csv", "exports/many/none.csv",
        "exports/many/a b&<c>+%2f\"'.csv", "exports/many_2/é.csv", "exports/many/none/none.csv"};
    static const char *const bad[] = {"exports/many/left.csv", "exports/many/../left.csv"};
    unsigned refused = 0;
    Err e = {0};

    (void)state;
    storage_place(now.storage, keys[0], "a");
    storage_place(now.storage, keys[2], "b");
    storage_place(now.storage, keys[3], "c");
    storage_place(now.storage, "exports/many/stays.csv", "d");
    storage_place(now.storage, "exports/many/left.csv", "e");
    for (int i = 0; i < 2; i++) { /* again is harmless */
        assert_ok(
            now.kind->remove_many(now.storage, keys, count_of(keys), note_refused, &refused, &e),
            &e);
        assert_int_equal(refused, 0);
        assert_int_equal(storage_count(now.storage, "exports/many"), 2);
    }
    assert_ok(now.kind->remove_many(now.storage, keys, 0, note_refused, &refused, &e), &e);
    /* One that cannot be removed does not keep the others. */
    assert_ok(now.kind->remove_many(now.storage, bad, 2, note_refused, &refused, &e), &e);
    assert_int_equal(refused, 2);
    assert_int_equal(bytes_of("exports/many/left.csv"), -1);
    assert_int_equal(bytes_of("exports/many/stays.csv"), 1);
}

static void
test_odd_keys(void **state)
{
    char longest[STORAGE_KEY_BYTES + 1] = "exports/";

    /* Four segments of at most 255 bytes. */
    (void)state;
    memset(longest + 8, 'k', STORAGE_KEY_BYTES - 8);
    longest[200] = longest[400] = longest[600] = longest[800] = '/';
    longest[STORAGE_KEY_BYTES] = '\0';
    const char *const keys[] = {"exports/odd/with blank.csv", "exports/odd/quote\"'.csv",
        "exports/odd/é€😀.csv", "exports/odd/%2e%2e.csv", "exports/odd/...csv", "exports/odd/...",
        "exports/odd/a&b=c?d#e;f", "exports/.odd/.hidden", longest};
    for (size_t i = 0; i < count_of(keys); i++) {
        bool existed;
        Err e = {0};

        trying(keys[i]);
        storage_place(now.storage, keys[i], "odd");
        assert_int_equal(bytes_of(keys[i]), 3);
        assert_int_equal(storage_count(now.storage, "exports/"), 1);
        assert_ok(now.kind->remove(now.storage, keys[i], &existed, &e), &e);
        assert_true(existed);
    }
}

static void
test_bad_keys(void **state)
{
    static const char *const keys[] = {"", "exports", "exports/", "exports/u", "exports//a.csv",
        "exports/u/", "exports/../a.csv", "exports/u/../../../etc/passwd", "exports/./a.csv",
        "exports/u/.", "exports/u/..", "/exports/u/a.csv", "other/u/a.csv", "exports/u/a\\b.csv",
        "exports/u/a\nb.csv", "exports/u/a\x7f.csv", "exports/u/\xff.csv", "exports/u/\xc0\xaf",
        "../exports/u/a.csv"};

    (void)state;
    for (size_t i = 0; i < count_of(keys); i++) {
        const SignSpec sign = {"http://h", "a.csv", "text/csv", 4000000000};
        char url[STORAGE_URL_BYTES];
        StorageObject object;
        int64_t ends;
        bool existed;
        Err e = {0};

        trying(keys[i]);
        assert_fails(create(now.storage, keys[i], "t-bad", 1, now.task, &e), ERR_INVALID_KEY, &e);
        err_clear(&e);
        assert_fails(now.kind->stat(now.storage, keys[i], &object, &e), ERR_INVALID_KEY, &e);
        err_clear(&e);
        assert_fails(now.kind->remove(now.storage, keys[i], &existed, &e), ERR_INVALID_KEY, &e);
        err_clear(&e);
        assert_fails(now.kind->sign(now.storage, keys[i], &sign, url, sizeof url, &ends, &e),
            ERR_INVALID_KEY, &e);
    }
}

static void
test_size_limit(void **state)
{
    StorageSpec small = *now.spec;
    Storage *storage;
    Sink *sink;
    Err e = {0};

    (void)state;
    small.bytes_max = 10;
    assert_ok(storage = now.kind->open(&small, &e), &e);
    assert_ok(sink = create(storage, "exports/big/a.csv", "t-big", 1, now.task, &e), &e);
    assert_ok(sink_write(sink, "0123456789", 10, &e), &e);
    assert_fails(sink_write(sink, "x", 1, &e), ERR_SIZE_LIMIT, &e);
    sink_abort(sink);
    assert_int_equal(storage_count(storage, "exports/big/"), 0);
    now.kind->close(storage);
}

static void
test_foreign_seals(void **state)
{
    static const char *const seals[] = {"", "{}", "[]", "null", "not json", "{\"store\":\"other\"}",
        "{\"upload\":\"../../x\",\"key\":\"exports/u/a\",\"device\":1,\"inode\":1,\"bytes\":1}",
        "{\"upload\":\"x\",\"key\":\"../a\",\"device\":1,\"inode\":1,\"bytes\":1}"};

    (void)state;
    for (size_t i = 0; i < count_of(seals); i++) {
        Err e = {0};

        trying(seals[i]);
        assert_false(now.kind->publish(now.storage, seals[i], NULL, &e));
        assert_int_not_equal(e.code, ERR_NONE);
    }
}

/* The settings may name another storage than when it was sealed: so it is gone, and is run again.
 */
static void
test_seals_of_another_storage(void **state)
{
    static const char *const seals[] = {
        "{\"store\":\"s3\",\"key\":\"exports/u/a\",\"mark\":\"t.1.0\",\"bytes\":1,\"upload\":\"\","
        "\"checksum\":\"\",\"sum\":\"\",\"parts\":[],\"sums\":[]}",
        "{\"upload\":\"t.1\",\"key\":\"exports/u/a\",\"device\":1,\"inode\":1,\"bytes\":1}"};

    (void)state;
    for (size_t i = 0; i < count_of(seals); i++) {
        Err e = {0};

        trying(seals[i]);
        assert_fails(now.kind->publish(now.storage, seals[i], NULL, &e), ERR_FILE_GONE, &e);
    }
}

static void
test_check(void **state)
{
    Err e = {0};

    (void)state;
    assert_ok(now.kind->check(now.storage, &e), &e);
    assert_ok(now.kind->check(now.storage, &e), &e);
    assert_int_equal(tidy_all(), 0);
}

int
storage_contract(const char *name, const StorageKind *kind, const StorageSpec *spec,
    size_t outlives_bytes, void (*dies)(Sink *object))
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_odd_keys, open_it, close_it), /* wants it empty */
        cmocka_unit_test_setup_teardown(test_nothing_before_publish, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_an_empty_object, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_sealed_only_after_finish, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_publish_twice, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_publish_by_a_later_owner, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_a_small_one_by_a_later_owner, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_another_has_the_key, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_discard, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_discard_spares_what_is_visible, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_publish_after_remove, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_abort_leaves_nothing, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_tidy, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_list, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_list_can_be_stopped, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_remove, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_remove_many, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_bad_keys, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_size_limit, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_foreign_seals, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_seals_of_another_storage, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_check, open_it, close_it),
    };

    int failed;

    now = (UnderTest){.kind = kind, .spec = spec, .outlives_bytes = outlives_bytes, .dies = dies};
    if (!(now.lasting = calloc(1, outlives_bytes + 2)))
        return 1;
    memset(now.lasting, 'x', outlives_bytes > 0 ? outlives_bytes : 1);
    failed = _cmocka_run_group_tests(name, tests, count_of(tests), NULL, NULL);
    free(now.lasting);
    return failed;
}
