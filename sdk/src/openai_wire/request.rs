//! Requests in the OpenAI shape.
//!
//! Everything borrows from the operation and is written in one pass. What can't be carried is
//! found in a pass before, so that writing never fails for a reason of its own. Marks stand for
//! content and are never looked into; where a vendor wants texts in one, marks are put in a row.

use std::borrow::Cow;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{
    DIALECT, Earlier, EmbeddingFormat, LogProbabilities, Profile, ReasoningForm, StructuredOutput,
};
use crate::{
    Failure, Output,
    contract::{
        Chat, Embed, EmbedEncoding, EmbedInput, Format, Framing, Media, MediaKind, MediaSource,
        Message, Part, PartBody, Reasoning, Role, Schema, Text, Tool, ToolChoice, VendorRequest,
    },
    json::{Fields, Raw},
};

/// Members this request writes itself; a caller's field of the same name is not repeated.
const OWN_MEMBERS: [&str; 18] = [
    "model",
    "messages",
    "tools",
    "parallel_tool_calls",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "n",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "stream",
    "stream_options",
];

const CACHES: &str = "The vendor caches prompts by itself.";
const OTHER_DIALECT: &str = "The vendor doesn't speak the caller's dialect.";

pub(super) fn chat(
    chat: &Chat,
    profile: &Profile,
    out: &mut Output,
) -> Result<VendorRequest, Failure> {
    let passes = chat.dialect == DIALECT;
    check(chat, profile, passes, out)?;
    let instruction = instruction(&chat.format, profile, out);
    let body = ChatBody { chat, profile, passes, instruction: instruction.as_deref() };
    let request = VendorRequest::post("/chat/completions", &body)?;
    Ok(match chat.stream {
        true => request.framed(Framing::Sse),
        false => request,
    })
}

pub(super) fn embed(
    embed: &Embed,
    profile: &Profile,
    out: &mut Output,
) -> Result<VendorRequest, Failure> {
    let passes = embed.dialect == DIALECT;
    if !passes {
        out.dropped_fields(&embed.extra, OTHER_DIALECT);
    }
    if embed.purpose.is_some() {
        out.dropped("purpose", "The vendor doesn't tell queries from documents.");
    }
    let texts = embed.inputs.iter().filter(|input| matches!(input, EmbedInput::Text(_))).count();
    if embed.inputs.iter().any(|input| matches!(input, EmbedInput::Other(_))) {
        return Err(Failure::unsupported("The vendor embeds text and tokens only."));
    }
    if texts != 0 && texts != embed.inputs.len() {
        return Err(Failure::invalid("inputs", "Give texts or tokens, not both."));
    }
    if embed.dimensions.is_some() && profile.dimensions.is_none() {
        return Err(Failure::unsupported("The vendor's embeddings have one length only.")
            .with_param("dimensions"));
    }
    let encoding_format = match (profile.embeddings, embed.encoding) {
        (EmbeddingFormat::Unsaid, _) => None,
        (EmbeddingFormat::Base64, _) | (_, EmbedEncoding::Base64) => Some("base64"),
        (EmbeddingFormat::Floats, EmbedEncoding::Floats) => Some("float"),
    };
    VendorRequest::post(
        "/embeddings",
        &EmbedBody {
            embed,
            dimensions: profile.dimensions.zip(embed.dimensions),
            encoding_format,
            extra: Fields(if passes { &embed.extra } else { &[] }),
        },
    )
}

