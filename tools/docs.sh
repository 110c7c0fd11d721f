#!/bin/sh
# Writes the reference documents, as the program prints them, into the folder named.
set -eu
cd "$(dirname "$0")/.."
to=$1
program=${ROWFERRY_PROGRAM:-build/rowferry}
# Neither this machine's configuration nor its environment belongs in them.
none=$(mktemp)
trap 'rm -f "$none"' EXIT
mkdir -p "$to"
for document in options errors metrics states cli types; do
    env -i PATH="$PATH" HOME=/nonexistent ROWFERRY_CONFIG="$none" "$program" help --reference "$document" >"$to/$document.md"
done
