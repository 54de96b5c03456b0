//! Takes what is private out of a recording, and says what it took.
//!
//! Private are e-mail addresses, phone numbers and network addresses wherever they stand; ids of
//! organisations, projects, users and requests, by the names vendors give the members that hold
//! them or by how they look; cookies; and whatever looks like a key, masked ones included. Each
//! value gets a placeholder of its own, the same wherever it occurs, so that what refers to what
//! is still seen. Finding works on decoded text, replacing on the bytes as the vendor sent them.
//!
//! It knows shapes, not people: a name or a street in an answer stays. That is why the prompt is
//! the user's choice and harmless unless they choose otherwise.

use serde_json::Value as Json;

/// Shorter values of private members can't be told from ordinary words.
const SHORTEST: usize = 3;

/// A run of letters and digits this long, with a digit in it, was made by a machine.
const OPAQUE: usize = 8;

/// What a member of one of these names holds is about the account, whatever it looks like.
const PRIVATE: [&str; 26] = [
    "account",
    "account_id",
    "account_name",
    "customer",
    "customer_id",
    "email",
    "ip",
    "ip_address",
    "org",
    "org_id",
    "organisation",
    "organisation_id",
    "organization",
    "organization_id",
    "phone",
    "phone_number",
    "project",
    "project_id",
    "project_name",
    "team_id",
    "tenant_id",
    "user",
    "user_id",
    "username",
    "workspace",
    "workspace_id",
];

/// What ids of accounts, requests and keys begin with, where they stand in the middle of a text.
const PREFIXES: [&str; 9] =
    ["org-", "proj_", "user-", "acct_", "acc_", "req_", "sess_", "sk-", "sk_"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Email,
    Phone,
    Address,
    Account,
    Id,
    Cookie,
    Key,
}

impl Kind {
    /// For people, in the singular.
    pub fn label(self) -> &'static str {
        match self {
            Self::Email => "e-mail address",
            Self::Phone => "phone number",
            Self::Address => "network address",
            Self::Account => "account or project id",
            Self::Id => "id of a request or answer",
            Self::Cookie => "cookie",
            Self::Key => "key or part of one",
        }
    }
}

/// A value that was found, and what stands in its place.
#[derive(Debug)]
pub struct Found {
    pub kind: Kind,
    pub placeholder: String,
    /// In the order of finding.
    pub number: usize,
    value: String,
}

#[derive(Debug, Default)]
pub struct Scrub {
    found: Vec<Found>,
    /// Names of models look like ids and aren't.
    public: Vec<String>,
    /// In a list of models, `id` is a model's name.
    models: bool,
}

impl Scrub {
    /// For an exchange that asked for the list of models, or not.
    pub fn new(models: bool) -> Self {
        Self { models, ..Self::default() }
    }

    /// This is no secret wherever it stands.
    pub fn spare(&mut self, value: &str) {
        self.public.push(value.to_owned());
    }

    /// What was found, the longest first.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    // ------------------------------------------------------------------------ finding

    /// Looks at a header of an answer.
    pub fn look_at_header(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if says(&["ratelimit", "rate-limit"]) {
            return;
        }
        if says(&["cookie"]) {
            self.note(Kind::Cookie, value);
        } else if says(&["organization", "org-id", "project", "account", "user", "workspace"]) {
            self.note(Kind::Account, value);
        } else if says(&["request-id", "requestid", "trace", "cf-ray", "correlation"])
            || name.ends_with("-id")
        {
            self.note(Kind::Id, value);
        }
        self.look_at_text(value);
    }

    /// Looks at a body or a frame: JSON, lines of it, or text.
    pub fn look_at_body(&mut self, text: &str) {
        if let Ok(json) = serde_json::from_str(text) {
            return self.look_at_json(&json);
        }
        for line in text.lines() {
            let data = line.strip_prefix("data:").unwrap_or(line);
            match serde_json::from_str(data) {
                Ok(json) => self.look_at_json(&json),
                Err(_) => self.look_at_text(data),
            }
        }
    }

