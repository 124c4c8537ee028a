//! How the bench `accuracy` judges: what is pure in it.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

// The tests need a part of it.
#[expect(dead_code, reason = "the bench uses the rest")]
#[path = "../benches/accuracy/mod.rs"]
mod accuracy;

use accuracy::matching::{SLACK_NS, TOLERANCE_NS, judge, parts_fill};
use accuracy::measure::{Outcome, Row};
use accuracy::score::{Score, Share, at_share, score};
use accuracy::seen::{Recording, Seen};
use accuracy::truth::{Account, Truth};
use accuracy::{docs, table};
use tracer::trace::records::{Class, Kind, LockRecord, SideStack, Wait};
use tracer::units::{Address, LockIndex, Monotonic, Ns, ThreadIndex};

const MS: u64 = 1_000_000;

/// A wait of thread 7 for a lock at 0x70, ended by thread 8.
fn truth(start_ns: u64, end_ns: u64) -> Truth {
    Truth {
        kind: "lock".to_owned(),
        class: "contention".to_owned(),
        name: "_thread.lock".to_owned(),
        address: Some("0x70".to_owned()),
        op: "lock.acquire".to_owned(),
        tid: 7,
        start_ns,
        end_ns,
        holder_tid: Some(8),
        ..Truth::default()
    }
}

/// The same as it would be recorded.
fn seen(kind: Kind, start: u64, blocked: u64, runq: u64) -> Seen {
    Seen {
        tid: 7,
        lock: LockRecord {
            index: LockIndex(0),
            kind,
            class: Class::Contention,
            address: Address(0x70),
            lock: Address(0x80),
            name: "_thread.lock".to_owned(),
            shape: 0,
        },
        wait: Wait {
            thread: ThreadIndex(0),
            lock: LockIndex(0),
            start: Monotonic(start),
            end: Monotonic(start + blocked + runq),
            blocked: Ns(blocked),
            runq: Ns(runq),
            episodes: 1,
            flags: 0,
            waker: None,
            waiter_stack: SideStack::default(),
            waker_stack: SideStack::default(),
            holder: None,
            holder_stack: SideStack::default(),
        },
        holder_tid: Some(8),
    }
}

#[test]
fn a_wait_between_its_stamps_is_right_in_everything() {
    let verdict =
        judge(&truth(MS, 11 * MS), 10 * MS, &[seen(Kind::Lock, MS + 1000, 10 * MS - 5000, 2000)])
            .unwrap();
    assert!(verdict.kind && verdict.class && verdict.name && verdict.time);
    assert_eq!((verdict.address, verdict.holder), (Some(true), Some(true)));
    assert_eq!(verdict.off_ns, -3000);
}

#[test]
fn what_is_wrong_is_told_apart() {
    let recorded = [seen(Kind::Lock, MS, 10 * MS, 0)];
    let told = |change: fn(&mut Truth)| {
        let mut truth = truth(MS, 11 * MS);
        change(&mut truth);
        let verdict = judge(&truth, 10 * MS, &recorded).unwrap();
        (verdict.kind, verdict.class, verdict.name, verdict.address, verdict.holder)
    };
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(told(|t| t.kind = "queue".into()), (false, true, true, yes, yes));
    assert_eq!(told(|t| t.class = "idle".into()), (true, false, true, yes, yes));
    assert_eq!(told(|t| t.name = "dict".into()), (true, true, false, yes, yes));
    assert_eq!(told(|t| t.address = Some("0x71".into())), (true, true, true, no, yes));
    assert_eq!(told(|t| t.holder_tid = Some(9)), (true, true, true, yes, no));
    // What the truth does not say can't be wrong.
    assert_eq!(told(|t| t.address = None), (true, true, true, None, yes));
    assert_eq!(told(|t| t.holder_tid = None), (true, true, true, yes, None));
    // Either address will do.
    let either = told(|t| {
        t.or_address = t.address.replace("0x71".into());
    });
    assert_eq!(either, (true, true, true, yes, yes));
}

#[test]
fn times_of_all_waits_between_the_stamps_are_added_and_the_longest_gives_the_kind() {
    let recorded = [
        seen(Kind::Lock, 0, MS / 2, 0), // before it
        seen(Kind::Lock, MS, 6 * MS, 0),
        seen(Kind::Gil, 7 * MS, 4 * MS, 0),
        seen(Kind::Gil, 12 * MS, MS, 0), // after it
    ];
    let verdict = judge(&truth(MS, 11 * MS), 10 * MS, &recorded).unwrap();
    assert!(verdict.kind && verdict.time);
    assert_eq!(verdict.off_ns, 0);
}

