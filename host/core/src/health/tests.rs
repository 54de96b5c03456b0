use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A health on a clock of its own, and everything it told.
struct Bench {
    health: Health,
    now: Instant,
    told: Arc<Mutex<Vec<Transition>>>,
}

fn provider(name: &str) -> ProviderName {
    ProviderName::new(name).unwrap()
}

fn model(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

fn trouble(kind: FailureKind) -> Trouble {
    Trouble { symptom: kind.into(), fault: Fault::Vendor, retry_after: None, reach: Reach::Model }
}

fn limit(retry_after: Option<Duration>, reach: Reach) -> Trouble {
    Trouble { fault: Fault::Host, retry_after, reach, ..trouble(FailureKind::RateLimited) }
}

fn unreached() -> Trouble {
    Trouble { fault: Fault::Transport, reach: Reach::Provider, ..trouble(FailureKind::Unavailable) }
}

impl Bench {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        let health = Health::new(HealthOptions::default(), seed, move |transition| {
            listener.lock().unwrap().push(transition.clone());
        });
        Self { health, now: Instant::now(), told }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn standing(&self, p: &str, m: &str) -> Standing {
        self.health.standing(&provider(p), &model(m), self.now)
    }

    fn admit(&self, p: &str, m: &str) -> Result<Ticket, Refused> {
        self.health.admit(&provider(p), &model(m), self.now)
    }

    fn ok(&self, p: &str, m: &str) {
        self.admit(p, m).unwrap().succeeded(Took::First(100 * MS), self.now);
    }

    fn bad(&self, p: &str, m: &str, trouble: Trouble) {
        self.admit(p, m).unwrap().failed(trouble, self.now);
    }

    fn fails(&self, p: &str, m: &str, times: u32) {
        (0..times).for_each(|_| self.bad(p, m, trouble(FailureKind::Unavailable)));
    }

    /// Until when it is down, from now.
    fn down(&self, p: &str, m: &str) -> Option<(Duration, Why)> {
        match self.standing(p, m) {
            Standing::Down { until, why } => Some((until - self.now, why)),
            _ => None,
        }
    }

    /// To the end of what shuts it.
    fn wait_out(&mut self, p: &str, m: &str) {
        let (left, _) = self.down(p, m).unwrap();
        self.wait(left);
    }

    fn told(&self) -> Vec<Change> {
        self.told.lock().unwrap().drain(..).map(|transition| transition.change).collect()
    }
}

// What opens.

#[test]
fn five_failures_in_a_row_open_and_a_success_between_does_not() {
    let bench = Bench::new();
    bench.fails("a", "m", 4);
    bench.ok("a", "m");
    bench.fails("a", "m", 4);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    bench.fails("a", "m", 1);
    let (left, why) = bench.down("a", "m").unwrap();
    assert!(left <= 5 * SECOND && left >= 4 * SECOND);
    assert_eq!(why, Why::Failing(FailureKind::Unavailable.into()));
    assert!(bench.admit("a", "m").is_err());
    assert_eq!(bench.standing("a", "other"), Standing::Healthy);
    assert_eq!(bench.standing("b", "m"), Standing::Healthy);
}

#[test]
fn every_second_attempt_failing_opens_at_ten() {
    let mut bench = Bench::new();
    for n in 1..=9 {
        if n % 2 == 0 {
            bench.fails("a", "m", 1)
        } else {
            bench.ok("a", "m")
        }
        bench.wait(SECOND);
        assert_eq!(bench.standing("a", "m"), Standing::Healthy, "{n}");
    }
    bench.fails("a", "m", 1);
    assert!(bench.down("a", "m").is_some());
}

#[test]
fn failures_that_are_old_do_not_count_in_the_share() {
    let mut bench = Bench::new();
    for _ in 0..40 {
        bench.fails("a", "m", 1);
        bench.ok("a", "m");
        bench.wait(8 * SECOND);
    }
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
}

#[test]
fn what_the_request_asks_and_the_hosts_own_trouble_never_count() {
    use FailureKind::*;
    let bench = Bench::new();
    let kinds = [InvalidRequest, ContextTooLong, ContentBlocked, Unsupported, HostBusy, Sealed];
    let own = [Timeout, Other, Unavailable, Plugin].map(|kind| (kind, Fault::Host));
    for (kind, fault) in kinds.map(|kind| (kind, Fault::Vendor)).into_iter().chain(own) {
        for _ in 0..20 {
            bench.bad("a", "m", Trouble { fault, ..trouble(kind) });
        }
        assert_eq!(bench.standing("a", "m"), Standing::Healthy, "{kind:?}");
    }
    assert!(bench.health.report(bench.now).is_empty(), "nothing is kept of it");
}

#[test]
fn every_failure_of_the_vendor_counts() {
    use FailureKind::*;
    for kind in [Overloaded, Unavailable, Timeout, MalformedAnswer, Plugin, Other] {
        let bench = Bench::new();
        (0..5).for_each(|_| bench.bad("a", "m", trouble(kind)));
        assert_eq!(bench.down("a", "m").unwrap().1, Why::Failing(kind.into()));
        assert_eq!(bench.standing("a", "other"), Standing::Healthy);
    }
}

#[test]
fn a_dead_key_takes_the_provider_down_at_once_and_for_long() {
    for kind in [FailureKind::Authentication, FailureKind::QuotaExhausted] {
        let bench = Bench::new();
        bench.ok("a", "other");
        bench.bad("a", "m", Trouble { fault: Fault::Host, ..trouble(kind) });
        let (left, why) = bench.down("a", "other").unwrap();
        assert!(left >= 240 * SECOND && left <= 300 * SECOND);
        assert_eq!(why, Why::Failing(kind.into()));
    }
}

#[test]
fn a_missing_or_forbidden_model_is_down_alone_however_many_names_are_made_up() {
    for kind in [FailureKind::ModelNotFound, FailureKind::Permission] {
        let bench = Bench::new();
        for n in 0..100 {
            let name = format!("made-up-{n}");
            bench.bad("a", &name, Trouble { fault: Fault::Caller, ..trouble(kind) });
            assert!(bench.down("a", &name).is_some());
        }
        assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    }
}

#[test]
fn a_connection_that_cannot_be_made_takes_the_provider_down() {
    let bench = Bench::new();
    (0..5).for_each(|_| bench.bad("a", "m", unreached()));
    assert!(bench.down("a", "other").is_some());
}

#[test]
fn several_models_failing_with_nothing_served_take_the_provider_down() {
    let bench = Bench::new();
    bench.fails("a", "m1", 2);
    bench.fails("a", "m2", 2);
    assert_eq!(bench.standing("a", "m3"), Standing::Healthy);
    bench.fails("a", "m1", 1);
    assert!(bench.down("a", "m3").is_some());
}

#[test]
fn one_model_failing_leaves_the_provider_and_so_do_two_while_a_third_serves() {
    let bench = Bench::new();
    bench.fails("a", "m1", 5);
    assert_eq!(bench.standing("a", "m3"), Standing::Healthy);
    let bench = Bench::new();
    for _ in 0..4 {
        bench.fails("a", "m1", 1);
        bench.fails("a", "m2", 1);
        bench.ok("a", "m3");
    }
    assert_eq!(bench.standing("a", "m3"), Standing::Healthy);
}

#[test]
fn a_failure_tells_by_its_code_whether_the_provider_was_reached() {
    let reach = |code: &str| {
        let mut failure = Failure::new(FailureKind::Timeout, Fault::Transport, "");
        failure.code = Some(code.into());
        Trouble::from(&failure).reach
    };
    assert_eq!(reach("connect_timeout"), Reach::Provider);
    assert_eq!(reach("idle_timeout"), Reach::Model);
}

#[test]
fn breakers_that_open_together_do_not_ask_again_together() {
    let waits: std::collections::BTreeSet<Duration> = (0..50)
        .map(|seed| {
            let bench = Bench::seeded(seed);
            (0..5).for_each(|_| bench.bad("a", "m", trouble(FailureKind::Unavailable)));
            bench.down("a", "m").unwrap().0
        })
        .collect();
    assert!(waits.len() > 40, "{waits:?}");
}

#[test]
fn what_broke_a_connection_is_told_by_its_code() {
    let bench = Bench::new();
    let mut failure = Failure::new(FailureKind::Unavailable, Fault::Transport, "");
    failure.code = Some("tls_error".into());
    (0..5).for_each(|_| bench.bad("a", "m", Trouble::from(&failure)));
    let (_, why) = bench.down("a", "n").unwrap();
    assert_eq!(why.to_string(), "tls_error");

    // By its own word a vendor can claim anything.
    failure.status = Some(503);
    (0..5).for_each(|_| bench.bad("b", "m", Trouble::from(&failure)));
    assert_eq!(bench.down("b", "m").unwrap().1.to_string(), "unavailable");
    assert_eq!(bench.down("b", "n"), None);
}

#[test]
fn a_name_that_leads_elsewhere_rests_the_provider_no_longer_than_any_broken_connection() {
    let bench = Bench::new();
    let mut failure = Failure::new(FailureKind::Permission, Fault::Host, "");
    failure.code = Some("egress_denied".into());
    let denied = || bench.bad("a", "m", Trouble::from(&failure));
    denied();
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    (0..4).for_each(|_| denied());
    let (until, why) = bench.down("a", "n").unwrap();
    assert_eq!(why.to_string(), "egress_denied");
    assert!(until < Duration::from_secs(10));
}

#[test]
fn answers_that_begin_well_and_break_off_open_too() {
    let bench = Bench::new();
    for _ in 0..5 {
        bench.ok("a", "m");
        let cut = trouble(FailureKind::MalformedAnswer);
        bench.health.broke_off(&provider("a"), &model("m"), cut, bench.now);
    }
    assert!(bench.down("a", "m").is_some());
}

#[test]
fn what_was_on_its_way_when_it_opened_neither_lengthens_nor_closes_it() {
    let mut bench = Bench::new();
    let mut tickets: VecDeque<_> = (0..50).map(|_| bench.admit("a", "m").unwrap()).collect();
    // The first finding makes the name known; attempts from before it count like any other.
    for _ in 0..5 {
        tickets.pop_front().unwrap().failed(trouble(FailureKind::Unavailable), bench.now);
    }
    let shut = bench.down("a", "m").unwrap();
    for ticket in tickets.drain(..30) {
        ticket.failed(trouble(FailureKind::Unavailable), bench.now);
    }
    assert_eq!(bench.down("a", "m").unwrap(), shut);
    tickets.pop_front().unwrap().succeeded(Took::First(MS), bench.now);
    assert_eq!(bench.down("a", "m").unwrap(), shut);
    bench.wait_out("a", "m");
    let trial = bench.admit("a", "m").unwrap();
    tickets.drain(..8).for_each(drop);
    assert!(bench.admit("a", "m").is_err(), "a place isn't freed by who doesn't hold it");
    trial.succeeded(Took::First(MS), bench.now);
    for ticket in tickets {
        ticket.failed(trouble(FailureKind::Unavailable), bench.now);
    }
    assert_eq!(bench.standing("a", "m"), Standing::Healthy, "old failures shut it again");
}

#[test]
fn other_thresholds_hold_from_now_on_and_nothing_is_forgotten() {
    let mut bench = Bench::new();
    let usual = HealthOptions::default();
    bench.fails("a", "m", 3);
    bench.fails("b", "m", 5);
    let (left, _) = bench.down("b", "m").unwrap();
    bench.health.judge_by(HealthOptions { failures: 4, open: 60 * SECOND, ..usual.clone() });
    assert_eq!(bench.down("b", "m").unwrap().0, left, "it rests for the time it was told");
    bench.fails("a", "m", 1);
    let (left, _) = bench.down("a", "m").unwrap();
    assert!((48 * SECOND..=60 * SECOND).contains(&left), "{left:?}");
    bench.wait_out("b", "m");
    bench.fails("b", "m", 1);
    let (left, _) = bench.down("b", "m").unwrap();
    assert!((96 * SECOND..=120 * SECOND).contains(&left), "the second time: {left:?}");

    bench.health.judge_by(HealthOptions { ratio_percent: 20, ratio_of: 5, ..usual });
    (0..4).for_each(|_| bench.ok("c", "m"));
    assert_eq!(bench.standing("c", "m"), Standing::Healthy);
    bench.fails("c", "m", 1);
    assert!(bench.down("c", "m").is_some());
}

#[test]
fn what_was_counted_in_one_window_counts_in_another_and_leaves_it() {
    let recent = |bench: &Bench| {
        let lines = bench.health.report(bench.now);
        lines.into_iter().find(|line| line.model.is_some()).unwrap().recent
    };
    for (before, after) in [(30, 60), (60, 30), (30, 3_600)] {
        let mut bench = Bench::new();
        let window =
            |seconds| HealthOptions { window: seconds * SECOND, ..HealthOptions::default() };
        bench.health.judge_by(window(before));
        for _ in 0..40 {
            bench.ok("a", "m");
            bench.wait(30 * SECOND);
        }
        bench.fails("a", "m", 2);
        bench.ok("a", "m");
        let counted = recent(&bench);
        assert!(counted.0 >= 1 && counted.1 == 2);
        bench.health.judge_by(window(after));
        assert_eq!(recent(&bench), counted);
        // The first that is counted afterwards cuts the slots.
        bench.ok("a", "m");
        assert_eq!(recent(&bench), (counted.0 + 1, 2));
        bench.wait(after * SECOND + SECOND);
        assert_eq!(recent(&bench), (0, 0), "{before} to {after}");
    }
}

// Probation and the way back.

#[test]
fn in_probation_exactly_one_attempt_gets_leave() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.wait_out("a", "m");
    assert_eq!(bench.standing("a", "m"), Standing::Probation);
    let trial = bench.admit("a", "m").unwrap();
    for _ in 0..100 {
        let Err(Refused::Down { until, why: Why::Trying }) = bench.admit("a", "m") else {
            panic!("a second one was let through");
        };
        assert_eq!(until, bench.now + ASK_AGAIN);
    }
    drop(trial);
    assert_eq!(bench.standing("a", "m"), Standing::Probation, "given up, it frees the place");
    let trial = bench.admit("a", "m").unwrap();
    trial.failed(trouble(FailureKind::InvalidRequest), bench.now);
    assert_eq!(bench.standing("a", "m"), Standing::Probation, "so does the caller's mistake");
}

