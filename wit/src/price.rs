//! What an exchange costs: a descriptor's [`Price`] checked and made into a [`Tariff`], and what a
//! tariff makes of the counts that a vendor gave.
//!
//! Pure and exact. It is here, and not in the host, because both sides need the same answer: the host
//! bills with it, and an adapter's tests hold its prices and its counts against each other with it.
//!
//! The rules:
//! - Of the prompt, what was read from the cache and what was written to it have prices of their
//!   own; the rest is `input`. A class without a price costs what the class costs that it is part
//!   of: the cache's classes what `input` costs, `reasoning` what `output` costs.
//! - Tokens of a class that cost something else (written for an hour, audio) are reported as units
//!   and taken out of their class ([`Price::parts`]).
//! - A prompt beyond a size has another price in every class, for the whole request
//!   ([`Price::above`]). What counts is the whole prompt, its cached tokens included.
//! - Other units are added ([`Price::per_unit`]): "request" once for each request, the rest as the vendor reports
//!   them. If the vendor reports the unit that it bills ([`Price::bill`]), that alone is the cost.
//! - What was counted and has no price is named in [`Cost::unpriced`]: the total is then too low.
//!
//! Costs below a microsecond and two small allocations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    decimal::Decimal,
    descriptor::{Amounts, Price},
};

/// Digits after the point of a price for a million that one token can be billed with exactly.
const PER_MILLION_DIGITS: usize = 12;

/// The unit that is counted once for each request.
pub const REQUEST: &str = "request";

/// Tokens that have one price. Spelled in descriptors as [`Class::as_str`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Of the prompt, neither read from a cache nor written to one.
    Input,
    CacheRead,
    /// For the vendor's usual lifetime.
    CacheWrite,
    /// Of the answer, reasoning aside.
    Output,
    Reasoning,
}

impl Class {
    pub const ALL: [Self; 5] =
        [Self::Input, Self::CacheRead, Self::CacheWrite, Self::Output, Self::Reasoning];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache-read",
            Self::CacheWrite => "cache-write",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
        }
    }

    /// The class it is part of.
    fn whole(self) -> Self {
        match self {
            Self::Input | Self::CacheRead | Self::CacheWrite => Self::Input,
            Self::Output | Self::Reasoning => Self::Output,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

/// A day, as in "2026-01-31". Days begin at midnight UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    /// Before every price.
    pub const FIRST: Self = Self { year: 1970, month: 1, day: 1 };

    /// The day of a moment in milliseconds since 1970.
    pub fn of_ms(moment: u64) -> Self {
        let mut left = moment / 86_400_000;
        let mut year = Self::FIRST.year;
        // 65535 is 23 million days on: the loop ends.
        while left >= days_of_year(year) && year < u16::MAX {
            left -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while month < 12 && left >= u64::from(days_of_month(year, month)) {
            left -= u64::from(days_of_month(year, month));
            month += 1;
        }
        Self { year, month, day: left.min(30) as u8 + 1 }
    }
}

fn is_leap(year: u16) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_year(year: u16) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u16, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl FromStr for Day {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let bad = || PriceError::Day(text.to_owned());
        // Otherwise "20251-2-05" were one as well.
        let digits = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let mut parts = text.split('-').map(str::parse::<u16>);
        match (digits, parts.next(), parts.next(), parts.next(), parts.next()) {
            (true, Some(Ok(year)), Some(Ok(month @ 1..=12)), Some(Ok(day)), None)
                if (1..=u16::from(days_of_month(year, month as u8))).contains(&day) =>
            {
                Ok(Self { year, month: month as u8, day: day as u8 })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// ISO 4217, three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    pub const USD: Self = Self(*b"USD");

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Self(letters)),
            _ => Err(PriceError::Currency(text.to_owned())),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As text.
macro_rules! text_form {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_form!(Day, Currency);

/// Why a price can't be billed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceError {
    Day(String),
    Currency(String),
    /// The amount of this class or unit.
    Amount(String),
    /// There is no class of this name.
    Class(String),
    /// Prices for larger prompts aren't in the order of their sizes.
    Steps,
    /// The unit that is billed has no price.
    Bill(String),
    /// Prices aren't in the order of their days.
    Order,
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(text) => write!(f, "'{text}' is no day such as 2026-01-31"),
            Self::Currency(text) => write!(f, "'{text}' is no currency such as USD"),
            Self::Amount(name) => write!(
                f,
                "the price of '{name}' isn't a decimal such as 0.25, with at most \
                 {PER_MILLION_DIGITS} digits after the point"
            ),
            Self::Class(name) => {
                let classes = Class::ALL.map(Class::as_str).join(", ");
                write!(f, "there is no class of tokens '{name}'; there are {classes}")
            }
            Self::Steps => f.write_str("prices for larger prompts must be in the order of size"),
            Self::Bill(unit) => write!(f, "the unit '{unit}' that is billed has no price"),
            Self::Order => f.write_str("prices must be in the order of their days"),
        }
    }
}

impl std::error::Error for PriceError {}

/// A checked [`Price`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// The first day it holds.
    pub from: Day,
    pub currency: Currency,
    /// Where the figures were read, and when if that is known.
    pub source: String,
    pub read: Option<Day>,
    base: Rates,
    /// By prompt size, smallest first.
    above: Vec<(u64, Rates)>,
    per_unit: BTreeMap<String, Decimal>,
    bill: Option<String>,
    version: String,
}

/// Prices for a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rates {
    classes: [Option<Decimal>; Class::ALL.len()],
    parts: Vec<(String, Class, Decimal)>,
}

