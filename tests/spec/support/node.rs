//! The real `openai` package of npm, put under `target/` once by `npm ci`.
//!
//! What it takes: `node` and `npm`, and a package registry for the first run. The lock file names
//! versions and digests and no registry.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

use super::{kept, lock, project, python};

/// Runs `tests/node/suite.js` against `base_url` and returns what each case saw, by its name.
pub fn suite(base_url: &str, api_key: &str, prefix: &str) -> BTreeMap<String, Value> {
    let output = Command::new("node")
        .arg(project().join("tests/node/suite.js"))
        .args([base_url, api_key, prefix])
        .current_dir(modules())
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL")
        .env("NO_PROXY", "*")
        .output()
        .unwrap_or_else(|error| missing("node", &error));
    python::cases(&output)
}

/// The folder that has the package in it, made on first use.
fn modules() -> &'static Path {
    const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let folder = kept("test-node");
        let _only_one = lock(&folder);
        let from = project().join("tests/node");
        // Written last, so what it says is there.
        let done = folder.join("installed.json");
        let wanted = fs::read(from.join("package-lock.json")).unwrap();
        if fs::read(&done).is_ok_and(|installed| installed == wanted) {
            return folder;
        }
        for file in FILES {
            fs::copy(from.join(file), folder.join(file)).unwrap();
        }
        let output = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .unwrap_or_else(|error| missing("npm", &error));
        assert!(
            output.status.success(),
            "the openai package could not be installed from npm's registry:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(&done, wanted).unwrap();
        folder
    })
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("these tests need {program} (on Debian: apt-get install nodejs npm): {error}")
}
