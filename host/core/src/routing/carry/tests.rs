use std::sync::Mutex;

use keyward_contract::ProviderKind;

use super::*;
use crate::{
    clock::simulated::{SimulatedClock, Simulation},
    routing::{Reason, tests},
};

const SECOND: Duration = Duration::from_secs(1);

/// One candidate's attempts stop as they are told to, each after so long, and then it answers at once.
type Script = Vec<(Duration, Stop)>;

struct Scripted {
    clock: SimulatedClock,
    /// By the candidates' places.
    scripts: Vec<Mutex<Script>>,
    asked: Mutex<Vec<(Duration, usize)>>,
    backoff: Duration,
    known: Option<Known>,
    /// Before the first candidate.
    queue: Duration,
}

impl Clock for Scripted {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        self.clock.sleep(time)
    }
}

impl Carrier for Scripted {
    type Answer = Duration;

    async fn attempt(&self, candidate: &Candidate, asked: &Asked) -> Result<Duration, Stop> {
        let place: usize = candidate.provider.as_str()[1..].parse().unwrap();
        if place == 0 {
            self.clock.sleep(self.queue).await;
        }
        asked.sends();
        asked.opened(self.now());
        self.asked.lock().unwrap().push((self.clock.elapsed(), place));
        loop {
            let next = {
                let mut script = self.scripts[place].lock().unwrap();
                (!script.is_empty()).then(|| script.remove(0))
            };
            let Some((after, stop)) = next else { return Ok(self.clock.elapsed()) };
            self.clock.sleep(after).await;
            match stop {
                Stop::Failed(failure) if failure.kind == SPEAKS => asked.hears(self.now()),
                Stop::Failed(failure) if failure.kind == ANSWERS => {
                    return Ok(self.clock.elapsed());
                }
                stop => return Err(stop),
            }
        }
    }

    fn pace(&self, candidate: &Candidate) -> Option<Pace> {
        let is = |known: &Known| candidate.provider == provider(known.place);
        self.known.filter(is).map_or(Some(Pace::default()), |known| known.pace)
    }

    fn backoff(&self, _: u32) -> Duration {
        self.backoff
    }

    fn may_hedge(&self) -> bool {
        true
    }
}

fn provider(place: usize) -> ProviderName {
    tests::provider(&format!("p{place}"))
}

/// Stands for an answer that takes its time.
const ANSWERS: FailureKind = FailureKind::Sealed;
/// Stands for a part of one.
const SPEAKS: FailureKind = FailureKind::Unsupported;

fn failure(kind: FailureKind, retry_after: Option<Duration>) -> Failure {
    let mut failure = Failure::new(kind, Fault::Vendor, "no");
    failure.retry_after = retry_after;
    failure
}

fn fails(kind: FailureKind, retry_after: Option<Duration>) -> (Duration, Stop) {
    (Duration::ZERO, Stop::Failed(failure(kind, retry_after)))
}

const BUDGET: Budget = Budget {
    attempts: 4,
    retries: 4,
    time: Duration::from_secs(30),
    patience: SECOND,
    longest_wait: Duration::from_secs(10),
    hedge: None,
};

struct Ran {
    /// When it was answered and by whom.
    answer: Result<(Duration, usize), Failure>,
    /// When who was asked.
    asked: Vec<(Duration, usize)>,
    tried: Vec<TriedOutcome>,
}

/// What is known of the candidate at this place.
#[derive(Clone, Copy)]
struct Known {
    place: usize,
    pace: Option<Pace>,
}

struct Scene {
    simulation: Simulation,
    decision: Decision,
    scripted: Scripted,
}

fn scene(scripts: Vec<Script>, backoff: Duration, known: Option<Known>) -> Scene {
    let simulation = Simulation::new();
    let candidates = (0..scripts.len()).map(|place| Candidate {
        provider: provider(place),
        model: tests::model("m"),
        kind: ProviderKind::Local,
        reason: Reason::Listed,
        cost: None,
        latency: None,
    });
    let decision = Decision {
        model: tests::model("m"),
        route: None,
        sensitive: None,
        candidates: candidates.collect(),
        refused: Vec::new(),
        failure: None,
    };
    let scripted = Scripted {
        clock: simulation.clock(),
        scripts: scripts.into_iter().map(Mutex::new).collect(),
        asked: Mutex::default(),
        backoff,
        known,
        queue: Duration::ZERO,
    };
    Scene { simulation, decision, scripted }
}

