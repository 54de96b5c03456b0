//! Events as items of the output, step by step.
//!
//! Texts go into the message that is open, thinking into the reasoning that is open, and each begins
//! where the other ends, so items stand in the vendor's order. Calls are items beside them that stay
//! open to the end, because some vendors give pieces of several calls in turn. Items of the vendor's
//! own stand where they came.
//!
//! Everything is kept, for this protocol says all of it again at the end; memory is that of the
//! answer, which the host caps, and the number of items is capped here.

use std::{borrow::Cow, collections::BTreeMap};

use keyward::{
    Failure,
    contract::{self, Event, FinishReason, MediaKind, Warning},
    ids::RequestId,
};
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::value::RawValue;

use super::request::Asked;
use crate::dialect::events::{MAX_CALLS, call_id, one_line, too_many, unknown_call};

/// Items of an output and parts of them. Vendors stay below a hundred.
const MAX_PIECES: usize = 4096;

/// What stands before `encrypted_content` that has no text beside it even for its vendor
/// (Anthropic's `redacted_thinking`), so that it goes back as what it was. Everything else in
/// `encrypted_content` is the vendor's own signature or cipher, unchanged.
pub const REDACTED: &str = "keyward.redacted.";

/// What ids made here have after their prefix; no vendor's begin so.
const OWN_ID: &str = "kw";

/// True for an item's id that was made here and that no vendor has heard of.
pub fn is_own_id(id: &str) -> bool {
    id.split_once('_').is_some_and(|(_, rest)| rest.starts_with(OWN_ID))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

pub struct Item {
    pub id: String,
    pub status: Status,
    pub body: Body,
    /// Members that only its vendor knows.
    extra: Extra,
}

type Extra = Vec<(String, Box<RawValue>)>;

/// Members of items that are the host's to write.
const OWN_MEMBERS: &[&str] = &[
    "id",
    "type",
    "status",
    "role",
    "content",
    "summary",
    "encrypted_content",
    "call_id",
    "name",
    "arguments",
    "input",
];

pub enum Body {
    Message(Vec<Part>),
    Reasoning {
        summary: String,
        encrypted: Option<String>,
    },
    Call(Call),
    /// The vendor's own, as it wrote it.
    Other {
        kind: String,
        json: Box<RawValue>,
    },
}

impl Body {
    fn kind(&self) -> &str {
        match self {
            Self::Message(_) => "message",
            Self::Reasoning { .. } => "reasoning",
            Self::Call(Call { custom: false, .. }) => "function_call",
            Self::Call(Call { custom: true, .. }) => "custom_tool_call",
            Self::Other { kind, .. } => kind,
        }
    }
}

pub struct Call {
    /// The contract's number of it.
    index: u32,
    call_id: String,
    pub name: String,
    pub arguments: String,
    /// Its input is a text, not JSON.
    pub custom: bool,
}

impl Call {
    /// Clients parse the text without looking; a tool without parameters has an empty object.
    pub fn whole(&self) -> &str {
        if self.arguments.is_empty() && !self.custom { "{}" } else { &self.arguments }
    }
}

#[derive(Default)]
pub struct Part {
    pub is_refusal: bool,
    pub text: String,
    pub annotations: Vec<Box<RawValue>>,
    pub logprobs: Vec<Box<RawValue>>,
}

/// One thing that happened to an item.
pub struct Step<'a> {
    pub at: usize,
    pub item: &'a Item,
    pub what: What<'a>,
}

