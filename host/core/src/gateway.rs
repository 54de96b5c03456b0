//! The front door of the library: takes an operation from a caller, gives events back.
//!
//! A request goes: one snapshot is taken; [`routing`](crate::routing) decides on candidates; for
//! each in turn a reservation is made, a place at the provider is taken and an exchange begun; the
//! first whose answer has content is handed to the caller. Whatever becomes of it, every attempt
//! leaves exactly one row with the meter, which also settles the reservation: when the answer
//! ends, when it fails, or when the caller drops it.
//!
//! Bounds: [`routing::MAX_ATTEMPTS`] providers a request; nothing is retried after the first
//! content. A gateway owns its data folder: a second one on the same folder is refused.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyward_contract::OperationKind;
use secrecy::SecretString;
use tokio::sync::Mutex;

use crate::{
    Failure, FailureKind, Fault,
    attempt::{self, Attempt, is_content},
    audit::AuditLog,
    catalog::{Catalog, KeyStatus, ModelFacts, Provider, ProviderState, Snapshot},
    config::{Config, ConfigError, Watcher},
    contract::{self, Event},
    egress::Secrets,
    exchange::Exchange,
    ids::{ModelName, ProviderName, RequestId},
    metering::{self, AttemptRecord, Estimate, Meter, RowQuery, Summary, SummaryQuery, Tokens},
    operation::{Chat, CountTokens, Embed, Field, Operation},
    routing::{self, Candidate, Decision, Reason},
    sandbox::{Compiler, EngineError, Sandbox, Worker},
    store::{DataDir, KeyValue, SledStore, Store, StoreError},
    tape::{Tape, Taped},
    vault::{KeyResolver, MasterKeyError, MasterKeySources, Slot, Vault},
};

/// Exchanges open at once, streams included. Each costs address space while it is idle and about
/// 150 KB while it runs.
pub const DEFAULT_SLOTS: u32 = 2_000;

/// How long a provider's own list of models is believed.
const MODEL_LIST_AGE: Duration = Duration::from_secs(60);

/// How long `GET /v1/models` waits for a provider's list.
const MODEL_LIST_WAIT: Duration = Duration::from_secs(2);

/// Models taken from a provider's own list.
const MAX_LISTED: usize = 10_000;

/// Who asks. Usage is kept per caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As `server.tokens` names it; "local" where no token is configured.
    pub name: Arc<str>,
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
    model_lists: Mutex<HashMap<ProviderName, (Instant, Listing)>>,
    // Last, so that everything that writes is gone before the lock is.
    _data: DataDir,
}

/// The models that a vendor lists.
type Listing = Arc<[contract::Model]>;

/// What routing and metering need to know of a request.
struct Asked {
    model: ModelName,
    kind: OperationKind,
    streamed: bool,
    /// The host's own count of the prompt.
    tokens: Tokens,
}

/// A model that a caller may name.
#[derive(Clone, Debug)]
pub struct ListedModel {
    pub id: ModelName,
    pub provider: ProviderName,
    /// Seconds since 1970, if known.
    pub created: Option<u64>,
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
        let Options { paths, worker, slots } = options;
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
        let watcher = Watcher::start(paths.config, loaded);
        let catalog = Catalog::start(watcher, paths.plugins, compiler, keys.clone()).await;
        let inner = Inner {
            catalog,
            keys,
            meter,
            store,
            audit,
            model_lists: Mutex::default(),
            _data: data,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What can be used right now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.catalog.snapshot()
    }

    pub fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    pub fn audit(&self) -> &AuditLog {
        &self.inner.audit
    }

    pub fn vault(&self) -> &Vault {
        self.inner.keys.vault()
    }

    /// Chooses a provider and carries the chat out up to its first content. Usage, logs and the
    /// vendor know it by `id`. What fails before is
    /// an `Err`; what fails later comes from [`Answer::next`].
    ///
    /// # Errors
    /// The failure of the last provider that was tried, or of the choice itself.
    pub async fn chat(
        &self,
        id: RequestId,
        request: Chat,
        caller: Caller,
    ) -> Result<Answer, Failure> {
        let asked = Asked {
            model: request.model.clone(),
            kind: OperationKind::Chat,
            streamed: request.stream,
            tokens: request.expected_tokens(),
        };
        let request = Arc::new(request);
        let with_model = |model: ModelName| {
            Operation::Chat(if model == request.model {
                Arc::clone(&request)
            } else {
                Arc::new(Chat { model, ..Chat::clone(&request) })
            })
        };
        self.answer(id, asked, caller, with_model).await
    }

