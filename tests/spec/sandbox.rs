//! Rules 1 and 5: what doesn't fit isn't loaded, and what misbehaves ends one exchange and nothing
//! else.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use keyward_adapter_hostile::{LIST, SENSELESS};
use tokio::time::timeout;

use crate::support::{
    Dice,
    components::{self, DONE, Handmade},
    eventually, files_below,
    gateway::{Setup, World},
    plugins, run,
};

/// Any single exchange is over by then, whatever its adapter does.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn every_bad_manner_ends_its_own_exchange_and_no_other() {
    let world = World::shared();
    run(async {
        let caller = world.caller();
        let mut complaints = Vec::new();
        for manner in LIST {
            // Two neighbours that must not notice: one streams, one asks anew.
            let stream = caller.stream("openai/long-10", "neighbour").await;
            let began = Instant::now();
            let model = format!("hostile/{manner}");
            let (answer, streamed, asked) = tokio::join!(
                timeout(PATIENCE, caller.chat(&model, "hello")),
                stream.collect(),
                caller.chat("demo/demo", "neighbour"),
            );
            match answer {
                Err(_) => {
                    complaints.push(format!("{manner}: not over after {:?}", began.elapsed()))
                }
                Ok(answer) => {
                    if answer.status != 502 || answer.header("x-keyward-fault") != Some("plugin") {
                        complaints.push(format!("{manner}: {} {}", answer.status, answer.text()));
                    }
                }
            }
            if streamed.ends != 1 || !streamed.errors.is_empty() {
                complaints.push(format!("{manner}: its neighbour got {streamed:?}"));
            }
            if asked.status != 200 {
                complaints.push(format!("{manner}: its neighbour got {}", asked.text()));
            }
        }
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    });
}

#[test]
fn the_same_holds_for_streams() {
    let world = World::shared();
    run(async {
        let caller = world.caller();
        let mut complaints = Vec::new();
        for manner in LIST {
            let model = format!("hostile/{manner}");
            let reading = async {
                let stream = caller.stream(&model, "hello").await;
                (stream.status, stream.collect().await)
            };
            match timeout(PATIENCE, reading).await {
                Err(_) => complaints.push(format!("{manner}: not over after {PATIENCE:?}")),
                // The answer had begun: it ends with one error and in order.
                Ok((200, all)) if all.errors.len() == 1 && all.complete => {}
                Ok((502, _)) => {}
                Ok((status, all)) => complaints.push(format!("{manner}: {status} {all:?}")),
            }
        }
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    });
}

#[test]
fn many_bombs_at_once_leave_memory_and_neighbours_alone() {
    let world = World::shared();
    run(async {
        let caller = world.caller();
        let bombs = ["memory-bomb", "giant-list", "giant-string", "recursion", "endless-outputs"];
        for bomb in bombs {
            caller.chat(&format!("hostile/{bomb}"), "warm up").await;
        }
        let before = world.gateway.memory();
        let attack =
            join_all((0..40).map(|number| {
                let caller = caller.clone();
                async move {
                    caller.chat(&format!("hostile/{}", bombs[number % 5]), "boom").await.status
                }
            }));
        let neighbours = join_all((0..20).map(|_| {
            let caller = caller.clone();
            async move { caller.chat("demo/demo", "hello").await.status }
        }));
        let (attack, neighbours) = tokio::join!(attack, neighbours);
        // A full house may turn a guest away, but never with anything but a typed answer.
        assert!(attack.iter().all(|status| [502, 503].contains(status)), "{attack:?}");
        assert!(neighbours.iter().all(|status| *status == 200), "{neighbours:?}");
        let allowed = 128 << 20;
        eventually("memory given back", Duration::from_secs(5), async || {
            (world.gateway.memory() < before + allowed).then_some(())
        })
        .await;
    });
}

#[test]
fn no_state_crosses_from_one_exchange_to_the_next() {
    let world = World::shared();
    run(async {
        let caller = world.caller();
        let answers = join_all((0..20).map(|_| {
            let caller = caller.clone();
            async move { caller.chat("hostile/counter", "count").await.said() }
        }));
        for count in answers.await {
            assert_eq!(count, "1", "an instance has served before");
        }
    });
}

