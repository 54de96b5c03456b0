//! Reads `cache:`, of the host and of a provider, and `batch:`.

use super::{Field, Reader};
use crate::{
    batch::MAX_WAIT,
    config::caching::{AnswerCache, Batching, CacheSizes},
};

/// Beyond this, vendors take no request.
const MAX_INPUTS: u32 = 10_000;

const CACHE_FORM: &str = "As in `cache: {ttl: 10m}`: how long an answer is kept.";

impl<'t> Reader<'t> {
    pub(super) fn cache_sizes(&self, field: &Field<'t>) -> Option<CacheSizes> {
        let form = "As in `cache: {size: 64MiB, answer: 1MiB}`. A provider's own `cache: {ttl: 10m}` \
                    switches it on.";
        let mut section = self.section(field, form)?;
        let sizes = CacheSizes {
            size: section.read("size", Self::size),
            answer: section.read("answer", Self::size),
        };
        section.end();
        Some(sizes)
    }

    pub(super) fn answer_cache(&self, field: &Field<'t>) -> Option<AnswerCache> {
        let mut section = self.section(field, CACHE_FORM)?;
        let written = section.field("ttl");
        section.end();
        let Some(written) = written else {
            self.report(field, "no `ttl`", CACHE_FORM);
            return None;
        };
        Some(AnswerCache { ttl: self.duration(&written)? })
    }
    pub(super) fn batching(&self, field: &Field<'t>) -> Option<Batching> {
        let mut section = self.section(field, "As in `batch: {wait: 5ms, inputs: 96}`.")?;
        let wait = |r: &Self, field: &Field<'t>| {
            let wait = r.duration(field)?;
            if wait > MAX_WAIT {
                let help = "Every request that comes alone waits so long. A few milliseconds do.";
                r.report(field, "more than 1s", help);
                return None;
            }
            Some(wait)
        };
        let batching = Batching {
            wait: section.read("wait", wait),
            inputs: section.read("inputs", |r, field| r.number(field, MAX_INPUTS)),
        };
        section.end();
        Some(batching)
    }
}
