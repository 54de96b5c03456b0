//! Names and numbers that must not be mixed up.
//!
//! Each is a cheap clone of an `Arc<str>` and says in its constructor what it accepts.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest name of a provider, adapter, route or setting, in bytes.
pub const MAX_NAME: usize = 64;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is not a name: lower-case letters, digits, '-', '_' and '.' after a letter or digit, at most {MAX_NAME}"
)]
pub struct BadName(String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// If `name` isn't made of lower-case letters, digits, `-`, `_` and `.`, doesn't begin
            /// with a letter or digit, or is longer than [`MAX_NAME`].
            pub fn new(name: &str) -> Result<Self, BadName> {
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                let good = name.len() <= MAX_NAME
                    && name.starts_with(fits)
                    && name.chars().all(|c| fits(c) || matches!(c, '-' | '_' | '.'));
                if good { Ok(Self(name.into())) } else { Err(BadName(name.to_owned())) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(name: String) -> Result<Self, BadName> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// One entry under `providers:`.
    ProviderName
);
name!(
    /// One of the keys of a provider that has several.
    KeyName
);
name!(
    /// An account with a vendor, by which providers share its limits.
    AccountName
);
name!(
    /// A named list of candidates under `routes:`. Callers name it in a model's place.
    RouteName
);
name!(
    /// What an adapter calls itself; also its file's stem in the plugins folder.
    AdapterName
);

/// A model as its vendor names it. Any printable text without control characters, so that it can
/// stand in a header or a path without a second thought.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(Arc<str>);

/// The longest model name, in bytes: vendors' are below 128, Azure and Hugging Face paths longer.
pub const MAX_MODEL_NAME: usize = 256;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a model name has 1 to {MAX_MODEL_NAME} printable ASCII characters without spaces")]
pub struct BadModelName;

impl ModelName {
    /// # Errors
    /// If `name` is empty, longer than [`MAX_MODEL_NAME`] or not printable ASCII.
    pub fn new(name: &str) -> Result<Self, BadModelName> {
        let good = (1..=MAX_MODEL_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic());
        if good { Ok(Self(name.into())) } else { Err(BadModelName) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelName {
    type Error = BadModelName;
    fn try_from(name: String) -> Result<Self, BadModelName> {
        Self::new(&name)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// The host's own id of a request, 128 random bits shown as `kw-` and 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u128);

impl RequestId {
    /// # Errors
    /// If the system has no randomness to give.
    pub fn random() -> Result<Self, crate::Failure> {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => Ok(Self(u128::from_le_bytes(bytes))),
            Err(error) => Err(crate::Failure::new(
                crate::FailureKind::HostBusy,
                crate::Fault::Host,
                format!("no randomness: {error}"),
            )),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kw-{:032x}", self.0)
    }
}

/// Text that is no request's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 'kw-' and 32 hex digits")]
pub struct BadRequestId;

impl std::str::FromStr for RequestId {
    type Err = BadRequestId;

    fn from_str(text: &str) -> Result<Self, BadRequestId> {
        let hex = text.strip_prefix("kw-").filter(|hex| hex.len() == 32).ok_or(BadRequestId)?;
        u128::from_str_radix(hex, 16).map(Self).map_err(|_| BadRequestId)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// SHA-256 of a component's bytes: what a plugin *is*, whatever its file is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
