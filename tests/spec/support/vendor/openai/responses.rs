//! OpenAI's side of Responses, as its API reference describes it.
//!
//! As strict as the vendor where a gateway could get it wrong: ids must begin as ids of their kind
//! do, encrypted reasoning comes back as it was, a call's output has its call before it. Besides the
//! scripts of all vendors it knows four models of its own: `web-search` uses a tool of the vendor's,
//! `refusal` refuses, `failed` fails after it began, `background` answers later.

use serde_json::{Value, json};

use super::{OpenAi, fragments, read_content, text};
use crate::support::vendor::{
    Act, Recorded, reply_json,
    script::{self, Asked, Protocol, Turn},
};

/// The id of every response, and the only one that can be referred to.
pub const ID: &str = "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b";
/// What reasoning is encrypted to.
pub const ENCRYPTED: &str = "gAAAAABpQ2x1ZSBpbiBhIGJveA==";
const MESSAGE_ID: &str = "msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b";
const REASONING_ID: &str = "rs_6876cf02e0bc8192b74af0fb64b715ff06fa2fcced15a5ac";
const SEARCH_ID: &str = "ws_67ccf18ef5fc8190b16dbee19bc54e5f087bb177ab789d5c";

pub fn answer(request: &Recorded) -> Vec<Act> {
    let body = request.json();
    match read(&body) {
        Ok(asked) => script::chat(&Responses { body }, &asked, request),
        Err((message, param)) => super::refuse(&message, param),
    }
}

/// There is one response here, and it is the one of every answer.
pub fn stored(method: &str, path: &str) -> Vec<Act> {
    let id = path.trim_start_matches("/v1/responses/").split('/').next().unwrap_or_default();
    if method == "GET" && id == ID {
        let asked = Asked { model: "gpt-4.1".to_owned(), ..Asked::default() };
        let body = Responses { body: json!({}) }.whole(&asked, &Turn::default());
        return reply_json(200, &OpenAi.headers(), &body);
    }
    let message = format!("Response with id '{id}' not found.");
    let body = json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": "id", "code": null,
    }});
    reply_json(404, &OpenAi.headers(), &body)
}

