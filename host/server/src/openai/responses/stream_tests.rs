use keyward::{
    FailureKind, Fault,
    contract::{FinishReason, MediaKind, MediaOutput},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::answer::tests::{asked, fold_for, redacted, refusal, signature, text, thinking},
    *,
};
use crate::openai::answer::tests::{
    annotation, arguments, attribute_event, call, finish, identity, started, warning,
};

/// The events of a stream: each has its type twice and the next number.
fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"));
    text.split_terminator("\n\n")
        .enumerate()
        .map(|(number, event)| {
            let (name, data) = event.split_once('\n').unwrap_or_else(|| panic!("{event:?}"));
            let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}"));
            assert!(!data.contains(['\n', '\r']), "{data:?}");
            let mut data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
            assert_eq!(data["sequence_number"], number, "{data}");
            data.as_object_mut().unwrap().remove("sequence_number");
            data
        })
        .collect()
}

fn write_for(request: Value, batches: &[&[Event]]) -> Vec<Value> {
    let mut writer = EventWriter::new(identity(), asked(request));
    let mut out = Vec::new();
    for batch in batches {
        writer.write(batch, &mut out).unwrap();
    }
    writer.finish(&mut out);
    events(&out)
}

fn write(all: &[Event]) -> Vec<Value> {
    write_for(json!({}), &[all])
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap().trim_start_matches("response."))
        .collect()
}

fn failure() -> Failure {
    let mut failure = Failure::new(FailureKind::Overloaded, Fault::Vendor, "Busy.");
    failure.param = Some("input".into());
    failure
}

#[test]
fn a_text_comes_step_by_step() {
    let all = write_for(
        json!({}),
        &[&[started()], &[text("Hel")], &[text("lo\n")], &[finish(0, FinishReason::Stop)]],
    );
    assert_eq!(
        kinds(&all),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let id = format!("msg_kw{:032x}0000", 0xabc);
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    let item = |status: &str, content: Value| json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content });
    assert_eq!(all[0]["response"]["status"], "in_progress");
    assert_eq!(all[0]["response"]["id"], "chatcmpl-1");
    assert_eq!(all[0]["response"]["output"], json!([]));
    let of = |kind: &str, more: Value| {
        let mut event = json!({ "type": format!("response.{kind}"), "item_id": id,
            "output_index": 0, "content_index": 0 });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    assert_eq!(
        all[2..9],
        [
            json!({ "type": "response.output_item.added", "output_index": 0,
                "item": item("in_progress", json!([])) }),
            of("content_part.added", json!({ "part": part("") })),
            of("output_text.delta", json!({ "delta": "Hel", "logprobs": [] })),
            of("output_text.delta", json!({ "delta": "lo\n", "logprobs": [] })),
            of("output_text.done", json!({ "text": "Hello\n", "logprobs": [] })),
            of("content_part.done", json!({ "part": part("Hello\n") })),
            json!({ "type": "response.output_item.done", "output_index": 0,
                "item": item("completed", json!([part("Hello\n")])) }),
        ]
    );
    assert_eq!(all[9]["response"]["output"], json!([item("completed", json!([part("Hello\n")]))]));
}

#[test]
fn thinking_is_a_summary_that_ends_where_its_signature_comes() {
    let all = write(&[thinking("A"), thinking("B"), signature("s"), redacted("r"), text("C")]);
    assert_eq!(
        kinds(&all)[2..12],
        [
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "output_item.done",
            "output_item.added",
        ]
    );
    assert_eq!(all[3]["part"], json!({ "type": "summary_text", "text": "" }));
    assert_eq!(all[4]["delta"], "A");
    assert_eq!(all[6]["text"], "AB");
    assert_eq!(all[8]["item"]["encrypted_content"], "s");
    assert_eq!(all[10]["item"]["encrypted_content"], "keyward.redacted.r");
}

