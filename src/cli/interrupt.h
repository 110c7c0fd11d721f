/* Interrupt: Ctrl-C (and SIGTERM, SIGHUP) as a question that long work asks now and then. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on the first signal only sets a mark; a second one ends the process as it always did. */
void interrupt_listen(void);
bool interrupt_came(void);

#endif
