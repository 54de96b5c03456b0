use keyward::FailureKind;
use serde_json::{Value, json};

use super::*;
use crate::dialect::steering::STEERING;

fn read(body: &Value) -> MessagesRequest {
    let body = body.to_string();
    parse_messages(body.as_bytes()).unwrap_or_else(|failure| panic!("{failure}\n{body}"))
}

/// A request with these fields beside the necessary ones.
fn with(fields: Value) -> Chat {
    let mut body = json!({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    read(&body).chat
}

fn messages(messages: Value) -> Vec<Message> {
    with(json!({ "messages": messages })).messages
}

fn block(block: Value) -> Part {
    messages(json!([{ "role": "user", "content": [block] }])).remove(0).parts.remove(0)
}

fn refused(body: &str) -> Failure {
    let failure = parse_messages(body.as_bytes()).expect_err(body);
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    failure
}

fn names(fields: &[Field]) -> Vec<(&str, Value)> {
    let pair = |field: &Field| serde_json::from_str(field.value.get()).unwrap();
    fields.iter().map(|field| (field.name.as_str(), pair(field))).collect()
}

fn other(part: &Part) -> Value {
    match &part.body {
        PartBody::Other { value, .. } => serde_json::from_str(value.get()).unwrap(),
        body => panic!("{body:?}"),
    }
}

fn text(part: &Part) -> &str {
    match &part.body {
        PartBody::Text(text) => text,
        body => panic!("{body:?} isn't text"),
    }
}

#[test]
fn a_plain_request_is_read() {
    let chat = with(json!({
        "model": "anthropic/claude", "system": "Be brief.", "temperature": 0.5, "top_p": 0.9,
        "top_k": 4, "stop_sequences": ["END"], "stream": true,
        "messages": [
            {"role": "user", "content": "Grüße 🦀"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "system", "content": "Now be long."},
            {"role": "user", "content": []},
        ],
    }));
    assert_eq!(chat.model.as_str(), "anthropic/claude");
    let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
    let expected = [Role::System, Role::User, Role::Assistant, Role::System, Role::User];
    assert_eq!(roles, expected);
    assert_eq!(text(&chat.messages[0].parts[0]), "Be brief.");
    assert_eq!(text(&chat.messages[1].parts[0]), "Grüße 🦀");
    let Sampling { max_output_tokens, temperature, top_p, top_k, stop, .. } = chat.sampling;
    assert_eq!((max_output_tokens, temperature, top_p), (Some(9), Some(0.5), Some(0.9)));
    assert_eq!((top_k, stop), (Some(4), vec!["END".to_owned()]));
    assert!(chat.stream);
    assert_eq!(chat.dialect, Dialect::AnthropicMessages);
    assert!(chat.extra.is_empty() && chat.reasoning.is_none());
}

#[test]
fn what_must_be_there_is_asked_for_by_name() {
    for (body, param) in [
        (r#"{}"#, "model"),
        (r#"{"model":"m","max_tokens":1}"#, "messages"),
        (r#"{"model":"m","max_tokens":1,"messages":[]}"#, "messages"),
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, "max_tokens"),
    ] {
        assert_eq!(refused(body).param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn a_count_needs_no_limit_and_keeps_the_body() {
    let body =
        r#"{"messages":[{"role":"user","content":"x"}],"model":"m","thinking":null,"w":[1]}"#;
    let count = parse_count(body.as_bytes()).unwrap();
    assert_eq!(count.chat.model.as_str(), "m");
    let expected = vec![("messages", json!([{"role": "user", "content": "x"}])), ("w", json!([1]))];
    assert_eq!(names(&count.fields), expected);
}

#[test]
fn the_order_of_a_blocks_fields_makes_no_difference() {
    for block_json in [
        r#"{"type":"text","text":"a\n🦀","cache_control":{"type":"ephemeral"},"x":{"y":1}}"#,
        r#"{"x":{"y":1},"text":"a\n🦀","cache_control":{"type":"ephemeral"},"type":"text"}"#,
        r#"{"text":"a\n🦀","type":"text","x":{"y":1},"cache_control":{"type":"ephemeral"}}"#,
    ] {
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{block_json}]}}]}}"#
        );
        let chat = parse_messages(body.as_bytes()).unwrap().chat;
        let part = &chat.messages[0].parts[0];
        assert_eq!(text(part), "a\n🦀");
        assert_eq!(part.cache.as_deref(), Some(""));
        assert_eq!(names(&part.extra), [("x", json!({"y": 1}))]);
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (block, param) in [
        (r#"{"text":"a"}"#, "messages[0].content[0].type"),
        (r#"{"type":"text"}"#, "messages[0].content[0].text"),
        (r#"{"type":"text","text":1}"#, "messages[0].content[0].text"),
        (r#"{"text":1,"type":"text"}"#, "messages[0].content[0].text"),
        (
            r#"{"type":"image","source":{"type":"base64","data":"AAAA"}}"#,
            "messages[0].content[0].source.media_type",
        ),
        (
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"A"}}"#,
            "messages[0].content[0].source.data",
        ),
        (
            r#"{"type":"image","source":{"type":"base64","media_type":"text/html","data":"AAAA"}}"#,
            "messages[0].content[0].source.media_type",
        ),
        (
            r#"{"type":"image","source":{"type":"url","url":"file:///etc/passwd"}}"#,
            "messages[0].content[0].source.url",
        ),
        (r#"{"type":"tool_use","id":"t","name":"f","input":[]}"#, "messages[0].content[0].input"),
        (r#"{"type":"tool_result"}"#, "messages[0].content[0].tool_use_id"),
        (
            r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"tool_result"}]}"#,
            "messages[0].content[0].content[0].type",
        ),
        ("7", "messages[0].content[0]"),
    ] {
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{block}]}}]}}"#
        );
        assert_eq!(refused(&body).param.as_deref(), Some(param), "{block}");
    }
    let role = r#"{"model":"m","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}"#;
    assert_eq!(refused(role).param.as_deref(), Some("messages[0].role"));
    let misplaced = r#"{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"t"}]}]}"#;
    assert_eq!(refused(misplaced).param.as_deref(), Some("messages[0].content[0].type"));
}

