//! Which CPUs a domain is of, and where their time went.

use super::summary::TimeSums;
use crate::energy::Domain;
use crate::energy::topology::Cpu;
use crate::trace::energy::{EnergySource, EnergyWindow};

/// The CPUs of a domain.
pub(super) struct Covers {
    /// In their order; none: all.
    cpus: Option<Vec<u32>>,
}

impl Covers {
    pub(super) fn new(source: &EnergySource, domain: &Domain) -> Self {
        let whole = domain.package.is_none() || Self::pooled(source);
        let inside = |cpu: &&Cpu| {
            cpu.package == domain.package && (domain.die.is_none() || cpu.die == domain.die)
        };
        let cpus = || {
            let mut cpus: Vec<_> = source.cpus.iter().filter(inside).map(|cpu| cpu.cpu).collect();
            cpus.sort_unstable();
            cpus
        };
        Self { cpus: (!whole).then(cpus) }
    }

    /// It is not known which CPU is of which package: each package's energy is split over what ran
    /// anywhere.
    pub(super) fn pooled(source: &EnergySource) -> bool {
        source.cpus.iter().any(|cpu| cpu.package.is_none())
    }

    pub(super) fn cpu(&self, cpu: u32) -> bool {
        self.cpus.as_ref().is_none_or(|cpus| cpus.binary_search(&cpu).is_ok())
    }
}

impl TimeSums {
    pub(super) fn add(&mut self, window: &EnergyWindow) {
        let length = window.end.since(window.start);
        self.wall += length;
        for thread in &window.threads {
            self.traced += thread.time.total();
        }
        for cpu in &window.cpus {
            self.cpus += length;
            self.idle += cpu.idle;
            self.kernel += cpu.kernel.total();
            self.other += cpu.other.total();
            self.tracer += cpu.tracer.total();
            self.lost += cpu.lost.total();
        }
    }
}
