//! What else the host reads: its configuration, descriptors, prices, URLs, headers, marks, secrets.

use std::path::Path;

use http::{HeaderMap, HeaderValue, Uri};
use keyward::{
    config::Config,
    content, contract,
    egress::{Redactor, RequestHeaders, ResponseHeaders, Secrets, Target, retry_after},
    ids::ModelName,
    operation::{
        Chat, Dialect, Format, Message, Operation, Part, PartBody, Role, Sampling, ToolCall,
    },
};
use keyward_contract::{
    Decimal, Descriptor, Price, ProviderKind,
    decimal::DIGITS,
    price::{Class, Counts, Day, PriceList},
};
use serde_json::{Value, value::RawValue};
use url::Url;

use crate::input::{first_line, pieces, split};

/// A key that no message about a configuration may show.
const CANARY: &str = "sk-canary-0123456789abcdefghijkl";

/// Promised: a configuration is read, or refused with a reason, in a text that is safe to print and
/// shows no key.
pub fn providers_yaml(input: &[u8]) {
    let Err(error) = Config::parse(input, Path::new("providers.yaml")) else { return };
    assert!(!error.problems.is_empty());
    let shown = error.to_string();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\0'), "{shown:?}");
    assert!(!shown.contains(CANARY), "a key is shown: {shown}");
    let text = String::from_utf8_lossy(input);
    // For YAML a carriage return alone ends a line as well.
    let lines = text.split(['\n', '\r']).count() as u32;
    for problem in &error.problems {
        assert!(!problem.message.is_empty());
        if let Some(at) = problem.at {
            assert!((1..=lines + 1).contains(&at.line) && at.column >= 1, "{problem:?}");
        }
    }
}

/// Promised: a descriptor that is read can be written and read again, and what it says of headers
/// and prices is taken or refused.
pub fn descriptor(input: &[u8]) {
    let Ok(descriptor) = serde_json::from_slice::<Descriptor>(input) else { return };
    let written = serde_json::to_value(&descriptor).expect("a descriptor is JSON");
    let again: Descriptor = serde_json::from_value(written.clone()).expect("what was written");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), written);
    if let Ok(rule) = RequestHeaders::new(&descriptor.request_headers) {
        let headers = descriptor.request_headers.iter();
        let headers: Vec<contract::Header> = headers
            .map(|name| contract::Header { name: name.clone(), value: "x".to_owned() })
            .collect();
        if let Ok(map) = rule.check(&headers) {
            for name in ["authorization", "cookie", "host", "content-length", "x-api-key"] {
                assert!(!map.contains_key(name), "an adapter set {name}");
            }
        }
    }
    if let Ok(rule) = ResponseHeaders::new(&descriptor.response_headers) {
        let mut answer = HeaderMap::new();
        for name in ["authorization", "set-cookie", "www-authenticate", "x-request-id"] {
            answer.insert(name, HeaderValue::from_static("v"));
        }
        for header in rule.filter(&answer, &Secrets::default()) {
            assert_eq!(header.name, "x-request-id");
        }
    }
    for model in &descriptor.models {
        let _ = PriceList::new(&model.prices);
    }
}

/// Prices as in a descriptor, then a line of counts: `input cache-read cache-write output reasoning
/// requests unit amount`.
///
/// Promised: a cost is the sum of its items and never less for more of the same; what has no price
/// is named.
pub fn price(input: &[u8]) {
    let parts = split(input, b"\n====\n");
    let Ok(prices) = serde_json::from_slice::<Vec<Price>>(parts[0]) else { return };
    let Ok(list) = PriceList::new(&prices) else { return };
    let counts = String::from_utf8_lossy(parts.get(1).copied().unwrap_or_default()).into_owned();
    let mut words = counts.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let [input, cache_read, cache_write, output, reasoning, requests] =
        std::array::from_fn(|_| number());
    let unit = words.next().unwrap_or("searches");
    let amount = words.next().and_then(|word| word.parse().ok()).unwrap_or(Decimal::ZERO);
    let units = vec![(unit, amount)];
    let counts = Counts { input, cache_read, cache_write, output, reasoning, requests, units };
    for tariff in list.tariffs() {
        assert_eq!(tariff.from.to_string().parse::<Day>(), Ok(tariff.from));
        assert!(list.on(tariff.from) == Some(tariff), "not in force on its first day");
        assert!(Class::ALL.into_iter().all(|class| {
            tariff.per_million(class).is_none_or(|rate| rate.to_string().parse() == Ok(rate))
        }));
        let Ok(cost) = tariff.cost(&counts) else { continue };
        let sum =
            cost.items.iter().try_fold(Decimal::ZERO, |sum, item| sum.checked_add(item.amount));
        assert_eq!(sum, Some(cost.total));
        let more = Counts { output: output.saturating_add(1), ..counts.clone() };
        if let Ok(more) = tariff.cost(&more) {
            assert!(more.total >= cost.total, "an answer of one token more costs less");
        }
    }
}

