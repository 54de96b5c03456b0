//! Scripted vendors: HTTP servers on 127.0.0.1 that answer as OpenAI, Anthropic and Ollama do, or
//! misbehave as the model's name says.
//!
//! HTTP is written by hand, because the faults worth testing are ones a proper server can't
//! produce: a reset between two chunks, a character cut in half, two lengths that contradict each
//! other. An answer is a list of [`Act`]s, made before the first byte leaves, so a script is plain
//! data. Every request is recorded; a request without the vendor's own credential gets the 401
//! that the vendor would send.
//!
//! Bounds: recorded requests are kept, bodies included, until they are forgotten or the vendor is
//! dropped.

pub mod anthropic;
mod http2;
pub mod ollama;
pub mod openai;
pub mod script;

pub use http2::{STREAM_ID, data, frame, response_head};

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// One thing done to the connection.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// The same bytes over and over, for answers larger than anyone's memory.
    Flood {
        bytes: Vec<u8>,
        times: u64,
    },
    Pause(Duration),
    /// A byte at a time, with a pause after each.
    Drip {
        bytes: Vec<u8>,
        pause: Duration,
    },
    /// Silence with the connection open, until the other side gives up.
    Hang,
    /// Cut the connection with a TCP reset.
    Reset,
    /// Close the connection in an orderly way.
    Close,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answering,
    /// The whole script was played.
    Answered,
    /// The other side left in the middle.
    CallerLeft(Instant),
}

/// A request as it came in.
#[derive(Debug)]
pub struct Recorded {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    outcome: Mutex<Outcome>,
}

impl Recorded {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn outcome(&self) -> Outcome {
        *self.outcome.lock().unwrap()
    }

    /// Everything that was sent, to search in.
    pub fn everything(&self) -> Vec<u8> {
        let mut all = format!("{} {}\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            all.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
        all.extend_from_slice(&self.body);
        all
    }

    /// The same request for another model: for vendors whose models are scripts, another script.
    pub fn for_model(&self, model: &str) -> Self {
        let mut body = self.json();
        body["model"] = Value::from(model);
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: body.to_string().into_bytes(),
            at: self.at,
            outcome: Mutex::new(self.outcome()),
        }
    }

    pub fn mentions(&self, word: &str) -> bool {
        super::contains(&self.everything(), word.as_bytes())
    }
}

/// What decides on the acts that answer a request.
pub type Script = dyn Fn(&Recorded) -> Vec<Act> + Send + Sync;

/// A running vendor. Dropping it closes the port and all connections.
pub struct Vendor {
    address: SocketAddr,
    /// The one credential it accepts; empty for a vendor that asks for none.
    pub key: String,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    script: Box<Script>,
    tls: Option<TlsAcceptor>,
    requests: Mutex<Vec<Arc<Recorded>>>,
    changed: Notify,
    connections: AtomicUsize,
    gone: Notify,
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.gone.notify_waiters();
    }
}

impl Vendor {
    pub fn openai(key: &str) -> Self {
        let expected = key.to_owned();
        Self::scripted(key, move |request| openai::answer(request, &expected))
    }

    pub fn anthropic(key: &str) -> Self {
        let expected = key.to_owned();
        Self::scripted(key, move |request| anthropic::answer(request, &expected))
    }

    pub fn ollama(key: &str) -> Self {
        let expected = key.to_owned();
        Self::scripted(key, move |request| ollama::answer(request, &expected))
    }

    /// OpenAI for whom every model's name is that of a model, none that of a script.
    pub fn plain_openai(key: &str) -> Self {
        let expected = key.to_owned();
        Self::scripted(key, move |request| openai::plain_answer(request, &expected))
    }

    /// A vendor of any kind at all.
    pub fn scripted(
        key: &str,
        script: impl Fn(&Recorded) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start(key, None, Box::new(script))
    }

    /// The same behind TLS. Where the two agree on HTTP/2, acts are made of its frames, and a
    /// request has no headers but [`STREAM_ID`].
    pub fn encrypted(
        key: &str,
        tls: TlsAcceptor,
        script: impl Fn(&Recorded) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start(key, Some(tls), Box::new(script))
    }

