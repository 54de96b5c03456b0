//! The meter against a real store, a slow one and a broken one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use keyward_contract::{
    Decimal, OperationKind, Price,
    price::{Currency, Tariff},
};

use super::*;
use crate::{
    contract::{Unit, Usage},
    failure::{FailureKind, Fault},
    ids::{ModelName, ProviderName, RequestId},
    store::{Batch, DataDir, KeyRange, KeyValue, Order, SledStore, Store, StoreError, Tree, Visit},
};

fn sled() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = SledStore::open(&DataDir::open(temp.path()).unwrap()).unwrap();
    (temp, Arc::new(store))
}

fn row(n: u64) -> AttemptRecord {
    AttemptRecord {
        request: RequestId(u128::from(n)),
        attempt: 1,
        started: at(i64::try_from(n).unwrap()).unwrap(),
        caller: "local".into(),
        provider: ProviderName::new("openai").unwrap(),
        model: ModelName::new("gpt-5").unwrap(),
        operation: OperationKind::Chat,
        streamed: true,
        tokens: TokenUsage {
            input: Some(Tokens(100)),
            output: Some(Tokens(10)),
            ..TokenUsage::default()
        },
        units: BTreeMap::from([("searches".into(), Decimal::whole(2))]),
        estimated: false,
        cached: false,
        charge: Some(Charge {
            amount: "0.00135".parse().unwrap(),
            currency: Currency::USD,
            prices: "2026-01-01-00c0ffee".into(),
            unpriced: vec!["searches".into()],
        }),
        latency: Duration::from_millis(n),
        first_token: Some(Duration::from_millis(1)),
        overhead: Duration::from_micros(70),
        outcome: Outcome::Ok,
        vendor_request_id: Some("req_123".into()),
    }
}

fn failed(n: u64, kind: FailureKind) -> AttemptRecord {
    AttemptRecord { outcome: Outcome::Failed { kind, fault: Fault::Vendor }, ..row(n) }
}

fn at(n: i64) -> Option<Timestamp> {
    static BASE: LazyLock<i64> = LazyLock::new(|| Timestamp::now().as_microsecond());
    Timestamp::from_microsecond(*BASE + n).ok()
}

fn everything() -> RowQuery {
    RowQuery {
        span: Span::default(),
        filter: Filter::default(),
        limit: usize::MAX,
        newest_first: false,
    }
}

fn by(by: GroupBy) -> SummaryQuery {
    SummaryQuery { span: Span::default(), filter: Filter::default(), by }
}

#[test]
fn rows_read_back_as_they_were_also_after_a_restart() {
    let (temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let kept: Vec<_> = vec![
        row(1),
        failed(2, FailureKind::RateLimited),
        AttemptRecord {
            outcome: Outcome::Cancelled,
            first_token: None,
            vendor_request_id: None,
            tokens: TokenUsage::default(),
            ..row(3)
        },
    ];
    kept.iter().cloned().for_each(|row| meter.record(row));
    meter.flush().unwrap();
    assert_eq!(rows(&*store, &everything()).unwrap(), kept);
    drop((meter, store));
    let store = SledStore::open(&DataDir::open(temp.path()).unwrap()).unwrap();
    assert_eq!(rows(&store, &everything()).unwrap(), kept);
}

#[test]
fn what_is_queued_is_written_when_the_meter_goes() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let clone = meter.clone();
    (0..1000).for_each(|n| meter.record(row(n)));
    drop((meter, clone));
    assert_eq!(rows(&*store, &everything()).unwrap().len(), 1000);
}

