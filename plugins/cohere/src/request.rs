//! A chat as the body of `POST /v2/chat`.
//!
//! Built from borrowed parts and written once: a fresh instance does this for every request, so
//! what is copied here is paid for each time. Content stays what it is in the operation, a mark or
//! the text itself. What the vendor has no place for is left out with a warning; what would change
//! the meaning of the request is refused.

use keyward_sdk::{Chat, Failure, Format, Framing, Output, VendorRequest, json::Raw, schema};
use serde::{Serialize, Serializer};

use crate::{
    messages::{Conversation, Message},
    models::never_thinks,
    settings::{Citations, SafetyMode, Settings},
    tools::{self, ToolEntry},
};

/// What the vendor's constrained decoding doesn't know.
const UNENFORCED: [&str; 13] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "not",
];

/// The vendor asks for such words beside a JSON format: models ramble without.
const JSON_ONLY: &str =
    "Answer with one JSON object and nothing else: no text around it, no code fence.";

/// The request for a chat; what had to be changed on the way goes to `out` as warnings.
///
/// # Errors
///
/// If the vendor can't do what is asked, or the request holds something that isn't JSON.
pub fn chat(chat: &Chat, settings: &Settings, out: &mut Output) -> Result<VendorRequest, Failure> {
    let request = VendorRequest::post("/v2/chat", &Request::new(chat, settings, out)?)?;
    Ok(request.framed(if chat.stream { Framing::Sse } else { Framing::Json }))
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolEntry<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict_tools: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_mode: Option<SafetyMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    citation_options: Option<CitationOptions>,
    #[serde(flatten)]
    sampling: Sampling<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<Schema>,
}

/// JSON text, written as it is.
struct Schema(String);

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw(&self.0).serialize(serializer)
    }
}

#[derive(Serialize)]
struct CitationOptions {
    mode: Citations,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Thinking {
    Enabled {
        #[serde(skip_serializing_if = "Option::is_none")]
        token_budget: Option<u32>,
    },
    Disabled,
}

#[derive(Serialize)]
struct Sampling<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
}

impl<'a> Request<'a> {
    fn new(chat: &'a Chat, settings: &Settings, out: &mut Output) -> Result<Self, Failure> {
        if chat.sampling.choices.is_some_and(|count| count > 1) {
            let message = "Cohere gives one answer to a prompt, not several.";
            return Err(Failure::unsupported(message).with_param("sampling.choices"));
        }
        out.dropped_fields(&chat.extra, "Cohere has no such field.");
        let tools = tools::tools(chat, out)?;
        let mut conversation = Conversation::new(never_thinks(&chat.model));
        for message in &chat.messages {
            conversation.add(message, out)?;
        }
        let native = tools.entries.is_empty();
        let response_format = format(chat, native, &mut conversation, out)?;
        let messages = conversation.finish(out)?;

        let mut safety_mode =
            Some(settings.safety_mode).filter(|mode| *mode != SafetyMode::Default);
        if !native && safety_mode.take().is_some() {
            let message = "Cohere takes no safety mode together with tools.";
            out.dropped("settings.safety_mode", message);
        }
        let mode = Some(settings.citations).filter(|mode| *mode != Citations::Default);
        Ok(Self {
            model: &chat.model,
            messages,
            tools: tools.entries,
            strict_tools: tools.strict,
            tool_choice: tools.choice,
            response_format,
            safety_mode,
            citation_options: mode.map(|mode| CitationOptions { mode }),
            sampling: Sampling::new(chat, out),
            thinking: thinking(chat, out),
            stream: chat.stream,
        })
    }
}

