//! What is told of a request, whatever becomes of it: to its caller in headers, to operators in the
//! journal and in events; and what is told to those who come when there is no room.
//!
//! As in [`routing`](super::routing), two scripted vendors of one protocol stand behind the providers
//! `first` and `second`, and what each does is in the model's name.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    routing::{CALLER, OPERATOR, Pair, pair_with, route},
    support::{
        by_itself, eventually,
        http::{Answer, EventStream},
        run, word,
    },
};

/// Every way to chat, with this prompt.
fn ways(model: &str, prompt: &str, stream: bool) -> [(&'static str, Value); 5] {
    let chat = json!({
        "model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream,
        "max_tokens": 100,
    });
    [
        ("/v1/chat/completions", chat.clone()),
        ("/v1/messages", chat.clone()),
        ("/v1/responses", json!({"model": model, "input": prompt, "stream": stream})),
        ("/api/chat", chat),
        ("/api/generate", json!({"model": model, "prompt": prompt, "stream": stream})),
    ]
}

/// What stands once in a stream of each of [`ways`] that ended in order.
const ENDS: [&str; 5] = [
    "data: [DONE]",
    "event: message_stop",
    "event: response.completed",
    "\"done\":true",
    "\"done\":true",
];

/// What stands once in a stream of each of [`ways`] that failed, and nowhere else.
const ERRORS: [&str; 5] =
    ["data: {\"error\":", "event: error\n", "event: error\n", "{\"error\":", "{\"error\":"];

/// The next event of this name.
async fn event(watching: &mut EventStream, name: &str) -> Value {
    let wanted = watching.until(|event| event["event"] == name);
    tokio::time::timeout(Duration::from_secs(10), wanted).await.expect("the event comes")
}

// ---------------------------------------------------------------------- callers

#[test]
fn a_failure_tells_who_was_asked_and_what_came_of_it_in_every_dialect() {
    let more = "routing: {attempts: 2}\nhealth: {enabled: false}\n";
    let pair = pair_with("", &(route("status-503", "status-500") + more));
    run(async {
        let told = |answer: &Answer, path: &str| {
            assert!(answer.status >= 500, "{path}: {} {}", answer.status, answer.text());
            assert!(answer.header("x-keyward-error").is_some(), "{path}: {:?}", answer.headers);
            assert_eq!(answer.header("x-keyward-attempts"), Some("2"), "{path}");
            let provider = answer.header("x-keyward-provider").expect(path);
            let model = answer.header("x-keyward-model").expect(path);
            let target = format!("{provider}/{model}");
            assert!(["first/status-503", "second/status-500"].contains(&&*target), "{target}");
            let tried = answer.header("x-keyward-tried").expect(path);
            let all: Vec<&str> = tried.split(", ").collect();
            assert_eq!(all.len(), 2, "{tried}");
            assert!(all[0].starts_with("first/status-503="), "{tried}");
            assert!(all[1].starts_with("second/status-500="), "{tried}");
            // Whose failure it is stands in the list with that failure.
            let failure = answer.header("x-keyward-error").unwrap();
            assert!(all.contains(&&*format!("{target}={failure}")), "{target}: {tried}");
        };
        for stream in [false, true] {
            for (path, body) in ways("r", &word("failed"), stream) {
                told(&pair.gateway.caller().post(path, &body).await, path);
            }
        }
        let embed = json!({"model": "r", "input": "text"});
        for path in ["/v1/embeddings", "/api/embed"] {
            let answer = pair.gateway.caller().post(path, &embed).await;
            assert_ne!(answer.status, 200);
            assert!(answer.header("x-keyward-attempts").is_some(), "{path}: {:?}", answer.headers);
        }
        // Nobody was asked, which is told as well.
        for (path, body) in ways("nobody-has-it", "hello", false) {
            let answer = pair.gateway.caller().post(path, &body).await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            assert_eq!(answer.header("x-keyward-attempts"), Some("0"), "{path}");
            assert_eq!(answer.header("x-keyward-provider"), None, "{path}");
            assert_eq!(answer.header("x-keyward-tried"), None, "{path}");
        }
    });
}

#[test]
fn one_that_had_no_turn_to_give_is_told_to_be_skipped() {
    let limits = "    limits: {concurrency: 1, queue: 1, wait: 100ms}\n";
    let more = "routing: {retries: 0}\nhealth: {enabled: false}\n";
    let pair = pair_with(limits, &(route("plain-model", "status-503") + more));
    run(async {
        let (caller, holding) = (pair.gateway.caller(), word("holder"));
        let asked = holding.clone();
        let holder = tokio::spawn(async move { caller.chat("first/hang", &asked).await });
        pair.first.wait_for_request(&holding, Duration::from_secs(10)).await;
        let answer = pair.gateway.caller().chat("r", "hello").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("x-keyward-attempts"), Some("1"), "{:?}", answer.headers);
        assert_eq!(answer.header("x-keyward-provider"), Some("second"));
        let tried = "first/plain-model=skipped, second/status-503=overloaded";
        assert_eq!(answer.header("x-keyward-tried"), Some(tried));
        holder.abort();
    });
}

