//! The text report: the answer first, then the tables, then how complete all of it is.

use std::fmt::Write;

use super::answer::answer;
use super::completeness::completeness;
use super::deadlocks::deadlocks;
use super::energy::{self, Carbon};
use super::escape;
use super::rows::Limits;
use super::{graph, pauses, sites, tables, uprobes};
use crate::analyze::{Side, Summary};
use crate::trace::records::Class;
use crate::units::Ns;

/// Rows of a table unless `--top` says otherwise.
const TOP: usize = 20;

/// Locks in the default view whose sites are listed, and sites of each; then the same for
/// `--by lock`.
const LEADING: (usize, usize) = (5, 3);
const EVERY: (usize, usize) = (usize::MAX, 10);

/// One view of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// A row per lock.
    Lock,
    /// A row per thread.
    Thread,
    /// A row per process.
    Process,
    /// A row per function and line at which was waited, or at which locks were held.
    Site,
    /// A row per waiter, lock and the thread that held it or ended the wait.
    Pair,
    /// A row per kind of lock.
    Kind,
    /// Chains of waits, queues, and how long locks were held.
    Graph,
}

/// What of a trace is shown, and how much.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// One view with all of its rows; none: the most important of each.
    pub by: Option<By>,
    /// Which side of the waits is listed by site; none: what is usual for the view.
    pub side: Option<Side>,
    /// Rows of each table; none: what is usual for the view.
    pub top: Option<usize>,
    /// Columns of the terminal, if it goes to one.
    pub width: Option<u16>,
    /// Grams of CO2e beside joules.
    pub carbon: Option<Carbon>,
}

/// The report as text.
#[must_use]
pub fn report(summary: &Summary, view: View) -> String {
    let all = Limits { top: view.top.unwrap_or(usize::MAX), width: view.width };
    let some = Limits { top: view.top.unwrap_or(TOP), width: view.width };
    let mut out = header(summary);
    out += "\n";
    out += &deadlocks(summary, view.top);
    out += &answer(summary);
    match view.by {
        None => overview(&mut out, summary, view, some),
        Some(By::Lock) => {
            let whole = summary.totals.wait();
            let locks = tables::locks(summary.waited_locks(), summary, whole, all);
            section(&mut out, "Locks", &locks);
            lock_sites(&mut out, summary, view, EVERY);
        }
        Some(By::Thread) => {
            section(&mut out, "Threads", &tables::threads(summary.threads.iter(), summary, all));
        }
        Some(By::Process) => section(&mut out, "Processes", &tables::processes(summary, all)),
        Some(By::Site) => {
            let side = view.side.unwrap_or_default();
            section(&mut out, sites::title(side), &sites::by_site(summary, side, all));
        }
        Some(By::Pair) => {
            let pairs = tables::pairs(summary.pairs.iter(), summary, all);
            section(&mut out, "Who waited for whom", &pairs);
        }
        Some(By::Kind) => section(&mut out, "By kind", &tables::kinds(summary, all)),
        Some(By::Graph) => wait_for_graph(&mut out, summary, all),
    }
    if !summary.meta.options.uprobes.is_empty() && matches!(view.by, None | Some(By::Lock)) {
        let title = "Uncontended acquisitions and hold times (uprobes)";
        let limits = if view.by.is_some() { all } else { some };
        section(&mut out, title, &uprobes::section(summary, limits));
    }
    if matches!(view.by, None | Some(By::Lock | By::Thread)) && energy::counted(summary).is_some() {
        let limits = if view.by.is_some() { all } else { some };
        section(&mut out, "Energy", &energy::section(summary, limits, view.carbon));
    }
    section(&mut out, "Completeness", &completeness(summary));
    out
}

fn overview(out: &mut String, summary: &Summary, view: View, limits: Limits) {
    if summary.several() {
        section(out, "Processes", &tables::processes(summary, limits));
    }
    for (title, class) in [
        ("Contended locks", Class::Contention),
        ("Pauses (the world was stopped)", Class::Pause),
        ("Unclassified: contention or idling", Class::Unclassified),
        ("Idle: nothing to do, not contention", Class::Idle),
    ] {
        if summary.locks_of(class).next().is_some() {
            let whole = summary.class(class).wait();
            section(out, title, &tables::locks(summary.locks_of(class), summary, whole, limits));
        }
        if class == Class::Contention {
            lock_sites(out, summary, view, LEADING);
        }
        if class == Class::Pause && !summary.pauses.requesters.is_empty() {
            let limits = Limits { top: view.top.unwrap_or(LEADING.0), ..limits };
            section(
                out,
                "Who stopped the world, and who was late to stop",
                &pauses::table(summary, limits),
            );
        }
    }
    let limits_of_graph = Limits { top: view.top.unwrap_or(LEADING.0), ..limits };
    wait_for_graph(out, summary, limits_of_graph);
    if !summary.by_kind.is_empty() {
        section(out, "By class", &tables::classes(summary, limits));
        section(out, "By kind", &tables::kinds(summary, limits));
    }
    let waiting = || summary.threads.iter().filter(|thread| thread.sums.waits > 0);
    if waiting().next().is_some() {
        section(out, "Threads", &tables::threads(waiting(), summary, limits));
    }
}

