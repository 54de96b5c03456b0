//! A conversation as the vendor's contents: turns of parts.
//!
//! Two things need care. All responses to the calls of one turn must stand together in the turn
//! after it. And a signature belongs to the part it came with: a call or a piece of text, while the
//! contract knows signatures of thinking only. So a signed part comes out as a signature followed by
//! the part, and goes back by the rule in [`Signature`].

use std::borrow::Cow;

use keyward_sdk::{
    Failure, Media, MediaKind, MediaSource, Message, Output, Part as Given, PartBody, Role, Text,
    Thinking, ToolAnswer, Value,
};
use serde::Serialize;

use crate::models::Traits;

/// Where files live that were uploaded to the vendor; they are named by their whole URL.
const FILES: &str = "https://generativelanguage.googleapis.com/v1beta/files/";

/// What the vendor takes where a signature is required and there is none, because the call was
/// made by another model or the caller's protocol lost it.
const UNSIGNED: &str = "skip_thought_signature_validator";

const UNKNOWN_FIELD: &str = "Gemini has no such field.";

#[derive(Serialize)]
pub struct Content<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
    /// Holds responses to calls, which share a turn with nothing else.
    #[serde(skip)]
    responses: bool,
}

/// Text before the conversation.
#[derive(Serialize)]
pub struct System<'a> {
    pub parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<'a> {
    #[serde(flatten)]
    body: Body<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Body<'a> {
    Text(Cow<'a, str>),
    InlineData(Blob<'a>),
    FileData(FileData<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a Text,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    mime_type: &'a str,
    file_uri: Cow<'a, str>,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a Value>,
}

#[derive(Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    response: Response,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<ResponsePart<'a>>,
}

/// The vendor wants an object; these two names are its own proposal.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response {
    Result(String),
    Error(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponsePart<'a> {
    inline_data: Blob<'a>,
}

impl<'a> Part<'a> {
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::of(Body::Text(text.into()))
    }

    fn of(body: Body<'a>) -> Self {
        Self { body, thought: false, thought_signature: None }
    }
}

/// Turns as they grow.
pub struct Conversation<'a> {
    traits: Traits,
    pub system: Vec<Part<'a>>,
    pub contents: Vec<Content<'a>>,
    /// Media out of a function's result that have to follow it as the user's.
    following: Vec<Part<'a>>,
    lost: Lost,
}

/// What was left out or changed, each said once however often it occurs.
#[derive(Default)]
struct Lost {
    system: bool,
    names: bool,
    media_names: bool,
    cache: bool,
    unsigned: bool,
    signature: bool,
    response_media: bool,
}

/// A signature whose part hasn't been found yet.
///
/// Gemini 3 requires it on the first call of a turn, and callers whose protocol keeps thinking
/// apart return it before the turn's text: it then goes to the next call, or without one to the
/// next text. Older models sign whatever part comes next and check nothing. A signature after
/// which nothing comes stands in a part of its own, as it does at the end of a stream.
struct Signature<'a> {
    signature: &'a str,
    /// The first text after it, by its place among the turn's parts.
    text: Option<usize>,
}

impl<'a> Conversation<'a> {
    pub fn new(traits: Traits) -> Self {
        Self {
            traits,
            system: Vec::new(),
            contents: Vec::new(),
            following: Vec::new(),
            lost: Lost::default(),
        }
    }

    pub fn add(&mut self, message: &'a Message, out: &mut Output) -> Result<(), Failure> {
        out.dropped_fields(&message.extra, UNKNOWN_FIELD);
        for part in &message.parts {
            self.lost.cache |= part.cache.is_some();
            out.dropped_fields(&part.extra, UNKNOWN_FIELD);
        }
        self.lost.names |= message.name.is_some();
        match (message.role, &message.answers) {
            (Role::System | Role::Developer, _) => {
                self.lost.system |= !self.contents.is_empty();
                let parts = self.user(&message.parts, out)?;
                self.system.extend(parts);
            }
            (Role::Tool, Some(answer)) => self.response(answer, &message.parts, out)?,
            (Role::User | Role::Tool, _) => {
                let parts = self.user(&message.parts, out)?;
                self.push("user", false, parts);
            }
            (Role::Assistant, _) => {
                let parts = self.assistant(&message.parts, out)?;
                self.push("model", false, parts);
            }
        }
        Ok(())
    }

