/* The table of commands, the global flags, help, and how errors are said. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/reference.h"

enum { PROCESS_BYTES_MAX = 256 << 20, HELP_BYTES_MAX = 256 << 10, NAMES_MAX = 64 };

static const char default_url[] = "http://127.0.0.1:8000";
static const char *const outputs[] = {"table", "json", "jsonl", "csv", NULL};

static int cli_help(Cli *c, Err *e);

/* clang-format off */
const CliFlag cli_global_flags[] = {
    {"url", 0, "URL", .help = "The server; ROWFERRY_URL, else http://127.0.0.1:8000."},
    {"token-file", 0, "FILE", .help = "File with the token; else ROWFERRY_TOKEN."},
    {"output", 0, "FORM", .help = "table, json, jsonl or csv.", .choices = outputs},
    {"json", 0, "FIELDS", .argument_is_optional = true, .only_equals = true, .help = "The same as --output json; with FIELDS (a,b) only these members."},
    {"quiet", 'q', NULL, .help = "Results and errors only."},
    {"verbose", 'v', NULL, .help = "Also tell what is asked of the server."},
    {"no-color", 0, NULL, .help = "No colour; NO_COLOR and TERM=dumb do the same."},
    {"timeout", 0, "TIME", .help = "How long to wait at most (90s, 5m, 2h); then exit 124."},
    {"yes", 'y', NULL, .help = "Do not ask, do it."},
    {"no-input", 0, NULL, .help = "Do not ask, refuse."},
    {"help", 'h', NULL, .help = "What this command does."},
    {0},
};

static const CliFlag help_flags[] = {
    {"reference", 0, "DOCUMENT", .help = "Print a reference document in Markdown: options, errors, metrics, states, cli or types.", .choices = reference_names},
    {0},
};

const CliCommand cli_commands[] = {
    {"request", "TYPE", "asks for an export", cli_request_flags, false, cli_request, cli_request_more, 0, 1},
    {"status", "ID…", "says how tasks are doing", NULL, false, cli_status, NULL, 1, CLI_WORDS_MAX},
    {"watch", "ID…", "follows tasks to their end", NULL, false, cli_watch,
        "Ctrl-C leaves and lets them run; twice in a second cancels them.\n", 1, CLI_WORDS_MAX},
    {"list", "", "lists a user's files", cli_list_flags, false, cli_list, NULL, 0, 0},
    {"download", "ID", "saves the file of an export, verified", cli_download_flags, false, cli_download,
        "Prints where it is. Never overwrites a file.\n", 1, 1},
    {"cancel", "ID…", "stops tasks, the database's query too", NULL, false, cli_cancel, NULL, 1, CLI_WORDS_MAX},
    {"delete", "KEY|ID…", "deletes files", NULL, false, cli_delete, "Asks on a terminal, unless --yes says that it is meant.\n", 1, CLI_WORDS_MAX},
    {"dump", "[TYPE]", "runs an export here and now, without a server", cli_dump_flags, true, cli_dump, cli_dump_more, 0, 1},
    {"types", "[NAME]", "what can be exported, and how to ask for it", cli_types_flags, true, cli_types, cli_types_more, 0, 1},
    {"doctor", "", "tries configuration, queue, storage and sources; says what to fix", cli_doctor_flags, true, cli_doctor, NULL, 0, 0},
    {"config", "show", "every option, its value, and where that came from", NULL, true, cli_config, NULL, 1, 1},
    {"version", "", "this program's version and those of its libraries", NULL, false, cli_version, NULL, 0, 0},
    {"demo-data", "[FILE]", "writes the demo database: an organisation in SQLite", cli_demo_data_flags, true, cli_demo_data, cli_demo_data_more, 0, 1},
    {"completion", "bash|zsh|fish", "prints what a shell needs to complete this command line", NULL, false, cli_completion,
        "bash:  source <(rowferry completion bash)\n"
        "zsh:   source <(rowferry completion zsh), behind compinit\n"
        "fish:  rowferry completion fish | source\n", 1, 1},
    {"help", "[COMMAND]", "says what there is, or what a command does", help_flags, false, cli_help, NULL, 0, 1},
    {0},
};