    fn start(key: &str, tls: Option<TlsAcceptor>, script: Box<Script>) -> Self {
        let shared = Arc::new(Shared {
            script,
            tls,
            requests: Mutex::default(),
            changed: Notify::new(),
            connections: AtomicUsize::new(0),
            gone: Notify::new(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = super::runtime();
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener).unwrap();
        drop(entered);
        let accepting = runtime.spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, key: key.to_owned(), shared, accepting }
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Arc<Recorded>> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Forgets those that are over, for tests that last; the rest is still being answered.
    pub fn forget_answered(&self) -> Vec<Arc<Recorded>> {
        let mut requests = self.shared.requests.lock().unwrap();
        requests.retain(|request| request.outcome() == Outcome::Answering);
        requests.clone()
    }

    /// Those with `word` anywhere in them.
    pub fn requests_with(&self, word: &str) -> Vec<Arc<Recorded>> {
        self.requests().into_iter().filter(|request| request.mentions(word)).collect()
    }

    /// The only request with `word` in it.
    ///
    /// # Panics
    /// If there is none, or more than one.
    pub fn the_request_with(&self, word: &str) -> Arc<Recorded> {
        let mut found = self.requests_with(word);
        assert_eq!(found.len(), 1, "requests with '{word}'");
        found.remove(0)
    }

    /// Waits for a request with `word` in it.
    pub async fn wait_for_request(&self, word: &str, patience: Duration) -> Arc<Recorded> {
        self.wait(word, patience, "no request", |_| true).await
    }

    /// Waits until the caller of the request with `word` in it has left in the middle of its
    /// answer, and returns when that was noticed.
    pub async fn wait_for_disconnect(&self, word: &str, patience: Duration) -> Instant {
        let left = |request: &Recorded| matches!(request.outcome(), Outcome::CallerLeft(_));
        let request = self.wait(word, patience, "no disconnect", left).await;
        match request.outcome() {
            Outcome::CallerLeft(at) => at,
            other => unreachable!("{other:?}"),
        }
    }

    async fn wait(
        &self,
        word: &str,
        patience: Duration,
        complaint: &str,
        holds: impl Fn(&Recorded) -> bool,
    ) -> Arc<Recorded> {
        let search = async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(found) = self.requests_with(word).into_iter().find(|r| holds(r)) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, search)
            .await
            .unwrap_or_else(|_| panic!("{complaint} with '{word}' within {patience:?}"))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shared.gone.notified() => {}
                () = receive(stream, &shared) => {}
            }
        });
    }
}

async fn receive(stream: TcpStream, shared: &Shared) {
    let Some(tls) = &shared.tls else { return converse(stream, shared, false).await };
    // A caller that doesn't trust this vendor leaves here.
    let Ok(stream) = tls.accept(stream).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    converse(stream, shared, http2).await;
}

/// A connection in clear text or encrypted.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Answers one request after the other, as long as the script leaves the connection open.
async fn converse<W: Wire>(mut stream: W, shared: &Shared, http2: bool) {
    let mut unread = Vec::new();
    let mut unfinished = http2::Unfinished::default();
    if http2 && http2::greet(&mut stream, &mut unread).await.is_err() {
        return;
    }
    loop {
        let request = if http2 {
            http2::read_request(&mut stream, &mut unread, &mut unfinished).await
        } else {
            read_request(&mut stream, &mut unread).await
        };
        let Ok(Some(request)) = request else { return };
        let request = Arc::new(request);
        shared.requests.lock().unwrap().push(request.clone());
        shared.changed.notify_waiters();
        let acts = (shared.script)(&request);
        let end = play(&mut stream, &mut unread, acts).await;
        let outcome = match end {
            End::Left => Outcome::CallerLeft(Instant::now()),
            _ => Outcome::Answered,
        };
        *request.outcome.lock().unwrap() = outcome;
        shared.changed.notify_waiters();
        match end {
            End::Open => {}
            End::Reset => {
                let _ = stream.tcp().set_zero_linger();
                return;
            }
            End::Close | End::Left => return,
        }
    }
}

