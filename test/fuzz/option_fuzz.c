/* Any text may stand on the command line; no text may do more than fail with CONFIG_INVALID. The
 * input is the arguments, a line each; the first byte says whether a client reads them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
check_handing_on(const Config *config, Arena *arena)
{
    json_t *json = config_to_json(config);
    const Config *again;
    Err e = {0};

    if (!json || !config_environment(config, arena, &e))
        abort();
    again = config_from_json(json, arena, &e);
    json_decref(json);
    if (!again || again->port != config->port || again->drain_ms != config->drain_ms ||
        again->task_memory_limit_bytes != config->task_memory_limit_bytes ||
        again->types.items != config->types.items || again->sources != 0) /* a run brings its own */
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    enum { ARGS = 64 };
    char *argv[ARGS + 1] = {(char *)(uintptr_t) "api"};
    ConfigArgs args = {.argc = 1, .argv = argv};
    Arena *arena = arena_new(16 << 20);
    const Config *config;
    char *text, *one;
    Err e = {0};

    if (!arena || !(text = arena_bytes(arena, data, bytes, &e)))
        abort();
    args.is_client = bytes > 0 && data[0] & 1;
    while ((one = strsep(&text, "\n")) && args.argc < ARGS)
        if (strncmp(one, "--config", 8) != 0) /* no files here */
            argv[args.argc++] = one;
    config = config_load(&args, arena, &e);
    if (!config && e.code != ERR_CONFIG_INVALID)
        abort();
    if (args.rest_count > args.argc - 1 || (!args.is_client && args.rest_count > 0))
        abort();
    if (config) {
        if (config->port > 65535 || config->url_ttl_ms < 60000 || config->max_attempts < 1 ||
            config->retry_delay_count < 1 || config->data_dir[0] != '/')
            abort();
        check_handing_on(config, arena);
    }
    arena_free(arena);
    return 0;
}
