//! The engine all adapters share, its pool of slots, and the clock that interrupts them.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::{CORE_INSTANCES, LARGEST_MEMORY, MEMORIES, TABLE_ELEMENTS, TABLES};

/// How often running guests are interrupted: the longest a looping adapter holds a thread before
/// its neighbours run. Shorter ticks cost wake-ups, longer ones are felt.
pub const TICK: Duration = Duration::from_millis(2);

/// Idle ticks before the clock's thread goes to sleep. Waking it costs a system call, so it stays
/// awake over the gaps of normal traffic.
const TICKS_BEFORE_SLEEP: u32 = 500;

/// Stack of guest code. Adapters link 64 KiB of their own in linear memory; this one holds return
/// addresses and spilled registers.
const WASM_STACK: usize = 512 * 1024;

/// Stack of a fiber: the guest's and what the host needs on top for a call.
const FIBER_STACK: usize = WASM_STACK + 512 * 1024;

/// Bytes of a memory slot that are wiped by hand instead of being returned to the system. At 0
/// every exchange pays page faults; at 2 MiB it pays for wiping 2 MiB.
const KEEP_RESIDENT: usize = 256 * 1024;

/// Unused slots that keep an adapter's memory, up to [`KEEP_RESIDENT`] each. Wasmtime's default is
/// 100: after many reloads each of them holds pages of some version that is long gone.
const WARM_SLOTS: u32 = 16;

/// How long a request waits for a free slot before it is told that the host is busy.
const SLOT_WAIT: Duration = Duration::from_secs(5);

/// What is wrong when the engine can't be made: an unsupported processor, or too little address
/// space for the pool.
#[derive(Debug, thiserror::Error)]
#[error(
    "the WebAssembly engine can't start: {0}. The pool reserves address space, not memory; check `ulimit -v`"
)]
pub struct EngineError(String);

/// The engine, its slots and its clock. One per process; clones share it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    engine: Engine,
    slots: Arc<Semaphore>,
    clock: Arc<Clock>,
}

impl Sandbox {
    /// `slots` is how many exchanges can be open at once, streams included; those of an adapter with
    /// several memories count as several.
    ///
    /// # Errors
    /// If the engine can't be made on this machine.
    pub fn new(slots: u32) -> Result<Self, EngineError> {
        let slots = slots.max(MEMORIES as u32);
        let mut config = code_config();
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
        let engine = Engine::new(&config).map_err(|e| EngineError(format!("{e:#}")))?;
        let clock = Clock::start(&engine).map_err(|e| EngineError(format!("no thread: {e}")))?;
        Ok(Self { engine, slots: Arc::new(Semaphore::new(slots as usize)), clock })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A place in the pool for an instance of so many memories. `None` if none came free in time: a
    /// full pool is an error to wasmtime, so nobody may ask it without one.
    pub(super) async fn slot(&self, memories: u32) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_many_owned(memories) {
            return Some(permit);
        }
        let free = Arc::clone(&self.slots).acquire_many_owned(memories);
        tokio::time::timeout(SLOT_WAIT, free).await.ok()?.ok()
    }

    /// Says that guest code runs from now on, so that the clock ticks.
    pub(super) fn running(&self) -> Running {
        self.clock.enter()
    }

    /// Slots in use now.
    pub fn in_use(&self, slots: u32) -> u32 {
        slots.saturating_sub(self.slots.available_permits() as u32)
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
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
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
