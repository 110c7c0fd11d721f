/* Names become kinds: plan.c, kinds.c, and whether a query yields what its type says. */
#include "export/plan.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static Arena *arena;
static char folder[BENCH_PATH_BYTES];

static int
set_up(void **state)
{
    (void)state;
    arena = arena_new(16 << 20);
    bench_folder(folder);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    arena_free(arena);
    return rmdir(folder);
}

static void
test_plan(void **state)
{
    static const ColumnSpec columns[] = {{.name = "a", .type = COLUMN_TEXT}};
    static const bool given[] = {true};
    static const TypeQuery queries[] = {{"sqlite", "SELECT 1 AS a"}, {"split", "SELECT 1 AS a"}};
    static const SourceParam params[] = {{.name = "p", .is_null = true}};
    const ExportType type = {.name = "t",
        .column = columns,
        .column_type_given = given,
        .columns = 1,
        .query = queries,
        .queries = COUNT(queries),
        .parallel = {.table = "t", .connections = 3}};
    const ExportRequest good = {.type = &type,
        .format = "csv",
        .compression = "none",
        .param = params,
        .params = 1,
        .row_limit = 17,
        .options = encoder_options_default()};
    const ConfigSource source = {
        .name = "graph", .url = "sqlite:/x.db", .user = "me", .statement_timeout_ms = 5000};
    const Upload mark = {.task_id = "t1", .epoch = 3};
    ConfigSource strange = source;
    ExportRequest other = good;
    ExportType without = type;
    SourceKind split = source_sqlite;
    const SourceKind *const split_sources[] = {&split, NULL};
    Kinds splitting = bench_kinds;
    ExportPlan plan;
    Err e = {0};

    (void)state;
    splitting.source = split_sources;
    assert_true(plan_make(&good, &source, &bench_kinds, &storage_file, NULL, "exports/u/k.csv",
        &mark, arena, &plan, &e));
    assert_ptr_equal(plan.source, &source_sqlite);
    assert_ptr_equal(plan.format, &format_csv);
    assert_ptr_equal(plan.codec, &codec_none);
    assert_ptr_equal(plan.storage_kind, &storage_file);
    assert_string_equal(plan.spec.name, "graph");
    assert_string_equal(plan.spec.url, "sqlite:/x.db");
    assert_string_equal(plan.spec.user, "me");
    assert_string_equal(plan.spec.query, "SELECT 1 AS a");
    assert_string_equal(plan.spec.task_id, "t1");
    assert_int_equal(plan.spec.timeout_ms, 5000);
    assert_ptr_equal(plan.spec.param, params);
    assert_int_equal(plan.spec.params, 1);
    assert_int_equal(plan.spec.columns, 1);
    assert_int_equal(plan.row_limit, 17);
    assert_int_equal(plan.mark.epoch, 3);
    assert_string_equal(plan.mark.content_type, "text/csv; charset=utf-8");
    assert_string_equal(plan.key, "exports/u/k.csv");
    assert_null(plan.spec.parallel); /* its source does not split */
    split.name = "split";
    split.splits = true;
    split.schemes = (const char *const[]){"split", NULL};
    strange.url = "split:x";
    strange.concurrency = 2;
    assert_true(
        plan_make(&good, &strange, &splitting, &storage_file, NULL, "k", &mark, arena, &plan, &e));
    assert_int_equal(plan.spec.parallel->connections, 2); /* no more than the source lets in */
    assert_string_equal(plan.spec.parallel->table, "t");
    /* What this program does not have. */
    strange.url = "oracle://x";
    assert_false(plan_make(
        &good, &strange, &bench_kinds, &storage_file, NULL, "k", &mark, arena, &plan, &e));
    assert_int_equal(e.code, ERR_SOURCE_UNAVAILABLE);
    err_clear(&e);
    without.queries = 0;
    other.type = &without;
    assert_false(plan_make(
        &other, &source, &bench_kinds, &storage_file, NULL, "k", &mark, arena, &plan, &e));
    assert_int_equal(e.code, ERR_SOURCE_QUERY);
    err_clear(&e);
    other = good;
    other.format = "parquet";
    assert_false(plan_make(
        &other, &source, &bench_kinds, &storage_file, NULL, "k", &mark, arena, &plan, &e));
    assert_int_equal(e.code, ERR_INTERNAL);
    err_clear(&e);
    other = good;
    other.compression = "";
    assert_false(plan_make(
        &other, &source, &bench_kinds, &storage_file, NULL, "k", &mark, arena, &plan, &e));
    assert_int_equal(e.code, ERR_INTERNAL);
}

