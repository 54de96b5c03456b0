//! The `keyward` program.
//!
//! It parses the command line, starts logging, and hands over to one file per noun under
//! `commands/`. Commands that read or change something are clients of a gateway (see [`client`]);
//! only `serve` and `demo` are one. This is the program's edge: errors are texts here.

mod allocator;
mod args;
mod client;
mod commands;
mod plugin_build;
mod plugin_new;
mod plugin_record;
mod plugin_test;

use std::{io::IsTerminal, process::ExitCode};

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::CompileWorker { limits } = &cli.command {
        return exit(keyward::sandbox::run_compile_worker(limits));
    }
    start_logging(matches!(cli.command, Command::Serve(_)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("keyward: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn exit(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}

/// Logs go to standard error. `KEYWARD_LOG` sets the level, as `info` or `keyward=debug`; `serve`
/// says what it does unless told otherwise, other commands only what is wrong.
fn start_logging(serving: bool) {
    let default = if serving { "info" } else { "error" };
    let wanted = std::env::var("KEYWARD_LOG").unwrap_or_default();
    // The HTTP/2 library writes a line for each frame at `debug`: a vendor could fill the disk.
    let filter = tracing_subscriber::EnvFilter::try_new(format!("h2=info,{wanted}"))
        .ok()
        .filter(|_| !wanted.is_empty())
        .unwrap_or_else(|| tracing_subscriber::EnvFilter::new(default));
    let json = std::env::var_os("KEYWARD_LOG_JSON").is_some();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json { log.json().init() } else { log.init() }
}
