//! Where requests go: privacy first, then cost, then speed; and what happens when one fails.
//!
//! Each test has two scripted vendors of one protocol behind providers `first` and `second`. What a
//! vendor does is in the model's name, so a route names who fails how.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    canary, eventually,
    gateway::{Gateway, Setup},
    http::{Answer, Caller},
    run,
    vendor::{Recorded, Vendor, openai, reply_json},
    word,
};

pub struct Pair {
    pub first: Vendor,
    pub second: Vendor,
    pub gateway: Gateway,
}

impl Pair {
    pub fn operator(&self) -> Caller {
        self.gateway.stranger(Some(OPERATOR))
    }
}

pub const CALLER: &str = "kw-test-caller";
pub const OPERATOR: &str = "kw-test-operator";

/// Two local providers of the same models, and `more` in the configuration.
fn pair(more: &str) -> Pair {
    pair_with("", more)
}

/// As [`pair`], with `limits` and the like for the first provider.
pub fn pair_with(of_first: &str, more: &str) -> Pair {
    let (first, second) = (Vendor::openai(&canary("openai")), Vendor::openai(&canary("openai")));
    let provider = |name: &str, vendor: &Vendor, more: &str| {
        format!(
            "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
             key: {{env: {}_KEY}}\n    models: [plain-model]\n{more}",
            vendor.url(),
            name.to_uppercase()
        )
    };
    let config = format!(
        "providers:\n{}{}server:\n  tokens:\n    - {{name: tests, env: CALLER_TOKEN}}\n    \
         - {{name: ops, env: OPERATOR_TOKEN, operator: true}}\n{more}",
        provider("first", &first, of_first),
        provider("second", &second, ""),
    );
    let gateway = Setup::new(&config, &["openai"])
        .variable("FIRST_KEY", &first.key)
        .variable("SECOND_KEY", &second.key)
        .variable("CALLER_TOKEN", CALLER)
        .variable("OPERATOR_TOKEN", OPERATOR)
        .token(CALLER)
        .start();
    Pair { first, second, gateway }
}

/// A route that asks for one thing of the first provider and for another of the second.
pub fn route(first: &str, second: &str) -> String {
    format!("routes:\n  r: {{candidates: [first/{first}, second/{second}], order: listed}}\n")
}

fn ask(model: &str, prompt: &str, stream: bool) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream})
}

/// The chats that a vendor was sent: it may have been probed as well.
fn chats(vendor: &Vendor) -> Vec<Arc<Recorded>> {
    let requests = vendor.requests().into_iter();
    requests.filter(|request| request.path() == "/v1/chat/completions").collect()
}

async fn sensitive(gateway: &Gateway, model: &str, prompt: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("x-keyward-sensitive", "true")];
    let body = ask(model, prompt, false).to_string().into_bytes();
    gateway.caller().post_bytes("/v1/chat/completions", &headers, body).await
}

// ---------------------------------------------------------------------- failover

#[test]
fn every_failure_that_another_may_not_have_leads_to_the_next_at_once() {
    let _alone = crate::support::by_itself();
    for failing in [
        "status-401",
        "status-403",
        "status-404",
        "status-429",
        "status-500",
        "status-503",
        "refuse",
        "garbage-html",
        "garbage-random",
        "error-in",
    ] {
        let pair = pair(&route(failing, "plain-model"));
        run(async {
            let word = word("failover");
            let began = Instant::now();
            let answer = pair.gateway.caller().chat("r", &word).await;
            assert_eq!(answer.said(), format!("You said: {word}"), "{failing}");
            assert!(began.elapsed() < Duration::from_secs(5), "{failing}: {:?}", began.elapsed());
            assert_eq!(answer.header("x-keyward-provider"), Some("second"), "{failing}");
            assert_eq!(answer.header("x-keyward-attempts"), Some("2"), "{failing}");
            let tried = answer.header("x-keyward-tried").unwrap();
            assert!(tried.starts_with(&format!("first/{failing}=")), "{tried}");
            assert!(tried.ends_with(", second/plain-model=answered"), "{tried}");
            assert_eq!(pair.first.requests_with(&word).len(), 1, "{failing}");
        });
    }
}

#[test]
fn a_callers_own_mistake_is_told_at_once_and_nobody_else_is_asked() {
    let pair = pair(&route("status-400", "plain-model"));
    run(async {
        let word = word("mistake");
        let answer = pair.gateway.caller().chat("r", &word).await;
        assert_eq!(answer.status, 400);
        assert_eq!(pair.second.requests_with(&word).len(), 0);
    });
}

#[test]
fn one_that_does_not_begin_is_left_for_another_in_good_time() {
    let _alone = crate::support::by_itself();
    let pair = pair(&format!("{}routing: {{patience: 500ms}}\n", route("hang", "plain-model")));
    run(async {
        let word = word("patience");
        let began = Instant::now();
        let all = pair.gateway.caller().stream("r", &word).await.collect().await;
        assert_eq!(all.text, format!("You said: {word}"));
        assert_eq!(all.ends, 1);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        pair.first.wait_for_disconnect(&word, Duration::from_secs(1)).await;
        let answer = pair.gateway.caller().chat("r", "hello").await;
        let tried = answer.header("x-keyward-tried");
        assert_eq!(tried, Some("first/hang=timeout, second/plain-model=answered"));
    });
}

#[test]
fn one_that_begins_late_answers_all_the_same_if_nobody_else_does_before() {
    let _alone = crate::support::by_itself();
    let late = route("late-1500", "hang") + "routing: {patience: 500ms}\n";
    let pair = pair(&late);
    run(async {
        let word = word("late");
        let answer = pair.gateway.caller().chat("r", &word).await;
        assert_eq!(answer.said(), format!("You said: {word}"));
        let tried = answer.header("x-keyward-tried");
        assert_eq!(tried, Some("second/hang=overtaken, first/late-1500=answered"));
        pair.second.wait_for_disconnect(&word, Duration::from_secs(1)).await;
        // What is known to be slow isn't silent yet.
        let answer = pair.gateway.caller().chat("r", "hello").await;
        assert_eq!(answer.header("x-keyward-attempts"), Some("1"));
        assert_eq!(chats(&pair.second).len(), 1);
    });
}

#[test]
fn a_whole_answer_of_which_a_part_came_is_asked_for_elsewhere() {
    let _alone = crate::support::by_itself();
    for (stops, how) in [("silence", "timeout"), ("cut", "unavailable")] {
        let pair = pair(&(route(stops, "plain-model") + "routing: {patience: 500ms}\n"));
        run(async {
            let word = word("part");
            let began = Instant::now();
            let answer = pair.gateway.caller().chat("r", &word).await;
            assert_eq!(answer.said(), format!("You said: {word}"), "once, and whole");
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
            let tried = format!("first/{stops}={how}, second/plain-model=answered");
            assert_eq!(answer.header("x-keyward-tried"), Some(tried.as_str()));
        });
    }
}

