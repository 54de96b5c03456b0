//! An unchanged OpenAI SDK talks to Keyward and can't tell OpenAI, Anthropic and Ollama apart.
//!
//! The real Python package runs `tests/python/openai_suite.py` once for each provider; each test here
//! looks at what it saw in one respect, for all providers alike.

use serde_json::{Value, json};

use crate::support::{
    gateway::{TOKEN, World},
    python,
    suite::{Seen, Suite},
};

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "ollama"];

static SUITE: Suite<3> = Suite::new(PROVIDERS, ask);

fn ask(provider: &str) -> Seen {
    let url = format!("{}/v1", World::shared().gateway.url);
    python::suite(&url, TOKEN, &format!("{provider}/"))
}

fn result(provider: &str, case: &str) -> &'static Value {
    SUITE.result(provider, case)
}

fn raised(provider: &str, case: &str) -> &'static Value {
    SUITE.raised(provider, case)
}

fn for_all(look: impl Fn(&str)) {
    for provider in PROVIDERS {
        look(provider);
    }
}

// ------------------------------------------------------------------ answers

#[test]
fn a_plain_chat_is_answered() {
    for_all(|provider| {
        let seen = result(provider, "plain");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["object"], "chat.completion", "{provider}");
        assert_eq!(seen["role"], "assistant", "{provider}");
        assert_eq!(seen["finish"], "stop", "{provider}");
        assert_eq!(seen["choices"], 1, "{provider}");
        assert!(seen["model"].as_str().unwrap().ends_with("plain-model"), "{provider}: {seen}");
        assert!(!seen["id"].as_str().unwrap().is_empty(), "{provider}");
        assert!(seen["created"].as_u64().unwrap() > 1_700_000_000, "{provider}: {seen}");
    });
}

#[test]
fn a_plain_chat_tells_the_vendors_count_of_tokens() {
    for_all(|provider| {
        let usage = &result(provider, "plain")["usage"];
        assert_eq!(usage["prompt_tokens"], 11, "{provider}: {usage}");
        assert_eq!(usage["completion_tokens"], 7, "{provider}: {usage}");
        assert_eq!(usage["total_tokens"], 18, "{provider}: {usage}");
    });
}

#[test]
fn headers_name_provider_model_and_overhead() {
    for_all(|provider| {
        let headers = &result(provider, "plain_headers")["headers"];
        assert_eq!(headers["x-keyward-provider"], *provider);
        assert_eq!(headers["x-keyward-model"], "plain-model", "{provider}");
        let overhead = headers["x-keyward-overhead-us"].as_str().unwrap();
        assert!(overhead.parse::<u64>().unwrap() > 0, "{provider}: {overhead}");
        assert!(headers["set-cookie"].is_null(), "a vendor's cookie came through: {headers}");
        assert!(headers["openai-processing-ms"].is_null(), "a vendor's header came through");
    });
}

#[test]
fn common_settings_and_all_roles_are_accepted() {
    for_all(|provider| {
        let seen = result(provider, "plain_with_settings");
        // Ollama takes one text a message; how the two parts are joined is the adapter's choice.
        let words: Vec<&str> = seen["text"].as_str().unwrap().split_whitespace().collect();
        assert_eq!(words, ["You", "said:", "Second", "question"], "{provider}");
    });
}

#[test]
fn every_character_arrives_and_comes_back() {
    let sent = "You said: \"quoted\" \\back\\ \n\t\u{1} Grüße 日本語 🦀 </script> \u{2028} end";
    for_all(|provider| {
        assert_eq!(result(provider, "every_character_arrives")["text"], sent, "{provider}");
        let streamed = result(provider, "every_character_arrives_streamed");
        assert_eq!(streamed["text"], sent, "{provider}");
    });
}

#[test]
fn a_large_prompt_arrives_whole() {
    for_all(|provider| assert_eq!(result(provider, "a_large_prompt")["whole"], true, "{provider}"));
}

#[test]
fn a_streamed_chat_comes_in_pieces_of_one_answer() {
    for_all(|provider| {
        let seen = result(provider, "streamed");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["objects"], json!(["chat.completion.chunk"]), "{provider}");
        assert_eq!(seen["ids"].as_array().unwrap().len(), 1, "{provider}: {seen}");
        assert_eq!(seen["models"].as_array().unwrap().len(), 1, "{provider}: {seen}");
        assert_eq!(seen["roles"], json!(["assistant"]), "{provider}");
        assert_eq!(seen["finish"], json!(["stop"]), "{provider}");
        assert_eq!(seen["usages"], json!([]), "{provider}: usage came unasked");
    });
}

