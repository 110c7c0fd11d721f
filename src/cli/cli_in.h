/* What the files of cli/ share: the command being run, its flags, and how it speaks. */
#ifndef CLI_CLI_IN_H
#define CLI_CLI_IN_H

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "config/config.h"
#include "export/kinds.h"
#include "export/type.h"

/* One flag of a command; a table of them ends with name NULL. */
typedef struct {
    const char *name;          /* "user": --user */
    char letter;               /* 'o'; 0: none */
    const char *argument;      /* "FILE"; NULL: a switch */
    bool argument_is_optional; /* --download [DIR|FILE] */
    bool many;                 /* may come several times */
    const char *help;
    const char *const *choices; /* the only values there are, NULL-ended; NULL: any */
    bool only_equals; /* an optional argument that stands behind '=' only: --json[=FIELDS] */
} CliFlag;

/* A flag as it came. */
typedef struct {
    const CliFlag *flag;
    const char *value; /* "" of a switch, and of an optional argument that was left out */
} CliGiven;

/* A command line taken apart. */
typedef struct {
    CliGiven *given;
    size_t givens;
    char **word; /* what is not a flag, NULL-ended */
    int words;
} CliArgs;

typedef struct Cli Cli;

typedef struct {
    const char *name;     /* "request" */
    const char *takes;    /* "TYPE", "ID…": for the usage line */
    const char *does;     /* a line of `rowferry help` */
    const CliFlag *flags; /* of its own; the global ones come on top; NULL: none */
    bool local; /* reads the configuration of this machine: role options are accepted too */
    int (*run)(Cli *c,
        Err *e); /* exit status; with `e` filled: err_exit_status(e->code) after cli_say_error */
    const char *more;         /* what else `rowferry help COMMAND` says; NULL: nothing */
    int words_min, words_max; /* how many words it takes; max 0 with min 0: none */
} CliCommand;

enum { CLI_WORDS_MAX = 64 }; /* of a command that takes "ID…" */

/* What an exit status means; meaning NULL ends the list. */
typedef struct {
    int status;
    const char *meaning;
} CliExit;

extern const CliExit cli_exits[];

/* Every command, in the order of help; name NULL ends. cli.c has the table. */
extern const CliCommand cli_commands[];
extern const CliFlag cli_global_flags[];

struct Cli {
    const CliCommand *command;
    const CliProgram *program;
    const Kinds *kinds;         /* the program's */
    const CliRole *const *role; /* the program's */
    Arena *arena;               /* of the process */
    const Config *config;       /* of a local command; else NULL */
    const TypeSet *types;       /* what the command loaded; freed behind it */
    char **word;                /* what is not a flag, NULL-ended */
    int words;
    CliArgs args;
    /* the global flags */
    const char *url;     /* --url, ROWFERRY_URL, the default; no slash at the end */
    int64_t deadline_ms; /* time_now_ms() when --timeout is over; 0: none */
    bool json, quiet, verbose, color, yes, no_input;
    const char *fields; /* --json=FIELDS: only these members, comma between; NULL: all */
    const char *output; /* table json jsonl csv */
    bool out_is_terminal, err_is_terminal; /* a terminal that can move its cursor */
    json_t *problem; /* what the server said to the last call that it refused; NULL: nothing */
};

/* The flag's value; NULL: it was not given ("" for a switch or an optional argument left out). */
const char *cli_flag(const Cli *c, const char *name);
/* All values of a flag that may come several times; NULL-ended. NULL: no memory. */
const char *const *cli_flags(const Cli *c, const char *name);

/* "rowferry: <detail> (<code>)" and a hint, on standard error; the problem object with --json. */
void cli_say_error(const Cli *c, const Err *e);

/* How a command ends that did it, or did not. */
static inline int
cli_exit(bool ok, const Err *e)
{
    return ok ? 0 : err_exit_status(e->code);
}

