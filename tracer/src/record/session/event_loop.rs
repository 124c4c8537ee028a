//! The recording's main loop: drain, write, watch for the end.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::turn::Turn;
use super::{Finished, Session, StopWhen};
use crate::record::intake::{Intake, Taken};
use crate::record::lookout::Lookout;
use crate::record::run_time::{RunTime, counted_anyway};
use crate::record::status::StatusLine;

/// The ring buffer is looked at this often even if nobody says that it fills up. Each look takes a
/// CPU from the target, in a storm from one that holds a lock: seldom is better.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// Counters and everything buffered go to the file this often: what `kill -9` can cost.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

impl Session {
    /// Records until something ends it, then closes the trace. `ready` is called once everything
    /// is in place.
    ///
    /// # Errors
    /// If the trace can't be written (what was written stays readable), or the runtime can't
    /// watch the target.
    pub fn run(mut self, stop: StopWhen, ready: impl FnOnce() -> Result<()>) -> Result<Finished> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop")?;
        let outcome = runtime.block_on(self.record(stop, ready));
        let outcome = match outcome {
            Ok(reason) => self.close(reason),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.salvage();
        }
        outcome
    }

    async fn record(
        &mut self,
        stop: StopWhen,
        ready: impl FnOnce() -> Result<()>,
    ) -> Result<&'static str> {
        let pidfd = i32::try_from(self.pid.0)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("no such PID")
            .and_then(|pid| {
                pidfd_open(pid, PidfdFlags::NONBLOCK).context("cannot watch the target")
            })
            .map_err(|error| crate::fault::Fault::NotTraceable(format!("{error:#}")))?;
        // SAFETY: an owned descriptor that stays open, and the same, as long as the AsyncFd.
        let exited = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        let ring = self.ring.take().context("the ring buffer is gone")?;
        // SAFETY: the ring buffer owns its map's descriptor and never changes it.
        let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut drain = interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flush = interval(FLUSH_EVERY);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let far = Duration::from_secs(100 * 365 * 86_400);
        let begun = Instant::now();
        let deadline = begun + stop.after.unwrap_or(far);
        let mut status = StatusLine::new(stop.quiet);
        let mut interrupts = 0;
        let mut first_ended = false;
        let mut more = false;
        ready()?;
        self.run_time_counted = self.statistics.is_some() || counted_anyway();
        self.run_time = RunTime::new(self.run_time_counted);
        let reason = loop {
            let run_time_at = self.run_time.next;
            let look_at = self.next_look();
            let looking = look_at.is_some();
            let look_at = look_at.unwrap_or(begun + far);
            // What ends the recording comes first, the ring last: in a storm that is always ready.
            tokio::select! {
                biased;
                _ = exited.readable(), if !first_ended => {
                    first_ended = true;
                    if !self.intake.processes.several {
                        break "target_exited";
                    }
                    more = self.drain(ring.get_mut())?; // its last words
                }
                () = sleep_until(deadline) => break "duration",
                () = received(&mut interrupt) => {
                    interrupts += 1;
                    if !stop.own_child || first_ended || interrupts > 1 {
                        break "interrupted";
                    }
                }
                () = received(&mut terminate) => break "terminated",
                _ = flush.tick() => self.flush()?,
                () = sleep_until(look_at), if looking => self.look_where_due()?,
                () = sleep_until(run_time_at.unwrap_or(begun + far)), if run_time_at.is_some() => {
                    self.run_time.turn(self.loaded.as_ref());
                }
                _ = drain.tick() => {
                    more = self.drain(ring.get_mut())?;
                    self.refresh_spin_codes();
                    if self.intake.threads.many_ended() {
                        self.remove_gone();
                    }
                }
                // Pending at first, and so signals and timers are looked at in between.
                () = yield_now(), if more => more = self.drain(ring.get_mut())?,
                guard = ring.readable_mut(), if !more => {
                    let mut guard = guard?;
                    let outcome = self.drain(guard.get_inner_mut());
                    guard.clear_ready();
                    more = outcome?;
                }
            }
            if first_ended && !more && self.is_over() {
                break "target_exited";
            }
            if first_ended && stop.own_child && !self.command_ended {
                self.command_ended = true;
                if !stop.quiet {
                    status.clear();
                    eprintln!(
                        "lockwatt: the command has ended; processes that it forked live on, and are \
                         recorded until they end (Ctrl-C ends the recording)"
                    );
                }
            }
            if status.is_due() {
                let drops: u64 = self.maps.drops().values().sum();
                status.update(begun.elapsed(), &self.intake.live, drops);
            }
        };
        status.clear();
        self.ring = Some(ring.into_inner());
        Ok(reason)
    }

    /// Takes in what the ring holds, for a [`Turn`] at most; true if there may be more.
    pub(super) fn drain(&mut self, ring: &mut RingBuf<MapData>) -> Result<bool> {
        let mut turn = Turn::begin();
        let more = loop {
            if turn.is_over() {
                break true;
            }
            let Some(record) = ring.next() else { break false };
            if Intake::is_exec(&record) && !self.intake.processes.several {
                self.intake.keep_sums(&mut self.maps)?;
            }
            match self.intake.take(&record, &self.maps)? {
                Taken::Recorded | Taken::Ended => {}
                Taken::Born(place) => self.searching.push(place),
                Taken::Exec(place) => self.forget_interpreter(place)?,
            }
        };
        if self.intake.processes.several {
            self.intake.give_numbers(&mut self.maps);
        }
        Ok(more)
    }

    /// Nothing that is recorded lives on, nor anything that may soon be recorded.
    fn is_over(&self) -> bool {
        !self.intake.processes.iter().any(|(_, traced)| {
            traced.lives()
                && (traced.record.recorded || traced.lookout.is_some_and(Lookout::is_new))
        })
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await; // no more signals will come
    }
}