#[test]
fn a_stream_is_passed_on_as_it_comes() {
    for_all(|provider| {
        let seen = result(provider, "streamed_long");
        assert_eq!(seen["text"].as_array().unwrap().len(), 60, "{provider}");
        // The vendor pauses between its pieces, so nothing has a reason to be put together.
        assert!(seen["deltas"].as_u64().unwrap() >= 55, "{provider}: {seen}");
    });
}

#[test]
fn usage_comes_last_and_once_when_asked_for() {
    for_all(|provider| {
        let seen = result(provider, "streamed_with_usage");
        assert_eq!(seen["usages"].as_array().unwrap().len(), 1, "{provider}: {seen}");
        assert_eq!(seen["usages"][0]["prompt_tokens"], 11, "{provider}: {seen}");
        assert_eq!(seen["usages"][0]["completion_tokens"], 7, "{provider}: {seen}");
        assert_eq!(seen["usages"][0]["total_tokens"], 18, "{provider}: {seen}");
        assert_eq!(seen["usage_choices"], 0, "{provider}: {seen}");
    });
}

#[test]
fn the_cut_of_the_bytes_makes_no_difference() {
    for_all(|provider| {
        let bytewise = result(provider, "streamed_byte_by_byte");
        assert_eq!(bytewise["text"], "You said: Grüße 🦀", "{provider}");
        let returns = result(provider, "streamed_with_carriage_returns");
        assert_eq!(returns["text"], "You said: Hello there", "{provider}");
        let at_once = result(provider, "streamed_at_once");
        assert_eq!(at_once["text"], "You said: Hello there", "{provider}");
        for seen in [bytewise, returns, at_once] {
            assert_eq!(seen["finish"], json!(["stop"]), "{provider}");
        }
    });
}

#[test]
fn the_sdks_own_accumulator_accepts_the_order_of_chunks() {
    for_all(|provider| {
        let seen = result(provider, "streamed_with_helper");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["finish"], "stop", "{provider}");
    });
}

#[test]
fn an_answer_cut_by_its_length_says_so() {
    for_all(|provider| {
        assert_eq!(result(provider, "cut_by_length")["finish"], "length", "{provider}");
    });
}

#[test]
fn cached_tokens_are_part_of_the_prompts() {
    for provider in ["openai", "anthropic"] {
        let usage = &result(provider, "cached_tokens")["usage"];
        assert_eq!(usage["prompt_tokens"], 11, "{provider}: {usage}");
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 8, "{provider}: {usage}");
    }
}

#[test]
fn images_arrive_with_their_type_and_every_byte() {
    for_all(|provider| {
        let seen = result(provider, "an_image");
        let expected = format!("I see image/png of {} base64 characters", seen["length"]);
        assert_eq!(seen["text"], expected, "{provider}");
        let two = result(provider, "two_images_streamed")["text"].as_str().unwrap();
        assert_eq!(two.matches("image/png").count(), 2, "{provider}: {two}");
    });
}

// ------------------------------------------------------------------ tools

const PARIS: &str = "Paris";

fn assert_calls(provider: &str, calls: &Value, cities: &[&str]) {
    let calls = calls.as_array().unwrap();
    assert_eq!(calls.len(), cities.len(), "{provider}: {calls:?}");
    let mut ids: Vec<&str> = calls.iter().filter_map(|call| call["id"].as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), cities.len(), "{provider}: ids missing or the same: {calls:?}");
    assert!(ids.iter().all(|id| !id.is_empty()), "{provider}: {calls:?}");
    for (call, city) in calls.iter().zip(cities) {
        assert_eq!(call["name"], "get_weather", "{provider}");
        assert_eq!(call["arguments"], json!({ "city": city }), "{provider}");
    }
}

#[test]
fn a_tool_is_called() {
    for_all(|provider| {
        for case in ["one_call", "a_required_tool", "a_named_tool"] {
            let seen = result(provider, case);
            assert_calls(provider, &seen["calls"], &[PARIS]);
            assert!(seen["text"].is_null() || seen["text"] == "", "{provider}: {seen}");
            // With a tool forced by name OpenAI itself ends with "stop"; both are met in the wild.
            assert!(seen["finish"] == "tool_calls", "{provider} {case}: {seen}");
        }
    });
}

