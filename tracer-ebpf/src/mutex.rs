//! Which register holds the lock at a call of `sched_yield`, where no park says so: a program whose
//! threads only spin never parks.

use tracer_common::SpinSite;
use tracer_common::thread::SPIN_REGISTERS;

use crate::maps::SPIN_SITES;
use crate::process;
use crate::user_memory::{byte, word};

/// How often a register must have been found to hold the lock before it is believed.
const LEARN_VOTES: u64 = 3;
/// A place that yields for another reason (`os.sched_yield`, other libraries) is not looked at for ever.
const MAX_LOOKS: u64 = 256;
/// `_Py_LOCKED | _Py_HAS_PARKED` (`Include/internal/pycore_lock.h`): a `PyMutex` is never more.
const MUTEX_BITS: u8 = 3;

/// The register (1-based) that holds the lock at a yield that returns to `ret`; 0 while it isn't
/// known. `registers` are the callee-saved ones at the call, `stub` is where it goes on after it.
#[inline(always)]
pub(crate) fn register_at(ret: u64, stub: u64, registers: &[u64; SPIN_REGISTERS]) -> u32 {
    if ret == 0 {
        return 0;
    }
    let site = match SPIN_SITES.get_ptr_mut(process::tag(ret)) {
        Some(site) => site,
        None => {
            add_site(ret, stub);
            return 0;
        }
    };
    // SAFETY: a live map value; votes lost to a race only delay the learning, and a register
    // number is written as a whole.
    let site = unsafe { &mut *site };
    if site.register == 0 && site.looks < MAX_LOOKS {
        site.looks += 1;
        look(site, registers);
    }
    site.register as u32
}

/// A place that yields, of which nothing is known yet.
#[inline(always)]
fn add_site(ret: u64, stub: u64) {
    let site = SpinSite { votes: [0; SPIN_REGISTERS], register: 0, looks: 0, stub };
    // A full table means more than 256 yield sites: their yields stay unattributed.
    let _ = SPIN_SITES.insert(process::tag(ret), &site, 0);
}

/// Votes for the register whose value looks like a `PyMutex`, if only one value does.
#[inline(always)]
fn look(site: &mut SpinSite, registers: &[u64; SPIN_REGISTERS]) {
    let mut mutex = 0;
    for &value in registers {
        if value != mutex && lw_is_mutex(value) != 0 {
            if mutex != 0 {
                return;
            }
            mutex = value;
        }
    }
    if mutex != 0 {
        vote(site, registers, mutex);
    }
}

/// Votes for the registers that hold `lock`.
#[inline(always)]
pub(crate) fn vote(site: &mut SpinSite, registers: &[u64; SPIN_REGISTERS], lock: u64) {
    if site.register != 0 {
        return;
    }
    for i in 0..SPIN_REGISTERS {
        if registers[i] == lock {
            site.votes[i] += 1;
            if site.votes[i] >= LEARN_VOTES {
                site.register = i as u64 + 1;
            }
        }
    }
}

/// 1 if there is a `PyMutex` at this address that belongs to an object: a byte of two bits, in an
/// object's header (`ob_mutex`, at 10 of 16) or right behind it (`threading.Lock`, `RLock`), and the
/// object's type is a type.
///
/// Mutexes elsewhere (`_PyRuntime`) are not known by sight. They need not be: one place in the code
/// spins for all locks.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn lw_is_mutex(address: u64) -> u64 {
    u64::from(is_mutex(address).unwrap_or(false))
}

#[inline(always)]
fn is_mutex(address: u64) -> Option<bool> {
    let interpreter = process::interpreter()?;
    if interpreter.valid == 0 || interpreter.free_threaded == 0 || interpreter.type_type == 0 {
        return None;
    }
    let header = match address & 15 {
        10 => 10,
        0 => u64::from(interpreter.lock_mutex),
        _ => return None,
    };
    let type_of =
        |object: u64| word(object.wrapping_add(u64::from(interpreter.ob_type))).filter(|&t| t != 0);
    if byte(address)? > MUTEX_BITS {
        return None;
    }
    let meta = type_of(type_of(address.wrapping_sub(header))?)?;
    Some(meta == interpreter.type_type || type_of(meta)? == interpreter.type_type)
}