#[test]
fn each_failed_probation_doubles_the_time_up_to_five_minutes() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    for most in [5, 10, 20, 40, 80, 160, 300, 300] {
        let (left, _) = bench.down("a", "m").unwrap();
        assert!(left <= most * SECOND && left >= most * SECOND * 4 / 5, "{most}: {left:?}");
        bench.wait(left);
        bench.fails("a", "m", 1);
    }
}

#[test]
fn one_who_falls_ill_again_soon_is_left_alone_longer_and_one_who_was_well_long_is_not() {
    let mut bench = Bench::new();
    let shut_again = |bench: &mut Bench, well: Duration| {
        bench.wait_out("a", "m");
        bench.ok("a", "m");
        bench.wait(well);
        bench.fails("a", "m", 5);
        bench.down("a", "m").unwrap().0
    };
    bench.fails("a", "m", 5);
    assert!(shut_again(&mut bench, 10 * SECOND) > 5 * SECOND);
    assert!(shut_again(&mut bench, 40 * SECOND) <= 5 * SECOND);
}

#[test]
fn after_probation_the_way_back_is_a_ramp_that_doubles_each_round() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.wait_out("a", "m");
    bench.ok("a", "m");
    for allowed in [1, 2, 4, 8, 16, 32] {
        let tickets: Vec<_> = std::iter::from_fn(|| bench.admit("a", "m").ok()).take(99).collect();
        assert_eq!(tickets.len(), allowed);
        assert_eq!(bench.down("a", "m").unwrap().1, Why::Recovering);
        tickets.into_iter().for_each(|ticket| ticket.succeeded(Took::First(MS), bench.now));
    }
    let all: Vec<_> = (0..1_000).map(|_| bench.admit("a", "m").unwrap()).collect();
    drop(all);
}

