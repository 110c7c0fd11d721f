/* storage/file: the contract, links byte by byte, and a disk that is full, read only or full of
 * traps. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "storage/file/file_in.h"
#include "test/contract/storage_contract.h"
#include "test/contract/watches.h"
#include "test/test.h"

static char dir[] = "/tmp/rowferry_test_XXXXXX";
static const char new_secret[] = "a secret of at least thirty-two characters",
                  old_secret[] = "the secret that was in use until last week";

static int
remove_entry(const char *name, const struct stat *is, int type, struct FTW *walk)
{
    (void)is;
    (void)type;
    (void)walk;
    return remove(name);
}

static StorageSpec
spec_of(const char *folder)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, folder);
    return (StorageSpec){.dir = path, .url_secret = {new_secret, old_secret}, .url_secrets = 2};
}

static const char *
path_of(const char *folder, const char *name)
{
    static char path[2048];

    snprintf(path, sizeof path, "%s/%s/%s", dir, folder, name);
    return path;
}

static Storage *
open_store(const char *folder)
{
    StorageSpec spec = spec_of(folder);
    Storage *storage;
    Err e = {0};

    assert_ok(storage = storage_file.open(&spec, &e), &e);
    return storage;
}

/* --- links --- */

enum { EXPIRES = 2000000000 };

static void
sign(Storage *s, const char *key, const char *name, int64_t expires, char url[STORAGE_URL_BYTES])
{
    const SignSpec spec = {"", name, "text/csv", expires};
    int64_t ends;
    Err e = {0};

    assert_ok(storage_file.sign(s, key, &spec, url, STORAGE_URL_BYTES, &ends, &e), &e);
    assert_int_equal(ends, expires);
}

static ErrCode
fetch(Storage *s, const char *target, int64_t now, Fetched *file)
{
    Err e = {0};

    if (storage_file.fetch(s, target, now, file, &e)) {
        close(file->fd);
        return ERR_NONE;
    }
    assert_int_equal(file->fd, -1);
    assert_int_not_equal(e.code, ERR_NONE);
    return e.code;
}

static void
test_a_link(void **state)
{
    Storage *s = open_store("links");
    const SignSpec spec = {"https://exports.example.com", "names é\".csv", "text/csv", EXPIRES};
    char url[STORAGE_URL_BYTES], small[64], text[16] = "";
    Fetched file, again;
    StorageObject object;
    int64_t ends;
    Err e = {0};

    (void)state;
    storage_place(s, "exports/user_1/a b&c.csv", "hello");
    assert_ok(
        storage_file.sign(s, "exports/user_1/a b&c.csv", &spec, url, sizeof url, &ends, &e), &e);
    assert_true(text_starts(url,
        "https://exports.example.com/files/exports/user_1/a%20b%26c.csv?expires=2000000000&name="
        "names%20%C3%A9%22.csv&signature="));
    assert_int_equal(strlen(strstr(url, "signature=")), 10 + 64);
    assert_ok(storage_file.fetch(s, strstr(url, "/files/"), EXPIRES - 1, &file, &e), &e);
    assert_string_equal(file.key, "exports/user_1/a b&c.csv");
    assert_string_equal(file.name, "names é\".csv");
    assert_int_equal(file.bytes, 5);
    assert_int_equal(read(file.fd, text, sizeof text), 5);
    assert_string_equal(text, "hello");
    assert_true(fcntl(file.fd, F_GETFD) & FD_CLOEXEC);
    close(file.fd);
    assert_ok(storage_file.stat(s, "exports/user_1/a b&c.csv", &object, &e), &e);
    assert_int_equal(file.modified_wall_us, object.modified_wall_us);
    /* A strong validator, in quotes, the same for the same object. */
    assert_true(text_starts(file.etag, "\"") && text_ends(file.etag, "\""));
    assert_int_equal(fetch(s, strstr(url, "/files/"), 1, &again), ERR_NONE);
    assert_string_equal(again.etag, file.etag);
    /* Too little room is said, not cut. */
    assert_fails(
        storage_file.sign(s, "exports/user_1/a b&c.csv", &spec, small, sizeof small, &ends, &e),
        ERR_INTERNAL, &e);
    storage_file.close(s);
}

