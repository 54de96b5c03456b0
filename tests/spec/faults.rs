//! Whatever a vendor does wrong, its caller gets another provider's answer or one typed error, in
//! time; nothing is answered twice, nothing is sent where it doesn't belong, and every attempt is
//! accounted for.
//!
//! [`CASES`] has every fault with what must come of it. A fault is a provider of its own, named
//! like the model it lists; a second provider, `healthy`, lists all of these models after it. So a
//! request for the bare model meets the fault first, and one for `fault/fault` meets nothing else.

use std::{
    fmt::Write as _,
    fs,
    sync::OnceLock,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::support::{
    by_itself, canary, eventually,
    faulty::{self, Authority, BlackHole, Deaf, FORGED, Handshake, Refusing},
    gateway::{Gateway, Setup, leak},
    run,
    vendor::{
        Act, Vendor,
        openai::OpenAi,
        reply, reply_json,
        script::{Asked, Protocol},
    },
    word,
};

/// What a caller may wait for the first byte of any answer, errors included.
const PATIENCE: Duration = Duration::from_secs(5);

/// As an operator would set them who wants to keep that promise with one dead provider.
const TIMEOUTS: &str = "{connect: 1s, first_byte: 2s, idle: 1500ms, total: 20s}";

// ------------------------------------------------------------------ the cases

#[derive(Clone, Copy)]
struct Case {
    /// Its number in the list of faults that this project answers for.
    rule: &'static str,
    fault: &'static str,
    at: At,
    expected: Expected,
}

/// Where the fault is.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// In HTTP/1.1 without TLS.
    Http,
    /// In HTTP/1.1 under good TLS.
    Https,
    /// In HTTP/2.
    Http2,
    /// In the connection.
    Refused,
    BlackHole,
    /// In the server's certificate.
    Certificate(Handshake),
    /// In what is answered to the first words of TLS.
    Hello(&'static [u8]),
    /// In the name of the endpoint's host.
    Name(&'static str),
}

/// What must come of it.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Another provider answers; without one, an error of one of these kinds.
    Elsewhere(&'static [&'static str]),
    /// As above if the answer comes whole. A stream that has begun ends with one error, of one of
    /// these kinds, and nothing else.
    Broken(&'static [&'static str]),
    /// As the first, and the caller is told to wait for so many seconds, if any.
    RateLimited(Option<u64>),
    /// It does no harm: the vendor's own answer arrives.
    Harmless,
}

use Expected::{Broken, Elsewhere, Harmless, RateLimited};

const LOST: Expected = Elsewhere(&["unavailable"]);
const LATE: Expected = Elsewhere(&["timeout"]);
const MALFORMED: Expected = Elsewhere(&["malformed-answer"]);
/// The library reports a broken message as either.
const LOST_OR_MALFORMED: Expected = Elsewhere(&["unavailable", "malformed-answer"]);

const fn http(rule: &'static str, fault: &'static str, expected: Expected) -> Case {
    Case { rule, fault, at: At::Http, expected }
}

const fn http2(fault: &'static str, expected: Expected) -> Case {
    Case { rule: "U16", fault, at: At::Http2, expected }
}

const fn at(rule: &'static str, fault: &'static str, at: At, expected: Expected) -> Case {
    Case { rule, fault, at, expected }
}

/// The fatal alert `protocol_version`: what servers of TLS 1.0 answer.
const OLD_TLS: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46";

