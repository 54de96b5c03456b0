//! The adapters, and what is asked of each.

use std::collections::BTreeMap;

use keyward_sdk::{
    Adapter, Context, Descriptor, Operation,
    contract::{Body, Input, Output, VendorRequest},
    replay::{self, Native, Recording, Target},
};
use serde_json::{Map, Value as Json, json};

/// One adapter, or one of the ways it speaks to its vendor.
pub struct Vendor {
    /// The folder in `plugins`.
    pub adapter: &'static str,
    /// As the table's head has it.
    pub title: &'static str,
    /// At the end of its recordings' names, where an adapter has more than one way.
    suffix: &'static str,
    settings: Json,
    /// What it is asked for in the table.
    pub model: &'static str,
    pub embedding_model: &'static str,
    /// The caller's dialect that the vendor speaks itself, if any.
    pub dialect: &'static str,
    /// Its thinking comes with a signature, and is taken back with it only.
    pub signs_thinking: bool,
    /// False for an adapter that asks nobody: there are no statuses and no bytes to damage.
    pub sends: bool,
    /// False for a lesser way of an adapter, which has no recording of each case: its place in the
    /// table shows that it loses nothing.
    pub every_case: bool,
    target: fn() -> Box<dyn Target>,
}

impl Default for Vendor {
    fn default() -> Self {
        Self {
            adapter: "",
            title: "",
            suffix: "",
            settings: json!({}),
            model: "",
            embedding_model: "",
            dialect: "",
            signs_thinking: true,
            sends: true,
            every_case: true,
            target: || unreachable!("a vendor has an adapter"),
        }
    }
}

fn native<A: Adapter>() -> Box<dyn Target> {
    Box::new(Native::<A>::default())
}

/// All of them, in the table's order.
pub fn all() -> Vec<Vendor> {
    vec![
        Vendor {
            adapter: "openai",
            title: "OpenAI",
            model: "gpt-5.6-terra",
            embedding_model: "text-embedding-3-small",
            dialect: "openai-chat",
            settings: json!({"api": "chat-completions"}),
            target: native::<keyward_adapter_openai::OpenAi>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "openai",
            title: "OpenAI Responses",
            suffix: "_responses",
            settings: json!({"api": "responses"}),
            model: "gpt-5.6-terra",
            embedding_model: "text-embedding-3-small",
            dialect: "openai-responses",
            target: native::<keyward_adapter_openai::OpenAi>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "anthropic",
            title: "Anthropic",
            model: "claude-sonnet-5-5",
            dialect: "anthropic-messages",
            target: native::<keyward_adapter_anthropic::Anthropic>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "gemini",
            title: "Gemini",
            model: "gemini-3.8-flash",
            embedding_model: "gemini-embedding-001",
            target: native::<keyward_adapter_gemini::Gemini>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "cohere",
            title: "Cohere",
            model: "command-a-reasoning-08-2025",
            embedding_model: "embed-v4.0",
            signs_thinking: false,
            target: native::<keyward_adapter_cohere::Cohere>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "ollama",
            title: "Ollama",
            model: "gpt-oss:20b",
            embedding_model: "embeddinggemma",
            dialect: "ollama",
            signs_thinking: false,
            target: native::<keyward_adapter_ollama::Ollama>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "openai-compatible",
            title: "OpenAI-compatible",
            model: "Qwen/Qwen3-8B",
            embedding_model: "bge-m3",
            dialect: "openai-chat",
            signs_thinking: false,
            target: native::<keyward_adapter_openai_compatible::OpenAiCompatible>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "azure-openai",
            title: "Azure OpenAI",
            model: "my-gpt-4o-mini",
            embedding_model: "my-embed",
            dialect: "openai-chat",
            signs_thinking: false,
            target: native::<keyward_adapter_azure_openai::AzureOpenAi>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "cloudflare",
            title: "Cloudflare",
            settings: json!({"account_id": "0123456789abcdef0123456789abcdef"}),
            model: "@cf/zai-org/glm-4.7-flash",
            embedding_model: "@cf/baai/bge-m3",
            dialect: "openai-chat",
            signs_thinking: false,
            target: native::<keyward_adapter_cloudflare::Cloudflare>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "cloudflare",
            title: "Cloudflare native",
            suffix: "_native",
            settings: json!({"account_id": "0123456789abcdef0123456789abcdef", "api": "native"}),
            model: "@cf/zai-org/glm-4.7-flash",
            embedding_model: "@cf/baai/bge-m3",
            dialect: "openai-chat",
            signs_thinking: false,
            target: native::<keyward_adapter_cloudflare::Cloudflare>,
            every_case: false,
            ..Vendor::default()
        },
        Vendor {
            adapter: "localai",
            title: "LocalAI",
            model: "qwen3-8b",
            embedding_model: "bge-m3",
            dialect: "openai-chat",
            signs_thinking: false,
            target: native::<keyward_adapter_localai::LocalAi>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "lightllm",
            title: "LightLLM",
            model: "qwen3-8b",
            dialect: "openai-chat",
            signs_thinking: false,
            target: native::<keyward_adapter_lightllm::LightLlm>,
            ..Vendor::default()
        },
        Vendor {
            adapter: "lightllm",
            title: "LightLLM generate",
            suffix: "_generate",
            settings: json!({"api": "generate"}),
            model: "qwen3-8b",
            signs_thinking: false,
            target: native::<keyward_adapter_lightllm::LightLlm>,
            every_case: false,
            ..Vendor::default()
        },
        Vendor {
            adapter: "demo",
            title: "Demo",
            model: "demo",
            embedding_model: "demo-embed",
            sends: false,
            target: native::<keyward_adapter_demo::Demo>,
            ..Vendor::default()
        },
    ]
}

