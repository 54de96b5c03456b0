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

    #[test]
    fn the_cost_is_that_of_the_bill_to_the_last_digit() {
        /// Millionths of a millionth of a dollar.
        fn exact(decimal: &str, digits: usize) -> u64 {
            let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
            format!("{whole}{fraction:0<digits$}").parse().unwrap()
        }
        let cost = |model: &str, usage: &Usage| {
            let known = crate::models::known();
            let price = known.iter().find(|one| one.id == model).unwrap().prices.last().unwrap();
            let class = |name: &str| price.per_million.get(name).map_or(0, |it| exact(it, 6));
            let units: u64 = usage.units.iter().fold(0, |sum, unit| {
                let price = price.per_unit.get(&unit.name).map_or(0, |it| exact(it, 12));
                sum + price * unit.amount as u64
            });
            usage.input.unwrap_or_default() * class("input")
                + usage.output.unwrap_or_default() * class("output")
                + units
        };
        let chat: Counts<'_> = serde_json::from_str(
            r#"{"billed_units":{"input_tokens":24,"output_tokens":20},
                "tokens":{"input_tokens":1200,"output_tokens":49},"cached_tokens":1184}"#,
        )
        .unwrap();
        // 24 * 0.0375 + 20 * 0.15 dollars per million.
        assert_eq!(cost("command-r7b-12-2024", &chat.usage()), 3_900_000);
        let embed: Units =
            serde_json::from_str(r#"{"input_tokens":3,"images":1,"image_tokens":512}"#).unwrap();
        // 3 * 0.12 + 512 * 0.47 dollars per million.
        assert_eq!(cost("embed-v4.0", &embed.usage()), 241_000_000);
    }
}
