//! Events folded into one response, and what a folded and a streamed response share.
//!
//! A response repeats the settings of its request. Answer fields that the contract doesn't know
//! stand at the top level, where the vendor had them, and in place of what would be repeated.

use keyward::{Failure, contract::Event};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::{
    output::{Item, Output, is_output, lost},
    request::Asked,
};
use crate::{
    dialect::{
        Folder,
        events::{Counts, Warnings, one_line, write_json},
    },
    openai::answer::Identity,
};

/// Top-level fields that are the host's to write, and attributes that aren't fields.
const RESERVED: &[&str] = &[
    "id",
    "object",
    "created_at",
    "status",
    "error",
    "incomplete_details",
    "model",
    "output",
    "output_text",
    "usage",
    "item",
    "output_item",
    "event",
];

/// What a response says besides its output.
pub struct Head {
    pub identity: Identity,
    pub warnings: Warnings,
    asked: Asked,
    counts: Counts,
    attributes: Vec<(String, Box<RawValue>)>,
}

impl Head {
    pub fn new(identity: Identity, asked: Asked) -> Self {
        let (counts, attributes) = (Counts::default(), Vec::new());
        Self { identity, warnings: Warnings::default(), asked, counts, attributes }
    }

    /// Takes in what isn't output.
    ///
    /// # Errors
    /// If something was left out that the answer should have been built on.
    pub fn add(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Started(started) => self.identity.started(started.clone()),
            Event::Usage(usage) => self.counts.add(usage),
            Event::Warning(warning) => {
                if self.asked.concerns(warning)? {
                    self.warnings.add(warning);
                }
            }
            Event::Attribute(field) if !RESERVED.contains(&field.name.as_str()) => {
                if let Some(json) = one_line(&field.json) {
                    self.attributes.retain(|(name, _)| *name != field.name);
                    self.attributes.push((field.name.clone(), json.into_owned()));
                }
            }
            other => {
                if let Some(warning) = lost(other) {
                    self.warnings.add(&warning);
                }
            }
        }
        Ok(())
    }
}

/// A response as it stands at some time.
pub struct Response<'a> {
    pub head: &'a Head,
    pub status: &'a str,
    /// Why it is incomplete.
    pub reason: Option<&'a str>,
    pub output: &'a [Item],
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Incomplete<'a> {
            reason: &'a str,
        }
        let Head { identity, asked, counts, attributes, .. } = self.head;
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("id", &identity.id)?;
        object.serialize_entry("object", "response")?;
        object.serialize_entry("created_at", &identity.created)?;
        object.serialize_entry("status", self.status)?;
        object.serialize_entry("error", &())?;
        object.serialize_entry(
            "incomplete_details",
            &self.reason.map(|reason| Incomplete { reason }),
        )?;
        object.serialize_entry("model", &identity.model)?;
        object.serialize_entry("output", self.output)?;
        object.serialize_entry("usage", &Usage::of(counts))?;
        for (name, json) in asked.settings() {
            if !attributes.iter().any(|(known, _)| known == name) {
                // Parsed where it came from: a request, or this program.
                let json: &RawValue =
                    serde_json::from_str(json).map_err(serde::ser::Error::custom)?;
                object.serialize_entry(name, json)?;
            }
        }
        for (name, json) in attributes {
            object.serialize_entry(name, json)?;
        }
        object.end()
    }
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl Usage {
    /// Nothing if the vendor counted nothing.
    fn of(counts: &Counts) -> Option<Self> {
        if counts.input.is_none() && counts.output.is_none() {
            return None;
        }
        let (input, output) = (counts.input.unwrap_or(0), counts.output.unwrap_or(0));
        Some(Self {
            input_tokens: input,
            input_tokens_details: InputDetails {
                cached_tokens: counts.cache_read.unwrap_or(0),
                cache_write_tokens: counts.cache_write.unwrap_or(0),
            },
            output_tokens: output,
            output_tokens_details: OutputDetails {
                reasoning_tokens: counts.reasoning.unwrap_or(0),
            },
            total_tokens: input.saturating_add(output),
        })
    }
}

/// Folds the events of one chat into one response.
pub struct ResponseFolder {
    head: Head,
    output: Output,
}

impl ResponseFolder {
    pub fn new(identity: Identity, asked: Asked) -> Self {
        let output = Output::new(identity.request, asked.clone());
        Self { head: Head::new(identity, asked), output }
    }
}

impl Folder for ResponseFolder {
    fn warnings(&self) -> &Warnings {
        &self.head.warnings
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in &events {
            self.head.add(event)?;
        }
        if events.iter().any(is_output) {
            self.output.add(&events, &mut |_| {})?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Failure> {
        self.output.finish(&mut |_| {});
        let ending = self.output.ending();
        let response = Response {
            head: &self.head,
            status: &ending.status,
            reason: ending.reason.as_deref(),
            output: &self.output.items,
        };
        let mut out = Vec::with_capacity(2048);
        write_json(&response, &mut out);
        Ok(out)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(in crate::openai::responses) mod tests;
