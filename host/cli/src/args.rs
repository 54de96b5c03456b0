//! The command line: nouns, verbs and the options they share.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// AI vendors as sandboxed plugins: a gateway, its keys, its adapters, its usage.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub places: Places,
    #[command(subcommand)]
    pub command: Command,
}

/// Where Keyward finds its files. The same on every noun.
#[derive(Clone, Debug, Args)]
pub struct Places {
    /// The configuration
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "KEYWARD_CONFIG",
        default_value = "providers.yaml"
    )]
    pub config: PathBuf,
    /// The folder adapters are dropped into
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "KEYWARD_PLUGINS",
        default_value = "plugins"
    )]
    pub plugins: PathBuf,
    /// Keys, usage and compiled code. One process at a time owns it
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "KEYWARD_DATA",
        default_value = ".keyward"
    )]
    pub data: PathBuf,
    /// Print JSON instead of text, on whatever reads
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Build the bundled adapters if needed, run the gateway, and show one chat through it
    Demo(Serve),
    /// Send one message and stream the answer
    Chat(Chat),
    /// Vendors' API keys: set, list, test, remove. A stored key can't be read back
    #[command(subcommand)]
    Key(Key),
    /// Adapters: make, build, check, test, record, list, inspect
    #[command(subcommand)]
    Plugin(Plugin),
    /// Where requests go, and why
    #[command(subcommand)]
    Route(Route),
    /// How providers fare: list them, take one out of use, put it back
    #[command(subcommand)]
    Provider(Provider),
    /// What was used, by provider, model or caller
    Usage(Usage),
    /// What makes a request sensitive: try it on a text
    #[command(subcommand)]
    Privacy(Privacy),
    /// Look for what is wrong, and say what to do about it
    Doctor,
    /// The process that compiles adapters; started by the gateway itself
    #[command(hide = true, name = COMPILE_WORKER)]
    CompileWorker { limits: Vec<std::ffi::OsString> },
}

/// The hidden command behind [`Command::CompileWorker`].
pub const COMPILE_WORKER: &str = "compile-worker";

#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// The address to listen on, instead of `server.listen`. Port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "KEYWARD_LISTEN")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct Chat {
    /// A model, or provider/model
    #[arg(short, long, default_value = "demo")]
    pub model: String,
    /// The message; `-` reads it from standard input
    pub text: String,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a master key file, which encrypts all stored keys. Keep a copy of it elsewhere
    Init {
        /// Where to write it, instead of master.key in the data folder
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Store a provider's key: asked for, or read from standard input when that isn't a terminal
    Set {
        provider: String,
        /// Which of the provider's secrets, where it has more than one
        #[arg(long)]
        field: Option<String>,
        /// Refused, without being shown: a key on the command line stays in its history
        #[arg(hide = true)]
        misplaced: Option<String>,
    },
    /// Show which keys are there, where they come from and where they may go
    List,
    /// See whether a provider accepts its key, by a request that costs nothing
    Test { provider: String },
    /// Forget a stored key
    Rm {
        provider: String,
        #[arg(long)]
        field: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// Make a crate for a new adapter, whose tests pass at once
    New(New),
    /// Build adapter crates into components
    Build {
        /// Crate folders, or modules that other languages' compilers made; all bundled adapters if
        /// none is named
        crates: Vec<PathBuf>,
        /// Where the components go, instead of the plugins folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// See whether component files would be loaded, and why not
    Check { files: Vec<PathBuf> },
    /// Replay recorded vendor exchanges through a component, their bytes cut at every boundary
    Test {
        /// An adapter crate (it is built first), a component file, or the name of one in the
        /// plugins folder
        adapter: String,
        /// The folder of recordings, instead of `recordings` in the crate
        #[arg(long, value_name = "DIR")]
        recordings: Option<PathBuf>,
    },
    /// Make one real call through an adapter and keep it as a recording, without keys and
    /// personal data. Costs what the call costs
    Record(Record),
    /// Show the adapters in the plugins folder
    List,
    /// Show everything about one adapter: imports, origins, scheme, digest, sizes
    Inspect {
        /// An adapter's name, or a component file
        plugin: String,
    },
}

/// What the vendor of a new adapter looks like. What isn't given is asked for on a terminal.
#[derive(Debug, Args)]
pub struct New {
    /// The adapter's name: lower-case letters, digits and hyphens
    pub name: String,
    /// The folder to make, instead of one of the adapter's name here
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// `openai` for a vendor that copied OpenAI's requests and answers, `own` for any other
    #[arg(long)]
    pub shape: Option<Shape>,
    /// How a vendor of its own shape streams
    #[arg(long)]
    pub stream: Option<Streaming>,
    /// The vendor's base URL, to which paths are added
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// How the host authenticates: bearer, header:NAME, query:NAME or none
    #[arg(long)]
    pub auth: Option<String>,
    /// Where the vendor runs
    #[arg(long)]
    pub kind: Option<Where>,
    /// The folder of the crate keyward-sdk, instead of the published crate of this version (or of
    /// the sources that this program was built from, if they are there)
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
    /// Ask nothing, take defaults
    #[arg(long)]
    pub yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    Openai,
    Own,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Streaming {
    Sse,
    Ndjson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Where {
    Local,
    External,
}

#[derive(Debug, Args)]
pub struct Record {
    /// A provider of the configuration
    pub provider: String,
    /// What to ask for
    #[arg(long, value_enum, default_value = "chat")]
    pub operation: RecordedOperation,
    /// What to say or to embed; it stands in the recording. A harmless sentence if left out
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// The model, instead of the first one listed
    #[arg(short, long)]
    pub model: Option<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordedOperation {
    Chat,
    Stream,
    Embed,
    Models,
    Probe,
}

#[derive(Debug, Subcommand)]
pub enum Privacy {
    /// Show what is found in a text by the rules of the configuration. Exits with 0 if nothing is,
    /// with 3 if something is
    Test {
        /// The text; `-` reads it from standard input
        text: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Route {
    /// Say where a request went, or would go: who may serve it, in which order, and who not
    Explain(Explain),
    /// Show the configured routes, and whether each is in force
    List,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// A request's id, as the answer's x-request-id says. Without it, one that you have in mind
    pub request: Option<String>,
    /// The model, route or provider/model that it would name; auto unless given
    #[arg(short, long)]
    pub model: Option<String>,
    /// What it would say; detectors of sensitive data look at it
    #[arg(long, value_name = "TEXT", default_value = "Hello")]
    pub text: String,
    /// It would be marked as sensitive
    #[arg(long)]
    pub sensitive: bool,
    /// It would ask for a stream
    #[arg(long, conflicts_with = "embed")]
    pub stream: bool,
    /// It would ask for the embedding of the text, instead of an answer to it
    #[arg(long)]
    pub embed: bool,
}

#[derive(Debug, Subcommand)]
pub enum Provider {
    /// Show how providers fare, with their limits and what of them is in use
    List,
    /// Send nothing to a provider, until it is enabled. Kept over restarts
    Disable { name: String },
    /// Use a provider as its health says
    Enable { name: String },
    /// Use a provider whatever its health says
    Force { name: String },
}

#[derive(Debug, Args)]
pub struct Usage {
    /// How far back, as 24h, 7d or 90m
    #[arg(long, default_value = "30d")]
    pub since: String,
    /// Group by
    #[arg(long, value_parser = ["provider", "model", "caller"], default_value = "provider")]
    pub by: String,
    /// Show single attempts instead of sums, newest first
    #[arg(long)]
    pub rows: bool,
    /// At most so many rows
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}
