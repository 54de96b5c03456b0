use keyward::contract::{
    FinishReason, MediaKind, MediaOutput, TextDelta, ToolCallStart, Usage as Counted,
};
use serde_json::{Value, json};

use super::*;
use crate::openai::{
    answer::tests::{
        annotation, arguments, attribute_event, call, delta, finish, identity, started, warning,
    },
    responses::request::parse_response,
};

pub(in crate::openai::responses) fn asked(request: Value) -> Asked {
    let mut body = json!({ "model": "m", "input": "Hi" });
    body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
    parse_response(body.to_string().as_bytes()).unwrap().asked
}

pub(in crate::openai::responses) fn fold_for(
    request: Value,
    events: Vec<Event>,
) -> Result<Value, Failure> {
    let mut folder = ResponseFolder::new(identity(), asked(request));
    folder.add(events)?;
    Ok(serde_json::from_slice(&folder.finish()?).unwrap())
}

fn fold(events: Vec<Event>) -> Value {
    fold_for(json!({}), events).unwrap()
}

pub(in crate::openai::responses) fn text(text: &str) -> Event {
    Event::Text(delta(0, text))
}

pub(in crate::openai::responses) fn thinking(text: &str) -> Event {
    Event::Thinking(delta(0, text))
}

pub(in crate::openai::responses) fn signature(text: &str) -> Event {
    Event::ThinkingSignature(delta(0, text))
}

pub(in crate::openai::responses) fn redacted(text: &str) -> Event {
    Event::RedactedThinking(delta(0, text))
}

pub(in crate::openai::responses) fn refusal(text: &str) -> Event {
    Event::Refusal(delta(0, text))
}

fn kinds(response: &Value) -> Vec<&str> {
    response["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect()
}

#[test]
fn a_text_is_a_response_in_openais_shape() {
    let usage = Counted {
        input: Some(3),
        cache_read: Some(1),
        cache_write: Some(2),
        output: Some(4),
        reasoning: Some(1),
        units: Vec::new(),
    };
    let seen = fold_for(
        json!({ "instructions": "Be brief.", "temperature": 1.0, "user": "u", "store": true,
                "metadata": { "a": "b" }, "tools": [{ "type": "function", "name": "f" }] }),
        vec![
            started(),
            text("Hel"),
            text("lo"),
            finish(0, FinishReason::Stop),
            Event::Usage(usage),
        ],
    )
    .unwrap();
    let id = format!("msg_kw{:032x}0000", 0xabc);
    let expected = json!({
        "id": "chatcmpl-1", "object": "response", "created_at": 1_700_000_000,
        "status": "completed", "error": null, "incomplete_details": null, "model": "vendor-model",
        "output": [{
            "id": id, "type": "message", "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": "Hello", "annotations": [], "logprobs": [] }],
        }],
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": { "cached_tokens": 1, "cache_write_tokens": 2 },
            "output_tokens": 4, "output_tokens_details": { "reasoning_tokens": 1 },
            "total_tokens": 7,
        },
        "background": false, "instructions": "Be brief.", "max_output_tokens": null,
        "max_tool_calls": null, "metadata": { "a": "b" }, "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": { "effort": null, "summary": null },
        // The vendor hasn't said that it did.
        "store": false,
        "temperature": 1.0, "text": { "format": { "type": "text" } }, "tool_choice": "auto",
        "tools": [{ "type": "function", "name": "f" }], "top_logprobs": 0, "top_p": null,
        "truncation": "disabled", "user": "u",
    });
    assert_eq!(seen, expected);
}

