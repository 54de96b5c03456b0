//! Reading usage: single rows, and summaries by provider, model or caller.
//!
//! Both read the store from one moment to another and block meanwhile; a summary reads some
//! 150,000 rows a second. Rows still queued are not seen: call [`super::Meter::flush`] first.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Duration};

use jiff::Timestamp;
use keyward_contract::{Decimal, price::Currency};
use serde::Serialize;

use super::{
    AttemptRecord, Outcome, Tokens,
    chunk::{CHUNK_AGE, GAPS, LONGEST_ATTEMPT, ROWS, lines, time_key},
    record::micros,
};
use crate::{
    ids::{ModelName, ProviderName},
    store::{KeyRange, KeyValue, Order, StoreError, Tree},
};

/// The most groups of a summary. Callers may name any model, so there is no natural bound; rows of
/// further groups count in the total only.
pub const MAX_GROUPS: usize = 1000;

/// Attempts that began from `since` up to but not including `until`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Span {
    fn holds(self, row: &AttemptRecord) -> bool {
        self.since.is_none_or(|since| since <= row.started)
            && self.until.is_none_or(|until| row.started < until)
    }

    /// Where rows of this span can be.
    fn rows(self) -> KeyRange {
        let since = self.since.map(|since| since.saturating_sub(CHUNK_AGE).unwrap_or(since));
        let until = self.until.map(|until| until.saturating_add(LONGEST_ATTEMPT).unwrap_or(until));
        Self { since, until }.range(ROWS)
    }

    fn range(self, kind: u8) -> KeyRange {
        let from = self.since.map_or_else(|| vec![kind], |since| time_key(kind, since));
        let to = self.until.map_or_else(|| vec![kind + 1], |until| time_key(kind, until));
        KeyRange::between(from, to)
    }
}

/// `None` lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub provider: Option<ProviderName>,
    pub model: Option<ModelName>,
    pub caller: Option<Arc<str>>,
}

impl Filter {
    fn passes(&self, row: &AttemptRecord) -> bool {
        self.provider.as_ref().is_none_or(|name| *name == row.provider)
            && self.model.as_ref().is_none_or(|name| *name == row.model)
            && self.caller.as_ref().is_none_or(|name| *name == row.caller)
    }
}

#[derive(Clone, Debug)]
pub struct RowQuery {
    pub span: Span,
    pub filter: Filter,
    /// Rows returned at most.
    pub limit: usize,
    pub newest_first: bool,
}

/// The rows asked for, in the order their attempts ended. Rows that can't be read are left out.
pub fn rows(store: &dyn KeyValue, query: &RowQuery) -> Result<Vec<AttemptRecord>, StoreError> {
    let mut rows = Vec::new();
    if query.limit == 0 {
        return Ok(rows);
    }
    let order = if query.newest_first { Order::Descending } else { Order::Ascending };
    let mut take = |line: &[u8]| {
        match serde_json::from_slice::<AttemptRecord>(line) {
            Ok(row) if query.span.holds(&row) && query.filter.passes(&row) => rows.push(row),
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %e, "a usage row can't be read"),
        }
        if rows.len() < query.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    store.scan(Tree::Usage, &query.span.rows(), order, &mut |_, record| match order {
        Order::Ascending => lines(record).try_for_each(&mut take),
        Order::Descending => lines(record).rev().try_for_each(&mut take),
    })?;
    Ok(rows)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Provider,
    Model,
    Caller,
}

#[derive(Clone, Debug)]
pub struct SummaryQuery {
    pub span: Span,
    pub filter: Filter,
    pub by: GroupBy,
}

#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// By name.
    pub groups: Vec<Group>,
    pub total: Totals,
    /// Attempts of this time that were not recorded, because the disk could not follow. Not filtered:
    /// nothing is known of them.
    pub lost: u64,
    /// Rows that can't be read.
    pub unreadable: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Group {
    pub name: String,
    #[serde(flatten)]
    pub totals: Totals,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    pub attempts: u64,
    pub succeeded: u64,
    pub cancelled: u64,
    /// By failure kind.
    pub failed: BTreeMap<&'static str, u64>,
    pub input: Tokens,
    pub cache_read: Tokens,
    pub cache_write: Tokens,
    pub output: Tokens,
    pub reasoning: Tokens,
    /// Attempts whose tokens are the host's own count.
    pub estimated: u64,
    /// Attempts that were answered with a kept answer, at no cost.
    pub cached: u64,
    /// By currency. Exact for what has a price.
    pub cost: BTreeMap<Currency, Decimal>,
    /// Attempts that cost something no price is known for: `cost` is too low.
    pub unpriced: u64,
    /// Of attempts in which a vendor succeeded.
    pub latency: Distribution,
    /// Of attempts in which a vendor gave content.
    pub first_token: Distribution,
    /// Of all attempts.
    pub overhead: Distribution,
}

/// Zero where nothing was measured. Percentiles are exact to 2 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    #[serde(rename = "mean_us", with = "micros")]
    pub mean: Duration,
    #[serde(rename = "p50_us", with = "micros")]
    pub p50: Duration,
    #[serde(rename = "p95_us", with = "micros")]
    pub p95: Duration,
}

