//! Which headers an adapter may set and see.
//!
//! An adapter sets only the names its descriptor lists, and `accept`. Two kinds of names it can't
//! even list. Those that authenticate: with its own key in one of them it could send a user's
//! prompt under its author's account. And those that steer the connection or what stands between:
//! they are the host's. Both are refused, never silently replaced, so that a mistake shows when
//! the adapter is loaded and an attack shows in the audit log.
//!
//! What it sees of an answer are the names its descriptor lists, with secrets taken out, and never
//! those that set or ask for credentials.
//!
//! Bounds: [`MAX_RULES`] names a list, [`MAX_HEADERS`] headers and [`MAX_BYTES`] a request,
//! [`MAX_VISIBLE`] headers of an answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::redact::Secrets;
use crate::{Failure, contract::Header};

/// Names in a descriptor's list.
pub const MAX_RULES: usize = 64;
/// Headers an adapter sets on one request. Real ones set fewer than five.
pub const MAX_HEADERS: usize = 32;
/// Names and values together. Many servers refuse more than 8 KiB of headers in all.
pub const MAX_BYTES: usize = 8 << 10;
/// Headers of an answer that an adapter sees; further ones are left out.
pub const MAX_VISIBLE: usize = 64;
/// A header of an answer with a longer value is left out: no adapter has a use for one.
pub const MAX_VISIBLE_VALUE: usize = 4 << 10;

/// What is wrong with a descriptor's list of headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaderRule {
    #[error("'{0}' is not a header name in lower case")]
    NotAName(String),
    #[error(
        "no adapter may set the header '{0}': it authenticates, and credentials are the host's"
    )]
    Authenticates(String),
    #[error("no adapter may set the header '{0}': the host sets what steers the connection")]
    Steers(String),
    #[error("no adapter may see the header '{0}': it carries credentials")]
    Hidden(String),
    #[error("more than {MAX_RULES} header names")]
    TooMany,
}

/// A word by which vendors name a header or a parameter that authenticates.
const SECRET_WORDS: [&str; 17] = [
    "auth",
    "authn",
    "authz",
    "authentication",
    "authorization",
    "apikey",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "key",
    "passphrase",
    "secret",
    "signature",
    "token",
];

/// The same, wherever it stands in a name.
const SECRET_PARTS: [&str; 10] = [
    "accesskey",
    "api-key",
    "api_key",
    "apikey",
    "authenticat",
    "authoriz",
    "cookie",
    "credential",
    "passw",
    "secret",
];

/// AWS signs with headers of this prefix.
const SECRET_PREFIXES: [&str; 2] = ["x-amz-", "cf-access-"];

/// They have the word "key" and don't authenticate.
const HARMLESS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

