//! The real `keyward serve` as a child process, and the rest of its command line.
//!
//! A [`Gateway`] has folders of its own for configuration, plugins and data, keeps everything the
//! program prints, and ends with the test that made it: between the two stands a shell that stops
//! the program as soon as its own input closes, which it does however the test process ends.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use keyward::{
    metering::{self, AttemptRecord, Filter, RowQuery, Span},
    store::{DataDir, SledStore},
};

use super::{
    CANARY, Dice, canary, contains, files_below, http::Caller, keyward, plugins, vendor::Vendor,
};

/// How long the program may take to listen. Compiling adapters for the first time is in it.
const START: Duration = Duration::from_secs(60);

/// Prepares a gateway.
pub struct Setup {
    folder: TempDir,
    token: Option<String>,
    environment: Vec<(String, String)>,
}

/// A gateway that runs.
pub struct Gateway {
    setup: Setup,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    pid: u32,
    shell: Child,
    /// Closing it stops the program.
    leash: Option<ChildStdin>,
    log: Arc<Mutex<String>>,
    /// Ends when the program and all it started have closed their output.
    reader: Option<std::thread::JoinHandle<()>>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// # Panics
    /// If the command failed.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// # Panics
    /// If the command succeeded, or ended by a signal.
    pub fn failed(self) -> Self {
        assert!(self.code > 0, "{self:?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn everything(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

impl Setup {
    /// Folders with this configuration and the named plugins.
    pub fn new(config: &str, adapters: &[&str]) -> Self {
        let setup = Self {
            folder: tempfile::tempdir().unwrap(),
            token: None,
            environment: vec![("KEYWARD_MASTER_KEY".into(), master_key())],
        };
        fs::create_dir(setup.plugins()).unwrap();
        fs::write(setup.config(), config).unwrap();
        for adapter in adapters {
            fs::copy(plugins::component(adapter), setup.plugin(adapter)).unwrap();
        }
        setup
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("providers.yaml")
    }

    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Where the component of an adapter belongs.
    pub fn plugin(&self, adapter: &str) -> PathBuf {
        self.plugins().join(format!("{adapter}.wasm"))
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Sets a variable for the program and its commands.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_master_key(mut self) -> Self {
        self.environment.retain(|(name, _)| name != "KEYWARD_MASTER_KEY");
        self
    }

    /// The token that [`Gateway::caller`] shows.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Stores a key as its owner would.
    pub fn key(self, provider: &str, key: &str) -> Self {
        self.run_with(["key", "set", provider], key).ok();
        self
    }

    /// A `keyward` command on these folders.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.run_with(arguments, "")
    }

    /// Every usage row, read from the store of a gateway that has stopped.
    pub fn rows(&self) -> Vec<AttemptRecord> {
        let store = SledStore::open(&DataDir::open(&self.data()).unwrap()).unwrap();
        let query = RowQuery {
            span: Span::default(),
            filter: Filter::default(),
            limit: usize::MAX,
            newest_first: false,
        };
        metering::rows(&store, &query).unwrap()
    }

    /// A command with something to read.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Ran {
        let mut command = self.command(keyward());
        command.args(arguments).arg("--config").arg(self.config());
        command.arg("--plugins").arg(self.plugins()).arg("--data").arg(self.data());
        run(command, input)
    }

    /// The environment holds what tests give it and nothing of the user's own.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("KEYWARD_LOG", "debug").envs(self.environment.iter().cloned());
        command.current_dir(self.folder.path());
        command
    }

    /// Starts the program and waits until it listens.
    ///
    /// # Panics
    /// If it ends or stays silent instead; [`Self::serve_in_vain`] is for that.
    pub fn start(self) -> Gateway {
        let mut gateway = self.launch();
        let began = Instant::now();
        loop {
            if let Some(url) = gateway.announced() {
                gateway.url = url;
                break;
            }
            let over = gateway.reader.as_ref().is_none_or(std::thread::JoinHandle::is_finished);
            assert!(!over, "keyward serve ended:\n{}", gateway.log());
            assert!(began.elapsed() < START, "no address within {START:?}:\n{}", gateway.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        let healthy = async {
            let caller = gateway.caller();
            super::eventually("a healthy gateway", START, async || {
                (caller.get("/healthz").await.status == 200).then_some(())
            })
            .await;
        };
        super::run(healthy);
        gateway
    }

    /// Starts the program and kills it after so long, wherever it is by then.
    pub fn start_for(self, time: Duration) -> Self {
        let gateway = self.launch();
        std::thread::sleep(time);
        gateway.kill()
    }

    /// Starts a program that is expected to refuse.
    pub fn serve_in_vain(&self) -> Ran {
        self.run(["serve", "--listen", "127.0.0.1:0"])
    }

    fn launch(self) -> Gateway {
        // `exec` leaves the program as the only holder of the pipe, so its end is the pipe's end.
        const KEEPER: &str = r#"
            "$@" </dev/null & child=$!
            echo "pid $child"
            exec >/dev/null 2>&1
            cat
            kill -TERM "$child"
            wait "$child"
        "#;
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", KEEPER, "sh"]).arg(keyward());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--config").arg(self.config());
        command.arg("--plugins").arg(self.plugins()).arg("--data").arg(self.data());
        command.stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut shell = command.spawn().unwrap();
        // The command holds two ends of the pipe that nobody will write to.
        drop(command);
        let leash = shell.stdin.take();
        let mut reader = BufReader::new(reader);
        let log = Arc::new(Mutex::new(String::new()));
        let mut pid = None;
        while pid.is_none() {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the shell ended: {line}");
            pid = line.strip_prefix("pid ").and_then(|pid| pid.trim().parse().ok());
            if pid.is_none() {
                log.lock().unwrap().push_str(&line);
            }
        }
        let pid = pid.unwrap();
        let written = log.clone();
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Gateway { setup: self, url: String::new(), pid, shell, leash, log, reader: Some(reader) }
    }
}

impl Gateway {
    fn announced(&self) -> Option<String> {
        let log = self.log.lock().unwrap();
        let at = log.find("http://127.0.0.1:")?;
        let rest = &log[at..];
        let end = rest.find(char::is_whitespace)?;
        let url = rest[..end].trim_end_matches(['/', '.', '"']);
        // The port must be there in full.
        url.rsplit(':').next()?.parse::<u16>().ok()?;
        Some(url.to_owned())
    }

    /// Everything printed so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// As [`Self::log`], and forgets it, for tests that last.
    pub fn take_log(&self) -> String {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A caller with this gateway's token, if it has one.
    pub fn caller(&self) -> Caller {
        Caller::new(&self.url, self.setup.token.as_deref())
    }

    /// A caller with another token, or none.
    pub fn stranger(&self, token: Option<&str>) -> Caller {
        Caller::new(&self.url, token)
    }

    /// A command on the folders of this gateway, while it runs.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.setup.run(arguments)
    }

    /// Replaces the configuration in one step, as careful editors do.
    pub fn configure(&self, config: &str) {
        let new = self.setup.folder.path().join("providers.yaml.new");
        fs::write(&new, config).unwrap();
        fs::rename(&new, self.setup.config()).unwrap();
    }

    /// Puts a component into the plugins folder in one step.
    pub fn install(&self, adapter: &str, component: &[u8]) {
        let new = self.setup.folder.path().join(format!("{adapter}.new"));
        fs::write(&new, component).unwrap();
        fs::rename(&new, self.setup.plugin(adapter)).unwrap();
    }

    /// Resident memory of the program, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory since [`Self::forget_peak`], in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    pub fn forget_peak(&self) {
        // What 5 does is in proc(5).
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1024
    }

    /// How many files and connections the program has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// How many compiled adapters the program has mapped for execution.
    pub fn compiled_code_mapped(&self) -> usize {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap();
        maps.lines().filter(|line| line.contains("r-x") && line.contains("/compiled/")).count()
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the program without warning.
    pub fn kill(mut self) -> Setup {
        self.kill_now();
        self.end();
        self.into_setup()
    }

    /// As [`Self::kill`], for when someone still looks at what is left.
    pub fn kill_now(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// Stops the program in order and returns its folders, for another start.
    pub fn stop(mut self) -> Setup {
        self.end();
        self.into_setup()
    }

    fn end(&mut self) {
        drop(self.leash.take());
        let _ = self.shell.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    fn into_setup(mut self) -> Setup {
        let empty =
            Setup { folder: tempfile::tempdir().unwrap(), token: None, environment: Vec::new() };
        std::mem::replace(&mut self.setup, empty)
    }

    /// Where a canary of any provider stands in the data folder or the log: nowhere, that is.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for file in files_below(&self.setup.data()) {
            if let Some(form) = leak(&fs::read(&file).unwrap_or_default()) {
                leaks.push(format!("{} ({form})", file.display()));
            }
        }
        for line in self.log().lines() {
            if let Some(form) = leak(line.as_bytes()) {
                leaks.push(format!("log ({form}): {line}"));
            }
        }
        leaks
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            eprintln!("--- the end of the log of {}\n{}", self.url, &log[from..]);
        }
    }
}

/// In which form a canary stands in these bytes, if it does: as it is, in base64 or in hex.
pub fn leak(bytes: &[u8]) -> Option<&'static str> {
    use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
    static FORMS: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    let forms = FORMS.get_or_init(|| {
        let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms =
            vec![("as it is", CANARY.as_bytes().to_vec()), ("in hex", hex.into_bytes())];
        // Base64 has three alignments; the letters that hang on the neighbours are left out.
        for shift in 0..3_usize {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(CANARY.as_bytes());
            let text = STANDARD_NO_PAD.encode(&shifted);
            let from = shift * 8 / 6 + usize::from(shift > 0);
            forms.push(("in base64", text.as_bytes()[from..text.len() - 1].to_vec()));
        }
        forms
    });
    forms.iter().find(|(_, form)| contains(bytes, form)).map(|(name, _)| *name)
}

