//! A chat as the body of `:generateContent` or `:streamGenerateContent`.
//!
//! Built from borrowed parts and written once: a fresh instance does this for every request, so
//! what is copied here is paid for each time. Content stays what it is in the operation, a mark or
//! the text itself. What the vendor has no place for is left out with a warning; what would change
//! the meaning of the request is refused.

use std::borrow::Cow;

use keyward_sdk::{
    Chat, Failure, Format, Framing, MediaKind, Output, PartBody, VendorRequest, json::Raw,
    path_segment, schema,
};
use serde::{Serialize, Serializer};

use crate::{
    contents::{Content, Conversation, Part, System},
    models::{Traits, short_name, traits},
    settings::{SafetySetting, Settings},
    thinking::{self, ThinkingConfig},
    tools::{self, ToolConfig, ToolEntry},
};

/// What the vendor's schemas don't know. It is ignored, so an answer may break it.
const UNENFORCED: [&str; 16] = [
    "pattern",
    "minLength",
    "maxLength",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "uniqueItems",
    "contains",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "not",
    "allOf",
    "if",
    "const",
];

/// Stands for a JSON format that the model doesn't take beside functions.
const JSON_ONLY: &str =
    "Answer with one JSON object and nothing else: no text around it, no code fence.";

/// The request for a chat; what had to be changed on the way goes to `out` as warnings.
///
/// # Errors
///
/// If the vendor can't do what is asked, or the request holds something that isn't JSON.
pub fn chat(chat: &Chat, settings: &Settings, out: &mut Output) -> Result<VendorRequest, Failure> {
    let model = resource(&chat.model);
    let body = Request::new(chat, settings, out)?;
    Ok(match chat.stream {
        true => VendorRequest::post(format!("{model}:streamGenerateContent?alt=sse"), &body)?
            .framed(Framing::Sse),
        false => VendorRequest::post(format!("{model}:generateContent"), &body)?,
    })
}

/// The path of a model or a tuned model.
pub fn resource(model: &str) -> String {
    match model.strip_prefix("tunedModels/") {
        Some(tuned) => format!("/tunedModels/{}", path_segment(tuned)),
        None => format!("/models/{}", path_segment(short_name(model))),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<System<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    safety_settings: Vec<SafetySetting>,
    #[serde(skip_serializing_if = "GenerationConfig::is_empty")]
    generation_config: GenerationConfig<'a>,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    response_logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Schema<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_resolution: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

/// JSON text of a schema, written as it is.
#[derive(PartialEq)]
struct Schema<'a>(&'a str);

impl Serialize for Schema<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw(self.0).serialize(serializer)
    }
}

impl GenerationConfig<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl<'a> Request<'a> {
    fn new(chat: &'a Chat, settings: &Settings, out: &mut Output) -> Result<Self, Failure> {
        out.dropped_fields(&chat.extra, "Gemini has no such field.");
        let traits = traits(&chat.model);
        let mut conversation = Conversation::new(traits);
        for message in &chat.messages {
            conversation.add(message, out)?;
        }
        let (mut system, contents) = conversation.finish(out);
        if contents.is_empty() {
            let message = "Gemini needs a message with content besides the system's.";
            return Err(Failure::invalid("messages", message));
        }
        let tools = tools::tools(&chat.tools, out);
        let tool_config = tools::config(chat, out)?;
        let mut generation_config = sampling(chat, traits, out);
        // Older models refuse both together.
        let native = tools.is_empty() || traits.json_with_tools;
        match (&chat.format, native) {
            (Format::Text, _) => {}
            (Format::Json, true) => {
                generation_config.response_mime_type = Some("application/json");
            }
            (Format::Json, false) => {
                out.emulated("format", emulation(chat));
                system.push(Part::text(JSON_ONLY));
            }
            (Format::Schema(wanted), native) => {
                if wanted.description.is_some() {
                    let message = "Gemini takes a description inside the schema only.";
                    out.dropped("format.description", message);
                }
                if native {
                    generation_config.response_mime_type = Some("application/json");
                    generation_config.response_json_schema = Some(enforced(&wanted.schema, out)?);
                } else {
                    out.emulated("format", emulation(chat));
                    let text = format!("{JSON_ONLY} It fits this JSON schema: {}", wanted.schema);
                    system.push(Part::text(Cow::Owned(text)));
                }
            }
        }
        generation_config.media_resolution = resolution(chat, out);
        generation_config.thinking_config = thinking::config(chat, traits, out);
        Ok(Self {
            system_instruction: (!system.is_empty()).then_some(System { parts: system }),
            contents,
            tools,
            tool_config,
            safety_settings: settings.safety_settings(),
            generation_config,
        })
    }
}

