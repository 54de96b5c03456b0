//! OpenAI's side of Chat Completions, Embeddings and Models, as its API reference describes them, and
//! of [`responses`].

pub mod responses;

use serde_json::{Value, json};

use super::{
    Act, Recorded, reply_json,
    script::{self, Asked, Protocol, Turn},
};

pub const MODELS: &[&str] = &["gpt-4.1", "gpt-4.1-mini", "text-embedding-3-small"];

/// A model that this key may use, but not stream.
pub const STREAMLESS: &str = "streamless";

pub fn answer(request: &Recorded, key: &str) -> Vec<Act> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if bearer != Some(key) {
        let asked = Asked::default();
        return reply_json(401, &OpenAi.headers(), &OpenAi.error(401, &asked));
    }
    match (request.method.as_str(), request.path()) {
        ("POST", "/v1/chat/completions") => match read_chat(&request.json()) {
            Ok(asked) if asked.stream && asked.model == STREAMLESS => reply_json(
                400,
                &OpenAi.headers(),
                &json!({ "error": {
                    "message": "Your organization must be verified to stream this model.",
                    "type": "invalid_request_error", "param": "stream", "code": "unsupported_value",
                }}),
            ),
            Ok(asked) => script::chat(&OpenAi, &asked, request),
            Err((message, param)) => refuse(&message, param),
        },
        ("POST", "/v1/responses") => responses::answer(request),
        (method, path) if path.starts_with("/v1/responses/") => responses::stored(method, path),
        ("POST", "/v1/embeddings") => embed(&request.json()),
        ("GET", "/v1/models") => {
            let data: Vec<Value> = MODELS.iter().map(|id| model(id)).collect();
            reply_json(200, &OpenAi.headers(), &json!({ "object": "list", "data": data }))
        }
        ("GET", path) if path.starts_with("/v1/models/") => {
            let id = &path["/v1/models/".len()..];
            if MODELS.contains(&id) {
                reply_json(200, &OpenAi.headers(), &model(id))
            } else {
                let asked = Asked { model: id.to_owned(), ..Asked::default() };
                reply_json(404, &OpenAi.headers(), &OpenAi.error(404, &asked))
            }
        }
        (method, path) => {
            let message = format!("Invalid URL ({method} {path})");
            let body = json!({ "error": {
                "message": message, "type": "invalid_request_error", "param": null, "code": null,
            }});
            reply_json(404, &OpenAi.headers(), &body)
        }
    }
}

/// As [`answer`], but to a chat with any model in the same way: by saying what was said.
pub fn plain_answer(request: &Recorded, key: &str) -> Vec<Act> {
    let bearer = format!("Bearer {key}");
    if request.path() != "/v1/chat/completions"
        || request.header("authorization") != Some(bearer.as_str())
    {
        return answer(request, key);
    }
    match read_chat(&request.json()) {
        Ok(asked) => {
            let asked = Asked { model: "plain-model".into(), ..asked };
            script::chat(&OpenAi, &asked, request)
        }
        Err((message, param)) => refuse(&message, param),
    }
}

fn refuse(message: &str, param: &str) -> Vec<Act> {
    let body = json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": param, "code": null,
    }});
    reply_json(400, &OpenAi.headers(), &body)
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_744_316_542, "owned_by": "system" })
}

