//! Sees everything that happens and knows the rules. It learns from outside (what is sent, what comes
//! back, what health tells its listener), never from the state of what it judges.

mod keys;
mod trace;
mod whole;

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use keyward_contract::ProviderKind;

pub use self::{keys::Attempt, trace::Score};
use self::{
    keys::Keys,
    trace::{Event, What},
};
use super::{
    schedule::{Act, Plan, Request},
    vendor::{KeyMood, LONGEST_ANSWER, Mood, Phase, phase},
};
use crate::{
    Failure, FailureKind,
    health::{Change, RAMP_FULL, RAMP_STEP, Transition},
    ids::{ModelName, ProviderName},
    routing::{
        Candidate, Decision,
        carry::{GAP, IMPATIENCE},
        gate::GateLimits,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Events that are shown of a schedule that breaks a rule.
const SHOWN: usize = 60;

pub struct Referee {
    start: Instant,
    /// Not, if health is switched off.
    watched: bool,
    pub trace: Vec<Event>,
    /// The first rule that was broken.
    pub broken: Option<String>,
    /// So much had happened by then.
    broken_at: usize,
    requests: Vec<Account>,
    providers: Vec<Watched>,
    breakers: HashMap<(usize, Option<ModelName>), Breaker>,
    sends: Vec<Send>,
    pub keys: Keys,
    pub score: Score,
}

/// A request.
struct Account {
    request: Request,
    sensitive: bool,
    candidates: Vec<(usize, ModelName)>,
    came: Option<Duration>,
    /// When it was decided on last: as it came, or as its answer broke.
    since: Duration,
    /// Content came, of which its caller saw nothing then.
    heard: Duration,
    /// Since its answer broke, if it did; those that were made before.
    before: Option<u32>,
    sends: u32,
    /// Of them, those of which something is left.
    open: Vec<usize>,
    /// When the last of them was over.
    closed: Duration,
    /// Who was asked for what.
    asked: BTreeSet<(usize, ModelName)>,
    /// How long it waited for turns, and how many of its attempts wait for one now.
    queued: Duration,
    queues: u32,
    state: State,
    ended: Option<Duration>,
    cancelled: bool,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its caller waits for content.
    Asking,
    /// Its caller has the first content of this attempt.
    Answered,
    /// What its caller had of it broke off.
    Broken,
    Over,
}

struct Watched {
    kind: ProviderKind,
    sound: bool,
    phases: Vec<Phase>,
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
    /// Whether it ever said anything.
    known: bool,
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
    attempt: Attempt,
    /// When content came last.
    heard: Option<Duration>,
    /// The epochs of the ramps that count it: the provider's and the model's.
    ramps: [Option<u32>; 2],
    back: bool,
}

/// Where a provider of the simulation is in its list.
pub fn place(name: &ProviderName) -> usize {
    name.as_str()[1..].parse().expect("p and a number")
}

impl Referee {
    pub fn new(
        start: Instant,
        plans: &[Plan],
        accounts: Vec<Vec<Phase<KeyMood>>>,
        watched: bool,
    ) -> Self {
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
            broken_at: 0,
            requests: Vec::new(),
            providers: providers.collect(),
            breakers: HashMap::new(),
            sends: Vec::new(),
            keys: Keys::new(plans, accounts, watched),
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
            self.broken_at = self.trace.len();
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
            since: Duration::ZERO,
            heard: Duration::ZERO,
            before: None,
            sends: 0,
            open: Vec::new(),
            closed: Duration::ZERO,
            asked: BTreeSet::new(),
            queued: Duration::ZERO,
            queues: 0,
            state: State::Asking,
            ended: None,
            cancelled: false,
        });
        self.score.requests += 1;
        self.requests.len() - 1
    }

    pub fn came(&mut self, request: usize, decision: &Decision, now: Instant) {
        let candidates = decision.candidates.len();
        let at = self.note(now, What::Came { request, candidates });
        let account = &mut self.requests[request];
        account.came = Some(at);
        account.sensitive =
            account.request.sensitive || account.request.model.as_str() == "private";
        self.decided(request, decision, at);
    }

    /// Its answer broke, and what is left of it is asked for.
    pub fn goes_on(
        &mut self,
        request: usize,
        decision: &Decision,
        broke: &Candidate,
        now: Instant,
    ) {
        let candidates = decision.candidates.len();
        let at = self.note(now, What::GoesOn { request, candidates });
        self.score.gone_on += 1;
        let account = &mut self.requests[request];
        let (broken, open) = (account.state == State::Broken, account.open.len());
        account.state = State::Asking;
        account.before = Some(account.sends);
        account.asked.clear();
        let same = |it: &Candidate| it.provider == broke.provider && it.model == broke.model;
        let again = decision.candidates.iter().position(same);
        let last = again.is_none_or(|again| again + 1 == candidates);
        self.rule(broken, || format!("request {request} goes on, and its answer didn't break"));
        self.rule(last, || format!("request {request} goes on where it broke, before others"));
        self.rule(open == 0, || format!("request {request} goes on beside {open} attempts"));
        self.decided(request, decision, at);
    }

    fn decided(&mut self, request: usize, decision: &Decision, at: Duration) {
        let candidates: Vec<_> =
            decision.candidates.iter().map(|c| (place(&c.provider), c.model.clone())).collect();
        let account = &mut self.requests[request];
        (account.since, account.heard) = (at, at);
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
        if !account.open.is_empty() {
            return;
        }
        let most = account.request.budget.longest_wait;
        self.rule(time <= most, || format!("request {request} pauses {time:?}, {most:?} is most"));
    }

    /// One more is about to be asked, and no other key of the one before.
    pub fn asks(&mut self, request: usize, provider: &ProviderName, now: Instant) {
        let at = now - self.start;
        let account = &self.requests[request];
        let budget = &account.request.budget;
        let spoke = account.open.iter().filter_map(|&open| self.sends[open].heard).max();
        let speaks = spoke.is_some_and(|spoke| at < spoke + budget.patience * GAP);
        let hedges = budget.hedge.is_some() && account.before.is_none();
        self.rule(!speaks || hedges, || {
            format!("request {request} asks {provider} beside one that speaks")
        });
    }

    /// It isn't asked, because of what is known of it.
    pub fn refused(&mut self, request: usize, provider: usize, model: &ModelName, now: Instant) {
        let at = self.note(now, What::Refused { request, provider, model: model.clone() });
        let known = |model| self.breakers.get(&(provider, model)).is_some_and(|it| it.known);
        let known = known(None) || known(Some(model.clone()));
        let rests = self.keys.may_rest(provider, model, at);
        self.rule(known || rests, || {
            format!("p{provider} isn't asked for {model}, and nothing is known against it")
        });
    }

    /// Its number among all that is sent. `keys`: so many failed in this round.
    pub fn sent(&mut self, attempt: Attempt, number: u32, keys: usize, now: Instant) -> usize {
        let Attempt { request, provider, ref model, key } = attempt;
        let name = format!("p{provider}");
        let what = What::Sent { request, number, provider, model: model.clone(), key };
        let at = self.note(now, what);
        self.score.sends += 1;
        self.score.other_keys += usize::from(keys > 0);
        let send = self.sends.len();
        let wrong = self.keys.sent(&attempt, keys, at);
        self.rule(wrong.is_none(), || {
            format!("request {request} is sent to {name} with {key}, {}", wrong.unwrap_or_default())
        });

        let account = &mut self.requests[request];
        account.sends += 1;
        let beside = account.open.len();
        account.open.push(send);
        let (sends, budget) = (account.sends, account.request.budget.clone());
        let (since, heard, before) = (account.since, account.heard, account.before.unwrap_or(0));
        let hedge = budget.hedge.filter(|_| account.before.is_none());
        let watched = account.request.is_watched();
        let sound = self.providers[provider].sound;
        // One that waits for its turn takes its part of the budget, and so does every key.
        let asked = |(at, other): &(usize, ModelName)| *at == provider && other == model;
        let earlier = account.candidates.iter().position(asked).filter(|_| sound);
        let earlier = earlier.map(|place| {
            account.candidates[..place].iter().map(|(at, _)| self.keys.count(*at) as u32).sum()
        });
        let earlier = earlier.filter(|earlier: &u32| before + earlier < budget.attempts);
        let (queued, queues) = (account.queued, account.queues);
        let first = account.asked.insert((provider, model.clone()));
        let waits = account.state == State::Asking && !account.cancelled;
        let sensitive = account.sensitive;
        self.rule(waits, || format!("request {request} is answered or over, and sent to {name}"));
        self.rule(sends <= budget.attempts, || {
            format!("request {request} makes {sends} attempts, its budget is {}", budget.attempts)
        });
        self.rule(sends - before == number, || {
            format!("request {request}'s attempt {sends} is {number}")
        });
        let hedged = beside == 1 && hedge.is_some_and(|after| at >= since + after);
        let kept_waiting = watched && at >= since + budget.patience;
        self.rule(beside == 0 || hedged || kept_waiting, || {
            format!("request {request} has {beside} attempts open after {:?}", at - since)
        });
        let retried = before > 0 && !first && keys == 0;
        self.rule(!retried, || format!("request {request} goes on at {name} a second time"));
        let late = earlier.is_some_and(|earlier| {
            let silence = if heard > since { budget.patience * GAP } else { budget.patience };
            let most = queued + silence + IMPATIENCE * earlier;
            first && watched && queues == 0 && at > heard + most
        });
        self.rule(!late, || {
            format!("request {request} came to {name}, which never fails, after {:?}", at - since)
        });
        self.rule(at <= since + budget.time, || {
            format!("request {request} begins an attempt {:?} after it came", at - since)
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
        self.sends.push(Send { at, attempt, heard: None, ramps, back: false });
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

    /// Content came.
    pub fn heard(&mut self, send: usize, now: Instant) {
        let request = self.sends[send].attempt.request;
        if !self.sends[send].back {
            self.note(now, What::Began { request });
            self.keys.served(&self.sends[send].attempt);
            self.give_back(send, true);
        }
        let at = now - self.start;
        self.requests[request].heard = at;
        self.sends[send].heard = Some(at);
    }

    /// `broke_off`: after its caller had content.
    pub fn failed(&mut self, send: usize, failure: &Failure, broke_off: bool, now: Instant) {
        let (kind, request) = (failure.kind, self.sends[send].attempt.request);
        let what = if broke_off {
            What::BrokeOff { request, kind }
        } else {
            What::Failed { request, kind }
        };
        let at = self.note(now, what);
        let Send { attempt, at: sent, .. } = &self.sends[send];
        self.keys.failed(attempt, kind, failure.retry_after, *sent, at);
        self.give_back(send, false);
        let account = &mut self.requests[request];
        if broke_off {
            let answered = account.state == State::Answered;
            account.state = State::Broken;
            self.rule(answered, || format!("what request {request} has not breaks"));
        }
    }

    /// The place it holds in a probation or a ramp.
    fn give_back(&mut self, send: usize, answered: bool) {
        let Send { ref attempt, ramps, back, .. } = self.sends[send];
        if back {
            return;
        }
        let Attempt { provider, ref model, .. } = *attempt;
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
    pub fn closed(&mut self, send: usize, now: Instant) {
        self.give_back(send, false);
        let Attempt { provider, request, .. } = self.sends[send].attempt;
        self.providers[provider].open -= 1;
        let account = &mut self.requests[request];
        account.open.retain(|&open| open != send);
        account.closed = now - self.start;
    }

    /// Its caller has the first content of its answer, or of what was left of it, or there is none.
    pub fn carried(
        &mut self,
        request: usize,
        attempts: u32,
        failure: Option<FailureKind>,
        now: Instant,
    ) {
        let at = self.note(now, What::Carried { request, attempts, failure });
        let account = &mut self.requests[request];
        let waited = account.state == State::Asking && !account.cancelled;
        if failure.is_none() {
            account.state = State::Answered;
        }
        let sends = account.sends - account.before.unwrap_or(0);
        let left = account.sends < account.request.budget.attempts;
        let Account { request: Request { budget, .. }, candidates, since, .. } = &*account;
        let took = at - *since;
        let in_vain = failure.is_some() && !left && at > account.closed;
        let longest = self.providers.iter().map(|watched| watched.timeout).max();
        let most = budget.time + longest.unwrap_or_default() + LONGEST_ANSWER;
        // A candidate that never fails answers, as long as it may be asked.
        let sound = candidates.iter().any(|(at, _)| self.providers[*at].sound);
        let elsewhere = failure.is_some_and(FailureKind::may_go_elsewhere);
        let lost = elsewhere && sound && left && took < budget.time;
        let unasked = failure.is_some() && attempts == 0 && account.before.is_none();
        self.score.unasked += usize::from(unasked);
        self.rule(waited, || format!("request {request} is answered twice"));
        self.rule(took <= most, || format!("request {request} took {took:?}, {most:?} is most"));
        self.rule(attempts == sends, || {
            format!("request {request} was sent {sends} times and {attempts} are told")
        });
        self.rule(!in_vain, || format!("request {request} waits, and nobody may be asked"));
        self.rule(!lost, || {
            format!("request {request} failed, and a provider was sound all the time")
        });
    }

    /// It has its last word: an answer's end, or the failure.
    pub fn over(&mut self, request: usize, failure: Option<FailureKind>, now: Instant) {
        let at = self.note(now, What::Over { request, failure });
        let account = &mut self.requests[request];
        let twice = account.ended.replace(at).is_some() || account.cancelled;
        let answered = account.state == State::Answered;
        account.state = State::Over;
        match failure {
            None => self.score.answered += 1,
            Some(_) => self.score.failed += 1,
        }
        self.rule(!twice, || format!("request {request} ends twice"));
        self.rule(answered == failure.is_none(), || {
            format!("request {request} ends with {failure:?}, and its answer: {answered}")
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
        let apart = self.keys.are_kept_apart(key.0);
        let (several, whole) = (self.keys.count(key.0) > 1, key.1.is_none());
        if let Change::Opened { symptom, .. } = change {
            use FailureKind::{Authentication, QuotaExhausted};
            let of_key = matches!(symptom.kind, Authentication | QuotaExhausted);
            self.rule(!(several && of_key), || {
                format!("{provider} is taken out because of one key: {symptom}")
            });
        }
        if whole && matches!(change, Change::CooledDown { .. }) {
            // Of a key or an account: the provider serves with the others.
            self.score.cool_downs += 1;
            return self.rule(apart, || format!("{provider} cools down as a whole"));
        }
        let breaker = self.breakers.entry(key).or_default();
        breaker.known |= !by_hand;
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

    /// Before health hears of it. `began`: when the probe did.
    pub fn probed(
        &mut self,
        provider: usize,
        key: usize,
        failure: Option<FailureKind>,
        began: Instant,
        now: Instant,
    ) {
        let at = self.note(now, What::Probed { provider, key, failure });
        self.keys.probed(provider, key, failure, began - self.start, at);
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
                self.keys.changed(provider, at);
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

    /// What happened before a rule was broken, for people.
    pub fn latest(&self) -> String {
        let shown = self.broken_at.saturating_sub(SHOWN);
        let line = |event: &Event| format!("{:>14?} {:?}", event.at, event.what);
        self.trace[shown..self.broken_at].iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub fn mood(&self, provider: usize, now: Instant) -> &Mood {
        let phase = phase(&self.providers[provider].phases, now - self.start);
        phase.map_or(&Mood::Fine, |(_, mood)| mood)
    }

    /// How a vendor treats a key and its account.
    pub fn key_moods(&self, provider: usize, key: usize, now: Instant) -> [KeyMood; 2] {
        self.keys.moods(provider, key, now - self.start)
    }
}
