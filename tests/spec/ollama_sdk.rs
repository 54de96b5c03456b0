//! An unchanged Ollama SDK talks to Keyward and can't tell OpenAI, Anthropic and Ollama apart.
//!
//! The real Python package runs `tests/python/ollama_suite.py` once for each provider, and once
//! against the scripted Ollama itself, so that what it takes for Ollama is known to be one.

use serde_json::{Value, json};

use crate::support::{
    canary,
    gateway::{Setup, TOKEN, World},
    python, run,
    suite::{Seen, Suite},
    vendor::Vendor,
};

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "ollama"];

/// The scripted Ollama, asked without a gateway.
const DIRECT: &str = "direct";

static SUITE: Suite<4> = Suite::new(["openai", "anthropic", "ollama", DIRECT], ask);

fn ask(provider: &str) -> Seen {
    if provider == DIRECT {
        let vendor = Vendor::ollama("a-key-of-its-own");
        return python::run("ollama_suite.py", &vendor.url(), &vendor.key, "");
    }
    let url = &World::shared().gateway.url;
    python::run("ollama_suite.py", url, TOKEN, &format!("{provider}/"))
}

fn line(provider: &str, case: &str) -> &'static Value {
    SUITE.line(provider, case)
}

fn result(provider: &str, case: &str) -> &'static Value {
    SUITE.result(provider, case)
}

fn raised(provider: &str, case: &str) -> &'static Value {
    let raised = SUITE.raised(provider, case);
    assert_eq!(raised["type"], "ResponseError", "{provider}: {raised}");
    raised
}

fn message(error: &Value) -> &str {
    error["error"].as_str().unwrap_or_else(|| panic!("not a text: {error}"))
}

/// Behind the gateway.
fn for_all(look: impl Fn(&str)) {
    for provider in PROVIDERS {
        look(provider);
    }
}

/// Behind the gateway and without it.
fn for_all_and_directly(look: impl Fn(&str)) {
    for_all(&look);
    look(DIRECT);
}

fn prefixed(provider: &str, model: &str) -> String {
    if provider == DIRECT { model.to_owned() } else { format!("{provider}/{model}") }
}

// ------------------------------------------------------------------ answers

fn assert_end(provider: &str, end: &Value, model: &str) {
    assert_eq!(end["model"], prefixed(provider, model), "{provider}");
    assert_eq!(end["done"], true, "{provider}: {end}");
    let metrics = &end["metrics"];
    assert_eq!(metrics["prompt_eval_count"], 11, "{provider}: {end}");
    assert_eq!(metrics["eval_count"], 7, "{provider}: {end}");
    for name in ["total_duration", "prompt_eval_duration", "eval_duration", "load_duration"] {
        assert!(metrics[name].is_u64(), "{provider} {name}: {end}");
    }
    assert!(metrics["total_duration"].as_u64().unwrap() > 0, "{provider}: {end}");
    assert!(metrics["eval_duration"].as_u64().unwrap() > 0, "{provider}: {end}");
    assert!(end["created_at"].as_str().unwrap().ends_with('Z'), "{provider}: {end}");
}

#[test]
fn a_plain_chat_is_answered_with_its_counts_and_times() {
    for_all_and_directly(|provider| {
        let seen = result(provider, "plain");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        assert_eq!(seen["role"], "assistant", "{provider}");
        assert_eq!(seen["reason"], "stop", "{provider}");
        assert_end(provider, seen, "plain-model");
    });
}

#[test]
fn the_vendors_own_times_are_kept() {
    let seen = &result("ollama", "plain")["metrics"];
    assert_eq!(*seen, result(DIRECT, "plain")["metrics"]);
}

#[test]
fn headers_name_provider_and_model() {
    for_all(|provider| {
        let head = &line(provider, "plain")["head"];
        assert_eq!(head["x-keyward-provider"], *provider);
        assert_eq!(head["x-keyward-model"], "plain-model", "{provider}");
    });
}

