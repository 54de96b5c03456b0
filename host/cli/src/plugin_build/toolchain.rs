//! Finds a compiler with a standard library for [`TARGET`], or makes one.
//!
//! First comes what costs nothing: the target installed beside the compiler, then what an earlier
//! run prepared. Then rustup, then the library's source if it is
//! there, then Debian's packages: the source that fits this compiler, at last a compiler of
//! Debian's own with its source. Packages are fetched into the cache folder, without root.
//!
//! A way has succeeded only when a probe program compiled and linked. What was made is kept under
//! `keyward/adapters/<compiler>/<way>` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`),
//! never in the compiler's own folders, which may be read-only or shared. A file `ready.json`,
//! written last, marks it as complete; a folder without it is begun anew.
//!
//! The variable [`WAY_VARIABLE`] forces one way, for those who want another than the first that
//! works. Its values: `installed`, `rustup`, `rust-src`, `debian`, `debian-rustc`.

use std::{
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::{
    Progress, TARGET,
    debian::{self, Apt, Compiler, Debian, Unpack},
    process::{self, Messages, QUESTION},
    rustc::Rustc,
    std_build,
};

/// Forces one [`Way`].
pub const WAY_VARIABLE: &str = "KEYWARD_WASM_TOOLCHAIN";

/// Rustup fetches some 20 MB. Where its server can't be reached, this is what finding out costs.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// Enough of a program to need the library, the allocator, a panic handler and a linker.
const PROBE: &str = "#[unsafe(no_mangle)] pub extern \"C\" fn probe(n: u32) -> usize { \
    (0..n).map(|i| i.to_string()).collect::<Vec<_>>().concat().len() }";

/// A way to a compiler for adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Installed,
    Rustup,
    RustSrc,
    Debian,
    DebianRustc,
}

impl Way {
    /// In the order they are tried.
    pub const ALL: [Self; 5] =
        [Self::Installed, Self::Rustup, Self::RustSrc, Self::Debian, Self::DebianRustc];

    pub fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Rustup => "rustup",
            Self::RustSrc => "rust-src",
            Self::Debian => "debian",
            Self::DebianRustc => "debian-rustc",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name).with_context(|| {
            let names: Vec<_> = Self::ALL.iter().map(|way| way.name()).collect();
            format!("{WAY_VARIABLE} is `{name}`; it must be one of {}", names.join(", "))
        })
    }

    /// What it does, for the progress lines.
    fn intent(self) -> &'static str {
        match self {
            Self::Installed => "using the target installed with Rust",
            Self::Rustup => "asking rustup for the target (at most 60 s)",
            Self::RustSrc => "compiling the standard library from the source beside Rust",
            Self::Debian => "fetching the standard library's source from Debian (45 MB)",
            Self::DebianRustc => "fetching Debian's own compiler with its source (140 MB)",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How adapters are compiled here. Whatever is absent is as cargo would have it anyway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    way: Way,
    rustc: Option<PathBuf>,
    sysroot: Option<PathBuf>,
    linker: Option<PathBuf>,
}

impl Toolchain {
    fn as_installed(way: Way) -> Self {
        Self { way, rustc: None, sysroot: None, linker: None }
    }

    /// A cargo that compiles for [`TARGET`] with this toolchain and these compiler flags.
    pub fn cargo(&self, flags: &[String]) -> Command {
        let mut command = cargo();
        if let Some(rustc) = &self.rustc {
            command.env("RUSTC", rustc);
        }
        let flags: Vec<String> = self.flags().into_iter().chain(flags.iter().cloned()).collect();
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        command
    }

    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if let Some(sysroot) = &self.sysroot {
            flags.push(format!("--sysroot={}", sysroot.display()));
        }
        if let Some(linker) = &self.linker {
            flags.push(format!("-Clinker={}", linker.display()));
        }
        flags
    }

    /// Compiles the probe program.
    fn check(&self, rustc: &Rustc, dir: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let source = folder.path().join("probe.rs");
        fs::write(&source, PROBE)?;
        let program =
            self.rustc.clone().map_or_else(|| rustc.program.clone(), PathBuf::into_os_string);
        let mut command = Command::new(program);
        command
            .args(["--edition=2024", "--crate-type=cdylib", "--target", TARGET])
            .args(self.flags())
            .arg("-o")
            .arg(folder.path().join("probe.wasm"))
            .arg(source)
            .current_dir(dir);
        process::run(&mut command, QUESTION, Messages::Kept)
            .context("a probe for WebAssembly doesn't compile")?;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        [&self.rustc, &self.sysroot, &self.linker].into_iter().flatten().all(|path| path.exists())
    }
}

