//! Fetches Debian packages into a folder of ours, without root and without touching the system.
//!
//! Apt itself does the work, with its lists, cache and sources in our folder, so that signatures
//! are checked against the system's keyring as always and the system's proxies are used. The
//! mirror is the machine's own. Packages are unpacked, never installed: no script of theirs runs.

use std::{
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    Progress,
    process::{self, Messages, QUESTION},
    rustc::{OLDEST_FOR_ADAPTERS, Version},
};

/// For the package lists, up to 35 MB.
const UPDATE_LIMIT: Duration = Duration::from_secs(3 * 60);
/// For the packages, up to 140 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Also for unpacking, on a slow disk.
const UNPACK_LIMIT: Duration = Duration::from_secs(3 * 60);

const DEFAULT_ARCHIVE: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY: &str = "http://deb.debian.org/debian-security";

/// Where newer Rust is found than in the machine's own release. Sources fit any release; suites
/// that a mirror hasn't got are skipped.
const SUITES_WITH_NEWER_SOURCE: [&str; 3] = ["trixie", "trixie-backports", "sid"];

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Debian's two families of Rust packages: that of the release, and the newer one its browsers
/// are built with.
const FAMILIES: [Family; 2] = [
    Family { compiler: "rustc-web", source: "rust-web-src", library: "libstd-rust-web" },
    Family { compiler: "rustc", source: "rust-src", library: "libstd-rust" },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    compiler: &'static str,
    source: &'static str,
    library: &'static str,
}

/// This machine's release and mirror.
#[derive(Debug)]
pub struct Debian {
    codename: String,
    archive: String,
    security: String,
    keyring: &'static str,
}

impl Debian {
    /// # Errors
    /// When this isn't Debian, or lacks what is needed to fetch packages.
    pub fn here() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = codename(&release).context("this machine doesn't run Debian")?;
        let keyring = KEYRINGS
            .into_iter()
            .find(|keyring| Path::new(keyring).is_file())
            .context("Debian's keyring (package debian-archive-keyring) isn't installed")?;
        let sources = read_sources(Path::new("/etc/apt"));
        let of_suite = |suite: &str| {
            sources.iter().find(|source| source.has(suite)).map(|source| source.uri.clone())
        };
        Ok(Self {
            archive: of_suite(&codename).unwrap_or_else(|| DEFAULT_ARCHIVE.to_owned()),
            security: of_suite(&format!("{codename}-security"))
                .unwrap_or_else(|| DEFAULT_SECURITY.to_owned()),
            codename,
            keyring,
        })
    }

    pub fn codename(&self) -> &str {
        &self.codename
    }

    /// Whatever may run on this machine.
    pub fn sources_of_this_release(&self) -> String {
        let codename = &self.codename;
        self.line(&self.archive, codename)
            + &self.line(&self.archive, &format!("{codename}-updates"))
            + &self.line(&self.security, &format!("{codename}-security"))
    }

    /// Wherever source packages of newer Rust may be.
    pub fn sources_with_source_packages(&self) -> String {
        let newer = SUITES_WITH_NEWER_SOURCE.map(|suite| self.line(&self.archive, suite)).concat();
        self.line(&self.security, &format!("{}-security", self.codename)) + &newer
    }

    fn line(&self, uri: &str, suite: &str) -> String {
        format!("deb [signed-by={}] {uri} {suite} main\n", self.keyring)
    }
}

/// `VERSION_CODENAME`, if it is Debian's.
fn codename(os_release: &str) -> Option<String> {
    let value = |name: &str| {
        os_release.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?;
            Some(value.trim_matches(['"', '\'']).to_owned())
        })
    };
    if value("ID")? != "debian" {
        return None;
    }
    value("VERSION_CODENAME").filter(|name| !name.is_empty())
}

// -------------------------------------------------------------------------- the machine's mirror

/// One place packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

impl Source {
    /// Debian's own archive has the component `main`; repositories of others that borrow the
    /// name of a suite usually don't. A wrong guess ends at the signature.
    fn has(&self, suite: &str) -> bool {
        self.suites.iter().any(|known| known == suite)
            && self.components.iter().any(|c| c == "main")
    }
}

