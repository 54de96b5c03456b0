use keyward::contract::{
    Annotation, Attribute, Finish, Started, TextDelta, ToolArguments, ToolCallStart,
    Usage as Counted, Warning,
};
use serde_json::{Value, json};

use super::*;

pub(in crate::anthropic) fn identity() -> Identity {
    Identity::new(RequestId(0xabc), &ModelName::new("asked").unwrap())
}

pub(in crate::anthropic) fn started() -> Event {
    Event::Started(Started { id: Some("msg_1".into()), model: Some("vendor-model".into()) })
}

pub(in crate::anthropic) fn delta(text: &str) -> TextDelta {
    TextDelta { choice: 0, text: text.into() }
}

pub(in crate::anthropic) fn text(text: &str) -> Event {
    Event::Text(delta(text))
}

pub(in crate::anthropic) fn citation(json: &str) -> Event {
    Event::Citation(Annotation { choice: 0, json: json.into() })
}

pub(in crate::anthropic) fn call(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall(ToolCallStart { choice: 0, index, id: id.into(), name: name.into() })
}

pub(in crate::anthropic) fn arguments(index: u32, fragment: &str) -> Event {
    Event::ToolArguments(ToolArguments { choice: 0, index, fragment: fragment.into() })
}

pub(in crate::anthropic) fn finish(reason: FinishReason) -> Event {
    Event::Finish(Finish { choice: 0, reason, stop_sequence: None })
}

pub(in crate::anthropic) fn own(name: &str, json: &str) -> Event {
    Event::Attribute(Attribute { name: name.into(), json: json.into() })
}

pub(in crate::anthropic) fn usage(input: Option<u64>, output: Option<u64>) -> Event {
    Event::Usage(Counted {
        input,
        cache_read: None,
        cache_write: None,
        output,
        reasoning: None,
        units: Vec::new(),
    })
}

fn try_fold(events: Vec<Event>) -> Result<Value, Failure> {
    let mut folder = MessageFolder::new(identity(), Warnings::default());
    folder.add(events)?;
    let json = folder.finish()?;
    Ok(serde_json::from_slice(&json).unwrap())
}

fn fold(events: Vec<Event>) -> Value {
    try_fold(events).unwrap()
}

#[test]
fn an_answer_has_anthropics_shape() {
    let message = fold(vec![
        started(),
        text("Hel"),
        text("lo"),
        usage(Some(3), Some(2)),
        finish(FinishReason::Stop),
    ]);
    let expected = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "vendor-model",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 3, "output_tokens": 2,
            "cache_creation_input_tokens": null, "cache_read_input_tokens": null},
    });
    assert_eq!(message, expected);
}

#[test]
fn an_empty_answer_is_a_message_too() {
    let message = fold(vec![]);
    assert_eq!(message["content"], json!([]));
    assert_eq!(message["stop_reason"], "end_turn");
    assert_eq!(message["model"], "asked");
    assert_eq!(message["usage"]["input_tokens"], 0);
}

#[test]
fn blocks_stand_in_the_order_in_which_they_began() {
    let message = fold(vec![
        Event::Thinking(delta("hm")),
        Event::ThinkingSignature(delta("sig")),
        Event::Thinking(delta("again")),
        Event::RedactedThinking(delta("xyz")),
        text("I call"),
        call(0, "t0", "f"),
        call(1, "", "g"),
        arguments(1, "{\"b\":"),
        arguments(0, "{\"a\":1}"),
        arguments(1, "2}"),
        text("."),
        finish(FinishReason::ToolCalls),
    ]);
    let id = message["content"][5]["id"].as_str().unwrap();
    assert!(id.starts_with("call_"));
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "thinking", "thinking": "again", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "I call"},
        {"type": "tool_use", "id": "t0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": id, "name": "g", "input": {"b": 2}},
        {"type": "text", "text": "."},
    ]);
    assert_eq!(message["content"], expected);
    assert_eq!(message["stop_reason"], "tool_use");
}

#[test]
fn cached_tokens_are_not_counted_as_input() {
    let counted = Counted {
        input: Some(100),
        cache_read: Some(60),
        cache_write: Some(30),
        output: Some(7),
        reasoning: Some(5),
        units: Vec::new(),
    };
    let message = fold(vec![Event::Usage(counted)]);
    let expected = json!({
        "input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30,
        "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 5},
    });
    assert_eq!(message["usage"], expected);
}

