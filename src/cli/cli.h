/* The command line for people and scripts: everything that is not a role (api-surface.md 15). */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "export/kinds.h"

/* A role of this program, for help and completion: main.c has them. */
typedef struct {
    const char *name; /* "serve" */
    const char *does;
    const char *options; /* of config_help */
} CliRole;

/* A library that this program stands on; name NULL ends a list. */
typedef struct {
    const char *name;
    const char *(*version)(void);
} CliLibrary;

/* What only main.c knows. */
typedef struct {
    const Kinds *kinds;
    const CliRole *const *role; /* NULL-ended */
    const CliLibrary *library;
    /* What a role asks of a configuration before it starts, beyond config_load: for doctor. */
    bool (*check)(const Config *config, Err *e);
} CliProgram;

/* argv[0] is the program. Returns the exit status of api-surface.md 15. */
int cli_run(int argc, char **argv, const CliProgram *program);

#endif
