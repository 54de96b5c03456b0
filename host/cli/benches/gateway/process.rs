//! Servers as processes: started, pinned to a processor, measured, ended with their handle.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The processor servers run on; everything else runs on the other.
const SERVER_CPU: &str = "0";
const OTHER_CPU: &str = "1";

pub struct Server {
    child: Child,
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program that prints `listening on http://ADDRESS` when it is ready.
    fn start(cpu: &str, program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new("taskset")
            .args(["-c", cpu])
            .arg(program)
            .args(arguments)
            .env("KEYWARD_LOG", "error")
            .env("OPENAI_API_KEY", "sk-canary-openai-00000000000000000000000000000000")
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset and the program can be started");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        assert!(address.contains(':'), "{} said {line:?}", program.display());
        Self { child, address }
    }

    /// Processor time of all its threads, as the scheduler counts it.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = |entry: fs::DirEntry| -> Option<u64> {
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(tasks.flatten().filter_map(nanos).sum())
    }

    /// Resident memory in KB.
    pub fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Folders and adapters for the servers of one run.
pub struct Setup {
    dir: tempfile::TempDir,
    plugins: PathBuf,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = match std::env::var_os("KEYWARD_BENCH_PLUGINS") {
            Some(path) => path.into(),
            None => {
                let out = dir.path().join("plugins");
                let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
                let built = Command::new(env!("CARGO_BIN_EXE_keyward"))
                    .args(["plugin", "build"])
                    .arg(sources)
                    .arg("--out")
                    .arg(&out)
                    .status();
                assert!(built.is_ok_and(|status| status.success()), "the adapters don't build");
                out
            }
        };
        Self { dir, plugins }
    }

    pub fn vendor(&self) -> Server {
        Server::start(OTHER_CPU, &std::env::current_exe().unwrap(), &["vendor"])
    }

    pub fn forwarder(&self, vendor: &Server) -> Server {
        let program = std::env::current_exe().unwrap();
        Server::start(SERVER_CPU, &program, &["forwarder", &vendor.address])
    }

    /// A gateway whose provider `openai` is the vendor. `fresh` begins with an empty data folder.
    pub fn keyward(&self, vendor: &Server, fresh: bool) -> Server {
        if fresh {
            let _ = fs::remove_dir_all(self.dir.path().join("data"));
        }
        let config = format!(
            "providers:\n  openai:\n    endpoint: http://{}/v1\n    kind: local\n    models: [bench]\n    \
             limits: {{concurrency: 4096}}\n",
            vendor.address
        );
        self.gateway("bench", &config, &self.plugins, "data")
    }

    fn gateway(&self, name: &str, config: &str, plugins: &Path, data: &str) -> Server {
        let file = self.dir.path().join(format!("{name}.yaml"));
        fs::write(&file, config).unwrap();
        let data = self.dir.path().join(data);
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--config",
            file.to_str().unwrap(),
            "--plugins",
            plugins.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
        ];
        Server::start(SERVER_CPU, Path::new(env!("CARGO_BIN_EXE_keyward")), &arguments)
    }

    /// Milliseconds from starting a server to its first answer.
    pub async fn first_answer(&self, start: impl FnOnce() -> Server, model: &str) -> f64 {
        let began = Instant::now();
        let server = start();
        until_answered(&server, model).await;
        began.elapsed().as_secs_f64() * 1e3
    }

    /// Milliseconds from dropping an adapter into an empty folder to its first answer.
    pub async fn drop_in(&self) -> f64 {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        let config = "providers:\n  demo:\n    models: [demo]\n";
        let server = self.gateway("drop", config, &plugins, data.to_str().unwrap());
        tokio::time::sleep(Duration::from_millis(700)).await;
        let began = Instant::now();
        fs::copy(self.plugins.join("demo.wasm"), plugins.join("demo.wasm")).unwrap();
        until_answered(&server, "demo").await;
        began.elapsed().as_secs_f64() * 1e3
    }
}

async fn until_answered(server: &Server, model: &str) {
    let client = reqwest::Client::new();
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    for _ in 0..10_000 {
        let request = client
            .post(format!("http://{}/v1/chat/completions", server.address))
            .header("content-type", "application/json")
            .body(body.clone());
        if request.send().await.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("no answer from {}", server.address);
}
