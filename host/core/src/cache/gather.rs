//! Puts the events of one answer together, so that it can be given again.
//!
//! Pieces of one text become one piece: a model's tokens take a hundred bytes each as events of their
//! own. What only held for the one request is left out.

use std::{collections::HashSet, mem::size_of};

use crate::{
    contract::{
        Annotation, Attribute, Embedding, Event, Finish, FinishReason, MediaOutput, Model, Other,
        RateLimit, Started, TextDelta, ToolArguments, ToolCallStart, Usage, Vector, Warning,
    },
    operation::Operation,
};

/// The events of an answer so far.
pub(super) struct Gathered {
    events: Vec<Event>,
    bytes: u64,
    whole: Whole,
}

/// When an answer is worth keeping.
enum Whole {
    /// All of it stopped by itself.
    Finished,
    /// Each input has its vector.
    Vectors(usize),
    Never,
}

impl Gathered {
    pub fn new(operation: &Operation) -> Self {
        let whole = match operation {
            Operation::Chat(_) => Whole::Finished,
            Operation::Embed(embed) => Whole::Vectors(embed.inputs.len()),
            Operation::ListModels | Operation::Probe | Operation::CountTokens(_) => Whole::Never,
        };
        Self { events: Vec::new(), bytes: 0, whole }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn add(&mut self, events: &[Event]) {
        for event in events {
            let kept = match event {
                Event::RateLimit(_) => continue,
                // The next answer has an id of its own.
                Event::Started(started) => {
                    Event::Started(Started { id: None, model: started.model.clone() })
                }
                event => {
                    if let Some(more) = self.events.last_mut().and_then(|last| join(last, event)) {
                        self.bytes += more as u64;
                        continue;
                    }
                    event.clone()
                }
            };
            self.bytes += bytes(std::slice::from_ref(&kept));
            self.events.push(kept);
        }
    }

    /// The events, if they are a whole answer.
    pub fn finish(mut self) -> Option<Vec<Event>> {
        let whole = match self.whole {
            Whole::Finished => {
                let mut ends = self.events.iter().filter_map(|event| match event {
                    Event::Finish(finish) => Some(&finish.reason),
                    _ => None,
                });
                let in_order = |reason: &FinishReason| {
                    use FinishReason::{Length, Stop, ToolCalls};
                    matches!(reason, Stop | Length | ToolCalls)
                };
                ends.clone().next().is_some() && ends.all(in_order)
            }
            Whole::Vectors(inputs) => {
                let index = |event: &Event| match event {
                    Event::Embedding(embedding) => Some(embedding.index),
                    _ => None,
                };
                let given: HashSet<u32> = self.events.iter().filter_map(index).collect();
                given.len() == inputs && given.iter().all(|index| (*index as usize) < inputs)
            }
            Whole::Never => false,
        };
        self.events.shrink_to_fit();
        whole.then_some(self.events)
    }
}

/// Appends a piece to the one before, if it goes on there: the bytes that it added.
fn join(last: &mut Event, next: &Event) -> Option<usize> {
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
pub(super) fn bytes(events: &[Event]) -> u64 {
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
