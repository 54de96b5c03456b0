//! `keyward plugin`: make, build, check, test, record, list and inspect adapters.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use http::Method;
use keyward::{
    catalog::describe_plugin,
    config::Config,
    sandbox::{Compiler, Limits, Plugin as Loaded, Sandbox, Worker},
};
use serde_json::{Value, json};

use super::table;
use crate::{
    args::{COMPILE_WORKER, Places, Plugin},
    plugin_build, plugin_new, plugin_record, plugin_test,
};

pub async fn plugin(places: &Places, plugin: Plugin) -> anyhow::Result<ExitCode> {
    match plugin {
        Plugin::Build { crates, out } => {
            build(&crates, out.as_deref().unwrap_or(&places.plugins)).await
        }
        Plugin::New(new) => plugin_new::new(places, new).await,
        Plugin::Record(record) => plugin_record::record(places, record).await,
        Plugin::Check { files } => check(places, &files).await,
        Plugin::Test { adapter, recordings } => test(places, &adapter, recordings).await,
        Plugin::List => list(places).await,
        Plugin::Inspect { plugin } => inspect(places, &plugin).await,
    }
}

/// Builds adapter crates; what it does is told line by line on standard error.
pub async fn build(crates: &[PathBuf], out: &Path) -> anyhow::Result<ExitCode> {
    let (crates, out) = (crates.to_owned(), out.to_owned());
    let work = move || plugin_build::build(&crates, &out, &mut |line| eprintln!("{line}"));
    let built = tokio::task::spawn_blocking(work).await??;
    for component in &built {
        println!("{component}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads component files exactly as the gateway would, one after the other.
async fn check(places: &Places, files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    if files.is_empty() {
        bail!("name the component files to check, as plugins/*.wasm");
    }
    let mut all_good = true;
    let mut report = Vec::new();
    for file in files {
        let loaded = load(places, file).await;
        all_good &= loaded.is_ok();
        match &loaded {
            Ok(plugin) => {
                let described =
                    json!({"file": file, "ok": true, "plugin": describe_plugin(plugin)});
                if !places.json {
                    println!(
                        "{}: good: adapter {} {}, imports {}",
                        file.display(),
                        plugin.name,
                        plugin.descriptor.version,
                        line(&described["plugin"]["imports"])
                    );
                }
                report.push(described);
            }
            Err(error) => {
                if !places.json {
                    println!(
                        "{}: refused: {}",
                        file.display(),
                        table::plain(&format!("{error:#}"))
                    );
                }
                report.push(json!({"file": file, "ok": false, "reason": format!("{error:#}")}));
            }
        }
    }
    if places.json {
        super::print_json(&json!(report));
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Replays recordings through a component. The exit code tells whether all of them came out as
/// recorded.
async fn test(
    places: &Places,
    adapter: &str,
    recordings: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let given = Path::new(adapter);
    let built = tempfile::tempdir().context("can't make a temporary folder")?;
    let (component, usual) = if given.join("Cargo.toml").is_file() {
        let (source, out) = (given.to_owned(), built.path().to_owned());
        let work = move || plugin_build::build(&[source], &out, &mut |line| eprintln!("{line}"));
        let made = tokio::task::spawn_blocking(work).await??;
        let made = made.into_iter().next().context("the crate gave no component")?;
        (made.path, Some(given.join("recordings")))
    } else if given.is_file() {
        (given.to_owned(), None)
    } else {
        let named = places.plugins.join(format!("{adapter}.wasm"));
        if !named.is_file() {
            bail!(
                "'{adapter}' is neither an adapter crate, nor a component file, nor a component in {}",
                places.plugins.display()
            );
        }
        (named, Some(places.plugins.join(adapter).join("recordings")))
    };
    let recordings = recordings
        .or(usual.filter(|folder| folder.is_dir()))
        .context("say where the recordings are: --recordings DIR")?;
    let plugin = load(places, &component).await?;
    let runtime = tokio::runtime::Handle::current();
    let work = move || plugin_test::replay(&plugin, &recordings, &runtime);
    let reports = tokio::task::spawn_blocking(work).await??;
    let failed = reports.iter().filter(|report| report.problem.is_some()).count();
    if places.json {
        super::print_json(&json!({"recordings": reports, "failed": failed}));
    } else {
        for problem in reports.iter().filter_map(|report| report.problem.as_ref()) {
            println!("{}\n", table::lines(problem));
        }
        println!(
            "{} recordings, {} cuts, {} exchanges: {} passed, {failed} failed",
            reports.len(),
            reports.iter().map(|report| report.cuts).sum::<usize>(),
            reports.iter().map(|report| report.exchanges).sum::<usize>(),
            reports.len() - failed,
        );
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads a component file under the limits and grants that the configuration gives it, if there is
/// one.
async fn load(places: &Places, file: &Path) -> anyhow::Result<Loaded> {
    let limits = if places.config.is_file() {
        let config = places.config.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&config)).await??;
        Limits::of(&loaded.config.plugins, file)
    } else {
        Limits::default()
    };
    let size =
        std::fs::metadata(file).with_context(|| format!("can't read {}", file.display()))?.len();
    if size > limits.component_size as u64 {
        bail!("the file has {size} bytes; at most {} are loaded", limits.component_size);
    }
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let program = std::env::current_exe()?;
    let worker = Worker::Child { program, arguments: vec![COMPILE_WORKER.into()] };
    let folder = tempfile::tempdir().context("can't make a temporary folder")?;
    let compiler = Compiler::new(Sandbox::new(2)?, worker, folder.path())?;
    Ok(Loaded::load(&compiler, Arc::from(bytes), &limits).await?)
}

async fn list(places: &Places) -> anyhow::Result<ExitCode> {
    let client = super::client(places).await?;
    let answer: Value = client.json(Method::GET, "/control/v1/plugins", None).await?;
    if places.json {
        super::print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let plugins = answer["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value, path: &str| match value.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    };
    let rows: Vec<Vec<String>> = plugins
        .iter()
        .map(|p| {
            let digest: String = text(p, "/plugin/digest").chars().take(12).collect();
            vec![
                text(p, "/plugin/name"),
                text(p, "/plugin/version"),
                text(p, "/plugin/kind"),
                text(p, "/plugin/size"),
                text(p, "/plugin/imports"),
                digest,
                text(p, "/file"),
            ]
        })
        .collect();
    table::print(&["ADAPTER", "VERSION", "KIND", "BYTES", "IMPORTS", "SHA-256", "FILE"], &rows);
    for refused in plugins.iter().filter(|p| p["problem"].is_string()) {
        println!("\n{}: {}", text(refused, "/file"), table::plain(&text(refused, "/problem")));
    }
    if plugins.is_empty() {
        println!(
            "No adapters in {}. Build the bundled ones: keyward plugin build",
            places.plugins.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn inspect(places: &Places, plugin: &str) -> anyhow::Result<ExitCode> {
    let described = if plugin.ends_with(".wasm") || plugin.contains('/') {
        describe_plugin(&load(places, Path::new(plugin)).await?)
    } else {
        let client = super::client(places).await?;
        let path = format!("/control/v1/plugins/{plugin}");
        client.json::<Value>(Method::GET, &path, None).await?
    };
    if places.json {
        super::print_json(&described);
        return Ok(ExitCode::SUCCESS);
    }
    for name in
        ["name", "title", "summary", "version", "kind", "contract", "digest", "size", "imports"]
    {
        println!("{name:<12}{}", line(&described[name]));
    }
    for (title, list) in [
        ("origins", "origins"),
        ("auth", "auth"),
        ("credentials", "credentials"),
        ("settings", "settings"),
        ("operations", "operations"),
        ("grants", "grants"),
        ("sends", "request_headers"),
        ("reads", "response_headers"),
    ] {
        let entries = described[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let shown: Vec<String> = entries.iter().map(line).collect();
        println!(
            "{title:<12}{}",
            if shown.is_empty() { "none".into() } else { shown.join("\n            ") }
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn line(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".into(),
        Value::Object(object) => object
            .iter()
            .filter(|(_, v)| !matches!(v, Value::Null) && v.as_str() != Some(""))
            .map(|(k, v)| format!("{k}: {}", line(v)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    table::plain(&text)
}
