//! The header `anthropic-beta`: which of the vendor's trials a request takes part in.
//!
//! A vendor that knows the trials gets them as a field for each, `anthropic-beta.NAME` with the value
//! `true`: the name says all, because values of fields are held by the host and an adapter can't put
//! them into a header. Other vendors' adapters say that they left them out, each by its name.
//!
//! Bounds: [`MAX_NAMES`] of [`MAX_LENGTH`] bytes, of what may stand in a header; what doesn't is left
//! out with a warning.

use http::HeaderMap;
use keyward::operation::{Field, Json};
use serde_json::value::RawValue;

use super::request::dropped;
use crate::dialect::events::Warnings;

const HEADER: &str = "anthropic-beta";

/// The vendor has some twenty; SDKs send a few.
const MAX_NAMES: usize = 32;
/// Of a name. Real ones have up to forty.
const MAX_LENGTH: usize = 64;

/// The trials as fields of the request.
pub fn fields(headers: &HeaderMap, warnings: &mut Warnings) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut is_lost = false;
    for value in headers.get_all(HEADER) {
        let Ok(value) = value.to_str() else {
            is_lost = true;
            continue;
        };
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if fields.len() == MAX_NAMES || !is_name(name) {
                is_lost = true;
                continue;
            }
            let value = Json::from(RawValue::TRUE.to_owned());
            fields.push(Field { name: format!("{HEADER}.{name}"), value });
        }
    }
    if is_lost {
        dropped(warnings, HEADER);
    }
    fields
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_LENGTH
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> (Vec<String>, bool) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        let mut warnings = Warnings::default();
        let fields = fields(&headers, &mut warnings);
        assert!(fields.iter().all(|field| field.value.get() == "true"));
        (fields.into_iter().map(|field| field.name).collect(), warnings.header().is_some())
    }

    #[test]
    fn each_trial_is_a_field_by_its_name() {
        assert_eq!(read(&[]), (Vec::new(), false));
        let (names, is_lost) = read(&[b"one-2025-05-14, two.b", b"three_c,"]);
        let expected = ["one-2025-05-14", "two.b", "three_c"];
        assert_eq!(names, expected.map(|name| format!("anthropic-beta.{name}")));
        assert!(!is_lost);
    }

    #[test]
    fn what_is_no_name_is_left_out_and_told() {
        let long = "x".repeat(MAX_LENGTH + 1);
        for bad in ["a b", "\"a\"", "a;b", &long] {
            assert_eq!(
                read(&[bad.as_bytes(), b"good"]),
                (vec!["anthropic-beta.good".into()], true)
            );
        }
        assert_eq!(read(&[b"\xff"]), (Vec::new(), true));
        let many = vec!["a"; MAX_NAMES + 1].join(",");
        let (names, is_lost) = read(&[many.as_bytes()]);
        assert_eq!((names.len(), is_lost), (MAX_NAMES, true));
    }
}
