//! Decisions, made from plain values: no adapter, no network, no clock.

use std::{collections::HashMap, sync::Arc};

use indexmap::IndexMap;
use keyward_contract::{Price, ProviderKind};
use proptest::prelude::*;

use super::*;
use crate::{
    config::{Order, Route, RouteTarget, Routing},
    models::ModelFacts,
};

const EXTERNAL: ProviderKind = ProviderKind::External;
const LOCAL: ProviderKind = ProviderKind::Local;

pub(super) fn model(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

pub(super) fn provider(name: &str) -> ProviderName {
    ProviderName::new(name).unwrap()
}

/// What a model's prices are for a million tokens of the prompt and of the answer.
pub(super) fn priced(id: &str, input: &str, output: &str) -> keyward_contract::Model {
    let price: Price = serde_json::from_value(serde_json::json!({
        "from": "2026-01-01", "currency": "USD", "source": "s",
        "per_million": {"input": input, "output": output},
    }))
    .unwrap();
    keyward_contract::Model { prices: vec![price], ..plain(id) }
}

pub(super) fn plain(id: &str) -> keyward_contract::Model {
    keyward_contract::Model { id: id.to_owned(), ..Default::default() }
}

pub(super) fn entry(kind: ProviderKind, models: &[keyward_contract::Model]) -> Entry {
    let facts: HashMap<ModelName, Arc<ModelFacts>> = crate::models::all_facts(&[], models);
    Entry {
        kind,
        state: Serves::Operations(vec![OperationKind::Chat]),
        models: models.iter().map(|known| model(&known.id)).collect(),
        aliases: HashMap::new(),
        facts: Arc::new(facts),
        auto: true,
        cost_tracking: true,
    }
}

fn roster(entries: Vec<(&str, Entry)>) -> Roster {
    with(entries, &[], Routing::default())
}

fn with(entries: Vec<(&str, Entry)>, routes: &[(&str, Route)], routing: Routing) -> Roster {
    let entries = entries.into_iter().map(|(name, entry)| (provider(name), entry)).collect();
    let routes: IndexMap<RouteName, Route> =
        routes.iter().map(|(name, r)| (RouteName::new(name).unwrap(), r.clone())).collect();
    Roster::new(entries, &routes, &routing)
}

pub(super) fn target(text: &str) -> RouteTarget {
    match text.split_once('/') {
        Some((name, rest)) => RouteTarget { provider: Some(provider(name)), model: model(rest) },
        None => RouteTarget { provider: None, model: model(text) },
    }
}

fn route(targets: &[&str], order: Order, sensitive: bool) -> Route {
    Route { candidates: targets.iter().map(|text| target(text)).collect(), order, sensitive }
}

fn ask(name: &str) -> Ask {
    Ask {
        model: model(name),
        operation: OperationKind::Chat,
        needs: Needs::default(),
        tokens: Tokens(1_000),
        max_output: None,
        sensitive: None,
        told: Vec::new(),
    }
}

fn sensitive(name: &str) -> Ask {
    Ask { sensitive: Some(Sensitive::Marked), ..ask(name) }
}

/// Everyone is fit, unless said otherwise.
#[derive(Default)]
struct World {
    down: Vec<(&'static str, Standing)>,
    latency: Vec<(&'static str, u64)>,
    keyless: Vec<&'static str>,
    open: Vec<(&'static str, u32)>,
    random: u64,
}

impl Outlook for World {
    fn open(&self, provider: &ProviderName) -> u32 {
        let known = self.open.iter().find(|(name, _)| *name == provider.as_str());
        known.map_or(0, |(_, open)| *open)
    }

    fn standing(&self, provider: &ProviderName, _: &ModelName) -> Standing {
        let known = self.down.iter().find(|(name, _)| *name == provider.as_str());
        known.map_or(Standing::Fit, |(_, standing)| *standing)
    }

    fn latency(&self, provider: &ProviderName, _: &ModelName) -> Option<Duration> {
        let known = self.latency.iter().find(|(name, _)| *name == provider.as_str());
        known.map(|(_, ms)| Duration::from_millis(*ms))
    }

    fn missing_key(&self, provider: &ProviderName) -> Option<String> {
        self.keyless.contains(&provider.as_str()).then(|| "run `keyward key set`".to_owned())
    }

    fn today(&self) -> Day {
        "2026-06-01".parse().unwrap()
    }

    fn random(&self) -> u64 {
        self.random
    }
}

fn names(decision: &Decision) -> Vec<String> {
    decision.candidates.iter().map(|c| format!("{}/{}", c.provider, c.model)).collect()
}

fn decided(roster: &Roster, ask: &Ask) -> Vec<String> {
    names(&roster.decide(ask, &World::default()))
}

// ---------------------------------------------------------------------- names

#[test]
fn without_routes_the_providers_of_a_model_stand_in_for_one_another() {
    let roster = roster(vec![
        ("a", entry(EXTERNAL, &[plain("m"), plain("other")])),
        ("b", entry(EXTERNAL, &[plain("m")])),
        ("c", entry(EXTERNAL, &[plain("n")])),
    ]);
    assert_eq!(decided(&roster, &ask("m")), ["a/m", "b/m"]);
    assert_eq!(decided(&roster, &ask("b/anything")), ["b/anything"]);
}

#[test]
fn an_alias_leads_to_its_model_also_behind_a_providers_name() {
    let mut with_alias = entry(EXTERNAL, &[plain("m-2026")]);
    with_alias.aliases.insert(model("m"), model("m-2026"));
    let roster = roster(vec![("a", with_alias), ("b", entry(EXTERNAL, &[plain("m")]))]);
    assert_eq!(decided(&roster, &ask("m")), ["a/m-2026", "b/m"]);
    assert_eq!(decided(&roster, &ask("a/m")), ["a/m-2026"]);
}

#[test]
fn an_unknown_model_is_told_with_the_nearest_name() {
    let roster = roster(vec![("a", entry(EXTERNAL, &[plain("gpt-5-mini")]))]);
    let failure = roster.decide(&ask("gpt-5-mimi"), &World::default()).failure().unwrap();
    assert_eq!((failure.kind, failure.fault), (FailureKind::ModelNotFound, Fault::Caller));
    assert!(failure.message.contains("did you mean 'gpt-5-mini'?"), "{failure}");
    assert_eq!(failure.param.as_deref(), Some("model"));
}

#[test]
fn auto_means_every_listed_model_unless_a_route_has_the_name() {
    let entries = || {
        vec![
            ("dear", entry(EXTERNAL, &[priced("m", "10", "10")])),
            ("home", entry(LOCAL, &[plain("n")])),
            ("cheap", entry(EXTERNAL, &[priced("o", "1", "1")])),
        ]
    };
    assert_eq!(decided(&roster(entries()), &ask("auto")), ["home/n", "cheap/o", "dear/m"]);
    let own = [("auto", route(&["dear/m"], Order::Cost, false))];
    assert_eq!(decided(&with(entries(), &own, Routing::default()), &ask("auto")), ["dear/m"]);
}

#[test]
fn a_route_has_its_candidates_in_its_order_each_once() {
    let entries = vec![
        ("a", entry(EXTERNAL, &[priced("m", "5", "5")])),
        ("b", entry(EXTERNAL, &[priced("m", "1", "1")])),
    ];
    let routes = [
        ("written", route(&["a/m", "m"], Order::Listed, false)),
        ("cheap", route(&["a/m", "m"], Order::Cost, false)),
    ];
    let roster = with(entries, &routes, Routing::default());
    let decision = roster.decide(&ask("written"), &World::default());
    assert_eq!(names(&decision), ["a/m", "b/m"]);
    assert_eq!(decision.route.as_ref().map(RouteName::as_str), Some("written"));
    assert_eq!(decided(&roster, &ask("cheap")), ["b/m", "a/m"]);
}

#[test]
fn a_missing_model_is_served_by_what_is_configured_for_it_and_only_then() {
    let fallback =
        IndexMap::from([(model("gone"), vec![target("a/m")]), (model("m"), vec![target("b/n")])]);
    let routing = Routing { fallback, ..Routing::default() };
    let entries =
        vec![("a", entry(EXTERNAL, &[plain("m")])), ("b", entry(EXTERNAL, &[plain("n")]))];
    let roster = with(entries, &[], routing);
    let gone = roster.decide(&ask("gone"), &World::default());
    assert_eq!(names(&gone), ["a/m"]);
    assert_eq!(gone.candidates[0].reason, Reason::Fallback);
    assert_eq!(decided(&roster, &ask("m")), ["a/m", "b/n"], "after all that list it");
    assert_eq!(decided(&roster, &ask("lost")), Vec::<String>::new());
}

#[test]
fn a_comparable_model_stands_in_where_that_is_wanted() {
    let able = |id: &str, window, price: &str| keyward_contract::Model {
        context_window: Some(window),
        capabilities: vec!["chat".into(), "tools".into()],
        ..priced(id, price, price)
    };
    let entries = || {
        // Known to the adapter, but not offered.
        let mut a = entry(EXTERNAL, &[able("gone", 100_000, "1"), plain("m")]);
        a.models = vec![model("m")];
        let small = able("small", 50_000, "1");
        let b = entry(EXTERNAL, &[small, able("dear", 200_000, "9"), able("fit", 100_000, "2")]);
        vec![("a", a), ("b", b)]
    };
    let wanted = Routing { comparable: true, ..Routing::default() };
    assert_eq!(decided(&with(entries(), &[], wanted), &ask("gone")), ["b/fit", "b/dear"]);
    assert_eq!(decided(&roster(entries()), &ask("gone")), Vec::<String>::new());
}

// ---------------------------------------------------------------------- privacy

#[test]
fn a_sensitive_request_has_local_candidates_only_whatever_else_holds() {
    let entries = vec![
        ("cheap", entry(EXTERNAL, &[priced("m", "0", "0")])),
        ("home", entry(LOCAL, &[priced("m", "100", "100")])),
    ];
    let routing = Routing {
        fallback: IndexMap::from([(model("m"), vec![target("cheap/m")])]),
        ..Routing::default()
    };
    let roster =
        with(entries, &[("r", route(&["cheap/m", "home/m"], Order::Listed, false))], routing);
    for name in ["m", "auto", "r", "home/m"] {
        let decision = roster.decide(&sensitive(name), &World::default());
        assert_eq!(names(&decision), ["home/m"], "{name}");
    }
    let named = roster.decide(&sensitive("cheap/m"), &World::default());
    assert_eq!(names(&named), Vec::<String>::new());
    let failure = named.failure().unwrap();
    assert_eq!((failure.kind, failure.fault), (FailureKind::Permission, Fault::Caller));
    assert_eq!(failure.code.as_deref(), Some("sensitive"));
    assert!(!failure.kind.may_go_elsewhere() || failure.fault == Fault::Caller);
}

#[test]
fn a_sensitive_request_is_refused_when_no_local_one_can_serve_it_and_told_why() {
    let roster = roster(vec![
        ("away", entry(EXTERNAL, &[plain("m")])),
        ("home", entry(LOCAL, &[plain("m")])),
    ]);
    let left = Duration::from_secs(3);
    let down = World { down: vec![("home", Standing::Down { left })], ..World::default() };
    let decision = roster.decide(&sensitive("m"), &down);
    assert_eq!(names(&decision), Vec::<String>::new());
    let message = decision.failure().unwrap().message;
    assert!(message.contains("home: it failed lately"), "{message}");
    assert!(message.contains("the caller marked it as sensitive"), "{message}");
}

#[test]
fn a_sensitive_route_makes_its_requests_sensitive_and_never_names_external_ones() {
    let entries =
        vec![("away", entry(EXTERNAL, &[plain("m")])), ("home", entry(LOCAL, &[plain("m")]))];
    let routes = [
        ("private", route(&["m"], Order::Cost, true)),
        ("leaky", route(&["home/m", "away/m"], Order::Cost, true)),
    ];
    let roster = with(entries, &routes, Routing::default());
    let private = roster.decide(&ask("private"), &World::default());
    assert_eq!(names(&private), ["home/m"]);
    assert!(matches!(private.sensitive, Some(Sensitive::Route(_))));
    let leaky = roster.decide(&ask("leaky"), &World::default());
    assert_eq!(names(&leaky), Vec::<String>::new());
    let message = leaky.failure().unwrap().message;
    assert!(message.contains("'away' is external"), "{message}");
}

// ---------------------------------------------------------------------- cost and speed

#[test]
fn the_cheapest_for_this_very_request_is_first_and_unknown_costs_are_last() {
    let roster = roster(vec![
        ("unknown", entry(EXTERNAL, &[plain("m")])),
        // Cheap prompts and dear answers, and the other way round.
        ("reads", entry(EXTERNAL, &[priced("m", "1", "10")])),
        ("writes", entry(EXTERNAL, &[priced("m", "4", "1")])),
    ]);
    let short = Ask { tokens: Tokens(100), ..ask("m") };
    let long = Ask { tokens: Tokens(100_000), ..ask("m") };
    assert_eq!(decided(&roster, &short), ["writes/m", "reads/m", "unknown/m"]);
    assert_eq!(decided(&roster, &long), ["reads/m", "writes/m", "unknown/m"]);
    let brief = Ask { max_output: Some(1), ..short };
    assert_eq!(decided(&roster, &brief), ["reads/m", "writes/m", "unknown/m"]);
}

#[test]
fn the_expected_cost_is_exact() {
    let roster = roster(vec![("a", entry(EXTERNAL, &[priced("m", "0.25", "2")]))]);
    let cost = roster.decide(&ask("m"), &World::default()).candidates[0].cost.unwrap();
    assert_eq!(cost.to_string(), "0.00125", "1,000 at 0.25 and 500 at 2 dollars a million");
}

#[test]
fn of_equals_the_one_with_fewer_under_way_comes_first_until_its_latency_outweighs_that() {
    let routing = Routing { order: Order::Cost, ..Routing::default() };
    let entries = vec![("a", entry(LOCAL, &[plain("m")])), ("b", entry(LOCAL, &[plain("m")]))];
    let roster = with(entries, &[], routing);
    let first = |open: u32| {
        let latency = vec![("a", 100), ("b", 250)];
        let world = World { latency, open: vec![("a", open)], ..World::default() };
        roster.decide(&ask("m"), &world).candidates[0].provider.to_string()
    };
    assert_eq!([0, 1, 2, 3].map(first), ["a", "a", "b", "b"]);
}

#[test]
fn auto_leaves_out_whom_its_operator_wants_left_out() {
    let demo = Entry { auto: false, ..entry(LOCAL, &[plain("demo")]) };
    let entries = vec![("demo", demo), ("a", entry(EXTERNAL, &[priced("m", "1", "1")]))];
    let roster = with(entries, &[], Routing::default());
    for decision in [
        roster.decide(&ask(AUTO), &World::default()),
        roster.explain(&ask(AUTO), &World::default()),
    ] {
        let all: Vec<_> = decision.candidates.iter().map(|c| c.provider.as_str()).collect();
        assert_eq!((all, decision.refused.len()), (vec!["a"], 0));
    }
    assert_eq!(roster.decide(&ask("demo"), &World::default()).candidates.len(), 1);
}

#[test]
fn models_that_a_provider_tells_itself_are_served_like_listed_ones() {
    let entries = vec![
        ("a", entry(LOCAL, &[])),
        ("b", entry(LOCAL, &[])),
        ("c", entry(LOCAL, &[plain("m")])),
    ];
    let home = route(&["told", "m"], Order::Listed, false);
    let lost = route(&["nowhere"], Order::Listed, false);
    let routing = Routing { order: Order::Listed, ..Routing::default() };
    let roster = with(entries, &[("home", home), ("lost", lost)], routing);
    let told = [(model("told"), provider("b")), (model("told"), provider("a"))];
    let of = |name: &str, told: &[(ModelName, ProviderName)]| {
        let decision = roster.decide(&Ask { told: told.to_vec(), ..ask(name) }, &World::default());
        let all = decision.candidates.iter().map(|c| format!("{}/{}", c.provider, c.model));
        (all.collect::<Vec<_>>(), decision.failure())
    };
    assert_eq!(roster.unlisted(&ask("told")), [&model("told")]);
    assert_eq!(roster.unlisted(&ask("home")), [&model("told")]);
    for known in ["m", "a/told", AUTO] {
        assert!(roster.unlisted(&ask(known)).is_empty(), "{known}");
    }
    assert_eq!(of("told", &told).0, ["a/told", "b/told"]);
    assert_eq!(of("home", &told).0, ["a/told", "b/told", "c/m"]);
    assert_eq!(of("told", &[]).1.unwrap().kind, FailureKind::ModelNotFound);
    let failure = of("lost", &[]).1.unwrap();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    let told = "the route 'lost' leads nowhere: no provider lists 'nowhere'";
    assert_eq!(failure.message, told);
}

#[test]
fn equal_costs_are_told_apart_by_latency_and_the_first_is_the_faster_of_two_by_lot() {
    let entries = ["a", "b", "c"].map(|name| (name, entry(LOCAL, &[plain("m")])));
    let roster = roster(entries.to_vec());
    assert_eq!(decided(&roster, &ask("m")), ["a/m", "b/m", "c/m"], "nothing known: as written");
    let latency = vec![("a", 300), ("b", 100), ("c", 200)];
    let mut first = HashMap::new();
    for draw in 0..3_000_u64 {
        let random = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let world = World { latency: latency.clone(), random, ..World::default() };
        let order = names(&roster.decide(&ask("m"), &world));
        assert_eq!(order.len(), 3);
        *first.entry(order[0].clone()).or_insert(0) += 1;
    }
    // Of the three pairs, b is in two and wins both; c wins the third; a never does.
    assert_eq!(first.get("a/m"), None);
    assert!((1_800..2_200).contains(&first["b/m"]), "{first:?}");
    assert!((800..1_200).contains(&first["c/m"]), "{first:?}");
}

#[test]
fn a_newcomer_among_equals_is_tried() {
    let roster =
        roster(vec![("a", entry(LOCAL, &[plain("m")])), ("b", entry(LOCAL, &[plain("m")]))]);
    let world = World { latency: vec![("a", 50)], ..World::default() };
    assert_eq!(names(&roster.decide(&ask("m"), &world)), ["b/m", "a/m"]);
}

// ---------------------------------------------------------------------- who is left out

#[test]
fn what_a_model_is_known_to_lack_keeps_it_back_while_another_has_it() {
    let able = |capabilities: &[&str]| keyward_contract::Model {
        capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
        context_window: Some(8_000),
        ..plain("m")
    };
    let roster = roster(vec![
        ("blind", entry(LOCAL, &[able(&["chat"])])),
        ("seeing", entry(LOCAL, &[able(&["chat", "images"])])),
        ("large", entry(LOCAL, &[plain("m")])),
    ]);
    let images = Ask { needs: Needs { images: true, ..Needs::default() }, ..ask("m") };
    assert_eq!(decided(&roster, &images), ["seeing/m", "large/m"]);
    let long = Ask { tokens: Tokens(9_000), ..ask("m") };
    assert_eq!(decided(&roster, &long), ["large/m"]);
    let named = Ask { model: model("blind/m"), ..images };
    assert_eq!(decided(&roster, &named), ["blind/m"], "the caller knows better");
}

#[test]
fn if_none_has_it_they_are_asked_all_the_same() {
    let short = keyward_contract::Model { context_window: Some(10), ..plain("m") };
    let roster = roster(vec![("a", entry(LOCAL, &[short]))]);
    assert_eq!(decided(&roster, &ask("m")), ["a/m"]);
}

#[test]
fn who_is_down_disabled_or_without_a_key_is_left_out_and_told() {
    let roster = roster(vec![
        ("down", entry(LOCAL, &[plain("m")])),
        ("off", entry(LOCAL, &[plain("m")])),
        ("keyless", entry(LOCAL, &[plain("m")])),
        ("fit", entry(LOCAL, &[plain("m")])),
    ]);
    let left = Duration::from_secs(7);
    let world = World {
        down: vec![("down", Standing::Down { left }), ("off", Standing::Disabled)],
        keyless: vec!["keyless"],
        ..World::default()
    };
    let decision = roster.decide(&ask("m"), &world);
    assert_eq!(names(&decision), ["fit/m"]);
    let why: Vec<&Why> = decision.refused.iter().map(|refused| &refused.why).collect();
    assert!(matches!(why[..], [Why::Down { .. }, Why::Disabled, Why::Keyless(_)]), "{why:?}");
    let alone = roster.decide(&ask("down/m"), &world).failure().unwrap();
    assert_eq!(alone.retry_after, Some(left), "says when to ask again");
    assert_eq!(alone.kind, FailureKind::Unavailable);
    let keyless = roster.decide(&ask("keyless/m"), &world).failure().unwrap();
    assert_eq!(keyless.kind, FailureKind::Authentication);
}

#[test]
fn a_decision_has_a_form_that_explains_it() {
    let roster = roster(vec![
        ("away", entry(EXTERNAL, &[priced("m", "1", "1")])),
        ("home", entry(LOCAL, &[plain("m")])),
    ]);
    let decision = roster.decide(&sensitive("m"), &World::default());
    let shown = serde_json::to_value(&decision).unwrap();
    let expected = serde_json::json!({
        "model": "m",
        "sensitive": "marked",
        "candidates": [{"provider": "home", "model": "m", "kind": "local", "reason": "listed",
            "cost": "0", "latency_us": null}],
        "refused": [{"provider": "away", "model": "m", "why": "external"}],
    });
    assert_eq!(shown, expected);
}

// ---------------------------------------------------------------------- where there is much to choose from

/// Providers whose models cost and do all kinds of things, and fare in all kinds of ways.
#[derive(Clone, Debug)]
struct Market {
    providers: Vec<(ProviderKind, Stall)>,
    needs: Needs,
    prompt: u64,
    max_output: Option<u32>,
    sensitive: bool,
    order: Order,
    random: u64,
}

/// What one provider has: how many of its models, of which kinds, and how it is.
#[derive(Clone, Debug)]
struct Stall {
    models: Vec<Offer>,
    state: u8,
    keyless: bool,
    cost_tracking: bool,
}

/// Price list, window, capabilities, standing, latency: small numbers, so that many are equal.
type Offer = (u8, u8, u8, u8, Option<u64>);

fn market() -> impl Strategy<Value = Market> {
    let kind = prop_oneof![1 => Just(LOCAL), 3 => Just(EXTERNAL)];
    let standing = prop_oneof![8 => Just(0_u8), 2 => 1..4_u8];
    let latency = prop_oneof![1 => Just(None), 2 => (0..6_u64).prop_map(Some)];
    let offer = (0..8_u8, 0..4_u8, 0..4_u8, standing, latency);
    // Now more than a decision keeps, now less.
    let size = prop_oneof![3 => 0..8_usize, 1 => 30..90_usize];
    let models = size.prop_flat_map(move |size| prop::collection::vec(offer.clone(), size));
    let state = prop_oneof![8 => Just(0_u8), 1 => 1..3_u8];
    let stall = (models, state, prop::bool::weighted(0.1), prop::bool::weighted(0.9)).prop_map(
        |(models, state, keyless, cost_tracking)| Stall { models, state, keyless, cost_tracking },
    );
    let needs = (any::<bool>(), any::<bool>()).prop_map(|(tools, images)| Needs {
        tools,
        images,
        json_schema: false,
    });
    let prompt =
        prop_oneof![0..3_u64, 0..3_000_u64, 990..1_010_u64, any::<u32>().prop_map(u64::from)];
    let order = prop_oneof![5 => Just(Order::Cost), 1 => Just(Order::Listed)];
    let max_output = prop_oneof![Just(None), (0..600_u32).prop_map(Some)];
    (
        prop::collection::vec((kind, stall), 1..8),
        needs,
        prompt,
        max_output,
        prop::bool::weighted(0.2),
        order,
        any::<u64>(),
    )
        .prop_map(|(providers, needs, prompt, max_output, sensitive, order, random)| Market {
            providers,
            needs,
            prompt,
            max_output,
            sensitive,
            order,
            random,
        })
}

fn offered(id: &str, (price, window, able, ..): Offer) -> keyward_contract::Model {
    let listed = |price: serde_json::Value| -> Price { serde_json::from_value(price).unwrap() };
    let dollars = |from: &str, input: &str, output: &str| {
        serde_json::json!({"from": from, "currency": "USD", "source": "s",
            "per_million": {"input": input, "output": output}})
    };
    let prices = match price {
        0 => vec![],
        1 => vec![dollars("2026-01-01", "1", "2")],
        // The same from another day on, and dearer after that.
        2 => vec![dollars("2025-01-01", "1", "2"), dollars("2027-01-01", "9", "9")],
        // By the size of the prompt.
        3 => {
            let mut price = dollars("2026-01-01", "0.1", "2");
            price["above"] = serde_json::json!([{"tokens": 1_000,
                "per_million": {"input": "0.000003", "output": "0.5"}}]);
            vec![price]
        }
        // In something else, or by what nobody can foresee, or with no price for an answer.
        4 => {
            let mut price = dollars("2026-01-01", "1", "2");
            price["currency"] = "EUR".into();
            vec![price]
        }
        5 => {
            let mut price = dollars("2026-01-01", "1", "2");
            price["per_million"] = serde_json::json!({"input": "1"});
            vec![price]
        }
        6 => {
            let mut price = dollars("2026-01-01", "0", "0");
            price["per_unit"] = serde_json::json!({"request": "0.001"});
            vec![price]
        }
        // Not yet.
        _ => vec![dollars("2027-01-01", "1", "2")],
    };
    keyward_contract::Model {
        prices: prices.into_iter().map(listed).collect(),
        context_window: [None, Some(100), Some(2_000), Some(200_000)][usize::from(window)],
        capabilities: [&[][..], &["chat", "tools"], &["chat"], &["tools", "images"]]
            [usize::from(able)]
        .iter()
        .map(|&name| name.to_owned())
        .collect(),
        ..plain(id)
    }
}

impl Market {
    fn roster(&self) -> Roster {
        let entries = self.providers.iter().enumerate().map(|(at, (kind, stall))| {
            let models = stall.models.iter().enumerate();
            let models: Vec<_> =
                models.map(|(number, offer)| offered(&format!("m{number}"), *offer)).collect();
            let mut entry = entry(*kind, &models);
            // A list may say a thing twice.
            entry.models.extend(entry.models.first().cloned());
            entry.cost_tracking = stall.cost_tracking;
            match stall.state {
                0 => {}
                1 => entry.state = Serves::Nothing("no adapter".into()),
                _ => entry.state = Serves::Operations(vec![OperationKind::Embed]),
            }
            (provider(&format!("p{at}")), entry)
        });
        let fallback = IndexMap::from([(model(AUTO), vec![target("m0"), target("p0/m1")])]);
        let routing = Routing { order: self.order, fallback, ..Routing::default() };
        Roster::new(entries.collect(), &IndexMap::new(), &routing)
    }

    fn ask(&self) -> Ask {
        Ask {
            needs: self.needs,
            tokens: Tokens(self.prompt),
            max_output: self.max_output,
            sensitive: self.sensitive.then_some(Sensitive::Marked),
            ..ask(AUTO)
        }
    }

    fn stall(&self, provider: &ProviderName) -> &Stall {
        &self.providers[provider.as_str()[1..].parse::<usize>().unwrap()].1
    }

    fn offer(&self, provider: &ProviderName, model: &ModelName) -> Option<Offer> {
        let number: usize = model.as_str()[1..].parse().unwrap();
        self.stall(provider).models.get(number).copied()
    }
}

impl Outlook for Market {
    fn standing(&self, provider: &ProviderName, model: &ModelName) -> Standing {
        match self.offer(provider, model).map_or(0, |(_, _, _, standing, _)| standing) {
            0 => Standing::Fit,
            3 => Standing::Disabled,
            seconds => Standing::Down { left: Duration::from_secs(seconds.into()) },
        }
    }

    fn latency(&self, provider: &ProviderName, model: &ModelName) -> Option<Duration> {
        self.offer(provider, model).and_then(|(.., latency)| latency).map(Duration::from_millis)
    }

    fn missing_key(&self, provider: &ProviderName) -> Option<String> {
        self.stall(provider).keyless.then(|| format!("set the key of {provider}"))
    }

    fn today(&self) -> Day {
        "2026-06-01".parse().unwrap()
    }

    fn random(&self) -> u64 {
        self.random
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn who_looks_only_as_far_as_it_must_decides_as_who_looks_at_everything(market in market()) {
        let (roster, ask) = (market.roster(), market.ask());
        let (found, whole) = (roster.decide(&ask, &market), roster.explain(&ask, &market));
        prop_assert_eq!(&found.candidates, &whole.candidates);
        let mut left = whole.refused.iter();
        for refused in &found.refused {
            prop_assert!(left.any(|other| other == refused), "{:?} isn't refused, or not there", refused);
        }
        if found.candidates.is_empty() {
            prop_assert_eq!(&found.refused, &whole.refused);
        }
        let told = |decision: &Decision| decision.failure().map(|failure| failure.to_string());
        prop_assert_eq!(told(&found), told(&whole));
    }
}

#[test]
fn of_many_models_no_more_are_looked_at_than_it_takes() {
    struct Counting(World, std::cell::Cell<usize>);
    impl Outlook for Counting {
        fn standing(&self, provider: &ProviderName, model: &ModelName) -> Standing {
            self.1.set(self.1.get() + 1);
            self.0.standing(provider, model)
        }
        fn latency(&self, provider: &ProviderName, model: &ModelName) -> Option<Duration> {
            self.0.latency(provider, model)
        }
        fn missing_key(&self, provider: &ProviderName) -> Option<String> {
            self.0.missing_key(provider)
        }
        fn today(&self) -> Day {
            self.0.today()
        }
        fn random(&self) -> u64 {
            self.0.random()
        }
    }
    let models: Vec<_> =
        (0..1_000).map(|at| priced(&format!("m{at}"), &(at / 100 + 1).to_string(), "1")).collect();
    let roster = roster(vec![("a", entry(EXTERNAL, &models))]);
    let world = Counting(World::default(), std::cell::Cell::new(0));
    assert_eq!(roster.decide(&ask(AUTO), &world).candidates.len(), 64);
    assert_eq!(world.1.get(), 100, "the cheapest, which are equal");
}
