//! How vendors of the OpenAI shape differ.
//!
//! One field for each difference that their documentation names. A caller's wish that the profile
//! has no place for is dropped with a warning, done in another way with a warning, or refused; it
//! is never lost without a word.

/// How a vendor differs from OpenAI. [`Profile::OPENAI`] is OpenAI itself, [`Profile::COMPATIBLE`]
/// what nearly every server that copied it understands.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The member that limits the answer's tokens: "max_completion_tokens" or "max_tokens".
    pub max_tokens: &'static str,
    /// The member for the seed, if there is one.
    pub seed: Option<&'static str>,
    /// Knows the role `developer`; it is sent as `system` otherwise.
    pub developer: bool,
    /// Knows `messages[].name`.
    pub names: bool,
    /// Takes the content of a message only as one string, where it is all text. Several texts are
    /// joined by line breaks, and a message of calls alone has an empty string.
    pub plain_texts: bool,
    /// Knows `stream_options.include_usage`.
    pub stream_usage: bool,
    /// Knows `top_k`.
    pub top_k: bool,
    /// Knows `n`. More than one answer is refused otherwise.
    pub choices: bool,
    pub logprobs: LogProbabilities,
    /// Knows `parallel_tool_calls`.
    pub parallel_tool_calls: bool,
    /// Knows `strict` in tools and schemas.
    pub strict: bool,
    pub structured: StructuredOutput,
    pub reasoning: ReasoningForm,
    /// What becomes of the model's earlier thinking in a conversation.
    pub earlier: Earlier,
    /// Takes videos, as parts `video_url`.
    pub video: bool,
    /// Takes prompt-cache marks, as `cache_control` on parts.
    pub cache_marks: bool,
    /// Takes ids of tool calls only if they are nine letters and digits. Others are replaced, in
    /// the call and in its result alike.
    pub short_call_ids: bool,
    pub embeddings: EmbeddingFormat,
    /// The member for the length of embeddings, if there is one.
    pub dimensions: Option<&'static str>,
}

/// How log probabilities are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogProbabilities {
    /// `logprobs: true`, and `top_logprobs` for alternatives.
    Switch,
    /// `logprobs: 1`, with the number of alternatives.
    Count,
    Unknown,
}

/// Which values of `response_format.type` the vendor knows. What it doesn't is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructuredOutput {
    /// "json_schema" and "json_object".
    Schema,
    /// The same, but `json_schema` is the schema itself, without a name around it.
    BareSchema,
    /// "json_schema" only: free JSON is asked for as a schema of any object.
    SchemaOnly,
    /// "json_object" only: a schema goes into the system text.
    Object,
    /// Neither: all of it goes into the system text.
    Nothing,
}

/// How reasoning is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningForm {
    /// `reasoning_effort`. Where thinking isn't turned off by the effort "none", `off` does it.
    Effort {
        off: Option<Off>,
    },
    /// `reasoning: {effort}` or `reasoning: {max_tokens}`.
    Object,
    Unknown,
}

/// A member that turns thinking off, and its JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Off {
    pub member: &'static str,
    pub json: &'static str,
}

/// What becomes of earlier thinking in the messages of the assistant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    Dropped,
    /// Sent back in this member of the message. With `beside_calls` the member is there, if need
    /// be empty, in every message that has tool calls.
    Member {
        name: &'static str,
        beside_calls: bool,
    },
    /// Sent back as parts of the type "thinking".
    Parts,
}

/// What is said about the encoding of embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingFormat {
    /// Base64 is always asked for: decoding thousands of decimal numbers in the sandbox costs more
    /// than the rest of the exchange.
    Base64,
    /// Numbers, unless the caller prefers base64.
    Floats,
    /// Nothing: the vendor doesn't know `encoding_format`.
    Unsaid,
}

impl Profile {
    pub const OPENAI: Self = Self {
        max_tokens: "max_completion_tokens",
        seed: Some("seed"),
        developer: true,
        names: true,
        plain_texts: false,
        stream_usage: true,
        top_k: false,
        choices: true,
        logprobs: LogProbabilities::Switch,
        parallel_tool_calls: true,
        strict: true,
        structured: StructuredOutput::Schema,
        reasoning: ReasoningForm::Effort { off: None },
        earlier: Earlier::Dropped,
        video: false,
        cache_marks: false,
        short_call_ids: false,
        embeddings: EmbeddingFormat::Base64,
        dimensions: Some("dimensions"),
    };

    pub const COMPATIBLE: Self = Self {
        max_tokens: "max_tokens",
        developer: false,
        embeddings: EmbeddingFormat::Floats,
        ..Self::OPENAI
    };
}
