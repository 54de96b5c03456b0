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
//! - [`schema`]: JSON Schema for vendors that enforce a part of it.
//! - [`openai_wire`]: the shape that OpenAI and many others speak, to build on.
//! - `replay` (native only): recorded exchanges as tests.
//!
//! Content is held by the host unless the operator grants otherwise: [`Text::value`] is then a
//! mark. Write it where the content belongs, in the body, and never look inside.
//!
//! ```
//! use keyward_sdk::{descriptor::*, *};
//!
//! /// A vendor that completes one prompt with one text.
//! struct Parrot;
//!
//! #[derive(serde::Serialize)]
//! struct Request<'a> {
//!     model: &'a str,
//!     prompt: &'a Text,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Answer {
//!     completion: String,
//! }
//!
//! impl Adapter for Parrot {
//!     fn describe() -> Descriptor {
//!         Descriptor {
//!             name: "parrot".into(),
//!             version: "0.1.0".into(),
//!             title: "Parrot".into(),
//!             origins: vec![describe::api("https://api.parrot.example/v1")],
//!             auth: vec![describe::api_key(AuthScheme::Bearer)],
//!             credentials: vec![describe::api_key_credential("", "PARROT_API_KEY")],
//!             operations: vec![OperationKind::Chat],
//!             ..Descriptor::default()
//!         }
//!     }
//!
//!     fn start(operation: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
//!         let Operation::Chat(chat) = &operation else {
//!             return Err(Failure::unsupported("Parrots only chat."));
//!         };
//!         let last = chat.messages.last().and_then(|message| message.parts.last());
//!         let Some(Part { body: PartBody::Text(prompt), .. }) = last else {
//!             return Err(Failure::invalid("messages", "The last part must be text."));
//!         };
//!         out.send(VendorRequest::post("/complete", &Request { model: &chat.model, prompt })?);
//!         Ok(Self)
//!     }
//!
//!     fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
//!         let answer: Answer = json::parse(&frame.data)?;
//!         out.text(0, answer.completion);
//!         out.finish(0, FinishReason::Stop);
//!         Ok(())
//!     }
//!
//!     fn body(&mut self, head: &ResponseHead, body: &str, _: &mut Output) -> Result<(), Failure> {
//!         Err(Failure::from_status(head.status, body))
//!     }
//!
//!     fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
//!         out.done();
//!         Ok(())
//!     }
//! }
//!
//! export_adapter!(Parrot);
//! # replay::check_descriptor::<Parrot>();
//! ```

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
pub mod schema;
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
