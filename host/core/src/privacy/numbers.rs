//! Numbers: cards, accounts, national numbers, telephone numbers, dates of birth, addresses of
//! machines.
//!
//! One pass goes from digit to digit. What stands there is read as a [`Chain`] of groups, which is
//! then held against each detector's lengths, groupings, checks and context. A chain is short by
//! its limits, so the cost stays proportional to the text whatever it holds; words longer than any
//! number, as in hashes and base64, are stepped over.

use std::ops::{ControlFlow, Range};

use super::{
    Detector::{self, *},
    Enabled, Report, bytes, checks, context, dates, machines, phone,
};

/// The longest account number has 34 characters.
const LONGEST: usize = 34;
/// The longest number of digits alone, a card's.
const MOST_DIGITS: usize = 19;
/// The shortest number: a BSN.
const SHORTEST: usize = 8;
/// Seven for a French NIR; telephone numbers have as many at most.
const GROUPS: usize = 10;

/// Digits in groups with one character between, from the beginning of a word on.
struct Chain<'t> {
    text: &'t [u8],
    start: usize,
    /// In upper case, without separators.
    compact: [u8; MOST_DIGITS],
    /// The groups' lengths.
    lengths: [u8; GROUPS],
    count: usize,
}

impl<'t> Chain<'t> {
    fn read(text: &'t [u8], start: usize) -> Self {
        let mut chain =
            Self { text, start, compact: [0; MOST_DIGITS], lengths: [0; GROUPS], count: 0 };
        let (mut at, mut total) = (start, 0);
        while chain.count < GROUPS {
            let length = bytes::run(text, at, u8::is_ascii_alphanumeric);
            let group = &text[at.min(text.len())..at + length];
            // Only the first group and a check letter have one character.
            let alone = length == 1 && chain.count > 0 && group[0].is_ascii_digit();
            if total + length > MOST_DIGITS || alone || !is_group(group) {
                break;
            }
            for (to, from) in chain.compact[total..].iter_mut().zip(group) {
                *to = from.to_ascii_uppercase();
            }
            // No longer than the compact form.
            chain.lengths[chain.count] = length as u8;
            chain.count += 1;
            total += length;
            at += length;
            if !is_separator(bytes::byte(text, at)) {
                break;
            }
            at += 1;
        }
        chain
    }

    /// The first `groups` of it.
    fn part(&self, groups: usize) -> Part<'_> {
        let lengths = &self.lengths[..groups];
        let total = lengths.iter().map(|length| usize::from(*length)).sum();
        Part { text: self.text, start: self.start, compact: &self.compact[..total], lengths }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'/' | b'+')
}

/// Digits, a letter alone or behind them, or a department of Corsica.
fn is_group(group: &[u8]) -> bool {
    match group {
        [] => false,
        [one] => one.is_ascii_alphanumeric(),
        [digits @ .., last] => {
            digits.iter().all(u8::is_ascii_digit) && last.is_ascii_alphanumeric()
        }
    }
}

/// A candidate: some groups of a chain.
struct Part<'c> {
    text: &'c [u8],
    start: usize,
    compact: &'c [u8],
    lengths: &'c [u8],
}

impl Part<'_> {
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.compact.len() + self.lengths.len().saturating_sub(1)
    }

    fn is_bare(&self) -> bool {
        self.lengths.len() == 1
    }

    fn is_grouped(&self, lengths: &[u8]) -> bool {
        self.lengths == lengths
    }

    /// What stands between the groups.
    fn separators(&self) -> impl DoubleEndedIterator<Item = u8> {
        let mut at = self.start;
        let mut places = [0; GROUPS];
        for (place, length) in places.iter_mut().zip(self.lengths) {
            at += usize::from(*length);
            *place = at;
            at += 1;
        }
        let between = self.lengths.len().saturating_sub(1);
        places.into_iter().take(between).map(|place| bytes::byte(self.text, place))
    }

    /// What stands between the groups, if it is always the same.
    fn separator(&self) -> Option<u8> {
        let mut separators = self.separators();
        let first = separators.next()?;
        separators.all(|separator| separator == first).then_some(first)
    }

    /// Whether the number begins and ends here: no more digits with the same separator.
    fn is_whole(&self) -> bool {
        let range = self.range();
        let first = self.separators().next().unwrap_or(b'-');
        let last = self.separators().last().unwrap_or(b'-');
        let before = bytes::before(self.text, range.start) == first
            && bytes::before(self.text, range.start.saturating_sub(1)).is_ascii_digit();
        let after = bytes::byte(self.text, range.end) == last
            && bytes::byte(self.text, range.end + 1).is_ascii_digit();
        !before && !after
    }
}

