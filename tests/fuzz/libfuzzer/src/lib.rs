//! Nothing of its own: building it builds libFuzzer. See `../fuzz.sh`.