const STEERING: [&str; 33] = [
    "accept-encoding",
    "alt-used",
    "cf-connecting-ip",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "early-data",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "via",
    "x-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

const STEERING_PREFIXES: [&str; 4] = ["proxy-", "sec-", "x-forwarded-", "x-original-"];

/// True for a header name, in lower case, that carries a credential with any vendor.
pub(super) fn authenticates(name: &str) -> bool {
    !HARMLESS.contains(&name)
        && (SECRET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || SECRET_PARTS.iter().any(|part| name.contains(part))
            || name.split(['-', '_', '.']).any(|word| SECRET_WORDS.contains(&word)))
}

/// True for a header name, in lower case, by which the host or what stands between host and
/// vendor decides where a request goes or where it ends.
pub(super) fn steers(name: &str) -> bool {
    STEERING.contains(&name) || STEERING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What one adapter may set.
#[derive(Clone, Debug)]
pub struct RequestHeaders {
    allowed: Vec<HeaderName>,
}

impl RequestHeaders {
    /// From a descriptor's `request_headers`.
    ///
    /// # Errors
    /// If a name is not one, or one that no adapter may set.
    pub fn new(names: &[String]) -> Result<Self, BadHeaderRule> {
        if names.len() > MAX_RULES {
            return Err(BadHeaderRule::TooMany);
        }
        let mut allowed = vec![http::header::ACCEPT];
        for name in names {
            let parsed = lower_case_name(name)?;
            if steers(name) {
                return Err(BadHeaderRule::Steers(name.clone()));
            }
            if authenticates(name) {
                return Err(BadHeaderRule::Authenticates(name.clone()));
            }
            allowed.push(parsed);
        }
        Ok(Self { allowed })
    }

    /// The headers of a request, checked.
    ///
    /// # Errors
    /// The adapter's fault, naming the header, if one isn't allowed, is given twice, or has a value
    /// other than visible ASCII and spaces; or if they are too many or too large.
    pub fn check(&self, headers: &[Header]) -> Result<HeaderMap, Failure> {
        if headers.len() > MAX_HEADERS {
            return Err(Failure::plugin(format!(
                "the adapter sets {} headers; the limit is {MAX_HEADERS}",
                headers.len()
            )));
        }
        let size: usize = headers.iter().map(|it| it.name.len() + it.value.len()).sum();
        if size > MAX_BYTES {
            return Err(Failure::plugin(format!(
                "the adapter's headers have {size} bytes; the limit is {MAX_BYTES}"
            )));
        }
        let mut map = HeaderMap::with_capacity(headers.len());
        for Header { name, value } in headers {
            let refused = |why: &str| {
                Failure::plugin(format!(
                    "the adapter may not set the header '{}': {why}",
                    name.escape_debug()
                ))
            };
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| refused("it is not a header name"))?;
            // Also checked when the adapter was loaded; here it gives the better reason.
            if authenticates(parsed.as_str()) {
                return Err(refused("it authenticates, and credentials are the host's"));
            }
            if steers(parsed.as_str()) {
                return Err(refused("the host sets what steers the connection"));
            }
            if !self.allowed.contains(&parsed) {
                return Err(refused("its descriptor doesn't list it under request_headers"));
            }
            // Stricter than `HeaderValue`, which takes tabs and whatever isn't ASCII.
            let visible = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            let value = HeaderValue::from_str(value).ok().filter(|_| visible).ok_or_else(|| {
                refused("its value has characters other than visible ASCII and spaces")
            })?;
            if map.insert(parsed, value).is_some() {
                return Err(refused("it is given twice"));
            }
        }
        Ok(map)
    }
}

/// Never shown to an adapter, whatever it lists.
const HIDDEN: [&str; 10] = [
    "authentication-info",
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "x-amz-security-token",
];

/// What one adapter sees of an answer's headers.
#[derive(Clone, Debug)]
pub struct ResponseHeaders {
    names: Vec<HeaderName>,
    prefixes: Vec<String>,
}

impl ResponseHeaders {
    /// From a descriptor's `response_headers`: names in lower case, a trailing `*` for any ending.
    ///
    /// # Errors
    /// If a pattern isn't one, stands for every header, or names one that no adapter sees.
    pub fn new(patterns: &[String]) -> Result<Self, BadHeaderRule> {
        if patterns.len() > MAX_RULES {
            return Err(BadHeaderRule::TooMany);
        }
        let (mut names, mut prefixes) = (Vec::new(), Vec::new());
        for pattern in patterns {
            if let Some(prefix) = pattern.strip_suffix('*') {
                // A prefix of a name is a name; an empty one is not.
                lower_case_name(prefix).map_err(|_| BadHeaderRule::NotAName(pattern.clone()))?;
                prefixes.push(prefix.to_owned());
            } else {
                let name = lower_case_name(pattern)?;
                if HIDDEN.contains(&name.as_str()) {
                    return Err(BadHeaderRule::Hidden(pattern.clone()));
                }
                names.push(name);
            }
        }
        Ok(Self { names, prefixes })
    }

    /// The headers that may be seen, with secrets taken out of their values. Values that aren't
    /// ASCII are left out.
    pub fn filter(&self, headers: &HeaderMap, secrets: &Secrets) -> Vec<Header> {
        if self.names.is_empty() && self.prefixes.is_empty() {
            return Vec::new();
        }
        let visible = headers.iter().filter(|(name, value)| {
            value.len() <= MAX_VISIBLE_VALUE
                && !HIDDEN.contains(&name.as_str())
                && (self.names.contains(name)
                    || self.prefixes.iter().any(|it| name.as_str().starts_with(it.as_str())))
        });
        let readable = visible.filter_map(|(name, value)| {
            let value = secrets.text(value.to_str().ok()?).into_owned();
            Some(Header { name: name.as_str().to_owned(), value })
        });
        readable.take(MAX_VISIBLE).collect()
    }
}

fn lower_case_name(name: &str) -> Result<HeaderName, BadHeaderRule> {
    // Fewer characters than HTTP allows, among them the '*' that means something in a list.
    let usual =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    HeaderName::from_bytes(name.as_bytes())
        .ok()
        .filter(|_| name.bytes().all(usual) && name.len() <= crate::ids::MAX_NAME)
        .ok_or_else(|| {
            BadHeaderRule::NotAName(name.chars().take(80).flat_map(char::escape_debug).collect())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FailureKind, Fault};

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: value.to_owned() }
    }

    fn refused(rules: &RequestHeaders, name: &str, value: &str) -> String {
        let failure = rules.check(&[header(name, value)]).unwrap_err();
        assert_eq!((failure.kind, failure.fault), (FailureKind::Plugin, Fault::Plugin));
        failure.message
    }

    #[test]
    fn no_adapter_can_list_or_set_a_header_that_authenticates() {
        let rules = RequestHeaders::new(&[]).unwrap();
        for name in [
            "authorization",
            "proxy-authorization",
            "x-authorization",
            "cookie",
            "cookie2",
            "x-api-key",
            "api-key",
            "apikey",
            "x-apikey",
            "x-goog-api-key",
            "ocp-apim-subscription-key",
            "x-amz-security-token",
            "x-amz-date",
            "x-auth-token",
            "x-auth",
            "x-access-token",
            "x-client-secret",
            "x-credentials",
            "x-password",
            "x-session-token",
            "private-token",
            "xi-api-key",
            "x-jwt-assertion",
            "x-goog-iam-authorization-token",
            "cf-access-client-id",
            "key",
            "token",
        ] {
            let error = RequestHeaders::new(&list(&[name])).unwrap_err();
            assert!(
                matches!(error, BadHeaderRule::Authenticates(_) | BadHeaderRule::Steers(_)),
                "{name}: {error}"
            );
            let upper = name.to_ascii_uppercase();
            for spelling in [name, upper.as_str()] {
                assert!(refused(&rules, spelling, "x").contains(spelling), "{name}");
            }
        }
    }

    #[test]
    fn no_adapter_can_list_or_set_a_header_that_steers() {
        let rules = RequestHeaders::new(&[]).unwrap();
        for name in [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
            "trailer",
            "expect",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "proxy-connection",
            "via",
            "content-type",
            "accept-encoding",
            "user-agent",
            "x-http-method-override",
            "keep-alive",
        ] {
            let error = RequestHeaders::new(&list(&[name])).unwrap_err();
            assert_eq!(error, BadHeaderRule::Steers(name.into()));
            refused(&rules, name, "x");
        }
    }

    #[test]
    fn the_headers_that_vendors_want_are_allowed() {
        let names = [
            "anthropic-version",
            "anthropic-beta",
            "openai-organization",
            "openai-project",
            "openai-beta",
            "idempotency-key",
            "x-goog-user-project",
            "cf-aig-cache-ttl",
            "x-max-tokens",
            "x-client-name",
            "x-title",
            "x-session-affinity",
        ];
        let rules = RequestHeaders::new(&list(&names)).unwrap();
        let headers: Vec<Header> = names.iter().map(|name| header(name, "v 1")).collect();
        assert_eq!(rules.check(&headers).unwrap().len(), names.len());
        assert!(rules.check(&[header("Accept", "text/event-stream")]).is_ok());
    }

    #[test]
    fn what_the_descriptor_does_not_list_is_refused() {
        let rules = RequestHeaders::new(&list(&["x-one"])).unwrap();
        assert!(refused(&rules, "x-two", "1").contains("request_headers"));
    }

    #[test]
    fn a_value_can_not_make_a_second_header() {
        let rules = RequestHeaders::new(&list(&["x-one"])).unwrap();
        for value in
            ["a\r\nauthorization: b", "a\nb", "a\rb", "a\0b", "a\r\n b", "\u{e9}", "a\u{7f}"]
        {
            refused(&rules, "x-one", value);
        }
        for name in ["x-one\r\nx", "x-one:", "x one", "", "x-\u{e9}", ":authority"] {
            refused(&rules, name, "1");
        }
    }

    #[test]
    fn number_and_size_are_bounded() {
        let names: Vec<String> = (0..MAX_RULES).map(|n| format!("x-{n}")).collect();
        let rules = RequestHeaders::new(&names).unwrap();
        let many: Vec<Header> = names.iter().map(|name| header(name, "1")).collect();
        assert!(rules.check(&many[..MAX_HEADERS]).is_ok());
        assert!(rules.check(&many[..=MAX_HEADERS]).is_err());
        refused(&rules, "x-1", &"a".repeat(MAX_BYTES));
        assert!(rules.check(&[header("x-1", "1"), header("X-1", "2")]).is_err());
        let names: Vec<String> = (0..=MAX_RULES).map(|n| format!("x-{n}")).collect();
        assert_eq!(RequestHeaders::new(&names).unwrap_err(), BadHeaderRule::TooMany);
    }

    #[test]
    fn lists_hold_lower_case_names_only() {
        for bad in ["X-One", "x one", "", "x-*", "x\n", &"x".repeat(65)] {
            let error = RequestHeaders::new(&list(&[bad])).unwrap_err();
            assert!(matches!(error, BadHeaderRule::NotAName(_)), "{bad:?}");
        }
        for bad in ["*", "X-*", "x-*-y", "", "x *"] {
            let error = ResponseHeaders::new(&list(&[bad])).unwrap_err();
            assert!(matches!(error, BadHeaderRule::NotAName(_)), "{bad:?}");
        }
        let error = ResponseHeaders::new(&list(&["set-cookie"])).unwrap_err();
        assert_eq!(error, BadHeaderRule::Hidden("set-cookie".into()));
    }

    #[test]
    fn an_adapter_sees_what_it_lists_without_secrets() {
        let rules = ResponseHeaders::new(&list(&["request-id", "x-ratelimit-*", "set-*", "www-*"]))
            .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("request-id", "req-sk-canary-1234"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("x-ratelimit-remaining-requests", "8"),
            ("x-other", "9"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Bearer"),
            ("server", "x"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("x-ratelimit-odd", HeaderValue::from_bytes(b"\xE9").unwrap());
        headers.insert("x-ratelimit-long", HeaderValue::from_str(&"a".repeat(5000)).unwrap());
        let secret = "sk-canary-1234".into();
        let seen = rules.filter(&headers, &Secrets::new([&secret]));
        let mut seen: Vec<(&str, &str)> =
            seen.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("request-id", "req-[redacted]"),
                ("x-ratelimit-remaining-requests", "8"),
                ("x-ratelimit-remaining-tokens", "7"),
            ]
        );
    }
}
