/*
 * The reference documents (docs/reference/), printed from the tables that the program runs by: what
 * stands here cannot drift from what it does.
 */
#include <stdio.h>
#include <string.h>

#include "base/metric.h"
#include "cli/reference.h"
#include "export/state.h"

/* Text in a cell of a table: '|' would end it. */
static void
put_cell(Buf *to, const char *text)
{
    for (; text && *text; text++) {
        if (*text == '|')
            buf_char(to, '\\');
        buf_char(to, *text);
    }
}

static void
put_code(Buf *to, const char *text)
{
    buf_char(to, '`');
    put_cell(to, text);
    buf_char(to, '`');
}

static bool
print_options(const Cli *c, Buf *to, Err *e)
{
    (void)c;
    (void)e;
    config_reference(to);
    return true;
}

static bool
print_errors(const Cli *c, Buf *to, Err *e)
{
    static const char *const again[] = {"no", "once", "yes"};

    (void)c;
    (void)e;
    buf_text(to, "# Errors\n\nPrinted by the program. `code` is the contract: new ones may come, "
                 "none changes its "
                 "meaning. A code without a status is never an answer by itself; it is the reason "
                 "why an export "
                 "failed, or how a command ended.\n\n"
                 "| code | status | tried again by itself | exit status | sentence |\n"
                 "| --- | --- | --- | --- | --- |\n");
    for (unsigned code = ERR_NONE + 1; code < ERR_CODES; code++) {
        int status = err_http_status((ErrCode)code);

        buf_printf(to, "| `%s` | ", err_name((ErrCode)code));
        if (status > 0)
            buf_printf(to, "%d", status);
        buf_printf(
            to, " | %s | %d | ", again[err_retry((ErrCode)code)], err_exit_status((ErrCode)code));
        put_cell(to, err_sentence((ErrCode)code));
        buf_text(to, " |\n");
    }
    return true;
}

static bool
print_metrics(const Cli *c, Buf *to, Err *e)
{
    static const struct {
        const char *type, *name, *labels, *buckets, *help;
    } metrics[] = {
#define METRIC(id, type, name, labels, buckets, help) {#type, name, labels, #buckets, help},
#include "base/metric.def"
#undef METRIC
    };

    (void)c;
    (void)e;
    buf_text(to, "# Metrics\n\nPrinted by the program; `GET /metrics` serves them in the "
                 "Prometheus text format. Totals "
                 "of exports, tasks and storage are those of the whole service; `http` and "
                 "`process` ones are of the "
                 "API process that answers. Histograms have buckets from 0.5 ms to 10 s, those of "
                 "exports from 10 ms "
                 "to 1 h.\n\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        char type[16];
        size_t at = 0;

        for (; metrics[i].type[at] && at < sizeof type - 1; at++)
            type[at] = (char)(metrics[i].type[at] | 0x20);
        type[at] = '\0';
        buf_printf(to, "| `%s` | %s | ", metrics[i].name, type);
        put_cell(to, metrics[i].labels);
        buf_text(to, " | ");
        put_cell(to, metrics[i].help);
        buf_text(to, " |\n");
    }
    buf_text(to, "\n## Readiness\n\n`GET /readyz` answers 200 while the queue and the storage "
                 "can be used, else 503: "
                 "`checks` has `ok`, `ms` and, if need be, `error` of each. `sources` is what "
                 "workers found, when they "
                 "started and then about every minute while a child is idle: `ok`, `ms` "
                 "(not of one that an export was reading), `checked_at`, and `code` and "
                 "`error` (docs/reference/errors.md) of one that is out of reach; `ok` is null "
                 "where no worker has tried "
                 "for 10 minutes. A source that is out of reach makes nobody turn requests away: "
                 "the queue keeps them.\n");
    return true;
}

static bool
print_states(const Cli *c, Buf *to, Err *e)
{
    (void)c;
    (void)e;
    buf_text(to, "# States\n\nPrinted by the program. `status` is the closed list that old clients "
                 "know, `state` tells "
                 "more. An export moves along these lines and no others.\n\n"
                 "| state | status | may become |\n| --- | --- | --- |\n");
    for (unsigned from = 0; from < STATES; from++) {
        bool first = true;

        buf_printf(
            to, "| `%s` | `%s` | ", state_name((ExportState)from), state_status((ExportState)from));
        for (unsigned next = 0; next < STATES; next++)
            if (state_may_become((ExportState)from, (ExportState)next)) {
                buf_printf(to, "%s`%s`", first ? "" : " ", state_name((ExportState)next));
                first = false;
            }
        buf_printf(to, "%s |\n", first ? "the end" : "");
    }
    return true;
}

static void
put_flags(const CliFlag *flag, Buf *to)
{
    buf_text(to, "| flag | meaning |\n| --- | --- |\n");
    for (; flag->name; flag++) {
        char text[128];

        snprintf(text, sizeof text, "--%s%s%s%s", flag->name,
            !flag->argument              ? ""
            : flag->argument_is_optional ? "[="
                                         : " ",
            flag->argument ? flag->argument : "", flag->argument_is_optional ? "]" : "");
        buf_text(to, "| ");
        put_code(to, text);
        if (flag->letter)
            buf_printf(to, " `-%c`", flag->letter);
        buf_text(to, " | ");
        put_cell(to, flag->help);
        buf_text(to, " |\n");
    }
}

