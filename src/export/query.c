/*
 * Where parameters stand in a query: `$name` outside of text, quoted names, comments and dollar
 * quotes. One lexer for SQL (PostgreSQL's rules are the widest) and Cypher, whose line comments
 * start with two slashes.
 */
#include <string.h>

#include "export/type.h"

static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
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
skip_comment(const char *at)
{
    for (unsigned depth = 1; *at; at++) {
        if (at[0] == '/' && at[1] == '*') {
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

void
query_names(const char *query, QueryNameFound *found, void *with)
{
    const char *at = query;

    while (*at) {
        char before = at > query ? at[-1] : ' ';
        const char *end;

        if (*at == '\'') {
            at = skip_quoted(at + 1, '\'',
                (before == 'E' || before == 'e') && (at - query < 2 || !is_part(at[-2])));
        } else if (*at == '"' || *at == '`') {
            at = skip_quoted(at + 1, *at, false);
        } else if ((at[0] == '-' && at[1] == '-') || (at[0] == '/' && at[1] == '/')) {
            at = skip_line(at);
        } else if (at[0] == '/' && at[1] == '*') {
            at = skip_comment(at + 2);
        } else if (*at == '$' && !is_part(before) && (end = skip_dollar_quote(at))) {
            at = end;
        } else if (*at == '$' && !is_part(before) && is_letter(at[1])) {
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
