//! `POST /v1/embeddings`: texts or tokens in, vectors out, in the encoding the caller asked for.
//!
//! OpenAI's Python SDK asks for base64 by itself and decodes it, so base64 is the common case; it is
//! also a third of the size. Vectors that come in the other form are converted here.

use std::fmt;

use keyward::{
    Failure,
    contract::{Event, Vector},
    operation::{Dialect, Embed, EmbedInput, Json},
};
use serde::{
    Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeMap as _,
};
use serde_json::value::RawValue;

use super::{
    answer::{Identity, attribute},
    request,
};
use crate::dialect::{
    Folder,
    events::{Counts, Warnings, write_json},
    read::{self, Read, Reader, Word, object},
    steering::check_steering,
    vectors::Vectors,
};

/// Reads the body of an embeddings request.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param`.
pub fn parse_embed(body: &[u8]) -> Result<Embed, Failure> {
    let wire: WireEmbed = read::body(body)?;
    check_steering(&wire.extra)?;
    let base64 = match wire.encoding_format.as_ref().map(|Word(format)| format.as_str()) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let why =
                format!("Invalid 'encoding_format': expected 'float' or 'base64', got '{other}'.");
            return Err(Failure::invalid("encoding_format", why));
        }
    };
    if wire.dimensions == Some(0) {
        return Err(Failure::invalid("dimensions", "Invalid 'dimensions': expected 1 or more."));
    }
    let Input(inputs) = wire.input.ok_or_else(|| request::missing("input"))?;
    Ok(Embed {
        model: request::model(wire.model)?,
        inputs,
        dimensions: wire.dimensions,
        base64,
        purpose: None,
        dialect: Dialect::OpenAiChat,
        extra: wire.extra,
    })
}

object!(WireEmbed {
    "model" model: String,
    "input" input: Input,
    "encoding_format" encoding_format: Word,
    "dimensions" dimensions: u32,
});

/// A text, several texts, the tokens of one, or the tokens of several.
struct Input(Vec<EmbedInput>);

impl<'de> Read<'de> for Input {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct Inputs<'r>(&'r Reader);

        impl<'de> Visitor<'de> for Inputs<'_> {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of strings, a list of tokens or a list of those")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input(vec![EmbedInput::Text(text.into())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Input, A::Error> {
                gather(self.0.list(list)?)
            }
        }

        from.deserialize_any(Inputs(reader))
    }
}

/// Makes inputs of a list's elements, which must be of one kind.
fn gather<E: serde::de::Error>(elements: Vec<Element>) -> Result<Input, E> {
    let mut tokens = Vec::new();
    let mut inputs = Vec::with_capacity(elements.len());
    let mut kinds = [false; 3];
    for element in elements {
        match element {
            Element::Text(text) => {
                kinds[0] = true;
                inputs.push(text);
            }
            Element::Tokens(list) => {
                kinds[1] = true;
                inputs.push(EmbedInput::Tokens(token_list::<E>(&list)?));
            }
            Element::Token(token) => {
                kinds[2] = true;
                tokens.push(token);
            }
        }
    }
    match kinds.iter().filter(|&&kind| kind).count() {
        0 => return Err(E::custom("the list is empty")),
        1 => {}
        _ => return Err(E::custom("texts, tokens and lists of tokens can't be mixed")),
    }
    if !tokens.is_empty() {
        inputs.push(EmbedInput::Tokens(token_list::<E>(&tokens)?));
    }
    Ok(Input(inputs))
}

fn token_list<E: serde::de::Error>(tokens: &[u32]) -> Result<Json, E> {
    let text = serde_json::to_string(tokens).map_err(E::custom)?;
    RawValue::from_string(text).map(Json::from).map_err(E::custom)
}

enum Element {
    Text(EmbedInput),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Read<'de> for Element {
    fn read<D: Deserializer<'de>>(from: D, _: &Reader) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token or a list of tokens")
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(EmbedInput::Text(text.into())))
            }

            fn visit_u64<E: serde::de::Error>(self, token: u64) -> Result<Element, E> {
                u32::try_from(token).map(Element::Token).map_err(|_| E::custom("not a token"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = list.next_element()? {
                    tokens.push(token);
                }
                if tokens.is_empty() {
                    return Err(A::Error::custom("the list is empty"));
                }
                Ok(Element::Tokens(tokens))
            }
        }

        from.deserialize_any(Elements)
    }
}