#[test]
fn a_caller_that_leaves_before_the_first_content_is_in_the_journal_as_one_that_left() {
    let more = "routing: {retries: 0}\nhealth: {enabled: false}\n";
    let pair = pair_with("", &(route("status-503", "hang") + more));
    run(async {
        let operator = pair.operator();
        let mut watching = operator.events("/events").await;
        for (number, (path, body)) in (1..).zip(ways("r", &word("leaver"), false)) {
            let caller = pair.gateway.caller();
            let asking = tokio::spawn(async move { caller.post(path, &body).await });
            eventually("the second one is asked", Duration::from_secs(10), async || {
                (pair.second.requests().len() == number).then_some(())
            })
            .await;
            asking.abort();
            let seen = event(&mut watching, "request").await;
            assert_eq!(seen["ended"], "left");
            assert_eq!(seen["attempts"], 2, "{path}: {seen}");
            let tried = seen["tried"].as_array().unwrap();
            assert_eq!(tried.len(), 2, "{seen}");
            assert_eq!(
                (&tried[0]["provider"], &tried[0]["kind"]),
                (&json!("first"), &json!("overloaded"))
            );
            assert_eq!(tried[1]["provider"], "second", "{seen}");
            let message = tried[1]["message"].as_str().unwrap();
            assert!(message.contains("caller left"), "{message}");
            let request = seen["request"].as_str().unwrap();
            let explained = pair.gateway.run(["route", "explain", request]).ok().out;
            assert!(explained.contains("caller left"), "{explained}");
            let log = pair.gateway.log();
            let line = log.lines().find(|line| line.contains(request) && line.contains("left"));
            assert!(line.is_some(), "no line says that {request} was left");
            let counters = operator.get("/operator/v1/counters").await.json();
            assert_eq!(
                (&counters["requests"], &counters["left"]),
                (&json!(number), &json!(number))
            );
        }
        // One that is answered is told of once, and one that fails as well.
        let answer = pair.gateway.caller().chat("first/plain-model", "hello").await;
        assert_eq!(answer.status, 200);
        assert_eq!(event(&mut watching, "request").await["ended"], "answered");
        pair.gateway.caller().chat("first/status-503", "hello").await;
        assert_eq!(event(&mut watching, "request").await["fault"], "vendor");
        let counters = operator.get("/operator/v1/counters").await.json();
        assert_eq!((&counters["requests"], &counters["answered"]), (&json!(7), &json!(1)));
    });
}

// ---------------------------------------------------------------------- operators

