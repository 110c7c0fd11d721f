#!/usr/bin/env bash
# `make bench`: rowferry and its peers in one run; prints ratios and peak memory. QUICK=1 takes a tenth of the rows.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/bench
"${CC:-gcc}" -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -o build/bench/paced bench/paced.c
"${CC:-gcc}" -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -isystem "$(pg_config --includedir)" -o build/bench/drain bench/drain.c -lpq -lpthread
# The clients of the S3 servers are those of the stories.
exec "$(sh tools/venv.sh test/story/requirements.txt)" bench/run.py "$@"
