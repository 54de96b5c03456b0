//! `POST /api/embed`, and the older `/api/embeddings` for one text: vectors as lists of numbers.

use std::fmt;

use keyward::{
    Failure,
    contract::{Event, Vector},
    operation::{Dialect, Embed, EmbedInput, Field, Text},
};
use serde::{
    Deserializer,
    de::{SeqAccess, Visitor},
};

use super::{
    answer::{Clock, Closing},
    line::write_json,
    request::{Unknown, missing, model, option},
};
use crate::dialect::{
    Folder,
    events::Warnings,
    read::{self, Read, Reader, object},
    steering::check_steering,
    vectors::Vectors,
};

/// Reads the body of `/api/embed`.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param`.
pub fn parse_embed(body: &[u8]) -> Result<Embed, Failure> {
    let wire: WireEmbed = read::body(body)?;
    let Input(inputs) = wire.input.ok_or_else(|| missing("input"))?;
    if inputs.is_empty() {
        return Err(Failure::invalid("input", "Invalid 'input': the list is empty."));
    }
    if wire.dimensions == Some(0) {
        return Err(Failure::invalid("dimensions", "Invalid 'dimensions': expected 1 or more."));
    }
    embed(wire.model, inputs, wire.dimensions, wire.options, wire.extra)
}

/// Reads the body of `/api/embeddings`.
///
/// # Errors
/// As above.
pub fn parse_embeddings(body: &[u8]) -> Result<Embed, Failure> {
    let wire: WireEmbeddings = read::body(body)?;
    let prompt = wire.prompt.ok_or_else(|| missing("prompt"))?;
    embed(wire.model, vec![prompt], None, wire.options, wire.extra)
}

fn embed(
    name: Option<String>,
    inputs: Vec<Text>,
    dimensions: Option<u32>,
    options: Option<Unknown>,
    mut extra: Vec<Field>,
) -> Result<Embed, Failure> {
    let Unknown(options) = options.unwrap_or_default();
    check_steering(&extra)?;
    check_steering(&options)?;
    extra.extend(options.into_iter().map(|field| option(&field.name, field.value)));
    Ok(Embed {
        model: model(name)?,
        inputs: inputs.into_iter().map(EmbedInput::Text).collect(),
        dimensions,
        base64: false,
        purpose: None,
        dialect: Dialect::Ollama,
        extra,
    })
}

object!(WireEmbed {
    "model" model: String,
    "input" input: Input,
    "dimensions" dimensions: u32,
    "options" options: Unknown,
});

object!(WireEmbeddings {
    "model" model: String,
    "prompt" prompt: Text,
    "options" options: Unknown,
});

/// A text or several.
struct Input(Vec<Text>);

impl<'de> Read<'de> for Input {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct OneOrMore<'r>(&'r Reader);

        impl<'de> Visitor<'de> for OneOrMore<'_> {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input(vec![text.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Input, A::Error> {
                self.0.list(list).map(Input)
            }
        }

        from.deserialize_any(OneOrMore(reader))
    }
}

/// How the vectors are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `/api/embed`: all of them, beside the model as the caller called it.
    All { model: String },
    /// `/api/embeddings`: the only one.
    One,
}

/// Folds the events of one request into one answer.
pub struct EmbedFolder {
    shape: Shape,
    vectors: Vectors,
    closing: Closing,
}

impl EmbedFolder {
    pub fn new(shape: Shape, inputs: usize, clock: Clock) -> Self {
        Self { shape, vectors: Vectors::new(inputs, false), closing: Closing::new(clock) }
    }
}

