//! Events in the short form recordings use.
//!
//! ```json
//! {"started": {"id": "a1", "model": "m-1"}}
//! {"text": "Hello", "choice": 1}
//! {"tool-call": {"id": "c1", "name": "f"}, "index": 1}
//! {"tool-arguments": "{\"a\":1}", "index": 1}
//! {"usage": {"input": 10, "output": 2}}
//! {"finish": "stop", "stop_sequence": "END"}
//! {"embedding": [0.5, -0.5], "index": 1}
//! {"rate-limit": {"scope": "tokens", "remaining": 10}}
//! {"warning": "dropped", "subject": "sampling.seed"}
//! {"attribute": {"service_tier": "default"}}
//! ```
//!
//! A `choice` or `index` of 0 is left out, as are members without a value. Messages of warnings
//! are for people and not compared.

use serde_json::{Map, Value as Json, json};

use crate::contract::{
    Embedding, Event, Failure, FailureKind, Fault, FinishReason, MediaKind, Model, TextDelta,
    ToolArguments, Usage, Vector,
};

/// Puts adjacent deltas of the same text or arguments together.
pub fn fold(events: Vec<Event>) -> Vec<Event> {
    let mut folded: Vec<Event> = Vec::with_capacity(events.len());
    for event in events {
        match (folded.last_mut(), &event) {
            (Some(Event::Text(last)), Event::Text(next))
            | (Some(Event::Refusal(last)), Event::Refusal(next))
            | (Some(Event::Thinking(last)), Event::Thinking(next))
            | (Some(Event::ThinkingSignature(last)), Event::ThinkingSignature(next))
                if last.choice == next.choice =>
            {
                last.text.push_str(&next.text);
            }
            (Some(Event::ToolArguments(last)), Event::ToolArguments(next))
                if (last.choice, last.index) == (next.choice, next.index) =>
            {
                last.fragment.push_str(&next.fragment);
            }
            _ => folded.push(event),
        }
    }
    folded
}

/// An event's short form.
pub fn event_json(event: &Event) -> Json {
    match event {
        Event::Started(started) => {
            json!({"started": present(json!({"id": started.id, "model": started.model}))})
        }
        Event::Text(delta) => text("text", delta),
        Event::Refusal(delta) => text("refusal", delta),
        Event::Thinking(delta) => text("thinking", delta),
        Event::ThinkingSignature(delta) => text("thinking-signature", delta),
        Event::RedactedThinking(delta) => text("redacted-thinking", delta),
        Event::ToolCall(call) => with(
            "tool-call",
            json!({"id": call.id, "name": call.name}),
            [("choice", call.choice), ("index", call.index)],
        ),
        Event::ToolArguments(ToolArguments { choice, index, fragment }) => {
            with("tool-arguments", json!(fragment), [("choice", *choice), ("index", *index)])
        }
        Event::Citation(citation) => {
            with("citation", raw(&citation.json), [("choice", citation.choice), ("", 0)])
        }
        Event::Logprobs(logprobs) => {
            with("logprobs", raw(&logprobs.json), [("choice", logprobs.choice), ("", 0)])
        }
        Event::Media(media) => with(
            "media",
            json!({
                "kind": kind_of_media(media.kind),
                "media_type": media.media_type,
                "base64": media.base64,
            }),
            [("choice", media.choice), ("", 0)],
        ),
        Event::Usage(usage) => json!({"usage": usage_json(usage)}),
        Event::Finish(finish) => {
            let reason = match &finish.reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
                FinishReason::ToolCalls => "tool-calls",
                FinishReason::ContentFilter => "content-filter",
                FinishReason::Refusal => "refusal",
                FinishReason::Other(other) => other,
            };
            let mut json = with("finish", json!(reason), [("choice", finish.choice), ("", 0)]);
            if let Some(sequence) = &finish.stop_sequence {
                json["stop_sequence"] = json!(sequence);
            }
            json
        }
        Event::Embedding(Embedding { index, vector }) => {
            let vector = match vector {
                Vector::Floats(floats) => json!(floats),
                Vector::Base64(text) => json!(text),
            };
            with("embedding", vector, [("index", *index), ("", 0)])
        }
        Event::Model(model) => json!({"model": model_json(model)}),
        Event::RateLimit(limit) => json!({"rate-limit": present(json!({
            "scope": limit.scope,
            "limit": limit.limit,
            "remaining": limit.remaining,
            "reset_ms": limit.reset_ms,
        }))}),
        Event::Warning(warning) => json!({"warning": warning.code, "subject": warning.subject}),
        Event::Attribute(attribute) => {
            json!({"attribute": {attribute.name.as_str(): raw(&attribute.json)}})
        }
        Event::Other(other) => json!({"other": {other.kind.as_str(): raw(&other.json)}}),
    }
}

