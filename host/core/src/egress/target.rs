//! The grant: a base URL that an adapter's requests can't leave.
//!
//! An adapter names an origin and gives a path; the operator's configuration gives the base URL.
//! The two are put together as text, parsed once by the URL standard's parser, and accepted only
//! if the parser changed nothing at all. So whatever a parser would resolve, strip or re-encode
//! (dot segments, backslashes, tabs, fragments, a second authority) is refused without a list of
//! tricks. A second parser, the one the HTTP client uses, must then see the same host and path.
//! What is left are escapes that only a server might undo; dots and control characters in those
//! are refused as well.
//!
//! Cost: two parses of one URL, some microseconds; nothing to speak of for a path that was granted
//! before, because an adapter has few and they repeat.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::Uri;
use keyward_contract::ProviderKind;
use url::Url;

use super::{
    address::{self, Denied, Policy},
    credential::{Injection, Place},
};
use crate::Failure;

/// The longest path with its query. Servers refuse request lines beyond 8 KiB.
pub const MAX_PATH: usize = 4 << 10;

/// Granted paths that are remembered for each base. Adapters have a handful; what carries ids or
/// page tokens would only fill the memory.
const REMEMBERED: usize = 32;

/// How many layers of percent-encoding are looked through. More than two have never been undone by
/// a server and its proxies together.
const LAYERS: usize = 4;

/// Query parameters by which vendors take a credential. An adapter that sets one could send a
/// user's prompt under its author's account.
const CREDENTIAL_PARAMETERS: [&str; 14] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "client_secret",
    "key",
    "sig",
    "signature",
    "subscription-key",
    "token",
    "x-amz-signature",
];

/// Why a base URL can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    #[error("the URL has the scheme '{0}'; it must be https")]
    Scheme(String),
    #[error(
        "the URL has the scheme http, which only a provider with 'kind: local' may use; it must be https"
    )]
    ClearText,
    #[error("the URL has no host")]
    NoHost,
    #[error("the URL's host ends with a dot; leave the dot out")]
    TrailingDot,
    #[error("the URL holds a user name or password; store the credential with 'keyward key set'")]
    UserInfo,
    #[error("the URL has a query or a fragment; a base URL has neither")]
    NotABase,
    #[error("the URL's path holds an encoded dot or control character")]
    Path,
    #[error("{0}")]
    Address(#[from] Denied),
}

/// A base URL with the right to send there. Cheap to clone.
#[derive(Clone)]
pub struct Target(Arc<Inner>);

struct Inner {
    /// Without a trailing slash.
    prefix: String,
    authority: String,
    host: String,
    policy: Policy,
    granted: Mutex<HashMap<Box<str>, Url>>,
}

impl Target {
    /// # Errors
    /// If the URL isn't a plain base URL, isn't https for an external provider, or spells an
    /// address that the provider may not reach.
    pub fn new(base: &Url, kind: ProviderKind) -> Result<Self, BadTarget> {
        let encrypted = match base.scheme() {
            "https" => true,
            "http" if kind == ProviderKind::Local => false,
            "http" => return Err(BadTarget::ClearText),
            other => return Err(BadTarget::Scheme(other.to_owned())),
        };
        let policy = Policy { kind, encrypted };
        let host = base.host().ok_or(BadTarget::NoHost)?;
        if let Some(literal) = address::literal(&host) {
            policy.check(literal)?;
        }
        let host = host.to_string();
        if host.ends_with('.') {
            return Err(BadTarget::TrailingDot);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(BadTarget::UserInfo);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(BadTarget::NotABase);
        }
        hidden_in_escapes(base.path()).map_or(Ok(()), |_| Err(BadTarget::Path))?;
        let prefix = base.as_str().trim_end_matches('/').to_owned();
        let authority = base.authority().to_owned();
        let granted = Mutex::default();
        Ok(Self(Arc::new(Inner { prefix, authority, host, policy, granted })))
    }

