/*
 * `rowferry completion`: what a shell needs to complete this command line, made from the tables
 * that the parser and help are made from. Each shell's script is its frame and, for each command,
 * its flags and what its words may be.
 */
#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli_in.h"

enum { SCRIPT_BYTES_MAX = 512 << 10, FLAG_BYTES = 64, VALUES_BYTES = 1024 };

/* A line that prints the types' names, in any shell. */
#define TYPE_NAMES "rowferry types --output csv 2>/dev/null | sed '1d;s/,.*//'"

/* What may stand at a place of the command line. */
typedef enum { VALUE_ANY, VALUE_FILE, VALUE_WORDS, VALUE_TYPE } ValueKind;

typedef struct {
    ValueKind kind;
    char words[VALUES_BYTES]; /* of VALUE_WORDS, blank between */
} Value;

/* One flag of a command or role, wherever it comes from. */
typedef struct {
    char name[FLAG_BYTES]; /* "--data-dir" */
    char letter;
    bool takes, is_optional, only_equals;
    Value value;
    const char *help; /* "" if there is none */
} Flag;

/* A command or a role. */
typedef struct {
    const char *name, *does, *takes;
    const CliFlag *flags;
    bool is_command, is_configured;
    const char *options; /* of config_flag */
} Subject;

static bool
subject_at(const Cli *c, size_t i, Subject *s)
{
    size_t commands = 0;

    for (; cli_commands[commands].name; commands++)
        if (commands == i) {
            const CliCommand *command = &cli_commands[i];

            *s = (Subject){command->name, command->does, command->takes, command->flags, true,
                command->local, "client"};
            return true;
        }
    for (const CliRole *const *role = c->role; *role; role++)
        if (i-- == commands) {
            *s = (Subject){(*role)->name, (*role)->does, "", NULL, false, true, (*role)->options};
            return true;
        }
    return false;
}

/* "bash|zsh|fish" are words, "[FILE]" is a file, "TYPE" a type, "[COMMAND]" a command. */
static void
value_of(const Cli *c, const char *takes, const char *const *choices, Value *value)
{
    Buf words = buf_new(VALUES_BYTES - 1);
    Subject s;

    *value = (Value){.kind = VALUE_ANY};
    for (; choices && *choices; choices++)
        buf_printf(&words, "%s%s", words.bytes ? " " : "", *choices);
    if (words.bytes == 0 && islower((unsigned char)takes[0]))
        for (; *takes; takes++)
            buf_char(&words, *takes == '|' ? ' ' : *takes);
    if (strstr(takes, "COMMAND"))
        for (size_t i = 0; subject_at(c, i, &s); i++)
            buf_printf(&words, "%s%s", words.bytes ? " " : "", s.name);
    if (words.bytes > 0)
        value->kind = VALUE_WORDS;
    else if (strstr(takes, "FILE") || strstr(takes, "DIR") || strstr(takes, "PATH"))
        value->kind = VALUE_FILE;
    else if (strstr(takes, "TYPE") || strcmp(takes, "[NAME]") == 0)
        value->kind = VALUE_TYPE;
    text_copy(value->words, sizeof value->words, words.data);
    buf_free(&words);
}

static bool
flag_of_table(const Cli *c, const CliFlag *table, size_t i, Flag *flag)
{
    const CliFlag *f = table;

    while (f && f->name && i > 0)
        f++, i--;
    if (!f || !f->name)
        return false;
    *flag = (Flag){.letter = f->letter,
        .takes = f->argument != NULL,
        .is_optional = f->argument_is_optional,
        .only_equals = f->only_equals,
        .help = f->help};
    snprintf(flag->name, sizeof flag->name, "--%s", f->name);
    value_of(c, f->argument ? f->argument : "", f->choices, &flag->value);
    return true;
}

static size_t
length(const CliFlag *table)
{
    size_t n = 0;

    while (table && table[n].name)
        n++;
    return n;
}

/* Its own, then what every command has, then the configuration's. */
static bool
flag_at(const Cli *c, const Subject *s, size_t i, Flag *flag)
{
    static const CliFlag of_role[] = {{"config", 0, "FILE", .help = "Configuration file."},
        {"help", 'h', NULL, .help = "Help."}, {0}};
    const CliFlag *globals = s->is_command ? cli_global_flags : of_role;
    size_t own = length(s->flags), global = length(globals);
    const char *takes;

    if (i < own)
        return flag_of_table(c, s->flags, i, flag);
    if (i < own + global)
        return flag_of_table(c, globals, i - own, flag);
    *flag = (Flag){.help = ""};
    if (!s->is_configured ||
        !config_flag(s->options, i - own - global, flag->name, &flag->letter, &takes))
        return false;
    flag->takes = takes != NULL;
    value_of(c, takes ? takes : "", NULL, &flag->value);
    return true;
}

/* --- bash --- */

