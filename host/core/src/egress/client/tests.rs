//! Vendors scripted at the level of bytes, on 127.0.0.1.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::HeaderValue;
use keyward_contract::AuthScheme;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::*;
use crate::egress::address::Lookup;

const KEY: &str = "sk-canary-openai-0123456789abcdef0123456789abcdef";

// -------------------------------------------------------------------------------------- set-up

/// What a scripted vendor does after it has read a request.
enum Act {
    Say(Vec<u8>),
    Wait(Duration),
    /// Says one byte at a time.
    Drip(Vec<u8>, Duration),
    /// Says the same until the other side goes away.
    Repeat(Vec<u8>),
    /// Closes with RST.
    Reset,
    /// Keeps the connection until the other side closes it.
    Hold,
}

fn say(text: impl AsRef<[u8]>) -> Act {
    Act::Say(text.as_ref().to_vec())
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
    closed_by_us: AtomicUsize,
}

struct Vendor {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Vendor {
    /// Plays the same script for each request.
    async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (script, witness) = (Arc::new(script), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                witness.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(play(stream, script.clone(), witness.clone()));
            }
        });
        Self { address, seen }
    }

    fn target(&self) -> Target {
        target(&format!("http://{}/v1", self.address))
    }

    fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn play(mut stream: TcpStream, script: Arc<Vec<Act>>, seen: Arc<Seen>) {
    while let Some(request) = read_request(&mut stream).await {
        seen.requests.lock().unwrap().push(request);
        for act in script.iter() {
            let done = match act {
                Act::Say(bytes) => stream.write_all(bytes).await,
                Act::Wait(time) => {
                    tokio::time::sleep(*time).await;
                    Ok(())
                }
                Act::Drip(bytes, pause) => {
                    for byte in bytes {
                        if stream.write_all(&[*byte]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(*pause).await;
                    }
                    Ok(())
                }
                Act::Repeat(bytes) => loop {
                    if let Err(error) = stream.write_all(bytes).await {
                        seen.closed_by_us.fetch_add(1, Ordering::SeqCst);
                        break Err(error);
                    }
                },
                Act::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
                Act::Hold => {
                    let _ = stream.read(&mut [0; 64]).await;
                    seen.closed_by_us.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            };
            if done.is_err() {
                return;
            }
        }
        // A script without a length ends its answer by closing.
        let sized = script.iter().any(|act| {
            matches!(act, Act::Say(bytes) if String::from_utf8_lossy(bytes).contains("ength: "))
        });
        if !sized {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |it| it.parse().unwrap()) {
            return Some(text.into_owned());
        }
    }
}

fn target(base: &str) -> Target {
    Target::new(&Url::parse(base).unwrap(), ProviderKind::Local).unwrap()
}

/// Short enough for tests, long enough for a busy machine.
fn options() -> ClientOptions {
    ClientOptions {
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_millis(600),
            whole: Duration::from_millis(600),
            idle: Duration::from_millis(400),
            total: Duration::from_secs(5),
        },
        limits: BodyLimits { streamed: 1 << 20, whole: 1 << 20 },
        ..ClientOptions::of(ProviderKind::Local)
    }
}

fn client(target: &Target) -> Client {
    Client::new(std::slice::from_ref(target), options()).unwrap()
}

fn bearer() -> Option<Injection> {
    Some(Injection::new(&AuthScheme::Bearer, &KEY.into()).unwrap())
}

fn post(target: &Target) -> Outgoing {
    Outgoing {
        method: Method::Post,
        url: target.join("/chat/completions").unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"model\":\"m\"}"),
        credential: bearer(),
        hide: Secrets::default(),
        streamed: true,
    }
}

async fn send(vendor: &Vendor) -> Result<Response, Failure> {
    let target = vendor.target();
    client(&target).send(post(&target)).await
}

