//! The JSON Schema of `providers.yaml`, for editors: the types' own, plus what serde can't say.

use std::{borrow::Cow, marker::PhantomData};

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{RecursiveTransform, Transform},
};

use super::types::{Config, VariableName};
use crate::{
    ids::{
        AccountName, AdapterName, KeyName, MAX_MODEL_NAME, MAX_NAME, ModelName, ProviderName,
        RouteName,
    },
    privacy::Detector,
};

impl Config {
    /// JSON Schema 2020-12 of the file.
    pub fn json_schema() -> serde_json::Value {
        let mut schema =
            SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Self>();
        schema.insert("title".to_owned(), "Keyward configuration".into());
        let mut on_one_line = RecursiveTransform(|schema: &mut Schema| {
            if let Some(serde_json::Value::String(text)) = schema.get_mut("description") {
                *text = text.replace('\n', " ");
            }
        });
        on_one_line.transform(&mut schema);
        schema.to_value()
    }
}

/// The short form of a thing, or the full one.
pub(super) struct OneOrObject<S, T>(PhantomData<(S, T)>);

impl<S: JsonSchema, T: JsonSchema> JsonSchema for OneOrObject<S, T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, full) = (generator.subschema_for::<S>(), generator.subschema_for::<T>());
        json_schema!({ "anyOf": [short, full] })
    }
}

fn name(description: &str) -> Schema {
    json_schema!({
        "type": "string",
        "description": description,
        "pattern": format!("^[a-z0-9][a-z0-9._-]{{0,{}}}$", MAX_NAME - 1),
    })
}

/// Names of one form, each with its own description.
macro_rules! names {
    ($($name:ident: $description:literal,)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                name($description)
            }
        }
    )*};
}

names! {
    ProviderName: "Lower-case letters, digits, `-`, `_` and `.`.",
    RouteName: "Lower-case letters, digits, `-`, `_` and `.`; not a provider's name.",
    AdapterName: "What the adapter calls itself: its file in the plugins folder without `.wasm`.",
    KeyName: "Lower-case letters, digits, `-`, `_` and `.`.",
    AccountName: "Lower-case letters, digits, `-`, `_` and `.`.",
}

impl JsonSchema for ModelName {
    fn schema_name() -> Cow<'static, str> {
        "ModelName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_MODEL_NAME })
    }
}

impl JsonSchema for VariableName {
    fn schema_name() -> Cow<'static, str> {
        "VariableName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" })
    }
}

pub(super) fn optional_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": "^https?://[^?#@\\s]+$" })
}

pub(super) fn urls(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "additionalProperties": { "type": "string", "pattern": "^https?://[^?#@\\s]+$" },
    })
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^([0-9]+ ?(ms|s|m|h|d))+$",
        "examples": ["250ms", "30s", "10m", "1h30m"],
    })
}

pub(super) fn optional_duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "pattern": "^([0-9]+ ?(ms|s|m|h|d))+$",
        "examples": ["250ms", "30s", "10m", "1h30m"],
    })
}

pub(super) fn optional_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB|KB|MB|GB)$",
        "examples": ["512KiB", "64MiB"],
    })
}

/// A decimal. A number is one as well: it is taken as written.
pub(super) fn optional_amount(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "number", "null"],
        "pattern": "^[0-9]+([.][0-9]+)?$",
        "minimum": 0,
        "examples": ["0.25"],
    })
}

pub(super) fn amounts(generator: &mut SchemaGenerator) -> Schema {
    let amount = optional_amount(generator);
    json_schema!({ "type": ["object", "null"], "additionalProperties": amount })
}

/// Each built-in detector as a switch.
pub(super) fn detectors(_: &mut SchemaGenerator) -> Schema {
    let switches = Detector::ALL.iter().map(|detector| {
        let switch = serde_json::json!({
            "type": ["boolean", "null"],
            "default": detector.on_by_default(),
        });
        (detector.as_str().to_owned(), switch)
    });
    let switches: serde_json::Map<_, _> = switches.collect();
    json_schema!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": switches,
    })
}

pub(super) fn optional_day(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "date" })
}

pub(super) fn optional_currency(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": "^[A-Z]{3}$" })
}

pub(super) fn sha256(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
}

pub(super) fn kind(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["local", "external", null] })
}
