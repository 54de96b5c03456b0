//! What goes into a chat, and what comes out of it.

use keyward_sdk::{
    Chat, Failure, FinishReason, Format, Framing, Output, PartBody, Role, Text, Usage,
    VendorRequest, json,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    turns: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
}

/// A `Text` mostly holds a mark: the host writes the content in its place.
#[derive(Serialize)]
struct Turn<'a> {
    speaker: &'static str,
    text: &'a Text,
}

/// The whole answer, or a piece of it. The last piece says why it ended and what it took.
#[derive(Deserialize)]
struct Answer {
    id: Option<String>,
    text: Option<String>,
    stop: Option<String>,
    prompt_tokens: Option<u64>,
    answer_tokens: Option<u64>,
}

pub fn request(chat: &Chat, out: &mut Output) -> Result<VendorRequest, Failure> {
    let sampling = &chat.sampling;
    // Without these the answer would be another one, so they are refused.
    let only_text = chat.tools.is_empty() && matches!(chat.format, Format::Text);
    if !only_text || !sampling.stop.is_empty() || sampling.choices > Some(1) {
        return Err(Failure::unsupported("{{title}} gives one text, and nothing else."));
    }
    // These are wishes. Their caller is told that they came to nothing.
    for (name, given) in [
        ("sampling.top-p", sampling.top_p.is_some()),
        ("sampling.top-k", sampling.top_k.is_some()),
        ("sampling.frequency-penalty", sampling.frequency_penalty.is_some()),
        ("sampling.presence-penalty", sampling.presence_penalty.is_some()),
        ("sampling.seed", sampling.seed.is_some()),
        ("sampling.logprobs", sampling.logprobs.is_some()),
        ("reasoning", chat.reasoning.is_some()),
    ] {
        if given {
            out.dropped(name, "{{title}} has no place for it.");
        }
    }
    out.dropped_fields(&chat.extra, "{{title}} has no place for it.");
    let mut turns = Vec::new();
    for message in &chat.messages {
        let speaker = match message.role {
            Role::System | Role::Developer => "system",
            Role::Assistant => "model",
            Role::User | Role::Tool => "user",
        };
        for part in &message.parts {
            let PartBody::Text(text) = &part.body else {
                return Err(Failure::unsupported("{{title}} takes texts, and nothing else."));
            };
            turns.push(Turn { speaker, text });
        }
    }
    let (max_tokens, temperature) = (sampling.max_output_tokens, sampling.temperature);
    let request =
        Request { model: &chat.model, turns, max_tokens, temperature, stream: chat.stream };
    let framing = if chat.stream { Framing::{{framing}} } else { Framing::Json };
    Ok(VendorRequest::post("/generate", &request)?.framed(framing))
}

/// True if this was the end of it.
pub fn answer(data: &str, out: &mut Output) -> Result<bool, Failure> {
    let answer: Answer = json::parse(data)?;
    if answer.id.is_some() {
        out.started(answer.id.as_deref(), None);
    }
    if let Some(text) = answer.text {
        out.text(0, text);
    }
    let Some(stop) = answer.stop else { return Ok(false) };
    let (input, output) = (answer.prompt_tokens, answer.answer_tokens);
    out.usage(Usage { input, output, ..Usage::none() });
    out.finish(0, if stop == "limit" { FinishReason::Length } else { FinishReason::Stop });
    Ok(true)
}
