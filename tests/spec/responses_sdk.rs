//! An unchanged OpenAI SDK speaks the Responses API to Keyward, whatever the vendor speaks.
//!
//! `tests/python/responses.py` runs once for each provider; each test here looks at what it saw in
//! one respect. What only OpenAI's own API can do reaches OpenAI unchanged, and is an error or a
//! warning elsewhere.

use serde_json::{Value, json};

use crate::support::{
    canary,
    gateway::{TOKEN, World},
    python, run,
    suite::{Seen, Suite},
    vendor::{Vendor, openai::responses},
    word,
};

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "ollama"];

static SUITE: Suite<3> = Suite::new(PROVIDERS, ask);

fn ask(provider: &str) -> Seen {
    let url = format!("{}/v1", World::shared().gateway.url);
    python::run("responses.py", &url, TOKEN, &format!("{provider}/"))
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

#[test]
fn the_scripted_openai_satisfies_the_sdk_itself() {
    let vendor = Vendor::openai(&canary("openai"));
    let seen = python::run("responses.py", &format!("{}/v1", vendor.url()), &vendor.key, "");
    for (case, line) in &seen {
        assert!(line["crashed"].is_null(), "{case}: {line}");
    }
    assert_eq!(seen["plain"]["result"]["text"], "You said: Hello there");
    assert_eq!(seen["two_results_come_back"]["result"]["status"], "completed");
    assert_eq!(seen["thinking_comes_back"]["result"]["text"], "You said: comes-back");
    assert_eq!(seen["a_conversation_by_reference"]["result"]["text"], "You said: Two");
    assert_eq!(seen["vendor_says_403"]["raised"]["type"], "PermissionDeniedError");
}

// ------------------------------------------------------------------ answers

#[test]
fn a_plain_response_is_answered() {
    for_all(|provider| {
        let seen = result(provider, "plain");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["object"], "response", "{provider}");
        assert_eq!(seen["status"], "completed", "{provider}");
        assert_eq!(seen["kinds"], json!(["message"]), "{provider}");
        assert_eq!(seen["tool_choice"], "auto", "{provider}");
        assert_eq!(seen["parallel_tool_calls"], true, "{provider}");
        assert!(seen["model"].as_str().unwrap().ends_with("plain-model"), "{provider}: {seen}");
        assert!(!seen["id"].as_str().unwrap().is_empty(), "{provider}");
        assert!(seen["created_at"].as_f64().unwrap() > 1_700_000_000.0, "{provider}: {seen}");
        let usage = &seen["usage"];
        assert_eq!(usage["input_tokens"], 11, "{provider}: {usage}");
        assert_eq!(usage["output_tokens"], 7, "{provider}: {usage}");
        assert_eq!(usage["total_tokens"], 18, "{provider}: {usage}");
    });
}

#[test]
fn headers_name_provider_and_model() {
    for_all(|provider| {
        let headers = &result(provider, "plain_headers")["headers"];
        assert_eq!(headers["x-keyward-provider"], *provider);
        assert_eq!(headers["x-keyward-model"], "plain-model", "{provider}");
    });
}

#[test]
fn common_settings_are_accepted_and_repeated() {
    for_all(|provider| {
        let seen = result(provider, "plain_with_settings");
        assert_eq!(seen["text"], "You said: Second question", "{provider}");
        let all = &seen["all"];
        assert_eq!(all["instructions"], "Be brief.", "{provider}");
        assert_eq!(all["metadata"], json!({ "topic": "demo" }), "{provider}");
        assert_eq!(all["temperature"], 0.5, "{provider}");
        assert_eq!(all["max_output_tokens"], 100, "{provider}");
        assert_eq!(all["store"], false, "{provider}");
        assert_eq!(all["user"], "user-1", "{provider}");
    });
}

