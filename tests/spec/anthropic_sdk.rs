//! An unchanged Anthropic SDK talks to Keyward and can't tell Anthropic, OpenAI and Ollama apart.
//!
//! The real Python package runs `tests/python/anthropic_suite.py` once for each provider, and once
//! against the scripted Anthropic itself, so that the script is known to be what the SDK expects.

use serde_json::{Value, json};

use crate::support::{
    contains,
    gateway::{TOKEN, World},
    python,
    suite::{Seen, Suite},
    vendor::{Vendor, anthropic::COUNTED},
    word,
};

const PROVIDERS: [&str; 3] = ["anthropic", "openai", "ollama"];

/// The scripted Anthropic, without a gateway.
const DIRECT: &str = "directly";

static SUITE: Suite<4> = Suite::new(["anthropic", "openai", "ollama", DIRECT], ask);

fn ask(provider: &str) -> Seen {
    if provider == DIRECT {
        let vendor = Vendor::anthropic("key-of-the-tests");
        return python::run("anthropic_suite.py", &vendor.url(), &vendor.key, "");
    }
    let url = &World::shared().gateway.url;
    python::run("anthropic_suite.py", url, TOKEN, &format!("{provider}/"))
}

fn result(provider: &str, case: &str) -> &'static Value {
    SUITE.result(provider, case)
}

fn raised(provider: &str, case: &str) -> &'static Value {
    SUITE.raised(provider, case)
}

/// The scripted vendor has to satisfy the SDK in the same way.
fn for_all(look: impl Fn(&str)) {
    for provider in PROVIDERS.into_iter().chain([DIRECT]) {
        look(provider);
    }
}

// ------------------------------------------------------------------ messages

#[test]
fn a_plain_message_is_answered() {
    for_all(|provider| {
        let seen = result(provider, "plain");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!((&seen["type"], &seen["role"]), (&json!("message"), &json!("assistant")));
        assert_eq!(seen["stop"], "end_turn", "{provider}");
        assert!(seen["model"].as_str().unwrap().ends_with("plain-model"), "{provider}: {seen}");
        assert_eq!(seen["usage"]["input_tokens"], 11, "{provider}: {seen}");
        assert_eq!(seen["usage"]["output_tokens"], 7, "{provider}: {seen}");
    });
}

#[test]
fn headers_name_request_and_provider() {
    for provider in PROVIDERS {
        let headers = &result(provider, "plain_headers")["headers"];
        assert_eq!(headers["x-keyward-provider"], provider);
        assert_eq!(headers["request-id"], headers["x-request-id"]);
        assert!(headers["request-id"].as_str().unwrap().starts_with("kw-"), "{headers}");
        assert!(headers["set-cookie"].is_null(), "a vendor's cookie came through: {headers}");
    }
}

#[test]
fn common_settings_are_accepted() {
    for_all(|provider| {
        let seen = result(provider, "plain_with_settings");
        assert_eq!(seen["text"], "You said: Second question", "{provider}");
    });
}

#[test]
fn every_character_arrives_and_comes_back() {
    let sent = "You said: \"quoted\" \\back\\ \n\t\u{1} Grüße 日本語 🦀 </script> \u{2028} end";
    for_all(|provider| {
        for case in ["every_character_arrives", "every_character_arrives_streamed"] {
            assert_eq!(result(provider, case)["text"], sent, "{provider} {case}");
        }
    });
}

#[test]
fn the_sdks_own_accumulator_accepts_the_order_of_events() {
    for_all(|provider| {
        let seen = result(provider, "streamed_with_helper");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["stop"], "end_turn", "{provider}");
        assert_eq!(seen["usage"]["input_tokens"], 11, "{provider}: {seen}");
        assert_eq!(seen["usage"]["output_tokens"], 7, "{provider}: {seen}");
    });
}

#[test]
fn a_stream_has_the_events_of_the_reference_in_their_order() {
    for_all(|provider| {
        let events = result(provider, "streamed_raw").as_array().unwrap();
        let mut kinds: Vec<&str> = events.iter().filter_map(|it| it["type"].as_str()).collect();
        kinds.dedup();
        let expected = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(kinds, expected, "{provider}");
    });
}

#[test]
fn a_stream_is_passed_on_as_it_comes() {
    for_all(|provider| {
        let seen = result(provider, "streamed_long");
        assert!(seen["texts"].as_u64().unwrap() >= 55, "{provider}: {seen}");
    });
}