/// The master key that tests use.
pub fn master_key() -> String {
    let mut dice = Dice::new("master key");
    (0..4).map(|_| format!("{:016x}", dice.roll())).collect()
}

/// Runs a command to its end, at most a minute.
pub fn run(mut command: Command, input: &str) -> Ran {
    let patience = Duration::from_secs(60);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that doesn't read may be gone before this is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > patience {
            let _ = child.kill();
            panic!("{command:?} has not ended within {patience:?}: {}", err.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ran { code: status.code().unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() }
}

// ------------------------------------------------------------------ the shared one

/// All three vendors and a gateway before them, for tests that leave it as it was.
pub struct World {
    pub openai: Vendor,
    pub anthropic: Vendor,
    pub ollama: Vendor,
    pub gateway: Gateway,
}

/// The token of the shared gateway's caller.
pub const TOKEN: &str = "caller-token-of-the-tests-0123456789";

impl World {
    /// The world that tests share. It ends with the test process.
    pub fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| Self::new(""))
    }

    /// A world of one's own, with `more` at the end of its configuration.
    pub fn new(more: &str) -> Self {
        let openai = Vendor::openai(&canary("openai"));
        let anthropic = Vendor::anthropic(&canary("anthropic"));
        let ollama = Vendor::ollama("");
        let config = config(&openai, &anthropic, &ollama, more);
        let gateway = Setup::new(&config, &["demo", "openai", "anthropic", "ollama", "hostile"])
            .token(TOKEN)
            .variable("KEYWARD_TEST_TOKEN", TOKEN)
            .key("openai", &openai.key)
            .key("anthropic", &anthropic.key)
            .key("hostile", &openai.key)
            .start();
        Self { openai, anthropic, ollama, gateway }
    }

    pub fn caller(&self) -> Caller {
        self.gateway.caller()
    }

    /// The vendor behind a provider.
    pub fn vendor(&self, provider: &str) -> &Vendor {
        match provider {
            "openai" | "hostile" => &self.openai,
            "anthropic" => &self.anthropic,
            "ollama" => &self.ollama,
            other => panic!("no vendor speaks for '{other}'"),
        }
    }
}

/// A configuration for these vendors, one caller's token, and the hostile adapter before OpenAI's
/// vendor.
pub fn config(openai: &Vendor, anthropic: &Vendor, ollama: &Vendor, more: &str) -> String {
    format!(
        "providers:
  demo:
  openai:
    kind: local
    endpoint: {}/v1
    models: [gpt-4.1, gpt-4.1-mini, text-embedding-3-small]
  anthropic:
    kind: local
    endpoint: {}
    models: [claude-opus-4-5]
  ollama:
    endpoint: {}
    models: [\"llama3.2:latest\"]
  hostile:
    kind: local
    endpoints: {{api: \"{}/v1\", second: \"{}\"}}
    models: [nothing]
server:
  tokens:
    - {{name: tests, env: KEYWARD_TEST_TOKEN}}
plugins:
  overrides:
    # By default an adapter may poll its vendor for long; a test can't wait for that.
    hostile: {{steps: 200}}
# What single attempts do is looked at here; of many, the tests of routing.
routing: {{attempts: 1}}
health: {{enabled: false}}
{more}",
        openai.url(),
        anthropic.url(),
        ollama.url(),
        openai.url(),
        ollama.url(),
    )
}