#[test]
fn a_trap_or_a_loop_while_it_is_dropped_harms_nothing() {
    let world = World::shared();
    run(async {
        for manner in ["trap-in-drop", "loop-in-drop"] {
            let answer = world.caller().chat(&format!("hostile/{manner}"), "hello").await;
            assert_eq!(answer.said(), "nothing of the kind", "{manner}");
        }
        assert_eq!(world.caller().chat("demo/demo", "hello").await.status, 200);
    });
}

#[test]
fn counts_that_make_no_sense_are_neither_told_nor_billed_and_the_answer_goes_on() {
    let world = World::shared();
    run(async {
        for manner in SENSELESS {
            let answer = world.caller().chat(&format!("hostile/{manner}"), "hello").await;
            assert_eq!(answer.status, 200, "{manner}: {}", answer.text());
            let warned = answer.header("x-keyward-warnings").unwrap_or_default();
            assert!(warned.contains("usage"), "{manner}: {warned}");
            assert!(answer.json()["usage"].is_null(), "{manner}: {}", answer.text());
        }
    });
    let rows = world.gateway.run(["usage", "--rows", "--json"]).ok();
    assert!(!rows.out.contains("1000000000000"), "{}", rows.out);
    assert!(!rows.out.contains("18446744073709551615"), "{}", rows.out);
    let all = rows.json()["rows"].as_array().unwrap().clone();
    for manner in SENSELESS {
        let row = all.iter().find(|row| row["model"] == *manner).expect("a row");
        assert_eq!(row["estimated"], true, "{row}");
    }
}

// ------------------------------------------------------------------ loading

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    let mut complaints = Vec::new();
    for (what, bytes) in components::unloadable("stranger") {
        let file = folder.path().join("stranger.wasm");
        std::fs::write(&file, bytes).unwrap();
        let ran = setup.run(["plugin", "check", file.to_str().unwrap()]);
        let said = ran.everything();
        if ran.code <= 0 || said.trim().is_empty() || said.contains("panicked") {
            complaints.push(format!("{what}: {ran:?}"));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn an_import_is_named_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    for (package, interface, function) in
        [("wasi:sockets@0.2.0", "network", "open"), ("stranger:tools@1.0.0", "files", "read")]
    {
        let file = folder.path().join("stranger.wasm");
        let made = Handmade::new("stranger").import(package, interface, function).build();
        std::fs::write(&file, made).unwrap();
        let ran = setup.run(["plugin", "check", file.to_str().unwrap()]).failed();
        let (name, _) = package.split_once('@').unwrap();
        assert!(ran.everything().contains(&format!("{name}/{interface}")), "{ran:?}");
    }
}

#[test]
fn the_same_component_without_the_import_is_accepted() {
    // Otherwise the tests above would pass for a reason other than the import.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stranger.wasm");
    std::fs::write(&file, Handmade::new("stranger").build()).unwrap();
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    setup.run(["plugin", "check", file.to_str().unwrap()]).ok();
}

#[test]
fn a_compiled_file_from_outside_is_never_loaded() {
    // The cache's own file, the most convincing one there is.
    let setup = Setup::new("providers:\n  demo:\n", &["demo"]).start().stop();
    let compiled = files_below(&setup.data())
        .into_iter()
        .map(|file| std::fs::read(file).unwrap())
        .find(|bytes| crate::support::contains(&bytes[..bytes.len().min(256)], b"\x7fELF"))
        .expect("compiled code in the cache");
    for name in ["demo2.cwasm", "demo3.wasm"] {
        std::fs::write(setup.plugins().join(name), &compiled).unwrap();
    }
    std::fs::remove_file(setup.plugin("demo")).unwrap();
    let gateway = setup.start();
    run(async {
        let answer = gateway.caller().chat("demo/demo", "hello").await;
        assert!(answer.status >= 400, "it was loaded: {}", answer.text());
    });
    let file = gateway.setup().plugins().join("demo3.wasm");
    gateway.run(["plugin", "check", file.to_str().unwrap()]).failed();
}

#[test]
fn a_file_beyond_all_measure_is_not_even_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.wasm");
    let file = std::fs::File::create(&path).unwrap();
    // Sparse: a header and 300 MB of nothing.
    std::io::Write::write_all(&mut &file, &plugins::bytes("demo")[..8]).unwrap();
    file.set_len(300 << 20).unwrap();
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    let began = Instant::now();
    setup.run(["plugin", "check", path.to_str().unwrap()]).failed();
    assert!(began.elapsed() < Duration::from_secs(2), "it was read: {:?}", began.elapsed());
}

