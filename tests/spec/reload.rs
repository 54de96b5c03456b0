//! Rule 6: a reload fails no request, and what can't be loaded never replaces what works.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    by_itself, canary, components, eventually,
    gateway::{Gateway, Setup},
    plugins, run,
    vendor::Vendor,
    word,
};

/// The component with a comment of its own: other bytes, the same behaviour.
pub fn variant(component: &[u8], number: usize) -> Vec<u8> {
    let payload = format!("variant {number:06}");
    let mut bytes = component.to_vec();
    // A custom section: id 0, size, length of its name, name, content.
    bytes.extend_from_slice(&[0, (payload.len() + 5) as u8, 4]);
    bytes.extend_from_slice(b"test");
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

fn openai(vendor: &Vendor, more: &str) -> String {
    format!(
        "providers:\n  openai:\n    kind: local\n    endpoint: {}/v1\n    key: {{env: OUR_KEY}}\n    \
         models: [plain-model]\n  demo:\n{more}",
        vendor.url()
    )
}

fn start(vendor: &Vendor) -> Gateway {
    let setup = Setup::new(&openai(vendor, ""), &["openai", "demo"]);
    setup.variable("OUR_KEY", &vendor.key).start()
}

/// Streams one after the other until told to stop; says how many, or what failed.
async fn stream_on(gateway: &Gateway, stop: &AtomicBool, finished: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let stream = gateway.caller().stream("openai/long-25", "on and on").await;
        assert_eq!(stream.status, 200, "a stream was refused");
        let all = stream.collect().await;
        assert!(all.errors.is_empty() && all.ends == 1 && all.complete, "{all:?}");
        assert_eq!(all.text.split_whitespace().count(), 25, "{all:?}");
        finished.fetch_add(1, Ordering::Relaxed);
    }
}

async fn under_streams<T>(gateway: &Gateway, count: usize, work: impl Future<Output = T>) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    let finished = Arc::new(AtomicUsize::new(0));
    let streams =
        futures_util::future::join_all((0..count).map(|_| stream_on(gateway, &stop, &finished)));
    let work = async {
        let result = work.await;
        stop.store(true, Ordering::Relaxed);
        result
    };
    let (_, result) = tokio::join!(streams, work);
    assert!(finished.load(Ordering::Relaxed) >= count, "too few streams to show anything");
    result
}

#[test]
fn a_component_replaced_200_times_under_32_streams_fails_no_request() {
    /// Different contents; each is compiled once and then comes from the cache.
    const VARIANTS: usize = 20;
    let _alone = by_itself();
    let vendor = Vendor::openai(&canary("openai"));
    let setup = Setup::new(&openai(&vendor, ""), &["openai", "demo"])
        .variable("OUR_KEY", &vendor.key)
        .variable("KEYWARD_LOG", "info");
    let gateway = setup.start();
    let component = plugins::bytes("openai");
    let variants: Vec<Vec<u8>> = (0..VARIANTS).map(|n| variant(&component, n)).collect();
    let replace = async |times: usize| {
        for number in 0..times {
            let before = loaded(&gateway);
            gateway.install("openai", &variants[number % VARIANTS]);
            eventually("the new variant", Duration::from_secs(10), async || {
                (loaded(&gateway) > before).then_some(())
            })
            .await;
        }
    };
    run(async {
        // The store keeps the pages of its newest usage rows, up to a limit. A request without a
        // vendor fills it quickest.
        let filled = steady(&gateway, "chats", async || chat_on(&gateway, 32, 4_000).await).await;
        // Slots keep their first pages for the next exchange, the allocator its pools. With all of
        // that taken, only what is kept by mistake can grow: 12 KB of each version would be too
        // much below.
        let replaced = steady(&gateway, "replacements", async || {
            under_streams(&gateway, 32, replace(100)).await
        });
        let before = filled.max(replaced.await);
        under_streams(&gateway, 32, replace(200)).await;
        let limit = before + before / 20;
        let after = eventually("memory back to within 5 %", Duration::from_secs(30), async || {
            let after = settled(&gateway).await;
            println!("memory before {} KiB, after {} KiB", before / 1024, after / 1024);
            (after <= limit).then_some(after)
        });
        after.await;
        // Replaced code isn't only out of memory, it is unmapped.
        assert_eq!(gateway.compiled_code_mapped(), 2, "the adapters that are served");
    });
}

