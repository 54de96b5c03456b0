//! Sensitive data in texts: personal data, secrets, and what an operator names.
//!
//! [`Detectors`] are compiled once for a configuration and read texts. Each text is folded to one
//! spelling, then a few passes look for what begins something: an `@`, a digit, a vendor's
//! prefix, a name like `password`. Only there is it looked at closer, by length, grouping, checksum,
//! and words nearby. A pass reads every byte once and what is looked at closer is bounded, so time
//! is proportional to the text whatever it holds, at some hundred MB/s. Nothing is kept of a text:
//! a [`Finding`] says what and where.
//!
//! How often they are wrong is measured on the texts in `labelled/` and stated in
//! `docs/privacy.md`; a test holds both together.

mod addresses;
mod assigned;
mod bytes;
mod checks;
mod context;
mod dates;
mod fold;
mod machines;
mod numbers;
mod phone;
mod pieces;
mod placeholder;
mod rules;
mod secrets;
mod words;

#[cfg(test)]
mod labelled;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    ops::{ControlFlow, Range},
    str::FromStr,
    sync::Arc,
};

use fold::Folded;
pub use pieces::Piece;
pub use rules::{
    MAX_PATTERN, MAX_PATTERNS, MAX_WORD, MAX_WORDS, Pattern, PatternError, PrivacyRules,
};

/// The most findings that [`Detectors::find_all`] gives.
pub const MAX_FINDINGS: usize = 1000;

macro_rules! detectors {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A built-in detector.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Detector { $($(#[$doc])* $variant,)* }

        impl Detector {
            /// All of them, in the order of their names' subjects.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As in configurations and reports. Names don't change.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

detectors! {
    /// Mail addresses.
    Email = "email",
    /// Telephone numbers: international, in forms that only they have, or announced by a word.
    Phone = "phone",
    /// Payment card numbers: issuers' ranges, lengths, Luhn digit.
    PaymentCard = "payment-card",
    /// International bank account numbers: country's length, checked by 97.
    Iban = "iban",
    /// A day of birth, announced by a word.
    DateOfBirth = "date-of-birth",
    /// Addresses of machines on the Internet. Off by default.
    IpAddress = "ip-address",
    /// United States: social security number.
    UsSsn = "us-ssn",
    /// United Kingdom: NHS number.
    UkNhs = "uk-nhs",
    /// United Kingdom: National Insurance number.
    UkNino = "uk-nino",
    /// Germany: Steuer-Identifikationsnummer.
    DeSteuerId = "de-steuer-id",
    /// Spain: DNI and NIE.
    EsDni = "es-dni",
    /// France: numéro de sécurité sociale.
    FrNir = "fr-nir",
    /// Italy: codice fiscale.
    ItCodiceFiscale = "it-codice-fiscale",
    /// The Netherlands: burgerservicenummer.
    NlBsn = "nl-bsn",
    /// Poland: PESEL.
    PlPesel = "pl-pesel",
    /// Brazil: CPF.
    BrCpf = "br-cpf",
    /// India: Aadhaar.
    InAadhaar = "in-aadhaar",
    /// Sweden: personnummer.
    SePersonnummer = "se-personnummer",
    /// Switzerland: AHV number.
    ChAhv = "ch-ahv",
    /// Keys and tokens of vendors, JSON web tokens, `Authorization` values.
    AccessToken = "access-token",
    /// Private keys in PEM.
    PrivateKey = "private-key",
    /// A URL with a password before its host.
    UrlPassword = "url-password",
    /// A value that a name like `password` or `api_key` is given.
    Password = "password",
    /// A text as the numbers of its tokens: nobody here can read it.
    TokenNumbers = "token-numbers",
}

impl Detector {
    const NUMBERS: &[Self] = &[
        Self::Phone,
        Self::PaymentCard,
        Self::Iban,
        Self::DateOfBirth,
        Self::IpAddress,
        Self::UsSsn,
        Self::UkNhs,
        Self::UkNino,
        Self::DeSteuerId,
        Self::EsDni,
        Self::FrNir,
        Self::ItCodiceFiscale,
        Self::NlBsn,
        Self::PlPesel,
        Self::BrCpf,
        Self::InAadhaar,
        Self::SePersonnummer,
        Self::ChAhv,
    ];
    const SECRETS: &[Self] = &[Self::AccessToken, Self::PrivateKey, Self::Password];

    /// Whether it looks without being switched on. Addresses of machines don't: logs and
    /// configurations are full of them.
    pub const fn on_by_default(self) -> bool {
        !matches!(self, Self::IpAddress)
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no detector's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such detector")]
pub struct UnknownDetector;

impl FromStr for Detector {
    type Err = UnknownDetector;

    fn from_str(name: &str) -> Result<Self, UnknownDetector> {
        let found = Self::ALL.iter().find(|detector| detector.as_str() == name);
        found.copied().ok_or(UnknownDetector)
    }
}

/// A set of built-in detectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Enabled(u32);

impl Enabled {
    fn with(self, detector: Detector) -> Self {
        Self(self.0 | 1 << detector as u8)
    }

    fn has(self, detector: Detector) -> bool {
        self.0 & (1 << detector as u8) != 0
    }

    fn any(self, detectors: &[Detector]) -> bool {
        detectors.iter().any(|detector| self.has(*detector))
    }
}

/// Takes what a built-in detector found, in the folded text; breaks when enough is found.
type Report<'r> = dyn FnMut(Detector, Range<usize>) -> ControlFlow<()> + 'r;

/// What found something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Found {
    Detector(Detector),
    /// A pattern of the operator's own, by its name.
    Pattern(Arc<str>),
    /// One of the operator's words. Which one isn't said: it may be what nobody should read.
    Word,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detector(detector) => detector.fmt(f),
            Self::Pattern(name) => write!(f, "pattern {name}"),
            Self::Word => f.write_str("word"),
        }
    }
}

/// Something sensitive: what it is and where. It holds nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub found: Found,
    /// Bytes of the text, whole characters.
    pub range: Range<usize>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}..{}", self.found, self.range.start, self.range.end)
    }
}

/// Detectors as a configuration wants them. Cheap to clone.
#[derive(Clone)]
pub struct Detectors {
    enabled: Enabled,
    own: Option<Arc<words::Own>>,
}

impl Default for Detectors {
    /// The built-in ones that are on by default.
    fn default() -> Self {
        Self { enabled: enabled(&PrivacyRules::on()), own: None }
    }
}

impl fmt::Debug for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Detector::ALL.iter().filter(|d| self.enabled.has(**d)).map(|d| d.as_str());
        f.debug_list().entries(names).finish()
    }
}

