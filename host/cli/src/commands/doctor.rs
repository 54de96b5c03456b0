//! `keyward doctor`: looks at everything a gateway needs, and says what to do about what is wrong.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::table::plain;
use crate::args::Places;

/// One thing looked at.
struct Finding {
    good: bool,
    what: String,
}

pub async fn doctor(places: &Places) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    match super::client(places).await {
        Err(error) => findings.push(Finding { good: false, what: format!("{error:#}") }),
        Ok(client) => {
            let status: Value = client.json(Method::GET, "/control/v1/status", None).await?;
            examine(&status, &mut findings);
        }
    }
    let healthy = findings.iter().all(|finding| finding.good);
    if places.json {
        let list: Vec<Value> =
            findings.iter().map(|f| json!({"good": f.good, "what": f.what})).collect();
        super::print_json(&json!({"healthy": healthy, "findings": list}));
    } else {
        for finding in &findings {
            println!("{} {}", if finding.good { "good " } else { "wrong" }, plain(&finding.what));
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(status: &Value, findings: &mut Vec<Finding>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut add = |good, what: String| findings.push(Finding { good, what });
    match status["config_problem"].as_str() {
        None => add(true, format!("configuration {}", text(&status["config"]))),
        Some(problem) => add(false, format!("configuration: {problem}")),
    }
    let vault = &status["vault"];
    match vault["sealed"].as_str() {
        None => add(true, "vault open".into()),
        // Without stored keys a sealed vault keeps nobody from anything.
        Some(reason) => add(vault["keys"] == 0, format!("vault sealed: {reason}")),
    }
    for plugin in status["plugins"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let file = text(&plugin["file"]);
        match plugin["problem"].as_str() {
            None => add(true, format!("plugin {file}")),
            Some(problem) => add(false, format!("plugin {file}: {problem}")),
        }
    }
    for provider in status["providers"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let name = text(&provider["name"]);
        match provider["problem"].as_str() {
            None => add(true, format!("provider {name}")),
            Some(problem) => add(false, format!("provider {name}: {problem}")),
        }
    }
    if let Some(lost) = status["usage_lost"].as_u64().filter(|lost| *lost > 0) {
        add(false, format!("{lost} usage rows were lost: the disk is slower than the traffic"));
    }
}
