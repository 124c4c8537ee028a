//! The saved user registers of a task, and what else depends on the architecture.
//!
//! x86_64: `struct pt_regs` of `arch/x86/include/asm/ptrace.h`; system-call numbers of
//! `arch/x86/entry/syscalls/syscall_64.tbl`; argument registers of the system-call convention.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use tracer_common::thread::SPIN_REGISTERS;

#[cfg(not(bpf_target_arch = "x86_64"))]
compile_error!("registers.rs knows x86_64 only; add the other architecture's registers here");

/// `futex`.
pub(crate) const SYS_FUTEX: u64 = 202;
/// `futex_waitv` (5.16 and later).
pub(crate) const SYS_FUTEX_WAITV: u64 = 449;
/// `futex_wake` (6.7 and later).
pub(crate) const SYS_FUTEX_WAKE: u64 = 454;
/// `futex_wait` (6.7 and later).
pub(crate) const SYS_FUTEX_WAIT: u64 = 455;
/// `sched_yield`.
pub(crate) const SYS_SCHED_YIELD: u64 = 24;

/// Saved user registers of a task that is in the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Registers(*const u64);

impl Registers {
    /// The registers of a task that came as a tracepoint's argument or is current.
    #[inline(always)]
    pub(crate) fn of(task: *const c_void) -> Self {
        // SAFETY: `task` is a trusted pointer (tp_btf argument or current), which the verifier
        // checks; the helper gives `task_pt_regs(task)`, which exists as long as the task.
        Self(unsafe { bpf_task_pt_regs(task.cast_mut().cast()) } as *const u64)
    }

    /// The registers that came as a tracepoint's own argument.
    #[inline(always)]
    pub(crate) fn from_argument(registers: *const u64) -> Self {
        Self(registers)
    }

    #[inline(always)]
    fn word(self, index: usize) -> u64 {
        // SAFETY: `index` is a constant below the 21 words of `struct pt_regs`; the verifier
        // checks the load against the struct's BTF.
        unsafe { *self.0.add(index) }
    }

    /// The system call the task is in; meaningless after an interrupt from user mode.
    #[inline(always)]
    pub(crate) fn syscall(self) -> u64 {
        self.word(15)
    }

    /// The task was interrupted in user mode, rather than being in a system call.
    ///
    /// `orig_ax` is -1 then: every entry by interrupt or exception puts it there, so that no system
    /// call is restarted (`idtentry`, `idtentry_irq` in `arch/x86/entry/entry_64.S`).
    #[inline(always)]
    pub(crate) fn interrupted(self) -> bool {
        (self.word(15) as i64) < 0
    }

    /// System-call arguments 0 to 5.
    #[inline(always)]
    pub(crate) fn argument<const N: usize>(self) -> u64 {
        // rdi, rsi, rdx, r10, r8, r9
        const { assert!(N < 6) };
        self.word(const { [14, 13, 12, 7, 9, 8][N] })
    }

    /// Arguments 0 to 2 of the function that the task is about to enter (System V ABI), for a
    /// program whose context is the registers.
    #[inline(always)]
    pub(crate) fn function_arguments(context: *const c_void) -> [u64; 3] {
        let words = context.cast::<u64>();
        // rdi, rsi, rdx. Volatile: one load at a variable offset of the context is refused.
        // SAFETY: constants below the 21 words of `struct pt_regs`, which the context is.
        unsafe {
            [
                words.add(14).read_volatile(),
                words.add(13).read_volatile(),
                words.add(12).read_volatile(),
            ]
        }
    }

    /// A general register by its position in `struct pt_regs` (r15 is 0, rdi 14), for a program
    /// whose context is the registers.
    #[inline(always)]
    pub(crate) fn by_number(context: *const c_void, number: u64) -> Option<u64> {
        let words = context.cast::<u64>();
        let mut found = None;
        let mut n = 0;
        while n < 15 {
            // SAFETY: a constant below the 21 words of `struct pt_regs` once the loop is unrolled;
            // volatile so that it is not made one load at a variable offset, which is refused.
            let value = unsafe { words.add(n).read_volatile() };
            if number == n as u64 {
                found = Some(value);
            }
            n += 1;
        }
        found
    }

    /// User instruction pointer.
    #[inline(always)]
    pub(crate) fn ip(self) -> u64 {
        self.word(16)
    }

    /// User frame pointer, if the code uses one.
    #[inline(always)]
    pub(crate) fn bp(self) -> u64 {
        self.word(4)
    }

    /// User stack pointer.
    #[inline(always)]
    pub(crate) fn sp(self) -> u64 {
        self.word(19)
    }

    /// Callee-saved register number `n`, 1-based: rbx, rbp, r12, r13, r14, r15. 0 for other `n`.
    #[inline(always)]
    pub(crate) fn callee_saved(self, n: u32) -> u64 {
        match n {
            1 => self.word(5),
            2 => self.word(4),
            3 => self.word(3),
            4 => self.word(2),
            5 => self.word(1),
            6 => self.word(0),
            _ => 0,
        }
    }

    /// All callee-saved registers, in that order.
    #[inline(always)]
    pub(crate) fn save(self, into: &mut [u64; SPIN_REGISTERS]) {
        into[0] = self.word(5);
        into[1] = self.word(4);
        into[2] = self.word(3);
        into[3] = self.word(2);
        into[4] = self.word(1);
        into[5] = self.word(0);
    }
}
