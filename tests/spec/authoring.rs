//! Writing an adapter: from a name to a tested component, and from a real call to a recording.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    CANARY, canary, contains,
    gateway::{Ran, Setup, leak, run},
    kept, keyward, lock, project, run as wait,
    vendor::{Act, Recorded, Vendor, openai, reply_json, stream},
};

// ---------------------------------------------------------------------------- a new crate

/// A crate made by `keyward plugin new`.
struct Made {
    folder: PathBuf,
    out: PathBuf,
    _only_one: fs::File,
}

impl Made {
    fn new(name: &str, flags: &[&str]) -> Self {
        let kept = kept("test-authoring");
        let place = kept.join(name);
        fs::create_dir_all(&place).unwrap();
        let only_one = lock(&place);
        share_builds(&place);
        let (folder, out) = (place.join("crate"), place.join("plugins"));
        let _ = fs::remove_dir_all(&folder);
        let made = Self { folder, out, _only_one: only_one };
        let ran = made.keyward(&["plugin", "new", name], flags).ok();
        assert!(ran.out.contains("cargo test"), "{ran:?}");
        // The versions that the workspace has, so that nothing is fetched or built twice.
        fs::copy(project().join("Cargo.lock"), made.folder.join("Cargo.lock")).unwrap();
        made
    }

    fn keyward(&self, command: &[&str], flags: &[&str]) -> Ran {
        let mut program = Command::new(keyward());
        program.args(command).arg("--dir").arg(&self.folder).args(flags);
        run(program, "")
    }

    /// Runs a program in the crate to its end, however long it compiles.
    fn runs(&self, program: &Path, arguments: &[&str]) -> String {
        let output =
            Command::new(program).args(arguments).current_dir(&self.folder).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{program:?} {arguments:?}\n{out}\n{err}");
        out
    }

    /// The three commands of its own README, and what they promise.
    fn holds_what_its_readme_says(&self, name: &str) {
        let readme = fs::read_to_string(self.folder.join("README.md")).unwrap();
        for command in
            ["cargo test", "keyward plugin test .", "keyward plugin build . --out PLUGINS"]
        {
            assert!(readme.contains(&format!("`{command}`")), "{command}: {readme}");
        }
        let tested = self.runs(Path::new("cargo"), &["test"]);
        assert!(tested.contains("2 passed"), "{tested}");
        let formatted = self.runs(Path::new("cargo"), &["fmt", "--check"]);
        assert_eq!(formatted, "");
        let replayed = self.runs(keyward(), &["plugin", "test", "."]);
        assert!(replayed.contains(" 0 failed"), "{replayed}");
        let out = self.out.to_str().unwrap();
        self.runs(keyward(), &["plugin", "build", ".", "--out", out]);
        let component = self.component(name);
        let checked = self.runs(keyward(), &["plugin", "check", component.to_str().unwrap()]);
        assert!(checked.contains("imports none"), "{checked}");
        let lines = fs::read_to_string(self.folder.join("src/lib.rs")).unwrap().lines().count();
        assert!(lines < 100, "src/lib.rs has {lines} lines");
    }

    fn component(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.wasm"))
    }

    /// A gateway's folders with this adapter before a vendor.
    fn setup(&self, name: &str, endpoint: &str) -> Setup {
        let config = format!(
            "providers:\n  {name}:\n    kind: local\n    endpoint: {endpoint}\n    models: [example-1]\n"
        );
        let setup = Setup::new(&config, &[]);
        fs::copy(self.component(name), setup.plugin(name)).unwrap();
        setup
    }
}

/// Makes cargo use, below `place`, what the workspace has fetched and built.
fn share_builds(place: &Path) {
    let config = format!(
        "[build]\ntarget-dir = {}\n[net]\noffline = true\n",
        json!(project().join("target"))
    );
    fs::create_dir_all(place.join(".cargo")).unwrap();
    fs::write(place.join(".cargo/config.toml"), config).unwrap();
}

#[test]
fn a_new_adapter_of_openais_shape_passes_its_tests_at_once_and_serves_a_chat() {
    let flags = [
        "--shape",
        "openai",
        "--endpoint",
        "https://api.likely.example/v1",
        "--auth",
        "bearer",
        "--kind",
        "external",
    ];
    let made = Made::new("likely-ai", &flags);
    made.holds_what_its_readme_says("likely-ai");

    let vendor = Vendor::openai(&canary("likely"));
    let setup = made.setup("likely-ai", &format!("{}/v1", vendor.url()));
    let setup = setup.key("likely-ai", &vendor.key);
    let ran = setup.run(["chat", "-m", "likely-ai/example-1", "Hello there"]).ok();
    assert_eq!(ran.out.trim_end(), "You said: Hello there");
}

