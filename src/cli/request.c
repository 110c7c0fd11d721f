/* `rowferry request`: S1, and if asked to its end. */
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/download.h"
#include "cli/follow.h"

enum { KEY_BYTES_MAX = 255 };

/* clang-format off */
const CliFlag cli_request_flags[] = {
    CLI_PARAM_FLAGS,
    {"from-file", 0, "FILE", .help = "The whole request as JSON; flags override it. - is standard input."},
    {"user", 'u', "USER", .help = "Whose export it is; ROWFERRY_USER, else the login name."},
    {"format", 'f', "FORMAT", .help = "csv, or what else the server has."},
    {"compression", 0, "CODEC", .help = "none, or what else the server has."},
    {"columns", 0, "NAMES", .help = "Only these columns, in this order, comma between. The server of this version has that not yet."},
    {"profile", 0, "NAME", .help = "machine or excel. The server of this version has that not yet."},
    {"label", 0, "KEY=VALUE", .many = true, .help = "A label of yours, shown wherever the export is. The server of this version has that not yet."},
    {"wait", 0, NULL, .help = "Wait for the end, without a word."},
    {"follow", 0, NULL, .help = "Watch it to its end."},
    {"download", 0, "DIR|FILE", .argument_is_optional = true, .help = "Watch it, then save the file and verify it; here, if nothing is named."},
    {"no-verify", 0, NULL, .help = "Do not compare size and SHA-256 of the file."},
    {"resume", 0, NULL, .help = "Keep and continue a part of the file."},
    {"idempotency-key", 0, "KEY", .help = "The same key never makes two exports; by default a random one."},
    {0},
};
/* clang-format on */

const char cli_request_more[] =
    "Prints the id of the task; with --wait or --follow the link of the file; with --download "
    "where\n"
    "the file is. With --json the server's answer, and while following an object for each change.\n"
    "\n"
    "-p NAME=VALUE: where the definition of the type on this machine says that NAME is a number or "
    "a\n"
    "truth value, VALUE is sent as that; else as text. If the server then wants the other, it "
    "gets\n"
    "it. -p NAME:=JSON sends JSON as it stands: -p 'score:=60' -p 'name:=\"60\"' -p 'end:=null'.\n"
    "\n"
    "Examples:\n"
    "  rowferry request employee_metrics -p team=Engineering -p min_burnout_score=60 --follow\n"
    "  rowferry request interaction_history -p start=2024-01-01T00:00:00Z --download /tmp/\n"
    "  id=$(rowferry request graph_data) && rowferry watch \"$id\"\n";

/* The type's definition on this machine; NULL if there is none, or if the configuration is of no
 * use: the server judges the values anyway. */
static const ExportType *
declared_type(Cli *c, const char *name)
{
    static char command[] = "request";
    ConfigArgs args = {.argc = 1, .argv = (char *[]){command, NULL}, .is_client = true};
    const Config *config;
    Err why = {0};

    if ((config = config_load(&args, c->arena, &why)) &&
        (c->types = types_load(config, c->kinds, c->arena, &why)))
        return types_find(c->types, name);
    if (c->verbose)
        cli_note(c, "values are sent as text: %s", err_root(&why));
    return NULL;
}

/* --user, the request's own, ROWFERRY_USER, the login name. */
static bool
set_user(const Cli *c, json_t *body, Err *e)
{
    const char *user = cli_user(c, json_text_or(body, "user_id", NULL), e);

    return user && (json_object_set_new(body, "user_id", json_string(user)) == 0 ||
                       fail(e, MEMORY_LIMIT, "no memory for the request"));
}

const char *
cli_user(const Cli *c, const char *preset, Err *e)
{
    const char *user = cli_flag(c, "user");
    const struct passwd *login;

    if (!user)
        user = preset;
    if (!user)
        user = config_variable("ROWFERRY_USER");
    if (!user && (login = getpwuid(geteuid())))
        user = arena_text(c->arena, login->pw_name, e);
    if (!user)
        fail(e, USAGE, "whose? --user or ROWFERRY_USER says it");
    else if (!text_is_user_id(user)) {
        fail(e, USAGE, "\"%.64s\" is not the id of a user: letters, digits, _ . @ -", user);
        user = NULL;
    }
    return user;
}