#[test]
fn a_neighbour_that_touches_the_stamps_is_another_wait() {
    let touching = seen(Kind::Lock, 0, MS + SLACK_NS, 0);
    assert_eq!(judge(&truth(MS, 11 * MS), 10 * MS, std::slice::from_ref(&touching)), None);
    let longer = seen(Kind::Lock, 0, MS + SLACK_NS + 1, 0);
    assert!(judge(&truth(MS, 11 * MS), 10 * MS, &[longer]).is_some());
    // However short, what lies between the stamps is seen.
    assert!(judge(&truth(MS, 11 * MS), 10 * MS, &[seen(Kind::Lock, 2 * MS, 1, 0)]).is_some());
    assert_eq!(judge(&truth(MS, 11 * MS), 10 * MS, &[]), None);
}

#[test]
fn the_tolerance_is_one_percent_or_fifty_microseconds() {
    let in_time = |duration: u64, recorded: u64| {
        let truth = truth(MS, MS + duration + 1000);
        judge(&truth, duration, &[seen(Kind::Lock, MS, recorded, 0)]).unwrap().time
    };
    assert!(in_time(MS, MS - TOLERANCE_NS));
    assert!(!in_time(MS, MS - TOLERANCE_NS - 1));
    assert!(in_time(MS, MS + TOLERANCE_NS));
    assert!(in_time(100 * MS, 99 * MS));
    assert!(!in_time(100 * MS, 99 * MS - 1));
}

#[test]
fn time_asleep_is_told_where_nothing_else_took_the_cpu_away() {
    let judged = |cpu_ns, lost_cpu| {
        let truth = Truth { cpu_ns, lost_cpu, ..truth(MS, 11 * MS) };
        let verdict = judge(&truth, 10 * MS, &[seen(Kind::Lock, MS, 9 * MS, 0)]).unwrap();
        (verdict.time, verdict.off_asleep_ns)
    };
    assert_eq!(judged(MS, 0), (false, Some(0)));
    assert_eq!(judged(0, 0), (false, Some(-1_000_000)));
    assert_eq!(judged(MS, 1), (false, None));
}

/// Who wakes up in a wait by itself and goes on waiting has waited all the time; who yields has not.
#[test]
fn time_between_the_sleeps_of_a_wait_is_of_the_wait() {
    let judged = |episodes| {
        let mut one = seen(Kind::Gil, MS, 9 * MS, 0);
        (one.wait.episodes, one.wait.end) = (episodes, Monotonic(11 * MS));
        let long = seen(Kind::Gil, MS, 1, 0);
        let truth = Truth { kind: "gil".to_owned(), ..truth(MS, 11 * MS) };
        judge(&truth, 10 * MS, &[long, one]).unwrap().off_ns
    };
    assert_eq!(judged(3), 1);
    assert_eq!(judged(0), 1 - 1_000_000, "a run of yields");
}

#[test]
fn an_offset_at_a_share_is_one_of_them() {
    assert_eq!(at_share(&[], 0.99), None);
    assert_eq!(at_share(&[5], 0.99), Some(5));
    assert_eq!(at_share(&[1, 2, 3, 4], 0.5), Some(2));
    assert_eq!(at_share(&[1, 2, 3, 4], 0.51), Some(3));
}

#[test]
fn parts_fill_a_wait_or_leave_time_only_between_episodes() {
    let mut one = seen(Kind::Lock, MS, 5 * MS, MS);
    assert!(parts_fill(&one));
    one.wait.end.0 += 1;
    assert!(!parts_fill(&one), "a gap without a second episode");
    one.wait.episodes = 2;
    assert!(parts_fill(&one));
    one.wait.end.0 -= 2;
    assert!(!parts_fill(&one), "more parts than there is room");
    one.wait.end.0 = 0;
    assert!(!parts_fill(&one), "it ends before it begins");
}

fn account(lines: &str) -> Account {
    let mut account = Account::default();
    lines.lines().for_each(|line| account.take(line).unwrap());
    account
}

const LINES: &str = r#"{"op": "lock.acquire", "cost_ns": 500}
{"kind": "lock", "class": "contention", "name": "_thread.lock", "address": "0x70", "op": "lock.acquire", "tid": 7, "start_ns": 1000000, "end_ns": 11000500, "holder_tid": null}
{"done": true}"#;