impl Rates {
    fn new(amounts: &Amounts) -> Result<Self, PriceError> {
        let mut rates = Self::default();
        for (name, amount) in &amounts.per_million {
            let class = Class::named(name).ok_or_else(|| PriceError::Class(name.clone()))?;
            rates.classes[class as usize] = Some(rate(name, amount)?);
        }
        for (unit, part) in &amounts.parts {
            let class = Class::named(&part.of).ok_or_else(|| PriceError::Class(part.of.clone()))?;
            rates.parts.push((unit.clone(), class, rate(unit, &part.per_million)?));
        }
        Ok(rates)
    }

    fn of(&self, class: Class) -> Option<Decimal> {
        self.classes[class as usize].or(self.classes[class.whole() as usize])
    }
}

fn rate(name: &str, amount: &str) -> Result<Decimal, PriceError> {
    let rate = amount.parse().ok().filter(|rate: &Decimal| rate.digits() <= PER_MILLION_DIGITS);
    rate.ok_or_else(|| PriceError::Amount(name.to_owned()))
}

/// What a vendor counted, or what is expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts<'a> {
    /// All tokens of the prompt.
    pub input: u64,
    /// Of `input`.
    pub cache_read: u64,
    /// Of `input`.
    pub cache_write: u64,
    /// All tokens of the answer.
    pub output: u64,
    /// Of `output`.
    pub reasoning: u64,
    /// Requests that the vendor served.
    pub requests: u64,
    /// Other units by the vendor's names.
    pub units: Vec<(&'a str, Decimal)>,
}

/// What it costs, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost<'a> {
    pub currency: Currency,
    pub total: Decimal,
    /// What the total is the sum of.
    pub items: Vec<Item<'a>>,
    /// Classes and units that were counted and have no price.
    pub unpriced: Vec<&'a str>,
}

/// A line of a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// A class of tokens or a unit.
    pub what: &'a str,
    pub quantity: Decimal,
    pub amount: Decimal,
}

/// A cost beyond what [`Decimal`] holds: the counts are nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the vendor's counts are too large to be true")
    }
}

impl std::error::Error for TooLarge {}

