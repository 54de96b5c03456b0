//! What the vendor counted, added up over several requests and divided among several callers.
//!
//! Shares follow the host's own count of each part. They are whole numbers whose sum is the vendor's:
//! what the division leaves goes to the last. Cached tokens stay a part of the prompt's in every share,
//! and reasoning a part of the answer's.

use keyward_contract::Decimal;

use crate::contract::{Unit, Usage};

/// Digits after the point in which other units are divided.
const UNIT_STEPS: u64 = 1_000_000_000;

/// A later count takes the place of what it gives.
pub(super) fn replace(known: &mut Usage, newer: Usage) {
    let Usage { input, cache_read, cache_write, output, reasoning, units } = newer;
    known.input = input.or(known.input);
    known.cache_read = cache_read.or(known.cache_read);
    known.cache_write = cache_write.or(known.cache_write);
    known.output = output.or(known.output);
    known.reasoning = reasoning.or(known.reasoning);
    for unit in units {
        match known.units.iter_mut().find(|known| known.name == unit.name) {
            Some(known) => known.amount = unit.amount,
            None => known.units.push(unit),
        }
    }
}

/// Two requests' counts together.
pub(super) fn sum(a: &Usage, b: &Usage) -> Usage {
    let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or_default().saturating_add(b.unwrap_or_default())),
    };
    let mut units = a.units.clone();
    for unit in &b.units {
        match units.iter_mut().find(|known| known.name == unit.name) {
            Some(known) => known.amount = added(known.amount, unit.amount),
            None => units.push(unit.clone()),
        }
    }
    Usage {
        input: add(a.input, b.input),
        cache_read: add(a.cache_read, b.cache_read),
        cache_write: add(a.cache_write, b.cache_write),
        output: add(a.output, b.output),
        reasoning: add(a.reasoning, b.reasoning),
        units,
    }
}

/// The sum as it is in decimal: 0.3 for 0.1 and 0.2.
fn added(a: f64, b: f64) -> f64 {
    let (exact_a, exact_b) = (Decimal::from_f64(a), Decimal::from_f64(b));
    let sum = exact_a.zip(exact_b).and_then(|(a, b)| a.checked_add(b));
    sum.map_or(a + b, number)
}

fn number(decimal: Decimal) -> f64 {
    decimal.to_string().parse().unwrap_or_default()
}

/// One share for each weight.
pub(super) fn shares(usage: &Usage, weights: &[u64]) -> Vec<Usage> {
    let Usage { input, cache_read, cache_write, output, reasoning, units } = usage;
    let prompt = divide_with_parts(*input, &[*cache_read, *cache_write], weights);
    let answer = divide_with_parts(*output, &[*reasoning], weights);
    let mut shares: Vec<Usage> = prompt
        .into_iter()
        .zip(answer)
        .map(|(prompt, answer)| Usage {
            input: prompt.whole,
            cache_read: prompt.parts[0],
            cache_write: prompt.parts[1],
            output: answer.whole,
            reasoning: answer.parts[0],
            units: Vec::new(),
        })
        .collect();
    for Unit { name, amount } in units {
        for (share, amount) in shares.iter_mut().zip(divide_amount(*amount, weights)) {
            share.units.push(Unit { name: name.clone(), amount });
        }
    }
    shares
}

struct Share {
    whole: Option<u64>,
    parts: Vec<Option<u64>>,
}

/// Divides a count whose parts are told, so that no part is larger than its whole.
fn divide_with_parts(whole: Option<u64>, parts: &[Option<u64>], weights: &[u64]) -> Vec<Share> {
    let known: u64 = parts.iter().flatten().fold(0, |sum, part| sum.saturating_add(*part));
    let rest = whole.and_then(|whole| whole.checked_sub(known));
    let columns: Vec<Option<Vec<u64>>> =
        parts.iter().map(|part| part.map(|part| divide(part, weights))).collect();
    let rests = rest.map(|rest| divide(rest, weights));
    // Parts larger than the whole are no parts of it: the vendor's word is divided as it is.
    let wholes = whole.filter(|_| rest.is_none()).map(|whole| divide(whole, weights));
    let share = |at: usize| {
        let parts: Vec<Option<u64>> =
            columns.iter().map(|column| column.as_ref().map(|shares| shares[at])).collect();
        let of_parts: u64 = parts.iter().flatten().sum();
        let whole = match (&rests, &wholes) {
            (Some(rests), _) => Some(rests[at] + of_parts),
            (None, Some(wholes)) => Some(wholes[at]),
            (None, None) => None,
        };
        Share { whole, parts }
    };
    (0..weights.len()).map(share).collect()
}

