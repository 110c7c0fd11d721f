#!/usr/bin/env bash
# Runs the stories (pytest) against the built program; extra words are passed to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(sh tools/venv.sh test/story/requirements.txt)
[ $# -gt 0 ] || set -- test/story
export ROWFERRY_PROGRAM=${ROWFERRY_PROGRAM:-$PWD/build/rowferry}
exec "$python" -m pytest -q -rs -p no:cacheprovider "$@"