/* "rowferry-files-v1\nGET\n12:exports/u/ab\n2000000000\n1:c\n" under the key that HKDF makes of the
 * secret: the value was computed with Python's hmac and hashlib. */
static void
test_what_is_signed(void **state)
{
    Storage *s = open_store("links");
    char one[STORAGE_URL_BYTES], two[STORAGE_URL_BYTES];

    (void)state;
    /* Lengths keep the parts apart: what moves over a border is another text. */
    sign(s, "exports/u/ab", "c", EXPIRES, one);
    sign(s, "exports/u/a", "bc", EXPIRES, two);
    assert_string_not_equal(strstr(one, "&signature="), strstr(two, "&signature="));
    /* The same again: nothing random, nothing of the clock. */
    sign(s, "exports/u/ab", "c", EXPIRES, two);
    assert_string_equal(one, two);
    assert_string_equal(strstr(one, "signature="),
        "signature="
        "4d35332ec747e15a2e9b747951e0782492fd5c6c69c5bbfea1cacaebdeac7c79");
    storage_file.close(s);
}

static int
digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decodes as RFC 3986 does; false if an escape is none, or is a NUL. */
static bool
decode(const char *from, char *to)
{
    for (; *from; from++) {
        if (*from == '%') {
            int high = digit_of(from[1]), low = high < 0 ? -1 : digit_of(from[2]);

            if (low < 0 || (high == 0 && low == 0))
                return false;
            *to++ = (char)(high << 4 | low);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return true;
}

/* Every byte of a link becomes every other byte: refused, unless it still says the same. */
static void
test_every_byte_of_a_link(void **state)
{
    Storage *s = open_store("links");
    char url[STORAGE_URL_BYTES], changed[STORAGE_URL_BYTES], want[STORAGE_URL_BYTES],
        got[STORAGE_URL_BYTES];
    size_t bytes, accepted = 0, forbidden = 0;
    Fetched file;

    (void)state;
    storage_place(s, "exports/user_1/é.csv", "secret");
    sign(s, "exports/user_1/é.csv", "é 1.csv", EXPIRES, url);
    assert_int_equal(fetch(s, url, EXPIRES - 1, &file), ERR_NONE);
    bytes = strlen(url);
    assert_true(decode(url, want));
    for (size_t at = 0; at < bytes; at++)
        for (int c = 1; c < 256; c++) {
            ErrCode code;

            memcpy(changed, url, bytes + 1);
            changed[at] = (char)c;
            if (changed[at] == url[at])
                continue;
            code = fetch(s, changed, EXPIRES - 1, &file);
            if (!decode(changed, got)) {
                if (code != ERR_INVALID_REQUEST && code != ERR_FORBIDDEN && code != ERR_NOT_FOUND)
                    fail_msg("%s: %s", changed, err_name(code));
            } else if (strcmp(got, want) == 0) {
                /* %c3 is %C3: the very same link. */
                assert_int_equal(code, ERR_NONE);
                accepted++;
            } else if (at < 7) {
                assert_int_equal(code, ERR_NOT_FOUND);
            } else if (code != ERR_FORBIDDEN) {
                fail_msg("%s: %s", changed, err_name(code));
            } else {
                forbidden++;
            }
        }
    assert_int_equal(accepted, 4); /* the two letters of %C3 and %A9, twice */
    assert_true(forbidden > 20000);
    storage_file.close(s);
}

static void
test_changed_links(void **state)
{
    static const struct {
        const char *name,
            *format; /* %1$s key, %2$s expires, %3$s name, %4$s signature; up to the last
                       one each must be there (glibc's fortified printf): %2$.0s writes nothing */
        ErrCode want;
    } cases[] = {
        {"as it is", "/files/%1$s?expires=%2$s&name=%3$s&signature=%4$s", ERR_NONE},
        {"another order", "/files/%1$s?signature=%4$s&name=%3$s&expires=%2$s", ERR_NONE},
        {"something more", "/files/%1$s?x=1&expires=%2$s&name=%3$s&signature=%4$s&y", ERR_NONE},
        {"no signature", "/files/%1$s?expires=%2$s&name=%3$s", ERR_FORBIDDEN},
        {"an empty one", "/files/%1$s?expires=%2$s&name=%3$s&signature=", ERR_FORBIDDEN},
        {"half of it", "/files/%1$s?expires=%2$s&name=%3$s&signature=%4$.32s", ERR_FORBIDDEN},
        {"a digit more", "/files/%1$s?expires=%2$s&name=%3$s&signature=%4$s0", ERR_FORBIDDEN},
        {"no expiry", "/files/%1$s?name=%3$s&signature=%4$s%2$.0s", ERR_FORBIDDEN},
        {"no name", "/files/%1$s?expires=%2$s&signature=%4$s%3$.0s", ERR_FORBIDDEN},
        {"another name", "/files/%1$s?expires=%2$s&name=b.csv&signature=%4$s%3$.0s", ERR_FORBIDDEN},
        {"later", "/files/%1$s?expires=2000000001&name=%3$s&signature=%4$s%2$.0s", ERR_FORBIDDEN},
        {"a leading zero", "/files/%1$s?expires=0%2$s&name=%3$s&signature=%4$s", ERR_FORBIDDEN},
        {"a sign", "/files/%1$s?expires=+%2$s&name=%3$s&signature=%4$s", ERR_FORBIDDEN},
        {"beyond 64 bits",
            "/files/%1$s?expires=18446744075709551616&name=%3$s&signature=%4$s%2$.0s",
            ERR_FORBIDDEN},
        {"expires twice", "/files/%1$s?expires=%2$s&expires=%2$s&name=%3$s&signature=%4$s",
            ERR_INVALID_REQUEST},
        {"name twice", "/files/%1$s?expires=%2$s&name=%3$s&name=x&signature=%4$s",
            ERR_INVALID_REQUEST},
        {"signature twice", "/files/%1$s?expires=%2$s&name=%3$s&signature=%4$s&signature",
            ERR_INVALID_REQUEST},
        {"no escape", "/files/%1$s?expires=%2$s&name=%%zz&signature=%4$s%3$.0s",
            ERR_INVALID_REQUEST},
        {"half an escape", "/files/%1$s?expires=%2$s&signature=%4$s&name=a%%2%3$.0s",
            ERR_INVALID_REQUEST},
        {"a NUL in the name", "/files/%1$s?expires=%2$s&name=%3$s%%00&signature=%4$s",
            ERR_INVALID_REQUEST},
        {"a NUL in the path", "/files/%1$s%%00?expires=%2$s&name=%3$s&signature=%4$s",
            ERR_INVALID_REQUEST},
        {"another key", "/files/exports/user_1/b.csv?expires=%2$s&name=%3$s&signature=%4$s%1$.0s",
            ERR_FORBIDDEN},
        {"a way out", "/files/exports/../%1$s?expires=%2$s&name=%3$s&signature=%4$s",
            ERR_FORBIDDEN},
        {"two slashes", "/files//%1$s?expires=%2$s&name=%3$s&signature=%4$s", ERR_FORBIDDEN},
        {"encoded once more", "/files/%1$s%%2563?expires=%2$s&name=%3$s&signature=%4$s",
            ERR_FORBIDDEN},
        {"nothing", "/files/", ERR_FORBIDDEN},
        {"only a question", "/files/?", ERR_FORBIDDEN},
        {"somewhere else", "/file/%1$s?expires=%2$s&name=%3$s&signature=%4$s", ERR_NOT_FOUND},
        {"empty", "", ERR_NOT_FOUND},
    };
    Storage *s = open_store("links");
    char url[STORAGE_URL_BYTES], target[STORAGE_URL_BYTES], shouted[STORAGE_URL_BYTES];
    Fetched file;

    (void)state;
    storage_place(s, "exports/user_1/a.csv", "a");
    storage_place(s, "exports/user_1/b.csv", "b");
    sign(s, "exports/user_1/a.csv", "a.csv", EXPIRES, url);
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].name);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(target, sizeof target, cases[i].format, "exports/user_1/a.csv", "2000000000",
            "a.csv", strstr(url, "signature=") + 10);
#pragma GCC diagnostic pop
        assert_int_equal(fetch(s, target, EXPIRES - 1, &file), cases[i].want);
    }
    /* Upper-case hex is another text, not another form of it. */
    memcpy(shouted, url, sizeof shouted);
    for (char *c = strstr(shouted, "signature=") + 10; *c; c++)
        if (*c >= 'a' && *c <= 'f')
            *c = (char)(*c & ~0x20);
    assert_string_not_equal(shouted, url);
    assert_int_equal(fetch(s, shouted, EXPIRES - 1, &file), ERR_FORBIDDEN);
    storage_file.close(s);
}

