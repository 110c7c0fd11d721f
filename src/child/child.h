/* Child: the program that runs exports, one at a time, told by its parent over descriptor 3
 * (socket) and 4 (page). */
#ifndef CHILD_CHILD_H
#define CHILD_CHILD_H

#include "export/kinds.h"

/* Without work for so long, sources close what they have kept. */
enum { CHILD_IDLE_MS = 60000 };

/* Returns the exit status. Does not read options: everything comes with the `setup` frame. */
int child_run(const Kinds *kinds, pid_t parent, int idle_ms);

#endif
