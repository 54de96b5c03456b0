use futures_util::{Stream, stream};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use keyward::contract::{FinishReason, MediaOutput};
use serde_json::{Value, json};

use super::{
    super::answer::tests::{
        annotation, arguments, attribute_event, call, delta, finish, identity, started, usage,
    },
    *,
};
use crate::dialect::{
    Folder as _,
    stream::{Body, KEEP_ALIVE},
};

/// The chunks of a stream; the last one is `"[DONE]"` if it had a valid end.
fn chunks(text: &str) -> Vec<Value> {
    assert!(text.ends_with("\n\n"));
    text.split_terminator("\n\n")
        .map(|event| {
            let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}"));
            assert!(!data.contains(['\n', '\r']), "{data:?}");
            if data == "[DONE]" { json!("[DONE]") } else { serde_json::from_str(data).unwrap() }
        })
        .collect()
}

fn write_with(include_usage: bool, batches: &[&[Event]]) -> Vec<Value> {
    let mut writer = ChunkWriter::new(identity(), include_usage);
    let mut out = Vec::new();
    for batch in batches {
        writer.write(batch, &mut out).unwrap();
    }
    writer.finish(&mut out);
    chunks(std::str::from_utf8(&out).unwrap())
}

fn write(events: &[Event]) -> Vec<Value> {
    write_with(false, &[events])
}

fn deltas(chunks: &[Value]) -> Vec<Value> {
    chunks
        .iter()
        .filter_map(|chunk| chunk["choices"].get(0))
        .map(|choice| choice["delta"].clone())
        .collect()
}

#[test]
fn a_text_comes_in_openais_chunks() {
    let all = write_with(
        true,
        &[
            &[started()],
            &[Event::Text(delta(0, "Hel")), Event::Text(delta(0, "lo\n"))],
            &[finish(0, FinishReason::Stop), usage(Some(3), Some(2))],
        ],
    );
    let chunk = |delta: Value, finish: Value| {
        json!({
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "vendor-model",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
            "usage": null,
        })
    };
    let mut last = chunk(json!({}), Value::Null);
    last["choices"] = json!([]);
    last["usage"] = json!({
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    });
    let expected = [
        chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
        chunk(json!({"content": "Hel"}), Value::Null),
        chunk(json!({"content": "lo\n"}), Value::Null),
        chunk(json!({}), json!("stop")),
        last,
        json!("[DONE]"),
    ];
    assert_eq!(all, expected);
}

#[test]
fn usage_is_told_only_to_those_who_asked() {
    let all = write(&[Event::Text(delta(0, "a")), usage(Some(1), Some(1))]);
    assert!(all[..all.len() - 1].iter().all(|chunk| chunk.get("usage").is_none()), "{all:?}");
    assert!(all[..all.len() - 1].iter().all(|chunk| chunk["choices"] != json!([])));
    // Nothing was counted: rather no chunk than one with zeros.
    let uncounted = write_with(true, &[&[Event::Text(delta(0, "a"))]]);
    assert!(uncounted[..uncounted.len() - 1].iter().all(|chunk| chunk["choices"] != json!([])));
}

#[test]
fn tool_calls_begin_with_role_id_and_name_and_go_on_with_arguments() {
    let all = write(&[
        call(0, "call_a", "f"),
        arguments(0, "{\"a\""),
        arguments(0, ":1}"),
        call(1, "", "g"),
        finish(0, FinishReason::ToolCalls),
    ]);
    let all = deltas(&all);
    let first = json!({
        "role": "assistant",
        "content": null,
        "refusal": null,
        "tool_calls": [{"index": 0, "id": "call_a", "type": "function",
            "function": {"name": "f", "arguments": ""}}],
    });
    assert_eq!(all[0], first);
    let piece = json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\""}}]});
    assert_eq!(all[1], piece);
    let second = &all[3]["tool_calls"][0];
    assert_eq!(second["index"], 1);
    assert!(second["id"].as_str().unwrap().starts_with("call_"));
    assert!(all[3].get("role").is_none());
}

#[test]
fn a_stream_and_its_fold_have_the_same_ids() {
    let made = write(&[call(3, "", "f")])[0]["choices"][0]["delta"]["tool_calls"][0]["id"].clone();
    let mut folder = answer::ChatFolder::new(identity());
    folder.add(vec![call(3, "", "f")]).unwrap();
    let folded: Value = serde_json::from_slice(&folder.finish().unwrap()).unwrap();
    assert_eq!(folded["choices"][0]["message"]["tool_calls"][0]["id"], made);
}

