//! Every text of a request that its caller chose and that is sent: what detectors read.
//!
//! Each structure is taken apart field by field without a rest, so that a new field doesn't compile
//! until it is thought of here. Left out are numbers, what has a few values only, and the model's name,
//! which says where a request goes. Nothing is copied: a piece points into the request. It costs a
//! vector with an entry for each text.

use super::{
    Chat, CountTokens, Embed, EmbedInput, Field, Format, Json, Media, MediaSource, Message, Part,
    PartBody, Reasoning, Sampling, Schema, Text, Tool, ToolAnswer, ToolCall, ToolChoice,
};
use crate::privacy::Piece;

impl Chat {
    /// Everything in it that detectors are to read.
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        pieces(self)
    }
}

impl Embed {
    /// As [`Chat::pieces`].
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        pieces(self)
    }
}

impl CountTokens {
    /// As [`Chat::pieces`].
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        pieces(self)
    }
}

fn pieces<T: Sent>(request: &T) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    request.add(&mut pieces);
    pieces
}

/// What is sent to vendors and may hold text.
trait Sent {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>);
}

impl<T: Sent> Sent for Option<T> {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        if let Some(value) = self {
            value.add(to);
        }
    }
}

impl<T: Sent> Sent for Vec<T> {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        for value in self {
            value.add(to);
        }
    }
}

impl Sent for str {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        if !self.is_empty() {
            to.push(Piece::Text(self));
        }
    }
}

impl Sent for String {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        self.as_str().add(to);
    }
}

impl Sent for Text {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        (**self).add(to);
    }
}

/// As its text: detectors know the escapes.
impl Sent for Json {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        to.push(Piece::Value(self.get()));
    }
}

impl Sent for Field {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { name, value } = self;
        to.push(Piece::Field { name, value: value.get() });
    }
}

impl Sent for Chat {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self {
            model: _,
            messages,
            tools,
            tool_choice,
            parallel_tool_calls: _,
            format,
            sampling,
            reasoning,
            stream: _,
            dialect: _,
            extra,
        } = self;
        messages.add(to);
        tools.add(to);
        tool_choice.add(to);
        format.add(to);
        sampling.add(to);
        reasoning.add(to);
        extra.add(to);
    }
}

impl Sent for Message {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { role: _, answers, name, parts, extra } = self;
        answers.add(to);
        name.add(to);
        parts.add(to);
        extra.add(to);
    }
}

impl Sent for ToolAnswer {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { call_id, tool, is_error: _ } = self;
        call_id.add(to);
        tool.add(to);
    }
}

impl Sent for Part {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { body, cache, extra } = self;
        body.add(to);
        cache.add(to);
        extra.add(to);
    }
}

impl Sent for PartBody {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        match self {
            Self::Text(text) | Self::Refusal(text) => text.add(to),
            Self::RedactedThinking(data) => to.push(Piece::Value(data)),
            Self::Media(media) => media.add(to),
            Self::ToolCall(call) => call.add(to),
            Self::Thinking { text, signature } => {
                text.add(to);
                to.extend(signature.as_deref().map(Piece::Value));
            }
            Self::Other { kind, value } => {
                kind.add(to);
                value.add(to);
            }
        }
    }
}

impl Sent for Media {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { kind: _, media_type, source, name, detail } = self;
        media_type.add(to);
        match source {
            MediaSource::Base64(data) => to.push(Piece::Base64 { media_type, data }),
            MediaSource::Url(url) => url.add(to),
            MediaSource::FileId(id) => id.add(to),
        }
        name.add(to);
        detail.add(to);
    }
}

impl Sent for ToolCall {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { id, name, arguments } = self;
        id.add(to);
        name.add(to);
        arguments.add(to);
    }
}

impl Sent for Tool {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { name, description, parameters, strict: _, kind, cache, extra } = self;
        name.add(to);
        description.add(to);
        parameters.add(to);
        kind.add(to);
        cache.add(to);
        extra.add(to);
    }
}

impl Sent for ToolChoice {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        match self {
            Self::Auto | Self::None | Self::Required => {}
            Self::Tool(name) => name.add(to),
        }
    }
}

impl Sent for Format {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        match self {
            Self::Text | Self::Json => {}
            Self::Schema(Schema { name, description, schema, strict: _ }) => {
                name.add(to);
                description.add(to);
                schema.add(to);
            }
        }
    }
}

