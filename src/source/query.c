/*
 * Where parameters stand in a query: `$name` outside of text, quoted names, comments and dollar
 * quotes.
 *
 * SQL: PostgreSQL 15, chapter 4.1 (its rules are the widest; SQLite knows no dollar quotes and does
 * not nest comments). Cypher: openCypher 9, whose line comments start with two slashes, whose texts
 * have escapes, and where two dashes are a relationship.
 */
#include "source/query.h"

#include <stdbool.h>
#include <string.h>

/* Bytes beyond ASCII are letters to both. */
static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

static bool
is_part(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9');
}

/* Behind an opening quote: the end of the text. A doubled quote is one in the text; with `escapes`
 * so is \'. */
static const char *
skip_quoted(const char *at, char quote, bool escapes)
{
    for (; *at; at++) {
        if ((escapes && *at == '\\' && at[1]) || (*at == quote && at[1] == quote))
            at++;
        else if (*at == quote)
            return at + 1;
    }
    return at;
}

static const char *
skip_line(const char *at)
{
    return at + strcspn(at, "\n");
}

/* Behind the opening; PostgreSQL nests these. */
static const char *
skip_comment(const char *at, bool nests)
{
    for (unsigned depth = 1; *at; at++) {
        if (nests && at[0] == '/' && at[1] == '*') {
            depth++;
            at++;
        } else if (at[0] == '*' && at[1] == '/') {
            at++;
            if (--depth == 0)
                return at + 1;
        }
    }
    return at;
}

/* At a dollar: behind `$tag$ … $tag$`, or NULL if it opens none. */
static const char *
skip_dollar_quote(const char *at)
{
    const char *tag_end = at + 1;
    size_t bytes;

    if (is_letter(*tag_end))
        while (is_part(*tag_end))
            tag_end++;
    if (*tag_end != '$')
        return NULL;
    bytes = (size_t)(tag_end - at) + 1;
    for (const char *end = tag_end + 1; (end = strchr(end, '$')); end++)
        if (strncmp(end, at, bytes) == 0)
            return end + bytes;
    return at + strlen(at);
}

/* E'…': the only text of SQL with escapes. */
static bool
is_escaped(const char *query, const char *at)
{
    return at > query && (at[-1] == 'E' || at[-1] == 'e') && (at - query < 2 || !is_part(at[-2]));
}

/* Behind what is no place for a parameter; NULL if nothing such begins here. */
static const char *
skip(const char *query, const char *at, QueryLanguage language)
{
    bool cypher = language == QUERY_CYPHER;

    if (*at == '\'' || (cypher && *at == '"'))
        return skip_quoted(at + 1, *at, cypher || is_escaped(query, at));
    if (*at == '"' || *at == '`')
        return skip_quoted(at + 1, *at, false);
    if (cypher ? at[0] == '/' && at[1] == '/' : at[0] == '-' && at[1] == '-')
        return skip_line(at);
    if (at[0] == '/' && at[1] == '*')
        return skip_comment(at + 2, !cypher);
    if (*at == '$' && !cypher && (at == query || !is_part(at[-1])))
        return skip_dollar_quote(at);
    return NULL;
}

void
query_names(const char *query, QueryLanguage language, QueryNameFound *found, void *with)
{
    const char *at = query;

    while (*at) {
        const char *end = skip(query, at, language);

        if (end) {
            at = end;
        } else if (*at == '$' && is_letter(at[1]) && (at == query || !is_part(at[-1]))) {
            end = at + 1;
            while (is_part(*end))
                end++;
            found(at + 1, (size_t)(end - at) - 1, (size_t)(at - query), with);
            at = end;
        } else {
            at++;
        }
    }
}