static void
test_the_end_of_a_link(void **state)
{
    Storage *s = open_store("links");
    char url[STORAGE_URL_BYTES], forged[STORAGE_URL_BYTES];
    bool existed;
    Fetched file;
    Err e = {0};

    (void)state;
    storage_place(s, "exports/user_2/a.csv", "a");
    sign(s, "exports/user_2/a.csv", "a.csv", EXPIRES, url);
    assert_int_equal(fetch(s, url, EXPIRES - 1, &file), ERR_NONE);
    assert_int_equal(fetch(s, url, EXPIRES, &file), ERR_LINK_EXPIRED);
    assert_int_equal(fetch(s, url, EXPIRES + 1000000, &file), ERR_LINK_EXPIRED);
    /* A wrong signature is said first, even of a late link and of no file. */
    memcpy(forged, url, sizeof forged);
    forged[strlen(forged) - 1] ^= 1;
    assert_int_equal(fetch(s, forged, EXPIRES + 1, &file), ERR_FORBIDDEN);
    assert_ok(storage_file.remove(s, "exports/user_2/a.csv", &existed, &e), &e);
    assert_int_equal(fetch(s, forged, EXPIRES - 1, &file), ERR_FORBIDDEN);
    assert_int_equal(fetch(s, url, EXPIRES - 1, &file), ERR_NOT_FOUND);
    assert_int_equal(fetch(s, url, EXPIRES, &file), ERR_LINK_EXPIRED);
    storage_file.close(s);
}

