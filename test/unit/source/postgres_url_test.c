/* source/postgres/url.c: what a URL means for libpq, whatever stands in the environment. */
#include <sys/stat.h>
#include <unistd.h>

#include "source/postgres/postgres_in.h"
#include "test/test.h"

extern char **environ;

static Arena *task;
static char folder[] = "/tmp/rowferry_url_XXXXXX";

/* A surrounding of our own: nobody's ~/.postgresql, nobody's PGHOST. */
static void
surround(const char *const *pairs)
{
    assert_int_equal(clearenv(), 0);
    assert_int_equal(setenv("HOME", folder, 1), 0);
    for (; pairs && *pairs; pairs += 2)
        assert_int_equal(setenv(pairs[0], pairs[1], 1), 0);
}

static int
set_up(void **state)
{
    (void)state;
    if (!(task = arena_new(64 << 20)) || !mkdtemp(folder))
        return -1;
    surround(NULL);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    arena_free(task);
    return rmdir(folder);
}

static PgParams
params_of(const SourceSpec *spec)
{
    PgParams params;
    Err e = {0};

    assert_ok(pg_params(spec, task, &params, &e), &e);
    return params;
}

static const char *
value_of(const PgParams *params, const char *keyword)
{
    const char *found = NULL;

    for (size_t i = 0; params->keyword[i]; i++)
        if (strcmp(params->keyword[i], keyword) == 0) {
            assert_null(found); /* each once */
            found = params->value[i];
        }
    return found;
}

static const char *
word(const char *url, const char *keyword)
{
    PgParams params = params_of(&(SourceSpec){.url = url});

    return value_of(&params, keyword);
}

static void
is_same(const char *got, const char *want)
{
    if (!want)
        assert_null(got);
    else if (!got)
        fail_msg("nothing instead of %s", want);
    else
        assert_string_equal(got, want);
}

static void
test_words(void **state)
{
    static const struct {
        const char *url, *keyword, *want;
    } cases[] = {
        {"postgresql://ann:p%40ss@db:6543/shop", "user", "ann"},
        {"postgresql://ann:p%40ss@db:6543/shop", "password", "p@ss"},
        {"postgres://ann:p%40ss@db:6543/shop", "host", "db"},
        {"postgresql://ann:p%40ss@db:6543/shop", "port", "6543"},
        {"postgresql://ann:p%40ss@db:6543/shop", "dbname", "shop"},
        {"postgresql://db", "user", NULL},
        {"postgresql://db", "dbname", NULL},
        {"postgresql:///shop?host=%2Frun%2Fpg", "host", "/run/pg"},
        {"postgresql://a:1,b:2,[::1]:3/shop", "host", "a,b,::1"},
        {"postgresql://a:1,b,c:3/shop", "port", "1,,3"},
        {"postgresql://db/?user=me@example&hostaddr=10.0.0.1", "user", "me@example"},
        {"postgresql://db/?target_session_attrs=standby", "target_session_attrs", "standby"},
        {"postgresql://db/?service=shop", "service", "shop"},
        {"postgresql://u:a?b@db/", "password", "a?b"},
        {"postgresql://db", "client_encoding", "UTF8"},
        {"postgresql://db", "application_name", "rowferry"},
        {"postgresql://db?client_encoding=LATIN1", "client_encoding", "UTF8"},
        {"postgresql://db?application_name=x", "application_name", "rowferry"},
        {"postgresql://db?fallback_application_name=x", "fallback_application_name", NULL},
        {"postgresql://db?connect_timeout=1", "connect_timeout", NULL},
        {"postgresql://db?keepalives=0", "keepalives", "1"},
        {"postgresql://db?tcp_user_timeout=0", "tcp_user_timeout", "4000"},
        {"postgresql://db", "keepalives", "1"},
        {"postgresql://db", "keepalives_idle", "15"},
        {"postgresql://db", "keepalives_interval", "5"},
        {"postgresql://db", "keepalives_count", "3"},
        {"postgresql://db", "tcp_user_timeout", "4000"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].url);
        is_same(word(cases[i].url, cases[i].keyword), cases[i].want);
    }
}

