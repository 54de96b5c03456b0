//! Replay of recorded vendor exchanges: an adapter's tests.
//!
//! A recording is a JSON file with an operation, the requests the adapter must make of it, the
//! vendor's answers, and the events that must come out (see [`Recording`] for the format). Each
//! is replayed with the content itself and with marks in its place, and with the answer's bytes
//! cut at every boundary: the same requests and events must come out every time. What an adapter
//! says is also held against its descriptor, as the host would.
//!
//! One line is a test suite: `keyward_sdk::replay::check_all::<MyAdapter>("recordings")`. With
//! `KEYWARD_BLESS=1` in the environment the files are written anew from what the adapter does,
//! to be read before they are committed.
//!
//! The same files go through the real component: whatever steps an exchange is a [`Target`], and
//! whatever cuts bytes into frames is a [`Framer`]. The kit's own framer is small and meant for
//! well-formed answers; `keyward plugin test` passes the host's. Native only; costs a few
//! microseconds per cut, and an exchange for each cut that gives the adapter other steps.

mod descriptor;
mod events;
mod framer;
mod layout;
mod operation;
mod recording;
mod run;

use std::{fs, path::Path};

use crate::{
    Adapter, Descriptor, Exchange,
    contract::{Context, Input, Operation, Output},
};

pub use descriptor::check_descriptor;
pub use events::{event_json, failure_json, fold};
pub use framer::{Framer, simple_framer};
pub use layout::document;
pub use operation::{Marks, hold};
pub use recording::{Answer, Recording, Step};
pub use run::{Framers, Replayed, check};

/// Something that carries out exchanges: an adapter's native build, or a component in a sandbox.
/// Errors are what broke, for people.
pub trait Target {
    fn describe(&mut self) -> Result<Descriptor, String>;

    /// A fresh exchange.
    fn open(&mut self, operation: Operation, context: Context) -> Result<Box<dyn Running>, String>;
}

/// One exchange of a [`Target`].
pub trait Running {
    fn step(&mut self, inputs: Vec<Input>) -> Result<Vec<Output>, String>;
}

/// The native build of an adapter.
pub struct Native<A>(std::marker::PhantomData<A>);

impl<A> Default for Native<A> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<A: Adapter> Target for Native<A> {
    fn describe(&mut self) -> Result<Descriptor, String> {
        Ok(A::describe())
    }

    fn open(&mut self, operation: Operation, context: Context) -> Result<Box<dyn Running>, String> {
        Ok(Box::new(Exchange::<A>::new(operation, context)))
    }
}

impl<A: Adapter> Running for Exchange<A> {
    fn step(&mut self, inputs: Vec<Input>) -> Result<Vec<Output>, String> {
        Ok(Exchange::step(self, inputs))
    }
}

/// Replays every recording in a folder against an adapter's native build. Relative to the crate's
/// own folder, where cargo runs tests.
///
/// # Panics
/// If a recording can't be read, differs, or there is none; with all differences in the message.
#[allow(clippy::panic, reason = "a test says what is wrong by panicking")]
pub fn check_all<A: Adapter>(folder: impl AsRef<Path>) {
    let folder = folder.as_ref();
    let bless = std::env::var_os("KEYWARD_BLESS").is_some();
    let mut target = Native::<A>::default();
    let mut problems = Vec::new();
    let recordings = match recording::load_all(folder) {
        Ok(recordings) => recordings,
        Err(problem) => panic!("{problem}"),
    };
    for mut recording in recordings {
        if bless {
            let written = run::bless(&mut recording, &mut target, &simple_framer)
                .and_then(|()| recording.save(folder));
            problems.extend(written.err());
        }
        problems.extend(check(&recording, &mut target, &simple_framer).err());
    }
    assert!(problems.is_empty(), "{} recordings differ\n\n{}", problems.len(), problems.join("\n"));
}

/// Every recording of a folder, by name.
///
/// # Errors
/// If the folder or a file in it can't be read, isn't a recording, or there is none.
pub fn load_all(folder: impl AsRef<Path>) -> Result<Vec<Recording>, String> {
    recording::load_all(folder.as_ref())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
