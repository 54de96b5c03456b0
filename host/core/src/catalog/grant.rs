//! Which origin an adapter may send to, and with it a credential.
//!
//! An adapter proposes base URLs in its descriptor, but a stranger wrote that. A proposal counts
//! only if it is the one this table has for a well-known name; for everything else the operator
//! writes the `endpoint` into `providers.yaml`, and that line is the grant. The same goes for the
//! variables that vendors' own tools read keys from, and for an adapter's claim to be local: a
//! component that calls itself `openai` gets nothing out of it.

use keyward_contract::{Descriptor, ProviderKind};
use url::Url;

/// A vendor whose origin and variable are common knowledge.
struct WellKnown {
    adapter: &'static str,
    origin: &'static str,
    kind: ProviderKind,
    base: &'static str,
    variable: Option<&'static str>,
}

const WELL_KNOWN: &[WellKnown] = &[
    WellKnown {
        adapter: "openai",
        origin: "api",
        kind: ProviderKind::External,
        base: "https://api.openai.com/v1",
        variable: Some("OPENAI_API_KEY"),
    },
    WellKnown {
        adapter: "anthropic",
        origin: "api",
        kind: ProviderKind::External,
        base: "https://api.anthropic.com/v1",
        variable: Some("ANTHROPIC_API_KEY"),
    },
    WellKnown {
        adapter: "ollama",
        origin: "api",
        kind: ProviderKind::Local,
        base: "http://127.0.0.1:11434",
        variable: None,
    },
    WellKnown {
        adapter: "gemini",
        origin: "api",
        kind: ProviderKind::External,
        base: "https://generativelanguage.googleapis.com/v1beta",
        variable: Some("GEMINI_API_KEY"),
    },
    WellKnown {
        adapter: "cohere",
        origin: "api",
        kind: ProviderKind::External,
        base: "https://api.cohere.com",
        variable: Some("CO_API_KEY"),
    },
    WellKnown {
        adapter: "cloudflare",
        origin: "api",
        kind: ProviderKind::External,
        base: "https://api.cloudflare.com/client/v4",
        variable: Some("CLOUDFLARE_API_TOKEN"),
    },
    WellKnown {
        adapter: "localai",
        origin: "api",
        kind: ProviderKind::Local,
        base: "http://127.0.0.1:8080",
        variable: None,
    },
    WellKnown {
        adapter: "lightllm",
        origin: "api",
        kind: ProviderKind::Local,
        base: "http://127.0.0.1:8080",
        variable: None,
    },
];

fn well_known(adapter: &str, origin: &str) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.adapter == adapter && known.origin == origin)
}

/// The variable that holds this vendor's key by convention. Only for names in the table, so that
/// no component can ask for a variable of its choice.
pub fn usual_variable(adapter: &str, origin: &str) -> Option<&'static str> {
    well_known(adapter, origin)?.variable
}

/// Where the provider runs: as configured, else as the table knows, else as an adapter that sends
/// nothing says of itself; otherwise external.
pub(super) fn kind(descriptor: &Descriptor, configured: Option<ProviderKind>) -> ProviderKind {
    if let Some(kind) = configured {
        return kind;
    }
    if descriptor.origins.is_empty() {
        return ProviderKind::Local;
    }
    let known = descriptor.origins.iter().find_map(|o| well_known(&descriptor.name, &o.name));
    known.map_or(ProviderKind::External, |known| known.kind)
}

/// The base URL the provider's requests to `origin` may go to.
///
/// A configured endpoint without a path takes the path of the adapter's own base URL, so that
/// `https://proxy.example` means `https://proxy.example/v1` to an adapter whose vendor has its
/// API there.
///
/// # Errors
/// If nobody granted one; the text says which line would.
pub(super) fn base(
    descriptor: &Descriptor,
    origin: &keyward_contract::Origin,
    configured: Option<&Url>,
) -> Result<Url, String> {
    let proposed = origin.base_url.as_deref().and_then(|base| Url::parse(base).ok());
    if let Some(endpoint) = configured {
        let mut endpoint = endpoint.clone();
        if matches!(endpoint.path(), "" | "/")
            && let Some(proposed) = &proposed
        {
            endpoint.set_path(proposed.path());
        }
        return Ok(endpoint);
    }
    let known = well_known(&descriptor.name, &origin.name);
    match (known, &proposed) {
        (Some(known), Some(proposed)) if Url::parse(known.base).as_ref() == Ok(proposed) => {
            Ok(proposed.clone())
        }
        (_, Some(proposed)) => Err(format!(
            "the adapter '{}' would send to {proposed}, which nobody granted: if that is right, write \
             `endpoint: {proposed}` under this provider",
            descriptor.name
        )),
        (_, None) => Err(format!(
            "the adapter '{}' needs an address for '{}': write `endpoint:` under this provider",
            descriptor.name, origin.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str, base: &str) -> Descriptor {
        Descriptor {
            name: name.into(),
            kind: ProviderKind::Local,
            origins: vec![keyward_contract::Origin {
                name: "api".into(),
                base_url: Some(base.into()),
            }],
            ..Descriptor::default()
        }
    }

    fn granted(descriptor: &Descriptor, configured: Option<&str>) -> Result<String, String> {
        let configured = configured.map(|url| Url::parse(url).unwrap());
        base(descriptor, &descriptor.origins[0], configured.as_ref()).map(String::from)
    }

    #[test]
    fn a_well_known_adapter_needs_no_endpoint() {
        let openai = descriptor("openai", "https://api.openai.com/v1");
        assert_eq!(granted(&openai, None).unwrap(), "https://api.openai.com/v1");
    }

    #[test]
    fn an_adapter_that_takes_a_well_known_name_gets_no_other_origin() {
        let impostor = descriptor("openai", "https://api.openai.com.evil.test/v1");
        assert!(granted(&impostor, None).unwrap_err().contains("nobody granted"));
    }

    #[test]
    fn a_strangers_origin_needs_the_operators_line() {
        let stranger = descriptor("acme", "https://api.acme.test/v2");
        let error = granted(&stranger, None).unwrap_err();
        assert!(error.contains("`endpoint: https://api.acme.test/v2`"), "{error}");
        assert_eq!(
            granted(&stranger, Some("https://api.acme.test")).unwrap(),
            "https://api.acme.test/v2"
        );
        assert_eq!(
            granted(&stranger, Some("https://proxy.test/acme")).unwrap(),
            "https://proxy.test/acme"
        );
    }

    #[test]
    fn a_stranger_is_not_local_because_it_says_so() {
        let stranger = descriptor("acme", "http://127.0.0.1:1");
        assert_eq!(kind(&stranger, None), ProviderKind::External);
        assert_eq!(kind(&stranger, Some(ProviderKind::Local)), ProviderKind::Local);
        let silent = Descriptor { name: "x".into(), ..Descriptor::default() };
        assert_eq!(kind(&silent, None), ProviderKind::Local, "it sends nothing");
    }

    #[test]
    fn a_component_can_not_name_a_variable() {
        assert_eq!(usual_variable("openai", "api"), Some("OPENAI_API_KEY"));
        assert_eq!(usual_variable("acme", "api"), None);
        assert_eq!(usual_variable("openai", "elsewhere"), None);
    }
}