#[test]
fn rows_reach_the_disk_by_themselves_within_the_interval() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    meter.record(row(1));
    let begun = Instant::now();
    while rows(&*store, &everything()).unwrap().is_empty() {
        assert!(begun.elapsed() < 20 * COMMIT_INTERVAL);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn rows_are_found_by_time_filter_limit_and_order() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    (0..10).for_each(|n| meter.record(row(n)));
    meter.record(AttemptRecord { provider: ProviderName::new("ollama").unwrap(), ..row(10) });
    meter.record(AttemptRecord { caller: "alice".into(), ..row(11) });
    meter.flush().unwrap();
    let found = |query: RowQuery| {
        let rows = rows(&*store, &query).unwrap();
        rows.iter().map(|row| row.request.0).collect::<Vec<_>>()
    };
    let span = Span { since: at(3), until: at(6) };
    assert_eq!(found(RowQuery { span, ..everything() }), [3, 4, 5]);
    assert_eq!(found(RowQuery { limit: 2, newest_first: true, ..everything() }), [11, 10]);
    assert!(found(RowQuery { limit: 0, ..everything() }).is_empty());
    let ollama = Filter { provider: ProviderName::new("ollama").ok(), ..Filter::default() };
    assert_eq!(found(RowQuery { filter: ollama, ..everything() }), [10]);
    let alice = Filter { caller: Some("alice".into()), ..Filter::default() };
    assert_eq!(found(RowQuery { filter: alice, ..everything() }), [11]);
    let span = Span { since: at(6), until: at(3) };
    assert!(found(RowQuery { span, ..everything() }).is_empty());
}

#[test]
fn a_summary_adds_up_attempts_failures_tokens_and_times() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    (1..=100).for_each(|n| meter.record(row(n)));
    meter.record(failed(200, FailureKind::RateLimited));
    meter.record(failed(201, FailureKind::RateLimited));
    meter.record(failed(202, FailureKind::Timeout));
    meter.record(AttemptRecord { outcome: Outcome::Cancelled, estimated: true, ..row(203) });
    meter.flush().unwrap();
    let summary = summarize(&*store, &by(GroupBy::Provider)).unwrap();
    assert_eq!(summary.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["openai"]);
    let total = &summary.total;
    assert_eq!((total.attempts, total.succeeded, total.cancelled), (104, 100, 1));
    assert_eq!(total.failed["rate-limited"], 2);
    assert_eq!(total.failed["timeout"], 1);
    assert_eq!((total.input, total.output), (Tokens(10_400), Tokens(1040)));
    assert_eq!(total.estimated, 1);
    assert!(total.latency.p50.abs_diff(Duration::from_millis(50)) < Duration::from_millis(2));
    assert!(total.latency.p95.abs_diff(Duration::from_millis(95)) < Duration::from_millis(3));
    assert_eq!(total.overhead.mean, Duration::from_micros(70));
    assert_eq!((summary.lost, summary.unreadable), (0, 0));
}

#[test]
fn a_summary_groups_by_what_is_asked_and_saturates() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let huge = TokenUsage { input: Some(Tokens(u64::MAX)), ..TokenUsage::default() };
    meter.record(AttemptRecord { tokens: huge, caller: "alice".into(), ..row(1) });
    meter.record(AttemptRecord { tokens: huge, caller: "alice".into(), ..row(2) });
    meter.record(AttemptRecord { caller: "bob".into(), ..row(3) });
    meter.flush().unwrap();
    let summary = summarize(&*store, &by(GroupBy::Caller)).unwrap();
    let names: Vec<_> =
        summary.groups.iter().map(|g| (g.name.as_str(), g.totals.attempts)).collect();
    assert_eq!(names, [("alice", 2), ("bob", 1)]);
    assert_eq!(summary.groups[0].totals.input, Tokens(u64::MAX));
    let models = summarize(&*store, &by(GroupBy::Model)).unwrap();
    assert_eq!(models.groups[0].name, "gpt-5");
}

#[test]
fn a_row_that_cannot_be_read_is_counted_not_fatal() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    meter.record(row(1));
    meter.flush().unwrap();
    let record = store.page(Tree::Usage, &KeyRange::all(), Order::Ascending, 1).unwrap().remove(0);
    let half = [&record.1[..], b"{\"half\":\n", &record.1].concat();
    store.put(Tree::Usage, &record.0, &half).unwrap();
    assert_eq!(rows(&*store, &everything()).unwrap().len(), 2);
    let summary = summarize(&*store, &by(GroupBy::Provider)).unwrap();
    assert_eq!((summary.total.attempts, summary.unreadable), (2, 1));
}

