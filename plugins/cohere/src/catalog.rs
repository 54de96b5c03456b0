//! The models an account may use, page by page. The list is still of the API's first version.

use keyward_sdk::{Failure, Model, Output, VendorRequest, json::parse, path_segment};
use serde::Deserialize;

/// The vendor's largest page.
const PAGE: u32 = 1000;

/// Pages to follow at most: the vendor has some dozens of models, and a server that always says
/// "more" must not be followed for ever.
const MAX_PAGES: u32 = 10;

/// The first page, or the one with this token.
pub fn request(token: Option<&str>) -> VendorRequest {
    VendorRequest::get(match token {
        None => format!("/v1/models?page_size={PAGE}"),
        Some(token) => format!("/v1/models?page_size={PAGE}&page_token={}", path_segment(token)),
    })
}

/// The cheapest request that needs a working credential.
pub fn probe() -> VendorRequest {
    VendorRequest::get("/v1/models?page_size=1")
}

#[derive(Deserialize)]
struct Page {
    models: Vec<Entry>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    endpoints: Option<Vec<String>>,
    #[serde(default)]
    features: Option<Vec<String>>,
    /// Whole tokens, but written as a number with a fraction by some versions.
    #[serde(default)]
    context_length: Option<f64>,
}

#[derive(Default)]
pub struct Catalog {
    pages: u32,
    /// The next page's token, if there is one.
    next: Option<String>,
}

impl Catalog {
    /// Emits the models of a page.
    pub fn page(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let page: Page = parse(data)?;
        self.pages += 1;
        let more = |token: &String| !token.is_empty() && self.pages < MAX_PAGES;
        self.next = page.next_page_token.filter(more);
        for entry in page.models {
            let endpoints = entry.endpoints.unwrap_or_default();
            let features = entry.features.unwrap_or_default();
            let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
            let mut model = Model::new(entry.name);
            for (capability, has) in [
                ("chat", has(&endpoints, "chat")),
                ("embed", has(&endpoints, "embed")),
                ("rerank", has(&endpoints, "rerank")),
                ("tools", has(&features, "tools")),
                ("images", has(&features, "vision")),
                ("json-schema", has(&features, "json_schema")),
                ("reasoning", has(&features, "reasoning")),
            ] {
                if has {
                    model.capabilities.push(capability.to_owned());
                }
            }
            let known = |&length: &f64| length >= 1.0;
            model.context_window = entry.context_length.filter(known).map(|length| length as u32);
            out.model(model);
        }
        Ok(())
    }

    /// After a page: the request for the next, if there is one.
    ///
    /// # Errors
    ///
    /// If there was no page.
    pub fn end(&mut self) -> Result<Option<VendorRequest>, Failure> {
        if self.pages == 0 {
            return Err(Failure::malformed("The vendor gave no list of models."));
        }
        Ok(self.next.take().map(|token| request(Some(&token))))
    }
}
