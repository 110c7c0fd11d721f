/* The role: keeps the roles of `rowferry serve` running. */
#ifndef SUPERVISOR_SUPERVISOR_H
#define SUPERVISOR_SUPERVISOR_H

#include "config/config.h"

/* Runs until told to stop; returns the exit status (0 clean, 1 cannot start, 2 wrong
 * configuration). `args`: the role's command line, to read the configuration again at SIGHUP. */
int supervisor_run(const Config *config, const ConfigArgs *args);

#endif