#[test]
fn a_streamed_chat_ends_with_one_line_that_is_done() {
    for_all_and_directly(|provider| {
        for case in ["streamed", "streamed_at_once"] {
            let seen = result(provider, case);
            assert_eq!(seen["text"], "You said: Hello there", "{provider}");
            assert_eq!(seen["roles"], json!(["assistant"]), "{provider}");
            assert_eq!(seen["models"].as_array().unwrap().len(), 1, "{provider}: {seen}");
            assert!(seen["deltas"].as_u64().unwrap() > 1, "{provider}: {seen}");
            let done: Vec<bool> =
                seen["done"].as_array().unwrap().iter().map(|done| done == true).collect();
            let last = done.len() - 1;
            assert_eq!(done.iter().position(|done| *done), Some(last), "{provider}: {seen}");
            let model = if case == "streamed" { "plain-model" } else { "at-once" };
            assert_end(provider, &seen["end"], model);
            let head = &line(provider, case)["head"];
            assert_eq!(head["content-type"], "application/x-ndjson", "{provider}");
        }
    });
}

#[test]
fn streaming_needs_no_asking() {
    for_all_and_directly(|provider| {
        let seen = result(provider, "streaming_is_the_default");
        assert!(seen["lines"].as_u64().unwrap() > 2, "{provider}: {seen}");
        assert_eq!(seen["type"], "application/x-ndjson", "{provider}");
    });
}

#[test]
fn the_asynchronous_client_sees_the_same() {
    for_all_and_directly(|provider| {
        let said = "You said: Hello there";
        let expected = json!({ "plain": said, "streamed": said });
        assert_eq!(*result(provider, "an_async_client"), expected, "{provider}");
    });
}

#[test]
fn common_settings_and_all_roles_are_accepted() {
    for_all_and_directly(|provider| {
        let seen = result(provider, "plain_with_settings");
        assert_eq!(seen["text"], "You said: Second question", "{provider}");
    });
}

#[test]
fn options_of_ollamas_own_reach_an_ollama_and_are_told_of_elsewhere() {
    let sent = World::shared();
    result("ollama", "options_of_ollamas_own");
    let requests = sent.ollama.requests_with("own options");
    let body = requests[0].json();
    assert_eq!(body["options"]["num_ctx"], 8192, "{body}");
    assert_eq!(body["options"]["mirostat"], 1, "{body}");
    assert_eq!(body["options"]["repeat_penalty"], 1.1, "{body}");
    assert_eq!(body["options"]["top_k"], 20, "{body}");
    assert_eq!(body["keep_alive"], "10m", "{body}");
    for provider in ["openai", "anthropic"] {
        result(provider, "options_of_ollamas_own");
        let warnings = &line(provider, "options_of_ollamas_own")["head"]["x-keyward-warnings"];
        let warnings = warnings.as_str().unwrap_or_default();
        assert!(warnings.contains("options.mirostat"), "{provider}: {warnings}");
        assert!(warnings.contains("keep_alive"), "{provider}: {warnings}");
    }
}

#[test]
fn fields_that_nobody_knows_pass_through_to_an_ollama() {
    let answer = result("ollama", "fields_that_nobody_knows");
    let requests = World::shared().ollama.requests_with("unknown fields");
    let body = requests[0].json();
    assert_eq!(body["future"], json!({ "a": [1, null] }), "{body}");
    assert_eq!(body["options"]["future_option"], 0.5, "{body}");
    assert_eq!(body["messages"][0]["mood"], "good", "{body}");
    assert_eq!(body["tools"][0]["weight"], 3, "{body}");
    // The way back: a field of the vendor's that the contract doesn't know.
    assert_eq!(answer["vendor_field"], json!({ "kept": true }), "{answer}");
    for provider in ["openai", "anthropic"] {
        result(provider, "fields_that_nobody_knows");
        let warnings = &line(provider, "fields_that_nobody_knows")["head"]["x-keyward-warnings"];
        let warnings = warnings.as_str().unwrap();
        assert!(warnings.contains("extra.future"), "{provider}: {warnings}");
        // Adapters name the fields of messages and tools each in its own way.
        assert_eq!(warnings.matches("dropped ").count(), 4, "{provider}: {warnings}");
    }
}

