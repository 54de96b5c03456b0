//! What the file accepts and how it is told what it doesn't; following a file is in
//! `watch_tests.rs`.

use std::{path::Path, time::Duration};

use keyward_contract::ProviderKind;
use proptest::prelude::*;

use super::{read::MAX_FILE, *};
use crate::{
    ids::{AdapterName, ModelName, ProviderName},
    privacy::Detector,
};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text.as_bytes(), Path::new("/etc/keyward/providers.yaml"))
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn bad(text: &str) -> ConfigError {
    parse(text).expect_err(text)
}

/// The only problem of a text: line, column and everything said about it.
fn only(text: &str) -> (u32, u32, String) {
    let error = bad(text);
    assert_eq!(error.problems.len(), 1, "{error}");
    let at = error.problems[0].at.expect("a place");
    (at.line, at.column, error.problems[0].to_string())
}

/// Every field there is.
const FULL: &str = r#"
server:
  listen: 0.0.0.0:8484
  tokens:
    - {name: team-a, env: KEYWARD_TOKEN, operator: true}
    - {name: team-b, file: secrets/team-b}
    - name: team-c
      sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
providers:
  openai:
    endpoint: https://api.openai.com/v1
    models: [gpt-5-mini, gpt-5]
    cost_tracking: true
  local-llama:
    enabled: false
    adapter: ollama
    kind: local
    endpoints: {api: "http://127.0.0.1:11434"}
    key: {env: MY_KEY}
    models: [llama3.2, {id: qwen3, alias: qwen}, 4.10]
    cost_tracking: false
    settings: {num_ctx: 8192, nested: {list: [1, true, ~]}}
    timeouts: {connect: 1s, first_byte: 60s, idle: 60s, total: 10m}
    limits: {concurrency: 64, requests_per_minute: 500, tokens_per_minute: 200000, queue: 9, wait: 2s}
    grants: [read-content]
    ca_file: /etc/ssl/own.pem
  demo:
plugins:
  limits: {memory: 64MiB, stack: 1MiB, cpu: 200ms, output: 8MiB, handles: 1000, steps: 64,
           exchange_cpu: 2s, requests: 4, waits: 3, outputs: 100, component_size: 16MiB, compile_time: 10s, compile_memory: 1GiB}
  overrides: {openai: {memory: 128MiB}}
routes:
  writing: [demo, llama3.2]
  home: {candidates: [demo/demo], order: listed, sensitive: true}
routing:
  {order: listed, attempts: 3, retries: 0, time: 20s, patience: 2s, watch: true, longest_wait: 1s, comparable: true,
   fallback: {gpt-4: [demo/demo]}, streams: {hold: 500ms, broken: continue},
   hedge: {after: 1s, share: 5}}
health: {enabled: true, interval: 10s, failures: 2, share: 20, of: 5, within: 1m, rest: 2s, longest_rest: 1h}
vault: {master_key_file: master.key}
metering: {enabled: false}
privacy:
  detect: true
  detectors: {phone: false, ip-address: true}
  patterns:
    project-code: 'PRJ-\d{6}'
    file: {pattern: '\d{4}/\d{2}', context: [Akte, case]}
  words: [Bluebird, "Project X"]
"#;

// ---------------------------------------------------------------------- what is accepted

#[test]
fn three_lines_make_a_provider() {
    let config = good(
        "providers:\n  openai:\n    endpoint: https://api.openai.com/v1\n    models: [gpt-5-mini, gpt-5]\n    cost_tracking: true\n",
    );
    let provider = &config.providers["openai"];
    assert_eq!(provider.adapter.as_str(), "openai");
    assert_eq!(provider.endpoint.as_ref().unwrap().as_str(), "https://api.openai.com/v1");
    let models: Vec<_> = provider.models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(models, ["gpt-5-mini", "gpt-5"]);
    assert!(provider.enabled && provider.cost_tracking);
    assert_eq!(provider.kind, None);
    assert_eq!(config.server.listen, DEFAULT_LISTEN);
}