    /// As [`Gateway::chat`], for embeddings.
    ///
    /// # Errors
    /// As [`Gateway::chat`].
    pub async fn embed(
        &self,
        id: RequestId,
        request: Embed,
        caller: Caller,
    ) -> Result<Answer, Failure> {
        let asked = Asked {
            model: request.model.clone(),
            kind: OperationKind::Embed,
            streamed: false,
            tokens: request.expected_tokens(),
        };
        let with_model = |model| Operation::Embed(Arc::new(Embed { model, ..request.clone() }));
        self.answer(id, asked, caller, with_model).await
    }

    /// The tokens of a chat's prompt: counted by the vendor if its adapter can and the vendor speaks
    /// the protocol of `fields` (the request's body without its model), else estimated. Nobody is
    /// billed and nothing is recorded.
    ///
    /// # Errors
    /// If no provider has the model, or the vendor that counts refuses to.
    pub async fn count_tokens(
        &self,
        id: RequestId,
        request: &Chat,
        fields: Vec<Field>,
    ) -> Result<Counted, Failure> {
        let decision = self.decide(&request.model, OperationKind::Chat).await?;
        // `decide` never returns an empty list.
        let first = decision.candidates.into_iter().next();
        let Candidate { provider, model, .. } = first.ok_or_else(|| {
            Failure::new(FailureKind::Unavailable, Fault::Host, "no provider was left to try")
        })?;
        let operation = CountTokens { model: model.clone(), fields };
        let operation = Operation::CountTokens(Arc::new(operation));
        let place = provider.place().await?;
        let name = provider.name.clone();
        let mut exchange = Exchange::open(provider, &operation, id).await?;
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
        drop(place);
        Ok(Counted {
            provider: name,
            model,
            tokens: counted.unwrap_or_else(|| request.expected_tokens().0),
            estimated: counted.is_none(),
        })
    }

    async fn answer(
        &self,
        request: RequestId,
        asked: Asked,
        caller: Caller,
        with_model: impl Fn(ModelName) -> Operation,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        let decision = self.decide(&asked.model, asked.kind).await?;
        let tries = decision.candidates.len();
        for (at, Candidate { provider, model, .. }) in decision.candidates.into_iter().enumerate() {
            let estimate = Estimate {
                request,
                attempt: at as u32 + 1,
                caller: Arc::clone(&caller.name),
                provider: provider.name.clone(),
                model: model.clone(),
                operation: asked.kind,
                streamed: asked.streamed,
                tokens: attempt::estimate(asked.tokens),
            };
            let before = began.elapsed();
            let operation = with_model(model.clone());
            match self.attempt(&provider, &operation, &estimate, asked.tokens).await {
                Ok((attempt, first)) => {
                    let attempts = estimate.attempt;
                    let first = Some(first);
                    let provider = provider.name.clone();
                    return Ok(Answer {
                        request,
                        provider,
                        model,
                        attempts,
                        first,
                        before,
                        attempt,
                    });
                }
                Err(failure) if failure.kind.may_go_elsewhere() && at + 1 < tries => {
                    tracing::info!(%request, provider = %provider.name, %failure, "trying the next provider");
                }
                Err(failure) => return Err(failure),
            }
        }
        // `decide` never returns an empty list.
        Err(Failure::new(FailureKind::Unavailable, Fault::Host, "no provider was left to try"))
    }

    /// One attempt, up to and including its first content.
    async fn attempt(
        &self,
        provider: &Arc<Provider>,
        operation: &Operation,
        estimate: &Estimate,
        prompt: Tokens,
    ) -> Result<(Attempt, Vec<Event>), Failure> {
        let reservation = self.inner.meter.reserve(estimate)?;
        let id = estimate.request;
        let mut attempt = Attempt::open(provider, operation, id, prompt, reservation, None).await?;
        let mut first = Vec::new();
        while !first.iter().any(is_content) {
            match attempt.next().await {
                Some(events) => first.append(&mut events?),
                None => break,
            }
        }
        Ok((attempt, first))
    }

    /// Decides where a request goes; providers that tell their models themselves are asked if
    /// nobody else has the model.
    async fn decide(&self, model: &ModelName, kind: OperationKind) -> Result<Decision, Failure> {
        let snapshot = self.snapshot();
        let unknown = match routing::decide(&snapshot, model, kind) {
            Err(failure) if failure.kind == FailureKind::ModelNotFound => failure,
            decided => return decided,
        };
        for provider in open_lists(&snapshot) {
            let list = self.model_list(provider).await;
            if list.iter().any(|listed| listed.id == model.as_str()) {
                let provider = Arc::clone(provider);
                let reason = Reason::Listed;
                let candidates = vec![Candidate { provider, model: model.clone(), reason }];
                return Ok(Decision { candidates });
            }
        }
        Err(unknown)
    }

