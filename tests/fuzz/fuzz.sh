#!/bin/bash
# Searches with libFuzzer: tests/fuzz/fuzz.sh [-s SECONDS] [-j JOBS] [-m] [TARGET..]
#
# Each target (all, if none is named) gets so many seconds (600), so many targets run at a time (1).
# Inputs that reach new code are kept in target/fuzzing/found/TARGET, findings in
# target/fuzzing/findings; with `-m` those that reach code which nothing else does are copied to
# tests/fuzz/corpus afterwards (with `-s 0`, what was found before). Needs a C++ compiler and the crate libfuzzer-sys; docs/fuzzing.md tells more.
set -eu
cd "$(dirname "$0")/../.."
seconds=600 jobs=1 merge=
while getopts s:j:m option; do
    case $option in
    s) seconds=$OPTARG ;;
    j) jobs=$OPTARG ;;
    m) merge=1 ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

export CARGO_TARGET_DIR="$PWD/target/fuzzing"
# libFuzzer first, by itself; where it is, cargo says.
out=$(cargo build --quiet --manifest-path tests/fuzz/libfuzzer/Cargo.toml --message-format=json |
    sed -n 's/.*"build-script-executed".*libfuzzer-sys.*"out_dir":"\([^"]*\)".*/\1/p')
export KEYWARD_LIBFUZZER="$out"
export RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/instrument.sh" CARGO_INCREMENTAL=0
# With a test, so that the features are united as they are by `cargo test --workspace`: dependencies
# can then be shared with it, by one CARGO_BUILD_BUILD_DIR for both.
cargo build --quiet --workspace --bin fuzz --test short --features keyward-fuzz/libfuzzer
unset RUSTC_WORKSPACE_WRAPPER
fuzz=$CARGO_TARGET_DIR/debug/fuzz
findings=$CARGO_TARGET_DIR/findings
mkdir -p "$findings"

one() {
    kept=tests/fuzz/corpus/$1 found=$CARGO_TARGET_DIR/found/$1 seeds=$CARGO_TARGET_DIR/seeds/$1
    mkdir -p "$kept" "$found" "$seeds"
    length=$("$fuzz" | sed -n "s/^$1 //p")
    KEYWARD_FUZZ=$1 KEYWARD_FUZZ_SEEDS=$seeds "$fuzz"
    if [ "$seconds" != 0 ] && ! KEYWARD_FUZZ=$1 "$fuzz" -max_total_time="$seconds" -max_len="$length" \
        -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$findings/$1-" \
        "$found" "$seeds" "$kept" >"$CARGO_TARGET_DIR/$1.log" 2>&1; then
        echo "$1: FOUND SOMETHING, see $CARGO_TARGET_DIR/$1.log"
        return
    fi
    [ "$seconds" = 0 ] || echo "$1: $(grep DONE "$CARGO_TARGET_DIR/$1.log")"
    if [ -n "$merge" ]; then
        # What reaches code that neither seeds nor kept inputs do.
        new=$CARGO_TARGET_DIR/merged/$1
        rm -rf "$new" && mkdir -p "$new" && cp -r "$seeds/." "$kept/." "$new"
        KEYWARD_FUZZ=$1 "$fuzz" -merge=1 -use_counters=0 -max_len="$length" "$new" "$found" \
            >/dev/null 2>&1
        for input in "$new"/*; do
            name=${input##*/}
            [ -e "$seeds/$name" ] || [ -e "$kept/$name" ] || cp "$input" "$kept"
        done
    fi
}

[ $# -gt 0 ] || set -- $("$fuzz" | cut -d' ' -f1)
for target; do
    while [ "$(jobs -r | wc -l)" -ge "$jobs" ]; do sleep 1; done
    one "$target" &
done
wait
