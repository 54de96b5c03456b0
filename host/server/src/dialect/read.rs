//! Reads JSON requests: once, typed, bounded, and with the place of a mistake.
//!
//! Serde alone says "expected a string at line 1 column 90210", which helps nobody, and keeps
//! unknown fields only at the price of buffering. So the objects of this dialect implement [`Read`],
//! mostly by the `object!` macro: known fields go into typed places, unknown ones are kept as they
//! came. On the way out of an error each level leaves its name, and `messages[2].content[0]` comes
//! out. Nothing is recorded while all is well.
//!
//! Bounds: serde_json's nesting limit, the same for values kept raw; [`MAX_ITEMS`] pieces in a body,
//! whatever they are, because a million empty messages are a small body and a large value;
//! [`MAX_UNKNOWN`] unknown fields in one object.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use keyward::{
    Failure,
    operation::{Field, Json, Text},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

/// Messages, parts, tools, tool calls and unknown fields in one body. Each takes some 300 bytes in
/// memory, so the most that a body of empty ones can take is 20 MB.
pub const MAX_ITEMS: u32 = 65_536;

/// Unknown fields of one object. They are compared with each other, so their number is kept small.
pub const MAX_UNKNOWN: usize = 128;

/// Levels of nesting in a value kept raw: what serde_json allows in what it parses.
pub const MAX_DEPTH: usize = 128;

/// Bytes of an error message. Serde repeats the offending value, which may be a whole image.
const MAX_MESSAGE: usize = 300;

/// What one reading shares: the way to a mistake, and how much may still be read.
pub struct Reader {
    /// Innermost step first.
    trail: RefCell<Vec<Step>>,
    items: Cell<u32>,
}

enum Step {
    Key(String),
    Index(usize),
}

/// A type that can be read from JSON and says where it couldn't.
pub trait Read<'de>: Sized {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error>;
}

/// Reads a whole body.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param` where there is one.
pub fn body<'de, T: Read<'de>>(body: &'de [u8]) -> Result<T, Failure> {
    let reader = Reader { trail: RefCell::default(), items: Cell::new(MAX_ITEMS) };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = T::read(&mut json, &reader).and_then(|value| json.end().map(|()| value));
    read.map_err(|error| reader.failure(&error))
}

impl Reader {
    /// Takes one from the number of items that may still be read.
    pub fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.items.get().checked_sub(1).ok_or_else(|| {
            E::custom(format_args!("more than {MAX_ITEMS} messages, parts and fields in a request"))
        })?;
        self.items.set(left);
        Ok(())
    }

    /// An error at a place below the value being read.
    pub fn reject<E: serde::de::Error>(&self, below: &[&str], why: impl fmt::Display) -> E {
        self.trail.borrow_mut().extend(below.iter().rev().map(|&key| Step::Key(key.to_owned())));
        E::custom(why)
    }

    /// The next value of an object.
    pub fn value<'de, A, T>(&self, map: &mut A, key: &str) -> Result<T, A::Error>
    where
        A: MapAccess<'de>,
        T: Read<'de>,
    {
        map.next_value_seed(As(self, PhantomData))
            .inspect_err(|_| self.trail.borrow_mut().push(Step::Key(key.to_owned())))
    }

    /// A value kept raw, read after all: where its text is wanted as well.
    pub fn again<'de, T: Read<'de>, E: serde::de::Error>(
        &self,
        raw: &'de RawValue,
    ) -> Result<T, E> {
        let mut json = serde_json::Deserializer::from_str(raw.get());
        T::read(&mut json, self).map_err(|error| E::custom(without_position(&error.to_string())))
    }

    /// The rest of a list.
    pub fn list<'de, A, T>(&self, mut list: A) -> Result<Vec<T>, A::Error>
    where
        A: SeqAccess<'de>,
        T: Read<'de>,
    {
        let mut all = Vec::new();
        loop {
            let next = list.next_element_seed(As(self, PhantomData));
            match next.and_then(|next| self.count().map(|()| next)) {
                Ok(Some(next)) => all.push(next),
                Ok(None) => return Ok(all),
                Err(error) => {
                    self.trail.borrow_mut().push(Step::Index(all.len()));
                    return Err(error);
                }
            }
        }
    }

    /// A field nobody here knows, kept as it came. A null is left out: in this dialect it means
    /// the same as no field at all.
    pub fn unknown<'de, A>(
        &self,
        map: &mut A,
        key: &str,
        into: &mut Vec<Field>,
    ) -> Result<(), A::Error>
    where
        A: MapAccess<'de>,
    {
        let Raw(value) = self.value(map, key)?;
        if value.get() == "null" {
            return Ok(());
        }
        self.count()?;
        if into.len() >= MAX_UNKNOWN {
            return Err(A::Error::custom(format_args!("more than {MAX_UNKNOWN} unknown fields")));
        }
        if into.iter().any(|field| field.name == key) {
            return Err(self.reject(&[key], "this field is given twice"));
        }
        into.push(Field { name: key.to_owned(), value: value.to_owned().into() });
        Ok(())
    }

    fn failure(&self, error: &serde_json::Error) -> Failure {
        let text = error.to_string();
        let what = shorten(without_position(&text));
        if error.classify() != Category::Data {
            let (line, column) = (error.line(), error.column());
            return bad_body(format!(
                "The body isn't valid JSON: {what} (line {line}, column {column})."
            ));
        }
        match self.path() {
            path if path.is_empty() => bad_body(format!("The request isn't valid: {what}.")),
            path => Failure::invalid(path.clone(), format!("Invalid '{path}': {what}.")),
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.trail.borrow().iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(&shorten(key)),
                Step::Key(key) => {
                    path.push('.');
                    path.push_str(&shorten(key));
                }
                Step::Index(index) => {
                    path.push('[');
                    path.push_str(&index.to_string());
                    path.push(']');
                }
            }
        }
        path
    }
}

