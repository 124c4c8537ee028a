//! Sites and sides: where was waited, where locks were held, and what stands for what is missing.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Content, sample};
use tracer::analyze::{Side, Site, Source, Summary, Want, summarize, summarize_as};
use tracer::render::folded::{self, Picture, Weight};
use tracer::render::text::{By, View};
use tracer::render::{json, text};
use tracer::trace::TraceReader;
use tracer::trace::records::{SideStack, Wait};
use tracer::units::{FrameIndex, LockIndex, Ns, StackIndex};
use tracer_common::NoStack;
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};

const GIL: LockIndex = LockIndex(2);

fn summary(content: &Content) -> Summary {
    let bytes = content.write(100);
    summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap()
}

fn folded(summary: &Summary, side: Side) -> String {
    let picture = Picture { weight: Weight::Wait, side, idle: true };
    folded::text(&folded::stacks(summary, picture).unwrap())
}

fn total<'a>(waits: impl Iterator<Item = &'a Wait>) -> Ns {
    waits.map(Wait::total).sum()
}

/// A trace whose waits have no stacks on any side, for this reason.
fn without_stacks(reason: NoStack) -> Content {
    let mut content = sample();
    for wait in &mut content.waits {
        let side = SideStack::Missing(reason);
        (wait.waiter_stack, wait.waker_stack, wait.holder_stack) = (side, side, side);
    }
    for spin in &mut content.totals.spins {
        spin.stack = SideStack::Missing(reason);
    }
    content
}

#[test]
fn places_that_a_trace_has_twice_are_one_site() {
    let content = sample();
    let summary = summary(&content);
    let dict = &summary.locks[0];
    // The leaf of stack 0 is frame 3 and that of stack 5 frame 9, which is the same function, file and line.
    let of_stacks = [0, 5].map(|n| SideStack::Stack(StackIndex(n)));
    let waits = content.waits.iter().filter(|wait| wait.lock == dict.lock.index);
    let expected = total(waits.filter(|wait| of_stacks.contains(&wait.waiter_stack)));
    let get = dict.waiters.iter().find(|one| one.site == Site::Frame(FrameIndex(3))).unwrap();
    assert!(expected.0 > 0);
    assert_eq!(get.sums.wait(), expected);
    assert!(dict.waiters.iter().all(|one| one.site != Site::Frame(FrameIndex(9))));
    let order: Vec<_> = dict.waiters.iter().map(|one| one.sums.wait()).collect();
    assert!(order.is_sorted_by(|a, b| a >= b));
}

#[test]
fn what_has_no_stack_is_under_its_reason() {
    let content = sample();
    let summary = summary(&content);
    let missing = |reasons: &[NoStack]| {
        let of = |wait: &&Wait| matches!(wait.waiter_stack, SideStack::Missing(reason) if reasons.contains(&reason));
        content.waits.iter().filter(of).count() as u64
    };
    let c = &summary.completeness;
    for (reason, n) in &c.stacks_missing {
        assert_eq!(*n, missing(&[*reason]), "{reason:?}");
    }
    assert_eq!(c.stacks_lost(), missing(&[NoStack::RingFull, NoStack::Lost]));
    assert_eq!(c.stacks_lost(), 100);
    let truncated = [5, 6].map(|n| SideStack::Stack(StackIndex(n)));
    let waits = content.waits.iter().filter(|wait| truncated.contains(&wait.waiter_stack));
    assert_eq!(c.stacks_truncated, waits.count() as u64);

    let dict = &summary.locks[0];
    let waits =
        |site| dict.waiters.iter().find(|one| one.site == site).map_or(0, |one| one.sums.waits);
    let of_dict = |reasons: &[SideStack]| {
        let waits = content.waits.iter().filter(|wait| wait.lock == dict.lock.index);
        waits.filter(|wait| reasons.contains(&wait.waiter_stack)).count() as u64
    };
    let side = SideStack::Missing;
    let lost = [side(NoStack::RingFull), side(NoStack::Lost)];
    assert_eq!(waits(Site::StackLost), of_dict(&lost));
    assert_eq!(waits(Site::NoStack(NoStack::Limited)), of_dict(&[side(NoStack::Limited)]));
    let yields = dict.waiters.iter().find(|one| one.site == Site::Yields).unwrap();
    assert_eq!((yields.sums.waits, yields.sums.spins), (0, 80_000));
    assert_eq!(yields.sums.wait(), Ns(40_000_000));

    let report = text::report(&summary, View::default());
    assert!(report.contains("STACKS LOST: ring_full 50, lost 50"), "{report}");
    assert!(report.contains("; 100 stacks lost;"), "{report}");
    assert!(report.contains("without its outer frames"), "{report}");
}

