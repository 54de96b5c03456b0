//! Who there is: every provider and its models, the routes, and the names that lead to them.
//!
//! Made once for each snapshot, from plain values: a test or a simulation makes one without an
//! adapter. Lookups are by hash; the cost of a decision grows with the candidates of its name only,
//! and where that is every model there is ([`listing`](super::listing)), with those it takes to find
//! enough.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use keyward_contract::{Decimal, OperationKind, ProviderKind};

use super::{
    AUTO, Ask, Candidate, Decision, Fares, Outlook, Reason, Refused, Sensitive, Standing, Why,
    cost::{self, Size},
    listing::{Listed, Listing},
};
use crate::{
    Failure, FailureKind, Fault,
    config::{Order, Route, RouteTarget},
    ids::{ModelName, ProviderName, RouteName},
    models::ModelFacts,
};

/// The most candidates a decision keeps. More than any budget of attempts tries.
const MAX_CANDIDATES: usize = 64;

/// One provider, as far as routing is concerned.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: ProviderKind,
    pub state: Serves,
    /// In the order of the configuration.
    pub models: Vec<ModelName>,
    /// What else callers may say for a model.
    pub aliases: HashMap<ModelName, ModelName>,
    /// By each name of a model.
    pub facts: Arc<HashMap<ModelName, Arc<ModelFacts>>>,
    /// Whether `auto` may choose them.
    pub auto: bool,
    pub cost_tracking: bool,
}

/// What a provider can do.
#[derive(Clone, Debug)]
pub enum Serves {
    Operations(Vec<OperationKind>),
    /// It can't be used: what is missing and what to do about it.
    Nothing(String),
}

/// A route as it is in force.
#[derive(Clone, Debug)]
pub enum RouteState {
    Open(Route),
    /// It breaks a rule, so nobody is served by it.
    Refused(String),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    entries: IndexMap<ProviderName, Entry>,
    /// Who lists a model, and what the model is called there.
    by_model: HashMap<ModelName, Vec<(usize, ModelName)>>,
    listing: Listing,
    routes: IndexMap<RouteName, RouteState>,
    fallback: IndexMap<ModelName, Vec<RouteTarget>>,
    order: Order,
    comparable: bool,
}

/// How much of it all a decision tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Who is refused among those better than the candidates it keeps.
    Enough,
    /// Everyone who is refused.
    Whole,
}

/// A listed model that may serve the request, before it is put in order.
struct Found<'a> {
    listed: &'a Listed,
    latency: Option<Duration>,
    open: u32,
}

impl Found<'_> {
    fn pace(&self) -> Duration {
        pace(self.latency, self.open)
    }

    fn candidate(&self, cost: Option<Decimal>) -> Candidate {
        Candidate {
            provider: self.listed.provider.clone(),
            model: self.listed.model.clone(),
            kind: self.listed.kind,
            reason: Reason::Listed,
            cost,
            latency: self.latency,
        }
    }
}

/// A candidate before it is put in order.
struct Rated {
    candidate: Candidate,
    /// Of candidates that are equal otherwise: in the order of the configuration.
    place: usize,
    /// Requests that are under way at its provider.
    open: u32,
}

impl Rated {
    fn pace(&self) -> Duration {
        pace(self.candidate.latency, self.open)
    }
}

/// How long an answer may be in coming where so many are under way: by it equals are put in order. One
/// of which nothing is known yet counts as fastest, so that it is tried.
fn pace(latency: Option<Duration>, open: u32) -> Duration {
    latency.map_or(Duration::ZERO, |latency| latency.saturating_mul(open.saturating_add(1)))
}

