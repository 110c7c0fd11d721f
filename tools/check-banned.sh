#!/bin/sh
# Calls that our code does not make (CONTRIBUTING.md, "Not used"), by plain search; exits 1 if one is found.
set -u
bad=0
search() { # TITLE PATTERN FILES…
    title=$1 pattern=$2
    shift 2
    hits=$(grep -nE "(^|[^_a-zA-Z0-9.>])($pattern)[[:space:]]*\(" "$@" | grep -vE ':[[:space:]]*(/?\*|//)')
    if [ -n "$hits" ]; then
        printf '%s\n%s\n' "$title" "$hits"
        bad=1
    fi
}
all=$(find src -name '*.c' -o -name '*.h')
# shellcheck disable=SC2086
search 'not used anywhere:' \
    'strcpy|strcat|sprintf|vsprintf|strncpy|strtok|gets|atoi|atol|rand|system|popen|fork|vfork|alloca|asctime|ctime|localtime|gmtime|strerror|setenv|mktemp|tmpnam' $all
# shellcheck disable=SC2046
search 'only base/ takes memory:' 'malloc|calloc|realloc|free|strdup|strndup|asprintf' \
    $(find src -path src/base -prune -o -name '*.c' -print)
# shellcheck disable=SC2046
search 'only base/ and config/ read the environment:' 'getenv|secure_getenv' \
    $(find src \( -path src/base -o -path src/config \) -prune -o -name '*.c' -print)
# shellcheck disable=SC2046
search 'only base/process.c starts processes:' 'posix_spawnp?|execvp?e?|execlp?e?|clone3?' \
    $(find src -name '*.c' ! -path src/base/process.c)
exit $bad