/// Warns of what is left out, and fails where the answer would be wrong without it.
fn check(chat: &Chat, profile: &Profile, passes: bool, out: &mut Output) -> Result<(), Failure> {
    if !passes {
        out.dropped_fields(&chat.extra, OTHER_DIALECT);
    }
    check_sampling(chat, profile, out)?;
    check_reasoning(chat, profile, out);
    if chat.tools.iter().any(|tool| !tool.kind.is_empty()) && !passes {
        return Err(Failure::unsupported("The vendor doesn't run this kind of tool itself."));
    }
    if !profile.strict && chat.tools.iter().any(|tool| tool.strict == Some(true)) {
        out.dropped("tools.strict", "The vendor doesn't hold calls against their schema.");
    }
    if !profile.parallel_tool_calls && chat.parallel_tool_calls.is_some() {
        out.dropped("parallel-tool-calls", "The vendor decides itself how many calls it makes.");
    }
    if chat.tools.iter().any(|tool| tool.cache.is_some()) {
        out.dropped(
            "tools.cache",
            match profile.cache_marks {
                true => "The vendor takes cache marks on messages, not on tools.",
                false => CACHES,
            },
        );
    }
    if !passes && chat.tools.iter().any(|tool| !tool.extra.is_empty()) {
        out.dropped("tools.extra", OTHER_DIALECT);
    }
    let (mut cached, mut thought, mut foreign, mut extra) = (false, false, false, false);
    let (mut named, mut failed, mut bare, mut shown) = (false, false, false, false);
    for message in &chat.messages {
        let joined = profile.plain_texts
            && Parts { parts: &message.parts, profile, passes, only_text: shows(message, passes) }
                .all_text();
        shown |= shows(message, passes);
        extra |= !passes && !message.extra.is_empty();
        failed |= message.answers.as_ref().is_some_and(|answers| answers.is_error);
        named |= !profile.names && message.name.is_some();
        for part in &message.parts {
            cached |= !profile.cache_marks && part.cache.is_some();
            extra |= !passes && !part.extra.is_empty();
            bare |= passes && joined && !part.extra.is_empty() && !is_call(part);
            match &part.body {
                PartBody::Media(media) => check_media(media, profile)?,
                PartBody::Thinking(_) => thought |= profile.earlier == Earlier::Dropped,
                PartBody::RedactedThinking(_) => thought = true,
                PartBody::Other(_) => foreign |= !passes,
                _ => {}
            }
        }
    }
    if cached {
        out.dropped("messages.cache", CACHES);
    }
    if named {
        out.dropped("messages.name", "The vendor has no place for names of participants.");
    }
    if thought {
        out.dropped("messages.thinking", "The vendor takes no earlier thinking back.");
    }
    if extra {
        out.dropped("messages.extra", OTHER_DIALECT);
    }
    if bare {
        out.dropped("messages.extra", "The vendor's texts have no fields of their own.");
    }
    if failed {
        out.dropped("messages.answers.is-error", "The model sees a failed tool's text only.");
    }
    if shown {
        out.emulated(
            "messages.tool.media",
            "What a tool showed stands in a message of the user's: the vendor takes only text from tools.",
        );
    }
    if foreign {
        out.dropped("messages.other", "The vendor doesn't know this kind of part.");
    }
    Ok(())
}

fn check_sampling(chat: &Chat, profile: &Profile, out: &mut Output) -> Result<(), Failure> {
    let sampling = &chat.sampling;
    if sampling.top_k.is_some() && !profile.top_k {
        out.dropped("sampling.top-k", "The vendor has no top_k.");
    }
    if sampling.seed.is_some() && profile.seed.is_none() {
        out.dropped("sampling.seed", "The vendor takes no seed.");
    }
    if sampling.logprobs.is_some() && profile.logprobs == LogProbabilities::Unknown {
        out.dropped("sampling.logprobs", "The vendor gives no log probabilities.");
    }
    if sampling.choices.is_some_and(|choices| choices > 1) && !profile.choices {
        return Err(Failure::unsupported("The vendor gives one answer to a prompt, not several.")
            .with_param("sampling.choices"));
    }
    Ok(())
}

fn check_reasoning(chat: &Chat, profile: &Profile, out: &mut Output) {
    let Some(reasoning) = &chat.reasoning else { return };
    let (effort, budget) = (reasoning.effort.is_some(), reasoning.budget_tokens.is_some());
    match profile.reasoning {
        ReasoningForm::Object if effort && budget => {
            out.dropped("reasoning.budget-tokens", "The vendor takes an effort or a budget.");
        }
        ReasoningForm::Object => {}
        ReasoningForm::Effort { .. } if budget => {
            out.dropped("reasoning.budget-tokens", "The vendor takes an effort, not a budget.");
        }
        ReasoningForm::Effort { .. } => {}
        ReasoningForm::Unknown => {
            if effort {
                out.dropped("reasoning.effort", "The vendor doesn't let its thinking be steered.");
            }
            if budget {
                out.dropped("reasoning.budget-tokens", "The vendor's thinking has no budget.");
            }
        }
    }
}

