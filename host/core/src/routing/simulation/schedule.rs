//! One world to simulate, drawn from a seed: who there is, what is asked, what goes wrong.

use std::{sync::Arc, time::Duration};

use indexmap::IndexMap;
use keyward_contract::ProviderKind;

use super::vendor::{KeyMood, Mood, Phase};
use crate::{
    FailureKind,
    clock::simulated::Chance,
    config::{Order, Route, Routing},
    ids::{ModelName, ProviderName, RouteName},
    routing::{
        Roster,
        carry::Budget,
        gate::GateLimits,
        tests::{entry, model, plain, priced, provider, target},
    },
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What callers may name.
const MODELS: [&str; 3] = ["m", "n", "o"];

/// Limits that nobody notices.
pub const WIDE: GateLimits = GateLimits {
    concurrency: 1_000,
    requests_per_minute: None,
    tokens_per_minute: None,
    queue: 1_000,
    wait: Duration::from_secs(10),
};

pub struct Schedule {
    pub providers: Vec<Plan>,
    pub accounts: Vec<Vec<Phase<KeyMood>>>,
    pub roster: Roster,
    pub requests: Vec<Request>,
    pub steers: Vec<Steer>,
    /// How often providers are probed, if they are.
    pub probes: Option<Duration>,
    /// All that goes wrong is over then.
    pub length: Duration,
    /// Nothing but an operator keeps anybody away, if not.
    pub watched: bool,
}

pub struct Plan {
    pub name: ProviderName,
    pub kind: ProviderKind,
    pub models: Vec<ModelName>,
    pub limits: GateLimits,
    pub phases: Vec<Phase>,
    /// One for each key.
    pub keys: Vec<Vec<Phase<KeyMood>>>,
    /// What its vendor counts against, if it has a name: its place among the accounts.
    pub account: Option<usize>,
    /// How long a byte is waited for.
    pub timeout: Duration,
    /// Nothing ever goes wrong with it, nor with one key of it, and it has no limits.
    pub sound: bool,
}

#[derive(Clone)]
pub struct Request {
    pub at: Duration,
    pub caller: Arc<str>,
    pub model: ModelName,
    pub tokens: u64,
    pub sensitive: bool,
    pub streamed: bool,
    /// Of a whole answer: whether it is asked for as a stream, so that it is known whether it comes.
    pub watched: bool,
    /// So much of a stream is held back.
    pub hold: Duration,
    /// Whether somebody else is to go on with a stream that breaks.
    pub continues: bool,
    pub budget: Budget,
    /// So long after it came.
    pub cancelled: Option<Duration>,
}

impl Request {
    /// Whether the first content is expected early.
    pub fn is_watched(&self) -> bool {
        self.streamed || self.watched
    }
}

/// What an operator does.
pub struct Steer {
    pub at: Duration,
    pub provider: usize,
    pub act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Disable,
    Force,
    Enable,
    Rekey,
    Limit(Limits),
}

/// [`GateLimits`] that can be told in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    pub concurrency: u32,
    pub requests: Option<u32>,
    pub tokens: Option<u64>,
    pub queue: u32,
    pub wait: Duration,
}

impl From<Limits> for GateLimits {
    fn from(limits: Limits) -> Self {
        Self {
            concurrency: limits.concurrency,
            requests_per_minute: limits.requests,
            tokens_per_minute: limits.tokens,
            queue: limits.queue,
            wait: limits.wait,
        }
    }
}