#[test]
fn results_of_tools_become_messages_of_their_own() {
    let all = messages(json!([{ "role": "user", "mood": "good", "content": [
        {"type": "tool_result", "tool_use_id": "a", "content": "sunny", "is_error": true},
        {"type": "tool_result", "tool_use_id": "b", "toolset_name": "browser",
            "cache_control": {"type": "ephemeral"},
            "content": [{"type": "text", "text": "x"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
        {"type": "tool_result", "tool_use_id": "c"},
        {"type": "text", "text": "And now?"},
    ]}]));
    let answers: Vec<_> =
        all.iter().filter_map(|m| Some((&*m.answers.as_ref()?.call_id, m.role))).collect();
    assert_eq!(answers, [("a", Role::Tool), ("b", Role::Tool), ("c", Role::Tool)]);
    assert!(all[0].answers.as_ref().unwrap().is_error);
    assert_eq!(all[1].parts.len(), 2);
    let extra =
        [("toolset_name", json!("browser")), ("cache_control", json!({"type": "ephemeral"}))];
    assert_eq!(names(&all[1].extra), extra);
    assert_eq!(text(&all[2].parts[0]), "");
    assert_eq!((all[3].role, text(&all[3].parts[0])), (Role::User, "And now?"));
    assert_eq!(names(&all[3].extra), [("mood", json!("good"))]);
}

#[test]
fn a_field_without_a_home_is_a_warning() {
    let request = read(&json!({"model": "m", "max_tokens": 1, "messages": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}], "mood": 1},
    ]}));
    assert_eq!(request.warnings.header().unwrap(), "dropped messages.extra");
}

