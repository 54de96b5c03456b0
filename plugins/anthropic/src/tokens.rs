//! The count of a prompt's tokens, without an answer and without a price.
//!
//! No operation of the contract yet: it comes as an operation of a later version, of the kind
//! [`OPERATION`], whose JSON is the vendor's own request body. That goes out as it is, marks in it
//! included; the count comes back as usage.

use keyward_sdk::{Failure, Output, Usage, VendorRequest, json, json::Raw};
use serde::Deserialize;

/// The operation's kind.
pub const OPERATION: &str = "count-tokens";

/// # Errors
///
/// If the body isn't JSON.
pub fn request(body: &str) -> Result<VendorRequest, Failure> {
    VendorRequest::post("/messages/count_tokens", &Raw(body))
}

#[derive(Default)]
pub struct Count {
    counted: bool,
}

impl Count {
    /// # Errors
    ///
    /// If the answer isn't a count.
    pub fn answer(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Counted {
            input_tokens: u64,
        }
        let counted: Counted = json::parse(data)?;
        self.counted = true;
        out.usage(Usage { input: Some(counted.input_tokens), ..Usage::none() });
        Ok(())
    }

    /// # Errors
    ///
    /// If there was no count.
    pub fn end(&self) -> Result<(), Failure> {
        match self.counted {
            true => Ok(()),
            false => Err(Failure::malformed("The vendor's count is empty text.")),
        }
    }
}