impl Schedule {
    pub fn draw(seed: u64, requests: std::ops::RangeInclusive<u64>) -> Self {
        let mut chance = Chance::new(seed);
        let length = SECOND * chance.between(5, 60) as u32;
        let watched = chance.percent(90);
        let count = chance.between(2, 6) as usize;
        let mut providers: Vec<Plan> =
            (0..count).map(|at| plan(at, length, &mut chance.fork())).collect();
        let accounts = accounts(&mut providers, length, &mut chance.fork());
        for plan in &mut providers {
            plan.keys = keys(plan, length, &mut chance.fork());
            // Where nobody keeps count of what was found of a key, it is found again and again.
            if plan.sound && !watched {
                plan.keys.iter_mut().for_each(Vec::clear);
            }
        }
        let roster = roster(&providers, &mut chance.fork());
        let names = names(&providers);
        let mut draw = chance.fork();
        let bursts: Vec<Duration> =
            (0..draw.between(1, 6)).map(|_| draw.duration(length)).collect();
        let requests = (0..draw.between(*requests.start(), *requests.end()))
            .map(|_| request(&names, &bursts, length, &mut draw))
            .collect();
        let mut draw = chance.fork();
        let steers =
            (0..draw.below(8)).filter_map(|_| steer(&providers, &bursts, length, &mut draw));
        let steers = steers.collect();
        let probes = chance.percent(70).then(|| SECOND * *chance.pick(&[1_u32, 5, 30]));
        Self { providers, accounts, roster, requests, steers, probes, length, watched }
    }

    /// Hundreds ask a single vendor that is away, and wait for it.
    pub fn outage(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let away = [
            Mood::Refusing,
            Mood::Silent,
            Mood::Failing(FailureKind::Unavailable),
            Mood::Failing(FailureKind::Overloaded),
            Mood::Limited(Some(SECOND * 2)),
        ];
        let mood = chance.pick(&away).clone();
        Self::single(mood, &mut chance)
    }

    /// Hundreds ask a single vendor that limits them all.
    pub fn storm(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let asked = *chance.pick(&[None, Some(0), Some(1), Some(5), Some(1_000_000_000)]);
        Self::single(Mood::Limited(asked.map(Duration::from_secs)), &mut chance)
    }

    fn single(mood: Mood, chance: &mut Chance) -> Self {
        let length = SECOND * chance.between(3, 20) as u32;
        let name = provider("p0");
        let phases = vec![Phase { until: length, mood }];
        let models = vec![model("m")];
        let kind = ProviderKind::External;
        let entries = IndexMap::from([(name.clone(), entry(kind, &[plain("m")]))]);
        let timeout = SECOND * 5;
        let (keys, account) = (vec![Vec::new()], None);
        let (limits, sound) = (WIDE, false);
        let plan = Plan { name, kind, models, limits, phases, keys, account, timeout, sound };
        let budget = Budget {
            attempts: 4,
            time: SECOND * 30,
            patience: SECOND * 4,
            retries: 3,
            longest_wait: SECOND * 10,
            hedge: None,
        };
        let bursts: Vec<Duration> =
            (0..chance.between(1, 3)).map(|_| chance.duration(length)).collect();
        let names = [model("m")];
        let requests = (0..chance.between(50, 300)).map(|_| Request {
            budget: budget.clone(),
            sensitive: false,
            cancelled: None,
            ..request(&names, &bursts, length, chance)
        });
        let requests = requests.collect();
        let roster = Roster::new(entries, &IndexMap::new(), &Routing::default());
        let probes = chance.percent(50).then_some(SECOND * 30);
        let (providers, steers) = (vec![plan], Vec::new());
        let accounts = Vec::new();
        Self { providers, accounts, roster, requests, steers, probes, length, watched: true }
    }
}

fn plan(at: usize, length: Duration, chance: &mut Chance) -> Plan {
    let kind = if chance.percent(40) { ProviderKind::Local } else { ProviderKind::External };
    let mut models: Vec<ModelName> =
        MODELS.iter().filter(|_| chance.percent(60)).map(|name| model(name)).collect();
    if models.is_empty() {
        models.push(model(MODELS[0]));
    }
    let sound = chance.percent(20);
    let limits = if sound || chance.percent(30) { WIDE } else { limits(chance).into() };
    let phases = if sound { Vec::new() } else { phases(&models, length, chance) };
    let timeout = SECOND * chance.between(3, 12) as u32;
    let name = provider(&format!("p{at}"));
    let (keys, account) = (Vec::new(), None);
    Plan { name, kind, models, limits, phases, keys, account, timeout, sound }
}