impl Roster {
    /// A roster of these providers. Routes that break a rule are in it as refused.
    pub fn new(
        entries: IndexMap<ProviderName, Entry>,
        routes: &IndexMap<RouteName, Route>,
        routing: &crate::config::Routing,
    ) -> Self {
        let mut by_model: HashMap<ModelName, Vec<(usize, ModelName)>> = HashMap::new();
        for (at, entry) in entries.values().enumerate() {
            let own = entry.models.iter().map(|model| (model, model));
            let aliases = entry.aliases.iter();
            for (name, model) in own.chain(aliases) {
                let known = by_model.entry(name.clone()).or_default();
                // An alias comes before a model of that name elsewhere in the same list.
                match known.iter_mut().find(|(place, _)| *place == at) {
                    Some(known) => known.1 = model.clone(),
                    None => known.push((at, model.clone())),
                }
            }
        }
        let routes =
            routes.iter().map(|(name, route)| (name.clone(), check(route, &entries))).collect();
        Self {
            listing: Listing::new(&entries),
            entries,
            by_model,
            routes,
            fallback: routing.fallback.clone(),
            order: routing.order,
            comparable: routing.comparable,
        }
    }

    pub fn routes(&self) -> &IndexMap<RouteName, RouteState> {
        &self.routes
    }

    /// Decides where a request goes. Never fails: a decision without candidates says why. Of a request
    /// that may go anywhere it tells who is refused only as far as it had to look.
    pub fn decide(&self, ask: &Ask, outlook: &impl Outlook) -> Decision {
        self.decision(ask, outlook, Detail::Enough)
    }

    /// The same decision with everyone who is refused, for people.
    pub fn explain(&self, ask: &Ask, outlook: &impl Outlook) -> Decision {
        self.decision(ask, outlook, Detail::Whole)
    }

    fn decision(&self, ask: &Ask, outlook: &impl Outlook, detail: Detail) -> Decision {
        let mut decision = Decision {
            model: ask.model.clone(),
            route: None,
            sensitive: ask.sensitive.clone(),
            candidates: Vec::new(),
            refused: Vec::new(),
            failure: None,
        };
        if let Some((name, state)) = self.route(&ask.model) {
            decision.route = Some(name.clone());
            match state {
                RouteState::Open(route) => {
                    if route.sensitive {
                        decision.sensitive.get_or_insert_with(|| Sensitive::Route(name.clone()));
                    }
                    let found = self.targets(ask, &route.candidates, Reason::Route);
                    self.add(found, route.order, ask, outlook, &mut decision);
                    if decision.candidates.is_empty() && decision.refused.is_empty() {
                        let names = route.candidates.iter().map(|target| target.model.as_str());
                        let names: Vec<&str> = names.collect();
                        let message = format!(
                            "the route '{name}' leads nowhere: no provider lists '{}'",
                            names.join("' or '")
                        );
                        let failure = Failure::new(FailureKind::Unavailable, Fault::Host, message);
                        decision.failure = Some(Box::new(failure));
                    }
                }
                RouteState::Refused(why) => {
                    let message = format!("the route '{name}' isn't in force: {why}");
                    let failure = Failure::new(FailureKind::Unavailable, Fault::Host, message);
                    decision.failure = Some(Box::new(failure));
                }
            }
            return decision;
        }
        if let Some((at, model)) = self.named(&ask.model) {
            self.add(vec![(at, model, Reason::Named)], self.order, ask, outlook, &mut decision);
        } else if ask.model.as_str() != AUTO {
            let found = self.listed(ask, &ask.model, Reason::Listed);
            self.add(found, self.order, ask, outlook, &mut decision);
        } else if self.order == Order::Cost && detail == Detail::Enough {
            self.add_from_the_cheapest(ask, outlook, &mut decision);
        } else {
            let all = self.entries.values().enumerate().filter(|(_, entry)| entry.auto);
            let all = all.flat_map(|(at, entry)| {
                entry.models.iter().map(move |model| (at, model.clone(), Reason::Listed))
            });
            self.add(all.collect(), self.order, ask, outlook, &mut decision);
        }
        if let Some(targets) = self.fallback.get(&ask.model) {
            let found = self.targets(ask, targets, Reason::Fallback);
            self.add(found, Order::Listed, ask, outlook, &mut decision);
        } else if self.comparable && decision.candidates.is_empty() && decision.refused.is_empty() {
            let found = self.comparable(&ask.model);
            self.add(found, Order::Cost, ask, outlook, &mut decision);
        }
        if decision.candidates.is_empty() && decision.refused.is_empty() {
            decision.failure = Some(Box::new(self.unknown(&ask.model)));
        }
        decision
    }