pub(super) fn instruction(format: &Format, profile: &Profile, out: &mut Output) -> Option<String> {
    use StructuredOutput as Known;
    match (format, profile.structured) {
        (Format::Text, _) | (Format::Json, Known::Schema | Known::BareSchema | Known::Object) => {
            None
        }
        (Format::Json, Known::SchemaOnly) => {
            out.emulated("format", "The vendor was given the schema of any object.");
            None
        }
        (Format::Json, Known::Nothing) => {
            out.emulated("format", "The vendor was asked for JSON in the system text.");
            Some("Answer with one JSON object and nothing else.".to_owned())
        }
        (Format::Schema(schema), Known::Schema | Known::BareSchema | Known::SchemaOnly) => {
            if schema.strict == Some(true) && !profile.strict {
                out.dropped("format.strict", "The vendor doesn't tell strict schemas from others.");
            }
            None
        }
        (Format::Schema(schema), Known::Object | Known::Nothing) => {
            out.emulated(
                "format",
                "The vendor was given the schema in the system text; its answer may not fit.",
            );
            let Schema { schema, description, .. } = schema;
            let about = description.as_deref().map(|it| format!(" ({it})")).unwrap_or_default();
            Some(format!(
                "Answer with one JSON value and nothing else. It must fit this JSON Schema{about}:\n{schema}"
            ))
        }
    }
}

fn check_media(media: &Media, profile: &Profile) -> Result<(), Failure> {
    let place = "messages.media";
    match (media.kind, &media.source) {
        (MediaKind::Video, MediaSource::Url(_)) if profile.video => Ok(()),
        (MediaKind::Video, MediaSource::Base64(_))
            if profile.video && !media.media_type.is_empty() =>
        {
            Ok(())
        }
        (MediaKind::Video, MediaSource::Base64(_)) if profile.video => {
            Err(Failure::invalid(place, "Say the media type, such as video/mp4."))
        }
        (MediaKind::Video, _) => Err(Failure::unsupported("The vendor takes no video.")),
        (MediaKind::Image, MediaSource::FileId(_)) => {
            Err(Failure::unsupported("The vendor takes images by URL or content, not by file id."))
        }
        (MediaKind::Audio, MediaSource::Url(_) | MediaSource::FileId(_)) => {
            Err(Failure::unsupported("The vendor takes audio by content only."))
        }
        (MediaKind::File, MediaSource::Url(_)) => {
            Err(Failure::unsupported("The vendor takes files by content or file id, not by URL."))
        }
        (_, MediaSource::Base64(_)) if media.media_type.is_empty() => {
            Err(Failure::invalid(place, "Say the media type, such as image/png."))
        }
        _ => Ok(()),
    }
}

struct ChatBody<'a> {
    chat: &'a Chat,
    profile: &'a Profile,
    passes: bool,
    /// To be added to the system text.
    instruction: Option<&'a str>,
}