type Refusal = (String, &'static str);

fn read(body: &Value) -> Result<Asked, Refusal> {
    let mut asked = Asked {
        model: text(&body["model"])
            .ok_or_else(|| ("Missing required parameter: 'model'.".to_owned(), "model"))?,
        stream: body["stream"].as_bool().unwrap_or(false),
        ..Asked::default()
    };
    match &body["previous_response_id"] {
        Value::Null => {}
        id if id == ID => {}
        id => {
            let message = format!("Previous response with id {id} not found.");
            return Err((message, "previous_response_id"));
        }
    }
    match &body["input"] {
        Value::String(prompt) => asked.prompt.clone_from(prompt),
        Value::Array(items) => {
            let mut open_calls = Vec::new();
            let remembers = body["previous_response_id"] == ID;
            for item in items {
                read_item(item, &mut asked, &mut open_calls, remembers)?;
            }
        }
        _ => return Err(("Missing required parameter: 'input'.".to_owned(), "input")),
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        match (tool["type"].as_str(), text(&tool["name"])) {
            (Some("function"), Some(name)) if tool["parameters"].is_object() => {
                asked.tools.push(name);
            }
            (Some("function"), _) => {
                let message = "Missing required parameter: 'tools[0].name'.";
                return Err((message.to_owned(), "tools[0].name"));
            }
            (Some("custom"), Some(name)) => asked.tools.push(name),
            (Some(_), _) => {}
            (None, _) => {
                let message = "Missing required parameter: 'tools[0].type'.";
                return Err((message.to_owned(), "tools[0].type"));
            }
        }
    }
    let format = &body["text"]["format"];
    match format["type"].as_str() {
        None | Some("text") => {}
        Some("json_object") => asked.schema = Some(json!({})),
        Some("json_schema") if format["name"].is_string() && format["schema"].is_object() => {
            asked.schema = Some(format["schema"].clone());
        }
        Some("json_schema") => {
            let message = "Missing required parameter: 'text.format.name'.";
            return Err((message.to_owned(), "text.format.name"));
        }
        Some(other) => return Err((format!("Invalid value: '{other}'."), "text.format.type")),
    }
    for known in ["messages", "stop", "max_tokens", "response_format", "seed"] {
        if !body[known].is_null() {
            return Err((format!("Unsupported parameter: '{known}'."), known));
        }
    }
    Ok(asked)
}

fn read_item(
    item: &Value,
    asked: &mut Asked,
    open_calls: &mut Vec<String>,
    remembers: bool,
) -> Result<(), Refusal> {
    let kind = item["type"].as_str().unwrap_or("message");
    let prefix = match kind {
        "message" => "msg_",
        "reasoning" => "rs_",
        "function_call" => "fc_",
        "custom_tool_call" => "ctc_",
        _ => "",
    };
    if let Some(id) = item["id"].as_str()
        && !id.starts_with(prefix)
    {
        let message = format!("Invalid 'input[0].id': '{id}'. Expected an ID with '{prefix}'.");
        return Err((message, "input[0].id"));
    }
    match kind {
        "message" => match item["role"].as_str() {
            Some("user") => {
                asked.prompt = content(&item["content"], &mut asked.images)?;
                asked.results.clear();
            }
            Some("assistant") => {
                asked.results.clear();
                output_text(&item["content"])?;
            }
            Some("system" | "developer") => {}
            other => return Err((format!("Invalid value: {other:?}."), "input[0].role")),
        },
        "function_call" | "custom_tool_call" => {
            asked.results.clear();
            let arguments = item["arguments"].as_str().unwrap_or("-");
            if kind == "function_call" && serde_json::from_str::<Value>(arguments).is_err() {
                return Err(("arguments are not JSON text".to_owned(), "input[0].arguments"));
            }
            open_calls.push(text(&item["call_id"]).unwrap_or_default());
        }
        "function_call_output" | "custom_tool_call_output" => {
            let id = text(&item["call_id"]).unwrap_or_default();
            if !open_calls.contains(&id) && !remembers {
                let message = format!("No tool call found for function call output with {id}.");
                return Err((message, "input"));
            }
            let result = content(&item["output"], &mut asked.images)?;
            asked.results.push(result);
        }
        "reasoning" => match item["encrypted_content"].as_str() {
            Some(ENCRYPTED) if item["summary"].is_array() => {}
            Some(_) => {
                let message = "The encrypted content could not be verified.";
                return Err((message.to_owned(), "input[0].encrypted_content"));
            }
            None if item["id"] == REASONING_ID => {}
            None => {
                let message = format!("Item with id {} not found.", item["id"]);
                return Err((message, "input"));
            }
        },
        "item_reference" | "web_search_call" => {}
        other => return Err((format!("Invalid value: '{other}'."), "input[0].type")),
    }
    Ok(())
}

fn content(content: &Value, images: &mut Vec<(String, String)>) -> Result<String, Refusal> {
    let Some(parts) = content.as_array() else { return read_content(content, images) };
    // The same parts as in Chat Completions, under other names.
    let parts: Result<Vec<Value>, Refusal> = parts
        .iter()
        .map(|part| match part["type"].as_str() {
            Some("input_text") => Ok(json!({ "type": "text", "text": part["text"] })),
            Some("input_image") => {
                let url = json!({ "url": part["image_url"] });
                Ok(json!({ "type": "image_url", "image_url": url }))
            }
            other => Err((format!("Invalid value: {other:?}."), "input[0].content[0].type")),
        })
        .collect();
    read_content(&Value::from(parts?), images)
}

fn output_text(content: &Value) -> Result<(), Refusal> {
    let kinds = content.as_array().into_iter().flatten().map(|part| &part["type"]);
    match kinds.into_iter().find(|kind| *kind != "output_text" && *kind != "refusal") {
        None => Ok(()),
        Some(kind) => Err((format!("Invalid value: {kind}."), "input[0].content[0].type")),
    }
}

struct Responses {
    body: Value,
}

/// An item as it begins and ends, and the events between: their types and own members.
struct Made {
    begun: Value,
    item: Value,
    events: Vec<(String, Value)>,
}

impl Responses {
    fn response(&self, asked: &Asked, status: &str, output: Value, usage: Value) -> Value {
        let body = &self.body;
        let or = |name: &str, default: Value| match &body[name] {
            Value::Null => default,
            given => given.clone(),
        };
        let incomplete = (status == "incomplete").then(|| json!({ "reason": "max_output_tokens" }));
        json!({
            "id": ID, "object": "response", "created_at": 1_741_476_542, "status": status,
            "background": or("background", json!(false)),
            "billing": { "payer": "developer" },
            "error": null, "incomplete_details": incomplete,
            "instructions": body["instructions"], "max_output_tokens": body["max_output_tokens"],
            "max_tool_calls": body["max_tool_calls"], "model": asked.model, "output": output,
            "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
            "previous_response_id": body["previous_response_id"],
            "prompt_cache_key": body["prompt_cache_key"],
            "reasoning": or("reasoning", json!({ "effort": null, "summary": null })),
            "safety_identifier": body["safety_identifier"], "service_tier": "default",
            "store": or("store", json!(true)), "temperature": or("temperature", json!(1.0)),
            "text": or("text", json!({ "format": { "type": "text" }, "verbosity": "medium" })),
            "tool_choice": or("tool_choice", json!("auto")), "tools": or("tools", json!([])),
            "top_logprobs": or("top_logprobs", json!(0)), "top_p": or("top_p", json!(1.0)),
            "truncation": or("truncation", json!("disabled")), "usage": usage,
            "user": body["user"], "metadata": or("metadata", json!({})),
        })
    }

    fn usage(turn: &Turn) -> Value {
        let usage = turn.usage;
        json!({
            "input_tokens": usage.input,
            "input_tokens_details": { "cached_tokens": usage.cached },
            "output_tokens": usage.output,
            "output_tokens_details": { "reasoning_tokens": usage.reasoning },
            "total_tokens": usage.input + usage.output,
        })
    }

    fn status(&self, asked: &Asked, turn: &Turn) -> &'static str {
        match (asked.model.as_str(), turn.cut_by_length) {
            ("background", _) => "queued",
            (_, true) => "incomplete",
            _ => "completed",
        }
    }

    fn encrypts(&self) -> bool {
        let include = self.body["include"].as_array().into_iter().flatten();
        include.into_iter().any(|what| what == "reasoning.encrypted_content")
    }

    fn is_custom(&self, tool: &str) -> bool {
        let tools = self.body["tools"].as_array().into_iter().flatten();
        tools.into_iter().any(|known| known["type"] == "custom" && known["name"] == tool)
    }

    fn items(&self, asked: &Asked, turn: &Turn) -> Vec<Made> {
        let mut items = Vec::new();
        if asked.model == "background" {
            return items;
        }
        if !turn.thinking.is_empty() {
            let text = turn.thinking.concat();
            let mut item = json!({ "id": REASONING_ID, "type": "reasoning", "summary": [] });
            let begun = item.clone();
            let part = |text: &str| json!({ "type": "summary_text", "text": text });
            let of = |name: &str, value: Value| json!({ "summary_index": 0, name: value });
            let kind = |end: &str| format!("response.reasoning_summary_{end}");
            let mut events = vec![(kind("part.added"), of("part", part("")))];
            let deltas = turn.thinking.iter();
            events.extend(deltas.map(|text| (kind("text.delta"), of("delta", json!(text)))));
            events.push((kind("text.done"), of("text", json!(text))));
            events.push((kind("part.done"), of("part", part(&text))));
            item["summary"] = json!([part(&text)]);
            if self.encrypts() {
                item["encrypted_content"] = json!(ENCRYPTED);
            }
            items.push(Made { begun, item, events });
        }
        if asked.model == "web-search" {
            let item = |status: &str| {
                let action = json!({ "type": "search", "query": asked.prompt });
                json!({
                    "id": SEARCH_ID, "type": "web_search_call", "status": status, "action": action,
                })
            };
            let event = |state: &str| (format!("response.web_search_call.{state}"), json!({}));
            let events = vec![event("in_progress"), event("searching"), event("completed")];
            items.push(Made { begun: item("in_progress"), item: item("completed"), events });
        }
        if asked.model == "refusal" {
            let refusal = "I can't help with that.";
            let part = |text: &str| json!({ "type": "refusal", "refusal": text });
            items.push(Self::message("refusal", &[refusal.to_owned()], &part));
        } else if !turn.text.is_empty() || turn.calls.is_empty() {
            let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
            items.push(Self::message("output_text", &turn.text, &part));
        }
        for (number, call) in turn.calls.iter().enumerate() {
            let custom = self.is_custom(&call.name);
            let (prefix, kind, member, event) = match custom {
                true => ("ctc", "custom_tool_call", "input", "custom_tool_call_input"),
                false => ("fc", "function_call", "arguments", "function_call_arguments"),
            };
            let whole = match custom {
                true => format!("SELECT weather FROM {}", call.arguments["city"]),
                false => call.arguments.to_string(),
            };
            let item = |status: &str, whole: &str| {
                json!({
                    "id": format!("{prefix}_67ca09c6bedc8190a7abfec07b1a1332096610f474{number}"),
                    "type": kind, "status": status, "call_id": call.id, "name": call.name,
                    member: whole,
                })
            };
            let delta = |text| (format!("response.{event}.delta"), json!({ "delta": text }));
            let mut events: Vec<_> = fragments(&whole).into_iter().map(delta).collect();
            events.push((format!("response.{event}.done"), json!({ member: whole })));
            let (begun, item) = (item("in_progress", ""), item("completed", &whole));
            items.push(Made { begun, item, events });
        }
        items
    }

    fn message(kind: &str, deltas: &[String], part: &dyn Fn(&str) -> Value) -> Made {
        let whole = deltas.concat();
        let item = |status: &str, content: Value| {
            json!({
                "id": MESSAGE_ID, "type": "message", "status": status, "role": "assistant",
                "content": content, "phase": "final_answer",
            })
        };
        let of = |name: &str, value: Value| json!({ "content_index": 0, name: value });
        let event = |end: &str| format!("response.{kind}.{end}");
        let mut events = vec![("response.content_part.added".to_owned(), of("part", part("")))];
        for delta in deltas {
            let mut members = of("delta", json!(delta));
            if kind == "output_text" {
                members["logprobs"] = json!([]);
                members["obfuscation"] = json!("aX9Q");
            }
            events.push((event("delta"), members));
        }
        let name = if kind == "refusal" { "refusal" } else { "text" };
        events.push((event("done"), of(name, json!(whole))));
        events.push(("response.content_part.done".to_owned(), of("part", part(&whole))));
        let (begun, item) =
            (item("in_progress", json!([])), item("completed", json!([part(&whole)])));
        Made { begun, item, events }
    }
}

