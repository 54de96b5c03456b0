//! One embeddings request as several vendor requests, one after the other.
//!
//! To the caller it is one answer: vectors count through, usage is the sum of all. A failure ends it; what
//! was served before is billed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{MAX_PIECES, MAX_TOKENS, most_inputs, share};
use crate::{
    Failure,
    catalog::Provider,
    contract::{Event, Usage},
    exchange::Exchange,
    ids::RequestId,
    operation::{Embed, EmbedInput, Operation},
    routing::keyring::KeyAt,
};

pub(crate) struct Pieces {
    provider: Arc<Provider>,
    key: KeyAt,
    left: VecDeque<Embed>,
    current: Option<Piece>,
    /// Inputs of the pieces that have ended.
    done: u32,
    /// Vendor requests that have ended in order.
    served: u64,
    /// Of the pieces that have ended.
    usage: Usage,
    /// Whether the vendor has counted anything.
    counted: bool,
    busy: Duration,
}

struct Piece {
    exchange: Exchange,
    inputs: u32,
    /// The host's own count, for a vendor that gives none.
    expected: u64,
    usage: Option<Usage>,
}

impl Pieces {
    /// The pieces of a request, if the provider doesn't take it whole.
    ///
    /// # Errors
    /// If there are too many.
    pub fn of(
        provider: &Arc<Provider>,
        embed: &Embed,
        key: KeyAt,
    ) -> Result<Option<Self>, Failure> {
        let Some(batching) = &provider.batch else { return Ok(None) };
        let left = cut(embed, most_inputs(batching));
        if left.len() > MAX_PIECES {
            let message = format!(
                "{} inputs would be {} requests to '{}', and {MAX_PIECES} are the most for one",
                embed.inputs.len(),
                left.len(),
                provider.name
            );
            return Err(Failure::invalid("input", message));
        }
        Ok((left.len() > 1).then(|| Self {
            provider: Arc::clone(provider),
            key,
            left,
            current: None,
            done: 0,
            served: 0,
            usage: Usage::default(),
            counted: false,
            busy: Duration::ZERO,
        }))
    }

    /// Vendor requests that are billed: those that were served, and one that is under way.
    pub fn requests(&self) -> u64 {
        self.served + u64::from(self.current.is_some())
    }

    pub fn busy(&self) -> Duration {
        self.busy + self.current.as_ref().map_or(Duration::ZERO, |piece| piece.exchange.busy())
    }

    pub fn waited(&mut self, time: Duration) {
        if let Some(piece) = &mut self.current {
            piece.exchange.waited(time);
        }
    }

    /// See [`Exchange::next`].
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        loop {
            if self.current.is_none() {
                match self.begin().await {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(failure) => return Some(Err(self.fail(failure))),
                }
            }
            let piece = self.current.as_mut()?;
            match piece.exchange.next().await {
                Some(Ok(events)) => match self.take(events) {
                    Ok(events) if events.is_empty() => {}
                    Ok(events) => return Some(Ok(events)),
                    Err(failure) => return Some(Err(self.fail(failure))),
                },
                Some(Err(failure)) => return Some(Err(self.fail(failure))),
                None => {
                    if let Some(counted) = self.end() {
                        return Some(Ok(vec![Event::Usage(counted)]));
                    }
                }
            }
        }
    }

    /// False if nothing is left.
    async fn begin(&mut self) -> Result<bool, Failure> {
        let Some(embed) = self.left.pop_front() else { return Ok(false) };
        let inputs = u32::try_from(embed.inputs.len()).unwrap_or(u32::MAX);
        let expected = embed.expected_tokens().0;
        let operation = Operation::Embed(Arc::new(embed));
        // An id of its own: vendors take two requests of one id for the same.
        let opened = match RequestId::random() {
            Ok(id) => {
                let provider = Arc::clone(&self.provider);
                Exchange::open_with(provider, &operation, id, self.key, None).await
            }
            Err(failure) => Err(failure),
        };
        self.current = Some(Piece { exchange: opened?, inputs, expected, usage: None });
        Ok(true)
    }

    /// The events as those of the whole.
    fn take(&mut self, events: Vec<Event>) -> Result<Vec<Event>, Failure> {
        let Some(piece) = &mut self.current else { return Ok(Vec::new()) };
        let first = self.done == 0;
        let mut taken = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Embedding(mut embedding) => {
                    if embedding.index >= piece.inputs {
                        let why = format!("vector {} belongs to no input", embedding.index);
                        return Err(Failure::malformed(why));
                    }
                    embedding.index += self.done;
                    taken.push(Event::Embedding(embedding));
                }
                Event::Usage(usage) => {
                    share::replace(piece.usage.get_or_insert_default(), usage);
                    let known = piece.usage.as_ref().map(|usage| share::sum(&self.usage, usage));
                    taken.extend(known.map(Event::Usage));
                }
                // Each piece says the same.
                Event::Started(_) | Event::Warning(_) | Event::Attribute(_) if !first => {}
                event => taken.push(event),
            }
        }
        Ok(taken)
    }

    /// Nothing more is sent.
    fn fail(&mut self, failure: Failure) -> Failure {
        self.left.clear();
        if let Some(piece) = self.current.take() {
            self.busy += piece.exchange.busy();
        }
        failure
    }

    /// A piece has ended in order: the usage so far, if the vendor counts at all.
    fn end(&mut self) -> Option<Usage> {
        if let Some(piece) = self.current.take() {
            self.busy += piece.exchange.busy();
            self.done += piece.inputs;
            self.served += 1;
            self.counted |= piece.usage.is_some();
            // What the vendor leaves out among others that it counts.
            let own = || Usage { input: Some(piece.expected), ..Usage::default() };
            self.usage = share::sum(&self.usage, &piece.usage.unwrap_or_else(own));
        }
        self.counted.then(|| self.usage.clone())
    }
}

