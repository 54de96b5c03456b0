//! The engines that adapters run on, each with its pool of slots and the clock that interrupts it.
//!
//! Wasmtime knows one stack size for each engine, so adapters with the same stack share one; nearly
//! all have the default. Compiled code fits all of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::{CORE_INSTANCES, DEFAULT_STACK, MEMORIES, TABLE_ELEMENTS, TABLES};
use crate::config::LARGEST_MEMORY;

/// How often running guests are interrupted: the longest a looping adapter holds a thread before
/// its neighbours run. Shorter ticks cost wake-ups, longer ones are felt.
pub const TICK: Duration = Duration::from_millis(2);

/// Idle ticks before the clock's thread goes to sleep. Waking it costs a system call, so it stays
/// awake over the gaps of normal traffic.
const TICKS_BEFORE_SLEEP: u32 = 500;

/// What the host needs of a fiber's stack for a call, on top of the guest's.
const HOST_STACK: usize = 512 * 1024;

/// Stack sizes in use at once. Each takes address space of 4 GiB a slot.
const MAX_STACK_SIZES: usize = 6;

/// Bytes of a memory slot that are wiped by hand instead of being returned to the system. At 0
/// every exchange pays page faults; at 2 MiB it pays for wiping 2 MiB.
const KEEP_RESIDENT: usize = 256 * 1024;

/// Unused slots that keep an adapter's memory, up to [`KEEP_RESIDENT`] each. Wasmtime's default is
/// 100: after many reloads each of them holds pages of some version that is long gone.
const WARM_SLOTS: u32 = 16;

/// How long a request waits for a free slot before it is told that the host is busy.
const SLOT_WAIT: Duration = Duration::from_secs(5);

/// Why there is no engine for an adapter.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An unsupported processor, or too little address space for the pool.
    #[error(
        "the WebAssembly engine can't start: {0}. The pool reserves address space, not memory; check `ulimit -v`"
    )]
    Unusable(String),
    #[error(
        "adapters have {MAX_STACK_SIZES} stack sizes already, the most at once. Give it one that another has: {}",
        sizes(.in_use)
    )]
    StackSizes { in_use: Vec<usize> },
}

fn sizes(bytes: &[usize]) -> String {
    let sizes: Vec<_> = bytes.iter().map(|bytes| format!("{} KiB", bytes / 1024)).collect();
    sizes.join(", ")
}

/// All engines of a host. One per process; clones share it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// That of [`DEFAULT_STACK`].
    usual: Pool,
    slots: u32,
    /// The others, by their stack in bytes, as long as an adapter has them.
    others: Arc<Mutex<BTreeMap<usize, Weak<Engined>>>>,
}

impl Sandbox {
    /// `slots` is how many exchanges can be open at once, streams included; those of an adapter with
    /// several memories count as several. Adapters with another stack than the default have as many
    /// again for each size.
    ///
    /// # Errors
    /// If the engine can't be made on this machine.
    pub fn new(slots: u32) -> Result<Self, EngineError> {
        let slots = slots.max(MEMORIES as u32);
        Ok(Self { usual: Pool::new(slots, DEFAULT_STACK)?, slots, others: Arc::default() })
    }

    /// The engine that compiled code is made for; it fits all others.
    pub(super) fn engine(&self) -> &Engine {
        self.usual.engine()
    }

