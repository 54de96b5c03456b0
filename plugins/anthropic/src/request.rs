//! A chat as the body of `POST /messages`.
//!
//! Built from borrowed parts and written once: a fresh instance does this for every request, so
//! what is copied here is paid for each time. Content stays what it is in the operation, a mark or
//! the text itself. What the vendor has no place for is left out with a warning; what would change
//! the meaning of the request is refused.

use std::borrow::Cow;

use keyward_sdk::{
    Chat, Failure, Field, Format, Framing, Media, MediaKind, MediaSource, Message, Output, Part,
    PartBody, Role, Text, Tool, ToolChoice, Value, VendorRequest,
    json::{Fields, Raw},
};
use serde::{Serialize, Serializer};

use crate::{
    models::traits,
    schema,
    settings::Settings,
    thinking::{Plan, Thinking},
};

/// The caller's dialect whose unknown fields this vendor knows.
pub const DIALECT: &str = "anthropic-messages";

/// The request for a chat; what had to be changed on the way goes to `out` as warnings.
///
/// # Errors
///
/// If the vendor can't do what is asked, or the request holds something that isn't JSON.
pub fn chat(chat: &Chat, settings: &Settings, out: &mut Output) -> Result<VendorRequest, Failure> {
    let request = VendorRequest::post("/messages", &Request::new(chat, settings, out)?)?;
    Ok(request.framed(if chat.stream { Framing::Sse } else { Framing::Json }))
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Item<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(flatten)]
    sampling: Sampling,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    stream: bool,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Content<'a>,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Block(Block<'a>),
    /// A block of the vendor's own that the contract doesn't know.
    Raw(Raw<'a>),
}

impl Item<'_> {
    fn is_result(&self) -> bool {
        matches!(self, Self::Block(Block { body: BlockBody::ToolResult { .. }, .. }))
    }
}

#[derive(Serialize)]
struct Block<'a> {
    #[serde(flatten)]
    body: BlockBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockBody<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a Text>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Value,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Content::is_empty")]
        content: Content<'a>,
        #[serde(skip_serializing_if = "is_false")]
        is_error: bool,
    },
    Thinking {
        thinking: &'a Text,
        signature: &'a Text,
    },
    RedactedThinking {
        data: &'a Text,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a Text },
    Url { url: &'a Text },
    File { file_id: &'a str },
}

#[derive(Serialize)]
struct CacheControl<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ttl: &'a str,
}

#[derive(Serialize)]
struct ToolEntry<'a> {
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    /// Some of the vendor's own tools have none.
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<RawCow<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    strict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    disable_parallel_tool_use: bool,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat<'a>>,
}

#[derive(Serialize)]
struct OutputFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: RawCow<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a Value,
}

/// Stands for a JSON mode, which this vendor has only with a schema.
const JSON_ONLY: &str =
    "Answer with one JSON object and nothing else: no text around it, no code fence.";

const UNKNOWN_FIELD: &str = "Anthropic has no such field.";

