/* Any text may stand behind a command; no text may do more than fail with USAGE. The input is the
 * command's number and then its arguments, a line each; each value of --param is parsed, too. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const TypeParam params[] = {
    {.name = "n", .type = COLUMN_INT64},
    {.name = "yes", .type = COLUMN_BOOL},
    {.name = "more", .type = COLUMN_JSON},
};

static const ExportType type = {.name = "t", .param = params, .params = 3};

/* A value that was taken stands in the object under its name, as something JSON can write. */
static void
check_params(const CliArgs *args)
{
    json_t *object = json_object();
    size_t members = 0;

    for (size_t i = 0; i < args->givens; i++) {
        Err e = {0};

        if (strcmp(args->given[i].flag->name, "param") != 0)
            continue;
        if (param_parse(args->given[i].value, &type, object, &e))
            members++;
        else if (e.code != ERR_USAGE)
            abort();
        if (json_object_size(object) != members)
            abort();
    }
    json_decref(object);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    enum { ARGS = 64 };
    char *argv[ARGS + 1] = {NULL};
    size_t commands = 0, count = 0;
    Arena *arena = arena_new(16 << 20);
    const CliCommand *command;
    char *text, *one;
    CliArgs args;
    Err e = {0};

    if (!arena || bytes == 0 || !(text = arena_bytes(arena, data + 1, bytes - 1, &e))) {
        arena_free(arena);
        return 0;
    }
    while (cli_commands[commands].name)
        commands++;
    command = &cli_commands[data[0] % commands];
    while ((one = strsep(&text, "\n")) && count < ARGS)
        argv[count++] = one;
    if (flags_find_word(argv, cli_global_flags) >= (int)count)
        abort();
    if (flags_parse(argv, command->flags, cli_global_flags, arena, &args, &e)) {
        /* Letters may stand together, but no argument is lost or made up. */
        if (args.words > (int)count || args.word[args.words])
            abort();
        for (size_t i = 0; i < args.givens; i++)
            if (!args.given[i].value || (*args.given[i].value && !args.given[i].flag->argument))
                abort();
        check_params(&args);
    } else if (e.code != ERR_USAGE) {
        abort();
    }
    arena_free(arena);
    return 0;
}