pub enum What<'a> {
    Added,
    PartAdded(usize),
    Text { part: usize, delta: &'a str, logprobs: &'a [Box<RawValue>] },
    Annotation { part: usize, number: usize, json: &'a RawValue },
    PartDone(usize),
    SummaryAdded,
    Summary(&'a str),
    Arguments(&'a str),
    Done,
}

/// How an answer ended, in this protocol's words.
#[derive(Clone, Debug)]
pub struct Ending {
    pub status: Cow<'static, str>,
    pub reason: Option<Cow<'static, str>>,
}

impl Ending {
    pub const COMPLETED: Self = Self { status: Cow::Borrowed("completed"), reason: None };

    fn incomplete(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { status: "incomplete".into(), reason: Some(reason.into()) }
    }

    /// `refused` is true if the refusal has a text of its own, which is an answer.
    fn new(reason: &FinishReason, refused: bool) -> Self {
        match reason {
            FinishReason::Stop | FinishReason::ToolCalls => Self::COMPLETED,
            FinishReason::Refusal if refused => Self::COMPLETED,
            FinishReason::Length => Self::incomplete("max_output_tokens"),
            FinishReason::ContentFilter | FinishReason::Refusal => {
                Self::incomplete("content_filter")
            }
            // States of a response, where its vendor works in the background.
            FinishReason::Other(word)
                if matches!(word.as_str(), "queued" | "in_progress" | "cancelled") =>
            {
                Self { status: word.clone().into(), reason: None }
            }
            FinishReason::Other(word) => Self::incomplete(word.clone()),
        }
    }
}

/// The items of one answer as they grow.
pub struct Output {
    request: RequestId,
    asked: Asked,
    pub items: Vec<Item>,
    /// The message or the reasoning that is open.
    open: Option<usize>,
    pieces: usize,
    calls: usize,
    ending: Option<Ending>,
    /// The type of the item to come, and members of it that only its vendor knows.
    coming: Option<(String, Extra)>,
}

impl Output {
    pub fn new(request: RequestId, asked: Asked) -> Self {
        Self {
            request,
            asked,
            items: Vec::with_capacity(2),
            open: None,
            pieces: 0,
            calls: 0,
            ending: None,
            coming: None,
        }
    }

    pub fn ending(&self) -> &Ending {
        self.ending.as_ref().unwrap_or(&Ending::COMPLETED)
    }

    /// Takes in what arrived together and tells `watch` of each step.
    ///
    /// # Errors
    /// If the events contradict each other or exceed a limit.
    pub fn add(
        &mut self,
        events: &[Event],
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        // Log probabilities belong to their text: the one just before or after.
        let mut held = Vec::new();
        let mut events = events.iter().peekable();
        while let Some(event) = events.next() {
            match event {
                Event::Text(delta) => {
                    only_one(delta.choice)?;
                    if let Some(Event::Logprobs(next)) = events.peek() {
                        held.extend(logprobs(next));
                        events.next();
                    }
                    self.text(&delta.text, std::mem::take(&mut held), watch)?;
                }
                Event::Logprobs(piece) => held.extend(logprobs(piece)),
                other => {
                    self.text("", std::mem::take(&mut held), watch)?;
                    self.add_one(other, watch)?;
                }
            }
        }
        self.text("", held, watch)
    }

    fn add_one(&mut self, event: &Event, watch: &mut impl FnMut(Step<'_>)) -> Result<(), Failure> {
        match event {
            Event::Refusal(delta) => {
                only_one(delta.choice)?;
                if !delta.text.is_empty() {
                    self.say(&delta.text, true, Vec::new(), watch)?;
                }
            }
            Event::Thinking(delta) => {
                only_one(delta.choice)?;
                if !delta.text.is_empty() {
                    self.thinking(&delta.text, watch)?;
                }
            }
            Event::ThinkingSignature(delta) => {
                only_one(delta.choice)?;
                let at = self.reasoning(watch)?;
                if let Body::Reasoning { encrypted, .. } = &mut self.items[at].body {
                    *encrypted = Some(delta.text.clone());
                }
                // What is thought after it isn't signed by it.
                self.close_open(watch);
            }
            Event::RedactedThinking(delta) => {
                only_one(delta.choice)?;
                self.close_open(watch);
                let at = self.reasoning(watch)?;
                if let Body::Reasoning { encrypted, .. } = &mut self.items[at].body {
                    *encrypted = Some([REDACTED, &delta.text].concat());
                }
                self.close_open(watch);
            }
            Event::ToolCall(start) => self.call(start, watch)?,
            Event::ToolArguments(piece) => {
                only_one(piece.choice)?;
                let known =
                    self.items.iter_mut().enumerate().rev().find_map(|(at, item)| match &mut item
                        .body
                    {
                        Body::Call(call) if call.index == piece.index => Some((at, call)),
                        _ => None,
                    });
                let (at, call) = known.ok_or_else(unknown_call)?;
                call.arguments.push_str(&piece.fragment);
                self.tell(at, What::Arguments(&piece.fragment), watch);
            }
            Event::Citation(citation) => {
                only_one(citation.choice)?;
                if let Some(json) = one_line(&citation.json) {
                    self.annotation(json.into_owned(), watch)?;
                }
            }
            Event::Media(media) if media.kind == MediaKind::Image => self.image(media, watch)?,
            Event::Finish(finish) => {
                only_one(finish.choice)?;
                if self.ending.is_none() {
                    let refused = self.items.iter().any(|item| match &item.body {
                        Body::Message(parts) => parts.iter().any(|part| part.is_refusal),
                        _ => false,
                    });
                    self.ending = Some(Ending::new(&finish.reason, refused));
                }
            }
            Event::Attribute(field) if field.name == "output_item" => {
                self.vendors_own(&field.json, watch)?;
            }
            Event::Attribute(field) if field.name == "item" => {
                self.close_open(watch);
                self.coming = coming(&field.json);
            }
            // Texts and log probabilities are dealt with above, the rest isn't output.
            _ => {}
        }
        Ok(())
    }

    /// Closes what is still open.
    pub fn finish(&mut self, watch: &mut impl FnMut(Step<'_>)) {
        let cut = self.ending().status != "completed";
        let status = if cut { Status::Incomplete } else { Status::Completed };
        self.open = None;
        for at in 0..self.items.len() {
            self.close(at, status, watch);
        }
    }

    // ------------------------------------------------------------------------------- messages

    /// Nothing at all begins no message.
    fn text(
        &mut self,
        delta: &str,
        logprobs: Vec<Box<RawValue>>,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        match delta.is_empty() && logprobs.is_empty() {
            true => Ok(()),
            false => self.say(delta, false, logprobs, watch),
        }
    }

    fn say(
        &mut self,
        delta: &str,
        is_refusal: bool,
        logprobs: Vec<Box<RawValue>>,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        let at = self.message(watch)?;
        let part = self.part(at, is_refusal, watch)?;
        let new = logprobs.len();
        let Body::Message(parts) = &mut self.items[at].body else { return Ok(()) };
        parts[part].text.push_str(delta);
        parts[part].logprobs.extend(logprobs);
        let Body::Message(parts) = &self.items[at].body else { return Ok(()) };
        let all = &parts[part].logprobs;
        let what = What::Text { part, delta, logprobs: &all[all.len() - new..] };
        self.tell(at, what, watch);
        Ok(())
    }

    fn annotation(
        &mut self,
        json: Box<RawValue>,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        let at = self.message(watch)?;
        let part = self.part(at, false, watch)?;
        let Body::Message(parts) = &mut self.items[at].body else { return Ok(()) };
        let number = parts[part].annotations.len();
        parts[part].annotations.push(json);
        let Body::Message(parts) = &self.items[at].body else { return Ok(()) };
        let what = What::Annotation { part, number, json: &parts[part].annotations[number] };
        self.tell(at, what, watch);
        Ok(())
    }

    /// Where the open message is; a new one is begun.
    fn message(&mut self, watch: &mut impl FnMut(Step<'_>)) -> Result<usize, Failure> {
        if let Some(at) = self.open
            && matches!(self.items[at].body, Body::Message(_))
        {
            return Ok(at);
        }
        self.close_open(watch);
        let at = self.push("msg", Body::Message(Vec::with_capacity(1)), watch)?;
        self.open = Some(at);
        Ok(at)
    }

    /// The last part of a message if it is of this kind, or a new one.
    fn part(
        &mut self,
        at: usize,
        is_refusal: bool,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<usize, Failure> {
        let Body::Message(parts) = &self.items[at].body else { return Ok(0) };
        if let Some(last) = parts.len().checked_sub(1) {
            if parts[last].is_refusal == is_refusal {
                return Ok(last);
            }
            self.tell(at, What::PartDone(last), watch);
        }
        self.count()?;
        let Body::Message(parts) = &mut self.items[at].body else { return Ok(0) };
        let new = parts.len();
        parts.push(Part { is_refusal, ..Part::default() });
        self.tell(at, What::PartAdded(new), watch);
        Ok(new)
    }

    // ------------------------------------------------------------------------------- thinking

    fn thinking(&mut self, delta: &str, watch: &mut impl FnMut(Step<'_>)) -> Result<(), Failure> {
        let at = self.reasoning(watch)?;
        if matches!(&self.items[at].body, Body::Reasoning { summary, .. } if summary.is_empty()) {
            self.tell(at, What::SummaryAdded, watch);
        }
        if let Body::Reasoning { summary, .. } = &mut self.items[at].body {
            summary.push_str(delta);
        }
        self.tell(at, What::Summary(delta), watch);
        Ok(())
    }

    /// Where the open reasoning is; a new one is begun.
    fn reasoning(&mut self, watch: &mut impl FnMut(Step<'_>)) -> Result<usize, Failure> {
        if let Some(at) = self.open
            && matches!(self.items[at].body, Body::Reasoning { .. })
        {
            return Ok(at);
        }
        self.close_open(watch);
        let body = Body::Reasoning { summary: String::new(), encrypted: None };
        let at = self.push("rs", body, watch)?;
        self.open = Some(at);
        Ok(at)
    }

    // ---------------------------------------------------------------------------------- calls

    fn call(
        &mut self,
        start: &contract::ToolCallStart,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        only_one(start.choice)?;
        if self.calls >= MAX_CALLS {
            return Err(too_many("tool calls", MAX_CALLS));
        }
        self.calls += 1;
        self.close_open(watch);
        let call_id = match start.id.is_empty() {
            true => call_id(self.request, start.choice, start.index),
            false => start.id.clone(),
        };
        let custom = self.asked.is_custom(&start.name);
        let (index, name, arguments) = (start.index, start.name.clone(), String::new());
        let prefix = if custom { "ctc" } else { "fc" };
        self.push(prefix, Body::Call(Call { index, call_id, name, arguments, custom }), watch)?;
        Ok(())
    }

    // -------------------------------------------------------------------------- the vendor's own

    /// Where an item of the vendor's own is that it speaks of by its id; one that it hasn't shown
    /// yet is begun.
    ///
    /// # Errors
    /// If there are too many.
    pub fn announced(
        &mut self,
        id: &str,
        kind: &str,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<usize, Failure> {
        let known = self
            .items
            .iter()
            .position(|item| item.id == id && matches!(item.body, Body::Other { .. }));
        if let Some(at) = known {
            return Ok(at);
        }
        let json = serde_json::json!({ "id": id, "type": kind, "status": "in_progress" });
        let json = serde_json::value::to_raw_value(&json).map_err(|_| unreadable())?;
        self.close_open(watch);
        self.push_with_id(id.to_owned(), Body::Other { kind: kind.to_owned(), json }, watch)
    }

    fn vendors_own(&mut self, json: &str, watch: &mut impl FnMut(Step<'_>)) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow, default)]
            id: Option<Cow<'a, str>>,
        }
        let json = one_line(json).ok_or_else(unreadable)?;
        let named: Named<'_> = serde_json::from_str(json.get()).map_err(|_| unreadable())?;
        let id = named.id.as_deref().unwrap_or_default();
        let place = self.items.iter().position(|item| {
            item.id == id
                && item.status == Status::InProgress
                && matches!(item.body, Body::Other { .. })
        });
        let body = Body::Other { kind: named.kind.into_owned(), json: json.clone().into_owned() };
        let at = match place {
            Some(at) => {
                self.items[at].body = body;
                at
            }
            None => {
                self.close_open(watch);
                self.push_with_id(id.to_owned(), body, watch)?
            }
        };
        self.close(at, Status::Completed, watch);
        Ok(())
    }

    /// An image is the result of a call of the vendor's own tool.
    fn image(
        &mut self,
        media: &contract::MediaOutput,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Image<'a> {
            id: &'a str,
            r#type: &'static str,
            status: &'static str,
            output_format: &'a str,
            result: &'a str,
        }
        const KIND: &str = "image_generation_call";

        only_one(media.choice)?;
        let waiting = self.items.iter().position(|item| {
            item.status == Status::InProgress
                && matches!(&item.body, Body::Other { kind, .. } if kind == KIND)
        });
        let id = match waiting {
            Some(at) => self.items[at].id.clone(),
            None => self.new_id("ig"),
        };
        let image = Image {
            id: &id,
            r#type: KIND,
            status: "completed",
            output_format: media.media_type.strip_prefix("image/").unwrap_or(&media.media_type),
            result: &media.base64,
        };
        let json = serde_json::to_string(&image).map_err(|_| unreadable())?;
        self.vendors_own(&json, watch)
    }

    // ----------------------------------------------------------------------------------- items

    fn push(
        &mut self,
        prefix: &str,
        body: Body,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<usize, Failure> {
        self.push_with_id(self.new_id(prefix), body, watch)
    }

    fn push_with_id(
        &mut self,
        id: String,
        body: Body,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<usize, Failure> {
        self.count()?;
        let at = self.items.len();
        let extra = self.coming.take().filter(|(kind, _)| kind == body.kind());
        let extra = extra.map(|(_, extra)| extra).unwrap_or_default();
        self.items.push(Item { id, status: Status::InProgress, body, extra });
        self.tell(at, What::Added, watch);
        Ok(at)
    }

    fn new_id(&self, prefix: &str) -> String {
        format!("{prefix}_{OWN_ID}{:032x}{:04x}", self.request.0, self.items.len())
    }

    fn count(&mut self) -> Result<(), Failure> {
        self.pieces += 1;
        match self.pieces > MAX_PIECES {
            true => Err(too_many("items and parts", MAX_PIECES)),
            false => Ok(()),
        }
    }

    fn close_open(&mut self, watch: &mut impl FnMut(Step<'_>)) {
        if let Some(at) = self.open.take() {
            self.close(at, Status::Completed, watch);
        }
    }

    fn close(&mut self, at: usize, status: Status, watch: &mut impl FnMut(Step<'_>)) {
        if self.items[at].status != Status::InProgress {
            return;
        }
        self.items[at].status = status;
        if let Body::Message(parts) = &self.items[at].body
            && let Some(last) = parts.len().checked_sub(1)
        {
            self.tell(at, What::PartDone(last), watch);
        }
        self.tell(at, What::Done, watch);
    }

    fn tell(&self, at: usize, what: What<'_>, watch: &mut impl FnMut(Step<'_>)) {
        watch(Step { at, item: &self.items[at], what });
    }
}

/// True for events that are part of the output.
pub fn is_output(event: &Event) -> bool {
    match event {
        Event::Attribute(field) => matches!(field.name.as_str(), "item" | "output_item" | "event"),
        Event::Text(_)
        | Event::Refusal(_)
        | Event::Thinking(_)
        | Event::ThinkingSignature(_)
        | Event::RedactedThinking(_)
        | Event::ToolCall(_)
        | Event::ToolArguments(_)
        | Event::Citation(_)
        | Event::Logprobs(_)
        | Event::Media(_)
        | Event::Finish(_) => true,
        _ => false,
    }
}

/// What this protocol has no place for: sounds, films and files that a model made.
pub fn lost(event: &Event) -> Option<Warning> {
    let Event::Media(media) = event else { return None };
    let subject = match media.kind {
        MediaKind::Image => return None,
        MediaKind::Audio => "media.audio",
        MediaKind::Video => "media.video",
        MediaKind::File => "media.file",
    };
    let message = "The Responses API has no place for it.".to_owned();
    Some(Warning { code: "dropped".to_owned(), subject: subject.to_owned(), message })
}

/// An event of the vendor's own, as its members.
pub type VendorsEvent<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// There is one answer to a prompt in this protocol, and no way to ask for more.
fn only_one(choice: u32) -> Result<(), Failure> {
    match choice {
        0 => Ok(()),
        _ => Err(Failure::plugin("the adapter gave several answers where one was asked for")),
    }
}

/// Members ahead of their item. Nothing if they can't be read, as with all attributes.
fn coming(json: &str) -> Option<(String, Extra)> {
    let json = one_line(json)?;
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json.get()).ok()?;
    let kind = serde_json::from_str(members.get("type")?.get()).ok()?;
    let own = |name: &str| OWN_MEMBERS.contains(&name);
    let extra = members.into_iter().filter(|(name, _)| !own(name));
    Some((kind, extra.map(|(name, json)| (name.into_owned(), json.to_owned())).collect()))
}

fn unreadable() -> Failure {
    Failure::plugin("the adapter gave an item of the output that isn't one")
}

/// The entries of the frame that Chat Completions put around them.
fn logprobs(piece: &contract::Annotation) -> Vec<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Piece<'a> {
        #[serde(borrow, default)]
        content: Option<Vec<&'a RawValue>>,
    }
    let Some(json) = one_line(&piece.json) else { return Vec::new() };
    let piece: Piece<'_> = match serde_json::from_str(json.get()) {
        Ok(piece) => piece,
        Err(_) => return Vec::new(),
    };
    piece.content.into_iter().flatten().map(ToOwned::to_owned).collect()
}

// -------------------------------------------------------------------------------------- as JSON

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Body::Other { json, .. } = &self.body {
            return json.serialize(to);
        }
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("id", &self.id)?;
        object.serialize_entry("type", self.body.kind())?;
        match &self.body {
            Body::Message(parts) => {
                object.serialize_entry("status", self.status.as_str())?;
                object.serialize_entry("role", "assistant")?;
                object.serialize_entry("content", parts)?;
            }
            Body::Reasoning { summary, encrypted } => {
                object.serialize_entry("summary", &Summary(summary))?;
                if let Some(encrypted) = encrypted {
                    object.serialize_entry("encrypted_content", encrypted)?;
                }
            }
            Body::Call(call) => {
                let member = if call.custom { "input" } else { "arguments" };
                object.serialize_entry("status", self.status.as_str())?;
                object.serialize_entry("call_id", &call.call_id)?;
                object.serialize_entry("name", &call.name)?;
                let begun = self.status == Status::InProgress;
                object.serialize_entry(
                    member,
                    if begun { call.arguments.as_str() } else { call.whole() },
                )?;
            }
            Body::Other { .. } => {}
        }
        for (name, json) in &self.extra {
            object.serialize_entry(name, json)?;
        }
        object.end()
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(None)?;
        if self.is_refusal {
            object.serialize_entry("type", "refusal")?;
            object.serialize_entry("refusal", &self.text)?;
        } else {
            object.serialize_entry("type", "output_text")?;
            object.serialize_entry("text", &self.text)?;
            object.serialize_entry("annotations", &self.annotations)?;
            object.serialize_entry("logprobs", &self.logprobs)?;
        }
        object.end()
    }
}

/// The paragraphs of a summary: one, or none where nothing is shown.
struct Summary<'a>(&'a str);

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(None)?;
        if !self.0.is_empty() {
            list.serialize_element(&Paragraph::new(self.0))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
pub struct Paragraph<'a> {
    r#type: &'static str,
    text: &'a str,
}

impl<'a> Paragraph<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { r#type: "summary_text", text }
    }
}
