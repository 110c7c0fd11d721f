/* The flag parser, and that the tables of commands can be told apart by it. */
#include "cli/cli_in.h"
#include "test/test.h"

static const char *const colors[] = {"red", "blue", NULL};

static const CliFlag own[] = {
    {"param", 'p', "NAME=VALUE", .many = true},
    {"out", 'o', "FILE"},
    {"follow", 0, NULL},
    {"download", 0, "DIR", .argument_is_optional = true},
    {"color", 0, "COLOR", .choices = colors},
    {0},
};

static const CliFlag global[] = {
    {"quiet", 'q', NULL},
    {"verbose", 'v', NULL},
    {"url", 0, "URL"},
    {"json", 0, "FIELDS", .argument_is_optional = true, .only_equals = true},
    {0},
};

/* What was parsed as one text: flags as name=value, then words, blank between. */
static const char *
shown(const CliArgs *parsed)
{
    static char text[512];
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < parsed->givens; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s=%s", at ? " " : "",
            parsed->given[i].flag->name, parsed->given[i].value);
    for (int i = 0; i < parsed->words; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? " " : "", parsed->word[i]);
    assert_null(parsed->word[parsed->words]);
    return text;
}

/* Blank-separated arguments, parsed; NULL: it failed, with `e`. */
static const char *
parsed(const char *line, Arena *arena, Err *e)
{
    static char copy[512];
    char *args[32];
    size_t count = 0;
    CliArgs result;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *at = strtok_r(copy, " ", &args[31]); at; at = strtok_r(NULL, " ", &args[31]))
        args[count++] = at;
    args[count] = NULL;
    return flags_parse(args, own, global, arena, &result, e) ? shown(&result) : NULL;
}

static void
test_parse(void **state)
{
    static const struct {
        const char *line, *want;
    } cases[] = {
        {"", ""},
        {"one two", "one two"},
        {"--follow one", "follow= one"},
        {"one --follow", "follow= one"},
        {"--out=a", "out=a"},
        {"--out= one", "out= one"},
        {"--out a b", "out=a b"},
        {"-o a", "out=a"},
        {"-oa", "out=a"},
        {"-o=a", "out==a"},
        {"-qv one", "quiet= verbose= one"},
        {"-qoa", "quiet= out=a"},
        {"-qo a", "quiet= out=a"},
        {"-o -", "out=-"},
        {"--out -v", "out=-v"},
        {"- one", "- one"},
        {"-- --follow -q", "--follow -q"},
        {"-p a=1 -pb=2 --param=c=3", "param=a=1 param=b=2 param=c=3"},
        {"--download one", "download= one"},
        {"one --download two", "download=two one"},
        {"one --download --follow", "download= follow= one"},
        {"one --download", "download= one"},
        {"one --download -", "download=- one"},
        {"--download=two one", "download=two one"},
        {"one --json two", "json= one two"},
        {"--json=a,b one", "json=a,b one"},
        {"--color blue", "color=blue"},
    };
    Arena *arena = arena_new(1 << 20);

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Err e = {0};
        const char *got;

        trying(cases[i].line);
        got = parsed(cases[i].line, arena, &e);
        if (!got)
            fail_msg("%s", err_root(&e));
        assert_string_equal(got, cases[i].want);
    }
    arena_free(arena);
}

static void
test_refuse(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--folow", "did you mean --follow?"},
        {"--quite=1", "did you mean --quiet?"},
        {"--qwertzuiop", "--qwertzuiop: there is no such flag"},
        {"-x", "-x: there is no such flag"},
        {"-qx", "-x: there is no such flag"},
        {"--follow=yes", "--follow: this flag takes no value"},
        {"--out", "--out: expected FILE behind it"},
        {"one -o", "-o: expected FILE behind it"},
        {"--color=green", "\"green\" is none of red, blue"},
        {"--", NULL},
        {"---follow", "there is no such flag"},
        {"--foll", "did you mean --follow?"},
    };
    Arena *arena = arena_new(1 << 20);

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Err e = {0};
        const char *got;

        trying(cases[i].line);
        got = parsed(cases[i].line, arena, &e);
        if (!cases[i].says) {
            assert_non_null(got);
            continue;
        }
        assert_null(got);
        assert_int_equal(e.code, ERR_USAGE);
        assert_says(&e, cases[i].says);
    }
    arena_free(arena);
}

static void
test_find_word(void **state)
{
    static const struct {
        const char *args[6];
        int want;
    } cases[] = {
        {{"status"}, 0},
        {{"--json", "status"}, 1},
        {{"--url", "http://a", "status"}, 2},
        {{"--url=http://a", "status"}, 1},
        {{"-qv", "status", "x"}, 1},
        {{"--unknown", "status"}, 1},
        {{"--", "status"}, 1},
        {{"--"}, -1},
        {{"--url"}, -1},
        {{"-q"}, -1},
        {{NULL}, -1},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        char texts[6][32], *args[7] = {NULL};

        for (size_t k = 0; k < 6 && cases[i].args[k]; k++) {
            snprintf(texts[k], sizeof texts[k], "%s", cases[i].args[k]);
            args[k] = texts[k];
        }
        trying(cases[i].args[0] ? cases[i].args[0] : "nothing");
        assert_int_equal(flags_find_word(args, global), cases[i].want);
    }
}

/* No name or letter twice: within a command, and between it and what all have. */
static void
test_tables(void **state)
{
    (void)state;
    for (const CliCommand *command = cli_commands; command->name; command++) {
        trying(command->name);
        assert_non_null(command->run);
        assert_non_null(command->does);
        assert_true(command->words_min <= command->words_max);
        for (const CliCommand *other = cli_commands; other < command; other++)
            assert_string_not_equal(other->name, command->name);
        for (const CliFlag *flag = command->flags; flag && flag->name; flag++) {
            assert_non_null(flag->help);
            for (const CliFlag *before = command->flags; before < flag; before++) {
                assert_string_not_equal(before->name, flag->name);
                assert_false(flag->letter && before->letter == flag->letter);
            }
            for (const CliFlag *all = cli_global_flags; all->name; all++) {
                assert_string_not_equal(all->name, flag->name);
                assert_false(flag->letter && all->letter == flag->letter);
            }
        }
    }
}

/* A local command's flags must not be those that the configuration takes first. */
static void
test_options_apart(void **state)
{
    char option[64], letter;
    const char *takes;

    (void)state;
    for (const CliCommand *command = cli_commands; command->name; command++)
        for (size_t i = 0; command->local && config_flag("client", i, option, &letter, &takes); i++)
            for (const CliFlag *flag = command->flags; flag && flag->name; flag++) {
                trying(flag->name);
                assert_string_not_equal(option + 2, flag->name);
                assert_false(letter && letter == flag->letter);
            }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_find_word),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_options_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