#[test]
fn a_new_adapter_of_its_own_shape_passes_its_tests_at_once_and_serves_a_chat() {
    let flags = [
        "--shape",
        "own",
        "--stream",
        "ndjson",
        "--endpoint",
        "http://127.0.0.1:9000/api",
        "--auth",
        "header:x-api-key",
        "--kind",
        "local",
    ];
    let made = Made::new("owner", &flags);
    made.holds_what_its_readme_says("owner");

    let vendor = own_vendor("application/x-ndjson", |piece| format!("{piece}\n"));
    let setup = made.setup("owner", &format!("{}/api", vendor.url())).key("owner", &vendor.key);
    let ran = setup.run(["chat", "-m", "owner/example-1", "Hello there"]).ok();
    assert_eq!(ran.out.trim_end(), "You said: Hello there");
    assert!(ran.err.contains("3 tokens in, 4 out"), "{ran:?}");
    assert_eq!(leak(ran.everything().as_bytes()), None);
}

#[test]
fn a_component_does_not_tell_where_it_was_built() {
    let made = Made::new("wanderer", &["--yes"]);
    let build = |folder: &Path| {
        let arguments = ["plugin", "build", folder.to_str().unwrap(), "--out"];
        made.runs(keyward(), &[&arguments[..], &[made.out.to_str().unwrap()]].concat());
        fs::read(made.component("wanderer")).unwrap()
    };
    let here = build(&made.folder);
    let elsewhere = tempfile::tempdir_in(kept("test-authoring")).unwrap();
    share_builds(elsewhere.path());
    let moved = elsewhere.path().join("another/folder");
    fs::create_dir(moved.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("-r").arg(&made.folder).arg(&moved).status();
    assert!(copied.unwrap().success());
    // It is made anew, not found.
    fs::remove_file(made.component("wanderer")).unwrap();
    assert!(build(&moved) == here, "the component depends on where its crate lies");

    // Panics name files, so there is something to hide.
    assert!(contains(&here, b"/keyward-sdk/src/adapter.rs"));
    let home = std::env::home_dir().unwrap();
    for folder in [project(), home, made.folder.clone(), moved] {
        let name = folder.to_str().unwrap();
        assert!(!contains(&here, name.as_bytes()), "the component names {name}");
    }
}

/// The vendor that the template of an adapter of its own shape is for.
fn own_vendor(media: &'static str, write: fn(&Value) -> String) -> Vendor {
    let key = canary("owner");
    let expected = key.clone();
    Vendor::scripted(&key, move |request| {
        let given = request.header("x-api-key").or(request.header("authorization"));
        if given.and_then(|given| given.split(' ').next_back()) != Some(&expected) {
            return reply_json(401, &[], &json!({"error": "no such key"}));
        }
        if request.path().ends_with("/models") {
            return reply_json(200, &[], &json!({"models": ["example-1"]}));
        }
        let asked = request.json();
        let said = format!("You said: {}", asked["turns"][0]["text"].as_str().unwrap());
        let end = json!({"stop": "end", "prompt_tokens": 3, "answer_tokens": 4});
        if asked["stream"] != true {
            let mut whole = end;
            (whole["id"], whole["text"]) = (json!("a-1"), json!(said));
            return reply_json(200, &[], &whole);
        }
        let (first, second) = said.split_at(10);
        let pieces = [json!({"id": "a-1"}), json!({"text": first}), json!({"text": second}), end];
        let pieces = pieces.iter().map(|piece| write(piece).into_bytes()).collect();
        stream(&[("content-type", media)], pieces, Duration::ZERO)
    })
}

#[test]
fn every_command_of_the_guide_works_as_it_stands() {
    let guide = fs::read_to_string(project().join("docs/writing-an-adapter.md")).unwrap();
    let blocks = |language: &str| -> Vec<String> {
        let begin = format!("```{language}\n");
        guide.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().into()).collect()
    };
    let vendor = own_vendor("text/event-stream", |piece| format!("data: {piece}\n\n"));
    let endpoint = "https://api.acme.example/v1";
    let here = format!("{}/v1", vendor.url());
    let place = kept("test-authoring").join("guide");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(place.join("plugins")).unwrap();
    share_builds(&place);
    let [providers] = &blocks("yaml")[..] else { panic!("one provider: {guide}") };
    let local = providers.replace(endpoint, &format!("{here}\n    kind: local"));
    fs::write(place.join("providers.yaml"), local).unwrap();
    // As a reader's shell, but for the vendor's address and the versions that are here already.
    let lock = project().join("Cargo.lock");
    let script = blocks("sh").concat();
    assert!(script.lines().count() >= 12, "{script}");
    let script = script.replace("cd acme\n", &format!("cd acme\ncp {} .\n", lock.display()));
    let script = format!("set -e\nkeyward() {{ \"$KEYWARD\" \"$@\"; }}\n{script}");
    let output = {
        use std::io::Write;
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&place)
            .env("KEYWARD", keyward())
            .env("KEYWARD_MASTER_KEY", crate::support::gateway::master_key())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // What `keyward key set` reads; nothing else does.
        shell.stdin.take().unwrap().write_all(vendor.key.as_bytes()).unwrap();
        shell.wait_with_output().unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    for promised in ["2 passed", " 0 failed", "imports none", "accepts the key", "You said: Hello"]
    {
        assert!(out.contains(promised), "{promised}: {out}");
    }
    assert_eq!(leak(format!("{out}{err}").as_bytes()), None);
    for file in ["real", "real_stream", "real_models"] {
        let text = fs::read(place.join(format!("acme/recordings/{file}.json"))).unwrap();
        assert_eq!(leak(&text), None, "{file}");
    }
}