#[test]
fn what_a_vendor_leaves_out_is_told_and_what_it_does_anyway_is_not() {
    assert_eq!(result("openai", "plain_with_settings")["warnings"], Value::Null);
    for provider in ["anthropic", "ollama"] {
        let seen = result(provider, "plain_with_settings");
        let warnings = seen["warnings"].as_str().unwrap();
        assert!(warnings.contains("extra.metadata"), "{provider}: {warnings}");
        for quiet in
            ["instructions", "store", "truncation", "service_tier", "background", "include"]
        {
            assert!(!warnings.contains(quiet), "{provider}: {quiet} in {warnings}");
        }
    }
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
fn a_stream_tells_every_step_in_order() {
    for_all(|provider| {
        let seen = result(provider, "streamed");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["last"]["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["last"]["status"], "completed", "{provider}");
        assert_eq!(seen["last"]["usage"]["total_tokens"], 18, "{provider}");
        assert_eq!(seen["ids"].as_array().unwrap().len(), 1, "{provider}: {seen}");
        let mut events: Vec<&str> =
            seen["events"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        events.dedup();
        let expected = [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ];
        assert_eq!(events, expected, "{provider}");
    });
}

#[test]
fn a_stream_is_passed_on_as_it_comes() {
    for_all(|provider| {
        let deltas = result(provider, "streamed_long")["deltas"].as_u64().unwrap();
        assert!(deltas >= 55, "{provider}: {deltas}");
        let bytewise = result(provider, "streamed_byte_by_byte");
        assert_eq!(bytewise["text"], "You said: Grüße 🦀", "{provider}");
    });
}

#[test]
fn the_sdks_own_accumulator_accepts_the_order_of_events() {
    for_all(|provider| {
        let seen = result(provider, "streamed_with_helper");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["status"], "completed", "{provider}");
    });
}

#[test]
fn an_answer_cut_by_its_length_is_incomplete() {
    for_all(|provider| {
        let plain = result(provider, "cut_by_length");
        let streamed = &result(provider, "cut_by_length_streamed");
        assert_eq!(streamed["events"].as_array().unwrap().last().unwrap(), "response.incomplete");
        for seen in [plain, &streamed["last"]] {
            assert_eq!(seen["status"], "incomplete", "{provider}: {seen}");
            assert_eq!(seen["reason"], "max_output_tokens", "{provider}: {seen}");
        }
    });
}

#[test]
fn cached_tokens_are_part_of_the_input() {
    for provider in ["openai", "anthropic"] {
        let usage = &result(provider, "cached_tokens")["usage"];
        assert_eq!(usage["input_tokens"], 11, "{provider}: {usage}");
        assert_eq!(usage["input_tokens_details"]["cached_tokens"], 8, "{provider}: {usage}");
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
fn an_answer_is_input_of_the_next_turn_as_it_is() {
    for_all(|provider| {
        assert_eq!(
            result(provider, "a_conversation_goes_on")["text"],
            "You said: Two",
            "{provider}"
        );
    });
}

// ------------------------------------------------------------------ tools

fn assert_calls(provider: &str, calls: &Value, cities: &[&str]) {
    let calls = calls.as_array().unwrap();
    assert_eq!(calls.len(), cities.len(), "{provider}: {calls:?}");
    let mut ids: Vec<&str> = calls.iter().filter_map(|call| call["id"].as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), cities.len(), "{provider}: ids missing or the same: {calls:?}");
    for (call, city) in calls.iter().zip(cities) {
        assert_eq!(call["name"], "get_weather", "{provider}");
        assert_eq!(call["arguments"], json!({ "city": city }), "{provider}");
    }
}

#[test]
fn a_tool_is_called() {
    for_all(|provider| {
        for case in ["one_call", "a_required_tool", "a_named_tool"] {
            assert_calls(provider, &result(provider, case)["calls"], &["Paris"]);
        }
        let seen = result(provider, "one_call");
        assert_eq!(seen["kinds"], json!(["function_call"]), "{provider}");
        assert_eq!(seen["status"], "completed", "{provider}");
        assert_eq!(seen["tools"], 1, "{provider}");
    });
}

#[test]
fn two_tools_are_called_at_once() {
    for_all(|provider| {
        let cities = ["Paris", "Zürich"];
        assert_calls(provider, &result(provider, "parallel_calls")["calls"], &cities);
        assert_calls(provider, &result(provider, "streamed_calls_with_helper")["calls"], &cities);
    });
}

#[test]
fn streamed_arguments_add_up_to_the_calls() {
    for_all(|provider| {
        for (case, cities) in [
            ("one_call_streamed", &["Paris"][..]),
            ("parallel_calls_streamed", &["Paris", "Zürich"]),
        ] {
            let seen = result(provider, case);
            for (index, city) in cities.iter().enumerate() {
                let pieces = seen["arguments"][index.to_string()].as_array().unwrap();
                let joined: String = pieces.iter().filter_map(Value::as_str).collect();
                let arguments: Value = serde_json::from_str(&joined).unwrap();
                assert_eq!(arguments, json!({ "city": city }), "{provider} {case}");
                let item = &seen["last"]["items"][index];
                assert_eq!(item["arguments"], joined, "{provider} {case}");
                assert_eq!(item["status"], "completed", "{provider} {case}");
            }
        }
    });
    for provider in ["openai", "anthropic"] {
        let pieces = &result(provider, "one_call_streamed")["arguments"]["0"];
        assert!(pieces.as_array().unwrap().len() > 1, "{provider}: {pieces}");
    }
}

#[test]
fn results_of_tools_come_back_to_the_model() {
    for_all(|provider| {
        for case in ["a_result_comes_back", "a_result_in_parts"] {
            let one = result(provider, case);
            assert_eq!(one["text"], "The tools say: Paris: \"sunny\", 21°", "{provider} {case}");
        }
        for case in ["two_results_come_back", "two_results_come_back_streamed"] {
            let two = result(provider, case);
            let expected = "The tools say: Paris: \"sunny\", 21° and Zürich: \"sunny\", 21°";
            assert_eq!(two["text"], expected, "{provider} {case}");
        }
    });
}

#[test]
fn a_custom_tool_gets_text_and_gives_it() {
    let seen = result("openai", "a_custom_tool");
    let call = &seen["first"]["items"][0];
    assert_eq!(call["type"], "custom_tool_call", "{call}");
    assert_eq!(call["input"], "SELECT weather FROM \"Paris\"", "{call}");
    assert_eq!(seen["streamed"], call["input"]);
    assert_eq!(seen["second"]["text"], "The tools say: sunny");
    for provider in ["anthropic", "ollama"] {
        let warnings = &result(provider, "a_custom_tool")["warnings"];
        assert!(warnings.as_str().unwrap().contains("dropped tools"), "{provider}: {warnings}");
    }
}

#[test]
fn a_tool_of_the_vendors_own_shows_what_it_did() {
    let plain = result("openai", "a_tool_of_the_vendors");
    assert_eq!(plain["kinds"], json!(["web_search_call", "message"]), "{plain}");
    assert_eq!(plain["items"][0]["action"]["query"], "Hello there", "{plain}");
    let streamed = result("openai", "a_tool_of_the_vendors_streamed");
    assert_eq!(streamed["last"]["items"][0], plain["items"][0]);
    let kinds: Vec<&Value> =
        streamed["others"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    let of = |state: &str| json!(format!("response.web_search_call.{state}"));
    assert_eq!(kinds, [&of("in_progress"), &of("searching"), &of("completed")]);
}

// ------------------------------------------------------------------ thinking, structure

#[test]
fn thinking_is_a_reasoning_item_before_the_message() {
    for_all(|provider| {
        let plain = result(provider, "thinking");
        let streamed = result(provider, "thinking_streamed");
        for seen in [plain, &streamed["last"]] {
            assert_eq!(seen["kinds"], json!(["reasoning", "message"]), "{provider}: {seen}");
            let summary = &seen["items"][0]["summary"];
            assert_eq!(summary[0]["text"], "First I think it over.", "{provider}: {seen}");
        }
        assert_eq!(streamed["thinking"], "First I think it over.", "{provider}");
    });
    for provider in ["openai", "anthropic"] {
        let item = &result(provider, "thinking")["items"][0];
        assert!(item["encrypted_content"].is_string(), "{provider}: {item}");
    }
}

#[test]
fn thinking_goes_back_to_its_vendor_as_it_came() {
    let world = World::shared();
    for provider in ["openai", "anthropic"] {
        let seen = result(provider, "thinking_comes_back");
        assert_eq!(seen["text"], "You said: comes-back", "{provider}");
    }
    let sent = world.openai.the_request_with("comes-back").json();
    let expected = json!({
        "type": "reasoning",
        "summary": [{ "type": "summary_text", "text": "First I think it over." }],
        "encrypted_content": responses::ENCRYPTED,
    });
    assert_eq!(sent["input"][1], expected, "{sent}");
    let sent = world.anthropic.the_request_with("comes-back").json();
    let block = &sent["messages"][1]["content"][0];
    assert_eq!(block["type"], "thinking", "{sent}");
    assert_eq!(block["thinking"], "First I think it over.", "{sent}");
    let signature = &result("anthropic", "thinking")["items"][0]["encrypted_content"];
    assert_eq!(&block["signature"], signature, "{sent}");
}

#[test]
fn an_answer_fits_the_schema_asked_for() {
    for_all(|provider| {
        let ada = json!({ "name": "Ada", "age": 36 });
        assert_eq!(result(provider, "a_schema")["answer"], ada, "{provider}");
        for case in ["a_pydantic_class", "a_pydantic_class_streamed"] {
            let seen = result(provider, case);
            assert_eq!(*seen, json!({ "name": "Ada", "age": 36, "class": "Person" }), "{provider}");
        }
    });
}

#[test]
fn a_refusal_is_a_part_of_its_own() {
    let plain = result("openai", "a_refusal");
    let streamed = result("openai", "a_refusal_streamed");
    for seen in [plain, &streamed["last"]] {
        let part = &seen["items"][0]["content"][0];
        assert_eq!(*part, json!({ "type": "refusal", "refusal": "I can't help with that." }));
        assert_eq!(seen["status"], "completed", "{seen}");
    }
    assert_eq!(streamed["refusal"], "I can't help with that.");
}

// ------------------------------------------------------------------ what is stored

#[test]
fn what_refers_to_something_stored_reaches_a_vendor_that_stores_and_fails_elsewhere() {
    let cases = [
        ("a_conversation_by_reference", "previous_response_id"),
        ("a_conversation_by_reference_streamed", "previous_response_id"),
        ("an_item_by_reference", "input"),
    ];
    for (case, param) in cases {
        let seen = result("openai", case);
        assert_eq!(seen["text"], "You said: Two", "{case}: {seen}");
        for provider in ["anthropic", "ollama"] {
            let error = raised(provider, case);
            assert_eq!(error["type"], "BadRequestError", "{provider} {case}: {error}");
            assert_eq!(error["code"], "unsupported", "{provider} {case}: {error}");
            assert_eq!(error["param"], param, "{provider} {case}: {error}");
        }
    }
}

#[test]
fn what_would_have_to_be_stored_here_is_refused() {
    for_all(|provider| {
        let error = raised(provider, "in_the_background");
        assert_eq!(error["param"], "background", "{provider}: {error}");
        for case in [
            "a_response_is_asked_for_again",
            "a_response_is_deleted",
            "a_response_is_cancelled",
            "input_items_are_asked_for",
        ] {
            let error = raised(provider, case);
            assert_eq!(error["type"], "NotFoundError", "{provider} {case}: {error}");
            assert_eq!(error["code"], "responses_not_stored", "{provider} {case}: {error}");
        }
    });
}

// ------------------------------------------------------------------ the same dialect in and out

#[test]
fn fields_nobody_here_knows_reach_a_vendor_that_speaks_the_protocol() {
    let world = World::shared();
    let word = word("passes");
    let request = json!({
        "model": "openai/plain-model",
        "instructions": "Be brief.",
        "input": [
            { "role": "user", "content": [
                { "type": "input_text", "text": word, "part_field": 1 },
                { "type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high" },
            ], "message_field": 2 },
            { "type": "web_search_call", "id": "ws_1", "status": "completed", "item_field": [3] },
            { "role": "user", "content": "and now?" },
        ],
        "tools": [
            { "type": "function", "name": "f", "parameters": { "type": "object" }, "tool_field": 4 },
            { "type": "file_search", "vector_store_ids": ["vs_1"] },
        ],
        "text": { "verbosity": "low", "text_field": 5 },
        "reasoning": { "summary": "auto", "reasoning_field": 6 },
        "prompt_cache_key": "key-1", "truncation": "auto", "top_field": { "a": [7] }, "store": true,
    });
    let answer = run(async { world.caller().post("/v1/responses", &request).await });
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = world.openai.the_request_with(&word).json();
    let input = sent["input"].as_array().unwrap();
    let user = input.iter().find(|item| item["message_field"] == 2).expect("the message's field");
    assert_eq!(user["content"][0]["part_field"], 1, "{sent}");
    assert_eq!(user["content"][1]["detail"], "high", "{sent}");
    assert!(input.contains(&request["input"][1]), "the item as it came: {sent}");
    assert_eq!(sent["tools"][0]["tool_field"], 4, "{sent}");
    assert_eq!(sent["tools"][1], request["tools"][1], "{sent}");
    for (object, member) in [
        ("text", "verbosity"),
        ("text", "text_field"),
        ("reasoning", "summary"),
        ("reasoning", "reasoning_field"),
    ] {
        assert_eq!(sent[object][member], request[object][member], "{object}.{member}: {sent}");
    }
    for member in ["prompt_cache_key", "truncation", "top_field", "store"] {
        assert_eq!(sent[member], request[member], "{member}: {sent}");
    }
    let body: Value = answer.json();
    assert_eq!(body["billing"], json!({ "payer": "developer" }), "an answer's unknown field");
    assert_eq!(body["store"], true, "what the vendor says, not what is repeated here");
    assert_eq!(body["id"], responses::ID);
    assert_eq!(body["output"][0]["phase"], "final_answer", "an item's unknown field");
    assert_eq!(sent["instructions"], "Be brief.", "as instructions, which the vendor forgets");
    assert_eq!(input[0]["role"], "user", "and not as a message, which it remembers");
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
                assert!(error["body"]["message"].is_string(), "{provider} {case}: {error}");
            }
        }
        let error = raised(provider, "retry_after_is_passed_on");
        assert_eq!(error["retry_after"], "7", "{provider}: {error}");
        let error = raised(provider, "a_wrong_caller_token");
        assert_eq!(error["type"], "AuthenticationError", "{provider}: {error}");
    });
}

#[test]
fn the_callers_mistakes_are_told_with_their_field() {
    for (case, param) in
        [("a_wrong_role", "input[1].role"), ("a_wrong_type", "temperature"), ("no_input", "input")]
    {
        let error = raised("openai", case);
        assert_eq!(error["type"], "BadRequestError", "{case}: {error}");
        assert_eq!(error["param"], param, "{case}: {error}");
    }
}

#[test]
fn a_response_that_failed_is_an_error() {
    let error = raised("openai", "a_failed_response");
    assert_eq!(error["type"], "InternalServerError", "{error}");
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
            let whole = "You said: one two three four five six seven eight";
            assert!(!text.is_empty() && whole.starts_with(text), "{provider} {case}: {text}");
            let events = seen["events"].as_array().unwrap();
            assert!(!events.contains(&json!("response.completed")), "{provider} {case}: {seen}");
        }
    });
    // Nothing had been said yet, so the whole answer is the error.
    let seen = result("openai", "a_failed_response_streamed");
    assert_eq!(seen["raised"]["type"], "InternalServerError", "{seen}");
}
