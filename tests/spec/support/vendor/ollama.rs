//! Ollama's side of `/api/chat`, `/api/embed`, `/api/tags` and the like, as its documentation
//! describes them: NDJSON streams, tool calls whole and as objects, errors as bare strings.

use serde_json::{Value, json};

use super::{
    Act, Recorded, openai, reply, reply_json,
    script::{self, Asked, Protocol, Turn},
};

pub const MODELS: &[&str] = &["llama3.2:latest", "qwen3:8b", "nomic-embed-text:latest"];

/// An empty `key` stands for a local server that asks for none.
pub fn answer(request: &Recorded, key: &str) -> Vec<Act> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if !key.is_empty() && bearer != Some(key) {
        return reply_json(401, &[], &json!({ "error": "unauthorized" }));
    }
    match (request.method.as_str(), request.path()) {
        ("POST", "/api/chat") => match read(&request.json()) {
            Ok(asked) => script::chat(&Ollama, &asked, request),
            Err(message) => reply_json(400, &[], &json!({ "error": message })),
        },
        ("POST", "/api/generate") => match read(&as_chat(&request.json())) {
            Ok(asked) => script::chat(&Generate, &asked, request),
            Err(message) => reply_json(400, &[], &json!({ "error": message })),
        },
        ("POST", "/api/embed") => embed(&request.json()),
        ("POST", "/api/embeddings") => {
            reply_json(200, &[], &json!({ "embedding": openai::vector(0, 4) }))
        }
        ("POST", "/api/show") => show(&request.json()),
        ("GET", "/api/tags") => {
            let models: Vec<Value> = MODELS.iter().map(|name| model(name)).collect();
            reply_json(200, &[], &json!({ "models": models }))
        }
        ("GET", "/api/ps") => reply_json(200, &[], &json!({ "models": [] })),
        ("GET", "/api/version") => reply_json(200, &[], &json!({ "version": "0.21.0" })),
        ("HEAD", "/") => reply(200, &[("content-type", "text/plain")], b""),
        ("GET", "/") => reply(200, &[("content-type", "text/plain")], b"Ollama is running"),
        _ => reply(404, &[("content-type", "text/plain")], b"404 page not found"),
    }
}

/// A generation as the chat it amounts to.
fn as_chat(body: &Value) -> Value {
    let mut chat = body.clone();
    chat["messages"] = json!([
        { "role": "system", "content": body["system"] },
        { "role": "user", "content": body["prompt"], "images": body["images"] },
    ]);
    chat
}

fn show(body: &Value) -> Vec<Act> {
    let name = body["model"].as_str().unwrap_or_default();
    if !MODELS.iter().any(|known| *known == name || *known == format!("{name}:latest")) {
        return reply_json(404, &[], &json!({ "error": format!("model '{name}' not found") }));
    }
    let mut shown = json!({
        "modelfile": "FROM llama", "parameters": "", "template": "{{ .Prompt }}",
        "model_info": { "general.architecture": "llama", "llama.context_length": 131_072 },
        "capabilities": ["completion", "tools"],
    });
    shown["details"] = model(name)["details"].take();
    reply_json(200, &[], &shown)
}

fn model(name: &str) -> Value {
    json!({
        "name": name, "model": name, "modified_at": "2026-01-10T10:00:00.000000000Z",
        "size": 2_019_393_189_u64, "digest": "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
        "details": {
            "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
            "parameter_size": "3.2B", "quantization_level": "Q4_K_M",
        },
    })
}

