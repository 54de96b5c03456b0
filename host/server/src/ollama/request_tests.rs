use keyward::FailureKind;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";

fn chat_of(request: Request) -> Chat {
    match request {
        Request::Chat(chat) => *chat,
        Request::Load { .. } => panic!("nothing to answer"),
    }
}

fn parse(body: Value) -> Chat {
    chat_of(parse_chat(body.to_string().as_bytes()).unwrap())
}

fn generated(body: Value) -> Chat {
    chat_of(parse_generate(body.to_string().as_bytes()).unwrap())
}

/// A chat with these fields beside a model and a message.
fn with(fields: Value) -> Result<Request, Failure> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    parse_chat(body.to_string().as_bytes())
}

fn chat_with(fields: Value) -> Chat {
    chat_of(with(fields).unwrap())
}

fn names(fields: &[Field]) -> Vec<(&str, &str)> {
    fields.iter().map(|field| (field.name.as_str(), field.value.get())).collect()
}

fn text(part: &Part) -> &str {
    match &part.body {
        PartBody::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

fn answers(message: &Message) -> (&str, &str) {
    let answers = message.answers.as_ref().unwrap();
    (&answers.call_id, &answers.tool)
}

#[test]
fn a_chat_streams_unless_told_otherwise() {
    assert!(chat_with(json!({})).stream);
    assert!(chat_with(json!({"stream": null})).stream);
    assert!(!chat_with(json!({"stream": false})).stream);
}

#[test]
fn options_find_their_places_and_unknown_ones_keep_their_names() {
    let chat = chat_with(json!({
        "options": {
            "temperature": 0, "top_p": 0.5, "top_k": 20.0, "seed": -3, "num_predict": 64,
            "stop": ["a", "b"], "frequency_penalty": 0.1, "presence_penalty": 0.2,
            "num_ctx": 8192, "mirostat": 1, "min_p": null,
        },
        "keep_alive": "5m",
        "shift": false,
    }));
    let sampling = &chat.sampling;
    assert_eq!(sampling.temperature, Some(0.0));
    assert_eq!(sampling.top_p, Some(0.5));
    assert_eq!(sampling.top_k, Some(20));
    assert_eq!(sampling.seed, Some(-3));
    assert_eq!(sampling.max_output_tokens, Some(64));
    assert_eq!(sampling.stop, ["a", "b"]);
    assert_eq!(sampling.frequency_penalty, Some(0.1));
    assert_eq!(sampling.presence_penalty, Some(0.2));
    let expected = [
        ("keep_alive", "\"5m\""),
        ("shift", "false"),
        ("options.num_ctx", "8192"),
        ("options.mirostat", "1"),
    ];
    assert_eq!(names(&chat.extra), expected);
    assert_eq!(chat.dialect, Dialect::Ollama);
}

#[test]
fn numbers_that_only_ollama_understands_go_to_it_as_they_are() {
    let chat = chat_with(json!({"options": {"num_predict": -1, "top_k": -2}}));
    assert_eq!(chat.sampling.max_output_tokens, None);
    assert_eq!(chat.sampling.top_k, None);
    let expected = [("options.num_predict", "-1"), ("options.top_k", "-2")];
    assert_eq!(names(&chat.extra), expected);
    let zeros = chat_with(json!({"options": {"num_predict": 0, "top_k": 0}}));
    assert_eq!(zeros.sampling.max_output_tokens, None, "no vendor writes nothing");
    assert_eq!(zeros.sampling.top_k, Some(0));
    assert_eq!(names(&zeros.extra), [("options.num_predict", "0")]);
}

#[test]
fn fields_that_nobody_knows_are_kept_at_each_level() {
    let chat = parse(json!({
        "model": "m",
        "future": {"a": [1, 2]},
        "options": {"future_option": 0.5},
        "messages": [{"role": "user", "content": "Hi", "mood": "good"}],
        "tools": [{"type": "function", "function": {"name": "t"}, "weight": 3}],
    }));
    assert_eq!(
        names(&chat.extra),
        [("future", r#"{"a":[1,2]}"#), ("options.future_option", "0.5")]
    );
    assert_eq!(names(&chat.messages[0].extra), [("mood", "\"good\"")]);
    assert_eq!(names(&chat.tools[0].extra), [("weight", "3")]);
}

#[test]
fn thinking_is_a_switch_or_a_level() {
    for (think, effort) in [(json!(true), "medium"), (json!(false), "none"), (json!("low"), "low")]
    {
        let reasoning = chat_with(json!({"think": think})).reasoning.unwrap();
        assert_eq!(reasoning.effort.as_deref(), Some(effort));
        assert_eq!(reasoning.budget_tokens, None);
    }
    assert!(chat_with(json!({"think": null})).reasoning.is_none());
}

#[test]
fn a_format_is_nothing_json_or_a_schema() {
    assert!(matches!(chat_with(json!({"format": ""})).format, Format::Text));
    assert!(matches!(chat_with(json!({"format": null})).format, Format::Text));
    assert!(matches!(chat_with(json!({"format": "json"})).format, Format::Json));
    let schema = json!({"type": "object"});
    match chat_with(json!({"format": schema})).format {
        Format::Schema(found) => {
            assert_eq!(serde_json::from_str::<Value>(&found.schema).unwrap(), schema);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn probabilities_are_asked_for_by_two_fields() {
    let logprobs = |fields: Value| chat_with(fields).sampling.logprobs;
    assert_eq!(logprobs(json!({"logprobs": true})), Some(0));
    assert_eq!(logprobs(json!({"logprobs": true, "top_logprobs": 3})), Some(3));
    assert_eq!(logprobs(json!({"logprobs": false, "top_logprobs": 0})), None);
    let failure = with(json!({"top_logprobs": 3})).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("top_logprobs"));
}

#[test]
fn a_message_has_images_before_its_text_and_calls_after() {
    let chat = parse(json!({"model": "m", "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What?", "images": [PNG]},
        {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [
            {"function": {"name": "t", "arguments": {"x": 1}}},
        ]},
        {"role": "assistant"},
    ]}));
    assert_eq!(chat.messages[0].role, Role::System);
    let user = &chat.messages[1].parts;
    match &user[0].body {
        PartBody::Media(media) => {
            assert_eq!(media.media_type, "image/png");
            assert!(matches!(&media.source, MediaSource::Base64(data) if &**data == PNG));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(text(&user[1]), "What?");
    let assistant = &chat.messages[2].parts;
    assert_eq!(assistant.len(), 2);
    assert!(matches!(&assistant[0].body, PartBody::Thinking { signature: None, .. }));
    match &assistant[1].body {
        PartBody::ToolCall(call) => {
            assert_eq!((call.id.as_str(), call.name.as_str()), ("call_2_0", "t"));
            assert_eq!(call.arguments.get(), r#"{"x":1}"#);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(text(&chat.messages[3].parts[0]), "");
}

#[test]
fn signed_thinking_comes_back_as_it_went_out() {
    let chat = parse(json!({"model": "m", "messages": [
        {"role": "assistant", "content": "A", "thinking": "Hm", "thinking_blocks": [
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
        ]},
    ]}));
    let parts = &chat.messages[0].parts;
    assert_eq!(parts.len(), 3, "the same thinking isn't sent twice");
    assert!(
        matches!(&parts[0].body, PartBody::Thinking { signature: Some(sig), .. } if &**sig == "sig")
    );
    assert!(matches!(&parts[1].body, PartBody::RedactedThinking(data) if &**data == "xyz"));
}

#[test]
fn results_answer_calls_by_id_by_name_or_in_order() {
    let call = |name: &str| json!({"function": {"name": name, "arguments": {}}});
    let ask = |results: Value| {
        let mut messages = vec![json!({"role": "assistant", "tool_calls": [
            call("a"), call("b"), {"id": "own", "function": {"name": "a"}},
        ]})];
        messages.extend(results.as_array().unwrap().clone());
        parse(json!({"model": "m", "messages": messages})).messages.split_off(1)
    };
    let tool = |fields: Value| {
        let mut message = json!({"role": "tool", "content": "r"});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    let found = |messages: &[Message]| -> Vec<(String, String)> {
        let all = messages.iter().map(answers);
        all.map(|(id, tool)| (id.to_owned(), tool.to_owned())).collect()
    };
    let pair = |id: &str, tool: &str| (id.to_owned(), tool.to_owned());

    let in_order = ask(json!([tool(json!({})), tool(json!({})), tool(json!({}))]));
    let expected = [pair("call_0_0", "a"), pair("call_0_1", "b"), pair("own", "a")];
    assert_eq!(found(&in_order), expected);

    let by_name = ask(json!([
        tool(json!({"tool_name": "b"})),
        tool(json!({"tool_name": "a"})),
        tool(json!({"tool_name": "a"})),
    ]));
    let expected = [pair("call_0_1", "b"), pair("call_0_0", "a"), pair("own", "a")];
    assert_eq!(found(&by_name), expected);

    let by_id = ask(json!([tool(json!({"tool_call_id": "own"})), tool(json!({"tool_name": "a"}))]));
    assert_eq!(found(&by_id), [pair("own", "a"), pair("call_0_0", "a")]);

    let to_nothing = ask(json!([tool(json!({"tool_name": "c"}))]));
    assert_eq!(found(&to_nothing), [pair("call_1", "c")]);
}

#[test]
fn a_generation_is_a_chat_of_one_message() {
    let chat = generated(json!({
        "model": "m", "prompt": "Hi", "system": "Be brief.", "images": [PNG], "stream": false,
        "suffix": "", "template": "", "raw": false, "context": [], "options": {"num_ctx": 1},
        "keep_alive": 5,
    }));
    assert!(!chat.stream);
    assert_eq!(chat.messages.len(), 2);
    assert_eq!(chat.messages[0].role, Role::System);
    assert_eq!(chat.messages[1].role, Role::User);
    assert_eq!(chat.messages[1].parts.len(), 2);
    assert_eq!(text(&chat.messages[1].parts[1]), "Hi");
    assert_eq!(names(&chat.extra), [("keep_alive", "5"), ("options.num_ctx", "1")]);
}

#[test]
fn what_a_chat_cannot_express_is_refused() {
    for (field, value) in [
        ("raw", json!(true)),
        ("template", json!("{{ .Prompt }}")),
        ("suffix", json!("end")),
        ("context", json!([1, 2])),
    ] {
        let mut body = json!({"model": "m", "prompt": "Hi"});
        body[field] = value;
        let failure = parse_generate(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some(field), "{failure}");
        assert_eq!(failure.kind, FailureKind::InvalidRequest);
    }
}

#[test]
fn a_request_without_a_prompt_loads_or_unloads() {
    for (keep_alive, unloads) in [
        (json!(null), false),
        (json!("5m"), false),
        (json!(-1), false),
        (json!(0), true),
        (json!("0"), true),
        (json!("0s"), true),
    ] {
        let chat = json!({"model": "m", "messages": [], "keep_alive": keep_alive}).to_string();
        let generate = json!({"model": "m", "prompt": "", "keep_alive": keep_alive}).to_string();
        for request in
            [parse_chat(chat.as_bytes()).unwrap(), parse_generate(generate.as_bytes()).unwrap()]
        {
            match request {
                Request::Load { model, unload } => {
                    assert_eq!(model.as_str(), "m");
                    assert_eq!(unload, unloads, "{keep_alive}");
                }
                Request::Chat(_) => panic!("{keep_alive}"),
            }
        }
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let message = |message: Value| json!({"model": "m", "messages": [message]});
    for (body, param) in [
        (json!({"messages": []}), "model"),
        (json!({"model": "", "messages": []}), "model"),
        (json!({"model": "m", "messages": "Hi"}), "messages"),
        (message(json!({"content": "Hi"})), "messages[0].role"),
        (message(json!({"role": "nobody"})), "messages[0].role"),
        (message(json!({"role": "user", "content": ["Hi"]})), "messages[0].content"),
        (
            message(json!({"role": "user", "images": ["data:image/png;base64,AAAA"]})),
            "messages[0].images[0]",
        ),
        (
            message(
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "t", "arguments": "{}"}}]}),
            ),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            message(json!({"role": "assistant", "tool_calls": [{"function": {}}]})),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            message(json!({"role": "assistant", "thinking_blocks": [{"type": "x"}]})),
            "messages[0].thinking_blocks[0]",
        ),
        (json!({"model": "m", "tools": [{"type": "function"}]}), "tools[0].function.name"),
        (json!({"model": "m", "options": {"temperature": "hot"}}), "options.temperature"),
        (json!({"model": "m", "options": {"seed": 1e300}}), "options.seed"),
        (json!({"model": "m", "options": {"api_key": "x"}}), "api_key"),
        (json!({"model": "m", "api_base": "http://x"}), "api_base"),
        (json!({"model": "m", "think": 3}), "think"),
        (json!({"model": "m", "format": "yaml"}), "format"),
    ] {
        let failure = parse_chat(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some(param), "{body}: {failure}");
        assert_eq!(failure.kind, FailureKind::InvalidRequest);
    }
}

#[test]
fn the_type_of_an_image_is_told_from_its_first_bytes() {
    let cases: [(&[u8], &str); 9] = [
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"\xff\xd8\xff\xe0........", "image/jpeg"),
        (b"GIF89a......", "image/gif"),
        (b"RIFF....WEBP", "image/webp"),
        (b"RIFF....WAVE", ""),
        (b"BM..........", "image/bmp"),
        (b"II*\0........", "image/tiff"),
        (b"....ftypavif", "image/avif"),
        (b"short", ""),
    ];
    for (bytes, kind) in cases {
        assert_eq!(image_type(&STANDARD.encode(bytes)), kind, "{bytes:?}");
    }
    assert_eq!(image_type(""), "");
}

proptest! {
    /// Whatever is sent, it is read or refused.
    #[test]
    fn no_body_breaks_the_reader(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_chat(&body);
        let _ = parse_generate(&body);
    }

    #[test]
    fn no_conversation_breaks_the_reader(
        turns in prop::collection::vec((0..5_usize, 0..4_usize, any::<bool>(), ".{0,6}"), 0..12),
    ) {
        let roles = ["user", "assistant", "tool", "system", "?"];
        let messages: Vec<Value> = turns
            .iter()
            .map(|(role, calls, named, text)| {
                let call = json!({"function": {"name": text, "arguments": {}}});
                let mut message = json!({"role": roles[*role], "content": text});
                message["tool_calls"] = Value::from(vec![call; *calls]);
                if *named {
                    message["tool_name"] = json!(text);
                }
                message
            })
            .collect();
        let body = json!({"model": "m", "messages": messages}).to_string();
        if let Ok(Request::Chat(chat)) = parse_chat(body.as_bytes()) {
            let ids = chat.messages.iter().filter_map(|message| message.answers.as_ref());
            let mut ids: Vec<&str> = ids.map(|answer| answer.call_id.as_str()).collect();
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), count, "two results for one call");
        }
    }
}