#[test]
fn a_provider_may_have_a_patience_of_its_own() {
    let _alone = crate::support::by_itself();
    let own = "    timeouts: {patience: 20s}\n";
    let more = route("late-1500", "plain-model") + "routing: {patience: 200ms}\n";
    let pair = pair_with(own, &more);
    run(async {
        let answer = pair.gateway.caller().chat("r", "hello").await;
        assert_eq!(answer.header("x-keyward-provider"), Some("first"));
        assert!(chats(&pair.second).is_empty());
    });
}

#[test]
fn a_vendor_that_refuses_to_stream_is_asked_for_the_whole_answer_and_not_again_for_a_stream() {
    let pair = pair(&route("streamless", "plain-model"));
    run(async {
        let asked = |stream: bool| {
            let streams = |request: &&Arc<Recorded>| (request.json()["stream"] == true) == stream;
            chats(&pair.first).iter().filter(streams).count()
        };
        for (tried, times) in
            [("first/streamless=invalid-request, first/streamless=answered", 1), ("", 2)]
        {
            let answer = pair.gateway.caller().chat("r", "hello").await;
            assert_eq!(answer.said(), "You said: hello");
            assert_eq!(answer.header("x-keyward-tried").unwrap_or_default(), tried);
            assert_eq!((asked(true), asked(false)), (1, times));
        }
        // Who asks for a stream hears the vendor's own words.
        let body = ask("r", "hello", true);
        let refused = pair.gateway.caller().post("/v1/chat/completions", &body).await;
        assert_eq!((refused.status, asked(true)), (400, 2), "{}", refused.text());
        assert!(chats(&pair.second).is_empty());
    });
}

#[test]
fn a_whole_answer_is_watched_unless_that_is_not_wanted_and_is_whole_all_the_same() {
    let more = "routing: {patience: 500ms}\n";
    let pair = pair(&(route("hang", "tools") + more));
    run(async {
        let mut body = ask("r", &word("watched"), false);
        body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
        let began = Instant::now();
        let watched = pair.gateway.caller().post("/v1/chat/completions", &body).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(chats(&pair.first)[0].json()["stream"], true);
        assert_eq!(chats(&pair.second)[0].json()["stream"], true);
        // Where there is one alone, nothing would follow from its silence.
        body["model"] = json!("second/tools");
        let alone = pair.gateway.caller().post("/v1/chat/completions", &body).await;
        assert_ne!(chats(&pair.second)[1].json()["stream"], true);
        assert_eq!(watched.json()["choices"], alone.json()["choices"]);
        body["model"] = json!("r");
        // In the other order the one that is watched answers.
        let config = std::fs::read_to_string(pair.gateway.setup().config()).unwrap();
        let other = config.replace("first/hang, second/tools", "first/tools, second/plain-model");
        pair.gateway.configure(&other);
        let streamed = eventually("the new route", Duration::from_secs(5), async || {
            let answer = pair.gateway.caller().post("/v1/chat/completions", &body).await;
            (answer.header("x-keyward-provider") == Some("first")).then_some(answer)
        })
        .await;
        assert_eq!(chats(&pair.first).last().unwrap().json()["stream"], true);
        assert_eq!(streamed.json()["choices"], alone.json()["choices"]);
        assert_eq!(streamed.json()["usage"], alone.json()["usage"]);

        pair.gateway.configure(&other.replace("patience: 500ms", "watch: false"));
        eventually("the new setting", Duration::from_secs(5), async || {
            pair.gateway.caller().post("/v1/chat/completions", &body).await;
            (chats(&pair.first).last().unwrap().json()["stream"] != true).then_some(())
        })
        .await;
    });
}

#[test]
fn one_budget_counts_all_attempts() {
    let pair = pair(&format!("{}routing: {{attempts: 3}}\n", route("status-503", "status-500")));
    run(async {
        let word = word("budget");
        let answer = pair.gateway.caller().chat("r", &word).await;
        assert!(answer.status >= 500, "{}", answer.status);
        let sent = pair.first.requests_with(&word).len() + pair.second.requests_with(&word).len();
        assert_eq!(sent, 3);
    });
}

#[test]
fn a_stream_that_breaks_while_its_beginning_is_held_back_is_begun_anew_elsewhere() {
    let more = format!("{}routing: {{streams: {{hold: 2s}}}}\n", route("cut-4", "plain-model"));
    let pair = pair(&more);
    run(async {
        let word = word("held");
        let all = pair.gateway.caller().stream("r", &word).await.collect().await;
        assert_eq!(all.text, format!("You said: {word}"), "once, and whole");
        assert_eq!((all.ends, all.errors.len(), all.finish.len()), (1, 0, 1), "{all:?}");
        assert_eq!(pair.first.requests_with(&word).len(), 1);
    });
}

#[test]
fn a_stream_that_breaks_later_ends_with_an_error_and_nobody_starts_over() {
    let pair = pair(&route("cut-4", "plain-model"));
    run(async {
        let word = word("broken");
        let all = pair.gateway.caller().stream("r", &word).await.collect().await;
        assert_eq!(all.errors.len(), 1, "{all:?}");
        assert_eq!(pair.second.requests_with(&word).len(), 0, "no silent second answer");
    });
}

#[test]
fn a_stream_that_breaks_later_is_gone_on_with_elsewhere_where_that_is_wanted() {
    let more =
        format!("{}routing: {{streams: {{broken: continue}}}}\n", route("cut-4", "plain-model"));
    let pair = pair(&more);
    run(async {
        let operator = pair.operator();
        let mut watching = operator.events("/events").await;
        let word = word("continued");
        let mut body = ask("r", &word, true);
        body["stream_options"] = json!({"include_usage": true});
        let all = pair.gateway.caller().stream_of(&body).await.collect().await;
        assert_eq!((all.ends, all.errors.len(), all.finish.len()), (1, 0, 1), "{all:?}");
        // The second one is given what came, and says what it was asked last: to go on.
        let [sent] = &pair.second.requests_with(&word)[..] else { panic!("asked once") };
        let messages = sent.json()["messages"].clone();
        let roles: Vec<&str> =
            messages.as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user"]);
        let text = |message: &Value| message["content"].as_str().unwrap().to_owned();
        let said = text(&messages[1]);
        assert!(!said.is_empty() && all.text.starts_with(&said), "{said:?} {:?}", all.text);
        assert_eq!(all.text, format!("{said}You said: {}", text(&messages[2])));
        // One bill: what the rows say together.
        let usage = all.usage.expect("a bill");
        let rows = eventually("both rows", Duration::from_secs(5), async || {
            let rows = pair.gateway.run(["usage", "--rows", "--json"]).ok().json();
            let rows = rows["rows"].as_array()?.clone();
            (rows.len() == 2).then_some(rows)
        })
        .await;
        for (name, told) in
            [("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")]
        {
            let sum: u64 = rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
            assert_eq!(usage[told].as_u64(), Some(sum), "{name}: {rows:?} {usage}");
        }
        // The operator sees the seam.
        let seam = watching.until(|event| event["event"] == "continued").await;
        assert_eq!(seam["broken"]["provider"], "first");
        assert_eq!(seam["by"], "second");
        assert_eq!(seam["said_bytes"], said.len());
        let request = seam["request"].as_str().unwrap();
        let explained = pair.gateway.run(["route", "explain", request]).ok().out;
        assert!(explained.contains("first/cut-4 broke off"), "{explained}");
        assert!(explained.contains("second went on"), "{explained}");
    });
}