static void
test_kinds(void **state)
{
    static const struct {
        const char *url;
        bool known;
    } cases[] = {{"sqlite:/a", true}, {"sqlite:", true}, {"sqlite", true}, {"sqlit:/a", false},
        {"sqlite3:/a", false}, {"SQLITE:/a", false}, {"", false}, {":", false},
        {"postgresql://x", false}};
    Config config = {.redis_url = "", .s3_bucket = ""};
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        if ((kinds_source(&bench_kinds, cases[i].url) != NULL) != cases[i].known)
            fail_msg("%s", cases[i].url);
    assert_ptr_equal(kinds_format(&bench_kinds, "csv"), &format_csv);
    assert_null(kinds_format(&bench_kinds, "CSV"));
    assert_ptr_equal(kinds_codec(&bench_kinds, "none"), &codec_none);
    assert_null(kinds_codec(&bench_kinds, ""));
    assert_ptr_equal(kinds_storage(&bench_kinds, &config, &e), &storage_file);
    assert_ptr_equal(kinds_queue(&bench_kinds, &config, &e), &queue_embedded);
    config.redis_url = "redis://x";
    config.s3_bucket = "b";
    assert_null(kinds_storage(&bench_kinds, &config, &e));
    assert_int_equal(e.code, ERR_CONFIG_INVALID);
    err_clear(&e);
    assert_null(kinds_queue(&bench_kinds, &config, &e));
    assert_int_equal(e.code, ERR_CONFIG_INVALID);
}

static bool
judge_by_host(const char *url, Err *e)
{
    return strstr(url, "good") || fail_code(e, ERR_CONFIG_INVALID, "no host of ours");
}

/* Each with a driver that can work with it; what is said is where the URL stands, not the URL. */
static void
test_judge_sources(void **state)
{
    static const struct {
        const char *name, *url;
        const char *says; /* NULL: nothing is wrong */
    } cases[] = {
        {"an optional judge", "sqlite:/a", NULL},
        {"judged good", "judged://u:secret@good/", NULL},
        {"judged bad", "judged://u:secret@bad/", "FILE:3: sources.b.url: no host of ours"},
        {"no driver", "oracle://u:secret@h/",
            "FILE:3: sources.b.url: this version has no driver for oracle:, only for sqlite:, "
            "judged:"},
    };
    const SourceKind judged = {
        .name = "judged", .schemes = (const char *const[]){"judged", NULL}, .judge = judge_by_host};
    const SourceKind *const both[] = {&source_sqlite, &judged, NULL};
    Kinds kinds = bench_kinds;

    (void)state;
    kinds.source = both;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const ConfigSource sources[] = {{.name = "a", .url = "sqlite:/x", .place = "GRAPH_DB_URL"},
            {.name = "b", .url = cases[i].url, .place = "FILE:3: sources.b.url"}};
        const Config config = {.source = sources, .sources = 2};
        Err e = {0};
        bool ok = kinds_judge_sources(&kinds, &config, &e);

        if (ok != !cases[i].says || (!ok && strcmp(err_root(&e), cases[i].says) != 0))
            fail_msg("%s: %s", cases[i].name, err_root(&e));
        assert_int_equal(e.code, ok ? ERR_NONE : ERR_CONFIG_INVALID);
    }
}

/* Only who signs gets the secrets. */
static void
test_specs(void **state)
{
    static const char *const ring[] = {"new", "old"};
    const Config config = {.data_dir = "/d",
        .files_dir = "/d/files",
        .s3_bucket = "",
        .url_secret_key = ring,
        .url_secret_keys = 2,
        .queue_limit = 5};
    StorageSpec storage = kinds_storage_spec(&config, false);
    QueueSpec queue = kinds_queue_spec(&config, true, false);

    (void)state;
    assert_int_equal(storage.url_secrets, 0);
    assert_null(storage.url_secret[0]);
    assert_string_equal(storage.dir, "/d/files");
    assert_int_equal(storage.bytes_max, INT64_C(50) << 30);
    storage = kinds_storage_spec(&config, true);
    assert_int_equal(storage.url_secrets, 2);
    assert_string_equal(storage.url_secret[0], "new");
    assert_string_equal(queue.dir, "/d");
    assert_true(queue.writes);
    assert_false(queue.wakes);
    assert_int_equal(queue.limit, 5);
    assert_int_equal(queue.busy_ms, 2000);
}

