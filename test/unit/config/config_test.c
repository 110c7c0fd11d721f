#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "config/config.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static char dir[64];
static Arena *arena;

static int
set_up(void **state)
{
    (void)state;
    clearenv();
    setenv("HOME", "/nonexistent", 1);
    snprintf(dir, sizeof dir, "/tmp/config-test-XXXXXX");
    arena = arena_new(16 << 20);
    return arena && mkdtemp(dir) ? 0 : -1;
}

static int
tear_down(void **state)
{
    char command[128];

    (void)state;
    arena_free(arena);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static const char *
write_file(const char *name, const char *text, mode_t mode)
{
    char *path = arena_printf(arena, &(Err){0}, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

/* `flags` are split at blanks. */
static const Config *
load(const char *flags, bool is_client, ConfigArgs *args, Err *e)
{
    char **argv = arena_alloc(arena, 64 * sizeof *argv, e);
    char *text = arena_text(arena, flags, e), *at, *rest = text;

    *args = (ConfigArgs){.argc = 1, .argv = argv, .is_client = is_client};
    argv[0] = arena_text(arena, "api", e);
    while ((at = strsep(&rest, " ")))
        if (*at)
            argv[args->argc++] = at;
    return config_load(args, arena, e);
}

static const Config *
must_load(const char *flags)
{
    ConfigArgs args;
    Err e = {0};
    const Config *c = load(flags, false, &args, &e);

    if (!c)
        fail_msg("%s: %s", flags, err_root(&e));
    return c;
}

static void
test_defaults(void **state)
{
    const Config *c = must_load("");

    (void)state;
    assert_string_equal(c->host, "127.0.0.1");
    assert_int_equal(c->port, 8000);
    assert_int_equal(c->url_ttl_ms, 86400000);
    assert_int_equal(c->retention_ms, 7 * 86400000LL);
    assert_int_equal(c->task_memory_limit_bytes, 256 << 20);
    assert_string_equal(c->queues, "celery,rowferry");
    assert_true(text_starts(c->hostname, "celery@"));
    assert_int_equal(c->retry_delay_count, 3);
    assert_int_equal(c->retry_delay_ms[2], 300000);
    assert_false(c->listens_beyond_loopback);
    assert_false(c->auth_is_set);
    assert_int_equal(c->listen_fd, -1);
    assert_int_equal(c->types.items, 0);
    assert_null(c->types.item[0]);
    assert_int_equal(c->sources, 2);
    assert_true(config_find_source(c, "graph")->is_demo);
    assert_true(config_find_source(c, "timescale")->is_demo);
    assert_null(config_find_source(c, "shop"));
    assert_string_equal(c->files_dir + strlen(c->data_dir), "/files");
    assert_false(config_is_set(c, "port"));
    if (geteuid() == 0)
        assert_string_equal(c->data_dir, "/var/lib/rowferry");
}

static void
test_flags(void **state)
{
    const Config *c =
        must_load("--port 9 -c4 -l INFO -Q a,b -n w1@%h --url-ttl=90s --drain forever "
                  "--task-memory-limit=64MiB --types /a --types=/b --data-dir /tmp/x//");

    (void)state;
    assert_int_equal(c->port, 9);
    assert_int_equal(c->concurrency, 4);
    assert_string_equal(c->loglevel, "info");
    assert_string_equal(c->queues, "a,b");
    assert_true(text_starts(c->hostname, "w1@"));
    assert_null(strchr(c->hostname, '%'));
    assert_int_equal(c->url_ttl_ms, 90000);
    assert_true(c->drain_ms > 86400000LL * 3000);
    assert_int_equal(c->task_memory_limit_bytes, 64 << 20);
    assert_int_equal(c->types.items, 2);
    assert_string_equal(c->types.item[0], "/a");
    assert_string_equal(c->types.item[1], "/b");
    assert_string_equal(c->data_dir, "/tmp/x");
    assert_string_equal(must_load("-n plain")->hostname, "celery@plain");
    assert_int_equal(must_load("--port=1 --port=2")->port, 2);
}

static void
test_precedence(void **state)
{
    const char *path = write_file("c.yaml",
        "port: 1001\nurl_ttl: 2h\nloglevel: debug\ntypes: [/x, /y]\nunknown_task: 404\n", 0600);
    const Config *c;
    Buf shown = buf_new(1 << 20);

    (void)state;
    setenv("ROWFERRY_CONFIG", path, 1);
    setenv("ROWFERRY_PORT", "1002", 1);
    setenv("ROWFERRY_URL_TTL", "", 1); /* empty is not set */
    c = must_load("--port 1003");
    assert_int_equal(c->port, 1003);
    assert_int_equal(must_load("")->port, 1002);
    assert_int_equal(c->url_ttl_ms, 7200000);
    assert_string_equal(c->loglevel, "debug");
    assert_int_equal(c->types.items, 2);
    assert_string_equal(c->path, path);
    assert_true(config_is_set(c, "port"));
    assert_false(config_is_set(c, "drain"));
    unsetenv("ROWFERRY_PORT");
    assert_int_equal(must_load("")->port, 1001);
    config_show(must_load(""), NULL, false, &shown);
    assert_non_null(strstr(shown.data, "c.yaml:2"));
    buf_free(&shown);
    setenv("ROWFERRY_PORT", "tcp://10.0.0.1:8000", 1); /* Kubernetes */
    assert_int_equal(must_load("")->port, 1001);
    setenv("ROWFERRY_TYPES", "/p:/q:/r", 1);
    assert_int_equal(must_load("")->types.items, 3);
}

static void
test_flags_refused(void **state)
{
    static const struct {
        const char *flags, *says;
    } cases[] = {
        {"--prot 1", "did you mean --port?"},
        {"--port", "--port: expected a value"},
        {"--port 65536", "--port: expected a whole number from 0 to 65535, got \"65536\""},
        {"--port -1", "whole number"},
        {"--port 0x10", "whole number"},
        {"--url-ttl 59s", "from 1m to 7d"},
        {"--url-ttl 8d", "from 1m to 7d"},
        {"--url-ttl soon", "a time like"},
        {"--task-memory-limit 1", "a size like"},
        {"--loglevel loud", "one of debug, info, warning, error"},
        {"--log-format xml", "one of json, text"},
        {"--auth keys", "keys is not available yet"},
        {"--auth maybe", "expected none"},
        {"--redis-url redis://x", "set the variable REDIS_URL"},
        {"--url-secret x", "set the variable ROWFERRY_URL_SECRET"},
        {"--csv-eol lf", "set the variable ROWFERRY_CSV_EOL"},
        {"--types a:b", "without ':'"},
        {"--types=a:", "without ':'"},
        {"--retry-delays 1s,,2s", "--retry-delays: expected 1 to 16 times"},
        {"--retry-delays=", "--retry-delays: expected"},
        {"--max-attempts 0", "from 1 to 100"},
        {"--queues=", "--queues: expected names"},
        {"--queues a,", "--queues: expected names"},
        {"-x", "there is no such option"},
        {"word", "\"word\": expected options only"},
        {"--config /nowhere/c.yaml", "/nowhere/c.yaml"},
        {"--config=", "--config: expected"},
        {"--config", "--config: expected"},
        {"--host \x01", "control characters"},
        {"--host \xff", "UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ConfigArgs args;
        Err e = {0};

        if (load(cases[i].flags, false, &args, &e))
            fail_msg("taken: %s", cases[i].flags);
        assert_int_equal(e.code, ERR_CONFIG_INVALID);
        if (!strstr(err_root(&e), cases[i].says))
            fail_msg("%s says: %s", cases[i].flags, err_root(&e));
    }
}

static void
test_file_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"hosst: x\n", "bad.yaml:1: hosst: unknown key; did you mean host?"},
        {"\n\nport: many\n",
            "bad.yaml:3: port: expected a whole number from 0 to 65535, got \"many\""},
        {"port: [1]\n", "got a list"},
        {"port:\n", "got nothing"},
        {"port: 1.5\n", "got a fraction"},
        {"port: true\n", "got true"},
        {"host: {a: 1}\n", "got a map"},
        {"types: [1]\n", "bad.yaml:1: types: expected paths"},
        {"port: 1\nport: 2\n", "bad.yaml:2: the key port stands here twice"},
        {"- a\n", "expected a map of options"},
        {"sources: [a]\n", "expected a map"},
        {"sources:\n  shop: {urll: x}\n",
            "bad.yaml:2: sources.shop.urll: unknown key; did you mean url?"},
        {"sources:\n  shop: {user: x}\n", "sources.shop: url is missing"},
        {"sources:\n  Shop: {url: 'sqlite:x'}\n", "sources.Shop: expected a name"},
        {"sources:\n  shop: {url: 'sqlite:x', concurrency: 0}\n", "sources.shop.concurrency"},
        {"sources:\n  shop: {url: 'sqlite:x', statement_timeout: never}\n", "statement_timeout"},
        {"sources:\n  shop: {url: 'sqlite:x', password: a, password_file: b}\n",
            "exclude each other"},
        {"sources:\n  shop: {url: 'sqlite:x', password: 5}\n",
            "sources.shop.password: expected text"},
        {"sources:\n  shop: {url: 'no url'}\n", "bad.yaml:2: sources.shop.url: expected a URL"},
        {"sources:\n  graph: {url: 'sqlite:x'}\ngraph_db_url: 'sqlite:y'\n", "exclude each other"},
        {"redis_url: a\nredis_url_file: b\n", "exclude each other"},
        {"s3_access_key: a\n", "s3_secret_key is missing"},
        {"sign_secret_key: a\n", "sign_access_key is missing"},
        {"s3_session_token: a\n", "bad.yaml:1: s3_session_token: goes with s3_access_key"},
        {"s3_access_key: a\ns3_secret_key: 'b '\n", "s3_secret_key: begins or ends with a blank"},
        {"s3_access_key: 'a b'\ns3_secret_key: b\n", "bad.yaml:1: s3_access_key: expected a key"},
        {"s3_access_key: a\ns3_secret_key: b\ns3_anonymous: on\n", "s3_anonymous: is on"},
        {"s3_style: pathh\n",
            "expected one of auto, path, virtual, got \"pathh\"; did you mean path?"},
        {"s3_checksum: crc64\n", "expected one of auto, none, crc32c, crc64nvme"},
        {"s3_part: 4MiB\n", "s3_part: expected a size like 64MiB from 5MiB to 5GiB"},
        {"s3_parallel: 65\n", "from 1 to 64"},
        {"s3_max_parts: 10001\n", "from 1 to 10000"},
        {"s3_tries: 0\n", "from 1 to 20"},
        {"s3_list_version: 3\n", "expected one of 1, 2"},
        {"s3_sse: aws:kmss\n", "did you mean aws:kms?"},
        {"s3_sse_kms_key_id: k\n", "s3_sse_kms_key_id: goes with s3_sse aws:kms"},
        {"s3_storage_class: GLACIER\n", "s3_storage_class: what lies in GLACIER"},
        {"s3_bucket_owner: '12345'\n", "s3_bucket_owner: expected an account's 12 digits"},
        {"s3_bucket: b\ns3_ca_file: /no/such\n", "s3_ca_file: cannot read /no/such"},
        {"s3_bucket: b\ns3_memory: 12MiB\n", "s3_part: 2 parts must be within s3_memory"},
        {"s3_bucket: b\ns3_memory: 240MiB\n", "s3_memory: with 32MiB for all else"},
        {"s3_bucket: b\ntask_memory_limit: 40MiB\n", "s3_part: 2 parts must be within"},
        {"s3_bucket: b\naws_access_key_id: a\n", "aws_secret_access_key is missing"},
        {"aws_role_session_name: 'a b'\n", "aws_role_session_name: expected 2 to 64"},
        {"aws_container_authorization_token: a\naws_access_key_id_file: b\n", "unknown key"},
        {"public_url: ftp://x\n", "public_url: expected a URL"},
        {"public_url: https://u:p@x\n", "public_url: expected a URL"},
        {"accepted_status: 201\n", "expected one of 200, 202"},
        {"url_secret: short\n", "bad.yaml:1: url_secret: expected at most 4 secrets"},
        {"require_auth: on\nhost: 0.0.0.0\n", "require_auth"},
        {"require_auth: yes\nhost: 0.0.0.0\nauth: none\n", "require_auth"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = write_file("bad.yaml", cases[i].text, 0600);
        ConfigArgs args;
        Err e = {0};

        setenv("ROWFERRY_CONFIG", path, 1);
        if (load("", false, &args, &e))
            fail_msg("taken: %s", cases[i].text);
        assert_int_equal(e.code, ERR_CONFIG_INVALID);
        if (!strstr(err_root(&e), cases[i].says))
            fail_msg("%s says: %s", cases[i].text, err_root(&e));
    }
}

/* All of them at once, each in a link of its own. */
static void
test_all_problems(void **state)
{
    ConfigArgs args;
    Err e = {0};

    (void)state;
    setenv("ROWFERRY_CONFIG", write_file("c.yaml", "prot: 1\nhosst: x\n", 0600), 1);
    setenv("ROWFERRY_DRAIN", "x", 1);
    assert_null(load("--url-ttl 1s", false, &args, &e));
    assert_int_equal(e.links, 4);
}

static void
test_secrets(void **state)
{
    static const char ring[] = "0123456789abcdef0123456789abcdef,fedcba9876543210fedcba9876543210";
    const char *open_path = write_file("redis", "redis://:pw@h\n", 0644);
    Buf shown = buf_new(1 << 20);
    ConfigArgs args;
    const Config *c;
    Err e = {0};

    (void)state;
    setenv("REDIS_URL_FILE", open_path, 1);
    setenv("ROWFERRY_URL_SECRET", ring, 1);
    c = must_load("");
    assert_string_equal(c->redis_url, "redis://:pw@h");
    assert_int_equal(c->url_secret_keys, 2);
    assert_string_equal(c->url_secret_key[1], "fedcba9876543210fedcba9876543210");
    config_show(c, NULL, false, &shown);
    config_show(c, "s3: here", true, &shown);
    assert_null(strstr(shown.data, "pw@h"));
    assert_null(strstr(shown.data, "fedcba"));
    assert_non_null(strstr(shown.data, "***"));
    buf_free(&shown);

    setenv("REDIS_URL", "redis://x", 1);
    assert_null(load("", false, &args, &e));
    assert_non_null(strstr(err_root(&e), "REDIS_URL and REDIS_URL_FILE exclude each other"));
    unsetenv("REDIS_URL_FILE");
    assert_string_equal(must_load("")->redis_url, "redis://x");

    /* Out of the environment block, and still known. */
    config_hide_secrets();
    assert_null(getenv("REDIS_URL"));
    assert_string_equal(must_load("")->redis_url, "redis://x");

    /* Who asks no source knows of each which driver it takes, also when it reads all anew. */
    setenv("GRAPH_DB_URL", "neo4j://u:word@g", 1);
    setenv("GRAPH_DB_PASSWORD", "word", 1);
    setenv("ROWFERRY_CONFIG",
        write_file("c.yaml", "sources: {shop: {url: 'sqlite:/s?word', password: word}}\n", 0600),
        1);
    c = must_load("");
    assert_string_equal(config_find_source(c, "graph")->password, "word");
    config_hide_secrets();
    config_forget_sources(c);
    for (unsigned again = 0; again < 2; again++) {
        assert_string_equal(config_find_source(c, "graph")->url, "neo4j:-");
        assert_string_equal(c->graph_db_url, "neo4j:-");
        assert_string_equal(c->graph_db_password, "");
        assert_string_equal(config_find_source(c, "shop")->url, "sqlite:-");
        assert_string_equal(config_find_source(c, "shop")->password, "");
        assert_true(config_find_source(c, "timescale")->is_demo);
        c = must_load("");
        config_forget_sources(c);
    }
    assert_false(config_find_source(c, "graph")->is_demo);

    /* Who opens no storage keeps what only links need. */
    setenv("S3_ACCESS_KEY", "AKIA", 1);
    setenv("S3_SECRET_KEY", "word", 1);
    setenv("AWS_SESSION_TOKEN", "word", 1);
    setenv("ROWFERRY_SIGN_ACCESS_KEY", "AKIS", 1);
    setenv("ROWFERRY_SIGN_SECRET_KEY", "kept", 1);
    c = must_load("");
    assert_string_equal(c->s3_secret_key, "word");
    config_hide_secrets();
    assert_null(getenv("S3_SECRET_KEY"));
    assert_null(getenv("AWS_SESSION_TOKEN"));
    config_forget_storage(c);
    for (unsigned again = 0; again < 2; again++) {
        assert_string_equal(c->s3_access_key, "-");
        assert_string_equal(c->s3_secret_key, "-");
        assert_string_equal(c->aws_session_token, "-");
        assert_string_equal(c->s3_session_token, "");
        assert_string_equal(c->sign_secret_key, "kept");
        c = must_load("");
    }
}

static void
test_credentials_folder(void **state)
{
    (void)state;
    write_file("graph_db_password", "from systemd\n", 0600);
    setenv("CREDENTIALS_DIRECTORY", dir, 1);
    setenv("GRAPH_DB_URL", "neo4j://h", 1);
    assert_string_equal(config_find_source(must_load(""), "graph")->password, "from systemd");
}

static void
test_sources(void **state)
{
    const char *path;
    const Config *c;
    const ConfigSource *s;

    (void)state;
    write_file("pw", "secret\n", 0600);
    path = write_file("c.yaml",
        arena_printf(arena, &(Err){0},
            "sources:\n  graph: {url: 'neo4j://file', user: u, password: p, concurrency: 3}\n"
            "  shop: {url: 'sqlite:/s.db', password_file: %s/pw, statement_timeout: 5m}\n",
            dir),
        0600);
    setenv("ROWFERRY_CONFIG", path, 1);
    c = must_load("");
    assert_int_equal(c->sources, 3);
    s = config_find_source(c, "shop");
    assert_string_equal(s->password, "secret");
    assert_int_equal(s->statement_timeout_ms, 300000);
    s = config_find_source(c, "graph");
    assert_false(s->is_demo);
    assert_string_equal(s->user, "u");

    /* The variable's server does not get the file's password. */
    setenv("GRAPH_DB_URL", "neo4j://variable", 1);
    s = config_find_source(must_load(""), "graph");
    assert_string_equal(s->url, "neo4j://variable");
    assert_null(s->user);
    assert_null(s->password);
    assert_int_equal(s->concurrency, 3);
}

static void
test_client_rest(void **state)
{
    ConfigArgs args;
    Err e = {0};

    (void)state;
    assert_non_null(load("graph_data -p a=1 --port 7 --follow -c 3 -- --port 8", true, &args, &e));
    assert_int_equal(args.rest_count, 9);
    assert_string_equal(args.rest[0], "graph_data");
    assert_string_equal(args.rest[1], "-p");
    assert_string_equal(args.rest[3], "--follow");
    assert_string_equal(args.rest[4], "-c");
    assert_string_equal(args.rest[6], "--");
    assert_string_equal(args.rest[7], "--port");
    assert_null(args.rest[args.rest_count]);
}

static const char *
find_in(const char *const *list, const char *entry)
{
    for (; *list; list++)
        if (text_starts(*list, entry))
            return *list;
    return NULL;
}

static void
test_handing_on(void **state)
{
    const char *path =
        write_file("c.yaml", "drain: 7s\nsources: {shop: {url: 'sqlite:/s'}}\n", 0600);
    const char *const *list;
    const Config *c, *again;
    json_t *json;
    Err e = {0};

    (void)state;
    setenv("ROWFERRY_CONFIG", path, 1);
    setenv("UNRELATED", "x", 1);
    setenv("PATH", "/bin", 1);
    setenv("S3_BUCKET", "b", 1);
    setenv("ROWFERRY_URL_SECRET", "0123456789abcdef0123456789abcdef", 1);
    c = must_load("--types /a --types /b --port 0 -l debug");
    list = config_environment(c, arena, &e);
    assert_non_null(list);
    assert_string_equal(find_in(list, "ROWFERRY_TYPES="), "ROWFERRY_TYPES=/a:/b");
    assert_string_equal(find_in(list, "ROWFERRY_PORT="), "ROWFERRY_PORT=0");
    assert_string_equal(find_in(list, "S3_BUCKET="), "S3_BUCKET=b");
    assert_non_null(find_in(list, "ROWFERRY_DATA_DIR=/"));
    assert_non_null(find_in(list, "ROWFERRY_CONFIG=/"));
    assert_non_null(find_in(list, "PATH=/bin"));
    assert_null(find_in(list, "UNRELATED"));
    assert_null(find_in(list, "ROWFERRY_DRAIN")); /* the file says it */

    json = config_to_json(c);
    assert_non_null(json);
    again = config_from_json(json, arena, &e);
    json_decref(json);
    if (!again)
        fail_msg("%s", err_root(&e));
    assert_int_equal(again->drain_ms, 7000);
    assert_int_equal(again->types.items, 2);
    assert_string_equal(again->hostname, c->hostname);
    assert_int_equal(again->sources, 0);        /* a run brings its own */
    assert_string_equal(again->url_secret, ""); /* no child signs */
    assert_int_equal(again->url_secret_keys, 0);
}

/* security.md 6: a child has what opens the storage, and the source of its run with that run. */
static void
test_child_secrets(void **state)
{
    static const char *const kept_back[] = {"ring-of-links", "queue-word", "graph-word",
        "signing-word", "scale-word", "shop-word", "postgresql:", NULL};
    const char *path = write_file("c.yaml",
        "sources: {shop: {url: 'postgresql://db.example/s', user: u, password: shop-word}}\n",
        0600);
    const Config *c, *again;
    Err e = {0};
    json_t *json;
    char *text;

    (void)state;
    setenv("ROWFERRY_CONFIG", path, 1);
    setenv("ROWFERRY_URL_SECRET", "ring-of-links-0123456789abcdef012", 1);
    setenv("REDIS_URL", "redis://:queue-word@q.example", 1);
    setenv("GRAPH_DB_URL", "neo4j://g.example", 1);
    setenv("GRAPH_DB_USER", "graph-user", 1);
    setenv("GRAPH_DB_PASSWORD", "graph-word", 1);
    setenv("TIMESCALE_URL", "postgresql://t:scale-word@t.example/t", 1);
    setenv("S3_BUCKET", "b", 1);
    setenv("S3_ACCESS_KEY", "AKIA", 1);
    setenv("S3_SECRET_KEY", "storage-word", 1);
    setenv("ROWFERRY_SIGN_ACCESS_KEY", "AKIS", 1);
    setenv("ROWFERRY_SIGN_SECRET_KEY", "signing-word", 1);
    c = must_load("");
    assert_non_null(json = config_to_json(c));
    assert_non_null(text = json_dumps(json, 0));
    for (const char *const *word = kept_back; *word; word++)
        if (strstr(text, *word))
            fail_msg("%s is in what a child gets: %s", *word, text);
    assert_non_null(strstr(text, "storage-word"));
    free(text);
    again = config_from_json(json, arena, &e);
    json_decref(json);
    if (!again)
        fail_msg("%s", err_root(&e));
    assert_string_equal(again->s3_secret_key, "storage-word");
    assert_int_equal(again->sources, 0);
}

/* Without a bucket no child has to do with keys that other programs left in our environment. */
static void
test_child_without_bucket(void **state)
{
    const Config *c, *again;
    Err e = {0};
    json_t *json;
    char *text;

    (void)state;
    setenv("AWS_ACCESS_KEY_ID", "AKIA", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "foreign-word", 1);
    c = must_load("");
    assert_string_equal(c->aws_secret_access_key, "foreign-word");
    assert_non_null(json = config_to_json(c));
    assert_non_null(text = json_dumps(json, 0));
    assert_null(strstr(text, "foreign-word"));
    free(text);
    again = config_from_json(json, arena, &e);
    json_decref(json);
    if (!again)
        fail_msg("%s", err_root(&e));
}

/* Names of other programs: ours come first, in a variable or in the file; keys go by family. */
static void
test_foreign_names(void **state)
{
    const Config *c;
    ConfigArgs args;
    Err e = {0};

    (void)state;
    setenv("S3_BUCKET", "b", 1);
    setenv("AWS_DEFAULT_REGION", "eu-west-1", 1);
    setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/", 1);
    setenv("AWS_EC2_METADATA_DISABLED", "TRUE", 1);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6", 1);
    c = must_load("");
    assert_string_equal(c->s3_region, "eu-west-1");
    assert_string_equal(c->s3_endpoint, "http://127.0.0.1:1/");
    assert_string_equal(c->aws_endpoint_url_sts, "http://127.0.0.1:1");
    assert_true(c->aws_ec2_metadata_disabled);
    assert_string_equal(c->aws_ec2_metadata_service_endpoint_mode, "IPv6");

    setenv("AWS_REGION", "eu-west-2", 1);
    setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2", 1);
    c = must_load("");
    assert_string_equal(c->s3_region, "eu-west-2");
    assert_string_equal(c->s3_endpoint, "http://127.0.0.1:2");

    setenv("ROWFERRY_CONFIG", write_file("c.yaml", "s3_region: eu-west-3\n", 0600), 1);
    assert_string_equal(must_load("")->s3_region, "eu-west-3");
    setenv("S3_REGION", "eu-west-4", 1);
    assert_string_equal(must_load("")->s3_region, "eu-west-4");

    /* One half of each is no pair; a whole pair of ours asks nothing of theirs. */
    setenv("S3_ACCESS_KEY", "ours", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "theirs", 1);
    assert_null(load("", false, &args, &e));
    assert_non_null(strstr(err_root(&e), "s3_secret_key is missing"));
    setenv("S3_SECRET_KEY", "secret", 1);
    must_load("");
    unsetenv("S3_ACCESS_KEY");
    unsetenv("S3_SECRET_KEY");
    e = (Err){0};
    assert_null(load("", false, &args, &e));
    assert_non_null(strstr(err_root(&e), "aws_access_key_id is missing"));
}

/* Somebody forgot the bucket; what other programs left here is no such sign. */
static void
test_no_bucket(void **state)
{
    const Config *c;

    (void)state;
    setenv("AWS_REGION", "eu-west-1", 1);
    setenv("AWS_ACCESS_KEY_ID", "half", 1);
    assert_null(config_warning(must_load(""), 0));
    setenv("ROWFERRY_S3_PART", "16MiB", 1);
    c = must_load("");
    assert_non_null(config_warning(c, 0));
    assert_non_null(strstr(config_warning(c, 0), "s3_part is set, but S3_BUCKET is not"));
}

/* Parts are inside of what an export may use. */
static void
test_s3_memory(void **state)
{
    static const struct {
        const char *flags, *part;
        uint64_t memory_mib;
    } cases[] = {
        {"", "8MiB", 64},
        {"--task-memory-limit 80MiB", "8MiB", 48},
        {"--task-memory-limit 48MiB", "8MiB", 16},
        {"", "64MiB", 128},
    };

    (void)state;
    setenv("S3_BUCKET", "b", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setenv("ROWFERRY_S3_PART", cases[i].part, 1);
        assert_int_equal(must_load(cases[i].flags)->s3_memory_bytes, cases[i].memory_mib << 20);
    }
}

static void
test_prepare_data(void **state)
{
    const char *path = arena_printf(arena, &(Err){0}, "%s/a/b", dir);
    const Config *c = must_load(arena_printf(arena, &(Err){0}, "--data-dir %s", path)), *second;
    struct stat s;
    Err e = {0};

    (void)state;
    if (!config_prepare_data(c, arena, &e))
        fail_msg("%s", err_root(&e));
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
    assert_int_equal(stat(c->files_dir, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
    assert_int_equal(c->url_secret_keys, 1);
    assert_int_equal(strlen(c->url_secret_key[0]), 64);

    second = must_load(arena_printf(arena, &(Err){0}, "--data-dir %s", path));
    assert_true(config_prepare_data(second, arena, &e));
    assert_string_equal(second->url_secret_key[0], c->url_secret_key[0]);

    assert_int_equal(chmod(path, 0777), 0);
    assert_false(config_prepare_data(second, arena, &e));
    assert_non_null(strstr(err_root(&e), "others can write"));
    assert_int_equal(chmod(path, 0700), 0);

    err_clear(&e);
    assert_int_equal(rmdir(c->files_dir), 0);
    assert_int_equal(symlink("/tmp", c->files_dir), 0);
    assert_false(config_prepare_data(second, arena, &e));
    assert_non_null(strstr(err_root(&e), "files must be a folder of our own"));
}

/* Many first starts at once agree on one secret. */
static void
test_first_starts_race(void **state)
{
    enum { STARTS = 12 };
    const Config *c = must_load(arena_printf(arena, &(Err){0}, "--data-dir %s/race", dir));
    int results[2];
    char first[65] = "", one[65];

    (void)state;
    assert_int_equal(pipe(results), 0);
    for (int i = 0; i < STARTS; i++)
        if (fork() == 0) {
            Err e = {0};
            bool ok = config_prepare_data(c, arena, &e) &&
                      write(results[1], c->url_secret_key[0], 64) == 64;

            _exit(ok ? 0 : 1);
        }
    for (int i = 0; i < STARTS; i++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        assert_int_equal(read(results[0], one, 64), 64);
        one[64] = '\0';
        if (i == 0)
            memcpy(first, one, sizeof first);
        assert_string_equal(one, first);
    }
    close(results[0]);
    close(results[1]);
}

int
main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_defaults), EACH(test_flags), EACH(test_precedence), EACH(test_flags_refused),
        EACH(test_file_refused), EACH(test_all_problems), EACH(test_credentials_folder),
        EACH(test_sources), EACH(test_client_rest), EACH(test_handing_on), EACH(test_child_secrets),
        EACH(test_child_without_bucket), EACH(test_foreign_names), EACH(test_no_bucket),
        EACH(test_s3_memory), EACH(test_prepare_data), EACH(test_first_starts_race),
        EACH(test_secrets), /* the last: what it hides stays known */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
