//! Sees everything that happens and knows the rules. It learns from outside (what is sent, what comes
//! back, what health tells its listener), never from the state of what it judges.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use keyward_contract::ProviderKind;

use super::{
    schedule::{Act, Plan, Request},
    vendor::{Mood, mood},
};
use crate::{
    FailureKind,
    health::{Change, RAMP_FULL, RAMP_STEP, Transition},
    ids::{ModelName, ProviderName},
    routing::{Decision, carry::IMPATIENCE, gate::GateLimits},
};

const SECOND: Duration = Duration::from_secs(1);

/// A storm of 429 is answered by no more than so many sends per request that could have gone there,
/// in percent, and [`STORM_TRIES`] besides: each cool-down that ends is tried once.
const STORM_PERCENT: usize = 120;
const STORM_TRIES: usize = 8;

/// Events that are shown of a schedule that breaks a rule.
const SHOWN: usize = 60;

/// What happened, when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub at: Duration,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Came {
        request: usize,
        candidates: usize,
    },
    Sent {
        request: usize,
        number: u32,
        provider: usize,
        model: ModelName,
    },
    Began {
        request: usize,
    },
    Failed {
        request: usize,
        kind: FailureKind,
    },
    BrokeOff {
        request: usize,
        kind: FailureKind,
    },
    /// Answered, or why not.
    Ended {
        request: usize,
        attempts: u32,
        failure: Option<FailureKind>,
    },
    Cancelled {
        request: usize,
    },
    Probed {
        provider: usize,
        failure: Option<FailureKind>,
    },
    Steered {
        provider: usize,
        act: Act,
    },
    Health {
        provider: usize,
        model: Option<ModelName>,
        change: String,
    },
}

pub struct Referee {
    start: Instant,
    /// Not, if health is switched off.
    watched: bool,
    pub trace: Vec<Event>,
    /// The first rule that was broken.
    pub broken: Option<String>,
    requests: Vec<Account>,
    providers: Vec<Watched>,
    breakers: HashMap<(usize, Option<ModelName>), Breaker>,
    sends: Vec<Send>,
    pub score: Score,
}

/// What is counted over all schedules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub requests: usize,
    pub answered: usize,
    pub failed: usize,
    /// Of those that failed: nobody was asked.
    pub unasked: usize,
    pub cancelled: usize,
    pub sends: usize,
    pub openings: usize,
    pub trials: usize,
    pub cool_downs: usize,
    /// Sent to a sick model in the first second after it was let through again.
    pub most_at_once: u32,
    pub longest_recovery: Duration,
}

impl Score {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.failed += other.failed;
        self.unasked += other.unasked;
        self.cancelled += other.cancelled;
        self.sends += other.sends;
        self.openings += other.openings;
        self.trials += other.trials;
        self.cool_downs += other.cool_downs;
        self.most_at_once = self.most_at_once.max(other.most_at_once);
        self.longest_recovery = self.longest_recovery.max(other.longest_recovery);
    }
}

/// A request.
struct Account {
    request: Request,
    sensitive: bool,
    candidates: Vec<(usize, ModelName)>,
    came: Option<Duration>,
    sends: u32,
    /// Of them, those of which something is left.
    open: u32,
    /// Who was asked for what.
    asked: BTreeSet<(usize, ModelName)>,
    /// How long it waited for turns.
    queued: Duration,
    /// So many of its attempts wait for one now.
    queues: u32,
    ended: Option<Duration>,
    cancelled: bool,
}

struct Watched {
    kind: ProviderKind,
    sound: bool,
    phases: Vec<super::vendor::Phase>,
    timeout: Duration,
    manual: Option<Act>,
    open: u32,
    limits: GateLimits,
    /// Those before, if they were changed at this moment.
    before: Option<(Duration, GateLimits)>,
    /// Those it began with, until they were changed.
    first: (GateLimits, Duration),
    /// The longest queue it ever might have.
    queue: u32,
}

