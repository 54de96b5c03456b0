use keyward::contract::{
    Annotation, Attribute, Finish, Started, TextDelta, ToolArguments, ToolCallStart,
    Usage as Counted, Warning,
};
use serde_json::{Value, json};

use super::*;
use crate::dialect::events::MAX_WARNINGS;

pub(in crate::openai) fn identity() -> Identity {
    Identity::new(RequestId(0xabc), &ModelName::new("asked").unwrap(), 1_700_000_000)
}

pub(in crate::openai) fn started() -> Event {
    Event::Started(Started { id: Some("chatcmpl-1".into()), model: Some("vendor-model".into()) })
}

pub(in crate::openai) fn delta(choice: u32, text: &str) -> TextDelta {
    TextDelta { choice, text: text.into() }
}

pub(in crate::openai) fn annotation(json: &str) -> Annotation {
    Annotation { choice: 0, json: json.into() }
}

pub(in crate::openai) fn call(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall(ToolCallStart { choice: 0, index, id: id.into(), name: name.into() })
}

pub(in crate::openai) fn arguments(index: u32, fragment: &str) -> Event {
    Event::ToolArguments(ToolArguments { choice: 0, index, fragment: fragment.into() })
}

pub(in crate::openai) fn finish(choice: u32, reason: FinishReason) -> Event {
    Event::Finish(Finish { choice, reason, stop_sequence: None })
}

pub(in crate::openai) fn attribute_event(name: &str, json: &str) -> Event {
    Event::Attribute(Attribute { name: name.into(), json: json.into() })
}

pub(in crate::openai) fn warning(subject: &str) -> Event {
    let (code, message) = ("dropped".to_owned(), "The vendor has no such setting.".to_owned());
    Event::Warning(Warning { code, subject: subject.into(), message })
}

pub(in crate::openai) fn usage(input: Option<u64>, output: Option<u64>) -> Event {
    Event::Usage(Counted {
        input,
        cache_read: None,
        cache_write: None,
        output,
        reasoning: None,
        units: Vec::new(),
    })
}

fn fold(events: Vec<Event>) -> Value {
    let mut folder = ChatFolder::new(identity());
    folder.add(events).unwrap();
    serde_json::from_slice(&folder.finish().unwrap()).unwrap()
}

#[test]
fn a_text_becomes_what_openai_answers() {
    let answer = fold(vec![
        started(),
        Event::Text(delta(0, "Hel")),
        Event::Text(delta(0, "lo \"you\"\n")),
        finish(0, FinishReason::Stop),
        usage(Some(3), Some(2)),
    ]);
    let expected = json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "vendor-model",
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello \"you\"\n",
                "refusal": null,
                "annotations": [],
            },
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    });
    assert_eq!(answer, expected);
}

#[test]
fn tool_calls_are_joined_and_get_an_id_where_they_have_none() {
    let answer = fold(vec![
        call(0, "call_a", "f"),
        call(1, "", "g"),
        arguments(0, "{\"a\""),
        arguments(1, "{}"),
        arguments(0, ":1}"),
        call(2, "", "h"),
        finish(0, FinishReason::ToolCalls),
    ]);
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    let calls = &message["tool_calls"];
    let first = json!({"id": "call_a", "type": "function",
        "function": {"name": "f", "arguments": "{\"a\":1}"}});
    assert_eq!(calls[0], first);
    assert_eq!(calls[1]["function"]["arguments"], "{}");
    assert_eq!(calls[2]["function"]["arguments"], "{}");
    let ids: Vec<&str> = [1, 2].map(|n| calls[n]["id"].as_str().unwrap()).to_vec();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.starts_with("call_") && id.len() == 29));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn choices_are_kept_apart_and_in_order() {
    let answer = fold(vec![
        Event::Text(delta(1, "b")),
        Event::Text(delta(0, "a")),
        Event::Text(delta(1, "B")),
        finish(1, FinishReason::Length),
        finish(0, FinishReason::Stop),
    ]);
    let text = |n: usize| answer["choices"][n]["message"]["content"].as_str().unwrap();
    assert_eq!((text(0), text(1)), ("a", "bB"));
    assert_eq!(answer["choices"][1]["finish_reason"], "length");
    assert_eq!(answer["choices"][1]["index"], 1);
}

#[test]
fn thinking_is_shown_and_can_be_sent_back() {
    let answer = fold(vec![
        Event::Thinking(delta(0, "one ")),
        Event::Thinking(delta(0, "two")),
        Event::ThinkingSignature(delta(0, "sig1")),
        Event::RedactedThinking(delta(0, "xyz")),
        Event::Thinking(delta(0, "three")),
        Event::ThinkingSignature(delta(0, "sig2")),
        Event::Text(delta(0, "so")),
    ]);
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "one twothree");
    let blocks = json!([
        {"type": "thinking", "thinking": "one two", "signature": "sig1"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "three", "signature": "sig2"},
    ]);
    assert_eq!(message["thinking_blocks"], blocks);

    let body = json!({"model": "m", "messages": [message]});
    let request = super::super::request::parse_chat(body.to_string().as_bytes()).unwrap();
    assert_eq!(request.chat.messages[0].parts.len(), 4);
}

