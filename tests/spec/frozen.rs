//! Old adapters keep running: what was released of the contract stays as it was, and an adapter made
//! from it then loads and answers now.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{canary, gateway::Setup, project, run, vendor::Vendor};

/// A released version, `MAJOR.MINOR.PATCH`, and its folder.
fn released() -> Vec<([u32; 3], PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(project().join("wit/frozen"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| (version(path.file_name().unwrap().to_str().unwrap()), path))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "wit/frozen holds no version");
    found
}

fn version(text: &str) -> [u32; 3] {
    let numbers: Vec<u32> = text.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("no version: {text}"))
}

/// The version that a contract's text gives itself.
fn own_version(wit: &str) -> [u32; 3] {
    let line = wit.lines().find_map(|line| line.strip_prefix("package keyward:adapter@")).unwrap();
    version(line.trim_end_matches(';'))
}

/// What is wrong with changing the contract from its released form, and what to do.
fn objection(current: &str, frozen: &[([u32; 3], String)]) -> Option<String> {
    let now = own_version(current);
    let (newest, text) = frozen.last()?;
    if now < *newest {
        return Some(format!(
            "the contract's version {now:?} is older than the released {newest:?}"
        ));
    }
    (now == *newest && current != text).then(|| {
        let differs = current.lines().zip(text.lines()).position(|(a, b)| a != b);
        format!(
            "wit/adapter.wit differs from its released version {newest:?}, first in line {}: adapters \
             that exist would no longer load. Put it back, or raise the package's version; \
             wit/frozen/README.md tells how",
            differs.unwrap_or_else(|| current.lines().count().min(text.lines().count())) + 1
        )
    })
}

#[test]
fn the_contract_is_as_released_or_has_a_higher_version() {
    let frozen: Vec<_> = released()
        .into_iter()
        .map(|(version, folder)| {
            let text = fs::read_to_string(folder.join("adapter.wit")).unwrap();
            assert_eq!(own_version(&text), version, "{} holds another", folder.display());
            (version, text)
        })
        .collect();
    let current = fs::read_to_string(project().join("wit/adapter.wit")).unwrap();
    if let Some(objection) = objection(&current, &frozen) {
        panic!("{objection}");
    }
    let said = version(keyward_contract::CONTRACT_VERSION);
    assert_eq!(said, own_version(&current), "wit/src/lib.rs names another version");
}

#[test]
fn a_change_without_a_new_version_is_noticed() {
    let old = "package keyward:adapter@0.1.0;\nrecord a { b: u8 }\n";
    let frozen = [([0, 1, 0], old.to_owned())];
    assert_eq!(objection(old, &frozen), None);
    let changed = old.replace("u8", "u16");
    let said = objection(&changed, &frozen).unwrap();
    assert!(said.contains("line 2") && said.contains("raise the package's version"), "{said}");
    assert_eq!(objection(&changed.replace("0.1.0", "0.2.0"), &frozen), None);
    assert!(objection(&old.replace("0.1.0", "0.0.9"), &frozen).is_some());
}

#[test]
fn adapters_of_every_released_version_load_and_pass_their_recordings() {
    let recordings = project().join("sdk/languages/recordings");
    for (version, folder) in released() {
        let component = folder.join("mini.wasm");
        let component = component.to_str().unwrap();
        let setup = Setup::new("", &[]);
        setup.run(["plugin", "check", component]).ok();
        let recordings = recordings.to_str().unwrap();
        let ran = setup.run(["plugin", "test", component, "--recordings", recordings, "--json"]);
        assert_eq!(ran.json()["failed"], 0, "{version:?}: {ran:?}");
        ran.ok();
    }
}

#[test]
fn an_adapter_of_every_released_version_serves_a_chat() {
    for (version, folder) in released() {
        let vendor = Vendor::openai(&canary("mini"));
        let config = format!(
            "providers:\n  mini:\n    endpoint: {}/v1\n    kind: local\n    models: [one]\n",
            vendor.url()
        );
        let setup = Setup::new(&config, &[]);
        fs::copy(folder.join("mini.wasm"), setup.plugin("mini")).unwrap();
        let gateway = setup.key("mini", &vendor.key).start();
        run(async {
            let answer = gateway.caller().chat("mini/one", "good old times").await;
            assert_eq!(answer.said(), "You said: good old times", "{version:?}");
            let usage: Value = answer.json();
            assert_ne!(usage["usage"]["total_tokens"], json!(0), "{version:?}: {usage}");
            let stream =
                gateway.caller().stream("mini/one", "good old times").await.collect().await;
            assert_eq!(stream.text, "You said: good old times", "{version:?}: {stream:?}");
        });
    }
}
