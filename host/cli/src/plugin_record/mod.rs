//! `keyward plugin record`: one real call, kept as a recording.
//!
//! The call goes the way every call goes: sandbox, grants, egress, credential, meter. A tape on
//! that one exchange keeps what the adapter could see. The [`draft`] of it is searched for what is
//! private ([`scrub`]), searched again, and searched for the provider's keys in every spelling the
//! host knows; what is left over then is a refusal, not a file. At last the recording is replayed
//! through the same component: the events must be those of the call.
//!
//! It needs the data folder for itself, for the keys are in it. Costs what the call costs.

mod draft;
mod scrub;

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use keyward::{
    catalog::Provider,
    gateway::Recorded,
    ids::ModelName,
    operation::{
        Chat, Dialect, Embed, EmbedInput, Format, Message, Operation, PartBody, Role, Sampling,
    },
};
use keyward_contract::OperationKind;
use keyward_sdk::replay::Recording;
use serde_json::{Value as Json, json};

use crate::{
    args::{Places, Record, RecordedOperation},
    client::Client,
    commands,
    plugin_test::{self, Report},
};
use draft::{Draft, Seen};
use scrub::{Kind, Scrub};

/// Harmless, short, and the answer costs next to nothing.
const PROMPT: &str = "Say hello in one word.";

pub async fn record(places: &Places, record: Record) -> Result<ExitCode> {
    check_output(&record.output, record.force)?;
    if Client::running(&places.data).await.is_some() {
        bail!(
            "a gateway runs on {} and has the keys in it to itself: stop it, or use another data \
             folder (--data DIR) with the key in it or in its variable",
            places.data.display()
        );
    }
    /// A single command needs few slots; each reserves address space.
    const SLOTS: u32 = 8;
    let gateway = commands::open_gateway(places, SLOTS).await?;
    let provider = gateway.provider(&record.provider)?;
    let (operation, written) = operation(&provider, &record)?;
    let recorded = gateway.record(&record.provider, &operation).await;
    gateway.flush().await;
    let recorded = recorded.context("nothing was recorded")?;
    let models = matches!(operation, Operation::ListModels);
    finish(places, &record, recorded, written, models).await
}

/// Finds out before the call, which may cost money, that its recording couldn't be written.
fn check_output(output: &Path, force: bool) -> Result<()> {
    if output.extension().is_none_or(|extension| extension != "json") {
        bail!("{}: a recording's name ends in .json", output.display());
    }
    if output.exists() && !force {
        bail!("{} is there already; --force writes over it", output.display());
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        bail!("{}: there is no such folder", output.display());
    }
    Ok(())
}

/// What to ask, for the gateway and as the recording writes it.
fn operation(provider: &Provider, record: &Record) -> Result<(Operation, Json)> {
    let kind = match record.operation {
        RecordedOperation::Chat | RecordedOperation::Stream => OperationKind::Chat,
        RecordedOperation::Embed => OperationKind::Embed,
        RecordedOperation::Models => OperationKind::ListModels,
        RecordedOperation::Probe => OperationKind::Probe,
    };
    if !provider.plugin.can(kind) {
        bail!("the adapter '{}' can't do that: its descriptor says so", provider.plugin.name);
    }
    let prompt = record.prompt.as_deref().unwrap_or(PROMPT);
    match record.operation {
        RecordedOperation::Models | RecordedOperation::Probe => {
            if record.prompt.is_some() || record.model.is_some() {
                bail!("--prompt and --model go with chat, stream and embed only");
            }
            Ok(match kind {
                OperationKind::ListModels => (Operation::ListModels, json!("list-models")),
                _ => (Operation::Probe, json!("probe")),
            })
        }
        RecordedOperation::Chat | RecordedOperation::Stream => {
            let model = model(provider, record, "chat")?;
            let stream = matches!(record.operation, RecordedOperation::Stream);
            let mut written =
                json!({"model": model.as_str(), "messages": [{"role": "user", "content": prompt}]});
            if stream {
                written["stream"] = json!(true);
            }
            let chat = Chat {
                model,
                messages: vec![Message {
                    role: Role::User,
                    answers: None,
                    name: None,
                    parts: vec![PartBody::Text(prompt.into()).into()],
                    extra: Vec::new(),
                }],
                tools: Vec::new(),
                tool_choice: None,
                parallel_tool_calls: None,
                format: Format::Text,
                sampling: Sampling::default(),
                reasoning: None,
                stream,
                dialect: Dialect::OpenAiChat,
                extra: Vec::new(),
            };
            Ok((Operation::Chat(Arc::new(chat)), json!({ "chat": written })))
        }
        RecordedOperation::Embed => {
            let model = model(provider, record, "embed")?;
            let written = json!({"model": model.as_str(), "inputs": [prompt]});
            let embed = Embed {
                model,
                inputs: vec![EmbedInput::Text(prompt.into())],
                dimensions: None,
                base64: false,
                purpose: None,
                dialect: Dialect::OpenAiChat,
                extra: Vec::new(),
            };
            Ok((Operation::Embed(Arc::new(embed)), json!({ "embed": written })))
        }
    }
}

