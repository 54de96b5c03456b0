//! What routing costs a request, with twenty providers and two hundred models.
//!
//! `cargo bench --bench routing`. Everything that happens between a parsed request and the first byte to
//! a vendor: the decision with prices, health and latencies, leave from health, a turn at the gate, and
//! the entry in the journal; and the gate alone, with nobody and with a thousand waiting. Printed against
//! parsing the request's 1 KB of JSON in the same run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that can't go on has failed")]

use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use keyward::{
    clock::SystemClock,
    config::Routing,
    health::{Health, HealthOptions, Standing as Stands, Took},
    ids::{ModelName, ProviderName, RequestId},
    metering::Tokens,
    models::all_facts,
    routing::{
        Ask, Entry, Fares, Needs, Outlook, Roster, Serves, Standing,
        gate::{Full, Gate, GateLimits, Pass},
        journal::{Ended, Journal, Routed},
    },
};
use keyward_contract::{Model, OperationKind, Price, ProviderKind, price::Day};

const PROVIDERS: usize = 20;
const MODELS: usize = 200;
/// Providers that list one model.
const LISTED_BY: usize = 5;
/// In the queue of a gate.
const WAITING: usize = 1_000;

const SECOND: Duration = Duration::from_secs(1);

struct View<'a> {
    health: &'a Health,
    now: Instant,
    today: Day,
}

fn seen(standing: &Stands) -> Standing {
    match standing {
        Stands::Healthy | Stands::Probation => Standing::Fit,
        Stands::Down { .. } => Standing::Down { left: Duration::ZERO },
        Stands::Disabled { .. } => Standing::Disabled,
    }
}

/// As the gateway's.
impl Outlook for View<'_> {
    fn standing(&self, provider: &ProviderName, model: &ModelName) -> Standing {
        seen(&self.health.standing(provider, model, self.now))
    }

    fn fares(&self, provider: &ProviderName, models: &[&ModelName]) -> Vec<Fares> {
        let fares = self.health.fares(provider, models, self.now).into_iter();
        let fares = fares.map(|(standing, latency)| Fares { standing: seen(&standing), latency });
        fares.collect()
    }

    fn latency(&self, provider: &ProviderName, model: &ModelName) -> Option<Duration> {
        self.health.latency(provider, model, self.now)
    }

    fn missing_key(&self, _: &ProviderName) -> Option<String> {
        None
    }

    fn today(&self) -> Day {
        self.today
    }

    fn random(&self) -> u64 {
        0x9e37_79b9_7f4a_7c15
    }
}

/// How many prices there are, all in all.
#[derive(Clone, Copy)]
enum Prices {
    Seven,
    /// No two models of any provider cost the same.
    Thousand,
    None,
}

fn model(at: usize, number: usize, prices: Prices) -> Model {
    let input = match prices {
        Prices::Seven | Prices::None => format!("{}", 1 + number % 7),
        Prices::Thousand => format!("{}.{:04}", 1 + number % 7, at * MODELS + number),
    };
    let price: Price = serde_json::from_value(serde_json::json!({
        "from": "2026-01-01", "currency": "USD", "source": "s",
        "per_million": {"input": input, "output": "10"},
    }))
    .unwrap();
    Model {
        id: format!("model-{number}"),
        context_window: Some(128_000),
        capabilities: ["chat", "tools", "images"].map(str::to_owned).to_vec(),
        prices: if matches!(prices, Prices::None) { vec![] } else { vec![price] },
        ..Model::default()
    }
}

fn roster(prices: Prices) -> Roster {
    let entries: IndexMap<ProviderName, Entry> = (0..PROVIDERS)
        .map(|at| {
            let here = (0..MODELS).filter(|number| {
                (0..LISTED_BY).any(|turn| (number + turn * PROVIDERS / LISTED_BY) % PROVIDERS == at)
            });
            let models: Vec<Model> = here.map(|number| model(at, number, prices)).collect();
            let entry = Entry {
                kind: ProviderKind::External,
                state: Serves::Operations(vec![OperationKind::Chat]),
                models: models.iter().map(|model| ModelName::new(&model.id).unwrap()).collect(),
                aliases: HashMap::new(),
                facts: Arc::new(all_facts(&[], &models)),
                auto: true,
                cost_tracking: true,
            };
            (ProviderName::new(&format!("provider-{at}")).unwrap(), entry)
        })
        .collect();
    Roster::new(entries, &IndexMap::new(), &Routing::default())
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The least of several rounds, per turn. A round should take some tens of milliseconds: the kernel
/// counts no finer than its ticks.
fn measure(turns: u32, mut turn: impl FnMut()) -> Duration {
    let mut round = || {
        let began = processor_time();
        (0..turns).for_each(|_| turn());
        (processor_time() - began) / turns
    };
    (0..20).map(|_| round()).min().unwrap()
}

const LIMITS: GateLimits = GateLimits {
    concurrency: 512,
    requests_per_minute: Some(u32::MAX),
    tokens_per_minute: Some(u32::MAX as u64),
    queue: 256,
    wait: SECOND.saturating_mul(5),
};

/// One comes to a gate with as many in front of it as may wait, the first of them passes and leaves.
fn turn_with_many_waiting(limits: GateLimits) -> Duration {
    let limits = GateLimits { concurrency: 1, queue: WAITING as u32, wait: SECOND * 600, ..limits };
    let gate = Gate::new(limits);
    let callers: Vec<Arc<str>> = (0..10).map(|at| format!("caller-{at}").into()).collect();
    let deadline = Instant::now() + SECOND * 600;
    let mut context = Context::from_waker(Waker::noop());
    let mut come = |at: usize| {
        let (gate, caller) = (gate.clone(), Arc::clone(&callers[at % callers.len()]));
        let mut entry: Pin<Box<dyn Future<Output = Result<Pass, Full>>>> =
            Box::pin(async move { gate.enter(&SystemClock, &caller, 250, deadline).await });
        let passed = match entry.as_mut().poll(&mut context) {
            Poll::Ready(passed) => Some(passed.unwrap()),
            Poll::Pending => None,
        };
        (entry, passed)
    };
    let mut open = come(0).1;
    let mut waiting: VecDeque<_> = (0..WAITING).map(|at| come(at).0).collect();
    let mut at = WAITING;
    let took = measure(2_000, || {
        if let Some(mut pass) = open.take() {
            pass.settle(0);
        }
        let mut first = waiting.pop_front().unwrap();
        let Poll::Ready(passed) = first.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("the first doesn't pass")
        };
        open = Some(passed.unwrap());
        let (entry, passed) = come(at);
        assert!(passed.is_none());
        waiting.push_back(entry);
        at += 1;
    });
    assert_eq!(gate.status(Instant::now()).waiting as usize, WAITING);
    took
}

