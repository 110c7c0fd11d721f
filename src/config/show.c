#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "config/config_in.h"
#include "net/url.h"

enum { VALUE_BYTES_MAX = 64 << 10, COLUMN_NAME = 40, COLUMN_VALUE = 32 };

static bool
is_empty_secret(const Option *o, const Config *config)
{
    return o->is_secret && !**(const char *const *)((const char *)config + o->at);
}

/* Where a value came from, for people. */
static void
print_origin(const Origin *origin, Buf *to)
{
    switch (origin->from) {
    case FROM_DEFAULT:
        buf_text(to, "default");
        return;
    case FROM_FILE:
        buf_printf(to, "%s:%u", origin->name, origin->line);
        return;
    case FROM_VARIABLE:
        buf_printf(to, "variable %s", origin->name);
        return;
    case FROM_SECRET_FILE:
        buf_printf(to, "file %s", origin->name);
        return;
    case FROM_CREDENTIAL:
        buf_printf(to, "credential %s", origin->name);
        return;
    case FROM_FLAG:
        buf_printf(to, "flag %s", origin->name);
        return;
    }
}

static void
print_value(const Option *o, const Config *config, Buf *to)
{
    if (!o->is_secret)
        option_print(o, config, to);
    else if (!is_empty_secret(o, config))
        buf_text(to, "***");
}

static void
show_text(const Config *config, const char *storage, Buf *to)
{
    const Origins *origins = config->origins;

    buf_printf(
        to, "%-*s %s\n", COLUMN_NAME, "configuration file", *config->path ? config->path : "none");
    for (const Option *o = options; o < options + OPTIONS; o++) {
        Buf value = buf_new(VALUE_BYTES_MAX), origin = buf_new(VALUE_BYTES_MAX);

        print_value(o, config, &value);
        print_origin(&origins->option[o - options], &origin);
        buf_printf(to, "%-*s %-*s %s\n", COLUMN_NAME, o->name, COLUMN_VALUE,
            value.bytes ? value.data : "-", origin.data);
        buf_free(&value);
        buf_free(&origin);
    }
    for (size_t i = 0; i < config->sources; i++) {
        const ConfigSource *s = &config->source[i];

        buf_printf(to, "source %-*s ", COLUMN_NAME - 7, s->name);
        url_show(s->url, to);
        buf_printf(to, "%s%s\n", s->is_demo ? " (demo)" : "", s->password ? " password ***" : "");
    }
    if (storage)
        buf_printf(to, "%-*s %s\n", COLUMN_NAME, "storage", storage);
}

static void
show_json_member(const char *name, const char *text, size_t bytes, Buf *to)
{
    buf_printf(to, "\"%s\":", name);
    text_json_string(to, text, bytes, 0);
}

static void
show_json(const Config *config, const char *storage, Buf *to)
{
    const Origins *origins = config->origins;

    buf_char(to, '{');
    show_json_member("file", config->path, strlen(config->path), to);
    buf_text(to, ",\"options\":{");
    for (const Option *o = options; o < options + OPTIONS; o++) {
        Buf text = buf_new(VALUE_BYTES_MAX);

        buf_printf(to, "%s\"%s\":{", o > options ? "," : "", o->name);
        print_value(o, config, &text);
        show_json_member("value", text.data, text.bytes, to);
        buf_clear(&text);
        print_origin(&origins->option[o - options], &text);
        buf_char(to, ',');
        show_json_member("from", text.data, text.bytes, to);
        buf_char(to, '}');
        buf_free(&text);
    }
    buf_text(to, "},\"sources\":{");
    for (size_t i = 0; i < config->sources; i++) {
        Buf text = buf_new(VALUE_BYTES_MAX);

        buf_printf(to, "%s\"%s\":{", i ? "," : "", config->source[i].name);
        url_show(config->source[i].url, &text);
        show_json_member("url", text.data, text.bytes, to);
        buf_printf(to, ",\"demo\":%s}", config->source[i].is_demo ? "true" : "false");
        buf_free(&text);
    }
    buf_char(to, '}');
    if (storage) {
        buf_char(to, ',');
        show_json_member("storage", storage, strlen(storage), to);
    }
    buf_text(to, "}\n");
}

void
config_show(const Config *config, const char *storage, bool as_json, Buf *to)
{
    if (as_json)
        show_json(config, storage, to);
    else
        show_text(config, storage, to);
}

