//! Compiles an adapter crate and wraps its module as a component.
//!
//! The crate needs no settings of its own: profile, stack and linker flags are given here, so that
//! every adapter comes out small, fast and alike. The contract's types travel in the module as a
//! custom section that the SDK's bindings leave there; the component is made from it and checked:
//! it is valid, imports nothing and exports the adapter interface.
//!
//! Costs: once per target folder a minute of CPU time, most of it for the bindings generator; then
//! about 6 s a crate, most of it link-time optimization.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm};

use super::{
    TARGET,
    process::{self, Messages},
    rustc::hex,
    toolchain::{self, Toolchain},
};

/// Crates are named `keyward-adapter-NAME`; components and providers just `NAME`.
const NAME_PREFIX: &str = "keyward-adapter-";

/// A crate with all its dependencies, fetched and compiled on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Cargo may read the registry to answer what a workspace consists of.
const METADATA_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The guest's stack in bytes. An exchange needs little of it, and a fresh instance pays for each
/// page it touches; the linker's default is 1 MiB.
const STACK: u32 = 64 << 10;

/// Speed first: optimizing for size saves a tenth of an adapter's bytes, which are loaded compiled.
const PROFILE: [&str; 7] = [
    "profile.release.opt-level=3",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
    "profile.release.debug=false",
    "profile.release.incremental=false",
];

/// What stands after the magic number of a component, where a module has its version.
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0, 1, 0];

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The adapter's name, which is also the file's.
    pub name: String,
    pub path: PathBuf,
    /// Size in bytes.
    pub size: usize,
    /// Of the whole file, in hexadecimal.
    pub sha256: String,
    /// The file was written; otherwise it already held these bytes.
    pub changed: bool,
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, size, sha256, .. } = self;
        let state = if self.changed { "" } else { ", unchanged" };
        write!(f, "{}: {} KB, sha256 {sha256}{state}", path.display(), size.div_ceil(1000))
    }
}

/// A crate that makes an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterCrate {
    package: String,
    manifest: PathBuf,
    workspace_root: PathBuf,
    target_dir: PathBuf,
}

impl AdapterCrate {
    /// The adapter's name: the crate's without its prefix.
    pub fn name(&self) -> &str {
        adapter_name(&self.package)
    }

    pub fn workspace_root(&self) -> &Path {
        &self.workspace_root
    }

    /// Compiles the crate and writes its component to `out`.
    pub fn build(&self, toolchain: &Toolchain, out: &Path) -> Result<Built> {
        let module = self.compile(toolchain)?;
        let bytes =
            fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        let component =
            encode(&bytes).with_context(|| format!("`{}` is no adapter", self.package))?;
        put(self.name(), &component, out)
    }

    /// The compiled module's file.
    ///
    /// Panic messages name files; they needn't tell of this machine's folders, nor may a component
    /// depend on where it was built. What the flags for all crates say is the same for all adapters
    /// that use one SDK, so that a target folder has its dependencies once; where the adapter itself
    /// lies is told to its own compilation only.
    fn compile(&self, toolchain: &Toolchain) -> Result<PathBuf> {
        let local = local_dependencies(&self.manifest)?;
        let local = local.iter().map(|(name, folder)| remap(folder, name));
        let fetched = toolchain::fetched_sources();
        let fetched = fetched.iter().map(|folder| remap(folder, "cargo"));
        let mut command = toolchain.cargo(&fetched.chain(local).collect::<Vec<_>>());
        command
            .args(["rustc", "--release", "--lib", "--target", TARGET])
            .args(["--message-format", "json-render-diagnostics"])
            .args(PROFILE.iter().flat_map(|setting| ["--config", setting]))
            .arg("--manifest-path")
            .arg(&self.manifest)
            // Its own folder: a cargo at work on the workspace doesn't hold this one up.
            .arg("--target-dir")
            .arg(self.target_dir.join("adapters"))
            .arg("--")
            .arg(format!("-Clink-arg=-zstack-size={STACK}"))
            .arg(remap(&self.workspace_root, "adapter"))
            .current_dir(&self.workspace_root);
        let messages = process::run(&mut command, BUILD_LIMIT, Messages::Shown)
            .with_context(|| format!("`{}` doesn't compile", self.package))?;
        module_in(&messages, &self.manifest)
            .with_context(|| format!("cargo made no WebAssembly module of `{}`", self.package))
    }
}

