/* The shared files of AWS's tools: one table for each question that they ask. */
#include <sys/stat.h>
#include <unistd.h>

#include "storage/s3/credentials_in.h"
#include "test/contract/s3_spec.h"
#include "test/test.h"

static char dir[64], config_path[96], credentials_path[96];

static S3Spec nothing;

static void
write_file(const char *path, const char *text)
{
    FILE *f;

    if (!text) {
        (void)unlink(path);
        return;
    }
    assert_non_null(f = fopen(path, "w"));
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static int
set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/rowferry-profile-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(config_path, sizeof config_path, "%s/config", dir);
    snprintf(credentials_path, sizeof credentials_path, "%s/credentials", dir);
    nothing = s3_spec_new();
    nothing.config_file = config_path;
    nothing.credentials_file = credentials_path;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    (void)unlink(config_path);
    (void)unlink(credentials_path);
    return rmdir(dir);
}

static void
test_lines(void **state)
{
    static const struct {
        const char *name;
        SectionForm form;
        const char *profile, *text;
        bool is_there;
        const char *access_key, *region, *command;
    } cases[] = {
        {"nothing", SECTIONS_BARE, "default", "", false, "", "", ""},
        {"plain", SECTIONS_BARE, "default", "[default]\naws_access_key_id = A\nregion=r\n", true,
            "A", "r", ""},
        {"no line end", SECTIONS_BARE, "default", "[default]\nregion = r", true, "", "r", ""},
        {"another's", SECTIONS_BARE, "default", "[other]\nregion = r\n", false, "", "", ""},
        {"CRLF and blanks", SECTIONS_BARE, "default",
            "[default] \r\nregion\t= \t r \r\n\r\naws_access_key_id=A\r\n", true, "A", "r", ""},
        {"BOM", SECTIONS_BARE, "default", "\xef\xbb\xbf[default]\nregion = r\n", true, "", "r", ""},
        {"comments", SECTIONS_BARE, "default",
            "# a\n;b\n[default] ; c\n  # d\nregion = r # e\naws_access_key_id = A#B;C\n", true,
            "A#B;C", "r", ""},
        {"a comment is all the value", SECTIONS_BARE, "default", "[default]\nregion = # r\n", true,
            "", "", ""},
        {"nested", SECTIONS_BARE, "default",
            "[default]\ns3 =\n  region = no\n  [default]\n\taws_access_key_id = no\nregion = r\n",
            true, "", "r", ""},
        {"nested under a key of ours", SECTIONS_BARE, "default",
            "[default]\nregion =\n  aws_access_key_id = no\n", true, "", "", ""},
        {"goes on", SECTIONS_BARE, "default",
            "[default]\ncredential_process = a b\n   c # d\n\n\te\nregion = r\n", true, "", "r",
            "a b\nc\ne"},
        {"goes on under an unknown key", SECTIONS_BARE, "default",
            "[default]\nwhat = a\n  region = no\nregion = r\n", true, "", "r", ""},
        {"indented behind a section", SECTIONS_BARE, "default", "[default]\n  region = r\n", true,
            "", "r", ""},
        {"twice", SECTIONS_BARE, "default",
            "[default]\nregion = a\naws_access_key_id = A\n[x]\nregion = b\n[default]\nregion = "
            "c\n",
            true, "A", "c", ""},
        {"a key twice", SECTIONS_BARE, "default", "[default]\nregion = a\nregion =\n", true, "", "",
            ""},
        {"case of keys", SECTIONS_BARE, "default", "[default]\nAWS_Access_Key_ID = A\n", true, "A",
            "", ""},
        {"case of names", SECTIONS_BARE, "default", "[Default]\nregion = r\n", false, "", "", ""},
        {"values keep '='", SECTIONS_BARE, "default", "[default]\naws_access_key_id = a==\n", true,
            "a==", "", ""},
        {"empty section", SECTIONS_BARE, "default", "[default]\n", true, "", "", ""},
        {"profile form", SECTIONS_PROFILE, "x", "[x]\nregion = no\n[profile x]\nregion = r\n", true,
            "", "r", ""},
        {"blanks in the section", SECTIONS_PROFILE, "x", "[ profile \t x ]\nregion = r\n", true, "",
            "r", ""},
        {"quoted", SECTIONS_PROFILE, "a b", "[profile \"a b\"]\nregion = r\n", true, "", "r", ""},
        {"a name with blanks", SECTIONS_PROFILE, "a b", "[profile a b]\nregion = r\n", true, "",
            "r", ""},
        {"other kinds of sections", SECTIONS_PROFILE, "x",
            "[sso-session x]\nregion = a\n[services x]\nregion = b\n[profilex]\nregion = c\n",
            false, "", "", ""},
        {"a profile called profile x", SECTIONS_BARE, "profile x", "[profile x]\nregion = r\n",
            true, "", "r", ""},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        ProfileText text = {cases[i].text, strlen(cases[i].text), "file"};
        Profile p = {0};
        Err e = {0};

        trying(cases[i].name);
        assert_ok(profile_parse(&text, cases[i].form, cases[i].profile, &p, &e), &e);
        assert_int_equal(p.is_there, cases[i].is_there);
        assert_string_equal(p.access_key, cases[i].access_key);
        assert_string_equal(p.region, cases[i].region);
        assert_string_equal(p.command, cases[i].command);
    }
}

