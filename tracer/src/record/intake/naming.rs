//! From what the kernel side saw of a wait to the lock that the trace names.

use tracer_common::{FutexIdentity, Shape, WaitEvent};

use super::Intake;
use crate::cpython::{LockType, Namer, Seen, Told};
use crate::native::{NativeFrame, primitive};
use crate::record::traced::Traced;
use crate::trace::records::SideStack;
use crate::trace::writer::WriteError;
use crate::units::{Address, LockIndex, Tid};

/// `include/uapi/linux/futex.h`.
const FUTEX_PRIVATE: u32 = 128;

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
        let place = self.threads.home(Tid(event.tid)).place;
        let several = self.processes.several;
        let mut nobody = Traced::unknown();
        let traced = self.processes.get_mut(place).unwrap_or(&mut nobody);
        let pid = traced.pid;
        let lock_type = traced.namer.lock_type(&id);
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
        // Only what parks without an argument may be waiting on its own state.
        let thread = if id.shape == Shape::Parked as u32 && id.park_arg == 0 {
            traced.thread_ids.state(Tid(event.tid), pid, &traced.namer)
        } else {
            None
        };
        let is_thread = self.threads.is_known(Tid(event.val));
        let seen = Seen { id: &id, told, subjects: event.subjects, thread, is_thread };
        let owner =
            owner(traced, &id, lock_type).or_else(|| traced.thread_ids.host(event.holder_ns_tid));
        // A futex that several processes can use, in memory that they share, is one lock.
        let shared = if several && id.op & FUTEX_PRIVATE == 0 && id.shape != Shape::Join as u32 {
            traced.shared.word(pid, Address(id.uaddr))
        } else {
            None
        };
        let of = shared.is_none().then_some(traced.record.index);
        let (memory, common) = match shared {
            None => (traced.number, None),
            Some(word) => {
                // As if each were in a memory of its own, whose numbers no process has.
                let next = u32::MAX - u32::try_from(self.shared.len()).unwrap_or(u32::MAX / 2);
                let first = || (next, Address(id.uaddr));
                let &mut (memory, address) = self.shared.entry(word).or_insert_with(first);
                (memory, Some(address))
            }
        };
        let (natives, namer) = (&mut traced.natives, &mut traced.namer);
        let name = |namer: &mut Namer| {
            let mut name = namer.name(&seen);
            if plain && let Some(owner) = natives.owner(name.lock, native, namer) {
                name.name = format!("{} of {owner}", name.name);
            }
            if let Some(address) = common {
                // Each process has an object of its own for it.
                (name.address, name.lock) = (address, address);
            }
            name
        };
        let mut sight = seen;
        let common_id = FutexIdentity {
            uaddr: common.map_or(id.uaddr, |address| address.0),
            object: if common.is_some() { 0 } else { id.object },
            object_type: if common.is_some() { u64::from(id.object != 0) } else { id.object_type },
            ..id
        };
        sight.id = &common_id;
        let (lock, new) = self.locks.of_wait(memory, &sight, namer, name);
        self.write_lock(new, of)?;
        Ok((lock, owner))
    }
}

/// Who held the lock when the waiter went to sleep, if the lock itself says so.
fn owner(traced: &mut Traced, id: &FutexIdentity, lock_type: LockType) -> Option<Tid> {
    match (Shape::from_u32(id.shape)?, lock_type) {
        // Anything can be in that word of what only looks like a mutex.
        (Shape::Mutex, _) => traced.thread_ids.host(u32::try_from(id.owner).ok()?),
        (Shape::Parked | Shape::Semaphore, LockType::Rlock) => {
            traced.thread_ids.by_ident(id.owner, traced.pid, &traced.namer)
        }
        _ => None,
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
