//! `keyward plugin new`: a crate for a new adapter whose tests pass at once.
//!
//! What comes out is meant to be changed: a whole adapter for a vendor that doesn't exist, small
//! enough to read in a minute, with recordings of everything it does. The files stand under
//! `template/`, one folder for each [`Shape`] and what both share; [`fill`] puts the answers to a
//! few [`questions`] into them.
//!
//! The crate is made in a hidden folder beside its place and renamed at the end, so there is never
//! half of one. Nothing is compiled or downloaded here.

mod fill;
mod questions;

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use keyward::{ids::AdapterName, sandbox::Limits};
use serde_json::json;

use crate::{
    args::{New, Places, Shape},
    commands,
};
use questions::Vendor;

/// Where a crate takes the SDK from.
enum Sdk {
    /// The published crate of this program's version.
    Published,
    Folder(PathBuf),
}

pub async fn new(places: &Places, new: New) -> Result<ExitCode> {
    let name = check_name(&new.name)?;
    let folder = new.dir.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    check_folder(&folder)?;
    let sdk = sdk(new.sdk.as_deref())?;
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    let vendor = if terminal && !new.yes {
        questions::ask(&new, &mut io::stdin().lock(), &mut io::stderr())?
    } else {
        questions::from_flags(&new)?
    };
    let dependency = match &sdk {
        Sdk::Published => json!(env!("CARGO_PKG_VERSION")).to_string(),
        Sdk::Folder(path) => format!("{{ path = {} }}", json!(path)),
    };
    let files = fill::files(name.as_str(), &vendor, &dependency);
    write(&folder, &files)?;
    tell(places, name.as_str(), &folder, &sdk, &vendor, &files);
    Ok(ExitCode::SUCCESS)
}

/// An adapter's name that is a crate's name as well.
fn check_name(name: &str) -> Result<AdapterName> {
    let good = AdapterName::new(name)?;
    if name.contains(['.', '_']) || name.ends_with('-') || name.contains("--") {
        bail!("'{name}' can't be the name of a crate: use single hyphens between words");
    }
    Ok(good)
}

fn check_folder(folder: &Path) -> Result<()> {
    let is_empty = fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    match is_empty {
        Ok(true) => {}
        Ok(false) => {
            bail!("{} is there already and isn't empty; name another with --dir", folder.display())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => bail!("{} can't be used: {error}", folder.display()),
    }
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            bail!("there is no folder {} to make it in", parent.display())
        }
        _ => Ok(()),
    }
}

/// The SDK as told; else beside this program, where it runs from a build of its own sources; else
/// the published one.
fn sdk(given: Option<&Path>) -> Result<Sdk> {
    if let Some(folder) = given {
        if !is_sdk(folder) {
            bail!("--sdk {}: the crate keyward-sdk isn't there", folder.display());
        }
        return Ok(Sdk::Folder(fs::canonicalize(folder)?));
    }
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.ancestors().map(|folder| folder.join("sdk")).find(|sdk| is_sdk(sdk));
    Ok(beside.map_or(Sdk::Published, Sdk::Folder))
}

fn is_sdk(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line == "name = \"keyward-sdk\""))
}

/// Writes all files or none.
fn write(folder: &Path, files: &[(String, String)]) -> Result<()> {
    let name = folder.file_name().context("--dir must name a folder")?.to_string_lossy();
    let part = folder.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let made = write_into(&part, files)
        .and_then(|()| fs::rename(&part, folder))
        .with_context(|| format!("can't make {}", folder.display()));
    if made.is_err() {
        // There may be nothing to remove.
        let _ = fs::remove_dir_all(&part);
    }
    made
}

fn write_into(folder: &Path, files: &[(String, String)]) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (path, text) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

fn tell(
    places: &Places,
    name: &str,
    folder: &Path,
    sdk: &Sdk,
    vendor: &Vendor,
    files: &[(String, String)],
) {
    let shown = folder.display();
    let commands = [
        format!("cd {shown}"),
        "cargo test".to_owned(),
        "keyward plugin test .".to_owned(),
        "keyward plugin build . --out PLUGINS".to_owned(),
    ];
    if places.json {
        let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        return commands::print_json(&json!({
            "name": name,
            "folder": folder,
            "files": paths,
            "sdk": match sdk {
                Sdk::Published => json!({"version": env!("CARGO_PKG_VERSION")}),
                Sdk::Folder(path) => json!({"path": path}),
            },
            "endpoint": vendor.endpoint,
            "next": commands,
        }));
    }
    let lines = |wanted: &str| {
        let file = files.iter().find(|(path, _)| path == wanted);
        file.map_or(0, |(_, text)| text.lines().count())
    };
    let recordings = files.iter().filter(|(path, _)| path.starts_with("recordings/")).count();
    println!(
        "Made {shown}: an adapter of {} lines (src/lib.rs) and {recordings} recordings.",
        lines("src/lib.rs")
    );
    if let Sdk::Folder(path) = sdk {
        println!("It takes the SDK from {}.", path.display());
    }
    if vendor.invented_endpoint {
        println!("{} is made up: put the vendor's own into src/lib.rs.", vendor.endpoint);
    }
    if vendor.shape == Shape::Own {
        println!("Requests and answers are made up too: see the comments in src/lib.rs.");
    }
    println!(
        "\nNext:\n  {}\n  {:<40} replay the recordings natively\n  {:<40} and in the sandbox\n  \
         {:<40} make the component, of {} MB at most",
        commands[0],
        commands[1],
        commands[2],
        commands[3],
        Limits::default().component_size >> 20
    );
    println!("The guide: docs/writing-an-adapter.md");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_adapters_and_a_crates() {
        for good in ["acme", "acme-ai", "01-ai"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "Acme", "acme ai", "../acme", "acme.ai", "acme_ai", "-acme", "acme-", "é"]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_crate_is_made_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("acme");
        // A file where a folder is needed.
        let bad = [("a".to_owned(), String::new()), ("a/b".to_owned(), String::new())];
        assert!(write(&place, &bad).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir(&place).unwrap();
        check_folder(&place).unwrap();
        write(&place, &[("src/lib.rs".to_owned(), "x".to_owned())]).unwrap();
        assert_eq!(fs::read_to_string(place.join("src/lib.rs")).unwrap(), "x");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let refused = check_folder(&place).unwrap_err().to_string();
        assert!(refused.contains("isn't empty"), "{refused}");
    }
}
