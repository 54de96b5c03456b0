//! Puts the events of one answer together, so that it can be given again.
//!
//! Pieces of one text become one piece: a model's tokens take a hundred bytes each as events of their
//! own. What only held for the one request is left out.

use std::collections::HashSet;

use crate::{
    attempt::gathered::{bytes, join},
    contract::{Event, FinishReason, Started},
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
