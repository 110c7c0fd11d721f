#!/bin/sh
# The first minutes of a new user: starts the service on a fresh folder, asks for an export, watches it, shows the file.
set -eu
rowferry=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/rowferry-demo.XXXXXX")
pid=
cleanup() {
    [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say "1. A data set: an organisation of 2,000 people and 400,000 interactions"
"$rowferry" demo-data "$dir/data/demo.db" --employees 2000 --interactions 400000 --seed 1

say "2. The service: rowferry serve --data-dir $dir/data --port 0 (any free port; 8000 by default)"
"$rowferry" serve --data-dir "$dir/data" --port 0 --log-format json 2>"$dir/log" &
pid=$!
url=
for _ in $(seq 100); do
    url=$(sed -n 's/.*"event":"role.started".*"url":"\([^"]*\)".*/\1/p' "$dir/log" | head -n 1)
    [ -n "$url" ] && break
    kill -0 "$pid" 2>/dev/null || { cat "$dir/log"; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { cat "$dir/log"; echo "demo: the service did not start"; exit 1; }
echo "listening on $url"

say "3. A request, watched to its end"
echo "\$ rowferry request interaction_history --user demo --follow --download"
(cd "$dir" && "$OLDPWD/$rowferry" request interaction_history --url "$url" --user demo --follow --download "$dir/")

say "4. The same over plain HTTP, as the seed document says it"
echo "\$ curl -X POST $url/api/exports/request -d '{\"export_type\": \"employee_metrics\", \"user_id\": \"test_user\"}'"
id=$("$rowferry" request employee_metrics --url "$url" --user test_user -p team=Engineering)
"$rowferry" status "$id" --url "$url" --json | head -c 2000
echo
for _ in $(seq 100); do
    "$rowferry" status "$id" --url "$url" --json | grep -q '"status": *"completed"' && break
    sleep 0.1
done
echo "task id:    $id"
echo "signed URL: $("$rowferry" status "$id" --url "$url" --json | sed -n 's/.*"download_url": *"\([^"]*\)".*/\1/p')"

say "5. The files"
for file in "$dir"/*.csv; do
    echo "$(basename "$file"): $(($(wc -l <"$file") - 1)) rows, $(wc -c <"$file") bytes; its first lines:"
    head -n 4 "$file"
done
"$rowferry" list --url "$url" --user test_user

say "Done. Your turn:"
echo "  $rowferry serve                 # http://127.0.0.1:8000"
echo "  $rowferry request interaction_history --follow --download"
