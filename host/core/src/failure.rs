//! The one error of an exchange: what happened, whose fault it was, what may be done about it.
//!
//! Adapters, egress, sandbox and routing all speak it, so a surface maps failures to its dialect in
//! one place and routing decides by [`FailureKind`] alone.

use std::{fmt, time::Duration};

use crate::routing::carry::Tried;

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: FailureKind,
    pub fault: Fault,
    /// For people. Never holds a credential; may hold the vendor's own words.
    pub message: String,
    /// The vendor's code for it.
    pub code: Option<String>,
    /// The vendor's type of it.
    pub vendor_type: Option<String>,
    /// The request field it concerns.
    pub param: Option<String>,
    /// The vendor's HTTP status.
    pub status: Option<u16>,
    /// How long the vendor asks to wait.
    pub retry_after: Option<Duration>,
    /// The vendor's id of the request.
    pub vendor_request_id: Option<String>,
    /// What was tried, where a request ended so. A failure of one attempt has none, nor has a request
    /// that ended before it was known who may serve it.
    pub attempts: Option<Box<Attempts>>,
}

/// What was tried for a request that nobody answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    pub made: u32,
    /// In the order in which they were tried.
    pub tried: Vec<Tried>,
}

/// See `failure-kind` in `adapter.wit` for what routing does with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    Authentication,
    Permission,
    RateLimited,
    QuotaExhausted,
    Overloaded,
    Unavailable,
    Timeout,
    ContextTooLong,
    ContentBlocked,
    ModelNotFound,
    InvalidRequest,
    MalformedAnswer,
    Unsupported,
    /// The host can't serve anyone right now: full, or shutting down.
    HostBusy,
    /// The vault is sealed: no master key, or the wrong one.
    Sealed,
    /// The adapter trapped, hit a limit or broke the contract.
    Plugin,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    Caller,
    Plugin,
    Vendor,
    Transport,
    Host,
}

impl FailureKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::RateLimited => "rate-limited",
            Self::QuotaExhausted => "quota-exhausted",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::ContextTooLong => "context-too-long",
            Self::ContentBlocked => "content-blocked",
            Self::ModelNotFound => "model-not-found",
            Self::InvalidRequest => "invalid-request",
            Self::MalformedAnswer => "malformed-answer",
            Self::Unsupported => "unsupported",
            Self::HostBusy => "host-busy",
            Self::Sealed => "sealed",
            Self::Plugin => "plugin",
            Self::Other => "other",
        }
    }

    /// True if another provider may be asked instead. A caller's own mistake and a vendor's
    /// refusal of the content follow the request wherever it goes.
    pub fn may_go_elsewhere(self) -> bool {
        !matches!(self, Self::InvalidRequest | Self::ContentBlocked | Self::HostBusy)
    }
}

impl Failure {
    pub fn new(kind: FailureKind, fault: Fault, message: impl Into<String>) -> Self {
        Self {
            kind,
            fault,
            message: message.into(),
            code: None,
            vendor_type: None,
            param: None,
            status: None,
            retry_after: None,
            vendor_request_id: None,
            attempts: None,
        }
    }

    /// The caller's mistake, in the field `param`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut failure = Self::new(FailureKind::InvalidRequest, Fault::Caller, message);
        failure.param = Some(param.into());
        failure
    }

    /// The adapter broke a rule of the contract or a limit.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Plugin, Fault::Plugin, message)
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::MalformedAnswer, Fault::Vendor, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

impl std::error::Error for Failure {}