#[test]
fn every_character_arrives_and_comes_back() {
    let sent =
        "You said: \"quoted\" \\back\\ \n\t\u{1} Grüße 日本語 🦀 </script> \u{2028} end\u{85}";
    for_all(|provider| {
        assert_eq!(result(provider, "every_character_arrives")["text"], sent, "{provider}");
        let streamed = result(provider, "every_character_arrives_streamed");
        assert_eq!(streamed["text"], sent, "{provider}");
    });
}

#[test]
fn long_and_badly_cut_streams_lose_nothing() {
    let numbers: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for_all_and_directly(|provider| {
        assert_eq!(result(provider, "streamed_long")["text"], json!(numbers), "{provider}");
        let bytewise = result(provider, "streamed_byte_by_byte");
        assert_eq!(bytewise["text"], "You said: Grüße 🦀", "{provider}");
    });
}

#[test]
fn an_answer_cut_by_its_length_says_so() {
    for_all_and_directly(|provider| {
        assert_eq!(result(provider, "cut_by_length")["reason"], "length", "{provider}");
        let streamed = result(provider, "cut_by_length_streamed");
        assert_eq!(streamed["end"]["reason"], "length", "{provider}");
    });
}

#[test]
fn to_be_asked_to_think_is_nothing_that_ollama_loses() {
    let warnings = |case: &str| SUITE.line("ollama", case)["head"]["x-keyward-warnings"].clone();
    assert_eq!(warnings("thinking"), Value::Null);
    assert_eq!(warnings("thinking_streamed"), "changed reasoning.effort", "a level is lost");
}

#[test]
fn thinking_stands_beside_the_content() {
    for provider in ["anthropic", "ollama", DIRECT] {
        let seen = result(provider, "thinking");
        assert_eq!(seen["thinking"], "First I think it over.", "{provider}");
        assert_eq!(seen["text"], "You said: Hello there", "{provider}");
        let streamed = result(provider, "thinking_streamed");
        assert_eq!(streamed["thinking"], "First I think it over.", "{provider}");
        assert_eq!(streamed["text"], "You said: Hello there", "{provider}");
    }
    for_all_and_directly(|provider| {
        assert!(result(provider, "thinking_off")["thinking"].is_null(), "{provider}");
    });
}

#[test]
fn images_arrive_with_their_type_and_every_byte() {
    for_all_and_directly(|provider| {
        for case in ["an_image", "a_generation_about_an_image"] {
            let seen = result(provider, case);
            let expected = format!("I see image/png of {} base64 characters", seen["length"]);
            assert_eq!(seen["text"], expected, "{provider} {case}");
        }
        let two = result(provider, "two_images_streamed")["text"].as_str().unwrap();
        assert_eq!(two.matches("image/png").count(), 2, "{provider}: {two}");
    });
}

#[test]
fn an_answer_fits_the_schema_asked_for() {
    for_all_and_directly(|provider| {
        let ada = json!({ "name": "Ada", "age": 36 });
        for case in ["a_schema", "a_schema_streamed", "a_generation_by_schema"] {
            assert_eq!(*result(provider, case), ada, "{provider} {case}");
        }
    });
}

#[test]
fn json_without_a_schema_is_asked_for_where_the_vendor_can() {
    for provider in ["openai", "ollama", DIRECT] {
        let seen = result(provider, "a_json_object");
        assert_eq!(seen["text"], "{\"name\": \"Ada\", \"age\": 36}", "{provider}");
    }
}

#[test]
fn a_generation_is_answered_in_its_own_form() {
    for_all_and_directly(|provider| {
        let plain = result(provider, "a_generation");
        assert_eq!(plain["text"], "You said: Hello there", "{provider}");
        assert_end(provider, plain, "plain-model");
        let streamed = result(provider, "a_generation_streamed");
        assert_eq!(streamed["text"], "You said: Hello there", "{provider}");
        assert_end(provider, &streamed["end"], "plain-model");
    });
    for provider in ["anthropic", "ollama", DIRECT] {
        let seen = result(provider, "a_generation_that_thinks");
        assert_eq!(seen["thinking"], "First I think it over.", "{provider}");
    }
}

