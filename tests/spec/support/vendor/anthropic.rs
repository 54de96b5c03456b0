//! Anthropic's side of the Messages and Models API, as its API reference describes them.

use serde_json::{Value, json};

use super::{
    Act, Recorded, openai, reply_json,
    script::{self, Asked, Protocol, Turn},
};

pub const MODELS: &[&str] = &["claude-opus-4-5", "claude-haiku-4-5"];

/// What the API reference asks for, and what Anthropic's SDK for Python 2.12.0 sends.
const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];

pub fn answer(request: &Recorded, key: &str) -> Vec<Act> {
    let refuse = |status, asked: &Asked| {
        reply_json(status, &Anthropic.headers(), &Anthropic.error(status, asked))
    };
    // The API reference names the first; Anthropic's SDK for Python sends the second since 2.x.
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if request.header("x-api-key").or(bearer) != Some(key) {
        return refuse(401, &Asked::default());
    }
    if !request.header("anthropic-version").is_some_and(|version| VERSIONS.contains(&version)) {
        return invalid("anthropic-version: header is required");
    }
    match (request.method.as_str(), request.path()) {
        ("POST", "/v1/messages") => match read(&request.json()) {
            Ok(asked) => script::chat(&Anthropic, &asked, request),
            Err(message) => invalid(&message),
        },
        ("POST", "/v1/messages/count_tokens") => count(request),
        ("GET", "/v1/models") => {
            let data: Vec<Value> = MODELS.iter().map(|id| model(id)).collect();
            let body = json!({
                "data": data, "has_more": false, "first_id": MODELS[0], "last_id": MODELS[1],
            });
            reply_json(200, &Anthropic.headers(), &body)
        }
        ("GET", path) if path.starts_with("/v1/models/") => {
            let id = &path["/v1/models/".len()..];
            if MODELS.contains(&id) {
                reply_json(200, &Anthropic.headers(), &model(id))
            } else {
                refuse(404, &Asked { model: id.to_owned(), ..Asked::default() })
            }
        }
        _ => refuse(404, &Asked { model: request.target.clone(), ..Asked::default() }),
    }
}

/// Tokens of a prompt; the same number for every prompt, so that an estimate is told apart.
pub const COUNTED: u64 = 4711;

fn count(request: &Recorded) -> Vec<Act> {
    let mut body = request.json();
    let asked = body["model"].as_str().unwrap_or_default().to_owned();
    if !body["max_tokens"].is_null() || !body["stream"].is_null() {
        return invalid("max_tokens: Extra inputs are not permitted");
    }
    body["max_tokens"] = json!(1);
    match read(&body) {
        Ok(_) if asked.starts_with("status-") => {
            let asked = Asked { model: asked, ..Asked::default() };
            script::fault(&Anthropic, &asked).unwrap_or_default()
        }
        Ok(_) => reply_json(200, &Anthropic.headers(), &json!({ "input_tokens": COUNTED })),
        Err(message) => invalid(&message),
    }
}

fn model(id: &str) -> Value {
    json!({
        "type": "model", "id": id, "display_name": id, "created_at": "2025-11-24T00:00:00Z",
    })
}