impl<'a> Request<'a> {
    fn new(chat: &'a Chat, settings: &Settings, out: &mut Output) -> Result<Self, Failure> {
        if chat.sampling.choices.is_some_and(|count| count > 1) {
            return Err(Failure::unsupported(
                "Anthropic gives one answer to a prompt, not several.",
            )
            .with_param("sampling.choices"));
        }
        let native = chat.dialect == DIALECT;
        let traits = traits(&chat.model);
        let mut conversation = Conversation::new(native, traits.system_turns);
        for message in &chat.messages {
            conversation.add(message, out)?;
        }
        let (mut system, turns) = conversation.finish(out);
        if turns.is_empty() {
            let message = "Anthropic needs a message that isn't empty, beside the system's.";
            return Err(Failure::invalid("messages", message));
        }
        let format = match &chat.format {
            Format::Text => None,
            Format::Json => {
                let message = "Anthropic has no JSON mode without a schema: the model was told to.";
                out.emulated("format", message);
                system.push(Item::Block(Block::plain(BlockBody::Text { text: JSON_ONLY })));
                None
            }
            Format::Schema(wanted) => {
                let schema = RawCow(Cow::Owned(rewrite(&wanted.schema, "format.schema", out)?));
                Some(OutputFormat { kind: "json_schema", schema })
            }
        };

        let tools = tools(&chat.tools, native, out)?;
        let mut tool_choice = tool_choice(chat);
        if tools.is_empty() {
            // The vendor refuses a choice of nothing.
            let lost =
                tool_choice.take().is_some_and(|choice| matches!(choice.kind, "any" | "tool"));
            if lost {
                out.dropped("tool-choice", "There is no tool to choose.");
            }
        }
        let forced =
            tool_choice.as_ref().is_some_and(|choice| matches!(choice.kind, "any" | "tool"));
        let plan = Plan::new(chat, settings, traits, forced, out);
        let sampling = Sampling::new(chat, traits.sampling, plan.thinks(), out);

        let mut metadata = None;
        if !native {
            for field in &chat.extra {
                match field.name.as_str() {
                    "user" => metadata = Some(Metadata { user_id: &field.value }),
                    name => out.dropped(format!("extra.{name}"), UNKNOWN_FIELD),
                }
            }
        }
        // If the operation can't say all of it, it comes as the caller wrote it.
        let own = native && chat.extra.iter().any(|field| field.name == "output_config");
        let has_config = !own && (plan.effort.is_some() || format.is_some());
        Ok(Self {
            model: &chat.model,
            max_tokens: plan.max_tokens,
            system,
            messages: turns,
            tools,
            tool_choice,
            output_config: has_config.then_some(OutputConfig { effort: plan.effort, format }),
            thinking: plan.thinking,
            sampling,
            stop_sequences: &chat.sampling.stop,
            metadata,
            stream: chat.stream,
            extra: Fields(if native { &chat.extra } else { &[] }),
        })
    }
}

#[derive(Default, Serialize)]
struct Sampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
}

impl Sampling {
    /// What of the caller's sampling the model takes: `known` if its generation has any, and none
    /// while it `thinks`.
    fn new(chat: &Chat, known: bool, thinks: bool, out: &mut Output) -> Self {
        let wanted = &chat.sampling;
        for (set, subject) in [
            (wanted.seed.is_some(), "sampling.seed"),
            (wanted.frequency_penalty.is_some_and(|it| it != 0.0), "sampling.frequency-penalty"),
            (wanted.presence_penalty.is_some_and(|it| it != 0.0), "sampling.presence-penalty"),
            (wanted.logprobs.is_some(), "sampling.logprobs"),
        ] {
            if set {
                out.dropped(subject, "Anthropic has nothing like it.");
            }
        }
        // 1 is the vendor's default: leaving it out changes nothing.
        let temperature = wanted.temperature.filter(|&it| it != 1.0);
        let top_p = wanted.top_p.filter(|&it| it != 1.0);
        if !known || thinks {
            let why = if known { "while it thinks" } else { "at all" };
            for (set, subject) in [
                (temperature.is_some(), "sampling.temperature"),
                (top_p.is_some(), "sampling.top-p"),
                (wanted.top_k.is_some(), "sampling.top-k"),
            ] {
                if set {
                    out.dropped(subject, format!("{} doesn't take it {why}.", chat.model));
                }
            }
            return Self::default();
        }
        if temperature.is_some_and(|it| it > 1.0) {
            out.changed("sampling.temperature", "Anthropic's highest temperature is 1.");
        }
        let temperature = temperature.filter(|&it| it < 1.0);
        if temperature.is_some() && top_p.is_some() {
            out.dropped("sampling.top-p", "Anthropic takes temperature or top_p, not both.");
        }
        Self { temperature, top_p: top_p.filter(|_| temperature.is_none()), top_k: wanted.top_k }
    }
}

