//! What recorded exchanges cost, to the last digit.
//!
//! Each expected amount is worked out by hand in the comment beside it, from the prices that the
//! vendor publishes (`plugins/NAME/models.json` has them with their sources) and the counts that the vendor
//! answered, in dollars per million: tokens times price, class by class. The recording is replayed
//! first, so its counts are what the adapter makes of the vendor's bytes.

use std::collections::BTreeMap;

use keyward_sdk::{
    descriptor::{
        Decimal, Price,
        price::{Cost, Counts, Day, PriceList},
    },
    replay::Recording,
};
use serde_json::Value as Json;

use crate::vendors::{self, Vendor};

/// The day most are billed on.
const TODAY: &str = "2026-11-22";

/// Vendor as the table of features has it, recording, day, cost in dollars.
type Case = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const CASES: [Case; 26] = [
    // 1928 * 0.20 + 2048 * 0.02 read + 1024 * 0.25 written + 700 * 1.20 with 512 of reasoning
    ("OpenAI", "costs", TODAY, "0.00152256"),
    // Beyond 272,000: 10000 * 4 + 250000 * 0.40 read + 40000 * 5 written + 1200 * 18
    ("OpenAI", "costs_streamed", TODAY, "0.3616"),
    // 94 * 0.15 + 1024 * 0.075 read + 7 * 0.60; the image is within the prompt
    ("OpenAI", "image", TODAY, "0.0000951"),
    // 75 * 0.15 + 51 * 0.60
    ("OpenAI", "tool_call_streamed", TODAY, "0.00004185"),
    // 86 * 1 + 1920 * 0.10 read + 900 * 6 before the price fell, ...
    ("OpenAI", "reasoning", "2026-07-29", "0.005678"),
    // ... and 86 * 0.20 + 1920 * 0.02 + 900 * 1.20 from then on
    ("OpenAI", "reasoning", "2026-07-30", "0.0011356"),
    // Beyond 272,000: 10001 * 4 + 250000 * 0.40 read + 40000 * 5 written + 1200 * 18
    ("OpenAI Responses", "costs", TODAY, "0.361604"),
    // 1928 * 2 + 2048 * 0.20 read + 1024 * 2.50 written + 700 * 12
    ("OpenAI Responses", "costs_streamed", TODAY, "0.0152256"),
    // 94 * 2 + 1024 * 0.20 read + 7 * 12
    ("OpenAI Responses", "image", TODAY, "0.0004768"),
    // 86 * 2 + 1920 * 2.50 written + 900 * 12 with 832 of reasoning
    ("OpenAI Responses", "reasoning_streamed", TODAY, "0.015772"),
    // 1900 * 0.10 + 40000 * 0.01 read + 5000 * 0.125 and 3000 * 0.20 written for five minutes and
    // an hour + 420 * 0.50, and two searches for a cent each
    ("Anthropic", "costs", TODAY, "0.022025"),
    // One token beyond 100,000: 1900 * 0.50 + 90000 * 0.05 + 5000 * 0.625 + 3101 * 1 + 420 * 2.50,
    // and two searches
    ("Anthropic", "costs_streamed", TODAY, "0.032726"),
    // 1900 * 2 + 40000 * 0.20 + 5000 * 2.50 + 3000 * 4 + 420 * 10 before the price fell, ...
    ("Anthropic", "costs_dated", "2026-10-06", "0.0405"),
    // ... and 40000 * 0.10 read from then on
    ("Anthropic", "costs_dated", "2026-10-07", "0.0365"),
    // 5024 * 0.75 with 120 from tools + 4096 * 0.075 read + 545 * 3.75 with 512 of thinking
    ("Gemini", "costs", TODAY, "0.00611895"),
    // The same from next year on: twice that
    ("Gemini", "costs", "2027-01-01", "0.0122379"),
    // Beyond 200,000: 50001 * 4 + 150000 * 0.40 read + 733 * 18
    ("Gemini", "costs_streamed", TODAY, "0.273198"),
    // 300 * 0.30 + 400 * 1.00 of audio + 275 * 0.03 read + 25 * 0.10 read of audio + 1 * 2.50
    ("Gemini", "files_audio_video", TODAY, "0.00050325"),
    // 2952 * 0.15 + 2048 * 0.075 read + 700 * 0.60
    ("Azure OpenAI", "costs", TODAY, "0.0010164"),
    // 2952 * 1.10 + 2048 * 0.275 read + 700 * 4.40 with 512 of reasoning
    ("Azure OpenAI", "costs_streamed", TODAY, "0.0068904"),
    // 1201 * 0.0375, cached or not, + 77 * 0.15
    ("Cohere", "costs", TODAY, "0.0000565875"),
    // 1201 * 2.50 + 77 * 10
    ("Cohere", "costs_streamed", TODAY, "0.0037725"),
    // 3 * 0.12 + 512 * 0.47 of an image
    ("Cohere", "embeddings_image", TODAY, "0.000241"),
    // 10.263 neurons at 0.011 dollars for a thousand
    ("Cloudflare", "costs", TODAY, "0.000112893"),
    // 1201 * 0.35 + 77 * 0.75 with 50 of reasoning, where no neurons are told
    ("Cloudflare", "costs_streamed", TODAY, "0.0004781"),
    // 180 * 0.293 + 20 * 2.253
    ("Cloudflare native", "tool_call_streamed", TODAY, "0.0000978"),
];

