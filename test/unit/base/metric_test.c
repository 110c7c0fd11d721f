/* Metrics as a scraper reads them. */
#include <pthread.h>

#include "base/metric.h"
#include "test/test.h"

static const char *const type_csv[] = {"people", "csv", NULL};

static void
test_series(void **state)
{
    static const struct {
        const char *labels[5];
        const char *want;
    } cases[] = {
        {{"people", "csv", "completed", ""},
            "rowferry_exports_finished_total{type=\"people\",format=\"csv\",outcome=\"completed\","
            "error_code=\"\"}"},
        {{"a\"b\\c\nd", "csv"},
            "rowferry_exports_finished_total{type=\"a\\\"b\\\\c\\nd\",format=\"csv\"}"},
        {{NULL}, "rowferry_exports_finished_total"},
        {{"a", "b", "c", "d"}, "rowferry_exports_finished_total{type=\"a\",format=\"b\",outcome="
                               "\"c\",error_code=\"d\"}"},
    };
    char series[320];

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].want);
        assert_string_equal(
            metric_series(METRIC_EXPORTS_FINISHED, 0, series, sizeof series, cases[i].labels),
            cases[i].want);
    }
    assert_string_equal(metric_series(METRIC_STORAGE_OBJECTS, 0, series, sizeof series, NULL),
        "rowferry_storage_objects");
    assert_string_equal(metric_name(METRIC_STORAGE_OBJECTS), "rowferry_storage_objects");
}

static void
test_buckets(void **state)
{
    static const struct {
        double value;
        const char *le;
    } cases[] = {{0, "0.0005"}, {0.0005, "0.0005"}, {0.0006, "0.001"}, {9.99, "10"}, {10, "10"},
        {10.1, "+Inf"}, {1e300, "+Inf"}};
    static const char *const labels[] = {"/health", "GET", NULL};
    char series[320], want[320];

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].le);
        snprintf(want, sizeof want,
            "rowferry_http_request_duration_seconds_bucket{route=\"/health\",method=\"GET\","
            "le=\"%s\"}",
            cases[i].le);
        assert_string_equal(
            metric_series(METRIC_HTTP_SECONDS, cases[i].value, series, sizeof series, labels),
            want);
    }
    assert_string_equal(metric_series_sum(METRIC_HTTP_SECONDS, series, sizeof series, labels),
        "rowferry_http_request_duration_seconds_sum{route=\"/health\",method=\"GET\"}");
}

/* Half a series would make the whole page unreadable. */
static void
test_labels_too_long(void **state)
{
    static char longest[1000];
    const char *const labels[] = {longest, "csv", NULL};
    char series[320];

    (void)state;
    memset(longest, '"', sizeof longest - 1);
    assert_string_equal(metric_series(METRIC_EXPORTS_REQUESTED, 0, series, sizeof series, labels),
        "rowferry_exports_requested_total{type=\"other\",format=\"other\"}");
}

static char *
print(MetricPage *page)
{
    Buf to = buf_new(64 << 20);
    char *text;

    metric_page_print(page, &to);
    assert_false(to.failed);
    text = malloc(to.bytes + 1);
    assert_non_null(text);
    memcpy(text, to.data, to.bytes + 1);
    buf_free(&to);
    return text;
}

static void
test_page(void **state)
{
    MetricPage *page = metric_page_new();
    char *text;

    (void)state;
    metric_page_put(page, "rowferry_storage_objects", 3);
    metric_page_put(page, "rowferry_exports_requested_total{type=\"b\",format=\"csv\"}", 2);
    metric_page_put(page, "rowferry_exports_requested_total{type=\"a\",format=\"csv\"}", 1);
    metric_page_put(page, "rowferry_exports_requested_total{type=\"a\",format=\"csv\"}", 41);
    metric_page_put(page, "process_start_time_seconds", 1767225600.25);
    metric_page_put(page, "rowferry_storage_bytes", 9007199254740992);
    metric_page_put(page, "rowferry_unknown_total", 1); /* of another version: left out */
    metric_page_put(page, "rowferry_storage_objects_more", 1);
    text = print(page);
    assert_string_equal(text,
        "# HELP rowferry_exports_requested_total Exports accepted.\n"
        "# TYPE rowferry_exports_requested_total counter\n"
        "rowferry_exports_requested_total{type=\"a\",format=\"csv\"} 42\n"
        "rowferry_exports_requested_total{type=\"b\",format=\"csv\"} 2\n"
        "# HELP rowferry_storage_objects Files in the storage.\n"
        "# TYPE rowferry_storage_objects gauge\n"
        "rowferry_storage_objects 3\n"
        "# HELP rowferry_storage_bytes Bytes in the storage.\n"
        "# TYPE rowferry_storage_bytes gauge\n"
        "rowferry_storage_bytes 9007199254740992.0\n"
        "# HELP process_start_time_seconds When this API process started (Unix time).\n"
        "# TYPE process_start_time_seconds gauge\n"
        "process_start_time_seconds 1767225600.25\n");
    free(text);
    metric_page_free(page);
    metric_page_free(NULL);
    page = metric_page_new();
    text = print(page);
    assert_string_equal(text, "");
    free(text);
    metric_page_free(page);
}