#[test]
fn two_tools_are_called_at_once() {
    for_all(|provider| {
        assert_calls(provider, &result(provider, "parallel_calls")["calls"], &[PARIS, "Zürich"]);
    });
}

#[test]
fn streamed_calls_accumulate_to_the_same() {
    for_all(|provider| {
        let one = result(provider, "one_call_streamed");
        assert_calls(provider, &one["calls"], &[PARIS]);
        assert_eq!(one["finish"], json!(["tool_calls"]), "{provider}");
        let two = result(provider, "parallel_calls_streamed");
        assert_calls(provider, &two["calls"], &[PARIS, "Zürich"]);
        for call in two["calls"].as_array().unwrap() {
            assert_eq!(call["starts"], 1, "{provider}: an id came more than once: {two}");
        }
        let helper = result(provider, "streamed_calls_with_helper");
        assert_calls(provider, &helper["calls"], &[PARIS, "Zürich"]);
    });
}

#[test]
fn arguments_are_streamed_where_the_vendor_streams_them() {
    for provider in ["openai", "anthropic"] {
        let seen = result(provider, "one_call_streamed");
        assert!(seen["fragments"].as_u64().unwrap() > 1, "{provider}: {seen}");
    }
}

#[test]
fn results_of_tools_come_back_to_the_model() {
    for_all(|provider| {
        let one = result(provider, "a_result_comes_back");
        assert_eq!(one["text"], "The tools say: Paris: \"sunny\", 21°", "{provider}");
        for case in ["two_results_come_back", "two_results_come_back_streamed"] {
            let two = result(provider, case);
            let expected = "The tools say: Paris: \"sunny\", 21° and Zürich: \"sunny\", 21°";
            assert_eq!(two["text"], expected, "{provider}");
            assert_eq!(two["calls"], 2, "{provider}");
        }
    });
}

// ------------------------------------------------------------------ structure

#[test]
fn an_answer_fits_the_schema_asked_for() {
    for_all(|provider| {
        let ada = json!({ "name": "Ada", "age": 36 });
        let plain = result(provider, "a_schema");
        assert_eq!(plain["answer"], ada, "{provider}");
        assert_eq!(plain["finish"], "stop", "{provider}");
        assert_eq!(result(provider, "a_schema_streamed")["answer"], ada, "{provider}");
    });
}

#[test]
fn a_pydantic_class_is_filled() {
    for_all(|provider| {
        let seen = result(provider, "a_pydantic_class");
        assert_eq!(*seen, json!({ "name": "Ada", "age": 36, "class": "Person" }), "{provider}");
    });
}

#[test]
fn json_without_a_schema_is_asked_for_where_the_vendor_can() {
    for provider in ["openai", "ollama"] {
        let seen = result(provider, "a_json_object");
        assert_eq!(seen["text"], "{\"name\": \"Ada\", \"age\": 36}", "{provider}");
    }
}

// ------------------------------------------------------------------ embeddings, models

#[test]
fn embeddings_come_in_order_whatever_their_encoding() {
    let vector = |index: u32| {
        let index = f64::from(index);
        json!([index, index + 0.125, index + 0.25, index + 0.375])
    };
    for provider in ["openai", "ollama"] {
        let one = result(provider, "one_embedding");
        assert_eq!(one["vectors"], json!([vector(0)]), "{provider}");
        assert_eq!(one["object"], "list", "{provider}");
        assert_eq!(one["usage"]["prompt_tokens"], 6, "{provider}");
        let three = result(provider, "several_embeddings");
        assert_eq!(three["vectors"], json!([vector(0), vector(1), vector(2)]), "{provider}");
        assert_eq!(three["indices"], json!([0, 1, 2]), "{provider}");
        let floats = result(provider, "embeddings_as_floats");
        assert_eq!(floats["vectors"], json!([vector(0), vector(1)]), "{provider}");
        let two = result(provider, "embeddings_of_fewer_dimensions");
        assert_eq!(two["vectors"][0].as_array().unwrap().len(), 2, "{provider}: {two}");
        let failed = raised(provider, "an_embedding_that_fails");
        assert_eq!(failed["type"], "RateLimitError", "{provider}");
    }
}

#[test]
fn embeddings_are_refused_in_plain_words_where_there_are_none() {
    let error = raised("anthropic", "one_embedding");
    assert_eq!(error["type"], "BadRequestError", "{error}");
    assert!(error["message"].as_str().unwrap().to_lowercase().contains("embed"), "{error}");
}