/// A schema as the vendor takes it; says what was left out.
fn rewrite(text: &str, subject: &str, out: &mut Output) -> Result<String, Failure> {
    let (schema, dropped) = schema::rewrite(text).map_err(|error| {
        Failure::invalid(subject, format!("The schema is no JSON object: {error}"))
    })?;
    if !dropped.is_empty() {
        let dropped = dropped.join(", ");
        out.changed(subject, format!("Anthropic doesn't enforce these limits: {dropped}."));
    }
    Ok(schema)
}

fn tools<'a>(
    tools: &'a [Tool],
    native: bool,
    out: &mut Output,
) -> Result<Vec<ToolEntry<'a>>, Failure> {
    let mut entries = Vec::with_capacity(tools.len());
    for tool in tools {
        let function = tool.kind.is_empty();
        if !function && !native {
            out.dropped("tools", format!("Anthropic doesn't know the tool \"{}\".", tool.kind));
            continue;
        }
        let strict = tool.strict == Some(true);
        let schema = tool.parameters.as_str();
        let input_schema = match schema {
            "" => function.then_some(Cow::Borrowed(NO_PARAMETERS)),
            _ if strict => Some(Cow::Owned(rewrite(schema, "tools.parameters", out)?)),
            _ => Some(Cow::Borrowed(schema)),
        };
        entries.push(ToolEntry {
            kind: &tool.kind,
            name: &tool.name,
            description: tool.description.as_deref(),
            input_schema: input_schema.map(RawCow),
            strict,
            cache_control: tool.cache.as_deref().map(CacheControl::new),
            extra: fields(&tool.extra, native, out),
        });
    }
    Ok(entries)
}

const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

fn tool_choice(chat: &Chat) -> Option<Choice<'_>> {
    let one_at_a_time = chat.parallel_tool_calls == Some(false);
    let (kind, name) = match &chat.tool_choice {
        None if !one_at_a_time => return None,
        None | Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name.as_str())),
        Some(ToolChoice::None) => ("none", None),
    };
    Some(Choice { kind, name, disable_parallel_tool_use: one_at_a_time && kind != "none" })
}

/// The caller's unknown fields, where this vendor may know them.
fn fields<'a>(extra: &'a [Field], native: bool, out: &mut Output) -> Fields<'a> {
    if native {
        return Fields(extra);
    }
    out.dropped_fields(extra, UNKNOWN_FIELD);
    Fields(&[])
}

/// Turns as they grow: the vendor wants user and assistant to alternate, and all results of an
/// assistant's calls in the one user turn after it.
///
/// System text between turns is a turn of its own on models that know such: behind one of the user
/// and before one of the assistant, nowhere else. It waits until there is such a place.
struct Conversation<'a> {
    native: bool,
    /// The model takes system text between turns.
    system_turns: bool,
    system: Vec<Item<'a>>,
    turns: Vec<Turn<'a>>,
    /// System text that waits for its place, with fields of its own.
    waiting: Vec<Item<'a>>,
    waiting_fields: &'a [Field],
    moved: bool,
    moved_to_front: bool,
}

impl<'a> Conversation<'a> {
    fn new(native: bool, system_turns: bool) -> Self {
        Self {
            native,
            system_turns,
            system: Vec::new(),
            turns: Vec::new(),
            waiting: Vec::new(),
            waiting_fields: &[],
            moved: false,
            moved_to_front: false,
        }
    }

