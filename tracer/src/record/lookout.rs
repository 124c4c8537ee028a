//! When to look for an interpreter in a process that has none yet.

use std::time::Duration;

use tokio::time::Instant;

/// A starting interpreter is looked for this often, at first and later.
const EVERY: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(200)];
/// How long "at first" is.
const EAGERLY: Duration = Duration::from_secs(3);

/// The look-out for one process's interpreter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookout {
    since: Instant,
    pub(super) next: Instant,
}

impl Lookout {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { since: now, next: now }
    }

    /// It was looked for in vain.
    pub(super) fn again(self) -> Self {
        let every = EVERY[usize::from(!self.is_new())];
        Self { next: Instant::now() + every, ..self }
    }

    /// As [`Self::again`], of one of many processes that may never become an interpreter: the older
    /// it is, the more seldom.
    pub(super) fn again_among_many(self) -> Self {
        let every = (self.since.elapsed() / 8).clamp(EVERY[0], EVERY[1]);
        Self { next: Instant::now() + every, ..self }
    }

    /// An interpreter may well be about to start.
    pub(super) fn is_new(self) -> bool {
        self.since.elapsed() < EAGERLY
    }
}