#[test]
fn a_ramp_ends_within_thirty_seconds_even_if_answers_take_minutes() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.wait_out("a", "m");
    bench.ok("a", "m");
    let mut under_way = Vec::new();
    for step in 0..6 {
        under_way.extend(std::iter::from_fn(|| bench.admit("a", "m").ok()));
        assert_eq!(under_way.len(), 1 << step);
        bench.wait(RAMP_STEP);
    }
    under_way.extend((0..1_000).map(|_| bench.admit("a", "m").unwrap()));
}

#[test]
fn one_in_ten_failing_does_not_keep_a_provider_from_coming_back() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.wait_out("a", "m");
    bench.ok("a", "m");
    for n in 0..200 {
        if n % 10 == 5 {
            bench.fails("a", "m", 1)
        } else {
            bench.ok("a", "m")
        }
        bench.wait(100 * MS);
    }
    bench.wait(10 * SECOND);
    let all: Vec<_> = (0..200).map(|_| bench.admit("a", "m").unwrap()).collect();
    drop(all);
}

#[test]
fn a_flapping_vendor_is_left_alone_most_of_the_time_and_never_tried_by_two() {
    let mut bench = Bench::new();
    let (mut sent, mut offered, mut random) = (0, 0, backoff::Source::new(3));
    for _ in 0..6_000 {
        bench.wait(100 * MS);
        let probation = bench.standing("a", "m") == Standing::Probation;
        let tickets: Vec<_> = (0..10).filter_map(|_| bench.admit("a", "m").ok()).collect();
        assert!(!probation || tickets.len() == 1);
        (sent, offered) = (sent + tickets.len(), offered + 10);
        for ticket in tickets {
            if random.random() % 2 == 0 {
                ticket.succeeded(Took::First(MS), bench.now);
            } else {
                ticket.failed(trouble(FailureKind::Unavailable), bench.now);
            }
        }
    }
    assert!(sent * 20 < offered, "{sent} of {offered}");
}

// Rate limits.

#[test]
fn a_rate_limit_cools_down_the_model_alone_and_is_no_failure() {
    let mut bench = Bench::new();
    bench.bad("a", "m", limit(Some(20 * SECOND), Reach::Model));
    let (left, why) = bench.down("a", "m").unwrap();
    assert!(left >= 20 * SECOND && left <= 22 * SECOND);
    assert_eq!(why, Why::CoolingDown);
    assert_eq!(bench.standing("a", "other"), Standing::Healthy);
    bench.wait_out("a", "m");
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
}