/// Reads a request as strictly as the server does where an adapter could get it wrong.
fn read(body: &Value) -> Result<Asked, String> {
    let mut asked = Asked {
        model: body["model"].as_str().ok_or("model is required")?.to_owned(),
        // Ollama streams unless told otherwise.
        stream: body["stream"].as_bool().unwrap_or(true),
        ..Asked::default()
    };
    for message in body["messages"].as_array().ok_or("messages is required")? {
        let content = match &message["content"] {
            Value::String(content) => content.clone(),
            Value::Null => String::new(),
            _ => {
                return Err("json: cannot unmarshal array into Go struct field \
                            ChatRequest.messages.content of type string"
                    .into());
            }
        };
        match message["role"].as_str() {
            Some("user") => {
                asked.prompt = content;
                asked.results.clear();
            }
            Some("tool") => asked.results.push(content),
            Some("assistant") => {
                asked.results.clear();
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    if !call["function"]["arguments"].is_object() {
                        return Err("json: cannot unmarshal string into Go struct field \
                                    ToolCallFunction.messages.tool_calls.function.arguments"
                            .into());
                    }
                }
            }
            Some("system") => {}
            other => return Err(format!("invalid role: {other:?}")),
        }
        for image in message["images"].as_array().into_iter().flatten() {
            let data = image.as_str().unwrap_or_default();
            if data.is_empty() || data.contains([':', ',']) {
                return Err("illegal base64 data at input byte 4".into());
            }
            asked.images.push((sniff(data).to_owned(), data.to_owned()));
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let name = tool["function"]["name"].as_str().ok_or("tools: a function has no name")?;
        asked.tools.push(name.to_owned());
    }
    match &body["format"] {
        Value::Null => {}
        Value::String(format) if format.is_empty() => {}
        Value::String(format) if format == "json" => asked.schema = Some(json!({})),
        Value::Object(schema) => asked.schema = Some(Value::Object(schema.clone())),
        other => return Err(format!("invalid format: {other}; expected \"json\" or a schema")),
    }
    Ok(asked)
}

/// Ollama isn't told the media type; it looks at the data.
fn sniff(base64: &str) -> &'static str {
    match base64.get(..5) {
        Some("iVBOR") => "image/png",
        Some("/9j/4") => "image/jpeg",
        _ => "unknown",
    }
}

fn embed(body: &Value) -> Vec<Act> {
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    let asked = Asked { model, ..Asked::default() };
    if let Some(acts) = script::fault(&Ollama, &asked) {
        return acts;
    }
    let inputs = match &body["input"] {
        Value::Array(inputs) if inputs.iter().all(Value::is_string) => inputs.len(),
        Value::String(_) => 1,
        _ => return reply_json(400, &[], &json!({ "error": "invalid input type" })),
    };
    let size = body["dimensions"].as_u64().unwrap_or(4) as usize;
    let vectors: Vec<_> = (0..inputs).map(|index| openai::vector(index, size)).collect();
    let body = json!({
        "model": asked.model, "embeddings": vectors, "total_duration": 14_143_917,
        "load_duration": 1_019_500, "prompt_eval_count": 6,
    });
    reply_json(200, &[], &body)
}

/// `/api/generate`: the same answers with the message's fields beside the others.
struct Generate;

impl Generate {
    fn flat(mut answer: Value) -> Value {
        let message = answer["message"].take();
        if let Value::Object(members) = &mut answer {
            members.remove("message");
            members.insert("response".into(), message["content"].clone());
            if !message["thinking"].is_null() {
                members.insert("thinking".into(), message["thinking"].clone());
            }
        }
        answer
    }
}

impl Protocol for Generate {
    fn content_type(&self) -> &'static str {
        Ollama.content_type()
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        Ollama.headers()
    }

    fn whole(&self, asked: &Asked, turn: &Turn) -> Value {
        Self::flat(Ollama.whole(asked, turn))
    }

    fn pieces(&self, asked: &Asked, turn: &Turn) -> Vec<Vec<u8>> {
        let flat = |line: Vec<u8>| {
            format!("{}\n", Self::flat(serde_json::from_slice(&line).unwrap())).into_bytes()
        };
        Ollama.pieces(asked, turn).into_iter().map(flat).collect()
    }

    fn error(&self, status: u16, asked: &Asked) -> Value {
        Ollama.error(status, asked)
    }

    fn error_piece(&self) -> Vec<u8> {
        Ollama.error_piece()
    }

    fn spoil_usage(&self, answer: &mut Value, how: &str) {
        Ollama.spoil_usage(answer, how);
    }
}

