//! One attempt: an exchange on its way, or an answer that was kept, and the reservation that becomes
//! its row.
//!
//! Whatever becomes of an attempt, it leaves exactly one row: when it ends, when it fails, or when
//! it is dropped because the caller went away. What the row says is counted here, from the events
//! that come by, so that an adapter can't report more or less than the caller got.
//!
//! Costs: a few comparisons an event and one row in the meter's queue.

pub(crate) mod gathered;
mod source;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use self::source::Source;
use crate::{
    Failure,
    cache::{CacheUse, Keeping},
    catalog::Provider,
    contract::{self, Event},
    health::Took,
    ids::RequestId,
    metering::{Outcome, Reservation, TokenUsage, Tokens},
    operation::Operation,
    routing::{carry, leave::Leave},
    tape::Tape,
};

/// Bytes of an answer a token stands for, where the vendor hasn't counted: English prose in common
/// tokenizers. Prompts are counted better, in [`crate::metering::estimate`]; answers come in pieces.
const BYTES_PER_TOKEN: u64 = 4;

/// What is expected of an attempt whose prompt takes so many tokens by the host's own count.
pub(crate) fn estimate(prompt: Tokens) -> TokenUsage {
    TokenUsage { input: Some(prompt), ..TokenUsage::default() }
}

/// How many tokens so many bytes of an answer are taken for.
pub(crate) fn tokens(bytes: u64) -> Tokens {
    Tokens(bytes.div_ceil(BYTES_PER_TOKEN))
}

/// A source of events, counted as they pass.
pub(crate) struct Attempt {
    source: Source,
    /// Taken when settled.
    reservation: Option<Reservation>,
    /// When the last events were handed out; the time until more are asked for is the caller's.
    handed_out: Option<Instant>,
    /// The host's own count of the prompt.
    prompt: Tokens,
    answer_bytes: u64,
    vendor_counted: bool,
    /// What the row says, once it is settled.
    spent: TokenUsage,
    began: Instant,
    /// Absent where nobody was asked for leave. Health hears of an attempt when its content begins
    /// and if it fails.
    leave: Option<Leave>,
    /// Whether it comes all at once, though it could come in pieces.
    is_whole_chat: bool,
    /// Whether it has failed by its silence, when it is dropped.
    silent: Arc<AtomicBool>,
    /// Where the answer is kept when it has ended in order.
    keeping: Option<Keeping>,
    cache: Option<CacheUse>,
}

impl Attempt {
    /// Opens the exchange.
    ///
    /// # Errors
    /// If its adapter can't be started; the reservation is settled with that.
    pub async fn open(
        provider: &Arc<Provider>,
        operation: &Operation,
        id: RequestId,
        prompt: Tokens,
        reservation: Reservation,
        leave: Option<Leave>,
        tape: Option<Tape>,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let key = leave.as_ref().map_or_else(|| provider.first_key(), Leave::key);
        match Source::open(provider, operation, id, key, tape).await {
            Ok(source) => Ok(Self {
                source,
                reservation: Some(reservation),
                handed_out: None,
                prompt,
                answer_bytes: 0,
                vendor_counted: false,
                spent: TokenUsage::default(),
                began,
                leave,
                is_whole_chat: matches!(operation, Operation::Chat(chat) if !chat.stream),
                silent: Arc::default(),
                keeping: None,
                cache: None,
            }),
            Err(failure) => {
                if let Some(mut leave) = leave {
                    leave.failed(&failure, Instant::now());
                    leave.settle(Tokens(0));
                }
                let mut reservation = reservation;
                reservation.unserved();
                reservation.settle(outcome(&failure));
                Err(failure)
            }
        }
    }

    /// An attempt that was answered before it began: nobody is asked, and nothing is billed.
    pub fn kept(events: Vec<Event>, mut reservation: Reservation) -> Self {
        reservation.cached();
        reservation.settle(Outcome::Ok);
        let mut attempt = Self::given(events);
        attempt.cache = Some(CacheUse::Hit);
        attempt
    }

    /// An attempt that has ended, and whose row is written.
    pub fn given(events: Vec<Event>) -> Self {
        Self {
            source: Source::Given(Some(events)),
            reservation: None,
            handed_out: None,
            prompt: Tokens(0),
            answer_bytes: 0,
            vendor_counted: true,
            spent: TokenUsage::default(),
            began: Instant::now(),
            leave: None,
            is_whole_chat: false,
            silent: Arc::default(),
            keeping: None,
            cache: None,
        }
    }

    /// Who says, when it is dropped, whether it has failed by its silence.
    pub fn judged_by(&mut self, silent: Arc<AtomicBool>) {
        self.silent = silent;
    }

    /// The answer may be kept.
    pub fn keep(&mut self, keeping: Option<Keeping>) {
        self.cache = keeping.is_some().then_some(CacheUse::Miss);
        self.keeping = keeping;
    }

