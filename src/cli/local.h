/* What the commands share that need no server. */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include "base/finding.h"
#include "cli/cli_in.h"
#include "export/request.h"

/* The definitions that this machine's configuration names. */
const TypeSet *local_types(Cli *c, Err *e) MUST_CHECK;

/* UNKNOWN_EXPORT_TYPE, with the nearest known name. */
const ExportType *local_type(Cli *c, const TypeSet *types, const char *name, Err *e) MUST_CHECK;

/* What request_parse found, as the server would say it: cli_say_error prints it. */
void local_problem(Cli *c, const Problems *problems, const Err *e);

/* "✓ name: detail" on standard output ("!", "✗"), and what to do on a line of its own (NULL:
 * nothing). With --quiet nothing about what is good. */
bool local_say(const Cli *c, Verdict verdict, const char *name, const char *detail, const char *fix,
    Err *e) MUST_CHECK;

/* What to do about an error of this machine; NULL: nothing is known. */
const char *local_fix(const Config *config, const char *source, const Err *why);

/* Has it no URL, and is the demo database, which a worker writes, not there yet? */
bool local_is_to_come(const Config *config, const ConfigSource *source);

/* demo.c: makes the demo database of DATA if the source is it and it is not there yet; says so. */
bool local_demo(Cli *c, const ConfigSource *source, Err *e) MUST_CHECK;

#endif
