//! JSON Schema for vendors that enforce a part of it.
//!
//! A constrained decoder that doesn't know a keyword refuses the schema or, worse, says nothing
//! and breaks the limit. An adapter takes such keywords out and reports what it took. Runs only
//! when a request carries a schema; depth is bounded by serde_json's own limit of 128 levels.

use serde_json::{Map, Value};

/// Keywords whose value maps names to schemas: a property may be called "pattern".
const MAPS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords whose value is data or names, never a schema.
const DATA: [&str; 5] = ["enum", "const", "default", "examples", "required"];

/// The schema without these keywords at any depth, and those that were in it, each once.
///
/// # Errors
/// If `text` isn't a JSON object.
pub fn without<'k>(
    text: &str,
    keywords: &[&'k str],
) -> Result<(String, Vec<&'k str>), serde_json::Error> {
    let mut schema: Map<String, Value> = serde_json::from_str(text)?;
    let mut found = Vec::new();
    object(&mut schema, keywords, &mut found);
    Ok((serde_json::to_string(&schema)?, found))
}

fn object<'k>(schema: &mut Map<String, Value>, keywords: &[&'k str], found: &mut Vec<&'k str>) {
    for keyword in keywords {
        // In order: members keep theirs, since models are told to answer in it.
        if schema.shift_remove(*keyword).is_some() && !found.contains(keyword) {
            found.push(keyword);
        }
    }
    for (name, value) in schema.iter_mut() {
        match value {
            Value::Object(schemas) if MAPS.contains(&name.as_str()) => {
                for schema in schemas.values_mut() {
                    any(schema, keywords, found);
                }
            }
            _ if DATA.contains(&name.as_str()) => {}
            value => any(value, keywords, found),
        }
    }
}

fn any<'k>(value: &mut Value, keywords: &[&'k str], found: &mut Vec<&'k str>) {
    match value {
        Value::Object(schema) => object(schema, keywords, found),
        Value::Array(schemas) => {
            schemas.iter_mut().for_each(|schema| any(schema, keywords, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_go_at_any_depth_and_properties_of_their_name_stay() {
        let (schema, found) = without(
            r##"{"type":"object","properties":{"z":{"type":"string","pattern":"^a"},
                "pattern":{"anyOf":[{"type":"string","maxLength":3},{"$ref":"#/$defs/n"}]}},
                "$defs":{"n":{"type":"string","pattern":"b","enum":[{"pattern":1}]}},
                "required":["pattern"]}"##,
            &["maxLength", "pattern", "uniqueItems"],
        )
        .unwrap();
        assert_eq!(
            schema,
            r##"{"type":"object","properties":{"z":{"type":"string"},"pattern":{"anyOf":[{"type":"string"},{"$ref":"#/$defs/n"}]}},"$defs":{"n":{"type":"string","enum":[{"pattern":1}]}},"required":["pattern"]}"##
        );
        assert_eq!(found, ["pattern", "maxLength"]);
    }

    #[test]
    fn a_schema_that_is_no_object_is_an_error() {
        assert!(without("[]", &[]).is_err());
        assert!(without("", &[]).is_err());
    }
}
