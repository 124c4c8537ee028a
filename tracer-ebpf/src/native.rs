//! The lower end of a waiter's native stack, with the registers to unwind it by. Most code has no
//! frame pointers, so user space unwinds, by the tables in the files.
//!
//! Of all waits with `--native`; else now and then of those for a futex that is no Python object's, to
//! learn which function of the C library waits, for whom.

use tracer_common::stack::NATIVE_BYTES;
use tracer_common::{DropReason, EVENT_NATIVE, FutexIdentity, NativeEvent, NoStack, Shape};

use crate::counters::lost;
use crate::emit;
use crate::globals::native_stacks;
use crate::maps::NATIVE;
use crate::pystack::{Frequent, affordable};
use crate::registers::Registers;
use crate::task::Task;

const PAGE: u64 = 4096;

/// Scratch: a record as it is sent.
#[repr(C)]
pub(crate) struct NativeScratch {
    event: NativeEvent,
    bytes: [u8; NATIVE_BYTES],
}

/// Copies the stack of a thread that is in the kernel, and whose memory is the current one: its id,
/// or a [`NoStack`] number.
#[inline(always)]
pub(crate) fn of_waiter(task: Task, id: &FutexIdentity, now: u64) -> u64 {
    let why = if native_stacks() != 0 {
        Frequent::Native
    } else if is_plain(id) {
        Frequent::Plain
    } else {
        return NoStack::NotTaken as u64;
    };
    if !affordable(why, now) {
        return NoStack::Limited as u64;
    }
    let registers = Registers::of(task.0);
    lw_native(task.pid(), registers.ip(), registers.sp(), registers.bp(), now)
}

/// The futex is no part of anything that is known.
#[inline(always)]
fn is_plain(id: &FutexIdentity) -> bool {
    const PLAIN: [u32; 2] = [Shape::Futex as u32, Shape::Mutex as u32];
    PLAIN.contains(&id.shape) || id.shape == Shape::Semaphore as u32 && id.object == 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lw_native(tid: u32, ip: u64, sp: u64, bp: u64, now: u64) -> u64 {
    let Some(scratch) = NATIVE.get_ptr_mut(0) else { return NoStack::Unreadable as u64 };
    // SAFETY: this CPU's value; the programs that use it run with interrupts off (`pystack`).
    let NativeScratch { event, bytes } = unsafe { &mut *scratch };
    // Near the end of the stack only what is left of its page can be read.
    let mut len = NATIVE_BYTES as u64;
    if !read(bytes, len, sp) {
        len = (PAGE - (sp & (PAGE - 1))) & (NATIVE_BYTES as u64 - 1);
        if len == 0 || !read(bytes, len, sp) {
            lost(DropReason::NativeStackFault);
            return NoStack::Unreadable as u64;
        }
    }
    event.event = EVENT_NATIVE;
    event.tid = tid;
    // A thread has one stack at a time.
    event.id = (now << 16 ^ u64::from(tid)) | 1 << 63;
    event.ip = ip;
    event.sp = sp;
    event.bp = bp;
    event.len = len;
    let id = event.id;
    let whole = size_of::<NativeEvent>() + (len as usize).min(NATIVE_BYTES);
    // SAFETY: the bytes follow the event in the `#[repr(C)]` scratch.
    let record = unsafe { core::slice::from_raw_parts(scratch.cast::<u8>().cast_const(), whole) };
    if !emit::bulk(record) {
        lost(DropReason::RingFullNative);
        return NoStack::RingFull as u64;
    }
    id
}

#[inline(always)]
fn read(bytes: &mut [u8; NATIVE_BYTES], len: u64, address: u64) -> bool {
    // SAFETY: `len` is at most the buffer's length, which the verifier checks; the helper checks the
    // user address and faults softly.
    let result = unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_user(
            bytes.as_mut_ptr().cast(),
            len as u32,
            address as *const core::ffi::c_void,
        )
    };
    result == 0
}