#[test]
fn models_are_listed_and_found() {
    let seen = result("openai", "all_models");
    let ids: Vec<&str> = seen["ids"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for wanted in ["gpt-4.1", "claude-opus-4-5", "llama3.2:latest"] {
        assert!(ids.iter().any(|id| id.ends_with(wanted)), "{wanted} is not in {ids:?}");
    }
    assert_eq!(seen["objects"], json!(["model"]));
    assert_eq!(seen["created"], true);
    let first = result("openai", "the_first_model");
    assert_eq!(first["wanted"], first["got"]);
    assert_eq!(raised("openai", "an_unknown_model")["type"], "NotFoundError");
}

// ------------------------------------------------------------------ errors

#[test]
fn every_error_class_is_the_sdks_own() {
    let classes = [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ];
    for_all(|provider| {
        for (status, class) in classes {
            for end in ["", "_streamed"] {
                let case = format!("vendor_says_{status}{end}");
                let error = raised(provider, &case);
                assert_eq!(error["type"], class, "{provider} {case}: {error}");
                let body = &error["body"];
                assert!(body["message"].is_string(), "{provider} {case}: {error}");
                assert!(body["type"].is_string(), "{provider} {case}: {error}");
                assert!(body.get("param").is_some(), "{provider} {case}: {error}");
                assert!(body.get("code").is_some(), "{provider} {case}: {error}");
            }
        }
    });
}

#[test]
fn a_missing_model_is_named_in_its_error() {
    for_all(|provider| {
        let error = raised(provider, "vendor_says_404");
        assert_eq!(error["code"], "model_not_found", "{provider}: {error}");
        assert!(error["message"].as_str().unwrap().contains("status-404"), "{provider}: {error}");
    });
    let error = raised("ollama", "vendor_says_404");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("ollama pull"), "how to get the model: {message}");
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
fn a_prompt_that_is_too_long_has_its_own_code() {
    for provider in ["openai", "anthropic"] {
        let error = raised(provider, "a_prompt_that_is_too_long");
        assert_eq!(error["type"], "BadRequestError", "{provider}");
        assert_eq!(error["code"], "context_length_exceeded", "{provider}: {error}");
    }
}

#[test]
fn a_wrong_caller_token_is_refused() {
    let error = raised("openai", "a_wrong_caller_token");
    assert_eq!(error["type"], "AuthenticationError");
    assert_eq!(error["code"], "invalid_api_key");
}

#[test]
fn the_callers_mistakes_are_told_with_their_field() {
    let role = raised("openai", "no_messages");
    assert_eq!(role["type"], "BadRequestError", "{role}");
    assert!(role["param"].as_str().unwrap().contains("messages"), "{role}");
    let temperature = raised("openai", "a_wrong_type");
    assert_eq!(temperature["type"], "BadRequestError", "{temperature}");
    assert_eq!(temperature["param"], "temperature", "{temperature}");
    let provider = raised("openai", "an_unknown_provider");
    assert_eq!(provider["type"], "NotFoundError", "{provider}");
    assert_eq!(provider["code"], "model_not_found", "{provider}");
}

#[test]
fn a_caller_that_does_not_wait_gets_a_timeout() {
    for_all(|provider| {
        let error = raised(provider, "a_caller_that_does_not_wait");
        assert_eq!(error["type"], "APITimeoutError", "{provider}");
    });
}

#[test]
fn an_error_inside_a_stream_is_raised_after_what_came() {
    let cases =
        ["an_error_inside_the_stream", "a_stream_that_is_reset", "a_stream_that_ends_early"];
    for_all(|provider| {
        for case in cases {
            let seen = result(provider, case);
            assert_eq!(seen["raised"]["type"], "APIError", "{provider} {case}: {seen}");
            let text = seen["text"].as_str().unwrap();
            assert!(!text.is_empty(), "{provider} {case}: what came before is lost");
            let whole = "You said: one two three four five six seven eight";
            assert!(whole.starts_with(text), "{provider} {case}: invented text: {text}");
        }
    });
}

#[test]
fn the_sdk_retries_on_its_own() {
    for_all(|provider| {
        let error = raised(provider, "the_sdk_gets_through_after_retries");
        assert_eq!(error["type"], "InternalServerError", "{provider}: {error}");
        let requests = World::shared().vendor(provider).requests_with("retried").len();
        assert!(requests >= 2, "{provider}: {requests} requests");
    });
}