static void
test_keys_are_rotated(void **state)
{
    StorageSpec spec = spec_of("links");
    char by_old[STORAGE_URL_BYTES], by_new[STORAGE_URL_BYTES];
    Fetched file;
    Storage *s;
    int64_t ends;
    Err e = {0};

    (void)state;
    spec.url_secret[0] = old_secret;
    spec.url_secrets = 1;
    assert_ok(s = storage_file.open(&spec, &e), &e);
    storage_place(s, "exports/user_3/a.csv", "a");
    sign(s, "exports/user_3/a.csv", "a.csv", EXPIRES, by_old);
    assert_int_equal(fetch(s, by_old, 1, &file), ERR_NONE);
    storage_file.close(s);
    /* The new key in front: it signs, the old one still opens. */
    s = open_store("links");
    sign(s, "exports/user_3/a.csv", "a.csv", EXPIRES, by_new);
    assert_string_not_equal(by_old, by_new);
    assert_int_equal(fetch(s, by_old, 1, &file), ERR_NONE);
    assert_int_equal(fetch(s, by_new, 1, &file), ERR_NONE);
    storage_file.close(s);
    /* The old key out. */
    spec.url_secret[0] = new_secret;
    assert_ok(s = storage_file.open(&spec, &e), &e);
    assert_int_equal(fetch(s, by_old, 1, &file), ERR_FORBIDDEN);
    assert_int_equal(fetch(s, by_new, 1, &file), ERR_NONE);
    storage_file.close(s);
    /* A process without keys neither signs nor serves. */
    spec.url_secrets = 0;
    assert_ok(s = storage_file.open(&spec, &e), &e);
    assert_fails(storage_file.sign(s, "exports/user_3/a.csv",
                     &(SignSpec){"", "a", "text/csv", EXPIRES}, by_old, sizeof by_old, &ends, &e),
        ERR_INTERNAL, &e);
    assert_int_equal(fetch(s, by_new, 1, &file), ERR_FORBIDDEN);
    storage_file.close(s);
}

/* --- what lies in the folder and is no object of ours --- */

