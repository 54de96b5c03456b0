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
            let body = json!({
                "model": model.as_deref().unwrap_or("auto"),
                "messages": [{"role": "user", "content": explain.text}],
                "stream": explain.stream,
            });
            let path = format!("/operator/v1/routes/explain?sensitive={}", explain.sensitive);
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
        let row = |candidate: &Value| {
            let latency = candidate["latency_us"].as_u64().map(|us| format!("{} ms", us / 1000));
            let cost = candidate["cost"].as_str().map(|cost| format!("{cost} USD"));
            vec![
                target(candidate),
                text(candidate, "kind"),
                cost.unwrap_or_else(|| "unknown".into()),
                latency.unwrap_or_else(|| "unknown".into()),
                text(candidate, "reason"),
            ]
        };
        let rows: Vec<Vec<String>> = candidates.iter().map(row).collect();
        table::print(&["CANDIDATE", "KIND", "EXPECTED COST", "LATENCY", "BECAUSE"], &rows);
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

fn target(value: &Value) -> String {
    format!("{}/{}", text(value, "provider"), text(value, "model"))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn entries<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}
