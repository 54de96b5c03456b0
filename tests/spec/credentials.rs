//! Rules 2, 3 and 11: a key goes to the one place it was granted for and is seen nowhere else; an
//! adapter reads neither keys nor prompts.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    CANARY, canary, contains,
    gateway::{Setup, TOKEN, World, leak, master_key},
    run,
    vendor::Vendor,
    word,
};

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "ollama"];

#[test]
fn a_vendor_gets_its_own_key_and_no_other() {
    let world = World::shared();
    run(async {
        for provider in PROVIDERS {
            let word = word("own");
            world.caller().chat(&format!("{provider}/plain-model"), &word).await.said();
            let vendor = world.vendor(provider);
            let everything = vendor.the_request_with(&word).everything();
            if vendor.key.is_empty() {
                assert!(!contains(&everything, CANARY.as_bytes()), "{provider}");
            } else {
                assert!(contains(&everything, vendor.key.as_bytes()), "{provider}");
                let keys = String::from_utf8_lossy(&everything).matches(CANARY).count();
                assert_eq!(keys, 1, "{provider}: {}", String::from_utf8_lossy(&everything));
            }
            assert!(!contains(&everything, TOKEN.as_bytes()), "the caller's token was passed on");
        }
    });
}

#[test]
fn what_callers_send_beside_the_request_stays_with_the_gateway() {
    let world = World::shared();
    run(async {
        let word = word("beside");
        let body = json!({
            "model": "openai/plain-model", "messages": [{ "role": "user", "content": word }],
        });
        let headers = [
            ("content-type", "application/json"),
            ("x-api-key", "callers-own-key"),
            ("cookie", "callers-cookie=1"),
            ("openai-organization", "callers-organization"),
            ("x-forwarded-for", "10.9.8.7"),
            ("proxy-authorization", "Basic callers-proxy"),
        ];
        let answer = world
            .caller()
            .post_bytes("/v1/chat/completions", &headers, body.to_string().into_bytes())
            .await;
        answer.said();
        let request = world.openai.the_request_with(&word);
        for (_, value) in &headers[1..] {
            assert!(!request.mentions(value), "{value} was passed on");
        }
        let address = world.openai.address().to_string();
        assert_eq!(request.header("host"), Some(address.as_str()));
    });
}

#[test]
fn a_vendor_that_sends_the_key_back_is_not_repeated() {
    let world = World::shared();
    run(async {
        for provider in ["openai", "anthropic"] {
            for model in ["reflect", "reflect-split", "reflect-error"] {
                let model = format!("{provider}/{model}");
                let answer = world.caller().chat(&model, "what did I send?").await;
                assert_eq!(leak(&answer.everything()), None, "{model}: {}", answer.text());
                let mut stream = world.caller().stream(&model, "what did I send?").await;
                let head = format!("{:?}", stream.headers);
                assert_eq!(leak(head.as_bytes()), None, "{model}: {head}");
                while stream.next().await.is_some() {}
                assert_eq!(leak(&stream.raw), None, "{model}");
            }
        }
    });
}

#[test]
fn a_key_that_comes_back_in_pieces_is_not_put_together_for_the_caller() {
    let world = World::shared();
    run(async {
        for provider in ["openai", "anthropic"] {
            let model = format!("{provider}/reflect-words");
            let all = world.caller().stream(&model, "what did I send?").await.collect().await;
            assert_eq!(all.text, "you sent [redacted] to me", "{model}");
            assert_eq!(all.ends, 1, "{model}");
        }
    });
}

