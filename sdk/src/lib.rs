//! Write Keyward adapters in Rust.
//!
//! An adapter teaches Keyward one vendor's protocol. It is pure computation: operations and vendor
//! bytes go in, requests and events come out; sending, framing, time and credentials are the
//! host's. An author implements [`Adapter`], says [`export_adapter!`] once, and tests natively with
//! recorded exchanges (`replay`). The same code then runs as a WebAssembly component.
//!
//! - [`contract`]: the types of `adapter.wit`, with conveniences added here.
//! - [`Adapter`] and [`Output`]: what an author implements, and where its answers go.
//! - [`json`]: bodies and answers with little CPU; instances are fresh for every exchange.
//! - [`describe`]: short forms for the descriptor.
//! - [`openai_wire`]: the shape that OpenAI and many others speak, to build on.
//! - `replay` (native only): recorded exchanges as tests.
//!
//! Content is held by the host unless the operator grants otherwise: [`Text::value`] is then a
//! mark. Write it where the content belongs, in the body, and never look inside.

// The generated export macro names this crate by its public name, also from within.
extern crate self as keyward_sdk;

mod adapter;
mod alloc;
pub mod contract;
pub mod describe;
mod failure;
pub mod json;
pub mod openai_wire;
mod output;
#[cfg(not(target_arch = "wasm32"))]
pub mod replay;
mod request;
pub mod time;

pub use adapter::{Adapter, Component, Exchange};
pub use contract::{
    Annotation, Body, Chat, Context, Embed, EmbedEncoding, EmbedInput, Event, FailureKind, Fault,
    Field, FinishReason, Format, Frame, Framing, Header, Media, MediaKind, MediaSource, Message,
    Method, Model, Operation, Part, PartBody, RateLimit, Reasoning, ResponseHead, Role, Sampling,
    Schema, Text, Thinking, Tool, ToolAnswer, ToolCall, ToolChoice, Unit, Usage, Value, Vector,
    VendorRequest,
};
pub use failure::Failure;
pub use keyward_contract::{self as descriptor, Descriptor};
pub use output::Output;
pub use request::path_segment;

#[doc(hidden)]
pub mod __private {
    pub use wit_bindgen;
}