enum End {
    Open,
    Close,
    Reset,
    Left,
}

async fn play<W: Wire>(stream: &mut W, unread: &mut Vec<u8>, acts: Vec<Act>) -> End {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let performance = async {
        for act in acts {
            match act {
                Act::Send(bytes) => {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                }
                Act::Drip { bytes, pause } => {
                    for byte in bytes {
                        writer.write_all(&[byte]).await?;
                        writer.flush().await?;
                        tokio::time::sleep(pause).await;
                    }
                }
                Act::Flood { bytes, times } => {
                    for _ in 0..times {
                        writer.write_all(&bytes).await?;
                    }
                }
                Act::Pause(time) => tokio::time::sleep(time).await,
                Act::Hang => std::future::pending().await,
                Act::Reset => return Ok(End::Reset),
                Act::Close => return Ok(End::Close),
            }
        }
        io::Result::Ok(End::Open)
    };
    let departure = async {
        let mut bytes = [0; 4096];
        loop {
            match reader.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(count) => unread.extend_from_slice(&bytes[..count]),
            }
        }
    };
    tokio::select! {
        biased;
        end = performance => end.unwrap_or(End::Left),
        () = departure => End::Left,
    }
}

/// The next request, or `None` if the connection ended between requests.
async fn read_request<W: Wire>(
    stream: &mut W,
    unread: &mut Vec<u8>,
) -> io::Result<Option<Recorded>> {
    let head_end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    };
    let head: Vec<u8> = unread.drain(..head_end).collect();
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or_default().split(' ');
    let method = request_line.next().unwrap_or_default().to_owned();
    let target = request_line.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let by_name: BTreeMap<_, _> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let body = if by_name.get("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        read_chunks(stream, unread).await?
    } else {
        let length = by_name.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        take(stream, unread, length).await?
    };
    let outcome = Mutex::new(Outcome::Answering);
    Ok(Some(Recorded { method, target, headers, body, at: Instant::now(), outcome }))
}

async fn read_chunks<W: Wire>(stream: &mut W, unread: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(at) = unread.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            more(stream, unread).await?;
        };
        let line = String::from_utf8_lossy(&unread[..line_end]).into_owned();
        unread.drain(..line_end + 2);
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(io::Error::other)?;
        let chunk = take(stream, unread, size + 2).await?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn take<W: Wire>(stream: &mut W, unread: &mut Vec<u8>, count: usize) -> io::Result<Vec<u8>> {
    while unread.len() < count {
        more(stream, unread).await?;
    }
    Ok(unread.drain(..count).collect())
}

async fn more<W: Wire>(stream: &mut W, unread: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(unread).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

// -------------------------------------------------------------------- answers

/// A whole answer with its length.
pub fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<Act> {
    let mut bytes = head(status, headers);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    vec![Act::Send(bytes)]
}

pub fn reply_json(status: u16, headers: &[(&str, &str)], body: &Value) -> Vec<Act> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    reply(status, &all, body.to_string().as_bytes())
}

/// A chunked answer, each piece a chunk and a write of its own, `pace` between them.
pub fn stream(headers: &[(&str, &str)], pieces: Vec<Vec<u8>>, pace: Duration) -> Vec<Act> {
    let mut acts = vec![stream_head(headers)];
    for piece in pieces {
        if !pace.is_zero() {
            acts.push(Act::Pause(pace));
        }
        acts.push(chunk(&piece));
    }
    acts.push(Act::Send(b"0\r\n\r\n".to_vec()));
    acts
}

/// The head of a chunked answer.
pub fn stream_head(headers: &[(&str, &str)]) -> Act {
    let mut bytes = head(200, headers);
    bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    Act::Send(bytes)
}

/// One chunk of a chunked answer.
pub fn chunk(piece: &[u8]) -> Act {
    let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
    bytes.extend_from_slice(piece);
    bytes.extend_from_slice(b"\r\n");
    Act::Send(bytes)
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Unknown"));
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.into_bytes()
}