#[test]
fn the_full_form_is_read() {
    let config = good(FULL);
    let names: Vec<_> = config.providers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["openai", "local-llama", "demo"], "in the order of the file");
    let llama = &config.providers["local-llama"];
    assert!(!llama.enabled && !llama.cost_tracking);
    assert_eq!(llama.adapter.as_str(), "ollama");
    assert_eq!(llama.kind, Some(ProviderKind::Local));
    assert_eq!(llama.endpoints["api"].as_str(), "http://127.0.0.1:11434/");
    assert_eq!(llama.key, Some(KeySource::Env(VariableName::new("MY_KEY").unwrap())));
    assert_eq!(llama.models[1].alias.as_ref().unwrap().as_str(), "qwen");
    assert_eq!(llama.models[2].id.as_str(), "4.10", "as written, not as a number");
    assert_eq!(
        serde_json::to_string(&llama.settings).unwrap(),
        r#"{"num_ctx":8192,"nested":{"list":[1,true,null]}}"#
    );
    assert_eq!(llama.timeouts.total, Some(Duration::from_secs(600)));
    assert_eq!(llama.limits.concurrency, Some(64));
    assert_eq!(llama.grants, [Grant::ReadContent]);
    assert_eq!(config.providers["demo"], Provider::new(AdapterName::new("demo").unwrap()));
    assert_eq!(
        config.server.tokens[1].source,
        TokenSource::File("/etc/keyward/secrets/team-b".into()),
        "relative to the configuration's folder"
    );
    assert!(matches!(config.server.tokens[2].source, TokenSource::Sha256([0x9f, 0x86, ..])));
    assert_eq!(config.vault.master_key_file.as_deref(), Some(Path::new("/etc/keyward/master.key")));
    assert!(!config.metering.enabled);
    let seconds = Duration::from_secs;
    let health = HealthChecks {
        enabled: true,
        interval: seconds(10),
        failures: 2,
        share: 20,
        of: 5,
        within: seconds(60),
        rest: seconds(2),
        longest_rest: seconds(3_600),
    };
    assert_eq!(config.health, health);

    let privacy = &config.privacy;
    assert!(privacy.detect);
    assert!(!privacy.uses(Detector::Phone) && privacy.uses(Detector::IpAddress));
    assert!(privacy.uses(Detector::Email), "as by default");
    assert_eq!(privacy.patterns["project-code"].pattern, r"PRJ-\d{6}");
    assert_eq!(privacy.patterns["file"].context, ["Akte", "case"]);
    assert_eq!(privacy.words, ["Bluebird", "Project X"]);

    let limits = config.plugins.limits_of(&AdapterName::new("openai").unwrap());
    assert_eq!(limits.memory, Some(ByteSize(128 << 20)));
    assert_eq!(limits.cpu, Some(Duration::from_millis(200)));
    let limits = config.plugins.limits_of(&AdapterName::new("demo").unwrap());
    assert_eq!(limits.memory, Some(ByteSize(64 << 20)));
}

#[test]
fn detection_is_off_without_a_section_and_on_with_an_empty_one() {
    for (text, on) in [
        ("{}", false),
        ("privacy:", true),
        ("privacy: {}", true),
        ("privacy: {detect: false}", false),
        ("privacy: {words: [a]}", true),
    ] {
        assert_eq!(good(text).privacy.uses(Detector::Email), on, "{text}");
    }
}

#[test]
fn patterns_and_words_that_cannot_work_are_shown_where_they_stand() {
    for (text, column, problem) in [
        ("privacy: {patterns: {a: 'x('}}", 25, "no regular expression: unclosed group"),
        ("privacy: {patterns: {a: {pattern: 'x('}}}", 35, "unclosed group"),
        ("privacy: {patterns: {a: 'x*'}}", 25, "matches the empty text"),
        ("privacy: {patterns: {a: {context: [b]}}}", 25, "no `pattern`"),
        ("privacy: {patterns: {a: {pattern: b, context: ['-']}}}", 48, "not a word to look for"),
        ("privacy: {words: [a, '']}", 22, "not a word to look for"),
        ("privacy: {detectors: {ssn: true}}", 23, "Did you mean `us-ssn`?"),
        ("privacy: {detectors: {emial: true}}", 23, "Did you mean `email`?"),
        ("privacy: {detectors: {email: yes}}", 30, "a text where true or false is wanted"),
        ("privacy: {detect: maybe}", 19, "a text where true or false is wanted"),
        ("privacy: [email]", 10, "a list where a mapping is wanted"),
    ] {
        let (line, at, said) = only(text);
        assert_eq!((line, at), (1, column), "{text}: {said}");
        assert!(said.contains(problem), "{text}: {said}");
    }
}

