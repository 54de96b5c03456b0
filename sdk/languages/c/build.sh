#!/bin/sh
# Builds mini.wasm in the folder given, or here. Needs a clang that knows WebAssembly, with its
# linker: Debian's clang and lld, or Zig (`pip install ziglang`), found in this order:
#   CC="zig cc" ./build.sh     ./build.sh OUT     KEYWARD=path/to/keyward ./build.sh
set -eu
here=$(dirname "$0")
out=${1:-$here}
module=$(mktemp -d)
trap 'rm -r "$module"' EXIT
${CC:-clang} --target=wasm32-freestanding -nostdlib -fno-builtin -Oz -mbulk-memory -Wall -Wextra \
  -isystem "$here/small" "$here/mini.c" "$here/generated/contract.c" "$here/small/small.c" \
  -Wl,--no-entry -Wl,-z,stack-size=65536 -Wl,--strip-all -o "$module/mini.wasm"
"${KEYWARD:-keyward}" plugin build "$module/mini.wasm" --out "$out"