    /// Where guests with so many bytes of stack run.
    ///
    /// # Errors
    /// If its engine can't be made, or there are [`MAX_STACK_SIZES`] already. Making one takes about a
    /// millisecond.
    pub(super) fn pool(&self, stack: usize) -> Result<Pool, EngineError> {
        if stack == DEFAULT_STACK {
            return Ok(self.usual.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, pool| pool.strong_count() > 0);
        if let Some(pool) = others.get(&stack).and_then(Weak::upgrade) {
            return Ok(Pool(pool));
        }
        if others.len() + 1 >= MAX_STACK_SIZES {
            let in_use = others.keys().copied().chain([DEFAULT_STACK]).collect();
            return Err(EngineError::StackSizes { in_use });
        }
        let pool = Pool::new(self.slots, stack)?;
        others.insert(stack, Arc::downgrade(&pool.0));
        Ok(pool)
    }
}

/// One engine, its slots and its clock. Clones share them; the last one dropped ends them.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Engined>);

#[derive(Debug)]
struct Engined {
    engine: Engine,
    slots: Arc<Semaphore>,
    clock: Arc<Clock>,
}

impl Pool {
    fn new(slots: u32, stack: usize) -> Result<Self, EngineError> {
        let mut config = code_config();
        config.max_wasm_stack(stack).async_stack_size(stack + HOST_STACK);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(slots)
            // Counted, and address space of 160 KB a table.
            .total_core_instances(slots.saturating_mul(CORE_INSTANCES as u32))
            .total_tables(slots.saturating_mul(TABLES as u32))
            // Address space of 4 GiB each, so none in vain: a slot is one memory.
            .total_memories(slots)
            .total_stacks(slots)
            .max_core_instances_per_component(CORE_INSTANCES as u32)
            .max_memories_per_component(MEMORIES as u32)
            .max_tables_per_component(TABLES as u32)
            .max_memories_per_module(1)
            .table_elements(TABLE_ELEMENTS)
            .max_memory_size(LARGEST_MEMORY)
            .max_unused_warm_slots(WARM_SLOTS)
            // Where the kernel tells which pages were written (Linux 6.7), only those are wiped: a
            // slot then keeps what its adapters touch instead of all it may keep.
            .pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(16 * 1024)
            .async_stack_keep_resident(16 * 1024);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let unusable = |why: String| EngineError::Unusable(why);
        let engine = Engine::new(&config).map_err(|e| unusable(format!("{e:#}")))?;
        let clock = Clock::start(&engine).map_err(|e| unusable(format!("no thread: {e}")))?;
        let slots = Arc::new(Semaphore::new(slots as usize));
        Ok(Self(Arc::new(Engined { engine, slots, clock })))
    }

    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// A place in the pool for an instance of so many memories. `None` if none came free in time: a
    /// full pool is an error to wasmtime, so nobody may ask it without one.
    pub async fn slot(&self, memories: u32) -> Option<OwnedSemaphorePermit> {
        let slots = &self.0.slots;
        if let Ok(permit) = Arc::clone(slots).try_acquire_many_owned(memories) {
            return Some(permit);
        }
        let free = Arc::clone(slots).acquire_many_owned(memories);
        tokio::time::timeout(SLOT_WAIT, free).await.ok()?.ok()
    }

    /// Says that guest code runs from now on, so that the clock ticks.
    pub fn running(&self) -> Running {
        self.0.clock.enter()
    }
}

/// The settings that decide what code is generated. The compiling child process uses exactly
/// these, or its output would not load.
pub(super) fn code_config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_relaxed_simd(false)
        .cranelift_nan_canonicalization(false);
    config
}

/// Advances the engine's epoch while guests run, and sleeps while none do.
#[derive(Debug, Default)]
struct Clock {
    /// Guest calls begun, ever; the thread sleeps after a while without a new one.
    calls: AtomicU64,
    /// Guest calls under way.
    running: AtomicU64,
    asleep: AtomicBool,
    wake: (Mutex<()>, Condvar),
}

/// Guest code runs as long as this lives, and the clock ticks for it.
#[derive(Debug)]
pub(super) struct Running(Arc<Clock>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clock {
    fn start(engine: &Engine) -> std::io::Result<Arc<Self>> {
        let clock = Arc::new(Self::default());
        let (engine, weak) = (engine.weak(), Arc::downgrade(&clock));
        let run = move || {
            while let (Some(engine), Some(clock)) = (engine.upgrade(), Weak::upgrade(&weak)) {
                let calls = clock.tick_until_idle(&engine);
                drop(engine);
                clock.sleep(calls);
            }
        };
        std::thread::Builder::new().name("keyward-clock".into()).spawn(run)?;
        Ok(clock)
    }

    /// Returns how many calls had begun when it was found idle.
    fn tick_until_idle(&self, engine: &Engine) -> u64 {
        let (mut seen, mut idle) = (self.calls.load(Ordering::SeqCst), 0);
        while idle < TICKS_BEFORE_SLEEP {
            std::thread::sleep(TICK);
            engine.increment_epoch();
            let calls = self.calls.load(Ordering::SeqCst);
            let quiet = calls == seen && self.running.load(Ordering::SeqCst) == 0;
            idle = if quiet { idle + 1 } else { 0 };
            seen = calls;
        }
        seen
    }

    /// Sleeps until a guest runs, and looks every few seconds whether the engine is still there.
    fn sleep(&self, calls: u64) {
        let guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        // A call that began before `asleep` was seen true is seen here; one after it will notify.
        if self.calls.load(Ordering::SeqCst) == calls {
            let _ = self.wake.1.wait_timeout(guard, Duration::from_secs(5));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            let _guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.1.notify_one();
        }
        Running(Arc::clone(self))
    }
}
