#include "api/query.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum { NAME_BYTES_MAX = 64 };

typedef struct {
    char name[NAME_BYTES_MAX + 1]; /* decoded; cut when it is longer than any of ours */
    const char *value;             /* as it came; NULL without '=' */
    size_t value_bytes;
} Pair;

/* The pair at *at, which moves behind it; false at the end. */
static bool
next_pair(const char **at, Pair *pair)
{
    const char *from = *at + strspn(*at, "&");
    size_t bytes = strcspn(from, "&"), name_bytes = strcspn(from, "=&"), decoded;

    if (bytes == 0)
        return false;
    *at = from + bytes;
    if (!text_percent_decode(from, name_bytes, pair->name, NAME_BYTES_MAX, &decoded)) {
        decoded = name_bytes < NAME_BYTES_MAX ? name_bytes : NAME_BYTES_MAX;
        memcpy(pair->name, from, decoded);
    }
    pair->name[decoded] = '\0';
    pair->value = name_bytes < bytes ? from + name_bytes + 1 : NULL;
    pair->value_bytes = pair->value ? bytes - name_bytes - 1 : 0;
    return true;
}

bool
query_value(const char *query, const char *name, Arena *arena, const char **value, Err *e)
{
    const char *at = query ? query : "", *found = NULL;
    size_t bytes = 0, decoded;
    bool there = false;
    char *text;
    Pair pair;

    *value = NULL;
    while (next_pair(&at, &pair)) {
        if (strcmp(pair.name, name) != 0)
            continue;
        if (there)
            return fail(e, INVALID_REQUEST, "%s stands twice in the query", name);
        there = true;
        found = pair.value ? pair.value : "";
        bytes = pair.value_bytes;
    }
    if (!there)
        return true;
    if (!(text = arena_bytes(arena, found, bytes, e)))
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (text[i] == '+')
            text[i] = ' ';
    if (!text_percent_decode(text, bytes, text, bytes, &decoded) || memchr(text, '\0', decoded))
        return fail(e, INVALID_REQUEST, "%s of the query cannot be read", name);
    text[decoded] = '\0';
    *value = text;
    return true;
}

static bool
is_known(const char *const *known, const char *name)
{
    for (; known && *known; known++)
        if (strcmp(*known, name) == 0)
            return true;
    return false;
}

void
query_check_names(const char *query, const char *const *known, Problems *problems)
{
    const char *at = query ? query : "";
    Pair pair;

    while (next_pair(&at, &pair)) {
        char pointer[NAME_BYTES_MAX + 8];

        if (is_known(known, pair.name))
            continue;
        text_make_printable(pair.name);
        snprintf(pointer, sizeof pointer, "query:%s", pair.name);
        problem_add(problems, pointer, "unknown-member", NULL, "is not known here");
    }
}

bool
query_whole(const char *query, const char *name, int64_t min, int64_t max, int64_t preset,
    int64_t *number, Problems *problems, Err *e)
{
    const char *text;
    char pointer[NAME_BYTES_MAX + 8];
    uint64_t whole;

    *number = preset;
    if (!query_value(query, name, problems->arena, &text, e))
        return false;
    if (!text)
        return true;
    snprintf(pointer, sizeof pointer, "query:%s", name);
    if (!text_to_uint(text, (uint64_t)max, &whole) || (int64_t)whole < min)
        problem_add(problems, pointer, "out-of-range", NULL,
            "must be a whole number between %" PRId64 " and %" PRId64, min, max);
    else
        *number = (int64_t)whole;
    return true;
}
