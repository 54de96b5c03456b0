//! Requests in the OpenAI shape.
//!
//! Everything borrows from the operation and is written in one pass. What can't be carried is
//! found in a pass before, so that writing never fails for a reason of its own.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{DIALECT, Profile};
use crate::{
    Failure, Output,
    contract::{
        Chat, Embed, EmbedEncoding, EmbedInput, Field, Format, Framing, Media, MediaKind,
        MediaSource, Message, Part, PartBody, Role, Text, Tool, ToolChoice, VendorRequest,
    },
    json::{Fields, Raw},
};

/// Members this request writes itself; a caller's field of the same name is not repeated.
const OWN_MEMBERS: [&str; 21] = [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
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

pub(super) fn chat(
    chat: &Chat,
    profile: &Profile,
    out: &mut Output,
) -> Result<VendorRequest, Failure> {
    let passes = chat.dialect == DIALECT;
    check(chat, profile, passes, out)?;
    let request = VendorRequest::post("/chat/completions", &ChatBody { chat, profile, passes })?;
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
        warn_of_fields(&embed.extra, out);
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
    let base64 = profile.base64_embeddings || embed.encoding == EmbedEncoding::Base64;
    VendorRequest::post(
        "/embeddings",
        &EmbedBody {
            model: &embed.model,
            input: Inputs(&embed.inputs),
            dimensions: embed.dimensions,
            encoding_format: if base64 { "base64" } else { "float" },
            extra: Fields(if passes { &embed.extra } else { &[] }),
        },
    )
}

/// Warns of what is left out, and fails where the answer would be wrong without it.
fn check(chat: &Chat, profile: &Profile, passes: bool, out: &mut Output) -> Result<(), Failure> {
    if !passes {
        warn_of_fields(&chat.extra, out);
    }
    if chat.sampling.top_k.is_some() && !profile.top_k {
        out.dropped("sampling.top-k", "The vendor has no top_k.");
    }
    if chat.reasoning.as_ref().is_some_and(|reasoning| reasoning.budget_tokens.is_some()) {
        out.dropped("reasoning.budget-tokens", "The vendor takes an effort, not a budget.");
    }
    if chat.tools.iter().any(|tool| !tool.kind.is_empty()) && !passes {
        return Err(Failure::unsupported("The vendor doesn't run this kind of tool itself."));
    }
    let (mut cached, mut thought, mut foreign, mut extra) = (false, false, false, false);
    for message in &chat.messages {
        extra |= !passes && !message.extra.is_empty();
        for part in &message.parts {
            cached |= part.cache.is_some();
            extra |= !passes && !part.extra.is_empty();
            match &part.body {
                PartBody::Media(media) => check_media(media)?,
                PartBody::Thinking(_) | PartBody::RedactedThinking(_) => thought = true,
                PartBody::Other(_) => foreign |= !passes,
                _ => {}
            }
        }
    }
    if cached {
        out.dropped("messages.cache", "The vendor caches prompts by itself.");
    }
    if thought {
        out.dropped("messages.thinking", "The vendor takes no earlier thinking back.");
    }
    if extra {
        out.dropped("messages.extra", "The vendor doesn't speak the caller's dialect.");
    }
    if foreign {
        out.dropped("messages.other", "The vendor doesn't know this kind of part.");
    }
    Ok(())
}

fn warn_of_fields(extra: &[Field], out: &mut Output) {
    for field in extra {
        out.dropped(
            format!("extra.{}", field.name),
            "The vendor doesn't speak the caller's dialect.",
        );
    }
}

fn check_media(media: &Media) -> Result<(), Failure> {
    let place = "messages.media";
    match (media.kind, &media.source) {
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
}

impl Serialize for ChatBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { chat, profile, passes } = *self;
        let sampling = &chat.sampling;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", &chat.model)?;
        map.serialize_entry("messages", &Messages { messages: &chat.messages, profile, passes })?;
        if !chat.tools.is_empty() {
            map.serialize_entry("tools", &Tools { tools: &chat.tools, passes })?;
        }
        if let Some(choice) = &chat.tool_choice {
            map.serialize_entry("tool_choice", &Choice(choice))?;
        }
        optional(&mut map, "parallel_tool_calls", chat.parallel_tool_calls)?;
        match &chat.format {
            Format::Text => {}
            Format::Json => {
                map.serialize_entry("response_format", &Typed { r#type: "json_object" })?;
            }
            Format::Schema(schema) => map.serialize_entry(
                "response_format",
                &SchemaFormat {
                    r#type: "json_schema",
                    json_schema: JsonSchema {
                        // The vendor insists on a name.
                        name: if schema.name.is_empty() { "answer" } else { &schema.name },
                        description: schema.description.as_deref(),
                        schema: Raw(&schema.schema),
                        strict: schema.strict,
                    },
                },
            )?,
        }
        optional(&mut map, profile.max_tokens, sampling.max_output_tokens)?;
        optional(&mut map, "temperature", sampling.temperature)?;
        optional(&mut map, "top_p", sampling.top_p)?;
        if profile.top_k {
            optional(&mut map, "top_k", sampling.top_k)?;
        }
        optional(&mut map, "frequency_penalty", sampling.frequency_penalty)?;
        optional(&mut map, "presence_penalty", sampling.presence_penalty)?;
        optional(&mut map, "seed", sampling.seed)?;
        if !sampling.stop.is_empty() {
            map.serialize_entry("stop", &sampling.stop)?;
        }
        optional(&mut map, "n", sampling.choices)?;
        if let Some(alternatives) = sampling.logprobs {
            map.serialize_entry("logprobs", &true)?;
            if alternatives > 0 {
                map.serialize_entry("top_logprobs", &alternatives)?;
            }
        }
        if let Some(reasoning) = &chat.reasoning {
            optional(&mut map, "reasoning_effort", reasoning.effort.as_deref())?;
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
                if !OWN_MEMBERS.contains(&field.name.as_str()) {
                    map.serialize_entry(&field.name, &field.value)?;
                }
            }
        }
        map.end()
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
                    strict: tool.strict,
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
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.messages.len()))?;
        for message in self.messages {
            list.serialize_element(&OneMessage {
                message,
                profile: self.profile,
                passes: self.passes,
            })?;
        }
        list.end()
    }
}