#[test]
fn no_key_is_in_the_data_folder_or_the_log() {
    let world = World::new("");
    run(async {
        for provider in ["openai", "anthropic", "ollama", "hostile"] {
            for model in ["plain-model", "reflect", "reflect-error", "status-401", "cut-2"] {
                let model = format!("{provider}/{model}");
                world.caller().chat(&model, "hello").await;
                world.caller().stream(&model, "hello").await.collect().await;
            }
        }
        world.caller().get("/v1/models").await;
    });
    assert_eq!(world.gateway.leaks(), Vec::<String>::new());
    let log = world.gateway.log();
    assert!(!log.contains(TOKEN), "the caller's token is in the log");
    // And after it was stopped, when all has been written.
    let World { openai: _openai, gateway, .. } = world;
    let setup = gateway.stop();
    for file in crate::support::files_below(&setup.data()) {
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(leak(&bytes), None, "{}", file.display());
    }
}

#[test]
fn no_command_shows_a_key() {
    let world = World::shared();
    for arguments in [
        &["key", "list"][..],
        &["key", "list", "--json"],
        &["plugin", "list", "--json"],
        &["plugin", "inspect", "openai", "--json"],
        &["usage", "--json"],
        &["doctor", "--json"],
    ] {
        let ran = world.gateway.run(arguments);
        assert_eq!(leak(ran.everything().as_bytes()), None, "{arguments:?}: {ran:?}");
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_search_of_guest_memory_finds_what_is_there() {
    // Without this the two tests below would pass with a search that finds nothing.
    let world = World::shared();
    run(async {
        let model = format!("hostile/search-{}", hex("Misbehaves on request."));
        let said = world.caller().chat(&model, "hello").await.said();
        assert_ne!(said, "before 0 after 0");
    });
}

#[test]
fn no_key_is_in_the_memory_of_an_adapter() {
    let world = World::shared();
    run(async {
        // The vendor answers each search by sending the key back, in body and headers.
        let secret = &world.openai.key[CANARY.len()..];
        for needle in [CANARY, secret, &secret[10..26]] {
            let model = format!("hostile/search-{}", hex(needle));
            let said = world.caller().chat(&model, "hello").await.said();
            assert_eq!(said, "before 0 after 0", "{needle}");
        }
    });
}

#[test]
fn no_prompt_is_in_the_memory_of_an_adapter() {
    let world = World::shared();
    run(async {
        let word = word("prompt");
        let model = format!("hostile/search-{}", hex(&word));
        let said = world.caller().chat(&model, &format!("begin {word} end")).await.said();
        assert_eq!(said, "before 0 after 0");
        // It did reach the vendor, in place of the mark.
        let sent = world.openai.the_request_with(&word).json();
        assert_eq!(sent["messages"][0]["content"], format!("begin {word} end"));
    });
}

#[test]
fn an_adapter_sees_a_mark_that_says_nothing_and_is_new_each_time() {
    let world = World::shared();
    run(async {
        let first = world.caller().chat("hostile/own-prompt", "secret words").await.said();
        let again = world.caller().chat("hostile/own-prompt", "secret words").await.said();
        assert!(first.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{first}");
        assert_ne!(first, again);
        assert_eq!(world.caller().chat("hostile/grants", "hello").await.said(), "[]");
    });
}

#[test]
fn a_header_that_authenticates_is_refused_and_nothing_is_sent() {
    let world = World::shared();
    run(async {
        for manner in ["auth-header", "api-key-header", "cookie-header"] {
            let word = word("stolen");
            let answer = world.caller().chat(&format!("hostile/{manner}"), &word).await;
            assert_eq!(answer.status, 502, "{manner}: {}", answer.text());
            assert!(world.openai.requests_with(&word).is_empty(), "{manner}: it was sent");
        }
    });
}

#[test]
fn a_key_goes_to_the_origin_it_was_granted_for_and_to_no_other_of_the_same_adapter() {
    let world = World::shared();
    run(async {
        let word = word("carried");
        world.caller().chat("hostile/second-origin", &word).await;
        let carried = world.ollama.requests_with(&word);
        assert_eq!(carried.len(), 1, "the second origin is granted, only without a key");
        assert_eq!(leak(&carried[0].everything()), None);
        assert!(carried[0].header("authorization").is_none());
    });
}

#[test]
fn a_mark_out_of_place_is_refused_and_nothing_is_sent() {
    let world = World::shared();
    run(async {
        for manner in ["mark-in-path", "mark-in-query", "mark-in-header", "mark-twice"] {
            let word = word("mark");
            let answer = world.caller().chat(&format!("hostile/{manner}"), &word).await;
            assert_eq!(answer.status, 502, "{manner}: {}", answer.text());
            assert!(world.openai.requests_with(&word).is_empty(), "{manner}: it was sent");
        }
        // A mark that was never given isn't anyone's content.
        let word = word("forged");
        world.caller().chat("hostile/forged-mark", &word).await;
        assert!(world.openai.requests_with(&word).is_empty());
    });
}

// ------------------------------------------------------------------ where keys come from

fn openai_at(vendor: &Vendor, more: &str) -> String {
    format!("providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n{more}", vendor.url())
}

#[test]
fn a_key_is_not_sent_to_an_endpoint_it_was_not_stored_for() {
    let rightful = Vendor::openai(&canary("openai"));
    let other = Vendor::openai(&canary("openai"));
    let gateway =
        Setup::new(&openai_at(&rightful, ""), &["openai"]).key("openai", &rightful.key).start();
    run(async {
        gateway.caller().chat("openai/plain-model", "hello").await.said();
        gateway.configure(&openai_at(&other, ""));
        let refused = async || {
            let answer = gateway.caller().chat("openai/plain-model", "hello").await;
            (answer.status == 401).then_some(answer)
        };
        let answer = crate::support::eventually(
            "the change of the endpoint",
            Duration::from_secs(3),
            refused,
        )
        .await;
        assert!(answer.complaint().contains("key"), "{}", answer.text());
    });
    for request in other.requests() {
        assert_eq!(leak(&request.everything()), None, "{request:?}");
    }
}

#[test]
fn a_key_may_be_in_a_variable_or_a_file() {
    let vendor = Vendor::openai(&canary("openai"));
    let by_variable = Setup::new(&openai_at(&vendor, "    key: {env: OUR_KEY}\n"), &["openai"])
        .variable("OUR_KEY", &vendor.key)
        .start();
    let setup = Setup::new(&openai_at(&vendor, "    key: {file: our.key}\n"), &["openai"]);
    std::fs::write(setup.config().with_file_name("our.key"), format!("{}\n", vendor.key)).unwrap();
    let by_file = setup.start();
    run(async {
        for gateway in [by_variable, by_file] {
            gateway.caller().chat("openai/plain-model", "hello").await.said();
            assert_eq!(gateway.leaks(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_provider_without_its_key_says_how_to_give_one() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = Setup::new(&openai_at(&vendor, "  demo:\n"), &["openai", "demo"]).start();
    run(async {
        let answer = gateway.caller().chat("openai/plain-model", "hello").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(answer.complaint().contains("keyward key set openai"), "{}", answer.text());
        assert_eq!(gateway.caller().chat("demo/demo", "hello").await.status, 200);
        assert_eq!(vendor.requests().len(), 0, "a request went out without a key");
    });
}

#[test]
fn with_another_master_key_the_vault_stays_shut_and_nothing_is_lost() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = Setup::new(&openai_at(&vendor, ""), &["openai"]).key("openai", &vendor.key);
    let other_key = "0123456789abcdef".repeat(4);
    let gateway = setup.variable("KEYWARD_MASTER_KEY", &other_key).start();
    run(async {
        let answer = gateway.caller().chat("openai/plain-model", "hello").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("x-keyward-error"), Some("sealed"));
    });
    assert_eq!(vendor.requests().len(), 0);
    let setup = gateway.stop().variable("KEYWARD_MASTER_KEY", &master_key());
    let gateway = setup.start();
    run(async { gateway.caller().chat("openai/plain-model", "hello").await.said() });
}
