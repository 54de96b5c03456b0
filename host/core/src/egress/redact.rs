//! Takes injected secrets out of what a vendor answers.
//!
//! A vendor, or something between, may echo a request's headers in an error or a debug page. The
//! answer goes to an adapter, a caller, logs and recordings, none of which may see a credential, so
//! it is searched before anyone reads it: for the secret as it is, and as it looks inside a JSON
//! string or a URL. A vendor that encodes it in a way of its own can't be caught.
//!
//! Cost: one vectorised substring search per spelling, a few tens of nanoseconds for a streamed
//! token, and no copy while nothing is found. Held back are at most as many bytes as a secret has,
//! and only where they begin one: events end in line feeds, which no secret begins with, so a
//! stream isn't delayed. The result doesn't depend on how the answer was cut.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use memchr::{memchr_iter, memmem::Finder};
use secrecy::{ExposeSecret, SecretString};

/// What stands in the place of a secret. Plain letters, so that JSON stays JSON.
pub const REPLACEMENT: &str = "[redacted]";

/// Shorter secrets are left alone. Vendors issue none so short; what people enter are
/// placeholders for servers that ask for no key ("none", "ollama", "EMPTY"). Such a word occurs in
/// answers by itself: replacing it would garble them and hide nothing.
pub const SHORTEST: usize = 8;

/// What must not be seen. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets {
    spellings: Arc<[Finder<'static>]>,
}

impl Secrets {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut spellings: Vec<Finder<'static>> = Vec::new();
        for secret in secrets {
            let secret = secret.expose_secret();
            if secret.len() < SHORTEST {
                continue;
            }
            let json = serde_json::Value::from(secret).to_string();
            let json = &json[1..json.len() - 1];
            // Some encoders escape slashes, which base64 keys have.
            let slashes = json.replace('/', "\\/");
            let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            for spelling in [secret, json, &slashes, &url] {
                if !spellings.iter().any(|known| known.needle() == spelling.as_bytes()) {
                    spellings.push(Finder::new(spelling).into_owned());
                }
            }
        }
        Self { spellings: spellings.into() }
    }

    /// All of both.
    pub fn and(&self, other: &Secrets) -> Self {
        if other.spellings.is_empty() {
            return self.clone();
        }
        if self.spellings.is_empty() {
            return other.clone();
        }
        let spellings = self.spellings.iter().chain(other.spellings.iter()).cloned();
        Self { spellings: spellings.collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.spellings.is_empty()
    }

    /// `text` without secrets: for header values and messages.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.occur_in(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        let (clean, _) = self.replace(text.as_bytes(), 0, text.len());
        // Spellings are whole characters, so what is left is too.
        Cow::Owned(String::from_utf8_lossy(&clean).into_owned())
    }

    /// True if one of them is somewhere in `bytes`, in any spelling known here.
    pub fn occur_in(&self, bytes: &[u8]) -> bool {
        self.spellings.iter().any(|spelling| spelling.find(bytes).is_some())
    }

    /// How many bytes at the end of `bytes` may be the beginning of a secret.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let open = |spelling: &Finder<'static>| {
            let needle = spelling.needle();
            let tail = &bytes[bytes.len().saturating_sub(needle.len() - 1)..];
            memchr_iter(needle[0], tail)
                .map(|at| &tail[at..])
                .find(|end| needle.starts_with(end))
                .map_or(0, <[u8]>::len)
        };
        self.spellings.iter().map(open).max().unwrap_or(0)
    }

    /// Copies `bytes[done..end]` with a replacement for each run of overlapping secrets that
    /// begins before `end`. Also gives the place up to which bytes are dealt with, which is beyond
    /// `end` if a secret reaches over it.
    fn replace(&self, bytes: &[u8], mut done: usize, end: usize) -> (Vec<u8>, usize) {
        let mut clean = Vec::with_capacity(bytes.len() + REPLACEMENT.len());
        // Where each spelling occurs next, so that one that doesn't occur is searched for once.
        let mut next = vec![Some(0); self.spellings.len()];
        let mut from = 0;
        loop {
            let mut found: Option<(usize, usize)> = None;
            for (spelling, next) in self.spellings.iter().zip(&mut next) {
                if next.is_some_and(|at| at < from || from == 0) {
                    *next = spelling.find(&bytes[from..]).map(|at| from + at);
                }
                let Some(at) = next.filter(|&at| at < end) else { continue };
                let stop = at + spelling.needle().len();
                if found
                    .is_none_or(|(start, longest)| at < start || (at == start && stop > longest))
                {
                    found = Some((at, stop));
                }
            }
            let Some((start, stop)) = found else { break };
            if start >= done {
                clean.extend_from_slice(&bytes[done..start]);
                clean.extend_from_slice(REPLACEMENT.as_bytes());
            }
            done = done.max(stop);
            from = start + 1;
        }
        if done < end {
            clean.extend_from_slice(&bytes[done..end]);
            done = end;
        }
        (clean, done)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.spellings.len())
    }
}

/// Redacts one answer as it arrives.
#[derive(Debug)]
pub struct Redactor {
    secrets: Secrets,
    /// The end of the input so far, where it may begin a secret. Shorter than the longest secret.
    held: Vec<u8>,
    /// How many of the held bytes already stand replaced.
    covered: usize,
}

