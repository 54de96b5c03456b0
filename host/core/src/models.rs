//! What is known of a model, from everyone who knows something.
//!
//! Three know: the operator, who writes `models:` under a provider; the vendor, whose list says
//! which models an account has and often what they can do; and the adapter, which brings the
//! vendor's published figures. For each fact the first of them that knows it is believed, in that
//! order, and says so ([`Source`]). Prices aren't on vendors' lists: they are the operator's or the
//! adapter's. An id is looked up exactly, or as one of the aliases that the adapter lists: a name
//! that merely looks alike may have another price.
//!
//! Nothing is made here on a request's path: a provider makes the facts of all models it can name when
//! it is bound. Costs some microseconds a model.

use std::{collections::HashMap, sync::Arc};

use keyward_contract::price::{Day, PriceList, Tariff};
use serde::Serialize;

use crate::{config, contract, ids::ModelName};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `providers.yaml`.
    Config,
    /// The vendor's own list, asked just now.
    Vendor,
    /// What the adapter's descriptor says.
    Adapter,
}

/// A value and who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sourced<T> {
    pub value: T,
    pub source: Source,
}

/// One model of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFacts {
    pub id: ModelName,
    /// What else callers may call it.
    pub alias: Option<ModelName>,
    pub title: Option<Sourced<String>>,
    /// Tokens, prompt and answer together.
    pub context_window: Option<Sourced<u32>>,
    pub max_output_tokens: Option<Sourced<u32>>,
    /// As in `adapter.wit`. None if nobody says, which isn't the same as none at all.
    pub capabilities: Option<Sourced<Vec<String>>>,
    /// None if nobody gives a price; a list without tariffs if somebody says that there is none.
    pub prices: Option<Sourced<PriceList>>,
    /// Seconds since 1970, by the vendor's list.
    pub created: Option<u64>,
}

impl ModelFacts {
    /// The prices that hold on a day, if anybody gives some.
    pub fn tariff(&self, day: Day) -> Option<&Arc<Tariff>> {
        self.prices.as_ref()?.value.on(day)
    }
}

/// What is known of the model `id`. `known` are the adapter's models, `listed` the vendor's.
pub fn facts(
    id: &ModelName,
    configured: &[config::Model],
    known: &[keyward_contract::Model],
    listed: &[contract::Model],
) -> ModelFacts {
    let configured = configured.iter().find(|model| model.id == *id);
    let listed = listed.iter().find(|model| model.id == id.as_str());
    let known = known.iter().find(|model| model.id == id.as_str()).or_else(|| {
        known.iter().find(|model| model.aliases.iter().any(|alias| alias == id.as_str()))
    });
    let number = |of_config: fn(&config::Model) -> Option<u32>,
                  of_list: fn(&contract::Model) -> Option<u32>,
                  of_adapter: fn(&keyward_contract::Model) -> Option<u32>| {
        first([
            (Source::Config, configured.and_then(of_config)),
            (Source::Vendor, listed.and_then(of_list).filter(|&number| number > 0)),
            (Source::Adapter, known.and_then(of_adapter)),
        ])
    };
    let named = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    ModelFacts {
        id: id.clone(),
        alias: configured.and_then(|model| model.alias.clone()),
        title: first([
            (Source::Vendor, listed.and_then(|model| model.title.clone())),
            (Source::Adapter, known.and_then(|model| model.title.clone())),
        ]),
        context_window: number(
            |model| model.context_window,
            |model| model.context_window,
            |model| model.context_window,
        ),
        max_output_tokens: number(
            |model| model.max_output_tokens,
            |model| model.max_output_tokens,
            |model| model.max_output_tokens,
        ),
        capabilities: first([
            (Source::Vendor, listed.and_then(|model| named(&model.capabilities))),
            (Source::Adapter, known.and_then(|model| named(&model.capabilities))),
        ]),
        prices: first([
            (Source::Config, configured.and_then(|model| checked(model.prices.as_deref()?))),
            (Source::Adapter, known.and_then(|model| claimed(&model.prices))),
        ]),
        created: listed.and_then(|model| model.created),
    }
}

/// What is known of every model that the operator or the adapter names, by each of its names.
pub fn all_facts(
    configured: &[config::Model],
    known: &[keyward_contract::Model],
) -> HashMap<ModelName, Arc<ModelFacts>> {
    let of_config = configured.iter().map(|model| model.id.clone());
    let of_adapter = known.iter().flat_map(|model| {
        let names = std::iter::once(&model.id).chain(&model.aliases);
        names.filter_map(|name| ModelName::new(name).ok())
    });
    let all = of_config.chain(of_adapter);
    all.map(|id| (id.clone(), Arc::new(facts(&id, configured, known, &[])))).collect()
}

