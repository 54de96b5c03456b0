//! Holding a descriptor against its published schema.
//!
//! Hosts ignore members they don't know, so a misspelt one is lost without a word. Here it is an
//! error, as is a value of the wrong type. Knows the part of JSON Schema that
//! `descriptor.schema.json` uses; patterns and formats are left to the host's own checks.

use serde_json::{Map, Value as Json};

use crate::{Adapter, descriptor::price::PriceList};

const SCHEMA: &str = include_str!("../../../wit/descriptor.schema.json");

/// Holds an adapter's descriptor against its schema and checks that its parts refer to each other.
///
/// # Panics
/// If it doesn't fit, saying where.
#[allow(clippy::panic, reason = "a test says what is wrong by panicking")]
pub fn check_descriptor<A: Adapter>() {
    let descriptor = A::describe();
    let mut problems = Vec::new();
    match (serde_json::to_value(&descriptor), serde_json::from_str::<Json>(SCHEMA)) {
        (Ok(json), Ok(schema)) => fit(&json, &schema, &schema, "descriptor", &mut problems),
        (Err(error), _) | (_, Err(error)) => problems.push(error.to_string()),
    }
    for auth in &descriptor.auth {
        if !descriptor.origins.iter().any(|origin| origin.name == auth.origin) {
            problems.push(format!("auth: there is no origin {:?}", auth.origin));
        }
        if !descriptor.credentials.iter().any(|one| one.name == auth.credential) {
            problems.push(format!("auth: there is no credential {:?}", auth.credential));
        }
    }
    for model in &descriptor.models {
        if let Err(problem) = PriceList::new(&model.prices) {
            problems.push(format!("models: {}: {problem}", model.id));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn fit(value: &Json, schema: &Json, root: &Json, place: &str, problems: &mut Vec<String>) {
    if let Some(target) = schema.get("$ref").and_then(Json::as_str) {
        match root.pointer(target.trim_start_matches('#')) {
            Some(target) => fit(value, target, root, place, problems),
            None => problems.push(format!("the schema has no {target}")),
        }
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Json::as_array) {
        let fits = |schema: &Json| {
            let mut problems = Vec::new();
            fit(value, schema, root, place, &mut problems);
            problems.is_empty()
        };
        if !alternatives.iter().any(fits) {
            problems.push(format!("{place}: {value} fits no alternative"));
        }
    }
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    if let Some(wanted) = schema.get("type").and_then(Json::as_str) {
        if wanted != kind {
            problems.push(format!("{place}: is of type {kind}, not {wanted}"));
        }
    }
    if let Some(allowed) = schema.get("enum").and_then(Json::as_array) {
        if !allowed.contains(value) {
            problems.push(format!("{place}: {value} isn't one of {allowed:?}"));
        }
    }
    match value {
        Json::Object(members) => object(members, schema, root, place, problems),
        Json::Array(items) => {
            for (item, schema) in items.iter().zip(std::iter::repeat(schema.get("items"))) {
                if let Some(schema) = schema {
                    fit(item, schema, root, &format!("{place}[]"), problems);
                }
            }
        }
        _ => {}
    }
}

fn object(
    members: &Map<String, Json>,
    schema: &Json,
    root: &Json,
    place: &str,
    problems: &mut Vec<String>,
) {
    for name in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap_or_default()) {
            problems.push(format!("{place}: {name} is missing"));
        }
    }
    // A schema that only refers has its members elsewhere.
    if schema.get("properties").is_none() && schema.get("additionalProperties").is_none() {
        return;
    }
    for (name, value) in members {
        let known = schema.pointer(&format!("/properties/{name}"));
        match known.or_else(|| schema.get("additionalProperties")) {
            Some(schema) => fit(value, schema, root, &format!("{place}.{name}"), problems),
            None => problems.push(format!("{place}: the schema doesn't know {name:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(descriptor: &Json) -> Vec<String> {
        let schema: Json = serde_json::from_str(SCHEMA).unwrap();
        let mut problems = Vec::new();
        fit(descriptor, &schema, &schema, "descriptor", &mut problems);
        problems
    }

    #[test]
    fn a_misspelt_member_a_wrong_type_and_a_missing_member_are_found() {
        let minimal = json!({"name": "a", "version": "1", "title": "A", "kind": "local",
            "operations": ["chat"]});
        assert_eq!(problems(&minimal), Vec::<String>::new());
        for (member, value, found) in [
            ("orgins", json!([]), "orgins"),
            ("kind", json!("remote"), "remote"),
            ("title", json!(7), "not string"),
            ("models", json!([{"title": "x"}]), "id"),
            ("settings", json!([{"name": "a", "type": "text", "label": "A"}]), "no alternative"),
            (
                "models",
                json!([{"id": "x", "prices": [{"from": "", "currency": "", "source": "",
                "per_million": {"input": 1}}]}]),
                "not string",
            ),
        ] {
            let mut wrong = minimal.clone();
            wrong[member] = value;
            let problems = problems(&wrong);
            assert!(problems.iter().any(|one| one.contains(found)), "{member}: {problems:?}");
        }
    }
}
