//! Failures with the right kind and fault, from statuses and from an adapter's own findings.
//!
//! Routing decides by the kind alone, so a wrong kind sends a caller's mistake around the world or
//! keeps a good request from a healthy vendor. Vendors' statuses agree enough for one table of
//! defaults; an adapter refines it by the vendor's own codes.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use crate::contract::{self, FailureKind, Fault};

/// Vendor messages beyond this are cut: they can be whole HTML pages.
const MAX_MESSAGE_BYTES: usize = 2048;

/// The contract's failure, boxed so that a `Result` of nothing stays one word. Its members are
/// those of [`contract::Failure`].
#[derive(Clone, Debug, PartialEq)]
pub struct Failure(Box<contract::Failure>);

impl Deref for Failure {
    type Target = contract::Failure;

    fn deref(&self) -> &contract::Failure {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut contract::Failure {
        &mut self.0
    }
}

impl From<Failure> for contract::Failure {
    fn from(failure: Failure) -> Self {
        *failure.0
    }
}

impl From<contract::Failure> for Failure {
    fn from(failure: contract::Failure) -> Self {
        Self(Box::new(failure))
    }
}

impl Failure {
    pub fn new(kind: FailureKind, fault: Fault, message: impl Into<String>) -> Self {
        Self::from(contract::Failure {
            kind,
            fault,
            message: message.into(),
            code: None,
            type_: None,
            param: None,
            status: None,
            retry_after_ms: None,
            request_id: None,
        })
    }

    /// The kind's usual fault: the caller's for what the request asks, the host's (that is, its
    /// operator's) for the account and its limits, the vendor's for the rest.
    pub fn of(kind: FailureKind, message: impl Into<String>) -> Self {
        let fault = match kind {
            FailureKind::Authentication
            | FailureKind::Permission
            | FailureKind::RateLimited
            | FailureKind::QuotaExhausted => Fault::Host,
            FailureKind::ContextTooLong
            | FailureKind::ContentBlocked
            | FailureKind::ModelNotFound
            | FailureKind::InvalidRequest
            | FailureKind::Unsupported => Fault::Caller,
            FailureKind::Overloaded
            | FailureKind::Unavailable
            | FailureKind::Timeout
            | FailureKind::MalformedAnswer
            | FailureKind::Other(_) => Fault::Vendor,
        };
        Self::new(kind, fault, message)
    }

    /// The caller's mistake, in the field `param` (the contract's name for it).
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut failure = Self::of(FailureKind::InvalidRequest, message);
        failure.param = Some(param.into());
        failure
    }

    /// The vendor's answer can't be understood.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::of(FailureKind::MalformedAnswer, message)
    }

    /// This adapter, or its vendor, has no such thing.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Unsupported, message)
    }

    /// The operator's mistake, in the provider's settings.
    pub fn settings(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Other("settings".to_owned()), Fault::Host, message)
    }

    /// The adapter itself went wrong.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Other("plugin".to_owned()), Fault::Plugin, message)
    }

    /// What an HTTP status means with most vendors. `message` is the vendor's text, or the body
    /// where nothing better is known: it is trimmed, cut, and replaced where empty or HTML.
    pub fn from_status(status: u16, message: &str) -> Self {
        let mut failure = Self::of(kind_of_status(status), message_or_status(message, status));
        failure.status = Some(status);
        failure
    }

    pub fn with_kind(mut self, kind: FailureKind) -> Self {
        self.fault = Self::of(kind.clone(), String::new()).fault;
        self.kind = kind;
        self
    }

    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The vendor's type of the error.
    pub fn with_type(mut self, vendor_type: impl Into<String>) -> Self {
        self.type_ = Some(vendor_type.into());
        self
    }

    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Vendors give errors with an empty message; a caller must be told something.
    pub(crate) fn with_words(mut self) -> Self {
        if self.message.trim().is_empty() {
            self.message = match self.status {
                Some(status) => message_or_status("", status),
                None => "The vendor gave an error without saying why.".to_owned(),
            };
        }
        self
    }

    pub fn with_retry_after_ms(mut self, milliseconds: u64) -> Self {
        self.retry_after_ms = Some(milliseconds);
        self
    }
}

fn kind_of_status(status: u16) -> FailureKind {
    match status {
        401 => FailureKind::Authentication,
        402 => FailureKind::QuotaExhausted,
        403 => FailureKind::Permission,
        404 => FailureKind::ModelNotFound,
        // 524 is what a proxy in front of many vendors says for 504.
        408 | 504 | 524 => FailureKind::Timeout,
        413 => FailureKind::ContextTooLong,
        429 => FailureKind::RateLimited,
        529 => FailureKind::Overloaded,
        400..=499 => FailureKind::InvalidRequest,
        500..=599 => FailureKind::Unavailable,
        // The host follows no redirect and takes no other success for an answer.
        _ => FailureKind::MalformedAnswer,
    }
}

fn message_or_status(message: &str, status: u16) -> String {
    let message = message.trim();
    if message.is_empty() || message.starts_with('<') {
        return match status {
            300..=399 => format!("The vendor redirects (HTTP {status}). Check the endpoint."),
            _ => format!("The vendor answered HTTP {status} without saying why."),
        };
    }
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_owned();
    }
    let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &message[..end])
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_the_kind_and_fault_that_routing_expects() {
        let table = [
            (301, FailureKind::MalformedAnswer, Fault::Vendor),
            (400, FailureKind::InvalidRequest, Fault::Caller),
            (401, FailureKind::Authentication, Fault::Host),
            (402, FailureKind::QuotaExhausted, Fault::Host),
            (403, FailureKind::Permission, Fault::Host),
            (404, FailureKind::ModelNotFound, Fault::Caller),
            (408, FailureKind::Timeout, Fault::Vendor),
            (413, FailureKind::ContextTooLong, Fault::Caller),
            (422, FailureKind::InvalidRequest, Fault::Caller),
            (429, FailureKind::RateLimited, Fault::Host),
            (500, FailureKind::Unavailable, Fault::Vendor),
            (503, FailureKind::Unavailable, Fault::Vendor),
            (504, FailureKind::Timeout, Fault::Vendor),
            (529, FailureKind::Overloaded, Fault::Vendor),
        ];
        for (status, kind, fault) in table {
            let failure = Failure::from_status(status, "why");
            assert_eq!((failure.kind.clone(), failure.fault), (kind, fault), "{status}");
            assert_eq!(failure.status, Some(status));
        }
    }

    #[test]
    fn a_page_of_html_is_no_message_and_a_long_message_is_cut_between_characters() {
        assert!(Failure::from_status(502, "<html>bad</html>").message.contains("502"));
        let long = "é".repeat(MAX_MESSAGE_BYTES);
        let cut = Failure::from_status(500, &long).message.clone();
        assert!(cut.len() <= MAX_MESSAGE_BYTES + '…'.len_utf8() && cut.ends_with("é…"));
    }
}
