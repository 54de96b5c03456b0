//! What goes into a chat, and what comes out of it.

use keyward_sdk::{
    Chat, Failure, FinishReason, Format, Framing, Media, MediaKind, MediaSource, Output, PartBody,
    Role, Text, Usage, VendorRequest, json,
};
use serde::{Deserialize, Serialize};

const NO_PLACE: &str = "Reka has no place for it.";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
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
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Content<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text { text: &'a Text },
    ImageUrl { image_url: String },
}

/// A whole answer, or one event of a stream.
#[derive(Deserialize)]
struct Answer {
    id: Option<String>,
    model: Option<String>,
    responses: Vec<Response>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Response {
    /// `chunk` in a stream.
    #[serde(alias = "chunk")]
    message: Said,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

pub fn request(chat: &Chat, out: &mut Output) -> Result<VendorRequest, Failure> {
    let sampling = &chat.sampling;
    if !chat.tools.is_empty() || !matches!(chat.format, Format::Text) || sampling.choices > Some(1)
    {
        return Err(Failure::unsupported("This adapter gets one text from Reka, and no calls."));
    }
    let wishes = [
        ("sampling.logprobs", sampling.logprobs.is_some()),
        ("reasoning", chat.reasoning.is_some()),
    ];
    for (name, _) in wishes.into_iter().filter(|(_, given)| *given) {
        out.dropped(name, NO_PLACE);
    }
    out.dropped_fields(&chat.extra, NO_PLACE);
    let mut messages: Vec<Message<'_>> = Vec::new();
    for message in &chat.messages {
        // Reka knows two roles; system text stands at the beginning of the user's.
        let role = match message.role {
            Role::System | Role::Developer => {
                out.emulated("messages.role", "Reka has no system role: sent as the user's words.");
                "user"
            }
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => return Err(Failure::unsupported("This adapter has no tools.")),
        };
        if message.name.is_some() {
            out.dropped("messages.name", NO_PLACE);
        }
        out.dropped_fields(&message.extra, NO_PLACE);
        let mut content = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            if part.cache.is_some() {
                out.dropped("messages.cache", NO_PLACE);
            }
            out.dropped_fields(&part.extra, NO_PLACE);
            content.push(match &part.body {
                PartBody::Text(text) => Content::Text { text },
                PartBody::Media(media) => Content::ImageUrl { image_url: url(media, out)? },
                _ => return Err(Failure::unsupported("Reka takes texts and images.")),
            });
        }
        match messages.last_mut() {
            // Roles must alternate.
            Some(last) if last.role == role => last.content.append(&mut content),
            _ => messages.push(Message { role, content }),
        }
    }
    let request = Request {
        model: &chat.model,
        messages,
        stream: chat.stream,
        max_tokens: sampling.max_output_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        seed: sampling.seed,
        stop: &sampling.stop,
    };
    let framing = if chat.stream { Framing::Sse } else { Framing::Json };
    Ok(VendorRequest::post("/v1/chat", &request)?.framed(framing))
}

fn url(media: &Media, out: &mut Output) -> Result<String, Failure> {
    if media.kind != MediaKind::Image {
        return Err(Failure::unsupported("Reka takes texts and images here."));
    }
    if media.detail.is_some() {
        out.dropped("messages.media.detail", NO_PLACE);
    }
    match &media.source {
        MediaSource::Url(url) => Ok(url.value.clone()),
        // The mark stands within a longer string: the host writes the image there.
        MediaSource::Base64(data) => Ok(format!("data:{};base64,{}", media.media_type, data.value)),
        MediaSource::FileId(_) => Err(Failure::unsupported("Reka has no uploaded files here.")),
    }
}

/// What was read of an answer.
#[derive(Default)]
pub struct Reading {
    started: bool,
    ended: bool,
    /// The text so far: each event repeats it and adds to it.
    text: String,
    /// An event didn't begin with the text so far: they hold new text only.
    pieces: bool,
}

impl Reading {
    pub fn frame(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let answer: Answer = json::parse(data)?;
        if !self.started {
            self.started = true;
            out.started(answer.id.as_deref(), answer.model.as_deref());
        }
        if let Some(Counts { input_tokens: input, output_tokens: output }) = answer.usage {
            out.usage(Usage { input, output, ..Usage::none() });
        }
        let Some(response) = answer.responses.into_iter().next() else { return Ok(()) };
        if let Some(content) = response.message.content {
            self.say(content, out);
        }
        if let Some(reason) = response.finish_reason {
            self.ended = true;
            out.finish(
                0,
                match reason.as_str() {
                    "stop" => FinishReason::Stop,
                    // The second: the model's window is full.
                    "length" | "context" => FinishReason::Length,
                    _ => FinishReason::Other(reason),
                },
            );
        }
        Ok(())
    }

    fn say(&mut self, content: String, out: &mut Output) {
        let new = match content.strip_prefix(&self.text) {
            Some(new) if !self.pieces => new,
            _ => {
                self.pieces = true;
                &content
            }
        };
        if !new.is_empty() {
            out.text(0, new);
        }
        self.text = content;
    }

    pub fn end(&self) -> Result<(), Failure> {
        match self.ended {
            true => Ok(()),
            false => Err(Failure::malformed("The answer ended before it was complete.")),
        }
    }
}
