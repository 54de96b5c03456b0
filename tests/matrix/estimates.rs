//! How far the host's estimate of tokens is from what tokenizers count.
//!
//! `tests/tokens` has labelled texts and what real tokenizers made of them; the estimate is the
//! host's own file, included here because the host takes long to build. The errors stated in
//! `docs/models.md` come out of this test, and it fails if they become worse or the page says
//! anything else.

// The host's file names its own items; what only the host uses is unused here.
#[path = "../../host/core/src/metering/estimate.rs"]
#[allow(dead_code, reason = "the host uses the rest")]
mod estimate;

use std::{collections::BTreeMap, fs};

use serde_json::Value as Json;

use estimate::{Estimator, Family};

const TOKENIZERS: [(&str, Family); 2] =
    [("o200k_base", Family::Large), ("cl100k_base", Family::Small)];

/// What the host counted before: bytes by four.
const BYTES_PER_TOKEN: f64 = 4.0;

/// Relative errors.
struct Errors(Vec<f64>);

impl Errors {
    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    fn percentile_95(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() * 95).div_ceil(100) - 1]
    }

    fn shown(&self) -> String {
        format!("{:.0} %, {:.0} %", self.mean() * 100.0, self.percentile_95() * 100.0)
    }
}

/// The samples of a text, cut as `tests/tokens` cuts it.
fn samples(name: &str) -> Vec<String> {
    let path = crate::project(&format!("tests/tokens/texts/{name}.txt"));
    let text = fs::read_to_string(path).unwrap();
    let pieces: Vec<&str> = text.split("\n\n").filter(|piece| !piece.trim().is_empty()).collect();
    let joined = pieces.chunks(3).map(|three| three.join("\n\n"));
    pieces.iter().map(|piece| (*piece).to_owned()).chain(joined).collect()
}

#[test]
fn estimates_are_as_near_as_the_page_says() {
    let counts = fs::read_to_string(crate::project("tests/tokens/counts.json")).unwrap();
    let counts: BTreeMap<String, Vec<Json>> = serde_json::from_str(&counts).unwrap();
    let mut rows = vec![
        "| text | samples | large | small | bytes by four, large |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for (name, counted) in &counts {
        let samples = samples(name);
        assert_eq!(samples.len(), counted.len(), "{name}: write counts.json anew");
        let mut errors = [Vec::new(), Vec::new(), Vec::new()];
        for (sample, counted) in samples.iter().zip(counted) {
            assert_eq!(Some(sample.len() as u64), counted["bytes"].as_u64(), "{name}");
            for (at, (tokenizer, family)) in TOKENIZERS.into_iter().enumerate() {
                let mut estimator = Estimator::new(family);
                estimator.add(sample);
                let real = counted[tokenizer].as_f64().unwrap();
                errors[at].push((estimator.tokens() as f64 / real - 1.0).abs());
            }
            let real = counted[TOKENIZERS[0].0].as_f64().unwrap();
            errors[2].push(((sample.len() as f64 / BYTES_PER_TOKEN).ceil() / real - 1.0).abs());
        }
        for (all, errors) in all.iter_mut().zip(&errors) {
            all.extend(errors);
        }
        let [large, small, bytes] = errors.map(|errors| Errors(errors).shown());
        rows.push(format!("| {name} | {} | {large} | {small} | {bytes} |", counted.len()));
    }
    let number = all[0].len();
    let [large, small, bytes] = all.map(Errors);
    for errors in [&large, &small] {
        assert!(errors.mean() < 0.08 && errors.percentile_95() < 0.25, "{}", errors.shown());
    }
    let [large, small, bytes] = [large, small, bytes].map(|errors| errors.shown());
    rows.push(format!("| **all** | {number} | {large} | {small} | {bytes} |"));
    let page = fs::read_to_string(crate::project("docs/models.md")).unwrap_or_default();
    let table = rows.join("\n");
    assert!(page.contains(&table), "docs/models.md should have this table:\n{table}");
}