#[test]
fn the_example_of_the_guide_passes_in_the_sandbox() {
    let example = project().join("sdk/examples/reka");
    let output = Command::new(keyward())
        .args(["plugin", "test"])
        .arg(&example)
        .current_dir(project())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && out.contains(" 0 failed"), "{out}\n{output:?}");
}

#[test]
fn what_can_not_be_made_is_refused_and_leaves_nothing() {
    let setup = Setup::new("providers:\n  demo:\n", &[]);
    let here = setup.config().parent().unwrap().to_owned();
    fs::create_dir(here.join("taken")).unwrap();
    fs::write(here.join("taken/file"), "").unwrap();
    let table: &[(&[&str], &str)] = &[
        (&["Acme", "--yes"], "not a name"),
        (&["../acme", "--yes"], "not a name"),
        (&["acme.ai", "--yes"], "name of a crate"),
        (&["taken", "--yes"], "isn't empty"),
        (&["acme", "--yes", "--dir", "no/such/folder"], "no folder no/such"),
        (&["acme"], "no terminal to ask on: give --shape, --endpoint, --auth, --kind, or --yes"),
        (&["acme", "--yes", "--auth", "basic"], "none of bearer, header:NAME, query:NAME, none"),
        (&["acme", "--yes", "--auth", "header:host"], "no credential may be sent"),
        (&["acme", "--yes", "--endpoint", "api.acme.io"], "isn't a URL"),
        (&["acme", "--yes", "--endpoint", "http://api.acme.io"], "https"),
        (&["acme", "--yes", "--sdk", "."], "keyward-sdk isn't there"),
        (&["acme", "--yes", "--stream", "sse"], "--stream goes with --shape own"),
    ];
    let before = fs::read_dir(&here).unwrap().count();
    for (arguments, message) in table {
        let ran = setup.run(["plugin", "new"].iter().chain(*arguments)).failed();
        assert!(ran.err.contains(message), "{arguments:?}: {ran:?}");
        assert_eq!(ran.out, "", "{arguments:?}");
        assert_eq!(fs::read_dir(&here).unwrap().count(), before, "{arguments:?}");
    }
    assert_eq!(setup.run(["plugin", "new", "acme", "--shape", "round"]).code, 2);

    let made = setup.run(["plugin", "new", "acme", "--yes", "--json"]).ok().json();
    assert_eq!(made["name"], "acme");
    assert!(made["files"].as_array().unwrap().contains(&json!("src/lib.rs")), "{made}");
    let again = setup.run(["plugin", "new", "acme", "--yes"]).failed();
    assert!(again.err.contains("isn't empty"), "{again:?}");
}

// ------------------------------------------------------------------------- recordings

const CONTACT: &str = "ada.lovelace@acme.io";
const ORGANIZATION: &str = "org-Zq81Lk0pWv72";
const REQUEST: &str = "req_9f8e7d6c5b4a39281706f5e4d3c2b1a0";

