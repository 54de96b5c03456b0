//! All listed models that `auto` may choose, for requests that may go to any of them.
//!
//! There may be thousands, and a request tries a handful. So those that cost the same whatever is
//! asked are kept together, and [`Listing::by_cost`] gives them group by group: who wants a few
//! never looks at the dear ones. Made once for each snapshot. A request pays some nanoseconds for each
//! distinct price and nothing for a model that it doesn't reach.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use indexmap::IndexMap;
use keyward_contract::{Decimal, ProviderKind, price::Day};

use super::{
    cost::{Pricing, Size},
    roster::Entry,
};
use crate::{
    ids::{ModelName, ProviderName},
    models::ModelFacts,
};

/// A model that a provider lists.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// In the order of the configuration, over all providers.
    pub place: usize,
    /// The provider's place.
    pub at: usize,
    pub provider: ProviderName,
    pub kind: ProviderKind,
    pub model: ModelName,
    pub facts: Option<Arc<ModelFacts>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    groups: Vec<(Pricing, Vec<Listed>)>,
}

impl Listing {
    pub fn new(entries: &IndexMap<ProviderName, Entry>) -> Self {
        let mut groups: Vec<(Pricing, Vec<Listed>)> = Vec::new();
        let mut known: HashMap<Pricing, usize> = HashMap::new();
        let mut place = 0;
        let all = entries.iter().enumerate().filter(|(_, (_, entry))| entry.auto);
        for (at, (provider, entry)) in all {
            let mut seen = HashSet::new();
            for model in entry.models.iter().filter(|model| seen.insert(*model)) {
                let facts = entry.facts.get(model);
                let prices = facts.and_then(|facts| facts.prices.as_ref());
                let prices = prices.filter(|_| entry.cost_tracking).map(|prices| &prices.value);
                let pricing = Pricing::new(entry.kind, prices);
                let group = *known.entry(pricing).or_insert_with_key(|pricing| {
                    groups.push((pricing.clone(), Vec::new()));
                    groups.len() - 1
                });
                groups[group].1.push(Listed {
                    place,
                    at,
                    provider: provider.clone(),
                    kind: entry.kind,
                    model: model.clone(),
                    facts: facts.cloned(),
                });
                place += 1;
            }
        }
        Self { groups }
    }

    /// All that cost the same at once, with what that is, in the order of the configuration. The
    /// cheapest first, those of unknown cost last.
    pub fn by_cost(
        &self,
        size: Size,
        today: Day,
    ) -> impl Iterator<Item = (Option<Decimal>, Vec<&Listed>)> {
        let costs = self.groups.iter().enumerate().map(|(group, (pricing, _))| {
            let cost = pricing.expected(size, today);
            Reverse((cost.is_none(), cost, group))
        });
        let mut left: BinaryHeap<_> = costs.collect();
        std::iter::from_fn(move || {
            let Reverse((unknown, cost, group)) = left.pop()?;
            let mut listed: Vec<&Listed> = self.groups[group].1.iter().collect();
            let one = listed.len();
            let same = |next: &Reverse<(bool, Option<Decimal>, usize)>| {
                (next.0.0, next.0.1) == (unknown, cost)
            };
            while left.peek().is_some_and(same)
                && let Some(Reverse((.., group))) = left.pop()
            {
                listed.extend(&self.groups[group].1);
            }
            if listed.len() > one {
                listed.sort_unstable_by_key(|listed| listed.place);
            }
            Some((cost, listed))
        })
    }
}