const CASES: &[Case] = &[
    at("U1", "refused", At::Refused, LOST),
    http("U1", "reset-before-the-head", LOST),
    http("U1", "end-before-the-head", LOST),
    http("U1", "reset-in-the-head", LOST),
    at("U2", "black-hole", At::BlackHole, LATE),
    at("U3", "tls-wrong-host", At::Certificate(Handshake::WrongHost), LOST),
    at("U3", "tls-expired", At::Certificate(Handshake::Expired), LOST),
    at("U3", "tls-not-yet-valid", At::Certificate(Handshake::NotYetValid), LOST),
    at("U3", "tls-self-signed", At::Certificate(Handshake::SelfSigned), LOST),
    at("U3", "tls-unknown-authority", At::Certificate(Handshake::UnknownAuthority), LOST),
    at("U3", "tls-1-0", At::Hello(OLD_TLS), LOST),
    at("U3", "tls-plain-http", At::Hello(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), LOST),
    at("U3", "tls-silent", At::Hello(b""), LATE),
    at("U3", "tls-good", At::Https, Harmless),
    http("U4", "silence", LATE),
    http("U4", "head-drips", LATE),
    http("U5", "silence-after-the-head", LATE),
    http("U5", "silence-after-a-late-head", LATE),
    http("U5", "silence-after-tokens", Broken(&["timeout"])),
    http("U5", "silence-in-an-error", Elsewhere(&["unavailable", "overloaded", "timeout"])),
    http("U6", "reset-after-the-head", LOST),
    http("U6", "reset-after-tokens", Broken(&["unavailable"])),
    http("U7", "end-before-text", LOST_OR_MALFORMED),
    http("U7", "end-after-tokens", Broken(&["unavailable", "malformed-answer"])),
    http("U7", "orderly-end-after-tokens", Broken(&["malformed-answer"])),
    http("U7", "end-inside-an-event", Broken(&["malformed-answer"])),
    http("U7", "end-inside-a-character", Broken(&["malformed-answer"])),
    http("U7", "end-without-done", Harmless),
    http("U7", "carriage-returns-apart", Harmless),
    http("U8", "random-bytes", MALFORMED),
    http("U8", "random-bytes-for-http", LOST_OR_MALFORMED),
    http("U8", "html", MALFORMED),
    http("U8", "utf-16", MALFORMED),
    http("U8", "latin-1", MALFORMED),
    http("U8", "byte-order-mark", Harmless),
    http("U8", "empty-body", MALFORMED),
    http("U8", "no-content", MALFORMED),
    http("U8", "half-a-document", Broken(&["malformed-answer"])),
    http("U8", "another-document", MALFORMED),
    http("U10", "rate-limited-seconds", RateLimited(Some(20))),
    http("U10", "rate-limited-date", RateLimited(Some(20))),
    http("U10", "rate-limited-milliseconds", RateLimited(Some(20))),
    http("U10", "rate-limited-past-date", RateLimited(Some(0))),
    http("U10", "rate-limited-absurd", RateLimited(Some(3600))),
    http("U10", "rate-limited-negative", RateLimited(None)),
    http("U10", "rate-limited-words", RateLimited(None)),
    http("U10", "rate-limited-absent", RateLimited(None)),
    http("U11", "error-500", Elsewhere(&["unavailable", "other"])),
    http("U11", "error-502", Elsewhere(&["unavailable"])),
    http("U11", "error-503", Elsewhere(&["unavailable", "overloaded"])),
    http("U11", "error-504", Elsewhere(&["unavailable", "timeout"])),
    http("U11", "error-529", Elsewhere(&["overloaded"])),
    http("R5", "error-401", Elsewhere(&["authentication"])),
    http("R5", "error-403", Elsewhere(&["permission"])),
    http("R5", "error-404", Elsewhere(&["model-not-found"])),
    http("U12", "error-inside-200", Elsewhere(&["unavailable", "other"])),
    http("U12", "error-inside-the-stream", Elsewhere(&["unavailable", "other"])),
    http("U12", "error-after-tokens", Broken(&["unavailable"])),
    http("U12", "usage-missing", Harmless),
    http("U12", "usage-negative", Harmless),
    http("U12", "usage-huge", Harmless),
    http("U12", "usage-above-all-windows", Harmless),
    http("U12", "usage-fraction", Harmless),
    http("U12", "usage-text", Harmless),
    http("U12", "usage-not-a-number", Broken(&["malformed-answer"])),
    http("U12", "usage-list", Harmless),
    http("U12", "usage-changing", Harmless),
    http("U12", "usage-shrinking", Harmless),
    http("U12", "usage-growing", Harmless),
    http("U13", "two-lengths", MALFORMED),
    http("U13", "equal-lengths", Harmless),
    http("U13", "list-of-lengths", MALFORMED),
    http("U13", "negative-length", MALFORMED),
    http("U13", "length-and-chunks", MALFORMED),
    http("U13", "chunk-overflow", LOST_OR_MALFORMED),
    http("U13", "chunk-of-no-size", LOST_OR_MALFORMED),
    http("U13", "upgrade", MALFORMED),
    http("U13", "folded-header", MALFORMED),
    http("U13", "nul-in-a-header", MALFORMED),
    http("U13", "unknown-encoding", MALFORMED),
    http("U13", "old-http", LOST_OR_MALFORMED),
    http("U13", "answer-and-a-forged-one", Harmless),
    http("U14", "redirect-301-to-host-b", MALFORMED),
    http("U14", "redirect-302-to-host-b", MALFORMED),
    http("U14", "redirect-303-to-host-b", MALFORMED),
    http("U14", "redirect-307-to-host-b", MALFORMED),
    http("U14", "redirect-308-to-host-b", MALFORMED),
    http("U14", "redirect-307-to-host-b-by-name", MALFORMED),
    http("U14", "redirect-308-to-itself", MALFORMED),
    http("U14", "redirect-302-to-metadata", MALFORMED),
    http("U14", "redirect-307-to-nowhere", MALFORMED),
    http("U14", "redirect-307-to-nothing", MALFORMED),
    http("U14", "redirect-307-to-half-a-host", MALFORMED),
    at("U14", "redirect-307-to-host-b-in-clear", At::Https, MALFORMED),
    at("U15", "no-such-name", At::Name("http://no-such-name.invalid"), LOST),
    http2("goaway", LOST),
    http2("goaway-after-tokens", Broken(&["unavailable"])),
    http2("goaway-beside-an-answer", Harmless),
    http2("stream-reset", LOST),
    http2("stream-refused", LOST),
    http2("stream-reset-after-tokens", Broken(&["unavailable"])),
    http2("end-of-connection-after-tokens", Broken(&["unavailable"])),
    http2("frame-of-no-kind", LOST),
    http2("frame-too-long", LOST),
    http2("silent-stream", LATE),
    http2("http2-good", Harmless),
];

/// Those that would fill memory.
const FLOODS: &[Case] = &[
    http("U9", "body-of-a-gigabyte", Elsewhere(&["malformed-answer", "timeout"])),
    http("U9", "line-of-a-gigabyte", MALFORMED),
    http("U9", "document-of-a-gigabyte", Elsewhere(&["malformed-answer", "timeout"])),
    http("U9", "announced-gigabyte", Elsewhere(&["malformed-answer", "timeout"])),
    http("U9", "endless-tokens", Broken(&["timeout", "malformed-answer"])),
    http("U9", "a-million-headers", MALFORMED),
    http("U9", "header-of-a-gigabyte", MALFORMED),
    http("U8", "gzip-bomb", MALFORMED),
    http("U8", "gzip-bomb-unannounced", MALFORMED),
    http("U13", "chunk-extension-flood", LOST_OR_MALFORMED),
    http("U13", "informational-flood", LATE),
    http2("settings-storm", Elsewhere(&["timeout", "unavailable"])),
    http2("ping-flood", Elsewhere(&["timeout", "unavailable"])),
    http2("empty-data-flood", LOST),
    http2("continuation-flood", LOST_OR_MALFORMED),
];

/// Those that go on and on without saying anything.
const TRICKLES: &[Case] =
    &[http("U5", "comments-without-end", LATE), http("U5", "body-drips", LATE)];

// ------------------------------------------------------------------ the scene

