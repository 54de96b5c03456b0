//! Sends one request and gives its answer back, under deadlines and caps.
//!
//! A client belongs to the targets of one provider and connects to no other host. It follows no
//! redirect (credentials would follow too), uses no proxy whatever the environment says, asks for
//! no compression (so nothing inflates), keeps no cookies. What an answer shows has been searched
//! for the credential before. Dropping a [`Response`], or the future of [`Client::send`], ends the
//! request: the connection is closed, or its stream reset.
//!
//! A request is sent at most once. The HTTP client repeats it only where no byte of it was sent: a
//! pooled connection turned out to be closed.
//!
//! Bounds: [`Timeouts`] and [`BodyLimits`] for each answer; connections as [`super::connections`] says; 100
//! headers and about 400 KB of them (the HTTP library's own limits). A chunk of a stream costs one
//! clock reading and one substring search; the timer is armed once and moved only when it fires.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, header};
use keyward_contract::ProviderKind;
use tokio::time::{Instant, Sleep};

use super::{
    address::{Dns, Guard, Policy, SystemDns},
    connections::{ClientError, Connections, Recipe},
    credential::{Injection, Place},
    redact::{Redactor, Secrets},
    target::{GrantedUrl, Target},
    transport,
};
use crate::{Failure, FailureKind, Fault, contract::Method};

/// Of an answer that isn't framed, this much is read: error pages are long only by accident.
pub const MAX_TEXT: usize = 64 << 10;

/// How long the body of such an answer may take. Its status alone already tells the kind, and a
/// caller who may wait five seconds for another provider's answer is waiting.
pub const TEXT_TIME: Duration = Duration::from_secs(1);

/// The code of an answer that isn't valid HTTP.
pub(super) const BAD_HTTP: &str = "bad_http";

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Look-up, TCP and TLS together. Good networks need 0.3 s around the world, so what takes
    /// longer is down, and two such providers may be tried before a third within 5 s.
    pub connect: Duration,
    /// From sending to the head of a streamed answer.
    pub first_byte: Duration,
    /// From sending to the head of an answer that isn't streamed: vendors send it when the answer
    /// is complete. As long as the vendors' own libraries wait.
    pub whole: Duration,
    /// Between two pieces of an answer. Models that think in silence do so for more than a minute.
    pub idle: Duration,
    /// From sending to the end of the answer.
    pub total: Duration,
}

impl Timeouts {
    pub fn of(kind: ProviderKind) -> Self {
        let external = Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(60),
            whole: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(30 * 60),
        };
        match kind {
            ProviderKind::External => external,
            // A local server may have to load the model from a disk first.
            ProviderKind::Local => Self { first_byte: Duration::from_secs(300), ..external },
        }
    }
}

/// How many bytes an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Of a streamed answer. Long ones have a few MiB; the rest is room for images.
    pub streamed: u64,
    /// Of an answer that isn't streamed: it is held in memory as one frame.
    pub whole: u64,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { streamed: 256 << 20, whole: 32 << 20 }
    }
}

pub struct ClientOptions {
    pub timeouts: Timeouts,
    pub limits: BodyLimits,
    /// Certificates, as PEM, of authorities to trust besides the system's: for servers of one's
    /// own.
    pub extra_roots: Option<Vec<u8>>,
    /// Share one among all clients: it bounds the threads that wait for look-ups.
    pub dns: Arc<dyn Dns>,
}

impl ClientOptions {
    pub fn of(kind: ProviderKind) -> Self {
        Self {
            timeouts: Timeouts::of(kind),
            limits: BodyLimits::default(),
            extra_roots: None,
            dns: Arc::new(SystemDns::default()),
        }
    }
}

/// Connections to the targets of one provider. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    connections: Arc<Connections>,
    hosts: Arc<HashMap<String, Policy>>,
    timeouts: Timeouts,
    limits: BodyLimits,
}

/// A request, checked, ready to go.
#[derive(Debug)]
pub struct Outgoing {
    pub method: Method,
    pub url: GrantedUrl,
    /// From [`super::RequestHeaders::check`], plus what the host sets for the body.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub credential: Option<Injection>,
    /// Secrets of earlier requests of the same exchange: the answer must not show those either.
    pub hide: Secrets,
    /// The answer comes piece by piece, so its head comes early and it may be long.
    pub streamed: bool,
}