impl Serialize for ChatBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { chat, profile, passes, instruction } = *self;
        let sampling = &chat.sampling;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", &chat.model)?;
        let messages = Messages { messages: &chat.messages, profile, passes, instruction };
        map.serialize_entry("messages", &messages)?;
        if !chat.tools.is_empty() {
            let tools = Tools { tools: &chat.tools, passes, strict: profile.strict };
            map.serialize_entry("tools", &tools)?;
        }
        if let Some(choice) = &chat.tool_choice {
            map.serialize_entry("tool_choice", &Choice(choice))?;
        }
        if profile.parallel_tool_calls {
            optional(&mut map, "parallel_tool_calls", chat.parallel_tool_calls)?;
        }
        write_format(&chat.format, profile, &mut map)?;
        optional(&mut map, profile.max_tokens, sampling.max_output_tokens)?;
        optional(&mut map, "temperature", sampling.temperature)?;
        optional(&mut map, "top_p", sampling.top_p)?;
        if profile.top_k {
            optional(&mut map, "top_k", sampling.top_k)?;
        }
        optional(&mut map, "frequency_penalty", sampling.frequency_penalty)?;
        optional(&mut map, "presence_penalty", sampling.presence_penalty)?;
        if let Some(member) = profile.seed {
            optional(&mut map, member, sampling.seed)?;
        }
        if !sampling.stop.is_empty() {
            map.serialize_entry("stop", &sampling.stop)?;
        }
        optional(&mut map, "n", sampling.choices)?;
        match (profile.logprobs, sampling.logprobs) {
            (LogProbabilities::Switch, Some(alternatives)) => {
                map.serialize_entry("logprobs", &true)?;
                if alternatives > 0 {
                    map.serialize_entry("top_logprobs", &alternatives)?;
                }
            }
            (LogProbabilities::Count, Some(alternatives)) => {
                map.serialize_entry("logprobs", &alternatives.max(1))?;
            }
            (LogProbabilities::Unknown, _) | (_, None) => {}
        }
        if let Some(reasoning) = &chat.reasoning {
            write_reasoning(reasoning, profile, &mut map)?;
        }
        if chat.stream {
            map.serialize_entry("stream", &true)?;
            if profile.stream_usage {
                // Always, whatever the caller asked: the host meters by it.
                map.serialize_entry("stream_options", &StreamOptions { include_usage: true })?;
            }
        }
        if passes {
            for field in &chat.extra {
                if !self.writes(&field.name) {
                    map.serialize_entry(&field.name, &field.value)?;
                }
            }
        }
        map.end()
    }
}

impl ChatBody<'_> {
    /// True for a member that this body has, or would have, as its own.
    fn writes(&self, name: &str) -> bool {
        let Self { chat, profile, .. } = self;
        // Callers' values that the contract has no words for are in `extra`, to be sent as they are.
        let has = match name {
            "tool_choice" => chat.tool_choice.is_some(),
            "response_format" => chat.format != Format::Text,
            "top_k" => chat.sampling.top_k.is_some(),
            _ => OWN_MEMBERS.contains(&name),
        };
        has || (profile.seed == Some(name) && chat.sampling.seed.is_some())
            || (chat.reasoning.is_some()
                && match profile.reasoning {
                    ReasoningForm::Object => name == "reasoning",
                    ReasoningForm::Effort { off } => off.is_some_and(|off| off.member == name),
                    ReasoningForm::Unknown => false,
                })
    }
}

