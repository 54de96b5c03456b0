//! What the gate promises, on simulated time.

use std::{cell::Cell, future::Future, pin::Pin, rc::Rc, task::Poll};

use super::*;
use crate::clock::{
    SystemClock,
    simulated::{SimulatedClock, Simulation, Task},
};

mod schedules;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// No limit that matters.
const WIDE: GateLimits = GateLimits {
    concurrency: 1000,
    requests_per_minute: None,
    tokens_per_minute: None,
    queue: 1000,
    wait: Duration::from_secs(3600),
};

struct Scene {
    simulation: Simulation,
    clock: SimulatedClock,
    gate: Gate,
}

type Entry = Task<Result<Pass, Full>>;

impl Scene {
    fn new(limits: GateLimits) -> Self {
        let simulation = Simulation::new();
        Self { clock: simulation.clock(), simulation, gate: Gate::new(limits) }
    }

    /// One who enters, and has looked once.
    fn enter(&self, caller: &str, tokens: u64) -> Entry {
        self.enter_within(caller, tokens, MINUTE * 600)
    }

    fn enter_within(&self, caller: &str, tokens: u64, time: Duration) -> Entry {
        let (gate, clock, caller) = (self.gate.clone(), self.clock.clone(), Arc::from(caller));
        let deadline = clock.now() + time;
        let entry = self
            .simulation
            .spawn(async move { gate.enter(&clock, &caller, tokens, deadline).await });
        self.simulation.run_ready();
        entry
    }

    /// One who passes at once.
    fn pass(&self, tokens: u64) -> Pass {
        self.enter("a", tokens).take().expect("it waits").expect("it is refused")
    }

    /// One who is refused at once.
    fn refused(&self, tokens: u64) -> Full {
        self.enter("a", tokens).take().expect("it waits").expect_err("it passes")
    }

    fn drop_and_run(&self, pass: Pass) {
        drop(pass);
        self.simulation.run_ready();
    }

    fn status(&self) -> GateStatus {
        self.gate.status(self.clock.now())
    }

    /// How many are open, and how many wait.
    fn counts(&self) -> (u32, u32) {
        (self.status().open, self.status().waiting)
    }
}

#[test]
fn as_many_are_open_as_the_limit_says_and_the_rest_wait_in_order() {
    let scene = Scene::new(GateLimits { concurrency: 2, ..WIDE });
    let (first, _second) = (scene.pass(0), scene.pass(0));
    let (third, fourth) = (scene.enter("a", 0), scene.enter("a", 0));
    assert_eq!(scene.counts(), (2, 2));
    scene.drop_and_run(first);
    assert!(third.is_done() && !fourth.is_done());
    assert_eq!(scene.counts(), (2, 1));
}

#[test]
fn one_of_another_caller_is_delayed_by_one_turn_of_a_thousand() {
    let scene = Scene::new(GateLimits { concurrency: 1, queue: 2000, ..WIDE });
    let open = scene.pass(0);
    let greedy: Vec<Entry> = (0..1000).map(|_| scene.enter("greedy", 0)).collect();
    let modest = scene.enter("modest", 0);
    scene.drop_and_run(open);
    scene.drop_and_run(greedy[0].take().unwrap().unwrap());
    assert!(modest.is_done());
    assert_eq!(greedy.iter().filter(|entry| entry.is_done()).count(), 1);
}

#[test]
fn nobody_passes_those_who_wait_however_small() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(60), ..WIDE });
    let _open = scene.pass(30);
    let large = scene.enter("large", 50);
    let small = scene.enter("small", 1);
    assert!(!large.is_done() && !small.is_done());
    scene.simulation.run_for(SECOND * 20);
    assert!(large.is_done() && !small.is_done());
    scene.simulation.run_for(SECOND);
    assert!(small.is_done());
}

#[test]
fn requests_pass_at_the_rate_after_a_minutes_worth() {
    let scene = Scene::new(GateLimits { requests_per_minute: Some(6), ..WIDE });
    let burst: Vec<Pass> = (0..6).map(|_| scene.pass(0)).collect();
    let waiting: Vec<Entry> = (0..3).map(|_| scene.enter("a", 0)).collect();
    for passed in 0..=3 {
        assert_eq!(waiting.iter().filter(|entry| entry.is_done()).count(), passed);
        scene.simulation.run_for(SECOND * 10);
    }
    drop(burst);
}