    /// Every model that can be named now, providers in the order of the configuration.
    pub async fn models(&self) -> Vec<ListedModel> {
        let snapshot = self.snapshot();
        let mut listed = Vec::new();
        for (name, state) in &snapshot.providers {
            let ProviderState::Ready(provider) = state else { continue };
            let models = if provider.models_are_open() {
                let list = self.model_list(provider).await;
                list.iter().filter_map(|model| ModelName::new(&model.id).ok()).collect()
            } else {
                provider.models().to_vec()
            };
            listed.extend(models.into_iter().map(|id| ListedModel {
                id,
                provider: name.clone(),
                created: None,
            }));
        }
        listed
    }

    /// What is known of each model of a provider: the operator's word, the vendor's own list, the
    /// adapter's data. The vendor is asked if it has a list and wasn't asked lately.
    ///
    /// # Errors
    /// If there is no such provider or it isn't available.
    pub async fn model_facts(&self, provider: &str) -> Result<Vec<ModelFacts>, Failure> {
        let provider = self.provider(provider)?;
        let listed = if provider.plugin.can(OperationKind::ListModels) {
            self.model_list(&provider).await
        } else {
            Listing::default()
        };
        Ok(provider.model_facts(&listed))
    }

    /// The provider's own list, at most [`MODEL_LIST_AGE`] old; empty if it can't be had.
    async fn model_list(&self, provider: &Arc<Provider>) -> Listing {
        let known = self.inner.model_lists.lock().await.get(&provider.name).cloned();
        if let Some((at, models)) = known
            && at.elapsed() < MODEL_LIST_AGE
        {
            return models;
        }
        let listing = tokio::time::timeout(MODEL_LIST_WAIT, self.list_models(provider)).await;
        let models = match listing {
            Ok(Ok(models)) => models,
            Ok(Err(failure)) => {
                tracing::debug!(provider = %provider.name, %failure, "no list of models");
                Listing::default()
            }
            Err(_) => Listing::default(),
        };
        let mut lists = self.inner.model_lists.lock().await;
        lists.insert(provider.name.clone(), (Instant::now(), models.clone()));
        models
    }

    async fn list_models(&self, provider: &Arc<Provider>) -> Result<Listing, Failure> {
        let id = RequestId::random()?;
        let mut exchange = Exchange::open(Arc::clone(provider), &Operation::ListModels, id).await?;
        let mut models = Vec::new();
        while let Some(events) = exchange.next().await {
            models.extend(events?.into_iter().filter_map(|event| match event {
                Event::Model(model) => Some(model),
                _ => None,
            }));
            models.truncate(MAX_LISTED);
        }
        Ok(models.into())
    }

    /// Sees whether a provider answers and accepts its key, by a request that costs nothing.
    ///
    /// # Errors
    /// If there is no such provider, it isn't available, or it fails.
    pub async fn probe(&self, provider: &str) -> Result<Duration, Failure> {
        let provider = self.provider(provider)?;
        let began = Instant::now();
        let id = RequestId::random()?;
        let mut exchange = Exchange::open(provider, &Operation::Probe, id).await?;
        while let Some(events) = exchange.next().await {
            events?;
        }
        Ok(began.elapsed())
    }

    /// Carries an operation out against one provider as for a caller, metered if it costs, and keeps
    /// what went over the wire. Nothing is tried again or elsewhere.
    ///
    /// # Errors
    /// If the provider isn't there, or the exchange ended otherwise than the adapter said: what
    /// broke then can't be replayed. A failure that the adapter told is on the tape.
    pub async fn record(&self, provider: &str, operation: &Operation) -> Result<Recorded, Failure> {
        let provider = self.provider(provider)?;
        let tape = Tape::default();
        let mut events = Vec::new();
        let ended = self.carry_out(&provider, operation, &tape, &mut events).await;
        let taped = tape.take();
        match ended {
            Err(failure) if taped.failure.is_none() => return Err(failure),
            _ => {}
        }
        let secrets = provider.secrets().await;
        Ok(Recorded { provider, taped, events, secrets })
    }