#[test]
fn an_answer_cut_by_its_length_says_so() {
    for_all(|provider| assert_eq!(result(provider, "cut_by_length")["stop"], "max_tokens"));
}

#[test]
fn cached_tokens_are_told_apart_from_the_prompts() {
    for provider in ["anthropic", "openai", DIRECT] {
        for way in ["whole", "streamed"] {
            let usage = &result(provider, "cached_tokens")[way]["usage"];
            assert_eq!(usage["input_tokens"], 3, "{provider} {way}: {usage}");
            assert_eq!(usage["cache_read_input_tokens"], 8, "{provider} {way}: {usage}");
        }
    }
}

#[test]
fn the_vendors_own_usage_fields_come_through() {
    for provider in ["anthropic", DIRECT] {
        assert_eq!(result(provider, "plain")["usage"]["service_tier"], "standard", "{provider}");
    }
}

#[test]
fn images_arrive_with_their_type_and_every_byte() {
    for_all(|provider| {
        let seen = result(provider, "an_image");
        let expected = format!("I see image/png of {} base64 characters", seen["length"]);
        assert_eq!(seen["text"], expected, "{provider}");
    });
}

#[test]
fn thinking_comes_signed_and_goes_back_as_it_came() {
    for provider in ["anthropic", DIRECT] {
        let seen = result(provider, "thinking");
        let [thought, said] = &seen["whole"].as_array().unwrap()[..] else { panic!("{seen}") };
        assert_eq!(thought["thinking"], "First I think it over.", "{provider}");
        assert!(!thought["signature"].as_str().unwrap().is_empty(), "{provider}");
        assert_eq!(said["text"], "You said: Think", "{provider}");
        let same = |block: &Value, name: &str| seen["streamed"][0][name] == block[name];
        assert!(same(thought, "thinking") && same(thought, "signature"), "{provider}: {seen}");
    }
    let request = World::shared().anthropic.the_request_with("thought-again").json();
    let seen = result("anthropic", "thinking");
    let block = &request["messages"][1]["content"][0];
    assert_eq!(block["type"], "thinking");
    assert_eq!(block["signature"], seen["whole"][0]["signature"]);
    assert_eq!(request["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
}

#[test]
fn an_answer_fits_the_schema_asked_for() {
    for_all(|provider| {
        let ada = json!({ "name": "Ada", "age": 36 });
        assert_eq!(result(provider, "a_schema")["answer"], ada, "{provider}");
        let typed = json!({ "name": "Ada", "age": 36, "class": "Person" });
        assert_eq!(*result(provider, "a_pydantic_class"), typed, "{provider}");
    });
}

#[test]
fn what_nobody_here_knows_reaches_the_vendor_of_the_same_dialect() {
    result("anthropic", "fields_nobody_knows");
    let request = World::shared().anthropic.the_request_with("unknown-fields").json();
    assert_eq!(request["at_top"], json!({"deep": [4]}));
    let message = &request["messages"][0];
    assert_eq!(message["in_message"], 2);
    let document = json!({
        "type": "document", "context": "ctx",
        "source": {"type": "text", "media_type": "text/plain", "data": "doc-text"},
    });
    assert_eq!(message["content"][0], document);
    assert_eq!(message["content"][1]["in_block"], 1);
    assert_eq!(request["tools"][0]["in_tool"], 3);
}

// ------------------------------------------------------------------ tools

fn assert_calls(provider: &str, seen: &Value, cities: &[&str]) {
    let calls = seen["calls"].as_array().unwrap();
    assert_eq!(calls.len(), cities.len(), "{provider}: {seen}");
    for (call, city) in calls.iter().zip(cities) {
        assert_eq!(call["name"], "get_weather", "{provider}");
        assert_eq!(call["input"], json!({ "city": city }), "{provider}");
        assert!(!call["id"].as_str().unwrap().is_empty(), "{provider}: {seen}");
    }
    assert_eq!(seen["stop"], "tool_use", "{provider}");
}

#[test]
fn tools_are_called_whole_and_streamed() {
    for_all(|provider| {
        for case in ["one_call", "a_named_tool", "any_tool"] {
            assert_calls(provider, result(provider, case), &["Paris"]);
        }
        for case in ["parallel_calls", "streamed_calls"] {
            assert_calls(provider, result(provider, case), &["Paris", "Zürich"]);
        }
    });
    for provider in ["anthropic", "openai", DIRECT] {
        let pieces = result(provider, "streamed_calls")["pieces"].as_u64().unwrap();
        assert!(pieces > 2, "{provider}: arguments weren't streamed");
    }
}

#[test]
fn results_of_tools_come_back_to_the_model() {
    let expected = "The tools say: Paris: \"sunny\", 21° and Zürich: \"sunny\", 21°";
    for_all(|provider| {
        for case in ["results_come_back", "results_come_back_streamed"] {
            assert_eq!(result(provider, case)["text"], expected, "{provider} {case}");
        }
    });
}

#[test]
fn the_sdks_own_loop_calls_the_tool_and_ends() {
    for_all(|provider| {
        let seen = result(provider, "the_sdks_own_loop");
        assert_eq!(seen["asked"], json!(["Paris"]), "{provider}");
        assert_eq!(seen["text"], "The tools say: {\"Paris\": \"sunny\"}", "{provider}");
    });
}

// ------------------------------------------------------------------ counts, models, keys

#[test]
fn tokens_are_counted_by_the_vendor_that_can_and_estimated_for_others() {
    for provider in ["anthropic", DIRECT] {
        assert_eq!(result(provider, "a_count")["tokens"], COUNTED, "{provider}");
    }
    assert!(result("anthropic", "a_count")["headers"]["x-keyward-warnings"].is_null());
    for provider in ["openai", "ollama"] {
        let seen = result(provider, "a_count");
        // Two hundred words that are a token each in common tokenizers.
        let tokens = seen["tokens"].as_u64().unwrap();
        assert!((180..=220).contains(&tokens), "{provider}: {tokens}");
        assert_eq!(seen["headers"]["x-keyward-warnings"], "estimated input_tokens", "{provider}");
    }
    for provider in ["anthropic", DIRECT] {
        assert_eq!(raised(provider, "a_count_that_fails")["type"], "RateLimitError", "{provider}");
    }
}

#[test]
fn a_count_is_free_and_leaves_no_usage() {
    let world = World::new("");
    let body =
        json!({"model": "anthropic/counted", "messages": [{"role": "user", "content": "hi"}]});
    let caller = world.caller();
    let answer = crate::support::run(caller.post("/v1/messages/count_tokens", &body));
    assert_eq!(answer.json(), json!({ "input_tokens": COUNTED }));
    let usage = world.gateway.run(["usage", "--rows", "--json"]).ok().everything();
    assert!(!contains(usage.as_bytes(), b"anthropic"), "{usage}");
}

#[test]
fn the_vendors_trials_reach_it_and_others_say_that_they_have_none() {
    let caller = World::shared().caller();
    let ask = |path: &str, provider: &str, word: &str| {
        let message = json!({"role": "user", "content": word});
        let mut body = json!({"model": format!("{provider}/m"), "messages": [message]});
        if path == "/v1/messages" {
            body["max_tokens"] = json!(9);
        }
        let headers = [
            ("content-type", "application/json"),
            ("anthropic-beta", "interleaved-thinking-2025-05-14, context-1m-2025-08-07"),
        ];
        crate::support::run(caller.post_bytes(path, &headers, body.to_string().into_bytes()))
    };
    let anthropic = World::shared().vendor("anthropic");
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let word = word("trials");
        let answer = ask(path, "anthropic", &word);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("x-keyward-warnings"), None, "{path}");
        let request = anthropic.the_request_with(&word);
        let mut trials: Vec<&str> = request.header("anthropic-beta").unwrap().split(',').collect();
        trials.sort_unstable();
        assert_eq!(trials, ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"], "{path}");
        assert!(!contains(request.json().to_string().as_bytes(), b"anthropic-beta"), "{path}");
    }
    for provider in ["openai", "ollama"] {
        let answer = ask("/v1/messages", provider, &word("trials"));
        let warnings = answer.header("x-keyward-warnings").unwrap();
        let lost = "dropped extra.anthropic-beta.interleaved-thinking-2025-05-14";
        assert!(warnings.contains(lost), "{provider}: {warnings}");
    }
}

#[test]
fn models_are_listed_page_by_page_and_found() {
    let seen = result("anthropic", "all_models");
    let ids: Vec<&str> = seen["ids"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for wanted in ["gpt-4.1", "claude-opus-4-5", "llama3.2:latest"] {
        assert!(ids.iter().any(|id| id.ends_with(wanted)), "{wanted} is not in {ids:?}");
    }
    assert_eq!((&seen["types"], &seen["dated"]), (&json!(["model"]), &json!(true)));
    assert_eq!(seen["again"], ids[0]);
    assert_eq!(raised("anthropic", "an_unknown_model")["type"], "NotFoundError");
}

#[test]
fn a_key_may_be_shown_in_the_old_way() {
    for_all(|provider| {
        let seen = result(provider, "the_old_way_of_showing_a_key");
        assert_eq!(seen["status"], 200, "{provider}: {seen}");
        assert_eq!(seen["body"]["content"][0]["text"], "You said: Hello there", "{provider}");
    });
}

// ------------------------------------------------------------------ errors

#[test]
fn every_error_class_is_the_sdks_own() {
    let classes = [
        (400, "BadRequestError", "invalid_request_error"),
        (401, "AuthenticationError", "authentication_error"),
        (403, "PermissionDeniedError", "permission_error"),
        (404, "NotFoundError", "not_found_error"),
        (429, "RateLimitError", "rate_limit_error"),
        (500, "InternalServerError", "api_error"),
    ];
    for_all(|provider| {
        for (status, class, kind) in classes {
            for end in ["", "_streamed"] {
                let case = format!("vendor_says_{status}{end}");
                let error = raised(provider, &case);
                let kinds = error["kinds"].as_array().unwrap();
                assert!(kinds.contains(&json!(class)), "{provider} {case}: {error}");
                assert_eq!(error["error_type"], kind, "{provider} {case}: {error}");
                assert_eq!(error["body"]["type"], "error", "{provider} {case}: {error}");
                assert_eq!(error["body"]["request_id"], error["request_id"], "{provider} {case}");
                assert!(error["request_id"].is_string(), "{provider} {case}: {error}");
            }
        }
    });
    for provider in ["anthropic", DIRECT] {
        for (status, class, kind) in [
            (402, "PaymentRequiredError", "billing_error"),
            (529, "OverloadedError", "overloaded_error"),
        ] {
            let error = raised(provider, &format!("vendor_says_{status}"));
            assert_eq!((&error["type"], &error["error_type"]), (&json!(class), &json!(kind)));
        }
    }
    assert_eq!(raised(DIRECT, "vendor_says_413")["type"], "ContentTooLargeError");
}

#[test]
fn the_vendors_wish_to_wait_reaches_the_caller() {
    for_all(|provider| {
        let error = raised(provider, "retry_after_is_passed_on");
        assert_eq!(error["type"], "RateLimitError", "{provider}");
        assert_eq!(error["retry_after"], "7", "{provider}: {error}");
    });
}

#[test]
fn the_callers_mistakes_are_told() {
    for (case, class, words) in [
        ("a_wrong_type", "BadRequestError", "temperature"),
        ("no_limit", "BadRequestError", "max_tokens"),
        ("an_unknown_provider", "NotFoundError", "no-such-provider"),
        ("a_wrong_caller_token", "AuthenticationError", "key"),
        ("an_unknown_path", "NotFoundError", "/v1/messages/nothing"),
    ] {
        let error = raised("anthropic", case);
        assert_eq!(error["type"], class, "{case}: {error}");
        let message = error["body"]["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{case}: {message}");
    }
}

#[test]
fn no_broken_stream_is_taken_for_a_whole_one() {
    for provider in PROVIDERS {
        for case in
            ["an_error_inside_the_stream", "a_stream_that_is_reset", "a_stream_that_ends_early"]
        {
            let seen = result(provider, case);
            assert_eq!(seen["ended"], false, "{provider} {case}: {seen}");
            let error = &seen["raised"];
            assert!(error["kinds"].as_array().is_some(), "{provider} {case}: {seen}");
            assert_eq!(error["body"]["type"], "error", "{provider} {case}: {seen}");
            let text = seen["text"].as_str().unwrap();
            assert!(!text.is_empty(), "{provider} {case}: what came before is lost");
            let whole = "You said: one two three four five six seven eight";
            assert!(whole.starts_with(text), "{provider} {case}: invented text: {text}");
        }
    }
}
