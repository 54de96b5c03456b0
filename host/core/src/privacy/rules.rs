//! What an operator says about sensitive data: which detectors, which patterns and words of their own.
//!
//! Plain data, read from `providers.yaml` by the configuration; [`Detectors::compile`] makes it
//! work.
//!
//! [`Detectors::compile`]: super::Detectors::compile

use indexmap::IndexMap;

use super::Detector;

/// Patterns of one's own. Each is a pass over every text.
pub const MAX_PATTERNS: usize = 100;
/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 2000;
/// Words of one's own, and context words of one pattern. All are found in one pass.
pub const MAX_WORDS: usize = 10_000;
/// The longest word, in bytes.
pub const MAX_WORD: usize = 200;

/// The `privacy:` section.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PrivacyRules {
    /// Whether anything is looked for. Without a section nothing is.
    pub detect: bool,
    /// Built-in detectors that are switched other than by default.
    pub detectors: IndexMap<Detector, bool>,
    /// Patterns of the operator's own, by name.
    pub patterns: IndexMap<String, Pattern>,
    /// Words that make a text sensitive wherever they stand as a whole, in any case.
    pub words: Vec<String>,
}

impl PrivacyRules {
    /// What an empty section means: all detectors as they are by default.
    pub fn on() -> Self {
        Self { detect: true, ..Self::default() }
    }

    /// Whether a built-in detector is to look.
    pub fn uses(&self, detector: Detector) -> bool {
        self.detect
            && self.detectors.get(&detector).copied().unwrap_or_else(|| detector.on_by_default())
    }
}

/// A pattern of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// In the syntax of the `regex` crate.
    pub pattern: String,
    /// Words of which one must stand near a match. Without any, every match counts.
    pub context: Vec<String>,
}

/// Why rules can't be used. Says which one, so that its place in the file can be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It isn't a regular expression, or a too large one.
    #[error("pattern `{name}`: {reason}")]
    Bad { name: String, reason: String },
    /// It would find something in every text.
    #[error("pattern `{name}` matches the empty text, so it would find something everywhere")]
    MatchesNothing { name: String },
    /// A context word of a pattern is empty or too long.
    #[error("pattern `{name}`: a context word must have 1 to {MAX_WORD} bytes")]
    Context { name: String },
    #[error("more than {MAX_PATTERNS} patterns")]
    TooManyPatterns,
    /// The word's index in the list.
    #[error("word {} of the list must have 1 to {MAX_WORD} bytes and a letter or digit", .index + 1)]
    Word { index: usize },
    #[error("more than {MAX_WORDS} words")]
    TooManyWords,
}