#[test]
fn a_host_ends_at_once_though_somebody_watches_it() {
    let Pair { gateway, first, second } = pair_with("", "");
    let mut watching = run(async {
        let operator = gateway.stranger(Some(OPERATOR));
        let mut watching = operator.events("/events").await;
        gateway.caller().chat("plain-model", "hello").await.said();
        event(&mut watching, "request").await;
        watching
    });
    let began = Instant::now();
    gateway.stop();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    run(async {
        let rest = tokio::time::timeout(Duration::from_secs(1), watching.try_next()).await;
        assert!(matches!(rest, Ok(Ok(None))), "the stream ends in order: {rest:?}");
    });
    drop((first, second));
}

#[test]
fn operators_are_refused_with_the_status_that_everyone_else_gets() {
    let pair = pair_with("", "");
    run(async {
        let operator = pair.operator();
        let headers = [("content-type", "application/json")];
        let large = vec![b' '; (64 << 20) + 1];
        let refused = operator.post_bytes("/operator/v1/routes/explain", &headers, large).await;
        assert_eq!(refused.status, 413, "{}", refused.text());
        assert_eq!(refused.json()["error"]["kind"], "invalid-request");
        let open = join_all((0..32).map(|_| operator.events("/events"))).await;
        assert!(open.iter().all(|stream| stream.status == 200));
        let refused = operator.get("/events").await;
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
        assert_eq!(refused.json()["error"]["kind"], "host-busy");
        drop(open);
        eventually("a place is free again", Duration::from_secs(5), async || {
            (operator.events("/events").await.status == 200).then_some(())
        })
        .await;
        let unknown = operator.post("/operator/v1/providers/third/force", &json!({})).await;
        assert_eq!(unknown.status, 404, "{}", unknown.text());
        let unknown = operator.post("/operator/v1/providers/first/cheer", &json!({})).await;
        assert_eq!(unknown.status, 400, "{}", unknown.text());
    });
}

#[test]
fn a_providers_limits_are_shown_and_what_of_them_is_in_use() {
    let limits = "    limits: {concurrency: 7, requests_per_minute: 11, tokens_per_minute: 130000, \
                  queue: 17, wait: 1900ms}\n";
    let pair = pair_with(limits, "");
    run(async {
        let answer = pair.operator().get("/operator/v1/providers").await.json();
        let of = |name: &str| {
            let all = answer["providers"].as_array().unwrap();
            all.iter().find(|provider| provider["name"] == name).unwrap().clone()
        };
        let expected = json!({
            "concurrency": 7, "requests_per_minute": 11, "tokens_per_minute": 130_000,
            "queue": 17, "wait_ms": 1_900,
        });
        assert_eq!(of("first")["limits"], expected);
        assert_eq!(of("second")["limits"]["wait_ms"], 5_000, "unless given");
    });
    let list = pair.gateway.run(["provider", "list"]).ok().out;
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let first = line("first");
    for shown in ["0/7", "0/17", "1.9s", "11/11", "130000/130000"] {
        assert!(first.split_whitespace().any(|word| word == shown), "no {shown} in\n{list}");
    }
    let second = line("second");
    assert!(second.contains("0/256") && second.contains("5s"), "{list}");
}

