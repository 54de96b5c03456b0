//! The memory of an adapter instance.
//!
//! An instance lives for one exchange on one thread, and every exchange gets a fresh one, so what
//! counts is that the first kilobytes are cheap: allocation is a bump of one number, from memory
//! that is there already, and asks the host for a page or two when that ends. Long streams must
//! not grow for ever, so freed blocks go to lists by size class and are taken from there first.
//! Nothing is merged or given back: a block of a class is only made when none is free, so there are
//! never more of them than were in use at once.
//!
//! Two shapes are common and made cheap: a buffer that grows while it is the newest block grows in
//! place, and the newest block is taken back at once when it is freed.
//!
//! Costs: some ten instructions a call, half a kilobyte of code, at most a third of a block lost
//! to its class. The core takes pages from a [`Pages`], so that it is tested natively.

#![allow(
    unsafe_code,
    reason = "an allocator deals in addresses; each unsafe block states what it relies on"
)]
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use std::{
    alloc::Layout,
    ptr::{self, with_exposed_provenance_mut},
};

/// Of WebAssembly.
const PAGE_BYTES: usize = 64 * 1024;

/// Pages asked for at least. Few, because the host wipes what an instance had before the next one
/// gets it.
const MIN_PAGES: usize = 2;

/// The smallest block; holds a list's link natively as well.
const MIN_BYTES: usize = 16;

/// Every block starts at a multiple of this; larger alignments cost a gap.
const ALIGN: usize = 8;

/// The largest block. Far beyond what the host lets an adapter have.
const MAX_BYTES: usize = 1 << 30;

/// Classes for 16, 24, 32, 48, 64, 96 ... up to [`MAX_BYTES`].
const CLASSES: usize = class_of(MAX_BYTES) + 1;

/// Where memory comes from.
pub(crate) trait Pages {
    /// The address of so many new bytes, or none if there are no more. Memory is the caller's
    /// until the end of the program.
    fn grow(&mut self, pages: usize) -> Option<usize>;
}

/// The state of the allocator. All addresses are of memory that `pages` gave or the constructor
/// was given.
pub(crate) struct Heap<P> {
    pages: P,
    /// The first byte never used, a multiple of [`ALIGN`].
    next: usize,
    /// The end of the memory that `next` runs through.
    end: usize,
    /// For each class the address of the first free block, or 0. A free block begins with the
    /// address of the next one.
    free: [usize; CLASSES],
}

/// The class of blocks that hold so many bytes, at most [`MAX_BYTES`].
const fn class_of(bytes: usize) -> usize {
    if bytes <= MIN_BYTES {
        return 0;
    }
    let last = bytes - 1;
    let log = last.ilog2() as usize;
    let upper_half = (last >> (log - 1)) & 1;
    (log - 4) * 2 + upper_half + 1
}

const fn bytes_of(class: usize) -> usize {
    if class == 0 {
        return MIN_BYTES;
    }
    (3 + (class - 1) % 2) << ((class - 1) / 2 + 3)
}

impl<P: Pages> Heap<P> {
    /// Begins with the memory from `start` to `end`, which nothing else may use.
    pub(crate) const fn new(pages: P, start: usize, end: usize) -> Self {
        Self { pages, next: start.next_multiple_of(ALIGN), end, free: [0; CLASSES] }
    }

    /// A block for this layout, or null.
    pub(crate) fn allocate(&mut self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_BYTES {
            return ptr::null_mut();
        }
        let class = class_of(layout.size());
        let first = self.free[class];
        if first != 0 && first % layout.align() == 0 {
            // SAFETY: only `release` puts addresses in the lists, of blocks of this class that
            // their owners gave up, and writes the link into their first bytes.
            self.free[class] = unsafe { with_exposed_provenance_mut::<usize>(first).read() };
            return with_exposed_provenance_mut(first);
        }
        self.bump(bytes_of(class), layout.align())
    }