/// Every vendor that the cases need.
struct Vendors {
    http: Vendor,
    https: Vendor,
    http2: Vendor,
    certificates: Vec<(Handshake, Vendor)>,
    deaf: Vec<(&'static str, Deaf)>,
    refusing: Refusing,
    black_hole: BlackHole,
    healthy: Vendor,
    /// Where redirects lead.
    elsewhere: Vendor,
    authority: Authority,
}

impl Vendors {
    fn open(cases: &[Case]) -> Self {
        let elsewhere = Vendor::scripted("", |_| reply(200, &[], b"you should not be here"));
        let host_b = elsewhere.address();
        let key = canary("faulty");
        let authority = Authority::default();
        let speak = |key: &str| {
            let key = key.to_owned();
            move |request: &_| faulty::script(request, &key, host_b)
        };
        let certificate = |case: &Case| match case.at {
            At::Certificate(handshake) => {
                let tls = authority.server(handshake, "http/1.1");
                Some((handshake, Vendor::encrypted(&key, tls, speak(&key))))
            }
            _ => None,
        };
        let hello = |case: &Case| match case.at {
            At::Hello(bytes) => Some((case.fault, Deaf::saying(bytes))),
            _ => None,
        };
        Self {
            http: Vendor::scripted(&key, speak(&key)),
            https: {
                let tls = authority.server(Handshake::Good, "http/1.1");
                let speak = speak(&key);
                Vendor::encrypted(&key, tls, move |request| {
                    let mut acts = speak(request);
                    if acts.is_empty() {
                        acts.push(Act::Close);
                    }
                    acts
                })
            },
            http2: {
                let tls = authority.server(Handshake::Good, "h2");
                Vendor::encrypted(&key, tls, faulty::http2)
            },
            certificates: cases.iter().filter_map(certificate).collect(),
            deaf: cases.iter().filter_map(hello).collect(),
            refusing: Refusing::default(),
            black_hole: run(BlackHole::open()),
            healthy: Vendor::plain_openai(&canary("healthy")),
            elsewhere,
            authority,
        }
    }

    fn endpoint(&self, case: &Case) -> String {
        match case.at {
            At::Http => self.http.url(),
            At::Https => self.https.url(),
            At::Http2 => self.http2.url(),
            At::Refused => format!("http://{}", self.refusing.address),
            At::BlackHole => format!("http://{}", self.black_hole.address),
            At::Certificate(handshake) => {
                let of = |(other, _): &&(Handshake, Vendor)| *other == handshake;
                self.certificates.iter().find(of).unwrap().1.url()
            }
            At::Hello(_) => {
                let of = |(fault, _): &&(&str, Deaf)| *fault == case.fault;
                format!("https://{}", self.deaf.iter().find(of).unwrap().1.address)
            }
            At::Name(url) => url.to_owned(),
        }
    }

    /// One provider for each case, and the healthy one after them.
    fn config(&self, cases: &[Case], timeouts: &str) -> String {
        let mut config = "providers:\n".to_owned();
        for case in cases {
            let name = case.fault;
            let ca = match case.at {
                At::Https | At::Http2 | At::Certificate(_) | At::Hello(_) => {
                    "\n    ca_file: ca.pem"
                }
                _ => "",
            };
            let _ = write!(
                config,
                "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
                 key: {{env: FAULTY_KEY}}\n    models: [{name}]\n    timeouts: {timeouts}{ca}\n",
                self.endpoint(case),
            );
        }
        let all: Vec<&str> = cases.iter().map(|case| case.fault).collect();
        let _ = write!(
            config,
            "  healthy:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
             key: {{env: HEALTHY_KEY}}\n    models: [plain-model, {}]\n",
            self.healthy.url(),
            all.join(", ")
        );
        // What each fault does by itself is looked at here: nobody learns from the one before, and
        // nobody is asked twice.
        config.push_str("routing: {order: listed, retries: 0}\nhealth: {enabled: false}\n");
        config
    }

    /// How often the vendor of a case was asked, where that can be seen.
    fn asked(&self, case: &Case) -> Option<usize> {
        let vendor = match case.at {
            At::Http => &self.http,
            At::Https => &self.https,
            At::Http2 => &self.http2,
            _ => return None,
        };
        let named = |request: &&_| {
            let request: &std::sync::Arc<crate::support::vendor::Recorded> = request;
            request.json()["model"] == case.fault
        };
        Some(vendor.requests().iter().filter(named).count())
    }
}

struct Scene {
    vendors: Vendors,
    gateway: Gateway,
}

impl Scene {
    fn open(cases: &[Case], timeouts: &str) -> Self {
        let vendors = Vendors::open(cases);
        let config = vendors.config(cases, timeouts);
        Self::start(vendors, &config)
    }

    fn start(vendors: Vendors, config: &str) -> Self {
        let setup = Setup::new(config, &["openai"]);
        fs::write(setup.config().with_file_name("ca.pem"), &vendors.authority.pem).unwrap();
        // HTTP/2's own log has a line for each frame, and some vendors here send a million.
        let gateway = setup
            .variable("KEYWARD_LOG", "debug,h2=info")
            .variable("FAULTY_KEY", &vendors.http.key)
            .variable("HEALTHY_KEY", &vendors.healthy.key)
            .start();
        Self { vendors, gateway }
    }
}

/// What one request came to.
#[derive(Debug)]
struct Outcome {
    /// Until the head of the answer, which waits for its first content.
    took: Duration,
    status: u16,
    provider: String,
    kind: String,
    retry_after: Option<u64>,
    text: String,
    /// Errors inside a stream.
    errors: Vec<Value>,
    /// True if the answer says how it ended, and is complete.
    finished: bool,
    /// True unless the gateway's own answer broke off.
    orderly: bool,
}

async fn ask(gateway: &Gateway, model: &str, prompt: &str, streamed: bool) -> Outcome {
    let header = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let began = Instant::now();
    if streamed {
        let stream = gateway.caller().stream(model, prompt).await;
        let (took, status, headers) = (began.elapsed(), stream.status, stream.headers.clone());
        let all = stream.collect().await;
        return Outcome {
            took,
            status,
            provider: header(&headers, "x-keyward-provider"),
            kind: header(&headers, "x-keyward-error"),
            retry_after: header(&headers, "retry-after").parse().ok(),
            finished: all.ends == 1 && all.finish.len() == 1,
            text: all.text,
            errors: all.errors,
            orderly: all.complete,
        };
    }
    let answer = gateway.caller().chat(model, prompt).await;
    let said = &answer.json()["choices"][0]["message"]["content"];
    Outcome {
        took: began.elapsed(),
        status: answer.status,
        provider: header(&answer.headers, "x-keyward-provider"),
        kind: header(&answer.headers, "x-keyward-error"),
        retry_after: header(&answer.headers, "retry-after").parse().ok(),
        text: said.as_str().unwrap_or_default().to_owned(),
        errors: Vec::new(),
        finished: answer.status == 200,
        orderly: true,
    }
}

impl Outcome {
    fn is_by(&self, provider: &str, text: &str) -> bool {
        self.status == 200
            && self.provider == provider
            && self.text == text
            && self.finished
            && self.errors.is_empty()
            && self.orderly
    }

