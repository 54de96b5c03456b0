//! Components written by hand, for what no toolchain would produce.
//!
//! Most are a core module in WebAssembly text with the contract's exports, made a component by the
//! same library that makes real ones. The text has three places to fill: what `describe` does, what
//! `step` does, and anything else the module should have.

use keyward_contract::ADAPTER_WIT;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::Dice;

/// A component that obeys the contract in form. `describe` and `step` are function bodies that
/// leave an address on the stack; the descriptor's address and length stand at address 8.
pub struct Handmade {
    describe: String,
    step: String,
    more: String,
    /// An interface to import, and a function of it, which the module then has.
    import: Option<(&'static str, &'static str, &'static str)>,
    world: Option<Imports>,
    name: String,
}

/// Interfaces of several packages, and the module's own imports from them.
#[derive(Clone, Copy)]
pub struct Imports {
    /// A text for each package, those it needs before it.
    pub wit: &'static [&'static str],
    pub interfaces: &'static [&'static str],
    pub core: &'static str,
}

/// A body of `step` that ends the exchange in order: a list with `done` in it.
pub const DONE: &str = "
    (i32.store8 (i32.const 2048) (i32.const 3))
    (i32.store (i32.const 16) (i32.const 2048)) (i32.store (i32.const 20) (i32.const 1))
    (i32.const 16)";

/// Where the module's own data begins.
const DATA: usize = 1024;

impl Handmade {
    /// An adapter of this name that answers each step with nothing.
    pub fn new(name: &str) -> Self {
        Self {
            describe: "i32.const 8".into(),
            step: "i32.const 16".into(),
            more: String::new(),
            import: None,
            world: None,
            name: name.to_owned(),
        }
    }

    pub fn describe(mut self, body: &str) -> Self {
        body.clone_into(&mut self.describe);
        self
    }

    pub fn step(mut self, body: &str) -> Self {
        body.clone_into(&mut self.step);
        self
    }

    pub fn more(mut self, fields: &str) -> Self {
        fields.clone_into(&mut self.more);
        self
    }

    /// Imports a function without parameters from an interface of a package:
    /// `("wasi:sockets@0.2.0", "network", "open")`.
    pub fn import(
        mut self,
        package: &'static str,
        interface: &'static str,
        function: &'static str,
    ) -> Self {
        self.import = Some((package, interface, function));
        self
    }

    pub fn imports(mut self, imports: Imports) -> Self {
        self.world = Some(imports);
        self
    }

    pub fn descriptor(&self) -> String {
        let name = &self.name;
        format!(
            r#"{{"name":"{name}","version":"0.1.0","title":"{name}","kind":"external","operations":["chat"]}}"#
        )
    }

