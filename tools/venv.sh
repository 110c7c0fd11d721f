#!/bin/sh
# Makes the Python environment of the stories, once for each state of the requirements, and prints its python.
# Lives outside the checkout, so that a second clone is quick.
set -eu
requirements=$1
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/rowferry
name=venv-$(cksum <"$requirements" | cut -d' ' -f1)
venv=$cache/$name
if [ ! -x "$venv/bin/python" ] || [ ! -e "$venv/complete" ]; then
    echo "venv: installing from PyPI:" $(grep -v '^#' "$requirements") >&2
    rm -rf "$venv"
    mkdir -p "$cache"
    # The distribution's own python: others may lack what venv needs.
    base=/usr/bin/python3
    [ -x "$base" ] || base=python3
    "$base" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
    : >"$venv/complete"
fi
echo "$venv/bin/python"
