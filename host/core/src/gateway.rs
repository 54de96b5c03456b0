//! The front door of the library: takes an operation from a caller, gives events back.
//!
//! A request goes: one snapshot is taken; [`routing`](crate::routing) decides on candidates and
//! carries the decision out. For each in turn a kept answer is looked for ([`cache`](crate::cache)),
//! embeddings may wait for company ([`batch`](crate::batch)), leave is asked of
//! [`health`](crate::health), a turn is waited for at the provider's gate, a reservation is made and
//! an exchange begun ([`carrying`]); the first whose answer has content is handed to the caller, and if it
//! wants a whole answer, when all of that has come. A
//! stream that breaks after that ends with its error, or is gone on with elsewhere where that is wanted
//! ([`relay`]). Whatever becomes of it, every attempt leaves exactly one row with the meter, which
//! also settles the reservation: when the answer ends, when it fails, or when the caller drops it.
//!
//! Bounds: the attempts and the time that `routing:` gives a request. A gateway owns its data folder: a
//! second one on the same folder is refused.

mod answer;
mod carrying;
mod leaving;
mod models;
mod operating;
mod recording;
mod relay;
mod view;
mod watching;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyward_contract::{OperationKind, price::Day};
use tokio::sync::Mutex;

pub use self::{answer::Answer, models::ListedModel, operating::Steer, recording::Recorded};
use self::{
    carrying::{Begun, Carrying},
    leaving::Pending,
    models::Listing,
    relay::Relay,
    view::View,
};
use crate::{
    Failure, FailureKind, Fault,
    audit::AuditLog,
    batch::Batches,
    cache::{Cache, CacheControl, CacheUse},
    catalog::{Catalog, Provider, ProviderState, Shared, Snapshot},
    config::{Broken, Config, ConfigError, Watcher},
    contract::Event,
    egress::Dns,
    exchange::Exchange,
    failure::Attempts,
    health::Health,
    ids::{ModelName, ProviderName, RequestId},
    metering::{Meter, Tokens},
    operation::{Chat, CountTokens, Embed, Field, Operation},
    privacy::Piece,
    routing::{
        Ask, Candidate, Decision, Needs, Sensitive,
        carry::{Budget, Carried, Carry},
        hedge::Allowance,
        journal::{Ended, Journal, Routed},
    },
    sandbox::{Compiler, EngineError, Sandbox, Worker},
    store::{DataDir, SledStore, Store, StoreError},
    vault::{KeyResolver, MasterKeyError, MasterKeySources, Vault},
};

/// Exchanges open at once, streams included. Each costs address space while it is idle and about
/// 150 KB while it runs.
pub const DEFAULT_SLOTS: u32 = 2_000;

/// How long a count waits for its turn at a provider.
const COUNT_WAIT: Duration = Duration::from_secs(5);

/// Texts up to so many bytes are searched for sensitive data where they are: a millisecond. Longer ones
/// aren't, so that they hold nobody up.
const SCAN_INLINE: usize = 128 * 1024;

/// Who asks. Usage is kept per caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As `server.tokens` names it; "local" where no token is configured.
    pub name: Arc<str>,
    /// Whether they may see how the host fares and steer it.
    pub operator: bool,
}

/// Where a gateway finds its files.
#[derive(Clone, Debug)]
pub struct Paths {
    pub config: PathBuf,
    pub plugins: PathBuf,
    pub data: PathBuf,
}

/// What a gateway needs to start.
#[derive(Debug)]
pub struct Options {
    pub paths: Paths,
    /// How adapters are compiled.
    pub worker: Worker,
    /// Exchanges open at once; [`DEFAULT_SLOTS`] for a server.
    pub slots: u32,
    /// Who looks names up: [`SystemDns`](crate::egress::SystemDns), as a rule.
    pub dns: Arc<dyn Dns>,
}

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("a folder can't be used: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Cheap to clone; all clones are one gateway. The last one dropped stops it.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Catalog,
    keys: KeyResolver,
    meter: Meter,
    store: Store,
    audit: AuditLog,
    health: Health,
    journal: Journal,
    hedges: Allowance,
    cache: Cache,
    batches: Batches,
    model_lists: Mutex<HashMap<ProviderName, (Instant, Listing)>>,
    // Last, so that everything that writes is gone before the lock is.
    _data: DataDir,
}

