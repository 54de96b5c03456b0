//! The provider's settings: a flavor, and each difference by itself.

use keyward_sdk::{
    Failure,
    openai_wire::{
        Earlier, EmbeddingFormat, LogProbabilities, Off, Profile, ReasoningForm, StructuredOutput,
    },
};
use serde::Deserialize;

/// As the descriptor declares them. What isn't set is as the flavor has it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    flavor: Flavor,
    max_tokens_field: Option<MaxTokensField>,
    seed_field: Option<SeedField>,
    developer_role: Option<bool>,
    participant_names: Option<bool>,
    stream_usage: Option<bool>,
    top_k: Option<bool>,
    multiple_choices: Option<bool>,
    logprobs: Option<LogprobsForm>,
    parallel_tool_calls: Option<bool>,
    strict_schemas: Option<bool>,
    structured_output: Option<Structured>,
    reasoning: Option<ReasoningSetting>,
    thinking_field: Option<ThinkingField>,
    video: Option<bool>,
    cache_marks: Option<bool>,
    embedding_format: Option<EmbeddingSetting>,
    models_path: Option<String>,
    probe_path: Option<String>,
    site_url: Option<String>,
    site_name: Option<String>,
}

/// What a server's documentation says of it, as presets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// What nearly all servers understand.
    #[default]
    Generic,
    /// OpenAI's own API under another address: a proxy, or Azure's v1 API.
    #[serde(rename = "openai")]
    OpenAi,
    Vllm,
    LlamaCpp,
    LmStudio,
    Groq,
    Mistral,
    Together,
    #[serde(rename = "openrouter")]
    OpenRouter,
    #[serde(rename = "deepseek")]
    DeepSeek,
}

impl Flavor {
    /// Their names in `providers.yaml`.
    pub const NAMES: [&str; 10] = [
        "generic",
        "openai",
        "vllm",
        "llama-cpp",
        "lm-studio",
        "groq",
        "mistral",
        "together",
        "openrouter",
        "deepseek",
    ];

