//! What a broken connection means: one failure for each way it breaks.
//!
//! The HTTP client's own messages hold the URL, which may hold a credential. None of them is used:
//! a failure names the host and the innermost cause (the operating system's, TLS's or the HTTP
//! parser's words), with secrets taken out all the same.

use std::{error::Error, io};

use super::{address::AddressError, client::BAD_HTTP, redact::Secrets};
use crate::{Failure, FailureKind, Fault};

/// A failure of the connection to the vendor, with a stable code.
pub(super) fn failure(
    kind: FailureKind,
    fault: Fault,
    code: &str,
    message: impl Into<String>,
) -> Failure {
    let mut failure = Failure::new(kind, fault, message);
    failure.code = Some(code.to_owned());
    failure
}

/// An answer that breaks the rules of HTTP or of this host.
pub(super) fn malformed(code: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::MalformedAnswer, Fault::Vendor, code, message)
}

pub(super) fn timed_out(code: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Timeout, Fault::Transport, code, message)
}

/// What an error of the HTTP client means for a request to `host`.
pub(super) fn classify(error: &reqwest::Error, host: &str, secrets: &Secrets) -> Failure {
    let unavailable = |code, message: String| {
        failure(FailureKind::Unavailable, Fault::Transport, code, secrets.text(&message))
    };
    for cause in causes(error) {
        if let Some(error) = cause.downcast_ref::<AddressError>() {
            return match error {
                AddressError::UnknownHost(_) | AddressError::Denied { .. } => failure(
                    FailureKind::Permission,
                    Fault::Host,
                    "egress_denied",
                    error.to_string(),
                ),
                _ => unavailable("dns_error", error.to_string()),
            };
        }
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return unavailable("tls_error", format!("no trusted connection to '{host}': {error}"));
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && (error.is_parse() || error.is_parse_too_large())
        {
            return malformed(BAD_HTTP, format!("'{host}' doesn't answer in valid HTTP: {error}"));
        }
    }
    let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
    if error.is_connect() && error.is_timeout() {
        timed_out("connect_timeout", format!("'{host}' took too long to connect to"))
    } else if error.is_connect() {
        unavailable("connect_failed", format!("can't connect to '{host}': {innermost}"))
    } else if error.is_timeout() {
        timed_out("connection_timeout", format!("the connection to '{host}' went dead"))
    } else {
        unavailable("connection_lost", format!("the connection to '{host}' broke: {innermost}"))
    }
}

/// An error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An I/O error that wraps another is transparent: `source` would skip the wrapped one.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