/// Folds the events of one embeddings request into one answer.
pub struct EmbeddingsFolder {
    identity: Identity,
    vectors: Vectors,
    counts: Counts,
    attributes: Vec<(String, Box<RawValue>)>,
    warnings: Warnings,
}

impl EmbeddingsFolder {
    /// For `inputs` inputs, as base64 if the caller asked for that.
    pub fn new(identity: Identity, inputs: usize, base64: bool) -> Self {
        Self {
            identity,
            vectors: Vectors::new(inputs, base64),
            counts: Counts::default(),
            attributes: Vec::new(),
            warnings: Warnings::default(),
        }
    }
}

impl Folder for EmbeddingsFolder {
    fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in events {
            match event {
                Event::Started(started) => self.identity.started(started),
                Event::Embedding(embedding) => self.vectors.add(embedding)?,
                Event::Usage(usage) => self.counts.add(&usage),
                Event::Warning(warning) => self.warnings.add(&warning),
                Event::Attribute(field) if field.name != "data" => {
                    if let Some(json) = attribute(&field.name, &field.json) {
                        self.attributes.retain(|(name, _)| *name != field.name);
                        self.attributes.push((field.name, json));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::with_capacity(4096);
        let Self { identity, vectors, counts, attributes, .. } = self;
        let vectors = vectors.finish()?;
        write_json(&Embeddings { identity, vectors, counts, attributes }, &mut out);
        Ok(out)
    }
}

/// The answer.
struct Embeddings {
    identity: Identity,
    vectors: Vec<Vector>,
    counts: Counts,
    attributes: Vec<(String, Box<RawValue>)>,
}

impl Serialize for Embeddings {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Usage {
            prompt_tokens: u64,
            total_tokens: u64,
        }

        let data: Vec<Row<'_>> = self.vectors.iter().enumerate().map(Row::new).collect();
        let tokens = self.counts.input.unwrap_or(0);
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("object", "list")?;
        object.serialize_entry("data", &data)?;
        object.serialize_entry("model", &self.identity.model)?;
        let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
        object.serialize_entry("usage", &usage)?;
        for (name, json) in &self.attributes {
            object.serialize_entry(name, json)?;
        }
        object.end()
    }
}

#[derive(Serialize)]
struct Row<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Floats(&'a [f32]),
    Base64(&'a str),
}

impl<'a> Row<'a> {
    fn new((index, vector): (usize, &'a Vector)) -> Self {
        let embedding = match vector {
            Vector::Floats(floats) => Numbers::Floats(floats),
            Vector::Base64(text) => Numbers::Base64(text),
        };
        Self { object: "embedding", index, embedding }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use keyward::{
        contract::{Embedding, Started, Usage},
        ids::{ModelName, RequestId},
    };
    use serde_json::{Value, json};

    use super::*;

    fn inputs(body: &str) -> Vec<String> {
        let embed = parse_embed(body.as_bytes()).unwrap();
        let show = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => format!("text {text}"),
            EmbedInput::Tokens(tokens) => format!("tokens {}", tokens.get()),
        };
        embed.inputs.iter().map(show).collect()
    }

    #[test]
    fn every_form_of_input_is_read() {
        for (input, expected) in [
            (r#""hi""#, &["text hi"][..]),
            (r#"["a","b\n"]"#, &["text a", "text b\n"]),
            ("[1,2, 3]", &["tokens [1,2,3]"]),
            ("[[1,2],[3]]", &["tokens [1,2]", "tokens [3]"]),
        ] {
            assert_eq!(inputs(&format!(r#"{{"model":"m","input":{input}}}"#)), expected);
        }
    }

    #[test]
    fn what_isnt_an_input_is_refused_with_its_place() {
        for (body, param) in [
            (r#"{"model":"m"}"#, "input"),
            (r#"{"model":"m","input":null}"#, "input"),
            (r#"{"model":"m","input":5}"#, "input"),
            (r#"{"model":"m","input":[]}"#, "input"),
            (r#"{"model":"m","input":[[]]}"#, "input[0]"),
            (r#"{"model":"m","input":["a",1]}"#, "input"),
            (r#"{"model":"m","input":["a",{}]}"#, "input[1]"),
            (r#"{"model":"m","input":[1,-1]}"#, "input[1]"),
            (r#"{"model":"m","input":[4294967296]}"#, "input[0]"),
            (r#"{"input":"a"}"#, "model"),
            (r#"{"model":"a\nb","input":"a"}"#, "model"),
            (r#"{"model":"m","input":"a","encoding_format":"hex"}"#, "encoding_format"),
            (r#"{"model":"m","input":"a","dimensions":0}"#, "dimensions"),
            (r#"{"model":"m","input":"a","dimensions":-1}"#, "dimensions"),
            (r#"{"model":"m","input":"a","api_base":"https://evil.test"}"#, "api_base"),
        ] {
            let failure = parse_embed(body.as_bytes()).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(param), "{body}: {failure}");
        }
    }

    #[test]
    fn other_fields_are_kept() {
        let body =
            r#"{"model":"m","input":"a","encoding_format":"base64","dimensions":8,"user":"u"}"#;
        let embed = parse_embed(body.as_bytes()).unwrap();
        assert!(embed.base64);
        assert_eq!(embed.dimensions, Some(8));
        assert_eq!((embed.extra[0].name.as_str(), embed.extra[0].value.get()), ("user", "\"u\""));
    }

    fn vectors(inputs: usize, base64: bool) -> EmbeddingsFolder {
        let model = ModelName::new("asked").unwrap();
        EmbeddingsFolder::new(Identity::new(RequestId(1), &model, 0), inputs, base64)
    }

    fn embedding(index: u32, vector: Vector) -> Event {
        Event::Embedding(Embedding { index, vector })
    }

    #[test]
    fn vectors_are_ordered_by_input_and_converted() {
        let encoded = STANDARD.encode([0, 0, 128, 63, 0, 0, 0, 192]);
        let events = || {
            let started = Started { id: None, model: Some("vendor-model".into()) };
            let usage = Usage {
                input: Some(9),
                cache_read: None,
                cache_write: None,
                output: None,
                reasoning: None,
                units: Vec::new(),
            };
            vec![
                Event::Started(started),
                embedding(1, Vector::Floats(vec![0.5])),
                embedding(0, Vector::Base64(encoded.clone())),
                Event::Usage(usage),
            ]
        };
        let mut floats = vectors(2, false);
        floats.add(events()).unwrap();
        let answer: Value = serde_json::from_slice(&floats.finish().unwrap()).unwrap();
        let expected = json!({
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [1.0, -2.0]},
                {"object": "embedding", "index": 1, "embedding": [0.5]},
            ],
            "model": "vendor-model",
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
        });
        assert_eq!(answer, expected);

        let mut encoded_out = vectors(2, true);
        encoded_out.add(events()).unwrap();
        let answer: Value = serde_json::from_slice(&encoded_out.finish().unwrap()).unwrap();
        assert_eq!(answer["data"][0]["embedding"], encoded);
        assert_eq!(answer["data"][1]["embedding"], STANDARD.encode(0.5_f32.to_le_bytes()));
    }

    #[test]
    fn a_missing_doubled_or_broken_vector_fails_the_answer() {
        let one = || Vector::Floats(vec![1.0]);
        let mut missing = vectors(2, false);
        missing.add(vec![embedding(0, one())]).unwrap();
        assert!(missing.finish().is_err());
        for events in [
            vec![embedding(0, one()), embedding(0, one())],
            vec![embedding(1, one())],
            vec![embedding(u32::MAX, one())],
            vec![embedding(0, Vector::Floats(vec![f32::NAN]))],
            vec![embedding(0, Vector::Base64("AAAAAAA=".into()))],
            vec![embedding(0, Vector::Base64("!".into()))],
            vec![embedding(0, Vector::Base64(STANDARD.encode(f32::INFINITY.to_le_bytes())))],
        ] {
            assert!(vectors(1, false).add(events.clone()).is_err());
            assert!(vectors(1, true).add(events).is_err());
        }
    }
}