    pub fn look_at_json(&mut self, json: &Json) {
        match json {
            Json::String(text) => self.look_at_text(text),
            Json::Array(items) => items.iter().for_each(|item| self.look_at_json(item)),
            Json::Object(members) => {
                // A model's name is spared before an `id` beside it is looked at.
                if let Some(Json::String(model)) = members.get("model") {
                    self.spare(model);
                }
                for (name, value) in members {
                    if let Json::String(text) = value {
                        self.look_at_member(name, text);
                    }
                    self.look_at_json(value);
                }
            }
            _ => {}
        }
    }

    fn look_at_member(&mut self, name: &str, value: &str) {
        let name = name.replace('-', "_");
        let lower = name.to_ascii_lowercase();
        if PRIVATE.contains(&lower.as_str()) {
            return self.note(Kind::Account, value);
        }
        let is_id = match lower.as_str() {
            "id" => !self.models,
            "model_id" => false,
            _ => lower.ends_with("_id") || name.ends_with("Id") || lower == "requestid",
        };
        if is_id && is_opaque(value) {
            self.note(Kind::Id, value);
        }
    }

    pub fn look_at_text(&mut self, text: &str) {
        for email in emails(text) {
            self.note(Kind::Email, email);
        }
        for phone in phones(text) {
            self.note(Kind::Phone, phone);
        }
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.*".contains(c);
        for word in text.split(|c| !part(c)).map(|word| word.trim_matches('.')) {
            if word.contains("***") {
                self.note(Kind::Key, word);
            } else if word.parse::<std::net::Ipv4Addr>().is_ok() {
                self.note(Kind::Address, word);
            } else if is_uuid(word) {
                self.note(Kind::Id, word);
            } else if let Some(prefix) = PREFIXES.iter().find(|prefix| word.starts_with(**prefix))
                && is_opaque(&word[prefix.len()..])
            {
                let kind = match *prefix {
                    "sk-" | "sk_" => Kind::Key,
                    "req_" | "sess_" => Kind::Id,
                    _ => Kind::Account,
                };
                self.note(kind, word);
            }
        }
    }

    fn note(&mut self, kind: Kind, value: &str) {
        let value = value.trim();
        let known = |found: &Found| found.value == value || found.placeholder == value;
        if value.len() < SHORTEST
            || self.found.iter().any(known)
            || self.public.iter().any(|public| public == value)
            || is_harmless(value)
        {
            return;
        }
        let placeholder = self.placeholder(kind, value);
        let place = self.found.partition_point(|found| found.value.len() >= value.len());
        let (number, value) = (self.found.len(), value.to_owned());
        self.found.insert(place, Found { kind, placeholder, number, value });
    }

    fn placeholder(&self, kind: Kind, value: &str) -> String {
        let number = self.found.len() + 1;
        match kind {
            Kind::Email => format!("person-{number}@example.com"),
            Kind::Phone => format!("+1-555-01{:02}", number % 100),
            Kind::Address => format!("192.0.2.{}", number % 250),
            Kind::Cookie => format!("cookie-{number}"),
            Kind::Key => "[redacted]".to_owned(),
            _ if is_uuid(value) => format!("00000000-0000-4000-8000-{number:012}"),
            Kind::Account | Kind::Id => {
                // What stands before the random part tells an adapter or a reader what it is.
                let end = value.find(['-', '_']).unwrap_or(0);
                let prefix = &value[..end];
                let speaks = (1..=12).contains(&end)
                    && prefix.bytes().all(|byte| byte.is_ascii_alphabetic());
                match speaks {
                    true => format!("{}{number}", &value[..=end]),
                    false => format!("id-{number}"),
                }
            }
        }
    }

    // ---------------------------------------------------------------------- replacing

