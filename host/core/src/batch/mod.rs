//! Embeddings requests that come together, sent as one; and long ones, cut to what the vendor takes.
//!
//! Off unless a provider has `batch:`. With `inputs:` a request with more inputs than that becomes
//! several vendor requests, one after the other ([`Pieces`]). With `wait:` the first of several requests
//! waits so long for others, and all go as one: those of one caller and one class of privacy, that ask the
//! same model for the same in everything but the inputs. Each gets its own vectors back, and a row with
//! its share of what the vendor counted ([`share`]).
//!
//! What goes together asks once for leave: it is one request at the gate and one for health. If the vendor
//! refuses it as a mistake in the request, each is asked again alone, because the mistake may be another's.
//! Any other failure is everyone's, and each goes on to its next candidate, alone. A caller that leaves is
//! left out if nothing was sent yet; else its row has its share. When all have left, the vendor's request
//! is ended.
//!
//! Bounds: [`MAX_PIECES`] vendor requests for one; as many inputs together as configured, and no more
//! than [`MAX_TOKENS`]. What waits is bounded as requests are, a batch being theirs; it waits at
//! most [`MAX_WAIT`].
//!
//! Costs: the wait, for requests that come alone.

mod pieces;
mod share;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

pub(crate) use self::pieces::Pieces;
use crate::{
    Failure, FailureKind, Fault,
    cache::key::{self, Asker, Key},
    catalog::Provider,
    config::Batching,
    contract::{Embedding, Event, Usage},
    exchange::Exchange,
    health::{Health, Took},
    ids::RequestId,
    metering::{Estimate, Meter, Outcome, Reservation, TokenUsage, Tokens},
    operation::{Embed, Operation},
    routing::{
        Candidate,
        carry::Stop,
        keyring::KeyAt,
        leave::{Asking, Leave},
    },
};

/// Inputs of one vendor request unless configured: what those vendors take that take least.
const DEFAULT_INPUTS: u32 = 96;

/// Tokens of one vendor request, by the host's own count. OpenAI takes 300,000.
const MAX_TOKENS: u64 = 200_000;

/// Vendor requests that one request is cut into.
pub(crate) const MAX_PIECES: usize = 256;

/// The longest wait that can be configured: every request alone is late by it.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(1);

/// Inputs of one vendor request.
fn most_inputs(batching: &Batching) -> usize {
    batching.inputs.unwrap_or(DEFAULT_INPUTS) as usize
}

/// The batches of a gateway that wait for more.
#[derive(Default)]
pub(crate) struct Batches {
    open: Arc<Mutex<HashMap<Key, Open>>>,
}

struct Open {
    members: Members,
    full: Arc<Notify>,
    inputs: usize,
    tokens: u64,
}

type Members = Arc<Mutex<Vec<Member>>>;

/// A request in a batch.
struct Member {
    embed: Arc<Embed>,
    estimate: Estimate,
    /// The host's own count of its inputs.
    tokens: Tokens,
    /// So many of the provider's keys failed it before.
    keys: usize,
    answer: oneshot::Sender<Joined>,
}

/// An attempt at an embeddings request that may go together with others.
pub(crate) struct Request<'a> {
    pub provider: &'a Arc<Provider>,
    pub candidate: &'a Candidate,
    pub operation: &'a Operation,
    pub estimate: &'a Estimate,
    pub sensitive: bool,
    /// The host's own count of its inputs.
    pub tokens: Tokens,
    /// So many of the provider's keys failed it before.
    pub keys: usize,
    /// No turn is waited for longer than until here.
    pub deadline: Instant,
    pub health: &'a Health,
    pub meter: &'a Meter,
}

/// What became of it.
pub(crate) enum Joined {
    /// Its events. The row is written.
    Answered(Vec<Event>),
    Stopped(Stop),
    /// It is to be carried out alone. Nothing was billed, and nothing is recorded yet.
    Alone,
}

impl Batches {
    /// Sends it with others, if it may be. Dropping this leaves the batch.
    pub async fn join(&self, request: Request<'_>) -> Joined {
        let Request { provider, operation, estimate, .. } = &request;
        let batching = provider.batch.as_ref();
        let (Some(batching), Operation::Embed(embed)) = (batching, operation) else {
            return Joined::Alone;
        };
        let Some(wait) = batching.wait else { return Joined::Alone };
        let most = most_inputs(batching);
        // After a failure each goes on by itself: what failed together may fail together again.
        if estimate.attempt > 1 || embed.inputs.len() >= most || request.tokens.0 >= MAX_TOKENS {
            return Joined::Alone;
        }
        let (caller, sensitive) = (&estimate.caller, request.sensitive);
        let asker = Asker { provider: provider.binding, caller, sensitive };
        let Some(key) = key::of_settings(&asker, embed) else { return Joined::Alone };
        let (answer, answered) = oneshot::channel();
        let member = Member {
            embed: Arc::clone(embed),
            estimate: Estimate::clone(estimate),
            tokens: request.tokens,
            keys: request.keys,
            answer,
        };
        if let Some(open) = self.enter(key, member, most) {
            tokio::spawn(Batch::new(&request).carry_out(key, wait, open, Arc::clone(&self.open)));
        }
        answered.await.unwrap_or_else(|_| {
            let message = "a batch of embeddings ended without saying how";
            Joined::Stopped(Stop::Failed(Failure::new(FailureKind::Other, Fault::Host, message)))
        })
    }

