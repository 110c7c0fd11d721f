/*
 * Any text: tokens follow each other, with nothing but blanks and comments between them; what is
 * found are names behind a dollar, one after the other, and what comes behind a
 * name does not change that it is one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "source/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { NAMES_MAX = 32 };

typedef struct {
    const char *query;
    size_t end; /* of the last name */
    size_t at[NAMES_MAX], count[NAMES_MAX], names;
} Seen;

static void
note(const char *name, size_t count, size_t at, void *with)
{
    Seen *seen = with;

    if (count == 0 || at < seen->end || seen->query[at] != '$' || name != seen->query + at + 1 ||
        memchr(name, '$', count) || memchr(name, ' ', count) || memchr(name, '\'', count) ||
        (*name >= '0' && *name <= '9'))
        abort();
    seen->end = at + 1 + count;
    if (seen->names < NAMES_MAX) {
        seen->at[seen->names] = at;
        seen->count[seen->names] = count;
    }
    seen->names++;
}

static void
check_tokens(const char *query, QueryLanguage language)
{
    QueryToken token = {.at = query};

    for (const char *end = query; query_token(end, language, &token); end = token.at + token.bytes)
        if (token.at < end || token.bytes == 0 || memchr(token.at, '\0', token.bytes) ||
            (token.kind != QUERY_QUOTED && memchr(token.at, ' ', token.bytes)))
            abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *query = malloc(bytes + 1);

    memcpy(query, data, bytes);
    query[bytes] = '\0';
    for (QueryLanguage language = QUERY_SQL; language <= QUERY_CYPHER; language++) {
        Seen all = {.query = query};

        check_tokens(query, language);
        query_names(query, language, note, &all);
        for (size_t i = 0; i < all.names && i < NAMES_MAX; i++) {
            Seen some = {.query = query};
            size_t end = all.at[i] + 1 + all.count[i];
            char behind = query[end];

            query[end] = '\0';
            query_names(query, language, note, &some);
            query[end] = behind;
            if (some.names != i + 1 || some.at[i] != all.at[i] || some.count[i] != all.count[i])
                abort();
        }
    }
    free(query);
    return 0;
}
