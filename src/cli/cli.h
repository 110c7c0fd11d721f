/* The command line for people and scripts: everything that is not a role. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "export/kinds.h"

/* argv[1] is the command. Returns the exit status of api-surface.md 15. */
int cli_run(int argc, char **argv, const Kinds *kinds);

#endif
