//! The command line as its users know it.

use crate::support::{
    canary,
    gateway::{Setup, World, leak},
    plugins, run,
    vendor::Vendor,
};

fn openai(vendor: &Vendor) -> Setup {
    let config = format!(
        "providers:\n  demo:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    models: [gpt-4.1]\n",
        vendor.url()
    );
    Setup::new(&config, &["demo", "openai"])
}

#[test]
fn a_chat_is_answered_without_server_or_key() {
    let setup = Setup::new("providers:\n  demo:\n", &["demo"]);
    let ran = setup.run(["chat", "-m", "demo/demo", "Hello there"]).ok();
    assert!(!ran.out.trim().is_empty(), "{ran:?}");
}

#[test]
fn a_chat_goes_to_the_vendor_and_prints_its_answer_only() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = openai(&vendor).key("openai", &vendor.key);
    let ran = setup.run(["chat", "-m", "gpt-4.1", "Hello there"]).ok();
    assert_eq!(ran.out.trim_end(), "You said: Hello there");
    let ran = setup.run(["chat", "-m", "openai/status-429", "Hello"]).failed();
    assert!(ran.out.is_empty(), "an error is no answer: {ran:?}");
    assert!(ran.err.contains("ate limit"), "{ran:?}");
}

#[test]
fn a_key_is_set_listed_tested_and_removed() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = openai(&vendor);
    setup.run(["key", "test", "openai"]).failed();

    setup.run_with(["key", "set", "openai"], &format!("{}\n", vendor.key)).ok();
    let list = setup.run(["key", "list"]).ok();
    assert!(list.out.contains("openai"), "{list:?}");
    assert_eq!(leak(list.everything().as_bytes()), None);
    assert!(setup.run(["key", "list", "--json"]).ok().json().to_string().contains("openai"));
    setup.run(["key", "test", "openai"]).ok();

    // A wrong one in its place is told apart by the vendor.
    setup.run_with(["key", "set", "openai"], "sk-canary-wrong-0123456789").ok();
    let wrong = setup.run(["key", "test", "openai"]).failed();
    assert_eq!(leak(wrong.everything().as_bytes()), None, "{wrong:?}");

    setup.run(["key", "rm", "openai"]).ok();
    let gone = setup.run(["key", "list", "--json"]).ok();
    let probe = setup.run(["key", "test", "openai"]).failed();
    assert!(probe.everything().contains("key set openai"), "{gone:?} {probe:?}");
    for file in crate::support::files_below(&setup.data()) {
        assert_eq!(leak(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

#[test]
fn a_key_set_while_the_gateway_runs_is_used_at_once() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = openai(&vendor).start();
    run(async {
        assert_eq!(gateway.caller().chat("gpt-4.1", "hello").await.status, 401);
        gateway.setup().run_with(["key", "set", "openai"], &vendor.key).ok();
        crate::support::eventually("the key", std::time::Duration::from_secs(2), async || {
            (gateway.caller().chat("gpt-4.1", "hello").await.status == 200).then_some(())
        })
        .await;
        gateway.run(["key", "rm", "openai"]).ok();
        crate::support::eventually("its removal", std::time::Duration::from_secs(2), async || {
            (gateway.caller().chat("gpt-4.1", "hello").await.status == 401).then_some(())
        })
        .await;
    });
    assert_eq!(gateway.leaks(), Vec::<String>::new());
}

#[test]
fn a_key_is_never_an_argument() {
    let vendor = Vendor::openai(&canary("openai"));
    let ran = openai(&vendor).run(["key", "set", "openai", &vendor.key]).failed();
    assert_eq!(leak(ran.everything().as_bytes()), None, "{ran:?}");
}

#[test]
fn no_master_key_is_made_in_silence() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = openai(&vendor).without_master_key();
    let ran = setup.run_with(["key", "set", "openai"], &vendor.key).failed();
    assert!(ran.everything().contains("KEYWARD_MASTER_KEY"), "no remedy: {ran:?}");
    for file in crate::support::files_below(&setup.data()) {
        assert_eq!(leak(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

#[test]
fn plugins_are_checked_listed_and_inspected() {
    let setup = Setup::new("providers:\n  demo:\n", &["demo", "openai", "anthropic", "ollama"]);
    for adapter in ["demo", "openai", "anthropic", "ollama"] {
        let file = plugins::component(adapter);
        let check = setup.run(["plugin", "check", file.to_str().unwrap()]).ok();
        assert!(check.out.contains("none"), "imports: none. {check:?}");
        let list = setup.run(["plugin", "list"]).ok();
        assert!(list.out.contains(adapter), "{list:?}");
        setup.run(["plugin", "inspect", adapter]).ok();
    }
    let openai = setup.run(["plugin", "inspect", "openai", "--json"]).ok().json().to_string();
    for shown in ["https://api.openai.com/v1", "bearer", "api_key"] {
        assert!(openai.contains(shown), "{shown}: {openai}");
    }
    setup.run(["plugin", "list", "--json"]).ok().json();
    let unknown = setup.run(["plugin", "inspect", "opena"]).failed();
    assert!(unknown.everything().contains("openai"), "no suggestion: {unknown:?}");
}

#[test]
fn doctor_says_what_is_well_and_what_is_not() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = openai(&vendor).key("openai", &vendor.key);
    let well = setup.run(["doctor"]).ok();
    assert!(!well.out.is_empty(), "{well:?}");
    setup.run(["doctor", "--json"]).ok().json();
    std::fs::write(setup.plugin("broken"), b"\0asm").unwrap();
    let unwell = setup.run(["doctor"]);
    assert!(unwell.everything().contains("broken"), "{unwell:?}");
}

#[test]
fn mistakes_on_the_command_line_have_their_own_exit_code() {
    let setup = Setup::new("providers:\n  demo:\n", &["demo"]);
    assert_eq!(setup.run(["sreve"]).code, 2);
    assert_eq!(setup.run(["key", "lst"]).code, 2);
    let help = crate::support::gateway::run(
        {
            let mut command = std::process::Command::new(crate::support::keyward());
            command.arg("--help");
            command
        },
        "",
    )
    .ok();
    for noun in ["serve", "chat", "key", "plugin", "usage", "doctor"] {
        assert!(help.out.contains(noun), "{noun}: {help:?}");
    }
}

#[test]
fn a_second_gateway_on_the_same_data_is_refused() {
    let world = World::shared();
    let ran = world.gateway.setup().serve_in_vain();
    assert!(ran.code > 0, "{ran:?}");
    let pid = world.gateway.pid().to_string();
    assert!(ran.everything().contains(&pid), "it doesn't say whose the data is: {ran:?}");
}

#[test]
fn a_text_can_be_tried_for_sensitive_data_by_the_configurations_rules() {
    let setup = Setup::new("privacy: {detectors: {phone: false}, words: [Bluebird]}\n", &[]);
    let text = "call +49 30 901820412 or mail anna@example.org\nabout bluebird";
    let ran = setup.run(["privacy", "test", text]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.out, "1:31 email an••••••••\n2:7 word bl••••••\n");
    assert_eq!(ran.err, "");

    let ran = setup.run_with(["privacy", "test", "-", "--json"], text);
    assert_eq!(ran.code, 3, "{ran:?}");
    let found = ran.json();
    assert_eq!(found["in_force"], true);
    assert_eq!(found["findings"][0]["detector"], "email");
    assert_eq!(
        (&found["findings"][0]["start"], &found["findings"][0]["end"]),
        (&30.into(), &46.into())
    );
    assert!(!ran.everything().contains("anna@"), "{ran:?}");

    let ran = setup.run(["privacy", "test", "nothing to see"]).ok();
    assert_eq!(ran.out, "nothing found\n");
}

#[test]
fn what_is_tried_without_rules_in_force_says_so() {
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    let ran = setup.run(["privacy", "test", "anna@example.org"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("privacy: {}"), "{ran:?}");

    let broken = Setup::new("privacy: {patterns: {a: 'x('}}\n", &[]);
    let ran = broken.run(["privacy", "test", "anna@example.org"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains(":1:25"), "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
}
