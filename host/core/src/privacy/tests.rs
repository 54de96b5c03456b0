//! What the detectors promise: what is planted is found, whatever stands around it; ranges are
//! characters'; hostile texts cost in proportion; nothing of a text is kept.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use proptest::prelude::*;

use super::*;

fn found(text: &str) -> Vec<String> {
    Detectors::default().find_all(text).iter().map(|finding| finding.found.to_string()).collect()
}

fn rules(change: impl FnOnce(&mut PrivacyRules)) -> Detectors {
    let mut rules = PrivacyRules::on();
    change(&mut rules);
    Detectors::compile(&rules).unwrap()
}

fn pattern(pattern: &str, context: &[&str]) -> Pattern {
    let context = context.iter().map(|word| (*word).to_owned()).collect();
    Pattern { pattern: pattern.to_owned(), context }
}

fn with_pattern(text: &str, context: &[&str]) -> Detectors {
    rules(|rules| rules.patterns = IndexMap::from([("own".to_owned(), pattern(text, context))]))
}

pub(super) fn with_words(words: &[&str]) -> Detectors {
    rules(|rules| rules.words = words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn nothing_is_looked_for_unless_it_is_wanted() {
    assert!(Detectors::compile(&PrivacyRules::default()).unwrap().is_empty());
    assert!(Detectors::none().find(["a@b.example"]).is_none());
    assert!(Detectors::default().find(["a@b.example"]).is_some());
}

#[test]
fn each_detector_is_switched_alone() {
    let text = "mail a@b.example, card 4111 1111 1111 1111, host 203.0.113.7";
    assert_eq!(found(text), ["email", "payment-card"]);
    let only_host = rules(|rules| {
        rules.detectors = IndexMap::from([
            (Detector::Email, false),
            (Detector::PaymentCard, false),
            (Detector::IpAddress, true),
        ]);
    });
    let findings = only_host.find_all(text);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].to_string(), "ip-address at 49..60");
}

#[test]
fn names_of_detectors_are_told_apart_and_read_back() {
    for detector in Detector::ALL {
        assert_eq!(detector.as_str().parse(), Ok(*detector));
        assert!(Enabled::default().with(*detector).has(*detector));
    }
    assert_eq!("card".parse::<Detector>(), Err(UnknownDetector));
}

#[test]
fn the_first_finding_of_several_texts_is_given() {
    let texts = ["nothing here", "a@b.example and c@d.example", "4111111111111111"];
    let finding = Detectors::default().find(texts).unwrap();
    assert_eq!(finding.found, Found::Detector(Detector::Email));
    assert_eq!(finding.range, 0..11);
}

#[test]
fn places_are_those_of_the_text_as_it_was_given() {
    let text = "é：4111\u{a0}1111\u{a0}1111\u{a0}1111！";
    let finding = Detectors::default().find([text]).unwrap();
    assert_eq!(&text[finding.range], "4111\u{a0}1111\u{a0}1111\u{a0}1111");
}

