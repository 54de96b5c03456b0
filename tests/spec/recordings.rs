//! The recorded vendor exchanges of every bundled adapter, replayed through its component in the real
//! sandbox: what passes natively comes out of the component too, however the bytes are cut.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{
    gateway::{Ran, Setup},
    plugins, project,
};

/// Replays a folder of recordings through an adapter's component.
fn replay(adapter: &str, recordings: &Path) -> Ran {
    let component = plugins::component(adapter);
    let (component, recordings) = (component.to_str().unwrap(), recordings.to_str().unwrap());
    Setup::new("", &[]).run(["plugin", "test", component, "--recordings", recordings, "--json"])
}

/// Every recording of a bundled adapter passes, at every cut.
fn passes(adapter: &str) {
    let folder = project().join("plugins").join(adapter).join("recordings");
    let ran = replay(adapter, &folder);
    let report = ran.json();
    let problems: Vec<&str> = report["recordings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["problem"].as_str())
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert_eq!(
        report["recordings"].as_array().unwrap().len(),
        fs::read_dir(&folder).unwrap().count()
    );
    for one in report["recordings"].as_array().unwrap() {
        // Given and held; whole, at each end, byte by byte, and each of them seen by the adapter.
        assert!(one["cuts"].as_u64() >= Some(2) && one["exchanges"].as_u64() >= Some(2), "{one}");
    }
    ran.ok();
}

#[test]
fn those_of_openai_come_out_of_its_component() {
    passes("openai");
}

#[test]
fn those_of_anthropic_come_out_of_its_component() {
    passes("anthropic");
}

#[test]
fn those_of_gemini_come_out_of_its_component() {
    passes("gemini");
}

#[test]
fn those_of_cohere_come_out_of_its_component() {
    passes("cohere");
}

#[test]
fn those_of_azure_openai_come_out_of_its_component() {
    passes("azure-openai");
}

#[test]
fn those_of_cloudflare_come_out_of_its_component() {
    passes("cloudflare");
}

#[test]
fn those_of_ollama_come_out_of_its_component() {
    passes("ollama");
}

#[test]
fn those_of_localai_come_out_of_its_component() {
    passes("localai");
}

#[test]
fn those_of_lightllm_come_out_of_its_component() {
    passes("lightllm");
}

#[test]
fn those_of_openai_compatible_come_out_of_its_component() {
    passes("openai-compatible");
}

#[test]
fn those_of_demo_come_out_of_its_component() {
    passes("demo");
}

#[test]
fn what_comes_out_otherwise_is_shown_line_by_line() {
    let source = project().join("plugins/openai/recordings/streamed.json");
    let mut recording: Value = serde_json::from_slice(&fs::read(source).unwrap()).unwrap();
    let events = recording["expect"]["events"].as_array_mut().unwrap();
    let text = events.iter_mut().find(|event| event.get("text").is_some()).unwrap();
    text["text"] = json!("something else");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("streamed.json"), recording.to_string()).unwrap();

    let ran = replay("openai", folder.path()).failed();
    let problem = ran.json()["recordings"][0]["problem"].as_str().unwrap().to_owned();
    assert!(problem.starts_with("streamed: content given: events differ"), "{problem}");
    let changed: Vec<&str> =
        problem.lines().filter(|line| line.contains("something else")).collect();
    assert!(matches!(changed[..], [line] if line.trim_start().starts_with('-')), "{problem}");
}

#[test]
fn a_component_that_traps_is_told_from_one_that_differs() {
    let folder = tempfile::tempdir().unwrap();
    let recording = json!({
        "about": "An adapter with bad manners.",
        "operation": {"chat": {"model": "trap", "messages": [{"role": "user", "content": "x"}]}},
    });
    fs::write(folder.path().join("bad.json"), recording.to_string()).unwrap();
    let ran = replay("hostile", folder.path()).failed();
    assert!(ran.out.contains("trapped"), "{ran:?}");
}

#[test]
fn what_must_cost_nothing_may_only_look() {
    let folder = tempfile::tempdir().unwrap();
    let recording = json!({
        "about": "A probe that would be billed.",
        "context": {"settings": {"free": "post"}},
        "operation": "probe",
        "steps": [{
            "request": {"path": "/chat/completions"},
            "response": {"status": 200, "json": {}},
        }],
    });
    fs::write(folder.path().join("paid.json"), recording.to_string()).unwrap();
    let ran = replay("hostile", folder.path()).failed();
    let problem = ran.json()["recordings"][0]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("asks for POST /chat/completions, which may be billed"), "{problem}");
}

#[test]
fn a_folder_without_recordings_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let ran = replay("openai", folder.path()).failed();
    assert!(ran.err.contains("no recordings"), "{ran:?}");
}