#[derive(Default)]
struct Breaker {
    opened: Option<(Duration, FailureKind)>,
    /// The attempt that is in the probation.
    trial: Option<usize>,
    cool: Option<Duration>,
    ramp: Option<Ramp>,
    epoch: u32,
}

struct Ramp {
    since: Duration,
    answered: u32,
    under_way: u32,
}

/// An attempt: what is remembered until it gives its place back.
struct Send {
    at: Duration,
    request: usize,
    provider: usize,
    model: ModelName,
    /// The epochs of the ramps that count it: the provider's and the model's.
    ramps: [Option<u32>; 2],
    back: bool,
}

/// Where a provider of the simulation is in its list.
pub fn place(name: &ProviderName) -> usize {
    name.as_str()[1..].parse().expect("p and a number")
}

impl Referee {
    pub fn new(start: Instant, plans: &[Plan], watched: bool) -> Self {
        let providers = plans.iter().map(|plan| Watched {
            kind: plan.kind,
            sound: plan.sound,
            phases: plan.phases.clone(),
            timeout: plan.timeout,
            manual: None,
            open: 0,
            limits: plan.limits,
            before: None,
            first: (plan.limits, Duration::MAX),
            queue: plan.limits.queue,
        });
        Self {
            start,
            watched,
            trace: Vec::new(),
            broken: None,
            requests: Vec::new(),
            providers: providers.collect(),
            breakers: HashMap::new(),
            sends: Vec::new(),
            score: Score::default(),
        }
    }

    fn note(&mut self, now: Instant, what: What) -> Duration {
        let at = now - self.start;
        self.trace.push(Event { at, what });
        at
    }