/// All sources configured below `/etc/apt`, Debian's usual files first.
fn read_sources(etc: &Path) -> Vec<Source> {
    let parts = etc.join("sources.list.d");
    let mut files: Vec<PathBuf> = fs::read_dir(&parts)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort_by_key(|file| (*file != parts.join("debian.sources"), file.clone()));
    files.insert(0, etc.join("sources.list"));
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(parse_stanzas(&text)),
            Some("list") => sources.extend(text.lines().filter_map(parse_line)),
            _ => {}
        }
    }
    sources
}

/// `deb [options] uri suite component...`
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix(char::is_whitespace)?.trim_start();
    if let Some(options) = rest.strip_prefix('[') {
        rest = options.split_once(']')?.1;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suites: vec![words.next()?], components: words.collect() })
}

/// Stanzas of `Name: value` with continuation lines, set apart by empty lines.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let mut stanzas = vec![Vec::<(String, String)>::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(stanza) = stanzas.last_mut() else { break };
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    stanzas.iter().flat_map(|stanza| sources_of(stanza)).collect()
}

fn sources_of(stanza: &[(String, String)]) -> Vec<Source> {
    let words = |wanted: &str| -> Vec<String> {
        let value = stanza.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        value.map(|value| value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    if words("enabled").first().is_some_and(|enabled| enabled == "no")
        || !words("types").iter().any(|kind| kind == "deb")
    {
        return Vec::new();
    }
    words("uris")
        .into_iter()
        .map(|uri| Source { uri, suites: words("suites"), components: words("components") })
        .collect()
}

// ------------------------------------------------------------------------------------------- apt

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    name: &'static str,
    version: String,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// A compiler of Debian's with the source of the same version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    family: Family,
    rust: Version,
    /// As Debian numbers it.
    version: String,
}

impl Compiler {
    /// The packages that make it up. What else they need is found by apt.
    pub fn packages(&self) -> Vec<String> {
        let Family { compiler, source, library } = self.family;
        let Version { major, minor, .. } = self.rust;
        vec![
            compiler.to_owned(),
            source.to_owned(),
            format!("{library}-dev"),
            format!("{library}-{major}.{minor}"),
        ]
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family.compiler, self.version)
    }
}

/// Which files of the downloaded packages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    Everything,
    /// Of Rust's source, which takes 430 MB, only the standard library.
    LibrarySource,
}

