//! Failures on request, to see what Keyward and its callers make of them.
//!
//! No vendor is there to fail, so a model's name asks for it: `demo-fails-overloaded` fails at once
//! with that kind of the contract, `demo-fails-overloaded-midway` after a part of the answer, and
//! `demo-fails-rate-limited-wait` says how long to wait. None of these models is listed.

use keyward_sdk::{Failure, FailureKind, Output};

const PREFIX: &str = "demo-fails-";

/// Long enough to be seen, short enough to be waited for.
const WAIT_MS: u64 = 2_000;

/// The contract's kinds by their names.
const KINDS: [(&str, FailureKind); 13] = [
    ("authentication", FailureKind::Authentication),
    ("permission", FailureKind::Permission),
    ("rate-limited", FailureKind::RateLimited),
    ("quota-exhausted", FailureKind::QuotaExhausted),
    ("overloaded", FailureKind::Overloaded),
    ("unavailable", FailureKind::Unavailable),
    ("timeout", FailureKind::Timeout),
    ("context-too-long", FailureKind::ContextTooLong),
    ("content-blocked", FailureKind::ContentBlocked),
    ("model-not-found", FailureKind::ModelNotFound),
    ("invalid-request", FailureKind::InvalidRequest),
    ("malformed-answer", FailureKind::MalformedAnswer),
    ("unsupported", FailureKind::Unsupported),
];

/// Does nothing unless the model's name asks for a failure.
///
/// # Errors
/// The failure that was asked for.
pub fn failure(model: &str, out: &mut Output) -> Result<(), Failure> {
    let Some(asked) = model.strip_prefix(PREFIX) else { return Ok(()) };
    let (asked, midway) = ending(asked, "-midway");
    let (asked, wait) = ending(asked, "-wait");
    let Some((name, kind)) = KINDS.into_iter().find(|(name, _)| *name == asked) else {
        return Ok(());
    };
    if midway {
        out.started(None, Some(model));
        out.text(0, "Hello! I am Keyward's ");
    }
    let failure = Failure::of(kind, format!("The demo was asked to fail: {name}."));
    Err(if wait { failure.with_retry_after_ms(WAIT_MS) } else { failure })
}

fn ending<'a>(text: &'a str, ending: &str) -> (&'a str, bool) {
    text.strip_suffix(ending).map_or((text, false), |rest| (rest, true))
}
