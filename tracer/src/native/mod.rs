//! Native frames: which C function waits, and in which module.
//!
//! The kernel side copies registers and the lower end of the stack. Here they are unwound by the
//! tables in the mapped files (framehop), and named by their symbols (blazesym).

mod modules;
mod primitive;
mod symbols;

pub use modules::Modules;
pub use primitive::primitive;

use framehop::Unwinder;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64};

use self::symbols::Symbols;
use crate::units::Pid;

/// Frames of one stack that are kept.
const MAX_FRAMES: usize = 16;
/// The function that runs Python code (`Python/ceval.c`): from it on, the Python frames tell more.
const EVAL: &str = "_PyEval_EvalFrame";

/// A native function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NativeFrame {
    /// Its symbol, or `+0x…`: the address in its module.
    pub function: String,
    /// The module's path, as the process sees it.
    pub module: String,
}

/// A stack as the kernel side copied it.
#[derive(Clone, Copy, Debug)]
pub struct NativeStack<'a> {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer: where `bytes` begins.
    pub sp: u64,
    /// Frame pointer, if the code uses one.
    pub bp: u64,
    /// The stack from there on.
    pub bytes: &'a [u8],
}

/// Unwinds and names the native stacks of one process.
pub struct NativeNames {
    modules: Modules,
    symbols: Symbols,
    cache: CacheX86_64,
}

impl std::fmt::Debug for NativeNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeNames").finish_non_exhaustive()
    }
}

impl NativeNames {
    /// For a process.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { modules: Modules::new(pid), symbols: Symbols::new(pid), cache: CacheX86_64::new() }
    }

    /// The frames of a stack, leaf first, up to where the interpreter (the file at `interpreter`)
    /// runs Python code: at most 16. What can't be unwound is not there.
    pub fn frames(&mut self, stack: NativeStack<'_>, interpreter: &str) -> Vec<NativeFrame> {
        let mut frames: Vec<NativeFrame> = Vec::new();
        let mut inner = None;
        for (n, address) in self.addresses(stack).into_iter().enumerate() {
            let Some((module, offset)) = self.modules.of(address) else { break };
            let name = self.symbols.name(address);
            // What is below its own nameless functions is no news.
            let own = module == interpreter;
            if name.as_deref().map_or(own && n > 0, |name| name.starts_with(EVAL)) {
                break;
            }
            // The C library's inner functions have no names, and its outer ones say more.
            let nameless = name.is_none();
            let function = name.unwrap_or(format!("+{offset:#x}"));
            let frame = NativeFrame { function, module: module.to_owned() };
            if nameless && is_libc(module) && frames.is_empty() {
                inner.get_or_insert(frame);
                continue;
            }
            // Unless they were jumped to by the outer one, as by `sem_wait`.
            if !is_libc(module) {
                frames.extend(inner.take());
            }
            inner = None;
            frames.push(frame);
        }
        frames
    }

    /// The path of the file that is mapped at an address.
    pub fn module_of(&mut self, address: u64) -> Option<&str> {
        self.modules.learn(address);
        self.modules.of(address).map(|(path, _)| path)
    }

    /// Where each frame is: the instruction pointer, then the calls.
    fn addresses(&mut self, stack: NativeStack<'_>) -> Vec<u64> {
        self.modules.learn(stack.ip);
        let mut read = |address: u64| {
            let at = usize::try_from(address.wrapping_sub(stack.sp)).map_err(|_| ())?;
            let word = stack.bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(())?;
            Ok(u64::from_le_bytes(*word))
        };
        let registers = UnwindRegsX86_64::new(stack.ip, stack.sp, stack.bp);
        let mut frames =
            self.modules.unwinder.iter_frames(stack.ip, registers, &mut self.cache, &mut read);
        let mut addresses = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            addresses.push(frame.address_for_lookup());
            if addresses.len() == MAX_FRAMES {
                break;
            }
        }
        addresses
    }
}

/// The C library: `libc.so.6`, `libpthread.so.0`, `ld-musl-x86_64.so.1`, …
#[must_use]
pub fn is_libc(module: &str) -> bool {
    let name = module.rsplit('/').next().unwrap_or_default();
    ["libc.so", "libc-", "libpthread", "ld-musl"].iter().any(|start| name.starts_with(start))
}