/// Apt with a folder of its own.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// Sets up `folder` for these sources and fetches their lists.
    pub fn prepare(folder: &Path, sources: &str, progress: &mut Progress) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let apt = Self { folder: folder.to_owned(), config: folder.join("apt.conf") };
        fs::write(folder.join("sources.list"), sources)?;
        fs::write(folder.join("preferences"), "")?;
        fs::write(&apt.config, configuration(folder)?)?;
        progress("  reading Debian's package lists");
        // Suites that the mirror hasn't got make this fail although the others are read.
        let outcome = apt.run("apt-get", &["-q", "update"], UPDATE_LIMIT);
        let lists = fs::read_dir(folder.join("lists"))?.flatten();
        let names = lists.map(|entry| entry.file_name().to_string_lossy().into_owned());
        if !names.into_iter().any(|name| name.contains("_Packages")) {
            outcome?;
            bail!("apt got no package lists");
        }
        Ok(apt)
    }

    /// The package with the source of this very release.
    pub fn source_of(&self, version: Version) -> Result<Option<Package>> {
        for family in FAMILIES {
            let known = self.versions(family.source)?;
            let fitting = known.into_iter().find(|known| upstream(known) == Some(version));
            if let Some(version) = fitting {
                return Ok(Some(Package { name: family.source, version }));
            }
        }
        Ok(None)
    }

    /// All compilers that can build adapters and have their source beside them, newest first.
    pub fn compilers(&self) -> Result<Vec<Compiler>> {
        let mut found = Vec::new();
        for family in FAMILIES {
            let sources = self.versions(family.source)?;
            for version in self.versions(family.compiler)? {
                let Some(rust) = upstream(&version) else { continue };
                let has_source = sources.iter().any(|source| upstream(source) == Some(rust));
                if has_source && rust >= OLDEST_FOR_ADAPTERS {
                    found.push(Compiler { family, rust, version });
                }
            }
        }
        found.sort_by_key(|compiler| std::cmp::Reverse(compiler.rust));
        Ok(found)
    }

    /// The name of the newest package with LLVM's linker.
    pub fn newest_lld(&self) -> Result<String> {
        let names = self.run("apt-cache", &["pkgnames", "lld-"], QUESTION)?;
        let number = |name: &str| name.strip_prefix("lld-")?.parse::<u32>().ok();
        let newest = names.lines().filter_map(number).max();
        newest.map(|number| format!("lld-{number}")).context("Debian has no package lld")
    }

    /// Downloads one package alone.
    pub fn fetch(&self, package: &Package) -> Result<()> {
        let mut command = self.command("apt-get");
        command
            .args(["-q", "download", &format!("{}={}", package.name, package.version)])
            .current_dir(self.archives());
        process::run(&mut command, DOWNLOAD_LIMIT, Messages::Kept)?;
        Ok(())
    }

    /// Downloads packages and what they need that this machine lacks.
    pub fn fetch_with_dependencies(&self, names: &[String], of: Option<&Compiler>) -> Result<()> {
        let preferences = of.map(|compiler| pin(&compiler.version)).unwrap_or_default();
        fs::write(self.folder.join("preferences"), preferences)?;
        // Reinstalled, so that they are downloaded even where they are installed.
        let mut arguments = vec!["-q", "-y", "--no-install-recommends", "--download-only"];
        arguments.extend(["--allow-downgrades", "--reinstall", "install"]);
        arguments.extend(names.iter().map(String::as_str));
        self.run("apt-get", &arguments, DOWNLOAD_LIMIT)?;
        Ok(())
    }

    /// Forgets what was downloaded.
    pub fn clean(&self) -> Result<()> {
        self.run("apt-get", &["clean"], QUESTION)?;
        Ok(())
    }

    /// Unpacks everything downloaded below `root`.
    pub fn unpack(&self, root: &Path, what: Unpack) -> Result<()> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        for entry in fs::read_dir(self.archives())? {
            let package = entry?.path();
            if package.extension().is_none_or(|extension| extension != "deb") {
                continue;
            }
            let name = package.file_name().unwrap_or_default().to_string_lossy();
            if what == Unpack::LibrarySource || FAMILIES.iter().any(|f| is_of(&name, f.source)) {
                unpack_library(&package, root)?;
            } else {
                let mut command = Command::new("dpkg-deb");
                command.arg("--extract").arg(&package).arg(root);
                process::run(&mut command, UNPACK_LIMIT, Messages::Kept)?;
            }
        }
        Ok(())
    }

    /// All versions of a package, newest first.
    fn versions(&self, package: &str) -> Result<Vec<String>> {
        Ok(parse_madison(&self.run("apt-cache", &["madison", package], QUESTION)?, package))
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<String> {
        process::run(self.command(program).args(arguments), limit, Messages::Kept)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Read after the system's configuration, so that ours wins and its proxies stay.
        command
            .arg("-c")
            .arg(&self.config)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

fn configuration(folder: &Path) -> Result<String> {
    let folder = folder.to_str().filter(|path| !path.contains(['"', '\n']));
    let folder = folder.context("apt can't work in a folder with such a name")?;
    Ok(format!(
        r#"Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "-";
Acquire::Languages "none";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::Retries "2";
// The system's own lock is root's, and nothing of the system's is written.
Debug::NoLocking "1";
// Root's cache folder is closed to the user apt would otherwise download as.
APT::Sandbox::User "root";
// Hooks are meant for changes of the system.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
"#
    ))
}

/// Makes apt prefer this version of all packages built from the same source.
fn pin(version: &str) -> String {
    // A rebuild for one architecture adds "+b1" to some of them.
    let version = match version.rsplit_once("+b") {
        Some((source, rebuild)) if rebuild.bytes().all(|b| b.is_ascii_digit()) => source,
        _ => version,
    };
    format!("Package: *\nPin: version {version}*\nPin-Priority: 1001\n")
}

/// Lines of ` name | version | source`.
fn parse_madison(table: &str, package: &str) -> Vec<String> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim);
        let (name, version) = (cells.next()?, cells.next()?);
        (name == package).then(|| version.to_owned())
    };
    table.lines().filter_map(row).collect()
}

