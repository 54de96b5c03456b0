//! What looking for sensitive data costs, against reading the same text once.
//!
//! `cargo bench --bench privacy`. One thread, the least of many runs. Each text has 100 KB; the first
//! ones are what prompts are made of, the others what somebody might send to make it slow. Checking
//! UTF-8 and searching for a byte that isn't there are the cheapest ways to read a text at all.

// A bench that can't go on has nothing to report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{hint::black_box, time::Instant};

use keyward::privacy::Detectors;

const SIZE: usize = 100 << 10;
const RUNS: usize = 60;

/// Aims in milliseconds.
const AIM_PROSE: f64 = 1.0;
const AIM_DATA: f64 = 2.0;

fn main() {
    let detectors = Detectors::default();
    println!("{:<28} {:>9} {:>8} {:>8} {:>8}", "100 KB of", "ms", "MB/s", "x UTF-8", "x memchr");
    for (name, aim, text) in texts() {
        let scan = least(|| {
            black_box(detectors.find_all(black_box(&text)));
        });
        let utf8 = least(|| {
            black_box(std::str::from_utf8(black_box(text.as_bytes())).is_ok());
        });
        let search = least(|| {
            black_box(black_box(text.as_bytes()).contains(&0));
        });
        let verdict = match aim {
            Some(aim) if scan * 1e3 <= aim => format!("  within {aim} ms"),
            Some(aim) => format!("  NOT within {aim} ms"),
            None => String::new(),
        };
        println!(
            "{name:<28} {:>9.3} {:>8.0} {:>8.0} {:>8.0}{verdict}",
            scan * 1e3,
            text.len() as f64 / scan / 1e6,
            scan / utf8,
            scan / search,
        );
    }
}

fn least(run: impl Fn()) -> f64 {
    let runs = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    runs.fold(f64::MAX, f64::min)
}

fn texts() -> Vec<(&'static str, Option<f64>, String)> {
    let prose = include_str!("../../../docs/architecture.md");
    let code = include_str!("../../core/src/config/read.rs");
    let json = include_str!("../../../docs/providers.schema.json");
    let french =
        "L’été dernier, nous avons déjeuné près de l’église ; « rien de spécial », disait-il. ";
    let chinese = "今天天气很好，我们去公园散步，看到很多花。";
    let log = "2026-03-04T11:22:09.123Z INFO [worker-3] request 8f14e45f done in 12ms status=200 bytes=5120\n";
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = random();
    let base64: String =
        (0..SIZE).map(|_| char::from(alphabet[(random() % 64) as usize])).collect();
    let table: String = (0..SIZE / 4).map(|_| format!("{} ", random() % 1_000_000)).collect();
    let mut texts = vec![
        ("English prose", Some(AIM_PROSE), filled(prose)),
        ("French prose", Some(AIM_PROSE), filled(french)),
        ("Chinese prose", Some(AIM_PROSE), filled(chinese)),
        ("source code", Some(AIM_DATA), filled(code)),
        ("JSON", Some(AIM_DATA), filled(json)),
        ("base64", Some(AIM_DATA), base64),
        ("a log", Some(AIM_DATA), filled(log)),
        ("a table of numbers", None, filled(&table)),
    ];
    for piece in
        ["1", "1 ", "1234 ", "111222333 ", "1.1.1985 ", "@", "a.a@", "sk-", "eyJ.", "password="]
    {
        texts.push((piece, None, filled(piece)));
    }
    texts
}

fn filled(piece: &str) -> String {
    let mut text = piece.repeat(SIZE / piece.len() + 1);
    text.truncate(text.floor_char_boundary(SIZE));
    text
}

/// Marsaglia's xorshift: the same numbers in every run.
fn random() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
