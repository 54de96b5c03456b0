//! What makes two requests the same.
//!
//! The key is the SHA-256 of everything that the answer hangs on. Each value is written with its
//! length or a number for its kind before it, so that no two requests are written alike; every
//! structure is taken apart field by field without a rest, so that a new field doesn't compile until
//! it is thought of here. Left out is only whether the answer is streamed: it is made of the same events.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::{
    contract::{Format, MediaKind, Reasoning, Role, Sampling, Schema, ToolChoice},
    operation::{
        Chat, Embed, EmbedInput, Field, Json, Media, MediaSource, Message, Operation, Part,
        PartBody, Tool, ToolAnswer, ToolCall,
    },
};

/// Bytes of a request that are hashed: some milliseconds. Longer ones are no cheap questions that many
/// ask again.
pub(crate) const MAX_KEYED: usize = 1 << 20;

/// Who asks whom.
pub(crate) struct Asker<'a> {
    /// [`crate::catalog::Provider::binding`]: which provider, as it is configured, with which adapter.
    pub provider: u64,
    pub caller: &'a Arc<str>,
    pub sensitive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key([u8; 32]);

/// The key of a request. None for what has no answer to keep, and for what is too long.
pub(crate) fn of(asker: &Asker<'_>, operation: &Operation) -> Option<Key> {
    let mut to = Writer::for_asker(asker);
    match operation {
        Operation::Chat(chat) => {
            to.tag(0);
            chat.write(&mut to);
        }
        Operation::Embed(embed) => {
            to.tag(1);
            embed_settings(embed, &mut to);
            embed.inputs.write(&mut to);
        }
        Operation::ListModels | Operation::Probe | Operation::CountTokens(_) => return None,
    }
    to.finish()
}

/// The key of everything about an embeddings request but its inputs. None for what is too long.
pub(crate) fn of_settings(asker: &Asker<'_>, embed: &Embed) -> Option<Key> {
    let mut to = Writer::for_asker(asker);
    to.tag(2);
    embed_settings(embed, &mut to);
    to.finish()
}

fn embed_settings(embed: &Embed, to: &mut Writer) {
    // The inputs are the caller's to write, or not to.
    let Embed { model, inputs: _, dimensions, base64, purpose, dialect, extra } = embed;
    model.as_str().write(to);
    dimensions.write(to);
    base64.write(to);
    purpose.write(to);
    dialect.as_str().write(to);
    extra.write(to);
}

struct Writer {
    hash: Sha256,
    /// Bytes that may still be written. None after more were.
    left: Option<usize>,
}

impl Writer {
    fn for_asker(asker: &Asker<'_>) -> Self {
        let Asker { provider, caller, sensitive } = asker;
        let mut to = Self { hash: Sha256::new(), left: Some(MAX_KEYED) };
        to.raw(&provider.to_le_bytes());
        caller.write(&mut to);
        sensitive.write(&mut to);
        to
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.left = self.left.and_then(|left| left.checked_sub(bytes.len()));
        if self.left.is_some() {
            self.hash.update(bytes);
        }
    }

    fn tag(&mut self, tag: u8) {
        self.raw(&[tag]);
    }

    fn finish(self) -> Option<Key> {
        self.left.map(|_| Key(self.hash.finalize().into()))
    }
}

/// What can be written so that nothing else is written alike.
trait Keyed {
    fn write(&self, to: &mut Writer);
}

impl<T: Keyed + ?Sized> Keyed for &T {
    fn write(&self, to: &mut Writer) {
        T::write(self, to);
    }
}

impl<T: Keyed + ?Sized> Keyed for Arc<T> {
    fn write(&self, to: &mut Writer) {
        T::write(self, to);
    }
}

impl<T: Keyed> Keyed for Option<T> {
    fn write(&self, to: &mut Writer) {
        match self {
            None => to.tag(0),
            Some(value) => {
                to.tag(1);
                value.write(to);
            }
        }
    }
}

impl<T: Keyed> Keyed for Vec<T> {
    fn write(&self, to: &mut Writer) {
        to.raw(&(self.len() as u64).to_le_bytes());
        for value in self {
            value.write(to);
        }
    }
}

impl Keyed for str {
    fn write(&self, to: &mut Writer) {
        to.raw(&(self.len() as u64).to_le_bytes());
        to.raw(self.as_bytes());
    }
}

impl Keyed for String {
    fn write(&self, to: &mut Writer) {
        self.as_str().write(to);
    }
}

impl Keyed for serde_json::value::RawValue {
    fn write(&self, to: &mut Writer) {
        self.get().write(to);
    }
}

impl Keyed for bool {
    fn write(&self, to: &mut Writer) {
        to.tag(u8::from(*self));
    }
}

impl Keyed for u32 {
    fn write(&self, to: &mut Writer) {
        to.raw(&self.to_le_bytes());
    }
}

impl Keyed for i64 {
    fn write(&self, to: &mut Writer) {
        to.raw(&self.to_le_bytes());
    }
}

impl Keyed for f64 {
    fn write(&self, to: &mut Writer) {
        to.raw(&self.to_bits().to_le_bytes());
    }
}

