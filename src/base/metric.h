/*
 * Metric: what is counted, by name (metric.def), and the Prometheus text format 0.0.4.
 *
 * Two kinds of numbers are printed together: counters of this process (metric_add, metric_observe:
 * atomic, any thread), and totals of the whole service that the state store keeps as series text ->
 * value (metric_series makes that text; metric_print_series prints it back).
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

typedef enum {
#define METRIC(id, type, name, labels, buckets, help) METRIC_##id,
#include "base/metric.def"
#undef METRIC
    METRICS
} MetricId;

typedef enum { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } MetricType;

const char *metric_name(MetricId id);

/*
 * `rowferry_exports_finished_total{type="a",format="csv"}`: label values in the order of metric.def
 * (NULL ends them), escaped. Writes at most to_bytes, NUL-ended; returns `to`. For histograms: the
 * series of the one bucket that `value` falls into (labels and le), not cumulative.
 */
char *
metric_series(MetricId id, double value, char *to, size_t to_bytes, const char *const *labels);

/* Series of a histogram's sum: metric_series with "_sum" behind the name. */
char *metric_series_sum(MetricId id, char *to, size_t to_bytes, const char *const *labels);

/* Counters and histograms of this process. At most 5,000 series; more are counted under "other". */
void metric_add(MetricId id, double by, const char *const *labels);
void metric_observe(MetricId id, double value, const char *const *labels);

/* A page: first metric_page_put for every series known (of this process: metric_page_local), then
 * metric_page_print writes them all, grouped, with HELP and TYPE, buckets made cumulative. */
typedef struct MetricPage MetricPage;
MetricPage *metric_page_new(void);
void metric_page_put(MetricPage *page, const char *series, double value);
void metric_page_local(MetricPage *page);
void metric_page_print(MetricPage *page, Buf *to);
void metric_page_free(MetricPage *page);

#endif
