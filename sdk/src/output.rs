//! Where an adapter writes what it has to say.
//!
//! A builder over the contract's outputs: one method for each kind of event. Order is kept, and
//! what follows [`Output::done`] or a failure is dropped, so a last output is always last.

use crate::Failure;
use crate::contract::{
    self, Annotation, Attribute, Embedding, Event, Field, Finish, FinishReason, MediaKind,
    MediaOutput, Model, RateLimit, Started, TextDelta, ToolArguments, ToolCallStart, Usage, Vector,
    VendorRequest, Warning,
};

#[derive(Debug, Default)]
pub struct Output {
    outputs: Vec<contract::Output>,
    over: bool,
}

impl Output {
    /// Sends a request. One at a time: the next may be sent from [`crate::Adapter::end`].
    pub fn send(&mut self, request: VendorRequest) {
        self.push(contract::Output::Send(request));
    }

    /// Asks for [`crate::Adapter::timer`] after so many milliseconds.
    pub fn sleep(&mut self, milliseconds: u32) {
        self.push(contract::Output::Sleep(milliseconds));
    }

    /// The exchange succeeded.
    pub fn done(&mut self) {
        self.push(contract::Output::Done);
        self.over = true;
    }

    /// The exchange failed. Returning `Err` does the same and adds status and request id. A vendor's
    /// empty message is replaced by one that says so.
    pub fn failed(&mut self, failure: Failure) {
        self.push(contract::Output::Failed(failure.with_words().into()));
        self.over = true;
    }

    /// True after `done` or `failed`.
    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn event(&mut self, event: Event) {
        self.push(contract::Output::Event(event));
    }

    /// The answer begins: the vendor's id of it and the model's name as the vendor gives it.
    pub fn started(&mut self, id: Option<&str>, model: Option<&str>) {
        let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        self.event(Event::Started(Started { id: owned(id), model: owned(model) }));
    }

    pub fn text(&mut self, choice: u32, text: impl Into<String>) {
        self.event(Event::Text(TextDelta { choice, text: text.into() }));
    }

    pub fn refusal(&mut self, choice: u32, text: impl Into<String>) {
        self.event(Event::Refusal(TextDelta { choice, text: text.into() }));
    }

    pub fn thinking(&mut self, choice: u32, text: impl Into<String>) {
        self.event(Event::Thinking(TextDelta { choice, text: text.into() }));
    }

    pub fn thinking_signature(&mut self, choice: u32, signature: impl Into<String>) {
        self.event(Event::ThinkingSignature(TextDelta { choice, text: signature.into() }));
    }

    pub fn redacted_thinking(&mut self, choice: u32, data: impl Into<String>) {
        self.event(Event::RedactedThinking(TextDelta { choice, text: data.into() }));
    }

    /// A tool call begins. An empty `id` makes the host invent one.
    pub fn tool_call(
        &mut self,
        choice: u32,
        index: u32,
        id: impl Into<String>,
        name: impl Into<String>,
    ) {
        let (id, name) = (id.into(), name.into());
        self.event(Event::ToolCall(ToolCallStart { choice, index, id, name }));
    }

    pub fn tool_arguments(&mut self, choice: u32, index: u32, fragment: impl Into<String>) {
        let fragment = fragment.into();
        self.event(Event::ToolArguments(ToolArguments { choice, index, fragment }));
    }

    /// A citation in the vendor's JSON.
    pub fn citation(&mut self, choice: u32, json: impl Into<String>) {
        self.event(Event::Citation(Annotation { choice, json: json.into() }));
    }

    /// Log probabilities in the vendor's JSON.
    pub fn logprobs(&mut self, choice: u32, json: impl Into<String>) {
        self.event(Event::Logprobs(Annotation { choice, json: json.into() }));
    }

    pub fn media(
        &mut self,
        choice: u32,
        kind: MediaKind,
        media_type: impl Into<String>,
        base64: impl Into<String>,
    ) {
        let (media_type, base64) = (media_type.into(), base64.into());
        self.event(Event::Media(MediaOutput { choice, kind, media_type, base64 }));
    }

    /// Counts of the whole exchange so far; a later call replaces the fields it gives.
    pub fn usage(&mut self, usage: Usage) {
        self.event(Event::Usage(usage));
    }

    pub fn finish(&mut self, choice: u32, reason: FinishReason) {
        self.event(Event::Finish(Finish { choice, reason, stop_sequence: None }));
    }

    /// The model wrote one of the caller's stop sequences and ended there.
    pub fn finish_at(&mut self, choice: u32, stop_sequence: impl Into<String>) {
        let stop_sequence = Some(stop_sequence.into());
        self.event(Event::Finish(Finish { choice, reason: FinishReason::Stop, stop_sequence }));
    }

    pub fn embedding(&mut self, index: u32, vector: Vector) {
        self.event(Event::Embedding(Embedding { index, vector }));
    }

    pub fn model(&mut self, model: Model) {
        self.event(Event::Model(model));
    }

    pub fn rate_limit(&mut self, limit: RateLimit) {
        self.event(Event::RateLimit(limit));
    }

    /// A field of the answer that the contract doesn't know; `json` is its JSON text.
    pub fn attribute(&mut self, name: impl Into<String>, json: impl Into<String>) {
        self.event(Event::Attribute(Attribute { name: name.into(), json: json.into() }));
    }

    /// Something the caller asked for was left out. `subject` is the contract's name for it
    /// ("sampling.seed").
    pub fn dropped(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        self.warning("dropped", subject, message);
    }

    /// Fields that the vendor has no place for were left out, each of them.
    pub fn dropped_fields(&mut self, fields: &[Field], message: &str) {
        for field in fields {
            self.dropped(format!("extra.{}", field.name), message);
        }
    }

    /// Something the caller asked for was changed.
    pub fn changed(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        self.warning("changed", subject, message);
    }

    /// Something the vendor can't do was done in another way.
    pub fn emulated(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        self.warning("emulated", subject, message);
    }

    fn warning(&mut self, code: &str, subject: impl Into<String>, message: impl Into<String>) {
        let (code, subject, message) = (code.to_owned(), subject.into(), message.into());
        self.event(Event::Warning(Warning { code, subject, message }));
    }

    fn push(&mut self, output: contract::Output) {
        if !self.over {
            self.outputs.push(output);
        }
    }

    pub fn into_outputs(self) -> Vec<contract::Output> {
        self.outputs
    }
}

impl Usage {
    /// No counts at all; fill in what the vendor gave.
    pub fn none() -> Self {
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

impl Model {
    /// A model of which only the id is known.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: None,
            context_window: None,
            max_output_tokens: None,
            capabilities: Vec::new(),
            created: None,
            extra: "{}".to_owned(),
        }
    }
}