impl Vendor {
    pub fn describe(&self) -> Descriptor {
        (self.target)().describe().unwrap()
    }

    /// Its recording of a case.
    pub fn recording(&self, case: &str) -> Option<Recording> {
        let name = format!("{case}{}", self.suffix);
        let path = crate::project(&format!("plugins/{}/recordings/{name}.json", self.adapter));
        path.exists().then(|| Recording::load(&path).unwrap_or_else(|problem| panic!("{problem}")))
    }

    /// All its recordings, by name.
    pub fn recordings(&self) -> Vec<Recording> {
        let folder = crate::project(&format!("plugins/{}/recordings", self.adapter));
        let mut recordings = replay::load_all(folder).unwrap_or_else(|problem| panic!("{problem}"));
        let others: Vec<&str> = all()
            .iter()
            .filter(|other| other.adapter == self.adapter && other.suffix.len() > self.suffix.len())
            .map(|other| other.suffix)
            .collect();
        recordings.retain(|recording| {
            let name = recording.name.as_str();
            name.ends_with(self.suffix) && !others.iter().any(|other| name.ends_with(other))
        });
        recordings
    }

    /// Replays a recording, so that what it says can be relied on.
    pub fn replay(&self, recording: &Recording) {
        let mut target = (self.target)();
        replay::check(recording, target.as_mut(), &replay::simple_framer)
            .unwrap_or_else(|problem| panic!("{}: {problem}", self.adapter));
    }

    /// What the adapter says before anything has been answered.
    pub fn start(&self, operation: Operation) -> Vec<Output> {
        let context = Context {
            settings: self.settings(),
            now_ms: 1_767_225_600_000,
            seed: 1,
            id: "exchange-1".to_owned(),
            grants: Vec::new(),
        };
        let mut exchange = (self.target)().open(operation, context).unwrap();
        let outputs = exchange.step(vec![Input::Start]).unwrap();
        for output in &outputs {
            if let Output::Send(VendorRequest { path, body: Body::Json(body), .. }) = output {
                let body = without_probes(serde_json::from_str(body).unwrap());
                let problems = crate::schemas::problems(self, path, &body);
                assert!(problems.is_empty(), "{}: {body}\n{}", self.title, problems.join("\n"));
            }
        }
        outputs
    }

    /// The defaults of the descriptor, as the host fills them in, and what this way of it needs.
    fn settings(&self) -> String {
        let described = self.describe().settings;
        let defaults = described
            .into_iter()
            .filter_map(|setting| Some((setting.name, setting.default?)))
            .collect::<BTreeMap<_, _>>();
        let mut settings: Map<String, Json> = defaults.into_iter().collect();
        settings.extend(self.settings.as_object().cloned().unwrap_or_default());
        Json::Object(settings).to_string()
    }
}

/// Without the members by which it is seen that a caller's own fields are passed on.
fn without_probes(json: Json) -> Json {
    match json {
        Json::Object(members) => members
            .into_iter()
            .filter(|(name, _)| !name.starts_with("probed_field"))
            .map(|(name, member)| (name, without_probes(member)))
            .collect(),
        Json::Array(items) => items.into_iter().map(without_probes).collect(),
        other => other,
    }
}