#[test]
fn a_stream_that_is_gone_on_with_ends_as_its_dialect_ends() {
    let more = "routing: {streams: {broken: continue}}\n";
    let pair = pair(&(route("cut-7", "plain-model") + more));
    run(async {
        let word = word("dialects");
        let prompt = format!("{word} and so many words that no protocol is done with seven events");
        let messages = json!([{"role": "user", "content": prompt}]);
        let chat = json!({"model": "r", "messages": messages, "stream": true, "max_tokens": 100});
        let response = json!({"model": "r", "input": prompt, "stream": true});
        for (path, body, end) in [
            ("/v1/chat/completions", &chat, "data: [DONE]"),
            ("/v1/messages", &chat, "event: message_stop"),
            ("/v1/responses", &response, "event: response.completed"),
            ("/api/chat", &chat, "\"done\":true"),
        ] {
            let answer = pair.gateway.caller().post(path, body).await;
            let text = answer.text();
            assert_eq!(answer.status, 200, "{path}: {text}");
            assert_eq!(text.matches(end).count(), 1, "{path}: {text}");
            assert!(text.trim_end().lines().rev().take(2).any(|line| line.contains(end)), "{text}");
            assert!(!text.contains("event: error") && !text.contains("\"error\":{"), "{text}");
            // The second one says what it was told last.
            assert!(text.contains("technical "), "{path}: {text}");
        }
        assert_eq!(pair.second.requests_with(&word).len(), 4);
    });
}

#[test]
fn what_nobody_else_can_go_on_with_ends_with_its_error() {
    let more = "routing: {attempts: 3, streams: {broken: continue}}\n";
    let pair = pair(&(route("cut-4", "cut-4") + more));
    run(async {
        let word = word("all-broken");
        let all = pair.gateway.caller().stream("r", &word).await.collect().await;
        assert_eq!((all.ends, all.errors.len()), (0, 1), "{all:?}");
        let sent = pair.first.requests_with(&word).len() + pair.second.requests_with(&word).len();
        assert_eq!(sent, 3, "the budget holds over seams");
    });
}