static void
test_bad_lines(void **state)
{
    static const struct {
        const char *name, *text;
        size_t bytes; /* 0: all of the text */
        const char *says;
    } cases[] = {
        {"a key before all", "region = SECRET\n", 0, "file:1: a key before the first [section]"},
        {"no equals", "[default]\n\naws_secret_access_key SECRET\n", 0, "file:3: neither"},
        {"no key", "[default]\n = SECRET\n", 0, "file:2: a value without a key"},
        {"an open section", "[default\nSECRET", 0, "file:1: a section without its ]"},
        {"more", "[default] SECRET\n", 0, "file:1: more than a section"},
        {"NUL", "[default]\nregion = SECR\0ET\n", 26, "file:2: a NUL byte"},
        {"too long", "[default]\nregion = SECRET7890123456789012345678901234\n", 0,
            "file:2: region is longer than 32 bytes"},
        {"too long in two lines", "[default]\nregion = SECRET789012345678901234\n  5678901234\n", 0,
            "file:3: region is longer than 32 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        ProfileText text = {
            cases[i].text, cases[i].bytes ? cases[i].bytes : strlen(cases[i].text), "file"};
        Profile p = {0};
        Err e = {0};
        char said[1024];

        trying(cases[i].name);
        assert_fails(
            profile_parse(&text, SECTIONS_BARE, "default", &p, &e), ERR_CONFIG_INVALID, &e);
        assert_says(&e, cases[i].says);
        assert_null(strstr(err_chain(&e, said, sizeof said), "SECRET"));
    }
}

