//! Goes on elsewhere with a stream that broke after its first content.
//!
//! Another candidate is given the request with what came so far and asked to go on from there. The
//! caller sees one answer with one end, and one bill: the tokens of all attempts together, as the
//! usage rows say. Operators see the seam in the log, among the events and in what explains the
//! request.
//!
//! What is gone on with is plain text. A tool call, an answer after a schema or one of several choices
//! can't be taken over in the middle by somebody else: there the stream ends with its error. Where
//! the caller has only seen thinking, the answer is begun anew.
//!
//! The choice is made as for a new request, the text so far included, so that privacy, health and
//! prices hold as they do then; who broke off comes last. Bounds: the attempts of the request's one
//! budget, [`MAX_SAID`] of text, the time that `routing:` gives a request for each seam.

use std::{pin::Pin, sync::Arc, time::Duration};

use super::{Call, Gateway, Way, carrying::Begun};
use crate::{
    Failure, attempt,
    contract::{Event, Usage},
    ids::{ModelName, ProviderName},
    operation::{Chat, Format, Message, Operation, Part, PartBody, Role},
    routing::{
        Candidate,
        carry::Carried,
        journal::{Broken, Continued},
    },
};

/// The longest text that is handed over: longer than any model's answer.
const MAX_SAID: usize = 256 * 1024;

/// So much of a continuation is looked at before it is passed on, for what it repeats.
const LOOKED_AT: Duration = Duration::from_millis(300);

/// A repetition has so many bytes: shorter ones are chance.
const MIN_REPEATED: usize = 12;
/// And no more: models repeat a sentence, not a page.
const MAX_REPEATED: usize = 512;

/// What the next model is told. It has to be a message of its own: few vendors go on with an answer
/// that ends a conversation.
const GO_ON: &str = "Your answer above was cut off by a technical fault. Go on exactly where it stops: your first \
     character is the one that follows its last one. Repeat nothing of it, and don't mention this.";

/// What the caller got so far.
#[derive(Debug)]
struct Heard {
    /// The text, as long as it is all there is.
    said: String,
    /// False once it can't be gone on with.
    fits: bool,
}

impl Default for Heard {
    fn default() -> Self {
        Self { said: String::new(), fits: true }
    }
}

impl Heard {
    fn add(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Text(delta) if delta.choice == 0 => self.said.push_str(&delta.text),
                Event::Thinking(_) | Event::ThinkingSignature(_) | Event::RedactedThinking(_) => {}
                other => self.fits &= !attempt::is_content(other),
            }
        }
        self.fits &= self.said.len() <= MAX_SAID;
        if !self.fits {
            self.said = String::new();
        }
    }
}

/// A stream that can be gone on with.
pub(super) struct Relay {
    gateway: Gateway,
    call: Call,
    request: Arc<Chat>,
    /// Who answers now.
    provider: ProviderName,
    model: ModelName,
    /// All attempts of the request so far.
    attempts: u32,
    heard: Heard,
    /// What broken attempts used, where there were any.
    billed: Option<Usage>,
}

impl Relay {
    /// None if nobody could go on with an answer to this request.
    pub fn new(
        gateway: &Gateway,
        call: &Call,
        request: &Arc<Chat>,
        candidate: &Candidate,
        attempts: u32,
    ) -> Option<Self> {
        let one = request.sampling.choices.is_none_or(|choices| choices == 1);
        let text = matches!(request.format, Format::Text);
        (one && text).then(|| Self {
            gateway: gateway.clone(),
            call: call.clone(),
            request: Arc::clone(request),
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            attempts,
            heard: Heard::default(),
            billed: None,
        })
    }

    /// What of these events is for the caller.
    pub fn pass(&mut self, mut events: Vec<Event>) -> Vec<Event> {
        if let Some(billed) = &self.billed {
            events.retain(is_of_a_continuation);
            for event in &mut events {
                if let Event::Usage(usage) = event {
                    add(usage, billed);
                }
            }
        }
        self.heard.add(&events);
        events
    }