fn run(scripts: Vec<Script>, budget: Budget, backoff: Duration) -> Ran {
    run_with(scripts, budget, backoff, None)
}

fn run_with(scripts: Vec<Script>, budget: Budget, backoff: Duration, known: Option<Known>) -> Ran {
    ran(scene(scripts, backoff, known), budget)
}

fn run_queued(scripts: Vec<Script>, queue: Duration) -> Ran {
    let mut scene = scene(scripts, SECOND, None);
    scene.scripted.queue = queue;
    ran(scene, BUDGET)
}

fn ran(scene: Scene, budget: Budget) -> Ran {
    let Scene { simulation, decision, scripted } = scene;
    simulation.block_on(async move {
        let mut carry = Carry::new(&decision, &budget, true, scripted.now());
        let Carried { answer, tried, .. } = carry.run(&scripted).await;
        let place = |candidate: &Candidate| candidate.provider.as_str()[1..].parse().unwrap();
        Ran {
            answer: answer.map(|(at, candidate)| (at, place(&candidate))),
            asked: scripted.asked.into_inner().unwrap(),
            tried: tried.into_iter().map(|tried| tried.outcome).collect(),
        }
    })
}

/// When it was answered, by one candidate that stops so at first.
fn carried(stop: Stop, backoff: Duration) -> Result<Duration, Failure> {
    run(vec![vec![(Duration::ZERO, stop)]], BUDGET, backoff).answer.map(|(at, _)| at)
}

#[test]
fn each_is_asked_again_no_sooner_than_its_vendor_asked_for() {
    let busy = || vec![fails(FailureKind::Unavailable, Some(8 * SECOND))];
    let down = || vec![fails(FailureKind::Unavailable, None); 3];
    let ran = run(vec![busy(), down()], Budget { attempts: 9, ..BUDGET }, SECOND);
    assert_eq!(ran.answer.ok(), Some((3 * SECOND, 1)), "after three failures of its own");
    assert_eq!(ran.asked[2..], [(SECOND, 1), (2 * SECOND, 1), (3 * SECOND, 1)]);

    // It keeps its place once its time has come.
    let ran =
        run(vec![busy(), vec![fails(FailureKind::Unavailable, Some(8 * SECOND))]], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((9 * SECOND, 0)));

    // More than anybody waits is as good as no.
    let long = vec![fails(FailureKind::Unavailable, Some(11 * SECOND))];
    let ran = run(vec![long, vec![fails(FailureKind::Unavailable, None)]], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((SECOND, 1)));
}

#[test]
fn what_is_on_its_way_may_answer_when_nobody_else_may_be_asked_any_more() {
    let slow = || vec![(10 * SECOND, Stop::Failed(failure(ANSWERS, None)))];
    // The time for attempts is over when the hedge would begin.
    let patient = Budget { patience: 60 * SECOND, ..BUDGET };
    let late = Budget { time: 5 * SECOND, hedge: Some(8 * SECOND), ..patient.clone() };
    let ran = run(vec![slow(), Vec::new()], late, SECOND);
    assert_eq!(ran.answer.ok(), Some((10 * SECOND, 0)));
    assert_eq!(ran.asked.len(), 1);

    // The other key would be the third of two attempts.
    let key = vec![(3 * SECOND, Stop::Key(failure(FailureKind::Authentication, None)))];
    let two = Budget { attempts: 2, hedge: Some(SECOND), ..patient };
    let ran = run(vec![key, slow()], two, SECOND);
    assert_eq!(ran.answer.ok(), Some((11 * SECOND, 1)));
    assert!(!ran.tried.contains(&TriedOutcome::Overtaken), "{:?}", ran.tried);
}

