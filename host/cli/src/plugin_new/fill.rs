//! The files of a new crate: templates with the answers put in.
//!
//! A placeholder is `{{name}}`. One that stands alone on its line may be empty, and then the line
//! goes; one of several lines takes the line's indentation.

use keyward_contract::{AuthScheme, ProviderKind};

use super::questions::Vendor;
use crate::args::{Shape, Streaming};

macro_rules! template {
    ($($path:literal = $file:literal)*) => {
        &[$(($path, include_str!(concat!("template/", $file)))),*]
    };
}

/// Path in the crate, and text.
type Template = &'static [(&'static str, &'static str)];

// Cargo and git would act on a Cargo.toml and a .gitignore among the sources of this program.
const BOTH: Template = template! {
    ".gitignore" = "gitignore"
    "README.md" = "README.md"
    "rustfmt.toml" = "rustfmt.toml"
    "tests/recordings.rs" = "tests.rs"
};

const OPENAI: Template = template! {
    "Cargo.toml" = "openai/manifest.toml"
    "src/lib.rs" = "openai/lib.rs"
    "recordings/embeddings.json" = "openai/recordings/embeddings.json"
    "recordings/error_401.json" = "openai/recordings/error_401.json"
    "recordings/error_429.json" = "openai/recordings/error_429.json"
    "recordings/error_in_stream.json" = "openai/recordings/error_in_stream.json"
    "recordings/models.json" = "openai/recordings/models.json"
    "recordings/plain.json" = "openai/recordings/plain.json"
    "recordings/probe.json" = "openai/recordings/probe.json"
    "recordings/stream_cut.json" = "openai/recordings/stream_cut.json"
    "recordings/streamed.json" = "openai/recordings/streamed.json"
    "recordings/tool_call.json" = "openai/recordings/tool_call.json"
};

const OWN: Template = template! {
    "Cargo.toml" = "own/manifest.toml"
    "src/lib.rs" = "own/lib.rs"
    "src/chat.rs" = "own/chat.rs"
    "recordings/dropped.json" = "own/recordings/dropped.json"
    "recordings/error_401.json" = "own/recordings/error_401.json"
    "recordings/error_429.json" = "own/recordings/error_429.json"
    "recordings/length.json" = "own/recordings/length.json"
    "recordings/models.json" = "own/recordings/models.json"
    "recordings/not_json.json" = "own/recordings/not_json.json"
    "recordings/plain.json" = "own/recordings/plain.json"
    "recordings/probe.json" = "own/recordings/probe.json"
    "recordings/stream_cut.json" = "own/recordings/stream_cut.json"
    "recordings/streamed.json" = "own/recordings/streamed.json"
    "recordings/tools_refused.json" = "own/recordings/tools_refused.json"
};

/// Path and text of every file. `sdk` is what Cargo.toml says of the SDK.
pub fn files(name: &str, vendor: &Vendor, sdk: &str) -> Vec<(String, String)> {
    let shape = match vendor.shape {
        Shape::Openai => OPENAI,
        Shape::Own => OWN,
    };
    let (framing, stream) = match vendor.stream {
        Streaming::Sse => ("Sse", "sse"),
        Streaming::Ndjson => ("Ndjson", "ndjson"),
    };
    let kind = match vendor.kind {
        ProviderKind::Local => "Local",
        ProviderKind::External => "External",
    };
    let variable = format!("{}_API_KEY", name.to_ascii_uppercase().replace('-', "_"));
    let values = [
        ("name", name.to_owned()),
        ("crate", format!("keyward_adapter_{}", name.replace('-', "_"))),
        ("Type", type_name(name)),
        ("title", title(name)),
        ("endpoint", vendor.endpoint.clone()),
        ("kind", kind.to_owned()),
        ("auth", auth(vendor.auth.as_ref(), &variable)),
        (
            "key",
            if vendor.auth.is_some() { format!("keyward key set {name}") } else { String::new() },
        ),
        ("configured_kind", configured_kind(vendor.kind)),
        ("framing", framing.to_owned()),
        ("stream", stream.to_owned()),
        ("sdk", sdk.to_owned()),
    ];
    BOTH.iter()
        .chain(shape)
        .map(|(path, template)| ((*path).to_owned(), fill(template, &values)))
        .collect()
}

fn configured_kind(kind: ProviderKind) -> String {
    match kind {
        ProviderKind::Local => "kind: local".to_owned(),
        ProviderKind::External => String::new(),
    }
}

/// The descriptor's members about the key, broken into lines as rustfmt would.
fn auth(scheme: Option<&AuthScheme>, variable: &str) -> String {
    /// What fits beside the template's indentation.
    const WIDTH: usize = 100 - 12;
    let (place, name) = match scheme {
        None => return String::new(),
        Some(AuthScheme::Bearer) => ("Bearer", None),
        Some(AuthScheme::Header { name }) => ("Header", Some(name)),
        Some(AuthScheme::Query { name }) => ("Query", Some(name)),
    };
    let begin = format!("auth: vec![describe::api_key(descriptor::AuthScheme::{place}");
    let auth = match name {
        None => format!("{begin})],"),
        Some(name) => {
            let line = format!("{begin} {{ name: {name:?}.to_owned() }})],");
            match line.len() <= WIDTH {
                true => line,
                false => format!("{begin} {{\n    name: {name:?}.to_owned(),\n}})],"),
            }
        }
    };
    format!(
        "{auth}\n\
         credentials: vec![describe::api_key_credential(\"\", {variable:?})],"
    )
}

