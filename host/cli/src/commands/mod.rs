//! One file for each noun of the command line.

mod chat;
mod doctor;
mod key;
mod plugin;
mod privacy;
mod provider;
mod route;
mod serve;
mod table;
mod usage;

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use keyward::{
    egress::SystemDns,
    gateway::{Gateway, Options, Paths},
    sandbox::Worker,
};

use crate::{
    args::{COMPILE_WORKER, Cli, Command, Places},
    client::Client,
};

pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let places = cli.places;
    match cli.command {
        Command::Serve(serve) => serve::serve(&places, serve.listen).await,
        Command::Demo(serve) => serve::demo(&places, serve.listen).await,
        Command::Chat(chat) => chat::chat(&places, chat).await,
        Command::Key(key) => key::key(&places, key).await,
        Command::Plugin(plugin) => plugin::plugin(&places, plugin).await,
        Command::Privacy(privacy) => privacy::privacy(&places, privacy),
        Command::Route(route) => route::route(&places, route).await,
        Command::Provider(provider) => provider::provider(&places, provider).await,
        Command::Usage(usage) => usage::usage(&places, &usage).await,
        Command::Doctor => doctor::doctor(&places).await,
        // Handled before the runtime starts: the worker needs none.
        Command::CompileWorker { .. } => Ok(ExitCode::FAILURE),
    }
}

/// A gateway on these places, in this process.
pub async fn open_gateway(places: &Places, slots: u32) -> anyhow::Result<Gateway> {
    let program = std::env::current_exe().context("can't find this program's own file")?;
    let options = Options {
        paths: Paths {
            config: places.config.clone(),
            plugins: places.plugins.clone(),
            data: places.data.clone(),
        },
        worker: Worker::Child { program, arguments: vec![COMPILE_WORKER.into()] },
        slots,
        dns: Arc::new(SystemDns::default()),
    };
    Ok(Gateway::start(options).await?)
}

/// The running gateway, or one for the moment.
async fn client(places: &Places) -> anyhow::Result<Client> {
    if let Some(client) = Client::running(&places.data).await {
        return Ok(client);
    }
    /// A single command needs few slots; each reserves address space.
    const SLOTS: u32 = 8;
    let gateway = open_gateway(places, SLOTS).await?;
    Ok(Client::Here(Box::new(keyward_server::control::router(gateway))))
}

pub fn print_json(value: &serde_json::Value) {
    println!("{value:#}");
}

/// Text of a stranger's, for a terminal: its lines, without control characters.
pub fn printable(text: &str) -> String {
    table::lines(text)
}
