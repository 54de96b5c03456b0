use std::time::Duration;

use futures_util::{Stream, stream};
use http_body_util::BodyExt as _;
use keyward::contract::{FinishReason, TextDelta};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::answer::{
        Form,
        tests::{
            REQUEST, annotation, arguments, attribute, call, clock, delta, finish, head, media,
            started, timeless, usage,
        },
    },
    *,
};
use crate::dialect::{
    Folder as _,
    stream::{Body, KEEP_ALIVE},
};

fn writer(form: Form) -> LineWriter {
    LineWriter::new(head(form), REQUEST, clock())
}

/// What a reader of lines sees.
fn lines(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_as(form: Form, batches: &[&[Event]]) -> Vec<Value> {
    let mut writer = writer(form);
    let mut out = Vec::new();
    for batch in batches {
        writer.write(batch, &mut out).unwrap();
    }
    writer.finish(&mut out);
    lines(std::str::from_utf8(&out).unwrap())
}

fn write(events: &[Event]) -> Vec<Value> {
    write_as(Form::Chat, &[events])
}

fn messages(lines: &[Value]) -> Vec<Value> {
    let said = lines[..lines.len() - 1].iter().map(|line| {
        let mut message = line["message"].clone();
        message.as_object_mut().unwrap().remove("role");
        message
    });
    said.collect()
}

#[test]
fn a_text_comes_in_ollamas_lines() {
    let batches: &[&[Event]] = &[
        &[started()],
        &[Event::Text(delta("Hel")), Event::Text(delta("lo\n"))],
        &[finish(FinishReason::Stop), usage(Some(3), Some(2))],
    ];
    let said = |text: &str, done: bool| {
        json!({
            "model": "asked:latest",
            "message": {"role": "assistant", "content": text},
            "done": done,
        })
    };
    let mut last = said("", true);
    last["done_reason"] = json!("stop");
    last["prompt_eval_count"] = json!(3);
    last["prompt_eval_cached_count"] = json!(2);
    last["eval_count"] = json!(2);
    let all: Vec<Value> = write_as(Form::Chat, batches).into_iter().map(timeless).collect();
    assert_eq!(all, [said("Hel", false), said("lo\n", false), last]);

    let generated = write_as(Form::Generate, batches);
    let texts: Vec<&Value> = generated.iter().map(|line| &line["response"]).collect();
    assert_eq!(texts, ["Hel", "lo\n", ""]);
    assert!(generated.iter().all(|line| line.get("message").is_none()));
}

#[test]
fn thinking_and_calls_have_lines_of_their_own() {
    let all = write(&[
        Event::Thinking(delta("Hm")),
        Event::Thinking(delta("m")),
        Event::ThinkingSignature(delta("sig")),
        Event::RedactedThinking(delta("xyz")),
        Event::Refusal(delta("No")),
        Event::Citation(annotation("{\"a\":1}")),
        call(0, "a", "t"),
        arguments(0, "{\"x\":"),
        arguments(0, "1}"),
        call(1, "b", "u"),
        media(MediaKind::Image),
        finish(FinishReason::ToolCalls),
    ]);
    let called = |id: &str, index: u32, name: &str, arguments: Value| {
        let function = json!({"index": index, "name": name, "arguments": arguments});
        json!({"content": "", "tool_calls": [{"id": id, "function": function}]})
    };
    let expected = [
        json!({"content": "", "thinking": "Hm"}),
        json!({"content": "", "thinking": "m"}),
        json!({"content": "", "thinking_blocks": [
            {"type": "thinking", "thinking": "Hmm", "signature": "sig"},
        ]}),
        json!({"content": "", "thinking_blocks": [{"type": "redacted_thinking", "data": "xyz"}]}),
        json!({"content": "No"}),
        json!({"content": "", "annotations": [{"a": 1}]}),
        called("a", 0, "t", json!({"x": 1})),
        json!({"content": "", "images": ["QUFB"]}),
        called("b", 1, "u", json!({})),
    ];
    assert_eq!(messages(&all), expected);
    assert_eq!(all.last().unwrap()["done_reason"], "stop");
}

#[test]
fn calls_are_given_even_if_the_vendor_never_says_why_it_ended() {
    let all = write(&[call(0, "a", "t")]);
    assert_eq!(all[0]["message"]["tool_calls"][0]["function"]["arguments"], json!({}));
    assert_eq!(all[1]["done"], true);
}

#[test]
fn log_probabilities_stand_on_the_line_of_their_text() {
    let piece = |token: &str| {
        Event::Logprobs(annotation(&format!("{{\"content\":[{{\"token\":\"{token}\"}}]}}")))
    };
    let all = write(&[
        Event::Text(delta("A")),
        piece("A"),
        piece("B"),
        Event::Text(delta("B")),
        piece("C"),
    ]);
    let seen: Vec<(&Value, &Value)> = all[..all.len() - 1]
        .iter()
        .map(|line| (&line["message"]["content"], &line["logprobs"][0]["token"]))
        .collect();
    let (a, b, c, none) = (json!("A"), json!("B"), json!("C"), json!(""));
    assert_eq!(seen, [(&a, &a), (&b, &b), (&none, &c)]);
}

#[test]
fn a_vendors_own_fields_stand_on_the_last_line() {
    let all = write(&[attribute("total_duration", "7"), Event::Text(delta("A"))]);
    assert!(all[0].get("total_duration").is_none());
    assert_eq!(all[1]["total_duration"], 7);
}

#[test]
fn times_are_divided_at_the_first_line() {
    let mut writer = writer(Form::Chat);
    let mut out = Vec::new();
    std::thread::sleep(Duration::from_millis(20));
    writer.write(&[started()], &mut out).unwrap();
    writer.write(&[Event::Text(delta("A"))], &mut out).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    writer.finish(&mut out);
    let all = lines(std::str::from_utf8(&out).unwrap());
    let time = |name: &str| all[1][name].as_u64().unwrap();
    assert!(time("prompt_eval_duration") >= 20_000_000, "{all:?}");
    assert!(time("eval_duration") >= 10_000_000, "{all:?}");
    assert!(time("total_duration") >= time("prompt_eval_duration") + 10_000_000, "{all:?}");
}

type Batch = Result<Vec<Event>, Failure>;

fn body(events: impl Stream<Item = Batch>) -> Body<LineWriter, impl Stream<Item = Batch>> {
    Body::new(writer(Form::Chat), Vec::new(), events)
}

async fn read(events: Vec<Batch>) -> Vec<Value> {
    let bytes = body(stream::iter(events)).collect().await.unwrap().to_bytes();
    lines(std::str::from_utf8(&bytes).unwrap())
}

#[tokio::test]
async fn a_failure_is_the_last_line_and_nothing_is_done() {
    let failure = Failure::malformed("It \"broke\"\n.");
    let all = read(vec![Ok(vec![Event::Text(delta("A"))]), Err(failure)]).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[1], json!({"error": "It \"broke\"\n."}));
    assert!(all.iter().all(|line| line["done"] != true));
}

