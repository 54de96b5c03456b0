//! What vendors served and what the rows say agree over kills at any moment: no row is of nothing,
//! none is there twice, and what is missing is from the last moments before a kill.
//!
//! The window is documented in `keyward::metering`: rows are written every quarter of a second, so a
//! row is safe after that and the commits before and of it. Attempts that were under way have no row.
//! `KEYWARD_KILL_ROUNDS` sets how often the gateway is killed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use keyward::metering::{COMMIT_INTERVAL, Outcome};
use serde_json::json;

use crate::support::{
    Dice, by_itself, canary,
    gateway::{Gateway, Setup},
    http::chat,
    run,
    vendor::Vendor,
};

const ROUNDS: usize = 30;
const CALLERS: usize = 8;

/// How long two commits may take on a machine that is busy with other tests. On a quiet one each
/// takes milliseconds.
const COMMITS: Duration = Duration::from_secs(1);

const CALLER: &str = "kw-test-caller";
const OPERATOR: &str = "kw-test-operator";

/// Tokens of prompt and answer that a vendor counts for each answer it gives in full.
const COUNTED: (u64, u64) = (11, 7);

fn add(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1 + other.1)
}

/// What vendors did for one request.
#[derive(Clone, Copy, Default)]
struct Served {
    times: usize,
    tokens: (u64, u64),
}

/// A request that its caller saw the end of.
struct Answered {
    id: u128,
    word: String,
    round: usize,
    at: Instant,
}

fn setup(first: &Vendor, second: &Vendor) -> Setup {
    let provider = |name: &str, vendor: &Vendor| {
        format!(
            "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
             key: {{env: {}_KEY}}\n    models: [plain-model]\n",
            vendor.url(),
            name.to_uppercase()
        )
    };
    let config = format!(
        "providers:\n{}{}{}routes:\n  failing: {{candidates: [first/status-503, second/plain-model], \
         order: listed}}\nrouting: {{retries: 0}}\nserver:\n  tokens:\n    \
         - {{name: tests, env: CALLER_TOKEN}}\n    \
         - {{name: ops, env: OPERATOR_TOKEN, operator: true}}\n",
        provider("first", first),
        provider("second", second),
        provider("third", second).replace("THIRD_KEY", "SECOND_KEY"),
    );
    Setup::new(&config, &["openai"])
        .variable("KEYWARD_LOG", "info")
        .variable("FIRST_KEY", &first.key)
        .variable("SECOND_KEY", &second.key)
        .variable("CALLER_TOKEN", CALLER)
        .variable("OPERATOR_TOKEN", OPERATOR)
        .token(CALLER)
}

/// Asks one thing after the other until nobody answers any more.
async fn ask_on(
    gateway: &Gateway,
    round: usize,
    number: usize,
    answered: &Mutex<Vec<Answered>>,
    killed: &std::sync::atomic::AtomicBool,
) {
    let caller = gateway.caller();
    for turn in 0.. {
        let word = format!("kill{round:03}n{number:02}t{turn:05}");
        let model = match turn % 4 {
            0 => "failing",
            1 => "first/cut-4",
            _ => "plain-model",
        };
        let streamed = turn % 2 == 1;
        let mut body = chat(model, &word);
        body["stream"] = json!(streamed);
        // What breaks off is no answer, nor is one that ends when the gateway does.
        let Ok(answer) = caller.try_post("/v1/chat/completions", &body).await else { return };
        let at = Instant::now();
        let text = answer.text();
        let whole = !streamed || text.contains("[DONE]") || text.contains("\"error\"");
        if !whole || killed.load(Ordering::Relaxed) {
            return;
        }
        // Once these have failed often enough, nobody is asked for them.
        let may_fail = model != "plain-model";
        assert!(answer.status == 200 || may_fail, "{model}: {text}");
        let id = answer.header("x-request-id").and_then(|id| id.strip_prefix("kw-"));
        let id = u128::from_str_radix(id.expect("an id"), 16).unwrap();
        answered.lock().unwrap().push(Answered { id, word, round, at });
    }
}

