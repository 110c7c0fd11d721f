/*
 * What every source promises (source/source.h), asked of a driver. Each function asserts; a
 * driver's test calls them with specs that lead to something of its own.
 */
#ifndef TEST_CONTRACT_SOURCE_CONTRACT_H
#define TEST_CONTRACT_SOURCE_CONTRACT_H

#include "source/source.h"

/*
 * Exactly `rows` rows: the schema is known after open and is the spec's, no batch passes its bounds
 * (a row that is larger travels alone), offsets rise, the end stays the end; and all of it again.
 */
void source_yields(const SourceKind *kind, const SourceSpec *spec, uint64_t rows);

/* A spec whose query runs for minutes: ended through the watch within two seconds, whatever it
 * does. */
void source_ends_when_asked(const SourceKind *kind, const SourceSpec *spec);

/* The same, by the spec's own timeout_ms (set here): QUERY_TIMEOUT. */
void source_ends_by_timeout(const SourceKind *kind, const SourceSpec *spec);

/* open or next fails with the code, and the operator's chain holds `says` (NULL: whatever). After
 * it the driver still serves `good`, if that is given. */
void source_refuses(const SourceKind *kind, const SourceSpec *spec, ErrCode code, const char *says,
    const SourceSpec *good);

/* A column that the query does not yield: SOURCE_QUERY, and it is named. */
void source_names_missing_column(const SourceKind *kind, const SourceSpec *spec);

/* Every allocation fails once: MEMORY_LIMIT, nothing leaks (the sanitizer looks), and then it
 * works. */
void source_survives_no_memory(const SourceKind *kind, const SourceSpec *spec);

/*
 * All rows as text: cells with a '|' between, a '\n' behind each row; NULL is "NULL", bool "true"
 * and "false", whole numbers, dates and times their number, reals as %.17g, bytes in hex. NULL and
 * `e` on failure. The caller frees it.
 */
char *source_read(const SourceKind *kind, const SourceSpec *spec, Err *e);

#endif
