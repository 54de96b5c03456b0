#!/bin/sh
# Builds mini.wasm in the folder given, or here. Needs componentize-py: pip install componentize-py
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
# What is without WASI needs no grant.
componentize-py --wit-path "$here/../../../wit/adapter.wit" --world provider \
  componentize mini --python-path "$here" --stub-wasi --output "$out/mini.wasm"
