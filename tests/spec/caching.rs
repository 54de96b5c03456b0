//! Kept answers, and embeddings that are sent together or cut: off unless configured, never shared across
//! callers or classes of privacy, and billed to the last token.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    canary, eventually,
    gateway::{Gateway, Setup},
    http::{Answer, Caller},
    run,
    vendor::{Act, Recorded, Vendor, openai, reply_json},
    word,
};

const ALICE: &str = "kw-test-alice";
const BOB: &str = "kw-test-bob";
const OPERATOR: &str = "kw-test-operator";

struct Scene {
    vendor: Vendor,
    gateway: Gateway,
}

fn config(vendor: &Vendor, of_provider: &str, more: &str) -> String {
    format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    key: {{env: OUR_KEY}}\n    \
         models: [plain-model, {{id: vectors, prices: {{input: 3, request: 0.5}}}}]\n{of_provider}\
         server:\n  tokens:\n    - {{name: alice, env: ALICE_TOKEN}}\n    \
         - {{name: bob, env: BOB_TOKEN}}\n    \
         - {{name: ops, env: OPERATOR_TOKEN, operator: true}}\n{more}",
        vendor.url()
    )
}

fn scene(of_provider: &str, more: &str) -> Scene {
    let vendor = counting(&canary("openai"));
    let gateway = Setup::new(&config(&vendor, of_provider, more), &["openai"])
        .variable("OUR_KEY", &vendor.key)
        .variable("ALICE_TOKEN", ALICE)
        .variable("BOB_TOKEN", BOB)
        .variable("OPERATOR_TOKEN", OPERATOR)
        .token(ALICE)
        .start();
    Scene { vendor, gateway }
}

const CACHE: &str = "    cache: {ttl: 10m}\n";
const ONE_ATTEMPT: &str = "routing: {attempts: 1}\nhealth: {enabled: false}\n";

impl Scene {
    fn asked(&self, word: &str) -> usize {
        self.vendor.requests_with(word).len()
    }

    async fn rows(&self, model: &str, count: usize) -> Vec<Value> {
        eventually("the rows", Duration::from_secs(3), async || {
            let usage = self.gateway.run(["usage", "--rows", "--json"]).ok().json();
            let rows = usage["rows"].as_array().unwrap();
            let rows: Vec<Value> =
                rows.iter().filter(|row| row["model"] == model).cloned().collect();
            (rows.len() == count).then_some(rows)
        })
        .await
    }
}

async fn chat_with(caller: &Caller, headers: &[(&str, &str)], model: &str, prompt: &str) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let body = json!({"model": model, "messages": [{"role": "user", "content": prompt}]});
    caller.post_bytes("/v1/chat/completions", &all, body.to_string().into_bytes()).await
}

// ---------------------------------------------------------------------- what is kept

