//! Writes `counts.json`: how many tokens real tokenizers make of the texts beside it.
//!
//!     cargo run --release --manifest-path tests/tokens/Cargo.toml
//!
//! Each text is cut at blank lines into pieces, and pieces are counted alone and three together, so
//! that short and longer prompts are there. `cargo test -p keyward-matrix estimate` holds Keyward's
//! own estimate against what is written here.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tokenizers = [("o200k_base", tiktoken_rs::o200k_base()?), ("cl100k_base", tiktoken_rs::cl100k_base()?)];
    let mut counts = Map::new();
    let mut paths: Vec<_> =
        fs::read_dir(folder.join("texts"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let pieces: Vec<&str> = text.split("\n\n").filter(|piece| !piece.trim().is_empty()).collect();
        let joined = pieces.chunks(3).map(|three| three.join("\n\n"));
        let samples = pieces.iter().map(|piece| (*piece).to_owned()).chain(joined);
        let samples: Vec<Value> = samples
            .map(|sample| {
                let mut counted = Map::new();
                counted.insert("bytes".to_owned(), json!(sample.len()));
                for (name, tokenizer) in &tokenizers {
                    let tokens = tokenizer.encode_ordinary(&sample).len();
                    counted.insert((*name).to_owned(), json!(tokens));
                }
                Value::Object(counted)
            })
            .collect();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        counts.insert(name, Value::Array(samples));
    }
    let lines: Vec<String> = counts
        .iter()
        .map(|(name, samples)| {
            let samples: Vec<String> =
                samples.as_array().into_iter().flatten().map(|one| format!("    {one}")).collect();
            format!("  {name:?}: [\n{}\n  ]", samples.join(",\n"))
        })
        .collect();
    fs::write(folder.join("counts.json"), format!("{{\n{}\n}}\n", lines.join(",\n")))?;
    Ok(())
}