#[test]
fn tokens_are_reserved_on_entry_and_corrected_when_they_are_known() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(600), ..WIDE });
    let mut pass = scene.pass(500);
    assert_eq!(scene.status().tokens_left, Some(100));
    pass.settle(200);
    assert_eq!(scene.status().tokens_left, Some(400));
    pass.settle(550);
    assert_eq!(scene.status().tokens_left, Some(50));
    drop(pass);
    assert_eq!(scene.status().tokens_left, Some(50), "what was taken stays taken");
    scene.simulation.run_for(SECOND * 10);
    assert_eq!(scene.status().tokens_left, Some(150));
}

#[test]
fn a_refused_request_gives_its_tokens_to_who_waits() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(600), ..WIDE });
    let mut refused = scene.pass(600);
    let next = scene.enter("a", 300);
    refused.refund();
    scene.simulation.run_ready();
    assert!(next.is_done());
    assert_eq!(scene.status().tokens_left, Some(300));
}

#[test]
fn a_request_that_was_never_sent_takes_nothing_of_the_minute() {
    let limits = GateLimits { requests_per_minute: Some(1), tokens_per_minute: Some(60), ..WIDE };
    let scene = Scene::new(limits);
    let mut never_sent = scene.pass(60);
    let next = scene.enter("a", 60);
    never_sent.refund();
    never_sent.refund();
    scene.simulation.run_ready();
    assert!(next.is_done(), "while the other's place isn't even free");
    let left = (scene.status().requests_left, scene.status().tokens_left);
    assert_eq!(left, (Some(0), Some(0)), "and nothing is given back twice");
}

#[test]
fn what_comes_back_too_little_lets_the_first_look_earlier() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(60), ..WIDE });
    let mut pass = scene.pass(60);
    let next = scene.enter("a", 30);
    pass.settle(50);
    scene.simulation.run_for(SECOND * 20);
    assert!(next.is_done());
}

#[test]
fn a_request_larger_than_the_bucket_passes_when_it_is_full_and_leaves_a_debt() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(60), ..WIDE });
    let _small = scene.pass(10);
    let large = scene.enter("a", 90);
    scene.simulation.run_for(SECOND * 9);
    assert!(!large.is_done());
    scene.simulation.run_for(SECOND);
    assert!(large.is_done());
    assert_eq!(scene.status().tokens_left, Some(-30));
    let next = scene.enter("a", 1);
    scene.simulation.run_for(SECOND * 30);
    assert!(!next.is_done());
    scene.simulation.run_for(SECOND);
    assert!(next.is_done());
}

#[test]
fn an_absurd_number_of_tokens_closes_the_gate_for_ten_minutes_at_most() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(60), ..WIDE });
    let mut passes: Vec<Pass> = (0..3).map(|_| scene.pass(0)).collect();
    for pass in &mut passes {
        pass.settle(u64::MAX);
    }
    let _next = scene.enter("a", 60);
    scene.simulation.run_for(MINUTE * 10);
    assert_eq!(scene.counts(), (4, 0));
}

#[test]
fn who_cannot_make_it_is_refused_at_once_and_told_when() {
    let scene = Scene::new(GateLimits { requests_per_minute: Some(60), wait: SECOND * 5, ..WIDE });
    let _burst: Vec<Pass> = (0..60).map(|_| scene.pass(0)).collect();
    let waiting: Vec<Entry> = (0..5).map(|_| scene.enter("a", 0)).collect();
    let full = scene.refused(0);
    assert_eq!(full, Full { reason: FullReason::Wait, retry_after: SECOND * 6 });
    let by_deadline = scene.enter_within("b", 0, SECOND / 2).take().unwrap().unwrap_err();
    assert_eq!(by_deadline, Full { reason: FullReason::Wait, retry_after: SECOND * 2 });
    scene.simulation.run_for(full.retry_after);
    assert!(waiting.iter().all(Task::is_done));
    let _who_came_back = scene.pass(0);
}