/// Two amounts.
///
/// Promised: an amount that is read is written so that it is read again; arithmetic is exact, or
/// says that it can't be done.
pub fn decimal(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (one, other) = text.split_once(' ').unwrap_or((&text, "1"));
    if let Some(number) = one.parse().ok().and_then(Decimal::from_f64) {
        assert_eq!(number.to_string().parse(), Ok(number));
    }
    let (Ok(a), Ok(b)) = (one.parse::<Decimal>(), other.parse::<Decimal>()) else { return };
    for amount in [a, b] {
        assert_eq!(amount.to_string().parse(), Ok(amount));
        assert!(amount.digits() <= DIGITS);
        assert_eq!(serde_json::to_value(amount).expect("JSON"), Value::from(amount.to_string()));
    }
    assert_eq!(a.checked_add(b), b.checked_add(a));
    assert_eq!(a.checked_mul(b), b.checked_mul(a));
    if let Some(sum) = a.checked_add(b) {
        assert_eq!(sum.checked_sub(b), Some(a));
        assert!(sum >= a && sum >= b);
    }
    assert_eq!(a.checked_sub(b).is_some(), a >= b);
    if let Some(product) = a.checked_mul(b)
        && a.digits() + b.digits() <= DIGITS
        && a != Decimal::ZERO
    {
        // Exact: twice the one factor is twice the product.
        let twice = b.checked_add(b).and_then(|twice| a.checked_mul(twice));
        assert!(twice.is_none_or(|twice| Some(twice) == product.checked_add(product)));
    }
    assert_eq!(a.checked_mul(Decimal::whole(1)), Some(a));
}

