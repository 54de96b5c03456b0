//! A component that has passed every check and can be instantiated.

use std::sync::Arc;

use keyward_contract::{Descriptor, OperationKind};
use wasmtime::Store;

use super::{
    CompileError, Compiler, EngineError, Instance, Limits, Trap,
    admission::{self, Refusal},
    engine::Pool,
    exports::{Exports, Unchecked},
    limits::Guest,
    wasi::World,
};
use crate::{
    contract,
    egress::{BadHeaderRule, RequestHeaders, ResponseHeaders},
    ids::{AdapterName, Digest},
};

/// Why a component can't be loaded, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("its types don't fit the contract: {0}. Rebuild it with the SDK of this version")]
    Types(String),
    #[error("`describe` failed: {0}")]
    Describe(#[from] Trap),
    #[error("its descriptor isn't usable: {0}")]
    Descriptor(String),
}

impl LoadError {
    /// True if the same bytes may load another time.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Compile(error) => error.is_passing(),
            Self::Describe(trap) => *trap == Trap::Full,
            // Another adapter may give its stack size up.
            Self::Engine(_) => true,
            Self::Refused(_) | Self::Types(_) | Self::Descriptor(_) => false,
        }
    }
}

/// The longest descriptor, in bytes of JSON: a catalog of a thousand models fits.
const MAX_DESCRIPTOR: usize = 512 * 1024;

/// A loaded adapter. Exchanges hold it by `Arc`, so its code is freed when the last one that runs
/// on it has ended.
pub struct Plugin {
    pub name: AdapterName,
    pub digest: Digest,
    pub descriptor: Descriptor,
    /// The component's file, in bytes.
    pub size: u64,
    /// It imports WASI, which was granted, and sees an empty world.
    pub wasi: bool,
    /// What it may set and see, as its descriptor asks and the host allows.
    pub request_headers: RequestHeaders,
    pub response_headers: ResponseHeaders,
    limits: Limits,
    pool: Pool,
    code: Exports,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({} {})", self.name, self.digest)
    }
}

impl Plugin {
    /// Checks, compiles and describes the component in `bytes`.
    ///
    /// # Errors
    /// If any step refuses it; nothing of it is kept then.
    pub async fn load(
        compiler: &Compiler,
        bytes: Arc<[u8]>,
        limits: &Limits,
    ) -> Result<Self, LoadError> {
        let size = bytes.len() as u64;
        if bytes.len() > limits.component_size {
            return Err(Refusal::TooLarge { size, limit: limits.component_size }.into());
        }
        let digest = Digest::of(&bytes);
        let examined = admission::examine(&bytes, limits.wasi)?;
        let pool = compiler.sandbox().pool(limits.stack)?;
        let component = compiler.compile(digest, bytes, limits, pool.engine()).await?;
        let unchecked = Unchecked::new(&component).map_err(unfit_types)?;
        let (code, document) = describe(&pool, unchecked, &limits.for_describe()).await?;
        let (name, descriptor) = read_descriptor(&document).map_err(LoadError::Descriptor)?;
        let unfit = |rule: BadHeaderRule| LoadError::Descriptor(rule.to_string());
        Ok(Self {
            name,
            digest,
            size,
            wasi: examined.wasi,
            request_headers: RequestHeaders::new(&descriptor.request_headers).map_err(unfit)?,
            response_headers: ResponseHeaders::new(&descriptor.response_headers).map_err(unfit)?,
            descriptor,
            limits: limits.clone(),
            pool,
            code,
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn can(&self, operation: OperationKind) -> bool {
        self.descriptor.operations.contains(&operation)
    }

    /// Begins an exchange in a fresh instance.
    ///
    /// # Errors
    /// If no slot is free, or the adapter traps or exceeds a limit.
    pub async fn open(
        &self,
        operation: &contract::Operation,
        context: &contract::Context,
    ) -> Result<Instance, Trap> {
        Instance::open(&self.pool, &self.code, &self.limits, operation, context).await
    }
}

fn unfit_types(error: wasmtime::Error) -> LoadError {
    LoadError::Types(format!("{error:#}"))
}

/// Checks the component's functions in an instance that also describes it.
async fn describe(
    pool: &Pool,
    unchecked: Unchecked,
    limits: &Limits,
) -> Result<(Exports, String), LoadError> {
    let _slot = pool.slot(unchecked.memories()).await.ok_or(Trap::Full)?;
    // What an adapter says of itself doesn't hang on the time or on chance.
    let mut store = super::instance::store(pool, limits, World::new(0, 0));
    let checked = super::instance::guarded(pool, &mut store, async |store: &mut Store<Guest>| {
        let instance = unchecked.instantiate(store).await?;
        // A type that doesn't fit is no trap: it comes out as a value.
        match unchecked.check(store, &instance).await {
            Ok((exports, document)) => Ok(Ok((exports, document?))),
            Err(unfit) => Ok(Err(unfit)),
        }
    });
    checked.await?.map_err(unfit_types)
}

/// Parses and checks what the adapter says of itself.
fn read_descriptor(document: &str) -> Result<(AdapterName, Descriptor), String> {
    if document.len() > MAX_DESCRIPTOR {
        return Err(format!("it has {} bytes, at most {MAX_DESCRIPTOR} are read", document.len()));
    }
    let descriptor: Descriptor = serde_json::from_str(document).map_err(|e| e.to_string())?;
    let name = AdapterName::new(&descriptor.name).map_err(|e| format!("`name`: {e}"))?;
    let mut origins = std::collections::HashSet::new();
    for origin in &descriptor.origins {
        if !origins.insert(origin.name.as_str()) {
            return Err(format!("`origins` names '{}' twice", origin.name));
        }
        if let Some(base) = &origin.base_url {
            url::Url::parse(base)
                .map_err(|e| format!("origin '{}': `base_url`: {e}", origin.name))?;
        }
    }
    let mut authenticated = std::collections::HashSet::new();
    for auth in &descriptor.auth {
        if !origins.contains(auth.origin.as_str()) {
            return Err(format!("`auth` names the origin '{}', which isn't listed", auth.origin));
        }
        if !authenticated.insert(auth.origin.as_str()) {
            return Err(format!("`auth` has two entries for the origin '{}'", auth.origin));
        }
        if !descriptor.credentials.iter().any(|c| c.name == auth.credential) {
            return Err(format!(
                "`auth` names the credential '{}', which isn't listed",
                auth.credential
            ));
        }
    }
    Ok((name, descriptor))
}
