//! Native stacks on their way from the kernel side to the waits that name them.

use rustc_hash::FxHashMap;
use tracer_common::NativeEvent;
use tracer_common::stack::NATIVE_BYTES;
use zerocopy::FromBytes;

use crate::cpython::Namer;
use crate::native::{NativeFrame, NativeNames, NativeStack, is_libc};
use crate::units::{Address, Pid};

/// Stacks whose waits never came (they were below the threshold) are dropped at this many.
const MAX_WAITING: usize = 4096;

/// Stacks that were unwound, until their waits come.
#[derive(Debug)]
pub(super) struct Natives {
    pid: Pid,
    /// Made when the first stack comes.
    names: Option<NativeNames>,
    waiting: FxHashMap<u64, Vec<NativeFrame>>,
}

impl Natives {
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, names: None, waiting: FxHashMap::default() }
    }

    /// Takes in a stack that the kernel side sent; false if it is malformed.
    pub(super) fn take(&mut self, bytes: &[u8], namer: &Namer) -> bool {
        let Ok((event, rest)) = NativeEvent::read_from_prefix(bytes) else { return false };
        let len = usize::try_from(event.len).unwrap_or(usize::MAX);
        let Some(bytes) = rest.get(..len).filter(|_| len <= NATIVE_BYTES) else { return false };
        let interpreter = namer.interpreter().map_or("", |python| &python.file);
        let stack = NativeStack { ip: event.ip, sp: event.sp, bp: event.bp, bytes };
        let frames = self.names().frames(stack, interpreter);
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
        }
        self.waiting.insert(event.id, frames);
        true
    }

    /// The frames of the stack that a wait names, leaf first; empty if there is none.
    pub(super) fn of_wait(&mut self, id: u64) -> Vec<NativeFrame> {
        self.waiting.remove(&id).unwrap_or_default()
    }

    /// The module that a futex belongs to: the one that it lies in, else the one that waits, by the
    /// file's own name. `None`: the C library or the interpreter, which are nobody's extension.
    pub(super) fn owner(
        &mut self,
        futex: Address,
        frames: &[NativeFrame],
        namer: &Namer,
    ) -> Option<String> {
        let interpreter = namer.interpreter().map_or("", |python| &python.file);
        let module = match self.names().module_of(futex.0) {
            Some(module) => module,
            None => frames.iter().map(|frame| frame.module.as_str()).find(|m| !is_libc(m))?,
        };
        let name = module.rsplit('/').next().unwrap_or(module);
        (module != interpreter && !is_libc(module)).then(|| name.to_owned())
    }

    fn names(&mut self) -> &mut NativeNames {
        let pid = self.pid;
        self.names.get_or_insert_with(|| NativeNames::new(pid))
    }

    /// The process is another program now.
    pub(super) fn forget(&mut self, pid: Pid) {
        *self = Self::new(pid);
    }
}