/// `01-ai` and `self` must be types as well, and none of the SDK's.
fn type_name(name: &str) -> String {
    let words = name.split('-').map(capitalized).collect::<String>();
    let digit = words.starts_with(|c: char| c.is_ascii_digit());
    format!("{}{words}Adapter", if digit { "V" } else { "" })
}

fn title(name: &str) -> String {
    name.split('-').map(capitalized).collect::<Vec<_>>().join(" ")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(template.len());
    for line in template.lines() {
        let alone = line.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let alone = alone.and_then(|name| values.iter().find(|(known, _)| *known == name));
        if let Some((_, value)) = alone {
            let indent = &line[..line.len() - line.trim_start().len()];
            for line in value.lines() {
                text.push_str(&format!("{indent}{line}\n"));
            }
            continue;
        }
        let mut line = line.to_owned();
        for (name, value) in values {
            line = line.replace(&format!("{{{{{name}}}}}"), value);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vendor(shape: Shape, auth: Option<AuthScheme>) -> Vendor {
        Vendor {
            shape,
            stream: Streaming::Ndjson,
            endpoint: "https://api.acme.example/v1".into(),
            invented_endpoint: false,
            auth,
            kind: ProviderKind::External,
        }
    }

    #[test]
    fn every_placeholder_is_filled_and_every_adapter_is_short() {
        for shape in [Shape::Openai, Shape::Own] {
            let query = AuthScheme::Query { name: "key".into() };
            for auth in [None, Some(AuthScheme::Bearer), Some(query)] {
                for (path, text) in files("acme-ai", &vendor(shape, auth.clone()), "\"1.0.0\"") {
                    assert!(!text.contains("{{"), "{path}: {text}");
                    if path.starts_with("src/") {
                        assert!(text.lines().count() < 100, "{}", text.lines().count());
                    }
                    if path == "src/lib.rs" {
                        assert_eq!(text.contains("credentials:"), auth.is_some());
                    }
                    if path.ends_with(".json") {
                        serde_json::from_str::<serde_json::Value>(&text).expect(&path);
                    }
                }
            }
        }
    }

    #[test]
    fn every_recording_of_the_templates_is_among_the_files() {
        for (folder, template) in [("openai", OPENAI), ("own", OWN)] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("src/plugin_new/template")
                .join(folder)
                .join("recordings");
            let there = std::fs::read_dir(folder).unwrap().count();
            let named = template.iter().filter(|(path, _)| path.starts_with("recordings/")).count();
            assert_eq!(there, named);
        }
    }

    fn text_of(vendor: &Vendor, wanted: &str) -> String {
        let files = files("acme-ai", vendor, "\"1.0.0\"");
        files.into_iter().find(|(path, _)| path == wanted).unwrap().1
    }

    #[test]
    fn a_vendor_is_called_local_where_it_was_said_to_be_and_nowhere_else() {
        for (kind, name) in [(ProviderKind::Local, "Local"), (ProviderKind::External, "External")] {
            let vendor = Vendor { kind, ..vendor(Shape::Openai, None) };
            let code = text_of(&vendor, "src/lib.rs");
            assert!(code.contains(&format!("kind: descriptor::ProviderKind::{name},")), "{code}");
            let readme = text_of(&vendor, "README.md");
            assert_eq!(readme.contains("kind: local"), name == "Local", "{readme}");
        }
    }

    #[test]
    fn an_empty_answer_leaves_no_line() {
        let origin = "origins: vec![describe::api(\"https://api.acme.example/v1\")],\n";
        for shape in [Shape::Openai, Shape::Own] {
            let code = text_of(&vendor(shape, None), "src/lib.rs");
            let next = code.split_once(origin).unwrap().1.trim_start_matches(' ');
            assert!(next.starts_with("response_headers:"), "{code}");
            let readme = text_of(&vendor(shape, None), "README.md");
            assert!(readme.contains("https://api.acme.example/v1\n    models:"), "{readme}");
        }
    }

    #[test]
    fn the_keys_variable_is_one_that_a_shell_can_set() {
        let code = text_of(&vendor(Shape::Own, Some(AuthScheme::Bearer)), "src/lib.rs");
        assert!(code.contains("\"ACME_AI_API_KEY\""), "{code}");
    }

    #[test]
    fn names_make_types() {
        assert_eq!(type_name("acme-ai"), "AcmeAiAdapter");
        assert_eq!(type_name("01-ai"), "V01AiAdapter");
        assert_eq!(type_name("self"), "SelfAdapter");
        assert_eq!(title("acme-ai"), "Acme Ai");
    }
}
