//! Compiles Rust's standard library for [`TARGET`] from its source, for the one compiler the
//! source belongs to.
//!
//! This is what the Rust project does for its own downloads: a stable compiler is told to accept
//! the library's unstable features, and the crates get the identity of a distributed library. The
//! library's few dependencies come from crates.io, at the versions of its lock file. It takes
//! about a minute of CPU time on one core.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    TARGET,
    process::{self, Messages},
    rustc::Rustc,
    toolchain,
};

/// Fifteen times what two cores need.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// As in the Rust project's builds: panics can be caught by those who compile for it, and memory
/// functions are included because there is no C library.
const FEATURES: &str = "panic-unwind backtrace compiler-builtins-mem";

/// The folder with the library's source in a sysroot, if the component `rust-src` is installed.
pub fn source_in(sysroot: &Path) -> Option<PathBuf> {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    library.join("sysroot/Cargo.toml").is_file().then_some(library)
}

/// Compiles the library in `library` with `rustc` and leaves its `.rlib` files in
/// `<sysroot>/lib/rustlib/<target>/lib`. `scratch` is emptied before and after.
pub fn build(rustc: &Rustc, library: &Path, scratch: &Path, sysroot: &Path) -> Result<()> {
    remove(scratch)?;
    fs::create_dir_all(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut command = toolchain::cargo();
    // Panic messages name files: as in the Rust project's builds, without this machine's folders.
    let [registry, _] = toolchain::fetched_sources();
    let flags = [
        "-Cembed-bitcode=yes".to_owned(),
        "-Zforce-unstable-if-unmarked".to_owned(),
        format!("--remap-path-prefix={}=/rustc/{}/library", library.display(), rustc.commit),
        format!("--remap-path-prefix={}=/rust/deps", registry.display()),
    ];
    command
        .arg("build")
        .args(["--release", "--locked", "--target", TARGET, "--features", FEATURES])
        .arg("--manifest-path")
        .arg(library.join("sysroot/Cargo.toml"))
        .arg("--target-dir")
        .arg(scratch)
        // Not the crate's folder: its cargo settings aren't meant for the library.
        .current_dir(scratch)
        .env("RUSTC", &rustc.program)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_DEFAULT_LIB_METADATA", "stablestd")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    process::run(&mut command, LIMIT, Messages::Shown)
        .context("the standard library didn't compile")?;
    collect(&scratch.join(TARGET).join("release/deps"), &lib_dir(sysroot))?;
    remove(scratch)
}

/// Where a compiler with this sysroot looks for the library.
pub fn lib_dir(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Puts the libraries of `from` in place of whatever is in `to`: two builds side by side would
/// leave the compiler with two candidates for each crate.
fn collect(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut found = 0;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rlib")
            && let Some(name) = path.file_name()
        {
            fs::copy(&path, to.join(name))
                .with_context(|| format!("cannot copy {}", path.display()))?;
            found += 1;
        }
    }
    if found == 0 {
        bail!("cargo left no libraries in {}", from.display());
    }
    Ok(())
}
