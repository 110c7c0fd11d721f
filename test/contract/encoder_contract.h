/*
 * What every encoder promises (format/encoder.h), asked of a format: batches of any cut give the
 * same bytes, rows of any size pass, a sink that fails ends it with the sink's error, every
 * allocation may fail, text that is not UTF-8 is refused with column and row.
 */
#ifndef TEST_CONTRACT_ENCODER_CONTRACT_H
#define TEST_CONTRACT_ENCODER_CONTRACT_H

#include "format/encoder.h"

/* How many tests failed. */
int encoder_contract(const char *name, const EncoderKind *kind);

#endif
