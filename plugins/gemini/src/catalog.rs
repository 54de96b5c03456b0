//! The models an account may use, page by page.

use keyward_sdk::{Failure, Model, Output, VendorRequest, json::parse, path_segment};
use serde::Deserialize;

use crate::models::{Thinking, is_general, short_name, traits};

/// The vendor's largest page.
const PAGE: u32 = 1000;

/// Pages to follow at most: the vendor has some dozens of models, and a server that always says
/// "more" must not be followed for ever.
const MAX_PAGES: u32 = 10;

/// The first page, or the one with this token.
pub fn request(token: Option<&str>) -> VendorRequest {
    VendorRequest::get(match token {
        None => format!("/models?pageSize={PAGE}"),
        Some(token) => format!("/models?pageSize={PAGE}&pageToken={}", path_segment(token)),
    })
}

/// The cheapest request that needs a working credential.
pub fn probe() -> VendorRequest {
    VendorRequest::get("/models?pageSize=1")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    models: Vec<Entry>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    input_token_limit: Option<u32>,
    #[serde(default)]
    output_token_limit: Option<u32>,
    #[serde(default)]
    supported_generation_methods: Vec<String>,
    #[serde(default)]
    thinking: bool,
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
            let can = |method: &str| {
                entry.supported_generation_methods.iter().any(|known| known == method)
            };
            let (chats, embeds) = (can("generateContent"), can("embedContent"));
            let id = short_name(&entry.name);
            let general = chats && is_general(id);
            let thinks = entry.thinking || traits(id).thinking != Thinking::None;
            let mut model = Model::new(id);
            for (capability, has) in [
                ("chat", chats),
                ("tools", general),
                ("images", general),
                ("json-schema", general),
                ("reasoning", chats && thinks),
                ("embed", embeds),
            ] {
                if has {
                    model.capabilities.push(capability.to_owned());
                }
            }
            model.title = entry.display_name;
            model.context_window = entry.input_token_limit;
            model.max_output_tokens = entry.output_token_limit.filter(|_| chats);
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