fn write_format<M: SerializeMap>(
    format: &Format,
    profile: &Profile,
    map: &mut M,
) -> Result<(), M::Error> {
    const MEMBER: &str = "response_format";
    let schema = |name, description, schema, strict| SchemaFormat {
        r#type: "json_schema",
        json_schema: JsonSchema { name, description, schema: Raw(schema), strict },
    };
    match (format, profile.structured) {
        (Format::Text, _) | (_, StructuredOutput::Nothing) => Ok(()),
        (Format::Json, StructuredOutput::SchemaOnly) => {
            map.serialize_entry(MEMBER, &schema("answer", None, r#"{"type":"object"}"#, None))
        }
        (Format::Json, _) | (Format::Schema(_), StructuredOutput::Object) => {
            map.serialize_entry(MEMBER, &Typed { r#type: "json_object" })
        }
        (Format::Schema(wanted), StructuredOutput::BareSchema) => {
            let json_schema = Raw(&wanted.schema);
            map.serialize_entry(MEMBER, &BareSchema { r#type: "json_schema", json_schema })
        }
        (Format::Schema(wanted), _) => {
            // The vendor insists on a name.
            let name = if wanted.name.is_empty() { "answer" } else { &wanted.name };
            let strict = wanted.strict.filter(|_| profile.strict);
            let format = schema(name, wanted.description.as_deref(), &wanted.schema, strict);
            map.serialize_entry(MEMBER, &format)
        }
    }
}

fn write_reasoning<M: SerializeMap>(
    reasoning: &Reasoning,
    profile: &Profile,
    map: &mut M,
) -> Result<(), M::Error> {
    #[derive(Serialize)]
    struct Object<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        effort: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u32>,
    }
    let effort = reasoning.effort.as_deref();
    match profile.reasoning {
        ReasoningForm::Effort { off: Some(off) } if effort == Some("none") => {
            map.serialize_entry(off.member, &Raw(off.json))
        }
        ReasoningForm::Effort { .. } => optional(map, "reasoning_effort", effort),
        ReasoningForm::Object => {
            let max_tokens = reasoning.budget_tokens.filter(|_| effort.is_none());
            match effort.is_some() || max_tokens.is_some() {
                true => map.serialize_entry("reasoning", &Object { effort, max_tokens }),
                false => Ok(()),
            }
        }
        ReasoningForm::Unknown => Ok(()),
    }
}

fn optional<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, &value),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Typed {
    r#type: &'static str,
}

#[derive(Serialize)]
struct SchemaFormat<'a> {
    r#type: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct BareSchema<'a> {
    r#type: &'static str,
    json_schema: Raw<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: Raw<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

struct Choice<'a>(&'a ToolChoice);

impl Serialize for Choice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            r#type: &'static str,
            function: Name<'a>,
        }
        #[derive(Serialize)]
        struct Name<'a> {
            name: &'a str,
        }
        match self.0 {
            ToolChoice::Auto => serializer.serialize_str("auto"),
            ToolChoice::None => serializer.serialize_str("none"),
            ToolChoice::Required => serializer.serialize_str("required"),
            ToolChoice::Tool(name) => {
                Named { r#type: "function", function: Name { name } }.serialize(serializer)
            }
        }
    }
}

struct Tools<'a> {
    tools: &'a [Tool],
    passes: bool,
    strict: bool,
}

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Function<'a> {
            r#type: &'static str,
            function: Definition<'a>,
            #[serde(flatten)]
            extra: Fields<'a>,
        }
        #[derive(Serialize)]
        struct Definition<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            description: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameters: Option<Raw<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            strict: Option<bool>,
        }
        /// A tool of the vendor's own, with its members as the caller wrote them.
        #[derive(Serialize)]
        struct Native<'a> {
            r#type: &'a str,
            #[serde(flatten)]
            extra: Fields<'a>,
        }
        let mut list = serializer.serialize_seq(Some(self.tools.len()))?;
        for tool in self.tools {
            let extra = Fields(if self.passes { &tool.extra } else { &[] });
            if !tool.kind.is_empty() {
                list.serialize_element(&Native { r#type: &tool.kind, extra })?;
                continue;
            }
            list.serialize_element(&Function {
                r#type: "function",
                function: Definition {
                    name: &tool.name,
                    description: tool.description.as_deref(),
                    parameters: Some(tool.parameters.as_str())
                        .filter(|json| !json.is_empty())
                        .map(Raw),
                    strict: tool.strict.filter(|_| self.strict),
                },
                extra,
            })?;
        }
        list.end()
    }
}

struct Messages<'a> {
    messages: &'a [Message],
    profile: &'a Profile,
    passes: bool,
    instruction: Option<&'a str>,
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct System<'a> {
            role: &'static str,
            content: Cow<'a, str>,
        }
        let Self { mut messages, profile, passes, instruction } = *self;
        let mut list = serializer.serialize_seq(None)?;
        if let Some(instruction) = instruction {
            // Many templates take one system text, and it must come first.
            let first = messages.first().filter(|first| is_system(first) && is_bare(first));
            let parts =
                first.map(|first| Parts { parts: &first.parts, profile, passes, only_text: false });
            let content = match parts.and_then(|parts| parts.single_text()) {
                Some(text) => {
                    messages = &messages[1..];
                    Cow::Owned(format!("{}\n\n{instruction}", text.value))
                }
                None => Cow::Borrowed(instruction),
            };
            list.serialize_element(&System { role: "system", content })?;
        }
        let mut shown = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            list.serialize_element(&OneMessage { message, profile, passes })?;
            if shows(message, passes) {
                shown.push(message);
            }
            // All results of a turn stand together.
            let more = messages.get(at + 1).is_some_and(|next| next.role == Role::Tool);
            if !shown.is_empty() && !more {
                list.serialize_element(&Shown { results: &shown, profile })?;
                shown.clear();
            }
        }
        list.end()
    }
}

