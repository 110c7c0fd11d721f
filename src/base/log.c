#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"

enum { LINE_BYTES_MAX = 4096, VALUE_BYTES_MAX = 256, CHAIN_BYTES_MAX = 1024 };

static _Atomic LogLevel level_now = LOG_INFO;
static LogFormat format_now = LOG_FORMAT_TEXT;
static const char *role_now = "";

static const char *const level_names[] = {"debug", "info", "warning", "error"};

void
log_open(LogLevel level, LogFormat format, const char *role)
{
    level_now = level;
    format_now = format;
    role_now = role;
}

void
log_set_level(LogLevel level)
{
    level_now = level;
}

bool
log_is_on(LogLevel level)
{
    return level >= level_now;
}

bool
log_level_of(const char *text, LogLevel *level)
{
    static const struct {
        const char *name;
        LogLevel level;
    } known[] = {{"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warning", LOG_WARNING},
        {"warn", LOG_WARNING}, {"error", LOG_ERROR}, {"critical", LOG_ERROR}, {"fatal", LOG_ERROR}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (text_same_case_blind(text, known[i].name)) {
            *level = known[i].level;
            return true;
        }
    return false;
}

/* How much of a text may be shown: a link that was signed ends where its signature begins, in
 * whatever form somebody sent it. */
static size_t
shown_bytes(const char *text)
{
    static const char *const words[] = {"signature=", "signature%3d"};
    const char *end = text + strlen(text);

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const char *word = strcasestr(text, words[i]);

        if (word && word < end)
            end = word;
    }
    return (size_t)(end - text);
}

static void
put_value(Buf *line, const LogField *field)
{
    switch (field->is) {
    case LOG_IS_TEXT:
        text_json_string(line, field->as.text, shown_bytes(field->as.text), VALUE_BYTES_MAX);
        break;
    case LOG_IS_NUMBER:
        buf_printf(line, "%" PRId64, field->as.number);
        break;
    case LOG_IS_REAL:
        if (isfinite(field->as.real))
            buf_printf(line, "%.6g", field->as.real);
        else
            buf_text(line, "null"); /* JSON knows neither NaN nor infinity */
        break;
    case LOG_IS_BOOL:
        buf_text(line, field->as.yes ? "true" : "false");
        break;
    case LOG_IS_ERR:
        break;
    }
}

static void
put_json(Buf *line, LogLevel level, const char *event, const LogField *fields)
{
    char now[TIME_TEXT_BYTES], chain[CHAIN_BYTES_MAX];

    buf_printf(line, "{\"ts\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"role\":\"%s\",\"pid\":%ld",
        time_rfc3339_ms(time_wall_us(), now), level_names[level], event, role_now, (long)getpid());
    for (; fields->name; fields++) {
        if (fields->is == LOG_IS_TEXT && !fields->as.text)
            continue;
        if (fields->is == LOG_IS_ERR) {
            err_chain(fields->as.err, chain, sizeof chain);
            buf_printf(line, ",\"error_code\":\"%s\",\"error\":", err_name(fields->as.err->code));
            text_json_string(line, chain, shown_bytes(chain), sizeof chain);
            continue;
        }
        buf_printf(line, ",\"%s\":", fields->name);
        put_value(line, fields);
    }
    buf_text(line, "}\n");
}

static void
put_text(Buf *line, LogLevel level, const char *event, const LogField *fields)
{
    char now[TIME_TEXT_BYTES], chain[CHAIN_BYTES_MAX];

    time_rfc3339_ms(time_wall_us(), now);
    buf_printf(line, "%.8s %-7s %-10s %s", now + 11, level_names[level], role_now, event);
    for (; fields->name; fields++) {
        if (fields->is == LOG_IS_TEXT && !fields->as.text)
            continue;
        buf_printf(line, " %s=", fields->name);
        if (fields->is == LOG_IS_ERR) {
            err_chain(fields->as.err, chain, sizeof chain);
            text_json_string(line, chain, shown_bytes(chain), sizeof chain);
        } else if (fields->is == LOG_IS_TEXT && fields->as.text[0] &&
                   !strpbrk(fields->as.text, " \"\\=%") &&
                   !text_has_control(fields->as.text, strlen(fields->as.text), true) &&
                   strlen(fields->as.text) <= VALUE_BYTES_MAX) {
            buf_text(line, fields->as.text);
        } else {
            put_value(line, fields);
        }
    }
    buf_char(line, '\n');
}

void
log_write(LogLevel level, const char *event, const LogField *fields)
{
    Buf line;
    ssize_t wrote;

    if (!log_is_on(level))
        return;
    line = buf_new(4 * LINE_BYTES_MAX);
    if (format_now == LOG_FORMAT_JSON)
        put_json(&line, level, event, fields);
    else
        put_text(&line, level, event, fields);
    if (line.bytes > LINE_BYTES_MAX || line.failed) {
        /* Too much for one line: the event alone still says that it happened. */
        buf_clear(&line);
        (format_now == LOG_FORMAT_JSON ? put_json : put_text)(
            &line, level, event, (const LogField[]){log_bool("cut", true), {0}});
    }
    wrote = write(STDERR_FILENO, line.data, line.bytes);
    (void)wrote;
    buf_free(&line);
}