    fn route(&self, name: &ModelName) -> Option<(&RouteName, &RouteState)> {
        self.routes.get_key_value(name.as_str())
    }

    /// The provider and the model, if the name begins with a provider's. Any model of a named
    /// provider goes, listed or not.
    fn named(&self, name: &ModelName) -> Option<(usize, ModelName)> {
        let (provider, model) = name.as_str().split_once('/')?;
        let (at, _, entry) = self.entries.get_full(provider)?;
        let model = ModelName::new(model).ok()?;
        Some((at, entry.aliases.get(&model).cloned().unwrap_or(model)))
    }

    fn listed(
        &self,
        ask: &Ask,
        name: &ModelName,
        reason: Reason,
    ) -> Vec<(usize, ModelName, Reason)> {
        let found = self.by_model.get(name).into_iter().flatten();
        let found = found.map(|(at, model)| (*at, model.clone()));
        let told = ask.told.iter().filter(|(model, _)| model == name);
        let told = told.filter_map(|(model, provider)| {
            self.entries.get_index_of(provider).map(|at| (at, model.clone()))
        });
        let mut all: Vec<_> = found.chain(told).map(|(at, model)| (at, model, reason)).collect();
        if !ask.told.is_empty() {
            all.sort_by_key(|(at, ..)| *at);
        }
        all
    }

    /// The names on the way of this request that no provider is configured to serve: those that tell
    /// their models themselves may.
    pub fn unlisted<'a>(&'a self, ask: &'a Ask) -> Vec<&'a ModelName> {
        let unlisted = |name: &&ModelName| !self.by_model.contains_key(*name);
        let (own, targets) = match self.route(&ask.model) {
            Some((_, RouteState::Open(route))) => (None, &route.candidates[..]),
            Some((_, RouteState::Refused(_))) => (None, &[][..]),
            None => {
                let targets = self.fallback.get(&ask.model);
                (Some(&ask.model), targets.map(|targets| &targets[..]).unwrap_or_default())
            }
        };
        let own =
            own.filter(unlisted).filter(|name| name.as_str() != AUTO && self.named(name).is_none());
        let plain = targets.iter().filter(|target| target.provider.is_none());
        own.into_iter().chain(plain.map(|target| &target.model).filter(unlisted)).collect()
    }

    fn targets(
        &self,
        ask: &Ask,
        targets: &[RouteTarget],
        reason: Reason,
    ) -> Vec<(usize, ModelName, Reason)> {
        let mut found = Vec::new();
        for target in targets {
            match &target.provider {
                Some(name) => found.extend(self.entries.get_full(name).map(|(at, _, entry)| {
                    let model = entry.aliases.get(&target.model).unwrap_or(&target.model);
                    (at, model.clone(), reason)
                })),
                None => found.append(&mut self.listed(ask, &target.model, reason)),
            }
        }
        found
    }

    /// Models that can do what the missing one could, as far as anybody knows of it.
    fn comparable(&self, missing: &ModelName) -> Vec<(usize, ModelName, Reason)> {
        let known = self.entries.values().find_map(|entry| entry.facts.get(missing));
        let Some(known) = known else { return Vec::new() };
        let fits = |facts: &ModelFacts| {
            let window = known.context_window.is_none_or(|wanted| {
                facts.context_window.is_some_and(|window| window.value >= wanted.value)
            });
            let able = known.capabilities.as_ref().is_none_or(|wanted| {
                facts.capabilities.as_ref().is_some_and(|has| {
                    wanted.value.iter().all(|capability| has.value.contains(capability))
                })
            });
            window && able
        };
        let all = self.entries.values().enumerate().flat_map(|(at, entry)| {
            let fitting = entry
                .models
                .iter()
                .filter(|model| entry.facts.get(*model).is_some_and(|facts| fits(facts)));
            fitting.map(move |model| (at, model.clone(), Reason::Comparable))
        });
        all.collect()
    }

