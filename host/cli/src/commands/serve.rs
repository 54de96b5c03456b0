//! `keyward serve` runs the gateway; `keyward demo` shows it to somebody new.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, bail};
use keyward::gateway::{DEFAULT_SLOTS, Gateway};
use keyward_server::{
    access,
    control::{self, ControlSocket},
    serve::{Options, Server},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::args::Places;

pub async fn serve(places: &Places, listen: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    let started = Started::start(places, listen).await?;
    started.run(async |_| Ok(())).await
}

/// Everything from nothing to an answer: adapters, a gateway, one chat through it.
pub async fn demo(places: &Places, listen: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    if let Some(sources) = missing_adapters(&places.plugins) {
        eprintln!("Building the bundled adapters into {}.", places.plugins.display());
        super::plugin::build(&[sources], &places.plugins).await?;
    }
    let started = Started::start(places, listen).await?;
    started.run(async |address: SocketAddr| show(places, address).await).await
}

/// The crates to build, if this is a checkout whose adapters aren't built yet.
fn missing_adapters(plugins: &Path) -> Option<PathBuf> {
    let has_components = std::fs::read_dir(plugins).is_ok_and(|mut entries| {
        entries.any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "wasm")))
    });
    let sources = PathBuf::from("plugins");
    (!has_components && sources.join("demo/Cargo.toml").exists()).then_some(sources)
}

/// One chat over real HTTP, and what to do next.
async fn show(places: &Places, address: SocketAddr) -> anyhow::Result<()> {
    const QUESTION: &str = "What is Keyward?";
    eprintln!("\nAsking the demo adapter, in its sandbox: {QUESTION}\n");
    let asked = Instant::now();
    let chat = crate::args::Chat { model: "demo".into(), text: QUESTION.into() };
    super::chat::chat(places, chat).await?;
    eprintln!("[answered in {:.1} ms]", asked.elapsed().as_secs_f64() * 1e3);
    eprintln!(
        "
The gateway listens on http://{address}. Try, in another terminal:

  curl http://{address}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{\"model\": \"demo\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'

  any OpenAI SDK with base_url=\"http://{address}/v1\"

To use a vendor: set OPENAI_API_KEY or ANTHROPIC_API_KEY before starting, or store a key:

  keyward key init && keyward key set openai

Models and providers are in {}; a saved change is served at once. Ctrl-C stops the gateway.",
        places.config.display()
    );
    Ok(())
}

/// A gateway with its addresses bound, so that whoever connects from now on is served.
struct Started {
    gateway: Gateway,
    server: Server,
    socket: ControlSocket,
}

impl Started {
    async fn start(places: &Places, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let began = Instant::now();
        let gateway = super::open_gateway(places, DEFAULT_SLOTS).await?;
        let config = gateway.snapshot().config.clone();
        let listen = listen.unwrap_or(config.server.listen);
        if !listen.ip().is_loopback() && config.server.tokens.is_empty() {
            bail!(
                "{listen} can be reached from other machines, and no caller tokens are configured: add \
                 `server: {{tokens: [{{name: me, env: KEYWARD_TOKEN}}]}}` to {}, or listen on 127.0.0.1",
                places.config.display()
            );
        }
        let server = Server::bind(listen).with_context(|| {
            format!("can't listen on {listen}; choose another address with --listen")
        })?;
        let socket = ControlSocket::bind(&control::socket_path(&places.data)).await?;
        tracing::info!(ms = began.elapsed().as_millis() as u64, "ready");
        Ok(Self { gateway, server, socket })
    }

    /// Serves until a signal says stop; `meanwhile` runs beside, with the address.
    async fn run(
        self,
        meanwhile: impl AsyncFnOnce(SocketAddr) -> anyhow::Result<()>,
    ) -> anyhow::Result<ExitCode> {
        let Self { gateway, server, socket } = self;
        let address = server.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let options = Options::new(access::configured(gateway.clone()));
        let serving = tokio::spawn(server.run(gateway.clone(), options, until(stopped.clone())));
        let control = tokio::spawn(socket.run(control::router(gateway.clone()), until(stopped)));
        println!("listening on http://{address}");
        let outcome = tokio::select! {
            outcome = async { meanwhile(address).await?; std::future::pending().await } => outcome,
            signal = signalled()? => {
                tracing::info!(signal, "stopping: running answers may finish");
                Ok(())
            }
        };
        stop.send_replace(true);
        let _ = tokio::join!(serving, control);
        gateway.flush().await;
        outcome.map(|()| ExitCode::SUCCESS)
    }
}

/// Waits for SIGINT or SIGTERM and says which came.
fn signalled() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "interrupt",
            _ = terminate.recv() => "terminate",
        }
    })
}