#[test]
fn a_broken_attempt_holds_no_place_that_its_continuation_needs() {
    let limits = "    limits: {concurrency: 1, wait: 2s}\n";
    let pair = pair_with(limits, "routing: {streams: {broken: continue}}\n");
    run(async {
        let (word, began) = (word("place"), Instant::now());
        let all = pair.gateway.caller().stream("first/cut-4", &word).await.collect().await;
        assert_eq!((all.ends, all.errors.len()), (0, 1), "{all:?}");
        assert_eq!(pair.first.requests_with(&word).len(), 2, "it is asked to go on itself");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}

#[test]
fn a_slow_one_is_hedged_only_where_that_is_wanted_and_the_loser_is_cancelled() {
    let hedge = ", hedge: {after: 200ms}";
    for (hedge, asked) in [("", 0), (hedge, 1)] {
        let routing = format!("routing: {{watch: false{hedge}}}\n");
        let pair = pair(&(route("slow-1500", "plain-model") + &routing));
        run(async {
            let word = word("hedged");
            let answer = pair.gateway.caller().chat("r", &word).await;
            assert_eq!(answer.said(), format!("You said: {word}"));
            assert_eq!(pair.first.requests_with(&word).len(), 1);
            assert_eq!(pair.second.requests_with(&word).len(), asked);
            if asked > 0 {
                let tried = answer.header("x-keyward-tried");
                let both = "first/slow-1500=overtaken, second/plain-model=answered";
                assert_eq!(tried, Some(both));
                assert_eq!(answer.header("x-keyward-attempts"), Some("2"));
                pair.first.wait_for_disconnect(&word, Duration::from_secs(1)).await;
            }
        });
    }
}

// ---------------------------------------------------------------------- privacy

#[test]
fn a_sensitive_request_never_leaves_whatever_fails() {
    // Asked for in every way, with the local one failing.
    let more = "routes:\n  r: [away/plain-model, first/status-503]\nrouting: {fallback: \
                {status-503: [away/plain-model]}}\nprivacy: {}\n";
    let away = Vendor::openai(&canary("openai"));
    let pair = pair("");
    let config = std::fs::read_to_string(pair.gateway.setup().config()).unwrap();
    let external = format!(
        "providers:\n  away:\n    adapter: openai\n    kind: external\n    endpoint: \
         https://localhost:{}/v1\n    key: {{env: FIRST_KEY}}\n    models: [plain-model]\n",
        away.address().port()
    );
    pair.gateway.configure(&(config.replacen("providers:\n", &external, 1) + more));
    run(async {
        eventually("the provider is there", Duration::from_secs(5), async || {
            let list = pair.gateway.run(["provider", "list"]).ok().out;
            list.contains("away").then_some(())
        })
        .await;
        for model in ["r", "away/plain-model", "status-503", "first/status-503"] {
            let word = word("secret");
            let answer = sensitive(&pair.gateway, model, &word).await;
            assert_ne!(answer.status, 200, "{model}: {}", answer.text());
            // Not marked, but found in it.
            let iban = format!("{word} DE89 3704 0044 0532 0130 00");
            let answer = pair.gateway.caller().chat(model, &iban).await;
            assert_ne!(answer.status, 200, "{model}: {}", answer.text());
        }
        assert_eq!(away.connections(), 0);
        let word = word("kept");
        let answer = sensitive(&pair.gateway, "plain-model", &word).await;
        assert_eq!(answer.said(), format!("You said: {word}"), "the local ones serve it");
        // The same request without the mark goes there, and ends where no network is left for it.
        let open = pair.gateway.caller().chat("r", "harmless").await;
        assert_ne!(open.status, 200);
        let tried = open.header("x-request-id").unwrap().to_owned();
        let explained = pair.gateway.run(["route", "explain", &tried]).ok().out;
        assert!(explained.contains("away/plain-model"), "{explained}");
    });
    let refused = pair.gateway.run(["route", "explain", "-m", "r", "--sensitive"]).ok().out;
    assert!(refused.contains("local providers only"), "{refused}");
    assert!(refused.contains("external"), "{refused}");
    let found = ["route", "explain", "-m", "r", "--text", "my card is 4111 1111 1111 1111"];
    let found = pair.gateway.run(found).ok().out;
    assert!(found.contains("payment-card"), "{found}");
}

/// Where a caller may put a text, by protocol: a request with the text in that place.
fn places(protocol: &str, text: &str) -> Vec<(&'static str, Value)> {
    let schema = |text: &str| {
        json!({
            "type": "object", "properties": {"city": {"type": "string", "description": text}},
            "required": ["city"], "additionalProperties": false,
        })
    };
    let user = |content: Value| json!({"role": "user", "content": content});
    let assistant = json!({"role": "assistant", "content": "Yes."});
    match protocol {
        "/v1/chat/completions" => {
            let with = |messages: Value, more: Value| {
                merged(json!({"model": "r", "messages": messages}), more)
            };
            let hello = json!([user("hello".into())]);
            let call = json!({"role": "assistant", "tool_calls": [{
                "id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{}"},
            }]});
            let called = json!({"role": "assistant", "tool_calls": [{
                "id": "call_1", "type": "function",
                "function": {"name": "find", "arguments": json!({"who": text}).to_string()},
            }]});
            let result =
                |text: &str| json!({"role": "tool", "tool_call_id": "call_1", "content": text});
            let part = json!([{"type": "text", "text": "hello", "note": text}]);
            let tool = json!({"type": "function", "function": {
                "name": "find", "description": text, "parameters": {"type": "object"},
            }});
            let format = json!({"type": "json_schema", "json_schema": {
                "name": "place", "schema": schema(text), "strict": true,
            }});
            let system = json!({"role": "system", "content": text});
            vec![
                (
                    "an earlier message",
                    with(json!([user(text.into()), assistant, user("hello".into())]), json!({})),
                ),
                (
                    "a tool's result",
                    with(json!([user("hello".into()), call, result(text)]), json!({})),
                ),
                (
                    "a call's arguments",
                    with(json!([user("hello".into()), called, result("none")]), json!({})),
                ),
                ("a tool's description", with(hello.clone(), json!({"tools": [tool]}))),
                ("a system text", with(json!([system, user("hello".into())]), json!({}))),
                ("an unknown field of a part", with(json!([user(part)]), json!({}))),
                ("a response's schema", with(hello.clone(), json!({"response_format": format}))),
                ("metadata", with(hello.clone(), json!({"metadata": {"about": text}}))),
                ("a stop sequence", with(hello, json!({"stop": ["\n\n", text]}))),
            ]
        }
        "/v1/messages" => {
            let with = |messages: Value, more: Value| {
                merged(json!({"model": "r", "max_tokens": 64, "messages": messages}), more)
            };
            let hello = json!([user("hello".into())]);
            let call = json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "find", "input": {}},
            ]});
            let result = json!([{"type": "tool_result", "tool_use_id": "call_1", "content": text}]);
            let part = json!([{"type": "text", "text": "hello", "note": text}]);
            let document = |field: &str, data: &str| {
                let source = json!({"type": "text", "media_type": "text/plain", "data": data});
                let mut document = json!({"type": "document", "source": source});
                if !field.is_empty() {
                    document[field] = text.into();
                }
                json!([user(json!([document, {"type": "text", "text": "hello"}]))])
            };
            let tool = json!({
                "name": "find", "description": text, "input_schema": {"type": "object"},
            });
            let format = json!({"format": {"type": "json_schema", "schema": schema(text)}});
            vec![
                (
                    "an earlier message",
                    with(json!([user(text.into()), assistant, user("hello".into())]), json!({})),
                ),
                (
                    "a tool's result",
                    with(json!([user("hello".into()), call, user(result)]), json!({})),
                ),
                ("a tool's description", with(hello.clone(), json!({"tools": [tool]}))),
                ("a system text", with(hello.clone(), json!({"system": text}))),
                ("an unknown field of a part", with(json!([user(part)]), json!({}))),
                ("a document's title", with(document("title", "hello"), json!({}))),
                ("a document's context", with(document("context", "hello"), json!({}))),
                ("a document", with(document("", text), json!({}))),
                ("a response's schema", with(hello, json!({"output_config": format}))),
            ]
        }
        "/v1/responses" => {
            let with = |input: Value, more: Value| {
                merged(json!({"model": "r", "input": input, "store": false}), more)
            };
            let hello = json!([user("hello".into())]);
            let call = json!({
                "type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}",
            });
            let result =
                json!({"type": "function_call_output", "call_id": "call_1", "output": text});
            let part = json!([{"type": "input_text", "text": "hello", "note": text}]);
            let tool = json!({
                "type": "function", "name": "find", "description": text,
                "parameters": {"type": "object"}, "strict": false,
            });
            let format = json!({"format": {
                "type": "json_schema", "name": "place", "schema": schema(text), "strict": true,
            }});
            vec![
                (
                    "an earlier message",
                    with(json!([user(text.into()), assistant, user("hello".into())]), json!({})),
                ),
                ("a tool's result", with(json!([user("hello".into()), call, result]), json!({}))),
                ("a tool's description", with(hello.clone(), json!({"tools": [tool]}))),
                ("a system text", with(hello.clone(), json!({"instructions": text}))),
                ("an unknown field of a part", with(json!([user(part)]), json!({}))),
                ("a response's schema", with(hello, json!({"text": format}))),
            ]
        }
        "/api/chat" => {
            let with = |messages: Value, more: Value| {
                merged(json!({"model": "r", "messages": messages, "stream": false}), more)
            };
            let hello = json!([user("hello".into())]);
            let call = json!({"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "find", "arguments": {}}},
            ]});
            let result = json!({"role": "tool", "tool_name": "find", "content": text});
            let noted = json!([{"role": "user", "content": "hello", "note": text}]);
            let tool = json!({"type": "function", "function": {
                "name": "find", "description": text, "parameters": {"type": "object"},
            }});
            let system = json!({"role": "system", "content": text});
            vec![
                (
                    "an earlier message",
                    with(json!([user(text.into()), assistant, user("hello".into())]), json!({})),
                ),
                ("a tool's result", with(json!([user("hello".into()), call, result]), json!({}))),
                ("a tool's description", with(hello.clone(), json!({"tools": [tool]}))),
                ("a system text", with(json!([system, user("hello".into())]), json!({}))),
                ("an unknown field of a message", with(noted, json!({}))),
                ("a response's schema", with(hello, json!({"format": schema(text)}))),
            ]
        }
        "/v1/embeddings" => vec![
            ("an input", json!({"model": "r", "input": ["hello", text]})),
            ("a field", json!({"model": "r", "input": "hello", "user": text})),
        ],
        other => panic!("nobody speaks {other}"),
    }
}

