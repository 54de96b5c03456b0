//! The contract as the host sees it: bindings made from `wit/adapter.wit`.
//!
//! Only [`crate::sandbox`] calls an adapter through these, and only [`crate::content`] makes the
//! operations that go in. Events come out as they are and are checked by [`crate::exchange`].

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "provider",
        exports: { default: async },
    });
}

pub use bindings::exports::keyward::adapter::adapter::{
    Annotation, Attribute, Body, Chat, Context, Embed, EmbedEncoding, EmbedInput, Embedding, Event,
    Failure, FailureKind, Fault, Field, Finish, FinishReason, Format, Frame, Framing, Header,
    Input, Media, MediaKind, MediaOutput, MediaSource, Message, Method, Model, Operation, Other,
    OtherPart, Output, Part, PartBody, RateLimit, RawBody, Reasoning, ResponseHead, Role, Sampling,
    Schema, Started, Text, TextDelta, Thinking, Tool, ToolAnswer, ToolArguments, ToolCall,
    ToolCallStart, ToolChoice, Unit, Usage, Value, Vector, VendorRequest, Warning,
};

/// What an adapter says of a failure, in the host's own terms.
impl From<Failure> for crate::Failure {
    fn from(failure: Failure) -> Self {
        use crate::FailureKind as Kind;
        let kind = match failure.kind {
            FailureKind::Authentication => Kind::Authentication,
            FailureKind::Permission => Kind::Permission,
            FailureKind::RateLimited => Kind::RateLimited,
            FailureKind::QuotaExhausted => Kind::QuotaExhausted,
            FailureKind::Overloaded => Kind::Overloaded,
            FailureKind::Unavailable => Kind::Unavailable,
            FailureKind::Timeout => Kind::Timeout,
            FailureKind::ContextTooLong => Kind::ContextTooLong,
            FailureKind::ContentBlocked => Kind::ContentBlocked,
            FailureKind::ModelNotFound => Kind::ModelNotFound,
            FailureKind::InvalidRequest => Kind::InvalidRequest,
            FailureKind::MalformedAnswer => Kind::MalformedAnswer,
            FailureKind::Unsupported => Kind::Unsupported,
            FailureKind::Other(_) => Kind::Other,
        };
        let fault = match failure.fault {
            Fault::Caller => crate::Fault::Caller,
            Fault::Vendor => crate::Fault::Vendor,
            Fault::Transport => crate::Fault::Transport,
            // The vendor refuses the account this host calls with: its key, its limits.
            Fault::Host => crate::Fault::Host,
            Fault::Plugin => crate::Fault::Plugin,
        };
        Self {
            kind,
            fault,
            message: match failure.message.trim().is_empty() {
                true => "The adapter gave a failure without saying why.".to_owned(),
                false => failure.message,
            },
            code: failure.code,
            vendor_type: failure.type_,
            param: failure.param,
            status: failure.status,
            retry_after: failure.retry_after_ms.map(std::time::Duration::from_millis),
            vendor_request_id: failure.request_id,
            attempts: None,
        }
    }
}

/// Nothing asked for: what the vendor does by itself.
impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_output_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            presence_penalty: None,
            seed: None,
            stop: Vec::new(),
            choices: None,
            logprobs: None,
        }
    }
}

/// Nothing counted.
impl Default for Usage {
    fn default() -> Self {
        Self {
            input: None,
            cache_read: None,
            cache_write: None,
            output: None,
            reasoning: None,
            units: Vec::new(),
        }
    }
}
