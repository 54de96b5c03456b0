//! What an operator looks for: words and patterns of their own.
//!
//! All words are one automaton over the text in lower case. Each pattern is a pass of the `regex`
//! crate, whose time is bounded by the text's length times the pattern's size; what a pattern may
//! be compiled to is limited.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexBuilder};

use super::{
    Found, bytes,
    fold::Folded,
    rules::{MAX_PATTERN, MAX_PATTERNS, MAX_WORD, MAX_WORDS, Pattern, PatternError, PrivacyRules},
};

/// What one pattern may be compiled to, in bytes, and what its cache may grow to.
const COMPILED: usize = 1 << 20;
/// Matches of one pattern without its context, after which the text isn't searched on.
const MATCHES: usize = 1000;
/// How far from a match its context words may stand, in bytes.
const NEAR: usize = 100;

pub(super) struct Own {
    words: Option<AhoCorasick>,
    patterns: Vec<OwnPattern>,
}

struct OwnPattern {
    name: Arc<str>,
    pattern: Regex,
    context: Option<AhoCorasick>,
}

impl Own {
    pub fn compile(rules: &PrivacyRules) -> Result<Self, PatternError> {
        if rules.words.len() > MAX_WORDS {
            return Err(PatternError::TooManyWords);
        }
        if rules.patterns.len() > MAX_PATTERNS {
            return Err(PatternError::TooManyPatterns);
        }
        if let Some(index) = rules.words.iter().position(|word| !is_word(word)) {
            return Err(PatternError::Word { index });
        }
        let words = finder(&rules.words).ok_or(PatternError::TooManyWords)?;
        let patterns = rules
            .patterns
            .iter()
            .map(|(name, pattern)| OwnPattern::compile(name, pattern))
            .collect::<Result<_, _>>()?;
        Ok(Self { words, patterns })
    }

    pub fn scan(
        &self,
        folded: &Folded<'_>,
        original: &str,
        report: &mut dyn FnMut(Found, Range<usize>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Some(words) = &self.words {
            let text = lower(folded.text());
            for found in words.find_overlapping_iter(&text) {
                if is_whole(&text, &found.range()) {
                    report(Found::Word, folded.range(found.range()))?;
                }
            }
        }
        for own in &self.patterns {
            // A pattern may name the very characters that were replaced.
            if folded.changed() {
                for range in own.matches(original) {
                    report(Found::Pattern(own.name.clone()), range)?;
                }
            }
            for range in own.matches(folded.text()) {
                report(Found::Pattern(own.name.clone()), folded.range(range))?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl OwnPattern {
    fn compile(name: &str, rule: &Pattern) -> Result<Self, PatternError> {
        let bad = |reason: String| PatternError::Bad { name: name.to_owned(), reason };
        if rule.pattern.len() > MAX_PATTERN {
            return Err(bad(format!("longer than {MAX_PATTERN} bytes")));
        }
        let pattern = RegexBuilder::new(&rule.pattern)
            .size_limit(COMPILED)
            .dfa_size_limit(COMPILED)
            .nest_limit(50)
            .build()
            .map_err(|error| bad(reason(&error)))?;
        if pattern.is_match("") {
            return Err(PatternError::MatchesNothing { name: name.to_owned() });
        }
        let known =
            rule.context.len() <= MAX_WORDS && rule.context.iter().all(|word| is_word(word));
        let context = known.then(|| finder(&rule.context)).flatten();
        let context = context.ok_or_else(|| PatternError::Context { name: name.to_owned() })?;
        Ok(Self { name: name.into(), pattern, context })
    }

    fn matches<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.pattern
            .find_iter(text)
            .take(MATCHES)
            .map(|found| found.range())
            .filter(|range| !range.is_empty() && self.is_near(text, range))
    }

    fn is_near(&self, text: &str, range: &Range<usize>) -> bool {
        let Some(context) = &self.context else { return true };
        let from = bytes::head(text, range.start, NEAR);
        let window = lower(&text[from..bytes::tail(text, range.end, NEAR)]);
        context.find_overlapping_iter(&window).any(|found| is_whole(&window, &found.range()))
    }
}

/// The last line of the crate's message, which names the mistake; those before draw it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").trim().to_owned()
}

fn is_word(word: &str) -> bool {
    (1..=MAX_WORD).contains(&word.len()) && word.contains(char::is_alphanumeric)
}

/// `None` if they are too many to build; `Some(None)` if there are none.
fn finder(words: &[String]) -> Option<Option<AhoCorasick>> {
    if words.is_empty() {
        return Some(None);
    }
    let words = words.iter().map(|word| lower(Folded::new(word).text()));
    AhoCorasick::builder().match_kind(MatchKind::Standard).build(words).ok().map(Some)
}

/// In lower case, every character where it was: those whose lower case has another length stay.
fn lower(text: &str) -> String {
    let lower = |c: char| match c {
        'ς' => 'σ',
        _ if c.is_ascii() => c.to_ascii_lowercase(),
        _ => {
            let mut lower = c.to_lowercase();
            match (lower.next(), lower.next()) {
                (Some(one), None) if one.len_utf8() == c.len_utf8() => one,
                _ => c,
            }
        }
    };
    text.chars().map(lower).collect()
}

/// Whether no letter or digit goes on before or after `range`.
pub(super) fn is_whole(text: &str, range: &Range<usize>) -> bool {
    let goes_on = |inside: Option<char>, outside: Option<char>| {
        let part = |c: char| c.is_alphanumeric() && !is_unspaced(c);
        inside.is_some_and(part) && outside.is_some_and(part)
    };
    let word = &text[range.clone()];
    !goes_on(word.chars().next(), text[..range.start].chars().next_back())
        && !goes_on(word.chars().next_back(), text[range.end..].chars().next())
}

/// Of a script that puts no spaces between words, or hangs endings on them.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff // Thai, Lao
        | 0x1000..=0x109f // Burmese
        | 0x1780..=0x17ff // Khmer
        | 0x2e80..=0x9fff // Chinese, Japanese
        | 0xac00..=0xd7af // Korean
        | 0xf900..=0xfaff
        | 0x20000..=0x3ffff)
}