    /// The URL of `path` below this base. `path` begins with a slash, may have a query, and is
    /// spelled with the escapes it is sent with.
    ///
    /// # Errors
    /// The adapter's fault, if the path is not one or leads anywhere else.
    pub fn join(&self, path: &str) -> Result<GrantedUrl, Failure> {
        let granted = || self.0.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = granted().get(path).cloned();
        if let Some(url) = known {
            return Ok(GrantedUrl { url, target: self.clone() });
        }
        let url = self.try_join(path).map_err(|why| {
            let shown: String = path.chars().take(80).flat_map(char::escape_debug).collect();
            Failure::plugin(format!("the adapter's path '{shown}' is refused: {why}"))
        })?;
        let mut granted = granted();
        if granted.len() < REMEMBERED && !path.contains('?') {
            granted.insert(path.into(), url.clone());
        }
        Ok(GrantedUrl { url, target: self.clone() })
    }

    fn try_join(&self, path: &str) -> Result<Url, &'static str> {
        const RESPELLED: &str = "it is not spelled as it would be sent; it must be percent-encoded \
            and have no dot segments, backslashes or fragment";
        if path.len() > MAX_PATH {
            return Err("it is too long");
        }
        if !path.starts_with('/') || path.starts_with("//") {
            return Err("it must begin with one slash");
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(RESPELLED);
        }
        let text = format!("{}{path}", self.0.prefix);
        let url = Url::parse(&text).map_err(|_| RESPELLED)?;
        if url.as_str() != text {
            return Err(RESPELLED);
        }
        if let Some(problem) = hidden_in_escapes(url.path()) {
            return Err(problem);
        }
        for (name, _) in url.query_pairs() {
            if CREDENTIAL_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err("its query holds a parameter that authenticates");
            }
        }
        let uri: Uri = text.parse().map_err(|_| RESPELLED)?;
        let same = uri.authority().is_some_and(|it| it.as_str() == self.0.authority)
            && uri.scheme_str() == Some(url.scheme())
            && uri.path() == url.path()
            && uri.query() == url.query();
        if !same {
            return Err(RESPELLED);
        }
        Ok(url)
    }

    pub(super) fn host(&self) -> &str {
        &self.0.host
    }

    pub(super) fn policy(&self) -> Policy {
        self.0.policy
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.0.prefix)
    }
}

/// A URL that a [`Target`] grants: only [`Target::join`] makes one.
#[derive(Clone)]
pub struct GrantedUrl {
    url: Url,
    target: Target,
}

impl GrantedUrl {
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The URL to send to, with the credential where it belongs into the query.
    ///
    /// # Errors
    /// The adapter's fault, if it already set the parameter the credential goes into.
    pub(super) fn with_credential(self, credential: Option<&Injection>) -> Result<Url, Failure> {
        use secrecy::ExposeSecret;
        let mut url = self.url;
        if let Some(Place::Query { name, value }) = credential.map(|it| &it.place) {
            if url.query_pairs().any(|(taken, _)| taken == name.as_str()) {
                return Err(Failure::plugin(format!(
                    "the adapter's path sets the query parameter '{name}', which is the credential's"
                )));
            }
            url.query_pairs_mut().append_pair(name, value.expose_secret());
        }
        Ok(url)
    }
}

impl fmt::Debug for GrantedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantedUrl({})", self.url)
    }
}

/// What a server that undoes escapes, once or more, would find in `path`.
fn hidden_in_escapes(path: &str) -> Option<&'static str> {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..LAYERS {
        if !bytes.contains(&b'%') {
            return None;
        }
        bytes = match unescape(&bytes) {
            Some(bytes) => bytes,
            // In a deeper layer a percent sign may be just that.
            None if bytes.len() < path.len() => return None,
            None => return Some("it has a percent sign without two hexadecimal digits"),
        };
        if bytes.iter().any(u8::is_ascii_control) {
            return Some("it has an encoded control character");
        }
        let mut segments = bytes.split(|byte| matches!(byte, b'/' | b'\\'));
        if segments.any(|segment| segment == b"." || segment == b"..") {
            return Some("it has an encoded dot segment");
        }
    }
    // Nobody encodes so often without something to hide.
    bytes.contains(&b'%').then_some("it is percent-encoded too many times")
}

