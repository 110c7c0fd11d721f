#include "cli/follow.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/bar.h"
#include "cli/interrupt.h"

enum {
    WAIT_S_MAX = 30,
    PATH_BYTES = 512,
    LINES_BYTES_MAX = 256 << 10,
    SHORT_ID_CHARS = 8,
    LAST_PAUSE_MS = 200
};

/* "/api/exports/{id}/status"; the id is the user's word. */
static bool
path_of(const char *id, const char *tail, char path[PATH_BYTES], Err *e)
{
    Buf coded = buf_new(PATH_BYTES);
    int bytes;

    text_percent_encode(&coded, id, strlen(id), false);
    bytes = snprintf(path, PATH_BYTES, "/api/exports/%s%s", coded.data, tail);
    if (!*id || coded.failed || bytes >= PATH_BYTES)
        bytes = -1;
    buf_free(&coded);
    return bytes > 0 || fail(e, USAGE, "\"%.64s\" is not the id of a task", id);
}

bool
follow_ask(Remote *r, Followed *f, unsigned wait_s, Err *e)
{
    char path[PATH_BYTES], tail[32] = "/status";
    RemoteAnswer answer;
    const char *word;

    if (wait_s > 0)
        snprintf(tail, sizeof tail, "/status?wait=%u", wait_s);
    if (!path_of(f->id, tail, path, e) ||
        !remote_call(r,
            &(RemoteCall){.method = "GET", .path = path, .held_ms = (int64_t)wait_s * 1000},
            &answer, e))
        return false;
    json_decref(f->status);
    f->status = answer.body;
    f->retry_after_s = answer.retry_after_s;
    if (!json_object_get(f->status, "task_id"))
        json_object_set_new(f->status, "task_id", json_string(f->id));
    word = json_text_or(f->status, "status", "");
    f->ended = strcmp(word, "completed") == 0 || strcmp(word, "failed") == 0;
    return true;
}

bool
follow_cancel(Remote *r, const char *id, json_t **answer, Err *e)
{
    char path[PATH_BYTES];
    RemoteAnswer got;

    if (!path_of(id, "/cancel", path, e) ||
        !remote_call(r, &(RemoteCall){.method = "POST", .path = path}, &got, e))
        return false;
    *answer = got.body;
    return true;
}

bool
follow_completed(const Followed *f, Err *e)
{
    const char *state = json_text_or(f->status, "state", "");
    const char *name = json_text_or(f->status, "error_code", "");
    ErrCode code = err_code_of(name);

    if (strcmp(json_text_or(f->status, "status", ""), "completed") == 0)
        return true;
    if (strcmp(state, "cancelled") == 0)
        return fail(e, CANCELLED, "the export was cancelled");
    return fail_code(e, code == ERR_NONE ? ERR_EXPORT_FAILED : code, "%s",
        json_text_or(f->status, "error", "the export failed"));
}

void
follow_free(Followed *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_decref(list[i].status);
        list[i].status = NULL;
    }
}

static void
put_line(const Followed *f, Buf *to)
{
    const char *type = json_text_or(f->status, "export_type", "");
    char short_id[SHORT_ID_CHARS + 1];

    text_copy(short_id, sizeof short_id, f->id);
    bar_line(f->name ? f->name : *type ? type : short_id, f->status, to);
    buf_char(to, '\n');
}

/* A terminal sees all of them; a log those that ended with their last line, the others from time
 * to time. */
static void
show_lines(Bar *bar, const Followed *list, size_t count, const Followed *now)
{
    bool all_ended = true, on_terminal = bar->c->err_is_terminal;
    Buf lines = buf_new(LINES_BYTES_MAX);

    for (size_t i = 0; i < count; i++) {
        all_ended = all_ended && list[i].ended;
        if (list[i].status && (on_terminal || (!list[i].ended && !now->ended)))
            put_line(&list[i], &lines);
    }
    if (!on_terminal && now->ended)
        put_line(now, &lines);
    if (all_ended || (!on_terminal && now->ended))
        bar_end(bar, lines.data);
    else
        bar_show(bar, lines.data);
    buf_free(&lines);
}

/* Is there more to tell than that time has passed? */
static bool
has_changed(const json_t *before, const json_t *after)
{
    static const char *const clocks[] = {
        "elapsed_ms", "heartbeat_at", "expires_in", "estimated_start_in", "eta_seconds"};
    const char *member;
    json_t *value, *a, *b;
    bool same = json_object_size(before) == json_object_size(after);

    json_object_foreach((json_t *)(uintptr_t)after, member, value)
    {
        bool is_clock = false;

        for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++)
            is_clock = is_clock || strcmp(clocks[i], member) == 0;
        a = json_object_get(before, member);
        b = value;
        same = same && (is_clock || (a && json_equal(a, b)));
    }
    return !same;
}

