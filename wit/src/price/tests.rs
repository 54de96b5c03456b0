use super::*;

fn price(json: &str) -> Price {
    serde_json::from_str(json).unwrap()
}

/// A vendor with everything.
fn all() -> Price {
    price(
        r#"{"from": "2026-01-01", "currency": "USD", "source": "https://v.example/prices",
            "per_million": {"input": "2", "cache-read": "0.2", "cache-write": "2.5", "output": "10"},
            "parts": {"hour_tokens": {"of": "cache-write", "per_million": "4"},
                "audio_tokens": {"of": "input", "per_million": "8"}},
            "above": [{"tokens": 200000,
                "per_million": {"input": "4", "cache-read": "0.4", "cache-write": "5", "output": "15"},
                "parts": {"hour_tokens": {"of": "cache-write", "per_million": "8"}}}],
            "per_unit": {"request": "0.001", "searches": "0.01"}}"#,
    )
}

fn total(price: &Price, counts: &Counts<'_>) -> String {
    Tariff::new(price).unwrap().cost(counts).unwrap().total.to_string()
}

#[test]
fn each_class_is_billed_once_and_parts_of_it_at_their_own_price() {
    let counts = Counts {
        input: 1000,
        cache_read: 300,
        cache_write: 200,
        output: 50,
        reasoning: 20,
        requests: 1,
        units: vec![
            ("hour_tokens", Decimal::whole(150)),
            ("audio_tokens", Decimal::whole(100)),
            ("searches", Decimal::whole(2)),
        ],
    };
    let price = all();
    let tariff = Tariff::new(&price).unwrap();
    let cost = tariff.cost(&counts).unwrap();
    let items: Vec<(&str, String)> =
        cost.items.iter().map(|item| (item.what, item.amount.to_string())).collect();
    let expected = [
        ("audio_tokens", "0.0008"),  // 100 * 8
        ("input", "0.0008"),         // 400 * 2
        ("cache-read", "0.00006"),   // 300 * 0.2
        ("hour_tokens", "0.0006"),   // 150 * 4
        ("cache-write", "0.000125"), // 50 * 2.5
        ("output", "0.0003"),        // 30 * 10
        ("reasoning", "0.0002"),     // 20 * 10
        ("request", "0.001"),
        ("searches", "0.02"),
    ];
    assert_eq!(items, expected.map(|(what, amount)| (what, amount.to_owned())));
    assert_eq!(cost.total.to_string(), "0.023885");
    assert!(cost.unpriced.is_empty());
}

#[test]
fn a_long_prompt_has_its_price_in_every_class_and_for_the_whole_of_it() {
    // Its cached tokens count: 200000 isn't beyond 200000, one more is.
    let counts = |input| Counts { input, cache_read: 100_000, output: 10, ..Counts::default() };
    // 100000 * 2 + 100000 * 0.2 + 10 * 10
    assert_eq!(total(&all(), &counts(200_000)), "0.2201");
    // 100001 * 4 + 100000 * 0.4 + 10 * 15
    assert_eq!(total(&all(), &counts(200_001)), "0.440154");
}

#[test]
fn a_class_without_a_price_costs_what_it_is_part_of() {
    let plain = price(
        r#"{"from": "2026-01-01", "currency": "EUR", "source": "",
            "per_million": {"input": "1", "output": "3"}}"#,
    );
    let counts = Counts {
        input: 10,
        cache_read: 4,
        cache_write: 3,
        output: 7,
        reasoning: 5,
        ..Counts::default()
    };
    assert_eq!(total(&plain, &counts), "0.000031");
}

#[test]
fn what_is_counted_and_has_no_price_is_named() {
    let embed = price(
        r#"{"from": "2026-01-01", "currency": "USD", "source": "",
            "per_million": {"input": "0.02"}, "per_unit": {"images": "0"}}"#,
    );
    let tariff = Tariff::new(&embed).unwrap();
    let units = vec![("images", Decimal::whole(1)), ("credits", Decimal::whole(1))];
    let counts = Counts { input: 5, output: 1, units, ..Counts::default() };
    assert_eq!(tariff.cost(&counts).unwrap().unpriced, ["output", "credits"]);
}