#[test]
fn tokens_of_those_ahead_count_for_who_cannot_make_it() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(60), wait: SECOND * 30, ..WIDE });
    let _open = scene.pass(60);
    let ahead = scene.enter("b", 20);
    assert_eq!(scene.refused(20).retry_after, SECOND * 40);
    assert!(!scene.enter("a", 10).is_done());
    ahead.cancel();
    assert!(!scene.enter("a", 20).is_done());
}

#[test]
fn who_was_refused_at_once_leaves_nothing_taken() {
    let scene = Scene::new(GateLimits {
        requests_per_minute: Some(2),
        tokens_per_minute: Some(60),
        wait: Duration::ZERO,
        ..WIDE
    });
    let _open = scene.pass(50);
    scene.refused(20);
    let status = scene.status();
    assert_eq!((status.open, status.waiting), (1, 0));
    assert_eq!((status.requests_left, status.tokens_left), (Some(1), Some(10)));
}

#[test]
fn no_more_wait_than_the_queue_holds() {
    let scene = Scene::new(GateLimits { concurrency: 1, queue: 2, ..WIDE });
    let _open = scene.pass(0);
    let _waiting = [scene.enter("a", 0), scene.enter("b", 0)];
    assert_eq!(scene.refused(0).reason, FullReason::Queue);
    assert_eq!(scene.counts(), (1, 2));
}

#[test]
fn a_full_queue_tells_how_long_it_takes_by_how_it_moved() {
    let scene = Scene::new(GateLimits { concurrency: 1, queue: 2, ..WIDE });
    let mut open = scene.pass(0);
    for _ in 0..4 {
        let next = scene.enter("a", 0);
        scene.simulation.run_for(SECOND * 3);
        scene.drop_and_run(open);
        open = next.take().unwrap().unwrap();
    }
    let _waiting = [scene.enter("a", 0), scene.enter("a", 0)];
    assert_eq!(scene.refused(0).retry_after, SECOND * 9);
}

#[test]
fn a_full_queue_tells_the_refill_of_all_who_wait() {
    let scene = Scene::new(GateLimits { requests_per_minute: Some(60), queue: 2, ..WIDE });
    let _burst: Vec<Pass> = (0..60).map(|_| scene.pass(0)).collect();
    let _waiting = [scene.enter("a", 0), scene.enter("b", 0)];
    let full = scene.refused(0);
    assert_eq!(full, Full { reason: FullReason::Queue, retry_after: SECOND * 3 });
}

#[test]
fn who_waits_for_a_place_gives_up_when_its_time_is_over() {
    let scene = Scene::new(GateLimits { concurrency: 1, wait: SECOND * 8, ..WIDE });
    let _open = scene.pass(0);
    let long = scene.enter("a", 0);
    let short = scene.enter_within("a", 0, SECOND * 3);
    scene.simulation.run_for(SECOND * 3);
    assert_eq!(short.take().unwrap().unwrap_err().reason, FullReason::Wait);
    assert_eq!(scene.counts(), (1, 1));
    scene.simulation.run_for(SECOND * 5);
    let full = long.take().unwrap().unwrap_err();
    assert_eq!(full.reason, FullReason::Wait);
    assert!(full.retry_after >= SHORTEST_RETRY);
    assert_eq!(scene.counts(), (1, 0));
}

#[test]
fn whose_deadline_is_over_is_refused_though_there_is_room() {
    let scene = Scene::new(WIDE);
    let entry = scene.enter_within("a", 0, Duration::ZERO);
    assert_eq!(entry.take().unwrap().unwrap_err().reason, FullReason::Wait);
}

#[test]
fn limits_of_zero_let_nothing_pass_and_say_so() {
    for limits in [
        GateLimits { concurrency: 0, ..WIDE },
        GateLimits { requests_per_minute: Some(0), ..WIDE },
        GateLimits { tokens_per_minute: Some(0), ..WIDE },
    ] {
        assert_eq!(Scene::new(limits).refused(1).reason, FullReason::Never);
    }
    let _free = Scene::new(GateLimits { tokens_per_minute: Some(0), ..WIDE }).pass(0);
}

#[test]
fn who_goes_away_leaves_the_queue_and_its_callers_next_has_the_turn() {
    let scene = Scene::new(GateLimits { concurrency: 1, ..WIDE });
    let open = scene.pass(0);
    let [first, other, second] = ["a", "b", "a"].map(|caller| scene.enter(caller, 0));
    first.cancel();
    assert_eq!(scene.counts(), (1, 2));
    scene.drop_and_run(open);
    assert!(second.is_done() && !other.is_done());
}

