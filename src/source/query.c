/*
 * SQL: PostgreSQL 15, chapter 4.1 and src/backend/parser/scan.l (its rules are the widest; SQLite
 * knows no dollar quotes and does not nest comments, but quotes names by ` too). Cypher: openCypher
 * 9, whose line comments start with two slashes, whose texts have escapes, and where two dashes are
 * a relationship.
 */
#include "source/query.h"

#include <string.h>
#include <strings.h>

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
    return at + strcspn(at, "\r\n");
}

/* Behind the opening; PostgreSQL nests these. NULL: it is not closed. */
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
    return NULL;
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

/*
 * Behind the end of a text of SQL: where its next part begins, if it has one. Parts with nothing
 * but blanks, line comments and at least one line's end between them are one text, to whose escapes
 * the first quote's rules apply.
 */
static const char *
next_part(const char *at)
{
    bool new_line = false;

    for (;;) {
        at += strspn(at, " \t\f\v");
        if (*at == '\n' || *at == '\r') {
            new_line = true;
            at++;
        } else if (at[0] == '-' && at[1] == '-') {
            at = skip_line(at);
        } else {
            return new_line && *at == '\'' ? at : NULL;
        }
    }
}

/* At a quote of SQL's texts: behind their last part. */
static const char *
skip_text(const char *at, bool escapes)
{
    const char *end;

    do
        end = skip_quoted(at + 1, '\'', escapes);
    while ((at = next_part(end)));
    return end;
}

/* Behind the blanks and comments at `at`. */
static const char *
skip_blanks(const char *at, QueryLanguage language)
{
    bool cypher = language == QUERY_CYPHER;
    const char *end;

    for (;;) {
        if (*at && strchr(" \t\n\r\f\v", *at))
            at++;
        else if (cypher ? at[0] == '/' && at[1] == '/' : at[0] == '-' && at[1] == '-')
            at = skip_line(at);
        else if (at[0] == '/' && at[1] == '*' && (end = skip_comment(at + 2, !cypher)))
            at = end;
        else
            return at;
    }
}

/* Behind the quoted thing at `at`; NULL if none begins there. */
static const char *
skip_any_quoted(const char *at, QueryLanguage language)
{
    bool cypher = language == QUERY_CYPHER;

    if (at[0] == '/' && at[1] == '*')
        return at + strlen(at);
    if (!cypher && (*at == 'E' || *at == 'e') && at[1] == '\'')
        return skip_text(at + 1, true);
    if (!cypher && *at == '\'')
        return skip_text(at, false);
    if (*at == '\'' || *at == '"' || *at == '`')
        return skip_quoted(at + 1, *at, cypher && *at != '`');
    return *at == '$' && !cypher ? skip_dollar_quote(at) : NULL;
}

bool
query_token(const char *at, QueryLanguage language, QueryToken *token)
{
    const char *end;

    at = skip_blanks(at, language);
    if (!*at)
        return false;
    token->at = at;
    if ((end = skip_any_quoted(at, language))) {
        token->kind = QUERY_QUOTED;
    } else if (is_part(*at)) {
        token->kind = QUERY_WORD;
        for (end = at + 1; is_part(*end) || *end == '$'; end++)
            ;
    } else if (*at == '$' && is_letter(at[1])) {
        token->kind = QUERY_PARAM;
        for (end = at + 2; is_part(*end); end++)
            ;
    } else {
        token->kind = QUERY_SIGN;
        end = at + 1;
    }
    token->bytes = (size_t)(end - at);
    return true;
}

bool
query_is_word(const QueryToken *token, const char *word)
{
    return token->kind == QUERY_WORD && token->bytes == strlen(word) &&
           strncasecmp(token->at, word, token->bytes) == 0;
}

bool
query_is_sign(const QueryToken *token, char sign)
{
    return token->kind == QUERY_SIGN && *token->at == sign;
}

void
query_names(const char *query, QueryLanguage language, QueryNameFound *found, void *with)
{
    QueryToken token = {.at = query};

    while (query_token(token.at + token.bytes, language, &token))
        if (token.kind == QUERY_PARAM)
            found(token.at + 1, token.bytes - 1, (size_t)(token.at - query), with);
}