/// No way leads to a compiler for adapters.
#[derive(Debug)]
struct NoToolchain {
    tried: Vec<(Way, anyhow::Error)>,
    release: String,
}

impl fmt::Display for NoToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no compiler for {TARGET}, which adapters are compiled for. Tried:")?;
        for (way, reason) in &self.tried {
            writeln!(f, "  {way}: {reason:#}")?;
        }
        write!(
            f,
            "Any of these helps: `rustup target add {TARGET}` where rustup's server can be \
             reached; the source of Rust {} (`rustup component add rust-src` or Debian's package \
             rust-src of that version); or a Debian machine that can fetch packages.",
            self.release
        )
    }
}

impl std::error::Error for NoToolchain {}

/// A compiler for crates in `dir`.
///
/// # Errors
/// When no way works: what was tried, why each failed, and what to do.
pub fn find(dir: &Path, progress: &mut Progress) -> Result<Toolchain> {
    let forced = match std::env::var(WAY_VARIABLE) {
        Ok(name) if !name.is_empty() => Some(Way::parse(&name)?),
        _ => None,
    };
    let rustc = Rustc::find(dir)?;
    let finder = Finder { dir, cache: cache_dir()?.join(&rustc.fingerprint), rustc };
    finder.find(forced, progress)
}

struct Finder<'a> {
    dir: &'a Path,
    rustc: Rustc,
    /// Everything made for this compiler.
    cache: PathBuf,
}