#[test]
fn an_attempt_that_took_long_is_found_by_when_it_began() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let hours = |n| Timestamp::now() - SignedDuration::from_hours(n);
    meter.record(AttemptRecord { started: hours(5), ..row(1) });
    meter.flush().unwrap();
    let found = |since, until| {
        let span = Span { since: Some(since), until: Some(until) };
        rows(&*store, &RowQuery { span, ..everything() }).unwrap().len()
    };
    assert_eq!(found(hours(6), hours(4)), 1);
    assert_eq!(found(hours(4), hours(-1)), 0);
}

#[test]
fn many_small_commits_make_few_records() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    for n in 0..50 {
        meter.record(row(n));
        meter.flush().unwrap();
    }
    let records = store.page(Tree::Usage, &KeyRange::all(), Order::Ascending, 100).unwrap();
    assert!(records.len() < 25, "{}", records.len());
    let found = rows(&*store, &everything()).unwrap();
    assert_eq!(
        found.iter().map(|row| row.request.0).collect::<Vec<_>>(),
        (0..50).collect::<Vec<_>>()
    );
}

#[test]
fn a_row_of_a_later_version_with_more_fields_still_reads() {
    let mut json = serde_json::to_value(row(1)).unwrap();
    json["cost"] = "0.01".into();
    assert_eq!(serde_json::from_value::<AttemptRecord>(json).unwrap(), row(1));
}

// ------------------------------------------------------------------ a disk that doesn't follow

/// A store that hangs or fails while told to.
struct Troubled {
    inner: Store,
    hang: AtomicBool,
    fail: AtomicBool,
}

impl KeyValue for Troubled {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(tree, key)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        while self.hang.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        if self.fail.load(Ordering::Relaxed) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::io("write", "store", full));
        }
        self.inner.write(batch)
    }

    fn scan(
        &self,
        tree: Tree,
        range: &KeyRange,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.inner.scan(tree, range, order, visit)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
}

fn troubled(hang: bool, fail: bool) -> (tempfile::TempDir, Arc<Troubled>) {
    let (temp, inner) = sled();
    (temp, Arc::new(Troubled { inner, hang: hang.into(), fail: fail.into() }))
}

#[test]
fn a_disk_that_hangs_delays_no_request_bounds_the_queue_and_the_loss_is_told() {
    let (_temp, store) = troubled(true, false);
    let meter = Meter::start(store.clone()).unwrap();
    let sent = 3 * QUEUE_LIMIT as u64;
    let begun = Instant::now();
    (0..sent).for_each(|n| meter.record(row(n)));
    assert!(begun.elapsed() < Duration::from_secs(2), "recording waited for the disk");
    let lost = meter.lost();
    assert!((QUEUE_LIMIT as u64..=2 * QUEUE_LIMIT as u64).contains(&lost), "{lost}");

    store.hang.store(false, Ordering::Relaxed);
    meter.flush().unwrap();
    drop(meter);
    let summary = summarize(&*store, &by(GroupBy::Provider)).unwrap();
    assert_eq!(summary.lost, lost);
    assert_eq!(summary.total.attempts + lost, sent, "every attempt is a row or a counted loss");
}

#[test]
fn rows_a_full_disk_refuses_are_kept_and_written_later() {
    let (_temp, store) = troubled(false, true);
    let meter = Meter::start(store.clone()).unwrap();
    meter.record(row(1));
    let error = meter.flush().unwrap_err();
    assert!(matches!(error, FlushError::Store(_)), "{error}");
    meter.record(row(2));
    store.fail.store(false, Ordering::Relaxed);
    meter.flush().unwrap();
    assert_eq!(rows(&*store, &everything()).unwrap().len(), 2);
    assert_eq!(meter.lost(), 0);
}

