/*
 * rowferry: the only file that knows every driver and role by name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/yaml.h"
#include "beat/beat.h"
#include "beat/cron.h"
#include "child/child.h"
#include "cli/cli.h"
#include "export/kinds.h"
#include "flow/sink.h"
#include "net/http.h"
#include "supervisor/supervisor.h"
#include "worker/worker.h"

extern const SourceKind source_sqlite;
const char *source_sqlite_library_version(void);
extern const SourceKind source_postgres;
const char *source_postgres_library_version(void);
const char *answer_library_version(void);
extern const EncoderKind format_csv;
extern const CodecKind codec_none;
extern const StorageKind storage_s3;
extern const StorageKind storage_file;
extern const QueueKind queue_embedded;

static const SourceKind *const sources[] = {&source_postgres, &source_sqlite, NULL};
static const EncoderKind *const formats[] = {&format_csv, NULL};
static const CodecKind *const codecs[] = {&codec_none, NULL};
static const StorageKind *const storages[] = {&storage_s3, &storage_file, NULL};
static const QueueKind *const queues[] = {&queue_embedded, NULL};
static const Kinds kinds = {sources, formats, codecs, storages, queues};

static const CliLibrary libraries[] = {
    {"SQLite", source_sqlite_library_version},
    {"libpq", source_postgres_library_version},
    {"OpenSSL", digest_library_version},
    {"libcurl", http_library_version},
    {"Jansson", json_library_version},
    {"libyaml", yaml_library_version},
    {"Expat", answer_library_version},
    {NULL, NULL},
};

enum { CONFIG_BYTES_MAX = 64 << 20, EXIT_CANNOT_START = 1, EXIT_WRONG_CONFIG = 2 };

static int
run_supervisor(const Config *config, const Kinds *drivers, const ConfigArgs *args)
{
    (void)drivers; /* it only starts those that use them */
    return supervisor_run(config, args);
}

/* What a role is called, what it does, and how it looks in --help. */
typedef struct {
    CliRole is;
    int (*run)(const Config *config, const Kinds *kinds, const ConfigArgs *args);
    bool asks_no_source, opens_no_storage; /* so it is not to know how (security.md 6) */
} Role;

static const Role roles[] = {
    {{"serve", "api, worker and beat under one supervisor", NULL}, run_supervisor},
    {{"api", "answers HTTP", "api"}, api_run, .asks_no_source = true},
    {{"worker", "takes tasks and runs exports", "worker"}, worker_run},
    {{"beat", "puts tasks on the queue by the clock", "beat"}, beat_run, .asks_no_source = true,
        .opens_no_storage = true},
};

enum { ROLES = sizeof roles / sizeof roles[0] };

static const Role *
find_role(const char *name)
{
    for (size_t i = 0; i < ROLES; i++)
        if (strcmp(roles[i].is.name, name) == 0)
            return &roles[i];
    return NULL;
}

/* Every problem on a line of its own: the root first. */
static int
say_why(const Role *role, const Err *e)
{
    for (unsigned i = 0; i < e->links; i++) {
        char text[ERR_TEXT_BYTES];

        text_copy(text, sizeof text, e->link[i].text);
        text_make_printable(text);
        fprintf(stderr, "rowferry %s: %s\n", role->is.name, text);
    }
    return e->code == ERR_CONFIG_INVALID ? EXIT_WRONG_CONFIG : EXIT_CANNOT_START;
}

static bool
asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int
show_help(const Role *role)
{
    Buf text = buf_new(256 << 10);

    buf_printf(&text, "rowferry %s: %s\n\nusage: rowferry %s [OPTION…]\n\n", role->is.name,
        role->is.does, role->is.name);
    config_help(role->is.options, &text);
    fwrite(text.data, 1, text.bytes, stdout);
    buf_free(&text);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool
judge_rooms(const Config *config, Err *e)
{
    Err why = {0};
    Cron cron;

    if (!cron_parse(config->cleanup_schedule, &cron, &why))
        return fail(e, CONFIG_INVALID, "cleanup_schedule: %s", err_root(&why));
    return kinds_judge_sources(&kinds, config, e) && kinds_queue(&kinds, config, e) &&
           kinds_judge_storage(&kinds, config, NULL, e);
}

/* What the configuration names and only the drivers and rooms above it can judge. */
static bool
check_rooms(const Config *config, Err *e)
{
    if (judge_rooms(config, e))
        return true;
    config_say_where(config, e);
    return false;
}

static void
open_log(const Config *config, const Role *role)
{
    LogLevel level = LOG_INFO;

    log_level_of(config->loglevel, &level);
    log_open(level, strcmp(config->log_format, "text") == 0 ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON,
        role->is.name);
}

static int
run_role(const Role *role, int argc, char **argv)
{
    ConfigArgs args = {.argc = argc, .argv = argv};
    Arena *process = arena_new(CONFIG_BYTES_MAX);
    const Config *config;
    Err e = {0};
    int status;

    if (!process)
        return EXIT_CANNOT_START;
    process_begin(false, 0);
    if (asks_for_help(argc, argv)) {
        status = show_help(role);
    } else if (!(config = config_load(&args, process, &e)) || !check_rooms(config, &e)) {
        status = say_why(role, &e);
    } else {
        if (config->supervisor) {
            process_begin(true, (pid_t)config->supervisor);
            (void)setpgid(0, 0); /* Ctrl-C is the supervisor's; it tells us in its order */
        }
        open_log(config, role);
        if (config_prepare_data(config, process, &e)) {
            config_hide_secrets();
            if (role->asks_no_source)
                config_forget_sources(config);
            if (role->opens_no_storage)
                config_forget_storage(config);
            config_warn(config);
            status = role->run(config, &kinds, &args);
        } else {
            status = say_why(role, &e);
        }
    }
    arena_free(process);
    return status;
}

/* `rowferry child [PID]`: started by a worker, whose pid that is. */
static int
run_child(int argc, char **argv)
{
    uint64_t parent = (uint64_t)getppid();

    if (argc > 2 || (argc == 2 && !text_to_uint(argv[1], INT32_MAX, &parent))) {
        fprintf(stderr, "rowferry child: only a worker starts this\n");
        return EXIT_WRONG_CONFIG;
    }
    process_begin(true, (pid_t)parent);
    return child_run(&kinds, (pid_t)parent, CHILD_IDLE_MS);
}

int
main(int argc, char **argv)
{
    const Role *role = argc > 1 ? find_role(argv[1]) : NULL;
    const CliRole *known[ROLES + 1] = {NULL};

    if (role)
        return run_role(role, argc - 1, argv + 1);
    if (argc == 3 && strcmp(argv[1], "help") == 0 && (role = find_role(argv[2])))
        return show_help(role);
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return run_child(argc - 1, argv + 1);
    for (size_t i = 0; i < ROLES; i++)
        known[i] = &roles[i].is;
    return cli_run(argc, argv, &(CliProgram){&kinds, known, libraries, check_rooms});
}
