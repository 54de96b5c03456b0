//! What the gateway costs, measured from outside against a plain forwarder on the same HTTP stack.
//!
//! `cargo bench --bench gateway` starts a scripted vendor, the forwarder and `keyward serve` as
//! processes of their own, each server alone on processor 0, vendor and callers on processor 1,
//! and loads the two servers in turn. Processor time is what the kernel's scheduler accounts for
//! all threads of the server. Every figure stands beside the forwarder's from the same run, so
//! that the ratio holds on any machine.
//!
//! `KEYWARD_BENCH_PLUGINS` names a folder of built adapters; without it they are built first.

// A bench that can't go on has nothing to report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod load;
mod process;
mod servers;

use std::time::Duration;

use load::{Load, Prompt};
use process::{Server, Setup};

/// Rounds of each comparison; the median counts.
const ROUNDS: usize = 5;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A server started by this program itself, or the bench.
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("vendor") => servers::vendor(),
        Some("forwarder") => servers::forwarder(&arguments[2]),
        _ => bench(),
    }
}

fn bench() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let setup = Setup::new();
        println!("{:<46} {:>12} {:>12} {:>8}", "", "keyward", "forwarder", "ratio");
        start_up(&setup).await;
        let vendor = setup.vendor();
        let forwarder = setup.forwarder(&vendor);
        let keyward = setup.keyward(&vendor, true);
        memory_idle(&keyward, &forwarder);
        for (name, prompt) in [("1 KB", Prompt::Small), ("100 KB", Prompt::Large)] {
            plain(name, prompt, &keyward, &forwarder).await;
        }
        streamed(&keyward, &forwarder).await;
        memory_streaming(&keyward, &forwarder).await;
        dropped_file(&setup).await;
    });
}

fn row(name: &str, keyward: f64, forwarder: f64, unit: &str) {
    let ratio = if forwarder > 0.0 { format!("{:.2}", keyward / forwarder) } else { "-".into() };
    println!("{name:<46} {keyward:>9.1} {unit:<2} {forwarder:>9.1} {unit:<2} {ratio:>8}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor time and latency of a plain chat, and what one processor can do.
async fn plain(name: &str, prompt: Prompt, keyward: &Server, forwarder: &Server) {
    let requests = match prompt {
        Prompt::Small => 4_000,
        Prompt::Large => 600,
    };
    let mut cpu = [Vec::new(), Vec::new()];
    let mut latency = [Vec::new(), Vec::new()];
    let mut rate = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (at, server) in [keyward, forwarder].into_iter().enumerate() {
            // A second's worth to warm connections and caches.
            Load::plain(prompt, 8, requests / 8).run(server).await;
            let before = server.cpu();
            let done = Load::plain(prompt, 8, requests).run(server).await;
            let used = server.cpu() - before;
            cpu[at].push(used.as_secs_f64() * 1e6 / requests as f64);
            rate[at].push(requests as f64 / done.took.as_secs_f64());
            let alone = Load::plain(prompt, 1, requests / 8).run(server).await;
            latency[at].push(alone.median.as_secs_f64() * 1e6);
        }
    }
    let [cpu_k, cpu_f] = cpu.map(median);
    let [lat_k, lat_f] = latency.map(median);
    let [rate_k, rate_f] = rate.map(median);
    row(&format!("plain chat, {name} prompt: CPU"), cpu_k, cpu_f, "us");
    row("  added by adapter, sandbox and host: CPU", cpu_k - cpu_f, 0.0, "us");
    row("  latency, one caller", lat_k, lat_f, "us");
    row("  requests/s, 8 callers, one processor", rate_k, rate_f, "");
}

/// Processor time of each chunk of a stream whose chunks come one by one.
async fn streamed(keyward: &Server, forwarder: &Server) {
    let (streams, short, long) = (16, 50, 650);
    let mut cpu = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (at, server) in [keyward, forwarder].into_iter().enumerate() {
            let mut used = Vec::new();
            for chunks in [short, long] {
                let before = server.cpu();
                Load::streamed(chunks, streams).run(server).await;
                used.push((server.cpu() - before).as_secs_f64() * 1e6);
            }
            cpu[at].push((used[1] - used[0]) / (streams * (long - short)) as f64);
        }
    }
    let [cpu_k, cpu_f] = cpu.map(median);
    row("streamed chunk, one at a time: CPU", cpu_k, cpu_f, "us");
    row("  added by adapter, sandbox and host: CPU", cpu_k - cpu_f, 0.0, "us");
}

fn memory_idle(keyward: &Server, forwarder: &Server) {
    row("resident memory, idle", keyward.memory() / 1024.0, forwarder.memory() / 1024.0, "MB");
}

async fn memory_streaming(keyward: &Server, forwarder: &Server) {
    const STREAMS: usize = 1_000;
    let mut each = Vec::new();
    for server in [keyward, forwarder] {
        let before = server.memory();
        let held = load::hold_streams(server, STREAMS).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        each.push((server.memory() - before) / STREAMS as f64);
        drop(held);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    row("resident memory, each of 1,000 open streams", each[0], each[1], "KB");
}

/// From starting the program to the first answer, without and with compiled code at hand.
async fn start_up(setup: &Setup) {
    let vendor = setup.vendor();
    let forwarder = setup.first_answer(|| setup.forwarder(&vendor), "bench").await;
    let cold = setup.first_answer(|| setup.keyward(&vendor, true), "bench").await;
    let warm: Vec<f64> = {
        let mut warm = Vec::new();
        for _ in 0..ROUNDS {
            warm.push(setup.first_answer(|| setup.keyward(&vendor, false), "bench").await);
        }
        warm
    };
    row("start to first answer, cold (compiles)", cold, forwarder, "ms");
    row("start to first answer, warm", median(warm), forwarder, "ms");
}

/// From an adapter dropped into the folder of a running gateway to its first answer.
async fn dropped_file(setup: &Setup) {
    let mut took = Vec::new();
    for _ in 0..3 {
        took.push(setup.drop_in().await);
    }
    row("dropped component to its first answer", median(took), 0.0, "ms");
}