    /// Adds those who may serve it to the candidates, best first, and the others to the refused.
    fn add(
        &self,
        found: Vec<(usize, ModelName, Reason)>,
        order: Order,
        ask: &Ask,
        outlook: &impl Outlook,
        decision: &mut Decision,
    ) {
        let sensitive = decision.sensitive.is_some();
        let mut rated = Vec::with_capacity(found.len());
        // Fit, but for what the model is known not to be able to.
        let mut lacking = Vec::new();
        let today = outlook.today();
        let mut seen: HashSet<(usize, ModelName)> = HashSet::with_capacity(found.len());
        for (place, (at, model, reason)) in found.into_iter().enumerate() {
            let Some((provider, entry)) = self.entries.get_index(at) else { continue };
            let before = |c: &Candidate| c.provider == *provider && c.model == model;
            if !seen.insert((at, model.clone())) || decision.candidates.iter().any(before) {
                continue;
            }
            let refuse = refusal(entry, provider, &model, sensitive, ask, outlook);
            if let Some(why) = refuse {
                decision.refused.push(Refused { provider: provider.clone(), model, why });
                continue;
            }
            let facts = entry.facts.get(&model);
            let tariff =
                facts.and_then(|facts| facts.tariff(today)).filter(|_| entry.cost_tracking);
            let candidate = Candidate {
                cost: cost::expected(ask, entry.kind, tariff.map(Arc::as_ref)),
                latency: outlook.latency(provider, &model),
                provider: provider.clone(),
                kind: entry.kind,
                reason,
                model,
            };
            let open = outlook.open(&candidate.provider);
            match facts.and_then(|facts| lack(facts, ask)).filter(|_| reason != Reason::Named) {
                Some(why) => lacking.push((Rated { candidate, place, open }, why)),
                None => rated.push(Rated { candidate, place, open }),
            }
        }
        if rated.is_empty() {
            // What is known may be wrong, and a vendor's own error says more than ours.
            rated.extend(lacking.into_iter().map(|(rated, _)| rated));
        } else {
            decision.refused.extend(lacking.into_iter().map(|(rated, why)| Refused {
                provider: rated.candidate.provider,
                model: rated.candidate.model,
                why,
            }));
        }
        if order == Order::Cost {
            by_cost_then_latency(&mut rated, outlook);
        }
        let room = MAX_CANDIDATES.saturating_sub(decision.candidates.len());
        decision.candidates.extend(rated.into_iter().take(room).map(|rated| rated.candidate));
    }

