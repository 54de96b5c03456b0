//! `providers.yaml` as its users write it.

use crate::support::{canary, eventually, gateway::Setup, project, run, vendor::Vendor};

const ALL: &[&str] = &["demo", "openai", "anthropic", "ollama"];

#[test]
fn the_projects_own_file_works_as_it_is() {
    let config = std::fs::read_to_string(project().join("providers.yaml")).unwrap();
    let gateway = Setup::new(&config, ALL).start();
    run(async {
        let answer = gateway.caller().chat("demo/demo", "hello").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let models = gateway.caller().get("/v1/models").await;
        assert!(models.text().contains("demo"), "{}", models.text());
    });
}

#[test]
fn three_lines_make_a_provider() {
    let vendor = Vendor::ollama("");
    let config = format!(
        "providers:\n  ollama:\n    endpoint: {}\n    models: [llama3.2]\n    cost_tracking: false\n",
        vendor.url()
    );
    let gateway = Setup::new(&config, &["ollama"]).start();
    run(async {
        // By its bare name, and any other model of the provider by provider and name.
        assert_eq!(gateway.caller().chat("llama3.2", "hi").await.said(), "You said: hi");
        assert_eq!(gateway.caller().chat("ollama/other", "hi").await.said(), "You said: hi");
        assert_eq!(gateway.caller().chat("other", "hi").await.status, 404);
    });
}

#[test]
fn two_providers_may_use_one_adapter_and_models_may_have_aliases() {
    let (one, two) = (Vendor::ollama(""), Vendor::ollama(""));
    let config = format!(
        "providers:
  ollama:
    endpoint: {}
    models: [llama3.2]
  big-llama:
    adapter: ollama
    endpoint: {}
    models:
      - {{id: \"qwen3:32b\", alias: qwen}}
  off:
    enabled: false
    adapter: ollama
    endpoint: {}
",
        one.url(),
        two.url(),
        two.url()
    );
    let gateway = Setup::new(&config, &["ollama"]).start();
    run(async {
        gateway.caller().chat("llama3.2", "first").await.said();
        gateway.caller().chat("qwen", "second").await.said();
        assert_eq!(gateway.caller().chat("off/llama3.2", "third").await.status, 404);
        assert_eq!(one.requests_with("first").len(), 1);
        assert_eq!(two.the_request_with("second").json()["model"], "qwen3:32b");
    });
}

#[test]
fn mistakes_are_told_with_place_and_remedy() {
    let cases = [
        ("providers:\n  demo:\n    endpiont: x\n", "3:5", "endpoint"),
        ("providers:\n  demo:\n  demo:\n", "3:3", "demo"),
        ("providers:\n\tdemo:\n", "2:2", "tab"),
        ("providers:\n  demo:\n    timeouts: {idle: soon}\n", "3:22", "30s"),
        ("severs: {}\n", "1:1", "server"),
    ];
    for (config, place, remedy) in cases {
        let setup = Setup::new(config, ALL);
        let ran = setup.run(["doctor"]).failed();
        let said = ran.everything();
        assert!(said.contains(&format!("providers.yaml:{place}")), "{config}: {said}");
        assert!(said.contains(remedy), "{config}: {said}");
    }
}

#[test]
fn a_provider_without_its_adapter_is_told_what_file_is_missing() {
    let setup = Setup::new("providers:\n  demo:\n  opnai:\n    models: [x]\n", &["demo"]);
    let ran = setup.run(["doctor"]).failed();
    assert!(ran.everything().contains("opnai.wasm"), "{ran:?}");
    let gateway = setup.start();
    run(async {
        let answer = gateway.caller().chat("opnai/x", "hello").await;
        assert!(answer.complaint().contains("opnai.wasm"), "{}", answer.text());
        assert_eq!(gateway.caller().chat("demo/demo", "hello").await.status, 200);
    });
}

#[test]
fn a_key_in_the_file_is_refused_and_not_repeated() {
    let key = canary("openai");
    let setup = Setup::new(&format!("providers:\n  openai:\n    key: {key}\n"), ALL);
    let ran = setup.run(["doctor"]).failed();
    assert!(!ran.everything().contains(&key), "{ran:?}");
    assert!(ran.everything().contains("env"), "{ran:?}");
}

#[test]
fn other_machines_are_only_served_with_a_token() {
    let setup = Setup::new("server:\n  listen: 0.0.0.0:0\nproviders:\n  demo:\n", &["demo"]);
    let ran = setup.run(["serve"]).failed();
    assert!(ran.everything().contains("tokens"), "{ran:?}");
}

#[test]
fn without_tokens_only_this_machine_is_served() {
    let gateway = Setup::new("providers:\n  demo:\n", &["demo"]).start();
    run(async {
        let caller = gateway.stranger(None);
        assert_eq!(caller.chat("demo/demo", "hello").await.status, 200);
        let body = crate::support::http::chat("demo/demo", "hello").to_string().into_bytes();
        for header in [("host", "evil.test"), ("origin", "https://evil.test")] {
            let headers = [("content-type", "application/json"), header];
            let answer = caller.post_bytes("/v1/chat/completions", &headers, body.clone()).await;
            assert_eq!(answer.status, 403, "{header:?}: {}", answer.text());
        }
    });
}

#[test]
fn a_model_that_no_provider_lists_is_told_apart_from_a_provider_that_is_not_there() {
    let vendor = Vendor::openai(&canary("openai"));
    let config = format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    key: {{env: KEY}}\n    models: [gpt-4.1]\n",
        vendor.url()
    );
    let gateway = Setup::new(&config, &["openai"]).variable("KEY", &vendor.key).start();
    run(async {
        let answer = gateway.caller().chat("gpt-4.2", "hello").await;
        assert_eq!(answer.status, 404);
        let complaint = answer.complaint();
        assert!(complaint.contains("gpt-4.2"), "{complaint}");
        assert_eq!(vendor.requests().len(), 0);
        eventually("a healthy gateway", std::time::Duration::from_secs(1), async || {
            (gateway.caller().get("/healthz").await.status == 200).then_some(())
        })
        .await;
    });
}
