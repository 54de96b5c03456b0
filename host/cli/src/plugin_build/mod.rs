//! `keyward plugin build`: adapter crates in, WebAssembly components out, on any machine with Rust.
//!
//! [`toolchain`] finds a compiler with a standard library for [`TARGET`], or makes one where Rust's
//! own downloads can't be reached. [`component`] compiles a crate with it and wraps the module as
//! a component. The rest serves these two: [`rustc`] asks the compiler what it is, [`std_build`]
//! compiles the standard library, [`debian`] fetches packages without root, [`process`] runs
//! programs with a time limit.
//!
//! Bounds: nothing outside the cache folder, the crates' target folder and the output folder is
//! written, with one exception: `rustup target add` installs the target as a user would. Every
//! program that could hang on the network has a time limit.
//!
//! Costs: nothing where the target is installed; otherwise once per compiler about a minute of
//! compiling and 45 to 140 MB of packages, and 80 to 500 MB of cache that may be deleted any time.

mod component;
mod debian;
mod process;
mod rustc;
mod std_build;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use component::Built;

/// What adapters are compiled for: WebAssembly without an operating system, hence without imports.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Takes one line for the user about what happens next.
pub type Progress<'a> = dyn FnMut(&str) + 'a;

/// Builds each adapter crate in `dirs` into `<out>/<adapter>.wasm` and tells what came out, in the
/// order of the folders. Cargo's own progress goes to standard error.
///
/// A folder without a `Cargo.toml` stands for the crates right inside it. Without folders, the
/// crates are those of the package or workspace around the current folder. A `.wasm` file is a
/// module that another language's compiler made; it is only wrapped, and keeps its name.
///
/// # Errors
/// When no adapter crate is found, no way leads to a compiler for [`TARGET`], or a crate doesn't
/// compile or isn't an adapter. Components finished before stay written.
pub fn build(dirs: &[PathBuf], out: &Path, progress: &mut Progress) -> Result<Vec<Built>> {
    let (modules, dirs): (Vec<_>, Vec<_>) =
        dirs.iter().cloned().partition(|path| path.extension().is_some_and(|end| end == "wasm"));
    let mut built = Vec::new();
    for module in &modules {
        let one = component::wrap(module, out)?;
        progress(&one.to_string());
        built.push(one);
    }
    if dirs.is_empty() && !modules.is_empty() {
        return Ok(built);
    }
    let crates = component::find_crates(&dirs)?;
    let mut toolchains: Vec<(PathBuf, toolchain::Toolchain)> = Vec::new();
    for adapter in &crates {
        // Crates of one workspace share its `rust-toolchain.toml`; others may have their own.
        let known = toolchains.iter().position(|(root, _)| root == adapter.workspace_root());
        let index = match known {
            Some(index) => index,
            None => {
                let root = adapter.workspace_root().to_owned();
                let toolchain = toolchain::find(&root, progress)?;
                toolchains.push((root, toolchain));
                toolchains.len() - 1
            }
        };
        progress(&format!("Building the adapter `{}`.", adapter.name()));
        let one = adapter.build(&toolchains[index].1, out)?;
        progress(&one.to_string());
        built.push(one);
    }
    Ok(built)
}