impl Finder<'_> {
    fn find(&self, forced: Option<Way>, progress: &mut Progress) -> Result<Toolchain> {
        let ways = forced.map_or(Way::ALL.to_vec(), |way| vec![way]);
        let mut tried = Vec::new();
        if ways.contains(&Way::Installed) {
            match self.installed(Way::Installed) {
                Ok(toolchain) => return Ok(toolchain),
                Err(reason) => tried.push((Way::Installed, reason)),
            }
        }
        if let Some(toolchain) = ways.iter().find_map(|way| self.remembered(*way)) {
            return Ok(toolchain);
        }
        progress(&format!(
            "Adapters are compiled for {TARGET}, which this Rust isn't set up for yet:"
        ));
        for way in ways.into_iter().filter(|way| *way != Way::Installed) {
            progress(&format!("  {way}: {}", way.intent()));
            match self.try_way(way, progress) {
                Ok(toolchain) => {
                    progress(&format!("  {way}: works"));
                    return Ok(toolchain);
                }
                Err(reason) => {
                    progress(&format!("  {way}: no, {reason:#}"));
                    tried.push((way, reason));
                }
            }
        }
        Err(NoToolchain { tried, release: self.rustc.release.clone() }.into())
    }

    fn try_way(&self, way: Way, progress: &mut Progress) -> Result<Toolchain> {
        if way == Way::Rustup {
            self.rustup_target_add()?;
            return self.installed(way);
        }
        // Another run may be at it. It gets as long as it needs: each of its steps is limited.
        let home = self.cache.join(way.name());
        fs::create_dir_all(&self.cache)
            .with_context(|| format!("cannot make {}", self.cache.display()))?;
        let lock = fs::File::create(self.cache.join("lock"))?;
        if lock.try_lock().is_err() {
            progress("  waiting for another keyward that prepares the compiler");
            lock.lock().context("cannot lock the cache folder")?;
        }
        if let Some(toolchain) = self.remembered(way) {
            return Ok(toolchain);
        }
        std_build::remove(&home)?;
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let made = self.make(way, &home, progress).and_then(|toolchain| {
            toolchain.check(&self.rustc, self.dir)?;
            fs::write(home.join("ready.json"), serde_json::to_vec(&toolchain)?)?;
            Ok(toolchain)
        });
        if made.is_err() {
            // A failed attempt would only take up space. Its own failure says more than this one.
            let _ = std_build::remove(&home);
        }
        made
    }

    fn make(&self, way: Way, home: &Path, progress: &mut Progress) -> Result<Toolchain> {
        match way {
            Way::Installed | Way::Rustup => bail!("nothing is to be made"),
            Way::RustSrc => {
                let source = std_build::source_in(&self.rustc.sysroot)
                    .with_context(|| format!("no rust-src in {}", self.rustc.sysroot.display()))?;
                let linker = self.linker()?;
                self.with_own_library(way, home, &source, linker, progress)
            }
            Way::Debian => self.with_debian_source(home, progress),
            Way::DebianRustc => self.with_debian_rustc(home, progress),
        }
    }

    /// What an earlier run made, if it is still there.
    fn remembered(&self, way: Way) -> Option<Toolchain> {
        let ready = fs::read(self.cache.join(way.name()).join("ready.json")).ok()?;
        serde_json::from_slice::<Toolchain>(&ready).ok().filter(Toolchain::is_complete)
    }

    fn installed(&self, way: Way) -> Result<Toolchain> {
        if !self.has_library() {
            bail!("the target isn't installed in {}", self.rustc.sysroot.display());
        }
        let toolchain = Toolchain::as_installed(way);
        toolchain.check(&self.rustc, self.dir)?;
        Ok(toolchain)
    }

    fn has_library(&self) -> bool {
        let is_core =
            |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
        fs::read_dir(std_build::lib_dir(&self.rustc.sysroot))
            .is_ok_and(|entries| entries.flatten().any(is_core))
    }

    fn rustup_target_add(&self) -> Result<()> {
        let Some(name) = self.rustc.rustup_toolchain() else {
            bail!("this Rust isn't rustup's ({})", self.rustc.sysroot.display());
        };
        if self.has_library() {
            // With a second copy beside it the compiler would find every crate twice.
            bail!("there is a library for the target already, and it doesn't work");
        }
        let mut command = Command::new("rustup");
        command
            .args(["target", "add", TARGET, "--toolchain", name])
            // By default it tries each download four times.
            .env("RUSTUP_MAX_RETRIES", "0")
            .env("RUST_BACKTRACE", "0");
        process::run(&mut command, RUSTUP_LIMIT, Messages::Kept)?;
        Ok(())
    }

    /// The compiler as it is, but with a sysroot of ours: its own parts by reference, and the
    /// library we compile.
    fn with_own_library(
        &self,
        way: Way,
        home: &Path,
        source: &Path,
        linker: Option<PathBuf>,
        progress: &mut Progress,
    ) -> Result<Toolchain> {
        let sysroot = home.join("sysroot");
        let rustlib = sysroot.join("lib/rustlib");
        fs::create_dir_all(&rustlib)?;
        let own = self.rustc.sysroot.join("lib/rustlib").join(&self.rustc.host);
        symlink(&own, &rustlib.join(&self.rustc.host))?;
        progress("  compiling the standard library (about a minute)");
        std_build::build(&self.rustc, source, &home.join("scratch"), &sysroot)?;
        Ok(Toolchain { way, rustc: None, sysroot: Some(sysroot), linker })
    }

    fn with_debian_source(&self, home: &Path, progress: &mut Progress) -> Result<Toolchain> {
        let version = self.rustc.stable_version()?;
        let debian = Debian::here()?;
        let packages = home.join("packages");
        let root = home.join("root");
        let apt = Apt::prepare(&packages, &debian.sources_with_source_packages(), progress)?;
        let source = apt.source_of(version)?.with_context(|| {
            format!("Debian has no package with the source of Rust {version} at present")
        })?;
        progress(&format!("  downloading {source}"));
        let linker = match self.linker() {
            Ok(linker) => linker,
            // A linker is a program for this machine: from its own release, not from a newer one.
            Err(_) => {
                let own =
                    Apt::prepare(&home.join("own"), &debian.sources_of_this_release(), progress)?;
                let lld = own.newest_lld()?;
                own.fetch_with_dependencies(&[lld], None)?;
                own.unpack(&root, Unpack::Everything)?;
                std_build::remove(&home.join("own"))?;
                Some(debian::wrapped_lld(&root, home)?)
            }
        };
        apt.fetch(&source)?;
        apt.unpack(&root, Unpack::LibrarySource)?;
        std_build::remove(&packages)?;
        let library = debian::library_in(&root)?;
        let toolchain = self.with_own_library(Way::Debian, home, &library, linker, progress)?;
        std_build::remove(&root.join("usr/src"))?;
        Ok(toolchain)
    }

    fn with_debian_rustc(&self, home: &Path, progress: &mut Progress) -> Result<Toolchain> {
        let debian = Debian::here()?;
        let packages = home.join("packages");
        let apt = Apt::prepare(&packages, &debian.sources_of_this_release(), progress)?;
        let mut failure = None;
        for compiler in apt.compilers()? {
            match self.with_debian_compiler(&compiler, &apt, home, progress) {
                Ok(toolchain) => {
                    std_build::remove(&packages)?;
                    return Ok(toolchain);
                }
                Err(error) => failure = Some(error.context(compiler.to_string())),
            }
        }
        Err(failure.unwrap_or_else(|| {
            anyhow!("Debian {} has no compiler recent enough", debian.codename())
        }))
    }

    fn with_debian_compiler(
        &self,
        compiler: &Compiler,
        apt: &Apt,
        home: &Path,
        progress: &mut Progress,
    ) -> Result<Toolchain> {
        progress(&format!("  downloading {compiler}"));
        let root = home.join("root");
        std_build::remove(&root)?;
        apt.clean()?;
        // Debian's compiler leaves the linker to another package; that of the other compiler here
        // does as well.
        let linker = self.linker().ok().map(|linker| linker.or_else(|| self.rustc.rust_lld()));
        let mut packages = compiler.packages();
        if linker.is_none() {
            packages.push(apt.newest_lld()?);
        }
        apt.fetch_with_dependencies(&packages, Some(compiler))?;
        apt.unpack(&root, Unpack::Everything)?;
        let program = debian::wrapped(&root, home, "rustc", &root.join("usr/bin/rustc"))?;
        let rustc = Rustc::ask(program.clone().into_os_string(), home)?;
        progress("  compiling the standard library (about a minute)");
        let scratch = home.join("scratch");
        std_build::build(&rustc, &debian::library_in(&root)?, &scratch, &rustc.sysroot)?;
        std_build::remove(&root.join("usr/src"))?;
        let linker = match linker {
            Some(linker) => linker,
            None => Some(debian::wrapped_lld(&root, home)?),
        };
        let way = Way::DebianRustc;
        Ok(Toolchain { way, rustc: Some(program), sysroot: None, linker })
    }

    /// What links WebAssembly; none if the compiler brings it along.
    fn linker(&self) -> Result<Option<PathBuf>> {
        if self.rustc.rust_lld().is_some() {
            return Ok(None);
        }
        process::on_path(&["rust-lld", "lld", "wasm-ld"])
            .map(Some)
            .context("no linker for WebAssembly; install LLD, for example with `apt install lld`")
    }
}