static void
test_histogram(void **state)
{
    MetricPage *page = metric_page_new();
    static const char *const labels[] = {"people", NULL}, *const others[] = {"zoo", NULL};
    char *text;

    (void)state;
    metric_observe(METRIC_EXPORT_SECONDS, 0.3, labels);
    metric_observe(METRIC_EXPORT_SECONDS, 0.5, labels);
    metric_observe(METRIC_EXPORT_SECONDS, 5000, labels);
    metric_observe(METRIC_EXPORT_SECONDS, 0.005, others);
    metric_page_local(page);
    text = print(page);
    assert_non_null(
        strstr(text, "# TYPE rowferry_export_duration_seconds histogram\n"
                     "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"0.01\"} 0\n"
                     "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"0.05\"} 0\n"
                     "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"0.1\"} 0\n"
                     "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"0.5\"} 2\n"
                     "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"1\"} 2\n"));
    assert_non_null(
        strstr(text, "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"3600\"} 2\n"
                     "rowferry_export_duration_seconds_bucket{type=\"people\",le=\"+Inf\"} 3\n"
                     "rowferry_export_duration_seconds_sum{type=\"people\"} 5000.8\n"
                     "rowferry_export_duration_seconds_count{type=\"people\"} 3\n"
                     "rowferry_export_duration_seconds_bucket{type=\"zoo\",le=\"0.01\"} 1\n"));
    free(text);
    metric_page_free(page);
}

static void *
count_up(void *with)
{
    (void)with;
    for (int i = 0; i < 10000; i++)
        metric_add(METRIC_EXPORT_ROWS, 1, type_csv);
    return NULL;
}

static void
test_threads(void **state)
{
    MetricPage *page = metric_page_new();
    pthread_t threads[4];
    char *text;

    (void)state;
    for (size_t i = 0; i < count_of(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    for (size_t i = 0; i < count_of(threads); i++)
        pthread_join(threads[i], NULL);
    metric_page_local(page);
    text = print(page);
    assert_non_null(
        strstr(text, "rowferry_export_rows_total{type=\"people\",format=\"csv\"} 40000\n"));
    free(text);
    metric_page_free(page);
}

/* Row 73's last wall: whatever comes, there is an end to it, and nothing is lost from the sum. */
static void
test_too_many_series(void **state)
{
    MetricPage *page = metric_page_new();
    size_t lines = 0;
    double sum = 0;
    char *text;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        char name[32];
        const char *const labels[] = {name, "GET", "200", NULL};

        snprintf(name, sizeof name, "route %d", i);
        metric_add(METRIC_HTTP_REQUESTS, 1, labels);
        metric_observe(METRIC_HTTP_SECONDS, 0.001, labels);
    }
    metric_page_local(page);
    text = print(page);
    for (char *at = text, *next; *at; at = next) {
        next = strchr(at, '\n') + 1;
        lines++;
        if (strncmp(at, "rowferry_http_requests_total{", 29) == 0)
            sum += strtod(strchr(at, '}') + 1, NULL);
    }
    assert_true(sum == 20000);
    assert_non_null(strstr(
        text, "rowferry_http_requests_total{route=\"other\",method=\"other\",code=\"other\"} "));
    assert_non_null(strstr(
        text, "rowferry_http_request_duration_seconds_count{route=\"other\",method=\"other\"} "));
    assert_true(lines < 50000);
    free(text);
    metric_page_free(page);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_series),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_labels_too_long),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_too_many_series),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