#[test]
fn a_limit_of_the_provider_holds_for_all_its_models() {
    let bench = Bench::new();
    bench.bad("c", "m", limit(Some(20 * SECOND), Reach::Provider));
    assert!(bench.down("c", "other").is_some());
    assert_eq!(bench.standing("d", "m"), Standing::Healthy);
}

#[test]
fn a_limit_of_one_key_leaves_the_provider_to_its_others() {
    let bench = Bench::new();
    let (one, two) = (Quota("a#1".into()), Quota("a#2".into()));
    bench.bad("a", "m", limit(Some(20 * SECOND), Reach::Key(one.clone())));
    assert!(bench.health.cooled(&one, bench.now).is_some());
    assert_eq!(bench.health.cooled(&two, bench.now), None);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
}

#[test]
fn limits_over_and_over_become_a_matter_for_the_breaker() {
    let mut bench = Bench::new();
    for _ in 0..7 {
        bench.bad("a", "m", limit(Some(SECOND), Reach::Model));
        assert_eq!(bench.down("a", "m").unwrap().1, Why::CoolingDown);
        bench.wait_out("a", "m");
    }
    bench.bad("a", "m", limit(Some(SECOND), Reach::Model));
    assert_eq!(bench.down("a", "m").unwrap().1, Why::Failing(FailureKind::RateLimited.into()));
}

#[test]
fn after_a_cool_down_nobody_rushes_in() {
    let mut bench = Bench::new();
    bench.bad("a", "m", limit(Some(SECOND), Reach::Model));
    bench.wait_out("a", "m");
    let first: Vec<_> = std::iter::from_fn(|| bench.admit("a", "m").ok()).take(99).collect();
    assert_eq!(first.len(), 1);
}

/// 200 requests a second, each sent to the limited vendor if that is let through, and elsewhere if
/// it was refused or failed; answers take 50 ms. Returns what was sent over what was offered.
fn amplification(told: impl Fn(u32) -> Option<Duration>) -> f64 {
    let mut bench = Bench::new();
    let (mut sent, mut limits, mut under_way) = (0_u32, 0, VecDeque::new());
    let offered = 200 * 60;
    for _ in 0..offered {
        bench.wait(5 * MS);
        while under_way.front().is_some_and(|(at, _)| *at <= bench.now) {
            let (_, ticket): (Instant, Ticket) = under_way.pop_front().unwrap();
            limits += 1;
            ticket.failed(limit(told(limits), Reach::Model), bench.now);
            sent += 1;
        }
        if let Ok(ticket) = bench.admit("a", "m") {
            under_way.push_back((bench.now + 50 * MS, ticket));
        }
        sent += 1;
    }
    f64::from(sent) / f64::from(offered)
}

#[test]
fn a_storm_of_limits_is_not_amplified() {
    let storms: [fn(u32) -> Option<Duration>; 5] = [
        |_| None,
        |_| Some(Duration::ZERO),
        |_| Some(20 * MS),
        |_| Some(SECOND),
        |n| (n % 2 == 0).then_some(Duration::from_secs(1_000_000_000)),
    ];
    for (at, storm) in storms.into_iter().enumerate() {
        let factor = amplification(storm);
        assert!(factor <= 1.02, "{at}: {factor}");
    }
}

// People and probes.

#[test]
fn a_disabled_provider_is_refused_and_says_by_whom_until_enabled() {
    let bench = Bench::new();
    bench.health.disable(&provider("a"), "anna", bench.now);
    assert_eq!(bench.admit("a", "m").err(), Some(Refused::Disabled { by: "anna".into() }));
    bench.health.enable(&provider("a"), bench.now);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    let told = [Change::Disabled { by: "anna".into() }, Change::Released];
    assert_eq!(bench.told(), told);
}

#[test]
fn switched_off_nothing_that_is_found_counts_and_an_operators_word_still_does() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.bad("b", "m", limit(Some(40 * SECOND), Reach::Provider));
    let trial = {
        bench.wait_out("a", "m");
        bench.admit("a", "m").unwrap()
    };
    bench.told();
    bench.health.watch(false);
    for p in ["a", "b", "c"] {
        assert_eq!(bench.standing(p, "m"), Standing::Healthy);
        bench.fails(p, "m", 20);
        bench.bad(p, "m", limit(None, Reach::Provider));
        bench.bad(p, "m", trouble(FailureKind::Authentication));
        bench.health.probed(&provider(p), None, Err(FailureKind::Authentication), bench.now);
        assert_eq!(bench.standing(p, "m"), Standing::Healthy);
    }
    trial.failed(trouble(FailureKind::Unavailable), bench.now);
    assert_eq!(bench.told(), [], "nobody hears of it");
    bench.ok("c", "m");
    let latency = bench.health.latency(&provider("c"), &model("m"), bench.now);
    assert_eq!(latency, Some(100 * MS), "how fast it is, is learned");

    bench.health.disable(&provider("c"), "anna", bench.now);
    assert_eq!(bench.admit("c", "m").err(), Some(Refused::Disabled { by: "anna".into() }));
    bench.health.enable(&provider("c"), bench.now);

    bench.health.watch(true);
    assert_eq!(bench.standing("c", "m"), Standing::Healthy, "nothing was noted meanwhile");
    assert_eq!(bench.standing("a", "m"), Standing::Probation, "the trial gave its place back");
    assert!(bench.down("b", "m").is_some(), "a cool-down that isn't over goes on");
}

#[test]
fn several_models_are_looked_at_as_each_is() {
    let mut bench = Bench::new();
    bench.ok("a", "m");
    bench.fails("a", "n", 5);
    bench.wait(SECOND);
    for p in ["a", "b"] {
        let models = ["m", "n", "o"].map(model);
        let each = models.iter().map(|m| {
            let provider = provider(p);
            let standing = bench.health.standing(&provider, m, bench.now);
            (standing, bench.health.latency(&provider, m, bench.now))
        });
        let all: Vec<&ModelName> = models.iter().collect();
        let fares = bench.health.fares(&provider(p), &all, bench.now);
        assert_eq!(fares, each.collect::<Vec<_>>());
    }
}