#[test]
fn a_broken_disk_does_not_keep_the_host_from_ending() {
    let (_temp, store) = troubled(false, true);
    let meter = Meter::start(store).unwrap();
    meter.record(row(1));
    let begun = Instant::now();
    drop(meter);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

// ------------------------------------------------------------------ reservations

fn estimate() -> Estimate {
    Estimate {
        request: RequestId(7),
        attempt: 2,
        caller: "alice".into(),
        provider: ProviderName::new("openai").unwrap(),
        model: ModelName::new("gpt-5").unwrap(),
        operation: OperationKind::Chat,
        streamed: true,
        tokens: TokenUsage { input: Some(Tokens(90)), ..TokenUsage::default() },
        tariff: None,
    }
}

fn used(input: Option<u64>, output: Option<u64>, units: &[(&str, f64)]) -> Usage {
    let unit = |&(name, amount): &(&str, f64)| Unit { name: name.to_owned(), amount };
    let units = units.iter().map(unit).collect();
    Usage { input, cache_read: None, cache_write: None, output, reasoning: None, units }
}

/// A dollar for a million tokens of the prompt, two of the answer, a cent a request and half a cent
/// a search.
fn tariff() -> Option<Arc<Tariff>> {
    let price: Price = serde_json::from_str(
        r#"{"from": "2026-01-01", "currency": "USD", "source": "s",
            "per_million": {"input": "1", "output": "2"}, "per_unit": {"request": "0.01", "searches": "0.005"}}"#,
    )
    .unwrap();
    Some(Arc::new(Tariff::new(&price).unwrap()))
}

fn only_row(store: &Store, meter: &Meter) -> AttemptRecord {
    meter.flush().unwrap();
    let mut rows = rows(&**store, &everything()).unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn a_settled_attempt_leaves_one_row_with_the_vendors_numbers() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let mut attempt = meter.reserve(&estimate()).unwrap();
    attempt.first_token();
    attempt.overhead(Duration::from_micros(80));
    attempt.vendor_request_id(&"x".repeat(1000));
    attempt.usage(&used(Some(100), None, &[]));
    attempt.usage(&used(None, Some(5), &[]));
    attempt.usage(&used(None, Some(9), &[]));
    attempt.settle(Outcome::Ok);
    let row = only_row(&store, &meter);
    assert_eq!((row.request, row.attempt, row.outcome), (RequestId(7), 2, Outcome::Ok));
    assert_eq!((row.tokens.input, row.tokens.output), (Some(Tokens(100)), Some(Tokens(9))));
    assert!(!row.estimated && row.first_token.is_some_and(|first| first <= row.latency));
    assert_eq!(row.vendor_request_id.map(|id| id.len()), Some(128));
}

#[test]
fn an_attempt_dropped_under_way_is_settled_as_cancelled_with_what_is_known() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    drop(meter.reserve(&estimate()).unwrap());
    let row = only_row(&store, &meter);
    assert_eq!(row.outcome, Outcome::Cancelled);
    assert_eq!(row.tokens.input, Some(Tokens(90)));
    assert!(row.estimated);
}

#[test]
fn a_row_has_the_exact_cost_and_the_version_of_its_prices() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let mut attempt = meter.reserve(&Estimate { tariff: tariff(), ..estimate() }).unwrap();
    attempt.usage(&used(Some(100), Some(1), &[("searches", 1.0)]));
    attempt.usage(&used(None, Some(7), &[("searches", 3.0), ("oddities", 0.5)]));
    attempt.settle(Outcome::Ok);
    let row = only_row(&store, &meter);
    let charge = row.charge.unwrap();
    assert_eq!(charge.amount.to_string(), "0.025114", "0.0001 + 0.000014 + 0.01 + 0.015");
    assert_eq!(charge.prices.as_ref(), tariff().unwrap().version());
    assert_eq!(charge.unpriced, ["oddities"]);
    assert_eq!(row.units["searches"], Decimal::whole(3));
    let totals = summarize(&*store, &by(GroupBy::Provider)).unwrap().total;
    assert_eq!(totals.cost[&Currency::USD].to_string(), "0.025114");
    assert_eq!(totals.unpriced, 1);
}

