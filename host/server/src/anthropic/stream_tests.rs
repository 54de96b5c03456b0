use keyward::contract::FinishReason;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::answer::{
        MessageFolder,
        tests::{arguments, call, citation, delta, finish, identity, own, started, text, usage},
    },
    *,
};
use crate::dialect::Folder as _;

/// The events of a stream, each checked against its name.
fn events(out: &[u8]) -> Vec<Value> {
    let out = std::str::from_utf8(out).unwrap();
    assert!(out.ends_with("\n\n"));
    out.split_terminator("\n\n")
        .map(|event| {
            let lines: Vec<&str> = event.split('\n').collect();
            let [name, data] = lines[..] else { panic!("{event:?}") };
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            data
        })
        .collect()
}

fn write(given: &[Event]) -> Vec<Value> {
    let mut writer = EventWriter::new(identity(), Warnings::default());
    let mut out = Vec::new();
    writer.write(given, &mut out).unwrap();
    writer.finish(&mut out);
    events(&out)
}

/// What a client of this dialect makes of a stream. It holds one block open at a time.
fn accumulated(events: &[Value]) -> Value {
    let mut message = Value::Null;
    let mut open: Option<(u64, String)> = None;
    for event in events {
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                assert!(open.is_none(), "two blocks are open: {event}");
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(event["index"], content.len() as u64);
                content.push(event["content_block"].clone());
                open = Some((event["index"].as_u64().unwrap(), String::new()));
            }
            "content_block_delta" => {
                let (index, input) = open.as_mut().expect("a block is open");
                assert_eq!(event["index"], *index);
                let delta = &event["delta"];
                let block = &mut message["content"][*index as usize];
                let grow = |place: &mut Value, more: &Value| {
                    *place =
                        json!(format!("{}{}", place.as_str().unwrap(), more.as_str().unwrap()));
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => grow(&mut block["text"], &delta["text"]),
                    "thinking_delta" => grow(&mut block["thinking"], &delta["thinking"]),
                    "signature_delta" => block["signature"] = delta["signature"].clone(),
                    "input_json_delta" => input.push_str(delta["partial_json"].as_str().unwrap()),
                    "citations_delta" => match block["citations"].as_array_mut() {
                        Some(all) => all.push(delta["citation"].clone()),
                        None => block["citations"] = json!([delta["citation"]]),
                    },
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                let (index, input) = open.take().expect("a block is open");
                assert_eq!(event["index"], index);
                if !input.is_empty() {
                    let input: Value = serde_json::from_str(&input).unwrap();
                    message["content"][index as usize]["input"] = input;
                }
            }
            "message_delta" => {
                assert!(open.is_none());
                for (name, value) in event["delta"].as_object().unwrap() {
                    message[name] = value.clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => return message,
            other => panic!("{other}"),
        }
    }
    panic!("no end")
}

fn folded(given: &[Event]) -> Value {
    let mut folder = MessageFolder::new(identity(), Warnings::default());
    folder.add(given.to_vec()).unwrap();
    serde_json::from_slice(&folder.finish().unwrap()).unwrap()
}

#[test]
fn a_text_is_streamed_as_anthropic_does() {
    let all = write(&[
        started(),
        usage(Some(3), Some(1)),
        text("Hel"),
        text("lo\n"),
        finish(FinishReason::Stop),
        usage(None, Some(2)),
    ]);
    let counts = |output: u64| {
        json!({"input_tokens": 3, "output_tokens": output,
            "cache_creation_input_tokens": null, "cache_read_input_tokens": null})
    };
    let piece = |text: &str| {
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": text}})
    };
    let expected = [
        json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "vendor-model",
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": counts(1),
        }}),
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}}),
        piece("Hel"),
        piece("lo\n"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": counts(2)}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(all, expected);
}

#[test]
fn an_empty_signature_ends_no_thinking() {
    let signature = |text: &str| Event::ThinkingSignature(delta(text));
    let thinks = |text: &str| Event::Thinking(delta(text));
    let given = [signature(""), thinks("a"), signature(""), thinks("b"), signature("s")];
    let streamed = accumulated(&write(&given));
    assert_eq!(streamed, folded(&given));
    let block = json!({"type": "thinking", "thinking": "ab", "signature": "s"});
    assert_eq!(streamed["content"], json!([block]));
}

#[test]
fn encrypted_thinking_is_whole_when_it_begins() {
    let more =
        own("content_block_delta", r#"{"delta":{"type":"input_json_delta","partial_json":"{}"}}"#);
    let given = [Event::RedactedThinking(delta("x")), more];
    let mut writer = EventWriter::new(identity(), Warnings::default());
    let mut out = Vec::new();
    writer.write(&given, &mut out).unwrap();
    writer.finish(&mut out);
    assert_eq!(writer.warnings().header().unwrap(), "dropped answer.content-block-delta");
    assert_eq!(accumulated(&events(&out)), folded(&given));
}

#[test]
fn an_empty_stream_has_a_beginning_and_an_end() {
    let kinds: Vec<Value> = write(&[]).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
}

#[test]
fn interleaved_calls_are_put_in_a_row() {
    let given = [
        call(0, "a", "f"),
        call(1, "b", "g"),
        arguments(0, "{\"x\":\"}"),
        arguments(1, "{\"y\":"),
        arguments(0, "\"}"),
        arguments(1, "[2]}"),
        arguments(0, "  "),
        text("Done."),
        finish(FinishReason::ToolCalls),
    ];
    let message = accumulated(&write(&given));
    let expected = json!([
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "}"}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": [2]}},
        {"type": "text", "text": "Done."},
    ]);
    assert_eq!(message["content"], expected);
    assert_eq!(message["stop_reason"], "tool_use");
}