#[test]
fn a_forced_provider_is_healthy_whatever_happens_and_what_was_found_holds_afterwards() {
    let bench = Bench::new();
    bench.health.force(&provider("a"), "anna", bench.now);
    bench.fails("a", "m", 20);
    let lines = bench.health.report(bench.now);
    assert!(lines.iter().all(|line| line.standing == Standing::Healthy));
    assert_eq!(bench.told().len(), 2, "forced and opened, and not opened over and over");
    bench.bad("a", "m", trouble(FailureKind::Authentication));
    bench.bad("a", "m", limit(None, Reach::Provider));
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    bench.health.enable(&provider("a"), bench.now);
    assert!(bench.down("a", "m").is_some());
}

#[test]
fn a_forced_provider_that_serves_again_is_closed() {
    let bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.health.force(&provider("a"), "anna", bench.now);
    bench.ok("a", "m");
    bench.health.enable(&provider("a"), bench.now);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
}

#[test]
fn a_probe_that_answers_closes_what_it_can_judge() {
    let name = provider("a");
    let well =
        |bench: &Bench| bench.health.probed(&name, None, Ok::<_, FailureKind>(MS), bench.now);
    let bench = Bench::new();
    (0..5).for_each(|_| bench.bad("a", "m", unreached()));
    well(&bench);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);

    let bench = Bench::new();
    bench.bad("a", "m", trouble(FailureKind::Authentication));
    well(&bench);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);

    let bench = Bench::new();
    bench.fails("a", "m1", 3);
    bench.fails("a", "m2", 2);
    well(&bench);
    assert_eq!(bench.standing("a", "m3"), Standing::Probation);

    let bench = Bench::new();
    bench.bad("a", "m", trouble(FailureKind::QuotaExhausted));
    well(&bench);
    assert!(bench.down("a", "m").is_some(), "listing models costs no credit");
}

#[test]
fn three_failed_probes_or_one_refused_key_open_and_a_limited_probe_says_nothing() {
    let bench = Bench::new();
    let probed = |kind| bench.health.probed(&provider("a"), None, Err(kind), bench.now);
    (0..9).for_each(|_| probed(FailureKind::RateLimited));
    (0..9).for_each(|_| probed(FailureKind::Unsupported));
    (0..2).for_each(|_| probed(FailureKind::Timeout));
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    probed(FailureKind::Timeout);
    assert!(bench.down("a", "m").is_some());
    let bench = Bench::new();
    bench.health.probed(&provider("a"), None, Err(FailureKind::Authentication), bench.now);
    assert!(bench.down("a", "m").is_some());
}

#[test]
fn a_probe_that_fails_in_probation_spares_a_caller_the_attempt() {
    let mut bench = Bench::new();
    (0..5).for_each(|_| bench.bad("a", "m", unreached()));
    bench.wait_out("a", "m");
    bench.health.probed(&provider("a"), None, Err(FailureKind::Timeout), bench.now);
    assert!(bench.down("a", "m").unwrap().0 > 5 * SECOND);
}

#[test]
fn a_new_key_is_tried_at_once_by_one_and_answers_to_the_old_one_say_nothing() {
    let bench = Bench::new();
    bench.ok("a", "m");
    let old: Vec<_> = (0..3).map(|_| bench.admit("a", "m").unwrap()).collect();
    bench.bad("a", "m", trouble(FailureKind::Authentication));
    bench.bad("b", "m", limit(Some(50 * SECOND), Reach::Provider));
    for name in ["a", "b"] {
        bench.health.credential_changed(&provider(name), bench.now);
    }
    old.into_iter().for_each(|o| o.failed(trouble(FailureKind::Authentication), bench.now));
    assert_eq!(bench.standing("a", "m"), Standing::Probation);
    assert_eq!(bench.standing("b", "m"), Standing::Healthy);
}

#[test]
fn a_rejection_of_the_old_key_takes_no_new_one_out() {
    let bench = Bench::new();
    let key = Quota("a@k".into());
    let rejected = |reach| {
        let symptom = FailureKind::Authentication.into();
        Trouble { symptom, fault: Fault::Vendor, retry_after: None, reach }
    };
    for reach in [Reach::Model, Reach::Key(key.clone())] {
        let old = bench.admit("a", "m").unwrap();
        bench.health.credential_changed(&provider("a"), bench.now);
        old.failed(rejected(reach.clone()), bench.now);
        assert_eq!(bench.standing("a", "m"), Standing::Healthy, "{reach:?}");
        assert_eq!(bench.health.cooled(&key, bench.now), None, "{reach:?}");
    }
    bench.bad("a", "m", rejected(Reach::Key(key.clone())));
    assert!(bench.health.cooled(&key, bench.now).is_some(), "the new one is rejected as well");
}

#[test]
fn probes_are_spread_out_and_each_is_due_once_in_an_interval() {
    let mut bench = Bench::new();
    let names: Vec<_> = (0..30).map(|n| provider(&format!("p{n}"))).collect();
    let (mut most, mut probes) = (0, HashMap::<_, u32>::new());
    for _ in 0..300 {
        let due = bench.health.due(&names, 30 * SECOND, bench.now);
        most = most.max(due.len());
        due.into_iter().for_each(|name| *probes.entry(name).or_default() += 1);
        bench.wait(SECOND);
    }
    assert!(most <= 6, "{most} at once");
    assert!(names.iter().all(|name| (9..=13).contains(&probes[name])), "{probes:?}");
}

#[test]
fn the_failing_are_probed_sooner_the_disabled_and_the_busy_not_at_all() {
    let mut bench = Bench::new();
    let names = ["ill", "off", "busy", "idle"].map(provider);
    bench.health.disable(&names[1], "anna", bench.now);
    let mut probes = HashMap::<_, u32>::new();
    for _ in 0..600 {
        bench.ok("busy", "m");
        for name in bench.health.due(&names, 30 * SECOND, bench.now) {
            if name == names[0] {
                bench.health.probed(&name, None, Err(FailureKind::Timeout), bench.now);
            }
            *probes.entry(name).or_default() += 1;
        }
        bench.wait(SECOND);
    }
    assert!(probes[&names[0]] > 2 * probes[&names[3]], "{probes:?}");
    assert!(!probes.contains_key(&names[1]) && !probes.contains_key(&names[2]), "{probes:?}");
}

