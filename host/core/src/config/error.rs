//! What is wrong with a configuration file, shown as a compiler would.
//!
//! All problems of a file come together, each with its place, the line it stands on and what to
//! do. Nothing in here holds a credential: whatever is taken from the file goes through
//! [`super::guard`] when a problem is made, not when it is shown.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{guard, tree::Position};

/// More problems than this in one file are counted but not kept.
pub(super) const MAX_PROBLEMS: usize = 50;
/// Longer lines aren't shown at all: they are data, not writing.
const MAX_LINE: usize = 20_000;
/// The widest piece of a line that is shown.
const MAX_EXCERPT: usize = 120;
/// The longest piece of the file that is quoted in a message.
const MAX_QUOTE: usize = 60;

/// A file that can't be used, and why. Never empty.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ConfigError {
    pub file: PathBuf,
    /// In the order of the file, at most 50.
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Problem {
    /// `None` if it concerns the whole file.
    #[serde(flatten)]
    pub at: Option<Position>,
    /// The field, as `providers.openai.models[1]`; empty for the whole file.
    pub path: String,
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line at fault.
    pub excerpt: Option<Excerpt>,
}

/// One line of the file, made safe to show.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Excerpt {
    pub text: String,
    /// Characters of `text` before the fault.
    pub offset: usize,
    /// Characters of the fault, at least 1.
    pub width: usize,
}

impl ConfigError {
    /// Puts `problems` in the order of the file. An empty list becomes one problem without words.
    pub fn new(file: &Path, problems: Vec<Problem>) -> Self {
        Self::with_more(file, problems, 0)
    }

    /// With a number of further problems that weren't kept.
    pub(super) fn with_more(file: &Path, mut problems: Vec<Problem>, more: usize) -> Self {
        problems.sort_by_key(|problem| problem.at);
        problems.dedup();
        if problems.is_empty() {
            problems.push(Problem::of_file("cannot be used"));
        }
        let more = more + problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem::of_file(format!("{more} more problems")));
        }
        Self { file: file.to_owned(), problems }
    }

    pub(super) fn of_file(file: &Path, problem: Problem) -> Self {
        Self::new(file, vec![problem])
    }
}

impl Problem {
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { at: None, path: String::new(), message: message.into(), help: None, excerpt: None }
    }

    /// `width` is the number of characters at fault, if known. With `secret`, nothing of the line
    /// from the fault on is shown.
    pub(super) fn at(
        text: &str,
        at: Option<Position>,
        width: usize,
        secret: bool,
        path: &str,
        message: &str,
    ) -> Self {
        let excerpt = at.and_then(|at| {
            let line = line(text, at.line).filter(|line| line.len() <= MAX_LINE)?;
            Some(Excerpt::new(line, (at.column as usize).saturating_sub(1), width, secret))
        });
        Self { at, path: guard::redact(path), message: guard::redact(message), help: None, excerpt }
    }

    pub(super) fn help(mut self, help: impl AsRef<str>) -> Self {
        self.help = Some(guard::redact(help.as_ref()));
        self
    }
}

impl Excerpt {
    fn new(line: &str, column: usize, width: usize, secret: bool) -> Self {
        let chars: Vec<char> = line.chars().collect();
        let column = column.min(chars.len());
        let mut hidden = guard::hidden(&chars);
        if secret {
            hidden[column..].fill(true);
        }
        let (shown, moved) = guard::render(&chars, &hidden);
        let shown: Vec<char> = shown.chars().collect();
        let begin = moved[column];
        let end = moved[(column + width).min(chars.len())];

        // A long line is cut to a window around the fault.
        let first = if begin > MAX_EXCERPT * 2 / 3 { begin - MAX_EXCERPT / 3 } else { 0 };
        let last = shown.len().min(first + MAX_EXCERPT);
        let mut text: String = shown[first..last].iter().collect();
        let mut offset = begin - first;
        if first > 0 {
            text.insert_str(0, "… ");
            offset += 2;
        }
        if last < shown.len() {
            text.push_str(" …");
        }
        Self { text, offset, width: end.min(last).saturating_sub(begin).max(1) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(at) = problem.at {
                write!(f, "{}:{}:", at.line, at.column)?;
            }
            write!(f, " {problem}")?;
        }
        Ok(())
    }
}

/// The message, the line with a caret below it, and the help, without the file's name.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let (Some(at), Some(excerpt)) = (self.at, &self.excerpt) {
            write!(f, "\n{:>6} | {}", at.line, excerpt.text)?;
            let (gap, caret) = (" ".repeat(excerpt.offset), "^".repeat(excerpt.width));
            write!(f, "\n       | {gap}{caret}")?;
        }
        match &self.help {
            Some(help) => write!(f, "\n       = {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A piece of the file for a message: quoted, short, harmless.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTE).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{}`", guard::redact(&shown))
}

/// Line `number`, from 1, ended as YAML ends lines: by LF, CR or both.
pub(super) fn line(text: &str, number: u32) -> Option<&str> {
    let mut rest = text;
    for _ in 1..number {
        let end = rest.find(['\n', '\r'])?;
        let ending = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + ending..];
    }
    rest.split(['\n', '\r']).next()
}

/// The line and column of what follows `text`.
pub(super) fn position_after(text: &str) -> Position {
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = unified.matches('\n').count() + 1;
    let column = unified.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: small(line), column: small(column) }
}