static void
test_traps(void **state)
{
    static const char *const traps[] = {"exports/trap/link", "exports/trap/link_in",
        "exports/trap/folder", "exports/trap/fifo", "exports/trap/socket", "exports/trap/hard",
        "exports/trap/dangling", "exports/linked/a.csv", "exports/trap/file/below"};
    Storage *s = open_store("traps");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char url[STORAGE_URL_BYTES], target[256];
    int fd;

    (void)state;
    storage_place(s, "exports/trap/file", "file");
    storage_place(s, "exports/other/a.csv", "other");
    storage_place(s, "exports/other/hard.csv", "hard");
    assert_int_equal(symlink("/etc/passwd", path_of("traps", "exports/trap/link")), 0);
    assert_int_equal(symlink("file", path_of("traps", "exports/trap/link_in")), 0);
    assert_int_equal(symlink("nowhere", path_of("traps", "exports/trap/dangling")), 0);
    assert_int_equal(symlink("other", path_of("traps", "exports/linked")), 0);
    assert_int_equal(mkdir(path_of("traps", "exports/trap/folder"), 0700), 0);
    assert_int_equal(mkfifo(path_of("traps", "exports/trap/fifo"), 0600), 0);
    snprintf(target, sizeof target, "%s", path_of("traps", "exports/other/hard.csv"));
    assert_int_equal(link(target, path_of("traps", "exports/trap/hard")), 0);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(
        text_copy(at.sun_path, sizeof at.sun_path, path_of("traps", "exports/trap/socket")));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    close(fd);
    log_set_level(LOG_ERROR); /* each is a warning in the log */
    for (size_t i = 0; i < count_of(traps); i++) {
        StorageObject object;
        Fetched file;
        Err e = {0};

        trying(traps[i]);
        sign(s, traps[i], "a.csv", EXPIRES, url);
        assert_int_equal(fetch(s, url, 1, &file), ERR_NOT_FOUND);
        assert_fails(storage_file.stat(s, traps[i], &object, &e), ERR_NOT_FOUND, &e);
    }
    log_set_level(LOG_INFO);
    assert_int_equal(storage_count(s, "exports/trap/"), 1);
    assert_int_equal(storage_count(s, "exports/linked/"), 0);
    assert_int_equal(storage_count(s, "exports/"), 2); /* hard.csv has two names: not served */
    storage_file.close(s);
}

static void
test_removing_traps(void **state)
{
    Storage *s = open_store("traps");
    bool existed;
    Err e = {0};

    (void)state;
    /* Through a linked folder nothing is deleted. */
    assert_ok(storage_file.remove(s, "exports/linked/a.csv", &existed, &e), &e);
    assert_false(existed);
    assert_int_equal(access(path_of("traps", "exports/other/a.csv"), F_OK), 0);
    /* A link is deleted, not what it leads to. */
    assert_ok(storage_file.remove(s, "exports/trap/link_in", &existed, &e), &e);
    assert_int_equal(access(path_of("traps", "exports/trap/file"), F_OK), 0);
    assert_fails(storage_file.remove(s, "exports/trap/folder", &existed, &e), ERR_INVALID_KEY, &e);
    assert_int_equal(access(path_of("traps", "exports/trap/folder"), F_OK), 0);
    storage_file.close(s);
}

static void
test_publishing_into_traps(void **state)
{
    static const char *const keys[] = {"exports/linked/new.csv", "exports/trap/fifo/new.csv",
        "exports/trap/link", "exports/trap/folder", "exports/trap/dangling"};
    Storage *s = open_store("traps");
    Arena *task = arena_new(1 << 20);
    char sealed[2048];

    (void)state;
    for (size_t i = 0; i < count_of(keys); i++) {
        Sink *sink = storage_seal(s, keys[i], "t-trap", (int64_t)i, "x", task, sealed);
        Err e = {0};

        trying(keys[i]);
        assert_false(storage_file.publish(s, sealed, sink, &e));
        assert_int_equal(e.code, i < 2 ? ERR_STORAGE_DENIED : ERR_EXISTS);
    }
    assert_int_not_equal(access(path_of("traps", "exports/other/new.csv"), F_OK), 0);
    arena_free(task);
    storage_file.close(s);
}

/* Modes: nobody else on the machine may look. */
static void
test_modes(void **state)
{
    static const char *const names[] = {
        ".", ".uploads", "exports", "exports/mode", "exports/mode/a.csv"};
    Storage *s = open_store("modes");

    (void)state;
    umask(0);
    storage_place(s, "exports/mode/a.csv", "a");
    for (size_t i = 0; i < count_of(names); i++) {
        struct stat is;

        trying(names[i]);
        assert_int_equal(stat(path_of("modes", names[i]), &is), 0);
        assert_int_equal(is.st_mode & 077, 0);
    }
    storage_file.close(s);
}