/// OpenAI, telling more than it should: whose account it is, and whom to write to.
fn talkative(request: &Recorded, key: &str) -> Vec<Act> {
    let body = request.json();
    if request.path() == "/v1/chat/completions" && body["model"] == "gpt-4.1" {
        let headers = [
            ("x-request-id", REQUEST),
            ("openai-organization", ORGANIZATION),
            ("set-cookie", "__cf_bm=vendor-cookie; path=/"),
        ];
        let said = format!("{}, then write to {CONTACT}", body["messages"][0]["content"]);
        let answer = json!({
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion",
            "created": 1_741_569_952, "model": "gpt-4.1", "organization": ORGANIZATION,
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
        });
        return reply_json(200, &headers, &answer);
    }
    openai::answer(request, key)
}

fn recorder(adapter: &str, vendor: &Vendor, path: &str) -> Setup {
    let config = format!(
        "providers:\n  {adapter}:\n    kind: local\n    endpoint: {}{path}\n    models: [gpt-4.1]\n",
        vendor.url()
    );
    Setup::new(&config, &[adapter]).key(adapter, &vendor.key)
}

/// Records into a folder of its own and replays it by `plugin test` too.
fn record(setup: &Setup, adapter: &str, arguments: &[&str]) -> (Ran, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("real.json");
    let command = ["plugin", "record", adapter, "-o", file.to_str().unwrap()];
    let ran = setup.run(command.iter().chain(arguments)).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(leak(text.as_bytes()), None, "{text}");
    assert_eq!(leak(ran.everything().as_bytes()), None, "{ran:?}");
    let recordings = folder.path().to_str().unwrap();
    let again = setup.run(["plugin", "test", adapter, "--recordings", recordings]).ok();
    assert!(again.out.contains("1 passed"), "{again:?}");
    (ran, text)
}

#[test]
fn a_real_call_becomes_a_recording_without_key_address_and_ids() {
    let key = canary("openai");
    let expected = key.clone();
    let vendor = Vendor::scripted(&key, move |request| talkative(request, &expected));
    let setup = recorder("openai", &vendor, "/v1");
    let prompt = format!("Greet {CONTACT} for me");
    let (ran, text) = record(&setup, "openai", &["--prompt", &prompt]);

    for private in
        [CONTACT, ORGANIZATION, REQUEST, "vendor-cookie", "B9MBs8CjcvOU2jLn4n570S5qMJKcT"]
    {
        assert!(!text.contains(private), "{private}: {text}");
        assert!(!ran.everything().contains(private), "{private}: {ran:?}");
    }
    // What is left says the same: who is written to in the prompt is written to in the answer.
    let recording: Value = serde_json::from_str(&text).unwrap();
    let asked = recording["operation"]["chat"]["messages"][0]["content"].as_str().unwrap();
    let person = asked.strip_prefix("Greet ").unwrap().strip_suffix(" for me").unwrap();
    assert!(person.ends_with("@example.com"), "{asked}");
    assert_eq!(recording["steps"][0]["request"]["body"]["messages"][0]["content"], asked);
    let answer = &recording["steps"][0]["response"]["json"];
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(said.ends_with(&format!("write to {person}")), "{said}");
    assert_eq!(answer["usage"]["total_tokens"], 12);
    for told in ["e-mail address", "account", "id of a request", "the same events"] {
        assert!(ran.out.contains(told), "{told}: {ran:?}");
    }
    // It was a call like any other: it has its row.
    assert!(setup.run(["usage", "--rows", "--json"]).ok().out.contains("gpt-4.1"));
}

#[test]
fn a_vendor_that_repeats_the_key_leaves_none_in_the_recording() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = recorder("openai", &vendor, "/v1");
    for operation in ["chat", "stream"] {
        let (_, text) = record(&setup, "openai", &["-m", "reflect", "--operation", operation]);
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn streams_lists_probes_embeddings_and_errors_are_recorded() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = recorder("openai", &vendor, "/v1");
    let (_, streamed) = record(&setup, "openai", &["--operation", "stream"]);
    assert!(streamed.contains("\"sse\""), "{streamed}");
    let (_, models) = record(&setup, "openai", &["--operation", "models"]);
    assert!(models.contains("gpt-4.1"), "{models}");
    record(&setup, "openai", &["--operation", "probe"]);
    let embed = ["--operation", "embed", "-m", "text-embedding-3-small"];
    let (_, embedded) = record(&setup, "openai", &embed);
    assert!(embedded.contains("\"embedding\""), "{embedded}");
    let (ran, failed) = record(&setup, "openai", &["-m", "status-429"]);
    assert!(failed.contains("rate-limited"), "{failed}");
    assert!(ran.out.contains("HTTP 429"), "{ran:?}");
    let report = setup.run([
        "plugin",
        "record",
        "openai",
        "--json",
        "-o",
        setup.data().join("x.json").to_str().unwrap(),
    ]);
    assert_eq!(report.ok().json()["replayed"]["problem"], Value::Null);
}

