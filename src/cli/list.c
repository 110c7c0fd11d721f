/* `rowferry list` and `delete`: a user's files, S3 and S4. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/follow.h"

enum {
    LIMIT_MAX = 1000,
    LIMIT_PRESET = 10,
    PATH_BYTES = 8192,
    PAGES_MAX = 10000,
    KEY_BYTES_MAX = 1024
};

/* clang-format off */
const CliFlag cli_list_flags[] = {
    {"user", 'u', "USER", .help = "Whose; ROWFERRY_USER, else the login name."},
    {"files", 0, NULL, .help = "The files in storage (all there is to list yet)."},
    {"limit", 'n', "N", .help = "At most this many, 1 to 1000, the newest first. [10]"},
    {"all", 0, NULL, .help = "All there are."},
    {0},
};
/* clang-format on */

static const CliColumn file_columns[] = {
    {"last_modified", "MODIFIED (UTC)", CLI_TEXT},
    {"size", "SIZE", CLI_BYTES},
    {"row_count", "ROWS", CLI_COUNT},
    {"key", "KEY", CLI_TEXT},
    {0},
};

/* One page into `files`; `cursor` (NULL: the first) becomes the next one's, or NULL. */
static bool
list_page(Remote *r, const char *user, unsigned limit, const char **cursor, json_t *files, Err *e)
{
    char path[PATH_BYTES];
    RemoteAnswer answer;
    Buf coded = buf_new(PATH_BYTES / 2);
    json_t *page;
    bool ok;

    if (*cursor)
        text_percent_encode(&coded, *cursor, strlen(*cursor), false);
    snprintf(path, sizeof path, "/api/exports/user/%s?limit=%u%s%s", user, limit,
        *cursor ? "&cursor=" : "", coded.data);
    ok = buf_is_good(&coded, e) &&
         remote_call(r, &(RemoteCall){.method = "GET", .path = path}, &answer, e);
    buf_free(&coded);
    if (!ok)
        return false;
    page = json_object_get(answer.body, "exports");
    ok = json_is_array(page)
             ? json_array_extend(files, page) == 0 || fail(e, MEMORY_LIMIT, "no memory")
             : fail(e, INTERNAL, "the answer has no list of exports");
    *cursor = json_text_or(answer.body, "next_cursor", NULL);
    if (ok && *cursor)
        ok = (*cursor = arena_text(r->c->arena, *cursor, e)) != NULL;
    json_decref(answer.body);
    return ok;
}

static bool
read_limit(const Cli *c, unsigned *limit, Err *e)
{
    const char *text = cli_flag(c, "limit");
    uint64_t number = LIMIT_PRESET;

    if (text && (!text_to_uint(text, LIMIT_MAX, &number) || number == 0))
        return fail(e, USAGE, "--limit: expected a whole number from 1 to %d", LIMIT_MAX);
    if (text && cli_flag(c, "all"))
        return fail(e, USAGE, "--limit and --all do not go together");
    *limit = cli_flag(c, "all") ? LIMIT_MAX : (unsigned)number;
    return true;
}

int
cli_list(Cli *c, Err *e)
{
    const char *user = cli_user(c, NULL, e), *cursor = NULL;
    json_t *files = json_array();
    bool ok = user && files, all = cli_flag(c, "all");
    unsigned limit = 0;
    Remote r = {0};

    ok = ok && read_limit(c, &limit, e) && remote_open(c, &r, e);
    for (unsigned page = 0; ok && (page == 0 || (all && cursor)); page++)
        ok = page < PAGES_MAX ? list_page(&r, user, limit, &cursor, files, e)
                              : fail(e, INTERNAL, "the list has no end");
    ok = ok && cli_print_rows(c, files, file_columns, e);
    if (ok && cursor)
        cli_note(c, "there are more: --all shows them");
    if (ok && json_array_size(files) == 0)
        cli_note(c, "%s has no files; --user names another", user);
    json_decref(files);
    remote_close(&r);
    return cli_exit(ok, e);
}

/* False: the answer was no, or (USAGE) nobody can be asked. */
static bool
is_meant(const Cli *c, const char *const *key, Err *e)
{
    char answer[16] = "";

    if (c->yes)
        return true;
    if (c->no_input || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return fail(e, USAGE, "delete asks on a terminal; elsewhere --yes says that it is meant");
    for (; *key; key++) {
        Buf line = buf_new(8 * KEY_BYTES_MAX);

        text_terminal(&line, *key, strlen(*key));
        fprintf(stderr, "  %s\n", line.data);
        buf_free(&line);
    }
    fprintf(stderr, "Delete %s? [y/N] ", c->words == 1 ? "this file" : "these files");
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return true;
    cli_note(c, "nothing was deleted");
    return false;
}

/* A task's id stands for its file. */
static bool
key_of(Remote *r, const char *word, char key[KEY_BYTES_MAX + 1], Err *e)
{
    Followed f = {.id = word};
    bool ok = true;

    if (!text_is_uuid(word))
        return text_copy(key, KEY_BYTES_MAX + 1, word) ||
               fail(e, INVALID_KEY, "a key has at most %d bytes", KEY_BYTES_MAX);
    if (!follow_ask(r, &f, 0, e))
        return false;
    if (!*json_text_or(f.status, "key", ""))
        ok = fail(e, NOT_FOUND, "task %s has no file", word);
    else
        ok = text_copy(key, KEY_BYTES_MAX + 1, json_text_or(f.status, "key", "")) ||
             fail(e, INVALID_KEY, "a key has at most %d bytes", KEY_BYTES_MAX);
    follow_free(&f, 1);
    return ok;
}

static bool
delete_one(Remote *r, const char *word, json_t *rows, Err *e)
{
    char key[KEY_BYTES_MAX + 1], path[PATH_BYTES];
    Buf coded = buf_new(PATH_BYTES);
    RemoteAnswer answer;
    bool ok;

    if (!key_of(r, word, key, e))
        return false;
    text_percent_encode(&coded, key, strlen(key), true);
    snprintf(path, sizeof path, "/api/exports/%s", coded.data);
    buf_free(&coded);
    ok = remote_call(r, &(RemoteCall){.method = "DELETE", .path = path}, &answer, e);
    if (!ok)
        return false;
    if (!json_bool_or(answer.body, "existed", true))
        cli_note(r->c, "%s was not there", key);
    return json_array_append_new(rows, answer.body) == 0 || fail(e, MEMORY_LIMIT, "no memory");
}

static bool
print_deleted(const Cli *c, const json_t *rows, Err *e)
{
    static const CliColumn columns[] = {
        {"status", "STATUS", CLI_TEXT}, {"key", "KEY", CLI_TEXT}, {0}};

    return cli_print_rows(c, rows, columns, e);
}

int
cli_delete(Cli *c, Err *e)
{
    if (!is_meant(c, (const char *const *)c->word, e))
        return e->code == ERR_NONE ? EXIT_FAILURE : err_exit_status(e->code);
    return remote_each(c, delete_one, print_deleted, e);
}