/* The source's own login stands before the URL's. */
static void
test_login(void **state)
{
    PgParams params = params_of(
        &(SourceSpec){.url = "postgresql://ann:old@db/shop", .user = "bob", .password = "n e w"});

    (void)state;
    assert_string_equal(value_of(&params, "user"), "bob");
    assert_string_equal(value_of(&params, "password"), "n e w");
    params = params_of(&(SourceSpec){.url = "postgresql://db", .user = "bob", .password = "new"});
    assert_string_equal(value_of(&params, "user"), "bob");
    assert_string_equal(value_of(&params, "password"), "new");
    params = params_of(&(SourceSpec){.url = "postgresql://ann:old@db", .user = "", .password = ""});
    assert_string_equal(value_of(&params, "user"), "ann");
    assert_string_equal(value_of(&params, "password"), "old");
}

static void
test_ids(void **state)
{
    static const char *const others[] = {"postgresql://ann@db/", "postgresql://ann@db/shop2",
        "postgresql://bob@db/shop", "postgresql://ann:x@db/shop", "postgresql://ann@db:5433/shop",
        "postgresql://ann@db/shop?sslmode=require", "postgresql://ann@db.example/shop"};
    PgParams one = params_of(&(SourceSpec){.url = "postgresql://ann@db/shop"});
    PgParams same = params_of(&(SourceSpec){.url = "postgres://db/shop", .user = "ann"});

    (void)state;
    assert_int_equal(strlen(one.id), PG_ID_BYTES - 1);
    assert_string_equal(one.id, same.id);
    for (size_t i = 0; i < count_of(others); i++) {
        PgParams other = params_of(&(SourceSpec){.url = others[i]});

        trying(others[i]);
        assert_string_not_equal(one.id, other.id);
    }
}

/* security.md 8: what is local may go without TLS, nothing else unless it is written. */
static void
test_tls_by_host(void **state)
{
    static const struct {
        const char *url, *mode;
    } cases[] = {
        {"postgresql://", NULL},
        {"postgresql:///shop", NULL},
        {"postgresql:///shop?host=/run/postgresql", NULL},
        {"postgresql://%2Frun%2Fpostgresql/shop", NULL},
        {"postgresql://localhost/shop", NULL},
        {"postgresql://127.0.0.1/shop", NULL},
        {"postgresql://[::1]/shop", NULL},
        {"postgresql://[fe80::1%25eth0]/shop", NULL},
        {"postgresql://10.1.2.3/shop", NULL},
        {"postgresql://172.31.0.1/shop", NULL},
        {"postgresql://192.168.0.1/shop", NULL},
        {"postgresql://100.64.0.1/shop", NULL},
        {"postgresql://[fd00::1]/shop", NULL},
        {"postgresql://db/shop", NULL},
        {"postgresql://DB.Internal/shop", NULL},
        {"postgresql://db.local./shop", NULL},
        {"postgresql://db.ns.svc.cluster.local/shop", NULL},
        {"postgresql://a,b.lan,10.0.0.1/shop", NULL},
        {"postgresql://db.example/shop?hostaddr=10.0.0.1", NULL},
        {"postgresql://db.example/shop", "verify-full"},
        {"postgresql://8.8.8.8/shop", "verify-full"},
        {"postgresql://134744072/shop", "verify-full"},
        {"postgresql://172.32.0.1/shop", "verify-full"},
        {"postgresql://[2001:db8::1]/shop", "verify-full"},
        {"postgresql://[2001:db8::1%25x]/shop", "verify-full"},
        {"postgresql://db,db.example/shop", "verify-full"},
        {"postgresql://db/shop?hostaddr=8.8.8.8", "verify-full"},
        {"postgresql://a,b/shop?hostaddr=10.0.0.1,8.8.8.8", "verify-full"},
        {"postgresql://a,b.example/shop?hostaddr=10.0.0.1,", "verify-full"},
        {"postgresql://db.example/shop?sslmode=disable", "disable"},
        {"postgresql://db.example/shop?sslmode=require", "require"},
        {"postgresql://db.example/shop?ssl=true", "require"},
        {"postgresql://db/shop?sslmode=verify-ca", "verify-ca"},
        {"postgresql://db.example/shop?service=shop", NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].url);
        is_same(word(cases[i].url, "sslmode"), cases[i].mode);
    }
}

