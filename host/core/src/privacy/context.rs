//! Words that say what a number is.
//!
//! Many national numbers are bare digits with a check that every tenth number passes by chance.
//! They count only with such a word near them. One automaton holds the words of all detectors; it
//! reads the few bytes around a candidate that has passed its other checks.

use std::{ops::Range, sync::LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{
    Detector::{self, *},
    bytes,
};

/// How far before a number its word may stand, in bytes.
const BEFORE: usize = 60;
/// How far after it.
const AFTER: usize = 24;

#[rustfmt::skip]
const WORDS: &[(Detector, &[&str])] = &[
    (UsSsn, &["ssn", "social security", "social_security", "socialsecurity", "soc sec", "tax id", "itin", "w-9", "w-2"]),
    (UkNhs, &["nhs", "national health service"]),
    (UkNino, &["nino", "ni", "national insurance", "nationalinsurance", "national_insurance", "hmrc"]),
    (DeSteuerId, &["steuer-id", "steuerid", "steuer_id", "steuer id", "steuer-idnr", "steueridnr", "steuer-identifikationsnummer", "steueridentifikationsnummer", "identifikationsnummer", "idnr", "id-nr", "tin", "tax id", "tax_id", "taxid", "finanzamt"]),
    (EsDni, &["dni", "nie", "nif", "documento nacional", "identidad"]),
    (FrNir, &["nir", "sécurité sociale", "securite sociale", "sécu", "secu", "carte vitale", "vitale", "insee"]),
    (ItCodiceFiscale, &["codice fiscale"]),
    (NlBsn, &["bsn", "burgerservicenummer", "burgerservicenr", "burger service nummer", "sofinummer", "sofi-nummer", "sofi"]),
    (PlPesel, &["pesel", "ewidencyjny"]),
    (BrCpf, &["cpf", "cadastro de pessoas", "pix"]),
    (InAadhaar, &["aadhaar", "aadhar", "adhaar", "uidai", "uid", "आधार"]),
    (SePersonnummer, &["personnummer", "personnr", "pnr", "persnr", "personal identity number", "samordningsnummer"]),
    (ChAhv, &["ahv", "avs", "sozialversicherungsnummer", "versichertennummer"]),
    (Phone, &["phone", "phone number", "phone no", "phonenumber", "telephone", "tel", "tel no", "mobile", "mobile no", "cell", "cellphone", "cell phone", "handy", "handynummer", "mobil", "mobilnummer", "mobiltelefon", "mobilfunk", "telefon", "telefonnummer", "telefonnr", "telefoon", "telefoonnummer", "téléphone", "telephone", "tél", "portable", "móvil", "movil", "teléfono", "telefono", "telefone", "celular", "cellulare", "cell.", "telemóvel", "whatsapp", "fax", "call me", "call him", "call her", "call us", "reach me", "reach us", "ring me", "text me", "bel", "komórka", "komórkowy", "телефон", "Телефон", "тел", "Тел", "моб", "звоните", "电话", "電話", "手机", "手機", "携帯", "連絡先", "전화", "휴대폰", "फ़ोन", "मोबाइल", "rappelez", "appelez", "anrufen", "erreichbar"]),
    (PaymentCard, &["card", "card number", "card no", "cardnumber", "credit card", "creditcard", "debit card", "pan", "visa", "mastercard", "maestro", "unionpay", "kreditkarte", "kartennummer", "karte", "carte", "carte bancaire", "tarjeta", "carta", "cartão", "karta", "kaart", "kort", "карта", "Карта", "卡号", "银行卡", "カード"]),
    (DateOfBirth, &["date of birth", "birth date", "birthdate", "birth_date", "dateofbirth", "date_of_birth", "dob", "d.o.b", "born", "born on", "birthday", "bday", "geboren", "geboren am", "geburtsdatum", "geburtstag", "geb", "né le", "née le", "né", "née", "date de naissance", "naissance", "nacido", "nacida", "nacimiento", "fecha de nacimiento", "nato il", "nata il", "nato", "nata", "data di nascita", "nascita", "nascido", "nascida", "nascimento", "data de nascimento", "geboortedatum", "född", "födelsedatum", "födelsedag", "født", "fødselsdato", "urodzony", "urodzona", "urodzenia", "ur", "рождения", "Рождения", "родился", "родилась", "出生日期", "出生", "生日", "生年月日", "誕生日", "생년월일", "doğum tarihi", "जन्म"]),
];

/// Which detector each word speaks for.
static OWNERS: LazyLock<Vec<Detector>> = LazyLock::new(|| {
    let owners = WORDS.iter().flat_map(|(owner, words)| words.iter().map(|_| *owner));
    owners.collect()
});

static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let words = WORDS.iter().flat_map(|(_, words)| words.iter());
    AhoCorasick::builder()
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words)
        // The words are the ones above, which a test builds.
        .ok()
});

/// Whether a word that speaks for `detector` stands near `range`.
pub(super) fn speaks_for(detector: Detector, text: &str, range: &Range<usize>) -> bool {
    within(detector, text, range, BEFORE, AFTER)
}

/// As [`speaks_for`], before the range only and not as far.
pub(super) fn announces(detector: Detector, text: &str, range: &Range<usize>) -> bool {
    within(detector, text, range, 40, 0)
}

fn within(
    detector: Detector,
    text: &str,
    range: &Range<usize>,
    before: usize,
    after: usize,
) -> bool {
    let Some(finder) = FINDER.as_ref() else { return false };
    let bytes = text.as_bytes();
    let around = [
        bytes::head(text, range.start, before)..range.start,
        range.end..bytes::tail(text, range.end, after),
    ];
    around.into_iter().any(|window| {
        finder.find_overlapping_iter(&bytes[window.clone()]).any(|found| {
            let place = window.start + found.start()..window.start + found.end();
            OWNERS[found.pattern().as_usize()] == detector && is_whole(text, &place)
        })
    })
}

/// Not within a longer word. Scripts that write words without spaces have no such boundary.
fn is_whole(text: &str, range: &Range<usize>) -> bool {
    let first = text[range.clone()].chars().next();
    if first.is_some_and(|c| !c.is_ascii()) {
        return super::words::is_whole(text, range);
    }
    bytes::is_name(text.as_bytes(), range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(detector: Detector, text: &str) -> bool {
        let at = text.find('@').unwrap();
        speaks_for(detector, text, &(at..at + 1))
    }

    #[test]
    fn names_of_fields_and_words_of_sentences_speak() {
        for (detector, text) in [
            (UsSsn, r#""ssn": "@"#),
            (UsSsn, "socialSecurityNumber: @"),
            (UsSsn, "@ is her SSN"),
            (NlBsn, "klant_bsn=@"),
            (Phone, "userPhone: @"),
            (Phone, "电话：@"),
            (DateOfBirth, r"x\nDOB @"),
            (InAadhaar, "आधार @"),
        ] {
            assert!(near(detector, text), "{text}");
        }
    }

    #[test]
    fn parts_of_words_and_distant_ones_do_not() {
        for (detector, text) in [
            (Phone, "hotel @"),
            (DateOfBirth, "newborn @"),
            (UsSsn, "essn @"),
            (NlBsn, "SSN @"),
            (UsSsn, "SSN, as we said at length in the paragraph before this one here: @"),
        ] {
            assert!(!near(detector, text), "{text}");
        }
    }
}
