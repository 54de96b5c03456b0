use keyward::operation::{Media, MediaKind, MediaSource};
use serde_json::{Value, json};

use super::*;

fn parse(body: &Value) -> ResponsesRequest {
    parse_response(body.to_string().as_bytes()).unwrap_or_else(|failure| panic!("{failure:?}"))
}

fn chat(body: &Value) -> Chat {
    parse(body).chat
}

/// A request with this input.
fn with(input: Value) -> Chat {
    chat(&json!({ "model": "m", "input": input }))
}

fn refused(body: &Value) -> (String, String) {
    let failure = parse_response(body.to_string().as_bytes()).expect_err("a refusal");
    assert_eq!(failure.fault, Fault::Caller);
    (failure.param.unwrap_or_default(), failure.message)
}

fn fields(fields: &[Field]) -> Value {
    fields
        .iter()
        .map(|field| {
            let value: Value = serde_json::from_str(field.value.get()).unwrap();
            (field.name.clone(), value)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A message in short: its role, its parts, its own fields.
fn short(message: &Message) -> Value {
    let parts: Vec<Value> = message
        .parts
        .iter()
        .map(|part| {
            let body = match &part.body {
                PartBody::Text(text) => json!({ "text": &**text }),
                PartBody::Refusal(text) => json!({ "refusal": &**text }),
                PartBody::Thinking { text, signature } => {
                    json!({ "thinking": &**text, "signature": signature.as_deref() })
                }
                PartBody::RedactedThinking(data) => json!({ "redacted": &**data }),
                PartBody::ToolCall(call) => {
                    json!({ "call": call.name, "id": call.id, "arguments": call.arguments.get() })
                }
                PartBody::Media(media) => json!({ "media": media.media_type }),
                PartBody::Other { kind, value } => json!({ "other": kind, "json": value.get() }),
            };
            let mut body = body;
            if !part.extra.is_empty() {
                body["extra"] = fields(&part.extra);
            }
            body
        })
        .collect();
    let role = format!("{:?}", message.role);
    let mut short = json!({ "role": role.trim_start_matches("Role::"), "parts": parts });
    if let Some(answers) = &message.answers {
        short["answers"] = json!(answers.call_id);
    }
    if !message.extra.is_empty() {
        short["extra"] = fields(&message.extra);
    }
    short
}

fn shorts(chat: &Chat) -> Vec<Value> {
    chat.messages.iter().map(short).collect()
}

#[test]
fn a_text_is_a_users_message() {
    let chat = chat(&json!({ "model": "m", "input": "Hi", "instructions": "Be brief." }));
    assert_eq!(
        shorts(&chat),
        [
            json!({ "role": "System", "parts": [{ "text": "Be brief." }] }),
            json!({ "role": "User", "parts": [{ "text": "Hi" }] }),
        ]
    );
    assert_eq!(chat.dialect, Dialect::OpenAiResponses);
    assert!(!chat.stream);
    assert_eq!(fields(&chat.extra), json!({ "instructions": true }));
}

#[test]
fn settings_have_their_places() {
    let chat = chat(&json!({
        "model": "m", "input": "Hi", "stream": true, "max_output_tokens": 7, "temperature": 0.5,
        "top_p": 0.25, "top_logprobs": 3, "parallel_tool_calls": false,
        "reasoning": { "effort": "low", "summary": "auto" },
        "text": { "verbosity": "low", "format": { "type": "json_schema", "name": "n",
            "description": "d", "schema": { "type": "object" }, "strict": true } },
        "prompt_cache_key": "k", "later_field": [1], "user": null,
    }));
    let sampling = &chat.sampling;
    assert_eq!(sampling.max_output_tokens, Some(7));
    assert_eq!((sampling.temperature, sampling.top_p), (Some(0.5), Some(0.25)));
    assert_eq!(sampling.logprobs, Some(3));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert!(chat.stream);
    assert_eq!(chat.reasoning.as_ref().unwrap().effort.as_deref(), Some("low"));
    let Format::Schema(schema) = &chat.format else { panic!("{:?}", chat.format) };
    assert_eq!((schema.name.as_str(), schema.strict), ("n", Some(true)));
    assert_eq!(schema.description.as_deref(), Some("d"));
    assert_eq!(schema.schema, r#"{"type":"object"}"#);
    assert_eq!(
        fields(&chat.extra),
        json!({
            "prompt_cache_key": "k", "later_field": [1], "text.verbosity": "low",
            "reasoning.summary": "auto",
        })
    );
}

#[test]
fn formats_nobody_knows_go_along() {
    let format =
        |format: Value| chat(&json!({ "model": "m", "input": "Hi", "text": { "format": format } }));
    assert!(matches!(format(json!({ "type": "text" })).format, Format::Text));
    assert!(matches!(format(json!({ "type": "json_object" })).format, Format::Json));
    let grammar = json!({ "type": "grammar", "syntax": "lark" });
    assert_eq!(fields(&format(grammar.clone()).extra), json!({ "text.format": grammar }));
}

#[test]
fn log_probabilities_are_asked_for_in_either_way() {
    let include = json!(["message.output_text.logprobs"]);
    let chat = chat(&json!({ "model": "m", "input": "Hi", "include": include }));
    assert_eq!(chat.sampling.logprobs, Some(0));
    assert_eq!(fields(&chat.extra), json!({ "include": include }));
}

#[test]
fn tools_are_functions_or_their_vendors_business() {
    let tools = json!([
        { "type": "function", "name": "f", "description": "d", "parameters": { "a": 1 },
          "strict": false, "defer_loading": true },
        { "type": "function", "name": "g", "parameters": null, "strict": null },
        { "type": "custom", "name": "sql", "description": "Runs SQL", "format": { "type": "text" } },
        { "type": "mcp", "server_label": "s", "server_url": "https://example.org", "headers": {} },
    ]);
    let ResponsesRequest { chat, asked } =
        parse(&json!({ "model": "m", "input": "Hi", "tools": tools }));
    let [f, g, sql, mcp] = chat.tools.as_slice() else { panic!("{:?}", chat.tools) };
    assert_eq!((f.name.as_str(), f.description.as_deref()), ("f", Some("d")));
    assert_eq!((f.parameters.as_str(), f.strict), (r#"{"a":1}"#, Some(false)));
    assert_eq!(fields(&f.extra), json!({ "defer_loading": true }));
    assert_eq!((g.parameters.as_str(), g.strict, g.kind.as_str()), ("", None, ""));
    assert_eq!((sql.kind.as_str(), sql.name.as_str()), ("custom", "sql"));
    assert_eq!(
        fields(&sql.extra),
        json!({ "format": { "type": "text" }, "description": "Runs SQL" })
    );
    assert_eq!((mcp.kind.as_str(), mcp.name.as_str()), ("mcp", ""));
    assert_eq!(mcp.extra.len(), 3);
    assert!(asked.is_custom("sql") && !asked.is_custom("f"));
    let repeated = asked.settings().find(|(name, _)| *name == "tools").unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(repeated).unwrap(), tools);
}

#[test]
fn choices_of_tools_are_known_or_go_along() {
    let choice =
        |choice: Value| chat(&json!({ "model": "m", "input": "Hi", "tool_choice": choice }));
    assert!(matches!(choice(json!("auto")).tool_choice, Some(ToolChoice::Auto)));
    assert!(matches!(choice(json!("none")).tool_choice, Some(ToolChoice::None)));
    assert!(matches!(choice(json!("required")).tool_choice, Some(ToolChoice::Required)));
    let named = choice(json!({ "type": "function", "name": "f" }));
    assert!(matches!(named.tool_choice, Some(ToolChoice::Tool(name)) if name == "f"));
    let other = json!({ "type": "allowed_tools", "mode": "auto", "tools": [] });
    let chat = choice(other.clone());
    assert!(chat.tool_choice.is_none());
    assert_eq!(fields(&chat.extra), json!({ "tool_choice": other }));
}

// ---------------------------------------------------------------------------------------- items

#[test]
fn what_the_model_did_in_one_turn_is_one_message() {
    let chat = with(json!([
        { "role": "user", "content": "Weather?" },
        { "type": "reasoning", "id": "rs_kw1", "encrypted_content": "sig",
          "summary": [{ "type": "summary_text", "text": "Hm" }] },
        { "type": "message", "role": "assistant", "id": "msg_kw1", "status": "completed",
          "content": [{ "type": "output_text", "text": "I look.", "annotations": [], "logprobs": [] }] },
        { "type": "function_call", "call_id": "a", "name": "f", "arguments": "{\"x\":1}", "id": "fc_kw1" },
        { "type": "function_call", "call_id": "b", "name": "g", "arguments": "" },
        { "type": "function_call_output", "call_id": "a", "output": "sunny" },
        { "type": "function_call_output", "call_id": "b",
          "output": [{ "type": "input_text", "text": "21°" }] },
    ]));
    assert_eq!(
        shorts(&chat),
        [
            json!({ "role": "User", "parts": [{ "text": "Weather?" }] }),
            json!({ "role": "Assistant", "parts": [
                { "thinking": "Hm", "signature": "sig" },
                { "text": "I look." },
                { "call": "f", "id": "a", "arguments": "{\"x\":1}" },
                { "call": "g", "id": "b", "arguments": "{}" },
            ]}),
            json!({ "role": "Tool", "answers": "a", "parts": [{ "text": "sunny" }] }),
            json!({ "role": "Tool", "answers": "b", "parts": [{ "text": "21°" }] }),
        ]
    );
}

#[test]
fn neighbouring_messages_stay_apart_with_their_own_fields() {
    let said = |phase: &str| json!({ "role": "assistant", "content": phase, "phase": phase });
    let chat = with(json!([said("commentary"), said("final_answer")]));
    let message = |phase: &str| json!({ "role": "Assistant", "parts": [{ "text": phase }], "extra": { "phase": phase } });
    assert_eq!(shorts(&chat), [message("commentary"), message("final_answer")]);
}

#[test]
fn ids_of_others_and_unfinished_states_go_along() {
    let chat = with(json!([
        { "role": "assistant", "content": "A", "id": "msg_67cc", "status": "incomplete" },
        { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_67",
          "namespace": "n" },
        { "type": "function_call_output", "call_id": "c", "output": "o", "id": "fc_kw0" },
    ]));
    assert_eq!(
        shorts(&chat),
        [
            json!({ "role": "Assistant", "extra": { "id": "msg_67cc", "status": "incomplete" },
            "parts": [
                { "text": "A" },
                { "call": "f", "id": "c", "arguments": "{}",
                  "extra": { "id": "fc_67", "namespace": "n" } },
            ]}),
            json!({ "role": "Tool", "answers": "c", "parts": [{ "text": "o" }] }),
        ]
    );
}

#[test]
fn thinking_comes_back_as_its_vendor_gave_it() {
    let reasoning = |more: Value| {
        let mut item = json!({ "type": "reasoning", "summary": [] });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shorts(&with(json!([item])))[0]["parts"][0].clone()
    };
    let text = |text: &str| json!({ "type": "summary_text", "text": text });
    assert_eq!(
        reasoning(json!({ "summary": [text("A"), text("B")], "encrypted_content": "s" })),
        json!({ "thinking": "A\n\nB", "signature": "s" })
    );
    assert_eq!(
        reasoning(json!({ "encrypted_content": "s" })),
        json!({ "thinking": "", "signature": "s" })
    );
    assert_eq!(
        reasoning(json!({ "encrypted_content": "keyward.redacted.data" })),
        json!({ "redacted": "data" })
    );
    assert_eq!(
        reasoning(
            json!({ "id": "rs_kw1", "content": [{ "type": "reasoning_text", "text": "C" }] })
        ),
        json!({ "thinking": "C", "signature": null })
    );
    // Without a cipher, an id of the vendor's own stands for what the vendor has stored.
    let stored = reasoning(json!({ "id": "rs_67" }));
    assert_eq!(stored["other"], "reasoning");
    assert!(stored["json"].as_str().unwrap().contains("rs_67"));
}

#[test]
fn items_nobody_knows_are_kept_word_for_word() {
    let body = r#"{"model":"m","input":[
        {"type":"web_search_call" , "id":"ws_1","action":{"b":1,"a":2}},
        {"type":"shell_call_output","call_id":"c","output":[{"stdout":"x"}]},
        {"id":"msg_1"}]}"#;
    let ResponsesRequest { chat, asked } = parse_response(body.as_bytes()).unwrap();
    let parts: Vec<Value> =
        shorts(&chat).iter().flat_map(|m| m["parts"].as_array().unwrap().clone()).collect();
    assert_eq!(parts[0]["other"], "web_search_call");
    assert_eq!(
        parts[0]["json"],
        r#"{"type":"web_search_call" , "id":"ws_1","action":{"b":1,"a":2}}"#
    );
    assert_eq!(parts[1]["other"], "shell_call_output");
    assert_eq!(parts[2]["other"], "item_reference");
    assert!(asked.refers);
}

#[test]
fn images_files_and_sounds_are_media() {
    let part = |part: Value| {
        let chat = with(json!([{ "role": "user", "content": [part] }]));
        let PartBody::Media(media) = chat.messages[0].parts[0].body.clone() else { panic!() };
        media
    };
    let Media { kind, media_type, source, detail, .. } = part(json!({
        "type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low",
        "file_id": null,
    }));
    assert_eq!(
        (kind, media_type.as_str(), detail.as_deref()),
        (MediaKind::Image, "image/png", Some("low"))
    );
    assert!(matches!(source, MediaSource::Base64(data) if &*data == "AAAA"));
    let file = part(json!({
        "type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ==",
    }));
    assert_eq!((file.kind, file.media_type.as_str()), (MediaKind::File, "application/pdf"));
    assert_eq!(file.name.as_deref(), Some("a.pdf"));
    let by_url = part(json!({ "type": "input_file", "file_url": "https://example.org/a.pdf" }));
    assert!(matches!(by_url.source, MediaSource::Url(_)));
    let by_id = part(json!({ "type": "input_image", "file_id": "file-1" }));
    assert!(matches!(by_id.source, MediaSource::FileId(id) if id == "file-1"));
    let sound = part(json!({
        "type": "input_audio", "input_audio": { "data": "AAAA", "format": "mp3" },
    }));
    assert_eq!((sound.kind, sound.media_type.as_str()), (MediaKind::Audio, "audio/mpeg"));
}

#[test]
fn fields_of_parts_go_along_and_parts_nobody_knows_are_put_together_again() {
    let unknown = json!({ "type": "later_part", "image_url": "x", "odd": { "a": [1] } });
    let chat = with(json!([{ "role": "user", "mood": "good", "content": [
        { "type": "input_text", "text": "Hi", "filename": "f", "odd": 1 },
        unknown,
    ]}]));
    let message = short(&chat.messages[0]);
    assert_eq!(message["extra"], json!({ "mood": "good" }));
    assert_eq!(message["parts"][0]["extra"], json!({ "odd": 1, "filename": "f" }));
    let json: Value = serde_json::from_str(message["parts"][1]["json"].as_str().unwrap()).unwrap();
    assert_eq!(json, unknown);
}

#[test]
fn a_plain_cache_mark_is_one_everywhere() {
    let part = |mark: Value| {
        let part = json!({ "type": "input_text", "text": "Hi", "prompt_cache_breakpoint": mark });
        with(json!([{ "role": "user", "content": [part] }])).messages[0].parts[0].clone()
    };
    assert_eq!(part(json!({ "mode": "explicit" })).cache.as_deref(), Some(""));
    let long = json!({ "mode": "explicit", "ttl": "12h" });
    let other = part(long.clone());
    assert_eq!(other.cache, None);
    assert_eq!(fields(&other.extra), json!({ "prompt_cache_breakpoint": long }));
}

// ---------------------------------------------------------------------------- what is not stored

fn warning(subject: &str) -> Warning {
    Warning { code: "dropped".into(), subject: subject.into(), message: String::new() }
}

#[test]
fn what_the_answer_hangs_on_must_not_be_dropped() {
    for (field, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!({ "id": "conv_1" })),
        ("prompt", json!({ "id": "pmpt_1" })),
    ] {
        let asked = parse(&json!({ "model": "m", "input": "Hi", field: value })).asked;
        let failure = asked.concerns(&warning(&format!("extra.{field}"))).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unsupported);
        assert_eq!(failure.param.as_deref(), Some(field));
        assert!(failure.message.contains(field), "{}", failure.message);
        // Alone it can be all there is to answer.
        assert!(parse(&json!({ "model": "m", field: value })).chat.messages.is_empty());
    }
    let asked = parse(&json!({ "model": "m", "input": [{ "id": "msg_1" }] })).asked;
    for subject in ["messages.parts", "messages.other"] {
        assert_eq!(asked.concerns(&warning(subject)).unwrap_err().param.as_deref(), Some("input"));
    }
}

#[test]
fn nobody_hears_of_a_loss_that_changes_nothing() {
    let asked = parse(&json!({
        "model": "m", "input": "Hi", "store": false, "truncation": "disabled",
        "background": false, "service_tier": "auto",
        "include": ["reasoning.encrypted_content"], "metadata": { "a": "b" },
    }))
    .asked;
    for (subject, heard) in [
        ("extra.store", false),
        ("extra.truncation", false),
        ("extra.background", false),
        ("extra.service_tier", false),
        ("extra.include", false),
        ("extra.metadata", true),
        ("messages.parts", true),
        ("sampling.top-p", true),
    ] {
        assert_eq!(asked.concerns(&warning(subject)).unwrap(), heard, "{subject}");
    }
    let asked = parse(&json!({
        "model": "m", "input": "Hi", "store": true, "truncation": "auto", "service_tier": "flex",
        "include": ["web_search_call.results"],
    }))
    .asked;
    for field in ["store", "truncation", "service_tier", "include"] {
        assert!(asked.concerns(&warning(&format!("extra.{field}"))).unwrap(), "{field}");
    }
}

#[test]
fn what_comes_later_is_refused_unless_it_is_streamed() {
    let request =
        |stream: bool| json!({ "model": "m", "input": "Hi", "background": true, "stream": stream });
    assert_eq!(refused(&request(false)).0, "background");
    // Such a name is that of a field inside an object, once it is told to an adapter.
    for name in ["text.verbosity", "reasoning.summary"] {
        let body = json!({ "model": "m", "input": "Hi", "text": {"verbosity": "low"}, name: 7 });
        assert_eq!(refused(&body).0, name);
    }
    let ResponsesRequest { chat, asked } = parse(&request(true));
    assert_eq!(fields(&chat.extra), json!({ "background": true }));
    assert!(asked.concerns(&warning("extra.background")).is_err());
}

// --------------------------------------------------------------------------------------- errors

#[test]
fn mistakes_are_told_with_their_path() {
    let image = |url: &str| {
        json!({ "model": "m", "input": [{ "role": "user", "content": [
            { "type": "input_image", "image_url": url }] }] })
    };
    let items = |item: Value| json!({ "model": "m", "input": ["_", item] });
    let with = |more: Value| {
        let mut body = json!({ "model": "m", "input": "Hi" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, path) in [
        (json!({ "input": "Hi" }), "model"),
        (json!({ "model": "m" }), "input"),
        (json!({ "model": "m", "input": [] }), "input"),
        (json!({ "model": "m", "input": 7 }), "input"),
        (with(json!({ "temperature": "hot" })), "temperature"),
        (with(json!({ "max_output_tokens": -1 })), "max_output_tokens"),
        (with(json!({ "tools": [{ "name": "f" }] })), "tools[0].type"),
        (with(json!({ "tools": [{ "type": "function" }] })), "tools[0].name"),
        (
            with(json!({ "tools": [{ "type": "function", "name": "f", "parameters": 1 }] })),
            "tools[0].parameters",
        ),
        (with(json!({ "tool_choice": "maybe" })), "tool_choice"),
        (with(json!({ "tool_choice": { "type": "function" } })), "tool_choice.name"),
        (
            with(json!({ "text": { "format": { "type": "json_schema", "name": "n" } } })),
            "text.format.schema",
        ),
        (with(json!({ "reasoning": { "effort": 3 } })), "reasoning.effort"),
        (with(json!({ "api_base": "http://x" })), "api_base"),
        (with(json!({ "metadata": { "base_url": "http://x" } })), "metadata.base_url"),
        (items(json!({})), "input[0]"),
        (image("file:///etc/passwd"), "input[0].content[0].image_url"),
        (image("data:text/plain;base64,AAAA"), "input[0].content[0].image_url"),
    ] {
        let (param, message) = refused(&body);
        assert_eq!(param, path, "{body}: {message}");
    }
    for (item, path) in [
        (json!({}), "type"),
        (json!({ "type": 7 }), ""),
        (json!({ "type": "input_image", "image_url": "https://example.com/a.png" }), "type"),
        (json!({ "role": "nobody", "content": "x" }), "role"),
        (json!({ "role": "user" }), "content"),
        (json!({ "type": "function_call", "name": "f" }), "call_id"),
        (
            json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{" }),
            "arguments",
        ),
        (json!({ "type": "function_call_output", "call_id": "c" }), "output"),
        (json!({ "type": "reasoning", "summary": [{}] }), "summary[0].text"),
        (json!({ "role": "user", "content": [{ "text": "x" }] }), "content[0].type"),
        (json!({ "role": "user", "content": [{ "type": "input_image" }] }), "content[0].image_url"),
        (
            json!({ "role": "user", "content": [{ "type": "message", "role": "system" }] }),
            "content[0].type",
        ),
        (
            json!({ "role": "assistant", "content": [{ "type": "later", "x": 1 }] }),
            "content[0].type",
        ),
        (
            json!({ "role": "user", "content": [{ "type": "shell_output", "x": 1 }] }),
            "content[0].type",
        ),
    ] {
        let body = json!({ "model": "m", "input": [{ "role": "user", "content": "a" }, item] });
        let (param, message) = refused(&body);
        let expected = if path.is_empty() { "input[1]".into() } else { format!("input[1].{path}") };
        assert_eq!(param, expected, "{message}");
    }
}

#[test]
fn no_body_makes_it_panic() {
    let whole = json!({
        "model": "m", "instructions": "i", "include": ["x"], "text": { "format": { "type": "text" } },
        "input": [
            { "role": "user", "content": [{ "type": "input_file", "file_id": "f" }] },
            { "type": "reasoning", "summary": [{ "text": "é" }], "encrypted_content": "e" },
            { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c", "output": "o" },
        ],
        "tools": [{ "type": "function", "name": "f" }], "tool_choice": { "type": "x" },
    })
    .to_string();
    assert!(parse_response(whole.as_bytes()).is_ok());
    for end in 0..whole.len() {
        assert!(parse_response(&whole.as_bytes()[..end]).is_err(), "{end}");
    }
    for from in 0..whole.len() {
        let mut spoilt = whole.clone().into_bytes();
        for byte in [b'"', b'{', b']', b'0', 0xff] {
            spoilt[from] = byte;
            let _ = parse_response(&spoilt);
        }
    }
}
