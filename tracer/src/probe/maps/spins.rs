//! Yields and samples by lock, and the places that spin.

use aya::maps::PerCpuValues;
use tracer_common::{LockSamples, SpinCode, SpinKey, SpinTotals};

use super::Maps;
use crate::units::Address;

impl Maps {
    /// Yields by lock address and stack, summed over the CPUs.
    #[must_use]
    pub fn spins(&self) -> Vec<(SpinKey, SpinTotals)> {
        self.spins
            .iter()
            .flatten()
            .map(|(key, per_cpu)| {
                let mut sums = SpinTotals::default();
                for totals in per_cpu.iter() {
                    sums.yields += totals.yields;
                    sums.yielded_ns += totals.yielded_ns;
                    sums.spin_ns += totals.spin_ns;
                    // Only the CPU that saw the lock first read its type.
                    sums.object_type = sums.object_type.max(totals.object_type);
                }
                (key, sums)
            })
            .collect()
    }

    /// Places that spin and the register (1-based) that is known to hold the lock there: return
    /// addresses of their `sched_yield` calls, as the kernel side marked them
    /// ([`tracer_common::process::tag`]) and as they are.
    #[must_use]
    pub fn spin_sites(&self) -> Vec<(Address, Address, u64)> {
        let sites = self.spin_sites.iter().flatten();
        let address = |ret| Address(tracer_common::process::untag(ret));
        let sites = sites.map(|(ret, site)| (Address(ret), address(ret), site.register));
        sites.filter(|&(.., register)| register != 0).collect()
    }

    /// Forgets what there is of memories that are gone; `gone` is asked for each address that is marked
    /// ([`tracer_common::process::tag`]).
    pub fn forget_tagged(&mut self, gone: impl Fn(u64) -> bool) {
        let spins: Vec<SpinKey> =
            self.spins.keys().flatten().filter(|key| gone(key.lock)).collect();
        for key in spins {
            // Not there any more is as good, here and below.
            let _ = self.spins.remove(&key);
        }
        let samples: Vec<u64> = self.samples.keys().flatten().filter(|&lock| gone(lock)).collect();
        for lock in samples {
            let _ = self.samples.remove(&lock);
        }
        let sites: Vec<u64> = self.spin_sites.keys().flatten().filter(|&ret| gone(ret)).collect();
        for ret in sites {
            let _ = self.spin_sites.remove(&ret);
        }
    }

    /// Forgets which registers hold locks where: the target has replaced its code.
    pub fn forget_spin_sites(&mut self) {
        let places: Vec<u64> = self.spin_sites.keys().flatten().collect();
        for ret in places {
            // Not there any more is as good.
            let _ = self.spin_sites.remove(&ret);
        }
    }

    /// Tells the sampler of a function that spins. False if there is no such slot.
    pub fn set_spin_code(&mut self, slot: u32, code: SpinCode) -> bool {
        self.spin_code.set(slot, code, 0).is_ok()
    }

    /// Samples by the address of the lock that was spun on, summed over the CPUs.
    #[must_use]
    pub fn samples(&self) -> Vec<(Address, LockSamples)> {
        let all = self.samples.iter().flatten();
        let sum = |per_cpu: PerCpuValues<LockSamples>| LockSamples {
            samples: per_cpu.iter().map(|one| one.samples).sum(),
            // Only the CPU that saw the lock first read its type.
            object_type: per_cpu.iter().map(|one| one.object_type).max().unwrap_or(0),
        };
        all.map(|(lock, per_cpu)| (Address(lock), sum(per_cpu))).collect()
    }
}
