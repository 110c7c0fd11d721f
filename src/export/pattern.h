/*
 * Pattern: what the text of a parameter must look like, as a POSIX extended regular expression
 * (IEEE Std 1003.1, XBD 9.4) for the whole text. Pure; nothing is kept between calls.
 *
 * A pattern is refused if it could cost more than it may: the C library writes counted repeats out,
 * and tries back references one after the other.
 */
#ifndef EXPORT_PATTERN_H
#define EXPORT_PATTERN_H

#include <stdbool.h>

/* False: `why` says what is wrong with it, for whoever wrote it. Static. */
bool pattern_check(const char *pattern, const char **why);

/* Does all of the text match? False also for a pattern that pattern_check refuses. */
bool pattern_fits(const char *pattern, const char *text);

#endif