    /// Puts a member into the batch that waits, or begins one.
    fn enter(&self, key: Key, member: Member, most: usize) -> Option<(Members, Arc<Notify>)> {
        let (inputs, tokens) = (member.embed.inputs.len(), member.tokens.0);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = all.get_mut(&key) {
            let fits = open.inputs + inputs <= most && open.tokens + tokens <= MAX_TOKENS;
            if fits {
                open.members.lock().unwrap_or_else(PoisonError::into_inner).push(member);
                open.inputs += inputs;
                open.tokens += tokens;
                if open.inputs == most {
                    open.full.notify_one();
                    all.remove(&key);
                }
                return None;
            }
            open.full.notify_one();
        }
        let (members, full) = (Arc::new(Mutex::new(vec![member])), Arc::new(Notify::new()));
        let open = Open { members: Arc::clone(&members), full: Arc::clone(&full), inputs, tokens };
        all.insert(key, open);
        Some((members, full))
    }
}

/// A batch on its way. Everything but its members.
struct Batch {
    provider: Arc<Provider>,
    candidate: Candidate,
    caller: Arc<str>,
    sensitive: bool,
    deadline: Instant,
    health: Health,
    meter: Meter,
}

/// How a batch ended.
enum Ended {
    Answered,
    /// And what that means for each.
    Failed(Box<Failure>, Box<Stop>),
    /// All had left.
    Left,
}

/// What the vendor said to a batch.
#[derive(Default)]
struct Answer {
    /// By input; None for what hasn't come.
    vectors: Vec<Option<Embedding>>,
    /// What isn't a vector, and is everyone's.
    common: Vec<Event>,
    usage: Option<Usage>,
    vendor_request_id: Option<String>,
}

impl Batch {
    /// Of the request that came first. Others follow within [`MAX_WAIT`], so its deadline is theirs.
    fn new(first: &Request<'_>) -> Self {
        Self {
            provider: Arc::clone(first.provider),
            candidate: first.candidate.clone(),
            caller: Arc::clone(&first.estimate.caller),
            sensitive: first.sensitive,
            deadline: first.deadline,
            health: first.health.clone(),
            meter: first.meter.clone(),
        }
    }

    async fn carry_out(
        self,
        key: Key,
        wait: Duration,
        (members, full): (Members, Arc<Notify>),
        open: Arc<Mutex<HashMap<Key, Open>>>,
    ) {
        let _ = tokio::time::timeout(wait, full.notified()).await;
        {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            // When it was full, another took its place.
            if open.get(&key).is_some_and(|open| Arc::ptr_eq(&open.members, &members)) {
                open.remove(&key);
            }
        }
        let mut members =
            std::mem::take(&mut *members.lock().unwrap_or_else(PoisonError::into_inner));
        let tokens = members.iter().map(|member| member.tokens).sum();
        let leave = tokio::select! {
            leave = self.leave(tokens) => leave,
            () = all_left(&mut members) => return,
        };
        match leave {
            Ok(leave) => self.send(leave, members).await,
            Err(stop) => {
                for member in members {
                    let _ = member.answer.send(Joined::Stopped(stop.clone()));
                }
            }
        }
    }

    async fn leave(&self, tokens: Tokens) -> Result<Leave, Stop> {
        let asking = Asking {
            candidate: &self.candidate,
            kind: self.provider.kind,
            sensitive: self.sensitive,
            caller: &self.caller,
            tokens,
            deadline: self.deadline,
        };
        self.provider.leave(&asking, &self.health).await
    }

    async fn send(&self, mut leave: Leave, members: Vec<Member>) {
        let mut reserved = Vec::with_capacity(members.len());
        for member in members.into_iter().filter(|member| !member.answer.is_closed()) {
            match self.meter.reserve(&member.estimate) {
                Ok(reservation) => reserved.push((member, reservation)),
                Err(failure) => {
                    let _ = member.answer.send(Joined::Stopped(Stop::Failed(failure)));
                }
            }
        }
        let (mut members, reservations): (Vec<Member>, Vec<Reservation>) =
            reserved.into_iter().unzip();
        if members.is_empty() {
            return;
        }
        let inputs = members.iter().flat_map(|member| member.embed.inputs.clone()).collect();
        let operation = Embed { inputs, ..Embed::clone(&members[0].embed) };
        let mut answer = Answer::default();
        answer.vectors.resize_with(operation.inputs.len(), || None);
        let operation = Operation::Embed(Arc::new(operation));
        let (began, mut busy) = (Instant::now(), Duration::ZERO);
        let ended = tokio::select! {
            ended = self.exchange(&operation, leave.key(), &mut answer, &mut busy) => Some(ended),
            () = all_left(&mut members) => None,
        };
        let ended = match ended {
            Some(Ok(())) => {
                leave.began(Took::First(began.elapsed()), Instant::now());
                Ended::Answered
            }
            Some(Err(failure)) => {
                leave.failed(&failure, Instant::now());
                let model = &self.candidate.model;
                let keys = members.iter().map(|member| member.keys).max().unwrap_or_default();
                let stop = self.provider.stop(failure.clone(), model, &self.health, keys);
                Ended::Failed(Box::new(failure), Box::new(stop))
            }
            None => Ended::Left,
        };
        let tokens = settle(members, reservations, &ended, answer, busy);
        leave.settle(tokens);
    }

