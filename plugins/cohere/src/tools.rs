//! Functions, and which of them the model may call.

use keyward_sdk::{Chat, Failure, Output, Tool, ToolChoice, json::Raw};
use serde::Serialize;

#[derive(Serialize)]
pub struct ToolEntry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Raw<'a>,
}

/// What a request says of tools.
pub struct Tools<'a> {
    pub entries: Vec<ToolEntry<'a>>,
    pub choice: Option<&'static str>,
    /// All calls are decoded by their schemas.
    pub strict: bool,
}

const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// # Errors
///
/// If a function is forced that isn't among the tools.
pub fn tools<'a>(chat: &'a Chat, out: &mut Output) -> Result<Tools<'a>, Failure> {
    let mut functions: Vec<&Tool> = Vec::with_capacity(chat.tools.len());
    for tool in &chat.tools {
        if tool.kind.is_empty() {
            functions.push(tool);
        } else {
            out.dropped("tools", format!("Cohere doesn't know the tool \"{}\".", tool.kind));
            continue;
        }
        out.dropped_fields(&tool.extra, "Cohere has no such field.");
        if tool.cache.is_some() {
            out.dropped("tools.cache", "Cohere caches prompts by itself.");
        }
    }
    let mut choice = None;
    match &chat.tool_choice {
        _ if functions.is_empty() => {}
        None | Some(ToolChoice::Auto) => {}
        Some(ToolChoice::None) => choice = Some("NONE"),
        Some(ToolChoice::Required) => choice = Some("REQUIRED"),
        Some(ToolChoice::Tool(name)) => {
            functions.retain(|tool| tool.name == *name);
            if functions.is_empty() {
                let message = format!("There is no function \"{name}\" among the tools.");
                return Err(Failure::invalid("tool-choice", message));
            }
            choice = Some("REQUIRED");
            if chat.tools.len() > 1 {
                let message = "Cohere can't force one of several functions: the others were left \
                               out.";
                out.emulated("tool-choice", message);
            }
        }
    }
    if !functions.is_empty() && chat.parallel_tool_calls == Some(false) {
        out.dropped("parallel-tool-calls", "Cohere calls as many functions as it likes at once.");
    }
    let strict = functions.iter().any(|tool| tool.strict == Some(true));
    if strict && functions.iter().any(|tool| tool.strict != Some(true)) {
        out.changed("tools.strict", "With Cohere all functions are strict or none.");
    }
    let entries = functions
        .into_iter()
        .map(|tool| ToolEntry {
            kind: "function",
            function: Function {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: Raw(match tool.parameters.as_str() {
                    "" => NO_PARAMETERS,
                    schema => schema,
                }),
            },
        })
        .collect();
    Ok(Tools { entries, choice, strict })
}
