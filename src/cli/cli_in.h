/* What the files of cli/ share: the command being run, its flags, and how it speaks. */
#ifndef CLI_CLI_IN_H
#define CLI_CLI_IN_H

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"
#include "export/kinds.h"

/* One flag of a command; a table of them ends with name NULL. */
typedef struct {
    const char *name;          /* "user": --user */
    char letter;               /* 'o'; 0: none */
    const char *argument;      /* "FILE"; NULL: a switch */
    bool argument_is_optional; /* --download [DIR|FILE] */
    bool many;                 /* may come several times */
    const char *help;
} CliFlag;

typedef struct Cli Cli;

typedef struct {
    const char *name;     /* "request" */
    const char *takes;    /* "TYPE", "ID…": for the usage line */
    const char *does;     /* a line of `rowferry help` */
    const CliFlag *flags; /* of its own; the global ones come on top */
    bool local; /* reads the configuration of this machine: role options are accepted too */
    int (*run)(Cli *c,
        Err *e); /* exit status; with `e` filled: err_exit_status(e->code) after cli_say_error */
} CliCommand;

/* Every command, in the order of help; name NULL ends. cli.c has the table. */
extern const CliCommand cli_commands[];

struct Cli {
    const CliCommand *command;
    const Kinds *kinds;
    Arena *arena;         /* of the process */
    const Config *config; /* of a local command; else NULL */
    char **word;          /* what is not a flag, NULL-ended */
    int words;
    /* the global flags */
    const char *url;    /* --url, ROWFERRY_URL, the default; no slash at the end */
    int64_t timeout_ms; /* --timeout; 0: none */
    bool json, quiet, verbose, color, yes, no_input;
    const char *output; /* table json jsonl csv */
    bool out_is_terminal, err_is_terminal;
};

/* The flag's value; NULL: it was not given ("" for a switch or an optional argument left out). */
const char *cli_flag(const Cli *c, const char *name);
/* All values of a flag that may come several times; NULL-ended. */
const char *const *cli_flags(const Cli *c, const char *name);

/* "rowferry: <detail> (<code>)" and a hint, on standard error; the problem object with --json. */
void cli_say_error(const Cli *c, const Err *e);

/* local.c and others: the commands that need no server. */
int cli_dump(Cli *c, Err *e);
int cli_types(Cli *c, Err *e);
int cli_doctor(Cli *c, Err *e);
int cli_config(Cli *c, Err *e);
int cli_demo_data(Cli *c, Err *e);
int cli_version(Cli *c, Err *e);
extern const CliFlag cli_dump_flags[], cli_types_flags[], cli_demo_data_flags[];

#endif