    /// The turns, when all messages are in; says what was lost on the way.
    pub fn finish(mut self, out: &mut Output) -> (Vec<Part<'a>>, Vec<Content<'a>>) {
        self.push("user", false, Vec::new());
        let lost = &self.lost;
        if lost.system {
            let message = "Gemini takes system text before the conversation: later text was \
                           moved there.";
            out.changed("messages", message);
        }
        if lost.unsigned {
            let message = "Gemini takes back only thinking that it signed.";
            out.dropped("messages.thinking", message);
        }
        if lost.signature {
            let message = "A call came back without its signature: the model was told not to \
                           look for it, and answers less well.";
            out.emulated("messages.thinking", message);
        }
        if lost.response_media {
            let message = "Media in a function's result were sent as the user's.";
            out.emulated("messages.media", message);
        }
        for (lost, subject, message) in [
            (lost.names, "messages.name", "Gemini's messages have no names."),
            (lost.media_names, "messages.media.name", "Gemini's files have no names."),
            (lost.cache, "messages.cache", "Gemini caches prompts by itself."),
        ] {
            if lost {
                out.dropped(subject, message);
            }
        }
        (self.system, self.contents)
    }

    /// Adds parts to the last turn if it is of the same kind, else begins one.
    fn push(&mut self, role: &'static str, responses: bool, mut parts: Vec<Part<'a>>) {
        if !responses && !self.following.is_empty() {
            // The user's own words follow in the same turn.
            let mut following = std::mem::take(&mut self.following);
            if role == "user" {
                following.append(&mut parts);
                parts = following;
            } else {
                self.push("user", false, following);
            }
        }
        // A turn without parts is refused. Its neighbours then meet and become one.
        if parts.is_empty() {
            return;
        }
        match self.contents.last_mut() {
            Some(last) if last.role == role && last.responses == responses => {
                last.parts.append(&mut parts);
            }
            _ => self.contents.push(Content { role, parts, responses }),
        }
    }