fn merged(mut to: Value, more: Value) -> Value {
    if let (Some(to), Value::Object(more)) = (to.as_object_mut(), more) {
        to.extend(more);
    }
    to
}

/// An external provider that comes first, and a local one.
fn away_and_near() -> Pair {
    let (away, near) = (Vendor::openai(&canary("openai")), Vendor::openai(&canary("openai")));
    let config = format!(
        "providers:\n  away:\n    adapter: openai\n    kind: external\n    endpoint: \
         https://localhost:{}/v1\n    key: {{env: AWAY_KEY}}\n    models: [plain-model]\n  near:\n    \
         adapter: openai\n    kind: local\n    endpoint: {}/v1\n    key: {{env: NEAR_KEY}}\n    models: \
         [plain-model]\nserver:\n  tokens:\n    - {{name: tests, env: CALLER_TOKEN}}\nroutes:\n  r: \
         {{candidates: [away/plain-model, near/plain-model], order: listed}}\nhealth: {{enabled: \
         false}}\nprivacy: {{}}\n",
        away.address().port(),
        near.url(),
    );
    let gateway = Setup::new(&config, &["openai"])
        .variable("AWAY_KEY", &away.key)
        .variable("NEAR_KEY", &near.key)
        .variable("CALLER_TOKEN", CALLER)
        .token(CALLER)
        .start();
    Pair { first: away, second: near, gateway }
}

/// Whether the external provider was asked before the local one answered. Nothing arrives there: what
/// is external can't be on this machine, so the attempt ends at the last moment.
fn left(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-keyward-provider"), Some("near"), "{}", answer.text());
    match answer.header("x-keyward-tried") {
        Some(tried) => {
            assert!(tried.starts_with("away/plain-model="), "{tried}");
            true
        }
        None => {
            assert_eq!(answer.header("x-keyward-attempts"), Some("1"));
            false
        }
    }
}

#[test]
fn personal_data_stays_here_wherever_in_a_request_it_stands() {
    let pair = away_and_near();
    let protocols =
        ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/v1/embeddings"];
    run(async {
        for protocol in protocols {
            for (place, request) in places(protocol, "nothing of note") {
                let answer = pair.gateway.caller().post(protocol, &request).await;
                assert!(left(&answer), "{protocol}, {place}: it may go to the first");
            }
            for text in ["account DE89 3704 0044 0532 0130 00", "write to anna@example.org"] {
                for (place, request) in places(protocol, text) {
                    let answer = pair.gateway.caller().post(protocol, &request).await;
                    assert!(!left(&answer), "{protocol}, {place}: it left");
                }
            }
        }
        assert_eq!(pair.first.connections(), 0);
    });
}

#[test]
fn a_prompt_to_be_counted_is_searched_as_it_is_sent() {
    let pair = away_and_near();
    run(async {
        // A field that has no place in a chat; a count is sent as it came.
        let count = async |note: &str| {
            let call = json!({"type": "tool_use", "id": "call_1", "name": "find", "input": {}});
            let result = json!({"type": "tool_result", "tool_use_id": "call_1", "content": "none"});
            let messages = json!([
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result], "note": note},
            ]);
            let body = json!({"model": "r", "messages": messages});
            pair.gateway.caller().post("/v1/messages/count_tokens", &body).await
        };
        let stayed = count("write to anna@example.org").await;
        assert_eq!(stayed.header("x-keyward-provider"), Some("near"), "{}", stayed.text());
        let open = count("nothing of note").await;
        assert_ne!(open.header("x-keyward-provider"), Some("near"), "{}", open.text());
    });
}

#[test]
fn text_as_token_numbers_stays_here_because_nobody_can_read_it() {
    let pair = away_and_near();
    run(async {
        let embed = async |input: Value| {
            let body = json!({"model": "r", "input": input});
            pair.gateway.caller().post("/v1/embeddings", &body).await
        };
        assert!(left(&embed(json!("hello")).await));
        assert!(!left(&embed(json!([[9906, 1917], [15339]])).await));
        let only = json!({"model": "away/plain-model", "input": [1, 2]});
        let refused = pair.gateway.caller().post("/v1/embeddings", &only).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(refused.text().contains("token-numbers"), "{}", refused.text());
    });
}

// ---------------------------------------------------------------------- health

#[test]
fn a_rate_limit_is_told_to_the_caller_and_kept_for_everyone() {
    let pair = pair("routing: {longest_wait: 1s}\n");
    run(async {
        let caller = pair.gateway.caller();
        let answer = caller.chat("first/status-429-after-7", "limited").await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("7"));
        let sent = pair.first.requests().len();
        let answer = caller.chat("first/status-429-after-7", "again").await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        // Up to a tenth more, so that not all come back at once.
        assert!((1..=8).contains(&wait), "{wait}");
        assert_eq!(pair.first.requests().len(), sent, "nothing was sent");
    });
}

#[test]
fn who_asks_for_time_is_left_alone_by_everyone_though_it_is_no_limit() {
    let pair = pair("routing: {longest_wait: 1s, retries: 0}\n");
    run(async {
        let caller = pair.gateway.caller();
        let busy = "first/status-503-after-7";
        assert_eq!(caller.chat(busy, "busy").await.header("retry-after"), Some("7"));
        let sent = pair.first.requests().len();
        assert_eq!(caller.chat(busy, "again").await.status, 429);
        assert_eq!(pair.first.requests().len(), sent, "nothing was sent");
        assert_eq!(caller.chat("first/plain-model", "other").await.status, 200);
    });
}