#[test]
fn a_program_s_lines_are_understood() {
    let account = account(LINES);
    assert!(account.done);
    assert_eq!(account.waits[0].holder_tid, None);
    assert_eq!(account.duration(&account.waits[0]).unwrap(), 10 * MS, "less what it costs anyway");
    let mut broken = Account::default();
    assert!(broken.take("Traceback (most recent call last):").is_err());
    assert!(broken.take("{}").is_err());
    assert!(broken.take(r#"{"kind": "lock", "start_ns": 2, "end_ns": 1}"#).is_err());
    assert!(broken.duration(&truth(1, 2)).is_err(), "its cost is not known");
}

#[test]
fn a_score_counts_what_was_missed() {
    let mut account = account(LINES);
    account.waits.push(truth(20 * MS, 30 * MS));
    let mut recording = Recording::default();
    recording.waits.insert(7, vec![seen(Kind::Queue, MS, 10 * MS, 0)]);
    let score = score(&account, &recording).unwrap();
    assert_eq!(score.matched, Share { part: 1, of: 2 });
    assert_eq!(score.kind, Share { part: 0, of: 1 });
    assert_eq!(score.time, Share { part: 1, of: 1 });
    assert_eq!(score.holder, Share { part: 0, of: 0 });
    assert_eq!(score.parts, Share { part: 1, of: 1 });
    assert_eq!(score.wrong.len(), 2, "{:?}", score.wrong);
    assert_eq!(at_share(&score.off_ns, 0.99), Some(0));
}

#[test]
fn a_measurement_that_saw_nothing_is_no_success() {
    let row =
        |family: &str, outcome| Row { family: family.into(), version: "3.14".into(), outcome };
    let measured =
        |matched, parts| Outcome::Measured(Box::new(Score { matched, parts, ..Score::default() }));
    let (some, none) = (Share { part: 1, of: 9 }, Share { part: 0, of: 9 });
    assert!(row("lock", measured(some, some)).saw_nothing().is_none());
    assert!(row("lock", measured(none, some)).saw_nothing().is_some());
    assert!(row("lock", measured(Share::default(), some)).saw_nothing().is_some());
    assert!(row("idle", measured(Share::default(), some)).saw_nothing().is_none());
    assert!(row("idle", measured(Share::default(), Share::default())).saw_nothing().is_some());
    assert!(row("gil", Outcome::NotHere).saw_nothing().is_none());
    assert!(row("gil", Outcome::Failed("no".into())).saw_nothing().is_some());
}

#[test]
fn all_but_one_is_not_all() {
    let shown = |part, of| table::percent(Share { part, of });
    assert_eq!(shown(0, 0), "–");
    assert_eq!(shown(0, 7), "0 %");
    assert_eq!(shown(7, 7), "100 %");
    assert_eq!(shown(99_999, 100_000), ">99.9 %");
    assert_eq!(shown(1, 100_000), "<0.01 %");
    assert_eq!(shown(1, 1000), "0.10 %");
    assert_eq!(shown(1, 3), "33.3 %");
}

#[test]
fn rows_are_as_wide_as_the_table() {
    let rows = [
        Row { family: "gil".into(), version: "3.14t".into(), outcome: Outcome::NotHere },
        Row {
            family: "lock".into(),
            version: "3.14t".into(),
            outcome: Outcome::Failed("x".into()),
        },
        Row {
            family: "stop_the_world".into(),
            version: "3.14t".into(),
            outcome: Outcome::Measured(Box::default()),
        },
    ];
    let table = table::truth(&rows);
    let columns: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
    assert_eq!(columns, [columns[0]; 4], "the one that is not there has no row");
    assert!(table.lines().nth(2).unwrap().contains("not measured"));
}

#[test]
fn a_document_is_changed_between_its_markers_only() {
    let document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
    let new = docs::replace(document, "x", "new\n").unwrap();
    assert_eq!(new, "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n");
    assert_eq!(docs::replace(&new, "x", "new").unwrap(), new, "again, it is the same");
    assert!(docs::replace(document, "y", "new").is_err());
    assert!(docs::replace("<!-- x: end -->\n<!-- x: begin -->\n", "x", "").is_err());
    assert!(docs::replace(&document.repeat(2), "x", "").is_err());
}

#[test]
fn rows_are_replaced_and_the_others_stay() {
    let table = |rows: &str| format!("| a | b | c |\n| --- | --- | --: |\n{rows}");
    let document = format!(
        "a\n<!-- x: begin -->\n{}<!-- x: end -->\nb\n",
        table("| gil | 3.14 | 1 |\n| idle | 3.14 | 2 |\n| idle | 3.14t | 3 |\n")
    );
    let new = table("| idle | 3.15 | 5 |\n| idle | 3.14t | 4 |\n");
    let merged = docs::merge(&document, "x", &new).unwrap();
    let rows: Vec<_> = merged.lines().filter(|line| line.starts_with("| ")).collect();
    let last = |row: &str| row.trim_end_matches([' ', '|']).chars().last().unwrap();
    let lasts: String = rows.iter().skip(2).map(|row| last(row)).collect();
    assert_eq!(lasts, "1254", "in order, builds without the GIL last: {merged}");
    assert!(merged.starts_with("a\n") && merged.ends_with("b\n"));
    let other = "| a | b | d |\n| --- | --- | --: |\n| idle | 3.15 | 1 |\n";
    assert!(!docs::merge(&document, "x", other).unwrap().contains("gil"), "other columns");
}
