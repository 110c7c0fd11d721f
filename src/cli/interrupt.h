/* Ctrl-C, noticed between two steps instead of ending the process. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on SIGINT (and SIGTERM, SIGHUP) are noticed instead of ending us. */
void interrupt_catch(void);
bool interrupt_came(void);

/* Waits up to a second after the first for a second SIGINT; then forgets both. */
bool interrupt_came_twice(void);

#endif
