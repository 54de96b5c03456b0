//! One exchange's instance: a store, an adapter in it, and the `exchange` resource it made.

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{Store, UpdateDeadline};

use super::{
    Limits,
    engine::Pool,
    exports::{Exchange, Exports},
    limits::{Guest, ticks},
    wasi::World,
};
use crate::contract::{Context, Input, Operation, Output};

/// How guest code ended other than by returning. The instance is unusable after any of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trap {
    #[error("it used more processor time than {0} allows")]
    Cpu(&'static str),
    #[error("it made {0} steps, the most one exchange may have")]
    Steps(u64),
    /// A trap: unreachable code, memory out of bounds, stack overflow, a broken promise of the
    /// component model. The text is wasmtime's, without a backtrace.
    #[error("it trapped: {0}")]
    Trapped(String),
    /// Not the adapter's fault: every slot is taken.
    #[error("all sandbox slots are in use")]
    Full,
}

/// The error the epoch callback raises, to be told from other traps.
#[derive(Debug, thiserror::Error)]
#[error("processor time used up ({0})")]
struct OutOfTime(&'static str);

/// A running adapter. Dropping it frees the slot; the adapter isn't told.
pub struct Instance {
    store: Store<Guest>,
    exchange: Exchange,
    pool: Pool,
    step_ticks: u64,
    steps_left: u64,
    steps: u64,
    _slot: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("steps_left", &self.steps_left).finish_non_exhaustive()
    }
}

impl Instance {
    pub(super) async fn open(
        pool: &Pool,
        code: &Exports,
        limits: &Limits,
        operation: &Operation,
        context: &Context,
    ) -> Result<Self, Trap> {
        let slot = pool.slot(code.memories()).await.ok_or(Trap::Full)?;
        let mut store = store(pool, limits, World::new(context.now_ms, context.seed));
        let exchange = guarded(pool, &mut store, async |store: &mut Store<Guest>| {
            code.open(store, operation, context).await
        })
        .await?;
        Ok(Self {
            store,
            exchange,
            pool: pool.clone(),
            step_ticks: ticks(limits.cpu_per_step),
            steps_left: limits.steps,
            steps: limits.steps,
            _slot: slot,
        })
    }

    /// Hands the adapter what has arrived and takes what it has to say.
    ///
    /// # Errors
    /// If it traps or exceeds a limit. Don't call it again then.
    pub async fn step(&mut self, inputs: &[Input]) -> Result<Vec<Output>, Trap> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Trap::Steps(self.steps))?;
        self.store.data_mut().step_ticks = self.step_ticks;
        let exchange = self.exchange;
        guarded(&self.pool, &mut self.store, async |store: &mut Store<Guest>| {
            exchange.step(store, inputs).await
        })
        .await
    }

    /// Bytes of linear memory the adapter has now.
    pub fn memory_used(&self) -> usize {
        self.store.data().memory_used()
    }
}

/// A store with every limit set.
pub(super) fn store(pool: &Pool, limits: &Limits, world: World) -> Store<Guest> {
    let mut store = Store::new(pool.engine(), Guest::new(limits, world));
    store.limiter(|guest| guest);
    store.set_hostcall_fuel(limits.returned_bytes);
    store.set_max_component_handles(limits.handles);
    store.epoch_deadline_callback(|mut store| {
        let guest = store.data_mut();
        if guest.step_ticks == 0 {
            return Err(OutOfTime("`cpu_per_step`").into());
        }
        if guest.exchange_ticks == 0 {
            return Err(OutOfTime("`cpu_per_exchange`").into());
        }
        guest.step_ticks -= 1;
        guest.exchange_ticks -= 1;
        // Let the neighbours run: the deadline counts from the moment this guest runs again.
        Ok(UpdateDeadline::Yield(1))
    });
    store
}

/// Runs guest code with the clock ticking, and sorts out how it ended.
pub(super) async fn guarded<T>(
    pool: &Pool,
    store: &mut Store<Guest>,
    call: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<T>,
) -> Result<T, Trap> {
    let _running = pool.running();
    store.set_epoch_deadline(1);
    call(store).await.map_err(|error| match error.downcast_ref::<OutOfTime>() {
        Some(OutOfTime(limit)) => Trap::Cpu(limit),
        // The root cause alone: a backtrace of a stranger's function names helps nobody.
        None => Trap::Trapped(error.root_cause().to_string()),
    })
}