#[test]
fn an_owner_counts_only_if_it_stood_still() {
    let content = sample();
    let bytes = content.write(100);
    let want = Want { unverified: true, ..Want::default() };
    let all = summarize_as(TraceReader::from_read(bytes.as_slice()).unwrap(), want).unwrap();
    let verified = summary(&content);
    let by_source = |summary: &Summary| {
        let gil = summary.locks.iter().find(|lock| lock.lock.index == GIL).unwrap();
        let mut out: BTreeMap<Source, Ns> = BTreeMap::new();
        for one in &gil.holders {
            *out.entry(one.source).or_default() += one.sums.wait();
        }
        out
    };
    let gil = || content.waits.iter().filter(|wait| wait.lock == GIL);
    let moved = |wait: &&Wait| wait.flags & (WAIT_HOLDER_MOVED | WAIT_HOLDER_ENDED_EARLY) != 0;
    let owned = total(gil().filter(|wait| wait.holder.is_some() && !moved(wait)));
    let unverified = total(gil().filter(moved));
    assert!(owned.0 > 0 && unverified.0 > 0);
    let (verified, all) = (by_source(&verified), by_source(&all));
    assert_eq!(verified[&Source::Owner], owned);
    assert_eq!(verified.get(&Source::OwnerUnverified), None);
    assert_eq!(all[&Source::Owner], owned);
    assert_eq!(all[&Source::OwnerUnverified], unverified);
    assert_eq!(verified.values().copied().sum::<Ns>(), all.values().copied().sum::<Ns>());
    assert!(all[&Source::Waker] < verified[&Source::Waker]);
}