#[tokio::test]
async fn a_call_that_was_cut_off_fails_the_stream() {
    for reason in [Some(FinishReason::Length), None] {
        let mut events = vec![call(0, "a", "t"), arguments(0, "{\"x\":")];
        events.extend(reason.map(finish));
        let all = read(vec![Ok(events)]).await;
        assert_eq!(all.len(), 1);
        assert!(all[0]["error"].as_str().unwrap().contains("num_predict"), "{all:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_life_where_json_allows_it() {
    let events = stream::unfold(0, |at| async move {
        tokio::time::sleep(KEEP_ALIVE * 2 + Duration::from_secs(1)).await;
        (at < 2).then(|| (Ok(vec![Event::Text(delta("A"))]), at + 1))
    });
    let bytes = body(events).collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(text.starts_with("  {"), "{text}");
    let all = lines(text);
    assert_eq!(all.len(), 3, "no line is empty: {text:?}");
    assert_eq!(all[2]["done"], true);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".*", "[\\x00-\\x1f\u{85}\u{2028}\u{2029}a\"\\\\]{0,8}"]
}

proptest! {
    /// The lines of a stream, read one by one, say what the whole answer says.
    #[test]
    fn a_stream_says_what_the_whole_answer_says(
        texts in prop::collection::vec((any::<bool>(), any_text()), 0..8),
        city in any_text(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut events: Vec<Event> = texts
            .into_iter()
            .map(|(thinks, text)| {
                let delta = TextDelta { choice: 0, text };
                if thinks { Event::Thinking(delta) } else { Event::Text(delta) }
            })
            .collect();
        let call_text = json!({"city": city}).to_string();
        let at = (0..=cut.index(call_text.len() + 1)).rev().find(|&at| call_text.is_char_boundary(at)).unwrap();
        events.push(call(0, "a", "t"));
        events.push(arguments(0, &call_text[..at]));
        events.push(arguments(0, &call_text[at..]));
        events.push(finish(FinishReason::Stop));

        let mut folder = super::super::answer::AnswerFolder::new(head(Form::Chat), REQUEST, clock());
        folder.add(events.clone()).unwrap();
        let whole: Value = serde_json::from_slice(&folder.finish().unwrap()).unwrap();
        let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
        for line in write(&events) {
            content += line["message"]["content"].as_str().unwrap();
            thinking += line["message"]["thinking"].as_str().unwrap_or("");
            calls.extend(line["message"]["tool_calls"].as_array().into_iter().flatten().cloned());
        }
        prop_assert_eq!(&whole["message"]["content"], &json!(content));
        prop_assert_eq!(whole["message"]["thinking"].as_str().unwrap_or(""), thinking);
        prop_assert_eq!(&whole["message"]["tool_calls"], &json!(calls));
        prop_assert_eq!(&calls[0]["function"]["arguments"], &json!({"city": city}));
    }
}
