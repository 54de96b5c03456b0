//! The models an account may use, page by page.

use std::borrow::Cow;

use keyward_sdk::{Failure, Model, Output, VendorRequest, json::parse, path_segment, time};
use serde::Deserialize;

/// The vendor's largest page.
const PAGE: u32 = 1000;

/// Pages to follow at most: the vendor has some dozens of models, and a server that always says
/// "more" must not be followed for ever.
const MAX_PAGES: u32 = 10;

/// The first page, or the one after the model `after`.
pub fn request(after: Option<&str>) -> VendorRequest {
    VendorRequest::get(match after {
        None => format!("/models?limit={PAGE}"),
        Some(id) => format!("/models?limit={PAGE}&after_id={}", path_segment(id)),
    })
}

/// The cheapest request that needs a working credential.
pub fn probe() -> VendorRequest {
    VendorRequest::get("/models?limit=1")
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Entry<'a>>,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    last_id: Option<String>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    id: String,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(borrow, default)]
    created_at: Cow<'a, str>,
    #[serde(default)]
    max_input_tokens: Option<u32>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    capabilities: Option<Capabilities>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    image_input: Support,
    pdf_input: Support,
    structured_outputs: Support,
    thinking: Support,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Support {
    supported: bool,
}

#[derive(Default)]
pub struct Catalog {
    pages: u32,
    after: Option<String>,
}

impl Catalog {
    /// Emits the models of a page.
    pub fn page(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let page: Page<'_> = parse(data)?;
        self.pages += 1;
        self.after = page.last_id.filter(|_| page.has_more && self.pages < MAX_PAGES);
        for entry in page.data {
            let mut model = Model::new(entry.id);
            model.title = entry.display_name;
            model.context_window = entry.max_input_tokens;
            model.max_output_tokens = entry.max_tokens;
            // The vendor gives the beginning of 1970 for dates it doesn't know.
            let created = time::moment_ms(&entry.created_at).map(|moment| moment / 1000);
            model.created = created.filter(|&seconds| seconds > 0);
            let has = entry.capabilities.unwrap_or_default();
            for (capability, supported) in [
                ("chat", true),
                ("tools", true),
                ("images", has.image_input.supported),
                ("pdf", has.pdf_input.supported),
                ("json-schema", has.structured_outputs.supported),
                ("reasoning", has.thinking.supported),
            ] {
                if supported {
                    model.capabilities.push(capability.to_owned());
                }
            }
            out.model(model);
        }
        Ok(())
    }

    /// Asks for the next page, or ends.
    ///
    /// # Errors
    ///
    /// If there was no page at all.
    pub fn end(&mut self, out: &mut Output) -> Result<Option<VendorRequest>, Failure> {
        if self.pages == 0 {
            return Err(Failure::malformed("The vendor's list of models is empty text."));
        }
        let next = self.after.take().map(|after| request(Some(&after)));
        if next.is_none() {
            out.done();
        }
        Ok(next)
    }
}
