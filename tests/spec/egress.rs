//! Rule 4: requests go where the operator said and nowhere else, whatever adapters, vendors,
//! callers and the environment try.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    canary,
    gateway::{Setup, World},
    run,
    vendor::{Vendor, reply},
    word,
};

/// A server that nothing should ever connect to.
fn forbidden() -> Vendor {
    Vendor::scripted("", |_| reply(200, &[], b"you should not be here"))
}

#[test]
fn no_redirect_is_followed() {
    let world = World::shared();
    let elsewhere = forbidden();
    let port = elsewhere.address().port();
    run(async {
        for status in [301, 302, 303, 307, 308] {
            for provider in ["openai", "anthropic", "ollama"] {
                for target in [format!("-to-{port}"), String::new()] {
                    let word = word("redirect");
                    let model = format!("{provider}/redirect-{status}{target}");
                    let answer = world.caller().chat(&model, &word).await;
                    assert!((500..505).contains(&answer.status), "{model}: {}", answer.text());
                    assert!(!answer.complaint().is_empty());
                    let requests = world.vendor(provider).requests_with(&word).len();
                    assert_eq!(requests, 1, "{model}: asked again");
                }
            }
        }
    });
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn an_adapter_can_not_leave_its_base_url() {
    let world = World::shared();
    run(async {
        let manners = [
            "absolute-url",
            "host-in-path",
            "user-in-path",
            "backslash-path",
            "path-above-base",
            "encoded-path-above-base",
            "line-break-in-path",
            "unknown-origin",
            "host-header",
            "length-header",
            "line-break-in-header",
            "nul-in-header",
            "unlisted-header",
        ];
        for manner in manners {
            let word = word("leave");
            let answer = world.caller().chat(&format!("hostile/{manner}"), &word).await;
            assert_eq!(answer.status, 502, "{manner}: {}", answer.text());
            assert!(world.openai.requests_with(&word).is_empty(), "{manner}: it was sent");
        }
        // All that did arrive at this vendor was at the place it has.
        for request in world.openai.requests() {
            assert!(request.target.starts_with("/v1/"), "{}", request.target);
        }
    });
}

#[test]
fn external_providers_can_not_be_on_this_machine_or_network() {
    let here = forbidden();
    let port = here.address().port();
    let endpoints = [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("https://[::1]:{port}"),
        format!("https://[::ffff:127.0.0.1]:{port}"),
        format!("https://0.0.0.0:{port}"),
        format!("https://2130706433:{port}"),
        format!("https://0x7f.1:{port}"),
        "https://169.254.169.254".to_owned(),
        "https://[fd00:ec2::254]".to_owned(),
        "https://100.100.100.200".to_owned(),
        "https://10.0.0.1".to_owned(),
        "https://192.168.0.1".to_owned(),
    ];
    for endpoint in endpoints {
        let config = format!(
            "providers:\n  openai:\n    kind: external\n    endpoint: \"{endpoint}\"\n    \
             key: {{env: OUR_KEY}}\n  demo:\n"
        );
        let setup = Setup::new(&config, &["openai", "demo"]).variable("OUR_KEY", "sk-not-sent");
        if setup.run(["doctor"]).code != 0 {
            // Refused before anything is served: as good.
            continue;
        }
        let gateway = setup.start();
        run(async {
            let began = Instant::now();
            let answer = gateway.caller().chat("openai/plain-model", "hello").await;
            assert!(answer.status >= 400, "{endpoint}: {}", answer.text());
            assert!(began.elapsed() < Duration::from_secs(2), "{endpoint}: it was tried");
        });
    }
    assert_eq!(here.connections(), 0);
}

#[test]
fn metadata_services_are_out_of_reach_for_local_providers_too() {
    let config = "providers:\n  ollama:\n    endpoint: http://169.254.169.254\n  demo:\n";
    let gateway = Setup::new(config, &["ollama", "demo"]).start();
    run(async {
        let began = Instant::now();
        let answer = gateway.caller().chat("ollama/plain-model", "hello").await;
        assert!(answer.status >= 400, "{}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(1), "it was tried");
    });
}

#[test]
fn a_proxy_in_the_environment_is_ignored() {
    let vendor = Vendor::openai(&canary("openai"));
    let proxy = forbidden();
    let config = format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    key: {{env: OUR_KEY}}\n",
        vendor.url()
    );
    let mut setup = Setup::new(&config, &["openai"]).variable("OUR_KEY", &vendor.key);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        setup = setup.variable(name, &proxy.url());
    }
    let gateway = setup.start();
    run(async { gateway.caller().chat("openai/plain-model", "hello").await.said() });
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn line_breaks_and_the_like_in_a_models_name_never_reach_a_vendor() {
    let world = World::shared();
    run(async {
        for name in ["a\r\nx-api-key: stolen", "a\0b", "a b", "modèle", ""] {
            let word = word("name");
            let body = json!({
                "model": format!("openai/{name}"),
                "messages": [{ "role": "user", "content": word }],
            });
            let answer = world.caller().post("/v1/chat/completions", &body).await;
            assert!([400, 404].contains(&answer.status), "{name:?}: {}", answer.text());
            assert!(world.openai.requests_with(&word).is_empty(), "{name:?}");
        }
    });
}

#[test]
fn a_caller_can_not_choose_where_its_request_goes() {
    let world = World::shared();
    let elsewhere = forbidden();
    run(async {
        let word = word("where");
        let body = json!({
            "model": "openai/plain-model",
            "messages": [{ "role": "user", "content": word }],
            "api_base": elsewhere.url(), "base_url": elsewhere.url(), "endpoint": elsewhere.url(),
            "extra_headers": { "host": "evil.test" }, "headers": { "authorization": "Bearer mine" },
        });
        world.caller().post("/v1/chat/completions", &body).await;
        for request in world.openai.requests_with(&word) {
            let bearer = format!("Bearer {}", world.openai.key);
            assert_eq!(request.header("authorization"), Some(bearer.as_str()));
        }
    });
    assert_eq!(elsewhere.connections(), 0);
}
