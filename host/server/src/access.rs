//! Who may speak to this server at all.
//!
//! With tokens configured, a request carries one of them as `Authorization: Bearer` or, as some SDKs
//! send it, as `x-api-key`; where both are given the former counts. Tokens are kept
//! as SHA-256 digests and all of them are compared, in constant time, so that neither the place nor
//! the length of a match shows in the time an answer takes.
//!
//! Without tokens, only this machine is served, and that takes more than a loopback peer: a web page
//! in a browser on this machine, or a reverse proxy, has one too. So the `Host` must name loopback
//! (a page that rebinds its own name to 127.0.0.1 sends its own name), an `Origin` must be loopback
//! as well, and a request that says it was forwarded is not local.
//!
//! Costs one hash over the token and one comparison for each configured token.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, Uri, header, uri::Authority};
use keyward::{
    config::{Config, TokenSource},
    gateway::{Caller, Gateway},
};
use sha2::{Digest as _, Sha256};

/// The longest token looked at, in bytes. Longer ones are wrong without being hashed.
const MAX_TOKEN: usize = 4096;

/// The address a request came from; put into its extensions by [`crate::serve`].
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Asked for each request, because configuration changes while the server runs.
pub type AccessSource = Arc<dyn Fn() -> Arc<Access> + Send + Sync>;

/// The configured tokens. None at all means: this machine only.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub tokens: Vec<Token>,
}

/// A caller and the digest of the token it shows.
#[derive(Clone, Debug)]
pub struct Token {
    pub caller: Arc<str>,
    pub operator: bool,
    pub sha256: [u8; 32],
}

impl Token {
    pub fn new(caller: &str, token: &str) -> Self {
        Self {
            caller: caller.into(),
            operator: false,
            sha256: Sha256::digest(token.as_bytes()).into(),
        }
    }
}

/// The access that the gateway's configuration gives, whichever is in force.
pub fn configured(gateway: Gateway) -> AccessSource {
    let made = Mutex::new(None::<(Arc<Config>, Arc<Access>)>);
    Arc::new(move || {
        let config = Arc::clone(&gateway.snapshot().config);
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((of, access)) if Arc::ptr_eq(of, &config) => Arc::clone(access),
            _ => {
                // Once for each configuration: tokens in files are read here.
                let access = Arc::new(Access::of(&config));
                *made = Some((config, Arc::clone(&access)));
                access
            }
        }
    })
}

impl Access {
    /// The configured tokens. One that can't be read lets nobody in, and never opens the door to
    /// those without a token.
    pub fn of(config: &Config) -> Self {
        let tokens = config.server.tokens.iter().map(|token| {
            let found = match &token.source {
                TokenSource::Sha256(digest) => Ok(*digest),
                TokenSource::Env(name) => match std::env::var(name.as_str()) {
                    Ok(token) if !token.is_empty() => Ok(Token::new("", &token).sha256),
                    _ => Err(format!("the variable {name} isn't set")),
                },
                TokenSource::File(path) => match std::fs::read_to_string(path) {
                    Ok(text) if !text.trim().is_empty() => Ok(Token::new("", text.trim()).sha256),
                    Ok(_) => Err(format!("{} is empty", path.display())),
                    Err(error) => Err(format!("{}: {error}", path.display())),
                },
            };
            let sha256 = found.unwrap_or_else(|reason| {
                tracing::error!(caller = %token.name, "a caller's token can't be read: {reason}");
                NO_TOKEN
            });
            Token { caller: Arc::clone(&token.name), operator: token.operator, sha256 }
        });
        Self { tokens: tokens.collect() }
    }
}

/// The digest of no known text.
const NO_TOKEN: [u8; 32] = [0; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "No API key was given. Send one of the tokens configured under `server.tokens` in an Authorization header (Authorization: Bearer TOKEN) or as x-api-key."
    )]
    NoToken,
    #[error(
        "Incorrect API key provided. It is none of the tokens configured under `server.tokens`."
    )]
    WrongToken,
    #[error(
        "No tokens are configured, so only programs on this machine are served. Configure `server.tokens` to serve others."
    )]
    NotLocal,
    #[error(
        "No tokens are configured, so the Host must be localhost or a loopback address. Configure `server.tokens` to be reached by another name."
    )]
    ForeignHost,
    #[error("No tokens are configured, so requests from pages of other hosts aren't served.")]
    ForeignOrigin,
}