    fn add(&mut self, message: &'a Message, out: &mut Output) -> Result<(), Failure> {
        let system = matches!(message.role, Role::System | Role::Developer);
        if !self.native || system && self.turns.is_empty() {
            fields(&message.extra, false, out);
        }
        // Those of a tool's message belong to the result, which is but a part of a turn.
        let of_result = message.role == Role::Tool && message.answers.is_some();
        let own: &[Field] = if self.native { &message.extra } else { &[] };
        let extra = if of_result { &[] } else { own };
        let role = match message.role {
            Role::System | Role::Developer if self.turns.is_empty() => {
                return parts(&message.parts, self.native, &mut self.system, out);
            }
            Role::System | Role::Developer => {
                self.waiting_fields = merged(self.waiting_fields, extra, out);
                return parts(&message.parts, self.native, &mut self.waiting, out);
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        if message.name.is_some() {
            out.dropped("messages.name", "Anthropic's messages have no names.");
        }
        match role {
            "assistant" => self.settle(out),
            _ => self.moved |= self.waits(),
        }
        // Turns with fields of their own stay apart: the vendor itself makes one of neighbours. All
        // results stand in one, and beside them what came with them.
        let joins = |last: &Turn<'_>| {
            let results = || last.content.0.iter().all(Item::is_result);
            last.extra.0.is_empty() && (extra.is_empty() || results()) || of_result
        };
        let mut turn = match self.turns.pop() {
            Some(mut last) if last.role == role && joins(&last) => {
                last.extra = Fields(merged(last.extra.0, extra, out));
                last
            }
            last => {
                self.turns.extend(last);
                let content = Content(Vec::with_capacity(message.parts.len()));
                Turn { role, content, extra: Fields(extra) }
            }
        };
        let items = &mut turn.content.0;
        match &message.answers {
            Some(answer) if message.role == Role::Tool => {
                let mut content = Content(Vec::with_capacity(message.parts.len()));
                parts(&message.parts, self.native, &mut content.0, out)?;
                let body = BlockBody::ToolResult {
                    tool_use_id: &answer.call_id,
                    content,
                    is_error: answer.is_error,
                };
                items.push(Item::Block(Block { extra: Fields(own), ..Block::plain(body) }));
            }
            _ => parts(&message.parts, self.native, items, out)?,
        }
        // A turn without content is refused. Its neighbours then meet and become one.
        if items.is_empty() {
            fields(extra, false, out);
        } else {
            self.turns.push(turn);
        }
        Ok(())
    }

    /// System text and turns, when all messages are in; says what was moved on the way.
    fn finish(mut self, out: &mut Output) -> (Vec<Item<'a>>, Vec<Turn<'a>>) {
        self.settle(out);
        if self.moved_to_front {
            let message = "Anthropic takes system messages before the conversation: later ones \
                           were moved there.";
            out.changed("messages", message);
        }
        if self.moved {
            let message = "Anthropic takes later system messages behind what the user says: some \
                           were moved there.";
            out.changed("messages", message);
        }
        (self.system, self.turns)
    }

    fn waits(&self) -> bool {
        !self.waiting.is_empty() || !self.waiting_fields.is_empty()
    }

    /// Puts waiting system text where it may stand: here, or before everything.
    fn settle(&mut self, out: &mut Output) {
        if !self.waits() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let extra = std::mem::take(&mut self.waiting_fields);
        if self.system_turns && self.turns.last().is_some_and(|last| last.role == "user") {
            let (content, extra) = (Content(waiting), Fields(extra));
            self.turns.push(Turn { role: "system", content, extra });
        } else {
            self.moved_to_front = true;
            self.system.extend(waiting);
            fields(extra, false, out);
        }
    }
}

/// The fields of two messages that become one turn: it has room for those of one.
fn merged<'a>(one: &'a [Field], other: &'a [Field], out: &mut Output) -> &'a [Field] {
    if one.is_empty() {
        return other;
    }
    fields(other, false, out);
    one
}

fn parts<'a>(
    parts: &'a [Part],
    native: bool,
    items: &mut Vec<Item<'a>>,
    out: &mut Output,
) -> Result<(), Failure> {
    for part in parts {
        let mut cache = part.cache.as_deref();
        let body = match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => {
                if text.blank {
                    let message = "Anthropic refuses texts of nothing, so it isn't sent.";
                    out.dropped_fields(&part.extra, message);
                    continue;
                }
                BlockBody::Text { text: &text.value }
            }
            PartBody::Media(media) => media_block(media, out)?,
            PartBody::ToolCall(call) => {
                BlockBody::ToolUse { id: &call.id, name: &call.name, input: &call.arguments }
            }
            // The text may be empty: models that don't show their thinking still sign it.
            PartBody::Thinking(thinking) => {
                let Some(signature) = &thinking.signature else {
                    let message = "Anthropic takes back only thinking that it signed.";
                    out.dropped("messages.thinking", message);
                    continue;
                };
                // The vendor refuses cache marks on thinking.
                cache = None;
                BlockBody::Thinking { thinking: &thinking.text, signature }
            }
            PartBody::RedactedThinking(data) => {
                cache = None;
                BlockBody::RedactedThinking { data }
            }
            PartBody::Other(other) if native => {
                items.push(Item::Raw(Raw(&other.value.json)));
                continue;
            }
            PartBody::Other(other) => {
                let message = format!("Anthropic doesn't know parts of type \"{}\".", other.kind);
                out.dropped("messages.parts", message);
                continue;
            }
        };
        items.push(Item::Block(Block {
            body,
            cache_control: cache.map(CacheControl::new),
            extra: fields(&part.extra, native, out),
        }));
    }
    Ok(())
}

