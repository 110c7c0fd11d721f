/* config show, version. */
#include <stdlib.h>
#include <string.h>

#include "base/version.h"
#include "cli/cli_in.h"

enum { TEXT_BYTES_MAX = 1 << 20 };

/* What the driver makes of the options: where files go, and whose keys open it. */
static void
describe_storage(const Cli *c, Buf *to)
{
    Err why = {0};

    if (kinds_judge_storage(c->kinds, c->config, to, &why))
        return;
    buf_clear(to);
    buf_printf(to, "cannot be used: %s", err_root(&why));
}

int
cli_config(Cli *c, Err *e)
{
    Buf text = buf_new(TEXT_BYTES_MAX), storage = buf_new(TEXT_BYTES_MAX);
    bool ok = strcmp(c->word[0], "show") == 0 ||
              fail(e, USAGE, "config %.64s: there is only `config show`", c->word[0]);

    if (ok) {
        describe_storage(c, &storage);
        config_show(c->config, storage.bytes > 0 ? storage.data : NULL, c->json, &text);
        ok = buf_is_good(&text, e) && cli_out(text.data, text.bytes, e);
    }
    buf_free(&storage);
    buf_free(&text);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* "rowferry 0.1.0 (commit)", and a line for each library that it stands on. */
int
cli_version(Cli *c, Err *e)
{
    const CliLibrary *library = c->program->library;
    json_t *value =
        json_pack("{s:s, s:s}", "version", ROWFERRY_VERSION, "commit", version_commit());
    json_t *list = json_object();
    Buf text = buf_new(TEXT_BYTES_MAX);
    bool ok = value && list;

    buf_printf(&text, "rowferry %s (%s)\n", ROWFERRY_VERSION, version_commit());
    for (; ok && library->name; library++) {
        buf_printf(&text, "  %-8s %s\n", library->name, library->version());
        json_object_set_new(list, library->name, json_string(library->version()));
    }
    if (!ok || json_object_set(value, "libraries", list) != 0)
        ok = fail(e, MEMORY_LIMIT, "no memory for the versions");
    else if (c->json)
        ok = cli_print_json(c, value, true, e);
    else
        ok = buf_is_good(&text, e) && cli_out(text.data, text.bytes, e);
    json_decref(list);
    json_decref(value);
    buf_free(&text);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