#[test]
fn who_goes_away_while_it_watches_the_time_hands_the_watch_on() {
    let scene = Scene::new(GateLimits { requests_per_minute: Some(60), ..WIDE });
    let _burst: Vec<Pass> = (0..60).map(|_| scene.pass(0)).collect();
    let (first, second) = (scene.enter("a", 0), scene.enter("b", 0));
    first.cancel();
    scene.simulation.run_for(SECOND);
    assert!(second.is_done());
}

#[test]
fn who_is_woken_and_goes_away_before_it_looks_passes_the_wake_on() {
    let scene = Scene::new(GateLimits { concurrency: 1, ..WIDE });
    let open = scene.pass(0);
    let (first, second) = (scene.enter("a", 0), scene.enter("b", 0));
    drop(open);
    first.cancel();
    scene.simulation.run_ready();
    assert!(second.is_done());
}

#[test]
fn who_passed_and_goes_away_before_it_knows_gives_everything_back() {
    let scene = Scene::new(GateLimits {
        concurrency: 1,
        requests_per_minute: Some(10),
        tokens_per_minute: Some(60),
        ..WIDE
    });
    let open = scene.pass(10);
    let (first, second) = (scene.enter("a", 40), scene.enter("b", 50));
    drop(open);
    // Another's look lets the first pass before it was polled.
    let now = scene.clock.now();
    scene.gate.with(|state| state.let_pass(now));
    assert_eq!((scene.counts(), scene.status().tokens_left), ((1, 1), Some(10)));
    first.cancel();
    scene.simulation.run_ready();
    assert!(second.is_done());
    let status = scene.status();
    assert_eq!((status.requests_left, status.tokens_left), (Some(8), Some(0)));
}

#[test]
fn raised_limits_let_those_pass_who_wait() {
    let scene = Scene::new(GateLimits { concurrency: 1, requests_per_minute: Some(1), ..WIDE });
    let _open = scene.pass(0);
    let waiting: Vec<Entry> = (0..4).map(|_| scene.enter("a", 0)).collect();
    let passed = || waiting.iter().filter(|entry| entry.is_done()).count();
    scene.gate.set_limits(GateLimits { concurrency: 3, requests_per_minute: None, ..WIDE });
    scene.simulation.run_ready();
    assert_eq!(passed(), 2);
    scene.gate.set_limits(GateLimits { concurrency: 9, requests_per_minute: Some(60), ..WIDE });
    scene.simulation.run_for(SECOND);
    assert_eq!(passed(), 3, "the minute's worth is still used up, and refills faster");
}

#[test]
fn lowered_limits_let_the_open_ones_finish() {
    let scene = Scene::new(GateLimits { concurrency: 3, ..WIDE });
    let [first, second, third] = [(); 3].map(|()| scene.pass(0));
    let waiting = scene.enter("a", 0);
    scene.gate.set_limits(GateLimits { concurrency: 1, ..WIDE });
    for pass in [first, second] {
        scene.drop_and_run(pass);
        assert!(!waiting.is_done());
    }
    scene.drop_and_run(third);
    assert!(waiting.is_done());
}

#[test]
fn a_closed_gate_that_opens_again_lets_those_pass_who_still_wait() {
    let scene = Scene::new(GateLimits { tokens_per_minute: Some(60), ..WIDE });
    let _open = scene.pass(60);
    let waiting = scene.enter("a", 1);
    for closed in
        [GateLimits { tokens_per_minute: Some(0), ..WIDE }, GateLimits { concurrency: 0, ..WIDE }]
    {
        scene.gate.set_limits(closed);
        scene.simulation.run_for(MINUTE * 2);
        assert!(!waiting.is_done());
    }
    scene.gate.set_limits(WIDE);
    scene.simulation.run_ready();
    assert!(waiting.is_done());
}

#[test]
fn reloads_give_nothing_away() {
    let limits = |tokens| GateLimits { tokens_per_minute: tokens, ..WIDE };
    let scene = Scene::new(limits(Some(60)));
    let _open = scene.pass(60);
    for tokens in [Some(6000), Some(6), None, Some(60)] {
        scene.gate.set_limits(limits(tokens));
    }
    assert_eq!(scene.status().tokens_left, Some(0));
}