impl Sent for Sampling {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self {
            max_output_tokens: _,
            temperature: _,
            top_p: _,
            top_k: _,
            frequency_penalty: _,
            presence_penalty: _,
            seed: _,
            stop,
            choices: _,
            logprobs: _,
        } = self;
        stop.add(to);
    }
}

impl Sent for Reasoning {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { effort, budget_tokens: _ } = self;
        effort.add(to);
    }
}

impl Sent for Embed {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { model: _, inputs, dimensions: _, base64: _, purpose, dialect: _, extra } = self;
        inputs.add(to);
        purpose.add(to);
        extra.add(to);
    }
}

impl Sent for EmbedInput {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        match self {
            Self::Text(text) => text.add(to),
            Self::Tokens(_) => to.push(Piece::Tokens),
        }
    }
}

impl Sent for CountTokens {
    fn add<'a>(&'a self, to: &mut Vec<Piece<'a>>) {
        let Self { model: _, fields } = self;
        fields.add(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::ModelName,
        operation::{Dialect, MediaKind, Role},
        privacy::{Detector, Detectors, Found},
    };

    const IBAN: &str = "DE89 3704 0044 0532 0130 00";

    fn json(json: &str) -> Json {
        serde_json::from_str::<Box<serde_json::value::RawValue>>(json).unwrap().into()
    }

    fn field(name: &str, value: &str) -> Field {
        Field { name: name.into(), value: json(value) }
    }

    fn media(media_type: &str, source: MediaSource) -> Media {
        let (kind, media_type) = (MediaKind::File, media_type.to_owned());
        Media { kind, media_type, source, name: None, detail: None }
    }

    fn tool() -> Tool {
        Tool {
            name: "lookup".into(),
            description: None,
            parameters: String::new(),
            strict: None,
            kind: String::new(),
            cache: None,
            extra: Vec::new(),
        }
    }

    fn chat() -> Chat {
        Chat {
            model: ModelName::new("m").unwrap(),
            messages: vec![Message {
                role: Role::User,
                answers: None,
                name: None,
                parts: vec![PartBody::Text("hello".into()).into()],
                extra: Vec::new(),
            }],
            tools: vec![tool()],
            tool_choice: None,
            parallel_tool_calls: None,
            format: Format::Text,
            sampling: Sampling::default(),
            reasoning: None,
            stream: false,
            dialect: Dialect::Keyward,
            extra: Vec::new(),
        }
    }

    fn embed() -> Embed {
        Embed {
            model: ModelName::new("m").unwrap(),
            inputs: vec![EmbedInput::Text("hello".into())],
            dimensions: None,
            base64: false,
            purpose: None,
            dialect: Dialect::Keyward,
            extra: Vec::new(),
        }
    }

