//! Models worth naming, with their prices; any other model of the catalog can be used as well.
//!
//! Cloudflare bills in neurons, at 0.011 dollars for a thousand, and publishes what that makes for
//! tokens: these are the prices here, so that a cost can be told before anything is sent. What an
//! answer says of neurons is reported as the unit "neurons" besides.

use keyward_sdk::{
    describe,
    descriptor::{Model, Price},
};

const PRICING: &str = "https://developers.cloudflare.com/workers-ai/platform/pricing/";

/// The day the prices by tokens were published.
const PUBLISHED: &str = "2025-02-20";

pub fn known() -> Vec<Model> {
    let tools = ["chat", "tools"];
    vec![
        chat(
            "@cf/openai/gpt-oss-120b",
            "gpt-oss 120B",
            128_000,
            &["chat", "tools", "reasoning"],
            price("2025-08-05", "0.35", "0.75"),
        ),
        chat(
            "@cf/zai-org/glm-4.7-flash",
            "GLM 4.7 Flash",
            131_072,
            &["chat", "tools", "reasoning"],
            price("2026-01-28", "0.0605", "0.40"),
        ),
        chat(
            "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
            "Llama 3.3 70B",
            24_000,
            &tools,
            price(PUBLISHED, "0.293", "2.253"),
        ),
        chat(
            "@cf/meta/llama-3.2-11b-vision-instruct",
            "Llama 3.2 11B Vision",
            0,
            &["chat", "images"],
            price(PUBLISHED, "0.049", "0.676"),
        ),
        chat(
            "@cf/meta/llama-3.2-3b-instruct",
            "Llama 3.2 3B",
            0,
            &["chat"],
            price(PUBLISHED, "0.051", "0.335"),
        ),
        chat(
            "@cf/meta/llama-3.1-8b-instruct-fp8-fast",
            "Llama 3.1 8B",
            0,
            &["chat"],
            price(PUBLISHED, "0.045", "0.384"),
        ),
        embed("@cf/baai/bge-base-en-v1.5", "BGE Base", "0.067"),
        embed("@cf/baai/bge-large-en-v1.5", "BGE Large", "0.204"),
    ]
}

fn chat(id: &str, title: &str, window: u32, capabilities: &[&str], price: Price) -> Model {
    let mut model = describe::model(id, title, window, capabilities);
    model.prices = vec![price];
    model
}

fn embed(id: &str, title: &str, input: &str) -> Model {
    let mut model = describe::model(id, title, 0, &["embed"]);
    model.prices = vec![describe::dollars(PUBLISHED, PRICING, &[("input", input)])];
    model
}

fn price(from: &str, input: &str, output: &str) -> Price {
    describe::dollars(from, PRICING, &[("input", input), ("output", output)])
}