/// Undoes one layer of percent-encoding.
fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digit = |at: usize| (*rest.get(at)? as char).to_digit(16);
            plain.push((digit(0)? * 16 + digit(1)?) as u8);
            rest = &rest[2..];
        } else {
            plain.push(byte);
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn external(base: &str) -> Result<Target, BadTarget> {
        Target::new(&Url::parse(base).unwrap(), ProviderKind::External)
    }

    fn local(base: &str) -> Result<Target, BadTarget> {
        Target::new(&Url::parse(base).unwrap(), ProviderKind::Local)
    }

    fn openai() -> Target {
        external("https://api.openai.com/v1").unwrap()
    }

    #[test]
    fn a_path_lands_below_the_base() {
        for (base, path, url) in [
            (
                "https://api.openai.com/v1",
                "/chat/completions",
                "https://api.openai.com/v1/chat/completions",
            ),
            ("https://api.openai.com/v1/", "/models", "https://api.openai.com/v1/models"),
            ("https://API.openai.com:443", "/v1/models", "https://api.openai.com/v1/models"),
            (
                "https://generativelanguage.googleapis.com/v1beta",
                "/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
            ),
            (
                "https://h.test:8443/a",
                "/@cf/meta/llama%20x?q=%0A&page_token=1",
                "https://h.test:8443/a/@cf/meta/llama%20x?q=%0A&page_token=1",
            ),
            ("https://h.test/a", "/v1...x/..y/", "https://h.test/a/v1...x/..y/"),
        ] {
            assert_eq!(external(base).unwrap().join(path).unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_remembered_path_gives_the_same_url_and_only_on_its_own_base() {
        let (one, other) = (openai(), external("https://other.test/v2").unwrap());
        let first = one.join("/models").unwrap();
        assert_eq!(first.as_str(), one.join("/models").unwrap().as_str());
        assert_eq!(other.join("/models").unwrap().as_str(), "https://other.test/v2/models");
        for id in 0..1000 {
            one.join(&format!("/files/{id}")).unwrap();
        }
        assert_eq!(one.0.granted.lock().unwrap().len(), REMEMBERED);
    }

    #[test]
    fn a_path_can_not_leave_the_base() {
        for path in [
            "",
            "chat",
            "//evil.test/x",
            "https://evil.test/",
            "@evil.test",
            ":8443/x",
            ".evil.test/",
            "/../admin",
            "/a/../../admin",
            "/..",
            "/.",
            "/a/./b",
            "/%2e%2e/admin",
            "/%2E%2e/x",
            "/.%2e/x",
            "/%2e",
            "/..%2fadmin",
            "/a%2f..%2f..%2fadmin",
            "/..%5cadmin",
            "/%252e%252e/x",
            "/%25252e%25252e%25252fx",
            "/..%252fadmin",
            "/\\evil.test",
            "/a\\..\\b",
            "/a#b",
            "/a b",
            "/a\tb",
            "/a\r\nhost: evil.test",
            "/a\n",
            "/a\0",
            "/a%00",
            "/a%0d%0ab",
            "/a%250a",
            "/\u{e9}",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a\"b",
            "/a<b",
            "/a?q=\"",
            "/a?q='",
            "/a?q=\u{e9}",
            "/a?q= b",
            "/%25252525252e",
        ] {
            let refused = openai().join(path);
            assert!(refused.is_err(), "{path:?} became {refused:?}");
        }
        assert!(openai().join(&format!("/{}", "a".repeat(MAX_PATH))).is_err());
    }

    #[test]
    fn a_refusal_is_the_adapters_fault_and_is_shown_escaped() {
        let failure = openai().join("/\u{1b}[31m").unwrap_err();
        assert_eq!(failure.kind, crate::FailureKind::Plugin);
        assert!(!failure.message.contains('\u{1b}'), "{}", failure.message);
    }

    #[test]
    fn an_adapter_can_not_authenticate_in_the_query() {
        for path in ["/a?key=AIza", "/a?x=1&API_KEY=1", "/a?%6bey=1", "/a?access_token=1"] {
            assert!(openai().join(path).is_err(), "{path}");
        }
    }

    #[test]
    fn scheme_port_and_path_are_part_of_the_grant() {
        let url = external("https://h.test:8443/base").unwrap().join("/echo").unwrap();
        assert_eq!(url.as_str(), "https://h.test:8443/base/echo");
    }

    #[test]
    fn external_providers_are_encrypted_and_public() {
        assert_eq!(external("http://api.test/").unwrap_err(), BadTarget::ClearText);
        assert!(matches!(external("ftp://api.test/").unwrap_err(), BadTarget::Scheme(_)));
        for literal in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://0.0.0.0/",
            "https://10.0.0.1/",
            "https://169.254.169.254/",
            "https://[fd00:ec2::254]/",
            "https://100.100.100.200/",
        ] {
            assert!(matches!(external(literal), Err(BadTarget::Address(_))), "{literal}");
        }
    }

    #[test]
    fn local_providers_may_be_in_clear_text_on_this_machine() {
        assert!(local("http://127.0.0.1:11434").is_ok());
        assert!(local("http://localhost:11434").is_ok());
        assert!(local("http://[::1]:11434").unwrap().join("/api/chat").is_ok());
        assert!(matches!(local("http://169.254.169.254/"), Err(BadTarget::Address(_))));
        assert!(matches!(local("http://1.1.1.1/"), Err(BadTarget::Address(_))));
        assert!(local("https://1.1.1.1/").is_ok());
    }

    #[test]
    fn a_base_url_is_only_that() {
        assert_eq!(external("https://me:pw@h.test/").unwrap_err(), BadTarget::UserInfo);
        assert_eq!(external("https://h.test/?a").unwrap_err(), BadTarget::NotABase);
        assert_eq!(external("https://h.test/#a").unwrap_err(), BadTarget::NotABase);
        assert_eq!(external("https://h.test./").unwrap_err(), BadTarget::TrailingDot);
        assert_eq!(external("https://h.test/a%2f..").unwrap_err(), BadTarget::Path);
    }

    /// Pieces from which URL tricks are made.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/"),
            Just("//"),
            Just(".."),
            Just("."),
            Just("%2e"),
            Just("%2F"),
            Just("%5c"),
            Just("\\"),
            Just("@"),
            Just(":"),
            Just("?"),
            Just("#"),
            Just("%"),
            Just("%25"),
            Just("evil.test"),
            Just("\t"),
            Just("\n"),
            Just("\r\n"),
            Just("\0"),
            Just("%00"),
            Just("https:"),
            Just("[::1]"),
            Just("a"),
            Just(";"),
            Just("&"),
            Just("="),
            Just(" "),
            Just("\u{ff0f}"),
            Just("\u{2024}"),
            Just("\u{200b}"),
        ];
        prop_oneof![
            proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
            proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter),
            "/[ -~]{0,40}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_joined_stays_below_the_base(path in hostile(), slash in any::<bool>()) {
            let path = if slash { format!("/{path}") } else { path };
            for base in ["https://api.openai.com/v1", "https://h.test:8443", "https://h.test/a/b"] {
                let base = Url::parse(base).unwrap();
                let target = Target::new(&base, ProviderKind::External).unwrap();
                let Ok(granted) = target.join(&path) else { continue };
                let again = Url::parse(granted.as_str()).unwrap();
                prop_assert_eq!(again.origin(), base.origin());
                let below = format!("{}/", base.path().trim_end_matches('/'));
                prop_assert!(again.path().starts_with(&below), "{} from {:?}", again, path);
                prop_assert!(again.fragment().is_none() && again.username().is_empty());
                // Whatever a server decodes, no segment climbs.
                let mut text = again.path().as_bytes().to_vec();
                for _ in 0..8 {
                    text = unescape(&text).unwrap_or(text);
                    let climbs = text
                        .split(|byte| matches!(byte, b'/' | b'\\'))
                        .any(|segment| segment == b".." || segment == b".");
                    prop_assert!(!climbs, "{} from {:?}", again, path);
                }
            }
        }
    }
}
