//! A conversation as the vendor's messages.
//!
//! Tool plans are the older models' thinking before a call and have a member of their own; newer
//! models think in a part of the content. A tool's result is a text, or documents where there are
//! several or it failed: the vendor cites documents, and has no other place for a failure.

use std::borrow::Cow;

use keyward_sdk::{
    Failure, Media, MediaKind, MediaSource, Message as Given, Output, Part, PartBody, Role, Text,
    Thinking, ToolAnswer,
};
use serde::Serialize;

const UNKNOWN_FIELD: &str = "Cohere has no such field.";

#[derive(Serialize)]
pub struct Message<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_plan: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

/// One plain text needs no list around it.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Items(Vec<Item<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: Image<'a> },
    Thinking { thinking: &'a str },
    Document { document: Document<'a> },
}

#[derive(Serialize)]
struct Image<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Document<'a> {
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Data<'a> {
    Result(&'a str),
    Error(&'a str),
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// Messages as they grow.
pub struct Conversation<'a> {
    /// The model's thinking goes back as a tool plan.
    plans: bool,
    system: Vec<Item<'a>>,
    messages: Vec<Message<'a>>,
    lost: Lost,
}

/// What was left out or changed, each said once however often it occurs.
#[derive(Default)]
struct Lost {
    system: bool,
    names: bool,
    media_names: bool,
    cache: bool,
    thinking: bool,
    failed: bool,
}

impl<'a> Conversation<'a> {
    pub fn new(plans: bool) -> Self {
        Self { plans, system: Vec::new(), messages: Vec::new(), lost: Lost::default() }
    }

    pub fn add(&mut self, message: &'a Given, out: &mut Output) -> Result<(), Failure> {
        out.dropped_fields(&message.extra, UNKNOWN_FIELD);
        for part in &message.parts {
            self.lost.cache |= part.cache.is_some();
            out.dropped_fields(&part.extra, UNKNOWN_FIELD);
        }
        self.lost.names |= message.name.is_some();
        match (message.role, &message.answers) {
            (Role::System | Role::Developer, _) => {
                self.lost.system |= !self.messages.is_empty();
                let items = self.items(&message.parts, out)?;
                self.system.extend(items);
            }
            (Role::Tool, Some(answer)) => self.result(answer, &message.parts, out)?,
            (Role::User | Role::Tool, _) => {
                let items = self.items(&message.parts, out)?;
                if !items.is_empty() {
                    self.messages.push(Message::new("user", Some(content(items))));
                }
            }
            (Role::Assistant, _) => self.assistant(&message.parts, out)?,
        }
        Ok(())
    }

    /// Adds to what the system says.
    pub fn tell(&mut self, text: impl Into<Cow<'a, str>>) {
        self.system.push(Item::Text { text: text.into() });
    }

    /// The messages, when all are in; says what was lost on the way.
    ///
    /// # Errors
    ///
    /// If there is nothing to answer.
    pub fn finish(mut self, out: &mut Output) -> Result<Vec<Message<'a>>, Failure> {
        if self.messages.is_empty() {
            let message = "Cohere needs a message with content besides the system's.";
            return Err(Failure::invalid("messages", message));
        }
        let lost = &self.lost;
        if lost.system {
            let message = "Cohere takes system messages before the conversation: later ones were \
                           moved there.";
            out.changed("messages", message);
        }
        if lost.thinking {
            let message = "Cohere takes back only thinking that its own models showed: older ones \
                           before calls alone, newer ones always.";
            out.dropped("messages.thinking", message);
        }
        if lost.failed {
            let message = "Cohere's tool results can't fail: what failed was sent as a document \
                           that says \"error\".";
            out.emulated("messages.answers", message);
        }
        for (lost, subject, message) in [
            (lost.names, "messages.name", "Cohere's messages have no names."),
            (lost.media_names, "messages.media.name", "Cohere's images have no names."),
            (lost.cache, "messages.cache", "Cohere caches prompts by itself."),
        ] {
            if lost {
                out.dropped(subject, message);
            }
        }
        if !self.system.is_empty() {
            self.messages.insert(0, Message::new("system", Some(content(self.system))));
        }
        Ok(self.messages)
    }

    /// Parts of the user's or the system's.
    fn items(&mut self, given: &'a [Part], out: &mut Output) -> Result<Vec<Item<'a>>, Failure> {
        let mut items = Vec::with_capacity(given.len());
        for part in given {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    items.extend(text_item(text));
                }
                PartBody::Media(media) => {
                    self.lost.media_names |= media.name.is_some();
                    items.push(Item::ImageUrl { image_url: image(media)? });
                }
                other => unknown(other, out),
            }
        }
        Ok(items)
    }

    fn assistant(&mut self, given: &'a [Part], out: &mut Output) -> Result<(), Failure> {
        let has_calls = given.iter().any(|part| matches!(part.body, PartBody::ToolCall(_)));
        let (mut items, mut plan, mut tool_calls) = (Vec::new(), String::new(), Vec::new());
        for part in given {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => items.extend(text_item(text)),
                PartBody::Thinking(Thinking { text, signature: None }) => {
                    if text.blank {
                        continue;
                    }
                    if self.plans && has_calls {
                        if !plan.is_empty() {
                            plan.push('\n');
                        }
                        plan.push_str(&text.value);
                    } else if self.plans {
                        self.lost.thinking = true;
                    } else {
                        items.push(Item::Thinking { thinking: &text.value });
                    }
                }
                PartBody::Thinking(_) | PartBody::RedactedThinking(_) => self.lost.thinking = true,
                PartBody::ToolCall(call) => tool_calls.push(Call {
                    id: &call.id,
                    kind: "function",
                    function: Function {
                        name: &call.name,
                        arguments: match call.arguments.length {
                            0 => "{}",
                            _ => &call.arguments.text,
                        },
                    },
                }),
                PartBody::Media(_) => {
                    return Err(Failure::unsupported("Cohere's models draw no images."));
                }
                other => unknown(other, out),
            }
        }
        if items.is_empty() && tool_calls.is_empty() {
            return Ok(());
        }
        self.messages.push(Message {
            tool_plan: Some(plan).filter(|plan| !plan.is_empty()),
            tool_calls,
            ..Message::new("assistant", (!items.is_empty()).then(|| content(items)))
        });
        Ok(())
    }

    fn result(
        &mut self,
        answer: &'a ToolAnswer,
        given: &'a [Part],
        out: &mut Output,
    ) -> Result<(), Failure> {
        let mut texts: Vec<&'a str> = Vec::with_capacity(given.len());
        for part in given {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    if !text.blank {
                        texts.push(&text.value);
                    }
                }
                PartBody::Media(_) => {
                    let message = "Cohere takes text from tools, not images or files.";
                    return Err(Failure::unsupported(message));
                }
                other => unknown(other, out),
            }
        }
        self.lost.failed |= answer.is_error;
        let content = match (texts.as_slice(), answer.is_error) {
            ([text], false) => Content::Text(Cow::Borrowed(text)),
            (texts, is_error) => {
                // Empty content is refused.
                let texts = if texts.is_empty() { &[""] } else { texts };
                let data = |&text: &&'a str| match is_error {
                    true => Data::Error(text),
                    false => Data::Result(text),
                };
                let documents = texts.iter().map(data);
                Content::Items(
                    documents.map(|data| Item::Document { document: Document { data } }).collect(),
                )
            }
        };
        self.messages.push(Message {
            tool_call_id: Some(&answer.call_id),
            ..Message::new("tool", Some(content))
        });
        Ok(())
    }
}