/// The model asked for, or else the first one known that can do it.
fn model(provider: &Provider, record: &Record, capability: &str) -> Result<ModelName> {
    if let Some(name) = &record.model {
        let name = ModelName::new(name)?;
        return Ok(provider.listed(&name).cloned().unwrap_or(name));
    }
    let described = &provider.plugin.descriptor.models;
    let can = |name: &&ModelName| {
        let known = described.iter().find(|model| model.id == name.as_str());
        known.is_none_or(|model| model.capabilities.iter().any(|can| can == capability))
    };
    provider.models().iter().find(can).cloned().with_context(|| {
        format!("'{}' lists no model for this: name one with --model", provider.name)
    })
}

async fn finish(
    places: &Places,
    record: &Record,
    recorded: Recorded,
    operation: Json,
    models: bool,
) -> Result<ExitCode> {
    let Recorded { provider, taped, events, secrets } = recorded;
    let about = format!(
        "A real answer to {}, recorded through the adapter {} {}; private parts replaced.",
        provider.name, provider.plugin.name, provider.plugin.descriptor.version
    );
    let asked = operation.pointer("/chat/model").or(operation.pointer("/embed/model"));
    let asked = asked.and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut draft = Draft::new(about, operation, taped, events)?;

    let mut scrub = Scrub::new(models);
    scrub.spare(&asked);
    draft.visit(&mut |seen| look(&mut scrub, &seen));
    let found = scrub.found().len();
    draft.scrub(&scrub);
    draft.visit(&mut |seen| look(&mut scrub, &seen));
    if let Some(left) = scrub.found().iter().find(|one| one.number >= found) {
        bail!(
            "nothing was written: the answer has a private value ({}) spelt so that it can't be \
             taken out; ask for something else",
            left.kind.label()
        );
    }
    let mut leaks = false;
    let mut search = |bytes: &[u8]| leaks |= secrets.occur_in(bytes);
    draft.visit(&mut |seen| match seen {
        Seen::Json(json) => strings(json, &mut |text| search(text.as_bytes())),
        Seen::Header(_, value) => search(value.as_bytes()),
        Seen::Body(text) => search(text.as_bytes()),
    });
    for whole in [false, true] {
        search(draft.text(whole)?.as_bytes());
    }
    if leaks {
        bail!(
            "nothing was written: the recording would hold the key of '{}'; look at what the \
             prompt says, and at what the vendor repeats",
            provider.name
        );
    }

    // An adapter that uses neither clock nor chance needs neither in its recording.
    let name = record.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let runtime = tokio::runtime::Handle::current();
    let mut text = String::new();
    let mut report = None;
    for whole in [false, true] {
        text = draft.text(whole)?;
        let recording = Recording::parse(&name, &text).map_err(anyhow::Error::msg)?;
        let (plugin, runtime) = (Arc::clone(&provider.plugin), runtime.clone());
        let work = move || plugin_test::report(&recording, &plugin, &runtime);
        let replayed = tokio::task::spawn_blocking(work).await?;
        let same = replayed.problem.is_none();
        report = Some(replayed);
        if same {
            break;
        }
    }
    let report = report.context("nothing was replayed")?;
    // A value that came in two pieces was replaced in the events, where it is whole, and not in
    // the vendor's bytes, where it isn't: parts of it would be left.
    if report.problem.is_some() && !scrub.found().is_empty() {
        bail!(
            "nothing was written: once private values are replaced, other events come out; most \
             likely one is cut across pieces of the stream. Ask for something else, or without \
             streaming"
        );
    }
    fs::write(&record.output, &text)
        .with_context(|| format!("can't write {}", record.output.display()))?;
    tell(places, record, &draft, &scrub, &report);
    Ok(if report.problem.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(scrub: &mut Scrub, seen: &Seen<'_>) {
    match seen {
        Seen::Json(json) => scrub.look_at_json(json),
        Seen::Header(name, value) => scrub.look_at_header(name, value),
        Seen::Body(text) => scrub.look_at_body(text),
    }
}

fn strings(json: &Json, see: &mut dyn FnMut(&str)) {
    match json {
        Json::String(text) => see(text),
        Json::Array(items) => items.iter().for_each(|item| strings(item, see)),
        Json::Object(members) => {
            for (name, value) in members {
                see(name);
                strings(value, see);
            }
        }
        _ => {}
    }
}

fn tell(places: &Places, record: &Record, draft: &Draft, scrub: &Scrub, report: &Report) {
    let mut kinds: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
    for found in scrub.found() {
        kinds.entry(found.kind).or_default().push(&found.placeholder);
    }
    if places.json {
        let replaced: Vec<Json> = kinds
            .iter()
            .map(|(kind, placeholders)| json!({"what": kind.label(), "by": placeholders}))
            .collect();
        return commands::print_json(&json!({
            "file": record.output,
            "requests": draft.requests(),
            "status": draft.status(),
            "events": draft.events(),
            "replaced": replaced,
            "replayed": report,
        }));
    }
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    println!(
        "Recorded {}: {}, {}{}.",
        record.output.display(),
        count(draft.requests(), "request"),
        count(draft.events(), "event"),
        draft.status().map(|status| format!(", HTTP {status}")).unwrap_or_default()
    );
    if kinds.is_empty() {
        println!("Nothing private was found in it.");
    }
    for (kind, placeholders) in &kinds {
        println!("Replaced ({}): now {}.", kind.label(), placeholders.join(", "));
    }
    println!("The provider's keys are not in it. Read it before you share it all the same.");
    match &report.problem {
        None => {
            println!("Replayed through the component: the same events, at {} cuts.", report.cuts)
        }
        Some(problem) => println!(
            "Replayed through the component, it differs:\n{}",
            commands::printable(problem)
        ),
    }
}