/// Reads a request as strictly as the vendor does where an adapter could get it wrong.
pub fn read_chat(body: &Value) -> Result<Asked, (String, &'static str)> {
    let mut asked = Asked {
        model: text(&body["model"])
            .ok_or_else(|| ("you must provide a model parameter".to_owned(), "model"))?,
        stream: body["stream"].as_bool().unwrap_or(false),
        ..Asked::default()
    };
    let messages = body["messages"]
        .as_array()
        .filter(|messages| !messages.is_empty())
        .ok_or_else(|| ("[] is too short - 'messages'".to_owned(), "messages"))?;
    let mut open_calls: Vec<String> = Vec::new();
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        match role {
            "system" | "developer" => {}
            "user" => {
                asked.prompt = read_content(&message["content"], &mut asked.images)?;
                asked.results.clear();
            }
            "assistant" => {
                asked.results.clear();
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let arguments = call["function"]["arguments"].as_str().unwrap_or("-");
                    if serde_json::from_str::<Value>(arguments).is_err() {
                        return Err(("arguments are not JSON text".to_owned(), "messages"));
                    }
                    open_calls.push(text(&call["id"]).unwrap_or_default());
                }
            }
            "tool" => {
                let id = text(&message["tool_call_id"]).unwrap_or_default();
                if !open_calls.contains(&id) {
                    let complaint = "messages with role 'tool' must be a response to a preceding \
                                     message with 'tool_calls'.";
                    return Err((complaint.to_owned(), "messages"));
                }
                let result = read_content(&message["content"], &mut asked.images)?;
                asked.results.push(result);
            }
            other => {
                return Err((format!("Invalid value: '{other}'"), "messages[0].role"));
            }
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        match (tool["type"].as_str(), text(&tool["function"]["name"])) {
            (Some("function"), Some(name)) => asked.tools.push(name),
            _ => return Err(("Missing required parameter: 'tools[0].function'".into(), "tools")),
        }
    }
    match body["response_format"]["type"].as_str() {
        None | Some("text") => {}
        Some("json_object") => asked.schema = Some(json!({})),
        Some("json_schema") => {
            let format = &body["response_format"]["json_schema"];
            if text(&format["name"]).is_none() || !format["schema"].is_object() {
                let complaint = "Missing required parameter: 'response_format.json_schema.name'";
                return Err((complaint.to_owned(), "response_format"));
            }
            asked.schema = Some(format["schema"].clone());
        }
        Some(other) => return Err((format!("Invalid value: '{other}'"), "response_format.type")),
    }
    if !body["stream_options"].is_null() && !asked.stream {
        let complaint = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err((complaint.to_owned(), "stream_options"));
    }
    asked.usage_in_stream = body["stream_options"]["include_usage"] == json!(true);
    Ok(asked)
}