static bool
ask_and_show(Remote *r, Followed *list, size_t count, Followed *f, unsigned wait_s, Bar *bar,
    FollowHow how, Err *e)
{
    json_t *before = json_incref(f->status);
    bool ok = follow_ask(r, f, wait_s, e);

    if (ok && how == FOLLOW_SHOWN && r->c->json) {
        if (!before || has_changed(before, f->status))
            ok = cli_print_json(r->c, f->status, false, e);
    } else if (ok && how == FOLLOW_SHOWN) {
        show_lines(bar, list, count, f);
    }
    json_decref(before);
    return ok;
}

/*
 * How long the server may hold the answer: as long as it would like not to be asked again, so that
 * it is asked no more often, and the end is still seen at once.
 */
static unsigned
wait_of(const Remote *r, const Followed *f, FollowHow how)
{
    unsigned wait_s = how == FOLLOW_SILENTLY ? WAIT_S_MAX : f->retry_after_s;
    int64_t left_s = remote_left_ms(r->c, (int64_t)WAIT_S_MAX * 1000) / 1000;

    if (!f->status)
        return 0;
    wait_s = wait_s < 1 ? 1 : wait_s > WAIT_S_MAX ? WAIT_S_MAX : wait_s;
    return wait_s > left_s ? (unsigned)left_s : wait_s;
}

static bool
fail_late(Err *e)
{
    return fail(e, WAITED_TOO_LONG, "not done when --timeout was over");
}

/* The one that is left: the server holds the answer. */
static bool
ask_patiently(Remote *r, Followed *list, size_t count, Followed *f, Bar *bar, FollowHow how, Err *e)
{
    bool is_first = !f->status;
    unsigned wait_s = wait_of(r, f, how);

    if (!ask_and_show(r, list, count, f, wait_s, bar, how, e))
        return false;
    if (f->ended || is_first)
        return true;
    if (remote_left_ms(r->c, 1) == 0)
        return fail_late(e);
    return wait_s > 0 || remote_pause(r->c, LAST_PAUSE_MS, e);
}

/* One round: all that have not ended are asked. */
static bool
ask_round(Remote *r, Followed *list, size_t count, Bar *bar, FollowHow how, size_t *left, Err *e)
{
    unsigned pause_s = WAIT_S_MAX;
    size_t unfinished = 0;

    for (size_t i = 0; i < count; i++)
        unfinished += !list[i].ended;
    *left = unfinished;
    for (size_t i = 0; i < count; i++) {
        Followed *f = &list[i];

        if (f->ended)
            continue;
        if (unfinished == 1 ? !ask_patiently(r, list, count, f, bar, how, e)
                            : !ask_and_show(r, list, count, f, 0, bar, how, e))
            return false;
        *left -= f->ended;
        if (f->retry_after_s < pause_s)
            pause_s = f->retry_after_s;
    }
    if (*left == 0 || unfinished == 1)
        return true;
    return remote_pause(r->c, pause_s > 0 ? (int64_t)pause_s * 1000 : 1000, e);
}

static void
say_how_to_go_on(const Cli *c, const char *id)
{
    const char *url = cli_flag(c, "url"), *flag = url ? " --url " : "";

    url = url ? url : "";
    cli_note(c, "the export goes on");
    cli_note(c, "  rowferry watch %s%s%s    follows it again", id, flag, url);
    cli_note(
        c, "  rowferry cancel %s%s%s   stops it; so does Ctrl-C twice in a second", id, flag, url);
}

/* Ctrl-C. False: it was meant as "let it run". */
static bool
meant_to_cancel(Remote *r, Followed *list, size_t count)
{
    if (r->c->err_is_terminal)
        fputs("\n", stderr); /* behind the terminal's ^C */
    for (size_t i = 0; i < count; i++)
        if (!list[i].ended)
            say_how_to_go_on(r->c, list[i].id);
    if (!interrupt_came_twice())
        return false;
    for (size_t i = 0; i < count; i++) {
        json_t *answer = NULL;
        Err e = {0};

        if (list[i].ended)
            continue;
        if (follow_cancel(r, list[i].id, &answer, &e))
            cli_note(r->c, "cancelling %s", list[i].id);
        else
            cli_say_error(r->c, &e);
        json_decref(answer);
    }
    return true;
}

bool
follow_all(Remote *r, Followed *list, size_t count, FollowHow how, Err *e)
{
    int64_t patience_ms = r->patience_ms;
    Bar bar = {.c = r->c};
    size_t left = count;
    bool ok = true;

    interrupt_catch();
    while (ok && left > 0) {
        ok = ask_round(r, list, count, &bar, how, &left, e);
        /* Once it answered, a service that is started anew is waited for. */
        if (ok)
            r->patience_ms = REMOTE_FOLLOW_PATIENCE_MS;
        if (!ok && e->code == ERR_INTERRUPTED) {
            bar.drawn = 0;
            err_clear(e);
            ok = meant_to_cancel(r, list, count) || fail(e, INTERRUPTED, "detached");
        }
    }
    r->patience_ms = patience_ms;
    return ok;
}