static void
put_command(const CliCommand *command, Buf *to)
{
    buf_printf(to, "\n## `rowferry %s%s%s`\n\n%c%s.\n", command->name, *command->takes ? " " : "",
        command->takes, command->does[0] - 'a' + 'A', command->does + 1);
    if (command->local)
        buf_text(to, "Reads the configuration of this machine: the flags of "
                     "[options.md](options.md) go, too.\n");
    if (command->more)
        buf_printf(to, "\n```\n%s```\n", command->more);
    if (command->flags) {
        buf_char(to, '\n');
        put_flags(command->flags, to);
    }
}

static bool
print_cli(const Cli *c, Buf *to, Err *e)
{
    (void)e;
    buf_text(to, "# Command line\n\nPrinted by the program.\n\n## Roles\n\n| role | does |\n| --- "
                 "| --- |\n");
    for (const CliRole *const *role = c->role; *role; role++)
        buf_printf(to, "| `rowferry %s` | %s |\n", (*role)->name, (*role)->does);
    buf_text(to,
        "\nTheir flags are those of [options.md](options.md).\n\n## Flags of every command\n\n");
    put_flags(cli_global_flags, to);
    for (const CliCommand *command = cli_commands; command->name; command++)
        put_command(command, to);
    buf_text(to, "\n## Exit status\n\n| status | meaning |\n| --- | --- |\n");
    for (const CliExit *exit = cli_exits; exit->meaning; exit++)
        buf_printf(to, "| %d | %s |\n", exit->status, exit->meaning);
    buf_text(to, "\nA role exits 0 after a clean stop, 2 on a wrong configuration, 1 when it "
                 "cannot start otherwise.\n");
    return true;
}

static void
put_type(const ExportType *type, Buf *to)
{
    buf_printf(to, "\n## `%s`\n\n%s\n\nSource `%s`", type->name, type->description, type->source);
    if (type->order && *type->order)
        buf_printf(to, ", ordered %s", type->order);
    buf_text(to, ".\n\n| column | type |\n| --- | --- |\n");
    for (size_t i = 0; i < type->columns; i++)
        buf_printf(to, "| `%s` | %s |\n", type->column[i].name,
            type->column_type_given[i] ? column_type_name(type->column[i].type)
                                       : "as the source says");
    if (type->params == 0) {
        buf_text(to, "\nNo parameters.\n");
        return;
    }
    buf_text(to, "\n| parameter | type | meaning |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < type->params; i++) {
        buf_printf(
            to, "| `%s` | %s | ", type->param[i].name, column_type_name(type->param[i].type));
        put_cell(to, type->param[i].description);
        buf_text(to, " |\n");
    }
}

/* Those that are built in; what this machine adds is no part of the documents. */
static bool
print_types(const Cli *c, Buf *to, Err *e)
{
    char name[] = "help";
    char *argv[] = {name, NULL};
    ConfigArgs args = {.argc = 1, .argv = argv};
    const Config *config = config_load(&args, c->arena, e);
    const TypeSet *types = config ? types_load(config, c->kinds, c->arena, e) : NULL;

    if (!types)
        return false;
    buf_text(to,
        "# Export types\n\nPrinted by the program: what a definition may say, and the types that "
        "ship.\n\n## Your own\n\nA definition is a YAML file, like those in "
        "[types/](../../types/); `--types` names the file, or a folder of them. One with the name "
        "of a type that ships replaces it. `rowferry types --check` tries the queries, SIGHUP "
        "reads "
        "the definitions again; wrong ones are refused with file, line and key, and those of "
        "before "
        "stay.\n\n");
    types_reference(to);
    buf_text(to,
        "\nA value that does not fit its column's type fails the export; the log names column and "
        "row.\n\nSQLite has no types for dates and times: texts like those above are read "
        "(` ` for `T`, fractions, `Z` or `+02:00` may be there), and whole seconds since 1970. "
        "A parameter is bound as such a text, in UTC and without `Z`. "
        "So compare times and not their texts: `datetime(placed_at) >= datetime($since)`.\n");
    for (size_t i = 0; i < types->types; i++)
        if (strcmp(types->type[i].origin, "built-in") == 0)
            put_type(&types->type[i], to);
    types_free(types);
    return true;
}

/* DOCUMENT(name): printed by print_NAME. */
#define DOCUMENTS(DOCUMENT)                                                                        \
    DOCUMENT(options)                                                                              \
    DOCUMENT(errors)                                                                               \
    DOCUMENT(metrics)                                                                              \
    DOCUMENT(states)                                                                               \
    DOCUMENT(cli)                                                                                  \
    DOCUMENT(types)

#define DOCUMENT(name) #name,
const char *const reference_names[] = {DOCUMENTS(DOCUMENT) NULL};
#undef DOCUMENT

#define DOCUMENT(name) print_##name,
static bool (*const prints[])(const Cli *c, Buf *to, Err *e) = {DOCUMENTS(DOCUMENT)};
#undef DOCUMENT

enum { DOCUMENT_BYTES_MAX = 1 << 20 };

bool
reference_print(const Cli *c, const char *name, Err *e)
{
    Buf to = buf_new(DOCUMENT_BYTES_MAX);
    bool ok = false;

    for (size_t i = 0; reference_names[i]; i++)
        if (strcmp(reference_names[i], name) == 0)
            ok = prints[i](c, &to, e) && buf_is_good(&to, e) && cli_out(to.data, to.bytes, e);
    buf_free(&to);
    return ok;
}