fn invalid(message: &str) -> Vec<Act> {
    let mut body = json!({
        "type": "error", "error": { "type": "invalid_request_error", "message": message },
        "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    });
    if message.starts_with("thread:") {
        body["error"]["details"] = json!({ "error_code": "thread_unsupported_request" });
    }
    reply_json(400, &Anthropic.headers(), &body)
}

/// Reads a request as strictly as the vendor does where an adapter could get it wrong.
fn read(body: &Value) -> Result<Asked, String> {
    let mut asked = Asked {
        model: body["model"].as_str().ok_or("model: Field required")?.to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        ..Asked::default()
    };
    if body["max_tokens"].as_u64().is_none_or(|tokens| tokens == 0) {
        return Err("max_tokens: Field required".into());
    }
    if !body["thread"].is_null() {
        // As for an organization that can't have threads.
        return Err("thread: not supported".into());
    }
    for unknown in ["response_format", "stream_options", "n", "frequency_penalty", "seed", "stop"] {
        if !body[unknown].is_null() {
            return Err(format!("{unknown}: Extra inputs are not permitted"));
        }
    }
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
    let messages = messages.ok_or("messages: at least one message is required")?;
    if messages[0]["role"] != "user" {
        return Err("messages: first message must use the \"user\" role".into());
    }
    let mut open_calls: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        match message["role"].as_str() {
            Some("user") => {
                let mut results = Vec::new();
                asked.prompt =
                    read_content(at, &message["content"], &mut asked.images, &mut results)?;
                let answered = std::mem::take(&mut open_calls);
                for id in &answered {
                    if !results.iter().any(|(answers, _)| answers == id) {
                        return Err(format!(
                            "messages.{at}: `tool_use` ids were found without `tool_result` blocks \
                             immediately after: {id}."
                        ));
                    }
                }
                for (id, _) in &results {
                    if !answered.contains(id) {
                        return Err(format!(
                            "messages.{at}.content.0: unexpected `tool_use_id` found in \
                             `tool_result` blocks: {id}."
                        ));
                    }
                }
                asked.results = results.into_iter().map(|(_, text)| text).collect();
            }
            Some("assistant") => {
                asked.results.clear();
                for block in message["content"].as_array().into_iter().flatten() {
                    if block["type"] == "tool_use" {
                        if !block["input"].is_object() {
                            return Err(format!(
                                "messages.{at}.content.0.tool_use.input: Input should be a valid \
                                 dictionary"
                            ));
                        }
                        open_calls.push(block["id"].as_str().unwrap_or_default().to_owned());
                    }
                }
            }
            other => {
                return Err(format!(
                    "messages.{at}.role: Input should be 'user' or 'assistant', not {other:?}"
                ));
            }
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let name = tool["name"].as_str().ok_or("tools.0.custom.name: Field required")?;
        if tool["type"].is_null() && !tool["input_schema"].is_object() {
            return Err("tools.0.custom.input_schema: Field required".into());
        }
        asked.tools.push(name.to_owned());
    }
    let format = [&body["output_config"]["format"], &body["output_format"]];
    if let Some(format) = format.into_iter().find(|format| !format.is_null()) {
        if format["type"] != "json_schema" || !format["schema"].is_object() {
            return Err("output_config.format: Input should be a JSON schema".into());
        }
        asked.schema = Some(format["schema"].clone());
    }
    // An adapter may ask for JSON by forcing the one tool that has the schema.
    if body["tool_choice"]["type"] == "tool" && asked.model.starts_with("json") {
        asked.schema_tool = body["tool_choice"]["name"].as_str().map(str::to_owned);
    }
    Ok(asked)
}

fn read_content(
    at: usize,
    content: &Value,
    images: &mut Vec<(String, String)>,
    results: &mut Vec<(String, String)>,
) -> Result<String, String> {
    if let Some(text) = content.as_str() {
        return if text.is_empty() {
            Err(format!("messages.{at}: user messages must have non-empty content"))
        } else {
            Ok(text.to_owned())
        };
    }
    let mut all = String::new();
    for block in content.as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => match block["text"].as_str() {
                Some(text) if !text.trim().is_empty() => all.push_str(text),
                _ => return Err("messages: text content blocks must be non-empty".into()),
            },
            Some("image") => {
                let source = &block["source"];
                let (Some(kind), Some(data)) =
                    (source["media_type"].as_str(), source["data"].as_str())
                else {
                    return Err(format!("messages.{at}.content.0.image.source: Field required"));
                };
                images.push((kind.to_owned(), data.to_owned()));
            }
            Some("document") if block["source"]["type"] == "text" => {
                all.push_str(block["source"]["data"].as_str().unwrap_or_default());
            }
            Some("tool_result") => {
                let id = block["tool_use_id"].as_str().unwrap_or_default().to_owned();
                let mut inner = Vec::new();
                let text = if block["content"].is_null() {
                    String::new()
                } else {
                    read_content(at, &block["content"], images, &mut inner)?
                };
                results.push((id, text));
            }
            other => return Err(format!("messages.{at}.content.0: unknown type {other:?}")),
        }
    }
    Ok(all)
}

pub struct Anthropic;

impl Anthropic {
    fn stop_reason(turn: &Turn) -> &'static str {
        match turn {
            Turn { cut_by_length: true, .. } => "max_tokens",
            Turn { calls, .. } if !calls.is_empty() => "tool_use",
            _ => "end_turn",
        }
    }

    /// Anthropic counts what the cache served apart from `input_tokens`.
    fn usage(turn: &Turn) -> Value {
        json!({
            "input_tokens": turn.usage.input - turn.usage.cached,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": turn.usage.cached,
            "output_tokens": turn.usage.output, "service_tier": "standard",
        })
    }

    fn blocks(turn: &Turn) -> Vec<Value> {
        let mut blocks = Vec::new();
        if !turn.thinking.is_empty() {
            let thinking = turn.thinking.concat();
            blocks
                .push(json!({ "type": "thinking", "thinking": thinking, "signature": SIGNATURE }));
        }
        if !turn.text.is_empty() {
            blocks.push(json!({ "type": "text", "text": turn.text.concat() }));
        }
        for call in &turn.calls {
            let id = Self::call_id(&call.id);
            blocks.push(json!({
                "type": "tool_use", "id": id, "name": call.name, "input": call.arguments,
            }));
        }
        blocks
    }

    fn call_id(id: &str) -> String {
        id.replace("call_", "toolu_")
    }
}

