//! What an SDK's cases saw at each server, as `tests/python` and `tests/node` report it.
//!
//! A suite is run once for each server, when a test first asks what it saw there; all tests of the
//! SDK judge the same run.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::Value;

/// A line for each case, by its name.
pub type Seen = BTreeMap<String, Value>;

/// An SDK's cases at `N` servers.
pub struct Suite<const N: usize> {
    servers: [&'static str; N],
    run: fn(&str) -> Seen,
    seen: [OnceLock<Seen>; N],
}

impl<const N: usize> Suite<N> {
    /// `run` carries out all cases at the server it is given.
    pub const fn new(servers: [&'static str; N], run: fn(&str) -> Seen) -> Self {
        Self { servers, run, seen: [const { OnceLock::new() }; N] }
    }

    /// All that a case reported. A case that crashed is a bug of its own, or an answer that the SDK
    /// couldn't read.
    pub fn line(&self, server: &str, case: &str) -> &Value {
        let at = self.servers.iter().position(|name| *name == server);
        let at = at.unwrap_or_else(|| panic!("no server '{server}'"));
        let seen = self.seen[at].get_or_init(|| (self.run)(server));
        let line = seen.get(case).unwrap_or_else(|| panic!("no case '{case}'"));
        assert!(line["crashed"].is_null(), "{server}: {}", line["crashed"].as_str().unwrap_or(""));
        line
    }

    /// What a case returned.
    pub fn result(&self, server: &str, case: &str) -> &Value {
        let line = self.line(server, case);
        assert!(line["raised"].is_null(), "{server}: {line}");
        &line["result"]
    }

    /// What a case raised.
    pub fn raised(&self, server: &str, case: &str) -> &Value {
        let line = self.line(server, case);
        assert!(!line["raised"].is_null(), "{server}: nothing was raised: {line}");
        &line["raised"]
    }
}
