//! Fields that would steer the host, or a gateway behind it: refused in every dialect.
//!
//! Unknown fields go along to vendors that may know them. These names are known: by them callers of
//! other gateways choose where a request goes or with which key, and the gateways in use took keys to
//! wherever they said.

use keyward::{Failure, operation::Field};

/// Names by which callers of other gateways choose where a request goes or with which key. Here
/// only the operator does, and a gateway behind this one must not be told either.
pub const STEERING: &[&str] = &[
    "api_base",
    "api_key",
    "api_type",
    "api_version",
    "authorization",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "azure_ad_token",
    "azure_endpoint",
    "base_url",
    "custom_llm_provider",
    "default_headers",
    "endpoint",
    "extra_body",
    "extra_headers",
    "extra_query",
    "headers",
    "http_client",
    "litellm_params",
    "proxies",
    "proxy",
    "vertex_credentials",
];

/// # Errors
/// If a caller tries to choose where the request goes, here or in `metadata`, which some gateways
/// read as well.
pub fn check_steering(extra: &[Field]) -> Result<(), Failure> {
    let refused = |path: String| {
        let why =
            format!("'{path}' isn't allowed: only the operator chooses where a request goes.");
        Err(Failure::invalid(path, why))
    };
    for field in extra {
        if steers(&field.name) {
            return refused(field.name.clone());
        }
        if field.name == "metadata"
            && let Some(path) = serde_json::from_str(field.value.get())
                .ok()
                .and_then(|value: serde_json::Value| steering_key(&value))
        {
            return refused(format!("metadata.{path}"));
        }
    }
    Ok(())
}

fn steers(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    STEERING.contains(&name.as_str())
}

/// The path of the first steering key in a value. Recursion ends where parsing did.
fn steering_key(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            if steers(key) {
                return Some(key.clone());
            }
            steering_key(value).map(|path| format!("{key}.{path}"))
        }),
        serde_json::Value::Array(all) => all
            .iter()
            .enumerate()
            .find_map(|(at, value)| steering_key(value).map(|path| format!("{at}.{path}"))),
        _ => None,
    }
}