#[test]
fn the_unit_that_is_billed_is_the_whole_bill() {
    let cloud = price(
        r#"{"from": "2026-01-01", "currency": "USD", "source": "", "bill": "neurons",
            "per_million": {"input": "0.06", "output": "0.4"}, "per_unit": {"neurons": "0.000011"}}"#,
    );
    let tokens = Counts { input: 1000, output: 10, ..Counts::default() };
    assert_eq!(total(&cloud, &tokens), "0.000064");
    let neurons = Counts { units: vec![("neurons", Decimal::from_f64(1.98).unwrap())], ..tokens };
    assert_eq!(total(&cloud, &neurons), "0.00002178");
}

#[test]
fn counts_that_contradict_each_other_bill_nothing_twice() {
    let counts = Counts {
        input: 10,
        cache_read: 8,
        cache_write: 8,
        output: 1,
        reasoning: 5,
        units: vec![("hour_tokens", Decimal::whole(u64::MAX))],
        ..Counts::default()
    };
    // 8 * 0.2 + 8 * 4 + 1 * 10
    assert_eq!(total(&all(), &counts), "0.0000436");
    let mad = Counts { input: u64::MAX, ..Counts::default() };
    let dear = price(
        r#"{"from": "2026-01-01", "currency": "USD", "source": "",
            "per_million": {"input": "1000"}}"#,
    );
    assert_eq!(Tariff::new(&dear).unwrap().cost(&mad), Err(TooLarge));
}

#[test]
fn a_price_holds_from_its_day_until_the_next() {
    let dated = |from: &str| Price { from: from.to_owned(), ..all() };
    let list = PriceList::new(&[dated("2026-01-01"), dated("2026-10-07")]).unwrap();
    let on = |day: &str| list.on(day.parse().unwrap()).map(|tariff| tariff.from.to_string());
    assert_eq!(on("2025-12-31"), None);
    assert_eq!(on("2026-10-06").as_deref(), Some("2026-01-01"));
    assert_eq!(on("2026-10-07").as_deref(), Some("2026-10-07"));
    assert_eq!(on("2030-01-01").as_deref(), Some("2026-10-07"));
    let backwards = PriceList::new(&[dated("2026-10-07"), dated("2026-01-01")]);
    assert_eq!(backwards, Err(PriceError::Order));
}

#[test]
fn a_corrected_figure_is_another_version() {
    let version = |price: &Price| Tariff::new(price).unwrap().version().to_owned();
    let mut corrected = all();
    corrected.amounts.per_million.insert("input".to_owned(), "2.1".to_owned());
    assert_ne!(version(&all()), version(&corrected));
    assert_eq!(version(&all()), version(&all()));
    assert!(version(&all()).starts_with("2026-01-01-"), "{}", version(&all()));
}

#[test]
fn days_are_days() {
    for (ms, day) in [
        (0, "1970-01-01"),
        (951_782_399_999, "2000-02-28"),
        (951_782_400_000, "2000-02-29"),
        (1_767_225_600_000, "2026-01-01"),
        (1_798_761_599_999, "2026-12-31"),
        (4_107_542_400_000, "2100-03-01"),
    ] {
        assert_eq!(Day::of_ms(ms).to_string(), day);
        assert_eq!(day.parse(), Ok(Day::of_ms(ms)));
    }
    // Beyond all calendars, but an answer.
    Day::of_ms(u64::MAX);
    for text in [
        "",
        "2026-1-1",
        "2026-02-29",
        "2026-13-01",
        "2026-00-10",
        "+026-01-01",
        "2026/01/01",
        "20251-2-05",
        "2026-1-031",
    ] {
        assert!(text.parse::<Day>().is_err(), "{text}");
    }
}

#[test]
fn a_bad_price_says_what_is_wrong_with_it() {
    let said = |change: fn(&mut Price)| {
        let mut price = all();
        change(&mut price);
        Tariff::new(&price).unwrap_err().to_string()
    };
    for (change, part) in [
        ((|p| p.from = "today".to_owned()) as fn(&mut Price), "'today' is no day"),
        (|p| p.currency = "usd".to_owned(), "'usd' is no currency"),
        (
            |p| drop(p.amounts.per_million.insert("cached".into(), "1".into())),
            "class of tokens 'cached'",
        ),
        (|p| drop(p.amounts.per_million.insert("input".into(), "1,5".into())), "price of 'input'"),
        (
            |p| drop(p.amounts.per_million.insert("input".into(), "0.0000000000001".into())),
            "12 digits",
        ),
        (|p| p.bill = Some("neurons".into()), "'neurons' that is billed"),
        (|p| p.above.push(p.above[0].clone()), "order of size"),
    ] {
        assert!(said(change).contains(part), "{} / {part}", said(change));
    }
}
