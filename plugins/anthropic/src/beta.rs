//! The header `anthropic-beta`: which of the vendor's trials a request takes part in.
//!
//! The operator names some in the provider's settings. A caller who speaks the vendor's own dialect
//! names others in the same header, which the host passes on as fields `anthropic-beta.NAME`; they
//! are added and never get into the body.

use std::collections::BTreeMap;

use keyward_sdk::{Failure, Field, json};
use serde_json::value::RawValue;

const PREFIX: &str = "anthropic-beta.";

/// Moves the caller's trials from the request's fields to `beta`, the header's value.
pub fn take(fields: &mut Vec<Field>, beta: &mut String) {
    fields.retain(|field| !is_added(&field.name, beta));
}

/// The same for the vendor's own body, written anew only if there are trials in it.
///
/// # Errors
///
/// If the body isn't JSON.
pub fn take_from_body(body: String, beta: &mut String) -> Result<String, Failure> {
    if !body.contains("\"anthropic-beta.") {
        return Ok(body);
    }
    let mut members: BTreeMap<String, &RawValue> = json::parse(&body)?;
    members.retain(|name, _| !is_added(name, beta));
    serde_json::to_string(&members).map_err(|error| Failure::malformed(error.to_string()))
}

fn is_added(field: &str, beta: &mut String) -> bool {
    let Some(name) = field.strip_prefix(PREFIX) else { return false };
    if !beta.split(',').any(|known| known.trim() == name) {
        if !beta.is_empty() {
            beta.push(',');
        }
        beta.push_str(name);
    }
    true
}
