//! The empty world: what a component that was granted WASI sees of it.
//!
//! Toolchains of some languages leave imports of WASI 0.2 in every component. Where the operator
//! grants that, they are answered by the functions here: no files, no network, no environment, no
//! arguments, an input at its end and an output that goes nowhere. Clocks stand at the moment the
//! exchange began and randomness follows from its seed, so that an adapter's output is still a
//! function of its input, and nothing can be told from how long something took. A wait is over at once.
//! Ending the program ends the exchange.
//!
//! These are a table of answers and not the crate `wasmtime-wasi` with everything turned off, because what
//! isn't in the program can't be reached by mistake. Types are those the component itself
//! states, so that one table serves every 0.2; an answer that doesn't fit them is a trap, as is any
//! function that isn't in the table: most belong to things of which there are none.
//!
//! Bounds: [`MAX_RANDOM`] bytes of randomness a call, [`MAX_OUTPUT`] bytes of output an exchange, and
//! all limits of the sandbox: memory handed over counts as returned, time as the guest's. Costs
//! nothing for components without imports, about a microsecond a call for others.

use wasmtime::{
    StoreContextMut, bail,
    component::{
        Component, Linker, Resource, ResourceAny, ResourceType, Val, types::ComponentItem,
    },
};

use super::limits::Guest;

/// Packages of which the empty world has something. Others, such as `wasi:http`, can't be imported.
const PACKAGES: [&str; 6] = ["cli", "io", "clocks", "filesystem", "random", "sockets"];

/// One call of a hash table's seed takes 16.
const MAX_RANDOM: u64 = 64 * 1024;

/// Then the output closes. A program that logs some lines for each event stays far below.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// What a stream takes at once: the smallest that WASI lets one say.
const PERMIT: u64 = 4096;

/// True if the empty world has an interface of this name, as `wasi:io/streams@0.2.6`.
pub fn has(import: &str) -> bool {
    let interface = || {
        let (package, rest) = import.strip_prefix("wasi:")?.split_once('/')?;
        let (_, version) = rest.split_once('@')?;
        Some((package, version))
    };
    interface().is_some_and(|(package, version)| {
        PACKAGES.contains(&package) && version.starts_with("0.2.")
    })
}

/// The state of one exchange's empty world.
#[derive(Debug)]
pub struct World {
    now_ms: u64,
    /// Of the generator that all randomness comes from.
    random: u64,
    written: u64,
}

impl World {
    pub fn new(now_ms: u64, seed: u64) -> Self {
        Self { now_ms, random: seed, written: 0 }
    }

    /// SplitMix64: no better than its seed, which is all the entropy there is.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// False once an exchange has written all it may.
    fn write(&mut self, bytes: u64) -> bool {
        self.written = self.written.saturating_add(bytes);
        self.written <= MAX_OUTPUT
    }
}

/// A stream, a pollable, a network: there is nothing behind any of them.
struct Nothing;

/// Defines what `component` imports of WASI, and nothing else.
///
/// # Errors
/// If it wants something in an interface that isn't a function or a resource.
pub(super) fn link(linker: &mut Linker<Guest>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine().clone();
    for (name, import) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            bail!("its import '{name}' isn't an interface");
        };
        if !has(name) {
            bail!("there is nothing to import as '{name}'");
        }
        let mut instance = linker.instance(name)?;
        for (member, item) in interface.exports(&engine) {
            match item.ty {
                ComponentItem::Type(_) => {}
                ComponentItem::Resource(_) => {
                    instance.resource(member, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
                }
                ComponentItem::ComponentFunc(_) => {
                    let plain = name.split_once('@').map_or(name, |(plain, _)| plain);
                    let function = format!("{plain}.{member}");
                    instance.func_new(member, move |mut store, _, given, results| {
                        let given = take(&mut store, given)?;
                        let answer = answer(&mut store, &function, &given)?;
                        match (results, answer) {
                            ([], None) => Ok(()),
                            ([result], Some(answer)) => {
                                *result = answer;
                                Ok(())
                            }
                            _ => bail!("it imports {function} with another type"),
                        }
                    })?;
                }
                _ => bail!("it imports '{member}' of '{name}', which isn't a function"),
            }
        }
    }
    Ok(())
}

