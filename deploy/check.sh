#!/bin/sh
# Runs the Dockerfile's steps without Docker: check.sh ENVIRONMENT MODEL [--installed]
# It installs into ENVIRONMENT (unless it is there already), starts the server, asks whether it is healthy, and ends it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ "${3:-}" = --installed ] || sh "$here/install.sh" "$1"
export PATH="$1/bin:$PATH" PORT="${PORT:-8901}" MODEL="$2" RESNET_TL_TOKEN=only-for-this-check
sh "$here/start.sh" &
server=$!
trap 'kill -9 $server 2>/dev/null || true' EXIT
tries=0
until python "$here/healthy.py"; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || { echo "the server did not begin"; exit 1; }
    sleep 1
done
kill -TERM $server
wait $server
if python "$here/healthy.py"; then echo "the server did not end"; exit 1; fi
echo "the Dockerfile's steps work"