    async fn exchange(
        &self,
        operation: &Operation,
        key: KeyAt,
        answer: &mut Answer,
        busy: &mut Duration,
    ) -> Result<(), Failure> {
        // None of the members': each may be asked again under its own.
        let id = RequestId::random()?;
        let provider = Arc::clone(&self.provider);
        let mut exchange = Exchange::open_with(provider, operation, id, key, None).await?;
        while let Some(events) = exchange.next().await {
            *busy = exchange.busy();
            for event in events? {
                answer.add(event)?;
            }
        }
        *busy = exchange.busy();
        Ok(())
    }
}

impl Answer {
    fn add(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Embedding(embedding) => match self.vectors.get_mut(embedding.index as usize) {
                Some(place @ None) => *place = Some(embedding),
                _ => {
                    let index = embedding.index;
                    let why = format!("vector {index} was given twice or belongs to no input");
                    return Err(Failure::malformed(why));
                }
            },
            Event::Usage(usage) => share::replace(self.usage.get_or_insert_default(), usage),
            Event::Started(started) => {
                self.vendor_request_id =
                    started.id.clone().or_else(|| self.vendor_request_id.take());
                self.common.push(Event::Started(started));
            }
            event => self.common.push(event),
        }
        Ok(())
    }
}

/// Writes each member's row and hands it its part: the tokens of all.
fn settle(
    members: Vec<Member>,
    reservations: Vec<Reservation>,
    ended: &Ended,
    mut answer: Answer,
    busy: Duration,
) -> Tokens {
    let count = members.len();
    let mistake =
        |failure: &Failure| failure.fault == Fault::Caller || !failure.kind.may_go_elsewhere();
    let again = count > 1
        && answer.usage.is_none()
        && matches!(ended, Ended::Failed(failure, _) if mistake(failure));
    let weights: Vec<u64> = members.iter().map(|member| member.tokens.0).collect();
    let shares = answer.usage.as_ref().map(|usage| share::shares(usage, &weights));
    let mut vectors = std::mem::take(&mut answer.vectors).into_iter();
    let mut tokens = Tokens(0);
    let each = members.into_iter().zip(reservations).enumerate();
    for (at, (member, mut reservation)) in each {
        if again {
            reservation.forget();
            let _ = member.answer.send(Joined::Alone);
            continue;
        }
        let share = shares.as_ref().and_then(|shares| shares.get(at));
        let prompt = TokenUsage { input: Some(member.tokens), ..TokenUsage::default() };
        match (share, ended) {
            (Some(share), _) => reservation.usage(share),
            // The vendor served nothing.
            (None, Ended::Failed(..)) => reservation.unserved(),
            (None, _) => {
                reservation.estimate(TokenUsage { output: Some(Tokens(0)), ..prompt });
            }
        }
        // The vendor bills one request for all.
        if at + 1 < count {
            reservation.requests(0);
        }
        if let Some(id) = &answer.vendor_request_id {
            reservation.vendor_request_id(id);
        }
        reservation.overhead(busy / u32::try_from(count).unwrap_or(u32::MAX));
        tokens = tokens + reservation.tokens();
        let mine = vectors.by_ref().take(member.embed.inputs.len());
        match ended {
            Ended::Answered => {
                reservation.first_token();
                let mut events = answer.common.clone();
                events.extend(mine.enumerate().filter_map(|(index, embedding)| {
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    embedding.map(|embedding| Event::Embedding(Embedding { index, ..embedding }))
                }));
                events.extend(share.cloned().map(Event::Usage));
                let taken = member.answer.send(Joined::Answered(events)).is_ok();
                reservation.settle(if taken { Outcome::Ok } else { Outcome::Cancelled });
            }
            Ended::Failed(failure, stop) => {
                let Failure { kind, fault, .. } = **failure;
                reservation.settle(Outcome::Failed { kind, fault });
                let _ = member.answer.send(Joined::Stopped(Stop::clone(stop)));
            }
            Ended::Left => reservation.settle(Outcome::Cancelled),
        }
    }
    tokens
}

/// Until nobody waits for an answer any more.
async fn all_left(members: &mut [Member]) {
    for member in members {
        member.answer.closed().await;
    }
}