/// What the answers need of what a function was given: numbers and how long lists are. Handles are
/// given back to the store, or each would stay there as borrowed.
enum Given {
    Number(u64),
    List(u64),
    Other,
}

fn take(store: &mut StoreContextMut<'_, Guest>, values: &[Val]) -> wasmtime::Result<Vec<Given>> {
    values
        .iter()
        .map(|value| {
            give_back(store, value)?;
            Ok(match value {
                Val::U64(number) => Given::Number(*number),
                Val::List(items) => Given::List(items.len() as u64),
                _ => Given::Other,
            })
        })
        .collect()
}

fn give_back(store: &mut StoreContextMut<'_, Guest>, value: &Val) -> wasmtime::Result<()> {
    match value {
        Val::Resource(handle) => {
            handle.try_into_resource::<Nothing>(store)?;
        }
        // Bytes are most of what is ever handed over, and hold no handles.
        Val::List(items) if !matches!(items.first(), Some(Val::U8(_))) => {
            for item in items {
                give_back(store, item)?;
            }
        }
        Val::Tuple(items) => {
            for item in items {
                give_back(store, item)?;
            }
        }
        Val::Record(members) => {
            for (_, member) in members {
                give_back(store, member)?;
            }
        }
        Val::Variant(_, Some(inner))
        | Val::Option(Some(inner))
        | Val::Result(Ok(Some(inner)) | Err(Some(inner))) => give_back(store, inner)?,
        _ => {}
    }
    Ok(())
}

/// The answer to a call, or none where the function returns nothing.
fn answer(
    store: &mut StoreContextMut<'_, Guest>,
    function: &str,
    given: &[Given],
) -> wasmtime::Result<Option<Val>> {
    let world = &mut store.data_mut().world;
    let Some(function) = function.strip_prefix("wasi:") else { bail!("no function of WASI") };
    Ok(Some(match function {
        "cli/environment.get-environment"
        | "cli/environment.get-arguments"
        | "filesystem/preopens.get-directories" => Val::List(Vec::new()),
        "cli/environment.initial-cwd"
        | "cli/terminal-stdin.get-terminal-stdin"
        | "cli/terminal-stdout.get-terminal-stdout"
        | "cli/terminal-stderr.get-terminal-stderr"
        | "filesystem/types.filesystem-error-code" => Val::Option(None),
        "cli/exit.exit" | "cli/exit.exit-with-code" => bail!("it ended its program"),

        "cli/stdin.get-stdin"
        | "cli/stdout.get-stdout"
        | "cli/stderr.get-stderr"
        | "sockets/instance-network.instance-network"
        | "io/streams.[method]input-stream.subscribe"
        | "io/streams.[method]output-stream.subscribe"
        | "clocks/monotonic-clock.subscribe-duration"
        | "clocks/monotonic-clock.subscribe-instant" => nothing(store)?,

        "io/streams.[method]input-stream.read"
        | "io/streams.[method]input-stream.blocking-read"
        | "io/streams.[method]input-stream.skip"
        | "io/streams.[method]input-stream.blocking-skip"
        | "io/streams.[method]output-stream.splice"
        | "io/streams.[method]output-stream.blocking-splice" => closed(),
        "io/streams.[method]output-stream.check-write" => {
            if world.write(0) {
                okay(Some(Val::U64(PERMIT)))
            } else {
                closed()
            }
        }
        "io/streams.[method]output-stream.flush"
        | "io/streams.[method]output-stream.blocking-flush" => okay(None),
        "io/streams.[method]output-stream.write"
        | "io/streams.[method]output-stream.blocking-write-and-flush"
        | "io/streams.[method]output-stream.write-zeroes"
        | "io/streams.[method]output-stream.blocking-write-zeroes-and-flush" => {
            let bytes = given.iter().find_map(|value| match value {
                Given::Number(length) | Given::List(length) => Some(*length),
                Given::Other => None,
            });
            if world.write(bytes.unwrap_or(0)) { okay(None) } else { closed() }
        }
        "io/error.[method]error.to-debug-string" => Val::String(String::new()),

        "io/poll.[method]pollable.ready" => Val::Bool(true),
        "io/poll.[method]pollable.block" => return Ok(None),
        // All of them are ready.
        "io/poll.poll" => match given {
            [Given::List(length)] => Val::List((0..*length as u32).map(Val::U32).collect()),
            _ => bail!("it polls something else"),
        },

        "clocks/monotonic-clock.now" => Val::U64(world.now_ms.saturating_mul(1_000_000)),
        "clocks/monotonic-clock.resolution" => Val::U64(1_000_000),
        "clocks/wall-clock.now" => datetime(world.now_ms / 1000, world.now_ms % 1000 * 1_000_000),
        "clocks/wall-clock.resolution" => datetime(0, 1_000_000),

        "random/random.get-random-u64" | "random/insecure.get-insecure-random-u64" => {
            Val::U64(world.random())
        }
        "random/random.get-random-bytes" | "random/insecure.get-insecure-random-bytes" => {
            match given {
                [Given::Number(length)] if *length <= MAX_RANDOM => {
                    let words = (0..length.div_ceil(8)).flat_map(|_| world.random().to_le_bytes());
                    Val::List(words.take(*length as usize).map(Val::U8).collect())
                }
                _ => bail!("it asks for more than {MAX_RANDOM} bytes of randomness at once"),
            }
        }
        "random/insecure-seed.insecure-seed" => {
            Val::Tuple(vec![Val::U64(world.random()), Val::U64(world.random())])
        }

        "sockets/tcp-create-socket.create-tcp-socket"
        | "sockets/udp-create-socket.create-udp-socket"
        | "sockets/ip-name-lookup.resolve-addresses" => {
            Val::Result(Err(Some(Box::new(Val::Enum("access-denied".into())))))
        }
        other => bail!("it calls wasi:{other}, which the empty world doesn't have"),
    }))
}