impl Access {
    /// Says who asks.
    ///
    /// # Errors
    /// If nobody who may.
    pub fn check(
        &self,
        peer: Option<Peer>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Caller, Denied> {
        if self.tokens.is_empty() {
            check_local(peer, uri, headers)?;
            return Ok(Caller { name: "local".into(), operator: true });
        }
        let token = shown(headers).ok_or(Denied::NoToken)?;
        if token.len() > MAX_TOKEN {
            return Err(Denied::WrongToken);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for token in &self.tokens {
            if same(&token.sha256, &digest) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Denied::WrongToken)?;
        Ok(Caller { name: token.caller.clone(), operator: token.operator })
    }
}

/// The token of a request. A header given twice shows none.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(http::HeaderValue::as_bytes)
    };
    if headers.contains_key(header::AUTHORIZATION) {
        return bearer(one(header::AUTHORIZATION.as_str())?);
    }
    one("x-api-key").map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Looks at every byte, whatever the first ones are.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    difference == 0
}

fn check_local(peer: Option<Peer>, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
    let local_peer = peer.is_some_and(|Peer(peer)| is_loopback(peer.ip()));
    let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
    if !local_peer || forwarded.iter().any(|name| headers.contains_key(*name)) {
        return Err(Denied::NotLocal);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        _ => None,
    };
    if !host.is_some_and(|host| names_loopback(&host))
        || uri.authority().is_some_and(|authority| !names_loopback(authority))
    {
        return Err(Denied::ForeignHost);
    }
    // A page's origin is "null" in a sandboxed frame and for files; no server of ours sends such.
    let local_origin = |origin: &http::HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        origin.is_some_and(|origin| {
            matches!(origin.scheme_str(), Some("http" | "https"))
                && origin.authority().is_some_and(names_loopback)
        })
    };
    if !headers.get_all(header::ORIGIN).iter().all(local_origin) {
        return Err(Denied::ForeignOrigin);
    }
    Ok(())
}

