//! Fields that would steer the host, or a gateway behind it: refused in every dialect.
//!
//! Unknown fields go along to vendors that may know them. These names are known: by them callers of
//! other gateways choose where a request goes or with which key, and the gateways in use took keys to
//! wherever they said.

use std::fmt;

use keyward::{Failure, operation::Field};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// Names by which callers of other gateways choose where a request goes or with which key. Here
/// only the operator does, and a gateway behind this one must not be told either.
pub const STEERING: &[&str] = &[
    "api_base",
    "api_key",
    "api_type",
    "api_version",
    "authorization",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "azure_ad_token",
    "azure_endpoint",
    "base_url",
    "custom_llm_provider",
    "default_headers",
    "endpoint",
    "extra_body",
    "extra_headers",
    "extra_query",
    "headers",
    "http_client",
    "litellm_params",
    "proxies",
    "proxy",
    "vertex_credentials",
];

/// # Errors
/// If a caller tries to choose where the request goes, here or in `metadata`, which some gateways
/// read as well.
pub fn check_steering(extra: &[Field]) -> Result<(), Failure> {
    let refused = |path: String| {
        let why =
            format!("'{path}' isn't allowed: only the operator chooses where a request goes.");
        Err(Failure::invalid(path, why))
    };
    for field in extra {
        if steers(&field.name) {
            return refused(field.name.clone());
        }
        if field.name == "metadata" {
            // What can't be searched isn't sent on: a vendor may be able to read it.
            let Search(found) = serde_json::from_str(field.value.get()).map_err(|error| {
                Failure::invalid("metadata", format!("'metadata' can't be read: {error}."))
            })?;
            if let Some(path) = found {
                return refused(format!("metadata.{path}"));
            }
        }
    }
    Ok(())
}

fn steers(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    STEERING.contains(&name.as_str())
}

/// The path of the first steering name in a value. Every name counts, also one that is given twice:
/// which of two a vendor takes isn't known. Recursion ends where the parser's does.
#[derive(Default)]
struct Search(Option<String>);

impl<'de> Deserialize<'de> for Search {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self::default())
    }
}

impl<'de> Visitor<'de> for Search {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let Self(below) = map.next_value()?;
            if self.0.is_none() {
                self.0 = match below {
                    _ if steers(&name) => Some(name),
                    below => below.map(|path| format!("{name}.{path}")),
                };
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut all: A) -> Result<Self, A::Error> {
        let mut at = 0;
        while let Some(Self(below)) = all.next_element()? {
            self.0 = self.0.or(below.map(|path| format!("{at}.{path}")));
            at += 1;
        }
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn check(metadata: &str) -> Result<(), String> {
        let value = RawValue::from_string(metadata.to_owned()).unwrap();
        let field = Field { name: "metadata".to_owned(), value: value.into() };
        check_steering(&[field]).map_err(|failure| failure.message)
    }

    #[test]
    fn a_steering_name_is_found_wherever_it_is() {
        for (metadata, path) in [
            (r#"{"api_base":"x"}"#, "metadata.api_base"),
            (r#"{"a":[0,{"Base-URL":"x"}]}"#, "metadata.a.1.Base-URL"),
            (r#"{"a":{"api_base":"x"},"a":{}}"#, "metadata.a.api_base"),
            (r#"{"b":"","\u0061pi_base":"x"}"#, "metadata.api_base"),
        ] {
            assert!(check(metadata).unwrap_err().contains(&format!("'{path}'")), "{metadata}");
        }
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let deep = format!("{}{{\"api_base\":1}}{}", "[".repeat(127), "]".repeat(127));
        for metadata in [r#"{"n":1e999,"api_base":"x"}"#, r#"{"n":"\ud800","api_base":"x"}"#, &deep]
        {
            assert!(check(metadata).unwrap_err().contains("can't be read"), "{metadata}");
        }
    }

    #[test]
    fn anything_else_is_the_callers_own() {
        for metadata in
            ["null", "1.5", "-1", r#""api_base""#, r#"{"trace":[1,true,"x"],"user":"u"}"#]
        {
            assert_eq!(check(metadata), Ok(()), "{metadata}");
        }
    }
}
