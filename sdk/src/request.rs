//! Building requests to the vendor, and reading the head of its answer.

use serde::Serialize;

use crate::{
    Failure,
    contract::{Body, Framing, Header, Method, RateLimit, ResponseHead, VendorRequest},
    json,
};

/// The origin's name that [`VendorRequest::get`] and [`VendorRequest::post`] send to; most vendors
/// have one only.
pub const DEFAULT_ORIGIN: &str = "api";

impl VendorRequest {
    /// `GET` of one JSON document from the origin "api".
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            origin: DEFAULT_ORIGIN.to_owned(),
            method: Method::Get,
            path: path.into(),
            headers: Vec::new(),
            body: Body::Empty,
            framing: Framing::Json,
        }
    }

    /// `POST` of a JSON body to the origin "api", answered by one JSON document.
    ///
    /// # Errors
    /// As [`json::body`].
    pub fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { method: Method::Post, body: json::body(body)?, ..Self::get(path) })
    }

    pub fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    pub fn to(mut self, origin: impl Into<String>) -> Self {
        self.origin = origin.into();
        self
    }

    /// Adds a header. The descriptor must list its name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }
}

/// Percent-encodes everything but unreserved characters, so that a model's name stays one segment
/// of a path.
pub fn path_segment(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

impl ResponseHead {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    /// The vendor's id of the request, under the names most vendors use.
    pub fn request_id(&self) -> Option<&str> {
        self.header("x-request-id").or_else(|| self.header("request-id"))
    }
}

impl RateLimit {
    /// A limit from three headers, if any of them is there. `reset` reads the vendor's form of
    /// time into milliseconds from now.
    pub fn from_headers(
        head: &ResponseHead,
        scope: &str,
        [limit, remaining, reset_at]: [&str; 3],
        reset: impl Fn(&str) -> Option<u64>,
    ) -> Option<Self> {
        let number = |name| head.header(name).and_then(|value| value.trim().parse().ok());
        let limit = Self {
            scope: scope.to_owned(),
            limit: number(limit),
            remaining: number(remaining),
            reset_ms: head.header(reset_at).and_then(reset),
        };
        let known = limit.limit.is_some() || limit.remaining.is_some() || limit.reset_ms.is_some();
        known.then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_stays_one_segment() {
        assert_eq!(path_segment("gpt-4o"), "gpt-4o");
        assert_eq!(path_segment("a/../b?c#d e%"), "a%2F..%2Fb%3Fc%23d%20e%25");
        assert_eq!(path_segment("é"), "%C3%A9");
    }

    #[test]
    fn a_rate_limit_needs_at_least_one_header() {
        let names = ["limit", "remaining", "reset"];
        let mut head = ResponseHead { status: 200, headers: Vec::new() };
        let read =
            |head: &_| RateLimit::from_headers(head, "tokens", names, |text| text.parse().ok());
        assert!(read(&head).is_none());
        head.headers.push(Header { name: "remaining".into(), value: "12".into() });
        let limit = read(&head).unwrap();
        assert_eq!((limit.limit, limit.remaining), (None, Some(12)));
    }
}