struct OneMessage<'a> {
    message: &'a Message,
    profile: &'a Profile,
    passes: bool,
}

impl Serialize for OneMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { message, passes, .. } = *self;
        let mut map = serializer.serialize_map(None)?;
        let role = match message.role {
            Role::Developer if self.profile.developer => "developer",
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        map.serialize_entry("role", role)?;
        if let Some(answers) = &message.answers {
            map.serialize_entry("tool_call_id", &answers.call_id)?;
        }
        optional(&mut map, "name", message.name.as_ref())?;
        let calls = message.parts.iter().filter(|part| is_call(part)).count();
        let parts = Parts { parts: &message.parts, passes };
        match parts.single_text() {
            Some(text) => map.serialize_entry("content", text)?,
            None if parts.count() > 0 => map.serialize_entry("content", &parts)?,
            // Required, but for an assistant's message that has calls in its place.
            None if calls == 0 => map.serialize_entry("content", "")?,
            None => map.serialize_entry("content", &())?,
        }
        if calls > 0 {
            map.serialize_entry("tool_calls", &Calls { parts: &message.parts, calls })?;
        }
        if passes {
            for field in &message.extra {
                map.serialize_entry(&field.name, &field.value)?;
            }
        }
        map.end()
    }
}

fn is_call(part: &Part) -> bool {
    matches!(part.body, PartBody::ToolCall(_))
}

struct Calls<'a> {
    parts: &'a [Part],
    calls: usize,
}

impl Serialize for Calls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            id: &'a str,
            r#type: &'static str,
            function: Function<'a>,
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
                list.serialize_element(&Call { id: &call.id, r#type: "function", function })?;
            }
        }
        list.end()
    }
}

/// The parts of a message that belong under `content`.
struct Parts<'a> {
    parts: &'a [Part],
    passes: bool,
}

impl<'a> Parts<'a> {
    fn content(&self) -> impl Iterator<Item = &'a Part> {
        let passes = self.passes;
        self.parts.iter().filter(move |part| match part.body {
            PartBody::Text(_) | PartBody::Media(_) | PartBody::Refusal(_) => true,
            PartBody::Other(_) => passes,
            PartBody::ToolCall(_) | PartBody::Thinking(_) | PartBody::RedactedThinking(_) => false,
        })
    }

    fn count(&self) -> usize {
        self.content().count()
    }

    /// The text of a message that has nothing else: the form every vendor knows.
    fn single_text(&self) -> Option<&'a Text> {
        let mut content = self.content();
        match (content.next(), content.next()) {
            (Some(Part { body: PartBody::Text(text), extra, .. }), None) if extra.is_empty() => {
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
                _ => list.serialize_element(&OnePart { part, passes: self.passes })?,
            }
        }
        list.end()
    }
}

struct OnePart<'a> {
    part: &'a Part,
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
            _ => {}
        }
        if self.passes {
            for field in &self.part.extra {
                map.serialize_entry(&field.name, &field.value)?;
            }
        }
        map.end()
    }
}

fn write_media<M: SerializeMap>(media: &Media, map: &mut M) -> Result<(), M::Error> {
    #[derive(Serialize)]
    struct Image<'a> {
        url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
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

#[derive(Serialize)]
struct EmbedBody<'a> {
    model: &'a str,
    input: Inputs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    encoding_format: &'static str,
    #[serde(flatten)]
    extra: Fields<'a>,
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