#[test]
fn an_empty_file_is_an_empty_configuration() {
    for text in ["", " \n", "# nothing yet\n", "---\n", "providers:\n", "\u{feff}", "{}"] {
        let config = good(text);
        assert!(config.providers.is_empty(), "{text:?}");
        assert!(config.metering.enabled);
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    let text = "providers:\n  openai:\n    models: [a]\n    endpiont: x\n";
    let unix = bad(text);
    let windows = bad(&format!("\u{feff}{}", text.replace('\n', "\r\n")));
    assert_eq!(unix, windows);
    assert_eq!(unix.problems[0].at, Some(Position { line: 4, column: 5 }));
    good("\u{feff}providers:\r\n  demo:\r\n");
}

#[test]
fn blocks_can_be_shared() {
    let config = good(
        "providers:\n  a:\n    timeouts: &slow {total: 10m}\n  b:\n    timeouts: *slow\n  c:\n    timeouts: {<<: *slow, idle: 1s}\n",
    );
    assert_eq!(config.providers["b"].timeouts, config.providers["a"].timeouts);
    assert_eq!(config.providers["c"].timeouts.total, Some(Duration::from_secs(600)));
}

#[test]
fn words_that_older_yaml_took_for_booleans_are_words() {
    let config = good("providers:\n  no: {models: [on, y, off]}\n");
    assert_eq!(config.providers["no"].models[0].id.as_str(), "on");
}

// ---------------------------------------------------------------------- what is refused

#[test]
fn an_unknown_key_is_shown_where_it_stands_with_what_was_meant() {
    let error = bad("providers:\n  openai:\n    endpiont: https://api.openai.com/v1\n");
    let help = "Did you mean `endpoint`? Known here: enabled, adapter, kind, endpoint, endpoints, key, \
                keys, account, models, auto, cost_tracking, settings, timeouts, limits, cache, batch, grants, ca_file.";
    assert_eq!(
        error.to_string(),
        format!(
            "/etc/keyward/providers.yaml:3:5: providers.openai: unknown key `endpiont`
     3 |     endpiont: https://api.openai.com/v1
       |     ^^^^^^^^
       = {help}"
        )
    );
}

#[test]
fn suggestions_know_slips_and_other_tools_names() {
    for (key, meant) in [
        ("model", "models"),
        ("Endpoint", "endpoint"),
        ("base_url", "endpoint"),
        ("url", "endpoint"),
        ("api_base", "endpoint"),
        ("cost-tracking", "cost_tracking"),
        ("timeout", "timeouts"),
        ("type", "adapter"),
        ("enable", "enabled"),
        ("setings", "settings"),
    ] {
        let (_, _, said) = only(&format!("providers: {{a: {{{key}: x}}}}"));
        assert!(said.contains(&format!("Did you mean `{meant}`?")), "{key}: {said}");
    }
    let (_, _, said) = only("providers: {a: {wholly_unrelated: 1}}");
    assert!(!said.contains("Did you mean"), "{said}");
    let (_, _, said) = only("openai: {models: [a]}");
    assert!(said.contains("A provider goes below `providers:`"), "{said}");
}

#[test]
fn all_problems_of_a_file_come_together_in_its_order() {
    let error = bad(r#"
server: {listen: nowhere, colour: red}
providers:
  Open AI:
  a:
    endpoint: https://user:hunter2@host/
    models: [x, x]
    timeouts: {total: 10, idle: soon}
  b: {endpoint: "https://host/?q=1", kind: remote}
"#);
    let places: Vec<_> =
        error.problems.iter().map(|p| p.at.map(|at| (at.line, at.column))).collect();
    assert_eq!(
        places,
        [(2, 18), (2, 27), (4, 3), (6, 15), (7, 17), (8, 23), (8, 33), (9, 17), (9, 44)].map(Some),
        "{error}"
    );
    let shown = error.to_string();
    assert!(shown.contains("For example `open-ai`"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn endpoints_are_base_urls_and_nothing_else() {
    for (endpoint, said) in [
        ("'https://user:pass@host/v1'", "user or password"),
        ("'https://@host/v1'", "user or password"),
        ("'https://host/v1?key=abc'", "no query"),
        ("'https://host/v1?'", "no query"),
        ("'https://host/v1#a'", "no fragment"),
        ("api.openai.com/v1", "Did you mean `https://api.openai.com/v1`?"),
        ("localhost:11434", "begins with https:// or http://"),
        ("ftp://host/", "begins with https:// or http://"),
        ("https:host", "begins with https:// or http://"),
        ("'https://'", "not a URL"),
        ("'https://host:99999/'", "not a URL"),
        ("'https://ho st/'", "no spaces"),
        ("'https:\\\\host/'", "no spaces and no backslashes"),
        ("'https://${HOST}/v1'", "variables aren't replaced"),
        ("[a]", "a list where a text is wanted"),
        ("true", "true or false where a text is wanted"),
    ] {
        let (line, column, shown) = only(&format!("providers:\n  a:\n    endpoint: {endpoint}\n"));
        assert_eq!((line, column), (3, 15), "{shown}");
        assert!(shown.contains(said), "{endpoint}: {shown}");
    }
}

#[test]
fn http_to_an_external_provider_is_refused_where_it_is_called_external() {
    let (_, _, shown) = only("providers: {a: {kind: external, endpoint: 'http://host/'}}");
    assert!(shown.contains("anyone on the way can read"), "{shown}");
    only("providers: {a: {kind: external, endpoints: {up: 'http://host/'}}}");
    good("providers: {a: {kind: local, endpoint: 'http://host/'}}");
}

#[test]
fn a_number_without_a_unit_is_refused_with_the_accepted_form() {
    let (line, column, shown) = only("providers:\n  a:\n    timeouts: {total: 60}\n");
    assert_eq!((line, column), (3, 23));
    assert!(shown.contains("a number without a unit") && shown.contains("`30s`"), "{shown}");
    let (_, _, shown) = only("plugins: {limits: {memory: 64}}");
    assert!(shown.contains("`64MiB`"), "{shown}");
    for (field, value) in [
        ("timeouts: {total", "0s"),
        ("timeouts: {total", "8d"),
        ("timeouts: {total", "1y"),
        ("limits: {concurrency", "0"),
    ] {
        only(&format!("providers: {{a: {{{field}: {value}}}}}}}"));
    }
}

#[test]
fn memory_and_stack_that_no_adapter_can_have_are_refused_with_the_range() {
    let (line, column, shown) = only("plugins:\n  limits: {memory: 2GiB}\n");
    assert_eq!((line, column), (2, 20));
    assert!(shown.contains("at most 1GiB"), "{shown}");
    for stack in ["63KiB", "17MiB"] {
        let (_, _, shown) = only(&format!("plugins: {{overrides: {{a: {{stack: {stack}}}}}}}"));
        assert!(shown.contains("64KiB to 16MiB"), "{shown}");
    }
}

// ---------------------------------------------------------------------- routes

#[test]
fn routes_name_providers_with_models_or_models_that_are_listed() {
    let providers = "providers: {a: {models: [m, org/m]}, b: {kind: external, models: [m]}}\n";
    let config = good(&format!(
        "{providers}routes: {{r: [a/x, m, org/m], s: {{candidates: [a/m], sensitive: true}}}}"
    ));
    let target = |provider: Option<&str>, model: &str| RouteTarget {
        provider: provider.map(|name| ProviderName::new(name).unwrap()),
        model: ModelName::new(model).unwrap(),
    };
    let expected = [target(Some("a"), "x"), target(None, "m"), target(None, "org/m")];
    assert_eq!(config.routes["r"].candidates, expected);
    assert!(config.routes["s"].sensitive && !config.routes["r"].sensitive);
    for (routes, said) in [
        ("{r: [aa/x]}", "no provider `aa`"),
        ("{r: [mm]}", "Did you mean `m`?"),
        ("{r: []}", "no candidates"),
        ("{r: {order: cost}}", "without `candidates`"),
        ("{r: {candidates: [m], order: best}}", "no order"),
        ("{a: [m]}", "same name"),
        ("{R: [m]}", "not a name"),
        ("{r: {candidates: [b/m], sensitive: true}}", "leave your machines"),
    ] {
        let (line, _, shown) = only(&format!("{providers}routes: {routes}"));
        assert_eq!(line, 2, "{routes}");
        assert!(shown.contains(said), "{routes}: {shown}");
    }
}

#[test]
fn attempts_have_a_range_and_fallbacks_lead_somewhere() {
    let providers = "providers: {a: {models: [m]}}\n";
    for (routing, said) in [
        ("{attempts: 17}", "from 1 to 16"),
        ("{attempts: 0}", "from 1 to 16"),
        ("{fallback: {gone: [n]}}", "no provider lists the model"),
        ("{streams: {hold: 2}}", "without a unit"),
        ("{streams: {broken: fix}}", "Write `end` or `continue`"),
        ("{hedge: {share: 10}}", "without `after`"),
        ("{hedge: {after: 1s, share: 101}}", "from 1 to 100"),
    ] {
        let (_, _, shown) = only(&format!("{providers}routing: {routing}"));
        assert!(shown.contains(said), "{routing}: {shown}");
    }
}

#[test]
fn healths_thresholds_have_ranges_and_fit_together() {
    for (health, column, said) in [
        ("failures: 0", 20, "from 1 to 1000"),
        ("failures: 1001", 20, "from 1 to 1000"),
        ("failures: few", 20, "where a number is wanted"),
        ("share: 0", 17, "from 1 to 100"),
        ("share: 101", 17, "from 1 to 100"),
        ("of: 2.5", 14, "from 1 to 1000"),
        ("within: 30", 18, "without a unit"),
        ("within: 2h", 18, "more than 1 hour"),
        ("rest: 0s", 16, "nothing happens within no time"),
        ("rest: 61m", 16, "more than 1 hour"),
        ("longest_rest: 2h, rest: 10m", 24, "more than 1 hour"),
        ("rest: 10m", 16, "the longest rest is shorter than the first"),
        ("longest_rest: 4s", 24, "the longest rest is shorter than the first"),
        ("rest: 2s, longest_rest: 1s", 34, "the longest rest is shorter than the first"),
    ] {
        let (line, at, shown) = only(&format!("providers:\nhealth: {{{health}}}"));
        assert_eq!((line, at), (2, column), "{health}: {shown}");
        assert!(shown.contains(said), "{health}: {shown}");
    }
    assert_eq!(good("health: {failures: 1}").health.rest, HealthChecks::default().rest);
    good("health: {rest: 10m, longest_rest: 10m}");
}

#[test]
fn several_keys_have_names_and_places() {
    let config =
        good("providers: {a: {keys: [one, {name: two, env: TWO}, {name: three, file: k}]}}");
    let keys = &config.providers["a"].keys;
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(keys[0].source, None);
    assert!(matches!(keys[1].source, Some(KeySource::Env(_))));
    assert!(matches!(keys[2].source, Some(KeySource::File(_))));
    for (keys, said) in [
        ("keys: [one, one]", "listed twice"),
        ("keys: [{env: A}]", "without a `name`"),
        ("keys: [{name: a, env: A, file: b}]", "more than one place"),
        ("keys: [One]", "not a name"),
        ("{key: {env: A}, keys: [one]}", "together"),
    ] {
        let provider = if keys.starts_with('{') { keys.to_owned() } else { format!("{{{keys}}}") };
        let (_, _, shown) = only(&format!("providers:\n  a: {provider}\n"));
        assert!(shown.contains(said), "{keys}: {shown}");
    }
    let key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789";
    let (_, _, shown) = only(&format!("providers:\n  a: {{keys: [{key}]}}\n"));
    assert!(!shown.contains(key), "{shown}");
}

#[test]
fn a_key_stands_only_once() {
    let (line, column, shown) = only("providers:\n  a:\n  b:\n  a:\n");
    assert_eq!((line, column), (4, 3));
    assert!(shown.contains("`a` stands here twice, first in line 2"), "{shown}");
    only("providers: {a: {settings: {x: 1, x: 2}}}");
    only("server: {}\nserver: {}\n");
}

#[test]
fn a_model_is_offered_once() {
    for models in ["[a, a]", "[a, {id: b, alias: a}]", "[{id: a, alias: a}]"] {
        let (_, _, shown) = only(&format!("providers: {{p: {{models: {models}}}}}"));
        assert!(shown.contains("`a` is listed twice"), "{shown}");
    }
    only("providers: {p: {models: [{alias: b}]}}");
    only("providers: {p: {models: gpt-5}}");
    only("providers: {p: {models: ['with space']}}");
}

#[test]
fn listening_to_other_machines_needs_tokens() {
    let (line, column, shown) = only("server:\n  listen: 0.0.0.0:8484\n");
    assert_eq!((line, column), (2, 11));
    assert!(shown.contains("without a token"), "{shown}");
    good("server: {listen: '[::1]:1'}");
    good("server: {listen: 'localhost:8484'}");
    good("server: {listen: '0.0.0.0:8484', tokens: [{name: a, env: A}]}");
    // A token that is wrong is one problem, not two.
    only("server: {listen: '0.0.0.0:8484', tokens: [{name: a, env: A, file: b}]}");
}

#[test]
fn tokens_name_a_caller_and_one_place() {
    for token in [
        "{name: a}",
        "{env: A}",
        "{name: a, env: A, file: b}",
        "{name: local, env: A}",
        "{name: A, env: A}",
        "{name: a, sha256: abc}",
        "{name: a, env: A}, {name: a, env: B}",
    ] {
        only(&format!("server: {{tokens: [{token}]}}"));
    }
}

#[test]
fn grants_are_known_words() {
    let (_, _, shown) = only("providers: {p: {grants: [read]}}");
    assert!(shown.contains("There are: read-content."), "{shown}");
}

#[test]
fn what_isnt_yaml_is_refused_with_its_place() {
    for (text, line, said) in [
        ("providers:\n\tdemo:\n", 2, "indented with spaces"),
        ("providers: [\n", 1, "unclosed"),
        ("a: b: c\n", 1, ""),
        ("providers:\n  a: 'x\n", 3, ""),
        ("server: {}\n---\nserver: {}\n", 3, "one YAML document"),
        ("providers: *nope\n", 1, ""),
        ("providers: \u{0}\n", 1, ""),
        ("? [a]\n: b\n", 1, ""),
        ("- a\n", 1, "a list where a mapping is wanted"),
        ("providers", 1, "a text where a mapping is wanted"),
    ] {
        let (at, _, shown) = only(text);
        assert_eq!(at, line, "{text:?}: {shown}");
        assert!(shown.contains(said), "{text:?}: {shown}");
    }
}

#[test]
fn bytes_that_arent_utf8_are_refused_with_their_line() {
    let error = Config::parse(b"providers:\n  a: \xff\n", Path::new("p.yaml")).unwrap_err();
    assert_eq!(error.to_string().lines().next(), Some("p.yaml:2:6: byte 16 isn't UTF-8"));
    let utf16: Vec<u8> = "\u{feff}providers:".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(Config::parse(&utf16, Path::new("p.yaml")).is_err());
}

#[test]
fn alias_bombs_depth_and_size_are_refused_quickly() {
    let begun = processor_time();
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        let below = vec![format!("*a{}", level - 1); 10].join(",");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    let (_, _, shown) = only(&bomb);
    assert!(shown.contains("aliases expand to too much"), "{shown}");
    only(&format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000)));
    only(&format!("a: {}", "{a: ".repeat(10_000)));
    let deep: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    only(&deep);
    bad(&format!("a: [{}]", "x,".repeat(200_000)));
    only("a: &a [*a]\n");
    // A long text by a thousand aliases, a thousand problems in one long line, long names nested.
    let (_, _, shown) =
        only(&format!("a: &a {}\nb: [{}]\n", "x".repeat(400_000), "*a,".repeat(900)));
    assert!(shown.contains("longer than 16 KiB"), "{shown}");
    bad(&format!(
        "providers: {{{}}}",
        (0..20_000).map(|n| format!("a{n}: x, ")).collect::<String>()
    ));
    let nested: String =
        (0..11).map(|d| format!("{}{}:\n", " ".repeat(d + 3), "k".repeat(1000))).collect();
    let values: String = (0..9_000).map(|n| format!("{}k{n}: ~\n", " ".repeat(15))).collect();
    good(&format!("providers:\n a:\n  settings:\n{nested}{values}"));
    let error = bad(&" ".repeat(MAX_FILE + 1));
    assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    let took = processor_time() - begun;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Of this thread, so that a busy machine doesn't count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_thousand_mistakes_are_counted_but_not_kept() {
    let error = bad(&(0..1000).map(|n| format!("unknown{n}: 1\n")).collect::<String>());
    assert_eq!(error.problems.len(), 51);
    assert!(error.to_string().contains("950 more problems"));
}

#[test]
fn a_long_line_is_shown_around_the_fault() {
    let models: Vec<_> = (0..500).map(|n| format!("model-{n}")).collect();
    let (_, column, shown) =
        only(&format!("providers: {{p: {{models: [{}], bad: 1}}}}", models.join(", ")));
    assert!(column > 4000);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].len() < 150, "{}", lines[1]);
    assert_eq!(lines[2].find('^'), lines[1].replace('…', ".").find("bad:"), "{shown}");
}

// ---------------------------------------------------------------------- secrets

#[test]
fn a_key_in_the_file_is_refused_and_never_shown() {
    const CANARY: &str = "sk-canary0123456789abcdef";
    for text in [
        format!("providers:\n  openai:\n    key: {CANARY}\n"),
        format!("providers:\n  openai:\n    key: '{CANARY}'\n"),
        format!("providers:\n  openai:\n    key:\n      {CANARY}\n"),
        format!("providers:\n  openai:\n    key: |\n      {CANARY}\n"),
        format!("providers:\n  openai:\n    api_key: {CANARY}\n"),
        format!("providers:\n  openai:\n    apiKey: [{CANARY}]\n"),
        format!("providers:\n  openai:\n    settings: {{api_key: {CANARY}}}\n"),
        format!("providers:\n  openai:\n    settings: {{harmless: {CANARY}}}\n"),
        format!("providers:\n  openai:\n    models: [{CANARY}]\n"),
        format!("providers:\n  openai:\n    adapter: {CANARY}\n"),
        format!("providers:\n  openai:\n    endpoint: {CANARY}\n"),
        format!("providers:\n  openai:\n    unknown: {CANARY}\n"),
        format!("providers:\n  openai: {CANARY}\n"),
        format!("providers:\n  openai:\n    key: {{env: {CANARY}}}\n"),
        format!("providers:\n  openai:\n    key: {{file: {CANARY}}}\n"),
        format!("providers:\n  openai:\n    key: {{value: {CANARY}}}\n"),
        format!("providers:\n  {CANARY}: {{}}\n"),
        format!("providers:\n  openai:\n    endpoint: https://me:{CANARY}@host/\n"),
        format!("providers:\n  openai:\n    endpoint: https://host/?key={CANARY}\n"),
        format!("server: {{tokens: [{CANARY}]}}\n"),
        format!("server: {{tokens: [{{name: a, token: {CANARY}}}]}}\n"),
        format!("server: {{tokens: [{{name: a, sha256: {CANARY}}}]}}\n"),
        format!("providers:\n  openai:\n    key: \"{CANARY}\n"),
        format!("providers:\n  openai:\n    key: {CANARY}: x\n"),
        CANARY.to_owned(),
        format!("{CANARY}: 1"),
        format!("vault: {{master_key: {CANARY}}}"),
    ] {
        let error = bad(&text);
        for shown in
            [error.to_string(), format!("{error:?}"), serde_json::to_string(&error).unwrap()]
        {
            assert!(!shown.contains("canary"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_key_without_any_look_of_one_isnt_shown_either() {
    for text in [
        "providers: {openai: {key: hunter2canary}}",
        "providers: {openai: {key: [hunter2canary]}}",
        "providers: {openai: {api_key: hunter2canary}}",
        "providers: {openai: {password: hunter2canary}}",
        "providers: {openai: {settings: {secret: hunter2canary}}}",
        "providers: {openai: {key: {env: hunter2-canary}}}",
        "providers: {openai: {key: {is: hunter2canary}}}",
        "server: {tokens: [hunter2canary]}",
        "server: {tokens: [{name: a, is: hunter2canary}]}",
        "providers: {openai: {endpoint: 'https://me:hunter2canary@host/'}}",
        "vault: {key: hunter2canary}",
        "vault: {is: hunter2canary}",
    ] {
        let error = bad(text);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("canary"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_key_in_the_file_gets_advice() {
    let (line, column, shown) =
        only("providers:\n  my.openai:\n    key: sk-0123456789abcdef0123\n");
    assert_eq!((line, column), (3, 10));
    assert!(shown.contains("3 |     key: [hidden]"), "{shown}");
    assert!(shown.contains("`keyward key set my.openai`"), "{shown}");
    assert!(shown.contains("{env: MY_OPENAI_API_KEY}"), "{shown}");
}

// ---------------------------------------------------------------------- models and prices

#[test]
fn a_models_facts_and_prices_are_read_as_written() {
    let config = good(
        "providers:
  azure:
    adapter: azure-openai
    models:
      - id: my-gpt
        context_window: 128000
        max_output_tokens: 16384
        prices: {input: 0.150, cache_read: \"0.075\", cache_write_1h: 2, output: 0.60, request: 0.001}
      - id: dated
        prices:
          - {input: 2, units: {searches: 0.01}}
          - {from: 2026-10-07, currency: EUR, input: 1, above: [{tokens: 200000, input: 2}]}
      - {id: free, prices: []}
",
    );
    let models = &config.providers["azure"].models;
    assert_eq!(
        (models[0].context_window, models[0].max_output_tokens),
        (Some(128_000), Some(16_384))
    );
    let price = &models[0].prices.as_ref().unwrap()[0];
    // Not as a float would have it.
    assert_eq!(price.amounts.per_million["input"], "0.150");
    assert_eq!(price.amounts.per_million["cache-read"], "0.075");
    assert_eq!(price.amounts.parts["cache_write_1h_tokens"].per_million, "2");
    assert_eq!(price.per_unit["request"], "0.001");
    assert_eq!((price.currency.as_str(), price.from.as_str()), ("USD", "1970-01-01"));
    let dated = models[1].prices.as_ref().unwrap();
    assert_eq!((dated[1].from.as_str(), dated[1].currency.as_str()), ("2026-10-07", "EUR"));
    assert_eq!(dated[1].above[0].tokens, 200_000);
    assert_eq!(models[2].prices.as_deref(), Some(&[][..]));
}

#[test]
fn a_wrong_price_is_shown_where_it_stands() {
    for (prices, message, place) in [
        ("{input: 1e-3}", "`1e-3` is no amount", "1e-3"),
        ("{input: -1}", "`-1` is no amount", "-1"),
        ("{input: [1]}", "a list where a text is wanted", "[1]"),
        ("{input: 1, currency: usd}", "'usd' is no currency", "usd"),
        ("{input: 1, from: 2026-02-30}", "'2026-02-30' is no day", "2026-02-30"),
        ("{input: 1, bill: neurons}", "the unit 'neurons' that is billed has no price", "{input"),
        ("{input: 0.0000000000001}", "at most 12 digits", "{input"),
        ("[{input: 1}, {input: 2}]", "order of their days", "[{input"),
        ("{above: [{input: 1}]}", "without its `tokens`", "{input"),
        ("{cached: 1}", "unknown key `cached`", "cached"),
    ] {
        let text = format!("providers: {{a: {{models: [{{id: m, prices: {prices}}}]}}}}");
        let error = bad(&text);
        let problem = &error.problems[0];
        assert!(problem.to_string().contains(message), "{prices}: {problem}");
        let column = text.rfind(place).unwrap() as u32 + 1;
        assert_eq!(problem.at.unwrap().column, column, "{prices}: {problem}");
    }
}

// ---------------------------------------------------------------------- places, schema, the file

#[test]
fn later_problems_are_shown_at_their_field() {
    let config = good(FULL);
    let problem = config.problem(
        "providers.local-llama.settings.num_ctx",
        "too large",
        Some("At most 4096."),
    );
    assert_eq!(problem.at, Some(Position { line: 22, column: 16 }));
    let shown = problem.to_string();
    assert!(
        shown.contains("settings: {num_ctx: 8192") && shown.contains("= At most 4096."),
        "{shown}"
    );
    for path in [
        "providers.demo",
        "providers.openai.models[1]",
        "providers.local-llama.endpoints.api",
        "providers.local-llama.settings.nested.list[2]",
        "plugins.overrides.openai.memory",
    ] {
        assert!(config.position(path).is_some(), "{path}");
    }
    assert_eq!(config.problem("providers.absent", "x", None).at, None);
}

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.schema.json");
    let schema = serde_json::to_string_pretty(&Config::json_schema()).unwrap() + "\n";
    if std::env::var_os("KEYWARD_BLESS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == schema,
        "docs/providers.schema.json is out of date: run `KEYWARD_BLESS=1 cargo test -p keyward schema`"
    );
}

#[test]
fn the_schema_requires_what_the_reader_requires() {
    let schema = Config::json_schema();
    assert_eq!(schema.get("required"), None);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let required = definition.get("required").map(ToString::to_string);
        let expected = match name.as_str() {
            "Token" => Some(r#"["name"]"#),
            "Model" => Some(r#"["id"]"#),
            "LongPrompt" => Some(r#"["tokens"]"#),
            "Route" => Some(r#"["candidates"]"#),
            "Hedge" => Some(r#"["after"]"#),
            "NamedKey" => Some(r#"["name"]"#),
            "AnswerCache" => Some(r#"["ttl"]"#),
            "PrivacyPattern" => Some(r#"["pattern"]"#),
            _ => None,
        };
        assert_eq!(required.as_deref(), expected, "{name}");
    }
}

/// The reader and the schema are written apart; here they are held together.
#[test]
fn the_reader_knows_the_fields_of_the_schema() {
    let schema = Config::json_schema();
    let fields = |definition: &str| {
        let object = match definition {
            "" => &schema,
            name => &schema["$defs"][name],
        };
        let mut names = Vec::new();
        let mut objects = vec![object];
        while let Some(object) = objects.pop() {
            names.extend(object["properties"].as_object().into_iter().flat_map(|all| all.keys()));
            let choices = ["oneOf", "anyOf"].map(|of| object[of].as_array().into_iter().flatten());
            objects.extend(choices.into_iter().flatten());
        }
        let mut names: Vec<String> = names.into_iter().cloned().collect();
        names.sort();
        names
    };
    for (definition, text) in [
        ("", "zz: 1"),
        ("Server", "server: {zz: 1}"),
        ("Token", "server: {tokens: [{name: a, env: A, zz: 1}]}"),
        ("Provider", "providers: {a: {zz: 1}}"),
        ("KeySource", "providers: {a: {key: {env: A, zz: 1}}}"),
        ("NamedKey", "providers: {a: {keys: [{name: a, zz: 1}]}}"),
        ("Model", "providers: {a: {models: [{id: a, zz: 1}]}}"),
        ("Prices", "providers: {a: {models: [{id: a, prices: {zz: 1}}]}}"),
        (
            "LongPrompt",
            "providers: {a: {models: [{id: a, prices: {above: [{tokens: 1, zz: 1}]}}]}}",
        ),
        ("Timeouts", "providers: {a: {timeouts: {zz: 1}}}"),
        ("Limits", "providers: {a: {limits: {zz: 1}}}"),
        ("Plugins", "plugins: {zz: 1}"),
        ("SandboxLimits", "plugins: {limits: {zz: 1}}"),
        ("Vault", "vault: {zz: 1}"),
        ("Metering", "metering: {zz: 1}"),
        ("Route", "{providers: {b: }, routes: {a: {candidates: [b/m], zz: 1}}}"),
        ("Routing", "routing: {zz: 1}"),
        ("HealthChecks", "health: {zz: 1}"),
        ("CacheSizes", "cache: {zz: 1}"),
        ("AnswerCache", "providers: {a: {cache: {ttl: 1m, zz: 1}}}"),
        ("Batching", "providers: {a: {batch: {zz: 1}}}"),
        ("Streams", "routing: {streams: {zz: 1}}"),
        ("Hedge", "routing: {hedge: {after: 1s, zz: 1}}"),
        ("Privacy", "privacy: {zz: 1}"),
        ("PrivacyPattern", "privacy: {patterns: {a: {pattern: a, zz: 1}}}"),
    ] {
        let help = bad(text).problems[0].help.clone().unwrap();
        let known = help.split_once("Known here: ").unwrap().1.split_once('.').unwrap().0;
        let mut known: Vec<_> = known.split(", ").map(str::to_owned).collect();
        known.sort();
        assert_eq!(known, fields(definition), "{definition}");
    }
}

#[test]
fn the_projects_own_file_works() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers.yaml");
    let loaded = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
    let config = &loaded.config;
    for name in ["demo", "openai", "anthropic", "ollama"] {
        assert!(config.providers[name].enabled, "{name}");
    }
    assert!(config.server.listen.ip().is_loopback());
    // What is commented out there is right as well.
    let text = std::fs::read_to_string(&path).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("#| ").unwrap_or(line).to_owned() + "\n")
        .collect();
    assert!(uncommented != text);
    good(&uncommented);
}

#[test]
fn the_examples_of_the_routing_page_work() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/routing.md");
    let page = std::fs::read_to_string(path).unwrap();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 8);
    examples.into_iter().for_each(|example| drop(good(example)));
}

// ---------------------------------------------------------------------- hostile input

/// Whatever comes: no panic, never without a reason, and a text to show.
fn survives(bytes: &[u8]) {
    if let Err(error) = Config::parse(bytes, Path::new("p.yaml")) {
        assert!(!error.problems.is_empty());
        let shown = error.to_string();
        assert!(!shown.contains('\u{1b}'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes);
    }

    #[test]
    fn random_text_does_no_harm(text in "[ -~\t\r\n\u{80}-\u{2100}]{0,300}") {
        survives(text.as_bytes());
    }

    #[test]
    fn yaml_like_text_does_no_harm(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "providers", "openai", "key", "models", "settings", "endpoint", "https://", "@", "?", ": ", ":\n", "\n",
                "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "'", "\"", "|\n", ">\n", "#", "---\n", "sk-0123456789abcdef",
                "!!str ", "!x ", "~", "1", "1.5", "0x", "\r", "\t", "${X}", "é", "\u{1b}", "\u{feff}",
            ]),
            0..60,
        )
    ) {
        let text: String = parts.concat();
        survives(text.as_bytes());
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().contains("0123456789abcdef"), "{}\n{}", text, error);
        }
    }

    #[test]
    fn a_good_file_with_something_changed_does_no_harm(
        at in 0..FULL.len(),
        length in 0..40_usize,
        insert in "[ -~\t\n]{0,8}",
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes.splice(at..(at + length).min(FULL.len()), insert.bytes());
        survives(&bytes);
    }

    #[test]
    fn a_good_file_cut_anywhere_does_no_harm(at in 0..FULL.len()) {
        survives(&FULL.as_bytes()[..at]);
    }
}