#[test]
fn a_call_is_passed_on_as_it_comes() {
    let mut writer = EventWriter::new(identity(), Warnings::default());
    let mut pieces = |event: Event| {
        let mut out = Vec::new();
        writer.write(&[event], &mut out).unwrap();
        if out.is_empty() { Vec::new() } else { events(&out) }
    };
    assert_eq!(pieces(call(0, "a", "f")).len(), 2);
    assert_eq!(pieces(arguments(0, "{\"x\":")).len(), 1);
    // The first has not got all its arguments: the second waits.
    assert_eq!(pieces(call(1, "b", "g")).len(), 0);
    assert_eq!(pieces(arguments(1, "{")).len(), 0);
    let released = pieces(arguments(0, "1}"));
    let kinds: Vec<&str> = released.iter().filter_map(|event| event["type"].as_str()).collect();
    let expected =
        ["content_block_delta", "content_block_stop", "content_block_start", "content_block_delta"];
    assert_eq!(kinds, expected);
    assert_eq!(pieces(arguments(1, "}")).len(), 1);
}

#[test]
fn arguments_for_no_call_are_the_adapters_fault() {
    let mut writer = EventWriter::new(identity(), Warnings::default());
    let out = &mut Vec::new();
    assert!(writer.write(&[arguments(0, "{}")], out).is_err());
    let over = [call(0, "a", "f"), arguments(0, "{}"), text("x"), arguments(0, "{}")];
    assert!(writer.write(&over, out).is_err());
}

#[test]
fn fields_of_the_message_come_where_anthropic_has_them() {
    let all = write(&[
        started(),
        own("diagnostics", "{\"a\":\n1}"),
        own("usage", r#"{"service_tier":"standard"}"#),
        text("x"),
        own("container", r#"{"id":"c"}"#),
        own("context_management", r#"{"applied_edits":[]}"#),
        finish(FinishReason::Stop),
    ]);
    assert_eq!(all[0]["message"]["diagnostics"], json!({"a": 1}));
    assert_eq!(all[0]["message"]["usage"]["service_tier"], "standard");
    let end = &all[all.len() - 2];
    assert_eq!(end["delta"]["container"], json!({"id": "c"}));
    assert_eq!(end["context_management"], json!({"applied_edits": []}));
    assert_eq!(end["delta"]["context_management"], Value::Null);
}

#[test]
fn a_failure_ends_a_stream_without_its_end() {
    let mut writer = EventWriter::new(identity(), Warnings::default());
    let mut out = Vec::new();
    writer.write(&[text("x")], &mut out).unwrap();
    let kind = keyward::FailureKind::Overloaded;
    let failure = Failure::new(kind, keyward::Fault::Vendor, "Overloaded");
    writer.fail(&failure, &mut out);
    let all = events(&out);
    let expected = json!({
        "type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": identity().request.to_string(),
    });
    assert_eq!(*all.last().unwrap(), expected);
    assert!(!all.iter().any(|event| event["type"] == "message_stop"));
}

#[test]
fn the_sign_of_life_is_a_ping() {
    assert_eq!(events(EventWriter::KEEP_ALIVE), [json!({"type": "ping"})]);
}

/// Events of an answer whose calls are complete, in any order that a vendor might choose.
fn answers() -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![
        "[a-zé\"]{1,3}".prop_map(|it| vec![text(&it)]),
        "[a-z]{1,3}".prop_map(|it| vec![Event::Thinking(delta(&it))]),
        "[a-z]{1,3}".prop_map(|it| vec![Event::ThinkingSignature(delta(&it))]),
        "[a-z]{1,3}".prop_map(|it| vec![Event::RedactedThinking(delta(&it))]),
        Just(vec![citation(r#"{"type":"page_location"}"#)]),
        Just(vec![own("content_block", r#"{"type":"text","text":""}"#)]),
        Just(vec![own("content_block", r#"{"type":"web_search_tool_result","content":[]}"#)]),
        Just(vec![own("content_block_fields", r#"{"k":1}"#), text("f")]),
    ];
    let pieces = prop::collection::vec(step, 0..12);
    (pieces, 0_u32..4, any::<u64>()).prop_map(|(pieces, calls, mut dice)| {
        let mut roll = |end: usize| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % end
        };
        let mut lanes: Vec<Vec<Event>> = vec![pieces.concat()];
        for index in 0..calls {
            let mut lane = vec![call(index, &format!("t{index}"), "f")];
            if index != 2 {
                lane.extend(
                    ["{\"a\"", ":{\"b\":", "\"}\\\"\"}", "}"].map(|it| arguments(index, it)),
                );
            }
            lanes.push(lane);
        }
        let mut all = vec![started()];
        while !lanes.is_empty() {
            let at = roll(lanes.len());
            if lanes[at].is_empty() {
                lanes.remove(at);
            } else {
                all.push(lanes[at].remove(0));
            }
        }
        all.push(usage(Some(1), Some(2)));
        all
    })
}

proptest! {
    #[test]
    fn a_stream_accumulates_to_the_folded_answer(given in answers()) {
        let (mut streamed, mut whole) = (accumulated(&write(&given)), folded(&given));
        // Fields of a block may begin another one where events interleave.
        for message in [&mut streamed, &mut whole] {
            for block in message["content"].as_array_mut().unwrap() {
                block.as_object_mut().unwrap().remove("k");
            }
        }
        prop_assert_eq!(streamed, whole);
    }
}
