//! The connections to one provider's hosts, and when they are given up.
//!
//! They are kept and used again as long as nothing speaks against it. Two things do:
//!
//! - An answer that leaves open where it ends: the HTTP library reads one with a length and chunks by
//!   its chunks and keeps the connection, and what is left on it could be taken for the next answer.
//!   From then on each request to this provider has a connection of its own.
//! - Silence. Over HTTP/2 all requests share a connection, and it is used until it is closed, even if
//!   its other end is gone or does anything but answer. So after a request that was given up
//!   unanswered the next one begins with new connections. Those in use end with their requests.
//!
//! Bounds: [`MAX_IDLE`] idle connections for each host, for [`IDLE_CONNECTION`]. New ones because of
//! silence at most once in [`RENEWAL`]: making a client reads the system's certificates, some
//! milliseconds on a thread that may wait.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

use super::address::Guard;

/// Idle connections kept for each host: enough for bursts of as many requests to find one open.
/// One with TLS takes about 30 KB.
pub const MAX_IDLE: usize = 128;

/// How long an idle connection is kept. Load balancers close theirs after 60 s and more; closing
/// first avoids most races.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// A request that waited so long for the head of its answer and was given up says something about
/// its connection. Less than the patience with which routing goes on to the next provider.
const SILENCE: Duration = Duration::from_secs(2);

/// How often silence is a reason for new connections: a vendor may just be slow.
const RENEWAL: Duration = Duration::from_secs(30);

const USER_AGENT: &str = concat!("keyward/", env!("CARGO_PKG_VERSION"));

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the extra certificates can't be read: {0}")]
    ExtraRoots(String),
    #[error("no certificates of authorities in the PEM text")]
    NoExtraRoots,
    #[error(
        "https can't be set up: {0} (on Debian and Ubuntu, the package 'ca-certificates' holds the \
         authorities to trust)"
    )]
    Tls(String),
}

/// What a provider's HTTP clients are made of.
pub(super) struct Recipe {
    pub guard: Arc<Guard>,
    pub connect: Duration,
    pub extra_roots: Option<Vec<u8>>,
    /// A target wants https.
    pub encrypted: bool,
}

impl Recipe {
    /// Keeps so many idle connections for each host.
    fn client(&self, idle: usize) -> Result<reqwest::Client, ClientError> {
        let headers =
            HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(Arc::clone(&self.guard))
            .tcp_nodelay(true)
            // Whoever routes decides whether a vendor is asked again, and counts it.
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect)
            .pool_max_idle_per_host(idle)
            .pool_idle_timeout(IDLE_CONNECTION);
        if let Some(pem) = &self.extra_roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| ClientError::ExtraRoots(error.to_string()))?;
            if roots.is_empty() {
                return Err(ClientError::NoExtraRoots);
            }
            builder = builder.tls_certs_merge(roots);
        }
        if !self.encrypted {
            // Nothing to verify: spares reading the system's certificates.
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(|error| {
            ClientError::Tls(
                std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string),
            )
        })
    }
}

/// See the module.
pub(super) struct Connections {
    http: ArcSwap<reqwest::Client>,
    recipe: Recipe,
    /// An answer was ambiguous: nothing is kept.
    ambiguous: AtomicBool,
    /// A request was given up unanswered since the last renewal.
    doubtful: AtomicBool,
    renewed: Mutex<Option<Instant>>,
    /// Held while a client is made, so that the last one made is the one that is used.
    making: Mutex<()>,
}

impl Connections {
    /// Reads the system's certificates if a target wants https.
    pub fn new(recipe: Recipe) -> Result<Self, ClientError> {
        Ok(Self {
            http: ArcSwap::from_pointee(recipe.client(MAX_IDLE)?),
            recipe,
            ambiguous: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            renewed: Mutex::new(None),
            making: Mutex::new(()),
        })
    }

    /// What to send the next request with.
    pub async fn http(self: &Arc<Self>) -> Arc<reqwest::Client> {
        if self.doubtful.load(Ordering::Relaxed) && self.is_time_to_renew() {
            self.make("connections are made anew after silence").await;
        }
        self.http.load_full()
    }

    /// True for one caller in [`RENEWAL`].
    fn is_time_to_renew(&self) -> bool {
        let now = Instant::now();
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let due = renewed.is_none_or(|last| now.saturating_duration_since(last) >= RENEWAL);
        // Whoever comes meanwhile goes on with what there is.
        let due = due && self.doubtful.swap(false, Ordering::Relaxed);
        if due {
            *renewed = Some(now);
        }
        due
    }

    /// Uses no connection twice from now on.
    pub async fn keep_none(self: &Arc<Self>, host: &str) {
        if !self.ambiguous.swap(true, Ordering::Relaxed) {
            tracing::warn!(host, "its answers are ambiguous: no connection is kept");
            self.make("no connection is kept").await;
        }
    }

    async fn make(self: &Arc<Self>, why: &'static str) {
        let connections = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let _one = connections.making.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = if connections.ambiguous.load(Ordering::Relaxed) { 0 } else { MAX_IDLE };
            connections.recipe.client(idle).map(|client| connections.http.store(Arc::new(client)))
        });
        match made.await {
            Ok(Ok(())) => tracing::debug!("{why}"),
            Ok(Err(error)) => {
                tracing::error!(%error, "old connections are kept in use, though {why}")
            }
            Err(error) => tracing::error!(%error, "old connections are kept in use, though {why}"),
        }
    }

    /// Silence in the middle of an answer.
    pub fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }

    /// Begins to listen for the head of an answer. Dropped without a sound, it says that there was none.
    pub fn silence(self: &Arc<Self>) -> Silence {
        Silence { connections: Some(Arc::clone(self)), since: Instant::now() }
    }
}

/// The time between a request and its answer's head.
pub(super) struct Silence {
    connections: Option<Arc<Connections>>,
    since: Instant,
}

impl Silence {
    pub fn ended(mut self) {
        self.connections = None;
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(connections) = &self.connections
            && self.since.elapsed() >= SILENCE
        {
            connections.doubt();
        }
    }
}