fn read_content(
    content: &Value,
    images: &mut Vec<(String, String)>,
) -> Result<String, (String, &'static str)> {
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let mut all = String::new();
    for part in content.as_array().into_iter().flatten() {
        match part["type"].as_str() {
            Some("text") => all.push_str(part["text"].as_str().unwrap_or_default()),
            Some("image_url") => {
                let url = part["image_url"]["url"].as_str().unwrap_or_default();
                let parts = url
                    .strip_prefix("data:")
                    .and_then(|data| data.split_once(";base64,"))
                    .ok_or_else(|| (format!("Failed to download image from {url}."), "messages"))?;
                images.push((parts.0.to_owned(), parts.1.to_owned()));
            }
            other => return Err((format!("Invalid value: {other:?}"), "messages")),
        }
    }
    Ok(all)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn embed(body: &Value) -> Vec<Act> {
    let asked = Asked { model: text(&body["model"]).unwrap_or_default(), ..Asked::default() };
    if let Some(acts) = script::fault(&OpenAi, &asked) {
        return acts;
    }
    let inputs = match &body["input"] {
        Value::Array(inputs) if inputs.first().is_some_and(Value::is_number) => 1,
        Value::Array(inputs) => inputs.len(),
        Value::String(_) => 1,
        _ => return refuse("'$.input' is invalid.", "input"),
    };
    let size = body["dimensions"].as_u64().unwrap_or(4) as usize;
    let data: Vec<Value> = (0..inputs)
        .map(|index| {
            let vector = vector(index, size);
            let embedding = if body["encoding_format"] == "base64" {
                use base64::Engine;
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let body = json!({
        "object": "list", "data": data, "model": asked.model,
        "usage": { "prompt_tokens": 6, "total_tokens": 6 },
    });
    reply_json(200, &OpenAi.headers(), &body)
}

/// The vector that every scripted vendor makes of the input number `index`: exact in 32 bits.
pub fn vector(index: usize, size: usize) -> Vec<f32> {
    (0..size).map(|at| index as f32 + at as f32 / 8.0).collect()
}

pub struct OpenAi;

const ID: &str = "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT";

impl OpenAi {
    fn finish(turn: &Turn) -> &'static str {
        match turn {
            Turn { cut_by_length: true, .. } => "length",
            Turn { calls, .. } if !calls.is_empty() => "tool_calls",
            _ => "stop",
        }
    }

    fn usage(turn: &Turn) -> Value {
        let usage = turn.usage;
        json!({
            "prompt_tokens": usage.input, "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": { "cached_tokens": usage.cached, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        })
    }
}

impl Protocol for OpenAi {
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("x-request-id", "req_0123456789abcdef"),
            ("openai-processing-ms", "12"),
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("set-cookie", "__cf_bm=vendor-cookie; path=/; HttpOnly"),
        ]
    }

    fn whole(&self, asked: &Asked, turn: &Turn) -> Value {
        let content = turn.text.concat();
        let mut message = json!({
            "role": "assistant",
            "content": if content.is_empty() { Value::Null } else { Value::from(content) },
            "refusal": null, "annotations": [],
        });
        if !turn.calls.is_empty() {
            let calls: Vec<Value> = turn
                .calls
                .iter()
                .map(|call| {
                    let arguments = call.arguments.to_string();
                    json!({
                        "id": call.id, "type": "function",
                        "function": { "name": call.name, "arguments": arguments },
                    })
                })
                .collect();
            message["tool_calls"] = Value::from(calls);
        }
        json!({
            "id": ID, "object": "chat.completion", "created": 1_741_569_952, "model": asked.model,
            "choices": [{
                "index": 0, "message": message, "logprobs": null,
                "finish_reason": Self::finish(turn),
            }],
            "usage": Self::usage(turn), "service_tier": "default", "system_fingerprint": "fp_1",
        })
    }

    fn pieces(&self, asked: &Asked, turn: &Turn) -> Vec<Vec<u8>> {
        let with_usage = asked.usage_in_stream;
        let chunk = |choices: Value, usage: Option<Value>| {
            let mut body = json!({
                "id": ID, "object": "chat.completion.chunk", "created": 1_741_569_952,
                "model": asked.model, "service_tier": "default", "system_fingerprint": "fp_1",
                "choices": choices,
            });
            if with_usage {
                body["usage"] = usage.unwrap_or(Value::Null);
            }
            format!("data: {body}\n\n").into_bytes()
        };
        let delta = |delta: Value, finish: Option<&str>| {
            let choice =
                json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]);
            chunk(choice, None)
        };
        let mut pieces =
            vec![delta(json!({ "role": "assistant", "content": "", "refusal": null }), None)];
        for text in &turn.text {
            pieces.push(delta(json!({ "content": text }), None));
        }
        for (index, call) in turn.calls.iter().enumerate() {
            let function = json!({ "name": call.name, "arguments": "" });
            let start =
                json!({ "index": index, "id": call.id, "type": "function", "function": function });
            pieces.push(delta(json!({ "tool_calls": [start] }), None));
            for fragment in fragments(&call.arguments.to_string()) {
                let more = json!({ "index": index, "function": { "arguments": fragment } });
                pieces.push(delta(json!({ "tool_calls": [more] }), None));
            }
        }
        pieces.push(delta(json!({}), Some(Self::finish(turn))));
        if with_usage {
            pieces.push(chunk(json!([]), Some(Self::usage(turn))));
        }
        pieces.push(b"data: [DONE]\n\n".to_vec());
        pieces
    }

    fn error(&self, status: u16, asked: &Asked) -> Value {
        let model = &asked.model;
        let (message, kind, param, code) = match status {
            400 if model.contains("context") => (
                "This model's maximum context length is 8192 tokens.".to_owned(),
                "invalid_request_error",
                json!("messages"),
                json!("context_length_exceeded"),
            ),
            401 => (
                "Incorrect API key provided. You can find your API key at \
                 https://platform.openai.com/account/api-keys."
                    .to_owned(),
                "invalid_request_error",
                Value::Null,
                json!("invalid_api_key"),
            ),
            403 => (
                "Project does not have access to this model.".to_owned(),
                "invalid_request_error",
                Value::Null,
                json!("model_not_allowed"),
            ),
            404 => (
                format!("The model `{model}` does not exist or you do not have access to it."),
                "invalid_request_error",
                Value::Null,
                json!("model_not_found"),
            ),
            429 if model.contains("quota") => (
                "You exceeded your current quota, please check your plan and billing details."
                    .to_owned(),
                "insufficient_quota",
                Value::Null,
                json!("insufficient_quota"),
            ),
            429 => (
                "Rate limit reached for requests".to_owned(),
                "requests",
                Value::Null,
                json!("rate_limit_exceeded"),
            ),
            500.. => (
                "The server had an error while processing your request.".to_owned(),
                "server_error",
                Value::Null,
                Value::Null,
            ),
            _ => (
                "Invalid value for 'temperature': must be at most 2.".to_owned(),
                "invalid_request_error",
                json!("temperature"),
                json!("decimal_above_max_value"),
            ),
        };
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }

    fn error_piece(&self) -> Vec<u8> {
        let body = json!({ "error": {
            "message": "The server had an error while processing your request.",
            "type": "server_error", "param": null, "code": null,
        }});
        format!("data: {body}\n\n").into_bytes()
    }

    fn spoil_usage(&self, answer: &mut Value, how: &str) {
        if let Value::Object(members) = answer {
            if how == "usage-missing" {
                members.remove("usage");
            } else if let Some(usage) = members.get_mut("usage") {
                script::spoil(usage, how);
            }
        }
    }
}

/// Pieces of a few bytes, as vendors stream arguments; cut between characters.
pub fn fragments(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(5).map(|letters| letters.iter().collect()).collect()
}