#[test]
fn calls_and_thinking_are_read_as_they_were_given() {
    let all = messages(json!([{ "role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "thinking", "thinking": "of another vendor", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}},
    ]}]));
    let parts = &all[0].parts;
    assert!(matches!(&parts[0].body,
        PartBody::Thinking { text, signature: Some(sig) } if &**text == "hm" && &**sig == "sig"));
    assert!(matches!(&parts[1].body, PartBody::Thinking { signature: None, .. }));
    assert!(matches!(&parts[2].body, PartBody::RedactedThinking(data) if &**data == "xyz"));
    let PartBody::ToolCall(call) = &parts[3].body else { panic!("{:?}", parts[3]) };
    assert_eq!((&*call.id, &*call.name, call.arguments.get()), ("t1", "f", r#"{"a":1}"#));
    assert_eq!(names(&parts[3].extra), [("caller", json!({"type": "direct"}))]);
}

#[test]
fn images_and_pdfs_are_read() {
    let media = |json: Value| match block(json).body {
        PartBody::Media(media) => media,
        body => panic!("{body:?}"),
    };
    let image = media(json!({"type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}));
    assert_eq!((image.kind, &*image.media_type), (MediaKind::Image, "image/png"));
    assert!(matches!(image.source, MediaSource::Base64(data) if &*data == "AAAA"));
    let image =
        media(json!({"type": "image", "source": {"type": "url", "url": "https://a.test/b"}}));
    assert!(matches!(image.source, MediaSource::Url(url) if &*url == "https://a.test/b"));
    let file = media(json!({"type": "document", "title": "T", "context": "c",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}));
    assert_eq!((file.kind, file.name.as_deref()), (MediaKind::File, Some("T")));
    let file = media(json!({"type": "document", "source": {"type": "file", "file_id": "f_1"}}));
    assert!(matches!(file.source, MediaSource::FileId(id) if id == "f_1"));
}

#[test]
fn blocks_that_only_their_vendor_knows_go_along_whole() {
    for json in [
        json!({"type": "document", "title": "T", "cache_control": {"type": "ephemeral"},
            "citations": {"enabled": true},
            "source": {"type": "text", "media_type": "text/plain", "data": "a\"b"}}),
        json!({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}}),
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA", "w": 1}}),
        json!({"type": "search_result", "source": "https://a.test", "title": "T", "content": []}),
        json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}}),
        json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]}),
    ] {
        assert_eq!(other(&block(json.clone())), json);
    }
}

#[test]
fn tools_of_the_callers_and_of_the_vendors_are_read() {
    let chat = with(json!({"tools": [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true,
            "cache_control": {"type": "ephemeral", "ttl": "1h"}, "defer_loading": true},
        {"type": "custom", "name": "g", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        {"type": "computer_toolset_20260801", "cache_control": {"type": "new"}},
    ]}));
    let [f, g, search, computer] = &chat.tools[..] else { panic!("{:?}", chat.tools) };
    assert_eq!(
        (&*f.kind, &*f.name, f.strict, f.cache.as_deref()),
        ("", "f", Some(true), Some("1h"))
    );
    assert_eq!(f.parameters, r#"{"type":"object"}"#);
    assert_eq!(names(&f.extra), [("defer_loading", json!(true))]);
    assert_eq!((&*g.kind, &*g.name), ("", "g"));
    assert_eq!((&*search.kind, &*search.name), ("web_search_20250305", "web_search"));
    assert_eq!(names(&search.extra), [("max_uses", json!(5))]);
    assert_eq!(names(&computer.extra), [("cache_control", json!({"type": "new"}))]);
    let nameless = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"input_schema":{}}]}"#;
    assert_eq!(refused(nameless).param.as_deref(), Some("tools[0].name"));
}

#[test]
fn every_choice_of_tools_has_its_meaning() {
    for (json, choice, parallel) in [
        (json!({"type": "auto"}), ToolChoice::Auto, None),
        (
            json!({"type": "any", "disable_parallel_tool_use": true}),
            ToolChoice::Required,
            Some(false),
        ),
        (json!({"type": "none"}), ToolChoice::None, None),
        (
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": false}),
            ToolChoice::Tool("f".into()),
            Some(true),
        ),
    ] {
        let chat = with(json!({ "tool_choice": json }));
        assert_eq!(format!("{:?}", chat.tool_choice), format!("{:?}", Some(choice)));
        assert_eq!(chat.parallel_tool_calls, parallel);
        assert!(chat.extra.is_empty());
    }
    let chat = with(json!({"tool_choice": {"type": "later"}}));
    assert_eq!(names(&chat.extra), [("tool_choice", json!({"type": "later"}))]);
}

