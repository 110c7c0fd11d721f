#!/bin/sh
# Installs the Debian packages that are missing: `deps.sh build`, `deps.sh test`. Says what it does.
set -eu

build="gcc libc6-dev binutils make node-llhttp libjansson-dev libyaml-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev libexpat1-dev libssl-dev"
test="clang clang-format-14 libclang-rt-14-dev libcmocka-dev python3 python3-venv sqlite3 postgresql curl ca-certificates procps"
lint="clang-tidy-14"
demo="curl"
bench="sqlite3 python3 postgresql redis-tools"

want=
for set in "$@"; do
    case $set in
    build) want="$want $build" ;;
    test) want="$want $test" ;;
    lint) want="$want $lint" ;;
    demo) want="$want $demo" ;;
    bench) want="$want $bench" ;;
    *) echo "deps: no such set: $set (build demo test lint bench)" >&2; exit 2 ;;
    esac
done
# Another maker's Node.js brings its own npm; Debian's would not install beside it.
case " $* " in *" test "*) command -v npm >/dev/null 2>&1 || want="$want npm" ;; esac
# Any PostgreSQL server that is here already does: the tests run clusters of their own.
for program in /usr/lib/postgresql/*/bin/postgres; do
    if [ -x "$program" ]; then want=$(echo "$want" | sed 's/ postgresql\b//g'); fi
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: this is not Debian or a relative of it; please install what these packages hold:$want" >&2
    exit 0
fi
missing=
for package in $want; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "deps: nothing to install ($*)"
    exit 0
fi
echo "deps: installing Debian packages:$missing"
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "deps: not root, and no sudo; please run: apt-get install$missing" >&2
        exit 1
    fi
fi
export DEBIAN_FRONTEND=noninteractive
# Debian's package would also create a cluster and run it on port 5432, now and at every boot. Its own switch says no.
no_cluster=/etc/postgresql-common/createcluster.d/rowferry-deps.conf
case " $missing " in *" postgresql "*)
    echo "deps: PostgreSQL comes without a cluster that runs; \`pg_createcluster\` makes one if you want it"
    $as_root mkdir -p "${no_cluster%/*}"
    trap '$as_root rm -f "$no_cluster"; $as_root rmdir "${no_cluster%/*}" 2>/dev/null || :' EXIT
    trap 'exit 1' HUP INT TERM
    echo "create_main_cluster = false" | $as_root tee "$no_cluster" >/dev/null
    ;;
esac
# shellcheck disable=SC2086
$as_root apt-get -o DPkg::Lock::Timeout=300 update -q >/dev/null
# shellcheck disable=SC2086
$as_root apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $missing >/dev/null
echo "deps: done"
