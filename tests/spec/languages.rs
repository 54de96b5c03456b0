//! Adapters in other languages.