fn enabled(rules: &PrivacyRules) -> Enabled {
    let used = Detector::ALL.iter().filter(|detector| rules.uses(**detector));
    used.fold(Enabled::default(), |enabled, detector| enabled.with(*detector))
}

impl Detectors {
    /// Detectors that look for nothing.
    pub fn none() -> Self {
        Self { enabled: Enabled::default(), own: None }
    }

    /// # Errors
    /// If a pattern or word of the operator's can't be used.
    pub fn compile(rules: &PrivacyRules) -> Result<Self, PatternError> {
        // What isn't used is checked as well, so that switching it on can't fail.
        let own = words::Own::compile(rules)?;
        let has_own = rules.detect && !(rules.words.is_empty() && rules.patterns.is_empty());
        Ok(Self { enabled: enabled(rules), own: has_own.then(|| Arc::new(own)) })
    }

    /// Whether they look for anything at all.
    pub fn is_empty(&self) -> bool {
        self.enabled == Enabled::default() && self.own.is_none()
    }

    /// Something sensitive in any of the texts, whichever is come upon first. Stops there.
    pub fn find<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Option<Finding> {
        texts.into_iter().find_map(|text| self.first(text))
    }

    /// What finds something sensitive in a request first. Stops there.
    pub fn find_in(&self, pieces: &[Piece<'_>]) -> Option<Found> {
        if self.enabled.has(Detector::TokenNumbers) && pieces.contains(&Piece::Tokens) {
            return Some(Found::Detector(Detector::TokenNumbers));
        }
        let mut first = |text: &str| match self.first(text) {
            Some(Finding { found, .. }) => ControlFlow::Break(found),
            None => ControlFlow::Continue(()),
        };
        pieces.iter().try_for_each(|piece| piece.read(&mut first)).break_value()
    }

    fn first(&self, text: &str) -> Option<Finding> {
        let mut first = None;
        if !self.is_empty() {
            let _ = self.scan(text, &mut |found, range| {
                first = Some(Finding { found, range });
                ControlFlow::Break(())
            });
        }
        first
    }

    /// All that is found in a text, in its order, [`MAX_FINDINGS`] at most. Of built-in detectors
    /// that found the same place one is named.
    pub fn find_all(&self, text: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let _ = self.scan(text, &mut |found, range| {
            findings.push(Finding { found, range });
            // More than are given, for some fall away.
            if findings.len() < 4 * MAX_FINDINGS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        findings.sort_by(|a, b| a.range.start.cmp(&b.range.start).then(a.found.cmp(&b.found)));
        let mut kept: Vec<Finding> = Vec::with_capacity(findings.len());
        for finding in findings {
            let covered = kept.last().is_some_and(|last| {
                let built_in = matches!(
                    (&last.found, &finding.found),
                    (Found::Detector(_), Found::Detector(_))
                );
                (built_in && finding.range.start < last.range.end) || *last == finding
            });
            if !covered {
                kept.push(finding);
            }
        }
        kept.truncate(MAX_FINDINGS);
        kept
    }

    fn scan(
        &self,
        text: &str,
        report: &mut dyn FnMut(Found, Range<usize>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let folded = Folded::new(text);
        let mut built_in = |detector: Detector, range: Range<usize>| {
            report(Found::Detector(detector), folded.range(range))
        };
        addresses::scan(folded.text(), self.enabled, &mut built_in)?;
        numbers::scan(folded.text(), self.enabled, &mut built_in)?;
        secrets::scan(folded.text(), self.enabled, &mut built_in)?;
        match &self.own {
            Some(own) => own.scan(&folded, text, report),
            None => ControlFlow::Continue(()),
        }
    }
}

/// The least of a text by which somebody recognises what they wrote: its first characters, two at
/// most and a quarter at most, and dots for the rest.
pub fn masked(text: &str) -> String {
    const DOTS: usize = 8;
    let length = text.chars().count();
    let shown = (length / 4).min(2);
    let shown_part = text.chars().take(shown).map(|c| if c.is_control() { ' ' } else { c });
    shown_part.chain(std::iter::repeat_n('•', (length - shown).min(DOTS))).collect()
}