    fn is_error(&self, kinds: &[&str]) -> bool {
        (400..600).contains(&self.status)
            && kinds.contains(&self.kind.as_str())
            && self.text.is_empty()
    }

    /// A stream that began and broke: what it says is true, that it broke is said once.
    fn is_broken(&self, provider: &str, kinds: &[&str]) -> bool {
        self.status == 200
            && self.provider == provider
            && !self.text.is_empty()
            && (faulty::words().starts_with(&self.text) || self.text.starts_with("one one one "))
            && self.errors.len() == 1
            && self.errors[0]["message"].is_string()
            && kinds.iter().any(|kind| says(&self.errors[0], kind))
            && !self.finished
            && self.orderly
    }
}

/// OpenAI's shape has the kind in its code, in its own words.
fn says(error: &Value, kind: &str) -> bool {
    let code = match kind {
        "timeout" => "timeout",
        "unavailable" => "service_unavailable",
        "malformed-answer" => "malformed_answer",
        "plugin" => "plugin_failure",
        other => panic!("which code is '{other}'?"),
    };
    error["code"] == code
}

struct Told {
    case: &'static Case,
    /// How often it was played.
    plays: usize,
    /// The longest wait for a head, with another provider there and without.
    failover: Duration,
    alone: Duration,
    /// Something is wrong, and the cause may be that this machine was too slow.
    late: bool,
    kind: String,
    complaints: Vec<String>,
}

/// Asks a case four times: with another provider and alone, streamed and whole.
async fn play(scene: &Scene, case: &'static Case) -> Told {
    let Scene { vendors, gateway } = scene;
    let fault = case.fault;
    let direct = format!("{fault}/{fault}");
    let words: Vec<String> = (0..4).map(|_| word("fault")).collect();
    let both = async |model: &str, streamed: &str, whole: &str| {
        let streamed = ask(gateway, model, streamed, true);
        let whole = ask(gateway, model, whole, false);
        if case.at == At::Http2 {
            // They share a connection, and what ends one there may end the other.
            (streamed.await, whole.await)
        } else {
            tokio::join!(streamed, whole)
        }
    };
    // The requests that may go elsewhere first: the others make a breaker open.
    let (stream, whole) = both(fault, &words[0], &words[1]).await;
    let (stream_alone, whole_alone) = both(&direct, &words[2], &words[3]).await;
    let mut complaints = Vec::new();
    let mut check = |what: &str, holds: bool, outcome: &Outcome| {
        if !holds {
            complaints.push(format!("{} {fault}: {what}: {outcome:?}", case.rule));
        }
    };
    let said = faulty::words();
    let elsewhere = |outcome: &Outcome, word: &str| {
        outcome.is_by("healthy", &format!("You said: {word}"))
            && vendors.healthy.requests_with(word).len() == 1
    };
    let at_home = |outcome: &Outcome, word: &str| {
        (outcome.is_by(fault, &said) || outcome.is_by(fault, &format!("You said: {word}")))
            && vendors.healthy.requests_with(word).is_empty()
    };
    match case.expected {
        Elsewhere(kinds) => {
            check("streamed", elsewhere(&stream, &words[0]), &stream);
            check("whole", elsewhere(&whole, &words[1]), &whole);
            check("streamed, alone", stream_alone.is_error(kinds), &stream_alone);
            check("whole, alone", whole_alone.is_error(kinds), &whole_alone);
        }
        RateLimited(wait) => {
            check("streamed", elsewhere(&stream, &words[0]), &stream);
            check("whole", elsewhere(&whole, &words[1]), &whole);
            for outcome in [&stream_alone, &whole_alone] {
                let told = match (wait, outcome.retry_after) {
                    (Some(wait), Some(told)) => told <= wait && told + 4 >= wait,
                    (wait, told) => wait.is_none() && told.is_none(),
                };
                let right = told && outcome.status == 429 && outcome.is_error(&["rate-limited"]);
                check("alone", right, outcome);
            }
        }
        Broken(kinds) => {
            let silent = vendors.healthy.requests_with(&words[0]).is_empty();
            check("streamed", silent && stream.is_broken(fault, kinds), &stream);
            check("whole", elsewhere(&whole, &words[1]), &whole);
            check("streamed, alone", stream_alone.is_broken(fault, kinds), &stream_alone);
            check("whole, alone", whole_alone.is_error(kinds), &whole_alone);
        }
        Harmless => {
            check("streamed", at_home(&stream, &words[0]), &stream);
            check("whole", at_home(&whole, &words[1]), &whole);
            check("streamed, alone", at_home(&stream_alone, &words[2]), &stream_alone);
            check("whole, alone", at_home(&whole_alone, &words[3]), &whole_alone);
        }
    }
    for outcome in [&stream, &whole, &stream_alone, &whole_alone] {
        check("it took too long", outcome.took < PATIENCE, outcome);
        check("forged", !outcome.text.contains(FORGED), outcome);
    }
    let kind = stream_alone.errors.first().map_or_else(
        || stream_alone.kind.clone(),
        |error| format!("{}/{}", error["type"].as_str().unwrap_or("-"), error["code"]),
    );
    let failover = stream.took.max(whole.took);
    let alone = stream_alone.took.max(whole_alone.took);
    let late = |outcome: &Outcome| outcome.took >= PATIENCE || outcome.kind == "timeout";
    let late =
        [stream, whole, stream_alone, whole_alone].iter().any(late) && !complaints.is_empty();
    Told { case, plays: 1, late, failover, alone, kind, complaints }
}

/// Plays the cases, `width` at a time, and prints what they took. What wasn't in time is played
/// again by itself, and only that counts: among others it measures the machine.
fn play_all(scene: &Scene, cases: &'static [Case], width: usize) -> Vec<Told> {
    let mut told: Vec<Told> = run(async {
        let told = stream::iter(cases).map(|case| play(scene, case)).buffer_unordered(width);
        let mut told: Vec<Told> = told.collect().await;
        for told in told.iter_mut().filter(|told| told.late) {
            println!("once more, by itself: {}", told.complaints.join("; "));
            *told = Told { plays: 2, ..play(scene, told.case).await };
        }
        told
    });
    told.sort_by_key(|told| std::cmp::Reverse(told.failover));
    println!("{:4} {:36} {:>9} {:>9}  alone it ends as", "", "fault", "failover", "alone");
    for Told { case: Case { rule, fault, .. }, failover, alone, kind, .. } in &told {
        println!("{rule:4} {fault:36} {failover:>9.1?} {alone:>9.1?}  {kind}");
    }
    if let Some(slowest) = told.first() {
        println!("slowest failover: {:?} ({})", slowest.failover, slowest.case.fault);
    }
    told
}

fn complaints(told: &[Told]) -> Vec<String> {
    told.iter().flat_map(|told| told.complaints.clone()).collect()
}

// ------------------------------------------------------------------ all of them

#[test]
fn every_fault_ends_in_another_providers_answer_or_a_typed_error_in_time() {
    let _alone = by_itself();
    let scene = Scene::open(CASES, TIMEOUTS);
    let told = play_all(&scene, CASES, 12);
    let mut complaints = complaints(&told);
    complaints.extend(wrong_rows(&scene, &told));
    let Scene { vendors, gateway } = &scene;

    // Nobody was sent what they must not have.
    if vendors.elsewhere.connections() > 0 {
        complaints.push("a redirect was followed".to_owned());
    }
    for (handshake, vendor) in &vendors.certificates {
        if !vendor.requests().is_empty() {
            complaints.push(format!("a request was sent to a server with {handshake:?}"));
        }
        // Four requests, none of them tried twice by itself.
        if vendor.connections() > 8 {
            complaints.push(format!("{handshake:?}: {} connections", vendor.connections()));
        }
    }
    for (fault, deaf) in &vendors.deaf {
        let heard = deaf.heard();
        if let Some(form) = leak(&heard) {
            complaints.push(format!("{fault}: it heard a key {form}"));
        }
        // Nothing but TLS: a handshake, perhaps an alert.
        if !heard.starts_with(&[0x16, 0x03]) || heard.windows(5).any(|window| window == b"POST ") {
            complaints.push(format!("{fault}: it heard something else than TLS"));
        }
    }
    for request in vendors.healthy.requests() {
        if request.mentions(&vendors.http.key) {
            complaints.push("a key was sent to another provider".to_owned());
        }
    }
    complaints.extend(gateway.leaks());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// One row for each attempt, with how it ended; what served nothing costs nothing.
fn wrong_rows(scene: &Scene, told: &[Told]) -> Vec<String> {
    let usage = scene.gateway.run(["usage", "--rows", "--limit", "100000", "--json"]).ok().json();
    let rows = usage["rows"].as_array().or_else(|| usage.as_array()).expect("rows");
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut wrong = Vec::new();
    for Told { case, plays, .. } in told {
        let of = |provider: &str| -> Vec<&Value> {
            let is = |row: &&Value| {
                text(row, "provider") == provider && text(row, "model") == case.fault
            };
            rows.iter().filter(is).collect()
        };
        let (own, healthy) = (of(case.fault), of("healthy"));
        let failed = own.iter().filter(|row| text(row, "outcome") == "failed").count();
        let fine = match case.expected {
            Elsewhere(_) | RateLimited(_) => failed == own.len() && healthy.len() == 2 * plays,
            Broken(_) => failed == own.len() && healthy.len() == *plays,
            Harmless => failed == 0 && own.len() == 4 * plays && healthy.is_empty(),
        };
        if !fine || own.is_empty() || own.len() > 4 * plays {
            wrong.push(format!(
                "{}: {} rows, {failed} failed, {} elsewhere",
                case.fault,
                own.len(),
                healthy.len()
            ));
        }
        if healthy.iter().any(|row| text(row, "outcome") != "ok") {
            wrong.push(format!("{}: elsewhere: {healthy:?}", case.fault));
        }
        // The vendor's own count agrees, also where HTTP/2 says that a request may be repeated; there one
        // that is silent doesn't hear the next either.
        let asked = scene.vendors.asked(case).unwrap_or(own.len());
        if asked > own.len() || asked < own.len() && case.at != At::Http2 {
            wrong.push(format!("{}: {} rows for {asked} requests", case.fault, own.len()));
        }
        if case.fault.starts_with("usage-") {
            wrong.extend(own.iter().filter_map(|row| wrong_usage(case.fault, row)));
        }
        for row in own.iter().chain(&healthy) {
            for tokens in ["input_tokens", "output_tokens"] {
                let count = &row[tokens];
                if !count.is_null() && count.as_u64().is_none_or(|count| count >= 1 << 20) {
                    wrong.push(format!("{}: {tokens} is {count}", case.fault));
                }
            }
        }
    }
    wrong
}

/// The vendor's counts where they can be believed, else the host's own, and the row says so. Only a
/// stream can count twice, and a whole answer came as one while another provider was left.
fn wrong_usage(fault: &str, row: &Value) -> Option<String> {
    let whole = row["streamed"] == false;
    let believed = match fault {
        // Counts may as well be read by their places.
        "usage-list" => row["estimated"] == false,
        "usage-growing" => true,
        "usage-changing" | "usage-shrinking" => whole && row["estimated"] == false,
        _ => false,
    };
    let tokens = (row["input_tokens"].as_u64(), row["output_tokens"].as_u64());
    let right = if fault == "usage-not-a-number" && whole && row["estimated"] == false {
        // The whole of it is no JSON, so nothing was served.
        tokens == (Some(0), Some(0))
    } else if believed {
        row["estimated"] == false && tokens == (Some(11), Some(7))
    } else {
        // What was said has 28 bytes, and the prompt a word.
        row["estimated"] == true && tokens.0 > Some(0) && tokens.1 == Some(7)
    };
    (!right).then(|| format!("{fault}: {row}"))
}

#[test]
fn a_caller_is_told_that_its_vendors_count_makes_no_sense() {
    const CASES: &[Case] = &[
        http("U12", "usage-huge", Harmless),
        http("U12", "usage-shrinking", Harmless),
        http("U12", "usage-growing", Harmless),
    ];
    let scene = Scene::open(CASES, TIMEOUTS);
    run(async {
        let caller = scene.gateway.caller();
        let answer = caller.chat("usage-huge", "hello").await;
        assert_eq!(answer.said(), faulty::words());
        assert_eq!(answer.header("x-keyward-warnings"), Some("dropped usage"));
        assert!(answer.json()["usage"].is_null(), "{}", answer.text());
        for fault in ["usage-huge", "usage-shrinking", "usage-growing"] {
            let all = caller.stream(fault, "hello").await.collect().await;
            assert_eq!(all.text, faulty::words(), "{fault}");
            assert_eq!((all.ends, all.errors.len(), all.finish.len()), (1, 0, 1), "{fault}");
        }
    });
}

#[test]
fn floods_are_cut_at_the_cap_and_memory_stays_flat() {
    let _alone = by_itself();
    let scene = Scene::open(FLOODS, "{connect: 1s, first_byte: 1s, idle: 1s, total: 3s}");
    run(async { ask(&scene.gateway, "plain-model", "warm up", false).await });
    let before = scene.gateway.memory();
    scene.gateway.forget_peak();
    // A few at a time: more would keep both sides busy, and neither in time.
    let complaints = complaints(&play_all(&scene, FLOODS, 2));
    let grown = scene.gateway.peak_memory().saturating_sub(before);
    println!("memory grew by {} MiB at most", grown >> 20);
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    // Twice the cap of 32 MiB for each of the two whole answers at a time.
    assert!(grown < 128 << 20, "{} MiB more", grown >> 20);
    run(async {
        eventually("the floods to be cut", Duration::from_secs(5), async || {
            use crate::support::vendor::Outcome::Answering;
            let flooding = |request: &std::sync::Arc<crate::support::vendor::Recorded>| {
                request.outcome() == Answering
            };
            (!scene.vendors.http.requests().iter().any(flooding)).then_some(())
        })
        .await;
    });
}

#[test]
fn after_silence_the_next_request_has_a_connection_of_its_own() {
    const CASES: &[Case] = &[
        http2("settings-storm", Elsewhere(&["timeout"])),
        http2("ping-flood", Elsewhere(&["timeout"])),
        http2("silent-stream", LATE),
    ];
    let _alone = by_itself();
    let scene = Scene::open(CASES, "{connect: 1s, first_byte: 2s, idle: 2s, total: 4s}");
    let vendor = &scene.vendors.http2;
    run(async {
        for case in CASES {
            let direct = |model: &str| format!("{}/{model}", case.fault);
            let before = vendor.connections();
            let lost = ask(&scene.gateway, &direct(case.fault), "hello", true).await;
            assert_ne!(lost.text, faulty::words(), "{lost:?}");
            let good = ask(&scene.gateway, &direct("http2-good"), "hello", true).await;
            assert!(good.is_by(case.fault, &faulty::words()), "{}: {good:?}", case.fault);
            assert!(good.took < Duration::from_secs(1), "{}: {good:?}", case.fault);
            assert_eq!(vendor.connections() - before, 2, "{}", case.fault);
        }
        // The flooded ones are closed.
        eventually("the floods to be cut", Duration::from_secs(5), async || {
            use crate::support::vendor::Outcome::Answering;
            let requests = vendor.requests();
            (!requests.iter().any(|request| request.outcome() == Answering)).then_some(())
        })
        .await;
    });
}

#[test]
fn health_tells_what_broke_a_connection_and_counts_each_failure_once() {
    const CASES: &[Case] = &[
        at("U3", "tls-expired", At::Certificate(Handshake::Expired), LOST),
        at("U1", "refused", At::Refused, LOST),
    ];
    let _alone = by_itself();
    let vendors = Vendors::open(CASES);
    let config = vendors.config(CASES, TIMEOUTS).replace("health: {enabled: false}\n", "");
    let scene = Scene::start(vendors, &config);
    run(async {
        let of = async |case: &Case| {
            let providers = scene.gateway.caller().get("/operator/v1/providers").await.json();
            let all = providers["providers"].as_array().unwrap().clone();
            let own = all.into_iter().find(|it| it["name"] == case.fault).unwrap();
            let whole = own["health"].as_array().unwrap().iter().find(|it| it["model"].is_null());
            whole.cloned().unwrap_or_default()
        };
        for (case, why) in CASES.iter().zip(["tls_error", "connect_failed"]) {
            for count in 1..=5 {
                let answer = ask(&scene.gateway, case.fault, "hello", false).await;
                assert_eq!(answer.provider, "healthy");
                let health = of(case).await;
                let down = count == 5;
                assert_eq!(health["standing"] == "down", down, "{health}");
                match down {
                    true => assert_eq!(health["why"], why),
                    false => assert_eq!(health["failures_in_a_row"], count, "{health}"),
                }
            }
        }
    });
}

// ------------------------------------------------------------------ single ones, closely

/// Those that are looked at one by one.
const SINGLES: &[Case] = &[
    at("U1", "refused", At::Refused, LOST),
    http("U4", "silence", LATE),
    http("U13", "two-lengths", MALFORMED),
    http("U13", "length-and-chunks", MALFORMED),
    http("U13", "folded-header", MALFORMED),
    http("U13", "answer-and-a-forged-one", Harmless),
    http("U13", "chunk-overflow", LOST_OR_MALFORMED),
    http("U13", "upgrade", MALFORMED),
    http("U13", "list-of-lengths", MALFORMED),
    http("U13", "nul-in-a-header", MALFORMED),
    http("U13", "chunk-of-no-size", LOST_OR_MALFORMED),
];

fn singles() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| Scene::open(SINGLES, TIMEOUTS))
}

