//! A real server of models instead of a scripted one: the server of llama-cpp-python, with a model
//! that says nothing sensible but always the same. What callers of the gateway get is held against
//! what the server itself answers.
//!
//! Not part of the ordinary run: the server has to be compiled, which takes a quarter of an hour on one
//! processor. Once:
//!
//! ```sh
//! python3 -m venv target/test-llama
//! CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF" \
//!     target/test-llama/bin/pip install 'llama-cpp-python[server]' gguf
//! ```
//!
//! and then
//!
//! ```sh
//! KEYWARD_TEST_LLAMA=$PWD/target/test-llama/bin/python \
//!     cargo test -p keyward-cli --test spec local_server:: -- --ignored --nocapture
//! ```

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    eventually,
    gateway::{Gateway, Setup},
    http::{Caller, Streamed},
    project, run,
};

/// The server imports half of Python before it listens.
const START: Duration = Duration::from_secs(60);

/// The model as a chat model, and once more for embeddings.
const CHAT: &str = "tiny";
const EMBEDDER: &str = "tiny-embedder";

struct Server {
    url: String,
    process: Child,
    _folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let python = PathBuf::from(env::var_os("KEYWARD_TEST_LLAMA").expect(
            "KEYWARD_TEST_LLAMA names a Python with llama-cpp-python[server] and gguf: see local_server.rs",
        ));
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        let made = Command::new(&python)
            .arg(project().join("tests/llama/tiny_model.py"))
            .arg(&model)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let model_as = |alias: &str, embedding: bool| {
            json!({"model": model, "model_alias": alias, "n_ctx": 256, "n_threads": 1, "seed": 7,
                "embedding": embedding, "verbose": false})
        };
        let config = json!({"host": "127.0.0.1", "port": port,
            "models": [model_as(CHAT, false), model_as(EMBEDDER, true)]});
        let config_file = folder.path().join("server.json");
        fs::write(&config_file, config.to_string()).unwrap();
        let process = Command::new(&python)
            .args(["-m", "llama_cpp.server", "--config_file"])
            .arg(&config_file)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), process, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server, and a gateway before it.
struct Both {
    server: Server,
    gateway: Gateway,
}

impl Both {
    /// One for each test: a model is loaded in milliseconds.
    fn start() -> Self {
        let server = Server::start();
        let direct = Caller::new(&server.url, None);
        run(eventually("the server listens", START, async || {
            let listed = direct.try_get("/v1/models").await.ok()?;
            (listed.status == 200).then_some(())
        }));
        let config = format!(
            "providers:\n  local:\n    adapter: openai-compatible\n    kind: local\n    endpoint: {}/v1\n    \
             settings: {{flavor: llama-cpp}}\n",
            server.url
        );
        let gateway = Setup::new(&config, &["openai-compatible"]).start();
        Self { server, gateway }
    }

    fn direct(&self) -> Caller {
        Caller::new(&self.server.url, None)
    }

    /// The body's answers by both, and first by the server itself.
    async fn post(&self, path: &str, body: &Value) -> (Value, Value) {
        let direct = self.direct().post(path, body).await;
        assert_eq!(direct.status, 200, "{}", direct.text());
        let through = self.gateway.caller().post(path, &through(body)).await;
        assert_eq!(through.status, 200, "{}", through.text());
        (direct.json(), through.json())
    }
}

/// The same, as the gateway names the model.
fn through(body: &Value) -> Value {
    let mut body = body.clone();
    body["model"] = json!(format!("local/{}", body["model"].as_str().unwrap()));
    body
}