#[test]
fn a_request_without_a_prompt_loads_nothing_and_is_answered() {
    for_all(|provider| {
        let load = result(provider, "nothing_to_answer");
        assert_eq!(load["reason"], "load", "{provider}: {load}");
        assert_eq!(load["text"], "", "{provider}: {load}");
        let head = &line(provider, "nothing_to_answer")["head"];
        assert_eq!(head["x-keyward-warnings"], "dropped load", "{provider}: {head}");
        assert_eq!(result(provider, "unloading")["reason"], "unload", "{provider}");
    });
}

// ------------------------------------------------------------------ tools

fn assert_calls(provider: &str, calls: &Value, cities: &[&str]) {
    let calls = calls.as_array().unwrap();
    assert_eq!(calls.len(), cities.len(), "{provider}: {calls:?}");
    for (call, city) in calls.iter().zip(cities) {
        let expected = json!({ "name": "get_weather", "arguments": { "city": city } });
        assert_eq!(*call, expected, "{provider}");
    }
}

#[test]
fn tools_are_called_with_objects() {
    for_all_and_directly(|provider| {
        let one = result(provider, "one_call");
        assert_calls(provider, &one["calls"], &["Paris"]);
        // Ollama has no word of its own for calls.
        assert_eq!(one["reason"], "stop", "{provider}: {one}");
        assert_calls(provider, &result(provider, "a_tool_as_the_sdks_type")["calls"], &["Paris"]);
        assert_calls(provider, &result(provider, "parallel_calls")["calls"], &["Paris", "Zürich"]);
    });
}

#[test]
fn streamed_calls_come_whole_however_the_vendor_cuts_them() {
    for_all_and_directly(|provider| {
        let one = result(provider, "one_call_streamed");
        assert_calls(provider, &one["calls"], &["Paris"]);
        assert_eq!(one["reasons"], json!(["stop"]), "{provider}");
        let two = result(provider, "parallel_calls_streamed");
        assert_calls(provider, &two["calls"], &["Paris", "Zürich"]);
        assert_eq!(two["lines"], 2, "{provider}: {two}");
    });
}

#[test]
fn results_find_their_calls_without_ids() {
    for_all_and_directly(|provider| {
        let one = result(provider, "a_result_comes_back");
        assert_eq!(one["text"], "The tools say: Paris: \"sunny\", 21°", "{provider}");
        for case in ["two_results_come_back", "two_results_without_names_come_back_streamed"] {
            let two = result(provider, case);
            let expected = "The tools say: Paris: \"sunny\", 21° and Zürich: \"sunny\", 21°";
            assert_eq!(two["text"], expected, "{provider} {case}");
            assert_eq!(two["calls"], 2, "{provider}");
        }
    });
}

// ------------------------------------------------------------------ models, embeddings

#[test]
fn models_are_listed_once_and_can_be_shown() {
    let seen = result("openai", "all_models");
    let names: Vec<&str> =
        seen["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for wanted in ["gpt-4.1", "claude-opus-4-5", "llama3.2:latest"] {
        assert_eq!(names.iter().filter(|name| **name == wanted).count(), 1, "{names:?}");
    }
    assert_eq!(seen["digests"], names.len());
    assert_eq!(seen["modified"], true);
    assert_eq!(seen["details"], true);
    let shown = result("openai", "every_model_can_be_shown").as_object().unwrap();
    assert_eq!(shown.len(), names.len());
    assert!(shown.values().all(|known| known.as_array().is_some_and(|known| !known.is_empty())));
    result(DIRECT, "all_models");
    result(DIRECT, "every_model_can_be_shown");
    assert!(result("openai", "running").as_array().unwrap().is_empty());
}

#[test]
fn a_model_is_shown_with_what_is_known_of_it() {
    for_all_and_directly(|provider| {
        let shown = result(provider, "a_model_shown");
        assert!(shown["architecture"].is_string(), "{provider}: {shown}");
        assert!(!shown["family"].as_str().unwrap().is_empty(), "{provider}: {shown}");
        let error = raised(provider, "an_unknown_model_shown");
        assert_eq!(error["status"], 404, "{provider}: {error}");
        assert!(message(error).starts_with("model 'no-such-model' not found"), "{error}");
    });
}