    /// As [`add`](Self::add) with every listed model in the order of cost, for a decision that has no
    /// candidates yet; but stops when it has enough of them.
    fn add_from_the_cheapest(&self, ask: &Ask, outlook: &impl Outlook, decision: &mut Decision) {
        let sensitive = decision.sensitive.is_some();
        let shut: Vec<Option<Why>> =
            self.entries.values().map(|entry| shut(entry, sensitive, ask)).collect();
        let keys: Vec<OnceCell<Option<String>>> = vec![OnceCell::new(); shut.len()];
        let mut refused: Vec<(&Listed, Why)> = Vec::new();
        // Fit, but for what the model is known not to be able to.
        let mut lacking: Vec<(Found<'_>, Option<Decimal>, Why)> = Vec::new();
        for (cost, listed) in self.listing.by_cost(Size::of(ask), outlook.today()) {
            let mut equals: Vec<Found<'_>> = Vec::new();
            for of_one in listed.chunk_by(|one, other| one.at == other.at) {
                let Listed { at, ref provider, .. } = *of_one[0];
                if let Some(why) = &shut[at] {
                    refused.extend(of_one.iter().map(|listed| (*listed, why.clone())));
                    continue;
                }
                let models: Vec<&ModelName> = of_one.iter().map(|listed| &listed.model).collect();
                let open = outlook.open(provider);
                for (listed, fares) in of_one.iter().zip(outlook.fares(provider, &models)) {
                    let Fares { standing, latency } = fares;
                    let key = || keys[at].get_or_init(|| outlook.missing_key(provider)).clone();
                    let why = unfit(standing).or_else(|| key().map(Why::Keyless));
                    let found = Found { listed, latency, open };
                    let lacks = || listed.facts.as_ref().and_then(|facts| lack(facts, ask));
                    match why {
                        Some(why) => refused.push((listed, why)),
                        None => match lacks() {
                            Some(why) => lacking.push((found, cost, why)),
                            None => equals.push(found),
                        },
                    }
                }
            }
            let room = MAX_CANDIDATES - decision.candidates.len();
            let drawn = if decision.candidates.is_empty() {
                draw(equals.len(), equals.iter().any(|found| found.latency.is_some()), outlook)
            } else {
                None
            };
            fastest_first(&mut equals, drawn, room);
            decision.candidates.extend(equals.iter().map(|found| found.candidate(cost)));
            if decision.candidates.len() >= MAX_CANDIDATES {
                break;
            }
        }
        if decision.candidates.is_empty() {
            // What is known may be wrong, and a vendor's own error says more than ours.
            let rated = lacking.drain(..).map(|(found, cost, _)| Rated {
                candidate: found.candidate(cost),
                place: found.listed.place,
                open: found.open,
            });
            let mut rated: Vec<Rated> = rated.collect();
            by_cost_then_latency(&mut rated, outlook);
            let kept = rated.into_iter().take(MAX_CANDIDATES);
            decision.candidates.extend(kept.map(|rated| rated.candidate));
        }
        refused.sort_by_key(|(listed, _)| listed.place);
        lacking.sort_by_key(|(found, ..)| found.listed.place);
        let lacking = lacking.into_iter().map(|(found, _, why)| (found.listed, why));
        decision.refused.extend(refused.into_iter().chain(lacking).map(|(listed, why)| Refused {
            provider: listed.provider.clone(),
            model: listed.model.clone(),
            why,
        }));
    }

    fn unknown(&self, wanted: &ModelName) -> Failure {
        let names = self.by_model.keys().map(ModelName::as_str);
        let names = names.chain(self.routes.keys().map(RouteName::as_str));
        let near = names
            .map(|name| (strsim::damerau_levenshtein(name, wanted.as_str()), name))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        let advice = match near {
            Some((_, name)) => format!("did you mean '{name}'?"),
            None => "GET /v1/models lists what there is; 'provider/model' names any model of a \
                     provider"
                .into(),
        };
        let mut failure = Failure::new(
            FailureKind::ModelNotFound,
            Fault::Caller,
            format!("no provider lists the model '{wanted}': {advice}"),
        );
        failure.param = Some("model".into());
        failure.code = Some("model_not_found".into());
        failure
    }
}

/// What keeps a provider's model from serving the request, whoever else could.
fn refusal(
    entry: &Entry,
    provider: &ProviderName,
    model: &ModelName,
    sensitive: bool,
    ask: &Ask,
    outlook: &impl Outlook,
) -> Option<Why> {
    shut(entry, sensitive, ask)
        .or_else(|| unfit(outlook.standing(provider, model)))
        .or_else(|| outlook.missing_key(provider).map(Why::Keyless))
}

/// What keeps all of a provider from serving the request, as it is configured.
fn shut(entry: &Entry, sensitive: bool, ask: &Ask) -> Option<Why> {
    // First of all, so that nothing else about an external provider matters.
    if sensitive && entry.kind != ProviderKind::Local {
        return Some(Why::External);
    }
    match &entry.state {
        Serves::Nothing(why) => Some(Why::Unavailable(why.clone())),
        Serves::Operations(able) if !able.contains(&ask.operation) => {
            Some(Why::Unable(inability(ask.operation).to_owned()))
        }
        Serves::Operations(_) => None,
    }
}

fn unfit(standing: Standing) -> Option<Why> {
    match standing {
        Standing::Disabled => Some(Why::Disabled),
        Standing::Down { left } => Some(Why::Down { left }),
        Standing::Limited { left } => Some(Why::Limited { left }),
        Standing::Fit => None,
    }
}

fn inability(operation: OperationKind) -> &'static str {
    match operation {
        OperationKind::Chat => "can't chat",
        OperationKind::Embed => "can't make embeddings",
        OperationKind::ListModels => "can't list models",
        OperationKind::Probe => "can't be probed",
        OperationKind::Other => "can't do this",
    }
}