/// Cargo without what the environment would make it do differently: `keyward` may run inside a
/// `cargo run` or `cargo test` that was told to build elsewhere or otherwise.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for variable in [
        "CARGO_BUILD_BUILD_DIR",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "MAKEFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Where cargo keeps the sources of dependencies from registries and from git, all of them below
/// these folders.
pub fn fetched_sources() -> [PathBuf; 2] {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap_or_default();
    [home.join("registry/src"), home.join("git/checkouts")]
}

/// Where everything made here is kept, for all compilers.
fn cache_dir() -> Result<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    std::env::var_os("XDG_CACHE_HOME")
        .and_then(absolute)
        .or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .map(|cache| cache.join("keyward/adapters"))
        .context("no folder for the cache: neither XDG_CACHE_HOME nor HOME is set")
}

#[cfg(unix)]
fn symlink(from: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(from, to)
        .with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
}

#[cfg(windows)]
fn symlink(from: &Path, to: &Path) -> Result<()> {
    std::os::windows::fs::symlink_dir(from, to)
        .with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(cache: &Path) -> Finder<'_> {
        let rustc = Rustc {
            program: "false".into(),
            release: "1.95.0".to_owned(),
            host: "x86_64-unknown-linux-gnu".to_owned(),
            commit: String::new(),
            sysroot: cache.join("no-sysroot"),
            fingerprint: "1.95.0-0".to_owned(),
        };
        Finder { dir: cache, rustc, cache: cache.to_owned() }
    }

    fn remember(cache: &Path, toolchain: &Toolchain) {
        let home = cache.join(toolchain.way.name());
        fs::create_dir_all(&home).expect("a folder");
        let text = serde_json::to_vec(toolchain).expect("JSON");
        fs::write(home.join("ready.json"), text).expect("a file");
    }

    #[test]
    fn every_way_can_be_forced_by_its_name() {
        for way in Way::ALL {
            assert_eq!(Way::parse(way.name()).expect("known"), way);
            assert_eq!(serde_json::to_value(way).expect("JSON"), way.name());
        }
    }

    #[test]
    fn a_misspelt_way_is_answered_with_the_right_ones() {
        let error = Way::parse("debain").expect_err("unknown").to_string();
        assert!(error.contains("debain") && error.contains("debian-rustc"), "{error}");
    }

    #[test]
    fn the_cheap_ways_come_before_those_that_download() {
        let names = Way::ALL.map(Way::name);
        assert_eq!(names, ["installed", "rustup", "rust-src", "debian", "debian-rustc"]);
    }

    #[test]
    fn what_an_earlier_run_made_is_used_at_once() {
        let cache = tempfile::tempdir().expect("a folder");
        let made = Toolchain {
            way: Way::DebianRustc,
            rustc: Some(cache.path().to_owned()),
            sysroot: None,
            linker: None,
        };
        remember(cache.path(), &made);
        let mut said = Vec::new();
        let found = finder(cache.path()).find(None, &mut |line: &str| said.push(line.to_owned()));
        assert_eq!(found.expect("remembered"), made);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn what_was_deleted_since_is_not_remembered() {
        let cache = tempfile::tempdir().expect("a folder");
        let made = Toolchain {
            way: Way::RustSrc,
            rustc: None,
            sysroot: Some(cache.path().join("gone")),
            linker: None,
        };
        remember(cache.path(), &made);
        assert_eq!(finder(cache.path()).remembered(Way::RustSrc), None);
    }

    #[test]
    fn when_nothing_works_each_way_says_why_and_leaves_nothing_behind() {
        let cache = tempfile::tempdir().expect("a folder");
        let finder = finder(cache.path());
        let error = finder.find(Some(Way::RustSrc), &mut |_: &str| ()).expect_err("no source");
        let error = error.to_string();
        assert!(error.contains("rust-src: no rust-src in"), "{error}");
        assert!(error.contains("rustup component add rust-src"), "{error}");
        assert!(!cache.path().join("rust-src").exists());
    }
}
