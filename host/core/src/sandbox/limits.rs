//! What an adapter may use. Every limit has a default with a reason and can be configured.

use std::{path::Path, time::Duration};

use wasmtime::ResourceLimiter;

use super::{engine::TICK, wasi::World};
use crate::{
    config::{ByteSize, LARGEST_MEMORY, PluginGrant, Plugins, STACKS, SandboxLimits},
    ids::AdapterName,
};

/// Limits of one adapter. `providers.yaml` overrides them under `plugins:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// All linear memories of an instance together, in bytes. A request of some hundred KB and
    /// its answer fit many times over; a 16 MiB frame of embeddings still does.
    pub memory: usize,
    /// Stack of guest code, in bytes: return addresses and spilled registers. What an adapter takes
    /// the address of lies on a stack of its own in linear memory, 64 KiB as bundled ones link it.
    pub stack: usize,
    /// Guest CPU time of one `step`. Building a request takes 0.05 ms.
    pub cpu_per_step: Duration,
    /// Guest CPU time of a whole exchange: a stream of a million events takes about 5 s.
    pub cpu_per_exchange: Duration,
    /// Bytes one call may hand to the host, lists and strings counted as the host holds them.
    pub returned_bytes: usize,
    /// Resource handles alive at once. An exchange needs one.
    pub handles: usize,
    /// Calls of `step` in one exchange.
    pub steps: u64,
    /// Outputs between two pieces of a vendor's answer: a list of ten thousand models fits.
    pub outputs: usize,
    /// Waits one exchange may ask for: a vendor polled every five seconds for ten minutes.
    pub sleeps: u32,
    /// Requests to the vendor in one exchange: uploads, pages and polls included.
    pub requests: u32,
    /// The component's file, in bytes. Bundled adapters have 60 to 200 KB; a JavaScript engine in
    /// a component has 10 MB.
    pub component_size: usize,
    /// Processor time of compiling it.
    pub compile_time: Duration,
    /// Address space of the process that compiles it, in bytes.
    pub compile_memory: u64,
    /// Whether it may import WASI, and then see an empty world.
    pub wasi: bool,
}

/// The stack of adapters for which nothing else is configured.
pub const DEFAULT_STACK: usize = 512 * 1024;

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            memory: 64 * MIB,
            stack: DEFAULT_STACK,
            cpu_per_step: Duration::from_millis(200),
            cpu_per_exchange: Duration::from_secs(10),
            returned_bytes: 8 * MIB,
            handles: 64,
            steps: 2_000_000,
            outputs: 16_384,
            sleeps: 120,
            requests: 200,
            component_size: 32 * MIB,
            compile_time: Duration::from_secs(10),
            compile_memory: 2048 * MIB as u64,
            wasi: false,
        }
    }
}

impl Limits {
    /// What the configuration says for a component file: the defaults, then `plugins.limits`, then
    /// `plugins.overrides` and `plugins.grants` for the adapter that the file is named after.
    pub fn of(plugins: &Plugins, file: &Path) -> Self {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match AdapterName::new(stem) {
            Ok(name) => Self {
                wasi: plugins.grants_of(&name).contains(&PluginGrant::Wasi),
                ..Self::configured(&plugins.limits_of(&name))
            },
            Err(_) => Self::configured(&plugins.limits),
        }
    }

    /// The defaults, with what the configuration gives in their place.
    pub fn configured(given: &SandboxLimits) -> Self {
        let usual = Self::default();
        let size = |given: Option<ByteSize>, usual: usize| {
            given.map_or(usual, |size| usize::try_from(size.0).unwrap_or(usize::MAX))
        };
        Self {
            memory: size(given.memory, usual.memory).min(LARGEST_MEMORY),
            stack: size(given.stack, usual.stack).clamp(*STACKS.start(), *STACKS.end()),
            cpu_per_step: given.cpu.unwrap_or(usual.cpu_per_step),
            cpu_per_exchange: given.exchange_cpu.unwrap_or(usual.cpu_per_exchange),
            returned_bytes: size(given.output, usual.returned_bytes),
            handles: given.handles.map_or(usual.handles, |n| n as usize),
            steps: given.steps.map_or(usual.steps, u64::from),
            requests: given.requests.unwrap_or(usual.requests),
            sleeps: given.waits.unwrap_or(usual.sleeps),
            outputs: given.outputs.map_or(usual.outputs, |n| n as usize),
            component_size: size(given.component_size, usual.component_size),
            compile_time: given.compile_time.unwrap_or(usual.compile_time),
            compile_memory: given.compile_memory.map_or(usual.compile_memory, |size| size.0),
            wasi: usual.wasi,
        }
    }

