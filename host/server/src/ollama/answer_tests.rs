use keyward::contract::{
    Annotation, Attribute, Finish, MediaOutput, Started, TextDelta, ToolArguments, ToolCallStart,
    Usage,
};
use serde_json::{Value, json};

use super::*;

pub(in crate::ollama) const REQUEST: RequestId = RequestId(0xabc);

pub(in crate::ollama) fn head(form: Form) -> Head {
    Head::new(form, "asked:latest")
}

pub(in crate::ollama) fn clock() -> Clock {
    Clock::since(Instant::now())
}

pub(in crate::ollama) fn started() -> Event {
    Event::Started(Started { id: Some("1".into()), model: Some("vendor-model".into()) })
}

pub(in crate::ollama) fn delta(text: &str) -> TextDelta {
    TextDelta { choice: 0, text: text.into() }
}

pub(in crate::ollama) fn annotation(json: &str) -> Annotation {
    Annotation { choice: 0, json: json.into() }
}

pub(in crate::ollama) fn call(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall(ToolCallStart { choice: 0, index, id: id.into(), name: name.into() })
}

pub(in crate::ollama) fn arguments(index: u32, fragment: &str) -> Event {
    Event::ToolArguments(ToolArguments { choice: 0, index, fragment: fragment.into() })
}

pub(in crate::ollama) fn finish(reason: FinishReason) -> Event {
    Event::Finish(Finish { choice: 0, reason, stop_sequence: None })
}

pub(in crate::ollama) fn attribute(name: &str, json: &str) -> Event {
    Event::Attribute(Attribute { name: name.into(), json: json.into() })
}

pub(in crate::ollama) fn media(kind: MediaKind) -> Event {
    let media_type = "image/png".to_owned();
    Event::Media(MediaOutput { choice: 0, kind, media_type, base64: "QUFB".into() })
}

pub(in crate::ollama) fn usage(input: Option<u64>, output: Option<u64>) -> Event {
    Event::Usage(Usage {
        input,
        cache_read: Some(2),
        cache_write: None,
        output,
        reasoning: None,
        units: Vec::new(),
    })
}

/// An answer without what differs from run to run, after a look at it.
pub(in crate::ollama) fn timeless(mut answer: Value) -> Value {
    let object = answer.as_object_mut().unwrap();
    let created = object.remove("created_at").unwrap();
    let created = created.as_str().unwrap();
    // As Ollama's: nanoseconds, in UTC.
    assert_eq!(created.len(), "2026-01-10T10:00:00.000000000Z".len(), "{created}");
    assert!(created.parse::<Timestamp>().is_ok(), "{created}");
    for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        if let Some(time) = object.remove(name) {
            assert!(time.is_u64(), "{name}: {time}");
        }
    }
    answer
}

fn folder(form: Form) -> AnswerFolder {
    AnswerFolder::new(head(form), REQUEST, clock())
}

fn fold_as(form: Form, events: Vec<Event>) -> Value {
    let mut folder = folder(form);
    folder.add(events).unwrap();
    serde_json::from_slice(&folder.finish().unwrap()).unwrap()
}

fn fold(events: Vec<Event>) -> Value {
    timeless(fold_as(Form::Chat, events))
}

#[test]
fn a_text_becomes_what_ollama_answers() {
    let events = || {
        vec![
            started(),
            Event::Text(delta("Hel")),
            Event::Text(delta("lo \"you\"\n")),
            finish(FinishReason::Stop),
            usage(Some(3), Some(2)),
        ]
    };
    let mut expected = json!({
        "model": "asked:latest",
        "message": {"role": "assistant", "content": "Hello \"you\"\n"},
        "done": true,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "prompt_eval_cached_count": 2,
        "eval_count": 2,
    });
    assert_eq!(fold(events()), expected);
    expected.as_object_mut().unwrap().remove("message");
    expected["response"] = json!("Hello \"you\"\n");
    assert_eq!(timeless(fold_as(Form::Generate, events())), expected);
}

