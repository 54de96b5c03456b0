//! A search through everything this instance can read.
//!
//! What is looked for comes as hexadecimal digits and is compared digit by digit, so the words
//! themselves never come into memory by the search. Costs one pass over the linear memory.

/// How often the bytes written as `hex` occur in this instance's memory.
#[cfg(target_arch = "wasm32")]
#[allow(
    unsafe_code,
    reason = "reading memory that isn't one's own is what this adapter is for; all addresses below \
              the memory's size are readable in WebAssembly"
)]
pub fn count(hex: &str) -> usize {
    const PAGE: usize = 64 * 1024;
    let size = core::arch::wasm32::memory_size(0) * PAGE;
    let wanted = hex.len() / 2;
    let first = byte(hex, 0);
    // Address 0 is left out: Rust has no way to read it.
    (1..size.saturating_sub(wanted))
        .filter(|&at| {
            let read = |at: usize| unsafe { core::ptr::read_volatile(at as *const u8) };
            read(at) == first && (1..wanted).all(|offset| read(at + offset) == byte(hex, offset))
        })
        .count()
}

/// Natively there is nothing to search.
#[cfg(not(target_arch = "wasm32"))]
pub fn count(hex: &str) -> usize {
    usize::from(hex.len() > 2 && byte(hex, 0) == 0 && hex.is_empty())
}

fn byte(hex: &str, index: usize) -> u8 {
    let digit = |at: usize| match hex.as_bytes().get(at) {
        Some(digit @ b'0'..=b'9') => digit - b'0',
        Some(digit @ b'a'..=b'f') => digit - b'a' + 10,
        _ => 0,
    };
    digit(2 * index) << 4 | digit(2 * index + 1)
}