const SIGNATURE: &str = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk=";

impl Protocol for Anthropic {
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("request-id", "req_011CSHoEeqs5C35K2UUqR7Fy"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"),
            ("set-cookie", "_cfuvid=vendor-cookie; path=/; HttpOnly"),
        ]
    }

    fn whole(&self, asked: &Asked, turn: &Turn) -> Value {
        json!({
            "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant",
            "model": asked.model, "content": Self::blocks(turn),
            "stop_reason": Self::stop_reason(turn), "stop_sequence": null,
            "usage": Self::usage(turn),
        })
    }

    fn pieces(&self, asked: &Asked, turn: &Turn) -> Vec<Vec<u8>> {
        let event = |body: Value| {
            let name = body["type"].as_str().unwrap_or_default().to_owned();
            format!("event: {name}\ndata: {body}\n\n").into_bytes()
        };
        let mut usage = Self::usage(turn);
        usage["output_tokens"] = json!(1);
        let message = json!({
            "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant",
            "model": asked.model, "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": usage,
        });
        let mut pieces = vec![
            event(json!({ "type": "message_start", "message": message })),
            event(json!({ "type": "ping" })),
        ];
        let mut index = 0;
        let mut block = |start: Value, deltas: Vec<Value>| {
            pieces.push(event(json!({
                "type": "content_block_start", "index": index, "content_block": start,
            })));
            for delta in deltas {
                pieces.push(event(json!({
                    "type": "content_block_delta", "index": index, "delta": delta,
                })));
            }
            pieces.push(event(json!({ "type": "content_block_stop", "index": index })));
            index += 1;
        };
        if !turn.thinking.is_empty() {
            let mut deltas: Vec<Value> = turn
                .thinking
                .iter()
                .map(|text| json!({ "type": "thinking_delta", "thinking": text }))
                .collect();
            deltas.push(json!({ "type": "signature_delta", "signature": SIGNATURE }));
            block(json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas);
        }
        if !turn.text.is_empty() {
            let deltas = turn
                .text
                .iter()
                .map(|text| json!({ "type": "text_delta", "text": text }))
                .collect();
            block(json!({ "type": "text", "text": "" }), deltas);
        }
        for call in &turn.calls {
            let id = Self::call_id(&call.id);
            let start = json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
            let mut deltas = vec![json!({ "type": "input_json_delta", "partial_json": "" })];
            for fragment in openai::fragments(&call.arguments.to_string()) {
                deltas.push(json!({ "type": "input_json_delta", "partial_json": fragment }));
            }
            block(start, deltas);
        }
        pieces.push(event(json!({
            "type": "message_delta",
            "delta": { "stop_reason": Self::stop_reason(turn), "stop_sequence": null },
            "usage": { "output_tokens": turn.usage.output },
        })));
        pieces.push(event(json!({ "type": "message_stop" })));
        pieces
    }

    fn error(&self, status: u16, asked: &Asked) -> Value {
        let model = &asked.model;
        let (kind, message) = match status {
            400 if model.contains("context") => (
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000 maximum".into(),
            ),
            401 => ("authentication_error", "invalid x-api-key".to_owned()),
            402 => ("billing_error", "Your credit balance is too low.".to_owned()),
            403 => ("permission_error", "Your API key does not have permission.".to_owned()),
            404 => ("not_found_error", format!("model: {model}")),
            413 => ("request_too_large", "Request exceeds the maximum size".to_owned()),
            429 => ("rate_limit_error", "This request would exceed your rate limit.".to_owned()),
            529 => ("overloaded_error", "Overloaded".to_owned()),
            500.. => ("api_error", "Internal server error".to_owned()),
            _ => ("invalid_request_error", "temperature: range: 0..1".to_owned()),
        };
        json!({
            "type": "error", "error": { "type": kind, "message": message },
            "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
        })
    }

    fn error_piece(&self) -> Vec<u8> {
        let body = json!({
            "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" },
        });
        format!("event: error\ndata: {body}\n\n").into_bytes()
    }

    fn spoil_usage(&self, answer: &mut Value, how: &str) {
        if let Value::Object(members) = answer {
            if let Some(message) = members.get_mut("message") {
                self.spoil_usage(message, how);
            }
            if how == "usage-missing" {
                members.remove("usage");
            } else if let Some(usage) = members.get_mut("usage") {
                script::spoil(usage, how);
            }
        }
    }
}