fn slow(seconds: u32) -> Script {
    vec![(seconds * SECOND, Stop::Failed(failure(ANSWERS, None)))]
}

fn is_timeout(outcome: &TriedOutcome) -> bool {
    matches!(outcome, TriedOutcome::Failed { kind: FailureKind::Timeout, .. })
}

#[test]
fn beside_those_who_are_silent_the_next_are_asked_and_the_first_that_begins_answers() {
    let ran = run(vec![slow(60), slow(60), slow(60), Vec::new()], BUDGET, SECOND);
    let at = [0, 1_000, 1_500, 2_000].map(Duration::from_millis);
    assert_eq!(ran.asked, at.into_iter().zip(0..).collect::<Vec<_>>());
    assert_eq!(ran.answer.ok(), Some((at[3], 3)));
    // Who had all of its time has failed; who hadn't is no worse than before.
    assert!(is_timeout(&ran.tried[0]), "{:?}", ran.tried);
    assert!(is_timeout(&ran.tried[1]), "{:?}", ran.tried);
    assert_eq!(ran.tried[2..], [TriedOutcome::Overtaken, TriedOutcome::Answered]);

    // Nor has one that wasn't slower than who answered, but was asked later.
    let ran = run(vec![slow(5), slow(5)], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((5 * SECOND, 0)));
    assert_eq!(ran.tried, [TriedOutcome::Overtaken, TriedOutcome::Answered]);

    // It isn't given up before another one has begun.
    let ran = run(vec![slow(3), slow(5)], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((3 * SECOND, 0)));
    assert_eq!(ran.asked, [(Duration::ZERO, 0), (SECOND, 1)]);
    assert_eq!(ran.tried, [TriedOutcome::Overtaken, TriedOutcome::Answered]);
}

#[test]
fn who_has_begun_is_waited_for_until_it_falls_silent() {
    let speaks = |ms| (Duration::from_millis(ms), fails(SPEAKS, None).1);
    let script = [vec![speaks(500), speaks(700), speaks(900)], slow(1)].concat();
    let ran = run(vec![script, Vec::new()], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((Duration::from_millis(3_100), 0)));
    assert_eq!(ran.asked.len(), 1);

    let stops = || [vec![speaks(500)], slow(60)].concat();
    let ran = run(vec![stops(), Vec::new()], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((SECOND / 2 + GAP * SECOND, 1)), "it may pause");
    assert!(is_timeout(&ran.tried[0]), "{:?}", ran.tried);

    // The first that begins goes on, and the other one ends there.
    let writes = [vec![speaks(300), speaks(600)], slow(1)].concat();
    let ran = run(vec![slow(60), writes, Vec::new()], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((Duration::from_millis(2_900), 1)), "{:?}", ran.asked);
    assert!(is_timeout(&ran.tried[0]), "{:?}", ran.tried);
    // Who was cancelled for it is asked again when it breaks off.
    let broken = vec![speaks(100), (SECOND / 5, fails(FailureKind::Other, None).1)];
    let ran = run(vec![[slow(60), slow(1)].concat(), broken], BUDGET, SECOND);
    assert_eq!(ran.asked.len(), 3, "{:?}", ran.asked);
    assert_eq!(ran.answer.map(|(_, by)| by).ok(), Some(0));
}

#[test]
fn what_one_refuses_another_that_is_on_its_way_may_serve() {
    let refuses = |after| (after, fails(FailureKind::InvalidRequest, None).1);
    let ran = run(vec![slow(2), vec![refuses(SECOND / 2)], Vec::new()], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((2 * SECOND, 0)));
    assert_eq!(ran.asked.len(), 2, "nobody else is asked");
    // Nor is one cut off that has begun.
    let speaks = |ms| (Duration::from_millis(ms), fails(SPEAKS, None).1);
    let writes = [vec![speaks(2_000), speaks(2_000)], slow(2)].concat();
    let ran = run(vec![writes, vec![refuses(SECOND / 2)]], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((6 * SECOND, 0)));
    // But one that says nothing isn't waited for for ever.
    let ran = run(vec![slow(60), vec![refuses(SECOND / 2)]], BUDGET, SECOND);
    assert_eq!(ran.answer.unwrap_err().kind, FailureKind::InvalidRequest);
    assert_eq!(ran.tried.len(), 2);
}