/// What a request carries besides its content.
#[derive(Clone, Debug)]
pub struct Call {
    /// Usage, logs and the vendor know the request by it.
    pub id: RequestId,
    pub caller: Caller,
    /// The caller says that it may not leave the user's machines.
    pub sensitive: bool,
    /// What the caller says about answers that were kept.
    pub cache: CacheControl,
}

/// The tokens of a prompt.
#[derive(Clone, Debug)]
pub struct Counted {
    pub provider: ProviderName,
    /// The model asked of the provider.
    pub model: ModelName,
    pub tokens: u64,
    /// The host's own count, not the vendor's.
    pub estimated: bool,
}

impl Gateway {
    /// Opens the data folder, loads configuration and plugins, and begins to watch both.
    ///
    /// # Errors
    /// If another process owns the data folder, the configuration can't be used, or the sandbox
    /// can't be set up. A provider or plugin that can't be used is no error: the snapshot says why.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { paths, worker, slots, dns } = options;
        let file = paths.config.clone();
        let loaded = blocking(move || Config::load(&file)).await??;
        let config = Arc::clone(&loaded.config);
        let data = paths.data.clone();
        let master_key_file = config.vault.master_key_file.clone();
        let open = move || -> Result<_, StartError> {
            let data = DataDir::open(&data)?;
            let store: Store = Arc::new(SledStore::open(&data)?);
            let audit = AuditLog::open(Arc::clone(&store))?;
            let sources = MasterKeySources::from_environment(data.path(), master_key_file, None)?;
            let vault = Vault::open(Arc::clone(&store), audit.clone(), &sources)?;
            let meter = Meter::start(Arc::clone(&store))?;
            Ok((data, store, audit, vault, meter))
        };
        let (data, store, audit, vault, meter) = blocking(open).await??;
        let sandbox = Sandbox::new(slots)?;
        let compiler = Compiler::new(sandbox, worker, &data.path().join("compiled"))?;
        let keys = KeyResolver::new(vault);
        let journal = Journal::default();
        let health = watching::health(&journal, &config.health);
        let (saved, from) = (health.clone(), Arc::clone(&store));
        blocking(move || watching::restore(&saved, &*from)).await?;
        let watcher = Watcher::start(paths.config, loaded);
        let shared = Shared { keys: keys.clone(), dns };
        let catalog = Catalog::start(watcher, paths.plugins, compiler, shared).await;
        let inner = Inner {
            catalog,
            keys,
            meter,
            store,
            audit,
            health,
            journal,
            hedges: Allowance::default(),
            cache: Cache::default(),
            batches: Batches::default(),
            model_lists: Mutex::default(),
            _data: data,
        };
        let inner = Arc::new(inner);
        tokio::spawn(watching::watch(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// What can be used right now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.catalog.snapshot()
    }

    pub fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    /// How providers fare, and what an operator can do about it.
    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    /// What became of the latest requests.
    pub fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    pub fn audit(&self) -> &AuditLog {
        &self.inner.audit
    }

    pub fn vault(&self) -> &Vault {
        self.inner.keys.vault()
    }

    /// Chooses a provider and carries the chat out up to its first content. What fails before is
    /// an `Err`; what fails later comes from [`Answer::next`].
    ///
    /// # Errors
    /// The failure that says most of those of the attempts, or that of the choice itself.
    pub async fn chat(&self, call: Call, request: Chat) -> Result<Answer, Failure> {
        let streamed = request.stream;
        let request = Arc::new(request);
        let snapshot = self.snapshot();
        let ask = ask_chat(&snapshot, &call, Arc::clone(&request)).await?;
        self.answer(snapshot, call, ask, streamed, Operation::Chat(request)).await
    }

    /// As [`Gateway::chat`], for embeddings.
    ///
    /// # Errors
    /// As [`Gateway::chat`].
    pub async fn embed(&self, call: Call, request: Embed) -> Result<Answer, Failure> {
        let request = Arc::new(request);
        let snapshot = self.snapshot();
        let ask = ask_embed(&snapshot, &call, Arc::clone(&request)).await?;
        self.answer(snapshot, call, ask, false, Operation::Embed(request)).await
    }

    /// Where a chat would go now, and why. Nothing is sent and nothing is recorded.
    ///
    /// # Errors
    /// If the host can't look at it.
    pub async fn explain(&self, call: &Call, request: Chat) -> Result<Decision, Failure> {
        let snapshot = self.snapshot();
        let ask = ask_chat(&snapshot, call, Arc::new(request)).await?;
        Ok(self.explained(&snapshot, ask).await)
    }

    /// As [`Gateway::explain`], for embeddings.
    ///
    /// # Errors
    /// As [`Gateway::explain`].
    pub async fn explain_embed(&self, call: &Call, request: Embed) -> Result<Decision, Failure> {
        let snapshot = self.snapshot();
        let ask = ask_embed(&snapshot, call, Arc::new(request)).await?;
        Ok(self.explained(&snapshot, ask).await)
    }

    async fn explained(&self, snapshot: &Snapshot, ask: Ask) -> Decision {
        let ask = self.with_told(snapshot, ask).await;
        snapshot.roster.explain(&ask, &View::new(snapshot, &self.inner.health))
    }

    /// The tokens of a chat's prompt: counted by the vendor if its adapter can and the vendor speaks
    /// the protocol of `fields` (the request's body without its model), else estimated. Nobody is
    /// billed and nothing is recorded.
    ///
    /// # Errors
    /// If no provider has the model, or the vendor that counts refuses to.
    pub async fn count_tokens(
        &self,
        call: &Call,
        request: Chat,
        fields: Vec<Field>,
    ) -> Result<Counted, Failure> {
        let snapshot = self.snapshot();
        let count = Arc::new(CountTokens { model: request.model.clone(), fields });
        let mut ask = ask_chat(&snapshot, call, Arc::new(request)).await?;
        if ask.sensitive.is_none() {
            // What is sent is the body as it came, with what a chat leaves out of it.
            let count = Arc::clone(&count);
            ask.sensitive = sensitive(&snapshot, call, count, CountTokens::pieces).await?;
        }
        let ask = self.with_told(&snapshot, ask).await;
        let decision = self.decide(&snapshot, &ask);
        let Some(Candidate { provider, model, .. }) = decision.candidates.first() else {
            return Err(decision.failure().unwrap_or_else(nobody));
        };
        let name = provider.clone();
        let provider = ready(&snapshot, provider)?;
        let operation = Operation::CountTokens(count).of_model(model);
        let deadline = Instant::now() + COUNT_WAIT;
        let pass = provider.enter(&call.caller.name, Tokens(0), deadline).await?;
        let mut exchange = Exchange::open(provider, &operation, call.id).await?;
        let mut counted = None;
        while let Some(events) = exchange.next().await {
            match events {
                Ok(events) => {
                    counted = events.iter().rev().find_map(counted_input).or(counted);
                }
                Err(failure) if failure.kind == FailureKind::Unsupported => break,
                Err(failure) => return Err(failure),
            }
        }
        drop(pass);
        Ok(Counted {
            provider: name,
            model: model.clone(),
            tokens: counted.unwrap_or(ask.tokens.0),
            estimated: counted.is_none(),
        })
    }

    async fn answer(
        &self,
        snapshot: Arc<Snapshot>,
        call: Call,
        ask: Ask,
        streamed: bool,
        operation: Operation,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        let ask = self.with_told(&snapshot, ask).await;
        let decision = self.decide(&snapshot, &ask);
        let routing = &snapshot.config.routing;
        if let Some(hedge) = &routing.hedge {
            self.inner.hedges.earn(hedge.share);
        }
        let hold = routing.streams.hold.filter(|_| streamed);
        let way = Way {
            snapshot: &snapshot,
            call: &call,
            ask: &ask,
            operation: &operation,
            decision: &decision,
            streamed,
            made: 0,
            hold,
        };
        let (budget, carrying) = self.carrying(&way);
        let carry = Carry::new(&decision, &budget, way.is_watched(), began);
        let pending = Pending::new(&way, &self.inner.journal, began, carry);
        let Carried { answer, attempts, tried } = pending.run(&carrying).await;
        let ended = match &answer {
            Ok(_) => Ended::Answered,
            Err(Failure { kind, fault, .. }) => Ended::Failed { kind: *kind, fault: *fault },
        };
        log_request(&call, &ask.model, streamed, &answer, attempts, began);
        self.inner.journal.routed(Routed {
            request: call.id,
            when: jiff::Timestamp::now(),
            caller: Arc::clone(&call.caller.name),
            operation: ask.operation,
            streamed,
            decision,
            tried: tried.clone(),
            attempts,
            ended,
            continued: Vec::new(),
        });
        let (begun, candidate) = match answer {
            Ok(answered) => answered,
            Err(mut failure) => {
                failure.attempts = Some(Box::new(Attempts { made: attempts, tried }));
                return Err(failure);
            }
        };
        let Begun { attempt, first, before } = begun;
        let relay = match &operation {
            Operation::Chat(chat) if streamed && routing.streams.broken == Broken::Continue => {
                Relay::new(self, &call, chat, &candidate, attempts)
            }
            _ => None,
        };
        Ok(Answer {
            request: call.id,
            provider: candidate.provider,
            model: candidate.model,
            attempts,
            tried,
            first: Some(first),
            before: before.saturating_duration_since(began),
            attempt,
            relay: relay.map(Box::new),
        })
    }

    /// Tries the candidates of a decision within what is left of the request's budget.
    async fn carry(&self, way: &Way<'_>) -> Carried<Begun> {
        let (budget, carrying) = self.carrying(way);
        Carry::new(way.decision, &budget, way.is_watched(), Instant::now()).run(&carrying).await
    }

    fn carrying<'a>(&'a self, way: &'a Way<'a>) -> (Budget, Carrying<'a>) {
        let routing = &way.snapshot.config.routing;
        let whole = Budget {
            attempts: routing.attempts,
            retries: routing.retries,
            time: routing.time,
            patience: routing.patience,
            longest_wait: routing.longest_wait,
            hedge: routing.hedge.as_ref().map(|hedge| hedge.after),
        };
        let budget = if way.made > 0 { whole.after(way.made) } else { whole };
        let deadline = Instant::now() + routing.time;
        (budget, Carrying { gateway: self, way, deadline })
    }