/// Repeats some work until memory stands still, or six times; the most memory it settled at.
async fn steady(gateway: &Gateway, what: &str, work: impl AsyncFn()) -> u64 {
    let mut rounds: Vec<u64> = Vec::new();
    for _ in 0..6 {
        work().await;
        rounds.push(settled(gateway).await);
        if let [.., earlier, now] = rounds[..]
            && now <= earlier + earlier / 100
        {
            break;
        }
    }
    println!("memory after rounds of {what}: {rounds:?}");
    rounds.into_iter().max().unwrap_or_default()
}

/// So many chats with the adapter that needs no vendor, so many at a time.
async fn chat_on(gateway: &Gateway, at_a_time: usize, count: usize) {
    let chats = (0..at_a_time).map(async |_| {
        for _ in 0..count / at_a_time {
            assert_eq!(gateway.caller().chat("demo/demo", "on and on").await.status, 200);
        }
    });
    futures_util::future::join_all(chats).await;
}

/// Resident memory once unused pages have been given back: the least of a few seconds.
async fn settled(gateway: &Gateway) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        least = least.min(gateway.memory());
    }
    least
}

/// How often a plugin has been loaded so far.
fn loaded(gateway: &Gateway) -> usize {
    gateway.log().matches("plugin loaded").count()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_changed_configuration_is_served_within_a_second_and_drops_nothing() {
    let _alone = by_itself();
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = start(&vendor);
    run(under_streams(&gateway, 8, async {
        for round in 0..3 {
            let name = format!("second{round}");
            let more = format!("  {name}:\n    adapter: demo\n");
            assert_eq!(gateway.caller().chat(&format!("{name}/demo"), "hi").await.status, 404);
            let saved = Instant::now();
            gateway.configure(&openai(&vendor, &more));
            eventually("the new provider", Duration::from_secs(1), async || {
                let answer = gateway.caller().chat(&format!("{name}/demo"), "hi").await;
                (answer.status == 200).then_some(())
            })
            .await;
            println!("served {:?} after it was saved", saved.elapsed());
        }
    }));
}

#[test]
fn every_way_to_save_a_file_is_noticed() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = start(&vendor);
    let path = gateway.setup().config();
    let with = |name: &str| openai(&vendor, &format!("  {name}:\n    adapter: demo\n"));
    let served = async |name: &str| {
        eventually(name, Duration::from_secs(2), async || {
            let answer = gateway.caller().chat(&format!("{name}/demo"), "hi").await;
            (answer.status == 200).then_some(())
        })
        .await;
    };
    run(async {
        fs::write(&path, with("truncated")).unwrap();
        served("truncated").await;

        fs::remove_file(&path).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(gateway.caller().chat("truncated/demo", "hi").await.status, 200);
        fs::write(&path, with("recreated")).unwrap();
        served("recreated").await;

        // As Kubernetes does it: a link to a file behind a link to a folder, which is swapped.
        let folder = path.parent().unwrap();
        for (at, name) in [("one", "linked"), ("two", "swapped")] {
            fs::create_dir(folder.join(at)).unwrap();
            fs::write(folder.join(at).join("providers.yaml"), with(name)).unwrap();
            std::os::unix::fs::symlink(at, folder.join("data.new")).unwrap();
            fs::rename(folder.join("data.new"), folder.join("..data")).unwrap();
            if name == "linked" {
                let link = folder.join("link.new");
                std::os::unix::fs::symlink("..data/providers.yaml", &link).unwrap();
                fs::rename(&link, &path).unwrap();
            }
            served(name).await;
        }
    });
}

