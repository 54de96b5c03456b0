//! The real SDKs in a Python environment of its own, made once under `target/`.
//!
//! What it takes: `python3` with `venv`, and a package index for the first run. As root on Debian
//! the missing `python3-venv` is installed; anyone else is told to.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use super::{kept, lock, project};

/// Runs the OpenAI SDK's suite against `base_url` and returns what each case saw, by its name.
pub fn suite(base_url: &str, api_key: &str, prefix: &str) -> BTreeMap<String, Value> {
    run("openai_suite.py", base_url, api_key, prefix)
}

/// Runs one of the suites in `tests/python`.
pub fn run(suite: &str, base_url: &str, api_key: &str, prefix: &str) -> BTreeMap<String, Value> {
    let output = Command::new(python())
        .arg(project().join("tests/python").join(suite))
        .args([base_url, api_key, prefix])
        // None may steer an SDK away from what is under test, nor may a proxy.
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL")
        .env_remove("ANTHROPIC_API_KEY")
        .env_remove("ANTHROPIC_AUTH_TOKEN")
        .env_remove("ANTHROPIC_BASE_URL")
        .env_remove("OLLAMA_API_KEY")
        .env_remove("OLLAMA_HOST")
        .env("NO_PROXY", "*")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    cases(&output)
}

/// What a suite printed: a line for each case, by its name.
pub fn cases(output: &Output) -> BTreeMap<String, Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the suite ended early\n{text}\n{complaint}");
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["case"].as_str().unwrap().to_owned(), line)
        })
        .collect()
}

/// The environment's interpreter, made on first use.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = kept("test-python");
        let _only_one = lock(&folder);
        let python = folder.join("venv/bin/python");
        let wanted = project().join("tests/python/requirements.txt");
        let done = folder.join("requirements.txt");
        if fs::read(&done).ok() != fs::read(&wanted).ok() {
            create(&folder.join("venv"));
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            let output = Command::new(&python).args(install).arg(&wanted).output().unwrap();
            assert!(
                output.status.success(),
                "the SDKs could not be installed from the package index:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            fs::copy(&wanted, &done).unwrap();
        }
        python
    })
}

pub fn create(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let output = make(folder);
    if output.status.success() {
        return;
    }
    // Debian's python3 comes without ensurepip; a half-made environment must go first.
    let _ = fs::remove_dir_all(folder);
    eprintln!("python3 can't make environments; trying apt-get install python3-venv");
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "python3-venv"]).env("DEBIAN_FRONTEND", "noninteractive");
    let installed = apt.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success());
    let output = if installed { make(folder) } else { output };
    assert!(
        output.status.success(),
        "these tests need python3 with venv (on Debian: apt-get install python3 python3-venv):\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn make(folder: &Path) -> Output {
    Command::new("python3").args(["-m", "venv"]).arg(folder).output().unwrap_or_else(|error| {
        panic!("these tests need python3 (apt-get install python3): {error}")
    })
}
