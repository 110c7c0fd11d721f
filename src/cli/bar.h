/* Bar: the progress of exports on standard error, for people and for logs. */
#ifndef CLI_BAR_H
#define CLI_BAR_H

#include "cli/cli_in.h"

/* One line from S2's object, without its end; pure:
 *   employee_metrics  streaming  ███████░░░ 55%  1.25 M/≈2.5 M rows  70 MB  410 k rows/s  ETA 4 s
 */
void bar_line(const char *name, const json_t *status, Buf *to);

/* "file.csv  35%  24 MB/70 MB  110 MB/s  ETA 1 s"; pure. */
void bar_download(const char *name, uint64_t bytes, uint64_t bytes_all, int64_t took_ms, Buf *to);

typedef struct {
    const Cli *c;
    size_t drawn;       /* lines that stand on the terminal */
    int64_t line_at_ms; /* off a terminal: when the next line is due */
} Bar;

/* On a terminal: draws `lines` (ended by \n each) over the last ones, cut to its width. Off one:
 * writes them when 10 s have passed. Nothing with --quiet. */
void bar_show(Bar *bar, const char *lines);

/* These lines are the last ones: they stay, and are written in any case. */
void bar_end(Bar *bar, const char *lines);

#endif
