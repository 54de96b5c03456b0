//! Token counts as the contract has them.
//!
//! The vendor counts what it processed (`tokens`, with its own words around the prompt) and what it
//! bills (`billed_units`). The bill is what is metered here, so that the cost comes out right; what
//! was processed goes out as an attribute.

use keyward_sdk::{Output, Unit, Usage, json::raw_or_null};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The vendor writes its whole numbers as numbers with a fraction.
type Count = Option<f64>;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Counts<'a> {
    billed_units: Option<Units>,
    #[serde(borrow, deserialize_with = "raw_or_null")]
    tokens: Option<&'a RawValue>,
    cached_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Units {
    input_tokens: Count,
    output_tokens: Count,
    search_units: Count,
    classifications: Count,
    images: Count,
    image_tokens: Count,
}

impl Counts<'_> {
    pub fn report(self, out: &mut Output) {
        if let Some(tokens) = self.tokens {
            out.attribute("tokens", tokens.get());
        }
        out.usage(self.usage());
    }

    fn usage(self) -> Usage {
        let processed = self.tokens.and_then(|json| serde_json::from_str::<Units>(json.get()).ok());
        let processed = processed.unwrap_or_default();
        let mut usage = self.billed_units.unwrap_or_default().usage();
        usage.input = usage.input.or(whole(processed.input_tokens));
        usage.output = usage.output.or(whole(processed.output_tokens));
        // Counted of all that was processed, so it can exceed what is billed.
        let cached = whole(self.cached_tokens);
        usage.cache_read = cached.map(|cached| usage.input.map_or(cached, |all| cached.min(all)));
        usage
    }
}

impl Units {
    pub fn usage(self) -> Usage {
        let mut usage = Usage::none();
        usage.input = whole(self.input_tokens);
        usage.output = whole(self.output_tokens);
        for (name, amount) in [
            ("search_units", self.search_units),
            ("classifications", self.classifications),
            ("images", self.images),
            ("image_tokens", self.image_tokens),
        ] {
            if let Some(amount) = amount.filter(|&amount| amount > 0.0) {
                usage.units.push(Unit { name: name.to_owned(), amount });
            }
        }
        usage
    }
}

fn whole(count: Count) -> Option<u64> {
    count.filter(|&count| count >= 0.0).map(|count| count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_billed_is_what_is_metered() {
        let counts: Counts<'_> = serde_json::from_str(
            r#"{"billed_units":{"input_tokens":5.0,"output_tokens":418,"search_units":1},
                "tokens":{"input_tokens":71,"output_tokens":420},"cached_tokens":64}"#,
        )
        .unwrap();
        let usage = counts.usage();
        assert_eq!((usage.input, usage.output, usage.cache_read), (Some(5), Some(418), Some(5)));
        assert_eq!(usage.units, [Unit { name: "search_units".to_owned(), amount: 1.0 }]);
    }

    #[test]
    fn without_a_bill_what_was_processed_counts() {
        let counts: Counts<'_> =
            serde_json::from_str(r#"{"tokens":{"input_tokens":71,"output_tokens":-1}}"#).unwrap();
        let usage = counts.usage();
        assert_eq!((usage.input, usage.output, usage.cache_read), (Some(71), None, None));
    }
}