    async fn carry_out(
        &self,
        provider: &Arc<Provider>,
        operation: &Operation,
        tape: &Tape,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        let id = RequestId::random()?;
        let (model, kind, streamed, prompt) = match operation {
            Operation::Chat(chat) => {
                (&chat.model, OperationKind::Chat, chat.stream, chat.expected_tokens())
            }
            Operation::Embed(embed) => {
                (&embed.model, OperationKind::Embed, false, embed.expected_tokens())
            }
            Operation::ListModels | Operation::Probe | Operation::CountTokens(_) => {
                let provider = Arc::clone(provider);
                let tape = Some(tape.clone());
                let mut exchange = Exchange::open_with(provider, operation, id, tape).await?;
                while let Some(more) = exchange.next().await {
                    events.append(&mut more?);
                }
                return Ok(());
            }
        };
        let reservation = self.inner.meter.reserve(&Estimate {
            request: id,
            attempt: 1,
            caller: "local".into(),
            provider: provider.name.clone(),
            model: model.clone(),
            operation: kind,
            streamed,
            tokens: attempt::estimate(prompt),
        })?;
        let tape = Some(tape.clone());
        let mut attempt = Attempt::open(provider, operation, id, prompt, reservation, tape).await?;
        while let Some(more) = attempt.next().await {
            events.append(&mut more?);
        }
        Ok(())
    }

    /// Sums of what was used, everything recorded up to now included.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn usage(&self, query: SummaryQuery) -> Result<Summary, Failure> {
        self.with_usage(move |store| metering::summarize(store, &query)).await
    }

    /// Single attempts.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn usage_rows(&self, query: RowQuery) -> Result<Vec<AttemptRecord>, Failure> {
        self.with_usage(move |store| metering::rows(store, &query)).await
    }

    async fn with_usage<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn KeyValue) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (meter, store) = (self.inner.meter.clone(), Arc::clone(&self.inner.store));
        let work = move || {
            if let Err(error) = meter.flush() {
                tracing::warn!(%error, "the newest usage isn't written yet");
            }
            read(&*store)
        };
        blocking(work)
            .await
            .map_err(disk)?
            .map_err(|error| Failure::new(FailureKind::Other, Fault::Host, error.to_string()))
    }

    /// Writes what is still queued. For the end of a program.
    pub async fn flush(&self) {
        let meter = self.inner.meter.clone();
        if let Ok(Err(error)) = blocking(move || meter.flush()).await {
            tracing::error!(%error, "the last usage rows could not be written");
        }
    }

    /// Which credentials the providers use, and where each comes from.
    pub fn keys(&self) -> Vec<KeyStatus> {
        let snapshot = self.snapshot();
        let ready = snapshot.providers.values().filter_map(ProviderState::ready);
        ready.flat_map(|provider| provider.key_status()).collect()
    }

    /// Encrypts and stores a provider's credential, bound to where it may go.
    ///
    /// # Errors
    /// If there is no such provider or field, the vault is sealed, or the disk fails: then nothing
    /// has changed.
    pub async fn set_key(
        &self,
        provider: &str,
        field: Option<&str>,
        secret: SecretString,
        actor: &'static str,
    ) -> Result<Slot, Failure> {
        let slot = self.provider(provider)?.key_slot(field)?;
        let (vault, place) = (self.vault().clone(), slot.clone());
        blocking(move || vault.set(&place, &secret, actor)).await.map_err(disk)??;
        Ok(slot)
    }

    /// Removes a stored credential; false if there was none.
    ///
    /// # Errors
    /// As [`Gateway::set_key`].
    pub async fn remove_key(
        &self,
        provider: &str,
        field: Option<&str>,
        actor: &'static str,
    ) -> Result<bool, Failure> {
        let slot = self.provider(provider)?.key_slot(field)?;
        let vault = self.vault().clone();
        Ok(blocking(move || vault.remove(&slot, actor)).await.map_err(disk)??)
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

fn open_lists(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Provider>> {
    snapshot.providers.values().filter_map(ProviderState::ready).filter(|p| p.models_are_open())
}

/// An exchange that was carried out to be recorded.
pub struct Recorded {
    pub provider: Arc<Provider>,
    pub taped: Taped,
    pub events: Vec<Event>,
    /// The provider's keys. What leaves this program must be searched for them.
    pub secrets: Secrets,
}

/// One answer, as it comes. Dropping it cancels the vendor's request at once and settles the bill
/// with what came.
pub struct Answer {
    pub request: RequestId,
    pub provider: ProviderName,
    /// The model asked of the provider.
    pub model: ModelName,
    /// How many providers were tried, this one included.
    pub attempts: u32,
    first: Option<Vec<Event>>,
    /// Host time before this attempt: the choice, and attempts that failed.
    before: Duration,
    attempt: Attempt,
}

impl Answer {
    /// The events that have arrived together, never an empty list; `None` after the valid end.
    ///
    /// Not to be cancelled halfway: keep the future, or drop the whole answer.
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        match self.first.take() {
            Some(first) if !first.is_empty() => Some(Ok(first)),
            _ => self.attempt.next().await,
        }
    }

    /// Time spent in the host and the sandbox so far, waiting for the vendor not counted.
    pub fn overhead(&self) -> Duration {
        self.before + self.attempt.busy()
    }
}