impl Tariff {
    /// # Errors
    /// If a name, a day or an amount of it can't be used.
    pub fn new(price: &Price) -> Result<Self, PriceError> {
        let mut above = Vec::new();
        for step in &price.above {
            above.push((step.tokens, Rates::new(&step.amounts)?));
        }
        if !above.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(PriceError::Steps);
        }
        let mut per_unit = BTreeMap::new();
        for (unit, amount) in &price.per_unit {
            let amount = amount.parse().map_err(|_| PriceError::Amount(unit.clone()))?;
            per_unit.insert(unit.clone(), amount);
        }
        let unpriced = |unit: &&String| !per_unit.contains_key(*unit);
        if let Some(unit) = price.bill.as_ref().filter(unpriced) {
            return Err(PriceError::Bill(unit.clone()));
        }
        let from = price.from.parse()?;
        Ok(Self {
            from,
            currency: price.currency.parse()?,
            source: price.source.clone(),
            read: price.read.as_deref().map(str::parse).transpose()?,
            base: Rates::new(&price.amounts)?,
            above,
            per_unit,
            bill: price.bill.clone(),
            version: format!("{from}-{:08x}", fingerprint(price)),
        })
    }

    /// Names these prices and no others: the day they hold from and a fingerprint of all figures,
    /// so that a corrected figure is another version. Fit to be kept with each bill.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// What one request of so many tokens is expected to cost, none of them cached and none spent on
    /// reasoning. None if the prompt, or an answer of more than no tokens, has no price, or the bill
    /// is by a unit that nobody can foresee.
    pub fn expected(&self, input: u64, output: u64) -> Option<Decimal> {
        if self.bill.is_some() {
            return None;
        }
        let above = self.above.iter().rev().find(|(tokens, _)| input > *tokens);
        let rates = above.map_or(&self.base, |(_, rates)| rates);
        let cost = |class, count| match count {
            0 => Some(Decimal::ZERO),
            count => rates.of(class)?.per_million(count),
        };
        let tokens = cost(Class::Input, input)?.checked_add(cost(Class::Output, output)?)?;
        tokens.checked_add(self.per_unit.get(REQUEST).copied().unwrap_or(Decimal::ZERO))
    }

    /// What a million tokens of a class cost, for prompts of any size below the first step.
    pub fn per_million(&self, class: Class) -> Option<Decimal> {
        self.base.of(class)
    }

    /// The sizes of prompts above which other prices hold, smallest first, each with what a million
    /// tokens of a class cost there.
    pub fn steps(&self, class: Class) -> impl Iterator<Item = (u64, Option<Decimal>)> {
        self.above.iter().map(move |(tokens, rates)| (*tokens, rates.of(class)))
    }

    /// # Errors
    /// If the cost is beyond all measure.
    pub fn cost<'a>(&'a self, counts: &Counts<'a>) -> Result<Cost<'a>, TooLarge> {
        let mut bill = Bill::new(self.currency);
        let billed = self.bill.as_deref().and_then(|unit| {
            counts.units.iter().find(|(name, _)| *name == unit).map(|(_, amount)| (unit, *amount))
        });
        if let Some((unit, amount)) = billed {
            bill.unit(unit, amount, self.per_unit.get(unit).copied())?;
            return Ok(bill.cost);
        }
        let above = self.above.iter().rev().find(|(tokens, _)| counts.input > *tokens);
        let rates = above.map_or(&self.base, |(_, rates)| rates);
        let cached = counts.cache_read.saturating_add(counts.cache_write);
        let tokens = [
            (Class::Input, counts.input.saturating_sub(cached)),
            (Class::CacheRead, counts.cache_read),
            (Class::CacheWrite, counts.cache_write),
            (Class::Output, counts.output.saturating_sub(counts.reasoning)),
            (Class::Reasoning, counts.reasoning.min(counts.output)),
        ];
        let mut used = BTreeSet::new();
        for (class, count) in tokens {
            let mut left = count;
            for (unit, _, rate) in rates.parts.iter().filter(|part| part.1 == class) {
                let found = counts.units.iter().find(|(name, _)| name == unit);
                let Some((name, amount)) = found else { continue };
                used.insert(*name);
                let count = amount.floor().min(left);
                left -= count;
                bill.tokens(unit, count, Some(*rate))?;
            }
            bill.tokens(class.as_str(), left, rates.of(class))?;
        }
        if let Some(&price) = self.per_unit.get(REQUEST) {
            bill.unit(REQUEST, Decimal::whole(counts.requests), Some(price))?;
        }
        for (name, amount) in counts.units.iter().filter(|(name, _)| !used.contains(name)) {
            bill.unit(name, *amount, self.per_unit.get(*name).copied())?;
        }
        Ok(bill.cost)
    }
}

struct Bill<'a> {
    cost: Cost<'a>,
}

impl<'a> Bill<'a> {
    fn new(currency: Currency) -> Self {
        let (items, unpriced) = (Vec::new(), Vec::new());
        Self { cost: Cost { currency, total: Decimal::ZERO, items, unpriced } }
    }

    fn tokens(&mut self, what: &'a str, count: u64, rate: Option<Decimal>) -> Result<(), TooLarge> {
        let amount = rate.map(|rate| rate.per_million(count).ok_or(TooLarge)).transpose()?;
        self.add(what, Decimal::whole(count), amount)
    }

    fn unit(
        &mut self,
        what: &'a str,
        quantity: Decimal,
        price: Option<Decimal>,
    ) -> Result<(), TooLarge> {
        let amount = price.map(|price| price.checked_mul(quantity).ok_or(TooLarge)).transpose()?;
        self.add(what, quantity, amount)
    }

    fn add(
        &mut self,
        what: &'a str,
        quantity: Decimal,
        amount: Option<Decimal>,
    ) -> Result<(), TooLarge> {
        match amount {
            _ if quantity == Decimal::ZERO => {}
            None => self.cost.unpriced.push(what),
            Some(amount) => {
                self.cost.total = self.cost.total.checked_add(amount).ok_or(TooLarge)?;
                self.cost.items.push(Item { what, quantity, amount });
            }
        }
        Ok(())
    }
}

/// FNV-1a, folded: it tells versions of one price list apart, and protects from nothing.
fn fingerprint(price: &Price) -> u32 {
    // A price is made of strings, numbers and ordered maps: it always has one JSON form.
    let text = serde_json::to_string(price).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

/// A model's prices in the order of their days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList(Vec<Arc<Tariff>>);

impl PriceList {
    /// # Errors
    /// If a price can't be used, or one is dated before the one it follows.
    pub fn new(prices: &[Price]) -> Result<Self, PriceError> {
        let tariff = |price| Tariff::new(price).map(Arc::new);
        let tariffs = prices.iter().map(tariff).collect::<Result<Vec<_>, _>>()?;
        match tariffs.is_sorted_by(|a, b| a.from < b.from) {
            true => Ok(Self(tariffs)),
            false => Err(PriceError::Order),
        }
    }

    /// The tariff that holds on a day; none before the first.
    pub fn on(&self, day: Day) -> Option<&Arc<Tariff>> {
        self.0.iter().rev().find(|tariff| tariff.from <= day)
    }

    pub fn tariffs(&self) -> &[Arc<Tariff>] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
