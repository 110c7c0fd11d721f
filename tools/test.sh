#!/usr/bin/env bash
# `make test`: everything, in the order from quick to slow; closes with one line of counts.
#
# Every step is a test of its own; unit tests, stories and rounds of kills are counted one by one. A skipped test is
# printed with its reason, and where CI=true it counts as a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
passed=0 failed=0 skipped=0
work=build/test
mkdir -p "$work"
jobs=$(nproc)

count() { # takes "…N passed…", "…N failed…", "…N skipped…" of a step's last line
    local line=$1 n
    for word in passed failed skipped; do
        n=$(printf '%s' "$line" | sed -nE "s/^(.*[^0-9])?([0-9]+) $word.*/\2/p")
        [ -n "$n" ] && printf -v "$word" '%d' $((${!word} + n))
    done
}
step() { # NAME COMMAND…: one check that passes or fails as a whole
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$work/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "test: $name: good ($((SECONDS - start)) s)"
    else
        failed=$((failed + 1))
        tail -n 60 "$work/$name.log"
        echo "test: $name: FAILED ($((SECONDS - start)) s)"
        return 1
    fi
}
counted() { # NAME COMMAND…: a runner that closes with its own counts
    local name=$1 start=$SECONDS status line failed_before=$failed
    shift
    "$@" 2>&1 | tee "$work/$name.log" | grep --line-buffered -E 'FAILED|Error|SKIP|^E  |passed|failed' | tail -n 80
    status=${PIPESTATUS[0]}
    line=$(grep -E '[0-9]+ (passed|failed|skipped)' "$work/$name.log" | tail -n 1)
    count "${line:-}"
    # A runner that ends badly without counting a failure is one.
    [ "$status" -eq 0 ] || [ "$failed" -gt "$failed_before" ] || failed=$((failed + 1))
    echo "test: $name: exit $status ($((SECONDS - start)) s)"
}

# What the tests stand on is made first, in the open: it takes minutes, once on a machine.
python=$(sh tools/venv.sh test/story/requirements.txt) && "$python" test/harness/s3.py --build || {
    echo "test: the servers of the tests cannot be had"
    exit 1
}

step format make --no-print-directory format-check
step layers make --no-print-directory layers
step tidy make --no-print-directory tidy
step build-gcc make -j"$jobs" CFLAGS=-Werror all
step build-clang make -j"$jobs" CC=clang BUILD=debug all
step build-asan make -j"$jobs" BUILD=asan all units
counted unit make --no-print-directory BUILD=asan unit
step build-fuzz make -j"$jobs" BUILD=fuzz fuzzers
counted replay make --no-print-directory replay
step docs make --no-print-directory docs-check
counted story bash tools/story.sh
ROWFERRY_PROGRAM=$PWD/build/asan/rowferry counted story-asan bash tools/story.sh -m asan test/story
ROUNDS=20 EXPORTS=30 counted chaos bash tools/story.sh test/chaos

if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
    echo "test: a skipped test fails in CI"
    failed=$((failed + skipped))
fi
echo "test: $SECONDS s"
echo "rowferry: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
