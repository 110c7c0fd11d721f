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

say "1. A data set: an organisation of 2,000 people and 2,000,000 interactions"
"$rowferry" demo-data "$dir/data/demo.db" --employees 2000 --interactions 2000000 --seed 1

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

say "3. A request over plain HTTP, as the seed document says it; progress as a client sees it that asks again and again"
body='{"export_type": "interaction_history", "user_id": "demo"}'
echo "\$ curl -X POST $url/api/exports/request -H 'Content-Type: application/json' -d '$body'"
answer=$(curl -sS -X POST "$url/api/exports/request" -H 'Content-Type: application/json' -d "$body")
echo "$answer"
id=$(printf '%s' "$answer" | sed -n 's/.*"task_id": *"\([^"]*\)".*/\1/p')
echo "\$ curl $url/api/exports/$id/status"
for _ in $(seq 600); do
    now=$(curl -sS "$url/api/exports/$id/status")
    seen=$(printf '%s' "$now" | sed -n 's/.*"progress": *\([0-9]*\).*"state": *"\([a-z]*\)".*/\1% \2/p')
    [ -n "$seen" ] || seen="100% completed"
    [ "$seen" = "${before:-}" ] || echo "  $seen"
    before=$seen
    case $now in *'"status":"completed"'* | *'"status":"failed"'*) break ;; esac
    sleep 0.05
done
echo "$now"
case $now in *'"status":"completed"'*) ;; *) exit 1 ;; esac
echo "task id:    $id"
link=$(printf '%s' "$now" | sed -n 's/.*"download_url": *"\([^"]*\)".*/\1/p')
echo "signed URL: $link"
echo "\$ curl -o interaction_history.csv '…'"
curl -sS -o "$dir/interaction_history.csv" "$link"

say "4. The same in one command: requested, watched, downloaded, verified"
echo "\$ rowferry request employee_metrics -p team=Engineering --user demo --follow --download"
"$rowferry" request employee_metrics --url "$url" --user demo -p team=Engineering --follow --download "$dir/employee_metrics.csv"

say "5. The files"
for file in "$dir"/*.csv; do
    echo "$(basename "$file"): $(($(wc -l <"$file") - 1)) rows, $(wc -c <"$file") bytes; its first lines:"
    head -n 4 "$file"
done
"$rowferry" list --url "$url" --user demo

say "Done. Your turn:"
echo "  $rowferry serve                 # http://127.0.0.1:8000"
echo "  $rowferry request interaction_history --follow --download"