#[test]
fn health_is_told_as_it_changes_and_one_that_is_forced_is_asked_whatever_it_is() {
    // Once the failures have taken it out, it stays out for longer than this takes.
    let pair = pair_with("", "routing: {attempts: 1}\nhealth: {interval: 1h}\n");
    run(async {
        let operator = pair.operator();
        let mut watching = operator.events("/events").await;
        let caller = pair.gateway.caller();
        let steer = async |verb: &str| {
            let path = format!("/operator/v1/providers/first/{verb}");
            let answer = operator.post(&path, &json!({})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json(), json!({"provider": "first", "done": verb}));
        };
        for _ in 0..5 {
            caller.chat("first/status-503", "down").await;
        }
        let opened = event(&mut watching, "health").await;
        assert_eq!(
            (&opened["provider"], &opened["model"]),
            (&json!("first"), &json!("status-503"))
        );
        assert_eq!((&opened["change"], &opened["kind"]), (&json!("opened"), &json!("overloaded")));
        assert!(opened["for_ms"].as_u64().unwrap() > 0, "{opened}");
        let alone = word("alone");
        caller.chat("first/status-503", &alone).await;
        assert_eq!(pair.first.requests_with(&alone).len(), 0, "it is left alone");

        steer("force").await;
        let forced = event(&mut watching, "health").await;
        assert_eq!((&forced["change"], &forced["by"]), (&json!("forced"), &json!("ops")));
        let asked = word("forced");
        for _ in 0..3 {
            assert_eq!(caller.chat("first/status-503", &asked).await.status, 503);
        }
        assert_eq!(pair.first.requests_with(&asked).len(), 3, "and yet it is asked");
        let list = pair.gateway.run(["provider", "list"]).ok().out;
        assert!(list.contains("forced by ops"), "{list}");

        steer("disable").await;
        let disabled = async |watching: &mut EventStream| loop {
            let notice = event(watching, "health").await;
            if notice["model"].is_null() {
                break notice["change"].as_str().unwrap().to_owned();
            }
        };
        assert_eq!(disabled(&mut watching).await, "disabled");
        assert_eq!(caller.chat("first/plain-model", "out of use").await.status, 503);
        steer("enable").await;
        assert_eq!(disabled(&mut watching).await, "released");
        assert_eq!(caller.chat("first/plain-model", "back").await.status, 200);
        let alone = word("again");
        caller.chat("first/status-503", &alone).await;
        assert_eq!(pair.first.requests_with(&alone).len(), 0, "what was found holds again");
        let refused = caller.post("/operator/v1/providers/first/force", &json!({})).await;
        assert_eq!(refused.status, 403);
    });
}

// ---------------------------------------------------------------------- streams

#[test]
fn a_stream_that_breaks_ends_with_one_error_in_every_dialect() {
    let more = "routing: {streams: {broken: end}}\n";
    let pair = pair_with("", &(route("cut-7", "plain-model") + more));
    run(async {
        let word = word("ended");
        let prompt = format!("{word} and so many words that no protocol is done with seven events");
        for (at, (path, body)) in ways("r", &prompt, true).into_iter().enumerate() {
            let answer = pair.gateway.caller().post(path, &body).await;
            let text = answer.text();
            assert_eq!(answer.status, 200, "{path}: {text}");
            assert_eq!(answer.header("x-keyward-provider"), Some("first"), "{path}");
            assert!(text.contains("You "), "{path}: {text}");
            assert_eq!(text.matches(ERRORS[at]).count(), 1, "{path}: {text}");
            assert_eq!(text.matches(ENDS[at]).count(), 0, "{path}: {text}");
            let last = text.trim_end().rsplit('\n').next().unwrap();
            let error: Value = serde_json::from_str(last.trim_start_matches("data: ")).unwrap();
            assert!(!error["error"].is_null(), "{path}: the error is last: {text}");
        }
        assert_eq!(pair.second.requests_with(&word).len(), 0);
    });
}

#[test]
fn a_stream_whose_beginning_is_held_back_is_whole_in_every_dialect() {
    let more = "routing: {streams: {hold: 2s}}\nhealth: {enabled: false}\n";
    let pair = pair_with("", &(route("cut-7", "plain-model") + more));
    run(async {
        let word = word("held");
        let prompt = format!("{word} and so many words that no protocol is done with seven events");
        for (at, (path, body)) in ways("r", &prompt, true).into_iter().enumerate() {
            let answer = pair.gateway.caller().post(path, &body).await;
            let text = answer.text();
            assert_eq!(answer.status, 200, "{path}: {text}");
            assert_eq!(answer.header("x-keyward-provider"), Some("second"), "{path}");
            assert_eq!(text.matches(ENDS[at]).count(), 1, "{path}: {text}");
            assert_eq!(text.matches(ERRORS[at]).count(), 0, "{path}: {text}");
            assert!(
                text.trim_end().lines().rev().take(2).any(|line| line.contains(ENDS[at])),
                "{text}"
            );
            // Nothing of the one that broke.
            let began = text.matches("You ").count();
            assert!(began == 1 || path == "/v1/responses", "{path}: {text}");
        }
        assert_eq!(pair.first.requests_with(&word).len(), 5);
        assert_eq!(pair.second.requests_with(&word).len(), 5);
    });
}

