//! Events folded into one message, and what a folded and a streamed answer share.
//!
//! Blocks stand in the order in which they began. Text goes on in a block until something else
//! comes between. What the contract has no event for comes as attributes: `content_block` is a whole
//! block of a type that only its vendor knows, or an empty text block where the vendor began a new
//! one; `content_block_delta` goes on with the block before; `content_block_fields` are fields of the
//! block that begins next; all others are fields of the message.
//!
//! This dialect has one answer to a prompt, so other choices than the first are passed over.

use std::{borrow::Cow, collections::BTreeMap};

use keyward::{
    Failure,
    contract::{self, Event, FinishReason},
    ids::{ModelName, RequestId},
};
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::value::RawValue;

use super::request::dropped;
use crate::dialect::{
    Folder,
    events::{Counts, MAX_CALLS, Warnings, call_id, one_line, too_many, unknown_call, write_json},
};

/// The only choice there is.
pub const CHOICE: u32 = 0;

/// Content blocks of one message: as many as calls.
pub const MAX_BLOCKS: usize = MAX_CALLS;

/// Fields of a message that are the host's to write, and those with a place of their own.
const RESERVED: &[&str] = &[
    "id",
    "type",
    "role",
    "model",
    "content",
    "stop_reason",
    "stop_sequence",
    "usage",
    "error",
    "content_block",
    "content_block_delta",
    "content_block_fields",
];

/// Fields of a block that are the host's to write.
const RESERVED_IN_BLOCKS: &[&str] =
    &["type", "text", "thinking", "signature", "data", "id", "name", "input", "citations"];

/// Fields of one block that the contract doesn't know.
pub type BlockFields = BTreeMap<String, Box<RawValue>>;

/// The fields in a `content_block_fields` attribute.
pub fn block_fields(json: &str) -> BlockFields {
    let fields = one_line(json).and_then(|json| serde_json::from_str(json.get()).ok());
    let mut fields: BlockFields = fields.unwrap_or_default();
    fields.retain(|name, _| !RESERVED_IN_BLOCKS.contains(&name.as_str()));
    fields
}

/// What names an answer.
#[derive(Clone, Debug)]
pub struct Identity {
    pub request: RequestId,
    /// The vendor's, or made from the request's.
    pub id: String,
    /// As the vendor names it, or as it was asked.
    pub model: String,
}

impl Identity {
    pub fn new(request: RequestId, asked: &ModelName) -> Self {
        let id = format!("msg_{:032x}", request.0);
        Self { request, id, model: asked.as_str().to_owned() }
    }

    /// Takes over what the vendor says of itself.
    pub fn started(&mut self, started: contract::Started) {
        if let Some(id) = started.id.filter(|id| !id.is_empty()) {
            self.id = id;
        }
        if let Some(model) = started.model.filter(|model| !model.is_empty()) {
            self.model = model;
        }
    }
}

/// Token counts as this dialect has them: `input_tokens` without those of the cache. What else the
/// vendor of this dialect says of them stands beside.
#[derive(Debug, Default)]
pub struct Usage {
    counts: Counts,
    /// By name; the latest of each.
    others: BTreeMap<String, Box<RawValue>>,
}