static unsigned
roles_of(const char *role)
{
    static const struct {
        const char *name;
        unsigned roles;
    } known[] = {
        {"api", FOR_API}, {"worker", FOR_WORKER}, {"beat", FOR_BEAT}, {"client", FOR_CLIENT}};

    for (size_t i = 0; role && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(role, known[i].name) == 0)
            return known[i].roles;
    return FOR_ALL;
}

void
config_help(const char *role, Buf *to)
{
    unsigned roles = roles_of(role);

    buf_text(to, "Options:\n      --config FILE                Configuration file (YAML); by "
                 "default /etc/rowferry/rowferry.yaml.\n");
    for (const Option *o = options; o < options + OPTIONS; o++) {
        char flag[OPTION_NAME_BYTES], both[2 * OPTION_NAME_BYTES];

        if (!(o->roles & roles) || !option_has_flag(o))
            continue;
        option_flag(o, flag);
        snprintf(both, sizeof both, "%s %s", flag, o->argument);
        buf_printf(to, "  %c%c%c %-28s %s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
            o->letter ? ',' : ' ', both, o->help);
        buf_printf(to, *o->preset ? " [%s]\n" : "%s\n", o->preset);
    }
    buf_text(to, "\nVariables and keys of the file, without a flag:\n");
    for (const Option *o = options; o < options + OPTIONS; o++) {
        char name[OPTION_NAME_BYTES];

        if (!(o->roles & roles) || option_has_flag(o) || o->origin == ORIGIN_FOREIGN)
            continue;
        option_variable(o, name);
        buf_printf(to, "      %-28s %s", name, o->help);
        buf_printf(to, *o->preset ? " [%s]\n" : "%s\n", o->preset);
    }
    buf_text(to, "\nA flag comes before a variable (ROWFERRY_ and the flag's name in capitals), a "
                 "variable before the file.\nA secret may stand in a file: NAME_FILE=PATH. The S3 "
                 "storage also goes by AWS_… variables: docs/s3.md.\n");
}

bool
config_flag(
    const char *role, size_t i, char flag[OPTION_NAME_BYTES], char *letter, const char **takes)
{
    unsigned roles = roles_of(role);

    for (const Option *o = options; o < options + OPTIONS; o++) {
        if (!(o->roles & roles) || !option_has_flag(o) || i-- > 0)
            continue;
        option_flag(o, flag);
        *letter = o->letter;
        *takes = o->type == OPT_SWITCH ? NULL : o->argument;
        return true;
    }
    return false;
}

void
config_reference(Buf *to)
{
    buf_text(to,
        "# Options\n\nPrinted by the program. A flag comes before a variable, a variable before "
        "the file, the file before the default. The key of the file is the flag's name with `_`. "
        "A secret has no flag; it may also stand in a file that `NAME_FILE` names, or in "
        "`${CREDENTIALS_DIRECTORY}` under the name of the key.\n\n"
        "| flag | variable | default | value | meaning |\n| --- | --- | --- | --- | --- |\n");
    for (const Option *o = options; o < options + OPTIONS; o++) {
        char name[OPTION_NAME_BYTES], flag[OPTION_NAME_BYTES];
        Buf expected = buf_new(ERR_TEXT_BYTES);

        option_variable(o, name);
        option_flag(o, flag);
        option_expected(o, &expected);
        buf_text(to, "| ");
        if (option_has_flag(o))
            buf_printf(to, "`%s`", flag);
        if (o->letter)
            buf_printf(to, " `-%c`", o->letter);
        buf_printf(to, " | `%s`%s | ", name, o->is_secret ? " (secret)" : "");
        buf_printf(to, *o->preset ? "`%s`" : "%s", o->preset);
        buf_printf(to, " | %s | %s |\n", expected.data, o->help);
        buf_free(&expected);
    }
    buf_text(to,
        "\n## Sources\n\n`sources:` in the file names the databases that export types read, as a "
        "map: "
        "`shop: { url: \"sqlite:/srv/shop/shop.db\" }`. `graph` and `timescale` have variables of "
        "their own (above), and are the demo database until they have a URL.\n\n"
        "| key | value | meaning |\n| --- | --- | --- |\n");
    for (const SourceKey *k = source_keys; k < source_keys + SOURCE_KEYS; k++)
        buf_printf(to, "| `%s` | %s | %s |\n", k->key, k->value, k->meaning);
}