    /// None where no answers are kept.
    pub fn cache(&self) -> Option<CacheUse> {
        self.cache
    }

    /// See [`Exchange::next`](crate::exchange::Exchange::next).
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        if let Some(since) = self.handed_out.take() {
            self.source.waited(since.elapsed());
        }
        let next = self.source.next().await;
        match &next {
            Some(Ok(events)) => {
                self.count(events);
                if let Some(keeping) = &mut self.keeping {
                    keeping.see(events);
                }
                self.handed_out = Some(Instant::now());
            }
            Some(Err(failure)) => self.fail(failure),
            None => {
                self.settle(Outcome::Ok);
                if let Some(keeping) = self.keeping.take() {
                    keeping.keep(Instant::now());
                }
            }
        }
        next
    }

    /// Ends it for a reason of its own, or of the host's.
    pub fn fail(&mut self, failure: &Failure) {
        self.keeping = None;
        if let Some(leave) = &mut self.leave {
            leave.failed(failure, Instant::now());
        }
        self.settle(outcome(failure));
    }

    /// The tokens that its row says, once it has ended.
    pub fn spent(&self) -> contract::Usage {
        let count = |tokens: Option<Tokens>| tokens.map(|tokens| tokens.0);
        contract::Usage {
            input: count(self.spent.input),
            cache_read: count(self.spent.cache_read),
            cache_write: count(self.spent.cache_write),
            output: count(self.spent.output),
            reasoning: count(self.spent.reasoning),
            units: Vec::new(),
        }
    }

    /// Host and sandbox time so far.
    pub fn busy(&self) -> Duration {
        let theirs = self.handed_out.map(|at| at.elapsed()).unwrap_or_default();
        self.source.busy().saturating_sub(theirs)
    }

    fn count(&mut self, events: &[Event]) {
        let Some(reservation) = &mut self.reservation else { return };
        for event in events {
            self.answer_bytes += bytes(event);
            match event {
                Event::Usage(usage) => {
                    self.vendor_counted = true;
                    reservation.usage(usage);
                }
                Event::Started(started) => {
                    if let Some(id) = &started.id {
                        reservation.vendor_request_id(id);
                    }
                }
                _ => {}
            }
        }
        if events.iter().any(is_content) {
            reservation.first_token();
            self.has_begun();
        }
    }

    fn has_begun(&mut self) {
        let Some(leave) = &mut self.leave else { return };
        let after = self.began.elapsed();
        let took = if self.is_whole_chat { Took::Whole(after) } else { Took::First(after) };
        leave.began(took, Instant::now());
    }

    /// Writes the row, once.
    fn settle(&mut self, outcome: Outcome) {
        let busy = self.busy();
        let Some(mut reservation) = self.reservation.take() else { return };
        let failed = matches!(outcome, Outcome::Failed { .. });
        reservation.requests(self.source.requests());
        // What ends in order without content was served as well.
        if outcome == Outcome::Ok {
            self.has_begun();
        }
        let counted = self.vendor_counted && !self.source.usage_is_doubtful();
        // Who was silent and is cancelled may have worked on it, and bills it.
        let served = self.answer_bytes > 0 || self.silent.load(Ordering::Relaxed);
        if failed && !served && !counted {
            reservation.unserved();
        } else if !counted {
            reservation.estimate(TokenUsage {
                output: Some(tokens(self.answer_bytes)),
                ..estimate(self.prompt)
            });
        } else if outcome != Outcome::Ok {
            // Vendors count at the beginning and at the end, and the end is missing.
            reservation.output_at_least(tokens(self.answer_bytes));
        }
        self.spent = reservation.token_usage();
        // Whoever goes on with what is left of a broken answer may need its place.
        if let Some(mut leave) = self.leave.take() {
            leave.settle(reservation.tokens());
        }
        reservation.overhead(busy);
        reservation.settle(outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let silent = self.silent.load(Ordering::Relaxed) && self.reservation.is_some();
        match &self.leave {
            Some(leave) if silent => self.fail(&carry::silent(leave.provider())),
            _ => self.settle(Outcome::Cancelled),
        }
    }
}

/// Bytes of an event that the model wrote.
pub(crate) fn bytes(event: &Event) -> u64 {
    let written = match event {
        Event::Text(delta) | Event::Thinking(delta) | Event::Refusal(delta) => delta.text.len(),
        Event::ToolArguments(piece) => piece.fragment.len(),
        _ => 0,
    };
    written as u64
}

/// True for what a caller would miss: after it, the answer can't be begun anew elsewhere.
pub(crate) fn is_content(event: &Event) -> bool {
    !matches!(
        event,
        Event::Started(_)
            | Event::Usage(_)
            | Event::RateLimit(_)
            | Event::Warning(_)
            | Event::Attribute(_)
            | Event::Other(_)
    )
}

fn outcome(failure: &Failure) -> Outcome {
    Outcome::Failed { kind: failure.kind, fault: failure.fault }
}
