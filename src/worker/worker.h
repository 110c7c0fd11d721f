/* The role: takes tasks and hands them to its children. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "config/config.h"
#include "export/kinds.h"

/* Runs until told to stop; returns the exit status (0 clean, 1 cannot start, 2 wrong
 * configuration). `args`: the role's command line, to read the configuration again at SIGHUP. */
int worker_run(const Config *config, const Kinds *kinds, const ConfigArgs *args);

#endif