    /// For names that nobody is configured to serve, providers that tell their models themselves are
    /// asked for them.
    async fn with_told(&self, snapshot: &Snapshot, mut ask: Ask) -> Ask {
        let unlisted = snapshot.roster.unlisted(&ask);
        if !unlisted.is_empty() {
            ask.told = self.told(snapshot, &unlisted).await;
        }
        ask
    }

    fn decide(&self, snapshot: &Snapshot, ask: &Ask) -> Decision {
        snapshot.roster.decide(ask, &View::new(snapshot, &self.inner.health))
    }

    /// A provider that is ready.
    ///
    /// # Errors
    /// If there is none of that name, or it isn't ready: the message says why.
    pub fn provider(&self, name: &str) -> Result<Arc<Provider>, Failure> {
        match self.snapshot().providers.get(name) {
            Some(ProviderState::Ready(provider)) => Ok(Arc::clone(provider)),
            Some(ProviderState::Unavailable { reason, .. }) => Err(Failure::new(
                FailureKind::Unavailable,
                Fault::Host,
                format!("the provider '{name}' isn't available: {reason}"),
            )),
            None => Err(Failure::new(
                FailureKind::ModelNotFound,
                Fault::Caller,
                format!("there is no provider '{name}' in the configuration"),
            )),
        }
    }
}

