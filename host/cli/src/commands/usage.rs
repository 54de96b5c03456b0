//! `keyward usage`: what was used.

use std::process::ExitCode;

use anyhow::{Context, bail};
use http::Method;
use serde_json::Value;

use super::table;
use crate::args::{Places, Usage};

pub async fn usage(places: &Places, usage: &Usage) -> anyhow::Result<ExitCode> {
    let client = super::client(places).await?;
    let since = seconds(&usage.since)?;
    let path = if usage.rows {
        format!("/control/v1/usage/rows?since_s={since}&limit={}", usage.limit)
    } else {
        format!("/control/v1/usage?since_s={since}&by={}", usage.by)
    };
    let answer: Value = client.json(Method::GET, &path, None).await?;
    if places.json {
        super::print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let columns: &[(&str, &str)] = if usage.rows {
        &[
            ("WHEN", "/when"),
            ("PROVIDER", "/provider"),
            ("MODEL", "/model"),
            ("CALLER", "/caller"),
            ("OUTCOME", "/outcome"),
            ("CACHED", "/cached"),
            ("FAILURE", "/failure"),
            ("IN", "/input_tokens"),
            ("OUT", "/output_tokens"),
            ("COST", "/cost"),
            ("", "/currency"),
            ("LATENCY US", "/latency_us"),
        ]
    } else {
        &[
            ("NAME", "/name"),
            ("ATTEMPTS", "/attempts"),
            ("OK", "/succeeded"),
            ("CACHED", "/cached"),
            ("CANCELLED", "/cancelled"),
            ("IN", "/input"),
            ("OUT", "/output"),
            ("COST", "/cost"),
            ("MEAN US", "/latency/mean_us"),
            ("P95 US", "/latency/p95_us"),
        ]
    };
    let list = if usage.rows { "rows" } else { "groups" };
    let entries = answer[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let cell = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        // Sums by currency.
        Some(Value::Object(sums)) if sums.is_empty() => "-".into(),
        Some(Value::Object(sums)) => {
            let sums = sums
                .iter()
                .map(|(currency, sum)| format!("{} {currency}", sum.as_str().unwrap_or_default()));
            sums.collect::<Vec<_>>().join(", ")
        }
        None | Some(Value::Null) => "-".into(),
        Some(other) => other.to_string(),
    };
    let row = |entry: &Value| columns.iter().map(|(_, at)| cell(entry.pointer(at))).collect();
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table::print(&headings, &rows);
    if rows.is_empty() {
        println!("Nothing was used in the last {}.", usage.since);
    }
    if let Some(lost) = answer["lost"].as_u64().filter(|lost| *lost > 0) {
        eprintln!("{lost} attempts could not be recorded.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads "90m", "24h" or "7d".
fn seconds(text: &str) -> anyhow::Result<u64> {
    let (digits, unit) = text.split_at(text.len().saturating_sub(1));
    let factor = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => bail!("'{text}' is no time span: write 90m, 24h or 7d"),
    };
    let number: u64 = digits
        .parse()
        .with_context(|| format!("'{text}' is no time span: write 90m, 24h or 7d"))?;
    Ok(number.saturating_mul(factor))
}
