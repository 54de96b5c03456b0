//! Hands a target to libFuzzer: `KEYWARD_FUZZ=framing-sse fuzz [libFuzzer's arguments]`.
//!
//! Built by `fuzz.sh`, which compiles libFuzzer and instruments the workspace. Without a target it
//! lists them; with `KEYWARD_FUZZ_SEEDS` it writes the target's seeds into that folder.

#![allow(unsafe_code, reason = "libFuzzer is C++")]
#![allow(clippy::expect_used, reason = "a tool for those who work on this")]

use std::{
    ffi::{CString, c_char, c_int},
    ptr,
    sync::OnceLock,
};

use keyward_fuzz::{TARGETS, Target, named};

static TARGET: OnceLock<Target> = OnceLock::new();

unsafe extern "C" {
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        run: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

extern "C" fn run(data: *const u8, size: usize) -> c_int {
    // SAFETY: libFuzzer gives `size` bytes that live as long as this call; no bytes may be null.
    let input = if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } };
    if let Some(target) = TARGET.get() {
        (target.run)(input);
    }
    0
}

fn main() {
    let name = std::env::var("KEYWARD_FUZZ").unwrap_or_default();
    let Some(target) = named(&name) else {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.max_len));
        std::process::exit(if name.is_empty() { 0 } else { 2 });
    };
    TARGET.get_or_init(|| target);
    if let Some(folder) = std::env::var_os("KEYWARD_FUZZ_SEEDS") {
        for (name, input) in keyward_fuzz::seeds::of(target) {
            let written = std::fs::write(std::path::Path::new(&folder).join(name), input);
            written.expect("a seed is written");
        }
        return;
    }
    // A finding is what libFuzzer sees of a process: that it aborts.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
    let arguments: Vec<CString> = std::env::args().filter_map(|it| CString::new(it).ok()).collect();
    let mut pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let mut count = pointers.len() as c_int;
    pointers.push(ptr::null_mut());
    let mut pointer = pointers.as_mut_ptr();
    // SAFETY: as C's `main` has them: `count` texts and a null pointer, alive to the end.
    std::process::exit(unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut pointer, run) });
}
