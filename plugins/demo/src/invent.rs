//! The smallest JSON value that fits a JSON Schema.
//!
//! Knows what tools and answer formats use: types, properties, items, enumerations, references,
//! alternatives, limits and the common formats. A pattern, a condition or a limit that others
//! contradict isn't met. Schemas are strangers' input: depth and size are bounded.

use serde_json::{Map, Value, json};

/// Nesting beyond this becomes `null`: schemas may refer to themselves.
const MAX_DEPTH: usize = 32;

/// Elements and characters made to meet a minimum, in all.
const MAX_SIZE: usize = 10_000;

/// JSON text that fits the schema, or why there is none.
pub fn value_for(schema: &str) -> Result<String, String> {
    let root: Value =
        serde_json::from_str(schema).map_err(|error| format!("The schema isn't JSON: {error}"))?;
    let mut inventor = Inventor { root: &root, size: 0 };
    let value = inventor.value(&root, 0);
    if inventor.size > MAX_SIZE {
        return Err("The schema asks for more than the demo writes.".to_owned());
    }
    Ok(value.to_string())
}

struct Inventor<'a> {
    root: &'a Value,
    size: usize,
}

impl<'a> Inventor<'a> {
    fn value(&mut self, schema: &'a Value, depth: usize) -> Value {
        self.size += 1;
        let Some(members) = schema.as_object() else { return Value::Null };
        if depth > MAX_DEPTH || self.size > MAX_SIZE {
            return Value::Null;
        }
        if let Some(value) = members.get("const") {
            return value.clone();
        }
        if let Some(value) = members.get("enum").and_then(Value::as_array).and_then(|v| v.first()) {
            return value.clone();
        }
        if let Some(target) = members.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        for alternatives in ["anyOf", "oneOf"] {
            if let Some(list) = members.get(alternatives).and_then(Value::as_array) {
                let first = list.iter().find(|schema| schema.get("type") != Some(&json!("null")));
                if let Some(first) = first {
                    return self.value(first, depth + 1);
                }
            }
        }
        if let Some(all) = members.get("allOf").and_then(Value::as_array) {
            return self.all_of(members, all, depth);
        }
        match kind(members) {
            "object" => Value::Object(self.object(members, depth)),
            "array" => self.array(members, depth),
            "string" => self.string(members),
            "integer" => number(members, true),
            "number" => number(members, false),
            "boolean" => json!(true),
            _ => Value::Null,
        }
    }

    /// Objects are put together; of anything else the first counts.
    fn all_of(&mut self, members: &'a Map<String, Value>, all: &'a [Value], depth: usize) -> Value {
        let mut object = self.object(members, depth);
        for part in all {
            match self.value(part, depth + 1) {
                Value::Object(more) => object.extend(more),
                Value::Null => {}
                value => return value,
            }
        }
        Value::Object(object)
    }

    /// The required members; all of them where none is required.
    fn object(&mut self, members: &'a Map<String, Value>, depth: usize) -> Map<String, Value> {
        let properties = members.get("properties").and_then(Value::as_object);
        let required = members.get("required").and_then(Value::as_array);
        let mut object = Map::new();
        match required {
            Some(names) if !names.is_empty() => {
                for name in names.iter().filter_map(Value::as_str) {
                    let schema = properties.and_then(|properties| properties.get(name));
                    let value = schema.map_or(Value::Null, |schema| self.value(schema, depth + 1));
                    object.insert(name.to_owned(), value);
                }
            }
            _ => {
                for (name, schema) in properties.into_iter().flatten() {
                    object.insert(name.clone(), self.value(schema, depth + 1));
                }
            }
        }
        object
    }

    fn array(&mut self, members: &'a Map<String, Value>, depth: usize) -> Value {
        let count = members.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
        let first = members.get("prefixItems").and_then(Value::as_array);
        let items = members.get("items").unwrap_or(&Value::Null);
        let mut array = Vec::new();
        while array.len() < count && self.size <= MAX_SIZE {
            let schema = first.and_then(|first| first.get(array.len())).unwrap_or(items);
            array.push(self.value(schema, depth + 1));
        }
        Value::Array(array)
    }

