//! The vectors of one embeddings request, in the encoding the caller asked for.
//!
//! Vendors answer in either encoding and in any order; a vector that comes in the other form is
//! converted. One input has exactly one vector, and every number of it is finite.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyward::{
    Failure,
    contract::{Embedding, Vector},
};

/// Gathers the vectors of one request.
pub struct Vectors {
    base64: bool,
    /// By input; what hasn't come is absent.
    vectors: Vec<Option<Vector>>,
}

impl Vectors {
    /// For `inputs` inputs, as base64 if the caller asked for that.
    pub fn new(inputs: usize, base64: bool) -> Self {
        Self { base64, vectors: (0..inputs).map(|_| None).collect() }
    }

    /// # Errors
    /// If the vector belongs to no input, comes twice or isn't one.
    pub fn add(&mut self, embedding: Embedding) -> Result<(), Failure> {
        let vector = converted(embedding.vector, self.base64)?;
        match self.vectors.get_mut(embedding.index as usize) {
            Some(place @ None) => {
                *place = Some(vector);
                Ok(())
            }
            _ => {
                let index = embedding.index;
                let why = format!("vector {index} was given twice or belongs to no input");
                Err(Failure::malformed(why))
            }
        }
    }

    /// One vector for each input, in their order.
    ///
    /// # Errors
    /// If an input has none.
    pub fn finish(self) -> Result<Vec<Vector>, Failure> {
        let count = self.vectors.len();
        let whole = |(index, vector): (usize, Option<Vector>)| {
            vector.ok_or_else(|| {
                let why = format!("the vendor's answer has no vector for input {index} of {count}");
                Failure::malformed(why)
            })
        };
        self.vectors.into_iter().enumerate().map(whole).collect()
    }
}

/// The vector in the form asked for. Every number of it is finite.
fn converted(vector: Vector, to_base64: bool) -> Result<Vector, Failure> {
    let floats = match vector {
        Vector::Floats(floats) => floats,
        Vector::Base64(text) => {
            let bytes = STANDARD.decode(&text).map_err(|error| {
                Failure::malformed(format!("a vector isn't standard base64: {error}"))
            })?;
            let (floats, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(Failure::malformed("a vector isn't made of 32-bit floats"));
            }
            let floats: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if to_base64 {
                check_finite(&floats)?;
                return Ok(Vector::Base64(text));
            }
            floats
        }
    };
    check_finite(&floats)?;
    if !to_base64 {
        return Ok(Vector::Floats(floats));
    }
    let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    Ok(Vector::Base64(STANDARD.encode(bytes)))
}

fn check_finite(floats: &[f32]) -> Result<(), Failure> {
    if floats.iter().all(|float| float.is_finite()) {
        return Ok(());
    }
    Err(Failure::malformed("a vector holds a number that isn't finite"))
}
