//! What events take in memory, and pieces of one text as one: a model's tokens take a hundred bytes each
//! as events of their own.

use std::mem::size_of;

use crate::contract::{
    Annotation, Attribute, Embedding, Event, Finish, FinishReason, MediaOutput, Model, Other,
    RateLimit, Started, TextDelta, ToolArguments, ToolCallStart, Usage, Vector, Warning,
};

/// Appends a piece to the one before, if it goes on there: the bytes that it added.
pub(crate) fn join(last: &mut Event, next: &Event) -> Option<usize> {
    let (text, more) = match (last, next) {
        (Event::Text(a), Event::Text(b))
        | (Event::Thinking(a), Event::Thinking(b))
        | (Event::Refusal(a), Event::Refusal(b))
            if a.choice == b.choice =>
        {
            (&mut a.text, &b.text)
        }
        (Event::ToolArguments(a), Event::ToolArguments(b))
            if (a.choice, a.index) == (b.choice, b.index) =>
        {
            (&mut a.fragment, &b.fragment)
        }
        _ => return None,
    };
    text.push_str(more);
    Some(more.len())
}

/// Bytes of memory that events take. A text that grew may have as much again in reserve, until it
/// is kept.
pub(crate) fn bytes(events: &[Event]) -> u64 {
    let text = String::len;
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let one = |event: &Event| {
        let heap = match event {
            Event::Started(Started { id, model }) => optional(id) + optional(model),
            Event::Text(TextDelta { choice: _, text })
            | Event::Refusal(TextDelta { choice: _, text })
            | Event::Thinking(TextDelta { choice: _, text })
            | Event::ThinkingSignature(TextDelta { choice: _, text })
            | Event::RedactedThinking(TextDelta { choice: _, text }) => text.len(),
            Event::ToolCall(ToolCallStart { choice: _, index: _, id, name }) => {
                text(id) + text(name)
            }
            Event::ToolArguments(ToolArguments { choice: _, index: _, fragment }) => text(fragment),
            Event::Citation(Annotation { choice: _, json })
            | Event::Logprobs(Annotation { choice: _, json }) => text(json),
            Event::Media(MediaOutput { choice: _, kind: _, media_type, base64 }) => {
                text(media_type) + text(base64)
            }
            Event::Usage(Usage { units, .. }) => {
                units.iter().map(|unit| unit.name.len() + size_of_val(unit)).sum()
            }
            Event::Finish(Finish { choice: _, reason, stop_sequence }) => {
                let other = match reason {
                    FinishReason::Other(name) => name.len(),
                    _ => 0,
                };
                other + optional(stop_sequence)
            }
            Event::Embedding(Embedding { index: _, vector }) => match vector {
                Vector::Floats(floats) => size_of_val(floats.as_slice()),
                Vector::Base64(encoded) => text(encoded),
            },
            Event::Model(Model { id, title, capabilities, extra, .. }) => {
                let capabilities: usize =
                    capabilities.iter().map(|name| name.len() + size_of::<String>()).sum();
                text(id) + optional(title) + capabilities + text(extra)
            }
            Event::RateLimit(RateLimit { scope, .. }) => text(scope),
            Event::Warning(Warning { code, subject, message }) => {
                text(code) + text(subject) + text(message)
            }
            Event::Attribute(Attribute { name, json }) => text(name) + text(json),
            Event::Other(Other { kind, json }) => text(kind) + text(json),
        };
        size_of::<Event>() + heap
    };
    events.iter().map(|event| one(event) as u64).sum()
}
