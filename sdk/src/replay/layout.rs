//! JSON laid out for reading, and the difference of two documents.

use serde_json::Value as Json;

/// What fits in this many columns stays on one line.
const WIDTH: usize = 100;

/// A document with objects and arrays on one line where they fit.
pub fn document(json: &Json) -> String {
    let mut text = String::new();
    write(json, 0, 0, &mut text);
    text.push('\n');
    text
}

fn write(json: &Json, indent: usize, column: usize, text: &mut String) {
    let line = one_line(json);
    if column + line.chars().count() < WIDTH {
        text.push_str(&line);
        return;
    }
    let inner = indent + 2;
    let pad = " ".repeat(inner);
    let close = " ".repeat(indent);
    match json {
        Json::Array(items) if !items.is_empty() => {
            text.push_str("[\n");
            for (i, item) in items.iter().enumerate() {
                text.push_str(&pad);
                write(item, inner, inner, text);
                text.push_str(if i + 1 < items.len() { ",\n" } else { "\n" });
            }
            text.push_str(&close);
            text.push(']');
        }
        Json::Object(members) if !members.is_empty() => {
            text.push_str("{\n");
            for (i, (name, value)) in members.iter().enumerate() {
                let name = Json::from(name.as_str()).to_string();
                text.push_str(&pad);
                text.push_str(&name);
                text.push_str(": ");
                write(value, inner, inner + name.len() + 2, text);
                text.push_str(if i + 1 < members.len() { ",\n" } else { "\n" });
            }
            text.push_str(&close);
            text.push('}');
        }
        _ => text.push_str(&line),
    }
}

fn one_line(json: &Json) -> String {
    match json {
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(one_line).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}: {}", Json::from(name.as_str()), one_line(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// The lines that differ, `-` expected and `+` found, with those around them.
pub(super) fn difference(expected: &Json, found: &Json) -> String {
    let (expected, found) = (document(&sorted(expected)), document(&sorted(found)));
    let old: Vec<_> = expected.lines().collect();
    let new: Vec<_> = found.lines().collect();
    // Longest common subsequence: recordings are some hundred lines at most.
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    let mut line = |sign: &str, line: &str| {
        text.push_str(&format!("    {sign} {line}\n"));
    };
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            line(" ", old[i]);
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            line("-", old[i]);
            i += 1;
        } else {
            line("+", new[j]);
            j += 1;
        }
    }
    text
}

/// Members in alphabetical order, so that order makes no difference.
fn sorted(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(sorted).collect(),
        Json::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(members.into_iter().collect())
        }
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_shows_what_was_expected_and_what_was_found() {
        let long = "x".repeat(90);
        let text =
            difference(&json!({"a": long, "b": 1, "c": 2}), &json!({"c": 2, "a": long, "b": 3}));
        assert!(text.contains("-   \"b\": 1,\n    +   \"b\": 3,\n        \"c\": 2"), "{text}");
    }
}