/// Reports what numbers `text` holds, from its beginning to its end.
pub(super) fn scan(text: &str, enabled: Enabled, report: &mut Report<'_>) -> ControlFlow<()> {
    if !enabled.any(Detector::NUMBERS) {
        return ControlFlow::Continue(());
    }
    let input = text.as_bytes();
    let mut from = 0;
    while let Some(digit) = bytes::next_digit(input, from) {
        let word = bytes::word_around(input, digit, from);
        from = word.end;
        if word.len() > LONGEST {
            continue;
        }
        if let Some((detector, range)) = at_word(text, &word, enabled) {
            from = from.max(range.end);
            report(detector, range)?;
        }
    }
    ControlFlow::Continue(())
}

/// What begins with this word, which has a digit in it.
fn at_word(text: &str, word: &Range<usize>, enabled: Enabled) -> Option<(Detector, Range<usize>)> {
    let input = text.as_bytes();
    // `\n` of JSON within JSON is no part of the word behind it.
    let start = match bytes::after_escape(input, word.start + 1) {
        true => word.start + 1,
        false => word.start,
    };
    let lettered_word = !input[start..word.end].iter().all(u8::is_ascii_digit);
    let found = match lettered_word {
        true => iban(input, start, enabled)
            .or_else(|| codice_fiscale(input, start..word.end, enabled))
            .or_else(|| lettered(text, start, enabled)),
        false => with_letters_before(text, start, enabled),
    };
    if found.is_some() {
        return found;
    }
    // Shorter numbers have more digits behind a separator, or two with parentheses.
    let goes_on =
        is_separator(bytes::byte(input, word.end)) || bytes::byte(input, word.end) == b')';
    let more = word.end + 1..(word.end + 4).min(input.len());
    let long = word.len() >= SHORTEST
        || (goes_on && input.get(more).is_some_and(|more| more.iter().any(u8::is_ascii_digit)));
    if input[start].is_ascii_digit() && long {
        if let Some(found) = digits(text, start, enabled) {
            return Some(found);
        }
        if enabled.has(Phone)
            && let Some(range) = phone::at(text, start)
        {
            return Some((Phone, range));
        }
    }
    if input[start].is_ascii_digit()
        && enabled.has(DateOfBirth)
        && let Some(range) = dates::at(text, start)
        && context::announces(DateOfBirth, text, &range)
    {
        return Some((DateOfBirth, range));
    }
    if enabled.has(IpAddress)
        && let Some(range) = machines::at(text, start)
    {
        return Some((IpAddress, range));
    }
    None
}

/// An account number: two letters, two digits, and as many more as the country's have, together or
/// in groups with one kind of separator.
fn iban(text: &[u8], start: usize, enabled: Enabled) -> Option<(Detector, Range<usize>)> {
    let head = text.get(start..start + 4).filter(|_| enabled.has(Iban))?;
    if !head[..2].iter().all(u8::is_ascii_alphabetic) || !head[2..].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = checks::iban_length([head[0].to_ascii_uppercase(), head[1].to_ascii_uppercase()])?;
    let mut account = [0_u8; LONGEST];
    let (mut at, mut filled) = (start, 0);
    let mut separator = None;
    while filled < length {
        let byte = bytes::byte(text, at);
        if byte.is_ascii_alphanumeric() {
            account[filled] = byte.to_ascii_uppercase();
            filled += 1;
        } else {
            let known = *separator.get_or_insert(byte);
            let single = bytes::byte(text, at + 1).is_ascii_alphanumeric();
            if byte != known || !matches!(byte, b' ' | b'-' | b'.') || !single {
                return None;
            }
        }
        at += 1;
    }
    let ends = !bytes::byte(text, at).is_ascii_alphanumeric();
    (ends && checks::iban(&account[..length])).then_some((Iban, start..at))
}

/// Together, or as on the card: `RSS MRA 85M01 H501Z`, where the first digits are the third group's.
fn codice_fiscale(
    text: &[u8],
    word: Range<usize>,
    enabled: Enabled,
) -> Option<(Detector, Range<usize>)> {
    if !enabled.has(ItCodiceFiscale) {
        return None;
    }
    let range = match word.len() {
        16 => word,
        5 => word.start.checked_sub(8)?..word.end + 6,
        _ => return None,
    };
    let written = text.get(range.clone())?;
    let mut code = [0_u8; 16];
    if written.len() == 16 {
        code.copy_from_slice(written);
    } else {
        for (from, to) in [(0..3, 0), (4..7, 3), (8..13, 6), (14..19, 11)] {
            code[to..to + from.len()].copy_from_slice(&written[from]);
        }
        let apart = [3, 7, 13].iter().all(|at| written[*at] == b' ');
        if !apart || !bytes::begins(text, range.start) {
            return None;
        }
    }
    let ends = !bytes::byte(text, range.end).is_ascii_alphanumeric();
    (ends && checks::it_codice_fiscale(&code.map(upper))).then_some((ItCodiceFiscale, range))
}

