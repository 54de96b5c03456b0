//! Embeddings: `:embedContent` for one input, `:batchEmbedContents` for more, as many batches one
//! after the other as the inputs fill.

use keyward_sdk::{
    Embed, EmbedInput, Failure, Output, Text, Usage, Vector, VendorRequest, json::parse,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{
    models::{short_name, wants_task_in_text},
    request::resource,
};

/// The vendor's largest batch.
const BATCH: usize = 100;

/// The vendor's names of what embeddings are for, by those callers use.
const TASKS: [(&str, &str); 8] = [
    ("query", "RETRIEVAL_QUERY"),
    ("document", "RETRIEVAL_DOCUMENT"),
    ("similarity", "SEMANTIC_SIMILARITY"),
    ("classification", "CLASSIFICATION"),
    ("clustering", "CLUSTERING"),
    ("question-answering", "QUESTION_ANSWERING"),
    ("fact-verification", "FACT_VERIFICATION"),
    ("code-query", "CODE_RETRIEVAL_QUERY"),
];

/// What newer models want in front of the text instead.
const PREFIXES: [(&str, &str); 8] = [
    ("query", "task: search result | query: "),
    ("document", "title: none | text: "),
    ("similarity", "task: sentence similarity | query: "),
    ("classification", "task: classification | query: "),
    ("clustering", "task: clustering | query: "),
    ("question-answering", "task: question answering | query: "),
    ("fact-verification", "task: fact checking | query: "),
    ("code-query", "task: code retrieval | query: "),
];

/// An operation's inputs and how far they have come.
pub struct Batches {
    embed: Embed,
    task: Option<&'static str>,
    prefix: &'static str,
    /// Inputs sent, and embeddings received.
    sent: usize,
    received: usize,
    tokens: Option<u64>,
    started: bool,
}

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: Prefixed<'a>,
}

struct Prefixed<'a>(&'static str, &'a Text);

impl Serialize for Prefixed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            "" => self.1.serialize(serializer),
            prefix => serializer.serialize_str(&[prefix, &self.1.value].concat()),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    embedding: Option<Values<'a>>,
    #[serde(borrow, default)]
    embeddings: Vec<Values<'a>>,
    #[serde(default)]
    usage_metadata: Option<Counts>,
}

#[derive(serde::Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    #[serde(default)]
    prompt_token_count: Option<u64>,
}