#[test]
fn what_the_operator_the_vendor_or_the_adapter_knows_of_a_model_is_shown() {
    let vendor = Vendor::openai(&canary("openai"));
    let config = format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    models:\n      \
         - {{id: gpt-4.1, context_window: 5000}}\n      - {{id: gpt-4.1-mini, alias: mini}}\n      - odd\n",
        vendor.url()
    );
    let gateway = Setup::new(&config, &["openai"]).key("openai", &vendor.key).start();
    let show = |model: &str| {
        let answer = run(gateway.caller().post("/api/show", &json!({ "model": model })));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        answer.json()
    };
    let window = |shown: &Value| shown["model_info"]["openai.context_length"].clone();
    let configured = show("openai/gpt-4.1");
    assert_eq!(window(&configured), 5000, "{configured}");
    assert_eq!(window(&show("gpt-4.1")), 5000);
    for name in ["gpt-4.1-mini", "mini"] {
        let known = show(name);
        assert_eq!(window(&known), 1_047_576, "{name}: {known}");
        for capability in ["completion", "tools", "vision"] {
            let capabilities = known["capabilities"].as_array().unwrap();
            assert!(capabilities.contains(&json!(capability)), "{name}: {capabilities:?}");
        }
    }
    let unknown = show("odd");
    assert_eq!(window(&unknown), Value::Null);
    assert_eq!(unknown["capabilities"], json!(["completion"]));
}

#[test]
fn a_server_is_found() {
    for_all_and_directly(|provider| {
        let seen = result(provider, "presence");
        assert_eq!(seen["head"], 200, "{provider}");
        assert_eq!(seen["text"], "Ollama is running", "{provider}");
        assert_eq!(seen["version"].as_str().unwrap().split('.').count(), 3, "{provider}");
    });
    let error = raised("openai", "no_caller_token");
    assert_eq!(error["status"], 401, "nothing is told to strangers: {error}");
}

#[test]
fn a_model_has_two_names() {
    let seen = result("openai", "names_with_and_without_their_tag").as_array().unwrap();
    let served = [
        ("ollama", "llama3.2:latest"),
        ("ollama", "llama3.2:latest"),
        ("ollama", "llama3.2:latest"),
        ("anthropic", "claude-opus-4-5"),
        ("anthropic", "claude-opus-4-5"),
        ("openai", "gpt-4.1"),
    ];
    assert_eq!(seen.len(), served.len());
    for (seen, (provider, model)) in seen.iter().zip(served) {
        assert_eq!(seen["model"], seen["asked"], "clients get back the name they gave: {seen}");
        assert_eq!(seen["provider"], provider, "{seen}");
        assert_eq!(seen["served"], model, "{seen}");
        assert_eq!(seen["text"], "You said: by name", "{seen}");
    }
}

#[test]
fn embeddings_come_in_order() {
    let vector = |index: u32| {
        let index = f64::from(index);
        json!([index, index + 0.125, index + 0.25, index + 0.375])
    };
    for provider in ["openai", "ollama", DIRECT] {
        let one = result(provider, "one_embedding");
        assert_eq!(one["vectors"], json!([vector(0)]), "{provider}");
        assert_eq!(one["count"], 6, "{provider}");
        assert!(one["total"].as_u64().unwrap() > 0, "{provider}: {one}");
        assert_eq!(one["model"], prefixed(provider, "embed-model"), "{provider}");
        let three = result(provider, "several_embeddings");
        assert_eq!(three["vectors"], json!([vector(0), vector(1), vector(2)]), "{provider}");
        let two = result(provider, "embeddings_of_fewer_dimensions");
        assert_eq!(two["vectors"][0].as_array().unwrap().len(), 2, "{provider}: {two}");
        assert_eq!(result(provider, "the_older_embeddings")["vector"], vector(0), "{provider}");
        assert_eq!(raised(provider, "an_embedding_that_fails")["status"], 429, "{provider}");
    }
    let error = raised("anthropic", "one_embedding");
    assert_eq!(error["status"], 400, "{error}");
    assert!(message(error).contains("embed"), "{error}");
}