/// As many requests as the inputs fill.
fn cut(embed: &Embed, most: usize) -> VecDeque<Embed> {
    let mut pieces = VecDeque::new();
    let mut inputs: Vec<EmbedInput> = Vec::new();
    let mut tokens = 0;
    let piece = |inputs| Embed { inputs, ..without_inputs(embed) };
    for input in &embed.inputs {
        let more = piece(vec![input.clone()]).expected_tokens().0;
        if inputs.len() == most || (!inputs.is_empty() && tokens + more > MAX_TOKENS) {
            pieces.push_back(piece(std::mem::take(&mut inputs)));
            tokens = 0;
        }
        inputs.push(input.clone());
        tokens += more;
    }
    pieces.push_back(piece(inputs));
    pieces
}

fn without_inputs(embed: &Embed) -> Embed {
    let Embed { model, inputs: _, dimensions, base64, purpose, dialect, extra } = embed;
    Embed {
        model: model.clone(),
        inputs: Vec::new(),
        dimensions: *dimensions,
        base64: *base64,
        purpose: purpose.clone(),
        dialect: *dialect,
        extra: extra.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::ModelName, operation::Dialect};

    fn embed(texts: impl Iterator<Item = String>) -> Embed {
        Embed {
            model: ModelName::new("m").unwrap(),
            inputs: texts.map(|text| EmbedInput::Text(text.into())).collect(),
            dimensions: Some(8),
            base64: true,
            purpose: Some("query".into()),
            dialect: Dialect::OpenAiChat,
            extra: Vec::new(),
        }
    }

    fn sizes(embed: &Embed, most: usize) -> Vec<usize> {
        cut(embed, most).iter().map(|piece| piece.inputs.len()).collect()
    }

    #[test]
    fn inputs_stay_in_order_and_no_piece_has_too_many() {
        let whole = embed((0..7).map(|number| format!("input {number}")));
        assert_eq!(sizes(&whole, 3), [3, 3, 1]);
        assert_eq!(sizes(&whole, 7), [7]);
        let pieces = cut(&whole, 3);
        let texts = |embed: &Embed| {
            let text = |input: &EmbedInput| match input {
                EmbedInput::Text(text) => text.to_string(),
                EmbedInput::Tokens(tokens) => unreachable!("{tokens}"),
            };
            embed.inputs.iter().map(text).collect::<Vec<_>>()
        };
        let together: Vec<String> = pieces.iter().flat_map(texts).collect();
        assert_eq!(together, texts(&whole));
        assert!(pieces.iter().all(|piece| piece.base64 && piece.dimensions == Some(8)));
    }

    #[test]
    fn no_piece_has_too_many_tokens_unless_one_input_has() {
        let long = "a word or two ".repeat(10_000);
        let whole = embed((0..12).map(|_| long.clone()));
        let sizes = sizes(&whole, 96);
        assert!(sizes.len() > 1, "{sizes:?}");
        let pieces = cut(&whole, 96);
        assert!(pieces.iter().all(|piece| piece.expected_tokens().0 <= MAX_TOKENS));
        let huge = embed((0..2).map(|_| long.repeat(6)));
        assert_eq!(cut(&huge, 96).len(), 2);
    }
}
