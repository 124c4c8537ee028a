//! Reading the target's memory. The target is hostile: every address is checked by the helper,
//! every length is a constant.

use aya_ebpf::helpers::bpf_probe_read_user;

/// One 8-byte word of the current task's memory.
#[inline(always)]
pub(crate) fn word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address and faults softly; it never pages in.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Three words in a row.
#[inline(always)]
pub(crate) fn three_words(address: u64) -> Option<[u64; 3]> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(address as *const [u64; 3]) }.ok()
}

/// One byte of it.
#[inline(always)]
pub(crate) fn byte(address: u64) -> Option<u8> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(address as *const u8) }.ok()
}

/// Two words in a row.
#[inline(always)]
pub(crate) fn two_words(address: u64) -> Option<[u64; 2]> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(address as *const [u64; 2]) }.ok()
}
