//! `keyward privacy`: what makes a request sensitive, tried on a text. Nothing leaves this process.

use std::{io::Read, process::ExitCode};

use anyhow::{Context, bail};
use keyward::{
    config::Config,
    privacy::{Detectors, Finding, PrivacyRules, masked},
};
use serde_json::json;

use crate::args::{Places, Privacy};

/// The exit code when something was found, apart from 1 for failures and 2 for wrong arguments.
const FOUND: u8 = 3;

/// More than any vendor takes as a prompt.
const LONGEST: u64 = 64 << 20;

pub fn privacy(places: &Places, command: Privacy) -> anyhow::Result<ExitCode> {
    let Privacy::Test { text } = command;
    let text = if text == "-" { from_standard_input()? } else { text };
    let rules = Rules::of(places)?;
    let findings = Detectors::compile(&rules.rules)?.find_all(&text);
    if places.json {
        let list: Vec<_> = findings.iter().map(|finding| as_json(finding, &text)).collect();
        super::print_json(&json!({"in_force": rules.in_force, "findings": list}));
    } else {
        for finding in &findings {
            let (line, column) = position(&text, finding.range.start);
            let excerpt = super::printable(&masked(&text[finding.range.clone()]));
            println!("{line}:{column} {} {excerpt}", finding.found);
        }
        if findings.is_empty() {
            println!("nothing found");
        }
        if !rules.in_force {
            eprintln!(
                "keyward: this is what `privacy: {{}}` in {} would find. Requests aren't looked \
                 into without such a section, or with `detect: false` in it.",
                places.config.display()
            );
        }
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

struct Rules {
    rules: PrivacyRules,
    /// Whether requests are looked into by them.
    in_force: bool,
}

impl Rules {
    /// Those of the configuration, switched on if they aren't: they are to be tried.
    fn of(places: &Places) -> anyhow::Result<Self> {
        let mut rules = match places.config.try_exists() {
            Ok(false) => PrivacyRules::default(),
            _ => Config::load(&places.config)?.config.privacy.clone(),
        };
        let in_force = rules.detect;
        rules.detect = true;
        Ok(Self { rules, in_force })
    }
}

fn from_standard_input() -> anyhow::Result<String> {
    let mut text = Vec::new();
    let read = std::io::stdin().take(LONGEST + 1).read_to_end(&mut text);
    read.context("can't read standard input")?;
    if text.len() as u64 > LONGEST {
        bail!("standard input has more than {} MiB", LONGEST >> 20);
    }
    String::from_utf8(text).context("standard input isn't UTF-8")
}

fn as_json(finding: &Finding, text: &str) -> serde_json::Value {
    let (line, column) = position(text, finding.range.start);
    json!({
        "detector": finding.found.to_string(),
        "start": finding.range.start,
        "end": finding.range.end,
        "line": line,
        "column": column,
        "excerpt": masked(&text[finding.range.clone()]),
    })
}

/// Line and column of a byte, from 1, columns in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