// Telling, keeping, forgetting.

#[test]
fn every_change_is_told_once_and_in_order() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    let Standing::Down { until, .. } = bench.standing("a", "m") else { panic!("it isn't down") };
    bench.wait_out("a", "m");
    bench.ok("a", "m");
    let kind = FailureKind::Unavailable;
    assert_eq!(
        bench.told(),
        [Change::Opened { symptom: kind.into(), until }, Change::Probation, Change::Closed]
    );
    bench.bad("a", "m", limit(None, Reach::Model));
    assert!(matches!(bench.told()[..], [Change::CooledDown { .. }]));
}

#[test]
fn latency_is_that_of_the_first_content() {
    let bench = Bench::new();
    let latency = |m: &str| bench.health.latency(&provider("a"), &model(m), bench.now);
    assert_eq!(latency("m"), None);
    bench.ok("a", "m");
    bench.fails("a", "m", 1);
    assert_eq!(latency("m"), Some(100 * MS));
    assert_eq!(latency("other"), None);
}

#[test]
fn a_report_has_a_line_for_each_provider_and_model() {
    let bench = Bench::new();
    bench.ok("b", "m");
    bench.fails("a", "m", 5);
    let lines = bench.health.report(bench.now);
    let names: Vec<_> = lines
        .iter()
        .map(|line| (line.provider.as_str(), line.model.as_ref().map(ModelName::as_str)))
        .collect();
    assert_eq!(names, [("a", None), ("a", Some("m")), ("b", None), ("b", Some("m"))]);
    assert!(matches!(lines[1].standing, Standing::Down { .. }));
    assert_eq!((lines[1].streak, lines[1].recent), (5, (0, 5)));
    assert_eq!(lines[3].served, Some(bench.now));
}

#[test]
fn names_made_up_by_callers_push_out_nothing_that_ever_served() {
    let mut bench = Bench::new();
    bench.ok("a", "real");
    bench.fails("a", "real", 5);
    for n in 0..3 * MAX_PAIRS {
        bench.wait(MS);
        let absent = Trouble { fault: Fault::Caller, ..trouble(FailureKind::ModelNotFound) };
        bench.bad("b", &format!("x{n}"), absent);
    }
    let lines = bench.health.report(bench.now).into_iter().filter(|line| line.model.is_some());
    assert!(lines.clone().count() <= MAX_PAIRS);
    assert!(lines.clone().any(|line| line.model == Some(model("real"))));
    assert_eq!(bench.health.book().pairs, lines.count());
}

#[test]
fn providers_are_bounded_and_what_people_set_stays_longest() {
    let mut bench = Bench::new();
    bench.health.disable(&provider("off"), "anna", bench.now);
    for n in 0..2 * MAX_PROVIDERS {
        bench.wait(MS);
        bench.fails(&format!("p{n}"), "m", 1);
    }
    let book = bench.health.book();
    assert_eq!(book.providers.len(), MAX_PROVIDERS);
    assert_eq!(book.pairs, MAX_PROVIDERS - 1);
    assert!(book.providers.contains_key(&provider("off")));
}

#[test]
fn what_is_not_used_for_an_hour_is_forgotten_but_not_what_people_set() {
    let mut bench = Bench::new();
    bench.fails("a", "m", 5);
    bench.health.disable(&provider("off"), "anna", bench.now);
    bench.wait(KEPT);
    bench.health.due([], SECOND, bench.now);
    assert_eq!(bench.standing("a", "m"), Standing::Healthy);
    assert!(matches!(bench.standing("off", "m"), Standing::Disabled { .. }));
    assert_eq!(bench.health.report(bench.now).len(), 1);
}

#[test]
fn a_restart_takes_off_what_has_passed_and_is_no_proof_of_health() {
    let bench = Bench::new();
    bench.ok("a", "m");
    bench.fails("a", "m", 5);
    bench.bad("a", "n", limit(Some(40 * SECOND), Reach::Model));
    bench.health.disable(&provider("off"), "anna", bench.now);
    let wall = SystemTime::UNIX_EPOCH + 1_000_000 * SECOND;
    let saved = serde_json::to_string(&bench.health.save(bench.now, wall)).unwrap();
    let after = |wall: SystemTime| {
        let bench = Bench::seeded(9);
        bench.health.restore(serde_json::from_str(&saved).unwrap(), bench.now, wall);
        bench
    };
    let (left, cool) = (bench.down("a", "m").unwrap().0, bench.down("a", "n").unwrap().0);

    let soon = after(wall + 2 * SECOND);
    assert!(soon.down("a", "m").unwrap().0.abs_diff(left - 2 * SECOND) <= MS);
    assert!(soon.down("a", "n").unwrap().0.abs_diff(cool - 2 * SECOND) <= MS);
    assert!(matches!(soon.standing("off", "m"), Standing::Disabled { .. }));
    let latency = soon.health.latency(&provider("a"), &model("m"), soon.now);
    assert!((98 * MS..99 * MS).contains(&latency.unwrap()), "it fades all the while: {latency:?}");

    let late = after(wall + 1_000_000 * SECOND);
    assert_eq!(late.standing("a", "m"), Standing::Probation);
    assert_eq!(late.standing("a", "n"), Standing::Healthy);
    assert_eq!(late.health.latency(&provider("a"), &model("m"), late.now), None);
    let back = after(SystemTime::UNIX_EPOCH);
    assert!(back.down("a", "m").unwrap().0.abs_diff(left) <= MS);
}

#[test]
fn where_nothing_happened_what_was_saved_before_restores_the_same() {
    let mut bench = Bench::new();
    bench.ok("a", "m");
    bench.fails("a", "m", 5);
    // One name of each kind: lists of them have no order.
    bench.bad("a", "n", limit(Some(40 * SECOND), Reach::Provider));
    let wall = SystemTime::UNIX_EPOCH + 1_000_000 * SECOND;
    let (before, changes) = (bench.health.save(bench.now, wall), bench.health.changes());
    bench.wait(3 * SECOND);
    let names = [provider("a")];
    for _ in 0..100 {
        assert!(bench.admit("a", "m").is_err());
        bench.health.due(&names, SECOND, bench.now);
    }
    assert_eq!(bench.health.changes(), changes, "neither asking nor refusing changes anything");
    let wall = wall + 3 * SECOND;
    let restored = |saved: Saved| {
        let restored = Bench::seeded(9);
        restored.health.restore(saved, bench.now, wall);
        restored.health.save(bench.now, wall)
    };
    assert_eq!(restored(before), restored(bench.health.save(bench.now, wall)));
}

