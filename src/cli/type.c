/* types: what can be exported here, how to ask for it, and whether the queries are right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/local.h"

enum { TEXT_BYTES_MAX = 1 << 20 };

/* clang-format off */
const CliFlag cli_types_flags[] = {
    {"skeleton", 0, NULL, .help = "A request with all its parameters, to be edited."},
    {"check", 0, NULL, .help = "Try each query on its source: does it yield the columns?"},
    {0},
};

static const CliColumn columns[] = {
    {"name", "NAME", CLI_TEXT},
    {"title", "TITLE", CLI_TEXT},
    {"source", "SOURCE", CLI_TEXT},
    {"params", "PARAMETERS", CLI_TEXT},
    {"origin", "FROM", CLI_TEXT},
    {0},
};
/* clang-format on */

const char cli_types_more[] =
    "Reads the built-in definitions and those of --types, and needs no server.\n"
    "--check exits 1 when a query does not fit its source.\n"
    "What a definition may say: docs/reference/types.md, or `rowferry help --reference types`.\n";

/* --- the list --- */

static json_t *
row_of(const ExportType *type)
{
    Buf params = buf_new(TEXT_BYTES_MAX);
    json_t *row;

    for (size_t i = 0; i < type->params; i++)
        buf_printf(&params, "%s%s", i > 0 ? ", " : "", type->param[i].name);
    row = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", type->name, "title", type->title, "source",
        type->source, "params", params.data, "origin", type->origin);
    buf_free(&params);
    return row;
}

static bool
print_list(const Cli *c, const TypeSet *types, Err *e)
{
    json_t *rows = json_array();
    bool ok = true;

    for (size_t i = 0; ok && i < types->types; i++)
        ok = json_array_append_new(rows,
                 c->json ? type_describe(&types->type[i], c->kinds) : row_of(&types->type[i])) == 0;
    ok = ok ? cli_print_rows(c, rows, columns, e) : fail(e, MEMORY_LIMIT, "no memory for the list");
    json_decref(rows);
    return ok;
}

/* --- one type --- */

static void
put_param_rule(const TypeParam *param, Buf *to)
{
    if (param->has_min)
        buf_printf(to, ", at least %.15g", param->min);
    if (param->has_max)
        buf_printf(to, ", at most %.15g", param->max);
    if (param->min_text)
        buf_printf(to, ", from %s", param->min_text);
    if (param->max_text)
        buf_printf(to, ", to %s", param->max_text);
    if (param->max_length > 0)
        buf_printf(to, ", at most %u characters", param->max_length);
    if (param->pattern)
        buf_printf(to, ", like %s", param->pattern);
    if (param->choices) {
        Err ignored = {0};

        buf_text(to, ", one of ");
        (void)!json_write(param->choices, to, &ignored); /* `to` tells whether it did not fit */
    }
}

static void
put_type(const ExportType *type, const Config *config, const Kinds *kinds, Buf *to)
{
    const ConfigSource *source = config_find_source(config, type->source);

    buf_printf(to, "%s: %s\n", type->name, type->title);
    if (*type->description)
        buf_printf(to, "%s\n", type->description);
    buf_printf(to, "\nsource   %s%s\nfrom     %s\nformats ", type->source,
        source && source->is_demo ? " (no URL is set: the demo database)" : "", type->origin);
    for (const EncoderKind *const *kind = kinds->format; *kind; kind++)
        buf_printf(to, " %s", (*kind)->name);
    if (type->order && *type->order)
        buf_printf(to, "\norder    %s", type->order);
    if (type->parallel.connections > 0)
        buf_printf(to, "\nparallel by %s of %s, %u connections (PostgreSQL)",
            type->parallel.column ? type->parallel.column : "ctid", type->parallel.table,
            type->parallel.connections);
    buf_printf(to, "\nversion  %s\n", type->version);
    buf_printf(to, "\nParameters:%s\n", type->params > 0 ? "" : " none");
    for (size_t i = 0; i < type->params; i++) {
        const TypeParam *param = &type->param[i];

        buf_printf(to, "  %-24s %s%s", param->name, column_type_name(param->type),
            param->required ? ", required" : "");
        put_param_rule(param, to);
        buf_printf(to, "%s%s\n", param->description && *param->description ? ": " : "",
            param->description ? param->description : "");
    }
    buf_text(to, "\nColumns:\n");
    for (size_t i = 0; i < type->columns; i++)
        buf_printf(to, "  %-24s %s\n", type->column[i].name,
            type->column_type_given[i] ? column_type_name(type->column[i].type)
                                       : "as the source says");
}

