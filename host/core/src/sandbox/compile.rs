//! Turns a component into machine code, in a process of its own.
//!
//! Wasmtime promises that what it runs stays in the sandbox; it makes no promise about how long
//! compiling takes or how much memory. So a component is compiled by a child process with limits
//! on address space and time, which a compile bomb can kill without anyone else noticing. The
//! child is this program again with [`Worker`]'s arguments: it reads a component from its standard
//! input and writes code to its standard output, which is a file of the cache, or the reason why not to its
//! standard error.
//!
//! Bounds: one compilation for each processor at a time, at most
//! [`Limits::compile_time`] of processor time and [`PATIENCE`] times that by the clock, so that a
//! busy machine isn't taken for a compile bomb, [`Limits::compile_memory`] of address space,
//! [`MAX_CODE`] bytes of output. Costs: about 45 ms for a bundled adapter and 30 ms for the
//! process; nothing when the verified cache has it.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, sync::Semaphore};
use wasmtime::{Engine, component::Component};

use super::{Limits, Sandbox, cache::Cache, engine::code_config};
use crate::ids::Digest;

/// Machine code is five to ten times its WebAssembly.
const MAX_CODE: u64 = 512 * 1024 * 1024;

/// How much longer by the clock than by the processor a compilation may take.
const PATIENCE: u32 = 6;

/// How the compiling child is started.
#[derive(Clone, Debug)]
pub enum Worker {
    /// This program with these arguments, which must lead to [`run_compile_worker`].
    Child { program: PathBuf, arguments: Vec<OsString> },
    /// In this process, for embedders whose plugins all come from themselves: size is limited,
    /// time and memory are not.
    InProcess,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CompileError {
    #[error("compiling took longer than {0:?}; the machine may be busy")]
    Time(std::time::Duration),
    #[error(
        "compiling was stopped: {0}. It may need more than `plugins.limits.compile_time` or `compile_memory`"
    )]
    Stopped(String),
    #[error("it doesn't compile: {0}")]
    Invalid(String),
    #[error("the compiling process could not run: {0}")]
    Worker(String),
}

impl CompileError {
    /// True if the same component may compile another time: the machine was at fault.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Time(_) | Self::Worker(_))
    }
}

/// Compiles components and remembers what it compiled.
#[derive(Debug)]
pub struct Compiler {
    sandbox: Sandbox,
    worker: Worker,
    cache: Arc<Cache>,
    turns: Semaphore,
}

impl Compiler {
    /// `cache` is the folder compiled code is kept in; it is made if it isn't there.
    ///
    /// # Errors
    /// If the folder can't be made or read.
    pub fn new(sandbox: Sandbox, worker: Worker, cache: &Path) -> std::io::Result<Self> {
        let cache = Arc::new(Cache::open(cache, sandbox.engine())?);
        // Each has one thread; more than there are processors would only take turns.
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { sandbox, worker, cache, turns: Semaphore::new(turns) })
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The component as code that `engine` can instantiate. `bytes` have passed admission.
    pub(super) async fn compile(
        &self,
        digest: Digest,
        bytes: Arc<[u8]>,
        limits: &Limits,
        engine: &Engine,
    ) -> Result<Component, CompileError> {
        // Never closed, so never an error.
        let _turn = self.turns.acquire().await;
        let (cache, mine) = (Arc::clone(&self.cache), engine.clone());
        let cached = blocking(move || load(&mine, cache.get(&digest)?).ok()).await?;
        if let Some(component) = cached {
            return Ok(component);
        }
        let (cache, engine) = (Arc::clone(&self.cache), engine.clone());
        let worker = |error: std::io::Error| CompileError::Worker(error.to_string());
        let mut code = cache.begin().map_err(worker)?;
        match &self.worker {
            Worker::InProcess => {
                let engine = engine.clone();
                let compiled = blocking(move || engine.precompile_component(&bytes)).await?;
                code.file.write_all(&compiled.map_err(invalid)?).map_err(worker)?;
            }
            Worker::Child { program, arguments } => {
                let output = code.file.try_clone().map_err(worker)?;
                compile_in_child(program, arguments, &bytes, output, limits).await?;
            }
        }
        blocking(move || {
            let code = cache.keep(&digest, code).map_err(worker)?;
            load(&engine, code).map_err(invalid)
        })
        .await?
    }
}

