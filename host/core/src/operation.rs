//! What a caller wants, as the host holds it: with the real content, before any adapter sees it.
//!
//! Surfaces make these from their dialect; [`crate::content`] turns them into the contract's types,
//! with a mark in the place of each piece of content. Fields mean what `adapter.wit` says they
//! mean; types differ only where the contract has marks.

mod texts;

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{
    ids::ModelName,
    metering::{
        Tokens,
        estimate::{Estimator, Family},
    },
    routing::Needs,
};

pub use crate::contract::{Format, MediaKind, Reasoning, Role, Sampling, Schema, ToolChoice};

/// Text of a prompt. Shared, because every attempt lowers the same request again.
pub type Text = Arc<str>;

/// JSON that passes through unread. Shared for the same reason.
pub type Json = Arc<RawValue>;

#[derive(Clone, Debug)]
pub enum Operation {
    Chat(Arc<Chat>),
    Embed(Arc<Embed>),
    ListModels,
    Probe,
    /// The tokens of a prompt, without an answer. The contract has no case for it yet.
    CountTokens(Arc<CountTokens>),
}

impl Operation {
    /// Its name in the contract, where nobody may be billed for it: the host asks it of its own accord.
    pub fn free(&self) -> Option<&'static str> {
        match self {
            Self::ListModels => Some("list-models"),
            Self::Probe => Some("probe"),
            Self::Chat(_) | Self::Embed(_) | Self::CountTokens(_) => None,
        }
    }

    /// The same, asked of a model of this name. Costs nothing where it has that name already.
    #[must_use]
    pub fn of_model(&self, model: &ModelName) -> Self {
        match self {
            Self::Chat(chat) if chat.model != *model => {
                Self::Chat(Arc::new(Chat { model: model.clone(), ..Chat::clone(chat) }))
            }
            Self::Embed(embed) if embed.model != *model => {
                Self::Embed(Arc::new(Embed { model: model.clone(), ..Embed::clone(embed) }))
            }
            Self::CountTokens(count) if count.model != *model => {
                let count = CountTokens { model: model.clone(), ..CountTokens::clone(count) };
                Self::CountTokens(Arc::new(count))
            }
            same => same.clone(),
        }
    }
}

/// A request for a count, in the protocol of a vendor that counts.
#[derive(Clone, Debug)]
pub struct CountTokens {
    pub model: ModelName,
    /// The request's body without its model. All of it is content.
    pub fields: Vec<Field>,
}

/// Which protocol the caller spoke; adapters are told its name in the contract's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAiChat,
    OpenAiResponses,
    AnthropicMessages,
    Ollama,
    /// A caller of this library.
    Keyward,
}

impl Dialect {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::AnthropicMessages => "anthropic-messages",
            Self::Ollama => "ollama",
            Self::Keyward => "keyward",
        }
    }
}

/// A field the host doesn't know, as the caller wrote it.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub value: Json,
}

#[derive(Clone, Debug)]
pub struct Chat {
    pub model: ModelName,
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    pub format: Format,
    pub sampling: Sampling,
    pub reasoning: Option<Reasoning>,
    pub stream: bool,
    pub dialect: Dialect,
    pub extra: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub role: Role,
    /// For [`Role::Tool`]: which call this answers.
    pub answers: Option<ToolAnswer>,
    pub name: Option<Text>,
    pub parts: Vec<Part>,
    pub extra: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct ToolAnswer {
    pub call_id: String,
    /// Empty if the caller gave none: lowering then looks for the call it answers.
    pub tool: String,
    pub is_error: bool,
}

#[derive(Clone, Debug)]
pub struct Part {
    pub body: PartBody,
    pub cache: Option<String>,
    pub extra: Vec<Field>,
}

impl From<PartBody> for Part {
    fn from(body: PartBody) -> Self {
        Self { body, cache: None, extra: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub enum PartBody {
    Text(Text),
    Media(Media),
    ToolCall(ToolCall),
    Thinking { text: Text, signature: Option<Text> },
    RedactedThinking(Text),
    Refusal(Text),
    Other { kind: String, value: Json },
}

#[derive(Clone, Debug)]
pub struct Media {
    pub kind: MediaKind,
    pub media_type: String,
    pub source: MediaSource,
    pub name: Option<Text>,
    pub detail: Option<String>,
}

#[derive(Clone, Debug)]
pub enum MediaSource {
    /// Standard base64 with padding; checked by the surface that took it in.
    Base64(Text),
    Url(Text),
    FileId(String),
}

#[derive(Clone, Debug)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// A JSON value, nearly always an object.
    pub arguments: Json,
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema as text, or empty.
    pub parameters: String,
    pub strict: Option<bool>,
    /// Empty for a function.
    pub kind: String,
    pub cache: Option<String>,
    pub extra: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Embed {
    pub model: ModelName,
    pub inputs: Vec<EmbedInput>,
    pub dimensions: Option<u32>,
    /// Vectors are wanted as base64 of little-endian 32-bit floats.
    pub base64: bool,
    pub purpose: Option<String>,
    pub dialect: Dialect,
    pub extra: Vec<Field>,
}

#[derive(Clone, Debug)]
pub enum EmbedInput {
    Text(Text),
    /// A JSON array of token numbers.
    Tokens(Json),
}

impl Chat {
    /// Tokens that the prompt is expected to take, its tools included. Images and files are left
    /// out: vendors count them by rules of their own.
    pub fn expected_tokens(&self) -> Tokens {
        let mut estimator = Estimator::new(Family::of(self.model.as_str()));
        for part in self.messages.iter().flat_map(|message| &message.parts) {
            estimator.add(part.body.text());
        }
        for tool in &self.tools {
            estimator.add(tool.description.as_deref().unwrap_or_default());
            estimator.add(&tool.parameters);
        }
        Tokens(estimator.tokens())
    }
}

impl Chat {
    /// What it asks of a model beyond text.
    pub fn needs(&self) -> Needs {
        let image = |part: &Part| match &part.body {
            PartBody::Media(media) => matches!(media.kind, MediaKind::Image),
            _ => false,
        };
        Needs {
            tools: !self.tools.is_empty(),
            images: self.messages.iter().flat_map(|message| &message.parts).any(image),
            json_schema: matches!(self.format, Format::Schema(_)),
        }
    }
}

impl Embed {
    /// Tokens that all inputs are expected to take.
    pub fn expected_tokens(&self) -> Tokens {
        let mut estimator = Estimator::new(Family::of(self.model.as_str()));
        let mut counted = 0;
        for input in &self.inputs {
            match input {
                EmbedInput::Text(text) => estimator.add(text),
                EmbedInput::Tokens(tokens) => {
                    counted +=
                        memchr::memchr_iter(b',', tokens.get().as_bytes()).count() as u64 + 1;
                }
            }
        }
        Tokens(estimator.tokens().saturating_add(counted))
    }
}

impl PartBody {
    /// What of it is counted as text to the model.
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::RedactedThinking(text) | Self::Refusal(text) => text,
            Self::Thinking { text, .. } => text,
            Self::ToolCall(call) => call.arguments.get(),
            Self::Other { value, .. } => value.get(),
            Self::Media(_) => "",
        }
    }
}
