//! Embeddings: `POST /v2/embed`, as many requests one after the other as the inputs fill.

use keyward_sdk::{
    Embed, EmbedInput, Failure, Output, Text, Usage, Vector, VendorRequest,
    contract::OtherPart,
    json::{Raw, parse},
};
use serde::{Deserialize, Serialize};

use crate::{
    settings::{Settings, Truncate},
    usage::Units,
};

/// Inputs the vendor takes at once.
const BATCH: usize = 96;

/// A part of content with an image, as callers write it and the vendor takes it.
const IMAGE: &str = "image_url";

/// The vendor's names of what embeddings are for, by those callers use.
const INPUT_TYPES: [(&str, &str); 5] = [
    ("query", "search_query"),
    ("document", "search_document"),
    ("classification", "classification"),
    ("clustering", "clustering"),
    ("image", "image"),
];

/// An operation's inputs and how far they have come.
pub struct Batches {
    embed: Embed,
    input_type: &'static str,
    truncate: Truncate,
    /// Some input has an image.
    mixed: bool,
    /// Inputs sent, and embeddings received.
    sent: usize,
    received: usize,
    counted: Usage,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input_type: &'static str,
    #[serde(flatten)]
    inputs: Inputs<'a>,
    embedding_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u32>,
    truncate: Truncate,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Inputs<'a> {
    Texts(Vec<&'a Text>),
    Inputs(Vec<Input<'a>>),
}

#[derive(Serialize)]
struct Input<'a> {
    content: [Content<'a>; 1],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text {
        #[serde(rename = "type")]
        kind: &'static str,
        text: &'a Text,
    },
    Raw(Raw<'a>),
}

impl<'a> Input<'a> {
    fn new(input: &'a EmbedInput) -> Self {
        let content = match input {
            EmbedInput::Text(text) => Content::Text { kind: "text", text },
            EmbedInput::Tokens(value) | EmbedInput::Other(OtherPart { value, .. }) => {
                Content::Raw(Raw(&value.json))
            }
        };
        Self { content: [content] }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    embeddings: Embeddings,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Embeddings {
    float: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    billed_units: Option<Units>,
}

impl Batches {
    /// Checks the inputs; what had to be changed goes to `out`.
    ///
    /// # Errors
    ///
    /// If an input is neither text nor an image, or there is none.
    pub fn new(embed: Embed, settings: &Settings, out: &mut Output) -> Result<Self, Failure> {
        out.dropped_fields(&embed.extra, "Cohere has no such field.");
        if embed.inputs.is_empty() {
            return Err(Failure::invalid("inputs", "There is nothing to embed."));
        }
        let mut mixed = false;
        for input in &embed.inputs {
            match input {
                EmbedInput::Text(_) => {}
                EmbedInput::Other(OtherPart { kind, .. }) if kind == IMAGE => mixed = true,
                EmbedInput::Tokens(_) | EmbedInput::Other(_) => {
                    let message = "Cohere embeds texts and images, not tokens or other things.";
                    return Err(Failure::unsupported(message));
                }
            }
        }
        let of = |purpose: &str| {
            let known =
                INPUT_TYPES.iter().find(|(name, vendor)| [*name, *vendor].contains(&purpose));
            known.map(|&(_, vendor)| vendor)
        };
        let asked = embed.purpose.as_deref().and_then(|purpose| {
            let known = of(purpose);
            if known.is_none() {
                out.dropped("purpose", format!("Cohere doesn't know the purpose \"{purpose}\"."));
            }
            known
        });
        let input_type = match asked.or_else(|| of(&settings.embed_purpose)) {
            Some(input_type) => input_type,
            None => {
                let purpose = &settings.embed_purpose;
                let message = format!("Cohere doesn't know the purpose \"{purpose}\".");
                return Err(Failure::settings(message));
            }
        };
        Ok(Self {
            embed,
            input_type,
            truncate: settings.embed_truncate,
            mixed,
            sent: 0,
            received: 0,
            counted: Usage::none(),
        })
    }

    /// Sends the next batch; false if there is none left.
    ///
    /// # Errors
    ///
    /// If the last one wasn't answered in full.
    pub fn send_next(&mut self, out: &mut Output) -> Result<bool, Failure> {
        if self.received != self.sent {
            return Err(Failure::malformed(format!(
                "The vendor gave {} embeddings for {} inputs.",
                self.received, self.sent
            )));
        }
        let inputs = &self.embed.inputs[self.sent..];
        let inputs = &inputs[..inputs.len().min(BATCH)];
        if inputs.is_empty() {
            return Ok(false);
        }
        let count = inputs.len();
        let texts = inputs.iter().filter_map(|input| match input {
            EmbedInput::Text(text) => Some(text),
            EmbedInput::Tokens(_) | EmbedInput::Other(_) => None,
        });
        let request = Request {
            model: &self.embed.model,
            input_type: self.input_type,
            inputs: match self.mixed {
                false => Inputs::Texts(texts.collect()),
                true => Inputs::Inputs(inputs.iter().map(Input::new).collect()),
            },
            embedding_types: ["float"],
            output_dimension: self.embed.dimensions,
            truncate: self.truncate,
        };
        out.send(VendorRequest::post("/v2/embed", &request)?);
        self.sent += count;
        Ok(true)
    }

    pub fn answer(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let answer: Answer = parse(data)?;
        if self.received == 0 {
            out.started(answer.id.as_deref(), Some(&self.embed.model));
        }
        for floats in answer.embeddings.float {
            out.embedding(u32::try_from(self.received).unwrap_or(u32::MAX), Vector::Floats(floats));
            self.received += 1;
        }
        if let Some(units) = answer.meta.and_then(|meta| meta.billed_units) {
            self.count(units.usage());
            out.usage(self.counted.clone());
        }
        Ok(())
    }

    /// Adds the counts of a batch to those before.
    fn count(&mut self, new: Usage) {
        let all = &mut self.counted;
        all.input = match (all.input, new.input) {
            (Some(before), Some(tokens)) => Some(before.saturating_add(tokens)),
            (before, tokens) => before.or(tokens),
        };
        for unit in new.units {
            match all.units.iter_mut().find(|known| known.name == unit.name) {
                Some(known) => known.amount += unit.amount,
                None => all.units.push(unit),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keyward_sdk::{Body, EmbedEncoding, contract};

    use super::*;

    #[test]
    fn more_inputs_than_the_vendor_takes_go_one_batch_after_the_other() {
        let text = |number: usize| EmbedInput::Text(Text::plain(format!("t{number}")));
        let embed = Embed {
            model: "embed-v4.0".to_owned(),
            inputs: (0..2 * BATCH + 1).map(text).collect(),
            dimensions: None,
            encoding: EmbedEncoding::Floats,
            purpose: None,
            dialect: "openai-chat".to_owned(),
            extra: Vec::new(),
        };
        let mut out = Output::default();
        let mut batches = Batches::new(embed, &Settings::default(), &mut out).unwrap();
        for (first, count) in [(0, BATCH), (BATCH, BATCH), (2 * BATCH, 1)] {
            assert!(batches.send_next(&mut out).unwrap());
            let Some(contract::Output::Send(request)) =
                std::mem::take(&mut out).into_outputs().pop()
            else {
                panic!("nothing was sent");
            };
            let Body::Json(body) = &request.body else { panic!("{request:?}") };
            assert_eq!(body.matches("\"t").count(), count + 2, "with texts and truncate");
            assert!(body.contains(&format!("[\"t{first}\"")));
            let floats = vec!["[1]"; count].join(",");
            let answer = format!(
                r#"{{"id":"e","embeddings":{{"float":[{floats}]}},"meta":{{"billed_units":{{"input_tokens":{count}}}}}}}"#
            );
            batches.answer(&answer, &mut out).unwrap();
        }
        assert!(!batches.send_next(&mut out).unwrap());
        assert_eq!(batches.counted.input, Some(2 * BATCH as u64 + 1));
        assert_eq!(batches.received, 2 * BATCH + 1);
    }
}