/// A failure's members, those without a value left out.
pub fn failure_json(failure: &Failure) -> Map<String, Json> {
    let kind = match &failure.kind {
        FailureKind::Authentication => "authentication",
        FailureKind::Permission => "permission",
        FailureKind::RateLimited => "rate-limited",
        FailureKind::QuotaExhausted => "quota-exhausted",
        FailureKind::Overloaded => "overloaded",
        FailureKind::Unavailable => "unavailable",
        FailureKind::Timeout => "timeout",
        FailureKind::ContextTooLong => "context-too-long",
        FailureKind::ContentBlocked => "content-blocked",
        FailureKind::ModelNotFound => "model-not-found",
        FailureKind::InvalidRequest => "invalid-request",
        FailureKind::MalformedAnswer => "malformed-answer",
        FailureKind::Unsupported => "unsupported",
        FailureKind::Other(other) => other,
    };
    let fault = match failure.fault {
        Fault::Caller => "caller",
        Fault::Plugin => "plugin",
        Fault::Vendor => "vendor",
        Fault::Transport => "transport",
        Fault::Host => "host",
    };
    present(json!({
        "kind": kind,
        "fault": fault,
        "message": failure.message,
        "code": failure.code,
        "type": failure.type_,
        "param": failure.param,
        "status": failure.status,
        "retry_after_ms": failure.retry_after_ms,
        "request_id": failure.request_id,
    }))
}

fn present(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(members) => {
            members.into_iter().filter(|(_, value)| !value.is_null()).collect()
        }
        _ => Map::new(),
    }
}

/// An object of a named member and further ones where they aren't 0.
fn with(name: &str, value: Json, numbers: [(&str, u32); 2]) -> Json {
    let mut members = Map::new();
    members.insert(name.to_owned(), value);
    for (name, number) in numbers {
        if number != 0 {
            members.insert(name.to_owned(), json!(number));
        }
    }
    Json::Object(members)
}

fn text(name: &str, delta: &TextDelta) -> Json {
    with(name, json!(delta.text), [("choice", delta.choice), ("", 0)])
}

/// JSON an adapter gave; shown as text where it isn't JSON, which then differs from what any
/// recording expects.
fn raw(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| json!(format!("not JSON ({error}): {text}")))
}

fn kind_of_media(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::File => "file",
    }
}

fn usage_json(usage: &Usage) -> Map<String, Json> {
    let units: Map<String, Json> =
        usage.units.iter().map(|unit| (unit.name.clone(), json!(unit.amount))).collect();
    present(json!({
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "output": usage.output,
        "reasoning": usage.reasoning,
        "units": Some(units).filter(|units| !units.is_empty()),
    }))
}

fn model_json(model: &Model) -> Map<String, Json> {
    present(json!({
        "id": model.id,
        "title": model.title,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "capabilities": Some(&model.capabilities).filter(|list| !list.is_empty()),
        "created": model.created,
        "extra": Some(raw(&model.extra)).filter(|extra| extra != &json!({})),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Output;

    fn events(write: impl FnOnce(&mut Output)) -> Vec<Event> {
        let mut out = Output::default();
        write(&mut out);
        out.into_outputs()
            .into_iter()
            .filter_map(|output| match output {
                crate::contract::Output::Event(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn only_adjacent_deltas_of_one_text_are_put_together() {
        let events = events(|out| {
            out.text(0, "a");
            out.text(0, "b");
            out.text(1, "c");
            out.thinking(1, "d");
            out.text(1, "e");
            out.tool_call(0, 0, "c1", "f");
            out.tool_arguments(0, 0, "{");
            out.tool_arguments(0, 0, "}");
            out.tool_arguments(0, 1, "{}");
        });
        let json: Vec<Json> = fold(events).iter().map(event_json).collect();
        assert_eq!(
            Json::Array(json),
            json!([
                {"text": "ab"}, {"text": "c", "choice": 1}, {"thinking": "d", "choice": 1},
                {"text": "e", "choice": 1}, {"tool-call": {"id": "c1", "name": "f"}},
                {"tool-arguments": "{}"}, {"tool-arguments": "{}", "index": 1}
            ])
        );
    }
}