const COUNTED: &[&str] =
    &["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];

impl Usage {
    pub fn add(&mut self, usage: &contract::Usage) {
        self.counts.add(usage);
    }

    /// The vendor's own object.
    pub fn add_own(&mut self, json: &str) {
        let Some(json) = one_line(json) else { return };
        let Ok(fields) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(json.get()) else {
            return;
        };
        let others = fields
            .into_iter()
            .filter(|(name, value)| !COUNTED.contains(&&**name) && value.get() != "null");
        self.others.extend(others);
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Counts { input, cache_read, cache_write, output, reasoning } = self.counts;
        let cached = cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("input_tokens", &input.unwrap_or(0).saturating_sub(cached))?;
        object.serialize_entry("cache_creation_input_tokens", &cache_write)?;
        object.serialize_entry("cache_read_input_tokens", &cache_read)?;
        object.serialize_entry("output_tokens", &output.unwrap_or(0))?;
        if let Some(thinking) = reasoning
            && !self.others.contains_key("output_tokens_details")
        {
            let details = BTreeMap::from([("thinking_tokens", thinking)]);
            object.serialize_entry("output_tokens_details", &details)?;
        }
        for (name, value) in &self.others {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// How an answer ended.
#[derive(Debug, Default)]
pub struct Ending {
    finish: Option<contract::Finish>,
    /// The vendor's own word, where the contract's is less exact.
    own_reason: Option<String>,
    /// What the model said instead of an answer.
    refusal: String,
    called: bool,
    /// Why it stopped was told in the vendor's own words.
    explained: bool,
}

impl Ending {
    pub fn finish(&mut self, finish: contract::Finish) {
        self.finish.get_or_insert(finish);
    }

    pub fn refuse(&mut self, text: &str) {
        self.refusal.push_str(text);
    }

    pub fn call(&mut self) {
        self.called = true;
    }

    /// Takes an attribute that concerns the end; true if that was all of it.
    pub fn attribute(&mut self, name: &str, json: &str) -> bool {
        match name {
            "stop_reason" => {
                self.own_reason = serde_json::from_str(json).ok();
                true
            }
            "stop_details" => {
                self.explained = true;
                false
            }
            _ => false,
        }
    }

    pub fn is_cut(&self) -> bool {
        self.finish.as_ref().is_some_and(|finish| matches!(finish.reason, FinishReason::Length))
    }

    pub fn write<M: serde::ser::SerializeMap>(&self, object: &mut M) -> Result<(), M::Error> {
        let sequence = self.finish.as_ref().and_then(|finish| finish.stop_sequence.as_deref());
        let (reason, native) = self.reason(sequence.is_some());
        object.serialize_entry("stop_reason", reason)?;
        object.serialize_entry("stop_sequence", &sequence)?;
        if let Some(native) = native {
            object.serialize_entry("native_stop_reason", native)?;
        }
        if !self.refusal.is_empty() && !self.explained {
            #[derive(Serialize)]
            struct Details<'a> {
                r#type: &'static str,
                category: Option<&'static str>,
                explanation: &'a str,
            }
            let explanation = self.refusal.as_str();
            let details = Details { r#type: "refusal", category: None, explanation };
            object.serialize_entry("stop_details", &details)?;
        }
        Ok(())
    }

    /// The reason in this dialect's words, and the vendor's own where this dialect has none.
    fn reason(&self, by_sequence: bool) -> (&str, Option<&str>) {
        if let Some(own) = &self.own_reason {
            return (own, None);
        }
        // Some vendors end with "stop" although they call a tool, or refuse.
        let unsaid = match (self.called, self.refusal.is_empty()) {
            (_, false) => "refusal",
            (true, true) => "tool_use",
            (false, true) => "end_turn",
        };
        let Some(finish) = &self.finish else { return (unsaid, None) };
        match &finish.reason {
            FinishReason::Stop if by_sequence => ("stop_sequence", None),
            FinishReason::Stop => (unsaid, None),
            FinishReason::Length => ("max_tokens", None),
            FinishReason::ToolCalls => ("tool_use", None),
            FinishReason::ContentFilter | FinishReason::Refusal => ("refusal", None),
            // This dialect's own words are of this form, "pause_turn" for one.
            FinishReason::Other(word)
                if word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') =>
            {
                (word, None)
            }
            FinishReason::Other(word) => (unsaid, Some(word)),
        }
    }
}

/// A field of the message that the contract doesn't know, if it may stand there.
pub fn attribute(name: &str, json: &str) -> Option<Box<RawValue>> {
    if RESERVED.contains(&name) {
        return None;
    }
    one_line(json).map(Cow::into_owned)
}

/// The block in a `content_block` attribute.
pub enum OwnBlock {
    /// Text begins anew.
    Text,
    Other(Box<RawValue>),
}

/// # Errors
/// If it isn't an object with a type.
pub fn own_block(json: &str) -> Result<OwnBlock, Failure> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    let json = one_line(json).ok_or_else(no_block)?;
    let kind: Kind<'_> = serde_json::from_str(json.get()).map_err(|_| no_block())?;
    match kind.r#type.as_ref() {
        "text" => Ok(OwnBlock::Text),
        _ => Ok(OwnBlock::Other(json.into_owned())),
    }
}

fn no_block() -> Failure {
    Failure::plugin("the adapter gave a content block that isn't an object with a type")
}

/// The delta in a `content_block_delta` attribute.
pub fn own_delta(json: &str) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Event {
        delta: Box<RawValue>,
    }
    let event: Event = serde_json::from_str(one_line(json)?.get()).ok()?;
    Some(event.delta)
}

// ------------------------------------------------------------------------------------- folding

/// Folds the events of one chat into one message.
pub struct MessageFolder {
    identity: Identity,
    blocks: Vec<Block>,
    /// By the block's place.
    fields: BTreeMap<usize, BlockFields>,
    usage: Usage,
    ending: Ending,
    attributes: Vec<(String, Box<RawValue>)>,
    warnings: Warnings,
}

enum Block {
    Text {
        text: String,
        citations: Vec<Box<RawValue>>,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    Redacted {
        data: String,
    },
    Call {
        index: u32,
        id: String,
        name: String,
        input: String,
    },
    /// Of the vendor's own; input that came in pieces replaces the one it has.
    Other {
        json: Box<RawValue>,
        input: String,
    },
}

impl MessageFolder {
    pub fn new(identity: Identity, warnings: Warnings) -> Self {
        Self {
            identity,
            blocks: Vec::with_capacity(1),
            fields: BTreeMap::new(),
            usage: Usage::default(),
            ending: Ending::default(),
            attributes: Vec::new(),
            warnings,
        }
    }

    fn add_one(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Started(started) => self.identity.started(started),
            Event::Text(delta) if delta.choice == CHOICE => {
                let (text, _) = self.text()?;
                push(text, delta.text);
            }
            Event::Citation(citation) if citation.choice == CHOICE => {
                if let Some(json) = one_line(&citation.json) {
                    let json = json.into_owned();
                    self.text()?.1.push(json);
                }
            }
            Event::Refusal(delta) if delta.choice == CHOICE => self.ending.refuse(&delta.text),
            Event::Thinking(delta) if delta.choice == CHOICE => {
                let (thinking, _) = self.thinking()?;
                push(thinking, delta.text);
            }
            // An empty one signs nothing.
            Event::ThinkingSignature(delta) if delta.choice == CHOICE && !delta.text.is_empty() => {
                *self.thinking()?.1 = delta.text;
            }
            Event::RedactedThinking(delta) if delta.choice == CHOICE => {
                self.begin(Block::Redacted { data: delta.text })?;
            }
            Event::ToolCall(start) if start.choice == CHOICE => {
                let id = match start.id.is_empty() {
                    true => call_id(self.identity.request, start.choice, start.index),
                    false => start.id,
                };
                self.ending.call();
                let (index, name, input) = (start.index, start.name, String::new());
                self.begin(Block::Call { index, id, name, input })?;
            }
            Event::ToolArguments(piece) if piece.choice == CHOICE => {
                let call = self.blocks.iter_mut().rev().find_map(|block| match block {
                    Block::Call { index, input, .. } if *index == piece.index => Some(input),
                    _ => None,
                });
                push(call.ok_or_else(unknown_call)?, piece.fragment);
            }
            Event::Usage(usage) => self.usage.add(&usage),
            Event::Finish(finish) if finish.choice == CHOICE => self.ending.finish(finish),
            Event::Attribute(field) => self.attribute(field)?,
            Event::Media(_) => dropped(&mut self.warnings, "answer.media"),
            Event::Warning(warning) => self.warnings.add(&warning),
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, field: contract::Attribute) -> Result<(), Failure> {
        match field.name.as_str() {
            "usage" => self.usage.add_own(&field.json),
            "content_block_fields" => {
                self.fields.insert(self.blocks.len(), block_fields(&field.json));
            }
            "content_block" => {
                let block = match own_block(&field.json)? {
                    OwnBlock::Text => Block::Text { text: String::new(), citations: Vec::new() },
                    OwnBlock::Other(json) => Block::Other { json, input: String::new() },
                };
                self.begin(block)?;
            }
            "content_block_delta" => {
                #[derive(Deserialize)]
                struct Input {
                    partial_json: String,
                }
                let delta = own_delta(&field.json);
                let delta = delta.and_then(|it| serde_json::from_str::<Input>(it.get()).ok());
                match (self.blocks.last_mut(), delta) {
                    (Some(Block::Other { input, .. }), Some(delta)) => {
                        push(input, delta.partial_json);
                    }
                    _ => dropped(&mut self.warnings, "answer.content-block-delta"),
                }
            }
            name => {
                if !self.ending.attribute(name, &field.json)
                    && let Some(json) = attribute(name, &field.json)
                {
                    self.attributes.retain(|(known, _)| known != name);
                    self.attributes.push((field.name, json));
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, block: Block) -> Result<(), Failure> {
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(too_many("content blocks", MAX_BLOCKS));
        }
        self.blocks.push(block);
        Ok(())
    }

    fn text(&mut self) -> Result<(&mut String, &mut Vec<Box<RawValue>>), Failure> {
        if !matches!(self.blocks.last(), Some(Block::Text { .. })) {
            self.begin(Block::Text { text: String::new(), citations: Vec::new() })?;
        }
        match self.blocks.last_mut() {
            Some(Block::Text { text, citations }) => Ok((text, citations)),
            _ => Err(too_many("content blocks", MAX_BLOCKS)),
        }
    }

    /// Thinking that isn't signed yet.
    fn thinking(&mut self) -> Result<(&mut String, &mut String), Failure> {
        let open = matches!(
            self.blocks.last(),
            Some(Block::Thinking { signature, .. }) if signature.is_empty()
        );
        if !open {
            self.begin(Block::Thinking { thinking: String::new(), signature: String::new() })?;
        }
        match self.blocks.last_mut() {
            Some(Block::Thinking { thinking, signature }) => Ok((thinking, signature)),
            _ => Err(too_many("content blocks", MAX_BLOCKS)),
        }
    }

    /// Callers get a call's input as an object, so its text must be one. A call that the answer's
    /// length cut off has none yet.
    fn check_inputs(&mut self) -> Result<(), Failure> {
        let cut = self.ending.is_cut();
        let last = self.blocks.len().saturating_sub(1);
        for (at, block) in self.blocks.iter_mut().enumerate() {
            let Block::Call { input, name, .. } = block else { continue };
            if input.trim().is_empty() {
                *input = "{}".to_owned();
            } else if serde_json::from_str::<&RawValue>(input).is_err() {
                if !cut || at != last {
                    let why = format!("the model called '{name}' with arguments that aren't JSON");
                    return Err(Failure::malformed(why));
                }
                *input = "{}".to_owned();
                dropped(&mut self.warnings, "answer.tool-arguments");
            }
        }
        Ok(())
    }
}

impl Folder for MessageFolder {
    fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in events {
            self.add_one(event)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Failure> {
        self.check_inputs()?;
        let length: usize = self.blocks.iter().map(Block::len).sum();
        let mut out = Vec::with_capacity(1024 + length + length / 8);
        write_json(&self, &mut out);
        Ok(out)
    }
}

/// Most answers come in one piece; that piece is kept, not copied.
fn push(into: &mut String, text: String) {
    if into.is_empty() {
        *into = text;
    } else {
        into.push_str(&text);
    }
}

impl Serialize for MessageFolder {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("id", &self.identity.id)?;
        object.serialize_entry("type", "message")?;
        object.serialize_entry("role", "assistant")?;
        object.serialize_entry("model", &self.identity.model)?;
        object.serialize_entry("content", &Blocks(self))?;
        self.ending.write(&mut object)?;
        object.serialize_entry("usage", &self.usage)?;
        for (name, json) in &self.attributes {
            object.serialize_entry(name, json)?;
        }
        object.end()
    }
}

struct Blocks<'a>(&'a MessageFolder);

impl Serialize for Blocks<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(folder) = self;
        let mut list = to.serialize_seq(Some(folder.blocks.len()))?;
        for (at, block) in folder.blocks.iter().enumerate() {
            list.serialize_element(&BlockOut(block, folder.fields.get(&at)))?;
        }
        list.end()
    }
}

struct BlockOut<'a>(&'a Block, Option<&'a BlockFields>);

impl Block {
    fn len(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Thinking { thinking, signature } => thinking.len() + signature.len(),
            Self::Redacted { data } => data.len(),
            Self::Call { input, .. } => input.len(),
            Self::Other { json, input } => json.get().len() + input.len(),
        }
    }
}