    fn string(&mut self, members: &Map<String, Value>) -> Value {
        let text = match members.get("format").and_then(Value::as_str) {
            Some("date-time") => "2026-01-01T00:00:00Z",
            Some("date") => "2026-01-01",
            Some("time") => "00:00:00Z",
            Some("duration") => "PT1S",
            Some("email") => "demo@example.com",
            Some("uri" | "url") => "https://example.com/",
            Some("uuid") => "00000000-0000-4000-8000-000000000000",
            Some("ipv4") => "192.0.2.1",
            Some("ipv6") => "2001:db8::1",
            Some("hostname") => "example.com",
            _ => "demo",
        };
        let limit = |name| members.get(name).and_then(Value::as_u64).map(|limit| limit as usize);
        let (least, most) = (limit("minLength").unwrap_or(0), limit("maxLength"));
        self.size += least;
        let filling = std::iter::repeat_n('.', least.min(MAX_SIZE).saturating_sub(text.len()));
        let text = text.chars().chain(filling).take(most.unwrap_or(usize::MAX));
        Value::String(text.collect())
    }
}

/// The type, guessed from what else the schema says.
fn kind(members: &Map<String, Value>) -> &str {
    match members.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(Value::as_str);
            kinds.into_iter().find(|&kind| kind != "null").unwrap_or("null")
        }
        _ if members.contains_key("properties") => "object",
        _ if members.contains_key("items") => "array",
        _ => "null",
    }
}

/// The number nearest to 0 within the limits.
fn number(members: &Map<String, Value>, whole: bool) -> Value {
    let limit = |name| members.get(name).and_then(Value::as_f64);
    let step = limit("multipleOf").filter(|step| *step > 0.0);
    let above = limit("exclusiveMinimum").map(|limit| limit + if whole { 1.0 } else { 0.5 });
    let below = limit("exclusiveMaximum").map(|limit| limit - if whole { 1.0 } else { 0.5 });
    let least = [limit("minimum"), above].into_iter().flatten().fold(f64::MIN, f64::max);
    let most = [limit("maximum"), below].into_iter().flatten().fold(f64::MAX, f64::min);
    let mut value = 0.0_f64.max(least).min(most);
    if let Some(step) = step {
        let steps = if value < 0.0 { (value / step).floor() } else { (value / step).ceil() };
        value = steps * step;
    } else if whole {
        value = if value < 0.0 { value.floor() } else { value.ceil() };
    }
    match value {
        value if value.fract() == 0.0 && value.abs() < 9e15 => json!(value as i64),
        value => json!(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invented(schema: Value) -> Value {
        serde_json::from_str(&value_for(&schema.to_string()).unwrap()).unwrap()
    }

    #[test]
    fn each_kind_of_schema_gets_a_value_that_fits() {
        let table = [
            (json!({"type": "string"}), json!("demo")),
            (json!({"type": "string", "minLength": 6}), json!("demo..")),
            (json!({"type": "string", "maxLength": 2}), json!("de")),
            (json!({"type": "string", "format": "date"}), json!("2026-01-01")),
            (json!({"type": "integer"}), json!(0)),
            (json!({"type": "integer", "minimum": 2.5}), json!(3)),
            (json!({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}), json!(5)),
            (json!({"type": "integer", "maximum": -2}), json!(-2)),
            (json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}), json!(0.5)),
            (json!({"type": ["null", "boolean"]}), json!(true)),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"const": [1]}), json!([1])),
            (json!({"type": "array", "items": {"type": "integer"}, "minItems": 2}), json!([0, 0])),
            (json!({"type": "array", "items": {"type": "integer"}}), json!([])),
            (json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}), json!(0)),
            (
                json!({"allOf": [
                {"properties": {"a": {"type": "integer"}}},
                {"properties": {"b": {"type": "boolean"}}}]}),
                json!({"a": 0, "b": true}),
            ),
            (
                json!({"type": "object", "required": ["a"], "properties":
                {"a": {"$ref": "#/$defs/n"}, "b": {}}, "$defs": {"n": {"type": "integer"}}}),
                json!({"a": 0}),
            ),
            (json!({}), json!(null)),
            (json!(true), json!(null)),
        ];
        for (schema, value) in table {
            assert_eq!(invented(schema.clone()), value, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_or_asks_for_too_much_comes_to_an_end() {
        let circle = json!({"required": ["a"], "properties": {"a": {"$ref": "#"}}});
        assert!(value_for(&circle.to_string()).is_ok());
        let wide =
            json!({"type": "array", "minItems": 1_000_000_000, "items": {"type": "integer"}});
        assert!(value_for(&wide.to_string()).is_err());
        let long = json!({"type": "string", "minLength": 1e12 as u64});
        assert!(value_for(&long.to_string()).is_err());
        let fork = json!({"required": ["a", "b"], "properties":
            {"a": {"$ref": "#"}, "b": {"$ref": "#"}}});
        assert!(value_for(&fork.to_string()).is_err());
    }
}
