//! Functions and the vendor's own tools.
//!
//! A function's parameters go as they are: the vendor takes JSON Schema. Tools that vendors run
//! themselves have other names with every vendor; where Gemini has one for the same purpose, it
//! stands in and the caller is told.

use keyward_sdk::{Chat, Failure, Output, Tool, ToolChoice, json::Raw};
use serde::Serialize;

/// An element of `tools`: all functions, or one tool of the vendor's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ToolEntry<'a> {
    FunctionDeclarations(Vec<Function<'a>>),
    GoogleSearch(Empty),
    CodeExecution(Empty),
    UrlContext(Empty),
}

impl ToolEntry<'_> {
    fn is_like(&self, other: &ToolEntry<'_>) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

#[derive(Serialize)]
pub struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<Raw<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfig<'a> {
    function_calling_config: CallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

pub fn tools<'a>(tools: &'a [Tool], out: &mut Output) -> Vec<ToolEntry<'a>> {
    let (mut functions, mut entries) = (Vec::new(), Vec::new());
    for tool in tools {
        out.dropped_fields(&tool.extra, "Gemini has no such field.");
        if tool.cache.is_some() {
            out.dropped("tools.cache", "Gemini caches prompts by itself.");
        }
        match tool.kind.as_str() {
            "" => functions.push(Function {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters_json_schema: Some(tool.parameters.as_str())
                    .filter(|schema| !schema.is_empty())
                    .map(Raw),
            }),
            kind => {
                let entry = own(kind, out);
                // Each may be there once.
                let known = |one: &ToolEntry<'_>| entries.iter().any(|other| one.is_like(other));
                entries.extend(entry.filter(|entry| !known(entry)));
            }
        }
    }
    if !functions.is_empty() {
        entries.insert(0, ToolEntry::FunctionDeclarations(functions));
    }
    entries
}

/// The vendor's tool for what another vendor calls so, with its version's date left aside.
fn own<'a>(kind: &str, out: &mut Output) -> Option<ToolEntry<'a>> {
    let (entry, name) = match kind {
        "google_search" => return Some(ToolEntry::GoogleSearch(Empty {})),
        "url_context" => return Some(ToolEntry::UrlContext(Empty {})),
        "code_execution" => return Some(ToolEntry::CodeExecution(Empty {})),
        kind if kind.starts_with("web_search") => {
            (ToolEntry::GoogleSearch(Empty {}), "Google Search")
        }
        kind if kind.starts_with("web_fetch") => (ToolEntry::UrlContext(Empty {}), "URL context"),
        kind if kind.starts_with("code_interpreter") || kind.starts_with("code_execution_") => {
            (ToolEntry::CodeExecution(Empty {}), "code execution")
        }
        _ => {
            out.dropped("tools", format!("Gemini doesn't know the tool \"{kind}\"."));
            return None;
        }
    };
    out.emulated("tools", format!("Gemini's {name} stands in for \"{kind}\"."));
    Some(entry)
}

/// # Errors
///
/// If a function is forced that isn't among the tools.
pub fn config<'a>(chat: &'a Chat, out: &mut Output) -> Result<Option<ToolConfig<'a>>, Failure> {
    let mut functions = chat.tools.iter().filter(|tool| tool.kind.is_empty());
    if functions.clone().next().is_none() {
        return Ok(None);
    }
    if chat.parallel_tool_calls == Some(false) {
        out.dropped("parallel-tool-calls", "Gemini calls as many functions as it likes at once.");
    }
    let strict = chat.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, name) = match &chat.tool_choice {
        // Calls are then decoded by the schema; the model still chooses.
        None | Some(ToolChoice::Auto) if strict => ("VALIDATED", None),
        None => return Ok(None),
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Tool(name)) => {
            if !functions.any(|tool| tool.name == *name) {
                let message = format!("There is no function \"{name}\" among the tools.");
                return Err(Failure::invalid("tool-choice", message));
            }
            ("ANY", Some([name.as_str()]))
        }
    };
    let function_calling_config = CallingConfig { mode, allowed_function_names: name };
    Ok(Some(ToolConfig { function_calling_config }))
}