/// Divides a number by weights; their sum is the number. Without any weight all are equal.
fn divide(number: u64, weights: &[u64]) -> Vec<u64> {
    let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let count = weights.len() as u128;
    let mut left = number;
    let mut shares: Vec<u64> = weights
        .iter()
        .map(|weight| {
            let share = match all {
                0 => u128::from(number) / count,
                all => u128::from(number) * u128::from(*weight) / all,
            };
            let share = u64::try_from(share).unwrap_or(left).min(left);
            left -= share;
            share
        })
        .collect();
    if let Some(last) = shares.last_mut() {
        *last += left;
    }
    shares
}

/// Divides an amount in steps that decimals can name, so that the sum of the shares is the amount.
fn divide_amount(amount: f64, weights: &[u64]) -> Vec<f64> {
    let exact = Decimal::from_f64(amount).unwrap_or_default();
    let step = Decimal::whole(UNIT_STEPS);
    let steps = exact.checked_mul(step).map_or(0, Decimal::floor);
    let mut left = exact;
    let mut shares: Vec<f64> = divide(steps, weights)
        .into_iter()
        .map(|share| {
            let share = share as f64 / UNIT_STEPS as f64;
            let taken = Decimal::from_f64(share).unwrap_or_default();
            left = left.checked_sub(taken).unwrap_or_default();
            share
        })
        .collect();
    if let Some(last) = shares.last_mut() {
        *last = added(*last, number(left));
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(shares: &[Usage]) -> Usage {
        shares.iter().fold(Usage::default(), |all, share| sum(&all, share))
    }

    #[test]
    fn shares_follow_the_weights_and_what_is_left_goes_to_the_last() {
        assert_eq!(divide(10, &[1, 1, 2]), [2, 2, 6]);
        assert_eq!(divide(10, &[1, 1, 1]), [3, 3, 4]);
        assert_eq!(divide(2, &[0, 0, 0]), [0, 0, 2]);
        assert_eq!(divide(7, &[5]), [7]);
        assert_eq!(divide(u64::MAX, &[u64::MAX, 0]), [u64::MAX, 0]);
    }

    #[test]
    fn amounts_are_added_and_divided_as_decimals() {
        assert!((added(0.1, 0.2) - 0.3).abs() == 0.0);
        let shares = divide_amount(0.1, &[1, 1, 1]);
        assert_eq!(shares, [0.033_333_333, 0.033_333_333, 0.033_333_334]);
    }

    fn usages() -> impl Strategy<Value = Usage> {
        let count = || prop::option::of(0..2_000_u64);
        (count(), count(), count(), count(), count(), 0..10_000_000_u64).prop_map(
            |(input, cache_read, cache_write, output, reasoning, neurons)| Usage {
                input,
                cache_read,
                cache_write,
                output,
                reasoning,
                units: vec![Unit { name: "neurons".into(), amount: neurons as f64 / 1e4 }],
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_sum_of_all_shares_is_what_the_vendor_counted(
            usage in usages(),
            weights in prop::collection::vec(0..500_u64, 1..12),
        ) {
            let shares = shares(&usage, &weights);
            prop_assert_eq!(shares.len(), weights.len());
            let all = sum_of(&shares);
            prop_assert_eq!(all.input, usage.input);
            prop_assert_eq!(all.cache_read, usage.cache_read);
            prop_assert_eq!(all.cache_write, usage.cache_write);
            prop_assert_eq!(all.output, usage.output);
            prop_assert_eq!(all.reasoning, usage.reasoning);
            let exact = |usage: &Usage| Decimal::from_f64(usage.units[0].amount).unwrap();
            let sum = shares.iter().map(exact).fold(Decimal::ZERO, |all, one| {
                all.checked_add(one).unwrap()
            });
            prop_assert_eq!(sum, exact(&usage));
        }

        #[test]
        fn no_part_is_larger_than_its_whole(
            rest in 0..100_u64,
            read in 0..100_u64,
            write in 0..100_u64,
            weights in prop::collection::vec(0..50_u64, 1..12),
        ) {
            let usage = Usage {
                input: Some(rest + read + write),
                cache_read: Some(read),
                cache_write: Some(write),
                ..Usage::default()
            };
            for share in shares(&usage, &weights) {
                let parts = share.cache_read.unwrap() + share.cache_write.unwrap();
                prop_assert!(parts <= share.input.unwrap());
            }
        }
    }
}
