//! JSON in and out, with little CPU.
//!
//! Instances are fresh for every exchange, so every microsecond here is paid per request. Derive
//! `Serialize` on structs that borrow from the operation, and `Deserialize` on structs that borrow
//! from the frame (`#[serde(borrow)] Cow<str>`, `&RawValue`): no tree of values is ever built.
//! [`Text`] and [`Value`] serialize as their content, or as the marks that stand for it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, MapAccess, Visitor},
    ser::{Error as _, SerializeMap},
};
use serde_json::value::RawValue;

use crate::{
    Failure,
    contract::{Body, Context, Field, Text, Value},
};

/// The body of a request.
///
/// # Errors
/// `invalid-request` if a piece of JSON that is passed on as it is (a tool's parameters, a schema)
/// isn't JSON.
pub fn body(value: &impl Serialize) -> Result<Body, Failure> {
    text(value).map(Body::Json)
}

/// JSON text of a value. Fails as [`body`] does.
pub fn text(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::of(crate::FailureKind::InvalidRequest, error.to_string()))
}

/// A piece of the vendor's answer.
///
/// # Errors
/// `malformed-answer`, saying where.
pub fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Failure> {
    serde_json::from_str(data).map_err(|error| {
        Failure::malformed(format!("The vendor's answer isn't the JSON it should be: {error}"))
    })
}

/// JSON text that is written as it is. Serializing fails if it isn't JSON.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a>(pub &'a str);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.value)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw(&self.json).serialize(serializer)
    }
}

/// Fields the contract doesn't know, as members of the object they belong to:
/// `#[serde(flatten)] extra: Fields<'a>`.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [Field]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for field in self.0 {
            map.serialize_entry(&field.name, &field.value)?;
        }
        map.end()
    }
}

impl Text {
    /// Content that the adapter itself writes: never held.
    pub fn plain(content: impl Into<String>) -> Self {
        let value = content.into();
        Self {
            length: u32::try_from(value.len()).unwrap_or(u32::MAX),
            blank: value.trim().is_empty(),
            value,
            held: false,
        }
    }
}

impl Context {
    /// The provider's settings. Give every field of `T` a default: the host checks settings
    /// against the descriptor, but an older host may know fewer of them.
    ///
    /// # Errors
    /// `other("settings")`, the operator's fault, naming the setting.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.settings).map_err(|error| {
            Failure::settings(format!("The provider's settings can't be used: {error}"))
        })
    }

    /// True if the operator gave this grant.
    pub fn granted(&self, grant: &str) -> bool {
        self.grants.iter().any(|given| given == grant)
    }
}

/// Takes a string or `null` or nothing, borrowed where it has no escapes:
/// `#[serde(borrow, default, deserialize_with = "json::cow_or_null")]`.
///
/// Serde's own `Option<Cow<str>>` always copies.
pub fn cow_or_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'de, str>>, D::Error> {
    Ok(Option::<Str<'de>>::deserialize(deserializer)?.map(|text| text.0))
}

/// A string, borrowed where it has no escapes. Serde's own `Cow` always copies.
#[derive(Deserialize, Clone, Debug)]
pub struct Str<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Takes a value or `null` as a raw value; `null` gives `None`, as does leaving it out with
/// `default`.
pub fn raw_or_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok((raw.get() != "null").then_some(raw))
}

/// An object's members in their order, unread: to find those that nobody here knows.
#[derive(Clone, Debug)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((Str(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Message<'a> {
        content: &'a Text,
        arguments: &'a Value,
        as_text: &'a str,
        #[serde(flatten)]
        extra: Fields<'a>,
    }

    #[test]
    fn text_and_values_are_written_where_content_belongs() {
        let value = Value {
            json: r#"{"a": 1}"#.into(),
            text: r#"{"a": 1}"#.into(),
            length: 8,
            held: false,
        };
        let mark = Value { json: r#""m2""#.into(), text: "m2".into(), length: 8, held: true };
        let extra = [Field { name: "x".into(), value: mark.clone() }];
        let message = Message {
            content: &Text::plain("say \"hi\""),
            arguments: &value,
            as_text: &value.text,
            extra: Fields(&extra),
        };
        assert_eq!(
            text(&message).unwrap(),
            r#"{"content":"say \"hi\"","arguments":{"a": 1},"as_text":"{\"a\": 1}","x":"m2"}"#
        );
    }

    #[test]
    fn what_is_no_json_is_never_written_into_a_body() {
        let failure = text(&Raw("{} , \"injected\": 1")).unwrap_err();
        assert_eq!(failure.kind, crate::FailureKind::InvalidRequest);
    }

    #[test]
    fn strings_without_escapes_are_borrowed_and_null_is_none() {
        #[derive(Deserialize)]
        struct Delta<'a> {
            #[serde(borrow, default, deserialize_with = "cow_or_null")]
            content: Option<Cow<'a, str>>,
            #[serde(borrow, default, deserialize_with = "raw_or_null")]
            logprobs: Option<&'a RawValue>,
        }
        let delta: Delta = parse(r#"{"content":"abc","logprobs":null}"#).unwrap();
        assert!(matches!(delta.content, Some(Cow::Borrowed("abc"))));
        assert!(delta.logprobs.is_none());
        let delta: Delta = parse(r#"{"content":null,"logprobs":[1]}"#).unwrap();
        assert!(delta.content.is_none());
        assert_eq!(delta.logprobs.unwrap().get(), "[1]");
        assert!(parse::<Delta>("{}").unwrap().content.is_none());
    }

    #[test]
    fn members_keep_their_order_and_stay_unread() {
        let members: Members<'_> = parse(r#"{"b":[1],"a":null,"b":"\u00e9"}"#).unwrap();
        let names: Vec<_> =
            members.0.iter().map(|(name, raw)| (name.as_ref(), raw.get())).collect();
        assert_eq!(names, [("b", "[1]"), ("a", "null"), ("b", r#""\u00e9""#)]);
        assert!(parse::<Members<'_>>("[]").is_err());
    }

    #[test]
    fn wrong_settings_are_the_operators_fault() {
        #[derive(Debug, Deserialize)]
        struct Settings {
            #[allow(dead_code)]
            num_ctx: u32,
        }
        let context = Context {
            settings: r#"{"num_ctx": "many"}"#.into(),
            now_ms: 0,
            seed: 0,
            id: String::new(),
            grants: Vec::new(),
        };
        let failure = context.settings::<Settings>().unwrap_err();
        assert_eq!(failure.fault, crate::Fault::Host);
        assert!(failure.message.contains("many"), "{}", failure.message);
    }
}