#[test]
fn people_are_shown_limits_use_and_what_is_left() {
    let limits = GateLimits {
        concurrency: 2,
        requests_per_minute: Some(100),
        tokens_per_minute: Some(1000),
        ..WIDE
    };
    let scene = Scene::new(limits);
    let _open = [scene.pass(300), scene.pass(200)];
    let _waiting = ["a", "a", "b"].map(|caller| scene.enter(caller, 1));
    let expected = GateStatus {
        limits,
        open: 2,
        waiting: 3,
        callers_waiting: 2,
        requests_left: Some(98),
        tokens_left: Some(500),
    };
    assert_eq!(scene.status(), expected);
}

/// Counts how often it is polled.
struct Polled<F>(Pin<Box<F>>, Rc<Cell<usize>>);

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<F::Output> {
        self.1.set(self.1.get() + 1);
        self.0.as_mut().poll(context)
    }
}

impl Scene {
    fn crowd(&self, number: usize, polls: &Rc<Cell<usize>>) -> Vec<Entry> {
        let crowd = (0..number)
            .map(|number| {
                let (gate, clock) = (self.gate.clone(), self.clock.clone());
                let caller: Arc<str> = format!("caller {}", number % 7).into();
                let deadline = clock.now() + MINUTE * 60;
                let enter = async move { gate.enter(&clock, &caller, 1, deadline).await };
                self.simulation.spawn(Polled(Box::pin(enter), Rc::clone(polls)))
            })
            .collect();
        self.simulation.run_ready();
        polls.set(0);
        crowd
    }
}

#[test]
fn exactly_as_many_are_woken_as_places_become_free() {
    let scene = Scene::new(GateLimits { concurrency: 10, ..WIDE });
    let mut open: Vec<Pass> = (0..10).map(|_| scene.pass(0)).collect();
    let polls = Rc::default();
    let crowd = scene.crowd(500, &polls);
    for freed in [1, 5] {
        polls.set(0);
        open.truncate(open.len() - freed);
        scene.simulation.run_ready();
        assert_eq!(polls.get(), freed);
    }
    assert_eq!(crowd.iter().filter(|entry| entry.is_done()).count(), 6);
}

#[test]
fn a_refill_wakes_who_passes_and_the_next_to_watch() {
    let scene = Scene::new(GateLimits { requests_per_minute: Some(60), ..WIDE });
    let _open: Vec<Pass> = (0..60).map(|_| scene.pass(0)).collect();
    let polls = Rc::default();
    let crowd = scene.crowd(500, &polls);
    scene.simulation.run_for(SECOND * 10);
    assert_eq!(crowd.iter().filter(|entry| entry.is_done()).count(), 10);
    assert_eq!(polls.get(), 20);
}

#[test]
fn entering_can_move_between_threads() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let (gate, caller) = (Gate::new(WIDE), Arc::from("a"));
    let deadline = Instant::now();
    drop(sent(gate.enter(&SystemClock, &caller, 1, deadline)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_with_cancellations_nobody_is_lost() {
    use std::sync::atomic::{AtomicU32, Ordering};

    const MOST: u32 = 3;
    let gate = Gate::new(GateLimits { concurrency: MOST, queue: 10_000, ..WIDE });
    let inside = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..2000u32)
        .map(|number| {
            let (gate, inside) = (gate.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let caller: Arc<str> = (number % 13).to_string().into();
                let deadline = Instant::now() + MINUTE;
                let enter = gate.enter(&SystemClock, &caller, 1, deadline);
                let pass = if number % 3 == 0 {
                    let patience = Duration::from_micros(u64::from(number) * 5);
                    match tokio::time::timeout(patience, enter).await {
                        Ok(entry) => entry,
                        Err(_) => return,
                    }
                } else {
                    enter.await
                };
                assert!(pass.is_ok());
                assert!(inside.fetch_add(1, Ordering::SeqCst) < MOST);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let status = gate.status(Instant::now());
    assert_eq!((status.open, status.waiting, status.callers_waiting), (0, 0, 0));
}