    fn bump(&mut self, bytes: usize, align: usize) -> *mut u8 {
        let start = self.next.next_multiple_of(align);
        if start.checked_add(bytes).is_some_and(|end| end <= self.end) {
            self.next = start + bytes;
            return with_exposed_provenance_mut(start);
        }
        // Room for the gap too, wherever the new pages are.
        if !self.extend(bytes + align) {
            return ptr::null_mut();
        }
        let start = self.next.next_multiple_of(align);
        self.next = start + bytes;
        with_exposed_provenance_mut(start)
    }

    /// Makes room for at least so many bytes from `next` on, which moves if the new pages don't
    /// continue the old ones.
    fn extend(&mut self, bytes: usize) -> bool {
        let pages = bytes.div_ceil(PAGE_BYTES).max(MIN_PAGES);
        let Some(start) = self.pages.grow(pages) else { return false };
        if start != self.end {
            self.next = start.next_multiple_of(ALIGN);
        }
        self.end = start + pages * PAGE_BYTES;
        true
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from `allocate` or `resize` of this heap with this layout, and is not used
    /// any more.
    pub(crate) unsafe fn release(&mut self, block: *mut u8, layout: Layout) {
        let class = class_of(layout.size());
        let address = block.expose_provenance();
        if address + bytes_of(class) == self.next {
            self.next = address;
            return;
        }
        // SAFETY: the block is ours again, is at least MIN_BYTES long and aligned to ALIGN.
        unsafe { with_exposed_provenance_mut::<usize>(address).write(self.free[class]) };
        self.free[class] = address;
    }

    /// Makes a block larger or smaller, in place where it can be; null and unchanged if there is
    /// no memory.
    ///
    /// # Safety
    /// As for `release`; `bytes` is more than 0.
    pub(crate) unsafe fn resize(
        &mut self,
        block: *mut u8,
        layout: Layout,
        bytes: usize,
    ) -> *mut u8 {
        if bytes > MAX_BYTES {
            return ptr::null_mut();
        }
        let (old, new) = (class_of(layout.size()), class_of(bytes));
        if old == new {
            return block;
        }
        // In place only where no block of the class is free: else a stream that shapes one block
        // after another would leave ever more of them behind.
        let (address, end) = (block.expose_provenance(), block.addr() + bytes_of(old));
        if end == self.next && self.free[new] == 0 {
            let target = address + bytes_of(new);
            if target <= self.end || (self.extend(bytes_of(new)) && self.next == end) {
                self.next = target;
                return block;
            }
        }
        // A smaller block moves too: under its new size it would go to the wrong list.
        // SAFETY: the caller's layout with another size that isn't too large.
        let target =
            self.allocate(unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) });
        if !target.is_null() {
            // SAFETY: both blocks are live and different, and hold that many bytes.
            unsafe {
                ptr::copy_nonoverlapping(block, target, layout.size().min(bytes));
                self.release(block, layout);
            }
        }
        target
    }
}

/// The allocator of a component.
#[cfg(target_arch = "wasm32")]
mod component {
    use std::{
        alloc::{GlobalAlloc, Layout},
        arch::wasm32,
        cell::UnsafeCell,
    };

    use super::{Heap, PAGE_BYTES, Pages};

    #[cfg(target_feature = "atomics")]
    compile_error!("the allocator is for one thread: build without the `atomics` feature");

    /// The linear memory beyond what it began with.
    struct Linear;

    impl Pages for Linear {
        fn grow(&mut self, pages: usize) -> Option<usize> {
            let before = wasm32::memory_grow::<0>(pages);
            (before != usize::MAX).then(|| before * PAGE_BYTES)
        }
    }

    unsafe extern "C" {
        /// Placed by the linker where the program's own data ends.
        static __heap_base: u8;
    }

    struct Global(UnsafeCell<Option<Heap<Linear>>>);

    // SAFETY: there are no threads in a component built without atomics.
    unsafe impl Sync for Global {}

