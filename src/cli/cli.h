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

/* argv[0] is the program. `role` ends with NULL. Returns the exit status of api-surface.md 15. */
int cli_run(int argc, char **argv, const Kinds *kinds, const CliRole *const *role);

#endif