    pub fn build(&self) -> Vec<u8> {
        let adapter = "keyward:adapter/adapter@0.1.0";
        let descriptor = self.descriptor();
        let length = descriptor.len();
        let data =
            |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        let pointer = [(DATA as u32).to_le_bytes(), (length as u32).to_le_bytes()].concat();
        let import = self.import.map_or_else(String::new, |(package, interface, function)| {
            let (name, version) = package.split_once('@').unwrap();
            format!(r#"(import "{name}/{interface}@{version}" "{function}" (func))"#)
        });
        let more_imports = self.world.map_or("", |world| world.core);
        let text = format!(
            r#"(module
                {import}
                {more_imports}
                (import "[export]{adapter}" "[resource-new]exchange"
                    (func $new (param i32) (result i32)))
                (memory (export "memory") 2)
                (global $free (mut i32) (i32.const 65536))
                (data (i32.const 8) "{}")
                (data (i32.const {DATA}) "{}")
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and
                        (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                    (global.set $free (i32.add (local.get $at) (local.get 3)))
                    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
                        (then (drop (memory.grow (i32.const 64)))))
                    (local.get $at))
                (func (export "{adapter}#describe") (result i32) {})
                (func (export "{adapter}#[constructor]exchange") (param i32) (result i32)
                    (call $new (i32.const 1)))
                (func (export "{adapter}#[method]exchange.step") (param i32 i32 i32) (result i32)
                    {})
                (func (export "{adapter}#[dtor]exchange") (param i32))
                {})"#,
            data(&pointer),
            data(descriptor.as_bytes()),
            self.describe,
            self.step,
            self.more,
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
        let mut resolve = Resolve::default();
        resolve.push_str("adapter.wit", ADAPTER_WIT).unwrap();
        let mut imports = String::new();
        if let Some((package, interface, function)) = self.import {
            let (name, version) = package.split_once('@').unwrap();
            let wit =
                format!("package {package};\ninterface {interface} {{ {function}: func(); }}\n");
            resolve.push_str("import.wit", &wit).unwrap();
            imports = format!("import {name}/{interface}@{version};");
        }
        if let Some(world) = self.world {
            for (number, wit) in world.wit.iter().enumerate() {
                resolve.push_str(format!("import{number}.wit"), wit).unwrap();
            }
            imports.extend(world.interfaces.iter().map(|name| format!("import {name};")));
        }
        let world = format!("package tests:made;\nworld made {{ {imports} export {adapter}; }}\n");
        let package = resolve.push_str("made.wit", &world).unwrap();
        let world = resolve.select_world(&[package], Some("made")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }
}

/// A body that never ends.
pub const FOREVER: &str = "(loop $again (br $again)) unreachable";

/// Everything that must not be loaded, by what is wrong with it.
pub fn unloadable(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let real = super::plugins::bytes("demo");
    let half = real[..real.len() / 2].to_vec();
    let mut wrong_magic = real.clone();
    wrong_magic[0] = b'X';
    let mut future_version = real.clone();
    future_version[4] = 0x7f;
    vec![
        ("an empty file", Vec::new()),
        ("a text file", b"this is not WebAssembly\n".to_vec()),
        ("a truncated file", half),
        ("a file with the wrong magic number", wrong_magic),
        ("a file of a version nobody knows", future_version),
        ("a core module", wat::parse_str("(module)").unwrap()),
        ("a component of another world", wat::parse_str("(component)").unwrap()),
        (
            "a component that imports sockets",
            Handmade::new(name).import("wasi:sockets@0.2.0", "network", "open").build(),
        ),
        (
            "a component that imports an interface of its own",
            Handmade::new(name).import("stranger:tools@1.0.0", "files", "read").build(),
        ),
        ("a component whose description traps", Handmade::new(name).describe("unreachable").build()),
        ("a component whose description never ends", Handmade::new(name).describe(FOREVER).build()),
        (
            "a component whose description is longer than memory",
            // Address and length at 32: all of memory from 1024 on, and far beyond.
            Handmade::new(name)
                .describe("(i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const -1)) (i32.const 32)")
                .build(),
        ),
        (
            "a component whose description isn't text",
            Handmade::new(name)
                .describe("(i32.store8 (i32.const 1030) (i32.const 255)) (i32.const 8)")
                .build(),
        ),
        (
            "a component whose description isn't JSON",
            Handmade::new(name)
                .describe("(i32.store8 (i32.const 1024) (i32.const 91)) (i32.const 8)")
                .build(),
        ),
        (
            "a component with a start function that never ends",
            Handmade::new(name).more(&format!("(func $go {FOREVER}) (start $go)")).build(),
        ),
        (
            "a component with a start function that traps",
            Handmade::new(name).more("(func $go unreachable) (start $go)").build(),
        ),
        (
            "a component with more memory than is allowed",
            // Two gigabytes from the beginning.
            Handmade::new(name)
                .more("(func $go (if (i32.eq (memory.grow (i32.const 32768)) (i32.const -1)) (then unreachable))) (start $go)")
                .build(),
        ),
    ]
}

/// The real component with bytes changed at random places, or cut at one.
pub fn damaged(component: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = component.to_vec();
    if dice.below(3) == 0 {
        bytes.truncate(dice.below(bytes.len()));
    } else {
        for _ in 0..=dice.below(8) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.roll() as u8;
        }
    }
    bytes
}