impl Redactor {
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new(), covered: 0 }
    }

    /// What may be shown of the input so far. May be empty: then all of it is held back.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.secrets.is_empty() {
            return chunk;
        }
        if !self.held.is_empty() {
            let mut bytes = std::mem::take(&mut self.held);
            bytes.extend_from_slice(&chunk);
            return self.replace(&bytes, self.secrets.open_end(&bytes));
        }
        let open = self.secrets.open_end(&chunk);
        if self.secrets.occur_in(&chunk) {
            return self.replace(&chunk, open);
        }
        let end = chunk.len() - open;
        self.held.extend_from_slice(&chunk[end..]);
        chunk.slice(..end)
    }

    /// What was held back, once the input has ended.
    pub fn finish(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.held);
        self.replace(&bytes, 0)
    }

    fn replace(&mut self, bytes: &[u8], open: usize) -> Bytes {
        let end = bytes.len() - open;
        let (clean, done) = self.secrets.replace(bytes, self.covered, end);
        self.covered = done - end;
        self.held = bytes[end..].to_vec();
        clean.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-canary-openai-0123456789abcdef0123456789abcdef";

    fn secrets(list: &[&str]) -> Secrets {
        let list: Vec<SecretString> = list.iter().map(|&it| it.into()).collect();
        Secrets::new(&list)
    }

    fn stream(secrets: &Secrets, chunks: &[&[u8]]) -> String {
        let mut redactor = Redactor::new(secrets.clone());
        let mut shown = Vec::new();
        for chunk in chunks {
            shown.extend_from_slice(&redactor.push(Bytes::copy_from_slice(chunk)));
        }
        shown.extend_from_slice(&redactor.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_replaced_wherever_the_answer_is_cut() {
        let text = format!("{{\"echo\":\"Bearer {KEY}\",\"again\":\"{KEY}\"}}");
        let clean = "{\"echo\":\"Bearer [redacted]\",\"again\":\"[redacted]\"}";
        let secrets = secrets(&[KEY]);
        for cut in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            assert_eq!(stream(&secrets, &[a, b]), clean, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(stream(&secrets, &single), clean);
        assert_eq!(secrets.text(&text), clean);
    }

    #[test]
    fn a_chunk_without_secrets_passes_uncopied_and_undelayed() {
        let mut redactor = Redactor::new(secrets(&[KEY]));
        let chunk = Bytes::from_static(b"data: {\"text\":\"so sk-canary it is\"}\n\n");
        let shown = redactor.push(chunk.clone());
        assert_eq!(shown.as_ptr(), chunk.as_ptr());
        assert_eq!(shown.len(), chunk.len());
    }

    #[test]
    fn only_the_beginning_of_a_secret_is_held_back() {
        let mut redactor = Redactor::new(secrets(&[KEY]));
        assert_eq!(redactor.push(Bytes::from_static(b"text sk-can")), "text ");
        assert_eq!(redactor.push(Bytes::from_static(b"not")), "sk-cannot");
        assert_eq!(redactor.push(Bytes::from_static(b"s")), "");
        assert_eq!(redactor.finish(), "s");
    }

    #[test]
    fn a_secret_is_found_escaped_for_json_and_for_urls() {
        let secrets = secrets(&["pa\"ss\\word/1"]);
        for spelling in
            ["pa\"ss\\word/1", r#"pa\"ss\\word/1"#, r#"pa\"ss\\word\/1"#, "pa%22ss%5Cword%2F1"]
        {
            assert_eq!(secrets.text(&format!("<{spelling}>")), "<[redacted]>", "{spelling}");
        }
    }

    #[test]
    fn a_placeholder_is_not_a_secret() {
        assert!(secrets(&["ollama", "none", ""]).is_empty());
        assert_eq!(secrets(&["ollama"]).text("ollama runs models"), "ollama runs models");
    }

    #[test]
    fn a_secret_that_begins_with_another_leaves_nothing_of_itself() {
        let secrets = secrets(&["aaaabbbb", "aaaabbbbcccc"]);
        assert_eq!(stream(&secrets, &[b"<aaaabbbb", b"cccc>"]), "<[redacted]>");
        assert_eq!(stream(&secrets, &[b"<aaaabbbb", b"ccc>"]), "<[redacted]ccc>");
    }

    #[test]
    fn many_secrets_in_one_chunk_take_linear_time() {
        let secrets = secrets(&[KEY, "never-seen-here"]);
        let text = KEY.repeat(100_000);
        let started = std::time::Instant::now();
        assert_eq!(secrets.text(&text).len(), REPLACEMENT.len() * 100_000);
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secrets = secrets(&[KEY]);
        let mut redactor = Redactor::new(secrets.clone());
        redactor.push(Bytes::from_static(b"sk-canary-openai"));
        // The held bytes are the vendor's, and only the beginning of what looks like the key.
        assert!(!format!("{secrets:?}").contains("canary"));
    }

    proptest! {
        /// Few letters and overlapping secrets, to meet every kind of overlap.
        #[test]
        fn cuts_never_change_the_result(
            text in "[ab]{0,120}",
            needles in proptest::collection::vec("[ab]{8,12}", 1..4),
            cuts in proptest::collection::vec(0usize..120, 0..12),
        ) {
            let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
            let secrets = secrets(&needles);
            let whole = secrets.text(&text).into_owned();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                chunks.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(stream(&secrets, &chunks), whole.clone());
            for needle in needles {
                prop_assert!(!whole.contains(needle));
            }
        }

        #[test]
        fn any_bytes_pass_unless_they_hold_the_secret(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut redactor = Redactor::new(secrets(&[KEY]));
            let mut shown = redactor.push(Bytes::from(bytes.clone())).to_vec();
            shown.extend_from_slice(&redactor.finish());
            prop_assert_eq!(shown, bytes);
        }
    }
}