/// Azure's models are deployments, of names that nobody else knows: their prices stand in the
/// configuration. These are Azure's list prices for global deployments, by its meters
/// "gpt-4o-mini-0718 Inp / cached Inp / Outp glbl" and "o4-mini 0416 Inp / cached Inp / Outp glbl" of
/// https://prices.azure.com/api/retail/prices as of 2026-08-11, in the copy that PyPI's
/// azure-genai-prices 0.2.0 has, read 2026-11-22.
const DEPLOYMENTS: [(&str, [&str; 3]); 2] =
    [("my-gpt-4o-mini", ["0.15", "0.075", "0.60"]), ("my-o4-mini", ["1.10", "0.275", "4.40"])];

/// The prices of a model of a vendor.
fn prices(vendor: &Vendor, model: &str) -> PriceList {
    let deployed = DEPLOYMENTS.iter().find(|(name, _)| *name == model);
    let prices = match deployed {
        Some((_, amounts)) => {
            let mut price = Price {
                from: "2026-01-01".to_owned(),
                currency: "USD".to_owned(),
                ..Price::default()
            };
            for (class, amount) in ["input", "cache-read", "output"].into_iter().zip(amounts) {
                price.amounts.per_million.insert(class.to_owned(), (*amount).to_owned());
            }
            vec![price]
        }
        None => {
            let known = vendor.describe().models.into_iter().find(|one| one.id == model);
            known.unwrap_or_else(|| panic!("{} doesn't price {model}", vendor.title)).prices
        }
    };
    PriceList::new(&prices).unwrap_or_else(|problem| panic!("{model}: {problem}"))
}

fn model(recording: &Recording) -> &str {
    match &recording.operation {
        keyward_sdk::Operation::Chat(chat) => &chat.model,
        keyward_sdk::Operation::Embed(embed) => &embed.model,
        _ => panic!("{}: costs nothing", recording.name),
    }
}

/// Usage as the events have it: a later one replaces what it gives of an earlier one.
struct Used {
    tokens: BTreeMap<String, u64>,
    units: BTreeMap<String, f64>,
}

impl Used {
    fn new(recording: &Recording) -> Self {
        let mut used = Self { tokens: BTreeMap::new(), units: BTreeMap::new() };
        for usage in recording.events.iter().filter_map(|event| event["usage"].as_object()) {
            for (name, count) in usage {
                match count {
                    Json::Object(units) => {
                        let units =
                            units.iter().filter_map(|(n, v)| Some((n.clone(), v.as_f64()?)));
                        used.units.extend(units);
                    }
                    count => drop(used.tokens.insert(name.clone(), count.as_u64().unwrap())),
                }
            }
        }
        used
    }

    fn counts(&self) -> Counts<'_> {
        let count = |name: &str| self.tokens.get(name).copied().unwrap_or(0);
        let units = self.units.iter();
        Counts {
            input: count("input"),
            cache_read: count("cache_read"),
            cache_write: count("cache_write"),
            output: count("output"),
            reasoning: count("reasoning"),
            requests: 1,
            units: units.map(|(n, &v)| (n.as_str(), Decimal::from_f64(v).unwrap())).collect(),
        }
    }
}

fn shown(cost: &Cost<'_>) -> String {
    let items: Vec<String> = cost
        .items
        .iter()
        .map(|item| format!("{} {}: {}", item.quantity, item.what, item.amount))
        .collect();
    format!("{} = {} (unpriced: {:?})", cost.total, items.join(" + "), cost.unpriced)
}

#[test]
fn recorded_exchanges_cost_what_was_worked_out_by_hand() {
    let vendors = vendors::all();
    let mut wrong = Vec::new();
    for (title, case, day, expected) in CASES {
        let vendor = vendors.iter().find(|vendor| vendor.title == title).unwrap();
        let recording =
            vendor.recording(case).unwrap_or_else(|| panic!("{title} has no recording {case}"));
        vendor.replay(&recording);
        let prices = prices(vendor, model(&recording));
        let used = Used::new(&recording);
        let tariff = prices.on(day.parse::<Day>().unwrap()).unwrap();
        let counts = used.counts();
        let cost = tariff.cost(&counts).unwrap();
        if cost.total.to_string() != expected || !cost.unpriced.is_empty() {
            wrong.push(format!("{title}, {case}, {day}: {expected} expected: {}", shown(&cost)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_vendor_with_prices_has_its_cost_shown_plain_and_streamed() {
    let shown: Vec<(&str, bool)> = CASES
        .iter()
        .map(|(title, case, ..)| (title.trim_end_matches(" native"), case.ends_with("_streamed")))
        .collect();
    for vendor in vendors::all() {
        let priced = vendor.describe().models.iter().any(|model| !model.prices.is_empty());
        let title = vendor.title.trim_end_matches(" native");
        if priced || vendor.adapter == "azure-openai" {
            assert!(shown.contains(&(title, false)), "{title} plain");
            assert!(shown.contains(&(title, true)), "{title} streamed");
        }
    }
}

/// A model's file is for people as well: each figure says where it is from and when it was read.
#[test]
fn every_price_has_a_source_and_a_day() {
    for vendor in vendors::all() {
        for model in vendor.describe().models {
            let prices = PriceList::new(&model.prices);
            let prices = prices.unwrap_or_else(|problem| panic!("{}: {problem}", model.id));
            for tariff in prices.tariffs() {
                assert!(tariff.source.starts_with("https://"), "{}", model.id);
                assert!(tariff.read.is_some(), "{}", model.id);
            }
        }
    }
}
