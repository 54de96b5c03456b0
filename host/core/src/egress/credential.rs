//! A credential, ready to be put into a request.
//!
//! The adapter names no credential and sees none: its descriptor says which scheme an origin
//! wants, the vault opens the secret for that origin, and the two become an [`Injection`] here.
//! Making one checks everything that could go wrong later, so that sending can't fail on it. It
//! also prepares the [`Secrets`] that the answer is searched for: make it once for many requests.
//!
//! The value exists in the clear for as long as its injection does, and in the buffers of the
//! connection, which can't be wiped.

use std::fmt;

use http::{HeaderName, HeaderValue};
use keyward_contract::AuthScheme;
use secrecy::{ExposeSecret, SecretString};

use super::{headers, redact::Secrets};

/// The longest credential, in bytes. Keys are below 200, signed tokens of Entra ID below 4 KiB;
/// servers refuse headers beyond 8 KiB.
pub const MAX_CREDENTIAL: usize = 8 << 10;

/// Why a secret can't be used with a scheme. Never holds the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCredential {
    #[error("the credential is empty")]
    Empty,
    #[error("the credential is longer than {MAX_CREDENTIAL} bytes")]
    TooLong,
    #[error(
        "the credential has characters other than visible ASCII: \
         look for a line break, a space or a quotation mark that was copied along"
    )]
    NotPrintable,
    #[error("no credential may be sent in the header '{0}'")]
    Header(String),
    #[error("'{0}' is not a name for a query parameter")]
    Query(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Injection {
    pub(super) place: Place,
    secrets: Secrets,
}

#[derive(Clone)]
pub(super) enum Place {
    Header(HeaderName, HeaderValue),
    Query { name: String, value: SecretString },
}

impl Injection {
    /// # Errors
    /// If the secret can't stand in a request, or the scheme names a place that isn't for
    /// credentials.
    pub fn new(scheme: &AuthScheme, secret: &SecretString) -> Result<Self, BadCredential> {
        let text = secret.expose_secret();
        if text.is_empty() {
            return Err(BadCredential::Empty);
        }
        if text.len() > MAX_CREDENTIAL {
            return Err(BadCredential::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadCredential::NotPrintable);
        }
        let place = match scheme {
            AuthScheme::Bearer => {
                Place::Header(http::header::AUTHORIZATION, header_value(&format!("Bearer {text}"))?)
            }
            AuthScheme::Header { name } => {
                let good = HeaderName::from_bytes(name.as_bytes())
                    .ok()
                    .filter(|name| !headers::steers(name.as_str()));
                let name =
                    good.ok_or_else(|| BadCredential::Header(name.escape_debug().to_string()))?;
                Place::Header(name, header_value(text)?)
            }
            AuthScheme::Query { name } => {
                let good = (1..=64).contains(&name.len())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if !good {
                    return Err(BadCredential::Query(name.escape_debug().to_string()));
                }
                Place::Query { name: name.clone(), value: secret.clone() }
            }
        };
        Ok(Self { place, secrets: Secrets::new([secret]) })
    }

    /// What answers must not show.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

fn header_value(text: &str) -> Result<HeaderValue, BadCredential> {
    let mut value = HeaderValue::from_str(text).map_err(|_| BadCredential::NotPrintable)?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Header(name, _) => write!(f, "Injection(header {name})"),
            Place::Query { name, .. } => write!(f, "Injection(query {name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(scheme: AuthScheme, secret: &str) -> Result<Injection, BadCredential> {
        Injection::new(&scheme, &secret.into())
    }

    fn header(name: &str) -> AuthScheme {
        AuthScheme::Header { name: name.into() }
    }

    #[test]
    fn a_credential_that_would_break_the_request_is_refused_without_being_shown() {
        for bad in ["sk-1\r\nx-evil: 1", "sk-1\n", "sk 1", "sk-\u{201c}1", "sk-\0"] {
            let error = make(AuthScheme::Bearer, bad).unwrap_err();
            assert_eq!(error, BadCredential::NotPrintable);
            assert!(!error.to_string().contains("sk-"));
        }
        assert_eq!(make(AuthScheme::Bearer, "").unwrap_err(), BadCredential::Empty);
        let long = "k".repeat(MAX_CREDENTIAL + 1);
        assert_eq!(make(AuthScheme::Bearer, &long).unwrap_err(), BadCredential::TooLong);
    }

    #[test]
    fn a_scheme_can_not_put_a_credential_where_it_steers_the_connection() {
        for bad in ["host", "Content-Length", "transfer-encoding", "connection", "x y", "", "x\r\n"]
        {
            assert!(matches!(make(header(bad), "sk-1"), Err(BadCredential::Header(_))), "{bad:?}");
        }
        for good in ["x-api-key", "api-key", "x-goog-api-key", "xi-api-key"] {
            assert!(make(header(good), "sk-1").is_ok(), "{good}");
        }
        for bad in ["", "a=b", "a&b", "a b"] {
            let scheme = AuthScheme::Query { name: bad.into() };
            assert!(matches!(make(scheme, "sk-1"), Err(BadCredential::Query(_))), "{bad:?}");
        }
    }

    #[test]
    fn nothing_prints_a_credential() {
        for scheme in
            [AuthScheme::Bearer, header("x-api-key"), AuthScheme::Query { name: "key".into() }]
        {
            let injection = make(scheme, "sk-canary-1234").unwrap();
            assert!(!format!("{injection:?}").contains("canary"));
            if let Place::Header(_, value) = &injection.place {
                assert!(!format!("{value:?}").contains("canary"));
            }
        }
    }
}