#[test]
fn rows_and_vendors_agree_but_for_the_last_moment_over_thirty_kills() {
    let _alone = by_itself();
    let rounds = std::env::var("KEYWARD_KILL_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of kills"));
    let (first, second) = (Vendor::openai(&canary("openai")), Vendor::openai(&canary("openai")));
    let mut dice = Dice::new("kills");
    let answered = Mutex::default();
    let mut kills = Vec::new();
    let mut slowest_start = Duration::ZERO;
    let mut gateway = setup(&first, &second).start();
    // An operator's word is kept from the moment it was taken.
    gateway.run(["provider", "disable", "third"]).ok();
    for round in 0..rounds {
        let life = Duration::from_millis(50 + dice.below(2_500) as u64);
        let killed = std::sync::atomic::AtomicBool::new(false);
        run(async {
            let callers =
                join_all((0..CALLERS).map(|n| ask_on(&gateway, round, n, &answered, &killed)));
            let kill = async {
                tokio::time::sleep(life).await;
                killed.store(true, Ordering::Relaxed);
                kills.push(Instant::now());
                gateway.kill_now();
            };
            tokio::join!(callers, kill);
        });
        let mut setup = gateway.kill();
        if round % 3 == 0 {
            // Killed again, while it takes up what is left.
            setup = setup.start_for(Duration::from_millis(dice.below(200) as u64));
        }
        let began = Instant::now();
        gateway = setup.start();
        slowest_start = slowest_start.max(began.elapsed());
        run(async {
            let answer = gateway.caller().chat("third/plain-model", "still out?").await;
            assert!(answer.text().contains("disabled"), "round {round}: {}", answer.text());
        });
    }
    let setup = gateway.stop();
    let answered = answered.into_inner().unwrap();
    println!(
        "{rounds} kills, slowest start {slowest_start:?}, {} requests answered in full",
        answered.len()
    );
    let mut served: HashMap<String, Served> = HashMap::new();
    for request in first.requests().iter().chain(&second.requests()) {
        if request.method == "POST" {
            let asked = request.json();
            let prompt = asked["messages"][0]["content"].as_str().unwrap().to_owned();
            let of = served.entry(prompt).or_default();
            of.times += 1;
            if asked["model"] == "plain-model" {
                of.tokens = add(of.tokens, COUNTED);
            }
        }
    }
    hold_against_rows(&setup, &answered, &kills, &served);
}

fn hold_against_rows(
    setup: &Setup,
    answered: &[Answered],
    kills: &[Instant],
    served: &HashMap<String, Served>,
) {
    let mut attempts: BTreeMap<u128, BTreeSet<u32>> = BTreeMap::new();
    let mut tokens: HashMap<u128, (u64, u64)> = HashMap::new();
    let all = setup.rows();
    for row in &all {
        let new = attempts.entry(row.request.0).or_default().insert(row.attempt);
        assert!(new, "it is there twice: {row:?}");
        if row.outcome == Outcome::Ok {
            let count = |tokens: Option<keyward::metering::Tokens>| tokens.map_or(0, |t| t.0);
            let own = (count(row.tokens.input), count(row.tokens.output));
            assert_eq!(own, COUNTED, "{row:?}");
            let of = tokens.entry(row.request.0).or_default();
            *of = add(*of, own);
        }
    }
    let posts: usize = served.values().map(|of| of.times).sum();
    assert!(all.len() <= posts, "{} rows, and vendors were asked {posts} times", all.len());
    let window = COMMIT_INTERVAL + COMMITS;
    let (mut kept, mut missing, mut oldest) = (0, 0, Duration::ZERO);
    let (mut sum, mut sum_of_rows) = ((0, 0), (0, 0));
    for Answered { id, word, round, at } in answered {
        let rows = attempts.get(id).map_or(0, BTreeSet::len);
        let Served { times: plays, tokens: theirs } = served.get(word).copied().unwrap_or_default();
        assert!(rows <= plays, "{word}: {rows} rows, and vendors were asked {plays} times");
        let age =
            kills.get(*round).map_or(Duration::MAX, |kill| kill.saturating_duration_since(*at));
        if rows < plays {
            missing += plays - rows;
            oldest = oldest.max(age);
            assert!(age < window, "{word} ended {age:?} before the kill and is missing");
        }
        if age >= window {
            kept += rows;
            sum = add(sum, theirs);
            sum_of_rows = add(sum_of_rows, tokens.get(id).copied().unwrap_or_default());
        }
    }
    assert!(kept > 0, "no life was long enough");
    assert_eq!(sum, sum_of_rows, "tokens of vendors and of rows");
    println!(
        "{} rows for {posts} vendor requests; {kept} of them older than {window:?} at their kill, \
         {} and {} tokens, as their vendors counted; {missing} missing, the oldest {oldest:?} before its kill; {} attempts \
         under way",
        all.len(),
        sum.0,
        sum.1,
        posts - all.len() - missing
    );
}