fn asked(prompt: &str, more: Value) -> Value {
    let mut body = json!({"model": CHAT, "temperature": 0, "seed": 7, "max_tokens": 40,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

fn tokens(answer: &Value) -> [u64; 3] {
    ["prompt_tokens", "completion_tokens", "total_tokens"]
        .map(|name| answer["usage"][name].as_u64().unwrap_or_else(|| panic!("{name}: {answer}")))
}

#[test]
#[ignore = "takes a compiled llama-cpp-python: how, says the head of local_server.rs"]
fn what_a_real_server_says_comes_through_unchanged() {
    let both = Both::start();
    run(async {
        let prompts = ["Hello there", "Grüße, 日本語 🦀", "Why \"quote\"?\n\tBecause.", "x"];
        for prompt in prompts {
            let (direct, through) =
                both.post("/v1/chat/completions", &asked(prompt, json!({}))).await;
            println!("{prompt:?}: {:?} {:?}", text(&direct), tokens(&direct));
            assert_eq!(text(&through), text(&direct), "{prompt}");
            assert!(!text(&direct).is_empty());
            let reason = |answer: &Value| answer["choices"][0]["finish_reason"].clone();
            assert_eq!(reason(&through), reason(&direct), "{prompt}");
            assert_eq!(tokens(&through), tokens(&direct), "{prompt}");
            assert_eq!(through["model"], direct["model"], "{prompt}");
        }
    });
}

#[test]
#[ignore = "takes a compiled llama-cpp-python: how, says the head of local_server.rs"]
fn a_streamed_answer_of_a_real_server_is_the_whole_one() {
    let both = Both::start();
    run(async {
        for more in [json!({}), json!({"stream_options": {"include_usage": true}})] {
            let whole =
                both.direct().post("/v1/chat/completions", &asked("Hello there", json!({}))).await;
            let mut body = asked("Hello there", json!({"stream": true}));
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let direct = both.direct().stream_of(&body).await.collect().await;
            let through: Streamed =
                both.gateway.caller().stream_of(&through(&body)).await.collect().await;
            println!("direct {direct:?}\nthrough {through:?}");
            assert_eq!(through.text, whole.said());
            assert_eq!(through.text, direct.text);
            assert_eq!(through.finish, direct.finish);
            assert_eq!((through.ends, through.complete), (1, true));
            assert!(through.errors.is_empty(), "{through:?}");
            // This server counts whole answers only, also where a stream's count is asked for.
            assert_eq!(through.usage, direct.usage);
        }
    });
    let rows = both.gateway.run(["usage", "--rows", "--json"]).ok().json();
    let rows = rows["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["estimated"] == true), "{rows:?}");
}

#[test]
#[ignore = "takes a compiled llama-cpp-python: how, says the head of local_server.rs"]
fn limits_and_stops_hold_at_a_real_server() {
    let both = Both::start();
    run(async {
        let short = asked("Hello there", json!({"max_tokens": 5}));
        let (direct, through) = both.post("/v1/chat/completions", &short).await;
        assert_eq!(through["choices"][0]["finish_reason"], "length", "{through}");
        assert_eq!(tokens(&through)[1], 5, "{through}");
        assert_eq!(text(&through), text(&direct));

        let said = text(&direct);
        let stop: String = said.chars().skip(2).take(1).collect();
        let stopping = asked("Hello there", json!({"stop": [stop]}));
        let (direct, through) = both.post("/v1/chat/completions", &stopping).await;
        println!("{said:?} stopped at {stop:?}: {:?}", text(&direct));
        assert_eq!(through["choices"][0]["finish_reason"], "stop", "{through}");
        assert_eq!(text(&through), text(&direct));
        assert!(said.starts_with(text(&through)) && text(&through).len() < said.len());
    });
}

#[test]
#[ignore = "takes a compiled llama-cpp-python: how, says the head of local_server.rs"]
fn models_and_vectors_of_a_real_server_are_its_own() {
    let both = Both::start();
    run(async {
        let listed = both.gateway.caller().get("/v1/models").await.json();
        let ids: Vec<&str> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|model| model["id"].as_str())
            .collect();
        println!("{ids:?}");
        for model in [CHAT, EMBEDDER] {
            assert!(ids.contains(&model), "{listed}");
        }
        let body =
            json!({"model": EMBEDDER, "input": ["a text", "another"], "encoding_format": "float"});
        let (direct, through) = both.post("/v1/embeddings", &body).await;
        println!("{} vectors", direct["data"].as_array().unwrap().len());
        let vectors = |answer: &Value| -> Vec<Vec<f32>> {
            let data = answer["data"].as_array().unwrap().iter();
            data.map(|one| serde_json::from_value(one["embedding"].clone()).unwrap()).collect()
        };
        assert_eq!(vectors(&through), vectors(&direct));
        assert_eq!(through["usage"]["prompt_tokens"], direct["usage"]["prompt_tokens"]);
    });
    let tested = both.gateway.run(["key", "test", "local"]);
    println!("{}", tested.everything());
}

#[test]
#[ignore = "takes a compiled llama-cpp-python: how, says the head of local_server.rs"]
fn a_real_servers_errors_are_typed() {
    let both = Both::start();
    run(async {
        let long = asked(&"too long ".repeat(100), json!({}));
        let direct = both.direct().post("/v1/chat/completions", &long).await;
        let through_ = both.gateway.caller().post("/v1/chat/completions", &through(&long)).await;
        println!("direct {} {}", direct.status, direct.text());
        println!("through {} {}", through_.status, through_.text());
        assert_eq!(through_.status, 400, "{}", through_.text());
        assert_eq!(
            through_.json()["error"]["code"],
            "context_length_exceeded",
            "{}",
            through_.text()
        );

        let mut streamed = long.clone();
        streamed["stream"] = json!(true);
        let answer = both.gateway.caller().post("/v1/chat/completions", &through(&streamed)).await;
        println!("streamed {} {}", answer.status, answer.text());
        // To what it refuses whole it answers a stream of nothing with status 200.
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "malformed_answer", "{}", answer.text());

        let wrong = asked("Hello", json!({"top_p": 7}));
        let direct = both.direct().post("/v1/chat/completions", &wrong).await;
        println!("direct {} {}", direct.status, direct.text());
        let answer = both.gateway.caller().post("/v1/chat/completions", &through(&wrong)).await;
        println!("through {} {}", answer.status, answer.text());
        // Its own word is 500.
        // Its own word is 500.
        assert_eq!(answer.status, 400, "{}", answer.text());
    });
}