/* api-surface.md 15; the numbers themselves are a column of err.def. */
const CliExit cli_exits[] = {
    {0, "done; with --wait or --follow the export completed"},
    {1, "the export failed, or another error"},
    {2, "wrong use of the command line, or of the configuration"},
    {3, "not found"},
    {4, "not logged in or not allowed"},
    {5, "refused: not valid"},
    {6, "a limit, or busy: try again later"},
    {7, "verification failed: the file is not the one that was promised"},
    {8, "the export was cancelled"},
    {69, "server or source not reachable"},
    {124, "--timeout reached"},
    {130, "interrupted; the export goes on"},
    {0, NULL},
};

/* What to do about an error, where there is something to say. */
static const struct {
    ErrCode code;
    const char *hint;
} hints[] = {
    {ERR_SERVER_UNREACHABLE, "`rowferry serve` starts one; --url or ROWFERRY_URL says where it is"},
    {ERR_SERVER_UNTRUSTED, "is it https, and its certificate good? SSL_CERT_FILE names a file of authorities to be trusted"},
    {ERR_UNAUTHENTICATED, "give a token by --token-file FILE or in ROWFERRY_TOKEN"},
    {ERR_EXPORT_NOT_FOUND, "records of tasks are kept for 30 days; `rowferry list` shows the files"},
    {ERR_UNKNOWN_EXPORT_TYPE, "`rowferry types` lists the types of this machine"},
    {ERR_EXISTS, "nothing is overwritten: choose another name, or move that file away"},
    {ERR_FILE_GONE, "it was deleted or is past its retention; request it again"},
    {ERR_WAITED_TOO_LONG, "the export itself goes on; --timeout is the time of waiting"},
    {ERR_QUEUE_FULL, "nothing was queued; try again later"},
};

/* Why an export failed is not for everybody who may ask for one: only the log says it. */
static const ErrCode told_in_log[] = {ERR_SOURCE_UNAVAILABLE, ERR_SOURCE_AUTH, ERR_SOURCE_QUERY, ERR_SOURCE_TIMEOUT,
    ERR_ENCODE_FAILED, ERR_WORKER_LOST, ERR_EXPORT_FAILED};
/* clang-format on */

const char *
cli_flag(const Cli *c, const char *name)
{
    for (size_t i = c->args.givens; i > 0; i--)
        if (strcmp(c->args.given[i - 1].flag->name, name) == 0)
            return c->args.given[i - 1].value;
    return NULL;
}

const char *const *
cli_flags(const Cli *c, const char *name)
{
    Err ignored = {0};
    const char **list =
        arena_alloc_array(c->arena, c->args.givens + 1, sizeof(const char *), &ignored);
    size_t count = 0;

    for (size_t i = 0; list && i < c->args.givens; i++)
        if (strcmp(c->args.given[i].flag->name, name) == 0)
            list[count++] = c->args.given[i].value;
    return list;
}

void
cli_note(const Cli *c, const char *fmt, ...)
{
    char text[2048];
    Buf shown = buf_new(8 * sizeof text);
    va_list args;

    if (c->quiet)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    text_terminal(&shown, text, strlen(text));
    fprintf(stderr, "%s\n", shown.data);
    buf_free(&shown);
}

static const char *
hint_of(const Cli *c, ErrCode code)
{
    /* What runs in the foreground ends with the wait. */
    if (code == ERR_WAITED_TOO_LONG && c->command && c->command->local)
        return NULL;
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (hints[i].code == code)
            return hints[i].hint;
    for (size_t i = 0; i < sizeof told_in_log / sizeof told_in_log[0]; i++)
        if (told_in_log[i] == code && c->command && !c->command->local)
            return "the log of the service has the cause, under the id of the task";
    return NULL;
}

/* One error of a problem's list: "  /params/team: must be a text". */
static void
put_detail(const json_t *detail, Buf *to)
{
    const char *pointer = json_string_value(json_object_get(detail, "pointer"));
    const char *text = json_string_value(json_object_get(detail, "detail"));
    const json_t *allowed = json_object_get(detail, "allowed"), *one;
    size_t i;

    buf_text(to, "  ");
    if (pointer && *pointer) {
        text_terminal(to, pointer, strlen(pointer));
        buf_text(to, ": ");
    }
    text_terminal(to, text ? text : "?", strlen(text ? text : "?"));
    json_array_foreach(allowed, i, one) if (json_is_string(one))
    {
        buf_text(to, i == 0 ? ": " : ", ");
        text_terminal(to, json_string_value(one), json_string_length(one));
    }
    buf_char(to, '\n');
}