static bool
print_type(const Cli *c, const ExportType *type, Err *e)
{
    Buf to = buf_new(TEXT_BYTES_MAX), shown = buf_new(4 * TEXT_BYTES_MAX);
    bool ok;

    if (c->json) {
        json_t *value = type_describe(type, c->kinds);

        ok = value ? cli_print_json(c, value, true, e)
                   : fail(e, MEMORY_LIMIT, "no memory for the type");
        json_decref(value);
        return ok;
    }
    put_type(type, c->config, c->kinds, &to);
    for (const char *at = to.data; *at;) {
        size_t bytes = strcspn(at, "\n");

        text_terminal(&shown, at, bytes);
        buf_char(&shown, '\n');
        at += bytes + (at[bytes] == '\n');
    }
    ok = buf_is_good(&to, e) && buf_is_good(&shown, e) && cli_out(shown.data, shown.bytes, e);
    buf_free(&to);
    buf_free(&shown);
    return ok;
}

/* Every parameter, with its default; null is "not given". */
static bool
print_skeleton(const Cli *c, const ExportType *type, Err *e)
{
    const char *user = config_variable("ROWFERRY_USER");
    json_t *params = json_object(), *request;
    bool ok;

    for (size_t i = 0; i < type->params; i++)
        json_object_set_new(params, type->param[i].name,
            type->param[i].preset ? json_deep_copy(type->param[i].preset) : json_null());
    request = json_pack("{s:s, s:s, s:s, s:o}", "export_type", type->name, "user_id",
        user ? user : "me", "format", "csv", "params", params);
    ok = request ? cli_print_json(c, request, true, e)
                 : fail(e, MEMORY_LIMIT, "no memory for the request");
    json_decref(request);
    return ok;
}

/* --- does it fit? --- */

/* `*good` is untouched by a type whose demo database is still to come: nothing is wrong with it. */
static bool
check_one(const Cli *c, const ExportType *type, json_t *rows, bool *good, Err *e)
{
    Err why = {0};
    char text[ERR_TEXT_BYTES], name[ERR_TEXT_BYTES];
    bool fits = type_check(type, c->config, c->kinds, &why);
    bool is_bad =
        !fits && !local_is_to_come(c->config, config_find_source(c->config, type->source));
    const char *fix = fits ? NULL : local_fix(c->config, type->source, &why);

    if (is_bad)
        *good = false;
    if (rows)
        return json_array_append_new(rows,
                   json_pack("{s:s, s:s, s:b, s:s?, s:s?, s:s?}", "name", type->name, "origin",
                       type->origin, "ok", fits, "code", fits ? NULL : err_name(why.code), "detail",
                       fits ? NULL : err_root(&why), "fix", fix)) == 0 ||
               fail(e, MEMORY_LIMIT, "no memory for the list");
    snprintf(text, sizeof text, "%zu columns from source %s", type->columns, type->source);
    snprintf(name, sizeof name, fits ? "%s" : "%s (%s)", type->name, type->origin);
    return local_say(c,
        fits     ? VERDICT_GOOD
        : is_bad ? VERDICT_BAD
                 : VERDICT_UNWISE,
        name, fits ? text : err_root(&why), fix, e);
}

static int
check(const Cli *c, const ExportType *first, size_t types, Err *e)
{
    static const CliColumn check_columns[] = {{"name", "NAME", CLI_TEXT}, {"ok", "OK", CLI_TEXT},
        {"origin", "FROM", CLI_TEXT}, {"code", "CODE", CLI_TEXT}, {"detail", "DETAIL", CLI_TEXT},
        {0}};
    json_t *rows = strcmp(c->output, "table") == 0 ? NULL : json_array();
    bool all = true, ok = true;

    for (size_t i = 0; ok && i < types; i++)
        ok = check_one(c, &first[i], rows, &all, e);
    if (ok && rows)
        ok = cli_print_rows(c, rows, check_columns, e);
    json_decref(rows);
    return ok && all ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
cli_types(Cli *c, Err *e)
{
    const TypeSet *types = local_types(c, e);
    const ExportType *type = NULL;
    bool skeleton = cli_flag(c, "skeleton"), ok;

    if (!types || (c->words > 0 && !(type = local_type(c, types, c->word[0], e))))
        return EXIT_FAILURE;
    if (skeleton && (cli_flag(c, "check") || !type)) {
        fail(e, USAGE,
            type ? "--skeleton and --check do not go together"
                 : "--skeleton: expected the NAME of a type");
        return EXIT_FAILURE;
    }
    if (cli_flag(c, "check"))
        return check(c, type ? type : types->type, type ? 1 : types->types, e);
    if (skeleton)
        ok = print_skeleton(c, type, e);
    else
        ok = type ? print_type(c, type, e) : print_list(c, types, e);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
