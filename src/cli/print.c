/* How results look: numbers for people, tables, CSV, JSON. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/cli_in.h"

enum { COLUMNS_MAX = 16, OUT_BYTES_MAX = 64 << 20, PAD_MAX = 200 };

/* A pipe that nobody reads ends us as it ends other filters: quietly. */
static void
end_by_pipe(void)
{
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

bool
cli_out(const void *data, size_t bytes, Err *e)
{
    for (const char *at = data; bytes > 0;) {
        ssize_t wrote = write(STDOUT_FILENO, at, bytes);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0 && errno == EPIPE)
            end_by_pipe();
        if (wrote < 0 && errno == ENOSPC)
            return fail(e, STORAGE_FULL, "standard output: the disk is full");
        if (wrote < 0)
            return fail(e, INTERNAL, "cannot write to standard output: %m");
        at += wrote;
        bytes -= (size_t)wrote;
    }
    return true;
}

bool
cli_line(const char *text, Err *e)
{
    Buf to = buf_new(OUT_BYTES_MAX);
    bool ok;

    text_terminal(&to, text, strlen(text));
    buf_char(&to, '\n');
    ok = buf_is_good(&to, e) && cli_out(to.data, to.bytes, e);
    buf_free(&to);
    return ok;
}

/* Three digits at most, no zeros behind the point: 1.25, 12.5, 410. */
static void
put_short(Buf *to, double x)
{
    char text[32];
    int decimals = x < 9.995 ? 2 : x < 99.95 ? 1 : 0;
    size_t bytes = (size_t)snprintf(text, sizeof text, "%.*f", decimals, x);

    while (decimals > 0 && (text[bytes - 1] == '0' || text[bytes - 1] == '.'))
        decimals -= text[--bytes] != '.';
    if (bytes > 1 && text[bytes - 1] == '.')
        bytes--;
    buf_put(to, text, bytes);
}

static void
put_scaled(Buf *to, double x, const char *const *units, const char *unit)
{
    /* 999.5 would be written as 1000. */
    while (x >= 999.5 && *units) {
        x /= 1000;
        unit = *units++;
    }
    put_short(to, x);
    buf_text(to, unit);
}

void
print_count(Buf *to, double count)
{
    static const char *const units[] = {" k", " M", " G", " T", NULL};

    put_scaled(to, count > 0 ? count : 0, units, "");
}

void
print_bytes(Buf *to, double bytes)
{
    static const char *const units[] = {" kB", " MB", " GB", " TB", NULL};

    put_scaled(to, bytes > 0 ? bytes : 0, units, " B");
}

void
print_span(Buf *to, int64_t ms)
{
    int64_t s = (ms + 500) / 1000;

    if (ms < 1000) {
        buf_printf(to, "%lld ms", (long long)(ms > 0 ? ms : 0));
    } else if (ms < 9950) {
        int64_t tenths = (ms + 50) / 100;

        put_short(to, (double)tenths / 10);
        buf_text(to, " s");
    } else if (s < 60) {
        buf_printf(to, "%lld s", (long long)s);
    } else if (s < 3600) {
        buf_printf(to, "%lld m %02lld s", (long long)(s / 60), (long long)(s % 60));
    } else {
        buf_printf(to, "%lld h %02lld m", (long long)(s / 3600), (long long)(s / 60 % 60));
    }
}

/* 1,250,000 */
static void
put_grouped(Buf *to, int64_t n)
{
    char text[24];
    int bytes = snprintf(text, sizeof text, "%lld", (long long)n);

    for (int i = 0; i < bytes; i++) {
        buf_char(to, text[i]);
        if (text[i] != '-' && i + 1 < bytes && (bytes - 1 - i) % 3 == 0)
            buf_char(to, ',');
    }
}

/* The value itself: text without quotes, everything else as JSON writes it, null as nothing. */
static bool
put_plain(const json_t *value, Buf *to, Err *e)
{
    if (json_is_string(value))
        buf_put(to, json_string_value(value), json_string_length(value));
    else if (value && !json_is_null(value))
        return json_write(value, to, e);
    return true;
}

static bool
put_cell(const json_t *value, CliForm form, Buf *to, Err *e)
{
    double number = json_number_value(value);
    Buf text = buf_new(OUT_BYTES_MAX);
    bool ok = true;

    if (json_is_number(value) && form == CLI_COUNT)
        put_grouped(to, json_is_integer(value) ? json_integer_value(value) : (int64_t)number);
    else if (json_is_number(value) && form == CLI_BYTES)
        print_bytes(to, number);
    else if (json_is_number(value) && form == CLI_PERCENT)
        buf_printf(to, "%.0f%%", number);
    else if (json_is_number(value) && form == CLI_TIME_MS)
        print_span(to, (int64_t)number);
    else if (!value || json_is_null(value))
        buf_char(to, '-');
    else if ((ok = put_plain(value, &text, e)))
        text_terminal(to, text.data, text.bytes);
    buf_free(&text);
    return ok;
}

