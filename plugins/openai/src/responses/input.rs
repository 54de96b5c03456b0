//! Messages as items of the input.
//!
//! A message of the contract may hold thinking, text and calls; each becomes an item of its own, in
//! their order, with neighbouring texts in one message. Reasoning goes back by its encrypted
//! content, without the id it had: nothing under that id is stored.

use std::borrow::Cow;

use keyward_sdk::{
    Failure, Field, Media, MediaKind, MediaSource, Message, Output, Part, PartBody, Role, Text,
    json::{Fields, Raw},
};
use serde::Serialize;

const UNKNOWN_FIELD: &str = "OpenAI doesn't speak the caller's dialect.";

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item<'a> {
    Message {
        role: &'static str,
        content: Content<'a>,
        #[serde(flatten)]
        extra: Fields<'a>,
    },
    FunctionCall {
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
        #[serde(flatten)]
        extra: Fields<'a>,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Content<'a>,
        #[serde(flatten)]
        extra: Fields<'a>,
    },
    Reasoning {
        summary: Vec<Summary<'a>>,
        encrypted_content: &'a Text,
        #[serde(flatten)]
        extra: Fields<'a>,
    },
    #[serde(untagged)]
    Own(Raw<'a>),
}

/// One plain text needs no list around it.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Content<'a> {
    Text(&'a str),
    Parts(Vec<ContentPart<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum ContentPart<'a> {
    Known(Known<'a>),
    Own(Raw<'a>),
}

#[derive(Serialize)]
pub struct Known<'a> {
    #[serde(flatten)]
    body: Body<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_breakpoint: Option<Breakpoint>,
    #[serde(flatten)]
    extra: Fields<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    InputText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        #[serde(skip_serializing_if = "Option::is_none")]
        image_url: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Breakpoint {
    mode: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "summary_text")]
pub struct Summary<'a> {
    text: &'a str,
}

/// Items as they grow.
pub struct Conversation<'a> {
    /// The caller speaks this API's dialect.
    native: bool,
    /// The model takes cache marks.
    marks: bool,
    items: Vec<Item<'a>>,
    lost: Lost,
}

/// What was left out or changed, each said once however often it occurs.
#[derive(Default)]
struct Lost {
    names: bool,
    failed: bool,
    thinking: bool,
    cache: bool,
    lifetime: bool,
}

impl<'a> Conversation<'a> {
    pub fn new(native: bool, marks: bool) -> Self {
        Self { native, marks, items: Vec::new(), lost: Lost::default() }
    }

    pub fn add(&mut self, message: &'a Message, out: &mut Output) -> Result<(), Failure> {
        let extra = self.fields(&message.extra, out);
        self.lost.names |= message.name.is_some();
        if message.role == Role::Tool {
            let Some(answers) = &message.answers else {
                let message = "A tool's message must say which call it answers.";
                return Err(Failure::invalid("messages.answers", message));
            };
            self.lost.failed |= answers.is_error;
            let output = self.content(Role::Tool, &message.parts, out)?;
            let call_id = &answers.call_id;
            self.items.push(Item::FunctionCallOutput { call_id, output, extra });
            return Ok(());
        }
        let mut rest = message.parts.as_slice();
        // Even an empty message is one.
        if rest.is_empty() {
            self.message(message.role, Content::Text(""), extra);
            return Ok(());
        }
        // The message's own fields belong to the first item that is a message.
        let mut own = Some(extra);
        while let Some((part, after)) = rest.split_first() {
            let content = rest.iter().take_while(|part| is_content(message.role, part)).count();
            if content > 0 {
                let (parts, after) = rest.split_at(content);
                let content = self.content(message.role, parts, out)?;
                self.message(message.role, content, own.take().unwrap_or(Fields(&[])));
                rest = after;
                continue;
            }
            self.item(part, out);
            rest = after;
        }
        for field in own.map_or(&[][..], |fields| fields.0) {
            let message = "A message without content has no place for it.";
            out.dropped(format!("extra.{}", field.name), message);
        }
        Ok(())
    }

