//! Any records at all, for property tests.

use proptest::collection::vec;
use proptest::prelude::*;
use tracer::trace::records::{
    Class, FrameRecord, HeldHow, HeldRecord, Kind, LockRecord, SideStack, StackRecord,
    ThreadRecord, Wait,
};
use tracer::units::{Address, FrameIndex, LockIndex, Monotonic, Ns, StackIndex, ThreadIndex, Tid};

pub(crate) fn any_wait() -> impl Strategy<Value = Wait> {
    let times = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let ids = (any::<u32>(), any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>());
    let sides = (any_side(), any_side(), any_side());
    let all = (times, ids, any::<u32>(), any::<u32>(), sides);
    all.prop_map(|(times, ids, episodes, flags, sides)| Wait {
        thread: ThreadIndex(ids.0),
        lock: LockIndex(ids.1),
        start: Monotonic(times.0),
        end: Monotonic(times.1),
        blocked: Ns(times.2),
        runq: Ns(times.3),
        episodes,
        flags,
        waker: ids.2.map(ThreadIndex),
        waiter_stack: sides.0,
        waker_stack: sides.1,
        holder: ids.3.map(ThreadIndex),
        holder_stack: sides.2,
    })
}

fn any_side() -> impl Strategy<Value = SideStack> {
    any::<u32>().prop_map(|n| SideStack::from_u64(u64::from(n)).unwrap())
}

pub(crate) fn any_frame() -> impl Strategy<Value = FrameRecord> {
    (any::<u32>(), ".*", ".*", any::<u32>(), any::<bool>()).prop_map(
        |(index, function, file, line, native)| FrameRecord {
            index: FrameIndex(index),
            function,
            file,
            line,
            native,
        },
    )
}

pub(crate) fn any_stack() -> impl Strategy<Value = StackRecord> {
    (any::<u32>(), vec(any::<u32>(), 0..130), any::<u32>()).prop_map(|(index, frames, end)| {
        StackRecord {
            index: StackIndex(index),
            frames: frames.into_iter().map(FrameIndex).collect(),
            end,
        }
    })
}

pub(crate) fn any_lock() -> impl Strategy<Value = LockRecord> {
    (any::<u32>(), any::<u64>(), ".*").prop_map(|(index, address, name)| LockRecord {
        index: LockIndex(index),
        kind: Kind::Object,
        class: Class::Contention,
        address: Address(address),
        lock: Address(address ^ 10),
        name,
        shape: 3,
    })
}

pub(crate) fn any_thread() -> impl Strategy<Value = ThreadRecord> {
    (any::<u32>(), any::<u32>(), ".*", any::<Option<u64>>()).prop_map(|(index, tid, name, born)| {
        ThreadRecord {
            index: ThreadIndex(index),
            tid: Tid(tid),
            name,
            born: born.map(Monotonic),
            ..ThreadRecord::default()
        }
    })
}

pub(crate) fn any_held() -> impl Strategy<Value = HeldRecord> {
    let how = prop_oneof![Just(HeldHow::With), Just(HeldHow::Acquire), Just(HeldHow::Other)];
    (any::<u32>(), any::<u64>(), any::<u64>(), how, any::<u32>()).prop_map(
        |(thread, object, lock, how, depth)| HeldRecord {
            thread: ThreadIndex(thread),
            object: Address(object),
            lock: Address(lock),
            how,
            depth,
        },
    )
}
