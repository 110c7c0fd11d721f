#include "cli/bar.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "base/time.h"

enum { CELLS = 10, LINE_EVERY_MS = 10000, LINE_BYTES_MAX = 64 << 10, WIDTH_PRESET = 80 };

static void
put_part(Buf *to, const char *text)
{
    buf_text(to, "  ");
    text_terminal(to, text, strlen(text));
}

static void
put_cells(Buf *to, int64_t percent)
{
    percent = percent < 0 ? 0 : percent > 100 ? 100 : percent;
    buf_text(to, "  ");
    for (int64_t i = 0; i < CELLS; i++)
        buf_text(to, i < percent * CELLS / 100 ? "█" : "░");
    buf_printf(to, " %lld%%", (long long)percent);
}

static void
put_amounts(const json_t *status, Buf *to)
{
    bool ended = json_object_get(status, "row_count") != NULL;
    int64_t rows = json_int_or(status, ended ? "row_count" : "rows_done", -1);
    int64_t bytes = json_int_or(status, ended ? "file_size" : "bytes_done", -1);
    int64_t estimate = json_int_or(status, "rows_estimated", 0);

    if (rows > 0 || (ended && rows == 0)) {
        buf_text(to, "  ");
        print_count(to, (double)rows);
        if (!ended && estimate > 0) {
            buf_text(to, "/≈");
            print_count(to, (double)estimate);
        }
        buf_text(to, rows == 1 ? " row" : " rows");
    }
    if (bytes > 0) {
        buf_text(to, "  ");
        print_bytes(to, (double)bytes);
    }
}

static void
put_speed(const json_t *status, Buf *to)
{
    int64_t speed = json_int_or(status, "rows_per_second", 0);
    int64_t eta_s = json_int_or(status, "eta_seconds", 0);

    if (speed > 0) {
        buf_text(to, "  ");
        print_count(to, (double)speed);
        buf_text(to, " rows/s");
    }
    if (eta_s > 0) {
        buf_text(to, "  ETA ");
        print_span(to, eta_s * 1000);
    }
}

static void
put_waiting(const json_t *status, Buf *to)
{
    int64_t position = json_int_or(status, "position", 0);
    int64_t attempt = json_int_or(status, "attempt", 0);
    const char *waiting_for = json_text_or(status, "waiting_for", "");

    if (position > 0)
        buf_printf(to, "  position %lld", (long long)position);
    if (*waiting_for) {
        put_part(to, "waiting for ");
        text_terminal(to, waiting_for, strlen(waiting_for));
    }
    if (attempt > 1)
        buf_printf(to, "  attempt %lld of %lld", (long long)attempt,
            (long long)json_int_or(status, "max_attempts", attempt));
    if (json_bool_or(status, "stalled", false))
        buf_text(to, "  stalled");
}

void
bar_line(const char *name, const json_t *status, Buf *to)
{
    const char *word = json_text_or(status, "status", "?");
    const char *state = json_text_or(status, "state", word);
    int64_t took_ms = json_int_or(status, "duration_ms", -1);
    const char *error = json_text_or(status, "error", "");

    text_terminal(to, name, strlen(name));
    put_part(to, state);
    put_cells(to, json_int_or(status, "progress", strcmp(word, "completed") == 0 ? 100 : 0));
    put_amounts(status, to);
    if (strcmp(word, "completed") == 0 || strcmp(word, "failed") == 0) {
        if (took_ms >= 0) {
            buf_text(to, "  ");
            print_span(to, took_ms);
        }
        if (*error)
            put_part(to, error);
        return;
    }
    put_speed(status, to);
    put_waiting(status, to);
}

void
bar_download(const char *name, uint64_t bytes, uint64_t bytes_all, int64_t took_ms, Buf *to)
{
    double speed = took_ms > 0 ? (double)bytes * 1000 / (double)took_ms : 0, eta_ms;

    text_terminal(to, name, strlen(name));
    if (bytes_all > 0) {
        put_cells(to, (int64_t)((double)bytes / (double)bytes_all * 100));
        buf_text(to, "  ");
        print_bytes(to, (double)bytes);
        buf_text(to, "/");
        print_bytes(to, (double)bytes_all);
    } else {
        buf_text(to, "  ");
        print_bytes(to, (double)bytes);
    }
    if (speed > 0) {
        buf_text(to, "  ");
        print_bytes(to, speed);
        buf_text(to, "/s");
    }
    eta_ms = speed > 0 && bytes < bytes_all ? (double)(bytes_all - bytes) / speed * 1000 : 0;
    if (eta_ms >= 1000) {
        buf_text(to, "  ETA ");
        print_span(to, (int64_t)eta_ms);
    }
}

static size_t
terminal_width(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : WIDTH_PRESET;
}

/* As many characters as the line has room for: a line that wraps cannot be drawn over. */
static size_t
fitting(const char *line, size_t bytes, size_t width)
{
    size_t at = 0, characters = 0;

    while (at < bytes) {
        if (((unsigned char)line[at] & 0xc0) != 0x80 && ++characters > width)
            break;
        at++;
    }
    return at;
}

static void
draw(Bar *bar, const char *lines)
{
    size_t width = terminal_width() - 1, drawn = 0;
    Buf to = buf_new(LINE_BYTES_MAX);

    if (bar->drawn > 0)
        buf_printf(&to, "\x1b[%zuA", bar->drawn);
    for (const char *at = lines; *at; drawn++) {
        size_t bytes = strcspn(at, "\n");

        buf_text(&to, "\r");
        buf_put(&to, at, fitting(at, bytes, width));
        buf_text(&to, "\x1b[K\n");
        at += bytes + (at[bytes] == '\n');
    }
    bar->drawn = drawn;
    fwrite(to.data, 1, to.bytes, stderr);
    buf_free(&to);
}

void
bar_show(Bar *bar, const char *lines)
{
    int64_t now = time_now_ms();

    if (bar->c->quiet)
        return;
    if (bar->c->err_is_terminal) {
        draw(bar, lines);
        return;
    }
    if (bar->line_at_ms == 0)
        bar->line_at_ms = now + LINE_EVERY_MS;
    if (now < bar->line_at_ms)
        return;
    bar->line_at_ms = now + LINE_EVERY_MS;
    fputs(lines, stderr);
}

void
bar_end(Bar *bar, const char *lines)
{
    if (bar->c->quiet)
        return;
    if (bar->c->err_is_terminal)
        draw(bar, lines);
    else
        fputs(lines, stderr);
    bar->drawn = 0;
}
