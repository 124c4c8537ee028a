//! lockwatt's kernel programs.
//!
//! Each program is a thin probe around a fallible body; what fails is counted by reason
//! ([`tracer_common::DropReason`]). Which program hooks what, and why there, is in `docs/hooks.md`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod counters;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod episode;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod identify;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod mutex;
#[cfg(target_arch = "bpf")]
mod native;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod process;
#[cfg(target_arch = "bpf")]
mod pystack;
#[cfg(target_arch = "bpf")]
mod quick;
#[cfg(target_arch = "bpf")]
mod rate;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod short;
#[cfg(target_arch = "bpf")]
mod spin;
#[cfg(target_arch = "bpf")]
mod states;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod user_memory;

/// The kernel gives the helpers used here (`bpf_probe_read_user`, `bpf_ktime_get_ns`) to
/// GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: a panic path that survives compilation makes the verifier refuse the program.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On the host this crate is empty, so that `cargo check --workspace` works; `tracer/build.rs`
/// compiles the programs.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