#[test]
fn thinking_and_effort_keep_what_the_operation_cannot_say() {
    let extra = |chat: &Chat| -> Value {
        names(&chat.extra).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let reasoning = |chat: &Chat| {
        let found = chat.reasoning.as_ref();
        found.map(|it| (it.effort.clone().unwrap_or_default(), it.budget_tokens))
    };
    let named = |effort: &str, budget| Some((effort.to_owned(), budget));
    for (thinking, config, wanted, kept) in [
        (
            json!({"type": "enabled", "budget_tokens": 2048}),
            json!(null),
            named("", Some(2048)),
            json!({}),
        ),
        (json!({"type": "disabled"}), json!(null), named("none", None), json!({})),
        (json!({"type": "adaptive"}), json!(null), None, json!({"thinking": {"type": "adaptive"}})),
        (
            json!({"type": "adaptive", "display": "omitted"}),
            json!({"effort": "max"}),
            named("max", None),
            json!({"thinking": {"type": "adaptive", "display": "omitted"}}),
        ),
        (json!(null), json!({"effort": "low"}), named("low", None), json!({})),
        (
            json!({"type": "disabled"}),
            json!({"effort": "low"}),
            named("none", None),
            json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}),
        ),
        (
            json!(null),
            json!({"effort": "low", "task_budget": {"total": 9}}),
            named("low", None),
            json!({"output_config": {"effort": "low", "task_budget": {"total": 9}}}),
        ),
    ] {
        let chat = with(json!({ "thinking": thinking, "output_config": config }));
        assert_eq!(reasoning(&chat), wanted, "{thinking} {config}");
        assert_eq!(extra(&chat), kept, "{thinking} {config}");
    }
}

#[test]
fn a_schema_is_read_from_either_place() {
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    for fields in [json!({"output_config": {"format": format}}), json!({ "output_format": format })]
    {
        let chat = with(fields);
        let Format::Schema(schema) = &chat.format else { panic!("{:?}", chat.format) };
        assert_eq!((&*schema.schema, schema.strict), (r#"{"type":"object"}"#, Some(true)));
        assert!(chat.extra.is_empty());
    }
    let later = json!({"output_config": {"format": {"type": "grammar"}}});
    assert_eq!(names(&with(later).extra)[0].0, "output_config");
}

#[test]
fn fields_nobody_here_knows_are_kept_and_steering_ones_refused() {
    let chat =
        with(json!({"metadata": {"user_id": "u"}, "service_tier": "auto", "container": "c"}));
    let kept: Vec<&str> = chat.extra.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(kept.len(), 3, "{kept:?}");
    for name in STEERING {
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"x"}}],"{name}":"x"}}"#
        );
        assert_eq!(refused(&body).param.as_deref(), Some(*name));
    }
}

#[test]
fn threads_are_refused_with_the_code_that_sdks_know() {
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"thread":{"type":"create"}}"#;
    let failure = refused(body);
    assert_eq!(
        (failure.param.as_deref(), failure.code.as_deref()),
        (Some("thread"), Some(NO_THREADS))
    );
    let error: Value =
        serde_json::from_slice(&super::super::error::to_json(&failure, keyward::ids::RequestId(1)))
            .unwrap();
    assert_eq!(error["error"]["details"], json!({"error_code": "thread_unsupported_request"}));
}

proptest::proptest! {
    #[test]
    fn hostile_bodies_are_an_error_and_nothing_worse(body in r#"[\[\]{}:,"\\a-z0-9 ]{0,200}"#) {
        let _ = parse_messages(body.as_bytes());
        let wrapped = format!(r#"{{"model":"m","max_tokens":1,"messages":[{body}]}}"#);
        let _ = parse_messages(wrapped.as_bytes());
    }
}