#[test]
fn all_that_a_restart_is_told_counts_as_a_change() {
    let mut bench = Bench::new();
    let mut last = bench.health.changes();
    let mut changed = |bench: &Bench, what: &str| {
        assert_ne!(bench.health.changes(), last, "{what}");
        last = bench.health.changes();
    };
    bench.ok("a", "m");
    changed(&bench, "a latency");
    bench.bad("a", "m", limit(None, Reach::Provider));
    changed(&bench, "a cool-down");
    bench.wait_out("a", "m");
    bench.health.probed(&provider("a"), None, Err(FailureKind::Authentication), bench.now);
    changed(&bench, "a dead key");
    bench.health.credential_changed(&provider("a"), bench.now);
    changed(&bench, "a new one");
    bench.health.probed(&provider("a"), None, Ok::<_, FailureKind>(MS), bench.now);
    changed(&bench, "a probe that closes");
    bench.health.disable(&provider("a"), "anna", bench.now);
    changed(&bench, "what people say");
    bench.wait(2 * KEPT);
    bench.health.due([], SECOND, bench.now);
    changed(&bench, "what is forgotten");
}

#[test]
fn a_file_with_absurd_times_shuts_nothing_longer_than_the_options_allow() {
    let text = r#"{"at":18446744073709551615,"quotas":[["q",{"left_ms":18446744073709551615,
        "streak":4294967295}]],"providers":[{"name":"a","open":{"kind":"timeout",
        "left_ms":18446744073709551615,"repeats":4294967295},"models":[{"name":"m",
        "cool_down":{"left_ms":18446744073709551615,"streak":4294967295},
        "latency_ms":18446744073709551615}]}]}"#;
    let mut bench = Bench::new();
    bench.health.restore(serde_json::from_str(text).unwrap(), bench.now, SystemTime::UNIX_EPOCH);
    assert!(bench.down("a", "m").unwrap().0 <= 300 * SECOND);
    bench.wait_out("a", "m");
    bench.fails("a", "m", 1);
    assert!(bench.down("a", "m").unwrap().0 <= 300 * SECOND);
}

#[test]
fn absurd_options_and_times_do_not_panic() {
    let longest = HealthOptions {
        failures: 0,
        ratio_percent: u32::MAX,
        ratio_of: 0,
        window: Duration::ZERO,
        open: Duration::MAX,
        open_most: Duration::MAX,
        dead: Duration::MAX,
        cool_down: Duration::MAX,
        retry_after_cap: Duration::MAX,
        limits: 0,
        probe_failures: 0,
    };
    let health = Health::new(longest, 0, |_| {});
    let (a, m, mut now) = (provider("a"), model("m"), Instant::now());
    for n in 0..2_000 {
        if let Ok(ticket) = health.admit(&a, &m, now) {
            match n % 4 {
                0 => ticket.failed(limit(Some(Duration::MAX), Reach::Provider), now),
                1 => ticket.failed(limit(None, Reach::Model), now),
                2 => ticket.failed(trouble(FailureKind::Other), now),
                _ => ticket.succeeded(Took::First(Duration::MAX), now),
            }
        }
        now += LONGEST / 7;
    }
}

// Whatever happens.

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit(usize, usize),
    Succeed(usize),
    Fail(usize, usize),
    GiveUp(usize),
    Probe(usize, bool),
    BrokeOff(usize, usize),
    NewKey(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => prop_oneof![0_u64..200, 0_u64..10_000, 0_u64..400_000].prop_map(Step::Wait),
        6 => (0_usize..2, 0_usize..2).prop_map(|(p, m)| Step::Admit(p, m)),
        2 => any::<usize>().prop_map(Step::Succeed),
        4 => (any::<usize>(), any::<usize>()).prop_map(|(t, k)| Step::Fail(t, k)),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => (0_usize..2, any::<bool>()).prop_map(|(p, ok)| Step::Probe(p, ok)),
        1 => (0_usize..2, 0_usize..2).prop_map(|(p, m)| Step::BrokeOff(p, m)),
        1 => (0_usize..2).prop_map(Step::NewKey),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..400)
}

const PROVIDERS: [&str; 2] = ["a", "b"];
const MODELS: [&str; 2] = ["m", "n"];

fn any_trouble(n: usize) -> Trouble {
    use FailureKind::*;
    let kinds = [
        Unavailable,
        Unavailable,
        Unavailable,
        Timeout,
        Overloaded,
        RateLimited,
        RateLimited,
        Authentication,
        QuotaExhausted,
        Permission,
        ModelNotFound,
        InvalidRequest,
    ];
    let kind = kinds[n % kinds.len()];
    let reach = if (n / 16).is_multiple_of(4) { Reach::Provider } else { Reach::Model };
    let retry_after =
        (n / 64).is_multiple_of(2).then(|| Duration::from_millis(n as u64 / 128 % 200_000));
    Trouble { reach, retry_after, ..trouble(kind) }
}

/// What a listener can know: until when each is open, and whether a probation's attempt is out.
#[derive(Default)]
struct Model {
    open_until: HashMap<(ProviderName, Option<ModelName>), Instant>,
    tried: HashMap<(ProviderName, Option<ModelName>), usize>,
}

