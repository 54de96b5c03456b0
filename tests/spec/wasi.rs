//! Rule 1, its second half: a component that imports WASI runs only where the operator grants it,
//! and then sees an empty world.

use std::{fs, path::Path, time::Duration};

use crate::support::{
    components::{DONE, Handmade, Imports},
    eventually,
    gateway::{Gateway, Setup},
    run,
};

const WASI: Imports = Imports {
    wit: &[
        "package wasi:io@0.2.0;
         interface error { resource error; }
         interface poll {
             resource pollable { block: func(); }
             poll: func(all: list<borrow<pollable>>) -> list<u32>;
         }
         interface streams {
             use error.{error};
             use poll.{pollable};
             variant stream-error { last-operation-failed(error), closed }
             resource input-stream {
                 blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
             }
             resource output-stream {
                 blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                 blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
                 subscribe: func() -> pollable;
             }
         }",
        "package wasi:cli@0.2.0;
         interface stdin { use wasi:io/streams@0.2.0.{input-stream}; get-stdin: func() -> input-stream; }
         interface stdout {
             use wasi:io/streams@0.2.0.{output-stream};
             get-stdout: func() -> output-stream;
         }
         interface environment {
             get-environment: func() -> list<tuple<string, string>>;
             get-arguments: func() -> list<string>;
         }
         interface exit { exit: func(status: result); }",
        "package wasi:filesystem@0.2.0;
         interface types {
             resource descriptor { sync: func(); }
         }
         interface preopens {
             use types.{descriptor};
             get-directories: func() -> list<tuple<descriptor, string>>;
         }",
        "package wasi:clocks@0.2.0;
         interface monotonic-clock { now: func() -> u64; }",
        "package wasi:random@0.2.0;
         interface random { get-random-bytes: func(len: u64) -> list<u8>; }",
        "package wasi:sockets@0.2.0;
         interface network { enum error-code { unknown, access-denied } }
         interface tcp { resource tcp-socket; }
         interface tcp-create-socket {
             use network.{error-code};
             use tcp.{tcp-socket};
             create-tcp-socket: func(family: bool) -> result<tcp-socket, error-code>;
         }",
    ],
    interfaces: &[
        "wasi:io/poll@0.2.0",
        "wasi:io/streams@0.2.0",
        "wasi:cli/stdin@0.2.0",
        "wasi:cli/stdout@0.2.0",
        "wasi:cli/environment@0.2.0",
        "wasi:cli/exit@0.2.0",
        "wasi:filesystem/preopens@0.2.0",
        "wasi:clocks/monotonic-clock@0.2.0",
        "wasi:random/random@0.2.0",
        "wasi:sockets/tcp-create-socket@0.2.0",
    ],
    core: r#"
        (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read"
            (func $read (param i32 i64 i32)))
        (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))
        (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-zeroes-and-flush"
            (func $zeroes (param i32 i64 i32)))
        (import "wasi:io/streams@0.2.0" "[method]output-stream.subscribe"
            (func $subscribe (param i32) (result i32)))
        (import "wasi:cli/stdin@0.2.0" "get-stdin" (func $stdin (result i32)))
        (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
        (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
        (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
        (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
        (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
        (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
        (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
        (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
            (func $connect (param i32 i32)))
        "#,
};

/// Looks for everything there is in a world, and traps if it finds any of it.
const LOOK_AROUND: &str = "
    (call $environment (i32.const 3072)) (if (i32.load (i32.const 3076)) (then unreachable))
    (call $arguments (i32.const 3072)) (if (i32.load (i32.const 3076)) (then unreachable))
    (call $directories (i32.const 3072)) (if (i32.load (i32.const 3076)) (then unreachable))
    (if (i64.ne (call $now) (call $now)) (then unreachable))
    (call $connect (i32.const 0) (i32.const 3072))
    (if (i32.eqz (i32.load8_u (i32.const 3072))) (then unreachable))
    (call $random (i64.const 5) (i32.const 3072))
    (if (i32.ne (i32.load (i32.const 3076)) (i32.const 5)) (then unreachable))";

/// Uses streams and waits as a runtime does: input is at its end, output takes what it gets, all
/// waits are over.
const STREAMS: &str = "
    (call $read (call $stdin) (i64.const 100) (i32.const 3072))
    (if (i32.eqz (i32.load8_u (i32.const 3072))) (then unreachable))
    (call $write (call $stdout) (i32.const 1024) (i32.const 100) (i32.const 3072))
    (if (i32.load8_u (i32.const 3072)) (then unreachable))
    (i32.store (i32.const 3080) (call $subscribe (call $stdout)))
    (i32.store (i32.const 3084) (call $subscribe (call $stdout)))
    (call $block (i32.load (i32.const 3080)))
    (call $poll (i32.const 3080) (i32.const 2) (i32.const 3072))
    (if (i32.ne (i32.load (i32.const 3076)) (i32.const 2)) (then unreachable))";

fn stranger(name: &str, step: &str) -> Vec<u8> {
    Handmade::new(name).imports(WASI).step(&format!("{step} {DONE}")).build()
}

/// Without health, which leaves a provider alone whose component has trapped a few times: some of
/// these must be asked again and again.
fn config(grants: &str) -> String {
    format!(
        "providers:\n  stranger: {{models: [one]}}\n  other: {{models: [one]}}\n\
         plugins: {{grants: {grants}}}\nhealth: {{enabled: false}}\n"
    )
}

fn setup(grants: &str, step: &str) -> Setup {
    let setup = Setup::new(&config(grants), &[]);
    fs::write(setup.plugin("stranger"), stranger("stranger", step)).unwrap();
    setup
}

/// Whether a chat reaches its end in order.
async fn serves(gateway: &Gateway, model: &str) -> bool {
    let answer = gateway.caller().chat(model, "hello").await;
    let failed = answer.header("x-keyward-fault").is_some() || answer.status != 200;
    if failed {
        eprintln!("{model}: {} {}", answer.status, answer.text());
    }
    !failed
}

fn check(setup: &Setup, file: &Path) -> crate::support::gateway::Ran {
    setup.run(["plugin", "check", file.to_str().unwrap()])
}

#[test]
fn without_the_grant_it_is_refused_with_reason_and_remedy() {
    let setup = setup("{}", LOOK_AROUND);
    let said = check(&setup, &setup.plugin("stranger")).failed().everything();
    assert!(said.contains("wasi:io/poll@0.2.0"), "{said}");
    assert!(said.contains("plugins: {grants: {NAME: [wasi]}}"), "{said}");
    assert!(said.contains(" more), which isn't granted"), "{said}");
}

#[test]
fn with_the_grant_it_runs_and_finds_nothing() {
    let gateway =
        setup("{stranger: [wasi]}", LOOK_AROUND).variable("SECRET", "of the host").start();
    run(async {
        assert!(serves(&gateway, "stranger/one").await, "it found something");
    });
    let shown = gateway.run(["plugin", "inspect", "stranger"]).ok();
    assert!(shown.out.contains("wasi (granted)"), "{shown:?}");
    let listed = gateway.run(["plugin", "list"]).ok();
    assert!(listed.out.contains("wasi (granted)"), "{listed:?}");
}

#[test]
fn streams_lead_nowhere_and_waits_are_over_at_once() {
    let gateway = setup("{stranger: [wasi]}", STREAMS).start();
    run(async {
        assert!(serves(&gateway, "stranger/one").await);
    });
}

#[test]
fn handles_and_output_are_bounded() {
    let handles = "(loop $again (drop (call $stdout)) (br $again))";
    let output = "(loop $again
        (call $write (call $stdout) (i32.const 0) (i32.const 65536) (i32.const 3072))
        (br $again))";
    // Of a handle that isn't one's own.
    let forged = "(call $block (i32.const 12345))";
    for step in [handles, output, forged] {
        let gateway = setup("{stranger: [wasi]}", step).start();
        let before = gateway.memory();
        run(async {
            let answer = gateway.caller().chat("stranger/one", "hello").await;
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert_eq!(answer.header("x-keyward-fault"), Some("plugin"));
        });
        assert!(gateway.memory() < before + (64 << 20), "{step}");
    }
}

#[test]
fn output_closes_at_its_bound_and_the_exchange_goes_on() {
    let step = "
        (call $zeroes (call $stdout) (i64.const 16777216) (i32.const 3072))
        (if (i32.load8_u (i32.const 3072)) (then unreachable))
        (call $write (call $stdout) (i32.const 1024) (i32.const 1) (i32.const 3072))
        (if (i32.eqz (i32.load8_u (i32.const 3072))) (then unreachable))";
    let gateway = setup("{stranger: [wasi]}", step).start();
    run(async {
        assert!(serves(&gateway, "stranger/one").await);
    });
}

#[test]
fn randomness_comes_in_bounded_pieces() {
    let ask = |bytes: u64| {
        let step = format!("(call $random (i64.const {bytes}) (i32.const 3072))");
        let gateway = setup("{stranger: [wasi]}", &step).start();
        run(async { gateway.caller().chat("stranger/one", "hello").await.status })
    };
    assert_eq!((ask(65536), ask(65537)), (200, 502));
}

#[test]
fn randomness_differs_from_exchange_to_exchange() {
    // A coin: one side ends the exchange.
    let step = "
        (call $random (i64.const 8) (i32.const 3072))
        (if (i32.and (i32.load8_u (i32.load (i32.const 3072))) (i32.const 1)) (then unreachable))";
    let gateway = setup("{stranger: [wasi]}", step).start();
    run(async {
        let mut sides = [0; 2];
        for _ in 0..40 {
            let answer = gateway.caller().chat("stranger/one", "hello").await;
            sides[usize::from(answer.status == 200)] += 1;
        }
        assert!(sides.iter().all(|&times| times > 0), "{sides:?}");
    });
}

#[test]
fn what_it_would_find_ends_its_exchange() {
    // Otherwise the test above would pass for a component that never looks.
    let contrary = "(call $environment (i32.const 3072))
        (if (i32.eqz (i32.load (i32.const 3076))) (then unreachable))";
    let gateway = setup("{stranger: [wasi]}", contrary).start();
    run(async {
        let answer = gateway.caller().chat("stranger/one", "hello").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    });
}

#[test]
fn to_exit_or_to_ask_for_too_much_ends_its_exchange_and_no_other() {
    for step in ["(call $exit (i32.const 0))", "(call $random (i64.const -1) (i32.const 3072))"] {
        let gateway = setup("{stranger: [wasi], other: [wasi]}", step);
        fs::write(gateway.plugin("other"), stranger("other", LOOK_AROUND)).unwrap();
        let gateway = gateway.start();
        run(async {
            let answer = gateway.caller().chat("stranger/one", "hello").await;
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert_eq!(answer.header("x-keyward-fault"), Some("plugin"));
            assert!(serves(&gateway, "other/one").await);
        });
    }
}

#[test]
fn one_plugins_grant_reaches_no_other() {
    let setup = setup("{stranger: [wasi]}", LOOK_AROUND);
    fs::write(setup.plugin("other"), stranger("other", LOOK_AROUND)).unwrap();
    let gateway = setup.start();
    run(async {
        assert!(serves(&gateway, "stranger/one").await);
        assert!(!serves(&gateway, "other/one").await);
    });
    let listed = gateway.run(["plugin", "list"]).ok();
    assert!(listed.out.contains("which isn't granted"), "{listed:?}");
}

#[test]
fn a_grant_holds_as_long_as_it_stands_in_the_configuration() {
    let gateway = setup("{}", LOOK_AROUND).start();
    let patience = Duration::from_secs(5);
    run(async {
        assert!(!serves(&gateway, "stranger/one").await);
        for _ in 0..2 {
            fs::write(gateway.setup().config(), config("{stranger: [wasi]}")).unwrap();
            let served = async || serves(&gateway, "stranger/one").await.then_some(());
            eventually("served after the grant", patience, served).await;
            fs::write(gateway.setup().config(), config("{}")).unwrap();
            let refused = async || (!serves(&gateway, "stranger/one").await).then_some(());
            eventually("refused without it", patience, refused).await;
        }
    });
}

#[test]
fn what_lies_beyond_the_empty_world_is_refused_even_with_the_grant() {
    let setup = setup("{stranger: [wasi]}", LOOK_AROUND);
    let made = Handmade::new("stranger").import("wasi:http@0.2.0", "types", "open").build();
    fs::write(setup.plugin("stranger"), made).unwrap();
    let said = check(&setup, &setup.plugin("stranger")).failed().everything();
    assert!(said.contains("wasi:http/types@0.2.0") && said.contains("imports nothing"), "{said}");
}

#[test]
fn an_import_of_another_type_than_wasis_traps_when_it_is_called() {
    let liar = Imports {
        wit: &["package wasi:cli@0.2.0; interface environment { get-environment: func() -> u64; }"],
        interfaces: &["wasi:cli/environment@0.2.0"],
        core: r#"(import "wasi:cli/environment@0.2.0" "get-environment" (func $get (result i64)))"#,
    };
    let setup = Setup::new(&config("{stranger: [wasi]}"), &[]);
    let made = Handmade::new("stranger").imports(liar).step(&format!("(drop (call $get)) {DONE}"));
    fs::write(setup.plugin("stranger"), made.build()).unwrap();
    let gateway = setup.start();
    run(async {
        let answer = gateway.caller().chat("stranger/one", "hello").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.header("x-keyward-fault"), Some("plugin"));
    });
}

#[test]
fn a_grant_nobody_knows_is_told_with_its_place() {
    let setup = setup("{stranger: [wasm]}", LOOK_AROUND);
    let said = check(&setup, &setup.plugin("stranger")).failed().everything();
    assert!(said.contains(":4:31") && said.contains("There are: wasi"), "{said}");
}
