//! Fuzz targets: everything in Keyward that reads what strangers write.
//!
//! A [`Target`] is a function of bytes that panics where a promise is broken. It is run in two ways.
//! `fuzz.sh` hands it to libFuzzer, which looks for inputs that reach new code and keeps those that
//! do in `corpus/NAME`. The tests of this crate run the kept corpus and a second's worth of changed
//! inputs of it, in every build.
//!
//! - [`adapters`]: each adapter's decoder, with what its vendor might answer;
//! - [`framing`]: bytes to frames;
//! - [`requests`]: callers' requests in each dialect, and what adapters make of them;
//! - [`answers`]: what adapters might say, told in each dialect, whole and streamed;
//! - [`host`]: configuration, descriptors, prices, URLs, headers, marks, secrets;
//! - [`seeds`]: what the search begins with, made of the adapters' recordings.
//!
//! Inputs are texts wherever possible, so that a finding can be read, a seed written by hand, and a
//! changed byte is mostly still an input. Nothing here is random: how an input is cut, for one, is
//! decided by a hash of it. Native, without sandbox or network: an input costs 10 µs to 1 ms.

// This crate is a test: what it finds wrong, it tells by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "see above")]

pub mod across;
pub mod adapters;
pub mod answers;
pub mod framing;
pub mod host;
pub mod input;
pub mod mutate;
pub mod requests;
pub mod seeds;

use std::path::PathBuf;

/// Something to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// # Panics
    /// If the input shows that a promise is broken.
    pub run: fn(&[u8]),
    /// Longer inputs reach nothing that shorter ones don't.
    pub max_len: usize,
}

const fn target(name: &'static str, max_len: usize, run: fn(&[u8])) -> Target {
    Target { name, run, max_len }
}

/// All of them, the ones that matter most first.
pub const TARGETS: &[Target] = &[
    target("adapter-anthropic", 4096, |input| adapters::decode("anthropic", input)),
    target("adapter-azure-openai", 4096, |input| adapters::decode("azure-openai", input)),
    target("adapter-cloudflare", 4096, |input| adapters::decode("cloudflare", input)),
    target("adapter-cohere", 4096, |input| adapters::decode("cohere", input)),
    target("adapter-demo", 4096, |input| adapters::decode("demo", input)),
    target("adapter-gemini", 4096, |input| adapters::decode("gemini", input)),
    target("adapter-lightllm", 4096, |input| adapters::decode("lightllm", input)),
    target("adapter-localai", 4096, |input| adapters::decode("localai", input)),
    target("adapter-ollama", 4096, |input| adapters::decode("ollama", input)),
    target("adapter-openai", 4096, |input| adapters::decode("openai", input)),
    target("adapter-openai-compatible", 4096, |input| adapters::decode("openai-compatible", input)),
    target("request-openai-chat", 4096, requests::openai_chat),
    target("request-openai-responses", 4096, requests::openai_responses),
    target("request-openai-embeddings", 2048, requests::openai_embeddings),
    target("request-anthropic-messages", 4096, requests::anthropic_messages),
    target("request-anthropic-count", 2048, requests::anthropic_count),
    target("request-ollama-chat", 4096, requests::ollama_chat),
    target("request-ollama-generate", 4096, requests::ollama_generate),
    target("request-ollama-embed", 2048, requests::ollama_embed),
    target("answer-openai-chat", 4096, answers::openai_chat),
    target("answer-openai-responses", 4096, answers::openai_responses),
    target("answer-anthropic-messages", 4096, answers::anthropic_messages),
    target("answer-ollama", 4096, answers::ollama),
    target("answer-embeddings", 2048, answers::embeddings),
    target("framing-sse", 1024, framing::sse),
    target("framing-ndjson", 1024, framing::ndjson),
    target("framing-json", 1024, framing::json),
    target("framing-json-array", 1024, framing::json_array),
    target("framing-text", 1024, framing::text),
    target("framing-aws-event-stream", 2048, framing::aws_event_stream),
    target("providers-yaml", 4096, host::providers_yaml),
    target("descriptor", 4096, host::descriptor),
    target("price", 2048, host::price),
    target("decimal", 128, host::decimal),
    target("retry-after", 256, host::retry_after_header),
    target("url", 512, host::url),
    target("marks", 1024, host::marks),
    target("redaction", 512, host::redaction),
];

/// The target of this name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Where a target's kept inputs are.
pub fn corpus(target: Target) -> PathBuf {
    root().join("tests/fuzz/corpus").join(target.name)
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