/// What becomes of the keys of a provider; most have one.
fn keys(plan: &Plan, length: Duration, chance: &mut Chance) -> Vec<Vec<Phase<KeyMood>>> {
    let count = if chance.percent(60) { 1 } else { chance.between(2, 4) };
    let good = chance.below(count);
    let key = |at| match plan.sound && at == good || chance.percent(40) {
        true => Vec::new(),
        false => key_phases(&plan.models, length, chance),
    };
    // The one key's troubles are the provider's own.
    if count == 1 { vec![Vec::new()] } else { (0..count).map(key).collect() }
}

fn key_phases(models: &[ModelName], length: Duration, chance: &mut Chance) -> Vec<Phase<KeyMood>> {
    let ends = ends(length, chance);
    ends.into_iter().map(|until| Phase { until, mood: key_mood(models, chance) }).collect()
}

fn key_mood(models: &[ModelName], chance: &mut Chance) -> KeyMood {
    match chance.below(6) {
        0 | 1 => KeyMood::Fine,
        2 => KeyMood::Rejected,
        3 => KeyMood::Empty,
        _ => limited(models, chance),
    }
}

fn limited(models: &[ModelName], chance: &mut Chance) -> KeyMood {
    let model = chance.percent(60).then(|| chance.pick(models).clone());
    let asked = chance.percent(80).then(|| SECOND * *chance.pick(&[0, 1, 5, 20, 100_000]));
    KeyMood::Limited { model, asked }
}

/// Some have an account together.
fn accounts(
    providers: &mut [Plan],
    length: Duration,
    chance: &mut Chance,
) -> Vec<Vec<Phase<KeyMood>>> {
    let count = chance.below(3) as usize;
    for plan in providers.iter_mut().filter(|plan| !plan.sound) {
        plan.account =
            (count > 0 && chance.percent(40)).then(|| chance.below(count as u64) as usize);
    }
    let models = MODELS.map(model);
    let phase = |until, chance: &mut Chance| {
        let mood = if chance.percent(50) { KeyMood::Fine } else { limited(&models, chance) };
        Phase { until, mood }
    };
    let account = |_| {
        let ends = ends(length, chance);
        ends.into_iter().map(|until| phase(until, chance)).collect()
    };
    (0..count).map(account).collect()
}

fn limits(chance: &mut Chance) -> Limits {
    Limits {
        concurrency: *chance.pick(&[1, 1, 2, 3, 5, 10, 50]),
        requests: chance.percent(40).then(|| *chance.pick(&[6, 30, 60, 300])),
        tokens: chance.percent(20).then(|| *chance.pick(&[1_000, 20_000, 1_000_000])),
        queue: *chance.pick(&[0, 1, 5, 20, 100]),
        wait: *chance.pick(&[MS * 100, SECOND, SECOND * 5, SECOND * 20]),
    }
}

fn phases(models: &[ModelName], length: Duration, chance: &mut Chance) -> Vec<Phase> {
    let ends = ends(length, chance);
    ends.into_iter().map(|until| Phase { until, mood: mood(models, chance) }).collect()
}

/// Of phases: one all the time, or one after the other.
fn ends(length: Duration, chance: &mut Chance) -> Vec<Duration> {
    let steps = if chance.percent(20) { 1 } else { chance.between(1, 6) };
    let mut ends: Vec<Duration> = (1..steps).map(|_| chance.duration(length)).collect();
    ends.push(length);
    ends.sort();
    ends
}

fn mood(models: &[ModelName], chance: &mut Chance) -> Mood {
    match chance.below(23) {
        0..6 => Mood::Fine,
        6 | 7 => Mood::Refusing,
        8 => Mood::Silent,
        9 => Mood::Slow,
        10..13 => {
            let seconds = *chance.pick(&[0, 1, 2, 5, 30, 1_000_000_000, u64::MAX]);
            Mood::Limited(chance.percent(70).then(|| Duration::from_secs(seconds)))
        }
        13 | 14 => {
            Mood::Failing(*chance.pick(&[FailureKind::Overloaded, FailureKind::Unavailable]))
        }
        15 => Mood::Flapping,
        16 => {
            let dead = [FailureKind::Authentication, FailureKind::QuotaExhausted];
            Mood::Dead(*chance.pick(&dead))
        }
        17 => Mood::Missing(chance.pick(models).clone()),
        18 => Mood::Picky,
        19 | 20 => Mood::Stalling,
        _ => Mood::Breaking,
    }
}

