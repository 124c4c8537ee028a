//! The live line while recording: elapsed, waits per second, contended share, drops.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::intake::Live;

/// On a terminal the line is rewritten this often; elsewhere it would only fill a log.
const REDRAW: Duration = Duration::from_millis(500);

/// Draws on standard error, and only on a terminal.
#[derive(Debug)]
pub(super) struct StatusLine {
    enabled: bool,
    drawn: bool,
    last: Instant,
    last_waits: u64,
}

impl StatusLine {
    pub(super) fn new(quiet: bool) -> Self {
        let enabled = !quiet && std::io::stderr().is_terminal();
        Self { enabled, drawn: false, last: Instant::now(), last_waits: 0 }
    }

    /// True if it is time to redraw.
    pub(super) fn is_due(&self) -> bool {
        self.enabled && self.last.elapsed() >= REDRAW
    }

    /// Redraws.
    pub(super) fn update(&mut self, elapsed: Duration, live: &Live, drops: u64) {
        let since = self.last.elapsed();
        let line = line(elapsed, since, live, self.last_waits, drops);
        // A terminal that is gone is no reason to stop recording.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        self.drawn = true;
        self.last = Instant::now();
        self.last_waits = live.waits;
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn line(elapsed: Duration, since: Duration, live: &Live, before: u64, drops: u64) -> String {
    let rate = (live.waits - before) as f64 / since.as_secs_f64().max(1e-3);
    let share = if live.wait.0 == 0 {
        "no waits yet".to_owned()
    } else {
        let percent = 100.0 * live.contention.0 as f64 / live.wait.0 as f64;
        format!("{percent:.0} % of {} waited is contention", live.wait)
    };
    let drops = if drops == 0 { String::new() } else { format!("  {drops} LOST") };
    format!("{:6.1} s  {rate:.0} waits/s  {share}{drops}  (Ctrl-C ends)", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Ns;

    #[test]
    fn the_line_says_rate_share_and_losses() {
        let live = Live { waits: 600, wait: Ns(2_000_000_000), contention: Ns(500_000_000) };
        let second = Duration::from_secs(1);
        let text = line(second, second, &live, 100, 0);
        assert_eq!(
            text,
            "   1.0 s  500 waits/s  25 % of 2.00 s waited is contention  (Ctrl-C ends)"
        );
        assert!(line(second, second, &live, 100, 7).contains("7 LOST"));
        assert!(line(second, second, &Live::default(), 0, 0).contains("no waits yet"));
    }
}
