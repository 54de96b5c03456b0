//! The list of models, with what vendors add to OpenAI's four members.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::error;
use crate::{Failure, Output, contract::Model, json};

/// Reports each model of a list.
pub(super) fn report(data: &str, out: &mut Output) -> Result<(), Failure> {
    let list: List<Item<'_>> = parse(data)?;
    for item in list.0 {
        out.model(item.into_model());
    }
    Ok(())
}

/// Takes any list of models, or an answer about the key, as a sign of life.
pub(super) fn probe(data: &str) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "data")]
        _data: IgnoredAny,
    }
    if data.trim_start().starts_with('[') {
        return json::parse::<Vec<IgnoredAny>>(data).map(|_| ());
    }
    match error::within(data) {
        Some(failure) => Err(failure),
        None => json::parse::<Answer>(data).map(|_| ()),
    }
}

fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<List<T>, Failure> {
    match error::within(data) {
        Some(failure) => Err(failure),
        None => json::parse(data),
    }
}

/// `{"data": [...]}`, or the list alone.
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of models")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<T>, A::Error> {
                let mut items = None;
                while let Some(json::Str(name)) = map.next_key()? {
                    match &*name {
                        "data" => items = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let missing = || serde::de::Error::missing_field("data");
                items.map(List).ok_or_else(missing)
            }
        }

        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    display_name: Option<Cow<'a, str>>,
    created: Option<u64>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    owned_by: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    pricing: Option<&'a RawValue>,
    // Under these names vendors say how much fits.
    max_model_len: Option<u32>,
    context_window: Option<u32>,
    context_length: Option<u32>,
    max_context_length: Option<u32>,
    context_size: Option<u32>,
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    top_provider: Option<TopProvider>,
    #[serde(default)]
    meta: Option<Meta>,
    // And under these what the model can do. They are hints: a shape unknown here is no error.
    #[serde(borrow, default, rename = "type", deserialize_with = "json::raw_or_null")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    supported_parameters: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    architecture: Option<&'a RawValue>,
}

/// OpenRouter's.
#[derive(Deserialize)]
struct TopProvider {
    max_completion_tokens: Option<u32>,
}

/// llama.cpp's.
#[derive(Deserialize)]
struct Meta {
    n_ctx: Option<u32>,
    n_ctx_train: Option<u32>,
}

/// Mistral's and Azure's. LocalAI's is a list of names.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Capabilities {
    #[serde(alias = "chat_completion")]
    completion_chat: bool,
    embeddings: bool,
    function_calling: bool,
    vision: bool,
    reasoning: bool,
}

/// OpenRouter's and llama.cpp's.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Architecture<'a> {
    #[serde(borrow)]
    input_modalities: Vec<Cow<'a, str>>,
}

impl Item<'_> {
    fn into_model(self) -> Model {
        let capabilities = self.abilities();
        let meta = |number: fn(&Meta) -> Option<u32>| self.meta.as_ref().and_then(number);
        let context_window = self
            .max_model_len
            .or(self.context_window)
            .or(self.context_length)
            .or(self.max_context_length)
            .or(self.context_size)
            .or(meta(|meta| meta.n_ctx))
            .or(meta(|meta| meta.n_ctx_train));
        let top = self.top_provider.and_then(|top| top.max_completion_tokens);
        let members: Vec<String> = [("owned_by", self.owned_by), ("pricing", self.pricing)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?.get())))
            .collect();
        let title = self.display_name.or(self.name).map(Cow::into_owned);
        Model {
            title: title.filter(|title| *title != self.id),
            context_window,
            max_output_tokens: self.max_completion_tokens.or(top),
            capabilities,
            created: self.created,
            extra: format!("{{{}}}", members.join(",")),
            ..Model::new(self.id)
        }
    }

    fn abilities(&self) -> Vec<String> {
        fn read<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> T {
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
        }
        let kind: Cow<'_, str> = read(self.kind);
        let can: Capabilities = read(self.capabilities);
        let named: Vec<Cow<'_, str>> = read(self.capabilities);
        let parameters: Vec<Cow<'_, str>> = read(self.supported_parameters);
        let architecture: Architecture<'_> = read(self.architecture);
        let parameter = |name: &str| parameters.iter().any(|known| known == name);
        let says = |name: &str| named.iter().any(|known| known == name);
        let takes_images = architecture.input_modalities.iter().any(|it| it == "image");
        let found = [
            (
                "chat",
                kind == "chat" || can.completion_chat || says("chat") || !parameters.is_empty(),
            ),
            ("embed", kind == "embedding" || can.embeddings || says("embeddings")),
            ("tools", can.function_calling || parameter("tools")),
            ("images", can.vision || says("vision") || takes_images),
            ("json-schema", parameter("structured_outputs")),
            ("reasoning", can.reasoning || parameter("reasoning")),
        ];
        found.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect()
    }
}
