#!/bin/sh
# Compiles the workspace's own code so that libFuzzer sees where it goes: cargo calls this in the
# place of rustc, as RUSTC_WORKSPACE_WRAPPER, for members of the workspace alone. What the host and
# the adapters are built from stays as it is and is not built again. Works with a stable compiler.
rustc=$1
shift
case " $* " in
*" --crate-name build_script_"* | *" --crate-type proc-macro "* | *" --print "* | *" -vV "*)
    exec "$rustc" "$@"
    ;;
*" --crate-name fuzz "* | *" --crate-name short "*)
    set -- "$@" -L "native=$KEYWARD_LIBFUZZER" -l static=fuzzer -l stdc++
    ;;
esac
exec "$rustc" "$@" \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Copt-level=3 -Cdebug-assertions=on -Coverflow-checks=on \
    --cfg fuzzing
