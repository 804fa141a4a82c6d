#!/bin/sh
# Serves MODEL (default: /model) to other machines, which must send the token in RESNET_TL_TOKEN; limits may be added.
set -eu
exec resnet-tl serve "${MODEL:-/model}" --host 0.0.0.0 --port "${PORT:-8000}" "$@"