/// The models of a provider by name: those configured, or else those the adapter knows and then
/// what else the vendor lists.
pub fn names(
    configured: &[config::Model],
    known: &[keyward_contract::Model],
    listed: &[contract::Model],
) -> Vec<ModelName> {
    if !configured.is_empty() {
        return configured.iter().map(|model| model.id.clone()).collect();
    }
    let ids = known.iter().map(|model| &model.id).chain(listed.iter().map(|model| &model.id));
    let names: indexmap::IndexSet<ModelName> =
        ids.filter_map(|id| ModelName::new(id).ok()).collect();
    names.into_iter().collect()
}

fn first<T, const N: usize>(said: [(Source, Option<T>); N]) -> Option<Sourced<T>> {
    let mut said = said.into_iter();
    said.find_map(|(source, value)| Some(Sourced { value: value?, source }))
}

/// Prices that were checked when the configuration was read.
fn checked(prices: &[keyward_contract::Price]) -> Option<PriceList> {
    PriceList::new(prices).ok()
}

/// A stranger's prices: those that can't be billed with are as good as none.
fn claimed(prices: &[keyward_contract::Price]) -> Option<PriceList> {
    checked(prices).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use keyward_contract::price::Class;

    use super::*;

    fn known() -> Vec<keyward_contract::Model> {
        serde_json::from_str(
            r#"[{"id": "m", "aliases": ["m-2026-01-01"], "title": "M", "context_window": 1000,
                "max_output_tokens": 100, "capabilities": ["chat"],
                "prices": [{"from": "2026-01-01", "currency": "USD", "source": "s",
                    "per_million": {"input": "2", "output": "4"}}]},
              {"id": "odd", "prices": [{"from": "soon", "currency": "USD", "source": ""}]}]"#,
        )
        .unwrap()
    }

    fn listed(id: &str, context_window: Option<u32>) -> contract::Model {
        contract::Model {
            id: id.to_owned(),
            title: None,
            context_window,
            max_output_tokens: None,
            capabilities: vec!["chat".to_owned(), "tools".to_owned()],
            created: Some(1),
            extra: "{}".to_owned(),
        }
    }

    fn name(id: &str) -> ModelName {
        ModelName::new(id).unwrap()
    }

    fn input_price(facts: &ModelFacts) -> Option<(String, Source)> {
        let tariff = facts.tariff(Day::of_ms(1_800_000_000_000))?;
        Some((tariff.per_million(Class::Input)?.to_string(), facts.prices.as_ref()?.source))
    }

    #[test]
    fn the_operator_is_believed_before_the_vendor_and_the_vendor_before_the_adapter() {
        let sourced = |value, source| Some(Sourced { value, source });
        let by_adapter = facts(&name("m"), &[], &known(), &[]);
        assert_eq!(by_adapter.context_window, sourced(1000, Source::Adapter));
        assert_eq!(input_price(&by_adapter), Some(("2".to_owned(), Source::Adapter)));

        let list = [listed("m", Some(2000))];
        let by_vendor = facts(&name("m"), &[], &known(), &list);
        assert_eq!(by_vendor.context_window, sourced(2000, Source::Vendor));
        assert_eq!(by_vendor.max_output_tokens, sourced(100, Source::Adapter));
        assert_eq!(by_vendor.capabilities.unwrap().value, ["chat", "tools"]);
        assert_eq!(by_vendor.created, Some(1));

        let mut configured = config::Model::new(name("m"));
        configured.context_window = Some(3000);
        let mut price = known()[0].prices[0].clone();
        price.amounts.per_million.insert("input".to_owned(), "1.5".to_owned());
        configured.prices = Some(vec![price]);
        let by_config = facts(&name("m"), &[configured.clone()], &known(), &list);
        assert_eq!(by_config.context_window, sourced(3000, Source::Config));
        assert_eq!(input_price(&by_config), Some(("1.5".to_owned(), Source::Config)));

        configured.prices = Some(Vec::new());
        let without = facts(&name("m"), &[configured], &known(), &list).prices.unwrap();
        assert!(without.value.is_empty() && without.source == Source::Config);
    }

    #[test]
    fn a_dated_version_is_known_by_its_alias_and_a_similar_name_is_not() {
        let dated = facts(&name("m-2026-01-01"), &[], &known(), &[listed("m-2026-01-01", None)]);
        assert_eq!(input_price(&dated), Some(("2".to_owned(), Source::Adapter)));
        assert_eq!(facts(&name("m-2024-05-13"), &[], &known(), &[]).prices, None);
    }

    #[test]
    fn a_price_that_cannot_be_billed_with_is_none() {
        assert_eq!(facts(&name("odd"), &[], &known(), &[]).prices, None);
    }

    #[test]
    fn models_are_those_configured_or_else_all_that_are_known() {
        let of = |configured: &[config::Model]| {
            let names = names(configured, &known(), &[listed("new", None), listed("m", None)]);
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["m", "odd", "new"]);
        assert_eq!(of(&[config::Model::new(name("mine"))]), ["mine"]);
    }
}