#[test]
fn the_vendors_own_usage_fields_stand_beside_the_counts() {
    let message = fold(vec![
        own("usage", r#"{"input_tokens":99,"service_tier":"standard","output_tokens":1}"#),
        usage(Some(3), Some(1)),
        own("usage", r#"{"output_tokens":5,"server_tool_use":{"web_search_requests":1},"x":null}"#),
        usage(None, Some(5)),
    ]);
    let usage = &message["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(3), &json!(5)));
    assert_eq!(usage["service_tier"], "standard");
    assert_eq!(usage["server_tool_use"]["web_search_requests"], 1);
}

#[test]
fn every_end_has_anthropics_word() {
    let other = |word: &str| FinishReason::Other(word.to_owned());
    for (reason, word, native) in [
        (FinishReason::Stop, "end_turn", json!(null)),
        (FinishReason::Length, "max_tokens", json!(null)),
        (FinishReason::ToolCalls, "tool_use", json!(null)),
        (FinishReason::ContentFilter, "refusal", json!(null)),
        (FinishReason::Refusal, "refusal", json!(null)),
        (other("pause_turn"), "pause_turn", json!(null)),
        (other("MALFORMED_CALL"), "end_turn", json!("MALFORMED_CALL")),
    ] {
        let message = fold(vec![finish(reason)]);
        assert_eq!(message["stop_reason"], word);
        assert_eq!(message["native_stop_reason"], native);
    }
    let stop = Finish { choice: 0, reason: FinishReason::Stop, stop_sequence: Some("END".into()) };
    let message = fold(vec![Event::Finish(stop)]);
    assert_eq!(
        (&message["stop_reason"], &message["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
    // Some vendors say "stop" although they call.
    let message = fold(vec![call(0, "t", "f"), finish(FinishReason::Stop)]);
    assert_eq!(message["stop_reason"], "tool_use");
    let exact = own("stop_reason", r#""model_context_window_exceeded""#);
    let message = fold(vec![exact, finish(FinishReason::Length)]);
    assert_eq!(message["stop_reason"], "model_context_window_exceeded");
}

#[test]
fn a_refusal_is_explained_where_anthropic_does() {
    let message = fold(vec![Event::Refusal(delta("I can't.")), finish(FinishReason::Stop)]);
    assert_eq!(message["stop_reason"], "refusal");
    let details = json!({"type": "refusal", "category": null, "explanation": "I can't."});
    assert_eq!(message["stop_details"], details);
    let own_words = json!({"type": "refusal", "category": "cyber", "explanation": "No."});
    let message = fold(vec![
        own("stop_details", &own_words.to_string()),
        Event::Refusal(delta("No.")),
        finish(FinishReason::Refusal),
    ]);
    assert_eq!(message["stop_details"], own_words);
}

#[test]
fn what_only_its_vendor_knows_stands_where_it_was() {
    let message = fold(vec![
        own(
            "content_block",
            r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#,
        ),
        own(
            "content_block_delta",
            r#"{"index":0,"delta":{"type":"input_json_delta","partial_json":"{\"q\":"}}"#,
        ),
        own(
            "content_block_delta",
            r#"{"index":0,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        ),
        own("content_block", r#"{"type":"web_search_tool_result","content":[{"z":1,"a":2}]}"#),
        text("It "),
        own("content_block", r#"{"type":"text","text":""}"#),
        citation(r#"{"type":"web_search_result_location"}"#),
        text("says."),
        own("content_block_fields", r#"{"caller":{"type":"direct"},"id":"stolen"}"#),
        call(0, "t", "f"),
        own("container", r#"{"id":"c"}"#),
        own("id", "\"stolen\""),
    ]);
    let expected = json!([
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}},
        {"type": "web_search_tool_result", "content": [{"z": 1, "a": 2}]},
        {"type": "text", "text": "It "},
        {"type": "text", "text": "says.", "citations": [{"type": "web_search_result_location"}]},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}},
    ]);
    assert_eq!(message["content"], expected);
    assert_eq!(message["container"], json!({"id": "c"}));
    assert_ne!(message["id"], "stolen");
}

#[test]
fn arguments_that_are_no_json_are_an_error_unless_they_were_cut_off() {
    let cut = vec![call(0, "t", "f"), arguments(0, "{\"a\":"), finish(FinishReason::Length)];
    assert_eq!(fold(cut)["content"][0]["input"], json!({}));
    let broken = vec![call(0, "t", "f"), arguments(0, "{\"a\":"), finish(FinishReason::ToolCalls)];
    assert!(try_fold(broken).is_err());
    assert!(try_fold(vec![arguments(3, "{}")]).is_err());
}

#[test]
fn warnings_and_other_choices() {
    let mut folder = MessageFolder::new(identity(), Warnings::default());
    let warning =
        Warning { code: "dropped".into(), subject: "sampling.seed".into(), message: String::new() };
    let other = TextDelta { choice: 1, text: "no".into() };
    folder.add(vec![Event::Warning(warning), Event::Text(other)]).unwrap();
    assert_eq!(folder.warnings().header().unwrap(), "dropped sampling.seed");
    let json: Value = serde_json::from_slice(&folder.finish().unwrap()).unwrap();
    assert_eq!(json["content"], json!([]));
}

#[test]
fn the_number_of_blocks_is_bounded() {
    let call = |at: usize| call(at as u32, "t", "f");
    assert!(try_fold((0..MAX_BLOCKS).map(call).collect()).is_ok());
    assert!(try_fold((0..=MAX_BLOCKS).map(call).collect()).is_err());
}
