//! A chat as the body of `POST /responses`, but for the conversation itself.
//!
//! Built from borrowed parts and written once. What this API has no place for is left out with a
//! warning, or refused where the answer would be another one.

use keyward_sdk::{
    Chat, Failure, Field, Format, Framing, Message, Output, Part, PartBody, Schema, Tool,
    ToolChoice, VendorRequest,
    json::{Fields, Raw},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    DIALECT, Summary,
    input::{Conversation, Item},
};
use crate::models;

/// Members this request writes itself; a caller's field of the same name is not repeated.
const OWN_MEMBERS: [&str; 11] = [
    "model",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "stream",
    "instructions",
];

const ENCRYPTED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";

/// A function without parameters needs a schema all the same.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

const UNKNOWN_FIELD: &str = "OpenAI doesn't speak the caller's dialect.";

/// The request for a chat; what had to be changed on the way goes to `out` as warnings.
///
/// # Errors
/// If the API can't do what is asked, or the request holds something that isn't JSON.
pub fn chat(chat: &Chat, summary: Summary, out: &mut Output) -> Result<VendorRequest, Failure> {
    let request = VendorRequest::post("/responses", &Request::new(chat, summary, out)?)?;
    Ok(request.framed(if chat.stream { Framing::Sse } else { Framing::Json }))
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<TextConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<ReasoningConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    stream: bool,
    #[serde(flatten)]
    extra: Members<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolEntry<'a> {
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        parameters: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
        #[serde(flatten)]
        extra: Fields<'a>,
    },
    Own {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
        #[serde(flatten)]
        extra: Fields<'a>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
    },
}

#[derive(Serialize)]
struct TextConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<AnswerFormat<'a>>,
    #[serde(flatten)]
    extra: Members<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnswerFormat<'a> {
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

#[derive(Serialize)]
struct ReasoningConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
    #[serde(flatten)]
    extra: Members<'a>,
}

/// The caller's unknown fields that belong into one object, under the names they have there.
#[derive(Default)]
struct Members<'a>(Vec<(&'a str, &'a Field)>);

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

impl<'a> Request<'a> {
    fn new(chat: &'a Chat, summary: Summary, out: &mut Output) -> Result<Self, Failure> {
        let native = chat.dialect == DIALECT;
        warn_of_losses(chat, out)?;
        let (mut extra, mut in_text, mut in_reasoning) =
            (Members::default(), Members::default(), Members::default());
        for field in &chat.extra {
            let name = field.name.as_str();
            if !native {
                out.dropped(format!("extra.{name}"), UNKNOWN_FIELD);
            } else if let Some(name) = name.strip_prefix("text.") {
                in_text.0.push((name, field));
            } else if let Some(name) = name.strip_prefix("reasoning.") {
                in_reasoning.0.push((name, field));
            } else if !OWN_MEMBERS.contains(&name)
                // A choice that the contract has no words for is sent as the caller wrote it.
                || (name == "tool_choice" && chat.tool_choice.is_none())
            {
                extra.0.push((name, field));
            }
        }

        let (instructions, messages) = instructions(chat, native);
        let mut conversation = Conversation::new(native, models::takes_cache_marks(&chat.model));
        for message in messages {
            conversation.add(message, out)?;
        }
        let input = conversation.finish(out);

        let format = format(&chat.format);
        let effort = chat.reasoning.as_ref().and_then(|wanted| wanted.effort.as_deref());
        // A caller of the dialect says itself what it wants to see.
        let summary = summary.wish().filter(|_| !native && effort != Some("none"));
        let mut include = Vec::new();
        if !native && models::reasons(&chat.model) {
            include.push(ENCRYPTED);
        }
        if chat.sampling.logprobs.is_some() {
            include.push(LOGPROBS);
        }
        if extra.has("include") {
            include.clear();
        }
        Ok(Self {
            model: &chat.model,
            instructions,
            input,
            tools: tools(&chat.tools, native, out)?,
            tool_choice: chat.tool_choice.as_ref().map(|choice| match choice {
                ToolChoice::Auto => Choice::Word("auto"),
                ToolChoice::None => Choice::Word("none"),
                ToolChoice::Required => Choice::Word("required"),
                ToolChoice::Tool(name) => Choice::Function { kind: "function", name },
            }),
            parallel_tool_calls: chat.parallel_tool_calls,
            text: (format.is_some() || !in_text.0.is_empty())
                .then_some(TextConfig { format, extra: in_text }),
            reasoning: (effort.is_some() || summary.is_some() || !in_reasoning.0.is_empty())
                .then_some(ReasoningConfig { effort, summary, extra: in_reasoning }),
            max_output_tokens: chat.sampling.max_output_tokens,
            temperature: chat.sampling.temperature,
            top_p: chat.sampling.top_p,
            top_logprobs: chat.sampling.logprobs,
            include,
            store: (!native).then_some(false),
            stream: chat.stream,
            extra,
        })
    }
}