#[test]
fn providers_that_list_their_models_themselves_stand_in_for_one_another() {
    let vendor = || {
        let key = canary("openai");
        Vendor::scripted(&key.clone(), move |request| match request.path() {
            "/v1/models" => {
                let model = json!({"id": "home-grown", "object": "model", "created": 1});
                reply_json(200, &[], &json!({"object": "list", "data": [model]}))
            }
            _ => openai::answer(request, &key),
        })
    };
    let (first, second) = (vendor(), vendor());
    let provider = |name: &str, vendor: &Vendor| {
        format!(
            "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
             key: {{env: {}_KEY}}\n",
            vendor.url(),
            name.to_uppercase()
        )
    };
    let config = format!(
        "providers:\n{}{}routes:\n  home: [home-grown]\n  lost: [nowhere-at-all]\n",
        provider("first", &first),
        provider("second", &second)
    );
    let gateway = Setup::new(&config, &["openai"])
        .variable("FIRST_KEY", &first.key)
        .variable("SECOND_KEY", &second.key)
        .start();
    run(async {
        for model in ["home-grown", "home"] {
            let answer = gateway.caller().chat(model, "hello").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let explained = gateway.run(["route", "explain", "-m", "home"]).ok().out;
        assert!(explained.contains("first") && explained.contains("second"), "{explained}");
        let lost = gateway.caller().chat("lost", "hello").await;
        assert_eq!(lost.status, 503);
        assert!(lost.text().contains("'lost' leads nowhere"), "{}", lost.text());

        gateway.run(["provider", "disable", "first"]).ok();
        let sent = first.requests().len();
        let answer = gateway.caller().chat("home-grown", "hello").await;
        assert_eq!(answer.header("x-keyward-provider"), Some("second"), "{}", answer.text());
        gateway.caller().get("/v1/models").await;
        gateway.caller().chat("no-such-model", "hello").await;
        assert_eq!(first.requests().len(), sent, "not even for its models");
    });
}

#[test]
fn a_provider_that_fails_leaves_and_comes_back_by_itself() {
    let pair = pair("routing: {attempts: 1}\nhealth: {interval: 1s}\n");
    run(async {
        let caller = pair.gateway.caller();
        for _ in 0..5 {
            assert!(caller.chat("first/status-503", "down").await.status >= 500);
        }
        let word = word("open");
        let answer = caller.chat("first/status-503", &word).await;
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(pair.first.requests_with(&word).len(), 0, "nothing is sent");
        let list = pair.gateway.run(["provider", "list"]).ok().out;
        assert!(list.contains("status-503") && list.contains("down for"), "{list}");
        // Another model of it is served all the same.
        assert_eq!(caller.chat("first/plain-model", &word).await.status, 200);
    });
}

#[test]
fn how_many_may_fail_is_configured_and_a_change_forgets_nothing() {
    let pair = pair("routing: {attempts: 1}\nhealth: {failures: 2, rest: 1m}\n");
    let config = std::fs::read_to_string(pair.gateway.setup().config()).unwrap();
    let caller = pair.gateway.caller();
    // Of five chats with a model that fails, so many are sent.
    let sent = async |model: &str| {
        // One that is served in between, or the failures of several models are the provider's.
        assert_eq!(caller.chat("first/plain-model", "hello").await.status, 200);
        let word = word("sent");
        for _ in 0..5 {
            let answer = caller.chat(&format!("first/{model}"), &word).await;
            assert_eq!(answer.status, 503, "{}", answer.text());
        }
        pair.first.requests_with(&word).len()
    };
    run(async {
        assert_eq!(sent("status-503").await, 2);
        let fares = pair.operator().get("/operator/v1/providers").await.json();
        let lines = fares["providers"][0]["health"].as_array().unwrap();
        let line = lines.iter().find(|line| line["model"] == "status-503").unwrap();
        assert_eq!((&line["standing"], &line["failures_in_a_row"]), (&json!("down"), &json!(2)));
        let left = line["for_ms"].as_u64().unwrap();
        assert!((40_000..=60_000).contains(&left), "{line}");

        pair.gateway.configure(&config.replace("failures: 2, rest: 1m", "failures: 4"));
        let mut names = (0..).map(|number| format!("status-503-{number}"));
        eventually("the other number", Duration::from_secs(10), async || {
            let sent = sent(&names.next().unwrap()).await;
            assert!(sent == 2 || sent == 4, "{sent}");
            (sent == 4).then_some(())
        })
        .await;
        assert_eq!(sent("status-503").await, 0, "what rested before rests on");
    });
}

#[test]
fn what_an_operator_disables_stays_out_of_use_over_a_restart() {
    let Pair { first, second, gateway } = pair("");
    run(async {
        gateway.run(["provider", "disable", "first"]).ok();
        let answer = gateway.caller().chat("plain-model", "hello").await;
        assert_eq!(answer.header("x-keyward-provider"), Some("second"));
        assert_eq!(gateway.caller().chat("first/plain-model", "hello").await.status, 503);
    });
    let gateway = gateway.stop().start();
    run(async {
        let answer = gateway.caller().chat("first/plain-model", "hello").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("disabled"), "{}", answer.text());
        gateway.run(["provider", "enable", "first"]).ok();
        assert_eq!(gateway.caller().chat("first/plain-model", "hello").await.status, 200);
    });
    let unknown = gateway.run(["provider", "disable", "third"]).failed();
    assert!(unknown.everything().contains("no provider 'third'"), "{unknown:?}");
    drop((first, second));
}

// ---------------------------------------------------------------------- several keys

