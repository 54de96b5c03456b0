//! What every dialect needs to write an adapter's events.
//!
//! An adapter is a stranger, so nothing it counts with is used as a size, its JSON is checked before
//! it is written, and how much of anything an answer holds is limited here, once for all dialects.

use std::borrow::Cow;

use http::HeaderValue;
use keyward::{
    Failure,
    contract::{self, MediaOutput},
    ids::RequestId,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// The most answers to one prompt, as at OpenAI.
pub const MAX_CHOICES: u32 = 128;

/// Tool calls in one choice. Vendors stop at 128.
pub const MAX_CALLS: usize = 1024;

/// Bytes of the header that lists warnings; common servers refuse headers above 8 KiB in all.
pub(crate) const MAX_WARNINGS: usize = 1024;

/// Token counts so far. Later events replace what they give.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Counts {
    pub fn add(&mut self, usage: &contract::Usage) {
        self.input = usage.input.or(self.input);
        self.cache_read = usage.cache_read.or(self.cache_read);
        self.cache_write = usage.cache_write.or(self.cache_write);
        self.output = usage.output.or(self.output);
        self.reasoning = usage.reasoning.or(self.reasoning);
    }
}

/// The id of a tool call whose vendor gave none: letters, digits and `_` only, shorter than what any
/// vendor allows, and never the same in two answers.
pub fn call_id(request: RequestId, choice: u32, index: u32) -> String {
    let random = (request.0 as u64, u64::from(choice) << 32 | u64::from(index));
    format!("call_{:016x}{:08x}", random.0 ^ random.1, (request.0 >> 96) as u32)
}

/// A JSON text of an adapter, checked and on one line, because a line break would end an event of
/// a stream. Nothing if it isn't JSON.
pub fn one_line(json: &str) -> Option<Cow<'_, RawValue>> {
    if json.contains(['\n', '\r']) {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        let text = serde_json::to_string(&value).ok()?;
        return RawValue::from_string(text).ok().map(Cow::Owned);
    }
    serde_json::from_str(json).ok().map(Cow::Borrowed)
}

/// `data:` with the media type and the base64 of something the model made.
pub fn data_url(media: &MediaOutput) -> String {
    format!("data:{};base64,{}", media.media_type, media.base64)
}

/// The value of `x-keyward-warnings`: what was dropped, emulated or changed.
#[derive(Clone, Debug, Default)]
pub struct Warnings(String);

impl Warnings {
    pub fn add(&mut self, warning: &contract::Warning) {
        let word = |text: &str| {
            text.chars().filter(|c| c.is_ascii_graphic() && *c != ',').collect::<String>()
        };
        let entry = format!("{} {}", word(&warning.code), word(&warning.subject));
        if self.0.len() + entry.len() + 2 > MAX_WARNINGS {
            return;
        }
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push_str(entry.trim());
    }

    pub fn header(&self) -> Option<HeaderValue> {
        if self.0.is_empty() { None } else { HeaderValue::from_str(&self.0).ok() }
    }
}

pub fn too_many(what: &str, limit: impl std::fmt::Display) -> Failure {
    Failure::plugin(format!("the adapter gave more than {limit} {what}"))
}

pub fn unknown_call() -> Failure {
    Failure::plugin("the adapter gave arguments for a tool call that hasn't begun")
}

/// Appends a value as JSON. Writing into memory can't fail, and nothing that answers consist of can
/// refuse to be written.
pub fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}
