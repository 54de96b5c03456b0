//! The OpenAI wire shape: Chat Completions, embeddings and the model list.
//!
//! Half the vendors speak it, each with a few differences. The differences are named in
//! [`Profile`]; everything else is here once: [`start`] makes the first request of an operation
//! and a [`Decoder`] that turns whatever comes back into events and failures. An adapter on top
//! is a descriptor, a profile and its own headers.
//!
//! Answers and streamed chunks have one shape but for the name of a member, so one decoder reads
//! both. It keeps no text: its state is a few numbers per choice and the last value of each
//! unknown member.

mod answer;
mod error;
mod request;

use crate::{
    Failure, Output,
    contract::{Chat, Embed, Operation, RateLimit, ResponseHead, VendorRequest},
    time,
};

pub use answer::Decoder;
pub use error::failure;

/// The dialect whose unknown fields this shape takes.
pub const DIALECT: &str = "openai-chat";

/// How a vendor differs from OpenAI. [`Profile::OPENAI`] is OpenAI itself.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The member that limits the answer's tokens: "max_completion_tokens" or "max_tokens".
    pub max_tokens: &'static str,
    /// Knows the role `developer`; it is sent as `system` otherwise.
    pub developer: bool,
    /// Knows `stream_options.include_usage`.
    pub stream_usage: bool,
    /// Knows `top_k`.
    pub top_k: bool,
    /// Answers embeddings as base64 on request. They are then always asked for so: decoding
    /// thousands of decimal numbers in the sandbox costs more than the rest of the exchange.
    pub base64_embeddings: bool,
}

impl Profile {
    pub const OPENAI: Self = Self {
        max_tokens: "max_completion_tokens",
        developer: true,
        stream_usage: true,
        top_k: false,
        base64_embeddings: true,
    };
}

/// The first request of an operation, and what reads its answer. Warnings about what the vendor
/// has no place for go to `out`; sending is left to the adapter, which may add headers first.
///
/// # Errors
/// `unsupported` or `invalid-request` for content and tools that this shape can't carry.
pub fn start(
    operation: &Operation,
    profile: &Profile,
    out: &mut Output,
) -> Result<(VendorRequest, Decoder), Failure> {
    match operation {
        Operation::Chat(chat) => Ok((chat_request(chat, profile, out)?, Decoder::chat())),
        Operation::Embed(embed) => {
            Ok((embed_request(embed, profile, out)?, Decoder::embed(embed.inputs.len())))
        }
        Operation::ListModels => Ok((VendorRequest::get("/models"), Decoder::models())),
        Operation::Probe => Ok((VendorRequest::get("/models"), Decoder::probe())),
        Operation::Other(other) => {
            Err(Failure::unsupported(format!("The operation {:?} isn't known here.", other.kind)))
        }
    }
}

/// `POST /chat/completions`. Fails as [`start`].
pub fn chat_request(
    chat: &Chat,
    profile: &Profile,
    out: &mut Output,
) -> Result<VendorRequest, Failure> {
    request::chat(chat, profile, out)
}

/// `POST /embeddings`. Fails as [`start`].
pub fn embed_request(
    embed: &Embed,
    profile: &Profile,
    out: &mut Output,
) -> Result<VendorRequest, Failure> {
    request::embed(embed, profile, out)
}

/// Reports the limits in `x-ratelimit-*` headers. The descriptor must list them.
pub fn rate_limits(head: &ResponseHead, out: &mut Output) {
    const HEADERS: [(&str, [&str; 3]); 2] = [
        (
            "requests",
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
        ),
        (
            "tokens",
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        ),
    ];
    for (scope, names) in HEADERS {
        if let Some(limit) = RateLimit::from_headers(head, scope, names, time::duration_ms) {
            out.rate_limit(limit);
        }
    }
}
