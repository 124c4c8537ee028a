//! From what was asked for to a source that counts, or to none.

use std::path::Path;

use super::assumed::{Model, Replay};
use super::domain::divides;
use super::hwmon::{Files, HWMON, SUPPLIES};
use super::perf::Perf;
use super::powercap::Powercap;
use super::probe::probe;
use super::source::{Source, SourceError, Wanted, described};
use super::topology::online;

/// A source, or why there is none.
pub type Chosen = Result<Box<dyn Source>, String>;

/// The same with its name.
pub type Settled = Result<(Wanted, Box<dyn Source>), String>;

type Open = fn() -> Result<Box<dyn Source>, SourceError>;

/// The counters of a machine, in the order in which `auto` tries them.
const COUNTERS: [(&str, Open); 4] = [
    ("powercap", || Powercap::open(None).map(boxed)),
    ("perf", || Perf::open().map(boxed)),
    ("hwmon", hwmon),
    ("battery", || Files::battery(Path::new(SUPPLIES)).map(boxed)),
];

fn hwmon() -> Result<Box<dyn Source>, SourceError> {
    Files::hwmon(Path::new(HWMON), &online()).map(boxed)
}

/// Every counter of this machine, and what it is, or why `auto` doesn't take it. Takes a second for each
/// that is there.
pub fn survey() -> impl Iterator<Item = (&'static str, Result<String, SourceError>)> {
    COUNTERS
        .into_iter()
        .map(|(name, open)| (name, divided(name, open()).map(|source| described(&*source))))
}

/// A source that counts, and what it counts can be divided.
fn divided(
    name: &str,
    source: Result<Box<dyn Source>, SourceError>,
) -> Result<Box<dyn Source>, SourceError> {
    let source = counts(name, source)?;
    if divides(source.domains()) {
        return Ok(source);
    }
    let found: Vec<&str> = source.domains().iter().map(|domain| domain.name.as_str()).collect();
    let reason = format!(
        "it has {}, of the whole machine or of nobody knows what; --energy {name} shows that",
        found.join(", ")
    );
    Err(SourceError::Undivided { name: name.to_owned(), reason })
}

/// A source that counts.
fn counts(
    name: &str,
    source: Result<Box<dyn Source>, SourceError>,
) -> Result<Box<dyn Source>, SourceError> {
    let mut source = source?;
    match probe(&mut *source) {
        Ok(()) => Ok(source),
        Err(reason) => Err(SourceError::Dead { name: name.to_owned(), reason }),
    }
}

/// Finds the source. `Ok(Err(reason))`: time only, and why.
///
/// One that was asked for by name may be such that nothing of it can be divided: then that is shown, and
/// no more.
///
/// # Errors
/// A source that was asked for by name is absent, or does not count; or it reads no powercap tree, and one
/// was named.
pub fn choose(wanted: &Wanted, powercap_root: Option<&Path>) -> Result<Chosen, SourceError> {
    Ok(settle(wanted, powercap_root)?.map(|(_, source)| source))
}

/// The same, and by which name it is asked for again: `auto` might find another one then.
///
/// # Errors
/// As above.
pub fn settle(wanted: &Wanted, powercap_root: Option<&Path>) -> Result<Settled, SourceError> {
    if powercap_root.is_some() && !matches!(wanted, Wanted::Auto | Wanted::Powercap) {
        return Err(SourceError::NoTree);
    }
    let powercap = || Powercap::open(powercap_root).map(boxed);
    let named = match wanted {
        Wanted::None => return Ok(Err("not asked for (--energy none)".to_owned())),
        // Somebody who names a tree wants that one.
        Wanted::Auto if powercap_root.is_some() => return settle(&Wanted::Powercap, powercap_root),
        Wanted::Auto => {
            let mut reasons = Vec::new();
            for (name, open) in COUNTERS {
                match divided(name, open()) {
                    Ok(source) => return Ok(Ok((name.parse()?, source))),
                    Err(SourceError::Undivided { reason, .. }) => {
                        reasons.push(format!("{name} can't be divided over tasks ({reason})"));
                    }
                    Err(SourceError::Dead { reason, .. }) => {
                        reasons.push(format!("{name} does not count ({reason})"));
                    }
                    Err(_) => {}
                }
            }
            if reasons.is_empty() {
                reasons.push("this machine shows none".to_owned());
            }
            return Ok(Err(reasons.join("; ")));
        }
        Wanted::Powercap => counts("powercap", powercap()),
        Wanted::Perf => counts("perf", Perf::open().map(boxed)),
        Wanted::Hwmon => counts("hwmon", hwmon()),
        Wanted::Battery => counts("battery", Files::battery(Path::new(SUPPLIES)).map(boxed)),
        Wanted::Model(watts) => Ok(boxed(Model::new(*watts))),
        Wanted::Replay(path) => Replay::open(path).map(boxed),
    };
    named.map(|source| Ok((wanted.clone(), source)))
}

