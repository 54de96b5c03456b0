//! The list of models, page by page. It is free, and so the probe as well.

use std::borrow::Cow;

use keyward_sdk::{Failure, Model, Output, VendorRequest, json};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Models on a page.
const PER_PAGE: u32 = 100;

/// Pages at most: Cloudflare has about two hundred models.
const MAX_PAGES: u32 = 20;

pub struct Catalog {
    path: String,
    page: u32,
    per_page: u32,
    more: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    result: Vec<Item<'a>>,
    result_info: Option<Info>,
}

#[derive(Deserialize)]
struct Info {
    total_count: Option<u32>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    task: Option<Task<'a>>,
    #[serde(borrow, default)]
    properties: Vec<Property<'a>>,
}

#[derive(Deserialize)]
struct Task<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Property<'a> {
    #[serde(borrow)]
    property_id: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl Catalog {
    pub fn all(root: &str) -> Self {
        Self { path: format!("{root}/models/search"), page: 1, per_page: PER_PAGE, more: false }
    }

    pub fn probe(root: &str) -> Self {
        Self { per_page: 1, ..Self::all(root) }
    }

    pub fn next(&self) -> VendorRequest {
        let Self { path, page, per_page, .. } = self;
        VendorRequest::get(format!("{path}?per_page={per_page}&page={page}"))
    }

    pub fn has_more(&self) -> bool {
        self.more
    }

    pub fn page(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let page: Page<'_> = json::parse(data)?;
        let total = page.result_info.and_then(|info| info.total_count).unwrap_or(0);
        let seen = self.page.saturating_mul(self.per_page);
        self.more = !page.result.is_empty() && seen < total && self.page < MAX_PAGES;
        self.page += 1;
        if self.per_page > 1 {
            page.result.into_iter().filter_map(Item::into_model).for_each(|it| out.model(it));
        }
        Ok(())
    }
}

impl Item<'_> {
    /// None for models of other tasks than chats and embeddings.
    fn into_model(self) -> Option<Model> {
        let task = match &*self.task.as_ref()?.name {
            "Text Generation" => "chat",
            "Text Embeddings" => "embed",
            _ => return None,
        };
        let property = |name: &str| {
            let found = self.properties.iter().find(|property| property.property_id == name);
            // Numbers and booleans are strings here.
            found.map(|property| property.value.get().trim_matches('"'))
        };
        let can = |name: &str| property(name) == Some("true");
        let found = [
            (task, true),
            ("tools", can("function_calling")),
            ("images", can("vision")),
            ("reasoning", can("reasoning")),
        ];
        Some(Model {
            context_window: property("context_window").and_then(|value| value.parse().ok()),
            capabilities: found.iter().filter(|it| it.1).map(|it| it.0.to_owned()).collect(),
            extra: property("price")
                .map_or("{}".to_owned(), |price| format!("{{\"price\":{price}}}")),
            ..Model::new(self.name)
        })
    }
}