/// What a request is carried out by.
struct Way<'a> {
    snapshot: &'a Snapshot,
    call: &'a Call,
    ask: &'a Ask,
    operation: &'a Operation,
    decision: &'a Decision,
    streamed: bool,
    /// Attempts that were made before.
    made: u32,
    /// So long is the beginning of the answer held back.
    hold: Option<Duration>,
}

impl Way<'_> {
    /// Whether the answer is expected to begin early, because it is streamed or can be.
    fn is_watched(&self) -> bool {
        let watch = self.snapshot.config.routing.watch;
        self.streamed || watch && matches!(self.operation, Operation::Chat(_))
    }
}

/// The day whose prices hold.
fn today() -> Day {
    Day::of_ms(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default())
}

async fn ask_chat(snapshot: &Snapshot, call: &Call, request: Arc<Chat>) -> Result<Ask, Failure> {
    Ok(Ask {
        model: request.model.clone(),
        operation: OperationKind::Chat,
        needs: request.needs(),
        tokens: request.expected_tokens(),
        max_output: request.sampling.max_output_tokens,
        sensitive: sensitive(snapshot, call, request, Chat::pieces).await?,
        told: Vec::new(),
    })
}

async fn ask_embed(snapshot: &Snapshot, call: &Call, request: Arc<Embed>) -> Result<Ask, Failure> {
    Ok(Ask {
        model: request.model.clone(),
        operation: OperationKind::Embed,
        needs: Needs::default(),
        tokens: request.expected_tokens(),
        max_output: None,
        sensitive: sensitive(snapshot, call, request, Embed::pieces).await?,
        told: Vec::new(),
    })
}