#[test]
fn a_refused_connection_costs_next_to_nothing() {
    let _alone = by_itself();
    let scene = singles();
    run(async {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            let alone = ask(&scene.gateway, "plain-model", "hello", false).await;
            let after = ask(&scene.gateway, "refused", "hello", false).await;
            assert_eq!((alone.status, after.status), (200, 200));
            assert_eq!(after.provider, "healthy");
            without.push(alone.took);
            with.push(after.took);
        }
        without.sort();
        with.sort();
        println!("a chat takes {:?}, after a refused connection {:?}", without[15], with[15]);
        // The quickest of each: what else the machine does counts least there.
        let cost = with[0].saturating_sub(without[0]);
        println!("a refused connection costs {cost:?}");
        assert!(cost < Duration::from_millis(50), "{without:?} {with:?}");
    });
}

#[test]
fn with_nothing_configured_a_caller_waits_no_longer_for_what_never_answers() {
    let _alone = by_itself();
    const CASES: &[Case] = &[
        at("U2", "black-hole", At::BlackHole, LATE),
        at("U3", "tls-silent", At::Hello(b""), LATE),
        http("U4", "silence", LATE),
        http("U4", "head-drips", LATE),
        http("U5", "silence-after-the-head", LATE),
        http("U5", "silence-in-an-error", Elsewhere(&["unavailable", "overloaded", "timeout"])),
    ];
    let vendors = Vendors::open(CASES);
    // Each fault twice more, so that a request meets three of them before it is answered.
    let again = |case: &Case| {
        let (fault, endpoint) = (case.fault, vendors.endpoint(case));
        let ca = if endpoint.starts_with("https") { "\n    ca_file: ca.pem" } else { "" };
        ["second", "third"]
            .map(|which| {
                format!(
                    "  {which}-{fault}:\n    adapter: openai\n    kind: local\n    endpoint: \
                     {endpoint}/v1\n    key: {{env: FAULTY_KEY}}\n    models: [{fault}]{ca}\n"
                )
            })
            .concat()
    };
    let others: String = CASES.iter().map(again).collect();
    let providers = format!("providers:\n{others}");
    let config = vendors.config(CASES, "{}").replacen("providers:\n", &providers, 1);
    let scene = Scene::start(vendors, &config);
    run(async {
        for (case, streamed) in CASES.iter().flat_map(|case| [(case, true), (case, false)]) {
            let outcome = ask(&scene.gateway, case.fault, "hello", streamed).await;
            let form = if streamed { "streamed" } else { "whole" };
            println!("{}, {form}, costs {:?} with nothing configured", case.fault, outcome.took);
            assert!(outcome.is_by("healthy", "You said: hello"), "{outcome:?}");
            assert!(outcome.took < PATIENCE, "{}: {outcome:?}", case.fault);
        }
    });
}

