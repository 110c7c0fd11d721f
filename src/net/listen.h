/* Listen: a listening socket, for the supervisor and for an api on its own. */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include "base/err.h"

/* Non-blocking, close-on-exec, with SO_REUSEADDR; port 0 picks one. -1 and CONFIG_INVALID (no such
 * address) or INTERNAL (it is in use). The caller closes it. */
int listen_open(const char *host, unsigned port, Err *e) MUST_CHECK;

#endif