static bool
set_texts(const Cli *c, json_t *body, Err *e)
{
    static const char *const members[] = {"format", "compression", "profile"};
    const char *columns = cli_flag(c, "columns");
    bool ok = true;

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const char *value = cli_flag(c, members[i]);

        ok = ok && (!value || json_object_set_new(body, members[i], json_string(value)) == 0);
    }
    if (columns) {
        json_t *list = json_array();

        for (const char *at = columns; ok && *at;) {
            size_t bytes = strcspn(at, ",");

            ok = json_array_append_new(list, json_stringn(at, bytes)) == 0;
            at += bytes + (at[bytes] == ',');
        }
        ok = json_object_set_new(body, "columns", list) == 0 && ok;
    }
    return ok || fail(e, USAGE, "a flag's text is not UTF-8");
}

static bool
set_labels(const Cli *c, json_t *body, Err *e)
{
    const char *const *given = cli_flags(c, "label");
    json_t *labels = json_object_get(body, "labels");

    if (!given || !*given)
        return true;
    if (!json_is_object(labels)) {
        labels = json_object();
        if (json_object_set_new(body, "labels", labels) != 0)
            return fail(e, MEMORY_LIMIT, "no memory for the request");
    }
    for (; *given; given++) {
        const char *equals = strchr(*given, '=');

        if (!equals || equals == *given)
            return fail(e, USAGE, "--label: expected KEY=VALUE, not \"%.64s\"", *given);
        if (json_object_setn_new(
                labels, *given, (size_t)(equals - *given), json_string(equals + 1)) != 0)
            return fail(e, USAGE, "--label: \"%.64s\" is not UTF-8", *given);
    }
    return true;
}

static bool
set_params(Cli *c, json_t *body, Err *e)
{
    const char *const *given = cli_flags(c, "param");
    const char *name = json_text_or(body, "export_type", "");
    json_t *params, *there = json_object_get(body, "params");
    bool ok;

    if (!cli_params(c, given && *given ? declared_type(c, name) : NULL, &params, e))
        return false;
    ok = json_is_object(there)
             ? json_object_update(there, params) == 0
             : json_object_size(params) == 0 || json_object_set(body, "params", params) == 0;
    json_decref(params);
    return ok || fail(e, MEMORY_LIMIT, "no memory for the request");
}

/* What is sent; the caller owns it. NULL on failure. */
static json_t *
make_body(Cli *c, Err *e)
{
    const char *file = cli_flag(c, "from-file"), *params_file = cli_flag(c, "params-file");
    json_t *body = NULL;
    bool ok = true;

    if (file && params_file && strcmp(file, "-") == 0 && strcmp(params_file, "-") == 0)
        fail(e, USAGE, "standard input cannot be both --from-file and --params-file");
    else if (file ? !cli_read_object(file, &body, e) : !(body = json_object()))
        ok = false;
    ok = ok && body;
    if (ok && c->words > 0)
        ok = json_object_set_new(body, "export_type", json_string(c->word[0])) == 0 ||
             fail(e, USAGE, "the name of the type is not UTF-8");
    if (ok && !json_object_get(body, "export_type"))
        ok = fail(e, USAGE, "request: expected TYPE; `rowferry types` lists them");
    if (ok && set_user(c, body, e) && set_texts(c, body, e) && set_labels(c, body, e) &&
        set_params(c, body, e))
        return body;
    json_decref(body);
    return NULL;
}

/* The server knows the types better: what it wants read otherwise is. True if anything changed. */
static bool
read_otherwise(const Cli *c, json_t *body)
{
    static const char prefix[] = "/params/";
    json_t *params = json_object_get(body, "params"), *error;
    bool changed = false;
    size_t i;

    json_array_foreach(json_object_get(c->problem, "errors"), i, error)
    {
        const char *pointer = json_text_or(error, "pointer", ""), *text;
        json_t *other;

        if (strcmp(json_text_or(error, "code", ""), "wrong-type") != 0 ||
            !text_starts(pointer, prefix) || !(text = param_text(c, pointer + sizeof prefix - 1)))
            continue;
        other = param_other_reading(json_object_get(params, pointer + sizeof prefix - 1), text);
        if (other && json_object_set_new(params, pointer + sizeof prefix - 1, other) == 0)
            changed = true;
    }
    return changed;
}