/// Instructions apart from the conversation: the API doesn't remember them as it does messages. A
/// caller of the dialect that gave some has a field of this name, and their text as first message.
fn instructions(chat: &Chat, native: bool) -> (Option<&str>, &[Message]) {
    let given = native && chat.extra.iter().any(|field| field.name == "instructions");
    if let (true, Some((first, rest))) = (given, chat.messages.split_first())
        && let [Part { body: PartBody::Text(text), .. }] = first.parts.as_slice()
    {
        return (Some(&text.value), rest);
    }
    (None, &chat.messages)
}

/// Warns of what this API has no place for, and refuses what can't be left out.
fn warn_of_losses(chat: &Chat, out: &mut Output) -> Result<(), Failure> {
    let sampling = &chat.sampling;
    if sampling.choices.is_some_and(|count| count > 1) {
        let message = "OpenAI's Responses give one answer to a prompt, not several.";
        return Err(Failure::unsupported(message).with_param("sampling.choices"));
    }
    for (set, subject) in [
        (!sampling.stop.is_empty(), "sampling.stop"),
        (sampling.seed.is_some(), "sampling.seed"),
        (sampling.top_k.is_some(), "sampling.top-k"),
        (sampling.frequency_penalty.is_some_and(|it| it != 0.0), "sampling.frequency-penalty"),
        (sampling.presence_penalty.is_some_and(|it| it != 0.0), "sampling.presence-penalty"),
    ] {
        if set {
            out.dropped(subject, "OpenAI's Responses have nothing like it.");
        }
    }
    if chat.reasoning.as_ref().is_some_and(|reasoning| reasoning.budget_tokens.is_some()) {
        out.dropped("reasoning.budget-tokens", "OpenAI takes an effort, not a budget.");
    }
    Ok(())
}

fn format(format: &Format) -> Option<AnswerFormat<'_>> {
    match format {
        Format::Text => None,
        Format::Json => Some(AnswerFormat::JsonObject),
        Format::Schema(Schema { name, description, schema, strict }) => {
            Some(AnswerFormat::JsonSchema {
                // The vendor insists on a name.
                name: if name.is_empty() { "answer" } else { name },
                description: description.as_deref(),
                schema: Raw(schema),
                strict: *strict,
            })
        }
    }
}

fn tools<'a>(
    tools: &'a [Tool],
    native: bool,
    out: &mut Output,
) -> Result<Vec<ToolEntry<'a>>, Failure> {
    let mut entries = Vec::with_capacity(tools.len());
    for Tool { name, description, parameters, strict, kind, cache, extra } in tools {
        if cache.is_some() {
            let message = "OpenAI takes cache marks on the conversation, not on tools.";
            out.dropped("tools.cache", message);
        }
        if !native {
            out.dropped_fields(extra, UNKNOWN_FIELD);
        }
        let extra = Fields(if native { extra } else { &[] });
        if !kind.is_empty() {
            if !native {
                let message = format!("OpenAI doesn't run the tool \"{kind}\" itself.");
                return Err(Failure::unsupported(message).with_param("tools"));
            }
            entries.push(ToolEntry::Own { kind, name, extra });
            continue;
        }
        let parameters = if parameters.is_empty() { NO_PARAMETERS } else { parameters.as_str() };
        entries.push(ToolEntry::Function {
            kind: "function",
            name,
            description: description.as_deref(),
            parameters: Raw(parameters),
            // Left out, this API takes it for true, where all others take it for false.
            strict: if native { *strict } else { Some(*strict == Some(true)) },
            extra,
        });
    }
    Ok(entries)
}

fn is_false(value: &bool) -> bool {
    !value
}