#[test]
fn other_framings_and_other_places_for_the_key_are_recorded() {
    let anthropic = Vendor::anthropic(&canary("anthropic"));
    let setup = recorder("anthropic", &anthropic, "/v1");
    record(&setup, "anthropic", &["-m", "claude-sonnet-4-5", "--operation", "stream"]);
    let ollama = Vendor::ollama("");
    let config = format!(
        "providers:\n  ollama:\n    kind: local\n    endpoint: {}\n    models: [llama3.2]\n",
        ollama.url()
    );
    let setup = Setup::new(&config, &["ollama"]);
    let (_, text) = record(&setup, "ollama", &["--operation", "stream"]);
    assert!(text.contains("\"ndjson\""), "{text}");
}

#[test]
fn what_can_not_be_recorded_is_refused_before_or_without_a_file() {
    let vendor = Vendor::openai(&canary("openai"));
    let setup = recorder("openai", &vendor, "/v1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("real.json");
    let there = folder.path().join("there.json");
    fs::write(&there, "kept").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (file_name, there_name) = (path(&file), path(&there));
    // Alone it would be known by its shape and replaced.
    let key = format!("my{}", vendor.key);
    let (nowhere, text) =
        (path(&folder.path().join("no/x.json")), path(&folder.path().join("x.txt")));
    let table: Vec<(Vec<&str>, &str)> = vec![
        (vec!["openai", "-o", &there_name], "--force"),
        (vec!["openai", "-o", &nowhere], "no such folder"),
        (vec!["openai", "-o", &text], "ends in .json"),
        (vec!["opena", "-o", &file_name], "no provider 'opena'"),
        (vec!["openai", "-o", &file_name, "--operation", "models", "--prompt", "x"], "--prompt"),
        (vec!["openai", "-o", &file_name, "-m", "a b"], "model name"),
        (vec!["openai", "-o", &file_name, "--prompt", &key], "would hold the key"),
        // The answer comes in pieces, and the address is cut between two; whether it stands whole
        // in the prompt or not.
        (
            vec!["openai", "-o", &file_name, "--operation", "stream", "-m", "pieces"],
            "cut across pieces",
        ),
        (
            vec![
                "openai",
                "-o",
                &file_name,
                "--operation",
                "stream",
                "-m",
                "pieces",
                "--prompt",
                CONTACT,
            ],
            "cut across pieces",
        ),
        (vec!["openai", "-o", &file_name, "-m", "cut-4", "--operation", "stream"], "broke"),
    ];
    for (arguments, message) in table {
        let pieces = arguments.contains(&"pieces");
        let ran = if pieces {
            let vendor = in_pieces();
            let setup = recorder("openai", &vendor, "/v1");
            setup.run(["plugin", "record"].iter().chain(&arguments)).failed()
        } else {
            setup.run(["plugin", "record"].iter().chain(&arguments)).failed()
        };
        assert!(ran.err.contains(message), "{arguments:?}: {ran:?}");
        assert_eq!(leak(ran.everything().as_bytes()), None, "{ran:?}");
        assert!(!file.exists(), "{arguments:?}");
    }
    assert_eq!(fs::read_to_string(&there).unwrap(), "kept");

    let gateway = setup.start();
    let ran = gateway.run(["plugin", "record", "openai", "-o", &file_name]).failed();
    assert!(ran.err.contains("a gateway runs"), "{ran:?}");
    wait(async { assert_eq!(gateway.caller().get("/healthz").await.status, 200) });
}

/// A stream with an address cut in two.
fn in_pieces() -> Vendor {
    Vendor::scripted(&canary("openai"), |_| {
        let piece = |delta: Value| {
            let chunk =
                json!({"id": "c", "model": "pieces", "choices": [{"index": 0, "delta": delta}]});
            format!("data: {chunk}\n\n").into_bytes()
        };
        let pieces = vec![
            piece(json!({"content": "ask ada.lovel"})),
            piece(json!({"content": "ace@acme.io"})),
            piece(json!({})),
            b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                .to_vec(),
            b"data: [DONE]\n\n".to_vec(),
        ];
        stream(&[("content-type", "text/event-stream")], pieces, Duration::ZERO)
    })
}