    pub fn rule(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            let at = self.trace.last().map(|event| event.at).unwrap_or_default();
            self.broken = Some(format!("{} (at {at:?})", what()));
        }
    }

    /// The same for the same run.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        hasher.finish()
    }

    // ------------------------------------------------------------------ requests

    /// Its number.
    pub fn expect(&mut self, request: Request) -> usize {
        self.requests.push(Account {
            request,
            sensitive: false,
            candidates: Vec::new(),
            came: None,
            sends: 0,
            open: 0,
            asked: BTreeSet::new(),
            queued: Duration::ZERO,
            queues: 0,
            ended: None,
            cancelled: false,
        });
        self.score.requests += 1;
        self.requests.len() - 1
    }

    pub fn came(&mut self, request: usize, decision: &Decision, now: Instant) {
        let candidates: Vec<_> =
            decision.candidates.iter().map(|c| (place(&c.provider), c.model.clone())).collect();
        let at = self.note(now, What::Came { request, candidates: candidates.len() });
        let account = &mut self.requests[request];
        account.came = Some(at);
        account.sensitive =
            account.request.sensitive || account.request.model.as_str() == "private";
        let leaks = account.sensitive
            && candidates.iter().any(|(at, _)| self.providers[*at].kind != ProviderKind::Local);
        account.candidates = candidates;
        self.rule(!leaks, || format!("request {request} is sensitive and may go outside"));
    }

    /// It begins to wait for leave.
    pub fn waits(&mut self, request: usize) {
        self.requests[request].queues += 1;
    }

    /// It waited for leave.
    pub fn waited(&mut self, request: usize, from: Instant, now: Instant, allowed: Duration) {
        let waited = now - from;
        self.requests[request].queued += waited;
        self.requests[request].queues -= 1;
        self.rule(waited <= allowed, || {
            format!("request {request} waited {waited:?} for a turn and {allowed:?} is the longest")
        });
    }

    /// So many wait at a gate.
    pub fn queued(&mut self, provider: &ProviderName, waiting: u32) {
        let most = self.providers[place(provider)].queue;
        self.rule(waiting <= most, || format!("{waiting} wait at {provider}, {most} may"));
    }

    /// It pauses, before it asks again if nothing of it is on its way.
    pub fn pauses(&mut self, request: usize, time: Duration) {
        let account = &self.requests[request];
        if account.open > 0 {
            return;
        }
        let most = account.request.budget.longest_wait;
        self.rule(time <= most, || format!("request {request} pauses {time:?}, {most:?} is most"));
    }

    /// Its number among all that is sent.
    pub fn sent(
        &mut self,
        request: usize,
        number: u32,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> usize {
        let (name, provider) = (provider, place(provider));
        let what = What::Sent { request, number, provider, model: model.clone() };
        let at = self.note(now, what);
        self.score.sends += 1;
        let send = self.sends.len();

        let account = &mut self.requests[request];
        account.sends += 1;
        let beside = account.open;
        account.open += 1;
        let (sends, budget) = (account.sends, account.request.budget.clone());
        let came = account.came.unwrap_or_default();
        let streamed = account.request.streamed;
        let sound = self.providers[provider].sound;
        let asked = |(at, other): &(usize, ModelName)| *at == provider && other == model;
        let late = account.candidates.iter().position(asked).filter(|_| sound);
        // One that waits for its turn takes its part of the budget.
        let late = late.and_then(|before| u32::try_from(before).ok());
        let late = late.filter(|before| *before < account.request.budget.attempts);
        let (queued, queues) = (account.queued, account.queues);
        let first = account.asked.insert((provider, model.clone()));
        let (sensitive, ended) = (account.sensitive, account.ended.is_some() || account.cancelled);
        self.rule(!ended, || format!("request {request} is over and still sent to {name}"));
        self.rule(sends <= budget.attempts, || {
            format!("request {request} makes {sends} attempts, its budget is {}", budget.attempts)
        });
        self.rule(sends == number, || format!("request {request}'s attempt {sends} is {number}"));
        let hedged = beside == 1 && budget.hedge.is_some_and(|after| at >= came + after);
        let kept_waiting = streamed && at >= came + budget.patience;
        self.rule(beside == 0 || hedged || kept_waiting, || {
            format!("request {request} has {beside} attempts open after {:?}", at - came)
        });
        let late = late.is_some_and(|before| {
            let most = queued + budget.patience + IMPATIENCE * before;
            first && streamed && queues == 0 && at > came + most
        });
        self.rule(!late, || {
            format!("request {request} came to {name}, which never fails, after {:?}", at - came)
        });
        self.rule(at <= came + budget.time, || {
            format!("request {request} begins an attempt {:?} after it came", at - came)
        });

        let watched = &mut self.providers[provider];
        watched.open += 1;
        let before = watched.before.filter(|(changed, _)| *changed == at);
        let limit = before.map_or(0, |(_, limits)| limits.concurrency);
        let limit = limit.max(watched.limits.concurrency);
        let (open, outside) = (watched.open, watched.kind != ProviderKind::Local);
        let (disabled, forced) =
            (watched.manual == Some(Act::Disable), watched.manual == Some(Act::Force));
        self.rule(!(sensitive && outside), || {
            format!("sensitive request {request} sent to {name}")
        });
        self.rule(open <= limit, || format!("{open} are open at {name}, which may have {limit}"));
        self.rule(!disabled, || format!("request {request} sent to {name}, which is disabled"));

        let mut ramps = [None, None];
        for (slot, model) in [None, Some(model.clone())].into_iter().enumerate() {
            if !forced {
                ramps[slot] = self.pass(send, (provider, model), at);
            }
        }
        let model = model.clone();
        self.sends.push(Send { at, request, provider, model, ramps, back: false });
        send
    }

    /// What one breaker says to an attempt; the epoch of the ramp that counts it.
    fn pass(&mut self, send: usize, key: (usize, Option<ModelName>), at: Duration) -> Option<u32> {
        let name = format!("p{} {:?}", key.0, key.1.as_ref().map(ModelName::as_str));
        let breaker = self.breakers.entry(key).or_default();
        let early = breaker.opened.is_some_and(|(until, _)| at < until);
        let cooling = breaker.cool.is_some_and(|until| at < until);
        let mut second = false;
        if breaker.opened.is_some() && !early {
            second = breaker.trial.replace(send).is_some();
            self.score.trials += 1;
        }
        let epoch = breaker.epoch;
        let mut herd = None;
        let ramp = breaker.ramp.as_mut().filter(|_| breaker.opened.is_none());
        let counted = ramp.map(|ramp| {
            ramp.under_way += 1;
            let allowed = 1 + ramp.answered;
            if at < ramp.since + SECOND {
                self.score.most_at_once = self.score.most_at_once.max(ramp.under_way);
            }
            if at < ramp.since + RAMP_STEP && allowed < RAMP_FULL && ramp.under_way > allowed {
                herd = Some((ramp.under_way, allowed));
            }
            epoch
        });
        self.rule(!early, || format!("sent to {name}, whose breaker is open"));
        self.rule(!cooling, || format!("sent to {name}, which is cooling down"));
        self.rule(!second, || format!("two are in the probation of {name}"));
        self.rule(herd.is_none(), || format!("a herd runs at {name}: {herd:?}"));
        counted
    }

    /// Its first content came.
    pub fn began(&mut self, send: usize, now: Instant) {
        let request = self.sends[send].request;
        self.note(now, What::Began { request });
        self.give_back(send, true);
    }

    /// `broke_off`: after it had begun.
    pub fn failed(&mut self, send: usize, kind: FailureKind, broke_off: bool, now: Instant) {
        let request = self.sends[send].request;
        let what = if broke_off {
            What::BrokeOff { request, kind }
        } else {
            What::Failed { request, kind }
        };
        self.note(now, what);
        self.give_back(send, false);
    }

    /// The place it holds in a probation or a ramp.
    fn give_back(&mut self, send: usize, answered: bool) {
        let Send { provider, ref model, ramps, back, .. } = self.sends[send];
        if back {
            return;
        }
        let keys = [(provider, None), (provider, Some(model.clone()))];
        self.sends[send].back = true;
        for (key, counted) in keys.into_iter().zip(ramps) {
            let Some(breaker) = self.breakers.get_mut(&key) else { continue };
            if breaker.trial == Some(send) {
                breaker.trial = None;
            }
            if let Some(ramp) = &mut breaker.ramp {
                ramp.answered += u32::from(answered);
                if counted == Some(breaker.epoch) {
                    ramp.under_way -= 1;
                }
            }
        }
    }

    /// It holds nothing of the provider any more, however it ended.
    pub fn closed(&mut self, send: usize) {
        self.give_back(send, false);
        let Send { provider, request, .. } = self.sends[send];
        self.providers[provider].open -= 1;
        self.requests[request].open -= 1;
    }

    pub fn ended(
        &mut self,
        request: usize,
        attempts: u32,
        failure: Option<FailureKind>,
        now: Instant,
    ) {
        let at = self.note(now, What::Ended { request, attempts, failure });
        let account = &mut self.requests[request];
        let twice = account.ended.replace(at).is_some() || account.cancelled;
        let sends = account.sends;
        let Account { request: Request { budget, .. }, candidates, came, .. } = &*account;
        let took = at - came.unwrap_or_default();
        let longest = self.providers.iter().map(|watched| watched.timeout).max();
        let most = budget.time + longest.unwrap_or_default();
        // A candidate that never fails answers, if anybody got as far as asking it.
        let sound = candidates.iter().any(|(at, _)| self.providers[*at].sound);
        let enough = budget.attempts as usize >= candidates.len() && took < budget.time;
        let lost = failure.is_some_and(FailureKind::may_go_elsewhere) && sound && enough;
        match failure {
            None => self.score.answered += 1,
            Some(_) => {
                self.score.failed += 1;
                self.score.unasked += usize::from(attempts == 0);
            }
        }
        self.rule(!twice, || format!("request {request} ends twice"));
        self.rule(took <= most, || format!("request {request} took {took:?}, {most:?} is most"));
        self.rule(attempts == sends, || {
            format!("request {request} was sent {sends} times and {attempts} are told")
        });
        self.rule(!lost, || {
            format!("request {request} failed, and a provider was sound all the time")
        });
    }

    pub fn cancelled(&mut self, request: usize, now: Instant) {
        self.note(now, What::Cancelled { request });
        self.requests[request].cancelled = true;
        self.score.cancelled += 1;
    }

    // ------------------------------------------------------------------ providers

    pub fn health(&mut self, transition: &Transition) {
        let Transition { at, provider, model, change } = transition;
        let key = (place(provider), model.clone());
        let since = |time: &Instant| *time - self.start;
        let told = match change {
            Change::Opened { symptom, until } => {
                format!("opened by {symptom} until {:?}", since(until))
            }
            Change::CooledDown { until } => format!("cooled down until {:?}", since(until)),
            other => format!("{other:?}"),
        };
        let until = match change {
            Change::Opened { until, .. } | Change::CooledDown { until } => since(until),
            _ => Duration::ZERO,
        };
        let what = What::Health { provider: key.0, model: key.1.clone(), change: told };
        let at = self.note(*at, what);
        let by_hand =
            matches!(change, Change::Disabled { .. } | Change::Forced { .. } | Change::Released);
        self.rule(self.watched || by_hand, || format!("{change:?}, though nobody watches"));
        let breaker = self.breakers.entry(key).or_default();
        let ramp = |since| Some(Ramp { since, answered: 0, under_way: 0 });
        match change {
            Change::Opened { symptom, .. } => {
                (breaker.opened, breaker.trial, breaker.ramp) =
                    (Some((until, symptom.kind)), None, None);
                breaker.epoch += 1;
                self.score.openings += 1;
            }
            Change::Closed => {
                (breaker.opened, breaker.trial, breaker.ramp) = (None, None, ramp(at));
                breaker.epoch += 1;
            }
            Change::CooledDown { .. } => {
                breaker.cool = Some(until);
                if breaker.opened.is_none() {
                    breaker.ramp = ramp(until);
                    breaker.epoch += 1;
                }
                self.score.cool_downs += 1;
            }
            Change::Probation
            | Change::Disabled { .. }
            | Change::Forced { .. }
            | Change::Released => {}
        }
    }

    /// Before health hears of it.
    pub fn probed(&mut self, provider: usize, failure: Option<FailureKind>, now: Instant) {
        let at = self.note(now, What::Probed { provider, failure });
        let breaker = self.breakers.entry((provider, None)).or_default();
        // Probation comes forward, but for an empty account.
        if let Some((until, kind)) = &mut breaker.opened
            && failure.is_none()
            && *kind != FailureKind::QuotaExhausted
        {
            *until = at.min(*until);
        }
    }

    /// Before it is done.
    pub fn steered(&mut self, provider: usize, act: Act, now: Instant) {
        let at = self.note(now, What::Steered { provider, act });
        let watched = &mut self.providers[provider];
        match act {
            Act::Disable | Act::Force => watched.manual = Some(act),
            Act::Enable => watched.manual = None,
            Act::Limit(limits) => {
                watched.before = Some((at, watched.limits));
                watched.limits = limits.into();
                watched.first.1 = watched.first.1.min(at);
                watched.queue = watched.queue.max(limits.queue);
            }
            Act::Rekey => {
                let own = self.breakers.iter_mut().filter(|((at, _), _)| *at == provider);
                for (_, breaker) in own {
                    (breaker.cool, breaker.ramp) = (None, None);
                    if let Some((until, _)) = &mut breaker.opened {
                        *until = at.min(*until);
                    }
                }
            }
        }
    }

    // ------------------------------------------------------------------ the end

    /// What can only be told of the whole.
    pub fn whole(&mut self) {
        let lost: Vec<usize> = (0..self.requests.len())
            .filter(|&at| self.requests[at].ended.is_none() && !self.requests[at].cancelled)
            .collect();
        self.rule(lost.is_empty(), || format!("requests {lost:?} were lost"));
        for provider in 0..self.providers.len() {
            self.rate(provider);
            self.storms(provider);
        }
        let open: Vec<u32> = self.providers.iter().map(|watched| watched.open).collect();
        self.rule(open.iter().all(|&open| open == 0), || format!("attempts are left: {open:?}"));
    }

    /// In no stretch of time more begin than a minute's worth and what comes in within it.
    fn rate(&mut self, provider: usize) {
        let watched = &self.providers[provider];
        let (first, until) = watched.first;
        let Some(limit) = first.requests_per_minute else { return };
        let own = self.sends.iter().filter(|send| send.provider == provider && send.at < until);
        let mut spare = f64::from(limit);
        let (mut last, mut worst) = (Duration::ZERO, f64::MAX);
        for send in own {
            let refill = (send.at - last).as_secs_f64() * f64::from(limit) / 60.0;
            spare = (spare + refill).min(f64::from(limit)) - 1.0;
            (last, worst) = (send.at, worst.min(spare));
        }
        self.rule(worst > -1e-3, || format!("p{provider} gets more than {limit} a minute"));
    }

    /// Under a storm of 429 there are hardly more sends than requests.
    fn storms(&mut self, provider: usize) {
        let watched = &self.providers[provider];
        let mut began = Duration::ZERO;
        let mut worst = None;
        for phase in &watched.phases {
            let storm = began..phase.until;
            began = phase.until;
            if !matches!(phase.mood, Mood::Limited(_)) {
                continue;
            }
            let mut models: HashMap<&ModelName, (usize, usize)> = HashMap::new();
            for account in &self.requests {
                let Some(came) = account.came else { continue };
                if came >= storm.end || account.ended.is_some_and(|at| at < storm.start) {
                    continue;
                }
                for (_, model) in account.candidates.iter().filter(|(at, _)| *at == provider) {
                    models.entry(model).or_default().0 += 1;
                }
            }
            for send in &self.sends {
                if send.provider == provider && storm.contains(&send.at) {
                    models.entry(&send.model).or_default().1 += 1;
                }
            }
            let most = |offered: usize| offered * STORM_PERCENT / 100 + STORM_TRIES;
            let over = models.values().find(|(offered, sent)| *sent > most(*offered));
            worst = worst.or(over.copied());
        }
        let forced = self.trace.iter().any(|event| {
            matches!(&event.what, What::Steered { provider: at, act: Act::Force | Act::Rekey } if *at == provider)
        });
        self.rule(worst.is_none() || forced || !self.watched, || {
            format!("a storm at p{provider} is fed (offered, sent): {worst:?}")
        });
    }

    /// To the first provider, within a second after its first phase.
    pub fn sent_after_the_fault(&self) -> usize {
        let back = self.providers[0].phases[0].until;
        let first = |send: &&Send| (back..back + SECOND).contains(&send.at);
        self.sends.iter().filter(first).count()
    }

    /// Requests that came, and all that was sent for them, while anything went wrong.
    pub fn offered_and_sent(&self) -> (usize, usize) {
        let end = self.providers[0].phases[0].until;
        let came = self.requests.iter().filter(|account| account.came.is_some_and(|at| at < end));
        (came.count(), self.sends.iter().filter(|send| send.at < end).count())
    }

    /// What happened last, for people.
    pub fn latest(&self) -> String {
        let shown = self.trace.len().saturating_sub(SHOWN);
        let line = |event: &Event| format!("{:>14?} {:?}", event.at, event.what);
        self.trace[shown..].iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub fn mood(&self, provider: usize, now: Instant) -> &Mood {
        mood(&self.providers[provider].phases, now - self.start)
    }
}