/// What of a request is searched for sensitive data.
type Pieces<R> = for<'a> fn(&'a R) -> Vec<Piece<'a>>;

/// Why the request may not leave the user's machines, if so.
async fn sensitive<R: Send + Sync + 'static>(
    snapshot: &Snapshot,
    call: &Call,
    request: Arc<R>,
    pieces: Pieces<R>,
) -> Result<Option<Sensitive>, Failure> {
    if call.sensitive {
        return Ok(Some(Sensitive::Marked));
    }
    if snapshot.detectors.is_empty() {
        return Ok(None);
    }
    let found = {
        let here = pieces(&request);
        let length: usize = here.iter().map(Piece::length).sum();
        (length <= SCAN_INLINE).then(|| snapshot.detectors.find_in(&here))
    };
    let found = if let Some(found) = found {
        found
    } else {
        let detectors = snapshot.detectors.clone();
        blocking(move || detectors.find_in(&pieces(&request))).await.map_err(disk)?
    };
    Ok(found.map(|found| Sensitive::Detected(found.to_string().into())))
}

/// One line for each request: for those that one attempt answered at `debug`, for others at `info`.
fn log_request(
    call: &Call,
    model: &ModelName,
    streamed: bool,
    answer: &Result<(Begun, Candidate), Failure>,
    attempts: u32,
    began: Instant,
) {
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (request, caller) = (call.id, &*call.caller.name);
    match answer {
        Ok((begun, Candidate { provider, model: asked, .. })) if attempts == 1 => {
            let cache = begun.attempt.cache().map(CacheUse::as_str);
            tracing::debug!(%request, caller, %model, streamed, %provider, %asked, cache, ms, "answered");
        }
        Ok((begun, Candidate { provider, model: asked, .. })) => {
            let cache = begun.attempt.cache().map(CacheUse::as_str);
            tracing::info!(
                %request, caller, %model, streamed, %provider, %asked, attempts, cache, ms,
                "answered elsewhere"
            );
        }
        Err(failure) => tracing::info!(
            %request, caller, %model, streamed, attempts, ms,
            kind = failure.kind.as_str(), fault = ?failure.fault, "not answered"
        ),
    }
}

/// Nothing secret hangs on it: without the system's source it is always the same.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

fn ready(snapshot: &Snapshot, name: &ProviderName) -> Result<Arc<Provider>, Failure> {
    let provider = snapshot.providers.get(name).and_then(ProviderState::ready);
    provider.cloned().ok_or_else(nobody)
}

/// Candidates come from the same snapshot as the providers, so there always is one.
fn nobody() -> Failure {
    Failure::new(FailureKind::Unavailable, Fault::Host, "no provider was left to try")
}

fn counted_input(event: &Event) -> Option<u64> {
    match event {
        Event::Usage(usage) => usage.input,
        _ => None,
    }
}

fn disk(error: std::io::Error) -> Failure {
    Failure::new(FailureKind::Other, Fault::Host, error.to_string())
}

/// Runs what touches the disk off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