pub struct Ollama;

impl Ollama {
    fn last(asked: &Asked, turn: &Turn, message: &Value) -> Value {
        // Ollama gives "stop" for tool calls as well.
        let reason = if turn.cut_by_length { "length" } else { "stop" };
        json!({
            "model": asked.model, "created_at": "2026-01-10T10:00:01.000000000Z",
            "message": message, "done_reason": reason, "done": true,
            "total_duration": 4_883_583_458_u64, "load_duration": 1_334_875,
            "prompt_eval_count": turn.usage.input, "prompt_eval_duration": 342_546_000,
            "eval_count": turn.usage.output, "eval_duration": 4_535_599_000_u64,
            "vendor_field": { "kept": true },
        })
    }

    fn calls(turn: &Turn) -> Vec<Value> {
        let calls = turn.calls.iter().enumerate();
        calls
            .map(|(index, call)| {
                json!({ "id": call.id, "function": {
                    "index": index, "name": call.name, "arguments": call.arguments,
                }})
            })
            .collect()
    }
}

impl Protocol for Ollama {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    fn whole(&self, asked: &Asked, turn: &Turn) -> Value {
        let mut message = json!({ "role": "assistant", "content": turn.text.concat() });
        if !turn.thinking.is_empty() {
            message["thinking"] = json!(turn.thinking.concat());
        }
        if !turn.calls.is_empty() {
            message["tool_calls"] = Value::from(Self::calls(turn));
        }
        Self::last(asked, turn, &message)
    }

    fn pieces(&self, asked: &Asked, turn: &Turn) -> Vec<Vec<u8>> {
        let line = |body: &Value| format!("{body}\n").into_bytes();
        let part = |message: Value| {
            line(&json!({
                "model": asked.model, "created_at": "2026-01-10T10:00:00.000000000Z",
                "message": message, "done": false,
            }))
        };
        let mut pieces = Vec::new();
        for text in &turn.thinking {
            pieces.push(part(json!({ "role": "assistant", "content": "", "thinking": text })));
        }
        for text in &turn.text {
            pieces.push(part(json!({ "role": "assistant", "content": text })));
        }
        for call in Self::calls(turn) {
            let message = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
            pieces.push(part(message));
        }
        let message = json!({ "role": "assistant", "content": "" });
        pieces.push(line(&Self::last(asked, turn, &message)));
        pieces
    }

    fn error(&self, status: u16, asked: &Asked) -> Value {
        let model = &asked.model;
        let message = match status {
            401 => "unauthorized".to_owned(),
            403 => "this model requires a subscription".to_owned(),
            404 => format!("model '{model}' not found"),
            429 => "you have reached your usage limit".to_owned(),
            503 => "server busy, please try again. maximum pending requests exceeded".to_owned(),
            500.. => "llama runner process has terminated: exit status 2".to_owned(),
            _ => "invalid option: temperature".to_owned(),
        };
        json!({ "error": message })
    }

    fn error_piece(&self) -> Vec<u8> {
        b"{\"error\":\"an error was encountered while running the model\"}\n".to_vec()
    }

    fn spoil_usage(&self, answer: &mut Value, how: &str) {
        if let Value::Object(members) = answer {
            for name in ["prompt_eval_count", "eval_count"] {
                match how {
                    "usage-missing" => {
                        members.remove(name);
                    }
                    "usage-negative" if members.contains_key(name) => {
                        members.insert(name.into(), json!(-5));
                    }
                    "usage-huge" if members.contains_key(name) => {
                        members.insert(name.into(), json!(u64::MAX));
                    }
                    "usage-text" if members.contains_key(name) => {
                        members.insert(name.into(), json!("many"));
                    }
                    _ => {}
                }
            }
        }
    }
}