// ------------------------------------------------------------------ errors

#[test]
fn every_status_is_raised_with_a_text() {
    for_all_and_directly(|provider| {
        for status in [400, 401, 403, 404, 429, 500, 503] {
            for end in ["", "_streamed"] {
                let case = format!("vendor_says_{status}{end}");
                let error = raised(provider, &case);
                let expected = match (provider, status) {
                    // Behind a gateway it is the server behind that failed.
                    (_, 500) if provider != DIRECT => 503,
                    _ => status,
                };
                assert_eq!(error["status"], expected, "{provider} {case}: {error}");
                assert!(!message(error).is_empty(), "{provider} {case}: {error}");
                assert!(!message(error).contains('{'), "{provider} {case}: {error}");
            }
        }
        raised(provider, "a_generation_that_fails");
    });
}

#[test]
fn a_missing_model_is_told_in_ollamas_words() {
    for_all(|provider| {
        let error = raised(provider, "vendor_says_404");
        let expected = format!("model '{provider}/status-404' not found");
        assert!(message(error).starts_with(&expected), "{provider}: {error}");
        let unknown = raised(provider, "an_unknown_model");
        assert_eq!(unknown["status"], 404, "{provider}: {unknown}");
        assert!(message(unknown).starts_with("model 'no-such-model' not found"), "{unknown}");
    });
}

#[test]
fn the_vendors_wish_to_wait_reaches_the_caller() {
    for_all(|provider| {
        assert_eq!(raised(provider, "retry_after_is_passed_on")["status"], 429, "{provider}");
        let head = &line(provider, "retry_after_is_passed_on")["head"];
        assert_eq!(head["retry-after"], "7", "{provider}: {head}");
    });
}

#[test]
fn a_wrong_caller_token_is_refused_in_this_dialects_shape() {
    let error = raised("openai", "a_wrong_caller_token");
    assert_eq!(error["status"], 401, "{error}");
    assert!(!message(error).contains('{'), "{error}");
}

#[test]
fn the_callers_mistakes_are_told_with_their_field() {
    for (case, field) in [
        ("an_unknown_role", "messages[0].role"),
        ("a_wrong_type", "options.temperature"),
        ("an_image_that_is_none", "messages[0].images[0]"),
        ("a_prompt_with_a_suffix", "suffix"),
    ] {
        let error = raised("openai", case);
        assert_eq!(error["status"], 400, "{case}: {error}");
        assert!(message(error).contains(field), "{case}: {error}");
    }
}

#[test]
fn an_error_inside_a_stream_is_raised_after_what_came() {
    let cases =
        ["an_error_inside_the_stream", "a_stream_that_is_reset", "a_stream_that_ends_early"];
    for_all(|provider| {
        for case in cases {
            let seen = result(provider, case);
            assert_eq!(seen["raised"]["type"], "ResponseError", "{provider} {case}: {seen}");
            let done = seen["done"].as_array().unwrap();
            assert!(done.iter().all(|done| *done == false), "{provider} {case}: {seen}");
            let text = seen["text"].as_str().unwrap();
            assert!(!text.is_empty(), "{provider} {case}: what came before is lost");
            let whole = "You said: one two three four five six seven eight";
            assert!(whole.starts_with(text), "{provider} {case}: invented text: {text}");
        }
    });
    let direct = result(DIRECT, "an_error_inside_the_stream");
    assert_eq!(direct["raised"]["type"], "ResponseError", "{direct}");
}

#[test]
fn what_a_gateway_cannot_do_is_said_plainly() {
    for what in ["pull", "pull_streamed", "push", "create", "copy", "delete"] {
        let error = raised("openai", &format!("cannot_{what}"));
        assert_eq!(error["status"], 501, "{what}: {error}");
        assert!(message(error).contains("is a gateway"), "{what}: {error}");
    }
    assert_eq!(raised("openai", "an_unknown_path")["status"], 404);
    let error = raised("openai", "a_wrong_method");
    assert_eq!(error["status"], 405);
    assert!(message(error).contains("GET on /api/chat"), "{error}");
}
