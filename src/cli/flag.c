/* The flag parser: GNU's habits (--name=value, --name value, -x value, -xvalue, -qv, --). */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli_in.h"

enum { NAMES_MAX = 64, NAME_BYTES = 40 };

typedef struct {
    char *const *args;
    size_t at; /* the next argument */
    const CliFlag *own, *global;
    CliArgs *parsed;
    Err *e;
} Parser;

static const CliFlag no_flags[] = {{0}};

/* By name (`bytes` of it), or by letter if `name` is NULL. */
static const CliFlag *
find_in(const CliFlag *table, const char *name, size_t bytes, char letter)
{
    for (; table->name; table++)
        if (name ? strlen(table->name) == bytes && strncmp(table->name, name, bytes) == 0
                 : letter && table->letter == letter)
            return table;
    return NULL;
}

static const CliFlag *
find_flag(const CliFlag *own, const CliFlag *global, const char *name, size_t bytes, char letter)
{
    const CliFlag *flag = find_in(own, name, bytes, letter);

    return flag ? flag : find_in(global, name, bytes, letter);
}

static bool
fail_unknown(const Parser *p, const char *text)
{
    char names[NAMES_MAX][NAME_BYTES], given[NAME_BYTES];
    const char *list[NAMES_MAX + 1], *nearest;
    size_t count = 0, bytes = strcspn(text, "=");

    if (text[1] != '-')
        return fail(p->e, USAGE, "%.8s: there is no such flag", text);
    for (int i = 0; i < 2; i++)
        for (const CliFlag *flag = i == 0 ? p->own : p->global; flag->name && count < NAMES_MAX;
             flag++) {
            snprintf(names[count], NAME_BYTES, "--%s", flag->name);
            list[count] = names[count];
            count++;
        }
    list[count] = NULL;
    text_copy(given, bytes < sizeof given ? bytes + 1 : sizeof given, text);
    nearest = text_nearest(given, list);
    return fail(p->e, USAGE, "%s: there is no such flag%s%s%s", given,
        nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static bool
is_a_choice(const CliFlag *flag, const char *value)
{
    for (const char *const *choice = flag->choices; choice && *choice; choice++)
        if (strcmp(*choice, value) == 0)
            return true;
    return !flag->choices || (flag->argument_is_optional && !*value);
}

static bool
add_given(Parser *p, const CliFlag *flag, const char *value)
{
    if (!is_a_choice(flag, value)) {
        Buf list = buf_new(ERR_TEXT_BYTES);

        for (const char *const *choice = flag->choices; *choice; choice++)
            buf_printf(&list, "%s%s", choice == flag->choices ? "" : ", ", *choice);
        fail(p->e, USAGE, "--%s: \"%.64s\" is none of %s", flag->name, value, list.data);
        buf_free(&list);
        return false;
    }
    p->parsed->given[p->parsed->givens++] = (CliGiven){flag, value};
    return true;
}

static bool
looks_like_flag(const char *text)
{
    return text[0] == '-' && text[1];
}

/* The value of `flag`, whose own argument ended with `value` (NULL: nothing). */
static bool
take_value(Parser *p, const CliFlag *flag, const char *shown, const char *value)
{
    const char *next = p->args[p->at];

    if (!flag->argument)
        return value ? fail(p->e, USAGE, "%s: this flag takes no value", shown)
                     : add_given(p, flag, "");
    if (!value && next &&
        (!flag->argument_is_optional ||
            (p->parsed->words > 0 && !flag->only_equals && !looks_like_flag(next)))) {
        value = next;
        p->at++;
    }
    if (!value && !flag->argument_is_optional)
        return fail(p->e, USAGE, "%s: expected %s behind it", shown, flag->argument);
    return add_given(p, flag, value ? value : "");
}

static bool
take_long(Parser *p, const char *text)
{
    size_t bytes = strcspn(text, "=");
    const CliFlag *flag = find_flag(p->own, p->global, text + 2, bytes - 2, 0);
    char shown[NAME_BYTES];

    if (!flag)
        return fail_unknown(p, text);
    snprintf(shown, sizeof shown, "--%s", flag->name);
    return take_value(p, flag, shown, text[bytes] ? text + bytes + 1 : NULL);
}

/* -o FILE, -oFILE, -qv: letters of switches may stand together. */
static bool
take_letters(Parser *p, const char *text)
{
    for (const char *at = text + 1; *at; at++) {
        const CliFlag *flag = find_flag(p->own, p->global, NULL, 0, *at);
        char shown[3] = {'-', *at, '\0'};

        if (!flag)
            return fail_unknown(p, shown);
        if (flag->argument)
            return take_value(p, flag, shown, at[1] ? at + 1 : NULL);
        if (!add_given(p, flag, ""))
            return false;
    }
    return true;
}

bool
flags_parse(char *const *args, const CliFlag *own, const CliFlag *global, Arena *arena,
    CliArgs *parsed, Err *e)
{
    Parser p = {args, 0, own ? own : no_flags, global, parsed, e};
    size_t room = 1; /* a letter may be a flag each */
    bool only_words = false;

    for (char *const *arg = args; *arg; arg++)
        room += strlen(*arg) + 1;
    *parsed = (CliArgs){.given = arena_alloc_array(arena, room, sizeof(CliGiven), e),
        .word = arena_alloc_array(arena, room, sizeof(char *), e)};
    if (!parsed->given || !parsed->word)
        return false;
    while (args[p.at]) {
        char *text = args[p.at++];

        if (only_words || !looks_like_flag(text))
            parsed->word[parsed->words++] = text;
        else if (strcmp(text, "--") == 0)
            only_words = true;
        else if (!(text[1] == '-' ? take_long(&p, text) : take_letters(&p, text)))
            return false;
    }
    return true;
}

int
flags_find_word(char *const *args, const CliFlag *global)
{
    for (int at = 0; args[at]; at++) {
        const char *text = args[at];
        const CliFlag *flag;

        if (!looks_like_flag(text))
            return at;
        if (strcmp(text, "--") == 0)
            return args[at + 1] ? at + 1 : -1;
        flag = text[1] == '-' ? find_in(global, text + 2, strlen(text + 2), 0)
                              : find_in(global, NULL, 0, text[strlen(text) - 1]);
        if (flag && flag->argument && !flag->argument_is_optional && args[at + 1])
            at++;
    }
    return -1;
}