// ---------------------------------------------------------------------- room

/// Bytes of one large request, below the limit of a body.
const LARGE: usize = 60 << 20;

#[test]
fn large_requests_that_wait_for_their_turn_are_shed_before_memory_grows() {
    let _alone = by_itself();
    let limits = "    limits: {concurrency: 1, queue: 256, wait: 25s}\n";
    let pair = pair_with(limits, "routing: {attempts: 1}\n");
    run(async {
        let first = pair.gateway.caller();
        let word = word("holder");
        let asked = word.clone();
        let holder = tokio::spawn(async move { first.chat("first/hang", &asked).await });
        pair.first.wait_for_request(&word, Duration::from_secs(10)).await;

        let prompt = "x".repeat(LARGE);
        let bodies = ways("first/plain-model", &prompt, true);
        let bodies: Vec<(&str, Bytes)> =
            bodies.iter().map(|(path, body)| (*path, Bytes::from(body.to_string()))).collect();
        let before = pair.gateway.memory();
        pair.gateway.forget_peak();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let began = Instant::now();
        let asking: Vec<_> = (0..30)
            .map(|number| {
                let (path, body) = bodies[number % bodies.len()].clone();
                let request = client
                    .post(format!("{}{path}", pair.gateway.url))
                    .bearer_auth(CALLER)
                    .header("content-type", "application/json")
                    .body(body);
                tokio::spawn(async move { (path, request.send().await.unwrap()) })
            })
            .collect();
        // Eight of them are half a gigabyte; the others have their answer long before a turn comes.
        let shed = eventually("the surplus is refused", Duration::from_secs(20), async || {
            let over = asking.iter().filter(|asking| asking.is_finished()).count();
            (over >= 22).then_some(over)
        })
        .await;
        println!("{shed} of 30 shed within {:?}", began.elapsed());
        let took = pair.gateway.peak_memory().saturating_sub(before);
        println!("30 requests of {} MiB took {} MiB", LARGE >> 20, took >> 20);
        // What is kept, and as much again while it is read.
        assert!(took < 1_200 << 20, "{} MiB", took >> 20);
        assert!(shed < 30, "some wait");
        let (over, waiting): (Vec<_>, Vec<_>) =
            asking.into_iter().partition(|asking| asking.is_finished());
        for asking in over {
            let (path, answer) = asking.await.unwrap();
            let head = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
            assert_eq!(answer.status(), 429, "{path}");
            assert_eq!(head("x-keyward-error"), Some("host-busy"), "{path}");
            assert_eq!(head("retry-after"), Some("1"), "{path}");
        }
        // Small ones are served all the while.
        let small = pair.gateway.caller().chat("second/plain-model", "small").await;
        assert_eq!(small.status, 200, "{}", small.text());
        for asking in &waiting {
            asking.abort();
        }
        holder.abort();
        drop(waiting);
        // Those that left give their room back.
        let large = Bytes::from(ways("nobody-has-it", &prompt, false)[0].1.to_string());
        eventually("room again", Duration::from_secs(10), async || {
            let request = client
                .post(format!("{}/v1/chat/completions", pair.gateway.url))
                .bearer_auth(CALLER)
                .header("content-type", "application/json")
                .body(large.clone());
            let status = request.send().await.unwrap().status();
            (status == 404).then_some(())
        })
        .await;
    });
}