    /// Finds somebody who goes on. `spent` is what the broken attempt used.
    ///
    /// # Errors
    /// The failure that broke the stream, if there is nobody or it can't be gone on with.
    pub async fn go_on(&mut self, spent: Usage, failure: Failure) -> Result<Begun, Failure> {
        if !self.heard.fits || !failure.kind.may_go_elsewhere() {
            return Err(failure);
        }
        let broke = (self.provider.clone(), self.model.clone());
        let (gateway, call) = (self.gateway.clone(), self.call.clone());
        let asked: Asking = Box::pin(ask_others(
            gateway,
            call,
            rest(&self.request, &self.heard.said),
            broke,
            self.attempts,
        ));
        let Some(carried) = asked.await else { return Err(failure) };
        self.attempts += carried.attempts;
        let went_on = carried.answer.as_ref().ok().map(|(_, candidate)| candidate);
        let broke = Broken {
            provider: self.provider.clone(),
            model: self.model.clone(),
            kind: failure.kind,
            fault: failure.fault,
        };
        let continued = Continued {
            broken: broke,
            said: self.heard.said.len(),
            by: went_on.map(|to| to.provider.clone()),
            tried: carried.tried,
            attempts: carried.attempts,
        };
        log(&self.call, &continued);
        self.gateway.inner.journal.continued(self.call.id, continued);
        if let Some(to) = went_on {
            (self.provider, self.model) = (to.provider.clone(), to.model.clone());
        }
        let Ok((mut begun, _)) = carried.answer else { return Err(failure) };
        let billed = self.billed.get_or_insert_default();
        add(billed, &spent);
        // Until the next one counts, this is the bill. Passed on as if the vendor had said it, it
        // becomes the sum.
        begun.first.insert(0, Event::Usage(Usage::default()));
        without_repetition(&self.heard.said, &mut begun.first);
        Ok(begun)
    }
}

/// The request for what is left of an answer.
fn rest(request: &Chat, said: &str) -> Chat {
    let mut chat = Chat::clone(request);
    if said.is_empty() {
        return chat;
    }
    let part = Part::from(PartBody::Text(said.into()));
    match chat.messages.last_mut() {
        // The caller had begun the answer.
        Some(last) if matches!(last.role, Role::Assistant) => last.parts.push(part),
        _ => chat.messages.push(message(Role::Assistant, part)),
    }
    let go_on = Part::from(PartBody::Text(GO_ON.into()));
    chat.messages.push(message(Role::User, go_on));
    let used = attempt::tokens(said.len() as u64).0;
    let less = |most: u32| most.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX)).max(1);
    chat.sampling.max_output_tokens = chat.sampling.max_output_tokens.map(less);
    chat
}

/// Boxed: it is rare and large, and would be part of every answer.
type Asking = Pin<Box<dyn Future<Output = Option<Carried<Begun>>> + Send>>;

/// Asks whoever may serve the request now; who broke off comes last. None if nobody may be asked: what
/// keeps the host from finding out is no better reason to end than the one at hand.
async fn ask_others(
    gateway: Gateway,
    call: Call,
    request: Chat,
    broke: (ProviderName, ModelName),
    made: u32,
) -> Option<Carried<Begun>> {
    let snapshot = gateway.snapshot();
    if made >= snapshot.config.routing.attempts {
        return None;
    }
    let request = Arc::new(request);
    let ask = super::ask_chat(&snapshot, &call, Arc::clone(&request)).await.ok()?;
    let mut decision = gateway.decide(&snapshot, &ask);
    let (provider, model) = broke;
    decision.put_last(&provider, &model);
    let way = Way {
        snapshot: &snapshot,
        call: &call,
        ask: &ask,
        operation: &Operation::Chat(request),
        decision: &decision,
        streamed: true,
        made,
        hold: Some(LOOKED_AT),
    };
    Some(gateway.carry(&way).await)
}

fn message(role: Role, part: Part) -> Message {
    Message { role, answers: None, name: None, parts: vec![part], extra: Vec::new() }
}

fn log(call: &Call, continued: &Continued) {
    let Continued { broken: Broken { provider, model, kind, .. }, said, by, .. } = continued;
    let (request, caller, kind) = (call.id, &*call.caller.name, kind.as_str());
    let by = by.as_ref().map_or("nobody", ProviderName::as_str);
    tracing::info!(%request, caller, %provider, %model, kind, said, by, "a stream broke");
}

/// The beginning and the thoughts are the first one's; the rest is the answer.
fn is_of_a_continuation(event: &Event) -> bool {
    !matches!(
        event,
        Event::Started(_)
            | Event::Thinking(_)
            | Event::ThinkingSignature(_)
            | Event::RedactedThinking(_)
            | Event::Attribute(_)
    )
}

/// Adds tokens to tokens.
fn add(sum: &mut Usage, more: &Usage) {
    let both = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, other) => other,
        (one, None) => one,
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
    };
    sum.input = both(sum.input, more.input);
    sum.cache_read = both(sum.cache_read, more.cache_read);
    sum.cache_write = both(sum.cache_write, more.cache_write);
    sum.output = both(sum.output, more.output);
    sum.reasoning = both(sum.reasoning, more.reasoning);
}

/// Takes from the beginning of a text what only repeats the end of what was said.
fn without_repetition(said: &str, events: &mut [Event]) {
    let mut pieces: Vec<&mut String> = Vec::new();
    for event in events {
        if let Event::Text(delta) = event {
            pieces.push(&mut delta.text);
        }
    }
    let begins: String = pieces.iter().map(|piece| piece.as_str()).collect();
    let mut left = repeated(said, &begins);
    for piece in pieces {
        let taken = left.min(piece.len());
        piece.drain(..taken);
        left -= taken;
    }
}