#[test]
fn the_same_request_again_is_answered_without_the_vendor_and_at_no_cost() {
    let scene = scene(CACHE, "");
    run(async {
        let word = word("kept");
        let caller = scene.gateway.caller();
        let first = caller.chat("openai/priced", &word).await;
        assert_eq!(first.header("x-keyward-cache"), Some("miss"));
        let again = caller.chat("openai/priced", &word).await;
        assert_eq!(again.said(), first.said());
        assert_eq!(again.header("x-keyward-cache"), Some("hit"));
        assert_eq!(again.header("x-keyward-provider"), Some("openai"));
        assert_eq!(scene.asked(&word), 1);
        let (first_body, again_body) = (first.json(), again.json());
        assert_eq!(first_body["usage"], again_body["usage"]);
        assert_ne!(first_body["id"], again_body["id"], "each answer has an id of its own");

        let rows = scene.rows("priced", 2).await;
        let cached: Vec<_> = rows.iter().filter(|row| row["cached"] == true).collect();
        assert_eq!(cached.len(), 1, "{rows:?}");
        assert_eq!((&cached[0]["outcome"], &cached[0]["caller"]), (&json!("ok"), &json!("alice")));
        assert_eq!(
            (&cached[0]["input_tokens"], &cached[0]["output_tokens"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(cached[0]["vendor_request_id"], Value::Null);
        let usage = scene.gateway.run(["usage", "--json"]).ok().json();
        assert_eq!(usage["total"]["cached"], 1, "{usage}");
        assert_eq!(usage["total"]["input"], 11, "{usage}");

        let request = again.header("x-request-id").unwrap();
        let explained = scene.gateway.run(["route", "explain", request, "--json"]).ok().json();
        assert_eq!(explained["tried"][0]["outcome"], "cached", "{explained}");
        let operator = scene.gateway.stranger(Some(OPERATOR));
        let counters = operator.get("/operator/v1/counters").await.json();
        assert_eq!(counters["cached"], 1, "{counters}");
        assert!(scene.gateway.log().contains("cache=\"hit\""), "the log line says it");
    });
}

#[test]
fn nothing_is_kept_unless_the_provider_says_so() {
    let scene = scene("", "cache: {size: 64MiB}\n");
    run(async {
        let word = word("off");
        for _ in 0..2 {
            let answer = scene.gateway.caller().chat("plain-model", &word).await;
            assert_eq!(answer.header("x-keyward-cache"), None);
        }
        assert_eq!(scene.asked(&word), 2);
    });
}

#[test]
fn another_caller_a_sensitive_request_or_another_question_asks_the_vendor() {
    let scene = scene(CACHE, "");
    run(async {
        let word = word("shared");
        let (alice, bob) = (scene.gateway.caller(), scene.gateway.stranger(Some(BOB)));
        let sensitive = [("x-keyward-sensitive", "true")];
        let ask = async |caller: &Caller, headers: &[(&str, &str)]| {
            let answer = chat_with(caller, headers, "plain-model", &word).await;
            answer.header("x-keyward-cache").map(str::to_owned)
        };
        for (caller, headers, asked) in
            [(&alice, &[][..], 1), (&bob, &[], 2), (&alice, &sensitive, 3), (&bob, &sensitive, 4)]
        {
            assert_eq!(ask(caller, headers).await.as_deref(), Some("miss"));
            assert_eq!(scene.asked(&word), asked);
            assert_eq!(ask(caller, headers).await.as_deref(), Some("hit"));
            assert_eq!(scene.asked(&word), asked);
        }
        for more in [json!({"temperature": 0.5}), json!({"user": "u"}), json!({"max_tokens": 5})] {
            let mut body =
                json!({"model": "plain-model", "messages": [{"role": "user", "content": word}]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = alice.post("/v1/chat/completions", &body).await;
            assert_eq!(answer.header("x-keyward-cache"), Some("miss"), "{more}");
        }
        assert_eq!(scene.asked(&word), 7);
    });
}

#[test]
fn a_streamed_answer_serves_whole_ones_and_a_whole_one_streams() {
    let scene = scene(CACHE, "");
    run(async {
        let caller = scene.gateway.caller();
        for streamed_first in [true, false] {
            let word = word("forms");
            for stream in [streamed_first, !streamed_first, streamed_first] {
                if stream {
                    let all = caller.stream("plain-model", &word).await.collect().await;
                    assert_eq!(all.text, format!("You said: {word}"));
                    assert_eq!(
                        (all.ends, all.finish.len(), all.errors.len()),
                        (1, 1, 0),
                        "{all:?}"
                    );
                } else {
                    let answer = caller.chat("plain-model", &word).await;
                    assert_eq!(answer.said(), format!("You said: {word}"));
                    assert_eq!(answer.json()["usage"]["completion_tokens"], 7);
                }
            }
            assert_eq!(scene.asked(&word), 1);
        }
    });
}

#[test]
fn every_dialect_is_answered_with_what_was_kept() {
    let scene = scene(CACHE, "");
    run(async {
        let caller = scene.gateway.caller();
        for (path, prompt) in [
            ("/v1/chat/completions", "messages"),
            ("/v1/responses", "input"),
            ("/v1/messages", "messages"),
            ("/api/chat", "messages"),
            ("/api/generate", "prompt"),
        ] {
            let word = word("dialect");
            let mut body = json!({"model": "openai/plain-model"});
            if path == "/v1/messages" {
                body["max_tokens"] = json!(50);
            }
            body[prompt] = match prompt {
                "messages" => json!([{"role": "user", "content": word}]),
                _ => json!(word),
            };
            let mut said = Vec::new();
            for (stream, cache) in [(false, "miss"), (false, "hit"), (true, "hit"), (true, "hit")] {
                body["stream"] = json!(stream);
                let answer = caller.post(path, &body).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
                assert_eq!(answer.header("x-keyward-cache"), Some(cache), "{path} {stream}");
                assert!(answer.text().contains(&word), "{path}: {}", answer.text());
                said.push(answer);
            }
            assert_eq!(scene.asked(&word), 1, "{path}");
        }
    });
}

#[test]
fn a_tool_call_is_given_again_whole() {
    let scene = scene(CACHE, "");
    run(async {
        let tools = json!([{"type": "function", "function": {"name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]);
        let word = word("tools");
        let body = json!({"model": "openai/tools", "tools": tools, "stream": true,
            "messages": [{"role": "user", "content": word}]});
        scene.gateway.caller().stream_of(&body).await.collect().await;
        let mut whole = body.clone();
        whole["stream"] = json!(false);
        let answer = scene.gateway.caller().post("/v1/chat/completions", &whole).await;
        assert_eq!(answer.header("x-keyward-cache"), Some("hit"));
        let call = &answer.json()["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(call["function"]["arguments"], "{\"city\":\"Paris\"}", "{call}");
        assert_eq!(answer.json()["choices"][0]["finish_reason"], "tool_calls");
    });
}

#[test]
fn what_failed_broke_off_or_was_left_is_not_kept() {
    let scene = scene(CACHE, ONE_ATTEMPT);
    run(async {
        let caller = scene.gateway.caller();
        let failing = word("failed");
        for _ in 0..2 {
            assert_ne!(caller.chat("openai/status-503", &failing).await.status, 200);
        }
        assert_eq!(scene.asked(&failing), 2);
        let broken = word("broken");
        for _ in 0..2 {
            let all = caller.stream("openai/cut-4", &broken).await.collect().await;
            assert_eq!(all.errors.len(), 1, "{all:?}");
        }
        assert_eq!(scene.asked(&broken), 2);
        let left = word("left");
        let mut stream = caller.stream("openai/long-40", &left).await;
        stream.first_text().await;
        drop(stream);
        scene.vendor.wait_for_disconnect(&left, Duration::from_secs(2)).await;
        let again = caller.stream("openai/long-40", &left).await.collect().await;
        assert_eq!(again.text.split_whitespace().count(), 40);
        assert_eq!(scene.asked(&left), 2);
    });
}

#[test]
fn an_answer_is_forgotten_after_its_time() {
    let scene = scene("    cache: {ttl: 1s}\n", "");
    run(async {
        let word = word("old");
        let caller = scene.gateway.caller();
        caller.chat("plain-model", &word).await.said();
        caller.chat("plain-model", &word).await.said();
        assert_eq!(scene.asked(&word), 1);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        caller.chat("plain-model", &word).await.said();
        assert_eq!(scene.asked(&word), 2);
    });
}

#[test]
fn a_caller_can_refuse_kept_answers_and_having_its_own_kept() {
    let scene = scene(CACHE, "");
    run(async {
        let word = word("refused");
        let caller = scene.gateway.caller();
        let ask = async |control: &str| {
            let headers = [("cache-control", control)];
            let answer = chat_with(&caller, &headers, "plain-model", &word).await;
            answer.header("x-keyward-cache").map(str::to_owned)
        };
        assert_eq!(ask("no-store").await, None);
        assert_eq!(ask("max-age=5").await.as_deref(), Some("miss"), "nothing was kept before");
        assert_eq!(scene.asked(&word), 2);
        assert_eq!(ask("max-age=0, No-Cache").await.as_deref(), Some("miss"));
        assert_eq!(ask("no-store").await, None);
        assert_eq!(scene.asked(&word), 4);
        assert_eq!(ask("max-age=5").await.as_deref(), Some("hit"));
    });
}

#[test]
fn a_provider_that_is_configured_anew_begins_with_nothing() {
    let scene = scene(CACHE, "");
    let other = counting(&scene.vendor.key);
    run(async {
        let word = word("moved");
        let caller = scene.gateway.caller();
        caller.chat("plain-model", &word).await.said();
        // What isn't of the provider changes nothing.
        scene.gateway.configure(&config(&scene.vendor, CACHE, "routing: {attempts: 3}\n"));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let answer = caller.chat("plain-model", &word).await;
        assert_eq!(answer.header("x-keyward-cache"), Some("hit"));
        scene.gateway.configure(&config(&other, CACHE, ""));
        eventually("the other vendor is asked", Duration::from_secs(5), async || {
            caller.chat("plain-model", &word).await.said();
            (other.requests_with(&word).len() == 1).then_some(())
        })
        .await;
        assert_eq!(scene.asked(&word), 1);
    });
}

#[test]
fn an_answer_that_is_too_large_is_given_but_not_kept() {
    let scene = scene(CACHE, "cache: {answer: 4KiB}\n");
    run(async {
        let long = word("long") + &"x".repeat(5_000);
        for _ in 0..2 {
            let answer = scene.gateway.caller().chat("plain-model", &long).await;
            assert_eq!(answer.said(), format!("You said: {long}"));
            assert_eq!(answer.header("x-keyward-cache"), Some("miss"));
        }
    });
}

// ---------------------------------------------------------------------- embeddings

/// OpenAI's vendor, whose vectors tell the text they are of, and who counts seven tokens an input and
/// five more. It refuses the input "bad", and takes its time for "slow".
fn counting(key: &str) -> Vendor {
    let expected = key.to_owned();
    Vendor::scripted(key, move |request: &Recorded| {
        let body = request.json();
        let model = body["model"].as_str().unwrap_or_default();
        let known = request.header("authorization") == Some(&format!("Bearer {expected}"));
        if !known || request.path() != "/v1/embeddings" || model.starts_with("status-") {
            return openai::answer(request, &expected);
        }
        let inputs: Vec<&str> = match &body["input"] {
            Value::String(text) => vec![text],
            Value::Array(texts) => texts.iter().map(|text| text.as_str().unwrap()).collect(),
            other => panic!("{other}"),
        };
        if inputs.iter().any(|input| input.starts_with("bad")) {
            let error = json!({"message": "bad input", "type": "invalid_request_error",
                "param": "input", "code": null});
            return reply_json(400, &[], &json!({"error": error}));
        }
        let data: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(index, text)| {
                json!({"object": "embedding", "index": index, "embedding": vector(text)})
            })
            .collect();
        let tokens = 7 * inputs.len() + 5;
        let mut body = json!({"object": "list", "data": data, "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
        if model == "uncounted" {
            body.as_object_mut().unwrap().remove("usage");
        }
        let mut acts = Vec::new();
        if inputs.iter().any(|input| input.starts_with("slow")) {
            acts.push(Act::Pause(Duration::from_millis(700)));
        }
        acts.extend(reply_json(200, &[], &body));
        acts
    })
}

fn vector(text: &str) -> Vec<f32> {
    let sum: u32 = text.bytes().map(u32::from).sum();
    vec![text.len() as f32, sum as f32 / 8.0]
}

async fn embed(caller: &Caller, texts: &[String]) -> Answer {
    caller.post("/v1/embeddings", &json!({"model": "vectors", "input": texts})).await
}

fn check_vectors(answer: &Answer, texts: &[String]) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let expected: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    assert_eq!(body["data"], json!(expected));
}

fn texts(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{word} {}", "text ".repeat(number + 1))).collect()
}

/// The inputs of each vendor request with `word` in it.
fn sizes(vendor: &Vendor, word: &str) -> Vec<usize> {
    let size = |request: &Recorded| request.json()["input"].as_array().map_or(1, Vec::len);
    vendor.requests_with(word).iter().map(|request| size(request)).collect()
}

/// Tokens and cost of all rows together.
fn billed(rows: &[Value]) -> (u64, f64) {
    let tokens = rows.iter().map(|row| row["input_tokens"].as_u64().unwrap()).sum();
    let cost = rows.iter().map(|row| row["cost"].as_str().unwrap().parse::<f64>().unwrap()).sum();
    (tokens, cost)
}

fn cost(tokens: u64, requests: usize) -> f64 {
    tokens as f64 * 3e-6 + requests as f64 * 0.5
}

fn assert_billed(rows: &[Value], tokens: u64, requests: usize) {
    let (counted, charged) = billed(rows);
    assert_eq!(counted, tokens, "{rows:?}");
    assert!((charged - cost(tokens, requests)).abs() < 1e-9, "{charged} for {rows:?}");
    assert!(rows.iter().all(|row| row["estimated"] == false), "{rows:?}");
}

#[test]
fn embeddings_are_kept_as_well() {
    let scene = scene(CACHE, "");
    run(async {
        let texts = texts(&word("vectors"), 3);
        let caller = scene.gateway.caller();
        let first = embed(&caller, &texts).await;
        assert_eq!(first.header("x-keyward-cache"), Some("miss"));
        let again = embed(&caller, &texts).await;
        assert_eq!(again.header("x-keyward-cache"), Some("hit"));
        check_vectors(&again, &texts);
        assert_eq!(again.json()["usage"]["prompt_tokens"], 26);
        let fewer = embed(&caller, &texts[..2]).await;
        assert_eq!(fewer.header("x-keyward-cache"), Some("miss"));
        let rows = scene.rows("vectors", 3).await;
        assert_billed(&rows, 26 + 19, 2);
    });
}

#[test]
fn more_inputs_than_the_vendor_takes_are_cut_and_put_together_again() {
    let scene = scene("    batch: {inputs: 3}\n", "");
    run(async {
        let word = word("cut");
        let texts = texts(&word, 8);
        let answer = embed(&scene.gateway.caller(), &texts).await;
        check_vectors(&answer, &texts);
        assert_eq!(sizes(&scene.vendor, &word), [3, 3, 2]);
        let tokens = 7 * 8 + 3 * 5;
        assert_eq!(answer.json()["usage"]["prompt_tokens"], tokens);
        let rows = scene.rows("vectors", 1).await;
        assert_billed(&rows, tokens, 3);
        assert_eq!(answer.header("x-keyward-attempts"), Some("1"));
    });
}

#[test]
fn a_cut_request_that_fails_halfway_is_billed_for_what_was_served() {
    let scene = scene("    batch: {inputs: 2}\n", ONE_ATTEMPT);
    run(async {
        let word = word("half");
        let mut texts = texts(&word, 6);
        texts[3] = format!("bad {word}");
        let answer = embed(&scene.gateway.caller(), &texts).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(sizes(&scene.vendor, &word), [2, 2], "nothing after the one that failed");
        let rows = scene.rows("vectors", 1).await;
        assert_eq!(rows[0]["outcome"], "failed");
        assert_billed(&rows, 19, 1);
    });
}

#[test]
fn without_a_batch_a_request_is_sent_as_it_is() {
    let scene = scene("", "");
    run(async {
        let word = word("uncut");
        let texts = texts(&word, 200);
        check_vectors(&embed(&scene.gateway.caller(), &texts).await, &texts);
        let both = join_all([texts[..1].to_vec(), texts[1..2].to_vec()].map(|texts| {
            let caller = scene.gateway.caller();
            async move { check_vectors(&embed(&caller, &texts).await, &texts) }
        }));
        both.await;
        assert_eq!(sizes(&scene.vendor, &word).len(), 3);
    });
}

#[test]
fn requests_that_come_together_go_as_one_and_each_gets_its_own() {
    let scene = scene("    batch: {wait: 400ms, inputs: 50}\n", "");
    run(async {
        let word = word("joined");
        let counts = [1, 4, 2, 7];
        let answers = join_all(counts.map(|count| {
            let (caller, texts) = (scene.gateway.caller(), texts(&word, count));
            async move {
                let answer = embed(&caller, &texts).await;
                check_vectors(&answer, &texts);
                answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
            }
        }));
        let told: u64 = answers.await.into_iter().sum();
        assert_eq!(sizes(&scene.vendor, &word), [14]);
        let tokens = 7 * 14 + 5;
        assert_eq!(told, tokens);
        let rows = scene.rows("vectors", 4).await;
        assert_billed(&rows, tokens, 1);
        assert!(rows.iter().all(|row| row["outcome"] == "ok" && row["attempt"] == 1), "{rows:?}");
        let each: BTreeMap<&str, u64> = rows
            .iter()
            .map(|row| (row["request"].as_str().unwrap(), row["input_tokens"].as_u64().unwrap()))
            .collect();
        assert_eq!(each.len(), 4, "each under its own id");
        assert!(each.values().all(|tokens| *tokens > 0), "{each:?}");
    });
}

#[test]
fn other_callers_classes_of_privacy_and_questions_are_not_joined() {
    let scene = scene("    batch: {wait: 400ms, inputs: 50}\n", "");
    run(async {
        let word = word("apart");
        let body = |more: Value| {
            let mut body = json!({"model": "vectors", "input": [word]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body.to_string().into_bytes()
        };
        let sensitive = [("content-type", "application/json"), ("x-keyward-sensitive", "true")];
        let plain = &sensitive[..1];
        let (alice, bob) = (scene.gateway.caller(), scene.gateway.stranger(Some(BOB)));
        let path = "/v1/embeddings";
        let all = [
            alice.post_bytes(path, plain, body(json!({}))),
            bob.post_bytes(path, plain, body(json!({}))),
            alice.post_bytes(path, &sensitive, body(json!({}))),
            alice.post_bytes(path, plain, body(json!({"dimensions": 2}))),
            alice.post_bytes(path, plain, body(json!({"user": "u"}))),
        ];
        for answer in join_all(all).await {
            check_vectors(&answer, std::slice::from_ref(&word));
        }
        assert_eq!(sizes(&scene.vendor, &word), [1; 5]);
    });
}

#[test]
fn a_full_batch_does_not_wait() {
    let scene = scene("    batch: {wait: 1s, inputs: 4}\n", "");
    run(async {
        let word = word("full");
        let began = std::time::Instant::now();
        let both = [2, 2].map(|count| {
            let (caller, texts) = (scene.gateway.caller(), texts(&word, count));
            async move { check_vectors(&embed(&caller, &texts).await, &texts) }
        });
        join_all(both).await;
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        assert_eq!(sizes(&scene.vendor, &word), [4]);
        // Those that don't fit together go apart, and none is lost.
        let three = [3, 3, 3].map(|count| {
            let (caller, texts) = (scene.gateway.caller(), texts(&word, count));
            async move { check_vectors(&embed(&caller, &texts).await, &texts) }
        });
        join_all(three).await;
        assert_eq!(sizes(&scene.vendor, &word), [4, 3, 3, 3]);
    });
}

#[test]
fn a_caller_that_leaves_takes_nobody_down_and_is_billed_its_share() {
    let scene = scene("    batch: {wait: 300ms, inputs: 50}\n", "");
    run(async {
        // Before anything is sent: it is left out.
        let word = word("early");
        let stay = texts(&word, 2);
        let gone = [format!("{word} never sent")];
        let caller = scene.gateway.caller();
        let leaving = tokio::time::timeout(Duration::from_millis(150), embed(&caller, &gone));
        let (staying, left) = tokio::join!(embed(&caller, &stay), leaving);
        check_vectors(&staying, &stay);
        assert!(left.is_err());
        assert_eq!(sizes(&scene.vendor, &word), [2]);
        assert_billed(&scene.rows("vectors", 1).await, 19, 1);

        // While the vendor works: its part is served, and billed to it.
        let late = crate::support::word("late");
        let stay = [format!("slow {late}"), format!("more {late}")];
        let gone = [format!("gone {late}")];
        let leaving = tokio::time::timeout(Duration::from_millis(650), embed(&caller, &gone));
        let (staying, left) = tokio::join!(embed(&caller, &stay), leaving);
        check_vectors(&staying, &stay);
        assert!(left.is_err());
        assert_eq!(sizes(&scene.vendor, &late), [3]);
        let rows = scene.rows("vectors", 3).await;
        assert_billed(&rows, 19 + 26, 2);
        let cancelled: Vec<_> = rows.iter().filter(|row| row["outcome"] == "cancelled").collect();
        assert_eq!(cancelled.len(), 1, "{rows:?}");
        assert!(cancelled[0]["input_tokens"].as_u64().unwrap() > 0);
    });
}

#[test]
fn when_all_have_left_the_vendors_request_is_ended() {
    let scene = scene("    batch: {wait: 100ms, inputs: 50}\n", "");
    run(async {
        let word = word("all");
        let caller = scene.gateway.caller();
        let gone = [[format!("slow {word}")], [format!("also {word}")]];
        let leaving = gone
            .each_ref()
            .map(|texts| tokio::time::timeout(Duration::from_millis(350), embed(&caller, texts)));
        assert!(join_all(leaving).await.iter().all(Result::is_err));
        scene.vendor.wait_for_disconnect(&word, Duration::from_secs(1)).await;
        let rows = scene.rows("vectors", 2).await;
        assert!(rows.iter().all(|row| row["outcome"] == "cancelled"), "{rows:?}");
    });
}

#[test]
fn anothers_mistake_is_not_ones_own() {
    let scene = scene("    batch: {wait: 300ms, inputs: 50}\n", "");
    run(async {
        let word = word("mistake");
        let caller = scene.gateway.caller();
        let (good, bad) = ([format!("good {word}")], [format!("bad {word}")]);
        let (answered, refused) = tokio::join!(embed(&caller, &good), embed(&caller, &bad));
        check_vectors(&answered, &good);
        assert_eq!(refused.status, 400, "{}", refused.text());
        let mut asked = sizes(&scene.vendor, &word);
        asked.sort_unstable();
        assert_eq!(asked, [1, 1, 2], "together, then each alone");
        let rows = scene.rows("vectors", 2).await;
        assert_billed(&rows, 12, 1);
        let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
        assert!(outcomes.contains(&"ok") && outcomes.contains(&"failed"), "{rows:?}");
    });
}

#[test]
fn a_failure_is_everyones_and_each_goes_on_to_the_next_candidate() {
    let more = "routes:\n  r: {candidates: [openai/status-503, openai/vectors], order: listed}\n";
    let scene = scene("    batch: {wait: 300ms, inputs: 50}\n", more);
    run(async {
        let word = word("failover");
        let caller = scene.gateway.caller();
        let asking = [0, 1, 2].map(|number| {
            let texts = vec![format!("{word} {number}")];
            let caller = caller.clone();
            async move {
                let body = json!({"model": "r", "input": texts});
                let answer = caller.post("/v1/embeddings", &body).await;
                check_vectors(&answer, &texts);
                assert_eq!(answer.header("x-keyward-attempts"), Some("2"));
            }
        });
        join_all(asking).await;
        assert_eq!(sizes(&scene.vendor, &word), [3, 1, 1, 1]);
        let failed = scene.rows("status-503", 3).await;
        for row in failed {
            assert_eq!(
                (&row["outcome"], &row["input_tokens"]),
                (&json!("failed"), &json!(0)),
                "{row}"
            );
        }
        assert_billed(&scene.rows("vectors", 3).await, 36, 3);
    });
}

#[test]
fn a_rejected_key_is_everyones_and_another_key_serves_them_all() {
    let vendor = counting(&canary("openai"));
    let keys = "keys: [{name: old, env: OLD_KEY}, {name: new, env: OUR_KEY}]";
    let config = config(&vendor, "    batch: {wait: 300ms, inputs: 50}\n", "")
        .replace("key: {env: OUR_KEY}", keys);
    let gateway = Setup::new(&config, &["openai"])
        .variable("OLD_KEY", &canary("old"))
        .variable("OUR_KEY", &vendor.key)
        .variable("ALICE_TOKEN", ALICE)
        .variable("BOB_TOKEN", BOB)
        .variable("OPERATOR_TOKEN", OPERATOR)
        .token(ALICE)
        .start();
    let scene = Scene { vendor, gateway };
    run(async {
        let word = word("keys");
        let caller = scene.gateway.caller();
        let asking = [0, 1, 2].map(|number| {
            let (caller, texts) = (caller.clone(), vec![format!("{word} {number}")]);
            async move {
                let answer = embed(&caller, &texts).await;
                check_vectors(&answer, &texts);
                assert_eq!(answer.header("x-keyward-attempts"), Some("2"));
            }
        });
        join_all(asking).await;
        let refused = scene.vendor.requests_with(&word).len() - 1;
        assert!((1..=3).contains(&refused), "{:?}", sizes(&scene.vendor, &word));
        let rows = scene.rows("vectors", 6).await;
        let of = |wanted: &str| rows.iter().filter(|row| row["outcome"] == wanted).count();
        assert_eq!((of("failed"), of("ok")), (3, 3), "{rows:?}");
    });
}

#[test]
fn joined_embeddings_are_kept_for_each_by_itself() {
    let scene = scene("    cache: {ttl: 10m}\n    batch: {wait: 300ms, inputs: 50}\n", "");
    run(async {
        let word = word("both");
        let caller = scene.gateway.caller();
        let (one, two) = (texts(&word, 1), texts(&word, 3));
        tokio::join!(embed(&caller, &one), embed(&caller, &two));
        assert_eq!(sizes(&scene.vendor, &word), [4]);
        for texts in [&one, &two] {
            let answer = embed(&caller, texts).await;
            assert_eq!(answer.header("x-keyward-cache"), Some("hit"));
            check_vectors(&answer, texts);
        }
        assert_eq!(sizes(&scene.vendor, &word), [4]);
    });
}

#[test]
fn what_the_vendor_does_not_count_is_estimated_and_says_so() {
    let scene = scene("    batch: {wait: 300ms, inputs: 4}\n", "");
    run(async {
        let word = word("uncounted");
        let ask = async |count: usize| {
            let texts = texts(&word, count);
            let body = json!({"model": "openai/uncounted", "input": texts});
            check_vectors(&scene.gateway.caller().post("/v1/embeddings", &body).await, &texts);
        };
        ask(9).await;
        tokio::join!(ask(1), ask(2));
        let mut asked = sizes(&scene.vendor, &word);
        asked.sort_unstable();
        assert_eq!(asked, [1, 3, 4, 4]);
        for row in scene.rows("uncounted", 3).await {
            assert_eq!((&row["estimated"], &row["outcome"]), (&json!(true), &json!("ok")), "{row}");
            assert!(row["input_tokens"].as_u64().unwrap() > 0, "{row}");
        }
    });
}