#[test]
fn time_in_a_queue_is_nobodys_silence() {
    let ran = run_queued(vec![Vec::new(), Vec::new()], 3 * SECOND);
    assert_eq!(ran.answer.ok(), Some((3 * SECOND, 0)));
    assert_eq!(ran.asked.len(), 1);
    let ran = run_queued(vec![slow(60), Vec::new()], 3 * SECOND);
    assert_eq!(ran.answer.ok(), Some((4 * SECOND, 1)));
}

#[test]
fn room_that_is_left_late_is_nobodys_while_another_speaks() {
    let after = |ms, stop: Stop| (Duration::from_millis(ms), stop);
    let speaks = [(2_000, SPEAKS), (800, ANSWERS)];
    let speaks = speaks.map(|(ms, does)| after(ms, fails(does, None).1)).to_vec();
    // Its turn never comes. While it waits, it takes the last room in the budget.
    let waits = vec![after(1_500, Stop::Shut(failure(FailureKind::RateLimited, None)))];
    let fails = vec![after(200, fails(FailureKind::Other, None).1)];
    let budget = Budget { attempts: 3, ..BUDGET };
    let ran = run(vec![speaks, waits, fails, Vec::new()], budget, SECOND);
    assert_eq!(ran.answer.ok(), Some((Duration::from_millis(2_800), 0)));
    assert_eq!(ran.asked.len(), 3, "{:?}", ran.asked);
}

#[test]
fn nobody_waits_for_a_round_that_the_budget_has_no_room_for() {
    let key = Stop::Key(failure(FailureKind::Authentication, None));
    let rejected = vec![(2 * SECOND, key), (SECOND, fails(FailureKind::Other, None).1)];
    let passes = vec![fails(FailureKind::Unavailable, None)];
    let Scene { simulation, decision, scripted } = scene(vec![rejected, passes], 5 * SECOND, None);
    let clock = simulation.clock();
    let budget = Budget { attempts: 3, ..BUDGET };
    let carried = simulation.block_on(async move {
        Carry::new(&decision, &budget, true, scripted.now()).run(&scripted).await
    });
    assert_eq!((carried.attempts, clock.elapsed()), (3, 3 * SECOND));
}

#[test]
fn a_hedge_beside_one_in_a_queue_makes_nobody_impatient() {
    let mut scene = scene(vec![slow(2), slow(60), Vec::new()], SECOND, None);
    scene.scripted.queue = 3 * SECOND;
    let hedged = Budget { patience: 4 * SECOND, hedge: Some(SECOND / 2), ..BUDGET };
    let ran = ran(scene, hedged);
    // From its turn on it may be hedged.
    assert_eq!(ran.asked, [(3 * SECOND, 0), (7 * SECOND / 2, 1)]);
    assert_eq!(ran.answer.ok(), Some((5 * SECOND, 0)));
}

#[test]
fn patience_is_the_requests_whoever_uses_it_up() {
    let gone = |ms| vec![(Duration::from_millis(ms), fails(FailureKind::Other, None).1)];
    let ran = run(vec![gone(900), slow(60), Vec::new()], BUDGET, SECOND);
    assert_eq!(
        ran.asked[1..],
        [900, 1_400].map(Duration::from_millis).into_iter().zip(1..).collect::<Vec<_>>()
    );
    assert_eq!(ran.tried[1], TriedOutcome::Overtaken);

    // Nobody is waited for any more when the one that was asked beside it fails.
    let ran = run(vec![slow(60), gone(100), Vec::new()], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((Duration::from_millis(1_100), 2)));

    // A new round has its own.
    let down = || vec![fails(FailureKind::Unavailable, None)];
    let again = |seconds| [down(), slow(seconds)].concat();
    let ran = run(vec![again(60), again(60)], Budget { time: 60 * SECOND, ..BUDGET }, 2 * SECOND);
    assert_eq!(ran.asked[2..], [(2 * SECOND, 0), (3 * SECOND, 1)]);
}