/* What `cur` may become; of any value there is nothing to say. */
static void
bash_value(const Value *value, Buf *to)
{
    if (value->kind == VALUE_FILE)
        buf_text(to,
            "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
    else if (value->kind == VALUE_WORDS)
        buf_printf(to, "mapfile -t COMPREPLY < <(compgen -W \"%s\" -- \"$cur\")", value->words);
    else if (value->kind == VALUE_TYPE)
        buf_text(to, "mapfile -t COMPREPLY < <(compgen -W \"$(" TYPE_NAMES ")\" -- \"$cur\")");
    else
        buf_text(to, ":");
}

/* Behind a flag that takes a value: the value. */
static void
bash_values(const Cli *c, const Subject *s, Buf *to)
{
    Flag flag;

    for (size_t i = 0; flag_at(c, s, i, &flag); i++) {
        if (!flag.takes)
            continue;
        buf_printf(to, "    %s/%s", s->name, flag.name);
        buf_text(to, "=");
        if (!flag.only_equals)
            buf_printf(to, "|%s/%s", s->name, flag.name);
        if (flag.letter)
            buf_printf(to, "|%s/-%c", s->name, flag.letter);
        buf_text(to, ") ");
        bash_value(&flag.value, to);
        buf_text(to, "; return ;;\n");
    }
}

static void
bash_subject(const Cli *c, const Subject *s, Buf *to)
{
    Value value;
    Flag flag;

    buf_printf(to,
        "    %s)\n        if [[ $cur == -* ]]; then\n"
        "            mapfile -t COMPREPLY < <(compgen -W \"",
        s->name);
    for (size_t i = 0; flag_at(c, s, i, &flag); i++)
        buf_printf(to, "%s%s", i > 0 ? " " : "", flag.name);
    buf_text(to, "\" -- \"$cur\")\n        else\n            ");
    value_of(c, s->takes, NULL, &value);
    bash_value(&value, to);
    buf_text(to, "\n        fi ;;\n");
}

static void
bash_script(const Cli *c, Buf *to)
{
    Subject s;

    buf_text(to, "# bash completion for rowferry\n_rowferry() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev= command= i\n"
                 "    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                 "    # to bash '=' is a word of its own\n"
                 "    if [[ $cur == = ]]; then cur= prev+==\n"
                 "    elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}=; fi\n"
                 "    COMPREPLY=()\n"
                 "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                 "        case ${COMP_WORDS[i]} in\n        ");
    for (const CliFlag *f = cli_global_flags; f->name; f++)
        if (f->argument && !f->argument_is_optional)
            buf_printf(to, "%s--%s", f == cli_global_flags ? "" : "|", f->name);
    buf_text(to, ") ((i++)); [[ ${COMP_WORDS[i]} == = ]] && ((i++)) ;;\n"
                 "        =) ((i++)) ;;\n        -*) ;;\n"
                 "        *) command=${COMP_WORDS[i]}; break ;;\n        esac\n    done\n"
                 "    case $command/$prev in\n");
    for (size_t i = 0; subject_at(c, i, &s); i++)
        bash_values(c, &s, to);
    s = (Subject){.name = "", .is_command = true, .takes = "COMMAND"};
    bash_values(c, &s, to);
    buf_text(to, "    esac\n    case $command in\n");
    for (size_t i = 0; subject_at(c, i, &s); i++)
        bash_subject(c, &s, to);
    s = (Subject){.name = "\"\"", .is_command = true, .takes = "COMMAND"};
    bash_subject(c, &s, to);
    buf_text(to, "    esac\n}\ncomplete -F _rowferry rowferry\n");
}

/* --- zsh --- */

/* Within single quotes, and within the brackets of _arguments. */
static void
zsh_text(const char *text, Buf *to)
{
    for (; *text; text++) {
        if (*text == '\'')
            buf_text(to, "'\\'");
        else if (strchr("[]:\\", *text))
            buf_char(to, '\\');
        buf_char(to, *text);
    }
}

static void
zsh_value(const Value *value, Buf *to)
{
    if (value->kind == VALUE_FILE)
        buf_text(to, ":value:_files");
    else if (value->kind == VALUE_WORDS)
        buf_printf(to, ":value:(%s)", value->words);
    else if (value->kind == VALUE_TYPE)
        buf_text(to, ":type:_rowferry_types");
    else
        buf_text(to, ":value: ");
}

static void
zsh_flag(const Flag *flag, Buf *to)
{
    for (int round = flag->letter ? 0 : 1; round < 2; round++) {
        buf_text(to, " \\\n            '");
        if (flag->letter)
            buf_printf(to, "(-%c %s)", flag->letter, flag->name);
        if (round == 0)
            buf_printf(to, "-%c%s", flag->letter, flag->takes ? "+" : "");
        else
            buf_printf(to, "%s%s", flag->name, flag->is_optional ? "=-" : flag->takes ? "=" : "");
        buf_char(to, '[');
        zsh_text(flag->help, to);
        buf_char(to, ']');
        if (flag->is_optional)
            buf_char(to, ':');
        if (flag->takes)
            zsh_value(&flag->value, to);
        buf_char(to, '\'');
    }
}

static void
zsh_subject(const Cli *c, const Subject *s, Buf *to)
{
    Value value;
    Flag flag;

    buf_printf(to, "        %s)\n            _arguments -S", s->name);
    for (size_t i = 0; flag_at(c, s, i, &flag); i++)
        zsh_flag(&flag, to);
    value_of(c, s->takes, NULL, &value);
    if (*s->takes) {
        buf_text(to, " \\\n            '*:");
        zsh_value(&value, to);
        buf_char(to, '\'');
    }
    buf_text(to, " ;;\n");
}

static void
zsh_script(const Cli *c, Buf *to)
{
    Subject all = {.name = "", .is_command = true, .takes = ""}, s;
    Flag flag;

    buf_text(to,
        "#compdef rowferry\n# zsh completion for rowferry\n"
        "_rowferry_types() {\n    local -a names\n    names=(${(f)\"$(" TYPE_NAMES ")\"})\n"
        "    compadd -a names\n}\n"
        "_rowferry() {\n    local curcontext=\"$curcontext\" state line\n"
        "    local -a commands\n    commands=(\n");
    for (size_t i = 0; subject_at(c, i, &s); i++) {
        buf_printf(to, "        '%s:", s.name);
        zsh_text(s.does, to);
        buf_text(to, "'\n");
    }
    buf_text(to, "    )\n    _arguments -C");
    for (size_t i = 0; flag_at(c, &all, i, &flag); i++)
        zsh_flag(&flag, to);
    buf_text(to, " \\\n            '1:command:->command' '*::argument:->argument'\n"
                 "    case $state in\n    command) _describe command commands ;;\n"
                 "    argument)\n        case $line[1] in\n");
    for (size_t i = 0; subject_at(c, i, &s); i++)
        zsh_subject(c, &s, to);
    buf_text(to, "        esac ;;\n    esac\n}\n"
                 "if [ \"$funcstack[1]\" = _rowferry ]; then _rowferry \"$@\"; else compdef "
                 "_rowferry rowferry; fi\n");
}

/* --- fish --- */

static void
fish_text(const char *text, Buf *to)
{
    buf_char(to, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buf_char(to, '\\');
        buf_char(to, *text);
    }
    buf_char(to, '\'');
}

static void
fish_value(const Value *value, Buf *to)
{
    if (value->kind == VALUE_FILE)
        buf_text(to, " -F");
    else if (value->kind == VALUE_WORDS)
        buf_printf(to, " -a '%s'", value->words);
    else if (value->kind == VALUE_TYPE)
        buf_text(to, " -a \"(" TYPE_NAMES ")\"");
}

static void
fish_flag(const char *condition, const Flag *flag, Buf *to)
{
    buf_printf(to, "complete -c rowferry%s -l %s", condition, flag->name + 2);
    if (flag->letter)
        buf_printf(to, " -s %c", flag->letter);
    if (flag->takes && !flag->is_optional)
        buf_text(to, flag->value.kind == VALUE_FILE ? " -r" : " -x");
    if (flag->takes)
        fish_value(&flag->value, to);
    buf_text(to, " -d ");
    fish_text(flag->help, to);
    buf_char(to, '\n');
}

static void
fish_script(const Cli *c, Buf *to)
{
    Subject all = {.name = "", .is_command = true, .takes = ""}, s;
    Flag flag;

    buf_text(to, "# fish completion for rowferry\ncomplete -c rowferry -f\n");
    for (size_t i = 0; flag_at(c, &all, i, &flag); i++)
        fish_flag(" -n __fish_use_subcommand", &flag, to);
    for (size_t i = 0; subject_at(c, i, &s); i++) {
        char condition[128];
        Value value;

        buf_printf(to, "complete -c rowferry -n __fish_use_subcommand -a %s -d ", s.name);
        fish_text(s.does, to);
        buf_char(to, '\n');
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %s'", s.name);
        for (size_t k = 0; flag_at(c, &s, k, &flag); k++)
            fish_flag(condition, &flag, to);
        value_of(c, s.takes, NULL, &value);
        if (value.kind != VALUE_ANY) {
            buf_printf(to, "complete -c rowferry%s", condition);
            fish_value(&value, to);
            buf_char(to, '\n');
        }
    }
}

int
cli_completion(Cli *c, Err *e)
{
    static const struct {
        const char *name;
        void (*write)(const Cli *c, Buf *to);
    } shells[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    Buf to = buf_new(SCRIPT_BYTES_MAX);
    bool ok = false;

    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(shells[i].name, c->word[0]) == 0)
            shells[i].write(c, &to);
    if (to.bytes == 0)
        fail(e, USAGE, "completion: \"%.64s\" is none of %s", c->word[0], c->command->takes);
    else
        ok = buf_is_good(&to, e) && cli_out(to.data, to.bytes, e);
    buf_free(&to);
    return cli_exit(ok, e);
}