static void
test_tls_by_environment(void **state)
{
    static const struct {
        const char *environment[5];
        const char *url, *mode;
    } cases[] = {
        {{"PGSSLMODE", "require"}, "postgresql://db.example/shop", NULL},
        {{"PGSSLMODE", "disable"}, "postgresql://db.example/shop", NULL},
        {{"PGSSLMODE", "disable"}, "postgresql://db.example/shop?sslmode=allow", "allow"},
        {{"PGSERVICE", "shop"}, "postgresql://db.example/shop", NULL},
        {{"PGHOST", "db.example"}, "postgresql:///shop", "verify-full"},
        {{"PGHOST", "db.example"}, "postgresql://db/shop", NULL},
        {{"PGHOSTADDR", "8.8.8.8"}, "postgresql://db/shop", "verify-full"},
        {{"PGHOST", "db"}, "postgresql://db.example/shop", "verify-full"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].url);
        surround(cases[i].environment);
        is_same(word(cases[i].url, "sslmode"), cases[i].mode);
    }
    surround(NULL);
}

/* Debian's bundle is there: the tests' own packages bring it. */
static void
test_trust(void **state)
{
    static const char bundle[] = "/etc/ssl/certs/ca-certificates.crt";
    static const struct {
        const char *environment[3];
        const char *url, *file;
    } cases[] = {
        {{NULL}, "postgresql://db.example", bundle},
        {{NULL}, "postgresql://db?sslmode=verify-full", bundle},
        {{NULL}, "postgresql://db?sslmode=verify-ca", bundle},
        {{NULL}, "postgresql://db?sslmode=require", NULL},
        {{NULL}, "postgresql://db", NULL},
        {{NULL}, "postgresql://db.example?sslrootcert=/a.pem", "/a.pem"},
        {{NULL}, "postgresql://db?sslmode=verify-full&service=s", NULL},
        {{"PGSSLROOTCERT", "/a.pem"}, "postgresql://db.example", NULL},
        {{"PGSSLMODE", "verify-full"}, "postgresql://db", bundle},
    };
    char home[64], file[80];
    FILE *own;

    (void)state;
    assert_int_equal(access(bundle, R_OK), 0);
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].url);
        surround(cases[i].environment);
        is_same(word(cases[i].url, "sslrootcert"), cases[i].file);
    }
    surround(NULL);
    snprintf(home, sizeof home, "%s/.postgresql", folder);
    snprintf(file, sizeof file, "%s/root.crt", home);
    assert_int_equal(mkdir(home, 0700), 0);
    assert_non_null(own = fopen(file, "w"));
    assert_int_equal(fclose(own), 0);
    trying("the user's own");
    is_same(word("postgresql://db.example", "sslrootcert"), NULL);
    is_same(word("postgresql://db.example", "sslmode"), "verify-full");
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(home), 0);
}

/* What a service file says fills only what the URL leaves open, and is not written over. */
static void
test_services(void **state)
{
    char file[80];
    FILE *services;
    PgParams params;

    (void)state;
    snprintf(file, sizeof file, "%s/services", folder);
    assert_non_null(services = fopen(file, "w"));
    fputs("[shop]\nhost=db.example\nsslmode=require\nsslrootcert=/a.pem\nuser=carl\n", services);
    assert_int_equal(fclose(services), 0);
    surround((const char *const[]){"PGSERVICEFILE", file, NULL});
    params = params_of(&(SourceSpec){.url = "postgresql:///?service=shop"});
    assert_string_equal(value_of(&params, "service"), "shop");
    is_same(value_of(&params, "user"), NULL);
    is_same(value_of(&params, "host"), NULL);
    is_same(value_of(&params, "sslmode"), NULL);
    is_same(value_of(&params, "sslrootcert"), NULL);
    surround((const char *const[]){"PGSERVICEFILE", file, "PGSERVICE", "shop", NULL});
    params = params_of(&(SourceSpec){.url = "postgresql://?sslmode=verify-full"});
    is_same(value_of(&params, "sslmode"), "verify-full");
    is_same(value_of(&params, "sslrootcert"), NULL);
    surround(NULL);
    assert_int_equal(unlink(file), 0);
}

