//! A conversation as one prompt.
//!
//! `/generate` leaves the writing of prompts to its callers. The texts here are marks that the host
//! replaces, so whoever writes "<|im_end|>" into a message ends a turn by it; the OpenAI-compatible
//! endpoint is no different.

use keyward_sdk::{Chat, Failure, MediaSource, Message, Output, Part, PartBody, Role, Text};
use serde::{Deserialize, Serialize};

/// Where the next of the request's images belongs.
const IMAGE: &str = "<img></img>";

/// How a model was taught to tell turns apart.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// Qwen's, InternLM's and many others'; LightLLM's documentation uses it.
    #[default]
    Chatml,
    /// Llama's from version 3 on.
    Llama3,
    /// Texts and nothing else, for models that weren't taught to chat.
    Plain,
}

/// What stands around a turn: before and after the role, and at the end.
struct Turn {
    begin: &'static str,
    before_role: &'static str,
    after_role: &'static str,
    end: &'static str,
}

impl Template {
    /// Their names in `providers.yaml`.
    pub const NAMES: [&str; 3] = ["chatml", "llama3", "plain"];

    const fn turn(self) -> Turn {
        match self {
            Self::Chatml => {
                Turn { begin: "", before_role: "<|im_start|>", after_role: "\n", end: "<|im_end|>" }
            }
            Self::Llama3 => Turn {
                begin: "<|begin_of_text|>",
                before_role: "<|start_header_id|>",
                after_role: "<|end_header_id|>\n\n",
                end: "<|eot_id|>",
            },
            Self::Plain => Turn { begin: "", before_role: "", after_role: "", end: "" },
        }
    }

    /// What ends the model's turn, and the answer with it.
    pub const fn end_of_turn(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Chatml | Self::Llama3 => Some(self.turn().end),
        }
    }

    /// What stands between the end of a turn and the next.
    const fn between(self) -> &'static str {
        match self {
            Self::Chatml | Self::Plain => "\n",
            Self::Llama3 => "",
        }
    }
}

pub struct Prompt<'a> {
    pub inputs: String,
    pub images: Vec<Image<'a>>,
}

#[derive(Serialize)]
pub struct Image<'a> {
    r#type: &'static str,
    data: &'a Text,
}

/// Writes the prompt. An `instruction` is added to the system text.
///
/// # Errors
/// `unsupported` for tools and what they answered, and for images by file id.
pub fn write<'a>(
    chat: &'a Chat,
    template: Template,
    instruction: Option<&str>,
    out: &mut Output,
) -> Result<Prompt<'a>, Failure> {
    let turn = template.turn();
    let mut prompt = Prompt { inputs: turn.begin.to_owned(), images: Vec::new() };
    let has_system = chat.messages.first().is_some_and(|first| role(first) == Some("system"));
    if let Some(instruction) = instruction.filter(|_| !has_system) {
        prompt.turn(template, "system", instruction);
    }
    for (position, message) in chat.messages.iter().enumerate() {
        let Some(role) = role(message) else { return Err(no_tools()) };
        let mut content = prompt.content(&message.parts)?;
        if let Some(instruction) = instruction.filter(|_| position == 0 && has_system) {
            content.push_str("\n\n");
            content.push_str(instruction);
        }
        prompt.turn(template, role, &content);
    }
    let continues = chat.messages.last().is_some_and(|last| last.role == Role::Assistant);
    if continues || matches!(template, Template::Plain) {
        // The model goes on where the last text ends.
        let tail = turn.end.len() + template.between().len();
        prompt.inputs.truncate(prompt.inputs.len().saturating_sub(tail));
    } else {
        prompt.inputs.extend([turn.before_role, "assistant", turn.after_role]);
    }
    warn(chat, out);
    Ok(prompt)
}

fn role(message: &Message) -> Option<&'static str> {
    match message.role {
        Role::System | Role::Developer => Some("system"),
        Role::User => Some("user"),
        Role::Assistant => Some("assistant"),
        Role::Tool => None,
    }
}

pub fn no_tools() -> Failure {
    Failure::unsupported(
        "LightLLM's /generate has no tools; set the provider's `settings.api` to openai",
    )
}

impl<'a> Prompt<'a> {
    fn turn(&mut self, template: Template, role: &str, content: &str) {
        let turn = template.turn();
        if !matches!(template, Template::Plain) {
            self.inputs.extend([turn.before_role, role, turn.after_role]);
        }
        self.inputs.extend([content, turn.end, template.between()]);
    }

    fn content(&mut self, parts: &'a [Part]) -> Result<String, Failure> {
        let mut lines = Vec::new();
        for part in parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => lines.push(text.value.as_str()),
                PartBody::Media(media) => {
                    let (r#type, data) = match &media.source {
                        MediaSource::Url(url) => ("url", url),
                        MediaSource::Base64(text) => ("base64", text),
                        MediaSource::FileId(_) => {
                            return Err(Failure::unsupported(
                                "LightLLM takes images by URL or content, not by file id.",
                            ));
                        }
                    };
                    self.images.push(Image { r#type, data });
                    lines.push(IMAGE);
                }
                PartBody::ToolCall(_) => return Err(no_tools()),
                PartBody::Thinking(_) | PartBody::RedactedThinking(_) | PartBody::Other(_) => {}
            }
        }
        Ok(lines.join("\n"))
    }
}

/// Warns of what a prompt has no place for.
fn warn(chat: &Chat, out: &mut Output) {
    let parts = || chat.messages.iter().flat_map(|message| &message.parts);
    let is_thinking =
        |part: &Part| matches!(part.body, PartBody::Thinking(_) | PartBody::RedactedThinking(_));
    let extra = chat.messages.iter().any(|message| !message.extra.is_empty())
        || parts().any(|part| !part.extra.is_empty());
    let found = [
        ("name", chat.messages.iter().any(|message| message.name.is_some())),
        ("cache", parts().any(|part| part.cache.is_some())),
        ("thinking", parts().any(is_thinking)),
        ("other", parts().any(|part| matches!(part.body, PartBody::Other(_)))),
        ("extra", extra),
    ];
    for (what, _) in found.into_iter().filter(|(_, found)| *found) {
        out.dropped(format!("messages.{what}"), "A prompt has no place for it.");
    }
}