impl<'a> Message<'a> {
    fn new(role: &'static str, content: Option<Content<'a>>) -> Self {
        Self { role, content, tool_plan: None, tool_calls: Vec::new(), tool_call_id: None }
    }
}

fn content(mut items: Vec<Item<'_>>) -> Content<'_> {
    match (items.len(), items.pop()) {
        (1, Some(Item::Text { text })) => Content::Text(text),
        (_, last) => {
            items.extend(last);
            Content::Items(items)
        }
    }
}

fn text_item(text: &Text) -> Option<Item<'_>> {
    (!text.blank).then(|| Item::Text { text: Cow::Borrowed(&text.value) })
}

fn unknown(body: &PartBody, out: &mut Output) {
    let message = match body {
        PartBody::Other(other) => {
            format!("Cohere doesn't know parts of type \"{}\".", other.kind)
        }
        _ => "Only the assistant thinks and calls.".to_owned(),
    };
    out.dropped("messages.parts", message);
}

fn image(media: &Media) -> Result<Image<'_>, Failure> {
    match media.kind {
        MediaKind::Image => {}
        MediaKind::Audio => return Err(Failure::unsupported("Cohere takes no audio.")),
        MediaKind::Video => return Err(Failure::unsupported("Cohere takes no video.")),
        MediaKind::File => return Err(Failure::unsupported("Cohere takes no files.")),
    }
    let url = match &media.source {
        MediaSource::Url(url) => Cow::Borrowed(url.value.as_str()),
        MediaSource::Base64(_) if media.media_type.is_empty() => {
            let message = "An inline image needs its media type, as in \"image/png\".";
            return Err(Failure::invalid("messages.media", message));
        }
        MediaSource::Base64(data) => {
            Cow::Owned(["data:", &media.media_type, ";base64,", &data.value].concat())
        }
        MediaSource::FileId(_) => {
            let message = "Cohere takes images by address or content, not by a file's id.";
            return Err(Failure::unsupported(message));
        }
    };
    Ok(Image { url, detail: media.detail.as_deref() })
}