/* Every option of S3 reaches the driver; keys come from one family, a token with its own pair. */
static void
test_s3_spec(void **state)
{
    static const struct {
        const char *name, *value;
    } variables[] = {
        {"S3_BUCKET", "b"},
        {"S3_ENDPOINT", "http://127.0.0.1:9"},
        {"ROWFERRY_S3_PUBLIC_ENDPOINT", "https://files.example.com"},
        {"ROWFERRY_S3_PART", "16MiB"},
        {"ROWFERRY_S3_SSE", "AWS:KMS"},
        {"ROWFERRY_S3_IDLE_TIMEOUT", "7s"},
        {"ROWFERRY_S3_URL_ENCODE", "off"},
        {"AWS_ACCESS_KEY_ID", "theirs"},
        {"AWS_SECRET_ACCESS_KEY", "their-secret"},
        {"AWS_SESSION_TOKEN", "their-token"},
        {"AWS_USE_FIPS_ENDPOINT", "true"},
        {"ROWFERRY_SIGN_ACCESS_KEY", "signer"},
        {"ROWFERRY_SIGN_SECRET_KEY", "signers-secret"},
    };
    S3Spec spec;

    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        setenv(variables[i].name, variables[i].value, 1);
    spec = kinds_storage_spec(bench_config(arena, NULL), true).s3;
    assert_string_equal(spec.bucket, "b");
    assert_string_equal(spec.region, "");
    assert_string_equal(spec.public_endpoint, "https://files.example.com");
    assert_string_equal(spec.style, "auto");
    assert_int_equal(spec.part_bytes, 16 << 20);
    assert_int_equal(spec.parallel, 4);
    assert_int_equal(spec.idle_timeout_ms, 7000);
    assert_string_equal(spec.sse, "aws:kms");
    assert_false(spec.url_encode);
    assert_true(spec.fips);
    assert_string_equal(spec.access_key, "theirs");
    assert_string_equal(spec.session_token, "their-token");
    assert_string_equal(spec.access_key_name, "AWS_ACCESS_KEY_ID");
    assert_string_equal(spec.sign_secret_key, "signers-secret");

    setenv("S3_ACCESS_KEY", "ours", 1);
    setenv("S3_SECRET_KEY", "our-secret", 1);
    setenv("ROWFERRY_S3_SSE", "none", 1);
    spec = kinds_storage_spec(bench_config(arena, NULL), false).s3;
    assert_string_equal(spec.access_key, "ours");
    assert_string_equal(spec.session_token, "");
    assert_string_equal(spec.sse, "");
    assert_string_equal(spec.sign_access_key, ""); /* this one signs no links */
    assert_string_equal(spec.sign_secret_key, "");

    unsetenv("S3_ACCESS_KEY");
    unsetenv("S3_SECRET_KEY");
    setenv("ROWFERRY_S3_ANONYMOUS", "on", 1);
    spec = kinds_storage_spec(bench_config(arena, NULL), false).s3;
    assert_true(spec.anonymous);
    assert_string_equal(spec.access_key, "");
    unsetenv("ROWFERRY_S3_ANONYMOUS");
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i].name);
}

/* types --check: the columns are asked of the real source. */
static void
test_type_check(void **state)
{
    static const struct {
        const char *name, *query;
        ErrCode code;
        const char *says;
    } cases[] = {
        {"good", "SELECT a, b FROM t WHERE ($p IS NULL OR a = $p)", ERR_NONE, NULL},
        {"other order", "SELECT b, a FROM t WHERE $p IS NULL", ERR_NONE, NULL},
        {"a column missing", "SELECT a FROM t WHERE $p IS NULL", ERR_SOURCE_QUERY, "b"},
        {"no such column", "SELECT a, c AS b FROM t WHERE $p IS NULL", ERR_SOURCE_QUERY, "c"},
        {"no such table", "SELECT a, b FROM u WHERE $p IS NULL", ERR_SOURCE_QUERY, "u"},
        {"no SQL", "SELEC $p", ERR_SOURCE_QUERY, "SELEC"},
        {"it writes", "DELETE FROM t WHERE a = $p", ERR_SOURCE_QUERY, NULL},
    };
    char path[BENCH_PATH_BYTES + 16], url[BENCH_PATH_BYTES + 32];
    ConfigSource source = {.name = "graph", .url = url};
    const Config config = {.source = &source, .sources = 1};
    sqlite3 *db;

    (void)state;
    snprintf(path, sizeof path, "%s/t.db", folder);
    snprintf(url, sizeof url, "sqlite:%s", path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "CREATE TABLE t (a TEXT, b REAL)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[512], chain[2048];
        const ExportType *type;
        json_t *json;
        Err e = {0};
        bool ok;

        snprintf(text, sizeof text,
            "{\"name\":\"x\",\"source\":\"graph\",\"params\":{\"p\":{\"type\":\"text\"}},"
            "\"columns\":[{\"name\":\"a\",\"type\":\"text\"},{\"name\":\"b\",\"type\":\"double\"}],"
            "\"query\":\"%s\"}",
            cases[i].query);
        json = json_parse(text, strlen(text), 8, &e);
        type = json ? type_from_json(json, arena, &e) : NULL;
        if (!type)
            fail_msg("%s: %s", cases[i].name, err_root(&e));
        ok = type_check(type, &config, &bench_kinds, &e);
        err_chain(&e, chain, sizeof chain);
        if (ok != (cases[i].code == ERR_NONE) || e.code != cases[i].code)
            fail_msg("%s: %s", cases[i].name, chain);
        if (cases[i].says && !strstr(chain, cases[i].says))
            fail_msg("%s says: %s", cases[i].name, chain);
        if (i == 0) { /* the database is not there */
            source.url = "sqlite:/nowhere/t.db";
            assert_false(type_check(type, &config, &bench_kinds, &e));
            assert_int_equal(e.code, ERR_SOURCE_UNAVAILABLE);
            source.url = url;
        }
        json_decref(json);
    }
    assert_int_equal(unlink(path), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_judge_sources),
        cmocka_unit_test(test_specs),
        cmocka_unit_test(test_s3_spec),
        cmocka_unit_test(test_type_check),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
