//! Chats and embeddings as Ollama's bodies.
//!
//! Borrowed and written once. Ollama's messages have one text, so a message's texts are joined
//! while they are written; images go beside it. What Ollama would silently ignore is left out with
//! a warning here; what it can't take at all is refused.

use std::fmt;

use keyward_sdk::{
    Chat, Embed, EmbedInput, Failure, Field, Format, Framing, Media, MediaKind, MediaSource,
    Message, Output, Part, PartBody, Reasoning, Role, Schema, Text, Tool, ToolCall, ToolChoice,
    Value, VendorRequest,
    json::{Fields, Raw},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::settings::{Levels, Settings};

/// The caller's dialect whose unknown fields Ollama knows.
pub const DIALECT: &str = "ollama";

const UNKNOWN_FIELD: &str = "Ollama has no such field.";

const CACHES: &str = "Ollama caches prompts by itself.";

const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// The request for a chat; what had to be changed on the way goes to `out` as warnings.
///
/// # Errors
///
/// If Ollama can't do what is asked, or the request holds something that isn't JSON.
pub fn chat(chat: &Chat, settings: &Settings, out: &mut Output) -> Result<VendorRequest, Failure> {
    let sampling = &chat.sampling;
    if sampling.choices.is_some_and(|count| count > 1) {
        return Err(Failure::unsupported("Ollama gives one answer to a prompt, not several.")
            .with_param("sampling.choices"));
    }
    let native = chat.dialect == DIALECT;
    let extra = Extra::new(&chat.extra, native, out);
    let mut messages = Vec::with_capacity(chat.messages.len());
    for message in &chat.messages {
        messages.push(entry(message, native, out)?);
    }
    let request = ChatRequest {
        model: &chat.model,
        messages,
        tools: tools(chat, native, out),
        format: match &chat.format {
            Format::Text => None,
            Format::Json => Some(AnswerFormat::Json("json")),
            Format::Schema(Schema { schema, .. }) => Some(AnswerFormat::Schema(Raw(schema))),
        },
        think: chat.reasoning.as_ref().and_then(|wanted| think(wanted, chat, settings, out)),
        keep_alive: extra.unless("keep_alive", settings.keep_alive.as_deref().map(KeepAlive)),
        truncate: extra.unless("truncate", settings.long_prompts.cut()),
        shift: extra.unless("shift", settings.long_prompts.cut()),
        logprobs: sampling.logprobs.is_some(),
        top_logprobs: sampling.logprobs.filter(|&count| count > 0),
        options: Options {
            num_ctx: extra.unless_option("num_ctx", settings.num_ctx),
            num_predict: sampling.max_output_tokens,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            stop: &sampling.stop,
            extra: extra.options,
        },
        stream: chat.stream,
        extra: extra.members,
    };
    let request = VendorRequest::post("/api/chat", &request)?;
    Ok(request.framed(if chat.stream { Framing::Ndjson } else { Framing::Json }))
}

/// The request for embeddings, as above.
///
/// # Errors
///
/// As [`chat`], and for inputs that aren't text.
pub fn embed(
    embed: &Embed,
    settings: &Settings,
    out: &mut Output,
) -> Result<VendorRequest, Failure> {
    let mut input = Vec::with_capacity(embed.inputs.len());
    for wanted in &embed.inputs {
        let EmbedInput::Text(text) = wanted else {
            return Err(
                Failure::unsupported("Ollama embeds text, not token numbers.").with_param("inputs")
            );
        };
        input.push(text);
    }
    if embed.purpose.is_some() {
        out.dropped("purpose", "Ollama doesn't tell queries from documents.");
    }
    let extra = Extra::new(&embed.extra, embed.dialect == DIALECT, out);
    VendorRequest::post(
        "/api/embed",
        &EmbedRequest {
            model: &embed.model,
            input,
            truncate: extra.unless("truncate", settings.long_prompts.cut()),
            dimensions: embed.dimensions,
            keep_alive: extra.unless("keep_alive", settings.keep_alive.as_deref().map(KeepAlive)),
            options: Options {
                num_ctx: extra.unless_option("num_ctx", settings.num_ctx),
                extra: extra.options,
                ..Options::default()
            },
            extra: extra.members,
        },
    )
}

#[derive(Serialize)]
struct ChatRequest<'a> {
    model: &'a str,
    messages: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<AnswerFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<KeepAlive<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options<'a>,
    /// Always written: Ollama streams unless told not to.
    stream: bool,
    #[serde(flatten)]
    extra: Members<'a>,
}