/// Where the leading locks were waited for and held, if any stacks were recorded.
fn lock_sites(out: &mut String, summary: &Summary, view: View, usual: (usize, usize)) {
    let locks = view.top.unwrap_or(usual.0);
    let side = view.side.unwrap_or(Side::Both);
    let body = sites::by_lock(summary, side, locks, usual.1, view.width);
    if !body.is_empty() {
        section(out, "Where the leading locks are waited for and held", &body);
    }
}

/// Chains, convoys and holds; deadlocks stand at the top.
fn wait_for_graph(out: &mut String, summary: &Summary, limits: Limits) {
    for (title, body) in graph::sections(summary, limits) {
        section(out, title, &body);
    }
}

fn section(out: &mut String, title: &str, body: &str) {
    out.push('\n');
    out.push_str(title);
    out.push('\n');
    out.push_str(body);
}

/// What was recorded, where, when and how.
fn header(summary: &Summary) -> String {
    let meta = &summary.meta;
    let mut out = format!("lockwatt report: {}\n", target_words(summary));
    if !meta.target.cmdline.is_empty() {
        let _ = writeln!(out, "command: {}", escape::name(&meta.target.cmdline.join(" ")));
    }
    let start = jiff::Timestamp::from_nanosecond(i128::from(meta.start_realtime_ns))
        .ok()
        .filter(|_| meta.start_realtime_ns > 0)
        .map_or_else(String::new, |time| format!(" from {}", time.strftime("%F %T UTC")));
    let ended = summary
        .end
        .as_ref()
        .map_or_else(String::new, |end| format!(", ended by {}", escape::name(&end.reason)));
    let _ = writeln!(
        out,
        "recorded: {}{start}{ended}, {} hooks, threshold {}, kernel {}, {} CPUs",
        summary.duration,
        or_unknown(&meta.options.hooks),
        meta.options.min_wait,
        or_unknown(&meta.kernel),
        meta.cpus
    );
    out += &energy::head(summary);
    if let Some(because) = &meta.target.unnamed_because {
        let _ = writeln!(out, "locks have no names: {}", escape::name(because));
    }
    if let Some(because) = &meta.target.stackless_because {
        let _ = writeln!(out, "no Python stacks: {}", escape::name(because));
    }
    out
}

/// `python3.14t (pid 1), CPython 3.14.9 free-threaded`.
pub(super) fn target_words(summary: &Summary) -> String {
    let target = &summary.meta.target;
    let program = target.exe.rsplit('/').next().unwrap_or_default();
    let mut out = format!("{} (pid {})", or_unknown(program), target.pid.0);
    if let Some(version) = &target.python {
        let _ = write!(out, ", CPython {}", escape::name(version));
    }
    if target.free_threaded == Some(true) {
        out += " free-threaded";
    }
    out
}

pub(super) fn or_unknown(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { escape::name(text) }
}

/// A number with its thousands apart: `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 wait`, `2 waits`.
pub(crate) fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A share in percent: `41 %`, `0.3 %`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn percent(part: Ns, whole: Ns) -> String {
    if whole.0 == 0 {
        return "0 %".to_owned();
    }
    match 100.0 * part.0 as f64 / whole.0 as f64 {
        share if part.0 == 0 || share >= 9.95 => format!("{share:.0} %"),
        share if share < 0.05 => "<0.1 %".to_owned(),
        share => format!("{share:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(percent(Ns(41), Ns(100)), "41 %");
        assert_eq!(percent(Ns(1), Ns(300)), "0.3 %");
        assert_eq!(percent(Ns(1), Ns(1_000_000)), "<0.1 %");
        assert_eq!(percent(Ns(0), Ns(0)), "0 %");
    }
}