/// The compiler's flag to name files in `folder` as if they were in `/name`.
fn remap(folder: &Path, name: &str) -> String {
    format!("--remap-path-prefix={}=/{name}", folder.display())
}

/// Wraps a module that another language's compiler made and writes its component to `out`.
pub fn wrap(module: &Path, out: &Path) -> Result<Built> {
    let mut bytes =
        fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let name =
        module.file_stem().and_then(|stem| stem.to_str()).context("a file without a name")?;
    if bytes.get(4..8) == Some(&COMPONENT_VERSION) {
        bail!("{} is a component already: put it into the plugins folder", module.display());
    }
    let (described, _) = wit_component::metadata::decode(&bytes)
        .with_context(|| format!("{} is no WebAssembly module", module.display()))?;
    if described.is_none() {
        add_contract(&mut bytes).context("the contract's types can't be added")?;
    }
    let component =
        encode(&bytes).with_context(|| format!("{} is no adapter", module.display()))?;
    put(name, &component, out)
}

/// Writes the contract's types into a module whose compiler left none.
fn add_contract(module: &mut Vec<u8>) -> Result<()> {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("adapter.wit", keyward_contract::ADAPTER_WIT)?;
    let world = resolve.select_world(&[package], None)?;
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(module, &resolve, world, encoding)
}

fn put(name: &str, component: &[u8], out: &Path) -> Result<Built> {
    let path = out.join(format!("{name}.wasm"));
    let changed = write(&path, component)?;
    Ok(Built {
        name: name.to_owned(),
        path,
        size: component.len(),
        sha256: hex(&Sha256::digest(component)),
        changed,
    })
}

fn adapter_name(package: &str) -> &str {
    match package.strip_prefix(NAME_PREFIX) {
        Some(name) if !name.is_empty() => name,
        _ => package,
    }
}

// ------------------------------------------------------------------------------ finding crates

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