impl Folder for EmbedFolder {
    fn warnings(&self) -> &Warnings {
        &self.closing.warnings
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in events {
            self.closing.add(&event);
            if let Event::Embedding(embedding) = event {
                self.vectors.add(embedding)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, Failure> {
        let vectors = self.vectors.finish()?;
        let floats = vectors.iter().filter_map(|vector| match vector {
            Vector::Floats(floats) => Some(floats),
            // Not asked for above.
            Vector::Base64(_) => None,
        });
        let mut out = Vec::new();
        match self.shape {
            Shape::One => {
                out.extend_from_slice(b"{\"embedding\":");
                write_json(&floats.flatten().collect::<Vec<_>>(), &mut out);
            }
            Shape::All { model } => {
                out.extend_from_slice(b"{\"model\":");
                write_json(&model, &mut out);
                out.extend_from_slice(b",\"embeddings\":");
                write_json(&floats.collect::<Vec<_>>(), &mut out);
                self.closing.write_totals(&[], &mut out);
            }
        }
        out.push(b'}');
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use keyward::contract::{Attribute, Embedding, Usage};
    use serde_json::{Value, json};

    use super::*;

    fn vector(index: u32, floats: &[f32]) -> Event {
        Event::Embedding(Embedding { index, vector: Vector::Floats(floats.to_vec()) })
    }

    fn fold(shape: Shape, inputs: usize, events: Vec<Event>) -> Value {
        let mut folder = EmbedFolder::new(shape, inputs, Clock::since(Instant::now()));
        folder.add(events).unwrap();
        serde_json::from_slice(&folder.finish().unwrap()).unwrap()
    }

    fn names(fields: &[Field]) -> Vec<(&str, &str)> {
        fields.iter().map(|field| (field.name.as_str(), field.value.get())).collect()
    }

    #[test]
    fn one_text_or_several_are_read_with_all_that_is_unknown() {
        let body = json!({
            "model": "m", "input": ["a", "b"], "dimensions": 2, "truncate": true,
            "options": {"num_gpu": 0, "seed": 7},
        });
        let embed = parse_embed(body.to_string().as_bytes()).unwrap();
        assert_eq!(embed.inputs.len(), 2);
        assert_eq!(embed.dimensions, Some(2));
        assert_eq!(embed.dialect, Dialect::Ollama);
        let expected = [("truncate", "true"), ("options.num_gpu", "0"), ("options.seed", "7")];
        assert_eq!(names(&embed.extra), expected);
        let one = parse_embed(br#"{"model": "m", "input": "a"}"#).unwrap();
        assert_eq!(one.inputs.len(), 1);
        let older = parse_embeddings(br#"{"model": "m", "prompt": "a", "keep_alive": "5m"}"#);
        assert_eq!(names(&older.unwrap().extra), [("keep_alive", "\"5m\"")]);
    }

    #[test]
    fn mistakes_are_told_with_their_field() {
        for (body, param) in [
            (json!({"model": "m"}), "input"),
            (json!({"input": "a"}), "model"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": [1]}), "input[0]"),
            (json!({"model": "m", "input": "a", "dimensions": 0}), "dimensions"),
            (json!({"model": "m", "input": "a", "api_base": "x"}), "api_base"),
            (json!({"model": "m", "input": "a", "options": {"api_key": "x"}}), "api_key"),
        ] {
            let failure = parse_embed(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(param), "{body}: {failure}");
        }
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts() {
        let usage = Usage {
            input: Some(6),
            cache_read: None,
            cache_write: None,
            output: None,
            reasoning: None,
            units: Vec::new(),
        };
        let known = Attribute { name: "total_duration".into(), json: "5".into() };
        let events = vec![
            vector(1, &[0.1, 2.0]),
            vector(0, &[-1.5, 0.0]),
            Event::Usage(usage),
            Event::Attribute(known),
        ];
        let answer = fold(Shape::All { model: "m:latest".into() }, 2, events);
        assert_eq!(answer["model"], "m:latest");
        assert_eq!(answer["embeddings"][0], json!([-1.5, 0.0]));
        assert_eq!(answer["embeddings"][1][1], 2.0);
        assert_eq!(answer["prompt_eval_count"], 6);
        assert_eq!(answer["total_duration"], 5);
        assert_eq!(answer["load_duration"], 0);
        assert!(answer.get("eval_count").is_none());
        assert!(answer.get("eval_duration").is_none(), "nothing is generated: {answer}");
    }

    #[test]
    fn the_older_form_has_one_vector_alone() {
        let answer = fold(Shape::One, 1, vec![vector(0, &[0.5, 1.0])]);
        assert_eq!(answer, json!({"embedding": [0.5, 1.0]}));
    }

    #[test]
    fn a_missing_vector_is_an_error() {
        let shape = Shape::All { model: "m".into() };
        let mut folder = EmbedFolder::new(shape, 2, Clock::since(Instant::now()));
        folder.add(vec![vector(0, &[1.0])]).unwrap();
        assert!(folder.finish().is_err());
    }
}