/// True for a tool's result with images or files in it: the protocol takes only text there. Callers
/// of the same protocol know what their server takes.
fn shows(message: &Message, passes: bool) -> bool {
    let media = |part: &Part| matches!(part.body, PartBody::Media(_));
    !passes && message.role == Role::Tool && message.parts.iter().any(media)
}

/// What tools showed, as a message of the user's after their results.
struct Shown<'a> {
    results: &'a [&'a Message],
    profile: &'a Profile,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Content<'a>(&'a Shown<'a>);

        #[derive(Serialize)]
        struct Named {
            r#type: &'static str,
            text: String,
        }

        impl Serialize for Content<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Shown { results, profile } = *self.0;
                let mut list = serializer.serialize_seq(None)?;
                for message in results {
                    let answers = message.answers.as_ref();
                    let tool = answers.map_or("", |answers| answers.tool.as_str());
                    let text = format!("Part of the result of the tool {tool}:");
                    list.serialize_element(&Named { r#type: "text", text })?;
                    for part in &message.parts {
                        if matches!(part.body, PartBody::Media(_)) {
                            list.serialize_element(&OnePart { part, profile, passes: false })?;
                        }
                    }
                }
                list.end()
            }
        }

        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("role", "user")?;
        map.serialize_entry("content", &Content(self))?;
        map.end()
    }
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// True for a message that is nothing but its parts.
fn is_bare(message: &Message) -> bool {
    message.extra.is_empty() && message.name.is_none()
}

struct OneMessage<'a> {
    message: &'a Message,
    profile: &'a Profile,
    passes: bool,
}

impl Serialize for OneMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { message, profile, passes } = *self;
        let mut map = serializer.serialize_map(None)?;
        let role = match message.role {
            Role::Developer if profile.developer => "developer",
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        map.serialize_entry("role", role)?;
        if let Some(answers) = &message.answers {
            map.serialize_entry("tool_call_id", &call_id(&answers.call_id, profile))?;
        }
        if profile.names {
            optional(&mut map, "name", message.name.as_ref())?;
        }
        let calls = message.parts.iter().filter(|part| is_call(part)).count();
        if let Earlier::Member { name, beside_calls } = profile.earlier {
            let thinking = message.parts.iter().filter_map(thinking);
            let thinking: String = thinking.map(|text| text.value.as_str()).collect();
            if !thinking.is_empty() || (beside_calls && calls > 0) {
                map.serialize_entry(name, &thinking)?;
            }
        }
        let only_text = shows(message, passes);
        let parts = Parts { parts: &message.parts, profile, passes, only_text };
        match parts.single_text() {
            Some(text) => map.serialize_entry("content", text)?,
            None if profile.plain_texts && parts.all_text() => {
                map.serialize_entry("content", &parts.joined())?;
            }
            None if parts.count() > 0 => map.serialize_entry("content", &parts)?,
            // Required, but for an assistant's message that has calls in its place.
            None if calls == 0 => map.serialize_entry("content", "")?,
            None => map.serialize_entry("content", &())?,
        }
        if calls > 0 {
            let calls = Calls { parts: &message.parts, calls, profile, passes };
            map.serialize_entry("tool_calls", &calls)?;
        }
        if passes {
            for field in &message.extra {
                map.serialize_entry(&field.name, &field.value)?;
            }
        }
        map.end()
    }
}

fn thinking(part: &Part) -> Option<&Text> {
    match &part.body {
        // Its length tells: held content never looks empty.
        PartBody::Thinking(thinking) if thinking.text.length > 0 => Some(&thinking.text),
        _ => None,
    }
}