/* Another file lies under the upload's name: it is not taken for what was sealed. */
static void
test_an_upload_exchanged(void **state)
{
    static const char *const with[] = {"another file", "a longer one", "nothing"};
    Storage *s = open_store("exchanged");
    Arena *task = arena_new(1 << 20);

    (void)state;
    for (size_t i = 0; i < count_of(with); i++) {
        char sealed[2048], name[64];
        Err e = {0};
        int fd;

        trying(with[i]);
        (void)storage_seal(s, "exports/x/a.csv", "t-x", (int64_t)i, "four", task, sealed);
        snprintf(name, sizeof name, ".uploads/t-x.%zu", i);
        if (i == 1) {
            fd = open(path_of("exchanged", name), O_WRONLY | O_APPEND);
            assert_int_equal(write(fd, "more", 4), 4);
            close(fd);
        } else {
            assert_int_equal(rename(path_of("exchanged", name), "/tmp/rowferry_exchanged"), 0);
            if (i == 0) { /* the old one still lives, so that its inode is not taken again */
                fd = open(path_of("exchanged", name), O_WRONLY | O_CREAT, 0600);
                assert_int_equal(write(fd, "evil", 4), 4);
                close(fd);
            }
            assert_int_equal(unlink("/tmp/rowferry_exchanged"), 0);
        }
        assert_fails(storage_file.publish(s, sealed, NULL, &e), ERR_FILE_GONE, &e);
        assert_int_equal(storage_count(s, "exports/"), 0);
    }
    arena_free(task);
    storage_file.close(s);
}

/* --- a disk that does not want --- */

static bool
mount_small(const char *folder, unsigned long flags, const char *options)
{
    const char *path = path_of(folder, "");

    return mount("rowferry_test", path, "tmpfs", flags, options) == 0;
}

static void
test_a_full_disk(void **state)
{
    enum { BLOCK = 64 << 10, BLOCKS = 64 };
    static char block[BLOCK];
    const Upload mark = {"t-full", 1, "text/csv"};
    TestWatch watch = watch_new();
    Arena *task = arena_new(1 << 20);
    bool written = true;
    Storage *s;
    Sink *sink;
    Err e = {0};

    (void)state;
    assert_int_equal(mkdir(path_of("full", ""), 0700), 0);
    if (!mount_small("full", 0, "size=1m")) {
        print_message("skipped: no tmpfs may be mounted here (%m)\n");
        arena_free(task);
        skip();
    }
    s = open_store("full");
    assert_ok(
        sink = storage_file.create(s, "exports/full/a.csv", &mark, &watch.base, task, &e), &e);
    for (int i = 0; written && i < BLOCKS; i++)
        written = sink_write(sink, block, sizeof block, &e);
    assert_false(written);
    assert_int_equal(e.code, ERR_STORAGE_FULL);
    err_clear(&e);
    assert_fails(storage_file.check(s, &e), ERR_STORAGE_FULL, &e);
    err_clear(&e);
    /* After the abort there is room again, and nothing is listed. */
    sink_abort(sink);
    assert_ok(storage_file.check(s, &e), &e);
    assert_int_equal(storage_count(s, "exports/"), 0);
    storage_place(s, "exports/full/a.csv", "fits");
    arena_free(task);
    storage_file.close(s);
    assert_int_equal(umount(path_of("full", "")), 0);
}

/* Of a task that is run again only the last run's upload is there, and other tasks' stay. */
static void
test_a_new_run_removes_what_was_left(void **state)
{
    TestWatch watch = watch_new();
    Arena *task = arena_new(1 << 20);
    char first[2048], other[2048], later[2048];
    Storage *s = open_store("left");
    const Upload mark = {"t-left", 3, "text/csv"};
    Sink *sink;
    Err e = {0};

    (void)state;
    (void)storage_seal(s, "exports/left/a.csv", "t-left", 1, "x", task, first);
    (void)storage_seal(s, "exports/left/b.csv", "t-left-not", 1, "x", task, other);
    (void)storage_seal(s, "exports/left/c.csv", "t-left", 4, "x", task, later);
    assert_ok(
        sink = storage_file.create(s, "exports/left/a.csv", &mark, &watch.base, task, &e), &e);
    assert_fails(storage_file.publish(s, first, NULL, &e), ERR_FILE_GONE, &e);
    err_clear(&e);
    assert_ok(storage_file.publish(s, other, NULL, &e), &e);
    assert_ok(storage_file.publish(s, later, NULL, &e), &e);
    sink_abort(sink);
    arena_free(task);
    storage_file.close(s);
}