#[test]
fn what_a_vendor_refused_to_serve_costs_nothing_and_what_was_dropped_its_estimate() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let open = || meter.reserve(&Estimate { tariff: tariff(), ..estimate() }).unwrap();
    let mut refused = open();
    refused.usage(&used(Some(100), None, &[("searches", 1.0)]));
    refused.unserved();
    refused.settle(Outcome::Failed { kind: FailureKind::RateLimited, fault: Fault::Vendor });
    drop(open());
    meter.flush().unwrap();
    let rows = rows(&*store, &everything()).unwrap();
    let amounts: Vec<String> =
        rows.iter().map(|row| row.charge.as_ref().unwrap().amount.to_string()).collect();
    assert_eq!(amounts, ["0", "0.01009"]);
}

#[test]
fn an_adapters_flood_of_units_is_cut() {
    let (_temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    let mut attempt = meter.reserve(&estimate()).unwrap();
    let names: Vec<String> = (0..1000).map(|n| format!("unit-{n}")).collect();
    let units: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    let nonsense = [("x".repeat(1000), 1.0), ("nan".into(), f64::NAN), ("less".into(), -1.0)];
    let nonsense: Vec<(&str, f64)> = nonsense.iter().map(|(n, a)| (n.as_str(), *a)).collect();
    attempt.usage(&used(Some(1), None, &nonsense));
    attempt.usage(&used(Some(1), None, &units));
    attempt.settle(Outcome::Ok);
    let kept = only_row(&store, &meter).units;
    assert_eq!(kept.len(), 16);
    assert!(kept.keys().all(|name| name.starts_with("unit-")), "{kept:?}");
}

/// Run by hand: `cargo test -p keyward --release metering_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn metering_costs() {
    println!("before: {}", resident());
    let (temp, store) = sled();
    let meter = Meter::start(store.clone()).unwrap();
    println!("store and meter: {}", resident());
    let total = 200_000;
    let mut spent = Duration::ZERO;
    let mut worst = Duration::ZERO;
    for n in 0..total {
        let row = row(n);
        let begun = Instant::now();
        meter.record(row);
        let took = begun.elapsed();
        spent += took;
        worst = worst.max(took);
        if n % 500 == 499 {
            meter.flush().unwrap();
        }
    }
    println!("record: {:?} on average, {worst:?} at worst", spent / u32::try_from(total).unwrap());
    for _ in 0..5 {
        thread::sleep(COMMIT_INTERVAL * 2);
        let row = row(total);
        let begun = Instant::now();
        meter.record(row);
        println!("record after a pause: {:?}", begun.elapsed());
    }
    meter.flush().unwrap();
    println!("after writing: {}", resident());
    thread::sleep(Duration::from_secs(2));
    println!("a little later: {}", resident());
    let begun = Instant::now();
    let summary = summarize(&*store, &by(GroupBy::Provider)).unwrap();
    println!("summarize {} rows: {:?}", summary.total.attempts, begun.elapsed());
    println!("one row as JSON: {} bytes", serde_json::to_vec(&row(1)).unwrap().len());
    let size = std::fs::metadata(temp.path().join("store/db")).unwrap().len();
    println!("file: {} bytes a row; memory {}", size / total, resident());
    drop((meter, store));
    for n in 0..3 {
        let begun = Instant::now();
        let _store = SledStore::open(&DataDir::open(temp.path()).unwrap()).unwrap();
        println!("reopened, time {n}: {:?}; {}", begun.elapsed(), resident());
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
}

/// What commits leave in memory: a thousand minutes of a host that serves sixty requests a second
/// are 240,000 commits of fifteen rows. Run by hand, as `metering_costs`.
#[test]
#[ignore = "a measurement"]
fn commits_cost_memory() {
    let (_temp, store) = sled();
    let meter = Meter::start(store).unwrap();
    for rows in [15_u64, 125] {
        let mut number = 0;
        for part in 0..8 {
            for _ in 0..250 {
                for _ in 0..rows {
                    meter.record(row(number));
                    number += 1;
                }
                meter.flush().unwrap();
            }
            println!("{} commits of {rows} rows: {}", (part + 1) * 250, resident());
        }
    }
}