    pub fn text(&self, text: &str) -> String {
        let bytes = self.bytes(text.as_bytes());
        // Whole characters were replaced by whole characters.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Every string in a document, names of members left alone.
    pub fn json(&self, json: &mut Json) {
        match json {
            Json::String(text) => *text = self.text(text),
            Json::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Json::Object(members) => members.values_mut().for_each(|value| self.json(value)),
            _ => {}
        }
    }

    /// The bytes of a body: values as they are, and as they look inside a JSON string.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for found in &self.found {
            let json = Json::from(found.value.as_str()).to_string();
            let json = json[1..json.len() - 1].to_owned();
            let slashes = json.replace('/', "\\/");
            let mut spellings = vec![found.value.clone(), json, slashes];
            spellings.dedup();
            for spelling in spellings {
                bytes = replace(&bytes, spelling.as_bytes(), found.placeholder.as_bytes());
            }
        }
        bytes
    }
}

/// Replaces whole words only: a user called `max` leaves `max_tokens` alone.
fn replace(bytes: &[u8], value: &[u8], placeholder: &[u8]) -> Vec<u8> {
    let joins = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        // The letter of an escape such as `\n` belongs to no word.
        let escaped = at >= 2 && bytes[at - 2] == b'\\' && b"nrtbf".contains(&bytes[at - 1]);
        if rest.starts_with(value) && (escaped || !joins(before)) && !joins(rest.get(value.len())) {
            out.extend_from_slice(placeholder);
            at += value.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

// ---------------------------------------------------------------------------- shapes

/// Made up for documentation: nobody's.
fn is_harmless(value: &str) -> bool {
    let domain = value.rsplit_once('@').map(|(_, domain)| domain);
    domain.is_some_and(|d| ["example.com", "example.org", "example.net"].contains(&d))
        || value.starts_with("+1-555-01")
        || ["192.0.2.", "127.0.0.", "0.0.0.0"].iter().any(|begin| value.starts_with(begin))
        || value == "[redacted]"
}

/// Looks like an id made by a machine rather than a name given by someone.
fn is_opaque(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    value.chars().all(plain)
        && (is_uuid(value)
            || value
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|run| run.len() >= OPAQUE && run.bytes().any(|byte| byte.is_ascii_digit())))
}

fn is_uuid(word: &str) -> bool {
    let groups: Vec<&str> = word.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        && !word.starts_with("00000000-0000-4000-8000-")
}

fn emails(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('@').filter_map(|(at, _)| {
        let local = |c: char| c.is_ascii_alphanumeric() || "._%+-".contains(c);
        let domain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
        let begin = text[..at].trim_end_matches(local).len();
        let rest = &text[at + 1..];
        let length = rest.find(|c| !domain(c)).unwrap_or(rest.len());
        let host = rest[..length].trim_end_matches(['.', '-']);
        let (name, top) = host.rsplit_once('.')?;
        let good = begin < at
            && !name.is_empty()
            && top.len() >= 2
            && top.bytes().all(|byte| byte.is_ascii_alphabetic());
        good.then(|| &text[begin..at + 1 + host.len()])
    })
}

/// `+` and 8 to 15 digits, or ten digits grouped as in North America.
fn phones(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begins = matches!(bytes[at], b'+' | b'(' | b'0'..=b'9')
            && at.checked_sub(1).is_none_or(|before| !bytes[before].is_ascii_alphanumeric());
        if !begins {
            at += 1;
            continue;
        }
        let part = |byte: &u8| byte.is_ascii_digit() || b" -().+".contains(byte);
        let run = &text[at..at + bytes[at..].iter().take_while(|byte| part(byte)).count()];
        let run = run.trim_end_matches(|c: char| !c.is_ascii_digit());
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        let groups: Vec<usize> = run
            .split(|c: char| !c.is_ascii_digit())
            .map(str::len)
            .filter(|&length| length > 0)
            .collect();
        let grouped = groups == [3, 3, 4];
        if (run.starts_with('+') && (8..=15).contains(&digits)) || grouped {
            found.push(run);
        }
        at += run.len().max(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scrubbed(text: &str) -> String {
        let mut scrub = Scrub::new(false);
        scrub.look_at_body(text);
        scrub.text(text)
    }

    #[test]
    fn what_is_private_gets_a_placeholder_and_the_rest_stays() {
        let table = [
            ("write to ada.l+x@mail.acme.io.", "write to person-1@example.com."),
            ("call +49 (30) 1234-5678 now", "call +1-555-0101 now"),
            ("call 415-555-2671", "call +1-555-0101"),
            ("from 203.0.113.7:443", "from 192.0.2.1:443"),
            ("in organization org-aB3dE5gH7jK9.", "in organization org-1."),
            ("key sk-abcd1234efgh5678 is wrong", "key [redacted] is wrong"),
            ("key sk-can****************6789.", "key [redacted]."),
            ("id 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "id 00000000-0000-4000-8000-000000000001"),
            // None of this is anybody's.
            ("on 2026-01-10 at 10:00:01, v1.2.3", "on 2026-01-10 at 10:00:01, v1.2.3"),
            ("gpt-4o-2024-08-06 costs 1234567890", "gpt-4o-2024-08-06 costs 1234567890"),
            ("see @ home, a@b, user-friendly", "see @ home, a@b, user-friendly"),
        ];
        for (text, clean) in table {
            assert_eq!(scrubbed(text), clean);
        }
    }

    #[test]
    fn ids_and_accounts_are_known_by_their_members() {
        let body = json!({
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "model": "acme-20250101x1",
            "organization": "Acme Ltd", "user": "max", "max_tokens": 5, "role": "user",
            "choices": [{"tool_calls": [{"id": "call_a1b2c3d4e5"}]}], "tool_call_id": "call_a1b2c3d4e5",
        });
        let clean: Json = serde_json::from_str(&scrubbed(&body.to_string())).unwrap();
        assert_eq!(clean["id"], "chatcmpl-1");
        assert_eq!(clean["model"], "acme-20250101x1");
        assert_eq!(clean["max_tokens"], 5);
        assert_eq!(clean["role"], "user");
        let text = clean.to_string();
        assert!(!text.contains("Acme Ltd") && !text.contains("\"max\""), "{text}");
        assert_eq!(clean["tool_call_id"], clean["choices"][0]["tool_calls"][0]["id"]);
        let mut models = Scrub::new(true);
        models.look_at_json(&json!({"data": [{"id": "acme-20250101x1"}]}));
        assert!(models.found().is_empty());
    }

    #[test]
    fn headers_tell_by_their_names() {
        let mut scrub = Scrub::new(false);
        scrub.look_at_header("x-request-id", "abc-def");
        scrub.look_at_header("Set-Cookie", "__cf_bm=x; path=/");
        scrub.look_at_header("openai-organization", "acme");
        scrub.look_at_header("x-ratelimit-remaining-requests", "499");
        assert_eq!(scrub.text("abc-def"), "abc-1");
        assert_eq!(scrub.text("__cf_bm=x; path=/"), "cookie-2");
        assert_eq!(scrub.text("acme 499"), "id-3 499");
    }

    #[test]
    fn a_value_is_replaced_beside_escapes_and_never_in_a_word() {
        let mut scrub = Scrub::new(false);
        let body = r#"{"text":"Dear\nada@acme.io,\tmaximal","user":"max"}"#;
        scrub.look_at_body(body);
        let clean = scrub.text(body);
        let json: Json = serde_json::from_str(&clean).unwrap();
        assert_eq!(json["text"], "Dear\nperson-1@example.com,\tmaximal");
        assert_ne!(json["user"], "max");
    }

    #[test]
    fn looking_again_finds_nothing_new() {
        let mut scrub = Scrub::new(false);
        let body = r#"{"id":"req_a1b2c3d4e5","email":"ada@acme.io","m":"+49 30 123456789"}"#;
        scrub.look_at_body(body);
        let found = scrub.found().len();
        let clean = scrub.text(body);
        scrub.look_at_body(&clean);
        assert_eq!(scrub.found().len(), found, "{clean}");
    }
}