fn roster(providers: &[Plan], chance: &mut Chance) -> Roster {
    let entries = providers.iter().map(|plan| {
        let models: Vec<_> = plan
            .models
            .iter()
            .map(|name| match chance.below(3) {
                0 => priced(name.as_str(), "1", "2"),
                1 => priced(name.as_str(), "3", "1"),
                _ => plain(name.as_str()),
            })
            .collect();
        (plan.name.clone(), entry(plan.kind, &models))
    });
    let entries = entries.collect();
    let named = |plan: &Plan| target(&format!("{}/{}", plan.name, plan.models[0]));
    let order = *chance.pick(&[Order::Cost, Order::Listed]);
    let every =
        Route { candidates: providers.iter().map(named).collect(), order, sensitive: false };
    let local = providers.iter().filter(|plan| plan.kind == ProviderKind::Local);
    let private = Route { candidates: local.map(named).collect(), order, sensitive: true };
    let routes = [("every", every), ("private", private)]
        .map(|(name, route)| (RouteName::new(name).unwrap(), route));
    let mut fallback = IndexMap::new();
    if chance.percent(50) {
        fallback.insert(model("m"), vec![target("n"), target("p0/o")]);
    }
    let order = *chance.pick(&[Order::Cost, Order::Listed]);
    let routing = Routing { order, fallback, ..Routing::default() };
    Roster::new(entries, &IndexMap::from(routes), &routing)
}

/// What callers ask for.
fn names(providers: &[Plan]) -> Vec<ModelName> {
    let plain = MODELS.iter().copied().map(model);
    let other = ["m", "n", "auto", "auto", "every", "every", "private", "lost"].map(model);
    let named = providers.iter().map(|plan| model(&format!("{}/{}", plan.name, plan.models[0])));
    plain.chain(other).chain(named).collect()
}

fn request(
    names: &[ModelName],
    bursts: &[Duration],
    length: Duration,
    chance: &mut Chance,
) -> Request {
    let at = if chance.percent(70) {
        *chance.pick(bursts) + chance.duration(MS * 100)
    } else {
        chance.duration(length)
    };
    let budget = Budget {
        attempts: *chance.pick(&[1, 2, 4, 4, 4, 8]),
        time: *chance.pick(&[MS * 500, SECOND * 5, SECOND * 30, SECOND * 30]),
        patience: *chance.pick(&[MS * 500, SECOND * 4]),
        retries: chance.below(4) as u32,
        longest_wait: *chance.pick(&[SECOND, SECOND * 10]),
        hedge: *chance.pick(&[None, None, None, Some(MS * 300), Some(SECOND * 2)]),
    };
    Request {
        at,
        caller: chance.pick(&["anna", "ben", "carla", "dan"]).to_owned().into(),
        model: chance.pick(names).clone(),
        tokens: *chance.pick(&[10, 100, 1_000, 10_000]),
        sensitive: chance.percent(15),
        streamed: chance.percent(60),
        watched: chance.percent(70),
        hold: *chance.pick(&[Duration::ZERO, Duration::ZERO, MS * 300, SECOND]),
        continues: chance.percent(60),
        budget,
        cancelled: chance.percent(15).then(|| chance.duration(SECOND * 8)),
    }
}

fn steer(
    providers: &[Plan],
    bursts: &[Duration],
    length: Duration,
    chance: &mut Chance,
) -> Option<Steer> {
    let provider = chance.below(providers.len() as u64) as usize;
    let act = match chance.below(6) {
        0 => Act::Disable,
        1 => Act::Force,
        2 => Act::Enable,
        3 => Act::Rekey,
        _ => {
            let mut limits = limits(chance);
            if chance.percent(20) {
                limits.concurrency = 0;
            }
            Act::Limit(limits)
        }
    };
    // While requests are under way, or at any time.
    let at = match chance.percent(50) {
        true => (*chance.pick(bursts) + chance.duration(MS * 400)).min(length),
        false => chance.duration(length),
    };
    (!providers[provider].sound).then_some(Steer { at, provider, act })
}