#[test]
fn who_failed_is_asked_again_beside_one_who_is_silent() {
    let down = vec![fails(FailureKind::Unavailable, None)];
    for scripts in [vec![slow(60), down.clone()], vec![down, slow(60)]] {
        let failed = usize::from(scripts[0].len() == scripts[1].len() && scripts[0][0].0 > SECOND);
        let ran = run(scripts, BUDGET, SECOND);
        assert_eq!(ran.answer.ok(), Some((2 * SECOND, failed)), "{:?}", ran.asked);
    }
    // If its time has come and there is any left.
    let long = vec![fails(FailureKind::Unavailable, Some(5 * SECOND))];
    let ran = run(vec![slow(60), long], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((7 * SECOND, 1)));
    let none = Budget { retries: 0, ..BUDGET };
    let ran = run(vec![slow(60), vec![fails(FailureKind::Unavailable, None)]], none, SECOND);
    assert_eq!(ran.answer.ok(), Some((60 * SECOND, 0)));
}

#[test]
fn who_is_known_to_be_slow_has_its_own_time_and_who_cannot_be_judged_all_of_it() {
    let known = |pace| Known { place: 0, pace };
    let own = Pace { own: Some(5 * SECOND), known: Some(SECOND / 10) };
    let slower = Pace { own: None, known: Some(5 * SECOND / 2) };
    for pace in [own, slower] {
        let ran = run_with(vec![slow(6), Vec::new()], BUDGET, SECOND, Some(known(Some(pace))));
        assert_eq!(ran.asked, [(Duration::ZERO, 0), (5 * SECOND, 1)]);
    }
    // Who is asked beside another one has what it is known to take.
    for (took, next) in [(200, 1_500), (500, 1_750)] {
        let known = Some(Duration::from_millis(took));
        let known = Known { place: 1, pace: Some(Pace { own: None, known }) };
        let scripts = vec![slow(60), slow(60), Vec::new()];
        let ran = run_with(scripts, BUDGET, SECOND, Some(known));
        assert_eq!(ran.asked[2], (Duration::from_millis(next), 2));
    }
    let ran = run_with(vec![slow(6), Vec::new()], BUDGET, SECOND, Some(known(None)));
    assert_eq!(ran.answer.ok(), Some((6 * SECOND, 0)));
    let ran = run(vec![slow(6)], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((6 * SECOND, 0)), "nobody else is left");
}

#[test]
fn one_that_refuses_to_stream_is_asked_once_more_before_anybody_else() {
    let refuses = (Duration::ZERO, Stop::Whole(failure(FailureKind::InvalidRequest, None)));
    let ran = run(vec![vec![refuses], Vec::new()], BUDGET, SECOND);
    assert_eq!(ran.asked, [(Duration::ZERO, 0), (Duration::ZERO, 0)]);
    assert_eq!(ran.answer.ok(), Some((Duration::ZERO, 0)));

    // Also when it is asked again.
    let down = || fails(FailureKind::Unavailable, None);
    let refuses = || (Duration::ZERO, Stop::Whole(failure(FailureKind::InvalidRequest, None)));
    let ran =
        run(vec![vec![refuses(), down()], vec![fails(FailureKind::Other, None)]], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((SECOND, 0)));

    // That it did is nothing to a caller that never asked for a stream.
    let refuses = || (Duration::ZERO, Stop::Whole(failure(FailureKind::InvalidRequest, None)));
    let down = || fails(FailureKind::Unavailable, None);
    let once = Budget { retries: 0, ..BUDGET };
    let ran = run(vec![vec![refuses(), down()], vec![refuses(), down()]], once, SECOND);
    assert_eq!(ran.answer.unwrap_err().kind, FailureKind::Unavailable);
}