#[test]
fn thinking_is_streamed_and_its_blocks_come_whole() {
    let all = deltas(&write(&[
        Event::Thinking(delta(0, "a")),
        Event::Thinking(delta(0, "b")),
        Event::ThinkingSignature(delta(0, "sig")),
        Event::RedactedThinking(delta(0, "xyz")),
        Event::Text(delta(0, "so")),
    ]));
    assert_eq!(all[1], json!({"reasoning_content": "a"}));
    let block = json!({"type": "thinking", "thinking": "ab", "signature": "sig"});
    assert_eq!(all[3], json!({"thinking_blocks": [block]}));
    let redacted = json!({"type": "redacted_thinking", "data": "xyz"});
    assert_eq!(all[4], json!({"thinking_blocks": [redacted]}));
    assert_eq!(all[5], json!({"content": "so"}));
}

#[test]
fn log_probabilities_stand_in_the_chunk_of_their_text() {
    let piece =
        |token: &str| Event::Logprobs(annotation(&format!("{{\"content\":[\"{token}\"]}}")));
    let text = |token: &str| Event::Text(delta(0, token));
    for events in [
        vec![text("a"), piece("a"), text("b"), piece("b")],
        vec![piece("a"), text("a"), piece("b"), text("b")],
    ] {
        let all = write(&events);
        assert_eq!(all.len(), 5, "{all:?}");
        for (chunk, token) in [(&all[1], "a"), (&all[2], "b")] {
            assert_eq!(chunk["choices"][0]["delta"]["content"], token);
            assert_eq!(chunk["choices"][0]["logprobs"]["content"][0], token);
        }
    }
    let alone = write(&[piece("a"), piece("b")]);
    assert_eq!(alone[1]["choices"][0]["logprobs"]["content"][0], "a");
    assert_eq!(alone[2]["choices"][0]["logprobs"]["content"][0], "b");
}

#[test]
fn known_answer_fields_are_repeated_and_others_written_once() {
    let all = write_with(
        false,
        &[
            &[
                started(),
                Event::Text(delta(0, "a")),
                attribute_event("system_fingerprint", "\"fp\""),
                attribute_event("citations", "[\n\"u\"\n]"),
                attribute_event("error", "{}"),
            ],
            &[Event::Text(delta(0, "b"))],
        ],
    );
    let (end, all) = all.split_last().unwrap();
    assert_eq!(end, "[DONE]");
    assert!(all.iter().all(|chunk| chunk["system_fingerprint"] == "fp"));
    assert_eq!(all[0]["citations"], json!(["u"]));
    assert!(all[1..].iter().all(|chunk| chunk.get("citations").is_none()));
    assert!(all.iter().all(|chunk| chunk.get("error").is_none()));
}

#[test]
fn answer_fields_that_come_after_the_end_are_told() {
    for (name, json) in [("x_vendor", "1"), ("service_tier", "\"flex\"")] {
        let end: &[Event] = &[Event::Text(delta(0, "a")), finish(0, FinishReason::Stop)];
        let all = write_with(false, &[end, &[attribute_event(name, json)]]);
        let [.., last, done] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(done, "[DONE]");
        assert_eq!(last[name].to_string(), json);
        assert_eq!(last["choices"][0]["delta"], json!({}));
    }
}