/// The release of Rust in a Debian version: `[epoch:]1.95.0+dfsg1-2~bpo13+1`. None for a beta
/// (`1.96.0~beta.2+dfsg1-1`), whose library fits no release.
fn upstream(version: &str) -> Option<Version> {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    version.split(['+', '-']).next()?.parse().ok()
}

/// Whether a file `name_version_architecture.deb` is of this package.
fn is_of(file: &str, package: &str) -> bool {
    file.split_once('_').is_some_and(|(name, _)| name == package)
}

// -------------------------------------------------------------------------- what was unpacked

fn unpack_library(package: &Path, root: &Path) -> Result<()> {
    // `dpkg-deb` unpacks all or nothing; tar picks.
    let script = r#"dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --wildcards './usr/src/rustc-*/library/*'"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "unpack"]).arg(package).arg(root);
    process::run(&mut command, UNPACK_LIMIT, Messages::Kept)?;
    Ok(())
}

/// The standard library's source below `root`.
pub fn library_in(root: &Path) -> Result<PathBuf> {
    let sources = fs::read_dir(root.join("usr/src")).context("the package holds no source")?;
    sources
        .flatten()
        .map(|entry| entry.path().join("library"))
        .find(|library| library.join("sysroot/Cargo.toml").is_file())
        .context("the package doesn't hold the standard library's source")
}

/// A script in `home` that runs `program` from below `root` with the libraries from there.
pub fn wrapped(root: &Path, home: &Path, name: &str, program: &Path) -> Result<PathBuf> {
    let libraries = library_folder(root)?;
    let below = |path: &Path| -> Result<String> {
        let path = path.strip_prefix(home)?.to_str().context("a folder with such a name")?;
        Ok(path.to_owned())
    };
    let script = format!(
        "#!/bin/sh\n\
         # A program unpacked from Debian's packages, with the libraries beside it.\n\
         here=$(dirname -- \"$0\")\n\
         LD_LIBRARY_PATH=\"$here/{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" \
         exec \"$here/{}\" \"$@\"\n",
        below(&libraries)?,
        below(program)?,
    );
    let path = home.join(name);
    let mut file = fs::File::create(&path)?;
    file.write_all(script.as_bytes())?;
    make_executable(&file)?;
    Ok(path)
}

/// The linker of the package `lld-N` below `root`.
pub fn wrapped_lld(root: &Path, home: &Path) -> Result<PathBuf> {
    let llvms = fs::read_dir(root.join("usr/lib"))?.flatten();
    let program = llvms
        .map(|entry| entry.path().join("bin/lld"))
        .find(|program| program.is_file())
        .context("the package lld holds no linker")?;
    wrapped(root, home, "lld", &program)
}

/// The folder of shared libraries, named after the architecture.
fn library_folder(root: &Path) -> Result<PathBuf> {
    let folders = fs::read_dir(root.join("usr/lib"))?.flatten().map(|entry| entry.path());
    let mut named = folders.filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-gnu"))
    });
    named.next().context("the packages hold no libraries")
}