    /// The items, when all messages are in; says what was lost on the way.
    pub fn finish(self, out: &mut Output) -> Vec<Item<'a>> {
        let Lost { names, failed, thinking, cache, lifetime } = self.lost;
        for (lost, subject, message) in [
            (names, "messages.name", "OpenAI's Responses know no names of participants."),
            (failed, "messages.answers.is-error", "OpenAI's models see a failed tool's text only."),
            (thinking, "messages.thinking", "OpenAI takes back only thinking that it encrypted."),
            (
                cache && !self.marks,
                "messages.cache",
                "OpenAI's models before GPT-5.6 cache prompts by themselves.",
            ),
            (
                cache && self.marks,
                "messages.cache",
                "OpenAI takes cache marks on what goes in, not on earlier answers.",
            ),
        ] {
            if lost {
                out.dropped(subject, message);
            }
        }
        if lifetime {
            let message = "OpenAI keeps what it caches for 30 minutes at least; nothing else can \
                           be asked for.";
            out.changed("messages.cache", message);
        }
        self.items
    }

    fn message(&mut self, role: Role, content: Content<'a>, extra: Fields<'a>) {
        let role = match role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        self.items.push(Item::Message { role, content, extra });
    }

    /// A part that is an item of its own.
    fn item(&mut self, part: &'a Part, out: &mut Output) {
        self.lost.cache |= part.cache.is_some();
        let extra = self.fields(&part.extra, out);
        self.items.push(match &part.body {
            PartBody::ToolCall(call) => Item::FunctionCall {
                call_id: &call.id,
                name: &call.name,
                arguments: &call.arguments.text,
                extra,
            },
            PartBody::Thinking(thinking) => match &thinking.signature {
                Some(encrypted_content) => {
                    let shown = (thinking.text.length > 0).then_some(&thinking.text.value);
                    let summary = shown.map(|text| Summary { text }).into_iter().collect();
                    Item::Reasoning { summary, encrypted_content, extra }
                }
                None => {
                    self.lost.thinking = true;
                    return;
                }
            },
            PartBody::RedactedThinking(encrypted_content) => {
                Item::Reasoning { summary: Vec::new(), encrypted_content, extra }
            }
            PartBody::Other(other) if self.native => Item::Own(Raw(&other.value.json)),
            PartBody::Other(other) => {
                let message = format!("OpenAI doesn't know parts of type \"{}\".", other.kind);
                out.dropped("messages.parts", message);
                return;
            }
            PartBody::Text(_) | PartBody::Media(_) | PartBody::Refusal(_) => return,
        });
    }

    fn content(
        &mut self,
        role: Role,
        parts: &'a [Part],
        out: &mut Output,
    ) -> Result<Content<'a>, Failure> {
        let mut content = Vec::with_capacity(parts.len());
        for part in parts {
            let body = match &part.body {
                PartBody::Text(text) if role == Role::Assistant => {
                    Body::OutputText { text: &text.value }
                }
                PartBody::Text(text) => Body::InputText { text: &text.value },
                // Only the model refuses; from others it is what they say.
                PartBody::Refusal(text) if role == Role::Assistant => {
                    Body::Refusal { refusal: &text.value }
                }
                PartBody::Refusal(text) => Body::InputText { text: &text.value },
                PartBody::Media(media) => media_body(media)?,
                PartBody::Other(other) if self.native => {
                    content.push(ContentPart::Own(Raw(&other.value.json)));
                    continue;
                }
                PartBody::Other(other) => {
                    let message = format!("OpenAI doesn't know parts of type \"{}\".", other.kind);
                    out.dropped("messages.parts", message);
                    continue;
                }
                PartBody::ToolCall(_) | PartBody::Thinking(_) | PartBody::RedactedThinking(_) => {
                    let message = "A tool's result holds text, images and files only.";
                    return Err(Failure::invalid("messages.parts", message));
                }
            };
            let marked = part.cache.is_some() && self.marks && role != Role::Assistant;
            self.lost.cache |= part.cache.is_some() && !marked;
            self.lost.lifetime |= marked && part.cache.as_deref() != Some("");
            content.push(ContentPart::Known(Known {
                body,
                prompt_cache_breakpoint: marked.then_some(Breakpoint { mode: "explicit" }),
                extra: self.fields(&part.extra, out),
            }));
        }
        Ok(match content.as_slice() {
            [
                ContentPart::Known(Known {
                    body: Body::InputText { text } | Body::OutputText { text },
                    prompt_cache_breakpoint: None,
                    extra: Fields([]),
                }),
            ] => Content::Text(text),
            _ => Content::Parts(content),
        })
    }

    /// The caller's unknown fields, where this API may know them.
    fn fields(&self, extra: &'a [Field], out: &mut Output) -> Fields<'a> {
        if self.native {
            return Fields(extra);
        }
        out.dropped_fields(extra, UNKNOWN_FIELD);
        Fields(&[])
    }
}

/// True for parts that stand in a message's content, false for those that are items. Of unknown
/// kinds the model makes items; what others say are parts of it, but for
/// results of tools and references.
fn is_content(role: Role, part: &Part) -> bool {
    match &part.body {
        PartBody::Text(_) | PartBody::Media(_) | PartBody::Refusal(_) => true,
        PartBody::Other(other) => {
            let kind = &other.kind;
            let item = kind.ends_with("_output")
                || kind.ends_with("_response")
                || kind == "item_reference";
            kind.starts_with("input_")
                || kind.starts_with("output_")
                || (role != Role::Assistant && !item)
        }
        PartBody::ToolCall(_) | PartBody::Thinking(_) | PartBody::RedactedThinking(_) => false,
    }
}

fn media_body(media: &Media) -> Result<Body<'_>, Failure> {
    let data_url = |text: &Text| {
        if media.media_type.is_empty() {
            let message = "Say the media type, such as image/png.";
            return Err(Failure::invalid("messages.media", message));
        }
        let url = ["data:", &media.media_type, ";base64,", &text.value].concat();
        Ok(Some(Cow::Owned(url)))
    };
    match media.kind {
        MediaKind::Image => {
            let (mut image_url, mut file_id) = (None, None);
            match &media.source {
                MediaSource::Base64(text) => image_url = data_url(text)?,
                MediaSource::Url(url) => image_url = Some(Cow::Borrowed(url.value.as_str())),
                MediaSource::FileId(id) => file_id = Some(id.as_str()),
            }
            // The vendor's description requires it.
            let detail = media.detail.as_deref().or(Some("auto"));
            Ok(Body::InputImage { image_url, file_id, detail })
        }
        MediaKind::File => {
            let (mut file_data, mut file_url, mut file_id) = (None, None, None);
            match &media.source {
                MediaSource::Base64(text) => file_data = data_url(text)?,
                MediaSource::Url(url) => file_url = Some(url.value.as_str()),
                MediaSource::FileId(id) => file_id = Some(id.as_str()),
            }
            let filename = media.name.as_ref().map(|name| name.value.as_str());
            Ok(Body::InputFile { filename, file_data, file_url, file_id })
        }
        MediaKind::Audio => Err(Failure::unsupported("OpenAI's Responses take no audio.")),
        MediaKind::Video => Err(Failure::unsupported("OpenAI takes no video.")),
    }
}
