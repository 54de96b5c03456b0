//! Every attempt leaves a row with tokens, time and outcome, and nothing of what was said.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    canary, eventually,
    gateway::{Gateway, Setup, World},
    run,
    vendor::Vendor,
    word,
};

/// The row of the attempt that asked for this model.
async fn row(gateway: &Gateway, model: &str) -> Value {
    eventually(&format!("a row for {model}"), Duration::from_secs(3), async || {
        let usage = gateway.run(["usage", "--rows", "--json"]).ok().json();
        find(&usage, model).cloned()
    })
    .await
}

fn find<'a>(value: &'a Value, model: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) if members.get("model").is_some_and(|name| name == model) => {
            Some(value)
        }
        Value::Object(members) => members.values().find_map(|member| find(member, model)),
        Value::Array(entries) => entries.iter().find_map(|entry| find(entry, model)),
        _ => None,
    }
}

/// The first member of this name, however deep.
fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    fn search<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
        let Value::Object(members) = value else { return None };
        members.get(name).or_else(|| members.values().find_map(|member| search(member, name)))
    }
    search(value, name).unwrap_or(&Value::Null)
}

#[test]
fn an_answered_chat_is_recorded_with_the_vendors_count() {
    let world = World::shared();
    run(async {
        for provider in ["openai", "anthropic", "ollama"] {
            for stream in [false, true] {
                let model = word("metered");
                let prompt = word("unrecorded");
                if stream {
                    let all = world.caller().stream(&format!("{provider}/{model}"), &prompt).await;
                    assert!(all.collect().await.errors.is_empty());
                } else {
                    world.caller().chat(&format!("{provider}/{model}"), &prompt).await.said();
                }
                let row = row(&world.gateway, &model).await;
                assert_eq!(member(&row, "provider"), provider, "{row}");
                assert_eq!(member(&row, "caller"), "tests", "{row}");
                assert_eq!(member(&row, "outcome"), "ok", "{row}");
                assert_eq!(*member(&row, "input_tokens"), 11, "{row}");
                assert_eq!(*member(&row, "output_tokens"), 7, "{row}");
                assert!(!row.to_string().contains(&prompt), "the prompt is in the row: {row}");
            }
        }
    });
}

#[test]
fn a_failed_attempt_is_recorded_with_its_kind() {
    let world = World::shared();
    run(async {
        world.caller().chat("openai/status-429-recorded", "hello").await;
        let row = row(&world.gateway, "status-429-recorded").await;
        assert_eq!(member(&row, "outcome"), "failed", "{row}");
        assert_eq!(member(&row, "failure"), "rate-limited", "{row}");
        assert_ne!(member(&row, "fault"), "plugin", "it did what it should: {row}");
    });
}

#[test]
fn a_cancelled_stream_is_recorded_as_far_as_it_came() {
    let world = World::shared();
    run(async {
        let mut stream = world.caller().stream("openai/long-300-cancelled", "hello").await;
        stream.first_text().await;
        drop(stream);
        let row = row(&world.gateway, "long-300-cancelled").await;
        assert_eq!(member(&row, "outcome"), "cancelled", "{row}");
    });
}

#[test]
fn missing_usage_is_estimated_and_says_so() {
    let world = World::shared();
    run(async {
        world.caller().chat("openai/usage-missing", "one two three four").await.said();
        let row = row(&world.gateway, "usage-missing").await;
        assert_eq!(*member(&row, "estimated"), true, "{row}");
        assert!(member(&row, "input_tokens").as_u64().is_some_and(|tokens| tokens > 0), "{row}");
    });
}

#[test]
fn rows_survive_a_stop_and_a_kill() {
    let vendor = Vendor::openai(&canary("openai"));
    let config = format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    key: {{env: KEY}}\n",
        vendor.url()
    );
    let gateway = Setup::new(&config, &["openai"]).variable("KEY", &vendor.key).start();
    run(async {
        gateway.caller().chat("openai/kept-over-a-kill", "hello").await.said();
        // Shown once is stored.
        row(&gateway, "kept-over-a-kill").await;
    });
    let gateway = gateway.kill().start();
    run(async {
        row(&gateway, "kept-over-a-kill").await;
        gateway.caller().chat("openai/kept-over-a-stop", "hello").await.said();
    });
    let setup = gateway.stop();
    // Without a running gateway the command reads the store itself.
    let usage = setup.run(["usage", "--rows", "--json"]).ok().json();
    assert!(find(&usage, "kept-over-a-kill").is_some(), "{usage}");
    assert!(find(&usage, "kept-over-a-stop").is_some(), "{usage}");
}

#[test]
fn the_plain_form_is_readable() {
    let world = World::shared();
    run(async { world.caller().chat("openai/plain-model", "hello").await.said() });
    let ran = world.gateway.run(["usage"]).ok();
    assert!(ran.out.contains("openai"), "{ran:?}");
}