#[cfg(unix)]
fn make_executable(file: &fs::File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.set_permissions(fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn make_executable(_file: &fs::File) -> Result<()> {
    bail!("Debian's programs don't run here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a release")
    }

    #[test]
    fn debian_versions_give_the_release_of_rust() {
        for (debian, rust) in [
            ("1.95.0+dfsg1-2~bpo13+1", Some("1.95.0")),
            ("1.85.0+dfsg3-1~deb12u3", Some("1.85.0")),
            ("1:1.96.0-1", Some("1.96.0")),
            ("1.96.0~beta.2+dfsg1-1", None),
            ("19.1.7-3", Some("19.1.7")),
            ("unknown", None),
        ] {
            assert_eq!(upstream(debian), rust.map(version), "{debian}");
        }
    }

    #[test]
    fn madison_lists_versions_of_the_very_package() {
        let table = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://x trixie-backports/main amd64 Packages\n\
                     \x20 rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://x trixie-backports/main amd64 Packages\n\
                     rust-other | 1.0.0 | http://x sid/main\nW: a warning\n";
        let versions = parse_madison(table, "rust-src");
        assert_eq!(versions, ["1.96.1+dfsg1-2~bpo13+1", "1.95.0+dfsg1-2~bpo13+1"]);
    }

    #[test]
    fn the_mirror_is_read_from_one_line_sources() {
        let source = parse_line(
            "deb [arch=amd64 signed-by=/k.gpg] https://mirror/debian bookworm main contrib # x",
        )
        .expect("a source");
        assert_eq!(source.uri, "https://mirror/debian");
        assert!(source.has("bookworm") && !source.has("bookworm-security"));
        for line in ["# deb http://x bookworm main", "deb-src http://x bookworm main", "deb", ""] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }

    #[test]
    fn the_mirror_is_read_from_stanzas() {
        let text = "Types: deb deb-src\n# a remark\nURIs: http://mirror/debian\nSuites: bookworm\n  bookworm-updates\n\
                    Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://mirror/security\n\
                    Suites: bookworm-security\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://off\n\
                    Suites: bookworm\nComponents: main\n\nTypes: deb-src\nURIs: http://src\nSuites: bookworm\n";
        let sources = parse_stanzas(text);
        let uris: Vec<&str> = sources.iter().map(|source| source.uri.as_str()).collect();
        assert_eq!(uris, ["http://mirror/debian", "http://mirror/security"]);
        assert!(sources[0].has("bookworm-updates") && sources[1].has("bookworm-security"));
    }

    #[test]
    fn a_repository_of_others_is_not_taken_for_debians() {
        let docker = parse_line("deb https://download.docker.com/linux/debian bookworm stable");
        assert!(!docker.expect("a source").has("bookworm"));
    }

    #[test]
    fn debians_usual_file_comes_before_others() {
        let etc = tempfile::tempdir().expect("a folder");
        let parts = etc.path().join("sources.list.d");
        fs::create_dir(&parts).expect("a folder");
        fs::write(parts.join("a.list"), "deb http://other bookworm main\n").expect("a file");
        let usual = "Types: deb\nURIs: http://usual\nSuites: bookworm\nComponents: main\n";
        fs::write(parts.join("debian.sources"), usual).expect("a file");
        fs::write(parts.join("a.list.save"), "deb http://old bookworm main\n").expect("a file");
        let uris: Vec<_> = read_sources(etc.path()).into_iter().map(|source| source.uri).collect();
        assert_eq!(uris, ["http://usual", "http://other"]);
    }

    #[test]
    fn only_debian_is_debian() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename(debian).as_deref(), Some("bookworm"));
        assert_eq!(codename("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename(""), None);
    }

    #[test]
    fn a_rebuild_of_one_architecture_does_not_change_the_pin() {
        assert!(pin("1.96.0+dfsg1-1~deb13u1+b1").contains("version 1.96.0+dfsg1-1~deb13u1*\n"));
        assert!(pin("1.85.0+dfsg3-1~deb12u3").contains("version 1.85.0+dfsg3-1~deb12u3*\n"));
    }

    #[test]
    fn a_compiler_comes_with_its_library_and_source() {
        let version = "1.85.0+dfsg3-1~deb12u3".to_owned();
        let compiler = Compiler { family: FAMILIES[0], rust: OLDEST_FOR_ADAPTERS, version };
        let packages = ["rustc-web", "rust-web-src", "libstd-rust-web-dev", "libstd-rust-web-1.85"];
        assert_eq!(compiler.packages(), packages);
    }
}
