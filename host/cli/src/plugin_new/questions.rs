//! What the vendor looks like: told by flags, or asked for on a terminal.
//!
//! Each answer is checked by what the host itself will hold the adapter against, so that what is
//! accepted here is accepted there.

use std::io::{BufRead, Write};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use keyward::egress::{Injection, Target};
use keyward_contract::{AuthScheme, ProviderKind};
use url::Url;

use crate::args::{New, Shape, Streaming, Where};

/// Wrong answers to one question before giving up: somebody, or something, isn't reading.
const TRIES: usize = 5;

/// The answers.
#[derive(Clone, Debug)]
pub struct Vendor {
    pub shape: Shape,
    pub stream: Streaming,
    /// Without a trailing slash.
    pub endpoint: String,
    /// Nobody told the endpoint.
    pub invented_endpoint: bool,
    /// None where the vendor asks for no key.
    pub auth: Option<AuthScheme>,
    pub kind: ProviderKind,
}

/// The vendor by flags alone.
///
/// # Errors
/// If a flag is missing and defaults weren't asked for, or one can't be used.
pub fn from_flags(new: &New) -> Result<Vendor> {
    let missing: Vec<&str> = [
        ("--shape", new.shape.is_none()),
        ("--endpoint", new.endpoint.is_none()),
        ("--auth", new.auth.is_none()),
        ("--kind", new.kind.is_none()),
        ("--stream", new.shape == Some(Shape::Own) && new.stream.is_none()),
    ]
    .into_iter()
    .filter_map(|(flag, missing)| missing.then_some(flag))
    .collect();
    if !missing.is_empty() && !new.yes {
        bail!(
            "there is no terminal to ask on: give {}, or --yes to take defaults",
            missing.join(", ")
        );
    }
    let shape = new.shape.unwrap_or(Shape::Openai);
    let stream = stream(new, shape)?.unwrap_or(Streaming::Sse);
    let kind = kind(new.kind.unwrap_or(Where::External));
    let usual = usual_endpoint(&new.name, kind);
    let endpoint = endpoint(new.endpoint.as_deref().unwrap_or(&usual), kind)?;
    let auth = auth(new.auth.as_deref().unwrap_or(usual_auth(kind)))?;
    let invented_endpoint = new.endpoint.is_none();
    Ok(Vendor { shape, stream, endpoint, invented_endpoint, auth, kind })
}

/// As [`from_flags`], asking for what no flag tells.
///
/// # Errors
/// If a flag can't be used, or there is no end of wrong answers.
pub fn ask(new: &New, input: &mut impl BufRead, output: &mut impl Write) -> Result<Vendor> {
    let mut ask = |told: Option<String>, question: &str, usual: &str| -> Result<String> {
        if let Some(told) = told {
            return Ok(told);
        }
        write!(output, "{question} [{usual}]: ")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            bail!("the questions were left unanswered; nothing was made");
        }
        let line = line.trim();
        Ok(if line.is_empty() { usual.to_owned() } else { line.to_owned() })
    };
    let shape = until_good(new.shape.is_some(), || {
        let told = new.shape.and_then(flag);
        value(&ask(
            told,
            "Requests and answers: like openai's, or of its own? openai|own",
            "openai",
        )?)
    })?;
    let stream = match (stream(new, shape)?, shape) {
        (Some(stream), _) => stream,
        (None, Shape::Openai) => Streaming::Sse,
        (None, Shape::Own) => {
            until_good(false, || value(&ask(None, "How does it stream? sse|ndjson", "sse")?))?
        }
    };
    let kind = kind(until_good(new.kind.is_some(), || {
        let told = new.kind.and_then(flag);
        value(&ask(told, "Where does it run? local|external", "external")?)
    })?);
    let usual = usual_endpoint(&new.name, kind);
    let endpoint = until_good(new.endpoint.is_some(), || {
        endpoint(&ask(new.endpoint.clone(), "Its base URL", &usual)?, kind)
    })?;
    let auth = until_good(new.auth.is_some(), || {
        let question = "Its key goes where? bearer|header:NAME|query:NAME|none";
        auth(&ask(new.auth.clone(), question, usual_auth(kind))?)
    })?;
    let invented_endpoint = new.endpoint.is_none() && endpoint == usual;
    Ok(Vendor { shape, stream, endpoint, invented_endpoint, auth, kind })
}

/// Asks again after a wrong answer, unless a flag gave it.
fn until_good<T>(told: bool, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match ask() {
            Err(error) if !told && !error.is::<std::io::Error>() => eprintln!("  {error:#}"),
            answered => return answered,
        }
    }
    ask()
}

fn flag<T: ValueEnum>(value: T) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn value<T: ValueEnum>(text: &str) -> Result<T> {
    T::from_str(text, true).map_err(|_| {
        let names: Vec<String> = T::value_variants().iter().cloned().filter_map(flag).collect();
        anyhow!("'{text}' is none of {}", names.join(", "))
    })
}

fn stream(new: &New, shape: Shape) -> Result<Option<Streaming>> {
    if shape == Shape::Openai && new.stream.is_some() {
        bail!("--stream goes with --shape own: OpenAI's shape streams in one way");
    }
    Ok(new.stream)
}