impl Client {
    /// Reads the system's certificates from disk if a target wants https, which takes some
    /// milliseconds: not for the path of a request.
    ///
    /// # Errors
    /// If there are no certificates to trust, or `extra_roots` are none.
    pub fn new(targets: &[Target], options: ClientOptions) -> Result<Self, ClientError> {
        // Does nothing where the program that embeds this library has chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeouts = options.timeouts;
        let mut hosts: HashMap<String, Policy> = HashMap::new();
        for target in targets {
            let policy = hosts.entry(target.host().to_owned()).or_insert(target.policy());
            policy.encrypted &= target.policy().encrypted;
        }
        // A slow look-up must leave some time to connect.
        let lookup = timeouts.connect.mul_f32(0.8);
        let recipe = Recipe {
            guard: Arc::new(Guard::new(hosts.clone(), options.dns, lookup)),
            connect: timeouts.connect,
            extra_roots: options.extra_roots,
            encrypted: targets.iter().any(|target| target.policy().encrypted),
        };
        Ok(Self {
            connections: Arc::new(Connections::new(recipe)?),
            hosts: Arc::new(hosts),
            timeouts,
            limits: options.limits,
        })
    }

    /// Sends the request and waits for the head of the answer. Any status but a redirect is an
    /// answer.
    ///
    /// # Errors
    /// A [`Failure`] with one of these codes: `egress_denied` (kind permission); `dns_error`,
    /// `connect_failed`, `tls_error`, `connection_lost` (unavailable); `connect_timeout`,
    /// `first_byte_timeout` (timeout); `bad_http`, `content_encoding`, `answer_too_large`,
    /// `redirect_refused` (malformed answer). Or without a code, of kind plugin, if the adapter set
    /// what is the credential's.
    pub async fn send(&self, request: Outgoing) -> Result<Response, Failure> {
        let started = Instant::now();
        let Outgoing { method, url, mut headers, body, credential, hide, streamed } = request;
        let target = url.target().clone();
        // The resolver refuses unknown hosts too, but isn't asked for addresses spelled out.
        if !self.hosts.contains_key(target.host()) {
            return Err(transport::failure(
                FailureKind::Permission,
                Fault::Host,
                "egress_denied",
                format!("'{}' is not a host of this provider", target.host()),
            ));
        }
        let mut secrets = hide;
        if let Some(injection) = &credential {
            secrets = injection.secrets().and(&secrets);
            if let Place::Header(name, value) = &injection.place
                && headers.insert(name, value.clone()).is_some()
            {
                return Err(Failure::plugin(format!(
                    "the adapter sets the header '{name}', which is the credential's"
                )));
            }
        }
        let url = url.with_credential(credential.as_ref())?;
        let mut request = reqwest::Request::new(http_method(method), url);
        *request.headers_mut() = headers;
        if !body.is_empty() || matches!(method, Method::Post | Method::Put) {
            *request.body_mut() = Some(body.into());
        }

        let patience = if streamed { self.timeouts.first_byte } else { self.timeouts.whole };
        let patience = patience.min(self.timeouts.total);
        let http = self.connections.http().await;
        let silence = self.connections.silence();
        let answer = tokio::time::timeout_at(started + patience, http.execute(request)).await;
        if answer.is_ok() {
            silence.ended();
        }
        let mut inner = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(transport::classify(&error, target.host(), &secrets));
            }
            Err(_) => {
                return Err(transport::timed_out(
                    "first_byte_timeout",
                    format!(
                        "'{}' did not begin to answer within {} s",
                        target.host(),
                        patience.as_secs_f32()
                    ),
                ));
            }
        };
        let limit = if streamed { self.limits.streamed } else { self.limits.whole };
        if let Err(failure) = check_head(&inner, &target, limit, &secrets) {
            if failure.code.as_deref() == Some(BAD_HTTP) {
                // Before the answer is let go, which may give its connection back.
                self.connections.keep_none(target.host()).await;
            }
            return Err(failure);
        }
        let deadline = started + self.timeouts.total;
        Ok(Response {
            status: inner.status().as_u16(),
            headers: std::mem::take(inner.headers_mut()),
            redactor: Redactor::new(secrets.clone()),
            secrets,
            timer: Box::pin(tokio::time::sleep_until(
                (Instant::now() + self.timeouts.idle).min(deadline),
            )),
            idle: self.timeouts.idle,
            deadline,
            received: 0,
            limit,
            inner,
            target,
            connections: Arc::clone(&self.connections),
            ended: false,
        })
    }
}

fn http_method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
    }
}

