//! The short form: the recordings and the kept corpus, and what a second makes of them.
//!
//! `KEYWARD_FUZZ_SEED` repeats a failure, `KEYWARD_FUZZ_MS` is the time of a target.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use keyward_fuzz::{TARGETS, corpus, input::Dice, mutate::mutate, named, seeds};

/// Changed inputs at most. So few that every machine runs the same ones: what goes further is found by
/// the long form, and not by chance in somebody's build.
const CHANGED: u64 = 2_000;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// # Panics
/// Where the target does; the input then stands in a file.
fn holds(name: &str) {
    let target = named(name).expect("a target of this name");
    let seed = number("KEYWARD_FUZZ_SEED", 1);
    let time = Duration::from_millis(number("KEYWARD_FUZZ_MS", 900));
    let run = |input: &[u8], what: &str| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            let file = std::env::temp_dir().join(format!("keyward-{name}"));
            fs::write(&file, input).unwrap();
            eprintln!("{name}: {what}; the input is in {}", file.display());
            resume_unwind(panic);
        }
    };
    let mut kept = seeds::of(target);
    for entry in fs::read_dir(corpus(target)).into_iter().flatten() {
        let path = entry.unwrap().path();
        kept.insert(path.display().to_string(), fs::read(path).unwrap());
    }
    assert!(!kept.is_empty(), "{name} has nothing to begin with");
    for (file, input) in &kept {
        run(input, file);
    }
    let kept: Vec<Vec<u8>> = kept.into_values().collect();
    let began = Instant::now();
    let mut dice = Dice(seed);
    for round in 0..CHANGED {
        if began.elapsed() >= time {
            break;
        }
        let (one, other) = (&kept[dice.below(kept.len())], &kept[dice.below(kept.len())]);
        let input = mutate(one, other, target.max_len, &mut dice);
        run(&input, &format!("seed {seed}, input {round}"));
    }
}

macro_rules! tests {
    ($($test:ident: $($target:literal)+;)*) => {
        $(#[test]
        fn $test() {
            $(holds($target);)+
        })*

        #[test]
        fn every_target_is_run_here() {
            let run = [$($($target),+),*];
            let missing: Vec<&str> =
                TARGETS.iter().map(|target| target.name).filter(|name| !run.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

tests! {
    whatever_anthropic_answers_its_adapter_ends: "adapter-anthropic";
    whatever_azure_answers_its_adapter_ends: "adapter-azure-openai";
    whatever_cloudflare_answers_its_adapter_ends: "adapter-cloudflare";
    whatever_cohere_answers_its_adapter_ends: "adapter-cohere";
    whatever_is_asked_of_the_demo_it_ends: "adapter-demo";
    whatever_gemini_answers_its_adapter_ends: "adapter-gemini";
    whatever_lightllm_answers_its_adapter_ends: "adapter-lightllm";
    whatever_localai_answers_its_adapter_ends: "adapter-localai";
    whatever_ollama_answers_its_adapter_ends: "adapter-ollama";
    whatever_openai_answers_its_adapter_ends: "adapter-openai";
    whatever_a_compatible_server_answers_its_adapter_ends: "adapter-openai-compatible";
    a_chat_in_openais_dialect_is_read_or_refused_and_loses_nothing: "request-openai-chat";
    a_response_is_asked_for_or_refused_and_loses_nothing: "request-openai-responses";
    a_message_is_asked_for_or_refused_and_loses_nothing: "request-anthropic-messages";
    a_chat_in_ollamas_dialect_is_read_or_refused_and_loses_nothing: "request-ollama-chat";
    other_requests_are_read_or_refused:
        "request-openai-embeddings" "request-anthropic-count" "request-ollama-generate"
        "request-ollama-embed";
    a_stream_of_chunks_says_what_the_whole_answer_says: "answer-openai-chat";
    a_streamed_response_says_what_the_whole_one_says: "answer-openai-responses";
    a_streamed_message_says_what_the_whole_one_says: "answer-anthropic-messages";
    lines_say_what_the_whole_answer_says: "answer-ollama";
    vectors_are_given_as_they_were_asked_for: "answer-embeddings";
    frames_do_not_depend_on_how_bytes_come:
        "framing-sse" "framing-ndjson" "framing-json" "framing-json-array" "framing-text"
        "framing-aws-event-stream";
    a_configuration_is_read_or_refused_with_a_reason: "providers-yaml";
    a_descriptor_is_read_or_refused: "descriptor";
    prices_and_amounts_are_exact: "price" "decimal";
    a_wait_is_never_longer_than_the_longest: "retry-after";
    a_path_never_leaves_its_base: "url";
    a_mark_becomes_its_content_once_or_the_body_is_refused: "marks";
    a_secret_is_never_shown: "redaction";
}
