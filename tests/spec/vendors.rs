//! The scripted vendors are themselves as the vendors are: the unchanged OpenAI SDK, pointed at
//! the scripted OpenAI, can't tell the difference. What the gateway is judged by is thus judged
//! first.

use crate::support::{canary, python, run, vendor::Vendor};

#[test]
fn the_scripted_openai_satisfies_the_sdk_itself() {
    let vendor = Vendor::openai(&canary("openai"));
    let seen = python::suite(&format!("{}/v1", vendor.url()), &vendor.key, "");
    for (case, line) in &seen {
        eprintln!("{line}");
        assert!(line["crashed"].is_null(), "{case}: {line}");
    }
}

/// For trying things by hand: starts all three vendors and says how to put a gateway before them.
#[test]
#[ignore = "runs until interrupted"]
fn serve_by_hand() {
    let vendors = [
        ("openai", Vendor::openai(&canary("openai")), "/v1"),
        ("anthropic", Vendor::anthropic(&canary("anthropic")), ""),
        ("ollama", Vendor::ollama(""), ""),
    ];
    println!("providers:");
    for (name, vendor, path) in &vendors {
        println!("  {name}:\n    kind: local\n    endpoint: {}{path}", vendor.url());
    }
    for (name, vendor, _) in &vendors {
        println!("# key of {name}: {}", vendor.key);
    }
    run(std::future::pending::<()>());
}
