#!/usr/bin/env bash
# fuzz.sh replay: every kept input through its target once. fuzz.sh run: each target for SECONDS_EACH; what it
# finds goes into the corpus, a crash stays in build/fuzz/findings and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=$1 passed=0 failed=0
mkdir -p build/fuzz/findings
for source in test/fuzz/*_fuzz.c; do
    name=$(basename "$source" .c)
    target=build/fuzz/test/fuzz/$name
    corpus=test/fuzz/corpus/${name%_fuzz}
    if [ ! -d "$corpus" ] || [ -z "$(ls -A "$corpus")" ]; then
        echo "fuzz: $name has no corpus"
        failed=$((failed + 1))
        continue
    fi
    options=(-artifact_prefix=build/fuzz/findings/ -timeout=10 -rss_limit_mb=2048 -max_len=65536)
    if [ "$mode" = replay ]; then
        options+=(-runs=0)
    else
        options+=("-max_total_time=${SECONDS_EACH:-60}")
    fi
    if timeout $((${SECONDS_EACH:-60} + 120)) "$target" "${options[@]}" "$corpus" >"build/fuzz/$name.log" 2>&1; then
        passed=$((passed + 1))
        [ "$mode" = replay ] || tail -n 1 "build/fuzz/$name.log"
    else
        tail -n 40 "build/fuzz/$name.log"
        echo "fuzz: $name FAILED"
        failed=$((failed + 1))
    fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