#[test]
fn items_stand_in_the_vendors_order() {
    let seen = fold(vec![
        thinking("A"),
        signature("s1"),
        redacted("r"),
        text("One"),
        call(0, "c0", "f"),
        arguments(0, "{\"x\":"),
        thinking("B"),
        arguments(0, "1}"),
        text("Two"),
        call(1, "c1", "g"),
        finish(0, FinishReason::ToolCalls),
    ]);
    assert_eq!(
        kinds(&seen),
        [
            "reasoning",
            "reasoning",
            "message",
            "function_call",
            "reasoning",
            "message",
            "function_call"
        ]
    );
    let output = &seen["output"];
    assert_eq!(output[0]["summary"], json!([{ "type": "summary_text", "text": "A" }]));
    assert_eq!(output[0]["encrypted_content"], "s1");
    assert_eq!(output[1]["summary"], json!([]));
    assert_eq!(output[1]["encrypted_content"], "keyward.redacted.r");
    assert_eq!(output[3]["arguments"], "{\"x\":1}");
    assert_eq!(output[3]["call_id"], "c0");
    assert_eq!(output[4].get("encrypted_content"), None);
    assert_eq!(output[6]["arguments"], "{}");
    let mut ids: Vec<&str> =
        output.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

#[test]
fn thinking_goes_out_and_comes_back_the_same() {
    let folded = fold(vec![thinking("Why"), signature("sig"), redacted("box"), text("So.")]);
    let body = json!({ "model": "m", "input": folded["output"] });
    let chat = parse_response(body.to_string().as_bytes()).unwrap().chat;
    let [message] = chat.messages.as_slice() else { panic!("{:?}", chat.messages) };
    use keyward::operation::PartBody;
    let [a, b, c] = message.parts.as_slice() else { panic!("{message:?}") };
    assert!(matches!(&a.body, PartBody::Thinking { text, signature: Some(signature) }
        if &**text == "Why" && &**signature == "sig"));
    assert!(matches!(&b.body, PartBody::RedactedThinking(data) if &**data == "box"));
    assert!(matches!(&c.body, PartBody::Text(text) if &**text == "So."));
    // Nothing is left that a vendor would have to be warned about.
    assert!(message.extra.is_empty() && message.parts.iter().all(|part| part.extra.is_empty()));
}

#[test]
fn a_refusal_is_a_part_beside_the_text() {
    let seen = fold(vec![text("Well. "), refusal("No."), finish(0, FinishReason::Refusal)]);
    let content = &seen["output"][0]["content"];
    assert_eq!(content[0]["text"], "Well. ");
    assert_eq!(content[1], json!({ "type": "refusal", "refusal": "No." }));
    assert_eq!(seen["status"], "completed");
}

#[test]
fn endings_are_told_in_this_protocols_words() {
    for (reason, status, why) in [
        (FinishReason::Stop, "completed", Value::Null),
        (FinishReason::ToolCalls, "completed", Value::Null),
        (FinishReason::Length, "incomplete", json!("max_output_tokens")),
        (FinishReason::ContentFilter, "incomplete", json!("content_filter")),
        (FinishReason::Refusal, "incomplete", json!("content_filter")),
        (FinishReason::Other("pause_turn".into()), "incomplete", json!("pause_turn")),
        (FinishReason::Other("cancelled".into()), "cancelled", Value::Null),
    ] {
        let seen = fold(vec![text("Hi"), finish(0, reason)]);
        assert_eq!(seen["status"], status);
        assert_eq!(seen["incomplete_details"].get("reason").cloned().unwrap_or_default(), why);
        let whole = status == "completed";
        let of_item = if whole { "completed" } else { "incomplete" };
        assert_eq!(seen["output"][0]["status"], of_item);
    }
    assert_eq!(fold(vec![text("Hi")])["status"], "completed");
    assert_eq!(fold(vec![])["output"], json!([]));
    assert_eq!(fold(vec![])["usage"], Value::Null);
}

#[test]
fn citations_and_log_probabilities_stand_with_their_text() {
    let logprobs = |token: &str| {
        Event::Logprobs(annotation(&format!(r#"{{"content":[{{"token":"{token}"}}]}}"#)))
    };
    let cite = Event::Citation(annotation("{\n\"type\":\"url_citation\"}"));
    let seen = fold(vec![text("a"), logprobs("a"), logprobs("b"), text("b"), cite]);
    let part = &seen["output"][0]["content"][0];
    assert_eq!(part["text"], "ab");
    assert_eq!(part["logprobs"], json!([{ "token": "a" }, { "token": "b" }]));
    assert_eq!(part["annotations"], json!([{ "type": "url_citation" }]));
}

#[test]
fn a_custom_tool_is_called_with_text() {
    let request = json!({ "tools": [{ "type": "custom", "name": "sql" }] });
    let seen =
        fold_for(request, vec![call(0, "c", "sql"), arguments(0, "SELECT"), arguments(0, " 1")])
            .unwrap();
    let item = &seen["output"][0];
    assert_eq!(item["type"], "custom_tool_call");
    assert_eq!(item["input"], "SELECT 1");
    assert_eq!(item.get("arguments"), None);
}

#[test]
fn a_call_without_an_id_gets_one() {
    let seen = fold(vec![call(0, "", "f"), call(1, "", "f")]);
    let ids: Vec<&str> = (0..2).map(|at| seen["output"][at]["call_id"].as_str().unwrap()).collect();
    assert!(ids[0].starts_with("call_") && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn items_and_fields_of_the_vendors_own_stand_where_it_had_them() {
    let item = r#"{"type":"web_search_call","id":"ws_1","status":"completed","x":[1]}"#;
    let seen = fold_for(
        json!({ "store": false, "metadata": { "a": "b" } }),
        vec![
            attribute_event("output_item", item),
            text("Found."),
            attribute_event("billing", "{\"payer\":\"developer\"}"),
            attribute_event("store", "true"),
            attribute_event("status", "\"failed\""),
            attribute_event("event", r#"{"type":"response.x"}"#),
        ],
    )
    .unwrap();
    assert_eq!(kinds(&seen), ["web_search_call", "message"]);
    assert_eq!(seen["output"][0], serde_json::from_str::<Value>(item).unwrap());
    assert_eq!(seen["billing"], json!({ "payer": "developer" }));
    assert_eq!(seen["store"], true);
    assert_eq!(seen["status"], "completed");
    assert_eq!(seen.get("event"), None);
}

#[test]
fn what_the_vendor_says_of_a_setting_stands_instead_of_what_was_asked() {
    let mut folder = ResponseFolder::new(identity(), asked(json!({ "truncation": "auto" })));
    folder.add(vec![text("Hi"), attribute_event("truncation", "\"disabled\"")]).unwrap();
    let written = String::from_utf8(folder.finish().unwrap()).unwrap();
    assert_eq!(written.matches("\"truncation\"").count(), 1, "{written}");
    assert!(written.contains("\"truncation\":\"disabled\""), "{written}");
}

#[test]
fn fields_that_only_the_vendor_knows_stand_in_their_item() {
    let item = |json: &str| attribute_event("item", json);
    let seen = fold(vec![
        item(r#"{"type":"message","phase":"commentary","id":"evil"}"#),
        text("One"),
        item(r#"{"type":"message","phase":"final_answer"}"#),
        text("Two"),
        item(r#"{"type":"function_call","namespace":"n"}"#),
        call(0, "c", "f"),
        // Of an item that showed nothing.
        item(r#"{"type":"reasoning","x":1}"#),
        call(1, "d", "g"),
    ]);
    let output = &seen["output"];
    assert_eq!(kinds(&seen), ["message", "message", "function_call", "function_call"]);
    assert_eq!(output[0]["phase"], "commentary");
    assert_ne!(output[0]["id"], "evil");
    assert_eq!(output[1]["phase"], "final_answer");
    assert_eq!(output[2]["namespace"], "n");
    assert_eq!(output[3].get("x"), None);
}

#[test]
fn an_image_is_a_call_of_the_vendors_tool() {
    let media = |kind| {
        let (media_type, base64) = ("image/webp".to_owned(), "AAAA".to_owned());
        Event::Media(MediaOutput { choice: 0, kind, media_type, base64 })
    };
    let seen = fold(vec![media(MediaKind::Image)]);
    let item = &seen["output"][0];
    assert_eq!(item["type"], "image_generation_call");
    assert_eq!((&item["result"], &item["output_format"]), (&json!("AAAA"), &json!("webp")));
    // What has no place is told.
    let mut folder = ResponseFolder::new(identity(), asked(json!({})));
    folder.add(vec![media(MediaKind::Audio), text("Hi")]).unwrap();
    assert_eq!(folder.warnings().header().unwrap(), "dropped media.audio");
}

#[test]
fn a_lost_reference_fails_the_answer() {
    let request = || json!({ "previous_response_id": "resp_1" });
    let lost = warning("extra.previous_response_id");
    let failure = fold_for(request(), vec![lost, text("Hi")]).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("previous_response_id"));
    assert!(fold_for(request(), vec![warning("extra.metadata"), text("Hi")]).is_ok());
}

#[test]
fn what_contradicts_itself_or_has_no_end_is_refused() {
    let second = Event::Text(TextDelta { choice: 1, text: "x".into() });
    let second_call =
        Event::ToolCall(ToolCallStart { choice: 1, index: 0, id: "c".into(), name: "f".into() });
    let not_an_item = attribute_event("output_item", "[1]");
    for events in [
        vec![second],
        vec![second_call],
        vec![arguments(0, "{}")],
        vec![not_an_item],
        (0..2000).map(|index| call(index, "", "f")).collect(),
        (0..5000).flat_map(|_| [text("a"), thinking("b")]).collect(),
        (0..5000).flat_map(|_| [text("a"), refusal("b")]).collect(),
    ] {
        let failure = fold_for(json!({}), events).unwrap_err();
        assert_eq!(failure.kind, keyward::FailureKind::Plugin, "{failure:?}");
    }
}