/* Two files. */
static void
test_files(void **state)
{
    static const struct {
        const char *name, *profile, *config, *credentials;
        bool is_there;
        const char *access_key, *secret_key, *token, *region;
    } cases[] = {
        {"neither", "default", NULL, NULL, false, "", "", "", ""},
        {"config alone", "default", "[default]\nregion = r\n", NULL, true, "", "", "", "r"},
        {"credentials alone", "x", NULL, "[x]\naws_access_key_id=A\n", true, "A", "", "", ""},
        {"credentials win", "x",
            "[profile x]\nregion = r\naws_access_key_id=A\naws_secret_access_key=B\n"
            "aws_session_token=C\n",
            "[x]\naws_access_key_id=D\naws_secret_access_key=E\n", true, "D", "E", "", "r"},
        {"their region as well", "x", "[profile x]\nregion = r\n", "[x]\nregion = s\n", true, "",
            "", "", "s"},
        {"[x] in config is nobody", "x", "[x]\nregion = r\n", NULL, false, "", "", "", ""},
        {"[profile x] in credentials is another", "x", NULL, "[profile x]\nregion = r\n", false, "",
            "", "", ""},
        {"[profile default] counts", "default",
            "[profile default]\nregion = r\n[default]\nregion = s\n", NULL, true, "", "", "", "r"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Profile p = {0};
        Err e = {0};

        trying(cases[i].name);
        write_file(config_path, cases[i].config);
        write_file(credentials_path, cases[i].credentials);
        assert_ok(profile_read(&nothing, cases[i].profile, &p, &e), &e);
        assert_int_equal(p.is_there, cases[i].is_there);
        assert_string_equal(p.access_key, cases[i].access_key);
        assert_string_equal(p.secret_key, cases[i].secret_key);
        assert_string_equal(p.token, cases[i].token);
        assert_string_equal(p.region, cases[i].region);
    }
}

static void
test_places(void **state)
{
    S3Spec spec = nothing;
    char aws[96];
    Profile p = {0};
    Err e = {0};

    (void)state;
    write_file(config_path, NULL);
    /* A pipe that nobody writes to is empty, and nobody waits for it. */
    assert_int_equal(mkfifo(config_path, 0600), 0);
    spec.credentials_file = "/dev/null";
    assert_ok(profile_read(&spec, "x", &p, &e), &e);
    write_file(config_path, NULL);
    /* A folder is no file. */
    spec.credentials_file = dir;
    assert_fails(profile_read(&spec, "x", &p, &e), ERR_CONFIG_INVALID, &e);
    err_clear(&e);
    /* Without a name for them they are in ~/.aws. */
    snprintf(aws, sizeof aws, "%s/.aws", dir);
    assert_int_equal(mkdir(aws, 0700), 0);
    assert_int_equal(setenv("HOME", dir, 1), 0);
    spec.config_file = spec.credentials_file = "";
    assert_ok(profile_read(&spec, "x", &p, &e), &e);
    assert_false(p.is_there);
    snprintf(aws, sizeof aws, "%s/.aws/credentials", dir);
    write_file(aws, "[x]\nregion = home\n");
    assert_ok(profile_read(&spec, "x", &p, &e), &e);
    assert_string_equal(p.region, "home");
    write_file(aws, NULL);
    snprintf(aws, sizeof aws, "%s/.aws", dir);
    assert_int_equal(rmdir(aws), 0);
}

static void
test_too_large(void **state)
{
    Profile p = {0};
    Err e = {0};
    FILE *f;

    (void)state;
    assert_non_null(f = fopen(credentials_path, "w"));
    for (unsigned i = 0; i < (1 << 20) / 8; i++)
        fputs("#2345678\n", f);
    fclose(f);
    assert_fails(profile_read(&nothing, "default", &p, &e), ERR_CONFIG_INVALID, &e);
    assert_says(&e, "is larger than");
}

#define KEYS "aws_access_key_id=A\naws_secret_access_key=B\n"
#define ROLE(n) "role_arn = arn:aws:iam::1:role/" #n "\n"

/* From a profile to whom is asked, and how. */
static void
test_plans(void **state)
{
    static const struct {
        const char *name, *profile, *config;
        SourceKind kind; /* SOURCE_NONE with says: fails */
        unsigned roles;
        const char *source, *says;
    } cases[] = {
        {"nothing", "", "", SOURCE_NONE, 0, "", NULL},
        {"a region is no credential", "", "[default]\nregion = r\n", SOURCE_NONE, 0, "", NULL},
        {"the default's keys", "", "[default]\n" KEYS, SOURCE_KEYS, 0, "profile default", NULL},
        {"named", "x", "[profile x]\n" KEYS, SOURCE_KEYS, 0, "profile x", NULL},
        {"named and not there", "x", "[default]\n" KEYS, SOURCE_NONE, 0, "", "no profile x"},
        {"half a pair", "", "[default]\naws_access_key_id = A\n", SOURCE_NONE, 0, "",
            "aws_secret_access_key is missing"},
        {"the other half", "", "[default]\naws_secret_access_key = A\n", SOURCE_NONE, 0, "",
            "aws_access_key_id is missing"},
        {"no key at all", "", "[default]\naws_access_key_id=A B\naws_secret_access_key=C\n",
            SOURCE_NONE, 0, "", "cannot be keys"},
        {"a process", "", "[default]\ncredential_process = /bin/x\n", SOURCE_PROCESS, 0,
            "profile default", NULL},
        {"keys before a process", "", "[default]\ncredential_process = /bin/x\n" KEYS, SOURCE_KEYS,
            0, "profile default", NULL},
        {"web identity", "", "[default]\n" ROLE(a) "web_identity_token_file = /t\n",
            SOURCE_WEB_IDENTITY, 0, "profile default", NULL},
        {"SSO", "x", "[profile x]\nsso_start_url = u\n", SOURCE_NONE, 0, "",
            "use credential_process with the AWS CLI"},
        {"SSO before keys", "x", "[profile x]\nsso_session = u\n" KEYS, SOURCE_NONE, 0, "", "SSO"},
        {"a role", "x", "[profile x]\n" ROLE(a) "source_profile = y\n[profile y]\n" KEYS,
            SOURCE_KEYS, 1, "profile x", NULL},
        {"a role before keys", "x",
            "[profile x]\n" KEYS ROLE(a) "source_profile = y\n[profile y]\n" KEYS, SOURCE_KEYS, 1,
            "profile x", NULL},
        {"its own keys", "x", "[profile x]\n" KEYS ROLE(a) "source_profile = x\n", SOURCE_KEYS, 1,
            "profile x", NULL},
        {"its own keys, without", "x", "[profile x]\n" ROLE(a) "source_profile = x\n", SOURCE_NONE,
            0, "", "aws_access_key_id is missing"},
        {"the instance's", "x", "[profile x]\n" ROLE(a) "credential_source = Ec2InstanceMetadata\n",
            SOURCE_INSTANCE, 1, "profile x", NULL},
        {"the container's, without", "x",
            "[profile x]\n" ROLE(a) "credential_source = EcsContainer\n", SOURCE_NONE, 0, "",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"},
        {"the environment's", "x", "[profile x]\n" ROLE(a) "credential_source = Environment\n",
            SOURCE_NONE, 0, "", "AWS_ACCESS_KEY_ID is not set"},
        {"nobody's", "x", "[profile x]\n" ROLE(a) "credential_source = Moon\n", SOURCE_NONE, 0, "",
            "credential_source must be"},
        {"a role alone", "x", "[profile x]\n" ROLE(a) KEYS, SOURCE_NONE, 0, "", "needs one of"},
        {"two sources", "x",
            "[profile x]\n" ROLE(a) "source_profile=y\ncredential_source=Environment\n",
            SOURCE_NONE, 0, "", "needs one of"},
        {"a chain of five", "a",
            "[profile a]\n" ROLE(1) "source_profile=b\n[profile b]\n" ROLE(
                2) "source_profile=c\n"
                   "[profile c]\n" ROLE(3) "source_profile=d\n[profile d]\n" ROLE(
                       4) "source_profile=e\n"
                          "[profile e]\n" ROLE(5) "source_profile=f\n[profile f]\n" KEYS,
            SOURCE_KEYS, 5, "profile a", NULL},
        {"a chain of six", "a",
            "[profile a]\n" ROLE(1) "source_profile=b\n[profile b]\n" ROLE(
                2) "source_profile=c\n"
                   "[profile c]\n" ROLE(3) "source_profile=d\n[profile d]\n" ROLE(
                       4) "source_profile=e\n"
                          "[profile e]\n" ROLE(5) "source_profile=f\n[profile f]\n" ROLE(
                              6) "source_profile=g\n"
                                 "[profile g]\n" KEYS,
            SOURCE_NONE, 0, "", "more than 5 source profiles"},
        {"a circle", "a",
            "[profile a]\n" ROLE(1) "source_profile=b\n[profile b]\n" ROLE(2) "source_profile=a\n",
            SOURCE_NONE, 0, "", "in a circle: b leads to a"},
        {"a chain into nothing", "a", "[profile a]\n" ROLE(1) "source_profile=b\n", SOURCE_NONE, 0,
            "", "no profile b, the source_profile of a"},
        {"a chain to no keys", "a",
            "[profile a]\n" ROLE(1) "source_profile=b\n[profile b]\nregion=r\n", SOURCE_NONE, 0, "",
            "profile b, the source_profile of a, has no keys"},
        {"too short a session", "x",
            "[profile x]\n" ROLE(a) "source_profile=y\nduration_seconds=899\n[profile y]\n" KEYS,
            SOURCE_NONE, 0, "", "duration_seconds"},
        {"too long a session", "x",
            "[profile x]\n" ROLE(a) "source_profile=y\nduration_seconds=43201\n[profile y]\n" KEYS,
            SOURCE_NONE, 0, "", "duration_seconds"},
    };
    static Plan plan;

    (void)state;
    write_file(credentials_path, NULL);
    for (size_t i = 0; i < count_of(cases); i++) {
        S3Spec spec = nothing;
        Err e = {0};

        trying(cases[i].name);
        spec.profile = cases[i].profile;
        memset(&plan, 0, sizeof plan);
        write_file(config_path, cases[i].config);
        if (cases[i].says) {
            assert_fails(profile_plan(&spec, &plan, &e), ERR_CONFIG_INVALID, &e);
            assert_says(&e, cases[i].says);
            continue;
        }
        assert_ok(profile_plan(&spec, &plan, &e), &e);
        assert_int_equal(plan.kind, cases[i].kind);
        assert_int_equal(plan.roles, cases[i].roles);
        assert_string_equal(plan.name, cases[i].source);
    }
}

static void
test_details(void **state)
{
    static Plan plan;
    S3Spec spec = nothing;
    Err e = {0};

    (void)state;
    spec.profile = "a";
    write_file(config_path,
        "[profile a]\nregion = ra\n" ROLE(
            1) "source_profile=b\n"
               "role_session_name = s1\nexternal_id = e1\nduration_seconds = 7200\n"
               "[profile b]\nregion = rb\n" ROLE(2) "source_profile=c\n");
    write_file(credentials_path, "[c]\n" KEYS "aws_session_token = T\n");
    memset(&plan, 0, sizeof plan);
    assert_ok(profile_plan(&spec, &plan, &e), &e);
    assert_string_equal(plan.region, "ra");
    assert_int_equal(plan.roles, 2);
    assert_string_equal(plan.role[0].arn, "arn:aws:iam::1:role/1");
    assert_string_equal(plan.role[0].session, "s1");
    assert_string_equal(plan.role[0].external_id, "e1");
    assert_int_equal(plan.role[0].duration_s, 7200);
    assert_string_equal(plan.role[1].arn, "arn:aws:iam::1:role/2");
    assert_string_equal(plan.role[1].session, "");
    assert_int_equal(plan.role[1].duration_s, 0);
    assert_string_equal(plan.keys.access_key, "A");
    assert_string_equal(plan.keys.secret_key, "B");
    assert_string_equal(plan.keys.token, "T");
}

static void
test_commands(void **state)
{
    static const struct {
        const char *name, *command, *words; /* joined by '|'; NULL: refused */
    } cases[] = {
        {"one", "/bin/x", "/bin/x"},
        {"blanks", "  a \t b\n c  ", "a|b|c"},
        {"double quotes", "a \"b c\" d", "a|b c|d"},
        {"single quotes", "a 'b \"c\\' d", "a|b \"c\\|d"},
        {"within a word", "a b\"c d\"'e f'g", "a|bc de fg"},
        {"empty words", "a \"\" ''", "a||"},
        {"backslash", "a b\\ c \\\"d\\\\", "a|b c|\"d\\"},
        {"backslash within quotes", "a \"b\\\"c\\\\d\\e\\$\\`\"", "a|b\"c\\d\\e$`"},
        {"a backslash is last", "a b\\", "a|b\\"},
        {"nothing is expanded", "a $HOME ~ * `b` ;c|d >e", "a|$HOME|~|*|`b`|;c|d|>e"},
        {"open double", "a \"b", NULL},
        {"open single", "a 'b", NULL},
        {"open after a backslash", "a \"b\\\"", NULL},
        {"nothing", "", NULL},
        {"only blanks", "  \n", NULL},
        {"too many", "1 2 3 4 5 6 7 8", NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        const char *word[8];
        char room[COMMAND_BYTES], joined[COMMAND_BYTES] = "";
        Err e = {0};

        trying(cases[i].name);
        if (!cases[i].words) {
            assert_fails(
                provider_split(cases[i].command, room, word, 8, &e), ERR_CONFIG_INVALID, &e);
            continue;
        }
        assert_ok(provider_split(cases[i].command, room, word, 8, &e), &e);
        for (size_t w = 0; word[w]; w++)
            snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", w ? "|" : "",
                word[w]);
        assert_string_equal(joined, cases[i].words);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plans, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_details, set_up, tear_down),
        cmocka_unit_test(test_commands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
