//! From what the kernel side saw of a wait to the lock that the trace names.

use tracer_common::{FutexIdentity, Shape, WaitEvent};

use super::intake::Intake;
use crate::cpython::{LockType, Namer, Seen, Told};
use crate::native::{NativeFrame, primitive};
use crate::trace::records::SideStack;
use crate::trace::writer::WriteError;
use crate::units::{LockIndex, Tid};

impl Intake {
    /// What a wait was for, and who held it if the runtime says so. Writes the lock's record if it is
    /// new.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn lock_of(
        &mut self,
        event: &WaitEvent,
        waiter_stack: SideStack,
        native: &[NativeFrame],
    ) -> Result<(LockIndex, Option<Tid>), WriteError> {
        let id = event.identity();
        let lock_type = self.namer.lock_type(&id);
        let mut told = self.stacks.told(waiter_stack, lock_type);
        let plain = is_plain(&id) && !matches!(told, Told::As(_));
        if plain {
            told = match primitive(native, id.shape == Shape::Semaphore as u32) {
                Some(primitive) => Told::As(primitive),
                // Without native frames it is taken to be what it was before.
                None if native.is_empty() => Told::Nothing,
                None => Told::Itself,
            };
        }
        let seen = Seen {
            id: &id,
            told,
            subjects: event.subjects,
            // Only what parks without an argument may be waiting on its own state.
            thread: if id.shape == Shape::Parked as u32 && id.park_arg == 0 {
                self.thread_ids.state(Tid(event.tid), self.pid, &self.namer)
            } else {
                None
            },
            is_thread: self.threads.is_known(Tid(event.val)),
        };
        let owner =
            self.owner(&id, lock_type).or_else(|| self.thread_ids.host(event.holder_ns_tid));
        let natives = &mut self.natives;
        let name = |namer: &mut Namer| {
            let mut name = namer.name(&seen);
            if plain && let Some(owner) = natives.owner(name.lock, native, namer) {
                name.name = format!("{} of {owner}", name.name);
            }
            name
        };
        let (lock, new) = self.locks.of_wait(&seen, &mut self.namer, name);
        self.write_lock(new)?;
        Ok((lock, owner))
    }

    /// Who held the lock when the waiter went to sleep, if the lock itself says so.
    fn owner(&mut self, id: &FutexIdentity, lock_type: LockType) -> Option<Tid> {
        match (Shape::from_u32(id.shape)?, lock_type) {
            // Anything can be in that word of what only looks like a mutex.
            (Shape::Mutex, _) => self.thread_ids.host(u32::try_from(id.owner).ok()?),
            (Shape::Parked | Shape::Semaphore, LockType::Rlock) => {
                self.thread_ids.by_ident(id.owner, self.pid, &self.namer)
            }
            _ => None,
        }
    }
}

/// The futex is no part of anything that CPython keeps (as the kernel side's `native::is_plain`).
fn is_plain(id: &FutexIdentity) -> bool {
    match Shape::from_u32(id.shape) {
        Some(Shape::Futex | Shape::Mutex) => true,
        Some(Shape::Semaphore) => id.object == 0,
        _ => false,
    }
}
