//! The contract between the Keyward host and its adapters, as far as both sides need it in Rust.
//!
//! The functions and types an adapter exports are in `adapter.wit` beside this crate; both sides
//! generate their bindings from it. What lives here is the [`Descriptor`]: the JSON document that
//! `describe` returns, shared by the host (which checks it) and the SDK (which writes it); and what
//! its prices mean ([`price`]), in exact decimals ([`decimal`]).
//!
//! Bounds: plain data and arithmetic; the host caps the document's size before it parses. Unknown
//! keys are ignored on purpose: an adapter built for a newer host still loads.

pub mod decimal;
mod descriptor;
pub mod price;

pub use decimal::Decimal;
pub use descriptor::{
    Amounts, Auth, AuthScheme, Credential, Descriptor, Document, Model, OperationKind, Origin,
    Price, PricePart, PriceStep, ProviderKind, Setting, SettingType,
};

/// The contract's version as the WIT package carries it.
pub const CONTRACT_VERSION: &str = "0.1.0";

/// The name of the interface every adapter exports, as it stands in a component.
pub const ADAPTER_INTERFACE: &str = "keyward:adapter/adapter@0.1.0";

/// The grant an adapter needs to read prompts instead of marks.
pub const GRANT_READ_CONTENT: &str = "read-content";

/// The WIT package itself, for tools that make or check components.
pub const ADAPTER_WIT: &str = include_str!("../adapter.wit");
