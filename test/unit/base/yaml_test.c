#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/yaml.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static void
test_values(void **state)
{
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        {"a: text", "{\"a\": \"text\"}"},
        {"a: 12\nb: -3\nc: 0x1f\nd: 0o17\ne: +5\nf: 007",
            "{\"a\": 12, \"b\": -3, \"c\": 31, \"d\": 15, \"e\": 5, \"f\": 7}"},
        {"a: 1.5\nb: 1e3\nc: .5\nd: 2.", "{\"a\": 1.5, \"b\": 1000.0, \"c\": 0.5, \"d\": 2.0}"},
        {"a: true\nb: False\nc: yes\nd: on",
            "{\"a\": true, \"b\": false, \"c\": \"yes\", \"d\": \"on\"}"},
        {"a:\nb: ~\nc: null\nd: ''", "{\"a\": null, \"b\": null, \"c\": null, \"d\": \"\"}"},
        {"a: \"12\"\nb: 'true'\nc: 24h\nd: 0 2 * * *",
            "{\"a\": \"12\", \"b\": \"true\", \"c\": \"24h\", \"d\": \"0 2 * * *\"}"},
        {"a: |\n  one\n  two\n", "{\"a\": \"one\\ntwo\\n\"}"},
        {"a: [1, two, {b: 3}]", "{\"a\": [1, \"two\", {\"b\": 3}]}"},
        {"\"1\": x", "{\"1\": \"x\"}"},
        {"# nothing\n", "null"},
        {"", "null"},
        {"a: 9223372036854775807\nb: -9223372036854775808",
            "{\"a\": 9223372036854775807, \"b\": -9223372036854775808}"},
        {"a: 1_000\nb: 0x\nc: 1e\nd: .",
            "{\"a\": \"1_000\", \"b\": \"0x\", \"c\": \"1e\", \"d\": \".\"}"},
        {"\xef\xbb\xbf"
         "a: bom",
            "{\"a\": \"bom\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(1 << 20);
        Err e = {0};
        Yaml *y = yaml_parse(cases[i].yaml, strlen(cases[i].yaml), "x.yaml", arena, &e);
        char *got;

        if (!y)
            fail_msg("%s: %s", cases[i].yaml, err_root(&e));
        got = json_dumps(yaml_value(y), JSON_ENCODE_ANY);
        assert_string_equal(got, cases[i].json);
        free(got);
        yaml_close(y);
        arena_free(arena);
    }
}

static void
test_refused(void **state)
{
    static const struct {
        const char *name, *yaml, *says;
    } cases[] = {
        {"alias", "a: &x 1\nb: *x\n", "x.yaml:1: anchors"},
        {"alias alone", "a: 1\nb: *x\n", "x.yaml:2"},
        {"a bomb", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "x.yaml:1: anchors"},
        {"tag", "a: 1\nb: !!str 2\n", "x.yaml:2: tags"},
        {"tag on a map", "a: !x {b: 1}\n", "x.yaml:1: tags"},
        {"anchor on a key", "&k a: 1\n", "x.yaml:1: anchors"},
        {"two documents", "a: 1\n---\nb: 2\n", "one document"},
        {"tab", "a:\n\tb: 1\n", "x.yaml:2: a tab"},
        {"no tab", "a: @x\n", "x.yaml:1: found character"},
        {"key twice", "a: 1\nb: 2\na: 3\n", "x.yaml:3: the key a stands here twice"},
        {"key no text", "1: x\n", "x.yaml:1: a key must be text"},
        {"key a list", "? [a]\n: x\n", "x.yaml:1: a key must be text"},
        {"too deep", "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "deeper than 16"},
        {"NUL", "a: \"x\\0y\"\n", "x.yaml:1: a text holds a NUL"},
        {"not UTF-8", "a: \xff\n", "not UTF-8"},
        {"too large a number", "a: 9223372036854775808\n", "x.yaml:1: the number"},
        {"infinity", "a: .inf\n", "not a finite"},
        {"beyond double", "a: 1e999\n", "not a finite"},
        {"not a number", "a: .NaN\n", "not a finite"},
        {"syntax", "a: [1, 2\nb: 3\n", "x.yaml:2"},
        {"tab", "a:\n\tb: 1\n", "x.yaml:2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(1 << 20);
        Err e = {0};

        if (yaml_parse(cases[i].yaml, strlen(cases[i].yaml), "x.yaml", arena, &e))
            fail_msg("taken: %s", cases[i].name);
        assert_int_equal(e.code, ERR_CONFIG_INVALID);
        if (!strstr(err_root(&e), cases[i].says))
            fail_msg("%s says: %s", cases[i].name, err_root(&e));
        arena_free(arena);
    }
}

static void
test_lines(void **state)
{
    static const char text[] = "# one\nname: x\nparams:\n  team: {type: text,\n    max: 3}\n"
                               "columns:\n  - {name: a}\n  - name: b\n    a/b~: 1\n";
    static const struct {
        const char *pointer;
        unsigned line;
    } cases[] = {{"", 2}, {"/name", 2}, {"/params", 3}, {"/params/team", 4},
        {"/params/team/max", 5}, {"/columns/0/name", 7}, {"/columns/1", 8},
        {"/columns/1/a~1b~0", 9}, {"/columns/1/missing", 8}, {"/columns/7", 6},
        {"/nowhere/at/all", 2}};
    Arena *arena = arena_new(1 << 20);
    Err e = {0};
    Yaml *y = yaml_parse(text, sizeof text - 1, "x.yaml", arena, &e);

    (void)state;
    assert_non_null(y);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (yaml_line(y, cases[i].pointer) != cases[i].line)
            fail_msg("%s: line %u", cases[i].pointer, yaml_line(y, cases[i].pointer));
    yaml_close(y);
    arena_free(arena);
}

static void
test_files(void **state)
{
    char dir[] = "/tmp/yaml-test-XXXXXX", path[64];
    Arena *arena = arena_new(4 << 20);
    Err e = {0};
    Yaml *y;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.yaml", dir);
    assert_null(yaml_read(path, arena, &e));
    assert_int_equal(e.code, ERR_CONFIG_INVALID);

    err_clear(&e);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "a: 1\n", 5), 5);
    y = yaml_read(path, arena, &e);
    assert_non_null(y);
    assert_string_equal(yaml_name(y), path);
    yaml_close(y);

    assert_int_equal(fchmod(fd, 0666), 0);
    assert_null(yaml_read(path, arena, &e));
    assert_non_null(strstr(err_root(&e), "writable by everybody"));

    err_clear(&e);
    assert_int_equal(fchmod(fd, 0600), 0);
    for (int i = 0; i < 70000; i++)
        assert_int_equal(write(fd, "# x\n", 4), 4);
    assert_null(yaml_read(path, arena, &e));
    assert_non_null(strstr(err_root(&e), "larger than 256 KiB"));

    err_clear(&e);
    assert_null(yaml_read(dir, arena, &e));
    assert_non_null(strstr(err_root(&e), "not a regular file"));
    close(fd);
    unlink(path);
    rmdir(dir);
    arena_free(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