impl Keyed for Field {
    fn write(&self, to: &mut Writer) {
        let Self { name, value } = self;
        name.write(to);
        value.write(to);
    }
}

impl Keyed for Chat {
    fn write(&self, to: &mut Writer) {
        let Self {
            model,
            messages,
            tools,
            tool_choice,
            parallel_tool_calls,
            format,
            sampling,
            reasoning,
            stream: _,
            dialect,
            extra,
        } = self;
        model.as_str().write(to);
        messages.write(to);
        tools.write(to);
        tool_choice.write(to);
        parallel_tool_calls.write(to);
        format.write(to);
        sampling.write(to);
        reasoning.write(to);
        dialect.as_str().write(to);
        extra.write(to);
    }
}

impl Keyed for Message {
    fn write(&self, to: &mut Writer) {
        let Self { role, answers, name, parts, extra } = self;
        role.write(to);
        answers.write(to);
        name.write(to);
        parts.write(to);
        extra.write(to);
    }
}

impl Keyed for Role {
    fn write(&self, to: &mut Writer) {
        to.tag(match self {
            Self::System => 0,
            Self::Developer => 1,
            Self::User => 2,
            Self::Assistant => 3,
            Self::Tool => 4,
        });
    }
}

impl Keyed for ToolAnswer {
    fn write(&self, to: &mut Writer) {
        let Self { call_id, tool, is_error } = self;
        call_id.write(to);
        tool.write(to);
        is_error.write(to);
    }
}

impl Keyed for Part {
    fn write(&self, to: &mut Writer) {
        let Self { body, cache, extra } = self;
        body.write(to);
        cache.write(to);
        extra.write(to);
    }
}

impl Keyed for PartBody {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Text(text) => {
                to.tag(0);
                text.write(to);
            }
            Self::Media(media) => {
                to.tag(1);
                media.write(to);
            }
            Self::ToolCall(call) => {
                to.tag(2);
                call.write(to);
            }
            Self::Thinking { text, signature } => {
                to.tag(3);
                text.write(to);
                signature.write(to);
            }
            Self::RedactedThinking(data) => {
                to.tag(4);
                data.write(to);
            }
            Self::Refusal(text) => {
                to.tag(5);
                text.write(to);
            }
            Self::Other { kind, value } => {
                to.tag(6);
                kind.write(to);
                value.write(to);
            }
        }
    }
}

impl Keyed for Media {
    fn write(&self, to: &mut Writer) {
        let Self { kind, media_type, source, name, detail } = self;
        to.tag(match kind {
            MediaKind::Image => 0,
            MediaKind::Audio => 1,
            MediaKind::Video => 2,
            MediaKind::File => 3,
        });
        media_type.write(to);
        match source {
            MediaSource::Base64(data) => {
                to.tag(0);
                data.write(to);
            }
            MediaSource::Url(url) => {
                to.tag(1);
                url.write(to);
            }
            MediaSource::FileId(id) => {
                to.tag(2);
                id.write(to);
            }
        }
        name.write(to);
        detail.write(to);
    }
}

impl Keyed for ToolCall {
    fn write(&self, to: &mut Writer) {
        let Self { id, name, arguments } = self;
        id.write(to);
        name.write(to);
        arguments.write(to);
    }
}

impl Keyed for Tool {
    fn write(&self, to: &mut Writer) {
        let Self { name, description, parameters, strict, kind, cache, extra } = self;
        name.write(to);
        description.write(to);
        parameters.write(to);
        strict.write(to);
        kind.write(to);
        cache.write(to);
        extra.write(to);
    }
}

impl Keyed for ToolChoice {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Auto => to.tag(0),
            Self::None => to.tag(1),
            Self::Required => to.tag(2),
            Self::Tool(name) => {
                to.tag(3);
                name.write(to);
            }
        }
    }
}

impl Keyed for Format {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Text => to.tag(0),
            Self::Json => to.tag(1),
            Self::Schema(Schema { name, description, schema, strict }) => {
                to.tag(2);
                name.write(to);
                description.write(to);
                schema.write(to);
                strict.write(to);
            }
        }
    }
}

impl Keyed for Sampling {
    fn write(&self, to: &mut Writer) {
        let Self {
            max_output_tokens,
            temperature,
            top_p,
            top_k,
            frequency_penalty,
            presence_penalty,
            seed,
            stop,
            choices,
            logprobs,
        } = self;
        max_output_tokens.write(to);
        temperature.write(to);
        top_p.write(to);
        top_k.write(to);
        frequency_penalty.write(to);
        presence_penalty.write(to);
        seed.write(to);
        stop.write(to);
        choices.write(to);
        logprobs.write(to);
    }
}

impl Keyed for Reasoning {
    fn write(&self, to: &mut Writer) {
        let Self { effort, budget_tokens } = self;
        effort.write(to);
        budget_tokens.write(to);
    }
}

impl Keyed for EmbedInput {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Text(text) => {
                to.tag(0);
                text.write(to);
            }
            Self::Tokens(tokens) => {
                to.tag(1);
                let tokens: &Json = tokens;
                tokens.write(to);
            }
        }
    }
}
