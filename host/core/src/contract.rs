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
pub use bindings::{Provider, ProviderPre};
