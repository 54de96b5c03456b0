//! Vendors that fail, stall, lie or flood: the caller gets a typed answer in good time, and the
//! host stays as it was. Before that, the scripted vendors themselves are put to the test.

use std::time::{Duration, Instant};

use crate::support::{
    by_itself, canary, eventually, gateway::World, python, run, vendor::Vendor, word,
};

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "ollama"];

/// What a gateway adds for tests of patience: each provider once more, with little of it.
const IMPATIENT: &str = "    timeouts: {connect: 1s, first_byte: 500ms, idle: 500ms, total: 10s}\n";

#[test]
fn the_scripted_openai_satisfies_the_sdk_itself() {
    let vendor = Vendor::openai(&canary("openai"));
    let seen = python::suite(&format!("{}/v1", vendor.url()), &vendor.key, "");
    for (case, line) in &seen {
        assert!(line["crashed"].is_null(), "{case}: {line}");
    }
    assert_eq!(seen["plain"]["result"]["text"], "You said: Hello there");
    assert_eq!(seen["vendor_says_403"]["raised"]["type"], "PermissionDeniedError");
    assert_eq!(seen["two_results_come_back"]["result"]["calls"], 2);
}

// ------------------------------------------------------------------ callers that leave

#[test]
fn a_caller_that_leaves_takes_the_vendors_request_with_it() {
    let world = World::shared();
    run(async {
        for provider in PROVIDERS {
            let word = word("leaver");
            let mut stream = world.caller().stream(&format!("{provider}/long-500"), &word).await;
            stream.first_text().await;
            let left = Instant::now();
            drop(stream);
            let vendor = world.vendor(provider);
            let noticed = vendor.wait_for_disconnect(&word, Duration::from_secs(1)).await;
            let after = noticed.saturating_duration_since(left);
            assert!(after < Duration::from_secs(1), "{provider}: {after:?}");
        }
    });
}

#[test]
fn a_caller_that_leaves_before_the_first_byte_does_as_well() {
    let world = World::shared();
    run(async {
        for provider in PROVIDERS {
            let word = word("leaver");
            let vendor = world.vendor(provider);
            let caller = world.caller();
            let model = format!("{provider}/hang");
            let asking = tokio::spawn({
                let word = word.clone();
                async move { caller.chat(&model, &word).await }
            });
            vendor.wait_for_request(&word, Duration::from_secs(5)).await;
            asking.abort();
            vendor.wait_for_disconnect(&word, Duration::from_secs(1)).await;
        }
    });
}

// ------------------------------------------------------------------ vendors that stall

#[test]
fn silence_ends_in_time() {
    let _alone = by_itself();
    let openai = Vendor::openai(&canary("openai"));
    let config = format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    key: {{env: KEY}}\n{IMPATIENT}\
         routing: {{attempts: 1}}\nhealth: {{enabled: false}}\n",
        openai.url()
    );
    let setup = crate::support::gateway::Setup::new(&config, &["openai"]);
    let gateway = setup.variable("KEY", &openai.key).start();
    run(async {
        let patience = Duration::from_secs(3);
        let began = Instant::now();
        let answer = gateway.caller().chat("openai/hang", "no headers").await;
        assert_eq!(answer.status, 504, "{}", answer.text());
        let stream = gateway.caller().stream("openai/silence-0", "headers only").await;
        let status = stream.status;
        let all = stream.collect().await;
        assert!(status == 504 || all.errors.len() == 1, "{status} {all:?}");
        assert!(began.elapsed() < patience, "{:?}", began.elapsed());

        let began = Instant::now();
        let all =
            gateway.caller().stream("openai/silence-4", "one two three").await.collect().await;
        assert_eq!(all.errors.len(), 1, "{all:?}");
        assert_eq!(all.errors[0]["code"], "timeout", "{all:?}");
        assert!(all.text.starts_with("You said:"), "{all:?}");
        assert!(began.elapsed() < patience, "{:?}", began.elapsed());
    });
}

#[test]
fn a_vendor_that_is_not_there_is_told_at_once() {
    let _alone = by_itself();
    let world = World::new("");
    let World { openai, anthropic, ollama, gateway } = world;
    drop((openai, anthropic, ollama));
    run(async {
        for provider in PROVIDERS {
            let began = Instant::now();
            let answer = gateway.caller().chat(&format!("{provider}/plain-model"), "hello").await;
            assert_eq!(answer.status, 503, "{provider}: {}", answer.text());
            assert_eq!(answer.header("x-keyward-fault"), Some("transport"), "{provider}");
            assert!(began.elapsed() < Duration::from_secs(1), "{provider}: {:?}", began.elapsed());
        }
    });
}