/// Serde_json's words without the line and column it adds to all of them.
pub fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

/// A mistake that no single field made.
fn bad_body(message: String) -> Failure {
    Failure::new(keyward::FailureKind::InvalidRequest, keyward::Fault::Caller, message)
}

fn shorten(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_MESSAGE {
        return text.into();
    }
    let end = (0..=MAX_MESSAGE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

/// Carries the reader to where serde wants a value.
struct As<'r, T>(&'r Reader, PhantomData<T>);

impl<'de, T: Read<'de>> DeserializeSeed<'de> for As<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        T::read(from, self.0)
    }
}

impl<'de, T: Read<'de>> Read<'de> for Option<T> {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct Maybe<'r, T>(&'r Reader, PhantomData<T>);

        impl<'de, T: Read<'de>> Visitor<'de> for Maybe<'_, T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or null")
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
                T::read(from, self.0).map(Some)
            }
        }

        from.deserialize_option(Maybe(reader, PhantomData))
    }
}

impl<'de, T: Read<'de>> Read<'de> for Vec<T> {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct List<'r, T>(&'r Reader, PhantomData<T>);

        impl<'de, T: Read<'de>> Visitor<'de> for List<'_, T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                self.0.list(list)
            }
        }

        from.deserialize_seq(List(reader, PhantomData))
    }
}

macro_rules! plain_values {
    ($($type:ty),*) => {$(
        impl<'de> Read<'de> for $type {
            fn read<D: Deserializer<'de>>(from: D, _: &Reader) -> Result<Self, D::Error> {
                Self::deserialize(from)
            }
        }
    )*};
}

plain_values!(bool, u32, i64, f64);

/// Text is copied once, from the body into the operation.
impl<'de> Read<'de> for Text {
    fn read<D: Deserializer<'de>>(from: D, _: &Reader) -> Result<Self, D::Error> {
        from.deserialize_str(Copied(PhantomData))
    }
}

impl<'de> Read<'de> for String {
    fn read<D: Deserializer<'de>>(from: D, _: &Reader) -> Result<Self, D::Error> {
        from.deserialize_str(Copied(PhantomData))
    }
}

struct Copied<T>(PhantomData<T>);

impl<T: for<'a> From<&'a str>> Visitor<'_> for Copied<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(text.into())
    }
}

/// A name, an id, a kind: text without control characters. Such text ends up beside other
/// people's text, in paths and in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub String);

impl<'de> Read<'de> for Word {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let text = String::read(from, reader)?;
        if text.chars().any(char::is_control) {
            return Err(D::Error::custom("control characters aren't allowed here"));
        }
        Ok(Self(text))
    }
}

/// A JSON value as its text.
pub struct Raw<'de>(pub &'de RawValue);

impl<'de> Read<'de> for Raw<'de> {
    fn read<D: Deserializer<'de>>(from: D, _: &Reader) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?;
        check_depth(raw.get()).map_err(D::Error::custom)?;
        Ok(Self(raw))
    }
}

/// A JSON object as its text.
pub struct RawObject(pub String);

impl<'de> Read<'de> for RawObject {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        if !raw.get().starts_with('{') {
            return Err(D::Error::custom("expected an object"));
        }
        Ok(Self(raw.get().to_owned()))
    }
}

/// The value of a text that is JSON itself.
///
/// # Errors
/// If it isn't, or is nested too deeply.
pub fn json_in_text(text: String) -> Result<Json, String> {
    let value = RawValue::from_string(text).map_err(|error| format!("not valid JSON: {error}"))?;
    check_depth(value.get())?;
    Ok(Arc::from(value))
}

/// Skipping a value doesn't limit its nesting as parsing does, and others parse it later.
fn check_depth(json: &str) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("nested more than {MAX_DEPTH} levels deep"));
                }
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

/// An object's key, borrowed from the body where it has no escapes.
pub struct Key<'de>(pub Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(key.into()))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(key.to_owned().into()))
            }
        }

        from.deserialize_str(Keys)
    }
}

/// An object as callers send it: every field optional, null the same as absent, a field given
/// twice refused, unknown ones in `extra`.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($key:literal $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name {
            $($field: Option<$type>,)*
            extra: Vec<keyward::operation::Field>,
        }

        impl<'de> $crate::dialect::read::Read<'de> for $name {
            fn read<D: serde::Deserializer<'de>>(
                from: D,
                reader: &$crate::dialect::read::Reader,
            ) -> Result<Self, D::Error> {
                struct Fields<'r>(&'r $crate::dialect::read::Reader);

                impl<'de> serde::de::Visitor<'de> for Fields<'_> {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        let mut object = $name::default();
                        while let Some($crate::dialect::read::Key(key)) = map.next_key()? {
                            match &*key {
                                $($key if object.$field.is_some() => {
                                    return Err(self.0.reject(&[$key], "this field is given twice"));
                                })*
                                $($key => object.$field = self.0.value(&mut map, $key)?,)*
                                key => self.0.unknown(&mut map, key, &mut object.extra)?,
                            }
                        }
                        Ok(object)
                    }
                }

                from.deserialize_map(Fields(reader))
            }
        }
    };
}

pub(crate) use object;