#[test]
fn a_refusal_has_its_own_place() {
    let answer = fold(vec![Event::Refusal(delta(0, "No.")), finish(0, FinishReason::Refusal)]);
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["refusal"], "No.");
    assert_eq!(choice["message"]["content"], Value::Null);
    assert_eq!(choice["finish_reason"], "stop");
    let silent = fold(vec![finish(0, FinishReason::Refusal)]);
    assert_eq!(silent["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(silent["choices"][0]["message"]["content"], "");
}

#[test]
fn reasons_this_dialect_doesnt_know_are_told_beside() {
    let answer = fold(vec![Event::Finish(Finish {
        choice: 0,
        reason: FinishReason::Other("pause_turn".into()),
        stop_sequence: Some("END".into()),
    })]);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["native_finish_reason"], "pause_turn");
    assert_eq!(choice["stop_reason"], "END");
}

#[test]
fn log_probabilities_are_joined() {
    let answer = fold(vec![
        Event::Logprobs(annotation(r#"{"content":[{"token":"a","logprob":-1}],"refusal":null}"#)),
        Event::Logprobs(annotation(r#"{"content":[{"token":"b","logprob":-2}]}"#)),
        Event::Logprobs(annotation("not json")),
    ]);
    let expected = json!({
        "content": [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}],
        "refusal": null,
    });
    assert_eq!(answer["choices"][0]["logprobs"], expected);
}

#[test]
fn usage_is_replaced_field_by_field_and_absent_if_never_given() {
    let answer = fold(vec![
        usage(Some(10), None),
        Event::Usage(Counted {
            input: None,
            cache_read: Some(4),
            cache_write: Some(1),
            output: Some(u64::MAX),
            reasoning: Some(5),
            units: Vec::new(),
        }),
        usage(Some(11), None),
    ]);
    let usage = &answer["usage"];
    assert_eq!(usage["prompt_tokens"], 11);
    assert_eq!(usage["total_tokens"], u64::MAX);
    let details = json!({"cached_tokens": 4, "cache_write_tokens": 1});
    assert_eq!(usage["prompt_tokens_details"], details);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 5);
    assert_eq!(fold(vec![]).get("usage"), None);
}

#[test]
fn fields_of_the_vendors_answer_are_kept_but_replace_nothing() {
    let answer = fold(vec![
        attribute_event("system_fingerprint", "\"fp_1\""),
        attribute_event("service_tier", "\"auto\""),
        attribute_event("service_tier", "\"default\""),
        attribute_event("id", "\"forged\""),
        attribute_event("choices", "[]"),
        attribute_event("error", "{}"),
        attribute_event("broken", "{"),
        Event::Citation(annotation(r#"{"type":"url_citation","url_citation":{"url":"u"}}"#)),
        Event::Citation(annotation("}")),
    ]);
    assert_eq!(answer["system_fingerprint"], "fp_1");
    assert_eq!(answer["service_tier"], "default");
    assert_eq!(answer["id"], "chatcmpl-00000000000000000000000000000abc");
    assert_eq!(answer["model"], "asked");
    assert_eq!(answer["choices"][0]["message"]["annotations"].as_array().unwrap().len(), 1);
    assert!(answer.get("error").is_none() && answer.get("broken").is_none());
}

#[test]
fn an_adapters_numbers_are_no_sizes() {
    let mut folder = ChatFolder::new(identity());
    let choices = (0..MAX_CHOICES).map(|n| Event::Text(delta(u32::MAX - n, "a"))).collect();
    folder.add(choices).unwrap();
    assert!(folder.add(vec![Event::Text(delta(0, "a"))]).is_err());

    let mut folder = ChatFolder::new(identity());
    folder.add((0..MAX_CALLS as u32).map(|n| call(n, "c", "f")).collect()).unwrap();
    assert!(folder.add(vec![call(9_999_999, "c", "f")]).is_err());

    assert!(ChatFolder::new(identity()).add(vec![arguments(0, "{}")]).is_err());
}

#[test]
fn warnings_become_one_safe_header() {
    let mut warnings = Warnings::default();
    assert!(warnings.header().is_none());
    for subject in ["sampling.seed", "a\r\nset-cookie: x", "ü,b"] {
        let Event::Warning(warning) = warning(subject) else { unreachable!() };
        warnings.add(&warning);
    }
    assert_eq!(
        warnings.header().unwrap(),
        "dropped sampling.seed, dropped aset-cookie:x, dropped b"
    );
    for _ in 0..1000 {
        let Event::Warning(warning) = warning("sampling.seed") else { unreachable!() };
        warnings.add(&warning);
    }
    assert!(warnings.header().unwrap().len() <= MAX_WARNINGS);
}

#[test]
fn what_has_no_place_opens_no_choice() {
    let video = MediaOutput {
        choice: 7,
        kind: MediaKind::Video,
        media_type: "video/mp4".into(),
        base64: "AAAA".into(),
    };
    let answer = fold(vec![Event::Text(delta(0, "a")), Event::Media(video)]);
    assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
}