    impl Global {
        /// # Safety
        /// The reference must be gone before the next call: no method keeps it.
        #[allow(clippy::mut_from_ref, reason = "there is one thread and no recursion")]
        unsafe fn heap(&self) -> &mut Heap<Linear> {
            // SAFETY: the caller's promise; nothing else reaches the cell.
            unsafe { &mut *self.0.get() }.get_or_insert_with(|| {
                let start = (&raw const __heap_base).expose_provenance();
                Heap::new(Linear, start, wasm32::memory_size::<0>() * PAGE_BYTES)
            })
        }
    }

    // SAFETY: blocks are disjoint, aligned and as long as asked; the heap doesn't panic: its
    // sizes are checked against MAX_BYTES, so no arithmetic overflows.
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: used within this expression only.
            unsafe { self.heap() }.allocate(layout)
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: used within this expression only; the caller's promise is `release`'s.
            unsafe { self.heap().release(block, layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
            // SAFETY: used within this expression only; the caller's promise is `resize`'s.
            unsafe { self.heap().resize(block, layout, bytes) }
        }
    }

    #[global_allocator]
    static GLOBAL: Global = Global(UnsafeCell::new(None));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory from one large block, with gaps where somebody else would have taken pages.
    struct Arena {
        memory: Vec<u64>,
        used: usize,
        gap_every: usize,
        grown: usize,
    }

    impl Arena {
        fn new(pages: usize, gap_every: usize) -> Self {
            Self { memory: vec![0; pages * PAGE_BYTES / 8], used: 0, gap_every, grown: 0 }
        }
    }

    impl Pages for Arena {
        fn grow(&mut self, pages: usize) -> Option<usize> {
            self.grown += 1;
            if self.gap_every > 0 && self.grown % self.gap_every == 0 {
                self.used += PAGE_BYTES;
            }
            let start = self.used;
            let end = start + pages * PAGE_BYTES;
            if end > self.memory.len() * 8 {
                return None;
            }
            self.used = end;
            Some(self.memory.as_mut_ptr().expose_provenance() + start)
        }
    }

    fn heap(arena: Arena) -> Heap<Arena> {
        Heap::new(arena, 0, 0)
    }

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    #[test]
    fn a_class_holds_its_sizes_and_wastes_at_most_a_third() {
        for bytes in (1..5000).chain([MAX_BYTES - 1, MAX_BYTES]) {
            let size = bytes_of(class_of(bytes));
            assert!(size >= bytes, "{bytes}");
            assert!(bytes <= MIN_BYTES || size * 2 <= bytes * 3, "{bytes} in {size}");
            assert_eq!(class_of(size), class_of(bytes));
            assert_eq!(size % ALIGN, 0);
        }
    }

    #[test]
    fn the_newest_block_grows_and_shrinks_in_place() {
        let mut heap = heap(Arena::new(64, 0));
        let block = heap.allocate(layout(10, 1));
        let mut bytes = 10;
        for larger in [100, 1000, 100_000, 300_000, 50] {
            // SAFETY: the block is live and has this layout.
            assert_eq!(unsafe { heap.resize(block, layout(bytes, 1), larger) }, block);
            bytes = larger;
        }
        let next = heap.allocate(layout(16, 1));
        assert_eq!(next.addr(), block.addr() + 64);
    }

    #[test]
    fn a_stream_of_any_length_stays_in_the_memory_of_its_first_chunks() {
        // Buffers that are trimmed when they are full, and buffers that grow.
        let shapes: [fn(usize) -> usize; 2] = [|size| size / 2 + 1, |size| size * 3];
        for reshaped in shapes {
            let mut heap = heap(Arena::new(64, 0));
            heap.allocate(layout(1000, 8));
            let mut after_warm_up = 0;
            for chunk in 0..20_000usize {
                let mut blocks = Vec::new();
                for size in [100 + chunk % 900, 24, 8 + chunk % 60, 4000] {
                    let block = heap.allocate(layout(size, 4));
                    assert!(!block.is_null());
                    // SAFETY: the block is live and has this layout.
                    let block = unsafe { heap.resize(block, layout(size, 4), reshaped(size)) };
                    assert!(!block.is_null());
                    blocks.push((block, layout(reshaped(size), 4)));
                }
                // In the order of allocation, so that most aren't the newest.
                for (block, layout) in blocks {
                    // SAFETY: the block is live and has this layout.
                    unsafe { heap.release(block, layout) };
                }
                if chunk == 1000 {
                    after_warm_up = heap.pages.used;
                }
            }
            assert_eq!(heap.pages.used, after_warm_up);
        }
    }