#[test]
fn everything_a_message_can_hold_has_its_place() {
    let answer = fold(vec![
        Event::Thinking(delta("Hm")),
        Event::ThinkingSignature(delta("sig")),
        Event::RedactedThinking(delta("xyz")),
        Event::Text(delta("A")),
        Event::Citation(annotation("{\"a\":\n1}")),
        Event::Logprobs(annotation(r#"{"content":[{"token":"A","logprob":-0.5}]}"#)),
        Event::Refusal(delta("B")),
        call(0, "c1", "t"),
        arguments(0, "{\"x\""),
        arguments(0, ":1}"),
        media(MediaKind::Image),
        finish(FinishReason::ToolCalls),
    ]);
    let expected = json!({
        "model": "asked:latest",
        "message": {
            "role": "assistant",
            "content": "AB",
            "thinking": "Hm",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xyz"},
            ],
            "tool_calls": [
                {"id": "c1", "function": {"index": 0, "name": "t", "arguments": {"x": 1}}},
            ],
            "images": ["QUFB"],
            "annotations": [{"a": 1}],
        },
        "logprobs": [{"token": "A", "logprob": -0.5}],
        "done": true,
        "done_reason": "stop",
    });
    assert_eq!(answer, expected);
}

#[test]
fn a_generation_has_its_image_in_a_field_of_its_own() {
    let one = fold_as(Form::Generate, vec![media(MediaKind::Image)]);
    assert_eq!(one["image"], "QUFB");
    let two = fold_as(Form::Generate, vec![media(MediaKind::Image), media(MediaKind::Image)]);
    assert_eq!(two["images"], json!(["QUFB", "QUFB"]));
}

#[test]
fn what_has_no_place_is_a_warning() {
    let mut folder = folder(Form::Chat);
    folder.add(vec![media(MediaKind::Audio)]).unwrap();
    assert_eq!(folder.warnings().header().unwrap(), "dropped media");
}

#[test]
fn every_reason_to_end_has_a_word() {
    for (reason, word) in [
        (FinishReason::Stop, "stop"),
        (FinishReason::Length, "length"),
        (FinishReason::ToolCalls, "stop"),
        (FinishReason::ContentFilter, "content_filter"),
        (FinishReason::Refusal, "refusal"),
        (FinishReason::Other("eos".into()), "eos"),
    ] {
        assert_eq!(fold(vec![finish(reason)])["done_reason"], word);
    }
    assert_eq!(fold(vec![Event::Text(delta("A"))])["done_reason"], "stop");
    let stop_sequence = Some("END".to_owned());
    let stopped = Finish { choice: 0, reason: FinishReason::Stop, stop_sequence };
    assert_eq!(fold(vec![Event::Finish(stopped)])["stop_sequence"], "END");
}

#[test]
fn a_vendors_own_fields_stand_where_it_had_them_and_replace_no_others() {
    let answer = fold_as(
        Form::Chat,
        vec![
            attribute("eval_duration", "5"),
            attribute("remote_model", "\"a\""),
            attribute("remote_model", "{\"b\":\n2}"),
            attribute("done", "false"),
            attribute("error", "\"x\""),
            attribute("broken", "{"),
        ],
    );
    assert_eq!(answer["eval_duration"], 5, "the vendor's own time");
    assert_eq!(answer["remote_model"], json!({"b": 2}));
    assert_eq!(answer["done"], true);
    assert!(answer.get("error").is_none());
    assert!(answer.get("broken").is_none());
    assert!(answer["total_duration"].as_u64().unwrap() > 0, "the host's own");
}

#[test]
fn a_vendors_own_field_never_hides_what_a_generation_holds() {
    let calls = || vec![call(0, "a", "t"), attribute("tool_calls", "null")];
    let text = |form| {
        let mut folder = folder(form);
        folder.add(calls()).unwrap();
        String::from_utf8(folder.finish().unwrap()).unwrap()
    };
    assert_eq!(text(Form::Generate).matches("\"tool_calls\"").count(), 1);
    let generated = fold_as(Form::Generate, calls());
    assert_eq!(generated["tool_calls"][0]["function"]["name"], "t");
    // There it stands beside the message, in nobody's way.
    let chat = fold(calls());
    assert_eq!(chat["message"]["tool_calls"][0]["function"]["name"], "t");
    assert!(chat.as_object().unwrap().contains_key("tool_calls"));
}

#[test]
fn an_answer_that_came_whole_has_one_time() {
    let began = Instant::now() - Duration::from_millis(40);
    let mut folder = AnswerFolder::new(head(Form::Chat), REQUEST, Clock::since(began));
    folder.add(vec![Event::Text(delta("A"))]).unwrap();
    let answer: Value = serde_json::from_slice(&folder.finish().unwrap()).unwrap();
    assert!(answer["total_duration"].as_u64().unwrap() >= 40_000_000, "{answer}");
    assert!(answer["eval_duration"].as_u64().unwrap() >= 40_000_000, "{answer}");
    assert_eq!(answer["prompt_eval_duration"], 0);
    assert_eq!(answer["load_duration"], 0);
}

#[test]
fn counts_that_nobody_gave_are_left_out() {
    let answer = fold(vec![Event::Text(delta("A"))]);
    assert!(answer.get("prompt_eval_count").is_none());
    assert!(answer.get("eval_count").is_none());
}

#[test]
fn a_call_that_was_cut_off_fails_the_answer() {
    let mut folder = folder(Form::Chat);
    folder.add(vec![call(0, "a", "t"), arguments(0, "{\"x\":")]).unwrap();
    folder.add(vec![finish(FinishReason::Length)]).unwrap();
    assert!(folder.finish().unwrap_err().message.contains("num_predict"));
}

#[test]
fn an_answer_without_events_is_empty_and_done() {
    let answer = fold(Vec::new());
    assert_eq!(answer["message"], json!({"role": "assistant", "content": ""}));
    assert_eq!(answer["done"], true);
}
