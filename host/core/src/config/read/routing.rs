//! Reads `routes:`, `routing:` and `health:`.

use std::time::Duration;

use indexmap::IndexMap;

use super::{Field, Reader, Value, quote};
use crate::{
    config::routing::{Broken, HealthChecks, Hedge, Order, Route, RouteTarget, Routing, Streams},
    config::types::Provider,
    ids::{ModelName, ProviderName, RouteName},
};

/// The most attempts that can be configured: more would only multiply a vendor's trouble.
const MAX_ATTEMPTS: u32 = 16;

/// Failures and attempts that health may wait for: beyond it, it would never say anything.
const MAX_COUNTED: u32 = 1_000;

const ROUTE_FORM: &str = "As in `writing: [openai/gpt-5-mini, ollama/llama3.2]`, or with `candidates:`, `order:` and \
     `sensitive:`.";

impl<'t> Reader<'t> {
    pub(super) fn routes(
        &self,
        field: &Field<'t>,
        providers: &IndexMap<ProviderName, Provider>,
    ) -> Option<IndexMap<RouteName, Route>> {
        let read = |entry: Field<'t>, name: &RouteName, _: &'t str| {
            if providers.contains_key(name.as_str()) {
                let help = "Callers name both in a model's place: choose another name.";
                self.report(&entry, "a provider has the same name", help);
            }
            self.route(&entry, providers)
        };
        Some(self.named(field, ROUTE_FORM, RouteName::new, read))
    }

    fn route(
        &self,
        field: &Field<'t>,
        providers: &IndexMap<ProviderName, Provider>,
    ) -> Option<Route> {
        if let Value::List(_) = field.node.value {
            let candidates = self.targets(field, providers)?;
            return Some(Route { candidates, order: Order::default(), sensitive: false });
        }
        let mut section = self.section(field, ROUTE_FORM)?;
        let written = section.field("candidates");
        let candidates = written.as_ref().and_then(|field| self.targets(field, providers));
        let order = section.read("order", Self::order).unwrap_or_default();
        let sensitive = section.read("sensitive", Self::flag).unwrap_or_default();
        section.end();
        let Some(written) = written else {
            self.report(field, "a route without `candidates`", ROUTE_FORM);
            return None;
        };
        let route = Route { candidates: candidates?, order, sensitive };
        if sensitive {
            self.stays_home(&written, &route, providers);
        }
        Some(route)
    }

    /// A sensitive route names no provider that is written as external. What adapters say of
    /// themselves is known only once they are loaded, and checked then.
    fn stays_home(
        &self,
        field: &Field<'t>,
        route: &Route,
        providers: &IndexMap<ProviderName, Provider>,
    ) {
        for target in &route.candidates {
            let Some(name) = &target.provider else { continue };
            let external = providers
                .get(name)
                .is_some_and(|p| p.kind == Some(keyward_contract::ProviderKind::External));
            if external {
                let help = "Name local providers only, or leave out `sensitive: true`.";
                let message = format!(
                    "the route is for sensitive requests, and '{name}' is external: they would \
                     leave your machines"
                );
                self.report(field, message, help);
            }
        }
    }

    fn targets(
        &self,
        field: &Field<'t>,
        providers: &IndexMap<ProviderName, Provider>,
    ) -> Option<Vec<RouteTarget>> {
        let items = self.items(field, ROUTE_FORM);
        if items.is_empty() {
            self.report(field, "no candidates", ROUTE_FORM);
            return None;
        }
        Some(items.iter().filter_map(|item| self.target(item, providers)).collect())
    }

