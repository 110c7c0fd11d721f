/* Reference documents in Markdown, printed from the program's own tables. */
#ifndef CLI_REFERENCE_H
#define CLI_REFERENCE_H

#include "cli/cli_in.h"

extern const char *const reference_names[]; /* NULL-ended */

/* Writes one of them to standard output. */
bool reference_print(const Cli *c, const char *name, Err *e) MUST_CHECK;

#endif