fn names_loopback(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.trim_start_matches('[').trim_end_matches(']').parse().is_ok_and(is_loopback)
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, peer: &str, headers: &[(&str, &str)]) -> Result<Arc<str>, Denied> {
        check_uri(access, peer, "/v1/models", headers)
    }

    fn check_uri(
        access: &Access,
        peer: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<Arc<str>, Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let peer = Some(Peer(peer.parse().unwrap()));
        access.check(peer, &uri.parse().unwrap(), &map).map(|caller| caller.name)
    }

    const LOCAL: &str = "127.0.0.1:50000";

    fn with_tokens() -> Access {
        Access { tokens: vec![Token::new("ann", "token-a"), Token::new("bob", "token-b")] }
    }

    #[test]
    fn a_configured_token_names_its_caller() {
        let access = with_tokens();
        for (value, name) in
            [("Bearer token-a", "ann"), ("bearer token-b", "bob"), ("Bearer   token-b  ", "bob")]
        {
            let found = check(&access, "203.0.113.5:1", &[("authorization", value)]);
            assert_eq!(found.as_deref(), Ok(name));
        }
    }

    #[test]
    fn any_other_token_is_refused_from_wherever_it_comes() {
        let access = with_tokens();
        for value in ["Bearer token-c", "Bearer token-a ,", "Bearer token", "Bearer token-aa"] {
            let found = check(&access, LOCAL, &[("host", "localhost"), ("authorization", value)]);
            assert_eq!(found, Err(Denied::WrongToken), "{value}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        assert_eq!(check(&access, LOCAL, &[("authorization", &long)]), Err(Denied::WrongToken));
        for value in ["", "Bearer", "Bearer ", "Basic dG9rZW4tYQ==", "token-a", "Bearertoken-a"] {
            let found = check(&access, LOCAL, &[("host", "localhost"), ("authorization", value)]);
            assert_eq!(found, Err(Denied::NoToken), "{value}");
        }
        assert_eq!(check(&access, LOCAL, &[("host", "localhost")]), Err(Denied::NoToken));
        let twice = [("authorization", "Bearer token-a"), ("authorization", "Bearer token-b")];
        assert_eq!(check(&access, LOCAL, &twice), Err(Denied::NoToken));
    }

    #[test]
    fn a_token_may_come_as_an_api_key() {
        let access = with_tokens();
        let ask = |headers: &[(&str, &str)]| check(&access, "203.0.113.5:1", headers);
        assert_eq!(ask(&[("x-api-key", "token-b")]).as_deref(), Ok("bob"));
        assert_eq!(ask(&[("x-api-key", "token-c")]), Err(Denied::WrongToken));
        assert_eq!(ask(&[("x-api-key", "")]), Err(Denied::NoToken));
        let twice = [("x-api-key", "token-a"), ("x-api-key", "token-b")];
        assert_eq!(ask(&twice), Err(Denied::NoToken));
        let both = |bearer| [("x-api-key", "token-a"), ("authorization", bearer)];
        assert_eq!(ask(&both("Bearer token-b")).as_deref(), Ok("bob"));
        assert_eq!(ask(&both("Bearer token-c")), Err(Denied::WrongToken));
        assert_eq!(ask(&both("Basic eA==")), Err(Denied::NoToken));
    }

    #[test]
    fn without_tokens_this_machine_is_served() {
        let access = Access::default();
        for (peer, host) in [
            (LOCAL, "127.0.0.1:8080"),
            (LOCAL, "localhost"),
            (LOCAL, "LocalHost:1"),
            (LOCAL, "localhost.:8080"),
            (LOCAL, "127.1.2.3"),
            ("[::1]:5", "[::1]:8080"),
            ("[::ffff:127.0.0.1]:5", "[::1]"),
        ] {
            let found = check(&access, peer, &[("host", host)]);
            assert_eq!(found.as_deref(), Ok("local"), "{host}");
        }
        let own_page = [("host", "localhost:8080"), ("origin", "http://localhost:3000")];
        assert!(check(&access, LOCAL, &own_page).is_ok());
    }

    #[test]
    fn without_tokens_no_other_machine_is_served() {
        let access = Access::default();
        for peer in ["192.0.2.1:5", "[2001:db8::1]:5", "10.0.0.1:5", "0.0.0.0:5"] {
            let found = check(&access, peer, &[("host", "localhost")]);
            assert_eq!(found, Err(Denied::NotLocal), "{peer}");
        }
        for name in ["X-Forwarded-For", "forwarded", "x-real-ip", "via"] {
            let found = check(&access, LOCAL, &[("host", "localhost"), (name, "203.0.113.9")]);
            assert_eq!(found, Err(Denied::NotLocal), "{name}");
        }
        let nobody = access.check(None, &Uri::from_static("/"), &HeaderMap::new());
        assert!(matches!(nobody, Err(Denied::NotLocal)));
    }

    #[test]
    fn a_name_rebound_to_loopback_is_refused() {
        let access = Access::default();
        for host in [
            "evil.test",
            "evil.test:8080",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "localhost@evil.test",
            "evil.test@localhost",
            "0.0.0.0",
            "[::]",
            "169.254.169.254",
            "2130706433",
            "0x7f000001",
            "",
        ] {
            let found = check(&access, LOCAL, &[("host", host)]);
            assert_eq!(found, Err(Denied::ForeignHost), "{host}");
        }
        assert_eq!(check(&access, LOCAL, &[]), Err(Denied::ForeignHost));
        let twice = [("host", "localhost"), ("host", "evil.test")];
        assert_eq!(check(&access, LOCAL, &twice), Err(Denied::ForeignHost));
        let absolute =
            check_uri(&access, LOCAL, "http://evil.test/v1/models", &[("host", "localhost")]);
        assert_eq!(absolute, Err(Denied::ForeignHost));
    }

    #[test]
    fn pages_of_other_hosts_are_refused() {
        let access = Access::default();
        for origin in [
            "null",
            "https://evil.test",
            "http://localhost.evil.test",
            "http://evil.test:80",
            "file://",
            "chrome-extension://abcdef",
            "localhost",
            "",
        ] {
            let found = check(&access, LOCAL, &[("host", "localhost"), ("origin", origin)]);
            assert_eq!(found, Err(Denied::ForeignOrigin), "{origin}");
        }
    }
}