    /// `provider/model` if what is before the first `/` is a provider, or else a model whose name has
    /// a `/` in it, as those of some vendors do.
    fn target(
        &self,
        field: &Field<'t>,
        providers: &IndexMap<ProviderName, Provider>,
    ) -> Option<RouteTarget> {
        let name = self.model_name(field)?;
        let Some((provider, model)) = name.as_str().split_once('/') else {
            self.must_be_listed(field, &name, providers);
            return Some(RouteTarget { provider: None, model: name });
        };
        match (ProviderName::new(provider), ModelName::new(model)) {
            (Ok(provider), Ok(model)) if providers.contains_key(&provider) => {
                Some(RouteTarget { provider: Some(provider), model })
            }
            _ if lists(providers, &name) => Some(RouteTarget { provider: None, model: name }),
            _ => {
                let known: Vec<&str> = providers.keys().map(ProviderName::as_str).collect();
                let near = super::suggestion(provider, &known);
                let help = match near {
                    Some(near) => format!("Did you mean `{near}/{model}`?"),
                    None => format!("Providers here: {}.", known.join(", ")),
                };
                self.report(field, format!("there is no provider {}", quote(provider)), help);
                None
            }
        }
    }

    /// Where every provider lists its models, a model that none lists is a slip.
    fn must_be_listed(
        &self,
        field: &Field<'t>,
        name: &ModelName,
        providers: &IndexMap<ProviderName, Provider>,
    ) {
        let open = providers.values().any(|provider| provider.models.is_empty());
        if open || lists(providers, name) {
            return;
        }
        let known: Vec<&str> =
            providers.values().flat_map(|p| p.models.iter().map(|m| m.id.as_str())).collect();
        let help = match super::suggestion(name.as_str(), &known) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => "Write `provider/model`, or list the model under a provider.".to_owned(),
        };
        self.report(field, format!("no provider lists the model {}", quote(name.as_str())), help);
    }

    fn order(&self, field: &Field<'t>) -> Option<Order> {
        match self.literal(field, "Write `cost` or `listed`.")? {
            "cost" => Some(Order::Cost),
            "listed" => Some(Order::Listed),
            other => {
                let message = format!("{} is no order", quote(other));
                self.report(field, message, "Write `cost` or `listed`.");
                None
            }
        }
    }

    pub(super) fn routing(
        &self,
        field: &Field<'t>,
        providers: &IndexMap<ProviderName, Provider>,
    ) -> Option<Routing> {
        let mut section = self.section(field, "As in `routing: {attempts: 4, time: 30s}`.")?;
        let usual = Routing::default();
        let attempts = |r: &Self, f: &Field<'t>| r.number(f, MAX_ATTEMPTS);
        let routing = Routing {
            order: section.read("order", Self::order).unwrap_or_default(),
            attempts: section.read("attempts", attempts).unwrap_or(usual.attempts),
            retries: section.read("retries", Self::retries).unwrap_or(usual.retries),
            time: section.read("time", Self::duration).unwrap_or(usual.time),
            patience: section.read("patience", Self::duration).unwrap_or(usual.patience),
            watch: section.read("watch", Self::flag).unwrap_or(usual.watch),
            longest_wait: section
                .read("longest_wait", Self::duration)
                .unwrap_or(usual.longest_wait),
            fallback: section
                .read("fallback", |reader, field| Some(reader.fallback(field, providers)))
                .unwrap_or_default(),
            comparable: section.read("comparable", Self::flag).unwrap_or_default(),
            streams: section.read("streams", Self::streams).unwrap_or_default(),
            hedge: section.read("hedge", Self::hedge),
        };
        section.end();
        Some(routing)
    }

    fn retries(&self, field: &Field<'t>) -> Option<u32> {
        match &field.node.value {
            Value::Number(number) if number.as_u64() == Some(0) => Some(0),
            _ => self.number(field, MAX_ATTEMPTS),
        }
    }

    fn fallback(
        &self,
        field: &Field<'t>,
        providers: &IndexMap<ProviderName, Provider>,
    ) -> IndexMap<ModelName, Vec<RouteTarget>> {
        let form = "As in `fallback: {gpt-4o: [anthropic/claude-sonnet-4-5]}`.";
        let mut fallback = IndexMap::new();
        for (key, node) in self.entries(field, form).unwrap_or_default() {
            let entry = self.child(field, key, node);
            match ModelName::new(&key.name) {
                Ok(model) => {
                    if let Some(targets) = self.targets(&entry, providers) {
                        fallback.insert(model, targets);
                    }
                }
                Err(error) => {
                    let message = format!("{} is no model name", quote(&key.name));
                    self.report(&entry, message, format!("Here {error}."));
                }
            }
        }
        fallback
    }

    pub(super) fn health(&self, field: &Field<'t>) -> Option<HealthChecks> {
        let form = "As in `health: {interval: 30s, failures: 5}`.";
        let mut section = self.section(field, form)?;
        let usual = HealthChecks::default();
        let count = |r: &Self, f: &Field<'t>| r.number(f, MAX_COUNTED);
        let rest = section.field("rest");
        let longest = section.field("longest_rest");
        let read = |field: &Option<Field<'t>>| field.as_ref().map(|f| self.rest(f));
        let (first, most) = (read(&rest), read(&longest));
        let wrong = first == Some(None) || most == Some(None);
        let health = HealthChecks {
            enabled: section.read("enabled", Self::flag).unwrap_or(usual.enabled),
            interval: section.read("interval", Self::duration).unwrap_or(usual.interval),
            failures: section.read("failures", count).unwrap_or(usual.failures),
            share: section.read("share", |r, f| r.number(f, 100)).unwrap_or(usual.share),
            of: section.read("of", count).unwrap_or(usual.of),
            within: section.read("within", Self::rest).unwrap_or(usual.within),
            rest: first.flatten().unwrap_or(usual.rest),
            longest_rest: most.flatten().unwrap_or(usual.longest_rest),
        };
        section.end();
        if !wrong
            && health.rest > health.longest_rest
            && let Some(written) = longest.as_ref().or(rest.as_ref())
        {
            let help = "`rest` is 5s and `longest_rest` 5m unless given.";
            self.report(written, "the longest rest is shorter than the first", help);
        }
        Some(health)
    }

    fn rest(&self, field: &Field<'t>) -> Option<Duration> {
        let time = self.duration(field)?;
        if time > HealthChecks::LONGEST {
            let help =
                "What isn't used for an hour is forgotten, so nothing is counted or rests longer.";
            self.report(field, "more than 1 hour", help);
            return None;
        }
        Some(time)
    }

    fn streams(&self, field: &Field<'t>) -> Option<Streams> {
        let mut section = self.section(field, "As in `streams: {hold: 2s}`.")?;
        let streams = Streams {
            hold: section.read("hold", Self::duration),
            broken: section.read("broken", Self::broken).unwrap_or_default(),
        };
        section.end();
        Some(streams)
    }

    fn broken(&self, field: &Field<'t>) -> Option<Broken> {
        match self.literal(field, "Write `end` or `continue`.")? {
            "end" => Some(Broken::End),
            "continue" => Some(Broken::Continue),
            other => {
                let message = format!("{} is not what can happen to a stream", quote(other));
                self.report(field, message, "Write `end` or `continue`.");
                None
            }
        }
    }

    fn hedge(&self, field: &Field<'t>) -> Option<Hedge> {
        let form = "As in `hedge: {after: 2s, share: 10}`.";
        let mut section = self.section(field, form)?;
        let after = section.field("after");
        let share = |r: &Self, f: &Field<'t>| r.number(f, 100);
        let share = section.read("share", share).unwrap_or(Hedge::SHARE);
        section.end();
        let Some(after) = after else {
            self.report(field, "`hedge` without `after`", form);
            return None;
        };
        Some(Hedge { after: self.duration(&after)?, share })
    }
}

fn lists(providers: &IndexMap<ProviderName, Provider>, name: &ModelName) -> bool {
    let listed =
        |model: &crate::config::Model| model.id == *name || model.alias.as_ref() == Some(name);
    providers.values().any(|provider| provider.models.iter().any(listed))
}