    fn profile(self) -> Profile {
        const BASE: Profile = Profile::COMPATIBLE;
        match self {
            Self::Generic => BASE,
            Self::OpenAi => Profile::OPENAI,
            Self::Vllm => Profile {
                top_k: true,
                video: true,
                earlier: Earlier::Member { name: "reasoning", beside_calls: false },
                embeddings: EmbeddingFormat::Base64,
                ..BASE
            },
            Self::LlamaCpp => Profile {
                top_k: true,
                earlier: Earlier::Member { name: "reasoning_content", beside_calls: false },
                embeddings: EmbeddingFormat::Base64,
                dimensions: None,
                ..BASE
            },
            Self::LmStudio => Profile {
                top_k: true,
                choices: false,
                logprobs: LogProbabilities::Unknown,
                parallel_tool_calls: false,
                reasoning: ReasoningForm::Unknown,
                structured: StructuredOutput::SchemaOnly,
                embeddings: EmbeddingFormat::Unsaid,
                dimensions: None,
                ..BASE
            },
            Self::Groq => Profile {
                max_tokens: "max_completion_tokens",
                names: false,
                choices: false,
                logprobs: LogProbabilities::Unknown,
                earlier: Earlier::Member { name: "reasoning", beside_calls: false },
                ..BASE
            },
            Self::Mistral => Profile {
                seed: Some("random_seed"),
                names: false,
                // Counts come with the last chunk, unasked.
                stream_usage: false,
                logprobs: LogProbabilities::Unknown,
                earlier: Earlier::Parts,
                short_call_ids: true,
                dimensions: Some("output_dimension"),
                ..BASE
            },
            Self::Together => Profile {
                top_k: true,
                logprobs: LogProbabilities::Count,
                parallel_tool_calls: false,
                reasoning: ReasoningForm::Effort {
                    off: Some(Off { member: "reasoning", json: r#"{"enabled":false}"# }),
                },
                video: true,
                embeddings: EmbeddingFormat::Unsaid,
                dimensions: None,
                ..BASE
            },
            Self::OpenRouter => Profile {
                top_k: true,
                reasoning: ReasoningForm::Object,
                earlier: Earlier::Member { name: "reasoning", beside_calls: false },
                video: true,
                cache_marks: true,
                ..BASE
            },
            Self::DeepSeek => Profile {
                seed: None,
                choices: false,
                parallel_tool_calls: false,
                strict: false,
                structured: StructuredOutput::Object,
                reasoning: ReasoningForm::Effort {
                    off: Some(Off { member: "thinking", json: r#"{"type":"disabled"}"# }),
                },
                earlier: Earlier::Member { name: "reasoning_content", beside_calls: true },
                ..BASE
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum MaxTokensField {
    MaxTokens,
    MaxCompletionTokens,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SeedField {
    Seed,
    RandomSeed,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LogprobsForm {
    Switch,
    Count,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Structured {
    JsonSchema,
    JsonSchemaOnly,
    JsonObject,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReasoningSetting {
    Effort,
    Object,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThinkingField {
    ReasoningContent,
    Reasoning,
    Parts,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EmbeddingSetting {
    Base64,
    Floats,
    Unsaid,
}

impl Settings {
    /// The flavor's profile with the settings that were made besides.
    pub fn profile(&self) -> Profile {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        let mut profile = self.flavor.profile();
        set(&mut profile.developer, self.developer_role);
        set(&mut profile.names, self.participant_names);
        set(&mut profile.stream_usage, self.stream_usage);
        set(&mut profile.top_k, self.top_k);
        set(&mut profile.choices, self.multiple_choices);
        set(&mut profile.parallel_tool_calls, self.parallel_tool_calls);
        set(&mut profile.strict, self.strict_schemas);
        set(&mut profile.video, self.video);
        set(&mut profile.cache_marks, self.cache_marks);
        let max_tokens = self.max_tokens_field.as_ref().map(|field| match field {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        });
        set(&mut profile.max_tokens, max_tokens);
        let seed = self.seed_field.as_ref().map(|field| match field {
            SeedField::Seed => Some("seed"),
            SeedField::RandomSeed => Some("random_seed"),
            SeedField::None => None,
        });
        set(&mut profile.seed, seed);
        let logprobs = self.logprobs.as_ref().map(|form| match form {
            LogprobsForm::Switch => LogProbabilities::Switch,
            LogprobsForm::Count => LogProbabilities::Count,
            LogprobsForm::None => LogProbabilities::Unknown,
        });
        set(&mut profile.logprobs, logprobs);
        let structured = self.structured_output.as_ref().map(|known| match known {
            Structured::JsonSchema => StructuredOutput::Schema,
            Structured::JsonSchemaOnly => StructuredOutput::SchemaOnly,
            Structured::JsonObject => StructuredOutput::Object,
            Structured::None => StructuredOutput::Nothing,
        });
        set(&mut profile.structured, structured);
        let reasoning = self.reasoning.as_ref().map(|form| match form {
            ReasoningSetting::Effort => ReasoningForm::Effort { off: None },
            ReasoningSetting::Object => ReasoningForm::Object,
            ReasoningSetting::None => ReasoningForm::Unknown,
        });
        set(&mut profile.reasoning, reasoning);
        let earlier = self.thinking_field.as_ref().map(|field| match field {
            ThinkingField::ReasoningContent => {
                Earlier::Member { name: "reasoning_content", beside_calls: false }
            }
            ThinkingField::Reasoning => Earlier::Member { name: "reasoning", beside_calls: false },
            ThinkingField::Parts => Earlier::Parts,
            ThinkingField::None => Earlier::Dropped,
        });
        set(&mut profile.earlier, earlier);
        let embeddings = self.embedding_format.as_ref().map(|format| match format {
            EmbeddingSetting::Base64 => EmbeddingFormat::Base64,
            EmbeddingSetting::Floats => EmbeddingFormat::Floats,
            EmbeddingSetting::Unsaid => EmbeddingFormat::Unsaid,
        });
        set(&mut profile.embeddings, embeddings);
        profile
    }

    /// Where the models are listed.
    pub fn models_path(&self) -> Result<String, Failure> {
        path("models_path", self.models_path.as_deref().unwrap_or("/models"))
    }

    /// What shows whether endpoint and key work. OpenRouter lists its models to anyone, so that
    /// its list tells nothing of a key.
    pub fn probe_path(&self) -> Result<String, Failure> {
        match (&self.probe_path, self.flavor) {
            (Some(probe), _) => path("probe_path", probe),
            (None, Flavor::OpenRouter) => path("probe_path", "/key"),
            (None, _) => self.models_path(),
        }
    }

    /// Headers by which some endpoints tell applications apart.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("http-referer", &self.site_url), ("x-title", &self.site_name)].into_iter().filter_map(
            |(name, value)| Some((name, value.as_deref().filter(|value| !value.is_empty())?)),
        )
    }
}

fn path(setting: &str, path: &str) -> Result<String, Failure> {
    match path.starts_with('/') {
        true => Ok(path.to_owned()),
        false => Err(Failure::settings(format!(
            "`settings.{setting}` is {path:?}; a path below the endpoint begins with a slash, such \
             as /models"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavor_and_every_choice_of_the_descriptor_can_be_set() {
        use keyward_sdk::descriptor::SettingType;
        for setting in crate::descriptor::descriptor().settings {
            let values = match setting.kind {
                SettingType::Choice(choices) => choices.into_iter().map(Into::into).collect(),
                SettingType::Boolean => vec![serde_json::Value::Bool(true)],
                _ => vec!["/x".into()],
            };
            for value in values {
                let json = serde_json::json!({setting.name.as_str(): value});
                let read = serde_json::from_value::<Settings>(json.clone());
                assert!(read.is_ok(), "{json}: {:?}", read.err());
            }
        }
    }
}
