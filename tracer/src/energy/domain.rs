//! What a counter counts: its name, its place among the others, and which CPUs it is of.
//!
//! Zones are known by their names, never by their numbers, whose order is not stable.

use serde::{Deserialize, Serialize};

/// What a domain is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A CPU package, or a die of one.
    Package,
    /// The cores of a package: inside it.
    Core,
    /// The graphics of a package: inside it.
    Uncore,
    /// Its memory: beside it.
    Dram,
    /// The whole machine, packages included; what that is depends on the board's vendor.
    Psys,
    /// Something else whose extent is not known; the whole machine for all that is known.
    #[default]
    #[serde(other)]
    Machine,
}

/// How its readings are to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// A counter in µJ that goes on at 0 after `range_uj`; none: it never does.
    Counter {
        /// Its highest value.
        range_uj: Option<u64>,
    },
    /// A power in µW, read now and then.
    Power,
    /// Nothing is read: an explicit estimate.
    #[default]
    Model,
}

/// One domain of a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Domain {
    /// As the source calls it; those inside a package after it: `package-0/core`.
    pub name: String,
    /// What it is of.
    pub part: Part,
    /// The package that it is of.
    pub package: Option<u32>,
    /// The die, if the source tells dies apart.
    pub die: Option<u32>,
    /// The domain that it lies inside, by position in the source's list. `dram` lies beside.
    pub parent: Option<u32>,
    /// Its energy is split over tasks. No energy is ever in two domains that are.
    pub split: bool,
    /// How it is read.
    pub meter: Meter,
    /// The smallest step of its readings in µJ; a guess where the source doesn't say.
    pub quantum_uj: f64,
    /// How often its readings change, in ns; a guess where the source doesn't say.
    pub period_ns: u64,
}

/// RAPL counters change about every millisecond (0.976 ms seen: arXiv 2401.15985).
pub const RAPL_PERIOD_NS: u64 = 1_000_000;
/// 2^-14 J, the coarser of the two usual units of RAPL.
pub const RAPL_QUANTUM_UJ: f64 = 61.035_156_25;

impl Domain {
    /// A domain by the name of its zone, and of the zone that this one lies in.
    #[must_use]
    pub fn of_zone(name: &str, inside: Option<&str>) -> Self {
        let own = package_of(name);
        let (package, die) = own.or_else(|| package_of(inside?)).unzip();
        let part = match name {
            _ if own.is_some() => Part::Package,
            "core" => Part::Core,
            "uncore" => Part::Uncore,
            "dram" => Part::Dram,
            "psys" => Part::Psys,
            _ => Part::Machine,
        };
        Self {
            name: inside.map_or_else(|| name.to_owned(), |inside| format!("{inside}/{name}")),
            part,
            package,
            die: die.flatten(),
            parent: None,
            split: false,
            meter: Meter::Counter { range_uj: None },
            quantum_uj: RAPL_QUANTUM_UJ,
            period_ns: RAPL_PERIOD_NS,
        }
    }

    /// Its energy goes to the same place as another one's: for the duplicates of some laptops.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.part == other.part && self.package == other.package && self.die == other.die
    }
}

/// `package-1` and `package-1-die-0`.
fn package_of(name: &str) -> Option<(u32, Option<u32>)> {
    let rest = name.strip_prefix("package-")?;
    match rest.split_once("-die-") {
        Some((package, die)) => Some((package.parse().ok()?, Some(die.parse().ok()?))),
        None => Some((rest.parse().ok()?, None)),
    }
}

/// Says which domain lies in which, and which are split: every package, and memory. So nothing is
/// counted twice: a package's cores are in the package, and all packages in `psys`. What is of the whole
/// machine, or of nobody knows what, is never split: disks, fans and the power supply are in it, of which
/// no task's time on a CPU says anything.
pub fn arrange(domains: &mut [Domain]) {
    let position = |wanted: &dyn Fn(&Domain) -> bool, domains: &[Domain]| {
        domains.iter().position(wanted).and_then(|n| u32::try_from(n).ok())
    };
    let psys = position(&|domain| domain.part == Part::Psys, domains);
    for n in 0..domains.len() {
        let one = domains[n].clone();
        let own_package = position(
            &|other| {
                other.part == Part::Package
                    && other.package == one.package
                    && (other.die == one.die || other.die.is_none())
            },
            domains,
        );
        domains[n].parent = match one.part {
            Part::Core | Part::Uncore => own_package,
            Part::Package => psys,
            Part::Dram | Part::Psys | Part::Machine => None,
        };
        domains[n].split = matches!(one.part, Part::Package | Part::Dram);
    }
}

/// The same for numbers that somebody made or assumed: where they have no package, the first of the
/// whole machine is split. There is nothing else in it than what they say.
pub fn arrange_made(domains: &mut [Domain]) {
    arrange(domains);
    let first = |part| domains.iter().position(|domain| domain.part == part);
    let has_package = first(Part::Package).is_some();
    let whole = first(Part::Psys).or_else(|| first(Part::Machine)).filter(|_| !has_package);
    if let Some(domain) = whole.and_then(|n| domains.get_mut(n)) {
        domain.split = true;
    }
}

/// There is a domain whose energy threads and locks get a part of. Memory's is in none of theirs.
#[must_use]
pub fn divides(domains: &[Domain]) -> bool {
    domains.iter().any(|domain| domain.split && domain.part != Part::Dram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_name() {
        let die = Domain::of_zone("package-1-die-2", None);
        assert_eq!((die.part, die.package, die.die), (Part::Package, Some(1), Some(2)));
        let core = Domain::of_zone("core", Some("package-1"));
        assert_eq!(
            (core.part, core.package, core.name.as_str()),
            (Part::Core, Some(1), "package-1/core")
        );
        assert_eq!(Domain::of_zone("psys", None).part, Part::Psys);
        assert_eq!(Domain::of_zone("package-x", None).part, Part::Machine);
    }

    #[test]
    fn no_energy_is_split_twice() {
        let mut all = vec![
            Domain::of_zone("psys", None),
            Domain::of_zone("package-0", None),
            Domain::of_zone("core", Some("package-0")),
            Domain::of_zone("dram", Some("package-0")),
            Domain::of_zone("package-1", None),
        ];
        arrange(&mut all);
        let split: Vec<_> = all.iter().map(|domain| domain.split).collect();
        assert_eq!(split, [false, true, false, true, true]);
        let parents: Vec<_> = all.iter().map(|domain| domain.parent).collect();
        assert_eq!(parents, [None, Some(0), Some(1), None, Some(0)]);
        assert!(divides(&all));
    }

    /// What a board or a battery says is of disks, fans and screens too.
    #[test]
    fn the_whole_machine_is_split_only_if_somebody_made_it() {
        let zone = |name| Domain::of_zone(name, None);
        let split = |all: &[Domain]| all.iter().map(|domain| domain.split).collect::<Vec<_>>();
        let mut all = vec![zone("anything"), zone("psys"), Domain::of_zone("dram", Some("x"))];
        arrange(&mut all);
        assert_eq!((split(&all), divides(&all)), (vec![false, false, true], false));
        arrange_made(&mut all);
        assert_eq!((split(&all), divides(&all)), (vec![false, true, true], true));
        let mut packages = vec![zone("psys"), zone("package-0")];
        arrange_made(&mut packages);
        assert_eq!(split(&packages), [false, true]);
    }
}