    /// Parts of the user's or the system's.
    fn user(&mut self, given: &'a [Given], out: &mut Output) -> Result<Vec<Part<'a>>, Failure> {
        let mut parts = Vec::with_capacity(given.len());
        for part in given {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    if !text.blank {
                        parts.push(Part::text(text.value.as_str()));
                    }
                }
                PartBody::Media(media) => {
                    self.lost.media_names |= media.name.is_some();
                    parts.push(Part::of(media_data(media)?));
                }
                other => unknown(other, out),
            }
        }
        Ok(parts)
    }

    fn assistant(
        &mut self,
        given: &'a [Given],
        out: &mut Output,
    ) -> Result<Vec<Part<'a>>, Failure> {
        let mut parts: Vec<Part<'a>> = Vec::with_capacity(given.len());
        let mut pending: Option<Signature<'a>> = None;
        let mut calls = 0;
        for part in given {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    if text.blank {
                        continue;
                    }
                    if let Some(signature) = &mut pending {
                        signature.text = signature.text.or(Some(parts.len()));
                    }
                    parts.push(Part::text(text.value.as_str()));
                    if !self.traits.signs_calls {
                        settle(pending.take(), &mut parts);
                    }
                }
                PartBody::Thinking(Thinking { text, signature: Some(signature) }) => {
                    settle(pending.take(), &mut parts);
                    if !text.blank {
                        parts.push(Part { thought: true, ..Part::text(text.value.as_str()) });
                    }
                    pending = Some(Signature { signature: &signature.value, text: None });
                }
                PartBody::Thinking(_) | PartBody::RedactedThinking(_) => self.lost.unsigned = true,
                PartBody::ToolCall(call) => {
                    let args = Some(&call.arguments).filter(|arguments| arguments.length > 0);
                    let mut thought_signature = pending.take().map(|one| one.signature);
                    if self.traits.signs_calls && calls == 0 && thought_signature.is_none() {
                        self.lost.signature = true;
                        thought_signature = Some(UNSIGNED);
                    }
                    calls += 1;
                    let call = FunctionCall { id: &call.id, name: &call.name, args };
                    parts.push(Part { thought_signature, ..Part::of(Body::FunctionCall(call)) });
                }
                PartBody::Media(media) => {
                    self.lost.media_names |= media.name.is_some();
                    parts.push(Part::of(media_data(media)?));
                }
                other => unknown(other, out),
            }
        }
        settle(pending, &mut parts);
        Ok(parts)
    }

    fn response(
        &mut self,
        answer: &'a ToolAnswer,
        given: &'a [Given],
        out: &mut Output,
    ) -> Result<(), Failure> {
        if answer.tool.is_empty() {
            let message = format!(
                "Gemini wants a result's tool by its name, and no earlier call has the id \"{}\".",
                answer.call_id
            );
            return Err(Failure::invalid("messages.answers", message));
        }
        let (mut text, mut parts) = (String::new(), Vec::new());
        for part in given {
            match &part.body {
                PartBody::Text(piece) | PartBody::Refusal(piece) => {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(&piece.value);
                }
                PartBody::Media(media) => {
                    self.lost.media_names |= media.name.is_some();
                    match media_data(media)? {
                        Body::InlineData(inline_data) if self.traits.media_in_responses => {
                            parts.push(ResponsePart { inline_data });
                        }
                        data => {
                            self.lost.response_media = true;
                            self.following.push(Part::of(data));
                        }
                    }
                }
                other => unknown(other, out),
            }
        }
        let response = if answer.is_error { Response::Error(text) } else { Response::Result(text) };
        let response =
            FunctionResponse { id: &answer.call_id, name: &answer.tool, response, parts };
        self.push("user", true, vec![Part::of(Body::FunctionResponse(response))]);
        Ok(())
    }
}

/// Puts a signature on the text it belongs to, or in a part of its own.
fn settle<'a>(signature: Option<Signature<'a>>, parts: &mut Vec<Part<'a>>) {
    let Some(Signature { signature, text }) = signature else { return };
    match text.and_then(|at| parts.get_mut(at)) {
        Some(part) => part.thought_signature = Some(signature),
        None => parts.push(Part { thought_signature: Some(signature), ..Part::text("") }),
    }
}

fn unknown(body: &PartBody, out: &mut Output) {
    let message = match body {
        PartBody::Other(other) => {
            format!("Gemini doesn't know parts of type \"{}\".", other.kind)
        }
        _ => "Only the assistant thinks and calls.".to_owned(),
    };
    out.dropped("messages.parts", message);
}

fn media_data(media: &Media) -> Result<Body<'_>, Failure> {
    let mime_type = match (media.kind, media.media_type.as_str()) {
        // What the kind alone says; the vendor reads nothing else under it.
        (MediaKind::File, "") => "application/pdf",
        (_, given) => given,
    };
    Ok(match &media.source {
        MediaSource::Base64(_) if mime_type.is_empty() => {
            let message = "Inline media need their type, as in \"image/png\".";
            return Err(Failure::invalid("messages.media", message));
        }
        MediaSource::Base64(data) => Body::InlineData(Blob { mime_type, data }),
        MediaSource::Url(url) => {
            // The vendor finds the type of what it fetches by itself.
            let mime_type = media.media_type.as_str();
            Body::FileData(FileData { mime_type, file_uri: Cow::Borrowed(&url.value) })
        }
        MediaSource::FileId(id) if id.starts_with("https://") => {
            Body::FileData(FileData { mime_type: &media.media_type, file_uri: Cow::Borrowed(id) })
        }
        MediaSource::FileId(id) => {
            let id = id.strip_prefix("files/").unwrap_or(id);
            Body::FileData(FileData {
                mime_type: &media.media_type,
                file_uri: Cow::Owned([FILES, id].concat()),
            })
        }
    })
}
