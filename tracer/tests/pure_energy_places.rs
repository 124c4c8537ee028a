//! A lock's energy over the places of its waiters, in every view (docs/energy.md).
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::collections::BTreeMap;

use tracer::analyze::energy::Amount;
use tracer::analyze::energy::places::{Placed, by_class, by_site, by_stack};
use tracer::analyze::fold::summarize;
use tracer::analyze::{Side, Summary, Sums};
use tracer::energy::Microjoules;
use tracer::render::energy::Carbon;
use tracer::render::flamegraph::svg;
use tracer::render::folded::{MissingWeight, Picture, Weight, stacks};
use tracer::render::json;
use tracer::trace::TraceReader;
use tracer::trace::records::{Class, SideStack};
use tracer::units::LockIndex;
use tracer_common::NoStack;

const RECORDED: &[u8] = include_bytes!("golden/energy-v1.lockwatt");

fn recorded() -> Summary {
    summarize(TraceReader::from_read(RECORDED).unwrap()).unwrap()
}

/// The recording has one lock with one place. Here its yields were made at a second one as well, and
/// there is a lock that nobody yields for, with waits at two.
fn richer() -> Summary {
    let mut summary = recorded();
    let [first, second] = [0, 1].map(|n| summary.locks[n].lock.index);
    let energy = summary.energy.as_mut().unwrap();
    let amount = Amount { energy: Microjoules(1_000_001), sigma: 10.0, ..energy.locks[&first] };
    energy.locks.insert(second, amount);
    let sums = |waits, spins| Sums { waits, spins, ..Sums::default() };
    let elsewhere = SideStack::Missing(NoStack::Limited);
    let yields = summary.yielding.iter().find(|((lock, _), _)| *lock == first).unwrap().1.spins;
    summary.yielding.insert((first, elsewhere), sums(0, yields / 3));
    summary.yielding.retain(|(lock, _), _| *lock != second);
    let thread = summary.threads[0].index;
    summary.waiting.retain(|(_, lock, _), _| *lock != second);
    let stack = summary.waiting.keys().find(|(_, lock, _)| *lock == first).unwrap().2;
    summary.waiting.insert((thread, second, stack), sums(2, 0));
    summary.waiting.insert((thread, second, elsewhere), sums(1, 0));
    summary
}

#[test]
fn the_places_of_a_lock_sum_to_it() {
    let summary = richer();
    let energy = summary.energy.as_ref().unwrap();
    let mut sums: BTreeMap<LockIndex, Microjoules> = BTreeMap::new();
    for placed in by_stack(&summary) {
        *sums.entry(placed.lock).or_default() += placed.energy;
        // Only where somebody yielded for it, or else waited.
        let stack = placed.stack.unwrap();
        let yields = summary.yielding.get(&(placed.lock, stack)).is_some_and(|one| one.spins > 0);
        let waits = summary.waiting.keys().any(|&(_, lock, at)| (lock, at) == (placed.lock, stack));
        assert!(if placed.yields { yields } else { waits }, "{placed:?}");
    }
    let mut locks: BTreeMap<_, _> =
        energy.locks.iter().map(|(lock, amount)| (*lock, amount.energy)).collect();
    locks.retain(|_, energy| energy.0 > 0);
    assert!(locks.len() == 2);
    assert_eq!(sums, locks);
    // More than one line of the program, and what has more yields has more energy.
    let sites = by_site(&summary);
    assert!(sites.len() > locks.len(), "{sites:?}");
    let stacks = by_stack(&summary);
    assert!(stacks.iter().any(|placed| !placed.yields));
    for (a, b) in stacks.iter().zip(&stacks[1..]).filter(|(a, b)| a.lock == b.lock && a.yields) {
        let spins = |placed: &Placed| summary.yielding[&(placed.lock, placed.stack.unwrap())].spins;
        if spins(a) > spins(b) {
            assert!(a.energy >= b.energy, "{a:?} {b:?}");
        }
    }
}

#[test]
fn every_view_says_the_same() {
    let summary = recorded();
    let energy = summary.energy.as_ref().unwrap();
    let contended: u64 = summary
        .locks
        .iter()
        .filter(|lock| lock.lock.class == Class::Contention)
        .filter_map(|lock| Some(energy.locks.get(&lock.lock.index)?.energy.0))
        .sum();
    assert!(contended > 0);
    let of_class =
        by_class(&summary).into_iter().filter(|((_, class), _)| *class == Class::Contention);
    assert_eq!(of_class.map(|(_, amount)| amount.energy.0).sum::<u64>(), contended);

    let report = json::report(&summary, None);
    let sum = |rows: &serde_json::Value| -> u64 {
        rows.as_array().unwrap().iter().map(|row| row["energy_uj"].as_u64().unwrap()).sum()
    };
    let sites: u64 = report["sites"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["class"] == "contention")
        .map(|row| row["energy_uj"].as_u64().unwrap())
        .sum();
    assert_eq!(sites, contended);
    for lock in report["locks"].as_array().unwrap() {
        assert_eq!(sum(&lock["waiters"]), lock["energy_uj"].as_u64().unwrap(), "{lock:#}");
        if lock["spins"].as_u64().unwrap() > 0 && lock["energy_per_contended_uj"].is_u64() {
            assert_eq!(lock["energy_per_contended_is_bound"], true);
        }
    }

    let picture = Picture { weight: Weight::Energy, side: Side::Waiter, idle: true };
    let drawn = stacks(&summary, picture).unwrap();
    let all: u64 = energy.locks.values().map(|amount| amount.energy.0).sum();
    assert_eq!(drawn.values().sum::<u64>(), all + energy.waiting_unknown.energy.0);
    let svg = String::from_utf8(svg(&drawn, &summary, picture).unwrap()).unwrap();
    assert!(svg.contains("energy attributed to on-CPU waiting (estimated)"), "{svg:.2000}");
    assert!(svg.contains("spread over its places by the yields there"));
    let holders = Picture { side: Side::Holder, ..picture };
    assert_eq!(stacks(&summary, holders), Err(MissingWeight::EnergyOfHolders));
}

/// Written piece by piece it is the same text, whatever is cut and whatever is empty.
#[test]
fn a_written_report_is_the_report() {
    for summary in [recorded(), richer(), Summary::default()] {
        for (top, carbon) in [(None, None), (Some(1), Some(Carbon(400.0))), (Some(0), None)] {
            let mut written = Vec::new();
            json::write(&mut written, &summary, top, carbon).unwrap();
            let whole = json::text(&json::report_with(&summary, top, carbon));
            assert_eq!(String::from_utf8(written).unwrap(), whole);
        }
    }
}