#[test]
fn what_stands_in_json_is_found_in_spite_of_its_escapes() {
    for (text, what) in [
        (r#"{"note":"card:\n4111111111111111"}"#, "payment-card"),
        (r#"{"note":"\tDE89370400440532013000\r\n"}"#, "iban"),
        (r#"{"to":"a\u0040b.example"}"#, "email"),
        (r#"{"k":"\u0034111 1111 1111 1111"}"#, "payment-card"),
        (r#""{\"mail\":\"a@b.example\"}""#, "email"),
    ] {
        assert_eq!(found(text), [what], "{text}");
    }
}

#[test]
fn a_masked_text_shows_no_more_than_its_beginning() {
    assert_eq!(masked("anna@example.org"), "an••••••••");
    assert_eq!(masked("ab"), "••");
    assert_eq!(masked("abcd"), "a•••");
    assert_eq!(masked("\u{1b}]0;x\u{7}yz"), " ]••••••");
}

// ------------------------------------------------------------------ an operator's own

#[test]
fn words_are_found_whole_in_any_case_and_script() {
    let detectors = with_words(&["Bluebird", "Blue", "Über-Projekt", "蓝鸟", "ΟΔΟΣ", "C++"]);
    let texts = [
        ("the BLUEBIRD flies", Some("BLUEBIRD")),
        ("bluebirds", None),
        ("project_bluebird2", None),
        ("blue bird", Some("blue")),
        ("das ÜBER-PROJEKT läuft", Some("ÜBER-PROJEKT")),
        ("关于蓝鸟的计划", Some("蓝鸟")),
        ("η οδος εδώ", Some("οδος")),
        ("we use C++, mostly", Some("C++")),
        ("Über‑Projekt", Some("Über‑Projekt")),
    ];
    for (text, expected) in texts {
        let range = detectors.find([text]).map(|finding| finding.range);
        assert_eq!(range.map(|range| &text[range]), expected, "{text}");
    }
    // Which word it was isn't told.
    assert_eq!(detectors.find(["bluebird"]).unwrap().to_string(), "word at 0..8");
}

#[test]
fn patterns_are_found_by_name_and_with_their_context() {
    let detectors = with_pattern(r"PRJ-\d{6}", &[]);
    assert_eq!(detectors.find(["see PRJ-123456"]).unwrap().to_string(), "pattern own at 4..14");
    // Written as word processors do.
    assert!(detectors.find(["see PRJ‑123456"]).is_some());
    let detectors = with_pattern(r"\b\d{6}\b", &["project", "Akte"]);
    assert!(detectors.find(["project 123456"]).is_some());
    assert!(detectors.find(["AKTE: 123456"]).is_some());
    assert!(detectors.find(["projects 123456"]).is_none());
    assert!(detectors.find([format!("project {} 123456", "x".repeat(200)).as_str()]).is_none());
}

#[test]
fn patterns_that_cannot_work_are_refused_with_the_reason() {
    let problem = |text: &str| {
        let patterns = IndexMap::from([("own".to_owned(), pattern(text, &[]))]);
        let rules = PrivacyRules { patterns, ..PrivacyRules::on() };
        Detectors::compile(&rules).expect_err(text).to_string()
    };
    assert_eq!(problem("PRJ-("), "pattern `own`: unclosed group");
    assert!(problem(r"(a)\1").contains("backreferences are not supported"));
    assert!(problem("x*").contains("matches the empty text"));
    assert!(problem(r"\w{1000}{100}").contains("size limit"));
    assert!(problem(&"a".repeat(MAX_PATTERN + 1)).contains("longer than"));
    let words = vec!["ok".to_owned(), " - ".to_owned()];
    let rules = PrivacyRules { words, ..PrivacyRules::on() };
    assert_eq!(Detectors::compile(&rules).unwrap_err(), PatternError::Word { index: 1 });
    // Also if it isn't in use at the moment.
    let patterns = IndexMap::from([("own".to_owned(), pattern("(", &[]))]);
    assert!(Detectors::compile(&PrivacyRules { patterns, ..PrivacyRules::default() }).is_err());
}

// ------------------------------------------------------------------ what is planted is found

/// With valid checks; every one stands for itself, without a word that says what it is.
const PLANTED: &[(&str, Detector)] = &[
    ("4111111111111111", Detector::PaymentCard),
    ("4111 1111 1111 1111", Detector::PaymentCard),
    ("5555-5555-5555-4444", Detector::PaymentCard),
    ("3782 822463 10005", Detector::PaymentCard),
    ("DE89370400440532013000", Detector::Iban),
    ("GB82 WEST 1234 5698 7654 32", Detector::Iban),
    ("RCCMNL83S18D969H", Detector::ItCodiceFiscale),
    ("12345678Z", Detector::EsDni),
    ("X-1234567-L", Detector::EsDni),
    ("AB 12 34 56 C", Detector::UkNino),
    ("295109912611193", Detector::FrNir),
    ("2 95 10 99 126 111 93", Detector::FrNir),
    ("7569217076985", Detector::ChAhv),
    ("390.533.447-05", Detector::BrCpf),
    ("mira.holm@birkeland.example", Detector::Email),
    ("+49 30 901820412", Detector::Phone),
];

/// Texts that don't end in what would make the number a part of something longer.
fn before() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,40}", "[ -~\n]{0,40}", "[0-9 .,:/()-]{0,30}"].prop_map(|text| {
        let end = text.trim_end_matches(|c: char| {
            c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.,@\\:\"<>".contains(c) || !c.is_ascii()
        });
        end.to_owned()
    })
}

fn after() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,40}", "[ -~\n]{0,40}"].prop_map(|text| {
        let start = text.trim_start_matches(|c: char| !matches!(c, '!' | '?' | ';' | ')' | '\n'));
        start.to_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_planted_is_found_in_any_surroundings(
        before in before(),
        after in after(),
        index in 0..PLANTED.len(),
    ) {
        let (value, detector) = PLANTED[index];
        let text = format!("{before}\n{value}{after}");
        let only = rules(|rules| {
            rules.detectors = Detector::ALL.iter().map(|d| (*d, *d == detector)).collect();
        });
        let at = before.len() + 1;
        let findings = only.find_all(&text);
        prop_assert!(
            findings.iter().any(|f| f.range.start < at + value.len() && at < f.range.end),
            "{detector} in {text:?}: {findings:?}"
        );
    }

    #[test]
    fn any_text_is_read_without_harm_and_ranges_are_characters(
        parts in prop::collection::vec(
            prop_oneof![
                "\\PC{0,12}".boxed(),
                "[0-9]{1,20}".boxed(),
                prop::sample::select(vec![
                    "@", "://", ":", "+", "+49", "00", "(", ") ", "-", ".", " ", "\n", "\\n", "\u{a0}", "\u{ff11}\u{ff12}",
                    "\u{200b}", "\u{2011}", "sk-", "eyJ", ".eyJ", "password", "=", "\"", "'", "-----BEGIN ", "PRIVATE KEY-----",
                    "bearer ", ":AA", "DE89", "12.03.1985", "born ", "geb. ", " März ", "tel ", "é", "你好", "İ", "ß", "\u{1f600}",
                    "hooks.slack.com/services/", "AccountKey", "是", "1.2.3.4", "2001:db8::1", "2A", "X", "secret: ", "“",
                ]).prop_map(str::to_owned).boxed(),
            ],
            0..30,
        )
    ) {
        let text: String = parts.concat();
        let detectors = rules(|rules| {
            rules.detectors = Detector::ALL.iter().map(|detector| (*detector, true)).collect();
            rules.words = vec!["你好".into(), "é".into()];
            rules.patterns = IndexMap::from([("own".into(), pattern("[0-9]{3}.", &["tel"]))]);
        });
        let findings = detectors.find_all(&text);
        for finding in &findings {
            prop_assert!(!finding.range.is_empty());
            prop_assert!(text.get(finding.range.clone()).is_some(), "{finding} in {text:?}");
        }
        prop_assert_eq!(detectors.find([text.as_str()]).is_some(), !findings.is_empty());
    }
}