static void
put_error_text(const Cli *c, const Err *e, Buf *to)
{
    const char *code = json_string_value(json_object_get(c->problem, "code"));
    const char *hint = hint_of(c, e->code), *root = err_root(e);
    const json_t *errors = json_object_get(c->problem, "errors"), *detail;
    size_t i;

    buf_text(to, "rowferry: ");
    text_terminal(
        to, *root ? root : err_sentence(e->code), strlen(*root ? root : err_sentence(e->code)));
    buf_text(to, " (");
    text_terminal(to, code ? code : err_name(e->code), strlen(code ? code : err_name(e->code)));
    buf_text(to, ")\n");
    json_array_foreach(errors, i, detail) put_detail(detail, to);
    /* A configuration has a link for each thing that is wrong with it. */
    for (unsigned k = 1; e->code == ERR_CONFIG_INVALID && k < e->links; k++) {
        buf_text(to, "  ");
        text_terminal(to, e->link[k].text, strlen(e->link[k].text));
        buf_char(to, '\n');
    }
    if (e->code == ERR_USAGE && c->command && strcmp(c->command->name, "help") != 0)
        buf_printf(to, "hint: `rowferry help %s` says more\n", c->command->name);
    else if (e->code == ERR_USAGE)
        buf_text(to, "hint: `rowferry help` lists the commands\n");
    else if (hint)
        buf_printf(to, "hint: %s\n", hint);
}

/* RFC 9457, as the server would say it; the server's own words where there are any. */
static json_t *
problem_of(const Cli *c, const Err *e)
{
    const char *name = err_name(e->code), *root = err_root(e);
    char type[80];
    json_t *problem;

    if (c->problem)
        return json_incref(c->problem);
    snprintf(type, sizeof type, "/problems/%s", name);
    problem = json_pack("{s:s, s:s, s:s, s:s}", "type", type, "title", err_sentence(e->code),
        "detail", *root ? root : err_sentence(e->code), "code", name);
    if (problem && err_http_status(e->code) > 0)
        json_object_set_new(problem, "status", json_integer(err_http_status(e->code)));
    return problem;
}

static int
take_dump(const char *data, size_t bytes, void *with)
{
    buf_put(with, data, bytes);
    return 0;
}

void
cli_say_error(const Cli *c, const Err *e)
{
    Buf text = buf_new(HELP_BYTES_MAX);
    json_t *problem = c->json ? problem_of(c, e) : NULL;

    if (problem) {
        json_dump_callback(
            problem, take_dump, &text, JSON_COMPACT | (c->err_is_terminal ? JSON_ENSURE_ASCII : 0));
        buf_char(&text, '\n');
    } else {
        put_error_text(c, e, &text);
    }
    fwrite(text.data, 1, text.bytes, stderr);
    json_decref(problem);
    buf_free(&text);
}

static const CliCommand *
find_command(const char *name)
{
    for (const CliCommand *command = cli_commands; command->name; command++)
        if (strcmp(command->name, name) == 0)
            return command;
    return NULL;
}

