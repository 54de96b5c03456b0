//! The unchanged `openai` package of npm: chats and responses, whole and streamed, tools, errors.
//!
//! What the same API promises is told in `openai_sdk.rs` and `responses_sdk.rs`; here the other
//! official SDK, with its own reading of streams and errors, sees the same.

use serde_json::{Value, json};

use crate::support::{
    canary,
    gateway::{TOKEN, World},
    node,
    suite::{Seen, Suite},
    vendor::Vendor,
};

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "ollama"];

const SAID: &str = "You said: \"quoted\" \\back\\ \n\t\u{1} Grüße 日本語 🦀 </script> \u{2028} end";

static SUITE: Suite<3> = Suite::new(PROVIDERS, ask);

fn ask(provider: &str) -> Seen {
    let url = format!("{}/v1", World::shared().gateway.url);
    node::suite(&url, TOKEN, &format!("{provider}/"))
}

fn result(provider: &str, case: &str) -> &'static Value {
    SUITE.result(provider, case)
}

fn raised(provider: &str, case: &str) -> &'static Value {
    SUITE.raised(provider, case)
}

#[test]
fn the_scripted_openai_satisfies_the_package_itself() {
    let vendor = Vendor::openai(&canary("openai"));
    let seen = node::suite(&format!("{}/v1", vendor.url()), &vendor.key, "");
    for (case, line) in &seen {
        assert!(line["crashed"].is_null(), "{case}: {line}");
    }
    assert_eq!(seen["response_plain"]["result"]["text"], SAID);
    assert_eq!(seen["chat_403"]["raised"]["type"], "PermissionDeniedError");
}

#[test]
fn a_chat_is_answered_whole_and_streamed() {
    for provider in PROVIDERS {
        let plain = result(provider, "chat_plain");
        let streamed = result(provider, "chat_streamed");
        for seen in [plain, streamed] {
            assert_eq!(seen["text"], SAID, "{provider}");
            assert_eq!(seen["finish"], "stop", "{provider}");
            assert_eq!(seen["usage"]["total_tokens"], 18, "{provider}: {seen}");
        }
        assert!(streamed["chunks"].as_u64().unwrap() > 2, "{provider}: {streamed}");
    }
}

#[test]
fn a_response_is_answered_whole_and_streamed() {
    for provider in PROVIDERS {
        let plain = result(provider, "response_plain");
        assert_eq!(plain["text"], SAID, "{provider}");
        assert_eq!(plain["status"], "completed", "{provider}");
        assert_eq!(plain["kinds"], json!(["message"]), "{provider}");
        assert_eq!(plain["usage"]["total_tokens"], 18, "{provider}: {plain}");
        let streamed = result(provider, "response_streamed");
        assert_eq!(streamed["text"], SAID, "{provider}");
        assert_eq!(streamed["last"]["status"], "completed", "{provider}");
        assert_eq!(streamed["last"]["output"][0]["content"][0]["text"], SAID, "{provider}");
        let helped = result(provider, "response_streamed_with_helper");
        assert_eq!(helped["text"], "You said: Hello there", "{provider}");
        let thinking = result(provider, "response_thinking_streamed");
        assert_eq!(thinking["thinking"], "First I think it over.", "{provider}");
    }
}

#[test]
fn streamed_calls_accumulate() {
    for provider in PROVIDERS {
        let cities = json!([{ "city": "Paris" }, { "city": "Zürich" }]);
        for case in ["chat_streamed_with_helper", "response_calls_streamed_with_helper"] {
            assert_eq!(result(provider, case)["calls"], cities, "{provider} {case}");
        }
    }
}

#[test]
fn results_of_tools_come_back_to_the_model() {
    for provider in PROVIDERS {
        let expected = "The tools say: Paris: \"sunny\", 21° and Zürich: \"sunny\", 21°";
        for case in ["chat_tools_are_run", "response_results_come_back"] {
            assert_eq!(result(provider, case)["text"], expected, "{provider} {case}");
        }
    }
}

#[test]
fn every_error_class_is_the_packages_own() {
    let classes = [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ];
    for provider in PROVIDERS {
        for (status, class) in classes {
            for (api, end) in
                [("chat", ""), ("chat", "_streamed"), ("response", ""), ("response", "_streamed")]
            {
                let case = format!("{api}_{status}{end}");
                let error = raised(provider, &case);
                assert_eq!(error["type"], class, "{provider} {case}: {error}");
            }
        }
        let error = raised(provider, "chat_with_a_wrong_token");
        assert_eq!(error["code"], "invalid_api_key", "{provider}: {error}");
        let error = raised(provider, "response_to_a_wrong_role");
        assert_eq!(error["param"], "input[0].role", "{provider}: {error}");
        let error = raised(provider, "response_cannot_be_retrieved");
        assert_eq!(error["code"], "responses_not_stored", "{provider}: {error}");
    }
}

#[test]
fn an_error_inside_a_stream_is_raised_after_what_came() {
    for provider in PROVIDERS {
        for case in ["chat_an_error_inside_the_stream", "response_an_error_inside_the_stream"] {
            let seen = result(provider, case);
            assert_eq!(seen["raised"]["type"], "APIError", "{provider} {case}: {seen}");
            let text = seen["text"].as_str().unwrap();
            let whole = "You said: one two three four five six";
            assert!(!text.is_empty() && whole.starts_with(text), "{provider} {case}: {text}");
            assert_eq!(seen["completed"], false, "{provider} {case}: {seen}");
        }
    }
}
