/* Prometheus text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/ */
#include "base/metric.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"

enum {
    SERIES_BYTES = 320,
    SERIES_MAX = 5000, /* of this process */
    BUCKETS_MAX = 20,
    OTHERS_MAX = METRICS * (BUCKETS_MAX + 2), /* what is counted when there are more */
    PAGE_SERIES_MAX = 2 * (SERIES_MAX + OTHERS_MAX),
    TABLE_SLOTS = 16384,
    LABELS_MAX = 8,
};

static const char *const others[LABELS_MAX + 1] = {
    "other", "other", "other", "other", "other", "other", "other", "other"};

static const double latency[] = {
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10};
static const double longer[] = {
    0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600};

static const struct {
    MetricType type;
    const char *name, *labels;
    const double *bucket;
    size_t buckets;
    const char *help;
} metrics[METRICS] = {
#define BUCKETS_NONE NULL, 0
#define BUCKETS_LATENCY latency, sizeof latency / sizeof latency[0]
#define BUCKETS_LONG longer, sizeof longer / sizeof longer[0]
#define METRIC(id, type, name, labels, buckets, help)                                              \
    [METRIC_##id] = {METRIC_##type, name, labels, BUCKETS_##buckets, help},
#include "base/metric.def"
#undef METRIC
};

const char *
metric_name(MetricId id)
{
    return metrics[id].name;
}

/* `name="value",…` without braces; escapes of the text format. */
static void
put_labels(Buf *to, const char *names, const char *const *values)
{
    while (*names && values && *values) {
        size_t bytes = strcspn(names, ",");

        buf_put(to, names, bytes);
        buf_text(to, "=\"");
        for (const char *c = *values; *c; c++) {
            if (*c == '\\' || *c == '"')
                buf_char(to, '\\');
            if (*c == '\n')
                buf_text(to, "\\n");
            else
                buf_char(to, *c);
        }
        buf_char(to, '"');
        names += bytes;
        values++;
        if (*names == ',' && *values) {
            buf_char(to, ',');
            names++;
        }
    }
}

/* False if it does not fit. */
static bool
write_series(MetricId id, const char *suffix, const char *le, char *to, size_t to_bytes,
    const char *const *labels)
{
    bool fits;
    Buf text = buf_new(SERIES_BYTES * 4);
    bool has_labels = labels && *labels && *metrics[id].labels;

    buf_text(&text, metrics[id].name);
    buf_text(&text, suffix);
    if (has_labels || le)
        buf_char(&text, '{');
    if (has_labels)
        put_labels(&text, metrics[id].labels, labels);
    if (le)
        buf_printf(&text, "%sle=\"%s\"", has_labels ? "," : "", le);
    if (has_labels || le)
        buf_char(&text, '}');
    fits = !text.failed && text_copy(to, to_bytes, text.data);
    buf_free(&text);
    return fits;
}

/* Labels longer than there is room for are "other": half a series would spoil the whole page. */
static char *
make_series(MetricId id, const char *suffix, const char *le, char *to, size_t to_bytes,
    const char *const *labels)
{
    if (!write_series(id, suffix, le, to, to_bytes, labels))
        (void)write_series(id, suffix, le, to, to_bytes, labels ? others : NULL);
    return to;
}

char *
metric_series(MetricId id, double value, char *to, size_t to_bytes, const char *const *labels)
{
    char le[32] = "+Inf";

    if (metrics[id].type != METRIC_HISTOGRAM)
        return make_series(id, "", NULL, to, to_bytes, labels);
    for (size_t i = 0; i < metrics[id].buckets; i++)
        if (value <= metrics[id].bucket[i]) {
            snprintf(le, sizeof le, "%.15g", metrics[id].bucket[i]);
            break;
        }
    return make_series(id, "_bucket", le, to, to_bytes, labels);
}

char *
metric_series_sum(MetricId id, char *to, size_t to_bytes, const char *const *labels)
{
    return make_series(id, "_sum", NULL, to, to_bytes, labels);
}

/* A table of series: open addressing, never shrinks. */
typedef struct {
    char *series; /* NULL: free */
    double value;
} Entry;

typedef struct {
    Entry *entry;
    size_t slots, used;
} Table;

static uint64_t
hash(const char *text)
{
    uint64_t h = 14695981039346656037u;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

/* False if the series would be one more than `max`. */
static bool
table_add(Table *table, size_t max, const char *series, double by)
{
    if (!table->entry) {
        if (!(table->entry = calloc(TABLE_SLOTS, sizeof *table->entry)))
            return false;
        table->slots = TABLE_SLOTS;
    }
    for (size_t at = hash(series) % table->slots;; at = (at + 1) % table->slots) {
        Entry *entry = &table->entry[at];

        if (!entry->series) {
            size_t bytes = strlen(series) + 1;

            if (table->used >= max || !(entry->series = malloc(bytes)))
                return false;
            memcpy(entry->series, series, bytes);
            table->used++;
        } else if (strcmp(entry->series, series) != 0) {
            continue;
        }
        entry->value += by;
        return true;
    }
}

static void
table_free(Table *table)
{
    for (size_t i = 0; i < table->slots; i++)
        free(table->entry[i].series);
    free(table->entry);
    *table = (Table){0};
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Table local;

void
metric_add(MetricId id, double by, const char *const *labels)
{
    char series[SERIES_BYTES];

    metric_series(id, 0, series, sizeof series, labels);
    pthread_mutex_lock(&lock);
    /* Label values come from our tables; a bound all the same. */
    if (!table_add(&local, SERIES_MAX, series, by)) {
        metric_series(id, 0, series, sizeof series, labels ? others : NULL);
        (void)table_add(&local, SERIES_MAX + OTHERS_MAX, series, by);
    }
    pthread_mutex_unlock(&lock);
}

void
metric_observe(MetricId id, double value, const char *const *labels)
{
    char bucket[SERIES_BYTES], sum[SERIES_BYTES];

    metric_series(id, value, bucket, sizeof bucket, labels);
    metric_series_sum(id, sum, sizeof sum, labels);
    pthread_mutex_lock(&lock);
    /* The bucket first: one whose sum found no room is not printed. */
    if (!table_add(&local, SERIES_MAX, bucket, 1) || !table_add(&local, SERIES_MAX, sum, value)) {
        metric_series(id, value, bucket, sizeof bucket, labels ? others : NULL);
        metric_series_sum(id, sum, sizeof sum, labels ? others : NULL);
        (void)table_add(&local, SERIES_MAX + OTHERS_MAX, sum, value);
        (void)table_add(&local, SERIES_MAX + OTHERS_MAX, bucket, 1);
    }
    pthread_mutex_unlock(&lock);
}

struct MetricPage {
    Table table;
};

MetricPage *
metric_page_new(void)
{
    return calloc(1, sizeof(MetricPage));
}

void
metric_page_put(MetricPage *page, const char *series, double value)
{
    (void)table_add(&page->table, PAGE_SERIES_MAX, series, value);
}

void
metric_page_local(MetricPage *page)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < local.slots; i++)
        if (local.entry[i].series)
            (void)table_add(
                &page->table, PAGE_SERIES_MAX, local.entry[i].series, local.entry[i].value);
    pthread_mutex_unlock(&lock);
}

static void
put_number(Buf *to, double value)
{
    char digits[NUMBER_REAL_BYTES];

    if (value == floor(value) && fabs(value) < 1e15) {
        buf_printf(to, " %.0f\n", value);
        return;
    }
    buf_char(to, ' ');
    buf_put(to, digits, number_double(value, digits));
    buf_char(to, '\n');
}

static int
compare_entries(const void *a, const void *b)
{
    return strcmp(((const Entry *)a)->series, ((const Entry *)b)->series);
}

/* Does this series belong to the metric? Its name, and for histograms the suffix, then '{' or the
 * end. */
static bool
belongs(const char *series, const char *name, const char *suffix)
{
    size_t bytes = strlen(name), more = strlen(suffix);

    return strncmp(series, name, bytes) == 0 && strncmp(series + bytes, suffix, more) == 0 &&
           (series[bytes + more] == '{' || series[bytes + more] == '\0');
}

/* A histogram's series with these labels: buckets made cumulative, then sum and count. */
static void
print_histogram(
    MetricId id, const Table *all, const char *labels, size_t labels_bytes, double sum, Buf *to)
{
    const char *name = metrics[id].name;
    double count = 0;

    for (size_t b = 0; b <= metrics[id].buckets; b++) {
        char le[32] = "+Inf", series[SERIES_BYTES * 2];

        if (b < metrics[id].buckets)
            snprintf(le, sizeof le, "%.15g", metrics[id].bucket[b]);
        snprintf(series, sizeof series, "%s_bucket{%.*s%sle=\"%s\"}", name, (int)labels_bytes,
            labels, labels_bytes ? "," : "", le);
        for (size_t i = 0; i < all->used; i++)
            if (strcmp(all->entry[i].series, series) == 0)
                count += all->entry[i].value;
        buf_text(to, series);
        put_number(to, count);
    }
    buf_printf(to, labels_bytes ? "%s_sum{%.*s}" : "%s_sum", name, (int)labels_bytes, labels);
    put_number(to, sum);
    buf_printf(to, labels_bytes ? "%s_count{%.*s}" : "%s_count", name, (int)labels_bytes, labels);
    put_number(to, count);
}

void
metric_page_print(MetricPage *page, Buf *to)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    Table sorted = {.entry = calloc(page->table.used + 1, sizeof(Entry))};

    for (size_t i = 0; sorted.entry && i < page->table.slots; i++)
        if (page->table.entry[i].series)
            sorted.entry[sorted.used++] = page->table.entry[i];
    if (sorted.used > 1)
        qsort(sorted.entry, sorted.used, sizeof(Entry), compare_entries);
    for (MetricId id = 0; id < METRICS; id++) {
        bool is_histogram = metrics[id].type == METRIC_HISTOGRAM, headed = false;

        for (size_t i = 0; i < sorted.used; i++) {
            const char *series = sorted.entry[i].series;

            if (!belongs(series, metrics[id].name, is_histogram ? "_sum" : ""))
                continue;
            if (!headed)
                buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", metrics[id].name, metrics[id].help,
                    metrics[id].name, types[metrics[id].type]);
            headed = true;
            if (is_histogram) {
                const char *labels = strchr(series, '{');

                print_histogram(id, &sorted, labels ? labels + 1 : "",
                    labels ? strlen(labels) - 2 : 0, sorted.entry[i].value, to);
            } else {
                buf_text(to, series);
                put_number(to, sorted.entry[i].value);
            }
        }
    }
    free(sorted.entry);
}

void
metric_page_free(MetricPage *page)
{
    if (!page)
        return;
    table_free(&page->table);
    free(page);
}