/// Refuses answers whose body would mean something else than it seems to.
fn check_head(
    answer: &reqwest::Response,
    target: &Target,
    limit: u64,
    secrets: &Secrets,
) -> Result<(), Failure> {
    let host = target.host();
    let headers = answer.headers();
    let status = answer.status();
    let fail = |code: &str, message: String| {
        let mut failure = transport::malformed(code, message);
        failure.status = Some(status.as_u16());
        Err(failure)
    };
    // First of all, whatever the answer is: it decides whether the connection may be kept.
    let chunked = headers.get_all(header::TRANSFER_ENCODING);
    if chunked.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return fail(BAD_HTTP, format!("'{host}' uses a transfer encoding other than chunked"));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    if chunked.iter().next().is_some() && length.is_some() {
        return fail(BAD_HTTP, format!("'{host}' gives its answer two different lengths"));
    }
    if status.is_redirection() {
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        // Redacted before it is parsed: a parser would change the letters of a secret.
        let to = location
            .map(|text| secrets.text(text))
            .and_then(|text| answer.url().join(&text).ok())
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_else(|| "an unreadable place".to_owned());
        return fail(
            "redirect_refused",
            format!(
                "'{host}' answers with a redirect ({}) to '{to}'; redirects are not followed, so \
                 configure the final address as the endpoint",
                status.as_u16()
            ),
        );
    }
    if status.is_informational() {
        return fail(BAD_HTTP, format!("'{host}' wants to switch protocols"));
    }
    let encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity") && !value.is_empty());
    if encoded {
        return fail(
            "content_encoding",
            format!("'{host}' sends a compressed answer, which was not asked for"),
        );
    }
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) {
        return fail(
            "answer_too_large",
            format!("'{host}' announces an answer of more than {limit} bytes"),
        );
    }
    Ok(())
}

/// The answer to one request. Dropping it ends the request.
pub struct Response {
    status: u16,
    headers: HeaderMap,
    inner: reqwest::Response,
    target: Target,
    connections: Arc<Connections>,
    secrets: Secrets,
    redactor: Redactor,
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    deadline: Instant,
    received: u64,
    limit: u64,
    ended: bool,
}

impl Response {
    /// Never a redirect.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// All headers, as the vendor sent them. For the host's own eyes: an adapter gets them through
    /// [`super::ResponseHeaders::filter`].
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What was taken out of the body, to be taken out of headers and messages too.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The next piece of the body, never empty; `None` after its end. May be dropped before it is
    /// ready and called again: nothing is lost.
    ///
    /// # Errors
    /// A [`Failure`] with the code `idle_timeout`, `total_timeout`, `answer_too_large`,
    /// `connection_lost` or `bad_http`. Then the request is over.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let waiting_since = Instant::now();
        while !self.ended {
            let chunk = tokio::select! {
                biased;
                chunk = self.inner.chunk() => chunk,
                () = &mut self.timer => {
                    self.timer_fired(waiting_since)?;
                    continue;
                }
            };
            match chunk {
                Ok(Some(bytes)) if bytes.is_empty() => {
                    // A flood of empty pieces must neither hold this thread nor count as progress.
                    self.timer_fired(waiting_since)?;
                    tokio::task::yield_now().await;
                }
                Ok(Some(bytes)) => {
                    self.received += bytes.len() as u64;
                    if self.received > self.limit {
                        return Err(self.end(transport::malformed(
                            "answer_too_large",
                            format!(
                                "the answer of '{}' has more than {} bytes",
                                self.target.host(),
                                self.limit
                            ),
                        )));
                    }
                    let shown = self.redactor.push(bytes);
                    if !shown.is_empty() {
                        return Ok(Some(shown));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    let rest = self.redactor.finish();
                    return Ok((!rest.is_empty()).then_some(rest));
                }
                Err(error) => {
                    let failure = transport::classify(&error, self.target.host(), &self.secrets);
                    return Err(self.end(failure));
                }
            }
        }
        Ok(None)
    }

    /// Fails if a deadline has passed, else moves the timer to the next one.
    fn timer_fired(&mut self, waiting_since: Instant) -> Result<(), Failure> {
        let now = Instant::now();
        let host = self.target.host();
        if now >= self.deadline {
            let message = format!("the answer of '{host}' took too long in all");
            return Err(self.end(transport::timed_out("total_timeout", message)));
        }
        let silent_until = waiting_since + self.idle;
        if now >= silent_until {
            let message =
                format!("'{host}' fell silent for {} s in its answer", self.idle.as_secs_f32());
            self.connections.doubt();
            return Err(self.end(transport::timed_out("idle_timeout", message)));
        }
        self.timer.as_mut().reset(silent_until.min(self.deadline));
        Ok(())
    }

    fn end(&mut self, failure: Failure) -> Failure {
        self.ended = true;
        failure
    }

    /// The body of an answer that isn't framed, such as an error: as much of it as comes within
    /// [`MAX_TEXT`] bytes and [`TEXT_TIME`], with what isn't UTF-8 replaced.
    pub async fn text(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < MAX_TEXT
                && let Ok(Some(chunk)) = self.next().await
            {
                let room = MAX_TEXT - bytes.len();
                bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        };
        // What came in time is as good as an error page gets.
        let _ = tokio::time::timeout(TEXT_TIME, read).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Response({} from {})", self.status, self.target.host())
    }
}

#[cfg(test)]
mod tests;