impl Serialize for BlockOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(block, fields) = self;
        if let Block::Other { json, input } = block {
            return with_input(json, input).serialize(to);
        }
        let mut object = to.serialize_map(None)?;
        match block {
            Block::Text { text, citations } => {
                object.serialize_entry("type", "text")?;
                object.serialize_entry("text", text)?;
                if !citations.is_empty() {
                    object.serialize_entry("citations", citations)?;
                }
            }
            Block::Thinking { thinking, signature } => {
                object.serialize_entry("type", "thinking")?;
                object.serialize_entry("thinking", thinking)?;
                object.serialize_entry("signature", signature)?;
            }
            Block::Redacted { data } => {
                object.serialize_entry("type", "redacted_thinking")?;
                object.serialize_entry("data", data)?;
            }
            Block::Call { id, name, input, .. } => {
                object.serialize_entry("type", "tool_use")?;
                object.serialize_entry("id", id)?;
                object.serialize_entry("name", name)?;
                let input: Option<&RawValue> = serde_json::from_str(input).ok();
                object.serialize_entry("input", &input)?;
            }
            Block::Other { .. } => {}
        }
        for (name, value) in fields.iter().flat_map(|fields| fields.iter()) {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// The vendor's block with the input that came behind it.
fn with_input<'a>(json: &'a RawValue, input: &str) -> Cow<'a, RawValue> {
    let whole = || {
        let mut block: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json.get()).ok()?;
        block.insert("input".to_owned(), serde_json::from_str(input).ok()?);
        serde_json::value::to_raw_value(&block).ok()
    };
    if input.is_empty() {
        Cow::Borrowed(json)
    } else {
        whole().map_or(Cow::Borrowed(json), Cow::Owned)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(in crate::anthropic) mod tests;