    /// What is done to a request to put a text into one of its places.
    type Put<R> = (&'static str, fn(&mut R, &str));

    fn put_part(chat: &mut Chat, body: PartBody) {
        chat.messages[0].parts.push(body.into());
    }

    fn string(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    fn answer(call_id: &str, tool: &str) -> ToolAnswer {
        ToolAnswer { call_id: call_id.into(), tool: tool.into(), is_error: false }
    }

    fn schema(name: &str, description: &str, schema: &str) -> Format {
        Format::Schema(Schema {
            name: name.into(),
            description: Some(description.into()),
            schema: schema.into(),
            strict: None,
        })
    }

    const OF_A_CHAT: &[Put<Chat>] = &[
        ("text", |chat, it| put_part(chat, PartBody::Text(it.into()))),
        ("refusal", |chat, it| put_part(chat, PartBody::Refusal(it.into()))),
        ("redacted thinking", |chat, it| put_part(chat, PartBody::RedactedThinking(it.into()))),
        ("thinking", |chat, it| {
            put_part(chat, PartBody::Thinking { text: it.into(), signature: None });
        }),
        ("signature", |chat, it| {
            put_part(chat, PartBody::Thinking { text: "".into(), signature: Some(it.into()) });
        }),
        ("kind of another part", |chat, it| {
            put_part(chat, PartBody::Other { kind: it.into(), value: json("1") });
        }),
        ("another part", |chat, it| {
            put_part(chat, PartBody::Other { kind: "x".into(), value: json(&string(it)) });
        }),
        ("call's id", |chat, it| {
            let call = ToolCall { id: it.into(), name: "f".into(), arguments: json("{}") };
            put_part(chat, PartBody::ToolCall(call));
        }),
        ("call's name", |chat, it| {
            let call = ToolCall { id: "c".into(), name: it.into(), arguments: json("{}") };
            put_part(chat, PartBody::ToolCall(call));
        }),
        ("call's arguments", |chat, it| {
            let arguments = json(&format!("{{\"to\":{}}}", string(it)));
            let call = ToolCall { id: "c".into(), name: "f".into(), arguments };
            put_part(chat, PartBody::ToolCall(call));
        }),
        ("media's type", |chat, it| {
            put_part(chat, PartBody::Media(media(it, MediaSource::FileId("f".into()))));
        }),
        ("media's file", |chat, it| {
            put_part(chat, PartBody::Media(media("", MediaSource::FileId(it.into()))));
        }),
        ("media's URL", |chat, it| {
            put_part(chat, PartBody::Media(media("", MediaSource::Url(it.into()))));
        }),
        ("media's name", |chat, it| {
            let media = media("", MediaSource::FileId("f".into()));
            put_part(chat, PartBody::Media(Media { name: Some(it.into()), ..media }));
        }),
        ("media's detail", |chat, it| {
            let media = media("", MediaSource::FileId("f".into()));
            put_part(chat, PartBody::Media(Media { detail: Some(it.into()), ..media }));
        }),
        ("text as base64", |chat, it| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let data = STANDARD.encode(it).into();
            put_part(chat, PartBody::Media(media("text/plain", MediaSource::Base64(data))));
        }),
        ("part's cache mark", |chat, it| chat.messages[0].parts[0].cache = Some(it.into())),
        ("part's field", |chat, it| {
            chat.messages[0].parts[0].extra.push(field("note", &string(it)));
        }),
        ("name of a part's field", |chat, it| {
            chat.messages[0].parts[0].extra.push(field(it, "1"));
        }),
        ("message's name", |chat, it| chat.messages[0].name = Some(it.into())),
        ("message's field", |chat, it| chat.messages[0].extra.push(field("note", &string(it)))),
        ("answered call", |chat, it| chat.messages[0].answers = Some(answer(it, ""))),
        ("answered tool", |chat, it| chat.messages[0].answers = Some(answer("c", it))),
        ("tool's name", |chat, it| chat.tools[0].name = it.into()),
        ("tool's description", |chat, it| chat.tools[0].description = Some(it.into())),
        ("tool's parameters", |chat, it| {
            chat.tools[0].parameters = format!("{{\"description\":{}}}", string(it));
        }),
        ("tool's kind", |chat, it| chat.tools[0].kind = it.into()),
        ("tool's cache mark", |chat, it| chat.tools[0].cache = Some(it.into())),
        ("tool's field", |chat, it| chat.tools[0].extra.push(field("note", &string(it)))),
        ("chosen tool", |chat, it| chat.tool_choice = Some(ToolChoice::Tool(it.into()))),
        ("schema's name", |chat, it| chat.format = schema(it, "", "{}")),
        ("schema's description", |chat, it| chat.format = schema("s", it, "{}")),
        ("schema", |chat, it| {
            chat.format = schema("s", "", &format!("{{\"description\":{}}}", string(it)));
        }),
        ("stop", |chat, it| chat.sampling.stop = vec!["\n".into(), it.into()]),
        ("effort", |chat, it| {
            chat.reasoning = Some(Reasoning { effort: Some(it.into()), budget_tokens: None });
        }),
        ("field", |chat, it| chat.extra.push(field("user", &string(it)))),
        ("field within a field", |chat, it| {
            chat.extra.push(field("metadata", &format!("{{\"about\":[{}]}}", string(it))));
        }),
        ("name of a field", |chat, it| chat.extra.push(field(it, "true"))),
    ];

    const OF_EMBEDDINGS: &[Put<Embed>] = &[
        ("text", |embed, it| embed.inputs.push(EmbedInput::Text(it.into()))),
        ("purpose", |embed, it| embed.purpose = Some(it.into())),
        ("field", |embed, it| embed.extra.push(field("user", &string(it)))),
        ("name of a field", |embed, it| embed.extra.push(field(it, "true"))),
    ];

    fn found(pieces: &[Piece<'_>]) -> Option<Found> {
        Detectors::default().find_in(pieces)
    }

    #[test]
    fn what_is_sensitive_is_found_wherever_a_caller_puts_it() {
        for text in [IBAN, "write to\nanna@example.org"] {
            for (place, put) in OF_A_CHAT {
                let mut chat = chat();
                put(&mut chat, "harmless");
                assert_eq!(found(&chat.pieces()), None, "{place}");
                put(&mut chat, text);
                assert!(found(&chat.pieces()).is_some(), "{place}: {text}");
            }
            for (place, put) in OF_EMBEDDINGS {
                let mut embed = embed();
                put(&mut embed, "harmless");
                assert_eq!(found(&embed.pieces()), None, "{place}");
                put(&mut embed, text);
                assert!(found(&embed.pieces()).is_some(), "{place}: {text}");
            }
        }
    }

    #[test]
    fn a_prompt_to_be_counted_is_read_as_it_goes_out() {
        let count = |value: &str| CountTokens {
            model: ModelName::new("m").unwrap(),
            fields: vec![field("messages", value)],
        };
        assert_eq!(found(&count(r#"[{"note":"hello"}]"#).pieces()), None);
        let written = format!(r#"[{{"note":"{IBAN}"}}]"#);
        assert_eq!(found(&count(&written).pieces()), Some(Found::Detector(Detector::Iban)));
    }

    #[test]
    fn token_numbers_are_sensitive_because_nobody_can_read_them() {
        let mut embed = embed();
        embed.inputs.push(EmbedInput::Tokens(json("[1,2,3]")));
        let numbers = Found::Detector(Detector::TokenNumbers);
        assert_eq!(found(&embed.pieces()), Some(numbers));
        assert_eq!(Detectors::none().find_in(&embed.pieces()), None);
    }

    #[test]
    fn what_sdks_write_by_themselves_is_not_taken_for_sensitive() {
        let mut chat = chat();
        for (name, value) in [
            ("prompt_cache_key", r#""019a9d6c-4b1e-7c52-9f0a-3a1b5c7d9e11""#),
            (
                "safety_identifier",
                r#""8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92""#,
            ),
            ("previous_response_id", r#""resp_68a1f0c2b3d48192a7e5f6c1d2b3a4950c8e7f6a5b4c3d2e""#),
            ("include", r#"["reasoning.encrypted_content"]"#),
            (
                "metadata",
                r#"{"user_id":"user_5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5_account__session_a1b2c3d4-e5f6-4789-8abc-def012345678"}"#,
            ),
            ("stream_options", r#"{"include_usage":true}"#),
            ("max_completion_tokens", "4096"),
            ("anthropic-beta.token-efficient-tools-2025-02-19", "true"),
            ("anthropic-beta.interleaved-thinking-2025-05-14", "true"),
            ("options", r#"{"num_ctx":8192,"stop":["<|eot_id|>"]}"#),
        ] {
            chat.extra.push(field(name, value));
        }
        for id in [
            "call_9rKq0wZ3mB7xT2uYpL5sD8fH",
            "toolu_01A09q90qw90lq917835lq9",
            "fc_67ca09c6bedc8190a7abfec07b1a1332096610f474011cc0",
            "chatcmpl-tool-0049d1c7a9e84b6c8d2f3a4b5c6d7e8f",
            "0",
        ] {
            let (id, name, arguments) = (id.into(), "get_weather".into(), json("{}"));
            put_part(&mut chat, PartBody::ToolCall(ToolCall { id, name, arguments }));
        }
        let signature = "ErUBCkYIBRgCIkDX+4w0pU4Jm0Dq9h2kIuzSgC3YbTzW8Q5o1m6vJ7nHxK0eRfA2LpVtCdGwZyMsBqNhEiUjOaX\
                         DFrKlPEgwQw1dQhZ6sJ0T8bYfGgxVb3N5cMzLpA4iMFW7uKe2JdRt9QoHnXsC1vZaYgBmDlEjUkIwOqPrT6hSf";
        put_part(
            &mut chat,
            PartBody::Thinking { text: "so".into(), signature: Some(signature.into()) },
        );
        let pieces = chat.pieces();
        for piece in &pieces {
            assert_eq!(found(std::slice::from_ref(piece)), None, "{piece:?}");
        }
    }
}