/// Adds up the rows of a span, in all and by group.
pub fn summarize(store: &dyn KeyValue, query: &SummaryQuery) -> Result<Summary, StoreError> {
    let mut total = Sums::default();
    let mut groups = BTreeMap::<String, Sums>::new();
    let (mut lost, mut unreadable) = (0_u64, 0_u64);
    store.scan(Tree::Usage, &query.span.rows(), Order::Ascending, &mut |_, record| {
        for line in lines(record) {
            let row = match serde_json::from_slice::<AttemptRecord>(line) {
                Ok(row) if query.span.holds(&row) && query.filter.passes(&row) => row,
                Ok(_) => continue,
                Err(_) => {
                    unreadable += 1;
                    continue;
                }
            };
            total.add(&row);
            let name = match query.by {
                GroupBy::Provider => row.provider.as_str(),
                GroupBy::Model => row.model.as_str(),
                GroupBy::Caller => &row.caller,
            };
            if let Some(group) = groups.get_mut(name) {
                group.add(&row);
            } else if groups.len() < MAX_GROUPS {
                groups.entry(name.to_owned()).or_default().add(&row);
            }
        }
        ControlFlow::Continue(())
    })?;
    store.scan(Tree::Usage, &query.span.range(GAPS), Order::Ascending, &mut |_, count| {
        let count = count.try_into().map_or(0, u64::from_be_bytes);
        lost = lost.saturating_add(count);
        ControlFlow::Continue(())
    })?;
    let groups = groups.into_iter();
    Ok(Summary {
        groups: groups.map(|(name, sums)| Group { name, totals: sums.finish() }).collect(),
        total: total.finish(),
        lost,
        unreadable,
    })
}

#[derive(Default)]
struct Sums {
    totals: Totals,
    latency: Histogram,
    first_token: Histogram,
    overhead: Histogram,
}

impl Sums {
    fn add(&mut self, row: &AttemptRecord) {
        let totals = &mut self.totals;
        totals.attempts += 1;
        match row.outcome {
            Outcome::Ok => {
                totals.succeeded += 1;
                if !row.cached {
                    self.latency.add(row.latency);
                }
            }
            Outcome::Failed { kind, .. } => *totals.failed.entry(kind.as_str()).or_default() += 1,
            Outcome::Cancelled => totals.cancelled += 1,
        }
        let tokens = row.tokens;
        totals.input = totals.input + tokens.input.unwrap_or_default();
        totals.cache_read = totals.cache_read + tokens.cache_read.unwrap_or_default();
        totals.cache_write = totals.cache_write + tokens.cache_write.unwrap_or_default();
        totals.output = totals.output + tokens.output.unwrap_or_default();
        totals.reasoning = totals.reasoning + tokens.reasoning.unwrap_or_default();
        totals.estimated += u64::from(row.estimated);
        totals.cached += u64::from(row.cached);
        if let Some(charge) = &row.charge {
            let sum = totals.cost.entry(charge.currency).or_default();
            // Beyond 10^20 dollars there is no better answer.
            *sum = sum.checked_add(charge.amount).unwrap_or(*sum);
        }
        let unpriced = row.charge.as_ref().is_none_or(|c| !c.unpriced.is_empty());
        totals.unpriced += u64::from(unpriced && !row.cached);
        if let Some(first) = row.first_token.filter(|_| !row.cached) {
            self.first_token.add(first);
        }
        self.overhead.add(row.overhead);
    }

    fn finish(mut self) -> Totals {
        self.totals.latency = self.latency.distribution();
        self.totals.first_token = self.first_token.distribution();
        self.totals.overhead = self.overhead.distribution();
        self.totals
    }
}

/// Counts of durations in buckets that widen with their size: each power of two is cut in
/// [`STEPS`], so a bucket's middle is within 1/64 of what it holds. At most 15 KB.
#[derive(Default)]
struct Histogram {
    count: u64,
    sum_us: u128,
    /// As many buckets as the largest duration needed.
    buckets: Vec<u64>,
}

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;

impl Histogram {
    fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(us);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_us += u128::from(us);
    }

    fn distribution(&self) -> Distribution {
        let mean = self.sum_us.checked_div(u128::from(self.count)).unwrap_or(0);
        Distribution {
            mean: Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX)),
            p50: self.percentile(50),
            p95: self.percentile(95),
        }
    }

    /// The value below or at which `percent` of the durations are.
    fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return Duration::from_micros(middle(bucket));
            }
        }
        Duration::ZERO
    }
}

/// Values below [`STEPS`] have a bucket each; above, the top bits after the first choose it.
fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let power = us.ilog2();
    let step = (us >> (power - STEP_BITS)) - STEPS;
    (u64::from(power - STEP_BITS + 1) * STEPS + step) as usize
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (octave, step) = (bucket / STEPS, bucket % STEPS);
    match octave.checked_sub(1) {
        None => step,
        Some(shift) => {
            let low = (STEPS + step) << shift;
            low + ((1_u64 << shift) >> 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_a_known_series_are_right_to_two_percent() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let found = histogram.distribution();
        let near = |found: Duration, wanted: f64| {
            (found.as_secs_f64() * 1000.0 / wanted - 1.0).abs() < 0.02
        };
        assert!(near(found.p50, 5_000.0), "{found:?}");
        assert!(near(found.p95, 9_500.0), "{found:?}");
        assert_eq!(found.mean, Duration::from_micros(5_000_500));
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(Histogram::default().distribution(), Distribution::default());
    }

    proptest! {
        #[test]
        fn a_bucket_represents_what_it_holds(us in any::<u64>()) {
            let shown = middle(bucket(us));
            prop_assert!(shown.abs_diff(us) <= us / 64 + 1, "{us} shown as {shown}");
            prop_assert!(bucket(us) < 2000);
        }
    }
}
