//! Reads a component's bytes before anything is compiled, and refuses what doesn't fit.
//!
//! Nothing here runs guest code. The size is capped by the caller before the bytes are read; the
//! validator is linear in them.

use keyward_contract::{ADAPTER_INTERFACE, CONTRACT_VERSION};
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator};

use super::wasi;

/// Why a file isn't an adapter, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the file has {size} bytes; at most {limit} are loaded (`plugins.limits.component_size`)"
    )]
    TooLarge { size: u64, limit: usize },
    #[error(
        "not WebAssembly: it doesn't begin with the magic number. Put the .wasm file that `keyward plugin build` made here"
    )]
    NotWasm,
    #[error("a core module, not a component: build it with `keyward plugin build`")]
    CoreModule,
    #[error("machine code compiled elsewhere is never loaded: put the .wasm component here")]
    Precompiled,
    #[error(
        "not a valid component: {0}. If it was being copied, it will be read again when it changes"
    )]
    Invalid(String),
    #[error("it imports {}; an adapter imports nothing, so that it can reach nothing. Remove the import and rebuild it", some(.0))]
    Imports(Vec<String>),
    #[error(
        "it imports WASI ({}), which isn't granted. Rebuild it without, as with `keyward plugin build` or \
         `--stub-wasi` of componentize-py and componentize-qjs; or write `plugins: {{grants: {{NAME: [wasi]}}}}` \
         with its file's name in providers.yaml, and it runs and sees an empty world",
        some(.0)
    )]
    Wasi(Vec<String>),
    #[error(
        "it exports {found}, and this host speaks contract {CONTRACT_VERSION}: rebuild it with the SDK of this version"
    )]
    OtherContract { found: String },
    #[error(
        "it doesn't export {ADAPTER_INTERFACE}, so it isn't an adapter: build it on `keyward-sdk` or from `wit/adapter.wit`"
    )]
    NotAnAdapter,
}

/// The first few of a list that a stranger wrote.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> =
        names.iter().take(SHOWN).map(|name| name.escape_default().to_string()).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What the bytes tell about a component that may be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub exports: Vec<String>,
    /// It imports WASI, and runs only in the empty world.
    pub wasi: bool,
}

/// # Errors
/// If `bytes` isn't a valid component that exports the adapter interface and imports nothing, or
/// nothing but what is in the empty world where `wasi` is granted.
pub fn examine(bytes: &[u8], wasi: bool) -> Result<Examined, Refusal> {
    if bytes.starts_with(b"\x7fELF") {
        return Err(Refusal::Precompiled);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm);
    }
    let (imports, exports) = read_interface(bytes)?;
    let (known, foreign): (Vec<String>, Vec<String>) =
        imports.into_iter().partition(|import| wasi::has(import));
    if !foreign.is_empty() {
        return Err(Refusal::Imports(foreign));
    }
    if !known.is_empty() && !wasi {
        return Err(Refusal::Wasi(known));
    }
    if !exports.iter().any(|name| name == ADAPTER_INTERFACE) {
        let other = exports.iter().find(|name| name.starts_with("keyward:adapter/adapter"));
        return Err(match other {
            Some(found) => Refusal::OtherContract { found: found.clone() },
            None => Refusal::NotAnAdapter,
        });
    }
    Validator::new_with_features(features())
        .validate_all(bytes)
        .map_err(|error| Refusal::Invalid(error.to_string()))?;
    Ok(Examined { exports, wasi: !known.is_empty() })
}

/// What a guest may be built from: WebAssembly 2.0 and the component model, no threads, no shared
/// memory, no garbage collector.
fn features() -> wasmparser::WasmFeatures {
    use wasmparser::WasmFeatures as F;
    F::WASM2 | F::COMPONENT_MODEL | F::TAIL_CALL | F::EXTENDED_CONST
}

/// Names the component itself imports and exports, nested components left out.
fn read_interface(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let invalid = |error: wasmparser::BinaryReaderError| Refusal::Invalid(error.to_string());
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(Refusal::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}