/// A ticket, with a number and the model's word on which probations it is.
struct Out {
    ticket: Ticket,
    number: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn probation_is_of_one_open_is_shut_and_everything_comes_back(
        steps in steps(), seed in any::<u64>(),
    ) {
        let mut bench = Bench::seeded(seed);
        let (mut out, mut model_of, mut number): (Vec<Out>, _, _) = (vec![], Model::default(), 0);
        for step in steps {
            let changed = matches!(step, Step::NewKey(_) | Step::Probe(..));
            match step {
                Step::Wait(ms) => bench.wait(Duration::from_millis(ms)),
                Step::Admit(p, m) => {
                    let (p, m) = (provider(PROVIDERS[p]), model(MODELS[m]));
                    let before = bench.health.standing(&p, &m, bench.now);
                    let admitted = bench.health.admit(&p, &m, bench.now);
                    let may = matches!(before, Standing::Healthy | Standing::Probation);
                    prop_assert_eq!(admitted.is_ok(), may, "standing says what admit does");
                    if let Ok(ticket) = admitted {
                        number += 1;
                        for key in [(p.clone(), None), (p.clone(), Some(m.clone()))] {
                            if let Some(until) = model_of.open_until.get(&key) {
                                prop_assert!(bench.now >= *until, "let through while open");
                                let holder = model_of.tried.insert(key, number);
                                let still = out.iter().any(|o| Some(o.number) == holder);
                                prop_assert!(!still, "two in probation");
                            }
                        }
                        out.push(Out { ticket, number });
                    }
                }
                Step::Succeed(at) if !out.is_empty() => {
                    let out = out.swap_remove(at % out.len());
                    out.ticket.succeeded(Took::First(MS), bench.now);
                }
                Step::Fail(at, kind) if !out.is_empty() => {
                    let out = out.swap_remove(at % out.len());
                    out.ticket.failed(any_trouble(kind), bench.now);
                }
                Step::GiveUp(at) if !out.is_empty() => {
                    drop(out.swap_remove(at % out.len()));
                }
                Step::Probe(p, ok) => {
                    let result = if ok { Ok(MS) } else { Err(FailureKind::Timeout) };
                    bench.health.probed(&provider(PROVIDERS[p]), None, result, bench.now);
                }
                Step::BrokeOff(p, m) => {
                    let (p, m) = (provider(PROVIDERS[p]), model(MODELS[m]));
                    let cut = trouble(FailureKind::MalformedAnswer);
                    bench.health.broke_off(&p, &m, cut, bench.now);
                }
                Step::NewKey(p) => {
                    bench.health.credential_changed(&provider(PROVIDERS[p]), bench.now);
                }
                Step::Restart => {
                    let wall = SystemTime::UNIX_EPOCH + SECOND;
                    let saved = bench.health.save(bench.now, wall);
                    let text = serde_json::to_string(&saved).unwrap();
                    let fresh = Bench::seeded(seed ^ 1);
                    let read: Saved = serde_json::from_str(&text).unwrap();
                    fresh.health.restore(read, bench.now, wall);
                    // What nobody holds a place of is as before, to the millisecond.
                    for (p, m) in [("a", "m"), ("a", "n"), ("b", "m"), ("b", "n")] {
                        let (p, m) = (provider(p), model(m));
                        let was = bench.health.standing(&p, &m, bench.now);
                        let is = fresh.health.standing(&p, &m, bench.now);
                        match (was, is) {
                            (Standing::Down { why: Why::Trying | Why::Recovering, .. }, _) => {}
                            (Standing::Down { until: was, .. }, Standing::Down { until: is, .. }) => {
                                prop_assert!(is >= was && is - was <= MS);
                            }
                            (was, is) => prop_assert_eq!(was, is),
                        }
                    }
                }
                Step::Succeed(_) | Step::Fail(..) | Step::GiveUp(_) => {}
            }
            for transition in bench.told.lock().unwrap().drain(..) {
                let key = (transition.provider, transition.model);
                match transition.change {
                    Change::Opened { until, .. } => {
                        model_of.tried.remove(&key);
                        model_of.open_until.insert(key, until);
                    }
                    Change::Closed => {
                        model_of.tried.remove(&key);
                        model_of.open_until.remove(&key);
                    }
                    _ => {}
                }
            }
            if changed {
                // Either may bring probation forward; never twice, and never two at a time.
                for until in model_of.open_until.values_mut() {
                    *until = (*until).min(bench.now);
                }
            }
        }

        // The fault is over and everyone who was waiting has gone.
        drop(out);
        let over = bench.now;
        while bench.now < over + 800 * SECOND {
            bench.wait(SECOND);
            for (p, m) in [("a", "m"), ("a", "n"), ("b", "m"), ("b", "n")] {
                if let Ok(ticket) = bench.admit(p, m) {
                    ticket.succeeded(Took::First(MS), bench.now);
                }
            }
        }
        for (p, m) in [("a", "m"), ("a", "n"), ("b", "m"), ("b", "n")] {
            prop_assert_eq!(bench.standing(p, m), Standing::Healthy);
            let many: Vec<_> = (0..200).map(|_| bench.admit(p, m).is_ok()).collect();
            prop_assert!(many.into_iter().all(|admitted| admitted));
        }

        // And everything is forgotten.
        bench.wait(KEPT);
        bench.health.due([], SECOND, bench.now);
        prop_assert!(bench.health.report(bench.now).is_empty());
    }

    #[test]
    fn the_same_seed_and_the_same_events_come_to_the_same(seed in any::<u64>()) {
        let start = Instant::now();
        let run = || {
            let mut bench = Bench::seeded(seed);
            bench.now = start;
            let mut random = backoff::Source::new(seed);
            for _ in 0..500 {
                bench.wait(Duration::from_millis(random.random() % 2_000));
                if let Ok(ticket) = bench.admit("a", "m") {
                    ticket.failed(any_trouble(random.random() as usize), bench.now);
                }
            }
            bench.told.lock().unwrap().clone()
        };
        prop_assert_eq!(run(), run());
    }
}

/// Not a test of speed, but where the figure comes from: run by hand with `--release --ignored`.
#[test]
#[ignore = "measures"]
fn the_cost_of_one_attempt() {
    let bench = Bench::new();
    let names: Vec<_> = (0..20)
        .flat_map(|p| (0..200).map(move |m| (format!("provider-{p}"), format!("vendor/model-{m}"))))
        .map(|(p, m)| (provider(&p), model(&m)))
        .collect();
    let round = || {
        for (p, m) in &names {
            let _ = std::hint::black_box(bench.health.standing(p, m, bench.now));
            let ticket = bench.health.admit(p, m, bench.now).unwrap();
            ticket.succeeded(Took::First(100 * MS), bench.now);
        }
    };
    round();
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let began = Instant::now();
        round();
        best = best.min(began.elapsed() / names.len() as u32);
    }
    println!("standing, admit and succeeded over {} pairs: {best:?}", names.len());
}