#[test]
fn damage_of_any_kind_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    let real = plugins::bytes("demo");
    let mut dice = Dice::new("damage");
    for round in 0..15 {
        let file = folder.path().join("demo.wasm");
        std::fs::write(&file, components::damaged(&real, &mut dice)).unwrap();
        let ran = setup.run(["plugin", "check", file.to_str().unwrap()]);
        // Some changes hurt nothing, in a comment or a message. None may kill the checker.
        assert!(ran.code >= 0, "round {round}: killed by a signal: {ran:?}");
        assert!(!ran.everything().contains("panicked"), "round {round}: {ran:?}");
    }
}

#[test]
fn a_step_that_returns_more_than_memory_holds_is_refused() {
    // A list of 2^28 outputs, by its length alone.
    let step = "(i32.store (i32.const 32) (i32.const 1024)) \
                (i32.store (i32.const 36) (i32.const 0x10000000)) (i32.const 32)";
    let setup = Setup::new("providers:\n  liar:\n    models: [one]\n  demo:\n", &["demo"]);
    std::fs::write(setup.plugin("liar"), Handmade::new("liar").step(step).build()).unwrap();
    let gateway = setup.start();
    run(async {
        let before = gateway.memory();
        let answer = gateway.caller().chat("liar/one", "hello").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.header("x-keyward-fault"), Some("plugin"));
        assert!(gateway.memory() < before + (64 << 20), "the list was made");
        assert_eq!(gateway.caller().chat("demo/demo", "hello").await.status, 200);
    });
}

#[test]
fn an_adapter_has_the_stack_that_is_configured_for_it() {
    // Compiled, a call of this takes some 40 bytes.
    let deep = "(func $deep (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0))
            (then (i32.const 0))
            (else (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))";
    let adapters = [
        ("small", 4_000, false),
        ("usual", 4_000, true),
        ("deep", 60_000, false),
        ("large", 60_000, true),
    ];
    let providers: String =
        adapters.iter().map(|(name, ..)| format!("  {name}: {{models: [one]}}\n")).collect();
    let overrides = "{small: {stack: 64KiB}, large: {stack: 8MiB}}";
    let config = format!("providers:\n{providers}plugins: {{overrides: {overrides}}}\n");
    let setup = Setup::new(&config, &[]);
    for (name, calls, _) in adapters {
        let step = format!("(drop (call $deep (i32.const {calls}))) {DONE}");
        let component = Handmade::new(name).more(deep).step(&step).build();
        fs::write(setup.plugin(name), component).unwrap();
    }
    let gateway = setup.start();
    run(async {
        let caller = gateway.caller();
        for (name, _, fits) in adapters {
            let answer = caller.chat(&format!("{name}/one"), "hello").await;
            assert_eq!(answer.status == 200, fits, "{name}: {}", answer.text());
            assert!(fits || answer.text().contains("call stack exhausted"), "{}", answer.text());
        }
    });
}

#[test]
fn an_adapter_that_says_much_without_hearing_from_its_vendor_is_stopped() {
    let config = "providers: {demo: }\nplugins: {overrides: {demo: {outputs: 2}}}\n";
    let gateway = Setup::new(config, &["demo"]).start();
    run(async {
        let answer = gateway.caller().chat("demo/demo", "hello").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("more than 2 outputs"), "{}", answer.text());
    });
}
