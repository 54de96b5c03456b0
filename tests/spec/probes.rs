//! Free probes: who is asked without being sent anything, and what their answers mean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use keyward_adapter_hostile::FREE;
use serde_json::{Value, json};

use crate::support::{
    canary, eventually,
    gateway::{Gateway, Setup},
    run,
    vendor::{Recorded, Vendor, openai, reply_json},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A vendor that answers free requests of the holder of `key` with a status that can be changed.
struct Probed {
    vendor: Vendor,
    /// 200 is an answer in order.
    status: Arc<AtomicU16>,
    key: String,
}

impl Probed {
    fn open(key: &str, status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let (free, expected, other) = (Arc::clone(&status), key.to_owned(), canary("other"));
        let vendor = Vendor::scripted(&other.clone(), move |request| {
            let key = if with(request, &expected) { &expected } else { &other };
            let error = json!({ "error": { "message": "no", "type": "t", "code": null } });
            match free.load(Ordering::Relaxed) {
                401 if with(request, &expected) => reply_json(401, &[], &error),
                refused @ 402.. if request.method == "GET" => reply_json(refused, &[], &error),
                _ => openai::answer(request, key),
            }
        });
        Self { vendor, status, key: key.to_owned() }
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn start(&self, keys: &str) -> Gateway {
        let config = format!(
            "providers:\n  p:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    {keys}\n    \
             models: [plain-model]\nhealth: {{interval: 1s}}\n",
            self.vendor.url()
        );
        let setup = Setup::new(&config, &["openai"]);
        setup.variable("FIRST", &self.key).variable("OTHER", &self.vendor.key).start()
    }

    /// Waits for so many more free requests with this key.
    async fn probes(&self, key: &str, more: usize) {
        let count = || {
            let requests = self.vendor.requests();
            requests.iter().filter(|it| it.method == "GET" && with(it, key)).count()
        };
        let before = count();
        eventually("a probe", PATIENCE, async || (count() >= before + more).then_some(())).await;
    }

    fn chats(&self, key: &str) -> usize {
        let requests = self.vendor.requests();
        requests.iter().filter(|it| it.method == "POST" && with(it, key)).count()
    }
}

fn with(request: &Recorded, key: &str) -> bool {
    request.header("authorization") == Some(&format!("Bearer {key}"))
}

async fn standing(gateway: &Gateway) -> Value {
    let providers = gateway.caller().get("/operator/v1/providers").await.json();
    let whole = providers["providers"][0]["health"].as_array().cloned().unwrap_or_default();
    whole.into_iter().find(|health| health["model"].is_null()).unwrap_or_default()
}

#[test]
fn a_rejected_key_of_several_rests_alone_until_its_probe_is_accepted() {
    let probed = Probed::open(&canary("first"), 401);
    let gateway = probed.start("keys: [{name: first, env: FIRST}, {name: other, env: OTHER}]");
    let chats = async |count: usize| {
        for _ in 0..count {
            let answer = gateway.caller().chat("plain-model", "hello").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        (probed.chats(&probed.key), probed.chats(&probed.vendor.key))
    };
    run(async {
        probed.probes(&probed.key, 1).await;
        probed.probes(&probed.vendor.key, 1).await;
        assert_eq!(chats(4).await, (0, 4), "it was never sent a prompt");

        probed.answer_with(200);
        probed.probes(&probed.key, 1).await;
        assert_eq!(chats(4).await, (2, 6));
    });
}

#[test]
fn who_may_not_list_models_may_chat() {
    let probed = Probed::open(&canary("first"), 403);
    let gateway = probed.start("key: {env: FIRST}");
    run(async {
        probed.probes(&probed.key, 4).await;
        let answer = gateway.caller().chat("plain-model", "hello").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
}

#[test]
fn a_provider_leaves_and_returns_by_its_probes_alone() {
    let probed = Probed::open(&canary("first"), 503);
    let gateway = probed.start("key: {env: FIRST}");
    run(async {
        let is = async |wanted: &str| {
            let standing = standing(&gateway).await;
            (standing["standing"] == wanted).then_some(standing)
        };
        let down = eventually("it to be down", PATIENCE, async || is("down").await).await;
        assert_eq!(down["why"], "overloaded");
        let answer = gateway.caller().chat("plain-model", "hello").await;
        assert_eq!(answer.status, 503, "{}", answer.text());

        probed.answer_with(200);
        eventually("it to be back", PATIENCE, async || is("healthy").await).await;
        assert_eq!(probed.chats(&probed.key), 0, "nobody paid for finding out");
        let answer = gateway.caller().chat("plain-model", "hello").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
}

/// One provider for each way in which an adapter may send what costs something, all of one vendor.
#[test]
fn what_must_cost_nothing_never_sends_what_may_be_billed() {
    let vendor = Vendor::openai(&canary("free"));
    let provider = |manner: &&str| {
        format!(
            "  {manner}:\n    adapter: hostile\n    kind: local\n    key: {{env: KEY}}\n    \
             endpoints: {{api: \"{0}/v1\", second: \"{0}\"}}\n    settings: {{free: {manner}}}\n",
            vendor.url()
        )
    };
    let providers: String = FREE.iter().map(provider).collect();
    let config = format!("providers:\n{providers}health: {{interval: 1s}}\n");
    let gateway = Setup::new(&config, &["hostile"]).variable("KEY", &vendor.key).start();

    for manner in FREE {
        let tested = gateway.run(["key", "test", manner, "--json"]).failed().json();
        assert_eq!(tested["kind"], "plugin", "{manner}: {tested}");
        let message = tested["message"].as_str().unwrap();
        assert!(message.contains("nothing was sent") && message.contains("GET"), "{message}");
    }
    run(async {
        let caller = gateway.caller();
        let models = caller.get("/v1/models").await.json();
        assert_eq!(models["data"], json!([]), "a list that isn't asked for has nothing in it");
        // More than would take a provider out if they counted.
        let told = |manner: &str| {
            let (log, provider) = (gateway.log(), format!("provider={manner} "));
            let told = |line: &&str| line.contains("can't probe it") && line.contains(&provider);
            log.lines().filter(told).count()
        };
        let enough = async || FREE.iter().all(|manner| told(manner) >= 4).then_some(());
        eventually("four probes of each", PATIENCE, enough).await;

        let fares = caller.get("/operator/v1/providers").await.json();
        for provider in fares["providers"].as_array().unwrap() {
            let well = |health: &Value| health["standing"] == "healthy";
            assert!(provider["health"].as_array().unwrap().iter().all(well), "{provider}");
        }
        let answer = caller.chat("post/vendor-plain-model", "hello").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    let (looks, others): (Vec<_>, Vec<_>) = vendor
        .requests()
        .into_iter()
        .partition(|it| it.method == "GET" && it.path() == "/v1/models" && it.body.is_empty());
    assert!(!looks.is_empty(), "what comes before a paid request may be free");
    assert_eq!(others.len(), 1, "the caller's chat alone: {others:?}");
}
