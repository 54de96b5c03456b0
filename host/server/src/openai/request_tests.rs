use keyward::{Failure, FailureKind};
use serde_json::json;

use super::*;
use crate::dialect::steering::STEERING;

fn chat(body: &str) -> Chat {
    parse_chat(body.as_bytes()).unwrap_or_else(|failure| panic!("{failure}\n{body}")).chat
}

fn with(fields: &str) -> ChatRequest {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
    parse_chat(body.as_bytes()).unwrap_or_else(|failure| panic!("{failure}\n{body}"))
}

fn message(json: &str) -> Message {
    chat(&format!(r#"{{"model":"m","messages":[{json}]}}"#)).messages.remove(0)
}

fn part(json: &str) -> Part {
    message(&format!(r#"{{"role":"user","content":[{json}]}}"#)).parts.remove(0)
}

fn refused(body: &str) -> Failure {
    match parse_chat(body.as_bytes()) {
        Ok(request) => panic!("was taken: {body}\n{request:?}"),
        Err(failure) => {
            assert_eq!(failure.kind, FailureKind::InvalidRequest);
            failure
        }
    }
}

fn text(part: &Part) -> &str {
    match &part.body {
        PartBody::Text(text) => text,
        other => panic!("{other:?} isn't text"),
    }
}

#[test]
fn a_plain_request_is_read() {
    let chat = chat(
        r#"{"model":"openai/gpt-5","messages":[
            {"role":"system","content":"Be brief."},
            {"role":"developer","content":[{"type":"text","text":"Be \"kind\"\n"}]},
            {"role":"user","content":"Grüße 🦀 \ud83e\udd80","name":"ann"}
        ]}"#,
    );
    assert_eq!(chat.model.as_str(), "openai/gpt-5");
    let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::Developer, Role::User]);
    assert_eq!(text(&chat.messages[1].parts[0]), "Be \"kind\"\n");
    assert_eq!(text(&chat.messages[2].parts[0]), "Grüße 🦀 🦀");
    assert_eq!(chat.messages[2].name.as_deref(), Some("ann"));
    assert!(!chat.stream);
    assert!(chat.tools.is_empty() && chat.tool_choice.is_none() && chat.reasoning.is_none());
    assert!(matches!(chat.format, Format::Text));
    assert_eq!(chat.dialect, Dialect::OpenAiChat);
    assert!(chat.extra.is_empty());
}

