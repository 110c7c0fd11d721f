/*
 * What a query is made of, as far as its parameters need it.
 */
#ifndef SOURCE_QUERY_H
#define SOURCE_QUERY_H

#include <stdbool.h>
#include <stddef.h>

/* SQL as PostgreSQL reads it (SQLite knows less), or Cypher, where two dashes are a relationship.
 */
typedef enum { QUERY_SQL, QUERY_CYPHER } QueryLanguage;

typedef enum {
    QUERY_WORD,   /* a name or key word without quotes, a number */
    QUERY_QUOTED, /* a text or name with its quotes, whichever they are; a comment without end */
    QUERY_PARAM,  /* $name */
    QUERY_SIGN,   /* any other character, each by itself */
} QueryTokenKind;

typedef struct {
    QueryTokenKind kind;
    const char *at; /* in the query */
    size_t bytes;
} QueryToken;

/* The token at or behind `at`, blanks and comments left out. False: there is none up to the end.
 * The next one is asked for at `token->at + token->bytes`. Pure. */
bool query_token(const char *at, QueryLanguage language, QueryToken *token);

/* Is it this word, in either case, without quotes? This sign? Pure. */
bool query_is_word(const QueryToken *token, const char *word);
bool query_is_sign(const QueryToken *token, char sign);

/* Calls `found` for each parameter of a query; `at` is where its '$' stands. Pure. */
typedef void QueryNameFound(const char *name, size_t count, size_t at, void *with);
void query_names(const char *query, QueryLanguage language, QueryNameFound *found, void *with);

#endif