#[test]
fn a_rejected_key_is_left_alone_while_the_providers_others_serve() {
    let vendor = Vendor::openai(&canary("openai"));
    let config = format!(
        "providers:\n  both:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
         keys: [{{name: old, env: OLD_KEY}}, stored, {{name: unset, env: UNSET_KEY}}]\n    \
         models: [plain-model]\n",
        vendor.url()
    );
    let rejected = canary("rejected");
    let gateway = Setup::new(&config, &["openai"]).variable("OLD_KEY", &rejected).start();
    // It can only be stored once its provider is known.
    gateway.setup().run_with(["key", "set", "both", "--field", "stored"], &vendor.key).ok();
    run(async {
        let with = |key: &str| {
            let bearer = format!("Bearer {key}");
            let requests = vendor.requests().into_iter();
            requests.filter(|asked| asked.header("authorization") == Some(&bearer)).count()
        };
        for _ in 0..6 {
            let answer = gateway.caller().chat("plain-model", "hello").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert_eq!((with(&rejected), with(&vendor.key)), (1, 6));
        let list = gateway.run(["key", "list"]).ok().out;
        assert!(list.contains("api_key@stored") && list.contains("api_key@unset"), "{list}");
    });
}

#[test]
fn providers_of_one_account_share_its_limits() {
    let vendor = Vendor::openai(&canary("openai"));
    let provider = |name: &str, account: &str| {
        format!(
            "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
             key: {{env: KEY}}\n    models: [status-429-after-7, plain-model]\n{account}",
            vendor.url()
        )
    };
    let account = "    account: team\n";
    let config = format!(
        "providers:\n{}{}{}routing: {{longest_wait: 1s}}\n",
        provider("first", account),
        provider("second", account),
        provider("other", "")
    );
    let gateway = Setup::new(&config, &["openai"]).variable("KEY", &vendor.key).start();
    run(async {
        let limited = async |provider: &str| {
            let answer =
                gateway.caller().chat(&format!("{provider}/status-429-after-7"), "hi").await;
            assert_eq!(answer.status, 429, "{}", answer.text());
            vendor.requests().len()
        };
        assert_eq!(limited("first").await, 1);
        assert_eq!(limited("second").await, 1, "nothing was sent");
        assert_eq!(limited("other").await, 2, "it has an account of its own");
        let answer = gateway.caller().chat("second/plain-model", "hi").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
}

#[test]
fn all_keys_and_providers_share_one_budget() {
    let vendor = Vendor::openai(&canary("openai"));
    let config = format!(
        "providers:\n  many:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
         keys: [{{name: a, env: A}}, {{name: b, env: B}}, {{name: c, env: C}}, {{name: d, env: D}}]\n    \
         models: [plain-model]\nrouting: {{attempts: 3}}\n",
        vendor.url()
    );
    let setup = ["A", "B", "C", "D"]
        .into_iter()
        .fold(Setup::new(&config, &["openai"]), |setup, name| setup.variable(name, &canary(name)));
    let gateway = setup.start();
    run(async {
        let answer = gateway.caller().chat("plain-model", "hello").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(vendor.requests().len(), 3);
        // The fourth one is left to find out about.
        let answer = gateway.caller().chat("plain-model", "hello").await;
        assert_ne!(answer.status, 200);
        assert_eq!(vendor.requests().len(), 4);
    });
}

#[test]
fn what_an_operator_disables_stays_out_of_use_though_health_is_switched_off() {
    let Pair { first, second, gateway } = pair("health: {enabled: false}\n");
    run(async {
        gateway.run(["provider", "disable", "first"]).ok();
        for _ in 0..5 {
            let answer = gateway.caller().chat("plain-model", "hello").await;
            assert_eq!(answer.header("x-keyward-provider"), Some("second"));
        }
        let answer = gateway.caller().chat("first/plain-model", "hello").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("disabled"), "{}", answer.text());
        gateway.run(["provider", "enable", "first"]).ok();
        assert_eq!(gateway.caller().chat("first/plain-model", "hello").await.status, 200);
    });
    drop((first, second));
}

// ---------------------------------------------------------------------- load

#[test]
fn a_request_counts_with_the_most_its_answer_may_have_until_it_is_over() {
    let limits = "    limits: {tokens_per_minute: 1000, queue: 1, wait: 100ms}\n";
    let Pair { first, gateway, .. } = pair_with(limits, "");
    run(async {
        let of = |model: &str, stream: bool| {
            let mut body = ask(&format!("first/{model}"), "hello", stream);
            body["max_tokens"] = json!(900);
            body
        };
        let caller = gateway.caller();
        let stream = caller.stream_of(&of("long-200", true)).await;
        let refused = caller.post("/v1/chat/completions", &of("plain-model", false)).await;
        assert_eq!(refused.status, 429, "{}", refused.text());
        stream.collect().await;
        let answer = caller.post("/v1/chat/completions", &of("plain-model", false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(first.requests().len(), 2);
    });
}

#[test]
fn what_does_not_fit_is_refused_with_the_time_to_come_back() {
    let _alone = crate::support::by_itself();
    let limits = "    limits: {concurrency: 1, queue: 1, wait: 5s}\n";
    let pair = pair_with(limits, "");
    run(async {
        let caller = pair.gateway.caller();
        let began = Instant::now();
        let answers = futures_util::future::join_all((0..6).map(|_| {
            let caller = caller.clone();
            async move { caller.chat("first/slow-800", "queue").await }
        }));
        let answers = answers.await;
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(served, 2, "one is served, one waits");
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(refused.status, 429, "{}", refused.text());
            assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    });
}

// ---------------------------------------------------------------------- telling

#[test]
fn a_real_request_can_be_explained_and_watched_by_operators_alone() {
    let pair = pair(&route("status-503", "plain-model"));
    run(async {
        let operator = pair.operator();
        let mut watching = operator.events("/events").await;
        assert_eq!(watching.status, 200);
        let answer = pair.gateway.caller().chat("r", "hello").await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        let seen = watching.until(|event| event["request"] == id.as_str()).await;
        assert_eq!(seen["event"], "request");
        assert_eq!(seen["decision"]["route"], "r");
        assert_eq!(seen["tried"][0]["outcome"], "failed");
        assert_eq!(seen["tried"][1]["outcome"], "answered");
        let path = format!("/operator/v1/routes/explain/{id}");
        let explained = operator.get(&path).await.json();
        assert_eq!(explained["attempts"], 2);
        let body = ask("plain-model", "hypothetical", false);
        let decision = operator.post("/operator/v1/routes/explain", &body).await.json();
        assert_eq!(decision["candidates"].as_array().unwrap().len(), 2, "{decision}");
        let counters = operator.get("/operator/v1/counters").await.json();
        assert_eq!((&counters["requests"], &counters["failovers"]), (&json!(1), &json!(1)));
        for path in ["/events", &path, "/operator/v1/providers", "/operator/v1/counters"] {
            let refused = pair.gateway.caller().get(path).await;
            assert_eq!(refused.status, 403, "{path}");
        }
        let refused = pair.gateway.caller().post("/operator/v1/routes/explain", &body).await;
        assert_eq!(refused.status, 403);
    });
}

#[test]
fn embeddings_that_one_has_in_mind_are_explained_as_real_ones_are_decided() {
    let vendor = Vendor::openai(&canary("openai"));
    let model = "text-embedding-3-small";
    let provider = |name: &str, more: &str| {
        format!(
            "  {name}:\n    key: {{env: KEY}}\n    models: [{{id: {model}, prices: {{input: 20, output: \
             1000}}}}]\n    {more}\n"
        )
    };
    let at = |scheme: &str, host: &str| {
        format!("endpoint: \"{scheme}://{host}:{}/v1\"", vendor.address().port())
    };
    let config = format!(
        "providers:\n{}{}{}privacy: {{}}\nhealth: {{enabled: false}}\n",
        provider(
            "near",
            &format!("adapter: openai\n    kind: local\n    {}", at("http", "127.0.0.1"))
        ),
        provider("chats", "adapter: anthropic\n    kind: local\n    endpoint: http://127.0.0.1:9"),
        provider(
            "away",
            &format!("adapter: openai\n    kind: external\n    {}", at("https", "localhost"))
        ),
    );
    let gateway =
        Setup::new(&config, &["openai", "anthropic"]).variable("KEY", &vendor.key).start();
    let explain = async |body: &Value, query: &str| {
        let path = format!("/operator/v1/routes/explain{query}");
        gateway.caller().post(&path, body).await
    };
    let names = |list: &Value| {
        let names = list.as_array().unwrap().iter().map(|it| it["provider"].as_str().unwrap());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    run(async {
        let body = json!({"model": model, "input": ["first", "second"]});
        let decision = explain(&body, "?operation=embed").await.json();
        assert_eq!(names(&decision["candidates"]), ["away", "near"], "{decision}");
        assert_eq!(decision["refused"][0]["provider"], "chats");
        assert_eq!(decision["refused"][0]["why"], "unable");
        assert_eq!(vendor.requests().len(), 0, "nothing is sent");
        // A text has tokens and a vector none: no price of an answer comes in.
        let cost: f64 = decision["candidates"][0]["cost"].as_str().unwrap().parse().unwrap();
        assert!(cost > 0.0 && cost < 0.001, "{decision}");

        // What holds for it, holds for a real one.
        let near = json!({"model": format!("near/{model}"), "input": ["first", "second"]});
        let told = explain(&near, "?operation=embed").await.json();
        let real = gateway.caller().post("/v1/embeddings", &near).await;
        assert_eq!(real.status, 200, "{}", real.text());
        let path = format!("/operator/v1/routes/explain/{}", real.header("x-request-id").unwrap());
        let real = gateway.caller().get(&path).await.json();
        assert_eq!(real["operation"], "embed");
        let (real, told) = (&real["decision"]["candidates"][0], &told["candidates"][0]);
        for field in ["provider", "model", "kind", "reason", "cost"] {
            assert_eq!(real[field], told[field], "{field}");
        }

        // Privacy looks at the inputs, and at what the caller says.
        let body = json!({"model": model, "input": ["my card is 4111 1111 1111 1111"]});
        for (body, query) in
            [(&body, ""), (&json!({"model": model, "input": "x"}), "&sensitive=true")]
        {
            let decision = explain(body, &format!("?operation=embed{query}")).await.json();
            assert_eq!(names(&decision["candidates"]), ["near"], "{decision}");
        }
        // A chat goes where a vector doesn't, and neither is taken for the other.
        let chat = ask(model, "hello", false);
        let decision = explain(&chat, "").await.json();
        assert_eq!(names(&decision["candidates"]), ["away", "chats", "near"], "{decision}");
        for (body, query) in [(&chat, "?operation=embed"), (&body, ""), (&chat, "?operation=sing")]
        {
            assert_eq!(explain(body, query).await.status, 400, "{query}");
        }
    });
    let shown = gateway.run(["route", "explain", "-m", model, "--embed"]).ok().out;
    assert!(shown.contains("near/text-embedding-3-small"), "{shown}");
    assert!(shown.contains("can't make embeddings"), "{shown}");
    gateway.run(["route", "explain", "-m", model, "--embed", "--stream"]).failed();
}

#[test]
fn an_explanation_shows_who_has_no_room_now() {
    let limits = "    limits: {concurrency: 1, requests_per_minute: 2, queue: 3}\n";
    let pair = pair_with(limits, "");
    run(async {
        let word = word("room");
        let stream = pair.gateway.caller().stream("first/long-500", &word).await;
        pair.first.wait_for_request(&word, Duration::from_secs(5)).await;
        let body = ask("first/plain-model", "hypothetical", false);
        let decision = pair.operator().post("/operator/v1/routes/explain", &body).await.json();
        let candidate = &decision["candidates"][0];
        assert_eq!((&candidate["open"], &candidate["waiting"]), (&json!(1), &json!(0)));
        assert_eq!(candidate["requests_left"], 1);
        assert_eq!(candidate["limits"]["concurrency"], 1);
        let waiting = tokio::spawn({
            let caller = pair.gateway.caller();
            async move { caller.chat("first/plain-model", "waits").await }
        });
        let explain = ["route", "explain", "-m", "plain-model"];
        let shown = eventually("one that waits", Duration::from_secs(5), async || {
            let shown = pair.gateway.run(explain).ok().out;
            shown.contains("1/1, 1 waiting").then_some(shown)
        })
        .await;
        assert!(shown.contains("second/plain-model"), "{shown}");
        drop(stream);
        assert_eq!(waiting.await.unwrap().status, 200);
        let shown = pair.gateway.run(explain).ok().out;
        assert!(shown.contains("0/1, no requests left this minute"), "{shown}");
    });
}

// ---------------------------------------------------------------------- conservation

/// What callers do in one round: some are answered, some by the second provider, some get a broken
/// stream, some leave early.
async fn round(gateway: &Gateway, callers: usize) {
    let each = (0..callers).map(|_| async {
        let caller = gateway.caller();
        caller.chat("plain-model", "plain").await;
        caller.chat("failing", "goes on").await;
        caller.chat("first/status-429", "nobody else").await;
        caller.stream("breaking", "breaks").await.collect().await;
        let mut leaver = caller.stream("first/long-500", "leaves").await;
        leaver.first_text().await;
    });
    futures_util::future::join_all(each).await;
}

#[test]
fn rows_and_vendors_agree_over_failovers_disconnects_and_a_restart() {
    let more = "routes:\n  failing: {candidates: [first/status-503, second/plain-model], order: \
                listed}\n  breaking: {candidates: [first/cut-4, second/plain-model], order: \
                listed}\nrouting: {retries: 1}\nhealth: {enabled: false}\n";
    let Pair { first, second, gateway } = pair(more);
    run(round(&gateway, 8));
    let gateway = gateway.stop().start();
    run(round(&gateway, 8));
    run(async {
        eventually("rows for all that the vendors served", Duration::from_secs(10), async || {
            let usage = gateway.run(["usage", "--rows", "--limit", "10000", "--json"]).ok().json();
            let rows = usage["rows"].as_array().unwrap();
            let of = |provider: &str| rows.iter().filter(|row| row["provider"] == provider).count();
            let posts = |vendor: &Vendor| {
                vendor.requests().iter().filter(|request| request.method == "POST").count()
            };
            (of("first") == posts(&first) && of("second") == posts(&second)).then_some(())
        })
        .await;
        let usage = gateway.run(["usage", "--rows", "--limit", "10000", "--json"]).ok().json();
        let rows = usage["rows"].as_array().unwrap();
        let with = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
        assert_eq!(with("cancelled"), 16, "each who left");
        assert_eq!(with("ok"), 32, "plain ones, and those that went on");
        for row in rows {
            let tokens = (row["input_tokens"].as_u64(), row["output_tokens"].as_u64());
            match row["outcome"].as_str().unwrap() {
                "ok" => assert_eq!(tokens, (Some(11), Some(7)), "{row}"),
                // Nothing was served: nothing is billed.
                "failed" if row["model"] != "cut-4" => {
                    assert_eq!(tokens, (Some(0), Some(0)), "{row}")
                }
                _ => assert!(row["estimated"] == true && tokens.1 > Some(0), "{row}"),
            }
        }
        // A request has its attempts once each, and none after the one that ended it.
        let mut attempts: std::collections::BTreeMap<&str, Vec<u64>> = Default::default();
        for row in rows {
            let request = row["request"].as_str().unwrap();
            attempts.entry(request).or_default().push(row["attempt"].as_u64().unwrap());
        }
        for (request, mut numbers) in attempts {
            numbers.sort_unstable();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{request}");
        }
    });
}