#[test]
fn sampling_and_stream_options_are_read() {
    let request = with(
        r#""max_completion_tokens":9,"temperature":0,"top_p":0.5,"top_k":40,"n":2,
           "frequency_penalty":-1.5,"presence_penalty":2,"seed":-3,"stop":["a","b"],
           "logprobs":true,"top_logprobs":4,"reasoning_effort":"high","parallel_tool_calls":false,
           "stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}"#,
    );
    assert!(request.include_usage);
    let chat = request.chat;
    assert!(chat.stream);
    assert!(chat.extra.is_empty(), "{:?}", chat.extra);
    let sampling = chat.sampling;
    assert_eq!(sampling.max_output_tokens, Some(9));
    assert_eq!(sampling.temperature, Some(0.0));
    assert_eq!(sampling.top_p, Some(0.5));
    assert_eq!(sampling.top_k, Some(40));
    assert_eq!(sampling.frequency_penalty, Some(-1.5));
    assert_eq!(sampling.presence_penalty, Some(2.0));
    assert_eq!(sampling.seed, Some(-3));
    assert_eq!(sampling.stop, ["a", "b"]);
    assert_eq!(sampling.choices, Some(2));
    assert_eq!(sampling.logprobs, Some(4));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!(chat.reasoning.unwrap().effort.as_deref(), Some("high"));

    assert_eq!(with(r#""max_tokens":7"#).chat.sampling.max_output_tokens, Some(7));
    assert_eq!(with(r#""stop":"end""#).chat.sampling.stop, ["end"]);
    assert_eq!(with(r#""logprobs":true"#).chat.sampling.logprobs, Some(0));
    assert_eq!(with(r#""logprobs":false"#).chat.sampling.logprobs, None);
}

#[test]
fn null_means_absent() {
    let request = with(
        r#""max_tokens":null,"temperature":null,"stop":null,"tools":null,"tool_choice":null,
           "response_format":null,"stream":null,"stream_options":null,"functions":null,
           "service_tier":null,"reasoning_effort":null,"n":null"#,
    );
    let chat = request.chat;
    assert!(chat.extra.is_empty() && chat.tools.is_empty() && chat.sampling.stop.is_empty());
}

#[test]
fn fields_nobody_here_knows_are_kept_where_they_were() {
    let chat = chat(
        r#"{"user":"u","metadata":{"a":"b"},"model":"m","logit_bias":{"50256": -100},
            "messages":[{"role":"user","mood":"good","content":[{"type":"text","text":"a","w":[1]}]}],
            "tools":[{"type":"function","function":{"name":"f"},"x":1}]}"#,
    );
    let fields: Vec<(&str, &str)> =
        chat.extra.iter().map(|field| (field.name.as_str(), field.value.get())).collect();
    let expected =
        [("user", "\"u\""), ("metadata", r#"{"a":"b"}"#), ("logit_bias", r#"{"50256": -100}"#)];
    assert_eq!(fields, expected);
    assert_eq!(chat.messages[0].extra[0].name, "mood");
    assert_eq!(chat.messages[0].parts[0].extra[0].value.get(), "[1]");
    assert_eq!(chat.tools[0].extra[0].name, "x");
}

#[test]
fn images_sounds_films_and_files_are_read() {
    let media = |json: &str| match part(json).body {
        PartBody::Media(media) => media,
        other => panic!("{other:?}"),
    };
    let image = media(
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}"#,
    );
    assert_eq!(image.kind, MediaKind::Image);
    assert_eq!(image.media_type, "image/png");
    assert_eq!(image.detail.as_deref(), Some("low"));
    assert!(matches!(image.source, MediaSource::Base64(data) if &*data == "AAAA"));

    let remote = media(r#"{"image_url":{"url":"https://a.test/b.png"},"type":"image_url"}"#);
    assert!(matches!(remote.source, MediaSource::Url(url) if &*url == "https://a.test/b.png"));

    let film = media(r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}}"#);
    assert_eq!((film.kind, film.media_type.as_str()), (MediaKind::Video, "video/mp4"));

    for (format, media_type) in [("wav", "audio/wav"), ("mp3", "audio/mpeg")] {
        let json =
            json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": format}});
        let sound = media(&json.to_string());
        assert_eq!((sound.kind, sound.media_type.as_str()), (MediaKind::Audio, media_type));
    }

    let file = media(
        r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AAAA"}}"#,
    );
    assert_eq!((file.kind, file.media_type.as_str()), (MediaKind::File, "application/pdf"));
    assert_eq!(file.name.as_deref(), Some("a.pdf"));
    let known = media(r#"{"type":"file","file":{"file_id":"file-1"}}"#);
    assert!(matches!(known.source, MediaSource::FileId(id) if id == "file-1"));
}

#[test]
fn a_part_of_an_unknown_type_goes_along_whole() {
    let part = part(
        r#"{"type":"note","text":"a\"b","x":{"y":[1, 2]},"cache_control":{"type":"ephemeral"}}"#,
    );
    assert_eq!(part.cache.as_deref(), Some(""));
    assert!(part.extra.is_empty());
    let PartBody::Other { kind, value } = part.body else { panic!("{:?}", part.body) };
    assert_eq!(kind, "note");
    let value: serde_json::Value = serde_json::from_str(value.get()).unwrap();
    assert_eq!(value, json!({"type": "note", "text": "a\"b", "x": {"y": [1, 2]}}));
}

#[test]
fn cache_marks_are_read_from_parts_and_tools() {
    let part =
        part(r#"{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}}"#);
    assert_eq!(part.cache.as_deref(), Some("1h"));
    let request = with(
        r#""tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]"#,
    );
    assert_eq!(request.chat.tools[0].cache.as_deref(), Some(""));
}

#[test]
fn tool_calls_and_their_results_are_read() {
    let call = message(
        r#"{"role":"assistant","content":null,"refusal":null,"tool_calls":[
            {"id":"call_1","type":"function","index":0,
             "function":{"name":"f","arguments":"{\"a\": [1]}"},
             "extra_content":{"google":{"thought_signature":"s"}}},
            {"id":"call_2","type":"function","function":{"name":"g","arguments":""}}]}"#,
    );
    let calls: Vec<(&str, &str, &str)> = call
        .parts
        .iter()
        .map(|part| match &part.body {
            PartBody::ToolCall(call) => {
                (call.id.as_str(), call.name.as_str(), call.arguments.get())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(calls, [("call_1", "f", "{\"a\": [1]}"), ("call_2", "g", "{}")]);
    assert_eq!(call.parts[0].extra[0].name, "extra_content");

    let result = message(r#"{"role":"tool","tool_call_id":"call_1","name":"f","content":"5"}"#);
    let answers = result.answers.unwrap();
    assert_eq!((answers.call_id.as_str(), answers.tool.as_str()), ("call_1", "f"));
    assert!(!answers.is_error);
    assert_eq!(text(&result.parts[0]), "5");
    assert!(result.name.is_none());
}

#[test]
fn earlier_thinking_comes_first_and_keeps_its_signature() {
    let message = message(
        r#"{"role":"assistant","content":"so","reasoning_content":"hm","thinking_blocks":[
            {"type":"thinking","thinking":"hm","signature":"sig"},
            {"type":"redacted_thinking","data":"xyz"}]}"#,
    );
    assert!(matches!(&message.parts[0].body,
        PartBody::Thinking { text, signature: Some(sig) } if &**text == "hm" && &**sig == "sig"));
    assert!(matches!(&message.parts[1].body, PartBody::RedactedThinking(data) if &**data == "xyz"));
    assert_eq!(text(&message.parts[2]), "so");

    let unsigned = self::message(r#"{"role":"assistant","content":"so","reasoning_content":"hm"}"#);
    assert!(matches!(&unsigned.parts[0].body, PartBody::Thinking { signature: None, .. }));
    let none = self::message(r#"{"role":"assistant","content":"so","reasoning_content":""}"#);
    assert_eq!(none.parts.len(), 1);
}

#[test]
fn refusals_are_read_from_message_and_part() {
    for json in [
        r#"{"role":"assistant","refusal":"no"}"#,
        r#"{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#,
    ] {
        assert!(matches!(&message(json).parts[0].body, PartBody::Refusal(text) if &**text == "no"));
    }
}

#[test]
fn an_answer_as_the_sdk_dumps_it_can_be_sent_back() {
    let message = message(
        r#"{"content":"Hi","refusal":null,"role":"assistant","annotations":[],"audio":null,
            "function_call":null,"tool_calls":null}"#,
    );
    assert_eq!(message.parts.len(), 1);
    assert_eq!(message.extra.len(), 1, "only the annotations aren't null");
}

#[test]
fn tools_are_read() {
    let request = with(
        r#""tools":[
            {"type":"function","function":{"name":"f","description":"d","strict":true,
             "parameters":{"type":"object", "properties":{"headers":{}}}}},
            {"type":"function","function":{"name":"g","parameters":null}},
            {"type":"web_search","filters":{"a":1}}]"#,
    );
    let [f, g, search] = &request.chat.tools[..] else { panic!() };
    assert_eq!((f.name.as_str(), f.description.as_deref(), f.strict), ("f", Some("d"), Some(true)));
    assert_eq!(f.parameters, r#"{"type":"object", "properties":{"headers":{}}}"#);
    assert_eq!(f.kind, "");
    assert_eq!((g.name.as_str(), g.parameters.as_str()), ("g", ""));
    assert_eq!((search.kind.as_str(), search.name.as_str()), ("web_search", ""));
    assert_eq!(search.extra[0].value.get(), r#"{"a":1}"#);
}

#[test]
fn tool_choices_are_read() {
    let choice = |json: &str| with(&format!("\"tool_choice\":{json}")).chat;
    assert!(matches!(choice(r#""auto""#).tool_choice, Some(ToolChoice::Auto)));
    assert!(matches!(choice(r#""none""#).tool_choice, Some(ToolChoice::None)));
    assert!(matches!(choice(r#""required""#).tool_choice, Some(ToolChoice::Required)));
    let named = choice(r#"{"type":"function","function":{"name":"f"}}"#).tool_choice;
    assert!(matches!(named, Some(ToolChoice::Tool(name)) if name == "f"));
    let other = r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#;
    let chat = choice(other);
    assert!(chat.tool_choice.is_none());
    assert_eq!((chat.extra[0].name.as_str(), chat.extra[0].value.get()), ("tool_choice", other));
}

#[test]
fn response_formats_are_read() {
    let format = |json: &str| with(&format!("\"response_format\":{json}")).chat;
    assert!(matches!(format(r#"{"type":"text"}"#).format, Format::Text));
    assert!(matches!(format(r#"{"type":"json_object"}"#).format, Format::Json));
    let json = r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type": "object"}}}"#;
    let Format::Schema(schema) = format(json).format else { panic!() };
    assert_eq!((schema.name.as_str(), schema.strict), ("n", Some(true)));
    assert_eq!(schema.schema, r#"{"type": "object"}"#);
    let other = format(r#"{"type":"grammar","grammar":"root ::= x"}"#);
    assert!(matches!(other.format, Format::Text));
    assert_eq!(other.extra[0].name, "response_format");
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let messages = |json: &str| format!(r#"{{"model":"m","messages":{json}}}"#);
    let one = |json: &str| messages(&format!("[{json}]"));
    let user = |json: &str| one(&format!(r#"{{"role":"user","content":{json}}}"#));
    let assistant = |json: &str| one(&format!(r#"{{"role":"assistant",{json}}}"#));
    let call = |json: &str| assistant(&format!("\"tool_calls\":[{json}]"));
    let top = |json: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{json}}}"#)
    };
    let url =
        |url: &str| user(&format!(r#"[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]"#));
    let table: Vec<(String, &str)> = vec![
        (r#"{"messages":[]}"#.into(), "model"),
        (r#"{"model":"m"}"#.into(), "messages"),
        (r#"{"model":null,"messages":[]}"#.into(), "model"),
        (r#"{"model":5,"messages":[]}"#.into(), "model"),
        (messages("[]"), "messages"),
        (messages("{}"), "messages"),
        (messages("\"hi\""), "messages"),
        (messages("[5]"), "messages[0]"),
        (messages(r#"[{"role":"user","content":"a"},{"content":"b"}]"#), "messages[1].role"),
        (one(r#"{"role":"bot","content":"a"}"#), "messages[0].role"),
        (one(r#"{"role":"function","content":"a","name":"f"}"#), "messages[0].role"),
        (one(r#"{"role":"user"}"#), "messages[0].content"),
        (one(r#"{"role":"system","content":null}"#), "messages[0].content"),
        (one(r#"{"role":"assistant"}"#), "messages[0].content"),
        (one(r#"{"role":"assistant","content":null,"tool_calls":[]}"#), "messages[0].content"),
        (one(r#"{"role":"tool","content":"5"}"#), "messages[0].tool_call_id"),
        (one(r#"{"role":"tool","tool_call_id":"c"}"#), "messages[0].content"),
        (
            one(r#"{"role":"tool","tool_call_id":"c\u0000","content":"5"}"#),
            "messages[0].tool_call_id",
        ),
        (one(r#"{"role":"user","content":"a","tool_call_id":"c"}"#), "messages[0].tool_call_id"),
        (one(r#"{"role":"user","content":"a","tool_calls":[]}"#), "messages[0].tool_calls"),
        (one(r#"{"role":"user","content":"a","refusal":"no"}"#), "messages[0].refusal"),
        (one(r#"{"role":"user","content":"a","content":"b"}"#), "messages[0].content"),
        (
            assistant(r#""function_call":{"name":"f","arguments":"{}"}"#),
            "messages[0].function_call",
        ),
        (assistant(r#""thinking_blocks":[{"type":"thinking"}]"#), "messages[0].thinking_blocks[0]"),
        (call(r#"{"type":"function","function":{"name":"f"}}"#), "messages[0].tool_calls[0].id"),
        (call(r#"{"id":"c"}"#), "messages[0].tool_calls[0].function"),
        (call(r#"{"id":"c","function":{}}"#), "messages[0].tool_calls[0].function.name"),
        (call(r#"{"id":"c","type":"custom"}"#), "messages[0].tool_calls[0].type"),
        (
            call(r#"{"id":"c","function":{"name":"f","arguments":"{\"a\":"}}"#),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            call(r#"{"id":"c","function":{"name":"f","arguments":{}}}"#),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (user("5"), "messages[0].content"),
        (user("[]"), "messages[0].content"),
        (user(r#"["a"]"#), "messages[0].content[0]"),
        (user(r#"[{"text":"a"}]"#), "messages[0].content[0].type"),
        (user(r#"[{"type":"text"}]"#), "messages[0].content[0].text"),
        (user(r#"[{"type":"text","text":5}]"#), "messages[0].content[0].text"),
        (user(r#"[{"type":"image_url"}]"#), "messages[0].content[0].image_url"),
        (
            user(r#"[{"type":"image_url","image_url":"https://a.test/"}]"#),
            "messages[0].content[0].image_url",
        ),
        (user(r#"[{"type":"image_url","image_url":{}}]"#), "messages[0].content[0].image_url.url"),
        (user(r#"[{"type":"text","text":"a","file":{}}]"#), "messages[0].content[0].file"),
        (url("data:image/png;base64,A"), "messages[0].content[0].image_url.url"),
        (url("data:text/html;base64,AAAA"), "messages[0].content[0].image_url.url"),
        (url("file:///etc/passwd"), "messages[0].content[0].image_url.url"),
        (
            user(r#"[{"type":"input_audio","input_audio":{"data":"AAAA"}}]"#),
            "messages[0].content[0].input_audio",
        ),
        (
            user(r#"[{"type":"input_audio","input_audio":{"data":"A","format":"wav"}}]"#),
            "messages[0].content[0].input_audio.data",
        ),
        (
            user(r#"[{"type":"input_audio","input_audio":{"data":"AAAA","format":"w/v"}}]"#),
            "messages[0].content[0].input_audio.format",
        ),
        (user(r#"[{"type":"file","file":{}}]"#), "messages[0].content[0].file"),
        (
            user(r#"[{"type":"file","file":{"file_id":"f","file_data":"data:a/b;base64,AAAA"}}]"#),
            "messages[0].content[0].file",
        ),
        (
            user(r#"[{"type":"file","file":{"file_data":"AAAA"}}]"#),
            "messages[0].content[0].file.file_data",
        ),
        (top(r#""temperature":"hot""#), "temperature"),
        (top(r#""max_tokens":-1"#), "max_tokens"),
        (top(r#""max_tokens":1.5"#), "max_tokens"),
        (top(r#""max_tokens":1,"max_completion_tokens":1"#), "max_tokens"),
        (top(r#""n":0"#), "n"),
        (top(r#""n":129"#), "n"),
        (top(r#""seed":9223372036854775808"#), "seed"),
        (top(r#""stop":5"#), "stop"),
        (top(r#""stop":["a",5]"#), "stop[1]"),
        (top(r#""stream":"yes""#), "stream"),
        (top(r#""stream_options":{"include_usage":true}"#), "stream_options"),
        (
            top(r#""stream":true,"stream_options":{"include_usage":1}"#),
            "stream_options.include_usage",
        ),
        (top(r#""top_logprobs":2"#), "top_logprobs"),
        (top(r#""functions":[]"#), "functions"),
        (top(r#""function_call":"auto""#), "function_call"),
        (top(r#""reasoning_effort":"a\nb""#), "reasoning_effort"),
        (top(r#""tools":[{"function":{"name":"f"}}]"#), "tools[0].type"),
        (top(r#""tools":[{"type":"function"}]"#), "tools[0].function"),
        (top(r#""tools":[{"type":"function","function":{}}]"#), "tools[0].function.name"),
        (
            top(r#""tools":[{"type":"function","function":{"name":"a\u0000"}}]"#),
            "tools[0].function.name",
        ),
        (
            top(r#""tools":[{"type":"function","function":{"name":"f","parameters":"{}"}}]"#),
            "tools[0].function.parameters",
        ),
        (top(r#""tool_choice":"any""#), "tool_choice"),
        (top(r#""tool_choice":{"type":"function"}"#), "tool_choice.function.name"),
        (
            top(r#""tool_choice":{"type":"function","function":{"name":5}}"#),
            "tool_choice.function.name",
        ),
        (top(r#""response_format":"json""#), "response_format"),
        (top(r#""response_format":{}"#), "response_format.type"),
        (top(r#""response_format":{"type":"json_schema"}"#), "response_format.json_schema.name"),
        (
            top(r#""response_format":{"type":"json_schema","json_schema":{"name":"n"}}"#),
            "response_format.json_schema.schema",
        ),
        (top(r#""user":"a","user":"b""#), "user"),
        (top(r#""n":1,"n":2"#), "n"),
    ];
    for (body, param) in &table {
        let failure = refused(body);
        assert_eq!(failure.param.as_deref(), Some(*param), "{body}\n{failure}");
        assert!(failure.message.contains(param.rsplit('.').next().unwrap()), "{failure}");
        assert!(!failure.message.contains(" at line "), "{failure}");
    }
}

#[test]
fn model_names_that_could_become_headers_or_paths_are_refused() {
    for model in ["", " ", "a b", "a\r\nx: y", "a\u{0}", "modèle", &"m".repeat(300)] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(refused(&body.to_string()).param.as_deref(), Some("model"), "{model:?}");
    }
}

#[test]
fn fields_that_steer_the_host_are_refused() {
    for name in
        STEERING.iter().copied().chain(["API_BASE", "Base-Url", "x\u{0}"].into_iter().take(2))
    {
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], name: "x"});
        assert_eq!(refused(&body.to_string()).param.as_deref(), Some(name));
    }
    for (metadata, param) in [
        (json!({"api_base": "x"}), "metadata.api_base"),
        (json!({"a": {"b": [{"headers": {}}]}}), "metadata.a.b.0.headers"),
    ] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "metadata": metadata});
        assert_eq!(refused(&body.to_string()).param.as_deref(), Some(param));
    }
    // The same words in a prompt, a schema or a harmless place mean nothing.
    with(r#""metadata":{"topic":"base_url"},"user":"headers""#);
}

#[test]
fn what_isnt_json_is_refused_with_line_and_column() {
    for body in
        ["", " ", "{", "[]", "5", "\"a\"", "{\"model\":\"m\"} x", "{\"model\":\"\u{1}\"}", "nul"]
    {
        let failure = refused(body);
        assert_eq!(failure.param, None, "{body}");
    }
    assert!(refused("{\n\"model\": x}").message.contains("line 2, column"));
    let invalid = parse_chat(b"{\"model\":\"\xff\"}").unwrap_err();
    assert_eq!(invalid.kind, FailureKind::InvalidRequest);
    refused(r#"{"model":"m","messages":[{"role":"user","content":"\ud800"}]}"#);
}

#[test]
fn deep_nesting_is_refused_wherever_it_stands() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    refused(&deep(100_000));
    for field in ["user", "metadata", "messages", "tools", "response_format", "tool_choice"] {
        let mut body = format!(r#"{{"model":"m","{field}":{}"#, deep(100_000));
        if field != "messages" {
            body.push_str(r#","messages":[{"role":"user","content":"hi"}]"#);
        }
        body.push('}');
        refused(&body);
    }
    let arguments = deep(100_000);
    let body = json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [
        {"id": "c", "function": {"name": "f", "arguments": arguments}}]}]});
    let failure = refused(&body.to_string());
    assert_eq!(failure.param.as_deref(), Some("messages[0].tool_calls[0].function.arguments"));
    with(&format!("\"x\":{}", deep(read::MAX_DEPTH)));
    with(r#""x":"[[[[[[ \" ]]] {{{""#);
}

#[test]
fn a_body_is_cut_into_a_bounded_number_of_pieces() {
    let many = |n: usize| vec![r#"{"role":"user","content":""}"#; n].join(",");
    let body = |n: usize| format!(r#"{{"model":"m","messages":[{}]}}"#, many(n));
    assert_eq!(chat(&body(10_000)).messages.len(), 10_000);
    let failure = refused(&body(read::MAX_ITEMS as usize + 1));
    assert!(failure.message.contains("65536"), "{failure}");

    let unknown: Vec<String> = (0..=read::MAX_UNKNOWN).map(|n| format!("\"x{n}\":1")).collect();
    let fields = |n: usize| unknown[..n].join(",");
    with(&fields(read::MAX_UNKNOWN));
    refused(&format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}],{}}}"#,
        fields(read::MAX_UNKNOWN + 1)
    ));
}

#[test]
fn a_message_about_a_huge_value_is_short() {
    let huge = "ä".repeat(1_000_000);
    let failure = refused(&format!(r#"{{"model":"m","messages":"{huge}"}}"#));
    assert!(failure.message.len() < 1_000);
    let failure = refused(&format!(r#"{{"model":"m","{huge}":1,"{huge}":2}}"#));
    assert!(failure.message.len() < 1_500 && failure.param.unwrap().len() < 500);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = parse_chat(&bytes);
    }

    #[test]
    fn no_broken_request_makes_it_panic(cut in 0_usize..400, byte: u8, keep: bool) {
        let mut body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a\u00e4"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"assistant",
            "tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]}],"stop":["a"],
            "tools":[{"type":"function","function":{"name":"f","parameters":{"a":[]}}}],"x":{"y":[1,2]}}"#.to_vec();
        let at = cut.min(body.len() - 1);
        if keep { body[at] = byte } else { body.truncate(at) }
        let _ = parse_chat(&body);
    }
}