#[test]
fn pairs_follow_the_same_rule() {
    let content = sample();
    let report = json::report(&summary(&content), None);
    let sources: Vec<_> = report["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair["lock"] == "0x55aa00000100")
        .map(|pair| pair["source"].as_str().unwrap().to_owned())
        .collect();
    assert!(sources.contains(&"owner".to_owned()) && sources.contains(&"waker".to_owned()));
}

#[test]
fn json_sites_sum_to_their_lock() {
    let report = json::report(&summary(&sample()), Some(3));
    let ns = |value: &Value| value["wait_ns"].as_u64().unwrap();
    for lock in report["locks"].as_array().unwrap() {
        let waiters = lock["waiters"].as_array().unwrap();
        assert_eq!(waiters.iter().map(ns).sum::<u64>(), ns(lock), "{lock}");
        let holders = lock["holders"].as_array().unwrap();
        let yielded = lock["yielded_ns"].as_u64().unwrap();
        assert_eq!(holders.iter().map(ns).sum::<u64>() + yielded, ns(lock), "{lock}");
        assert!(holders.iter().all(|one| one["source"].is_string()));
    }
    let waiters = report["locks"][0]["waiters"].as_array().unwrap();
    let get = waiters.iter().find(|one| one["function"] == "Cache.get").unwrap();
    assert_eq!((&get["file"], &get["line"]), (&"/srv/app/cache.py".into(), &77.into()));
    assert!(waiters.iter().any(|one| one["function"] == "[stack lost]" && one["line"] == 0));
    assert_eq!(report["sites"].as_array().unwrap().len(), 3);
    let completeness = &report["completeness"];
    assert_eq!(completeness["stacks_lost"], 100);
    assert_eq!(completeness["stacks_missing"]["limited"], 50);
}

#[test]
fn a_lost_record_costs_the_name_and_not_the_time() {
    let mut content = sample();
    content.frames.truncate(3);
    content.stacks.truncate(5);
    let summary = summary(&content);
    let report = json::report(&summary, None);
    assert_eq!(report["totals"], json::report(&self::summary(&sample()), None)["totals"]);
    assert!(summary.completeness.stacks_lost() > 100);
    let folded = folded(&summary, Side::Waiter);
    assert!(folded.contains(";[frame lost];") && folded.contains(";[no stack: lost];"));
    assert!(text::report(&summary, View::default()).contains("[stack lost]"));
}

#[test]
fn folded_stacks_go_from_root_to_leaf_and_back() {
    let summary = summary(&sample());
    let waiter = folded(&summary, Side::Waiter);
    let path = "<module> (app.py:90);serve (app.py:41);Handler.handle (handler.py:12);\
                Cache.get (cache.py:77);object;dict 0x7f0000001000 ";
    assert!(waiter.contains(path), "{waiter}");
    assert!(waiter.contains(";walk (tree.py:5);walk (tree.py:5);walk (tree.py:5);object;"));
    assert!(waiter.contains("(4243);[truncated];walk (tree.py:5);"));
    assert!(waiter.contains(";evil\\u{3b}name\\u{a}\\u{1b}[31m 7 (a\\u{3b}b.py:3);"));
    assert!(waiter.contains(";größe (字.py:8);object;"));
    assert!(waiter.contains(";Handler.handle (handler.py:12);[code gone];"));
    assert!(waiter.contains(";[no stack: no_thread_state];object;"));
    assert!(waiter.contains("pool\\u{3b}2 (4244);"), "the name in Python");
    assert!(!waiter.contains("worker-2"));

    let holder = folded(&summary, Side::Holder);
    assert!(
        holder.contains(
            " (4244);Thread._bootstrap (threading.py:1014);flush (pool.py:88);object;dict "
        )
    );
    assert!(holder.lines().any(|line| line.starts_with("[nobody seen];gil;GIL ")), "{holder}");
    assert!(holder.contains(";<module> (app.py:90);serve (app.py:41);gil;GIL 0x55aa00000100 "));

    let both = folded(&summary, Side::Both);
    let path = ";dict 0x7f0000001000;[held by];flush (pool.py:88);\
                Thread._bootstrap (threading.py:1014);pool\\u{3b}2 (4244) ";
    assert!(both.contains(path), "{both}");
    assert!(both.contains(";[held by];[nobody seen] "));
    assert!(both.contains(";[held by];[no stack: no_frames];"));
}

#[test]
fn a_trace_without_stacks_is_not_littered() {
    for reason in [NoStack::NotTaken, NoStack::NoInterpreter] {
        let summary = summary(&without_stacks(reason));
        for (side, frames) in [(Side::Waiter, 3), (Side::Holder, 3), (Side::Both, 5)] {
            let folded = folded(&summary, side);
            let most = folded.lines().map(|line| line.split(';').count()).max();
            assert_eq!(most, Some(frames), "{folded}");
            assert!(!folded.contains("[no stack"));
        }
        let report = text::report(&summary, View::default());
        assert!(!report.contains("waiting at") && !report.contains("above all"), "{report}");
        assert!(report.contains("stacks: none was recorded"));
    }
    // Other reasons are worth a word: there could have been stacks.
    let summary = summary(&without_stacks(NoStack::RingFull));
    assert!(folded(&summary, Side::Waiter).contains(";[no stack: ring_full];"));
    assert!(text::report(&summary, View::default()).contains("[stack lost]"));
}

#[test]
fn the_answer_names_the_lines() {
    let report = text::report(&summary(&sample()), View::default());
    let line = report.lines().find(|line| line.starts_with("It is")).unwrap();
    assert!(line.starts_with("It is waited for above all at "), "{line}");
    assert!(line.contains("; let go above all at flush (db/pool.py:88), "), "{line}");
}

#[test]
fn sites_are_listed_by_every_side() {
    let summary = summary(&sample());
    let shown = |side| {
        let view = View { by: Some(By::Site), side: Some(side), ..View::default() };
        text::report(&summary, view)
    };
    let waiter = shown(Side::Waiter);
    assert!(waiter.contains("Cache.get (app/cache.py:77)") && waiter.contains("[yields]"));
    assert!(waiter.contains("größe (größe/字.py:8)"));
    let holder = shown(Side::Holder);
    assert!(holder.contains("flush (db/pool.py:88)") && holder.contains("[nobody seen]"));
    assert!(holder.contains(" owner ") && !holder.contains("owner_unverified"));
    let both = shown(Side::Both);
    assert!(both.contains("waiting at") && both.contains("held at"));
}
