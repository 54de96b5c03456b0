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
mod limits;
mod models;
mod profile;
mod request;
mod usage;

use crate::{
    Failure, Output,
    contract::{Chat, Embed, Format, Operation, VendorRequest},
};

pub use answer::Decoder;
pub use error::failure;
pub use limits::{all_rate_limits, rate_limits};
pub use profile::{
    Earlier, EmbeddingFormat, LogProbabilities, Off, Profile, ReasoningForm, StructuredOutput,
};
pub use usage::report_usage;

/// The dialect whose unknown fields this shape takes.
pub const DIALECT: &str = "openai-chat";

/// The first request of an operation, and what reads its answer. Warnings about what the vendor
/// has no place for go to `out`; sending is left to the adapter, which may change the path and add
/// headers first.
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

/// What the system text must say of the answer's form because the vendor can't be told otherwise.
/// Warns of it. For requests of another shape; those made here have it in them.
pub fn format_instruction(format: &Format, profile: &Profile, out: &mut Output) -> Option<String> {
    request::instruction(format, profile, out)
}