/* Characters, not bytes: what a terminal moves on by, for most scripts. */
static size_t
width_of(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void
put_padded(Buf *to, const char *text, size_t width, bool right, bool is_last)
{
    size_t has = width_of(text), pad = width > has ? width - has : 0;

    if (right)
        buf_printf(to, "%*s", (int)pad, "");
    buf_text(to, text);
    if (!right && !is_last)
        buf_printf(to, "%*s", (int)pad, "");
    buf_text(to, is_last ? "\n" : "  ");
}

/* Two rounds over the same cells: the first only measures. */
static bool
put_table(const json_t *rows, const CliColumn *column, Buf *to, Err *e)
{
    size_t width[COLUMNS_MAX] = {0}, columns = 0, i;
    Buf cell = buf_new(OUT_BYTES_MAX);
    bool ok = true;
    json_t *row;

    for (; column[columns].member && columns < COLUMNS_MAX; columns++)
        width[columns] = width_of(column[columns].title);
    for (int round = 0; ok && round < 2; round++) {
        for (size_t k = 0; round == 1 && k < columns; k++)
            put_padded(to, column[k].title, width[k], column[k].form != CLI_TEXT, k + 1 == columns);
        json_array_foreach(rows, i, row) for (size_t k = 0; ok && k < columns; k++)
        {
            size_t has;

            buf_clear(&cell);
            ok = put_cell(json_object_get(row, column[k].member), column[k].form, &cell, e);
            has = width_of(cell.data);
            if (round == 1)
                put_padded(to, cell.data, width[k], column[k].form != CLI_TEXT, k + 1 == columns);
            else if (has > width[k])
                width[k] = has < PAD_MAX ? has : PAD_MAX;
        }
    }
    buf_free(&cell);
    return ok;
}

/* RFC 4180, but lines end as those of other commands do. */
static void
put_csv_field(const char *text, bool is_first, Buf *to)
{
    if (!is_first)
        buf_char(to, ',');
    if (!text[strcspn(text, "\",\r\n")]) {
        buf_text(to, text);
        return;
    }
    buf_char(to, '"');
    for (; *text; text++) {
        if (*text == '"')
            buf_char(to, '"');
        buf_char(to, *text);
    }
    buf_char(to, '"');
}

static bool
put_csv(const json_t *rows, const CliColumn *column, Buf *to, Err *e)
{
    Buf cell = buf_new(OUT_BYTES_MAX);
    bool ok = true;
    size_t i;
    json_t *row;

    for (size_t k = 0; column[k].member; k++)
        put_csv_field(column[k].member, k == 0, to);
    buf_char(to, '\n');
    json_array_foreach(rows, i, row)
    {
        for (size_t k = 0; ok && column[k].member; k++) {
            buf_clear(&cell);
            ok = put_plain(json_object_get(row, column[k].member), &cell, e);
            put_csv_field(cell.data, k == 0, to);
        }
        buf_char(to, '\n');
    }
    buf_free(&cell);
    return ok;
}

/* Only the members of --json=a,b, in that order; a new reference. NULL: no memory. */
static json_t *
only_fields(const json_t *value, const char *fields)
{
    json_t *some = json_object();

    for (const char *at = fields; some && *at;) {
        size_t bytes = strcspn(at, ",");
        json_t *member = json_object_getn(value, at, bytes);

        if (member && json_object_setn(some, at, bytes, member) != 0) {
            json_decref(some);
            return NULL;
        }
        at += bytes + (at[bytes] == ',');
    }
    return some;
}

static int
take_dump(const char *data, size_t bytes, void *with)
{
    Buf *to = with;

    buf_put(to, data, bytes);
    return to->failed ? -1 : 0;
}

/* On a terminal no character of the server may command it: \u is as good to JSON. */
static bool
put_json(const Cli *c, const json_t *value, bool pretty, Buf *to, Err *e)
{
    size_t flags = JSON_ENCODE_ANY, start = to->bytes;
    json_t *chosen = NULL;
    bool ok;

    if (c->fields && json_is_object(value) && !(value = chosen = only_fields(value, c->fields)))
        return fail(e, MEMORY_LIMIT, "no memory for the answer");
    ok = json_write(value, to, e);
    if (ok && c->out_is_terminal && text_has_control(to->data + start, to->bytes - start, true))
        flags |= JSON_ENSURE_ASCII;
    if (ok && (flags & JSON_ENSURE_ASCII || (pretty && c->out_is_terminal))) {
        to->bytes = start;
        flags |= pretty && c->out_is_terminal ? JSON_INDENT(2) : JSON_COMPACT;
        ok = json_dump_callback(value, take_dump, to, flags) == 0 ||
             fail(e, SIZE_LIMIT, "the answer is too long to be shown");
    }
    json_decref(chosen);
    return ok;
}

static bool
show(Buf *to, bool ok, Err *e)
{
    ok = ok && buf_is_good(to, e) && cli_out(to->data, to->bytes, e);
    buf_free(to);
    return ok;
}

bool
cli_print_json(const Cli *c, const json_t *value, bool pretty, Err *e)
{
    Buf to = buf_new(OUT_BYTES_MAX);
    bool ok = put_json(c, value, pretty, &to, e);

    buf_char(&to, '\n');
    return show(&to, ok, e);
}

static bool
put_json_rows(const Cli *c, const json_t *rows, bool is_array, Buf *to, Err *e)
{
    bool ok = true;
    size_t i;
    json_t *row;

    if (is_array)
        buf_char(to, '[');
    json_array_foreach(rows, i, row)
    {
        if (is_array)
            buf_text(to, i > 0 ? ",\n" : "\n");
        ok = ok && put_json(c, row, false, to, e);
        if (!is_array)
            buf_char(to, '\n');
    }
    if (is_array)
        buf_text(to, json_array_size(rows) > 0 ? "\n]\n" : "]\n");
    return ok;
}

bool
cli_print_rows(const Cli *c, const json_t *row, const CliColumn *column, Err *e)
{
    Buf to = buf_new(OUT_BYTES_MAX);
    bool ok;

    if (strcmp(c->output, "csv") == 0)
        ok = put_csv(row, column, &to, e);
    else if (strcmp(c->output, "table") == 0)
        ok = put_table(row, column, &to, e);
    else if (strcmp(c->output, "json") == 0 && c->words == 1 && json_array_size(row) == 1)
        return cli_print_json(c, json_array_get(row, 0), true, e);
    else
        ok = put_json_rows(c, row, strcmp(c->output, "json") == 0, &to, e);
    return show(&to, ok, e);
}
