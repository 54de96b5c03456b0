//! The bundled adapters and the hostile one, built by the real `keyward plugin build`.
//!
//! Once per test process, and next to nothing when nothing has changed: cargo decides what is out
//! of date. The built components stay in `target/test-plugins`.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use super::{kept, keyward, lock, project};

/// Every adapter that tests use, by name and by the folder of its crate.
const CRATES: &[(&str, &str)] = &[
    ("demo", "plugins/demo"),
    ("openai", "plugins/openai"),
    ("anthropic", "plugins/anthropic"),
    ("ollama", "plugins/ollama"),
    ("gemini", "plugins/gemini"),
    ("cohere", "plugins/cohere"),
    ("azure-openai", "plugins/azure-openai"),
    ("cloudflare", "plugins/cloudflare"),
    ("localai", "plugins/localai"),
    ("lightllm", "plugins/lightllm"),
    ("openai-compatible", "plugins/openai-compatible"),
    ("hostile", "tests/hostile"),
];

/// The file with an adapter's component.
pub fn component(adapter: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // One that doesn't compile must not fail the tests of the others, nor be built twice at once.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(adapter.to_owned()).or_insert_with(|| build(adapter)).clone()
}

pub fn bytes(adapter: &str) -> Vec<u8> {
    fs::read(component(adapter)).unwrap()
}

fn build(adapter: &str) -> PathBuf {
    let (_, source) = CRATES.iter().find(|(name, _)| *name == adapter).unwrap();
    let folder = kept("test-plugins");
    let _only_one = lock(&folder);
    let output = Command::new(keyward())
        .args(["plugin", "build"])
        .arg(project().join(source))
        .arg("--out")
        .arg(&folder)
        .current_dir(project())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "keyward plugin build {source} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    folder.join(format!("{adapter}.wasm"))
}
