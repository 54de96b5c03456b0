//! JSON Schema as Anthropic's constrained decoding takes it.
//!
//! Every object must say `additionalProperties: false`, and limits on numbers, lengths and counts
//! are refused with 400. Both are set right here, so that a schema made for another vendor works;
//! what was left out is reported, since the answer may then break a limit. Runs only when a
//! request carries a schema; depth is bounded by serde_json's own limit of 128 levels.

use serde_json::{Map, Value};

/// Limits the vendor's decoder doesn't know. `minItems` is known for 0 and 1.
const UNKNOWN: [&str; 12] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "minItems",
];

/// The schema rewritten, and the names of the limits that were left out, each once.
///
/// # Errors
///
/// If `text` isn't a JSON object.
pub fn rewrite(text: &str) -> Result<(String, Vec<&'static str>), serde_json::Error> {
    let mut schema: Map<String, Value> = serde_json::from_str(text)?;
    let mut dropped = Vec::new();
    object(&mut schema, &mut dropped);
    Ok((serde_json::to_string(&schema)?, dropped))
}

fn object(schema: &mut Map<String, Value>, dropped: &mut Vec<&'static str>) {
    for name in UNKNOWN {
        let known = name == "minItems"
            && schema.get(name).and_then(Value::as_u64).is_some_and(|count| count <= 1);
        if !known && schema.remove(name).is_some() && !dropped.contains(&name) {
            dropped.push(name);
        }
    }
    let is_object = schema.contains_key("properties")
        || match schema.get("type") {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            _ => false,
        };
    if is_object {
        let before = schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        let opened = before.is_some_and(|before| before != Value::Bool(false));
        if opened && !dropped.contains(&"additionalProperties") {
            dropped.push("additionalProperties");
        }
    }
    for (name, value) in schema.iter_mut() {
        match (name.as_str(), value) {
            // Maps from a name to a schema: a property may be called "minimum".
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                for schema in schemas.values_mut() {
                    any(schema, dropped);
                }
            }
            // Data, not schemas.
            ("enum" | "const" | "default" | "examples" | "required", _) => {}
            (_, value) => any(value, dropped),
        }
    }
}

fn any(value: &mut Value, dropped: &mut Vec<&'static str>) {
    match value {
        Value::Object(schema) => object(schema, dropped),
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| any(schema, dropped)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_closed_and_limits_are_left_out() {
        let (schema, dropped) = rewrite(
            r#"{"type":"object","properties":{"minimum":{"type":"integer","minimum":1},
                "tags":{"type":"array","minItems":1,"maxItems":3,"items":{"type":["object","null"]}}},
                "required":["minimum"]}"#,
        )
        .unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&schema).unwrap(),
            serde_json::json!({"type":"object","properties":{"minimum":{"type":"integer"},
                "tags":{"type":"array","minItems":1,
                    "items":{"type":["object","null"],"additionalProperties":false}}},
                "required":["minimum"],"additionalProperties":false})
        );
        assert_eq!(dropped, ["minimum", "maxItems"]);
    }

    #[test]
    fn an_open_object_is_closed_and_said_so() {
        let (_, dropped) = rewrite(r#"{"type":"object","additionalProperties":true}"#).unwrap();
        assert_eq!(dropped, ["additionalProperties"]);
    }

    #[test]
    fn a_schema_that_is_no_object_is_an_error() {
        assert!(rewrite("[]").is_err());
        assert!(rewrite("").is_err());
    }
}