static bool
fail_unknown_command(const Cli *c, const char *name, Err *e)
{
    const char *list[NAMES_MAX + 1], *nearest;
    size_t count = 0;

    for (const CliCommand *command = cli_commands; command->name && count < NAMES_MAX; command++)
        list[count++] = command->name;
    for (const CliRole *const *role = c->role; *role && count < NAMES_MAX; role++)
        list[count++] = (*role)->name;
    list[count] = NULL;
    nearest = text_nearest(name, list);
    return fail(e, USAGE, "\"%.64s\": there is no such command%s%s%s", name,
        nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static void
put_flags(const CliFlag *flag, Buf *to)
{
    for (; flag && flag->name; flag++) {
        const char *equals = flag->argument_is_optional ? "[=" : " ";
        char both[64];

        snprintf(both, sizeof both, "--%s%s%s%s", flag->name, flag->argument ? equals : "",
            flag->argument ? flag->argument : "",
            flag->argument && flag->argument_is_optional ? "]" : "");
        buf_printf(to, "  %c%c%c %-26s %s\n", flag->letter ? '-' : ' ',
            flag->letter ? flag->letter : ' ', flag->letter ? ',' : ' ', both, flag->help);
    }
}

static void
put_command_help(const CliCommand *command, Buf *to)
{
    buf_printf(to, "rowferry %s: %s\n\nusage: rowferry %s%s%s%s\n", command->name, command->does,
        command->name, *command->takes ? " " : "", command->takes,
        command->flags || command->local ? " [FLAG…]" : "");
    if (command->more)
        buf_printf(to, "\n%s", command->more);
    if (command->flags) {
        buf_text(to, "\nFlags:\n");
        put_flags(command->flags, to);
    }
    buf_text(to, "\nFlags of every command:\n");
    put_flags(cli_global_flags, to);
    if (command->local) {
        buf_text(to, "\nIt reads the configuration of this machine. ");
        config_help("client", to);
    }
}

static void
put_whole_help(const Cli *c, Buf *to)
{
    buf_text(to, "rowferry: exports from databases to files, asynchronously\n\n"
                 "usage: rowferry COMMAND [FLAG…]\n\nRoles:\n");
    for (const CliRole *const *role = c->role; *role; role++)
        buf_printf(to, "  %-28s %s\n", (*role)->name, (*role)->does);
    buf_text(to, "\nCommands:\n");
    for (const CliCommand *command = cli_commands; command->name; command++) {
        char both[64];

        /* "…" is three bytes and one column. */
        snprintf(both, sizeof both, "%s %s", command->name, command->takes);
        buf_printf(to, "  %-*s %s\n", strstr(both, "…") ? 30 : 28, both, command->does);
    }
    buf_text(to, "\nFlags of every command:\n");
    put_flags(cli_global_flags, to);
    buf_text(to, "\nExit status:\n");
    for (const CliExit *exit = cli_exits; exit->meaning; exit++)
        buf_printf(to, "  %3d  %s\n", exit->status, exit->meaning);
    buf_text(to, "\n`rowferry help COMMAND` says more.\n");
}

static bool
show_help(const Cli *c, const CliCommand *command, Err *e)
{
    Buf to = buf_new(HELP_BYTES_MAX);
    bool ok;

    if (command)
        put_command_help(command, &to);
    else
        put_whole_help(c, &to);
    ok = buf_is_good(&to, e) && cli_out(to.data, to.bytes, e);
    buf_free(&to);
    return ok;
}

static int
cli_help(Cli *c, Err *e)
{
    const CliCommand *command = c->words > 0 ? find_command(c->word[0]) : NULL;
    const char *document = cli_flag(c, "reference");
    bool ok;

    if (document)
        ok = reference_print(c, document, e);
    else
        ok = (command || c->words == 0) ? show_help(c, command, e)
                                        : fail_unknown_command(c, c->word[0], e);
    return cli_exit(ok, e);
}

/* Colour, a bar that moves and questions are for people in front of a terminal that can. */
static void
look_around(Cli *c)
{
    const char *term = config_variable("TERM");
    bool dumb = !term || strcmp(term, "dumb") == 0;

    c->out_is_terminal = isatty(STDOUT_FILENO);
    c->err_is_terminal = isatty(STDERR_FILENO) && !dumb;
    c->color = c->out_is_terminal && !dumb && !config_variable("NO_COLOR");
}

static bool
take_globals(Cli *c, Err *e)
{
    const char *timeout = cli_flag(c, "timeout"), *url = cli_flag(c, "url"), *bare;
    int64_t ms;
    char *copy;

    c->color = c->color && !cli_flag(c, "no-color");
    c->quiet = cli_flag(c, "quiet");
    c->verbose = cli_flag(c, "verbose");
    c->yes = cli_flag(c, "yes");
    c->no_input = cli_flag(c, "no-input");
    c->fields = cli_flag(c, "json");
    c->output = cli_flag(c, "output");
    if (c->fields && c->output && strcmp(c->output, "jsonl") != 0 && strcmp(c->output, "json") != 0)
        return fail(e, USAGE, "--json and --output %s do not go together", c->output);
    if (!c->output)
        c->output = c->fields ? "json" : "table";
    c->json = text_starts(c->output, "json");
    if (c->fields && !*c->fields)
        c->fields = NULL;
    if (timeout && (!time_parse_duration(timeout, &ms) || ms <= 0))
        return fail(e, USAGE, "--timeout: expected a time above 0 such as 90s, 5m or 2h");
    c->deadline_ms = timeout ? time_now_ms() + ms : 0;
    if (!url)
        url = config_variable("ROWFERRY_URL");
    bare = url ? url : default_url;
    if (!(copy = arena_text(c->arena, bare, e)))
        return false;
    for (size_t bytes = strlen(copy); bytes > 0 && copy[bytes - 1] == '/'; bytes--)
        copy[bytes - 1] = '\0';
    c->url = copy;
    return true;
}

static bool
check_words(const Cli *c, Err *e)
{
    const CliCommand *command = c->command;

    if (c->words < command->words_min)
        return fail(e, USAGE, "%s: expected %s", command->name, command->takes);
    if (c->words > command->words_max)
        return fail(e, USAGE, "%s: \"%.64s\" is one word too many", command->name,
            c->word[command->words_max]);
    return true;
}

static bool
asks_for_help(char *const *args)
{
    for (; *args && strcmp(*args, "--") != 0; args++)
        if (strcmp(*args, "--help") == 0 || strcmp(*args, "-h") == 0)
            return true;
    return false;
}

/* The command's arguments without its name; a local one gives the configuration its own first. */
static bool
take_args(Cli *c, char **args, int count, Err *e)
{
    ConfigArgs config = {.argc = count + 1, .argv = args - 1, .is_client = true};

    if (c->command->local) {
        if (!(c->config = config_load(&config, c->arena, e)))
            return false;
        args = config.rest;
    }
    if (!flags_parse(args, c->command->flags, cli_global_flags, c->arena, &c->args, e))
        return false;
    c->word = c->args.word;
    c->words = c->args.words;
    return take_globals(c, e) && check_words(c, e);
}

/* An error in the arguments that follow is said in JSON, too. */
static bool
asks_for_json(char *const *args)
{
    for (; *args && strcmp(*args, "--") != 0; args++)
        if (strcmp(*args, "--json") == 0 || text_starts(*args, "--json="))
            return true;
    return false;
}

/* Finds the command, and puts it before all other arguments. `rowferry --version` is one, too. */
static bool
take_command(Cli *c, char **args, Err *e)
{
    static char version[] = "version";
    int at = flags_find_word(args, cli_global_flags);
    char *name;

    if (at < 0 && args[0] && (strcmp(args[0], "--version") == 0 || strcmp(args[0], "-V") == 0))
        args[at = 0] = version;
    if (at < 0)
        return flags_parse(args, NULL, cli_global_flags, c->arena, &c->args, e) &&
               fail(e, USAGE, "expected a command");
    name = args[at];
    if (!(c->command = find_command(name)))
        return fail_unknown_command(c, name, e);
    memmove(args + 1, args, (size_t)at * sizeof *args);
    args[0] = name;
    return true;
}

static int
run_command(Cli *c, int argc, char **argv, Err *e)
{
    char **args = argv + 1;
    int status;

    c->json = asks_for_json(args);
    if (asks_for_help(args) && flags_find_word(args, cli_global_flags) < 0)
        return cli_exit(show_help(c, NULL, e), e);
    if (!take_command(c, args, e))
        return err_exit_status(e->code);
    if (asks_for_help(args + 1))
        return cli_exit(show_help(c, c->command, e), e);
    if (!take_args(c, args + 1, argc - 2, e))
        return err_exit_status(e->code);
    status = c->command->run(c, e);
    return e->code == ERR_NONE ? status : err_exit_status(e->code);
}

int
cli_run(int argc, char **argv, const CliProgram *program)
{
    Arena *arena = arena_new(PROCESS_BYTES_MAX);
    Cli c = {.program = program,
        .kinds = program->kinds,
        .role = program->role,
        .arena = arena,
        .output = "table",
        .url = default_url};
    Err e = {0};
    int status = EXIT_FAILURE;

    process_begin(false, 0);
    if (!arena || argc < 1)
        return status;
    look_around(&c);
    status = run_command(&c, argc, argv, &e);
    if (e.code != ERR_NONE)
        cli_say_error(&c, &e);
    kinds_let_go(c.kinds);
    json_decref(c.problem);
    types_free(c.types);
    arena_free(arena);
    return status;
}
