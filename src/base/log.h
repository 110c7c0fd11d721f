/*
 * Log: one event, one line, on standard error; JSON, or text for people.
 *
 *   log_event(LOG_INFO, "export.finished", log_text("task_id", id), log_number("rows", rows));
 *
 * An event's name never changes with its values. Values from outside are escaped and cut at 256
 * bytes, a line at 4 KiB. Secrets, signed URLs and values of parameters do not belong here. Safe
 * from any thread: one write(2) a line. Never fails; what cannot be written is dropped.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;
typedef enum { LOG_FORMAT_JSON, LOG_FORMAT_TEXT } LogFormat;

typedef struct {
    const char *name; /* NULL ends the list */
    enum { LOG_IS_TEXT, LOG_IS_NUMBER, LOG_IS_REAL, LOG_IS_BOOL, LOG_IS_ERR } is;
    union {
        const char *text; /* NULL: the field is left out */
        int64_t number;
        double real;
        bool yes;
        const Err *err; /* becomes error_code and error (the chain) */
    } as;
} LogField;

static inline LogField
log_text(const char *name, const char *text)
{
    return (LogField){.name = name, .is = LOG_IS_TEXT, .as.text = text};
}

static inline LogField
log_number(const char *name, int64_t number)
{
    return (LogField){.name = name, .is = LOG_IS_NUMBER, .as.number = number};
}

static inline LogField
log_real(const char *name, double real)
{
    return (LogField){.name = name, .is = LOG_IS_REAL, .as.real = real};
}

static inline LogField
log_bool(const char *name, bool yes)
{
    return (LogField){.name = name, .is = LOG_IS_BOOL, .as.yes = yes};
}

static inline LogField
log_err(const Err *err)
{
    return (LogField){.name = "error", .is = LOG_IS_ERR, .as.err = err};
}

/* Called once at the start of a role; `role` stands in every line. Before it: text, info. */
void log_open(LogLevel level, LogFormat format, const char *role);
void log_set_level(LogLevel level);
bool log_is_on(LogLevel level);

/* "debug" "info" "warning" "error", Celery's spellings and any case ("WARN", "CRITICAL" too). */
bool log_level_of(const char *text, LogLevel *level);

#define log_event(level, event, ...)                                                               \
    log_write((level), (event), (const LogField[]){__VA_ARGS__ __VA_OPT__(, ){0}})

void log_write(LogLevel level, const char *event, const LogField *fields);

#endif
