//! The same small adapter in other languages, built as its README says, passes the recordings they
//! all share: given and held content, every cut.
//!
//! Compilers come from PyPI (componentize-py, Zig) and npm (componentize-qjs) into `target/`, some
//! 160 MB in all, once. The one in Python compiles for half a minute of processor time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::{kept, keyward, lock, project, python};

fn languages() -> PathBuf {
    project().join("sdk/languages")
}

/// Runs a command to its end, however long it takes.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}\n{complaint}");
    said
}

/// The environment with the compilers that are on PyPI.
fn environment() -> PathBuf {
    let folder = kept("test-languages");
    let _only_one = lock(&folder);
    let (wanted, made) = (languages().join("requirements.txt"), folder.join("requirements.txt"));
    let environment = folder.join("venv");
    if fs::read(&made).ok() != fs::read(&wanted).ok() {
        python::create(&environment);
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        done(pip.arg(&wanted));
        fs::copy(&wanted, &made).unwrap();
    }
    environment
}

/// Checks a component and replays the recordings through it, under `config`.
fn passes(component: &Path, config: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("providers.yaml");
    fs::write(&file, config).unwrap();
    let command = |verb: &str| {
        let mut command = Command::new(keyward());
        command.args(["plugin", verb]).arg(component).arg("--config").arg(&file);
        command
    };
    let checked = done(&mut command("check"));
    assert!(checked.contains("adapter mini 0.1.0, imports none"), "{checked}");
    let recordings = languages().join("recordings");
    let report = done(command("test").arg("--recordings").arg(&recordings).arg("--json"));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    let count = fs::read_dir(recordings).unwrap().count();
    assert_eq!(report["recordings"].as_array().unwrap().len(), count);
}

#[test]
fn the_one_in_c_passes() {
    let environment = environment();
    let out = tempfile::tempdir().unwrap();
    let compiler = format!("{} -m ziglang cc", environment.join("bin/python").display());
    let mut build = Command::new(languages().join("c/build.sh"));
    done(build.arg(out.path()).env("CC", compiler).env("KEYWARD", keyward()));
    passes(&out.path().join("mini.wasm"), "");
}

#[test]
fn the_one_in_javascript_passes() {
    let folder = kept("test-languages-npm");
    let _only_one = lock(&folder);
    let source = languages().join("javascript");
    for name in ["package.json", "mini.js"] {
        fs::copy(source.join(name), folder.join(name)).unwrap();
    }
    let wit = project().join("wit/adapter.wit");
    if !folder.join("node_modules/.package-lock.json").is_file() {
        done(Command::new("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(&folder));
    }
    done(Command::new("npm").args(["run", "build"]).env("WIT", wit).current_dir(&folder));
    passes(&folder.join("mini.wasm"), "");
}

#[test]
fn the_one_in_python_passes() {
    let environment = environment();
    let out = tempfile::tempdir().unwrap();
    let mut build = Command::new(languages().join("python/build.sh"));
    let programs = environment.join("bin");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    done(build.arg(out.path()).env("PATH", path));
    passes(&out.path().join("mini.wasm"), "plugins: {overrides: {mini: {compile_time: 2m}}}");
}