static void
test_no_room_for_another_file(void **state)
{
    const Upload mark = {"t-another", 1, "text/csv"};
    TestWatch watch = watch_new();
    Arena *task = arena_new(1 << 20);
    char sealed[2048];
    Storage *s;
    Sink *sink;
    Err e = {0};

    (void)state;
    assert_int_equal(mkdir(path_of("inodes", ""), 0700), 0);
    if (!mount_small("inodes", 0, "size=1m,nr_inodes=4")) {
        print_message("skipped: no tmpfs may be mounted here (%m)\n");
        arena_free(task);
        skip();
    }
    /* The root, the folder of uploads, one upload, exports/: for the user's folder there is no
     * room. */
    s = open_store("inodes");
    sink = storage_seal(s, "exports/inodes/a.csv", "t-inodes", 1, "x", task, sealed);
    assert_fails(storage_file.publish(s, sealed, sink, &e), ERR_STORAGE_FULL, &e);
    err_clear(&e);
    assert_null(storage_file.create(s, "exports/inodes/c.csv", &mark, &watch.base, task, &e));
    assert_int_equal(e.code, ERR_STORAGE_FULL);
    arena_free(task);
    storage_file.close(s);
    assert_int_equal(umount2(path_of("inodes", ""), MNT_DETACH), 0);
}

