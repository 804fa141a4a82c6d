#!/bin/sh
# Installs resnet-tl, from the folder above this one, with what a server needs: install.sh ENVIRONMENT
set -eu
cd "$(dirname "$0")/.."
python3 -m venv "$1"
"$1/bin/pip" install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[onnx,serve]"
