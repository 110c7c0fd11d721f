#!/bin/sh
# Runs the cmocka programs named on the command line, one after the other; prints what fails and a sum.
set -u
passed=0 failed=0 skipped=0 programs=0
for program in "$@"; do
    programs=$((programs + 1))
    out=$(timeout 300 "$program" 2>&1)
    status=$?
    p=$(printf '%s\n' "$out" | grep -c '^\[       OK \]')
    f=$(printf '%s\n' "$out" | grep -c '^\[  FAILED  \] [a-z]')
    s=$(printf '%s\n' "$out" | grep -c '^\[  SKIPPED \] [a-z]')
    # cmocka names a failed test twice: where it failed and in its list.
    [ "$f" -gt 1 ] && f=$(printf '%s\n' "$out" | grep '^\[  FAILED  \] [a-z]' | sort -u | wc -l)
    [ $status -ne 0 ] && [ "$f" -eq 0 ] && f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ $status -ne 0 ] || [ "$p" -eq 0 ]; then
        printf '%s\n' "$out"
        echo "$program: exit $status"
        [ "$f" -eq 0 ] && failed=$((failed + 1))
    fi
    [ "$s" -gt 0 ] && printf '%s\n' "$out" | grep SKIPPED
done
echo "unit: $programs programs, $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