/// The id of a tool call as the vendor takes it.
fn call_id<'a>(id: &'a str, profile: &Profile) -> Cow<'a, str> {
    const LENGTH: usize = 9;
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let fits = id.len() == LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !profile.short_call_ids || fits {
        return Cow::Borrowed(id);
    }
    // FNV-1a: a call and its result meet again, and no two of a conversation fall together.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut short = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        short.push(char::from(DIGITS[(hash % 62) as usize]));
        hash /= 62;
    }
    Cow::Owned(short)
}

fn is_call(part: &Part) -> bool {
    matches!(part.body, PartBody::ToolCall(_))
}

struct Calls<'a> {
    parts: &'a [Part],
    calls: usize,
    profile: &'a Profile,
    passes: bool,
}

impl Serialize for Calls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            id: Cow<'a, str>,
            r#type: &'static str,
            function: Function<'a>,
            #[serde(flatten)]
            extra: Fields<'a>,
        }
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        let mut list = serializer.serialize_seq(Some(self.calls))?;
        for part in self.parts {
            if let PartBody::ToolCall(call) = &part.body {
                let function = Function { name: &call.name, arguments: &call.arguments.text };
                let id = call_id(&call.id, self.profile);
                let extra = Fields(if self.passes { &part.extra } else { &[] });
                list.serialize_element(&Call { id, r#type: "function", function, extra })?;
            }
        }
        list.end()
    }
}

/// The parts of a message that belong under `content`.
#[derive(Clone, Copy)]
struct Parts<'a> {
    parts: &'a [Part],
    profile: &'a Profile,
    passes: bool,
    /// Images and files stand elsewhere.
    only_text: bool,
}

impl<'a> Parts<'a> {
    fn content(&self) -> impl Iterator<Item = &'a Part> {
        let Self { passes, profile, only_text, .. } = *self;
        self.parts.iter().filter(move |part| match part.body {
            PartBody::Text(_) | PartBody::Refusal(_) => true,
            PartBody::Media(_) => !only_text,
            PartBody::Other(_) => passes,
            PartBody::Thinking(_) => profile.earlier == Earlier::Parts,
            PartBody::ToolCall(_) | PartBody::RedactedThinking(_) => false,
        })
    }

    fn count(&self) -> usize {
        self.content().count()
    }

    fn all_text(&self) -> bool {
        self.content().all(|part| matches!(part.body, PartBody::Text(_) | PartBody::Refusal(_)))
    }

    /// The texts in one, for vendors that take no lists.
    fn joined(&self) -> String {
        let text = |part: &'a Part| match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => Some(text.value.as_str()),
            _ => None,
        };
        self.content().filter_map(text).collect::<Vec<_>>().join("\n")
    }

    /// The text of a message that has nothing else: the form every vendor knows.
    fn single_text(&self) -> Option<&'a Text> {
        let mut content = self.content();
        match (content.next(), content.next()) {
            (Some(Part { body: PartBody::Text(text), extra, cache }), None)
                if extra.is_empty() && !(self.profile.cache_marks && cache.is_some()) =>
            {
                Some(text)
            }
            _ => None,
        }
    }
}

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count()))?;
        for part in self.content() {
            match &part.body {
                PartBody::Other(other) => list.serialize_element(&other.value)?,
                _ => list.serialize_element(&OnePart {
                    part,
                    profile: self.profile,
                    passes: self.passes,
                })?,
            }
        }
        list.end()
    }
}

struct OnePart<'a> {
    part: &'a Part,
    profile: &'a Profile,
    passes: bool,
}

