//! `keyward chat`: one message, its answer streamed to the terminal.

use std::{
    io::{IsTerminal, Read, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::table::plain;
use crate::{args, args::Places, client};

pub async fn chat(places: &Places, chat: args::Chat) -> anyhow::Result<ExitCode> {
    let text = if chat.text == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("can't read standard input")?;
        text
    } else {
        chat.text
    };
    let client = super::client(places).await?;
    let body = json!({
        "model": chat.model,
        "messages": [{"role": "user", "content": text}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let answer = client.send(http::Method::POST, "/v1/chat/completions", Some(body)).await?;
    let mut answer = client::checked(answer).await?;
    let header = |name: &str| {
        answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (provider, model) = (header("x-keyward-provider"), header("x-keyward-model"));
    let mut lines = Lines::default();
    let (mut whole, mut usage) = (String::new(), Value::Null);
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.map_err(anyhow::Error::from_boxed)?;
        let Some(bytes) = frame.data_ref() else { continue };
        for line in lines.push(bytes) {
            let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
                continue;
            };
            let chunk: Value = serde_json::from_str(data)?;
            if let Some(message) = chunk.pointer("/error/message").and_then(Value::as_str) {
                bail!("{message}");
            }
            if let Some(text) = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str) {
                whole.push_str(text);
                if !places.json {
                    print!("{}", shown(text));
                    std::io::stdout().flush()?;
                }
            }
            if chunk["usage"].is_object() {
                usage = chunk["usage"].clone();
            }
        }
    }
    if places.json {
        super::print_json(&json!({
            "provider": provider, "model": model, "text": whole, "usage": usage,
        }));
    } else {
        println!();
        let tokens = |name: &str| usage[name].as_u64().map_or("?".into(), |n| n.to_string());
        eprintln!(
            "[{provider}/{model}, {} tokens in, {} out]",
            tokens("prompt_tokens"),
            tokens("completion_tokens")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A terminal must not act on what a model wrote; a file gets it as it is.
fn shown(text: &str) -> String {
    if std::io::stdout().is_terminal() {
        text.split_inclusive(['\n', '\t'])
            .map(|piece| match piece.char_indices().next_back() {
                Some((at, last)) if last == '\n' || last == '\t' => {
                    format!("{}{last}", plain(&piece[..at]))
                }
                _ => plain(piece),
            })
            .collect()
    } else {
        text.to_owned()
    }
}

/// Cuts arriving bytes into whole lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        lines
    }
}