static void
test_refused(void **state)
{
    static const struct {
        const char *url, *says;
    } cases[] = {
        {"", "none that libpq can read"},
        {"db.example", "none that libpq can read"},
        {"host=db", "none that libpq can read"},
        {"postgresql:", "none that libpq can read"},
        {"postgresql:db", "none that libpq can read"},
        {"postgresql:/db", "none that libpq can read"},
        {"POSTGRESQL://db", "none that libpq can read"},
        {"mysql://db", "none that libpq can read"},
        {" postgresql://db", "none that libpq can read"},
        {"postgresql://db/%zz", "none that libpq can read"},
        {"postgresql://db/%00", "none that libpq can read"},
        {"postgresql://[::1/", "none that libpq can read"},
        {"postgresql://db?sslmode", "none that libpq can read"},
        {"postgresql://db?&", "none that libpq can read"},
        {"postgresql://db\n", "control characters"},
        {"postgresql://db/\xff", "UTF-8"},
        {"postgresql://db?options=-c%20x%3Dy", "options may not stand"},
        {"postgresql://db?replication=database", "replication may not stand"},
        {"postgresql://db?schema=public", "libpq knows no schema"},
        {"postgresql://db?sslmode=require&pgbouncer=true", "libpq knows no pgbouncer"},
        {"postgresql://db?Sslmode=require", "none that libpq can read"},
        {"postgresql://db?sslmode=full", "sslmode of the URL must be"},
        {"postgresql://db:0", "a port"},
        {"postgresql://db:65536", "a port"},
        {"postgresql://db:5432x", "a port"},
        {"postgresql://a:1,b:-2", "a port"},
        {"postgresql://db?port=1,2,x", "a port"},
        {"postgresql://u:sec@ret@db/shop", "an @ too many"},
        {"postgresql://u:1234/secret@db/shop", "an @ too many"},
        {"postgresql://u:sec/ret@db", "an @ too many"},
        {"postgresql://u:secret@db@/shop", "an @ too many"},
        {"postgresql://u:sec?secret=/ret@db/shop", "none that libpq can read"},
    };
    char *longest;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = {.url = cases[i].url};
        PgParams params;
        char said[1024];
        Err e = {0};

        trying(cases[i].url);
        assert_fails(pg_judge_url(cases[i].url, &e), ERR_CONFIG_INVALID, &e);
        assert_says(&e, cases[i].says);
        assert_null(strstr(err_chain(&e, said, sizeof said), "sec"));
        err_clear(&e);
        assert_fails(pg_params(&spec, task, &params, &e), ERR_CONFIG_INVALID, &e);
    }
    longest = calloc(1, 8194);
    memset(longest, 'a', 8193);
    memcpy(longest, "postgresql://", 13);
    for (int i = 0; i < 2; i++) {
        Err e = {0};

        assert_int_equal(pg_judge_url(longest, &e), i == 1);
        longest[8192] = '\0';
    }
    free(longest);
}

static void
test_no_memory(void **state)
{
    SourceSpec spec = {.url = "postgresql://ann:secret@db.example/shop"};
    bool ok = false;

    (void)state;
    for (unsigned long nth = 1; !ok; nth++) {
        Arena *own = arena_new(1 << 20);
        PgParams params;
        Err e = {0};

        arena_fail_at(nth);
        ok = pg_params(&spec, own, &params, &e);
        arena_fail_at(0);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        arena_free(own);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_tls_by_host),
        cmocka_unit_test(test_tls_by_environment),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
