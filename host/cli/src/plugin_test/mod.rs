//! `keyward plugin test`: recorded vendor exchanges replayed through a component.
//!
//! The recordings are those of the SDK's replay kit, whatever language the component was written
//! in. Each runs in the real sandbox with the host's own framing: with content given and held,
//! with the bytes of its answers cut at every boundary. What the adapter asks for is held against
//! its descriptor; no network is touched.
//!
//! Bounds: the sandbox's usual limits, once for every exchange. Costs about 0.1 ms an exchange in
//! an optimized build; cuts that give the adapter the same steps share one.

mod types;

use std::path::Path;

use keyward::{
    contract as host,
    egress::{Decoder, FrameLimits},
    sandbox::{Instance, Plugin},
};
use keyward_sdk::{
    Descriptor,
    contract::{self as sdk, Context, Frame, Framing, Input, Output},
    replay::{self, Framer, Recording, Running, Target},
};
use serde::Serialize;
use tokio::runtime::Handle;

pub use types::Across;

/// What became of one recording.
#[derive(Debug, Serialize)]
pub struct Report {
    pub recording: String,
    /// Ways in which the answers' bytes were cut.
    pub cuts: usize,
    pub exchanges: usize,
    /// The first difference, if there is one.
    pub problem: Option<String>,
}

/// Replays every recording in `folder` through the component. Blocks; not for async threads.
///
/// # Errors
/// If the recordings can't be read. What differs is in the reports.
pub fn replay(plugin: &Plugin, folder: &Path, runtime: &Handle) -> anyhow::Result<Vec<Report>> {
    let recordings = replay::load_all(folder).map_err(anyhow::Error::msg)?;
    Ok(recordings.iter().map(|recording| report(recording, plugin, runtime)).collect())
}

/// Replays one recording. Blocks; not for async threads.
pub fn report(recording: &Recording, plugin: &Plugin, runtime: &Handle) -> Report {
    let mut target = Sandboxed { plugin, runtime };
    let (replayed, problem) = match replay::check(recording, &mut target, &host_framer) {
        Ok(replayed) => (replayed, None),
        Err(problem) => (replay::Replayed::default(), Some(problem)),
    };
    Report {
        recording: recording.name.clone(),
        cuts: replayed.cuts,
        exchanges: replayed.exchanges,
        problem,
    }
}

struct Sandboxed<'a> {
    plugin: &'a Plugin,
    runtime: &'a Handle,
}

struct SandboxedExchange {
    instance: Instance,
    runtime: Handle,
}

impl Target for Sandboxed<'_> {
    fn describe(&mut self) -> Result<Descriptor, String> {
        Ok(self.plugin.descriptor.clone())
    }

    fn open(
        &mut self,
        operation: sdk::Operation,
        context: Context,
    ) -> Result<Box<dyn Running>, String> {
        let (operation, context): (host::Operation, host::Context) =
            (operation.across(), context.across());
        let instance = self
            .runtime
            .block_on(self.plugin.open(&operation, &context))
            .map_err(|trap| trap.to_string())?;
        Ok(Box::new(SandboxedExchange { instance, runtime: self.runtime.clone() }))
    }
}

impl Running for SandboxedExchange {
    fn step(&mut self, inputs: Vec<Input>) -> Result<Vec<Output>, String> {
        let inputs: Vec<host::Input> = inputs.across();
        let outputs = self.runtime.block_on(self.instance.step(&inputs));
        outputs.map(Across::across).map_err(|trap| trap.to_string())
    }
}

/// The framing of the real egress.
struct HostFramer(Decoder);

#[allow(clippy::unnecessary_wraps, reason = "the kit's own framer can fail here")]
fn host_framer(framing: Framing) -> Result<Box<dyn Framer>, String> {
    Ok(Box::new(HostFramer(Decoder::new(framing.across(), FrameLimits::default()))))
}

impl Framer for HostFramer {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), String> {
        let mut frames = Vec::new();
        let pushed = self.0.push(bytes, &mut frames);
        out.extend(frames.into_iter().map(Across::<Frame>::across));
        pushed.map_err(|error| error.to_string())
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), String> {
        let mut frames = Vec::new();
        let finished = self.0.finish(&mut frames);
        out.extend(frames.into_iter().map(Across::<Frame>::across));
        finished.map_err(|error| error.to_string())
    }
}