#[derive(Serialize)]
struct EmbedRequest<'a> {
    model: &'a str,
    input: Vec<&'a Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<KeepAlive<'a>>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options<'a>,
    #[serde(flatten)]
    extra: Members<'a>,
}

#[derive(Serialize)]
struct Entry<'a> {
    role: &'static str,
    content: Joined<'a>,
    #[serde(skip_serializing_if = "Joined::is_empty")]
    thinking: Joined<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_call_id: &'a str,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a Value,
}

#[derive(Serialize)]
struct ToolEntry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: ToolFunction<'a>,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Raw<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnswerFormat<'a> {
    Json(&'static str),
    Schema(Raw<'a>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think<'a> {
    Switch(bool),
    Level(&'a str),
}

#[derive(Default, PartialEq, Serialize)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_ctx: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(flatten)]
    extra: Members<'a>,
}

/// The caller's unknown fields, by the object they belong to: those of `options` come under names
/// such as "options.min_p".
struct Extra<'a> {
    members: Members<'a>,
    options: Members<'a>,
}

/// Members that the request writes itself; a caller's field of the same name is not repeated.
const OWN_MEMBERS: [&str; 9] = [
    "model",
    "messages",
    "input",
    "tools",
    "format",
    "think",
    "stream",
    "logprobs",
    "top_logprobs",
];

/// As they are named in the object.
#[derive(Default, PartialEq)]
struct Members<'a>(Vec<(&'a str, &'a Field)>);

impl<'a> Extra<'a> {
    fn new(fields: &'a [Field], native: bool, out: &mut Output) -> Self {
        let (mut members, mut options) = (Members::default(), Members::default());
        for field in fields {
            let name = field.name.as_str();
            if !native {
                out.dropped(format!("extra.{name}"), UNKNOWN_FIELD);
            } else if let Some(name) = name.strip_prefix("options.") {
                options.0.push((name, field));
            } else if name == "options" {
                let message = "Options can be passed on one by one, under names such as \
                               \"options.min_p\".";
                out.dropped("extra.options", message);
            } else if !OWN_MEMBERS.contains(&name) {
                members.0.push((name, field));
            }
        }
        Self { members, options }
    }

    /// The operator's wish, unless the caller has one of its own.
    fn unless<T>(&self, name: &str, wish: Option<T>) -> Option<T> {
        wish.filter(|_| !self.members.has(name))
    }

    fn unless_option<T>(&self, name: &str, wish: Option<T>) -> Option<T> {
        wish.filter(|_| !self.options.has(name))
    }
}

impl Members<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, field) in &self.0 {
            map.serialize_entry(name, &field.value)?;
        }
        map.end()
    }
}

impl Options<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Texts written as one string.
#[derive(Default)]
struct Joined<'a>(Vec<&'a str>);

impl Joined<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, text) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(text)?;
        }
        Ok(())
    }
}

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => serializer.serialize_str(""),
            [text] => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

/// A duration as "10m", or a number of seconds: Ollama refuses "300" as a string.
struct KeepAlive<'a>(&'a str);

impl Serialize for KeepAlive<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.trim().parse::<i64>() {
            Ok(seconds) => serializer.serialize_i64(seconds),
            Err(_) => serializer.serialize_str(self.0),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn entry<'a>(message: &'a Message, native: bool, out: &mut Output) -> Result<Entry<'a>, Failure> {
    let role = match message.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    if message.name.is_some() {
        out.dropped("messages.name", "Ollama's messages have no names.");
    }
    let mut entry = Entry {
        role,
        content: Joined::default(),
        thinking: Joined::default(),
        images: Vec::new(),
        tool_calls: Vec::new(),
        tool_name: "",
        tool_call_id: "",
        extra: fields(&message.extra, native, out),
    };
    if let Some(answers) = &message.answers {
        (entry.tool_name, entry.tool_call_id) = (&answers.tool, &answers.call_id);
        if answers.is_error {
            out.dropped("messages.answers.is-error", "Ollama's models see the result's text only.");
        }
    }
    for part in &message.parts {
        add(part, &mut entry, out)?;
    }
    Ok(entry)
}

