//! The labelled texts, and how often the detectors are wrong on them.
//!
//! A line is a text in which what is sensitive stands between marks: `⟦detector|value⟧`. A `⁞` in it
//! is dropped on reading: it keeps scanners of repositories from taking invented secrets for real
//! ones. All values are invented; those with a checksum have a right one. `tuned.jsonl` was looked
//! at while the detectors were made, `held-out.jsonl` was not.

use std::{collections::BTreeMap, ops::Range, path::Path};

use super::{Detector, Detectors, Found, PrivacyRules};

struct Labelled {
    text: String,
    marks: Vec<(Detector, Range<usize>)>,
}

fn read(file: &str) -> Vec<Labelled> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/privacy/labelled").join(file);
    let lines = std::fs::read_to_string(path).unwrap();
    lines
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            unmark(line["text"].as_str().unwrap())
        })
        .collect()
}

fn unmark(line: &str) -> Labelled {
    let line = line.replace('⁞', "");
    let (mut text, mut marks) = (String::new(), Vec::new());
    let mut rest = line.as_str();
    while let Some((before, marked)) = rest.split_once('⟦') {
        text.push_str(before);
        let (mark, after) = marked.split_once('⟧').unwrap();
        let (name, value) = mark.split_once('|').unwrap();
        marks.push((name.parse().expect(name), text.len()..text.len() + value.len()));
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    Labelled { text, marks }
}

/// Of one detector: what there is, what of it wasn't found, what was found that isn't there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Score {
    marked: usize,
    missed: usize,
    false_alarms: usize,
}

/// Every detector on, also the one that is off by default.
fn all() -> Detectors {
    let detectors = Detector::ALL.iter().map(|detector| (*detector, true)).collect();
    Detectors::compile(&PrivacyRules { detectors, ..PrivacyRules::on() }).unwrap()
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Each detector's score, and what was wrong for a reader.
fn measure(file: &str) -> (BTreeMap<Detector, Score>, Vec<String>) {
    let detectors = all();
    let mut scores: BTreeMap<Detector, Score> = BTreeMap::new();
    let mut wrong = Vec::new();
    for Labelled { text, marks } in read(file) {
        let findings = detectors.find_all(&text);
        for (detector, range) in &marks {
            let score = scores.entry(*detector).or_default();
            score.marked += 1;
            let found = findings.iter().any(|finding| {
                finding.found == Found::Detector(*detector) && overlap(&finding.range, range)
            });
            if !found {
                score.missed += 1;
                wrong.push(format!("missed {detector} {:?} in {text:?}", &text[range.clone()]));
            }
        }
        for finding in findings {
            let Found::Detector(detector) = finding.found else { continue };
            let right = marks
                .iter()
                .any(|(marked, range)| *marked == detector && overlap(&finding.range, range));
            if !right {
                scores.entry(detector).or_default().false_alarms += 1;
                wrong.push(format!("false {detector} {:?} in {text:?}", &text[finding.range]));
            }
        }
    }
    (scores, wrong)
}

/// The lines of a table in the documentation: detector, then for each set what is marked in it,
/// what was missed, and false alarms.
fn table(sets: [&BTreeMap<Detector, Score>; 2]) -> String {
    let line = |name: &str, scores: [Score; 2]| {
        let cells = scores.map(|s| format!(" {} | {} | {} |", s.marked, s.missed, s.false_alarms));
        format!("| {name} |{}{}\n", cells[0], cells[1])
    };
    let mut totals = [Score::default(); 2];
    let mut lines = String::new();
    // Of token numbers there are no texts.
    let of_texts = Detector::ALL.iter().filter(|it| **it != Detector::TokenNumbers);
    for detector in of_texts {
        let scores = sets.map(|set| set.get(detector).copied().unwrap_or_default());
        for (total, score) in totals.iter_mut().zip(scores) {
            total.marked += score.marked;
            total.missed += score.missed;
            total.false_alarms += score.false_alarms;
        }
        lines += &line(&format!("`{detector}`"), scores);
    }
    lines + &line("together", totals)
}

/// `KEYWARD_SHOW=1 cargo test -p keyward stated -- --nocapture` shows what is wrong, of the tuned
/// set only: who has seen the other can't hold it out any more.
#[test]
fn the_detectors_are_wrong_as_often_as_stated() {
    let (tuned, wrong) = measure("tuned.jsonl");
    let (held_out, _) = measure("held-out.jsonl");
    if std::env::var_os("KEYWARD_SHOW").is_some() {
        println!("{}", wrong.join("\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/privacy.md");
    let page = std::fs::read_to_string(path).unwrap();
    let measured = table([&tuned, &held_out]);
    assert!(
        page.contains(&measured),
        "docs/privacy.md states other figures than these:\n{measured}"
    );
}

#[test]
fn the_sets_are_as_large_as_stated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/privacy.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (tuned, held_out) = (read("tuned.jsonl"), read("held-out.jsonl"));
    let empty = |set: &[Labelled]| set.iter().filter(|labelled| labelled.marks.is_empty()).count();
    let stated = format!(
        "{} texts were looked at while the detectors were made ({} of them hold nothing sensitive), {} \
         were held out ({} hold nothing).",
        tuned.len(),
        empty(&tuned),
        held_out.len(),
        empty(&held_out),
    );
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&stated), "docs/privacy.md should state: {stated}");
}
