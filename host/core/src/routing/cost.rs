//! What a request is expected to cost at a provider, and so where it goes first.
//!
//! The prompt is counted by the host; of the answer nobody knows the length, so a usual one is taken,
//! the same for all candidates. Only dollars are compared: of other currencies the rate is unknown, and
//! such a price counts as none.
//!
//! [`expected`] asks the tariff itself. [`Pricing`] is the same function of a request's size, made
//! once: it can be compared, and costs two multiplications.

use keyward_contract::{
    Decimal, OperationKind, ProviderKind,
    price::{Class, Currency, Day, PriceList, Tariff},
};

use super::Ask;

/// Tokens of an answer, where the caller sets no lower limit: what people's questions take in the
/// middle. It weighs the price of the answer against that of the prompt and bills nothing.
const USUAL_ANSWER: u64 = 500;

/// In dollars. A local provider without prices costs nothing.
pub(super) fn expected(ask: &Ask, kind: ProviderKind, tariff: Option<&Tariff>) -> Option<Decimal> {
    let Some(tariff) = tariff else {
        return without_prices(kind);
    };
    if tariff.currency() != Currency::USD {
        return None;
    }
    let Size { prompt, answer } = Size::of(ask);
    tariff.expected(prompt, answer)
}

fn without_prices(kind: ProviderKind) -> Option<Decimal> {
    (kind == ProviderKind::Local).then_some(Decimal::ZERO)
}

/// All of a request that its cost depends on, in tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    prompt: u64,
    answer: u64,
}

impl Size {
    pub fn of(ask: &Ask) -> Self {
        let answer = ask.max_output.map_or(USUAL_ANSWER, |most| u64::from(most).min(USUAL_ANSWER));
        let answer = if ask.operation == OperationKind::Embed { 0 } else { answer };
        Self { prompt: ask.tokens.0, answer }
    }
}

/// What a model costs. Equal ones cost the same, whatever is asked and on any day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pricing {
    /// Where no prices hold.
    without: Option<Decimal>,
    /// From these days on, the earliest first. None where nobody can foresee a cost in dollars.
    tariffs: Vec<(Day, Option<Rates>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rates {
    /// For each request.
    request: Decimal,
    base: Rate,
    /// For prompts larger than that, the smallest first.
    above: Vec<(u64, Rate)>,
}

/// A token's prices, if it has some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rate {
    prompt: Option<Decimal>,
    answer: Option<Decimal>,
}

impl Pricing {
    pub fn new(kind: ProviderKind, prices: Option<&PriceList>) -> Self {
        let tariffs = prices.map(PriceList::tariffs).unwrap_or_default();
        let tariffs = tariffs.iter().map(|tariff| (tariff.from, Rates::new(tariff)));
        Self { without: without_prices(kind), tariffs: tariffs.collect() }
    }

    /// As [`expected`] for a request of this size.
    pub fn expected(&self, size: Size, today: Day) -> Option<Decimal> {
        let Some((_, rates)) = self.tariffs.iter().rev().find(|(from, _)| *from <= today) else {
            return self.without;
        };
        rates.as_ref()?.expected(size)
    }
}

impl Rates {
    fn new(tariff: &Tariff) -> Option<Self> {
        if tariff.currency() != Currency::USD {
            return None;
        }
        // Prices have so few digits that a token's is exact.
        let token = |million: Option<Decimal>| million.and_then(|million| million.per_million(1));
        let rate = |prompt, answer| Rate { prompt: token(prompt), answer: token(answer) };
        let steps = tariff.steps(Class::Input).zip(tariff.steps(Class::Output));
        Some(Self {
            request: tariff.expected(0, 0)?,
            base: rate(tariff.per_million(Class::Input), tariff.per_million(Class::Output)),
            above: steps
                .map(|((tokens, prompt), (_, answer))| (tokens, rate(prompt, answer)))
                .collect(),
        })
    }

    fn expected(&self, Size { prompt, answer }: Size) -> Option<Decimal> {
        let above = self.above.iter().rev().find(|(tokens, _)| prompt > *tokens);
        let rate = above.map_or(&self.base, |(_, rate)| rate);
        let cost = |price: Option<Decimal>, count| match count {
            0 => Some(Decimal::ZERO),
            count => price?.times(count),
        };
        let tokens = cost(rate.prompt, prompt)?.checked_add(cost(rate.answer, answer)?)?;
        tokens.checked_add(self.request)
    }
}