/// Values of `retry-after-ms` and `retry-after`, a line each.
///
/// Promised: never longer than an hour; a whole number of seconds, in up to 64 characters, is that
/// number. Longer values are garbage.
pub fn retry_after_header(input: &[u8]) {
    let (ms, seconds) = first_line(input);
    let mut headers = HeaderMap::new();
    for (name, value) in [("retry-after-ms", ms), ("retry-after", seconds)] {
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    let now = jiff::Timestamp::from_second(784_111_777).expect("a time");
    let wait = retry_after(&headers, now);
    assert!(wait.is_none_or(|wait| wait <= keyward::egress::retry_after::LONGEST));
    let whole = std::str::from_utf8(seconds).ok().filter(|text| text.len() <= 64);
    let whole = whole.and_then(|text| text.parse::<u16>().ok());
    if let (false, Some(whole), true) =
        (headers.contains_key("retry-after-ms"), whole, !seconds.starts_with(b"+"))
    {
        let expected = u64::from(whole).min(keyward::egress::retry_after::LONGEST.as_secs());
        assert_eq!(wait.map(|wait| wait.as_secs()), Some(expected));
    }
}

/// A base URL and a path, a line each.
///
/// Promised: what is granted stays below its base for two parsers, has no user, fragment or dots,
/// and is spelled as both were.
pub fn url(input: &[u8]) {
    let (base, path) = first_line(input);
    let (base, path) = (String::from_utf8_lossy(base), String::from_utf8_lossy(path));
    let Ok(base) = Url::parse(&base) else { return };
    for kind in [ProviderKind::External, ProviderKind::Local] {
        let Ok(target) = Target::new(&base, kind) else { continue };
        assert!(base.scheme() == "https" || kind == ProviderKind::Local);
        let Ok(granted) = target.join(&path) else { continue };
        let known = target.join(&path).expect("granted before");
        assert_eq!(known.as_str(), granted.as_str());
        let text = granted.as_str();
        assert_eq!(text, format!("{}{path}", base.as_str().trim_end_matches('/')));
        let parsed = Url::parse(text).expect("a URL");
        assert_eq!(parsed.origin(), base.origin());
        assert!(parsed.fragment().is_none() && parsed.username().is_empty());
        let below = format!("{}/", base.path().trim_end_matches('/'));
        assert!(parsed.path().starts_with(&below), "{parsed} isn't below {base}");
        let uri: Uri = text.parse().expect("a URI");
        assert_eq!(uri.host(), base.host_str(), "{text}");
        assert_eq!(uri.port_u16().or(parsed.port_or_known_default()), base.port_or_known_default());
        assert_eq!(uri.path(), parsed.path());
        let mut undone = parsed.path().as_bytes().to_vec();
        for _ in 0..6 {
            let climbs = |segment: &[u8]| segment == b".." || segment == b".";
            let mut segments = undone.split(|byte| matches!(byte, b'/' | b'\\'));
            assert!(!segments.any(climbs), "{text} climbs");
            undone = unescaped(&undone);
        }
    }
}

fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// A text, a JSON value and a body, separated by `====`. `<T>` in the body stands for the text's
/// mark, `<J>` and `<S>` for the value's in its two forms, `<P>` for the beginning of a mark.
///
/// Promised: a body is sent with each content in the place of its mark, or refused; what was JSON
/// with marks is JSON with content, and has that content.
pub fn marks(input: &[u8]) {
    let parts = split(input, b"\n====\n");
    let [content, value, body] = std::array::from_fn(|at| {
        String::from_utf8_lossy(parts.get(at).copied().unwrap_or_default()).into_owned()
    });
    let Ok(arguments) = RawValue::from_string(value.clone()) else { return };
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: arguments.into() };
    let bodies = [PartBody::Text(content.as_str().into()), PartBody::ToolCall(call)];
    let message = Message {
        role: Role::Assistant,
        answers: None,
        name: None,
        parts: bodies.into_iter().map(Part::from).collect(),
        extra: Vec::new(),
    };
    let chat = Chat {
        model: ModelName::new("m").expect("a name"),
        messages: vec![message],
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        format: Format::Text,
        sampling: Sampling::default(),
        reasoning: None,
        stream: false,
        dialect: Dialect::Keyward,
        extra: Vec::new(),
    };
    let (lowered, held) = content::lower(&Operation::Chat(chat.into()), false).expect("two pieces");
    let contract::Operation::Chat(lowered) = lowered else { unreachable!("a chat") };
    let [text, call] = lowered.messages[0].parts.as_slice() else { panic!("two parts") };
    let (contract::PartBody::Text(text), contract::PartBody::ToolCall(call)) =
        (&text.body, &call.body)
    else {
        panic!("a text and a call")
    };
    let marked = body
        .replace("<T>", &text.value)
        .replace("<J>", &call.arguments.json)
        .replace("<S>", &call.arguments.text)
        .replace("<P>", &text.value[..24]);
    let filled = held.fill_json(marked.clone());
    let was_json = serde_json::from_str::<Value>(&marked);
    let Ok(filled) = filled else { return };
    assert!(held.refuse_marks("the body", &String::from_utf8_lossy(&filled)).is_ok(), "marks stay");
    let Ok(was_json) = was_json else { return };
    // Grammar alone: the value may hold numbers beyond all measure.
    serde_json::from_slice::<serde::de::IgnoredAny>(&filled).expect("JSON with content is JSON");
    let Ok(is_json) = serde_json::from_slice::<Value>(&filled) else { return };
    if was_json == text.value.as_str() {
        assert_eq!(is_json, content.as_str(), "the text isn't what it was");
    }
    if body.trim() == "<J>" {
        assert_eq!(filled.trim_ascii(), value.trim().as_bytes(), "the value isn't what it was");
    }
}

/// A secret, then what a vendor answers.
///
/// Promised: the secret isn't in what may be shown, however the answer came; without it the answer
/// stays as it was.
pub fn redaction(input: &[u8]) {
    let (secret, answer) = first_line(input);
    let Ok(secret) = std::str::from_utf8(secret) else { return };
    let secrets = Secrets::new([&secret.into()]);
    let show = |pieces: Vec<&[u8]>| {
        let mut redactor = Redactor::new(secrets.clone());
        let mut shown: Vec<u8> = Vec::new();
        for piece in pieces {
            shown.extend_from_slice(&redactor.push(piece.to_vec().into()));
        }
        shown.extend_from_slice(&redactor.finish());
        shown
    };
    let whole = show(vec![answer]);
    assert_eq!(show(pieces(answer, input)), whole, "differs when the bytes come in pieces");
    if !secrets.occur_in(answer) {
        assert_eq!(whole, answer);
    }
    // What replaces a secret may be one, or make one with what stands around it.
    let replacement = keyward::egress::redact::REPLACEMENT;
    if !secret.is_empty() && !secret.bytes().any(|byte| replacement.as_bytes().contains(&byte)) {
        assert!(!secrets.occur_in(&whole), "a secret is shown");
    }
}