/// How many bytes at the beginning of one text are also the end of the other.
fn repeated(said: &str, begins: &str) -> usize {
    let most = said.len().min(begins.len()).min(MAX_REPEATED);
    (MIN_REPEATED..=most)
        .rev()
        .find(|&bytes| begins.is_char_boundary(bytes) && said.ends_with(&begins[..bytes]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::{Finish, FinishReason, TextDelta, ToolCallStart},
        operation::{Dialect, Sampling},
        privacy::Piece,
    };

    fn text(pieces: &[&str]) -> Vec<Event> {
        let event = |text: &&str| Event::Text(TextDelta { choice: 0, text: (*text).to_owned() });
        pieces.iter().map(event).collect()
    }

    fn after(said: &str, pieces: &[&str]) -> String {
        let mut events = text(pieces);
        without_repetition(said, &mut events);
        let text = |event: &Event| match event {
            Event::Text(delta) => delta.text.clone(),
            _ => unreachable!(),
        };
        events.iter().map(text).collect()
    }

    #[test]
    fn what_a_continuation_repeats_is_left_out_however_it_is_cut() {
        let said = "The capital of France is Pa";
        assert_eq!(after(said, &["of France is Paris."]), "ris.");
        assert_eq!(after(said, &["of Fr", "ance is ", "Paris."]), "ris.");
        assert_eq!(after(said, &["ris."]), "ris.");
        assert_eq!(after(said, &["Paris."]), "Paris.", "two letters are chance");
        assert_eq!(after("", &["ris."]), "ris.");
        assert_eq!(after("ééééééé é", &["ééééééé éa"]), "a");
    }

    fn heard(events: &[Event]) -> Heard {
        let mut heard = Heard::default();
        heard.add(events);
        heard
    }

    #[test]
    fn only_plain_text_is_gone_on_with() {
        let delta = |choice| TextDelta { choice, text: "so far".into() };
        let said =
            [Event::Thinking(delta(0)), Event::Text(delta(0)), Event::Usage(Usage::default())];
        assert_eq!((heard(&said).said.as_str(), heard(&said).fits), ("so far", true));
        let finish = Finish { choice: 0, reason: FinishReason::Stop, stop_sequence: None };
        let call = ToolCallStart { choice: 0, index: 0, id: "c".into(), name: "t".into() };
        for other in [
            Event::Text(delta(1)),
            Event::Refusal(delta(0)),
            Event::ToolCall(call),
            Event::Finish(finish),
            Event::Text(TextDelta { choice: 0, text: "a".repeat(MAX_SAID) }),
        ] {
            let mut heard = heard(&said);
            heard.add(std::slice::from_ref(&other));
            assert!(!heard.fits && heard.said.is_empty(), "{other:?}");
            heard.add(&said);
            assert!(!heard.fits, "for good");
        }
    }

    #[test]
    fn what_is_left_is_asked_for_in_a_message_of_its_own_and_within_the_limit() {
        let asked = Chat {
            model: ModelName::new("m").unwrap(),
            messages: vec![message(Role::User, PartBody::Text("count".into()).into())],
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            format: Format::Text,
            sampling: Sampling { max_output_tokens: Some(10), ..Sampling::default() },
            reasoning: None,
            stream: true,
            dialect: Dialect::Keyward,
            extra: Vec::new(),
        };
        let texts = |chat: &Chat| {
            let read = |piece: &Piece<'_>| match piece {
                Piece::Text(text) => (*text).to_owned(),
                other => unreachable!("{other:?}"),
            };
            chat.pieces().iter().map(read).collect::<Vec<_>>()
        };
        let left = rest(&asked, "one, two, ");
        assert_eq!(texts(&left), ["count", "one, two, ", GO_ON]);
        assert_eq!(left.sampling.max_output_tokens, Some(7));
        assert_eq!(rest(&asked, &"one ".repeat(50)).sampling.max_output_tokens, Some(1));
        assert_eq!(texts(&rest(&asked, "")), ["count"], "only thoughts were seen");
        let begun = Part::from(PartBody::Text("zero, ".into()));
        let mut asked = asked;
        asked.messages.push(message(Role::Assistant, begun));
        let left = rest(&asked, "one, ");
        assert_eq!(texts(&left), ["count", "zero, ", "one, ", GO_ON]);
        assert_eq!(left.messages.len(), 3, "one message of the model");
    }

    #[test]
    fn tokens_of_all_attempts_are_one_bill() {
        let mut sum = Usage::default();
        add(&mut sum, &Usage { input: Some(10), output: Some(3), ..Usage::default() });
        add(&mut sum, &Usage { input: Some(15), cache_read: Some(8), ..Usage::default() });
        assert_eq!((sum.input, sum.output, sum.cache_read), (Some(25), Some(3), Some(8)));
        add(&mut sum, &Usage { input: Some(u64::MAX), ..Usage::default() });
        assert_eq!(sum.input, Some(u64::MAX));
    }
}
