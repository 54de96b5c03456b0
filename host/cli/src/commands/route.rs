//! `keyward route`: where requests go, and why.

use std::process::ExitCode;

use anyhow::bail;
use http::Method;
use serde_json::{Value, json};

use super::{printable, table};
use crate::args::{Explain, Places, Route};

pub async fn route(places: &Places, route: Route) -> anyhow::Result<ExitCode> {
    match route {
        Route::List => list(places).await,
        Route::Explain(explain) => explained(places, explain).await,
    }
}

async fn list(places: &Places) -> anyhow::Result<ExitCode> {
    let client = super::client(places).await?;
    let answer: Value = client.json(Method::GET, "/operator/v1/routes", None).await?;
    if places.json {
        super::print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let routes = entries(&answer, "routes");
    if routes.is_empty() {
        println!(
            "No routes are configured: providers that list the same model stand in for one another."
        );
        return Ok(ExitCode::SUCCESS);
    }
    let row = |route: &Value| {
        let candidates = entries(route, "candidates").iter().filter_map(Value::as_str);
        let state = match route["problem"].as_str() {
            Some(problem) => format!("not in force: {problem}"),
            None => "in force".into(),
        };
        let sensitive = if route["sensitive"] == true { "yes" } else { "no" };
        let candidates = candidates.collect::<Vec<_>>().join(", ");
        vec![text(route, "name"), candidates, sensitive.into(), state]
    };
    let rows: Vec<Vec<String>> = routes.iter().map(row).collect();
    table::print(&["ROUTE", "CANDIDATES", "SENSITIVE", "STATE"], &rows);
    Ok(ExitCode::SUCCESS)
}

async fn explained(places: &Places, explain: Explain) -> anyhow::Result<ExitCode> {
    let client = super::client(places).await?;
    let answer: Value = match (explain.request, explain.model) {
        (Some(request), None) => {
            let path = format!("/operator/v1/routes/explain/{request}");
            client.json(Method::GET, &path, None).await?
        }
        (None, model) => {
            let model = model.as_deref().unwrap_or("auto");
            let (operation, body) = if explain.embed {
                ("embed", json!({"model": model, "input": explain.text}))
            } else {
                let messages = json!([{"role": "user", "content": explain.text}]);
                let stream = explain.stream;
                ("chat", json!({"model": model, "messages": messages, "stream": stream}))
            };
            let path = format!(
                "/operator/v1/routes/explain?operation={operation}&sensitive={}",
                explain.sensitive
            );
            client.json(Method::POST, &path, Some(body)).await?
        }
        (Some(_), Some(_)) => bail!("name a request, or the model of one that you have in mind"),
    };
    if places.json {
        super::print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    // Of a real request the decision is a part.
    let decision = if answer["decision"].is_object() { &answer["decision"] } else { &answer };
    show_decision(decision);
    let tried = entries(&answer, "tried");
    if !tried.is_empty() {
        println!("\nWhat was tried:");
        let row = |tried: &Value| {
            let why = tried["message"].as_str().map(printable).unwrap_or_default();
            let at = format!("{} ms", tried["at_ms"]);
            vec![at, target(tried), text(tried, "outcome"), text(tried, "kind"), why]
        };
        let rows: Vec<Vec<String>> = tried.iter().map(row).collect();
        table::print(&["AFTER", "CANDIDATE", "OUTCOME", "FAILURE", ""], &rows);
    }
    for seam in entries(&answer, "continued") {
        let by = seam["by"].as_str().unwrap_or("nobody");
        let (broken, kind) = (target(&seam["broken"]), text(&seam["broken"], "kind"));
        println!("\n{broken} broke off ({kind}) after {} bytes; {by} went on.", seam["said_bytes"]);
    }
    if let Some(failure) = answer["failure"].as_str() {
        println!("\nIt would fail: {}", printable(failure));
    }
    Ok(ExitCode::SUCCESS)
}

fn show_decision(decision: &Value) {
    let model = text(decision, "model");
    match decision["route"].as_str() {
        Some(route) => println!("'{model}' is the route {route}."),
        None => println!("'{model}' is asked for."),
    }
    let sensitive = &decision["sensitive"];
    match (sensitive.as_str(), &sensitive["route"], &sensitive["detected"]) {
        (Some(_), ..) => println!("It is marked as sensitive: local providers only."),
        (_, Value::String(route), _) => {
            println!("The route {route} is for sensitive requests: local providers only.");
        }
        (.., Value::String(found)) => {
            println!("'{found}' was found in it: local providers only.");
        }
        _ => {}
    }
    let candidates = entries(decision, "candidates");
    if candidates.is_empty() {
        println!("\nNobody may serve it.");
    } else {
        println!("\nCandidates, best first:");
        let mut columns = vec!["CANDIDATE", "KIND", "EXPECTED COST", "LATENCY", "BECAUSE"];
        columns.extend(candidates.iter().find_map(in_use).map(|_| "OPEN NOW"));
        let row = |candidate: &Value| {
            let latency = candidate["latency_us"].as_u64().map(|us| format!("{} ms", us / 1000));
            let cost = candidate["cost"].as_str().map(|cost| format!("{cost} USD"));
            let mut row = vec![
                target(candidate),
                text(candidate, "kind"),
                cost.unwrap_or_else(|| "unknown".into()),
                latency.unwrap_or_else(|| "unknown".into()),
                text(candidate, "reason"),
            ];
            row.extend(in_use(candidate));
            row
        };
        let rows: Vec<Vec<String>> = candidates.iter().map(row).collect();
        table::print(&columns, &rows);
    }
    let refused = entries(decision, "refused");
    if !refused.is_empty() {
        println!("\nLeft out:");
        let row = |refused: &Value| {
            let detail = match &refused["detail"] {
                Value::Null => String::new(),
                Value::String(text) => printable(text),
                Value::Object(fields) => {
                    let fields = fields.iter().map(|(name, value)| format!("{name} {value}"));
                    fields.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            vec![target(refused), text(refused, "why"), detail]
        };
        let rows: Vec<Vec<String>> = refused.iter().map(row).collect();
        table::print(&["CANDIDATE", "WHY", ""], &rows);
    }
}

/// As "64/64, 3 waiting": requests under way, and what keeps another one from beginning at once. None
/// for a real request, whose moment is over.
fn in_use(candidate: &Value) -> Option<String> {
    let open = candidate["open"].as_u64()?;
    let mut shown = format!("{open}/{}", candidate["limits"]["concurrency"]);
    if let Some(waiting) = candidate["waiting"].as_u64().filter(|waiting| *waiting > 0) {
        shown.push_str(&format!(", {waiting} waiting"));
    }
    for (left, of_what) in [("requests_left", "requests"), ("tokens_left", "tokens")] {
        if candidate[left].as_i64().is_some_and(|left| left <= 0) {
            shown.push_str(&format!(", no {of_what} left this minute"));
        }
    }
    Some(shown)
}

fn target(value: &Value) -> String {
    format!("{}/{}", text(value, "provider"), text(value, "model"))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn entries<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}
