/* The role: answers HTTP; stateless. Under the supervisor it listens on config->listen_fd, else it
 * binds host and port itself. */
#ifndef API_API_H
#define API_API_H

#include "config/config.h"
#include "export/kinds.h"

/* Runs until told to stop; returns the exit status (0 clean, 1 cannot start, 2 wrong
 * configuration). `args`: the role's command line, to read the configuration again at SIGHUP. */
int api_run(const Config *config, const Kinds *kinds, const ConfigArgs *args);

#endif