async fn read(response: &mut Response) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.next().await? {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The failure of sending or of reading, whichever comes.
async fn failure_of(script: Vec<Act>) -> Failure {
    let vendor = Vendor::start(script).await;
    let failure = match send(&vendor).await {
        Err(failure) => failure,
        Ok(mut response) => read(&mut response).await.unwrap_err(),
    };
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    failure
}

fn code(failure: &Failure) -> (&str, FailureKind) {
    (failure.code.as_deref().unwrap_or_default(), failure.kind)
}

// ------------------------------------------------------------------------------ what is sent

#[tokio::test]
async fn the_request_carries_what_was_given_and_nothing_more() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let target = vendor.target();
    let mut request = post(&target);
    request.headers.insert("openai-project", HeaderValue::from_static("p1"));
    let mut response = client(&target).send(request).await.unwrap();
    assert_eq!((response.status(), read(&mut response).await.unwrap().as_str()), (200, "{}"));
    let requests = vendor.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/chat/completions HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: */*",
            &format!("authorization: Bearer {KEY}"),
            "content-length: 13",
            &format!("host: {}", vendor.address),
            "openai-project: p1",
            concat!("user-agent: keyward/", env!("CARGO_PKG_VERSION")),
        ]
    );
    assert_eq!(body, "{\"model\":\"m\"}");
}

#[tokio::test]
async fn a_credential_goes_into_the_place_its_scheme_names() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let target = vendor.target();
    let client = client(&target);
    for (scheme, expected) in [
        (AuthScheme::Header { name: "x-api-key".into() }, "\r\nx-api-key: k/e\r\n"),
        (AuthScheme::Query { name: "key".into() }, "GET /v1/models?a=1&key=k%2Fe HTTP/1.1\r\n"),
    ] {
        let mut request = post(&target);
        request.method = Method::Get;
        request.body = Bytes::new();
        request.url = target.join("/models?a=1").unwrap();
        request.credential = Some(Injection::new(&scheme, &"k/e".into()).unwrap());
        client.send(request).await.unwrap();
        let sent = vendor.requests().pop().unwrap();
        assert!(sent.contains(expected), "{sent}");
        assert!(!sent.contains("content-length"), "{sent}");
    }
}

#[tokio::test]
async fn an_adapter_can_not_take_the_place_of_the_credential() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let target = vendor.target();
    let client = client(&target);
    let mut request = post(&target);
    request.headers.insert("x-vendor", HeaderValue::from_static("mine"));
    let scheme = AuthScheme::Header { name: "x-vendor".into() };
    request.credential = Some(Injection::new(&scheme, &KEY.into()).unwrap());
    assert_eq!(client.send(request).await.unwrap_err().kind, FailureKind::Plugin);

    let mut request = post(&target);
    request.url = target.join("/models?vendor=mine").unwrap();
    let scheme = AuthScheme::Query { name: "vendor".into() };
    request.credential = Some(Injection::new(&scheme, &KEY.into()).unwrap());
    assert_eq!(client.send(request).await.unwrap_err().kind, FailureKind::Plugin);
    assert!(vendor.requests().is_empty());
}

#[tokio::test]
async fn a_client_sends_to_its_own_hosts_only() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let other = target(&format!("http://localhost:{}/v1", vendor.address.port()));
    let failure = client(&vendor.target()).send(post(&other)).await.unwrap_err();
    assert_eq!(code(&failure), ("egress_denied", FailureKind::Permission));
    assert_eq!(vendor.seen.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let target = vendor.target();
    let client = client(&target);
    for _ in 0..5 {
        let mut response = client.send(post(&target)).await.unwrap();
        read(&mut response).await.unwrap();
    }
    assert_eq!(vendor.seen.connections.load(Ordering::SeqCst), 1);
}

/// Run by the next test in a process of its own: changing the environment of this one would race.
#[tokio::test]
async fn a_plain_answer_arrives() {
    let vendor = Vendor::start(vec![say(answer("{\"ok\":true}"))]).await;
    let mut response = send(&vendor).await.unwrap();
    assert_eq!(read(&mut response).await.unwrap(), "{\"ok\":true}");
    assert_eq!(response.next().await.unwrap(), None);
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "egress::client::tests::a_plain_answer_arrives"]);
    // Nothing listens there.
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    {
        child.env(name, "http://127.0.0.1:1");
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

// --------------------------------------------------------------------------------- redirects

#[tokio::test]
async fn a_redirect_is_reported_and_never_followed() {
    let trap = Vendor::start(vec![say(answer("{}"))]).await;
    for status in [301, 302, 303, 307, 308, 300, 304] {
        let script = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://{}/v1/{KEY}?a=b\r\nContent-Length: 0\r\n\r\n",
            trap.address
        );
        let failure = failure_of(vec![say(script)]).await;
        assert_eq!(code(&failure), ("redirect_refused", FailureKind::MalformedAnswer));
        assert_eq!(failure.status, Some(status));
        assert!(failure.message.contains("'127.0.0.1'"), "{}", failure.message);
        assert!(!failure.message.contains("a=b"), "{}", failure.message);
    }
    assert_eq!(trap.seen.connections.load(Ordering::SeqCst), 0);
    // A key in the host's place, where a parser would make it lower case.
    let failure = failure_of(vec![say(
        "HTTP/1.1 302 Found\r\nLocation: http://sk-canary-openai-0123456789abcdef0123456789abcdef.test/\r\n\r\n",
    )])
    .await;
    assert!(failure.message.contains("unreadable"), "{}", failure.message);
}

// ------------------------------------------------------------------------------- reflection

#[tokio::test]
async fn a_reflected_credential_is_shown_to_nobody() {
    let body = format!("{{\"your\":\"Bearer {KEY}\"}}");
    let (first, second) = body.split_at(30);
    let vendor = Vendor::start(vec![
        say(format!(
            "HTTP/1.1 401 No\r\nx-echo: {KEY}\r\nContent-Length: {}\r\n\r\n{first}",
            body.len()
        )),
        Act::Wait(Duration::from_millis(50)),
        say(second),
    ])
    .await;
    let mut response = send(&vendor).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.text().await, "{\"your\":\"Bearer [redacted]\"}");
    let rules = crate::egress::ResponseHeaders::new(&["x-*".to_owned()]).unwrap();
    let seen = rules.filter(response.headers(), response.secrets());
    assert_eq!(seen[0].value, "[redacted]");
    assert!(!format!("{response:?}").contains("canary"));
}

#[tokio::test]
async fn secrets_of_earlier_requests_are_hidden_too() {
    let vendor = Vendor::start(vec![say(answer("old-secret-1 and sk-1"))]).await;
    let target = vendor.target();
    let mut request = post(&target);
    request.hide = Secrets::new([&"old-secret-1".into()]);
    let mut response = client(&target).send(request).await.unwrap();
    assert_eq!(read(&mut response).await.unwrap(), "[redacted] and sk-1");
}

// -------------------------------------------------------------------------------- connecting

#[tokio::test]
async fn a_refused_connection_is_known_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let started = Instant::now();
    let mut request = post(&target);
    let scheme = AuthScheme::Query { name: "key".into() };
    request.credential = Some(Injection::new(&scheme, &KEY.into()).unwrap());
    let failure = client(&target).send(request).await.unwrap_err();
    assert_eq!(code(&failure), ("connect_failed", FailureKind::Unavailable));
    assert_eq!(failure.fault, Fault::Transport);
    assert!(failure.message.contains("refused"), "{}", failure.message);
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    assert!(started.elapsed() < Duration::from_millis(200));
}

#[tokio::test]
async fn a_black_hole_costs_the_time_to_connect() {
    // A queue of one that is full: further connections get no answer.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    for _ in 0..4 {
        let filler = TcpStream::connect(address);
        fillers.push(tokio::time::timeout(Duration::from_millis(100), filler).await);
    }
    let target = target(&format!("http://{address}"));
    let mut options = options();
    options.timeouts.connect = Duration::from_millis(300);
    let client = Client::new(std::slice::from_ref(&target), options).unwrap();
    let started = Instant::now();
    let failure = client.send(post(&target)).await.unwrap_err();
    assert_eq!(code(&failure), ("connect_timeout", FailureKind::Timeout));
    assert!(started.elapsed() < Duration::from_millis(600));
}

/// A name that doesn't exist, among the answers of DNS.
const NO_SUCH_NAME: &str = "no such name";

/// DNS as the test says; counts its questions.
#[derive(Debug)]
struct Scripted {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Dns for Arc<Scripted> {
    fn lookup<'a>(&'a self, _: &'a str) -> Lookup<'a> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let found = match &self.answers[turn][..] {
            [NO_SUCH_NAME] => Err(std::io::Error::other(NO_SUCH_NAME)),
            all => Ok(all.iter().map(|it| it.parse().unwrap()).collect()),
        };
        Box::pin(async move { found })
    }
}

fn dns(answers: &[&[&'static str]]) -> Arc<Scripted> {
    let answers = answers.iter().map(|it| it.to_vec()).collect();
    Arc::new(Scripted { answers, asked: AtomicUsize::new(0) })
}

async fn by_name(dns: &Arc<Scripted>, base: &str, kind: ProviderKind) -> Result<Response, Failure> {
    let target = Target::new(&Url::parse(base).unwrap(), kind).unwrap();
    let options = ClientOptions { dns: Arc::new(dns.clone()), ..options() };
    Client::new(std::slice::from_ref(&target), options).unwrap().send(post(&target)).await
}

#[tokio::test]
async fn the_address_that_is_dialled_is_the_one_that_was_checked() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let base = format!("http://ollama.test:{}", vendor.address.port());
    // Good when it is asked first; a second question would lead elsewhere.
    let dns = dns(&[&["127.0.0.1"], &["169.254.169.254"]]);
    assert!(by_name(&dns, &base, ProviderKind::Local).await.is_ok());
    assert_eq!(dns.asked.load(Ordering::SeqCst), 1);
    let failure = by_name(&dns, &base, ProviderKind::Local).await.unwrap_err();
    assert_eq!(code(&failure), ("egress_denied", FailureKind::Permission));
    assert_eq!(failure.fault, Fault::Host);
}

#[test]
fn two_dead_providers_leave_time_for_a_third_within_five_seconds() {
    for kind in [ProviderKind::Local, ProviderKind::External] {
        assert_eq!(Timeouts::of(kind).connect, Duration::from_secs(1), "{kind:?}");
    }
}

#[tokio::test]
async fn each_connection_of_a_client_asks_anew_and_checks_what_it_dials() {
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let vendor = Vendor::start(vec![say(closing)]).await;
    let base = format!("http://ollama.test:{}", vendor.address.port());
    let target = Target::new(&Url::parse(&base).unwrap(), ProviderKind::Local).unwrap();
    // There, elsewhere, and there again.
    let dns = dns(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
    let options = ClientOptions { dns: Arc::new(dns.clone()), ..options() };
    let client = Client::new(std::slice::from_ref(&target), options).unwrap();
    let send = async || {
        let mut answered = client.send(post(&target)).await?;
        while answered.next().await?.is_some() {}
        Ok::<_, Failure>(())
    };
    assert_eq!(send().await, Ok(()));
    let failure = send().await.unwrap_err();
    assert_eq!(code(&failure), ("egress_denied", FailureKind::Permission));
    assert_eq!(send().await, Ok(()));
    assert_eq!(dns.asked.load(Ordering::SeqCst), 3);
    assert_eq!(vendor.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_external_provider_does_not_reach_this_machine() {
    let vendor = Vendor::start(vec![say(answer("{}"))]).await;
    let base = format!("https://api.test:{}", vendor.address.port());
    for address in
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"]
    {
        let failure =
            by_name(&dns(&[&[address]]), &base, ProviderKind::External).await.unwrap_err();
        assert_eq!(code(&failure), ("egress_denied", FailureKind::Permission), "{address}");
    }
    assert_eq!(vendor.seen.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_error() {
    for answer in [&[NO_SUCH_NAME][..], &[]] {
        let dns = dns(&[answer]);
        let failure = by_name(&dns, "http://gone.test", ProviderKind::Local).await.unwrap_err();
        assert_eq!(code(&failure), ("dns_error", FailureKind::Unavailable), "{answer:?}");
        assert!(failure.message.contains("gone.test"), "{}", failure.message);
    }
}

// --------------------------------------------------------------------------------------- TLS

/// A server with TLS for one connection after the other. Reports how many bytes it could decrypt.
struct TlsVendor {
    address: SocketAddr,
    decrypted: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: Vec<u8>,
}

fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem().into_bytes();
    Authority { issuer: rcgen::Issuer::new(params, key), pem }
}

impl TlsVendor {
    fn start(
        host: &str,
        authority: Option<&Authority>,
        expired: bool,
        protocol: &str,
        answer: Vec<u8>,
    ) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let certificate = match authority {
            Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let decrypted = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, dialled) = (decrypted.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                dialled.fetch_add(1, Ordering::SeqCst);
                let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut tls = rustls::Stream::new(&mut tls, &mut stream);
                let mut buffer = [0; 4096];
                if let Ok(read) = tls.read(&mut buffer) {
                    count.fetch_add(read, Ordering::SeqCst);
                    let _ = tls.write_all(&answer);
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                    // Let the other side read before the connection is gone.
                    let _ = tls.sock.shutdown(std::net::Shutdown::Write);
                    while tls.sock.read(&mut buffer).is_ok_and(|read| read > 0) {}
                }
            }
        });
        Self { address, decrypted, connections }
    }

    async fn send(&self, roots: Option<&Authority>) -> Result<Response, Failure> {
        let target = target(&format!("https://vendor.test:{}", self.address.port()));
        let options = ClientOptions {
            dns: Arc::new(dns(&[&["127.0.0.1"]])),
            extra_roots: roots.map(|it| it.pem.clone()),
            ..options()
        };
        Client::new(std::slice::from_ref(&target), options).unwrap().send(post(&target)).await
    }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted() {
    let authority = authority();
    let vendor = TlsVendor::start("vendor.test", Some(&authority), false, "http/1.1", answer("{}"));
    let mut response = vendor.send(Some(&authority)).await.unwrap();
    assert_eq!(read(&mut response).await.unwrap(), "{}");
    assert!(vendor.decrypted.load(Ordering::SeqCst) > 100);
}

#[tokio::test]
async fn nothing_is_sent_to_a_host_that_can_not_prove_its_name() {
    let (ours, theirs) = (authority(), authority());
    for (case, host, signer, expired) in [
        ("wrong host", "other.test", Some(&ours), false),
        ("expired", "vendor.test", Some(&ours), true),
        ("self-signed", "vendor.test", None, false),
        ("unknown authority", "vendor.test", Some(&theirs), false),
    ] {
        let vendor = TlsVendor::start(host, signer, expired, "http/1.1", answer("{}"));
        let failure = vendor.send(Some(&ours)).await.unwrap_err();
        assert_eq!(code(&failure), ("tls_error", FailureKind::Unavailable), "{case}: {failure}");
        assert_eq!(failure.fault, Fault::Transport);
        assert_eq!(vendor.decrypted.load(Ordering::SeqCst), 0, "{case}");
        assert_eq!(vendor.connections.load(Ordering::SeqCst), 1, "{case}: no second try");
    }
}

#[tokio::test]
async fn an_outdated_or_silent_server_is_not_spoken_to() {
    // What servers of TLS 1.0 answer: the fatal alert `protocol_version`.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let _ = first.read(&mut [0; 2048]).await;
        first.write_all(b"\x15\x03\x01\x00\x02\x02\x46").await.unwrap();
        let _silent = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let target = target(&format!("https://vendor.test:{port}"));
    let mut options = ClientOptions { dns: Arc::new(dns(&[&["127.0.0.1"]])), ..options() };
    options.timeouts.connect = Duration::from_millis(300);
    options.extra_roots = Some(authority().pem);
    let client = Client::new(std::slice::from_ref(&target), options).unwrap();
    let failure = client.send(post(&target)).await.unwrap_err();
    assert_eq!(code(&failure), ("tls_error", FailureKind::Unavailable), "{failure}");
    let failure = client.send(post(&target)).await.unwrap_err();
    assert_eq!(code(&failure), ("connect_timeout", FailureKind::Timeout), "{failure}");
}

#[test]
fn extra_certificates_must_be_some() {
    let target = target("https://vendor.test");
    for pem in ["", "not a certificate"] {
        let options = ClientOptions { extra_roots: Some(pem.into()), ..options() };
        assert!(Client::new(std::slice::from_ref(&target), options).is_err(), "{pem:?}");
    }
}

#[tokio::test]
async fn http_2_connections_that_are_taken_away_end_in_a_failure() {
    let settings: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    let go_away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
    let garbage = b"\0\0\x01\x06\0\0\0\0\0\0";
    for (case, frames) in [("goaway", &go_away[..]), ("reset", reset), ("garbage", garbage)] {
        let authority = authority();
        let bytes = [settings, frames].concat();
        let vendor = TlsVendor::start("vendor.test", Some(&authority), false, "h2", bytes);
        let failure = vendor.send(Some(&authority)).await.unwrap_err();
        assert_eq!(
            code(&failure),
            ("connection_lost", FailureKind::Unavailable),
            "{case}: {failure}"
        );
        // HTTP/2 itself says that a request was not looked at; only then it is repeated.
        assert!(vendor.connections.load(Ordering::SeqCst) <= 4, "{case}");
    }
}

// ------------------------------------------------------------------------------------- timing

#[tokio::test]
async fn a_head_that_drips_runs_into_the_first_byte_deadline() {
    let started = Instant::now();
    let drip = Act::Drip(answer("{}"), Duration::from_millis(100));
    let failure = failure_of(vec![drip]).await;
    assert_eq!(code(&failure), ("first_byte_timeout", FailureKind::Timeout));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn endless_informational_answers_run_into_the_first_byte_deadline() {
    let failure = failure_of(vec![Act::Repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())]).await;
    assert_eq!(code(&failure), ("first_byte_timeout", FailureKind::Timeout));
}

#[tokio::test]
async fn silence_after_the_head_or_in_the_middle_is_a_timeout() {
    for body in ["", "data: {}\n\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        let failure = failure_of(vec![say(head), Act::Hold]).await;
        assert_eq!(code(&failure), ("idle_timeout", FailureKind::Timeout));
    }
}

#[tokio::test]
async fn a_slow_stream_that_goes_on_is_not_idle() {
    let text = "data: {}\n\n";
    let drip = Act::Drip(text.into(), Duration::from_millis(100));
    let vendor = Vendor::start(vec![say("HTTP/1.1 200 OK\r\n\r\n"), drip]).await;
    let mut response = send(&vendor).await.unwrap();
    assert_eq!(read(&mut response).await.unwrap(), text);
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_the_vendors_silence() {
    let vendor = Vendor::start(vec![
        say("HTTP/1.1 200 OK\r\n\r\none"),
        Act::Wait(Duration::from_millis(700)),
        say("two"),
    ])
    .await;
    let mut response = send(&vendor).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "one");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(response.next().await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn the_whole_answer_has_a_deadline() {
    let vendor = Vendor::start(vec![
        say("HTTP/1.1 200 OK\r\n\r\n"),
        Act::Drip(vec![b'x'; 100], Duration::from_millis(50)),
    ])
    .await;
    let target = vendor.target();
    let mut options = options();
    options.timeouts.total = Duration::from_millis(700);
    let client = Client::new(std::slice::from_ref(&target), options).unwrap();
    let mut response = client.send(post(&target)).await.unwrap();
    let failure = read(&mut response).await.unwrap_err();
    assert_eq!(code(&failure), ("total_timeout", FailureKind::Timeout));
}

#[tokio::test]
async fn what_is_dropped_is_cancelled() {
    let vendor = Vendor::start(vec![say("HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n"), Act::Hold]).await;
    let mut response = send(&vendor).await.unwrap();
    response.next().await.unwrap().unwrap();
    drop(response);
    let started = Instant::now();
    while vendor.seen.closed_by_us.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(1), "the connection stayed open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_wait_for_the_next_piece_may_be_given_up_and_taken_up_again() {
    let vendor = Vendor::start(vec![
        say("HTTP/1.1 200 OK\r\n\r\n"),
        Act::Wait(Duration::from_millis(200)),
        say("late"),
    ])
    .await;
    let mut response = send(&vendor).await.unwrap();
    for _ in 0..5 {
        let wait = tokio::time::timeout(Duration::from_millis(10), response.next()).await;
        assert!(wait.is_err());
    }
    assert_eq!(read(&mut response).await.unwrap(), "late");
}

// ------------------------------------------------------------------------- broken and hostile

#[tokio::test]
async fn a_connection_that_breaks_is_never_an_end() {
    for (case, script) in [
        ("no answer", vec![Act::Reset]),
        (
            "half a head",
            vec![say("HTTP/1.1 200 O"), Act::Wait(Duration::from_millis(20)), Act::Reset],
        ),
        (
            "reset in the body",
            vec![
                say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: 1\n\n"),
                Act::Wait(Duration::from_millis(50)),
                Act::Reset,
            ],
        ),
        ("short body", vec![say("HTTP/1.1 200 OK\r\ncontent-length:100\r\n\r\ndata: 1\n\n")]),
        (
            "no last chunk",
            vec![say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n")],
        ),
    ] {
        let failure = failure_of(script).await;
        assert_eq!(
            code(&failure),
            ("connection_lost", FailureKind::Unavailable),
            "{case}: {failure}"
        );
        assert_eq!(failure.fault, Fault::Transport, "{case}");
    }
}

#[tokio::test]
async fn what_came_before_a_break_is_given_out() {
    let vendor = Vendor::start(vec![
        say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: 1\n\n"),
        Act::Wait(Duration::from_millis(50)),
        Act::Reset,
    ])
    .await;
    let mut response = send(&vendor).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "data: 1\n\n");
    assert!(response.next().await.is_err());
    assert_eq!(response.next().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_not_http_is_a_malformed_answer() {
    for (case, bytes) in [
        ("random bytes", "\x01\x02\u{7}garbage\r\n\r\n".to_owned()),
        ("no version", "OK\r\n\r\n".to_owned()),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".to_owned()),
        ("odd length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}".to_owned()),
        (
            "length and chunks",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
                .to_owned(),
        ),
        ("unknown transfer encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}".to_owned()),
        ("upgrade", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned()),
        ("folded header", "HTTP/1.1 200 OK\r\na: b\r\n c: d\r\nContent-Length: 2\r\n\r\n{}".to_owned()),
        (
            "a million headers",
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1_000_000)),
        ),
        ("one endless header", format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(2 << 20))),
    ] {
        let failure = failure_of(vec![say(bytes)]).await;
        assert_eq!(code(&failure), ("bad_http", FailureKind::MalformedAnswer), "{case}: {failure}");
    }
}

#[tokio::test]
async fn an_answer_of_two_lengths_leaves_no_connection_behind() {
    for head in ["200 OK", "302 Found\r\nLocation: /elsewhere", "500 No"] {
        let script = format!(
            "HTTP/1.1 {head}\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        );
        let vendor = Vendor::start(vec![say(script)]).await;
        let target = vendor.target();
        let client = client(&target);
        for asked in 1..=3 {
            let failure = client.send(post(&target)).await.unwrap_err();
            assert_eq!(code(&failure), ("bad_http", FailureKind::MalformedAnswer), "{head}");
            assert_eq!(vendor.seen.connections.load(Ordering::SeqCst), asked, "{head}");
        }
    }
}

#[tokio::test]
async fn broken_chunks_are_an_error() {
    for size in ["ffffffffffffffffff", "zz", "-1"] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n";
        let failure = failure_of(vec![say(format!("{head}{size}\r\nx\r\n"))]).await;
        assert!(
            matches!(failure.kind, FailureKind::MalformedAnswer | FailureKind::Unavailable),
            "{size}: {failure}"
        );
    }
}

#[tokio::test]
async fn a_compressed_answer_is_refused() {
    for encoding in ["gzip", "br", "deflate", "identity, gzip"] {
        let script = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n\r\n\x1f");
        let failure = failure_of(vec![say(script)]).await;
        assert_eq!(code(&failure), ("content_encoding", FailureKind::MalformedAnswer));
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_cap() {
    let vendor =
        Vendor::start(vec![say("HTTP/1.1 200 OK\r\n\r\n"), Act::Repeat(vec![b'x'; 64 << 10])])
            .await;
    let mut response = send(&vendor).await.unwrap();
    let mut received = 0;
    let failure = loop {
        match response.next().await {
            Ok(chunk) => received += chunk.unwrap().len(),
            Err(failure) => break failure,
        }
    };
    assert_eq!(code(&failure), ("answer_too_large", FailureKind::MalformedAnswer));
    assert!(received <= 1 << 20);
    drop(response);
    let started = Instant::now();
    while vendor.seen.closed_by_us.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(1), "the connection stayed open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let failure =
        failure_of(vec![say("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"), Act::Hold])
            .await;
    assert_eq!(code(&failure), ("answer_too_large", FailureKind::MalformedAnswer));
}

#[tokio::test]
async fn the_text_of_an_error_is_bounded_in_size_and_time() {
    let vendor = Vendor::start(vec![
        say("HTTP/1.1 500 No\r\n\r\ncaf\u{e9} "),
        say(b"\xFF"),
        say("x".repeat(MAX_TEXT)),
        Act::Hold,
    ])
    .await;
    let mut response = send(&vendor).await.unwrap();
    let text = response.text().await;
    assert!(text.starts_with("caf\u{e9} \u{fffd}xxx"));
    assert!(text.len() <= MAX_TEXT + 2);

    let vendor = Vendor::start(vec![say("HTTP/1.1 500 No\r\n\r\nbroken"), Act::Hold]).await;
    let mut response = send(&vendor).await.unwrap();
    assert_eq!(response.text().await, "broken");
}
