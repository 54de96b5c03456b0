//! `keyward provider`: how providers fare, and taking them out of use.

use std::{process::ExitCode, time::Duration};

use http::Method;
use serde_json::Value;

use super::table;
use crate::args::{Places, Provider};

/// What is in use of each limit stands before it, and what is left of those that hold for a minute.
const COLUMNS: [&str; 8] =
    ["PROVIDER", "KIND", "OPEN", "WAITING", "AT MOST", "REQUESTS LEFT", "TOKENS LEFT", "STATE"];

pub async fn provider(places: &Places, provider: Provider) -> anyhow::Result<ExitCode> {
    let (name, verb, done) = match provider {
        Provider::List => return list(places).await,
        Provider::Disable { name } => (name, "disable", "is out of use until it is enabled"),
        Provider::Enable { name } => (name, "enable", "is used as its health says"),
        Provider::Force { name } => (name, "force", "is used whatever its health says"),
    };
    let client = super::client(places).await?;
    let path = format!("/operator/v1/providers/{name}/{verb}");
    let answer: Value = client.json(Method::POST, &path, None).await?;
    if places.json {
        super::print_json(&answer);
    } else {
        println!("{name} {done}.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(places: &Places) -> anyhow::Result<ExitCode> {
    let client = super::client(places).await?;
    let answer: Value = client.json(Method::GET, "/operator/v1/providers", None).await?;
    if places.json {
        super::print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for provider in answer["providers"].as_array().into_iter().flatten() {
        let name = provider["name"].as_str().unwrap_or_default();
        let kind = provider["kind"].as_str().unwrap_or("-");
        let number = |name: &str| match &provider[name] {
            Value::Null => "-".to_owned(),
            number => number.to_string(),
        };
        let (whole, models): (Vec<&Value>, Vec<&Value>) = provider["health"]
            .as_array()
            .into_iter()
            .flatten()
            .partition(|health| health["model"].is_null());
        let state = match (provider["problem"].as_str(), whole.first()) {
            (Some(problem), _) => problem.to_owned(),
            (None, Some(health)) => standing(health),
            (None, None) => "healthy".into(),
        };
        let limits = &provider["limits"];
        // As "3/64": what is in use, or left of this minute, and the limit.
        let of = |name: &str, limit: &str| match &limits[limit] {
            Value::Null => number(name),
            limit => format!("{}/{limit}", number(name)),
        };
        let wait = limits["wait_ms"].as_u64().map(Duration::from_millis);
        rows.push(vec![
            name.to_owned(),
            kind.to_owned(),
            of("open", "concurrency"),
            of("waiting", "queue"),
            wait.map_or_else(|| "-".into(), |wait| format!("{wait:?}")),
            of("requests_left", "requests_per_minute"),
            of("tokens_left", "tokens_per_minute"),
            state,
        ]);
        for health in models.into_iter().filter(|health| health["standing"] != "healthy") {
            let model = health["model"].as_str().unwrap_or_default();
            let mut row = vec![String::new(); COLUMNS.len()];
            row[0] = format!("  {model}");
            row[COLUMNS.len() - 1] = standing(health);
            rows.push(row);
        }
    }
    table::print(&COLUMNS, &rows);
    Ok(ExitCode::SUCCESS)
}

/// As "down for 4200 ms (timeout)".
fn standing(health: &Value) -> String {
    let standing = health["standing"].as_str().unwrap_or_default();
    let left = health["for_ms"].as_u64().map(|ms| format!(" for {ms} ms")).unwrap_or_default();
    let why = health["why"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
    let forced = match health["forced_by"].as_str() {
        Some(by) => format!(", but used all the same: forced by {by}"),
        None => String::new(),
    };
    format!("{standing}{left}{why}{forced}")
}
