//! A timer finer than the runtime's, which knows only milliseconds: the system's own, as a file.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// LIMIT: what is nearer than this is waited for with an eye on the clock; setting the timer and being
/// woken by it take about as long.
const NEAR: Duration = Duration::from_micros(10);

/// Wakes its task at a given time, to some microseconds.
#[derive(Debug)]
pub(super) struct Alarm {
    file: AsyncFd<OwnedFd>,
    set_for: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let file = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: an `OwnedFd` is open, and the `AsyncFd` owns it: nothing here takes it out or puts
        // another in its place.
        let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
        Ok(Self {
            file: registered.map_err(io::Error::from)?,
            set_for: None,
        })
    }

    /// Ready when it is `at`, and not before.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(Ok(()));
            }
            if left < NEAR {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.set_for != Some(at) {
                self.set(left)?;
                self.set_for = Some(at);
            }
            // Setting the timer anew forgets how often it went off: it need not be read.
            ready!(self.file.poll_read_ready(cx))?.clear_ready();
        }
    }

    fn set(&self, left: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.file.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Alarm;
    use crate::cli::bench::generator::runtime;

    #[test]
    fn an_alarm_goes_off_at_its_time_and_can_be_set_anew() {
        let started = Instant::now();
        runtime().unwrap().block_on(async {
            let mut alarm = Alarm::new().unwrap();
            // The second is set while the first is still to come.
            let far = started + Duration::from_secs(3600);
            let first = std::future::poll_fn(|cx| {
                assert!(alarm.poll(cx, far).is_pending());
                std::task::Poll::Ready(())
            });
            first.await;
            for us in [100, 5, 300] {
                let at = Instant::now() + Duration::from_micros(us);
                std::future::poll_fn(|cx| alarm.poll(cx, at)).await.unwrap();
                assert!(Instant::now() >= at);
            }
        });
        assert!(started.elapsed() < Duration::from_secs(3600));
    }
}