#[test]
fn calls_in_turn_are_items_in_order() {
    let all = write(&[
        call(0, "a", "f"),
        call(1, "b", "g"),
        arguments(1, "{\"y\":"),
        arguments(0, "{}"),
        arguments(1, "2}"),
        finish(0, FinishReason::ToolCalls),
    ]);
    assert_eq!(
        kinds(&all)[2..],
        [
            "output_item.added",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    assert_eq!(all[2]["item"]["arguments"], "");
    assert_eq!(all[4]["output_index"], 1);
    assert_eq!(all[7]["arguments"], "{}");
    assert_eq!(all[7]["name"], "f");
    assert_eq!(all[9]["arguments"], "{\"y\":2}");
    assert_eq!(all[10]["item"]["call_id"], "b");
}

#[test]
fn a_custom_tools_text_has_events_of_its_own() {
    let request = json!({ "tools": [{ "type": "custom", "name": "sql" }] });
    let all = write_for(request, &[&[call(0, "c", "sql"), arguments(0, "SELECT 1")]]);
    assert_eq!(
        kinds(&all)[2..6],
        [
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done"
        ]
    );
    assert_eq!(all[4]["input"], "SELECT 1");
}

#[test]
fn refusals_annotations_and_log_probabilities_have_events_of_their_own() {
    let all = write(&[
        text("a"),
        Event::Logprobs(annotation(r#"{"content":[{"token":"a"}]}"#)),
        Event::Citation(annotation(r#"{"type":"url_citation"}"#)),
        refusal("No."),
    ]);
    assert_eq!(
        kinds(&all)[3..],
        [
            "content_part.added",
            "output_text.delta",
            "output_text.annotation.added",
            "output_text.done",
            "content_part.done",
            "content_part.added",
            "refusal.delta",
            "refusal.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    assert_eq!(all[4]["logprobs"], json!([{ "token": "a" }]));
    assert_eq!(all[5]["annotation"], json!({ "type": "url_citation" }));
    assert_eq!(all[5]["annotation_index"], 0);
    assert_eq!((&all[9]["delta"], &all[9]["content_index"]), (&json!("No."), &json!(1)));
    assert_eq!(all[9].get("logprobs"), None);
    assert_eq!(all[10]["refusal"], "No.");
}

#[test]
fn an_answer_cut_short_ends_incomplete() {
    let all = write(&[text("Hi"), finish(0, FinishReason::Length)]);
    let last = all.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
}

#[test]
fn a_failure_is_an_error_event_that_sdks_raise_and_nothing_after_it() {
    let mut writer = EventWriter::new(identity(), asked(json!({})));
    let mut out = Vec::new();
    writer.write(&[text("Hi")], &mut out).unwrap();
    writer.fail(&failure(), &mut out);
    let all = events(&out);
    assert_eq!(
        all.last().unwrap(),
        &json!({
            "type": "error", "code": "server_overloaded", "message": "Busy.", "param": "input",
            "error": { "message": "Busy.", "type": "server_error", "param": "input",
                "code": "server_overloaded" },
        })
    );
    assert!(!kinds(&all).contains(&"completed"));
}

#[test]
fn an_answers_name_holds_from_its_first_event() {
    let all = write_for(json!({}), &[&[text("a")], &[started()], &[text("b")]]);
    let ids: Vec<&Value> = all.iter().filter_map(|event| event["response"].get("id")).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| **id == *ids[0]), "{ids:?}");
}

#[test]
fn a_warning_alone_begins_nothing() {
    let mut writer = EventWriter::new(identity(), asked(json!({})));
    let mut out = Vec::new();
    writer.write(&[warning("sampling.seed")], &mut out).unwrap();
    assert!(out.is_empty());
    assert_eq!(writer.warnings().header().unwrap(), "dropped sampling.seed");
    let mut writer =
        EventWriter::new(identity(), asked(json!({ "previous_response_id": "resp_1" })));
    assert!(writer.write(&[warning("extra.previous_response_id")], &mut out).is_err());
}

// -------------------------------------------------------------------------- the vendor's own

fn vendors(json: &Value) -> Event {
    attribute_event("event", &json.to_string())
}

#[test]
fn events_of_the_vendors_own_come_in_this_streams_order() {
    let event = |state: &str| {
        vendors(&json!({ "type": format!("response.web_search_call.{state}"), "item_id": "ws_1",
            "output_index": 7, "sequence_number": 99, "odd": [1] }))
    };
    let item = r#"{"type":"web_search_call","id":"ws_1","status":"completed"}"#;
    let all = write(&[
        text("Wait."),
        event("in_progress"),
        event("searching"),
        attribute_event("output_item", item),
        text("Found."),
    ]);
    assert_eq!(
        kinds(&all)[5..12],
        [
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "web_search_call.in_progress",
            "web_search_call.searching",
            "output_item.done",
        ]
    );
    assert_eq!(
        all[8]["item"],
        json!({ "id": "ws_1", "type": "web_search_call", "status": "in_progress" })
    );
    assert_eq!(
        all[9],
        json!({ "type": "response.web_search_call.in_progress", "item_id": "ws_1",
            "output_index": 1, "odd": [1] })
    );
    assert_eq!(all[11]["item"], serde_json::from_str::<Value>(item).unwrap());
    assert_eq!(all[12]["output_index"], 2);
}

#[test]
fn an_image_ends_the_call_that_its_events_announced() {
    let event = vendors(&json!({ "type": "response.image_generation_call.partial_image",
        "item_id": "ig_1", "partial_image_b64": "AA==" }));
    let image = Event::Media(MediaOutput {
        choice: 0,
        kind: MediaKind::Image,
        media_type: "image/png".into(),
        base64: "AAAA".into(),
    });
    let all = write(&[event, image]);
    assert_eq!(
        kinds(&all)[2..],
        [
            "output_item.added",
            "image_generation_call.partial_image",
            "output_item.done",
            "completed"
        ]
    );
    assert_eq!(all[4]["item"]["id"], "ig_1");
    assert_eq!(all[4]["item"]["result"], "AAAA");
}

#[test]
fn an_adapter_cannot_pass_off_its_own_events_as_the_hosts() {
    let mut sent = vec![text("Hi")];
    for kind in [
        "response.completed",
        "response.created",
        "response.output_text.delta",
        "response.output_item.done",
        "error",
        "done",
        "response.x\ndata: [DONE]\n\n",
        "response.<x>",
    ] {
        sent.push(vendors(&json!({ "type": kind, "delta": "evil", "response": {} })));
    }
    sent.push(attribute_event("event", "[1]"));
    sent.push(attribute_event("event", r#"{"type":7}"#));
    let all = write(&sent);
    assert_eq!(all.len(), write(&[text("Hi")]).len());
    // A place is told of items alone, for it is one in this stream.
    let all = write(&[vendors(&json!({ "type": "response.odd", "output_index": 7, "a": 1 }))]);
    assert_eq!(all[2], json!({ "type": "response.odd", "a": 1 }));
    // An error that an SDK would raise can't be hidden in one either.
    let all =
        write(&[vendors(&json!({ "type": "response.odd", "error": { "message": "no" }, "a": 1 }))]);
    assert_eq!(all[2], json!({ "type": "response.odd", "a": 1 }));
}

// ------------------------------------------------------------------------------ whatever comes

fn any_event() -> impl Strategy<Value = Event> {
    let word = "[a-z\\n\"é]{0,4}";
    prop_oneof![
        word.prop_map(|it| text(&it)),
        word.prop_map(|it| refusal(&it)),
        word.prop_map(|it| thinking(&it)),
        word.prop_map(|it| signature(&it)),
        word.prop_map(|it| redacted(&it)),
        (0..3_u32).prop_map(|index| call(index, "", "f")),
        (0..3_u32, word).prop_map(|(index, it)| arguments(index, &it)),
        Just(Event::Citation(annotation("{\"a\":\n1}"))),
        Just(Event::Logprobs(annotation(r#"{"content":[{"token":"a"}]}"#))),
        Just(attribute_event("output_item", r#"{"type":"x_call","id":"x_1"}"#)),
        Just(vendors(&json!({ "type": "response.x_call.doing", "item_id": "x_1" }))),
        Just(attribute_event("service_tier", "\"flex\"")),
        Just(finish(0, FinishReason::Length)),
        Just(finish(0, FinishReason::Stop)),
    ]
}

proptest! {
    /// Whatever an adapter says, a stream is well-formed: items begin in order and once, nothing is
    /// told of an item that isn't open, deltas add up, and what stands at the end is what a caller
    /// would have got whole.
    #[test]
    fn a_stream_tells_what_the_whole_answer_says(
        batches in prop::collection::vec(prop::collection::vec(any_event(), 0..6), 0..8)
    ) {
        let mut writer = EventWriter::new(identity(), asked(json!({})));
        let mut out = Vec::new();
        let mut taken = Vec::new();
        let mut failed = false;
        for batch in &batches {
            if writer.write(batch, &mut out).is_err() {
                failed = true;
                break;
            }
            taken.extend(batch.iter().cloned());
        }
        if failed {
            writer.fail(&failure(), &mut out);
            let all = events(&out);
            prop_assert_eq!(all.last().unwrap()["type"].as_str(), Some("error"));
            return Ok(());
        }
        writer.finish(&mut out);
        let all = events(&out);
        let mut open: Vec<(Value, bool, String)> = Vec::new();
        for event in &all[2..all.len() - 1] {
            let index = event["output_index"].as_u64().unwrap() as usize;
            match event["type"].as_str().unwrap() {
                "response.output_item.added" => {
                    prop_assert_eq!(index, open.len());
                    open.push((event["item"]["id"].clone(), true, String::new()));
                }
                "response.output_item.done" => {
                    prop_assert!(open[index].1, "done twice: {}", event);
                    open[index].1 = false;
                    prop_assert_eq!(&event["item"], &all.last().unwrap()["response"]["output"][index]);
                }
                kind => {
                    prop_assert_eq!(&open[index].0, &event["item_id"]);
                    prop_assert!(open[index].1 || kind.contains("x_call"), "after its end: {}", event);
                    if kind.ends_with("_text.delta") {
                        open[index].2.push_str(event["delta"].as_str().unwrap());
                    }
                }
            }
        }
        prop_assert!(open.iter().all(|(_, open, _)| !open), "not all items ended");
        let last = &all.last().unwrap()["response"];
        for ((_, _, said), item) in open.iter().zip(last["output"].as_array().unwrap()) {
            let texts = item["content"].as_array().or(item["summary"].as_array());
            let whole: String =
                texts.into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
            prop_assert_eq!(said, &whole);
        }
        // The whole answer has no items that only an event announced.
        let announced = taken.iter().any(|event| matches!(event, Event::Attribute(it) if it.name == "event"));
        if !announced {
            prop_assert_eq!(last, &fold_for(json!({}), taken).unwrap());
        }
    }
}
