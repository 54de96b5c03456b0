//! Asks a Rust compiler what it is.
//!
//! A standard library fits only the very compiler it was made for, so everything made for one is
//! filed under its [`Rustc::fingerprint`].

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::process::{self, Messages, QUESTION};

/// A release of Rust, also as it stands in front of a Debian version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// The first compiler that knows the 2024 edition, which adapters are written in.
pub const OLDEST_FOR_ADAPTERS: Version = Version { major: 1, minor: 85, patch: 0 };

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => {
                Ok(Self { major, minor, patch })
            }
            _ => Err(anyhow!("`{text}` isn't a release of Rust, such as 1.95.0")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A compiler on this machine.
#[derive(Clone, Debug)]
pub struct Rustc {
    pub program: OsString,
    /// As it says itself: "1.95.0", "1.97.0-nightly".
    pub release: String,
    /// The triple it runs on.
    pub host: String,
    /// Of the source it was built from; empty if it doesn't say.
    pub commit: String,
    pub sysroot: PathBuf,
    /// Differs between any two compilers whose libraries don't fit each other.
    pub fingerprint: String,
}

impl Rustc {
    /// The compiler cargo would use in `dir`: the variable `RUSTC`, otherwise `rustc`.
    pub fn find(dir: &Path) -> Result<Self> {
        let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        Self::ask(program, dir)
    }

    pub fn ask(program: OsString, dir: &Path) -> Result<Self> {
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            process::run(command.args(arguments).current_dir(dir), QUESTION, Messages::Kept)
        };
        let verbose = ask(&["-vV"]).context(
            "no Rust compiler; get Rust 1.95 or later (https://www.rust-lang.org/tools/install)",
        )?;
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim_end());
        let field = |name: &str| field(&verbose, name).map(str::to_owned);
        let (Some(release), Some(host)) = (field("release"), field("host")) else {
            bail!("`{}` doesn't say its release and host", program.to_string_lossy());
        };
        let commit = field("commit-hash").filter(|hash| hash != "unknown").unwrap_or_default();
        let digest = Sha256::new()
            .chain_update(&verbose)
            .chain_update(sysroot.as_os_str().as_encoded_bytes())
            .finalize();
        let fingerprint = format!("{release}-{}", &hex(&digest)[..12]);
        Ok(Self { program, release, host, commit, sysroot, fingerprint })
    }

    /// The release, if it is one: libraries for nightly builds are found nowhere but at rustup.
    pub fn stable_version(&self) -> Result<Version> {
        self.release
            .parse()
            .with_context(|| format!("rustc {} isn't a stable release", self.release))
    }

    /// Rust's own linker, where the distributor ships it.
    pub fn rust_lld(&self) -> Option<PathBuf> {
        let program = self.sysroot.join("lib/rustlib").join(&self.host).join("bin/rust-lld");
        program.is_file().then_some(program)
    }

    /// The name rustup gave this toolchain, if it is one of rustup's.
    pub fn rustup_toolchain(&self) -> Option<&str> {
        let parent = self.sysroot.parent()?;
        if parent.file_name()? != "toolchains" {
            return None;
        }
        self.sysroot.file_name()?.to_str()
    }
}

/// The value of one `name: value` line.
fn field<'a>(verbose: &'a str, name: &str) -> Option<&'a str> {
    verbose.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
        commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\ncommit-date: 2026-04-14\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn the_compiler_says_its_release_and_host() {
        assert_eq!(field(VERBOSE, "release"), Some("1.95.0"));
        assert_eq!(field(VERBOSE, "host"), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(field(VERBOSE, "absent"), None);
    }

    #[test]
    fn releases_are_ordered_by_number_and_not_by_letter() {
        let version = |text: &str| text.parse::<Version>().expect("a release");
        assert!(version("1.100.0") > version("1.95.0"));
        assert_eq!(version("1.95.0").to_string(), "1.95.0");
    }

    #[test]
    fn a_nightly_or_half_a_number_is_no_release() {
        for text in ["1.97.0-nightly", "1.95", "", "1.95.0.1", "1.x.0"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