fn media_block<'a>(media: &'a Media, out: &mut Output) -> Result<BlockBody<'a>, Failure> {
    const PDF: &str = "application/pdf";
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        out.dropped("messages.media.detail", "Anthropic's models see images as they are.");
    }
    let media_type = match (media.kind, media.media_type.as_str()) {
        (MediaKind::Image, given) => given,
        (MediaKind::File, "" | PDF) => PDF,
        // The vendor knows what it is.
        (MediaKind::File, _) if matches!(media.source, MediaSource::FileId(_)) => PDF,
        (MediaKind::File, other) => {
            let message = format!("Anthropic reads PDF files, not \"{other}\".");
            return Err(Failure::unsupported(message));
        }
        (MediaKind::Audio, _) => return Err(Failure::unsupported("Anthropic takes no audio.")),
        (MediaKind::Video, _) => return Err(Failure::unsupported("Anthropic takes no video.")),
    };
    let source = match &media.source {
        MediaSource::Base64(_) if media_type.is_empty() => {
            let message = "An inline image needs its media type, as in \"image/png\".";
            return Err(Failure::invalid("messages.parts.media", message));
        }
        MediaSource::Base64(data) => Source::Base64 { media_type, data },
        MediaSource::Url(url) => Source::Url { url },
        MediaSource::FileId(file_id) => Source::File { file_id },
    };
    Ok(match media.kind {
        MediaKind::Image => BlockBody::Image { source },
        _ => BlockBody::Document { source, title: media.name.as_ref().filter(|name| !name.blank) },
    })
}

impl<'a> Block<'a> {
    fn plain(body: BlockBody<'a>) -> Self {
        Self { body, cache_control: None, extra: Fields(&[]) }
    }
}

impl<'a> CacheControl<'a> {
    fn new(ttl: &'a str) -> Self {
        Self { kind: "ephemeral", ttl }
    }
}

/// JSON text of the operation's or made here, written as it is.
struct RawCow<'a>(Cow<'a, str>);

impl Serialize for RawCow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw(&self.0).serialize(serializer)
    }
}

/// The content of a turn or of a tool's result. One plain text needs no block around it.
struct Content<'a>(Vec<Item<'a>>);

impl Content<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [
                Item::Block(Block {
                    body: BlockBody::Text { text },
                    cache_control: None,
                    extra: Fields([]),
                }),
            ] => serializer.serialize_str(text),
            items => items.serialize(serializer),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