fn nothing(store: &mut StoreContextMut<'_, Guest>) -> wasmtime::Result<Val> {
    let handle = ResourceAny::try_from_resource(Resource::<Nothing>::new_own(0), store)?;
    Ok(Val::Resource(handle))
}

fn okay(value: Option<Val>) -> Val {
    Val::Result(Ok(value.map(Box::new)))
}

fn closed() -> Val {
    Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None)))))
}

fn datetime(seconds: u64, nanoseconds: u64) -> Val {
    Val::Record(vec![
        ("seconds".into(), Val::U64(seconds)),
        ("nanoseconds".into(), Val::U32(nanoseconds as u32)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_empty_worlds_interfaces_can_be_imported() {
        for name in ["wasi:io/streams@0.2.0", "wasi:cli/exit@0.2.12", "wasi:sockets/tcp@0.2.9"] {
            assert!(has(name), "{name}");
        }
        for name in [
            "wasi:http/outgoing-handler@0.2.0",
            "wasi:io/streams@0.3.0",
            "wasi:io/streams",
            "wasi:keyvalue/store@0.2.0",
            "stranger:io/streams@0.2.0",
            "cli",
        ] {
            assert!(!has(name), "{name}");
        }
    }

    #[test]
    fn randomness_follows_from_the_seed() {
        let roll = |seed| {
            let mut world = World::new(0, seed);
            [world.random(), world.random()]
        };
        assert_eq!(roll(1), roll(1));
        assert_ne!(roll(1), roll(2));
        assert_ne!(roll(1)[0], roll(1)[1]);
    }

    #[test]
    fn output_ends_at_its_bound() {
        let mut world = World::new(0, 0);
        assert!(world.write(MAX_OUTPUT));
        assert!(!world.write(1));
        assert!(!world.write(u64::MAX), "and stays ended");
    }
}