// ------------------------------------------------------------------ what a hostile text costs

/// Time that this thread has run, where the system tells it: other tests run beside this one.
fn own_time() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| BEGIN.elapsed(), Duration::from_nanos)
}

/// Of one run, in seconds. As many are made as the clock is coarse.
fn cost(detectors: &Detectors, text: &str) -> f64 {
    const LONG_ENOUGH: Duration = Duration::from_millis(40);
    let (start, mut runs) = (own_time(), 0_u32);
    loop {
        std::hint::black_box(detectors.find_all(text));
        runs += 1;
        let spent = own_time().saturating_sub(start);
        if spent >= LONG_ENOUGH {
            return spent.as_secs_f64() / f64::from(runs);
        }
    }
}

#[test]
fn hostile_texts_cost_in_proportion_to_their_size() {
    const SIZE: usize = 4 << 10;
    const TIMES: usize = 8;
    let detectors = rules(|rules| {
        rules.detectors = Detector::ALL.iter().map(|detector| (*detector, true)).collect();
        rules.words = vec!["aaaa".into(), "aaab".into()];
    });
    for piece in [
        "1",
        "1 ",
        "12 ",
        "1234 ",
        "111222333 ",
        "+49 1 ",
        "(0",
        "1:",
        "1.",
        "1.1.1985 ",
        "\u{a0}1",
        "\u{ff11}",
        "DE12 ",
        "A1",
        "@",
        "a@",
        "a.a@",
        "a.a.a",
        "a://",
        "a://b:c",
        "sk-",
        "AKIA",
        "eyJ",
        "eyJ.",
        ":AA",
        "password=",
        "password is ",
        "token:",
        "bearer ",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "hooks.slack.com/services/",
        "a",
        "=",
        "\\n",
        "\\",
        "\\\\u00e9",
        "é",
        "\u{200b}",
    ] {
        let small = piece.repeat(SIZE / piece.len());
        let large = piece.repeat(TIMES * SIZE / piece.len());
        let ratio = cost(&detectors, &large) / cost(&detectors, &small);
        // Twice the sizes' ratio leaves room for noise; the square would be eight times it.
        assert!(ratio < 2.0 * TIMES as f64, "{piece:?}: {ratio:.1} for {TIMES} times the size");
    }
}