impl Batches {
    /// Checks the inputs; what had to be changed goes to `out`.
    ///
    /// # Errors
    ///
    /// If an input isn't text, or there is none.
    pub fn new(embed: Embed, out: &mut Output) -> Result<Self, Failure> {
        out.dropped_fields(&embed.extra, "Gemini has no such field.");
        if embed.inputs.is_empty() {
            return Err(Failure::invalid("inputs", "There is nothing to embed."));
        }
        if embed.inputs.iter().any(|input| !matches!(input, EmbedInput::Text(_))) {
            let message = "Gemini's embeddings are made of text here, not of tokens or media.";
            return Err(Failure::unsupported(message));
        }
        let (mut task, mut prefix) = (None, "");
        if let Some(purpose) = embed.purpose.as_deref() {
            let of = |table: &[(&str, &'static str)]| {
                table.iter().find(|(name, _)| *name == purpose).map(|&(_, value)| value)
            };
            if wants_task_in_text(&embed.model) {
                prefix = of(&PREFIXES).unwrap_or_default();
            } else {
                task = of(&TASKS);
            }
            if prefix.is_empty() && task.is_none() {
                let message = format!("Gemini doesn't know the purpose \"{purpose}\".");
                out.dropped("purpose", message);
            } else if task.is_none() {
                let message = "The model takes its purpose as words before the text.";
                out.emulated("purpose", message);
            }
        }
        Ok(Self { embed, task, prefix, sent: 0, received: 0, tokens: None, started: false })
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
        let path = resource(&self.embed.model);
        let name = ["models/", short_name(&self.embed.model)].concat();
        let one = |text| One {
            model: &name,
            content: Content { parts: [Part { text: Prefixed(self.prefix, text) }] },
            task_type: self.task,
            output_dimensionality: self.embed.dimensions,
        };
        let texts: Vec<&Text> = inputs
            .iter()
            .filter_map(|input| match input {
                EmbedInput::Text(text) => Some(text),
                EmbedInput::Tokens(_) | EmbedInput::Other(_) => None,
            })
            .collect();
        let request = match texts.as_slice() {
            [text] if self.sent == 0 => {
                VendorRequest::post(format!("{path}:embedContent"), &one(text))?
            }
            texts => {
                let requests = texts.iter().map(|text| one(text)).collect();
                VendorRequest::post(format!("{path}:batchEmbedContents"), &Batch { requests })?
            }
        };
        self.sent += inputs.len();
        out.send(request);
        Ok(true)
    }

    pub fn answer(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let answer: Answer<'_> = parse(data)?;
        if !self.started {
            self.started = true;
            out.started(None, Some(short_name(&self.embed.model)));
        }
        for values in answer.embedding.into_iter().chain(answer.embeddings) {
            let floats: Vec<f32> = parse(values.values.get())?;
            out.embedding(u32::try_from(self.received).unwrap_or(u32::MAX), Vector::Floats(floats));
            self.received += 1;
        }
        // Not every model counts. The host estimates where none is given.
        let counted = answer.usage_metadata.and_then(|usage| usage.prompt_token_count);
        if let Some(tokens) = counted {
            let all = self.tokens.unwrap_or_default().saturating_add(tokens);
            self.tokens = Some(all);
            out.usage(Usage { input: Some(all), ..Usage::none() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keyward_sdk::{
        Body, EmbedEncoding,
        contract::{self, Event},
    };

    use super::*;

    fn embed(inputs: usize) -> Embed {
        let text = |number: usize| EmbedInput::Text(Text::plain(format!("t{number}")));
        Embed {
            model: "gemini-embedding-2".to_owned(),
            inputs: (0..inputs).map(text).collect(),
            dimensions: None,
            encoding: EmbedEncoding::Floats,
            purpose: None,
            dialect: "openai-chat".to_owned(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn more_inputs_than_a_batch_takes_go_one_batch_after_the_other() {
        let mut out = Output::default();
        let mut batches = Batches::new(embed(2 * BATCH + 1), &mut out).unwrap();
        for (first, count) in [(0, BATCH), (BATCH, BATCH), (2 * BATCH, 1)] {
            assert!(batches.send_next(&mut out).unwrap());
            let Some(contract::Output::Send(request)) =
                std::mem::take(&mut out).into_outputs().pop()
            else {
                panic!("nothing was sent");
            };
            assert!(request.path.ends_with(":batchEmbedContents"), "{}", request.path);
            let Body::Json(body) = &request.body else { panic!("{request:?}") };
            assert_eq!(body.matches("\"text\"").count(), count);
            assert!(body.contains(&format!("\"t{first}\"")));
            let values = vec![r#"{"values":[1]}"#; count].join(",");
            let answer = format!(
                r#"{{"embeddings":[{values}],"usageMetadata":{{"promptTokenCount":{count}}}}}"#
            );
            batches.answer(&answer, &mut out).unwrap();
        }
        assert!(!batches.send_next(&mut out).unwrap());
        let indices: Vec<u32> = out
            .into_outputs()
            .into_iter()
            .filter_map(|output| match output {
                contract::Output::Event(Event::Embedding(embedding)) => Some(embedding.index),
                contract::Output::Event(Event::Usage(usage)) => {
                    assert_eq!(usage.input, Some(2 * BATCH as u64 + 1), "the sum of all batches");
                    None
                }
                _ => None,
            })
            .collect();
        assert_eq!(indices, [2 * BATCH as u32]);
    }
}
