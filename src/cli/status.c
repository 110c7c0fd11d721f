/* `rowferry status`, `watch`, `cancel`: what becomes of tasks. */
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/follow.h"

enum { IDS_MAX = CLI_WORDS_MAX };

static const CliColumn status_columns[] = {
    {"task_id", "TASK", CLI_TEXT},
    {"state", "STATE", CLI_TEXT},
    {"progress", "DONE", CLI_PERCENT},
    {"rows", "ROWS", CLI_COUNT},
    {"bytes", "SIZE", CLI_BYTES},
    {"error", "ERROR", CLI_TEXT},
    {"key", "KEY", CLI_TEXT},
    {0},
};

static const CliColumn cancel_columns[] = {
    {"task_id", "TASK", CLI_TEXT},
    {"state", "STATE", CLI_TEXT},
    {0},
};

/* S2 says rows_done of what runs and row_count of what ended: a table has one column for both. */
static void
level(json_t *status, const char *to, const char *ended, const char *running)
{
    json_t *value = json_object_get(status, ended);

    if (!value)
        value = json_object_get(status, running);
    if (value)
        json_object_set(status, to, value);
}

/* One task for people: a member a line. */
static bool
print_record(const json_t *status, Err *e)
{
    const char *member;
    size_t width = 0;
    json_t *value;
    bool ok = true;

    json_object_foreach((json_t *)(uintptr_t)status, member, value) if (strlen(member) > width)
        width = strlen(member);
    json_object_foreach((json_t *)(uintptr_t)status, member, value)
    {
        Buf line = buf_new(1 << 20);

        buf_printf(&line, "%-*s  ", (int)width, member);
        if (json_is_string(value))
            buf_text(&line, json_string_value(value));
        else
            ok = ok && json_write(value, &line, e);
        ok = ok && buf_is_good(&line, e) && cli_line(line.data, e);
        buf_free(&line);
    }
    return ok;
}

static bool
print_tasks(const Cli *c, const json_t *rows, Err *e)
{
    json_t *row;
    size_t i;

    if (c->words == 1 && strcmp(c->output, "table") == 0)
        return print_record(json_array_get(rows, 0), e);
    if (!c->json)
        json_array_foreach(rows, i, row)
        {
            level(row, "rows", "row_count", "rows_done");
            level(row, "bytes", "file_size", "bytes_done");
        }
    return cli_print_rows(c, rows, status_columns, e);
}

static bool
ask_one(Remote *r, const char *id, json_t *rows, Err *e)
{
    Followed f = {.id = id};
    bool ok = follow_ask(r, &f, 0, e) &&
              (json_array_append(rows, f.status) == 0 || fail(e, MEMORY_LIMIT, "no memory"));

    follow_free(&f, 1);
    return ok;
}

int
cli_status(Cli *c, Err *e)
{
    return remote_each(c, ask_one, print_tasks, e);
}

static bool
cancel_one(Remote *r, const char *id, json_t *rows, Err *e)
{
    json_t *answer;

    if (!follow_cancel(r, id, &answer, e))
        return false;
    if (!json_object_get(answer, "task_id"))
        json_object_set_new(answer, "task_id", json_string(id));
    return json_array_append_new(rows, answer) == 0 || fail(e, MEMORY_LIMIT, "no memory");
}

static bool
print_cancelled(const Cli *c, const json_t *rows, Err *e)
{
    return cli_print_rows(c, rows, cancel_columns, e);
}

int
cli_cancel(Cli *c, Err *e)
{
    return remote_each(c, cancel_one, print_cancelled, e);
}

/* All that were followed to their end: the first that did not complete decides how we end. */
static int
judge(const Cli *c, const Followed *list, size_t count, Err *e)
{
    int status = 0;

    for (size_t i = 0; i < count; i++) {
        Err why = {0};

        if (follow_completed(&list[i], &why))
            continue;
        if (count == 1)
            *e = why;
        else
            cli_say_error(c, &why);
        status = status ? status : err_exit_status(why.code);
    }
    return status;
}

int
cli_watch(Cli *c, Err *e)
{
    Followed list[IDS_MAX] = {{0}};
    size_t count = (size_t)c->words;
    Remote r = {0};
    int status = 0;
    bool ok;

    for (size_t i = 0; i < count; i++)
        list[i].id = c->word[i];
    ok = remote_open(c, &r, e) && follow_all(&r, list, count, FOLLOW_SHOWN, e);
    if (ok)
        status = judge(c, list, count, e);
    for (size_t i = 0; ok && !c->json && i < count; i++) {
        const char *link = json_text_or(list[i].status, "download_url", "");

        ok = !*link || cli_line(link, e);
    }
    follow_free(list, count);
    remote_close(&r);
    return ok ? status : err_exit_status(e->code);
}