    #[test]
    fn what_is_too_much_gives_null_and_harms_nothing() {
        let mut heap = heap(Arena::new(4, 0));
        assert!(heap.allocate(layout(MAX_BYTES + 1, 1)).is_null());
        assert!(heap.allocate(layout(5 * PAGE_BYTES, 1)).is_null());
        let block = heap.allocate(layout(100, 1));
        assert!(!block.is_null());
        // SAFETY: the block is live and has this layout.
        assert!(unsafe { heap.resize(block, layout(100, 1), 8 * PAGE_BYTES) }.is_null());
        // SAFETY: as above; a failed resize leaves the block as it was.
        unsafe { heap.release(block, layout(100, 1)) };
    }

    #[derive(Clone, Debug)]
    enum Action {
        Allocate { bytes: usize, align: usize },
        Resize { which: usize, bytes: usize },
        Release { which: usize },
    }

    fn action() -> impl Strategy<Value = Action> {
        let bytes = || prop_oneof![20 => 1usize..300, 10 => 1usize..5000, 1 => 1usize..100_000];
        prop_oneof![
            3 => (bytes(), 0u32..6).prop_map(|(bytes, log)| Action::Allocate { bytes, align: 1 << log }),
            3 => (any::<usize>(), bytes()).prop_map(|(which, bytes)| Action::Resize { which, bytes }),
            2 => any::<usize>().prop_map(|which| Action::Release { which }),
        ]
    }

    struct Live {
        block: *mut u8,
        layout: Layout,
        fill: u8,
    }

    impl Live {
        fn write(&self) {
            // SAFETY: the block is live and as long as its layout says.
            unsafe { self.block.write_bytes(self.fill, self.layout.size()) };
        }

        fn holds(&self, bytes: usize) -> bool {
            // SAFETY: as above; `bytes` is at most the layout's size.
            let content = unsafe { std::slice::from_raw_parts(self.block, bytes) };
            content.iter().all(|&byte| byte == self.fill)
        }
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_never_overlap_and_keep_their_content(
            actions in proptest::collection::vec(action(), 1..200),
            gap_every in 0usize..4,
        ) {
            let mut heap = heap(Arena::new(1024, gap_every));
            let mut live: Vec<Live> = Vec::new();
            for (step, action) in actions.into_iter().enumerate() {
                let fill = step as u8;
                match action {
                    Action::Allocate { bytes, align } => {
                        let layout = layout(bytes, align);
                        let block = heap.allocate(layout);
                        prop_assert!(!block.is_null() && block.addr() % align == 0);
                        live.push(Live { block, layout, fill });
                        live[live.len() - 1].write();
                    }
                    Action::Resize { which, bytes } if !live.is_empty() => {
                        let at = which % live.len();
                        let one = &mut live[at];
                        let kept = one.layout.size().min(bytes);
                        // SAFETY: the block is live and has this layout.
                        one.block = unsafe { heap.resize(one.block, one.layout, bytes) };
                        one.layout = layout(bytes, one.layout.align());
                        prop_assert!(!one.block.is_null());
                        prop_assert_eq!(one.block.addr() % one.layout.align(), 0);
                        prop_assert!(one.holds(kept));
                        one.fill = fill;
                        one.write();
                    }
                    Action::Release { which } if !live.is_empty() => {
                        let one = live.swap_remove(which % live.len());
                        prop_assert!(one.holds(one.layout.size()));
                        // SAFETY: the block is live and has this layout.
                        unsafe { heap.release(one.block, one.layout) };
                    }
                    _ => {}
                }
            }
            for one in &live {
                prop_assert!(one.holds(one.layout.size()), "content was overwritten");
            }
        }
    }
}
