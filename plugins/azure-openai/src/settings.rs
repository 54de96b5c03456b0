//! The provider's settings, and the paths that follow from them.

use keyward_sdk::{Failure, openai_wire::Profile, path_segment};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// A dated version selects the API with the deployment in the path; without one, or with
    /// "latest" or "preview", it is the v1 API.
    api_version: Option<String>,
    deployments: Option<String>,
    max_tokens_field: Option<MaxTokensField>,
    stream_usage: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum MaxTokensField {
    MaxTokens,
    MaxCompletionTokens,
}

/// What callers call a model, and the deployment it is.
pub type Deployments<'a> = Vec<(&'a str, &'a str)>;

impl Settings {
    /// The pairs of "model=deployment, ...".
    pub fn deployments(&self) -> Result<Deployments<'_>, Failure> {
        let pairs = self.deployments.as_deref().unwrap_or_default().split(',');
        let pairs = pairs.map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, deployment) = pair.split_once('=').unwrap_or((pair, pair));
                match (name.trim(), deployment.trim()) {
                    ("", _) | (_, "") => Err(Failure::settings(format!(
                        "`settings.deployments` has {pair:?}; write model=deployment, as in \
                         gpt-4o=my-gpt-4o"
                    ))),
                    pair => Ok(pair),
                }
            })
            .collect()
    }

    /// The path of an operation, with the model replaced by its deployment.
    pub fn path(
        &self,
        model: Option<&mut String>,
        deployments: &Deployments<'_>,
        below: &str,
    ) -> String {
        let deployed = model.map(|model| {
            if let Some((_, deployment)) = deployments.iter().find(|(name, _)| name == model) {
                (*deployment).clone_into(model);
            }
            &*model
        });
        let version = self.api_version.as_deref().filter(|version| !version.is_empty());
        let query = version.map(|it| format!("?api-version={}", path_segment(it)));
        let query = query.unwrap_or_default();
        match (version, deployed) {
            (None | Some("latest" | "preview"), _) => format!("/openai/v1{below}{query}"),
            (Some(_), Some(deployment)) => {
                format!("/openai/deployments/{}{below}{query}", path_segment(deployment))
            }
            (Some(_), None) => format!("/openai{below}{query}"),
        }
    }

    pub fn profile(&self) -> Profile {
        let openai = Profile::OPENAI;
        Profile {
            max_tokens: match self.max_tokens_field {
                Some(MaxTokensField::MaxTokens) => "max_tokens",
                Some(MaxTokensField::MaxCompletionTokens) | None => openai.max_tokens,
            },
            stream_usage: self.stream_usage.unwrap_or(openai.stream_usage),
            ..openai
        }
    }
}