/// What the model is known not to be able to.
fn lack(facts: &ModelFacts, ask: &Ask) -> Option<Why> {
    if let Some(window) = &facts.context_window
        && ask.tokens.0 > u64::from(window.value)
    {
        return Some(Why::TooLong { context_window: window.value });
    }
    let able = facts.capabilities.as_ref()?;
    let lacks = |name: &&str| !able.value.iter().any(|known| known == name);
    ask.needs.names().find(lacks).map(Why::Lacks)
}

/// The cheapest first, unknown costs last. Of equals, those that are likely to answer sooner come first;
/// the first of all is the better of two drawn by lot, so that requests spread instead of all going
/// where it was fastest a moment ago.
fn by_cost_then_latency(rated: &mut [Rated], outlook: &impl Outlook) {
    type Price = (bool, Option<Decimal>);
    let price = |rated: &Rated| -> Price { (rated.candidate.cost.is_none(), rated.candidate.cost) };
    rated.sort_by_key(|rated| (price(rated), rated.pace(), rated.place));
    let Some(best) = rated.first().map(price) else { return };
    let equals = rated.iter().take_while(|rated| price(rated) == best).count();
    let known = rated[..equals].iter().any(|rated| rated.candidate.latency.is_some());
    if let Some(drawn) = draw(equals, known, outlook) {
        rated[..=drawn].rotate_right(1);
    }
}

/// Which of so many equals in the order of latency comes first: the faster of two, drawn by lot. None
/// if that needs no lot.
fn draw(equals: usize, known: bool, outlook: &impl Outlook) -> Option<usize> {
    if equals < 2 || !known {
        return None;
    }
    let draw = outlook.random();
    let (one, other) = (draw as usize % equals, (draw >> 32) as usize % (equals - 1));
    let other = if other >= one { other + 1 } else { other };
    Some(one.min(other))
}

/// What is left of those that cost the same: the fastest, so many at most, in this order, but the one
/// that was drawn before all others.
fn fastest_first(equals: &mut Vec<Found<'_>>, drawn: Option<usize>, room: usize) {
    let key = |found: &Found<'_>| (found.pace(), found.listed.place);
    if room < equals.len() {
        equals.select_nth_unstable_by_key(room, key);
        if let Some(rank) = drawn.filter(|rank| *rank > room) {
            equals[room..].select_nth_unstable_by_key(rank - room, key);
        }
    }
    let sorted = room.min(equals.len());
    equals[..sorted].sort_unstable_by_key(key);
    if let Some(rank) = drawn {
        equals[..=rank].rotate_right(1);
    }
    equals.truncate(room);
}

/// Whether a route may be in force.
fn check(route: &Route, entries: &IndexMap<ProviderName, Entry>) -> RouteState {
    for target in &route.candidates {
        let Some(provider) = &target.provider else { continue };
        match entries.get(provider) {
            Some(entry) if route.sensitive && entry.kind != ProviderKind::Local => {
                return RouteState::Refused(format!(
                    "it is for sensitive requests, and '{provider}' is external: such a request \
                     would leave your machines. Name local providers only, or say `kind: local` at \
                     '{provider}' if it runs on machines you control"
                ));
            }
            _ => {}
        }
    }
    RouteState::Open(route.clone())
}