fn invalid(error: wasmtime::Error) -> CompileError {
    CompileError::Invalid(format!("{error:#}"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| CompileError::Worker(e.to_string()))
}

/// Makes code callable.
#[allow(unsafe_code)]
fn load(engine: &Engine, code: File) -> wasmtime::Result<Component> {
    // By its descriptor, so that it is this very file whatever has its name by now.
    let path = format!("/proc/self/fd/{}", code.as_raw_fd());
    // SAFETY: wasmtime asks that the bytes were made by `precompile_component` of the same version
    // and don't change. They come from two places only, both in a folder that only our user may
    // enter: a child process that is this very program wrote them to a file made for it, or a
    // cache entry's MAC, under a key of ours and over the engine's compatibility hash, was verified
    // through this open file. Entries are replaced by renaming, never written to.
    unsafe { Component::deserialize_file(engine, path) }
}

async fn compile_in_child(
    program: &Path,
    arguments: &[OsString],
    bytes: &[u8],
    output: File,
    limits: &Limits,
) -> Result<(), CompileError> {
    let worker = |error: std::io::Error| CompileError::Worker(error.to_string());
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .arg(limits.compile_memory.to_string())
        .arg(limits.compile_time.as_secs().max(1).to_string())
        // Nothing of ours is inherited: variables hold credentials.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(worker)?;
    let (Some(mut stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
        return Err(CompileError::Worker("its pipes are missing".into()));
    };
    let talk = async {
        let mut reason = Vec::new();
        let feed = async {
            // A child that dies early closes the pipe; its status says more than our error.
            let _ = stdin.write_all(bytes).await;
            drop(stdin);
            Ok(())
        };
        let mut stderr = stderr.take(16 * 1024);
        tokio::try_join!(feed, stderr.read_to_end(&mut reason))?;
        std::io::Result::Ok((child.wait().await?, reason))
    };
    let patience = limits.compile_time.saturating_mul(PATIENCE);
    let (status, reason) = tokio::time::timeout(patience, talk)
        .await
        .map_err(|_| CompileError::Time(patience))?
        .map_err(worker)?;
    let reason = String::from_utf8_lossy(&reason).trim().to_owned();
    match status.code() {
        Some(0) => Ok(()),
        Some(INVALID_STATUS) => Err(CompileError::Invalid(reason)),
        _ => Err(CompileError::Stopped(match reason.lines().last() {
            Some(line) => format!("{status}: {line}"),
            None => status.to_string(),
        })),
    }
}

/// The child's exit status for a component that doesn't compile.
const INVALID_STATUS: i32 = 3;

/// What the compiling child does: `arguments` are the two numbers its parent appended, bytes of
/// address space and seconds of processor time. Returns the exit status.
pub fn run_compile_worker(arguments: &[OsString]) -> i32 {
    let number = |at: usize| arguments.get(at).and_then(|a| a.to_str()?.parse::<u64>().ok());
    let (Some(memory), Some(seconds)) = (number(0), number(1)) else {
        eprintln!("usage: the compiling process takes bytes of memory and seconds of time");
        return 2;
    };
    match limit_self(memory, seconds).and_then(|()| {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        Ok(bytes)
    }) {
        Ok(bytes) => match Engine::new(&code_config()).and_then(|e| e.precompile_component(&bytes))
        {
            Ok(code) => match std::io::stdout().write_all(&code) {
                Ok(()) => 0,
                Err(_) => 2,
            },
            Err(error) => {
                eprintln!("{error:#}");
                INVALID_STATUS
            }
        },
        Err(error) => {
            eprintln!("{error}");
            2
        }
    }
}

fn limit_self(memory: u64, seconds: u64) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    for (resource, limit) in [
        (Resource::As, memory),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
        (Resource::Fsize, MAX_CODE),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}