fn main() {
    let health = Health::new(HealthOptions::default(), 1, |_| {});
    let gate = Gate::new(LIMITS);
    let journal = Journal::default();
    let caller: Arc<str> = "bench".into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let today: Day = "2026-06-01".parse().unwrap();
    let ask = |name: &str| Ask {
        model: ModelName::new(name).unwrap(),
        operation: OperationKind::Chat,
        needs: Needs { tools: true, ..Needs::default() },
        tokens: Tokens(250),
        max_output: None,
        sensitive: None,
        told: Vec::new(),
    };
    let body = serde_json::json!({"model": "model-7", "stream": true,
        "messages": [{"role": "system", "content": "x".repeat(300)},
            {"role": "user", "content": "y".repeat(600)}]})
    .to_string();

    let parse = measure(50_000, || {
        black_box(serde_json::from_str::<serde_json::Value>(black_box(&body)).unwrap());
    });
    println!("parsing a request of {} bytes: {parse:?}", body.len());
    let tell = |what: &str, time: Duration| {
        let ratio = time.as_secs_f64() / parse.as_secs_f64();
        println!("{what}: {:.1} us, {ratio:.1} times that", time.as_secs_f64() * 1e6);
    };

    let whole = |roster: &Roster, name: &str, turns: u32| {
        let ask = ask(name);
        measure(turns, || {
            let now = Instant::now();
            let decision = roster.decide(&ask, &View { health: &health, now, today });
            let best = &decision.candidates[0];
            let ticket = health.admit(&best.provider, &best.model, now).unwrap();
            let deadline = now + Duration::from_secs(5);
            let enter = gate.enter(&SystemClock, &caller, ask.tokens.0, deadline);
            let mut pass = runtime.block_on(enter).unwrap();
            ticket.succeeded(Took::Stream(Duration::from_millis(200)), now);
            pass.settle(0);
            journal.routed(Routed {
                request: RequestId(7),
                when: jiff::Timestamp::now(),
                caller: Arc::clone(&caller),
                operation: OperationKind::Chat,
                streamed: true,
                decision,
                tried: Vec::new(),
                attempts: 1,
                ended: Ended::Answered,
                continued: Vec::new(),
            });
        })
    };
    let seven = roster(Prices::Seven);
    tell(
        "a model of five providers, decided, admitted, settled, noted",
        whole(&seven, "model-7", 10_000),
    );
    tell("a provider's model, the same", whole(&seven, "provider-7/model-7", 10_000));
    for (prices, what) in [
        (Prices::Seven, "seven prices"),
        (Prices::Thousand, "a thousand prices"),
        (Prices::None, "no prices"),
    ] {
        let what = format!("`auto` over two hundred models of twenty providers, {what}, the same");
        tell(&what, whole(&roster(prices), "auto", 2_000));
    }

    let deadline = Instant::now() + SECOND * 600;
    let alone = measure(100_000, || {
        let enter = gate.enter(&SystemClock, &caller, 250, deadline);
        let mut enter = std::pin::pin!(enter);
        let Poll::Ready(pass) = enter.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits")
        };
        pass.unwrap().settle(0);
    });
    tell("the gate alone, entered, settled, left", alone);
    let _timers = runtime.enter();
    let unlimited = GateLimits { requests_per_minute: None, tokens_per_minute: None, ..LIMITS };
    tell("a turn with 1,000 waiting, limited by concurrency", turn_with_many_waiting(unlimited));
    tell("a turn with 1,000 waiting, limited per minute too", turn_with_many_waiting(LIMITS));
}