static bool
send(Remote *r, json_t *body, RemoteAnswer *answer, Err *e)
{
    const char *key = cli_flag(r->c, "idempotency-key");
    RemoteCall call = {.method = "POST", .path = "/api/exports/request", .body = body};
    char random_key[37];

    text_uuid(random_key);
    call.idempotency_key = key ? key : random_key;
    if (key && (!*key || strlen(key) > KEY_BYTES_MAX || text_has_control(key, strlen(key), false)))
        return fail(
            e, USAGE, "--idempotency-key: expected 1 to %d visible characters", KEY_BYTES_MAX);
    if (remote_call(r, &call, answer, e))
        return true;
    if (e->code != ERR_VALIDATION_FAILED || !read_otherwise(r->c, body))
        return false;
    /* What was refused is not remembered: the key is still free. */
    err_clear(e);
    return remote_call(r, &call, answer, e);
}

static void
say_warnings(const Cli *c, const json_t *answer)
{
    json_t *warning;
    size_t i;

    json_array_foreach(json_object_get(answer, "warnings"), i, warning)
        cli_note(c, "warning: %s: %s (%s)", json_text_or(warning, "pointer", "?"),
            json_text_or(warning, "detail", "?"), json_text_or(warning, "code", "?"));
}

/* What is done stays done, even if the file cannot be saved where it should. */
static bool
save(Remote *r, const json_t *status, const char *to, Err *e)
{
    if (download_save(r, status, to, e))
        return true;
    if (e->code != ERR_INTERRUPTED && e->code != ERR_WAITED_TOO_LONG)
        cli_note(r->c, "the export is done; `rowferry download %s` saves its file",
            json_text_or(status, "task_id", "ID"));
    return false;
}

/* From the id to the end, and to the file. */
static bool
see_through(Remote *r, const char *id, const json_t *body, Err *e)
{
    const Cli *c = r->c;
    Followed f = {.id = id, .name = json_text_or(body, "export_type", NULL)};
    const char *to = cli_flag(c, "download");
    FollowHow how = cli_flag(c, "wait") ? FOLLOW_SILENTLY : FOLLOW_SHOWN;
    bool ok = follow_all(r, &f, 1, how, e);

    if (ok && how == FOLLOW_SILENTLY && c->json)
        ok = cli_print_json(c, f.status, true, e);
    ok = ok && follow_completed(&f, e);
    if (ok && to)
        ok = save(r, f.status, to, e);
    else if (ok && !c->json)
        ok = cli_line(json_text_or(f.status, "download_url", ""), e);
    follow_free(&f, 1);
    return ok;
}

static bool
is_followed(const Cli *c)
{
    return cli_flag(c, "wait") || cli_flag(c, "follow") || cli_flag(c, "download");
}

/* What came of the first answer: its id, or all the way. */
static bool
go_on(Remote *r, const json_t *answer, const json_t *body, Err *e)
{
    const Cli *c = r->c;
    const char *id = json_text_or(answer, "task_id", "");

    say_warnings(c, answer);
    if (is_followed(c)) {
        cli_note(c, "task %s", id);
        return see_through(r, id, body, e);
    }
    if (c->json)
        return cli_print_json(c, answer, true, e);
    if (c->err_is_terminal && c->out_is_terminal)
        cli_note(
            c, "%s; `rowferry watch %s` follows it", json_text_or(answer, "state", "queued"), id);
    return cli_line(id, e);
}

int
cli_request(Cli *c, Err *e)
{
    RemoteAnswer answer = {0};
    json_t *body = NULL;
    Remote r = {0};
    bool ok;

    ok = !(cli_flag(c, "wait") && cli_flag(c, "follow")) ||
         fail(e, USAGE, "--wait and --follow do not go together");
    ok = ok && (body = make_body(c, e)) && remote_open(c, &r, e) && send(&r, body, &answer, e) &&
         go_on(&r, answer.body, body, e);
    json_decref(answer.body);
    json_decref(body);
    remote_close(&r);
    return cli_exit(ok, e);
}
