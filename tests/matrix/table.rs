//! `docs/vendors.md`, written from what was found.

use std::{fmt::Write, fs};

use crate::{
    features::{self, Found, Outcome},
    vendors::{self, Vendor},
};

const FILE: &str = "docs/vendors.md";

const HEAD: &str = "\
# What each vendor does

This page is written by a test (`cargo test -p keyward-matrix`, with `KEYWARD_BLESS=1` to write it
anew). The test asks every adapter for each feature and looks at what it sends and says; it fails if
this page says anything else.

- **native**: the vendor does it.
- **emulated**: Keyward does it in another way, and says so in a warning.
- **dropped**: it is left out, and a warning says so.
- **refused**: nothing is sent, and the caller gets an error. Another provider may be tried.
- **none**: answers of this vendor never show it.

A star leads to the adapter's own words below. What a vendor does may depend on the model: each was
asked for the one named here.
";

#[test]
fn the_table_says_what_adapters_do_and_nothing_is_lost() {
    let vendors: Vec<Vendor> = vendors::all().into_iter().filter(|one| one.sends).collect();
    let mut page = HEAD.to_owned();
    let mut notes: Vec<Vec<String>> = vendors.iter().map(|_| Vec::new()).collect();
    let mut lost = Vec::new();
    page.push_str("\n| | ");
    page.push_str(&row(vendors.iter().map(|vendor| vendor.title.to_owned())));
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(vendors.len()));
    page.push_str("\n| model asked | ");
    page.push_str(&row(vendors.iter().map(|vendor| format!("`{}`", vendor.model))));
    page.push('\n');
    for section in features::sections() {
        let blank = vendors.iter().map(|_| String::new());
        let _ = writeln!(page, "| **{}** | {}", section.title, row(blank));
        for feature in section.features {
            let mut cells = Vec::new();
            for (vendor, notes) in vendors.iter().zip(&mut notes) {
                let found = feature.find(vendor);
                if found.outcome == Outcome::Lost {
                    lost.push(format!("{}: {}", vendor.title, feature.name));
                }
                cells.push(cell(&found));
                if !found.words.is_empty() {
                    notes.push(format!("- {}: {}", feature.name, words(&found)));
                }
            }
            let _ = writeln!(page, "| {} | {}", feature.name, row(cells.into_iter()));
        }
    }
    for (vendor, notes) in vendors.iter().zip(notes) {
        let _ = writeln!(page, "\n## {}\n\n{}", vendor.title, notes.join("\n"));
    }
    assert!(lost.is_empty(), "lost without a word:\n{}", lost.join("\n"));

    let path = crate::project(FILE);
    if std::env::var_os("KEYWARD_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(committed.lines()).find(|(now, then)| now != then);
    assert!(
        page == committed,
        "{FILE} isn't what adapters do. First difference (now, committed): {differs:#?}\n\
         Write it anew with KEYWARD_BLESS=1, and read what changed."
    );
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell} |")).collect::<Vec<_>>().join(" ")
}

fn cell(found: &Found) -> String {
    let name = match found.outcome {
        Outcome::Native => "native",
        Outcome::Emulated => "emulated",
        Outcome::Dropped => "dropped",
        Outcome::Refused => "refused",
        Outcome::Absent => "none",
        Outcome::Lost => "LOST",
    };
    let star = if found.words.is_empty() { "" } else { "*" };
    format!("{name}{star}")
}

/// The outcome where it isn't as asked, and the adapter's words, each once.
fn words(found: &Found) -> String {
    let mut words = found.words.clone();
    words.dedup();
    words.join(" ")
}
