#include "export/pattern.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATTERN_BYTES_MAX = 512, DEPTH_MAX = 32, COST_MAX = 1000 };

/* How much is left when all repeats are written out. */
typedef struct {
    unsigned long sum[DEPTH_MAX]; /* of each group that is open */
    unsigned depth;
    unsigned long last; /* of what a repeat would repeat */
} Cost;

/* Behind a bracket expression: a ']' that comes first stands for itself, so do those in classes. */
static const char *
skip_bracket(const char *at)
{
    at += *at == '^';
    at += *at == ']';
    while (*at && *at != ']') {
        if (*at == '[' && at[1] && strchr(".:=", at[1])) {
            char end[3] = {at[1], ']', '\0'};
            const char *close = strstr(at + 2, end);

            if (!close)
                return at + strlen(at);
            at = close + 1;
        }
        at++;
    }
    return at + (*at == ']');
}

static void
repeat(Cost *cost, unsigned long times)
{
    if (times < 2)
        return;
    cost->sum[cost->depth] += cost->last * (times - 1);
    cost->last *= times;
}

/* Behind "{": {n} {n,} {n,m}. */
static const char *
read_repeat(Cost *cost, const char *at)
{
    char *end;
    unsigned long least = strtoul(at, &end, 10), most = least;

    if (*end == ',') {
        most = strtoul(end + 1, &end, 10);
        most = most > 0 ? most : least + 1;
    }
    most = most > least ? most : least;
    repeat(cost, most <= COST_MAX ? most : COST_MAX + 1);
    return end + strcspn(end, "}") + (strchr(end, '}') != NULL);
}

static const char *
read_one(Cost *cost, const char *at)
{
    unsigned long inner;

    switch (*at) {
    case '(':
        cost->sum[++cost->depth] = 0;
        return at + 1;
    case ')':
        if (cost->depth == 0)
            break;
        inner = cost->sum[cost->depth--];
        cost->last = inner > 0 ? inner : 1;
        cost->sum[cost->depth] += cost->last;
        return at + 1;
    case '{':
        return read_repeat(cost, at + 1);
    case '+': /* one, then any number */
        repeat(cost, 2);
        return at + 1;
    case '*':
    case '?':
    case '|':
        return at + 1;
    default:
        break;
    }
    cost->last = 1;
    cost->sum[cost->depth]++;
    if (*at == '[')
        return skip_bracket(at + 1);
    return at + (*at == '\\' && at[1] ? 2 : 1);
}

/* What POSIX leaves undefined, and glibc takes its time for. `before` is what stands before `at`: 0
 * at the start, 'a' for whatever has a meaning of its own. */
static const char *
is_undefined(char before, const char *at, unsigned depth)
{
    bool repeats = strchr("*+?{", *at) != NULL, ends = *at == '|' || (*at == ')' && depth > 0);
    bool is_empty = before == 0 || before == '(' || before == '|';

    if (repeats && (is_empty || before == '*'))
        return is_empty ? "repeats nothing" : "has two repeats in a row";
    return ends && is_empty ? "has an empty alternative" : NULL;
}

static bool
is_cheap(const char *pattern, const char **why)
{
    Cost cost = {.last = 1};
    char before = 0;

    for (const char *at = pattern; *at;) {
        if ((*why = is_undefined(before, at, cost.depth)))
            return false;
        if (*at == '\\' && at[1] >= '1' && at[1] <= '9') {
            *why = "has a back reference";
            return false;
        }
        if (*at == '(' && cost.depth == DEPTH_MAX - 1) {
            *why = "has groups in groups in groups";
            return false;
        }
        before = strchr("*+?{", *at) ? '*' : *at == '(' || *at == '|' ? *at : 'a';
        at = read_one(&cost, at);
        if (cost.sum[cost.depth] > COST_MAX) {
            *why = "has repeats that grow too large";
            return false;
        }
    }
    *why = "has an empty alternative";
    return before != '|';
}

static bool
compile(const char *pattern, regex_t *matcher)
{
    char anchored[PATTERN_BYTES_MAX + 8];

    (void)snprintf(anchored, sizeof anchored, "^(%s)$", pattern);
    return regcomp(matcher, anchored, REG_EXTENDED | REG_NOSUB) == 0;
}

bool
pattern_check(const char *pattern, const char **why)
{
    regex_t matcher;

    if (strlen(pattern) > PATTERN_BYTES_MAX) {
        *why = "is too long";
        return false;
    }
    if (!is_cheap(pattern, why))
        return false;
    *why = "is not a regular expression";
    /* Alone first: "a)|(b" would be one between our parentheses. */
    if (regcomp(&matcher, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    regfree(&matcher);
    if (!compile(pattern, &matcher))
        return false;
    regfree(&matcher);
    return true;
}

bool
pattern_fits(const char *pattern, const char *text)
{
    const char *why;
    regex_t matcher;
    bool fits;

    if (strlen(pattern) > PATTERN_BYTES_MAX || !is_cheap(pattern, &why) ||
        !compile(pattern, &matcher))
        return false;
    fits = regexec(&matcher, text, 0, NULL, 0) == 0;
    regfree(&matcher);
    return fits;
}