static void
test_a_read_only_disk(void **state)
{
    const Upload mark = {"t-ro", 1, "text/csv"};
    StorageSpec spec = spec_of("readonly");
    TestWatch watch = watch_new();
    Arena *task = arena_new(1 << 20);
    char sealed[2048], url[STORAGE_URL_BYTES];
    bool existed;
    Fetched file;
    Storage *s;
    Err e = {0};

    (void)state;
    assert_int_equal(mkdir(path_of("readonly", ""), 0700), 0);
    if (!mount_small("readonly", 0, "size=1m")) {
        print_message("skipped: no tmpfs may be mounted here (%m)\n");
        arena_free(task);
        skip();
    }
    s = open_store("readonly");
    storage_place(s, "exports/ro/old.csv", "old");
    (void)storage_seal(s, "exports/new/a.csv", "t-sealed", 1, "x", task, sealed);
    assert_int_equal(mount(NULL, path_of("readonly", ""), NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_null(storage_file.create(s, "exports/ro/a.csv", &mark, &watch.base, task, &e));
    assert_int_equal(e.code, ERR_STORAGE_DENIED);
    err_clear(&e);
    assert_fails(storage_file.publish(s, sealed, NULL, &e), ERR_STORAGE_DENIED, &e);
    err_clear(&e);
    assert_fails(
        storage_file.remove(s, "exports/ro/old.csv", &existed, &e), ERR_STORAGE_DENIED, &e);
    err_clear(&e);
    assert_fails(storage_file.check(s, &e), ERR_STORAGE_DENIED, &e);
    err_clear(&e);
    /* Reading goes on. */
    sign(s, "exports/ro/old.csv", "a.csv", EXPIRES, url);
    assert_int_equal(fetch(s, url, 1, &file), ERR_NONE);
    assert_int_equal(storage_count(s, "exports/"), 1);
    storage_file.close(s);
    /* A store that never was there cannot begin either. */
    assert_ok(s = storage_file.open(&spec, &e), &e);
    storage_file.close(s);
    spec = spec_of("readonly/below");
    assert_null(storage_file.open(&spec, &e));
    assert_int_equal(e.code, ERR_STORAGE_DENIED);
    arena_free(task);
    assert_int_equal(umount2(path_of("readonly", ""), MNT_DETACH), 0);
}

/* Somebody else's folder. Root may do everything, so for a moment it is not root that asks. */
static void
test_a_forbidden_folder(void **state)
{
    enum { NOBODY = 65534 };
    const Upload mark = {"t-forbidden", 1, "text/csv"};
    TestWatch watch = watch_new();
    Arena *task = arena_new(1 << 20);
    Storage *s = open_store("forbidden");
    bool is_root = geteuid() == 0, existed;
    char url[STORAGE_URL_BYTES];
    Fetched file;
    Err e = {0};

    (void)state;
    storage_place(s, "exports/forbidden/a.csv", "a");
    sign(s, "exports/forbidden/a.csv", "a.csv", EXPIRES, url);
    assert_int_equal(is_root ? seteuid(NOBODY) : chmod(path_of("forbidden", ".uploads"), 0500), 0);
    assert_null(storage_file.create(s, "exports/u/a.csv", &mark, &watch.base, task, &e));
    assert_int_equal(e.code, ERR_STORAGE_DENIED);
    err_clear(&e);
    assert_fails(storage_file.check(s, &e), ERR_STORAGE_DENIED, &e);
    if (is_root) {
        err_clear(&e);
        assert_fails(storage_file.remove(s, "exports/forbidden/a.csv", &existed, &e),
            ERR_STORAGE_DENIED, &e);
        assert_int_equal(fetch(s, url, 1, &file), ERR_STORAGE_DENIED);
    }
    assert_int_equal(is_root ? seteuid(0) : chmod(path_of("forbidden", ".uploads"), 0700), 0);
    assert_int_equal(fetch(s, url, 1, &file), ERR_NONE);
    arena_free(task);
    storage_file.close(s);
}

/* The limit that a child has on its files (SIGXFSZ is ignored there). */
static void
test_a_file_limit(void **state)
{
    const Upload mark = {"t-fsize", 1, "text/csv"};
    TestWatch watch = watch_new();
    Arena *task = arena_new(1 << 20);
    Storage *s = open_store("fsize");
    struct rlimit before, low;
    Sink *sink;
    Err e = {0};

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = (struct rlimit){100, before.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_ok(
        sink = storage_file.create(s, "exports/fsize/a.csv", &mark, &watch.base, task, &e), &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_ok(sink_write(sink, new_secret, 42, &e), &e);
    assert_ok(sink_write(sink, new_secret, 42, &e), &e);
    assert_fails(sink_write(sink, new_secret, 42, &e), ERR_SIZE_LIMIT, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    sink_abort(sink);
    assert_int_equal(storage_count(s, "exports/"), 0);
    arena_free(task);
    storage_file.close(s);
}

static void
test_no_store(void **state)
{
    StorageSpec spec = spec_of("no/such/parent");
    char path[256];
    Err e = {0};
    int fd;

    (void)state;
    assert_null(storage_file.open(&spec, &e));
    assert_int_equal(e.code, ERR_STORAGE_UNAVAILABLE);
    err_clear(&e);
    snprintf(path, sizeof path, "%s", path_of("a_file", ""));
    path[strlen(path) - 1] = '\0';
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    spec = spec_of("a_file");
    assert_null(storage_file.open(&spec, &e));
    assert_int_equal(e.code, ERR_STORAGE_DENIED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_link),
        cmocka_unit_test(test_what_is_signed),
        cmocka_unit_test(test_every_byte_of_a_link),
        cmocka_unit_test(test_changed_links),
        cmocka_unit_test(test_the_end_of_a_link),
        cmocka_unit_test(test_keys_are_rotated),
        cmocka_unit_test(test_traps),
        cmocka_unit_test(test_removing_traps),
        cmocka_unit_test(test_publishing_into_traps),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_an_upload_exchanged),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_a_new_run_removes_what_was_left),
        cmocka_unit_test(test_no_room_for_another_file),
        cmocka_unit_test(test_a_read_only_disk),
        cmocka_unit_test(test_a_forbidden_folder),
        cmocka_unit_test(test_a_file_limit),
        cmocka_unit_test(test_no_store),
    };
    static const char *const mounts[] = {"full", "inodes", "readonly"};
    StorageSpec spec;
    int failed;

    if (!mkdtemp(dir))
        return 1;
    spec = spec_of("contract");
    failed = storage_contract("storage_file", &storage_file, &spec, 0, NULL);
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < count_of(mounts); i++) /* what a failed test left */
        (void)umount2(path_of(mounts[i], ""), MNT_DETACH);
    (void)nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    return failed;
}
