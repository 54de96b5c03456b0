//! Rate limits in the headers of an answer. The descriptor must list the headers.

use crate::{
    Output,
    contract::{RateLimit, ResponseHead},
    time,
};

/// A reset above this many seconds is a moment, not a wait: no vendor's window is thirty years.
const MOMENT_FROM_SECONDS: f64 = 1e9;

/// The same for a moment in milliseconds.
const MOMENT_FROM_MS: f64 = 1e12;

type Names = (&'static str, [&'static str; 3]);

/// OpenAI's own.
const OPENAI: [Names; 2] = [
    (
        "requests",
        [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
    ),
    (
        "tokens",
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ),
];

/// Those of Together, OpenRouter and Mistral. A scope is reported once, from the first that has it.
const OTHERS: [Names; 4] = [
    ("requests", ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]),
    ("tokens", ["x-tokenlimit-limit", "x-tokenlimit-remaining", "x-ratelimit-reset"]),
    ("requests", ["x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", ""]),
    ("tokens", ["x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", ""]),
];

/// Reports the limits in OpenAI's `x-ratelimit-*` headers.
pub fn rate_limits(head: &ResponseHead, out: &mut Output) {
    for (scope, names) in OPENAI {
        if let Some(limit) = RateLimit::from_headers(head, scope, names, time::duration_ms) {
            out.rate_limit(limit);
        }
    }
}

/// Reports the limits under the names that compatible vendors use, OpenAI's among them. `now_ms`
/// is the exchange's: some say when a limit resets, not how long that is.
pub fn all_rate_limits(head: &ResponseHead, now_ms: u64, out: &mut Output) {
    let mut reported: [Option<&str>; 2] = [None; 2];
    for (scope, names) in OPENAI.into_iter().chain(OTHERS) {
        let Some(free) = reported.iter().position(|known| known.is_none_or(|it| it == scope))
        else {
            continue;
        };
        if reported[free].is_some() {
            continue;
        }
        // The limit itself must be there: a reset alone belongs to another scope.
        let limit = RateLimit::from_headers(head, scope, names, |text| reset_ms(text, now_ms))
            .filter(|limit| limit.limit.is_some() || limit.remaining.is_some());
        if let Some(limit) = limit {
            reported[free] = Some(scope);
            out.rate_limit(limit);
        }
    }
}

/// "6m0s", seconds from now, or a moment in seconds or milliseconds since 1970.
fn reset_ms(text: &str, now_ms: u64) -> Option<u64> {
    let Ok(number) = text.trim().parse::<f64>() else {
        return time::duration_ms(text);
    };
    if number >= MOMENT_FROM_MS {
        return Some((number as u64).saturating_sub(now_ms));
    }
    let ms = time::seconds_ms(text)?;
    Some(if number >= MOMENT_FROM_SECONDS { ms.saturating_sub(now_ms) } else { ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::{Event, Header, Output as Contract},
        replay::event_json,
    };
    use serde_json::{Value, json};

    fn limits(headers: &[(&str, &str)]) -> Vec<Value> {
        let headers = headers
            .iter()
            .map(|(name, value)| Header { name: (*name).into(), value: (*value).into() })
            .collect();
        let mut out = Output::default();
        all_rate_limits(&ResponseHead { status: 200, headers }, 1_767_225_600_000, &mut out);
        let event = |output: &Contract| match output {
            Contract::Event(event @ Event::RateLimit(_)) => event_json(event)["rate-limit"].clone(),
            other => panic!("{other:?}"),
        };
        out.into_outputs().iter().map(event).collect()
    }

    #[test]
    fn a_reset_is_read_in_every_form_vendors_use() {
        let now = 1_767_225_600_000;
        for (text, ms) in [
            ("2m59.56s", Some(179_560)),
            ("7.66", Some(7_660)),
            ("1767225660", Some(60_000)),
            ("1767225660000", Some(60_000)),
            ("1", Some(1_000)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(reset_ms(text, now), ms, "{text}");
        }
    }

    #[test]
    fn every_scope_is_reported_once_under_the_first_name_that_has_it() {
        assert_eq!(
            limits(&[
                ("x-ratelimit-limit-req-minute", "720"),
                ("x-ratelimit-remaining-req-minute", "717"),
                ("x-ratelimit-limit-tokens-minute", "5000000"),
            ]),
            [
                json!({"scope": "requests", "limit": 720, "remaining": 717}),
                json!({"scope": "tokens", "limit": 5_000_000})
            ]
        );
        assert_eq!(
            limits(&[
                ("x-ratelimit-limit", "60"),
                ("x-ratelimit-remaining", "59"),
                ("x-ratelimit-reset", "1"),
                ("x-ratelimit-remaining-requests", "9"),
            ]),
            [json!({"scope": "requests", "remaining": 9})]
        );
        assert!(limits(&[("x-ratelimit-reset", "1")]).is_empty());
    }
}