impl Protocol for Responses {
    fn content_type(&self) -> &'static str {
        OpenAi.content_type()
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        OpenAi.headers()
    }

    fn whole(&self, asked: &Asked, turn: &Turn) -> Value {
        let status = self.status(asked, turn);
        if asked.model == "failed" {
            let mut response = self.response(asked, "failed", json!([]), Value::Null);
            let message = "The server had an error while processing your request.";
            response["error"] = json!({ "code": "server_error", "message": message });
            return response;
        }
        let items = self.items(asked, turn).into_iter().map(|made| made.item).collect();
        self.response(asked, status, items, Self::usage(turn))
    }

    fn pieces(&self, asked: &Asked, turn: &Turn) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut add = |kind: &str, mut members: Value| {
            members["type"] = json!(kind);
            members["sequence_number"] = json!(all.len());
            all.push(format!("event: {kind}\ndata: {members}\n\n").into_bytes());
        };
        let begun = self.response(asked, "in_progress", json!([]), Value::Null);
        add("response.created", json!({ "response": begun }));
        add("response.in_progress", json!({ "response": begun }));
        if asked.model == "failed" {
            add("response.failed", json!({ "response": self.whole(asked, turn) }));
            return all;
        }
        for (index, made) in self.items(asked, turn).into_iter().enumerate() {
            let Made { begun, item, events } = made;
            add("response.output_item.added", json!({ "output_index": index, "item": begun }));
            for (kind, mut members) in events {
                members["item_id"] = item["id"].clone();
                members["output_index"] = json!(index);
                add(&kind, members);
            }
            add("response.output_item.done", json!({ "output_index": index, "item": item }));
        }
        let last = format!("response.{}", self.status(asked, turn));
        add(&last, json!({ "response": self.whole(asked, turn) }));
        all
    }

    fn error(&self, status: u16, asked: &Asked) -> Value {
        OpenAi.error(status, asked)
    }

    fn error_piece(&self) -> Vec<u8> {
        let body = json!({
            "type": "error", "code": "server_error", "param": null, "sequence_number": 7,
            "message": "The server had an error while processing your request.",
        });
        format!("event: error\ndata: {body}\n\n").into_bytes()
    }

    fn spoil_usage(&self, answer: &mut Value, how: &str) {
        match answer.get_mut("response") {
            Some(response) => OpenAi.spoil_usage(response, how),
            None => OpenAi.spoil_usage(answer, how),
        }
    }
}