fn add<'a>(part: &'a Part, entry: &mut Entry<'a>, out: &mut Output) -> Result<(), Failure> {
    match &part.body {
        PartBody::Text(text) | PartBody::Refusal(text) => entry.content.0.push(&text.value),
        PartBody::Media(media) => entry.images.push(image(media, out)?),
        PartBody::ToolCall(ToolCall { id, name, arguments }) => {
            entry.tool_calls.push(Call { id, function: CalledFunction { name, arguments } });
        }
        PartBody::Thinking(thinking) => entry.thinking.0.push(&thinking.text.value),
        PartBody::RedactedThinking(_) => {
            out.dropped("messages.redacted-thinking", "Ollama can't read encrypted thinking.");
        }
        PartBody::Other(other) => {
            let message = format!("Ollama doesn't know parts of type \"{}\".", other.kind);
            out.dropped("messages.parts", message);
        }
    }
    if part.cache.is_some() {
        out.dropped("messages.cache", CACHES);
    }
    // A part is no object of its own here, so its unknown fields have no place in any dialect.
    fields(&part.extra, false, out);
    Ok(())
}

fn image<'a>(media: &'a Media, out: &mut Output) -> Result<&'a Text, Failure> {
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        out.dropped("messages.media.detail", "Ollama's models see images as they are.");
    }
    let refuse = |message: &str| Err(Failure::unsupported(message).with_param("messages.parts"));
    match (media.kind, &media.source) {
        (MediaKind::Image, MediaSource::Base64(data)) => Ok(data),
        (MediaKind::Image, _) => refuse(
            "Ollama takes images inline only (base64): it fetches none by URL and keeps no files.",
        ),
        _ => refuse("Ollama takes text and images, no audio, video or files."),
    }
}

fn tools<'a>(chat: &'a Chat, native: bool, out: &mut Output) -> Vec<ToolEntry<'a>> {
    match &chat.tool_choice {
        // Not offered, so not called.
        Some(ToolChoice::None) => return Vec::new(),
        Some(ToolChoice::Required | ToolChoice::Tool(_)) => {
            out.dropped("tool-choice", "Ollama can't force a call: the model decides.");
        }
        Some(ToolChoice::Auto) | None => {}
    }
    if chat.parallel_tool_calls == Some(false) && !chat.tools.is_empty() {
        out.dropped("parallel-tool-calls", "Ollama can't limit a model to one call at a time.");
    }
    let mut entries = Vec::with_capacity(chat.tools.len());
    for Tool { name, description, parameters, strict, kind, cache, extra } in &chat.tools {
        if !kind.is_empty() {
            out.dropped("tools", format!("Ollama doesn't know the tool \"{kind}\"."));
            continue;
        }
        if *strict == Some(true) {
            out.dropped("tools.strict", "Ollama doesn't hold calls to their schema.");
        }
        if cache.is_some() {
            out.dropped("tools.cache", CACHES);
        }
        let parameters = if parameters.is_empty() { NO_PARAMETERS } else { parameters.as_str() };
        entries.push(ToolEntry {
            kind: "function",
            function: ToolFunction {
                name,
                description: description.as_deref(),
                parameters: Raw(parameters),
            },
            extra: fields(extra, native, out),
        });
    }
    entries
}

/// Most models think or don't; some take levels, and refuse anything else.
fn think<'a>(
    wanted: &'a Reasoning,
    chat: &Chat,
    settings: &Settings,
    out: &mut Output,
) -> Option<Think<'a>> {
    let effort = wanted.effort.as_deref();
    if effort == Some("none") || wanted.budget_tokens == Some(0) {
        return Some(Think::Switch(false));
    }
    if wanted.budget_tokens.is_some() {
        out.dropped("reasoning.budget-tokens", "Ollama can't count thinking.");
    }
    match effort {
        None => wanted.budget_tokens.map(|_| Think::Switch(true)),
        Some(level) if settings.levels(&chat.model) => {
            if level == "minimal" {
                out.changed("reasoning.effort", "Ollama's lowest level is \"low\".");
                return Some(Think::Level("low"));
            }
            Some(Think::Level(level))
        }
        // In Ollama's own dialect a plain `true` comes as this level, so that nothing is lost.
        Some("medium") if chat.dialect == DIALECT => Some(Think::Switch(true)),
        Some(level) => {
            let message = format!(
                "{} thinks or doesn't: the level \"{level}\" was left out. The setting {} changes that.",
                chat.model,
                Levels::NAME,
            );
            out.changed("reasoning.effort", message);
            Some(Think::Switch(true))
        }
    }
}

/// The caller's unknown fields, where Ollama may know them.
fn fields<'a>(extra: &'a [Field], native: bool, out: &mut Output) -> Fields<'a> {
    if native {
        return Fields(extra);
    }
    out.dropped_fields(extra, UNKNOWN_FIELD);
    Fields(&[])
}
