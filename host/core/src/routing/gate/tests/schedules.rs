//! The same promises under random schedules: callers come, hold, settle, fail and go away, while
//! limits change. A schedule that breaks one is shrunk and printed, and is the same run again.

use std::{
    cell::RefCell,
    env,
    hash::{BuildHasher as _, RandomState},
};

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;
use crate::clock::simulated::Chance;

#[derive(Clone, Debug)]
struct Schedule {
    limits: GateLimits,
    steps: Vec<Step>,
    /// Decides the order in which tasks run that could run at the same time.
    order: u64,
}

#[derive(Clone, Debug)]
struct Step {
    after: Duration,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Enter(Visit),
    SetLimits(GateLimits),
}

#[derive(Clone, Debug)]
struct Visit {
    caller: u8,
    tokens: u64,
    patience: Duration,
    hold: Duration,
    ending: Ending,
    /// Goes away so long after it came, whether it waits or is inside.
    cancelled: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Ending {
    Dropped,
    Settled(u64),
    Refunded,
}

fn millis(most: u64) -> impl Strategy<Value = Duration> {
    // Zero often, so that much happens at one moment.
    prop_oneof![1 => Just(0), 2 => 0..=most].prop_map(Duration::from_millis)
}

fn limits() -> impl Strategy<Value = GateLimits> {
    let concurrency = prop_oneof![1 => Just(0), 9 => 1..6u32];
    let requests =
        prop_oneof![2 => Just(None), 1 => Just(Some(0)), 7 => (1..200u32).prop_map(Some)];
    let tokens = prop_oneof![2 => Just(None), 1 => Just(Some(0)), 7 => (1..2000u64).prop_map(Some)];
    (concurrency, requests, tokens, 0..40u32, millis(90_000)).prop_map(
        |(concurrency, requests_per_minute, tokens_per_minute, queue, wait)| GateLimits {
            concurrency,
            requests_per_minute,
            tokens_per_minute,
            queue,
            wait,
        },
    )
}

fn visit() -> impl Strategy<Value = Visit> {
    let tokens = || prop_oneof![20 => 0..300u64, 2 => 300..5000u64, 1 => Just(u64::MAX)];
    let ending = prop_oneof![
        Just(Ending::Dropped),
        tokens().prop_map(Ending::Settled),
        Just(Ending::Refunded)
    ];
    let cancelled = prop_oneof![3 => Just(None), 1 => millis(20_000).prop_map(Some)];
    (0..5u8, tokens(), millis(120_000), millis(10_000), ending, cancelled).prop_map(
        |(caller, tokens, patience, hold, ending, cancelled)| Visit {
            caller,
            tokens,
            patience,
            hold,
            ending,
            cancelled,
        },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let what =
        prop_oneof![12 => visit().prop_map(What::Enter), 1 => limits().prop_map(What::SetLimits)];
    let step = (millis(1500), what).prop_map(|(after, what)| Step { after, what });
    (limits(), prop::collection::vec(step, 1..150), any::<u64>())
        .prop_map(|(limits, steps, order)| Schedule { limits, steps, order })
}

/// One who came and how it ended.
#[derive(Clone, Debug)]
struct Seen {
    caller: u8,
    came: Instant,
    until: Instant,
    end: End,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Open,
    Refused(Instant, FullReason),
    Passed { at: Instant, requests: Duration, tokens: Duration },
    Cancelled,
}

/// What is known from outside of the gate.
struct Log {
    seen: RefCell<Vec<Seen>>,
    requests_back: RefCell<Vec<(Instant, Duration)>>,
    tokens_back: RefCell<Vec<(Instant, Duration)>>,
    inside: Cell<u32>,
    /// The limits since the last change, and those that some may have passed under at its moment.
    limits: Cell<GateLimits>,
    before: Cell<(Instant, GateLimits)>,
}

impl Log {
    /// What may have been the limits for one who learns only now that it passed.
    fn limits_at(&self, now: Instant) -> [GateLimits; 2] {
        let (changed, before) = self.before.get();
        [self.limits.get(), if changed == now { before } else { self.limits.get() }]
    }
}

/// One inside. However it ends, it is counted out.
struct Inside(Rc<Log>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
    }
}

async fn visit_gate(gate: Gate, clock: SimulatedClock, log: Rc<Log>, visit: Visit, number: usize) {
    let caller: Arc<str> = visit.caller.to_string().into();
    let deadline = clock.now() + visit.patience;
    // Others of this moment may have changed the limits before it came.
    log.seen.borrow_mut()[number].until = clock.now() + visit.patience.min(log.limits.get().wait);
    let entry = gate.enter(&clock, &caller, visit.tokens, deadline).await;
    let at = clock.now();
    let mut pass = match entry {
        Ok(pass) => pass,
        Err(full) => {
            assert!(full.retry_after >= SHORTEST_RETRY);
            log.seen.borrow_mut()[number].end = End::Refused(at, full.reason);
            return;
        }
    };
    log.inside.set(log.inside.get() + 1);
    let inside = Inside(Rc::clone(&log));
    let limits = log.limits_at(at);
    let most = limits.iter().map(|limits| limits.concurrency).max();
    assert!(Some(log.inside.get()) <= most, "{} are inside of {most:?}", log.inside.get());
    let requests = limits.map(|limits| {
        limits.requests_per_minute.map_or(Duration::ZERO, |limit| MINUTE / limit.max(1))
    });
    let requests = requests[0].min(requests[1]);
    log.seen.borrow_mut()[number].end = End::Passed { at, requests, tokens: pass.charge.tokens };
    clock.sleep(visit.hold).await;
    let reserved = pass.charge;
    match visit.ending {
        Ending::Dropped => {}
        Ending::Settled(tokens) => pass.settle(tokens),
        Ending::Refunded => pass.refund(),
    }
    let now = clock.now();
    let tokens = reserved.tokens.saturating_sub(pass.charge.tokens);
    log.tokens_back.borrow_mut().push((now, tokens));
    log.requests_back.borrow_mut().push((now, reserved.requests - pass.charge.requests));
    drop(inside);
}

/// Runs it, and looks at the gate whenever the world is at rest.
fn run(schedule: &Schedule) -> Rc<Log> {
    let simulation = Simulation::shuffled(schedule.order);
    let clock = simulation.clock();
    let gate = Gate::new(schedule.limits);
    let log = Rc::new(Log {
        seen: RefCell::default(),
        requests_back: RefCell::default(),
        tokens_back: RefCell::default(),
        inside: Cell::default(),
        limits: Cell::new(schedule.limits),
        before: Cell::new((clock.now(), schedule.limits)),
    });
    {
        let (simulation, clock, gate, log) =
            (simulation.clone(), clock.clone(), gate.clone(), Rc::clone(&log));
        let steps = schedule.steps.clone();
        simulation.clone().spawn(async move {
            for Step { after, what } in steps {
                clock.sleep(after).await;
                let now = clock.now();
                match what {
                    What::SetLimits(limits) => {
                        let (changed, before) = log.before.get();
                        // Several changes at one moment: the loosest of them, for what is checked.
                        let before = if changed == now {
                            loosest(before, log.limits.get())
                        } else {
                            log.limits.get()
                        };
                        log.before.set((now, before));
                        log.limits.set(limits);
                        gate.set_limits(limits);
                    }
                    What::Enter(visit) => {
                        let number = log.seen.borrow().len();
                        let caller = visit.caller;
                        log.seen.borrow_mut().push(Seen {
                            caller,
                            came: now,
                            until: now,
                            end: End::Open,
                        });
                        let cancelled = visit.cancelled;
                        let (gate, log) = (gate.clone(), Rc::clone(&log));
                        let task = simulation.spawn(visit_gate(
                            gate,
                            clock.clone(),
                            Rc::clone(&log),
                            visit,
                            number,
                        ));
                        if let Some(after) = cancelled {
                            let clock = clock.clone();
                            simulation.spawn(async move {
                                clock.sleep(after).await;
                                task.cancel();
                                let end = &mut log.seen.borrow_mut()[number].end;
                                if *end == End::Open {
                                    *end = End::Cancelled;
                                }
                            });
                        }
                    }
                }
            }
        });
    }
    simulation.run_ready();
    while simulation.step() {
        assert_at_rest(&gate, clock.now(), log.inside.get());
    }
    assert_eq!(simulation.unfinished(), 0, "somebody waits for ever");
    assert_eq!((simulation.timers(), log.inside.get()), (0, 0));
    let state = gate.lock();
    assert_eq!((state.open, state.waiting_tokens), (0, 0));
    assert_eq!((state.queue.len(), state.queue.callers()), (0, 0));
    drop(state);
    log
}

fn loosest(one: GateLimits, other: GateLimits) -> GateLimits {
    let looser = |one: Option<u32>, other: Option<u32>| Some(one?.max(other?));
    GateLimits {
        concurrency: one.concurrency.max(other.concurrency),
        requests_per_minute: looser(one.requests_per_minute, other.requests_per_minute),
        tokens_per_minute: None,
        queue: one.queue.max(other.queue),
        wait: one.wait.max(other.wait),
    }
}

fn assert_at_rest(gate: &Gate, now: Instant, inside: u32) {
    let state = gate.lock();
    assert_eq!(state.open, inside, "a place is taken by nobody");
    if let Some(first) = state.queue.first() {
        assert!(!state.fits(now, first.call.tokens), "the first waits though it fits");
        assert!(now < first.call.until, "the first waits beyond its time");
    }
}

/// In every window that ends with one who passes, no more is taken than a minute's worth, the
/// refill of the window and what was given back in it. Taken as the time that it needs to refill,
/// this holds across changes of the limits. A window ends with all of its last moment: in which order
/// they passed within it can't be seen from outside, and what is given back in it may let more pass.
fn assert_bounded(mut taken: Vec<(Instant, Duration)>, given_back: &[(Instant, Duration)]) {
    // Without a limit one passes, whatever was taken before.
    taken.retain(|(_, amount)| !amount.is_zero());
    taken.sort_by_key(|(at, _)| *at);
    for moment in taken.chunk_by(|(one, _), (other, _)| one == other) {
        let end = moment[0].0;
        // One larger than the bucket leaves a debt.
        let debt = moment.iter().map(|(_, own)| own.saturating_sub(MINUTE)).max();
        let debt = debt.unwrap_or_default();
        let mut sum = Duration::ZERO;
        // Those are sorted by time, too.
        let last = taken.partition_point(|(at, _)| *at <= end);
        let after = given_back.partition_point(|(at, _)| *at <= end);
        let mut returns = given_back[..after].iter().rev().peekable();
        let mut returned = Duration::ZERO;
        for (begin, amount) in taken[..last].iter().rev() {
            sum += *amount;
            while let Some((_, time)) = returns.next_if(|(at, _)| at >= begin) {
                returned += *time;
            }
            let bound = MINUTE + (end - *begin) + returned + debt;
            assert!(sum <= bound, "{sum:?} taken in a window for {bound:?}");
        }
    }
}

/// While one waits, each other caller has at most one turn more than its own caller.
fn assert_fair(seen: &[Seen]) {
    for waiting in seen {
        let End::Passed { at, .. } = waiting.end else { continue };
        // The order within one moment can't be seen from outside.
        let turns = |caller, ends: bool| {
            let passed = seen.iter().filter(|other| other.caller == caller).filter(|other| {
                let End::Passed { at: other, .. } = other.end else { return false };
                waiting.came < other && other < at || ends && (other == waiting.came || other == at)
            });
            passed.count()
        };
        let own = turns(waiting.caller, true);
        for other in (0..5).filter(|other| *other != waiting.caller) {
            assert!(turns(other, false) <= own, "{other} was served before {waiting:?}");
        }
    }
}

fn assert_kept(schedule: &Schedule) {
    let log = run(schedule);
    let seen = log.seen.borrow();
    let (mut requests_taken, mut tokens_taken) = (Vec::new(), Vec::new());
    for one in seen.iter() {
        match one.end {
            End::Open => panic!("lost: {one:?}"),
            End::Refused(at, reason) => {
                assert!(at <= one.until.max(one.came), "refused late: {one:?}");
                assert!(reason == FullReason::Wait || at == one.came, "it waited: {one:?}");
            }
            End::Passed { at, requests, tokens } => {
                assert!(at <= one.until, "passed late: {one:?}");
                requests_taken.push((at, requests));
                tokens_taken.push((at, tokens));
            }
            End::Cancelled => {}
        }
    }
    assert_bounded(requests_taken, &log.requests_back.borrow());
    assert_bounded(tokens_taken, &log.tokens_back.borrow());
    assert_fair(&seen);
}

/// All of one caller, room for all, and nothing given back: then the refill is all that counts.
fn assert_waits_are_not_in_vain(mut schedule: Schedule) {
    schedule.limits.concurrency = u32::MAX;
    schedule.steps.retain_mut(|step| match &mut step.what {
        What::SetLimits(_) => false,
        What::Enter(visit) => {
            visit.caller = 0;
            visit.cancelled = None;
            visit.ending = Ending::Dropped;
            true
        }
    });
    for one in run(&schedule).seen.borrow().iter() {
        if let End::Refused(at, _) = one.end {
            assert_eq!(at, one.came, "it waited in vain: {one:?}");
        }
    }
}

/// So many schedules, from a seed of their own. With `KEYWARD_TEST_SEED` and `KEYWARD_TEST_CASES` a run is
/// repeated, or is a longer one.
fn config() -> ProptestConfig {
    let given = |name| env::var(name).map(|text| text.parse().expect("a number"));
    let seed: u64 = given("KEYWARD_TEST_SEED").unwrap_or_else(|_| RandomState::new().hash_one(0));
    let cases: u64 = given("KEYWARD_TEST_CASES").unwrap_or(100);
    // Shown where a test fails.
    println!("repeat it with KEYWARD_TEST_SEED={seed}");
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        cases: cases.try_into().expect("not so many"),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn promises_are_kept_under_any_schedule(schedule in schedule()) {
        assert_kept(&schedule);
    }

    #[test]
    fn who_waits_for_the_refill_alone_never_waits_in_vain(schedule in schedule()) {
        assert_waits_are_not_in_vain(schedule);
    }

    #[test]
    fn a_schedule_runs_the_same_again(schedule in schedule()) {
        let ends = || {
            let log = run(&schedule);
            let seen = log.seen.borrow();
            let start = seen.first().map(|first| first.came);
            seen.iter().map(|one| match one.end {
                End::Passed { at, tokens, .. } => Some((at - start.unwrap(), tokens)),
                _ => None,
            }).collect::<Vec<_>>()
        };
        prop_assert_eq!(ends(), ends());
    }
}

fn enter(tokens: u64, patience: Duration, hold: Duration, ending: Ending) -> Step {
    let visit = Visit { caller: 0, tokens, patience, hold, ending, cancelled: None };
    Step { after: Duration::ZERO, what: What::Enter(visit) }
}

#[test]
fn one_that_leaves_a_debt_may_pass_at_the_moment_in_which_others_give_back() {
    let limits = GateLimits {
        concurrency: 1,
        requests_per_minute: None,
        tokens_per_minute: Some(21),
        queue: 0,
        wait: Duration::ZERO,
    };
    let soon = Duration::from_millis(1);
    let steps = || {
        vec![
            enter(300, soon, soon, Ending::Dropped),
            enter(1, soon, Duration::ZERO, Ending::Refunded),
        ]
    };
    // In some of these orders the small one passes first.
    for order in 0..20 {
        assert_kept(&Schedule { limits, steps: steps(), order });
    }
}

#[test]
fn who_would_wait_for_one_limit_and_then_for_the_other_is_told_at_once() {
    let limits = GateLimits {
        concurrency: 1,
        requests_per_minute: Some(2),
        tokens_per_minute: Some(100),
        queue: 10,
        wait: MINUTE * 2,
    };
    // The second has its tokens at 36 s. Until then the requests refill to the brim and no further,
    // so the fourth has its turn at 66 s, not at 60 s.
    let steps = vec![
        enter(150, MINUTE, Duration::ZERO, Ending::Dropped),
        enter(10, MINUTE, Duration::ZERO, Ending::Dropped),
        enter(0, MINUTE, Duration::ZERO, Ending::Dropped),
        enter(0, SECOND * 63, Duration::ZERO, Ending::Dropped),
    ];
    for order in 0..20 {
        assert_waits_are_not_in_vain(Schedule { limits, steps: steps.clone(), order });
    }
}

/// Hours of a busy provider: longer than schedules that are to be shrunk.
#[test]
fn promises_are_kept_for_hours_of_traffic() {
    for seed in 0..20 {
        let _seed = crate::clock::simulated::Seed(seed);
        let mut chance = Chance::new(seed);
        let limits = GateLimits {
            concurrency: 8,
            requests_per_minute: Some(100),
            tokens_per_minute: Some(50_000),
            queue: 50,
            wait: SECOND * 20,
        };
        let steps = (0..1000).map(|_| {
            let visit = Visit {
                // One caller asks as much as all others.
                caller: if chance.percent(50) { 0 } else { chance.between(1, 4) as u8 },
                tokens: chance.below(1500),
                patience: SECOND * 30,
                hold: chance.duration(SECOND * 10),
                ending: Ending::Settled(chance.below(1500)),
                cancelled: chance.percent(10).then(|| chance.duration(SECOND * 15)),
            };
            Step { after: chance.duration(SECOND), what: What::Enter(visit) }
        });
        assert_kept(&Schedule { limits, steps: steps.collect(), order: seed });
    }
}