impl Package {
    fn is_cdylib(&self) -> bool {
        self.targets.iter().any(Target::is_cdylib)
    }
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Target {
    fn is_cdylib(&self) -> bool {
        self.kind.iter().any(|kind| kind == "cdylib")
    }
}

/// The adapter crates in these folders; without folders, those around the current one.
pub fn find_crates(dirs: &[PathBuf]) -> Result<Vec<AdapterCrate>> {
    if dirs.is_empty() {
        let here = std::env::current_dir().context("the current folder is gone")?;
        let metadata = metadata(&here)?;
        let chosen = around(&metadata, &here);
        if chosen.is_empty() {
            bail!(
                "no adapter crate here; run this in one, or name its folder: \
                 `keyward plugin build DIR`"
            );
        }
        return Ok(chosen);
    }
    let mut found = Vec::new();
    for dir in dirs {
        // Windows would get `\\?\` paths from this, which cargo takes as well.
        let dir = fs::canonicalize(dir).with_context(|| format!("no folder {}", dir.display()))?;
        for dir in crate_dirs(&dir)? {
            let metadata = metadata(&dir)?;
            let manifest = dir.join("Cargo.toml");
            match metadata.packages.iter().find(|known| known.manifest_path == manifest) {
                Some(package) if package.is_cdylib() => found.push(adapter(&metadata, package)),
                Some(package) => bail!(
                    "`{}` isn't an adapter: its Cargo.toml lacks `[lib]` with \
                     `crate-type = [\"cdylib\", \"rlib\"]`",
                    package.name
                ),
                // The top of a workspace.
                None => found.extend(around(&metadata, &dir)),
            }
        }
    }
    if found.is_empty() {
        bail!("no adapter crate in the folders named");
    }
    let mut seen = BTreeSet::new();
    found.retain(|adapter| seen.insert(adapter.manifest.clone()));
    refuse_same_names(&found)?;
    Ok(found)
}

/// A crate's own folder, or the crates right inside a folder that isn't one.
fn crate_dirs(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join("Cargo.toml").is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut inside: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    inside.sort();
    if inside.is_empty() {
        bail!("{} holds no Cargo.toml, nor does any folder in it", dir.display());
    }
    Ok(inside)
}

/// The package around `here`; in a workspace's top folder, its adapters by name.
fn around(metadata: &Metadata, here: &Path) -> Vec<AdapterCrate> {
    let own = metadata.packages.iter().filter(|package| {
        let folder = package.manifest_path.parent();
        package.is_cdylib() && folder.is_some_and(|folder| here.starts_with(folder))
    });
    let own: Vec<AdapterCrate> = own.map(|package| adapter(metadata, package)).collect();
    if !own.is_empty() {
        return own;
    }
    let named = |package: &&Package| package.is_cdylib() && package.name.starts_with(NAME_PREFIX);
    metadata.packages.iter().filter(named).map(|package| adapter(metadata, package)).collect()
}

fn adapter(metadata: &Metadata, package: &Package) -> AdapterCrate {
    AdapterCrate {
        package: package.name.clone(),
        manifest: package.manifest_path.clone(),
        workspace_root: metadata.workspace_root.clone(),
        target_dir: metadata.target_directory.clone(),
    }
}

fn refuse_same_names(adapters: &[AdapterCrate]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for adapter in adapters {
        if !seen.insert(adapter.name()) {
            bail!("two crates make an adapter named `{}`", adapter.name());
        }
    }
    Ok(())
}

fn metadata(dir: &Path) -> Result<Metadata> {
    let mut command: Command = toolchain::cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(dir);
    let text = process::run(&mut command, METADATA_LIMIT, Messages::Kept)
        .with_context(|| format!("cargo can't read the package in {}", dir.display()))?;
    serde_json::from_str(&text).context("cargo's answer can't be understood")
}

/// What cargo resolved for one package and target.
#[derive(Deserialize)]
struct Graph {
    packages: Vec<Node>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    name: String,
    /// None for a package in a folder of the user's.
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Edges>,
}

#[derive(Deserialize)]
struct Edges {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None for a normal one; "dev" and "build" don't get into a component.
    kind: Option<String>,
}

/// Name and folder of each package that goes into the crate's component and isn't fetched, such as
/// the SDK of a checkout; without the crate itself.
fn local_dependencies(manifest: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut command: Command = toolchain::cargo();
    command
        .args(["metadata", "--format-version", "1", "--filter-platform", TARGET])
        .arg("--manifest-path")
        .arg(manifest)
        // For its cargo settings, as when it is built.
        .current_dir(manifest.parent().unwrap_or(Path::new(".")));
    // It may fetch what the crate depends on.
    let text = process::run(&mut command, BUILD_LIMIT, Messages::Shown)
        .with_context(|| format!("cargo can't tell what {} depends on", manifest.display()))?;
    let graph: Graph = serde_json::from_str(&text).context("cargo's answer can't be understood")?;
    Ok(local(&graph))
}

fn local(graph: &Graph) -> Vec<(String, PathBuf)> {
    let mut reached: Vec<&str> = graph.resolve.root.iter().map(String::as_str).collect();
    let mut looked_at = 0;
    while let Some(id) = reached.get(looked_at) {
        let edges = graph.resolve.nodes.iter().find(|edges| edges.id == *id);
        for edge in edges.iter().flat_map(|edges| &edges.deps) {
            let is_normal = edge.dep_kinds.iter().any(|dependency| dependency.kind.is_none());
            if is_normal && !reached.contains(&edge.pkg.as_str()) {
                reached.push(&edge.pkg);
            }
        }
        looked_at += 1;
    }
    let dependencies = reached.get(1..).unwrap_or_default();
    let mut local: Vec<(String, PathBuf)> = graph
        .packages
        .iter()
        .filter(|package| package.source.is_none() && dependencies.contains(&package.id.as_str()))
        .filter_map(|package| Some((package.name.clone(), package.manifest_path.parent()?.into())))
        .collect();
    local.sort();
    local
}

/// The module among the files cargo says it made.
fn module_in(messages: &str, manifest: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        manifest_path: PathBuf,
        target: Target,
        filenames: Vec<PathBuf>,
    }
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter(|artifact| artifact.manifest_path == manifest && artifact.target.is_cdylib())
        .flat_map(|artifact| artifact.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

// ---------------------------------------------------------------------------- making components

/// Wraps a module as a component and checks what came out.
fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode())
        .context(
            "the module doesn't fit the contract; an adapter uses `keyward-sdk`, and nothing that \
             needs an operating system or JavaScript",
        )?;
    let DecodedWasm::Component(resolve, world) =
        wit_component::decode(&component).context("the component can't be read back")?
    else {
        bail!("the module describes interfaces but holds no code");
    };
    let world = &resolve.worlds[world];
    let imports: Vec<String> =
        world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    if !imports.is_empty() {
        bail!("it imports {}; an adapter imports nothing", imports.join(", "));
    }
    let exports: Vec<String> =
        world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    if !exports.iter().any(|export| export == keyward_contract::ADAPTER_INTERFACE) {
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        bail!(
            "it exports {exports} rather than {}; an adapter crate ends with \
             `keyward_sdk::export_adapter!`",
            keyward_contract::ADAPTER_INTERFACE
        );
    }
    Ok(component)
}

