//! How many tokens a prompt will take, before anybody has counted them.
//!
//! A tokenizer would know, but each vendor has its own, most don't publish theirs, and a vocabulary
//! takes megabytes. So characters are counted by kind (words, digits, signs, scripts), and each kind has a
//! weight, fitted to what real tokenizers make of the texts in `tests/tokens`. How far off that is
//! stands in `docs/models.md`, and a test holds it to that.
//!
//! The families differ in what isn't English: a smaller vocabulary cuts German and Chinese finer.
//! Vendors whose tokenizer isn't published are taken for the finer one: a reservation that
//! is too large is given back, one that is too small was spent.
//!
//! Costs: one pass over at most [`MAX_SCANNED`] bytes of a prompt, about 10 µs; the rest of a longer
//! prompt is taken to be like it. No allocation.

/// Bytes of a prompt that are looked at.
pub const MAX_SCANNED: usize = 8 * 1024;

/// Bytes of one text that are looked at, so that a long first message isn't taken for all.
const MAX_OF_ONE: usize = 2 * 1024;

/// Tokenizers that count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Two hundred thousand tokens and more: OpenAI's since GPT-4o (o200k).
    Large,
    /// A hundred thousand: OpenAI's before, and its embeddings (cl100k); and whatever isn't known.
    Small,
}

impl Family {
    /// By a model's name, whoever serves it.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let large = ["gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-6", "gpt-oss", "o1", "o3", "o4"];
        match large.iter().any(|start| name.starts_with(start)) {
            true => Self::Large,
            false => Self::Small,
        }
    }

    fn weights(self) -> &'static Weights {
        match self {
            Self::Large => &LARGE,
            Self::Small => &SMALL,
        }
    }
}

/// Thousandths of a token for each.
struct Weights {
    /// A run of ASCII letters.
    word: u64,
    /// A letter of it after the sixth.
    long_letter: u64,
    digit: u64,
    /// A run of other signs of ASCII.
    signs: u64,
    /// Each of them.
    sign: u64,
    /// A run of line ends and tabs.
    line: u64,
    /// A letter of two bytes: accents, Greek, Cyrillic, Hebrew, Arabic.
    two_bytes: u64,
    ideograph: u64,
    kana: u64,
    /// Another character of three bytes: Hangul, Indic scripts, typographic signs.
    three_bytes: u64,
    /// Of four: emoji above all.
    four_bytes: u64,
}

const LARGE: Weights = Weights {
    word: 920,
    long_letter: 220,
    digit: 400,
    signs: 490,
    sign: 330,
    line: 850,
    two_bytes: 730,
    ideograph: 790,
    kana: 740,
    three_bytes: 970,
    four_bytes: 2270,
};

const SMALL: Weights = Weights {
    word: 930,
    long_letter: 250,
    digit: 400,
    signs: 450,
    sign: 340,
    line: 810,
    two_bytes: 3230,
    ideograph: 1160,
    kana: 1010,
    three_bytes: 1550,
    four_bytes: 3020,
};

/// Letters of a word that cost nothing beyond the word.
const SHORT_WORD: u32 = 6;

/// Adds up a prompt's texts.
pub struct Estimator {
    weights: &'static Weights,
    scanned: usize,
    bytes: u64,
    thousandths: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Sign,
    Line,
    Other,
}

impl Estimator {
    pub fn new(family: Family) -> Self {
        Self { weights: family.weights(), scanned: 0, bytes: 0, thousandths: 0 }
    }

    pub fn add(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        let most = MAX_OF_ONE.min(MAX_SCANNED - self.scanned);
        let scanned = &text[..text.floor_char_boundary(most)];
        self.scanned += scanned.len();
        self.thousandths += scan(scanned, self.weights);
    }

    /// Rounded up; zero for nothing.
    pub fn tokens(&self) -> u64 {
        if self.scanned == 0 {
            // Nothing, or texts after the budget is spent, which can't be first.
            return 0;
        }
        let all = u128::from(self.thousandths) * u128::from(self.bytes) / self.scanned as u128;
        u64::try_from(all.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

fn scan(text: &str, weights: &Weights) -> u64 {
    let (mut sum, mut letters, mut last) = (0, 0, Kind::Other);
    for c in text.chars() {
        let (kind, weight) = match c {
            'a'..='z' | 'A'..='Z' => {
                letters = if last == Kind::Word { letters + 1 } else { 1 };
                let first = if letters == 1 { weights.word } else { 0 };
                let long = if letters > SHORT_WORD { weights.long_letter } else { 0 };
                (Kind::Word, first + long)
            }
            '0'..='9' => (Kind::Other, weights.digit),
            ' ' => (Kind::Other, 0),
            '\n' | '\r' | '\t' => (Kind::Line, if last == Kind::Line { 0 } else { weights.line }),
            '\0'..='\x7f' => {
                (Kind::Sign, weights.sign + if last == Kind::Sign { 0 } else { weights.signs })
            }
            '\u{80}'..='\u{7ff}' => (Kind::Other, weights.two_bytes),
            '\u{3040}'..='\u{30ff}' => (Kind::Other, weights.kana),
            '\u{3400}'..='\u{9fff}' => (Kind::Other, weights.ideograph),
            '\u{800}'..='\u{ffff}' => (Kind::Other, weights.three_bytes),
            _ => (Kind::Other, weights.four_bytes),
        };
        sum += weight;
        last = kind;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(texts: &[&str]) -> u64 {
        let mut estimator = Estimator::new(Family::Large);
        texts.iter().for_each(|text| estimator.add(text));
        estimator.tokens()
    }

    #[test]
    fn nothing_takes_nothing_and_something_takes_something() {
        assert_eq!(tokens(&[]), 0);
        assert_eq!(tokens(&["", ""]), 0);
        assert_eq!(tokens(&["a"]), 1);
        assert_eq!(tokens(&["Hello, world"]), 3);
    }

    #[test]
    fn a_long_prompt_is_taken_to_be_like_what_was_seen_of_it() {
        let line = "The quick brown fox jumps over the lazy dog. ";
        let (short, long) = (line.repeat(40), line.repeat(40_000));
        let (one, many) = (tokens(&[&short]), tokens(&[&long]));
        assert!(many.abs_diff(one * 1000) < many / 50, "{one} {many}");
        // A character on the edge of what is looked at isn't cut.
        let wide = "é".repeat(MAX_SCANNED);
        assert!(tokens(&[&wide[..], "x", &wide[..]]) > 0);
    }

    #[test]
    fn a_name_tells_the_family() {
        for (model, family) in [
            ("gpt-4o-mini", Family::Large),
            ("@cf/openai/gpt-oss-120b", Family::Large),
            ("o4-mini", Family::Large),
            ("text-embedding-3-small", Family::Small),
            ("gpt-4-turbo", Family::Small),
            ("claude-sonnet-5-5", Family::Small),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }
}