#[test]
fn what_follows_a_broken_answer_comes_over_another_connection() {
    let _alone = by_itself();
    let scene = singles();
    let vendor = &scene.vendors.http;
    run(async {
        for case in SINGLES.iter().filter(|case| case.rule == "U13") {
            // Each of these providers keeps connections of its own.
            let direct = format!("{0}/{0}", case.fault);
            let (requests, connections) = (vendor.requests().len(), vendor.connections());
            for asked in 1..=4 {
                let outcome = ask(&scene.gateway, &direct, "hello", asked > 2).await;
                assert!(!outcome.text.contains(FORGED), "{}: {outcome:?}", case.fault);
                assert_eq!(vendor.requests().len(), requests + asked, "{}", case.fault);
                assert_eq!(vendor.connections(), connections + asked, "{}", case.fault);
            }
        }
    });
}

#[test]
fn a_caller_that_leaves_while_one_provider_is_silent_starts_no_other() {
    let _alone = by_itself();
    let scene = singles();
    run(async {
        let word = word("left");
        let caller = scene.gateway.caller();
        let asking = tokio::spawn({
            let word = word.clone();
            async move { caller.stream("silence", &word).await }
        });
        scene.vendors.http.wait_for_request(&word, Duration::from_secs(5)).await;
        asking.abort();
        scene.vendors.http.wait_for_disconnect(&word, Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(scene.vendors.healthy.requests_with(&word).is_empty(), "it was asked for nobody");
    });
}

#[test]
fn signs_of_life_without_a_token_are_not_the_beginning_of_an_answer() {
    let _alone = by_itself();
    let scene = Scene::open(TRICKLES, TIMEOUTS);
    run(async {
        for (case, streamed) in TRICKLES.iter().flat_map(|case| [(case, true), (case, false)]) {
            let outcome = ask(&scene.gateway, case.fault, "hello", streamed).await;
            let form = if streamed { "streamed" } else { "whole" };
            println!("{}, {form}, costs {:?}", case.fault, outcome.took);
            assert!(outcome.is_by("healthy", "You said: hello"), "{}: {outcome:?}", case.fault);
            assert!(outcome.took < PATIENCE, "{}: {outcome:?}", case.fault);
        }
    });
}

// ------------------------------------------------------------------ storms

/// A vendor that can be told how to answer, and a healthy one behind it.
struct Storm {
    gateway: Gateway,
    vendor: Vendor,
    healthy: Vendor,
    weather: std::sync::Arc<std::sync::Mutex<Weather>>,
}

#[derive(Clone, Copy)]
enum Weather {
    Fair,
    Error(u16),
    /// A rate limit for one model, with so many seconds to wait.
    Limited(u64),
    /// Every other request fails.
    Flapping,
}

impl Storm {
    fn begin(weather: Weather) -> Self {
        let weather = std::sync::Arc::new(std::sync::Mutex::new(weather));
        let now = weather.clone();
        let turn = std::sync::atomic::AtomicUsize::new(0);
        let vendor = Vendor::scripted(&canary("storm"), move |request| {
            let asked = Asked::default();
            let error = |status, headers: &[(&str, &str)]| {
                reply_json(status, headers, &OpenAi.error(status, &asked))
            };
            let fair = || {
                let mut acts = vec![Act::Pause(Duration::from_millis(20))];
                acts.extend(crate::support::vendor::openai::plain_answer(
                    request,
                    &canary("storm"),
                ));
                acts
            };
            if request.method != "POST" {
                return fair();
            }
            match *now.lock().unwrap() {
                Weather::Fair => fair(),
                Weather::Error(status) => error(status, &[]),
                Weather::Limited(wait) if request.json()["model"] == "one" => {
                    error(429, &[("retry-after", &wait.to_string())])
                }
                Weather::Limited(_) => fair(),
                Weather::Flapping => {
                    let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if turn.is_multiple_of(2) { error(503, &[]) } else { fair() }
                }
            }
        });
        let healthy = Vendor::plain_openai(&canary("healthy"));
        let provider = |name: &str, vendor: &Vendor| {
            format!(
                "  {name}:\n    adapter: openai\n    kind: local\n    endpoint: {}/v1\n    \
                 key: {{env: {}_KEY}}\n    models: [one, two]\n    timeouts: {TIMEOUTS}\n",
                vendor.url(),
                name.to_uppercase()
            )
        };
        let config = format!(
            "providers:\n{}{}routing: {{order: listed}}\n",
            provider("storm", &vendor),
            provider("healthy", &healthy)
        );
        let gateway = Setup::new(&config, &["openai"])
            .variable("STORM_KEY", &vendor.key)
            .variable("HEALTHY_KEY", &healthy.key)
            .start();
        Self { gateway, vendor, healthy, weather }
    }

    fn turn(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// Chats that the stormy vendor was asked for.
    fn asked(&self) -> usize {
        self.vendor.requests().iter().filter(|request| request.method == "POST").count()
    }

    /// So many requests, ten at a time, all of which must be answered by someone.
    async fn offer(&self, model: &str, count: usize) {
        let asking = stream::iter(0..count).map(|_| ask(&self.gateway, model, "hello", false));
        let outcomes: Vec<Outcome> = asking.buffer_unordered(10).collect().await;
        for outcome in outcomes {
            assert_eq!(outcome.status, 200, "{outcome:?}");
            assert!(outcome.took < PATIENCE, "{outcome:?}");
        }
    }
}

#[test]
fn no_storm_loses_a_request_or_makes_more_of_them() {
    let _alone = by_itself();
    let storm = Storm::begin(Weather::Fair);
    for weather in [Weather::Limited(2), Weather::Error(503), Weather::Flapping] {
        storm.turn(weather);
        let (before, healthy) = (storm.asked(), storm.healthy.requests().len());
        run(storm.offer("one", 100));
        // At most 1.2 times what was offered, at both vendors together.
        let (asked, healthy) = (storm.asked() - before, storm.healthy.requests().len() - healthy);
        assert!(asked + healthy <= 120, "{asked} and {healthy}");
    }
}

#[test]
fn a_rate_limit_keeps_its_model_away_until_it_is_over_and_no_other() {
    let _alone = by_itself();
    let storm = Storm::begin(Weather::Limited(3));
    run(async {
        storm.offer("one", 1).await;
        storm.turn(Weather::Fair);
        let before = storm.asked();
        storm.offer("one", 50).await;
        assert_eq!(storm.asked(), before, "it was asked before its time");
        let served = ask(&storm.gateway, "two", "hello", false).await;
        assert_eq!(served.provider, "storm", "another model was kept away");
        // Seconds and jitter later it serves again, by itself.
        eventually("the end of the rate limit", Duration::from_secs(8), async || {
            (ask(&storm.gateway, "one", "hello", false).await.provider == "storm").then_some(())
        })
        .await;
        assert!(storm.asked() <= before + 3);
    });
}

#[test]
fn a_provider_that_keeps_failing_is_left_alone_and_comes_back_by_itself() {
    let _alone = by_itself();
    let storm = Storm::begin(Weather::Error(503));
    run(async {
        storm.offer("one", 100).await;
        // Some to find out, ten at a time, and then one at a time in probation.
        let asked = storm.asked();
        assert!(asked <= 30, "it was asked {asked} times of 100");
        storm.offer("one", 100).await;
        assert!(storm.asked() <= asked + 5, "{} more", storm.asked() - asked);
        storm.turn(Weather::Fair);
        eventually("the provider back in use", Duration::from_secs(60), async || {
            (ask(&storm.gateway, "one", "hello", false).await.provider == "storm").then_some(())
        })
        .await;
    });
}

#[test]
fn in_probation_one_request_at_a_time_is_let_through() {
    let _alone = by_itself();
    let storm = Storm::begin(Weather::Error(503));
    run(async {
        storm.offer("one", 60).await;
        let asked = storm.asked();
        // A herd that waits for its return: it still fails, so each probation is one request.
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            storm.offer("one", 50).await;
        }
        let times: Vec<Instant> = storm.vendor.requests()[asked..]
            .iter()
            .filter(|request| request.method == "POST")
            .map(|request| request.at)
            .collect();
        for pair in times.windows(2) {
            let between = pair[1] - pair[0];
            assert!(between > Duration::from_millis(500), "a herd: {between:?}");
        }
    });
}

#[test]
fn a_flapping_provider_costs_its_callers_nothing() {
    let _alone = by_itself();
    let storm = Storm::begin(Weather::Flapping);
    run(async {
        storm.offer("one", 200).await;
        let failed = storm.asked() / 2;
        assert!(failed < 50, "{failed} attempts failed of 200");
    });
}

// ------------------------------------------------------------------ by hand

/// For trying things by hand: starts every vendor of the cases and prints a configuration for them.
/// Ask for a fault's name to see another provider take over, for `fault/fault` to see it alone.
#[test]
#[ignore = "runs until interrupted"]
fn serve_faults_by_hand() {
    let mut cases = CASES.to_vec();
    for case in [FLOODS, TRICKLES].concat() {
        if !cases.iter().any(|other| other.fault == case.fault) {
            cases.push(case);
        }
    }
    let vendors = Vendors::open(&cases);
    println!("{}", vendors.config(&cases, TIMEOUTS));
    println!("# FAULTY_KEY={} HEALTHY_KEY={}", vendors.http.key, vendors.healthy.key);
    println!("# ca.pem, beside this file:\n# {}", vendors.authority.pem.replace('\n', "\n# "));
    run(std::future::pending::<()>());
}
