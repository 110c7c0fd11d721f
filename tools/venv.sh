#!/bin/sh
# Makes a Python environment, once for each state of its requirements (those of the stories, of the Go toolchain that
# their S3 servers are built with, and of the Python stack of the benchmarks), and prints its python. Lives outside the
# checkout, so that a second clone is quick.
set -eu
requirements=$1
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/rowferry
venv=$cache/venv-$(cksum <"$requirements" | cut -d' ' -f1)
is_whole() {
    [ -x "$venv/bin/python" ] && [ -e "$venv/complete" ]
}
make_it() {
    echo "venv: installing from PyPI:" $(grep -v '^#' "$requirements") >&2
    rm -rf "$venv"
    # The distribution's own python: others may lack what venv needs.
    base=/usr/bin/python3
    [ -x "$base" ] || base=python3
    "$base" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
    : >"$venv/complete"
}
if ! is_whole; then
    mkdir -p "$cache"
    exec 9>"$venv.lock"
    flock 9
    is_whole || make_it # unless somebody else has, while we waited
fi
echo "$venv/bin/python"
