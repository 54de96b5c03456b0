//! The bundled adapters and the hostile one, built by the real `keyward plugin build`.
//!
//! Once per test process, and next to nothing when nothing has changed: cargo decides what is out
//! of date. The built components stay in `target/test-plugins`.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use super::{kept, keyward, lock, project};

/// Every adapter that tests use, by name and by the folder of its crate.
const CRATES: &[(&str, &str)] = &[
    ("demo", "plugins/demo"),
    ("openai", "plugins/openai"),
    ("anthropic", "plugins/anthropic"),
    ("ollama", "plugins/ollama"),
    ("hostile", "tests/hostile"),
];

/// The file with an adapter's component.
pub fn component(adapter: &str) -> PathBuf {
    let path = folder().join(format!("{adapter}.wasm"));
    assert!(path.is_file(), "plugin build made no {}", path.display());
    path
}

pub fn bytes(adapter: &str) -> Vec<u8> {
    fs::read(component(adapter)).unwrap()
}

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = kept("test-plugins");
        let _only_one = lock(&folder);
        let output = Command::new(keyward())
            .args(["plugin", "build"])
            .args(CRATES.iter().map(|(_, path)| project().join(path)))
            .arg("--out")
            .arg(&folder)
            .current_dir(project())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "keyward plugin build failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        folder
    })
}