fn format<'a>(
    chat: &'a Chat,
    native: bool,
    conversation: &mut Conversation<'a>,
    out: &mut Output,
) -> Result<Option<ResponseFormat>, Failure> {
    let kind = "json_object";
    let emulation = "Cohere takes no JSON format beside tools: the model was told to write JSON.";
    match (&chat.format, native) {
        (Format::Text, _) => Ok(None),
        (Format::Json, true) => {
            out.changed("messages", "Cohere wants JSON to be asked for in words too.");
            conversation.tell(JSON_ONLY);
            Ok(Some(ResponseFormat { kind, json_schema: None }))
        }
        (Format::Json, false) => {
            out.emulated("format", emulation);
            conversation.tell(JSON_ONLY);
            Ok(None)
        }
        (Format::Schema(wanted), native) => {
            if wanted.description.is_some() {
                let message = "Cohere takes a description inside the schema only.";
                out.dropped("format.description", message);
            }
            if !native {
                out.emulated("format", emulation);
                let schema = &wanted.schema;
                conversation.tell(format!("{JSON_ONLY} It fits this JSON schema: {schema}"));
                return Ok(None);
            }
            let (schema, found) =
                schema::without(&wanted.schema, &UNENFORCED).map_err(|error| {
                    let message = format!("The schema is no JSON object: {error}");
                    Failure::invalid("format.schema", message)
                })?;
            if !found.is_empty() {
                let found = found.join(", ");
                let message = format!("Cohere doesn't enforce these limits: {found}.");
                out.changed("format.schema", message);
            }
            Ok(Some(ResponseFormat { kind, json_schema: Some(Schema(schema)) }))
        }
    }
}

impl<'a> Sampling<'a> {
    /// What of the caller's sampling fits the vendor's bounds, at their edge where it doesn't.
    fn new(chat: &'a Chat, out: &mut Output) -> Self {
        let wanted = &chat.sampling;
        let mut within = |value: Option<f64>, min: f64, max: f64, subject: &str| {
            value.map(|value| {
                if !(min..=max).contains(&value) {
                    let message = format!("Cohere takes {min} to {max}.");
                    out.changed(subject, message);
                }
                value.clamp(min, max)
            })
        };
        let temperature = within(wanted.temperature, 0.0, 1.0, "sampling.temperature");
        let p = within(wanted.top_p, 0.01, 0.99, "sampling.top-p");
        let frequency_penalty =
            within(wanted.frequency_penalty, 0.0, 1.0, "sampling.frequency-penalty");
        let presence_penalty =
            within(wanted.presence_penalty, 0.0, 1.0, "sampling.presence-penalty");
        if wanted.logprobs.is_some_and(|alternatives| alternatives > 0) {
            let message = "Cohere gives the chosen tokens' probabilities, not the alternatives'.";
            out.changed("sampling.logprobs", message);
        }
        let seed = wanted.seed.map(|seed| {
            if seed < 0 {
                out.changed("sampling.seed", "Cohere's seeds have no sign.");
            }
            seed.unsigned_abs()
        });
        Self {
            max_tokens: wanted.max_output_tokens,
            stop_sequences: &wanted.stop,
            temperature,
            seed,
            frequency_penalty,
            presence_penalty,
            k: wanted.top_k,
            p,
            logprobs: wanted.logprobs.is_some(),
        }
    }
}

fn thinking(chat: &Chat, out: &mut Output) -> Option<Thinking> {
    let reasoning = chat.reasoning.as_ref()?;
    let (effort, budget) = (reasoning.effort.as_deref(), reasoning.budget_tokens);
    let off = effort == Some("none") || (effort.is_none() && budget == Some(0));
    if never_thinks(&chat.model) {
        if !off && (effort.is_some() || budget.is_some()) {
            out.dropped("reasoning", format!("{} doesn't think.", chat.model));
        }
        return None;
    }
    match (effort, budget) {
        _ if off => Some(Thinking::Disabled),
        (None, None) => None,
        (Some(_), None) => {
            let message = "Cohere's models think as much as they like, or up to a number of \
                           tokens; they take no effort.";
            out.changed("reasoning.effort", message);
            Some(Thinking::Enabled { token_budget: None })
        }
        (_, budget) => Some(Thinking::Enabled { token_budget: budget }),
    }
}
