//! Where a walk keeps what is too large for the BPF stack: one per CPU.

use tracer_common::stack::MAX_FRAMES;
use tracer_common::{RawFrame, SUBJECTS, StackEvent};

use super::Frequent;
use super::code::{CODE_SLOTS, CodeEntry, Generation};

/// Bytes of a frame that hold all fields that are needed, in every version, and the first local
/// variable or value behind them.
pub(super) const FRAME_BYTES: u64 = 88;
/// Offsets into a thread state are masked with this, so that the verifier knows their range.
const THREAD_MASK: u32 = 0xff;
const CODE_MASK: u32 = 0xff;
const PAGE: u64 = 4096;

/// Scratch of one walk.
#[repr(C)]
pub(crate) struct Walk {
    /// The record, with `frames` right behind it.
    pub(super) event: StackEvent,
    /// Leaf first.
    pub(super) frames: [RawFrame; MAX_FRAMES],
    /// One page of the frames' stack, from its start on, and room for any offset.
    window: [u8; PAGE as usize + 264],
    /// The thread state, and room for masked offsets.
    thread: [u8; 264],
    /// The beginning of a code object, and room for masked offsets.
    code: [u8; 264],
    /// Address of the page in `window`.
    window_page: u64,
    /// Frames that begin before this offset are in the window; 0: none is.
    pub(super) window_frames: u64,
    /// Address of the thread state in `thread`.
    pub(super) thread_address: u64,
    /// The thread's user stack pointer; 0: not known.
    pub(super) user_sp: u64,
    /// The frame that the last entry frame was called from.
    pub(super) beyond_entry: u64,
    /// What code-object answers must have been cached under to be believed.
    pub(super) generation: Generation,
    /// Frequent walks are paid for until then.
    pub(super) paid_until_ns: [u64; Frequent::COUNT],
    /// Blocked time of short waits since one of them was walked for its sake.
    pub(super) earned_ns: u64,
    /// First local variables of the innermost frames, of a waiter's walk.
    pub(super) subjects: [u64; SUBJECTS],
    /// Python frames whose first local variable has been read.
    pub(super) subjects_read: u32,
    /// Who holds the GIL, as its own PID namespace numbers it.
    pub(super) holder_ns_tid: u32,
    /// `WAIT_HOLDER_*` flags of the last holder's stack.
    pub(super) holder_flags: u32,
    /// Interpreters whose threads have been looked through.
    pub(super) lists_searched: u32,
    /// Ids of stacks that user space has, by their upper bits: a look here saves one into a hash.
    pub(super) sent: [u64; SENT_SLOTS],
    /// What was read of code objects, a direct-mapped cache.
    pub(super) codes: [CodeEntry; CODE_SLOTS],
}

/// Slots of `sent`: 8 bits of an id.
const SENT_SLOTS: usize = 256;
/// Bytes read of a thread state: up to `native_thread_id` in every version.
const THREAD_BYTES: u32 = 200;
/// Bytes read of a code object: up to `co_qualname`, and up to `co_tlbc` where there is one.
const CODE_BYTES: u32 = 160;
const CODE_BYTES_TLBC: u32 = 240;

macro_rules! read_user {
    ($buffer:expr, $len:expr, $address:expr) => {
        // SAFETY: the length is at most the buffer's, which the verifier checks; the helper checks
        // the user address and faults softly.
        (unsafe {
            aya_ebpf::helpers::generated::bpf_probe_read_user(
                (&raw mut $buffer).cast(),
                $len,
                $address as *const core::ffi::c_void,
            )
        }) == 0
    };
}

/// Reads a thread state; false if it can't be read.
#[inline(always)]
pub(super) fn read_thread(walk: *mut Walk, address: u64) -> bool {
    // SAFETY: this CPU's value (`prepare`).
    unsafe { (*walk).thread_address = address };
    read_user!((*walk).thread, THREAD_BYTES, address)
}

/// Reads the beginning of a code object; false if it can't be read.
#[inline(always)]
pub(super) fn read_code(walk: *mut Walk, address: u64, with_tlbc: bool) -> bool {
    if with_tlbc {
        read_user!((*walk).code, CODE_BYTES_TLBC, address)
    } else {
        read_user!((*walk).code, CODE_BYTES, address)
    }
}

/// Reads the top of a frame's value stack to where a code object would be, and nothing behind it;
/// false if it can't be read. `bytes`: at most 128.
#[inline(always)]
pub(super) fn read_values(walk: *mut Walk, address: u64, bytes: u32) -> bool {
    read_user!((*walk).code, bytes & 0xff, address)
}

/// Whether the frame at `frame` is in the window.
#[inline(always)]
pub(super) fn has_frame(walk: *mut Walk, frame: u64) -> bool {
    // SAFETY: this CPU's value.
    let walk = unsafe { &*walk };
    frame.wrapping_sub(walk.window_page) < walk.window_frames
}

/// Reads the frame at `frame` into the window; false if it can't be read.
///
/// A Python data stack grows upwards and is contiguous, so one page holds some 28 older frames: a
/// read from the page's start up to the frame saves a read for each of them.
#[inline(always)]
pub(super) fn load_frame(walk: *mut Walk, frame: u64) -> bool {
    let (page, at) = (frame & !(PAGE - 1), frame & (PAGE - 1));
    // SAFETY: this CPU's value.
    let walk = unsafe { &mut *walk };
    walk.window_frames = 0;
    let read = read_user!(walk.window, (at + FRAME_BYTES) as u32, page);
    if read {
        walk.window_page = page;
        walk.window_frames = at + 1;
    }
    read
}

macro_rules! getters {
    ($($name:ident($buffer:ident, $mask:ident): $type:ty;)+) => {$(
        /// A field of what was read last.
        #[inline(always)]
        pub(super) fn $name(walk: *const Walk, offset: u32) -> $type {
            let at = (offset & $mask) as usize;
            // SAFETY: `at` is at most 255, and 8 more bytes are in the buffer; any alignment is
            // fine for a map value on the architectures that the kernel compiles BPF for.
            unsafe { *(&raw const (*walk).$buffer).cast::<u8>().add(at).cast::<$type>() }
        }
    )+};
}

getters! {
    thread_word(thread, THREAD_MASK): u64;
    code_word(code, CODE_MASK): u64;
    code_half_word(code, CODE_MASK): u32;
}

macro_rules! frame_getters {
    ($($name:ident: $type:ty;)+) => {$(
        /// A field of a frame that is in the window.
        #[inline(always)]
        pub(super) fn $name(walk: *const Walk, frame: u64, offset: u8) -> $type {
            let at = (frame & (PAGE - 1)) as usize + offset as usize;
            // SAFETY: at most 4095 + 255, and 8 more bytes are in the window.
            unsafe { *(&raw const (*walk).window).cast::<u8>().add(at).cast::<$type>() }
        }
    )+};
}

frame_getters! {
    frame_word: u64;
    frame_half_word: u32;
    frame_byte: u8;
}