fn kind(place: Where) -> ProviderKind {
    match place {
        Where::Local => ProviderKind::Local,
        Where::External => ProviderKind::External,
    }
}

fn usual_endpoint(name: &str, kind: ProviderKind) -> String {
    match kind {
        ProviderKind::Local => "http://127.0.0.1:8000/v1".to_owned(),
        ProviderKind::External => format!("https://api.{name}.example/v1"),
    }
}

fn usual_auth(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Local => "none",
        ProviderKind::External => "bearer",
    }
}

fn endpoint(text: &str, kind: ProviderKind) -> Result<String> {
    let url = Url::parse(text).map_err(|error| {
        anyhow!("'{text}' isn't a URL ({error}); write it as https://api.example.com/v1")
    })?;
    Target::new(&url, kind).map_err(|error| anyhow!("{text}: {error}"))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn auth(text: &str) -> Result<Option<AuthScheme>> {
    let scheme = match text.split_once(':') {
        None if text == "none" => return Ok(None),
        None if text == "bearer" => AuthScheme::Bearer,
        Some(("header", name)) => AuthScheme::Header { name: name.to_ascii_lowercase() },
        Some(("query", name)) => AuthScheme::Query { name: name.to_owned() },
        _ => bail!("'{text}' is none of bearer, header:NAME, query:NAME, none"),
    };
    // Any secret tells whether the place is one where the host sends secrets.
    let secret = "a-key-to-try-with".into();
    Injection::new(&scheme, &secret).map_err(|error| anyhow!("{text}: {error}"))?;
    Ok(Some(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> New {
        New {
            name: "acme".into(),
            dir: None,
            shape: None,
            stream: None,
            endpoint: None,
            auth: None,
            kind: None,
            sdk: None,
            yes: false,
        }
    }

    fn asked(new: &New, answers: &str) -> (Result<Vendor>, String) {
        let mut output = Vec::new();
        let vendor = ask(new, &mut answers.as_bytes(), &mut output);
        (vendor, String::from_utf8(output).unwrap())
    }

    #[test]
    fn empty_answers_take_what_stands_in_brackets() {
        let (vendor, output) = asked(&new(), "\n\n\n\n");
        let vendor = vendor.unwrap();
        assert_eq!(vendor.shape, Shape::Openai);
        assert_eq!(vendor.endpoint, "https://api.acme.example/v1");
        assert!(vendor.invented_endpoint);
        assert_eq!(vendor.auth, Some(AuthScheme::Bearer));
        assert_eq!(output.matches('[').count(), 4, "{output}");
    }

    #[test]
    fn a_wrong_answer_is_asked_again_and_flags_are_not_asked() {
        let new = New { kind: Some(Where::Local), ..new() };
        let answers = "other\nown\nndjson\nnot a url\nhttp://10.0.0.5:9000/\nheader:X-API-Key\n";
        let (vendor, output) = asked(&new, answers);
        let vendor = vendor.unwrap();
        assert_eq!((vendor.shape, vendor.stream), (Shape::Own, Streaming::Ndjson));
        assert_eq!(vendor.endpoint, "http://10.0.0.5:9000");
        assert!(!vendor.invented_endpoint);
        assert_eq!(vendor.auth, Some(AuthScheme::Header { name: "x-api-key".into() }));
        assert!(!output.contains("local|external"), "{output}");
    }

    #[test]
    fn of_a_local_server_no_key_is_expected() {
        let local = New { kind: Some(Where::Local), yes: true, ..new() };
        let vendor = from_flags(&local).unwrap();
        assert_eq!((vendor.endpoint.as_str(), vendor.auth), ("http://127.0.0.1:8000/v1", None));
        assert_eq!(asked(&local, "\n\n\n").0.unwrap().auth, None);
    }

    #[test]
    fn an_end_of_input_makes_nothing() {
        let (vendor, _) = asked(&new(), "own\n");
        assert!(vendor.unwrap_err().to_string().contains("unanswered"));
    }

    #[test]
    fn without_a_terminal_the_missing_flags_are_named() {
        let missing = New { shape: Some(Shape::Own), auth: Some("bearer".into()), ..new() };
        let error = from_flags(&missing).unwrap_err().to_string();
        for flag in ["--endpoint", "--kind", "--stream", "--yes"] {
            assert!(error.contains(flag), "{flag}: {error}");
        }
        assert!(!error.contains("--auth"), "{error}");
        assert!(from_flags(&New { yes: true, ..new() }).is_ok());
    }

    #[test]
    fn what_the_host_would_refuse_is_refused_here() {
        for bad in ["bear", "header:", "header:host", "query:a=b", "basic:x"] {
            let with = New { auth: Some(bad.into()), yes: true, ..new() };
            assert!(from_flags(&with).is_err(), "{bad}");
        }
        for bad in ["api.acme.example", "ftp://acme.example", "https://a:b@acme.example", "http://"]
        {
            let with = New { endpoint: Some(bad.into()), yes: true, ..new() };
            assert!(from_flags(&with).is_err(), "{bad}");
        }
        let misplaced =
            New { shape: Some(Shape::Openai), stream: Some(Streaming::Sse), yes: true, ..new() };
        assert!(from_flags(&misplaced).is_err());
    }
}