/// Puts `bytes` in place of `path` at once, unless they are there already. A watcher never sees
/// half a file.
fn write(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = || -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut file =
            tempfile::Builder::new().prefix(".").suffix(".partial").tempfile_in(folder)?;
        file.write_all(bytes)?;
        make_readable(file.as_file())?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Temporary files are their owner's alone; components are for whoever runs the host.
#[cfg(unix)]
fn make_readable(file: &fs::File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.set_permissions(fs::Permissions::from_mode(0o644))?)
}

#[cfg(not(unix))]
fn make_readable(_file: &fs::File) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dir: &str, kind: &str) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: Path::new(dir).join("Cargo.toml"),
            targets: vec![Target { kind: vec![kind.to_owned()] }],
        }
    }

    fn workspace() -> Metadata {
        Metadata {
            packages: vec![
                package("keyward-adapter-demo", "/w/plugins/demo", "cdylib"),
                package("keyward-adapter-openai", "/w/plugins/openai", "cdylib"),
                package("keyward-adapter-tools", "/w/tools", "lib"),
                package("hostile", "/w/tests/hostile", "cdylib"),
            ],
            workspace_root: "/w".into(),
            target_directory: "/w/target".into(),
        }
    }

    fn names(found: &[AdapterCrate]) -> Vec<&str> {
        found.iter().map(AdapterCrate::name).collect()
    }

    #[test]
    fn an_adapter_is_named_like_its_crate_without_the_prefix() {
        assert_eq!(adapter_name("keyward-adapter-demo"), "demo");
        assert_eq!(adapter_name("keyward-adapter-azure-openai"), "azure-openai");
        assert_eq!(adapter_name("acme-llm"), "acme-llm");
        assert_eq!(adapter_name("keyward-adapter-"), "keyward-adapter-");
    }

    #[test]
    fn at_the_top_of_a_workspace_its_adapters_are_found_by_name() {
        assert_eq!(names(&around(&workspace(), Path::new("/w"))), ["demo", "openai"]);
    }

    #[test]
    fn within_a_crate_it_is_that_one() {
        assert_eq!(names(&around(&workspace(), Path::new("/w/plugins/demo/src"))), ["demo"]);
        assert_eq!(names(&around(&workspace(), Path::new("/w/tests/hostile"))), ["hostile"]);
    }

    #[test]
    fn two_crates_cannot_make_one_file() {
        let mut adapters = around(&workspace(), Path::new("/w"));
        adapters[1].package = "demo".to_owned();
        let error = refuse_same_names(&adapters).expect_err("same name").to_string();
        assert!(error.contains("`demo`"), "{error}");
    }

    #[test]
    fn the_module_is_that_of_the_crate_itself() {
        let line = |dir: &str, kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{dir}/Cargo.toml","target":{{"kind":["{kind}"]}},"filenames":["{file}"]}}"#
            )
        };
        let messages = [
            line("/dep", "cdylib", "/t/dep.wasm"),
            line("/w/demo", "lib", "/t/libdemo.rlib"),
            "text that isn't JSON".to_owned(),
            line("/w/demo", "cdylib", "/t/demo.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let module = module_in(&messages, Path::new("/w/demo/Cargo.toml"));
        assert_eq!(module, Some(PathBuf::from("/t/demo.wasm")));
        assert_eq!(module_in(&messages, Path::new("/w/other/Cargo.toml")), None);
    }

    #[test]
    fn what_lies_in_folders_and_gets_into_a_component_is_found_by_way_of_what_is_fetched() {
        let package = |id: &str, source: &str| {
            format!(
                r#"{{"id":"{id}","name":"n-{id}","source":{source},"manifest_path":"/{id}/Cargo.toml"}}"#
            )
        };
        let edges = |id: &str, deps: &[(&str, &str)]| {
            let deps: Vec<String> = deps
                .iter()
                .map(|(to, kind)| format!(r#"{{"pkg":"{to}","dep_kinds":[{{"kind":{kind}}}]}}"#))
                .collect();
            format!(r#"{{"id":"{id}","deps":[{}]}}"#, deps.join(","))
        };
        let packages = [
            package("adapter", "null"),
            package("tests", "null"),
            package("fetched", r#""registry""#),
            package("sdk", "null"),
            package("other-adapter", "null"),
        ];
        let nodes = [
            edges("adapter", &[("fetched", "null"), ("tests", r#""dev""#)]),
            edges("fetched", &[("sdk", "null")]),
            edges("sdk", &[("fetched", "null")]),
            edges("other-adapter", &[("sdk", "null")]),
        ];
        let graph = format!(
            r#"{{"packages":[{}],"resolve":{{"root":"adapter","nodes":[{}]}}}}"#,
            packages.join(","),
            nodes.join(",")
        );
        let graph: Graph = serde_json::from_str(&graph).expect("a graph");
        assert_eq!(local(&graph), [("n-sdk".to_owned(), PathBuf::from("/sdk"))]);
    }

    #[test]
    fn a_module_without_the_contract_is_refused() {
        let module = wat::parse_str("(module (func (export \"run\")))").expect("a module");
        let error = format!("{:#}", encode(&module).expect_err("no adapter"));
        assert!(error.contains("keyward:adapter/adapter"), "{error}");
    }

    #[test]
    fn a_module_that_needs_an_environment_is_refused_by_what_it_needs() {
        let module =
            wat::parse_str("(module (import \"env\" \"clock\" (func)))").expect("a module");
        let error = format!("{:#}", encode(&module).expect_err("no adapter"));
        assert!(error.contains("env"), "{error}");
    }

    #[test]
    fn a_component_with_an_import_is_refused_by_the_imports_name() {
        let mut resolve = wit_parser::Resolve::default();
        let wit = "package demo:x; interface clock { now: func() -> u64; } \
                   world w { import clock; export run: func() -> u64; }";
        let package = resolve.push_str("demo.wit", wit).expect("WIT");
        let world = resolve.select_world(&[package], Some("w")).expect("a world");
        let mut module = wat::parse_str(
            "(module (import \"demo:x/clock\" \"now\" (func $now (result i64))) \
             (func (export \"run\") (result i64) (call $now)))",
        )
        .expect("a module");
        let encoding = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, encoding)
            .expect("metadata");
        let error = format!("{:#}", encode(&module).expect_err("an import"));
        assert_eq!(error, "it imports demo:x/clock; an adapter imports nothing");
    }

    #[test]
    fn unchanged_bytes_are_not_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/demo.wasm");
        assert!(write(&path, b"one").expect("written"));
        assert!(!write(&path, b"one").expect("compared"));
        assert!(write(&path, b"two").expect("written"));
        assert_eq!(fs::read(&path).expect("a file"), b"two");
        let left = fs::read_dir(folder.path().join("new")).expect("a folder").count();
        assert_eq!(left, 1, "a temporary file was left behind");
    }
}
