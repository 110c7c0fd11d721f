/*
 * Where parameters stand in a query.
 */
#ifndef SOURCE_QUERY_H
#define SOURCE_QUERY_H

#include <stddef.h>

/*
 * `$name` in a query: calls `found` for each parameter outside of text, quoted names, comments and
 * dollar quotes; `at` is where its '$' stands. SQL as PostgreSQL reads it (SQLite knows less), or
 * Cypher, where two dashes are a relationship. Pure.
 */
typedef enum { QUERY_SQL, QUERY_CYPHER } QueryLanguage;
typedef void QueryNameFound(const char *name, size_t count, size_t at, void *with);
void query_names(const char *query, QueryLanguage language, QueryNameFound *found, void *with);

#endif