// ------------------------------------------------------------------ streams that break

#[test]
fn a_broken_stream_ends_with_one_error_and_nothing_invented() {
    let world = World::shared();
    run(async {
        let prompt = "eins zwei drei vier fünf sechs sieben";
        let whole = format!("You said: {prompt}");
        for provider in PROVIDERS {
            for fault in ["cut-7", "eof-7", "eof-orderly-7", "eof-inside-7", "stream-error-7"] {
                let model = format!("{provider}/{fault}");
                let all = world.caller().stream(&model, prompt).await.collect().await;
                assert_eq!(all.errors.len(), 1, "{model}: {all:?}");
                assert!(all.errors[0]["message"].is_string(), "{model}: {all:?}");
                assert!(all.finish.is_empty(), "{model}: it says it finished: {all:?}");
                assert!(!all.text.is_empty() && whole.starts_with(&all.text), "{model}: {all:?}");
                assert!(all.complete, "{model}: the gateway's own answer broke: {all:?}");
            }
        }
    });
}

#[test]
fn a_broken_whole_answer_is_a_typed_error() {
    let world = World::shared();
    run(async {
        for provider in PROVIDERS {
            for fault in ["garbage-html", "garbage-random", "error-in-200", "refuse"] {
                let model = format!("{provider}/{fault}");
                let answer = world.caller().chat(&model, "hello").await;
                assert!((500..505).contains(&answer.status), "{model}: {}", answer.text());
                assert!(!answer.complaint().is_empty(), "{model}");
            }
        }
    });
}

#[test]
fn a_flood_is_cut_and_memory_stays_flat() {
    let _alone = by_itself();
    let world = World::shared();
    run(async {
        world.caller().chat("openai/plain-model", "warm up").await.said();
        for model in ["endless-body", "endless-line", "many-headers"] {
            let before = world.gateway.memory();
            let word = word("flood");
            let began = Instant::now();
            let caller = world.caller();
            let named = format!("openai/{model}");
            let streaming = async {
                let stream = caller.stream(&named, &word).await;
                (stream.status, stream.collect().await)
            };
            let (plain, stream) = tokio::join!(caller.chat(&named, &word), streaming);
            assert!((500..505).contains(&plain.status), "{model}: {}", plain.text());
            let (status, all) = stream;
            assert!(status >= 500 || all.errors.len() == 1, "{model}: {status} {all:?}");
            assert!(began.elapsed() < Duration::from_secs(10), "{model}: {:?}", began.elapsed());
            // The vendor had a gigabyte to give.
            let grown = world.gateway.memory().saturating_sub(before);
            assert!(grown < 128 << 20, "{model}: {grown} bytes more");
            for request in world.openai.requests_with(&word) {
                eventually("the connection cut", Duration::from_secs(2), async || {
                    use crate::support::vendor::Outcome::CallerLeft;
                    matches!(request.outcome(), CallerLeft(_)).then_some(())
                })
                .await;
            }
        }
        assert_eq!(world.caller().chat("openai/plain-model", "after").await.status, 200);
    });
}

// ------------------------------------------------------------------ vendors that lie

#[test]
fn senseless_usage_does_no_harm() {
    let world = World::shared();
    run(async {
        for provider in PROVIDERS {
            for spoiled in ["usage-missing", "usage-negative", "usage-huge", "usage-text"] {
                let model = format!("{provider}/{spoiled}");
                let answer = world.caller().chat(&model, "hello").await;
                // An adapter may find no answer in what isn't even a count.
                let no_count = matches!(spoiled, "usage-negative" | "usage-text");
                if no_count && provider != "openai" && answer.status == 502 {
                    continue;
                }
                assert_eq!(answer.said(), "You said: hello", "{model}");
                for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
                    let tokens = &answer.json()["usage"][name];
                    let sound = tokens.is_null() || tokens.as_u64().is_some_and(|n| n < 1 << 40);
                    assert!(sound, "{model}: {}", answer.text());
                }
                let all = world.caller().stream(&model, "hello").await.collect().await;
                assert_eq!(all.text, "You said: hello", "{model}: {all:?}");
                assert_eq!((all.ends, all.errors.len()), (1, 0), "{model}: {all:?}");
            }
        }
    });
}

// ------------------------------------------------------------------ by hand

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