fn emulation(chat: &Chat) -> String {
    format!("{} doesn't take a JSON format beside tools: it was told to write JSON.", chat.model)
}

/// A schema as it is; says what of it the vendor doesn't enforce.
fn enforced<'a>(text: &'a str, out: &mut Output) -> Result<Schema<'a>, Failure> {
    let (_, found) = schema::without(text, &UNENFORCED).map_err(|error| {
        let message = format!("The schema is no JSON object: {error}");
        Failure::invalid("format.schema", message)
    })?;
    if !found.is_empty() {
        let found = found.join(", ");
        out.changed("format.schema", format!("Gemini doesn't enforce these limits: {found}."));
    }
    Ok(Schema(text))
}

fn sampling<'a>(chat: &'a Chat, traits: Traits, out: &mut Output) -> GenerationConfig<'a> {
    let wanted = &chat.sampling;
    let mut config = GenerationConfig {
        max_output_tokens: wanted.max_output_tokens,
        stop_sequences: &wanted.stop,
        candidate_count: wanted.choices.filter(|&count| count != 1),
        response_logprobs: wanted.logprobs.is_some(),
        logprobs: wanted.logprobs.filter(|&alternatives| alternatives > 0),
        seed: wanted.seed.map(|seed| {
            i32::try_from(seed).unwrap_or_else(|_| {
                out.changed(
                    "sampling.seed",
                    "Gemini's seeds have 32 bits: the lower ones were sent.",
                );
                seed as i32
            })
        }),
        ..GenerationConfig::default()
    };
    if traits.sampling {
        config.temperature = wanted.temperature;
        config.top_p = wanted.top_p;
        config.top_k = wanted.top_k;
        config.frequency_penalty = wanted.frequency_penalty;
        config.presence_penalty = wanted.presence_penalty;
        return config;
    }
    // Left out where it is what the model does anyway.
    for (set, subject) in [
        (wanted.temperature.is_some_and(|it| it != 1.0), "sampling.temperature"),
        (wanted.top_p.is_some_and(|it| it != 1.0), "sampling.top-p"),
        (wanted.top_k.is_some(), "sampling.top-k"),
        (wanted.frequency_penalty.is_some_and(|it| it != 0.0), "sampling.frequency-penalty"),
        (wanted.presence_penalty.is_some_and(|it| it != 0.0), "sampling.presence-penalty"),
    ] {
        if set {
            out.dropped(subject, format!("{} doesn't take it.", chat.model));
        }
    }
    config
}

/// The detail that all images and videos ask for: the vendor has one for the whole request.
fn resolution(chat: &Chat, out: &mut Output) -> Option<&'static str> {
    let mut found = None;
    let parts = chat.messages.iter().flat_map(|message| &message.parts);
    for part in parts {
        let PartBody::Media(media) = &part.body else { continue };
        if !matches!(media.kind, MediaKind::Image | MediaKind::Video) {
            continue;
        }
        let wanted = match media.detail.as_deref() {
            None | Some("auto") => None,
            Some("low") => Some("MEDIA_RESOLUTION_LOW"),
            Some("medium") => Some("MEDIA_RESOLUTION_MEDIUM"),
            Some("high") => Some("MEDIA_RESOLUTION_HIGH"),
            Some(other) => {
                let message = format!("Gemini doesn't know the detail \"{other}\".");
                out.dropped("messages.media.detail", message);
                None
            }
        };
        match found {
            None => found = Some(wanted),
            Some(before) if before == wanted => {}
            Some(_) => {
                let message = "Gemini has one resolution for all media of a request.";
                out.dropped("messages.media.detail", message);
                return None;
            }
        }
    }
    found.flatten()
}
