//! YAML as a tree that remembers where everything stands.
//!
//! The typed configuration isn't deserialized from the text directly, because serde stops at the
//! first mistake and forgets positions of keys. The text becomes a [`Node`] first; `read.rs` walks
//! it and reports every mistake of the file with its line and column. What a file can cost is
//! bounded here: size, depth, nodes, and what aliases may expand to.

use std::{fmt, ops::Range};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Error, Location, MessageFormatter, Spanned, UserMessageFormatter,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

/// Sections, providers, settings and a list inside: real files need 6. Each level costs stack.
const MAX_DEPTH: usize = 16;
/// The longest text. Paths and URLs are shorter; an alias may repeat it a thousand times.
const MAX_TEXT: usize = 16 << 10;
/// A thousand providers with forty values each.
const MAX_NODES: usize = 50_000;
/// Shared blocks are fine; a document that is mostly aliases is an attack.
const MAX_ALIASES: usize = 1_000;
/// What all aliases together may expand to.
const MAX_EXPANDED: usize = 20_000;

/// Where a value or key begins. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub name: String,
    pub at: Option<Position>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: Option<Position>,
    /// The bytes of a scalar in the text, quotes included.
    pub bytes: Option<Range<usize>>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, duplicates included.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// For messages: what stands there instead of what was wanted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Why a text is no tree.
#[derive(Debug)]
pub(super) struct Malformed {
    pub at: Option<Position>,
    pub message: String,
    pub help: Option<&'static str>,
}

/// # Errors
/// If `text` isn't one YAML document within the bounds above.
pub(super) fn parse(text: &str) -> Result<Node, Malformed> {
    if text.trim().is_empty() {
        return Ok(Node { at: None, bytes: None, value: Value::Null });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_recorded_anchor_events: 4 * MAX_NODES,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_EXPANDED,
            max_replay_stack_depth: MAX_DEPTH,
        },
        // Reported by the reader, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `no` and `on` are words here, not booleans.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        emit_comments: false,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Option<Spanned<Value>>>(text, options)
        .map(|node| match node {
            Some(node) => node.into(),
            None => Node { at: None, bytes: None, value: Value::Null },
        })
        .map_err(|error| malformed(text, &error))
}

fn malformed(text: &str, error: &Error) -> Malformed {
    let at = error.location().and_then(position);
    let line = at.and_then(|at| super::error::line(text, at.line)).unwrap_or_default();
    let indented_by_tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let (message, help) = match cause(error) {
        Error::Budget { .. } => (
            "too large or too deeply nested".to_owned(),
            Some("A configuration has at most 50,000 values, 16 levels and 1,000 aliases."),
        ),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            "aliases expand to too much".to_owned(),
            Some("Write repeated blocks out, or share smaller ones."),
        ),
        Error::MultipleDocuments { .. } => (
            "a second document begins".to_owned(),
            Some("A configuration is one YAML document: remove the `---` line."),
        ),
        cause => (
            UserMessageFormatter.format_message(cause).into_owned(),
            indented_by_tab.then_some("YAML is indented with spaces; this line begins with a tab."),
        ),
    };
    Malformed { at, message, help }
}

fn cause(error: &Error) -> &Error {
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => cause(error),
        error => error,
    }
}

fn position(location: Location) -> Option<Position> {
    let line = u32::try_from(location.line()).ok().filter(|line| *line > 0)?;
    Some(Position { line, column: u32::try_from(location.column()).unwrap_or(1).max(1) })
}

impl From<Spanned<Value>> for Node {
    fn from(node: Spanned<Value>) -> Self {
        // Of an alias, the place where the value is written: that is what must be mended.
        let span = node.defined.span();
        let bytes = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        Self { at: position(node.defined), bytes, value: node.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Value, E> {
        Err(E::custom("this number is too large"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Value, E> {
        Err(E::custom("this number is too large"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("this number is not finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        short(value)?;
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        short(&value)?;
        Ok(Value::Text(value))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Value, E> {
        Err(E::custom("binary values have no place in a configuration"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            short(&key.value)?;
            let at = position(key.defined);
            map.push((Key { name: key.value, at }, value.into()));
        }
        Ok(Value::Map(map))
    }
}

fn short<E: de::Error>(text: &str) -> Result<(), E> {
    if text.len() <= MAX_TEXT { Ok(()) } else { Err(E::custom("longer than 16 KiB")) }
}