    /// Tighter limits for `describe`, which only returns a document.
    pub fn for_describe(&self) -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            memory: self.memory.min(32 * MIB),
            cpu_per_step: self.cpu_per_step.min(Duration::from_millis(100)),
            cpu_per_exchange: self.cpu_per_exchange.min(Duration::from_millis(200)),
            returned_bytes: self.returned_bytes.min(MIB),
            ..self.clone()
        }
    }
}

/// What a store carries: the limiter that sums memory, the account of CPU time, and what a component
/// that was granted WASI sees of the world.
///
/// Wasmtime's own `StoreLimits` bounds each memory by itself; a component may have many, so this
/// one sums them.
#[derive(Debug)]
pub struct Guest {
    memory_limit: usize,
    memory_used: usize,
    /// Ticks this step may still use.
    pub step_ticks: u64,
    /// Ticks the exchange may still use.
    pub exchange_ticks: u64,
    pub world: World,
}

/// Memories, tables and core instances one adapter may have. wit-component makes one of each and
/// two small core instances for adapters' shims. A language's runtime is linked of several modules:
/// QuickJS takes 3 memories, 3 tables and 11 instances, CPython 1, 2 and 38.
pub const MEMORIES: usize = 4;
pub const TABLES: usize = 4;
pub const CORE_INSTANCES: usize = 48;
/// Elements of a table: one per function whose address is taken.
pub const TABLE_ELEMENTS: usize = 20_000;

pub fn ticks(time: Duration) -> u64 {
    (time.as_nanos() / TICK.as_nanos()).max(1) as u64
}

impl Guest {
    pub fn new(limits: &Limits, world: World) -> Self {
        Self {
            memory_limit: limits.memory,
            memory_used: 0,
            step_ticks: ticks(limits.cpu_per_step),
            exchange_ticks: ticks(limits.cpu_per_exchange),
            world,
        }
    }

    pub fn memory_used(&self) -> usize {
        self.memory_used
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let after = self.memory_used.saturating_add(desired.saturating_sub(current));
        let fits = after <= self.memory_limit;
        if fits {
            self.memory_used = after;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_configured() {
        let given = SandboxLimits {
            memory: Some(ByteSize(1)),
            stack: Some(ByteSize(1 << 20)),
            cpu: Some(Duration::from_secs(2)),
            exchange_cpu: Some(Duration::from_secs(3)),
            output: Some(ByteSize(4)),
            handles: Some(5),
            steps: Some(6),
            requests: Some(7),
            waits: Some(8),
            outputs: Some(9),
            component_size: Some(ByteSize(10)),
            compile_time: Some(Duration::from_secs(11)),
            compile_memory: Some(ByteSize(12)),
        };
        let expected = Limits {
            memory: 1,
            stack: 1 << 20,
            cpu_per_step: Duration::from_secs(2),
            cpu_per_exchange: Duration::from_secs(3),
            returned_bytes: 4,
            handles: 5,
            steps: 6,
            requests: 7,
            sleeps: 8,
            outputs: 9,
            component_size: 10,
            compile_time: Duration::from_secs(11),
            compile_memory: 12,
            wasi: false,
        };
        assert_eq!(Limits::configured(&given), expected);
        assert_eq!(Limits::configured(&SandboxLimits::default()), Limits::default());
    }

    #[test]
    fn memories_are_limited_in_sum_not_one_by_one() {
        let limits = Limits { memory: 100, ..Limits::default() };
        let mut guest = Guest::new(&limits, World::new(0, 0));
        assert!(guest.memory_growing(0, 60, None).unwrap());
        assert!(!guest.memory_growing(0, 60, None).unwrap(), "a second memory of 60 exceeds 100");
        assert!(guest.memory_growing(60, 100, None).unwrap(), "the first may still grow");
        assert!(!guest.memory_growing(0, 1, None).unwrap());
    }
}