impl Serialize for OnePart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.part.body {
            PartBody::Text(text) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
            }
            PartBody::Refusal(text) => {
                map.serialize_entry("type", "refusal")?;
                map.serialize_entry("refusal", text)?;
            }
            PartBody::Media(media) => write_media(media, &mut map)?,
            PartBody::Thinking(thinking) => {
                let text = [ThinkingText { r#type: "text", text: &thinking.text }];
                map.serialize_entry("type", "thinking")?;
                map.serialize_entry("thinking", &text)?;
            }
            _ => {}
        }
        if let Some(lifetime) = self.part.cache.as_deref().filter(|_| self.profile.cache_marks) {
            let ttl = Some(lifetime).filter(|lifetime| !lifetime.is_empty());
            map.serialize_entry("cache_control", &CacheControl { r#type: "ephemeral", ttl })?;
        }
        if self.passes {
            for field in &self.part.extra {
                map.serialize_entry(&field.name, &field.value)?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct ThinkingText<'a> {
    r#type: &'static str,
    text: &'a Text,
}

#[derive(Serialize)]
struct CacheControl<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'a str>,
}

fn write_media<M: SerializeMap>(media: &Media, map: &mut M) -> Result<(), M::Error> {
    #[derive(Serialize)]
    struct Image<'a> {
        url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Video<'a> {
        url: Cow<'a, str>,
    }
    #[derive(Serialize)]
    struct Audio<'a> {
        data: &'a Text,
        format: &'a str,
    }
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a Text>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    }
    let data_url = |text: &Text| {
        let head = ["data:", &media.media_type, ";base64,"];
        let mut url = String::with_capacity(64 + text.value.len());
        head.iter().for_each(|piece| url.push_str(piece));
        url.push_str(&text.value);
        url
    };
    match (media.kind, &media.source) {
        (MediaKind::Image, MediaSource::Url(url)) => {
            map.serialize_entry("type", "image_url")?;
            let image = Image { url: &url.value, detail: media.detail.as_deref() };
            map.serialize_entry("image_url", &image)
        }
        (MediaKind::Image, MediaSource::Base64(text)) => {
            map.serialize_entry("type", "image_url")?;
            let image = Image { url: &data_url(text), detail: media.detail.as_deref() };
            map.serialize_entry("image_url", &image)
        }
        (MediaKind::Video, source) => {
            let url = match source {
                MediaSource::Url(url) => Cow::Borrowed(url.value.as_str()),
                MediaSource::Base64(text) => Cow::Owned(data_url(text)),
                MediaSource::FileId(_) => return Ok(()),
            };
            map.serialize_entry("type", "video_url")?;
            map.serialize_entry("video_url", &Video { url })
        }
        (MediaKind::Audio, MediaSource::Base64(text)) => {
            map.serialize_entry("type", "input_audio")?;
            let audio = Audio { data: text, format: audio_format(&media.media_type) };
            map.serialize_entry("input_audio", &audio)
        }
        (MediaKind::File, source) => {
            map.serialize_entry("type", "file")?;
            let url = match source {
                MediaSource::Base64(text) => Some(data_url(text)),
                _ => None,
            };
            let id = match source {
                MediaSource::FileId(id) => Some(id.as_str()),
                _ => None,
            };
            let file =
                File { filename: media.name.as_ref(), file_data: url.as_deref(), file_id: id };
            map.serialize_entry("file", &file)
        }
        // `check` refused the rest.
        _ => Ok(()),
    }
}

/// The vendor's short name of an audio format.
fn audio_format(media_type: &str) -> &str {
    match media_type {
        "audio/mpeg" | "audio/mp3" => "mp3",
        "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => "wav",
        other => other.strip_prefix("audio/").unwrap_or(other),
    }
}

struct EmbedBody<'a> {
    embed: &'a Embed,
    dimensions: Option<(&'static str, u32)>,
    encoding_format: Option<&'static str>,
    extra: Fields<'a>,
}

impl Serialize for EmbedBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", &self.embed.model)?;
        map.serialize_entry("input", &Inputs(&self.embed.inputs))?;
        if let Some((member, length)) = self.dimensions {
            map.serialize_entry(member, &length)?;
        }
        optional(&mut map, "encoding_format", self.encoding_format)?;
        for field in self.extra.0 {
            map.serialize_entry(&field.name, &field.value)?;
        }
        map.end()
    }
}

struct Inputs<'a>(&'a [EmbedInput]);

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for input in self.0 {
            match input {
                EmbedInput::Text(text) => list.serialize_element(text)?,
                EmbedInput::Tokens(tokens) => list.serialize_element(tokens)?,
                EmbedInput::Other(other) => list.serialize_element(&other.value)?,
            }
        }
        list.end()
    }
}