#[test]
fn every_choice_ends_once_and_an_empty_answer_too() {
    let all = write(&[
        Event::Text(delta(0, "a")),
        Event::Text(delta(1, "b")),
        finish(1, FinishReason::Length),
        finish(1, FinishReason::Stop),
        call(0, "c", "f"),
    ]);
    let ends: Vec<(u64, &str)> = all
        .iter()
        .filter_map(|chunk| chunk["choices"].get(0))
        .filter_map(|choice| Some((choice["index"].as_u64()?, choice["finish_reason"].as_str()?)))
        .collect();
    assert_eq!(ends, [(1, "length"), (0, "tool_calls")]);

    let empty = write(&[]);
    assert_eq!(empty.len(), 3);
    assert_eq!(empty[1]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn refusals_citations_and_images_are_streamed() {
    let image = MediaOutput {
        choice: 0,
        kind: MediaKind::Image,
        media_type: "image/png".into(),
        base64: "AAAA".into(),
    };
    let all = deltas(&write(&[
        Event::Refusal(delta(0, "no")),
        Event::Citation(annotation("{\"type\":\r\n\"url_citation\"}")),
        Event::Media(image),
    ]));
    assert_eq!(all[1], json!({"refusal": "no"}));
    assert_eq!(all[2], json!({"annotations": [{"type": "url_citation"}]}));
    assert_eq!(all[3]["images"][0]["image_url"]["url"], "data:image/png;base64,AAAA");
}

#[test]
fn an_adapters_numbers_are_no_sizes() {
    let mut writer = ChunkWriter::new(identity(), false);
    let mut out = Vec::new();
    assert!(writer.write(&[arguments(0, "{}")], &mut out).is_err());
    let choices: Vec<Event> =
        (0..MAX_CHOICES).map(|n| Event::Text(delta(u32::MAX - n, "a"))).collect();
    writer.write(&choices, &mut out).unwrap();
    assert!(writer.write(&[Event::Text(delta(0, "a"))], &mut out).is_err());
}

/// Joins a stream's chunks as an SDK does and compares with the fold of the same events.
#[test]
fn a_joined_stream_says_what_the_fold_says() {
    let events = || {
        vec![
            started(),
            Event::Thinking(delta(0, "hm")),
            Event::Text(delta(0, "a")),
            Event::Text(delta(0, "b")),
            call(0, "c", "f"),
            arguments(0, "{\"x\""),
            arguments(0, ":1}"),
            finish(0, FinishReason::ToolCalls),
        ]
    };
    let mut folder = answer::ChatFolder::new(identity());
    folder.add(events()).unwrap();
    let folded: Value = serde_json::from_slice(&folder.finish().unwrap()).unwrap();
    let message = &folded["choices"][0]["message"];

    let all = deltas(&write(&events()));
    let join = |field: &str| -> String { all.iter().filter_map(|d| d[field].as_str()).collect() };
    assert_eq!(message["content"], join("content"));
    assert_eq!(message["reasoning_content"], join("reasoning_content"));
    let joined: String =
        all.iter().filter_map(|d| d["tool_calls"][0]["function"]["arguments"].as_str()).collect();
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], joined);
}

type Item = Result<Vec<Event>, Failure>;

fn body(items: Vec<Item>) -> Body<ChunkWriter, impl Stream<Item = Item>> {
    Body::new(ChunkWriter::new(identity(), false), Vec::new(), stream::iter(items))
}

#[tokio::test]
async fn a_batch_of_events_is_one_frame() {
    let mut body = body(vec![
        Ok(vec![Event::Text(delta(0, "a")), Event::Text(delta(0, "b"))]),
        Ok(vec![usage(Some(1), Some(1))]),
        Ok(vec![finish(0, FinishReason::Stop)]),
    ]);
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.push(chunks(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap()));
    }
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
    assert_eq!(frames[2], [json!("[DONE]")]);
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn a_failure_is_told_and_leaves_the_stream_without_its_end() {
    let failure = || Failure::new(keyward::FailureKind::Overloaded, keyward::Fault::Vendor, "full");
    let broken = vec![Event::Text(delta(0, "b")), arguments(7, "{}")];
    for (item, code) in [(Err(failure()), "server_overloaded"), (Ok(broken), "plugin_failure")] {
        let items = vec![Ok(vec![Event::Text(delta(0, "a"))]), item, Ok(vec![])];
        let all = body(items).collect().await.unwrap().to_bytes();
        let all = chunks(std::str::from_utf8(&all).unwrap());
        assert_eq!(all[1]["choices"][0]["delta"]["content"], "a");
        assert_eq!(all.last().unwrap()["error"]["code"], code);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_comments() {
    let (send, receive) = tokio::sync::mpsc::channel::<Item>(1);
    let events = stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|item| (item, receive))
    });
    let mut body = Body::new(ChunkWriter::new(identity(), false), Vec::new(), events);
    let began = tokio::time::Instant::now();
    for n in 1..=3 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, ": keep-alive\n\n");
        assert_eq!(began.elapsed().as_secs(), n * KEEP_ALIVE.as_secs());
    }
    send.send(Ok(vec![Event::Text(delta(0, "a"))])).await.unwrap();
    assert!(body.frame().await.unwrap().unwrap().into_data().unwrap().starts_with(b"data: "));
    drop(send);
    assert!(body.frame().await.unwrap().unwrap().into_data().unwrap().ends_with(b"[DONE]\n\n"));
    assert!(body.frame().await.is_none());
}