#[test]
fn a_broken_configuration_keeps_the_last_good_one_and_says_where() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = start(&vendor);
    run(under_streams(&gateway, 4, async {
        let broken = openai(&vendor, "").replace("endpoint:", "endpiont:");
        let half = openai(&vendor, "")[..40].to_owned();
        for (config, told) in [
            (broken.as_str(), "endpoint"),
            (half.as_str(), ""),
            ("providers: [", ""),
            ("\t- no", ""),
        ] {
            gateway.configure(config);
            let doctor = async || {
                let ran = gateway.run(["doctor"]);
                (ran.code != 0).then_some(ran)
            };
            let ran = eventually("a complaint", Duration::from_secs(3), doctor).await;
            assert!(ran.everything().contains(told), "{ran:?}");
            let answer = gateway.caller().chat("openai/plain-model", "still there?").await;
            assert_eq!(answer.said(), "You said: still there?");
        }
        let log = gateway.log();
        assert!(log.contains("providers.yaml:4:5"), "no place in the log: {log}");
        gateway.configure(&openai(&vendor, "  repaired:\n    adapter: demo\n"));
        eventually("the repaired file", Duration::from_secs(2), async || {
            let answer = gateway.caller().chat("repaired/demo", "hi").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }));
}

#[test]
fn a_plugin_dropped_into_the_folder_is_served_and_drains_when_removed() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = Setup::new(&openai(&vendor, ""), &["demo"]).variable("OUR_KEY", &vendor.key);
    let gateway = setup.start();
    run(async {
        let caller = gateway.caller();
        let answer = caller.chat("openai/plain-model", "too early").await;
        assert!(answer.status >= 400, "{}", answer.text());

        let dropped = Instant::now();
        gateway.install("openai", &plugins::bytes("openai"));
        eventually("the dropped plugin", Duration::from_secs(5), async || {
            let answer = caller.chat("openai/plain-model", "hello").await;
            (answer.status == 200).then_some(())
        })
        .await;
        println!("first answer {:?} after the file was there", dropped.elapsed());

        let word = word("drain");
        let mut running = caller.stream("openai/long-60", &word).await;
        running.first_text().await;
        fs::remove_file(gateway.setup().plugin("openai")).unwrap();
        eventually("the removal", Duration::from_secs(3), async || {
            let answer = caller.chat("openai/plain-model", "too late").await;
            (answer.status >= 400).then_some(())
        })
        .await;
        let all = running.collect().await;
        assert!(all.errors.is_empty() && all.ends == 1, "the running one was cut: {all:?}");
    });
}

#[test]
fn what_can_not_be_loaded_never_replaces_what_works() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = start(&vendor);
    run(async {
        let caller = gateway.caller();
        for (what, bytes) in components::unloadable("openai") {
            gateway.install("openai", &bytes);
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(400) {
                let answer = caller.chat("openai/plain-model", "still there?").await;
                assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        // And a good one after all of them is taken.
        let good = variant(&plugins::bytes("openai"), 1);
        gateway.install("openai", &good);
        eventually("the good one", Duration::from_secs(10), async || {
            let list = gateway.run(["plugin", "list", "--json"]);
            list.out.contains(&sha256(&good)).then_some(())
        })
        .await;
    });
}

#[test]
fn a_file_that_is_written_slowly_is_taken_when_it_is_whole() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = start(&vendor);
    let new = variant(&plugins::bytes("openai"), 2);
    run(under_streams(&gateway, 4, async {
        let path = gateway.setup().plugin("openai");
        for part in 1..=4 {
            // As `cp` over the old file does, with pauses.
            fs::write(&path, &new[..new.len() * part / 4]).unwrap();
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        eventually("the whole file", Duration::from_secs(5), async || {
            let list = gateway.run(["plugin", "list", "--json"]);
            list.out.contains(&sha256(&new)).then_some(())
        })
        .await;
    }));
}

#[test]
fn stopping_lets_running_answers_end() {
    let vendor = Vendor::openai(&canary("openai"));
    let gateway = start(&vendor);
    run(async {
        let word = word("stop");
        let mut stream = gateway.caller().stream("openai/long-40", &word).await;
        stream.first_text().await;
        let stopping = tokio::task::spawn_blocking(move || gateway.stop());
        let all = stream.collect().await;
        assert!(all.errors.is_empty() && all.ends == 1 && all.complete, "{all:?}");
        stopping.await.unwrap();
    });
}