fn upper(byte: u8) -> u8 {
    byte.to_ascii_uppercase()
}

/// Numbers with a letter at one end: DNI, NIE, NINO, and a NIR of Corsica. In lower case they
/// need context, because nobody writes them so who has the card before them.
fn lettered(text: &str, start: usize, enabled: Enabled) -> Option<(Detector, Range<usize>)> {
    let input = text.as_bytes();
    let mut compact = [0_u8; 15];
    let (mut at, mut filled) = (start, 0);
    let mut lower = false;
    // All of them have a digit among the first three characters with separators left out, and
    // more after it.
    let head = text.as_bytes().get(start..start + 4)?;
    if !head[1..].iter().any(u8::is_ascii_digit) {
        return None;
    }
    // Up to fifteen characters with single separators between.
    loop {
        let byte = bytes::byte(input, at);
        if byte.is_ascii_alphanumeric() && filled < compact.len() {
            lower |= byte.is_ascii_lowercase();
            compact[filled] = upper(byte);
            filled += 1;
        } else if byte.is_ascii_alphanumeric() {
            return None;
        }
        at += 1;
        let next = bytes::byte(input, at);
        if next.is_ascii_alphanumeric() {
            continue;
        }
        let range = start..at;
        let found = match filled {
            9 if enabled.has(EsDni) && is_dni(input, &range) && checks::es_dni(&compact[..9]) => {
                Some(EsDni)
            }
            9 if enabled.has(UkNino) && checks::uk_nino(&compact[..9]) => Some(UkNino),
            15 if enabled.has(FrNir) && checks::fr_nir(&compact) => Some(FrNir),
            _ => None,
        };
        if let Some(found) = found {
            let sure = !lower || context::speaks_for(found, text, &range);
            return sure.then_some((found, range));
        }
        if filled >= compact.len()
            || !matches!(next, b' ' | b'-' | b'.')
            || !bytes::byte(input, at + 1).is_ascii_alphanumeric()
        {
            return None;
        }
        at += 1;
    }
}

/// Whether a DNI is written so: dots stand between groups of three only, hyphens around letters.
/// Times and coordinates have nine characters as well.
fn is_dni(text: &[u8], range: &Range<usize>) -> bool {
    let written = &text[range.clone()];
    let fraction = matches!(bytes::before(text, range.start), b'.' | b':' | b'-' | b',');
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    !fraction
        && match written {
            [_, middle @ .., _] if written.len() == 9 => digits(middle),
            [_, b'-', middle @ .., b'-', _] => digits(middle),
            [_, middle @ .., b'-' | b' ', _] | [_, b'-' | b' ', middle @ .., _] => digits(middle),
            _ => false,
        }
}

/// As [`lettered`], where the letters before the first digit are a group of their own:
/// `AB 12 34 56 C`, `X-1234567-L`.
fn with_letters_before(
    text: &str,
    start: usize,
    enabled: Enabled,
) -> Option<(Detector, Range<usize>)> {
    let input = text.as_bytes();
    if !matches!(bytes::before(input, start), b' ' | b'-') {
        return None;
    }
    let letters = bytes::run_before(input, start - 1, 3, u8::is_ascii_alphabetic);
    let first = start - 1 - letters;
    if !(1..=2).contains(&letters) || !bytes::begins(input, first) {
        return None;
    }
    lettered(text, first, enabled).filter(|(_, range)| range.end > start)
}

/// Groupings in which a card number is printed or typed.
const CARD_GROUPS: &[&[u8]] = &[
    &[4, 4, 4, 4],
    &[4, 6, 5],
    &[4, 6, 4],
    &[4, 4, 4, 4, 3],
    &[6, 13],
    &[4, 4, 4, 3],
    &[4, 4, 4, 2],
];

