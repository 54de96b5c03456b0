//! {{title}} for Keyward, through its OpenAI-like API.
//!
//! The wire shape lives in the SDK. What differs from it goes into [`PROFILE`]; what differs more
//! than that is done here, before the request is sent or after an answer came.

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, ResponseHead, describe,
    descriptor, export_adapter,
    openai_wire::{self, Decoder, Profile},
};

export_adapter!({{Type}});

/// How {{title}} differs from what nearly every server of this shape understands. Name what it
/// lacks, as in `seed: None`: callers who ask for it are then told, instead of an error.
const PROFILE: Profile = Profile { ..Profile::COMPATIBLE };

/// One operation on its way. The request is sent; this reads the answer.
pub struct {{Type}} {
    decoder: Decoder,
    now_ms: u64,
}

impl Adapter for {{Type}} {
    fn describe() -> Descriptor {
        Descriptor {
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: "{{title}}".to_owned(),
            summary: "Chat and embeddings of {{title}}.".to_owned(),
            kind: descriptor::ProviderKind::{{kind}},
            // What this was written from: `describe::document("API reference", "https://...", "read 2026-01-31")`.
            documents: Vec::new(),
            origins: vec![describe::api("{{endpoint}}")],
            {{auth}}
            response_headers: describe::strings(&["x-request-id", "x-ratelimit-*"]),
            models: vec![describe::model("example-1", "Example", 0, &["chat", "tools"])],
            operations: describe::ALL_OPERATIONS.to_vec(),
            ..Descriptor::default()
        }
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let (request, decoder) = openai_wire::start(&operation, &PROFILE, out)?;
        out.send(request);
        Ok(Self { decoder, now_ms: context.now_ms })
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        openai_wire::all_rate_limits(head, self.now_ms, out);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        self.decoder.frame(&frame, out)
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        self.decoder.body(head, body, out)
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        self.decoder.end(out)
    }
}