#[test]
fn a_caller_that_leaves_leaves_behind_what_was_tried() {
    let down = vec![fails(FailureKind::Unavailable, None)];
    let scene = scene(vec![down, slow(60), slow(60)], SECOND, None);
    let Scene { simulation, decision, scripted } = scene;
    let (tried, attempts) = simulation.block_on(async move {
        let mut carry = Carry::new(&decision, &BUDGET, true, scripted.now());
        let leaves = pin!(scripted.sleep(2 * SECOND));
        let left = matches!(select(pin!(carry.run(&scripted)), leaves).await, Either::Right(_));
        assert!(left);
        carry.leave(scripted.now())
    });
    let at = |tried: &Tried| (tried.provider.as_str().to_owned(), tried.at);
    assert_eq!(attempts, 3);
    assert_eq!(
        tried.iter().map(at).collect::<Vec<_>>(),
        [
            ("p0".to_owned(), Duration::ZERO),
            ("p1".to_owned(), 2 * SECOND),
            ("p2".to_owned(), 2 * SECOND)
        ]
    );
    let by_caller = |outcome: &TriedOutcome| {
        matches!(outcome, TriedOutcome::Failed { fault: Fault::Caller, .. })
    };
    assert!(tried[1..].iter().all(|tried| by_caller(&tried.outcome)), "{tried:?}");
}

#[test]
fn an_attempt_knows_how_many_keys_failed_before_it() {
    let key = || (Duration::ZERO, Stop::Key(failure(FailureKind::Authentication, None)));
    let ran = run(vec![vec![key(), key()]], BUDGET, SECOND);
    assert_eq!(ran.answer.ok(), Some((Duration::ZERO, 0)));
    assert_eq!(ran.asked.len(), 3);
}

#[test]
fn a_caller_hears_of_what_passes_before_what_only_the_operator_can_mend() {
    let mut dead = failure(FailureKind::Authentication, None);
    dead.fault = Fault::Host;
    let dead = vec![(Duration::ZERO, Stop::Failed(dead))];
    let limited = vec![fails(FailureKind::RateLimited, Some(20 * SECOND))];
    for scripts in [vec![dead.clone(), limited.clone()], vec![limited, dead]] {
        let failure = run(scripts, BUDGET, SECOND).answer.unwrap_err();
        assert_eq!(failure.kind, FailureKind::RateLimited);
        assert_eq!(failure.retry_after, Some(20 * SECOND));
    }
}

fn resting(left: Duration) -> Stop {
    Stop::resting(&tests::provider("p0"), left)
}

#[test]
fn what_a_vendor_asks_for_may_be_more_than_time_can_hold() {
    let limited = failure(FailureKind::RateLimited, Some(Duration::MAX));
    let failure = carried(Stop::Failed(limited), SECOND).unwrap_err();
    assert_eq!(failure.kind, FailureKind::RateLimited);
    assert!(carried(resting(Duration::MAX), SECOND).is_err());
}

#[test]
fn what_was_asked_for_is_waited_out_and_then_the_jitter_so_that_no_two_return_together() {
    for jitter in [Duration::ZERO, SECOND / 3, SECOND * 2] {
        assert_eq!(carried(resting(5 * SECOND), jitter).ok(), Some(5 * SECOND + jitter));
    }
    let longest = carried(resting(9 * SECOND), 2 * SECOND).ok();
    assert_eq!(longest, Some(10 * SECOND), "and not beyond the longest wait");
    assert!(carried(resting(11 * SECOND), Duration::ZERO).is_err());
}

#[test]
fn another_key_of_a_hedge_makes_nobody_impatient_who_waits_for_a_whole_answer() {
    let key = (SECOND, Stop::Key(failure(FailureKind::Authentication, None)));
    let hedged = [vec![key], slow(60)].concat();
    let Scene { simulation, decision, scripted } =
        scene(vec![slow(8), hedged, Vec::new()], SECOND, None);
    let budget = Budget { hedge: Some(SECOND), ..BUDGET };
    let asked = simulation.block_on(async move {
        let mut carry = Carry::new(&decision, &budget, false, scripted.now());
        assert!(carry.run(&scripted).await.answer.is_ok());
        scripted.asked.into_inner().unwrap()
    });
    assert_eq!(asked, [(Duration::ZERO, 0), (SECOND, 1), (2 * SECOND, 1)]);
}