/// What begins with these digits, the longest first.
fn digits(text: &str, start: usize, enabled: Enabled) -> Option<(Detector, Range<usize>)> {
    let input = text.as_bytes();
    let chain = Chain::read(input, start);
    // A fraction's digits are no number of their own.
    let fraction = matches!(bytes::before(input, start), b'.' | b',')
        && start >= 2
        && input[start - 2].is_ascii_digit();
    for count in (1..=chain.count).rev() {
        let part = chain.part(count);
        if part.compact.len() < SHORTEST {
            break;
        }
        let range = part.range();
        if bytes::byte(input, range.end).is_ascii_alphanumeric()
            || (bytes::byte(input, range.end) == b'.'
                && bytes::byte(input, range.end + 1).is_ascii_digit()
                && part.is_bare())
        {
            continue;
        }
        let near = |detector| context::speaks_for(detector, text, &range);
        let fits = |detector: Detector| {
            enabled.has(detector)
                && match detector {
                    PaymentCard => {
                        // Bare numbers of the rarer lengths are mostly something else.
                        let usual = matches!(part.compact.len(), 14..=16);
                        !fraction
                            && ((part.is_bare() && (usual || near(PaymentCard)))
                                || (CARD_GROUPS.iter().any(|groups| part.is_grouped(groups))
                                    && part.separator().is_some()))
                            && checks::payment_card(part.compact)
                    }
                    _ if fraction && part.is_bare() => false,
                    FrNir => {
                        checks::fr_nir(part.compact)
                            && (part.is_bare()
                                || part.is_grouped(&[1, 2, 2, 2, 3, 3, 2])
                                || part.is_grouped(&[13, 2])
                                || near(FrNir))
                    }
                    // `12.345.678-Z`; together they aren't a chain's.
                    EsDni => {
                        (part.is_grouped(&[2, 3, 3, 1]) || part.is_grouped(&[8, 1]))
                            && checks::es_dni(part.compact)
                    }
                    ChAhv => {
                        checks::ch_ahv(part.compact)
                            && (part.is_bare() || part.is_grouped(&[3, 4, 4, 2]))
                    }
                    InAadhaar => {
                        checks::in_aadhaar(part.compact)
                            && ((part.is_grouped(&[4, 4, 4])
                                && part.separator().is_some()
                                && part.is_whole())
                                || (part.is_bare() && near(InAadhaar)))
                    }
                    SePersonnummer => {
                        let dashed = (part.is_grouped(&[6, 4]) || part.is_grouped(&[8, 4]))
                            && matches!(part.separator(), Some(b'-' | b'+'));
                        checks::se_personnummer(part.compact)
                            && ((dashed && part.is_whole())
                                || ((part.is_bare() || part.lengths.len() == 2)
                                    && near(SePersonnummer)))
                    }
                    DeSteuerId => {
                        checks::de_steuer_id(part.compact)
                            && ((part.is_grouped(&[2, 3, 3, 3])
                                && part.separator().is_some()
                                && part.is_whole())
                                || near(DeSteuerId))
                    }
                    PlPesel => part.is_bare() && checks::pl_pesel(part.compact) && near(PlPesel),
                    BrCpf => {
                        checks::br_cpf(part.compact)
                            && ((part.is_grouped(&[3, 3, 3, 2])
                                && part.separators().last() == Some(b'-'))
                                || near(BrCpf))
                    }
                    UkNhs => {
                        (part.is_bare() || part.is_grouped(&[3, 3, 4]))
                            && checks::uk_nhs(part.compact)
                            && near(UkNhs)
                    }
                    UsSsn => {
                        let grouped = part.is_grouped(&[3, 2, 4]);
                        let dashed = grouped && part.separator() == Some(b'-');
                        checks::us_ssn(part.compact)
                            && ((dashed && part.is_whole())
                                || ((part.is_bare() || grouped) && near(UsSsn)))
                    }
                    NlBsn => {
                        (part.is_bare() || part.lengths.len() == 3)
                            && checks::nl_bsn(part.compact)
                            && near(NlBsn)
                    }
                    _ => false,
                }
        };
        // Detectors of numbers of this many digits.
        let candidates: &[Detector] = match part.compact.len() {
            _ if !part.compact.iter().all(u8::is_ascii_digit) => match part.compact.len() {
                9 => &[EsDni],
                15 => &[FrNir],
                _ => &[],
            },
            8 => &[NlBsn],
            9 => &[UsSsn, NlBsn],
            10 => &[SePersonnummer, UkNhs],
            11 => &[BrCpf, DeSteuerId, PlPesel],
            12 => &[SePersonnummer, InAadhaar, PaymentCard],
            13 => &[ChAhv, PaymentCard],
            15 => &[PaymentCard, FrNir],
            14 | 16..=19 => &[PaymentCard],
            _ => &[],
        };
        if let Some(found) = candidates.iter().find(|detector| fits(**detector)) {
            return Some((*found, range));
        }
    }
    None
}