fn boxed<S: Source + 'static>(source: S) -> Box<dyn Source> {
    Box::new(source)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::energy::Quality;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let zone = tree.path().join("intel-rapl:0");
        fs::create_dir(&zone).unwrap();
        fs::write(zone.join("name"), "package-0\n").unwrap();
        fs::write(zone.join("energy_uj"), format!("{:020}\n", 1_000)).unwrap();
        tree
    }

    #[test]
    fn a_counter_that_stands_still_is_refused() {
        let tree = tree();
        for wanted in [Wanted::Powercap, Wanted::Auto] {
            let error = choose(&wanted, Some(tree.path())).err().expect("refused").to_string();
            assert!(error.contains("does not count: package-0 stayed at 1000 µJ"), "{error}");
        }
    }

    /// Runs something while a zone counts.
    fn while_it_counts<T>(tree: &Path, run: impl FnOnce() -> T) -> T {
        let counter = tree.join("intel-rapl:0/energy_uj");
        // Written at once each time, and never cut, so that no reader sees half of it.
        let file = fs::OpenOptions::new().write(true).open(&counter).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1u64.. {
                    let value = format!("{:020}\n", 1_000 + n * 50_000);
                    file.write_at(value.as_bytes(), 0).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let done = run();
            stop.store(true, Ordering::Relaxed);
            done
        })
    }

    #[test]
    fn one_that_counts_is_taken() {
        let tree = tree();
        let chosen = while_it_counts(tree.path(), || settle(&Wanted::Auto, Some(tree.path())));
        let (name, source) = chosen.unwrap().unwrap();
        assert_eq!((name, source.quality()), (Wanted::Powercap, Quality::Simulated));
    }

    /// Named, it is shown; by itself it is not taken, and what it has is said.
    #[test]
    fn psys_alone_is_not_divided() {
        let tree = tree();
        fs::write(tree.path().join("intel-rapl:0/name"), "psys\n").unwrap();
        let (named, by_itself) = while_it_counts(tree.path(), || {
            let named = choose(&Wanted::Powercap, Some(tree.path()));
            (named, divided("powercap", Powercap::open(Some(tree.path())).map(boxed)))
        });
        let named = named.unwrap().unwrap();
        assert!(named.domains().len() == 1 && !divides(named.domains()));
        let words = by_itself.err().unwrap().to_string();
        assert!(words.contains("divided over tasks: it has psys, of the whole machine"), "{words}");
    }

    #[test]
    fn a_tree_is_for_powercap() {
        for wanted in [Wanted::Perf, Wanted::Hwmon, Wanted::Model(1.0), Wanted::None] {
            let error = choose(&wanted, Some(Path::new("/nowhere"))).err();
            assert!(matches!(error, Some(SourceError::NoTree)), "{wanted:?}");
        }
    }

    #[test]
    fn none_is_none() {
        assert!(choose(&Wanted::None, None).unwrap().is_err());
        let model = choose(&Wanted::Model(3.0), None).unwrap().unwrap();
        assert_eq!(model.quality(), Quality::Estimated);
    }
}