/* A line on standard error, made printable; not with --quiet. */
void cli_note(const Cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Standard output, written at once. A closed pipe ends the process quietly, as SIGPIPE does.
 * INTERNAL, STORAGE_FULL. */
bool cli_out(const void *data, size_t bytes, Err *e) MUST_CHECK;

/* A text on a line of its own there, with what could command a terminal shown as text_terminal. */
bool cli_line(const char *text, Err *e) MUST_CHECK;

/* flag.c: takes arguments apart, pure. `own` may be NULL. An optional argument is what stands
 * behind '=', or the next argument, if that is no flag and a word came before (so that in `request
 * --download TYPE` TYPE stays a word). USAGE names the nearest known flag. The texts stay those of
 * `args`. */
bool flags_parse(char *const *args, const CliFlag *own, const CliFlag *global, Arena *arena,
    CliArgs *parsed, Err *e) MUST_CHECK;

/* Index of the first argument that is neither a global flag nor the value of one: the command.
 * -1: there is none. */
int flags_find_word(char *const *args, const CliFlag *global);

/* print.c: how results look. */
typedef enum {
    CLI_TEXT,
    CLI_COUNT,   /* 1,250,000 */
    CLI_BYTES,   /* 70 MB */
    CLI_PERCENT, /* 55% */
    CLI_TIME_MS, /* 5.1 s */
} CliForm;

typedef struct {
    const char *member; /* of the JSON object; NULL ends a table */
    const char *title;
    CliForm form; /* in a table for people; csv and json show the value itself */
} CliColumn;

/* `row`: an array of objects. As --output says: a table of `column`, CSV of the same, one JSON
 * array (of a command line with one word: the object alone), or a line each. With --json=FIELDS
 * only those members. */
bool cli_print_rows(const Cli *c, const json_t *row, const CliColumn *column, Err *e) MUST_CHECK;

/* One JSON value on a line of its own (or, `pretty` and on a terminal, over several). */
bool cli_print_json(const Cli *c, const json_t *value, bool pretty, Err *e) MUST_CHECK;

/* "1.25 M", "410 k", "12": three digits at most. "70 MB". "4 s", "2 m 05 s". Appended. */
void print_count(Buf *to, double count);
void print_bytes(Buf *to, double bytes);
void print_span(Buf *to, int64_t ms);

/* param.c: -p name=value, -p name:=JSON and --params-file of this command line as one object, which
 * the caller owns. With `type`, a value after '=' becomes what the type declares; without it, and
 * where it does not fit, it is a text. USAGE. */
bool cli_params(const Cli *c, const ExportType *type, json_t **params, Err *e) MUST_CHECK;

enum { PARAM_NAME_BYTES = 128 };

/* The same for one argument, added to `params`; pure. */
bool param_parse(const char *text, const ExportType *type, json_t *params, Err *e) MUST_CHECK;

/* What was given after '=' for this parameter; NULL: nothing, or raw JSON. */
const char *param_text(const Cli *c, const char *wanted);

/* The other way to read `text`, which became `value`: a text as the number or truth value that it
 * spells (NULL if it spells none), and these as text. The caller owns it. */
json_t *param_other_reading(const json_t *value, const char *text);

/* A JSON object from a file, or from standard input ("-"); the caller owns it. USAGE. */
bool cli_read_object(const char *path, json_t **object, Err *e) MUST_CHECK;

/* The flags that both `request` and `dump` have: put them into the own table. */
#define CLI_PARAM_FLAGS                                                                            \
    {"param", 'p', "NAME=VALUE", .many = true, .help = "A filter; NAME:=JSON gives raw JSON."},    \
    {                                                                                              \
        "params-file", 0, "FILE", .help = "A JSON object with filters; - is standard input."       \
    }

/* All of a file, or of standard input ("-"), at most `bytes_max`. Begins `to`, which the caller
 * frees in any case. USAGE. */
bool cli_read_file(const char *path, size_t bytes_max, Buf *to, Err *e) MUST_CHECK;

/* request.c: --user, `preset`, ROWFERRY_USER, the login name. USAGE, and NULL, if it is no user's
 * id. */
const char *cli_user(const Cli *c, const char *preset, Err *e) MUST_CHECK;

/* The commands that need a server. */
int cli_request(Cli *c, Err *e);
int cli_status(Cli *c, Err *e);
int cli_watch(Cli *c, Err *e);
int cli_list(Cli *c, Err *e);
int cli_download(Cli *c, Err *e);
int cli_cancel(Cli *c, Err *e);
int cli_delete(Cli *c, Err *e);
int cli_completion(Cli *c, Err *e);
extern const CliFlag cli_request_flags[], cli_list_flags[], cli_download_flags[];
extern const char cli_request_more[];

/* The commands that need none. */
int cli_dump(Cli *c, Err *e);
int cli_types(Cli *c, Err *e);
int cli_doctor(Cli *c, Err *e);
int cli_config(Cli *c, Err *e);
int cli_demo_data(Cli *c, Err *e);
int cli_version(Cli *c, Err *e);
extern const CliFlag cli_dump_flags[], cli_types_flags[], cli_demo_data_flags[], cli_doctor_flags[];
extern const char cli_dump_more[], cli_types_more[], cli_demo_data_more[];

#endif
