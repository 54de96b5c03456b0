//! `keyward key`: set, list, test and remove what providers are called with.

use std::{
    io::{IsTerminal, Read},
    process::ExitCode,
};

use anyhow::{Context, bail};
use http::Method;
use keyward::vault::MasterKey;
use serde_json::{Value, json};

use super::table;
use crate::args::{Key, Places};

pub async fn key(places: &Places, key: Key) -> anyhow::Result<ExitCode> {
    match key {
        Key::Init { file } => {
            let file = file.unwrap_or_else(|| places.data.join("master.key"));
            if let Some(dir) = file.parent() {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("can't make {}", dir.display()))?;
            }
            MasterKey::create_file(&file)?;
            println!("Wrote a new master key to {}.", file.display());
            println!("Keep a copy of it elsewhere: without it, stored keys can't be opened.");
        }
        Key::Set { misplaced: Some(_), provider, .. } => bail!(
            "a key is never an argument: it would stay in your shell's history and show in the list of \
             processes. Run `keyward key set {provider}` and type it, or pipe it in"
        ),
        Key::Set { provider, field, misplaced: None } => {
            let client = super::client(places).await?;
            let secret = read_secret(&provider)?;
            let body = json!({"secret": secret, "field": field});
            let answer: Value = client
                .json(Method::PUT, &format!("/control/v1/keys/{provider}"), Some(body))
                .await?;
            let (field, origin) = (text(&answer, "field"), text(&answer, "origin"));
            println!("Stored {provider}/{field}, encrypted. It goes to {origin} and nowhere else.");
            println!("Try it: keyward key test {provider}");
        }
        Key::List => {
            let client = super::client(places).await?;
            let answer: Value = client.json(Method::GET, "/control/v1/keys", None).await?;
            if places.json {
                super::print_json(&answer);
                return Ok(ExitCode::SUCCESS);
            }
            let keys = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            let rows: Vec<Vec<String>> = keys
                .iter()
                .map(|key| {
                    ["provider", "field", "source", "origin", "state"].map(|n| text(key, n)).into()
                })
                .collect();
            table::print(&["PROVIDER", "FIELD", "FROM", "GOES TO", "STATE"], &rows);
            if let Some(sealed) = answer["sealed"].as_str() {
                eprintln!("\nThe vault is sealed: {sealed}");
            }
        }
        Key::Test { provider } => {
            let client = super::client(places).await?;
            let path = format!("/control/v1/keys/{provider}/test");
            let answer: Value = client.json(Method::POST, &path, None).await?;
            if places.json {
                super::print_json(&answer);
            } else if answer["ok"] == true {
                println!("{provider} accepts the key ({} ms).", answer["ms"]);
            } else {
                println!("{provider} doesn't: {}", text(&answer, "message"));
            }
            return Ok(if answer["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Key::Rm { provider, field } => {
            let client = super::client(places).await?;
            let query = field.map(|field| format!("?field={field}")).unwrap_or_default();
            let path = format!("/control/v1/keys/{provider}{query}");
            let answer: Value = client.json(Method::DELETE, &path, None).await?;
            if answer["removed"] != true {
                bail!("there is no stored key for '{provider}'");
            }
            println!("Removed the stored key of {provider}.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or("-").to_owned()
}

/// Asks without echo, or reads standard input. Never an argument: those end up in histories and
/// process lists.
fn read_secret(provider: &str) -> anyhow::Result<String> {
    /// Far longer than any key; what is longer is the wrong file.
    const MAX: u64 = 64 * 1024;
    let secret = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Key for {provider} (not shown): "))?
    } else {
        let mut text = String::new();
        std::io::stdin()
            .take(MAX)
            .read_to_string(&mut text)
            .context("can't read standard input")?;
        text
    };
    let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() {
        bail!("the key is empty; nothing was stored");
    }
    Ok(secret)
}
